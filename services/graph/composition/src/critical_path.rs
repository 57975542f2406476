//! Who determines when a trace ends.
//!
//! From the end of a span backwards: the child that ended last determines the end, then, of those that had ended when it
//! began, again the last; what lies between is the span's own. The shares of all spans add up to the root's duration.

use std::collections::BTreeMap;

use crate::trace::{Member, Trace};

/// Nanoseconds of the root's duration that each part determined; parts that determined nothing are left out.
#[must_use]
pub fn critical_path_ns(trace: &Trace) -> BTreeMap<&str, u64> {
    let mut shares: BTreeMap<&str, u64> = BTreeMap::new();
    let mut waiting = vec![0];
    while let Some(place) = waiting.pop() {
        let node = &trace.nodes[place];
        let mut own_ns = node.duration_ns;
        for stage in &node.stages {
            let end = |member: &Member| member.lag_ns + trace.nodes[member.node].duration_ns;
            let mut until = u64::MAX;
            while let Some(last) = stage.iter().filter(|m| end(m) <= until && m.lag_ns < until).max_by_key(|m| end(m)) {
                own_ns -= trace.nodes[last.node].duration_ns;
                waiting.push(last.node);
                until = last.lag_ns;
            }
        }
        if own_ns > 0 {
            *shares.entry(&node.part).or_default() += own_ns;
        }
    }
    shares
}
