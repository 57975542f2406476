//! Retries and common cause in closed form.

/// Probability that a call fails after `retry_count` further attempts: `c + (1 − c) · f^(k+1)`.
///
/// `attempt_failure_ratio` f: probability that one attempt fails while nothing persistent is wrong;
/// `persistent_ratio` c: probability that the callee is in a failure that outlasts every attempt. Both in `[0, 1]`.
///
/// Source: total probability over "persistent or not". Assumes that attempts fail independently once the persistent
/// share is set aside. Degenerate: c = 1 → 1; k = 0 → c + (1 − c)f; f = 0 → c; f = 1 → 1.
#[must_use]
pub fn retry_failure(attempt_failure_ratio: f64, retry_count: u32, persistent_ratio: f64) -> f64 {
    let attempts = f64::from(retry_count) + 1.0;
    persistent_ratio + (1.0 - persistent_ratio) * libm::pow(attempt_failure_ratio, attempts)
}

/// What retries leave of an edge's impact, given that the first attempt failed: `s + (1 − s) · f^k`, in `[0, 1]`.
///
/// `persistent_share` s: share of the callee's failures that outlast every attempt; `attempt_failure_ratio` f:
/// probability that one further attempt fails; `retry_count` k. It is [`retry_failure`] with c = s·f, divided by f, where
/// s·f is small beside 1.
///
/// An edge's impact is multiplied by it. Inside the structure function f is the callee's failure ratio, everything below it
/// included: an attempt fails whoever is to blame. So what is left grows with the failure ratio of every component below.
/// Degenerate: k = 0, s = 1 or f = 1 → 1 (no relief).
#[must_use]
pub fn retry_remainder(attempt_failure_ratio: f64, retry_count: u32, persistent_share: f64) -> f64 {
    let all_fail = libm::pow(attempt_failure_ratio, f64::from(retry_count));
    (persistent_share + (1.0 - persistent_share) * all_fail).clamp(0.0, 1.0)
}

/// Calls that one request makes on average with up to `retry_count` further attempts: `Σ f^j` for j from 0 to k.
///
/// `attempt_failure_ratio` f in `[0, 1]`. Assumes independent attempts; at f = 1 it is k + 1, the retry storm that a
/// retry budget caps.
#[must_use]
pub fn retry_load(attempt_failure_ratio: f64, retry_count: u32) -> f64 {
    if attempt_failure_ratio >= 1.0 {
        return f64::from(retry_count) + 1.0;
    }
    let attempts = f64::from(retry_count) + 1.0;
    (1.0 - libm::pow(attempt_failure_ratio, attempts)) / (1.0 - attempt_failure_ratio)
}

/// Probability that both of two alike redundant parts are down: `Q = βq + ((1 − β)q)²`.
///
/// `failure_ratio` q of one part and `common_cause_share` β, both in `[0, 1]`. Source: the β-factor model (Fleming 1975;
/// NUREG/CR-4780), rare-event form: the terms for "common and independent at once" are left out, so it may pass the exact
/// value by at most βq·((1 − β)q)². Degenerate: β = 0 → q², β = 1 → q.
#[must_use]
pub fn common_cause_failure(failure_ratio: f64, common_cause_share: f64) -> f64 {
    let independent = (1.0 - common_cause_share) * failure_ratio;
    common_cause_share * failure_ratio + independent * independent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() <= 1e-15, "{left} is not {right}");
    }

    #[test]
    fn a_retry_squares_what_is_transient_and_leaves_what_persists() {
        close(retry_failure(0.01, 1, 0.0), 1e-4);
        close(retry_failure(0.01, 1, 0.001), 0.001 + 0.999 * 1e-4);
        close(retry_failure(0.3, 0, 0.0), 0.3);
        close(retry_failure(0.3, 5, 1.0), 1.0);
        close(retry_failure(0.0, 3, 0.2), 0.2);
        close(retry_failure(1.0, 3, 0.2), 1.0);
    }

    #[test]
    fn what_retries_leave_is_the_failure_after_them_over_the_failure_before() {
        for (f, k) in [(0.2, 0), (0.2, 1), (0.05, 3)] {
            close(f * retry_remainder(f, k, 0.0), retry_failure(f, k, 0.0));
        }
        close(retry_remainder(0.1, 2, 0.5), 0.5 + 0.5 * 0.01);
        close(retry_remainder(0.1, 2, 1.0), 1.0);
        close(retry_remainder(0.0, 0, 0.0), 1.0);
        close(retry_remainder(0.0, 1, 0.0), 0.0);
    }

    #[test]
    fn load_is_the_geometric_sum() {
        close(retry_load(0.0, 3), 1.0);
        close(retry_load(0.5, 2), 1.75);
        close(retry_load(1.0, 3), 4.0);
    }

    #[test]
    fn common_cause_dominates_a_redundant_pair() {
        close(common_cause_failure(0.01, 0.0), 1e-4);
        close(common_cause_failure(0.01, 1.0), 0.01);
        close(common_cause_failure(0.01, 0.1), 0.001 + 0.009 * 0.009);
    }
}
