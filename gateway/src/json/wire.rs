//! Protocol Buffers' wire format: parts written with their length in front, and messages read field by field where they
//! stand.

use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};
use thiserror::Error;

/// Bytes that are no message of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no message of the contract: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends bytes with their length in front.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends what `content` appends, with its length in front.
pub(crate) fn put_sized<E>(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    // Most messages are short: one byte is held free, and room is made where it is not enough.
    out.push(0);
    content(out)?;
    let end = out.len();
    let length = (end - start - 1) as u64;
    let width = encoded_len_varint(length);
    if width > 1 {
        out.resize(end + width - 1, 0);
        out.copy_within(start + 1..end, start + width);
    }
    encode_varint(length, &mut &mut out[start..start + width]);
    Ok(())
}

/// What one field of a message holds on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raw<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'b [u8]),
}

/// The fields of a message by number, in the order of the wire. What follows an error is not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    pub(crate) fn of(message: &'b [u8]) -> Self {
        Self(message)
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.0
    }

    fn read(&mut self) -> Result<(u32, Raw<'b>), Malformed> {
        let (number, wire) = decode_key(&mut self.0).map_err(|_| Malformed("a key breaks off"))?;
        let raw = match wire {
            WireType::Varint => Raw::Varint(varint(&mut self.0)?),
            WireType::SixtyFourBit => Raw::Fixed64(u64::from_le_bytes(fixed(&mut self.0)?)),
            WireType::ThirtyTwoBit => Raw::Fixed32(u32::from_le_bytes(fixed(&mut self.0)?)),
            WireType::LengthDelimited => {
                let length = varint(&mut self.0)?;
                Raw::Bytes(take(&mut self.0, usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed("groups are not used")),
        };
        Ok((number, raw))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Raw<'b>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

/// Takes a number of up to ten bytes.
pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    decode_varint(bytes).map_err(|_| Malformed("a number breaks off"))
}

/// Takes a number of as many bytes as it has.
pub(crate) fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Malformed("a number breaks off"))?;
    *bytes = rest;
    Ok(*number)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed("a part breaks off"))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::encoding::encode_key;

    #[test]
    fn parts_of_any_length_are_read_as_they_were_written() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let content = vec![7; length];
            let mut out = vec![9];
            encode_key(3, WireType::LengthDelimited, &mut out);
            put_sized(&mut out, |out| {
                out.extend_from_slice(&content);
                Ok::<(), ()>(())
            })
            .expect("content");
            encode_key(4, WireType::Varint, &mut out);
            encode_varint(300, &mut out);
            let read: Vec<_> = Fields::of(&out[1..]).collect();
            assert_eq!(read, [Ok((3, Raw::Bytes(&content))), Ok((4, Raw::Varint(300)))], "{length}");
            let mut plain = vec![9, 26];
            put_bytes(&mut plain, &content);
            assert!(out.starts_with(&plain), "{length}");
        }
    }

    #[test]
    fn what_breaks_off_is_an_error_and_the_end() {
        for bytes in
            [&[0x80][..], &[8], &[8, 0x80], &[9, 1], &[13, 1], &[18, 2, 1], &[11], &[18, 255, 255, 255, 255, 15]]
        {
            let read: Vec<_> = Fields::of(bytes).collect();
            assert!(matches!(read[..], [Err(_)]), "{bytes:?}: {read:?}");
        }
    }
}
