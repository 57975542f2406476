//! Names of operations: of few words, without ids, secrets or personal data.

use attain_redaction::{fold, redact};

use super::conventions::{Facts, OperationFacts};

/// Longest name of an operation, in characters.
const NAME_CHARS_MAX: usize = 120;

/// What an operation is called by the conventions, before anything is taken out of it; `None` where nothing tells.
///
/// HTTP: method and route or template. RPC: service and method. Databases: operation and collection. Everything else, and
/// what lacks these: the span's name.
pub(super) fn raw_name<'s>(facts: &Facts<'s>, span_name: &'s str) -> Option<RawName<'s>> {
    let named = |name: &'s str| (!name.is_empty()).then_some(RawName(name, "", ""));
    match facts.operation() {
        OperationFacts::Http { method, template } => Some(RawName(method.unwrap_or_default(), " ", template)),
        OperationFacts::Rpc { service: Some(service), method } if !method.contains('/') => {
            Some(RawName(service, "/", method))
        }
        OperationFacts::Rpc { method, .. } => named(method),
        OperationFacts::Database { operation, collection: Some(collection) } => {
            Some(RawName(operation, " ", collection))
        }
        OperationFacts::Database { operation, collection: None } => named(operation),
        // A statement stands for nothing but itself: its first word says what it does.
        OperationFacts::Statement => named(span_name.split_whitespace().next().unwrap_or_default()),
        OperationFacts::None => named(span_name),
    }
}

/// A name in up to three parts, borrowed from the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RawName<'s>(&'s str, &'s str, &'s str);

impl RawName<'_> {
    /// What tells it from every other one.
    pub(super) fn key(&self) -> (String, String) {
        (format!("{}{}", self.0, self.1), self.2.to_owned())
    }

    pub(super) fn is_longer_than(&self, bytes_max: usize) -> bool {
        self.0.len() + self.1.len() + self.2.len() > bytes_max
    }

    /// The name as it is kept: redacted, folded and cut; empty where nothing is left.
    pub(super) fn kept(&self) -> String {
        let Self(first, between, last) = self;
        let whole = if first.is_empty() { (*last).to_owned() } else { format!("{first}{between}{last}") };
        let redacted = redact(whole.trim()).0;
        fold(&redacted).trim().chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

    #[test]
    fn operations_are_named_by_the_conventions_and_without_ids() {
        for (attributes, span_name, expected) in [
            ("http.request.method=GET http.route=/users/{id}", "GET", "GET /users/{id}"),
            ("http.method=POST http.route=/users/42", "x", "POST /users/{id}"),
            ("http.request.method=GET url.template=/pay/{id}", "GET", "GET /pay/{id}"),
            ("http.request.method=GET", "GET /orders/17?x=1", "GET /orders/{id}"),
            ("rpc.system=grpc rpc.service=shop.Cart rpc.method=Add", "x", "shop.Cart/Add"),
            ("rpc.system.name=grpc rpc.method=shop.Cart/Add", "x", "shop.Cart/Add"),
            ("db.system.name=postgresql db.operation.name=SELECT db.collection.name=orders", "x", "SELECT orders"),
            ("db.system=postgresql db.operation=INSERT db.sql.table=orders", "x", "INSERT orders"),
            ("db.system=redis db.operation=GET", "GET user:17", "GET"),
            ("db.system=postgresql", "SELECT * FROM orders WHERE card = '4111'", "SELECT"),
            ("messaging.system=kafka messaging.destination.name=orders", "publish orders", "publish orders"),
            ("", "mail jane.doe@example.com", ""),
            ("", "", ""),
        ] {
            let attributes: Vec<KeyValue> = attributes
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| KeyValue {
                    key: key.to_owned(),
                    value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
                    ..KeyValue::default()
                })
                .collect();
            let facts = Facts::read(&attributes);
            let kept = raw_name(&facts, span_name).map(|raw| raw.kept()).unwrap_or_default();
            if span_name.contains('@') {
                assert!(!kept.contains("jane"), "{kept}");
            } else {
                assert_eq!(kept, expected, "{span_name}");
            }
        }
    }
}
