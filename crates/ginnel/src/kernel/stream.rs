//! `unix:` as a stream: the receiver listens at the address, each sender has a connection of its own (`unix(7)`).
//!
//! Messages of one sender keep their order; those of several come as they arrive. A connection that ends in the middle of a message takes
//! that message with it. A sender may be there first: it connects when it first sends, and waits for the receiver as long as it may.

use super::endpoint::{Bound, is_absent, name_of, nobody_listens, not_let_in, only_receivers_create, refused};
use super::frame::{Decoder, Encoder, READ};
use super::wait::Ready;
use super::{About, Blocked, MAX, Nothing};
use crate::address::{Address, Frame, Place};
use crate::error::{Error, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::socket::{self, Kind};
use ginnel_os::unix;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// Name of the listener in the set.
const LISTENER: u64 = 0;

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
                Err(e) if !is_absent(&e, place) => Err(refused(address, e)),
                _ => Ok(outlet),
            },
        }
    }

    fn with(name: unix::Address, link: String, follow: bool, frame: Frame, max: u64) -> Self {
        let encoder = Encoder::new(frame, max, usize::MAX);
        Self { name, link, follow, encoder, socket: RefCell::new(None), frame, closed: Cell::new(false) }
    }

    pub(super) fn try_clone(&self) -> Self {
        let clone = Self::with(self.name.clone(), self.link.clone(), self.follow, self.frame, self.encoder.max());
        let _ = clone.connect(); // or with its first message
        clone
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
                Err(e) if nobody_listens(&e) => return Err(Blocked::Full),
                other => other?,
            }
        }
        let result = self.socket.borrow().as_ref().map_or(Err(Blocked::Full), run);
        if let Err(Blocked::Failed(SendFailure::Closed { .. })) = result {
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
        let mut refused = None;
        loop {
            if let Some(about) = self.next_read(message)? {
                return Ok(about);
            }
            if let Some(e) = refused.take() {
                return Err(not_let_in(&e));
            }
            let ready = self.set.ready()?;
            if ready.is_empty() {
                let none_left = self.connections.borrow().is_empty() && self.seen.get();
                return Err(if none_left { Nothing::Ended } else { Nothing::Empty });
            }
            for key in ready {
                if key == LISTENER { refused = self.accept().err() } else { self.read(key)? }
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
                    // By name: in a forked child it may be open still.
                    let _ = self.set.remove(first.socket.as_fd());
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
        match connection.decoder.read(READ, |room| socket::try_recv(&connection.socket, room)) {
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
