//! Who asks, and until when: what travels with a call through the mesh.

use std::time::{Duration, Instant};

use attain_vocabulary::TenantId;
use opentelemetry::propagation::{Extractor, Injector};
use serde::Deserialize;
use tonic::metadata::{KeyRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TENANT: &str = "x-attain-tenant";
const CALLER: &str = "x-attain-caller";
const ROLE: &str = "x-attain-role";
const CALLER_LEN_MAX: usize = 200;
/// How a call from inside the mesh is named that names nobody.
pub const UNKNOWN_CALLER: &str = "unknown";
/// How the gateway names every caller where no keys are in use.
pub const LOCAL_CALLER: &str = "local";
/// How recommendation names itself where nobody asked it: to other members, and in the audit log.
pub const RECOMMENDATION_CALLER: &str = "recommendation";
/// Who decides where policy accepts a recommendation without a person.
pub const POLICY_CALLER: &str = "policy";
/// Names under which the mesh itself acts, or nobody: no key may bear one.
pub const RESERVED_CALLERS: [&str; 4] = [LOCAL_CALLER, UNKNOWN_CALLER, POLICY_CALLER, RECOMMENDATION_CALLER];
const TIMEOUT: &str = "grpc-timeout";
const TRACE_STATE: &str = "tracestate";

/// What a caller may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads, searches and analyses.
    Reader,
    /// Sends telemetry, dependencies, incidents and documents.
    Proposer,
    /// Decides on SLOs and on what counts in estimates, removes documents.
    Approver,
    /// Reads the audit log.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Reader, Self::Proposer, Self::Approver, Self::Admin];

    /// Its name in settings, in answers and on the way through the mesh.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Proposer => "proposer",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// Who asks, and until when.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Whose data the call may touch.
    pub tenant: TenantId,
    /// Who the gateway says is asking; `unknown` for a call from inside the mesh without a name.
    pub caller: String,
    /// What the gateway says that the caller may do; `None` for a call from inside the mesh, which decides nothing for
    /// anybody. Only the gateway sets it, from the key, and passes no header of that name on.
    pub role: Option<Role>,
    /// When the answer is of no more use.
    pub deadline: Instant,
}

impl CallContext {
    /// Reads the context of an incoming call. A call without a deadline, or with a later one, gets `longest`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT where the tenant, the caller or the role is malformed.
    pub fn read(metadata: &MetadataMap, longest: Duration) -> Result<Self, Status> {
        let tenant = match metadata.get(TENANT) {
            None => TenantId::default(),
            Some(value) => {
                let text = value.to_str().map_err(|_| Status::invalid_argument("the tenant is no text"))?;
                TenantId::new(TENANT, text).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?
            }
        };
        let caller = match metadata.get(CALLER) {
            None => UNKNOWN_CALLER.to_owned(),
            Some(value) => value
                .to_str()
                .map_err(|_| Status::invalid_argument("the caller is no text"))?
                .chars()
                .take(CALLER_LEN_MAX)
                .collect(),
        };
        let role = match metadata.get(ROLE) {
            None => None,
            Some(value) => {
                let named = value.to_str().ok().and_then(|name| Role::ALL.into_iter().find(|role| role.name() == name));
                Some(named.ok_or_else(|| Status::invalid_argument("the role is none that there is"))?)
            }
        };
        let asked = metadata.get(TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        let deadline = Instant::now() + asked.unwrap_or(longest).min(longest);
        Ok(Self { tenant, caller, role, deadline })
    }

    /// A context of the process's own making.
    #[must_use]
    pub fn new(tenant: TenantId, caller: &str, timeout: Duration) -> Self {
        Self { tenant, caller: caller.to_owned(), role: None, deadline: Instant::now() + timeout }
    }

    /// The same on behalf of a caller with a role.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    /// The same with at most this much time left.
    #[must_use]
    pub fn within(self, longest: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + longest), ..self }
    }

    /// Whether the caller may do what the role allows.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.role.is_some_and(|held| held >= role)
    }

    /// Whether the caller is told apart from others: neither a call from inside the mesh without a name nor one through a
    /// gateway without keys.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        ![UNKNOWN_CALLER, LOCAL_CALLER].contains(&self.caller.as_str())
    }

    /// Time left; zero when the deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A request that carries this context, the time left and the current trace.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.write(request.metadata_mut());
        request.set_timeout(self.remaining());
        request
    }

    /// The same without a deadline, for streams that last as long as both ends.
    pub fn lasting_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.write(request.metadata_mut());
        request
    }

    fn write(&self, metadata: &mut MetadataMap) {
        if let Ok(value) = MetadataValue::try_from(self.tenant.as_str()) {
            metadata.insert(TENANT, value);
        }
        let caller: String = self.caller.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
        if let Ok(value) = MetadataValue::try_from(caller) {
            metadata.insert(CALLER, value);
        }
        if let Some(role) = self.role {
            metadata.insert(ROLE, MetadataValue::from_static(role.name()));
        }
        let trace = tracing::Span::current().context();
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&trace, &mut MetadataInjector(metadata));
        });
    }
}

