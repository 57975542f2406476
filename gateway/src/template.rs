//! Path templates: `/api/v1/services/{service_id}/slos`.

use std::cmp::Ordering;
use std::fmt;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
}

impl Template {
    /// Reads literals and `{field}`; patterns inside a variable (`{name=**}`) and verbs (`:verb`) are not served.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("{text} does not begin with a slash"))?;
        rest.split('/').map(|segment| Segment::parse(segment, text)).collect::<Result<_, _>>().map(Self)
    }

    /// The raw (still percent-encoded) segments that stand for the variables, in order; `None` where the path is another.
    pub(crate) fn matches<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut captures = Vec::new();
        let mut segments = path.strip_prefix('/')?.split('/');
        for segment in &self.0 {
            let given = segments.next()?;
            match segment {
                Segment::Literal(literal) if literal == given => {}
                Segment::Variable(_) if !given.is_empty() => captures.push(given),
                Segment::Literal(_) | Segment::Variable(_) => return None,
            }
        }
        segments.next().is_none().then_some(captures)
    }

    /// Names of the variables, in order.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Variable(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Literal segments before variables, so that `/services/dependencies` is tried before `/services/{service_id}`.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let key = |template: &Self| -> Vec<(bool, String)> {
            template.0.iter().map(|segment| (matches!(segment, Segment::Variable(_)), segment.to_string())).collect()
        };
        key(self).cmp(&key(other))
    }

    /// The template with its variables' names taken out: two with the same shape match the same paths.
    pub(crate) fn shape(&self) -> String {
        self.0
            .iter()
            .map(|segment| if let Segment::Literal(text) = segment { format!("/{text}") } else { "/{}".into() })
            .collect()
    }
}

impl Segment {
    fn parse(segment: &str, whole: &str) -> Result<Self, String> {
        let plain =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            if plain(name) {
                return Ok(Self::Variable(name.to_owned()));
            }
        } else if plain(segment) {
            return Ok(Self::Literal(segment.to_owned()));
        }
        Err(format!("`{segment}` in {whole} is neither plain text nor {{field}}"))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Variable(name) => write!(f, "{{{name}}}"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_segment_stands_for_one_variable() {
        let template = Template::parse("/api/v1/services/{service_id}/slos").expect("valid");
        for (path, captures) in [
            ("/api/v1/services/checkout/slos", Some(vec!["checkout"])),
            ("/api/v1/services/a%2Fb/slos", Some(vec!["a%2Fb"])),
            ("/api/v1/services//slos", None),
            ("/api/v1/services/a/b/slos", None),
            ("/api/v1/services/a/slos/", None),
            ("/api/v1/services/a", None),
            ("api/v1/services/a/slos", None),
        ] {
            assert_eq!(template.matches(path), captures, "{path}");
        }
        assert_eq!(template.to_string(), "/api/v1/services/{service_id}/slos");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for text in ["api", "/a/{b=**}", "/a/{b", "/a:verb", "/a//b", "/{}"] {
            Template::parse(text).expect_err(text);
        }
    }

    #[test]
    fn literals_come_first() {
        let literal = Template::parse("/a/b").expect("valid");
        let variable = Template::parse("/a/{b}").expect("valid");
        assert_eq!(literal.precedence(&variable), Ordering::Less);
        assert_ne!(literal.shape(), variable.shape());
        assert_eq!(variable.shape(), Template::parse("/a/{c}").expect("valid").shape());
    }
}
