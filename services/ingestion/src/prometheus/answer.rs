//! What a server answers to a range query: series of numbers and of native histograms.

use std::borrow::Cow;
use std::collections::BTreeMap;

use attain_redaction::redact;
use attain_vocabulary::UnixMillis;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error as ThisError;

/// Most characters of the server's words in ours.
const REASON_CHARS_MAX: usize = 300;
/// Words of Prometheus, Mimir, Thanos and VictoriaMetrics for bounds of their own: less time stays within them.
const OF_SIZE: [&str; 11] = [
    "too many samples",
    "maximum resolution",
    "too many points",
    "too many series",
    "limit exceeded",
    "exceeded the maximum",
    "exceeds the limit",
    "cannot select more than",
    "larger than max",
    "ResourceExhausted",
    "exceeded the aggregated chunks size limit",
];
/// Their words for a query that takes too long.
const OF_TIME: [&str; 3] = ["timed out", "timeout", "deadline exceeded"];
/// How Prometheus begins a warning about the query itself; all others are of data that could not be had.
const OF_THE_QUERY: &str = "PromQL";
/// What Thanos says where no store has data of the time: none is missing.
const OF_NO_DATA: &str = "No StoreAPIs matched for this query";

/// What a server answers to a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Answer {
    pub(super) series: Vec<RangeSeries>,
    /// Warnings that are not about missing data.
    pub(super) warning_count: usize,
}

/// Values of one series, each with its instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct RangeSeries {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) values: Vec<(UnixMillis, f64)>,
    /// Native histograms; a series has either these or values.
    pub(super) histograms: Vec<(UnixMillis, NativeHistogram)>,
}

/// A native histogram: its buckets that are not empty, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct NativeHistogram {
    /// Lower bound, upper bound, observations. The one around zero has a lower bound of at most 0.
    pub(super) buckets: Vec<(f64, f64, f64)>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, ThisError)]
pub(super) enum QueryError {
    /// Try again later.
    #[error("the server does not answer: {0}")]
    Unavailable(String),
    /// Ask for less time.
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    /// Less time may be quicker.
    #[error("the server takes too long: {0}")]
    TimedOut(String),
    /// The query is one, and the server cannot execute it; perhaps for less time.
    #[error("the server fails at the query: {0}")]
    Failed(String),
    /// Some of the data could not be had: lower counts than there were. Try again later.
    #[error("the answer is partial: {0}")]
    Partial(String),
    /// Asking again will not help.
    #[error("the server refuses the query: {0}")]
    Refused(String),
    /// More series than are read, however little time is asked for.
    #[error("the answer has {count} series; at most {max} are read: narrow the selector")]
    TooManySeries {
        /// How many there are.
        count: usize,
        /// How many are read.
        max: usize,
    },
    /// A secret that the settings name cannot be read.
    #[error("{0}")]
    Credentials(String),
}

impl QueryError {
    /// Whether a query for less time may be answered.
    pub(super) fn asks_for_less(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::TimedOut(_) | Self::Failed(_))
    }
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Kind>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
    /// VictoriaMetrics: whether a storage node did not answer.
    #[serde(rename = "isPartial")]
    is_partial: Option<bool>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resultType")]
    result_type: String,
    // Checked to be JSON, and read in a second pass: as a tree it would take ten times the memory.
    #[serde(rename = "result")]
    _result: IgnoredAny,
}

#[derive(Deserialize)]
struct Matrix<'a> {
    #[serde(borrow)]
    data: Rows<'a>,
}

#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(borrow)]
    result: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    metric: BTreeMap<String, String>,
    #[serde(borrow, default)]
    values: Vec<(f64, &'a str)>,
    #[serde(borrow, default)]
    histograms: Vec<(f64, HistogramRow<'a>)>,
}

#[derive(Deserialize)]
struct HistogramRow<'a> {
    /// Boundary rule, lower bound, upper bound, observations.
    #[serde(borrow, default)]
    buckets: Vec<(u8, &'a str, &'a str, &'a str)>,
}

/// Reads what a server sent with an HTTP status.
pub(super) fn read_answer(status: u16, body: &[u8], series_max: usize) -> Result<Answer, QueryError> {
    let envelope = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => envelope,
        Err(_) if (400..500).contains(&status) => {
            return Err(refusal(status, None, format!("HTTP {status}: {}", cut(&String::from_utf8_lossy(body)))));
        }
        Err(error) => {
            let reason = cut(&error.to_string());
            return Err(refusal(status, None, format!("HTTP {status} without a result: {reason}")));
        }
    };
    match (envelope.status.as_str(), envelope.data) {
        ("success", Some(kind)) if kind.result_type == "matrix" => {
            let warning_count = whole(&envelope.warnings.unwrap_or_default(), envelope.is_partial.unwrap_or(false))?;
            Ok(Answer { series: read_rows(body, series_max)?, warning_count })
        }
        ("success", data) => {
            let kind = data.map_or(Cow::Borrowed("nothing"), |data| Cow::Owned(data.result_type));
            Err(QueryError::Refused(format!("the answer is {}, not a matrix", cut(&kind))))
        }
        _ => {
            let reason = cut(&envelope.error.unwrap_or_else(|| format!("HTTP {status}")));
            Err(refusal(status, envelope.error_type.as_deref(), reason))
        }
    }
}

