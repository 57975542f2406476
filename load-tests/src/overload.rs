//! Many times the calls that the mesh can answer: each is answered or refused soon, memory stays bounded, and when the load
//! ends everything is as before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use attain_members::{Attain, IngestionOptions, Mesh};
use attain_vocabulary::LatencyHistogram;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::calls::{Answer, Caller, Class};

const ANSWER_MS_P99_MAX: f64 = 50.0;
const RECOVERY_SECONDS_MAX: f64 = 5.0;
/// Calls in a row that are accepted in time before the mesh counts as recovered.
const RECOVERED_CALLS: u32 = 10;
/// Share of the load that was asked for, below which this machine could not make it.
const OFFERED_MIN: f64 = 0.95;
/// Most calls that the load keeps open; who has more to make than these has a sender that is too slow.
const OPEN_MAX: usize = 800;
/// Most memory of a member.
const PEAK_MIB_MAX: f64 = 1_024.0;
const TICK: Duration = Duration::from_millis(2);
const MEBIBYTE: f64 = 1024.0 * 1024.0;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The built command; the one beside this command when left out.
    #[arg(long, value_name = "FILE")]
    attain: Option<PathBuf>,
    /// Cores that the members may use, as `taskset` writes them; start this command on the others, so that the load does not
    /// take what the members need.
    #[arg(long, value_name = "LIST")]
    member_cores: Option<String>,
    /// A setting of gateway, graph or ingestion, `section.key=value`; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// The only class to load; each of them when left out.
    #[arg(long, value_enum)]
    class: Option<Class>,
    /// Load over capacity, 2 to 100.
    #[arg(long, default_value_t = 10.0)]
    times: f64,
    /// How long each class is loaded, in seconds, 1 to 600.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long capacity is measured, in seconds, 1 to 60.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    capacity_seconds: u64,
    /// Calls in flight while capacity is measured, 1 to 64.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
}

/// What one class bore.
#[derive(Debug, Default)]
struct Borne {
    capacity_per_second: f64,
    wanted: u64,
    offered: u64,
    /// How long after a call was due it was answered.
    answers: BTreeMap<Answer, LatencyHistogram>,
    /// How long after it was due it was made.
    made_late: Option<LatencyHistogram>,
    recovery_seconds: Option<f64>,
}

/// What the calls of an overload tell when they are answered.
#[derive(Debug, Default)]
struct Told {
    answers: BTreeMap<Answer, LatencyHistogram>,
    made_late: Option<LatencyHistogram>,
}

/// Loads one class after the other.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((2.0..=100.0).contains(&options.times), "--times is 2 to 100");
    let attain = Attain::find(options.attain.as_deref())?.on_cores(options.member_cores.as_deref());
    // The allowance of one caller is not what is loaded here.
    let rates = ["reads_per_minute", "reads_burst", "writes_per_minute", "writes_burst"];
    let mut settings: Vec<String> = rates.iter().map(|rate| format!("gateway.rates.{rate}=100000000")).collect();
    settings.extend(options.settings.iter().cloned());
    let of_ingestion = settings.iter().filter(|setting| setting.starts_with("ingestion.")).cloned().collect();
    let started = IngestionOptions { settings: of_ingestion, ..IngestionOptions::default() };
    let loaded = options.class.map_or(Class::ALL.to_vec(), |class| vec![class]);
    let progress = ProgressBar::new(loaded.len() as u64).with_message("classes");
    let mut classes = Vec::new();
    for class in loaded {
        let mesh = Mesh::start(&attain, &started, &settings).await?;
        let caller = Arc::new(Caller::prepare(&mesh, class).await?);
        let mut borne = Borne { capacity_per_second: capacity(&caller, class, options).await?, ..Borne::default() };
        overload(&caller, class, options, &mut borne).await?;
        borne.recovery_seconds = recovery(&caller, class).await;
        let peaks = mesh.usage()?.map(|(member, usage)| (member, usage.peak_bytes as f64 / MEBIBYTE));
        classes.push((class, borne.report(&peaks), borne.met(&peaks)));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let met = classes.iter().all(|(_, _, met)| *met);
    let of_class = classes.into_iter().map(|(class, report, _)| (class.name().to_owned(), report)).collect();
    Ok(json!({
        "objective": "at ten times capacity 99 % of answers within 50 ms, accepted or refused, each refusal with a time; memory within 1 GiB a member; recovered within 5 s",
        "objective_met": met,
        "times": options.times,
        "classes": Value::Object(of_class),
    }))
}

/// Calls a second with a few in flight.
async fn capacity(caller: &Arc<Caller>, class: Class, options: &Options) -> anyhow::Result<f64> {
    let (began, long) = (Instant::now(), Duration::from_secs(options.capacity_seconds));
    let mut callers = JoinSet::new();
    for _ in 0..options.concurrency {
        let caller = Arc::clone(caller);
        callers.spawn(async move {
            let mut accepted = 0_u64;
            while began.elapsed() < long {
                accepted += u64::from(caller.call(class).await == Answer::Accepted);
            }
            accepted
        });
    }
    let accepted: u64 = callers.join_all().await.into_iter().sum();
    ensure!(accepted > 0, "no call of {} was accepted", class.name());
    Ok(accepted as f64 / began.elapsed().as_secs_f64())
}

