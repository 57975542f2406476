//! Which service answers at which host: a call that nobody answered was meant for it.
//!
//! Of each host the two services that answered there last are kept, each with the day of its last answer. A host names a
//! service while one alone answers there. One that did not answer for a time while another one did is forgotten: a host
//! that a proxy answered at once, or that moved, names a service again. So is a host where nobody answered for as long.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use attain_redaction::is_pseudonym;
use attain_vocabulary::{DAY_MS, EntityId, TenantId};

use super::hashing::NumberMap;
use super::join::{Call, Callee, Joined, Outcome, Request};
use super::names::{Names, Symbol};
use super::series::{read_count, written_count};
use crate::Error;
use crate::domain::ObservationBatch;
use crate::storage::{CounterStates, Store};

/// Where it is kept which services answer at a host: a line each, `service day`, the newest first. Earlier versions kept
/// a service alone, or nothing where several answered.
pub(super) const HOST_PREFIX: &str = "otlp-host/";
/// Sorts after all keys of hosts.
const HOSTS_END: &str = "otlp-host0";
/// How many hosts of the tenant are kept.
const COUNT_KEY: &str = "otlp-hosts";
/// Hosts and tenants looked at in a transaction.
const PAGE_ROWS_MAX: usize = 500;

/// How long and how many hosts are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostLimits {
    /// A service that did not answer for so many days is forgotten.
    pub(super) days: i64,
    /// Most hosts of a tenant.
    pub(super) hosts_max: usize,
}

/// Which service answers at which host, by name; `None` where several do.
pub(super) type NamedHosts = BTreeMap<EntityId, Option<EntityId>>;

/// Who answers at a host and on which day last, the newest first; without a name where there is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Answering([(Symbol, i64); 2]);

/// What is known of hosts, as it is stored and as calls tell.
#[derive(Debug)]
pub(super) struct Hosts {
    known: NumberMap<Symbol, Answering>,
    stored: NumberMap<Symbol, Answering>,
    /// Of the tenant, as stored.
    stored_count: u64,
    /// Hosts that are one too many.
    ignored: HashSet<Symbol>,
    limits: HostLimits,
}

impl Answering {
    /// Who answers, where it is one.
    fn service(self) -> Option<Symbol> {
        let Self([(newest, _), (other, _)]) = self;
        (other.is_none() && !newest.is_none()).then_some(newest)
    }

    /// A service answered on a day.
    fn note(&mut self, service: Symbol, day: i64, days: i64) {
        let Self([newest, other]) = self;
        if newest.0.is_none() || newest.0 == service {
            *newest = (service, if newest.0.is_none() { day } else { day.max(newest.1) });
        } else if other.0.is_none() || other.0 == service || other.1 < day {
            *other = (service, if other.0 == service { day.max(other.1) } else { day });
        }
        if !other.0.is_none() && other.1 > newest.1 {
            std::mem::swap(newest, other);
        }
        if newest.1.saturating_sub(other.1) >= days {
            *other = (Symbol::NONE, 0);
        }
    }

    fn written(self, names: &Names) -> Vec<u8> {
        let known = self.0.into_iter().filter(|(service, _)| !service.is_none());
        let lines: Vec<String> = known.map(|(service, day)| format!("{} {day}", names.text(service))).collect();
        lines.join("\n").into_bytes()
    }
}

impl Hosts {
    /// What is stored of hosts.
    pub(super) fn read(states: &CounterStates, names: &mut Names, limits: HostLimits) -> Self {
        let mut stored = NumberMap::default();
        for (host, services) in states.iter().filter_map(|(key, state)| Some((host(key)?, read_services(state)))) {
            let mut answering = Answering::default();
            for ((service, day), place) in services.iter().zip(&mut answering.0) {
                *place = (names.intern(service.as_str()), *day);
            }
            stored.insert(names.intern(host), answering);
        }
        let stored_count = read_count(states.get(COUNT_KEY));
        Self { known: stored.clone(), stored, stored_count, ignored: HashSet::new(), limits }
    }

    /// Adds what calls tell of hosts.
    pub(super) fn learn(&mut self, joined: &Joined, names: &Names) {
        for call in joined.calls.iter().filter(|call| call.leaf.is_none() && !call.host.is_none()) {
            let day = (call.start_ns / 1_000_000) as i64 / DAY_MS;
            if let Some(answering) = self.known.get_mut(&call.host) {
                answering.note(call.callee, day, self.limits.days);
            } else if is_name(names.text(call.host)) {
                self.begin(call.host, call.callee, day);
            }
        }
    }

    fn begin(&mut self, host: Symbol, service: Symbol, day: i64) {
        if self.stored_count + self.new_count() >= self.limits.hosts_max as u64 {
            self.ignored.insert(host);
            return;
        }
        self.known.insert(host, Answering([(service, day), (Symbol::NONE, 0)]));
    }

