//! The members of the mesh as that world has them, over gRPC.

use super::*;

/// The members, each over the same world.
#[derive(Clone)]
pub(crate) struct Members(pub(crate) Arc<World>);

fn check(down: &AtomicBool) -> Result<(), Status> {
    if down.load(Ordering::SeqCst) { Err(Status::unavailable("switched off by the test")) } else { Ok(()) }
}

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the recommendation service never asks this"))
}

#[tonic::async_trait]
impl IngestionService for Members {
    type StreamSliHistoryStream = BoxStream<'static, Result<ingestion::StreamSliHistoryResponse, Status>>;
    type StreamRegionalHistoryStream = BoxStream<'static, Result<ingestion::StreamRegionalHistoryResponse, Status>>;
    type StreamChangesStream = BoxStream<'static, Result<ingestion::StreamChangesResponse, Status>>;

    async fn get_service(
        &self,
        request: Request<ingestion::GetServiceRequest>,
    ) -> Result<Response<ingestion::GetServiceResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let id = request.into_inner().service_id;
        let service = self.0.entities.lock().unwrap().get(&id).cloned();
        let service = service.ok_or_else(|| Status::not_found(format!("there is no service `{id}`")))?;
        let summary = |ages: &Vec<(i64, f64)>| ingestion::UtilisationSummary {
            kind: UtilisationKind::MessageAge as i32,
            bucket_count: ages.len() as u32,
            ..Default::default()
        };
        let utilisation = self.0.ages.lock().unwrap().get(&id).map(summary).into_iter().collect();
        let data = Some(ingestion::DataHealth { utilisation, ..Default::default() });
        Ok(Response::new(ingestion::GetServiceResponse { service: Some(service), data }))
    }

    async fn get_change_heads(
        &self,
        request: Request<ingestion::GetChangeHeadsRequest>,
    ) -> Result<Response<ingestion::GetChangeHeadsResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let tenant = CallContext::read(request.metadata(), PATIENCE)?.tenant;
        let service_ids = request.into_inner().service_ids;
        if service_ids.len() > 1 {
            let before = self.0.before_heads.lock().unwrap().take();
            if let Some(before) = before {
                before(&self.0);
            }
            self.0.heads_asked.lock().unwrap().push(service_ids.clone());
        }
        let known = self.0.heads.lock().unwrap();
        let heads = service_ids.into_iter().filter_map(|service_id| {
            let [topology_sequence, sli_sequence, incident_sequence] =
                *known.get(&(tenant.to_string(), service_id.clone()))?;
            Some(ingestion::ChangeHead { service_id, topology_sequence, sli_sequence, incident_sequence })
        });
        let newest_sequence = *self.0.sequence.borrow();
        Ok(Response::new(ingestion::GetChangeHeadsResponse { heads: heads.collect(), newest_sequence }))
    }

    async fn stream_sli_history(
        &self,
        request: Request<ingestion::StreamSliHistoryRequest>,
    ) -> Result<Response<Self::StreamSliHistoryStream>, Status> {
        check(&self.0.ingestion_down)?;
        let request = request.into_inner();
        if request.without_latency {
            self.0.histories_read.lock().unwrap().extend(request.service_ids.iter().cloned());
        } else {
            self.0.computations.fetch_add(1, Ordering::SeqCst);
        }
        if request.service_ids == ["checkout"] {
            drop(self.0.checkout_held.lock().await);
        }
        let range = request.range.unwrap();
        let (start, end) = (unix_millis(&range.start_time.unwrap()), unix_millis(&range.end_time.unwrap()));
        let histories = self.0.histories.lock().unwrap();
        let mut chunks = Vec::new();
        let tells_tails = self.0.tells_tails.load(Ordering::SeqCst);
        for service_id in request.service_ids {
            let Some(buckets) = histories.get(&service_id) else { continue };
            let held = request.held.iter().find(|held| held.service_id == service_id).filter(|_| tells_tails);
            let until = held.map(|held| self.0.unchanged_before(held)).filter(|until| *until > start);
            if let Some(until) = until {
                chunks.push(Ok(ingestion::StreamSliHistoryResponse {
                    service_id: service_id.clone(),
                    held_until_time: Some(timestamp(until)),
                    ..Default::default()
                }));
            }
            let start = until.unwrap_or(start);
            let tells_latency = buckets.iter().any(|bucket| bucket.latency.is_some());
            let inside = |bucket: &&SliBucket| (start..end).contains(&unix_millis(bucket.start_time.as_ref().unwrap()));
            let bucket = |bucket: &SliBucket| SliBucket {
                latency: bucket.latency.clone().filter(|_| !request.without_latency),
                ..bucket.clone()
            };
            let buckets: Vec<SliBucket> = buckets.iter().filter(inside).map(bucket).collect();
            let buckets: Vec<attain_vocabulary::SliBucket> =
                buckets.iter().map(|bucket| bucket.try_into().unwrap()).collect();
            if until.is_some() {
                self.0.tails.lock().unwrap().push((service_id.clone(), buckets.len()));
            }
            chunks.extend(buckets.chunks(2_000).map(|buckets| {
                Ok(ingestion::StreamSliHistoryResponse {
                    service_id: service_id.clone(),
                    buckets: Some(attain_proto::columns::columns(buckets.iter())),
                    sources: vec![Source::Traces as i32],
                    days: Vec::new(),
                    tells_latency: tells_tails.then_some(tells_latency),
                    held_until_time: None,
                })
            }));
        }
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn stream_regional_history(
        &self,
        request: Request<ingestion::StreamRegionalHistoryRequest>,
    ) -> Result<Response<Self::StreamRegionalHistoryStream>, Status> {
        check(&self.0.ingestion_down)?;
        check(&self.0.regions_down)?;
        let tenant = CallContext::read(request.metadata(), PATIENCE)?.tenant.to_string();
        let asked = request.into_inner().service_ids;
        let regional = self.0.regional.lock().unwrap();
        let of = regional.iter().filter(|((of, service, _), _)| *of == tenant && asked.contains(service));
        let chunks: Vec<_> = of
            .map(|((_, service_id, region), buckets)| {
                let buckets: Vec<attain_vocabulary::SliBucket> =
                    buckets.iter().map(|bucket| bucket.try_into().unwrap()).collect();
                Ok(ingestion::StreamRegionalHistoryResponse {
                    service_id: service_id.clone(),
                    region: region.clone(),
                    buckets: Some(attain_proto::columns::columns(buckets.iter())),
                    sources: vec![Source::OtlpMetrics as i32],
                })
            })
            .collect();
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn list_request_samples(
        &self,
        _: Request<ingestion::ListRequestSamplesRequest>,
    ) -> Result<Response<ingestion::ListRequestSamplesResponse>, Status> {
        not_asked()
    }

    async fn list_exemplars(
        &self,
        _: Request<ingestion::ListExemplarsRequest>,
    ) -> Result<Response<ingestion::ListExemplarsResponse>, Status> {
        not_asked()
    }

    async fn ingest_utilisation(
        &self,
        _: Request<ingestion::IngestUtilisationRequest>,
    ) -> Result<Response<ingestion::IngestUtilisationResponse>, Status> {
        not_asked()
    }

    async fn list_utilisation(
        &self,
        request: Request<ingestion::ListUtilisationRequest>,
    ) -> Result<Response<ingestion::ListUtilisationResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let request = request.into_inner();
        assert_eq!(request.kind(), UtilisationKind::MessageAge);
        let start_ms = match request.page_token.as_str() {
            "" => unix_millis(&request.start_time.unwrap()),
            token => token.parse().unwrap(),
        };
        let end_ms = unix_millis(&request.end_time.unwrap());
        let ages = self.0.ages.lock().unwrap();
        let mut inside: Vec<(i64, f64)> = ages.get(&request.service_id).cloned().unwrap_or_default();
        inside.retain(|(start, _)| (start_ms..end_ms).contains(start));
        let next_page_token = inside.get(request.page_size as usize).map(|(start, _)| start.to_string());
        inside.truncate(request.page_size as usize);
        let bucket = |(start_ms, seconds): (i64, f64)| ingestion::UtilisationBucket {
            start_time: Some(timestamp(start_ms)),
            kind: UtilisationKind::MessageAge as i32,
            average: seconds,
            maximum: seconds,
            ..Default::default()
        };
        Ok(Response::new(ingestion::ListUtilisationResponse {
            buckets: inside.into_iter().map(bucket).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            ..Default::default()
        }))
    }

    async fn import_document(
        &self,
        _: Request<ingestion::ImportDocumentRequest>,
    ) -> Result<Response<ingestion::ImportDocumentResponse>, Status> {
        not_asked()
    }

    async fn decide_incident_exclusion(
        &self,
        _: Request<ingestion::DecideIncidentExclusionRequest>,
    ) -> Result<Response<ingestion::DecideIncidentExclusionResponse>, Status> {
        not_asked()
    }

    async fn put_incident_services(
        &self,
        _: Request<ingestion::PutIncidentServicesRequest>,
    ) -> Result<Response<ingestion::PutIncidentServicesResponse>, Status> {
        not_asked()
    }

    async fn put_maintenance_window(
        &self,
        _: Request<ingestion::PutMaintenanceWindowRequest>,
    ) -> Result<Response<ingestion::PutMaintenanceWindowResponse>, Status> {
        not_asked()
    }

    async fn end_maintenance_window(
        &self,
        _: Request<ingestion::EndMaintenanceWindowRequest>,
    ) -> Result<Response<ingestion::EndMaintenanceWindowResponse>, Status> {
        not_asked()
    }

    async fn delete_maintenance_window(
        &self,
        _: Request<ingestion::DeleteMaintenanceWindowRequest>,
    ) -> Result<Response<ingestion::DeleteMaintenanceWindowResponse>, Status> {
        not_asked()
    }

    async fn get_catalogue_status(
        &self,
        _: Request<ingestion::GetCatalogueStatusRequest>,
    ) -> Result<Response<ingestion::GetCatalogueStatusResponse>, Status> {
        not_asked()
    }

    async fn list_operations(
        &self,
        _: Request<ingestion::ListOperationsRequest>,
    ) -> Result<Response<ingestion::ListOperationsResponse>, Status> {
        not_asked()
    }

    async fn list_incidents(
        &self,
        request: Request<ingestion::ListIncidentsRequest>,
    ) -> Result<Response<ingestion::ListIncidentsResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let id = request.into_inner().service_id;
        let all = self.0.incidents.lock().unwrap();
        let incidents = all
            .iter()
            .filter(|i| id.is_empty() || i.service_ids.contains(&id) || i.cause_service_id == id)
            .cloned()
            .collect();
        Ok(Response::new(ingestion::ListIncidentsResponse { incidents, next_page_token: String::new() }))
    }

    async fn ingest_dependencies(
        &self,
        _: Request<ingestion::IngestDependenciesRequest>,
    ) -> Result<Response<ingestion::IngestDependenciesResponse>, Status> {
        not_asked()
    }

    async fn ingest_sli_buckets(
        &self,
        _: Request<ingestion::IngestSliBucketsRequest>,
    ) -> Result<Response<ingestion::IngestSliBucketsResponse>, Status> {
        not_asked()
    }

    async fn ingest_incidents(
        &self,
        _: Request<ingestion::IngestIncidentsRequest>,
    ) -> Result<Response<ingestion::IngestIncidentsResponse>, Status> {
        not_asked()
    }

    async fn list_services(
        &self,
        _: Request<ingestion::ListServicesRequest>,
    ) -> Result<Response<ingestion::ListServicesResponse>, Status> {
        not_asked()
    }

    async fn list_sli_buckets(
        &self,
        _: Request<ingestion::ListSliBucketsRequest>,
    ) -> Result<Response<ingestion::ListSliBucketsResponse>, Status> {
        not_asked()
    }

    async fn get_topology(
        &self,
        _: Request<ingestion::GetTopologyRequest>,
    ) -> Result<Response<ingestion::GetTopologyResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let entities: Vec<Entity> = self.0.entities.lock().unwrap().values().cloned().collect();
        let dependencies = self.0.dependencies.lock().unwrap().clone();
        Ok(Response::new(ingestion::GetTopologyResponse {
            version: self.0.topology_version(),
            entities: entities.into(),
            dependencies: dependencies.into(),
            ..Default::default()
        }))
    }

    async fn stream_changes(
        &self,
        request: Request<ingestion::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        check(&self.0.ingestion_down)?;
        if !self.0.streaming.load(Ordering::SeqCst) {
            return Err(Status::unavailable("no changes are streamed in this test"));
        }
        let after = request.into_inner().after_sequence;
        self.0.streams.lock().unwrap().push(after);
        Ok(Response::new(follow(Arc::clone(&self.0), after).boxed()))
    }
}

