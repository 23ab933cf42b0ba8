//! `pipe(2)`, `pipe(7)`: bytes in order from whoever holds a [`Writer`] to whoever holds a [`Reader`], also those of a FIFO (see
//! [`crate::fifo`]). Moving bytes between a pipe and another file without copying them is in [`crate::splice`].
//!
//! - The descriptors block, and stay so: a child that inherits one must not find `O_NONBLOCK` set, which belongs to the description that
//!   both share. What must not block here passes `RWF_NOWAIT` with the call, or, on FIFOs and before Linux 6.4, uses a second
//!   description of the same pipe, opened through `/proc/self/fd` the first time it is needed and closed with the first. Where that cannot be had
//!   (no `/proc`, no permission) the pipe is polled first; then only somebody who takes what was seen there in the meantime can make the call wait.
//! - A write to a pipe without readers is an error, `EPIPE`, and never the signal `SIGPIPE`. The disposition is looked up when a `Writer` is made:
//!   where the signal is ignored, as in a Rust program, a write is a plain `write(2)`. A program that makes the signal deadly later calls
//!   [`Writer::learn_sigpipe`].
//! - A write of up to [`ATOMIC`] bytes is one piece, however many write; a longer one may be mixed with others'.
//! - The end, read as 0 bytes, is when every writer is gone. That no writer has come yet is not the end.

use crate::explain::not_opened;
use crate::sigpipe::{self, Care, NOSIGNAL};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::pipe::PipeFlags;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `PIPE_BUF`: writes of so many bytes are atomic.
pub const ATOMIC: usize = rustix::pipe::PIPE_BUF;

/// `IOV_MAX`.
const MOST_BUFFERS: usize = 1024;

/// With `preadv2(2)` and its like: go on where the last one ended.
const NO_OFFSET: u64 = u64::MAX;

/// `pipe2(2)`: a pipe of bytes.
///
/// # Errors
/// The errno: `EMFILE`, `ENFILE`.
///
/// # Examples
/// ```
/// let (reader, writer) = ginnel_os::pipe::pair()?;
/// writer.write_all(b"hello", None)?;
/// drop(writer);
/// let mut buffer = [0; 8];
/// assert_eq!(reader.read(&mut buffer, None)?, 5);
/// assert_eq!(reader.read(&mut buffer, None)?, 0); // the end
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pair() -> io::Result<(Reader, Writer)> {
    make(PipeFlags::CLOEXEC)
}

/// `pipe2(2)` with `O_DIRECT`: a pipe of packets. Each write of up to [`ATOMIC`] bytes is one packet, a longer one several; each read takes
/// one packet, and what does not fit in its buffer is lost, so offer [`ATOMIC`] bytes.
///
/// # Errors
/// The errno: `EMFILE`, `ENFILE`.
///
/// # Examples
/// ```
/// let (reader, writer) = ginnel_os::pipe::packets()?;
/// writer.write(b"one", None)?;
/// writer.write(b"three", None)?;
/// let mut buffer = [0; ginnel_os::pipe::ATOMIC];
/// assert_eq!(reader.read(&mut buffer, None)?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn packets() -> io::Result<(Reader, Writer)> {
    make(PipeFlags::CLOEXEC | PipeFlags::DIRECT)
}

fn make(flags: PipeFlags) -> io::Result<(Reader, Writer)> {
    let (reader, writer) = rustix::pipe::pipe_with(flags).map_err(not_opened)?;
    Ok((Reader::of(reader), Writer::of(writer)))
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    Try,
    /// Until then.
    Until(Instant),
    /// For ever.
    Forever,
}

impl Patience {
    /// What the callers of this crate write.
    pub(crate) fn of(deadline: Option<Instant>) -> Self {
        deadline.map_or(Self::Forever, Self::Until)
    }

    /// Waits for something worth another try; `AGAIN` or `TIMEDOUT` when there is no time for that.
    pub(crate) fn wait(self, file: BorrowedFd<'_>, events: PollFlags) -> Result<(), Errno> {
        let left = match self {
            Self::Try => return Err(Errno::AGAIN),
            Self::Until(at) => Some(at.saturating_duration_since(Instant::now())),
            Self::Forever => None,
        };
        if left == Some(Duration::ZERO) {
            return Err(Errno::TIMEDOUT);
        }
        poll_for(file, events, left).map(drop)
    }
}

/// One end, and how to try it without waiting.
#[derive(Debug)]
struct End {
    file: OwnedFd,
    /// Empty while `RWF_NOWAIT` is good enough; then a description of its own that does not block, if it could be had.
    second: OnceLock<Option<OwnedFd>>,
}

/// How one call is to be made: on which descriptor, with which flags, for at most how many bytes.
struct Way<'a>(BorrowedFd<'a>, ReadWriteFlags, usize);

