/// Why an input was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A number is outside of what the field allows.
    #[error("{field} must be {expected}, not {value}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// What the field allows.
        expected: &'static str,
        /// What was given.
        value: f64,
    },
    /// A distribution without a single latency.
    #[error("{field} holds no latency; at least one is needed")]
    Empty {
        /// Name of the field.
        field: &'static str,
    },
    /// A declared order names a part that is not there.
    #[error("order names part {index}, but there are only {part_count}")]
    UnknownPart {
        /// What was given.
        index: usize,
        /// Parts given.
        part_count: usize,
    },
    /// A declared order nests deeper than is walked.
    #[error("order nests deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}
