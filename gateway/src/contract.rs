//! What the descriptors promise over HTTP: one endpoint for each `google.api.http` binding.

use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};

use crate::Error;
use crate::identity::Access;
use crate::json::plan::{MessageId, Plans};
use crate::template::Template;

const ANNOTATION: &str = "google.api.http";
const RAW_BODY: &str = "google.api.HttpBody";
const REJECTION: &str = "attain.vocabulary.v1.Rejection";
/// The field of an answer that lists refused rows.
pub(crate) const REJECTED: &str = "rejected";
/// The field of a request that `If-Match` fills.
pub(crate) const VERSION_MATCH: &str = "version_match";

/// The contract as the gateway reads it.
#[derive(Debug)]
pub(crate) struct Contract {
    pool: DescriptorPool,
    endpoints: Vec<Arc<Endpoint>>,
    plans: Arc<Plans>,
}

/// One HTTP binding of one RPC.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) rpc: MethodDescriptor,
    /// `/package.Service/Method`.
    pub(crate) grpc_path: PathAndQuery,
    pub(crate) verb: Method,
    pub(crate) template: Template,
    /// Whether there is a body: every field that the path does not bind, or one of them as it came. What neither binds are
    /// query parameters.
    pub(crate) has_body: bool,
    /// The field that takes the body as it came, where the RPC asks for one.
    pub(crate) raw_body: Option<FieldDescriptor>,
    /// Unique in the contract: the RPC's name, numbered from its second binding on.
    pub(crate) operation_id: String,
    pub(crate) access: Access,
    /// Lists whose elements are accepted or refused one by one.
    pub(crate) batch_fields: Vec<FieldDescriptor>,
    /// What bodies are read and answers are written by.
    pub(crate) plans: Arc<Plans>,
    pub(crate) input: MessageId,
    pub(crate) output: MessageId,
}

impl Contract {
    /// Reads an encoded file descriptor set.
    ///
    /// # Errors
    /// Names the RPC whose annotation cannot be served.
    pub(crate) fn read(descriptors: &[u8]) -> Result<Self, Error> {
        let pool = DescriptorPool::decode(descriptors).map_err(|error| Error::Contract(error.to_string()))?;
        let plans = Arc::new(Plans::compile(&pool));
        let mut endpoints = Vec::new();
        for rpc in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let bindings = bindings(&pool, &rpc);
            for (ordinal, binding) in bindings.iter().enumerate() {
                let endpoint = Endpoint::read(&rpc, binding, ordinal, &plans)
                    .map_err(|reason| Error::Contract(format!("{}: {reason}", rpc.full_name())))?;
                endpoints.push(Arc::new(endpoint));
            }
        }
        Ok(Self { pool, endpoints, plans })
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

impl Endpoint {
    fn read(rpc: &MethodDescriptor, rule: &DynamicMessage, ordinal: usize, plans: &Arc<Plans>) -> Result<Self, String> {
        if rpc.is_client_streaming() || rpc.is_server_streaming() {
            return Err("streams are not served over HTTP".into());
        }
        let (verb, path) = pattern(rule)?;
        let template = Template::parse(&path)?;
        if let Some(unbound) = template.variables().find(|name| !is_text_field(&rpc.input(), name)) {
            return Err(format!("{{{unbound}}} is no single text field of {}", rpc.input().name()));
        }
        let (has_body, raw_body) = match text(rule, "body").as_str() {
            "" => (false, None),
            "*" => (true, None),
            other => (true, Some(raw_field(&rpc.input(), other)?)),
        };
        let grpc_path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        let name = rpc.name();
        let operation_id = if ordinal == 0 { name.to_owned() } else { format!("{name}{}", ordinal + 1) };
        Ok(Self {
            grpc_path: PathAndQuery::try_from(grpc_path).map_err(|error| error.to_string())?,
            verb,
            template,
            has_body,
            raw_body,
            operation_id,
            access: Access::of(rpc),
            batch_fields: if has_body { batch_fields(rpc) } else { Vec::new() },
            input: served(plans, &rpc.input())?,
            output: served(plans, &rpc.output())?,
            plans: Arc::clone(plans),
            rpc: rpc.clone(),
        })
    }

    /// The package of the RPC, which names the member that answers.
    pub(crate) fn package(&self) -> &str {
        self.rpc.parent_service().package_name()
    }

    /// Whether its answer lists rows that were refused.
    pub(crate) fn reports_rejections(&self) -> bool {
        self.raw_body.is_some() && reports(&self.rpc) || !self.batch_fields.is_empty()
    }

    /// Fields that the path binds.
    pub(crate) fn path_fields(&self) -> Vec<FieldDescriptor> {
        self.template.variables().filter_map(|name| self.rpc.input().get_field_by_name(name)).collect()
    }