/// The log after a number and then what comes, until the streams are cut.
fn follow(
    world: Arc<World>,
    after: u64,
) -> impl stream::Stream<Item = Result<ingestion::StreamChangesResponse, Status>> + Send {
    let (mut newest, mut cuts) = (world.sequence.subscribe(), world.cuts.subscribe());
    cuts.borrow_and_update();
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut after = after;
        loop {
            if after > *newest.borrow_and_update() {
                let ahead = Status::out_of_range("another database than before");
                let _ = sender.send(Err(ahead)).await;
                return;
            }
            for change in world.log(after) {
                after = change.sequence;
                if sender.send(Ok(change)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = newest.changed() => {}
                _ = cuts.changed() => return,
                () = sender.closed() => return,
            }
        }
    });
    ReceiverStream::new(receiver)
}

#[tonic::async_trait]
impl GraphService for Members {
    async fn get_dependencies(
        &self,
        request: Request<graph::GetDependenciesRequest>,
    ) -> Result<Response<graph::GetDependenciesResponse>, Status> {
        check(&self.0.graph_down)?;
        let request = request.into_inner();
        let entities = self.0.entities.lock().unwrap();
        if !entities.contains_key(&request.service_id) {
            return Err(Status::not_found("unknown"));
        }
        let direction = request.direction();
        let (version, dependencies) = self.0.held();
        let distances = self.0.walk(&dependencies, &request.service_id, direction == graph::Direction::Upstream);
        let mut reached: Vec<(u32, &String)> = distances.iter().map(|(id, distance)| (*distance, id)).collect();
        reached.sort();
        let entities = reached.iter().map(|(distance, id)| graph::ReachedEntity {
            entity: entities.get(*id).cloned(),
            distance: *distance,
            direction: direction as i32,
        });
        let between =
            |edge: &&Dependency| distances.contains_key(&edge.caller_id) && distances.contains_key(&edge.callee_id);
        Ok(Response::new(graph::GetDependenciesResponse {
            entities: entities.collect(),
            dependencies: dependencies.iter().filter(between).cloned().collect(),
            snapshot: Some(snapshot(version)),
            ..graph::GetDependenciesResponse::default()
        }))
    }

