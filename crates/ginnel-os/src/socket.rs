//! `socket(7)`: what sockets of every family share: sending, receiving, accepting, half-close, options.
//!
//! What it is not: it makes no sockets; [`unix`](crate::unix) and [`inet`](crate::inet) do, and anything else that has a descriptor.
//!
//! Three forms of each call: `try_` never blocks and fails with [`WouldBlock`](io::ErrorKind::WouldBlock); the bare name takes a
//! deadline: `None` waits for ever, one that has passed tries once, and at the deadline it fails with
//! [`TimedOut`](io::ErrorKind::TimedOut) and no errno (TCP's own `ETIMEDOUT` has one). Signals neither end nor shorten a wait.
//!
//! - `[I1]` Sending and receiving never set `O_NONBLOCK`: the description may be another process's too. Each call says `MSG_DONTWAIT`
//!   for itself. Only a listener gets it, from `listen`, as `accept` has no such flag.
//! - `[I2]` Nothing here raises `SIGPIPE`: a dead peer is `EPIPE`.
//! - `[I3]` A message that does not fit in the buffer is an error, never a shorter message, if received with a `_message` call.
//!
//! Which receiving call is right depends on what was sent. [`recv`] is for a stream of bytes; of a message it would cut the tail.
//! [`recv_message`] is for datagrams and seqpackets; on TCP it would throw bytes away.
#![allow(unsafe_code)] // Options and ioctls that rustix lacks: each hands the kernel one plain value on the stack.

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType, sockopt};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::explain::not_opened;
use crate::poll;

/// Most slices that one call takes: `UIO_MAXIOV`.
pub const MAX_SLICES: usize = 1024;

/// What a socket carries: its `SO_TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes in order, without borders between them.
    Stream,
    /// Messages, each for itself. Over `unix` they are reliable and in order too.
    Datagram,
    /// Messages in order over a connection.
    SeqPacket,
}

impl Kind {
    pub(crate) fn socket_type(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
            Self::SeqPacket => SocketType::SEQPACKET,
        }
    }
}

/// Which half of a connection [`shutdown`] closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// Nothing more is received: the peer's sending fails with `EPIPE` over `unix`.
    Read,
    /// Nothing more is sent: the peer reads what is there, then the end of the stream.
    Write,
    /// Both.
    Both,
}

#[derive(Clone, Copy)]
pub(crate) enum Ready {
    Read,
    Write,
}

/// Runs a call until it is done: again after a signal; after `EAGAIN`, when the socket is ready. The call is told whether it may block.
#[inline]
pub(crate) fn until<T>(
    fd: BorrowedFd<'_>,
    ready: Ready,
    deadline: Option<Instant>,
    mut call: impl FnMut(bool) -> Result<T, Errno>,
) -> io::Result<T> {
    let may_block = deadline.is_none();
    loop {
        match call(may_block) {
            Ok(done) => return Ok(done),
            Err(Errno::INTR) => {}
            // A call that may block comes here if the description has `O_NONBLOCK` or a timeout of its own.
            Err(Errno::AGAIN) => wait(fd, ready, deadline)?,
            Err(e) => return Err(e.into()),
        }
    }
}

