//! The newest recommendation of a service, one of the past, and the proof that it can be made again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_attainment::{MODEL_VERSION, recommend_told};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TimeWindow, UnixMillis};
use futures::FutureExt as _;
use prost::Message as _;

use crate::Error;
use crate::automatic;
use crate::decide::{Computed, compute, decide, unpack};
use crate::domain::audit::Entry;
use crate::domain::below::DecidedBelow;
use crate::domain::experiments::Assigned;
use crate::domain::freshness::{Basis, Present, Risks, Staleness, Verdict, judge};
use crate::domain::kept::sha256_hex;
use crate::domain::models::serving;
use crate::domain::replay::Replay;
use crate::engine::{Engine, FlightKey, Landed};
use crate::gather::{Gathered, Question, basis, blocking, gather};
use crate::message::window;
use crate::packing::{Packed, pack};
use crate::storage::{Inserted, Latest, NewRecommendation, NewStanding, ServiceFacts, StoredRecommendation, parted};
use crate::{drift, experiments, judge, models, regions};

/// Time kept back from the caller's deadline to send what is stored when a computation does not end in time.
const MARGIN: Duration = Duration::from_millis(100);

/// A recommendation, and whether its inputs have changed since.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stored: StoredRecommendation,
    /// Why it may be another by now.
    pub(crate) staleness: Option<Staleness>,
    /// Age of the knowledge by which it was judged.
    pub(crate) knowledge_age_ms: i64,
    /// What was decided below since, oldest first.
    pub(crate) decided_below: Vec<DecidedBelow>,
}

/// Gives the stored recommendation while it holds; otherwise computes another, once for all who ask. Where that is not
/// possible now, the stored one is given as stale.
pub(crate) async fn newest(
    engine: &Arc<Engine>,
    context: &CallContext,
    service: EntityId,
    window: TimeWindow,
) -> Result<Answer, Error> {
    let latest = engine.store.latest(&context.tenant, &service, window).await?;
    let mut drifted = None;
    if let Some(latest) = &latest {
        match judged(engine, context, &service, latest).await {
            Ok(Judged { verdict: Verdict::Recompute, .. }) => {}
            Ok(Judged { verdict: Verdict::Drifted, .. }) => drifted = Some(Staleness::Drift),
            Ok(Judged { verdict: Verdict::Fresh, age_ms, .. }) => {
                return Ok(answer(&latest.recommendation, None, age_ms));
            }
            Ok(Judged { verdict: Verdict::Stale(why), age_ms, decided_below }) => {
                return Ok(Answer { decided_below, ..answer(&latest.recommendation, Some(why), age_ms) });
            }
            Err(Error::Unreachable { .. }) => return Ok(unconfirmed(engine, latest, Staleness::IngestionUnreachable)),
            Err(error) => return Err(error),
        }
    }
    let flight = fly(engine, context, service, window, latest.clone());
    let within = context.remaining().saturating_sub(MARGIN);
    let computed = tokio::time::timeout(within, flight).await.unwrap_or(Err(Error::Deadline));
    match (computed, latest) {
        (Ok(landed), _) => Ok(answer(&landed.recommendation, landed.staleness, 0)),
        (Err(Error::Deadline), Some(latest)) => {
            Ok(unconfirmed(engine, &latest, drifted.unwrap_or(Staleness::ComputationLate)))
        }
        (Err(Error::Unreachable { .. }), Some(latest)) => {
            Ok(unconfirmed(engine, &latest, drifted.unwrap_or(Staleness::IngestionUnreachable)))
        }
        (Err(error), _) => Err(error),
    }
}

/// The stored one, as it was when it was last found to hold.
fn unconfirmed(engine: &Engine, latest: &Latest, why: Staleness) -> Answer {
    answer(&latest.recommendation, Some(why), (engine.clock.now_ms() - latest.checked_ms).max(0))
}

