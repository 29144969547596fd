//! How a record lies in the key-value store: framed, so that a wrong value is never taken for a right one.
//!
//! A payload is cut into chunks, because the store below keeps a page above 128 KiB in a file of its own and
//! never syncs that file; a page holds up to about 20 entries, so an entry must stay below 6 KiB. Each chunk
//! carries a version, a checksum, its own key and its place, so bytes that ended up under another key, or of
//! another age of the format, are found. All sums of all frames together are kept in one further entry, the
//! *seal*, changed in the same transaction: a record that went missing, or an old value that came back, is
//! found too.
//!
//! No I/O here.

use super::StoreError;

/// Of the frame; another one is refused.
const VERSION: u8 = 1;
/// Payload bytes in one frame: with key and header safely below the 6 KiB above.
const CHUNK_BYTES: usize = 4096;
/// Longest payload of one record, in bytes. Records are a few KiB; this only bounds mistakes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Version, checksum, length of the key, index, count.
const HEADER_BYTES: usize = 1 + 4 + 2 + 2 + 2;
/// Ends the key within an entry's key; no key contains it, so no key's entries are mixed with another's.
const SEPARATOR: u8 = 0;
/// Where the seal lies. It starts with the separator, so it is no record's key and sorts before all of them.
pub(super) const SEAL_KEY: &[u8] = b"\0seal";

/// One chunk of a record, as parsed from an entry.
pub(super) struct Chunk<'a> {
    pub key: &'a str,
    pub index: u16,
    pub count: u16,
    pub payload: &'a [u8],
}

/// Refuses a key that is not printable ASCII without spaces, or is empty or too long.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(StoreError::BadKey { key: key.chars().take(60).collect() });
    }
    Ok(())
}

/// Refuses a payload above [`MAX_PAYLOAD_BYTES`].
pub(super) fn check_payload(key: &str, payload: &[u8]) -> Result<(), StoreError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(StoreError::TooLong { key: key.to_owned(), size_bytes: payload.len() });
    }
    Ok(())
}

/// What all entries of `key` start with.
pub(super) fn entry_prefix(key: &str) -> Vec<u8> {
    let mut prefix = key.as_bytes().to_vec();
    prefix.push(SEPARATOR);
    prefix
}

/// The entries (key and value) that a record becomes, at least one. Key and payload must have been checked.
pub(super) fn entries(key: &str, payload: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let count = payload.len().div_ceil(CHUNK_BYTES).max(1);
    (0..count)
        .map(|index| {
            let end = payload.len().min((index + 1) * CHUNK_BYTES);
            let chunk = &payload[index * CHUNK_BYTES..end];
            // Below 2^16: MAX_PAYLOAD_BYTES / CHUNK_BYTES is 256.
            let (index, count) = (index as u16, count as u16);
            let mut entry_key = entry_prefix(key);
            entry_key.extend(index.to_be_bytes());
            (entry_key, frame(key, index, count, chunk))
        })
        .collect()
}

fn frame(key: &str, index: u16, count: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + key.len() + payload.len());
    frame.push(VERSION);
    frame.extend([0; 4]);
    frame.extend((key.len() as u16).to_be_bytes());
    frame.extend(index.to_be_bytes());
    frame.extend(count.to_be_bytes());
    frame.extend(key.as_bytes());
    frame.extend(payload);
    let sum = frame_sum(&frame);
    frame[1..5].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The checksum covers the version and all that follows the checksum itself.
fn frame_sum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..1]);
    hasher.update(&frame[5..]);
    hasher.finalize()
}

/// Parses and checks one entry: the frame's sum, version, and that it lies where it says it belongs.
pub(super) fn parse<'a>(entry_key: &[u8], frame: &'a [u8]) -> Result<Chunk<'a>, StoreError> {
    let bad = |what: &str| StoreError::BadRecord { key: shown(entry_key), what: what.to_owned() };
    if frame.len() < HEADER_BYTES {
        return Err(bad("it is cut off"));
    }
    if frame[0] != VERSION {
        return Err(bad(&format!("it has version {}, this program knows version {VERSION}", frame[0])));
    }
    let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if stored_sum(frame) != frame_sum(frame) {
        return Err(bad("its checksum is wrong"));
    }
    let key_end = HEADER_BYTES + usize::from(number(5));
    let key = frame.get(HEADER_BYTES..key_end).ok_or_else(|| bad("it is cut off"))?;
    let key = std::str::from_utf8(key).map_err(|_| bad("its key is not text"))?;
    let chunk = Chunk { key, index: number(7), count: number(9), payload: &frame[key_end..] };
    let mut expected = entry_prefix(key);
    expected.extend(chunk.index.to_be_bytes());
    if expected != entry_key || chunk.index >= chunk.count {
        return Err(bad(&format!("it says it is part {} of {} of {key}", chunk.index, chunk.count)));
    }
    Ok(chunk)
}

/// The checksum as written in a frame; 0 for bytes too short to be one.
fn stored_sum(frame: &[u8]) -> u32 {
    match frame {
        [_, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// An entry's key as a person would name it.
fn shown(entry_key: &[u8]) -> String {
    let end = entry_key.iter().position(|&b| b == SEPARATOR).unwrap_or(entry_key.len());
    entry_key[..end].escape_ascii().to_string()
}

/// Number and sum of all frames in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    count: u64,
    sum: u64,
}

impl Seal {
    pub fn add(&mut self, frame: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(stored_sum(frame)));
    }

    pub fn remove(&mut self, frame: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(stored_sum(frame)));
    }

    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.count.to_be_bytes());
        bytes.extend(self.sum.to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_from_its_entries() {
        for size_bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let payload: Vec<u8> = (0..size_bytes).map(|i| i as u8).collect();
            let mut joined: Vec<u8> = Vec::new();
            for (place, (entry_key, frame)) in entries("volume/db", &payload).iter().enumerate() {
                let chunk = parse(entry_key, frame).unwrap();
                assert_eq!((chunk.key, usize::from(chunk.index)), ("volume/db", place));
                joined.extend(chunk.payload);
            }
            assert_eq!(joined, payload);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (entry_key, frame) = entries("volume/db", b"{\"size\":1}").remove(0);
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = parse(&entry_key, &flipped).err().expect("found").to_string();
            assert!(error.contains("volume/db"), "{error}");
        }
        for length in 0..frame.len() {
            assert!(parse(&entry_key, &frame[..length]).is_err(), "cut off at {length}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_found() {
        let (_, frame) = entries("volume/db", b"x").remove(0);
        let (other, _) = entries("volume/dc", b"x").remove(0);
        assert!(parse(&other, &frame).is_err());
    }

    #[test]
    fn keys_are_printable_and_short() {
        assert!(check_key("volume/db").is_ok());
        for key in ["", "a b", "a\tb", "a\0", "ü", &"x".repeat(MAX_KEY_BYTES + 1)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn the_seal_forgets_what_is_removed() {
        let frames: Vec<_> = ["a", "b"].map(|key| entries(key, key.as_bytes()).remove(0).1).into();
        let mut seal = Seal::default();
        seal.add(&frames[0]);
        let one = seal;
        seal.add(&frames[1]);
        assert_ne!(seal, one);
        seal.remove(&frames[1]);
        assert_eq!(seal, one);
    }
}
