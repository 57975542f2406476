//! OTLP in, over gRPC (`grpc`) and HTTP (`http`): traces and metrics of any OpenTelemetry SDK or collector.
//!
//! **Traces.** An export is reduced to what joining needs (`reduce`, by the semantic conventions in `conventions`,
//! `operation` and `sampling`; names once redacted are remembered in `known`), made durable in the span log (`log`, several
//! exports a transaction, each with a receipt by which a retry is known), and acknowledged. The settler takes the rows from
//! memory (`backlog`), or from the log after a restart, gathers spans into traces (`assembler`), joins each trace that came
//! to rest (`tree`, `join`: requests, calls, retries, whose failure is whose), names services for `hosts`, sums up
//! (`tally`), chooses a few requests to keep with their calls (`sampler`), and applies the sums and settles the rows of the
//! log in one transaction: each span counts exactly once, whenever the process is killed and whatever is sent again
//! (`recent`).
//!
//! **Metrics.** Points of the server metrics of the conventions are picked out (`points`), of old and new names of the same
//! thing one is read (`chosen`), what each point adds to its series is found (`series`), and the increments of five-minute
//! buckets are applied with the new states of the series and the receipt of the export (`receipts`) in one transaction, before
//! the export is acknowledged. Other metrics are accepted, counted and dropped.
//!
//! **Both** come in one way (`way_in`): refused by their head where there would be no place, read whole within bounds (`body`), then
//! admitted, then decompressed and decoded.
//!
//! **What is remembered** of exports, spans, hosts, operations, exemplars and sampled requests goes in the background when it is old
//! (`forgetting`).
//!
//! **Invariants.** What is acknowledged is durable. Rows that cannot be right are refused one by one, by the protocol's
//! partial success. Everything is bounded: calls in flight, bytes of a message and of all in memory, the time that one may
//! take to arrive, bytes in the log, spans in memory, tenants; what is refused, dropped or cut is counted by name (`counts`),
//! and RESOURCE_EXHAUSTED always says when to come again.
//!
//! **Deliberately unknown here**: events and baggage (nothing is kept that nothing reads); which spans a sampler left out
//! (a sampled span stands for as many as its threshold says).

mod assembler;
mod backlog;
mod body;
mod chosen;
mod conventions;
mod counts;
mod door;
mod effort;
mod forgetting;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod grpc;
mod hashing;
mod hosts;
mod http;
mod increments;
mod join;
mod known;
mod log;
mod meaning;
mod names;
mod operation;
mod pipeline;
mod points;
mod receipts;
mod receivers;
mod recent;
mod reduce;
mod refusal;
mod sampler;
mod sampling;
mod sent;
mod series;
mod settler;
mod span;
mod tally;
mod tenants;
mod tree;
mod utilisation;
mod waiting;
mod way_in;

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod metrics_tests;
#[cfg(test)]
mod region_tests;
#[cfg(test)]
mod sample_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod trace_bounds_tests;
#[cfg(test)]
mod trace_detail_tests;
#[cfg(test)]
mod trace_tests;

use std::sync::Arc;

use attain_runtime::Shutdown;
use attain_runtime::admission::Class;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;

use crate::storage::Store;
use crate::{Config, Error};
use assembler::Patience;
use backlog::Backlog;
use counts::Counts;
pub(crate) use door::TraceDoor;
use hosts::HostLimits;
pub(crate) use increments::SeriesLimits;
use log::SpanLog;
#[doc(hidden)]
pub use pipeline::Pipeline;
pub(crate) use points::PointLimits;
use receivers::{MetricsReceiver, TraceReceiver};
pub(crate) use reduce::SpanLimits;
pub(crate) use sampler::SampleLimits;
pub(crate) use sent::AttributeLimits;
use settler::{Settler, Settling};
use tenants::Tenants;
pub use utilisation::AgeGauges;

/// Most spans settled in one transaction, those of one trace or part more: it takes well under a second, and others wait for it.
const SPANS_PER_SETTLEMENT_MAX: usize = 20_000;

