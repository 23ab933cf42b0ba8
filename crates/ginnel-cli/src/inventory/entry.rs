//! What there is to say of an object, whatever its mechanism.

use serde_json::Value;
use std::time::SystemTime;

/// What kind of object. The names are those of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Mechanism {
    /// Links of ginnel
    Shm,
    /// POSIX message queues
    Mq,
    /// System V message queues
    Sysv,
    /// Sets of System V semaphores
    SysvSem,
    /// System V shared memory
    SysvShm,
    /// POSIX semaphores with names
    Sem,
    /// POSIX shared memory with names
    PosixShm,
    /// Pipes with names
    Fifo,
    /// Unix-domain sockets
    Unix,
    /// Pipes
    Pipe,
    /// Memory files without names
    Memfd,
    /// Shared memory of a process and its children
    Anonymous,
    /// Files that are mapped shared and writable
    File,
    /// Counters that can be waited for
    Eventfd,
    /// Sets of descriptors that are waited for together
    Epoll,
    /// Signals that are read
    Signalfd,
    /// Sockets of other families, or of other network namespaces
    Socket,
}

impl Mechanism {
    /// As `--only` and addresses write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Mq => "mq",
            Self::Sysv => "sysv",
            Self::SysvSem => "sysv-sem",
            Self::SysvShm => "sysv-shm",
            Self::Sem => "sem",
            Self::PosixShm => "posix-shm",
            Self::Fifo => "fifo",
            Self::Unix => "unix",
            Self::Pipe => "pipe",
            Self::Memfd => "memfd",
            Self::Anonymous => "anonymous",
            Self::File => "file",
            Self::Eventfd => "eventfd",
            Self::Epoll => "epoll",
            Self::Signalfd => "signalfd",
            Self::Socket => "socket",
        }
    }

    /// The address of one with this name.
    pub(crate) fn address(self, name: &[u8]) -> Vec<u8> {
        [self.name().as_bytes(), b":", name].concat()
    }

    /// The address of one that only has a number of the kernel's.
    pub(crate) fn numbered(self, number: impl std::fmt::Display) -> Vec<u8> {
        self.address(format!("[{number}]").as_bytes())
    }

    /// The end of a process that opened one, or mapped it, so.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Pipe | Self::Fifo)
    }
}

/// Whether an object is in use; `ls --help` says what the words mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum State {
    Live,
    Waiting,
    Stale,
    Orphan,
    #[default]
    Unknown,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Waiting => "waiting",
            Self::Stale => "stale",
            Self::Orphan => "orphan",
            Self::Unknown => "unknown",
        }
    }
}

/// How much is in an object, or can be, in the unit of its mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Messages(u64),
    Bytes(u64),
    Connections(u64),
    /// The value of a semaphore.
    Units(u64),
    Semaphores(u64),
}

impl Amount {
    pub(crate) fn parts(self) -> (u64, &'static str) {
        match self {
            Self::Messages(number) => (number, "messages"),
            Self::Bytes(number) => (number, "bytes"),
            Self::Connections(number) => (number, "connections"),
            Self::Units(number) => (number, "units"),
            Self::Semaphores(number) => (number, "semaphores"),
        }
    }
}

/// A process that has an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// The name of its program.
    pub(crate) command: Vec<u8>,
    /// How it has it: `read`, `write`, `map`, `send`, `receive`, ...
    pub(crate) ends: Vec<&'static str>,
    /// Its descriptors for it.
    pub(crate) descriptors: Vec<i32>,
}

impl Holder {
    pub(crate) fn has(&self, end: &str) -> bool {
        self.ends.contains(&end)
    }
}

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mechanism: Mechanism,
    /// As ginnel writes it; any bytes.
    pub(crate) address: Vec<u8>,
    /// Whether others can find it by its address: not a nameless one, and not one end of a connection.
    pub(crate) is_named: bool,
    pub(crate) state: State,
    pub(crate) owner: Option<u32>,
    pub(crate) mode: Option<u32>,
    /// Bytes.
    pub(crate) size: Option<u64>,
    pub(crate) depth: Option<Amount>,
    pub(crate) capacity: Option<Amount>,
    /// When it was made; of those for which the kernel does not keep that, when it last changed.
    pub(crate) since: Option<SystemTime>,
    pub(crate) holders: Vec<Holder>,
    /// What only this mechanism has, by name; units are in the names.
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// Number of a socket, and that of its peer.
    pub(crate) socket: Option<(u64, Option<u64>)>,
    /// Device and inode of a file.
    pub(crate) file: Option<(u64, u64)>,
}

impl Entry {
    /// One of which nothing else is known yet.
    pub(crate) fn new(mechanism: Mechanism, address: Vec<u8>) -> Self {
        Self {
            mechanism,
            address,
            is_named: true,
            state: State::Unknown,
            owner: None,
            mode: None,
            size: None,
            depth: None,
            capacity: None,
            since: None,
            holders: Vec::new(),
            attributes: Vec::new(),
            socket: None,
            file: None,
        }
    }

    /// With an attribute, if it is known.
    pub(crate) fn with(mut self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.attributes.extend(value.map(|value| (name, value.into())));
        self
    }

    /// With owner and mode.
    pub(crate) fn owned(self, owner: u32, mode: u32) -> Self {
        Self { owner: Some(owner), mode: Some(mode & 0o7777), ..self }
    }
}

/// A moment in nanoseconds since 1970.
pub(crate) fn nanoseconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
