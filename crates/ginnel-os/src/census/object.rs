//! What a descriptor or a mapping stands for, as `proc(5)` writes it.

use rustix::fs::{FileType, Statx};

use super::id;

/// Which file it is, on this machine, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device.
    pub device: u64,
    /// Inode on it.
    pub inode: u64,
}

/// How a descriptor was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// For neither: `O_PATH`.
    None,
    /// For reading: the reading end of a pipe.
    Read,
    /// For writing: the writing end of a pipe.
    Write,
    /// For both.
    ReadWrite,
}

impl Access {
    /// From the mode of the link `/proc/PID/fd/N`.
    pub(super) fn of_link_mode(mode: u32) -> Self {
        match (mode & 0o400 != 0, mode & 0o200 != 0) {
            (false, false) => Self::None,
            (true, false) => Self::Read,
            (false, true) => Self::Write,
            (true, true) => Self::ReadWrite,
        }
    }
}

/// What a descriptor or a mapping stands for, and which one. Two processes that have an equal one share it, except where `id` is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Object {
    /// A pipe.
    Pipe {
        /// Which one.
        inode: u64,
    },
    /// A FIFO.
    Fifo {
        /// Where it was when it was opened, or has moved to.
        path: Vec<u8>,
        /// Which one.
        id: FileId,
        /// Whether it has no name any more.
        is_unlinked: bool,
    },
    /// A socket of any family; [`sock_diag`](crate::sock_diag) knows more of `unix` ones.
    Socket {
        /// Which one.
        inode: u64,
    },
    /// A memfd.
    Memfd {
        /// What it was called, for people: others may have the same name.
        name: Vec<u8>,
        /// Which one.
        id: Option<FileId>,
    },
    /// A file in `/dev/shm`: POSIX shared memory or a named semaphore (`sem.NAME`).
    Shm {
        /// Below `/dev/shm/`.
        name: Vec<u8>,
        /// Which one.
        id: FileId,
        /// Whether it has no name any more.
        is_unlinked: bool,
    },
    /// A POSIX message queue.
    MessageQueue {
        /// With its leading slash.
        name: Vec<u8>,
        /// Which one.
        id: FileId,
        /// Whether it has no name any more.
        is_unlinked: bool,
    },
    /// A System V shared memory segment.
    SysV {
        /// Its key; 0 is `IPC_PRIVATE`.
        key: u32,
        /// Its `shmid`.
        id: u64,
    },
    /// Shared memory without a file: `MAP_SHARED | MAP_ANONYMOUS`, between a process and its children.
    Anonymous {
        /// Which one.
        id: FileId,
    },
    /// An eventfd.
    Eventfd {
        /// Which one; not before Linux 5.2.
        id: Option<u64>,
    },
    /// A process.
    Pidfd {
        /// Its id; -1 is written by the kernel, and `None` here, once it has been reaped.
        pid: Option<u64>,
    },
    /// An epoll instance.
    Epoll,
    /// An inotify instance.
    Inotify,
    /// A timer.
    Timerfd,
    /// Signals.
    Signalfd,
    /// Any other file, directory or device.
    File {
        /// Where it was when it was opened, or has moved to.
        path: Vec<u8>,
        /// Which one; `None` where that was not asked.
        id: Option<FileId>,
        /// Whether it has no name any more.
        is_unlinked: bool,
    },
    /// Anything else, as the kernel writes it.
    Other {
        /// Its text.
        text: Vec<u8>,
    },
}

const DELETED: &[u8] = b" (deleted)";

impl Object {
    /// From the text of `/proc/PID/fd/N`. What has a path is a [`File`](Self::File) for now.
    pub(super) fn of_link(link: &[u8]) -> Self {
        let other = || Self::Other { text: link.to_vec() };
        if let Some(inode) = link.strip_prefix(b"pipe:") {
            return bracketed(inode).map_or_else(other, |inode| Self::Pipe { inode });
        }
        if let Some(inode) = link.strip_prefix(b"socket:") {
            return bracketed(inode).map_or_else(other, |inode| Self::Socket { inode });
        }
        if let Some(name) = memfd_name(link) {
            return Self::Memfd { name: name.to_vec(), id: None };
        }
        match link.strip_prefix(b"anon_inode:") {
            Some(b"[eventfd]") => Self::Eventfd { id: None },
            Some(b"[eventpoll]") => Self::Epoll,
            Some(b"inotify" | b"[inotify]") => Self::Inotify,
            Some(b"[timerfd]") => Self::Timerfd,
            Some(b"[signalfd]") => Self::Signalfd,
            Some(b"[pidfd]") => Self::Pidfd { pid: None },
            None if link.starts_with(b"pidfd:") => Self::Pidfd { pid: None },
            None if link.starts_with(b"/") => Self::File { path: link.to_vec(), id: None, is_unlinked: false },
            _ => other(),
        }
    }