    async fn evaluate_availability(
        &self,
        request: Request<graph::EvaluateAvailabilityRequest>,
    ) -> Result<Response<graph::EvaluateAvailabilityResponse>, Status> {
        check(&self.0.graph_down)?;
        let request = request.into_inner();
        self.0.evaluations.fetch_add(u64::from(request.confidence_min > 0.0), Ordering::SeqCst);
        let (version, dependencies) = self.0.held();
        let before = State::new(&dependencies, &request.rates);
        let entities: Vec<Entity> = self.0.entities.lock().unwrap().values().cloned().collect();
        let (after, touched) = before.after(&request.changes, &entities);
        let mut assumed = BTreeSet::new();
        let kept = self.0.evaluates_at_most.load(Ordering::SeqCst).min(request.service_ids.len());
        let left_out = request.service_ids[kept..].to_vec();
        let services = request.service_ids[..kept].iter().map(|service_id| {
            assumed.extend(before.reached(service_id).into_iter().filter(|id| !before.rated(id) && !after.rated(id)));
            graph::ServiceAvailability {
                service_id: service_id.clone(),
                before: Some(before.availability(service_id)),
                after: (!request.changes.is_empty()).then(|| after.availability(service_id)),
                path: before.path(service_id, &touched),
                ..graph::ServiceAvailability::default()
            }
        });
        let services = services.collect();
        Ok(Response::new(graph::EvaluateAvailabilityResponse {
            services,
            assumed_perfect_ids: assumed.into_iter().collect(),
            snapshot: Some(snapshot(version)),
            unevaluated_ids: left_out,
        }))
    }

