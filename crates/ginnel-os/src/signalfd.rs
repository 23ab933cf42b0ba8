//! `signalfd(2)`: signals as something to read, beside other descriptors in one `poll(2)`.
//!
//! - The signals are blocked, in every thread if they are sent to the process: see [`crate::sigset`]. A blocked signal stays pending until somebody
//!   reads it, here or with `sigtimedwait(2)`.
//! - A thread sees its own signals and those of its process, whoever made the descriptor. So does a process: a forked child reads its own. For the
//!   same reason a descriptor in an `epoll(7)` tells of the signals of the process that put it there.
//! - The description does not block, as nothing of this crate's is left to share it with.
#![allow(unsafe_code)] // signalfd(2) takes a signal set.

use crate::explain::not_opened;
use crate::poll;
use crate::signal::{Fields, Info};
use crate::sigset::Set;
use rustix::io::Errno;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

/// Bytes of a `signalfd_siginfo`.
const RECORD: usize = size_of::<libc::signalfd_siginfo>();

/// Records that one call reads.
const AT_ONCE: usize = 16;

/// A descriptor that is readable while a signal of a set is pending.
///
/// ```
/// use ginnel_os::{signal::{self, Signal}, signalfd::SignalFd, sigset::Set};
///
/// let set = Set::from_iter([Signal::USR1]);
/// let _blocked = set.block();
/// let signals = SignalFd::new(&set)?;
/// signal::send(std::process::id(), Signal::USR1)?;
/// assert_eq!(signals.read(None)?.signal, Signal::USR1);
/// assert_eq!(signals.try_read().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// `signalfd(2)`. It blocks nothing: that is [`Set::block`]'s.
    ///
    /// # Errors
    /// The errno: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(set: &Set) -> io::Result<Self> {
        // SAFETY: the set is valid for the call.
        let file = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if file < 0 {
            return Err(not_opened(io::Error::last_os_error()));
        }
        // SAFETY: it was made just now and is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(file) }))
    }

    /// `signalfd(2)` again: from now on it is about another set.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{signal::Signal, signalfd::SignalFd, sigset::Set};
    ///
    /// let signals = SignalFd::new(&Set::empty())?;
    /// signals.set(&Set::from_iter([Signal::USR1]))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set(&self, set: &Set) -> io::Result<()> {
        // SAFETY: the descriptor is open, the set valid for the call.
        let file = unsafe { libc::signalfd(self.0.as_raw_fd(), set.as_ptr(), 0) };
        if file < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// `read(2)`: takes a signal, once there is one.
    ///
    /// # Errors
    /// The errno; `TimedOut` when none came until the deadline.
    pub fn read(&self, deadline: Option<Instant>) -> io::Result<Info> {
        let mut buffer = [0; RECORD];
        self.fill(&mut buffer, deadline)?;
        Ok(info(&buffer))
    }

    /// `read(2)`: takes a signal that is pending.
    ///
    /// # Errors
    /// The errno; `WouldBlock` when none is.
    pub fn try_read(&self) -> io::Result<Info> {
        let mut buffer = [0; RECORD];
        self.try_fill(&mut buffer)?;
        Ok(info(&buffer))
    }

    /// `read(2)` of several: puts those that are pending behind what the vector has, once there is one, and says how many. That is at most 16; the
    /// next call takes more.
    ///
    /// # Errors
    /// As [`Self::read`].
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{signal::{self, Signal, Value}, signalfd::SignalFd, sigset::Set};
    ///
    /// let signal = Signal::real_time(2)?;
    /// let set = Set::from_iter([signal]);
    /// let _blocked = set.block();
    /// for number in 0..3 {
    ///     signal::queue(std::process::id(), signal, Value::from_int(number))?;
    /// }
    /// let mut taken = Vec::new();
    /// assert_eq!(SignalFd::new(&set)?.read_some(&mut taken, None)?, 3);
    /// assert_eq!(taken[2].value.map(Value::as_int), Some(2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_some(&self, into: &mut Vec<Info>, deadline: Option<Instant>) -> io::Result<usize> {
        let mut buffer = [0; RECORD * AT_ONCE];
        let bytes = self.fill(&mut buffer, deadline)?;
        into.extend(buffer[..bytes].chunks_exact(RECORD).map(info));
        Ok(bytes / RECORD)
    }

    fn fill(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            match self.try_fill(buffer) {
                Err(Errno::AGAIN) if deadline.is_some_and(|at| Instant::now() >= at) => {
                    return Err(Errno::TIMEDOUT.into());
                }
                Err(Errno::AGAIN) => drop(poll::readable(&[self.0.as_fd()], deadline)?),
                result => return Ok(result?),
            }
        }
    }

    fn try_fill(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut *buffer))
    }
}

