//! The first page of a link: what never changes and is checked at attach, then the words that change.
//!
//! | offset | bytes | what | written |
//! |---|---|---|---|
//! | 0   | 8 | magic `ginnel\r\n` | once, before the file has a name |
//! | 8   | 4 | version of the format | once |
//! | 12  | 4 | feature bits: an unknown one refuses | once |
//! | 16  | 8 | capacity, slots; bytes of a stream | once |
//! | 24  | 8 | largest message, bytes | once |
//! | 32  | 8 | ceiling of block memory, bytes | once |
//! | 40  | 4 | participants at most | once |
//! | 44  | 4 | when full: 0 block, 1 reject, 2 drop oldest, 3 cut off | once |
//! | 48  | 4 | senders at most, 0 any | once |
//! | 52  | 4 | receivers at most, 0 any | once |
//! | 56  | 8 | bytes of the file | once |
//! | 64  | 8 | made at, nanoseconds since 1970 | once |
//! | 72  | 1 | shape: 0 queue, 1 broadcast, 2 latest, 3 stream, 4 request, 5 response, 6 mailbox, 7 listener | once |
//! | 73  | 3 | 0 for a bounded link; else 1 + the binary logarithm of the slots of an extent of its ring | once |
//! | 76  | 4 | checksum of the [label](crate::Label), 0 if there is none | once |
//! | 80  | 4 | CRC-32 (IEEE) of bytes 0 to 79 | once |
//!
//! The words that change follow, each group in a line of its own: see the constants below.
//!
//! [I1] The immutable part is read once, as a copy, checked against its CRC and the length of the file, and never again.

use crate::label::{LABEL_AT, LABEL_BYTES};
use crate::layout::{CLASSES_MAX, CONTROL_BYTES, Full, Geometry, GeometryError, LINE, Layout, Shape};
use core::fmt;

/// Read by every operation, written when somebody joins, leaves, dies, or takes over a side.
pub(crate) const MEMBERSHIP: usize = LINE;
pub(crate) const PRODUCERS: usize = LINE + 8;
pub(crate) const CONSUMERS: usize = LINE + 16;
/// Grows when messages went back after a death: receivers then look through the ring for them.
pub(crate) const RETURNS: usize = LINE + 24;
/// Next position to claim, written by producers; of a stream, bytes below were written.
pub(crate) const TAIL: usize = 2 * LINE;
/// Next position to take, written by consumers; of a stream, bytes below were read. On a broadcast: positions below are gone, written by
/// producers.
pub(crate) const HEAD: usize = 3 * LINE;
/// Every position below was released, whatever its slot's word says: written by a consumer that has its side for itself; on a
/// broadcast by producers.
pub(crate) const RELEASED: usize = 3 * LINE + 8;
/// Where receivers sleep, waiting for messages.
pub(crate) const ITEMS: usize = 4 * LINE;
/// Where senders sleep, waiting for room.
pub(crate) const ROOM: usize = 5 * LINE;
/// Of a stream: bytes must have been read up to here before its writer wants to be woken; written by the writer.
pub(crate) const WANTED: usize = 5 * LINE + 16;
/// Slots below were committed: a hint, written now and then by producers.
pub(crate) const ANNOUNCED: usize = 6 * LINE;
/// Slots below were released: a hint, written now and then by the consumer that has its side for itself.
pub(crate) const FREED: usize = 7 * LINE;
/// Of an unbounded link: slots below have memory, the first extent apart. Written under the grow lock, as the two that follow; see `extents`.
pub(crate) const GROWN: usize = 8 * LINE;
/// Slots below are in nobody's hand, and nobody's business any more.
pub(crate) const FLOOR: usize = 8 * LINE + 8;
/// The memory of slots below was given back.
pub(crate) const PUNCHED: usize = 8 * LINE + 16;
/// Not 0 if there may be memory to give back that nobody else will: see `growth`. Written by anybody.
pub(crate) const LEFT: usize = 8 * LINE + 24;
/// What the holder of the grow lock is about to commit or to give back, 0 if nothing: see `growth`.
pub(crate) const UNDER_WAY: usize = 8 * LINE + 32;
/// Records of each class of an unbounded link that have memory: a word a class, written under the grow lock.
pub(crate) const RECORDS: usize = 9 * LINE;

/// In a link that carries the newest value: which that is, in the place of the tail; see `latest`.
pub(crate) const CURRENT: usize = TAIL;
/// Its pins, a line of words, in the place of the head.
pub(crate) const PINS: usize = HEAD;

