//! One dependency graph in one REST call, through gateway, ingestion and graph.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use attain_members::{Attain, IngestionOptions, Mesh, Usage, get, post, rest_client};
use clap::Args;
use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const WALL_MS_MAX: f64 = 1_000.0;
const CPU_MS_MAX: f64 = 150.0;
/// What follows the answer (the graph engine's swap, a checkpoint) is over after this.
const QUIET: Duration = Duration::from_secs(2);
/// How long it is looked what the members spend while nobody asks.
const IDLE: Duration = Duration::from_secs(4);
const ROUTE: &str = "/api/v1/services/dependencies";
/// Changes of one edge each, for processor time is read in steps that are longer than one of them takes.
const CHANGES: u32 = 40;
/// Between two of them: longer than the graph engine waits for a burst to go on, so that it follows each.
const CHANGE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The built command; the one beside this command when left out.
    #[arg(long, value_name = "FILE")]
    attain: Option<PathBuf>,
    /// PostgreSQL in place of an embedded database; one for each run, and each empty.
    #[arg(long = "database-url", value_name = "URL")]
    database_urls: Vec<String>,
    /// Services, 10 to 20,000.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    services: u32,
    /// Edges, 10 to 60,000.
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    edges: u32,
    /// Fresh meshes that it is sent to, 1 to 20; the median is judged.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// Seed of the graph.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What one call took.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Call {
    wall_ms: f64,
    spent: Spent,
}

/// Processor time of the members, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spent {
    gateway_ms: f64,
    ingestion_ms: f64,
    graph_ms: f64,
}