    /// Services that were measured as a whole take 120 ms, others 80. What is added to a component is added to everybody above
    /// it, or a part of that; of the young service nobody knows.
    async fn evaluate_latency(
        &self,
        request: Request<graph::EvaluateLatencyRequest>,
    ) -> Result<Response<graph::EvaluateLatencyResponse>, Status> {
        check(&self.0.graph_down)?;
        check(&self.0.latencies_down)?;
        let request = request.into_inner();
        let (_, dependencies) = self.0.held();
        let mut added = BTreeMap::new();
        for change in &request.changes {
            if let Some(Change::Latency(latency)) = &change.change
                && let Some(By::AddedMs(added_ms)) = latency.change
            {
                added.insert(latency.entity_id.clone(), added_ms);
            }
        }
        let touched: BTreeSet<String> = added.keys().cloned().collect();
        let state = State::new(&dependencies, &[]);
        let (mut services, mut unknown_ids) = (Vec::new(), Vec::new());
        for service_id in request.service_ids {
            let path = state.path(&service_id, &touched);
            let Some(added_ms) = path.last().and_then(|changed| added.get(changed)) else { continue };
            if service_id == "young" {
                unknown_ids.push(service_id);
                continue;
            }
            let measured = request.measured.iter().find(|measured| measured.service_id == service_id);
            let before_ms = if measured.is_some() { 120.0 } else { 80.0 };
            let quantile = |quantile| graph::LatencyQuantile {
                quantile,
                before_ms,
                after_low_ms: before_ms + added_ms.min(0.0),
                after_high_ms: before_ms + added_ms.max(0.0),
                ..graph::LatencyQuantile::default()
            };
            let threshold = request.thresholds.iter().find(|threshold| threshold.service_id == service_id);
            let slow = |ms: f64| threshold.map(|threshold| if ms > threshold.threshold_ms { 0.2 } else { 0.001 });
            services.push(graph::ServiceLatency {
                slow_before_ratio: slow(before_ms),
                slow_after_low_ratio: slow(before_ms + added_ms.min(0.0)),
                slow_after_high_ratio: slow(before_ms + added_ms.max(0.0)),
                quantiles: [0.5, 0.9, 0.95, 0.99].map(quantile).to_vec(),
                path,
                service_id,
                ..graph::ServiceLatency::default()
            });
        }
        Ok(Response::new(graph::EvaluateLatencyResponse {
            services,
            unknown_ids,
            without_samples_count: if touched.is_empty() { 0 } else { 2 },
            ..graph::EvaluateLatencyResponse::default()
        }))
    }

