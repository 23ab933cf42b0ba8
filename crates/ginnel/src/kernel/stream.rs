//! `unix:` as a stream: the receiver listens at the address, each sender has a connection of its own (`unix(7)`).
//!
//! Messages of one sender keep their order; those of several come as they arrive. A connection that ends in the middle of a message takes
//! that message with it. A sender may be there first: it connects when it first sends, and waits for the receiver as long as it may.

use super::frame::{Decoder, Encoder};
use super::wait::Ready;
use super::{About, Blocked, MAX, Nothing};
use crate::address::{Address, Frame, Place};
use crate::error::{Error, ErrorKind, RecvFailure};
use crate::shm::Mode;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::socket::{self, Kind};
use ginnel_os::unix::{self, Occupant};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// Name of the listener in the set.
const LISTENER: u64 = 0;

/// Where a socket is, for the kernel.
pub(super) fn name_of(place: &Place, link: &str, tried: &'static str) -> Result<unix::Address, Error> {
    let name = match place {
        Place::Path(path) => unix::Address::path(path),
        Place::Abstract(name) => unix::Address::abstract_name(name.as_bytes()),
    };
    name.map_err(|e| Error::os(tried, link, e))
}

/// The sending end.
pub(crate) struct Outlet {
    name: unix::Address,
    link: String,
    follow: bool,
    encoder: Encoder,
    socket: RefCell<Option<OwnedFd>>,
    frame: Frame,
    closed: Cell<bool>,
}

impl Outlet {
    pub(super) fn open(address: &Address, place: &Place, mode: Mode) -> Result<Self, Error> {
        let name = name_of(place, &address.link(), "open")?;
        let max = address.wanted.max.unwrap_or(MAX);
        let outlet = Self::with(name, address.link(), address.follow, address.frame, max);
        match mode {
            Mode::Create => Err(only_receivers_create(&outlet.link)),
            Mode::Join => outlet.connect().map(|()| outlet).map_err(|e| refused(address, e)),
            Mode::Open => match outlet.connect() {
                Err(e) if !is_absent(&e) => Err(refused(address, e)),
                _ => Ok(outlet),
            },
        }
    }

    fn with(name: unix::Address, link: String, follow: bool, frame: Frame, max: u64) -> Self {
        let encoder = Encoder::new(frame, max, usize::MAX);
        Self { name, link, follow, encoder, socket: RefCell::new(None), frame, closed: Cell::new(false) }
    }

    pub(super) fn try_clone(&self) -> Self {
        Self::with(self.name.clone(), self.link.clone(), self.follow, self.frame, self.encoder.max())
    }

    fn connect(&self) -> io::Result<()> {
        let socket = unix::connect(Kind::Stream, &self.name, Some(Instant::now()))?;
        *self.socket.borrow_mut() = Some(socket);
        Ok(())
    }

    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        self.with_socket(|socket| self.encoder.send(tag, message, |bytes| socket::try_send(socket, bytes)))
    }

    pub(super) fn flush(&self) -> Result<(), Blocked> {
        if self.socket.borrow().is_none() {
            return Ok(()); // nothing was begun
        }
        self.with_socket(|socket| self.encoder.flush(|bytes| socket::try_send(socket, bytes)))
    }

    fn with_socket(&self, run: impl FnOnce(&OwnedFd) -> Result<(), Blocked>) -> Result<(), Blocked> {
        if self.socket.borrow().is_none() {
            match self.connect() {
                Err(e) if is_absent(&e) => return Err(Blocked::Full),
                other => other?,
            }
        }
        let result = self.socket.borrow().as_ref().map_or(Err(Blocked::Full), run);
        if let Err(Blocked::Failed(crate::SendFailure::Closed { .. })) = result {
            self.closed.set(true);
            self.encoder.forget();
            if self.follow {
                *self.socket.borrow_mut() = None; // the next receiver
                return Err(Blocked::Full);
            }
        }
        result
    }

    pub(super) fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match &*self.socket.borrow() {
            Some(socket) => run(Ready::Write(socket.as_fd())),
            None => run(Ready::Later),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.encoder.max()
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        let buffer = self.socket.borrow().as_ref().and_then(|socket| socket::send_buffer(socket).ok());
        ("net.core.wmem_default", buffer.unwrap_or_default() as u64)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

/// Nobody listens there now, or too many wait to be let in.
pub(super) fn is_absent(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, TimedOut, WouldBlock};
    matches!(e.kind(), NotFound | ConnectionRefused | TimedOut | WouldBlock)
}

pub(super) fn only_receivers_create(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "create", link)
        .problem("a sender connects to a socket that its receiver makes")
        .remedy("create the receiver, then open the sender")
}

pub(super) fn refused(address: &Address, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::NotFound, "open", address.link())
                .problem("nobody receives there")
                .remedy(format!("start `ginnel recv {}` first", address.link()))
        }
        _ => Error::os("open", address.link(), e),
    }
}

/// The name that a receiver has taken, which goes with it.
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    path: Option<(PathBuf, (u64, u64))>,
}

