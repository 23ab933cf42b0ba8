//! Sending letters: to any name, from a mailbox or from nobody.

use super::error::{MailError, MailFailure};
use super::letter::LetterHeading;
use super::name;
use crate::error::{ErrorKind, SendFailure};
use crate::heading;
use crate::shm::{self, Mode};
use crate::wait::Until;
use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, Instant};

/// Mailboxes that stay open for sending.
const OUTLETS_MAX: usize = 64;
/// How often a mailbox may be removed by force under a sender's hands before the sender gives up.
const TRIES: usize = 100;

/// What happens to a letter to a name that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Absent {
    /// It is kept in the link of that name, which is made if need be, for whoever takes the name: as on any link.
    #[default]
    Keep,
    /// It is refused: [`MailFailure::Nobody`](super::MailFailure::Nobody). An owner that is killed a moment later does not make a letter refused that was sent.
    Refuse,
    /// The sender waits until somebody takes the name.
    Wait,
}

/// Sends letters that come from no mailbox. [`Mailbox`](super::Mailbox) sends such as do. A handle may move between threads, but one at a time uses it.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::mail::{Absent, Mailbox, Post};
///
/// let post = Post::new().absent(Absent::Refuse);
/// assert!(post.send_to("carol", b"hello").is_err());
/// let carol = Mailbox::open("carol")?;
/// post.send_to("carol", b"hello")?;
/// let letter = carol.recv()?;
/// assert_eq!((&*letter, letter.sender(), letter.pid()), (&b"hello"[..], "", std::process::id()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Post {
    /// The name from which letters come; empty for none.
    from: String,
    absent: Absent,
    /// Where a name without a scheme is.
    scheme: &'static str,
    /// Mailboxes that are open, the one that was used last at the end.
    outlets: RefCell<Vec<Outlet>>,
}

/// A mailbox that is open for sending.
struct Outlet {
    to: String,
    sender: shm::Sender,
    /// What each letter begins with: who sent it, by this handle. A forked child cannot send by it, so the pid stays true.
    heading: Box<[u8]>,
}

/// Why a try failed.
enum Refusal {
    /// The mailbox was removed by force: another may have its name.
    Removed,
    Failed(MailFailure),
}

impl Default for Post {
    fn default() -> Self {
        Self::new()
    }
}

impl Post {
    /// A sender without a name.
    pub fn new() -> Self {
        Self::from(String::new(), "shm")
    }

    pub(super) fn from(from: String, scheme: &'static str) -> Self {
        Self { from, absent: Absent::default(), scheme, outlets: RefCell::default() }
    }

    /// What happens to letters, from now on, to a name that nobody has. Default [`Absent::Keep`].
    #[must_use]
    pub fn absent(mut self, absent: Absent) -> Self {
        self.set_absent(absent);
        self
    }

    pub(super) fn set_absent(&mut self, absent: Absent) {
        self.absent = absent;
    }

    /// Sends a letter. Waits while the mailbox is full, and for an owner if [asked](Absent::Wait).
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn send_to(&self, to: &str, letter: &[u8]) -> Result<(), MailError> {
        self.send_until(to, letter, Until::Forever)
    }

    /// Sends a letter if there is room now, and an owner if one is [waited for](Absent::Wait).
    ///
    /// # Errors
    /// As [`Self::send_to`].
    pub fn try_send_to(&self, to: &str, letter: &[u8]) -> Result<(), MailError> {
        self.send_until(to, letter, Until::Now)
    }

    /// As [`Self::send_to`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::send_to`], and [`MailFailure::TimedOut`](super::MailFailure::TimedOut).
    pub fn send_to_timeout(&self, to: &str, letter: &[u8], timeout: Duration) -> Result<(), MailError> {
        self.send_until(to, letter, Until::after(timeout))
    }

