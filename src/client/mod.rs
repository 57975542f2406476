//! A client for every route of the gateway.

mod commands;
mod request;

pub(crate) use commands::Command;
pub(crate) use request::Gateway;

use crate::cli::{Connection, Format};
use crate::output;

/// Sends one command and prints the answer.
pub(crate) async fn run(connection: &Connection, command: Command, format: Format) -> anyhow::Result<()> {
    let gateway = Gateway::new(&connection.url, connection.api_key.as_deref())?;
    let is_recommendation = matches!(command, Command::Recommend { .. });
    let is_status = matches!(command, Command::Status);
    let answer = gateway.send(&command.request()?).await?;
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
