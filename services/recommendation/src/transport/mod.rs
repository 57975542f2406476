//! The gRPC face: decode, use case, encode.

mod lifecycle_service;
mod webhook_service;

mod pages;

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
use crate::message::lifecycle as lifecycle_message;
use crate::message::{slo, window};
use crate::{
    Error, agreement, alerts, budgets, calibration, comparison, consistency, decisions, drift, exchange, experiments,
    feedback, impact, learning, lifecycle, message, models, recommendations, regions, what_if,
};

/// What the names of RPCs begin with that change nothing.
const READ_VERBS: [&str; 4] = ["Get", "List", "Analyze", "Replay"];

/// Most decisions below that an answer lists.
const BELOW_MAX: usize = 20;

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
        let asking = self.0.reads.begin("GetSloRecommendations", &context, &request).of_service(&request.service_id);
        let answer = async {
            let service = entity_id(&request.service_id)?;
            let window = window::asked(request.window_days, request.calendar_window)?;
            let answer = recommendations::newest(&self.0, &context, service, window).await?;
            if request.region.is_empty() {
                return Ok(answer);
            }
            let stored = regions::beside(&self.0, &context, &answer.stored, &request.region).await?;
            Ok(recommendations::Answer { stored, ..answer })
        }
        .await;
        asking.answered_by(&answer, |answer| &answer.stored);
        let answer = answer?;
        Ok(Response::new(wire::GetSloRecommendationsResponse {
            recommendation: Some(recommendations::decode(&answer.stored)?),
            stale: answer.staleness.is_some(),
            stale_reason: answer.staleness.map(|why| why.word().to_owned()).unwrap_or_default(),
            knowledge_age: Some(convert::duration(answer.knowledge_age_ms)),
            decided_below: answer.decided_below.iter().take(BELOW_MAX).map(slo::decided_below).collect(),
        }))
    }

    async fn get_recommendation(
        &self,
        request: Request<wire::GetRecommendationRequest>,
    ) -> Result<Response<wire::GetRecommendationResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetRecommendation", &context, &request);
        let asking = asking.of_recommendation(&request.recommendation_id);
        let answer = async {
            let stored = recommendations::stored(&self.0, &context, &request.recommendation_id).await?;
            let answer = lifecycle::recommendation(&self.0, &context, &stored).await?;
            Ok::<_, Error>((stored, answer))
        }
        .await;
        asking.answered_by(&answer, |(stored, _)| stored);
        let (_, answer) = answer?;
        Ok(Response::new(answer))
    }

    async fn replay_recommendation(
        &self,
        request: Request<wire::ReplayRecommendationRequest>,
    ) -> Result<Response<wire::ReplayRecommendationResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ReplayRecommendation", &context, &request);
        let asking = asking.of_recommendation(&request.recommendation_id);
        asking.answered(recommendations::replay(&self.0, &context, &request.recommendation_id).await)
    }

    async fn get_recommendation_changes(
        &self,
        request: Request<wire::GetRecommendationChangesRequest>,
    ) -> Result<Response<wire::GetRecommendationChangesResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetRecommendationChanges", &context, &request);
        let wire::GetRecommendationChangesRequest { recommendation_id, since } = request;
        let asking = asking.of_recommendation(&recommendation_id);
        asking.answered(comparison::compare(&self.0, &context, &recommendation_id, &since).await)
    }

    async fn decide_slo(
        &self,
        request: Request<wire::DecideSloRequest>,
    ) -> Result<Response<wire::DecideSloResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("DecideSlo", &context, &request).of_service(&request.service_id);
        let asking = asking.of_recommendation(&request.recommendation_id);
        let came = decisions::decide_slo(&self.0, &context, request).await;
        asking.written(&came);
        let came = came?;
        let (slo, decision, pending) = match &came {
            Came::Decided(decided) => (decided.slo.as_ref(), Some(slo::decision(&decided.decision)), None),
            Came::Pending(pending, in_force) => (in_force.as_ref(), None, Some(&**pending)),
        };
        let pending = pending.map(|pending| lifecycle_message::pending(pending, self.0.clock.now_ms()));
        Ok(Response::new(wire::DecideSloResponse { slo: slo.map(slo::slo), decision, pending }))
    }

    async fn list_slos(
        &self,
        request: Request<wire::ListSlosRequest>,
    ) -> Result<Response<wire::ListSlosResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListSlos", &context, &request).of_service(&request.service_id);
        asking.answered(pages::slos(&self.0, &context, &request).await)
    }

    async fn list_decisions(
        &self,
        request: Request<wire::ListDecisionsRequest>,
    ) -> Result<Response<wire::ListDecisionsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListDecisions", &context, &request).of_service(&request.service_id);
        asking.answered(pages::decisions(&self.0, &context, &request).await)
    }

    async fn analyze_impact(
        &self,
        request: Request<wire::AnalyzeImpactRequest>,
    ) -> Result<Response<wire::AnalyzeImpactResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("AnalyzeImpact", &context, &request);
        asking.answered(impact::analyze(&self.0, &context, &request).await)
    }

    async fn analyze_what_if(
        &self,
        request: Request<wire::AnalyzeWhatIfRequest>,
    ) -> Result<Response<wire::AnalyzeWhatIfResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("AnalyzeWhatIf", &context, &request);
        asking.answered(what_if::analyze(&self.0, &context, &request).await)
    }

    async fn analyze_consistency(
        &self,
        request: Request<wire::AnalyzeConsistencyRequest>,
    ) -> Result<Response<wire::AnalyzeConsistencyResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("AnalyzeConsistency", &context, &request);
        asking.answered(consistency::analyze(&self.0, &context, request).await)
    }

    async fn get_error_budgets(
        &self,
        request: Request<wire::GetErrorBudgetsRequest>,
    ) -> Result<Response<wire::GetErrorBudgetsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetErrorBudgets", &context, &request).of_service(&request.service_id);
        asking.answered(budgets::now(&self.0, &context, &request.service_id).await)
    }

    async fn get_alerts(
        &self,
        request: Request<wire::GetAlertsRequest>,
    ) -> Result<Response<wire::GetAlertsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetAlerts", &context, &request).of_service(&request.service_id);
        asking.answered(alerts::recommended(&self.0, &context, &request).await)
    }

    async fn get_sla_suggestion(
        &self,
        request: Request<wire::GetSlaSuggestionRequest>,
    ) -> Result<Response<wire::GetSlaSuggestionResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetSlaSuggestion", &context, &request).of_service(&request.service_id);
        asking.answered(agreement::suggested(&self.0, &context, &request).await)
    }

    async fn get_slo_export(
        &self,
        request: Request<wire::GetSloExportRequest>,
    ) -> Result<Response<wire::GetSloExportResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetSloExport", &context, &request).of_service(&request.service_id);
        asking.answered(exchange::exported(&self.0, &context, request).await)
    }

    async fn import_slos(
        &self,
        request: Request<wire::ImportSlosRequest>,
    ) -> Result<Response<wire::ImportSlosResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ImportSlos", &context, request.get_ref());
        let imported = exchange::imported(&self.0, &context, request.into_inner().text).await;
        asking.written(&imported);
        Ok(Response::new(imported?))
    }

    async fn list_drift(
        &self,
        request: Request<wire::ListDriftRequest>,
    ) -> Result<Response<wire::ListDriftResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListDrift", &context, &request).of_service(&request.service_id);
        asking.answered(drift::list(&self.0, &context, &request).await)
    }

    async fn list_models(
        &self,
        request: Request<wire::ListModelsRequest>,
    ) -> Result<Response<wire::ListModelsResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ListModels", &context, request.get_ref());
        asking.answered(models::list(&self.0, &context).await)
    }

    async fn get_model_scores(
        &self,
        request: Request<wire::GetModelScoresRequest>,
    ) -> Result<Response<wire::GetModelScoresResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("GetModelScores", &context, request.get_ref());
        asking.answered(models::scores(&self.0, &context, &request.into_inner().version).await)
    }

    async fn register_model(
        &self,
        request: Request<wire::RegisterModelRequest>,
    ) -> Result<Response<wire::RegisterModelResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("RegisterModel", &context, request.get_ref());
        let done = models::register(&self.0, &context, request.into_inner()).await;
        asking.written(&done);
        Ok(Response::new(done?))
    }

    async fn promote_model(
        &self,
        request: Request<wire::PromoteModelRequest>,
    ) -> Result<Response<wire::PromoteModelResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("PromoteModel", &context, request.get_ref());
        let done = models::promote(&self.0, &context, &request.into_inner().version).await;
        asking.written(&done);
        Ok(Response::new(done?))
    }

    async fn roll_back_model(
        &self,
        request: Request<wire::RollBackModelRequest>,
    ) -> Result<Response<wire::RollBackModelResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("RollBackModel", &context, request.get_ref());
        let done = models::roll_back(&self.0, &context, request.into_inner()).await;
        asking.written(&done);
        Ok(Response::new(done?))
    }

    async fn start_experiment(
        &self,
        request: Request<wire::StartExperimentRequest>,
    ) -> Result<Response<wire::StartExperimentResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("StartExperiment", &context, request.get_ref());
        let begun = experiments::start(&self.0, &context, request.into_inner()).await;
        asking.written(&begun);
        Ok(Response::new(begun?))
    }

    async fn stop_experiment(
        &self,
        request: Request<wire::StopExperimentRequest>,
    ) -> Result<Response<wire::StopExperimentResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("StopExperiment", &context, request.get_ref());
        let stopped = experiments::stop(&self.0, &context, request.into_inner()).await;
        asking.written(&stopped);
        Ok(Response::new(stopped?))
    }

    async fn list_experiments(
        &self,
        request: Request<wire::ListExperimentsRequest>,
    ) -> Result<Response<wire::ListExperimentsResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ListExperiments", &context, request.get_ref());
        asking.answered(experiments::list(&self.0, &context, request.get_ref()).await)
    }

    async fn get_experiment(
        &self,
        request: Request<wire::GetExperimentRequest>,
    ) -> Result<Response<wire::GetExperimentResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("GetExperiment", &context, request.get_ref());
        asking.answered(experiments::standing(&self.0, &context, &request.get_ref().experiment_id).await)
    }

    async fn list_audit_records(
        &self,
        request: Request<wire::ListAuditRecordsRequest>,
    ) -> Result<Response<wire::ListAuditRecordsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListAuditRecords", &context, &request).of_service(&request.service_id);
        asking.answered(pages::audit_records(&self.0, &context, &request).await)
    }

    async fn get_audit_head(
        &self,
        request: Request<wire::GetAuditHeadRequest>,
    ) -> Result<Response<wire::GetAuditHeadResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("GetAuditHead", &context, request.get_ref());
        asking.answered(pages::audit_head(&self.0, &context).await)
    }

    async fn get_learning(
        &self,
        request: Request<wire::GetLearningRequest>,
    ) -> Result<Response<wire::GetLearningResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("GetLearning", &context, request.get_ref());
        asking.answered(learning::told(&self.0, &context).await)
    }

    async fn submit_feedback(
        &self,
        request: Request<wire::SubmitFeedbackRequest>,
    ) -> Result<Response<wire::SubmitFeedbackResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("SubmitFeedback", &context, &request);
        let asking = asking.of_recommendation(&request.recommendation_id);
        let kept = feedback::submit(&self.0, &context, request).await;
        asking.written(&kept);
        Ok(Response::new(wire::SubmitFeedbackResponse { feedback: Some(message::feedback::feedback(&kept?)) }))
    }

    async fn list_feedback(
        &self,
        request: Request<wire::ListFeedbackRequest>,
    ) -> Result<Response<wire::ListFeedbackResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListFeedback", &context, &request).of_service(&request.service_id);
        asking.answered(pages::feedback(&self.0, &context, &request).await)
    }

    async fn get_calibration(
        &self,
        request: Request<wire::GetCalibrationRequest>,
    ) -> Result<Response<wire::GetCalibrationResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("GetCalibration", &context, request.get_ref());
        asking.answered(calibration::read(&self.0, &context, request.get_ref()).await)
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
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::domain::audit::READ_PREFIX;
    use crate::domain::reads::ACTIONS;

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

    #[test]
    fn every_call_has_a_name_in_the_audit_log() {
        let contract = FileDescriptorSet::decode(attain_proto::DESCRIPTORS).expect("descriptors");
        let services = contract.file.iter().flat_map(|file| &file.service);
        let own = ["RecommendationService", "LifecycleService", "WebhookService"];
        let audited = services.filter(|service| own.contains(&service.name()));
        let methods = audited.flat_map(|service| &service.method);
        let described: BTreeSet<&str> = methods.map(|method| method.name()).collect();
        let named: BTreeSet<&str> = ACTIONS.iter().map(|(rpc, _)| *rpc).collect();
        assert_eq!(named, described, "calls of the contract, and what the audit log calls them");
        for (rpc, action) in ACTIONS {
            let path = format!("/attain.recommendation.v1.AnyService/{rpc}");
            assert_eq!(classify(&path) == Class::Read, action.starts_with(READ_PREFIX), "{rpc}");
        }
    }
}
