//! What was read of points, for as long as they stay what they are. Every write gives a point a new version, and a search tells it with the
//! name: what was read of one version need not be read again, and a version that is not known is read whatever is kept of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::payload::Point;

/// A point as a search found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) point: Point,
    /// Which write made it what it is; `None` where that was not told.
    pub(crate) version: Option<u64>,
}

/// Values of one kind by the revision they were read of. At `max` of them they are read anew.
#[derive(Debug)]
pub(super) struct Kept<T> {
    values: Mutex<HashMap<Point, (u64, Arc<T>)>>,
    max: usize,
}

impl<T> Kept<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { values: Mutex::default(), max }
    }

    /// What is kept of these revisions, and the revisions of which nothing is.
    pub(super) fn look_up(&self, wanted: &[Revision]) -> (HashMap<Point, Arc<T>>, Vec<Revision>) {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut unknown) = (HashMap::with_capacity(wanted.len()), Vec::new());
        for revision in wanted {
            match values.get(&revision.point) {
                Some((version, value)) if revision.version == Some(*version) => {
                    found.insert(revision.point, Arc::clone(value));
                }
                _ => unknown.push(*revision),
            }
        }
        (found, unknown)
    }

    /// Keeps what was read after these revisions were found. It is what they carry or what a later write made of them; in that case no
    /// search tells these versions any more.
    pub(super) fn learn(&self, read: &HashMap<Point, Arc<T>>, revisions: &[Revision]) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() + read.len() > self.max {
            values.clear();
        }
        for Revision { point, version } in revisions {
            if let (Some(version), Some(value)) = (version, read.get(point)) {
                values.insert(*point, (*version, Arc::clone(value)));
            }
        }
    }

    /// Forgets everything: versions begin anew where a collection is made anew.
    pub(super) fn clear(&self) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(point: Point, version: u64) -> Revision {
        Revision { point, version: Some(version) }
    }

    fn read(values: &[(Point, &str)]) -> HashMap<Point, Arc<String>> {
        values.iter().map(|(point, value)| (*point, Arc::new((*value).to_owned()))).collect()
    }

    #[test]
    fn a_value_is_of_one_version_and_of_no_other() {
        let kept = Kept::new(10);
        let unknown = Revision { point: 2, version: None };
        kept.learn(&read(&[(1, "old"), (2, "untold")]), &[at(1, 7), unknown, at(3, 7)]);
        assert_eq!(kept.look_up(&[at(1, 7), unknown, at(3, 7)]), (read(&[(1, "old")]), vec![unknown, at(3, 7)]));
        assert_eq!(kept.look_up(&[at(1, 8)]), (HashMap::new(), vec![at(1, 8)]));
        kept.learn(&read(&[(1, "new")]), &[at(1, 8)]);
        assert_eq!(kept.look_up(&[at(1, 8), at(1, 7)]), (read(&[(1, "new")]), vec![at(1, 7)]));
        kept.clear();
        assert_eq!(kept.look_up(&[at(1, 8)]).1, [at(1, 8)]);
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let kept = Kept::new(2);
        kept.learn(&read(&[(1, "a"), (2, "b")]), &[at(1, 0), at(2, 0)]);
        kept.learn(&read(&[(3, "c")]), &[at(3, 0)]);
        assert_eq!(kept.look_up(&[at(1, 0), at(3, 0)]), (read(&[(3, "c")]), vec![at(1, 0)]));
    }
}