/// After a call in vain. The deadline is looked at first: a socket that is said to be ready and never is must not keep us beyond it.
#[cold]
pub(crate) fn wait(fd: BorrowedFd<'_>, ready: Ready, deadline: Option<Instant>) -> io::Result<()> {
    if deadline.is_some_and(|at| at <= Instant::now()) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let is_ready = match ready {
        Ready::Read => poll::readable(&[fd], deadline)?,
        Ready::Write => poll::writable(fd, deadline)?,
    };
    if is_ready { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Runs a call that does not block, again after a signal.
#[inline]
pub(crate) fn once<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

pub(crate) fn send_flags(may_block: bool) -> SendFlags {
    if may_block { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT }
}

pub(crate) fn recv_flags(may_block: bool) -> RecvFlags {
    if may_block { RecvFlags::empty() } else { RecvFlags::DONTWAIT }
}

/// `send(2)`, waiting for room until the deadline: the bytes that were taken, of a stream perhaps fewer than given; a message is taken
/// whole or not at all.
///
/// # Errors
/// `TimedOut` at the deadline. The errno: `EPIPE` when the peer is gone or has closed its reading half, `ECONNRESET` when it went with
/// unread data, `ENOTCONN`, `ENOTSOCK`. A message that is too long is `InvalidInput`, which names the limit.
///
/// ```
/// use ginnel_os::{socket, unix};
/// use std::time::{Duration, Instant};
///
/// let (a, b) = unix::pair(socket::Kind::SeqPacket)?;
/// let soon = Some(Instant::now() + Duration::from_secs(1));
/// assert_eq!(socket::send(&a, b"order", soon)?, 5);
/// let mut buffer = [0; 16];
/// assert_eq!(socket::recv_message(&b, &mut buffer, soon)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn send(fd: impl AsFd, bytes: &[u8], deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    until(fd, Ready::Write, deadline, |may_block| net::send(fd, bytes, send_flags(may_block)))
        .map_err(|e| explain_send(fd, e, bytes.len(), 1))
}

/// `send(2)` with `MSG_DONTWAIT`: as [`send`], but never blocks.
///
/// # Errors
/// As [`send`]; `WouldBlock` where there is no room.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// drop(b);
/// let error = socket::try_send(&a, b"nobody reads").unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn try_send(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    once(|| net::send(fd, bytes, send_flags(false))).map_err(|e| explain_send(fd, e, bytes.len(), 1))
}

/// `sendmsg(2)`: as [`send`], of several slices one after the other, say a header and a payload. They make one message.
///
/// # Errors
/// As [`send`]; `InvalidInput` for more than [`MAX_SLICES`].
///
/// ```
/// use ginnel_os::{socket, unix};
/// use std::io::IoSlice;
///
/// let (a, b) = unix::pair(socket::Kind::Datagram)?;
/// socket::send_vectored(&a, &[IoSlice::new(b"head"), IoSlice::new(b"body")], None)?;
/// let mut buffer = [0; 8];
/// socket::recv_message(&b, &mut buffer, None)?;
/// assert_eq!(&buffer, b"headbody");
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn send_vectored(fd: impl AsFd, slices: &[IoSlice<'_>], deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    until(fd, Ready::Write, deadline, |may_block| {
        net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), send_flags(may_block))
    })
    .map_err(|e| explain_send(fd, e, total(slices), slices.len()))
}

/// `sendmsg(2)` with `MSG_DONTWAIT`: as [`send_vectored`], but never blocks.
///
/// # Errors
/// As [`send_vectored`]; `WouldBlock` where there is no room.
///
/// ```
/// use ginnel_os::{socket, unix};
/// use std::io::IoSlice;
///
/// let (a, _b) = unix::pair(socket::Kind::Stream)?;
/// assert_eq!(socket::try_send_vectored(&a, &[IoSlice::new(b"a"), IoSlice::new(b"bc")])?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn try_send_vectored(fd: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = fd.as_fd();
    once(|| net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), send_flags(false)))
        .map_err(|e| explain_send(fd, e, total(slices), slices.len()))
}

/// `send(2)` until a stream has taken everything. The slice moves past what was taken, so that after an error it is what is left.
///
/// # Errors
/// As [`send`].
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, _b) = unix::pair(socket::Kind::Stream)?;
/// let mut left: &[u8] = &[7; 1 << 24];
/// let error = socket::send_all(&a, &mut left, Some(std::time::Instant::now())).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// assert!(left.len() < 1 << 24 && !left.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_all(fd: impl AsFd, bytes: &mut &[u8], deadline: Option<Instant>) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = send(&fd, bytes, deadline)?;
        *bytes = &bytes[sent..];
    }
    Ok(())
}

/// `recv(2)` of a stream, waiting until the deadline for at least one byte. 0 is the end of the stream (or an empty buffer).
///
/// # Errors
/// `TimedOut` at the deadline. The errno: `ECONNRESET` when the peer went with unread data of ours, `ENOTCONN`, `ENOTSOCK`.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::send(&a, b"last words", None)?;
/// drop(a);
/// let mut buffer = [0; 64];
/// assert_eq!(socket::recv(&b, &mut buffer, None)?, 10);
/// assert_eq!(socket::recv(&b, &mut buffer, None)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn recv(fd: impl AsFd, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    until(fd, Ready::Read, deadline, |may_block| Ok(net::recv(fd, &mut *buffer, recv_flags(may_block))?.0))
}