impl Bound {
    pub(super) fn new(address: &Address, place: &Place, kind: Kind, mode: Mode) -> Result<Self, Error> {
        let link = address.link();
        let os = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::new(ErrorKind::AlreadyExists, "open", link.clone())
                .problem("another receiver has it")
                .remedy("end that one (`ginnel ls` shows it), or choose another name"),
            io::ErrorKind::AlreadyExists => Error::new(ErrorKind::NotALink, "open", link.clone())
                .problem(e.to_string())
                .remedy("choose another name, or remove that file yourself"),
            _ => Error::os("open", link.clone(), e),
        };
        if mode == Mode::Join {
            return Err(Error::new(ErrorKind::Unsupported, "join", link.clone())
                .problem("a socket has one receiver, which makes it")
                .remedy("open it instead"));
        }
        match place {
            Place::Path(path) => {
                let soon = Instant::now() + std::time::Duration::from_millis(500);
                let socket = unix::bind_replacing_stale(kind, path, Some(soon)).map_err(os)?;
                let identity = identity(path).map_err(os)?;
                Ok(Self { socket, path: Some((path.clone(), identity)) })
            }
            Place::Abstract(_) => {
                let name = name_of(place, &link, "open")?;
                Ok(Self { socket: unix::bind(kind, &name).map_err(os)?, path: None })
            }
        }
    }
}

fn identity(path: &std::path::Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map(|status| (status.dev(), status.ino()))
}

impl Drop for Bound {
    /// The name goes, unless it has become another's.
    fn drop(&mut self) {
        if let Some((path, mine)) = &self.path {
            if identity(path).is_ok_and(|is| is == *mine) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    key: u64,
    /// Everything that it sent was read.
    ended: bool,
}

/// The receiving end.
pub(crate) struct Inlet {
    bound: Bound,
    set: Epoll,
    frame: Frame,
    max: usize,
    connections: RefCell<VecDeque<Connection>>,
    keys: Cell<u64>,
    seen: Cell<bool>,
}

impl Inlet {
    pub(super) fn open(address: &Address, place: &Place, mode: Mode) -> Result<Self, Error> {
        let bound = Bound::new(address, place, Kind::Stream, mode)?;
        let os = |e| Error::os("open", address.link(), e);
        unix::listen(&bound.socket, BACKLOG).map_err(os)?;
        let set = Epoll::new().map_err(os)?;
        set.add(bound.socket.as_fd(), Interest::Read, LISTENER).map_err(os)?;
        let max = usize::try_from(address.wanted.max.unwrap_or(MAX)).unwrap_or(usize::MAX);
        let (connections, keys, seen) = (RefCell::default(), Cell::new(LISTENER), Cell::new(false));
        Ok(Self { bound, set, frame: address.frame, max, connections, keys, seen })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        loop {
            if let Some(about) = self.next_read(message)? {
                return Ok(about);
            }
            let ready = self.set.ready()?;
            if ready.is_empty() {
                let none_left = self.connections.borrow().is_empty() && self.seen.get();
                return Err(if none_left { Nothing::Ended } else { Nothing::Empty });
            }
            for key in ready {
                if key == LISTENER { self.accept()? } else { self.read(key)? }
            }
        }
    }

    /// A message that was read already. The connections take turns.
    fn next_read(&self, message: &mut Vec<u8>) -> Result<Option<About>, Nothing> {
        let mut connections = self.connections.borrow_mut();
        for _ in 0..connections.len() {
            let Some(first) = connections.front_mut() else { break };
            let next = first.decoder.next(message).map(|next| {
                let rest = if first.ended { first.decoder.rest(message) } else { None };
                next.or(rest)
            });
            match next {
                Ok(Some(tag)) => {
                    connections.rotate_left(1);
                    return Ok(Some(About { tag, priority: 0 }));
                }
                Ok(None) if !first.ended => connections.rotate_left(1),
                Ok(None) => drop(connections.pop_front()),
                Err(malformed) => {
                    connections.pop_front();
                    return Err(Nothing::CutOff(RecvFailure::Malformed { len: malformed.len }));
                }
            }
        }
        Ok(None)
    }

    fn accept(&self) -> io::Result<()> {
        let socket = match unix::try_accept(&self.bound.socket) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::ConnectionAborted => {
                return Ok(());
            }
            other => other?,
        };
        let key = self.keys.get() + 1;
        self.keys.set(key);
        self.set.add(socket.as_fd(), Interest::Read, key)?;
        self.seen.set(true);
        let decoder = Decoder::new(self.frame, self.max);
        self.connections.borrow_mut().push_back(Connection { socket, decoder, key, ended: false });
        Ok(())
    }

    fn read(&self, key: u64) -> io::Result<()> {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = connections.iter_mut().find(|connection| connection.key == key) else { return Ok(()) };
        match connection.decoder.read(|room| socket::try_recv(&connection.socket, room)) {
            Ok(0) => self.end(connection),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.end(connection),
            Err(e) => Err(e),
        }
    }

    fn end(&self, connection: &mut Connection) -> io::Result<()> {
        connection.ended = true;
        self.set.remove(connection.socket.as_fd())
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Read(self.set.as_fd())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.seen.get() && self.connections.borrow().is_empty()
    }
}

/// Removes the file of a socket that nobody has bound, or any.
pub(super) fn unlink(address: &Address, path: &std::path::Path, force: bool) -> Result<(), Error> {
    let refuse = |kind, problem: &str, remedy: &str| {
        Err(Error::new(kind, "remove", address.link()).problem(problem).remedy(remedy))
    };
    match unix::occupant(path).map_err(|e| Error::os("remove", address.link(), e))? {
        Occupant::Nobody => {
            refuse(ErrorKind::NotFound, "there is no such socket", "`ginnel ls` lists those that are there")
        }
        Occupant::Live if !force => refuse(
            ErrorKind::InUse,
            "somebody has it bound",
            "end that process, or add `--force`: nobody can connect then",
        ),
        Occupant::Live | Occupant::Stale => {
            std::fs::remove_file(path).map_err(|e| Error::os("remove", address.link(), e))
        }
        Occupant::Other(what) => {
            refuse(ErrorKind::NotALink, &format!("it is {what}, not a socket"), "remove it yourself")
        }
        _ => refuse(ErrorKind::NotALink, "it is not a socket", "remove it yourself"),
    }
}