const MAGIC: [u8; 8] = *b"ginnel\r\n";
/// The version of the format that this crate reads and writes.
const VERSION: u32 = 2;
/// The peers use `membarrier`: one that cannot must not join.
const FEATURE_ASYMMETRIC: u32 = 1;
const FEATURES: u32 = FEATURE_ASYMMETRIC;
const CRC_AT: usize = 80;
/// Bytes of the immutable part.
const IMMUTABLE_BYTES: usize = 84;

const _: () = assert!(RECORDS + 8 * CLASSES_MAX <= LABEL_AT as usize && FREED + LINE <= GROWN);
const _: () = assert!(LABEL_AT as usize + LABEL_BYTES <= CONTROL_BYTES && IMMUTABLE_BYTES <= LINE);

/// The immutable part of a header, as a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the creator chose.
    pub geometry: Geometry,
    /// Whether the peers rely on `membarrier`.
    pub asymmetric: bool,
    /// When the link was made, in nanoseconds since 1970.
    pub created_ns: u64,
    /// [Checksum](crate::Label::checksum) of what its messages are labelled with; 0 if they are not.
    pub label: u32,
}

/// Why bytes are not a header that this build can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than a header, or not as long as its header says.
    Length {
        /// Bytes that the file has.
        is: u64,
        /// Bytes that it should have, or the least.
        expected: u64,
    },
    /// The first bytes are not a link's.
    NotALink,
    /// Another version of the format.
    Version(u32),
    /// A feature that this build does not know.
    Features(u32),
    /// The checksum does not match.
    Checksum,
    /// The checksum matches, but a number is impossible.
    Geometry(GeometryError),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { is, expected } => write!(f, "it has {is} bytes where {expected} are expected"),
            Self::NotALink => write!(f, "it does not begin as a link does"),
            Self::Version(v) => write!(f, "its format has version {v}, this build reads version {VERSION}"),
            Self::Features(bits) => write!(f, "it uses features {bits:#x} that this build does not know"),
            Self::Checksum => write!(f, "the checksum of its header is wrong"),
            Self::Geometry(e) => write!(f, "its header is impossible: {e}"),
        }
    }
}

impl core::error::Error for HeaderError {}

impl Header {
    /// Bytes to read from the start of a file in order to [`parse`](Self::parse) it.
    pub const BYTES: usize = IMMUTABLE_BYTES;

    /// The header's bytes for a new link.
    pub fn encode(&self, layout: &Layout) -> [u8; IMMUTABLE_BYTES] {
        let mut bytes = [0; IMMUTABLE_BYTES];
        let g = &self.geometry;
        bytes[0..8].copy_from_slice(&MAGIC);
        put32(&mut bytes, 8, VERSION);
        put32(&mut bytes, 12, if self.asymmetric { FEATURE_ASYMMETRIC } else { 0 });
        put64(&mut bytes, 16, g.capacity);
        put64(&mut bytes, 24, g.max);
        put64(&mut bytes, 32, g.memory);
        put32(&mut bytes, 40, g.participants);
        put32(&mut bytes, 44, full_code(g.full));
        put32(&mut bytes, 48, g.senders);
        put32(&mut bytes, 52, g.receivers);
        put64(&mut bytes, 56, layout.total_bytes() as u64);
        put64(&mut bytes, 64, self.created_ns);
        put32(&mut bytes, 72, g.shape as u32 | extent_code(g.extent) << 8);
        put32(&mut bytes, 76, self.label);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        put32(&mut bytes, CRC_AT, crc);
        bytes
    }

    /// Checks the first bytes of a file that is `file_bytes` long.
    ///
    /// # Errors
    /// If they are not the header of a link that this build can use.
    pub fn parse(bytes: &[u8], file_bytes: u64) -> Result<(Self, Layout), HeaderError> {
        let Some(bytes) = bytes.get(..IMMUTABLE_BYTES) else {
            return Err(HeaderError::Length { is: file_bytes, expected: IMMUTABLE_BYTES as u64 });
        };
        if bytes[..8] != MAGIC {
            return Err(HeaderError::NotALink);
        }
        // The version comes before the checksum: another version may compute it otherwise.
        if get32(bytes, 8) != VERSION {
            return Err(HeaderError::Version(get32(bytes, 8)));
        }
        if crc32fast::hash(&bytes[..CRC_AT]) != get32(bytes, CRC_AT) {
            return Err(HeaderError::Checksum);
        }
        let features = get32(bytes, 12);
        if features & !FEATURES != 0 {
            return Err(HeaderError::Features(features & !FEATURES));
        }
        let header = Self {
            geometry: read_geometry(bytes).ok_or(HeaderError::Checksum)?,
            asymmetric: features & FEATURE_ASYMMETRIC != 0,
            created_ns: get64(bytes, 64),
            label: get32(bytes, 76),
        };
        let layout = Layout::new(header.geometry).map_err(HeaderError::Geometry)?;
        let expected = layout.total_bytes() as u64;
        if file_bytes != expected || get64(bytes, 56) != expected {
            return Err(HeaderError::Length { is: file_bytes, expected });
        }
        Ok((header, layout))
    }
}

