//! What becomes of recommendations and SLOs, and who is told of it: one command a route.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::commands::read;
use super::request::{Request, segment};
use super::words::{DeliveryState, PendingState, RecommendationState, Sli, Tier, word};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LifecycleCommand {
    /// Lists recommendations and what became of them, newest first.
    #[command(after_help = "Example:\n  attain recommendations --state open --service-id checkout-service")]
    Recommendations {
        /// Only in this state.
        #[arg(long, value_enum)]
        state: Option<RecommendationState>,
        /// Only of this service.
        #[arg(long)]
        service_id: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Lists decisions that wait, or waited, for the approval of somebody else.
    #[command(after_help = "Example:\n  attain pending --state waiting")]
    Pending {
        /// Only in this state; waiting when left out.
        #[arg(long, value_enum)]
        state: Option<PendingState>,
        /// Only about this service.
        #[arg(long)]
        service_id: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Approves a pending decision of somebody else: its target comes into force.
    #[command(after_help = "Example:\n  attain approve pending-42 --reason \"agreed with the team\"")]
    Approve {
        /// The pending decision.
        decision_id: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuses a pending decision of somebody else.
    #[command(after_help = "Example:\n  attain refuse pending-42 --reason \"too loose for the sale\"")]
    Refuse {
        /// The pending decision.
        decision_id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Takes one's own pending decision back.
    #[command(after_help = "Example:\n  attain withdraw pending-42")]
    Withdraw {
        /// The pending decision.
        decision_id: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Shows the policy that holds, an earlier version of it, or all versions.
    #[command(after_help = "Examples:\n  attain policy\n  attain policy --versions")]
    Policy {
        /// Which version; 0 for the defaults.
        #[arg(long, conflicts_with = "versions")]
        version: Option<u32>,
        /// Every version, newest first.
        #[arg(long)]
        versions: bool,
        #[command(flatten)]
        page: VersionsPage,
    },
    /// Sets the policy by a JSON file, shaped as the REST route takes it.
    #[command(after_help = "Example:\n  attain set-policy policy.json --version-match 3")]
    SetPolicy {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Version of the policy that this replaces.
        #[arg(long)]
        version_match: Option<u32>,
    },
    /// Lists the SLOs in force of every service.
    #[command(after_help = "Example:\n  attain registry --tier tier-1 --expiring")]
    Registry {
        /// Only of services of this tier.
        #[arg(long, value_enum)]
        tier: Option<Tier>,
        /// Only of services of this owner.
        #[arg(long)]
        owner: Option<String>,
        /// Only of this kind.
        #[arg(long, value_enum)]
        sli: Option<Sli>,
        /// Only those whose review is near or past.
        #[arg(long)]
        expiring: bool,
        #[command(flatten)]
        page: Page,
    },
    /// Shows one SLO in force, or every version of it: who decided, why, and by which recommendation.
    #[command(after_help = "Example:\n  attain slo checkout-service availability --versions")]
    Slo {
        /// The service.
        service_id: String,
        /// What it measures.
        #[arg(value_enum)]
        sli: Sli,
        /// Every version, newest first.
        #[arg(long)]
        versions: bool,
        #[command(flatten)]
        page: VersionsPage,
    },
    /// Lists the endpoints that are told of what happens, or removes one.
    #[command(after_help = "Examples:\n  attain webhooks\n  attain webhooks webhook-7 --delete")]
    Webhooks {
        /// The endpoint to remove.
        #[arg(requires = "delete")]
        webhook_id: Option<String>,
        /// Remove it.
        #[arg(long, requires = "webhook_id")]
        delete: bool,
    },
    /// Registers an endpoint and shows the secret that its messages are signed with, this once.
    #[command(after_help = "Example:\n  attain webhook-create https://hooks.example.com/attain --event slo.accepted")]
    WebhookCreate {
        /// Where messages are to be posted.
        url: String,
        /// A type of events that it is told of; may be repeated. All when left out.
        #[arg(long = "event")]
        event_types: Vec<String>,
    },
    /// Makes a new secret for an endpoint and shows it, this once.
    #[command(after_help = "Example:\n  attain webhook-rotate webhook-7 --overlap-hours 48")]
    WebhookRotate {
        /// The endpoint.
        webhook_id: String,
        /// Hours for which messages are signed with the old secret as well.
        #[arg(long)]
        overlap_hours: Option<u32>,
    },
    /// Lists messages to an endpoint and what became of them, newest first.
    #[command(after_help = "Example:\n  attain deliveries webhook-7 --state dead")]
    Deliveries {
        /// The endpoint.
        webhook_id: String,
        /// Only in this state.
        #[arg(long, value_enum)]
        state: Option<DeliveryState>,
        #[command(flatten)]
        page: Page,
    },
    /// Sends a message to an endpoint again.
    #[command(after_help = "Example:\n  attain delivery-retry webhook-7 evt-default-42")]
    DeliveryRetry {
        /// The endpoint.
        webhook_id: String,
        /// The event.
        event_id: String,
    },
}

/// Which part of all versions.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct VersionsPage {
    /// At most this many.
    #[arg(long, requires = "versions")]
    page_size: Option<u32>,
    /// Where the previous page ended.
    #[arg(long, requires = "versions")]
    page_token: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Page {
    /// At most this many.
    #[arg(long)]
    page_size: Option<u32>,
    /// Where the previous page ended.
    #[arg(long)]
    page_token: Option<String>,
}

impl LifecycleCommand {
    /// The request that this command becomes.
    pub(crate) fn request(self) -> anyhow::Result<Request> {
        let decision = |id: &str, what: &str, reason: String| {
            Request::post(format!("/api/v1/decisions/{}/{what}", segment(id)), &json!({"reason": reason}))
        };
        Ok(match self {
            Self::Recommendations { state, service_id, page } => page
                .of(Request::get("/api/v1/slo-recommendations"))
                .with("state", state.and_then(word))
                .with("service_id", service_id),
            Self::Pending { state, service_id, page } => page
                .of(Request::get("/api/v1/decisions/pending"))
                .with("state", state.and_then(word))
                .with("service_id", service_id),
            Self::Approve { decision_id, reason } => decision(&decision_id, "approve", reason),
            Self::Refuse { decision_id, reason } => decision(&decision_id, "refuse", reason),
            Self::Withdraw { decision_id, reason } => decision(&decision_id, "withdraw", reason),
            Self::Policy { versions: true, page, .. } => page.of(Request::get("/api/v1/policy/versions")),
            Self::Policy { version, .. } => Request::get("/api/v1/policy").with("version", version),
            Self::SetPolicy { file, version_match } => {
                let policy: Value = serde_json::from_slice(&read(&file)?)
                    .with_context(|| format!("{} holds no JSON", file.display()))?;
                let Value::Object(mut policy) = policy else { anyhow::bail!("a policy is a JSON object") };
                policy.extend(version_match.map(|version| ("version_match".to_owned(), version.into())));
                Request::put("/api/v1/policy", &Value::Object(policy))
            }
            Self::Registry { tier, owner, sli, expiring, page } => page
                .of(Request::get("/api/v1/slos"))
                .with("tier", tier.and_then(word))
                .with("owner", owner)
                .with("kind", sli.and_then(word))
                .with("expiring", expiring.then_some(true)),
            Self::Slo { service_id, sli, versions, page } => {
                let rest = if versions { "/versions" } else { "" };
                let kind = word(sli).unwrap_or_default();
                page.of(Request::get(format!("/api/v1/services/{}/slos/{kind}{rest}", segment(&service_id))))
            }
            Self::Webhooks { webhook_id: Some(id), .. } => {
                Request::delete(format!("/api/v1/webhooks/{}", segment(&id)))
            }
            Self::Webhooks { webhook_id: None, .. } => Request::get("/api/v1/webhooks"),
            Self::WebhookCreate { url, event_types } => {
                Request::post("/api/v1/webhooks", &json!({"url": url, "event_types": event_types}))
            }
            Self::WebhookRotate { webhook_id, overlap_hours } => {
                let hours = overlap_hours.map(|hours| ("overlap_hours".to_owned(), hours.into()));
                let body: Map<String, Value> = hours.into_iter().collect();
                Request::post(format!("/api/v1/webhooks/{}/secret", segment(&webhook_id)), &Value::Object(body))
            }
            Self::Deliveries { webhook_id, state, page } => page
                .of(Request::get(format!("/api/v1/webhooks/{}/deliveries", segment(&webhook_id))))
                .with("state", state.and_then(word)),
            Self::DeliveryRetry { webhook_id, event_id } => {
                let (webhook_id, event_id) = (segment(&webhook_id), segment(&event_id));
                Request::post(format!("/api/v1/webhooks/{webhook_id}/deliveries/{event_id}/retry"), &json!({}))
            }
        })
    }
}

impl VersionsPage {
    fn of(self, request: Request) -> Request {
        Page { page_size: self.page_size, page_token: self.page_token }.of(request)
    }
}

impl Page {
    pub(super) fn of(self, request: Request) -> Request {
        request.with("page_size", self.page_size).with("page_token", self.page_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::Method;

    #[test]
    fn commands_go_to_their_routes() {
        let sent = |command: LifecycleCommand| {
            let request = command.request().expect("valid");
            let body = request.body.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
            (request.method, request.path, body.unwrap_or_default())
        };
        let refuse = LifecycleCommand::Refuse { decision_id: "pending-1".into(), reason: "no".into() };
        assert_eq!(sent(refuse), (Method::Post, "/api/v1/decisions/pending-1/refuse".into(), json!({"reason": "no"})));
        let page = VersionsPage { page_size: None, page_token: Some("7".into()) };
        let versions =
            LifecycleCommand::Slo { service_id: "a/b".into(), sli: Sli::Latency, versions: true, page: page.clone() };
        assert_eq!(versions.clone().request().expect("valid").query, [("page_token", "7".to_owned())]);
        assert_eq!(sent(versions).1, "/api/v1/services/a%2Fb/slos/latency/versions");
        let policies = LifecycleCommand::Policy { version: None, versions: true, page };
        assert_eq!(policies.request().expect("valid").query, [("page_token", "7".to_owned())]);
        let rotate = LifecycleCommand::WebhookRotate { webhook_id: "webhook-7".into(), overlap_hours: None };
        assert_eq!(sent(rotate), (Method::Post, "/api/v1/webhooks/webhook-7/secret".into(), json!({})));
        let page = Page { page_size: Some(5), page_token: None };
        let tier = Some(Tier::One);
        let registry = LifecycleCommand::Registry { tier, owner: None, sli: None, expiring: true, page };
        let query = registry.request().expect("valid").query;
        assert_eq!(query, [("page_size", "5".into()), ("tier", "tier-1".into()), ("expiring", "true".to_owned())]);
    }
}
