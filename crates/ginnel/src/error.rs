//! Errors. Setting a link up fails with one [`Error`] that names what was tried, on which object, which limit was met, its
//! value, and what to do. On the data path each failure is a small enum, and a message that was not sent stays the caller's.

use crate::loan::Loan;
use crate::message::Message;
use crate::shm::{GROWTH, TURN, WRITERS};
use ginnel_core::{CAPACITY_MAX, Corrupt, MESSAGE_MAX};
use ginnel_os::explain;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What kind of failure, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address cannot be understood.
    InvalidAddress,
    /// An option is unknown or its value impossible.
    InvalidOption,
    /// There is no such link.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The user may not.
    PermissionDenied,
    /// What has this name is not a link that this build can use.
    NotALink,
    /// The link was made with other numbers than asked for.
    Mismatch,
    /// The link has as many handles as it was made for.
    TooManyHandles,
    /// The link is in use.
    InUse,
    /// Nobody accepts connections under this name.
    Refused,
    /// An [`Interrupter`](crate::Interrupter) ended the wait.
    Interrupted,
    /// The file system, or the user's share of it, is full.
    NoSpace,
    /// The process or the system has no descriptors left.
    NoDescriptors,
    /// The user has no inotify instance or watch left, of which who waits for several links, in an event loop or in a task needs one.
    NoWatches,
    /// The kernel or a sandbox lacks something.
    Unsupported,
    /// Another process is in the middle of something and does not go on.
    Stuck,
    /// Anything else that the kernel said.
    Os,
}

