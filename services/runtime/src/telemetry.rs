//! Structured logs always; traces and metrics by OTLP when an endpoint is configured.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use opentelemetry::metrics::Histogram;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message as _;
use serde::Deserialize;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::Error;
use crate::context::MetadataExtractor;
use crate::exported::RedactedSpans;
use crate::log_lines::RedactedLines;

/// What a process tells of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// OTLP/gRPC endpoint for the process's own traces and metrics, for example `http://collector:4317`; none by default.
    pub otlp_endpoint: Option<String>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Which logs are written, in the syntax of tracing's filters.
    pub log_filter: String,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            log_format: LogFormat::Text,
            log_filter: "info,sqlx=warn,h2=warn,hyper=warn".into(),
        }
    }
}

/// Flushes what is still to be exported when dropped.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Starts logs, and exports when an endpoint is configured. Once a process; logs go to standard error.
///
/// # Errors
/// Names a filter or an endpoint that cannot be understood.
pub fn start(process: &str, config: &TelemetryConfig) -> Result<Telemetry, Error> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|error| Error::Telemetry(format!("telemetry.log_filter: {error}")))?;
    let format = config.log_format;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(move || RedactedLines::new(std::io::stderr(), format));
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    global::set_text_map_propagator(TraceContextPropagator::new());
    let (traces, metrics) = match &config.otlp_endpoint {
        None => (None, None),
        Some(endpoint) => {
            let (traces, metrics) = exporters(process, endpoint)?;
            (Some(traces), Some(metrics))
        }
    };
    let spans = traces.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("attain")));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans.with_filter(EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,sqlx=off")))
        .try_init()
        .map_err(|error| Error::Telemetry(error.to_string()))?;
    std::panic::set_hook(Box::new(tell_panic));
    Ok(Telemetry { traces, metrics })
}

/// A panic as a line of the log: its message may repeat a text that came in, as that of a slice out of bounds does.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("of no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    let frames = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then_some(backtrace);
    let message = attain_redaction::redact(message).0;
    tracing::error!(message = %message, place, backtrace = frames.map(tracing::field::display), "panicked");
}

fn exporters(process: &str, endpoint: &str) -> Result<(SdkTracerProvider, SdkMeterProvider), Error> {
    // The library's errors repeat the address, which may hold a password.
    let named = |_: opentelemetry_otlp::ExporterBuildError| {
        Error::Telemetry("telemetry.otlp_endpoint: is no address such as http://collector:4317".to_owned())
    };
    let resource = Resource::builder().with_service_name(format!("attain-{process}")).build();
    let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(named)?;
    let points = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(named)?;
    let traces =
        SdkTracerProvider::builder().with_batch_exporter(RedactedSpans(spans)).with_resource(resource.clone()).build();
    let metrics = SdkMeterProvider::builder().with_periodic_exporter(points).with_resource(resource).build();
    global::set_tracer_provider(traces.clone());
    global::set_meter_provider(metrics.clone());
    Ok((traces, metrics))
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Nobody is left to hear of a failed flush.
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown();
        }
        if let Some(metrics) = &self.metrics {
            let _ = metrics.shutdown();
        }
    }
}

/// What stands for a method that nobody serves, so that strangers cannot make up names and series.
const OTHER_METHOD: &str = "_OTHER";
/// What members serve beside the contract.
const OTHER_METHODS: [&str; 6] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
];

static METHODS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let contract = prost_types::FileDescriptorSet::decode(attain_proto::DESCRIPTORS).expect("the contract is valid");
    let services = contract.file.iter().flat_map(|file| file.service.iter().map(move |service| (file, service)));
    let methods = services.flat_map(|(file, service)| {
        service.method.iter().map(move |method| format!("{}.{}/{}", file.package(), service.name(), method.name()))
    });
    methods.chain(OTHER_METHODS.map(str::to_owned)).collect()
});

/// The method that a path asks for, without its slash.
fn known_method(path: &str) -> &'static str {
    METHODS.get(path.strip_prefix('/').unwrap_or(path)).map_or(OTHER_METHOD, String::as_str)
}

/// Gives every call a span that continues the caller's trace, and counts its duration.
#[derive(Debug, Clone)]
pub struct CallLayer {
    service: &'static str,
    duration: Histogram<f64>,
}

impl CallLayer {
    /// `service` names the member in spans and metrics.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        let duration = global::meter("attain").f64_histogram("rpc.server.call.duration").with_unit("s").build();
        Self { service, duration }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Call { inner, layer: self.clone() }
    }
}

/// See [`CallLayer`].
#[derive(Debug, Clone)]
pub struct Call<S> {
    inner: S,
    layer: CallLayer,
}

impl<S, B> Service<Request<B>> for Call<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = known_method(request.uri().path());
        let span = tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system = "grpc",
            attain.service = self.layer.service,
            rpc.grpc.status_code = field::Empty,
        );
        let metadata = MetadataMap::from_headers(request.headers().clone());
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&MetadataExtractor(&metadata)));
        // Fails only where no tracer is installed; then there is no trace to continue.
        let _ = span.set_parent(parent);
        let (duration, service) = (self.layer.duration.clone(), self.layer.service);
        let answer = {
            let _entered = span.enter();
            self.inner.call(request)
        };
        let recorded = span.clone();
        Box::pin(
            async move {
                let start = Instant::now();
                let response = answer.await?;
                // A failure after the first message travels in trailers and shows in the caller's span.
                let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
                recorded.record("rpc.grpc.status_code", code as i64);
                let labels = [
                    KeyValue::new("rpc.method", method),
                    KeyValue::new("attain.service", service),
                    KeyValue::new("rpc.grpc.status_code", code as i64),
                ];
                duration.record(start.elapsed().as_secs_f64(), &labels);
                Ok(response)
            }
            .instrument(span),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_that_are_served_are_named() {
        for method in [
            "attain.ingestion.v1.IngestionService/ListServices",
            "attain.status.v1.StatusService/GetStatus",
            "grpc.health.v1.Health/Check",
        ] {
            assert_eq!(known_method(&format!("/{method}")), method);
        }
        for path in [
            "/jane@mail.example/x",
            "/attain.ingestion.v1.IngestionService/jane",
            "",
            "/",
            "//grpc.health.v1.Health/Check",
        ] {
            assert_eq!(known_method(path), OTHER_METHOD, "{path}");
        }
    }
}