/// What of an export, and of all exports of a connection, may come before it is read: little is sent in vain of one that its head
/// refuses.
const WINDOWS: Windows = Windows { call_bytes: 64 * 1024, connection_bytes: 1024 * 1024 };

/// The services that the health of the receiver is reported for.
const SERVICE_NAMES: &[&str] =
    &["opentelemetry.proto.collector.trace.v1.TraceService", "opentelemetry.proto.collector.metrics.v1.MetricsService"];

/// Receives OTLP/gRPC on the first listener, OTLP/HTTP on the second, and settles what arrived, until `shutdown`; exports
/// in flight end within the drain time. What is not settled then is settled after the next start.
///
/// # Errors
/// Where the transport fails by itself.
pub(crate) async fn serve(
    config: Arc<Config>,
    store: Store,
    (grpc_listener, http_listener): (TcpListener, TcpListener),
    readiness: Readiness,
    clock: Clock,
    shutdown: Shutdown,
    door: TraceDoor,
) -> Result<(), Error> {
    let counts = Arc::new(Counts::default());
    let backlog = Arc::new(Backlog::default());
    let settler = Settler::new(store.clone(), Arc::clone(&backlog), settling(&config), Arc::clone(&counts));
    let settling = tokio::spawn(settler.run(clock.clone(), shutdown.clone()));

    let log = SpanLog::start(store.clone(), clock.clone(), backlog, config.span_log_bytes_max);
    let traces = TraceReceiver {
        config: Arc::clone(&config),
        clock: clock.clone(),
        log,
        known: Arc::default(),
        counts: Arc::clone(&counts),
        tenants: None,
    };
    // Whom the mesh lets in need not be looked at again.
    door.open(traces.clone());
    let tenants = Arc::new(Tenants::new(store.clone(), config.tenants_max));
    let traces = TraceReceiver { tenants: Some(Arc::clone(&tenants)), ..traces };
    let forgetting = tokio::spawn(forgetting::run(store.clone(), Arc::clone(&config), clock.clone()));
    let metrics = MetricsReceiver { config: Arc::clone(&config), clock, store, counts: Arc::clone(&counts), tenants };
    let receivers = (Arc::new(traces), Arc::new(metrics));
    let routes = grpc::routes(receivers.clone(), &config, &counts);
    let over_http = http::serve(&config, http_listener, receivers, counts, readiness.clone(), shutdown.clone());
    let member = Member {
        readiness,
        service_names: SERVICE_NAMES,
        listener: grpc_listener,
        limits: config.limits,
        // They are admitted on their way in, once they are there as a whole.
        classify: |_| Class::Vital,
        drain: config.drain(),
        windows: WINDOWS,
    };
    let over_grpc = member.serve(routes, shutdown);
    tokio::pin!(over_http, over_grpc);
    // HTTP ends with the shutdown only; gRPC that fails by itself ends both.
    let result = tokio::select! {
        result = &mut over_grpc => {
            if result.is_ok() {
                over_http.await;
            }
            result
        }
        () = &mut over_http => over_grpc.await,
    };
    // It ends by itself at the same shutdown; where serving failed alone, the process ends.
    settling.abort();
    forgetting.abort();
    Ok(result?)
}

fn settling(config: &Config) -> Settling {
    let patience = Patience {
        idle_ms: config.trace_idle_seconds as i64 * 1000,
        max_ms: config.trace_max_seconds as i64 * 1000,
        spans_per_trace_max: config.trace_spans_max,
        spans_per_settlement_max: SPANS_PER_SETTLEMENT_MAX,
        settled_max: config.settled_spans_max,
        settled_ms: i64::from(config.span_receipt_minutes) * 60_000,
        producers_max: config.message_senders_max,
    };
    let hosts = HostLimits { days: i64::from(config.host_days), hosts_max: config.hosts_per_tenant_max };
    Settling { patience, spans_max: config.spans_in_memory_max, hosts, samples: config.sample_limits() }
}
