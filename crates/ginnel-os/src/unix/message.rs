//! Messages with more than bytes: descriptors, credentials and addresses, in the control messages of `sendmsg(2)` and `recvmsg(2)`,
//! see `cmsg(3)`.
//!
//! Every descriptor that arrives is owned by a value before anything else is looked at, and closed on exec from birth. What does not fit
//! is an error, and everything that did come is closed. Control messages are parsed as bytes with checked lengths; those that nobody
//! asked for are passed over.
#![allow(unsafe_code)] // `recvmsg` fills buffers on the stack, and descriptors in them become owned.

use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendAncillaryMessage, UCred};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::Address;
use crate::explain::shown;
use crate::socket::{self, Kind, Ready};

/// Most descriptors that one message takes: the kernel's `SCM_MAX_FD`.
pub const MAX_DESCRIPTORS: usize = 253;

/// `SCM_PIDFD` of Linux 6.5.
const SCM_PIDFD: i32 = 4;

/// A process as the kernel vouches for it: `struct ucred`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Process, as counted in the reader's PID namespace; 0 if it is not visible there.
    pub pid: u32,
    /// User, as mapped in the reader's user namespace; 65534 if it is not mapped there.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
}

impl Credentials {
    /// `getpid(2)`, `geteuid(2)`, `getegid(2)`: the calling process.
    ///
    /// ```
    /// assert_eq!(ginnel_os::unix::Credentials::own().pid, std::process::id());
    /// ```
    pub fn own() -> Self {
        Self {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self { pid: word(0)?, uid: word(4)?, gid: word(8)? })
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Its bytes, one slice after the other.
    pub slices: &'a [IoSlice<'a>],
    /// Descriptors that the receiver gets as its own. At most [`MAX_DESCRIPTORS`]; a stream carries them only along with at least one byte.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Who sends. Somebody else than [`Credentials::own`] only with `CAP_SYS_ADMIN`, `CAP_SETUID`, `CAP_SETGID`.
    pub credentials: Option<Credentials>,
    /// Where to, for a datagram; a connected socket knows.
    pub to: Option<&'a Address>,
}

/// A message that came.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// Bytes in the buffers.
    pub bytes: usize,
    /// Descriptors that came along; closed on exec.
    pub descriptors: Vec<OwnedFd>,
    /// Who sent it, if [`set_pass_credentials`] is on. A message then always has some, the end of a stream or seqpacket never.
    pub credentials: Option<Credentials>,
    /// The process that sent it, as a `pidfd`, if [`set_pass_pidfd`] is on.
    pub pidfd: Option<OwnedFd>,
    /// The address of who sent it, where it has one.
    pub from: Address,
}

/// `sendmsg(2)`: sends bytes along with descriptors and credentials, waiting for room until the deadline. Of a stream perhaps fewer bytes
/// are taken than given; descriptors go with the first, so send the rest without them.
///
/// # Errors
/// `TimedOut` at the deadline. `InvalidInput` for more than [`MAX_DESCRIPTORS`], for descriptors without a byte on a stream, for a message that is too
/// long. The errno: `EPERM` or `ESRCH` for the credentials of somebody else; `ETOOMANYREFS` when the user has as many descriptors under way as
/// `RLIMIT_NOFILE`; `ECONNREFUSED` if nobody has the address; `EPIPE`, `ECONNRESET`, `ENOTCONN`.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
/// use std::io::{IoSlice, IoSliceMut};
/// use std::os::fd::AsFd;
///
/// let (a, b) = unix::pair(Kind::SeqPacket)?;
/// let file = std::fs::File::open("/dev/null")?;
/// let slices = [IoSlice::new(b"here is "), IoSlice::new(b"a file")];
/// unix::send(&a, &unix::Outgoing { slices: &slices, descriptors: &[file.as_fd()], ..Default::default() }, None)?;
///
/// let mut buffer = [0; 64];
/// let received = unix::recv(&b, &mut [IoSliceMut::new(&mut buffer)], 1, None)?;
/// assert_eq!((received.bytes, received.descriptors.len()), (14, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send(fd: impl AsFd, message: &Outgoing<'_>, deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    let credentials = check(fd, message)?;
    let sent = match message.to {
        None => socket::until(fd, Ready::Write, deadline, |may_block| send_once(fd, message, credentials, may_block)),
        Some(to) => until_room(fd, to, deadline, |may_block| send_once(fd, message, credentials, may_block)),
    };
    sent.map_err(|e| explain(fd, e, message))
}

