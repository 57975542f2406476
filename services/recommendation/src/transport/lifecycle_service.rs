//! States, approvals, policy and the registry.

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::lifecycle_service_server::LifecycleService;
use tonic::{Request, Response, Status};

use super::{Transport, context};
use crate::domain::lifecycle::PendingState;
use crate::message::{lifecycle as message, slo};
use crate::{Error, approvals, lifecycle, policies};

#[tonic::async_trait]
impl LifecycleService for Transport {
    async fn list_recommendations(
        &self,
        request: Request<wire::ListRecommendationsRequest>,
    ) -> Result<Response<wire::ListRecommendationsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListRecommendations", &context, &request).of_service(&request.service_id);
        asking.answered(lifecycle::recommendations(&self.0, &context, request).await)
    }

    async fn list_pending_decisions(
        &self,
        request: Request<wire::ListPendingDecisionsRequest>,
    ) -> Result<Response<wire::ListPendingDecisionsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListPendingDecisions", &context, &request).of_service(&request.service_id);
        asking.answered(lifecycle::pending(&self.0, &context, request).await)
    }

    async fn approve_decision(
        &self,
        request: Request<wire::ApproveDecisionRequest>,
    ) -> Result<Response<wire::ApproveDecisionResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("ApproveDecision", &context, request.get_ref());
        let wire::ApproveDecisionRequest { decision_id, reason } = request.into_inner();
        let closed = approvals::close(&self.0, &context, &decision_id, PendingState::Approved, &reason).await;
        asking.written(&closed);
        let closed = closed?;
        let decided = closed.decided.ok_or_else(|| Error::Broken("an approval decided nothing".to_owned()))?;
        let decision = Some(slo::decision(&decided.decision));
        Ok(Response::new(wire::ApproveDecisionResponse { slo: decided.slo.as_ref().map(slo::slo), decision }))
    }

    async fn refuse_decision(
        &self,
        request: Request<wire::RefuseDecisionRequest>,
    ) -> Result<Response<wire::RefuseDecisionResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("RefuseDecision", &context, request.get_ref());
        let wire::RefuseDecisionRequest { decision_id, reason } = request.into_inner();
        let closed = approvals::close(&self.0, &context, &decision_id, PendingState::Refused, &reason).await;
        asking.written(&closed);
        let closed = closed?;
        let pending = Some(message::pending(&closed.pending, self.0.clock.now_ms()));
        Ok(Response::new(wire::RefuseDecisionResponse { pending }))
    }

    async fn withdraw_decision(
        &self,
        request: Request<wire::WithdrawDecisionRequest>,
    ) -> Result<Response<wire::WithdrawDecisionResponse>, Status> {
        let context = context(&request)?;
        let asking = self.0.reads.begin("WithdrawDecision", &context, request.get_ref());
        let wire::WithdrawDecisionRequest { decision_id, reason } = request.into_inner();
        let closed = approvals::close(&self.0, &context, &decision_id, PendingState::Withdrawn, &reason).await;
        asking.written(&closed);
        let closed = closed?;
        let pending = Some(message::pending(&closed.pending, self.0.clock.now_ms()));
        Ok(Response::new(wire::WithdrawDecisionResponse { pending }))
    }

    async fn get_policy(
        &self,
        request: Request<wire::GetPolicyRequest>,
    ) -> Result<Response<wire::GetPolicyResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetPolicy", &context, &request);
        asking.answered(policies::get(&self.0, &context, request.version).await)
    }

    async fn set_policy(
        &self,
        request: Request<wire::SetPolicyRequest>,
    ) -> Result<Response<wire::SetPolicyResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("SetPolicy", &context, &request);
        let set = policies::set(&self.0, &context, request).await;
        asking.written(&set);
        Ok(Response::new(set?))
    }

    async fn list_policy_versions(
        &self,
        request: Request<wire::ListPolicyVersionsRequest>,
    ) -> Result<Response<wire::ListPolicyVersionsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListPolicyVersions", &context, &request);
        asking.answered(policies::versions(&self.0, &context, request).await)
    }

    async fn list_registered_slos(
        &self,
        request: Request<wire::ListRegisteredSlosRequest>,
    ) -> Result<Response<wire::ListRegisteredSlosResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListRegisteredSlos", &context, &request);
        asking.answered(lifecycle::registered(&self.0, &context, request).await)
    }

    async fn get_slo(&self, request: Request<wire::GetSloRequest>) -> Result<Response<wire::GetSloResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("GetSlo", &context, &request).of_service(&request.service_id);
        asking.answered(lifecycle::slo(&self.0, &context, &request).await)
    }

    async fn list_slo_versions(
        &self,
        request: Request<wire::ListSloVersionsRequest>,
    ) -> Result<Response<wire::ListSloVersionsResponse>, Status> {
        let context = context(&request)?;
        let request = request.into_inner();
        let asking = self.0.reads.begin("ListSloVersions", &context, &request).of_service(&request.service_id);
        asking.answered(lifecycle::versions(&self.0, &context, request).await)
    }
}
