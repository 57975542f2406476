//! Secrets of webhooks at rest: each is encrypted with a key from outside the database, bound to the endpoint that it belongs to.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a nonce of 96 random bits. There are a few secrets an endpoint and a few endpoints a tenant:
//! far fewer under one key than the 2³² for which random nonces are thought safe.

use std::fmt;
use std::path::Path;

use attain_runtime::secret_file::{hexadecimal, made_once};
use attain_vocabulary::TenantId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::config::WebhookConfig;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Longest name of a key, in bytes.
const KEY_ID_LEN_MAX: usize = 64;
/// Most keys that are held; all but the first only decrypt.
const KEYS_MAX: usize = 16;

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Which key opens it; empty for one that was stored before there were keys, and is not encrypted.
    pub(crate) key_id: String,
    /// The nonce, then what was encrypted with its tag.
    pub(crate) content: Vec<u8>,
}

/// Without the secret, also where it is not encrypted.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why a secret cannot be opened or sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("a webhook's secret is encrypted with the key `{0}`, which is not among recommendation.webhooks.keys")]
    UnknownKey(String),
    #[error(
        "a webhook's secret cannot be opened with the key `{0}` of recommendation.webhooks.keys: another key had this name when \
         it was encrypted, or the row belongs to another endpoint"
    )]
    WrongKey(String),
    #[error(
        "a webhook's secret was stored unencrypted by an older version of this service; start this one again to encrypt it"
    )]
    NotEncrypted,
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The keys, the one that encrypts first.
pub(crate) struct Vault(Vec<(String, LessSafeKey)>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Vault {
    /// The keys of the settings; `None` where there are none.
    ///
    /// # Errors
    /// Names the setting and what is wrong with it, without a key.
    pub(crate) fn read(config: &WebhookConfig) -> Result<Option<Self>, attain_runtime::Error> {
        if !config.keys.is_empty() {
            return Self::parse(config.keys.text())
                .map(Some)
                .map_err(|reason| attain_runtime::Error::Config(format!("recommendation.webhooks.keys: {reason}")));
        }
        let Some(file) = &config.key_file else { return Ok(None) };
        let refused = |reason: String| {
            attain_runtime::Error::Config(format!("recommendation.webhooks.key_file: {}: {reason}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map(Some).map_err(refused)
    }

    /// Reads `NAME:HEX`, one or several with commas or space between; the first encrypts.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for (place, part) in text.split([',', ' ', '\n', '\r', '\t']).filter(|part| !part.is_empty()).enumerate() {
            // What stands there may be a key, so only its place is told.
            let place = place + 1;
            let (id, hex) = part.split_once(':').ok_or_else(|| {
                format!("key {place} is not of the form NAME:HEX; make one with `openssl rand -hex 32`")
            })?;
            let named = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
            if id.is_empty() || id.len() > KEY_ID_LEN_MAX || !id.chars().all(named) {
                return Err(format!(
                    "key {place} needs a name of letters, digits, `.`, `_` and `-`, at most {KEY_ID_LEN_MAX}"
                ));
            }
            if keys.iter().any(|(other, _)| other == id) {
                return Err(format!("two keys are named `{id}`"));
            }
            let bytes = hex::decode(hex).ok().filter(|bytes| bytes.len() == KEY_BYTES);
            let key = bytes.and_then(|bytes| UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok());
            let key = key.ok_or_else(|| format!("key `{id}` is not {} hexadecimal digits", 2 * KEY_BYTES))?;
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        match keys.len() {
            0 => Err("no key is there".to_owned()),
            1..=KEYS_MAX => Ok(Self(keys)),
            count => Err(format!("{count} keys; at most {KEYS_MAX} are held")),
        }
    }

    /// Name of the key that encrypts.
    pub(crate) fn key_id(&self) -> &str {
        &self.0[0].0
    }

    /// Encrypts a secret of an endpoint.
    pub(crate) fn seal(&self, tenant: &TenantId, webhook_id: &str, secret: &[u8]) -> Result<Sealed, Failure> {
        let (id, key) = &self.0[0];
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Failure::NoRandomness)?;
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), owner(tenant, webhook_id), &mut sealed)
            .map_err(|_| Failure::WrongKey(id.clone()))?;
        Ok(Sealed { key_id: id.clone(), content: [&nonce[..], &sealed].concat() })
    }

    /// The secret of an endpoint.
    pub(crate) fn open(&self, tenant: &TenantId, webhook_id: &str, sealed: &Sealed) -> Result<Vec<u8>, Failure> {
        if sealed.key_id.is_empty() {
            return Err(Failure::NotEncrypted);
        }
        let key = self.0.iter().find(|(id, _)| *id == sealed.key_id);
        let (id, key) = key.ok_or_else(|| Failure::UnknownKey(sealed.key_id.clone()))?;
        let wrong = || Failure::WrongKey(id.clone());
        let (nonce, content) = sealed.content.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, owner(tenant, webhook_id), &mut content).map_err(|_| wrong())?;
        Ok(opened.to_vec())
    }
}

/// Whose secret it is: that of another endpoint does not open.
fn owner(tenant: &TenantId, webhook_id: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{tenant}\n{webhook_id}").into_bytes())
}

