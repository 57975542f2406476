use std::collections::BTreeSet;

use super::pages::read_page;

/// A page of a catalogue's answer.
pub fn catalogue_page(bytes: &[u8]) {
    let _ = read_page(bytes, &BTreeSet::from(["mark".to_owned()]));
}
