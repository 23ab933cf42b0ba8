//! `sock_diag(7)`: every `unix` socket of the network namespace, with its name and its peer; where that is not to be had,
//! `/proc/net/unix` (`proc(5)`), which knows no peers.
//!
//! What it is not: it does not say which process has a socket. [`census`](crate::census) does, by the inode. A socket that no process has is on its
//! way in a message, or waits to be accepted.

use rustix::fs::{Dev, makedev};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, netlink};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::socket::{self, Kind};
use crate::unix::Address;

/// What a socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It has no peer.
    Unconnected,
    /// It takes connections.
    Listening,
    /// It has a peer, or had one.
    Connected,
    /// A connection is being made or taken apart.
    Between,
}

/// A `unix` socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixSocket {
    /// Which socket it is: `socket:[inode]` in `/proc/PID/fd`.
    pub inode: u64,
    /// What it carries; `None` for a kind that [`Kind`] does not know.
    pub kind: Option<Kind>,
    /// What it is doing.
    pub state: State,
    /// Its name, as it was bound. `/proc/net/unix` shows a NUL in an abstract name as `@`.
    pub address: Address,
    /// The inode of its peer. `None` without one, and where the kernel does not say.
    pub peer: Option<u64>,
    /// Device and inode of its file, if it was bound to a path and the kernel says so.
    pub file: Option<(u64, u64)>,
    /// Connections that wait to be accepted, and how many may, of a listener; bytes that wait to be received, and memory of those that were sent, of
    /// any other. `None` where the kernel does not say.
    pub queued: Option<(u32, u32)>,
    /// References to it within the kernel. `None` from `sock_diag`.
    pub references: Option<u32>,
}

