use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use attain_runtime::Error;
use attain_runtime::admission::Limits;
use attain_runtime::database::without_credentials;
use attain_vocabulary::{DAY_MS, TenantId};
use serde::Deserialize;

use crate::catalogue::CatalogueConfig;
use crate::domain::BucketLimits;
use crate::imports::{ServiceNames, Signatures};
use crate::otlp::{AgeGauges, AttributeLimits, PointLimits, SampleLimits, SeriesLimits, SpanLimits};
use crate::storage::Capacity;

const HOUR_MS: i64 = DAY_MS / 24;

/// Settings of the section `[ingestion]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the service listens for the mesh.
    pub listen: SocketAddr,
    /// Where it listens for OTLP/gRPC.
    pub otlp_listen: SocketAddr,
    /// Where it listens for OTLP/HTTP.
    pub otlp_http_listen: SocketAddr,
    /// `sqlite:path` or `postgres://…`.
    pub database_url: String,
    /// Most calls in flight.
    pub limits: Limits,
    /// How long calls in flight may take to end after the stop, in seconds.
    pub drain_seconds: u64,
    /// Most services in one request.
    pub services_per_request_max: usize,
    /// Most dependencies in one request, `depends_on` lists included.
    pub dependencies_per_request_max: usize,
    /// Most SLI buckets in one request.
    pub buckets_per_request_max: usize,
    /// Most incidents in one request.
    pub incidents_per_request_max: usize,
    /// Most services that one question about histories or freshness may name.
    pub services_per_question_max: usize,
    /// Most history streams at a time.
    pub history_streams_max: usize,
    /// Most followers of changes at a time; each holds a connection's stream and a page of changes. The members of a mesh
    /// need one or two each.
    pub change_followers_max: usize,
    /// Most entities of one tenant.
    pub entities_per_tenant_max: usize,
    /// Most dependencies of one tenant, each counted once a source.
    pub dependencies_per_tenant_max: usize,
    /// How far a sender's clock may run ahead, in seconds.
    pub future_skew_seconds: u32,
    /// How old an SLI bucket may be on arrival, in days.
    pub bucket_age_days_max: u32,
    /// How long SLI history is kept, in days; on PostgreSQL up to four weeks longer, since whole partitions go. A bucket
    /// that is older on arrival is refused.
    pub history_days: u32,
    /// How long after its end an hour is packed into the block of its day, in hours. What comes later is a row again until
    /// the next round.
    pub pack_after_hours: u32,
    /// How often closed hours are packed and what is too old is deleted, in seconds.
    pub upkeep_interval_seconds: u64,
    /// How often the change log is read for what other processes wrote, in milliseconds.
    pub change_poll_ms: u64,
    /// How long no span of a trace may arrive before it is settled, in seconds; three times as long where a parent is
    /// missing. Longer than SDKs wait between exports (5 by default), since each service sends its own part.
    pub trace_idle_seconds: u32,
    /// When a trace is settled at the latest, in seconds after its first span arrived.
    pub trace_max_seconds: u32,
    /// Most spans of one trace that are joined together; one with more is settled in parts.
    pub trace_spans_max: usize,
    /// Most spans, and links of them, that wait in memory for the rest of their traces; what would be settled first goes
    /// early.
    pub spans_in_memory_max: usize,
    /// Most bytes of spans that wait in the database; exports are refused above it, to be sent again.
    pub span_log_bytes_max: u64,
    /// Most attributes of one span, or of one resource; the others are not read.
    pub span_attributes_max: usize,
    /// Longest text of a span's attribute, in characters of one byte; longer ones are not read.
    pub attribute_value_chars_max: usize,
    /// Most links of one span to the senders of its messages; the others are not read.
    pub span_links_max: usize,
    /// Most spans that one may stand for by its sampling threshold, 1 to 2^30; more is cut.
    pub span_weight_max: u32,
    /// How long it is remembered which exports of spans were kept, in minutes: within it a retry counts no second time.
    pub span_receipt_minutes: u32,
    /// Most exports of spans that are remembered; the newest are.
    pub span_receipts_max: usize,
    /// Most settled spans that are remembered, of all tenants: one that comes again counts no second time. Each takes
    /// about 20 bytes of memory and 8 on disk.
    pub settled_spans_max: usize,
    /// Most senders of messages that are remembered, of all tenants, for consumers in other traces that link to them. Each
    /// takes about 25 bytes of memory.
    pub message_senders_max: usize,
    /// Gauges of OTLP metrics that tell how old the oldest waiting message is, and the attribute that names the service.
    pub message_age_gauges: AgeGauges,
    /// How long it is remembered which service answers at a host, in days after its last answer.
    pub host_days: u32,
    /// Most hosts of one tenant of which that is remembered.
    pub hosts_per_tenant_max: usize,
    /// Most operations of one service on one day, those that it calls included; the others are counted under `other`, for
    /// as many callees each by itself.
    pub operations_per_service_max: usize,
    /// How many days of traces call rates and call fractions are measured in, 1 to 90; the last ones of each caller.
    pub call_rate_days: u32,
    /// How long operations are kept, in days.
    pub operation_days: u32,
    /// Requests of one service and hour that are kept with the calls that they waited for, drawn fairly, 0 to 64; 0 keeps
    /// none.
    pub request_samples_per_hour: usize,
    /// How long they are kept, in days, 1 to 30.
    pub request_sample_days: u32,
    /// Largest OTLP export, in bytes, compressed or not. SDKs send at most some hundred kilobytes, collectors some megabytes.
    pub otlp_message_bytes_max: usize,
    /// How long the body of an OTLP export may take to arrive, in seconds; beyond it the sender is asked to come again.
    pub otlp_body_seconds_max: u32,
    /// Most connections of OTLP/HTTP; more wait in the system's queue.
    pub otlp_http_connections_max: usize,
    /// Most tenants that send OTLP: the header that names one is not checked. Those that are known already stay.
    pub tenants_max: usize,
    /// Most series of OTLP metrics of one tenant that are followed at a time; those silent for a day make room.
    pub series_per_tenant_max: usize,
    /// Most processes under one name that are told apart in a series of OTLP metrics; one silent for ten minutes makes room.
    pub streams_per_series_max: usize,
    /// How long it is remembered which exports of delta points and gauges were counted, in minutes; at most twice as long.
    pub metric_receipt_minutes: u32,
    /// Most such exports of one tenant that are remembered within that time.
    pub metric_receipts_max: usize,
    /// Most buckets of a histogram in an OTLP data point. SDKs send 15 explicit ones or at most 160 exponential ones.
    pub point_buckets_max: usize,
    /// Most exemplars that are read of one OTLP data point. SDKs keep one a bucket, or as many as processors.
    pub point_exemplars_max: usize,
    /// Most attributes of one OTLP data point.
    pub point_attributes_max: usize,
    /// Longest value of an attribute of an OTLP data point, in bytes.
    pub point_attribute_bytes_max: usize,
    /// How long exemplars are kept, in days.
    pub exemplar_days: u32,
    /// Most spans of time that counts of Jaeger's dependencies were imported for and that are remembered, of one tenant.
    pub jaeger_spans_max: usize,
    /// A Prometheus-compatible server to read from; none by default.
    pub prometheus: Option<PrometheusConfig>,
    /// A Backstage catalogue to follow; none by default.
    pub catalogue: Option<CatalogueConfig>,
    /// How incidents of pagers find their services.
    pub incidents: IncidentsConfig,
    /// How webhooks prove where they come from.
    pub webhooks: WebhooksConfig,
}

