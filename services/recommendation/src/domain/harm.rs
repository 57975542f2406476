//! What a change does to a service, and who is hurt the most.

use std::cmp::Ordering;

use attain_attainment::{Forecast, miss_probability_after_shift, percent};
use attain_vocabulary::EntityId;

use super::latency_harm::LatencyEffect;

/// Differences of availability below this are rounding of the evaluation.
const CEILING_NOISE: f64 = 1e-12;

/// Availability that the structure allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ceiling {
    pub(crate) ratio: f64,
    /// 95 % interval of an estimate; `None` where the ratio is exact.
    pub(crate) interval: Option<(f64, f64)>,
}

impl Ceiling {
    /// Higher by so much, lower where it is negative.
    pub(crate) fn moved(self, by: f64) -> Self {
        let moved = |ratio: f64| (ratio + by).clamp(0.0, 1.0);
        Self { ratio: moved(self.ratio), interval: self.interval.map(|(low, high)| (moved(low), moved(high))) }
    }

    /// For a share of the time this one, for the rest the other.
    pub(crate) fn mixed(self, share: f64, rest: Self) -> Self {
        let mix = |own: f64, other: f64| share * own + (1.0 - share) * other;
        let ends = |ceiling: Self| ceiling.interval.unwrap_or((ceiling.ratio, ceiling.ratio));
        let interval = self.interval.or(rest.interval).map(|_| {
            let ((low, high), (rest_low, rest_high)) = (ends(self), ends(rest));
            (mix(low, rest_low), mix(high, rest_high))
        });
        Self { ratio: mix(self.ratio, rest.ratio), interval }
    }
}

/// What outages that end do while they last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct During {
    pub(crate) ceiling: Ceiling,
    /// The same moment without the outages.
    pub(crate) ceiling_without: Ceiling,
    /// Share of the window that they take, in `[0, 1]`.
    pub(crate) window_share: f64,
}

/// A service before and after a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Affected {
    pub(crate) service: EntityId,
    /// Whether the change is the service's own.
    pub(crate) changed: bool,
    pub(crate) before: Ceiling,
    /// Over the window, outages that end included.
    pub(crate) after: Ceiling,
    pub(crate) during: Option<During>,
    /// `after.ratio` without doubtful edges; `None` where none matters.
    pub(crate) without_doubtful: Option<f64>,
    /// Availability SLO in force.
    pub(crate) target: Option<f64>,
    pub(crate) miss_before: Option<f64>,
    pub(crate) miss_after: Option<f64>,
    pub(crate) budget_share_before: Option<f64>,
    pub(crate) budget_share_after: Option<f64>,
    pub(crate) out_of_reach: bool,
    pub(crate) latency: LatencyEffect,
    pub(crate) path: Vec<String>,
}

/// What is known of one service on both sides of a change.
#[derive(Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) service: EntityId,
    pub(crate) changed: bool,
    pub(crate) before: Ceiling,
    pub(crate) after: Ceiling,
    pub(crate) during: Option<During>,
    /// `after.ratio` without doubtful edges; `None` where none matters.
    pub(crate) without_doubtful: Option<f64>,
    /// Unavailability that the changed services contribute; `None` where that is not asked.
    pub(crate) contribution: Option<(f64, f64)>,
    pub(crate) target: Option<f64>,
    pub(crate) forecast: Option<&'a Forecast>,
    pub(crate) latency: LatencyEffect,
    pub(crate) path: Vec<String>,
}

impl Affected {
    /// Weighs a change against the SLO in force. The service whose own SLO is proposed anew has no miss probability: the
    /// question is what its promise does to others.
    pub(crate) fn weigh(sides: Sides<'_>) -> Self {
        let shift = sides.before.ratio - sides.after.ratio;
        let shift = if shift.abs() < CEILING_NOISE { 0.0 } else { shift };
        let asked = sides.target.filter(|_| !sides.changed);
        let miss = asked.zip(sides.forecast).map(|(target, forecast)| {
            let budget = 1.0 - target;
            (forecast.miss_probability(budget), miss_probability_after_shift(forecast, budget, shift))
        });
        let share = asked
            .zip(sides.contribution)
            .map(|(target, (before, after))| (before / (1.0 - target), after / (1.0 - target)));
        Self {
            changed: sides.changed,
            before: sides.before,
            after: sides.after,
            during: sides.during,
            without_doubtful: sides.without_doubtful,
            target: sides.target,
            miss_before: miss.map(|(before, _)| before),
            miss_after: miss.map(|(_, after)| after),
            budget_share_before: share.map(|(before, _)| before),
            budget_share_after: share.map(|(_, after)| after),
            out_of_reach: asked.is_some_and(|target| sides.after.ratio < target),
            latency: sides.latency,
            path: sides.path,
            service: sides.service,
        }
    }

