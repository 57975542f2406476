//! Where the shipped model is on no disk: it comes from the hub that the settings name, in the background, while words answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Config;
use crate::embedding::hub::{self, Hub};
use crate::embedding::{cache_folder, library_folder};
use crate::knowledge::Knowledge;

/// Pause before a download that was given up is begun again; each is twice as long as the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// Steps in which it is told how far it is, in percent.
const TOLD_PERCENT: u64 = 5;

/// A download under way, or none. It ends with this value.
#[derive(Debug, Default)]
pub(crate) struct Download(JoinSet<()>);

impl Download {
    /// Begins one where there is a hub to ask and a use for it, and says in the status of the service what becomes of it.
    /// `lacking` says why there is no model.
    pub(crate) fn begin(knowledge: &Arc<Knowledge>, config: &Config, lacking: &str) -> Self {
        let mut task = JoinSet::new();
        match source(config) {
            Ok((hub, folder)) => drop(task.spawn(fetch_until_there(Arc::clone(knowledge), hub, folder))),
            Err(why_not) => absent(knowledge, &format!("{lacking}; {why_not}")),
        }
        Self(task)
    }

    /// Waits until the model is there; without a download, for ever.
    ///
    /// # Errors
    /// Where the download broke off, which it does not do for what a hub answers.
    pub(crate) async fn ended(&mut self) -> Result<(), String> {
        match self.0.join_next().await {
            Some(ended) => ended.map_err(|error| error.to_string()),
            None => std::future::pending().await,
        }
    }
}

/// A hub and the folder that a model from it belongs into, or why nothing is downloaded.
fn source(config: &Config) -> Result<(Hub, PathBuf), String> {
    if !config.model_download {
        return Err("rag.model_download is off, so no hub is asked".to_owned());
    }
    let address = hub::named(config.model_hub.as_deref());
    let address = address.ok_or("neither rag.model_hub nor HF_ENDPOINT names a hub that could be asked")?;
    let folder = cache_folder().ok_or("there is no home folder to keep a download in")?;
    library_folder(&folder, config.model_dir.as_deref())
        .map_err(|reason| format!("{reason}, no hub has it, and without it nothing is downloaded"))?;
    Ok((Hub::new(&address, Duration::from_secs(config.model_download_timeout_seconds))?, folder))
}

/// Fetches the model, again and again where the hub has or gives nothing: it may be down for a while, or behind a proxy that is.
async fn fetch_until_there(knowledge: Arc<Knowledge>, hub: Hub, folder: PathBuf) {
    let mut pause = FIRST_PAUSE;
    while let Err(reason) = fetch(&knowledge, &hub, &folder).await {
        let reason = format!("{reason}; it is tried again in {} s", pause.as_secs());
        tracing::warn!(reason, "search is by words only");
        absent(&knowledge, &reason);
        tokio::time::sleep(pause).await;
        pause = next_pause(pause);
    }
}

fn next_pause(pause: Duration) -> Duration {
    (2 * pause).min(LONGEST_PAUSE)
}

async fn fetch(knowledge: &Knowledge, hub: &Hub, folder: &Path) -> Result<(), String> {
    let tell = |percent: u64| {
        let what = format!("the embedding model is being downloaded from {}, {percent} % are there", hub.address());
        absent(knowledge, &what);
    };
    tell(0);
    let told = AtomicU64::new(0);
    let fetched = hub.fetch(folder, |bytes, all| {
        let percent = bytes * 100 / all;
        if percent >= told.load(Ordering::Relaxed) + TOLD_PERCENT {
            told.store(percent, Ordering::Relaxed);
            tell(percent);
        }
    });
    fetched.await.map_err(|reason| format!("the embedding model could not be downloaded: {reason}"))?;
    tracing::info!(folder = %folder.display(), "the embedding model was downloaded");
    Ok(())
}

fn absent(knowledge: &Knowledge, reason: &str) {
    knowledge.model_is_absent(&knowledge.serving(), reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_six_hours_and_no_further() {
        let mut pauses = vec![FIRST_PAUSE];
        while pauses.len() < 12 {
            pauses.push(next_pause(pauses[pauses.len() - 1]));
        }
        let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..3], [60, 120, 240]);
        assert_eq!(seconds[8..], [15_360, 21_600, 21_600, 21_600]);
    }
}
