//! `flock(2)`: an advisory lock on a whole file, which belongs to the open file description and goes with it. Unlike those of
//! [`ofd_lock`](crate::ofd_lock) it does not ask how the file is open, so the reading end of a FIFO can hold one.

use rustix::fs::FlockOperation;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// `flock(2)` with `LOCK_EX` and `LOCK_NB`: takes the lock for as long as this description is open; false if another one has it.
///
/// # Errors
/// The errno: `ENOLCK`.
///
/// # Examples
/// ```
/// use ginnel_os::flock;
///
/// let (one, other) = (std::fs::File::open("/proc/self/exe")?, std::fs::File::open("/proc/self/exe")?);
/// assert!(flock::try_exclusive(&one)?);
/// assert!(!flock::try_exclusive(&other)?);
/// drop(one);
/// assert!(flock::try_exclusive(&other)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_exclusive(file: impl AsFd) -> io::Result<bool> {
    attempt(file.as_fd(), FlockOperation::NonBlockingLockExclusive)
}

/// `flock(2)` with `LOCK_SH` and `LOCK_NB`: the same beside others that share it; false if another one has it alone.
///
/// # Errors
/// The errno: `ENOLCK`.
///
/// # Examples
/// ```
/// use ginnel_os::flock;
///
/// let (one, other) = (std::fs::File::open("/proc/self")?, std::fs::File::open("/proc/self")?);
/// assert!(flock::try_shared(&one)? && flock::try_shared(&other)?);
/// assert!(!flock::try_exclusive(&one)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_shared(file: impl AsFd) -> io::Result<bool> {
    attempt(file.as_fd(), FlockOperation::NonBlockingLockShared)
}

fn attempt(file: BorrowedFd<'_>, operation: FlockOperation) -> io::Result<bool> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
