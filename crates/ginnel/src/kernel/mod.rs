//! Links that the kernel carries: each address but `shm:` and `mem:`.
//!
//! A mechanism is a file here with an *outlet* (what a sender puts messages into), an *inlet* (what a receiver takes them from), or, for a queue, one *end* that is
//! either. Each has the same few methods: a try that never blocks, and what to wait for when that finds nothing to do. The waiting is here, once:
//! `poll(2)` on the mechanism's descriptor beside that of the handle's interrupter, until an absolute time.
//!
//! | file | mechanism | how messages are told apart |
//! |---|---|---|
//! | `pipe` | unnamed pipes, FIFOs | `frame` |
//! | `stream` | stream sockets: Unix, TCP | `frame` |
//! | `packet` | Unix seqpacket and datagram sockets | by the kernel |
//! | `datagram` | UDP | by the kernel |
//! | `mqueue` | POSIX message queues | by the kernel |
//! | `sysv` | System V message queues | by the kernel |
//! | `signal` | real-time signals with a value | by the kernel |
//!
//! What they share: `frame` (messages in a stream of bytes), `endpoint` (names of sockets), `presence` (who is there, where the kernel does not know) over
//! `book` (the file that says so), `peer` (the process at the other end of a connection), `wait`, and `bell` (waking who has no descriptor to wait for). `leftover` ends what crashes left.

mod bell;
mod book;
mod datagram;
mod endpoint;
mod frame;
mod leftover;
mod mqueue;
mod packet;
mod peer;
mod pipe;
mod presence;
mod receiver;
mod sender;
mod signal;
mod stream;
mod sysv;
mod wait;

pub(crate) use book::FOLDER;
pub(crate) use leftover::clean;
pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;

use crate::address::{Address, Place, SocketType, Target};
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_core::{Full, MESSAGE_MAX, Role};
use std::io;
use stream::To;
use wait::Ready;

/// Largest message where the mechanism sets no limit, in bytes, if the address does not say otherwise.
const MAX: u64 = 16 << 20;

/// The limit that is met where nobody receives yet.
const NOBODY: (&str, u64) = ("receivers", 0);

/// What a try to send ran into.
pub(crate) enum Blocked {
    /// No room, or nobody there yet: see `ready`.
    Full,
    /// Not worth waiting for.
    Failed(SendFailure),
}

impl From<io::Error> for Blocked {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Full,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Failed(SendFailure::Closed { died: 0 }),
            _ => Self::Failed(SendFailure::Os(e)),
        }
    }
}

/// What a try to receive ran into.
pub(crate) enum Nothing {
    /// Nothing there yet: see `ready`.
    Empty,
    /// The last sender has left.
    Ended,
    /// Not worth waiting for.
    Failed(RecvFailure),
    /// One of several senders sent what is no message, and was cut off. The others go on.
    CutOff(RecvFailure),
}

impl From<io::Error> for Nothing {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Empty,
            _ => Self::Failed(RecvFailure::of_os(&e)),
        }
    }
}

impl From<frame::Malformed> for Nothing {
    fn from(malformed: frame::Malformed) -> Self {
        Self::Failed(RecvFailure::Malformed { len: malformed.len })
    }
}

/// What is known of a message besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About {
    pub(crate) tag: u16,
    pub(crate) priority: u32,
}

/// Where a sender's messages go.
pub(crate) enum Outlet {
    Pipe(pipe::Outlet),
    Stream(stream::Outlet),
    Packet(packet::Outlet),
    Mq(mqueue::End),
    Sysv(sysv::End),
    Signal(signal::Outlet),
    Datagram(datagram::Outlet),
}

