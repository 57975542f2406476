//! Which passage the name of a point stands for. The name is made of tenant, document and ordinal and of nothing else, so what was
//! learnt of one holds for ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::payload::Point;

/// Most names that are kept, about 15 MB; at that many they are learnt anew.
const NAMES_MAX: usize = 250_000;

/// A passage: the point of its document, and its place in it.
pub(super) type Place = (Point, u32);

/// What was learnt.
#[derive(Debug, Default)]
pub(super) struct PassageNames(Mutex<HashMap<Point, Place>>);

impl PassageNames {
    /// The passages behind names, as far as they are known, and the names that are not.
    pub(super) fn look_up(&self, names: impl Iterator<Item = Point>) -> (HashMap<Point, Place>, Vec<Point>) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for name in names {
            match known.get(&name) {
                Some(place) => found.extend([(name, *place)]),
                None => unknown.push(name),
            }
        }
        (found, unknown)
    }

    /// Keeps what names stand for.
    pub(super) fn learn(&self, names: &HashMap<Point, Place>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + names.len() > NAMES_MAX {
            known.clear();
        }
        known.extend(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_is_known_and_bounded() {
        let names = PassageNames::default();
        names.learn(&HashMap::from([(1, (10, 0)), (2, (10, 1))]));
        let (found, unknown) = names.look_up([2, 3].into_iter());
        assert_eq!((found, unknown), (HashMap::from([(2, (10, 1))]), vec![3]));
        names.learn(&(0..NAMES_MAX as Point).map(|name| (name, (name, 7))).collect());
        assert_eq!(names.0.lock().expect("not poisoned").len(), NAMES_MAX);
        assert_eq!(names.look_up([2].into_iter()).0, HashMap::from([(2, (2, 7))]));
    }
}
