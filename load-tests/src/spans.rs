//! Spans over OTLP/gRPC: what one costs from its arrival until it is counted, and whether memory stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attain_members::Usage;
use clap::Args;
use indicatif::ProgressBar;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::counted::{self, Counted};
use crate::memory::Memory;
use crate::sending::{Sent, send};
use crate::subject::{self, Subject};
use crate::traffic::{REQUESTS_PER_TRACE, SPANS_PER_TRACE, Traffic};

const SPANS_PER_CORE_SECOND_MIN: f64 = 150_000.0;
/// Acknowledged over asked for, below which a rate was not kept.
const RATE_KEPT_MIN: f64 = 0.98;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Traces whose parent is missing wait longest, a minute; nothing moves for longer only where something is lost.
const QUIET: Duration = Duration::from_secs(75);

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: subject::Options,
    /// Spans to send, at full speed; with a rate, as many as the minutes take.
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(600..=1_000_000_000))]
    spans: u64,
    /// Spans a second, 600 to 1,000,000; full speed when left out.
    #[arg(long, requires = "minutes", value_parser = clap::value_parser!(u64).range(600..=1_000_000))]
    rate: Option<u64>,
    /// How long at that rate, 1 to 1440.
    #[arg(long, requires = "rate", value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: Option<u64>,
    /// Services, 6 to 10,000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(6..=10_000))]
    services: u32,
    /// Traces in a pair of exports, 1 to 10,000; each has six spans.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    traces_per_export: u64,
    /// Senders, 1 to 64; each waits for its acknowledgement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    senders: u32,
    /// Seed of the traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    spans: u64,
    sending_seconds: f64,
    settled_seconds: f64,
    cpu_seconds: f64,
    counted: Counted,
    expected: Counted,
    rejected: u64,
}

/// Sends, waits until everything is counted, and judges.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let subject = Subject::start(&options.subject).await?;
    let before = subject.usage()?;
    let began = Instant::now();
    let plan = Plan::new(options)?;
    let (sent, memory) = plan.send(&subject, options).await?;
    let sending_seconds = began.elapsed().as_secs_f64();

    let expected = plan.expected();
    let mut client = subject.client().await?;
    let (counted, settled_after) = counted::settle(&mut client, &plan.traffic.run, expected, QUIET, false).await?;
    let after = subject.usage()?;
    let measured = Measured {
        spans: plan.spans(),
        sending_seconds,
        settled_seconds: sending_seconds + settled_after.as_secs_f64(),
        cpu_seconds: after.cpu_since(&before),
        counted,
        expected,
        rejected: sent.rejected_spans,
    };
    let mut report = measured.report(options.rate, memory.is_flat());
    report["exports_refused"] = json!(sent.refused_times);
    report["memory"] = memory.report();
    report["peak_mib"] = json!(mebibytes(&after));
    Ok(report)
}

fn mebibytes(usage: &Usage) -> f64 {
    usage.peak_bytes as f64 / (1024.0 * 1024.0)
}

/// What is to be sent.
struct Plan {
    traffic: Traffic,
    traces_per_export: u64,
    pairs: u64,
    rate: Option<u64>,
}

