//! One request from its headers to its answer: route, identity, limits, deadline, call, and what is told of it.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_redaction::redact;
use attain_runtime::clock::Clock;
use attain_runtime::context::{CallContext, MetadataExtractor};
use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::json;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tracing::{Instrument as _, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::Error;
use crate::config::Config;
use crate::contract::{Contract, Endpoint};
use crate::identity::{Identities, Identity, address_name};
use crate::intake::{self, Intake, Taken, Wanted};
use crate::limits::{Allowance, Limits};
use crate::mesh::Mesh;
use crate::metrics::{Metrics, NO_ROUTE, verb_name};
use crate::problem::Problem;
use crate::reply::{Ids, finish, respond, text};
use crate::routes::{Found, Routes, System, Target};
use crate::transcode::answer;
use crate::transcode::batch::Batch;
use crate::transcode::request::{self, Assembled, Given};
use crate::{cycles, documents, forward, openapi, readiness, server, told};

const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
/// Bodies from here on are read on a thread of their own, so that other requests do not wait.
const LARGE_BODY_BYTES: usize = 256 * 1024;
/// Probes come every few seconds and are counted in the metrics.
const UNLOGGED_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Gateway {
    contract: Contract,
    routes: Routes,
    mesh: Mesh,
    identities: Identities,
    limits: Limits,
    intake: Intake,
    metrics: Metrics,
    openapi: Bytes,
    docs: Bytes,
    health: Bytes,
    deadline: Duration,
    ids: Ids,
}

/// What became of a request, and who sent it.
struct Outcome {
    result: Result<Response<Body>, Problem>,
    allowance: Option<Allowance>,
    caller: String,
}

impl Gateway {
    /// Reads the contract and prepares what is answered without the mesh.
    pub(crate) fn new(config: &Config, clock: &Clock) -> Result<Self, Error> {
        let contract = Contract::read(attain_proto::DESCRIPTORS)?;
        let routes = Routes::build(&contract)?;
        let openapi = openapi::document(&contract, &routes, config);
        let start = jiff::Timestamp::from_millisecond(clock.now_ms()).unwrap_or_default();
        let health = json!({"status": "alive", "version": env!("CARGO_PKG_VERSION"), "start_time": start.to_string()});
        Ok(Self {
            mesh: Mesh::connect(config, &contract)?,
            identities: Identities::new(config)?,
            limits: Limits::new(config),
            intake: Intake::new(config.body_bytes_max, config.body_bytes_in_flight_max),
            metrics: Metrics::new(),
            docs: documents::page(&openapi).into(),
            openapi: openapi.to_string().into(),
            health: health.to_string().into(),
            deadline: Duration::from_millis(config.deadline_ms),
            ids: Ids::new(),
            contract,
            routes,
        })
    }

    /// Answers one request, whatever it is.
    pub(crate) async fn handle(self: Arc<Self>, peer: SocketAddr, request: Request<Body>) -> Response<Body> {
        let start = Instant::now();
        let (parts, mut body) = request.into_parts();
        let request_id = self.ids.of(&parts.headers);
        let found = self.routes.find(&parts.method, parts.uri.path());
        let route = match &found {
            Found::Route(route, _) => route.name.clone(),
            Found::WrongVerb(_) | Found::Nothing => NO_ROUTE.to_owned(),
        };
        let span = span(&parts, &route, &request_id);
        let answering = self.answer(&parts, peer, found, &mut body, start).instrument(span.clone());
        let outcome = AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(parent: &span, "the request ended in a panic");
            Outcome { result: Err(Problem::internal()), allowance: None, caller: String::new() }
        });
        server::drain_body(&parts, body);
        let mut response =
            outcome.result.unwrap_or_else(|problem| problem.into_response(parts.uri.path(), &request_id));
        finish(response.headers_mut(), outcome.allowance, &request_id);
        self.tell(&parts, &route, &request_id, &outcome.caller, response.status(), start.elapsed(), &span);
        response
    }

    async fn answer(
        &self,
        parts: &Parts,
        peer: SocketAddr,
        found: Found<'_, '_>,
        body: &mut Body,
        start: Instant,
    ) -> Outcome {
        let identity = self.identities.identify(&parts.headers);
        let address = address_name(peer.ip());
        let caller = identity.as_ref().map_or_else(|_| told::address(peer.ip()), |identity| identity.caller.clone());
        let target = match &found {
            Found::Route(route, _) => Some(&route.target),
            Found::WrongVerb(_) | Found::Nothing => None,
        };
        // A probe learns the truth also under load, and takes nothing from the caller's allowance.
        if let Some(Target::System(System::Health)) = target {
            let result = Ok(text("application/json", self.health.clone()));
            return Outcome { result, allowance: None, caller };
        }
        let counted = self.counted(identity.as_ref().ok(), target, address);
        let writes = matches!(target, Some(Target::Rpc(endpoint)) if endpoint.access.writes);
        let allowance = match self.limits.count(&counted, writes) {
            Ok(allowance) => allowance,
            Err(problem) => {
                return Outcome { result: Err(problem), allowance: None, caller };
            }
        };
        let place = match target {
            Some(Target::System(_)) => Ok(None),
            _ => self.limits.enter().await.map(Some),
        };
        let result = match place {
            Ok(_held) => self.dispatch(parts, found, identity, body, start + self.deadline).await,
            Err(problem) => Err(problem),
        };
        Outcome { result, allowance: Some(allowance), caller }
    }

    /// The name under which a request is counted. Prefixes keep a caller's name from being taken for an address.
    fn counted(&self, identity: Option<&Identity>, target: Option<&Target>, address: String) -> String {
        match (identity, target) {
            (_, Some(Target::System(_))) => format!("probe:{address}"),
            (Some(identity), _) if self.identities.needs_keys() => {
                format!("key:{}:{}", identity.tenant, identity.caller)
            }
            _ => address,
        }
    }

    async fn dispatch(
        &self,
        parts: &Parts,
        found: Found<'_, '_>,
        identity: Result<Identity, Problem>,
        body: &mut Body,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        match found {
            Found::Nothing => {
                let detail = "there is no such route; /docs lists them";
                Err(Problem::new(StatusCode::NOT_FOUND, "route_not_found", detail))
            }
            Found::WrongVerb(allow) => {
                let detail = format!("the path is there for {allow}");
                let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
                Err(problem.header(header::ALLOW, &allow))
            }
            Found::Route(route, captures) => match &route.target {
                Target::System(system) => Ok(self.system(*system).await),
                Target::Rpc(endpoint) => {
                    let identity = identity?;
                    identity.allow(endpoint.access)?;
                    self.rpc(endpoint, parts, &captures, identity, body, deadline).await
                }
            },
        }
    }

    async fn system(&self, system: System) -> Response<Body> {
        match system {
            System::OpenApi => text("application/json", self.openapi.clone()),
            System::Health => text("application/json", self.health.clone()),
            System::Metrics => text("text/plain; version=0.0.4; charset=utf-8", self.metrics.text()),
            System::Docs => {
                let mut response = text("text/html; charset=utf-8", self.docs.clone());
                let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
                response
            }
            System::Readiness => {
                let report = readiness::ask(&self.mesh, self.contract.plans()).await;
                let mut response = text("application/json", report.json.to_string());
                if !report.ready {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                response
            }
        }
    }

    async fn rpc(
        &self,
        endpoint: &Arc<Endpoint>,
        parts: &Parts,
        captures: &[&str],
        identity: Identity,
        body: &mut Body,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        let until = tokio::time::Instant::from_std(deadline);
        let taken = if endpoint.has_body {
            let wanted = if endpoint.raw_body.is_some() { Wanted::Anything } else { Wanted::Json };
            let taken = tokio::time::timeout_at(until, self.intake.take(&parts.headers, body, wanted)).await;
            Some(taken.map_err(|_| {
                Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_too_slow",
                    "the body did not arrive within the deadline",
                )
            })??)
        } else {
            None
        };
        let Assembled { message, batch } = read(endpoint, parts, captures, taken).await?;
        let context =
            CallContext::new(identity.tenant, &identity.caller, deadline.saturating_duration_since(Instant::now()))
                .with_role(identity.role);
        let concerned = cycles::concerned(endpoint, &message);
        let forwarded = if endpoint.raw_body.is_some() { forward::signatures(&parts.headers) } else { Vec::new() };
        let call = tokio::time::timeout_at(until, self.mesh.call(endpoint, message, &context, forwarded)).await;
        let mut answer = call
            .map_err(|_| Problem::deadline())?
            .map_err(|status| self.refusal(endpoint, &status, batch.as_ref(), &parts.headers))?;
        batch.map_or(Ok(()), |batch| batch.settle(endpoint.plans.message(endpoint.output), &mut answer))?;
        if let Some(service_ids) = concerned {
            cycles::fill(&self.mesh, service_ids, &mut answer, &context).await;
        }
        let answer = answer::write(endpoint, &answer).map_err(|error| {
            tracing::error!(error = %error, "an answer has no JSON");
            Problem::internal()
        })?;
        Ok(respond(answer, parts))
    }

    /// A member's refusal as a problem; what is not the caller's doing is logged with what the member said.
    fn refusal(&self, endpoint: &Endpoint, status: &Status, batch: Option<&Batch>, headers: &HeaderMap) -> Problem {
        let member = self.mesh.owner(endpoint.package()).map_or("the mesh", |member| member.name);
        let mut problem = Problem::from_status(status, member);
        if let Some(batch) = batch {
            batch.restore_pointers(&mut problem.errors);
        }
        let stale = status.code() == Code::Aborted
            || (status.code() == Code::FailedPrecondition && problem.code.contains("version"));
        if stale && endpoint.takes_if_match() && headers.contains_key(header::IF_MATCH) {
            problem.status = StatusCode::PRECONDITION_FAILED;
        }
        if problem.status.is_server_error() {
            tracing::warn!(attain.member = member, rpc.grpc.status_code = status.code() as i32, error = %redact(status.message()).0, "a member failed");
        }
        problem
    }

    #[allow(clippy::too_many_arguments, reason = "one line of the access log")]
    fn tell(
        &self,
        parts: &Parts,
        route: &str,
        request_id: &str,
        caller: &str,
        status: StatusCode,
        took: Duration,
        span: &tracing::Span,
    ) {
        span.record("http.response.status_code", status.as_u16());
        self.metrics.record(&parts.method, route, status.as_u16(), took);
        let path = parts.uri.path();
        if UNLOGGED_PATHS.contains(&path) {
            return;
        }
        // Without a parent: the line says all that the span's fields would say again.
        tracing::info!(
            parent: None,
            http.request.method = verb_name(&parts.method),
            url.path = told::logged_path(path),
            http.route = route,
            http.response.status_code = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1000.0,
            attain.caller = caller,
            request_id,
            "request"
        );
    }
}

