//! Starts members: one by itself, or all of them in this process, speaking gRPC all the same.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use attain_recommendation::{KeyText, make_key_file};
use attain_runtime::clock::Clock;
use attain_runtime::config::Sources;
use attain_runtime::privacy::PrivacyConfig;
use attain_runtime::telemetry::{self, TelemetryConfig};
use attain_runtime::{Shutdown, serve};
use tokio::task::JoinSet;

use crate::cli::{Format, Member, ServeOptions, SettingsOptions, UpOptions};
use crate::output;

/// How long `up` waits for every member to be ready before it says what is missing and goes on waiting.
const READY_NOTICE: Duration = Duration::from_secs(10);

/// Name of the key that secrets of webhooks are encrypted with, where `up` makes one.
const WEBHOOK_KEY: &str = "webhooks.key";

/// A mesh that runs in this process.
pub(crate) struct Mesh {
    /// Where its doors are.
    pub(crate) addresses: Addresses,
    members: JoinSet<anyhow::Result<()>>,
    shutdown: Shutdown,
}

/// Where a mesh listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// REST.
    pub(crate) gateway: SocketAddr,
    /// OTLP/gRPC.
    pub(crate) otlp: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) otlp_http: SocketAddr,
    /// gRPC of ingestion.
    pub(crate) ingestion: SocketAddr,
    /// gRPC of graph.
    pub(crate) graph: SocketAddr,
    /// gRPC of recommendation.
    pub(crate) recommendation: SocketAddr,
    /// gRPC of rag.
    pub(crate) rag: SocketAddr,
}

/// `attain up`.
pub(crate) async fn up(options: UpOptions, format: Format, shutdown: Shutdown) -> anyhow::Result<()> {
    let began = Instant::now();
    let sources = sources(&options.settings);
    let _telemetry = telemetry::start("mesh", &sources.section::<TelemetryConfig>("telemetry")?)?;
    let doors = Doors { gateway: options.listen, otlp: options.otlp_listen, otlp_http: options.otlp_http_listen };
    let mut mesh = Mesh::start(&options.data_dir, doors, sources, shutdown).await?;
    tokio::select! {
        ready = wait_until_ready(mesh.addresses.gateway) => ready?,
        ended = mesh.first_to_end() => return ended,
    }
    output::mesh_is_up(&mesh.addresses, &options.data_dir, began.elapsed(), format);
    mesh.run().await
}

/// `attain serve MEMBER`.
pub(crate) async fn serve_one(options: ServeOptions, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut sources = sources(&options.settings);
    let name = member_name(options.member);
    sources.overrides.extend(options.listen.map(|address| format!("{name}.listen={address}")));
    let telemetry_config = sources.section::<TelemetryConfig>("telemetry")?;
    let privacy = sources.section::<PrivacyConfig>("privacy")?;
    let prepared = Prepared::read(options.member, &sources)?;
    if options.check {
        privacy.redactor(None)?;
        return Ok(());
    }
    privacy.apply(None)?;
    let _telemetry = telemetry::start(name, &telemetry_config)?;
    let bound = prepared.bind().await?;
    tracing::info!(member = name, address = %bound.address(), "listening");
    bound.serve(Clock::system(), shutdown).await
}

/// Where a mesh is asked to listen for the world outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    /// REST.
    pub(crate) gateway: SocketAddr,
    /// OTLP/gRPC.
    pub(crate) otlp: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) otlp_http: SocketAddr,
}