/// `sendmsg(2)` with `MSG_DONTWAIT`: as [`send`], but never blocks.
///
/// # Errors
/// As [`send`]; `WouldBlock` where there is no room.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
/// use std::io::IoSlice;
///
/// let (a, _b) = unix::pair(Kind::SeqPacket)?;
/// let message = unix::Outgoing { slices: &[IoSlice::new(b"hello")], ..Default::default() };
/// assert_eq!(unix::try_send(&a, &message)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_send(fd: impl AsFd, message: &Outgoing<'_>) -> io::Result<usize> {
    let fd = fd.as_fd();
    let credentials = check(fd, message)?;
    socket::once(|| send_once(fd, message, credentials, false)).map_err(|e| explain(fd, e, message))
}

/// `sendto(2)`: sends one datagram to an address, waiting until the deadline for room in the receiver's queue.
///
/// # Errors
/// As [`send`].
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let server = unix::bind(Kind::Datagram, &unix::Address::unnamed())?;
/// let client = unix::bind(Kind::Datagram, &unix::Address::unnamed())?;
/// unix::send_to(&client, b"ping", &unix::local_address(&server)?, None)?;
/// let (bytes, from) = unix::recv_from(&server, &mut [0; 16], None)?;
/// assert_eq!((bytes, from), (4, unix::local_address(&client)?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_to(fd: impl AsFd, bytes: &[u8], to: &Address, deadline: Option<Instant>) -> io::Result<usize> {
    let fd = fd.as_fd();
    until_room(fd, to, deadline, |may_block| net::sendto(fd, bytes, socket::send_flags(may_block), to.raw()))
        .map_err(|e| socket::explain_send(fd, e, bytes.len(), 1))
}

/// `sendto(2)` with `MSG_DONTWAIT`: as [`send_to`], but never blocks.
///
/// # Errors
/// As [`send`]; `WouldBlock` where there is no room.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let nobody = unix::Address::abstract_name(b"nobody has this name")?;
/// let error = unix::try_send_to(unix::socket(Kind::Datagram)?, b"ping", &nobody).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_send_to(fd: impl AsFd, bytes: &[u8], to: &Address) -> io::Result<usize> {
    let fd = fd.as_fd();
    socket::once(|| net::sendto(fd, bytes, socket::send_flags(false), to.raw()))
        .map_err(|e| socket::explain_send(fd, e, bytes.len(), 1))
}

/// `recvmsg(2)`: receives bytes with whatever came along, waiting until the deadline. `most` is how many descriptors the caller is willing to take.
///
/// A stream gives descriptors with the first byte that they were sent with, and never bytes from both sides of such a border at once. 0 bytes without
/// credentials on a seqpacket with [`set_pass_credentials`] is its end. Only for `unix` sockets: of a TCP stream it would throw bytes away.
///
/// # Errors
/// `TimedOut` at the deadline. `InvalidData` if the message did not fit in the buffers, or had more descriptors than `most` or than this process may
/// open (`RLIMIT_NOFILE`): the message is lost and all its descriptors are closed. The errno: `ECONNRESET`, `ENOTCONN`.
///
/// ```
/// use ginnel_os::{socket::{self, Kind}, unix};
/// use std::io::IoSliceMut;
///
/// let (a, b) = unix::pair(Kind::Stream)?;
/// unix::set_pass_credentials(&b, true)?;
/// socket::send(&a, b"it is me", None)?;
/// let mut buffer = [0; 16];
/// let received = unix::recv(&b, &mut [IoSliceMut::new(&mut buffer)], 0, None)?;
/// assert_eq!(received.credentials.map(|sender| sender.pid), Some(std::process::id()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv(
    fd: impl AsFd,
    slices: &mut [IoSliceMut<'_>],
    most: usize,
    deadline: Option<Instant>,
) -> io::Result<Received> {
    let fd = fd.as_fd();
    socket::check_slices(slices.len())?;
    let mut arrival = Arrival::new();
    socket::until(fd, Ready::Read, deadline, |may_block| arrival.receive(fd, slices, may_block))?;
    arrival.finish(slices, most)
}