/// How incidents of pagers find their services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentsConfig {
    /// Names that pagers have for services, whatever their case, and the services that they mean.
    pub services: BTreeMap<String, String>,
    /// Names of custom fields, details and tags whose values name services, whatever their case.
    pub service_fields: Vec<String>,
}

/// How webhooks prove where they come from; one that is not set is not checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// PagerDuty: the secrets of its subscriptions.
    pub pagerduty: Option<WebhookConfig>,
    /// Opsgenie: tokens that its integrations send as `X-Opsgenie-Token`.
    pub opsgenie: Option<WebhookConfig>,
    /// incident.io: the signing secrets of its endpoints.
    pub incident_io: Option<WebhookConfig>,
}

/// Secrets of one sender of webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// File with one secret a line; several while they rotate. Read at the start.
    pub secrets_file: PathBuf,
    /// How old a signature that names its time may be, in seconds.
    #[serde(default = "default_tolerance_seconds")]
    pub tolerance_seconds: u32,
}

/// As the Standard Webhooks specification recommends.
fn default_tolerance_seconds() -> u32 {
    300
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        let fields = ["service", "services", "affected service", "affected services", "component", "components"];
        Self { services: BTreeMap::new(), service_fields: fields.map(str::to_owned).to_vec() }
    }
}

