//! `unix(7)`: sockets between processes of one machine: streams, datagrams and seqpackets.
//!
//! What it is not: sending and receiving plain bytes is [`socket`](mod@socket)'s. What only these sockets can is here: names in the
//! file system and abstract ones, credentials, and descriptors as part of a message.
//!
//! | kind | order | borders of messages | connection | end is seen |
//! |---|---|---|---|---|
//! | [`Kind::Stream`] | yes | no | yes | [`recv`](crate::socket::recv) gives 0 |
//! | [`Kind::SeqPacket`] | yes | yes | yes | 0, as an empty message does too |
//! | [`Kind::Datagram`] | yes | yes | no | no: the next send fails with `ECONNREFUSED` |
//!
//! None of them loses what was sent, unless the receiver dies. A full one blocks its sender: a stream and a seqpacket at the send buffer, a
//! datagram also at `net.unix.max_dgram_qlen` messages.

mod address;
mod message;
mod stale;

pub use address::{Address, MAX_NAME};
pub use message::{
    Credentials, MAX_DESCRIPTORS, Outgoing, Received, pass_credentials, peer_credentials, peer_pidfd, recv, recv_from,
    send, send_to, set_pass_credentials, set_pass_pidfd, try_recv, try_send, try_send_to,
};
pub use stale::{Occupant, bind_replacing_stale, occupant, unlink_stale};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, sockopt};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::explain::not_opened;
use crate::socket::{self, Kind};

/// `socketpair(2)`: two sockets that are connected to each other and have no names.
///
/// # Errors
/// The errno: `EMFILE`, `ENFILE`.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::SeqPacket)?;
/// socket::send(&a, b"hello", None)?;
/// assert_eq!(socket::recv_message(&b, &mut [0; 8], None)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pair(kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
    net::socketpair(AddressFamily::UNIX, kind.socket_type(), SocketFlags::CLOEXEC, None).map_err(not_opened)
}

/// `socket(2)`: a socket without a name or a peer.
///
/// # Errors
/// The errno: `EMFILE`, `ENFILE`.
///
/// ```
/// let fd = ginnel_os::unix::socket(ginnel_os::socket::Kind::Datagram)?;
/// assert!(ginnel_os::unix::local_address(&fd)?.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn socket(kind: Kind) -> io::Result<OwnedFd> {
    net::socket_with(AddressFamily::UNIX, kind.socket_type(), SocketFlags::CLOEXEC, None).map_err(not_opened)
}

/// `bind(2)`: a new socket with this address. A path comes to be with the permissions that `umask(2)` leaves, and stays when the socket is
/// closed: unlink it, or see [`bind_replacing_stale`]. An abstract name goes with the last descriptor. For
/// [`Address::unnamed`] the kernel chooses an abstract name.
///
/// # Errors
/// The errno: `EADDRINUSE` if the address is taken, if only by the file of a dead socket ([`occupant`] tells); `ENOENT`, `EACCES`, `EROFS` for
/// the directory of a path.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let name = unix::Address::abstract_name(format!("example-{}", std::process::id()).as_bytes())?;
/// let fd = unix::bind(Kind::Datagram, &name)?;
/// assert_eq!(unix::local_address(&fd)?, name);
/// assert!(unix::bind(Kind::Datagram, &name).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind(kind: Kind, address: &Address) -> io::Result<OwnedFd> {
    let fd = socket(kind)?;
    net::bind(&fd, address.raw())?;
    Ok(fd)
}

/// `listen(2)`: lets a bound stream or seqpacket socket take connections; `backlog` of them wait to be accepted, at most `net.core.somaxconn`:
/// the kernel lowers a larger number silently. The description becomes `O_NONBLOCK`, so that [`accept`] keeps its deadline even when several
/// processes accept from it.
///
/// # Errors
/// The errno: `EOPNOTSUPP` for a datagram socket, `EINVAL` for one without a name.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let listener = unix::bind(Kind::Stream, &unix::Address::unnamed())?;
/// unix::listen(&listener, 16)?;
/// let client = unix::connect(Kind::Stream, &unix::local_address(&listener)?, None)?;
/// let server = unix::accept(&listener, None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen(fd: impl AsFd, backlog: u32) -> io::Result<()> {
    socket::listen(fd.as_fd(), backlog)
}

/// `accept4(2)`: the next connection, waiting for it until the deadline.
///
/// A listener that was not made by [`listen`] and lacks `O_NONBLOCK` may make it wait beyond the deadline, if another process takes the
/// connection that it saw.
///
/// # Errors
/// `TimedOut` at the deadline. The errno: `EINVAL` if the socket does not listen, `EMFILE`.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
/// use std::time::{Duration, Instant};
///
/// let listener = unix::bind(Kind::SeqPacket, &unix::Address::unnamed())?;
/// unix::listen(&listener, 16)?;
/// let error = unix::accept(&listener, Some(Instant::now() + Duration::from_millis(5))).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn accept(fd: impl AsFd, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    Ok(socket::accept(fd.as_fd(), deadline)?.0)
}

/// `accept4(2)`, if a connection waits.
///
/// # Errors
/// `WouldBlock` if none does. Otherwise as [`accept`].
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let listener = unix::bind(Kind::Stream, &unix::Address::unnamed())?;
/// unix::listen(&listener, 16)?;
/// assert_eq!(unix::try_accept(&listener).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_accept(fd: impl AsFd) -> io::Result<OwnedFd> {
    accept(fd, Some(Instant::now())).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => io::ErrorKind::WouldBlock.into(),
        _ => e,
    })
}