/// `sock_diag(7)`: all `unix` sockets of the caller's network namespace, of all users.
///
/// # Errors
/// The errno, of reading `/proc/net/unix`, if neither way works.
///
/// ```
/// use ginnel_os::{sock_diag, socket::Kind, unix};
///
/// let fd = unix::bind(Kind::Datagram, &unix::Address::unnamed())?;
/// let address = unix::local_address(&fd)?;
/// let sockets = sock_diag::unix_sockets()?;
/// assert!(sockets.iter().any(|socket| socket.address == address));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unix_sockets() -> io::Result<Vec<UnixSocket>> {
    dump().or_else(|_| Ok(parse_proc_net_unix(&std::fs::read("/proc/net/unix")?)))
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST_DUMP: u16 = 0x301;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN`
const SHOW: u32 = 1 | 2 | 4 | 0x10;
const NLMSG_HEADER: usize = 16;
const DIAG_MSG: usize = 16;

/// A dump answers at once; this only keeps a strange kernel or sandbox from holding us for ever.
const PATIENCE: Duration = Duration::from_secs(5);

fn dump() -> io::Result<Vec<UnixSocket>> {
    let protocol = Some(netlink::SOCK_DIAG);
    let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let deadline = Some(Instant::now() + PATIENCE);
    net::sendto(&fd, &request(), net::SendFlags::NOSIGNAL, &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut sockets = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = socket::recv_message(fd.as_fd(), &mut buffer, deadline)?;
        if read_answers(&buffer[..len], &mut sockets)? {
            return Ok(sockets);
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request() -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[0..4].copy_from_slice(&40u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[16] = AddressFamily::UNIX.as_raw() as u8;
    bytes[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // all states
    bytes[28..32].copy_from_slice(&SHOW.to_ne_bytes());
    bytes
}

/// Adds what one datagram says; true at the end of the dump.
fn read_answers(mut bytes: &[u8], sockets: &mut Vec<UnixSocket>) -> io::Result<bool> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    while bytes.len() >= NLMSG_HEADER {
        let len = word(bytes, 0).ok_or_else(broken)? as usize;
        let message = bytes.get(NLMSG_HEADER..len).ok_or_else(broken)?;
        match half(bytes, 4).ok_or_else(broken)? {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = word(message, 0).ok_or_else(broken)? as i32;
                return Err(io::Error::from_raw_os_error(error.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => sockets.extend(read_socket(message)),
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct unix_diag_msg` and its attributes.
fn read_socket(message: &[u8]) -> Option<UnixSocket> {
    let mut socket = UnixSocket {
        inode: word(message, 4)?.into(),
        kind: kind(message[1].into()),
        state: state_of_diag(message[2]),
        address: Address::unnamed(),
        peer: None,
        file: None,
        queued: None,
        references: None,
    };
    let mut rest = message.get(DIAG_MSG..)?;
    while let (Some(len), Some(what)) = (half(rest, 0), half(rest, 2)) {
        let Some(value) = rest.get(4..len.into()) else { break };
        match what {
            0 => socket.address = Address::from_name(value),
            1 => socket.file = word(value, 4).zip(word(value, 0)).map(|(device, inode)| (dev(device), inode.into())),
            2 => socket.peer = word(value, 0).map(Into::into),
            4 => socket.queued = word(value, 0).zip(word(value, 4)),
            _ => {}
        }
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

/// The kernel's own form of a device number: 12 bits of major, 20 of minor.
fn dev(device: u32) -> Dev {
    makedev(device >> 20, device & 0xf_ffff)
}

fn kind(number: u32) -> Option<Kind> {
    match number {
        1 => Some(Kind::Stream),
        2 => Some(Kind::Datagram),
        5 => Some(Kind::SeqPacket),
        _ => None,
    }
}

/// `TCP_ESTABLISHED`, `TCP_CLOSE`, `TCP_LISTEN`.
fn state_of_diag(number: u8) -> State {
    match number {
        1 => State::Connected,
        7 => State::Unconnected,
        10 => State::Listening,
        _ => State::Between,
    }
}

/// `proc(5)`: the lines of `/proc/net/unix`. Lines that make no sense are left out.
///
/// ```
/// let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
///     0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/bus\n";
/// let sockets = ginnel_os::sock_diag::parse_proc_net_unix(text);
/// assert_eq!(sockets[0].inode, 12345);
/// assert_eq!(sockets[0].state, ginnel_os::sock_diag::State::Listening);
/// ```
pub fn parse_proc_net_unix(text: &[u8]) -> Vec<UnixSocket> {
    text.split(|byte| *byte == b'\n').skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<UnixSocket> {
    let (fields, name) = split_fields::<7>(line)?;
    let hex = |at: usize| u32::from_str_radix(std::str::from_utf8(fields[at]).ok()?, 16).ok();
    const ACCEPTS: u32 = 1 << 16;
    let state = match (hex(3)? & ACCEPTS, hex(5)?) {
        (ACCEPTS, _) => State::Listening,
        (_, 1) => State::Unconnected,
        (_, 3) => State::Connected,
        _ => State::Between,
    };
    let address = match name {
        [b'@', name @ ..] => Address::abstract_name(name).ok()?,
        path => Address::from_name(path),
    };
    Some(UnixSocket {
        inode: std::str::from_utf8(fields[6]).ok()?.parse().ok()?,
        kind: kind(hex(4)?),
        state,
        address,
        peer: None,
        file: None,
        queued: None,
        references: hex(1),
    })
}

/// The first N words, and what follows the one space after them: a name may begin with spaces of its own.
fn split_fields<const N: usize>(mut line: &[u8]) -> Option<([&[u8]; N], &[u8])> {
    let mut fields: [&[u8]; N] = [&[]; N];
    for field in &mut fields {
        line = line.trim_ascii_start();
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        if end == 0 {
            return None;
        }
        (*field, line) = line.split_at(end);
    }
    Some((fields, line.get(1..).unwrap_or_default()))
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unix;
    use std::os::fd::OwnedFd;

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    fn find(sockets: &[UnixSocket], fd: &OwnedFd) -> UnixSocket {
        sockets.iter().find(|socket| socket.inode == inode(fd)).expect("the socket is listed").clone()
    }

    #[test]
    fn peers_names_and_queues_are_known() {
        let (a, b) = unix::pair(Kind::SeqPacket).unwrap();
        let bound = unix::bind(Kind::Stream, &Address::unnamed()).unwrap();
        unix::listen(&bound, 3).unwrap();
        socket::send(&a, b"12345", None).unwrap();
        let sockets = match dump() {
            Ok(sockets) => sockets,
            Err(e) => return eprintln!("skipped: no sock_diag here: {e}"),
        };
        let (of_a, of_b, of_bound) = (find(&sockets, &a), find(&sockets, &b), find(&sockets, &bound));
        assert_eq!((of_a.peer, of_b.peer), (Some(inode(&b)), Some(inode(&a))));
        assert_eq!((of_a.kind, of_a.state), (Some(Kind::SeqPacket), State::Connected));
        assert_eq!(of_b.queued.unwrap().0, 5);
        assert_eq!((of_bound.state, of_bound.peer), (State::Listening, None));
        assert_eq!(of_bound.address, unix::local_address(&bound).unwrap());
    }

    #[test]
    fn the_file_of_a_path_is_known() {
        let path = std::env::temp_dir().join(format!("ginnel-os-diag-{}", std::process::id()));
        let fd = unix::bind(Kind::Datagram, &Address::path(&path).unwrap()).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let Ok(sockets) = dump() else { return eprintln!("skipped: no sock_diag here") };
        let socket = find(&sockets, &fd);
        assert_eq!(socket.file.unwrap().1, stat.st_ino & 0xffff_ffff);
        assert_eq!(socket.file.unwrap().0, stat.st_dev);
        assert_eq!(socket.address.as_path(), Some(&*path));
    }

    #[test]
    fn proc_agrees() {
        let (a, b) = unix::pair(Kind::Stream).unwrap();
        let bound = unix::bind(Kind::SeqPacket, &unix::Address::unnamed()).unwrap();
        unix::listen(&bound, 1).unwrap();
        let sockets = parse_proc_net_unix(&std::fs::read("/proc/net/unix").unwrap());
        assert_eq!((find(&sockets, &a).state, find(&sockets, &b).kind), (State::Connected, Some(Kind::Stream)));
        let of_bound = find(&sockets, &bound);
        assert_eq!((of_bound.state, of_bound.kind), (State::Listening, Some(Kind::SeqPacket)));
        assert_eq!(of_bound.address, unix::local_address(&bound).unwrap());
        assert!(of_bound.references.unwrap() > 0);
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in [
            &b""[..],
            b"\n",
            b"head\nx",
            b"head\n1: 2 3 4 5 6 x",
            b"head\n1: 2 3 4 5 6",
            b"head\n\xff \xff \xff \xff \xff \xff \xff",
        ] {
            assert!(parse_proc_net_unix(text).is_empty());
        }
        let spaces = parse_proc_net_unix(b"head\n1: 2 3 0 1 1     7  /two spaces ");
        assert_eq!(spaces[0].address.as_path(), Some(std::path::Path::new(" /two spaces ")));
        let mut none = Vec::new();
        assert!(!read_answers(&[0; 15], &mut none).unwrap());
        assert!(read_answers(&[0; 16], &mut none).is_err());
        assert!(read_answers(&[0xff; 64], &mut none).is_err());
        for len in 0..DIAG_MSG {
            assert!(read_socket(&vec![0; len]).is_none());
        }
        let mut endless = vec![0; 64];
        endless[DIAG_MSG] = 3; // an attribute that is shorter than its own header
        assert!(read_socket(&endless).is_some());
    }
}
