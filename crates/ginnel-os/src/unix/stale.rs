//! Whose socket a path is: a live one's, a dead one's, or no socket at all; and taking the path of a dead one.
//!
//! **Telling live from stale.** The file of a socket outlives it. `connect` of a datagram socket to it finds out, and no server notices: a live
//! datagram socket lets it connect, without a trace; any other live socket, listening or not yet, is the wrong kind (`EPROTOTYPE`);
//! a file whose socket is closed refuses (`ECONNREFUSED`). No socket can be bound to an old file again, so stale is for ever.
//!
//! **Taking the path without a race.** What must not happen: A and B both see a stale file; A replaces it with its own socket; B, late, removes
//! A's. So examining, removing and binding are done under a `flock(2)` on `PATH.lock`. Whoever uses [`bind_replacing_stale`] is safe from
//! everybody else who does. Who calls plain `bind` cannot interfere: it never removes a file. Only a program that unlinks the path
//! without the lock can, and it could always. Renaming a new socket over the path needs the same lock, and would show a temporary name in
//! `getsockname` for ever.
//!
//! The lock's file is removed by the process that made it, while it holds the lock. Who gets a lock on a file that has no name any more
//! tries again. A kill at the wrong moment leaves an empty file, which does no harm.

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Address, bind, socket};
use crate::socket::Kind;

/// What has a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Occupant {
    /// Nothing.
    Nobody,
    /// A socket that somebody has bound, whether it listens or not.
    Live,
    /// The file of a socket that is closed.
    Stale,
    /// Something that is no socket.
    Other(Other),
}

/// What is not a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Other {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A block or character device.
    Device,
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Device => "a device",
        })
    }
}

/// `connect(2)` of a datagram socket: whose a path is. A server does not notice.
///
/// # Errors
/// The errno: `EACCES` where the file may not be written, so that nobody can tell.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let path = std::env::temp_dir().join(format!("example-occupant-{}", std::process::id()));
/// assert_eq!(unix::occupant(&path)?, unix::Occupant::Nobody);
/// let fd = unix::bind(Kind::Stream, &unix::Address::path(&path)?)?;
/// assert_eq!(unix::occupant(&path)?, unix::Occupant::Live);
/// drop(fd);
/// assert_eq!(unix::occupant(&path)?, unix::Occupant::Stale);
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn occupant(path: impl AsRef<Path>) -> io::Result<Occupant> {
    Ok(examine(path.as_ref())?.0)
}

/// Also which file it was: device and inode.
fn examine(path: &Path) -> io::Result<(Occupant, (u64, u64))> {
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok((Occupant::Nobody, (0, 0))),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    let occupant = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => ask(&file, path)?,
        FileType::RegularFile => Occupant::Other(Other::File),
        FileType::Directory => Occupant::Other(Other::Directory),
        FileType::Symlink => Occupant::Other(Other::Symlink),
        FileType::Fifo => Occupant::Other(Other::Fifo),
        _ => Occupant::Other(Other::Device),
    };
    Ok((occupant, identity(&stat)))
}