/// Why a link could not be set up, listed or removed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    tried: &'static str,
    object: String,
    problem: String,
    remedy: String,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, tried: &'static str, object: impl Into<String>) -> Self {
        let (object, problem, remedy) = (object.into(), String::new(), String::new());
        Self { kind, tried, object, problem, remedy, source: None }
    }

    pub(crate) fn problem(mut self, problem: impl Into<String>) -> Self {
        self.problem = problem.into();
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// From an errno, whose meaning is translated where the bare one would mislead.
    pub(crate) fn os(tried: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        let object = object.into();
        let is_shm = !object.contains(':') || object.starts_with("shm:");
        let (kind, remedy) = match explain::errno(&source).map(rustix_errno) {
            _ if is_of_inotify(&source) => (ErrorKind::NoWatches, ""),
            Some(Errno::NotFound) => (ErrorKind::NotFound, ""),
            Some(Errno::Denied) if !is_shm => {
                (ErrorKind::PermissionDenied, "run as its owner, or have its mode changed")
            }
            Some(Errno::Denied) => {
                (ErrorKind::PermissionDenied, "run as the owner, or set GINNEL_DIR to a directory of yours")
            }
            Some(Errno::NoSpace) => {
                (ErrorKind::NoSpace, "free some with `ginnel clean`, or ask for less with ?capacity= and ?memory=")
            }
            Some(Errno::NoDescriptors) => (ErrorKind::NoDescriptors, "raise the limit with `ulimit -n`, or close some"),
            Some(Errno::NoMemory) => {
                (ErrorKind::NoSpace, "raise the limit with `ulimit -v`, or ask for less with ?memory= and ?max=")
            }
            Some(Errno::TooBig) => {
                (ErrorKind::NoSpace, "raise the limit with `ulimit -f`, or ask for less with ?memory= and ?max=")
            }
            Some(Errno::NameTooLong) => (ErrorKind::InvalidAddress, "a name has up to 255 bytes, a path up to 4095"),
            Some(Errno::Unsupported) => (ErrorKind::Unsupported, "set GINNEL_DIR to a directory on tmpfs"),
            _ => (ErrorKind::Os, ""),
        };
        // What is explained says itself what to do.
        let remedy = match (source.raw_os_error(), kind) {
            (Some(_), _) => remedy,
            (None, ErrorKind::NoDescriptors) => "`ginnel ps` of this process shows what it has open",
            (None, _) => "",
        };
        Self { source: Some(source), ..Self::new(kind, tried, object) }.remedy(remedy)
    }

    /// What kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was tried on it: "open", "create".
    pub fn tried(&self) -> &str {
        self.tried
    }

    /// What it was tried on: an address or a path.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What to do about it, if anything is known; empty otherwise.
    pub fn remedy_text(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.tried, self.object)?;
        if !self.problem.is_empty() {
            write!(f, ": {}", self.problem)?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::InvalidAddress | ErrorKind::InvalidOption | ErrorKind::Mismatch => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::InUse => io::ErrorKind::AddrInUse,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Whether it is a limit on what the kernel tells of files with.
fn is_of_inotify(e: &io::Error) -> bool {
    explain::limit(e).is_some_and(|(name, _)| name.contains("inotify"))
}

enum Errno {
    NotFound,
    Denied,
    NoSpace,
    NoDescriptors,
    NoMemory,
    TooBig,
    NameTooLong,
    Unsupported,
    Other,
}

fn rustix_errno(raw: i32) -> Errno {
    use ginnel_os::errno as e;
    match raw {
        e::ENOENT => Errno::NotFound,
        e::EACCES | e::EPERM | e::EROFS => Errno::Denied,
        e::ENOSPC | e::EDQUOT => Errno::NoSpace,
        e::EMFILE | e::ENFILE => Errno::NoDescriptors,
        e::ENOMEM => Errno::NoMemory,
        e::EFBIG => Errno::TooBig,
        e::ENAMETOOLONG => Errno::NameTooLong,
        e::EOPNOTSUPP | e::ENOSYS => Errno::Unsupported,
        _ => Errno::Other,
    }
}

/// Why a message was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendFailure {
    /// The link holds as many messages as it may.
    Full {
        /// Messages that it may hold.
        capacity: u64,
    },
    /// The mechanism has room for no more now: a limit of the kernel's, and its value. Of an unbounded link the limit is `growth`: one participant at a time gets
    /// it memory, and another one was at it for longer than who does not wait tries for, some milliseconds; or `turn`: another one was in the middle of a few
    /// instructions for so long, in which nobody else can send.
    NoRoom {
        /// Its name.
        limit: &'static str,
        /// Its value, in bytes or, of queues, messages.
        value: u64,
    },
    /// The link's ceiling of memory is reached, and every block of this size, or every slot of an unbounded link, is in use.
    NoMemory {
        /// The ceiling, in bytes.
        ceiling: u64,
    },
    /// The deadline came before there was room.
    TimedOut {
        /// The limit that was met: `capacity`, in messages, `memory`, in bytes, what the kernel calls it, or, as in [`Self::NoRoom`], `growth` or `turn`.
        limit: &'static str,
        /// Its value; 0 where nobody has come to receive.
        value: u64,
    },
    /// The last receiver has left, and the link is full or, where the kernel keeps nothing for the next one, gone.
    Closed {
        /// How many receivers were killed, rather than closed, since this sender opened.
        died: u64,
    },
    /// The message is longer than the link allows.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The largest length in bytes.
        max: u64,
    },
    /// The kernel would not commit memory for the message.
    NoSpace(io::Error),
    /// The mechanism cannot carry these bytes: a newline where messages end with one.
    Unfit(&'static str),
    /// The value could not be encoded, and why.
    NotEncoded(String),
    /// What the kernel said.
    Os(io::Error),
    /// A peer wrote an impossible value; this handle can no longer be used.
    Corrupt(Corrupt),
    /// The handle belongs to the parent of this process.
    Forked,
    /// An [`Interrupter`](crate::Interrupter) ended the wait.
    Interrupted,
}

/// A message was not sent. Its bytes are still the caller's: sending copies from a borrowed slice.
#[derive(Debug)]
pub struct SendError {
    pub(crate) reason: SendFailure,
    pub(crate) link: Arc<str>,
}

impl SendError {
    /// Why it was not sent.
    pub fn reason(&self) -> &SendFailure {
        &self.reason
    }
}

/// Some of several messages were not sent.
#[derive(Debug)]
pub struct SendAllError {
    /// How many were sent before.
    pub sent: u64,
    /// Why the next one was not.
    pub error: SendError,
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages were sent, then: {}", self.sent, self.error)
    }
}

impl std::error::Error for SendAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A loan that was not sent yet, and why: commit it again, or drop it.
#[derive(Debug)]
pub struct CommitError<'a> {
    /// The loan, as it was written.
    pub loan: Loan<'a>,
    /// Why it was not sent.
    pub error: SendError,
}

impl fmt::Display for CommitError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CommitError<'_> {}

impl From<CommitError<'_>> for SendError {
    /// Gives the loan up.
    fn from(e: CommitError<'_>) -> Self {
        e.error
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot send to {}: ", self.link)?;
        self.reason.explain(f, &self.link)
    }
}

/// Of any link.
const IS_SLOW: &str = "one other participant is in the middle of a few instructions, and does not go on: it is stopped, perhaps; `ginnel info` \
    lists those that are attached; continue or kill that one, or try again";

