//! The file of a link: how it is made, found, joined and removed, so that a process that is killed at any instruction of
//! this leaves nothing in the way of the next one.
//!
//! - *Born complete.* The file is built without a name, then `linkat(2)` names it or finds the name taken. Whoever finds a
//!   name finds a whole link.
//! - *Joining* is in two steps: the token of a free entry, then the state of the entry. One who is killed between leaves a
//!   free entry whose token is gone.
//! - *Leaving*: the last one who leaves an empty link decides in one word that it ends, then removes the name, under a lock
//!   that dies with its holder. One who joins meanwhile makes that decision fail, or finds the link ended, removes
//!   the name itself and makes a new one.
//!
//! [I1] A name is removed only by the holder of its file's removal lock, while the name still stands for that file.
//! [I2] An entry that is not free and whose token nobody holds belongs to a dead participant, and to nobody else.

use super::{Spec, private};
use crate::address::{Name, Wanted};
use crate::directory::{Directory, shown};
use crate::error::{Error, ErrorKind};
use crate::ready::Ears;
use crate::watch::{self, Watched};
use ginnel_core::{
    ALIVE_BASE, Engine, Full, GROW_BYTE, Header, HeaderError, Identity, JoinError, LABEL_AT, LABEL_BYTES, Label,
    Layout, Memory, Participant, ParticipantState, REMOVE_BYTE, Role, Rule, Shape, TOKEN_BASE,
};
use ginnel_os::fork::{self, Generation};
use ginnel_os::mmap::Mapping;
use ginnel_os::ofd_lock::{self, Token};
use ginnel_os::tmpfile::{self, Access, Kind};
use ginnel_os::{errno, explain, fallocate, membarrier, process};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// How long another process may stand in the middle of removing a name before that is an error.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a link is to be found, made, or either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Joins the link, or makes it if it is not there.
    #[default]
    Open,
    /// Makes the link; an error if it is there.
    Create,
    /// Joins the link; an error if it is not there.
    Join,
}

/// An attached link: its mapping, its file, and where it lies.
pub(crate) struct Region {
    pub(super) engine: Engine,
    mapping: Mapping,
    /// Holds no lock, so that a forked child that inherits it keeps nobody alive; used to look at locks, and to grow.
    pub(super) file: OwnedFd,
    pub(super) home: Home,
    link: Arc<str>,
    generation: Generation,
    /// Checksum of its label; 0 if it has none.
    label: u32,
    /// Whether the watcher knows this region.
    watched: AtomicBool,
    /// Those of this process who listen.
    pub(super) ears: Arc<Ears>,
    /// Links of this process whose sleepers wait for news of this one too: who waits for a response learns so that the last server has left.
    pub(super) relays: Mutex<Vec<Weak<Region>>>,
    /// The membership's version when the relays were woken last.
    relayed: AtomicU64,
}

/// Where a link is found.
pub(super) enum Home {
    /// By its name in a directory.
    Directory(Directory, CString),
    /// In this process alone: see `private`.
    Process,
}