/// A Prometheus-compatible server to read SLI buckets, edges and utilisation from.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// Base address, for example `http://127.0.0.1:9090`.
    pub url: String,
    /// TOML file that says which PromQL means what.
    pub mapping_file: PathBuf,
    /// How often it is asked, in seconds.
    pub interval_seconds: u64,
    /// How much of the past is read at the first start, in days.
    pub backfill_days: u32,
    /// How long after its end a bucket is read, in seconds: samples come late.
    pub lag_seconds: u32,
    /// How much of what was read is read again with each new bucket, in seconds: samples come late.
    pub reread_seconds: u32,
    /// Longest that one query may take, in seconds; one that takes longer is asked again for less time. Prometheus itself
    /// stops at two minutes.
    pub query_timeout_seconds: u64,
    /// Share of the time in which the server works for this, while the past is read, in (0, 1].
    pub server_share_ratio: f64,
    /// Most series of one answer; a query with more is refused.
    pub series_per_answer_max: usize,
    /// Most bytes of one answer; a longer one is asked for in halves.
    pub answer_bytes_max: usize,
    /// The tenant that everything is kept for.
    pub tenant: TenantId,
    /// File with a bearer token, read at each query.
    pub bearer_token_file: Option<PathBuf>,
    /// Name for HTTP basic authentication.
    pub basic_username: Option<String>,
    /// File with its password, read at each query.
    pub basic_password_file: Option<PathBuf>,
    /// Headers that each query carries, such as `X-Scope-OrgID` for Mimir; their values are never logged.
    pub headers: BTreeMap<String, Hidden>,
    /// PEM file of the only certificates that the server's may be signed with; those of the system where left out.
    pub ca_file: Option<PathBuf>,
}

/// A text that no log repeats.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            mapping_file: PathBuf::new(),
            interval_seconds: 60,
            backfill_days: 90,
            lag_seconds: 30,
            reread_seconds: 900,
            query_timeout_seconds: 125,
            server_share_ratio: 0.5,
            // 10,000 services with 20 bounds each.
            series_per_answer_max: 200_000,
            // A day of 1,000 services with 10 bounds has about 60 million.
            answer_bytes_max: 96 * 1024 * 1024,
            tenant: TenantId::default(),
            bearer_token_file: None,
            basic_username: None,
            basic_password_file: None,
            headers: BTreeMap::new(),
            ca_file: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            listen: local(7101),
            // The ports that every OpenTelemetry SDK sends to by default.
            otlp_listen: local(4317),
            otlp_http_listen: local(4318),
            database_url: "sqlite:attain-data/ingestion.db".to_owned(),
            limits: Limits::default(),
            drain_seconds: 10,
            services_per_request_max: 20_000,
            dependencies_per_request_max: 60_000,
            buckets_per_request_max: 100_000,
            incidents_per_request_max: 10_000,
            services_per_question_max: 10_000,
            history_streams_max: 64,
            change_followers_max: 64,
            entities_per_tenant_max: 100_000,
            dependencies_per_tenant_max: 300_000,
            future_skew_seconds: 300,
            bucket_age_days_max: 400,
            history_days: 400,
            pack_after_hours: 1,
            upkeep_interval_seconds: 300,
            change_poll_ms: 1_000,
            trace_idle_seconds: 10,
            trace_max_seconds: 60,
            trace_spans_max: 10_000,
            spans_in_memory_max: 500_000,
            span_log_bytes_max: 1 << 30,
            span_attributes_max: 128,
            attribute_value_chars_max: 1_024,
            span_links_max: 128,
            // One of a million.
            span_weight_max: 1 << 20,
            span_receipt_minutes: 60,
            span_receipts_max: 1_000_000,
            settled_spans_max: 2_000_000,
            message_senders_max: 200_000,
            message_age_gauges: AgeGauges::default(),
            host_days: 7,
            hosts_per_tenant_max: 50_000,
            operations_per_service_max: 200,
            call_rate_days: 28,
            operation_days: 90,
            request_samples_per_hour: 8,
            request_sample_days: 3,
            otlp_message_bytes_max: 16 * 1024 * 1024,
            // As long as the Collector waits for an answer.
            otlp_body_seconds_max: 30,
            otlp_http_connections_max: 2_048,
            tenants_max: 1_000,
            series_per_tenant_max: 200_000,
            streams_per_series_max: 64,
            metric_receipt_minutes: 60,
            metric_receipts_max: 500_000,
            point_buckets_max: 4_096,
            point_exemplars_max: 64,
            point_attributes_max: 128,
            point_attribute_bytes_max: 4_096,
            exemplar_days: 90,
            jaeger_spans_max: 10_000,
            prometheus: None,
            catalogue: None,
            incidents: IncidentsConfig::default(),
            webhooks: WebhooksConfig::default(),
        }
    }
}

