//! PromQL's instant selectors, as far as names of metrics need them: `metric{label="value",…}`.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, InvalidValue};
use regex::Regex;

/// Longest selector that is taken, in characters.
const LEN_MAX: usize = 1000;
/// What stands for the service.
const SERVICE: &str = "$service";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Matches,
    MatchesNot,
}

impl Op {
    /// Longer ones first.
    const ALL: [(Self, &'static str); 4] =
        [(Self::NotEqual, "!="), (Self::Matches, "=~"), (Self::MatchesNot, "!~"), (Self::Equal, "=")];

    fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(op, _)| *op == self).map_or("=", |(_, word)| word)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Matcher {
    label: String,
    op: Op,
    value: String,
}

impl Matcher {
    fn takes(&self, value: &str) -> bool {
        let whole = || Regex::new(&format!("^(?s:{})$", self.value)).is_ok_and(|regex| regex.is_match(value));
        match self.op {
            Op::Equal => self.value == value,
            Op::NotEqual => self.value != value,
            Op::Matches => whole(),
            Op::MatchesNot => !whole(),
        }
    }

    fn render(&self) -> String {
        format!("{}{}{}", self.label, self.op.word(), quoted(&self.value))
    }
}

/// A text in PromQL's double quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A metric and what its labels have to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selector {
    metric: String,
    matchers: Vec<Matcher>,
}

/// A series that a selector takes, as it is written in a test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    metric: String,
    labels: BTreeMap<String, String>,
}

impl Series {
    pub(super) fn render(&self) -> String {
        let labels: Vec<String> =
            self.labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect();
        format!("{}{{{}}}", self.metric, labels.join(","))
    }

    pub(super) fn with(mut self, label: &str, value: &str) -> Self {
        self.labels.insert(label.to_owned(), value.to_owned());
        self
    }
}

impl Selector {
    /// # Errors
    /// Says where the text stops being a selector.
    pub(super) fn parse(field: &str, text: &str) -> Result<Self, InvalidValue> {
        let malformed = |why: &str| InvalidValue::new(field, "malformed", format!("no PromQL selector: {why}"));
        if text.chars().count() > LEN_MAX {
            return Err(InvalidValue::new(field, "too_long", format!("at most {LEN_MAX} characters are taken")));
        }
        let text = text.trim();
        let (metric, rest) = name(text, ":");
        if metric.is_empty() {
            return Err(malformed("it begins with the name of a metric"));
        }
        let mut matchers = Vec::new();
        let mut rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside.trim_start();
            while !rest.starts_with('}') {
                let (matcher, after) = matcher(rest).map_err(&malformed)?;
                if matcher.label == "le" {
                    return Err(malformed("the bound `le` is added where it is needed"));
                }
                matchers.push(matcher);
                rest = after.trim_start();
                match rest.strip_prefix(',') {
                    Some(after) => rest = after.trim_start(),
                    None if rest.starts_with('}') => {}
                    None => return Err(malformed("between matchers stands a comma, at the end `}`")),
                }
            }
            rest = rest[1..].trim_start();
        }
        if !rest.is_empty() {
            return Err(malformed("nothing follows the matchers: no range, no operator"));
        }
        Ok(Self { metric: metric.to_owned(), matchers })
    }

    /// The selector with the service in its place: as it is, or so that a pattern takes exactly its name.
    pub(super) fn of_service(&self, service: &EntityId) -> Self {
        let fill = |matcher: &Matcher| {
            let name = match matcher.op {
                Op::Equal | Op::NotEqual => service.to_string(),
                Op::Matches | Op::MatchesNot => literal(service.as_str()),
            };
            Matcher { value: matcher.value.replace(SERVICE, &name), ..matcher.clone() }
        };
        Self { metric: self.metric.clone(), matchers: self.matchers.iter().map(fill).collect() }
    }

    /// The selector with one label more: the bound of a bucket, which a whole number is written in two ways.
    pub(super) fn with_bound(&self, bound: &str) -> Self {
        let whole = bound.bytes().all(|byte| byte.is_ascii_digit());
        let (op, value) = if whole { (Op::Matches, format!("{bound}(\\.0)?")) } else { (Op::Equal, bound.to_owned()) };
        let mut bounded = self.clone();
        bounded.matchers.push(Matcher { label: "le".to_owned(), op, value });
        bounded
    }

    pub(super) fn render(&self) -> String {
        if self.matchers.is_empty() {
            return self.metric.clone();
        }
        let matchers: Vec<String> = self.matchers.iter().map(Matcher::render).collect();
        format!("{}{{{}}}", self.metric, matchers.join(","))
    }

    /// Whether the selector takes a series.
    pub(super) fn takes(&self, series: &Series) -> bool {
        let value = |label: &str| series.labels.get(label).map_or("", String::as_str);
        self.metric == series.metric && self.matchers.iter().all(|matcher| matcher.takes(value(&matcher.label)))
    }

    /// A series that the selector takes; `None` where none of a few likely values does.
    pub(super) fn sample(&self, service: &EntityId) -> Option<Series> {
        let mut labels = BTreeMap::new();
        for label in self.matchers.iter().map(|matcher| &matcher.label) {
            let of_label = || self.matchers.iter().filter(|matcher| matcher.label == *label);
            let mut likely = vec![String::new(), service.to_string(), "x".to_owned(), "0".to_owned()];
            for matcher in of_label() {
                likely.push(matcher.value.clone());
                likely.extend(matcher.value.split('|').map(|part| part.replace('\\', "")));
                likely.extend(matcher.value.split('|').map(|part| part.replace('.', "0")));
            }
            let value = likely.into_iter().find(|value| of_label().all(|matcher| matcher.takes(value)))?;
            if !value.is_empty() {
                labels.insert(label.clone(), value);
            }
        }
        Some(Series { metric: self.metric.clone(), labels })
    }
}