/// What can be done about an answer that is none.
fn refusal(status: u16, error_type: Option<&str>, reason: String) -> QueryError {
    let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    match status {
        // Of the number of queries, whatever it says of limits.
        429 => QueryError::Unavailable(reason),
        // Someone cancelled the query.
        499 => QueryError::Unavailable(reason),
        413 => QueryError::TooLarge(reason),
        _ if says(&OF_SIZE) => QueryError::TooLarge(reason),
        408 | 504 => QueryError::TimedOut(reason),
        _ if error_type == Some("timeout") || says(&OF_TIME) => QueryError::TimedOut(reason),
        422 => QueryError::Failed(reason),
        400..500 => QueryError::Refused(reason),
        _ => QueryError::Unavailable(reason),
    }
}

/// How many warnings are not about missing data.
fn whole(warnings: &[String], is_partial: bool) -> Result<usize, QueryError> {
    let of_data = |warning: &&String| !warning.starts_with(OF_THE_QUERY) && !warning.contains(OF_NO_DATA);
    match warnings.iter().find(of_data) {
        Some(warning) => Err(QueryError::Partial(cut(warning))),
        None if is_partial => Err(QueryError::Partial("a storage node did not answer".to_owned())),
        None => Ok(warnings.len()),
    }
}

fn read_rows(body: &[u8], series_max: usize) -> Result<Vec<RangeSeries>, QueryError> {
    let malformed = |error: serde_json::Error| {
        QueryError::Unavailable(format!("the result is malformed: {}", cut(&error.to_string())))
    };
    let rows = serde_json::from_slice::<Matrix<'_>>(body).map_err(malformed)?.data.result;
    if rows.len() > series_max {
        return Err(QueryError::TooManySeries { count: rows.len(), max: series_max });
    }
    Ok(rows.into_iter().map(series).collect())
}

fn series(row: Row<'_>) -> RangeSeries {
    let instant = |seconds: f64| (seconds * 1000.0).round() as UnixMillis;
    let histogram = |row: HistogramRow<'_>| NativeHistogram {
        buckets: row.buckets.iter().map(|(_, from, to, count)| (number(from), number(to), number(count))).collect(),
    };
    RangeSeries {
        labels: row.metric,
        values: row.values.into_iter().map(|(time, value)| (instant(time), number(value))).collect(),
        histograms: row.histograms.into_iter().map(|(time, row)| (instant(time), histogram(row))).collect(),
    }
}

