//! `mq:/name`: a POSIX message queue (`mq_overview(7)`). The kernel keeps messages whole and sorts them by priority; a message is in the queue or it is
//! not, whoever is killed. Who is there it does not know: see `presence`.

use super::presence::{Found, Presence};
use super::wait::{Ready, SOON};
use super::{About, Blocked, Nothing, not_there};
use crate::address::Address;
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::mqueue::{self, Access, Options, Queue, Shape};
use std::io;
use std::os::fd::AsFd;

/// Either end.
struct End {
    queue: Queue,
    name: String,
    link: String,
    presence: Presence,
    /// The queue, and news of peers.
    set: Epoll,
}

impl End {
    fn open(address: &Address, name: &str, mode: Mode, role: Role) -> Result<Self, Error> {
        let link = address.link();
        let (queue, presence) = Presence::join(&link, role, || queue(address, name, mode))?;
        Self::with(queue, name, &link, presence, role)
    }

    fn with(queue: Queue, name: &str, link: &str, presence: Presence, role: Role) -> Result<Self, Error> {
        let os = |e| Error::os("open", link, e);
        let set = Epoll::new().map_err(os)?;
        let interest = if role == Role::Sender { Interest::Write } else { Interest::Read };
        set.add(queue.as_fd(), interest, 0).map_err(os)?;
        if let Some(news) = presence.news() {
            set.add(news, Interest::Read, 1).map_err(os)?;
        }
        Ok(Self { queue, name: name.to_owned(), link: link.to_owned(), presence, set })
    }

    fn another(&self, role: Role) -> Result<Self, Error> {
        let queue = Queue::open(&self.name, access(role)).map_err(|e| Error::os("open", self.link.as_str(), e))?;
        Self::with(queue, &self.name, &self.link, self.presence.another()?, role)
    }

    fn ready(&self) -> Ready<'_> {
        if self.presence.is_unsettled() { Ready::Later(SOON) } else { Ready::Read(self.set.as_fd()) }
    }

    fn depth(&self) -> u64 {
        self.queue.attributes().map_or(0, |attributes| attributes.depth as u64)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let name = &self.name;
        self.presence.leave(|made| {
            // By its name: somebody may have removed this queue, and made another.
            let depth = Queue::open(name, Access::Both).and_then(|queue| queue.attributes());
            let empty = depth.map_or(true, |attributes| attributes.depth == 0);
            if empty && made {
                let _ = mqueue::unlink(name);
            }
            empty
        });
    }
}

fn access(role: Role) -> Access {
    if role == Role::Sender { Access::Send } else { Access::Receive }
}

/// Opens or makes the queue; says which.
fn queue(address: &Address, name: &str, mode: Mode) -> Result<(Queue, Found), Error> {
    let wanted = (address.wanted.capacity, address.wanted.max);
    if mode != Mode::Create {
        match Queue::open(name, Access::Both) {
            Ok(queue) => {
                agree(address, &queue)?;
                let depth = queue.attributes().map_err(|e| Error::os("open", address.link(), e))?.depth;
                return Ok((queue, if depth == 0 { Found::Empty } else { Found::Messages }));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_there(address, "queue")),
            Err(e) => return Err(Error::os("open", address.link(), e)),
        }
    }
    let shape = match wanted {
        (None, None) => None,
        (capacity, max) => {
            let limits = mqueue::limits();
            let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            Some(Shape {
                capacity: number(capacity.or(limits.msg_default).unwrap_or(10)),
                message_size: number(max.or(limits.msgsize_default).unwrap_or(8192)),
            })
        }
    };
    match Queue::create(name, Options { access: Access::Both, mode: 0o600, shape }) {
        Ok(queue) => Ok((queue, Found::Made)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && mode == Mode::Create => {
            let error = Error::new(ErrorKind::AlreadyExists, "create", address.link());
            Err(error.remedy(format!("open it instead, or remove it with `ginnel rm {}`", address.link())))
        }
        Err(e) => Err(Error::os("create", address.link(), e)),
    }
}

/// That a queue which is there is as it was asked for.
fn agree(address: &Address, queue: &Queue) -> Result<(), Error> {
    let is =
        [("capacity", address.wanted.capacity, queue.capacity()), ("max", address.wanted.max, queue.message_size())];
    for (option, wanted, is) in is {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != is as u64) {
            let error = Error::new(ErrorKind::Mismatch, "open", address.link());
            let problem = format!("it was made with {option}={is}, and {option}={wanted} was asked for");
            return Err(error.problem(problem).remedy("leave the option out, or remove the queue and make it anew"));
        }
    }
    Ok(())
}

/// Removes a queue.
pub(super) fn unlink(address: &Address, name: &str, force: bool) -> Result<(), Error> {
    let os = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "remove", address.link())
            .problem("there is no such queue")
            .remedy("`ginnel ls` lists those that are there"),
        _ => Error::os("remove", address.link(), e),
    };
    Presence::forget(&address.link(), || remove(address, name, force, os))
}

fn remove(address: &Address, name: &str, force: bool, os: impl Fn(io::Error) -> Error) -> Result<(), Error> {
    let queue = Queue::open(name, Access::Both).map_err(&os)?;
    let depth = queue.attributes().map_err(&os)?.depth;
    if depth > 0 && !force {
        return Err(Error::new(ErrorKind::InUse, "remove", address.link())
            .problem(format!("{depth} messages are in it"))
            .remedy("receive them, or add `--force` to lose them"));
    }
    mqueue::unlink(name).map_err(os)
}

/// The sending end.
pub(crate) struct Outlet {
    end: End,
    priority: u32,
    follow: bool,
}

impl Outlet {
    pub(super) fn open(address: &Address, name: &str, mode: Mode) -> Result<Self, Error> {
        if address.priority > mqueue::PRIORITY_MAX {
            return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
                .problem(format!("priority={} is above the limit {}", address.priority, mqueue::PRIORITY_MAX))
                .remedy(format!("write ?priority={} or less", mqueue::PRIORITY_MAX)));
        }
        let end = End::open(address, name, mode, Role::Sender)?;
        Ok(Self { end, priority: address.priority, follow: address.follow })
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { end: self.end.another(Role::Sender)?, priority: self.priority, follow: self.follow })
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        if message.len() > self.end.queue.message_size() {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max() }));
        }
        match self.end.queue.try_send(message, self.priority) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.follow && self.end.presence.peers_gone() => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other?),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        self.end.ready()
    }

    pub(super) fn max(&self) -> u64 {
        self.end.queue.message_size() as u64
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        ("capacity", self.end.queue.capacity() as u64)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end.presence.peers_gone()
    }

    pub(super) fn len(&self) -> u64 {
        self.end.depth()
    }
}

/// The receiving end.
pub(crate) struct Inlet {
    end: End,
}

impl Inlet {
    pub(super) fn open(address: &Address, name: &str, mode: Mode) -> Result<Self, Error> {
        Ok(Self { end: End::open(address, name, mode, Role::Receiver)? })
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { end: self.end.another(Role::Receiver)? })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        // Before the look: what the last sender sent before it left is seen by it.
        let gone = self.end.presence.peers_gone();
        message.resize(self.end.queue.message_size(), 0);
        match self.end.queue.try_receive(message) {
            Ok((len, priority)) => {
                message.truncate(len);
                Ok(About { tag: 0, priority })
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && gone => Err(Nothing::Ended),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        self.end.ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end.presence.peers_gone()
    }

    pub(super) fn len(&self) -> u64 {
        self.end.depth()
    }

    pub(super) fn capacity(&self) -> u64 {
        self.end.queue.capacity() as u64
    }
}
