//! `proc(5)`: who on this machine has which object of interprocess communication.
//!
//! It reads `/proc/PID`: a few system calls for each process and one or two for each descriptor, into buffers that are used again.
//!
//! | what is missing | how that is said |
//! |---|---|
//! | descriptors of a process that the caller may not look into | [`Process::is_denied`], counted in [`Census::denied`] |
//! | processes of others where `/proc` is mounted with `hidepid` | [`Census::is_partial`] |
//! | processes outside of the PID namespace of this `/proc` | nobody can tell |
//! | processes that end while one looks | left out: they are gone |
//! | descriptors that only one thread has (`CLONE_FILES` not set) | those of the main thread are listed |
//!
//! Names are bytes as the kernel gives them, and may hold anything: escaping them is the caller's.

mod maps;
mod object;

pub use maps::{Mapping, parse_maps};
pub use object::{Access, FileId, Object};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// All processes that can be seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// The processes, by their id.
    pub processes: Vec<Process>,
    /// How many of them the caller may not look into.
    pub denied: usize,
    /// Whether `/proc` hides processes of others altogether (`hidepid`, see `proc(5)`).
    pub is_partial: bool,
}

/// A process and what it has.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Process {
    /// Its id, in the PID namespace of `/proc`.
    pub pid: u32,
    /// Its parent's id; 0 if that is outside of the namespace.
    pub parent: u32,
    /// Effective user.
    pub uid: u32,
    /// `R` running, `S` sleeping, `D` in an uninterruptible wait, `T` stopped, `Z` zombie, ...
    pub state: u8,
    /// When it began, after boot; in steps of a clock tick. Together with the id it says which process it is.
    pub started: Duration,
    /// The name of its main thread, up to 15 bytes.
    pub comm: Vec<u8>,
    /// Its arguments, each ended by a NUL. Empty for a kernel thread and a zombie.
    pub arguments: Vec<u8>,
    /// Whether it is a thread of the kernel, which has no descriptors.
    pub is_kernel_thread: bool,
    /// Whether the caller may not look into it: descriptors and mappings are empty, and that means nothing.
    pub is_denied: bool,
    /// Its descriptors, by their number.
    pub descriptors: Vec<Descriptor>,
    /// Its shared mappings, by their address. Empty if they were not asked for.
    pub mappings: Vec<Mapping>,
}

/// A descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// What it stands for.
    pub object: Object,
    /// How it was opened. Of a pipe it is the end.
    pub access: Access,
}

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Processes and their descriptors.
    Descriptors,
    /// Shared mappings too: who has attached System V segments, files of `/dev/shm` and memfds. It costs much more.
    Mappings,
}

/// `proc(5)`: all processes.
///
/// # Errors
/// The errno: `ENOENT` where `/proc` is not mounted, `EMFILE`.
///
/// ```
/// use ginnel_os::census;
///
/// let census = census::take(census::Depth::Descriptors)?;
/// let own = census.processes.iter().find(|process| process.pid == std::process::id()).unwrap();
/// assert!(!own.is_denied);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn take(depth: Depth) -> io::Result<Census> {
    let proc = open_directory(CWD, c"/proc")?;
    let mut census = Census { is_partial: is_hiding(), ..Census::default() };
    let mut scanner = Scanner::new(depth);
    let mut space = [MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(&proc, &mut space);
    while let Some(entry) = entries.next() {
        let name = entry_or_again(entry.map(|entry| entry.file_name().to_owned()))?;
        let Some(name) = name.filter(|name| name.to_bytes().first().is_some_and(u8::is_ascii_digit)) else { continue };
        match scanner.process(proc.as_fd(), &name) {
            Ok(process) => census.processes.push(process),
            Err(Errno::NOENT | Errno::SRCH) => {}
            // A process that may not even be named: `hidepid=1`.
            Err(Errno::ACCESS | Errno::PERM) => census.is_partial = true,
            Err(e) => return Err(e.into()),
        }
    }
    census.processes.sort_unstable_by_key(|process| process.pid);
    census.denied = census.processes.iter().filter(|process| process.is_denied).count();
    Ok(census)
}

/// `proc(5)`: one process, with its mappings.
///
/// # Errors
/// The errno: `ENOENT` or `ESRCH` if there is no such process, or it is hidden.
///
/// ```
/// let own = ginnel_os::census::process(std::process::id())?;
/// assert!(own.started > std::time::Duration::ZERO);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn process(pid: u32) -> io::Result<Process> {
    let proc = open_directory(CWD, c"/proc")?;
    let name = std::ffi::CString::new(pid.to_string())?;
    Ok(Scanner::new(Depth::Mappings).process(proc.as_fd(), &name)?)
}