/// Reads one recommendation of a whole service as it was stored.
pub(crate) async fn one(engine: &Engine, context: &CallContext, id: &str) -> Result<wire::Recommendation, Error> {
    regions::of_whole(id)?;
    decode(&stored(engine, context, id).await?)
}

/// Reads one stored recommendation of the tenant: of a whole service, or of a region.
pub(crate) async fn stored(engine: &Engine, context: &CallContext, id: &str) -> Result<StoredRecommendation, Error> {
    let (whole_id, region) = parted(id);
    let whole = engine.store.recommendation(&context.tenant, whole_id).await?;
    let stored = match (whole, region) {
        (Some(whole), Some(region)) => engine.store.regional(&context.tenant, &whole, region).await?,
        (whole, _) => whole,
    };
    stored.ok_or_else(|| Error::UnknownRecommendation(id.to_owned()))
}

/// Computes a recommendation again from the inputs kept with it.
pub(crate) async fn replay(
    engine: &Engine,
    context: &CallContext,
    id: &str,
) -> Result<wire::ReplayRecommendationResponse, Error> {
    let stored = stored(engine, context, id).await?;
    let (whole_id, region) = parted(id);
    let content = engine.store.inputs(&context.tenant, whole_id).await?;
    let content = content.ok_or_else(|| Error::InputsNotKept(id.to_owned()))?;
    let as_stored = decode(&stored)?;
    let previous = previous(engine, context, &as_stored).await?;
    let region = region.map(str::to_owned);
    let (input_sha256, recomputed_sha256) = blocking(move || {
        let (kept, input_sha256) = unpack(&content)?;
        let computed = compute(&kept, &input_sha256, previous.as_ref());
        let recomputed = match region {
            None => Some(computed.result_sha256),
            Some(region) => computed.regional.into_iter().find(|of| of.region == region).map(|of| of.result_sha256),
        };
        Ok::<_, Error>((input_sha256, recomputed.unwrap_or_default()))
    })
    .await??;
    let stored_sha256 = crate::message::recommendation::result_sha256(&as_stored);
    let replay = Replay {
        stored_untouched: stored_sha256 == stored.result_sha256,
        input_untouched: input_sha256 == stored.input_sha256,
        same_result: recomputed_sha256 == stored_sha256,
        model_version: &as_stored.model_version,
    };
    Ok(wire::ReplayRecommendationResponse {
        identical: replay.identical(),
        reason: replay.reason(),
        input_sha256,
        stored_sha256,
        recomputed_sha256,
        model_version: as_stored.model_version.clone(),
        statistics_version: MODEL_VERSION.to_owned(),
    })
}

/// What to do with a stored recommendation, and how old the knowledge is that says so.
struct Judged {
    verdict: Verdict,
    age_ms: i64,
    decided_below: Vec<DecidedBelow>,
}

/// Whether the stored recommendation still holds: by the stream of changes where it tells, else by asking ingestion.
async fn judged(engine: &Engine, context: &CallContext, service: &EntityId, latest: &Latest) -> Result<Judged, Error> {
    let read = read_basis(latest)?;
    let (slos, policy) =
        futures::join!(engine.store.slos(&context.tenant, service), engine.store.policy(&context.tenant));
    let (slos, policy) = (slos?, policy?.policy);
    let risks = read.risks.map(|read| Risks::of(read.tier, &policy));
    let (heads, newest, age_ms) = match engine.changes.known(&context.tenant, &read, Instant::now()) {
        Some(known) => (known.heads, known.newest, i64::try_from(known.age.as_millis()).unwrap_or(i64::MAX)),
        None => {
            let ids: Vec<EntityId> = read.heads.keys().cloned().collect();
            let heads = engine.ingestion.heads(context, &ids).await.map_err(|refusal| refusal.fatal("ingestion"))?;
            (heads.services, heads.newest, 0)
        }
    };
    let assigned = match &latest.experiment {
        Some(plan) => experiments::of_plan(engine, context, plan, service, &read.owner).await?,
        None => None,
    };
    let live = latest.live_model.as_deref().map_or(MODEL_VERSION, serving).to_owned();
    let model_version = assigned.as_ref().map_or(live, |assigned| assigned.arm.model_version.clone());
    let arm = assigned.as_ref().map(Assigned::key).unwrap_or_default();
    let basis = Basis { drift_ms: latest.drift_ms, model_version, arm, risks, ..basis(heads, &slos) };
    let decided_below = decided_below(engine, context, service, &read).await?;
    let newest = (newest > 0).then_some(newest);
    let now = Present { basis, newest, decided_below: !decided_below.is_empty() };
    let verdict = judge(service, &read, &now, latest.checked_ms, engine.clock.now_ms(), engine.ages());
    Ok(Judged { verdict, age_ms, decided_below })
}