impl End {
    fn of(file: OwnedFd) -> Self {
        Self { file, second: OnceLock::new() }
    }

    /// How a call is made that may wait.
    #[inline]
    fn blocking(&self) -> Way<'_> {
        Way(self.file.as_fd(), ReadWriteFlags::empty(), usize::MAX)
    }

    /// Makes a call until it has a result or patience ends.
    #[inline]
    fn run<R>(
        &self,
        patience: Patience,
        events: PollFlags,
        call: &mut impl FnMut(Way<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        loop {
            let result = match patience {
                Patience::Forever => call(self.blocking()),
                _ => self.attempt(events, call),
            };
            match result {
                // Without a deadline: somebody has set O_NONBLOCK on the description that we share.
                Err(Errno::AGAIN) => patience.wait(self.file.as_fd(), events)?,
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Makes a call that does not wait.
    #[inline]
    fn attempt<R>(&self, events: PollFlags, call: &mut impl FnMut(Way<'_>) -> Result<R, Errno>) -> Result<R, Errno> {
        let (file, none) = (self.file.as_fd(), ReadWriteFlags::empty());
        match self.second.get() {
            None => match call(Way(file, ReadWriteFlags::NOWAIT, usize::MAX)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.attempt_on_second(events, call),
                result => result,
            },
            Some(Some(second)) => call(Way(second.as_fd(), none, usize::MAX)),
            Some(None) => self.attempt_on_second(events, call),
        }
    }

    /// The same where `RWF_NOWAIT` is not good enough.
    #[cold]
    fn attempt_on_second<R>(
        &self,
        events: PollFlags,
        call: &mut impl FnMut(Way<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let (file, none) = (self.file.as_fd(), ReadWriteFlags::empty());
        if self.second.get().is_none() {
            let second = self.reopen();
            if matches!(second, Err(Errno::NXIO)) {
                return Err(Errno::PIPE); // A FIFO without readers cannot be opened for writing.
            }
            self.second.get_or_init(|| second.ok());
        }
        match self.second.get().and_then(Option::as_ref) {
            Some(second) => call(Way(second.as_fd(), none, usize::MAX)),
            None if poll_for(file, events, Some(Duration::ZERO))?.is_empty() => Err(Errno::AGAIN),
            None => call(Way(file, none, ATOMIC)),
        }
    }

    /// A description of the same pipe that does not block and is nobody else's.
    fn reopen(&self) -> Result<OwnedFd, Errno> {
        let access = rustix::fs::fcntl_getfl(&self.file)? & (OFlags::RWMODE | OFlags::DIRECT);
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(path.as_str(), flags, rustix::fs::Mode::empty())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.file)?)
    }

    fn size(&self) -> io::Result<usize> {
        Ok(rustix::pipe::fcntl_getpipe_size(&self.file)?)
    }

    fn set_size(&self, bytes: usize) -> io::Result<usize> {
        if i32::try_from(bytes).is_err() {
            let text = format!("a pipe of {bytes} bytes is above the limit of the call, {}; use less", i32::MAX);
            return Err(invalid(text));
        }
        rustix::pipe::fcntl_setpipe_size(&self.file, bytes).map_err(|error| self.size_refused(bytes, error))
    }

    #[cold]
    fn size_refused(&self, bytes: usize, error: Errno) -> io::Error {
        match error {
            Errno::PERM => {
                let limit = |name| {
                    let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}"));
                    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
                };
                let text = format!(
                    "a pipe of {bytes} bytes: /proc/sys/fs/pipe-max-size is {}, and all pipes of a user may have {} pages \
                     (/proc/sys/fs/pipe-user-pages-soft); use less, raise them, or have CAP_SYS_RESOURCE",
                    limit("pipe-max-size"),
                    limit("pipe-user-pages-soft"),
                );
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            }
            Errno::BUSY => {
                let there = self.available().unwrap_or(0);
                let text = format!("a pipe of {bytes} bytes has no room for the {there} bytes in it; read them first");
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            error => error.into(),
        }
    }
}

/// `poll(2)` of one descriptor, once; nothing when a signal came.
pub(crate) fn poll_for(file: BorrowedFd<'_>, events: PollFlags, limit: Option<Duration>) -> Result<PollFlags, Errno> {
    let mut files = [PollFd::from_borrowed_fd(file, events)];
    let limit = limit.map(|limit| rustix::event::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    match rustix::event::poll(&mut files, limit.as_ref()) {
        Ok(_) => Ok(files[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error),
    }
}

#[cold]
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What a file is, for a person who meant a pipe.
pub(crate) fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "an object of the kernel",
    }
}

/// That a descriptor is a pipe or FIFO, open as wanted.
fn check(file: &OwnedFd, wanted: OFlags) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    if kind != FileType::Fifo {
        return Err(invalid(format!("the descriptor is {}, not a pipe; pass a pipe or a FIFO", name_of(kind))));
    }
    let flags = rustix::fs::fcntl_getfl(file)?;
    let access = flags & OFlags::RWMODE;
    let use_of = if wanted == OFlags::RDONLY { "reading" } else { "writing" };
    if flags.contains(OFlags::PATH) || (access != wanted && access != OFlags::RDWR) {
        return Err(invalid(format!("the descriptor is a pipe that is not open for {use_of}; pass its other end")));
    }
    Ok(())
}

/// What the writers of a [`Reader`] are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A FIFO that nobody has opened for writing since it was opened for reading.
    NoWriterYet,
    /// Somebody can write.
    Open,
    /// There were writers and they have gone. What they wrote may still be there: [`Reader::available`]. A FIFO is `Open` again when
    /// another one comes.
    Ended,
}

/// The end of a pipe or FIFO that is read.
#[derive(Debug)]
pub struct Reader {
    end: End,
    /// For `splice(2)` into something that nobody reads.
    care: OnceLock<Care>,
}

impl Reader {
    pub(crate) fn of(file: OwnedFd) -> Self {
        Self { end: End::of(file), care: OnceLock::new() }
    }

    pub(crate) fn care(&self) -> Care {
        *self.care.get_or_init(Care::learn)
    }

    /// `fstat(2)`, `F_GETFL`: takes a descriptor over that is a pipe or FIFO open for reading. Its flags are left as they are.
    ///
    /// # Errors
    /// `InvalidInput`: it is something else, which is named, or not open for reading.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pipe::{Reader, pair};
    ///
    /// let (reader, writer) = pair()?;
    /// assert!(Reader::from_fd(writer.into()).is_err());
    /// assert!(Reader::from_fd(reader.into()).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        check(&file, OFlags::RDONLY)?;
        Ok(Self::of(file))
    }

    /// `read(2)`: at least one byte, and at most what the buffer takes; 0 is the end (or an empty buffer).
    ///
    /// # Errors
    /// The errno; `TimedOut` when nothing came until the deadline.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let (reader, _writer) = ginnel_os::pipe::pair()?;
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(reader.read(&mut [0; 8], Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        // Most calls find something at once; whatever else happens is met again below.
        if deadline.is_none() && !buffer.is_empty() {
            if let Ok(taken @ 1..) = rustix::io::read(&self.end.file, &mut *buffer) {
                return Ok(taken);
            }
        }
        self.receive(&mut [IoSliceMut::new(buffer)], Patience::of(deadline))
    }

    /// `preadv2(2)` with `RWF_NOWAIT`: what is there; 0 is the end (or an empty buffer).
    ///
    /// # Errors
    /// The errno; `WouldBlock` when nothing is there.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(reader.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// writer.try_write(b"now")?;
    /// assert_eq!(reader.try_read(&mut [0; 8])?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(&mut [IoSliceMut::new(buffer)], Patience::Try)
    }

    /// `readv(2)`: as [`Self::read`], into several buffers, one after another.
    ///
    /// # Errors
    /// As [`Self::read`].
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSliceMut;
    ///
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write(b"\x05hello", None)?;
    /// let (mut length, mut text) = ([0; 1], [0; 8]);
    /// reader.read_vectored(&mut [IoSliceMut::new(&mut length), IoSliceMut::new(&mut text)], None)?;
    /// assert_eq!(&text[..length[0].into()], b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>], deadline: Option<Instant>) -> io::Result<usize> {
        self.receive(buffers, Patience::of(deadline))
    }

    /// `read(2)` until the buffer is full.
    ///
    /// # Errors
    /// What is wrong, with the bytes that were read before: `UnexpectedEof` at the end, else as [`Self::read`].
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write_all(b"abc", None)?;
    /// drop(writer);
    /// let failed = reader.read_exact(&mut [0; 4], None).unwrap_err();
    /// assert_eq!((failed.done, failed.error.kind()), (3, std::io::ErrorKind::UnexpectedEof));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_exact(&self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<(), Partial> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read(&mut buffer[done..], deadline) {
                Ok(0) => return Err(Partial { done, error: io::ErrorKind::UnexpectedEof.into() }),
                Ok(more) => done += more,
                Err(error) => return Err(Partial { done, error }),
            }
        }
        Ok(())
    }

    #[inline]
    fn receive(&self, buffers: &mut [IoSliceMut<'_>], patience: Patience) -> io::Result<usize> {
        if patience == Patience::Forever {
            match receive(&self.end.blocking(), buffers) {
                Ok(taken @ 1..) => return Ok(taken),
                Ok(_) if have_no_room(buffers) || self.is_over(patience)? => return Ok(0),
                _ => {} // An error comes again.
            }
        }
        self.receive_with(buffers, patience)
    }

    #[inline(never)]
    fn receive_with(&self, buffers: &mut [IoSliceMut<'_>], patience: Patience) -> io::Result<usize> {
        if have_no_room(buffers) {
            return Ok(0);
        }
        loop {
            let taken = self.end.run(patience, PollFlags::IN, &mut |way| receive(&way, buffers))?;
            if taken > 0 || self.is_over(patience)? {
                return Ok(taken);
            }
        }
    }

    /// After a call that found nothing: whether that is the end. If no writer has come yet it waits for one that writes or leaves.
    pub(crate) fn is_over(&self, patience: Patience) -> Result<bool, Errno> {
        let seen = poll_for(self.as_fd(), PollFlags::IN, Some(Duration::ZERO))?;
        if seen.is_empty() {
            patience.wait(self.as_fd(), PollFlags::IN)?;
        }
        // Somebody may have come, written and gone since: then there is something to read first.
        Ok(seen.contains(PollFlags::HUP) && !seen.contains(PollFlags::IN))
    }

    /// `poll(2)`, and `tee(2)` of nothing: what the writers are doing. It takes nothing from the pipe.
    ///
    /// # Errors
    /// The errno: `EMFILE`, as it needs two descriptors for a moment.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pipe::{State, pair};
    ///
    /// let (reader, writer) = pair()?;
    /// assert_eq!(reader.state()?, State::Open);
    /// drop(writer);
    /// assert_eq!(reader.state()?, State::Ended);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn state(&self) -> io::Result<State> {
        let seen = poll_for(self.as_fd(), PollFlags::IN, Some(Duration::ZERO))?;
        if seen.contains(PollFlags::HUP) {
            return Ok(State::Ended);
        }
        // On an empty pipe `tee` says 0 without writers, and EAGAIN with some. A byte that it finds is copied, not taken.
        let (_reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        match rustix::pipe::tee(&self.end.file, &writer, 1, rustix::pipe::SpliceFlags::NONBLOCK) {
            Ok(0) => Ok(State::NoWriterYet),
            Ok(_) | Err(Errno::AGAIN) => Ok(State::Open),
            Err(error) => Err(error.into()),
        }
    }
}

impl Reader {
    /// `ioctl(2)` with `FIONREAD`: bytes that are in the pipe, whoever may take them.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write(b"four", None)?;
    /// assert_eq!(reader.available()?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn available(&self) -> io::Result<u64> {
        self.end.available()
    }

    /// `F_GETPIPE_SZ`: bytes that the pipe holds when each of its pages is full. Small writes may leave pages half empty.
    ///
    /// # Errors
    /// The errno.
    pub fn size(&self) -> io::Result<usize> {
        self.end.size()
    }

    /// `F_SETPIPE_SZ`: makes the pipe hold at least so many bytes. The kernel rounds up to a power of two of pages; the result is what it
    /// made.
    ///
    /// # Errors
    /// `PermissionDenied`: above `/proc/sys/fs/pipe-max-size`, or the user has too much in pipes. `ResourceBusy`: less than is in it.
    /// `InvalidInput`: above 2^31 - 1. Else the errno: `ENOMEM`.
    ///
    /// # Examples
    /// ```
    /// let (reader, _writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(reader.set_size(5000)?, 8192);
    /// assert_eq!(reader.size()?, 8192);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_size(&self, bytes: usize) -> io::Result<usize> {
        self.end.set_size(bytes)
    }

    /// `dup(2)`: a second handle of the same end. The other side sees no end until both are gone.
    ///
    /// # Errors
    /// The errno: `EMFILE`.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let other = reader.try_clone()?;
    /// drop(reader);
    /// assert!(writer.has_reader()?);
    /// # drop(other);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::of(self.end.file.try_clone()?))
    }

    /// `dup2(2)`, when the child is started: hands this end to a child, as its standard input or output.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let mut child = std::process::Command::new("cat").stdin(reader.into_stdio()).stdout(std::process::Stdio::null()).spawn()?;
    /// writer.write_all(b"hello", None)?;
    /// drop(writer);
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_stdio(self) -> Stdio {
        Stdio::from(self.end.file)
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.file.as_fd()
    }
}