/// Connects to the very file that was opened; where `/proc` is missing, to its path.
fn ask(file: &OwnedFd, path: &Path) -> io::Result<Occupant> {
    let probe = socket(Kind::Datagram)?;
    let opened = Address::path(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut answer = net::connect(&probe, opened.raw());
    if answer == Err(Errno::NOENT) {
        answer = net::connect(&probe, Address::path(path)?.raw());
    }
    match answer {
        Err(Errno::CONNREFUSED) => Ok(Occupant::Stale),
        // Not permitted: a live datagram socket that talks to one peer only.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::PERM) => Ok(Occupant::Live),
        Err(e) => Err(e.into()),
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// `bind(2)` to a path, of which the file of a dead socket is removed first. It waits until the deadline for others who are doing the same.
///
/// # Errors
/// `AddrInUse` if a live socket has the path; `AlreadyExists` if something else has, which is left alone, and the error says what it is;
/// `TimedOut` if another process holds `PATH.lock` until the deadline. The errno: `EACCES` if the directory may not be written or nobody can tell
/// whether the socket lives.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let path = std::env::temp_dir().join(format!("example-replacing-{}", std::process::id()));
/// drop(unix::bind_replacing_stale(Kind::Stream, &path, None)?);
/// let fd = unix::bind_replacing_stale(Kind::Stream, &path, None)?;
/// let error = unix::bind_replacing_stale(Kind::Stream, &path, None).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind_replacing_stale(kind: Kind, path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let address = Address::path(path)?;
    let _lock = Lock::take(path, deadline)?;
    let (occupant, file) = examine(path)?;
    match occupant {
        Occupant::Nobody => {}
        Occupant::Stale => remove(path, file)?,
        Occupant::Live => return Err(taken(path)),
        Occupant::Other(what) => return Err(other(path, what)),
    }
    bind(kind, &address).map_err(|e| if e.kind() == io::ErrorKind::AddrInUse { taken(path) } else { e })
}

/// `unlink(2)` of the file of a dead socket. It waits until the deadline for others who are examining or binding.
///
/// # Errors
/// `AddrInUse` if a live socket has the path; `NotFound` if nothing has; `AlreadyExists` if something else has; `TimedOut` as
/// [`bind_replacing_stale`]. The errno: `EACCES` if the directory may not be written.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let path = std::env::temp_dir().join(format!("example-unlink-{}", std::process::id()));
/// let fd = unix::bind(Kind::Datagram, &unix::Address::path(&path)?)?;
/// assert_eq!(unix::unlink_stale(&path, None).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
/// drop(fd);
/// unix::unlink_stale(&path, None)?;
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unlink_stale(path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<()> {
    let path = path.as_ref();
    let _lock = Lock::take(path, deadline)?;
    match examine(path)? {
        (Occupant::Stale, file) => remove(path, file),
        (Occupant::Nobody, _) => Err(io::ErrorKind::NotFound.into()),
        (Occupant::Live, _) => Err(taken(path)),
        (Occupant::Other(what), _) => Err(other(path, what)),
    }
}

fn other(path: &Path, what: Other) -> io::Error {
    let text = format!("{} is {what}, which is not removed; choose another path", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

fn taken(path: &Path) -> io::Error {
    let text = format!("a live socket has {}; connect to it, end its process, or choose another path", path.display());
    io::Error::new(io::ErrorKind::AddrInUse, text)
}

/// Looks once more that it is the same file: a program that ignores the lock has a few microseconds left, not more.
fn remove(path: &Path, file: (u64, u64)) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if identity(&stat) != file {
        return Err(taken(path));
    }
    Ok(rustix::fs::unlink(path)?)
}

/// `flock(2)` on `PATH.lock`.
struct Lock {
    path: PathBuf,
    _file: OwnedFd,
    /// This process made the file, and removes it.
    is_ours: bool,
}

impl Lock {
    fn take(socket: &Path, deadline: Option<Instant>) -> io::Result<Self> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let (file, is_ours) = open_lock(&path)?;
            lock(&file, &path, deadline)?;
            if has_name(&file, &path)? {
                return Ok(Self { path, _file: file, is_ours });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// The file, and whether it was made just now.
fn open_lock(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    loop {
        match rustix::fs::open(path, flags | OFlags::EXCL, mode) {
            Err(Errno::EXIST) => {}
            other => return Ok((other?, true)),
        }
        // Without O_CREAT, so that who made it stays clear.
        match rustix::fs::open(path, flags - OFlags::CREATE, mode) {
            Err(Errno::NOENT) => {}
            other => return Ok((other?, false)),
        }
    }
}

/// `flock` takes no time limit: it is asked again each millisecond. Others hold the lock for a few system calls.
fn lock(file: &OwnedFd, path: &Path, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::INTR) if deadline.is_none_or(|at| Instant::now() < at) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                let text = format!("another process holds {}; try again, or see what it is doing", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            other => return Ok(other?),
        }
    }
}

fn has_name(file: &OwnedFd, path: &Path) -> io::Result<bool> {
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(identity(&stat) == identity(&rustix::fs::fstat(file)?)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unix;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    /// A folder of this test alone, removed with what is in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("ginnel-os-stale-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn names(&self) -> Vec<OsString> {
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const KINDS: [Kind; 3] = [Kind::Stream, Kind::Datagram, Kind::SeqPacket];

    #[test]
    fn live_and_stale_are_told_apart_for_every_kind() {
        // A child that another test forks would hold these descriptors too.
        let _alone = crate::fork::hold_off();
        let folder = Folder::new();
        for (n, kind) in KINDS.into_iter().enumerate() {
            let path = folder.0.join(n.to_string());
            assert_eq!(occupant(&path).unwrap(), Occupant::Nobody);
            let fd = bind(kind, &Address::path(&path).unwrap()).unwrap();
            assert_eq!(occupant(&path).unwrap(), Occupant::Live, "{kind:?} bound");
            if kind != Kind::Datagram {
                unix::listen(&fd, 4).unwrap();
                assert_eq!(occupant(&path).unwrap(), Occupant::Live, "{kind:?} listening");
                assert_eq!(unix::try_accept(&fd).unwrap_err().kind(), ErrorKind::WouldBlock, "the server noticed");
            }
            drop(fd);
            assert_eq!(occupant(&path).unwrap(), Occupant::Stale, "{kind:?} closed");
        }
    }

    #[test]
    fn a_datagram_socket_with_a_peer_of_its_own_is_live() {
        let folder = Folder::new();
        let path = folder.0.join("one-peer");
        let fd = bind(Kind::Datagram, &Address::path(&path).unwrap()).unwrap();
        let peer = bind(Kind::Datagram, &Address::unnamed()).unwrap();
        net::connect(&fd, unix::local_address(&peer).unwrap().raw()).unwrap();
        assert_eq!(occupant(&path).unwrap(), Occupant::Live);
    }

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let _alone = crate::fork::hold_off();
        let folder = Folder::new();
        let path = folder.0.join("socket");
        drop(bind(Kind::Stream, &Address::path(&path).unwrap()).unwrap());
        let live = bind_replacing_stale(Kind::SeqPacket, &path, None).unwrap();
        let error = bind_replacing_stale(Kind::Stream, &path, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(occupant(&path).unwrap(), Occupant::Live);
        assert_eq!(folder.names(), ["socket"], "the lock was left behind");
        drop(live);
    }

    #[test]
    fn what_is_no_socket_is_named_and_stays() {
        let folder = Folder::new();
        let path = |name: &str| folder.0.join(name);
        std::fs::write(path("file"), "precious").unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let all =
            [("file", "a regular file"), ("directory", "a directory"), ("link", "a symbolic link"), ("fifo", "a FIFO")];
        for (name, what) in all {
            let error = bind_replacing_stale(Kind::Stream, path(name), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains(what), "{error}");
            assert!(path(name).symlink_metadata().is_ok());
        }
        let missing = bind_replacing_stale(Kind::Stream, path("no/such"), None).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn of_many_at_once_one_gets_the_path_and_keeps_it() {
        let _alone = crate::fork::hold_off();
        let folder = Folder::new();
        let path = folder.0.join("contested");
        for _ in 0..200 {
            drop(bind(Kind::Stream, &Address::path(&path).unwrap()).unwrap());
            let winners: Vec<_> = std::thread::scope(|scope| {
                let racers: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| bind_replacing_stale(Kind::Stream, &path, None))).collect();
                racers.into_iter().filter_map(|racer| racer.join().unwrap().ok()).collect()
            });
            assert_eq!(winners.len(), 1);
            unix::listen(&winners[0], 4).unwrap();
            unix::connect(Kind::Stream, &Address::path(&path).unwrap(), None).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(folder.names().is_empty(), "a lock was left behind");
        }
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_none() {
        let folder = Folder::new();
        let name = folder.0.join("socket.lock");
        let held = std::fs::File::create(&name).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        let soon = Some(Instant::now() + Duration::from_secs(20));
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| Lock::take(&folder.0.join("socket"), soon).map(|lock| (name.exists(), lock)));
            // Long enough for the taker to have opened the file; if it has not, the test only shows less.
            std::thread::sleep(Duration::from_millis(30));
            std::fs::remove_file(&name).unwrap();
            drop(held);
            let (is_there, lock) = taker.join().unwrap().unwrap();
            assert!(is_there && lock.is_ours);
        });
        assert!(!name.exists());
    }

    #[test]
    fn a_held_lock_ends_at_the_deadline_and_a_left_one_does_no_harm() {
        let _alone = crate::fork::hold_off();
        let folder = Folder::new();
        let path = folder.0.join("socket");
        let held = std::fs::File::create(folder.0.join("socket.lock")).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        let start = Instant::now();
        let wait = Duration::from_millis(20);
        let error = bind_replacing_stale(Kind::Stream, &path, Some(start + wait)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= wait);
        drop(held);
        bind_replacing_stale(Kind::Stream, &path, Some(Instant::now())).unwrap();
    }
}
