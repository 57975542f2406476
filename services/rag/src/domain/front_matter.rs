//! What a document says of itself between two `---` lines at its top.
//!
//! A small reading of YAML's simplest forms (`key: value`, `[a, b]`, `- a` below a key): no anchors, aliases, tags or nesting, so
//! nothing in it can grow. Keys that mean nothing here are passed over; one that does has to be right.

use attain_vocabulary::{InvalidValue, UnixMillis};

/// What a document says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FrontMatter {
    pub(crate) kind: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) services: Vec<String>,
    pub(crate) owner: Option<String>,
    pub(crate) licence: Option<String>,
    pub(crate) reviewed: Option<String>,
    pub(crate) review_due: Option<String>,
    pub(crate) supersedes: Vec<String>,
    pub(crate) superseded_by: Option<String>,
    pub(crate) visibility: Option<String>,
}

/// Longest front matter that is read, in lines.
const LINES_MAX: usize = 500;

/// Reads the front matter of a text; nothing where there is none.
///
/// # Errors
/// Names a key that is given twice or whose value is no plain text or list.
pub(crate) fn read(text: &str) -> Result<FrontMatter, InvalidValue> {
    let mut front = FrontMatter::default();
    let mut seen: Vec<&str> = Vec::new();
    for Entry { key, values } in entries(lines(text)) {
        let Some(known) = known(key) else { continue };
        if seen.contains(&known) {
            return Err(wrong(known, "duplicate", "it is given twice".to_owned()));
        }
        seen.push(known);
        if let Some(value) = values.iter().find(|value| value.starts_with(['&', '*', '!', '{', '|', '>'])) {
            let start: String = value.chars().take(1).collect();
            return Err(wrong(
                known,
                "malformed",
                format!("a plain text or a list is read, nothing that begins with `{start}`"),
            ));
        }
        let one = || match values.as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
            _ => Err(wrong(known, "malformed", "one value is read here, not a list".to_owned())),
        };
        match known {
            "kind" => front.kind = one()?,
            "title" => front.title = one()?,
            "owner" => front.owner = one()?,
            "licence" => front.licence = one()?,
            "reviewed" => front.reviewed = one()?,
            "review_due" => front.review_due = one()?,
            "superseded_by" => front.superseded_by = one()?,
            "visibility" => front.visibility = one()?,
            "services" => front.services = values,
            _ => front.supersedes = values,
        }
    }
    Ok(front)
}

/// A day (`2026-11-10`) or a time (RFC 3339) as milliseconds since 1970.
///
/// # Errors
/// Names the key.
pub(crate) fn time(key: &str, value: &str) -> Result<UnixMillis, InvalidValue> {
    let day = value.parse::<jiff::civil::Date>().ok().filter(|_| value.len() == 10);
    let time = match day {
        Some(day) => day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp()),
        None => value.parse::<jiff::Timestamp>().ok(),
    };
    time.map(jiff::Timestamp::as_millisecond).ok_or_else(|| {
        wrong(key, "malformed", "a day such as 2026-11-10 or a time such as 2026-11-10T08:00:00Z".to_owned())
    })
}

/// A fault of a key of the front matter.
pub(crate) fn wrong(key: &str, code: &'static str, reason: String) -> InvalidValue {
    InvalidValue::new(format!("front_matter/{key}"), code, reason)
}

/// The key under which a key that means something is known.
fn known(key: &str) -> Option<&'static str> {
    Some(match key {
        "kind" => "kind",
        "title" => "title",
        "services" | "service_ids" => "services",
        "owner" => "owner",
        "licence" | "license" => "licence",
        "reviewed" | "last_reviewed" => "reviewed",
        "review_due" => "review_due",
        "supersedes" => "supersedes",
        "superseded_by" => "superseded_by",
        "visibility" => "visibility",
        _ => return None,
    })
}

struct Entry<'a> {
    key: &'a str,
    values: Vec<String>,
}

/// The lines between `---` and `---` at the very start; none where it does not end.
fn lines(text: &str) -> Vec<&str> {
    let Some(body) = text.strip_prefix("---\n") else { return Vec::new() };
    let mut found = Vec::new();
    for line in body.lines().take(LINES_MAX) {
        if line.trim_end() == "---" {
            return found;
        }
        found.push(line);
    }
    Vec::new()
}

/// Keys at the left edge with their values; what is indented otherwise belongs to a key that is passed over.
fn entries(lines: Vec<&str>) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for line in lines {
        let item = line.trim_start().strip_prefix("- ");
        if let (Some(item), Some(entry)) = (item, entries.last_mut()) {
            entry.values.push(plain(item));
        } else if !line.starts_with(char::is_whitespace)
            && let Some((key, value)) = line.split_once(':')
        {
            entries.push(Entry { key: key.trim(), values: values(value) });
        }
    }
    entries
}

fn values(text: &str) -> Vec<String> {
    let text = without_comment(text).trim();
    if text.is_empty() {
        return Vec::new();
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(list) => list.split(',').map(plain).filter(|value| !value.is_empty()).collect(),
        None => vec![plain(text)],
    }
}

/// A comment of YAML begins with a `#` after a blank, outside quotes.
fn without_comment(text: &str) -> &str {
    let quoted = text.trim_start().starts_with(['"', '\'']);
    text.find(" #").filter(|_| !quoted).map_or(text, |at| &text[..at])
}

fn plain(text: &str) -> String {
    let text = without_comment(text).trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simple_forms_are_read() {
        let text = "---\nkind: runbook\ntitle: \"Retry: storm\"\nservices: [shop, 'user-db']\nowner: team-a  # who\nlicense: CC0-1.0\n\
                    weight: 10\nmenu:\n  main:\n    parent: x\nsupersedes:\n  - runbooks/old\n  - runbooks/older\nreviewed: 2026-11-10\n---\ntext";
        let front = read(text).expect("right");
        assert_eq!((front.kind.as_deref(), front.title.as_deref()), (Some("runbook"), Some("Retry: storm")));
        assert_eq!(
            (front.services, front.supersedes),
            (vec!["shop".to_owned(), "user-db".into()], vec!["runbooks/old".into(), "runbooks/older".into()])
        );
        assert_eq!((front.owner.as_deref(), front.licence.as_deref()), (Some("team-a"), Some("CC0-1.0")));
        assert_eq!(time("reviewed", &front.reviewed.expect("given")).expect("a day"), 1_794_268_800_000);
    }

    #[test]
    fn what_has_no_end_or_no_front_says_nothing() {
        for text in ["", "text", "---\nkind: incident\ntext", "\n---\nkind: incident\n---\n"] {
            assert_eq!(read(text), Ok(FrontMatter::default()), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (front, key) in [
            ("kind: runbook\nkind: incident", "kind"),
            ("visibility: *all", "visibility"),
            ("title: !!python/object x", "title"),
            ("owner:\n  - a\n  - b", "owner"),
            ("licence: {a: b}", "licence"),
        ] {
            let fault = read(&format!("---\n{front}\n---\nx")).expect_err(front);
            assert_eq!(fault.field, format!("front_matter/{key}"), "{front}");
        }
        for value in ["yesterday", "2026-13-01", "2026-11-10 x", ""] {
            assert_eq!(time("reviewed", value).expect_err(value).field, "front_matter/reviewed");
        }
    }
}
