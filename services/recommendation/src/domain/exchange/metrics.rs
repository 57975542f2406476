use attain_redaction::redact;
use attain_vocabulary::{InvalidValue, SliKind};
use serde::Deserialize;

use super::selector::{Selector, Series};
use crate::domain::slo::Slo;

/// Slices of time that freshness is counted in: ingestion's buckets.
pub(super) const SLICE: &str = "5m";
/// Most counters of failures.
const BAD_COUNTERS_MAX: usize = 10;

/// What metrics are called: selectors of PromQL in which `$service` stands for the service. Settings of
/// `[recommendation.metrics]`.
///
/// The defaults are what Prometheus makes of OpenTelemetry's `http.server.request.duration`, as ingestion reads it (its preset
/// `otel-http`): the job is the service with its namespace before it, if any. The age is what exporters of Kafka's lag call it,
/// which ingestion takes by default, too: the consumer group is the service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricNames {
    /// A counter of requests that count.
    pub valid_counter: String,
    /// Counters of requests that failed; what several count is added.
    pub bad_counter: Vec<String>,
    /// The buckets of a latency histogram, without `le`.
    pub latency_histogram: String,
    /// Unit of the histogram's bounds: `s` or `ms`.
    pub latency_unit: String,
    /// A gauge of the age of what waits longest; of several series the oldest counts.
    pub age_gauge: String,
    /// Unit of that age: `s` or `ms`.
    pub age_unit: String,
}

impl Default for MetricNames {
    fn default() -> Self {
        let metric = |name: &str, more: &str| {
            format!(r#"http_server_request_duration_seconds_{name}{{job=~"(.+/)?$service"{more}}}"#)
        };
        Self {
            valid_counter: metric("count", ""),
            bad_counter: vec![
                metric("count", r#",http_response_status_code=~"5..""#),
                metric("count", r#",http_response_status_code="",error_type!="""#),
            ],
            latency_histogram: metric("bucket", ""),
            latency_unit: "s".to_owned(),
            age_gauge: r#"kafka_consumergroup_group_max_lag_seconds{group="$service"}"#.to_owned(),
            age_unit: "s".to_owned(),
        }
    }
}

/// Unit of a histogram's bounds, or of an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    pub(super) fn of_ms(self, milliseconds: u32) -> f64 {
        match self {
            Self::Seconds => f64::from(milliseconds) / 1000.0,
            Self::Milliseconds => f64::from(milliseconds),
        }
    }
}

/// What an SLO is measured by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Queries {
    /// Failed requests among all.
    Counters { valid: Selector, bad: Vec<Selector> },
    /// Requests within a bound among all.
    Histogram { all: Selector, fast: Selector, buckets: Selector, bound: String, unit: Unit },
    /// Slices of time in which the oldest was older than a limit, among those with an age.
    Ages { ages: Selector, limit: f64 },
}

/// Series for a test.
pub(super) enum Samples {
    /// Counters of good requests, of all and of bad ones; those that are not told apart are left out.
    Requests { good: Vec<Series>, all: Vec<Series>, bad: Vec<Series> },
    /// The gauge of an age, and the oldest that is fresh.
    Ages { gauge: Series, limit: f64 },
}

impl MetricNames {
    /// Checks every name.
    ///
    /// # Errors
    /// Names the first that is none.
    pub(crate) fn validate(&self) -> Result<(), InvalidValue> {
        self.latency_unit()?;
        self.age_unit()?;
        selector("valid_counter", &self.valid_counter)?;
        selector("age_gauge", &self.age_gauge)?;
        selector("latency_histogram", &self.latency_histogram)?;
        self.bad().map(|_| ())
    }

    pub(super) fn latency_unit(&self) -> Result<Unit, InvalidValue> {
        unit("latency_unit", &self.latency_unit)
    }

    fn age_unit(&self) -> Result<Unit, InvalidValue> {
        unit("age_unit", &self.age_unit)
    }

    fn bad(&self) -> Result<Vec<Selector>, InvalidValue> {
        let field = "bad_counter";
        match self.bad_counter.len() {
            0 => Err(InvalidValue::new(field, "required", "say which counter counts requests that failed")),
            count if count > BAD_COUNTERS_MAX => Err(InvalidValue::new(
                field,
                "too_many",
                format!("{count} counters; at most {BAD_COUNTERS_MAX} are added"),
            )),
            _ => self.bad_counter.iter().map(|text| selector(field, text)).collect(),
        }
    }

