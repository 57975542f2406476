//! Settings of the service, checked before a port opens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use attain_runtime::admission::Limits;
use attain_runtime::database::without_credentials;
use serde::Deserialize;

use crate::webhooks::config::WebhookConfig;

use crate::MetricNames;

/// Settings of the section `[recommendation]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the service listens.
    pub listen: SocketAddr,
    /// `sqlite:path` or `postgres://…`.
    pub database_url: String,
    /// Where ingestion serves.
    pub ingestion_url: String,
    /// Where the graph engine serves.
    pub graph_url: String,
    /// Where the knowledge service serves.
    pub rag_url: String,
    /// New measurements alone do not recompute a recommendation younger than this.
    pub min_recompute_interval_seconds: u64,
    /// A recommendation older than this is computed again when it is asked for, though no input changed: history moves on.
    pub max_age_seconds: u64,
    /// Days of history that an estimate reads, 7 to 400.
    pub history_days: u32,
    /// Most components whose history one computation reads, 1 to 2000; the nearest ones are read first.
    pub components_max: usize,
    /// Most computations at a time, 1 to 64; each holds the histories that it reads in memory. Budgets, alerts, agreements and
    /// exports are such as well.
    pub computations_max: usize,
    /// Most memory, in MiB, for histories that were read already and are shared by everybody who calls the service, up to 65,536; 0 for
    /// none. Ninety days of one service take about 0.1.
    pub histories_mib_max: usize,
    /// Longest that a computation waits for the graph engine to hold the topology that ingestion has, in milliseconds, up to
    /// 60,000; where it does not come so far the answer is computed on what it has, and is stale.
    pub graph_wait_ms_max: u64,
    /// Milliseconds between two questions to ingestion how far its log of changes goes, 10 to 60,000. A stored recommendation
    /// is judged by the stream of changes while the last answer is no older than five of them, else by asking ingestion.
    pub change_confirm_interval_ms: u64,
    /// Most services, of all tenants, whose newest changes are held in memory, 1 to 10,000,000; about 150 bytes each.
    /// Tenants beyond it are asked for at ingestion at each read.
    pub mirrored_services_max: usize,
    /// Longest that one computation may take; whoever waits for it keeps a deadline of their own.
    pub compute_seconds_max: u64,
    /// How many versions of a service and window keep their inputs for replay, beside those that were decided upon.
    pub inputs_kept_max: u32,
    /// Milliseconds between two sweeps over the own failures of services that changed, over windows that models have forecast and over
    /// tenants whose model is to be fitted anew, 10 to 86,400,000.
    pub drift_sweep_interval_ms: u64,
    /// Most services whose own failures one sweep looks at, 0 to 10,000; 0 for none.
    pub drift_sweep_services_max: usize,
    /// A service is looked at again by a sweep no sooner than this.
    pub drift_check_interval_seconds: u64,
    /// Closed windows that a model and the live one must both have forecast before it may be promoted, 1 to 1,000,000.
    pub promotion_windows_min: usize,
    /// Services that those windows must be of, 1 to 100,000.
    pub promotion_services_min: usize,
    /// Seconds between two fits of a tenant's model to its own past, 0 to 31,536,000; 0 for none. A drift fits sooner.
    pub retrain_interval_seconds: u64,
    /// Longest that a computation waits for passages to cite, in milliseconds, 1 to 60,000, and never longer than half of what
    /// its caller has left; without them the answer says that nothing is cited.
    pub evidence_ms_max: u64,
    /// Most passages cited by one recommendation, 1 to 50.
    pub citations_max: u32,
    /// Whether five minutes without a request count as good where a budget is counted by slices of time; else they do not count.
    pub quiet_slices_good: bool,
    /// Seconds between two looks for offers whose window has closed, 1 to 86,400: they are held against what was measured.
    pub judge_interval_seconds: u64,
    /// Whether any offer may be suggested as decisions teach; else balanced always is, and nothing is learned of the others.
    pub explore_suggestions: bool,
    /// Most reads that wait to be written to the audit log, 1 to 1,000,000; about 500 bytes each. Those beyond are counted only.
    pub reads_queued_max: usize,
    /// Milliseconds that a read may wait for others to be written with it, 10 to 60,000.
    pub reads_flush_ms: u64,
    /// Seconds between two lines in the process' log that say where the audit logs end, up to 86,400; 0 for none.
    pub audit_anchor_interval_seconds: u64,
    /// Seconds between two looks at the health of the members that this one calls.
    pub health_interval_seconds: u64,
    /// Seconds that calls in flight may take to end after the stop.
    pub drain_seconds: u64,
    /// Seconds between two looks for pending decisions that lapsed and SLOs whose review is near, 1 to 86,400.
    pub upkeep_interval_seconds: u64,
    /// Milliseconds between two looks for SLOs that were decided below others, 10 to 3,600,000: whoever needs them is computed
    /// anew.
    pub decisions_follow_interval_ms: u64,
    /// Seconds between two looks for incidents and decisions that are to become documents, up to 86,400; 0 for none.
    pub lessons_interval_seconds: u64,
    /// Signed callbacks.
    pub webhooks: WebhookConfig,
    /// Most calls in flight, by class.
    pub limits: Limits,
    /// What metrics are called in exported SLOs.
    pub metrics: MetricNames,
}

