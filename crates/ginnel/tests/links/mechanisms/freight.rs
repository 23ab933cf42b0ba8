//! Messages that prove themselves: each tells its sender, its number and its length, and every byte of it follows from these; and the
//! ledger of a receiver, which holds that they came whole, in order, once each.

use std::collections::BTreeMap;
use std::fmt;

/// Bytes of the shortest one.
pub(super) const LEAST: usize = 12;

/// A message of one sender.
pub(super) fn message(who: u32, number: u32, len: usize) -> Vec<u8> {
    let len = len.max(LEAST);
    let mut bytes = Vec::with_capacity(len + 8);
    for word in [who, number, len as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let mut random = Random::new(u64::from(who) << 32 | u64::from(number));
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Seeded chance: splitmix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A length up to `most`: often short, sometimes the longest.
    pub(super) fn len(&mut self, most: usize) -> usize {
        match self.next() % 8 {
            0 => most,
            1..=4 => self.next() as usize % most.min(200),
            _ => self.next() as usize % most,
        }
    }
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The next number of each sender.
    next: BTreeMap<u32, u32>,
    entries: u32,
    /// Numbers may be missing: somebody else gets messages too.
    shared: bool,
}

impl Ledger {
    /// Of a link that others drain too.
    pub(super) fn shared() -> Self {
        Self { shared: true, ..Self::default() }
    }

    /// Enters a message.
    ///
    /// # Panics
    /// If it is torn, comes twice, or an earlier one did not come.
    #[track_caller]
    pub(super) fn enter(&mut self, bytes: &[u8]) {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert!(bytes.len() >= LEAST, "a message of {} bytes is torn", bytes.len());
        let (who, number) = (word(0), word(4));
        assert!(word(8) as usize == bytes.len(), "{who}.{number} of {} bytes is torn: {}", word(8), bytes.len());
        assert!(bytes == message(who, number, bytes.len()), "{who}.{number} of {} bytes is torn", bytes.len());
        let next = self.next.entry(who).or_default();
        let fits = if self.shared { number >= *next } else { number == *next };
        assert!(fits, "{who}.{number} came, {who}.{next} was next");
        *next = number + 1;
        self.entries += 1;
    }

    /// How many came of a sender; of a shared link, the last number + 1.
    pub(super) fn of(&self, who: u32) -> u32 {
        self.next.get(&who).copied().unwrap_or_default()
    }

    /// How many came, of everybody.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }
}

/// `WHO:COUNT` for each sender.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.next.iter().map(|(who, count)| format!("{who}:{count}")).collect();
        f.write_str(&all.join(","))
    }
}

#[test]
#[should_panic(expected = "torn")]
fn a_flipped_bit_is_seen() {
    let mut bytes = message(1, 0, 1000);
    bytes[500] ^= 1;
    Ledger::default().enter(&bytes);
}

#[test]
#[should_panic(expected = "1.0 was next")]
fn a_gap_is_seen() {
    Ledger::default().enter(&message(1, 1, 20));
}
