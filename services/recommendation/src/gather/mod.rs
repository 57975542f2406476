//! Gathers everything that a recommendation is computed from. What cannot be had becomes a named missing input; only the
//! service's own history and the freshness of what was read are indispensable.

mod beside;
pub(crate) mod own;
mod regions;
mod structure;
mod utilisation;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_attainment::{
    Ambition, ConsistentTarget, Constants, CurrentSlo, DependencyHistory, Exclusion, MODEL_VERSION, MissingInput,
    RecommendationInput, RecommendationResult, Record, ServiceHistory, TierPolicy, ToldApart, Used, held_beside,
    recommend_told,
};
use attain_drift::Settings;
use attain_proto::convert;
use attain_proto::ingestion::v1 as ingestion;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{
    BUCKET_MS, DAY_MS, EntityId, SliBucket, Source, TimeRange, TimeWindow, UnixMillis, bucket_start,
};
use prost::Message as _;

use crate::domain::calibration::Class;
use crate::domain::components::{Facts, components, dependencies, failures};
use crate::domain::counted::Counted;
use crate::domain::evidence;
use crate::domain::experiments::Assigned;
use crate::domain::feedback::{DISPUTED_MS, Disputed, standing as standing_disputes};
use crate::domain::flow::Component;
use crate::domain::freshness::{Basis, Head, Risks};
use crate::domain::kept::{Evidence, Kept};
use crate::domain::learning::Learned;
use crate::domain::origin::Origin;
use crate::domain::recorded::Recorded;
use crate::domain::slo::{Slo, kind_word};
use crate::engine::Engine;
use crate::histories::Since;
use crate::members::{Closure, History, Known, Refusal};
use crate::message::topology;
use crate::storage::Latest;
use crate::{Error, experiments, members, models};

pub(crate) use regions::MISSING as REGIONS_MISSING;

use beside::{Surroundings, consistent_targets, held_alone};
use walk::Walked;

/// Everything that a recommendation is computed from, and until which changes it was read.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) kept: Kept,
    pub(crate) basis: Basis,
    /// Who owns the service.
    pub(crate) owner: String,
    /// What the statistics say of it; `None` where a member that was asked after the first look had nothing to say.
    pub(crate) result: Option<RecommendationResult>,
    /// Own and inherited failures.
    pub(crate) told: ToldApart,
    /// Records of histories that are kept as the records have them, by service.
    pub(crate) records: BTreeMap<EntityId, Arc<Recorded>>,
}

/// What a computation is for.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) service: &'a EntityId,
    pub(crate) window: TimeWindow,
    /// The newest recommendation, where there is one.
    pub(crate) latest: Option<&'a Latest>,
    /// When whoever asked first gives up.
    pub(crate) asked_until: Instant,
}

/// The service's own history: counts, or its buckets where they may have latencies.
enum Own {
    Counted(Arc<Recorded>),
    Timed(History),
}

impl Own {
    /// Start of the first bucket.
    fn first_ms(&self) -> Option<UnixMillis> {
        match self {
            Self::Counted(recorded) => recorded.counted().runs().next().map(|(start_ms, _)| start_ms),
            Self::Timed(history) => history.buckets.first().map(|bucket| bucket.start_ms),
        }
    }

    fn sources(&self) -> Vec<Source> {
        match self {
            Self::Counted(recorded) => recorded.origin().sources().into_iter().collect(),
            Self::Timed(history) => history.sources.iter().copied().collect(),
        }
    }

    /// The buckets, the record of them, and whether that tells all that they do.
    fn recorded(self) -> (Vec<SliBucket>, Arc<Recorded>, bool) {
        match self {
            Self::Counted(recorded) => {
                let bare = recorded.counted().blames_nobody();
                (recorded.counted().buckets(), recorded, bare)
            }
            Self::Timed(History { buckets, sources }) => {
                let counted = Counted::of(&buckets);
                let latency = buckets.iter().any(|bucket| bucket.latency.is_some());
                let bare = counted.blames_nobody() && !latency;
                let origin = Origin::of(counted.len(), sources, latency);
                (buckets, Recorded::read(counted, origin), bare)
            }
        }
    }
}