    /// Whether `If-Match` may name the version that the request replaces.
    pub(crate) fn takes_if_match(&self) -> bool {
        self.rpc.input().get_field_by_name(VERSION_MATCH).is_some()
    }
}

/// The tables of a message, all of whose values have a JSON form here.
fn served(plans: &Plans, message: &MessageDescriptor) -> Result<MessageId, String> {
    let id = plans.find(message.full_name()).ok_or_else(|| format!("{} is not there", message.full_name()))?;
    match plans.unserved(id, RAW_BODY) {
        None => Ok(id),
        Some(field) => Err(format!("{field} is of a type that has no JSON form here")),
    }
}

/// The annotation's rule and its additional bindings.
fn bindings(pool: &DescriptorPool, rpc: &MethodDescriptor) -> Vec<DynamicMessage> {
    let Some(extension) = pool.get_extension_by_name(ANNOTATION) else {
        return Vec::new();
    };
    let options = rpc.options();
    if !options.has_extension(&extension) {
        return Vec::new();
    }
    let rule = options.get_extension(&extension);
    let Some(rule) = rule.as_message() else {
        return Vec::new();
    };
    let additional = rule.get_field_by_name("additional_bindings");
    let additional = additional.as_deref().and_then(Value::as_list).unwrap_or_default();
    std::iter::once(rule).chain(additional.iter().filter_map(Value::as_message)).cloned().collect()
}

fn pattern(rule: &DynamicMessage) -> Result<(Method, String), String> {
    let verbs = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    verbs
        .into_iter()
        .find(|(name, _)| rule.has_field_by_name(name))
        .map(|(name, verb)| (verb, text(rule, name)))
        .ok_or_else(|| "the annotation has no path".to_owned())
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    rule.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn is_text_field(message: &MessageDescriptor, name: &str) -> bool {
    message
        .get_field_by_name(name)
        .is_some_and(|field| !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::String))
}

/// The field of a message that takes a body as it came.
fn raw_field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let is_raw = |field: &FieldDescriptor| {
        !field.is_list() && field.kind().as_message().is_some_and(|message| message.full_name() == RAW_BODY)
    };
    message
        .get_field_by_name(name)
        .filter(is_raw)
        .ok_or_else(|| format!("a body of `{name}` is not served, only `*` or a field of type {RAW_BODY}"))
}

/// Whether the answer can list rejections.
fn reports(rpc: &MethodDescriptor) -> bool {
    rpc.output().get_field_by_name(REJECTED).is_some_and(|field| {
        field.is_list() && field.kind().as_message().is_some_and(|message| message.full_name() == REJECTION)
    })
}

/// Lists of messages in the request of an RPC whose answer can list rejections.
fn batch_fields(rpc: &MethodDescriptor) -> Vec<FieldDescriptor> {
    let is_batch = |field: &FieldDescriptor| {
        field.is_list() && field.kind().as_message().is_some_and(|message| message.package_name() != "google.protobuf")
    };
    if reports(rpc) { rpc.input().fields().filter(is_batch).collect() } else { Vec::new() }
}

/// The comment in front of the thing at `path` in its file: its paragraphs, lines joined. Empty where there is none.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let locations = proto.source_code_info.iter().flat_map(|info| &info.location);
    let comment = locations
        .into_iter()
        .find(|location| location.path == path)
        .and_then(|location| location.leading_comments.as_deref());
    let lines = comment.unwrap_or_default().lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn contract() -> Contract {
        Contract::read(attain_proto::DESCRIPTORS).expect("the contract can be served")
    }

    fn endpoint(operation_id: &str) -> Arc<Endpoint> {
        let contract = contract();
        Arc::clone(
            contract.endpoints().iter().find(|endpoint| endpoint.operation_id == operation_id).expect(operation_id),
        )
    }

    #[test]
    fn an_annotation_becomes_an_endpoint() {
        let decide = endpoint("DecideSlo");
        assert_eq!(
            (decide.verb.clone(), decide.template.to_string()),
            (Method::POST, "/api/v1/services/{service_id}/slos".into())
        );
        assert_eq!(decide.grpc_path.as_str(), "/attain.recommendation.v1.RecommendationService/DecideSlo");
        assert_eq!(decide.package(), "attain.recommendation.v1");
        assert!(decide.has_body && decide.takes_if_match() && decide.batch_fields.is_empty());
    }

    #[test]
    fn further_bindings_are_endpoints_of_their_own() {
        let (one, many) = (endpoint("IngestSliBuckets"), endpoint("IngestSliBuckets2"));
        assert_eq!(one.path_fields().len(), 1);
        assert_eq!(many.template.to_string(), "/api/v1/metrics");
        assert_eq!(many.batch_fields.iter().map(|field| field.name().to_owned()).collect::<Vec<_>>(), ["buckets"]);
    }

    #[test]
    fn a_body_may_be_taken_as_it_came() {
        let import = endpoint("ImportDocument");
        assert!(import.has_body && import.reports_rejections() && import.batch_fields.is_empty());
        assert_eq!(import.raw_body.as_ref().map(|field| field.name().to_owned()), Some("document".into()));
        let error = raw_field(&import.rpc.input(), "format").expect_err("a text");
        assert!(error.contains("google.api.HttpBody"), "{error}");
        assert!(endpoint("DecideSlo").raw_body.is_none() && !endpoint("DecideSlo").reports_rejections());
    }

    #[test]
    fn comments_are_kept() {
        let decide = endpoint("ListSlos");
        let text = comment(&decide.rpc.parent_service().parent_file(), decide.rpc.path());
        assert_eq!(text, "Lists the SLOs in force of a service.");
    }
}
