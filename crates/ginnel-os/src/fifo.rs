//! `mkfifo(3)`, `fifo(7)`: a pipe with a name in the file system, for processes that are not related. Opened, it is the [`Reader`] or [`Writer`]
//! of [`crate::pipe`], and blocks like one.
//!
//! - A name is looked up once, without following a symbolic link at its end, and refused if it is no FIFO; only then that very file is opened. So
//!   no device is opened by mistake, and whoever exchanges the name meanwhile gains nothing. It needs `/proc`.
//! - A writer waits for a reader, as in C; a reader here need not wait for a writer: it is there at once, and its reads wait. [`Reader::state`] tells
//!   "no writer yet" from "the writers have gone".
//! - With a deadline a writer looks again whenever somebody opens the FIFO, and every few milliseconds: a reader that waits in its own
//!   `open(2)` makes no news.
//! - Whether anybody has the other end open cannot be asked by opening it: that lets a process that waits in `open(2)` go, and gives it an end
//!   or a broken pipe at once when the asker closes. [`openers`] looks through `/proc` instead.

use crate::explain::{explain, not_opened};
use crate::inotify::Inotify;
use crate::pipe::{Reader, Writer, name_of};
use crate::poll;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a writer sleeps at most before it looks again for a reader.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `mkfifo(3)`: makes a FIFO with these permission bits, less the process's umask, as in C.
///
/// # Errors
/// `InvalidInput`: bits beyond 0o7777. Else the errno: `AlreadyExists` if the name is taken, by a symbolic link too; `ENOENT`, `EACCES`,
/// `ENAMETOOLONG`, `ENOSPC`.
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// assert_eq!(fifo::make(&path, 0o600).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn make(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    if mode & !0o7777 != 0 {
        let text = format!("mode {mode:#o} has bits beyond 0o7777; pass permission bits");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(rustix::fs::mknodat(CWD, path.as_ref(), FileType::Fifo, Mode::from_raw_mode(mode), 0)?)
}

/// `unlink(2)`: removes the name, if it is that of a FIFO. Who has it open keeps it.
///
/// # Errors
/// `InvalidInput`: it is something else, which is named and stays. Else the errno.
///
/// # Examples
/// ```
/// let error = ginnel_os::fifo::unlink("/dev/null").unwrap_err();
/// assert!(error.to_string().contains("a character device"));
/// ```
pub fn unlink(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    find(path)?;
    Ok(rustix::fs::unlink(path)?)
}

/// `open(2)` with `O_RDONLY`: the reading end, at once, whether there is a writer or not. From now on writers can open the FIFO.
///
/// # Errors
/// `InvalidInput`: it is no FIFO; what it is is named. Else the errno: `ENOENT`, `EACCES`.
///
/// # Examples
/// ```
/// use ginnel_os::{fifo, pipe::State};
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-r-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// let reader = fifo::reader(&path)?;
/// assert_eq!(reader.state()?, State::NoWriterYet);
/// let writer = fifo::try_writer(&path)?;
/// assert_eq!(reader.state()?, State::Open);
/// drop(writer);
/// assert_eq!(reader.state()?, State::Ended);
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn reader(path: impl AsRef<Path>) -> io::Result<Reader> {
    Ok(Reader::of(open(&find(path.as_ref())?, OFlags::RDONLY).map_err(not_opened)?))
}

/// `open(2)` with `O_RDONLY`, as it is in C: the reading end, once there is a writer that has written or gone.
///
/// A FIFO that was opened for reading by this call and got no writer is closed again; a writer that came in that moment finds it without a reader.
///
/// # Errors
/// As [`reader`]; `TimedOut` when nobody wrote until the deadline.
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
/// use std::time::{Duration, Instant};
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-rw-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// let soon = Instant::now() + Duration::from_millis(5);
/// assert_eq!(fifo::reader_once_written(&path, Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn reader_once_written(path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<Reader> {
    let reader = reader(path)?;
    if poll::readable(&[reader.as_fd()], deadline)? { Ok(reader) } else { Err(Errno::TIMEDOUT.into()) }
}