/// A status that tells a passed deadline apart: tonic reports its own time-outs as CANCELLED.
#[must_use]
pub fn name_deadline(status: Status) -> Status {
    if status.code() == tonic::Code::Cancelled && status.message().contains("Timeout expired") {
        return Status::deadline_exceeded("the answer did not come within the deadline");
    }
    status
}

/// Reads a `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

struct MetadataInjector<'a>(&'a mut MetadataMap);

impl Injector for MetadataInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

/// Reads trace context from gRPC metadata.
pub struct MetadataExtractor<'a>(pub &'a MetadataMap);

impl Extractor for MetadataExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key).and_then(|value| value.to_str().ok())?;
        // What a caller's tracing system writes there is free text, and would be exported with every span of the trace.
        (key != TRACE_STATE || attain_redaction::redact(value).1 == 0).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|key| match key {
                KeyRef::Ascii(key) => Some(key.as_str()),
                KeyRef::Binary(_) => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_units_of_the_protocol() {
        for (text, expected) in [
            ("2S", Some(Duration::from_secs(2))),
            ("15m", Some(Duration::from_millis(15))),
            ("1H", Some(Duration::from_secs(3600))),
            ("", None),
            ("S", None),
            ("1x", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn a_context_survives_the_call() {
        let tenant = TenantId::new("tenant", "acme").expect("valid");
        let sent = CallContext::new(tenant.clone(), "group:payments", Duration::from_secs(5));
        let request = sent.request(());
        let read = CallContext::read(request.metadata(), Duration::from_secs(60)).expect("valid");
        assert_eq!((&read.tenant, read.caller.as_str()), (&tenant, "group:payments"));
        assert!(read.remaining() <= Duration::from_secs(5));
        assert!(read.role.is_none() && !read.may(Role::Reader), "nobody said so");
        for role in Role::ALL {
            let request = sent.clone().with_role(role).request(());
            let read = CallContext::read(request.metadata(), Duration::from_secs(60)).expect("valid");
            assert_eq!((read.role, read.may(Role::Approver)), (Some(role), role >= Role::Approver));
        }
    }

    #[test]
    fn a_role_that_there_is_not_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert(ROLE, MetadataValue::from_static("Admin"));
        let status = CallContext::read(&metadata, Duration::from_secs(1)).expect_err("malformed");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_trace_state_with_a_secret_is_not_continued() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TRACE_STATE, MetadataValue::from_static("ot=th:8,vendor=x1"));
        assert_eq!(MetadataExtractor(&metadata).get(TRACE_STATE), Some("ot=th:8,vendor=x1"));
        metadata.insert(TRACE_STATE, MetadataValue::from_static("vendor=jane.doe@mail.example"));
        assert_eq!(MetadataExtractor(&metadata).get(TRACE_STATE), None);
    }

    #[test]
    fn a_malformed_tenant_is_refused() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TENANT, MetadataValue::from_static("Not A Tenant"));
        let status = CallContext::read(&metadata, Duration::from_secs(1)).expect_err("malformed");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
