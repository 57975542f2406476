//! Reciprocal rank fusion, pure.
//!
//! Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods*,
//! SIGIR 2009, in Qdrant's zero-based form and with its weights: a point at position p (from 0) of a list with weight w
//! contributes 1 / ((p + 1) / w + k − 1), which is 1 / (p + k) at w = 1. The engine has the same formula, but leaves the
//! order of equal scores to chance; here the id decides.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Qdrant's k when a query names none.
pub(crate) const DEFAULT_K: usize = 2;

/// A point of a ranked list: its id and what it scored there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked<Id> {
    pub(crate) id: Id,
    pub(crate) score: f32,
    /// Sequence number of the write that last touched the point.
    pub(crate) version: u64,
}

/// Best first; equal scores by id. Every score must be a number.
pub(crate) fn sort_best_first<Id: Ord>(points: &mut [Ranked<Id>], larger_is_better: bool) {
    points.sort_by(|left, right| {
        let by_score =
            if larger_is_better { right.score.total_cmp(&left.score) } else { left.score.total_cmp(&right.score) };
        match by_score {
            Ordering::Equal => left.id.cmp(&right.id),
            decided => decided,
        }
    });
}

/// Fuses ranked lists into one, best first.
///
/// `weights` has one entry a list; a missing one counts as 1. A weight of 0 or less contributes nothing. `k` is at least 1.
pub(crate) fn reciprocal_rank_fusion<Id: Ord + Copy>(
    lists: &[Vec<Ranked<Id>>],
    k: usize,
    weights: &[f32],
) -> Vec<Ranked<Id>> {
    let mut fused: BTreeMap<Id, Ranked<Id>> = BTreeMap::new();
    for (index, list) in lists.iter().enumerate() {
        let weight = weights.get(index).copied().unwrap_or(1.0);
        for (position, point) in list.iter().enumerate() {
            let contribution = contribution(position, k, weight);
            fused
                .entry(point.id)
                .and_modify(|sum| sum.score += contribution)
                .or_insert(Ranked { score: contribution, ..*point });
        }
    }
    let mut points: Vec<_> = fused.into_values().collect();
    sort_best_first(&mut points, true);
    points
}

fn contribution(position: usize, k: usize, weight: f32) -> f32 {
    if weight <= 0.0 {
        return 0.0;
    }
    1.0 / ((position + 1) as f32 / weight + k as f32 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(ids: &[u64]) -> Vec<Ranked<u64>> {
        ids.iter().map(|&id| Ranked { id, score: 0.5, version: 1 }).collect()
    }

    fn ids(points: &[Ranked<u64>]) -> Vec<u64> {
        points.iter().map(|point| point.id).collect()
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        // k = 2: 7 is first and second (1/2 + 1/3), 8 is second and third (1/3 + 1/4), 9 first of the other (1/2).
        let fused = reciprocal_rank_fusion(&[list(&[7, 8]), list(&[9, 7, 8])], 2, &[]);
        assert_eq!(ids(&fused), [7, 8, 9]);
        let expected = [1.0 / 2.0 + 1.0 / 3.0, 1.0 / 3.0 + 1.0 / 4.0, 1.0 / 2.0];
        for (point, expected) in fused.iter().zip(expected) {
            assert!((point.score - expected).abs() < 1e-6, "{point:?}");
        }
    }

    #[test]
    fn k_decides_between_one_good_rank_and_two_fair_ones() {
        let lists = [list(&[1, 2, 3]), list(&[4, 5, 3])];
        assert_eq!(ids(&reciprocal_rank_fusion(&lists, 1, &[]))[0], 1);
        assert_eq!(ids(&reciprocal_rank_fusion(&lists, 60, &[]))[0], 3);
    }

    #[test]
    fn weights_favour_a_list_and_zero_silences_it() {
        let lists = [list(&[1]), list(&[2])];
        assert_eq!(ids(&reciprocal_rank_fusion(&lists, 2, &[1.0, 3.0])), [2, 1]);
        let silenced = reciprocal_rank_fusion(&lists, 2, &[0.0, 1.0]);
        assert_eq!((silenced[1].id, silenced[1].score), (1, 0.0));
    }

    #[test]
    fn distances_sort_upwards() {
        let mut points = vec![Ranked { id: 1u64, score: 2.0, version: 0 }, Ranked { id: 2, score: 1.0, version: 0 }];
        sort_best_first(&mut points, false);
        assert_eq!(ids(&points), [2, 1]);
    }

    proptest! {
        #[test]
        fn fusion_keeps_every_point_once_and_orders_it(
            first in proptest::collection::btree_set(0u64..40, 0..20),
            second in proptest::collection::btree_set(0u64..40, 0..20),
            k in 1usize..100,
        ) {
            let lists = [
                list(&first.iter().copied().collect::<Vec<_>>()),
                list(&second.iter().rev().copied().collect::<Vec<_>>()),
            ];
            let fused = reciprocal_rank_fusion(&lists, k, &[]);
            let mut seen = ids(&fused);
            seen.sort_unstable();
            let union: Vec<u64> = first.union(&second).copied().collect();
            prop_assert_eq!(seen, union);
            for pair in fused.windows(2) {
                let ordered = pair[0].score > pair[1].score
                    || (pair[0].score == pair[1].score && pair[0].id < pair[1].id);
                prop_assert!(ordered);
            }
            // Two lists in the other order give the same ranking.
            let [a, b] = lists;
            prop_assert_eq!(fused, reciprocal_rank_fusion(&[b, a], k, &[]));
        }
    }
}