impl From<Reader> for OwnedFd {
    fn from(end: Reader) -> Self {
        end.end.file
    }
}

impl From<Reader> for Stdio {
    fn from(end: Reader) -> Self {
        end.into_stdio()
    }
}

impl TryFrom<OwnedFd> for Reader {
    type Error = io::Error;

    fn try_from(file: OwnedFd) -> io::Result<Self> {
        Self::from_fd(file)
    }
}

/// The end of a pipe or FIFO that is written.
#[derive(Debug)]
pub struct Writer {
    end: End,
    care: Care,
}

impl Writer {
    pub(crate) fn of(file: OwnedFd) -> Self {
        Self { end: End::of(file), care: Care::learn() }
    }

    pub(crate) fn care(&self) -> Care {
        self.care
    }

    /// `fstat(2)`, `F_GETFL`: takes a descriptor over that is a pipe or FIFO open for writing. Its flags are left as they are.
    ///
    /// # Errors
    /// `InvalidInput`: it is something else, which is named, or not open for writing.
    ///
    /// # Examples
    /// ```
    /// let file = std::fs::File::open("/dev/null")?;
    /// let error = ginnel_os::pipe::Writer::from_fd(file.into()).unwrap_err();
    /// assert!(error.to_string().contains("a character device, not a pipe"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        check(&file, OFlags::WRONLY)?;
        Ok(Self::of(file))
    }

    /// `sigaction(2)`: looks the disposition of `SIGPIPE` up again. Only needed after the program has changed it from ignored to
    /// something else.
    ///
    /// # Examples
    /// ```
    /// let (_reader, mut writer) = ginnel_os::pipe::pair()?;
    /// writer.learn_sigpipe();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn learn_sigpipe(&mut self) {
        self.care = Care::learn();
    }

    /// `write(2)`: up to [`ATOMIC`] bytes wholly and in one piece. Of more, all without a deadline unless a signal handler runs, and with one
    /// what there is room for, at least a byte.
    ///
    /// # Errors
    /// The errno: `BrokenPipe` when nobody reads; `TimedOut` when there was no room until the deadline.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(writer.write(b"hello", None)?, 5);
    /// drop(reader);
    /// assert_eq!(writer.write(b"hello", None).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn write(&self, bytes: &[u8], deadline: Option<Instant>) -> io::Result<usize> {
        // As in `Reader::read`.
        if deadline.is_none() && self.care == Care::Nothing && !bytes.is_empty() {
            if let Ok(written) = rustix::io::write(&self.end.file, bytes) {
                return Ok(written);
            }
        }
        self.send(&[IoSlice::new(bytes)], Patience::of(deadline))
    }

    /// `pwritev2(2)` with `RWF_NOWAIT`: up to [`ATOMIC`] bytes wholly or not at all, of more what there is room for.
    ///
    /// # Errors
    /// The errno: `WouldBlock` when there is no room, `BrokenPipe` when nobody reads.
    ///
    /// # Examples
    /// ```
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// while writer.try_write(&[0; 4096]).is_ok() {}
    /// assert_eq!(writer.try_write(&[0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(bytes)], Patience::Try)
    }

    /// `write(2)` until everything is written.
    ///
    /// # Errors
    /// What is wrong, as [`Self::write`], with the bytes that were written before.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    ///
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// let room = writer.size()?;
    /// let failed = writer.write_all(&vec![7; room + 1], Some(Instant::now())).unwrap_err();
    /// assert_eq!((failed.done, failed.error.kind()), (room, std::io::ErrorKind::TimedOut));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_all(&self, bytes: &[u8], deadline: Option<Instant>) -> Result<(), Partial> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write(&bytes[done..], deadline) {
                Ok(more) => done += more,
                Err(error) => return Err(Partial { done, error }),
            }
        }
        Ok(())
    }

    /// `writev(2)`: as [`Self::write`], from several buffers, one after another.
    ///
    /// # Errors
    /// As [`Self::write`].
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    ///
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(writer.write_vectored(&[IoSlice::new(b"one"), IoSlice::new(b" two")], None)?, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_vectored(&self, buffers: &[IoSlice<'_>], deadline: Option<Instant>) -> io::Result<usize> {
        self.send(buffers, Patience::of(deadline))
    }

    /// `writev(2)` of at most [`ATOMIC`] bytes, a header and a payload say: all in one piece, or nothing.
    ///
    /// # Errors
    /// `InvalidInput`: more bytes, or more than 1024 buffers. Else as [`Self::write`].
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    ///
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write_atomic(&[IoSlice::new(&[5]), IoSlice::new(b"hello")], None)?;
    /// assert_eq!(reader.available()?, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_atomic(&self, buffers: &[IoSlice<'_>], deadline: Option<Instant>) -> io::Result<()> {
        check_atomic(buffers)?;
        self.send(buffers, Patience::of(deadline)).map(drop)
    }

    /// `pwritev2(2)` with `RWF_NOWAIT`: as [`Self::write_atomic`], without waiting.
    ///
    /// # Errors
    /// As [`Self::write_atomic`]; `WouldBlock` when there is no room.
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    ///
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.try_write_atomic(&[IoSlice::new(&[5]), IoSlice::new(b"hello")])?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_write_atomic(&self, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        check_atomic(buffers)?;
        self.send(buffers, Patience::Try).map(drop)
    }

    #[inline]
    fn send(&self, buffers: &[IoSlice<'_>], patience: Patience) -> io::Result<usize> {
        if patience == Patience::Forever && self.care == Care::Nothing {
            if let Ok(written @ 1..) = write_as(Care::Nothing, self.end.file.as_fd(), ReadWriteFlags::empty(), buffers)
            {
                return Ok(written);
            }
        }
        self.send_with(buffers, patience)
    }

    #[inline(never)]
    fn send_with(&self, buffers: &[IoSlice<'_>], patience: Patience) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        Ok(self.end.run(patience, PollFlags::OUT, &mut |way| send(self.care, &way, buffers))?)
    }

    /// `poll(2)`: whether anybody has the pipe open for reading, this process included.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// assert!(writer.has_reader()?);
    /// drop(reader);
    /// assert!(!writer.has_reader()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn has_reader(&self) -> io::Result<bool> {
        Ok(!poll_for(self.as_fd(), PollFlags::empty(), Some(Duration::ZERO))?.contains(PollFlags::ERR))
    }
}

impl Writer {
    /// `ioctl(2)` with `FIONREAD`: bytes that are in the pipe, whoever may take them.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write(b"four", None)?;
    /// assert_eq!(writer.available()?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn available(&self) -> io::Result<u64> {
        self.end.available()
    }

    /// `F_GETPIPE_SZ`: bytes that the pipe holds when each of its pages is full. Small writes may leave pages half empty.
    ///
    /// # Errors
    /// The errno.
    pub fn size(&self) -> io::Result<usize> {
        self.end.size()
    }

    /// `F_SETPIPE_SZ`: makes the pipe hold at least so many bytes. The kernel rounds up to a power of two of pages; the result is what it
    /// made.
    ///
    /// # Errors
    /// `PermissionDenied`: above `/proc/sys/fs/pipe-max-size`, or the user has too much in pipes. `ResourceBusy`: less than is in it.
    /// `InvalidInput`: above 2^31 - 1. Else the errno: `ENOMEM`.
    ///
    /// # Examples
    /// ```
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(writer.set_size(5000)?, 8192);
    /// assert_eq!(writer.size()?, 8192);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_size(&self, bytes: usize) -> io::Result<usize> {
        self.end.set_size(bytes)
    }

    /// `dup(2)`: a second handle of the same end. The other side sees no end until both are gone.
    ///
    /// # Errors
    /// The errno: `EMFILE`.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pipe::{State, pair};
    ///
    /// let (reader, writer) = pair()?;
    /// let other = writer.try_clone()?;
    /// drop(writer);
    /// assert_eq!(reader.state()?, State::Open);
    /// # drop(other);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::of(self.end.file.try_clone()?))
    }

    /// `dup2(2)`, when the child is started: hands this end to a child, as its standard input or output.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let status = std::process::Command::new("echo").arg("hello").stdout(writer.into_stdio()).status()?;
    /// assert!(status.success());
    /// assert_eq!(std::io::read_to_string(reader)?, "hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_stdio(self) -> Stdio {
        Stdio::from(self.end.file)
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.file.as_fd()
    }
}