/// Of an unbounded link.
const GROWS_SLOWLY: &str = "one other participant at a time gets it memory or gives some back, and does not go on: it is stopped, perhaps; `ginnel info` \
    lists those that are attached; continue or kill that one, or try again";

impl SendFailure {
    /// What it says, after the name of its link.
    pub(crate) fn explain(&self, f: &mut fmt::Formatter<'_>, link: &str) -> fmt::Result {
        match self {
            SendFailure::Full { capacity: 0 } => {
                f.write_str("nobody receives there; start a receiver, or wait for one")
            }
            SendFailure::Full { capacity } if *capacity >= CAPACITY_MAX => {
                write!(f, "it is full with {capacity} messages, and no link holds more; receive some")
            }
            SendFailure::Full { capacity } => {
                write!(f, "it is full with {capacity} messages; receive some, or make it anew with a larger ?capacity=")
            }
            SendFailure::NoRoom { limit: WRITERS, value } | SendFailure::TimedOut { limit: WRITERS, value } => write!(
                f,
                "others are in the middle of a send, as many as it has places for ({value}); try again, or make it anew with ?capacity={}",
                value * 4
            ),
            SendFailure::NoRoom { limit: GROWTH, .. } | SendFailure::TimedOut { limit: GROWTH, .. } => {
                f.write_str(GROWS_SLOWLY)
            }
            SendFailure::NoRoom { limit: TURN, .. } | SendFailure::TimedOut { limit: TURN, .. } => f.write_str(IS_SLOW),
            SendFailure::NoRoom { limit, value } => {
                write!(f, "it is full ({limit} {value}); receive some, or raise that limit")
            }
            SendFailure::NoMemory { ceiling } => {
                write!(
                    f,
                    "its {ceiling} bytes of memory are in use; receive some, or make it anew with a larger ?memory="
                )
            }
            SendFailure::TimedOut { limit: "receivers", .. } => {
                f.write_str("timed out: nobody receives there; start a receiver, or wait longer")
            }
            SendFailure::TimedOut { limit: limit @ ("capacity" | "memory"), value } => {
                write!(
                    f,
                    "timed out: it stayed full ({limit}={value}); receive some, or make it anew with a larger ?{limit}="
                )
            }
            SendFailure::TimedOut { limit, value } => {
                write!(f, "timed out: it stayed full ({limit} {value}); receive faster, or raise that limit")
            }
            SendFailure::Closed { died: 0 } => {
                f.write_str("nobody is left who could make room; start a receiver, or wait for one with ?follow")
            }
            SendFailure::Closed { died } => {
                write!(
                    f,
                    "nobody is left who could make room, {died} killed; start a receiver, or wait for one with ?follow"
                )
            }
            SendFailure::TooLarge { len, max } => {
                write!(f, "the message has {len} bytes, the link allows {max}; ")?;
                match len.checked_next_power_of_two().filter(|most| *most as u64 <= MESSAGE_MAX) {
                    Some(most) => write!(f, "make it anew with ?max={most}"),
                    None => write!(f, "send it in parts, as no link allows more than ?max={MESSAGE_MAX}"),
                }
            }
            SendFailure::NoSpace(e) => {
                write!(f, "no memory could be committed: {e}; free some with `ginnel clean`, or receive what is there")
            }
            SendFailure::Unfit(why) => f.write_str(why),
            SendFailure::NotEncoded(why) => write!(f, "the value could not be encoded: {why}"),
            SendFailure::Os(e) => fmt::Display::fmt(e, f),
            SendFailure::Corrupt(what) => {
                write!(f, "{what}: a peer damaged it; remove it with `ginnel rm --force {link}`")
            }
            SendFailure::Interrupted => f.write_str("the wait was interrupted"),
            SendFailure::Forked => f.write_str("the handle belongs to the parent of this process; open one of its own"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            SendFailure::NoSpace(e) | SendFailure::Os(e) => Some(e),
            _ => None,
        }
    }
}

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvFailure {
    /// There is none now.
    Empty,
    /// The deadline came before a message did.
    TimedOut,
    /// The last sender has left and every message was received.
    Closed {
        /// How many senders were killed, rather than closed, since this receiver opened: what they had not committed is lost.
        died: u64,
    },
    /// Of a broadcast with `full=cut-off`: messages were overwritten before this receiver got them. The next call goes on with the oldest
    /// that is there.
    CutOff {
        /// How many.
        missed: u64,
    },
    /// A peer wrote an impossible value; this handle can no longer be used.
    Corrupt(Corrupt),
    /// What came is no message in the framing of this link; this handle can no longer be used.
    Malformed {
        /// The length in bytes that it would have.
        len: u64,
    },
    /// The message that was received is no value of the type that the link is taken for: who sent it took the link for plain bytes.
    WrongType {
        /// Its length in bytes.
        len: u64,
    },
    /// What the kernel said: an error number, see `errno(3)`.
    Os(i32),
    /// The kernel gives this process no more descriptors, or no more of what it would be told of messages with: of one that waits for several links, in an event
    /// loop or in a task.
    NoneLeft {
        /// The limit that was met: `fs.inotify.max_user_instances`, say.
        limit: &'static str,
        /// Its value, or the largest that fits here.
        value: u32,
    },
    /// The link has no such thing: what it would need.
    Unfit(&'static str),
    /// The handle belongs to the parent of this process.
    Forked,
    /// An [`Interrupter`](crate::Interrupter) ended the wait.
    Interrupted,
}

/// No message was received. It equals its [reason](Self::reason).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecvError {
    pub(crate) reason: RecvFailure,
    pub(crate) link: Arc<str>,
}

/// What `recv` returns is no larger than a message.
const _: () = assert!(size_of::<Result<Message<'_>, RecvError>>() == size_of::<Message<'_>>());

impl RecvError {
    /// Why none was received.
    pub fn reason(&self) -> RecvFailure {
        self.reason
    }
}

impl PartialEq<RecvFailure> for RecvError {
    fn eq(&self, reason: &RecvFailure) -> bool {
        self.reason == *reason
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot receive from {}: ", self.link)?;
        self.reason.explain(f, &self.link)
    }
}

impl RecvFailure {
    /// From what the kernel said.
    pub(crate) fn of_os(e: &io::Error) -> Self {
        match explain::limit(e) {
            Some((limit, value)) => Self::NoneLeft { limit, value: value.try_into().unwrap_or(u32::MAX) },
            None => Self::Os(explain::errno(e).unwrap_or_default()),
        }
    }