/// `recv(2)` with `MSG_DONTWAIT`: as [`recv`], but never blocks.
///
/// # Errors
/// As [`recv`]; `WouldBlock` where there is nothing.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (_a, b) = unix::pair(socket::Kind::Stream)?;
/// assert_eq!(socket::try_recv(&b, &mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn try_recv(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    Ok(once(|| net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT))?.0)
}

/// `recvmsg(2)`: as [`recv`], into several slices one after the other.
///
/// # Errors
/// As [`recv`]; `InvalidInput` for more than [`MAX_SLICES`].
///
/// ```
/// use ginnel_os::{socket, unix};
/// use std::io::IoSliceMut;
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::send(&a, b"headbody", None)?;
/// let (mut head, mut body) = ([0; 4], [0; 8]);
/// let mut slices = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
/// assert_eq!(socket::recv_vectored(&b, &mut slices, None)?, 8);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_vectored(fd: impl AsFd, slices: &mut [IoSliceMut<'_>], deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    check_slices(slices.len())?;
    let received = until(fd, Ready::Read, deadline, |may_block| {
        net::recvmsg(fd, slices, &mut net::RecvAncillaryBuffer::default(), recv_flags(may_block))
    });
    Ok(received?.bytes)
}

/// `recv(2)` of a stream until the buffer is full. A smaller number than its length means that the stream ended first.
///
/// # Errors
/// As [`recv`]. What came before the error is lost.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::send(&a, b"head", None)?;
/// socket::send(&a, b"body", None)?;
/// let mut buffer = [0; 8];
/// assert_eq!(socket::recv_exact(&b, &mut buffer, None)?, 8);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_exact(fd: impl AsFd, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match recv(&fd, &mut buffer[done..], deadline)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// `recv(2)` with `MSG_TRUNC` of one message, waiting for it until the deadline: its length.
///
/// 0 is an empty message, or the end: a seqpacket whose peer is gone, or a reading half that was shut. The two cannot be told apart by
/// this call. A datagram socket that nobody shut never ends. On a seqpacket, [`unix::recv`](crate::unix::recv) with
/// [`unix::set_pass_credentials`](crate::unix::set_pass_credentials) can tell: a message has credentials, the end has none.
///
/// # Errors
/// `InvalidData` if the message was longer than the buffer: the error names both lengths, and the message is lost. Otherwise as [`recv`].
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Datagram)?;
/// socket::send(&a, b"too long", None)?;
/// let error = socket::recv_message(&b, &mut [0; 4], None).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn recv_message(fd: impl AsFd, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    let flags = |may_block| recv_flags(may_block) | RecvFlags::TRUNC;
    let len = until(fd, Ready::Read, deadline, |may_block| Ok(net::recv(fd, &mut *buffer, flags(may_block))?.1))?;
    whole(len, buffer.len())
}

/// `recv(2)` with `MSG_TRUNC` and `MSG_DONTWAIT`: as [`recv_message`], but never blocks.
///
/// # Errors
/// As [`recv_message`]; `WouldBlock` where there is no message.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::SeqPacket)?;
/// socket::send(&a, b"", None)?;
/// assert_eq!(socket::try_recv_message(&b, &mut [])?, 0);
/// assert!(socket::try_recv_message(&b, &mut []).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn try_recv_message(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd();
    let (_, len) = once(|| net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC))?;
    whole(len, buffer.len())
}

/// `recv(2)` with `MSG_PEEK` and `MSG_TRUNC`: bytes in the next message, which stays where it is. Another receiver may take it.
///
/// # Errors
/// As [`recv`].
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::SeqPacket)?;
/// socket::send(&a, &[0; 1000], None)?;
/// let mut buffer = vec![0; socket::peek_len(&b, None)?];
/// assert_eq!(socket::recv_message(&b, &mut buffer, None)?, 1000);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peek_len(fd: impl AsFd, deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    let none: &mut [u8] = &mut [];
    until(fd, Ready::Read, deadline, |may_block| Ok(net::recv(fd, &mut *none, flags | recv_flags(may_block))?.1))
}

