//! An example of a crate in a process of its own, to be killed.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A server that prints its address on its first line. Killed when dropped.
pub(crate) struct Example {
    process: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl Example {
    /// Starts it with what `prepare` adds to its command, and waits for its address.
    pub(crate) fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(path(name));
        prepare(command.stdout(Stdio::piped()));
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, url: format!("http://{}", address.trim()) }
    }

    /// SIGKILL, wherever it is.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Examples are built next to the folder of the test binaries.
fn path(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is built together with all tests", path.display());
    path
}