impl Mesh {
    /// Starts every member; the gateway answers when this returns, readiness may follow.
    pub(crate) async fn start(
        data_dir: &Path,
        doors: Doors,
        mut sources: Sources,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
        // Before a port opens: what came in earlier would be kept by another rule.
        sources.section::<PrivacyConfig>("privacy")?.apply(Some(data_dir))?;
        sources.defaults.extend(defaults(data_dir)?);
        sources.overrides.push(format!("gateway.listen={}", doors.gateway));
        sources.overrides.push(format!("ingestion.otlp_listen={}", doors.otlp));
        sources.overrides.push(format!("ingestion.otlp_http_listen={}", doors.otlp_http));

        let mut members = JoinSet::new();
        let mut start =
            async |member, sources: &Sources| -> anyhow::Result<(SocketAddr, Option<(SocketAddr, SocketAddr)>)> {
                let bound = Prepared::read(member, sources)?.bind().await?;
                let addresses = (bound.address(), bound.otlp_addresses());
                let stop = shutdown.clone();
                members.spawn(async move {
                    let result = bound.serve(Clock::system(), stop.clone()).await;
                    // One member's end is the end of all.
                    stop.cancel();
                    result.with_context(|| format!("{} failed", member_name(member)))
                });
                Ok(addresses)
            };
        let point = |sources: &mut Sources, readers: &[&str], name: &str, address: SocketAddr| {
            sources.overrides.extend(readers.iter().map(|reader| format!("{reader}.{name}_url=http://{address}")));
        };
        let (ingestion, otlp_addresses) = start(Member::Ingestion, &sources).await?;
        point(&mut sources, &["graph", "recommendation", "gateway"], "ingestion", ingestion);
        let (graph, _) = start(Member::Graph, &sources).await?;
        point(&mut sources, &["recommendation", "gateway"], "graph", graph);
        let (rag, _) = start(Member::Rag, &sources).await?;
        point(&mut sources, &["recommendation", "gateway"], "rag", rag);
        make_webhook_key(data_dir, &sources)?;
        let (recommendation, _) = start(Member::Recommendation, &sources).await?;
        point(&mut sources, &["gateway"], "recommendation", recommendation);
        let (gateway, _) = start(Member::Gateway, &sources).await?;
        let (otlp, otlp_http) = otlp_addresses.unwrap_or((doors.otlp, doors.otlp_http));
        let addresses = Addresses { gateway, otlp, otlp_http, ingestion, graph, recommendation, rag };
        Ok(Self { addresses, members, shutdown })
    }

    /// Runs until the shutdown, then until every member has drained.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.members.join_next().await {
            let ended = ended.map_err(|_| panicked()).and_then(|result| result);
            self.shutdown.cancel();
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// Returns when a member ends; an error unless that was asked for.
    async fn first_to_end(&mut self) -> anyhow::Result<()> {
        match self.members.join_next().await {
            Some(ended) => ended.map_err(|_| panicked())?,
            None => Ok(()),
        }
    }
}

/// Without the panic's own words, which the log has: they may repeat what came in.
fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a member panicked; the log says where")
}

/// What `up` assumes where nothing else is said: ports of the system's choosing, files in the data folder.
fn defaults(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let dir = std::path::absolute(data_dir)?;
    let dir = dir.to_str().context("the data folder's name is no Unicode text")?;
    let mut defaults: Vec<String> =
        ["ingestion", "graph", "recommendation", "rag"].map(|member| format!("{member}.listen=127.0.0.1:0")).into();
    defaults.extend(
        ["ingestion", "recommendation", "rag"].map(|member| format!("{member}.database_url=sqlite:{dir}/{member}.db")),
    );
    defaults.push(format!("rag.index_dir={dir}/index"));
    defaults.push(format!("recommendation.webhooks.key_file={dir}/{WEBHOOK_KEY}"));
    Ok(defaults)
}

/// Makes the key that secrets of webhooks are encrypted with, unless another one is named.
fn make_webhook_key(data_dir: &Path, sources: &Sources) -> anyhow::Result<()> {
    let file = std::path::absolute(data_dir)?.join(WEBHOOK_KEY);
    let config: attain_recommendation::Config = sources.section(member_name(Member::Recommendation))?;
    if config.webhooks.key_file.as_ref() != Some(&file) || config.webhooks.keys != KeyText::default() {
        return Ok(());
    }
    make_key_file(&file).with_context(|| format!("cannot make the key {}", file.display()))
}

pub(crate) fn sources(settings: &SettingsOptions) -> Sources {
    Sources {
        file: settings.config.clone(),
        environment: true,
        overrides: settings.overrides.clone(),
        ..Sources::default()
    }
}