/// SLOs that were decided since of what the service needs.
async fn decided_below(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    read: &Basis,
) -> Result<Vec<DecidedBelow>, Error> {
    let Some(position) = read.promises_up_to else { return Ok(Vec::new()) };
    let promised = engine.below.now(&engine.store, &context.tenant).await?;
    Ok(promised.after(position, service, read.heads.keys()))
}

/// Computes a recommendation anew where SLOs were decided below since; reading does not do it for this reason.
pub(crate) async fn follow(
    engine: &Arc<Engine>,
    context: &CallContext,
    service: &EntityId,
    window: TimeWindow,
) -> Result<(), Error> {
    let Some(latest) = engine.store.latest(&context.tenant, service, window).await? else { return Ok(()) };
    if !decided_below(engine, context, service, &read_basis(&latest)?).await?.is_empty() {
        fly(engine, context, service.clone(), window, Some(latest)).await?;
    }
    Ok(())
}

/// Whether a recommendation is the newest of its service and window, and nothing was decided below since.
pub(crate) async fn knows_what_is_promised(
    engine: &Engine,
    context: &CallContext,
    recommendation: &wire::Recommendation,
) -> Result<bool, Error> {
    let service = EntityId::new("service_id", &recommendation.service_id)?;
    let latest = engine.store.latest(&context.tenant, &service, window::of(recommendation)?).await?;
    let Some(latest) = latest.filter(|latest| latest.recommendation.id == recommendation.id) else { return Ok(false) };
    let read = read_basis(&latest)?;
    let noted = read.promises_up_to.is_some();
    Ok(noted && decided_below(engine, context, &service, &read).await?.is_empty())
}

/// Whether a recommendation was made before a change of own failures was found.
pub(crate) fn knows_no_drift(latest: &Latest, noted_ms: Option<UnixMillis>) -> bool {
    read_basis(latest).is_ok_and(|read| noted_ms > read.drift_ms)
}

fn read_basis(latest: &Latest) -> Result<Basis, Error> {
    serde_json::from_str(&latest.basis)
        .map_err(|error| Error::Broken(format!("the basis of {} cannot be read: {error}", latest.recommendation.id)))
}

/// Joins the computation in flight, or begins one that goes on whoever waits for it.
fn fly(
    engine: &Arc<Engine>,
    context: &CallContext,
    service: EntityId,
    window: TimeWindow,
    seen: Option<Latest>,
) -> impl Future<Output = Result<Arc<Landed>, Error>> + use<> {
    let key = (context.tenant.clone(), service.clone(), window);
    let (engine, context) = (Arc::clone(engine), context.clone());
    let asked_until = Instant::now() + context.remaining();
    let flights = Arc::clone(&engine);
    flights.flights.join(key.clone(), || {
        let task = tokio::spawn(async move {
            let landing = Landing { engine: Arc::clone(&engine), key };
            let timeout = engine.compute_timeout();
            let context = CallContext::new(context.tenant, &context.caller, timeout);
            let work = compute_and_store(&engine, &context, &service, window, (seen, asked_until));
            let result = tokio::time::timeout(timeout, work).await.unwrap_or(Err(Error::Deadline));
            drop(landing);
            result.map(Arc::new)
        });
        task.map(|ended| ended.unwrap_or_else(|error| Err(Error::Broken(format!("a computation broke off: {error}")))))
            .boxed()
    })
}