    /// As [`Self::send_to`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_to`], and [`MailFailure::TimedOut`](super::MailFailure::TimedOut).
    pub fn send_to_deadline(&self, to: &str, letter: &[u8], deadline: Instant) -> Result<(), MailError> {
        self.send_until(to, letter, Until::Instant(deadline))
    }

    // ---- how

    pub(super) fn send_until(&self, to: &str, letter: &[u8], until: Until) -> Result<(), MailError> {
        let error = |reason| MailError { reason, tried: "send to", mailbox: to.to_owned() };
        for _ in 0..TRIES {
            match self.try_once(to, letter, until) {
                Ok(()) => return Ok(()),
                Err(Refusal::Failed(reason)) => return Err(error(reason)),
                Err(Refusal::Removed) => self.outlets.borrow_mut().retain(|outlet| outlet.to != to),
            }
        }
        Err(error(MailFailure::Nobody))
    }

    fn try_once(&self, to: &str, letter: &[u8], until: Until) -> Result<(), Refusal> {
        self.open(to).map_err(Refusal::Failed)?;
        let outlets = self.outlets.borrow();
        let Some(Outlet { sender, heading, .. }) = outlets.last() else { return Err(Refusal::Removed) };
        if sender.engine().is_removed() {
            return Err(Refusal::Removed);
        }
        self.look_for_owner(sender, until)?;
        let max = sender.max_message().saturating_sub(heading.len() as u64);
        if letter.len() as u64 > max {
            return Err(Refusal::Failed(MailFailure::TooLarge { len: letter.len(), max }));
        }
        heading::send(sender, heading, letter, until).map_err(|e| failed(e.reason))
    }

    /// Whether the letter may be sent though perhaps nobody has the name.
    fn look_for_owner(&self, sender: &shm::Sender, until: Until) -> Result<(), Refusal> {
        if self.absent == Absent::Keep {
            return Ok(());
        }
        sender.region().settle(); // one who was killed has no name any more
        match self.absent {
            _ if sender.has_receiver() => Ok(()),
            Absent::Wait => match sender.wait_for_receiver(until) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Refusal::Removed),
                Err(SendFailure::Full { .. }) => Err(Refusal::Failed(MailFailure::Nobody)),
                Err(reason) => Err(failed(reason)),
            },
            _ => Err(Refusal::Failed(MailFailure::Nobody)),
        }
    }

    /// Has a mailbox open at the end of the list.
    fn open(&self, to: &str) -> Result<(), MailFailure> {
        let mut outlets = self.outlets.borrow_mut();
        match outlets.iter().rposition(|outlet| outlet.to == to) {
            Some(at) if at + 1 == outlets.len() => return Ok(()),
            Some(at) => {
                outlets[at..].rotate_left(1);
                return Ok(());
            }
            None => {}
        }
        let mut spec = name::parse(to, self.scheme).map_err(|e| MailFailure::Setup(Box::new(e)))?;
        // Who keeps a letter has it told when the mailbox is full and nobody will make room.
        spec.follow = self.absent == Absent::Wait;
        let mode = if self.absent == Absent::Refuse { Mode::Join } else { Mode::Open };
        let sender = shm::Sender::open(&spec, mode).map_err(|e| match e.kind() {
            ErrorKind::NotFound if mode == Mode::Join => MailFailure::Nobody,
            _ => MailFailure::Setup(Box::new(e)),
        })?;
        if outlets.len() >= OUTLETS_MAX {
            outlets.remove(0);
        }
        let (heading, len) = LetterHeading::of_this_process(&self.from);
        outlets.push(Outlet { to: to.to_owned(), sender, heading: heading[..len].into() });
        Ok(())
    }
}

fn failed(reason: SendFailure) -> Refusal {
    Refusal::Failed(match reason {
        SendFailure::TimedOut { .. } => MailFailure::TimedOut,
        other => MailFailure::NotSent(other),
    })
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("from", &self.from).field("absent", &self.absent).finish_non_exhaustive()
    }
}