/// `recvmsg(2)` with `MSG_DONTWAIT`: as [`recv`], but never blocks.
///
/// # Errors
/// As [`recv`]; `WouldBlock` where there is nothing.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let (_a, b) = unix::pair(Kind::SeqPacket)?;
/// let error = unix::try_recv(&b, &mut [], 0).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_recv(fd: impl AsFd, slices: &mut [IoSliceMut<'_>], most: usize) -> io::Result<Received> {
    let fd = fd.as_fd();
    socket::check_slices(slices.len())?;
    let mut arrival = Arrival::new();
    socket::once(|| arrival.receive(fd, slices, false))?;
    arrival.finish(slices, most)
}

/// `recvmsg(2)`: receives a message and the address that it came from, waiting until the deadline.
///
/// # Errors
/// As [`recv`] with `most` of 0.
///
/// ```
/// use ginnel_os::{socket::{self, Kind}, unix};
///
/// let (a, b) = unix::pair(Kind::Datagram)?;
/// socket::send(&a, b"hello", None)?;
/// let (bytes, from) = unix::recv_from(&b, &mut [0; 16], None)?;
/// assert!(bytes == 5 && from.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_from(fd: impl AsFd, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<(usize, Address)> {
    let received = recv(fd, &mut [IoSliceMut::new(buffer)], 0, deadline)?;
    Ok((received.bytes, received.from))
}

/// `SO_PEERCRED`: who the peer was when it called `connect`, `listen` or `socketpair`. It may have passed its end of the connection on since.
///
/// # Errors
/// `NotConnected` if there is no peer. The errno: `ENOTSOCK`.
///
/// ```
/// use ginnel_os::{socket::Kind, unix};
///
/// let (a, _b) = unix::pair(Kind::Stream)?;
/// assert_eq!(unix::peer_credentials(&a)?, unix::Credentials::own());
/// assert!(unix::peer_credentials(unix::socket(Kind::Stream)?).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_credentials(fd: impl AsFd) -> io::Result<Credentials> {
    let (bytes, len) = socket::option::<12>(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    match Credentials::parse(&bytes[..len]) {
        // What the kernel says where there is nobody.
        None | Some(Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX }) => Err(io::ErrorKind::NotConnected.into()),
        Some(credentials) => Ok(credentials),
    }
}

/// `SO_PEERPIDFD`: the peer as a descriptor of its process, which no later process can be mistaken for. As [`peer_credentials`] otherwise. Linux 6.5.
///
/// # Errors
/// The errno: `ENOPROTOOPT` before Linux 6.5; `ENODATA` if there is no peer; `ESRCH` (or `EINVAL`, by kernel) if it has been reaped.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// match ginnel_os::unix::peer_pidfd(&a) {
///     Ok(pidfd) => drop(pidfd),
///     Err(e) => eprintln!("this kernel is too old: {e}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_pidfd(fd: impl AsFd) -> io::Result<OwnedFd> {
    let (bytes, len) = socket::option::<4>(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD)?;
    // SAFETY: the call above made this descriptor for us.
    unsafe { own(&bytes[..len]) }.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `SO_PASSCRED`: from now on each message that this socket receives tells who sent it, whether the sender wanted it or not. What was sent before
