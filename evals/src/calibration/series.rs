//! A service's incidents, and what was known of them at an origin.

/// As a row says it; days on any clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Incident {
    pub(super) start_days: f64,
    pub(super) end_days: f64,
    pub(super) severity: f64,
}

/// Where an incident begins, in days since the first one of its series, and the bad-days that it adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Amount {
    pub(super) start_days: f64,
    pub(super) amount_days: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// By ascending start.
    pub(super) incidents: Vec<Amount>,
}

/// Incidents longer than this are status pages left open, not outages.
const LENGTH_DAYS_MAX: f64 = 3.0;

/// Bad-days of each incident, every moment counted once at the worst severity that holds: an incident adds what it is worse than
/// those before it. A service that is down cannot be down twice, and a bad share above one cannot be promised against.
pub(super) fn told_once(incidents: &[Incident]) -> Vec<Amount> {
    let mut incidents = incidents.to_vec();
    incidents.sort_by(|a, b| {
        a.start_days
            .total_cmp(&b.start_days)
            .then(b.severity.total_cmp(&a.severity))
            .then(b.end_days.total_cmp(&a.end_days))
    });
    let first = incidents.first().map_or(0.0, |incident| incident.start_days);
    // What is told already of the time from the present incident's start: (end, severity), apart and by ascending end.
    let mut told: Vec<(f64, f64)> = Vec::new();
    let mut amounts = Vec::with_capacity(incidents.len());
    for incident in &incidents {
        let start = incident.start_days;
        let end = incident.end_days.min(start + LENGTH_DAYS_MAX);
        told.retain(|(told_end, _)| *told_end > start);
        let (mut at, mut amount, mut after) = (start, 0.0, Vec::with_capacity(told.len() + 1));
        for (told_end, severity) in &told {
            let until = told_end.min(end);
            if until > at {
                amount += (until - at) * (incident.severity - severity).max(0.0);
                after.push((until, severity.max(incident.severity)));
                at = until;
            }
            if *told_end > end {
                after.push((*told_end, *severity));
            }
        }
        if end > at {
            amount += (end - at) * incident.severity;
            after.push((end, incident.severity));
        }
        told = after;
        amounts.push(Amount { start_days: start - first, amount_days: amount });
    }
    amounts
}

/// What is known at an origin, and nothing later.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) ages_days: Vec<f64>,
    pub(super) amounts_days: Vec<f64>,
    pub(super) observed_days: f64,
    pub(super) window_days: f64,
    /// Bad share of each day just before the origin.
    pub(super) daily: Vec<f64>,
}

impl Past {
    /// The same with incidents that begin within so many days of the one before as one.
    pub(super) fn joined(&self, gap_days: f64) -> Self {
        let (mut ages_days, mut amounts_days): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut last_age = f64::INFINITY;
        for (age, amount) in self.ages_days.iter().zip(&self.amounts_days) {
            match amounts_days.last_mut() {
                Some(open) if last_age - age <= gap_days => *open += amount,
                _ => {
                    ages_days.push(*age);
                    amounts_days.push(*amount);
                }
            }
            last_age = *age;
        }
        Self { ages_days, amounts_days, daily: self.daily.clone(), ..*self }
    }
}

/// A past and the bad share of the window that followed.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) past: Past,
    pub(super) outcome: f64,
}

impl Series {
    /// Origins after the history, then a window further each time, as long as a whole window follows. Of what lies before an
    /// origin so many days are remembered.
    pub(super) fn cases(&self, (history_days, remembered_days): (u32, u32), window_days: u32) -> Vec<Case> {
        let last = self.incidents.last().map_or(0.0, |incident| incident.start_days);
        let (history, window) = (f64::from(history_days), f64::from(window_days));
        let count = ((last - history) / window).floor().max(0.0) as usize;
        let case = |i| self.case(history + i as f64 * window, (history_days, remembered_days), window);
        (0..count).map(case).collect()
    }

