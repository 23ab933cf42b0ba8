//! `tcp(7)`, `udp(7)`, `ip(7)`, `ipv6(7)`: sockets between machines, of both families.
//!
//! The types are `std`'s, which do the rest: [`TcpStream::set_nodelay`], [`TcpStream::set_ttl`], addresses, reading and writing. Here is what it
//! lacks: deadlines, options of a listener, keepalive, linger, datagrams that are never cut, multicast by interface. Sending, receiving and half-close
//! are [`socket`](mod@socket)'s, for these sockets as for any.

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketAddrAny, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::explain::not_opened;
use crate::poll;
use crate::socket::{self, Kind, Ready};

/// How a socket takes its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sharing {
    /// `SO_REUSEPORT`: others of the same user that ask for it too may have the same address; the kernel spreads connections and datagrams over them.
    /// For multicast, each of them gets everything.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`: a socket of `[::]` leaves IPv4 to others. Off, it takes both, whatever `net.ipv6.bindv6only` says.
    pub only_v6: bool,
}

/// When TCP asks a silent peer whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// `TCP_KEEPIDLE`: silence before the first question; whole seconds, 1 to 32767.
    pub idle: Duration,
    /// `TCP_KEEPINTVL`: time between questions; whole seconds, 1 to 32767.
    pub interval: Duration,
    /// `TCP_KEEPCNT`: questions without an answer until the connection is given up with `ETIMEDOUT`; 1 to 127.
    pub count: u32,
}

/// `connect(2)`: a TCP connection, made until the deadline.
///
/// # Errors
/// `TimedOut` at the deadline, without an errno. The errno: `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `ETIMEDOUT` when the kernel gives up by itself
/// (after two minutes, by `net.ipv4.tcp_syn_retries`), `EADDRNOTAVAIL` when no port is left.
///
/// ```
/// use ginnel_os::inet;
/// use std::time::{Duration, Instant};
///
/// let listener = inet::listen("127.0.0.1:0".parse().unwrap(), 16, inet::Sharing::default())?;
/// let soon = Some(Instant::now() + Duration::from_secs(1));
/// let client = inet::connect(listener.local_addr()?, soon)?;
/// let (server, from) = inet::accept(&listener, soon)?;
/// assert_eq!(from, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect(address: SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
    begin_connect(address)?.finish(deadline)
}

/// A TCP connection that is being made. It becomes writable when that has ended, well or not.
#[derive(Debug)]
pub struct Connecting(OwnedFd);

/// `connect(2)` without waiting: begins to make a TCP connection.
///
/// # Errors
/// As [`connect`], as far as they are known at once.
///
/// ```
/// use ginnel_os::{inet, poll};
/// use std::os::fd::AsFd;
///
/// let listener = inet::listen("127.0.0.1:0".parse().unwrap(), 16, inet::Sharing::default())?;
/// let connecting = inet::begin_connect(listener.local_addr()?)?;
/// poll::writable(connecting.as_fd(), None)?;
/// let client = connecting.finish(None)?;
/// assert_eq!(client.peer_addr()?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn begin_connect(address: SocketAddr) -> io::Result<Connecting> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(family(address), SocketType::STREAM, flags, None).map_err(not_opened)?;
    match net::connect(&fd, &address) {
        // A signal ends the call, not the connecting.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Connecting(fd)),
        Err(e) => Err(e.into()),
    }
}

impl Connecting {
    /// `poll(2)`, `SO_ERROR`: the connection, once it is made.
    ///
    /// # Errors
    /// As [`connect`]; either way the attempt is over.
    pub fn finish(self, deadline: Option<Instant>) -> io::Result<TcpStream> {
        if !poll::writable(self.0.as_fd(), deadline)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket::take_error(&self.0)?.map_or(Ok(()), Err)?;
        // The description is new: nobody else has it.
        rustix::io::ioctl_fionbio(&self.0, false)?;
        Ok(TcpStream::from(self.0))
    }