/// has the credentials of nobody (65534), so set it before the peer can send.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// ginnel_os::unix::set_pass_credentials(&a, true)?;
/// assert!(ginnel_os::unix::pass_credentials(&a)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_pass_credentials(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(net::sockopt::set_socket_passcred(fd, on)?)
}

/// `SO_PASSCRED`: whether [`set_pass_credentials`] is on. An accepted socket inherits it from its listener.
///
/// # Errors
/// The errno: `ENOTSOCK`.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// assert!(!ginnel_os::unix::pass_credentials(&a)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pass_credentials(fd: impl AsFd) -> io::Result<bool> {
    Ok(net::sockopt::socket_passcred(fd)?)
}

/// `SO_PASSPIDFD`: from now on each message that this socket receives brings a `pidfd` of who sent it. Linux 6.5.
///
/// # Errors
/// The errno: `ENOPROTOOPT` before Linux 6.5.
///
/// ```
/// let (a, _b) = ginnel_os::unix::pair(ginnel_os::socket::Kind::Stream)?;
/// if let Err(e) = ginnel_os::unix::set_pass_pidfd(&a, true) {
///     eprintln!("this kernel is too old: {e}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_pass_pidfd(fd: impl AsFd, on: bool) -> io::Result<()> {
    socket::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PASSPIDFD, i32::from(on))
}

/// What can be known to be wrong before the call, and the credentials as rustix takes them.
#[inline]
fn check(fd: BorrowedFd<'_>, message: &Outgoing<'_>) -> io::Result<Option<UCred>> {
    let count = message.descriptors.len();
    if count > MAX_DESCRIPTORS {
        return Err(invalid(format!(
            "{count} descriptors are above the limit {MAX_DESCRIPTORS} of a message; send several messages"
        )));
    }
    // The kernel would drop them without a word. Only who sends no bytes pays for the question.
    if count > 0 && socket::total(message.slices) == 0 && socket::kind(fd)? == Kind::Stream {
        return Err(invalid("a stream carries descriptors only along with bytes; send at least one byte".into()));
    }
    let Some(Credentials { pid, uid, gid }) = message.credentials else { return Ok(None) };
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| invalid("the credentials have no process; give a pid from 1 to 2147483647".into()))?;
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    Ok(Some(UCred { pid, uid, gid }))
}

#[inline]
fn send_once(
    fd: BorrowedFd<'_>,
    message: &Outgoing<'_>,
    credentials: Option<UCred>,
    may_block: bool,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
    let has_control = !message.descriptors.is_empty() || credentials.is_some();
    let mut control = if has_control { SendAncillaryBuffer::new(&mut space) } else { SendAncillaryBuffer::default() };
    // Both always fit: the space is for the most that `check` lets pass.
    if !message.descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(message.descriptors)) {
        return Err(Errno::INVAL);
    }
    if credentials.is_some_and(|credentials| !control.push(SendAncillaryMessage::ScmCredentials(credentials))) {
        return Err(Errno::INVAL);
    }
    let flags = socket::send_flags(may_block);
    match message.to {
        None => net::sendmsg(fd, message.slices, &mut control, flags),
        Some(to) => net::sendmsg_addr(fd, to.raw(), message.slices, &mut control, flags),
    }
}

/// As [`socket::until`] for a datagram to an address: `poll` of the own socket knows nothing of the receiver's queue.
fn until_room(
    fd: BorrowedFd<'_>,
    to: &Address,
    deadline: Option<Instant>,
    mut call: impl FnMut(bool) -> Result<usize, Errno>,
) -> io::Result<usize> {
    let may_block = deadline.is_none();
    loop {
        match call(may_block) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(fd, to, deadline)?,
            result => return Ok(result?),
        }
    }
}