/// A handle's place in the table, which it holds until it is dropped.
pub(crate) struct Membership {
    pub(crate) region: Arc<Region>,
    pub(crate) me: Participant,
    /// While it is there, the participant lives.
    token: Option<Token>,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Watched for Region {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn watched(&self) -> &AtomicBool {
        &self.watched
    }

    fn look(&self) -> bool {
        let is_done = self.reap_all().1;
        // Somebody else may have been first to recover the dead: then this process hears of it here.
        let version = self.engine.membership_version();
        if self.relayed.swap(version, Ordering::SeqCst) != version {
            self.wake_relays();
        }
        is_done
    }
}

impl Region {
    /// Opens a link as one of its ends.
    pub(crate) fn join(address: &Spec, mode: Mode, role: Role) -> Result<Membership, Error> {
        if address.private {
            return private::join(address, mode, role);
        }
        let end = Instant::now() + PATIENCE;
        let mut created = None;
        loop {
            let directory = if mode == Mode::Join {
                Directory::open_existing()?.ok_or_else(|| missing("open", &address.link()))?
            } else {
                Directory::open()?
            };
            let region = match Self::find(directory, address)? {
                Ok(region) if mode == Mode::Create && created != Some(region.identity()?) => {
                    region.settle();
                    if created.is_none() && region.remove_if_ended()? {
                        continue; // left over from a crash
                    }
                    let error = Error::new(ErrorKind::AlreadyExists, "create", address.link());
                    return Err(
                        error.remedy(format!("open it instead, or remove it with `ginnel rm {}`", address.link()))
                    );
                }
                Ok(region) => Arc::new(region),
                Err(_) if mode == Mode::Join => return Err(missing("open", &address.link())),
                Err(directory) => {
                    created = Self::create(&directory, address)?.or(created);
                    continue;
                }
            };
            if let Err(mismatch) = region.agrees(address) {
                region.settle(); // one who is dead, and whom somebody recovers just now, does not count
                if region.remove_if_ended()? {
                    continue; // nothing was left in it
                }
                return Err(mismatch);
            }
            if let Some(membership) = region.enter(role)? {
                return Ok(membership);
            }
            region.remove_name(end)?; // it ended just now
        }
    }

    /// Whether a link is as it was asked for.
    pub(super) fn agrees(&self, address: &Spec) -> Result<(), Error> {
        let Some((option, wanted, is)) = address.wanted.mismatch(self.engine.layout().geometry()) else {
            return self.agrees_on_label(address);
        };
        let error = Error::new(ErrorKind::Mismatch, "open", address.link());
        let problem = format!("it was made with {option}={is}, and {option}={wanted} was asked for");
        let remedy = match self.engine.layout().geometry().shape {
            Shape::Stream if option == "shape" => {
                "it is one way of a connection, whose two ends have it: connect to its listener"
            }
            Shape::Listener if option == "shape" => {
                "connect to it with `ginnel::stream::Stream`, or choose another name"
            }
            Shape::Request if option == "shape" => {
                "use `ginnel call` or `ginnel serve`, or `ginnel::call`; or choose another name"
            }
            Shape::Mailbox if option == "shape" => "use `ginnel mail`, or `ginnel::mail`; or choose another name",
            Shape::Response if option == "shape" => {
                "it belongs to one client, for the responses to its calls: choose another name"
            }
            _ => "leave the option out, or remove the link and make it anew",
        };
        Err(error.problem(problem).remedy(remedy))
    }

    /// Whether its messages are what the caller takes them for. Who says nothing takes them as bytes.
    fn agrees_on_label(&self, address: &Spec) -> Result<(), Error> {
        let Some(wanted) = &address.wanted.label else { return Ok(()) };
        let is = self.read_label(address)?;
        if is.as_ref().is_some_and(|is| is.hash() == wanted.hash()) {
            return Ok(());
        }
        let is = is.as_ref().map_or_else(|| "plain bytes".into(), |is| format!("`{}`", is.text()));
        Err(Error::new(ErrorKind::Mismatch, "open", address.link())
            .problem(format!("its messages are {is}, and `{}` was asked for", wanted.text()))
            .remedy("have both programs mean the same, or take another name"))
    }

    /// Its label, if it has one.
    fn read_label(&self, address: &Spec) -> Result<Option<Label>, Error> {
        if self.label == 0 {
            return Ok(None);
        }
        let mut bytes = [0; LABEL_BYTES];
        tmpfile::read_at(self.file.as_fd(), &mut bytes, LABEL_AT).map_err(|e| Error::os("open", address.link(), e))?;
        let label = Label::parse(bytes, self.label);
        let corrupt =
            || Error::new(ErrorKind::NotALink, "open", address.link()).problem("the checksum of its label is wrong");
        label.map(Some).ok_or_else(corrupt)
    }

