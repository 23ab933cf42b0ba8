//! Links that the kernel carries: each address but `shm:` and `mem:`.
//!
//! A mechanism is a file here with an *outlet* (what a sender puts messages into), an *inlet* (what a receiver takes them from), or both. Each
//! has the same few methods: a try that never blocks, and what to wait for when that finds nothing to do. The waiting is here, once:
//! `poll(2)` on the mechanism's descriptor beside that of the handle's interrupter, until an absolute time.
//!
//! | file | mechanism | how messages are told apart |
//! |---|---|---|
//! | `pipe` | unnamed pipes, FIFOs | `frame` |
//! | `frame` | messages in a stream of bytes | |
//! | `wait` | waiting for a descriptor, or a little while | |

mod frame;
mod pipe;
mod receiver;
mod sender;
mod wait;

pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;

use crate::address::{Address, Target};
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::shm::Mode;
use ginnel_core::{Full, Role};
use std::io;
use wait::Ready;

/// Largest message where the mechanism sets no limit, in bytes, if the address does not say otherwise.
const MAX: u64 = 16 << 20;

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
            _ => Self::Failed(RecvFailure::Os(e.raw_os_error().unwrap_or_default())),
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
}

impl Outlet {
    fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        match &address.target {
            Target::Pipe(_) | Target::Fifo(_) => pipe::Outlet::open(address, mode).map(Self::Pipe),
            _ => Err(unsupported("use", address)),
        }
    }

    fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        match self {
            Self::Pipe(outlet) => outlet.try_send(tag, message),
        }
    }

    /// Sends on what it still has of a message that was accepted.
    fn flush(&self) -> Result<(), Blocked> {
        match self {
            Self::Pipe(outlet) => outlet.flush(),
        }
    }

    /// Waits once, for what it waits for.
    fn wait<R>(&self, run: impl FnOnce(Ready<'_>) -> R) -> R {
        match self {
            Self::Pipe(outlet) => outlet.wait(run),
        }
    }

    /// Largest message, in bytes.
    fn max(&self) -> u64 {
        match self {
            Self::Pipe(outlet) => outlet.max(),
        }
    }

    /// What it holds at most: the name of the limit, and its value.
    fn limit(&self) -> (&'static str, u64) {
        match self {
            Self::Pipe(outlet) => outlet.limit(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Pipe(outlet) => outlet.is_closed(),
        }
    }

    fn try_clone(&self, link: &str) -> Result<Self, Error> {
        match self {
            Self::Pipe(outlet) => outlet.try_clone(link).map(Self::Pipe),
        }
    }

    /// Messages, or bytes, in it now, if that can be known; 0 otherwise.
    fn len(&self) -> u64 {
        match self {
            Self::Pipe(outlet) => outlet.len(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Pipe(outlet) => outlet.is_full(),
        }
    }
}

/// Where a receiver's messages come from.
pub(crate) enum Inlet {
    Pipe(pipe::Inlet),
}

impl Inlet {
    fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        match &address.target {
            Target::Pipe(_) | Target::Fifo(_) => pipe::Inlet::open(address, mode).map(Self::Pipe),
            _ => Err(unsupported("use", address)),
        }
    }

    fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        match self {
            Self::Pipe(inlet) => inlet.try_recv(message),
        }
    }

    fn ready(&self) -> Ready<'_> {
        match self {
            Self::Pipe(inlet) => inlet.ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Pipe(inlet) => inlet.is_closed(),
        }
    }

    /// As an outlet's.
    fn len(&self) -> u64 {
        match self {
            Self::Pipe(inlet) => inlet.len(),
        }
    }

    fn capacity(&self) -> u64 {
        match self {
            Self::Pipe(inlet) => inlet.capacity(),
        }
    }

    fn try_clone(&self, link: &str) -> Result<Self, Error> {
        match self {
            Self::Pipe(inlet) => inlet.try_clone(link).map(Self::Pipe),
        }
    }
}

/// Where a second receiver would get pieces of the first one's messages.
pub(super) fn no_second_receiver(link: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "clone a receiver of", link)
        .problem("it has one receiver")
        .remedy("receive in one place, or use `shm:NAME`, which has any number of receivers")
}

/// Options that mean something for other links only.
fn check(address: &Address, role: Role) -> Result<(), Error> {
    if address.wanted.full == Some(Full::DropOldest) && role == Role::Sender {
        return Err(Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem("only a shared-memory link can drop the oldest message")
            .remedy("write ?full=block or ?full=reject, or use `shm:NAME?full=drop-oldest`"));
    }
    Ok(())
}

/// This cannot be done with this mechanism, or not yet.
pub(crate) fn unsupported(tried: &'static str, address: &Address) -> Error {
    Error::new(ErrorKind::Unsupported, tried, address.link())
        .problem("this build cannot do that with it yet")
        .remedy("use `shm:NAME`")
}

/// Removes what has a name.
pub(crate) fn unlink(address: &Address, _force: bool) -> Result<(), Error> {
    Err(unsupported("remove", address))
}
