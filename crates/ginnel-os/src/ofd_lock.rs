//! `fcntl(2)` with `F_OFD_SETLK`, `F_OFD_SETLKW` and `F_OFD_GETLK`: locks on ranges of bytes that belong to an open file description.
//! [`Token`] makes one into a sign of life: it is there exactly as long as the process that took it.
//!
//! - Locks are advice between those who ask. Many may hold read locks on a byte, or one a write lock; the bytes need not exist.
//! - The holder is the *description*. Who opens a file once and shares the descriptor, among threads say, holds every lock together: two guards
//!   of one description do not exclude each other, and dropping one unlocks what the other one covers too. Open the file again for another locker.
//! - A forked child has the same description, so a guard that is dropped there unlocks here.
//! - A lock conflicts with those of `lockf(3)` and `F_SETLK` too, not with `flock(2)`.
//!
//! A description lives until its last reference is gone. A descriptor is one reference, which a forked child inherits;
//! a mapping is another. A token's lock belongs to a description of its own, whose only reference is a page mapped without
//! access and marked `MADV_DONTFORK`: no descriptor is left to inherit, and the child does not get the page. So the
//! kernel drops the lock when the process that took it exits, is killed, or replaces itself by `execve(2)`, whatever
//! children it has left; across PID namespaces, and without PIDs.
#![allow(unsafe_code)] // fcntl with a pointer to a struct flock on the stack.

use crate::fork;
use crate::mmap::Mapping;
use crate::tmpfile::{self, Access};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Bound, RangeBounds};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The longest sleep between two tries with a deadline.
const LONGEST_NAP: Duration = Duration::from_millis(5);

fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open, and `lock` is a valid struct flock for the duration of the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn flock(kind: libc::c_int, byte: u64, len: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: len as libc::off_t,
        l_pid: 0,
    }
}

/// The first byte of a range on which another description than this one holds a lock, if any (`F_OFD_GETLK`). Read
/// access suffices.
///
/// # Errors
/// The errno.
pub fn first_locked(file: BorrowedFd<'_>, from: u64, len: u64) -> io::Result<Option<u64>> {
    let mut lock = flock(libc::F_WRLCK, from, len);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some((lock.l_start as u64).max(from)))
}

/// How a range is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `F_RDLCK`: beside other readers. The file is open for reading.
    Read,
    /// `F_WRLCK`: alone. The file is open for writing.
    Write,
}

impl Kind {
    fn raw(self) -> libc::c_int {
        match self {
            Self::Read => libc::F_RDLCK,
            Self::Write => libc::F_WRLCK,
        }
    }
}

/// Bytes as the call takes them: a length of 0 is everything from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    len: u64,
}

impl Span {
    fn of(range: impl RangeBounds<u64>) -> io::Result<Self> {
        // In 128 bits, as the end of `..=u64::MAX` is beyond 64.
        let start = match range.start_bound() {
            Bound::Included(&start) => u128::from(start),
            Bound::Excluded(&before) => u128::from(before) + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => Some(u128::from(last) + 1),
            Bound::Excluded(&end) => Some(u128::from(end)),
            Bound::Unbounded => None,
        };
        let most = i64::MAX as u128;
        if end.is_some_and(|end| end <= start) {
            return Err(invalid(format!("bytes {start} to {} are none; lock at least one", end.unwrap_or(0))));
        }
        if start > most || end.is_some_and(|end| end > most) {
            return Err(invalid(format!(
                "byte {} is above the greatest offset, {most}; leave the range open",
                end.unwrap_or(start)
            )));
        }
        Ok(Self { start: start as u64, len: end.map_or(0, |end| (end - start) as u64) })
    }

    fn lock(self, kind: libc::c_int) -> libc::flock {
        flock(kind, self.start, self.len)
    }
}

