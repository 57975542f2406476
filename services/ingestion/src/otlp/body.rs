//! Bodies read and decompressed within bounds: of one message, of all messages in memory at a time, and of the time that
//! one may take to arrive.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one place of the budget stands for.
const PLACE_BYTES: usize = 64 * 1024;
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
    patience: Duration,
}

/// A message in memory, and its share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) share: Share,
}

/// A message that is still coming.
#[derive(Debug)]
struct Growing {
    bytes: Vec<u8>,
    share: Share,
}

/// What a message takes of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    places: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// As many bytes as some messages of the largest size have; each message may take so long to arrive.
    pub(super) fn new(message_bytes_max: usize, messages: usize, patience: Duration) -> Self {
        let places = (message_bytes_max.saturating_mul(messages) / PLACE_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), message_bytes_max, patience }
    }

    fn growing(&self) -> Growing {
        Growing { bytes: Vec::new(), share: Share { places: Arc::clone(&self.places), taken: None } }
    }

    /// Reads a body whole: one message, and so many bytes of its transport around it.
    pub(super) async fn read<B>(&self, body: &mut B, frame_bytes: usize) -> Result<Held, NoBody>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let bytes_max = self.message_bytes_max.saturating_add(frame_bytes);
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(NoBody::TooLarge);
        }
        let reading = async {
            let mut held = self.growing();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| NoBody::Interrupted)?;
                if let Ok(data) = frame.into_data() {
                    held.add(&data, bytes_max)?;
                }
            }
            Ok(held.whole())
        };
        tokio::time::timeout(self.patience, reading).await.unwrap_or(Err(NoBody::Interrupted))
    }

    /// The message as its sender wrote it. The bound is on what comes out, piece by piece, so that a small body cannot
    /// become a large message.
    pub(super) fn decompress(&self, coding: Coding, held: Held) -> Result<Held, NoBody> {
        match coding {
            Coding::Identity => Ok(held),
            Coding::Gzip => self.drain(MultiGzDecoder::new(&held.bytes[..])),
            Coding::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(&held.bytes[..]).map_err(|_| NoBody::Malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| NoBody::Malformed)?;
                self.drain(decoder)
            }
        }
    }

    fn drain(&self, mut decoder: impl Read) -> Result<Held, NoBody> {
        let mut held = self.growing();
        let mut piece = vec![0; PLACE_BYTES];
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return Ok(held.whole()),
                Ok(length) => held.add(&piece[..length], self.message_bytes_max)?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(NoBody::Malformed),
            }
        }
    }
}

impl Growing {
    fn add(&mut self, more: &[u8], bytes_max: usize) -> Result<(), NoBody> {
        let length = self.bytes.len() + more.len();
        if length > bytes_max {
            return Err(NoBody::TooLarge);
        }
        self.share.grow(length.div_ceil(PLACE_BYTES))?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn whole(self) -> Held {
        Held { bytes: self.bytes.into(), share: self.share }
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
pub(super) fn throw_away<B>(mut body: B)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
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
    use futures::StreamExt as _;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn held(budget: &Budget, bytes: Vec<u8>) -> Held {
        Growing { bytes, ..budget.growing() }.whole()
    }

    #[test]
    fn what_was_compressed_comes_out_whole() {
        let budget = Budget::new(1 << 20, 2, PATIENCE);
        let message: Vec<u8> = (0..200_000u32).flat_map(u32::to_be_bytes).collect();
        let zstd = zstd::encode_all(message.as_slice(), 3).expect("compressed");
        for (coding, body) in
            [(Coding::Gzip, gzip(&message)), (Coding::Zstd, zstd), (Coding::Identity, message.clone())]
        {
            let out = budget.decompress(coding, held(&budget, body)).expect("decompressed");
            assert!(out.bytes == message, "{coding:?}");
        }
        let twice = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(budget.decompress(Coding::Gzip, held(&budget, twice)).expect("two members").bytes, &b"one two"[..]);
    }

    #[test]
    fn a_bomb_is_cut_at_the_bound_and_gives_its_share_back() {
        let budget = Budget::new(1 << 20, 2, PATIENCE);
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
        let budget = Budget::new(1 << 20, 2, PATIENCE);
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
        let budget = Budget::new(1 << 20, 1, PATIENCE);
        let message = gzip(&vec![0; 900_000]);
        let first = budget.decompress(Coding::Gzip, held(&budget, message.clone())).expect("room for one");
        let second = budget.decompress(Coding::Gzip, held(&budget, message.clone())).map(|held| held.bytes.len());
        assert_eq!(second, Err(NoBody::Busy));
        drop(first);
        assert!(budget.decompress(Coding::Gzip, held(&budget, message)).is_ok());
    }

    #[tokio::test]
    async fn a_body_has_its_time_and_keeps_nothing_after_it() {
        let patience = Duration::from_millis(20);
        let budget = Budget::new(1 << 20, 1, patience);
        let before = budget.places.available_permits();
        let begun = futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![0; 500_000])))]);
        let mut never = StreamBody::new(begun.chain(futures::stream::pending()));
        let began = tokio::time::Instant::now();
        let refused = budget.read(&mut never, 0).await.map(|held| held.bytes.len());
        assert_eq!((refused, began.elapsed() >= patience), (Err(NoBody::Interrupted), true));
        assert_eq!(budget.places.available_permits(), before);
    }

    #[tokio::test]
    async fn what_is_around_a_message_is_not_part_of_it() {
        let budget = Budget::new(1 << 20, 2, PATIENCE);
        let read = async |bytes: usize, frame_bytes| {
            let mut body = Full::new(Bytes::from(vec![0; bytes]));
            budget.read(&mut body, frame_bytes).await.map(|held| held.bytes.len())
        };
        assert_eq!(read((1 << 20) + 5, 5).await, Ok((1 << 20) + 5));
        assert_eq!(read((1 << 20) + 6, 5).await, Err(NoBody::TooLarge));
        assert_eq!(read((1 << 20) + 1, 0).await, Err(NoBody::TooLarge));
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).expect("set");
        encoder.write_all(&[7; 100_000]).expect("written");
        let body = encoder.finish().expect("finished");
        let budget = Budget::new(1 << 20, 2, PATIENCE);
        let refused = budget.decompress(Coding::Zstd, held(&budget, body)).map(|held| held.bytes.len());
        assert_eq!(refused, Err(NoBody::Malformed));
    }
}
