//! `signal:PID`: signals that carry a number (`sigqueue(3)`). A message is a number as text, from -2147483648 to 2147483647: `sigqueue` takes an `int`, and
//! any program can send and receive those.
//!
//! A real-time signal is queued as often as it is sent, in order, until the receiver's user has `RLIMIT_SIGPENDING` of them; an ordinary one is not, so
//! only real-time ones are taken. The receiver blocks the signal and reads it from a `signalfd(2)`. It stays blocked in the thread that opened the
//! receiver, also when that is dropped: one that came later would kill the process. For the same reason every other thread must block it too; that is checked.

use super::book::{Book, Made};
use super::presence::{Opened, Presence};
use super::wait::{Ready, SOON};
use super::{About, Blocked, Nothing};
use crate::address::Address;
use crate::error::{Error, ErrorKind, SendFailure};
use crate::shm::Mode;
use ginnel_core::Role;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::pidfd::PidFd;
use ginnel_os::process;
use ginnel_os::signal::{Signal, Value};
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::Set;
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;

/// Bytes of the longest number.
const MAX: u64 = 11;

fn number_of(address: &Address) -> Result<Signal, Error> {
    let invalid = |problem: String| {
        Error::new(ErrorKind::InvalidOption, "open", address.link())
            .problem(problem)
            .remedy("write ?number=RTMIN+1, or leave it out for RTMIN")
    };
    let signal = match address.signal.as_str() {
        "" => Signal::real_time(0),
        text => text.parse(),
    };
    let signal = signal.map_err(|e| invalid(e.to_string()))?;
    if !signal.is_real_time() {
        return Err(invalid(format!(
            "signal {} is not queued: what comes while one is pending is lost",
            signal.number()
        )));
    }
    Ok(signal)
}

/// The same for both ends.
fn meeting(pid: u32, signal: Signal) -> String {
    format!("signal:{pid}:{}", signal.number())
}

/// Nothing is made: the processes are there.
fn nothing(_: &Book) -> Result<Opened<()>, Error> {
    Ok(Opened { object: (), holds: false, made: Made::Nothing })
}

/// The sending end.
pub(crate) struct Outlet {
    pid: u32,
    /// That very process, and none that gets its number later.
    process: PidFd,
    signal: Signal,
    follow: bool,
    presence: Presence,
    /// Whether the process was seen to take the signal: before that, it would be its end.
    ready: Cell<bool>,
}

impl Outlet {
    pub(super) fn open(address: &Address, pid: Option<u32>, mode: Mode) -> Result<Self, Error> {
        let signal = number_of(address)?;
        let Some(pid) = pid else {
            return Err(Error::new(ErrorKind::InvalidAddress, "open", address.link())
                .problem("to whom?")
                .remedy("write `signal:PID`"));
        };
        if mode == Mode::Create {
            return Err(Error::new(ErrorKind::Unsupported, "create", address.link())
                .problem("processes are not made that way")
                .remedy("open it instead"));
        }
        let process = PidFd::open(pid).map_err(|e| match e.raw_os_error() {
            Some(ginnel_os::errno::ESRCH) => Error::new(ErrorKind::NotFound, "open", address.link())
                .problem("there is no such process")
                .remedy("`ps` lists those that are there"),
            _ => Error::os("open", address.link(), e),
        })?;
        let (_, presence) = Presence::join(&meeting(pid, signal), Role::Sender, nothing)?;
        Ok(Self { pid, process, signal, follow: address.follow, presence, ready: Cell::new(false) })
    }

    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let presence = self.presence.another()?;
        let process =
            PidFd::open(self.pid).map_err(|e| Error::os("clone a sender of", meeting(self.pid, self.signal), e))?;
        Ok(Self {
            pid: self.pid,
            process,
            signal: self.signal,
            follow: self.follow,
            presence,
            ready: self.ready.clone(),
        })
    }

    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), Blocked> {
        let number = std::str::from_utf8(message).ok().and_then(|text| text.trim().parse::<i32>().ok());
        let Some(number) = number else {
            let problem = "a signal carries a number from -2147483648 to 2147483647, written as text";
            return Err(Blocked::Failed(SendFailure::Unfit(problem)));
        };
        if !self.ready.get() {
            self.ready.set(takes(self.pid, self.signal));
        }
        if !self.ready.get() {
            return Err(if self.is_there() { Blocked::Full } else { Blocked::Failed(SendFailure::Closed { died: 1 }) });
        }
        match self.process.queue(self.signal, Value::from_int(number)) {
            Err(e) if e.raw_os_error() == Some(ginnel_os::errno::ESRCH) => {
                Err(Blocked::Failed(SendFailure::Closed { died: 1 }))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.follow && self.presence.peers_gone() => {
                Err(Blocked::Failed(SendFailure::Closed { died: 0 }))
            }
            other => Ok(other?),
        }
    }

    fn is_there(&self) -> bool {
        !self.process.has_ended().unwrap_or(true)
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready::Later(SOON)
    }

    pub(super) fn max(&self) -> u64 {
        MAX
    }

    pub(super) fn limit(&self) -> (&'static str, u64) {
        ("RLIMIT_SIGPENDING", process::signals_pending_limit())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.presence.peers_gone()
    }
}