    /// Finds a link by name. The directory comes back if nothing has the name.
    fn find(directory: Directory, address: &Spec) -> Result<Result<Self, Directory>, Error> {
        let tried = "open";
        let name = address.name.to_cstring();
        let Some(file) = open_file(tried, &directory, &address.name, &address.link(), Access::ReadWrite)? else {
            return Ok(Err(directory));
        };
        let header = check(tried, &directory, &address.name, &file)?;
        if header.0.asymmetric && !membarrier::register() {
            return Err(Error::new(ErrorKind::Unsupported, tried, address.link())
                .problem("it was made where membarrier(2) works, and this process may not call it")
                .remedy("allow that system call in the sandbox, or make the link from inside it"));
        }
        Self::attach(Home::Directory(directory, name), address.link(), file, header).map(Ok)
    }

    pub(super) fn attach(
        home: Home,
        link: String,
        file: OwnedFd,
        (header, layout): (Header, Layout),
    ) -> Result<Self, Error> {
        let os = |e| Error::os("map", link.clone(), e);
        let mapping = map(&file, &layout, true).map_err(os)?;
        let generation = fork::generation().map_err(os)?;
        let engine = engine(&mapping, layout, header.asymmetric);
        Ok(Self {
            engine,
            mapping,
            file,
            home,
            link: link.into(),
            generation,
            label: header.label,
            watched: AtomicBool::new(false),
            ears: Arc::default(),
            relays: Mutex::default(),
            relayed: AtomicU64::new(0),
        })
    }

    /// Whether the watcher knows it. Where that is not so though it was asked for, whoever waits looks now and then for who died.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Which file it is.
    fn identity(&self) -> Result<(u64, u64), Error> {
        let status = tmpfile::fstat(self.file.as_fd()).map_err(|e| Error::os("look at", self.link.to_string(), e))?;
        Ok(status.identity)
    }

    /// Makes the file of a new link and names it; says which file it is. `None` if somebody else was first.
    fn create(directory: &Directory, address: &Spec) -> Result<Option<(u64, u64)>, Error> {
        let os = |e| Error::os("create", address.link(), e);
        let file = tmpfile::create_unnamed(directory.as_fd()).map_err(os)?;
        let (_, layout) = Self::build(&file, address, |bytes, e| no_space(directory, address, bytes, e))?;
        // What this process cannot map must not get a name: it would be in the way of one that asks for less.
        drop(map(&file, &layout, true).map_err(os)?);
        match tmpfile::link_at(file.as_fd(), directory.as_fd(), &address.name.to_cstring()) {
            Ok(()) => Ok(Some(tmpfile::fstat(file.as_fd()).map_err(os)?.identity)),
            Err(e) if e.raw_os_error() == Some(errno::EEXIST) => Ok(None),
            Err(e) => Err(os(e)),
        }
    }

    /// Makes a file into a link that nobody has opened yet.
    pub(super) fn build(
        file: &OwnedFd,
        address: &Spec,
        no_space: impl FnOnce(u64, std::io::Error) -> Error,
    ) -> Result<(Header, Layout), Error> {
        if let Some((problem, remedy)) = address.wanted.contradiction() {
            return Err(Error::new(ErrorKind::InvalidOption, "create", address.link()).problem(problem).remedy(remedy));
        }
        let geometry = address.wanted.geometry();
        let layout = Layout::new(geometry).map_err(|e| invalid_option(address, &e))?;
        let checksum = address.wanted.label.as_ref().map_or(0, |label| label.checksum());
        let header =
            Header { geometry, asymmetric: membarrier::register(), created_ns: process::now_ns(), label: checksum };
        let os = |e| Error::os("create", address.link(), e);
        // Beyond the limit the kernel does not only refuse: it kills, by SIGXFSZ.
        if process::file_size_limit().is_some_and(|limit| layout.total_bytes() as u64 > limit) {
            return Err(os(std::io::Error::from_raw_os_error(errno::EFBIG)));
        }
        tmpfile::set_len(file.as_fd(), layout.total_bytes() as u64).map_err(os)?;
        let (control, total) = (layout.control_bytes() as u64, layout.total_bytes() as u64);
        let ring = layout.stream_ring().map_or(total, |ring| ring as u64);
        let committed = fallocate::commit(file.as_fd(), 0, control)
            .and_then(|()| if ring < total { fallocate::commit(file.as_fd(), ring, total - ring) } else { Ok(()) });
        committed.map_err(|e| match explain::errno(&e) {
            // Its words would be said twice.
            Some(errno::ENOSPC) => no_space(control + total - ring, std::io::Error::from_raw_os_error(errno::ENOSPC)),
            _ => os(e),
        })?;
        tmpfile::write_at(file.as_fd(), &header.encode(&layout), 0).map_err(os)?;
        if let Some(label) = &address.wanted.label {
            tmpfile::write_at(file.as_fd(), label.bytes(), LABEL_AT).map_err(os)?;
        }
        Ok((header, layout))
    }

