//! Runs the knowledge service alone, on a loopback port that the system chooses, until it is ended.
//!
//! `rag FILE` reads the settings of the section `[rag]` from a TOML file without that heading, prints the address on a line and
//! serves. Tests run it as a process of its own to kill.

use std::error::Error;
use std::io::Write;

use attain_rag::Config;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: rag FILE")?;
    let config: Config = toml::from_str(&std::fs::read_to_string(path)?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    attain_rag::serve(config, listener, Clock::system(), Shutdown::new()).await?;
    Ok(())
}
