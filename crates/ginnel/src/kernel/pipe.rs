//! `pipe:` and `fifo:`, through which messages go in frames (`pipe(7)`, `fifo(7)`).
//!
//! Any number of senders: each piece of a message is one write of up to `PIPE_BUF` bytes, which the kernel keeps whole. One receiver: two would each get
//! pieces of the other's messages; a second one of the same FIFO is refused. A sender of a FIFO may be there first: it opens its end when it first
//! sends, as nobody can before there is a receiver, and waits for one as long as it may.

use super::frame::{BEGUN_MAX, Cut, Decoder, Encoder, READ};
use super::wait::{Ready, SOMEBODY};
use super::{About, Blocked, MAX, NOBODY, Nothing, not_there};
use crate::address::{Address, Frame, Target};
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_os::pipe::{Reader, State, Writer};
use ginnel_os::{dup, fifo, flock};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Bytes that the kernel writes whole (`pipe(7)`).
const PIPE_BUF: usize = 4096;
/// Reads in one try.
const READS: usize = 64;

/// The sending end.
pub(crate) struct Outlet {
    /// Of a FIFO: where another end can be opened.
    path: Option<PathBuf>,
    follow: bool,
    writer: RefCell<Option<Writer>>,
    encoder: Encoder,
    frame: Frame,
    closed: Cell<bool>,
}

impl Outlet {
    pub(super) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        let max = address.wanted.max.unwrap_or(MAX);
        if let Target::Fifo(path) = &address.target {
            make(address, path, mode)?;
            let outlet = Self::with(Some(path.clone()), None, address.follow, address.frame, max);
            return match outlet.connect() {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(fifo_error(address, e)),
                _ => Ok(outlet),
            };
        }
        let descriptor = inherited(address, 1)?;
        let writer = Writer::from_fd(descriptor).map_err(|e| Error::os("open", address.link(), e))?;
        Ok(Self::with(None, Some(writer), address.follow, address.frame, max))
    }

    /// The end of a new pipe.
    pub(super) fn of(writer: Writer, address: &Address) -> Self {
        Self::with(None, Some(writer), false, address.frame, address.wanted.max.unwrap_or(MAX))
    }

    /// For a child's standard output.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        match &*self.writer.borrow() {
            Some(writer) => writer.try_clone().map(Stdio::from),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn with(path: Option<PathBuf>, writer: Option<Writer>, follow: bool, frame: Frame, max: u64) -> Self {
        let (writer, encoder) = (RefCell::new(writer), Encoder::new(frame, max, Cut::Never(PIPE_BUF)));
        Self { path, follow, writer, encoder, frame, closed: Cell::new(false) }
    }

    pub(super) fn try_clone(&self, link: &str) -> Result<Self, Error> {
        let writer = self.writer.borrow().as_ref().map(Writer::try_clone).transpose();
        let writer = writer.map_err(|e| Error::os("clone a sender of", link, e))?;
        Ok(Self::with(self.path.clone(), writer, self.follow, self.frame, self.encoder.max()))
    }

    fn connect(&self) -> io::Result<()> {
        let path = self.path.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        *self.writer.borrow_mut() = Some(fifo::try_writer(path)?);
        self.closed.set(false);
        Ok(())
    }

    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        self.with_writer(|writer| self.encoder.send(tag, message, |bytes| writer.try_write(bytes)))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.encoder.has_begun()
    }

    pub(super) fn flush(&self) -> Result<(), Blocked> {
        if self.writer.borrow().is_none() {
            return Ok(()); // nothing was begun
        }
        self.with_writer(|writer| self.encoder.flush(|bytes| writer.try_write(bytes)))
    }

    fn with_writer(&self, run: impl FnOnce(&Writer) -> Result<(), Blocked>) -> Result<(), Blocked> {
        if self.writer.borrow().is_none() {
            self.connect()?;
        }
        let result = self.writer.borrow().as_ref().map_or(Err(Blocked::Full), run);
        if let Err(Blocked::Failed(SendFailure::Closed { .. })) = result {
            self.closed.set(true);
            self.encoder.forget();
            if self.follow && self.path.is_some() {
                *self.writer.borrow_mut() = None; // the next receiver
                return Err(Blocked::Full);
            }
        }
        result
    }

    pub(super) fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match &*self.writer.borrow() {
            Some(writer) => run(Ready::Write(writer.as_fd())),
            None => run(Ready::Later(SOMEBODY)),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.encoder.max()
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        match &*self.writer.borrow() {
            Some(writer) => ("pipe size", writer.size().unwrap_or(0) as u64),
            None => NOBODY,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
            || self.writer.borrow().as_ref().is_some_and(|writer| writer.has_reader().is_ok_and(|has| !has))
    }
}

/// The receiving end.
pub(crate) struct Inlet {
    reader: Reader,
    decoder: RefCell<Decoder>,
    /// Bytes to read at once: all that the pipe can hold, so that what stays in it, for the next receiver, begins with a whole piece.
    room: Cell<usize>,
    /// With `follow`: a sender that never sends, so that the stream does not end.
    _keeper: Option<Writer>,
}

