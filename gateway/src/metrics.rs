//! Requests by verb, route and status and how long they took: as Prometheus text and to OpenTelemetry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};

/// Upper bounds in seconds, as OpenTelemetry advises for HTTP durations.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The route of requests that have none, so that strangers cannot make up series.
pub(crate) const NO_ROUTE: &str = "none";
/// The verb of requests with one that HTTP does not define: whatever a stranger makes up.
const OTHER_VERB: &str = "_OTHER";

/// What was answered so far.
#[derive(Debug)]
pub(crate) struct Metrics {
    series: Mutex<BTreeMap<Labels, Series>>,
    duration: Histogram<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: String,
    verb: &'static str,
    status: u16,
}

#[derive(Debug, Default)]
struct Series {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("attain");
        let duration =
            meter.f64_histogram("http.server.request.duration").with_unit("s").with_boundaries(BOUNDS.to_vec()).build();
        Self { series: Mutex::default(), duration }
    }

    /// Counts one answer.
    pub(crate) fn record(&self, verb: &http::Method, route: &str, status: u16, took: Duration) {
        let (verb, seconds) = (verb_name(verb), took.as_secs_f64());
        let attributes = [
            KeyValue::new("http.request.method", verb),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        self.duration.record(seconds, &attributes);
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry(Labels { route: route.to_owned(), verb, status }).or_default();
        series.count += 1;
        series.sum_seconds += seconds;
        let held = series.buckets.iter_mut().zip(BOUNDS).filter(|(_, bound)| seconds <= *bound);
        held.for_each(|(bucket, _)| *bucket += 1);
    }

    /// Everything so far in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        const NAME: &str = "http_server_request_duration_seconds";
        let mut text = format!("# HELP {NAME} Time from a request's headers to its answer.\n# TYPE {NAME} histogram\n");
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, series) in all.iter() {
            let Labels { route, verb, status } = labels;
            let labels =
                format!("http_route=\"{route}\",http_request_method=\"{verb}\",http_response_status_code=\"{status}\"");
            for (bound, count) in BOUNDS.iter().zip(series.buckets) {
                let _ = writeln!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(text, "{NAME}_sum{{{labels}}} {}", series.sum_seconds);
            let _ = writeln!(text, "{NAME}_count{{{labels}}} {}", series.count);
        }
        text
    }
}

/// The verb, where HTTP defines it.
pub(crate) fn verb_name(verb: &http::Method) -> &'static str {
    match verb.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "CONNECT" => "CONNECT",
        _ => OTHER_VERB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::new();
        for milliseconds in [4, 20, 20_000] {
            metrics.record(&http::Method::GET, "/api/v1/services", 200, Duration::from_millis(milliseconds));
        }
        metrics.record(&http::Method::from_bytes(b"BREW").expect("a token"), NO_ROUTE, 404, Duration::ZERO);
        let text = metrics.text();
        let series = "http_route=\"/api/v1/services\",http_request_method=\"GET\",http_response_status_code=\"200\"";
        for (bound, count) in [("0.005", 1), ("0.025", 2), ("10", 2), ("+Inf", 3)] {
            let line = format!("_bucket{{{series},le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains(&format!("_count{{{series}}} 3\n")));
        assert!(text.contains("http_request_method=\"_OTHER\""));
    }
}
