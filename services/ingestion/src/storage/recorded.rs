//! Every statement that a store runs, written down for a test: whatever is added later is among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Instrument as _, Metadata, Subscriber, subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

const SPAN: &str = "recorded statements";
const SQLX: &str = "sqlx::query";

/// What was run within each recording, by the number of its span.
static STATEMENTS: Mutex<BTreeMap<u64, BTreeSet<String>>> = Mutex::new(BTreeMap::new());

/// Runs something and tells which statements it ran.
pub(super) async fn recorded(run: impl Future<Output = ()>) -> BTreeSet<String> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        subscriber::set_global_default(Registry::default().with(Recorder)).expect("no other subscriber");
    });
    let span = tracing::debug_span!("recorded statements");
    run.instrument(span.clone()).await;
    let number = span.id().expect("recorded").into_u64();
    STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&number).unwrap_or_default()
}

/// Knows the spans of recordings and the statements within them, and nothing else.
struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.name() == SPAN || metadata.target() == SQLX
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(recording) = context.event_span(event) else { return };
        let mut sql = Sql::default();
        event.record(&mut sql);
        let sql = if sql.whole.trim().is_empty() { sql.summary } else { sql.whole };
        let mut all = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(recording.id().into_u64()).or_default().insert(sql.trim().to_owned());
    }
}

/// A statement as sqlx tells of it: its first words, and all of it where there are more.
#[derive(Default)]
struct Sql {
    summary: String,
    whole: String,
}

impl Visit for Sql {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
