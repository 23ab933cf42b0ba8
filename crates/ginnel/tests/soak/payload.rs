//! What a message holds: who sent it, which one it is, how long it is, and a checksum over all of it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | checksum of everything behind it |
//! | 4 | 4 | length in bytes, all included |
//! | 8 | 2 | channel |
//! | 10 | 2 | part, of an answer of several |
//! | 12 | 4 | life of its sender |
//! | 16 | 8 | sequence number in its channel |
//! | 24 | | bytes that depend on the number |

use super::dice::Dice;

pub(crate) const HEADING: usize = 24;
/// Bytes from which bodies are cut.
const POOL: usize = 1 << 21;

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) channel: usize,
    pub(crate) part: u16,
    pub(crate) life: u32,
    pub(crate) seq: u64,
}

/// Makes messages.
pub(crate) struct Writer {
    pool: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut dice = Dice::new(1);
        let mut pool = Vec::with_capacity(POOL);
        while pool.len() < POOL {
            pool.extend_from_slice(&dice.roll().to_le_bytes());
        }
        Self { pool }
    }

    /// Writes a message that fills `bytes`.
    pub(crate) fn write(&self, heading: Heading, bytes: &mut [u8]) {
        let len = bytes.len();
        bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(heading.channel as u16).to_le_bytes());
        bytes[10..12].copy_from_slice(&heading.part.to_le_bytes());
        bytes[12..16].copy_from_slice(&heading.life.to_le_bytes());
        bytes[16..24].copy_from_slice(&heading.seq.to_le_bytes());
        let body = len - HEADING;
        let from = (heading.seq.wrapping_mul(8191) as usize) % (POOL - body);
        bytes[HEADING..].copy_from_slice(&self.pool[from..from + body]);
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What a message says, if it is whole.
pub(crate) fn read(bytes: &[u8]) -> Option<Heading> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let checksum = word(0)?;
    if word(4)? as usize != bytes.len() || bytes.len() < HEADING || crc32fast::hash(&bytes[4..]) != checksum {
        return None;
    }
    let seq = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
    let (places, life) = (word(8)?, word(12)?);
    Some(Heading { channel: (places & 0xffff) as usize, part: (places >> 16) as u16, life, seq })
}

/// A length: most lie in a slot, some in a small block, few above 64 KiB, very few above 1 MiB.
pub(crate) fn length(dice: &mut Dice, longest: usize) -> usize {
    let roll = dice.roll();
    let within = |from: usize, to: usize| from + (roll >> 32) as usize % (to - from);
    let len = match roll % 20_000 {
        0 => within(1_050_000, 1_200_000),
        1..=10 => within(65_537, 150_000),
        11..=100 => within(4096, 65_536),
        101..=1200 => within(113, 4096),
        _ => within(HEADING, 113),
    };
    len.min(longest.max(HEADING))
}