/// Reads the request message; a large body on a thread of its own.
async fn read(
    endpoint: &Arc<Endpoint>,
    parts: &Parts,
    captures: &[&str],
    taken: Option<Taken>,
) -> Result<Assembled, Problem> {
    if taken.as_ref().is_none_or(|taken| taken.bytes.len() < LARGE_BODY_BYTES) {
        return assemble(endpoint, parts, captures, taken);
    }
    let (endpoint, parts) = (Arc::clone(endpoint), parts.clone());
    let captures: Vec<String> = captures.iter().map(ToString::to_string).collect();
    let reading = tokio::task::spawn_blocking(move || {
        let captures: Vec<&str> = captures.iter().map(String::as_str).collect();
        assemble(&endpoint, &parts, &captures, taken)
    });
    reading.await.unwrap_or_else(|_| Err(Problem::internal()))
}

fn assemble(endpoint: &Endpoint, parts: &Parts, captures: &[&str], taken: Option<Taken>) -> Result<Assembled, Problem> {
    let given = Given { captures, query: parts.uri.query().unwrap_or_default(), headers: &parts.headers };
    if let Some(field) = &endpoint.raw_body {
        let body = taken.map(|taken| taken.bytes).unwrap_or_default();
        return request::assemble_raw(endpoint, field, given, &body);
    }
    let document = taken.as_ref().map(|taken| intake::parse(&taken.bytes)).transpose()?;
    request::assemble(endpoint, given, document.as_ref())
}

/// A span that continues the caller's trace; calls to members continue it in turn.
fn span(parts: &Parts, route: &str, request_id: &str) -> tracing::Span {
    let span = tracing::info_span!(
        "http",
        otel.name = %format_args!("{} {route}", verb_name(&parts.method)),
        otel.kind = "server",
        http.request.method = verb_name(&parts.method),
        http.route = route,
        http.response.status_code = field::Empty,
        request_id,
    );
    let metadata = MetadataMap::from_headers(parts.headers.clone());
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&MetadataExtractor(&metadata)));
    // Fails only where no tracer is installed; then there is no trace to continue.
    let _ = span.set_parent(parent);
    span
}
