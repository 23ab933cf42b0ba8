//! `open(2)` with `O_TMPFILE`, `linkat(2)`: a file that is built where nobody sees it and then appears under its name in one
//! step; and the private directories that such files live in.

use crate::explain::not_opened;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Facts about a file, from `fstat(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Owner.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Names that it has.
    pub links: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Bytes that it occupies.
    pub allocated: u64,
    /// Device and inode: which file it is.
    pub identity: (u64, u64),
    /// Last change of it, in seconds since 1970.
    pub changed_s: u64,
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

fn status(stat: &rustix::fs::Stat) -> Status {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    };
    Status {
        kind,
        uid: stat.st_uid,
        mode: stat.st_mode & 0o7777,
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "its width differs between architectures")]
        links: stat.st_nlink as u64,
        bytes: stat.st_size as u64,
        allocated: stat.st_blocks as u64 * 512,
        identity: (stat.st_dev, stat.st_ino),
        changed_s: u64::try_from(stat.st_ctime).unwrap_or_default(),
    }
}

/// `fstat(2)`.
///
/// # Errors
/// The errno.
pub fn fstat(file: BorrowedFd<'_>) -> io::Result<Status> {
    Ok(status(&rustix::fs::fstat(file)?))
}

/// `fstatat(2)` without following a symbolic link.
///
/// # Errors
/// The errno; `ENOENT` if nothing has this name.
pub fn stat_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Status> {
    Ok(status(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// `mkdir(2)` with mode 0700; not an error if the name is taken.
///
/// # Errors
/// The errno.
pub fn make_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// `open(2)` of a directory; a symbolic link in its place is refused.
///
/// # Errors
/// The errno: `ENOTDIR` or `ELOOP` if something else has the name.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(not_opened)
}

/// `openat(2)` with `O_TMPFILE`: a new file without a name, mode 0600, open for reading and writing.
///
/// # Errors
/// The errno: `EOPNOTSUPP` where the file system cannot do it.
pub fn create_unnamed(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR).map_err(not_opened)
}

/// `linkat(2)`: gives a file without a name its name.
///
/// # Errors
/// The errno: `EEXIST` if the name is taken, which is then left as it is.
///
/// # Examples
/// ```
/// use ginnel_os::tmpfile::{self, Access};
/// use std::os::fd::AsFd;
///
/// let shm = tmpfile::open_directory("/dev/shm".as_ref())?;
/// let name = std::ffi::CString::new(format!("ginnel-example-{}", std::process::id()))?;
/// let file = tmpfile::create_unnamed(shm.as_fd())?;
/// tmpfile::set_len(file.as_fd(), 100)?; // whoever finds the name finds all of it
/// tmpfile::link_at(file.as_fd(), shm.as_fd(), &name)?;
/// assert_eq!(tmpfile::stat_at(shm.as_fd(), &name)?.bytes, 100);
/// assert!(tmpfile::link_at(file.as_fd(), shm.as_fd(), &name).is_err());
/// tmpfile::unlink_at(shm.as_fd(), &name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn link_at(file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let path = proc_path(file);
    Ok(rustix::fs::linkat(rustix::fs::CWD, path.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// The access that a descriptor gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn flags(self) -> OFlags {
        let access = if self == Self::Read { OFlags::RDONLY } else { OFlags::RDWR };
        access | OFlags::CLOEXEC | OFlags::NONBLOCK
    }
}

/// `openat(2)` of an existing file; a symbolic link is refused, and nothing (a FIFO, say) makes it wait.
///
/// # Errors
/// The errno: `ENOENT`, `ELOOP` for a symbolic link, `EACCES`.
pub fn open_at(directory: BorrowedFd<'_>, name: &CStr, access: Access) -> io::Result<OwnedFd> {
    rustix::fs::openat(directory, name, access.flags() | OFlags::NOFOLLOW, Mode::empty()).map_err(not_opened)
}

/// `open(2)` through `/proc/self/fd`: a new description of a file that is already open.
///
/// # Errors
/// The errno: `ENOENT` where `/proc` is not mounted.
pub fn reopen(file: BorrowedFd<'_>, access: Access) -> io::Result<OwnedFd> {
    rustix::fs::open(proc_path(file).as_str(), access.flags(), Mode::empty()).map_err(not_opened)
}

fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// `ftruncate(2)`.
///
/// # Errors
/// The errno.
pub fn set_len(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(file, bytes)?)
}

/// `pread(2)` until the buffer is full or the file ends; returns the bytes read.
///
/// # Errors
/// The errno.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// `pwrite(2)` of the whole buffer.
///
/// # Errors
/// The errno.
pub fn write_at(file: BorrowedFd<'_>, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match rustix::io::pwrite(file, buffer, offset) {
            Ok(n) => {
                buffer = &buffer[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// `unlinkat(2)`.
///
/// # Errors
/// The errno.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
}

/// Bytes free for this user on the file system of a descriptor, and its size: `fstatvfs(3)`.
///
/// # Errors
/// The errno.
pub fn free_space(file: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// `readdir(3)`: the names in a directory, without `.` and `..`.
///
/// # Errors
/// The errno.
pub fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
