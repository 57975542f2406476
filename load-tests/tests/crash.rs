//! A small run of `crash` against the built command: a genuine SDK, one kill, every span accounted for.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn no_span_is_lost_or_counted_twice_when_the_member_is_killed() {
    let program = Path::new(env!("CARGO_BIN_EXE_load-tests"));
    let attain = program.with_file_name("attain");
    let python = std::env::var("ATTAIN_TEST_PYTHON").ok().filter(|python| !python.is_empty());
    let (true, Some(python)) = (attain.is_file(), python) else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "attain and ATTAIN_TEST_PYTHON are required");
        println!("SKIPPED: attain is not built, or ATTAIN_TEST_PYTHON is not set");
        return;
    };
    let output = Command::new(program)
        .args(["crash", "--spans", "2000", "--kills", "1", "--rate", "1000", "--processes", "2"])
        .args(["--services", "12", "--trace-idle-seconds", "2", "--python", &python])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["kills"], 1, "{report:#}");
    assert_eq!(report["difference"], 0, "{report:#}");
    assert_eq!(report["spans_stored"], 2000, "{report:#}");
    assert_eq!(report["spans_rejected"], 4, "{report:#}");
}
