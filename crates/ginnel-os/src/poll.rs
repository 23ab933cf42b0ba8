//! `poll(2)`: waiting for one of several descriptors until an absolute time.
//!
//! A wait without a deadline, and a look, are `poll(2)` itself; only a deadline is `ppoll(2)`, which takes nanoseconds but costs a fifth more.
#![allow(unsafe_code)] // Hands an array with its length to the C functions; rustix has `ppoll` alone.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// `poll(2)` until one of the descriptors is readable, or its other end is gone; false when the deadline comes first. Without a deadline
/// it waits for ever; with one that has passed it looks once.
///
/// # Errors
/// The errno.
#[inline]
pub fn readable(files: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    // Most wait for one or two, and need no memory for that.
    match files {
        [one] => wait(&mut [entry(*one, libc::POLLIN)], deadline),
        [one, two] => wait(&mut [entry(*one, libc::POLLIN), entry(*two, libc::POLLIN)], deadline),
        many => wait(&mut many.iter().map(|file| entry(*file, libc::POLLIN)).collect::<Vec<_>>(), deadline),
    }
}

/// `poll(2)` for one descriptor, of this moment: it does not wait, nor look at the clock.
///
/// # Errors
/// The errno.
///
/// ```
/// use ginnel_os::{eventfd::EventFd, poll};
/// use std::os::fd::AsFd;
///
/// let event = EventFd::new()?;
/// assert!(!poll::is_readable(event.as_fd())?);
/// event.signal();
/// assert!(poll::is_readable(event.as_fd())?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn is_readable(file: BorrowedFd<'_>) -> io::Result<bool> {
    look(&mut [entry(file, libc::POLLIN)])
}

/// `poll(2)` for writing, of this moment.
///
/// # Errors
/// The errno.
#[inline]
pub fn is_writable(file: BorrowedFd<'_>) -> io::Result<bool> {
    look(&mut [entry(file, libc::POLLOUT)])
}

/// `poll(2)` until a descriptor is writable, or its other end is gone.
///
/// # Errors
/// The errno.
pub fn writable(file: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    wait(&mut [entry(file, libc::POLLOUT)], deadline)
}

/// What to wait for at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That it is readable.
    Read,
    /// That it is writable.
    Write,
}

/// `poll(2)` for a descriptor and for a second one that is to become readable: an eventfd that ends the wait, say. An error or a hang-up counts as ready.
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
    let events = if interest == Interest::Read { libc::POLLIN } else { libc::POLLOUT };
    match other {
        Some(other) => wait(&mut [entry(file, events), entry(other, libc::POLLIN)], deadline),
        None => wait(&mut [entry(file, events)], deadline),
    }
}

/// `poll(2)` for any number of descriptors, each with what to wait for; tells in `ready` which ones are ready, in the order of `files`. An error or a
/// hang-up counts as ready. False when the deadline comes first.
///
/// # Errors
/// The errno.
///
/// # Examples
/// ```
/// use ginnel_os::{eventfd::EventFd, poll::{self, Interest}};
/// use std::os::fd::AsFd;
///
/// let (quiet, raised) = (EventFd::new()?, EventFd::new()?);
/// raised.signal();
/// let mut ready = Vec::new();
/// assert!(poll::which(&[(quiet.as_fd(), Interest::Read), (raised.as_fd(), Interest::Read)], &mut ready, None)?);
/// assert_eq!(ready, [false, true]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn which(
    files: &[(BorrowedFd<'_>, Interest)],
    ready: &mut Vec<bool>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let events = |interest| if interest == Interest::Read { libc::POLLIN } else { libc::POLLOUT };
    let mut entries: Vec<_> = files.iter().map(|(file, interest)| entry(*file, events(*interest))).collect();
    let any = wait(&mut entries, deadline)?;
    ready.clear();
    ready.extend(entries.iter().map(|entry| entry.revents != 0));
    Ok(any)
}

#[inline]
fn entry(file: BorrowedFd<'_>, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 }
}

#[inline]
fn look(files: &mut [libc::pollfd]) -> io::Result<bool> {
    loop {
        if let Some(is_ready) = once(files, Some(Duration::ZERO))? {
            return Ok(is_ready);
        }
    }
}

#[inline]
fn wait(files: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(is_ready) = once(files, left)? {
            return Ok(is_ready);
        }
    }
}

/// One call; `None` when a signal came.
#[inline]
fn once(files: &mut [libc::pollfd], left: Option<Duration>) -> io::Result<Option<bool>> {
    let (start, count) = (files.as_mut_ptr(), files.len() as libc::nfds_t);
    let ready = match left {
        // SAFETY: pointer and length are of one slice, which is borrowed here.
        None => unsafe { libc::poll(start, count, -1) },
        // SAFETY: pointer and length are of one slice, which is borrowed here.
        Some(Duration::ZERO) => unsafe { libc::poll(start, count, 0) },
        Some(left) => {
            let left = timespec(left);
            // SAFETY: pointer and length are of one slice; the time is on the stack, and no mask is given.
            unsafe { libc::ppoll(start, count, &raw const left, std::ptr::null()) }
        }
    };
    if ready >= 0 {
        return Ok(Some(ready > 0));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        error => Err(error),
    }
}

#[allow(clippy::cast_lossless, reason = "widths differ between architectures")]
fn timespec(left: Duration) -> libc::timespec {
    libc::timespec { tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX), tv_nsec: left.subsec_nanos() as _ }
}
