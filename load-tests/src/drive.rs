//! Keeps calls in flight and measures them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attain_vocabulary::LatencyHistogram;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Status;

use crate::Load;

/// What a run bore.
pub(crate) struct Outcome {
    elapsed: Duration,
    latency: LatencyHistogram,
    done: u64,
    refused: BTreeMap<String, u64>,
}

/// Calls `work(n)` with rising `n`, a fixed number of calls in flight, until the time is up.
pub(crate) async fn drive<F, Fut>(load: &Load, work: F) -> anyhow::Result<Outcome>
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    let (began, end) = (Instant::now(), Duration::from_secs(load.seconds.into()));
    let next = Arc::new(AtomicU64::new(0));
    let progress = ProgressBar::new_spinner().with_message("loading");
    progress.enable_steady_tick(Duration::from_millis(200));
    let mut workers = JoinSet::new();
    for _ in 0..load.concurrency {
        let (work, next) = (work.clone(), Arc::clone(&next));
        workers.spawn(async move {
            let mut latency = LatencyHistogram::empty();
            let mut refused: BTreeMap<String, u64> = BTreeMap::new();
            let mut done = 0;
            while began.elapsed() < end {
                let call = Instant::now();
                match work(next.fetch_add(1, Ordering::Relaxed)).await {
                    Ok(()) => done += 1,
                    Err(status) => *refused.entry(format!("{:?}", status.code())).or_default() += 1,
                }
                latency.record(call.elapsed().as_secs_f64() * 1000.0);
            }
            (latency, done, refused)
        });
    }
    let mut outcome = Outcome { elapsed: end, latency: LatencyHistogram::empty(), done: 0, refused: BTreeMap::new() };
    while let Some(worker) = workers.join_next().await {
        let (latency, done, refused) = worker?;
        outcome.latency.merge(&latency);
        outcome.done += done;
        refused.into_iter().for_each(|(code, count)| *outcome.refused.entry(code).or_default() += count);
    }
    outcome.elapsed = began.elapsed();
    progress.finish_and_clear();
    Ok(outcome)
}

impl Outcome {
    /// Calls that succeeded.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Calls that succeeded, a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency at a quantile, in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency.quantile(quantile).unwrap_or(0.0)
    }

    /// The outcome as JSON, with whether the objective was met.
    pub(crate) fn report(&self, objective: &str, objective_met: bool) -> Value {
        json!({
            "objective": objective,
            "objective_met": objective_met,
            "seconds": self.elapsed.as_secs_f64(),
            "calls": self.done,
            "calls_per_second": self.rate(),
            "refused": self.refused,
            "latency_ms_p50": self.latency_ms(0.5),
            "latency_ms_p95": self.latency_ms(0.95),
            "latency_ms_p99": self.latency_ms(0.99),
        })
    }
}