/// `connect(2)`: a new socket that is connected to this address. It waits until the deadline for room in the listener's backlog, not for the
/// listener to accept, or to be there at all.
///
/// # Errors
/// `TimedOut` at the deadline. The errno: `ENOENT` if there is no such path, `ECONNREFUSED` if nobody has bound it any more, has not called
/// `listen` yet, or has no such abstract name; `EPROTOTYPE` if its socket is of another kind; `EACCES`.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let nobody = unix::Address::abstract_name(b"nobody has this name")?;
/// let error = unix::connect(Kind::Stream, &nobody, None).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect(kind: Kind, address: &Address, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let fd = socket(kind)?;
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match connect_within(&fd, address, left)? {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if left.is_some_and(|left| left.is_zero()) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::AGAIN) if left.is_some() => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// `poll(2)` does not tell when a backlog has room: only a call that blocks does. The socket is new, so its timeout is nobody else's.
fn connect_within(fd: &OwnedFd, address: &Address, left: Option<Duration>) -> io::Result<Result<(), Errno>> {
    let Some(left) = left else { return Ok(net::connect(fd, address.raw())) };
    if left.is_zero() {
        rustix::io::ioctl_fionbio(fd, true)?;
        let result = net::connect(fd, address.raw());
        rustix::io::ioctl_fionbio(fd, false)?;
        return Ok(result);
    }
    // A day at a time: the kernel takes no time that is too long for it, and the caller goes on anyway.
    let turn = left.clamp(Duration::from_micros(1), Duration::from_secs(86400));
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Send, Some(turn))?;
    let result = net::connect(fd, address.raw());
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Send, None)?;
    Ok(result)
}

/// `getsockname(2)`: the socket's own address. It is what `bind` was given, which a file system may have renamed since.
///
/// # Errors
/// The errno: `ENOTSOCK`. `InvalidInput` if it is no `unix` socket.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let fd = unix::bind(Kind::Datagram, &unix::Address::unnamed())?;
/// assert_eq!(unix::local_address(&fd)?.as_abstract().map(<[u8]>::len), Some(5));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn local_address(fd: impl AsFd) -> io::Result<Address> {
    Address::of(&net::getsockname(fd)?)
}

/// `getpeername(2)`: the address of the peer.
///
/// # Errors
/// The errno: `ENOTCONN`, `ENOTSOCK`. `InvalidInput` if it is no `unix` socket.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::unix::peer_address(&a)?.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_address(fd: impl AsFd) -> io::Result<Address> {
    match net::getpeername(fd)? {
        Some(address) => Address::of(&address),
        None => Ok(Address::unnamed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    const LONG: Duration = Duration::from_secs(20);

    /// An abstract name of this test alone.
    pub(super) fn name() -> Address {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ginnel-os-test-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        Address::abstract_name(name.as_bytes()).unwrap()
    }

    fn listener(kind: Kind, backlog: u32) -> (OwnedFd, Address) {
        let name = name();
        let fd = bind(kind, &name).unwrap();
        listen(&fd, backlog).unwrap();
        (fd, name)
    }

    #[test]
    fn a_connection_goes_both_ways() {
        for kind in [Kind::Stream, Kind::SeqPacket] {
            let (listener, name) = listener(kind, 4);
            let client = connect(kind, &name, Some(Instant::now() + LONG)).unwrap();
            let server = accept(&listener, Some(Instant::now() + LONG)).unwrap();
            assert_eq!(peer_address(&client).unwrap(), name);
            socket::send(&client, b"there", None).unwrap();
            assert_eq!(socket::recv(&server, &mut [0; 8], None).unwrap(), 5);
            socket::send(&server, b"back", None).unwrap();
            assert_eq!(socket::recv(&client, &mut [0; 8], None).unwrap(), 4);
        }
    }

    #[test]
    fn a_full_backlog_keeps_the_deadline() {
        let (fd, name) = listener(Kind::Stream, 0);
        let mut waiting = Vec::new();
        while let Ok(client) = connect(Kind::Stream, &name, Some(Instant::now())) {
            waiting.push(client);
        }
        let wait = Duration::from_millis(40);
        storm::during(|| {
            let start = Instant::now();
            assert_eq!(connect(Kind::Stream, &name, Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait && start.elapsed() < LONG);
        });
        let late = std::thread::spawn(move || {
            std::thread::sleep(wait);
            accept(&fd, None).map(|_| fd)
        });
        let client = connect(Kind::Stream, &name, Some(Instant::now() + LONG)).unwrap();
        assert!(late.join().unwrap().is_ok());
        // Neither the timeout nor non-blocking stays with the socket.
        assert_eq!(sockopt::socket_timeout(&client, sockopt::Timeout::Send).unwrap(), None);
        assert!(!rustix::fs::fcntl_getfl(&waiting[0]).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn accept_keeps_its_deadline_under_signals() {
        let (fd, _) = listener(Kind::Stream, 4);
        // Somebody else may take the connection that `poll` saw.
        assert!(rustix::fs::fcntl_getfl(&fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        let wait = Duration::from_millis(40);
        storm::during(|| {
            let start = Instant::now();
            assert_eq!(accept(&fd, Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait);
        });
        assert_eq!(try_accept(&fd).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn the_wrong_kind_and_nobody_are_told_apart() {
        let (_fd, name) = listener(Kind::Stream, 4);
        let error = connect(Kind::SeqPacket, &name, None).unwrap_err();
        // An abstract name is looked up with its kind.
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let missing = Address::path("/nonexistent/socket").unwrap();
        assert_eq!(connect(Kind::Stream, &missing, None).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(listen(socket(Kind::Datagram).unwrap(), 1).is_err());
        for fd in [socket(Kind::Stream).unwrap(), pair(Kind::Stream).unwrap().0] {
            let error = accept(fd, Some(Instant::now() + LONG)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn what_is_no_unix_socket_is_an_error() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(local_address(&udp).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(local_address(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
