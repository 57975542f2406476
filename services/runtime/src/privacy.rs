//! What a process takes out of everything that it stores or logs, beyond what everybody does.

use std::path::{Path, PathBuf};

use attain_redaction::{AddressKey, Redactor};
use serde::Deserialize;

use crate::Error;
use crate::secret_file::{hexadecimal, made_once};

/// Name of the key that is made beside the data.
const KEY_FILE: &str = "privacy.key";

/// The section `[privacy]`, the same for every member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// What becomes of the addresses of machines (IPv4, IPv6); `keep` by default.
    pub ip_addresses: IpAddresses,
    /// File with the secret, of at least 32 bytes, that pseudonyms of addresses are made with. Members that run apart need
    /// the same one; a mesh in one process makes its own beside its data where none is named.
    pub ip_key_file: Option<PathBuf>,
}

/// What becomes of the addresses of machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpAddresses {
    /// They stay.
    #[default]
    Keep,
    /// In texts they go; in names each is replaced by a pseudonym.
    Redact,
}

impl PrivacyConfig {
    /// What the process is to take out. `data_dir` is where a key is made that no file is named for; without it one has to be.
    ///
    /// # Errors
    /// Names the setting: no file where one is needed, one that cannot be read, a secret that is too short.
    pub fn redactor(&self, data_dir: Option<&Path>) -> Result<Redactor, Error> {
        if self.ip_addresses == IpAddresses::Keep {
            return Ok(Redactor::default());
        }
        let secret = match (&self.ip_key_file, data_dir) {
            (Some(file), _) => std::fs::read(file).map_err(|error| refused(file, &error.to_string()))?,
            (None, Some(data_dir)) => {
                let file = data_dir.join(KEY_FILE);
                made_once(&file, |random| format!("{}\n", hexadecimal(random)))
                    .map_err(|error| refused(&file, &error.to_string()))?
            }
            (None, None) => {
                let reason = "privacy.ip_key_file: is required with privacy.ip_addresses = \"redact\", for every member has \
                    to give an address the same pseudonym; make one with `openssl rand -hex 32`, and give it to all members";
                return Err(Error::Config(reason.to_owned()));
            }
        };
        let key = AddressKey::new(secret.trim_ascii()).ok_or_else(|| {
            let file = self.ip_key_file.clone().unwrap_or_else(|| PathBuf::from(KEY_FILE));
            refused(&file, &format!("its secret is shorter than {} bytes", AddressKey::BYTES_MIN))
        })?;
        Ok(Redactor::with_addresses(key))
    }

    /// Chooses for the whole process, before anything comes in. See [`Self::redactor`].
    ///
    /// # Errors
    /// As [`Self::redactor`], and where the process has chosen before.
    pub fn apply(&self, data_dir: Option<&Path>) -> Result<(), Error> {
        let redactor = self.redactor(data_dir)?;
        attain_redaction::configure(redactor).map_err(|error| Error::Config(format!("privacy: {error}")))
    }
}

fn refused(file: &Path, reason: &str) -> Error {
    Error::Config(format!("privacy.ip_key_file: {}: {reason}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn redacting(ip_key_file: Option<PathBuf>) -> PrivacyConfig {
        PrivacyConfig { ip_addresses: IpAddresses::Redact, ip_key_file }
    }

    #[test]
    fn a_key_is_made_once_beside_the_data_and_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = |redactor: Redactor| redactor.redact_name("10.0.0.7").into_owned();
        let first = name(redacting(None).redactor(Some(folder.path())).expect("made"));
        let second = name(redacting(None).redactor(Some(folder.path())).expect("read"));
        assert!(attain_redaction::is_pseudonym(&first));
        assert_eq!(first, second);
        let file = folder.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(name(redacting(Some(file)).redactor(None).expect("read")), first);
        let other = tempfile::tempdir().expect("a folder");
        assert_ne!(name(redacting(None).redactor(Some(other.path())).expect("made")), first);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_made_where_addresses_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let short = folder.path().join("short");
        std::fs::write(&short, "hunter2\n").expect("written");
        for (config, named) in [
            (redacting(None), "is required"),
            (redacting(Some(folder.path().join("nowhere"))), "nowhere"),
            (redacting(Some(short)), "shorter than 32 bytes"),
        ] {
            let error = config.redactor(None).expect_err(named).to_string();
            assert!(error.contains("privacy.ip_key_file") && error.contains(named), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let keeping = PrivacyConfig::default().redactor(Some(folder.path())).expect("no key needed");
        assert_eq!(keeping.redact("10.0.0.7").1, 0);
        assert!(!folder.path().join(KEY_FILE).exists());
    }
}
