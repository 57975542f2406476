use crate::conditions::kind_words;
use crate::{
    Ambition, Conditions, ConfidenceLevel, ConstraintKind, Offer, RecommendationResult, SliResult, SplitMethod,
};
use attain_vocabulary::{EntityKind, SliKind, TimeWindow};

/// A fraction as a percentage: two digits that tell it from 0 or 1, whichever is nearer, and at most six decimals.
///
/// `0.9995` is `99.95 %`, `0.0613` is `6.1 %`.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let near = 100.0 * ratio.min(1.0 - ratio).abs();
    let decimals = if near > 0.0 { (1.0 - libm::log10(near).floor()).clamp(0.0, 6.0) as usize } else { 0 };
    format!("{} %", trimmed(100.0 * ratio, decimals))
}

/// A number with at most one decimal.
#[must_use]
pub fn number(value: f64) -> String {
    trimmed(value, 1)
}

/// A count with its thousands set apart by commas.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The reasons in one paragraph. Each number in it is a field of the result, through [`percent`] or [`number`].
pub(crate) fn paragraph(result: &RecommendationResult, kind: EntityKind) -> String {
    let mut sentences = Vec::new();
    for sli in &result.slis {
        match sli.kind {
            SliKind::Availability if kind.is_composite() && sli.measured.attained_ratio.is_none() => {
                of_parts(result, kind, sli, &mut sentences);
            }
            SliKind::Availability => availability(result, sli, &mut sentences),
            SliKind::Latency => latency(result, sli, &mut sentences),
            SliKind::Freshness => freshness(result, sli, &mut sentences),
        }
    }
    sentences.extend(result.conditions.as_ref().and_then(conditions));
    sentences.push(confidence(result));
    sentences.join(" ")
}

fn availability(result: &RecommendationResult, sli: &SliResult, out: &mut Vec<String>) {
    let service = &result.service;
    let data = &result.data;
    match sli.measured.attained_ratio {
        Some(attained) => out.push(format!(
            "{service} answered {} of {} requests well in {} days of data.",
            percent(attained),
            grouped(sli.measured.valid_count),
            number(data.covered_days)
        )),
        None => out.push(format!("No request of {service} was measured.")),
    }
    if data.regime_start_ms.is_some() {
        out.push(format!("Its level of failure last changed {} days ago.", number(data.regime_days)));
    }
    current(sli, out);
    out.push(promise(result, sli));
    backtested(sli, out);
    limit(sli, out);
    split(service.as_str(), sli, out);
    binding(sli, out);
    if let Some(best) = sli.counterfactuals.first() {
        let today = balanced(sli).map_or(0.0, |offer| offer.target_ratio);
        if let Some(target) = best.balanced_target_ratio.filter(|target| *target > today && !sli.fallback) {
            out.push(format!(
                "What would help most: {}; the balanced target would then be {}.",
                best.description,
                percent(target)
            ));
        }
    }
}

/// An API or a system of which no request was measured.
fn of_parts(result: &RecommendationResult, kind: EntityKind, sli: &SliResult, out: &mut Vec<String>) {
    let (what, of) = match kind {
        EntityKind::Api => ("an API", "whoever provides it"),
        _ => ("a system", "its members"),
    };
    out.push(format!("{} is {what}: it has no requests of its own and fails as {of} make it fail.", result.service));
    if let Some(ceiling) = sli.ceiling_ratio.filter(|ceiling| *ceiling < 1.0) {
        out.push(format!("As far as they are known, they allow {} at most.", percent(ceiling)));
    }
    current(sli, out);
    out.push(promise(result, sli));
    if sli.binding_constraint.kind == ConstraintKind::Dependency {
        binding(sli, out);
    }
}