    /// `poll(2)`: whether it has ended, well or not.
    ///
    /// # Errors
    /// The errno.
    pub fn has_ended(&self) -> io::Result<bool> {
        poll::is_writable(self.0.as_fd())
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `listen(2)`: a TCP listener; `backlog` connections wait to be accepted, at most `net.core.somaxconn`: the kernel lowers a larger number silently.
/// With `SO_REUSEADDR`, so that a server can be started again at once. The description is `O_NONBLOCK`, so that [`accept`] keeps its deadline
/// even when several processes accept from it; `std`'s `accept` on it fails with `WouldBlock` instead of waiting.
///
/// # Errors
/// The errno: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for a port below `net.ipv4.ip_unprivileged_port_start`.
///
/// ```
/// use ginnel_os::inet;
///
/// let sharing = inet::Sharing { reuse_port: true, ..Default::default() };
/// let one = inet::listen("127.0.0.1:0".parse().unwrap(), 16, sharing)?;
/// let two = inet::listen(one.local_addr()?, 16, sharing)?;
/// assert_eq!(one.local_addr()?, two.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen(address: SocketAddr, backlog: u32, sharing: Sharing) -> io::Result<TcpListener> {
    let fd = bound(address, Kind::Stream, sharing)?;
    socket::listen(fd.as_fd(), backlog)?;
    Ok(TcpListener::from(fd))
}

/// `accept4(2)`: the next connection and who made it, waiting for it until the deadline.
///
/// # Errors
/// `TimedOut` at the deadline. The errno: `EINVAL` if the socket does not listen, `EMFILE`. A connection that was reset while it waited is passed over.
///
/// ```
/// let listener = ginnel_os::inet::listen("[::1]:0".parse().unwrap(), 16, Default::default());
/// let Ok(listener) = listener else { return }; // no IPv6 here
/// let error = ginnel_os::inet::accept(&listener, Some(std::time::Instant::now())).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// ```
pub fn accept(listener: impl AsFd, deadline: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    let (fd, from) = socket::accept(listener.as_fd(), deadline)?;
    Ok((TcpStream::from(fd), address_of(from)?))
}

/// `bind(2)`: a UDP socket with this address. `std`'s `connect` gives it a peer.
///
/// # Errors
/// The errno: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
///
/// ```
/// use ginnel_os::inet;
///
/// let a = inet::bind("127.0.0.1:0".parse().unwrap(), inet::Sharing::default())?;
/// let b = inet::bind("127.0.0.1:0".parse().unwrap(), inet::Sharing::default())?;
/// inet::send_to(&a, b"hello", b.local_addr()?, None)?;
/// let (bytes, from) = inet::recv_from(&b, &mut [0; 16], None)?;
/// assert_eq!((bytes, from), (5, a.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    Ok(UdpSocket::from(bound(address, Kind::Datagram, sharing)?))
}

fn bound(address: SocketAddr, kind: Kind, sharing: Sharing) -> io::Result<OwnedFd> {
    let fd = net::socket_with(family(address), kind.socket_type(), SocketFlags::CLOEXEC, None).map_err(not_opened)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, sharing.only_v6)?;
    }
    if kind == Kind::Stream {
        // For UDP it would let others take the datagrams away.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if sharing.reuse_port {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    net::bind(&fd, &address)?;
    Ok(fd)
}

/// `sendto(2)`: sends one datagram to an address, waiting until the deadline for room in the own buffer. Nobody says whether it arrives.
///
/// # Errors
/// `TimedOut` at the deadline. `InvalidInput` for a datagram that is too long, which names the limit. The errno: `ECONNREFUSED` if an earlier one
/// found no receiver, `ENETUNREACH`, `EINVAL` for port 0, `EAFNOSUPPORT` for an address of the other family.
///
/// ```
/// use ginnel_os::inet;
///
/// let a = inet::bind("127.0.0.1:0".parse().unwrap(), inet::Sharing::default())?;
/// let error = inet::send_to(&a, &[0; 65508], a.local_addr()?, None).unwrap_err();
/// assert!(error.to_string().contains("65507"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_to(fd: impl AsFd, bytes: &[u8], to: SocketAddr, deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    socket::until(fd, Ready::Write, deadline, |may_block| net::sendto(fd, bytes, socket::send_flags(may_block), &to))
        .map_err(|e| socket::explain_send(fd, e, bytes.len(), 1))
}

