use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::InvalidValue;

const ENTITY_ID_LEN_MAX: usize = 128;
const TENANT_ID_LEN_MAX: usize = 63;

/// Name of a node of the dependency graph, unique in its tenant: 1 to 128 ASCII letters, digits and `. _ : / @ -`,
/// beginning with a letter or digit. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Checks a name. `field` is what the sender calls the value.
    ///
    /// # Errors
    /// Refuses empty, overlong and oddly spelled names.
    pub fn new(field: &str, value: &str) -> Result<Self, InvalidValue> {
        if value.is_empty() {
            return Err(InvalidValue::new(field, "required", "a service name is required"));
        }
        if value.len() > ENTITY_ID_LEN_MAX {
            let reason = format!("{} characters; at most {ENTITY_ID_LEN_MAX} are kept", value.len());
            return Err(InvalidValue::new(field, "too_long", reason));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
        let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_well || !value.bytes().all(allowed) {
            let reason = "begins with a letter or digit and has only ASCII letters, digits and . _ : / @ -";
            return Err(InvalidValue::new(field, "malformed_name", reason));
        }
        Ok(Self(value.into()))
    }

    /// Bends any non-empty text into a name: what is not allowed becomes `-`, the end is cut. `None` when nothing is left.
    #[must_use]
    pub fn from_observed(value: &str) -> Option<Self> {
        let bent: String = value
            .trim()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._:/@-".contains(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(ENTITY_ID_LEN_MAX)
            .collect();
        (!bent.is_empty()).then_some(Self(bent.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Compares and hashes as its text does.
impl Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Name of a tenant: 1 to 63 lower-case ASCII letters, digits and hyphens, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

impl TenantId {
    /// Checks a name. `field` is what the sender calls the value.
    ///
    /// # Errors
    /// Refuses empty, overlong and oddly spelled names.
    pub fn new(field: &str, value: &str) -> Result<Self, InvalidValue> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts_well = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !starts_well || value.len() > TENANT_ID_LEN_MAX || !value.chars().all(allowed) {
            let reason = "1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit";
            return Err(InvalidValue::new(field, "malformed_name", reason));
        }
        Ok(Self(value.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    /// The tenant of a mesh that serves only one.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

macro_rules! text_impls {
    ($name:ident, $field:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidValue;
            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::new($field, value)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidValue;
            fn try_from(value: String) -> Result<Self, Self::Error> {
                Self::new($field, &value)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }
    };
}

text_impls!(EntityId, "service_id");
text_impls!(TenantId, "tenant_id");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_names_that_cannot_be_right() {
        for (value, code) in [
            ("", "required"),
            (" a", "malformed_name"),
            ("-a", "malformed_name"),
            ("a b", "malformed_name"),
            ("é", "malformed_name"),
        ] {
            assert_eq!(EntityId::new("id", value).map_err(|e| e.code), Err(code), "{value:?}");
        }
        assert_eq!(EntityId::new("id", &"a".repeat(129)).map_err(|e| e.code), Err("too_long"));
        assert!(EntityId::new("id", "component:default/payment-service@eu.1").is_ok());
        assert!(TenantId::new("tenant", "Acme").is_err());
    }

    proptest! {
        #[test]
        fn an_observed_name_is_always_a_valid_name(text in "\\PC{0,200}") {
            if let Some(id) = EntityId::from_observed(&text) {
                prop_assert!(EntityId::new("id", id.as_str()).is_ok());
            }
        }
    }
}