/// Waits for the own buffer; then for the receiver's queue, on a socket that is connected to it, as `poll` looks at the queue of a connected peer.
#[cold]
fn wait_for_room(fd: BorrowedFd<'_>, to: &Address, deadline: Option<Instant>) -> io::Result<()> {
    socket::wait(fd, Ready::Write, deadline)?;
    let Ok(probe) = super::socket(Kind::Datagram) else {
        // No descriptor is left for it: look again in a moment.
        std::thread::sleep(Duration::from_millis(1));
        return Ok(());
    };
    // Where it cannot connect, sending again tells why.
    if net::connect(&probe, to.raw()).is_ok() { socket::wait(probe.as_fd(), Ready::Write, deadline) } else { Ok(()) }
}

#[cold]
fn explain(fd: BorrowedFd<'_>, error: io::Error, message: &Outgoing<'_>) -> io::Error {
    if error.raw_os_error() == Some(libc::ETOOMANYREFS) {
        let text = "as many descriptors as RLIMIT_NOFILE are under way in sockets of this user; let receivers take some, or raise the limit";
        return io::Error::new(io::ErrorKind::QuotaExceeded, text);
    }
    socket::explain_send(fd, error, socket::total(message.slices), message.slices.len())
}

/// Room for every control message at once that a `unix` socket can have, so that the sender cannot make them too many: descriptors, credentials,
/// pidfd, security label, timestamps. The kernel asks for the alignment of a word.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 2048]);

/// What `recvmsg` says besides the bytes, with room for what it writes.
struct Arrival {
    len: usize,
    flags: i32,
    parts: Parts,
    name: [u8; size_of::<libc::sockaddr_un>()],
    named: usize,
}

#[derive(Default)]
struct Parts {
    descriptors: Vec<OwnedFd>,
    credentials: Option<Credentials>,
    pidfd: Option<OwnedFd>,
}

impl Arrival {
    fn new() -> Self {
        Self { len: 0, flags: 0, parts: Parts::default(), name: [0; size_of::<libc::sockaddr_un>()], named: 0 }
    }

    #[inline]
    fn receive(&mut self, fd: BorrowedFd<'_>, slices: &mut [IoSliceMut<'_>], may_block: bool) -> Result<(), Errno> {
        let mut control = Control([MaybeUninit::uninit(); 2048]);
        // SAFETY: all-zero is a valid msghdr: null pointers with lengths of 0.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = self.name.as_mut_ptr().cast();
        header.msg_namelen = self.name.len() as libc::socklen_t;
        header.msg_iov = slices.as_mut_ptr().cast();
        header.msg_iovlen = slices.len() as _;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let wait = if may_block { 0 } else { libc::MSG_DONTWAIT };
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC | wait;
        // SAFETY: `header` points to buffers that live until the call returns, with their lengths; an IoSliceMut is an iovec.
        let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
        self.len =
            usize::try_from(len).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))?;
        self.flags = header.msg_flags;
        self.named = self.name.len().min(header.msg_namelen as usize);
        let used = control.0.len().min(header.msg_controllen as usize);
        if used > 0 {
            // SAFETY: the kernel wrote the first `msg_controllen` bytes of the buffer.
            let control = unsafe { std::slice::from_raw_parts(control.0.as_ptr().cast(), used) };
            // SAFETY: these are the control messages of this very call.
            self.parts = unsafe { collect(control) };
        }
        Ok(())
    }

    /// The message, if all of it is here.
    #[inline]
    fn finish(&mut self, slices: &[IoSliceMut<'_>], most: usize) -> io::Result<Received> {
        let room = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len()));
        if self.parts.descriptors.len() > most || self.flags & libc::MSG_CTRUNC != 0 {
            return Err(lost(self.parts.descriptors.len(), most));
        }
        let bytes = socket::whole(self.len, room)?;
        let Parts { descriptors, credentials, pidfd } = std::mem::take(&mut self.parts);
        Ok(Received { bytes, descriptors, credentials, pidfd, from: Address::decode(&self.name[..self.named]) })
    }
}

