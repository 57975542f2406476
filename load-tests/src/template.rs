//! Bodies that are the same but for a number in them.

use bytes::Bytes;

/// A body with places that each call fills in.
#[derive(Debug)]
pub(crate) struct Template {
    body: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// Marked by `what` wherever it stands.
    pub(crate) fn new(body: Vec<u8>, what: &[u8]) -> Self {
        let windows = body.windows(what.len()).enumerate();
        let places = windows.filter(|(_, window)| *window == what).map(|(place, _)| place).collect();
        Self { body, places }
    }

    #[cfg(test)]
    pub(crate) fn place_count(&self) -> usize {
        self.places.len()
    }

    /// The body with something as long in those places.
    pub(crate) fn with(&self, filled: &[u8]) -> Bytes {
        let mut body = self.body.clone();
        for place in &self.places {
            body[*place..*place + filled.len()].copy_from_slice(filled);
        }
        Bytes::from(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled() {
        let template = Template::new(b"a-MARK-bc-MARK".to_vec(), b"MARK");
        assert_eq!((template.place_count(), template.with(b"1234")), (2, Bytes::from_static(b"a-1234-bc-1234")));
    }
}