/// `open(2)` with `O_WRONLY`: the writing end, once there is a reader.
///
/// # Errors
/// `InvalidInput`: it is no FIFO; what it is is named. `TimedOut` when no reader came until the deadline. Else the errno: `ENOENT`, `EACCES`.
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
/// use std::time::{Duration, Instant};
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-w-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// let soon = Instant::now() + Duration::from_millis(5);
/// assert_eq!(fifo::writer(&path, Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// let reader = fifo::reader(&path)?;
/// fifo::writer(&path, Some(soon))?.write_all(b"hello", None)?;
/// assert_eq!(std::io::read_to_string(reader)?, "hello");
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn writer(path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<Writer> {
    let path = path.as_ref();
    let fifo = find(path)?;
    let file = match deadline {
        Some(deadline) => open_until(&fifo, deadline),
        None => open_blocking(&fifo).map_err(io::Error::from),
    };
    file.map(Writer::of).map_err(|e| no_writer(path, e))
}

/// `open(2)` with `O_WRONLY | O_NONBLOCK`: the writing end, if there is a reader.
///
/// # Errors
/// As [`writer`]; `WouldBlock` when nobody reads.
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-t-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// assert_eq!(fifo::try_writer(&path).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_writer(path: impl AsRef<Path>) -> io::Result<Writer> {
    let path = path.as_ref();
    match open(&find(path)?, OFlags::WRONLY) {
        Err(Errno::NXIO) => Err(no_writer(path, Errno::AGAIN.into())),
        file => file.map(Writer::of).map_err(not_opened),
    }
}

/// The file itself, without opening it for anything.
/// Why a FIFO could not be opened for writing.
#[cold]
fn no_writer(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(e @ (libc::EAGAIN | libc::ETIMEDOUT)) => explain(
            e,
            format!("nobody has the FIFO {} open for reading; start its reader, or wait longer", path.display()),
        ),
        _ => not_opened(error),
    }
}

fn find(path: &Path) -> io::Result<OwnedFd> {
    let file =
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(not_opened)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind == FileType::Fifo {
        return Ok(file);
    }
    let text = format!("{} is {}, not a FIFO; name a FIFO, or make one", path.display(), name_of(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Opens it without waiting, and lets it block from then on.
fn open(fifo: &OwnedFd, access: OFlags) -> Result<OwnedFd, Errno> {
    let file = rustix::io::retry_on_intr(|| {
        rustix::fs::open(proc_path(fifo), access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    })?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

fn open_blocking(fifo: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = proc_path(fifo);
    rustix::io::retry_on_intr(|| rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()))
}

fn proc_path(fifo: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fifo.as_raw_fd())
}

fn open_until(fifo: &OwnedFd, deadline: Instant) -> io::Result<OwnedFd> {
    let mut news = None;
    loop {
        match open(fifo, OFlags::WRONLY) {
            Err(Errno::NXIO) if Instant::now() >= deadline => return Err(Errno::TIMEDOUT.into()),
            Err(Errno::NXIO) => {}
            file => return Ok(file?),
        }
        match &news {
            // What opened between the try and the watch made no news: try once more before sleeping.
            None => news = Some(watch(fifo)),
            Some(news) => sleep(news.as_ref(), deadline.min(Instant::now() + LOOK_AGAIN))?,
        }
    }
}

/// News of openings, where the user may still have some.
fn watch(fifo: &OwnedFd) -> Option<Inotify> {
    let inotify = Inotify::new().ok()?;
    inotify.watch_open(fifo.as_fd()).ok()?;
    Some(inotify)
}

fn sleep(news: Option<&Inotify>, until: Instant) -> io::Result<()> {
    match news {
        Some(news) if poll::readable(&[news.as_fd()], Some(until))? => news.read().map(drop),
        Some(_) => Ok(()),
        None => {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            Ok(())
        }
    }
}

/// A process that has a FIFO open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// Its id, at the time of looking.
    pub pid: u32,
    /// It can read.
    pub reads: bool,
    /// It can write.
    pub writes: bool,
}

/// Who has a FIFO open, as far as the caller may see.
#[derive(Clone, Debug, Default)]
pub struct Openers {
    /// A process each, this one included.
    pub seen: Vec<Opener>,
    /// Processes whose descriptors the caller may not look at: other users', and those that are not dumpable.
    pub hidden: usize,
}

/// `proc_pid_fd(5)`: who has the FIFO open, without touching it. It looks at every descriptor of every process, which takes milliseconds, and
/// sees each at a moment of its own. A process that waits in `open(2)`, or holds the FIFO only in a message under way, is not seen.
///
/// # Errors
/// `InvalidInput`: it is no FIFO. Else the errno: `ENOENT`.
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-o-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// let _reader = fifo::reader(&path)?;
/// let openers = fifo::openers(&path)?;
/// assert!(openers.seen.iter().any(|one| one.pid == std::process::id() && one.reads && !one.writes));
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn openers(path: impl AsRef<Path>) -> io::Result<Openers> {
    let fifo = rustix::fs::fstat(find(path.as_ref())?)?;
    let mut found = Openers::default();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = number::<u32>(&entry.file_name()) else { continue };
        match opener(pid, (fifo.st_dev, fifo.st_ino)) {
            Ok(one) => found.seen.extend(one),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.hidden += 1,
            Err(_) => {} // It has ended meanwhile.
        }
    }
    Ok(found)
}

/// `proc_pid_fd(5)`: whether no process that the caller may look at has the FIFO open; see [`openers`] for what that leaves out. For
/// cleaning up after processes of one's own.
///
/// # Errors
/// As [`openers`].
///
/// # Examples
/// ```
/// use ginnel_os::fifo;
///
/// let path = format!("/dev/shm/ginnel-fifo-doc-s-{}", std::process::id());
/// fifo::make(&path, 0o600)?;
/// assert!(fifo::is_stale(&path)?);
/// fifo::unlink(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_stale(path: impl AsRef<Path>) -> io::Result<bool> {
    Ok(openers(path)?.seen.is_empty())
}