/// Histories, as far as they could be had.
struct Observed {
    own: Own,
    others: BTreeMap<EntityId, Arc<Recorded>>,
    incidents: Vec<ingestion::Incident>,
}

/// Who is asked about: the service and what it needs.
struct Subject {
    facts: Facts,
    owner: String,
    walked: Walked,
    slos: Vec<Slo>,
    used: Vec<Used>,
}

/// Asks the members. The order is: who belongs to the closure, by a graph that holds the newest changes of those as far as it
/// can be waited for; then their data, so that a change in between makes the answer look older than it is and never newer.
pub(crate) async fn gather(
    engine: &Arc<Engine>,
    context: &CallContext,
    question: Question<'_>,
) -> Result<Gathered, Error> {
    let Question { service, window, latest, asked_until } = question;
    let mut missing = Vec::new();
    let unbroken = engine.changes.unbroken(Instant::now());
    // Before anything promised is read: what is decided in between makes the answer look older than it is.
    let promises_up_to = Some(engine.below.now(&engine.store, &context.tenant).await?.up_to);
    let Subject { facts, owner, walked, slos, used } = subject(engine, context, service, &mut missing).await?;
    let Walked { closure, graph_known, heads } = walked;
    let since = Since { unbroken, heads: &heads };
    let mut basis = Basis { promises_up_to, ..basis(heads.clone(), &slos) };
    let assigned = experiments::assigned(engine, context, service, &owner).await?;
    let class = Class { tier: facts.tier, kind: facts.kind };
    let model = experiments::model(engine, context, assigned.as_ref(), class).await?;
    basis.owner.clone_from(&owner);
    basis.arm = assigned.as_ref().map(Assigned::key).unwrap_or_default();
    if let Some(model) = &model {
        basis.model_version.clone_from(&model.version);
    }

    let risks = Risks::of(facts.tier, &engine.store.policy(&context.tenant).await?.policy);
    basis.risks = Some(risks);

    let standing = standing(engine, latest, &basis);
    let as_of_ms = standing.as_ref().map_or_else(|| bucket_start(engine.clock.now_ms()) + BUCKET_MS, |(at, _)| *at);
    basis.class_record = match standing {
        Some((_, record)) => record,
        None => engine.store.class_record(&context.tenant, class, window, service).await?,
    };
    let range = TimeRange::new("range", as_of_ms - days_back(engine, window, as_of_ms) * DAY_MS, as_of_ms)?;
    let read = bounded(&closure, engine.config.components_max, &mut missing);
    let (observed, utilised) = futures::join!(
        observe(engine, context, (service, &read), (range, &since), &mut missing),
        utilisation::utilisation(engine, context, (service, used), &closure, (range, &slos)),
    );
    let (observed, (utilisation, unread)) = (observed?, utilised?);
    missing.extend(unread);
    let regional = regions::read(engine, context, service, &read, range, &mut missing).await;
    let (read_range, range) = (range, from_first(range, observed.own.first_ms()));

    let (incident_ids, exclusions) = incidents(service, &observed.incidents, range);
    let sources = observed.own.sources();
    let split = split_components(service, range, &closure, observed, exclusions.clone()).await?;
    let Split { own, told, dependencies, known, records } = split;
    if let Some(component) = known.get(service) {
        engine.hold(context, (service, read_range), &since, &component.recorded);
    }
    let structure = if graph_known {
        let tells_latency = own.iter().any(|bucket| bucket.latency.is_some());
        structure::ask(engine, context, service, &closure, &known, tells_latency, &mut missing).await
    } else {
        structure::Structure::default()
    };
    let whole =
        regions::Whole { service, closure: &closure, known: &known, range, exclusions: &exclusions, graph_known };
    let regions = regions::regions(engine, context, &whole, regional).await?;
    // The evaluation was asked for later, and may all the same come from a snapshot that holds less.
    let evaluated = structure.facts.as_ref().map_or(closure.version, |facts| facts.snapshot_version);
    basis.graph_version = graph_known.then_some(closure.version.min(evaluated));
    let input = RecommendationInput {
        service: service.clone(),
        tier: facts.tier,
        kind: facts.kind,
        window,
        as_of_ms,
        history: ServiceHistory { range, buckets: own },
        dependencies,
        exclusions,
        incident_ids,
        structure: structure.facts,
        counterfactuals: structure.counterfactuals,
        current_slos: slos.iter().map(current_slo).collect(),
        missing_inputs: missing,
        policy: TierPolicy { miss_probabilities: risks.miss_probabilities, ..TierPolicy::for_tier(facts.tier) },
        class_record: basis.class_record,
        quiet_slices_good: engine.config.quiet_slices_good,
        utilisation,
        seed: members::SEED,
        model,
    };
    let Drafted { mut input, draft, told } = drafted(input, told).await?;
    let around =
        Surroundings { service, window, known, edges: closure.edges, now_ms: as_of_ms, constants: input.constants() };
    let held = consistent_targets(engine, context, around, &draft, graph_known);
    let asked = evidence::question(&draft, input.kind, input.tier, |id| closure.facts.get(id).map(|facts| facts.kind));
    let (held, found) = futures::join!(held, evidence(engine, context, asked, asked_until));
    let (targets, unheld) = held?;
    let (evidence, complete, unsearched) = found;
    let whole = unheld.is_none() && unsearched.is_none();
    if let Some(structure) = &mut input.structure {
        structure.consistent_targets = targets;
    }
    // What is missing lowers the confidence, and with it what is offered: then the first look is not the answer.
    let result = whole.then(|| held_beside(draft, &input));
    input.missing_inputs.extend(unheld.into_iter().chain(unsearched));
    basis.complete = complete && input.missing_inputs.is_empty();
    let (mut learned, disputed) = said(engine, context, &input, &closure.dependencies).await?;
    learned.always = assigned.as_ref().and_then(|assigned| assigned.arm.ambition);
    let kept = Kept {
        input,
        changes: structure.changes,
        evidence,
        snapshot: structure.size,
        sources,
        slos,
        learned: Some(learned),
        disputed,
        drift: Some(Settings::OWN_FAILURES),
        regions,
        experiment: assigned,
    };
    Ok(Gathered { kept, basis, owner, result, told, records })
}

