//! Under which of its names each thing is read that a resource counts. SDKs in transition send the same thing under its old
//! and its new name, and a collector may part the two into several exports: the one that was read first stays, until it was
//! silent for a while.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::meaning::metric_to_read;
use super::points::Reading;
use super::series;
use crate::storage::CounterStates;

/// How long a name must be silent before another one is read, in nanoseconds: some intervals of most senders, and less than
/// a cumulative series may have run to be counted from its start.
const NAME_SILENCE_NS: u64 = 300 * 1_000_000_000;
/// How much newer a point must be to be noted, in nanoseconds: most exports need not write.
const NOTE_INTERVAL_NS: u64 = 60 * 1_000_000_000;

/// The names that are read of one resource.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(message, repeated, tag = "1")]
    names: Vec<Name>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
    /// Time of the newest point, or somewhat before.
    #[prost(fixed64, tag = "2")]
    time_ns: u64,
}

/// What an export reports of one thing: its names by rank, and the time of its newest point.
#[derive(Debug, Default)]
struct Reported {
    names: BTreeMap<usize, &'static str>,
    time_ns: u64,
}

/// The names that are read of the resources of an export.
pub(super) struct Chosen<'a> {
    day: i64,
    before: &'a CounterStates,
    of: BTreeMap<(&'a str, usize), &'static str>,
    changed: BTreeMap<&'a str, Names>,
}

/// The states that must be known to choose.
pub(super) fn state_keys(readings: &[Reading], day: i64) -> impl Iterator<Item = String> {
    let resources: BTreeSet<&str> = readings.iter().map(|reading| &*reading.resource).collect();
    resources.into_iter().flat_map(move |resource| [key(day, resource), key(day - 1, resource)])
}

/// Among the keys of the day's series, and forgotten with them.
fn key(day: i64, resource: &str) -> String {
    series::key(day, &format!("names-{resource}"))
}

impl<'a> Chosen<'a> {
    pub(super) fn read(readings: &'a [Reading], before: &'a CounterStates, day: i64) -> Self {
        let mut reported: BTreeMap<&str, BTreeMap<usize, Reported>> = BTreeMap::new();
        for reading in readings {
            let of_line = reported.entry(&*reading.resource).or_default().entry(reading.metric.line).or_default();
            of_line.names.insert(reading.metric.rank, reading.metric.name);
            of_line.time_ns = of_line.time_ns.max(reading.point.time_ns);
        }
        let mut chosen = Self { day, before, of: BTreeMap::new(), changed: BTreeMap::new() };
        for (resource, lines) in reported {
            chosen.choose(resource, &lines);
        }
        chosen
    }

    /// Whether a point stands under the name that is read.
    pub(super) fn reads(&self, reading: &Reading) -> bool {
        self.of.get(&(&*reading.resource, reading.metric.line)) == Some(&reading.metric.name)
    }

    /// The states of those resources of which a series is followed.
    pub(super) fn states_after(self, followed: &BTreeSet<&str>, after: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for (resource, names) in self.changed.into_iter().filter(|(resource, _)| followed.contains(resource)) {
            let yesterday = key(self.day - 1, resource);
            if self.before.contains_key(&yesterday) {
                after.insert(yesterday, None);
            }
            after.insert(key(self.day, resource), Some(names.encode_to_vec()));
        }
    }

    fn choose(&mut self, resource: &'a str, lines: &BTreeMap<usize, Reported>) {
        let state = self.before.get(&key(self.day, resource)).or_else(|| self.before.get(&key(self.day - 1, resource)));
        let mut names = state.and_then(|state| Names::decode(state.as_slice()).ok()).unwrap_or_default();
        let mut changed = false;
        for (line, reported) in lines {
            let place = names.names.iter().position(|name| line_of(&name.name) == Some(*line));
            let read = place.and_then(|place| {
                let kept = &names.names[place];
                let name = metric_to_read(&kept.name)?.name;
                let silent = reported.time_ns > kept.time_ns.saturating_add(NAME_SILENCE_NS);
                (!silent || reported.names.values().any(|reported| *reported == name)).then_some(name)
            });
            let Some(name) = read.or_else(|| reported.names.values().next().copied()) else { continue };
            self.of.insert((resource, *line), name);
            if !reported.names.values().any(|reported| *reported == name) {
                continue;
            }
            let place = place.unwrap_or_else(|| {
                names.names.push(Name::default());
                names.names.len() - 1
            });
            let kept = &mut names.names[place];
            if kept.name != name || reported.time_ns > kept.time_ns.saturating_add(NOTE_INTERVAL_NS) {
                *kept = Name { name: name.to_owned(), time_ns: reported.time_ns };
                changed = true;
            }
        }
        if changed {
            self.changed.insert(resource, names);
        }
    }
}

fn line_of(name: &str) -> Option<usize> {
    metric_to_read(name).map(|metric| metric.line)
}