fn current(sli: &SliResult, out: &mut Vec<String>) {
    let Some(slo) = &sli.current_slo else { return };
    let what = match slo.latency_threshold_ms {
        Some(threshold) => format!("Its SLO of {} {}", percent(slo.target_ratio), bound(sli.kind, threshold)),
        None => format!("Its SLO of {}", percent(slo.target_ratio)),
    };
    let past = match slo.attained {
        Some(true) => "was attained over this history",
        Some(false) => "was not attained over this history",
        None => "has no history to be held against",
    };
    match slo.miss_probability {
        Some(missed) => {
            let ahead = match slo.window {
                TimeWindow::MONTH => "the calendar month, as far as it has come, misses".to_owned(),
                TimeWindow::QUARTER => "the calendar quarter, as far as it has come, misses".to_owned(),
                rolling => format!("the next {} days miss", rolling.days()),
            };
            out.push(format!("{what} {past}, and {ahead} it with a probability of {}.", percent(missed)));
        }
        None => out.push(format!("{what} {past}.")),
    }
}

fn balanced(sli: &SliResult) -> Option<&Offer> {
    sli.offers.iter().find(|offer| offer.ambition == Ambition::Balanced)
}

fn promise(result: &RecommendationResult, sli: &SliResult) -> String {
    let target = |offer: &Offer| match offer.latency_threshold_ms {
        Some(threshold) => format!("{} {}", percent(offer.target_ratio), bound(sli.kind, threshold)),
        None => percent(offer.target_ratio),
    };
    if sli.fallback && !sli.offers.is_empty() {
        let template = sli.offers.first().map(target).unwrap_or_default();
        let bounded = sli.binding_constraint.kind == ConstraintKind::Dependency;
        let origin =
            if bounded { "as much of the template of its tier as they allow" } else { "the template of its tier" };
        return format!(
            "The data does not carry an estimate: {template} is {origin}, not a forecast, and needs a person to look at it."
        );
    }
    if sli.offers.is_empty() {
        return "No target on the menu can be promised.".to_owned();
    }
    let same =
        |a: &Offer, b: &Offer| a.target_ratio == b.target_ratio && a.latency_threshold_ms == b.latency_threshold_ms;
    let one = |alike: &[Offer]| {
        let ambitions: Vec<&str> = alike.iter().map(|offer| ambition(offer.ambition)).collect();
        let missed = alike
            .first()
            .and_then(|offer| offer.miss_probability)
            .map_or_else(String::new, |missed| format!(", missed with a probability of {}", percent(missed)));
        let target = alike.first().map(target).unwrap_or_default();
        format!("{target} ({}{missed})", joined(&ambitions, "and"))
    };
    let offers: Vec<String> = sli.offers.chunk_by(same).map(one).collect();
    let span = match result.window_in_force {
        Some(_) => format!("a whole calendar window of {} days", result.window_days),
        None => format!("the next {} days", result.window_days),
    };
    format!("For {span} it can promise {}.", joined(&offers, "or"))
}

/// What became of the balanced offers of the past.
fn backtested(sli: &SliResult, out: &mut Vec<String>) {
    let record = sli.backtest.as_ref().map(|backtest| backtest.of(Ambition::Balanced)).unwrap_or_default();
    match (record.forecast_count, record.missed_count) {
        (0, _) => {}
        (count, 0) => {
            out.push(format!("Of {} balanced offers of its past none would have been missed.", grouped(count)))
        }
        (count, missed) => out.push(format!(
            "Of {} balanced offers of its past {} would have been missed.",
            grouped(count),
            grouped(missed)
        )),
    }
}

/// What the balanced offer, else the first that is limited, becomes beside the targets of others.
fn limit(sli: &SliResult, out: &mut Vec<String>) {
    let limited = |offer: &&Offer| offer.limited_by.is_some();
    let Some(offer) = balanced(sli).filter(limited).or_else(|| sli.offers.iter().find(limited)) else { return };
    let Some(limit) = &offer.limited_by else { return };
    let who = match (&limit.callee, limit.chain.last()) {
        (Some(callee), _) => format!("{callee} promises"),
        (None, Some(last)) => format!("what it depends on promises together, most of all {last},"),
        (None, None) => "what it depends on promises together".to_owned(),
    };
    let rest = match offer.consistent_target_ratio {
        Some(target) => format!("{} holds beside that", percent(target)),
        None => "no target on the menu holds beside that".to_owned(),
    };
    let (name, needed) = (ambition(offer.ambition), percent(limit.needed_ratio));
    out.push(format!(
        "The {name} offer is stricter than {who} lets it be: {needed} of its requests may fail by promises kept; {rest}."
    ));
}