/// Forgets the flight however it ends.
struct Landing {
    engine: Arc<Engine>,
    key: FlightKey,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.engine.flights.land(&self.key);
    }
}

async fn compute_and_store(
    engine: &Arc<Engine>,
    context: &CallContext,
    service: &EntityId,
    window: TimeWindow,
    (seen, asked_until): (Option<Latest>, Instant),
) -> Result<Landed, Error> {
    let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
    let latest = engine.store.latest(&context.tenant, service, window).await?;
    if let Some(newer) = latest.as_ref().filter(|latest| Some(*latest) != seen.as_ref()) {
        // Somebody computed it between the look and the flight.
        return Ok(Landed { recommendation: newer.recommendation.clone(), staleness: read_basis(newer)?.staleness() });
    }
    let gathered = gather(engine, context, Question { service, window, latest: latest.as_ref(), asked_until }).await?;
    let Gathered { mut kept, basis, owner, result, told, records } = gathered;
    let facts = ServiceFacts { tier: kept.input.tier, owner };
    let staleness = basis.staleness();
    let assigned = kept.experiment.clone();
    let before = latest.as_ref().map(|latest| decode(&latest.recommendation)).transpose()?;
    let registry = engine.store.registry(&context.tenant).await?;
    let start_ms = kept.input.as_of_ms;
    let recorded: Vec<EntityId> = records.keys().cloned().collect();
    let (packed, computed, forecasts) = blocking(move || {
        let packed = pack(&mut kept, &records)?;
        let result = result.unwrap_or_else(|| recommend_told(&kept.input, &told));
        let computed = decide(&kept, (&result, &told), &packed.sha256, before.as_ref());
        Ok::<_, Error>((packed, computed, models::forecasts(&kept.input, &registry)))
    })
    .await??;
    recorded.iter().for_each(|id| engine.histories.weigh(&context.tenant, id));
    models::keep(engine, context, (service, window, start_ms), &forecasts).await;
    let drift_ms = match &computed.watched {
        Some(watched) => drift::note(engine, context, service, watched).await?,
        None => latest.as_ref().and_then(|latest| latest.drift_ms),
    };
    let basis =
        serde_json::to_string(&Basis { drift_ms, ..basis }).map_err(|error| Error::Broken(error.to_string()))?;
    if let Some(latest) = latest.as_ref().filter(|latest| latest.recommendation.input_sha256 == packed.sha256) {
        let now_ms = engine.clock.now_ms();
        let policy = engine.store.policy(&context.tenant).await?.policy;
        let expire_ms = policy.rules(facts.tier).expire_ms(now_ms);
        engine.store.confirm(&context.tenant, &latest.recommendation, now_ms, &basis, expire_ms).await?;
        return Ok(Landed { recommendation: latest.recommendation.clone(), staleness });
    }
    let (version, supersedes) =
        latest.map_or((1, None), |latest| (latest.recommendation.version + 1, Some(latest.recommendation.id)));
    let numbered = Numbered { version, supersedes, packed, computed, basis, facts, assigned };
    let recommendation = store(engine, context, service, window, numbered).await?;
    judge::in_passing(engine, context, service).await;
    Ok(Landed { recommendation, staleness })
}

/// A computed recommendation that knows its place.
struct Numbered {
    version: u32,
    /// The one whose place it takes.
    supersedes: Option<String>,
    packed: Packed,
    computed: Computed,
    basis: String,
    facts: ServiceFacts,
    /// The arm of an experiment that it was made in.
    assigned: Option<Assigned>,
}