fn open_directory(at: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// `None` for a signal, after which the directory goes on.
fn entry_or_again<T>(entry: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match entry {
        Err(Errno::INTR) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether `/proc` is mounted with `hidepid` other than 0 ("off"). Where that cannot be read, it is not known to hide anything.
fn is_hiding() -> bool {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let is_proc = |line: &&[u8]| line.split(|byte| *byte == b' ').nth(4) == Some(b"/proc");
    let last = mounts.split(|byte| *byte == b'\n').rfind(is_proc);
    let options = last.and_then(|line| line.rsplit(|byte| *byte == b' ').next()).unwrap_or_default();
    options
        .split(|byte| *byte == b',')
        .any(|option| option.strip_prefix(b"hidepid=").is_some_and(|value| !matches!(value, b"0" | b"off")))
}

/// The buffers that all processes share.
struct Scanner {
    depth: Depth,
    ticks: u64,
    text: Vec<u8>,
    link: Vec<u8>,
}

/// A longer link than any path has.
const LINK: usize = 8192;

impl Scanner {
    fn new(depth: Depth) -> Self {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Self { depth, ticks, text: Vec::with_capacity(8192), link: vec![0; LINK] }
    }

    fn process(&mut self, proc: BorrowedFd<'_>, name: &CStr) -> Result<Process, Errno> {
        let directory = open_directory(proc, name)?;
        let mut process = Process { uid: rustix::fs::fstat(&directory)?.st_uid, ..Process::default() };
        self.read(directory.as_fd(), c"stat")?;
        self.read_stat(&mut process).ok_or(Errno::SRCH)?;
        self.read(directory.as_fd(), c"cmdline")?;
        process.arguments.extend_from_slice(&self.text);
        if process.is_kernel_thread {
            return Ok(process);
        }
        let deep = self.descriptors(directory.as_fd(), &mut process.descriptors).and_then(|()| match self.depth {
            Depth::Descriptors => Ok(()),
            Depth::Mappings => {
                self.read(directory.as_fd(), c"maps")?;
                process.mappings = parse_maps(&self.text);
                Ok(())
            }
        });
        match deep {
            // A zombie has none any more.
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(Errno::ACCESS | Errno::PERM) => process.is_denied = true,
            Err(e) => return Err(e),
        }
        Ok(process)
    }

    /// Reads a file into `self.text`.
    fn read(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.text.clear();
        loop {
            self.text.reserve(4096);
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.text)) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// `/proc/PID/stat`: the name stands in parentheses and may hold any byte, so the last one closes it.
    fn read_stat(&self, process: &mut Process) -> Option<()> {
        const KERNEL_THREAD: u64 = 0x0020_0000;
        let open = self.text.iter().position(|byte| *byte == b'(')?;
        let close = self.text.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(self.text[..open].trim_ascii()).ok()?.parse().ok()?;
        let fields: Vec<&str> =
            std::str::from_utf8(self.text.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
        // The fields are numbered from 1 in proc(5); the first one after the name is the third.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        process.pid = pid;
        process.comm = self.text.get(open + 1..close)?.to_vec();
        process.state = *fields.first()?.as_bytes().first()?;
        process.parent = u32::try_from(number(4)?).unwrap_or(0);
        process.is_kernel_thread = number(9)? & KERNEL_THREAD != 0;
        let ticks = number(22)?;
        let nanoseconds = (ticks % self.ticks) * 1_000_000_000 / self.ticks;
        process.started = Duration::new(ticks / self.ticks, u32::try_from(nanoseconds).unwrap_or(0));
        Some(())
    }

    fn descriptors(&mut self, directory: BorrowedFd<'_>, into: &mut Vec<Descriptor>) -> Result<(), Errno> {
        let folder = open_directory(directory, c"fd")?;
        let mut space = [MaybeUninit::uninit(); 8 << 10];
        let mut entries = RawDir::new(&folder, &mut space);
        while let Some(entry) = entries.next() {
            let name = match entry {
                Err(Errno::INTR) => continue,
                other => other?.file_name().to_owned(),
            };
            let Some(number) = name.to_str().ok().and_then(|name| name.parse().ok()) else { continue };
            match self.descriptor(directory, folder.as_fd(), &name, number) {
                // It was closed since.
                Err(Errno::NOENT) => {}
                other => into.push(other?),
            }
        }
        into.sort_unstable_by_key(|descriptor| descriptor.number);
        Ok(())
    }

    fn descriptor(
        &mut self,
        process: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &CStr,
        number: i32,
    ) -> Result<Descriptor, Errno> {
        // The permissions of the link are how the file was opened: the same as the flags in fdinfo, for a third of the price.
        let mode = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
        let len = rustix::fs::readlinkat_raw(folder, name, &mut self.link[..])?;
        let object = match Object::of_link(&self.link[..len]) {
            Object::File { path, .. } => file(folder, name, path),
            Object::Memfd { name: memfd, .. } => {
                Object::Memfd { name: memfd, id: stat(folder, name).map(|stat| id(&stat)) }
            }
            Object::Eventfd { .. } => Object::Eventfd { id: self.about(process, name, b"eventfd-id:") },
            Object::Pidfd { .. } => Object::Pidfd { pid: self.about(process, name, b"Pid:") },
            other => other,
        };
        Ok(Descriptor { number, object, access: Access::of_link_mode(mode) })
    }

    /// A number in `/proc/PID/fdinfo/N`.
    fn about(&mut self, process: BorrowedFd<'_>, name: &CStr, key: &[u8]) -> Option<u64> {
        let path = [b"fdinfo/", name.to_bytes_with_nul()].concat();
        self.read(process, CStr::from_bytes_with_nul(&path).ok()?).ok()?;
        let line = self.text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))?;
        std::str::from_utf8(line.trim_ascii()).ok()?.parse().ok()
    }
}

/// What a link to a path really is. Nothing is asked of a server of files: what the kernel has is enough, and a dead server would not answer.
fn file(folder: BorrowedFd<'_>, name: &CStr, path: Vec<u8>) -> Object {
    if object::is_plain_device(&path) {
        return Object::File { path, id: None, is_unlinked: false };
    }
    let Some(stat) = stat(folder, name) else { return Object::File { path, id: None, is_unlinked: false } };
    let is_queue = object::may_be_queue(&path) && is_on_mqueue(folder, name);
    Object::of_path(path, &stat, is_queue)
}

fn stat(folder: BorrowedFd<'_>, name: &CStr) -> Option<rustix::fs::Statx> {
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK;
    rustix::fs::statx(folder, name, AtFlags::STATX_DONT_SYNC, mask).ok()
}

fn id(stat: &rustix::fs::Statx) -> FileId {
    FileId { device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino }
}

/// `fstatfs(2)`, through a descriptor that opens nothing.
fn is_on_mqueue(folder: BorrowedFd<'_>, name: &CStr) -> bool {
    const MQUEUE_MAGIC: i64 = 0x1980_0202;
    let file = rustix::fs::openat(folder, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "its width differs between architectures")]
    file.and_then(rustix::fs::fstatfs).is_ok_and(|stat| stat.f_type as i64 == MQUEUE_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{socket, unix};
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::{Child, Command, Stdio};

    fn own() -> Process {
        process(std::process::id()).unwrap()
    }

    fn object(process: &Process, fd: impl AsFd) -> Descriptor {
        let number = fd.as_fd().as_raw_fd();
        process.descriptors.iter().find(|descriptor| descriptor.number == number).expect("it is listed").clone()
    }

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn own_descriptors_are_what_they_are() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (a, _b) = unix::pair(socket::Kind::Stream).unwrap();
        let memfd = rustix::fs::memfd_create(c"two words", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let null = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let seen = own();
        let end = |fd: &OwnedFd| (object(&seen, fd).object, object(&seen, fd).access);
        assert_eq!(end(&reader), (Object::Pipe { inode: inode(&reader) }, Access::Read));
        assert_eq!(end(&writer), (Object::Pipe { inode: inode(&reader) }, Access::Write));
        assert_eq!(end(&a), (Object::Socket { inode: inode(&a) }, Access::ReadWrite));
        assert!(
            matches!(end(&memfd).0, Object::Memfd { name, id: Some(id) } if name == b"two words" && id.inode == inode(&memfd))
        );
        assert!(matches!(end(&event).0, Object::Eventfd { id: Some(_) }));
        assert_eq!(end(&null).1, Access::None);
    }

    #[test]
    fn files_with_names_are_told_apart() {
        let name = format!("ginnel-os-census-{} (deleted)", std::process::id());
        let path = std::path::Path::new("/dev/shm").join(&name);
        let fifo = std::env::temp_dir().join(&name);
        let _clean = (Remove(path.clone()), Remove(fifo.clone()));
        let shm = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo_end = File::options().read(true).write(true).open(&fifo).unwrap();
        let seen = own();
        let Object::Shm { name: found, id, is_unlinked: false } = object(&seen, &shm).object else { panic!("no shm") };
        assert_eq!((&*found, id.inode), (name.as_bytes(), inode(&shm)));
        assert!(matches!(object(&seen, &fifo_end).object, Object::Fifo { is_unlinked: false, .. }));
        std::fs::remove_file(&path).unwrap();
        let Object::Shm { name: found, is_unlinked: true, .. } = object(&own(), &shm).object else { panic!("no shm") };
        assert_eq!(found, name.as_bytes());
    }

    #[test]
    fn a_shared_mapping_is_found() {
        let file = rustix::fs::memfd_create(c"mapped", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let mapping = crate::mmap::Mapping::of_file(file.as_fd(), 4096, true).unwrap();
        let seen = own();
        let start = mapping.base().as_ptr() as u64;
        let found = seen.mappings.iter().find(|mapping| mapping.start == start).expect("it is listed");
        // The same object, whether it is looked at through the descriptor or the mapping.
        assert_eq!(found.object, object(&seen, &file).object);
    }

    #[test]
    fn a_message_queue_is_known_without_a_mount() {
        let Some(child) = Python::start(
            "import ctypes,os
libc=ctypes.CDLL(None)
name=b'/ginnel-os-census-%d'%os.getpid()
q=libc.mq_open(name,os.O_CREAT|os.O_RDWR,0o600,None)
libc.mq_unlink(name)
print(q,flush=True)",
        ) else {
            return;
        };
        let number: i32 = child.said.parse().unwrap();
        if number < 0 {
            return eprintln!("skipped: no message queues here");
        }
        let seen = process(child.process.id()).unwrap();
        let queue = seen.descriptors.iter().find(|descriptor| descriptor.number == number).unwrap();
        let name = format!("/ginnel-os-census-{}", seen.pid);
        assert!(
            matches!(&queue.object, Object::MessageQueue { name: found, is_unlinked: true, .. } if found == name.as_bytes()),
            "{queue:?}"
        );
    }

    #[test]
    fn another_process_is_described() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let census = take(Depth::Descriptors).unwrap();
        let found = census.processes.iter().find(|process| process.pid == pid).cloned();
        let own_end = inode(child.stdin.as_ref().unwrap());
        child.kill().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let mut zombie = process(pid).unwrap();
        while zombie.state != b'Z' && std::time::Instant::now() < end {
            std::thread::yield_now();
            zombie = process(pid).unwrap();
        }
        child.wait().unwrap();
        let found = found.expect("it is listed");
        assert_eq!((found.parent, found.uid), (std::process::id(), crate::process::user()));
        assert!(found.descriptors.iter().any(|descriptor| {
            descriptor.object == Object::Pipe { inode: own_end } && descriptor.access == Access::Read
        }));
        assert!(found.started >= own().started);
        assert_eq!((zombie.state, zombie.is_denied), (b'Z', false));
        assert!(process(pid).is_err());
        assert!(process(0).is_err() && process(u32::MAX).is_err());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let mut process = Process::default();
        let mut scanner = Scanner::new(Depth::Descriptors);
        let rest = "S 7 0 0 0 0 4194304 0 0 0 0 0 0 0 0 0 0 0 0 250 0";
        scanner.text = [b"42 (a) R 1 (\xff\n) ", rest.as_bytes()].concat();
        scanner.ticks = 100;
        scanner.read_stat(&mut process).unwrap();
        assert_eq!((process.pid, process.parent, &*process.comm), (42, 7, &b"a) R 1 (\xff\n"[..]));
        assert_eq!(process.started, Duration::from_millis(2500));
        let whole = scanner.text.clone();
        for len in 0..whole.len() - "250 0".len() {
            scanner.text = whole[..len].to_vec();
            assert!(scanner.read_stat(&mut Process::default()).is_none(), "{len}");
        }
    }

    #[test]
    fn who_may_not_look_is_told() {
        if crate::process::user() != 0 {
            return eprintln!("skipped: only root can become somebody else");
        }
        // Only this thread becomes another user, and it ends here.
        let look = std::thread::spawn(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            take(Depth::Mappings)
        });
        let census = look.join().unwrap().unwrap();
        let first = census.processes.iter().find(|process| process.pid == 1).unwrap();
        assert!(census.denied > 0 && first.is_denied && !first.comm.is_empty());
        assert!(first.descriptors.is_empty());
        assert!(!census.is_partial);
    }

    struct Remove(std::path::PathBuf);

    impl Drop for Remove {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A script that has said one line and now waits; killed when dropped.
    struct Python {
        process: Child,
        said: String,
    }

    impl Python {
        fn start(script: &str) -> Option<Self> {
            let script = format!("{script}\nimport sys\nsys.stdin.read()");
            let mut command = Command::new("python3");
            command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let Ok(mut process) = command.spawn() else {
                eprintln!("skipped: no python3 here");
                return None;
            };
            let mut said = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.as_mut()?), &mut said).ok()?;
            Some(Self { process, said: said.trim().into() })
        }
    }

    impl Drop for Python {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
