//! A sum over every byte of a stream, in whatever pieces it comes: writes have no bounds where they arrive.
//!
//! Not against a faulty medium, as the proof of `message` is not: it depends on the place of each 8 bytes, so that nothing is lost,
//! repeated or moved unseen, at a cost far below that of copying. Eight lanes, one for each word of a line, and in each what Fletcher does ("An
//! Arithmetic Checksum for Serial Transmissions", 1982): a sum of the words, and a sum of those sums, to which a word adds the more the earlier it came.
//! Two additions a word, which compilers do several at a time.

use crate::Failure;

/// Bytes that are added at once.
const LINE: usize = 64;

/// What a write of `size` bytes holds: words without a pattern, the same at both ends; a [`number`] stands before them.
pub(crate) fn payload(size: usize) -> Vec<u8> {
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        // Marsaglia, "Xorshift RNGs", 2003.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    });
    words.flat_map(u64::to_ne_bytes).take(size).collect()
}

/// Numbers a write, so that no two are alike.
#[inline]
pub(crate) fn number(payload: &mut [u8], sequence: u64) {
    payload[..8].copy_from_slice(&sequence.to_ne_bytes());
}

/// Checks a sum against that of the writes from 1 to `writes`.
pub(crate) fn expect(sum: &Checksum, size: usize, writes: u64) -> Result<(), Failure> {
    let (mut expected, mut bytes) = (Checksum::default(), payload(size));
    for sequence in 1..=writes {
        number(&mut bytes, sequence);
        expected.add(&bytes);
    }
    if *sum == expected {
        return Ok(());
    }
    let (found, due) = (sum.bytes, expected.bytes);
    Err(Failure::new(format_args!(
        "{found} bytes arrived, {due} were sent, and they differ: lost, repeated or altered"
    )))
}

/// The sum so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum {
    words: [u64; 8],
    sums: [u64; 8],
    bytes: u64,
    /// What is not a whole line yet.
    rest: Vec<u8>,
}

impl Checksum {
    /// Adds the bytes that came next.
    #[inline]
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if !self.rest.is_empty() {
            let more = bytes.len().min(LINE - self.rest.len());
            self.rest.extend(&bytes[..more]);
            bytes = &bytes[more..];
            if self.rest.len() < LINE {
                return;
            }
            let whole = std::mem::take(&mut self.rest);
            self.add_lines(&whole);
        }
        let whole = bytes.len() / LINE * LINE;
        self.add_lines(&bytes[..whole]);
        self.rest.extend(&bytes[whole..]);
    }

    #[inline]
    fn add_lines(&mut self, bytes: &[u8]) {
        let (mut words, mut sums) = (self.words, self.sums);
        for line in bytes.chunks_exact(LINE) {
            for (lane, word) in line.chunks_exact(8).enumerate() {
                words[lane] = words[lane].wrapping_add(word.try_into().map_or(0, u64::from_ne_bytes));
                sums[lane] = sums[lane].wrapping_add(words[lane]);
            }
        }
        (self.words, self.sums) = (words, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(pieces: &[&[u8]]) -> Checksum {
        let mut sum = Checksum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum
    }

    #[test]
    fn pieces_do_not_matter_and_every_byte_and_its_place_does() {
        let bytes = payload(1000);
        let whole = sum_of(&[&bytes]);
        for cut in [1, 63, 64, 65, 500, 999] {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(sum_of(&[first, second]), whole, "{cut}");
            assert_ne!(sum_of(&[second, first]), whole, "{cut}");
        }
        for at in [0, 7, 500, 999] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_ne!(sum_of(&[&altered]), whole, "{at}");
        }
    }

    #[test]
    fn writes_that_were_lost_or_exchanged_are_found() {
        let write = |sequence| {
            let mut bytes = payload(4096);
            number(&mut bytes, sequence);
            bytes
        };
        let (one, two) = (write(1), write(2));
        assert!(expect(&sum_of(&[&one, &two]), 4096, 2).is_ok());
        assert!(expect(&sum_of(&[&two, &one]), 4096, 2).is_err());
        assert!(expect(&sum_of(&[&one]), 4096, 2).unwrap_err().to_string().contains("4096 bytes arrived, 8192"));
    }
}
