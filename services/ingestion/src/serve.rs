use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::{Condition, Readiness};
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::imports::Importer;
use crate::storage::{FullTenant, Store};
use crate::transport::{SERVICE_NAME, Transport, classify};
use crate::{Config, Error, catalogue, otlp, prometheus, upkeep};

/// How often it is looked whether storage still answers.
const STORAGE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a tenant is said to be full after something was left out.
const FULL_FOR: Duration = Duration::from_secs(3_600);
const ROOM: &str = "nothing is left out";

/// Where ingestion listens.
#[derive(Debug)]
pub struct Listeners {
    /// The mesh's gRPC.
    pub mesh: TcpListener,
    /// OTLP/gRPC.
    pub otlp: TcpListener,
    /// OTLP/HTTP.
    pub otlp_http: TcpListener,
}

/// Runs ingestion until `shutdown`: the mesh's gRPC service, OTLP/gRPC and OTLP/HTTP, each on its listener. Calls in flight
/// end within the drain time.
///
/// # Errors
/// Where a setting cannot be right, storage cannot be opened, or the transport fails by itself.
pub async fn serve(config: Config, listeners: Listeners, clock: Clock, shutdown: Shutdown) -> Result<(), Error> {
    config.validate()?;
    let config = Arc::new(config);
    let readiness = Readiness::new("ingestion", clock.now_ms());
    let storage = readiness.require("storage", "not opened yet");
    let store = Store::open(&config.database_url, config.capacity()).await?;
    storage.met(store.dialect_name());
    let watch = tokio::spawn(watch_storage(store.clone(), storage));
    let room = tokio::spawn(watch_room(store.watch_full(), readiness.prefer("capacity", ROOM)));

    store.close_days_before(config.closed_before_ms(clock.now_ms()));
    let upkeep = tokio::spawn(upkeep::run(store.clone(), Arc::clone(&config), clock.clone(), shutdown.clone()));

    let following = prometheus::follow(&config, &store, &readiness, &clock, &shutdown)?;
    let (catalogue, following_catalogue) = catalogue::follow(&config, &store, &readiness, &clock, &shutdown)?;
    let traces = otlp::TraceDoor::default();
    let receiving = otlp::serve(
        Arc::clone(&config),
        store.clone(),
        (listeners.otlp, listeners.otlp_http),
        readiness.clone(),
        clock.clone(),
        shutdown.clone(),
        traces.clone(),
    );

    let importer = Importer::new(store.clone(), Arc::clone(&config), traces)?;
    let service =
        Transport::service(store.clone(), Arc::clone(&config), (catalogue, importer), clock, shutdown.clone());
    let member = Member {
        readiness,
        service_names: &[SERVICE_NAME],
        listener: listeners.mesh,
        limits: config.limits,
        classify,
        drain: config.drain(),
        windows: Windows::default(),
    };
    // One that fails by itself ends both.
    let serving = async { member.serve(Routes::new(service), shutdown).await.map_err(Error::from) };
    let result = futures::future::try_join(serving, receiving).await.map(drop);
    for following in [following, following_catalogue].into_iter().flatten() {
        following.abort();
    }
    watch.abort();
    room.abort();
    // Its transaction, if any, ends with it or not at all.
    upkeep.abort();
    store.close().await;
    result
}

/// Keeps the readiness condition true to whether storage answers.
async fn watch_storage(store: Store, condition: Condition) {
    let mut answers = true;
    loop {
        tokio::time::sleep(STORAGE_CHECK_INTERVAL).await;
        match store.check().await {
            Ok(()) => condition.met(store.dialect_name()),
            Err(error) => {
                if answers {
                    tracing::error!(error = %error, "storage does not answer");
                }
                condition.unmet(format!("{} does not answer", store.dialect_name()));
                answers = false;
                continue;
            }
        }
        answers = true;
    }
}

/// Says which tenant is full while something of it is left out.
async fn watch_room(mut full: watch::Receiver<Option<FullTenant>>, condition: Condition) {
    condition.met(ROOM);
    loop {
        match tokio::time::timeout(FULL_FOR, full.changed()).await {
            Ok(Ok(())) => {
                let newest = full.borrow_and_update().clone();
                if let Some(FullTenant { tenant, setting }) = newest {
                    condition.unmet(format!("tenant {tenant} is full: new names are left out ({setting})"));
                }
            }
            // The store is gone.
            Ok(Err(_)) => return,
            Err(_) => condition.met(ROOM),
        }
    }
}
