//! Runs ingestion by itself on a folder and reads a Prometheus-compatible server, until the process ends.
//!
//! ```text
//! cargo run -p attain-ingestion --example follow -- FOLDER URL MAPPING_FILE [NOW_MS]
//! ```
//!
//! Prints the address of its gRPC service. `NOW_MS` holds the clock, so that the same past is read each time.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use attain_ingestion::{Config, Listeners, PrometheusConfig};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, url, mapping_file, now_ms @ ..] = &arguments[..] else {
        return Err("usage: follow FOLDER URL MAPPING_FILE [NOW_MS]".into());
    };
    let clock = match now_ms.first() {
        Some(now_ms) => Clock::held(now_ms.parse()?),
        None => Clock::system(),
    };
    let prometheus = PrometheusConfig {
        url: url.clone(),
        mapping_file: mapping_file.into(),
        lag_seconds: 0,
        interval_seconds: 1,
        ..PrometheusConfig::default()
    };
    let database_url = format!("sqlite:{}", Path::new(folder).join("ingestion.db").display());
    let config = Config { database_url, prometheus: Some(prometheus), ..Config::default() };
    let free = async || TcpListener::bind("127.0.0.1:0").await;
    let listeners = Listeners { mesh: free().await?, otlp: free().await?, otlp_http: free().await? };
    println!("http://{}", listeners.mesh.local_addr()?);
    attain_ingestion::serve(config, listeners, clock, Shutdown::new()).await?;
    Ok(())
}