/// `sendto(2)` with `MSG_DONTWAIT`: as [`send_to`], but never blocks.
///
/// # Errors
/// As [`send_to`]; `WouldBlock` where there is no room.
///
/// ```
/// let a = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert_eq!(ginnel_os::inet::try_send_to(&a, b"me", a.local_addr()?)?, 2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_send_to(fd: impl AsFd, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
    let fd = fd.as_fd();
    socket::once(|| net::sendto(fd, bytes, socket::send_flags(false), &to))
        .map_err(|e| socket::explain_send(fd, e, bytes.len(), 1))
}

/// `recvfrom(2)` with `MSG_TRUNC`: one datagram and who sent it, waiting for it until the deadline. 0 is an empty datagram.
///
/// # Errors
/// `TimedOut` at the deadline. `InvalidData` if the datagram was longer than the buffer: the error names both lengths, and the datagram is lost. The
/// errno: `ECONNREFUSED` if an earlier one of a connected socket found no receiver.
///
/// ```
/// use ginnel_os::inet;
///
/// let a = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// inet::send_to(&a, b"too long", a.local_addr()?, None)?;
/// let error = inet::recv_from(&a, &mut [0; 4], None).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_from(fd: impl AsFd, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<(usize, SocketAddr)> {
    let fd = fd.as_fd();
    let flags = |may_block| socket::recv_flags(may_block) | RecvFlags::TRUNC;
    let call = |may_block| net::recvfrom(fd, &mut *buffer, flags(may_block));
    let (_, len, from) = socket::until(fd, Ready::Read, deadline, call)?;
    Ok((socket::whole(len, buffer.len())?, address_of(from)?))
}

/// `recvfrom(2)` with `MSG_TRUNC` and `MSG_DONTWAIT`: as [`recv_from`], but never blocks.
///
/// # Errors
/// As [`recv_from`]; `WouldBlock` where there is no datagram.
///
/// ```
/// let a = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let error = ginnel_os::inet::try_recv_from(&a, &mut [0; 4]).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_recv_from(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let fd = fd.as_fd();
    let (_, len, from) = socket::once(|| net::recvfrom(fd, &mut *buffer, RecvFlags::TRUNC | RecvFlags::DONTWAIT))?;
    Ok((socket::whole(len, buffer.len())?, address_of(from)?))
}

/// `SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`: asks a silent peer whether it is there; `None` asks no more.
///
/// # Errors
/// `InvalidInput` for a time or a number outside of its limits, which it names. The errno: `EOPNOTSUPP` or `ENOPROTOOPT` if it is not TCP.
///
/// ```
/// use ginnel_os::inet;
/// use std::time::Duration;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let often = inet::Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 3 };
/// inet::set_keepalive(&client, Some(often))?;
/// assert_eq!(inet::keepalive(&client)?, Some(often));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_keepalive(fd: impl AsFd, keepalive: Option<Keepalive>) -> io::Result<()> {
    if let Some(Keepalive { idle, interval, count }) = keepalive {
        check("the idle time in seconds", whole_seconds(idle)?, 32767)?;
        check("the interval in seconds", whole_seconds(interval)?, 32767)?;
        check("the count", count.into(), 127)?;
        sockopt::set_tcp_keepidle(&fd, idle)?;
        sockopt::set_tcp_keepintvl(&fd, interval)?;
        sockopt::set_tcp_keepcnt(&fd, count)?;
    }
    Ok(sockopt::set_socket_keepalive(fd, keepalive.is_some())?)
}

/// `SO_KEEPALIVE` and its times: `None` if it is off.
///
/// # Errors
/// The errno: `ENOTSOCK`; `EOPNOTSUPP` or `ENOPROTOOPT` if it is not TCP.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// assert_eq!(ginnel_os::inet::keepalive(&listener)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn keepalive(fd: impl AsFd) -> io::Result<Option<Keepalive>> {
    let is_on = sockopt::socket_keepalive(&fd)?;
    let idle = sockopt::tcp_keepidle(&fd)?;
    let (interval, count) = (sockopt::tcp_keepintvl(&fd)?, sockopt::tcp_keepcnt(&fd)?);
    Ok(is_on.then_some(Keepalive { idle, interval, count }))
}