impl Outlet {
    fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        match &address.target {
            Target::Pipe(_) | Target::Fifo(_) => pipe::Outlet::open(address, mode).map(Self::Pipe),
            Target::Unix(place) if address.socket == SocketType::Stream => {
                stream::Outlet::open(address, &To::Unix(place), mode).map(Self::Stream)
            }
            Target::Tcp(host) => stream::Outlet::open(address, &To::Tcp(host), mode).map(Self::Stream),
            Target::Udp(host) => datagram::Outlet::open(address, host, mode).map(Self::Datagram),
            Target::Unix(place) => packet::Outlet::open(address, place, mode).map(Self::Packet),
            Target::Mq(name) => mqueue::End::open(address, name, mode, Role::Sender).map(Self::Mq),
            Target::Sysv(key) => sysv::End::open(address, key, mode, Role::Sender).map(Self::Sysv),
            Target::Signal(pid) => signal::Outlet::open(address, *pid, mode).map(Self::Signal),
            _ => Err(unsupported("use", address)),
        }
    }

    fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        match self {
            Self::Pipe(outlet) => outlet.try_send(tag, message),
            Self::Stream(outlet) => outlet.try_send(tag, message),
            Self::Packet(outlet) => outlet.try_send(message),
            Self::Mq(outlet) => outlet.try_send(message),
            Self::Sysv(outlet) => outlet.try_send(tag, message),
            Self::Signal(outlet) => outlet.try_send(message),
            Self::Datagram(outlet) => outlet.try_send(message),
        }
    }

    /// Whether a part of a message was written.
    fn has_begun(&self) -> bool {
        match self {
            Self::Pipe(outlet) => outlet.has_begun(),
            Self::Stream(outlet) => outlet.has_begun(),
            _ => false,
        }
    }

    /// Goes on with the message that was begun.
    fn flush(&self) -> Result<(), Blocked> {
        match self {
            Self::Pipe(outlet) => outlet.flush(),
            Self::Stream(outlet) => outlet.flush(),
            Self::Packet(_) | Self::Mq(_) | Self::Sysv(_) | Self::Signal(_) | Self::Datagram(_) => Ok(()),
        }
    }

    /// Waits once, for what it waits for.
    fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match self {
            Self::Pipe(outlet) => outlet.wait(run),
            Self::Stream(outlet) => outlet.wait(run),
            Self::Packet(outlet) => outlet.wait(run),
            Self::Mq(outlet) => run(outlet.ready()),
            Self::Sysv(outlet) => run(outlet.ready()),
            Self::Signal(outlet) => run(outlet.ready()),
            Self::Datagram(outlet) => run(outlet.ready()),
        }
    }

    /// Largest message, in bytes.
    fn max(&self) -> u64 {
        match self {
            Self::Pipe(outlet) => outlet.max(),
            Self::Stream(outlet) => outlet.max(),
            Self::Packet(outlet) => outlet.max(),
            Self::Mq(outlet) => outlet.max(),
            Self::Sysv(outlet) => outlet.max(),
            Self::Signal(outlet) => outlet.max(),
            Self::Datagram(outlet) => outlet.max(),
        }
    }

    /// What it holds at most: the name of the limit, and its value.
    fn limit(&self) -> (&'static str, u64) {
        match self {
            Self::Pipe(outlet) => outlet.limit(),
            Self::Stream(outlet) => outlet.limit(),
            Self::Packet(outlet) => outlet.limit(),
            Self::Mq(outlet) => ("capacity", outlet.capacity()),
            Self::Sysv(outlet) => ("memory", outlet.capacity()),
            Self::Signal(outlet) => outlet.limit(),
            Self::Datagram(outlet) => outlet.limit(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Pipe(outlet) => outlet.is_closed(),
            Self::Stream(outlet) => outlet.is_closed(),
            Self::Packet(outlet) => outlet.is_closed(),
            Self::Mq(outlet) => outlet.is_closed(),
            Self::Sysv(outlet) => outlet.is_closed(),
            Self::Signal(outlet) => outlet.is_closed(),
            Self::Datagram(_) => false,
        }
    }

    /// Its user leaves: its peer is told, though a forked child has a copy of the descriptor.
    fn hang_up(&self) {
        match self {
            Self::Stream(outlet) => outlet.hang_up(),
            Self::Packet(outlet) => outlet.hang_up(),
            Self::Pipe(_) | Self::Mq(_) | Self::Sysv(_) | Self::Signal(_) | Self::Datagram(_) => {}
        }
    }

    /// Messages that it sent and that nobody received.
    fn dropped(&self) -> u64 {
        match self {
            Self::Datagram(outlet) => outlet.dropped(),
            _ => 0,
        }
    }

    /// Messages in it now, if the mechanism counts them; 0 otherwise.
    fn len(&self) -> u64 {
        match self {
            Self::Pipe(_) | Self::Stream(_) | Self::Packet(_) | Self::Signal(_) | Self::Datagram(_) => 0,
            Self::Mq(outlet) => outlet.len(),
            Self::Sysv(outlet) => outlet.len(),
        }
    }

    fn try_clone(&self, link: &str) -> Result<Self, Error> {
        Ok(match self {
            Self::Pipe(outlet) => Self::Pipe(outlet.try_clone(link)?),
            Self::Stream(outlet) => Self::Stream(outlet.try_clone()),
            Self::Packet(outlet) => Self::Packet(outlet.try_clone()?),
            Self::Mq(outlet) => Self::Mq(outlet.try_clone()?),
            Self::Sysv(outlet) => Self::Sysv(outlet.try_clone()?),
            Self::Signal(outlet) => Self::Signal(outlet.try_clone()?),
            Self::Datagram(outlet) => Self::Datagram(outlet.try_clone(link)?),
        })
    }
}

