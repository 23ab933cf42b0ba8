//! Names of sockets: what the receiver takes, and the senders connect to.

use crate::address::{Address, Place};
use crate::error::{Error, ErrorKind};
use crate::shm::Mode;
use ginnel_os::socket::Kind;
use ginnel_os::unix::{self, Occupant};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long another process may be in the middle of taking the same name.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a socket is, for the kernel.
pub(super) fn name_of(place: &Place, link: &str, tried: &'static str) -> Result<unix::Address, Error> {
    let name = match place {
        Place::Path(path) => unix::Address::path(path),
        Place::Abstract(name) => unix::Address::abstract_name(name.as_bytes()),
    };
    name.map_err(|e| Error::os(tried, link, e))
}

/// What a host and a port stand for.
pub(super) fn resolve(address: &Address, host: &str) -> Result<Vec<SocketAddr>, Error> {
    let found: Vec<_> = host.to_socket_addrs().map_err(|e| Error::os("look up", address.link(), e))?.collect();
    if found.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "look up", address.link())
            .problem("the host has no address")
            .remedy("check its name with `getent hosts`"));
    }
    Ok(found)
}

/// Nobody listens there now, or too many wait to be let in.
pub(super) fn is_absent(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, TimedOut, WouldBlock};
    matches!(e.kind(), NotFound | ConnectionRefused | TimedOut | WouldBlock)
}

pub(super) fn only_receivers_create(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "create", link)
        .problem("a sender connects to a socket that its receiver makes")
        .remedy("create the receiver, then open the sender")
}

pub(super) fn refused(address: &Address, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::NotFound, "open", address.link())
                .problem("nobody receives there")
                .remedy(format!("start `ginnel recv {}` first", address.link()))
        }
        _ => Error::os("open", address.link(), e),
    }
}

/// The name that a receiver has taken, which goes with it.
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    path: Option<(PathBuf, (u64, u64))>,
}

impl Bound {
    pub(super) fn new(address: &Address, place: &Place, kind: Kind, mode: Mode) -> Result<Self, Error> {
        let link = address.link();
        let os = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::new(ErrorKind::AlreadyExists, "open", link.clone())
                .problem("another receiver has it")
                .remedy("end that one (`ginnel ls` shows it), or choose another name"),
            io::ErrorKind::AlreadyExists => Error::new(ErrorKind::NotALink, "open", link.clone())
                .problem(e.to_string())
                .remedy("choose another name, or remove that file yourself"),
            _ => Error::os("open", link.clone(), e),
        };
        if mode == Mode::Join {
            return Err(Error::new(ErrorKind::Unsupported, "join", link.clone())
                .problem("a socket has one receiver, which makes it")
                .remedy("open it instead"));
        }
        match place {
            Place::Path(path) => {
                let soon = Instant::now() + PATIENCE;
                let socket = unix::bind_replacing_stale(kind, path, Some(soon)).map_err(os)?;
                let identity = identity(path).map_err(os)?;
                Ok(Self { socket, path: Some((path.clone(), identity)) })
            }
            Place::Abstract(_) => {
                let name = name_of(place, &link, "open")?;
                Ok(Self { socket: unix::bind(kind, &name).map_err(os)?, path: None })
            }
        }
    }
}

fn identity(path: &std::path::Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map(|status| (status.dev(), status.ino()))
}

impl Drop for Bound {
    /// The name goes, unless it has become another's.
    fn drop(&mut self) {
        if let Some((path, mine)) = &self.path {
            if identity(path).is_ok_and(|is| is == *mine) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Removes the file of a socket that nobody has bound, or any.
pub(super) fn unlink(address: &Address, path: &std::path::Path, force: bool) -> Result<(), Error> {
    let refuse = |kind, problem: &str, remedy: &str| {
        Err(Error::new(kind, "remove", address.link()).problem(problem).remedy(remedy))
    };
    match unix::occupant(path).map_err(|e| Error::os("remove", address.link(), e))? {
        Occupant::Nobody => {
            refuse(ErrorKind::NotFound, "there is no such socket", "`ginnel ls` lists those that are there")
        }
        Occupant::Live if !force => refuse(
            ErrorKind::InUse,
            "somebody has it bound",
            "end that process, or add `--force`: nobody can connect then",
        ),
        Occupant::Live | Occupant::Stale => {
            std::fs::remove_file(path).map_err(|e| Error::os("remove", address.link(), e))
        }
        Occupant::Other(what) => {
            refuse(ErrorKind::NotALink, &format!("it is {what}, not a socket"), "remove it yourself")
        }
        _ => refuse(ErrorKind::NotALink, "it is not a socket", "remove it yourself"),
    }
}
