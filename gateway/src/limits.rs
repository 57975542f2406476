//! How often each caller may ask (token buckets) and how many requests may be in flight; both refuse at once.

use std::num::{NonZeroU32, NonZeroUsize};

use attain_runtime::admission::ASKED_INSIDE;
use attain_runtime::gate::{Gate, Place};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::Config;
use crate::problem::{Problem, whole_seconds};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Shared by callers beyond the number that is tracked.
const THE_REST: &str = "*";
const WINDOW_SECONDS: u64 = 60;
/// Fewest requests in flight for each core that the bound gives way to under overload.
const IN_FLIGHT_MIN_PER_CORE: usize = 2;
/// Requests in flight to begin with.
const IN_FLIGHT_FIRST: usize = 16;

type Buckets = RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// Both limits.
#[derive(Debug)]
pub(crate) struct Limits {
    reads: Rate,
    writes: Rate,
    in_flight: Gate,
}

#[derive(Debug)]
struct Rate {
    name: &'static str,
    buckets: Buckets,
    callers_max: usize,
    clock: DefaultClock,
}

/// What is left of a caller's allowance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowance {
    policy: &'static str,
    quota: u32,
    burst: u32,
    remaining: u32,
    /// Seconds until one more request is allowed.
    reset_seconds: u64,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let rates = &config.rates;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            reads: Rate::new("reads", rates.reads_per_minute, rates.reads_burst, rates.callers_max),
            writes: Rate::new("writes", rates.writes_per_minute, rates.writes_burst, rates.callers_max),
            in_flight: Gate::new(
                ASKED_INSIDE,
                (IN_FLIGHT_MIN_PER_CORE * cores, IN_FLIGHT_FIRST, config.requests_in_flight_max),
            ),
        }
    }

    /// A place in flight, held until it is dropped.
    pub(crate) async fn enter(&self) -> Result<Place, Problem> {
        self.in_flight.enter().await.ok_or_else(Problem::overloaded)
    }

    /// Counts one request of `caller`.
    pub(crate) fn count(&self, caller: &str, writes: bool) -> Result<Allowance, Problem> {
        if writes { self.writes.count(caller) } else { self.reads.count(caller) }
    }
}

impl Rate {
    fn new(name: &'static str, per_minute: u32, burst: u32, callers_max: usize) -> Self {
        let at_least_one = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(at_least_one(per_minute)).allow_burst(at_least_one(burst));
        let buckets = RateLimiter::dashmap(quota).with_middleware();
        Self { name, buckets, callers_max, clock: DefaultClock::default() }
    }

    fn count(&self, caller: &str) -> Result<Allowance, Problem> {
        if self.buckets.len() >= self.callers_max {
            self.buckets.retain_recent();
        }
        let full = self.buckets.len() >= self.callers_max;
        let key = if full { THE_REST } else { caller }.to_owned();
        let allowance = |remaining: u32, quota: Quota, reset_seconds: u64| Allowance {
            policy: self.name,
            quota: (60_000_000_000 / quota.replenish_interval().as_nanos().max(1)) as u32,
            burst: quota.burst_size().get(),
            remaining,
            reset_seconds,
        };
        match self.buckets.check_key(&key) {
            Ok(state) => Ok(allowance(
                state.remaining_burst_capacity(),
                state.quota(),
                whole_seconds(state.quota().replenish_interval()),
            )),
            Err(not_until) => {
                let delay = not_until.wait_time_from(self.clock.now());
                let left = allowance(0, not_until.quota(), whole_seconds(delay));
                let detail = format!("more than {} {} a minute (up to {} at once)", left.quota, self.name, left.burst);
                let mut problem =
                    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(delay);
                let mut headers = HeaderMap::new();
                left.write(&mut headers);
                problem.headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                Err(problem)
            }
        }
    }
}

impl Allowance {
    /// Writes `RateLimit` and `RateLimit-Policy` as structured fields. The policy counts a burst and its refill time.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let limit = format!("\"{}\";r={};t={}", self.policy, self.remaining, self.reset_seconds);
        let policy = format!("\"{}\";q={};w={WINDOW_SECONDS}", self.policy, self.quota);
        for (name, text) in [(RATE_LIMIT, limit), (RATE_LIMIT_POLICY, policy)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rates;

    fn limits(rates: Rates) -> Limits {
        Limits::new(&Config { rates, requests_in_flight_max: 1, ..Config::default() })
    }

    #[test]
    fn each_caller_has_a_burst_and_is_then_told_when() {
        let limits = limits(Rates { reads_per_minute: 1, reads_burst: 2, ..Rates::default() });
        assert_eq!(limits.count("a", false).expect("first").remaining, 1);
        assert_eq!(limits.count("a", false).expect("second").remaining, 0);
        let problem = limits.count("a", false).expect_err("third");
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        let delay = problem.retry_after.expect("a delay").as_secs();
        assert!((30..=60).contains(&delay), "{delay}");
        assert!(problem.headers.iter().any(|(name, value)| name == RATE_LIMIT_POLICY && value == "\"reads\";q=1;w=60"));
        limits.count("b", false).expect("another caller");
        limits.count("a", true).expect("writes are counted apart");
    }

    #[test]
    fn callers_beyond_the_bound_share() {
        let limits = limits(Rates { reads_per_minute: 1, reads_burst: 1, callers_max: 2, ..Rates::default() });
        let admitted = (0..50).filter(|caller| limits.count(&format!("caller {caller}"), false).is_ok()).count();
        assert_eq!(admitted, 3, "two of their own and one for the rest");
        assert!(limits.reads.buckets.len() <= 3);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_at_once() {
        let limits = limits(Rates::default());
        let place = limits.enter().await.expect("room");
        assert_eq!(limits.enter().await.expect_err("full").status, StatusCode::SERVICE_UNAVAILABLE);
        drop(place);
        assert!(limits.enter().await.is_ok(), "room again");
    }
}