/// Where a receiver's messages come from.
pub(crate) enum Inlet {
    Pipe(pipe::Inlet),
    Stream(stream::Inlet),
    Packet(packet::Inlet),
    Mq(mqueue::End),
    Sysv(sysv::End),
    Signal(signal::Inlet),
    Datagram(datagram::Inlet),
}

impl Inlet {
    fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        match &address.target {
            Target::Pipe(_) | Target::Fifo(_) => pipe::Inlet::open(address, mode).map(Self::Pipe),
            Target::Unix(place) if address.socket == SocketType::Stream => {
                stream::Inlet::open(address, &To::Unix(place), mode).map(Self::Stream)
            }
            Target::Tcp(host) => stream::Inlet::open(address, &To::Tcp(host), mode).map(Self::Stream),
            Target::Udp(host) => datagram::Inlet::open(address, host, mode).map(Self::Datagram),
            Target::Unix(place) => packet::Inlet::open(address, place, mode).map(Self::Packet),
            Target::Mq(name) => mqueue::End::open(address, name, mode, Role::Receiver).map(Self::Mq),
            Target::Sysv(key) => sysv::End::open(address, key, mode, Role::Receiver).map(Self::Sysv),
            Target::Signal(pid) => signal::Inlet::open(address, *pid).map(Self::Signal),
            _ => Err(unsupported("use", address)),
        }
    }

    fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        match self {
            Self::Pipe(inlet) => inlet.try_recv(message),
            Self::Stream(inlet) => inlet.try_recv(message),
            Self::Packet(inlet) => inlet.try_recv(message),
            Self::Mq(inlet) => inlet.try_recv(message),
            Self::Sysv(inlet) => inlet.try_recv(message),
            Self::Signal(inlet) => inlet.try_recv(message),
            Self::Datagram(inlet) => inlet.try_recv(message),
        }
    }

    fn ready(&self) -> Ready<'_> {
        match self {
            Self::Pipe(inlet) => inlet.ready(),
            Self::Stream(inlet) => inlet.ready(),
            Self::Packet(inlet) => inlet.ready(),
            Self::Mq(inlet) => inlet.ready(),
            Self::Sysv(inlet) => inlet.ready(),
            Self::Signal(inlet) => inlet.ready(),
            Self::Datagram(inlet) => inlet.ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Pipe(inlet) => inlet.is_closed(),
            Self::Stream(inlet) => inlet.is_closed(),
            Self::Packet(inlet) => inlet.is_closed(),
            Self::Mq(inlet) => inlet.is_closed(),
            Self::Sysv(inlet) => inlet.is_closed(),
            Self::Signal(inlet) => inlet.is_closed(),
            Self::Datagram(_) => false,
        }
    }

    /// Messages that the kernel threw away because this end was too slow.
    fn dropped(&self) -> u64 {
        match self {
            Self::Datagram(inlet) => inlet.dropped(),
            _ => 0,
        }
    }

    /// As an outlet's.
    fn len(&self) -> u64 {
        match self {
            Self::Pipe(_) | Self::Stream(_) | Self::Packet(_) | Self::Signal(_) | Self::Datagram(_) => 0,
            Self::Mq(inlet) => inlet.len(),
            Self::Sysv(inlet) => inlet.len(),
        }
    }

    fn capacity(&self) -> u64 {
        match self {
            Self::Pipe(inlet) => inlet.capacity(),
            Self::Stream(_) | Self::Packet(_) | Self::Datagram(_) => 0,
            Self::Mq(inlet) => inlet.capacity(),
            Self::Sysv(inlet) => inlet.capacity(),
            Self::Signal(inlet) => inlet.capacity(),
        }
    }

    fn try_clone(&self, link: &str) -> Result<Self, Error> {
        match self {
            Self::Mq(inlet) => inlet.try_clone().map(Self::Mq),
            Self::Sysv(inlet) => inlet.try_clone().map(Self::Sysv),
            _ => Err(no_second_receiver(link)),
        }
    }
}