fn number<N: std::str::FromStr>(name: &OsStr) -> Option<N> {
    name.to_str()?.parse().ok()
}

/// What a process can do with a file, if it has it open.
fn opener(pid: u32, identity: (u64, u64)) -> io::Result<Option<Opener>> {
    let mut one = Opener { pid, reads: false, writes: false };
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // Follows the link to the open file itself.
        let Ok(stat) = rustix::fs::stat(&path) else { continue };
        if (stat.st_dev, stat.st_ino) != identity {
            continue;
        }
        let info = format!("/proc/{pid}/fdinfo/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let flags = std::fs::read_to_string(info).ok().and_then(|info| open_flags(&info));
        let Some(flags) = flags.filter(|flags| !flags.contains(OFlags::PATH)) else { continue };
        let access = flags & OFlags::RWMODE;
        one.reads |= access != OFlags::WRONLY;
        one.writes |= access != OFlags::RDONLY;
    }
    Ok((one.reads || one.writes).then_some(one))
}

/// The line `flags:` of `proc_pid_fdinfo(5)`, in octal.
fn open_flags(info: &str) -> Option<OFlags> {
    let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(line.trim(), 8).ok().map(OFlags::from_bits_retain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::{Patience, State};
    use crate::storm::{Storm, eventually};
    use std::io::ErrorKind;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    /// A name that is gone when the test is, and the FIFO with it.
    struct Name(PathBuf);

    impl Name {
        fn new(case: &str) -> Self {
            Self(format!("/dev/shm/ginnel-fifo-{case}-{}", std::process::id()).into())
        }

        fn made(case: &str) -> Self {
            let name = Self::new(case);
            make(&name.0, 0o600).unwrap();
            name
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(40))
    }

    fn far() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(20))
    }

    #[test]
    fn reads_wait_for_the_first_writer_and_end_with_the_last() {
        let name = Name::made("life");
        let reader = reader(&name.0).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.state().unwrap(), State::NoWriterYet);
        assert_eq!(reader.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(reader.read(&mut buffer, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        let path = name.0.clone();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let writer = writer(path, None).unwrap();
            writer.write(b"late", None).unwrap();
        });
        assert_eq!(reader.read(&mut buffer, None).unwrap(), 4);
        late.join().unwrap();
        assert_eq!(reader.read(&mut buffer, None).unwrap(), 0);
        assert_eq!(reader.try_read(&mut buffer).unwrap(), 0);
        assert_eq!(reader.state().unwrap(), State::Ended);
        let again = try_writer(&name.0).unwrap();
        assert_eq!(reader.state().unwrap(), State::Open);
        again.try_write(b"more").unwrap();
        drop(again);
        assert_eq!(reader.try_read(&mut buffer).unwrap(), 4);
    }

    #[test]
    fn what_a_quick_writer_leaves_is_read() {
        let name = Name::made("quick");
        let reader = reader(&name.0).unwrap();
        try_writer(&name.0).unwrap().write(b"x", None).unwrap();
        eventually(|| reader.state().unwrap() == State::Ended);
        assert_eq!(reader.available().unwrap(), 1);
        // As a read finds it that saw nothing just before the writer came.
        assert!(!reader.is_over(Patience::Try).unwrap());
        assert_eq!(reader.try_read(&mut [0; 8]).unwrap(), 1);
        assert!(reader.is_over(Patience::Try).unwrap());
    }

    #[test]
    fn a_writer_without_readers_is_no_hang() {
        let name = Name::made("alone");
        assert_eq!(try_writer(&name.0).unwrap_err().kind(), ErrorKind::WouldBlock);
        let past = Some(Instant::now());
        assert_eq!(writer(&name.0, past).unwrap_err().kind(), ErrorKind::TimedOut);
        let _storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(writer(&name.0, Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_writer_finds_a_reader_of_either_kind() {
        for (waits, case) in [(false, "meet"), (true, "meet-waiting")] {
            let name = Name::made(case);
            let path = name.0.clone();
            let read = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                // The standard library waits in open(2).
                if waits { std::fs::read(path).unwrap() } else { drain(&reader(path).unwrap()) }
            });
            let writer = writer(&name.0, far()).unwrap();
            assert!(!rustix::fs::fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK));
            writer.write_all(b"met", None).unwrap();
            drop(writer);
            assert_eq!(read.join().unwrap(), b"met");
        }
    }

    fn drain(reader: &Reader) -> Vec<u8> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &*reader, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_blocking_open_goes_on_after_signals() {
        let name = Name::made("storm");
        let path = name.0.clone();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40));
            drain(&reader(path).unwrap())
        });
        let storm = Storm::here();
        let writer = writer(&name.0, None).unwrap();
        drop(storm);
        writer.write_all(b"here", None).unwrap();
        drop(writer);
        assert_eq!(late.join().unwrap(), b"here");
    }

    #[test]
    fn what_is_no_fifo_is_refused_by_name() {
        let refused = |path: &Path| {
            let errors = [
                reader(path).unwrap_err(),
                writer(path, None).unwrap_err(),
                try_writer(path).unwrap_err(),
                unlink(path).unwrap_err(),
                openers(path).unwrap_err(),
            ];
            assert!(errors.iter().all(|error| error.to_string() == errors[0].to_string()));
            errors[0].to_string()
        };
        let (name, file, link, socket) = (Name::made("to"), Name::new("file"), Name::new("link"), Name::new("socket"));
        std::fs::write(&file.0, "").unwrap();
        std::os::unix::fs::symlink(&name.0, &link.0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket.0).unwrap();
        assert!(refused(&file.0).contains("is a regular file, not a FIFO"));
        assert!(refused(&link.0).contains("is a symbolic link, not a FIFO"));
        assert!(refused(&socket.0).contains("is a socket"));
        assert!(refused(Path::new("/dev/shm")).contains("is a directory"));
        assert!(file.0.exists() && link.0.exists());
        assert_eq!(make(&link.0, 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn bad_names_and_modes_are_errors() {
        let long = "x".repeat(256);
        for (path, errno) in [("", libc::ENOENT), ("/nonexistent/fifo", libc::ENOENT), (&*long, libc::ENAMETOOLONG)] {
            assert_eq!(make(path, 0o600).unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(reader(path).unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(unlink(path).unwrap_err().raw_os_error(), Some(errno));
        }
        assert_eq!(make("a\0b", 0o600).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(make("x", 0o10000).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(make("x", u32::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn openers_of_other_processes_are_seen() {
        let name = Name::made("who");
        assert!(is_stale(&name.0).unwrap());
        let reader = reader(&name.0).unwrap();
        let writer = try_writer(&name.0).unwrap();
        let mut child =
            Command::new("sleep").arg("60").stdout(writer.into_stdio()).stdin(Stdio::null()).spawn().unwrap();
        let seen = openers(&name.0).unwrap().seen;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.contains(&Opener { pid: child.id(), reads: false, writes: true }), "{seen:?}");
        assert!(seen.contains(&Opener { pid: std::process::id(), reads: true, writes: false }), "{seen:?}");
        eventually(|| reader.state().unwrap() == State::Ended);
        assert!(!is_stale(&name.0).unwrap());
    }
}