    /// Whether the ceiling or the latency moves at all, or may.
    pub(crate) fn moves(&self) -> bool {
        self.ceiling_moves() || self.latency.moves()
    }

    /// Whether all that is to be said is that nobody knows what becomes of its latency.
    pub(crate) fn may_move_unknown(&self) -> bool {
        !self.ceiling_moves() && self.latency == LatencyEffect::Unknown
    }

    fn ceiling_moves(&self) -> bool {
        self.ceiling_drop().abs() >= CEILING_NOISE
    }

    /// Less available; where the ceiling stays, slower.
    fn is_hurt(&self) -> bool {
        let slower = self.latency == LatencyEffect::Unknown || self.latency.is_slower();
        if self.ceiling_moves() { self.ceiling_drop() > 0.0 } else { slower }
    }

    fn ceiling_drop(&self) -> f64 {
        self.before.ratio - self.after.ratio
    }

    fn newly_out_of_reach(&self) -> bool {
        self.out_of_reach && self.target.is_some_and(|target| self.before.ratio >= target)
    }

    fn miss_rise(&self) -> f64 {
        self.miss_after.zip(self.miss_before).map_or(0.0, |(after, before)| after - before)
    }

    /// Share of the error budget that outages that end use up.
    pub(crate) fn outage_budget_share(&self) -> Option<f64> {
        let (during, target) = (self.during?, self.target?);
        let lost = (during.ceiling_without.ratio - during.ceiling.ratio).max(0.0);
        Some(lost * during.window_share / (1.0 - target))
    }

    /// In one sentence.
    pub(crate) fn sentence(&self) -> String {
        let available = self.availability_sentence();
        match self.latency.clause() {
            None => available,
            Some(clause) => format!("{available}; {clause}"),
        }
    }

    fn availability_sentence(&self) -> String {
        let Some(during) = self.during else { return self.lasting() };
        let meanwhile = percent(during.ceiling.ratio);
        let used = self.outage_budget_share();
        let used = used.map(|share| format!(", which uses up {} of the error budget", percent(share)));
        format!("{}; while the outage lasts it attains {meanwhile}{}", self.lasting(), used.unwrap_or_default())
    }

    fn lasting(&self) -> String {
        let service = &self.service;
        let (before, after) = (percent(self.before.ratio), percent(self.after.ratio));
        if self.changed {
            return if self.ceiling_moves() {
                format!("{service} itself: {before} before, {after} after")
            } else {
                format!("{service} itself: {after} as before, so nothing changes")
            };
        }
        if !self.ceiling_moves() && self.latency.moves() {
            return format!("{service} can reach {after} as before");
        }
        if !self.ceiling_moves() {
            return format!("{service} depends on it without being moved: its ceiling stays at {after}");
        }
        let ceiling = format!("{service} can reach at most {after}, before {before}");
        match (self.target, self.miss_before.zip(self.miss_after)) {
            (Some(target), _) if self.newly_out_of_reach() => {
                format!("{ceiling}: its SLO of {} is out of reach, whatever it does itself", percent(target))
            }
            (Some(target), _) if self.out_of_reach => {
                format!("{ceiling}: its SLO of {} was out of reach already and stays so", percent(target))
            }
            (Some(target), Some((was, is))) => {
                format!(
                    "{ceiling}: the next window misses its SLO of {} with a probability of {}, before {}",
                    percent(target),
                    percent(is),
                    percent(was)
                )
            }
            (Some(target), None) => {
                format!("{ceiling}: within its SLO of {}, but there is no forecast to say how safely", percent(target))
            }
            (None, _) => format!("{ceiling}; it has no availability SLO in force"),
        }
    }
}

/// The most hurt first; the changed services themselves last.
pub(crate) fn by_harm(a: &Affected, b: &Affected) -> Ordering {
    a.changed
        .cmp(&b.changed)
        .then_with(|| b.newly_out_of_reach().cmp(&a.newly_out_of_reach()))
        .then_with(|| b.latency.breaks_slo().cmp(&a.latency.breaks_slo()))
        .then_with(|| b.miss_rise().total_cmp(&a.miss_rise()))
        .then_with(|| b.ceiling_drop().total_cmp(&a.ceiling_drop()))
        .then_with(|| b.latency.slow_rise().total_cmp(&a.latency.slow_rise()))
        .then_with(|| b.latency.growth().total_cmp(&a.latency.growth()))
        .then_with(|| a.service.cmp(&b.service))
}

