//! Small fleets for tests.

use attain_vocabulary::{EntityId, Objective};

use crate::{Edge, Fleet, Group, Service};

pub(crate) fn id(name: &str) -> EntityId {
    EntityId::new("service_id", name).expect("a name")
}

pub(crate) fn service(name: &str, target: Option<f64>, own_floor: f64) -> Service {
    let target = target.map(|ratio| Objective::new("target_ratio", ratio).expect("a target"));
    Service { id: id(name), tier: None, target, fixed: false, own_floor }
}

pub(crate) fn edge(caller: &str, callee: &str, impact: f64) -> Edge {
    Edge { caller: id(caller), callee: id(callee), impact }
}

pub(crate) fn group(caller: &str, members: &[&str], required_count: usize) -> Group {
    Group { caller: id(caller), members: members.iter().map(|member| id(member)).collect(), required_count }
}

pub(crate) fn fleet(services: Vec<Service>, edges: &[Edge], groups: &[Group]) -> Fleet {
    Fleet::new(services, edges, groups).expect("a fleet")
}
