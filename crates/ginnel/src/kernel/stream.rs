//! Stream sockets: `unix:` (`unix(7)`) and `tcp:` (`tcp(7)`). The receiver listens at the address, each sender has a connection of its own.
//!
//! Messages of one sender keep their order; those of several come as they arrive. A connection that ends in the middle of a message takes
//! that message with it. A sender may be there first: it connects when it first sends, and waits for the receiver as long as it may.

use super::endpoint::{Bound, is_absent, name_of, nobody_listens, not_let_in, only_receivers_create, refused, resolve};
use super::frame::{Cut, Decoder, Encoder, READ};
use super::peer::{DEATH, Peer};
use super::wait::{Ready, SOMEBODY};
use super::{About, Blocked, MAX, NOBODY, Nothing};
use crate::address::{Address, Frame, Place};
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::inet::{self, Connecting, Sharing};
use ginnel_os::socket::{self, Half, Kind};
use ginnel_os::unix;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// Looks at what is ready in one try.
const READS: usize = 64;
/// Name of the listener in the set.
const LISTENER: u64 = 0;

/// Where an address leads.
pub(super) enum To<'a> {
    Unix(&'a Place),
    /// Host and port.
    Tcp(&'a str),
}

/// Where a sender connects to.
#[derive(Clone)]
enum Far {
    Unix(unix::Address),
    /// What the name of the host stands for; they are tried in turn.
    Tcp(Vec<SocketAddr>),
}

/// A sender's connection.
enum Line {
    Down,
    Connecting(Connecting),
    Up(OwnedFd),
}

/// The sending end.
pub(crate) struct Outlet {
    far: Far,
    link: String,
    follow: bool,
    encoder: Encoder,
    line: RefCell<Line>,
    tried: Cell<usize>,
    frame: Frame,
    closed: Cell<bool>,
}

impl Outlet {
    pub(super) fn open(address: &Address, to: &To<'_>, mode: Mode) -> Result<Self, Error> {
        let far = match to {
            To::Unix(place) => Far::Unix(name_of(place, &address.link(), "open")?),
            To::Tcp(host) => Far::Tcp(resolve(address, host)?),
        };
        let max = address.wanted.max.unwrap_or(MAX);
        let outlet = Self::with(far, address.link(), address.follow, address.frame, max);
        match mode {
            Mode::Create => Err(only_receivers_create(&outlet.link)),
            Mode::Join => outlet.join().map(|()| outlet).map_err(|e| refused(address, e)),
            Mode::Open => match outlet.connect() {
                Err(e) if !is_absent(&e, address) => Err(refused(address, e)),
                _ => Ok(outlet),
            },
        }
    }

    fn with(far: Far, link: String, follow: bool, frame: Frame, max: u64) -> Self {
        let encoder = Encoder::new(frame, max, Cut::Anywhere);
        let (line, tried, closed) = (RefCell::new(Line::Down), Cell::new(0), Cell::new(false));
        Self { far, link, follow, encoder, line, tried, frame, closed }
    }

    pub(super) fn try_clone(&self) -> Self {
        let clone = Self::with(self.far.clone(), self.link.clone(), self.follow, self.frame, self.encoder.max());
        let _ = clone.connect(); // or with its first message
        clone
    }

    /// Connects to a receiver that has to be there.
    fn join(&self) -> io::Result<()> {
        loop {
            match self.connect() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if let Line::Connecting(connecting) = &*self.line.borrow() {
                        ginnel_os::poll::writable(connecting.as_fd(), None)?;
                    }
                }
                other => return other,
            }
        }
    }

    /// Goes on with connecting, without waiting.
    fn connect(&self) -> io::Result<()> {
        let mut line = self.line.borrow_mut();
        if let Line::Connecting(connecting) = &*line {
            if !connecting.has_ended()? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        *line = match (std::mem::replace(&mut *line, Line::Down), &self.far) {
            (Line::Up(socket), _) => Line::Up(socket),
            (Line::Connecting(connecting), _) => {
                let socket = connecting.finish(Some(Instant::now()))?;
                socket.set_nodelay(true)?;
                Line::Up(socket.into())
            }
            (Line::Down, Far::Unix(name)) => Line::Up(unix::connect(Kind::Stream, name, Some(Instant::now()))?),
            (Line::Down, Far::Tcp(all)) => {
                let next = all[self.tried.get() % all.len()];
                self.tried.set(self.tried.get() + 1);
                *line = Line::Connecting(inet::begin_connect(next)?);
                drop(line);
                return self.connect();
            }
        };
        Ok(())
    }

    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        self.with_socket(|socket| self.encoder.send(tag, message, |bytes| socket::try_send(socket, bytes)))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.encoder.has_begun()
    }

    pub(super) fn flush(&self) -> Result<(), Blocked> {
        if !matches!(&*self.line.borrow(), Line::Up(_)) {
            return Ok(()); // nothing was begun
        }
        self.with_socket(|socket| self.encoder.flush(|bytes| socket::try_send(socket, bytes)))
    }

    fn with_socket(&self, run: impl FnOnce(&OwnedFd) -> Result<(), Blocked>) -> Result<(), Blocked> {
        if !matches!(&*self.line.borrow(), Line::Up(_)) {
            match self.connect() {
                Err(e) if nobody_listens(&e) => return Err(Blocked::Full),
                other => other?,
            }
        }
        let result = match &*self.line.borrow() {
            Line::Up(socket) => run(socket),
            _ => Err(Blocked::Full),
        };
        if let Err(Blocked::Failed(SendFailure::Closed { .. })) = result {
            self.encoder.forget();
            if self.follow {
                *self.line.borrow_mut() = Line::Down; // the next receiver
                return Err(Blocked::Full);
            }
            self.closed.set(true);
        }
        result
    }

    pub(super) fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match &*self.line.borrow() {
            Line::Up(socket) => run(Ready::Write(socket.as_fd())),
            Line::Connecting(connecting) => run(Ready::Write(connecting.as_fd())),
            Line::Down => run(Ready::Later(SOMEBODY)),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.encoder.max()
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        match &*self.line.borrow() {
            Line::Up(socket) => ("net.core.wmem_default", socket::send_buffer(socket).unwrap_or(0) as u64),
            _ => NOBODY,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Ends the connection, though a forked child has a copy of it.
    pub(super) fn hang_up(&self) {
        if let Line::Up(socket) = &*self.line.borrow() {
            let _ = socket::shutdown(socket, Half::Write);
        }
    }
}

/// Where connections come in.
enum Door {
    Unix(Bound),
    Tcp(TcpListener),
}

impl Door {
    fn open(address: &Address, to: &To<'_>, mode: Mode) -> Result<Self, Error> {
        let os = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::new(ErrorKind::AlreadyExists, "open", address.link())
                .problem("another receiver has it")
                .remedy("end that one (`ss -ltnp` shows it), or choose another port"),
            _ => Error::os("open", address.link(), e),
        };
        match to {
            To::Unix(place) => {
                let bound = Bound::new(address, place, Kind::Stream, mode)?;
                unix::listen(&bound.socket, BACKLOG).map_err(os)?;
                Ok(Self::Unix(bound))
            }
            To::Tcp(host) => {
                let at = resolve(address, host)?[0];
                inet::listen(at, BACKLOG, Sharing::default()).map(Self::Tcp).map_err(os)
            }
        }
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(bound) => unix::try_accept(&bound.socket),
            Self::Tcp(listener) => inet::accept(listener, Some(Instant::now())).map(|(socket, _)| socket.into()),
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Unix(bound) => bound.socket.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    key: u64,
    peer: Peer,
    /// Everything that it sent was read.
    ended: bool,
}

/// The receiving end.
pub(crate) struct Inlet {
    door: Door,
    set: Epoll,
    frame: Frame,
    max: usize,
    connections: RefCell<VecDeque<Connection>>,
    keys: Cell<u64>,
    seen: Cell<bool>,
}

impl Inlet {
    pub(super) fn open(address: &Address, to: &To<'_>, mode: Mode) -> Result<Self, Error> {
        let os = |e| Error::os("open", address.link(), e);
        let door = Door::open(address, to, mode)?;
        let set = Epoll::new().map_err(os)?;
        set.add(door.as_fd(), Interest::Read, LISTENER).map_err(os)?;
        let max = usize::try_from(address.wanted.max.unwrap_or(MAX)).unwrap_or(usize::MAX);
        let (connections, keys, seen) = (RefCell::default(), Cell::new(LISTENER), Cell::new(false));
        Ok(Self { door, set, frame: address.frame, max, connections, keys, seen })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        let (mut refused, mut ready) = (None, Vec::new());
        for _ in 0..READS {
            if let Some(about) = self.next_read(message)? {
                return Ok(about);
            }
            if let Some(e) = refused.take() {
                return Err(not_let_in(&e));
            }
            self.set.ready_into(&mut ready)?;
            if ready.is_empty() {
                return Err(if self.is_closed() { Nothing::Ended } else { Nothing::Empty });
            }
            for key in ready.drain(..) {
                match key {
                    LISTENER => refused = self.accept().err(),
                    key if key & DEATH != 0 => self.bury(key & !DEATH),
                    key => self.read(key)?,
                }
            }
        }
        Err(Nothing::Empty) // for now: bytes that make no message must not keep it from its deadline
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
                    // By name: in a forked child it may be open still.
                    let _ = self.set.remove(first.socket.as_fd());
                    first.peer.forget(&self.set);
                    connections.pop_front();
                    return Err(Nothing::CutOff(RecvFailure::Malformed { len: malformed.len }));
                }
            }
        }
        Ok(None)
    }

    fn accept(&self) -> io::Result<()> {
        let socket = match self.door.accept() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::ConnectionAborted => {
                return Ok(());
            }
            other => other?,
        };
        let key = self.keys.get() + 1;
        self.keys.set(key);
        self.set.add(socket.as_fd(), Interest::Read, key)?;
        self.seen.set(true);
        let (decoder, peer) = (Decoder::new(self.frame, self.max, 1), Peer::of(&socket, &self.set, key));
        self.connections.borrow_mut().push_back(Connection { socket, decoder, key, peer, ended: false });
        Ok(())
    }

    /// Its process died. What it sent before is read first: the set tells of that too.
    fn bury(&self, key: u64) {
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = connections.iter_mut().find(|connection| connection.key == key) {
            connection.peer.died(&self.set);
        }
    }

    fn read(&self, key: u64) -> io::Result<()> {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = connections.iter_mut().find(|connection| connection.key == key) else { return Ok(()) };
        match connection.decoder.read(READ, |room| socket::try_recv(&connection.socket, room)) {
            Ok(0) => self.end(connection),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.end(connection), // reset, or the network failed: of this sender nothing more comes
        }
    }

    fn end(&self, connection: &mut Connection) -> io::Result<()> {
        connection.ended = true;
        connection.peer.forget(&self.set);
        self.set.remove(connection.socket.as_fd())
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Read(self.set.as_fd())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.seen.get() && self.connections.borrow().iter().all(|connection| connection.peer.is_dead())
    }
}