/// A leading name, and what follows it.
fn name<'text>(text: &'text str, more: &str) -> (&'text str, &'text str) {
    let inside = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || more.contains(c) || (at > 0 && c.is_ascii_digit())
    };
    let end = text.char_indices().find(|place| !inside(*place)).map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

fn matcher(text: &str) -> Result<(Matcher, &str), &'static str> {
    let (label, rest) = name(text, "");
    if label.is_empty() {
        return Err("a matcher begins with the name of a label");
    }
    let rest = rest.trim_start();
    let (op, rest) = Op::ALL
        .into_iter()
        .find_map(|(op, word)| rest.strip_prefix(word).map(|rest| (op, rest)))
        .ok_or("after a label stands =, !=, =~ or !~")?;
    let (value, rest) = string(rest.trim_start())?;
    // What stands for the service is a name, and would be the end of a line in a pattern.
    let pattern = value.replace(SERVICE, "service");
    if matches!(op, Op::Matches | Op::MatchesNot) && Regex::new(&format!("^(?s:{pattern})$")).is_err() {
        return Err("a pattern is no regular expression");
    }
    Ok((Matcher { label: label.to_owned(), op, value }, rest))
}

/// A quoted text and what follows it.
fn string(text: &str) -> Result<(String, &str), &'static str> {
    let mut chars = text.char_indices();
    let quote = match chars.next() {
        Some((_, quote @ ('"' | '\''))) => quote,
        _ => return Err("a value stands in quotes"),
    };
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                _ => return Err("of escapes only \\\\, \\\", \\' and \\n are read"),
            },
            c if c.is_control() => return Err("a value stands on one line"),
            c => value.push(c),
        }
    }
    Err("a quote is not closed")
}

/// A text as a pattern that takes it and nothing else.
fn literal(text: &str) -> String {
    let escape = |c: char| if r"\.+*?()|[]{}^$".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Selector {
        Selector::parse("field", text).expect("a selector")
    }

    fn service(name: &str) -> EntityId {
        EntityId::new("service_id", name).expect("a name")
    }

    #[test]
    fn a_selector_is_read_and_written() {
        let text = r#"a:b_total{job=~"(.+/)?$service",code!="2\"0"}"#;
        assert_eq!(parsed(text).render(), text);
        assert_eq!(parsed("up").render(), "up");
        assert_eq!(parsed(" up { a = 'b' , } ").render(), r#"up{a="b"}"#);
        let filled = parsed(text).of_service(&service("shop.v2"));
        assert_eq!(filled.render(), r#"a:b_total{job=~"(.+/)?shop\\.v2",code!="2\"0"}"#);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "",
            "1a",
            "{a=\"b\"}",
            "a{",
            "a{b}",
            "a{b=\"c\"",
            "a{b=c}",
            "a{b=~\"(\"}",
            "a[5m]",
            "sum(a)",
            "a{le=\"1\"}",
            "a b",
        ] {
            assert_eq!(Selector::parse("field", text).map_err(|fault| fault.code), Err("malformed"), "{text}");
        }
    }

    #[test]
    fn a_sample_is_taken_by_its_selector() {
        let service = service("component:default/shop.v2");
        for text in [
            r#"a{job=~"(.+/)?$service",code=~"5.."}"#,
            r#"a{job="$service",code="",error!="",grpc=~"Unknown|Internal"}"#,
            r#"a{code!~"5..|4..",x!="x"}"#,
            "a",
        ] {
            let selector = parsed(text).of_service(&service);
            let sample = selector.sample(&service).expect("a sample");
            assert!(selector.takes(&sample), "{text}: {sample:?}");
        }
        assert_eq!(parsed(r#"a{b="1",b="2"}"#).sample(&service), None);
    }

    #[test]
    fn whole_bounds_are_found_in_both_spellings() {
        assert_eq!(parsed("a").with_bound("1").render(), r#"a{le=~"1(\\.0)?"}"#);
        assert_eq!(parsed("a").with_bound("0.3").render(), r#"a{le="0.3"}"#);
    }
}