/// `TCP_USER_TIMEOUT` of `tcp(7)`: how long data that was sent may stay without acknowledgement until the connection is given up with `ETIMEDOUT`; in milliseconds, zero is
/// the kernel's own judgement. A part of a millisecond counts as a whole one.
///
/// # Errors
/// `InvalidInput` above 2147483647 ms. The errno: `ENOPROTOOPT` or `EOPNOTSUPP` if it is not TCP.
///
/// ```
/// use std::time::Duration;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// ginnel_os::inet::set_user_timeout(&listener, Duration::from_secs(5))?;
/// assert_eq!(ginnel_os::inet::user_timeout(&listener)?, Duration::from_secs(5));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_user_timeout(fd: impl AsFd, timeout: Duration) -> io::Result<()> {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    let milliseconds = u32::try_from(milliseconds).ok().filter(|ms| *ms <= i32::MAX as u32).ok_or_else(|| {
        invalid(format!("{milliseconds} ms are above the limit {} ms of a user timeout; use less", i32::MAX))
    })?;
    Ok(sockopt::set_tcp_user_timeout(fd, milliseconds)?)
}

/// `TCP_USER_TIMEOUT` of `tcp(7)`: see [`set_user_timeout`].
///
/// # Errors
/// The errno: `ENOTSOCK`; `EOPNOTSUPP` or `ENOPROTOOPT` if it is not TCP.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// assert!(ginnel_os::inet::user_timeout(&listener)?.is_zero());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn user_timeout(fd: impl AsFd) -> io::Result<Duration> {
    Ok(Duration::from_millis(sockopt::tcp_user_timeout(fd)?.into()))
}

/// `SO_LINGER`: what closing does with data that was not acknowledged. `None`: the kernel goes on sending it, and closing returns at once. A time, in whole
/// seconds: closing waits so long for it. Zero: it is thrown away, and the peer gets `ECONNRESET`.
///
/// # Errors
/// `InvalidInput` for parts of a second, or more than 65535 of them. The errno: `ENOTSOCK`.
///
/// ```
/// use std::time::Duration;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// ginnel_os::inet::set_linger(&listener, Some(Duration::ZERO))?;
/// assert_eq!(ginnel_os::inet::linger(&listener)?, Some(Duration::ZERO));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_linger(fd: impl AsFd, linger: Option<Duration>) -> io::Result<()> {
    if let Some(time) = linger.filter(|time| !time.is_zero()) {
        check("the linger time in seconds", whole_seconds(time)?, 65535)?;
    }
    Ok(sockopt::set_socket_linger(fd, linger)?)
}

/// `SO_LINGER`: see [`set_linger`].
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// assert_eq!(ginnel_os::inet::linger(&listener)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn linger(fd: impl AsFd) -> io::Result<Option<Duration>> {
    Ok(sockopt::socket_linger(fd)?)
}

/// `if_nametoindex(3)`: the number of a network interface.
///
/// # Errors
/// The errno: `ENODEV` if there is none of this name.
///
/// ```
/// assert!(ginnel_os::inet::interface("no such interface").is_err());
/// ```
pub fn interface(name: &str) -> io::Result<u32> {
    let any = net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(net::netdevice::name_to_index(any, name)?)
}

/// `setsockopt(2)` with `IP_ADD_MEMBERSHIP` of `ip(7)`, `IPV6_ADD_MEMBERSHIP` of `ipv6(7)`: from now on the socket gets what is sent to this multicast group on this interface ([`interface`]); 0 lets the
/// kernel choose one.
///
/// # Errors
/// The errno: `EINVAL` if the address is no group's, `ENODEV` if there is no such interface or none that leads there, `EADDRINUSE` if it is a member
/// already, `ENOBUFS` above `net.ipv4.igmp_max_memberships`; `ENOPROTOOPT` for a group of the other family.
///
/// ```
/// use ginnel_os::inet;
///
/// let fd = inet::bind("127.0.0.1:0".parse().unwrap(), inet::Sharing::default())?;
/// let group = "239.255.1.2".parse().unwrap();
/// if let Ok(lo) = inet::interface("lo") {
///     inet::join(&fd, group, lo)?;
///     inet::leave(&fd, group, lo)?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn join(fd: impl AsFd, group: IpAddr, interface: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            Ok(sockopt::set_ip_add_membership_with_ifindex(fd, &group, &Ipv4Addr::UNSPECIFIED, interface)?)
        }
        IpAddr::V6(group) => Ok(sockopt::set_ipv6_add_membership(fd, &group, interface)?),
    }
}

