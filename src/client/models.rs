//! Versions of the model on the command line.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::request::{Request, segment};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Models {
    /// Lists the models: the live one, shadows, retired ones.
    #[command(after_help = "Example:\n  attain models list")]
    List,
    /// Shows how well a model predicts beside the live one, on windows that are over.
    #[command(after_help = "Example:\n  attain models scores VERSION")]
    Scores {
        /// The model.
        version: String,
    },
    /// Registers constants as a shadow: it forecasts beside the live model and is never shown.
    #[command(
        after_help = "Example:\n  attain models register wider drift=0.3 transient=0.08 --note \"busier spring\""
    )]
    Register {
        /// A name for people.
        name: String,
        /// Constants with other values than the live model's, NAME=NUMBER.
        #[arg(required = true, value_name = "NAME=NUMBER", value_parser = constant)]
        constants: Vec<(String, f64)>,
        /// Where it comes from.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Makes a shadow the live model if its scores are better; otherwise says what is lacking.
    #[command(after_help = "Example:\n  attain models promote VERSION")]
    Promote {
        /// The shadow.
        version: String,
    },
    /// Makes an earlier model the live one again, whatever its scores.
    #[command(after_help = "Example:\n  attain models roll-back --reason \"offers became too strict\"")]
    RollBack {
        /// Which; the one before the present one when left out.
        version: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

impl Models {
    pub(super) fn request(self) -> Request {
        match self {
            Self::List => Request::get("/api/v1/models"),
            Self::Scores { version } => Request::get(format!("/api/v1/models/{}/scores", segment(&version))),
            Self::Register { name, constants, note } => {
                let constants: Map<String, Value> =
                    constants.into_iter().map(|(name, value)| (name, value.into())).collect();
                Request::post("/api/v1/models", &json!({"name": name, "constants": constants, "note": note}))
            }
            Self::Promote { version } => {
                Request::post(format!("/api/v1/models/{}/promote", segment(&version)), &json!({}))
            }
            Self::RollBack { version, reason } => {
                let version = version.unwrap_or_default();
                Request::post("/api/v1/models/roll-back", &json!({"version": version, "reason": reason}))
            }
        }
    }
}

fn constant(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("say NAME=NUMBER")?;
    let value: f64 = value.parse().map_err(|_| format!("`{value}` is no number"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::Method;

    #[test]
    fn models_go_to_their_routes() {
        let sent = |models: Models| {
            let request = models.request();
            let body = request.body.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
            (request.method, request.path, body.unwrap_or_default())
        };
        let version = "drifting-level-1-abc".to_owned();
        assert_eq!(sent(Models::List), (Method::Get, "/api/v1/models".into(), Value::Null));
        assert_eq!(sent(Models::Scores { version: version.clone() }).1, "/api/v1/models/drifting-level-1-abc/scores");
        let promote = sent(Models::Promote { version });
        assert_eq!(promote, (Method::Post, "/api/v1/models/drifting-level-1-abc/promote".into(), json!({})));
        let constants = vec![constant("drift=0.3").expect("valid")];
        let register = sent(Models::Register { name: "wider".into(), constants, note: String::new() });
        assert_eq!(register.2, json!({"name": "wider", "constants": {"drift": 0.3}, "note": ""}));
        let back = sent(Models::RollBack { version: None, reason: "why".into() });
        assert_eq!(back.2, json!({"version": "", "reason": "why"}));
        assert!(constant("drift").is_err() && constant("drift=x").is_err());
    }
}