/// `shutdown(2)`: closes a half of the connection, for every descriptor of it.
///
/// # Errors
/// The errno: `ENOTCONN`.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::shutdown(&a, socket::Half::Write)?;
/// assert_eq!(socket::recv(&b, &mut [0; 8], None)?, 0);
/// socket::send(&b, b"still goes back", None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn shutdown(fd: impl AsFd, half: Half) -> io::Result<()> {
    let how = match half {
        Half::Read => net::Shutdown::Read,
        Half::Write => net::Shutdown::Write,
        Half::Both => net::Shutdown::Both,
    };
    Ok(net::shutdown(fd, how)?)
}

/// `listen(2)`, and `O_NONBLOCK`: [`accept`] with a deadline needs it where several processes accept from one listener. A backlog above
/// `net.core.somaxconn` is lowered to it by the kernel, silently.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    net::listen(fd, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// The connection and who made it. A listener of [`listen`] never blocks in `accept4` itself; one from elsewhere may, if another process
/// takes the connection between `poll` and `accept4`.
pub(crate) fn accept(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    // `poll` would wait for what never comes.
    if deadline.is_some() && !sockopt::socket_acceptconn(fd)? {
        return Err(Errno::INVAL.into());
    }
    loop {
        if deadline.is_some() && !poll::readable(&[fd], deadline)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match net::acceptfrom_with(fd, SocketFlags::CLOEXEC) {
            // Aborted: a connection that was reset while it waited to be accepted. The next one may be good.
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => wait(fd, Ready::Read, deadline)?,
            result => return result.map_err(not_opened),
        }
    }
}

/// `SO_TYPE`: what the socket carries.
///
/// # Errors
/// The errno: `ENOTSOCK`. `Unsupported` for a raw socket and the like.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, _b) = unix::pair(socket::Kind::SeqPacket)?;
/// assert_eq!(socket::kind(&a)?, socket::Kind::SeqPacket);
/// assert!(socket::kind(std::io::stdin()).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn kind(fd: impl AsFd) -> io::Result<Kind> {
    match sockopt::socket_type(fd)? {
        SocketType::STREAM => Ok(Kind::Stream),
        SocketType::DGRAM => Ok(Kind::Datagram),
        SocketType::SEQPACKET => Ok(Kind::SeqPacket),
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("sockets of type {other:?} are not handled"))),
    }
}

/// `SO_ERROR`: takes the error that waits on the socket, if there is one.
///
/// # Errors
/// The errno of the question itself: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::socket::take_error(&a)?.is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn take_error(fd: impl AsFd) -> io::Result<Option<io::Error>> {
    Ok(sockopt::socket_error(fd)?.err().map(Into::into))
}

/// `SO_SNDBUF`: bytes that may wait to be sent, the kernel's own overhead included.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::socket::send_buffer(&a)? > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_buffer(fd: impl AsFd) -> io::Result<usize> {
    Ok(sockopt::socket_send_buffer_size(fd)?)
}

/// `SO_SNDBUF`: asks for room to send, in bytes; returns what it came to. The kernel doubles the number for its overhead, and lowers it to
/// `net.core.wmem_max` first, silently. [`force_send_buffer`] may go beyond.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::socket::set_send_buffer(&a, 65536)? >= 65536);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_send_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    sockopt::set_socket_send_buffer_size(&fd, clamp(bytes))?;
    send_buffer(fd)
}

/// `SO_SNDBUFFORCE`: as [`set_send_buffer`], beyond `net.core.wmem_max`.
///
/// # Errors
/// The errno: `EPERM` without `CAP_NET_ADMIN`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// match ginnel_os::socket::force_send_buffer(&a, 1 << 24) {
///     Ok(bytes) => assert!(bytes >= 1 << 24),
///     Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::PermissionDenied),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn force_send_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    sockopt::set_socket_send_buffer_size_force(&fd, clamp(bytes))?;
    send_buffer(fd)
}

/// `SO_RCVBUF`: bytes that may wait to be received, the kernel's own overhead included. Over `unix` it has no effect: what waits counts
/// against the sender.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::socket::recv_buffer(&a)? > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_buffer(fd: impl AsFd) -> io::Result<usize> {
    Ok(sockopt::socket_recv_buffer_size(fd)?)
}

