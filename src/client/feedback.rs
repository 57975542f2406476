//! What is wrong with a recommendation, and the request that it becomes.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::request::{Request, segment};
use super::words::{Sli, word};

/// What is wrong.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FeedbackKind {
    WrongDependency,
    WrongSplit,
    TooStrict,
    TooLoose,
    Other,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Feedback {
    /// The recommendation; with --list the service.
    id: String,
    /// What is wrong.
    #[arg(value_enum, required_unless_present = "list")]
    what: Option<FeedbackKind>,
    /// About which SLI; for too-strict and too-loose.
    #[arg(long, value_enum)]
    sli: Option<Sli>,
    /// Which dependency; for wrong-dependency.
    #[arg(long)]
    dependency: Option<String>,
    /// In words; needed for other.
    #[arg(long)]
    text: Option<String>,
    /// Lists what was said of a service's recommendations instead, newest first.
    #[arg(long, conflicts_with_all = ["what", "sli", "dependency", "text"])]
    list: bool,
    /// Of a list, at most this many.
    #[arg(long, requires = "list")]
    page_size: Option<u32>,
    /// Of a list, where the previous page ended.
    #[arg(long, requires = "list")]
    page_token: Option<String>,
}

impl Feedback {
    pub(super) fn request(self) -> Request {
        if self.list {
            return Request::get(format!("/api/v1/services/{}/feedback", segment(&self.id)))
                .with("page_size", self.page_size)
                .with("page_token", self.page_token);
        }
        let enum_word = |word: Option<String>| word.map(|word| word.replace('-', "_"));
        let body = json!({
            "feedback_kind": enum_word(self.what.and_then(word)),
            "kind": self.sli.and_then(word),
            "dependency_id": self.dependency,
            "text": self.text,
        });
        Request::post(format!("/api/v1/slo-recommendations/{}/feedback", segment(&self.id)), &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_sends_what_was_said() {
        let said = Feedback {
            id: "rec-1".into(),
            what: Some(FeedbackKind::WrongDependency),
            sli: None,
            dependency: Some("db".into()),
            text: None,
            list: false,
            page_size: None,
            page_token: None,
        };
        let request = said.clone().request();
        assert_eq!(request.path, "/api/v1/slo-recommendations/rec-1/feedback");
        let body: serde_json::Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(
            (body["feedback_kind"].as_str(), body["dependency_id"].as_str()),
            (Some("wrong_dependency"), Some("db"))
        );
        let page_token = Some("41".to_owned());
        let listed = Feedback { id: "checkout".into(), list: true, page_size: Some(5), page_token, ..said }.request();
        assert_eq!(listed.path, "/api/v1/services/checkout/feedback");
        assert_eq!(listed.query, [("page_size", "5".to_owned()), ("page_token", "41".to_owned())]);
    }
}
