//! `udp:`: datagrams over the internet protocols (`udp(7)`). The network may lose them, double them and change their order, and nobody tells who is
//! there: a stream of them has no end. Of what this host throws away because the receiver is too slow the kernel keeps count. To a group
//! of the multicast range (224.0.0.0/4, ff00::/8) the sender sends, and the receiver joins it; then there may be several of each.

use super::endpoint::resolve;
use super::wait::Ready;
use super::{About, Blocked, Nothing};
use crate::address::Address;
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_os::inet::{self, Sharing};
use ginnel_os::socket;
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// Bytes of the longest message: a packet of IP less the headers of IP and UDP.
const MAX_V4: u64 = 65_507;
const MAX_V6: u64 = 65_527;
/// Asked for as the receive buffer, in bytes; the kernel gives up to `net.core.rmem_max`.
const BUFFER: usize = 4 << 20;

/// The sending end.
pub(crate) struct Outlet {
    socket: UdpSocket,
    max: u64,
}

impl Outlet {
    pub(super) fn open(address: &Address, host: &str, mode: Mode) -> Result<Self, Error> {
        if mode != Mode::Open {
            return Err(Error::new(ErrorKind::Unsupported, "open", address.link())
                .problem("nobody can tell whether there is a receiver")
                .remedy("open it without asking that"));
        }
        let to = resolve(address, host)?[0];
        let own: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let most = if to.is_ipv4() { MAX_V4 } else { MAX_V6 };
        if let Some(max) = address.wanted.max.filter(|max| *max > most) {
            return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
                .problem(format!("max={max} is above {most}, the most that a datagram can carry"))
                .remedy("leave ?max= out, and send what is longer in parts, or use `tcp:`"));
        }
        let os = |e| Error::os("open", address.link(), e);
        let socket = inet::bind(own, Sharing::default()).map_err(os)?;
        socket.connect(to).map_err(os)?;
        Ok(Self { socket, max: address.wanted.max.unwrap_or(most).min(most) })
    }

    pub(super) fn try_clone(&self, link: &str) -> Result<Self, Error> {
        let socket = self.socket.try_clone().map_err(|e| Error::os("clone a sender of", link, e))?;
        Ok(Self { socket, max: self.max })
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        if message.len() as u64 > self.max {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max }));
        }
        match socket::try_send(&self.socket, message) {
            // Of an earlier datagram: nobody receives there. The call that says so has not sent this one.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Write(self.socket.as_fd())
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        ("net.core.wmem_default", socket::send_buffer(&self.socket).unwrap_or(0) as u64)
    }
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
