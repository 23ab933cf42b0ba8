//! Looking at links from outside: read-only, without their participants' help, without disturbing them; and cleaning up.

use super::Spec;
use super::region::{self, Region};
use crate::address::{Name, Wait, Wanted};
use crate::clean::Cleaned;
use crate::directory::{Directory, shown};
use crate::error::{Error, ErrorKind};
use ginnel_core::{Counters, Engine, Geometry, Header, Layout, ParticipantState, PoolUse, Role, Shape, TOKEN_BASE};
use ginnel_os::mmap::Mapping;
use ginnel_os::ofd_lock;
use ginnel_os::process;
use ginnel_os::tmpfile::{self, Access};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Whether a link is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// A living process has it open.
    Live,
    /// Nobody has it open, and it holds messages for the next receiver.
    Waiting,
    /// Left over from a crash: `clean` or the next opener collects it.
    Stale,
}

/// What there is to see of a link.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Its address.
    pub address: String,
    /// Its file; of `mem:` what the kernel calls it.
    pub path: PathBuf,
    /// Whether it is in use.
    pub liveness: Liveness,
    /// What its creator chose.
    pub geometry: Geometry,
    /// When it was made, in nanoseconds since 1970.
    pub created_ns: u64,
    /// Messages in it; of a broadcast, those that its slowest receiver has yet to receive or to release.
    pub messages: u64,
    /// Of a stream, bytes that were written and not read.
    pub bytes: u64,
    /// Messages ever committed to it, and taken from it; of a stream, bytes.
    pub sent: u64,
    /// See `sent`.
    pub taken: u64,
    /// Messages dropped, ever.
    pub dropped: u64,
    /// Participants that died, ever.
    pub died: u64,
    /// Bytes of memory that the file occupies.
    pub allocated: u64,
    /// Block memory.
    pub pool: PoolUse,
    /// Who has it open.
    pub participants: Vec<ParticipantInfo>,
}

/// One open handle, or one that a dead process left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its number.
    pub number: u32,
    /// Which end it is.
    pub role: Role,
    /// Whether its process lives: the kernel's word, not the PID's.
    pub alive: bool,
    /// Its process, in its own PID namespace.
    pub pid: u32,
    /// Whether that is this process's PID namespace.
    pub same_pid_namespace: bool,
    /// When it joined, in nanoseconds since 1970.
    pub joined_ns: u64,
    /// Of a receiver of a broadcast: how many messages it has yet to receive or to release.
    pub behind: Option<u64>,
    /// What was done through its entry, by it and by those who had the entry before.
    pub counters: Counters,
}

/// A link mapped read-only. The engine's methods that are used here only load.
struct Snapshot {
    engine: Engine,
    _mapping: Mapping,
    file: OwnedFd,
    created_ns: u64,
}

impl Snapshot {
    fn open(directory: &Directory, name: &Name, address: &str) -> Result<Self, Error> {
        let tried = "look at";
        let file = region::open_file(tried, directory, name, address, Access::Read)?;
        let file = file.ok_or_else(|| region::missing(tried, address))?;
        let (header, layout) = region::check(tried, directory, name, &file)?;
        Self::attach(file, (header, layout), address)
    }

    /// A link of this process alone.
    fn of_process(file: OwnedFd, address: &str) -> Result<Self, Error> {
        let os = |e| Error::os("look at", address, e);
        let mut bytes = [0; Header::BYTES];
        let read = tmpfile::read_at(file.as_fd(), &mut bytes, 0).map_err(os)?;
        let status = tmpfile::fstat(file.as_fd()).map_err(os)?;
        let header = Header::parse(&bytes[..read], status.bytes)
            .map_err(|e| Error::new(ErrorKind::NotALink, "look at", address).problem(e.to_string()))?;
        Self::attach(file, header, address)
    }

    fn attach(file: OwnedFd, (header, layout): (Header, Layout), address: &str) -> Result<Self, Error> {
        // Only the control part is looked at, but the engine checks offsets against the whole range.
        let mapping = region::map(&file, &layout, false);
        let mapping = mapping.map_err(|e| Error::os("map", address, e))?;
        let engine = region::engine(&mapping, layout, header.asymmetric);
        Ok(Self { engine, _mapping: mapping, file, created_ns: header.created_ns })
    }

