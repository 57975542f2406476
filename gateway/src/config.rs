use std::net::SocketAddr;

use attain_runtime::Error;
use attain_runtime::context::RESERVED_CALLERS;
use attain_vocabulary::TenantId;
use serde::Deserialize;

use crate::identity::Role;

/// Settings of the gateway: section `[gateway]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where ingestion answers.
    pub ingestion_url: String,
    /// Where graph answers.
    pub graph_url: String,
    /// Where recommendation answers.
    pub recommendation_url: String,
    /// Where rag answers.
    pub rag_url: String,
    /// Largest request body, in bytes; 1024 to 64 MiB.
    pub body_bytes_max: usize,
    /// Most bytes of request bodies held at one time, over all requests; at least `body_bytes_max`.
    pub body_bytes_in_flight_max: usize,
    /// Time that a request may take from its first byte to its answer, in milliseconds; 10 to 60,000.
    pub deadline_ms: u64,
    /// How long requests in flight may take to end after the stop, in milliseconds.
    pub drain_ms: u64,
    /// Time to send a request's headers, in milliseconds.
    pub header_read_ms: u64,
    /// Most connections at one time; further ones wait to be accepted.
    pub connections_max: usize,
    /// Most requests in flight; further ones are refused at once.
    pub requests_in_flight_max: usize,
    /// How often each caller may ask.
    pub rates: Rates,
    /// Whether callers need a key.
    pub auth: Auth,
    /// The keys, for `auth = "keys"`.
    pub keys: Vec<KeyConfig>,
}

/// How often each caller may ask. A caller is a key, or without keys the address it comes from.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Requests a minute that read or compute.
    pub reads_per_minute: u32,
    /// Reads that may come at once.
    pub reads_burst: u32,
    /// Requests a minute that change something.
    pub writes_per_minute: u32,
    /// Writes that may come at once.
    pub writes_burst: u32,
    /// Callers told apart; the ones beyond share one allowance.
    pub callers_max: usize,
}

/// Whether callers need a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// No: everyone may do everything in the default tenant. Refused unless the listener is loopback.
    Off,
    /// Yes: as `Authorization: Bearer …` or `X-Api-Key: …`.
    Keys,
}

/// One key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// SHA-256 of the key, in hex. The key itself is kept nowhere.
    pub sha256: String,
    /// Whose data the key opens.
    pub tenant: String,
    /// Who holds it, for logs, limits and the audit log.
    pub caller: String,
    /// What it allows.
    pub role: Role,
}

const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ingestion_url: "http://127.0.0.1:7101".into(),
            graph_url: "http://127.0.0.1:7102".into(),
            recommendation_url: "http://127.0.0.1:7103".into(),
            rag_url: "http://127.0.0.1:7104".into(),
            body_bytes_max: BODY_BYTES_MAX,
            body_bytes_in_flight_max: 4 * BODY_BYTES_MAX,
            deadline_ms: 10_000,
            drain_ms: 10_000,
            header_read_ms: 10_000,
            connections_max: 1024,
            requests_in_flight_max: 256,
            rates: Rates::default(),
            auth: Auth::Off,
            keys: Vec::new(),
        }
    }
}

impl Default for Rates {
    /// Far above what a person or a dashboard asks, well below what two cores can answer.
    fn default() -> Self {
        Self {
            reads_per_minute: 12_000,
            reads_burst: 400,
            writes_per_minute: 6_000,
            writes_burst: 200,
            callers_max: 10_000,
        }
    }
}

impl Config {
    /// Checks what can be checked before a port opens.
    ///
    /// # Errors
    /// Names the setting that is out of range or does not go with another.
    pub fn validate(&self) -> Result<(), Error> {
        within("body_bytes_max", self.body_bytes_max as u64, 1024, 64 * 1024 * 1024)?;
        within("body_bytes_in_flight_max", self.body_bytes_in_flight_max as u64, self.body_bytes_max as u64, 1 << 40)?;
        within("deadline_ms", self.deadline_ms, 10, 60_000)?;
        within("drain_ms", self.drain_ms, 0, 600_000)?;
        within("header_read_ms", self.header_read_ms, 100, 60_000)?;
        within("connections_max", self.connections_max as u64, 1, 1_000_000)?;
        within("requests_in_flight_max", self.requests_in_flight_max as u64, 1, 1_000_000)?;
        self.validate_rates()?;
        self.validate_auth(self.listen)
    }

    /// Refuses to serve without keys where others than this machine can connect.
    pub(crate) fn validate_auth(&self, listen: SocketAddr) -> Result<(), Error> {
        match self.auth {
            Auth::Off if !listen.ip().is_loopback() => refuse(
                "auth",
                &format!(
                    "without keys the gateway listens on loopback only, and {listen} is not; set auth = \"keys\" and [[gateway.keys]]"
                ),
            ),
            Auth::Off if !self.keys.is_empty() => {
                refuse("keys", "there are keys, but auth is \"off\"; set auth = \"keys\"")
            }
            Auth::Off => Ok(()),
            Auth::Keys if self.keys.is_empty() => refuse("keys", "auth is \"keys\", but there is none"),
            Auth::Keys => self.validate_keys(),
        }
    }

