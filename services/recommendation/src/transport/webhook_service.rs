//! Endpoints of webhooks and messages to them.

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::webhook_service_server::WebhookService;
use tonic::{Request, Response, Status};

use super::{Transport, context};
use crate::webhooks;

#[tonic::async_trait]
impl WebhookService for Transport {
    async fn create_webhook(
        &self,
        request: Request<wire::CreateWebhookRequest>,
    ) -> Result<Response<wire::CreateWebhookResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(webhooks::create(&self.0, &context, request.into_inner()).await?))
    }

    async fn list_webhooks(
        &self,
        request: Request<wire::ListWebhooksRequest>,
    ) -> Result<Response<wire::ListWebhooksResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(webhooks::list(&self.0, &context).await?))
    }

    async fn delete_webhook(
        &self,
        request: Request<wire::DeleteWebhookRequest>,
    ) -> Result<Response<wire::DeleteWebhookResponse>, Status> {
        let context = context(&request)?;
        webhooks::delete(&self.0, &context, &request.into_inner().webhook_id).await?;
        Ok(Response::new(wire::DeleteWebhookResponse {}))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<wire::RotateWebhookSecretRequest>,
    ) -> Result<Response<wire::RotateWebhookSecretResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(webhooks::rotate(&self.0, &context, request.into_inner()).await?))
    }

    async fn list_deliveries(
        &self,
        request: Request<wire::ListDeliveriesRequest>,
    ) -> Result<Response<wire::ListDeliveriesResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(webhooks::deliveries(&self.0, &context, request.into_inner()).await?))
    }

    async fn retry_delivery(
        &self,
        request: Request<wire::RetryDeliveryRequest>,
    ) -> Result<Response<wire::RetryDeliveryResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(webhooks::retry(&self.0, &context, &request.into_inner()).await?))
    }
}
