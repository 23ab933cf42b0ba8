//! `shm_overview(7)`: POSIX shared memory: files of the file system at `/dev/shm`, found by name, and there until they are unlinked or
//! the machine restarts.
//!
//! The descriptors are files like any: `mmap(2)` ([`mmap`](crate::mmap)), `fallocate(2)` so that a full file system is an error and not a
//! `SIGBUS` ([`fallocate`](crate::fallocate)), `fstat(2)` ([`tmpfile`]). Huge pages are the mount's choice (`huge=` of
//! `tmpfs(5)`) or, where that is `advise`, [`prefer_huge_pages`](crate::mmap::Mapping::prefer_huge_pages).

use crate::explain::{explain, invalid, not_opened};
use crate::posix_name;
use crate::tmpfile::{self, Kind};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

pub use crate::tmpfile::Access;

/// Longest name after its slash, in bytes.
pub const NAME_MAX: usize = 255;

/// Where Linux keeps the objects.
const DIRECTORY: &str = "/dev/shm";

/// `shm_open(3)` with `O_CREAT | O_EXCL`, and `ftruncate(3)` to `bytes`: a new object of zeroes, open for reading and writing.
///
/// It is made without a name and appears when it is complete, so nobody who opens it sees another size or mode (where the file system
/// at `/dev/shm` cannot do that, it is made in two steps). The mode is taken as it is; the umask does not count.
///
/// ```
/// use ginnel_os::{mmap::Mapping, shm};
/// use std::os::fd::AsFd;
/// let name = format!("/example-{}", std::process::id());
/// let object = shm::create(&name, 4096, 0o600)?;
/// Mapping::of_file(object.as_fd(), 4096, true)?.shared().store(0, 42u64)?;
/// let again = shm::open(&name, shm::Access::Read)?;
/// assert_eq!(Mapping::of_file(again.as_fd(), 4096, false)?.shared().load::<u64>(0)?, 42);
/// shm::unlink(&name)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `EEXIST` if the name is taken; `EINVAL` or `ENAMETOOLONG` for a name, or `EINVAL` for a mode or size that cannot be; `EFBIG` for
/// `RLIMIT_FSIZE`, with the signal `SIGXFSZ`; `EACCES`, `ENOSPC`, `EMFILE`.
pub fn create(name: impl AsRef<OsStr>, bytes: u64, mode: u32) -> io::Result<OwnedFd> {
    create_inner(name.as_ref(), bytes, mode)
}

/// `shm_open(3)`: [`open`] for reading and writing, or [`create`] if there is none; and whether it was made. An object that was there keeps its size and
/// mode: look at them before use.
///
/// ```
/// use ginnel_os::shm;
/// let name = format!("/example-either-{}", std::process::id());
/// let (_object, was_made) = shm::open_or_create(&name, 4096, 0o600)?;
/// shm::unlink(&name)?;
/// assert!(was_made);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As both.
pub fn open_or_create(name: impl AsRef<OsStr>, bytes: u64, mode: u32) -> io::Result<(OwnedFd, bool)> {
    let name = name.as_ref();
    loop {
        match open(name, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            found => return Ok((found?, false)),
        }
        match create_inner(name, bytes, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((made?, true)),
        }
    }
}

/// `shm_open(3)`: an object that is there.
///
/// # Errors
/// `ENOENT` if there is none, `EACCES`; `EINVAL` or `ENAMETOOLONG` for a name that cannot be, and `EINVAL` or `ELOOP` for a thing in
/// `/dev/shm` that is no such object.
pub fn open(name: impl AsRef<OsStr>, access: Access) -> io::Result<OwnedFd> {
    let name = posix_name::check(name.as_ref(), NAME_MAX)?;
    let directory = tmpfile::open_directory(Path::new(DIRECTORY)).map_err(refused)?;
    let object = tmpfile::open_at(directory.as_fd(), without_slash(&name), access).map_err(refused)?;
    match tmpfile::fstat(object.as_fd())?.kind {
        Kind::File => Ok(object),
        _ => {
            Err(invalid(format!("{DIRECTORY}{} is no shared memory, but another kind of file", name.to_string_lossy())))
        }
    }
}