    fn case(&self, origin: f64, (history_days, remembered_days): (u32, u32), window_days: f64) -> Case {
        let before = self.incidents.partition_point(|incident| incident.start_days < origin);
        let (past, next) = self.incidents.split_at(before);
        let observed_days = origin.min(f64::from(remembered_days));
        let past = &past[past.partition_point(|incident| incident.start_days < origin - observed_days)..];
        let within = next.partition_point(|incident| incident.start_days < origin + window_days);
        let days = history_days as usize;
        let begin = origin - days as f64;
        let mut daily = vec![0.0; days];
        for incident in past.iter().filter(|incident| incident.start_days >= begin) {
            daily[((incident.start_days - begin) as usize).min(days - 1)] += incident.amount_days;
        }
        Case {
            past: Past {
                ages_days: past.iter().map(|incident| origin - incident.start_days).collect(),
                amounts_days: past.iter().map(|incident| incident.amount_days).collect(),
                observed_days,
                window_days,
                daily,
            },
            outcome: next[..within].iter().map(|incident| incident.amount_days).sum::<f64>() / window_days,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(incidents: &[(f64, f64, f64)]) -> Vec<f64> {
        let incident = |(start_days, end_days, severity): &(f64, f64, f64)| Incident {
            start_days: *start_days,
            end_days: *end_days,
            severity: *severity,
        };
        let incidents: Vec<Incident> = incidents.iter().map(incident).collect();
        told_once(&incidents).iter().map(|amount| amount.amount_days).collect()
    }

    #[test]
    fn overlapping_incidents_count_each_moment_once() {
        assert_eq!(amounts(&[(0.0, 1.0, 0.5), (2.0, 2.5, 1.0)]), [0.5, 0.5], "apart");
        assert_eq!(amounts(&[(0.0, 2.0, 0.5), (0.5, 1.0, 0.25)]), [1.0, 0.0], "milder inside");
        assert_eq!(
            amounts(&[(0.0, 2.0, 0.5), (0.5, 1.0, 1.0), (0.75, 3.0, 0.5)]),
            [1.0, 0.25, 0.5],
            "worse inside, then longer"
        );
        assert_eq!(amounts(&[(0.0, 1.0, 1.0), (0.0, 1.0, 1.0)]), [1.0, 0.0], "twice the same");
        assert_eq!(amounts(&[(0.0, 30.0, 1.0)]), [LENGTH_DAYS_MAX], "left open");
    }

    #[test]
    fn order_of_rows_does_not_matter() {
        let rows: [(f64, f64, f64); 3] = [(3.0, 4.0, 1.0), (0.0, 2.0, 0.5), (1.0, 3.5, 0.75)];
        let mut sorted = rows;
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(amounts(&rows), amounts(&sorted));
    }

    #[test]
    fn a_window_holds_what_begins_in_it() {
        let incident = |(start_days, amount_days)| Amount { start_days, amount_days };
        let incidents = [(9.0, 1.0), (10.0, 0.5), (14.9, 0.5), (15.0, 2.0), (21.0, 0.1)].map(incident).to_vec();
        let series = Series { name: "x".into(), incidents };
        let cases = series.cases((10, u32::MAX), 5);
        assert_eq!(cases.iter().map(|case| case.past.observed_days).collect::<Vec<_>>(), [10.0, 15.0]);
        assert_eq!(cases[0].outcome, 0.2);
        assert_eq!(cases[0].past.daily, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(cases[0].past.ages_days, [1.0]);
        assert_eq!(cases[1].past.amounts_days, [1.0, 0.5, 0.5]);
        let young = &series.cases((10, 10), 5)[1];
        assert_eq!((&young.past.amounts_days, young.past.observed_days), (&cases[1].past.amounts_days, 10.0));
        let younger = &series.cases((5, 5), 5)[2];
        assert_eq!((younger.past.amounts_days.as_slice(), younger.past.observed_days), ([0.5, 0.5].as_slice(), 5.0));
    }
}
