//! The demo: the mesh, a simulated shop, and a tour of what is recommended for it.
//!
//! [`load`] sends the simulated telemetry over gRPC as an internal service would; [`tour`] reads everything back over
//! REST as a developer would.

mod knowledge;
mod load;
mod tour;

use std::path::PathBuf;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::telemetry::{self, TelemetryConfig};

use crate::cli::{DemoOptions, Format};
use crate::mesh::{self, Doors, Mesh};
use crate::output;

/// Runs the mesh, loads the shop, walks through it; then goes on serving unless it was asked to end.
pub(crate) async fn run(options: DemoOptions, format: Format, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut sources = mesh::sources(&options.settings);
    // A tour is for reading; whoever wants the log asks for it.
    sources.defaults.push("telemetry.log_filter=warn".to_owned());
    let _telemetry = telemetry::start("demo", &sources.section::<TelemetryConfig>("telemetry")?)?;
    let folder = Folder::new(options.data_dir)?;
    let doors = Doors { gateway: options.listen, otlp: options.otlp_listen, otlp_http: options.otlp_http_listen };
    let mesh = Mesh::start(&folder.path, doors, sources, shutdown.clone()).await?;
    let addresses = mesh.addresses;
    let running = tokio::spawn(mesh.run());

    let guided = async {
        mesh::wait_until_ready(addresses.gateway).await?;
        load::shop(&addresses, options.seed, Clock::system().now_ms()).await?;
        tour::walk(&addresses, format).await
    };
    let outcome = tokio::select! {
        outcome = guided => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    if options.once || outcome.is_err() {
        shutdown.cancel();
    } else if format == Format::Text && !shutdown.is_cancelled() {
        output::lines("\nThe mesh goes on serving; Ctrl-C drains and ends.");
    }
    let drained = running.await?;
    outcome.and(drained)
}

/// Where the demo keeps its data; a temporary folder is removed when this is dropped.
struct Folder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn new(named: Option<PathBuf>) -> anyhow::Result<Self> {
        match named {
            Some(path) => Ok(Self { path, _temporary: None }),
            None => {
                let temporary = tempfile::Builder::new().prefix("attain-demo-").tempdir()?;
                Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) })
            }
        }
    }
}