#[cold]
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// `fcntl(2)` with `F_OFD_SETLK`: locks a range of an open file, if nobody holds a lock that excludes this one.
///
/// # Errors
/// `WouldBlock`: somebody does. `InvalidInput`: the range is empty or beyond 2^63 - 1, or the file is not open as [`Kind`] demands. Else the errno:
/// `ENOLCK`.
///
/// # Examples
/// ```
/// use ginnel_os::ofd_lock::{self, Kind};
/// use std::os::fd::AsFd;
///
/// let path = format!("/dev/shm/ginnel-lock-doc-{}", std::process::id());
/// let open = || std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
/// let (one, other) = (open()?, open()?);
/// let lock = ofd_lock::try_lock(one.as_fd(), Kind::Write, 0..10)?;
/// assert_eq!(ofd_lock::try_lock(other.as_fd(), Kind::Read, 9..).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// drop(lock);
/// ofd_lock::try_lock(other.as_fd(), Kind::Read, ..)?;
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_lock(file: BorrowedFd<'_>, kind: Kind, range: impl RangeBounds<u64>) -> io::Result<Lock<'_>> {
    let span = Span::of(range)?;
    set(file, libc::F_OFD_SETLK, kind, span)?;
    Ok(Lock { file, kind, span })
}

/// `fcntl(2)` with `F_OFD_SETLKW`: locks a range of an open file, once nobody holds a lock that excludes this one.
///
/// Without a deadline the kernel queues it. The kernel knows no deadlines, so with one it is tried again and again, every 5 ms in the end, and may
/// be overtaken. Nobody notices that two wait for each other for ever.
///
/// # Errors
/// As [`try_lock`]; `TimedOut` when somebody held one until the deadline.
///
/// # Examples
/// ```
/// use ginnel_os::ofd_lock::{self, Kind};
/// use std::os::fd::AsFd;
/// use std::time::{Duration, Instant};
///
/// let path = format!("/dev/shm/ginnel-lock-doc-d-{}", std::process::id());
/// let open = || std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
/// let (one, other) = (open()?, open()?);
/// let _lock = ofd_lock::lock(one.as_fd(), Kind::Write, .., None)?;
/// let soon = Instant::now() + Duration::from_millis(5);
/// let refused = ofd_lock::lock(other.as_fd(), Kind::Write, .., Some(soon)).unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn lock(
    file: BorrowedFd<'_>,
    kind: Kind,
    range: impl RangeBounds<u64>,
    deadline: Option<Instant>,
) -> io::Result<Lock<'_>> {
    let span = Span::of(range)?;
    set_until(file, kind, span, deadline)?;
    Ok(Lock { file, kind, span })
}

fn set_until(file: BorrowedFd<'_>, kind: Kind, span: Span, deadline: Option<Instant>) -> io::Result<()> {
    let Some(deadline) = deadline else { return set(file, libc::F_OFD_SETLKW, kind, span) };
    let mut nap = Duration::from_micros(50);
    loop {
        match set(file, libc::F_OFD_SETLK, kind, span) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        std::thread::sleep(nap.min(left));
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

fn set(file: BorrowedFd<'_>, command: libc::c_int, kind: Kind, span: Span) -> io::Result<()> {
    fcntl(file, command, &mut span.lock(kind.raw())).map_err(|error| explain(error, kind))
}

#[cold]
fn explain(error: io::Error, kind: Kind) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EACCES) => io::Error::from_raw_os_error(libc::EAGAIN),
        Some(libc::EBADF) => {
            let (lock, access) = match kind {
                Kind::Read => ("read", "reading"),
                Kind::Write => ("write", "writing"),
            };
            invalid(format!("a {lock} lock needs a file that is open for {access}; open it so"))
        }
        _ => error,
    }
}

