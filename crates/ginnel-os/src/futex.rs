//! `futex(2)`: sleeping on a word that other processes map too, until an absolute time on the monotonic clock.

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// An absolute time on the monotonic clock, or never.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Timespec>);

impl Deadline {
    /// Never.
    pub const NEVER: Self = Self(None);

    /// At an instant.
    pub fn at(instant: Instant) -> Self {
        let left = instant.saturating_duration_since(Instant::now());
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanoseconds = now.tv_nsec + i64::from(left.subsec_nanos());
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let seconds = now.tv_sec.saturating_add(seconds).saturating_add(nanoseconds / 1_000_000_000);
        Self(Some(Timespec { tv_sec: seconds, tv_nsec: nanoseconds % 1_000_000_000 }))
    }
}

/// Why a sleeper goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It was woken, or the word had changed, or a signal came: look again.
    Look,
    /// The deadline has passed.
    TimedOut,
}

/// `FUTEX_WAIT_BITSET`: sleeps while the word has this value, until woken or until the deadline. A signal wakes too: the
/// deadline is absolute, so looking again and sleeping again changes nothing.
///
/// # Errors
/// The errno: `ENOSYS` where a sandbox forbids it.
///
/// # Examples
/// ```
/// use ginnel_os::futex::{self, Deadline, Woken};
/// use std::sync::atomic::AtomicU32;
/// use std::time::{Duration, Instant};
///
/// let word = AtomicU32::new(1);
/// assert_eq!(futex::wait(&word, 0, Deadline::NEVER)?, Woken::Look); // it is not 0
/// let soon = Deadline::at(Instant::now() + Duration::from_millis(5));
/// while futex::wait(&word, 1, soon)? == Woken::Look {}
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait(word: &AtomicU32, value: u32, deadline: Deadline) -> io::Result<Woken> {
    let timeout = deadline.0.as_ref();
    match futex::wait_bitset(word, Flags::empty(), value, timeout, NonZeroU32::MAX) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(Woken::Look),
        Err(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        Err(e) => Err(e.into()),
    }
}

/// `FUTEX_WAKE`: wakes at most `count` sleepers, and says how many.
///
/// # Errors
/// The errno.
///
/// # Examples
/// ```
/// use ginnel_os::futex::{self, Deadline};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let word = AtomicU32::new(0);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         word.store(1, Ordering::Release);
///         futex::wake(&word, 1)
///     });
///     while word.load(Ordering::Acquire) == 0 {
///         futex::wait(&word, 0, Deadline::NEVER).unwrap();
///     }
/// });
/// ```
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<usize> {
    Ok(futex::wake(word, Flags::empty(), count)?)
}

/// `FUTEX_WAKE` of every sleeper, and says how many.
///
/// # Errors
/// The errno.
///
/// # Examples
/// ```
/// let word = std::sync::atomic::AtomicU32::new(0);
/// assert_eq!(ginnel_os::futex::wake_all(&word)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wake_all(word: &AtomicU32) -> io::Result<usize> {
    wake(word, i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_changed_word_does_not_sleep() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, Deadline::NEVER).unwrap(), Woken::Look);
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let word = AtomicU32::new(0);
        let until = Instant::now() + Duration::from_millis(20);
        while wait(&word, 0, Deadline::at(until)).unwrap() == Woken::Look {}
        assert!(Instant::now() >= until);
        assert_eq!(wait(&word, 0, Deadline::at(until)).unwrap(), Woken::TimedOut);
    }
}
