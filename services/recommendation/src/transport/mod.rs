//! The gRPC face: decode, use case, encode.

use std::sync::Arc;

use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::recommendation_service_server::RecommendationService;
use attain_runtime::admission::Class;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{EntityId, InvalidValue, TimeWindow};
use tonic::{Request, Response, Status};

use crate::engine::Engine;
use crate::message::slo;
use crate::{Error, comparison, consistency, decisions, drift, impact, models, recommendations, what_if};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 500;

/// Answers the contract.
#[derive(Debug, Clone)]
pub(crate) struct Transport(pub(crate) Arc<Engine>);

/// What a call costs.
pub(crate) fn classify(path: &str) -> Class {
    let writes = ["/DecideSlo", "/RegisterModel", "/PromoteModel", "/RollBackModel"];
    if writes.iter().any(|name| path.ends_with(name)) { Class::Write } else { Class::Read }
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
        let window = TimeWindow::from_days("window_days", request.window_days).map_err(Error::from)?;
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
        let recommendation = recommendations::one(&self.0, &context, &request.into_inner().recommendation_id).await?;
        Ok(Response::new(wire::GetRecommendationResponse { recommendation: Some(recommendation) }))
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
        let decided = decisions::decide_slo(&self.0, &context, request.into_inner()).await?;
        let decision = Some(slo::decision(&decided.decision));
        Ok(Response::new(wire::DecideSloResponse { slo: decided.slo.as_ref().map(slo::slo), decision }))
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

    async fn list_drift(
        &self,
        request: Request<wire::ListDriftRequest>,
    ) -> Result<Response<wire::ListDriftResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        Ok(Response::new(drift::list(&self.0, &context, &request, size).await?))
    }

    async fn list_models(
        &self,
        request: Request<wire::ListModelsRequest>,
    ) -> Result<Response<wire::ListModelsResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(models::list(&self.0, &context).await?))
    }

    async fn get_model_scores(
        &self,
        request: Request<wire::GetModelScoresRequest>,
    ) -> Result<Response<wire::GetModelScoresResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(models::scores(&self.0, &context, &request.into_inner().version).await?))
    }

    async fn register_model(
        &self,
        request: Request<wire::RegisterModelRequest>,
    ) -> Result<Response<wire::RegisterModelResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(models::register(&self.0, &context, request.into_inner()).await?))
    }

    async fn promote_model(
        &self,
        request: Request<wire::PromoteModelRequest>,
    ) -> Result<Response<wire::PromoteModelResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(models::promote(&self.0, &context, &request.into_inner().version).await?))
    }

    async fn roll_back_model(
        &self,
        request: Request<wire::RollBackModelRequest>,
    ) -> Result<Response<wire::RollBackModelResponse>, Status> {
        let context = context(&request)?;
        Ok(Response::new(models::roll_back(&self.0, &context, request.into_inner()).await?))
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
}

fn context<T>(request: &Request<T>) -> Result<CallContext, Status> {
    CallContext::read(request.metadata(), call_timeout())
}

fn entity_id(text: &str) -> Result<EntityId, Error> {
    Ok(EntityId::new("service_id", text)?)
}

fn page_size(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT),
        1..=PAGE_SIZE_MAX => Ok(asked),
        _ => {
            Err(InvalidValue::new("page_size", "out_of_range", format!("{asked} is outside 1 to {PAGE_SIZE_MAX}"))
                .into())
        }
    }
}

/// A page token is the position of the last row of the page before.
fn position(token: &str) -> Result<Option<u64>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let malformed = || InvalidValue::new("page_token", "malformed", "send the token as the page before gave it");
    // Positions are stored as signed numbers.
    let position = token.parse::<i64>().ok().and_then(|position| u64::try_from(position).ok());
    Ok(Some(position.ok_or_else(malformed)?))
}

/// Cuts the row beyond the page off; where there was one, the next page starts after the last that stays.
fn next_token<T>(page: &mut Vec<T>, size: u32, position: impl Fn(&T) -> u64) -> String {
    if page.len() <= size as usize {
        return String::new();
    }
    page.truncate(size as usize);
    page.last().map(|row| position(row).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_and_changes_of_models_are_writes() {
        assert_eq!(classify("/attain.recommendation.v1.RecommendationService/DecideSlo"), Class::Write);
        assert_eq!(classify("/attain.recommendation.v1.RecommendationService/AnalyzeImpact"), Class::Read);
    }

    #[test]
    fn pages_are_bounded_and_tokens_checked() {
        assert_eq!(page_size(0).ok(), Some(100));
        assert!(page_size(501).is_err());
        assert_eq!(position("").ok(), Some(None));
        assert_eq!(position("7").ok(), Some(Some(7)));
        for token in ["x", "-1", "99999999999999999999"] {
            assert!(position(token).is_err(), "{token}");
        }
        let mut rows = vec![1u64, 2, 3];
        assert_eq!(next_token(&mut rows, 2, |row| *row), "2");
        assert_eq!(rows, [1, 2]);
        assert_eq!(next_token(&mut rows, 2, |row| *row), "");
    }
}