/// `fcntl(2)` with `F_OFD_GETLK`: the first lock that excludes such a one, if any, at this moment. Any open file will do.
///
/// # Errors
/// `InvalidInput`: the range, as with [`try_lock`]. Else the errno.
///
/// # Examples
/// ```
/// use ginnel_os::ofd_lock::{self, Kind};
/// use std::os::fd::AsFd;
///
/// let path = format!("/dev/shm/ginnel-lock-doc-c-{}", std::process::id());
/// let open = || std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
/// let (one, other) = (open()?, open()?);
/// let _lock = ofd_lock::try_lock(one.as_fd(), Kind::Read, 3..5)?;
/// assert_eq!(ofd_lock::conflict(other.as_fd(), Kind::Read, ..)?, None);
/// let found = ofd_lock::conflict(other.as_fd(), Kind::Write, ..)?.unwrap();
/// assert_eq!((found.kind, found.start, found.end, found.pid), (Kind::Read, 3, Some(5), None));
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn conflict(file: BorrowedFd<'_>, kind: Kind, range: impl RangeBounds<u64>) -> io::Result<Option<Conflict>> {
    let mut lock = Span::of(range)?.lock(kind.raw());
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    let kind = match i32::from(lock.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => Kind::Read,
        _ => Kind::Write,
    };
    let start = lock.l_start.unsigned_abs();
    let end = (lock.l_len != 0).then(|| start.saturating_add(lock.l_len.unsigned_abs()));
    Ok(Some(Conflict { kind, start, end, pid: u32::try_from(lock.l_pid).ok().filter(|pid| *pid != 0) }))
}

/// A lock that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// How.
    pub kind: Kind,
    /// Its first byte.
    pub start: u64,
    /// The byte after its last one; none if it goes on for ever.
    pub end: Option<u64>,
    /// Who, if it is a lock of `F_SETLK` or `lockf(3)`, which belong to processes. A description is nobody in particular.
    pub pid: Option<u32>,
}

/// A range that is locked as long as this is there. Forgotten, it is locked until the last descriptor of the description is closed.
#[derive(Debug)]
#[must_use = "it unlocks when it is dropped"]
pub struct Lock<'f> {
    file: BorrowedFd<'f>,
    kind: Kind,
    span: Span,
}

