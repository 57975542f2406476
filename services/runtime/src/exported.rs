//! Spans of the process's own, looked through once more as they leave it: events of libraries travel in them too.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::Status;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Passes spans on without secrets and personal data.
#[derive(Debug)]
pub(crate) struct RedactedSpans<E>(pub(crate) E);

impl<E: SpanExporter> SpanExporter for RedactedSpans<E> {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        batch.iter_mut().for_each(redact_span);
        self.0.export(batch)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn redact_span(span: &mut SpanData) {
    if let Some(name) = redacted(&span.name) {
        span.name = name.into();
    }
    redact_attributes(&mut span.attributes);
    for event in &mut span.events.events {
        if let Some(name) = redacted(&event.name) {
            event.name = name.into();
        }
        redact_attributes(&mut event.attributes);
    }
    if let Status::Error { description } = &mut span.status
        && let Some(told) = redacted(description)
    {
        *description = told.into();
    }
}

fn redact_attributes(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        if let Value::String(text) = &attribute.value
            && let Some(redacted) = redacted(text.as_str())
        {
            attribute.value = redacted.into();
        }
    }
}

/// `None` where there is nothing to take out.
fn redacted(text: &str) -> Option<String> {
    match attain_redaction::redact(text).0 {
        Cow::Borrowed(_) => None,
        Cow::Owned(redacted) => Some(redacted),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::SystemTime;

    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<SpanData>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("whole").extend(batch);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_leaves_has_no_secrets() {
        let text = "for jane@mail.example";
        let attributes =
            || vec![KeyValue::new("error", text), KeyValue::new("rpc.method", "a/b"), KeyValue::new("n", 1)];
        let mut events = SpanEvents::default();
        events.events.push(Event::new(text, SystemTime::UNIX_EPOCH, attributes(), 0));
        let span = SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: text.into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: attributes(),
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: Status::error(text),
            instrumentation_scope: InstrumentationScope::default(),
        };
        let exporter = RedactedSpans(Kept::default());
        exporter.export(vec![span]).await.expect("kept");
        let kept = exporter.0.0.lock().expect("whole");
        let told = format!("{kept:?}");
        assert!(!told.contains("jane"), "{told}");
        assert_eq!(told.matches("for [redacted:email]").count(), 5, "{told}");
        assert_eq!(kept[0].attributes[1..], attributes()[1..]);
    }
}
