//! The service in a process of its own, to be killed.

use std::ops::Deref;
use std::path::Path;

use super::Caller;
use super::example::Example;

/// A service in a process of its own. Killed when dropped.
pub struct ChildService {
    process: Example,
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
        let process = Example::start("rag", |command| {
            for name in ["HF_ENDPOINT", "XDG_CACHE_HOME", "HTTP_PROXY", "http_proxy"] {
                command.env_remove(name);
            }
            command.arg(settings_file).envs(environment.iter().copied());
        });
        let caller = Caller::of(&process.url);
        Self { process, caller }
    }

    /// SIGKILL, wherever it is.
    pub fn kill(mut self) {
        self.process.kill();
    }
}