/// `a`, `a or b`, `a, b or c`.
fn joined(items: &[impl AsRef<str>], word: &str) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

fn ambition(ambition: Ambition) -> &'static str {
    match ambition {
        Ambition::Conservative => "conservative",
        Ambition::Balanced => "balanced",
        Ambition::Ambitious => "ambitious",
    }
}

fn split(service: &str, sli: &SliResult, out: &mut Vec<String>) {
    let Some(split) = &sli.failure_split else {
        return;
    };
    match split.method {
        SplitMethod::Traces | SplitMethod::Regression => {
            let most =
                split.inherited.first().filter(|share| share.failure_ratio > 0.0).map_or_else(String::new, |share| {
                    format!(", most of it by {} ({})", share.dependency, percent(share.failure_ratio))
                });
            out.push(format!(
                "{} of its requests failed of its own and {} because a dependency did{most}.",
                percent(split.own_failure_ratio),
                percent(split.inherited_failure_ratio)
            ));
        }
        SplitMethod::NoDependencies => {
            out.push(format!("{service} depends on nothing, so all its failures are its own."))
        }
        SplitMethod::Unknown => out.push("How much of its failure is inherited cannot be told.".to_owned()),
    }
}

fn binding(sli: &SliResult, out: &mut Vec<String>) {
    let binding = &sli.binding_constraint;
    let relaxed = match binding.relaxed_target_ratio {
        Some(target) if target > balanced(sli).map_or(0.0, |offer| offer.target_ratio) => {
            format!("; without that the balanced target would be {}", percent(target))
        }
        _ => String::new(),
    };
    match (binding.kind, &binding.entity_id) {
        (ConstraintKind::Own, _) => out.push(format!(
            "What holds the target back most is the service itself, which fails {} of requests{relaxed}.",
            percent(binding.contribution_ratio)
        )),
        (ConstraintKind::Dependency, Some(id)) => out.push(format!(
            "What holds the target back most is {id}, which fails {} of requests{relaxed}.",
            percent(binding.contribution_ratio)
        )),
        (ConstraintKind::Volume, _) => out.push(match &binding.volume_need {
            Some(need) => format!(
                "{} might be met, but its traffic cannot tell: that needs {} requests in a window.",
                percent(need.target_ratio),
                grouped(need.window_request_count)
            ),
            None => "Its traffic is too little to tell a stricter target.".to_owned(),
        }),
        (ConstraintKind::Policy, _) if relaxed.is_empty() => {
            out.push("The tier's policy asks for no more, and this history would not carry more.".to_owned());
        }
        (ConstraintKind::Policy, _) => {
            out.push(format!("A stricter target could be met, but the tier's policy does not ask for it{relaxed}."))
        }
        (ConstraintKind::Data, _) | (ConstraintKind::Dependency, None) => {
            out.push("What holds the target back is how little data there is.".to_owned());
        }
    }
}

fn latency(result: &RecommendationResult, sli: &SliResult, out: &mut Vec<String>) {
    match sli.measured.latency_ms_p95 {
        Some(p95) => {
            out.push(format!("As to latency, the slowest twentieth of its requests took more than {} ms.", number(p95)))
        }
        None => out.push("As to latency, nothing was measured.".to_owned()),
    }
    current(sli, out);
    out.push(promise(result, sli));
    out.extend(slowness(sli));
}

/// Who makes requests slow, where samples tell.
fn slowness(sli: &SliResult) -> Option<String> {
    let binding = &sli.binding_constraint;
    let relaxed = binding.relaxed_latency_threshold_ms;
    let gain =
        relaxed.map_or_else(String::new, |threshold_ms| format!("; without that {threshold_ms} ms could be offered"));
    let share = percent(binding.contribution_ratio);
    match (binding.kind, &binding.entity_id) {
        (ConstraintKind::Dependency, Some(id)) => {
            Some(format!("What holds it back most is waiting for {id}, which makes {share} of requests slow{gain}."))
        }
        (ConstraintKind::Own, _) if relaxed.is_some() => Some(format!(
            "What holds it back most is what the service does itself, which makes {share} of requests slow{gain}."
        )),
        _ => None,
    }
}