    /// What it says, after the name of its link.
    pub(crate) fn explain(&self, f: &mut fmt::Formatter<'_>, link: &str) -> fmt::Result {
        match *self {
            RecvFailure::Empty => f.write_str("there is no message now; send some, or wait with recv"),
            RecvFailure::TimedOut => f.write_str(
                "timed out: no message came; `ginnel info` shows who sends to it, a longer timeout waits longer",
            ),
            RecvFailure::Closed { died: 0 } => {
                f.write_str("the last sender has left and every message was received; wait for another with ?follow")
            }
            RecvFailure::Closed { died } => {
                write!(
                    f,
                    "no sender is left, {died} killed before closing; every committed message was received; \
                     wait for another with ?follow"
                )
            }
            RecvFailure::Corrupt(what) => {
                write!(f, "{what}: a peer damaged it; remove it with `ginnel rm --force {link}`")
            }
            RecvFailure::CutOff { missed } => write!(
                f,
                "cut off: {missed} messages were overwritten before this receiver got them, as it was too slow; receive again to go on \
                 with the oldest that is there, or make it anew with a larger ?capacity="
            ),
            RecvFailure::Malformed { len } => write!(
                f,
                "what came is no message, or one of {len} bytes, more than ?max= allows; its sender must use the same framing: \
                 ?frame=line or ?frame=raw for programs that know none"
            ),
            RecvFailure::Unfit(why) => f.write_str(why),
            RecvFailure::WrongType { len } => write!(
                f,
                "a message of {len} bytes is no value of the type that was asked for; its sender must take the link for the same type"
            ),
            RecvFailure::Os(number) => fmt::Display::fmt(&io::Error::from_raw_os_error(number), f),
            RecvFailure::NoneLeft { limit, value } => {
                let is_told = limit.contains("inotify");
                let what =
                    if is_told { "nothing is left to be told of its messages with" } else { "no descriptor is left" };
                write!(f, "{what}: {limit} allows {value}; ")?;
                match limit {
                    "RLIMIT_NOFILE" => f.write_str("close some, or raise it with `ulimit -n`"),
                    "fs.file-max" => write!(f, "close some, or raise it with `sysctl -w {limit}=N`"),
                    _ => write!(f, "raise it with `sysctl -w {limit}=N`, or wait for one link alone, with recv"),
                }
            }
            RecvFailure::Interrupted => f.write_str("the wait was interrupted"),
            RecvFailure::Forked => f.write_str("the handle belongs to the parent of this process; open one of its own"),
        }
    }
}

impl std::error::Error for RecvError {}
