/// Ends of what is composed: far beyond any latency, and far from where numbers end.
const FACTOR_MAX: f64 = 1e12;
const ADDED_MS_MAX: f64 = 1e12;

/// How much slower or faster something is: so many times as long, and so many milliseconds longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    factor: f64,
    added_ms: f64,
}

impl Pace {
    /// As it is.
    pub(super) const SAME: Self = Self { factor: 1.0, added_ms: 0.0 };

    /// Whatever comes of it, so many times as long; a positive number.
    #[must_use]
    pub(super) fn times(self, factor: f64) -> Self {
        let added_ms = (self.added_ms * factor).clamp(-ADDED_MS_MAX, ADDED_MS_MAX);
        Self { factor: (self.factor * factor).clamp(1.0 / FACTOR_MAX, FACTOR_MAX), added_ms }
    }

    /// Whatever comes of it, so many milliseconds longer; a finite number, below 0 shorter.
    #[must_use]
    pub(super) fn plus_ms(self, added_ms: f64) -> Self {
        Self { added_ms: (self.added_ms + added_ms).clamp(-ADDED_MS_MAX, ADDED_MS_MAX), ..self }
    }

    /// Milliseconds in place of these; never below 0.
    #[must_use]
    pub(super) fn of(self, ms: f64) -> f64 {
        (self.factor * ms + self.added_ms).max(0.0)
    }

    /// Milliseconds from which these came.
    pub(super) fn before(self, ms: f64) -> f64 {
        (ms - self.added_ms) / self.factor
    }

    pub(super) fn factor(self) -> f64 {
        self.factor
    }

    /// Milliseconds that it adds whatever the latency; `None` where they depend on it.
    pub(super) fn constant_ms(self) -> Option<f64> {
        (self.factor == 1.0 && self.added_ms >= 0.0).then_some(self.added_ms)
    }

    pub(super) fn is_same(self) -> bool {
        self == Self::SAME
    }
}