impl Plan {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let spans = match (options.rate, options.minutes) {
            (Some(rate), Some(minutes)) => rate * 60 * minutes,
            _ => options.spans,
        };
        // Ids of another run would be taken for repetitions.
        let traffic =
            Traffic { run: format!("load-{now_ms}"), seed: options.seed ^ now_ms, services: options.services };
        let pairs = spans.div_ceil(options.traces_per_export * SPANS_PER_TRACE);
        Ok(Self { traffic, traces_per_export: options.traces_per_export, pairs, rate: options.rate })
    }

    fn traces(&self) -> u64 {
        self.pairs * self.traces_per_export
    }

    fn spans(&self) -> u64 {
        self.traces() * SPANS_PER_TRACE
    }

    fn expected(&self) -> Counted {
        let requests = self.traces() * REQUESTS_PER_TRACE;
        Counted { requests, calls: self.spans() - requests }
    }

    /// When a pair is to be sent, after the start.
    fn due(&self, pair: u64) -> Option<Duration> {
        let spans = pair * self.traces_per_export * SPANS_PER_TRACE;
        self.rate.map(|rate| Duration::from_secs_f64(spans as f64 / rate as f64))
    }

    async fn send(&self, subject: &Subject, options: &Options) -> anyhow::Result<(Sent, Memory)> {
        let address = subject.otlp_address()?;
        let next = Arc::new(AtomicU64::new(0));
        let progress = ProgressBar::new(self.pairs).with_message("pairs of exports");
        let began = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..options.senders {
            let client = TraceServiceClient::new(Channel::from_shared(address.clone())?.connect().await?);
            let plan = Self { traffic: self.traffic.clone(), ..*self };
            senders.spawn(plan.work(client, Arc::clone(&next), progress.clone(), began));
        }
        let (mut total, mut memory) = (Sent::default(), Memory::new());
        loop {
            memory.note(subject.usage()?.resident_bytes);
            match tokio::time::timeout(SAMPLE_INTERVAL, senders.join_next()).await {
                Err(_) => {}
                Ok(None) => break,
                Ok(Some(sender)) => {
                    let sent = sender??;
                    total.rejected_spans += sent.rejected_spans;
                    total.refused_times += sent.refused_times;
                }
            }
        }
        progress.finish_and_clear();
        Ok((total, memory))
    }

    async fn work(
        self,
        mut client: TraceServiceClient<Channel>,
        next: Arc<AtomicU64>,
        progress: ProgressBar,
        began: Instant,
    ) -> anyhow::Result<Sent> {
        let mut total = Sent::default();
        loop {
            let pair = next.fetch_add(1, Ordering::Relaxed);
            if pair >= self.pairs {
                return Ok(total);
            }
            if let Some(due) = self.due(pair) {
                tokio::time::sleep_until((began + due).into()).await;
            }
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
            for export in self.traffic.exports(pair * self.traces_per_export, self.traces_per_export, now_ms) {
                let sent = send(&mut client, &export).await?;
                total.rejected_spans += sent.rejected_spans;
                total.refused_times += sent.refused_times;
            }
            progress.inc(1);
        }
    }
}

impl Measured {
    fn spans_per_core_second(&self) -> f64 {
        self.spans as f64 / self.cpu_seconds.max(f64::MIN_POSITIVE)
    }

    fn all_counted(&self) -> bool {
        self.counted == self.expected && self.rejected == 0
    }

    fn report(&self, rate: Option<u64>, flat: Option<bool>) -> Value {
        let sent_rate = self.spans as f64 / self.sending_seconds;
        let (objective, met) = match rate {
            None => {
                let enough = self.spans_per_core_second() >= SPANS_PER_CORE_SECOND_MIN;
                ("at least 150,000 spans a second and core, each counted once", enough && self.all_counted())
            }
            Some(rate) => {
                let kept = sent_rate >= rate as f64 * RATE_KEPT_MIN;
                let met = kept && flat == Some(true) && self.all_counted();
                ("memory flat at the rate that was asked for, each span counted once", met)
            }
        };
        json!({
            "objective": objective,
            "objective_met": met,
            "spans": self.spans,
            "spans_rejected": self.rejected,
            "spans_counted": self.counted.spans(),
            "requests_counted": self.counted.requests,
            "calls_counted": self.counted.calls,
            "requests_sent": self.expected.requests,
            "calls_sent": self.expected.calls,
            "seconds_until_acknowledged": self.sending_seconds,
            "seconds_until_counted": self.settled_seconds,
            "spans_per_second_acknowledged": sent_rate,
            "spans_per_second_counted": self.spans as f64 / self.settled_seconds,
            "server_cpu_seconds": self.cpu_seconds,
            "server_cpu_seconds_per_million_spans": self.cpu_seconds * 1e6 / self.spans as f64,
            "spans_per_second_and_core": self.spans_per_core_second(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Measured = Measured {
        spans: 600_000,
        sending_seconds: 10.0,
        settled_seconds: 20.0,
        cpu_seconds: 4.0,
        counted: Counted { requests: 300_000, calls: 300_000 },
        expected: Counted { requests: 300_000, calls: 300_000 },
        rejected: 0,
    };

    fn met(measured: Measured, rate: Option<u64>, flat: Option<bool>) -> bool {
        measured.report(rate, flat)["objective_met"] == true
    }

    #[test]
    fn speed_counts_only_where_every_span_is_counted_once() {
        assert!(met(GOOD, None, None));
        assert!(!met(Measured { cpu_seconds: 4.1, ..GOOD }, None, None));
        let twice = Counted { calls: 300_001, ..GOOD.counted };
        assert!(!met(Measured { counted: twice, ..GOOD }, None, None));
        assert!(!met(Measured { rejected: 1, ..GOOD }, None, None));
    }

    #[test]
    fn a_rate_has_to_be_kept_and_memory_to_be_known_as_flat() {
        assert!(met(GOOD, Some(60_000), Some(true)));
        assert!(!met(GOOD, Some(60_000), None));
        assert!(!met(GOOD, Some(60_000), Some(false)));
        assert!(!met(GOOD, Some(70_000), Some(true)));
    }
}