impl Lock<'_> {
    /// How it is locked.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `F_OFD_SETLK`: makes a read lock a write lock or the other way round. It is never unlocked in between; if it cannot be had, it stays as it
    /// was.
    ///
    /// # Errors
    /// As [`try_lock`].
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::ofd_lock::{self, Kind};
    /// use std::os::fd::AsFd;
    ///
    /// let path = format!("/dev/shm/ginnel-lock-doc-u-{}", std::process::id());
    /// let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    /// let mut lock = ofd_lock::try_lock(file.as_fd(), Kind::Read, ..)?;
    /// lock.try_convert(Kind::Write)?;
    /// assert_eq!(lock.kind(), Kind::Write);
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_convert(&mut self, kind: Kind) -> io::Result<()> {
        set(self.file, libc::F_OFD_SETLK, kind, self.span)?;
        self.kind = kind;
        Ok(())
    }

    /// `F_OFD_SETLKW`: the same once it can be had. Two readers that both want to write wait for each other: use a deadline.
    ///
    /// # Errors
    /// As [`lock`].
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::ofd_lock::{self, Kind};
    /// use std::os::fd::AsFd;
    /// use std::time::{Duration, Instant};
    ///
    /// let path = format!("/dev/shm/ginnel-lock-doc-v-{}", std::process::id());
    /// let open = || std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path);
    /// let (one, other) = (open()?, open()?);
    /// let mut lock = ofd_lock::try_lock(one.as_fd(), Kind::Read, ..)?;
    /// let _reads_too = ofd_lock::try_lock(other.as_fd(), Kind::Read, ..)?;
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(lock.convert(Kind::Write, Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn convert(&mut self, kind: Kind, deadline: Option<Instant>) -> io::Result<()> {
        set_until(self.file, kind, self.span, deadline)?;
        self.kind = kind;
        Ok(())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = fcntl(self.file, libc::F_OFD_SETLK, &mut self.span.lock(libc::F_UNLCK));
    }
}

/// A lock on one byte that lives exactly as long as its holder; see the module.
#[derive(Debug)]
pub struct Token {
    /// Not unmapped in a forked child, where the range may be another's.
    holding: ManuallyDrop<Mapping>,
    generation: fork::Generation,
    byte: u64,
}

impl Token {
    /// `fcntl(2)` with `F_OFD_SETLK`: takes the lock on a byte of an open file. `None` if somebody holds it.
    ///
    /// # Errors
    /// The errno: `EMFILE`, `ENOENT` where `/proc` is not mounted.
    pub fn take(file: BorrowedFd<'_>, byte: u64) -> io::Result<Option<Self>> {
        Self::take_then(file, byte, || None)
    }

    /// `fcntl(2)` with `F_OFD_SETLK`: the same; and once it is taken, the lock on another byte too, if `also` names one. `None` if somebody holds either.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_then(file: BorrowedFd<'_>, byte: u64, also: impl FnOnce() -> Option<u64>) -> io::Result<Option<Self>> {
        let generation = fork::generation()?;
        // A child of this moment would inherit the descriptor, or the mapping before it is excluded.
        let _no_fork = fork::hold_off();
        let description = tmpfile::reopen(file, Access::ReadWrite)?;
        let holding = Mapping::holding(description.as_fd())?;
        holding.exclude_from_fork()?;
        let lock = |byte| match fcntl(description.as_fd(), libc::F_OFD_SETLK, &mut flock(libc::F_WRLCK, byte, 1)) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(e) => Err(e),
        };
        let taken = lock(byte)? && also().map_or(Ok(true), lock)?;
        Ok(taken.then(|| Self { holding: ManuallyDrop::new(holding), generation, byte }))
    }

    /// Whether this process took it: false in a forked child, for which it is nothing.
    pub fn is_ours(&self) -> bool {
        self.generation.is_current()
    }

    /// The byte.
    pub fn byte(&self) -> u64 {
        self.byte
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.generation.is_current() {
            // SAFETY: dropped once, here; the range is this process's, as it is the one that mapped it.
            unsafe { ManuallyDrop::drop(&mut self.holding) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::eventually;
    use rustix::io::retry_on_intr;
    use rustix::process::WaitOptions;
    use std::os::fd::OwnedFd;

    fn file() -> OwnedFd {
        let directory = tmpfile::open_directory(std::path::Path::new("/dev/shm")).unwrap();
        tmpfile::create_unnamed(directory.as_fd()).unwrap()
    }

    /// Two descriptions of one file.
    fn two() -> (OwnedFd, OwnedFd) {
        let one = file();
        let other = tmpfile::reopen(one.as_fd(), Access::ReadWrite).unwrap();
        (one, other)
    }

    fn is_refused(result: io::Result<Lock<'_>>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let (one, other) = two();
        let (one, other) = (one.as_fd(), other.as_fd());
        let first = try_lock(one, Kind::Read, 0..100).unwrap();
        let second = try_lock(other, Kind::Read, 50..=50).unwrap();
        assert!(is_refused(try_lock(other, Kind::Write, 99..)));
        drop(try_lock(other, Kind::Write, 100..).unwrap());
        let found = conflict(one, Kind::Write, ..).unwrap().unwrap();
        assert_eq!(found, Conflict { kind: Kind::Read, start: 50, end: Some(51), pid: None });
        drop((first, second));
        let whole = lock(one, Kind::Write, .., None).unwrap();
        assert_eq!(conflict(other, Kind::Read, 1 << 40..).unwrap().unwrap().end, None);
        assert!(is_refused(try_lock(other, Kind::Read, i64::MAX as u64 - 1..i64::MAX as u64)));
        drop(whole);
        assert_eq!(conflict(other, Kind::Write, ..).unwrap(), None);
    }

    #[test]
    fn a_lock_is_converted_or_stays() {
        let (one, other) = two();
        let mut lock = try_lock(one.as_fd(), Kind::Read, 5..6).unwrap();
        let second = try_lock(other.as_fd(), Kind::Read, ..).unwrap();
        assert_eq!(lock.try_convert(Kind::Write).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(lock.convert(Kind::Write, Some(soon)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(lock.kind(), Kind::Read);
        drop(second);
        lock.convert(Kind::Write, None).unwrap();
        assert!(is_refused(try_lock(other.as_fd(), Kind::Read, ..)));
    }

    #[test]
    fn waits_end_with_the_lock_or_the_deadline_whatever_signals_come() {
        let (one, other) = two();
        let held = try_lock(one.as_fd(), Kind::Write, ..).unwrap();
        let storm = crate::storm::Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        let refused = lock(other.as_fd(), Kind::Read, .., Some(until)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        assert!(lock(other.as_fd(), Kind::Read, .., Some(until)).is_err());
        for deadline in [None, Some(Instant::now() + Duration::from_secs(20))] {
            let again = std::thread::scope(|scope| {
                let one = one.as_fd();
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    let _ = fcntl(one, libc::F_OFD_SETLK, &mut flock(libc::F_UNLCK, 0, 0));
                });
                lock(other.as_fd(), Kind::Read, 0..1, deadline).map(drop)
            });
            again.unwrap();
            set(one.as_fd(), libc::F_OFD_SETLK, Kind::Write, Span { start: 0, len: 0 }).unwrap();
        }
        drop((storm, held));
    }

    #[test]
    fn impossible_ranges_and_accesses_are_refused() {
        let file = file();
        let file = file.as_fd();
        let refused = |result: io::Result<Lock<'_>>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            error.to_string()
        };
        assert!(refused(try_lock(file, Kind::Read, 7..7)).contains("bytes 7 to 7 are none"));
        refused(try_lock(file, Kind::Read, (Bound::Included(9), Bound::Excluded(3))));
        for end in [(1 << 63), u64::MAX] {
            refused(try_lock(file, Kind::Read, 0..end));
            refused(try_lock(file, Kind::Read, 0..=end));
            refused(try_lock(file, Kind::Read, end..));
        }
        refused(try_lock(file, Kind::Read, (Bound::Excluded(u64::MAX), Bound::Unbounded)));
        drop(try_lock(file, Kind::Read, 0..i64::MAX as u64).unwrap());
        drop(try_lock(file, Kind::Read, i64::MAX as u64..).unwrap());
        let reads = tmpfile::reopen(file, Access::Read).unwrap();
        assert!(refused(try_lock(reads.as_fd(), Kind::Write, ..)).contains("open for writing"));
        assert!(lock(reads.as_fd(), Kind::Read, .., None).is_ok());
    }

    #[test]
    fn a_token_excludes_another_until_dropped() {
        let file = file();
        let token = Token::take(file.as_fd(), 100).unwrap().expect("nobody holds it");
        assert!(Token::take(file.as_fd(), 100).unwrap().is_none());
        assert!(Token::take(file.as_fd(), 101).unwrap().is_some());
        assert_eq!(first_locked(file.as_fd(), 0, 1 << 40).unwrap(), Some(100));
        drop(token);
        // A program that was being started while the token was taken has its description until `execve(2)`.
        eventually(|| first_locked(file.as_fd(), 0, 1 << 40).unwrap().is_none());
        assert!(Token::take(file.as_fd(), 100).unwrap().is_some());
    }

    #[test]
    fn a_forked_child_does_not_keep_a_token() {
        let file = file();
        // A fork while another thread is in the first `hold_off` ever leaves a child in which that never ends.
        drop(fork::hold_off());
        let (ready, say) = rustix::pipe::pipe().unwrap();
        // SAFETY: the child calls only what is safe after a fork of a threaded process: system calls.
        let parent = unsafe { libc::fork() };
        if parent == 0 {
            let token = Token::take(file.as_fd(), 7);
            // SAFETY: the child's child only sleeps, then exits.
            if unsafe { libc::fork() } == 0 {
                std::thread::sleep(Duration::from_secs(2));
                // SAFETY: leaves without destructors.
                unsafe { libc::_exit(0) };
            }
            let _ = retry_on_intr(|| rustix::io::write(&say, &[u8::from(matches!(token, Ok(Some(_))))]));
            loop {
                std::thread::park(); // until it is killed
            }
        }
        let mut held = [0];
        assert_eq!(retry_on_intr(|| rustix::io::read(&ready, &mut held)).unwrap(), 1);
        assert_eq!(held, [1]);
        assert_eq!(first_locked(file.as_fd(), 7, 1).unwrap(), Some(7));
        // SAFETY: kills the child that this test started.
        unsafe { libc::kill(parent, libc::SIGKILL) };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        while first_locked(file.as_fd(), 7, 1).unwrap().is_some() {
            assert!(std::time::Instant::now() < end, "the grandchild keeps its dead parent's token");
            std::thread::yield_now();
        }
        retry_on_intr(|| rustix::process::waitpid(rustix::process::Pid::from_raw(parent), WaitOptions::empty()))
            .unwrap();
    }
}
