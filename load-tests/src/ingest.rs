//! SLI buckets into ingestion: each acknowledged one must be there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{GetServiceRequest, IngestSliBucketsRequest, SliBucketDeclaration};
use attain_vocabulary::{BUCKET_MS, bucket_start};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::Load;
use crate::drive::drive;

const BUCKETS_PER_CALL: u64 = 500;
/// Buckets of one service: ninety days.
const BUCKETS_PER_SERVICE: u64 = 25_500;
const BUCKETS_PER_SECOND_MIN: f64 = 5_000.0;

/// Writes until the time is up, then counts what is kept.
pub(crate) async fn run(load: &Load) -> anyhow::Result<Value> {
    let client = IngestionServiceClient::new(Channel::from_shared(load.address.clone())?.connect().await?);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let newest = bucket_start(now_ms) - BUCKET_MS;
    let run = format!("load-{now_ms}");
    let accepted = Arc::new(AtomicU64::new(0));
    let outcome = {
        let (client, run, accepted) = (client.clone(), run.clone(), Arc::clone(&accepted));
        drive(load, move |call| {
            let (mut client, accepted) = (client.clone(), Arc::clone(&accepted));
            let request = request(&run, call, newest);
            async move {
                let answer = client.ingest_sli_buckets(request).await?.into_inner();
                accepted.fetch_add(answer.accepted_count, Ordering::Relaxed);
                Ok(())
            }
        })
        .await?
    };
    let accepted = accepted.load(Ordering::Relaxed);
    let kept = kept(client, &run, outcome.done()).await?;
    let rate = outcome.rate() * BUCKETS_PER_CALL as f64;
    let objective = "at least 5,000 buckets a second, every acknowledged one kept";
    let mut report = outcome.report(objective, rate >= BUCKETS_PER_SECOND_MIN && kept >= accepted);
    report["buckets_per_second"] = json!(rate);
    report["buckets_acknowledged"] = json!(accepted);
    report["buckets_kept"] = json!(kept);
    Ok(report)
}

fn service_of(run: &str, bucket: u64) -> String {
    format!("{run}-{}", bucket / BUCKETS_PER_SERVICE)
}

fn request(run: &str, call: u64, newest_ms: i64) -> IngestSliBucketsRequest {
    let buckets = (call * BUCKETS_PER_CALL..(call + 1) * BUCKETS_PER_CALL).map(|bucket| SliBucketDeclaration {
        service_id: service_of(run, bucket),
        start_time: Some(timestamp(newest_ms - (bucket % BUCKETS_PER_SERVICE) as i64 * BUCKET_MS)),
        valid_count: 1000.0,
        bad_count: (bucket % 7) as f64,
        ..SliBucketDeclaration::default()
    });
    IngestSliBucketsRequest { service_id: String::new(), buckets: buckets.collect() }
}

async fn kept(mut client: IngestionServiceClient<Channel>, run: &str, calls: u64) -> anyhow::Result<u64> {
    let mut kept = 0;
    for first in (0..=calls * BUCKETS_PER_CALL).step_by(BUCKETS_PER_SERVICE as usize) {
        let request = GetServiceRequest { service_id: service_of(run, first) };
        // A last service whose first bucket was never sent is not known.
        if let Ok(answer) = client.get_service(request).await {
            kept += answer.into_inner().data.map_or(0, |data| data.bucket_count);
        }
    }
    Ok(kept)
}
