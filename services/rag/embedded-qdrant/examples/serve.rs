//! Serves a folder on a loopback port that the system chooses, until it is ended.
//!
//! `serve DIR` reads the API key from `ATTAIN_EMBEDDED_QDRANT_API_KEY`, prints the address on a line and serves. The crash
//! test runs it as a process of its own to kill.

use std::error::Error;
use std::io::Write;

use attain_embedded_qdrant::{EmbeddedQdrant, Options};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data_dir = std::env::args().nth(1).ok_or("usage: serve DIR")?;
    let api_key = std::env::var("ATTAIN_EMBEDDED_QDRANT_API_KEY")?;
    let server = EmbeddedQdrant::open(Options::new(data_dir, api_key)?).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    server.serve(listener, std::future::pending()).await?;
    Ok(())
}
