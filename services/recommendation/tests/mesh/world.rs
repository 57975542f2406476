//! A small system with thirty days of seeded history, and the members that tell of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::graph_service_server::GraphService;
use attain_proto::ingestion::v1 as ingestion;
use attain_proto::ingestion::v1::ingestion_service_server::IngestionService;
use attain_proto::rag::v1 as rag;
use attain_proto::rag::v1::knowledge_service_server::KnowledgeService;
use attain_proto::vocabulary::v1::{Dependency, DependencyMode, Entity, EntityKind, SliBucket, Source, Tier};
use attain_vocabulary::{BUCKET_MS, LatencyHistogram};
use futures::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::structure::State;

/// Now, for the held clock: some way into a bucket.
pub(crate) const NOW_MS: i64 = 1_793_000_100_000 + 120_000;
const DAYS: i64 = 30;
const REQUESTS: u64 = 2_000;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) entities: Mutex<BTreeMap<String, Entity>>,
    pub(crate) dependencies: Mutex<Vec<Dependency>>,
    pub(crate) histories: Mutex<BTreeMap<String, Vec<SliBucket>>>,
    pub(crate) incidents: Mutex<Vec<ingestion::Incident>>,
    pub(crate) heads: Mutex<BTreeMap<String, (u64, u64, u64)>>,
    pub(crate) passages: Mutex<Vec<rag::Citation>>,
    pub(crate) questions: Mutex<Vec<String>>,
    pub(crate) ingestion_down: AtomicBool,
    pub(crate) graph_down: AtomicBool,
    pub(crate) knowledge_down: AtomicBool,
    /// Histories with latency that were asked for: one a computation.
    pub(crate) computations: AtomicU64,
}

/// What a component does of its own.
pub(crate) struct Behaviour {
    /// Share of requests that fail at any time.
    pub(crate) chronic: f64,
    /// Every so many days an hour in which a quarter fails; 0 for never.
    pub(crate) outage_days: i64,
}

impl World {
    /// The shop: gateway → checkout → {payment → provider, inventory}, gateway → auth → user-db; and a → b → d.
    pub(crate) fn shop() -> Arc<Self> {
        let world = Self::default();
        for (id, kind, tier) in [
            ("gateway", EntityKind::Service, Tier::Tier1),
            ("auth", EntityKind::Service, Tier::Tier1),
            ("user-db", EntityKind::Datastore, Tier::Tier1),
            ("checkout", EntityKind::Service, Tier::Tier2),
            ("payment", EntityKind::Service, Tier::Tier2),
            ("inventory", EntityKind::Service, Tier::Tier2),
            ("provider", EntityKind::External, Tier::Tier2),
            ("a", EntityKind::Service, Tier::Tier2),
            ("b", EntityKind::Service, Tier::Tier2),
            ("d", EntityKind::Service, Tier::Tier2),
            ("young", EntityKind::Service, Tier::Tier3),
        ] {
            world.entity(id, kind, tier);
        }
        world.entities.lock().unwrap().get_mut("provider").unwrap().published_availability_ratio = Some(0.995);
        for (caller, callee) in [
            ("gateway", "auth"),
            ("gateway", "checkout"),
            ("auth", "user-db"),
            ("checkout", "payment"),
            ("checkout", "inventory"),
            ("payment", "provider"),
            ("a", "b"),
            ("b", "d"),
        ] {
            world.depend(caller, callee);
        }
        let own = |chronic, outage_days| Behaviour { chronic, outage_days };
        world.simulate(&[
            ("user-db", own(0.0002, 0)),
            ("auth", own(0.0003, 9)),
            ("inventory", own(0.0003, 0)),
            ("payment", own(0.0005, 11)),
            ("checkout", own(0.0004, 13)),
            ("gateway", own(0.0002, 0)),
            ("d", own(0.0005, 0)),
            ("b", own(0.0003, 0)),
            ("a", own(0.0003, 0)),
        ]);
        world.passages.lock().unwrap().push(passage());
        Arc::new(world)
    }