/// Makes a file with a key of its own where there is none, for the owner's eyes only. The key is named for what it is, so that one
/// that was made anew is not taken for the one before.
///
/// # Errors
/// Where it can be neither read nor made.
pub fn make_key_file(file: &Path) -> std::io::Result<()> {
    let named = |key: &[u8; KEY_BYTES]| {
        let digest = hexadecimal(&Sha256::digest(key));
        format!("own-{}:{}\n", &digest[..8], hexadecimal(key))
    };
    made_once(file, named).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn key(id: &str, byte: u8) -> String {
        format!("{id}:{}", hex::encode([byte; KEY_BYTES]))
    }

    fn vault(keys: &[String]) -> Vault {
        Vault::parse(&keys.join(",")).expect("keys")
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new("tenant", name).expect("valid")
    }

    #[test]
    fn a_secret_opens_only_for_its_endpoint_and_with_its_key() {
        let (old, both, other) = (vault(&[key("a", 1)]), vault(&[key("b", 2), key("a", 1)]), vault(&[key("a", 3)]));
        let acme = tenant("acme");
        let sealed = old.seal(&acme, "webhook-1", b"secret").expect("sealed");
        assert_eq!((sealed.key_id.as_str(), old.key_id(), both.key_id()), ("a", "a", "b"));
        assert_eq!(both.open(&acme, "webhook-1", &sealed), Ok(b"secret".to_vec()));
        let wrong = Err(Failure::WrongKey("a".into()));
        assert_eq!(other.open(&acme, "webhook-1", &sealed), wrong);
        assert_eq!(old.open(&acme, "webhook-2", &sealed), wrong);
        assert_eq!(old.open(&tenant("acme-2"), "webhook-1", &sealed), wrong);
        let newer = both.seal(&acme, "webhook-1", b"secret").expect("sealed");
        assert_eq!(old.open(&acme, "webhook-1", &newer), Err(Failure::UnknownKey("b".into())));
        let plain = Sealed { key_id: String::new(), content: b"secret".to_vec() };
        assert_eq!(old.open(&acme, "webhook-1", &plain), Err(Failure::NotEncrypted));
        assert!(!format!("{plain:?} {old:?}").contains("115"), "no byte of the secret is shown");
        // The same secret never looks the same.
        assert_ne!(old.seal(&acme, "webhook-1", b"secret").expect("sealed").content, sealed.content);
    }

    #[test]
    fn a_key_that_cannot_be_one_is_named_and_not_shown() {
        let hex = hex::encode([7; KEY_BYTES]);
        for (text, said) in [
            (String::new(), "no key is there"),
            (hex.clone(), "key 1 is not of the form NAME:HEX"),
            (format!("{}, {hex}", key("a", 1)), "key 2 is not of the form"),
            (format!(":{hex}"), "key 1 needs a name"),
            (format!("a/b:{hex}"), "key 1 needs a name"),
            ("a:0707".to_owned(), "key `a` is not 64 hexadecimal digits"),
            (format!("a:{}", "g7".repeat(32)), "key `a` is not 64 hexadecimal digits"),
            (format!("{} {}", key("a", 1), key("a", 2)), "two keys are named `a`"),
        ] {
            let error = Vault::parse(&text).expect_err(said);
            assert!(error.contains(said) && !error.contains("0707"), "{error}");
        }
        let many: Vec<String> = (0..17).map(|place| key(&format!("k{place}"), place)).collect();
        assert!(Vault::parse(&many.join("\n")).is_err());
        assert!(Vault::parse(&many[..16].join("\n")).is_ok());
    }

    #[test]
    fn settings_name_a_file_or_hold_the_keys_and_the_keys_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("webhooks.key");
        assert!(Vault::read(&WebhookConfig::default()).expect("nothing asked").is_none());
        let config = WebhookConfig { key_file: Some(file.clone()), ..WebhookConfig::default() };
        let error = Vault::read(&config).expect_err("there is none").to_string();
        assert!(error.contains("recommendation.webhooks.key_file") && error.contains("webhooks.key"), "{error}");
        make_key_file(&file).expect("made");
        let made = Vault::read(&config).expect("read").expect("a key");
        assert!(made.key_id().starts_with("own-"), "{made:?}");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        make_key_file(&file).expect("there already");
        assert_eq!(Vault::read(&config).expect("read").expect("a key").key_id(), made.key_id());
        let both = WebhookConfig { keys: key("b", 2).into(), ..config };
        assert_eq!(Vault::read(&both).expect("read").expect("a key").key_id(), "b");
        assert!(!format!("{both:?}").contains(&hex::encode([2; KEY_BYTES])));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens_and_nothing_that_was_changed_does(
            secret in prop::collection::vec(any::<u8>(), 0..80), place in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let vault = vault(&[key("a", 1)]);
            let sealed = vault.seal(&tenant("t"), "webhook-1", &secret).expect("sealed");
            prop_assert_eq!(vault.open(&tenant("t"), "webhook-1", &sealed), Ok(secret));
            let mut changed = sealed.clone();
            let place = place.index(changed.content.len());
            changed.content[place] ^= 1 << bit;
            prop_assert_eq!(vault.open(&tenant("t"), "webhook-1", &changed), Err(Failure::WrongKey("a".into())));
            let cut = Sealed { content: sealed.content[..place].to_vec(), ..sealed };
            prop_assert!(vault.open(&tenant("t"), "webhook-1", &cut).is_err());
        }
    }
}