    /// `home`: where it lies, if that is a directory.
    fn info(&self, home: Option<(&Directory, &Name)>, address: String) -> Result<Info, Error> {
        let path = home.map_or_else(
            || format!("/memfd:{}", address.trim_start_matches("mem:")).into(),
            |(directory, name)| directory.path().join(name.as_str()),
        );
        let engine = &self.engine;
        let participants: Vec<_> = engine.participants().filter_map(|p| self.participant(p)).collect();
        let census = engine.census();
        let word_at = super::growth::peek(self.file.as_fd());
        let messages = engine.len_by(&word_at);
        let (taken, sent) = engine.positions_by(&word_at);
        let status = tmpfile::fstat(self.file.as_fd()).map_err(|e| Error::os("look at", address.as_str(), e))?;
        let liveness = if participants.iter().any(|p| p.alive) {
            Liveness::Live
        } else if participants.is_empty() && self.is_kept(home, messages) {
            Liveness::Waiting
        } else {
            Liveness::Stale
        };
        Ok(Info {
            address,
            path,
            liveness,
            geometry: *engine.layout().geometry(),
            created_ns: self.created_ns,
            messages,
            bytes: engine.bytes_waiting(),
            sent,
            taken,
            dropped: engine.dropped(),
            died: census.senders_died + census.receivers_died,
            allocated: status.allocated,
            pool: engine.pool_use(),
            participants,
        })
    }

    /// Whether what is in it waits for somebody who may come. Requests do not outlive their listener.
    fn is_kept(&self, home: Option<(&Directory, &Name)>, messages: u64) -> bool {
        match self.engine.layout().geometry().shape {
            Shape::Listener | Shape::Response => false,
            Shape::Stream => home.is_some_and(|(directory, name)| is_expected(directory, name, &self.engine)),
            _ => messages > 0,
        }
    }

    fn participant(&self, participant: ginnel_core::Participant) -> Option<ParticipantInfo> {
        let entry = self.engine.entry(participant);
        if entry.state == ParticipantState::Free {
            return None;
        }
        let byte = TOKEN_BASE + u64::from(participant.number());
        Some(ParticipantInfo {
            number: participant.number(),
            role: entry.state.role()?,
            alive: !matches!(ofd_lock::first_locked(self.file.as_fd(), byte, 1), Ok(None)),
            pid: entry.pid,
            same_pid_namespace: entry.namespace == process::pid_namespace(),
            joined_ns: entry.joined_ns,
            behind: self.engine.behind(participant).filter(|_| self.engine.layout().is_broadcast()),
            counters: entry.counters,
        })
    }
}

/// Whether bytes wait in one way of a connection for a listener that lives and has not accepted it yet.
pub(super) fn is_expected(directory: &Directory, name: &Name, engine: &Engine) -> bool {
    let census = engine.census();
    let was_accepted = census.receivers_joined != 0 || census.receivers_died != 0;
    let listener = crate::stream::listener_of(name).filter(|_| engine.bytes_waiting() > 0 && !was_accepted);
    let listens = |listener: &Name| {
        let snapshot = Snapshot::open(directory, listener, &format!("shm:{}", listener.as_str())).ok()?;
        let mut there = snapshot.engine.participants().filter_map(|p| snapshot.participant(p));
        Some(there.any(|there| there.alive && there.role == Role::Receiver))
    };
    listener.and_then(|listener| listens(&listener)).unwrap_or(false)
}

pub(crate) fn info(address: &Spec) -> Result<Info, Error> {
    let link = address.link();
    if address.private {
        return Snapshot::of_process(super::private::file(address)?, &link)?.info(None, link.clone());
    }
    let directory = Directory::open_existing()?.ok_or_else(|| region::missing("look at", &link))?;
    Snapshot::open(&directory, &address.name, &link)?.info(Some((&directory, &address.name)), link.clone())
}

