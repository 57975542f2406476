//! One command a route, and the request that it becomes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::audit::AuditCommand;
use super::experiments::Experiments;
use super::feedback::Feedback;
use super::knowledge::KnowledgeCommand;
use super::lifecycle::{LifecycleCommand, Page};
use super::models::Models;
use super::questions::{outage, proposed, slow_callee, slower, with_fallback};
use super::request::{Request, segment};
use super::slos::SloCommand;
use super::words::{
    Action, Ambition, Direction, DriftState, EntityKind, Imported, Pushed, Sli, Tier, UtilisationKind, Window, word,
};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Lists the services that are known.
    #[command(after_help = "Example:\n  attain services --query checkout --kind system")]
    Services {
        /// Part of an id, display name or owner.
        #[arg(long)]
        query: Option<String>,
        /// Only what is of this kind.
        #[arg(long, value_enum)]
        kind: Option<EntityKind>,
    },
    /// Shows one service and how good its data is.
    #[command(after_help = "Example:\n  attain service checkout-service")]
    Service {
        /// The service.
        service_id: String,
    },
    /// Shows what a service needs, or who needs it.
    #[command(after_help = "Example:\n  attain dependencies checkout-service --direction both --depth 2")]
    Dependencies {
        /// The service.
        service_id: String,
        /// Which way to walk.
        #[arg(long, value_enum, default_value_t = Direction::Downstream)]
        direction: Direction,
        /// How far, in edges; everything when left out.
        #[arg(long)]
        depth: Option<u32>,
    },
    /// Analyses the graph around a service: blast radius, cycles and what to cut, single points of failure, critical paths,
    /// doubtful edges.
    #[command(after_help = "Example:\n  attain analyse payment-service --betweenness")]
    Analyse {
        /// The service.
        service_id: String,
        /// Tell its betweenness as well; on thousands of services that takes longer than all the rest.
        #[arg(long)]
        betweenness: bool,
        /// Leave out edges whose confidence is below this, in [0, 1].
        #[arg(long, value_name = "RATIO")]
        confidence_min: Option<f64>,
    },
    /// Tells how long a service waits for its calls, and splits a threshold over them.
    #[command(after_help = "Example:\n  attain latency checkout-service --threshold-ms 300 --slower payment-service=2")]
    Latency {
        /// The service.
        service_id: String,
        /// Milliseconds that a request may wait for its calls.
        #[arg(long)]
        threshold_ms: Option<f64>,
        /// A direct callee that is to be so many times slower, CALLEE=FACTOR.
        #[arg(long, value_name = "CALLEE=FACTOR", value_parser = slow_callee)]
        slower: Option<(String, f64)>,
        /// Milliseconds above which a request is slow: tells how many sampled ones would still be without each part; may be repeated.
        #[arg(long = "slow-ms", value_name = "MS")]
        slow_ms: Vec<f64>,
    },
    /// Shows what changed in the graph between two kept versions, and which are kept.
    #[command(after_help = "Example:\n  attain graph-changes --from-version 12")]
    GraphChanges {
        /// From which kept version on; the oldest when left out.
        #[arg(long)]
        from_version: Option<u64>,
        /// Up to which kept version; the newest when left out.
        #[arg(long)]
        to_version: Option<u64>,
    },
    /// Sends a JSON file: dependencies, metrics, utilisation, incidents or documents, shaped as the REST route takes them.
    #[command(after_help = "Example:\n  attain push dependencies graph.json")]
    Push {
        /// What the file holds.
        #[arg(value_enum)]
        what: Pushed,
        /// The file; `-` for standard input.
        file: PathBuf,
    },
    /// Shows SLI buckets of a service, oldest first.
    #[command(after_help = "Example:\n  attain metrics checkout-service --start-time 2026-11-01T00:00:00Z")]
    Metrics {
        /// The service.
        service_id: String,
        /// From when (RFC 3339).
        #[arg(long)]
        start_time: Option<String>,
        /// At most this many.
        #[arg(long)]
        page_size: Option<u32>,
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Lists traces that show slow and failed requests of a service, newest first.
    #[command(after_help = "Example:\n  attain exemplars checkout-service --start-time 2026-01-31T00:00:00Z")]
    Exemplars {
        /// The service.
        service_id: String,
        /// From when (RFC 3339).
        #[arg(long)]
        start_time: Option<String>,
        /// Until when (RFC 3339).
        #[arg(long)]
        end_time: Option<String>,
        /// At most this many.
        #[arg(long)]
        page_size: Option<u32>,
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Shows how much of its limits a service uses: the last seven days summed up, and buckets, oldest first.
    #[command(after_help = "Example:\n  attain utilisation checkout-service --kind cpu")]
    Utilisation {
        /// The service.
        service_id: String,
        /// Only this kind.
        #[arg(long, value_enum)]
        kind: Option<UtilisationKind>,
        /// From when (RFC 3339).
        #[arg(long)]
        start_time: Option<String>,
        /// At most this many starts of buckets.
        #[arg(long)]
        page_size: Option<u32>,
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Shows operations of a service by day: those that it answers, and those that it calls.
    #[command(after_help = "Example:\n  attain operations checkout-service --start-time 2026-11-01T00:00:00Z")]
    Operations {
        /// The service.
        service_id: String,
        /// From when (RFC 3339).
        #[arg(long)]
        start_time: Option<String>,
        /// Until when (RFC 3339).
        #[arg(long)]
        end_time: Option<String>,
        /// At most this many.
        #[arg(long)]
        page_size: Option<u32>,
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Lists incidents, newest first.
    #[command(after_help = "Example:\n  attain incidents --service-id payment-service")]
    Incidents {
        /// Only those that hurt this service, or that it caused.
        #[arg(long)]
        service_id: Option<String>,
    },
    /// Shows how the synchronisation with the service catalogue stands.
    #[command(after_help = "Example:\n  attain catalogue")]
    Catalogue,
    /// Takes in a document of another tool: webhooks of pagers, incidents as CSV, what Jaeger exports.
    #[command(
        after_help = "Examples:\n  attain import incidents-csv incidents.csv\n  attain import jaeger-dependencies \
                            dependencies.json --start-time 2026-11-01T00:00:00Z --end-time 2026-11-02T00:00:00Z\n  \
                            attain import jaeger-traces traces.json"
    )]
    Import {
        /// What the file is.
        #[arg(value_enum)]
        document: Imported,
        /// The file; `-` for standard input.
        file: PathBuf,
        /// For jaeger-dependencies: from when its calls were counted (RFC 3339).
        #[arg(long)]
        start_time: Option<String>,
        /// For jaeger-dependencies: until when. For jaeger-traces: moves all spans so that the newest one ends then.
        #[arg(long)]
        end_time: Option<String>,
    },
    /// Leaves an incident out of estimates, or takes it in again.
    #[command(
        after_help = "Example:\n  attain exclude pagerduty:PGR0VU2 --reason \"load test\"\n  attain exclude pagerduty:PGR0VU2 --undo"
    )]
    Exclude {
        /// The incident.
        incident_id: String,
        /// Why.
        #[arg(long, required_unless_present = "undo")]
        reason: Option<String>,
        /// Take it in again.
        #[arg(long)]
        undo: bool,
        /// Who decides; the name of the API key when left out.
        #[arg(long)]
        by: Option<String>,
    },
    /// Says which services an incident hurt, whatever its pager says.
    #[command(after_help = "Example:\n  attain link pagerduty:PGR0VU2 checkout-service cart-service")]
    Link {
        /// The incident.
        incident_id: String,
        /// Every service that it hurt; none for nobody.
        services: Vec<String>,
        /// Who says so; the name of the API key when left out.
        #[arg(long)]
        by: Option<String>,
    },
    /// Declares planned work: it is listed with the incidents and left out of estimates.
    #[command(after_help = "Example:\n  attain maintenance user-db --start-time 2026-11-20T02:00:00Z --end-time \
                            2026-11-20T04:00:00Z --reason \"failover drill\"")]
    Maintenance {
        /// The services that are worked on.
        #[arg(required = true)]
        services: Vec<String>,
        /// When it begins (RFC 3339).
        #[arg(long)]
        start_time: String,
        /// When it ends (RFC 3339).
        #[arg(long)]
        end_time: String,
        /// What is done.
        #[arg(long)]
        reason: String,
        /// A name to replace, end or remove it by; made of what it says when left out.
        #[arg(long)]
        id: Option<String>,
    },
    /// Ends a maintenance window early, or removes it.
    #[command(after_help = "Examples:\n  attain maintenance-end drill\n  attain maintenance-end drill --delete")]
    MaintenanceEnd {
        /// The window.
        window_id: String,
        /// When it ended (RFC 3339); now when left out.
        #[arg(long)]
        end_time: Option<String>,
        /// Remove it: its span counts in estimates again.
        #[arg(long, conflicts_with = "end_time")]
        delete: bool,
    },
    /// Shows which SLOs a service can attain, and why.
    #[command(after_help = "Examples:\n  attain recommend checkout-service --window-days 28\n  \
                            attain recommend checkout-service --region eu-west-1")]
    Recommend {
        /// The service.
        service_id: String,
        /// Days of the rolling window: 7, 28, 30 or 90.
        #[arg(long)]
        window_days: Option<u32>,
        /// The window: rolling, or the calendar month or quarter (UTC).
        #[arg(long, value_enum, conflicts_with = "window_days")]
        window: Option<Window>,
        /// What it can attain in this region alone; without it the answer names the regions and the worst of them.
        #[arg(long)]
        region: Option<String>,
    },
    /// Shows one recommendation as it was made, or replays it.
    #[command(after_help = "Example:\n  attain recommendation REC_ID --replay")]
    Recommendation {
        /// The recommendation.
        recommendation_id: String,
        /// Recompute it from the inputs kept with it and compare.
        #[arg(long)]
        replay: bool,
    },
    /// Shows what changed between two recommendations of a service: what is offered, and what it was computed from.
    #[command(after_help = "Example:\n  attain recommendation-changes REC_ID --since OTHER_REC_ID")]
    RecommendationChanges {
        /// The recommendation.
        recommendation_id: String,
        /// An earlier one of the same service; the version before when left out.
        #[arg(long, value_name = "REC_ID")]
        since: Option<String>,
    },
    /// Accepts, modifies or rejects a recommendation, or declares the SLO in force.
    #[command(
        after_help = "Examples:\n  attain decide checkout-service accept --recommendation REC_ID --ambition balanced\n  \
                            attain decide checkout-service declare --target-ratio 0.995"
    )]
    Decide {
        /// The service.
        service_id: String,
        /// What was decided.
        #[arg(value_enum)]
        action: Action,
        /// Exactly which recommendation.
        #[arg(long)]
        recommendation: Option<String>,
        /// Which SLI of it.
        #[arg(long, value_enum, default_value_t = Sli::Availability)]
        sli: Sli,
        /// Which offer of it.
        #[arg(long, value_enum)]
        ambition: Option<Ambition>,
        /// The target as a fraction; for modify and declare.
        #[arg(long)]
        target_ratio: Option<f64>,
        /// The threshold in milliseconds; for modify and declare of a latency SLO, or of a freshness SLO: the age still fresh.
        #[arg(long)]
        latency_threshold_ms: Option<u32>,
        /// The window; for declare, 28d when left out.
        #[arg(long, value_enum)]
        window: Option<Window>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// Why a target is taken that contradicts what is promised below; refused without.
        #[arg(long)]
        contradiction_reason: Option<String>,
        /// Version of the SLO in force that this replaces.
        #[arg(long)]
        version_match: Option<u32>,
    },
    /// Lists the SLOs in force of a service, or every decision about it.
    #[command(after_help = "Example:\n  attain slos checkout-service --history")]
    Slos {
        /// The service.
        service_id: String,
        /// Every decision, newest first.
        #[arg(long)]
        history: bool,
    },
    #[command(flatten)]
    OfSlos(SloCommand),
    /// Tells what proposed availability targets do to everybody above.
    #[command(after_help = "Example:\n  attain impact external-payment-api=0.99")]
    Impact {
        /// Proposed targets, SERVICE=RATIO.
        #[arg(required = true, value_name = "SERVICE=RATIO")]
        proposals: Vec<String>,
    },
    /// Tells what a fallback on a dependency does to everybody above.
    #[command(after_help = "Example:\n  attain what-if payment-service external-payment-api --fallback 0.9")]
    WhatIf {
        /// Who calls.
        caller_id: String,
        /// Who is called.
        callee_id: String,
        /// Share of failed calls that the fallback saves.
        #[arg(long, value_name = "RATIO")]
        fallback: f64,
        /// Share of the caller's requests that call it; everything when left out.
        #[arg(long)]
        call_fraction: Option<f64>,
    },
    /// Tells whom an outage of a service or a region hurts, and how much of their error budgets it uses up.
    #[command(after_help = "Example:\n  attain outage --region eu-west-1 --minutes 45")]
    #[command(group = clap::ArgGroup::new("place").required(true))]
    Outage {
        /// The service, datastore, node pool or external party that is down.
        #[arg(group = "place")]
        entity_id: Option<String>,
        /// Everything that is said to run in this region is down.
        #[arg(long, group = "place")]
        region: Option<String>,
        /// How long it lasts, once in each SLO's window; the whole window when left out.
        #[arg(long)]
        minutes: Option<u32>,
    },
    /// Tells what a slower or faster component does to the latency of everybody above, before and after.
    #[command(
        after_help = "Examples:\n  attain slower external-payment-api --factor 2\n  attain slower user-db --added-ms 50"
    )]
    #[command(group = clap::ArgGroup::new("change").required(true))]
    Slower {
        /// The service, datastore or external party.
        entity_id: String,
        /// So many times as long; below 1 it is faster.
        #[arg(long, group = "change")]
        factor: Option<f64>,
        /// So many milliseconds longer; below 0 it is faster.
        #[arg(long, group = "change", allow_negative_numbers = true)]
        added_ms: Option<f64>,
    },
    /// Tells whether the availability SLOs in force hold together, and the cheapest changes that would settle contradictions.
    #[command(after_help = "Example:\n  attain consistency --repairs-max 12")]
    Consistency {
        /// Most changes that are solved for, 1 to 50.
        #[arg(long)]
        repairs_max: Option<u32>,
    },
    /// Lists whether the level at which services fail of their own has changed, since when, and by what evidence.
    #[command(after_help = "Example:\n  attain drift --state drifted")]
    Drift {
        /// Only this service.
        service_id: Option<String>,
        /// Only services in this state.
        #[arg(long, value_enum)]
        state: Option<DriftState>,
        #[command(flatten)]
        page: Page,
    },
    /// Lists the versions of the model, shows how well one predicts, registers, promotes or brings one back.
    #[command(subcommand)]
    Models(Models),
    /// Lists, shows, begins or stops experiments: two models, or two ways to suggest an offer, on teams or components drawn by lot.
    #[command(subcommand)]
    Experiments(Experiments),
    /// Finds passages in runbooks, SLO templates and incident reports.
    #[command(after_help = "Example:\n  attain search \"payment provider answers 503\"")]
    Search {
        /// The question.
        query: String,
        /// At most this many passages.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Answers a question out of runbooks, SLO templates and incident reports, in sentences with their sources.
    #[command(
        after_help = "Examples:\n  attain ask \"what to do when the payment provider answers 503\"\n  attain ask \
                            \"PaymentProviderErrorRateHigh\" --service-id payment-service --limit 4 --format json"
    )]
    Ask(Ask),
    /// Lists documents, shows one, or removes one.
    #[command(after_help = "Example:\n  attain documents runbooks/payment-provider-errors")]
    Documents {
        /// The document; all when left out.
        document_id: Option<String>,
        /// Remove it.
        #[arg(long, requires = "document_id")]
        delete: bool,
    },
    /// Follows folders of documents, rates citations, and puts the index right.
    #[command(subcommand)]
    Knowledge(KnowledgeCommand),
    #[command(flatten)]
    Lifecycle(LifecycleCommand),
    /// Tells how often offers are missed: in back-tests, and of offers whose window has closed.
    #[command(after_help = "Example:\n  attain calibration --tier tier-1 --kind service")]
    Calibration {
        /// Only services of this tier.
        #[arg(long, value_enum)]
        tier: Option<Tier>,
        /// Only services of this kind.
        #[arg(long, value_enum)]
        kind: Option<EntityKind>,
    },
    /// Says what is wrong with a recommendation, or lists what was said.
    #[command(
        after_help = "Examples:\n  attain feedback REC_ID wrong-dependency --dependency user-db\n  attain feedback \
                            checkout-service --list"
    )]
    Feedback(Feedback),
    /// Tells what was learned from decisions: which offers are taken, by tier and class, and what other policies would have got.
    #[command(after_help = "Example:\n  attain learning --format json")]
    Learning,
    /// Reads the audit log, oldest first; exports and verifies it.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  attain audit --service-id checkout-service --without-reads\n  attain audit export > \
                      audit.jsonl\n  attain audit verify"
    )]
    Audit {
        #[command(subcommand)]
        what: Option<AuditCommand>,
        /// Only about this service.
        #[arg(long)]
        service_id: Option<String>,
        // A page token is any position in the log.
        #[command(flatten)]
        page: Page,
        /// Leave out who read what.
        #[arg(long)]
        without_reads: bool,
    },
    /// Tells whether every member is ready, and what is missing.
    #[command(after_help = "Example:\n  attain status")]
    Status,
}