/// Where a second receiver would get pieces of the first one's messages.
pub(super) fn no_second_receiver(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "clone a receiver of", link)
        .problem("it has one receiver")
        .remedy("receive in one place, or use `shm:NAME`, which has any number of receivers")
}

/// It has no descriptor that a child could use in its place.
pub(crate) fn no_stdio(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "hand over", link)
        .problem("only a pipe can be a child's standard input or output")
        .remedy("give the child the address instead")
}

/// Options that mean something for other links only.
fn check(address: &Address, role: Role) -> Result<(), Error> {
    if let Some(max) = address.wanted.max.filter(|max| !(1..=MESSAGE_MAX).contains(max)) {
        return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem(format!("max={max} is not from 1 to {MESSAGE_MAX}"))
            .remedy(format!("write ?max= with a number from 1 to {MESSAGE_MAX}")));
    }
    if address.wanted.full == Some(Full::DropOldest) && role == Role::Sender {
        return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem("only a shared-memory link can drop the oldest message")
            .remedy("write ?full=block or ?full=reject, or use `shm:NAME?full=drop-oldest`"));
    }
    if let Some(max) = address.wanted.max.filter(|max| *max > u64::from(u32::MAX)) {
        return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem(format!("max={max} is above the limit {}", u32::MAX))
            .remedy(format!("write ?max={} or less, and send what is longer in parts", u32::MAX)));
    }
    Ok(())
}

/// What is to be found is not there.
fn not_there(address: &Address, what: &str) -> Error {
    Error::new(ErrorKind::NotFound, "open", address.link())
        .problem(format!("there is no such {what}"))
        .remedy("`ginnel ls` lists those that are there; `open` and `create` make one, if its directory is there")
}

/// This cannot be done with this mechanism.
pub(crate) fn unsupported(tried: &'static str, address: &Address) -> Error {
    let (problem, remedy) = match &address.target {
        Target::Signal(_) => ("a process is no link", "`ginnel ps PID` shows what it has"),
        Target::Pipe(_) => ("a pipe has no name", "`ginnel ls --only pipe` shows all, with numbers such as pipe:[17]"),
        Target::Unix(Place::Abstract(_)) => ("an abstract name goes with its socket", "end its receiver"),
        Target::Tcp(_) | Target::Udp(_) => ("only its receiver has it", "`ss -tuap` shows which process that is"),
        _ => ("the library shows links in shared memory only", "`ginnel info` looks at all"),
    };
    Error::new(ErrorKind::Unsupported, tried, address.link()).problem(problem).remedy(remedy)
}

/// Removes what has a name.
pub(crate) fn unlink(address: &Address, force: bool) -> Result<(), Error> {
    match &address.target {
        Target::Mq(name) => mqueue::unlink(address, name, force),
        Target::Sysv(key) => sysv::unlink(address, key, force),
        Target::Fifo(path) => pipe::unlink(address, path, force),
        Target::Unix(Place::Path(path)) => endpoint::unlink(address, path, force),
        _ => Err(unsupported("remove", address)),
    }
}
