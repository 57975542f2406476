//! Spans of a genuine OpenTelemetry SDK while the receiver is killed: none lost, none counted twice.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use attain_members::{Attain, Ingestion, IngestionOptions};
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::counted::{self, Counted};

const SENDER: &str = include_str!("../sdk/send_spans.py");
/// A trace of three services: three SERVER and two CLIENT spans.
const SPANS_PER_TRACE: u64 = 5;
/// What the member stays away after a kill.
const DOWN: Duration = Duration::from_millis(500);
/// Without any word from a sender for so long something is stuck: the exporter gives up after half a minute.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How many times the patience for an incomplete trace nothing may move before all is taken as counted.
const QUIET_TIMES_IDLE: u32 = 4;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The built command; the one beside this command when left out.
    #[arg(long, value_name = "FILE")]
    attain: Option<PathBuf>,
    /// PostgreSQL in place of an embedded database.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A Python with the packages of tests/tools/requirements.txt.
    #[arg(long, env = "ATTAIN_TEST_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// Spans to send, 500 to 10,000,000.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(500..=10_000_000))]
    spans: u64,
    /// Services that send them, 6 to 1,000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(6..=1_000))]
    services: u32,
    /// Processes that the services are spread over, 1 to 16.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,
    /// How often the member is killed, evenly over the spans, 0 to 20.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=20))]
    kills: u32,
    /// Spans a second over all processes, 100 to 100,000.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    rate: u32,
    /// How long no span of a trace may arrive before it is settled, in seconds, as the member's setting; 1 to 20.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20))]
    trace_idle_seconds: u32,
    /// Seed of the traces.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A line of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct Line {
    acknowledged: u64,
    requests: u64,
    calls: u64,
    rejected: u64,
    given_up: u64,
    done: bool,
}

/// Sends, kills, waits, counts, judges.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let attain = Attain::find(options.attain.as_deref())?;
    let started = IngestionOptions {
        database_url: options.database_url.clone(),
        settings: vec![format!("ingestion.trace_idle_seconds={}", options.trace_idle_seconds)],
    };
    let mut ingestion = Ingestion::start(&attain, &started).await?;
    let plan = Plan::new(options)?;
    let began = Instant::now();
    let (total, kills) = plan.send(options, &mut ingestion).await?;
    let sending_seconds = began.elapsed().as_secs_f64();

    let mut client = ingestion.client().await?;
    let quiet = Duration::from_secs(options.trace_idle_seconds.into()) * QUIET_TIMES_IDLE;
    let expected = Counted { requests: total.requests - total.rejected, calls: total.calls };
    let (counted, settled_after) = counted::settle(&mut client, &plan.run, expected, quiet, true).await?;
    let usage = ingestion.usage()?;
    let mut report = judge(total, counted, kills, options.kills);
    report["database"] = json!(if options.database_url.is_some() { "given" } else { "embedded" });
    report["services"] = json!(options.services);
    report["sending_seconds"] = json!(sending_seconds);
    report["settled_seconds"] = json!(settled_after.as_secs_f64());
    report["peak_mib"] = json!(usage.peak_bytes as f64 / (1024.0 * 1024.0));
    Ok(report)
}

/// Sent is what was acknowledged. The rejected ones are SERVER spans.
fn judge(total: Line, counted: Counted, kills: u32, kills_wanted: u32) -> Value {
    let requests = total.requests.saturating_sub(total.rejected);
    let exact = counted == Counted { requests, calls: total.calls };
    json!({
        "objective": "spans sent = spans stored + spans reported as rejected, exactly",
        "objective_met": exact && total.given_up == 0 && total.acknowledged > 0 && kills == kills_wanted,
        "kills": kills,
        "spans_sent": total.acknowledged,
        "spans_stored": counted.spans(),
        "spans_rejected": total.rejected,
        "spans_not_sent": total.given_up,
        "difference": i128::from(counted.spans() + total.rejected) - i128::from(total.acknowledged),
        "requests_sent": total.requests,
        "requests_stored": counted.requests,
        "calls_sent": total.calls,
        "calls_stored": counted.calls,
    })
}

/// What is to be sent.
struct Plan {
    run: String,
    trace_ids: u64,
    traces: u64,
}