impl Command {
    /// The request that this command becomes.
    pub(crate) fn request(self) -> anyhow::Result<Request> {
        let service = |id: &str, rest: &str| format!("/api/v1/services/{}{rest}", segment(id));
        Ok(match self {
            Self::Services { query, kind } => {
                Request::get("/api/v1/services").with("query", query).with("kind", kind.and_then(word))
            }
            Self::Service { service_id } => Request::get(service(&service_id, "")),
            Self::Dependencies { service_id, direction, depth } => Request::get(service(&service_id, "/dependencies"))
                .with("direction", word(direction))
                .with("depth", depth),
            Self::Analyse { service_id, betweenness, confidence_min } => {
                Request::get(service(&service_id, "/graph-analysis"))
                    .with("with_betweenness", betweenness.then_some(true))
                    .with("confidence_min", confidence_min)
            }
            Self::Latency { service_id, threshold_ms, slower, slow_ms } => {
                let (callee_id, factor) = slower.unzip();
                let request = Request::get(service(&service_id, "/latency-analysis"))
                    .with("threshold_ms", threshold_ms)
                    .with("slower_callee_id", callee_id)
                    .with("slower_factor", factor);
                slow_ms.into_iter().fold(request, |request, ms| request.with("slow_thresholds_ms", Some(ms)))
            }
            Self::GraphChanges { from_version, to_version } => {
                Request::get("/api/v1/graph/changes").with("from_version", from_version).with("to_version", to_version)
            }
            Self::Push { what, file } => Request::post_bytes(pushed_path(what), read(&file)?),
            Self::Metrics { service_id, start_time, page_size, page_token } => {
                Request::get(service(&service_id, "/metrics"))
                    .with("start_time", start_time)
                    .with("page_size", page_size)
                    .with("page_token", page_token)
            }
            Self::Exemplars { service_id, start_time, end_time, page_size, page_token } => {
                Request::get(service(&service_id, "/exemplars"))
                    .with("start_time", start_time)
                    .with("end_time", end_time)
                    .with("page_size", page_size)
                    .with("page_token", page_token)
            }
            Self::Utilisation { service_id, kind, start_time, page_size, page_token } => {
                Request::get(service(&service_id, "/utilisation"))
                    .with("kind", kind.and_then(word))
                    .with("start_time", start_time)
                    .with("page_size", page_size)
                    .with("page_token", page_token)
            }
            Self::Operations { service_id, start_time, end_time, page_size, page_token } => {
                Request::get(service(&service_id, "/operations"))
                    .with("start_time", start_time)
                    .with("end_time", end_time)
                    .with("page_size", page_size)
                    .with("page_token", page_token)
            }
            Self::Incidents { service_id } => Request::get("/api/v1/incidents").with("service_id", service_id),
            Self::Catalogue => Request::get("/api/v1/catalogue"),
            Self::Import { document, file, start_time, end_time } => {
                let path = format!("/api/v1/imports/{}", word(document).unwrap_or_default());
                Request::post_bytes(path, read(&file)?).with("start_time", start_time).with("end_time", end_time)
            }
            Self::Exclude { incident_id, reason, undo, by } => {
                let body = json!({"excluded": !undo, "reason": reason, "by": by});
                Request::post(format!("/api/v1/incidents/{}/exclusion", segment(&incident_id)), &body)
            }
            Self::Link { incident_id, services, by } => {
                let body = json!({"service_ids": services, "by": by});
                Request::post(format!("/api/v1/incidents/{}/services", segment(&incident_id)), &body)
            }
            Self::Maintenance { services, start_time, end_time, reason, id } => {
                let body = json!({"window_id": id, "service_ids": services, "start_time": start_time,
                    "end_time": end_time, "reason": reason});
                Request::post("/api/v1/maintenance-windows", &body)
            }
            Self::MaintenanceEnd { window_id, end_time, delete } => {
                let path = format!("/api/v1/maintenance-windows/{}", segment(&window_id));
                match delete {
                    true => Request::delete(path),
                    false => Request::post(format!("{path}/end"), &json!({"end_time": end_time})),
                }
            }
            Self::Recommend { service_id, window_days, window, region } => {
                let calendar = window.and_then(Window::calendar);
                Request::get(service(&service_id, "/slo-recommendations"))
                    .with("window_days", window_days.or(window.and_then(Window::days)))
                    .with("calendar_window", calendar)
                    .with("region", region)
            }
            Self::Recommendation { recommendation_id, replay } => {
                let rest = if replay { "/replay" } else { "" };
                Request::get(format!("/api/v1/slo-recommendations/{}{rest}", segment(&recommendation_id)))
            }
            Self::RecommendationChanges { recommendation_id, since } => {
                let path = format!("/api/v1/slo-recommendations/{}/changes", segment(&recommendation_id));
                Request::get(path).with("since", since)
            }
            Self::Slos { service_id, history } => {
                Request::get(service(&service_id, if history { "/slo-history" } else { "/slos" }))
            }
            Self::OfSlos(command) => command.request()?,
            Self::Impact { proposals } => Request::post("/api/v1/slos/impact-analysis", &proposed(&proposals)?),
            Self::WhatIf { caller_id, callee_id, fallback, call_fraction } => {
                Request::post("/api/v1/slos/what-if", &with_fallback(&caller_id, &callee_id, fallback, call_fraction))
            }
            Self::Outage { entity_id, region, minutes } => {
                Request::post("/api/v1/slos/what-if", &outage(entity_id, region, minutes))
            }
            Self::Slower { entity_id, factor, added_ms } => {
                Request::post("/api/v1/slos/what-if", &slower(&entity_id, factor, added_ms))
            }
            Self::Consistency { repairs_max } => {
                Request::get("/api/v1/fleet/consistency").with("repairs_max", repairs_max)
            }
            Self::Drift { service_id, state, page } => page
                .of(Request::get("/api/v1/drift"))
                .with("service_id", service_id)
                .with("state", state.and_then(word)),
            Self::Models(models) => models.request(),
            Self::Experiments(experiments) => experiments.request(),
            Self::Search { query, limit } => {
                Request::get("/api/v1/knowledge/search").with("query", Some(query)).with("limit", limit)
            }
            Self::Ask(ask) => ask.request(),
            Self::Documents { document_id: None, .. } => Request::get("/api/v1/knowledge/documents"),
            Self::Documents { document_id: Some(id), delete } => {
                let path = format!("/api/v1/knowledge/documents/{}", segment(&id));
                if delete { Request::delete(path) } else { Request::get(path) }
            }
            Self::Calibration { tier, kind } => {
                Request::get("/api/v1/calibration").with("tier", tier.and_then(word)).with("kind", kind.and_then(word))
            }
            Self::Feedback(feedback) => feedback.request(),
            Self::Learning => Request::get("/api/v1/learning"),
            Self::Audit { service_id, page, without_reads, what: _ } => page
                .of(Request::get("/api/v1/audit"))
                .with("service_id", service_id)
                .with("without_reads", without_reads.then_some(true)),
            Self::Knowledge(command) => command.request()?,
            Self::Lifecycle(command) => command.request()?,
            Self::Status => Request::get("/readyz"),
            decide @ Self::Decide { .. } => decide.decision(),
        })
    }

