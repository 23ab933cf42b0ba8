//! `sysv:KEY`: a System V message queue (`sysvipc(7)`, `msgop(2)`). A message's type is its tag + 1, so that untagged ones have the type 1 that most
//! programs use. There is no descriptor to wait for: a handle that finds nothing looks again after a nap of up to 2 ms. Who is there the
//! kernel does not know: see `presence`.

use super::presence::{Found, Presence};
use super::wait::{Ready, SOON};
use super::{About, Blocked, Nothing, not_there};
use crate::address::{Address, Key};
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::sysv_ipc;
use ginnel_os::sysv_mq::{self, Buffer, Overlong, Queue, Which};
use std::cell::RefCell;
use std::io;

/// Either end.
struct End {
    queue: Queue,
    link: String,
    presence: Presence,
    buffer: RefCell<Buffer>,
    bytes_max: u64,
}

impl End {
    fn open(address: &Address, key: &Key, mode: Mode, role: Role) -> Result<Self, Error> {
        let link = address.link();
        let key = kernel_key(key).map_err(|e| Error::os("open", link.as_str(), e))?;
        let (queue, presence) = Presence::join(&presence_name(key), role, || queue(address, key, mode))?;
        if let Some(bytes) = address.wanted.memory {
            queue.set_bytes_max(bytes).map_err(|e| Error::os("open", link.as_str(), e))?;
        }
        Self::with(queue, &link, presence)
    }

    fn with(queue: Queue, link: &str, presence: Presence) -> Result<Self, Error> {
        let os = |e| Error::os("open", link, e);
        let bytes_max = queue.stat().map_err(os)?.bytes_max.unwrap_or(u64::MAX);
        let longest = sysv_mq::limits().message_bytes_max.unwrap_or(bytes_max).min(bytes_max);
        let buffer = Buffer::new(usize::try_from(longest).unwrap_or(usize::MAX)).map_err(os)?;
        Ok(Self { queue, link: link.to_owned(), presence, buffer: RefCell::new(buffer), bytes_max })
    }

    fn another(&self) -> Result<Self, Error> {
        Self::with(self.queue, &self.link, self.presence.another()?)
    }

    fn depth(&self) -> u64 {
        self.queue.stat().map_or(0, |stat| stat.depth)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let queue = self.queue;
        self.presence.leave(|made| {
            let empty = queue.stat().map_or(true, |stat| stat.depth == 0); // or somebody removed it
            if empty && made {
                let _ = queue.remove();
            }
            empty
        });
    }
}

fn kernel_key(key: &Key) -> io::Result<sysv_ipc::Key> {
    match key {
        Key::Number(number) => Ok(sysv_ipc::Key::new(*number)),
        Key::File(path, id) => sysv_ipc::Key::from_path(path, *id),
    }
}

/// The same, whether the address gives the key or a file.
fn presence_name(key: sysv_ipc::Key) -> String {
    format!("sysv:{}", key.number())
}

/// Opens or makes the queue; says which.
fn queue(address: &Address, key: sysv_ipc::Key, mode: Mode) -> Result<(Queue, Found), Error> {
    if mode != Mode::Create {
        match Queue::open(key) {
            Ok(queue) => {
                let depth = queue.stat().map_err(|e| Error::os("open", address.link(), e))?.depth;
                return Ok((queue, if depth == 0 { Found::Empty } else { Found::Messages }));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_there(address, "queue")),
            Err(e) => return Err(Error::os("open", address.link(), e)),
        }
    }
    match Queue::create(key, 0o600) {
        Ok(queue) => Ok((queue, Found::Made)),
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
    Presence::forget(&presence_name(key), || remove(address, key, force, os))
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

/// The sending end.
pub(crate) struct Outlet {
    end: End,
    follow: bool,
    max: Option<u64>,
}

impl Outlet {
    pub(super) fn open(address: &Address, key: &Key, mode: Mode) -> Result<Self, Error> {
        let end = End::open(address, key, mode, Role::Sender)?;
        let longest = end.buffer.borrow().capacity() as u64;
        if let Some(max) = address.wanted.max.filter(|max| *max > longest) {
            return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
                .problem(format!("max={max} is above {longest}, the most that kernel.msgmax and the queue allow"))
                .remedy(format!(
                    "raise it with `sysctl kernel.msgmax={max} kernel.msgmnb={max}`, or leave ?max= out"
                )));
        }
        Ok(Self { end, follow: address.follow, max: address.wanted.max })
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { end: self.end.another()?, follow: self.follow, max: self.max })
    }

    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        if message.len() as u64 > self.max() {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max() }));
        }
        let mut buffer = self.end.buffer.borrow_mut();
        buffer.set(i64::from(tag) + 1, message)?;
        match self.end.queue.try_send(&buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.follow && self.end.presence.peers_gone() => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other?),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Later(SOON)
    }

    pub(super) fn max(&self) -> u64 {
        let longest = self.end.buffer.try_borrow().map_or(0, |buffer| buffer.capacity() as u64);
        self.max.unwrap_or(u64::MAX).min(longest)
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        ("memory", self.end.bytes_max)
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
    pub(super) fn open(address: &Address, key: &Key, mode: Mode) -> Result<Self, Error> {
        Ok(Self { end: End::open(address, key, mode, Role::Receiver)? })
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { end: self.end.another()? })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        // Before the look: what the last sender sent before it left is seen by it.
        let gone = self.end.presence.peers_gone();
        let mut buffer = self.end.buffer.borrow_mut();
        match self.end.queue.try_receive(&mut buffer, Which::Any, Overlong::Refuse) {
            Ok(()) => {
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
        Ready::Later(SOON)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end.presence.peers_gone()
    }

    pub(super) fn len(&self) -> u64 {
        self.end.depth()
    }

    pub(super) fn capacity(&self) -> u64 {
        self.end.bytes_max
    }
}