/// The fields of a record that is as long as one.
fn info(record: &[u8]) -> Info {
    let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| record[at + byte]));
    let pointer = offset_of!(libc::signalfd_siginfo, ssi_ptr);
    Info::of(&Fields {
        signal: word(offset_of!(libc::signalfd_siginfo, ssi_signo)) as i32,
        code: word(offset_of!(libc::signalfd_siginfo, ssi_code)) as i32,
        pid: word(offset_of!(libc::signalfd_siginfo, ssi_pid)),
        uid: word(offset_of!(libc::signalfd_siginfo, ssi_uid)),
        word: u64::from_ne_bytes(std::array::from_fn(|byte| record[pointer + byte])) as usize,
        status: word(offset_of!(libc::signalfd_siginfo, ssi_status)) as i32,
    })
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<SignalFd> for OwnedFd {
    fn from(signals: SignalFd) -> Self {
        signals.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{self, Signal, Value};
    use crate::storm::{Storm, in_child};
    use std::time::Duration;

    #[test]
    fn a_deadline_holds_in_a_storm_of_signals() {
        let set = Set::from_iter([Signal::USR2]);
        let _blocked = set.block();
        let signals = SignalFd::new(&set).unwrap();
        assert_eq!(signals.read(Some(Instant::now())).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let _storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(signals.read(Some(until)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
    }

    #[test]
    fn several_are_taken_at_once_and_no_more_than_fit() {
        in_child(|| {
            let signal = Signal::real_time(1).unwrap();
            let set = Set::from_iter([signal]);
            let _blocked = set.block();
            let signals = SignalFd::new(&Set::empty()).unwrap();
            for number in 0..20 {
                signal::queue(std::process::id(), signal, Value::from_int(-number)).unwrap();
            }
            assert!(signals.try_read().is_err());
            signals.set(&set).unwrap();
            let first = signals.try_read().unwrap();
            assert_eq!((first.signal, first.code), (signal, libc::SI_QUEUE));
            assert_eq!(first.sender.unwrap().pid, std::process::id());
            let mut taken = vec![first];
            assert_eq!(signals.read_some(&mut taken, None).unwrap(), AT_ONCE);
            assert_eq!(signals.read_some(&mut taken, None).unwrap(), 3);
            let values: Vec<_> = taken.iter().map(|info| -info.value.unwrap().as_int()).collect();
            assert_eq!(values, (0..20).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_child_that_ends_is_told_with_its_status() {
        in_child(|| {
            let set = Set::from_iter([Signal::CHLD]);
            let _blocked = set.block();
            let signals = SignalFd::new(&set).unwrap();
            let mut child = std::process::Command::new("sh").args(["-c", "kill -TERM $$"]).spawn().unwrap();
            let info = signals.read(Some(Instant::now() + Duration::from_secs(20))).unwrap();
            assert_eq!(info.sender.unwrap().pid, child.id());
            assert_eq!((info.code, info.status), (libc::CLD_KILLED, Some(libc::SIGTERM)));
            child.wait().unwrap();
        });
    }
}
