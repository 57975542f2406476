//! Who asks, and what they may do. The tenant comes from here and from nowhere else.

use std::net::IpAddr;

use attain_runtime::Error;
use attain_runtime::context::LOCAL_CALLER;
pub use attain_runtime::context::Role;
use attain_vocabulary::TenantId;
use http::{HeaderMap, StatusCode, header};
use prost_reflect::MethodDescriptor;
use sha2::{Digest as _, Sha256};

use crate::config::{Auth, Config};
use crate::problem::Problem;

const API_KEY: &str = "x-api-key";
const HASH_BYTES: usize = 32;

/// What an RPC needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) role: Role,
    /// Whether it changes something: writes have a rate of their own.
    pub(crate) writes: bool,
}

impl Access {
    /// From the verb that an RPC's name begins with. A verb that nobody thought of is for admins only.
    pub(crate) fn of(rpc: &MethodDescriptor) -> Self {
        Self::of_name(rpc.name())
    }

    fn of_name(name: &str) -> Self {
        let begins = |verbs: &[&str]| verbs.iter().any(|verb| name.starts_with(verb));
        if name.contains("Audit") {
            return Self { role: Role::Admin, writes: false };
        }
        // Whom the tenant's decisions are sent to is the administrators' to know and to say.
        if name.contains("Webhook") || name.contains("Deliver") {
            return Self { role: Role::Admin, writes: !begins(&["Get", "List"]) };
        }
        if begins(&["Get", "List", "Search", "Analyze", "Replay"]) {
            return Self { role: Role::Reader, writes: false };
        }
        // What puts SLOs in force is a decision, whatever brings it.
        if begins(&["Decide", "Delete", "Approve", "Refuse", "Withdraw", "ImportSlos"]) {
            return Self { role: Role::Approver, writes: true };
        }
        if begins(&["Ingest", "Import", "Put", "End", "Submit"]) {
            return Self { role: Role::Proposer, writes: true };
        }

        Self { role: Role::Admin, writes: true }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) tenant: TenantId,
    pub(crate) caller: String,
    pub(crate) role: Role,
}

/// Tells callers apart by their keys.
#[derive(Debug)]
pub(crate) struct Identities {
    /// `None` where no keys are in use.
    keys: Option<Vec<Key>>,
}

#[derive(Debug)]
struct Key {
    sha256: [u8; HASH_BYTES],
    identity: Identity,
}

impl Identities {
    /// Reads the keys of a validated configuration.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        if config.auth == Auth::Off {
            return Ok(Self { keys: None });
        }
        let malformed = |field: &str| Error::Config(format!("gateway.keys: a {field} is malformed"));
        let read = config.keys.iter().map(|key| {
            let bytes = hex::decode(&key.sha256).map_err(|_| malformed("sha256"))?;
            let tenant = TenantId::new("tenant", &key.tenant).map_err(|_| malformed("tenant"))?;
            let identity = Identity { tenant, caller: key.caller.clone(), role: key.role };
            Ok(Key { sha256: bytes.try_into().map_err(|_| malformed("sha256"))?, identity })
        });
        Ok(Self { keys: Some(read.collect::<Result<_, _>>()?) })
    }

    /// Who sent these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        let Some(keys) = &self.keys else {
            return Ok(Identity { tenant: TenantId::default(), caller: LOCAL_CALLER.to_owned(), role: Role::Admin });
        };
        let refuse = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail);
        let given = credential(headers)
            .ok_or_else(|| refuse("a key is needed, as `Authorization: Bearer …` or `X-Api-Key: …`"))?;
        let hash: [u8; HASH_BYTES] = Sha256::digest(given).into();
        // Every key is compared to its end, so that time tells nothing of where they differ.
        let mut found = None;
        for key in keys {
            if equal(&key.sha256, &hash) {
                found = Some(&key.identity);
            }
        }
        found.cloned().ok_or_else(|| refuse("the key is not known"))
    }

    pub(crate) fn needs_keys(&self) -> bool {
        self.keys.is_some()
    }
}

impl Identity {
    /// Refuses what the role does not include.
    pub(crate) fn allow(&self, access: Access) -> Result<(), Problem> {
        if self.role >= access.role {
            return Ok(());
        }
        let detail = format!("this needs the role {}; the key has the role {}", access.role.name(), self.role.name());
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }
}

/// The name under which an address is counted: IPv6 callers by their /64, which one host may fill at will.
pub(crate) fn address_name(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.as_bytes());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest.trim_ascii())
}

