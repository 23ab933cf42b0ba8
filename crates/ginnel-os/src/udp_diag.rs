//! `sock_diag(7)` for UDP (`linux/inet_diag.h`): how full the socket is that datagrams of a sender go to, if it is on this host.
//!
//! A sender over the loopback interface is never made to wait: what does not fit into the receiver's buffer is thrown away. Who looks here first does
//! not send into a full one. The kernel looks the socket up as it does for a datagram, so it is the very one that would get it.

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, netlink};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::explain::not_opened;
use crate::sock_diag::{half, word};
use crate::socket;

/// How full a receiver's buffer is. The memory of a datagram is its bytes and some hundreds that the kernel adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// Memory of the datagrams that nobody has received yet, in bytes. Up to a quarter of the room too much while a receiver is at work.
    pub used: u64,
    /// At how much of it the next datagrams are thrown away (`SO_RCVBUF`, doubled).
    pub room: u64,
    /// Datagrams that were.
    pub dropped: u64,
}

/// A question to the kernel, ready to be asked again and again.
#[derive(Debug)]
pub struct UdpDiag {
    kernel: OwnedFd,
    request: [u8; REQUEST],
}

const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`
const ONE: u16 = 1;
const IPPROTO_UDP: u8 = 17;
/// `INET_DIAG_SKMEMINFO`, and its bit in a request.
const SKMEMINFO: u16 = 7;
const SHOW: u8 = 1 << (SKMEMINFO - 1);
const NLMSG_HEADER: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const REQUEST: usize = NLMSG_HEADER + 56;
/// `struct inet_diag_msg`
const DIAG_MSG: usize = 72;
/// The kernel answers at once; this only keeps a strange one from holding us for ever.
const PATIENCE: Duration = Duration::from_secs(1);

impl UdpDiag {
    /// `socket(2)`: asks for the socket that gets what is sent from the one address to the other. That the second is this host's own is the
    /// caller's to know: a socket here that takes datagrams to any address would match otherwise.
    ///
    /// # Errors
    /// `InvalidInput`: one address is IPv4, the other IPv6. Else the errno: `EMFILE`; `EPROTONOSUPPORT` where the kernel has no `sock_diag`.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::udp_diag::UdpDiag;
    /// use std::net::UdpSocket;
    ///
    /// let (receiver, sender) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// let (from, to) = (sender.local_addr()?, receiver.local_addr()?);
    /// sender.send_to(&[0; 1000], to)?;
    /// match UdpDiag::new(from, to).and_then(|diag| diag.queue()) {
    ///     Ok(queue) => assert!(queue.unwrap().used > 1000),
    ///     Err(e) => eprintln!("this kernel does not tell: {e}"),
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        if from.is_ipv4() != to.is_ipv4() {
            let text = format!("{from} cannot send to {to}; give addresses of one kind");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let protocol = Some(netlink::SOCK_DIAG);
        let kernel = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol);
        Ok(Self { kernel: kernel.map_err(not_opened)?, request: request(from, to) })
    }

    /// `sock_diag(7)`: how full it is; none if there is no such socket, or the kernel was built without these answers.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::udp_diag::UdpDiag;
    ///
    /// let nobody = UdpDiag::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:1".parse().unwrap())?;
    /// assert_eq!(nobody.queue()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn queue(&self) -> io::Result<Option<Queue>> {
        net::sendto(&self.kernel, &self.request, net::SendFlags::NOSIGNAL, &netlink::SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        let len = socket::recv_message(self.kernel.as_fd(), &mut answer, Some(Instant::now() + PATIENCE))?;
        read(&answer[..len])
    }
}

/// Addresses and ports stand in the order of the network. The source is the sender's, as seen from the datagram.
fn request(from: SocketAddr, to: SocketAddr) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&ONE.to_ne_bytes());
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    bytes[16..19].copy_from_slice(&[family.as_raw() as u8, IPPROTO_UDP, SHOW]);
    bytes[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // all states
    bytes[24..26].copy_from_slice(&from.port().to_be_bytes());
    bytes[26..28].copy_from_slice(&to.port().to_be_bytes());
    place(&mut bytes[28..44], from.ip());
    place(&mut bytes[44..60], to.ip());
    bytes[64..72].copy_from_slice(&[0xff; 8]); // no cookie
    bytes
}

fn place(bytes: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.copy_from_slice(&ip.octets()),
    }
}

/// `struct inet_diag_msg` and its attributes, or an error.
fn read(bytes: &[u8]) -> io::Result<Option<Queue>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let len = word(bytes, 0).ok_or_else(broken)? as usize;
    let message = bytes.get(NLMSG_HEADER..len).ok_or_else(broken)?;
    match half(bytes, 4).ok_or_else(broken)? {
        SOCK_DIAG_BY_FAMILY => Ok(memory(message.get(DIAG_MSG..).ok_or_else(broken)?)),
        NLMSG_ERROR => match (word(message, 0).ok_or_else(broken)? as i32).saturating_neg() {
            libc::ENOENT => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        _ => Err(broken()),
    }
}

/// The attribute with `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_RCVBUF` and, ninth, `SK_MEMINFO_DROPS`.
fn memory(mut attributes: &[u8]) -> Option<Queue> {
    while let (Some(len), Some(what)) = (half(attributes, 0), half(attributes, 2)) {
        let value = attributes.get(4..len.into())?;
        if what == SKMEMINFO {
            let number = |index: usize| word(value, 4 * index).map(u64::from);
            return Some(Queue { used: number(0)?, room: number(1)?, dropped: number(8)? });
        }
        attributes = attributes.get(usize::from(len).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn it_fills_until_datagrams_are_thrown_away_and_empties() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(receiver) = UdpSocket::bind(host) else { continue }; // no IPv6 here
            let sender = UdpSocket::bind(host).unwrap();
            let diag = UdpDiag::new(sender.local_addr().unwrap(), receiver.local_addr().unwrap()).unwrap();
            let Some(empty) = diag.queue().unwrap() else { return eprintln!("skipped: no answers here") };
            assert_eq!((empty.used, empty.dropped), (0, 0));
            assert_eq!(empty.room, socket::recv_buffer(&receiver).unwrap() as u64);
            let look = || diag.queue().unwrap().unwrap();
            while look().dropped == 0 {
                sender.send_to(&[1; 5000], receiver.local_addr().unwrap()).unwrap();
            }
            assert!(look().used > empty.room / 2);
            receiver.set_nonblocking(true).unwrap();
            while receiver.recv(&mut [0; 5000]).is_ok() {}
            assert_eq!(look().used, 0);
            drop(receiver);
            assert_eq!(diag.queue().unwrap(), None);
        }
    }

    #[test]
    fn addresses_of_two_kinds_are_refused() {
        let error = UdpDiag::new("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[][..], &[0; 15], &[0; 16], &[0xff; 200]] {
            assert!(read(bytes).is_err());
        }
        for attributes in [&[][..], &[0; 4], &[4, 0, 7, 0], &[8, 0, 7, 0, 1, 1, 1, 1], &[0xff; 40]] {
            assert_eq!(memory(attributes), None);
        }
    }
}
