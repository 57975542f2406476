//! Who asks, and what they may do. The tenant comes from here and from nowhere else.

use std::net::IpAddr;

use attain_proto::vocabulary::v1::Role as WireRole;
use attain_runtime::Error;
use attain_runtime::context::LOCAL_CALLER;
pub use attain_runtime::context::Role;
use attain_vocabulary::TenantId;
use http::{HeaderMap, StatusCode, header};
use prost_reflect::MethodDescriptor;
use sha2::{Digest as _, Sha256};

use crate::config::{Auth, Config};
use crate::problem::Problem;

/// The option by which an RPC says what it needs.
const ACCESS: &str = "attain.vocabulary.v1.access";
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
    /// What the contract says where the RPC is. One that says nothing is for administrators only.
    pub(crate) fn of(rpc: &MethodDescriptor) -> Self {
        Self::said(rpc).unwrap_or(Self { role: Role::Admin, writes: true })
    }

    fn said(rpc: &MethodDescriptor) -> Option<Self> {
        let extension = rpc.parent_pool().get_extension_by_name(ACCESS)?;
        let options = rpc.options();
        let access = options.get_extension(&extension);
        let access = access.as_message()?;
        let role = access.get_field_by_name("role")?.as_enum_number()?;
        let role = match WireRole::try_from(role).ok()? {
            WireRole::Unspecified => return None,
            WireRole::Reader => Role::Reader,
            WireRole::Proposer => Role::Proposer,
            WireRole::Approver => Role::Approver,
            WireRole::Admin => Role::Admin,
        };
        Some(Self { role, writes: access.get_field_by_name("writes")?.as_bool()? })
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
    fn every_rpc_says_what_it_needs() {
        let contract = Contract::read(attain_proto::DESCRIPTORS).expect("valid");
        let silent: Vec<&str> = contract
            .endpoints()
            .iter()
            .filter(|endpoint| Access::said(&endpoint.rpc).is_none())
            .map(|endpoint| endpoint.operation_id.as_str())
            .collect();
        assert_eq!(silent, [""; 0], "say (attain.vocabulary.v1.access) where the RPC is");
        let internal = contract.pool().get_service_by_name("attain.graph.v1.GraphService").expect("a service");
        let internal = internal.methods().find(|rpc| rpc.name() == "SolveTargets").expect("an RPC without a route");
        assert_eq!(Access::of(&internal), Access { role: Role::Admin, writes: true });
    }

    /// Members tell reads from writes by the verb, for their own limits and for the audit log: the contract says the same.
    #[test]
    fn what_is_said_goes_with_the_verb_and_the_route() {
        let reads = ["Answer", "Get", "List", "Search", "Analyze", "Replay"];
        for endpoint in Contract::read(attain_proto::DESCRIPTORS).expect("valid").endpoints() {
            let (name, access) = (endpoint.rpc.name(), endpoint.access);
            assert_eq!(access.writes, !reads.iter().any(|verb| name.starts_with(verb)), "{name}");
            assert!(!access.writes || access.role > Role::Reader, "{name} changes something for any reader");
            assert!(!access.writes || endpoint.verb != http::Method::GET, "{name} changes something by GET");
            let path = endpoint.template.to_string();
            let for_admins = path.starts_with("/api/v1/audit") || path.starts_with("/api/v1/webhooks");
            assert!(access.writes || (access.role == Role::Admin) == for_admins, "{name}: {access:?}");
        }
    }

    #[test]
    fn what_puts_slos_in_force_needs_an_approver_and_rules_an_administrator() {
        let contract = Contract::read(attain_proto::DESCRIPTORS).expect("valid");
        for (name, role) in [
            ("IngestSliBuckets", Role::Proposer),
            ("ImportDocument", Role::Proposer),
            ("SubmitFeedback", Role::Proposer),
            ("DecideIncidentExclusion", Role::Approver),
            ("DeleteDocument", Role::Approver),
            ("DecideSlo", Role::Approver),
            ("ImportSlos", Role::Approver),
            ("ApproveDecision", Role::Approver),
            ("RefuseDecision", Role::Approver),
            ("WithdrawDecision", Role::Approver),
            ("SetPolicy", Role::Admin),
            ("RegisterModel", Role::Admin),
            ("PromoteModel", Role::Admin),
            ("RollBackModel", Role::Admin),
            ("CreateWebhook", Role::Admin),
            ("RetryDelivery", Role::Admin),
        ] {
            let found = contract.endpoints().iter().find(|endpoint| endpoint.operation_id == name).expect(name);
            assert_eq!(found.access, Access { role, writes: true }, "{name}");
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
