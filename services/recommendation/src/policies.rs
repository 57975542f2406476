//! The policy of a tenant: the one that holds, those there were, and another.

use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use crate::Error;
use crate::domain::policy::{Policy, VersionedPolicy};
use crate::domain::slo::checked_note;
use crate::engine::Engine;
use crate::message::policy as message;
use crate::page::{next_token, page_size, position};

/// Reads the policy that holds, or one version of it.
pub(crate) async fn get(
    engine: &Engine,
    context: &CallContext,
    version: Option<u32>,
) -> Result<wire::GetPolicyResponse, Error> {
    let policy = match version {
        None => engine.store.policy(&context.tenant).await?,
        Some(0) => VersionedPolicy::default(),
        Some(version) => {
            let found = engine.store.policies(&context.tenant, u64::from(version) + 1, 1).await?;
            let found = found.into_iter().find(|policy| policy.version == version);
            found.ok_or(Error::UnknownPolicy(version))?
        }
    };
    Ok(wire::GetPolicyResponse { policy: Some(message::policy(&policy)) })
}

/// Replaces the rules of the tiers that are named.
pub(crate) async fn set(
    engine: &Engine,
    context: &CallContext,
    request: wire::SetPolicyRequest,
) -> Result<wire::SetPolicyResponse, Error> {
    let reason = checked_note(&request.reason, true)?;
    let rules = message::rules_of(&request.tiers).map_err(Error::Invalid)?;
    if let Some(days) = request.pending_days.filter(|days| !(1..=90).contains(days)) {
        return Err(InvalidValue::new("pending_days", "out_of_range", format!("{days} is outside 1 to 90")).into());
    }
    let set = (reason, context.caller.clone(), engine.clock.now_ms());
    let change = |mut policy: Policy| {
        policy.pending_days = request.pending_days.unwrap_or(policy.pending_days);
        rules.into_iter().fold(policy, Policy::with)
    };
    let policy = engine.store.set_policy(&context.tenant, request.version_match, set, change).await?;
    Ok(wire::SetPolicyResponse { policy: Some(message::policy(&policy)) })
}

/// Lists the policies that were set, newest first.
pub(crate) async fn versions(
    engine: &Engine,
    context: &CallContext,
    request: wire::ListPolicyVersionsRequest,
) -> Result<wire::ListPolicyVersionsResponse, Error> {
    let size = page_size(request.page_size)?;
    let before = position(&request.page_token)?.unwrap_or(u64::MAX);
    let mut page = engine.store.policies(&context.tenant, before, size + 1).await?;
    let next_page_token = next_token(&mut page, size, |policy| u64::from(policy.version));
    Ok(wire::ListPolicyVersionsResponse { policies: page.iter().map(message::policy).collect(), next_page_token })
}
