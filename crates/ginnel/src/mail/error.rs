//! What goes wrong with letters.

use crate::error::{Error, RecvFailure, SendFailure};
use std::fmt;

/// Why a letter was not sent, or none was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum MailFailure {
    /// There is no letter now.
    Empty,
    /// The deadline came first: no letter came, or nobody took the name, or it stayed full.
    TimedOut,
    /// Nobody has the name, and the sender asked for that to be refused: see [`Absent::Refuse`](super::Absent::Refuse).
    Nobody,
    /// What came is no letter. It is gone; the next can be received.
    Malformed,
    /// Letters of others are set aside, and the mailbox has no room, or no memory, for one from the sender that is waited for: receive those first.
    SetAside {
        /// How many.
        letters: usize,
        /// Letters that the mailbox holds at most, counted from the oldest.
        capacity: u64,
    },
    /// The letter is longer than the mailbox allows.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The largest that the mailbox allows from this sender, in bytes.
        max: u64,
    },
    /// The letter was not sent.
    NotSent(SendFailure),
    /// The mailbox cannot be opened, or its name cannot be understood.
    Setup(Box<Error>),
    /// The mailbox can no longer be used, or the wait was interrupted.
    Broken(RecvFailure),
}

/// A letter was not sent, or none was received.
#[derive(Debug)]
pub struct MailError {
    pub(super) reason: MailFailure,
    /// What was tried: "send to", "receive from".
    pub(super) tried: &'static str,
    pub(super) mailbox: String,
}

impl MailError {
    /// Why.
    pub fn reason(&self) -> &MailFailure {
        &self.reason
    }
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let MailFailure::Setup(e) = &self.reason {
            return e.fmt(f); // which names the object
        }
        write!(f, "cannot {} the mailbox {}: ", self.tried, self.mailbox)?;
        match &self.reason {
            MailFailure::Empty => f.write_str("there is no letter now; wait with recv"),
            MailFailure::TimedOut if self.tried == "send to" => {
                f.write_str("timed out: nobody has the name, or it stayed full; `ginnel info` shows which, a longer timeout waits longer")
            }
            MailFailure::TimedOut => f.write_str("timed out: no letter came; a longer timeout waits longer"),
            MailFailure::Nobody => f.write_str("nobody has that name; open it, or send with Absent::Wait or Absent::Keep"),
            MailFailure::Malformed => f.write_str("what came is no letter; its sender must use the same version of ginnel"),
            MailFailure::SetAside { letters, capacity } => write!(
                f,
                "{letters} letters of others are set aside, and it holds {capacity}; receive them, or make it anew with a larger ?capacity= or ?memory="
            ),
            MailFailure::TooLarge { len, max } => {
                write!(f, "the letter has {len} bytes, it allows {max}; make it anew with a larger ?max=")
            }
            MailFailure::NotSent(SendFailure::Full { capacity }) => {
                write!(f, "it is full with {capacity} letters; its owner must receive some, or make it anew with a larger ?capacity=")
            }
            MailFailure::NotSent(SendFailure::NoMemory { ceiling }) => {
                write!(f, "its {ceiling} bytes of block memory are in use; its owner must receive some letters, or make it anew with a larger ?memory=")
            }
            MailFailure::NotSent(SendFailure::Closed { died }) => {
                write!(f, "it is full, and its owner has left ({died} killed); open the name to receive what is there")
            }
            MailFailure::NotSent(SendFailure::Interrupted) | MailFailure::Broken(RecvFailure::Interrupted) => {
                f.write_str("the wait was interrupted")
            }
            MailFailure::NotSent(SendFailure::Forked) | MailFailure::Broken(RecvFailure::Forked) => {
                f.write_str("the handle belongs to the parent of this process; open one of its own")
            }
            MailFailure::NotSent(SendFailure::Corrupt(what)) | MailFailure::Broken(RecvFailure::Corrupt(what)) => {
                write!(f, "{what}: a peer damaged it; remove it with `ginnel rm --force`")
            }
            MailFailure::NotSent(SendFailure::NoSpace(e)) => {
                write!(f, "no memory could be committed: {e}; free some with `ginnel clean`")
            }
            MailFailure::NotSent(other) => other.explain(f, &self.mailbox),
            MailFailure::Broken(other) => other.explain(f, &self.mailbox),
            MailFailure::Setup(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for MailError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            MailFailure::Setup(e) => Some(&**e),
            MailFailure::NotSent(SendFailure::NoSpace(e) | SendFailure::Os(e)) => Some(e),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_code() {
        for (reason, remedy) in [
            (MailFailure::NotSent(SendFailure::NoRoom { limit: "writers", value: 7 }), "raise that limit"),
            (MailFailure::Broken(RecvFailure::CutOff { missed: 3 }), "?capacity="),
        ] {
            let said = MailError { reason, tried: "send to", mailbox: "bob".into() }.to_string();
            assert!(said.contains(remedy) && !said.contains(['{', '}']), "{said}");
        }
    }
}