/// Why the descriptors that came were closed.
#[cold]
fn lost(came: usize, most: usize) -> io::Error {
    let text = if came > most {
        format!("{came} descriptors came, at most {most} are wanted; all were closed, and the message is lost")
    } else {
        format!(
            "more descriptors came than this process may open; the {came} that came were closed, and the message is lost; RLIMIT_NOFILE is {}, raise it with ulimit -n",
            shown(rustix::process::getrlimit(rustix::process::Resource::Nofile).current)
        )
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Takes what is wanted from all control messages.
///
/// # Safety
/// The bytes are what the kernel has just written, and no descriptor in them is owned yet.
unsafe fn collect(mut control: &[u8]) -> Parts {
    let mut parts = Parts::default();
    while let Some((level, kind, data)) = next(&mut control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // SAFETY: the kernel has just installed these for us, and each is read once.
                parts.descriptors.extend(data.chunks_exact(4).filter_map(|number| unsafe { own(number) }));
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => parts.credentials = Credentials::parse(data),
            // SAFETY: the kernel has just installed it for us, and it is read once.
            (libc::SOL_SOCKET, SCM_PIDFD) => parts.pidfd = unsafe { own(data) },
            _ => {}
        }
    }
    parts
}

/// Takes the next control message off: its level, type and data. Each begins at a multiple of a word with its length, which includes its header:
/// that word, the level and the type.
fn next<'a>(control: &mut &'a [u8]) -> Option<(i32, i32, &'a [u8])> {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    let header = control.first_chunk::<HEADER>()?;
    let len = usize::from_ne_bytes(header[..WORD].try_into().ok()?);
    let number = |at: usize| Some(i32::from_ne_bytes(header[at..at + 4].try_into().ok()?));
    let message = (number(WORD)?, number(WORD + 4)?, control.get(HEADER..len)?);
    *control = len.checked_next_multiple_of(WORD).and_then(|end| control.get(end..)).unwrap_or_default();
    Some(message)
}