/// Holds a target of availability against what is promised below now, as a computation holds an offer of this ambition.
pub(crate) async fn held_now(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    window: TimeWindow,
    target: (Ambition, f64),
) -> Result<ConsistentTarget, Error> {
    let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
    let unbroken = engine.changes.unbroken(Instant::now());
    let (closure, heads) = walk::walk(engine, context, service).await?;
    let since = Since { unbroken, heads: &heads };
    let closure = closure.map_err(|refusal| refusal.fatal("graph"))?;
    let as_of_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let range = TimeRange::new("range", as_of_ms - i64::from(engine.config.history_days) * DAY_MS, as_of_ms)?;
    // What cannot be read counts as never failing, as it does in a recommendation.
    let mut unread = Vec::new();
    let read = bounded(&closure, engine.config.components_max, &mut unread);
    let observed = observe(engine, context, (service, &read), (range, &since), &mut unread).await?;
    let range = from_first(range, observed.own.first_ms());
    let (_, exclusions) = incidents(service, &observed.incidents, range);
    let Split { known, .. } = split_components(service, range, &closure, observed, exclusions).await?;
    let class = closure.facts.get(service).map(|facts| Class { tier: facts.tier, kind: facts.kind });
    let model = match class {
        Some(class) => models::live(engine, context, class).await?,
        None => None,
    };
    let constants = model.map_or(Constants::DEFAULT, |model| model.constants);
    let around = Surroundings { service, window, known, edges: closure.edges, now_ms: as_of_ms, constants };
    held_alone(engine, context, around, target).await
}

