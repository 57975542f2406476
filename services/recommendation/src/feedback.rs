//! What people say is wrong with a recommendation: checked, kept beside it, and audited.

use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, SliKind};

use crate::Error;
use crate::domain::feedback::{Feedback, NewFeedback, said};
use crate::engine::Engine;
use crate::members::Direction;
use crate::message::feedback::kind_of;
use crate::message::topology;
use crate::recommendations::stored;
use crate::regions::of_whole;

/// Checks the feedback, then writes it.
pub(crate) async fn submit(
    engine: &Engine,
    context: &CallContext,
    request: wire::SubmitFeedbackRequest,
) -> Result<Feedback, Error> {
    let feedback_kind = kind_of(request.feedback_kind)?;
    let kind = convert::word::<WireKind, SliKind>("kind", request.kind)?;
    let said = said(feedback_kind, kind, &request.dependency_id, &request.text).map_err(Error::Invalid)?;
    of_whole(&request.recommendation_id)?;
    let recommendation = stored(engine, context, &request.recommendation_id).await?;
    let service = EntityId::new("service_id", &recommendation.service_id)
        .map_err(|invalid| Error::Broken(format!("a stored recommendation cannot be read: {invalid}")))?;
    let edges_sha256 = match &said.dependency {
        Some(dependency) => disputed_edges(engine, context, &service, dependency).await?,
        None => String::new(),
    };
    let new = NewFeedback {
        recommendation_id: recommendation.id,
        service,
        said,
        edges_sha256,
        submitted_by: context.caller.clone(),
        time_ms: engine.clock.now_ms(),
    };
    engine.store.submit(&context.tenant, new).await
}

/// What is declared of the edges that are disputed. What the service does not depend on cannot be a wrong dependency of it.
async fn disputed_edges(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    dependency: &EntityId,
) -> Result<String, Error> {
    let closure = engine.graph.closure(context, service, Direction::Downstream).await;
    let closure = closure.map_err(|refusal| refusal.fatal("graph"))?;
    let reason = || format!("{service} does not depend on {dependency}, directly or further down");
    topology::declared_sha256(&closure.dependencies, dependency)
        .ok_or_else(|| InvalidValue::new("dependency_id", "no_dependency", reason()).into())
}