    fn validate_keys(&self) -> Result<(), Error> {
        for (index, key) in self.keys.iter().enumerate() {
            let name = |field: &str| format!("keys.{index}.{field}");
            if hex::decode(&key.sha256).map(|bytes| bytes.len()) != Ok(32) {
                return refuse(&name("sha256"), "a SHA-256 is 64 hexadecimal digits");
            }
            if self.keys[..index].iter().any(|other| other.sha256.eq_ignore_ascii_case(&key.sha256)) {
                return refuse(&name("sha256"), "the same key is there twice");
            }
            if let Err(invalid) = TenantId::new("tenant", &key.tenant) {
                return refuse(&name("tenant"), &invalid.reason);
            }
            let readable =
                !key.caller.is_empty() && key.caller.len() <= 200 && key.caller.chars().all(|c| c.is_ascii_graphic());
            if !readable {
                return refuse(&name("caller"), "1 to 200 visible ASCII characters");
            }
            if RESERVED_CALLERS.contains(&key.caller.as_str()) {
                return refuse(&name("caller"), "this name is the mesh's own; choose another");
            }
        }
        Ok(())
    }

    fn validate_rates(&self) -> Result<(), Error> {
        let rates = &self.rates;
        for (key, value) in [
            ("reads_per_minute", rates.reads_per_minute),
            ("reads_burst", rates.reads_burst),
            ("writes_per_minute", rates.writes_per_minute),
            ("writes_burst", rates.writes_burst),
        ] {
            within(&format!("rates.{key}"), u64::from(value), 1, 100_000_000)?;
        }
        within("rates.callers_max", rates.callers_max as u64, 1, 10_000_000)
    }
}

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), Error> {
    if (low..=high).contains(&value) { Ok(()) } else { refuse(key, &format!("{value} is outside {low} to {high}")) }
}

fn refuse(key: &str, reason: &str) -> Result<(), Error> {
    Err(Error::Config(format!("gateway.{key}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sha256: &str) -> KeyConfig {
        KeyConfig { sha256: sha256.into(), tenant: "acme".into(), caller: "ci".into(), role: Role::Reader }
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().expect("valid");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let hash = "ab".repeat(32);
        let open: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        let keys = |keys: Vec<KeyConfig>| Config { auth: Auth::Keys, keys, ..Config::default() };
        let cases = [
            (Config { listen: open, ..Config::default() }, "gateway.auth"),
            (Config { keys: vec![key(&hash)], ..Config::default() }, "gateway.keys"),
            (keys(vec![]), "gateway.keys"),
            (keys(vec![key("abc")]), "gateway.keys.0.sha256"),
            (keys(vec![key(&hash), key(&hash.to_uppercase())]), "gateway.keys.1.sha256"),
            (keys(vec![KeyConfig { tenant: "Not A Tenant".into(), ..key(&hash) }]), "gateway.keys.0.tenant"),
            (keys(vec![KeyConfig { caller: "a\nb".into(), ..key(&hash) }]), "gateway.keys.0.caller"),
            (Config { deadline_ms: 0, ..Config::default() }, "gateway.deadline_ms"),
            (Config { body_bytes_in_flight_max: 1, ..Config::default() }, "gateway.body_bytes_in_flight_max"),
            (
                Config { rates: Rates { reads_burst: 0, ..Rates::default() }, ..Config::default() },
                "gateway.rates.reads_burst",
            ),
        ];
        let reserved = RESERVED_CALLERS.map(|caller| keys(vec![KeyConfig { caller: caller.into(), ..key(&hash) }]));
        let reserved = reserved.into_iter().map(|config| (config, "gateway.keys.0.caller"));
        for (config, named) in cases.into_iter().chain(reserved) {
            let error = config.validate().expect_err(named).to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        let open = Config { listen: open, ..keys(vec![key(&hash)]) };
        open.validate().expect("keys allow any address");
    }

    #[test]
    fn the_documented_form_is_read() {
        let text = format!(
            "auth = \"keys\"\n[rates]\nreads_per_minute = 5\n[[keys]]\nsha256 = \"{}\"\ntenant = \"acme\"\ncaller = \"ci\"\nrole = \"approver\"",
            "0".repeat(64)
        );
        let config: Config = toml::from_str(&text).expect("valid");
        config.validate().expect("valid");
        assert_eq!((config.keys[0].role, config.rates.reads_per_minute), (Role::Approver, 5));
        toml::from_str::<Config>("allow_insecure_bind = true").expect_err("there is no way round");
    }

    #[test]
    fn keys_fit_into_one_variable() {
        let text = format!(
            "gateway.keys=[{{sha256=\"{}\", tenant=\"acme\", caller=\"ci\", role=\"admin\"}}]",
            "0a".repeat(32)
        );
        let overrides = vec!["gateway.auth=keys".to_owned(), text, "gateway.rates.reads_burst=7".to_owned()];
        let sources = attain_runtime::config::Sources { overrides, ..Default::default() };
        let config: Config = sources.section("gateway").expect("valid");
        config.validate().expect("valid");
        assert_eq!((config.keys[0].role, config.rates.reads_burst), (Role::Admin, 7));
    }
}