impl Config {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Names the first setting that cannot be right.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |key: &str, reason: &str| Err(Error::Config(format!("ingestion.{key}: {reason}")));
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| self.database_url.starts_with(scheme)) {
            return refuse("database_url", "begins with sqlite: or postgres://");
        }
        let at_least_one = [
            ("services_per_request_max", self.services_per_request_max),
            ("dependencies_per_request_max", self.dependencies_per_request_max),
            ("buckets_per_request_max", self.buckets_per_request_max),
            ("incidents_per_request_max", self.incidents_per_request_max),
            ("services_per_question_max", self.services_per_question_max),
            ("history_streams_max", self.history_streams_max),
            ("change_followers_max", self.change_followers_max),
            ("entities_per_tenant_max", self.entities_per_tenant_max),
            ("dependencies_per_tenant_max", self.dependencies_per_tenant_max),
            ("bucket_age_days_max", self.bucket_age_days_max as usize),
            ("history_days", self.history_days as usize),
            ("upkeep_interval_seconds", usize::try_from(self.upkeep_interval_seconds).unwrap_or(usize::MAX)),
            ("trace_idle_seconds", self.trace_idle_seconds as usize),
            ("trace_spans_max", self.trace_spans_max),
            ("spans_in_memory_max", self.spans_in_memory_max),
            ("otlp_http_connections_max", self.otlp_http_connections_max),
            ("tenants_max", self.tenants_max),
            ("series_per_tenant_max", self.series_per_tenant_max),
            ("streams_per_series_max", self.streams_per_series_max),
            ("metric_receipt_minutes", self.metric_receipt_minutes as usize),
            ("metric_receipts_max", self.metric_receipts_max),
            ("point_buckets_max", self.point_buckets_max),
            ("point_attributes_max", self.point_attributes_max),
            ("point_attribute_bytes_max", self.point_attribute_bytes_max),
            ("exemplar_days", self.exemplar_days as usize),
            ("jaeger_spans_max", self.jaeger_spans_max),
            ("span_log_bytes_max", usize::try_from(self.span_log_bytes_max).unwrap_or(usize::MAX)),
            ("span_attributes_max", self.span_attributes_max),
            ("attribute_value_chars_max", self.attribute_value_chars_max),
            ("span_receipt_minutes", self.span_receipt_minutes as usize),
            ("span_receipts_max", self.span_receipts_max),
            ("settled_spans_max", self.settled_spans_max),
            ("span_links_max", self.span_links_max),
            ("message_senders_max", self.message_senders_max),
            ("host_days", self.host_days as usize),
            ("hosts_per_tenant_max", self.hosts_per_tenant_max),
            ("operations_per_service_max", self.operations_per_service_max),
            ("operation_days", self.operation_days as usize),
        ];
        if let Some((key, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return refuse(key, "is at least 1");
        }
        self.message_age_gauges
            .validate()
            .map_err(|why| Error::Config(format!("ingestion.message_age_gauges: {why}")))?;
        if !(64 * 1024..=1 << 30).contains(&self.otlp_message_bytes_max) {
            return refuse("otlp_message_bytes_max", "is 65536 to 1073741824");
        }
        // A call as a whole ends after a minute.
        if !(1..=50).contains(&self.otlp_body_seconds_max) {
            return refuse("otlp_body_seconds_max", "is 1 to 50");
        }
        if !(1..=1 << 30).contains(&self.span_weight_max) {
            return refuse("span_weight_max", "is 1 to 1073741824");
        }
        if !(1..=90).contains(&self.call_rate_days) {
            return refuse("call_rate_days", "is 1 to 90");
        }
        if self.request_samples_per_hour > 64 {
            return refuse("request_samples_per_hour", "is 0 to 64");
        }
        if !(1..=30).contains(&self.request_sample_days) {
            return refuse("request_sample_days", "is 1 to 30");
        }
        if self.change_poll_ms < 10 {
            return refuse("change_poll_ms", "is at least 10");
        }
        if self.trace_max_seconds < self.trace_idle_seconds {
            return refuse("trace_max_seconds", "is at least trace_idle_seconds");
        }
        if let Some(catalogue) = &self.catalogue {
            catalogue.validate()?;
        }
        ServiceNames::new(&self.incidents.services)?;
        Signatures::read(&self.webhooks)?;
        match &self.prometheus {
            None => Ok(()),
            Some(prometheus) => prometheus.validate(),
        }
    }

    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            entities_max: self.entities_per_tenant_max,
            dependencies_max: self.dependencies_per_tenant_max,
            operations_per_service_max: self.operations_per_service_max,
            call_rate_days: self.call_rate_days,
            request_samples_per_hour: self.request_samples_per_hour,
        }
    }

    pub(crate) fn sample_limits(&self) -> SampleLimits {
        SampleLimits { per_hour: self.request_samples_per_hour, kept_ms: i64::from(self.request_sample_days) * DAY_MS }
    }

    pub(crate) fn bucket_limits(&self, now_ms: i64) -> BucketLimits {
        let age_days_max = self.bucket_age_days_max.min(self.history_days);
        BucketLimits { now_ms, future_skew_ms: self.future_skew_ms(), age_days_max }
    }

    pub(crate) fn span_limits(&self, now_ms: i64) -> SpanLimits {
        SpanLimits {
            time: self.bucket_limits(now_ms),
            attributes_max: self.span_attributes_max,
            value_bytes_max: self.attribute_value_chars_max,
            links_max: self.span_links_max,
            weight_max: self.span_weight_max,
        }
    }

    pub(crate) fn point_limits(&self, now_ms: i64) -> PointLimits {
        PointLimits {
            time: self.bucket_limits(now_ms),
            attributes_max: self.point_attributes_max,
            attribute_bytes_max: self.point_attribute_bytes_max,
            buckets_max: self.point_buckets_max,
            exemplars_max: self.point_exemplars_max,
            resource: AttributeLimits {
                attributes_max: self.span_attributes_max,
                value_bytes_max: self.attribute_value_chars_max,
            },
        }
    }

    pub(crate) fn series_limits(&self, now_ms: i64) -> SeriesLimits {
        SeriesLimits {
            now_ms,
            series_max: self.series_per_tenant_max,
            streams_max: self.streams_per_series_max,
            receipt_ms: i64::from(self.metric_receipt_minutes) * 60_000,
            receipts_max: self.metric_receipts_max,
        }
    }

    pub(crate) fn otlp_body_patience(&self) -> Duration {
        Duration::from_secs(self.otlp_body_seconds_max.into())
    }

    pub(crate) fn future_skew_ms(&self) -> i64 {
        i64::from(self.future_skew_seconds) * 1000
    }

    /// Hours and days that end before this are over.
    pub(crate) fn closed_before_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.pack_after_hours) * HOUR_MS)
    }

    /// History before this is not kept.
    pub(crate) fn keep_from_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.history_days) * DAY_MS)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Addresses without credentials, and what tells one member from another.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("database_url", &without_credentials(&self.database_url))
            .field("prometheus", &self.prometheus)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PrometheusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusConfig")
            .field("url", &without_credentials(&self.url))
            .field("mapping_file", &self.mapping_file)
            .finish_non_exhaustive()
    }
}

