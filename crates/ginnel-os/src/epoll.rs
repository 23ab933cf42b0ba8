//! `epoll(7)`: many descriptors behind one, which is readable while one of them is ready.

#![allow(unsafe_code)] // Hands an array of events to the C library.

use crate::explain::not_opened;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use crate::poll::Interest;

/// A set of descriptors. Itself a descriptor that [`poll`](crate::poll) can wait for.
///
/// # Examples
/// ```
/// use ginnel_os::{epoll::{Epoll, Interest}, eventfd::EventFd, poll};
/// use std::os::fd::AsFd;
///
/// let (set, news) = (Epoll::new()?, EventFd::new()?);
/// set.add(news.as_fd(), Interest::Read, 7)?;
/// assert_eq!(set.ready()?, []);
/// news.signal();
/// assert!(poll::readable(&[set.as_fd()], None)?);
/// assert_eq!(set.ready()?, [7]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// Most descriptors that one look tells of.
const AT_ONCE: usize = 32;

impl Epoll {
    /// `epoll_create1(2)`.
    ///
    /// # Errors
    /// The errno: `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC).map_err(not_opened)?))
    }

    /// `epoll_ctl(2)` with `EPOLL_CTL_ADD`: from now on the set is ready while this descriptor is, or its other end is gone. It leaves the set when
    /// its last copy is closed. `key` is the caller's name for it.
    ///
    /// # Errors
    /// The errno: `EEXIST` if it is in the set, `EPERM` if it cannot be waited for, `ENOSPC` (`fs.epoll.max_user_watches`).
    pub fn add(&self, file: BorrowedFd<'_>, interest: Interest, key: u64) -> io::Result<()> {
        let flags = if interest == Interest::Read { EventFlags::IN | EventFlags::RDHUP } else { EventFlags::OUT };
        Ok(epoll::add(&self.0, file, EventData::new_u64(key), flags)?)
    }

    /// `epoll_ctl(2)` with `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// The errno: `ENOENT` if it is not in the set.
    pub fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0, file)?)
    }

    /// `epoll_wait(2)` without waiting: the keys of those that are ready, 32 of them at most; the next look tells of the others.
    ///
    /// # Errors
    /// The errno.
    pub fn ready(&self) -> io::Result<Vec<u64>> {
        let mut keys = Vec::new();
        self.ready_into(&mut keys)?;
        Ok(keys)
    }

    /// `epoll_wait(2)`: the same, added to `keys`, for who looks often: it takes memory only where there is no room in it.
    ///
    /// # Errors
    /// The errno.
    #[inline]
    pub fn ready_into(&self, keys: &mut Vec<u64>) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; AT_ONCE];
        loop {
            // SAFETY: the array has room for the events that are asked for. (rustix has `epoll_pwait2(2)` only, which costs more.)
            let ready =
                unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), AT_ONCE as libc::c_int, 0) };
            if let Some(ready) = usize::try_from(ready).ok().and_then(|ready| events.get(..ready)) {
                // SAFETY: the kernel wrote as many as it says.
                keys.extend(ready.iter().map(|event| unsafe { event.assume_init_read() }.u64));
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventfd::EventFd;

    #[test]
    fn tells_which_are_ready() {
        let (set, first, second) = (Epoll::new().unwrap(), EventFd::new().unwrap(), EventFd::new().unwrap());
        set.add(first.as_fd(), Interest::Read, 1).unwrap();
        set.add(second.as_fd(), Interest::Read, 2).unwrap();
        assert_eq!(set.add(second.as_fd(), Interest::Read, 3).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        second.signal();
        assert_eq!(set.ready().unwrap(), [2]);
        drop(second);
        assert_eq!(set.ready().unwrap(), []);
        set.remove(first.as_fd()).unwrap();
        assert_eq!(set.remove(first.as_fd()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_cannot_be_waited_for() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let refused = Epoll::new().unwrap().add(file.as_fd(), Interest::Read, 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