/// `SO_RCVBUF`: asks for room to receive, in bytes; returns what it came to. As [`set_send_buffer`], with `net.core.rmem_max`.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(ginnel_os::socket::set_recv_buffer(&a, 65536)? >= 65536);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_recv_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    sockopt::set_socket_recv_buffer_size(&fd, clamp(bytes))?;
    recv_buffer(fd)
}

/// `SO_RCVBUFFORCE`: as [`set_recv_buffer`], beyond `net.core.rmem_max`.
///
/// # Errors
/// The errno: `EPERM` without `CAP_NET_ADMIN`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// match ginnel_os::socket::force_recv_buffer(&a, 1 << 24) {
///     Ok(bytes) => assert!(bytes >= 1 << 24),
///     Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::PermissionDenied),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn force_recv_buffer(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    sockopt::set_socket_recv_buffer_size_force(&fd, clamp(bytes))?;
    recv_buffer(fd)
}

/// `ioctl(2)` with `SIOCINQ`: bytes that wait to be received; of a datagram socket, in the next message only.
///
/// # Errors
/// The errno: `EINVAL` for a listener, `ENOTTY` for what is no socket, pipe or terminal.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::send(&a, b"12345", None)?;
/// assert_eq!(socket::unread(&b)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unread(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fd)?)
}

/// `ioctl(2)` with `SIOCOUTQ`: what was sent and has not arrived: for TCP the bytes that the peer has not acknowledged; over `unix` the memory of messages that
/// the peer has not received, which is more than their bytes; 0 if there are none.
///
/// # Errors
/// The errno: `EINVAL` for a listener, `ENOTTY` for what is no socket or terminal.
///
/// ```
/// use ginnel_os::{socket, unix};
///
/// let (a, b) = unix::pair(socket::Kind::Stream)?;
/// socket::send(&a, b"12345", None)?;
/// assert!(socket::unsent(&a)? >= 5);
/// socket::recv(&b, &mut [0; 8], None)?;
/// assert_eq!(socket::unsent(&a)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unsent(fd: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, which `bytes` is; on a descriptor of another kind it fails, or is a terminal's, the same int.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(u64::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// `SO_MEMINFO`: packets that the kernel threw away because the socket's receive buffer was full. Since Linux 4.12.
///
/// # Errors
/// The errno: `ENOPROTOOPT` on older kernels.
///
/// ```
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// assert_eq!(ginnel_os::socket::drops(&socket)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn drops(fd: impl AsFd) -> io::Result<u64> {
    /// `SK_MEMINFO_DROPS`: the ninth number of `linux/sock_diag.h`.
    const DROPS: usize = 8;
    let (numbers, len) = option::<64>(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    let number = numbers[..len].chunks_exact(4).nth(DROPS).and_then(|bytes| bytes.first_chunk::<4>());
    Ok(number.map_or(0, |bytes| u64::from(u32::from_ne_bytes(*bytes))))
}

/// `getsockopt(2)` of at most N bytes: the bytes, and how many the kernel wrote.
pub(crate) fn option<const N: usize>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<([u8; N], usize)> {
    let mut value = [0u8; N];
    let mut len = libc::socklen_t::try_from(N).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if result == 0 { Ok((value, N.min(len as usize))) } else { Err(io::Error::last_os_error()) }
}

/// `setsockopt(2)` of an int.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which has as many.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel takes an int, and would read a larger number as a negative one.
fn clamp(bytes: usize) -> usize {
    bytes.min(i32::MAX as usize / 2)
}

pub(crate) fn total(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len()))
}