impl PrometheusConfig {
    fn validate(&self) -> Result<(), Error> {
        let refuse = |key: &str, reason: String| Err(Error::Config(format!("ingestion.prometheus.{key}: {reason}")));
        for (key, is_set) in
            [("url", !self.url.is_empty()), ("mapping_file", !self.mapping_file.as_os_str().is_empty())]
        {
            if !is_set {
                return refuse(key, "is required".to_owned());
            }
        }
        match reqwest::Url::parse(&self.url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            Ok(_) => return refuse("url", "is an http or https address".to_owned()),
            Err(error) => return refuse("url", error.to_string()),
        }
        if !self.mapping_file.is_file() {
            return refuse("mapping_file", format!("there is no file {}", self.mapping_file.display()));
        }
        if !(1..=86_400).contains(&self.interval_seconds) {
            return refuse("interval_seconds", "is 1 to 86400".to_owned());
        }
        if self.backfill_days > 400 {
            return refuse("backfill_days", "is at most 400".to_owned());
        }
        if self.lag_seconds > 86_400 {
            return refuse("lag_seconds", "is at most 86400".to_owned());
        }
        if self.reread_seconds > 86_400 {
            return refuse("reread_seconds", "is at most 86400".to_owned());
        }
        if !(1..=3_600).contains(&self.query_timeout_seconds) {
            return refuse("query_timeout_seconds", "is 1 to 3600".to_owned());
        }
        if !(0.01..=1.0).contains(&self.server_share_ratio) {
            return refuse("server_share_ratio", "is 0.01 to 1".to_owned());
        }
        if self.series_per_answer_max == 0 {
            return refuse("series_per_answer_max", "is at least 1".to_owned());
        }
        if self.answer_bytes_max < 64 * 1024 {
            return refuse("answer_bytes_max", "is at least 65536".to_owned());
        }
        self.validate_credentials()?;
        crate::prometheus::read_mappings(&self.mapping_file)?;
        crate::prometheus::check_client(self)
    }

