//! Experiments on the command line.

use clap::Subcommand;
use serde_json::{Value, json};

use super::request::{Request, segment};
use super::words::{Ambition, ExperimentMetric, ExperimentUnit, word};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Experiments {
    /// Lists the experiments, the newest first.
    #[command(after_help = "Example:\n  attain experiments list")]
    List {
        /// Where the previous page ended.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Shows what became of the recommendations of both arms and, once the horizon is reached, whether they differ.
    #[command(after_help = "Example:\n  attain experiments show EXPERIMENT_ID")]
    Show {
        /// The experiment.
        experiment_id: String,
    },
    /// Begins an experiment: units are drawn by lot, half of them for each arm.
    #[command(
        after_help = "Example:\n  attain experiments start bolder --unit team --metric acceptance --duration-days 56 --ambition ambitious"
    )]
    Start {
        /// A name for people.
        name: String,
        /// What is drawn as one.
        #[arg(long, value_enum)]
        unit: ExperimentUnit,
        /// What the verdict is about.
        #[arg(long, value_enum)]
        metric: ExperimentMetric,
        /// Days to the horizon, 7 to 365; windows that end later do not count.
        #[arg(long)]
        duration_days: u32,
        /// Model of the treatment; the live one when left out.
        #[arg(long, value_name = "VERSION")]
        model: Option<String>,
        /// The offer that the treatment suggests always; as it is learned when left out.
        #[arg(long, value_enum)]
        ambition: Option<Ambition>,
        /// Model of the control; the live one when left out.
        #[arg(long, value_name = "VERSION")]
        control_model: Option<String>,
        /// The offer that the control suggests always; as it is learned when left out.
        #[arg(long, value_enum)]
        control_ambition: Option<Ambition>,
        /// What for.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Stops an experiment before its horizon; then it has no verdict.
    #[command(after_help = "Example:\n  attain experiments stop EXPERIMENT_ID --reason \"offers became too bold\"")]
    Stop {
        /// The experiment.
        experiment_id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

impl Experiments {
    pub(super) fn request(self) -> Request {
        match self {
            Self::List { page_token } => Request::get("/api/v1/experiments").with("page_token", page_token),
            Self::Show { experiment_id } => Request::get(format!("/api/v1/experiments/{}", segment(&experiment_id))),
            Self::Start {
                name,
                unit,
                metric,
                duration_days,
                model,
                ambition,
                control_model,
                control_ambition,
                note,
            } => Request::post(
                "/api/v1/experiments",
                &json!({
                    "name": name,
                    "unit": word(unit),
                    "metric": word(metric),
                    "duration_days": duration_days,
                    "control": arm(control_model, control_ambition),
                    "treatment": arm(model, ambition),
                    "note": note,
                }),
            ),
            Self::Stop { experiment_id, reason } => Request::post(
                format!("/api/v1/experiments/{}/stop", segment(&experiment_id)),
                &json!({"reason": reason}),
            ),
        }
    }
}

fn arm(model: Option<String>, ambition: Option<Ambition>) -> Value {
    let mut arm = json!({"model_version": model.unwrap_or_default()});
    if let Some(ambition) = ambition.and_then(word) {
        arm["ambition"] = ambition.into();
    }
    arm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::Method;

    #[test]
    fn experiments_go_to_their_routes() {
        let sent = |experiments: Experiments| {
            let request = experiments.request();
            let body = request.body.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
            (request.method, request.path, body.unwrap_or_default())
        };
        assert_eq!(sent(Experiments::List { page_token: None }).1, "/api/v1/experiments");
        assert_eq!(sent(Experiments::Show { experiment_id: "exp-1".into() }).1, "/api/v1/experiments/exp-1");
        let start = sent(Experiments::Start {
            name: "bolder".into(),
            unit: ExperimentUnit::Team,
            metric: ExperimentMetric::ExcessMisses,
            duration_days: 56,
            model: Some("m".into()),
            ambition: Some(Ambition::Ambitious),
            control_model: None,
            control_ambition: None,
            note: String::new(),
        });
        let expected = json!({
            "name": "bolder", "unit": "team", "metric": "excess-misses", "duration_days": 56, "note": "",
            "control": {"model_version": ""}, "treatment": {"model_version": "m", "ambition": "ambitious"},
        });
        assert_eq!(start, (Method::Post, "/api/v1/experiments".into(), expected));
        let stop = sent(Experiments::Stop { experiment_id: "exp-1".into(), reason: "why".into() });
        assert_eq!(stop, (Method::Post, "/api/v1/experiments/exp-1/stop".into(), json!({"reason": "why"})));
    }
}
