//! The gRPC face: decode, use case, encode.

mod lifecycle_service;
mod webhook_service;

use std::sync::Arc;

use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::recommendation_service_server::RecommendationService;
use attain_runtime::admission::Class;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::EntityId;
use tonic::{Request, Response, Status};

use crate::decisions::Came;
use crate::engine::Engine;
use crate::message::lifecycle as message;
use crate::message::{slo, window};
use crate::page::{next_token, page_size, position};
use crate::{Error, calibration, comparison, consistency, decisions, impact, lifecycle, recommendations, what_if};

/// What the names of RPCs begin with that change nothing.
const READ_VERBS: [&str; 4] = ["Get", "List", "Analyze", "Replay"];

/// Answers the contract.
#[derive(Debug, Clone)]
pub(crate) struct Transport(pub(crate) Arc<Engine>);

/// What a call costs.
pub(crate) fn classify(path: &str) -> Class {
    let name = path.rsplit('/').next().unwrap_or_default();
    if READ_VERBS.iter().any(|verb| name.starts_with(verb)) { Class::Read } else { Class::Write }
}

#[tonic::async_trait]
impl RecommendationService for Transport {
    async fn get_slo_recommendations(
        &self,
        request: Request<wire::GetSloRecommendationsRequest>,
    ) -> Result<Response<wire::GetSloRecommendationsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let service = entity_id(&request.service_id)?;
        let window = window::asked(request.window_days, request.calendar_window).map_err(Error::from)?;
        let answer = recommendations::newest(&self.0, &context, service, window).await?;
        let recommendation = Some(answer.recommendation);
        Ok(Response::new(wire::GetSloRecommendationsResponse {
            recommendation,
            stale: answer.staleness.is_some(),
            stale_reason: answer.staleness.map(|why| why.word().to_owned()).unwrap_or_default(),
            knowledge_age: Some(convert::duration(answer.knowledge_age_ms)),
        }))
    }

    async fn get_recommendation(
        &self,
        request: Request<wire::GetRecommendationRequest>,
    ) -> Result<Response<wire::GetRecommendationResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(lifecycle::recommendation(&self.0, &context, &request.into_inner().recommendation_id).await?))
    }

    async fn replay_recommendation(
        &self,
        request: Request<wire::ReplayRecommendationRequest>,
    ) -> Result<Response<wire::ReplayRecommendationResponse>, Status> {
        let context = context(&request)?;
        let replayed = recommendations::replay(&self.0, &context, &request.into_inner().recommendation_id).await?;
        Ok(Response::new(replayed))
    }

    async fn get_recommendation_changes(
        &self,
        request: Request<wire::GetRecommendationChangesRequest>,
    ) -> Result<Response<wire::GetRecommendationChangesResponse>, Status> {
        let context = context(&request)?;
        let wire::GetRecommendationChangesRequest { recommendation_id, since } = request.into_inner();
        Ok(Response::new(comparison::compare(&self.0, &context, &recommendation_id, &since).await?))
    }

    async fn decide_slo(
        &self,
        request: Request<wire::DecideSloRequest>,
    ) -> Result<Response<wire::DecideSloResponse>, Status> {
        let context = context(&request)?;
        let came = decisions::decide_slo(&self.0, &context, request.into_inner()).await?;
        let (slo, decision, pending) = match &came {
            Came::Decided(decided) => (decided.slo.as_ref(), Some(slo::decision(&decided.decision)), None),
            Came::Pending(pending, in_force) => (in_force.as_ref(), None, Some(&**pending)),
        };
        let pending = pending.map(|pending| message::pending(pending, self.0.clock.now_ms()));
        Ok(Response::new(wire::DecideSloResponse { slo: slo.map(slo::slo), decision, pending }))
    }

    async fn list_slos(
        &self,
        request: Request<wire::ListSlosRequest>,
    ) -> Result<Response<wire::ListSlosResponse>, Status> {
        let context = context(&request)?;
        let service = entity_id(&request.into_inner().service_id)?;
        let slos = self.0.store.slos(&context.tenant, &service).await?;
        Ok(Response::new(wire::ListSlosResponse { slos: slos.iter().map(slo::slo).collect() }))
    }

    async fn list_decisions(
        &self,
        request: Request<wire::ListDecisionsRequest>,
    ) -> Result<Response<wire::ListDecisionsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let service = entity_id(&request.service_id)?;
        let size = page_size(request.page_size)?;
        let before = position(&request.page_token)?.unwrap_or(u64::MAX);
        let mut page = self.0.store.decisions(&context.tenant, &service, before, size + 1).await?;
        let next_page_token = next_token(&mut page, size, |(sequence, _)| *sequence);
        let decisions = page.iter().map(|(_, decision)| slo::decision(decision)).collect();
        Ok(Response::new(wire::ListDecisionsResponse { decisions, next_page_token }))
    }

    async fn analyze_impact(
        &self,
        request: Request<wire::AnalyzeImpactRequest>,
    ) -> Result<Response<wire::AnalyzeImpactResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(impact::analyze(&self.0, &context, &request.into_inner()).await?))
    }

    async fn analyze_what_if(
        &self,
        request: Request<wire::AnalyzeWhatIfRequest>,
    ) -> Result<Response<wire::AnalyzeWhatIfResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(what_if::analyze(&self.0, &context, &request.into_inner()).await?))
    }

    async fn analyze_consistency(
        &self,
        request: Request<wire::AnalyzeConsistencyRequest>,
    ) -> Result<Response<wire::AnalyzeConsistencyResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(consistency::analyze(&self.0, &context, request.into_inner()).await?))
    }

    async fn list_audit_records(
        &self,
        request: Request<wire::ListAuditRecordsRequest>,
    ) -> Result<Response<wire::ListAuditRecordsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let service = if request.service_id.is_empty() { None } else { Some(entity_id(&request.service_id)?) };
        let size = page_size(request.page_size)?;
        let after = position(&request.page_token)?.unwrap_or(0);
        let service = service.as_ref().map(EntityId::as_str);
        let mut page = self.0.store.audit_records(&context.tenant, service, after, size + 1).await?;
        let next_page_token = next_token(&mut page, size, |record| record.sequence);
        let records = page.into_iter().map(slo::audit_record).collect();
        Ok(Response::new(wire::ListAuditRecordsResponse { records, next_page_token }))
    }

    async fn get_calibration(
        &self,
        request: Request<wire::GetCalibrationRequest>,
    ) -> Result<Response<wire::GetCalibrationResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(calibration::read(&self.0, &context, request.get_ref()).await?))
    }
}

fn context<T>(request: &Request<T>) -> Result<CallContext, Status> {
    CallContext::read(request.metadata(), call_timeout())
}

fn entity_id(text: &str) -> Result<EntityId, Error> {
    Ok(EntityId::new("service_id", text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_a_write() {
        for name in
            ["RecommendationService/DecideSlo", "LifecycleService/ApproveDecision", "WebhookService/CreateWebhook"]
        {
            assert_eq!(classify(&format!("/attain.recommendation.v1.{name}")), Class::Write);
        }
        assert_eq!(classify("/attain.recommendation.v1.LifecycleService/ListPendingDecisions"), Class::Read);
        assert_eq!(classify("/attain.recommendation.v1.RecommendationService/AnalyzeImpact"), Class::Read);
    }
}
