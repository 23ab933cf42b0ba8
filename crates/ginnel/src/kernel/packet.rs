//! `unix:` with `type=seqpacket` or `type=dgram`: sockets that keep messages whole (`unix(7)`).
//!
//! - *seqpacket*: the receiver listens, each sender has a connection; the end of the last one is the end of the stream. An empty message is told from an end
//!   by the credentials that the kernel adds to each message.
//! - *dgram*: senders send to the receiver's socket, which is full when it holds as many messages as `net.unix.max_dgram_qlen`. Who is there is known by
//!   `presence`.

use super::book::{Book, Made};
use super::endpoint::{
    Bound, is_absent, name_of, nobody_listens, not_let_in, only_receivers_create, presence_name, refused,
};
use super::peer::{DEATH, Peer};
use super::presence::{Opened, Presence};
use super::wait::{Ready, SOMEBODY, SOON};
use super::{About, Blocked, NOBODY, Nothing};
use crate::address::{Address, Place, SocketType};
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::socket::{self, Half, Kind};
use ginnel_os::unix;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// What the kernel keeps of a send buffer for itself: `net/unix/af_unix.c` compares with the buffer less 32.
const OVERHEAD: u64 = 32;
/// Room for a message at first, in bytes: as much as a send buffer has unless somebody changes it.
const ROOM: usize = 256 * 1024;
/// Names in the set: the bound socket, news of peers.
const BOUND: u64 = 0;
const NEWS: u64 = 1;

fn kind_of(address: &Address) -> Kind {
    if address.socket == SocketType::Dgram { Kind::Datagram } else { Kind::SeqPacket }
}

/// A sender makes nothing.
fn found(book: &Book) -> Result<Opened<()>, Error> {
    Ok(Opened { object: (), holds: false, made: book.record().made })
}

/// The sending end.
pub(crate) struct Outlet {
    name: unix::Address,
    link: String,
    kind: Kind,
    follow: bool,
    /// The largest message that was asked for.
    wanted: Option<u64>,
    max: Cell<u64>,
    socket: RefCell<Option<OwnedFd>>,
    presence: Option<Presence>,
    closed: Cell<bool>,
}

impl Outlet {
    pub(super) fn open(address: &Address, place: &Place, mode: Mode) -> Result<Self, Error> {
        let (name, kind) = (name_of(place, &address.link(), "open")?, kind_of(address));
        let presence = match kind {
            Kind::Datagram => Some(Presence::join(&presence_name(address), Role::Sender, found)?.1),
            _ => None,
        };
        let outlet = Self {
            name,
            link: address.link(),
            kind,
            follow: address.follow,
            wanted: address.wanted.max,
            max: Cell::new(0),
            socket: RefCell::new(None),
            presence,
            closed: Cell::new(false),
        };
        outlet.max.set(outlet.room(&unix::socket(kind).map_err(|e| Error::os("open", address.link(), e))?)?);
        match (mode, outlet.connect()) {
            (Mode::Create, _) => Err(only_receivers_create(&outlet.link)),
            (Mode::Open, Err(e)) if is_absent(&e, address) => Ok(outlet),
            (_, Err(e)) => Err(refused(address, e)),
            (_, Ok(())) => Ok(outlet),
        }
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let presence = self.presence.as_ref().map(|presence| presence.another()).transpose()?;
        let clone = Self {
            name: self.name.clone(),
            link: self.link.clone(),
            kind: self.kind,
            follow: self.follow,
            wanted: self.wanted,
            max: Cell::new(self.max.get()),
            socket: RefCell::new(None),
            presence,
            closed: Cell::new(false),
        };
        let _ = clone.connect(); // or with its first message
        Ok(clone)
    }

