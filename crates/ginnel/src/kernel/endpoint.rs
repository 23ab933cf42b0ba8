//! Names of sockets: what the receiver takes, and the senders connect to.

use super::Nothing;
use super::book::{Facts, Identity, Made};
use super::leftover;
use super::presence::{Presence, Rest};
use crate::address::{Address, Place, Target};
use crate::error::{Error, ErrorKind, RecvFailure};
use crate::shm::Mode;
use ginnel_os::fork::{self, Generation};
use ginnel_os::socket::Kind;
use ginnel_os::unix::{self, Occupant};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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
pub(super) fn nobody_listens(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, TimedOut, WouldBlock};
    matches!(e.kind(), NotFound | ConnectionRefused | TimedOut | WouldBlock)
}

/// The same, and somebody may come: what is no socket refuses connections too (`connect(2)`), but never becomes one.
pub(super) fn is_absent(e: &io::Error, address: &Address) -> bool {
    nobody_listens(e) && other_than_a_socket(address).is_none()
}

fn other_than_a_socket(address: &Address) -> Option<String> {
    let Target::Unix(Place::Path(path)) = &address.target else { return None };
    match unix::occupant(path) {
        Ok(Occupant::Other(what)) => Some(what.to_string()),
        _ => None,
    }
}

/// One sender could not be let in: no descriptor is left, for example. The others go on.
pub(super) fn not_let_in(e: &io::Error) -> Nothing {
    Nothing::CutOff(RecvFailure::of_os(e))
}

pub(super) fn only_receivers_create(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "create", link)
        .problem("a sender connects to a socket that its receiver makes")
        .remedy("create the receiver, then open the sender")
}

pub(super) fn refused(address: &Address, e: io::Error) -> Error {
    if let Some(what) = other_than_a_socket(address) {
        return Error::new(ErrorKind::NotALink, "open", address.link())
            .problem(format!("it is {what}, not a socket"))
            .remedy("choose another name, or remove that file yourself");
    }
    match e.kind() {
        _ if e.raw_os_error() == Some(ginnel_os::errno::EPROTOTYPE) => Error::os("open", address.link(), e)
            .remedy("its receiver has another type of socket: write the same ?type= as there"),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::NotFound, "open", address.link())
                .problem("nobody receives there")
                .remedy(format!("start `ginnel recv {}` first", address.link()))
        }
        _ => Error::os("open", address.link(), e),
    }
}

/// Under which name the presence of a datagram socket is: the same from every working directory.
pub(super) fn presence_name(address: &Address) -> String {
    match &address.target {
        Target::Unix(Place::Path(path)) => {
            std::path::absolute(path).map_or_else(|_| address.link(), |path| format!("unix:{}", path.display()))
        }
        _ => address.link(),
    }
}

/// The name that a receiver has taken, which goes with it.
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    path: Option<(PathBuf, Identity)>,
    generation: Generation,
}

impl Bound {
    pub(super) fn new(address: &Address, place: &Place, kind: Kind, mode: Mode) -> Result<Self, Error> {
        let link = address.link();
        let os = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::new(ErrorKind::AlreadyExists, "open", link.clone())
                .problem("another receiver has it")
                .remedy("end that one (`ginnel ls` shows it), or choose another name"),
            io::ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::NotALink, "open", link.clone()).problem(e.to_string())
            }
            io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "open", link.clone())
                .problem("its directory is not there")
                .remedy("make that first"),
            _ => Error::os("open", link.clone(), e),
        };
        if mode == Mode::Join {
            return Err(Error::new(ErrorKind::Unsupported, "join", link.clone())
                .problem("a socket has one receiver, which makes it")
                .remedy("open it instead"));
        }
        let generation = fork::generation().map_err(os)?;
        match place {
            Place::Path(path) => {
                let soon = Instant::now() + PATIENCE;
                let socket = unix::bind_replacing_stale(kind, path, Some(soon)).map_err(os)?;
                let identity = identity(path).map_err(os)?;
                Ok(Self { socket, path: Some((path.clone(), identity)), generation })
            }
            Place::Abstract(_) => {
                let name = name_of(place, &link, "open")?;
                Ok(Self { socket: unix::bind(kind, &name).map_err(os)?, path: None, generation })
            }
        }
    }

    /// Which file was made.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.path.as_ref().map(|(_, identity)| *identity)
    }
}

/// Removes the file of a dead socket that nobody of ginnel uses any more, if ginnel made it.
pub(super) fn end(path: &Path, made: Made, dry_run: bool) -> Rest {
    match unix::occupant(path) {
        Ok(Occupant::Nobody) => Rest::Nothing,
        Ok(Occupant::Stale) => {
            let remove = || unix::unlink_stale(path, Some(Instant::now()));
            leftover::end_object(facts(path), made, dry_run, remove)
        }
        Ok(_) => Rest::Anothers,
        Err(_) => Rest::Messages,
    }
}

fn facts(path: &Path) -> io::Result<Facts> {
    let status = std::fs::symlink_metadata(path)?;
    let changed_s = u64::try_from(status.ctime()).unwrap_or_default();
    Ok(Facts { identity: (status.dev(), status.ino()), changed_s, messages: 0 })
}

fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::symlink_metadata(path).map(|status| (status.dev(), status.ino()))
}

impl Drop for Bound {
    /// The name goes, unless it has become another's, or always was: in a forked child it is the parent's.
    fn drop(&mut self) {
        if let Some((path, mine)) = &self.path {
            if self.generation.is_current() && identity(path).is_ok_and(|is| is == *mine) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Removes the file of a socket that nobody has bound, or any.
pub(super) fn unlink(address: &Address, path: &Path, force: bool) -> Result<(), Error> {
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
        Occupant::Live | Occupant::Stale => Presence::forget(&presence_name(address), || {
            std::fs::remove_file(path).map_err(|e| Error::os("remove", address.link(), e))
        }),
        Occupant::Other(what) => {
            refuse(ErrorKind::NotALink, &format!("it is {what}, not a socket"), "remove it yourself")
        }
        _ => refuse(ErrorKind::NotALink, "it is not a socket", "remove it yourself"),
    }
}
