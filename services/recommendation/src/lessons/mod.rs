//! What happened and what was decided, kept as documents: incidents as ingestion tells of them, and decisions on
//! recommendations with their reasons. What is to be there is made from the source each time and compared with what is there, so
//! nothing has to be remembered: after a crash, a lost message or a rag that was away the next round puts it right.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use attain_proto::rag::v1::Document;
use attain_runtime::Shutdown;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER};
use attain_vocabulary::TenantId;
use tokio::task::JoinHandle;

use crate::Error;
use crate::domain::slo::Action;
use crate::engine::Engine;
use crate::members::Refusal;

/// Newest decisions of a tenant that are kept as lessons.
const DECISIONS_MAX: u32 = 2_000;
/// Documents of one write: a few seconds of embedding.
const DOCUMENTS_PER_WRITE: usize = 8;
/// Longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Everything is compared anew after this many rounds, whoever changed it meanwhile.
const ROUNDS_TO_COMPARE_ALL: u32 = 120;

/// Where one sort of documents comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Incidents,
    Decisions,
}

impl Sort {
    /// Begins the names of its documents.
    fn prefix(self) -> &'static str {
        match self {
            Self::Incidents => "incidents/",
            Self::Decisions => "lessons/",
        }
    }

    /// Begins their sources; a document of that name with another source was written by a person and is left alone.
    fn source(self) -> &'static str {
        match self {
            Self::Incidents => "attain:incidents/",
            Self::Decisions => "attain:decisions/",
        }
    }
}

/// What has to be written and removed.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    put: Vec<Document>,
    remove: Vec<String>,
}

/// Keeps the documents level until the stop.
pub(crate) fn keep(engine: Arc<Engine>, shutdown: Shutdown) -> JoinHandle<()> {
    let interval = Duration::from_secs(engine.config.lessons_interval_seconds);
    tokio::spawn(async move {
        let mut keeper = Keeper { engine, behind: BTreeSet::new(), decided: BTreeMap::new(), round: 0 };
        while !interval.is_zero() {
            if let Err(error) = keeper.round().await {
                tracing::warn!(error = %error, "lessons could not be kept; the next round tries again");
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    })
}

struct Keeper {
    engine: Arc<Engine>,
    /// What has changed and is not known to be level.
    behind: BTreeSet<(TenantId, Sort)>,
    /// The newest decision of each tenant when its lessons were made.
    decided: BTreeMap<TenantId, u64>,
    round: u32,
}

impl Keeper {
    async fn round(&mut self) -> Result<(), Error> {
        if self.round.is_multiple_of(ROUNDS_TO_COMPARE_ALL) {
            self.decided.clear();
            self.engine.changes.note_incidents_again();
        }
        self.round = self.round.wrapping_add(1);
        self.behind.extend(self.engine.changes.take_incidents().into_iter().map(|tenant| (tenant, Sort::Incidents)));
        for (tenant, newest) in self.engine.store.newest_decisions().await? {
            if self.decided.insert(tenant.clone(), newest) != Some(newest) {
                self.behind.insert((tenant, Sort::Decisions));
            }
        }
        for (tenant, sort) in self.behind.clone() {
            match self.level(&tenant, sort).await? {
                Ok((0, 0)) => {}
                Ok((kept, removed)) => {
                    tracing::info!(tenant_id = %tenant, sort = ?sort, kept, removed, "lessons were kept");
                }
                // It stays behind: the next round tries again.
                Err(refusal) => {
                    tracing::debug!(tenant_id = %tenant, sort = ?sort, reason = refusal.detail(), "lessons wait");
                    continue;
                }
            }
            self.behind.remove(&(tenant, sort));
        }
        Ok(())
    }

    /// Brings the documents of one tenant and sort level; how many were kept and removed.
    async fn level(&self, tenant: &TenantId, sort: Sort) -> Result<Result<(usize, usize), Refusal>, Error> {
        let context = || CallContext::new(tenant.clone(), RECOMMENDATION_CALLER, CALL_TIMEOUT);
        let (wanted, complete) = match sort {
            Sort::Incidents => match self.engine.ingestion.all_incidents(&context()).await {
                Ok((incidents, complete)) => (incidents.iter().filter_map(text::incident).collect(), complete),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Sort::Decisions => {
                let decisions = self.engine.store.reasoned_decisions(tenant, DECISIONS_MAX).await?;
                let lessons =
                    decisions.iter().filter(|decision| decision.action != Action::Declare).map(text::decision);
                (lessons.collect::<Vec<Document>>(), true)
            }
        };
        let knowledge = &self.engine.knowledge;
        let there = match knowledge.documents(&context(), sort.prefix()).await {
            Ok(there) => there,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Difference { put, remove } = difference(sort, wanted, &there, complete);
        let mut kept = 0;
        for documents in put.chunks(DOCUMENTS_PER_WRITE) {
            match knowledge.put(&context(), documents.to_vec()).await {
                Ok(refused) => {
                    kept += documents.len() - refused.len();
                    for reason in refused {
                        tracing::warn!(tenant_id = %tenant, reason, "a lesson was refused");
                    }
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        for id in &remove {
            match knowledge.delete(&context(), id).await {
                Ok(()) | Err(Refusal::Unknown) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Ok((kept, remove.len())))
    }
}

/// What is wanted and not there, or there in another form; and what is there and not wanted any more, where all that is wanted
/// is known.
fn difference(sort: Sort, wanted: Vec<Document>, there: &[Document], complete: bool) -> Difference {
    let own =
        |document: &Document| document.source.as_ref().is_some_and(|source| source.uri.starts_with(sort.source()));
    let there: BTreeMap<&str, &Document> = there.iter().map(|document| (document.id.as_str(), document)).collect();
    let names: BTreeSet<String> = wanted.iter().map(|document| document.id.clone()).collect();
    let is_behind = |document: &Document| match there.get(document.id.as_str()) {
        None => true,
        Some(kept) => own(kept) && kept.source != document.source,
    };
    let gone = there.values().filter(|document| complete && own(document) && !names.contains(&document.id));
    let remove = gone.map(|document| document.id.clone()).collect();
    Difference { put: wanted.into_iter().filter(is_behind).collect(), remove }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_proto::rag::v1::DocumentSource;

    fn document(id: &str, uri: &str, revision: &str) -> Document {
        let source = DocumentSource { uri: uri.to_owned(), revision: revision.to_owned() };
        Document { id: id.to_owned(), source: Some(source), ..Document::default() }
    }

    #[test]
    fn only_what_differs_is_written_and_nothing_of_a_persons() {
        let own = |id: &str, revision: &str| {
            document(&format!("incidents/{id}"), &format!("attain:incidents/{id}"), revision)
        };
        let there = [own("same", "1"), own("old", "1"), own("gone", "1"), document("incidents/written", "", "")];
        let wanted = || vec![own("same", "1"), own("old", "2"), own("new", "1"), own("written", "1")];
        let all = difference(Sort::Incidents, wanted(), &there, true);
        assert_eq!(
            all,
            Difference { put: vec![own("old", "2"), own("new", "1")], remove: vec!["incidents/gone".into()] }
        );
        assert_eq!(difference(Sort::Incidents, wanted(), &there, false).remove, Vec::<String>::new());
    }
}
