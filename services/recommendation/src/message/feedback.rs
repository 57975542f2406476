//! Feedback on the wire.

use attain_attainment as words;
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_vocabulary::InvalidValue;

use crate::domain::feedback::{Disputed, Feedback, FeedbackKind};

pub(crate) fn feedback(feedback: &Feedback) -> wire::Feedback {
    let Feedback { id, new } = feedback;
    wire::Feedback {
        id: id.clone(),
        recommendation_id: new.recommendation_id.clone(),
        service_id: new.service.to_string(),
        feedback_kind: kind(new.said.feedback_kind) as i32,
        kind: new.said.kind.map_or(WireKind::Unspecified, WireKind::from) as i32,
        dependency_id: new.said.dependency.as_ref().map(ToString::to_string).unwrap_or_default(),
        text: new.said.text.clone(),
        submitted_by: new.submitted_by.clone(),
        create_time: Some(timestamp(new.time_ms)),
    }
}

pub(crate) fn count(feedback_kind: FeedbackKind, count: u32) -> wire::FeedbackCount {
    wire::FeedbackCount { feedback_kind: kind(feedback_kind) as i32, count }
}

/// A disputed dependency as a finding of the recommendation: it lowers nothing.
pub(crate) fn disputed(disputed: &Disputed) -> wire::MissingInput {
    let callers = if disputed.caller_count == 1 { "one caller" } else { &format!("{} callers", disputed.caller_count) };
    let finding = words::MissingInput {
        name: "dependency_disputed".to_owned(),
        detail: format!(
            "{callers} said that the dependency on {} is wrong; the targets rest on it all the same: declare the edge as it is, or remove it",
            disputed.dependency
        ),
    };
    super::recommendation::missing_input(&finding)
}

pub(crate) fn kind_of(number: i32) -> Result<FeedbackKind, InvalidValue> {
    let known = wire::FeedbackKind::try_from(number).map_err(|_| {
        InvalidValue::new("feedback_kind", "unknown_value", format!("{number} is no value that this version knows"))
    })?;
    FeedbackKind::ALL.into_iter().find(|candidate| kind(*candidate) == known).ok_or_else(|| {
        let reason = "say what is wrong: wrong_dependency, wrong_split, too_strict, too_loose or other";
        InvalidValue::new("feedback_kind", "required", reason)
    })
}

fn kind(kind: FeedbackKind) -> wire::FeedbackKind {
    match kind {
        FeedbackKind::WrongDependency => wire::FeedbackKind::WrongDependency,
        FeedbackKind::WrongSplit => wire::FeedbackKind::WrongSplit,
        FeedbackKind::TooStrict => wire::FeedbackKind::TooStrict,
        FeedbackKind::TooLoose => wire::FeedbackKind::TooLoose,
        FeedbackKind::Other => wire::FeedbackKind::Other,
    }
}