impl Inlet {
    pub(super) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        let max = usize::try_from(address.wanted.max.unwrap_or(MAX)).unwrap_or(usize::MAX);
        let decoder = RefCell::new(Decoder::new(address.frame, max, BEGUN_MAX));
        let os = |e| fifo_error(address, e);
        if let Target::Fifo(path) = &address.target {
            make(address, path, mode)?;
            let reader = fifo::reader(path).map_err(os)?;
            if !flock::try_exclusive(&reader).map_err(os)? {
                return Err(Error::new(ErrorKind::TooManyHandles, "open", address.link())
                    .problem("another receiver has it, and two would get pieces of each other's messages")
                    .remedy(
                        "end that one (`ginnel ls` shows it), or use `shm:NAME`, which has any number of receivers",
                    ));
            }
            let keeper = if address.follow { Some(fifo::try_writer(path).map_err(os)?) } else { None };
            return Ok(Self::with(reader, decoder, keeper));
        }
        let reader = Reader::from_fd(inherited(address, 0)?).map_err(os)?;
        Ok(Self::with(reader, decoder, None))
    }

    /// The end of a new pipe.
    pub(super) fn of(reader: Reader, address: &Address) -> Self {
        let max = usize::try_from(address.wanted.max.unwrap_or(MAX)).unwrap_or(usize::MAX);
        Self::with(reader, RefCell::new(Decoder::new(address.frame, max, BEGUN_MAX)), None)
    }

    /// For a child's standard input.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        self.reader.try_clone().map(Stdio::from)
    }

    fn with(reader: Reader, decoder: RefCell<Decoder>, keeper: Option<Writer>) -> Self {
        let inlet = Self { reader, decoder, room: Cell::new(READ), _keeper: keeper };
        inlet.make_room();
        inlet
    }

    fn make_room(&self) {
        self.room.set(self.reader.size().unwrap_or(READ).max(READ));
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        let mut decoder = self.decoder.borrow_mut();
        for _ in 0..READS {
            if let Some(tag) = decoder.next(message)? {
                return Ok(About { tag, priority: 0 });
            }
            match decoder.read(self.room.get(), |room| self.reader.try_read(room)) {
                Ok(0) if self.reader.state().is_ok_and(|state| state == State::NoWriterYet) => {
                    return Err(Nothing::Empty);
                }
                Ok(0) => {
                    let rest = decoder.rest(message).map(|tag| About { tag, priority: 0 });
                    return rest.ok_or(Nothing::Ended);
                }
                Ok(got) if got == self.room.get() => self.make_room(), // it may have been made larger
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Nothing::Empty) // for now: bytes that make no message must not keep it from its deadline
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Read(self.reader.as_fd())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.reader.state().is_ok_and(|state| state == State::Ended)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.reader.size().unwrap_or(0) as u64
    }
}

/// The descriptor that an address names, or the process's own standard one: a copy, so that the handle may close it.
fn inherited(address: &Address, standard: u32) -> Result<std::os::fd::OwnedFd, Error> {
    let number = match address.target {
        Target::Pipe(Some(number)) => number,
        _ => standard,
    };
    dup::of_number(number).map_err(|e| {
        Error::os("open", address.link(), e)
            .remedy("write `pipe:` for standard input or output, or `pipe:N` for an open descriptor")
    })
}

/// Makes a FIFO if it is to be made.
fn make(address: &Address, path: &Path, mode: Mode) -> Result<(), Error> {
    if mode == Mode::Join {
        return Ok(());
    }
    match fifo::make(path, 0o600) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && mode == Mode::Create => {
            let error = Error::new(ErrorKind::AlreadyExists, "create", address.link());
            Err(error.remedy(format!("open it instead, or remove it with `ginnel rm {}`", address.link())))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|e| fifo_error(address, e)),
    }
}

fn fifo_error(address: &Address, e: io::Error) -> Error {
    match e.kind() {
        // With its remedy.
        io::ErrorKind::InvalidInput => Error::new(ErrorKind::NotALink, "open", address.link()).problem(e.to_string()),
        io::ErrorKind::NotFound => not_there(address, "FIFO"),
        _ => Error::os("open", address.link(), e),
    }
}

/// Removes a FIFO that nobody has open, or any.
pub(super) fn unlink(address: &Address, path: &Path, force: bool) -> Result<(), Error> {
    let os = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, "remove", address.link()).problem("there is no such FIFO")
        }
        _ => fifo_error(address, e),
    };
    if !force && !fifo::is_stale(path).map_err(os)? {
        return Err(Error::new(ErrorKind::InUse, "remove", address.link())
            .problem("somebody has it open")
            .remedy("close it there, or add `--force`: who has it open keeps it"));
    }
    fifo::unlink(path).map_err(os)
}

/// Both ends of a new pipe.
pub(super) fn pair(address: &Address) -> Result<(Outlet, Inlet), Error> {
    let (reader, writer) = ginnel_os::pipe::pair().map_err(|e| Error::os("create", address.link(), e))?;
    Ok((Outlet::of(writer, address), Inlet::of(reader, address)))
}