    pub(super) fn queries(&self, slo: &Slo) -> Result<Queries, InvalidValue> {
        let of = |selector: Selector| selector.of_service(&slo.service);
        match (slo.kind, slo.latency_threshold_ms) {
            (SliKind::Latency, Some(threshold)) => {
                let buckets = of(selector("latency_histogram", &self.latency_histogram)?);
                let unit = self.latency_unit()?;
                let bound = unit.of_ms(threshold).to_string();
                let (all, fast) = (buckets.with_bound("+Inf"), buckets.with_bound(&bound));
                Ok(Queries::Histogram { all, fast, buckets, bound, unit })
            }
            (SliKind::Freshness, Some(threshold)) => Ok(Queries::Ages {
                ages: of(selector("age_gauge", &self.age_gauge)?),
                limit: self.age_unit()?.of_ms(threshold),
            }),
            _ => Ok(Queries::Counters {
                valid: of(selector("valid_counter", &self.valid_counter)?),
                bad: self.bad()?.into_iter().map(of).collect(),
            }),
        }
    }
}

fn unit(field: &str, word: &str) -> Result<Unit, InvalidValue> {
    match word {
        "s" => Ok(Unit::Seconds),
        "ms" => Ok(Unit::Milliseconds),
        _ => Err(InvalidValue::new(field, "unknown_value", "say s or ms")),
    }
}

/// A selector that holds nothing private: it is written into documents that others read.
fn selector(field: &str, text: &str) -> Result<Selector, InvalidValue> {
    if redact(text).1 > 0 {
        return Err(InvalidValue::new(field, "private", "a secret or personal data does not belong into a document"));
    }
    Selector::parse(field, text)
}

impl Queries {
    /// Bad requests over a range, by `rate` or `increase`, or the number of bad slices. Where nothing failed yet there is no
    /// series, and none is 0.
    pub(super) fn bad(&self, function: &str, range: &str) -> String {
        match self {
            Self::Counters { bad, .. } => {
                let of =
                    |selector: &Selector| format!("(sum({function}({}[{range}])) or vector(0))", selector.render());
                bad.iter().map(of).collect::<Vec<_>>().join(" + ")
            }
            Self::Histogram { all, fast, .. } => {
                format!("(sum({function}({}[{range}])) - sum({function}({}[{range}])))", all.render(), fast.render())
            }
            Self::Ages { ages, limit } => {
                format!("sum_over_time(({} > bool {limit})[{range}:{SLICE}])", oldest(ages))
            }
        }
    }

    /// Requests over a range, or the number of slices with an age.
    pub(super) fn valid(&self, function: &str, range: &str) -> String {
        let all = match self {
            Self::Counters { valid, .. } => valid,
            Self::Histogram { all, .. } => all,
            Self::Ages { ages, .. } => return format!("count_over_time({}[{range}:{SLICE}])", oldest(ages)),
        };
        format!("sum({function}({}[{range}]))", all.render())
    }

    /// Bad over all; nothing without a request.
    pub(super) fn error_ratio(&self, range: &str) -> String {
        format!("({}) / ({} > 0)", self.bad("rate", range), self.valid("rate", range))
    }

    /// Series to test rules with; `None` where no such can be made up that the selectors tell apart.
    pub(super) fn samples(&self, slo: &Slo) -> Option<Samples> {
        match self {
            Self::Counters { valid, bad } => {
                let all = valid.sample(&slo.service)?;
                let failed = bad.first()?.sample(&slo.service)?;
                let counted_twice = bad[1..].iter().any(|other| other.takes(&failed));
                if counted_twice || bad.iter().any(|bad| bad.takes(&all)) {
                    return None;
                }
                let within = valid.takes(&failed);
                let (good, all) = if within { (vec![all], Vec::new()) } else { (Vec::new(), vec![all]) };
                Some(Samples::Requests { good, all, bad: vec![failed] })
            }
            Self::Histogram { buckets, bound, .. } => {
                let series = buckets.sample(&slo.service)?;
                Some(Samples::Requests {
                    good: vec![series.clone().with("le", bound)],
                    all: vec![series.with("le", "+Inf")],
                    bad: Vec::new(),
                })
            }
            Self::Ages { ages, limit } => Some(Samples::Ages { gauge: ages.sample(&slo.service)?, limit: *limit }),
        }
    }
}

/// The largest age of a slice.
pub(super) fn oldest(ages: &Selector) -> String {
    format!("max(max_over_time({}[{SLICE}]))", ages.render())
}
