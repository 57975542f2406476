//! Commands about the SLOs in force: budgets, alerts, agreements, documents of other tools.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::commands::read;
use super::request::{Request, segment};
use super::words::word;

/// A document of another tool.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Document {
    Openslo,
    Sloth,
    Pyrra,
    Prometheus,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SloCommand {
    /// Tells what is spent of each error budget, how fast, and how likely the rest will be spent by when.
    #[command(after_help = "Example:\n  attain budgets checkout-service")]
    Budgets {
        /// The service.
        service_id: String,
    },
    /// Recommends burn-rate alerts for each SLO in force, with what they would have done on the service's own history.
    #[command(after_help = "Examples:\n  attain alerts checkout-service\n  attain alerts checkout-service \
                            --target-ratio 0.999 --window-days 30")]
    Alerts {
        /// The service.
        service_id: String,
        /// An availability target that is not in force, as a fraction.
        #[arg(long)]
        target_ratio: Option<f64>,
        /// Days of its rolling window: 7, 28, 30 or 90.
        #[arg(long, requires = "target_ratio")]
        window_days: Option<u32>,
    },
    /// Suggests what to promise outside, below the SLO in force, and what missing it would cost.
    #[command(after_help = "Example:\n  attain sla checkout-service --credit 0.999=0.1 --credit 0.99=0.25")]
    Sla {
        /// The service.
        service_id: String,
        /// Most probability of a missed month; the tier's when left out.
        #[arg(long)]
        miss_probability_max: Option<f64>,
        /// A step of the credit schedule, BELOW=SHARE, strictest first.
        #[arg(long = "credit", value_name = "BELOW=SHARE")]
        credits: Vec<String>,
    },
    /// Writes the SLOs in force as documents of another tool: OpenSLO, Sloth, Pyrra, or rules of Prometheus with their tests.
    #[command(
        after_help = "Examples:\n  attain export checkout-service --as openslo\n  attain export checkout-service \
                            --as prometheus --out rules/"
    )]
    Export {
        /// The service.
        service_id: String,
        /// Which tool's.
        #[arg(long = "as", value_enum)]
        document: Document,
        /// A folder to write all files to; the first is printed when left out.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A counter of requests that count, as a PromQL selector with `$service` for the service.
        #[arg(long, requires = "bad_counters")]
        valid_counter: Option<String>,
        /// A counter of requests that failed; several are added.
        #[arg(long = "bad-counter", requires = "valid_counter")]
        bad_counters: Vec<String>,
        /// The buckets of a latency histogram, a selector without `le`.
        #[arg(long)]
        latency_histogram: Option<String>,
        /// Unit of its bounds: s or ms.
        #[arg(long)]
        latency_unit: Option<String>,
        /// A gauge of the age of what waits longest, a selector with `$service` for the service.
        #[arg(long)]
        age_gauge: Option<String>,
        /// Unit of that age: s or ms.
        #[arg(long)]
        age_unit: Option<String>,
    },
    /// Declares the SLOs that a file of OpenSLO documents holds; what is wrong is said document by document.
    #[command(after_help = "Example:\n  attain import-slos slos.yaml")]
    ImportSlos {
        /// The file, YAML; `-` for standard input.
        file: PathBuf,
    },
}

impl SloCommand {
    /// The request that this command becomes.
    pub(super) fn request(self) -> anyhow::Result<Request> {
        let service = |id: &str, rest: &str| format!("/api/v1/services/{}{rest}", segment(id));
        Ok(match self {
            Self::Budgets { service_id } => Request::get(service(&service_id, "/error-budgets")),
            Self::Alerts { service_id, target_ratio, window_days } => Request::get(service(&service_id, "/alerts"))
                .with("target_ratio", target_ratio)
                .with("window_days", window_days),
            Self::Sla { service_id, miss_probability_max, credits } => {
                let asked = Request::get(service(&service_id, "/sla-suggestion"))
                    .with("miss_probability_max", miss_probability_max);
                credits.into_iter().fold(asked, |asked, step| asked.with("credit_steps", Some(step)))
            }
            Self::Export {
                service_id,
                document,
                valid_counter,
                bad_counters,
                latency_histogram,
                latency_unit,
                age_gauge,
                age_unit,
                out: _,
            } => {
                let asked = Request::get(service(&service_id, "/slos/export"))
                    .with("format", word(document))
                    .with("valid_counter", valid_counter)
                    .with("latency_histogram", latency_histogram)
                    .with("latency_unit", latency_unit)
                    .with("age_gauge", age_gauge)
                    .with("age_unit", age_unit);
                bad_counters.into_iter().fold(asked, |asked, counter| asked.with("bad_counter", Some(counter)))
            }
            Self::ImportSlos { file } => {
                let text = String::from_utf8(read(&file)?)
                    .with_context(|| format!("{} is no text in UTF-8", file.display()))?;
                Request::post("/api/v1/slos/import", &json!({"text": text}))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_several_times_is_sent_several_times() {
        let command = SloCommand::Export {
            service_id: "a/b".into(),
            document: Document::Prometheus,
            out: None,
            valid_counter: Some("v".into()),
            bad_counters: vec!["b".into(), "c".into()],
            latency_histogram: None,
            latency_unit: None,
            age_gauge: Some("a".into()),
            age_unit: None,
        };
        let request = command.request().expect("valid");
        assert_eq!(request.path, "/api/v1/services/a%2Fb/slos/export");
        let query: Vec<(&str, &str)> = request.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            query,
            [
                ("format", "prometheus"),
                ("valid_counter", "v"),
                ("age_gauge", "a"),
                ("bad_counter", "b"),
                ("bad_counter", "c")
            ]
        );
    }
}
