//! Which service answers at which host: a call that nobody answered was meant for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use attain_redaction::is_pseudonym;
use attain_vocabulary::EntityId;

use super::join::{Call, Callee, Joined, Outcome, Request};
use super::names::{Names, Symbol};
use crate::storage::CounterStates;

/// Where it is kept which service answers at a host.
pub(super) const HOST_PREFIX: &str = "otlp-host/";

/// Which service answers at which host; `None` where several do.
pub(super) type Hosts = HashMap<Symbol, Option<Symbol>>;

/// The same by name.
pub(super) type NamedHosts = BTreeMap<EntityId, Option<EntityId>>;

/// Adds what calls tell of hosts.
pub(super) fn learn_hosts(joined: &Joined, names: &Names, hosts: &mut Hosts) {
    for call in joined.calls.iter().filter(|call| call.leaf.is_none() && !call.host.is_none()) {
        match hosts.get_mut(&call.host) {
            Some(answered_by) if *answered_by == Some(call.callee) => {}
            Some(answered_by) => *answered_by = None,
            None if is_name(names.text(call.host)) => drop(hosts.insert(call.host, Some(call.callee))),
            None => {}
        }
    }
}

/// An address is no name, and what stands for one neither: another service may have it tomorrow.
fn is_name(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let is_address = name.starts_with("ipv6/") || name.parse::<IpAddr>().is_ok() || is_pseudonym(name);
    name != "localhost" && !is_address
}

/// Where the states of the hosts are kept that calls went to, answered or not.
pub(super) fn state_keys(joined: &Joined, names: &Names) -> Vec<String> {
    let hosts: BTreeSet<Symbol> = joined.calls.iter().map(|call| call.host).filter(|host| !host.is_none()).collect();
    let hosts = hosts.into_iter().map(|host| names.text(host)).filter(|host| is_name(host));
    hosts.map(|host| format!("{HOST_PREFIX}{host}")).collect()
}

/// What is stored of hosts, by name; an empty state stands for several services.
pub(super) fn read_named_hosts(states: &CounterStates) -> NamedHosts {
    let read = |(key, state): (&String, &Vec<u8>)| {
        let host = key.strip_prefix(HOST_PREFIX).filter(|host| is_name(host))?;
        let service = std::str::from_utf8(state).ok().and_then(|name| EntityId::new("service", name).ok());
        Some((EntityId::new("host", host).ok()?, service))
    };
    states.iter().filter_map(read).collect()
}

/// What is stored of hosts.
pub(super) fn read_hosts(states: &CounterStates, names: &mut Names) -> Hosts {
    let mut intern = |id: &EntityId| names.intern(id.as_str());
    let named = read_named_hosts(states);
    named.iter().map(|(host, service)| (intern(host), service.as_ref().map(&mut intern))).collect()
}

/// The states of hosts of which more is known than is stored.
pub(super) fn learned(hosts: &Hosts, stored: &Hosts, names: &Names) -> BTreeMap<String, Option<Vec<u8>>> {
    let new = hosts.iter().filter(|(host, service)| stored.get(*host) != Some(*service));
    let state = |service: &Option<Symbol>| service.map(|id| names.text(id).as_bytes().to_vec()).unwrap_or_default();
    new.map(|(host, service)| (format!("{HOST_PREFIX}{}", names.text(*host)), Some(state(service)))).collect()
}

/// Names services in place of hosts among those whom a request called.
pub(super) fn rename_in_request(request: &mut Request, callees: &mut [Callee], hosts: &Hosts) {
    if let Outcome::InheritedFailure(Some(by)) = &mut request.outcome
        && by.by_host
        && rename(&mut by.id, hosts)
        && by.id == request.service
    {
        // The host turned out to be the service's own: nobody else failed.
        request.outcome = Outcome::OwnFailure;
    }
    for callee in callees.iter_mut().filter(|callee| callee.by_host) {
        rename(&mut callee.id, hosts);
    }
}

/// Names a service in place of the host that a call went to.
pub(super) fn rename_in_call(call: &mut Call, hosts: &Hosts) {
    if call.leaf.is_some() && call.host == call.callee && rename(&mut call.callee, hosts) {
        call.leaf = None;
    }
}

/// Whether one service is known to answer at the host.
fn rename(id: &mut Symbol, hosts: &Hosts) -> bool {
    match hosts.get(id) {
        Some(Some(service)) => {
            *id = *service;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_a_name_nor_what_stands_for_one() {
        for name in ["cart.shop", "cart.shop:8080", "ip-10-0-0-7.ec2.internal", "ip-lookup"] {
            assert!(is_name(name), "{name}");
        }
        for none in ["10.0.0.7", "10.0.0.7:80", "ipv6/2001:db8::1:80", "localhost:80", "ip-0123456789ab", "ip-0123456789ab:80"] {
            assert!(!is_name(none), "{none}");
        }
    }
}
