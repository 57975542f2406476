//! What the embedded server needs to know before it opens a folder, refused at construction where it makes no sense.

use std::fmt;
use std::path::{Path, PathBuf};

use qdrant_edge::external::uuid::Uuid;

use crate::Error;

/// Fewest characters of an API key: anybody on the machine can reach a loopback port, so a key must not be guessable.
const API_KEY_LENGTH_MIN: usize = 16;

/// Folder, key and bounds of an embedded server.
#[derive(Clone)]
pub struct Options {
    data_dir: PathBuf,
    api_key: String,
    /// How much a caller may ask for at once.
    pub bounds: Bounds,
}

/// How much a caller may ask for at once. Every value must be at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Calls under way at the same time; one more is refused at once. Each occupies one blocking thread.
    pub in_flight_max: usize,
    /// Bytes of one request after decompression.
    pub request_bytes_max: usize,
    /// Points in one upsert, ids in one get or delete.
    pub points_per_request_max: usize,
    /// Points in one answer (`limit` plus `offset`), and candidates of one prefetch.
    pub points_per_answer_max: usize,
    /// Prefetches in one query, counted through all levels.
    pub prefetch_count_max: usize,
    /// Collections in the folder.
    pub collection_count_max: usize,
    /// Written points after which a collection is tidied in the background: deleted points are dropped from its
    /// segments, and segments past the engine's threshold (10 MB of vectors, about 6,500 of 384 dimensions) get an HNSW
    /// index. Below that, search is an exact scan. Writes to the collection wait meanwhile, reads do not.
    pub optimise_after_points: usize,
    /// Bytes of write-ahead log after which a collection's log is cut: all of it is in the segments already, and the
    /// engine never cuts it itself. The collection is reopened for it, which takes milliseconds.
    pub log_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            request_bytes_max: 16 * 1024 * 1024,
            points_per_request_max: 10_000,
            points_per_answer_max: 10_000,
            prefetch_count_max: 16,
            collection_count_max: 64,
            optimise_after_points: 20_000,
            log_bytes_max: 128 * 1024 * 1024,
        }
    }
}

impl Options {
    /// Options with default [`Bounds`].
    ///
    /// `data_dir` is created when it is not there. `api_key` is what callers must send in the `api-key` metadata
    /// (`Qdrant::from_url(..).api_key(..)` does); see [`random_api_key`].
    ///
    /// # Errors
    ///
    /// [`Error::Option`] when the key is shorter than 16 characters or holds something other than visible ASCII, which
    /// could not travel as metadata.
    pub fn new(data_dir: impl Into<PathBuf>, api_key: impl Into<String>) -> Result<Self, Error> {
        let api_key = api_key.into();
        let reason = if api_key.len() < API_KEY_LENGTH_MIN {
            Some(format!("needs at least {API_KEY_LENGTH_MIN} characters"))
        } else if !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            Some("must consist of visible ASCII characters".to_owned())
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Error::Option { option: "api_key", reason });
        }
        Ok(Self { data_dir: data_dir.into(), api_key, bounds: Bounds::default() })
    }

    /// The folder that holds the collections.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The key that callers must send.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("api_key", &"[hidden]")
            .field("bounds", &self.bounds)
            .finish()
    }
}

impl Bounds {
    /// Refuses a bound of zero, which would make every call fail.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self {
            in_flight_max,
            request_bytes_max,
            points_per_request_max,
            points_per_answer_max,
            prefetch_count_max,
            collection_count_max,
            optimise_after_points,
            log_bytes_max,
        } = *self;
        let bounds = [
            ("in_flight_max", in_flight_max),
            ("request_bytes_max", request_bytes_max),
            ("points_per_request_max", points_per_request_max),
            ("points_per_answer_max", points_per_answer_max),
            ("prefetch_count_max", prefetch_count_max),
            ("collection_count_max", collection_count_max),
            ("optimise_after_points", optimise_after_points),
            ("log_bytes_max", log_bytes_max),
        ];
        match bounds.into_iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((option, _)) => Err(Error::Option { option, reason: "must be at least 1".to_owned() }),
        }
    }
}

/// A fresh key of 64 hexadecimal characters (244 random bits from the operating system), to be kept for one process.
pub fn random_api_key() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_protect_or_travel_is_refused() {
        for key in ["", "short", "with a blank in the middle", "0123456789abcdeé"] {
            let refusal = Options::new("folder", key);
            assert!(matches!(refusal, Err(Error::Option { option: "api_key", .. })), "{key:?}");
        }
    }

    #[test]
    fn random_keys_are_accepted_and_differ() {
        let (first, second) = (random_api_key(), random_api_key());
        assert_ne!(first, second);
        assert!(Options::new("folder", first).is_ok());
    }

    #[test]
    fn a_key_never_shows_in_debug_output() {
        let options = Options::new("folder", "a-key-to-keep-secret").expect("a good key");
        assert!(!format!("{options:?}").contains("a-key-to-keep-secret"));
    }

    #[test]
    fn a_bound_of_zero_is_refused_by_name() {
        let bounds = Bounds { prefetch_count_max: 0, ..Bounds::default() };
        assert!(Bounds::default().check().is_ok());
        let refusal = bounds.check().expect_err("zero prefetches");
        assert!(refusal.to_string().contains("prefetch_count_max"));
    }
}
