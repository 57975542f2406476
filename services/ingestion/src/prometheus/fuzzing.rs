use super::answer::read_answer;
use super::counting::Tally;
use super::mapping::{Mapping, Reading, parse};
use super::marks::Identities;
use super::{edges, sli, utilisation};
use crate::storage::CounterStates;

/// One mapping of each sort.
const MAPPINGS: &str = "
[[mapping]]
label = \"service\"
valid = \"a\"
bad = \"b\"
latency_buckets = \"c\"

[[mapping]]
name = \"edges\"
preset = \"service-graph\"

[[mapping]]
name = \"used\"
preset = \"kubernetes\"
";

/// What a Prometheus server answers, turned into buckets, edges and utilisation.
pub fn prometheus_answer(bytes: &[u8]) {
    parse(MAPPINGS).expect("valid mappings").iter().for_each(|mapping| convert(mapping, bytes));
}

fn convert(mapping: &Mapping, bytes: &[u8]) {
    let read = || read_answer(200, bytes, 100).unwrap_or_default().series;
    let answers = mapping.reading.queries().iter().map(|_| read()).collect();
    let mut tally = Tally::default();
    match &mapping.reading {
        Reading::Sli(queries) => drop(sli::buckets(queries, answers, &mut tally)),
        Reading::Edges(queries) => {
            let calls = edges::calls(queries, answers, &mut tally);
            let _ = edges::uncounted(calls, &CounterStates::new(), &Identities::default(), &mut tally);
        }
        Reading::Utilisation(queries) => drop(utilisation::utilisation(queries, answers, &mut tally)),
    }
}

/// A mapping file.
pub fn prometheus_mapping(text: &str) {
    let _ = parse(text);
}
