//! `udp:`: datagrams over the internet protocols (`udp(7)`). The network may lose them, double them and change their order, and nobody tells who is
//! there: a stream of them has no end. Of what this host throws away because the receiver is too slow the kernel keeps count. To a group
//! of the multicast range (224.0.0.0/4, ff00::/8) the sender sends, and the receiver joins it; then there may be several of each.
//!
//! A receiver on the same host has no network between that could make its sender wait, and so would lose the more the faster the sender is. There
//! the sender asks the kernel how full the receiver's buffer is, and waits while it is more than half full (`Neighbour`).

use super::endpoint::resolve;
use super::wait::{Ready, SOMEBODY, SOON};
use super::{About, Blocked, NOBODY, Nothing};
use crate::address::Address;
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_os::inet::{self, Sharing};
use ginnel_os::socket;
use ginnel_os::udp_diag::UdpDiag;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// Bytes of the longest message: a packet of IP less the headers of IP and UDP.
const MAX_V4: u64 = 65_507;
const MAX_V6: u64 = 65_527;
/// Asked for as the receive buffer, in bytes; the kernel gives up to `net.core.rmem_max`.
const BUFFER: usize = 4 << 20;
/// What the kernel keeps for a datagram besides its bytes, in bytes.
const OVERHEAD: u64 = 1024;

/// What a sender waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// Room in its own send buffer.
    Room,
    /// That the receiver takes some of what its buffer, of so many bytes, holds.
    Receiver(u64),
    /// A receiver.
    Somebody,
}

/// A receiver on this host. A sender that finds half of its buffer free sends an eighth, and then looks again: so four of them together do not
/// fill it. Where the kernel does not tell, nobody waits.
struct Neighbour {
    diag: UdpDiag,
    /// Bytes of memory to fill until the next look.
    credit: Cell<u64>,
}

impl Neighbour {
    /// The receiver, if datagrams to it do not leave this host.
    fn of(socket: &UdpSocket) -> Option<Self> {
        let (from, to) = (socket.local_addr().ok()?, socket.peer_addr().ok()?);
        if from.ip() != to.ip() && !to.ip().is_loopback() {
            return None;
        }
        // The way back leads to this socket: a kernel that does not know that one has no such answers.
        UdpDiag::new(to, from).ok()?.queue().ok()??;
        Some(Self { diag: UdpDiag::new(from, to).ok()?, credit: Cell::new(0) })
    }

    /// What there is to wait for before so many bytes.
    fn lacks(&self, len: usize) -> Option<Lacks> {
        let cost = 2 * len as u64 + OVERHEAD; // at most: its memory is a power of two
        if let Some(left) = self.credit.get().checked_sub(cost) {
            self.credit.set(left);
            return None;
        }
        match self.diag.queue() {
            Ok(Some(queue)) if queue.used > queue.room / 2 => Some(Lacks::Receiver(queue.room)),
            Ok(Some(queue)) => {
                self.credit.set((queue.room / 8).saturating_sub(cost));
                None
            }
            Ok(None) => Some(Lacks::Somebody),
            Err(_) => None,
        }
    }
}

/// The sending end.
pub(crate) struct Outlet {
    socket: UdpSocket,
    max: u64,
    follow: bool,
    neighbour: Option<Neighbour>,
    lacks: Cell<Lacks>,
    /// Messages that nobody received, as the host that they came to said.
    refused: Cell<u64>,
}