    fn entity(&self, id: &str, kind: EntityKind, tier: Tier) {
        let entity = Entity {
            id: id.into(),
            display_name: id.into(),
            kind: kind as i32,
            tier: tier as i32,
            sources: vec![Source::Declared as i32],
            ..Entity::default()
        };
        self.entities.lock().unwrap().insert(id.into(), entity);
        self.heads.lock().unwrap().insert(id.into(), (1, 1, 0));
    }

    pub(crate) fn depend(&self, caller: &str, callee: &str) {
        let dependency = Dependency {
            caller_id: caller.into(),
            callee_id: callee.into(),
            mode: DependencyMode::Hard as i32,
            ..Dependency::default()
        };
        self.dependencies.lock().unwrap().push(dependency);
    }

    /// Thirty days of buckets, callees before callers, failures of the callees traced. The provider, which is not measured,
    /// fails 0.4 % of payment's requests.
    fn simulate(&self, components: &[(&str, Behaviour)]) {
        let dependencies = self.dependencies.lock().unwrap().clone();
        let mut random = Random(42);
        for (id, behaviour) in components {
            let callees: Vec<String> =
                dependencies.iter().filter(|d| d.caller_id == *id).map(|d| d.callee_id.clone()).collect();
            let buckets = (0..DAYS * 288).map(|i| {
                let shares = callees.iter().map(|callee| (callee.clone(), self.failed(callee, i, &mut random)));
                let shares: std::collections::HashMap<String, u64> = shares.filter(|(_, failed)| *failed > 0).collect();
                let inherited: u64 = shares.values().sum();
                let own = random.round(own_ratio(behaviour, i) * REQUESTS as f64);
                let latency =
                    if ["gateway", "checkout"].contains(id) { Some((&latencies(&mut random)).into()) } else { None };
                SliBucket {
                    start_time: Some(timestamp(first_ms() + i * BUCKET_MS)),
                    valid_count: REQUESTS,
                    bad_count: (own + inherited).min(REQUESTS),
                    inherited_bad_count: Some(inherited.min(REQUESTS)),
                    latency,
                    inherited_by_dependency: shares,
                }
            });
            let buckets = buckets.collect();
            self.histories.lock().unwrap().insert((*id).into(), buckets);
        }
    }

    /// Failures of a callee that its caller sees in a bucket, one call a request.
    fn failed(&self, callee: &str, bucket: i64, random: &mut Random) -> u64 {
        let histories = self.histories.lock().unwrap();
        match histories.get(callee) {
            Some(buckets) => buckets[bucket as usize].bad_count,
            None => random.round(0.004 * REQUESTS as f64),
        }
    }

    /// Writes a bucket anew, as ingestion would: the last write wins and the head moves.
    pub(crate) fn rewrite_last_bucket(&self, id: &str, bad_count: u64) {
        let mut histories = self.histories.lock().unwrap();
        let bucket = histories.get_mut(id).unwrap().last_mut().unwrap();
        bucket.bad_count = bad_count;
        bucket.inherited_bad_count = Some(0);
        bucket.inherited_by_dependency.clear();
        self.heads.lock().unwrap().get_mut(id).unwrap().1 += 1;
    }

    pub(crate) fn touch_measurements(&self, id: &str) {
        self.heads.lock().unwrap().get_mut(id).unwrap().1 += 1;
    }

    pub(crate) fn touch_topology(&self, id: &str) {
        self.heads.lock().unwrap().get_mut(id).unwrap().0 += 1;
    }

    fn walk(&self, start: &str, upstream: bool) -> BTreeMap<String, u32> {
        let dependencies = self.dependencies.lock().unwrap();
        let mut distances = BTreeMap::from([(start.to_owned(), 0)]);
        let mut front = vec![start.to_owned()];
        while let Some(id) = front.pop() {
            let next = distances[&id] + 1;
            for edge in dependencies.iter() {
                let (from, to) =
                    if upstream { (&edge.callee_id, &edge.caller_id) } else { (&edge.caller_id, &edge.callee_id) };
                if *from == id && distances.get(to).is_none_or(|known| *known > next) {
                    distances.insert(to.clone(), next);
                    front.push(to.clone());
                }
            }
        }
        distances
    }
}

pub(crate) fn first_ms() -> i64 {
    NOW_MS.div_euclid(BUCKET_MS) * BUCKET_MS - DAYS * 288 * BUCKET_MS
}