/// Every link of this user, by name. A file that is not a link, or cannot be looked at, is the error in its place.
///
/// # Errors
/// If the directory of links cannot be read. That it is not there is no error: then there are no links.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// let sender = ginnel::Sender::open("shm:visible")?;
/// let links: Result<Vec<_>, _> = ginnel::list()?.into_iter().collect();
/// assert_eq!(links?[0].address, "shm:visible");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn list() -> Result<Vec<Result<Info, Error>>, Error> {
    let Some(directory) = Directory::open_existing()? else { return Ok(Vec::new()) };
    let mut links = Vec::new();
    for name in directory.names()?.into_iter().filter(|name| name.to_bytes() != crate::kernel::FOLDER.as_bytes()) {
        let found = link_name(&directory, &name).and_then(|name| {
            let address = format!("shm:{}", name.as_str());
            Snapshot::open(&directory, &name, &address)?.info(Some((&directory, &name)), address)
        });
        match found {
            Err(e) if e.kind() == ErrorKind::NotFound => {} // removed meanwhile
            found => links.push(found),
        }
    }
    Ok(links)
}

fn link_name(directory: &Directory, name: &std::ffi::CStr) -> Result<Name, Error> {
    let text = name.to_str().map_err(|_| "its name is not UTF-8").and_then(Name::new);
    text.map_err(|problem| {
        let path = shown(&directory.path().join(name.to_string_lossy().as_ref()));
        Error::new(ErrorKind::NotALink, "look at", path).problem(problem)
    })
}

/// Collects what a dead listener's connections left: called before the next one listens.
pub(crate) fn clean_connections_of(listener: &Name) -> Result<(), Error> {
    let Some(directory) = Directory::open_existing()? else { return Ok(()) };
    for name in directory.names()? {
        let Some(name) = name.to_str().ok().and_then(|name| Name::new(name).ok()) else { continue };
        if crate::stream::listener_of(&name).as_ref() == Some(listener) {
            // Whatever cannot be looked at or removed is left to `clean`, which says so.
            let address = format!("shm:{}", name.as_str());
            let info =
                Snapshot::open(&directory, &name, &address).and_then(|s| s.info(Some((&directory, &name)), address));
            let _ = info.and_then(|info| clean_one(&info, false));
        }
    }
    Ok(())
}

/// Ends a link that was not joined, by force; also one that this process cannot join, as it may not call membarrier(2): nobody waits by this.
pub(crate) fn turn_away(address: &Spec) -> Result<(), Error> {
    let tried = "remove";
    if address.private {
        return super::private::unlink(address, true);
    }
    let Some(directory) = Directory::open_existing()? else { return Err(region::missing(tried, &address.link())) };
    let Some(file) = region::open_file(tried, &directory, &address.name, &address.link(), Access::ReadWrite)? else {
        return Err(region::missing(tried, &address.link()));
    };
    let (header, layout) = region::check(tried, &directory, &address.name, &file)?;
    let header = Header { asymmetric: false, ..header };
    let home = region::Home::Directory(directory, address.name.to_cstring());
    let region = Region::attach(home, address.link(), file, (header, layout))?;
    region.agrees(address)?;
    region.end(true)
}

/// Recovers what dead processes left in every link of this user, and removes the links in which nothing is left.
pub(crate) fn clean(dry_run: bool) -> Result<Vec<Result<Cleaned, Error>>, Error> {
    let mut cleaned = Vec::new();
    for info in list()? {
        match info {
            Ok(info) => cleaned.extend(clean_one(&info, dry_run).transpose()),
            Err(e) => cleaned.push(Err(e)),
        }
    }
    Ok(cleaned)
}

/// The same for one that was found.
fn clean_one(info: &Info, dry_run: bool) -> Result<Option<Cleaned>, Error> {
    let dead = info.participants.iter().filter(|p| !p.alive).count();
    if dead == 0 && info.liveness != Liveness::Stale {
        return Ok(None);
    }
    // Responses are for one client: nobody can receive them in its place.
    let is_orphan = info.geometry.shape == Shape::Response
        && !info.participants.iter().any(|p| p.alive && p.role == Role::Receiver);
    let name = Name::new(info.address.strip_prefix("shm:").unwrap_or_default());
    let (Ok(name), false) = (name, dry_run) else {
        let removed = is_orphan || info.liveness == Liveness::Stale && info.messages == 0;
        return Ok(Some(Cleaned { address: info.address.clone(), dead, removed }));
    };
    let address =
        Spec { name, wanted: Wanted::default(), follow: false, history: None, wait: Wait::default(), private: false };
    let (dead, removed) = if is_orphan { Region::tidy_by_force(&address)? } else { Region::tidy(&address)? };
    Ok((dead > 0 || removed).then(|| Cleaned { address: info.address.clone(), dead, removed }))
}
