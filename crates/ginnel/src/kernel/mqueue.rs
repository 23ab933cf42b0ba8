//! `mq:/name`: a POSIX message queue (`mq_overview(7)`). The kernel keeps messages whole and sorts them by priority; a message is in the queue or it is
//! not, whoever is killed. Who is there it does not know: see `presence`.

use super::book::{Book, Facts, Made};
use super::leftover;
use super::presence::{Opened, Presence, Rest};
use super::wait::{Ready, SOON};
use super::{About, Blocked, Nothing, not_there};
use crate::address::Address;
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::mqueue::{self, Access, Options, Queue, Shape};
use ginnel_os::tmpfile;
use std::io;
use std::os::fd::AsFd;

/// Either end.
pub(crate) struct End {
    queue: Queue,
    link: String,
    role: Role,
    presence: Presence,
    /// The queue, and news of peers.
    set: Epoll,
    priority: u32,
    follow: bool,
}

impl End {
    pub(super) fn open(address: &Address, name: &str, mode: Mode, role: Role) -> Result<Self, Error> {
        let link = address.link();
        if address.priority > mqueue::PRIORITY_MAX {
            return Err(Error::new(ErrorKind::InvalidOption, "open", link)
                .problem(format!("priority={} is above the limit {}", address.priority, mqueue::PRIORITY_MAX))
                .remedy(format!("write ?priority={} or less", mqueue::PRIORITY_MAX)));
        }
        let (queue, presence) = Presence::join(&link, role, |book| queue(address, name, mode, book))?;
        let set = set(&queue, &presence, role, &link)?;
        let (priority, follow) = (address.priority, address.follow);
        Ok(Self { queue, link, role, presence, set, priority, follow })
    }

    /// Another handle on the same queue, whatever has its name now.
    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let os = |e| Error::os("clone a handle of", self.link.as_str(), e);
        let queue = self.queue.as_fd().try_clone_to_owned().and_then(Queue::from_fd).map_err(os)?;
        let presence = self.presence.another()?;
        let set = set(&queue, &presence, self.role, &self.link)?;
        Ok(Self { queue, link: self.link.clone(), presence, set, ..*self })
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        if message.len() > self.queue.message_size() {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max() }));
        }
        match self.queue.try_send(message, self.priority) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.follow && self.is_closed() => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other?),
        }
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        // Before the look: what the last sender sent before it left is seen by it.
        let gone = self.is_closed();
        message.resize(self.queue.message_size(), 0);
        match self.queue.try_receive(message) {
            Ok((len, priority)) => {
                message.truncate(len);
                Ok(About { tag: 0, priority })
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && gone => Err(Nothing::Ended),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        if self.presence.is_unsettled() { Ready::Later(SOON) } else { Ready::Read(self.set.as_fd()) }
    }

    pub(super) fn max(&self) -> u64 {
        self.queue.message_size() as u64
    }

    pub(super) fn capacity(&self) -> u64 {
        self.queue.capacity() as u64
    }

    pub(super) fn is_closed(&self) -> bool {
        self.presence.peers_gone()
    }

    pub(super) fn len(&self) -> u64 {
        self.queue.attributes().map_or(0, |attributes| attributes.depth as u64)
    }
}

fn set(queue: &Queue, presence: &Presence, role: Role, link: &str) -> Result<Epoll, Error> {
    let os = |e| Error::os("open", link, e);
    let set = Epoll::new().map_err(os)?;
    let interest = if role == Role::Sender { Interest::Write } else { Interest::Read };
    set.add(queue.as_fd(), interest, 0).map_err(os)?;
    set.add(presence.news()?, Interest::Read, 1).map_err(os)?;
    Ok(set)
}

/// It is a file in the kernel's own file system.
fn facts(queue: &Queue) -> io::Result<Facts> {
    let (status, depth) = (tmpfile::fstat(queue.as_fd())?, queue.attributes()?.depth);
    Ok(Facts { identity: status.identity, changed_s: status.changed_s, messages: depth as u64 })
}

/// Ends the queue that nobody of ginnel uses any more.
pub(super) fn end(name: &str, made: Made, dry_run: bool) -> Rest {
    let found = Queue::open(name, Access::Both).and_then(|queue| facts(&queue));
    leftover::end_object(found, made, dry_run, || mqueue::unlink(name))
}

/// Opens or makes the queue.
fn queue(address: &Address, name: &str, mode: Mode, book: &Book) -> Result<Opened<Queue>, Error> {
    let os = |e| Error::os("open", address.link(), e);
    let wanted = (address.wanted.capacity, address.wanted.max);
    if mode != Mode::Create {
        match Queue::open(name, Access::Both) {
            Ok(queue) => {
                agree(address, &queue)?;
                let facts = facts(&queue).map_err(os)?;
                let made = book.record().made.of(&facts);
                return Ok(Opened { object: queue, holds: facts.messages > 0, made });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_there(address, "queue")),
            Err(e) => return Err(os(e)),
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
    book.announce().map_err(os)?;
    match Queue::create(name, Options { access: Access::Both, mode: 0o600, shape }) {
        Ok(queue) => {
            let made = Made::This(facts(&queue).map_err(os)?.identity);
            Ok(Opened { object: queue, holds: false, made })
        }
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