    fn new_count(&self) -> u64 {
        (self.known.len() - self.stored.len()) as u64
    }

    /// Hosts that are not kept because the tenant has as many as are.
    pub(super) fn ignored_count(&self) -> usize {
        self.ignored.len()
    }

    /// The states of hosts of which more is known than is stored.
    pub(super) fn states_after(&self, names: &Names) -> BTreeMap<String, Option<Vec<u8>>> {
        let learned = self.known.iter().filter(|(host, answering)| self.stored.get(*host) != Some(*answering));
        let state = |(host, answering): (&Symbol, &Answering)| {
            (format!("{HOST_PREFIX}{}", names.text(*host)), Some(answering.written(names)))
        };
        let mut states: BTreeMap<String, Option<Vec<u8>>> = learned.map(state).collect();
        if self.new_count() > 0 {
            states.insert(COUNT_KEY.to_owned(), Some(written_count(self.stored_count + self.new_count())));
        }
        states
    }

    /// Whether one service is known to answer at the host: then it is named instead.
    fn rename(&self, id: &mut Symbol) -> bool {
        let service = self.known.get(id).copied().and_then(Answering::service);
        service.into_iter().for_each(|service| *id = service);
        service.is_some()
    }

    /// Names services in place of hosts among those whom a request called.
    pub(super) fn rename_in_request(&self, request: &mut Request, callees: &mut [Callee]) {
        if let Outcome::InheritedFailure(Some(by)) = &mut request.outcome
            && by.by_host
            && self.rename(&mut by.id)
            && by.id == request.service
        {
            // The host turned out to be the service's own: nobody else failed.
            request.outcome = Outcome::OwnFailure;
        }
        for callee in callees.iter_mut().filter(|callee| callee.by_host) {
            self.rename(&mut callee.id);
        }
    }

    /// Names a service in place of the host that a call went to.
    pub(super) fn rename_in_call(&self, call: &mut Call) {
        if call.leaf.is_some() && call.host == call.callee && self.rename(&mut call.callee) {
            call.leaf = None;
        }
    }
}

/// An address is no name, and what stands for one neither: another service may have it tomorrow.
fn is_name(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let is_address = name.starts_with("ipv6/") || name.parse::<IpAddr>().is_ok() || is_pseudonym(name);
    name != "localhost" && !is_address
}

/// The host that a state is of.
fn host(key: &str) -> Option<&str> {
    key.strip_prefix(HOST_PREFIX).filter(|host| is_name(host) && EntityId::new("host", host).is_ok())
}

/// Services with the days of their last answers; day 0 where an earlier version kept none.
fn read_services(state: &[u8]) -> Vec<(EntityId, i64)> {
    let read = |line: &str| {
        let (name, day) = line.split_once(' ').unwrap_or((line, "0"));
        Some((EntityId::new("service", name).ok()?, day.parse().ok()?))
    };
    std::str::from_utf8(state).map(|text| text.lines().filter_map(read).collect()).unwrap_or_default()
}

/// Where the states of the hosts are kept that calls went to, answered or not.
pub(super) fn state_keys(joined: &Joined, names: &Names) -> Vec<String> {
    let hosts: BTreeSet<Symbol> = joined.calls.iter().map(|call| call.host).filter(|host| !host.is_none()).collect();
    let hosts = hosts.into_iter().map(|host| names.text(host)).filter(|host| is_name(host));
    hosts.map(|host| format!("{HOST_PREFIX}{host}")).chain([COUNT_KEY.to_owned()]).collect()
}

/// What is stored of hosts, by name.
pub(super) fn read_named_hosts(states: &CounterStates) -> NamedHosts {
    let read = |(key, state): (&String, &Vec<u8>)| {
        let service = match read_services(state).as_slice() {
            [(service, _)] => Some(service.clone()),
            _ => None,
        };
        Some((EntityId::new("host", host(key)?).ok()?, service))
    };
    states.iter().filter_map(read).collect()
}

/// Forgets hosts of all tenants at which nobody answered for so many days until `day`, and counts the others; how many.
pub(super) async fn forget_hosts(store: &Store, day: i64, days: i64) -> Result<u64, Error> {
    let mut forgotten = 0;
    for tenant in &store.tenants().await? {
        forgotten += forget_hosts_of(store, tenant, day, days).await?;
    }
    Ok(forgotten)
}