/// What people decided and said that bears on the service: which offers are taken, and which dependencies are said to be wrong.
async fn said(
    engine: &Engine,
    context: &CallContext,
    input: &RecommendationInput,
    dependencies: &[vocabulary::Dependency],
) -> Result<(Learned, Vec<Disputed>), Error> {
    let (service, window, as_of_ms) = (&input.service, input.window, input.as_of_ms);
    let (read, disputes) = futures::join!(
        engine.learned.now(&engine.store, &context.tenant),
        engine.store.disputes(&context.tenant, service, as_of_ms - DISPUTED_MS),
    );
    let read = read?;
    let subject = format!("{}\n{service}\n{}", context.tenant, window.code());
    let explores = engine.config.explore_suggestions;
    let learned = Learned::of(&read.state, &read.sha256, (input.tier, input.kind), as_of_ms, explores, &subject);
    let disputed = standing_disputes(&disputes?, |callee| topology::declared_sha256(dependencies, callee));
    Ok((learned, disputed))
}

async fn subject(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    missing: &mut Vec<MissingInput>,
) -> Result<Subject, Error> {
    let (entity, walked, slos) = futures::join!(
        engine.ingestion.known(context, service),
        walk::walk(engine, context, service),
        engine.store.slos(&context.tenant, service),
    );
    let (Known { entity, used }, walked, slos) = (known(service, entity)?, walked?, slos?);
    let (_, facts) = topology::entity(&entity)
        .map_err(|invalid| Error::Broken(format!("ingestion's {service} cannot be read: {invalid}")))?;
    let walked = walk::or_alone(service, &facts, walked, missing);
    Ok(Subject { facts, owner: entity.owner, walked, slos, used })
}

/// Until which changes the service and its closure are read.
pub(crate) fn basis(heads: BTreeMap<EntityId, Head>, slos: &[Slo]) -> Basis {
    Basis {
        heads,
        graph_version: None,
        slo_versions: slos.iter().map(|slo| (kind_word(slo.kind).to_owned(), slo.version)).collect(),
        complete: true,
        model_version: MODEL_VERSION.to_owned(),
        class_record: None,
        risks: None,
        drift_ms: None,
        promises_up_to: None,
        owner: String::new(),
        arm: String::new(),
    }
}

pub(crate) fn known<T>(service: &EntityId, answer: Result<T, Refusal>) -> Result<T, Error> {
    answer.map_err(|refusal| match refusal {
        Refusal::Unknown => Error::UnknownService(service.to_string()),
        other => other.fatal("ingestion"),
    })
}

/// The instant that the newest recommendation was made for and the record of its class then, where none of its own inputs changed
/// since: they stand, so that asking again does not make another version of the same.
fn standing(engine: &Engine, latest: Option<&Latest>, now: &Basis) -> Option<(UnixMillis, Option<Record>)> {
    let latest = latest?;
    let read: Basis = serde_json::from_str(&latest.basis).ok()?;
    let young = engine.clock.now_ms() - latest.checked_ms < engine.ages().max_ms;
    let same = read.heads == now.heads && read.slo_versions == now.slo_versions;
    let message = wire::Recommendation::decode(latest.recommendation.message.as_slice()).ok()?;
    let as_of_ms = message.data?.range?.end_time.as_ref().map(convert::unix_millis)?;
    (young && same).then_some((as_of_ms, read.class_record))
}

/// The components whose history is read: the nearest ones.
fn bounded(closure: &Closure, components_max: usize, missing: &mut Vec<MissingInput>) -> Vec<EntityId> {
    let left_out = closure.order.len().saturating_sub(components_max);
    if left_out > 0 {
        let detail =
            format!("the history of the {left_out} components furthest away was not read; they count as never failing");
        missing.push(MissingInput { name: "component_history".to_owned(), detail });
    }
    closure.order.iter().take(components_max).cloned().collect()
}

