//! `poll(2)`: waiting for one of several descriptors until an absolute time.

use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// `poll(2)` until one of the descriptors is readable, or its other end is gone; false when the deadline comes first. Without a deadline
/// it waits for ever; with one that has passed it looks once.
///
/// # Errors
/// The errno.
pub fn readable(files: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    wait(&mut files.iter().map(|file| PollFd::new(file, PollFlags::IN)).collect::<Vec<_>>(), deadline)
}

/// The same until a descriptor is writable, or its other end is gone.
///
/// # Errors
/// The errno.
pub fn writable(file: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    wait(&mut [PollFd::new(&file, PollFlags::OUT)], deadline)
}

/// What to wait for at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That it is readable.
    Read,
    /// That it is writable.
    Write,
}

/// The same for a descriptor and for a second one that is to become readable: an eventfd that ends the wait, say. An error or a hang-up counts as ready.
/// False when the deadline comes first.
///
/// # Errors
/// The errno.
pub fn either(
    file: BorrowedFd<'_>,
    interest: Interest,
    other: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let flags = if interest == Interest::Read { PollFlags::IN } else { PollFlags::OUT };
    match other {
        Some(other) => wait(&mut [PollFd::new(&file, flags), PollFd::new(&other, PollFlags::IN)], deadline),
        None => wait(&mut [PollFd::new(&file, flags)], deadline),
    }
}

fn wait(files: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match rustix::event::poll(files, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