    async fn get_topology_changes(
        &self,
        _: Request<graph::GetTopologyChangesRequest>,
    ) -> Result<Response<graph::GetTopologyChangesResponse>, Status> {
        not_asked()
    }

    /// Nobody may promise more than a service that it calls directly.
    async fn solve_targets(
        &self,
        request: Request<graph::SolveTargetsRequest>,
    ) -> Result<Response<graph::SolveTargetsResponse>, Status> {
        check(&self.0.graph_down)?;
        check(&self.0.targets_down)?;
        let request = request.into_inner();
        let [service_id] = &request.scope_ids[..] else { return not_asked() };
        let budget = |id: &String| {
            let promised = request.targets.iter().find(|target| target.service_id == *id);
            promised.map(|target| 1.0 - target.target_ratio)
        };
        let own = budget(service_id).ok_or_else(|| Status::invalid_argument("the service in scope has no target"))?;
        let (_, dependencies) = self.0.held();
        let mut contradictions = Vec::new();
        for edge in dependencies.iter().filter(|edge| edge.caller_id == *service_id) {
            if let Some(needed_ratio) = budget(&edge.callee_id).filter(|needed| *needed > own * (1.0 + 1e-9)) {
                contradictions.push(graph::Contradiction {
                    service_id: service_id.clone(),
                    callee_id: edge.callee_id.clone(),
                    budget_ratio: own,
                    needed_ratio,
                    chain: vec![service_id.clone(), edge.callee_id.clone()],
                });
            }
        }
        let needed = contradictions.iter().map(|found| found.needed_ratio).fold(own, f64::max);
        let on_menu = request.menu_ratios.iter().copied().filter(|target| 1.0 - target >= needed * (1.0 - 1e-9));
        let target = graph::SolvedTarget {
            service_id: service_id.clone(),
            target_ratio: on_menu.fold(0.0, f64::max),
            ..graph::SolvedTarget::default()
        };
        Ok(Response::new(graph::SolveTargetsResponse {
            contradictions,
            targets: vec![target],
            ..graph::SolveTargetsResponse::default()
        }))
    }

