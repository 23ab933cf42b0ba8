//! A letter, and what it begins with. Little-endian; a reserved byte is written as zero and not looked at.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | length of the sender's name, 0 to 200; 0 if it has none |
//! | 2 | 2 | reserved |
//! | 4 | 4 | the sender's pid |
//! | 8 | 4 | the sender's uid |
//! | 12 | | the sender's name, UTF-8; then the letter |

use crate::address::{NAME_MAX, Name};
use crate::heading::{VERSION, get32};
use crate::message::Message;
use ginnel_os::process;
use std::fmt;
use std::ops::Deref;

const FIXED: usize = 12;

/// What a letter begins with: a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LetterHeading {
    pub(super) sender: String,
    pub(super) pid: u32,
    pub(super) uid: u32,
}

impl LetterHeading {
    /// The longest one, in bytes.
    pub(super) const MOST: usize = FIXED + NAME_MAX;

    /// Of this process, under a name of at most [`NAME_MAX`] bytes. The bytes, and how many.
    pub(super) fn of_this_process(name: &str) -> ([u8; Self::MOST], usize) {
        debug_assert!(name.len() <= NAME_MAX);
        let mut bytes = [0; Self::MOST];
        bytes[0] = VERSION;
        bytes[1] = name.len() as u8;
        bytes[4..8].copy_from_slice(&process::id().to_le_bytes());
        bytes[8..12].copy_from_slice(&process::user().to_le_bytes());
        bytes[FIXED..FIXED + name.len()].copy_from_slice(name.as_bytes());
        (bytes, FIXED + name.len())
    }

    /// With the offset at which the letter itself begins. `None` if the message does not begin with one.
    pub(super) fn parse(message: &[u8]) -> Option<(Self, usize)> {
        let fixed: [u8; FIXED] = *message.first_chunk()?;
        if fixed[0] != VERSION {
            return None;
        }
        let end = FIXED + usize::from(fixed[1]);
        // Copied before it is looked at: a peer that changes it later changes nothing here.
        let name = message.get(FIXED..end)?.to_vec();
        let sender = String::from_utf8(name).ok()?;
        if !sender.is_empty() {
            Name::new(&sender).ok()?;
        }
        Some((Self { sender, pid: get32(&fixed, 4), uid: get32(&fixed, 8) }, end))
    }
}

/// A letter in hand. It derefs to its bytes, which lie in the mailbox's link; dropping it releases its place. If the owner is killed before that, the
/// next owner of the name gets it, [marked](Self::redelivered).
pub struct Letter<'m> {
    message: Message<'m>,
    heading: LetterHeading,
    begins: usize,
}

impl<'m> Letter<'m> {
    /// `None` if the message is no letter; then it is gone.
    pub(super) fn new(message: Message<'m>) -> Option<Self> {
        let (heading, begins) = LetterHeading::parse(&message)?;
        Some(Self { message, heading, begins })
    }

    /// The name of the mailbox from which it was sent; empty if it was sent from none.
    pub fn sender(&self) -> &str {
        &self.heading.sender
    }

    /// The process id of its sender, in its own PID namespace.
    pub fn pid(&self) -> u32 {
        self.heading.pid
    }

    /// The effective user of its sender, in its own user namespace, when that opened this mailbox for sending: as the
    /// credentials of a connected socket, `SO_PEERCRED` of unix(7).
    pub fn uid(&self) -> u32 {
        self.heading.uid
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self
    }

    /// Whether an owner of the name that died, or left without reading it, had this letter in hand before.
    pub fn redelivered(&self) -> bool {
        self.message.redelivered()
    }
}

impl Deref for Letter<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.message[self.begins..]
    }
}

impl AsRef<[u8]> for Letter<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("sender", &self.sender())
            .field("pid", &self.pid())
            .field("uid", &self.uid())
            .field("len", &self.len())
            .field("redelivered", &self.redelivered())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_is_read_as_it_was_written() {
        for name in ["", "alice", "ü", &"x".repeat(NAME_MAX)] {
            let (bytes, len) = LetterHeading::of_this_process(name);
            let message = [&bytes[..len], b"body"].concat();
            let (heading, begins) = LetterHeading::parse(&message).unwrap();
            assert_eq!((heading.sender.as_str(), &message[begins..]), (name, &b"body"[..]));
            assert_eq!((heading.pid, heading.uid), (process::id(), process::user()));
        }
    }

    #[test]
    fn what_is_no_heading_is_refused() {
        let (bytes, len) = LetterHeading::of_this_process("alice");
        for short in 0..len {
            assert_eq!(LetterHeading::parse(&bytes[..short]), None, "{short}");
        }
        let with = |at: usize, byte: u8| {
            let mut bad = bytes;
            bad[at] = byte;
            LetterHeading::parse(&bad[..len])
        };
        assert_eq!(with(0, 2), None, "another version");
        assert_eq!(with(1, 255), None, "a name longer than the message");
        assert_eq!(with(FIXED, 0xFF), None, "no UTF-8");
        assert_eq!(with(FIXED, b'/'), None, "no name");
        assert_eq!(with(FIXED, 0), None, "no name");
        let mut long = vec![b'x'; 300];
        long[..FIXED].copy_from_slice(&bytes[..FIXED]);
        long[1] = 201;
        assert_eq!(LetterHeading::parse(&long), None, "longer than any name");
    }
}