/// `shm_unlink(3)`: the name goes; the memory goes when nobody has it open or mapped.
///
/// # Errors
/// `ENOENT` if there is none, `EACCES` or `EPERM` if it is another user's.
pub fn unlink(name: impl AsRef<OsStr>) -> io::Result<()> {
    let name = posix_name::check(name.as_ref(), NAME_MAX)?;
    Ok(rustix::shm::unlink(name.as_c_str())?)
}

fn create_inner(name: &OsStr, bytes: u64, mode: u32) -> io::Result<OwnedFd> {
    let name = posix_name::check(name, NAME_MAX)?;
    let mode = Mode::from_bits(mode).filter(|mode| mode.bits() <= 0o777);
    let mode = mode.ok_or_else(|| invalid("a mode has the bits 0777 at most"))?;
    let directory = tmpfile::open_directory(Path::new(DIRECTORY)).map_err(refused)?;
    let object = match tmpfile::create_unnamed(directory.as_fd()) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return create_in_steps(&name, bytes, mode),
        made => made.map_err(refused)?,
    };
    shape(&object, bytes, mode)?;
    match tmpfile::link_at(object.as_fd(), directory.as_fd(), without_slash(&name)) {
        // Without /proc there is no way to give it a name.
        Err(e) if e.kind() == io::ErrorKind::NotFound => create_in_steps(&name, bytes, mode),
        done => done.map(|()| object),
    }
}

fn create_in_steps(name: &CStr, bytes: u64, mode: Mode) -> io::Result<OwnedFd> {
    use rustix::shm::OFlags;
    let object = rustix::shm::open(name, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, Mode::RUSR | Mode::WUSR)?;
    shape(&object, bytes, mode).inspect_err(|_| {
        let _ = rustix::shm::unlink(name);
    })?;
    Ok(object)
}

fn shape(object: &OwnedFd, bytes: u64, mode: Mode) -> io::Result<()> {
    rustix::fs::ftruncate(object, bytes).map_err(|e| match e {
        Errno::FBIG => explain(libc::EFBIG, format!("{bytes} bytes are above RLIMIT_FSIZE; raise it with ulimit -f")),
        Errno::INVAL => invalid(format!("{bytes} bytes are more than a file can have; use less than 2^63")),
        other => other.into(),
    })?;
    Ok(rustix::fs::fchmod(object, mode)?)
}

#[cold]
fn refused(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOSPC) { explain(libc::ENOSPC, full()) } else { not_opened(error) }
}

/// What to say when nothing more can be made there.
#[cold]
pub(crate) fn full() -> String {
    let Ok(stat) = rustix::fs::statvfs(DIRECTORY) else { return format!("{DIRECTORY} is full; remove files from it") };
    format!(
        "{DIRECTORY} is full: {} of its {} bytes and {} of its {} files are free; remove some, or make it larger (mount -o remount,size=N,nr_inodes=N)",
        stat.f_bavail.saturating_mul(stat.f_frsize),
        stat.f_blocks.saturating_mul(stat.f_frsize),
        stat.f_favail,
        stat.f_files
    )
}

fn without_slash(name: &CStr) -> &CStr {
    CStr::from_bytes_with_nul(&name.to_bytes_with_nul()[1..]).expect("the rest of a C string is one")
}

/// An object, as [`list`] finds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name, with the slash.
    pub name: OsString,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of memory that it occupies.
    pub allocated: u64,
    /// When it was last read or mapped.
    pub accessed: Option<SystemTime>,
    /// When it was last written by a system call.
    pub modified: Option<SystemTime>,
    /// Device and inode: which file it is, whatever its name.
    pub identity: (u64, u64),
}

