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
        let asking = self.0.reads.begin("CreateWebhook", &context, request.get_ref());
        let created = webhooks::create(&self.0, &context, request.into_inner()).await;
        asking.written(&created);
        Ok(Response::new(created?))
    }

    async fn list_webhooks(
        &self,
        request: Request<wire::ListWebhooksRequest>,
    ) -> Result<Response<wire::ListWebhooksResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ListWebhooks", &context, request.get_ref());
        asking.answered(webhooks::list(&self.0, &context).await)
    }

    async fn delete_webhook(
        &self,
        request: Request<wire::DeleteWebhookRequest>,
    ) -> Result<Response<wire::DeleteWebhookResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("DeleteWebhook", &context, request.get_ref());
        let deleted = webhooks::delete(&self.0, &context, &request.get_ref().webhook_id).await;
        asking.written(&deleted);
        deleted?;
        Ok(Response::new(wire::DeleteWebhookResponse {}))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<wire::RotateWebhookSecretRequest>,
    ) -> Result<Response<wire::RotateWebhookSecretResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("RotateWebhookSecret", &context, request.get_ref());
        let rotated = webhooks::rotate(&self.0, &context, request.into_inner()).await;
        asking.written(&rotated);
        Ok(Response::new(rotated?))
    }

    async fn list_deliveries(
        &self,
        request: Request<wire::ListDeliveriesRequest>,
    ) -> Result<Response<wire::ListDeliveriesResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ListDeliveries", &context, request.get_ref());
        asking.answered(webhooks::deliveries(&self.0, &context, request.into_inner()).await)
    }

    async fn retry_delivery(
        &self,
        request: Request<wire::RetryDeliveryRequest>,
    ) -> Result<Response<wire::RetryDeliveryResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("RetryDelivery", &context, request.get_ref());
        let retried = webhooks::retry(&self.0, &context, request.get_ref()).await;
        asking.written(&retried);
        Ok(Response::new(retried?))
    }
}