    /// Gives a socket room for the largest message that was asked for; how large that is.
    fn room(&self, socket: &OwnedFd) -> Result<u64, Error> {
        let os = |e| Error::os("open", self.link.as_str(), e);
        let has = |socket: &OwnedFd| socket::send_buffer(socket).map(|bytes| (bytes as u64).saturating_sub(OVERHEAD));
        let Some(wanted) = self.wanted else { return has(socket).map_err(os) };
        // The kernel doubles what it is asked for.
        let half = usize::try_from(wanted / 2 + OVERHEAD).unwrap_or(usize::MAX);
        if wanted > has(socket).map_err(os)? {
            socket::set_send_buffer(socket, half).map_err(os)?;
        }
        let has = has(socket).map_err(os)?;
        if wanted > has {
            return Err(Error::new(ErrorKind::InvalidOption, "open", self.link.as_str())
                .problem(format!("max={wanted} is above {has}, the most that net.core.wmem_max allows"))
                .remedy(format!("raise it with `sysctl net.core.wmem_max={half}`, or use ?type=stream")));
        }
        Ok(wanted)
    }

    fn connect(&self) -> io::Result<()> {
        let socket = unix::connect(self.kind, &self.name, Some(Instant::now()))?;
        let _ = self.room(&socket); // as it was when this opened
        *self.socket.borrow_mut() = Some(socket);
        Ok(())
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        if message.len() as u64 > self.max.get() {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max.get() }));
        }
        if self.socket.borrow().is_none() {
            match self.connect() {
                Err(e) if nobody_listens(&e) => return Err(Blocked::Full),
                other => other?,
            }
        }
        let sent = self
            .socket
            .borrow()
            .as_ref()
            .map_or(Err(io::ErrorKind::WouldBlock.into()), |socket| socket::try_send(socket, message).map(drop));
        // Of a datagram socket: its receiver has gone.
        let gone = |e: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
            matches!(e.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
        };
        match sent {
            Err(e) if gone(&e) => {
                *self.socket.borrow_mut() = None;
                if self.follow {
                    return Err(Blocked::Full); // the next receiver
                }
                self.closed.set(true);
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other?),
        }
    }

    pub(super) fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match &*self.socket.borrow() {
            Some(socket) => run(Ready::Write(socket.as_fd())),
            None => run(Ready::Later(SOMEBODY)),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.max.get()
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        match &*self.socket.borrow() {
            Some(_) => ("net.core.wmem_default", self.max.get()),
            None => NOBODY,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Ends the connection, if it is one, though a forked child has a copy of it.
    pub(super) fn hang_up(&self) {
        if let (Kind::SeqPacket, Some(socket)) = (self.kind, &*self.socket.borrow()) {
            let _ = socket::shutdown(socket, Half::Write);
        }
    }
}

struct Connection {
    socket: OwnedFd,
    key: u64,
    peer: Peer,
}

/// The receiving end.
pub(crate) struct Inlet {
    bound: Bound,
    set: Epoll,
    connections: RefCell<Vec<Connection>>,
    keys: Cell<u64>,
    seen: Cell<bool>,
    /// Who is ready and has not had its turn.
    turns: RefCell<Vec<u64>>,
    room: RefCell<Vec<u8>>,
    presence: Option<Presence>,
}

impl Inlet {
    pub(super) fn open(address: &Address, place: &Place, mode: Mode) -> Result<Self, Error> {
        let (os, kind) = (|e| Error::os("open", address.link(), e), kind_of(address));
        let bind = || Bound::new(address, place, kind, mode);
        let (bound, presence) = match kind {
            Kind::Datagram => {
                let bind = |book: &Book| {
                    book.announce().map_err(os)?;
                    let bound = bind()?;
                    let made = bound.identity().map_or(Made::Nothing, Made::This);
                    Ok(Opened { object: bound, holds: false, made })
                };
                let (bound, presence) = Presence::join(&presence_name(address), Role::Receiver, bind)?;
                (bound, Some(presence))
            }
            _ => (bind()?, None),
        };
        let set = Epoll::new().map_err(os)?;
        match &presence {
            Some(presence) => {
                set.add(presence.news()?, Interest::Read, NEWS).map_err(os)?;
            }
            None => {
                unix::set_pass_credentials(&bound.socket, true).map_err(os)?; // connections inherit it
                unix::listen(&bound.socket, BACKLOG).map_err(os)?;
            }
        }
        set.add(bound.socket.as_fd(), Interest::Read, BOUND).map_err(os)?;
        let room = address.wanted.max.map_or(ROOM, |max| usize::try_from(max).unwrap_or(usize::MAX));
        Ok(Self {
            bound,
            set,
            connections: RefCell::default(),
            keys: Cell::new(NEWS),
            seen: Cell::new(false),
            turns: RefCell::default(),
            room: RefCell::new(vec![0; room]),
            presence,
        })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        match &self.presence {
            Some(presence) => {
                // Before the look: what the last sender sent before it left is seen by it.
                let gone = presence.peers_gone();
                let mut room = self.room.borrow_mut();
                match socket::try_recv_message(&self.bound.socket, &mut room) {
                    Ok(len) => Ok(taken(message, &room[..len])),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock && gone => Err(Nothing::Ended),
                    Err(e) => Err(failed(e, room.len())),
                }
            }
            None => self.next_packet(message),
        }
    }

    fn next_packet(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        loop {
            let next = self.turns.borrow_mut().pop();
            match next {
                Some(BOUND) => self.accept().map_err(|e| not_let_in(&e))?,
                Some(key) if key & DEATH != 0 => self.bury(key & !DEATH),
                Some(key) => {
                    if let Some(about) = self.read(key, message)? {
                        return Ok(about);
                    }
                }
                None => {
                    let mut turns = self.turns.borrow_mut();
                    self.set.ready_into(&mut turns)?;
                    if turns.is_empty() {
                        return Err(if self.is_closed() { Nothing::Ended } else { Nothing::Empty });
                    }
                    turns.reverse();
                }
            }
        }
    }

    fn accept(&self) -> io::Result<()> {
        let socket = match unix::try_accept(&self.bound.socket) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => return Ok(()),
            other => other?,
        };
        let key = self.keys.get() + 1;
        self.keys.set(key);
        self.set.add(socket.as_fd(), Interest::Read, key)?;
        self.seen.set(true);
        let peer = Peer::of(&socket, &self.set, key);
        self.connections.borrow_mut().push(Connection { socket, key, peer });
        Ok(())
    }

    /// Its process died. What it sent before is read first: the set tells of that too.
    fn bury(&self, key: u64) {
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = connections.iter_mut().find(|connection| connection.key == key) {
            connection.peer.died(&self.set);
        }
    }

    fn read(&self, key: u64, message: &mut Vec<u8>) -> Result<Option<About>, Nothing> {
        let mut connections = self.connections.borrow_mut();
        let Some(index) = connections.iter().position(|connection| connection.key == key) else { return Ok(None) };
        let mut room = self.room.borrow_mut();
        let received = unix::try_recv(&connections[index].socket, &mut [IoSliceMut::new(&mut room)], 0);
        match received {
            Ok(received) if received.bytes == 0 && received.credentials.is_none() => {
                self.end(connections.swap_remove(index));
                Ok(None)
            }
            Ok(received) => Ok(Some(taken(message, &room[..received.bytes]))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                self.end(connections.swap_remove(index));
                Ok(None)
            }
            Err(e) => Err(failed(e, room.len())),
        }
    }

    /// By name: in a forked child it may be open still, and then it would stay in the set.
    fn end(&self, mut connection: Connection) {
        let _ = self.set.remove(connection.socket.as_fd());
        connection.peer.forget(&self.set);
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        if self.presence.as_ref().is_some_and(Presence::is_unsettled) {
            return Ready::Later(SOON);
        }
        Ready::Read(self.set.as_fd())
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.presence {
            Some(presence) => presence.peers_gone(),
            None => self.seen.get() && self.connections.borrow().iter().all(|connection| connection.peer.is_dead()),
        }
    }
}

fn taken(message: &mut Vec<u8>, bytes: &[u8]) -> About {
    message.clear();
    message.extend_from_slice(bytes);
    About::default()
}

/// A message that is longer than the room is lost, and its receiver told.
fn failed(e: io::Error, room: usize) -> Nothing {
    match e.kind() {
        io::ErrorKind::InvalidData => Nothing::CutOff(RecvFailure::Malformed { len: room as u64 + 1 }),
        _ => e.into(),
    }
}
