//! Bodies read and decompressed within bounds: of one message, and of all messages in memory at a time.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one place of the budget stands for.
const PLACE_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// What is left of a refused body is read and thrown away up to here, so that the sender gets to read the refusal.
const DRAIN_BYTES_MAX: usize = 64 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest window that a zstd sender may ask for, as a power of two: 8 MiB, what RFC 8878 wants every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Why a body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBody {
    /// It is larger than a message may be.
    TooLarge,
    /// Too many bytes of other messages are in memory.
    Busy,
    /// It is not compressed as it says.
    Malformed,
    /// It did not come in time, or its sender went away.
    Interrupted,
}

/// Bytes of messages that may be in memory.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    places: Arc<Semaphore>,
    message_bytes_max: usize,
}

/// A message in memory, and its share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    share: Share,
}

#[derive(Debug)]
struct Share {
    places: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// As many bytes as some messages of the largest size have.
    pub(super) fn new(message_bytes_max: usize, messages: usize) -> Self {
        let places = (message_bytes_max.saturating_mul(messages) / PLACE_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), message_bytes_max }
    }

    fn held(&self) -> Held {
        Held { bytes: Vec::new(), share: Share { places: Arc::clone(&self.places), taken: None } }
    }

    /// Reads a body whole.
    pub(super) async fn read(&self, body: &mut Incoming) -> Result<Held, NoBody> {
        if body.size_hint().lower() > self.message_bytes_max as u64 {
            return Err(NoBody::TooLarge);
        }
        let reading = async {
            let mut held = self.held();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| NoBody::Interrupted)?;
                if let Ok(data) = frame.into_data() {
                    self.add(&mut held, &data)?;
                }
            }
            Ok(held)
        };
        tokio::time::timeout(READ_TIMEOUT, reading).await.unwrap_or(Err(NoBody::Interrupted))
    }

    /// The message as its sender wrote it. The bound is on what comes out, piece by piece, so that a small body cannot
    /// become a large message.
    pub(super) fn decompress(&self, coding: Coding, held: Held) -> Result<Held, NoBody> {
        match coding {
            Coding::Identity => Ok(held),
            Coding::Gzip => self.drain(MultiGzDecoder::new(held.bytes.as_slice())),
            Coding::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(held.bytes.as_slice()).map_err(|_| NoBody::Malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| NoBody::Malformed)?;
                self.drain(decoder)
            }
        }
    }

    fn drain(&self, mut decoder: impl Read) -> Result<Held, NoBody> {
        let mut held = self.held();
        let mut piece = vec![0; PLACE_BYTES];
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return Ok(held),
                Ok(length) => self.add(&mut held, &piece[..length])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(NoBody::Malformed),
            }
        }
    }

    fn add(&self, held: &mut Held, more: &[u8]) -> Result<(), NoBody> {
        let length = held.bytes.len() + more.len();
        if length > self.message_bytes_max {
            return Err(NoBody::TooLarge);
        }
        held.share.grow(length.div_ceil(PLACE_BYTES))?;
        held.bytes.extend_from_slice(more);
        Ok(())
    }
}

impl Share {
    fn grow(&mut self, places: usize) -> Result<(), NoBody> {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(missing) = places.checked_sub(taken).filter(|missing| *missing > 0) else { return Ok(()) };
        let missing = u32::try_from(missing).map_err(|_| NoBody::TooLarge)?;
        let more = Arc::clone(&self.places).try_acquire_many_owned(missing).map_err(|_| NoBody::Busy)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken => *taken = Some(more),
        }
        Ok(())
    }
}

/// Reads what is left of a body that nobody wanted, within bounds: a sender that is still writing would otherwise see its
/// connection reset before it reads the answer.
pub(super) fn throw_away(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let mut left = DRAIN_BYTES_MAX;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        // Whether all of it came does not matter.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
    });
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn held(budget: &Budget, bytes: Vec<u8>) -> Held {
        Held { bytes, ..budget.held() }
    }

    #[test]
    fn what_was_compressed_comes_out_whole() {
        let budget = Budget::new(1 << 20, 2);
        let message: Vec<u8> = (0..200_000u32).flat_map(u32::to_be_bytes).collect();
        let zstd = zstd::encode_all(message.as_slice(), 3).expect("compressed");
        for (coding, body) in
            [(Coding::Gzip, gzip(&message)), (Coding::Zstd, zstd), (Coding::Identity, message.clone())]
        {
            let out = budget.decompress(coding, held(&budget, body)).expect("decompressed");
            assert!(out.bytes == message, "{coding:?}");
        }
        let twice = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(budget.decompress(Coding::Gzip, held(&budget, twice)).expect("two members").bytes, b"one two");
    }

    #[test]
    fn a_bomb_is_cut_at_the_bound_and_gives_its_share_back() {
        let budget = Budget::new(1 << 20, 2);
        let before = budget.places.available_permits();
        let zeros = vec![0; 64 << 20];
        let zstd = zstd::encode_all(zeros.as_slice(), 3).expect("compressed");
        for (coding, bomb) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd)] {
            assert!(bomb.len() < 1 << 20);
            let refused = budget.decompress(coding, held(&budget, bomb)).map(|held| held.bytes.len());
            assert_eq!(refused, Err(NoBody::TooLarge), "{coding:?}");
        }
        assert_eq!(budget.places.available_permits(), before);
    }

    #[test]
    fn what_is_not_compressed_as_it_says_is_malformed() {
        let budget = Budget::new(1 << 20, 2);
        let cut = gzip(&[7; 1000]);
        for (coding, body) in [
            (Coding::Gzip, b"plain".to_vec()),
            (Coding::Zstd, b"plain".to_vec()),
            (Coding::Gzip, cut[..cut.len() / 2].to_vec()),
        ] {
            let refused = budget.decompress(coding, held(&budget, body)).map(|held| held.bytes);
            assert_eq!(refused, Err(NoBody::Malformed), "{coding:?}");
        }
    }

    #[test]
    fn all_messages_together_have_a_bound() {
        let budget = Budget::new(1 << 20, 1);
        let message = gzip(&vec![0; 900_000]);
        let first = budget.decompress(Coding::Gzip, held(&budget, message.clone())).expect("room for one");
        let second = budget.decompress(Coding::Gzip, held(&budget, message.clone())).map(|held| held.bytes.len());
        assert_eq!(second, Err(NoBody::Busy));
        drop(first);
        assert!(budget.decompress(Coding::Gzip, held(&budget, message)).is_ok());
    }
}