/// The descriptor with this number; a negative number is none.
///
/// # Safety
/// The kernel has just written the number, and nothing else owns the descriptor.
unsafe fn own(number: &[u8]) -> Option<OwnedFd> {
    let number = RawFd::from_ne_bytes(number.try_into().ok()?);
    // SAFETY: nothing else owns it, as the caller promises.
    (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm;
    use crate::unix::{self, bind, local_address, pair};
    use std::io::ErrorKind;

    const KINDS: [Kind; 3] = [Kind::Stream, Kind::Datagram, Kind::SeqPacket];
    const LONG: Duration = Duration::from_secs(20);

    fn null() -> std::fs::File {
        std::fs::File::open("/dev/null").unwrap()
    }

    fn with<'a>(slices: &'a [IoSlice<'a>], descriptors: &'a [BorrowedFd<'a>]) -> Outgoing<'a> {
        Outgoing { slices, descriptors, ..Default::default() }
    }

    fn take(fd: &OwnedFd, room: usize, most: usize) -> io::Result<Received> {
        recv(fd, &mut [IoSliceMut::new(&mut vec![0; room])], most, Some(Instant::now() + LONG))
    }

    #[test]
    fn from_no_descriptor_to_the_most_arrive() {
        let file = null();
        for kind in KINDS {
            for count in [0, 1, 2, MAX_DESCRIPTORS] {
                let (a, b) = pair(kind).unwrap();
                let files = vec![file.as_fd(); count];
                assert_eq!(send(&a, &with(&[IoSlice::new(b"x")], &files), None).unwrap(), 1);
                let received = take(&b, 8, count).unwrap();
                assert_eq!((received.bytes, received.descriptors.len()), (1, count));
                for fd in &received.descriptors {
                    assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                }
            }
        }
    }

    #[test]
    fn one_descriptor_too_many_names_the_limit() {
        let (a, _b) = pair(Kind::SeqPacket).unwrap();
        let file = null();
        let files = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        let error = try_send(&a, &with(&[IoSlice::new(b"x")], &files)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("254") && error.to_string().contains("253"), "{error}");
    }

    #[test]
    fn descriptors_need_a_byte_on_a_stream_only() {
        let file = null();
        for kind in KINDS {
            let (a, b) = pair(kind).unwrap();
            let sent = send(&a, &with(&[], &[file.as_fd()]), None);
            if kind == Kind::Stream {
                assert_eq!(sent.unwrap_err().kind(), ErrorKind::InvalidInput);
            } else {
                assert_eq!(sent.unwrap(), 0);
                assert_eq!(take(&b, 0, 1).unwrap().descriptors.len(), 1);
            }
        }
    }

    /// A pipe shows whether a descriptor of its writing end is open anywhere.
    #[test]
    fn unwanted_descriptors_are_closed() {
        // A child that another test forks would hold these descriptors too.
        let _alone = crate::fork::hold_off();
        for (room, most) in [(8, 1), (2, 9)] {
            let (a, b) = pair(Kind::SeqPacket).unwrap();
            let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
            let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
            send(&a, &with(&[IoSlice::new(b"four")], &[writer.as_fd(); 2]), None).unwrap();
            drop(writer);
            let error = take(&b, room, most).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0), "a descriptor is still open");
        }
    }

    #[test]
    fn a_message_that_is_cut_names_both_sizes() {
        let (a, b) = pair(Kind::Datagram).unwrap();
        socket::send(&a, &[0; 100], None).unwrap();
        let error = take(&b, 99, 0).unwrap_err();
        assert!(error.to_string().contains("100 bytes") && error.to_string().contains("buffer 99"), "{error}");
        // A stream is never cut, and its bytes arrive although the flag of the check is set.
        let (a, b) = pair(Kind::Stream).unwrap();
        socket::send(&a, b"abcdef", None).unwrap();
        let (mut one, mut two) = ([0; 2], [0; 2]);
        let received = recv(&b, &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)], 0, None).unwrap();
        assert_eq!((received.bytes, &one, &two), (4, b"ab", b"cd"));
    }

    #[test]
    fn credentials_tell_the_end_from_an_empty_message() {
        let _alone = crate::fork::hold_off();
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        set_pass_credentials(&b, true).unwrap();
        socket::send(&a, b"", None).unwrap();
        drop(a);
        let empty = take(&b, 8, 0).unwrap();
        assert_eq!((empty.bytes, empty.credentials.map(|c| c.pid)), (0, Some(std::process::id())));
        let end = take(&b, 8, 0).unwrap();
        assert_eq!((end.bytes, end.credentials), (0, None));
    }

    #[test]
    fn credentials_can_be_said_and_not_forged() {
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        set_pass_credentials(&b, true).unwrap();
        let own = Credentials::own();
        let message = |credentials| Outgoing { credentials: Some(credentials), ..Default::default() };
        send(&a, &message(own), None).unwrap();
        assert_eq!(take(&b, 8, 0).unwrap().credentials, Some(own));
        for pid in [0, u32::MAX, 1 << 31] {
            let error = send(&a, &message(Credentials { pid, ..own }), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        assert!(send(&a, &message(Credentials { pid: i32::MAX as u32, ..own }), None).is_err());
    }

    #[test]
    fn a_pidfd_comes_with_a_message() {
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        if let Err(e) = set_pass_pidfd(&b, true) {
            return eprintln!("skipped: no SO_PASSPIDFD here: {e}");
        }
        let file = null();
        send(&a, &with(&[IoSlice::new(b"x")], &[file.as_fd()]), None).unwrap();
        let received = take(&b, 8, 1).unwrap();
        assert_eq!(received.descriptors.len(), 1);
        let pid = format!("Pid:\t{}", std::process::id());
        for pidfd in [received.pidfd.unwrap(), peer_pidfd(&a).unwrap()] {
            let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
            assert!(about.contains(&pid), "{about}");
        }
    }

    #[test]
    fn nobody_has_no_credentials() {
        let alone = unix::socket(Kind::Stream).unwrap();
        assert_eq!(peer_credentials(&alone).unwrap_err().kind(), ErrorKind::NotConnected);
        assert!(peer_pidfd(&alone).is_err());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(peer_credentials(&tcp).unwrap_err().kind(), ErrorKind::NotConnected);
        assert!(peer_credentials(null()).is_err());
        assert!(recv(null(), &mut [], 0, None).is_err());
    }

    #[test]
    fn sending_to_a_full_queue_waits_without_spinning() {
        let _alone = crate::fork::hold_off();
        let server = bind(Kind::Datagram, &unix::tests::name()).unwrap();
        let to = local_address(&server).unwrap();
        let client = unix::socket(Kind::Datagram).unwrap();
        let mut queued = 0;
        while try_send_to(&client, b"x", &to).is_ok() {
            queued += 1;
        }
        let wait = Duration::from_millis(60);
        let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (start, cpu_start) = (Instant::now(), cpu());
        assert_eq!(send_to(&client, b"x", &to, Some(start + wait)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= wait);
        let used = cpu() - cpu_start;
        assert!(used.tv_sec == 0 && used.tv_nsec < 30_000_000, "it spins: {used:?}");
        storm::during(|| {
            let error = send(&client, &Outgoing { to: Some(&to), ..Default::default() }, Some(start + wait));
            assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        });
        let taker = std::thread::spawn(move || {
            std::thread::sleep(wait);
            recv_from(&server, &mut [0; 8], None).map(|_| server)
        });
        assert_eq!(send_to(&client, b"x", &to, Some(Instant::now() + LONG)).unwrap(), 1);
        let server = taker.join().unwrap().unwrap();
        drop(server);
        assert!(queued > 0);
        assert_eq!(try_send_to(&client, b"x", &to).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn control_messages_are_parsed_with_care() {
        let word = size_of::<usize>();
        let message = |len: usize, data: &[u8]| {
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&7i32.to_ne_bytes());
            bytes.extend_from_slice(&9i32.to_ne_bytes());
            bytes.extend_from_slice(data);
            bytes
        };
        let good = message(word + 8 + 3, &[1, 2, 3, 0, 0, 0, 0, 0]);
        let two = [&good[..], &good].concat();
        let mut rest = &two[..];
        assert_eq!(next(&mut rest), Some((7, 9, &[1, 2, 3][..])));
        assert_eq!(next(&mut rest), Some((7, 9, &[1, 2, 3][..])));
        assert_eq!(next(&mut rest), None);
        for len in [0, 1, word, word + 7, word + 8 + 9, usize::MAX, usize::MAX - 7] {
            assert_eq!(next(&mut &message(len, &[0; 8])[..]), None, "{len}");
        }
        for cut in 0..word + 8 {
            assert_eq!(next(&mut &good[..cut]), None);
        }
        assert_eq!(next(&mut &message(word + 8, &[])[..]), Some((7, 9, &[][..])));
    }

    #[test]
    fn descriptors_that_find_no_place_are_an_error() {
        // In a child, so that the limit is nobody else's.
        let (a, b) = pair(Kind::SeqPacket).unwrap();
        let file = null();
        send(&a, &with(&[IoSlice::new(b"x")], &[file.as_fd(); 8]), None).unwrap();
        storm::in_child(|| {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: reads a live structure.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
            let error = try_recv(&b, &mut [IoSliceMut::new(&mut [0; 8])], 8).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        });
    }
}