fn own_ratio(behaviour: &Behaviour, bucket: i64) -> f64 {
    let hour = bucket / 12;
    let down = behaviour.outage_days > 0 && hour % (24 * behaviour.outage_days) == 24 * behaviour.outage_days - 5;
    if down { 0.25 } else { behaviour.chronic }
}

fn latencies(random: &mut Random) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    for (milliseconds, share) in [(40.0, 0.5), (90.0, 0.4), (180.0, 0.08), (450.0, 0.02)] {
        histogram.record_many(milliseconds, random.round(share * REQUESTS as f64));
    }
    histogram
}

fn passage() -> rag::Citation {
    rag::Citation {
        document_id: "runbooks/payment-provider-errors".into(),
        document_version: 3,
        title: "Payment provider errors".into(),
        kind: rag::DocumentKind::Runbook as i32,
        start_offset: 120,
        end_offset: 152,
        quote: "Queue the charge and answer 202.".into(),
        quote_sha256: "0".repeat(64),
        score: 0.1 + 0.2,
        headings: vec!["Mitigation".into()],
    }
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number with this mean.
    fn round(&mut self, mean: f64) -> u64 {
        (mean + self.next()).floor() as u64
    }
}

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
    type StreamChangesStream = BoxStream<'static, Result<ingestion::StreamChangesResponse, Status>>;

    async fn get_service(
        &self,
        request: Request<ingestion::GetServiceRequest>,
    ) -> Result<Response<ingestion::GetServiceResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let id = request.into_inner().service_id;
        let service = self.0.entities.lock().unwrap().get(&id).cloned();
        let service = service.ok_or_else(|| Status::not_found(format!("there is no service `{id}`")))?;
        Ok(Response::new(ingestion::GetServiceResponse { service: Some(service), data: None }))
    }

    async fn get_change_heads(
        &self,
        request: Request<ingestion::GetChangeHeadsRequest>,
    ) -> Result<Response<ingestion::GetChangeHeadsResponse>, Status> {
        check(&self.0.ingestion_down)?;
        let known = self.0.heads.lock().unwrap();
        let heads = request.into_inner().service_ids.into_iter().filter_map(|service_id| {
            let (topology_sequence, sli_sequence, incident_sequence) = *known.get(&service_id)?;
            Some(ingestion::ChangeHead { service_id, topology_sequence, sli_sequence, incident_sequence })
        });
        Ok(Response::new(ingestion::GetChangeHeadsResponse { heads: heads.collect() }))
    }

    async fn stream_sli_history(
        &self,
        request: Request<ingestion::StreamSliHistoryRequest>,
    ) -> Result<Response<Self::StreamSliHistoryStream>, Status> {
        check(&self.0.ingestion_down)?;
        let request = request.into_inner();
        if !request.without_latency {
            self.0.computations.fetch_add(1, Ordering::SeqCst);
        }
        let range = request.range.unwrap();
        let (start, end) = (unix_millis(&range.start_time.unwrap()), unix_millis(&range.end_time.unwrap()));
        let histories = self.0.histories.lock().unwrap();
        let mut chunks = Vec::new();
        for service_id in request.service_ids {
            let Some(buckets) = histories.get(&service_id) else { continue };
            let inside = |bucket: &&SliBucket| (start..end).contains(&unix_millis(bucket.start_time.as_ref().unwrap()));
            let bucket = |bucket: &SliBucket| SliBucket {
                latency: bucket.latency.clone().filter(|_| !request.without_latency),
                ..bucket.clone()
            };
            let buckets: Vec<SliBucket> = buckets.iter().filter(inside).map(bucket).collect();
            let buckets: Vec<attain_vocabulary::SliBucket> =
                buckets.iter().map(|bucket| bucket.try_into().unwrap()).collect();
            chunks.extend(buckets.chunks(2_000).map(|buckets| {
                Ok(ingestion::StreamSliHistoryResponse {
                    service_id: service_id.clone(),
                    buckets: Some(attain_proto::columns::columns(buckets.iter())),
                    sources: vec![Source::Traces as i32],
                })
            }));
        }
        Ok(Response::new(stream::iter(chunks).boxed()))
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
        _: Request<ingestion::ListUtilisationRequest>,
    ) -> Result<Response<ingestion::ListUtilisationResponse>, Status> {
        not_asked()
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
        let incidents =
            all.iter().filter(|i| i.service_ids.contains(&id) || i.cause_service_id == id).cloned().collect();
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
        not_asked()
    }

    async fn stream_changes(
        &self,
        _: Request<ingestion::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        Err(Status::unimplemented("the recommendation service never asks this"))
    }
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
        let distances = self.0.walk(&request.service_id, direction == graph::Direction::Upstream);
        let mut reached: Vec<(u32, &String)> = distances.iter().map(|(id, distance)| (*distance, id)).collect();
        reached.sort();
        let entities = reached.iter().map(|(distance, id)| graph::ReachedEntity {
            entity: entities.get(*id).cloned(),
            distance: *distance,
            direction: direction as i32,
        });
        let dependencies = self.0.dependencies.lock().unwrap();
        let between =
            |edge: &&Dependency| distances.contains_key(&edge.caller_id) && distances.contains_key(&edge.callee_id);
        Ok(Response::new(graph::GetDependenciesResponse {
            entities: entities.collect(),
            dependencies: dependencies.iter().filter(between).cloned().collect(),
            snapshot: Some(snapshot()),
            truncated: false,
        }))
    }

    async fn evaluate_availability(
        &self,
        request: Request<graph::EvaluateAvailabilityRequest>,
    ) -> Result<Response<graph::EvaluateAvailabilityResponse>, Status> {
        check(&self.0.graph_down)?;
        let request = request.into_inner();
        let before = State::new(&self.0.dependencies.lock().unwrap(), &request.rates);
        let (after, touched) = before.after(&request.changes);
        let mut assumed = BTreeSet::new();
        let services = request.service_ids.iter().map(|service_id| {
            assumed.extend(before.reached(service_id).into_iter().filter(|id| !before.rated(id) && !after.rated(id)));
            graph::ServiceAvailability {
                service_id: service_id.clone(),
                before: Some(before.availability(service_id)),
                after: (!request.changes.is_empty()).then(|| after.availability(service_id)),
                path: before.path(service_id, &touched),
            }
        });
        let services = services.collect();
        Ok(Response::new(graph::EvaluateAvailabilityResponse {
            services,
            assumed_perfect_ids: assumed.into_iter().collect(),
            snapshot: Some(snapshot()),
        }))
    }

    async fn analyze_service(
        &self,
        _: Request<graph::AnalyzeServiceRequest>,
    ) -> Result<Response<graph::AnalyzeServiceResponse>, Status> {
        not_asked()
    }

    async fn get_snapshot(
        &self,
        _: Request<graph::GetSnapshotRequest>,
    ) -> Result<Response<graph::GetSnapshotResponse>, Status> {
        not_asked()
    }
}

