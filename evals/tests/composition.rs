//! Composing on two small systems of the project's own making, kept in `evals/data/composition`, against the built command.
//!
//! The data is drawn with whole numbers only, so that every machine draws the same. In both systems `cart` is three times as
//! slow in the later half, which is the half that is set aside. In `together` the parts of a request are mostly fast or
//! slow at once, in `apart` each is for itself. A third system, `struck`, is not kept, because it does not meet the objective:
//! there a fault strikes calls of `cart` whatever the request.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[derive(Clone, Copy)]
struct System {
    name: &'static str,
    /// How much of the variation of a self time is the request's.
    tenths: u64,
    /// What becomes of a self time of `cart` in the later half.
    cart: fn(u64, &mut ChaCha8Rng) -> u64,
}

const KEPT: [System; 2] = [
    System { name: "apart", tenths: 1, cart: |self_ns, _| 3 * self_ns },
    System { name: "together", tenths: 9, cart: |self_ns, _| 3 * self_ns },
];
const STRUCK: System = System {
    name: "struck",
    tenths: 9,
    cart: |self_ns, random| self_ns + if random.random_range(0..10) < 4 { 60_000 * US } else { 0 },
};
const MINUTES: u64 = 4;
const REQUESTS_A_MINUTE: u64 = 100;
const START_NS: u64 = 1_700_000_040_000_000_000;
const US: u64 = 1_000;

struct Request<'a> {
    id: String,
    text: &'a mut String,
}

impl Request<'_> {
    fn span(&mut self, id: u64, parent: &str, service: &str, start_ns: u64, duration_ns: u64) {
        let (trace, end_ns) = (&self.id, start_ns + duration_ns);
        let us = duration_ns / US;
        writeln!(self.text, "{trace},{id},{parent},{service}-5d8c7f-x2x4z,call,{start_ns},{end_ns},{us}").unwrap();
    }
}

/// From 0 to 3,000, most of it small.
fn skewed(random: &mut ChaCha8Rng) -> u64 {
    random.random_range(0..1_000u64).pow(3) / 333_333
}

/// The spans of one minute: a frontend that looks into the cart, and for every third request then pays and ships at once.
fn minute(random: &mut ChaCha8Rng, minute: u64, system: System) -> String {
    let tenths = system.tenths;
    let mut text =
        String::from("TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n");
    for at in 0..REQUESTS_A_MINUTE {
        let start_ns = START_NS + minute * 60_000_000_000 + at * 590_000_000;
        let common = skewed(random);
        let mut self_ns =
            |base_us: u64| base_us * US * (600 + (tenths * common + (10 - tenths) * skewed(random)) / 10) / 1_000;
        let (own, pay, ship) = (self_ns(8_000), self_ns(20_000), self_ns(15_000));
        let mut cart = self_ns(10_000);
        if minute >= MINUTES / 2 {
            cart = (system.cart)(cart, random);
        }
        let mut request = Request { id: format!("{minute}-{at}"), text: &mut text };
        let buys = at % 3 == 0;
        let rest = if buys { pay.max(ship) } else { 0 };
        request.span(1, "root", "frontend", start_ns, own + cart + rest);
        request.span(2, "1", "cart", start_ns + own / 2, cart);
        if buys {
            request.span(3, "1", "payment", start_ns + own / 2 + cart, pay);
            request.span(4, "1", "shipping", start_ns + own / 2 + cart, ship);
        }
    }
    text
}

/// Files of spans of a system, by their path below the folder of data.
fn files(system: System) -> Vec<(PathBuf, String)> {
    let mut random = ChaCha8Rng::seed_from_u64(system.tenths);
    let path = |at: u64| Path::new(system.name).join(format!("trace/00_0{at}_trace.csv.gz"));
    (0..MINUTES).map(|at| (path(at), minute(&mut random, at, system))).collect()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut packed = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

/// What `evals composition` prints, and whether it says that the objective is met.
fn compose(spans: &Path) -> (Value, bool) {
    let program = Path::new(env!("CARGO_BIN_EXE_evals"));
    let output = Command::new(program).args(["composition", "--spans"]).arg(spans).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.success())
}

fn number(of: &Value, quantile: &str) -> f64 {
    of[quantile].as_f64().unwrap()
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/composition")
}

/// Writes the data anew where `ATTAIN_WRITE_DATA` is set.
#[test]
fn the_data_that_is_kept_is_what_is_drawn() {
    for (path, text) in KEPT.into_iter().flat_map(files) {
        let path = data().join(path);
        if std::env::var_os("ATTAIN_WRITE_DATA").is_some() {
            write(&path, &text);
        }
        let mut kept = String::new();
        GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_string(&mut kept).unwrap();
        assert!(kept == text, "{} differs; ATTAIN_WRITE_DATA=1 writes it anew", path.display());
    }
}

#[test]
fn a_slower_part_is_composed_and_not_foreseen() {
    let (report, succeeded) = compose(&data());
    assert!(report["objective_met"] == true && succeeded, "{report:#}");
    for root in report["roots"].as_array().unwrap() {
        assert_eq!((&root["traces_training"], &root["traces_set_aside"]), (&200.into(), &200.into()));
        let (composed, independent) = (&root["error"], &root["baselines"]["independent"]);
        assert!(number(&root["forecast"]["replay"], "p95") > 0.2, "{root:#}");
        if root["system"] == "together" {
            assert!(number(independent, "p95") > 2.0 * number(composed, "p95"), "{root:#}");
        }
    }
}

#[test]
fn a_fault_that_strikes_calls_whatever_the_request_is_composed_too_high() {
    let folder = tempfile::Builder::new().prefix("attain-test-").tempdir().unwrap();
    for (path, text) in files(STRUCK) {
        write(&folder.path().join(path), &text);
    }
    let (report, succeeded) = compose(folder.path());
    assert!(report["objective_met"] == false && !succeeded, "{report:#}");
    let root = &report["roots"][0];
    assert!(number(&root["bias"], "p95") > number(&root["noise"], "p95"), "{root:#}");
}
