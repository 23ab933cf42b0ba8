//! What the messages carry, and how the receiver proves it.
//!
//! Not a checksum against a faulty medium: a proof that every byte was written by the sender for this very sequence
//! number and read by the receiver, at a cost far below that of moving it.
//!
//! A *stamped* message has a word in every eight bytes, `sequence + i * STEP` in word `i`; a rest of fewer than eight
//! bytes holds the first bytes of the sequence. A *sealed* one, for payloads whose copying is what is measured, holds the
//! sequence in its first word and, from 16 bytes on, the complement in its last.

use crate::Failure;

/// Odd, so that no two words of a message are equal and a shifted message never passes.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Writes every byte of `bytes` for `sequence`.
#[inline(always)]
pub(crate) fn stamp(bytes: &mut [u8], sequence: u64) {
    let mut word = sequence;
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        chunk.copy_from_slice(&word.to_ne_bytes());
        word = word.wrapping_add(STEP);
    }
    let rest = words.into_remainder();
    let len = rest.len();
    rest.copy_from_slice(&sequence.to_ne_bytes()[..len]);
}

/// Reads every byte of `bytes` and checks it against `sequence` and `size`.
#[inline(always)]
pub(crate) fn check(bytes: &[u8], size: usize, sequence: u64) -> Result<(), Failure> {
    if bytes.len() != size {
        return Err(wrong_length(bytes.len(), size, sequence));
    }
    // Told again in terms of `size`, a constant where the caller's is: the loop below unrolls.
    let bytes = &bytes[..size];
    let mut difference = 0;
    let mut word = sequence;
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    for chunk in words {
        difference |= word ^ word_of(chunk);
        word = word.wrapping_add(STEP);
    }
    for (byte, expected) in rest.iter().zip(sequence.to_ne_bytes()) {
        difference |= u64::from(byte ^ expected);
    }
    if difference == 0 { Ok(()) } else { Err(wrong_content(bytes, sequence)) }
}

/// Writes the sequence into the first word of `bytes`, its complement into the last; leaves the rest as it is.
#[inline]
pub(crate) fn seal(bytes: &mut [u8], sequence: u64) {
    let len = bytes.len();
    let first = len.min(8);
    bytes[..first].copy_from_slice(&sequence.to_ne_bytes()[..first]);
    if len >= 16 {
        bytes[len - 8..].copy_from_slice(&(!sequence).to_ne_bytes());
    }
}

/// Checks what [`seal`] wrote.
#[inline]
pub(crate) fn check_seal(bytes: &[u8], size: usize, sequence: u64) -> Result<(), Failure> {
    let len = bytes.len();
    if len != size {
        return Err(wrong_length(len, size, sequence));
    }
    let first = len.min(8);
    let begins = bytes[..first] == sequence.to_ne_bytes()[..first];
    let ends = len < 16 || word_of(&bytes[len - 8..]) == !sequence;
    if begins && ends { Ok(()) } else { Err(wrong_content(bytes, sequence)) }
}

/// The number that a stamped message was written for, if its length, its first and its last word agree: a quick look for what is torn.
#[inline(always)]
pub(crate) fn number_of(bytes: &[u8], size: usize) -> Result<u64, Failure> {
    let words = bytes.len() / 8;
    if bytes.len() != size || words == 0 {
        return Err(wrong_length(bytes.len(), size, 0));
    }
    let (first, last) = (word_of(&bytes[..8]), word_of(&bytes[words * 8 - 8..words * 8]));
    let due = first.wrapping_add(STEP.wrapping_mul(words as u64 - 1));
    if last == due { Ok(first) } else { Err(wrong_content(bytes, first)) }
}

/// The word in eight bytes; shorter input does not occur and reads as zero.
#[inline(always)]
fn word_of(chunk: &[u8]) -> u64 {
    chunk.try_into().map_or(0, u64::from_ne_bytes)
}

#[cold]
#[inline(never)]
fn wrong_length(found: usize, expected: usize, sequence: u64) -> Failure {
    Failure::new(format_args!("message {sequence} has {found} bytes instead of {expected}"))
}

#[cold]
#[inline(never)]
fn wrong_content(bytes: &[u8], sequence: u64) -> Failure {
    match bytes.get(..8).map(word_of) {
        None => Failure::new(format_args!("expected message {sequence}, the bytes are {bytes:?}")),
        Some(found) if found != sequence => Failure::new(format_args!(
            "expected message {sequence}, the bytes say {found}: lost, repeated or out of order"
        )),
        Some(_) => {
            Failure::new(format_args!("message {sequence} is damaged: its sequence is right, its payload is not"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_passes_at_every_size() {
        for size in 1..200 {
            let mut bytes = vec![0xAA; size];
            stamp(&mut bytes, 77);
            check(&bytes, size, 77).unwrap();
            seal(&mut bytes, 78);
            check_seal(&bytes, size, 78).unwrap();
        }
    }

    #[test]
    fn every_flipped_byte_is_found() {
        for size in [1, 8, 20, 64, 71] {
            for at in 0..size {
                let mut bytes = vec![0; size];
                stamp(&mut bytes, 5);
                bytes[at] ^= 1;
                assert!(check(&bytes, size, 5).is_err(), "byte {at} of {size}");
            }
        }
    }

    #[test]
    fn another_messages_bytes_are_named() {
        let mut bytes = [0; 64];
        stamp(&mut bytes, 9);
        let failure = check(&bytes, 64, 8).unwrap_err().to_string();
        assert!(failure.contains("expected message 8, the bytes say 9"), "{failure}");
        assert!(check(&bytes, 63, 9).unwrap_err().to_string().contains("64 bytes instead of 63"));
        bytes[60] ^= 1;
        assert!(check(&bytes, 64, 9).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_torn_message_is_seen_by_its_ends() {
        let mut bytes = [0; 64];
        stamp(&mut bytes, 9);
        assert_eq!(number_of(&bytes, 64), Ok(9));
        stamp(&mut bytes[..32], 10);
        assert!(number_of(&bytes, 64).is_err());
        assert!(number_of(&bytes[..7], 7).is_err(), "too short for a number");
    }

    #[test]
    fn a_seal_broken_at_either_end_is_found() {
        for at in [0, 7, 4088, 4095] {
            let mut bytes = vec![0; 4096];
            seal(&mut bytes, 3);
            bytes[at] ^= 1;
            assert!(check_seal(&bytes, 4096, 3).is_err(), "byte {at}");
        }
    }
}