fn equal(one: &[u8; HASH_BYTES], other: &[u8; HASH_BYTES]) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyConfig;
    use crate::contract::Contract;

    fn with_key(key: &str, role: Role) -> Identities {
        let key =
            KeyConfig { sha256: hex::encode(Sha256::digest(key)), tenant: "acme".into(), caller: "ci".into(), role };
        Identities::new(&Config { auth: Auth::Keys, keys: vec![key], ..Config::default() }).expect("valid")
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().expect("a header"))])
    }

    #[test]
    fn a_key_names_tenant_caller_and_role() {
        let identities = with_key("secret", Role::Proposer);
        for given in [
            headers("authorization", "Bearer secret"),
            headers("authorization", "bearer  secret"),
            headers("x-api-key", "secret"),
        ] {
            let identity = identities.identify(&given).expect("known");
            assert_eq!(
                (identity.tenant.as_str(), identity.caller.as_str(), identity.role),
                ("acme", "ci", Role::Proposer)
            );
        }
        for given in [
            HeaderMap::new(),
            headers("x-api-key", "Secret"),
            headers("authorization", "Basic secret"),
            headers("x-api-key", ""),
        ] {
            assert_eq!(identities.identify(&given).expect_err("unknown").status, StatusCode::UNAUTHORIZED);
        }
    }

    #[test]
    fn roles_include_the_ones_before() {
        let identity = |role| Identity { tenant: TenantId::default(), caller: "x".into(), role };
        let needs = |role| Access { role, writes: false };
        identity(Role::Admin).allow(needs(Role::Reader)).expect("included");
        identity(Role::Reader).allow(needs(Role::Reader)).expect("equal");
        let problem = identity(Role::Proposer).allow(needs(Role::Approver)).expect_err("above");
        assert_eq!(problem.status, StatusCode::FORBIDDEN);
        assert!(problem.detail.contains("approver"));
    }

    #[test]
    fn roles_by_rpc() {
        for (name, role, writes) in [
            ("IngestDependencies", Role::Proposer, true),
            ("IngestSliBuckets", Role::Proposer, true),
            ("PutDocuments", Role::Proposer, true),
            ("ImportDocument", Role::Proposer, true),
            ("ImportSlos", Role::Approver, true),
            ("GetSloExport", Role::Reader, false),
            ("EndMaintenanceWindow", Role::Proposer, true),
            ("SubmitFeedback", Role::Proposer, true),
            ("DecideIncidentExclusion", Role::Approver, true),
            ("GetSloRecommendations", Role::Reader, false),
            ("AnalyzeImpact", Role::Reader, false),
            ("DecideSlo", Role::Approver, true),
            ("DeleteDocument", Role::Approver, true),
            ("ListAuditRecords", Role::Admin, false),
            ("ApproveDecision", Role::Approver, true),
            ("RefuseDecision", Role::Approver, true),
            ("WithdrawDecision", Role::Approver, true),
            ("SetPolicy", Role::Admin, true),
            ("GetPolicy", Role::Reader, false),
            ("CreateWebhook", Role::Admin, true),
            ("DeleteWebhook", Role::Admin, true),
            ("ListWebhooks", Role::Admin, false),
            ("ListDeliveries", Role::Admin, false),
            ("RetryDelivery", Role::Admin, true),
            ("GetAuditHead", Role::Admin, false),
            ("ReformatDisk", Role::Admin, true),
        ] {
            assert_eq!(Access::of_name(name), Access { role, writes }, "{name}");
        }
    }

    #[test]
    fn reading_by_get_needs_no_more_than_reader_except_for_the_audit_log_and_webhooks() {
        for endpoint in Contract::read(attain_proto::DESCRIPTORS).expect("valid").endpoints() {
            let read =
                endpoint.verb == http::Method::GET && endpoint.access.role == Role::Reader && !endpoint.access.writes;
            let path = endpoint.template.to_string();
            let for_admins = path.starts_with("/api/v1/audit") || path.starts_with("/api/v1/webhooks");
            let admin = for_admins && endpoint.access.role == Role::Admin;
            assert!(endpoint.verb != http::Method::GET || read || admin, "{}", endpoint.operation_id);
        }
    }

    #[test]
    fn addresses_are_counted_by_what_one_host_holds() {
        for (address, name) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(address_name(address.parse().expect("an address")), name);
        }
    }
}