/// `setsockopt(2)` with `IP_DROP_MEMBERSHIP` of `ip(7)`, `IPV6_DROP_MEMBERSHIP` of `ipv6(7)`: undoes [`join`].
///
/// # Errors
/// The errno: `EADDRNOTAVAIL` if it is no member.
///
/// ```
/// let fd = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert!(ginnel_os::inet::leave(&fd, "239.255.1.2".parse().unwrap(), 0).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn leave(fd: impl AsFd, group: IpAddr, interface: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            Ok(sockopt::set_ip_drop_membership_with_ifindex(fd, &group, &Ipv4Addr::UNSPECIFIED, interface)?)
        }
        IpAddr::V6(group) => Ok(sockopt::set_ipv6_drop_membership(fd, &group, interface)?),
    }
}

/// How a socket sends to multicast groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Multicast {
    /// `IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`: on which [`interface`]; 0 lets the kernel choose one.
    pub interface: u32,
    /// `IP_MULTICAST_LOOP`, `IPV6_MULTICAST_LOOP`: whether members on this machine get it too.
    pub is_looped: bool,
    /// `IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`: how many routers it may pass, and one; 0 stays on this machine, 1 on this network.
    pub ttl: u8,
}

/// `setsockopt(2)` with `IP_MULTICAST_TTL` and its like: sets how the socket, of either family, sends to multicast groups. A socket that nobody told sends by the kernel's choice of interface, looped, with a ttl of 1.
///
/// # Errors
/// The errno: `ENODEV` or `EADDRNOTAVAIL` if there is no such interface; `ENOTSOCK`. `Unsupported` for a socket of another family.
///
/// ```
/// use ginnel_os::inet;
///
/// let fd = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// inet::set_multicast(&fd, inet::Multicast { interface: 0, is_looped: false, ttl: 4 })?;
/// assert_eq!(fd.multicast_ttl_v4()?, 4);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_multicast(fd: impl AsFd, multicast: Multicast) -> io::Result<()> {
    let Multicast { interface, is_looped, ttl } = multicast;
    match sockopt::socket_domain(&fd)? {
        AddressFamily::INET => {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(&fd, &any, &any, interface)?;
            sockopt::set_ip_multicast_loop(&fd, is_looped)?;
            Ok(sockopt::set_ip_multicast_ttl(&fd, ttl.into())?)
        }
        AddressFamily::INET6 => {
            sockopt::set_ipv6_multicast_if(&fd, interface)?;
            sockopt::set_ipv6_multicast_loop(&fd, is_looped)?;
            Ok(sockopt::set_ipv6_multicast_hops(&fd, ttl.into())?)
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "only sockets of IPv4 and IPv6 know multicast")),
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

fn address_of(address: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let address = address.ok_or(Errno::AFNOSUPPORT)?;
    Ok(SocketAddr::try_from(address)?)
}

fn whole_seconds(time: Duration) -> io::Result<u64> {
    if time.subsec_nanos() == 0 {
        return Ok(time.as_secs());
    }
    Err(invalid(format!("{time:?} is not a whole number of seconds; round it")))
}

