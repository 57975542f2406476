//! A client for every route of the gateway.

mod commands;
mod models;
mod questions;
mod request;
mod words;

pub(crate) use commands::Command;
pub(crate) use request::Gateway;

use crate::cli::{Connection, Format};
use crate::output;

/// Sending more than this may take over a second, and says so.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// Sends one command and prints the answer.
pub(crate) async fn run(connection: &Connection, command: Command, format: Format) -> anyhow::Result<()> {
    let gateway = Gateway::new(&connection.url, connection.api_key.as_deref())?;
    let is_recommendation = matches!(command, Command::Recommend { .. });
    let is_status = matches!(command, Command::Status);
    let request = command.request()?;
    let large = request.body.as_ref().is_some_and(|body| body.len() >= LARGE_BODY_BYTES);
    let progress = large.then(|| output::Progress::start("sending the file and waiting until it is kept"));
    let answer = gateway.send(&request).await;
    if let Some(progress) = progress {
        progress.end();
    }
    let answer = answer?;
    if is_recommendation && format == Format::Text {
        output::recommendation(&answer["recommendation"]);
    } else {
        output::answer(&answer, format);
    }
    if is_status && answer["ready"] != true {
        anyhow::bail!("the mesh is not ready");
    }
    Ok(())
}