async fn store(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    window: TimeWindow,
    new: Numbered,
) -> Result<StoredRecommendation, Error> {
    let now_ms = engine.clock.now_ms();
    let Numbered { version, supersedes, packed, computed, basis, facts, assigned } = new;
    let name = format!("{}\n{service}\n{}\n{version}\n{}", context.tenant, window.code(), packed.sha256);
    let id = format!("rec-{}", &sha256_hex(name.as_bytes())[..20]);
    let message =
        wire::Recommendation { id: id.clone(), version, create_time: Some(timestamp(now_ms)), ..computed.message };
    let policy = engine.store.policy(&context.tenant).await?.policy;
    let standing = NewStanding {
        expire_ms: policy.rules(facts.tier).expire_ms(now_ms),
        confidence: message.confidence.as_ref().map_or(0, |confidence| confidence.level),
        fallback: message.fallback,
        facts: facts.clone(),
    };
    let recommendation = StoredRecommendation {
        id,
        service_id: service.to_string(),
        window_days: window.code(),
        version,
        input_sha256: packed.sha256,
        result_sha256: computed.result_sha256,
        message: message.encode_to_vec(),
    };
    let new = NewRecommendation {
        audit: audit_entry(&recommendation, supersedes.as_deref(), context, now_ms),
        recommendation: recommendation.clone(),
        create_ms: now_ms,
        inputs: packed.content,
        basis,
        inputs_kept_max: engine.config.inputs_kept_max,
        standing,
        evidence: computed.evidence,
        regional: regions::numbered(computed.regional, &message),
        exposure: experiments::exposure(assigned.as_ref(), &message),
    };
    match engine.store.insert(&context.tenant, new).await? {
        Inserted::Stored => {
            automatic::consider(engine, context, service, &message, &facts).await;
            Ok(recommendation)
        }
        // Another process was faster; what it stored was computed from the same members.
        Inserted::Overtaken => {
            let latest = engine.store.latest(&context.tenant, service, window).await?;
            latest
                .map(|latest| latest.recommendation)
                .ok_or_else(|| Error::Broken("a version is there and cannot be read".to_owned()))
        }
    }
}

fn audit_entry(
    recommendation: &StoredRecommendation,
    supersedes: Option<&str>,
    context: &CallContext,
    time_ms: i64,
) -> Entry {
    let mut detail = serde_json::json!({
        "recommendation_id": recommendation.id,
        "version": recommendation.version,
        "window_code": recommendation.window_days,
        "input_sha256": recommendation.input_sha256,
        "result_sha256": recommendation.result_sha256,
    });
    if let Some(supersedes) = supersedes {
        detail["supersedes"] = supersedes.into();
    }
    Entry {
        time_ms,
        caller: context.caller.clone(),
        action: "recommendation.created".to_owned(),
        service_id: recommendation.service_id.clone(),
        detail_json: detail.to_string(),
    }
}

/// The version before, of the same service and window; `None` before the first.
pub(crate) async fn previous(
    engine: &Engine,
    context: &CallContext,
    of: &wire::Recommendation,
) -> Result<Option<wire::Recommendation>, Error> {
    let Some(version) = of.version.checked_sub(1).filter(|version| *version > 0) else { return Ok(None) };
    let window = window::of(of)?.code();
    let before = engine.store.recommendation_version(&context.tenant, &of.service_id, window, version).await?;
    before.as_ref().map(decode).transpose()
}

fn answer(stored: &StoredRecommendation, staleness: Option<Staleness>, knowledge_age_ms: i64) -> Answer {
    Answer { stored: stored.clone(), staleness, knowledge_age_ms, decided_below: Vec::new() }
}

/// What was stored, as it was sent.
pub(crate) fn decode(stored: &StoredRecommendation) -> Result<wire::Recommendation, Error> {
    wire::Recommendation::decode(stored.message.as_slice())
        .map_err(|error| Error::Broken(format!("the stored recommendation {} cannot be read: {error}", stored.id)))
}
