//! The tour: what every service of the shop can attain, the two design questions with numbers, and what to try next.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::Format;
use crate::client::{Command, Gateway};
use crate::mesh::Addresses;
use crate::output::{self, Progress, Table, percent};

/// The fallback that the tour asks about: nine in ten refused payments are captured later.
const FALLBACK_RATIO: f64 = 0.9;
/// The availability that the tour supposes the payment provider falls to.
const WORSE_PROVIDER_RATIO: f64 = 0.99;
const PROVIDER: &str = "external-payment-api";

/// Reads everything over REST and prints it.
pub(super) async fn walk(addresses: &Addresses, format: Format) -> anyhow::Result<()> {
    let url = format!("http://{}", addresses.gateway);
    let gateway = Gateway::new(&url, None)?;
    let facts = Facts::gather(&gateway).await?;
    match format {
        Format::Json => output::answer(&facts.json(&url), format),
        Format::Text => output::lines(&facts.text(&url)),
    }
    Ok(())
}

/// What the routes answered.
struct Facts {
    recommendations: Vec<Value>,
    worse_provider: Value,
    fallback: Value,
}

impl Facts {
    async fn gather(gateway: &Gateway) -> anyhow::Result<Self> {
        let services = gateway.send(&Command::Services { query: None, kind: None }.request()?).await?;
        let mut recommendations = Vec::new();
        // Each service, then both questions.
        let progress = Progress::count("asking what can be attained", list(&services["services"]).len() + 2);
        for service in list(&services["services"]) {
            let service_id = service["id"].as_str().context("a service has an id")?.to_owned();
            let answer = gateway
                .send(&Command::Recommend { service_id, window_days: None, window: None, region: None }.request()?)
                .await?;
            recommendations.push(answer["recommendation"].clone());
            progress.advance(1);
        }
        let worse = Command::Impact { proposals: vec![format!("{PROVIDER}={WORSE_PROVIDER_RATIO}")] };
        let fallback = Command::WhatIf {
            caller_id: "payment-service".into(),
            callee_id: PROVIDER.into(),
            fallback: FALLBACK_RATIO,
            call_fraction: None,
        };
        let worse_provider = gateway.send(&worse.request()?).await?;
        progress.advance(1);
        let fallback = gateway.send(&fallback.request()?).await?;
        progress.end();
        Ok(Self { recommendations, worse_provider, fallback })
    }

    fn json(&self, url: &str) -> Value {
        json!({
            "gateway": url,
            "simulated": true,
            "recommendations": self.recommendations,
            "worse_provider": self.worse_provider,
            "fallback": self.fallback,
        })
    }

    fn text(&self, url: &str) -> String {
        [
            "Attain on a simulated shop: 30 days of five-minute data (seeded, not measured).\n".to_owned(),
            self.table(),
            "Targets are availability over 28 days; conservative, balanced and ambitious are missed with a".into(),
            "probability of at most 2, 10 and 25 %. `latency` is the balanced offer: 95 % of requests faster.\n".into(),
            self.checkout_question(),
            self.gateway_question(),
            self.freshness(),
            try_next(url),
        ]
        .join("\n")
    }

    fn table(&self) -> String {
        let mut table = Table::new(&[
            "service",
            "SLI today",
            "SLO",
            "conservative",
            "balanced",
            "ambitious",
            "latency",
            "confidence",
            "limited by",
        ]);
        for recommendation in &self.recommendations {
            table.row(row(recommendation));
        }
        table.render()
    }

    fn checkout_question(&self) -> String {
        let Some(checkout) = self.availability_of("checkout-service") else {
            return String::new();
        };
        let split = &checkout["failure_split"];
        let mut lines = vec![
            "1. What can checkout-service promise while it depends on external-payment-api?".to_owned(),
            format!(
                "   Of its requests {} fail of its own and {} because a dependency failed ({}).",
                ratio(&split["own_failure_ratio"]),
                ratio(&split["inherited_failure_ratio"]),
                inherited(split)
            ),
            format!(
                "   SLO in force {}: missed with probability {}. Offers: {}.",
                ratio(&checkout["current_slo"]["slo"]["target_ratio"]),
                ratio(&checkout["current_slo"]["miss_probability"]),
                offers(checkout)
            ),
            format!("   {}", text(&checkout["binding_constraint"]["detail"])),
        ];
        for counterfactual in list(&checkout["counterfactuals"]) {
            lines.push(format!(
                "   {}: balanced target {}, today's balanced target missed with probability {}.",
                text(&counterfactual["description"]),
                ratio(&counterfactual["balanced_target_ratio"]),
                ratio(&counterfactual["miss_probability"])
            ));
        }
        lines.extend(self.worst_region("checkout-service"));
        lines.push(String::new());
        lines.join("\n")
    }