fn read_geometry(bytes: &[u8]) -> Option<Geometry> {
    Some(Geometry {
        shape: *Shape::ALL.get(usize::from(bytes[72]))?,
        capacity: get64(bytes, 16),
        max: get64(bytes, 24),
        memory: get64(bytes, 32),
        participants: get32(bytes, 40),
        full: match get32(bytes, 44) {
            0 => Full::Block,
            1 => Full::Reject,
            2 => Full::DropOldest,
            3 => Full::CutOff,
            _ => return None,
        },
        senders: get32(bytes, 48),
        receivers: get32(bytes, 52),
        extent: match get32(bytes, 72) >> 8 {
            0 => 0,
            code => 1u32.checked_shl(code - 1)?,
        },
    })
}

/// A power of two, or nothing.
fn extent_code(slots: u32) -> u32 {
    if slots == 0 { 0 } else { slots.trailing_zeros() + 1 }
}

fn full_code(full: Full) -> u32 {
    match full {
        Full::Block => 0,
        Full::Reject => 1,
        Full::DropOldest => 2,
        Full::CutOff => 3,
    }
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get32(bytes, at)) | u64::from(get32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Header, Layout, [u8; IMMUTABLE_BYTES]) {
        let header = Header { geometry: Geometry::default(), asymmetric: true, created_ns: 7, label: 9 };
        let layout = Layout::new(header.geometry).unwrap();
        let bytes = header.encode(&layout);
        (header, layout, bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let (header, layout, bytes) = sample();
        assert_eq!(Header::parse(&bytes, layout.total_bytes() as u64), Ok((header, layout)));
    }

    #[test]
    fn each_shape_is_read_as_it_was_written() {
        for (code, shape) in Shape::ALL.into_iter().enumerate() {
            assert_eq!(shape as usize, code);
            let capacity = if shape == Shape::Latest { 8 } else { 1 << 16 };
            let mut geometry = Geometry { shape, capacity, ..Geometry::default() };
            geometry.memory = geometry.memory_min().saturating_mul(4);
            let header = Header { geometry, asymmetric: true, created_ns: 7, label: 9 };
            let layout = Layout::new(header.geometry).unwrap();
            let read = Header::parse(&header.encode(&layout), layout.total_bytes() as u64).unwrap().0;
            assert_eq!(read.geometry.shape, shape);
        }
    }

    #[test]
    fn an_unbounded_link_says_so() {
        let geometry = Geometry { shape: Shape::Mailbox, ..Geometry::default() }.unbounded(1 << 30);
        let header = Header { geometry, asymmetric: true, created_ns: 7, label: 0 };
        let layout = Layout::new(geometry).unwrap();
        let read = Header::parse(&header.encode(&layout), layout.total_bytes() as u64).unwrap().0;
        assert_eq!((read.geometry, read.geometry.extent), (geometry, 8192));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (_, layout, bytes) = sample();
        for bit in 0..IMMUTABLE_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bad, layout.total_bytes() as u64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let (_, layout, bytes) = sample();
        for bad in [0, 83, 84, 4096, layout.total_bytes() as u64 - 1, layout.total_bytes() as u64 + 1] {
            assert!(matches!(Header::parse(&bytes, bad), Err(HeaderError::Length { .. })));
        }
        for short in 0..IMMUTABLE_BYTES {
            assert!(Header::parse(&bytes[..short], layout.total_bytes() as u64).is_err());
        }
    }

    #[test]
    fn another_version_says_so() {
        let (_, layout, mut bytes) = sample();
        put32(&mut bytes, 8, 3);
        assert_eq!(Header::parse(&bytes, layout.total_bytes() as u64), Err(HeaderError::Version(3)));
    }
}