/// Asks the gateway until every member is ready; says once what is missing when that takes long.
pub(crate) async fn wait_until_ready(gateway: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let began = Instant::now();
    let mut noticed = false;
    loop {
        let answer = client.get(format!("http://{gateway}/readyz")).timeout(Duration::from_secs(2)).send().await;
        if let Ok(answer) = answer {
            if answer.status().is_success() {
                return Ok(());
            }
            if !noticed && began.elapsed() > READY_NOTICE {
                noticed = true;
                tracing::warn!(missing = %answer.text().await.unwrap_or_default(), "not ready yet");
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

fn member_name(member: Member) -> &'static str {
    match member {
        Member::Ingestion => "ingestion",
        Member::Graph => "graph",
        Member::Recommendation => "recommendation",
        Member::Rag => "rag",
        Member::Gateway => "gateway",
    }
}

/// A member whose settings were read and found sound.
enum Prepared {
    Ingestion(Box<attain_ingestion::Config>),
    Graph(attain_graph::Config),
    Recommendation(Box<attain_recommendation::Config>),
    Rag(Box<attain_rag::Config>),
    Gateway(attain_gateway::Config),
}

/// A member whose ports are open.
struct Bound {
    prepared: Prepared,
    listener: tokio::net::TcpListener,
    /// OTLP/gRPC and OTLP/HTTP.
    otlp_listeners: Option<(tokio::net::TcpListener, tokio::net::TcpListener)>,
}

impl Prepared {
    fn read(member: Member, sources: &Sources) -> anyhow::Result<Self> {
        macro_rules! read {
            ($variant:ident, $service:ident) => {{
                let config: $service::Config = sources.section(member_name(member))?;
                config.validate()?;
                Self::$variant(config.into())
            }};
        }
        Ok(match member {
            Member::Ingestion => read!(Ingestion, attain_ingestion),
            Member::Graph => read!(Graph, attain_graph),
            Member::Recommendation => read!(Recommendation, attain_recommendation),
            Member::Rag => read!(Rag, attain_rag),
            Member::Gateway => read!(Gateway, attain_gateway),
        })
    }

    async fn bind(self) -> anyhow::Result<Bound> {
        let (address, otlp_addresses) = match &self {
            Self::Ingestion(config) => (config.listen, Some((config.otlp_listen, config.otlp_http_listen))),
            Self::Graph(config) => (config.listen, None),
            Self::Recommendation(config) => (config.listen, None),
            Self::Rag(config) => (config.listen, None),
            Self::Gateway(config) => (config.listen, None),
        };
        let listener = serve::listen(address).await?;
        let otlp_listeners = match otlp_addresses {
            None => None,
            Some((grpc, http)) => {
                let grpc = serve::listen(grpc)
                    .await
                    .context("choose another address for OTLP/gRPC: --otlp-listen, or ingestion.otlp_listen")?;
                let http = serve::listen(http).await.context(
                    "choose another address for OTLP/HTTP: --otlp-http-listen, or ingestion.otlp_http_listen",
                )?;
                Some((grpc, http))
            }
        };
        Ok(Bound { prepared: self, listener, otlp_listeners })
    }
}

impl Bound {
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    fn otlp_addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let address =
            |listener: &tokio::net::TcpListener| listener.local_addr().expect("a bound listener has an address");
        self.otlp_listeners.as_ref().map(|(grpc, http)| (address(grpc), address(http)))
    }

    async fn serve(self, clock: Clock, shutdown: Shutdown) -> anyhow::Result<()> {
        let listener = self.listener;
        match self.prepared {
            Prepared::Ingestion(config) => {
                let (otlp, otlp_http) = self.otlp_listeners.expect("ingestion binds all three");
                let listeners = attain_ingestion::Listeners { mesh: listener, otlp, otlp_http };
                attain_ingestion::serve(*config, listeners, clock, shutdown).await?;
            }
            Prepared::Graph(config) => attain_graph::serve(config, listener, clock, shutdown).await?,
            Prepared::Recommendation(config) => {
                attain_recommendation::serve(*config, listener, clock, shutdown).await?
            }
            Prepared::Rag(config) => attain_rag::serve(*config, listener, clock, shutdown).await?,
            Prepared::Gateway(config) => attain_gateway::serve(config, listener, clock, shutdown).await?,
        }
        Ok(())
    }
}
