//! `sysv:KEY`: a System V message queue (`sysvipc(7)`, `msgop(2)`). A message's type is its tag + 1, so that untagged ones have the type 1 that most
//! programs use. There is no descriptor to wait for: a handle that finds nothing sleeps on a word that users of ginnel wake (see `bell`), and looks
//! again every 20 ms, for other programs and for deaths. Who is there the kernel does not know: see `presence`.

use super::bell::Bell;
use super::book::{Book, Facts, Made};
use super::leftover;
use super::presence::{Opened, Presence, Rest};
use super::wait::Ready;
use super::{About, Blocked, Nothing, not_there};
use crate::address::{Address, Key};
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::sysv_ipc;
use ginnel_os::sysv_mq::{self, Buffer, Overlong, Queue, Stat, Which};
use std::cell::RefCell;
use std::io;
use std::time::SystemTime;

/// Either end.
pub(crate) struct End {
    queue: Queue,
    link: String,
    role: Role,
    presence: Presence,
    bell: Bell,
    buffer: RefCell<Buffer>,
    bytes_max: u64,
    /// The largest message that was asked for.
    wanted: Option<u64>,
    follow: bool,
}

impl End {
    pub(super) fn open(address: &Address, key: &Key, mode: Mode, role: Role) -> Result<Self, Error> {
        let link = address.link();
        let key = kernel_key(key).map_err(|e| Error::os("open", link.as_str(), e))?;
        let (queue, presence) =
            Presence::join(&presence_name(key.number()), role, |book| queue(address, key, mode, book))?;
        let (bell, buffer, bytes_max) =
            parts(queue, &presence, role).map_err(|e| Error::os("open", link.as_str(), e))?;
        let (wanted, follow) = (address.wanted.max, address.follow);
        let end = Self { queue, link, role, presence, bell, buffer, bytes_max, wanted, follow };
        end.check_max()?;
        Ok(end)
    }

