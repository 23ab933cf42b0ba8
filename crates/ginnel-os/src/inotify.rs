//! `inotify(7)`: notice that a file was opened or read, or that a description of it was let go, by `close(2)`, `munmap(2)` or the end of its process.

use crate::eventfd::EventFd;
use crate::explain::{met, not_opened, proc_number, shown};
use rustix::fs::inotify;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of an event of a watched file: it has no name.
const EVENT_BYTES: usize = 16;
/// Events that one `read(2)` takes at most.
const AT_ONCE: usize = 256;

/// An inotify instance.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

impl Inotify {
    /// `inotify_init1(2)`.
    ///
    /// # Errors
    /// The errno, with the limit that was met (see [`explain::limit`](crate::explain::limit)): `EMFILE` when the user has `fs.inotify.max_user_instances`
    /// (128 by default), or its namespace `user.max_inotify_instances`, or the process its descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(none_left)?))
    }

    /// `inotify_add_watch(2)` for descriptions of this file that are let go and could write. The same file gives the same number.
    ///
    /// # Errors
    /// The errno, with the limit that was met: `ENOSPC` when the user has `fs.inotify.max_user_watches`, or its namespace `user.max_inotify_watches`.
    pub fn watch_close(&self, file: BorrowedFd<'_>) -> io::Result<i32> {
        self.watch(file, inotify::WatchFlags::CLOSE_WRITE)
    }

    /// `inotify_add_watch(2)` for openings of this file, once they have succeeded. An `open(2)` of a FIFO that waits is not one yet.
    ///
    /// # Errors
    /// The errno, with the limit that was met: `ENOSPC` when the user has `fs.inotify.max_user_watches`, or its namespace `user.max_inotify_watches`.
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// let file = std::fs::File::open("/dev/null")?;
    /// let inotify = ginnel_os::inotify::Inotify::new()?;
    /// let watch = inotify.watch_open(file.as_fd())?;
    /// std::fs::File::open("/dev/null")?;
    /// assert_eq!(inotify.read()?, Some(vec![watch]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn watch_open(&self, file: BorrowedFd<'_>) -> io::Result<i32> {
        self.watch(file, inotify::WatchFlags::OPEN)
    }

    /// `inotify_add_watch(2)` for reads of this file, by `read(2)` and its like, not through a mapping. Not on a file of `memfd_create(2)`: newer
    /// kernels report nothing there.
    ///
    /// # Errors
    /// The errno, with the limit that was met: `ENOSPC` when the user has `fs.inotify.max_user_watches`, or its namespace `user.max_inotify_watches`.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::tmpfile;
    /// use std::os::fd::AsFd;
    ///
    /// let file = tmpfile::create_unnamed(std::fs::File::open("/dev/shm")?.as_fd())?;
    /// tmpfile::write_at(file.as_fd(), b"news", 0)?;
    /// let inotify = ginnel_os::inotify::Inotify::new()?;
    /// let watch = inotify.watch_access(file.as_fd())?;
    /// assert_eq!(inotify.read()?, Some(vec![]));
    /// tmpfile::read_at(file.as_fd(), &mut [0; 1], 0)?;
    /// assert_eq!(inotify.read()?, Some(vec![watch]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn watch_access(&self, file: BorrowedFd<'_>) -> io::Result<i32> {
        self.watch(file, inotify::WatchFlags::ACCESS)
    }

    fn watch(&self, file: BorrowedFd<'_>, flags: inotify::WatchFlags) -> io::Result<i32> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&self.0, path.as_str(), flags).map_err(not_watched)
    }

    /// `inotify_rm_watch(2)`; a watch that is gone already is no error.
    pub fn unwatch(&self, watch: i32) {
        let _ = inotify::remove_watch(&self.0, watch);
    }

    /// `read(2)`: the watches that have something to tell, each once, or `None` for all of them if the kernel lost count. Does not wait.
    ///
    /// # Errors
    /// The errno.
    pub fn read(&self) -> io::Result<Option<Vec<i32>>> {
        let mut buffer = [MaybeUninit::uninit(); AT_ONCE * EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut watches = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => return Ok(None),
                Ok(event) => {
                    watches.push(event.wd());
                    // A read that did not fill its buffer has emptied the queue: no second one only to be told so.
                    if reader.is_buffer_empty() && watches.len() % AT_ONCE != 0 {
                        break;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        watches.sort_unstable();
        watches.dedup();
        Ok(Some(watches))
    }
}

/// Which of the two limits on instances.
#[cold]
fn none_left(error: rustix::io::Errno) -> io::Error {
    if error != rustix::io::Errno::MFILE || EventFd::new().is_err() {
        return not_opened(error);
    }
    let limits = ["fs.inotify.max_user_instances", "user.max_inotify_instances"];
    used_up(error, "instance", limits.map(|name| (name, of_sysctl(name))))
}

#[cold]
fn not_watched(error: rustix::io::Errno) -> io::Error {
    if error != rustix::io::Errno::NOSPC {
        return error.into();
    }
    let limits = ["fs.inotify.max_user_watches", "user.max_inotify_watches"];
    used_up(error, "watch", limits.map(|name| (name, of_sysctl(name))))
}

fn of_sysctl(name: &str) -> Option<u64> {
    proc_number(&format!("/proc/sys/{}", name.replace('.', "/")))
}

/// Of the user's limit, and of that of the user namespace: which the lower one is, as both count.
fn used_up(error: rustix::io::Errno, what: &str, [user, namespace]: [(&'static str, Option<u64>); 2]) -> io::Error {
    let is_lower = namespace.1.is_some_and(|of_namespace| user.1.is_none_or(|of_user| of_namespace < of_user));
    let limit = if is_lower { namespace } else { user };
    let (name, value) = (limit.0, shown(limit.1));
    let text = format!("no inotify {what} is left: {name} allows this user {value}; raise it with sysctl -w {name}=N");
    met(error.raw_os_error(), limit, text)
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
