//! `timerfd_create(2)`: a moment on the monotonic clock as a descriptor, which is readable once it has come: for who can wait for descriptors only.

use crate::explain::not_opened;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A timer that goes off once.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// `timerfd_create(2)`: not readable, until it is set.
    ///
    /// # Errors
    /// The errno: `EMFILE`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(not_opened)?))
    }

    /// `timerfd_settime(2)`: readable after this time from now, and not before, whatever it was set to. No time at all counts as a nanosecond.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{poll, timerfd::TimerFd};
    /// use std::os::fd::AsFd;
    /// use std::time::Duration;
    ///
    /// let timer = TimerFd::new()?;
    /// timer.set(Duration::from_secs(1000))?;
    /// assert!(!poll::is_readable(timer.as_fd())?);
    /// timer.set(Duration::from_millis(1))?;
    /// assert!(poll::readable(&[timer.as_fd()], None)?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set(&self, after: Duration) -> io::Result<()> {
        let after = after.max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: never, it_value: value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<TimerFd> for OwnedFd {
    fn from(timer: TimerFd) -> Self {
        timer.0
    }
}
