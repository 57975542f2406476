use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::Usage;

const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The built `attain` command.
#[derive(Debug, Clone)]
pub struct Attain {
    path: PathBuf,
    cores: Option<String>,
}

impl Attain {
    /// The command at `path`, or where none is given the one beside this process's own.
    ///
    /// # Errors
    /// Where there is none, with how to get one.
    pub fn find(path: Option<&Path>) -> anyhow::Result<Self> {
        let found = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("attain"),
        };
        ensure!(
            found.is_file(),
            "{} is not built; build the workspace, or name another with --attain",
            found.display()
        );
        Ok(Self { path: found, cores: None })
    }

    /// Lets what it starts run on these cores alone, as `taskset` writes them, for example `0` or `0-3`.
    #[must_use]
    pub fn on_cores(self, cores: Option<&str>) -> Self {
        Self { cores: cores.map(str::to_owned), ..self }
    }

    /// Starts it. Settings of the machine do not reach it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, arguments: &[String]) -> anyhow::Result<Process> {
        let mut command = match &self.cores {
            None => Command::new(&self.path),
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cores]).arg(&self.path);
                command
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ATTAIN_")) {
            command.env_remove(name);
        }
        // One line a request is not what is measured.
        command.env("RUST_LOG", "warn");
        let child = command
            .args(arguments)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        let id = child.id().context("the process ended at once")?;
        Ok(Process { child, id })
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    id: u32,
}

impl Process {
    /// What it has used until now.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.id)
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// Where it had ended by itself.
    pub async fn kill_9(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the member ended by itself: {status}");
        }
        self.child.kill().await.context("cannot kill the member")
    }
}

/// An address that nobody holds right now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until the member at a gRPC address says that it is ready.
pub(crate) async fn wait_until_ready(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let channel = Channel::from_shared(address.to_owned())?.connect_lazy();
    while began.elapsed() < READY_WITHIN {
        let status = StatusServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await;
        if status.is_ok_and(|status| status.into_inner().ready) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    bail!("the member at {address} did not become ready within {READY_WITHIN:?}")
}