    /// Becomes a participant. `None` if the link has ended.
    pub(crate) fn enter(self: &Arc<Self>, role: Role) -> Result<Option<Membership>, Error> {
        self.reap();
        let geometry = *self.engine.layout().geometry();
        let limit = if role == Role::Sender { geometry.senders } else { geometry.receivers };
        // Where the role is limited, joining is one at a time: two at once could otherwise both go in, or both be refused.
        let _gate = if limit == 0 { None } else { Some(self.lock(REMOVE_BYTE, Instant::now() + PATIENCE)?) };
        let end = Instant::now() + PATIENCE;
        loop {
            // Somebody may be leaving, joining or being recovered in a place that is about to be free: then look again.
            let mut passed_over = false;
            for me in self.engine.participants() {
                match self.engine.state(me) {
                    ParticipantState::Free => {}
                    ParticipantState::Active(_) => continue,
                    _ => {
                        passed_over = true;
                        continue;
                    }
                }
                match self.place(me)? {
                    Some(token) if self.engine.state(me) == ParticipantState::Free => {
                        return self.enter_at(me, token, role);
                    }
                    Some(_token) => _ = self.recover(me), // somebody joined, and died, since the state was read
                    None => {}
                }
                passed_over = true;
            }
            if !passed_over || Instant::now() > end {
                break;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        let limit = geometry.participants;
        Err(Error::new(ErrorKind::TooManyHandles, "open", self.link.to_string())
            .problem(format!("it has {limit} handles, as many as it was made for"))
            .remedy("close some, or make it anew with a larger ?participants="))
    }

    /// Joins in a free place whose token the caller holds. `None` if the link has ended.
    fn enter_at(self: &Arc<Self>, me: Participant, token: Token, role: Role) -> Result<Option<Membership>, Error> {
        let identity = Identity { pid: process::id(), namespace: process::pid_namespace(), now_ns: process::now_ns() };
        match self.engine.join(me, role, identity) {
            Ok(()) => Ok(Some(Membership { region: self.clone(), me, token: Some(token) })),
            Err(JoinError::RoleTaken(there)) => {
                let geometry = self.engine.layout().geometry();
                let limit = if role == Role::Sender { geometry.senders } else { geometry.receivers };
                Err(role_taken(&self.link, role, there, limit))
            }
            Err(_) => Ok(None),
        }
    }

    /// Takes the token of a place, and if nobody is in it, what says that its holder lives.
    fn place(&self, participant: Participant) -> Result<Option<Token>, Error> {
        let number = u64::from(participant.number());
        let is_free = || self.engine.state(participant) == ParticipantState::Free;
        Token::take_then(self.file.as_fd(), TOKEN_BASE + number, || is_free().then_some(ALIVE_BASE + number))
            .map_err(|e| Error::os("take a place in", self.link.to_string(), e))
    }

    /// Takes a lock of the link that its holders keep for a few system calls.
    pub(crate) fn lock(&self, byte: u64, end: Instant) -> Result<Token, Error> {
        loop {
            let taken = self.take(byte);
            if let Some(token) = taken.map_err(|e| Error::os("lock", self.link.to_string(), e))? {
                return Ok(token);
            }
            if Instant::now() > end {
                return Err(Error::new(ErrorKind::Stuck, "lock", self.link.to_string())
                    .problem("another process holds it and does not go on: it is stopped, perhaps")
                    .remedy("continue or kill that process; `ginnel info` lists those that are attached"));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Takes a lock of the link if nobody holds it.
    pub(crate) fn try_lock(&self, byte: u64) -> std::io::Result<Option<Token>> {
        // Asked first, for who tries again and again: taking it opens the file anew.
        if ofd_lock::first_locked(self.file.as_fd(), byte, 1)?.is_some() {
            return Ok(None);
        }
        self.take(byte)
    }

    /// Takes the lock on a byte, for which a descriptor is needed for a moment.
    pub(super) fn take(&self, byte: u64) -> std::io::Result<Option<Token>> {
        watch::with_descriptor(|| Token::take(self.file.as_fd(), byte))
    }

    /// Removes the name of a link that has ended, if it still stands for this file.
    fn remove_name(&self, end: Instant) -> Result<(), Error> {
        let Home::Directory(directory, name) = &self.home else {
            private::forget(self);
            return Ok(());
        };
        let _lock = self.lock(REMOVE_BYTE, end)?;
        let os = |e| Error::os("remove", self.link.to_string(), e);
        let mine = self.identity()?;
        match tmpfile::stat_at(directory.as_fd(), name) {
            Ok(status) if status.identity == mine => tmpfile::unlink_at(directory.as_fd(), name).map_err(os),
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(errno::ENOENT) => Ok(()),
            Err(e) => Err(os(e)),
        }
    }

    /// Removes the link if nobody is attached and no message is left.
    pub(super) fn remove_if_ended(&self) -> Result<bool, Error> {
        // While one looks whether an unbounded link is drained, nobody may give its memory back.
        let steady = if self.engine.is_unbounded() && !self.engine.is_removed() {
            Some(self.lock(GROW_BYTE, Instant::now() + PATIENCE)?)
        } else {
            None
        };
        if !self.engine.try_remove() {
            drop(steady);
            self.give_back_left(); // somebody may have been refused the lock meanwhile
            return Ok(false);
        }
        self.remove_name(Instant::now() + PATIENCE).map(|()| true)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn link(&self) -> &Arc<str> {
        &self.link
    }

    /// Whether the caller runs in the process that opened the link.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation.is_current()
    }

    /// Removes a link by name. Without `force`, only if no live process is attached and it holds no message.
    pub(crate) fn unlink(address: &Spec, force: bool) -> Result<(), Error> {
        let tried = "remove";
        if address.private {
            return private::unlink(address, force);
        }
        let Some(directory) = Directory::open_existing()? else { return Err(missing(tried, &address.link())) };
        let Ok(region) = Self::find(directory, address)? else { return Err(missing(tried, &address.link())) };
        region.settle();
        region.end(force)
    }

    /// Ends the link: if nothing is in it, or by force.
    pub(crate) fn end(&self, force: bool) -> Result<(), Error> {
        if force {
            self.engine.remove();
            self.wake_all();
            return self.remove_name(Instant::now() + PATIENCE);
        }
        if self.remove_if_ended()? {
            return Ok(());
        }
        let census = self.engine.census();
        let error = Error::new(ErrorKind::InUse, "remove", self.link.to_string());
        let there = census.senders + census.receivers;
        let inside = match self.engine.layout().geometry().shape {
            Shape::Stream => format!("{} bytes", self.engine.bytes_waiting()),
            _ => format!("{} messages", self.engine.len_by(super::growth::peek(self.file.as_fd()))),
        };
        Err(error
            .problem(format!("{there} handles are open and {inside} are in it"))
            .remedy("receive and close, or add `--force` to lose them"))
    }

    /// Recovers the dead of a link and removes it if nothing is left in it. True if it was removed.
    pub(crate) fn tidy(address: &Spec) -> Result<(usize, bool), Error> {
        let Some(directory) = Directory::open_existing()? else { return Ok((0, false)) };
        let Ok(region) = Self::find(directory, address)? else { return Ok((0, false)) };
        let dead = region.reap();
        if region.remove_if_ended()? {
            return Ok((dead, true));
        }
        let census = region.engine.census();
        let Home::Directory(directory, _) = &region.home else { return Ok((dead, false)) };
        let abandoned = region.engine.layout().geometry().shape == Shape::Stream
            && census.senders + census.receivers == 0
            && !super::list::is_expected(directory, &address.name, &region.engine);
        if abandoned {
            region.end(true)?; // bytes that nobody will read
        }
        Ok((dead, abandoned))
    }

    /// The same for a link whose messages nobody can receive any more.
    pub(crate) fn tidy_by_force(address: &Spec) -> Result<(usize, bool), Error> {
        let Some(directory) = Directory::open_existing()? else { return Ok((0, false)) };
        let Ok(region) = Self::find(directory, address)? else { return Ok((0, false)) };
        let dead = region.reap();
        region.end(true)?;
        Ok((dead, true))
    }
}

impl Membership {
    /// Another participant of the same link, with the same mapping.
    pub(crate) fn another(&self, role: Role) -> Result<Self, Error> {
        let link = self.region.link.to_string();
        if !self.region.is_ours() {
            return Err(Error::new(ErrorKind::InUse, "clone a handle of", link)
                .problem("it belongs to the parent of this process")
                .remedy("open one of its own"));
        }
        self.region
            .enter(role)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "clone a handle of", link).problem("the link was removed"))
    }
}

impl Membership {
    /// Ends it before the handle goes, which does nothing with the link from now on.
    pub(crate) fn leave(&mut self) {
        if !self.region.is_ours() || self.token.is_none() {
            return; // the parent's, or over
        }
        self.region.engine.begin_leave(self.me);
        self.region.wake_all();
        self.region.engine.finish_leave(self.me);
        self.region.reap(); // the last survivor leaves nothing of the dead behind
        // An error leaves a link that the next opener uses, or `clean` collects.
        let _ = self.region.remove_if_ended();
        self.token = None;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Maps a link's file: the ring of a stream twice.
pub(crate) fn map(file: &OwnedFd, layout: &Layout, writable: bool) -> std::io::Result<Mapping> {
    match layout.stream_ring() {
        Some(ring) => Mapping::with_ring(file.as_fd(), layout.total_bytes(), ring, writable),
        None => Mapping::of_file(file.as_fd(), layout.total_bytes(), writable),
    }
}

/// The engine over a mapping, which the caller keeps at least as long.
#[allow(unsafe_code)] // Ties the engine to the mapping that is stored beside it.
pub(crate) fn engine(mapping: &Mapping, layout: Layout, asymmetric: bool) -> Engine {
    // SAFETY: the two owners of an engine, `Region` and `list::Snapshot`, keep the mapping in the same struct, never hand
    // the engine out by value, and drop it before the mapping.
    let memory = unsafe { Memory::new(mapping.base(), mapping.len()) };
    let heavy =
        if asymmetric { membarrier::global } else { || std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst) };
    Engine::new(memory, layout, asymmetric, heavy)
}

/// Checks that an open file is a link of this user's that this build can use.
pub(crate) fn check(
    tried: &'static str,
    directory: &Directory,
    name: &Name,
    file: &OwnedFd,
) -> Result<(Header, Layout), Error> {
    let path = shown(&directory.path().join(name.as_str()));
    let os = |e| Error::os(tried, path.clone(), e);
    let status = tmpfile::fstat(file.as_fd()).map_err(os)?;
    if status.kind != Kind::File {
        return Err(not_a_link(tried, directory, name, "it is not a regular file"));
    }
    if status.uid != process::user() {
        let error = Error::new(ErrorKind::PermissionDenied, tried, path);
        return Err(error
            .problem(format!("it belongs to user {}, not to you", status.uid))
            .remedy("choose another name, or have its owner remove it"));
    }
    if status.mode & 0o022 != 0 {
        return Err(not_a_link(tried, directory, name, "its mode lets others write to it"));
    }
    if status.links > 1 {
        return Err(not_a_link(tried, directory, name, "it has a second name"));
    }
    let mut bytes = [0; Header::BYTES];
    let read = tmpfile::read_at(file.as_fd(), &mut bytes, 0).map_err(os)?;
    Header::parse(&bytes[..read], status.bytes)
        .map_err(|e: HeaderError| not_a_link(tried, directory, name, &e.to_string()))
}

/// Opens what has a link's name. `None` if nothing has it.
pub(crate) fn open_file(
    tried: &'static str,
    directory: &Directory,
    name: &Name,
    link: &str,
    access: Access,
) -> Result<Option<OwnedFd>, Error> {
    let error = match tmpfile::open_at(directory.as_fd(), &name.to_cstring(), access) {
        Ok(file) => return Ok(Some(file)),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(errno::ENOENT) => Ok(None),
        Some(errno::ELOOP) => Err(not_a_link(tried, directory, name, "it is a symbolic link")),
        Some(errno::ENXIO) => Err(not_a_link(tried, directory, name, "it is a socket or FIFO")),
        _ if is_directory(directory, name) => Err(not_a_link(tried, directory, name, "it is a directory")),
        _ => Err(Error::os(tried, link, error)),
    }
}

/// There is no link of this name.
pub(crate) fn missing(tried: &'static str, link: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, tried, link).problem("there is no such link");
    error.remedy("`ginnel ls` lists those that are there")
}

fn is_directory(directory: &Directory, name: &Name) -> bool {
    let status = tmpfile::stat_at(directory.as_fd(), &name.to_cstring());
    status.is_ok_and(|status| status.kind == Kind::Directory)
}

fn not_a_link(tried: &'static str, directory: &Directory, name: &Name, problem: &str) -> Error {
    Error::new(ErrorKind::NotALink, tried, shown(&directory.path().join(name.as_str())))
        .problem(format!("this is not a link that this build can use: {problem}"))
        .remedy("choose another name, or remove that file yourself")
}

fn invalid_option(address: &Spec, e: &ginnel_core::GeometryError) -> Error {
    let Wanted { max, .. } = address.wanted;
    let remedy = match (e.option, e.rule) {
        ("memory", Rule::Between(least, _)) => {
            format!("max={} needs ?memory={least} at least", max.unwrap_or_default())
        }
        (option, Rule::Between(least, most)) => format!("write ?{option}= with a number from {least} to {most}"),
        (_, Rule::OfBroadcast) => "write ?shape=broadcast&full=cut-off, or another ?full=".to_owned(),
        (option, Rule::PowerOfTwo(below, above)) => format!("write ?{option}={below} or ?{option}={above}"),
        (option, Rule::NotWith(_)) => format!("leave ?{option}= out"),
        _ => String::new(),
    };
    Error::new(ErrorKind::InvalidOption, "create", address.link()).problem(e.to_string()).remedy(remedy)
}

fn no_space(directory: &Directory, address: &Spec, bytes: u64, e: std::io::Error) -> Error {
    let free = tmpfile::free_space(directory.as_fd()).map_or(0, |(free, _)| free);
    let path = shown(directory.path());
    Error::os("create", address.link(), e).problem(format!("it needs {bytes} bytes and {path} has {free} free")).remedy(
        "ask for less with ?capacity=, ?participants= and ?memory=, remount that file system with a larger size=, or set GINNEL_DIR to another",
    )
}

fn role_taken(link: &str, role: Role, there: u32, limit: u32) -> Error {
    let (option, what) = if role == Role::Sender { ("senders", "sender") } else { ("receivers", "receiver") };
    Error::new(ErrorKind::TooManyHandles, "open", link)
        .problem(format!("it was made with {option}={limit} and has {there} {what} open"))
        .remedy(format!("close that, or make the link anew without ?{option}="))
}

/// Whether it drops instead of waiting: its messages are copied out at once, so that a slow receiver holds nothing up. (A broadcast
/// does that by itself.)
pub(crate) fn drops_oldest(engine: &Engine) -> bool {
    engine.layout().geometry().full == Full::DropOldest && !engine.layout().is_broadcast()
}
