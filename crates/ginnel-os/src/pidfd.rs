//! `pidfd_open(2)`: a process as a descriptor, which becomes readable when the process ends, reaped or not.

use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::os::fd::OwnedFd;
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
        poll_readable(&[&self.0], Some(Instant::now() + limit))
    }

    /// `pidfd_send_signal(2)` with `SIGKILL`.
    ///
    /// # Errors
    /// The errno: `ESRCH` if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL)?)
    }
}

/// `poll(2)` until one of the descriptors is readable; false when the deadline comes first.
///
/// # Errors
/// The errno.
pub fn poll_readable<F: std::os::fd::AsFd>(files: &[&F], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut polled: Vec<PollFd<'_>> = files.iter().map(|file| PollFd::new(*file, PollFlags::IN)).collect();
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
