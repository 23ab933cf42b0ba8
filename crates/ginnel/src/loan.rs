//! A message being written in place.

use crate::error::{CommitError, SendError};
use crate::kernel;
use crate::shm;
use crate::wait::Until;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// Bytes of a link, lent to write a message into. [`commit`](Self::commit) sends it, dropping it does not.
///
/// On a shared-memory link, messages of up to 112 bytes are written into the guard and copied when they are committed: that costs less than
/// a block. Where the kernel carries the messages, and of [`Shape::Latest`](crate::Shape::Latest), the bytes are a buffer of this process.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// let sender = ginnel::Sender::open("shm:frames")?;
/// let receiver = ginnel::Receiver::open("shm:frames")?;
/// let mut frame = sender.loan(1 << 20)?;
/// frame.fill(7);
/// frame.commit()?;
/// assert!(receiver.recv()?.iter().all(|byte| *byte == 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a loan that is not committed is not sent"]
pub struct Loan<'a> {
    place: Place<'a>,
}

enum Place<'a> {
    Shm(shm::Loan<'a>),
    Latest { sender: &'a shm::LatestSender, bytes: Vec<u8>, tag: u16 },
    Kernel { sender: &'a kernel::Sender, bytes: Vec<u8>, tag: u16 },
}

#[allow(clippy::result_large_err, reason = "the error is the loan itself, handed back")]
impl<'a> Loan<'a> {
    pub(crate) fn shm(loan: shm::Loan<'a>) -> Self {
        Self { place: Place::Shm(loan) }
    }

    pub(crate) fn latest(sender: &'a shm::LatestSender, bytes: Vec<u8>) -> Self {
        Self { place: Place::Latest { sender, bytes, tag: 0 } }
    }

    pub(crate) fn kernel(sender: &'a kernel::Sender, bytes: Vec<u8>) -> Self {
        Self { place: Place::Kernel { sender, bytes, tag: 0 } }
    }

    /// Sets the tag that travels with the message; 0 otherwise.
    pub fn set_tag(&mut self, tag: u16) {
        match &mut self.place {
            Place::Shm(loan) => loan.set_tag(tag),
            Place::Latest { tag: place, .. } | Place::Kernel { tag: place, .. } => *place = tag,
        }
    }

    /// Sends the message; waits while the link is full, unless it was made to reject or to drop the oldest.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send); the loan is given up. The other forms give it back.
    pub fn commit(self) -> Result<(), SendError> {
        Ok(self.commit_until(Until::Forever)?)
    }

    /// Sends the message if there is room now.
    ///
    /// # Errors
    /// With the loan, as [`Sender::try_send`](crate::Sender::try_send).
    pub fn try_commit(self) -> Result<(), CommitError<'a>> {
        self.commit_until(Until::Now)
    }

    /// Sends the message, waiting for room for at most this long.
    ///
    /// # Errors
    /// With the loan, as [`Sender::send_timeout`](crate::Sender::send_timeout).
    pub fn commit_timeout(self, timeout: Duration) -> Result<(), CommitError<'a>> {
        self.commit_until(Until::after(timeout))
    }

    /// Sends the message, waiting for room until then at most.
    ///
    /// # Errors
    /// With the loan, as [`Sender::send_deadline`](crate::Sender::send_deadline).
    pub fn commit_deadline(self, deadline: Instant) -> Result<(), CommitError<'a>> {
        self.commit_until(Until::Instant(deadline))
    }

    fn commit_until(self, until: Until) -> Result<(), CommitError<'a>> {
        match self.place {
            Place::Shm(loan) => {
                loan.commit_until(until).map_err(|(loan, error)| CommitError { loan: Self::shm(loan), error })
            }
            Place::Latest { sender, bytes, tag } => {
                let sent = sender.send_until(tag, &bytes, until);
                sent.map_err(|error| CommitError { loan: Self { place: Place::Latest { sender, bytes, tag } }, error })
            }
            Place::Kernel { sender, bytes, tag } => match sender.send_until(tag, &bytes, until) {
                Ok(()) => {
                    sender.give_back(bytes);
                    Ok(())
                }
                Err(error) => Err(CommitError { loan: Self { place: Place::Kernel { sender, bytes, tag } }, error }),
            },
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Shm(loan) => loan,
            Place::Latest { bytes, .. } | Place::Kernel { bytes, .. } => bytes,
        }
    }
}

impl DerefMut for Loan<'_> {
    /// # Panics
    /// In a forked child, on a shared-memory link: the loan is its parent's.
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.place {
            Place::Shm(loan) => loan,
            Place::Latest { bytes, .. } | Place::Kernel { bytes, .. } => bytes,
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len()).finish_non_exhaustive()
    }
}