#[inline]
pub(crate) fn check_slices(count: usize) -> io::Result<()> {
    if count <= MAX_SLICES {
        return Ok(());
    }
    let text = format!("{count} slices are above the limit {MAX_SLICES}; join some of them");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The length of a message, if all of it is in the buffer.
#[inline]
pub(crate) fn whole(len: usize, room: usize) -> io::Result<usize> {
    if len <= room { Ok(len) } else { Err(cut(len, room)) }
}

#[cold]
fn cut(len: usize, room: usize) -> io::Error {
    let text = format!(
        "the message has {len} bytes, the buffer {room}, and the message is lost; give a larger buffer, or ask peek_len for the length first"
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Says what limit a message met. It asks after the call, so that a good one pays nothing.
#[cold]
pub(crate) fn explain_send(fd: BorrowedFd<'_>, error: io::Error, len: usize, slices: usize) -> io::Error {
    if error.raw_os_error() != Some(libc::EMSGSIZE) {
        return error;
    }
    if let Err(too_many) = check_slices(slices) {
        return too_many;
    }
    let text = match (sockopt::socket_domain(fd), send_buffer(fd)) {
        (Ok(net::AddressFamily::UNIX), Ok(buffer)) => format!(
            "the message has {len} bytes, the socket takes {} at once; raise its send buffer with set_send_buffer, up to /proc/sys/net/core/wmem_max",
            buffer.saturating_sub(32)
        ),
        (Ok(net::AddressFamily::INET), _) => over_udp(len, 65507),
        (Ok(net::AddressFamily::INET6), _) => over_udp(len, 65527),
        _ => return error,
    };
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn over_udp(len: usize, limit: usize) -> String {
    format!(
        "the message has {len} bytes, a UDP datagram at most {limit}, or less if it may not be fragmented; send smaller ones"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{storm, unix};
    use std::io::ErrorKind;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    fn soon() -> Option<Instant> {
        Some(Instant::now() + LONG)
    }

    fn fill(fd: &OwnedFd) {
        while try_send(fd, &[0; 4096]).is_ok() {}
    }

    #[test]
    fn a_deadline_ends_every_wait() {
        let (a, b) = unix::pair(Kind::SeqPacket).unwrap();
        fill(&a);
        let (c, _d) = unix::pair(Kind::SeqPacket).unwrap();
        let wait = Duration::from_millis(30);
        let waits: [&dyn Fn(Option<Instant>) -> io::Result<usize>; 5] = [
            &|at| send(&a, b"x", at),
            &|at| send_vectored(&a, &[IoSlice::new(b"x")], at),
            &|at| recv_message(&c, &mut [0; 8], at),
            &|at| recv(&c, &mut [0; 8], at),
            &|at| peek_len(&c, at),
        ];
        for wait_for in waits {
            let start = Instant::now();
            assert_eq!(wait_for(Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait && start.elapsed() < LONG);
            assert_eq!(wait_for(Some(start)).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        // One that has passed still takes what is there.
        assert_eq!(recv_message(&b, &mut [0; 4096], Some(Instant::now())).unwrap(), 4096);
    }

    #[test]
    fn the_try_forms_say_would_block() {
        let (a, b) = unix::pair(Kind::SeqPacket).unwrap();
        assert_eq!(try_recv(&b, &mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(try_recv_message(&b, &mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        fill(&a);
        assert_eq!(try_send(&a, b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(try_send_vectored(&a, &[IoSlice::new(b"x")]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_nonblocking_description_still_waits() {
        let (a, b) = unix::pair(Kind::Stream).unwrap();
        rustix::io::ioctl_fionbio(&b, true).unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            send(&a, b"late", None)
        });
        assert_eq!(recv(&b, &mut [0; 8], None).unwrap(), 4);
        late.join().unwrap().unwrap();
    }

    #[test]
    fn a_message_is_never_cut() {
        for kind in [Kind::Datagram, Kind::SeqPacket] {
            let (a, b) = unix::pair(kind).unwrap();
            send(&a, &[1; 9], None).unwrap();
            send(&a, &[2; 8], None).unwrap();
            let error = recv_message(&b, &mut [0; 8], soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("9 bytes") && error.to_string().contains("buffer 8"), "{error}");
            assert_eq!(peek_len(&b, soon()).unwrap(), 8);
            assert_eq!(try_recv_message(&b, &mut [0; 8]).unwrap(), 8);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_explained() {
        let (a, _b) = unix::pair(Kind::SeqPacket).unwrap();
        let room = send_buffer(&a).unwrap();
        assert_eq!(try_send(&a, &vec![0; room - 32]).unwrap(), room - 32);
        let error = send(&a, &vec![0; room], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&(room - 32).to_string()), "{error}");
        let error = send_vectored(&a, &vec![IoSlice::new(b""); MAX_SLICES + 1], None).unwrap_err();
        assert!(error.to_string().contains("1025"), "{error}");
    }

    #[test]
    fn a_dead_peer_is_an_error_and_no_signal() {
        // A child that another test forks would hold these descriptors too.
        let _alone = crate::fork::hold_off();
        for kind in [Kind::Stream, Kind::SeqPacket] {
            let (a, b) = unix::pair(kind).unwrap();
            drop(b);
            assert_eq!(send(&a, b"x", None).unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(send_vectored(&a, &[IoSlice::new(b"x")], soon()).unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(recv(&a, &mut [0; 8], soon()).unwrap(), 0);
        }
    }

    #[test]
    fn a_dead_peer_raises_no_sigpipe() {
        // In a child: this process ignores the signal anyway, as every Rust program does.
        let (a, b) = unix::pair(Kind::Stream).unwrap();
        shutdown(&b, Half::Both).unwrap();
        storm::in_child(|| {
            // SAFETY: sets back what the runtime changed.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let slices = [IoSlice::new(b"x")];
            let message = unix::Outgoing { slices: &slices, ..Default::default() };
            assert!(send(&a, b"x", None).is_err());
            assert!(try_send(&a, b"x").is_err());
            assert!(send_vectored(&a, &slices, None).is_err());
            assert!(unix::send(&a, &message, None).is_err());
        });
    }

    #[test]
    fn a_waiting_call_sees_its_peer_die() {
        let _alone = crate::fork::hold_off();
        let (a, b) = unix::pair(Kind::Stream).unwrap();
        fill(&a);
        let death = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(b);
        });
        // The peer went with unread data.
        let error = send(&a, b"x", soon()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        death.join().unwrap();
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let not_socket = Some(libc::ENOTSOCK);
        assert_eq!(send(&writer, b"x", soon()).unwrap_err().raw_os_error(), not_socket);
        assert_eq!(recv(&reader, &mut [0; 1], soon()).unwrap_err().raw_os_error(), not_socket);
        assert_eq!(recv_message(&reader, &mut [0; 1], None).unwrap_err().raw_os_error(), not_socket);
        assert_eq!(peek_len(&reader, None).unwrap_err().raw_os_error(), not_socket);
        assert_eq!(kind(&reader).unwrap_err().raw_os_error(), not_socket);
        assert_eq!(shutdown(&reader, Half::Both).unwrap_err().raw_os_error(), not_socket);
        assert!(accept(reader.as_fd(), Some(Instant::now())).is_err());
        assert!(unsent(&reader).is_err());
        assert!(set_send_buffer(&reader, 1).is_err());
    }

    #[test]
    fn buffers_of_any_size_can_be_asked_for() {
        let (a, _b) = unix::pair(Kind::Stream).unwrap();
        for bytes in [0, 1, 1 << 20, usize::MAX, 1 << 63] {
            assert!(set_send_buffer(&a, bytes).unwrap() > 0);
            assert!(set_recv_buffer(&a, bytes).unwrap() > 0);
        }
    }

    #[test]
    fn half_a_connection_closes_alone() {
        let (a, b) = unix::pair(Kind::Stream).unwrap();
        shutdown(&a, Half::Read).unwrap();
        assert_eq!(send(&b, b"x", None).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(send(&a, b"back", None).unwrap(), 4);
        assert_eq!(recv_exact(&b, &mut [0; 4], soon()).unwrap(), 4);
        shutdown(&a, Half::Write).unwrap();
        assert_eq!(recv_exact(&b, &mut [0; 4], soon()).unwrap(), 0);
    }

    #[test]
    fn signals_neither_end_nor_shorten_a_wait() {
        let (a, b) = unix::pair(Kind::SeqPacket).unwrap();
        fill(&a);
        let (c, _d) = unix::pair(Kind::SeqPacket).unwrap();
        let wait = Duration::from_millis(60);
        storm::during(|| {
            let start = Instant::now();
            assert_eq!(recv_message(&c, &mut [0; 8], Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait);
            let start = Instant::now();
            assert_eq!(send(&a, b"x", Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= wait);
        });
        let taker = std::thread::spawn(move || {
            std::thread::sleep(wait);
            while recv_message(&b, &mut [0; 4096], None).unwrap() != 1 {}
        });
        storm::during(|| assert_eq!(send(&a, b"x", None).unwrap(), 1));
        taker.join().unwrap();
    }
}