/// The receiving end.
pub(crate) struct Inlet {
    file: SignalFd,
    set: Epoll,
    presence: Presence,
}

impl Inlet {
    pub(super) fn open(address: &Address, pid: Option<u32>) -> Result<Self, Error> {
        let (signal, me) = (number_of(address)?, process::id());
        let os = |e| Error::os("open", address.link(), e);
        if pid.is_some_and(|pid| pid != me) {
            return Err(Error::new(ErrorKind::PermissionDenied, "open", address.link())
                .problem(format!("only that process can receive its signals; this one is {me}"))
                .remedy("write `signal:` for this process"));
        }
        let mut signals = Set::empty();
        signals.insert(signal);
        let blocked = signals.block();
        if let Some(thread) = unblocked_thread(signal) {
            return Err(Error::new(ErrorKind::InUse, "open", address.link())
                .problem(format!(
                    "thread {thread} of this process does not block signal {}, which would end it",
                    signal.number()
                ))
                .remedy("open the receiver before starting threads, or block the signal in them"));
        }
        let file = SignalFd::new(&signals).map_err(os)?;
        std::mem::forget(blocked); // for good: see above
        let ((), presence) = Presence::join(&meeting(me, signal), Role::Receiver, nothing)?;
        let set = Epoll::new().map_err(os)?;
        set.add(file.as_fd(), Interest::Read, 0).map_err(os)?;
        set.add(presence.news()?, Interest::Read, 1).map_err(os)?;
        Ok(Self { file, set, presence })
    }

    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        // Before the look: what the last sender sent before it left is seen by it.
        let gone = self.presence.peers_gone();
        match self.file.try_read() {
            Ok(info) => {
                message.clear();
                if let Some(value) = info.value {
                    message.extend_from_slice(value.as_int().to_string().as_bytes());
                }
                Ok(About::default())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && gone => Err(Nothing::Ended),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        if self.presence.is_unsettled() { Ready::Later(SOON) } else { Ready::Read(self.set.as_fd()) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.presence.peers_gone()
    }

    pub(super) fn capacity(&self) -> u64 {
        process::signals_pending_limit()
    }
}

/// A thread of this process that would take the signal as it comes: its number. None if `/proc` does not tell.
fn unblocked_thread(signal: Signal) -> Option<String> {
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        if in_mask(&status, "SigBlk:", signal) == Some(false) {
            return Some(thread.file_name().to_string_lossy().into_owned());
        }
    }
    None
}

/// Whether a process blocks, handles or ignores the signal, so that it does not end it. True if `/proc` does not tell.
fn takes(pid: u32, signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    ["SigBlk:", "SigCgt:", "SigIgn:"].iter().any(|mask| in_mask(&status, mask, signal).unwrap_or(true))
}

/// Whether a mask of `/proc/PID/status` (`proc(5)`) holds the signal.
fn in_mask(status: &str, mask: &str, signal: Signal) -> Option<bool> {
    let bits = status.lines().find_map(|line| line.strip_prefix(mask))?;
    let bits = u64::from_str_radix(bits.trim(), 16).ok()?;
    Some(bits & 1 << (signal.number() - 1) != 0)
}