async fn observe(
    engine: &Engine,
    context: &CallContext,
    (service, read): (&EntityId, &[EntityId]),
    (range, since): (TimeRange, &Since<'_>),
    missing: &mut Vec<MissingInput>,
) -> Result<Observed, Error> {
    let others: Vec<EntityId> = read.iter().filter(|id| *id != service).cloned().collect();
    let (own, others, incidents) = futures::join!(
        own(engine, context, service, (range, since)),
        engine.records(context, &others, range, since),
        engine.ingestion.incidents(context, service),
    );
    let own = own.map_err(|refusal| refusal.fatal("ingestion"))?;
    let mut or_missing = |name: &str, consequence: &str, refusal: &Refusal| {
        let detail = format!("{}: {consequence}", refusal.detail());
        missing.push(MissingInput { name: name.to_owned(), detail });
    };
    let others = others.unwrap_or_else(|refusal| {
        or_missing("dependency_history", "dependencies count as never failing", &refusal);
        BTreeMap::new()
    });
    let incidents = incidents.unwrap_or_else(|refusal| {
        or_missing("incidents", "no span of time is left out", &refusal);
        Vec::new()
    });
    Ok(Observed { own, others, incidents })
}

/// The service's own history; read with latencies unless it is known to have none.
async fn own(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    (range, since): (TimeRange, &Since<'_>),
) -> Result<Own, Refusal> {
    let service = std::slice::from_ref(service);
    if engine.histories.are_all(&context.tenant, &service[0]) {
        let counted = engine.records(context, service, range, since).await?.remove(&service[0]).unwrap_or_default();
        if !counted.origin().may_have_latency() {
            return Ok(Own::Counted(counted));
        }
    }
    let mut read = engine.ingestion.histories(context, service, range, false).await?;
    Ok(Own::Timed(read.remove(&service[0]).unwrap_or_default()))
}

/// Days of history that are read: those of the setting, and all of a calendar window that has begun.
fn days_back(engine: &Engine, window: TimeWindow, as_of_ms: UnixMillis) -> i64 {
    let begun = match window.is_calendar() {
        true => (as_of_ms - window.in_force_at(as_of_ms).start_ms()).div_euclid(DAY_MS) + 1,
        false => 0,
    };
    begun.max(i64::from(engine.config.history_days))
}

/// History begins with the first bucket: a young service has a short history, not one with a gap before it.
pub(crate) fn from_first_bucket(range: TimeRange, buckets: &[SliBucket]) -> TimeRange {
    from_first(range, buckets.first().map(|bucket| bucket.start_ms))
}

fn from_first(range: TimeRange, first_ms: Option<UnixMillis>) -> TimeRange {
    let first = first_ms.map_or(range.start_ms(), |first_ms| first_ms.clamp(range.start_ms(), range.end_ms()));
    TimeRange::new("range", first, range.end_ms()).unwrap_or(range)
}

/// Incidents that hurt the service within the span, and the spans that a person excluded or that work was planned for.
pub(crate) fn incidents(
    service: &EntityId,
    incidents: &[ingestion::Incident],
    range: TimeRange,
) -> (Vec<String>, Vec<Exclusion>) {
    let (mut ids, mut exclusions) = (Vec::new(), Vec::new());
    for incident in incidents.iter().filter(|incident| incident.service_ids.iter().any(|id| id == service.as_str())) {
        let Some(start_ms) = incident.start_time.as_ref().map(convert::unix_millis) else { continue };
        let end_ms = incident.end_time.as_ref().map_or(range.end_ms(), convert::unix_millis);
        if start_ms >= range.end_ms() || end_ms < range.start_ms() {
            continue;
        }
        let planned = incident.kind() == ingestion::IncidentKind::Maintenance;
        if !planned {
            ids.push(incident.id.clone());
        }
        let span = TimeRange::new("incident", start_ms, end_ms.max(start_ms));
        if let (true, Ok(range)) = (planned || incident.excluded, span) {
            let why = if incident.exclusion_reason.is_empty() { "no reason given" } else { &incident.exclusion_reason };
            let what = if planned { "maintenance" } else { "incident" };
            exclusions.push(Exclusion { range, reason: format!("{what} {}: {why}", incident.id) });
        }
    }
    ids.sort();
    exclusions.sort_by(|a, b| (a.range, &a.reason).cmp(&(b.range, &b.reason)));
    (ids, exclusions)
}

/// What was observed, told apart.
struct Split {
    /// The service's buckets.
    own: Vec<SliBucket>,
    told: ToldApart,
    dependencies: Vec<DependencyHistory>,
    known: BTreeMap<EntityId, Component>,
    /// Of the dependencies, and of the service where its buckets tell nothing beside what its record does.
    records: BTreeMap<EntityId, Arc<Recorded>>,
}

/// Splits every component's failures; off the runtime's threads, because ninety days of many components take a while.
async fn split_components(
    service: &EntityId,
    range: TimeRange,
    closure: &Closure,
    observed: Observed,
    exclusions: Vec<Exclusion>,
) -> Result<Split, Error> {
    let (service, mut facts, edges) = (service.clone(), closure.facts.clone(), closure.edges.clone());
    blocking(move || {
        let Observed { own, others: mut records, .. } = observed;
        let (buckets, recorded, bare) = own.recorded();
        records.insert(service.clone(), Arc::clone(&recorded));
        let called = dependencies(&service, &edges, &records);
        let input = failures(&service, range, buckets, called, exclusions);
        let told = ToldApart::of(&input);
        let facts_of_service = facts.remove(&service);
        let mut known = components(range, &facts, &records, &edges, &BTreeMap::new());
        if let Some(facts) = facts_of_service {
            let split = (recorded.counted().requests() > 0).then(|| told.ratios().clone());
            known.insert(service.clone(), Component { recorded, split, published_ratio: facts.published_ratio });
        }
        let RecommendationInput { history, dependencies, .. } = input;
        let kept = |id: &EntityId| if *id == service { bare } else { dependencies.iter().any(|of| of.id == *id) };
        records.retain(|id, _| kept(id));
        Split { own: history.buckets, told, dependencies, known, records }
    })
    .await
}

/// Runs a computation that would hold up other calls.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Broken(format!("a computation broke off: {error}")))
}

fn current_slo(slo: &Slo) -> CurrentSlo {
    CurrentSlo {
        kind: slo.kind,
        target: slo.target,
        latency_threshold_ms: slo.latency_threshold_ms,
        window: slo.window,
    }
}

/// A first look.
struct Drafted {
    input: RecommendationInput,
    draft: RecommendationResult,
    told: ToldApart,
}

/// A first look, before knowledge and the targets of others are asked.
async fn drafted(input: RecommendationInput, told: ToldApart) -> Result<Drafted, Error> {
    blocking(move || {
        let draft = recommend_told(&input, &told);
        Drafted { input, draft, told }
    })
    .await
}

/// Asks the knowledge service about the risks that a first look names: what it said, whether that is all, and what is missing.
/// Passages are worth less than an answer in time: they are waited for no longer than configured, and no longer than half of
/// what whoever asked first has left.
async fn evidence(
    engine: &Engine,
    context: &CallContext,
    question: evidence::Question,
    asked_until: Instant,
) -> (Evidence, bool, Option<MissingInput>) {
    let left = asked_until.saturating_duration_since(Instant::now()).min(context.remaining());
    let within = Duration::from_millis(engine.config.evidence_ms_max).min(left / 2);
    let context = context.clone().within(within);
    let searching = engine.knowledge.search(&context, &question, engine.config.citations_max);
    let late = || Err(format!("no answer within {} ms", within.as_millis()));
    let searched = match tokio::time::timeout(within, searching).await {
        // The member, and the channel to it, keep the same time, and may be the first to say that it is over.
        Ok(Err(_)) if context.remaining().is_zero() => late(),
        Ok(searched) => searched.map_err(|refusal| refusal.detail()),
        Err(_) => late(),
    };
    match searched {
        Ok(found) => (found.evidence, found.complete, None),
        Err(why) => {
            let detail = format!("runbooks, templates and incidents could not be searched ({why}): nothing is cited");
            let missing = MissingInput { name: "knowledge".to_owned(), detail };
            let note = "Knowledge could not be searched.".to_owned();
            (Evidence { query: question.query, note, ..Evidence::default() }, false, Some(missing))
        }
    }
}
