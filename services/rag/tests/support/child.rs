//! The service in a process of its own, to be killed.

use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Caller;

/// A service in a process of its own. Killed when dropped.
pub struct ChildService {
    process: Child,
    caller: Caller,
}

impl Deref for ChildService {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl ChildService {
    /// Starts it with the settings of a TOML text and these environment variables.
    pub fn start(settings_file: &Path, settings: &str, environment: &[(&str, &Path)]) -> Self {
        std::fs::write(settings_file, settings).unwrap();
        let mut command = Command::new(example("rag"));
        command.arg(settings_file).stdout(Stdio::piped());
        for name in ["HF_ENDPOINT", "XDG_CACHE_HOME", "HTTP_PROXY", "http_proxy"] {
            command.env_remove(name);
        }
        let mut process = command.envs(environment.iter().copied()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, caller: Caller::of(&format!("http://{}", address.trim())) }
    }

    /// SIGKILL, wherever it is.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for ChildService {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Examples are built next to the folder of the test binaries.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is built together with all tests", path.display());
    path
}