/// Makes calls when they are due, whether or not earlier ones were answered.
async fn overload(caller: &Arc<Caller>, class: Class, options: &Options, borne: &mut Borne) -> anyhow::Result<()> {
    let rate = borne.capacity_per_second * options.times;
    borne.wanted = (rate * options.seconds as f64) as u64;
    let told: Arc<Mutex<Told>> = Arc::default();
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    let (began, mut due) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let until = ((rate * began.elapsed().as_secs_f64()) as u64).min(borne.wanted);
        for number in due..until {
            // Without a place the call is not made, and said not to be.
            let Ok(place) = Arc::clone(&open).try_acquire_owned() else { continue };
            borne.offered += 1;
            let (caller, told) = (Arc::clone(caller), Arc::clone(&told));
            let due_at = began + Duration::from_secs_f64(number as f64 / rate);
            tokio::spawn(async move {
                // A call that waits in this process for its turn is late already, as it would be for its caller.
                let late_ms = due_at.elapsed().as_secs_f64() * 1000.0;
                let answer = caller.call(class).await;
                let latency_ms = due_at.elapsed().as_secs_f64() * 1000.0;
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.made_late.get_or_insert_with(LatencyHistogram::empty).record(late_ms);
                told.answers.entry(answer).or_insert_with(LatencyHistogram::empty).record(latency_ms);
                drop(place);
            });
        }
        due = until;
        tokio::time::sleep(TICK).await;
    }
    // Whoever is not answered by now is waited for: late answers count as late.
    let _all = open.acquire_many(OPEN_MAX as u32).await?;
    let Told { answers, made_late } = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    (borne.answers, borne.made_late) = (answers, made_late);
    Ok(())
}

/// Seconds after the load until calls are accepted in time again; `None` where they are not.
async fn recovery(caller: &Caller, class: Class) -> Option<f64> {
    let (began, mut in_a_row, mut since) = (Instant::now(), 0, 0.0);
    while began.elapsed().as_secs_f64() < 2.0 * RECOVERY_SECONDS_MAX {
        let call = Instant::now();
        let accepted = caller.call(class).await == Answer::Accepted;
        if accepted && call.elapsed().as_secs_f64() * 1000.0 <= ANSWER_MS_P99_MAX {
            in_a_row += 1;
            if in_a_row == RECOVERED_CALLS {
                return Some(since);
            }
        } else {
            (in_a_row, since) = (0, began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

impl Borne {
    fn count(&self, answer: Answer) -> u64 {
        self.answers.get(&answer).map_or(0, LatencyHistogram::count)
    }

    fn latency_ms(&self, answer: Answer, quantile: f64) -> Option<f64> {
        self.answers.get(&answer).and_then(|latency| latency.quantile(quantile))
    }

    fn offered_share(&self) -> f64 {
        self.offered as f64 / self.wanted.max(1) as f64
    }

    fn met(&self, peaks: &[(&str, f64)]) -> bool {
        let in_time = [Answer::Accepted, Answer::Refused]
            .into_iter()
            .all(|answer| self.latency_ms(answer, 0.99).is_none_or(|latency| latency <= ANSWER_MS_P99_MAX));
        in_time
            && self.count(Answer::RefusedWithoutTime) == 0
            && self.count(Answer::Failed) == 0
            && self.count(Answer::Accepted) > 0
            && self.offered_share() >= OFFERED_MIN
            && peaks.iter().all(|(_, mib)| *mib <= PEAK_MIB_MAX)
            && self.recovery_seconds.is_some_and(|seconds| seconds <= RECOVERY_SECONDS_MAX)
    }

    fn report(&self, peaks: &[(&str, f64)]) -> Value {
        let of = |answer| {
            json!({
                "count": self.count(answer),
                "latency_ms_p50": self.latency_ms(answer, 0.5),
                "latency_ms_p99": self.latency_ms(answer, 0.99),
            })
        };
        let peak_mib: BTreeMap<&str, f64> = peaks.iter().copied().collect();
        json!({
            "objective_met": self.met(peaks),
            "capacity_per_second": self.capacity_per_second,
            "calls_wanted": self.wanted,
            "calls_offered": self.offered,
            "offered_share": self.offered_share(),
            "made_late_ms_p99": self.made_late.as_ref().and_then(|late| late.quantile(0.99)),
            "accepted": of(Answer::Accepted),
            "refused": of(Answer::Refused),
            "refused_without_time": self.count(Answer::RefusedWithoutTime),
            "failed": self.count(Answer::Failed),
            "recovery_seconds": self.recovery_seconds,
            "peak_mib": peak_mib,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn borne(answers: &[(Answer, f64)]) -> Borne {
        let mut borne = Borne {
            capacity_per_second: 10.0,
            wanted: 100,
            offered: 100,
            recovery_seconds: Some(1.0),
            ..Borne::default()
        };
        for (answer, ms) in answers {
            borne.answers.entry(*answer).or_insert_with(LatencyHistogram::empty).record_many(*ms, 50);
        }
        borne
    }

    #[test]
    fn accepted_and_refused_have_to_be_in_time() {
        let peaks = [("ingestion", 200.0)];
        let good = [(Answer::Accepted, 20.0), (Answer::Refused, 5.0)];
        assert!(borne(&good).met(&peaks));
        for bad in [
            borne(&[(Answer::Accepted, 80.0), (Answer::Refused, 5.0)]),
            borne(&[(Answer::Accepted, 20.0), (Answer::Refused, 80.0)]),
            borne(&[(Answer::Refused, 5.0)]),
            borne(&[(Answer::Accepted, 20.0), (Answer::RefusedWithoutTime, 1.0)]),
            borne(&[(Answer::Accepted, 20.0), (Answer::Failed, 1.0)]),
            Borne { offered: 90, ..borne(&good) },
            Borne { recovery_seconds: None, ..borne(&good) },
        ] {
            assert!(!bad.met(&peaks), "{bad:?}");
        }
        assert!(!borne(&good).met(&[("ingestion", 2_000.0)]));
    }
}