/// Sends the graph to one fresh mesh after the other, again to each, and changes of single edges.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let attain = Attain::find(options.attain.as_deref())?;
    let (given, runs) = (options.database_urls.len(), options.runs as usize);
    let different: BTreeSet<&String> = options.database_urls.iter().collect();
    ensure!(
        given == 0 || (given == runs && different.len() == runs),
        "--database-url names an empty database for each of the {runs} runs: in the same one the graph would be there already"
    );
    let body = graph(options).to_string();
    let progress = ProgressBar::new(options.runs.into()).with_message("meshes");
    let (mut first, mut again, mut changed, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let database_url = options.database_urls.get(run).cloned();
        let started = IngestionOptions { database_url, ..IngestionOptions::default() };
        let mesh = Mesh::start(&attain, &started, &[]).await?;
        let client = rest_client();
        let (status, there) = get(&client, &format!("{}/api/v1/services", mesh.gateway_url)).await?;
        let services = there["services"].as_array().map_or(0, Vec::len);
        ensure!(status == 200 && services == 0, "the database of run {run} is not empty: {there}");
        // Connections and prepared statements are not the graph's cost.
        let small = json!({"services": [{"id": "warm-up", "depends_on": ["warm-up-database"]}]}).to_string();
        let (status, answer) = post(&client, &format!("{}{ROUTE}", mesh.gateway_url), small).await?;
        ensure!(status == 200, "the first call was refused: {answer}");
        tokio::time::sleep(QUIET).await;
        idle.push(spent_in(&mesh, IDLE).await?);
        first.push(send(&mesh, &client, &body, options).await?);
        again.push(send(&mesh, &client, &body, options).await?);
        changed.push(change(&mesh, &client, options).await?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    // Of a second, and less than one step of what can be read of a single run.
    let idle = Spent::mean(&idle).times(1.0 / IDLE.as_secs_f64());
    let without_idle = |calls: Vec<Call>| calls.into_iter().map(|call| call.without(idle)).collect::<Vec<_>>();
    let (first, again) = (without_idle(first), without_idle(again));
    let changed =
        changed.iter().map(|(call, time)| call.without_idle_in(idle, *time).divided(CHANGES)).collect::<Vec<_>>();
    let mut report = judge(&first);
    report["cpu_ms_idle_per_second"] = json!(idle.sum());
    report["services"] = json!(options.services);
    report["edges"] = json!(options.edges);
    report["body_bytes"] = json!(body.len());
    report["each"] = first.iter().map(report_call).collect();
    report["the_same_graph_again"] = again.iter().map(report_call).collect();
    report["one_edge_changed"] = changed.iter().map(report_call).collect();
    Ok(report)
}

async fn send(mesh: &Mesh, client: &reqwest::Client, body: &str, options: &Options) -> anyhow::Result<Call> {
    let before = mesh.usage()?;
    let began = Instant::now();
    let (status, answer) = post(client, &format!("{}{ROUTE}", mesh.gateway_url), body.to_owned()).await?;
    let wall_ms = began.elapsed().as_secs_f64() * 1000.0;
    ensure!(status == 200, "{status}: {answer}");
    ensure!(answer["accepted_service_count"] == options.services, "services are missing: {answer}");
    ensure!(answer["accepted_dependency_count"] == options.edges, "edges are missing: {answer}");
    tokio::time::sleep(QUIET).await;
    Ok(Call { wall_ms, spent: Spent::between(&before, &mesh.usage()?) })
}

/// Changes one edge of the graph after the other; what all took, and the time in which.
async fn change(mesh: &Mesh, client: &reqwest::Client, options: &Options) -> anyhow::Result<(Call, Duration)> {
    let graph = graph(options);
    let edges = graph["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let (before, began, mut wall) = (mesh.usage()?, Instant::now(), Duration::ZERO);
    for number in 0..CHANGES {
        let mut edge = edges[number as usize * edges.len() / CHANGES as usize].clone();
        edge["call_fraction"] = json!(0.5);
        let body = json!({"dependencies": [edge]}).to_string();
        let sent = Instant::now();
        let (status, answer) = post(client, &format!("{}{ROUTE}", mesh.gateway_url), body).await?;
        wall += sent.elapsed();
        ensure!(status == 200 && answer["accepted_dependency_count"] == 1, "{status}: {answer}");
        tokio::time::sleep(CHANGE_PAUSE).await;
    }
    tokio::time::sleep(QUIET).await;
    let spent = Spent::between(&before, &mesh.usage()?);
    Ok((Call { wall_ms: wall.as_secs_f64() * 1000.0, spent }, began.elapsed()))
}

async fn spent_in(mesh: &Mesh, time: Duration) -> anyhow::Result<Spent> {
    let before = mesh.usage()?;
    tokio::time::sleep(time).await;
    Ok(Spent::between(&before, &mesh.usage()?))
}

type Usages = [(&'static str, Usage); 3];

impl Spent {
    fn between(before: &Usages, after: &Usages) -> Self {
        let spent = |place: usize| after[place].1.cpu_since(&before[place].1) * 1000.0;
        Self { gateway_ms: spent(0), ingestion_ms: spent(1), graph_ms: spent(2) }
    }

    fn mean(all: &[Self]) -> Self {
        let sum = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self { gateway_ms: sum(|s| s.gateway_ms), ingestion_ms: sum(|s| s.ingestion_ms), graph_ms: sum(|s| s.graph_ms) }
    }

    fn times(self, factor: f64) -> Self {
        let Self { gateway_ms, ingestion_ms, graph_ms } = self;
        Self { gateway_ms: gateway_ms * factor, ingestion_ms: ingestion_ms * factor, graph_ms: graph_ms * factor }
    }

    fn sum(&self) -> f64 {
        self.gateway_ms + self.ingestion_ms + self.graph_ms
    }
}

impl Call {
    fn cpu_ms(&self) -> f64 {
        self.spent.sum()
    }

    /// What the call itself took of members that spend so much a second while nobody asks for anything.
    fn without(self, idle_per_second: Spent) -> Self {
        self.without_idle_in(idle_per_second, Duration::from_secs_f64(self.wall_ms / 1000.0) + QUIET)
    }

    fn without_idle_in(self, idle_per_second: Spent, time: Duration) -> Self {
        let idle = idle_per_second.times(time.as_secs_f64());
        let Spent { gateway_ms, ingestion_ms, graph_ms } = self.spent;
        let spent = Spent {
            gateway_ms: gateway_ms - idle.gateway_ms,
            ingestion_ms: ingestion_ms - idle.ingestion_ms,
            graph_ms: graph_ms - idle.graph_ms,
        };
        Self { spent, ..self }
    }

    /// One of so many calls.
    fn divided(self, calls: u32) -> Self {
        let share = 1.0 / f64::from(calls);
        Self { wall_ms: self.wall_ms * share, spent: self.spent.times(share) }
    }
}

fn report_call(call: &Call) -> Value {
    json!({
        "wall_ms": call.wall_ms,
        "cpu_ms": call.cpu_ms(),
        "cpu_ms_gateway": call.spent.gateway_ms,
        "cpu_ms_ingestion": call.spent.ingestion_ms,
        "cpu_ms_graph": call.spent.graph_ms,
    })
}

fn judge(calls: &[Call]) -> Value {
    let (wall_ms, cpu_ms) = (median(calls, |call| call.wall_ms), median(calls, Call::cpu_ms));
    json!({
        "objective": "a graph of 5,000 services and 15,000 edges within 1 s and 150 ms of processor time, gateway, ingestion and graph together",
        "objective_met": wall_ms < WALL_MS_MAX && cpu_ms < CPU_MS_MAX,
        "wall_ms": wall_ms,
        "cpu_ms": cpu_ms,
        "cpu_ms_least": calls.iter().map(Call::cpu_ms).reduce(f64::min),
        "cpu_ms_gateway": median(calls, |call| call.spent.gateway_ms),
        "cpu_ms_ingestion": median(calls, |call| call.spent.ingestion_ms),
        "cpu_ms_graph": median(calls, |call| call.spent.graph_ms),
    })
}

fn median(calls: &[Call], of: impl Fn(&Call) -> f64) -> f64 {
    let mut values: Vec<f64> = calls.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
}

/// Layers that call downwards, and a few edges back that close cycles.
fn graph(options: &Options) -> Value {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let name = |number: u32| format!("team-{}/service-{number}", number % 97);
    let services: Vec<Value> = (0..options.services)
        .map(|number| {
            json!({
                "id": name(number),
                "display_name": format!("Service {number}"),
                "tier": format!("tier_{}", number % 4 + 1),
                "owner": format!("team-{}", number % 97),
                "region": "eu-west-1",
            })
        })
        .collect();
    let mut pairs = BTreeSet::new();
    while pairs.len() < options.edges as usize {
        let (a, b) = (random.random_range(0..options.services), random.random_range(0..options.services));
        let backwards = pairs.len() % 1_000 == 999;
        if a != b {
            pairs.insert(if backwards { (a.max(b), a.min(b)) } else { (a.min(b), a.max(b)) });
        }
    }
    let edges: Vec<Value> = pairs
        .into_iter()
        .map(|(caller, callee)| {
            json!({
                "caller_id": name(caller),
                "callee_id": name(callee),
                "mode": if callee % 5 == 0 { "soft" } else { "hard" },
                "call_fraction": 0.8,
                "protocol": "grpc",
                "timeout_ms": 500,
            })
        })
        .collect();
    json!({"services": services, "dependencies": edges})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64) -> Options {
        Options { attain: None, database_urls: Vec::new(), services: 100, edges: 300, runs: 1, seed }
    }

    #[test]
    fn the_same_seed_gives_the_same_graph_of_that_size() {
        let one = graph(&options(1));
        assert_eq!(one, graph(&options(1)));
        assert_ne!(one, graph(&options(2)));
        assert_eq!(one["services"].as_array().expect("a list").len(), 100);
        assert_eq!(one["dependencies"].as_array().expect("a list").len(), 300);
    }

    #[tokio::test]
    async fn a_graph_is_never_sent_to_a_database_that_has_it_already() {
        let this = std::env::current_exe().expect("this program");
        let url = |n: u32| format!("postgres://nowhere.invalid/{n}");
        for database_urls in [vec![url(1)], vec![url(1), url(1), url(2)]] {
            let refused = run(&Options { attain: Some(this.clone()), database_urls, runs: 3, ..options(1) }).await;
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains("for each of the 3 runs"), "{refused}");
        }
    }

    #[test]
    fn what_idle_members_spend_is_not_the_calls() {
        let idle = [0.0, 10.0].map(|ms| Spent { gateway_ms: 0.0, ingestion_ms: ms, graph_ms: ms / 2.0 });
        let per_second = Spent::mean(&idle).times(0.5);
        assert_eq!((per_second.ingestion_ms, per_second.sum()), (2.5, 3.75));
        let spent = Spent { gateway_ms: 20.0, ingestion_ms: 100.0, graph_ms: 30.0 };
        let call = Call { wall_ms: 2_000.0, spent }.without(per_second);
        assert_eq!(call.spent, Spent { gateway_ms: 20.0, ingestion_ms: 90.0, graph_ms: 25.0 });
        let each = call.divided(5);
        assert_eq!((each.wall_ms, each.spent.ingestion_ms, each.cpu_ms()), (400.0, 18.0, 27.0));
    }

    #[test]
    fn the_median_is_judged_by_wall_and_by_processor_time() {
        let call =
            |wall_ms, gateway_ms| Call { wall_ms, spent: Spent { gateway_ms, ingestion_ms: 20.0, graph_ms: 10.0 } };
        let met = |calls: &[Call]| judge(calls)["objective_met"] == true;
        let calls = [call(400.0, 100.0), call(500.0, 110.0), call(5_000.0, 1_000.0)];
        assert!(met(&calls));
        assert_eq!(judge(&calls)["cpu_ms_least"], 130.0);
        assert!(!met(&[call(400.0, 121.0)]));
        assert!(!met(&[call(1_001.0, 10.0)]));
        assert!(!met(&[]));
    }
}
