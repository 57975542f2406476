use thiserror::Error;

/// A value that cannot be right, with the field that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct InvalidValue {
    /// The field, as the sender names it; a path below the row where it is nested, for example `bad_count`.
    pub field: String,
    /// Stable machine-readable reason in snake case, for example `out_of_range`.
    pub code: &'static str,
    /// A sentence a person can act on.
    pub reason: String,
}

impl InvalidValue {
    /// Names a field, a stable code and the reason.
    pub fn new(field: impl Into<String>, code: &'static str, reason: impl Into<String>) -> Self {
        Self { field: field.into(), code, reason: reason.into() }
    }

    /// The same complaint about a field one level up: `prefix/field`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = format!("{prefix}/{}", self.field);
        self
    }
}