fn snapshot() -> graph::SnapshotInfo {
    let age = Some(attain_proto::convert::duration(1_234));
    graph::SnapshotInfo { version: 17, age, entity_count: 11, dependency_count: 8 }
}

#[tonic::async_trait]
impl KnowledgeService for Members {
    async fn search_knowledge(
        &self,
        request: Request<rag::SearchKnowledgeRequest>,
    ) -> Result<Response<rag::SearchKnowledgeResponse>, Status> {
        check(&self.0.knowledge_down)?;
        let request = request.into_inner();
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
        }))
    }

    async fn put_documents(
        &self,
        _: Request<rag::PutDocumentsRequest>,
    ) -> Result<Response<rag::PutDocumentsResponse>, Status> {
        not_asked()
    }

    async fn list_documents(
        &self,
        _: Request<rag::ListDocumentsRequest>,
    ) -> Result<Response<rag::ListDocumentsResponse>, Status> {
        not_asked()
    }

    async fn get_document(
        &self,
        _: Request<rag::GetDocumentRequest>,
    ) -> Result<Response<rag::GetDocumentResponse>, Status> {
        not_asked()
    }

    async fn delete_document(
        &self,
        _: Request<rag::DeleteDocumentRequest>,
    ) -> Result<Response<rag::DeleteDocumentResponse>, Status> {
        not_asked()
    }
}
