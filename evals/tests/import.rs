//! Imports of data in the shape of the public sets, small enough for every run, against the built command.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

const SPANS: &str = "\
TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration
007a9a8c23e5b028ade0a0dbad006969,b0699b90efd97a03,root,frontend-579b9bff58-t2dbm,Recv.,1661141965391007814,1661141965582538762,7
007a9a8c23e5b028ade0a0dbad006969,1c8aa79358e98f55,b0699b90efd97a03,frontend-579b9bff58-t2dbm,GetCart,1661141965391183352,1661141965405122831,7
007a9a8c23e5b028ade0a0dbad006969,4bcb9db143710e19,1c8aa79358e98f55,cartservice-579f59597d-wc2lz,GetCart,1661141965391283352,1661141965405022831,7
";
const DEPENDENCIES: &str = "\
Source,Target,Weight
frontend,cartservice,1
cartservice,rateservice,1
frontend,33.33.33.76,1
";
const METRICS: &str = "\
microservice,site,site,site,site,site,site,pay ments,pay ments
metric,requests,availability,latency,latency,latency,latency,requests,availability
statistic,Sum,Average,p50,p90,p95,p99,Sum,Average
unix_timestamp,,,,,,,,
1692608400.0,488.0,97.336065573770,0.05,0.25,0.32,0.49,10.0,100.0
1692608700.0,490.0,97.551020408163,0.05,0.25,0.32,0.49,10.0,
";
const GRAPH: &str = "\
microservice,site,pay ments
site,0.0,1.0
pay ments,0.0,0.0
";

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("attain-test-").tempdir().unwrap()
}

fn pack(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut packed = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

/// What `evals import` prints, where the command that it starts is built.
fn import(set: &str, data: &Path) -> Option<(Value, bool)> {
    let program = Path::new(env!("CARGO_BIN_EXE_evals"));
    if !program.with_file_name("attain").is_file() {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "attain is required and not built");
        println!("SKIPPED: attain is not built");
        return None;
    }
    let output = Command::new(program).args(["import", set, "--data"]).arg(data).output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Some((report, output.status.success()))
}

#[test]
fn spans_become_the_edges_that_they_show() {
    let data = folder();
    pack(&data.path().join("2022-08-22/trace/04_20_trace.csv.gz"), SPANS);
    pack(&data.path().join("2022-08-22/metric/dependency.csv.gz"), DEPENDENCIES);
    let Some((report, met)) = import("nezha", data.path()) else { return };
    assert!(met, "{report:#}");
    assert_eq!(report["edges_against_dependency_csv"]["precision"], 1.0, "{report:#}");
    assert_eq!(report["edges_against_dependency_csv"]["recall"], 0.5, "{report:#}");
    assert_eq!(report["requests_counted"], 2, "{report:#}");
}

#[test]
fn metrics_and_graph_come_back_as_they_were_sent() {
    let data = folder();
    std::fs::create_dir(data.path().join("low_traffic")).unwrap();
    std::fs::write(data.path().join("low_traffic/metrics.csv"), METRICS).unwrap();
    std::fs::write(data.path().join("low_traffic/graph.csv"), GRAPH).unwrap();
    let Some((report, met)) = import("petshop", data.path()) else { return };
    assert!(met, "{report:#}");
    assert_eq!(report["buckets_read_back_the_same"], 3, "{report:#}");
    assert_eq!(report["buckets_not_sent"]["availability was not measured"], 1, "{report:#}");
    assert_eq!(report["names_bent"]["pay ments"], "pay-ments", "{report:#}");
}