async fn forget_hosts_of(store: &Store, tenant: &TenantId, day: i64, days: i64) -> Result<u64, Error> {
    let (mut kept, mut forgotten, mut after) = (0, 0, HOST_PREFIX.to_owned());
    loop {
        let keys = store.counter_keys(tenant, (&after, HOSTS_END), PAGE_ROWS_MAX).await?;
        let Some(last) = keys.last() else { break };
        last.clone_into(&mut after);
        let mut gone = 0;
        let batch = |states: &CounterStates| {
            let counter_states = aged(states, day, days);
            gone = counter_states.values().filter(|state| state.is_none()).count() as u64;
            ObservationBatch { counter_states, ..ObservationBatch::default() }
        };
        store.observe(tenant, &keys, batch).await?;
        (kept, forgotten) = (kept + keys.len() as u64 - gone, forgotten + gone);
    }
    if kept + forgotten > 0 {
        let counter_states = BTreeMap::from([(COUNT_KEY.to_owned(), Some(written_count(kept)))]);
        let batch = ObservationBatch { counter_states, ..ObservationBatch::default() };
        store.observe(tenant, &[], |_| batch).await?;
    }
    Ok(forgotten)
}

/// What becomes of the states of hosts with time: old ones go, and those of before there were days begin to age.
fn aged(states: &CounterStates, day: i64, days: i64) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut after = BTreeMap::new();
    for (key, state) in states {
        match read_services(state).first() {
            Some((service, 0)) => drop(after.insert(key.clone(), Some(format!("{service} {day}").into_bytes()))),
            Some((_, newest)) if *newest > day.saturating_sub(days) => {}
            _ => drop(after.insert(key.clone(), None)),
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAYS: i64 = 7;

    #[test]
    fn a_host_names_a_service_again_when_the_other_one_is_gone() {
        let mut names = Names::default();
        let (cart, proxy, third) = (names.intern("cart"), names.intern("proxy"), names.intern("third"));
        let mut host = Answering::default();
        for (service, day, expected) in [
            (cart, 100, Some(cart)),
            (proxy, 101, None),
            (cart, 101, None),
            (cart, 107, None),
            (cart, 108, Some(cart)),
            (third, 108, None),
            // What is told late changes nothing that is newer.
            (proxy, 90, None),
            (third, 120, Some(third)),
        ] {
            host.note(service, day, DAYS);
            assert_eq!(host.service(), expected, "{} on day {day}", names.text(service));
        }
    }

    #[test]
    fn states_of_earlier_versions_are_read() {
        let state = |text: &str| text.as_bytes().to_vec();
        let states: CounterStates = [
            ("otlp-host/cart.internal".to_owned(), state("cart")),
            ("otlp-host/proxy".to_owned(), state("")),
            ("otlp-host/price.internal".to_owned(), state("price 20750")),
            ("otlp-host/both".to_owned(), state("price 20750\ncart 20749")),
            ("otlp-host/10.0.0.7".to_owned(), state("price 20750")),
        ]
        .into();
        let named = read_named_hosts(&states);
        let told: Vec<_> =
            named.iter().map(|(host, service)| (host.as_str(), service.as_ref().map(EntityId::as_str))).collect();
        let expected =
            [("both", None), ("cart.internal", Some("cart")), ("price.internal", Some("price")), ("proxy", None)];
        assert_eq!(told, expected);

        let aged = aged(&states, 20_757, DAYS);
        assert_eq!(aged["otlp-host/cart.internal"], Some(state("cart 20757")), "it begins to age");
        assert_eq!(aged["otlp-host/proxy"], None);
        assert_eq!(aged["otlp-host/price.internal"], None, "it is old");
        assert_eq!(super::aged(&states, 20_756, DAYS).get("otlp-host/price.internal"), None, "not yet");
    }

    proptest! {
        #[test]
        fn who_answers_does_not_depend_on_the_order(
            (seen, order) in prop::collection::vec((0usize..2, 0i64..20), 1..12).prop_flat_map(|seen| {
                let places: Vec<usize> = (0..seen.len()).collect();
                (Just(seen), Just(places).prop_shuffle())
            })
        ) {
            let mut names = Names::default();
            let services = [names.intern("a"), names.intern("b")];
            let told = |places: &mut dyn Iterator<Item = usize>| {
                let mut host = Answering::default();
                places.for_each(|place| host.note(services[seen[place].0], seen[place].1, DAYS));
                host.service()
            };
            prop_assert_eq!(told(&mut (0..seen.len())), told(&mut order.into_iter()));
        }
    }

    #[test]
    fn no_address_is_a_name_nor_what_stands_for_one() {
        for name in ["cart.shop", "cart.shop:8080", "ip-10-0-0-7.ec2.internal", "ip-lookup"] {
            assert!(is_name(name), "{name}");
        }
        let addresses = ["10.0.0.7", "10.0.0.7:80", "ipv6/2001:db8::1:80", "localhost:80"];
        for none in addresses.into_iter().chain(["ip-0123456789ab", "ip-0123456789ab:80"]) {
            assert!(!is_name(none), "{none}");
        }
    }
}
