//! Settings of the service, checked before a port opens.

use std::net::{Ipv4Addr, SocketAddr};

use attain_runtime::admission::Limits;
use serde::Deserialize;

/// Settings of the section `[graph]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the service listens.
    pub listen: SocketAddr,
    /// Where ingestion serves.
    pub ingestion_url: String,
    /// Most tenants whose graphs are held, 1 to 100,000.
    pub tenants_max: usize,
    /// Most nodes of one tenant's graph, 1 to 1,000,000; a larger one is refused and the one before it kept.
    pub entities_max: usize,
    /// Most edges of one tenant's graph, 1 to 10,000,000.
    pub dependencies_max: usize,
    /// Earlier versions of one tenant's graph that can still be asked about, 0 to 100. Versions share what
    /// did not change; at worst each takes as much memory as the graph. Versions that differ in counted calls alone are one.
    pub versions_kept: usize,
    /// Most nodes that one answer holds, 1 to 100,000.
    pub answer_entities_max: usize,
    /// Most edges that one answer holds, 1 to 1,000,000.
    pub answer_dependencies_max: usize,
    /// Most services that one evaluation may ask for, 1 to 10,000.
    pub evaluation_services_max: usize,
    /// Most nodes of a decision diagram before Monte Carlo takes over, 1,000 to 10,000,000; about 60 bytes each.
    pub bdd_nodes_max: usize,
    /// States that Monte Carlo samples, 1,024 to 10,000,000.
    pub samples: u32,
    /// Most computations at a time, 1 to 256; 0 for as many as there are processors.
    pub computations_max: usize,
    /// Longest that a caller may wait for a snapshot, in milliseconds, up to 60,000.
    pub snapshot_wait_ms_max: u64,
    /// Longest that ingestion may take to send one tenant's graph, in milliseconds, 100 to 60,000.
    pub fetch_timeout_ms: u64,
    /// Least milliseconds between two fetches of a tenant's graph while they bring nothing but counts, as they do under live
    /// tracing, up to 600,000; 0 to fetch after every burst of changes. Whoever waits for a version does not wait for this.
    pub count_refresh_interval_ms: u64,
    /// How long the stream of changes may be lost before the service is not ready, in milliseconds, up to 600,000; it goes
    /// on answering from what it holds.
    pub stream_loss_ms_max: u64,
    /// Seconds that calls in flight may take to end after the stop.
    pub drain_seconds: u64,
    /// Most calls in flight; every call of this service is a read.
    pub limits: Limits,
}

impl Default for Config {
    /// One machine; 5,000 services answer within milliseconds.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7102)),
            ingestion_url: "http://127.0.0.1:7101".to_owned(),
            tenants_max: 1_000,
            entities_max: 100_000,
            dependencies_max: 500_000,
            versions_kept: 3,
            answer_entities_max: 5_000,
            answer_dependencies_max: 50_000,
            evaluation_services_max: 5_000,
            bdd_nodes_max: 200_000,
            samples: 65_536,
            computations_max: 0,
            snapshot_wait_ms_max: 2_000,
            fetch_timeout_ms: 10_000,
            count_refresh_interval_ms: 2_000,
            stream_loss_ms_max: 10_000,
            drain_seconds: 10,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), attain_runtime::Error> {
        let ranges: [(&str, u64, u64, u64); 14] = [
            ("tenants_max", self.tenants_max as u64, 1, 100_000),
            ("entities_max", self.entities_max as u64, 1, 1_000_000),
            ("dependencies_max", self.dependencies_max as u64, 1, 10_000_000),
            ("versions_kept", self.versions_kept as u64, 0, 100),
            ("answer_entities_max", self.answer_entities_max as u64, 1, 100_000),
            ("answer_dependencies_max", self.answer_dependencies_max as u64, 1, 1_000_000),
            ("evaluation_services_max", self.evaluation_services_max as u64, 1, 10_000),
            ("bdd_nodes_max", self.bdd_nodes_max as u64, 1_000, 10_000_000),
            ("samples", u64::from(self.samples), 1_024, 10_000_000),
            ("computations_max", self.computations_max as u64, 0, 256),
            ("snapshot_wait_ms_max", self.snapshot_wait_ms_max, 0, 60_000),
            ("count_refresh_interval_ms", self.count_refresh_interval_ms, 0, 600_000),
            ("stream_loss_ms_max", self.stream_loss_ms_max, 0, 600_000),
            ("fetch_timeout_ms", self.fetch_timeout_ms, 100, 60_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let text = format!("graph.{key}: {value} is outside {least} to {most}");
                return Err(attain_runtime::Error::Config(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_setting_is_named() {
        assert!(Config::default().validate().is_ok());
        let config = Config { samples: 1, ..Config::default() };
        let error = config.validate().expect_err("out of range").to_string();
        assert!(error.contains("graph.samples"), "{error}");
    }
}
