//! `fcntl(2)` with `F_OFD_SETLK` and `F_OFD_GETLK`: locks that belong to an open file description. [`Token`] makes one into a sign of
//! life: it is there exactly as long as the process that took it.
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
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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

/// A lock on one byte that lives exactly as long as its holder; see the module.
#[derive(Debug)]
pub struct Token {
    /// Not unmapped in a forked child, where the range may be another's.
    holding: ManuallyDrop<Mapping>,
    generation: fork::Generation,
    byte: u64,
}

impl Token {
    /// Takes the lock on a byte of an open file. `None` if somebody holds it.
    ///
    /// # Errors
    /// The errno: `EMFILE`, `ENOENT` where `/proc` is not mounted.
    pub fn take(file: BorrowedFd<'_>, byte: u64) -> io::Result<Option<Self>> {
        Self::take_then(file, byte, || None)
    }

    /// The same; and once it is taken, the lock on another byte too, if `also` names one. `None` if somebody holds either.
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
    use std::os::fd::OwnedFd;

    fn file() -> OwnedFd {
        let directory = tmpfile::open_directory(std::path::Path::new("/dev/shm")).unwrap();
        tmpfile::create_unnamed(directory.as_fd()).unwrap()
    }

    #[test]
    fn a_token_excludes_another_until_dropped() {
        let file = file();
        let token = Token::take(file.as_fd(), 100).unwrap().expect("nobody holds it");
        assert!(Token::take(file.as_fd(), 100).unwrap().is_none());
        assert!(Token::take(file.as_fd(), 101).unwrap().is_some());
        assert_eq!(first_locked(file.as_fd(), 0, 1 << 40).unwrap(), Some(100));
        drop(token);
        assert_eq!(first_locked(file.as_fd(), 0, 1 << 40).unwrap(), None);
        assert!(Token::take(file.as_fd(), 100).unwrap().is_some());
    }

    #[test]
    fn a_forked_child_does_not_keep_a_token() {
        let file = file();
        let mut ready = [0; 2];
        // SAFETY: `ready` has room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ready.as_mut_ptr()) }, 0);
        // SAFETY: the child calls only what is safe after a fork of a threaded process: system calls.
        let parent = unsafe { libc::fork() };
        if parent == 0 {
            let token = Token::take(file.as_fd(), 7);
            // SAFETY: the child's child only sleeps, then exits.
            if unsafe { libc::fork() } == 0 {
                // SAFETY: plain system call.
                unsafe { libc::sleep(2) };
                // SAFETY: leaves without destructors.
                unsafe { libc::_exit(0) };
            }
            let held = u8::from(matches!(token, Ok(Some(_))));
            // SAFETY: writes one byte from a live variable.
            unsafe { libc::write(ready[1], (&raw const held).cast(), 1) };
            // SAFETY: waits to be killed.
            unsafe { libc::pause() };
        }
        let mut held = 0u8;
        // SAFETY: reads one byte into a live variable.
        unsafe { libc::read(ready[0], (&raw mut held).cast(), 1) };
        assert_eq!(held, 1);
        assert_eq!(first_locked(file.as_fd(), 7, 1).unwrap(), Some(7));
        // SAFETY: kills the child that this test started.
        unsafe { libc::kill(parent, libc::SIGKILL) };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        while first_locked(file.as_fd(), 7, 1).unwrap().is_some() {
            assert!(std::time::Instant::now() < end, "the grandchild keeps its dead parent's token");
            std::thread::yield_now();
        }
        // SAFETY: reaps the child that this test started.
        unsafe { libc::waitpid(parent, std::ptr::null_mut(), 0) };
    }
}