impl From<Writer> for OwnedFd {
    fn from(end: Writer) -> Self {
        end.end.file
    }
}

impl From<Writer> for Stdio {
    fn from(end: Writer) -> Self {
        end.into_stdio()
    }
}

impl TryFrom<OwnedFd> for Writer {
    type Error = io::Error;

    fn try_from(file: OwnedFd) -> io::Result<Self> {
        Self::from_fd(file)
    }
}

/// What went wrong, and how far it had come.
#[derive(Debug)]
pub struct Partial {
    /// The bytes that were read or written before.
    pub done: usize,
    /// What ended it.
    pub error: io::Error,
}

impl std::fmt::Display for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {} bytes", self.error, self.done)
    }
}

impl std::error::Error for Partial {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Partial> for io::Error {
    fn from(partial: Partial) -> Self {
        partial.error
    }
}

fn check_atomic(buffers: &[IoSlice<'_>]) -> io::Result<()> {
    let bytes = buffers.iter().fold(0usize, |bytes, buffer| bytes.saturating_add(buffer.len()));
    if bytes > ATOMIC {
        let text =
            format!("{bytes} bytes are above PIPE_BUF, {ATOMIC}, which a pipe takes in one piece; use `write_all`");
        return Err(invalid(text));
    }
    if buffers.len() > MOST_BUFFERS {
        let text = format!("{} buffers are above IOV_MAX, {MOST_BUFFERS}; put them together first", buffers.len());
        return Err(invalid(text));
    }
    Ok(())
}

fn have_no_room(buffers: &[IoSliceMut<'_>]) -> bool {
    buffers.iter().all(|buffer| buffer.is_empty())
}

#[inline]
fn receive(&Way(file, flags, _): &Way<'_>, buffers: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
    match buffers {
        [buffer] if flags.is_empty() => rustix::io::read(file, &mut **buffer),
        buffers if flags.is_empty() => rustix::io::readv(file, buffers),
        buffers => rustix::io::preadv2(file, buffers, NO_OFFSET, flags),
    }
}

fn send(care: Care, &Way(file, flags, longest): &Way<'_>, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
    if total > longest {
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |buffer| &buffer[..]);
        return write_as(care, file, flags, &[IoSlice::new(&first[..first.len().min(longest)])]);
    }
    write_as(care, file, flags, buffers)
}

#[inline]
fn write_as(care: Care, file: BorrowedFd<'_>, flags: ReadWriteFlags, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
    match (care, buffers) {
        (Care::Nothing, [buffer]) if flags.is_empty() => rustix::io::write(file, buffer),
        (Care::Nothing, buffers) if flags.is_empty() => rustix::io::writev(file, buffers),
        (Care::Nothing, buffers) => rustix::io::pwritev2(file, buffers, NO_OFFSET, flags),
        (Care::Flag, buffers) => rustix::io::pwritev2(file, buffers, NO_OFFSET, flags | NOSIGNAL),
        (Care::Mask, buffers) => sigpipe::without(|| write_as(Care::Nothing, file, flags, buffers)),
    }
}

impl io::Read for &Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Reader::read(self, buffer, None)
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Reader::read(self, buffer, None)
    }
}