impl Default for Config {
    /// One machine, embedded storage.
    fn default() -> Self {
        let member = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7103)),
            database_url: "sqlite:attain-data/recommendation.db".to_owned(),
            ingestion_url: member(7101),
            graph_url: member(7102),
            rag_url: member(7104),
            min_recompute_interval_seconds: 10,
            max_age_seconds: 86_400,
            history_days: 90,
            components_max: 64,
            computations_max: 2,
            histories_mib_max: 256,
            graph_wait_ms_max: 1_000,
            change_confirm_interval_ms: 1_000,
            mirrored_services_max: 200_000,
            compute_seconds_max: 30,
            inputs_kept_max: 10,
            drift_sweep_interval_ms: 60_000,
            drift_sweep_services_max: 100,
            drift_check_interval_seconds: 3_600,
            retrain_interval_seconds: 604_800,
            promotion_windows_min: 200,
            promotion_services_min: 20,
            evidence_ms_max: 1_500,
            citations_max: 5,
            quiet_slices_good: false,
            judge_interval_seconds: 900,
            explore_suggestions: true,
            reads_queued_max: 10_000,
            reads_flush_ms: 500,
            audit_anchor_interval_seconds: 3600,
            health_interval_seconds: 5,
            drain_seconds: 10,
            upkeep_interval_seconds: 60,
            decisions_follow_interval_ms: 500,
            lessons_interval_seconds: 30,
            webhooks: WebhookConfig::default(),
            limits: Limits::default(),
            metrics: MetricNames::default(),
        }
    }
}

/// Addresses without credentials, and what tells one member from another.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("database_url", &without_credentials(&self.database_url))
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), attain_runtime::Error> {
        let ranges: &[(&str, u64, u64, u64)] = &[
            ("max_age_seconds", self.max_age_seconds, 1, u64::MAX / 1000),
            ("history_days", u64::from(self.history_days), 7, 400),
            ("components_max", self.components_max as u64, 1, 2000),
            ("computations_max", self.computations_max as u64, 1, 64),
            ("histories_mib_max", self.histories_mib_max as u64, 0, 65_536),
            ("graph_wait_ms_max", self.graph_wait_ms_max, 0, 60_000),
            ("change_confirm_interval_ms", self.change_confirm_interval_ms, 10, 60_000),
            ("mirrored_services_max", self.mirrored_services_max as u64, 1, 10_000_000),
            ("compute_seconds_max", self.compute_seconds_max, 1, 600),
            ("evidence_ms_max", self.evidence_ms_max, 1, 60_000),
            ("inputs_kept_max", u64::from(self.inputs_kept_max), 1, 10_000),
            ("drift_sweep_interval_ms", self.drift_sweep_interval_ms, 10, 86_400_000),
            ("drift_sweep_services_max", self.drift_sweep_services_max as u64, 0, 10_000),
            ("drift_check_interval_seconds", self.drift_check_interval_seconds, 0, 31_536_000),
            ("retrain_interval_seconds", self.retrain_interval_seconds, 0, 31_536_000),
            ("promotion_windows_min", self.promotion_windows_min as u64, 1, 1_000_000),
            ("promotion_services_min", self.promotion_services_min as u64, 1, 100_000),
            ("citations_max", u64::from(self.citations_max), 1, 50),
            ("judge_interval_seconds", self.judge_interval_seconds, 1, 86_400),
            ("reads_queued_max", self.reads_queued_max as u64, 1, 1_000_000),
            ("reads_flush_ms", self.reads_flush_ms, 10, 60_000),
            ("audit_anchor_interval_seconds", self.audit_anchor_interval_seconds, 0, 86_400),
            ("health_interval_seconds", self.health_interval_seconds, 1, 3600),
            ("upkeep_interval_seconds", self.upkeep_interval_seconds, 1, 86_400),
            ("lessons_interval_seconds", self.lessons_interval_seconds, 0, 86_400),
            ("decisions_follow_interval_ms", self.decisions_follow_interval_ms, 10, 3_600_000),
        ];
        for &(key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let text = format!("recommendation.{key}: {value} is outside {least} to {most}");
                return Err(attain_runtime::Error::Config(text));
            }
        }
        self.metrics.validate().map_err(|fault| {
            let text = format!("recommendation.metrics.{}: {}", fault.field, fault.reason);
            attain_runtime::Error::Config(text)
        })?;
        self.webhooks.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_setting_is_named() {
        assert!(Config::default().validate().is_ok());
        let config = Config { components_max: 0, ..Config::default() };
        let error = config.validate().expect_err("out of range").to_string();
        assert!(error.contains("recommendation.components_max"), "{error}");
        let metrics = MetricNames { valid_counter: "sum(requests)".to_owned(), ..MetricNames::default() };
        let error = Config { metrics, ..Config::default() }.validate().expect_err("no selector").to_string();
        assert!(error.contains("recommendation.metrics.valid_counter"), "{error}");
    }
}