fn check(what: &str, value: u64, limit: u64) -> io::Result<()> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{what} is {value}; use 1 to {limit}")))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm;
    use std::io::ErrorKind;

    const LONG: Duration = Duration::from_secs(20);

    fn soon() -> Option<Instant> {
        Some(Instant::now() + LONG)
    }

    /// An address of this machine in each family that it has, with a free port.
    fn loopbacks() -> Vec<SocketAddr> {
        let all = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse::<SocketAddr>().unwrap());
        all.into_iter().filter(|address| UdpSocket::bind(address).is_ok()).collect()
    }

    #[test]
    fn a_connection_goes_both_ways() {
        for address in loopbacks() {
            let listener = listen(address, 4, Sharing::default()).unwrap();
            let client = connect(listener.local_addr().unwrap(), soon()).unwrap();
            let (server, from) = accept(&listener, soon()).unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            for fd in [client.as_fd(), server.as_fd()] {
                assert!(!rustix::fs::fcntl_getfl(fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
                assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            }
            socket::send(&client, b"there", soon()).unwrap();
            socket::shutdown(&client, socket::Half::Write).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(socket::recv_exact(&server, &mut buffer, soon()).unwrap(), 5);
            socket::send(&server, b"back", soon()).unwrap();
            assert_eq!(socket::recv_exact(&client, &mut buffer[..4], soon()).unwrap(), 4);
            assert!(socket::kind(&client).unwrap() == Kind::Stream && socket::unsent(&client).is_ok());
        }
    }

    #[test]
    fn nobody_refuses() {
        // A child that another test forks would keep the port open.
        let _alone = crate::fork::hold_off();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(connect(address, soon()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(connect(address, None).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn deadlines_are_kept_under_signals() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 0, Sharing::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(50);
        storm::during(|| {
            let start = Instant::now();
            assert_eq!(accept(&listener, Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait);
            // With a full backlog the kernel lets handshakes wait.
            let mut waiting = Vec::new();
            let (start, error) = loop {
                let start = Instant::now();
                match connect(address, Some(start + wait)) {
                    Ok(stream) => waiting.push(stream),
                    Err(e) => break (start, e),
                }
                assert!(waiting.len() < 100, "the backlog is never full");
            };
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, None));
            assert!(start.elapsed() >= wait);
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let start = Instant::now();
            assert_eq!(recv_from(&udp, &mut [0; 8], Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait && start.elapsed() < LONG);
        });
    }

    #[test]
    fn a_datagram_is_never_cut() {
        for address in loopbacks() {
            let a = bind(address, Sharing::default()).unwrap();
            let to = a.local_addr().unwrap();
            assert_eq!(send_to(&a, &[1; 9], to, soon()).unwrap(), 9);
            assert_eq!(try_send_to(&a, &[2; 8], to).unwrap(), 8);
            assert_eq!(send_to(&a, &[], to, soon()).unwrap(), 0);
            let error = recv_from(&a, &mut [0; 8], soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("9 bytes"), "{error}");
            assert_eq!(socket::peek_len(&a, soon()).unwrap(), 8);
            assert_eq!(recv_from(&a, &mut [0; 8], soon()).unwrap(), (8, to));
            assert_eq!(recv_from(&a, &mut [], soon()).unwrap(), (0, to));
            assert_eq!(try_recv_from(&a, &mut []).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn the_longest_datagram_is_named() {
        for address in loopbacks() {
            let a = bind(address, Sharing::default()).unwrap();
            let limit = if address.is_ipv6() { 65527 } else { 65507 };
            let to = a.local_addr().unwrap();
            assert_eq!(send_to(&a, &vec![0; limit], to, soon()).unwrap(), limit);
            let error = send_to(&a, &vec![0; limit + 1], to, soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&limit.to_string()), "{error}");
        }
    }

    #[test]
    fn a_group_is_joined_and_left() {
        for (address, group) in [("0.0.0.0:0", "239.255.71.9"), ("[::]:0", "ff01::4709")] {
            let Ok(receiver) = bind(address.parse().unwrap(), Sharing { reuse_port: true, only_v6: true }) else {
                eprintln!("skipped: no {address} here");
                continue;
            };
            let (group, lo): (IpAddr, _) = (group.parse().unwrap(), interface("lo").unwrap());
            if let Err(e) = join(&receiver, group, lo) {
                eprintln!("skipped: {group} cannot be joined here: {e}");
                continue;
            }
            assert!(join(&receiver, group, lo).is_err(), "joined twice");
            let sender = bind(address.parse().unwrap(), Sharing::default()).unwrap();
            set_multicast(&sender, Multicast { interface: lo, is_looped: true, ttl: 1 }).unwrap();
            let to = SocketAddr::new(group, receiver.local_addr().unwrap().port());
            if let Err(e) = send_to(&sender, b"to all", to, soon()) {
                eprintln!("skipped: no way to {group} here: {e}");
                continue;
            }
            assert_eq!(recv_from(&receiver, &mut [0; 8], soon()).unwrap().0, 6);
            leave(&receiver, group, lo).unwrap();
            assert!(leave(&receiver, group, lo).is_err());
        }
    }

    #[test]
    fn a_port_is_shared_only_if_all_ask_for_it() {
        let shared = Sharing { reuse_port: true, ..Sharing::default() };
        let one = bind("127.0.0.1:0".parse().unwrap(), shared).unwrap();
        let address = one.local_addr().unwrap();
        bind(address, shared).unwrap();
        assert_eq!(bind(address, Sharing::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_share_a_socket_unless_told_not_to() {
        let Ok(both) = listen("[::]:0".parse().unwrap(), 4, Sharing::default()) else {
            return eprintln!("skipped: no IPv6 here");
        };
        let port = both.local_addr().unwrap().port();
        connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), soon()).unwrap();
        let only = Sharing { only_v6: true, ..Sharing::default() };
        let alone = listen("[::]:0".parse().unwrap(), 4, only).unwrap();
        let port = alone.local_addr().unwrap().port();
        assert!(connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), soon()).is_err());
    }

    #[test]
    fn times_have_limits() {
        let fd = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = Duration::from_secs(1);
        let good = Keepalive { idle: second, interval: second, count: 1 };
        let most = Keepalive { idle: second * 32767, interval: second * 32767, count: 127 };
        for keepalive in [good, most] {
            set_keepalive(&fd, Some(keepalive)).unwrap();
            assert_eq!(super::keepalive(&fd).unwrap(), Some(keepalive));
        }
        let bad = [
            Keepalive { idle: Duration::ZERO, ..good },
            Keepalive { idle: second * 32768, ..good },
            Keepalive { interval: Duration::from_millis(1500), ..good },
            Keepalive { interval: Duration::MAX, ..good },
            Keepalive { count: 0, ..good },
            Keepalive { count: 128, ..good },
        ];
        for keepalive in bad {
            assert_eq!(set_keepalive(&fd, Some(keepalive)).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        set_keepalive(&fd, None).unwrap();
        assert_eq!(super::keepalive(&fd).unwrap(), None);
        set_user_timeout(&fd, Duration::from_nanos(1)).unwrap();
        assert_eq!(user_timeout(&fd).unwrap(), Duration::from_millis(1));
        assert!(set_user_timeout(&fd, Duration::MAX).is_err());
        assert!(set_linger(&fd, Some(Duration::MAX)).is_err());
        assert!(set_linger(&fd, Some(second * 65535)).is_ok());
    }

    #[test]
    fn linger_of_zero_resets_the_peer() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 4, Sharing::default()).unwrap();
        // A child that another test forks would keep the connection.
        let _alone = crate::fork::hold_off();
        let client = connect(listener.local_addr().unwrap(), soon()).unwrap();
        let (server, _) = accept(&listener, soon()).unwrap();
        set_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(socket::recv(&server, &mut [0; 8], soon()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_of_another_family_is_an_error() {
        let (a, _b) = crate::unix::pair(Kind::Stream).unwrap();
        assert!(set_multicast(&a, Multicast { interface: 0, is_looped: true, ttl: 1 }).is_err());
        assert!(join(&a, "239.1.1.1".parse().unwrap(), 0).is_err());
        assert!(user_timeout(&a).is_err());
        assert!(accept(&a, soon()).is_err());
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(recv_from(&null, &mut [0; 1], soon()).is_err());
        assert!(set_keepalive(&null, None).is_err());
        assert!(join(UdpSocket::bind("127.0.0.1:0").unwrap(), "239.1.1.1".parse().unwrap(), u32::MAX).is_err());
    }
}
