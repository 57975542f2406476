//! The catalogue's names, `kind:namespace/name`, and the names of the graph that they become.

use std::fmt;

use attain_redaction::redact_name;
use serde::Deserialize;

/// The namespace of whoever names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// Most characters of each part that Backstage allows.
const PART_CHARS_MAX: usize = 253;

/// The full name of an entity; in lower case, as Backstage compares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Which name in the graph an entity gets where no annotation names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// `name` in the default namespace, `namespace/name` in others.
    #[default]
    DefaultNamespaceOmitted,
    /// `name` in every namespace.
    Name,
    /// `namespace/name` in every namespace.
    Namespaced,
}

impl Reference {
    /// `None` for a part that is empty, too long or has characters of its own meaning, also of one with a secret: a mark has
    /// such. Addresses of machines become pseudonyms where they are kept out of names.
    pub(super) fn new(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let part = |part: &str| {
            let part = redact_name(part);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let fine = !part.is_empty() && part.len() <= PART_CHARS_MAX && part.chars().all(plain);
            fine.then(|| part.to_ascii_lowercase())
        };
        Some(Self { kind: part(kind)?, namespace: part(namespace)?, name: part(name)? })
    }

    /// Reads `kind:namespace/name`, or `kind:name` of the default namespace.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (namespace, name) = rest.split_once('/').unwrap_or((DEFAULT_NAMESPACE, rest));
        Self::new(kind, namespace, name)
    }

    /// Without the kind, where it is `usual_kind`, and without the default namespace: as Backstage shows it, and still
    /// unambiguous.
    pub(super) fn short(&self, usual_kind: &str) -> String {
        let kind = if self.kind == usual_kind { String::new() } else { format!("{}:", self.kind) };
        let namespace =
            if self.namespace == DEFAULT_NAMESPACE { String::new() } else { format!("{}/", self.namespace) };
        // A kind without a namespace would hide which one is meant.
        match (kind.is_empty(), namespace.is_empty()) {
            (false, true) => self.to_string(),
            _ => format!("{kind}{namespace}{}", self.name),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.kind, self.namespace, self.name)
    }
}

impl Naming {
    /// The name in the graph; `namespace` and `name` in the spelling of whoever wrote them.
    pub(super) fn of(self, namespace: &str, name: &str) -> String {
        let is_default = namespace.eq_ignore_ascii_case(DEFAULT_NAMESPACE);
        match self {
            Self::Name => name.to_owned(),
            Self::DefaultNamespaceOmitted if is_default => name.to_owned(),
            Self::DefaultNamespaceOmitted | Self::Namespaced => format!("{namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_shown_as_backstage_does() {
        for (text, full, short) in [
            ("Group:default/Dispatch", "group:default/dispatch", "dispatch"),
            ("group:depot/crew", "group:depot/crew", "depot/crew"),
            ("user:default/ida", "user:default/ida", "user:default/ida"),
            ("user:depot/ida", "user:depot/ida", "user:depot/ida"),
            ("group:dispatch", "group:default/dispatch", "dispatch"),
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!((reference.to_string().as_str(), reference.short("group").as_str()), (full, short));
        }
        for malformed in
            ["dispatch", ":default/a", "group:/a", "group:default/", "group:a/b/c", "group:default/a b", ""]
        {
            assert_eq!(Reference::parse(malformed), None, "{malformed}");
        }
        assert_eq!(Reference::new("component", "default", &"n".repeat(300)), None);
    }

    #[test]
    fn names_follow_the_rule() {
        for (naming, in_default, elsewhere) in [
            (Naming::DefaultNamespaceOmitted, "Cart", "shop/Cart"),
            (Naming::Name, "Cart", "Cart"),
            (Naming::Namespaced, "default/Cart", "shop/Cart"),
        ] {
            assert_eq!(
                (naming.of("default", "Cart").as_str(), naming.of("shop", "Cart").as_str()),
                (in_default, elsewhere)
            );
        }
    }
}