    fn validate_credentials(&self) -> Result<(), Error> {
        let refuse = |key: &str, reason: String| Err(Error::Config(format!("ingestion.prometheus.{key}: {reason}")));
        if self.bearer_token_file.is_some() && self.basic_username.is_some() {
            return refuse("basic_username", "has no meaning beside bearer_token_file".to_owned());
        }
        if self.basic_password_file.is_some() && self.basic_username.is_none() {
            return refuse("basic_password_file", "has no meaning without basic_username".to_owned());
        }
        let files =
            [("bearer_token_file", &self.bearer_token_file), ("basic_password_file", &self.basic_password_file)];
        for (key, file) in files {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                return refuse(key, format!("there is no file {}", file.display()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_runtime::config::Sources;

    fn read(overrides: &[&str]) -> Result<Config, Error> {
        let sources = Sources { overrides: overrides.iter().map(ToString::to_string).collect(), ..Sources::default() };
        let config: Config = sources.section("ingestion")?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn secrets_do_not_show() {
        let prometheus =
            PrometheusConfig { url: "http://me:word-to-hide@p:9090".into(), ..PrometheusConfig::default() };
        let database_url = "postgres://me:word-to-hide@db/x".into();
        let shown = format!("{:?}", Config { database_url, prometheus: Some(prometheus), ..Config::default() });
        assert!(shown.contains("db/x") && shown.contains("p:9090") && !shown.contains("word-to-hide"), "{shown}");
    }

    #[test]
    fn the_defaults_hold() {
        let config = read(&[]).expect("valid");
        let ports = [config.listen.port(), config.otlp_listen.port(), config.otlp_http_listen.port()];
        assert_eq!(ports, [7101, 4317, 4318]);
        assert_eq!(config.buckets_per_request_max, 100_000);
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        let url = "ingestion.prometheus.url=ftp://x";
        let file = "ingestion.prometheus.mapping_file=nowhere.toml";
        let catalogue = "ingestion.catalogue.url=https://backstage.example.com";
        for (overrides, named) in [
            (vec!["ingestion.database_url=mysql://x"], "ingestion.database_url"),
            (vec!["ingestion.buckets_per_request_max=0"], "ingestion.buckets_per_request_max"),
            (vec!["ingestion.history_days=0"], "ingestion.history_days"),
            (vec!["ingestion.call_rate_days=0"], "ingestion.call_rate_days"),
            (vec!["ingestion.call_rate_days=91"], "ingestion.call_rate_days"),
            (vec!["ingestion.request_samples_per_hour=65"], "ingestion.request_samples_per_hour"),
            (vec!["ingestion.request_sample_days=0"], "ingestion.request_sample_days"),
            (vec!["ingestion.change_followers_max=0"], "ingestion.change_followers_max"),
            (vec!["ingestion.change_poll_ms=1"], "ingestion.change_poll_ms"),
            (vec!["ingestion.trace_idle_seconds=61"], "ingestion.trace_max_seconds"),
            (vec!["ingestion.otlp_message_bytes_max=100"], "ingestion.otlp_message_bytes_max"),
            (vec!["ingestion.span_weight_max=0"], "ingestion.span_weight_max"),
            (vec!["ingestion.host_days=0"], "ingestion.host_days"),
            (vec!["ingestion.series_per_tenant_max=0"], "ingestion.series_per_tenant_max"),
            (vec!["ingestion.streams_per_series_max=0"], "ingestion.streams_per_series_max"),
            (vec!["ingestion.tenants_max=0"], "ingestion.tenants_max"),
            (vec!["ingestion.otlp_body_seconds_max=51"], "ingestion.otlp_body_seconds_max"),
            (vec!["ingestion.bukets=1"], "bukets"),
            (vec!["ingestion.webhooks.pagerduty.secrets_file=nowhere"], "ingestion.webhooks.pagerduty.secrets_file"),
            (vec!["ingestion.incidents.services.api=a b"], "ingestion.incidents.services"),
            (vec![url], "mapping_file"),
            (vec![url, file], "ingestion.prometheus.url"),
            (vec!["ingestion.prometheus.url=http://x:9090", file], "ingestion.prometheus.mapping_file"),
            (vec!["ingestion.catalogue.interval_seconds=60"], "url"),
            (vec!["ingestion.catalogue.url=http://me:secret@x"], "ingestion.catalogue.url"),
            (vec![catalogue, "ingestion.catalogue.token_file=nowhere"], "ingestion.catalogue.token_file"),
            (vec![catalogue, "ingestion.catalogue.gone_share_max=1.5"], "ingestion.catalogue.gone_share_max"),
            (vec![catalogue, "ingestion.catalogue.page_size=0"], "ingestion.catalogue.page_size"),
            (vec![catalogue, "ingestion.catalogue.tenant=a b"], "ingestion.catalogue.tenant"),
            (vec![catalogue, "ingestion.catalogue.naming=short"], "naming"),
            (vec!["ingestion.prometheus.tenant=A B", url, file], "tenant"),
        ] {
            let error = read(&overrides).expect_err(named).to_string();
            assert!(error.contains(named), "{overrides:?}: {error}");
            assert!(!error.contains("me:secret"), "{error}");
        }
    }

    #[test]
    fn a_catalogue_needs_only_its_address_and_its_token_is_not_shown() {
        let config = read(&[
            "ingestion.catalogue.url=https://backstage.example.com",
            "ingestion.catalogue.token=a-canary",
            "ingestion.catalogue.kinds={neo4j=datastore}",
        ])
        .expect("valid");
        assert!(!format!("{config:?}").contains("a-canary"));
        assert_eq!(config.catalogue.expect("there").kinds.len(), 1);
    }
}