/// Whatever is no number says nothing, as NaN does.
fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// The server's words, which end in our logs: without secrets, and not too many. Errors of reading repeat some of them.
fn cut(text: &str) -> String {
    redact(text).0.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Prometheus 2.42 and 3 answer.
    const MATRIX: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"service":"cart"},"values":[[1793000100,"120"],[1793000400,"118.94736842105263"],[1793000700,"NaN"]]},
        {"metric":{"service":"pay","le":"+Inf"},"values":[[1793000100.5,"+Inf"]]},
        {"metric":{"service":"native"},"histograms":[[1793000100,{"count":"15","sum":"2.5","buckets":[
            [3,"-0.001","0.001","2"],[0,"0.7071067811865475","1","9.5"],[0,"1","1.414213562373095","3.5"]]}],
            [1793000400,{"count":"0","sum":"0"}]]}
    ]},"warnings":["PromQL warning: bucket label le is malformed"],"infos":[]}"#;

    #[test]
    fn reads_a_matrix() {
        let answer = read_answer(200, MATRIX.as_bytes(), 3).expect("a matrix");
        let (series, warning_count) = (answer.series, answer.warning_count);
        assert_eq!(warning_count, 1);
        assert_eq!(series.len(), 3);
        assert_eq!(series[0].labels["service"], "cart");
        assert_eq!(series[0].values[..2], [(1_793_000_100_000, 120.0), (1_793_000_400_000, 118.947_368_421_052_63)]);
        assert!(series[0].values[2].1.is_nan());
        assert_eq!(series[1].values, [(1_793_000_100_500, f64::INFINITY)]);
        assert!(series[2].values.is_empty());
        let buckets = &series[2].histograms[0].1.buckets;
        assert_eq!((buckets.len(), buckets[0], buckets[1].2), (3, (-0.001, 0.001, 2.0), 9.5));
        assert!(series[2].histograms[1].1.buckets.is_empty());
        let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert_eq!(read_answer(200, empty.as_bytes(), 3), Ok(Answer::default()));
        let refused = read_answer(200, MATRIX.as_bytes(), 2).expect_err("three series");
        assert_eq!(refused, QueryError::TooManySeries { count: 3, max: 2 });
    }

    #[test]
    fn says_what_can_be_done_about_the_rest() {
        let error = |kind: &str, text: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"{text}"}}"#);
        for (status, body, expected) in [
            (400, error("bad_data", "invalid parameter \\\"query\\\": 1:5: parse error"), "refuses"),
            (400, error("bad_data", "exceeded maximum resolution of 11,000 points per timeseries"), "too large"),
            (
                422,
                error("execution", "query processing would load too many samples into memory in query execution"),
                "too large",
            ),
            (422, error("execution", "found duplicate series for the match group"), "fails at the query"),
            (503, error("timeout", "query timed out in expression evaluation"), "takes too long"),
            (504, "Gateway Timeout".into(), "takes too long"),
            (503, error("internal", "cannot fetch: timeout exceeded during query execution"), "takes too long"),
            (
                422,
                error(
                    "execution",
                    "the query exceeded the maximum number of chunks (limit: 2000000 chunks) (err-mimir-max-chunks-per-query)",
                ),
                "too large",
            ),
            (
                422,
                error(
                    "422",
                    "cannot process MetricBlock #1: cannot select more than -search.maxSamplesPerQuery=1000000000 samples",
                ),
                "too large",
            ),
            (
                500,
                error("internal", "rpc error: code = ResourceExhausted desc = grpc: received message larger than max"),
                "too large",
            ),
            (429, error("too_many_requests", "the rate limit exceeded"), "does not answer"),
            (503, "Service Unavailable".into(), "does not answer"),
            (401, "Unauthorized".into(), "refuses"),
            (404, "404 page not found".into(), "refuses"),
            (429, "slow down".into(), "does not answer"),
            (302, "".into(), "does not answer"),
            (200, "<html>".into(), "does not answer"),
            (200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#.into(), "refuses"),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":3}]}}"#.into(),
                "does not answer",
            ),
        ] {
            let error = read_answer(status, body.as_bytes(), 9).expect_err(&body).to_string();
            assert!(error.contains(expected), "{status} {body}: {error}");
        }
    }

    #[test]
    fn an_answer_of_a_part_of_the_data_is_none() {
        let with = |rest: &str| {
            let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[]}},{rest}}}"#);
            read_answer(200, body.as_bytes(), 9)
        };
        for partial in [
            r#""warnings":["receive series from Addr: 10.0.0.1:10901: rpc error: code = Unavailable"]"#,
            r#""warnings":["PromQL info: x","remote_read: server returned 500"]"#,
            r#""isPartial":true"#,
        ] {
            let error = with(partial).expect_err(partial).to_string();
            assert!(error.contains("partial"), "{partial}: {error}");
        }
        for (rest, count) in [
            (r#""warnings":["No StoreAPIs matched for this query"]"#, 1),
            (r#""warnings":["PromQL warning: a","PromQL info: b"],"isPartial":false"#, 2),
            (r#""infos":["PromQL info: b"]"#, 0),
            (r#""warnings":null,"isPartial":null"#, 0),
        ] {
            assert_eq!(with(rest).map(|answer| answer.warning_count), Ok(count), "{rest}");
        }
    }

    #[test]
    fn its_words_are_told_without_secrets() {
        let typed = |result: &str| format!(r#"{{"status":"success","data":{{"resultType":{result}}}}}"#);
        for (status, body) in [
            (422, r#"{"status":"error","error":"for jane@mail.example"}"#.to_owned()),
            (200, r#"{"status":3,"data":"for jane@mail.example"}"#.to_owned()),
            (200, r#"{"status":"success","data":"for jane@mail.example"}"#.to_owned()),
            (200, typed(r#""for jane@mail.example","result":[]"#)),
            (200, typed(r#""matrix","result":"for jane@mail.example""#)),
            (200, typed(r#""matrix","result":[{"metric":"for jane@mail.example"}]"#)),
            (400, r#"["for jane@mail.example"]"#.to_owned()),
        ] {
            let told = read_answer(status, body.as_bytes(), 9).expect_err(&body).to_string();
            assert!(!told.contains("jane"), "{body}: {told}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(mut body in Just(MATRIX.as_bytes().to_vec()), at in 0..400usize, byte: u8) {
            let at = at.min(body.len() - 1);
            body[at] = byte;
            let _ = read_answer(200, &body, 9);
        }
    }
}