    /// A file of which more is known than its path.
    pub(super) fn of_path(path: Vec<u8>, stat: &Statx, is_queue: bool) -> Self {
        let is_unlinked = stat.stx_nlink == 0;
        let path =
            if is_unlinked { path.strip_suffix(DELETED).map_or_else(|| path.clone(), <[u8]>::to_vec) } else { path };
        let id = id(stat);
        if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Fifo {
            return Self::Fifo { path, id, is_unlinked };
        }
        if is_queue {
            let name = path.strip_prefix(b"/dev/mqueue").unwrap_or(&path).to_vec();
            return Self::MessageQueue { name, id, is_unlinked };
        }
        match shm_name(&path) {
            Some(name) => Self::Shm { name: name.to_vec(), id, is_unlinked },
            None => Self::File { path, id: Some(id), is_unlinked },
        }
    }

    /// From a line of `/proc/PID/maps`. A name that really ends in ` (deleted)` is taken for one that is gone.
    pub(super) fn of_mapping(path: &[u8], id: FileId) -> Self {
        let (path, is_unlinked) = path.strip_suffix(DELETED).map_or((path, false), |path| (path, true));
        if is_unlinked && path == b"/dev/zero" {
            return Self::Anonymous { id };
        }
        if let Some(key) = path.strip_prefix(b"/SYSV").filter(|_| is_unlinked).and_then(|key| number(key, 16)) {
            return Self::SysV { key: key as u32, id: id.inode };
        }
        if let Some(name) = path.strip_prefix(b"/memfd:").filter(|_| is_unlinked) {
            return Self::Memfd { name: name.to_vec(), id: Some(id) };
        }
        match shm_name(path) {
            Some(name) => Self::Shm { name: name.to_vec(), id, is_unlinked },
            None if path.starts_with(b"/") => Self::File { path: path.to_vec(), id: Some(id), is_unlinked },
            None => Self::Other { text: path.to_vec() },
        }
    }
}

/// Devices that every process has open, and that are no means of communication.
pub(super) fn is_plain_device(path: &[u8]) -> bool {
    path.starts_with(b"/dev/pts/") || matches!(path, b"/dev/null" | b"/dev/zero" | b"/dev/urandom" | b"/dev/tty")
}

/// A queue that was opened with `mq_open` looks like a file in the root directory.
pub(super) fn may_be_queue(path: &[u8]) -> bool {
    path.starts_with(b"/dev/mqueue/") || path.iter().filter(|byte| **byte == b'/').count() == 1
}

fn memfd_name(link: &[u8]) -> Option<&[u8]> {
    link.strip_prefix(b"/memfd:")?.strip_suffix(DELETED)
}

fn shm_name(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(b"/dev/shm/")
}

fn bracketed(text: &[u8]) -> Option<u64> {
    number(text.strip_prefix(b"[")?.strip_suffix(b"]")?, 10)
}

pub(super) fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_apart() {
        let other = |text: &[u8]| Object::Other { text: text.to_vec() };
        assert_eq!(Object::of_link(b"pipe:[17]"), Object::Pipe { inode: 17 });
        assert_eq!(Object::of_link(b"socket:[18]"), Object::Socket { inode: 18 });
        assert_eq!(
            Object::of_link(b"/memfd:a (deleted) (deleted)"),
            Object::Memfd { name: b"a (deleted)".to_vec(), id: None }
        );
        assert_eq!(Object::of_link(b"anon_inode:[eventfd]"), Object::Eventfd { id: None });
        assert_eq!(Object::of_link(b"anon_inode:inotify"), Object::Inotify);
        assert_eq!(Object::of_link(b"pidfd:[9]"), Object::Pidfd { pid: None });
        for text in
            [&b""[..], b"pipe:", b"pipe:[", b"pipe:[x]", b"socket:[-1]", b"pipe:[99999999999999999999]", b"net:[4026]"]
        {
            assert_eq!(Object::of_link(text), other(text));
        }
        assert!(matches!(Object::of_link(b"/\xff\n"), Object::File { .. }));
    }
}