/// Those who are hurt, by harm; then those who are helped, the most first.
pub(crate) fn by_harm_then_help(a: &Affected, b: &Affected) -> Ordering {
    b.is_hurt().cmp(&a.is_hurt()).then_with(|| if a.is_hurt() { by_harm(a, b) } else { by_help(a, b) })
}

fn by_help(a: &Affected, b: &Affected) -> Ordering {
    a.ceiling_drop()
        .total_cmp(&b.ceiling_drop())
        .then_with(|| a.latency.slow_rise().total_cmp(&b.latency.slow_rise()))
        .then_with(|| a.latency.growth().total_cmp(&b.latency.growth()))
        .then_with(|| a.service.cmp(&b.service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(ratio: f64) -> Ceiling {
        Ceiling { ratio, interval: None }
    }

    fn sides(name: &str, before: f64, after: f64, target: Option<f64>) -> Sides<'static> {
        Sides {
            service: EntityId::new("id", name).expect("valid"),
            changed: false,
            before: exact(before),
            after: exact(after),
            during: None,
            without_doubtful: None,
            contribution: Some((1.0 - before, 1.0 - after)),
            target,
            forecast: None,
            latency: LatencyEffect::None,
            path: Vec::new(),
        }
    }

    #[test]
    fn the_ceiling_and_the_budget_are_held_against_the_slo_in_force() {
        let affected = Affected::weigh(sides("a", 0.999, 0.9, Some(0.99)));
        assert!(affected.out_of_reach && affected.moves());
        assert!((affected.budget_share_after.expect("a target") - 10.0).abs() < 1e-9);
        assert!(affected.sentence().contains("out of reach"), "{}", affected.sentence());
        assert!(!Affected::weigh(sides("a", 0.999, 0.999, Some(0.99))).moves());
        let own = Affected::weigh(Sides { changed: true, ..sides("d", 0.999, 0.9, Some(0.999)) });
        assert!(!own.out_of_reach && own.budget_share_after.is_none());
    }

    #[test]
    fn the_most_hurt_comes_first_and_the_changed_one_last() {
        let mut all = [
            Affected::weigh(Sides { changed: true, ..sides("d", 0.999, 0.5, None) }),
            Affected::weigh(sides("b", 0.999, 0.998, Some(0.99))),
            Affected::weigh(sides("c", 0.999, 0.95, None)),
            Affected::weigh(sides("a", 0.999, 0.99, Some(0.995))),
        ];
        all.sort_by(by_harm);
        let names: Vec<&str> = all.iter().map(|affected| affected.service.as_str()).collect();
        assert_eq!(names, ["a", "c", "b", "d"]);
    }

    #[test]
    fn who_is_helped_comes_after_who_is_hurt() {
        let mut all = [
            Affected::weigh(sides("a", 0.9, 0.91, None)),
            Affected::weigh(sides("b", 0.9, 0.99, None)),
            Affected::weigh(sides("c", 0.99, 0.98, None)),
            Affected::weigh(sides("d", 0.99, 0.9, None)),
        ];
        all.sort_by(by_harm_then_help);
        let names: Vec<&str> = all.iter().map(|affected| affected.service.as_str()).collect();
        assert_eq!(names, ["d", "c", "b", "a"]);
    }

    #[test]
    fn an_outage_that_ends_counts_for_its_share_of_the_window() {
        let (down, up) = (exact(0.0), exact(0.999));
        let during = During { ceiling: down, ceiling_without: up, window_share: 0.002 };
        let after = down.mixed(during.window_share, up);
        assert!((after.ratio - 0.999 * 0.998).abs() < 1e-12 && after.interval.is_none());
        let sides = Sides { after, during: Some(during), ..sides("a", 0.999, 0.0, Some(0.99)) };
        let affected = Affected::weigh(sides);
        assert!((affected.outage_budget_share().expect("a target") - 0.1998).abs() < 1e-9);
        assert!(affected.sentence().contains("uses up 20 %"), "{}", affected.sentence());
        let estimated = Ceiling { ratio: 0.5, interval: Some((0.4, 0.6)) };
        assert_eq!(estimated.moved(-0.45), Ceiling { ratio: 0.5 - 0.45, interval: Some((0.0, 0.6 - 0.45)) });
        assert_eq!(estimated.mixed(0.5, exact(1.0)), Ceiling { ratio: 0.75, interval: Some((0.7, 0.8)) });
    }
}