impl Plan {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        Ok(Self { run: format!("crash-{now_ms}"), trace_ids: now_ms, traces: options.spans.div_ceil(SPANS_PER_TRACE) })
    }

    async fn send(&self, options: &Options, ingestion: &mut Ingestion) -> anyhow::Result<(Line, u32)> {
        let (tell, mut lines) = mpsc::channel(64);
        let mut senders = Vec::new();
        for number in 0..options.processes {
            senders.push(self.start(options, &ingestion.otlp_address, number, tell.clone())?);
        }
        drop(tell);
        let spans = self.traces * SPANS_PER_TRACE;
        let progress = ProgressBar::new(spans).with_message("spans acknowledged");
        let mut newest = vec![Line::default(); senders.len()];
        let mut kills = 0;
        while let Some((number, line)) =
            tokio::time::timeout(SILENCE_MAX, lines.recv()).await.context("the senders are stuck")?
        {
            newest[number] = line;
            let acknowledged: u64 = newest.iter().map(|line| line.acknowledged).sum();
            progress.set_position(acknowledged);
            if kills < options.kills && acknowledged > spans * u64::from(kills + 1) / u64::from(options.kills + 1) {
                kills += 1;
                progress.println(format!("kill -9 at {acknowledged} spans"));
                ingestion.kill_9().await?;
                tokio::time::sleep(DOWN).await;
                ingestion.restart().await?;
            }
        }
        progress.finish_and_clear();
        for mut sender in senders {
            let status = sender.wait().await?;
            ensure!(status.success(), "a sender failed: {status}");
        }
        ensure!(newest.iter().all(|line| line.done), "a sender ended early");
        Ok((newest.into_iter().fold(Line::default(), Line::plus), kills))
    }

    fn start(
        &self,
        options: &Options,
        endpoint: &str,
        number: u32,
        tell: mpsc::Sender<(usize, Line)>,
    ) -> anyhow::Result<Child> {
        let traces_per_second = f64::from(options.rate) / SPANS_PER_TRACE as f64;
        let arguments = [
            ("--endpoint", endpoint.to_owned()),
            ("--run", self.run.clone()),
            ("--trace-ids", self.trace_ids.to_string()),
            ("--services", options.services.to_string()),
            ("--traces", self.traces.to_string()),
            ("--traces-per-second", traces_per_second.to_string()),
            ("--process", number.to_string()),
            ("--processes", options.processes.to_string()),
            ("--seed", options.seed.to_string()),
        ];
        let arguments = arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let mut sender = Command::new(&options.python)
            .args(["-c", SENDER])
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", options.python.display()))?;
        let mut lines = BufReader::new(sender.stdout.take().context("a pipe")?).lines();
        tokio::spawn(async move {
            while let Ok(Some(text)) = lines.next_line().await {
                let Ok(line) = serde_json::from_str(&text) else { continue };
                if tell.send((number as usize, line)).await.is_err() {
                    break;
                }
            }
        });
        Ok(sender)
    }
}

impl Line {
    fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            requests: self.requests + other.requests,
            calls: self.calls + other.calls,
            rejected: self.rejected + other.rejected,
            given_up: self.given_up + other.given_up,
            done: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Line = Line { acknowledged: 1010, requests: 610, calls: 400, rejected: 10, given_up: 0, done: true };

    fn met(total: Line, requests: u64, calls: u64, kills: u32) -> bool {
        judge(total, Counted { requests, calls }, kills, 3)["objective_met"] == true
    }

    #[test]
    fn only_the_exact_sum_will_do() {
        assert!(met(SENT, 600, 400, 3));
        assert!(!met(SENT, 599, 400, 3), "one lost");
        assert!(!met(SENT, 600, 401, 3), "one counted twice");
        assert!(!met(SENT, 599, 401, 3), "the sum alone is not enough");
        assert!(!met(SENT, 600, 400, 2), "killed too seldom");
        assert!(!met(Line { given_up: 1, ..SENT }, 600, 400, 3), "something was not sent");
        assert!(!met(Line::default(), 0, 0, 3), "nothing was sent");
    }

    #[test]
    fn the_report_says_by_how_much_it_differs() {
        let counted = Counted { requests: 598, calls: 400 };
        assert_eq!(judge(SENT, counted, 3, 3)["difference"], -2);
    }
}