    async fn analyze_latency(
        &self,
        request: Request<graph::AnalyzeLatencyRequest>,
    ) -> Result<Response<graph::AnalyzeLatencyResponse>, Status> {
        check(&self.0.graph_down)?;
        let request = request.into_inner();
        if !request.sampled_only {
            return not_asked();
        }
        let waited_for = self.0.waited_for.lock().unwrap().get(&request.service_id).cloned();
        let sampled = waited_for.map(|callee_id| sampled(&request, &callee_id));
        Ok(Response::new(graph::AnalyzeLatencyResponse { sampled, ..graph::AnalyzeLatencyResponse::default() }))
    }

    async fn analyze_service(
        &self,
        _: Request<graph::AnalyzeServiceRequest>,
    ) -> Result<Response<graph::AnalyzeServiceResponse>, Status> {
        not_asked()
    }

    async fn get_snapshot(
        &self,
        request: Request<graph::GetSnapshotRequest>,
    ) -> Result<Response<graph::GetSnapshotResponse>, Status> {
        check(&self.0.graph_down)?;
        self.0.waits.lock().unwrap().push(request.into_inner().version_min);
        if self.0.thaws.load(Ordering::SeqCst) {
            self.0.thaw_graph();
        }
        Ok(Response::new(graph::GetSnapshotResponse { snapshot: Some(snapshot(self.0.held().0)), cycles: Vec::new() }))
    }
}

fn snapshot(version: u64) -> graph::SnapshotInfo {
    let age = Some(attain_proto::convert::duration(1_234));
    graph::SnapshotInfo { version, age, entity_count: 11, dependency_count: 8 }
}

