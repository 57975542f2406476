//! `attain`: the mesh in one process, its members one by one, and a client for every route.
//!
//! The map: [`cli`] says what can be asked for; [`mesh`] starts the members, all or one; [`demo`] adds a simulated system
//! and a tour; [`client`] speaks REST to a gateway; [`output`] alone prints. This is the only crate that knows every
//! service.

mod check_mapping;
mod cli;
mod client;
mod demo;
mod health;
mod mesh;
mod output;

use std::process::ExitCode;

use attain_runtime::Shutdown;
use clap::Parser as _;

use crate::cli::{Cli, Command};

/// Decoding spans allocates much and in small pieces; with the system's allocator that takes half of the processor's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Every TLS client of the process uses the same provider; a second call would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let shutdown = Shutdown::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));
    let outcome = match cli.command {
        Command::Up(options) => mesh::up(options, cli.format, shutdown).await,
        Command::Serve(options) => mesh::serve_one(options, shutdown).await,
        Command::Demo(options) => demo::run(options, cli.format, shutdown).await,
        Command::Health(options) => health::ask(&options.address, cli.format).await,
        Command::CheckMapping(options) => check_mapping::run(&options.file, cli.format),
        Command::Client(command) => client::run(&cli.connection, command, cli.format).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(&error, cli.format);
            ExitCode::FAILURE
        }
    }
}

/// The first signal drains; a second one ends the process as the system would.
async fn stop_on_signal(shutdown: Shutdown) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut received = async || {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    received().await;
    shutdown.cancel();
    received().await;
    std::process::exit(130);
}
