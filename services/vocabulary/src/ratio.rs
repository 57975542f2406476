use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// A fraction in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// Checks a fraction. `field` is what the sender calls the value.
    ///
    /// # Errors
    /// Refuses NaN and anything outside `[0, 1]`.
    pub fn new(field: &str, value: f64) -> Result<Self, InvalidValue> {
        if value.is_nan() {
            return Err(InvalidValue::new(field, "not_a_number", "NaN is not a fraction"));
        }
        if !(0.0..=1.0).contains(&value) {
            let reason = format!("{value} is outside [0, 1]; write 99.9 % as 0.999");
            return Err(InvalidValue::new(field, "out_of_range", reason));
        }
        Ok(Self(value))
    }

    /// The fraction.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The target of an SLO: a fraction strictly between 0 and 1, so that the error budget is neither nothing nor everything.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objective(f64);

impl Objective {
    /// Checks a target. `field` is what the sender calls the value.
    ///
    /// # Errors
    /// Refuses NaN and anything outside `(0, 1)`.
    pub fn new(field: &str, value: f64) -> Result<Self, InvalidValue> {
        let ratio = Ratio::new(field, value)?.get();
        if ratio == 0.0 || ratio == 1.0 {
            let reason =
                format!("a target of {ratio} leaves no error budget to speak of; choose a fraction between 0 and 1");
            return Err(InvalidValue::new(field, "out_of_range", reason));
        }
        Ok(Self(ratio))
    }

    /// The target as a fraction.
    #[must_use]
    pub fn target_ratio(self) -> f64 {
        self.0
    }

    /// Share of requests that may fail: `1 - target`.
    #[must_use]
    pub fn error_budget(self) -> f64 {
        1.0 - self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_field_and_the_reason() {
        let error = Ratio::new("call_fraction", 99.9).expect_err("outside [0, 1]");
        assert_eq!(error.to_string(), "call_fraction: 99.9 is outside [0, 1]; write 99.9 % as 0.999");
        assert_eq!(Ratio::new("x", f64::NAN).map_err(|e| e.code), Err("not_a_number"));
        assert_eq!(Objective::new("target_ratio", 1.0).map_err(|e| e.code), Err("out_of_range"));
        assert_eq!(Objective::new("target_ratio", 0.75).map(Objective::error_budget), Ok(0.25));
    }
}
