//! Folders that the service follows by itself: looked at again and again, and only what changed is kept anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attain_vocabulary::{InvalidValue, TenantId};
use serde::Deserialize;

use crate::Error;
use crate::domain::about::Source;
use crate::domain::document::{DocumentId, Draft, Kind, Said, Sender, Written};
use crate::folder::{Known, Scan};
use crate::knowledge::Knowledge;
use crate::storage::Selection;

/// Documents that are kept by one write.
const DOCUMENTS_PER_WRITE: usize = 50;
/// Documents that are listed at a time.
const PAGE: u32 = 500;

/// A folder that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Whose documents they become.
    pub tenant: String,
    /// The folder, or a checkout of a repository.
    pub folder: PathBuf,
    /// Put before the names of its files.
    #[serde(default)]
    pub prefix: String,
    /// Whether a document goes when its file does; most of them at once never do.
    #[serde(default)]
    pub delete_missing: bool,
}

/// What one look at a folder did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) kept_count: usize,
    pub(crate) removed_count: usize,
    /// Files that could not be kept, with the reason.
    pub(crate) faults: BTreeMap<String, String>,
    /// Why nothing was removed; empty otherwise.
    pub(crate) withheld: String,
}

/// Follows the folders until the task is ended.
pub(crate) async fn follow(knowledge: Arc<Knowledge>, folders: Vec<(TenantId, Watched)>, interval: Duration) {
    let mut told: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    loop {
        for (tenant, watched) in &folders {
            let told = told.entry(watched.folder.clone()).or_default();
            let problems = match look(&knowledge, tenant, watched).await {
                Ok(looked) => report(watched, looked),
                Err(Error::NotReady) => continue,
                Err(error) => BTreeSet::from([error.with_causes()]),
            };
            // Said once, not at every look.
            for problem in problems.difference(told) {
                tracing::warn!(folder = %watched.folder.display(), problem, "a folder of documents is not followed in full");
            }
            *told = problems;
        }
        tokio::time::sleep(interval).await;
    }
}

fn report(watched: &Watched, looked: Looked) -> BTreeSet<String> {
    let Looked { kept_count, removed_count, faults, withheld } = looked;
    if kept_count + removed_count > 0 {
        tracing::info!(folder = %watched.folder.display(), kept_count, removed_count, "a folder of documents was followed");
    }
    let faults = faults.into_iter().map(|(path, reason)| format!("{path}: {reason}"));
    faults.chain(Some(withheld).filter(|reason| !reason.is_empty())).collect()
}

/// Looks at a folder once and brings its documents level with it.
pub(crate) async fn look(knowledge: &Arc<Knowledge>, tenant: &TenantId, watched: &Watched) -> Result<Looked, Error> {
    knowledge.check_level()?;
    let (folder, prefix) = (watched.folder.clone(), watched.prefix.clone());
    let scan = tokio::task::spawn_blocking(move || Scan::of(&folder, &prefix)).await?.map_err(Error::Folder)?;
    let known = known(knowledge, tenant, &watched.prefix).await?;
    let plan = scan.plan(&known, watched.delete_missing, false);
    let mut looked = Looked { faults: scan.faults.clone(), withheld: plan.withheld, ..Looked::default() };
    for names in plan.send.chunks(DOCUMENTS_PER_WRITE) {
        let mut drafts = Vec::new();
        for name in names {
            match draft(knowledge, tenant, &scan, name) {
                Ok(draft) => drafts.push(draft),
                Err(fault) => looked.note(&scan, name, &fault),
            }
        }
        let sent: Vec<String> = drafts.iter().map(|draft| draft.id.to_string()).collect();
        if drafts.is_empty() {
            continue;
        }
        for (name, kept) in sent.iter().zip(knowledge.put(tenant.clone(), drafts).await?) {
            match kept {
                Ok(_) => looked.kept_count += 1,
                Err(fault) => looked.note(&scan, name, &fault),
            }
        }
    }
    for name in &plan.remove {
        let id = DocumentId::new("id", name)?;
        match knowledge.delete(tenant.clone(), id).await {
            Ok(_) | Err(Error::UnknownDocument { .. }) => looked.removed_count += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(looked)
}

impl Looked {
    fn note(&mut self, scan: &Scan, name: &str, fault: &InvalidValue) {
        let path = scan.files.get(name).map_or(name, |file| file.path.as_str());
        self.faults.insert(path.to_owned(), format!("{}: {}", fault.field, fault.reason));
    }
}

/// What is kept under a prefix, and where it came from.
async fn known(knowledge: &Knowledge, tenant: &TenantId, prefix: &str) -> Result<BTreeMap<String, Known>, Error> {
    let mut known = BTreeMap::new();
    let mut selection = Selection { prefix: prefix.to_owned(), limit: PAGE, ..Selection::default() };
    loop {
        let (entries, more) = knowledge.list(tenant, selection.clone()).await?;
        selection.after = entries.last().map(|entry| entry.id.clone());
        for entry in entries {
            let Source { uri, revision } = entry.about.source;
            known.insert(entry.id.to_string(), Known { uri, revision });
        }
        if !more {
            return Ok(known);
        }
    }
}

fn draft(knowledge: &Knowledge, tenant: &TenantId, scan: &Scan, name: &str) -> Result<Draft, InvalidValue> {
    let Some(file) = scan.files.get(name) else {
        return Err(InvalidValue::new("id", "unknown", "no file has this name"));
    };
    let Known { uri, revision } = scan.source(file);
    let written = Written { id: name, kind: Kind::default(), title: "", text: &file.text, service_ids: &[] };
    let said = Said { source: Source { uri, revision }, ..Said::default() };
    let sender = Sender {
        is_mesh: false,
        publishes: knowledge.public_tenant.as_ref() == Some(tenant),
        // Whoever writes the settings names the folder.
        may_approve: true,
        now_ms: knowledge.clock.now_ms(),
    };
    Draft::from_sender(written, said, sender)
}
