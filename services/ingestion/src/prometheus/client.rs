//! Range queries to a Prometheus-compatible server.

use std::collections::BTreeMap;
use std::time::Duration;

use attain_redaction::redact;
use attain_vocabulary::{BUCKET_MS, UnixMillis};
use serde::Deserialize;
use thiserror::Error as ThisError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one query may take; Prometheus itself stops at two minutes.
const QUERY_TIMEOUT: Duration = Duration::from_secs(125);
/// Largest answer, in bytes: a day of 1,000 services with 10 histogram bounds has about 60 million.
const ANSWER_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Most characters of the server's words in ours.
const REASON_CHARS_MAX: usize = 300;

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: String,
}

/// Values of one series, each with its instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RangeSeries {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) values: Vec<(UnixMillis, f64)>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, ThisError)]
pub(super) enum QueryError {
    /// Try again later.
    #[error("the server does not answer: {0}")]
    Unavailable(String),
    /// Ask for less.
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    /// Asking again will not help.
    #[error("the server refuses the query: {0}")]
    Refused(String),
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    /// Empty where a series has native histograms only.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Client {
    pub(super) fn new(url: &str) -> Result<Self, QueryError> {
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(QUERY_TIMEOUT)
            .build()
            .map_err(|error| QueryError::Unavailable(error.to_string()))?;
        Ok(Self { http, endpoint: format!("{}/api/v1/query_range", url.trim_end_matches('/')) })
    }

    /// The values of a query at each five minutes from `start_ms` to `end_ms`, both included.
    pub(super) async fn query_range(
        &self,
        query: &str,
        start_ms: UnixMillis,
        end_ms: UnixMillis,
    ) -> Result<Vec<RangeSeries>, QueryError> {
        let (start, end, step) = (start_ms / 1000, end_ms / 1000, BUCKET_MS / 1000);
        let asked = [
            ("query", query.to_owned()),
            ("start", start.to_string()),
            ("end", end.to_string()),
            ("step", step.to_string()),
        ];
        // The address may hold credentials: no error repeats it.
        let unavailable = |error: reqwest::Error| QueryError::Unavailable(described(&error.without_url()));
        let mut response = self.http.get(&self.endpoint).query(&asked).send().await.map_err(unavailable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(QueryError::TooLarge(format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        read_answer(status.as_u16(), &body)
    }
}

/// An error and its causes in one line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Reads what a server sent with an HTTP status.
pub(super) fn read_answer(status: u16, body: &[u8]) -> Result<Vec<RangeSeries>, QueryError> {
    let answer = match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => answer,
        Err(_) if (400..500).contains(&status) && status != 429 => {
            return Err(QueryError::Refused(format!("HTTP {status}: {}", cut(&String::from_utf8_lossy(body)))));
        }
        Err(error) => return Err(QueryError::Unavailable(format!("HTTP {status} without a result: {error}"))),
    };
    match (answer.status.as_str(), answer.data) {
        ("success", Some(data)) if data.result_type == "matrix" => read_rows(data.result),
        ("success", data) => {
            let kind = data.map_or_else(|| "nothing".to_owned(), |data| data.result_type);
            Err(QueryError::Refused(format!("the answer is {kind}, not a matrix")))
        }
        _ => {
            let reason = cut(&answer.error.unwrap_or_else(|| format!("HTTP {status}")));
            // The words of Prometheus, and of those that speak its language, for its own bounds.
            let of_size =
                ["too many samples", "maximum resolution", "too many points", "too many series", "limit exceeded"];
            Err(match status {
                _ if of_size.iter().any(|words| reason.contains(words)) => QueryError::TooLarge(reason),
                400 | 401 | 403 | 404 | 405 | 422 => QueryError::Refused(reason),
                _ => QueryError::Unavailable(reason),
            })
        }
    }
}

fn read_rows(result: serde_json::Value) -> Result<Vec<RangeSeries>, QueryError> {
    let malformed = |error: serde_json::Error| QueryError::Unavailable(format!("the result is malformed: {error}"));
    let rows: Vec<Row> = serde_json::from_value(result).map_err(malformed)?;
    let value = |(time, value): (f64, String)| {
        // Whatever is no number says nothing, as NaN does.
        ((time * 1000.0).round() as UnixMillis, value.parse().unwrap_or(f64::NAN))
    };
    let series = |row: Row| RangeSeries { labels: row.metric, values: row.values.into_iter().map(value).collect() };
    Ok(rows.into_iter().map(series).collect())
}

/// The server's words, which end in our logs: without secrets, and not too many.
fn cut(text: &str) -> String {
    redact(text).0.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus 2.42 and 3 answer.
    const MATRIX: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"service":"cart"},"values":[[1793000100,"120"],[1793000400,"118.94736842105263"],[1793000700,"NaN"]]},
        {"metric":{"service":"pay","le":"+Inf"},"values":[[1793000100.5,"+Inf"]]},
        {"metric":{"service":"native"},"histograms":[[1793000100,{"count":"1","sum":"2","buckets":[]}]]}
    ]},"warnings":["only half"],"infos":[]}"#;

    #[test]
    fn reads_a_matrix() {
        let series = read_answer(200, MATRIX.as_bytes()).expect("a matrix");
        assert_eq!(series.len(), 3);
        assert_eq!(series[0].labels["service"], "cart");
        assert_eq!(series[0].values[..2], [(1_793_000_100_000, 120.0), (1_793_000_400_000, 118.947_368_421_052_63)]);
        assert!(series[0].values[2].1.is_nan());
        assert_eq!(series[1].values, [(1_793_000_100_500, f64::INFINITY)]);
        assert!(series[2].values.is_empty());
        let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert_eq!(read_answer(200, empty.as_bytes()), Ok(Vec::new()));
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
            (422, error("execution", "found duplicate series for the match group"), "refuses"),
            (503, error("timeout", "query timed out in expression evaluation"), "does not answer"),
            (503, "Service Unavailable".into(), "does not answer"),
            (404, "404 page not found".into(), "refuses"),
            (429, "slow down".into(), "does not answer"),
            (200, "<html>".into(), "does not answer"),
            (200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#.into(), "refuses"),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":3}]}}"#.into(),
                "does not answer",
            ),
        ] {
            let error = read_answer(status, body.as_bytes()).expect_err(&body).to_string();
            assert!(error.contains(expected), "{status} {body}: {error}");
        }
    }
}