    fn decision(self) -> Request {
        let Self::Decide {
            service_id,
            action,
            recommendation,
            sli,
            ambition,
            target_ratio,
            latency_threshold_ms,
            window,
            reason,
            contradiction_reason,
            version_match,
        } = self
        else {
            unreachable!("only a decision becomes one");
        };
        let fields = [
            ("action", word(action).map(Value::from)),
            ("recommendation_id", recommendation.map(Value::from)),
            ("kind", word(sli).map(Value::from)),
            ("ambition", ambition.and_then(word).map(Value::from)),
            ("target_ratio", target_ratio.map(Value::from)),
            ("latency_threshold_ms", latency_threshold_ms.map(Value::from)),
            ("window_days", window.and_then(Window::days).map(Value::from)),
            ("calendar_window", window.and_then(Window::calendar).map(Value::from)),
            ("reason", reason.map(Value::from)),
            ("contradiction_reason", contradiction_reason.map(Value::from)),
            ("version_match", version_match.map(Value::from)),
        ];
        let body: Map<String, Value> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Request::post(format!("/api/v1/services/{}/slos", segment(&service_id)), &Value::Object(body))
    }
}

fn pushed_path(what: Pushed) -> &'static str {
    match what {
        Pushed::Dependencies => "/api/v1/services/dependencies",
        Pushed::Metrics => "/api/v1/metrics",
        Pushed::Utilisation => "/api/v1/utilisation",
        Pushed::Incidents => "/api/v1/incidents",
        Pushed::Documents => "/api/v1/knowledge/documents",
    }
}

pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests;
