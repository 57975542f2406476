//! A ranking of documents held against what people judged.

use std::collections::BTreeMap;

use super::Query;
use crate::scores;

/// Ranks that the discounted gain looks at, and those that recall looks at.
const GAIN_RANKS: usize = 10;
const RECALL_RANKS: usize = 5;
/// A document of this grade answers by itself.
const ANSWERS: u32 = 2;

/// nDCG@10, recall of grade 2 among the first five, reciprocal rank of the first relevant one; `None` where nothing is relevant, or
/// of grade 2.
pub(crate) type Measures = [Option<f64>; 3];

impl Query {
    /// Measures documents by their paths, best first, each once.
    pub(crate) fn measures(&self, ranked: &[&str]) -> Measures {
        let (got, all) = self.grades(ranked);
        let reciprocal = got.iter().position(|grade| *grade > 0).map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0));
        [
            scores::ndcg(&got, &all, GAIN_RANKS),
            found_share(&got, &all, RECALL_RANKS),
            (!all.is_empty()).then_some(reciprocal),
        ]
    }

    /// Share of the documents that answer by themselves among the first ten.
    pub(crate) fn answering_share(&self, ranked: &[&str]) -> Option<f64> {
        let (got, all) = self.grades(ranked);
        found_share(&got, &all, GAIN_RANKS)
    }

    /// Grades of the documents of a ranking, 0 for those that are not judged, and all that there are.
    fn grades(&self, ranked: &[&str]) -> (Vec<u32>, Vec<u32>) {
        let grades: BTreeMap<&str, u32> =
            self.relevant.iter().map(|judgement| (judgement.doc.as_str(), judgement.grade)).collect();
        let got = ranked.iter().map(|doc| grades.get(doc).copied().unwrap_or(0)).collect();
        (got, grades.into_values().collect())
    }
}

fn found_share(got: &[u32], all: &[u32], ranks: usize) -> Option<f64> {
    let answers = all.iter().filter(|grade| **grade >= ANSWERS).count();
    let found = got.iter().take(ranks).filter(|grade| **grade >= ANSWERS).count();
    (answers > 0).then(|| found as f64 / answers as f64)
}