/// The first passage that bears on the question, said as it stands.
#[tonic::async_trait]
impl AnswerService for Members {
    async fn answer_question(
        &self,
        request: Request<rag::AnswerQuestionRequest>,
    ) -> Result<Response<rag::AnswerQuestionResponse>, Status> {
        check(&self.0.knowledge_down)?;
        let question = request.into_inner().question;
        let words: BTreeSet<&str> = question.split(|c: char| !c.is_alphanumeric()).collect();
        let about = |passage: &&rag::Citation| passage.title.to_lowercase().split(' ').any(|word| words.contains(word));
        let passages = self.0.passages.lock().unwrap();
        let sentence = passages.iter().find(about).map(|passage| rag::AnswerSentence {
            text: passage.quote.clone(),
            citations: vec![rag::SentenceCitation {
                document_id: passage.document_id.clone(),
                document_version: passage.document_version,
                start_offset: passage.start_offset,
                end_offset: passage.end_offset,
                quote: passage.quote.clone(),
                ..Default::default()
            }],
            ..Default::default()
        });
        Ok(Response::new(rag::AnswerQuestionResponse {
            sentences: sentence.into_iter().collect(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl KnowledgeService for Members {
    async fn search_knowledge(
        &self,
        request: Request<rag::SearchKnowledgeRequest>,
    ) -> Result<Response<rag::SearchKnowledgeResponse>, Status> {
        check(&self.0.knowledge_down)?;
        if self.0.knowledge_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let refusal = *self.0.knowledge_refuses.lock().unwrap();
        if let Some(code) = refusal {
            return Err(Status::new(code, "refused by the test"));
        }
        let request = request.into_inner();
        assert!((1..=4).contains(&request.tier), "every service has a tier");
        assert!((1..=2000).contains(&request.query.chars().count()));
        let words: BTreeSet<&str> = request.query.split(|c: char| !c.is_alphanumeric()).collect();
        let about = |passage: &&rag::Citation| passage.title.to_lowercase().split(' ').any(|word| words.contains(word));
        let citations: Vec<rag::Citation> = self.0.passages.lock().unwrap().iter().filter(about).cloned().collect();
        self.0.questions.lock().unwrap().push(request.query.clone());
        Ok(Response::new(rag::SearchKnowledgeResponse {
            abstained: citations.is_empty(),
            citations,
            confidence: 0.8,
            threshold: 0.5,
            nearest_titles: Vec::new(),
            mode: rag::RetrievalMode::Hybrid as i32,
            embedding_model: "words".into(),
            strength: rag::EvidenceStrength::Answered as i32,
            strong_threshold: 0.7,
            ..Default::default()
        }))
    }

    async fn put_documents(
        &self,
        request: Request<rag::PutDocumentsRequest>,
    ) -> Result<Response<rag::PutDocumentsResponse>, Status> {
        check(&self.0.knowledge_down)?;
        let documents = request.into_inner().documents;
        let mut kept = self.0.documents.lock().unwrap();
        kept.extend(documents.iter().map(|document| (document.id.clone(), document.clone())));
        Ok(Response::new(rag::PutDocumentsResponse { documents, rejected: Vec::new() }))
    }

    async fn list_documents(
        &self,
        request: Request<rag::ListDocumentsRequest>,
    ) -> Result<Response<rag::ListDocumentsResponse>, Status> {
        check(&self.0.knowledge_down)?;
        let prefix = request.into_inner().id_prefix;
        let kept = self.0.documents.lock().unwrap();
        let documents = kept.values().filter(|document| document.id.starts_with(&prefix)).cloned().collect();
        Ok(Response::new(rag::ListDocumentsResponse { documents, next_page_token: String::new() }))
    }

    async fn get_document(
        &self,
        _: Request<rag::GetDocumentRequest>,
    ) -> Result<Response<rag::GetDocumentResponse>, Status> {
        not_asked()
    }

    async fn reconcile_index(
        &self,
        _: Request<rag::ReconcileIndexRequest>,
    ) -> Result<Response<rag::ReconcileIndexResponse>, Status> {
        not_asked()
    }

    async fn rate_citation(
        &self,
        _: Request<rag::RateCitationRequest>,
    ) -> Result<Response<rag::RateCitationResponse>, Status> {
        not_asked()
    }

    async fn list_citation_ratings(
        &self,
        _: Request<rag::ListCitationRatingsRequest>,
    ) -> Result<Response<rag::ListCitationRatingsResponse>, Status> {
        not_asked()
    }

    async fn delete_document(
        &self,
        request: Request<rag::DeleteDocumentRequest>,
    ) -> Result<Response<rag::DeleteDocumentResponse>, Status> {
        check(&self.0.knowledge_down)?;
        self.0.documents.lock().unwrap().remove(&request.into_inner().document_id);
        Ok(Response::new(rag::DeleteDocumentResponse::default()))
    }
}