impl Outlet {
    pub(super) fn open(address: &Address, host: &str, mode: Mode) -> Result<Self, Error> {
        if mode != Mode::Open {
            return Err(Error::new(ErrorKind::Unsupported, "open", address.link())
                .problem("nobody can tell whether there is a receiver")
                .remedy("open it without asking that"));
        }
        let to = resolve(address, host)?[0];
        let most = if to.is_ipv4() { MAX_V4 } else { MAX_V6 };
        if let Some(max) = address.wanted.max.filter(|max| *max > most) {
            return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
                .problem(format!("max={max} is above {most}, the most that a datagram can carry"))
                .remedy("leave ?max= out, and send what is longer in parts, or use `tcp:`"));
        }
        let socket = connected(to).map_err(|e| Error::os("open", address.link(), e))?;
        Ok(Self::with(socket, address.wanted.max.unwrap_or(most).min(most), address.follow))
    }

    fn with(socket: UdpSocket, max: u64, follow: bool) -> Self {
        let neighbour = Neighbour::of(&socket);
        Self { socket, max, follow, neighbour, lacks: Cell::new(Lacks::Room), refused: Cell::new(0) }
    }

    /// With a socket of its own: what is refused is told to the one that sent it.
    pub(super) fn try_clone(&self, link: &str) -> Result<Self, Error> {
        let socket = self.socket.peer_addr().and_then(connected);
        let socket = socket.map_err(|e| Error::os("clone a sender of", link, e))?;
        Ok(Self::with(socket, self.max, self.follow))
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        if message.len() as u64 > self.max {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max }));
        }
        let was = self.lacks.replace(Lacks::Room);
        match self.neighbour.as_ref().and_then(|neighbour| neighbour.lacks(message.len())) {
            // What leaves for nobody is lost, as everywhere with UDP; but who follows, and was refused, waits for the next one.
            Some(Lacks::Somebody) if was != Lacks::Somebody => {}
            None => {}
            Some(lacks) => return self.blocked(lacks),
        }
        match socket::try_send(&self.socket, message) {
            // Of an earlier datagram: nobody receives there. The call that says so has not sent this one.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused.set(self.refused.get() + 1);
                if self.follow { self.blocked(Lacks::Somebody) } else { Err(closed()) }
            }
            other => Ok(other.map(drop)?),
        }
    }

    fn blocked(&self, lacks: Lacks) -> Result<(), Blocked> {
        self.lacks.set(lacks);
        Err(Blocked::Full)
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        match self.lacks.get() {
            Lacks::Room => Ready::Write(self.socket.as_fd()),
            Lacks::Receiver(_) => Ready::Later(SOON),
            Lacks::Somebody => Ready::Later(SOMEBODY),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        match self.lacks.get() {
            Lacks::Room => ("net.core.wmem_default", socket::send_buffer(&self.socket).unwrap_or(0) as u64),
            Lacks::Receiver(room) => ("receive buffer, net.core.rmem_max", room),
            Lacks::Somebody => NOBODY,
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.refused.get()
    }
}

fn closed() -> Blocked {
    Blocked::Failed(SendFailure::Closed { died: 0 })
}

fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let own: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = inet::bind(own, Sharing::default())?;
    socket.connect(to)?;
    Ok(socket)
}

/// The receiving end.
pub(crate) struct Inlet {
    socket: UdpSocket,
    room: RefCell<Vec<u8>>,
}

impl Inlet {
    pub(super) fn open(address: &Address, host: &str, mode: Mode) -> Result<Self, Error> {
        let os = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::new(ErrorKind::AlreadyExists, "open", address.link())
                .problem("another receiver has it")
                .remedy("end that one (`ss -lunp` shows it), or choose another port"),
            _ => Error::os("open", address.link(), e),
        };
        if mode == Mode::Join {
            return Err(Error::new(ErrorKind::Unsupported, "join", address.link())
                .problem("a socket has one receiver, which makes it")
                .remedy("open it instead"));
        }
        let at = resolve(address, host)?[0];
        let group = at.ip().is_multicast();
        let socket = inet::bind(at, Sharing { reuse_port: group, ..Sharing::default() }).map_err(os)?;
        if group {
            inet::join(&socket, at.ip(), 0).map_err(os)?;
        }
        socket::set_recv_buffer(&socket, BUFFER).map_err(os)?;
        Ok(Self { socket, room: RefCell::new(vec![0; MAX_V6 as usize]) })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        let mut room = self.room.borrow_mut();
        match socket::try_recv_message(&self.socket, &mut room) {
            Ok(len) => {
                message.clear();
                message.extend_from_slice(&room[..len]);
                Ok(About::default())
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                Err(Nothing::CutOff(RecvFailure::Malformed { len: room.len() as u64 + 1 }))
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Read(self.socket.as_fd())
    }

    pub(super) fn dropped(&self) -> u64 {
        socket::drops(&self.socket).unwrap_or(0)
    }
}