impl io::Write for &Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Writer::write(self, bytes, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Writer::write(self, bytes, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::{Storm, eventually};
    use std::io::ErrorKind;
    use std::path::PathBuf;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(30))
    }

    /// Both ends of a FIFO that has no name any more.
    fn fifo(case: &str) -> (Reader, Writer) {
        let path = PathBuf::from(format!("/dev/shm/ginnel-pipe-{case}-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
        let open = |access| rustix::fs::open(&path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, 0.into()).unwrap();
        let ends = (open(OFlags::RDONLY), open(OFlags::WRONLY));
        std::fs::remove_file(&path).unwrap();
        for end in [&ends.0, &ends.1] {
            rustix::fs::fcntl_setfl(end, OFlags::empty()).unwrap();
        }
        (Reader::from_fd(ends.0).unwrap(), Writer::from_fd(ends.1).unwrap())
    }

    fn blocks(file: impl AsFd) -> bool {
        !rustix::fs::fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK)
    }

    /// As [`End::attempt`] finds it without `RWF_NOWAIT` and without `/proc`.
    fn without_second(end: &End) {
        end.second.set(None).unwrap();
    }

    fn every_way(case: &str) -> [(Reader, Writer); 3] {
        let (reader, writer) = pair().unwrap();
        without_second(&reader.end);
        without_second(&writer.end);
        [pair().unwrap(), fifo(case), (reader, writer)]
    }

    #[test]
    fn nothing_blocks_and_no_flag_is_changed() {
        for (reader, writer) in every_way("tries") {
            let mut buffer = [0; 8192];
            assert_eq!(reader.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(reader.read(&mut buffer, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(reader.read(&mut buffer, Some(Instant::now())).unwrap_err().kind(), ErrorKind::TimedOut);
            let size = writer.set_size(8192).unwrap();
            let mut written = 0;
            while let Ok(more) = writer.try_write(&[7; 8192]) {
                written += more;
            }
            assert_eq!(written, size);
            assert_eq!(writer.write(&[7], soon()).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(reader.try_read(&mut buffer).unwrap(), size);
            assert!(blocks(&reader) && blocks(&writer));
            assert_eq!(reader.try_read(&mut []).unwrap(), 0);
            assert_eq!(writer.try_write(&[]).unwrap(), 0);
        }
    }

    #[test]
    fn a_deadline_holds_in_a_storm_of_signals() {
        let (reader, writer) = pair().unwrap();
        let _storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(reader.read(&mut [0], Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        let until = Instant::now() + Duration::from_millis(60);
        let failed = writer.write_all(&[0; 100_000], Some(until)).unwrap_err();
        assert_eq!((failed.done, failed.error.kind()), (65536, ErrorKind::TimedOut));
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_blocking_call_goes_on_after_signals() {
        let (reader, writer) = pair().unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40));
            writer.write_all(b"late", None).unwrap();
        });
        let _storm = Storm::here();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer, None).unwrap(), 4);
        late.join().unwrap();
        assert_eq!(reader.read(&mut buffer, None).unwrap(), 0);
    }

    #[test]
    fn a_descriptor_that_somebody_made_nonblocking_still_waits() {
        let (reader, writer) = pair().unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            writer.write(&[1], None).unwrap();
        });
        assert_eq!(reader.read(&mut [0; 2], None).unwrap(), 1);
        late.join().unwrap();
    }

    #[test]
    fn a_write_is_atomic_up_to_the_limit() {
        let (reader, writer) = pair().unwrap();
        let most = [IoSlice::new(&[1; 96]), IoSlice::new(&[2; ATOMIC - 96])];
        writer.write_atomic(&most, None).unwrap();
        while writer.try_write_atomic(&most).is_ok() {}
        assert_eq!(reader.available().unwrap() % ATOMIC as u64, 0);
        let more = [IoSlice::new(&[1; 97]), IoSlice::new(&[2; ATOMIC - 96])];
        assert_eq!(writer.write_atomic(&more, None).unwrap_err().kind(), ErrorKind::InvalidInput);
        let many = vec![IoSlice::new(&[1]); MOST_BUFFERS + 1];
        assert!(writer.write_atomic(&many, None).unwrap_err().to_string().contains("1025 buffers"));
        writer.write_atomic(&[], None).unwrap();
    }

    #[test]
    fn without_readers_every_write_is_an_error_and_no_signal() {
        for (reader, mut writer) in every_way("broken") {
            assert!(writer.has_reader().unwrap());
            drop(reader);
            eventually(|| !writer.has_reader().unwrap());
            for care in [Care::Nothing, Care::Flag, Care::Mask] {
                if care == Care::Flag && !sigpipe::has_flag() {
                    eprintln!("skipped: the kernel has no RWF_NOSIGNAL");
                    continue;
                }
                writer.care = care;
                for error in [
                    writer.try_write(&[0; 10_000]).unwrap_err(),
                    writer.write(&[0], None).unwrap_err(),
                    writer.write(&[0], soon()).unwrap_err(),
                ] {
                    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
                }
            }
            writer.learn_sigpipe();
            assert_eq!(writer.care, Care::Nothing);
        }
    }

    #[test]
    fn sizes_are_rounded_or_refused_with_the_limit() {
        let (reader, writer) = pair().unwrap();
        let page = rustix::param::page_size();
        for (asked, made) in [(0, page), (1, page), (page, page), (page + 1, 2 * page), (1 << 16, 1 << 16)] {
            assert_eq!(writer.set_size(asked).unwrap(), made);
            assert_eq!(reader.size().unwrap(), made);
        }
        for bytes in [i32::MAX as usize + 1, 1 << 63, usize::MAX] {
            assert_eq!(writer.set_size(bytes).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        writer.write_all(&[0; 1 << 15], None).unwrap();
        let error = writer.set_size(page).unwrap_err();
        assert!(error.to_string().contains("32768 bytes in it"), "{error}");
        let limit = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap();
        let too_much = limit.trim().parse::<usize>().unwrap() + 1;
        let refused = without_rights(move || writer.set_size(too_much)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains(limit.trim()), "{refused}");
    }

    /// In a thread that is another user's, if this process is root's.
    fn without_rights<R: Send>(run: impl FnOnce() -> R + Send) -> R {
        let thread = move || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            run()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    }

    #[test]
    fn a_packet_is_a_write() {
        let (reader, writer) = packets().unwrap();
        writer.write(b"one", None).unwrap();
        writer.write(b"three", None).unwrap();
        let mut buffer = [0; ATOMIC];
        assert_eq!(reader.try_read(&mut buffer).unwrap(), 3);
        assert_eq!(reader.try_read(&mut buffer[..2]).unwrap(), 2);
        assert_eq!(reader.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_pipe_is_refused_by_name() {
        let refused = |file: OwnedFd| Reader::from_fd(file).unwrap_err().to_string();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(refused(socket.into()).contains("a socket, not a pipe"));
        assert!(refused(std::fs::File::open("/").unwrap().into()).contains("a directory"));
        let event = crate::eventfd::EventFd::new().unwrap().as_fd().try_clone_to_owned().unwrap();
        assert!(refused(event).contains("an object of the kernel"));
        let (reader, writer) = pair().unwrap();
        assert!(refused(writer.into()).contains("not open for reading"));
        let error = Writer::from_fd(reader.into()).unwrap_err();
        assert!(error.to_string().contains("not open for writing"), "{error}");
    }

    #[test]
    fn the_last_byte_is_read_before_the_end() {
        for (reader, writer) in every_way("end") {
            let other = writer.try_clone().unwrap();
            writer.write(b"x", None).unwrap();
            drop(writer);
            assert_eq!(reader.state().unwrap(), State::Open);
            drop(other);
            eventually(|| reader.state().unwrap() == State::Ended);
            let mut buffer = [0; 4];
            assert_eq!(reader.read_vectored(&mut [IoSliceMut::new(&mut buffer)], soon()).unwrap(), 1);
            assert_eq!(reader.try_read(&mut buffer).unwrap(), 0);
            assert_eq!(reader.read(&mut buffer, None).unwrap(), 0);
        }
    }
}
