//! `pidfd_open(2)`: a process as a descriptor, which becomes readable when the process ends, reaped or not.

use crate::poll;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `pidfd_open(2)`. The caller knows that `pid` still is the process it means: its own child, say.
    ///
    /// # Errors
    /// The errno: `ESRCH` if there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
        Ok(Self(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?))
    }

    /// Waits until the process has ended; false if it still runs after `limit`.
    ///
    /// # Errors
    /// The errno of `poll(2)`.
    pub fn wait_ended(&self, limit: Duration) -> io::Result<bool> {
        poll::readable(&[self.0.as_fd()], Some(Instant::now() + limit))
    }

    /// `pidfd_send_signal(2)` with `SIGKILL`.
    ///
    /// # Errors
    /// The errno: `ESRCH` if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL)?)
    }
}