/// `readdir(3)`: the objects in `/dev/shm`, sorted by name, without the named semaphores, which are [`semaphore::list`](crate::semaphore::list)'s. One that
/// goes while this looks is left out.
///
/// ```
/// for object in ginnel_os::shm::list()? {
///     println!("{:?} {} {} bytes", object.name, object.uid, object.bytes);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno of reading the directory.
pub fn list() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in std::fs::read_dir(DIRECTORY)? {
        let found = found?;
        let Ok(status) = found.metadata() else { continue };
        if status.is_file() && !found.file_name().as_encoded_bytes().starts_with(b"sem.") {
            entries.push(entry(&found.file_name(), &status));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry(name: &OsStr, status: &std::fs::Metadata) -> Entry {
    let mut with_slash = OsString::from("/");
    with_slash.push(name);
    Entry {
        name: with_slash,
        uid: status.uid(),
        gid: status.gid(),
        mode: status.mode() & 0o7777,
        bytes: status.len(),
        allocated: status.blocks() * 512,
        accessed: status.accessed().ok(),
        modified: status.modified().ok(),
        identity: (status.dev(), status.ino()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    struct Name(String);

    impl Name {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            Self(format!("/ginnel-os-shm-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)))
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = unlink(&self.0);
        }
    }

    #[test]
    fn an_object_appears_at_its_size_and_mode() {
        let name = Name::new();
        create(&name.0, 12345, 0o666).unwrap();
        let status = tmpfile::fstat(open(&name.0, Access::Read).unwrap().as_fd()).unwrap();
        assert_eq!((status.bytes, status.mode, status.links), (12345, 0o666, 1));
        assert_eq!(errno(&create(&name.0, 1, 0o600).unwrap_err()), Some(libc::EEXIST));
        let (_, made) = open_or_create(&name.0, 1, 0o600).unwrap();
        assert!(!made);
        let found = list().unwrap().into_iter().find(|entry| entry.name == OsStr::new(&name.0)).unwrap();
        assert_eq!((found.bytes, found.mode, found.allocated), (12345, 0o666, 0));
        unlink(&name.0).unwrap();
        assert_eq!(errno(&unlink(&name.0).unwrap_err()), Some(libc::ENOENT));
        assert!(open_or_create(&name.0, 1, 0o600).unwrap().1);
    }

    #[test]
    fn made_in_steps_it_is_the_same() {
        let name = Name::new();
        let c = posix_name::check(OsStr::new(&name.0), NAME_MAX).unwrap();
        create_in_steps(&c, 77, Mode::from(0o640)).unwrap();
        let status = tmpfile::fstat(open(&name.0, Access::Read).unwrap().as_fd()).unwrap();
        assert_eq!((status.bytes, status.mode), (77, 0o640));
        unlink(&name.0).unwrap();
        assert!(create_in_steps(&c, 1 << 63, Mode::RUSR).is_err());
        assert_eq!(errno(&open(&name.0, Access::Read).unwrap_err()), Some(libc::ENOENT));
    }

    #[test]
    fn bad_sizes_modes_and_names_are_errors() {
        let name = Name::new();
        for bytes in [1 << 63, u64::MAX] {
            assert_eq!(errno(&create(&name.0, bytes, 0o600).unwrap_err()), Some(libc::EINVAL));
        }
        assert!(create(&name.0, 0, 0o1000).is_err());
        assert!(create(&name.0, 0, 0o600).is_ok());
        let long = |n: usize| format!("/{}", "x".repeat(n));
        assert_eq!(errno(&open(long(256), Access::Read).unwrap_err()), Some(libc::ENAMETOOLONG));
        assert_eq!(errno(&open(long(255), Access::Read).unwrap_err()), Some(libc::ENOENT));
        assert!(open("plain", Access::Read).unwrap_err().to_string().contains("\"/plain\""));
    }

    #[test]
    fn a_fifo_and_a_link_are_no_objects_and_do_not_hang() {
        let name = Name::new();
        let path = format!("{DIRECTORY}{}", name.0);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(errno(&open(&name.0, Access::Read).unwrap_err()), Some(libc::EINVAL));
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/proc/self/exe", &path).unwrap();
        assert_eq!(errno(&open(&name.0, Access::Read).unwrap_err()), Some(libc::ELOOP));
        let _ = std::fs::remove_file(&path);
    }
}
