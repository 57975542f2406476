//! Which spans of a row of the span log wait.

/// Which spans of a row wait, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    bits: Vec<u8>,
    /// Spans of the row.
    length: usize,
    /// Those that wait.
    count: usize,
}

impl Waiting {
    /// All of `length`.
    pub(super) fn all(length: usize) -> Self {
        let mut waiting = Self { bits: vec![0; length.div_ceil(8)], length, count: length };
        for index in 0..length {
            waiting.bits[index / 8] |= 1 << (index % 8);
        }
        waiting
    }

    /// What a settlement left of a row of `length` spans; `None` where the bits are not of such a row.
    pub(super) fn read(bits: &[u8], length: usize) -> Option<Self> {
        let fits = bits.len() == length.div_ceil(8);
        let count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        (fits && count <= length).then(|| Self { bits: bits.to_vec(), length, count })
    }

    /// Spans of the row.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.bits.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    pub(super) fn remove(&mut self, index: usize) {
        if self.contains(index) {
            self.bits[index / 8] &= !(1 << (index % 8));
            self.count -= 1;
        }
    }

    /// How the log keeps it; `None` when none waits.
    pub(super) fn stored(&self) -> Option<Vec<u8>> {
        (self.count > 0).then(|| self.bits.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_of_another_row_are_none() {
        assert_eq!(Waiting::read(&[0xff, 0xff], 3), None);
        assert_eq!(Waiting::read(&[0xff], 3), None);
    }

    proptest! {
        #[test]
        fn what_waits_is_what_was_not_removed(length in 0usize..40, removed in prop::collection::vec(0usize..40, 0..60)) {
            let mut waiting = Waiting::all(length);
            removed.iter().for_each(|index| waiting.remove(*index));
            let left: Vec<usize> = (0..length).filter(|index| !removed.contains(index)).collect();
            prop_assert_eq!((0..50).filter(|index| waiting.contains(*index)).collect::<Vec<_>>(), left.clone());
            match waiting.stored() {
                None => prop_assert!(left.is_empty()),
                Some(bits) => prop_assert_eq!(Waiting::read(&bits, length), Some(waiting)),
            }
        }
    }
}