fn freshness(result: &RecommendationResult, sli: &SliResult, out: &mut Vec<String>) {
    match sli.measured.latency_ms_p95 {
        Some(p95) => out.push(format!(
            "As to freshness, in nineteen of twenty slices of five minutes nothing that waited was older than {}.",
            duration(p95)
        )),
        None => out.push("As to freshness, the age of what waits was not measured.".to_owned()),
    }
    current(sli, out);
    if sli.offers.is_empty() {
        out.push(sli.offer_note.clone());
    } else {
        out.push(promise(result, sli));
    }
}

/// A threshold in words.
fn bound(kind: SliKind, threshold_ms: u32) -> String {
    match kind {
        SliKind::Freshness => format!("of slices no older than {}", duration(f64::from(threshold_ms))),
        SliKind::Availability | SliKind::Latency => format!("under {threshold_ms} ms"),
    }
}

/// Milliseconds in the greatest unit of a clock that they fill: `90000` is `1.5 min`.
pub(crate) fn duration(milliseconds: f64) -> String {
    let units = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min"), (1_000.0, "s")];
    let (worth, unit) = units.into_iter().find(|(worth, _)| milliseconds >= *worth).unwrap_or((1.0, "ms"));
    format!("{} {unit}", number(milliseconds / worth))
}

/// What every offer rests on.
fn conditions(conditions: &Conditions) -> Option<String> {
    let load = conditions.request_rate_max.map(|rate| match rate < 1.0 {
        true => "one request a second over five minutes".to_owned(),
        false => format!("{} requests a second over five minutes", number(rate)),
    });
    let used = |used: &crate::Used| match used.kind.is_ratio() {
        true => format!("{} of {}", percent(used.average_p95), kind_words(used.kind)),
        false => format!("a {} of {}", kind_words(used.kind), number(used.average_p95)),
    };
    let used: Vec<String> = conditions.utilisation.iter().map(used).collect();
    let used = (!used.is_empty())
        .then(|| format!("{} in nineteen of twenty five-minute means of the last week", joined(&used, "and")));
    let measured: Vec<String> = [load, used].into_iter().flatten().collect();
    (!measured.is_empty())
        .then(|| format!("All this holds for loads like those measured: up to {}.", measured.join("; ")))
}

fn confidence(result: &RecommendationResult) -> String {
    let level = match result.confidence.level {
        ConfidenceLevel::Low => "low",
        ConfidenceLevel::Medium => "medium",
        ConfidenceLevel::High => "high",
    };
    let weakest = result.confidence.parts.iter().min_by(|a, b| a.score.total_cmp(&b.score));
    match weakest {
        Some(part) if result.confidence.level != ConfidenceLevel::High => {
            format!("Confidence is {level}, because of the {}.", part.name.replace('_', " "))
        }
        _ => format!("Confidence is {level}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_units_of_a_clock() {
        for (milliseconds, text) in
            [(250.0, "250 ms"), (1_000.0, "1 s"), (90_000.0, "1.5 min"), (7_200_000.0, "2 h"), (86_400_000.0, "1 d")]
        {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn percentages_have_the_digits_that_matter() {
        for (ratio, text) in [
            (0.9995, "99.95 %"),
            (0.99, "99 %"),
            (0.0613, "6.1 %"),
            (0.25, "25 %"),
            (1.0, "100 %"),
            (0.0, "0 %"),
            (0.999_949_7, "99.995 %"),
            (0.000_051, "0.0051 %"),
            (1e-12, "0 %"),
            (0.5, "50 %"),
        ] {
            assert_eq!(percent(ratio), text);
        }
        assert_eq!(grouped(8_640_000), "8,640,000");
        assert_eq!(grouped(640), "640");
        assert_eq!(number(30.0), "30");
        assert_eq!(number(0.04), "0");
        assert_eq!(number(-0.04), "0");
    }
}
