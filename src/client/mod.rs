//! A client for every route of the gateway.

mod ask;
mod audit;
mod commands;
mod experiments;
mod feedback;
mod knowledge;
mod lifecycle;
mod models;
mod questions;
mod request;
mod slos;
mod sync;
mod words;

pub(crate) use commands::Command;
pub(crate) use request::Gateway;

use std::time::Duration;

use crate::cli::{Connection, Format};
use crate::output;
use knowledge::KnowledgeCommand;
use slos::SloCommand;

/// Sending more than this may take over a second, and says so.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// Sends one command and prints the answer.
pub(crate) async fn run(connection: &Connection, command: Command, format: Format) -> anyhow::Result<()> {
    let gateway = Gateway::new(&connection.url, connection.api_key.as_deref())?;
    if let Command::Audit { what: Some(what), .. } = command {
        return audit::run(&gateway, what, format).await;
    }
    if let Command::Knowledge(KnowledgeCommand::Sync {
        folder,
        prefix,
        delete_missing,
        allow_emptied,
        watch,
        interval_seconds,
    }) = &command
    {
        let interval = watch.then(|| Duration::from_secs(*interval_seconds));
        let (delete_missing, allow_emptied) = (*delete_missing, *allow_emptied);
        let options = sync::Options { folder, prefix, delete_missing, allow_emptied, interval };
        return sync::run(&gateway, &options, format).await;
    }
    let is_recommendation = matches!(command, Command::Recommend { .. });
    let is_calibration = matches!(command, Command::Calibration { .. });
    let exported = match &command {
        Command::OfSlos(SloCommand::Export { out, .. }) => Some(out.clone()),
        _ => None,
    };
    let is_answer = matches!(command, Command::Ask(_));
    let is_budgets = matches!(command, Command::OfSlos(SloCommand::Budgets { .. }));
    let is_alerts = matches!(command, Command::OfSlos(SloCommand::Alerts { .. }));
    let is_import = matches!(command, Command::OfSlos(SloCommand::ImportSlos { .. }));
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
    } else if is_answer && format == Format::Text {
        output::answered(&answer);
    } else if is_calibration && format == Format::Text {
        output::calibration(&answer);
    } else if is_budgets && format == Format::Text {
        output::budgets(&answer);
    } else if is_alerts && format == Format::Text {
        output::alerts(&answer);
    } else if let Some(out) = exported.filter(|out| out.is_some() || format == Format::Text) {
        output::exported(&answer, out.as_deref())?;
    } else {
        output::answer(&answer, format);
    }
    if let Some(refused) = answer["refused_count"].as_u64().filter(|refused| is_import && *refused > 0) {
        anyhow::bail!("{refused} documents were refused");
    }
    if let Some(failed) = answer["failed_count"].as_u64().filter(|failed| is_import && *failed > 0) {
        anyhow::bail!("{failed} documents could not be taken now; send the file again");
    }
    if is_status && answer["ready"] != true {
        anyhow::bail!("the mesh is not ready");
    }
    Ok(())
}
