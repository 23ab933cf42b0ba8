//! What a request and a response begin with. Little-endian; a reserved byte is written as zero and not looked at.
//!
//! | request | bytes | what | | response | bytes | what |
//! |---|---|---|---|---|---|---|
//! | 0 | 1 | version, 1 | | 0 | 1 | version, 1 |
//! | 1 | 1 | flags: 1 tell the client of a death, instead of redelivering | | 1 | 1 | kind, see [`Kind`] |
//! | 2 | 2 | reserved | | 2 | 1 | flags: 1 the request had been in the hands of a server that died |
//! | 4 | 4 | the client's pid | | 3 | 1 | reserved |
//! | 8 | 8 | the random part of the name of its link | | 4 | 4 | the server's pid |
//! | 16 | 8 | the call, from 1 | | 8 | 8 | the call |
//! | 24 | 8 | deadline, ns on the monotonic clock; 0 none | | | | |

use crate::heading::{VERSION, get32, get64};

const TELL: u8 = 1;
const REDELIVERED: u8 = 1;

/// The heading of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHeading {
    /// The client wants to be told when a server dies with its request.
    pub(super) tell: bool,
    pub(super) pid: u32,
    pub(super) random: u64,
    pub(super) call: u64,
    pub(super) deadline_ns: u64,
}

impl RequestHeading {
    pub(super) const BYTES: usize = 32;

    #[inline]
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let flags = if self.tell { TELL } else { 0 };
        // By whole words: what is read in larger pieces than it was written has to wait for the memory.
        let first = u64::from(VERSION) | u64::from(flags) << 8 | u64::from(self.pid) << 32;
        let mut bytes = [0; Self::BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip([first, self.random, self.call, self.deadline_ns]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None` if the message does not begin with one.
    #[inline]
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        // Copied out first: each byte is read once.
        let bytes: [u8; Self::BYTES] = *message.first_chunk()?;
        (bytes[0] == VERSION).then(|| Self {
            tell: bytes[1] & TELL != 0,
            pid: get32(&bytes, 4),
            random: get64(&bytes, 8),
            call: get64(&bytes, 16),
            deadline_ns: get64(&bytes, 24),
        })
    }
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// One of several: more follow.
    Part = 0,
    /// The last, or only one.
    Last = 1,
    /// No more follow, and this is none.
    Finished = 2,
    /// The server let go of the request without an answer.
    GivenUp = 3,
    /// Another server died with the request in hand, and the client asked to be told.
    Died = 4,
    /// The request failed; the bytes say why.
    Failed = 5,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Part, Self::Last, Self::Finished, Self::GivenUp, Self::Died, Self::Failed];

    /// Whether it ends the call.
    pub(super) fn ends(self) -> bool {
        self != Self::Part
    }
}

/// The heading of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseHeading {
    pub(super) kind: Kind,
    pub(super) redelivered: bool,
    pub(super) pid: u32,
    pub(super) call: u64,
}

impl ResponseHeading {
    pub(super) const BYTES: usize = 16;

    #[inline]
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let flags = if self.redelivered { REDELIVERED } else { 0 };
        let first =
            u64::from(VERSION) | u64::from(self.kind as u8) << 8 | u64::from(flags) << 16 | u64::from(self.pid) << 32;
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&self.call.to_le_bytes());
        bytes
    }

    /// `None` if the message does not begin with one.
    #[inline]
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = *message.first_chunk()?;
        if bytes[0] != VERSION {
            return None;
        }
        Some(Self {
            kind: *Kind::ALL.get(usize::from(bytes[1]))?,
            redelivered: bytes[2] & REDELIVERED != 0,
            pid: get32(&bytes, 4),
            call: get64(&bytes, 8),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_read_as_they_were_written() {
        let request = RequestHeading { tell: true, pid: 7, random: u64::MAX - 3, call: 1 << 40, deadline_ns: 5 };
        let bytes = request.encode();
        assert_eq!(RequestHeading::parse(&bytes), Some(request));
        assert_eq!(bytes[..8], [1, 1, 0, 0, 7, 0, 0, 0], "as docs/format.md has it");
        for (code, kind) in Kind::ALL.into_iter().enumerate() {
            let response = ResponseHeading { kind, redelivered: code % 2 == 1, pid: 9, call: 3 };
            assert_eq!(ResponseHeading::parse(&response.encode()), Some(response));
            assert_eq!(response.encode()[1], code as u8);
        }
    }

    #[test]
    fn what_is_no_heading_is_refused() {
        let request = RequestHeading { tell: false, pid: 0, random: 0, call: 0, deadline_ns: 0 }.encode();
        let response = ResponseHeading { kind: Kind::Last, redelivered: false, pid: 0, call: 0 }.encode();
        for short in 0..32 {
            assert_eq!(RequestHeading::parse(&request[..short]), None);
            assert_eq!(ResponseHeading::parse(&response[..short.min(15)]), None);
        }
        for version in [0, 2, 255] {
            assert_eq!(RequestHeading::parse(&[&[version], &request[1..]].concat()), None);
            assert_eq!(ResponseHeading::parse(&[&[version], &response[1..]].concat()), None);
        }
        for kind in 6..=255 {
            assert_eq!(ResponseHeading::parse(&[&[1, kind], &response[2..]].concat()), None);
        }
    }
}
