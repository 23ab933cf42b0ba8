//! Ctrl-C and its like: the run is asked to end, so that it leaves its links properly; if it does not, it is ended.
//!
//! A thread sleeps until SIGINT, SIGTERM or SIGHUP comes. Then it raises a flag and closes one end of a socket pair:
//! whoever reads input waits for the other end too, and whoever waits for a link is interrupted. Commands that run in groups of their own, where a terminal does not
//! reach them, get the signal from it too, whatever their workers wait for. A run that hangs elsewhere, in a write that nobody reads, or is
//! signalled twice, is ended without ceremony: its peers then see that it died, and what it held goes back.

use crate::exit::{Code, Failure};
use ginnel::Interrupter;
use ginnel_os::poll;
use ginnel_os::signal::{self, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the first blocking call of a wait on a link takes, after which a meter may say that it waits. The next are longer and
/// longer, so that an idle process does nothing.
const FIRST_SLICE: Duration = Duration::from_millis(200);
const LAST_SLICE: Duration = Duration::from_secs(3600);

/// The handles whose waits a signal ends.
static WAITING: Mutex<Vec<Interrupter>> = Mutex::new(Vec::new());

/// Has a signal end the waits of a handle.
pub(crate) fn end_waits_of(handle: Interrupter) {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
}

/// The leaders of groups that get the signals that end this process. They were not waited for: until then their numbers are their own.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command in a group of its own, which gets the signals that end this process until it is waited for.
pub(crate) struct Group {
    leader: Child,
}

impl Group {
    pub(crate) fn of(leader: Child) -> Self {
        let mut groups = groups();
        groups.push(leader.id());
        if let Some(signal) = signal() {
            pass_on(&[leader.id()], signal); // it came before
        }
        Self { leader }
    }

    pub(crate) fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// What is left of it. That it may not be signalled is its own doing.
    pub(crate) fn kill(&self) {
        let _ = signal::send_to_group(self.leader.id(), Signal::KILL);
    }

    /// Its leader's status, once that has ended.
    ///
    /// # Errors
    /// The errno.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut groups = groups(); // nobody signals it while it may become another's number
        let status = self.leader.try_wait()?;
        if status.is_some() {
            groups.retain(|group| *group != self.leader.id());
        }
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        groups().retain(|group| *group != self.leader.id());
    }
}

fn pass_on(groups: &[u32], signal: i32) {
    if let Ok(signal) = Signal::new(signal) {
        groups.iter().for_each(|group| _ = signal::send_to_group(*group, signal));
    }
}

/// What a run may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// The signal that came; 0 while none did.
static SIGNAL: AtomicU8 = AtomicU8::new(0);

/// Becomes readable when a signal comes.
static ALARM: OnceLock<UnixStream> = OnceLock::new();

/// Heeds signals from now on. Not SIGHUP, if this process was started to ignore it, as `nohup` does.
///
/// # Errors
/// The errno.
pub(crate) fn install() -> io::Result<()> {
    let outlives_terminal = is_ignored(SIGHUP);
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !outlives_terminal);
    let mut signals = Signals::new(heeded)?;
    let (alarm, bell) = UnixStream::pair()?;
    if ALARM.set(alarm).is_err() {
        return Ok(()); // installed before
    }
    let wait = move || {
        let mut coming = signals.forever();
        let Some(signal) = coming.next() else { return };
        let number = u8::try_from(signal).unwrap_or(0);
        let living = groups();
        SIGNAL.store(number, SeqCst);
        pass_on(&living, signal);
        drop((living, bell));
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Interrupter::interrupt);
        let end = move || std::process::exit(i32::from(Code::Signal(number).status()));
        std::thread::spawn(move || {
            std::thread::sleep(GRACE);
            end()
        });
        if let Some(signal) = coming.next() {
            pass_on(&groups(), signal);
        }
        end();
    };
    std::thread::Builder::new().name("ginnel-signals".into()).spawn(wait)?;
    Ok(())
}

/// Whether this process was started to ignore a signal.
pub(crate) fn is_ignored(signal: i32) -> bool {
    (1..=64).contains(&signal) && ignored_signals() >> (signal - 1) & 1 == 1
}

/// The mask of signals that are ignored: bit 0 is signal 1. Nothing is, where `/proc` does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Fails if a signal came.
pub(crate) fn check() -> Result<(), Failure> {
    match SIGNAL.load(SeqCst) {
        0 => Ok(()),
        number => Err(Failure::quiet(Code::Signal(number))),
    }
}

/// Waits until a file can be read without waiting, or a signal comes.
///
/// # Errors
/// `Interrupted` if a signal came; `TimedOut` if the end has come; the errno.
pub(crate) fn wait_readable(file: BorrowedFd<'_>, end: Option<Instant>) -> io::Result<()> {
    let is_readable = match ALARM.get() {
        Some(alarm) => poll::readable(&[file, alarm.as_fd()], end)?,
        None => poll::readable(&[file], end)?,
    };
    match SIGNAL.load(SeqCst) {
        0 if is_readable => Ok(()),
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// The signal that came, if one did.
pub(crate) fn signal() -> Option<i32> {
    Some(SIGNAL.load(SeqCst)).filter(|signal| *signal != 0).map(i32::from)
}

/// The end of a wait, which is cut into slices so that a signal is noticed.
pub(crate) struct Patience {
    end: Option<Instant>,
    slice: Cell<Duration>,
}

impl Patience {
    /// Waits this long from now, or for ever.
    pub(crate) fn of(timeout: Option<Duration>) -> Self {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { end, slice: Cell::new(FIRST_SLICE) }
    }

    /// When to look up next.
    ///
    /// # Errors
    /// If a signal came.
    pub(crate) fn slice(&self) -> Result<Instant, Failure> {
        check()?;
        let slice = Instant::now() + self.slice.get();
        self.slice.set((self.slice.get() * 4).min(LAST_SLICE));
        Ok(self.end.map_or(slice, |end| end.min(slice)))
    }

    /// Whether the whole wait is over.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}