    fn check_max(&self) -> Result<(), Error> {
        let longest = self.buffer.borrow().capacity() as u64;
        match self.wanted.filter(|max| self.role == Role::Sender && *max > longest) {
            Some(max) => Err(Error::new(ErrorKind::InvalidOption, "open", self.link.as_str())
                .problem(format!("max={max} is above {longest}, the most that kernel.msgmax and the queue allow"))
                .remedy(format!("raise it with `sysctl kernel.msgmax={max} kernel.msgmnb={max}`, or leave ?max= out"))),
            None => Ok(()),
        }
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let (presence, link) = (self.presence.another()?, self.link.clone());
        let parts = parts(self.queue, &presence, self.role);
        let (bell, buffer, bytes_max) = parts.map_err(|e| Error::os("clone a handle of", link.as_str(), e))?;
        Ok(Self { presence, link, bell, buffer, bytes_max, ..*self })
    }

    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        if message.len() as u64 > self.max() {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max() }));
        }
        let mut buffer = self.buffer.borrow_mut();
        buffer.set(i64::from(tag) + 1, message)?;
        match self.queue.try_send(&buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.follow && self.is_closed() => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => {
                other?;
                self.bell.ring();
                Ok(())
            }
        }
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        // Before the look: what the last sender sent before it left is seen by it.
        let gone = self.is_closed();
        let mut buffer = self.buffer.borrow_mut();
        match self.queue.try_receive(&mut buffer, Which::Any, Overlong::Refuse) {
            Ok(()) => {
                self.bell.ring();
                message.clear();
                message.extend_from_slice(buffer.bytes());
                let tag = u16::try_from(buffer.kind() - 1).unwrap_or(0);
                Ok(About { tag, priority: 0 })
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && gone => Err(Nothing::Ended),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Bell(self.bell.word())
    }

    pub(super) fn max(&self) -> u64 {
        let longest = self.buffer.try_borrow().map_or(0, |buffer| buffer.capacity() as u64);
        self.wanted.unwrap_or(u64::MAX).min(longest)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn is_closed(&self) -> bool {
        self.presence.peers_gone()
    }

    pub(super) fn len(&self) -> u64 {
        self.queue.stat().map_or(0, |stat| stat.depth)
    }
}

fn parts(queue: Queue, presence: &Presence, role: Role) -> io::Result<(Bell, RefCell<Buffer>, u64)> {
    let bytes_max = queue.stat()?.bytes_max.unwrap_or(u64::MAX);
    let longest = sysv_mq::limits().message_bytes_max.unwrap_or(bytes_max).min(bytes_max);
    let buffer = Buffer::new(usize::try_from(longest).unwrap_or(usize::MAX))?;
    Ok((Bell::of(presence, role)?, RefCell::new(buffer), bytes_max))
}

/// An id alone is given again: to the first queue after a start of the machine, or in another name space, for example.
fn facts(stat: &Stat) -> Facts {
    let changed = stat.change_time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let changed_s = changed.map_or(0, |since| since.as_secs());
    let id = u64::try_from(stat.queue.id()).unwrap_or_default();
    Facts { identity: (id, changed_s), changed_s, messages: stat.depth }
}

/// Ends the queue that nobody of ginnel uses any more.
pub(super) fn end(key: i32, made: Made, dry_run: bool) -> Rest {
    match Queue::open(sysv_ipc::Key::new(key)) {
        Ok(queue) => leftover::end_object(queue.stat().map(|stat| facts(&stat)), made, dry_run, || queue.remove()),
        Err(e) => leftover::end_object(Err(e), made, dry_run, || Ok(())),
    }
}

fn kernel_key(key: &Key) -> io::Result<sysv_ipc::Key> {
    match key {
        Key::Number(number) => Ok(sysv_ipc::Key::new(*number)),
        Key::File(path, id) => sysv_ipc::Key::from_path(path, *id),
    }
}

/// The same, whether the address gives the key or a file.
fn presence_name(key: i32) -> String {
    format!("sysv:{key}")
}

/// Opens or makes the queue, with as much room as was asked for.
fn queue(address: &Address, key: sysv_ipc::Key, mode: Mode, book: &Book) -> Result<Opened<Queue>, Error> {
    let os = |e| Error::os("open", address.link(), e);
    if address.wanted.memory == Some(0) {
        return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem("memory=0 leaves no room for any message")
            .remedy("leave it out, or give it the bytes of a few messages"));
    }
    let (queue, is_new) = find_or_make(address, key, mode, book)?;
    let was = facts(&queue.stat().map_err(os)?);
    let made = if is_new { Made::This(was.identity) } else { book.record().made.of(&was) };
    let Some(bytes) = address.wanted.memory else {
        return Ok(Opened { object: queue, holds: was.messages > 0, made });
    };
    // It is told by the time of its last change, which this is.
    let set = queue.set_bytes_max(bytes).and_then(|()| queue.stat());
    if set.is_err() && is_new {
        let _ = queue.remove();
    }
    let is = facts(&set.map_err(os)?);
    let made = if made == Made::Nothing { made } else { Made::This(is.identity) };
    Ok(Opened { object: queue, holds: is.messages > 0, made })
}

/// Also whether it was made.
fn find_or_make(address: &Address, key: sysv_ipc::Key, mode: Mode, book: &Book) -> Result<(Queue, bool), Error> {
    if mode != Mode::Create {
        match Queue::open(key) {
            Ok(queue) => return Ok((queue, false)),
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_there(address, "queue")),
            Err(e) => return Err(Error::os("open", address.link(), e)),
        }
    }
    book.announce().map_err(|e| Error::os("create", address.link(), e))?;
    match Queue::create(key, 0o600) {
        Ok(queue) => Ok((queue, true)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let error = Error::new(ErrorKind::AlreadyExists, "create", address.link());
            Err(error.remedy(format!("open it instead, or remove it with `ginnel rm {}`", address.link())))
        }
        Err(e) => Err(Error::os("create", address.link(), e)),
    }
}

/// Removes a queue.
pub(super) fn unlink(address: &Address, key: &Key, force: bool) -> Result<(), Error> {
    let os = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "remove", address.link())
            .problem("there is no such queue")
            .remedy("`ginnel ls` lists those that are there"),
        _ => Error::os("remove", address.link(), e),
    };
    let key = kernel_key(key).map_err(os)?;
    Presence::forget(&presence_name(key.number()), || remove(address, key, force, os))
}

fn remove(address: &Address, key: sysv_ipc::Key, force: bool, os: impl Fn(io::Error) -> Error) -> Result<(), Error> {
    let queue = Queue::open(key).map_err(&os)?;
    let depth = queue.stat().map_err(&os)?.depth;
    if depth > 0 && !force {
        return Err(Error::new(ErrorKind::InUse, "remove", address.link())
            .problem(format!("{depth} messages are in it"))
            .remedy("receive them, or add `--force` to lose them"));
    }
    queue.remove().map_err(os)
}
