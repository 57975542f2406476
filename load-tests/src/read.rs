//! Stored recommendations out of recommendation.

use attain_proto::recommendation::v1::GetSloRecommendationsRequest;
use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use clap::Args;
use serde_json::Value;
use tonic::transport::Channel;

use crate::Load;
use crate::drive::drive;

const LATENCY_MS_P99_MAX: f64 = 100.0;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    load: Load,
    /// Which service's recommendation is read.
    #[arg(long)]
    service_id: String,
}

/// Reads until the time is up; the first read, which may compute, is not measured.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Value> {
    let channel = Channel::from_shared(options.load.address.clone())?.connect().await?;
    let client = RecommendationServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let request = GetSloRecommendationsRequest {
        service_id: options.service_id.clone(),
        ..GetSloRecommendationsRequest::default()
    };
    client.clone().get_slo_recommendations(request.clone()).await?;
    let outcome = drive(&options.load, move |_| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.get_slo_recommendations(request).await.map(|_| ()) }
    })
    .await?;
    let met = outcome.done() > 0 && outcome.latency_ms(0.99) <= LATENCY_MS_P99_MAX;
    Ok(outcome.report("99 % of reads within 100 ms", met))
}