    /// What the sum over regions hides, where telemetry tells regions.
    fn worst_region(&self, service_id: &str) -> Option<String> {
        let recommendation = self.recommendations.iter().find(|r| r["service_id"] == service_id)?;
        let outlook = &recommendation["regions"];
        let regions = list(&outlook["regions"]).iter();
        let each: Vec<String> =
            regions.map(|of| format!("{} {}", text(&of["region"]), ratio(&of["balanced_target_ratio"]))).collect();
        let worst = outlook["worst_region"].as_str()?;
        Some(format!("   Balanced targets by region: {}; the worst is {worst}.", each.join(", ")))
    }

    fn gateway_question(&self) -> String {
        let mut lines = vec![
            "2. What does that do to api-gateway?".to_owned(),
            format!("   If {PROVIDER} attained only {}:", percent(WORSE_PROVIDER_RATIO)),
        ];
        lines.extend(affected(&self.worse_provider));
        lines.push(format!(
            "   With a fallback in payment-service that saves {} of failed payments:",
            percent(FALLBACK_RATIO)
        ));
        lines.extend(affected(&self.fallback));
        lines.push(String::new());
        lines.join("\n")
    }

    /// What is fresh, of whom nobody waits for.
    fn freshness(&self) -> String {
        let of = |recommendation: &Value| {
            let sli = sli(recommendation, "freshness")?;
            Some(format!("   {}: {}.", text(&recommendation["service_id"]), offers(sli)))
        };
        let mut lines =
            vec!["3. How fresh is what is called asynchronously (share of time, oldest message)?".to_owned()];
        lines.extend(self.recommendations.iter().filter_map(of));
        lines.push(String::new());
        lines.join("\n")
    }

    fn availability_of(&self, service_id: &str) -> Option<&Value> {
        let recommendation = self.recommendations.iter().find(|r| r["service_id"] == service_id)?;
        sli(recommendation, "availability")
    }
}

fn row(recommendation: &Value) -> Vec<String> {
    let availability = sli(recommendation, "availability").unwrap_or(&Value::Null);
    let latency = sli(recommendation, "latency").and_then(|sli| offer(sli, "balanced"));
    let target = |ambition| offer(availability, ambition).map(output::target).unwrap_or_else(|| "–".into());
    let binding = &availability["binding_constraint"];
    let limited_by = match text(&binding["entity_id"]) {
        "" => text(&binding["kind"]),
        entity => entity,
    };
    vec![
        text(&recommendation["service_id"]).to_owned(),
        ratio(&availability["measured"]["attained_ratio"]),
        ratio(&availability["current_slo"]["slo"]["target_ratio"]),
        target("conservative"),
        target("balanced"),
        target("ambitious"),
        latency.map(output::target).unwrap_or_else(|| "–".into()),
        text(&recommendation["confidence"]["level"]).to_owned(),
        limited_by.to_owned(),
    ]
}

fn affected(answer: &Value) -> Vec<String> {
    let line = |service: &Value| {
        let miss = match (service["miss_probability_before"].as_f64(), service["miss_probability_after"].as_f64()) {
            (Some(before), Some(after)) => {
                format!("; its SLO is missed with probability {} instead of {}", percent(after), percent(before))
            }
            _ => String::new(),
        };
        format!(
            "     {}: can reach {} instead of {}{miss}",
            text(&service["service_id"]),
            ratio(&service["ceiling_after_ratio"]),
            ratio(&service["ceiling_before_ratio"]),
        )
    };
    list(&answer["affected"]).iter().map(line).collect()
}

fn inherited(split: &Value) -> String {
    let share = |share: &Value| format!("{} by {}", ratio(&share["failure_ratio"]), text(&share["dependency_id"]));
    list(&split["inherited"]).iter().map(share).collect::<Vec<_>>().join(", ")
}

fn offers(sli: &Value) -> String {
    let offer = |offer: &Value| {
        format!("{} {} ({})", text(&offer["ambition"]), output::target(offer), ratio(&offer["miss_probability"]))
    };
    list(&sli["offers"]).iter().map(offer).collect::<Vec<_>>().join(", ")
}

fn try_next(url: &str) -> String {
    format!(
        "Try:\n  curl {url}/api/v1/services/checkout-service/slo-recommendations\n  \
         curl -H 'content-type: application/json' -d '{{\"proposals\":[{{\"service_id\":\"{PROVIDER}\",\"target_ratio\":0.98}}]}}' \
         {url}/api/v1/slos/impact-analysis\n  \
         curl '{url}/api/v1/knowledge/search?query=payment+provider+answers+503'\n  \
         attain recommend checkout-service --region us-east-1 --url {url}\n\
         The gateway is at {url} (routes at {url}/docs)."
    )
}

fn sli<'a>(recommendation: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&recommendation["slis"]).iter().find(|sli| sli["kind"] == kind)
}

fn offer<'a>(sli: &'a Value, ambition: &str) -> Option<&'a Value> {
    list(&sli["offers"]).iter().find(|offer| offer["ambition"] == ambition)
}

fn ratio(value: &Value) -> String {
    value.as_f64().map(percent).unwrap_or_else(|| "–".into())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
