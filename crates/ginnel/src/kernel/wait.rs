//! Waiting for a mechanism: for its descriptor, or for a little while where it has none, until an absolute time or an interrupter.

use super::bell;
use crate::ready::{Again, Ears};
use crate::wait::{Interrupter, Until};
use ginnel_os::eventfd::EventFd;
use ginnel_os::futex::{self, Deadline};
use ginnel_os::poll::{self, Interest};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What a mechanism waits for.
#[derive(Clone, Copy)]
pub(crate) enum Ready<'a> {
    /// That this descriptor is readable, or its other end gone.
    Read(BorrowedFd<'a>),
    /// That this descriptor is writable, or its other end gone.
    Write(BorrowedFd<'a>),
    /// Nothing that `poll(2)` knows: look again after a while, of so long at most.
    Later(Duration),
    /// That somebody rings; or, as not everybody does, look again after a while.
    Bell(&'a AtomicU32),
}

impl<'a> From<Ready<'a>> for Again<'a> {
    /// Who waits for several things cannot sleep on a bell: it looks now and then.
    fn from(ready: Ready<'a>) -> Self {
        match ready {
            Ready::Read(file) => Self::Read(file),
            Ready::Write(file) => Self::Write(file),
            Ready::Later(longest) => Self::Later(longest),
            Ready::Bell(_) => Self::Later(SOMEBODY),
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Look,
    TimedOut,
    Interrupted,
}

/// Longest nap of who waits for a message or for room that nothing announces.
pub(crate) const SOON: Duration = Duration::from_millis(2);
/// Longest nap of who waits for somebody to come.
pub(crate) const SOMEBODY: Duration = Duration::from_millis(20);
/// So often the processor is only given up before the first nap: a peer that is at work needs about as long.
const YIELDS: u32 = 32;
/// First nap where there is nothing to poll for.
const NAP_LEAST: Duration = Duration::from_micros(50);

/// The deadline, or the end of so long a nap.
fn earlier(deadline: Option<Instant>, nap: Duration) -> Instant {
    let end = Instant::now() + nap;
    deadline.map_or(end, |deadline| deadline.min(end))
}

/// When the next nap ends. At first only the processor is given up.
fn nap_end(deadline: Option<Instant>, naps: &mut u32, longest: Duration) -> Option<Instant> {
    *naps += 1;
    let Some(slept) = naps.checked_sub(YIELDS) else {
        std::thread::yield_now();
        return None;
    };
    let nap = NAP_LEAST.saturating_mul(1 << slept.min(16)).min(longest);
    Some(earlier(deadline, nap))
}

/// A handle's waiting.
pub(crate) struct Waiter {
    flag: Arc<AtomicBool>,
    /// Made when somebody asks for an interrupter; `None` in it if no descriptor was left, and then waits look up now and then.
    event: OnceLock<Option<Arc<EventFd>>>,
    /// The value of the word with which it said last that it is about to sleep.
    announced: Cell<Option<u32>>,
    /// Those who are to be told of an interruption.
    ears: Arc<Ears>,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self { flag: Arc::default(), event: OnceLock::new(), announced: Cell::new(None), ears: Arc::default() }
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        let event = self.event.get_or_init(|| EventFd::new().ok().map(Arc::new));
        Interrupter::of_event(self.flag.clone(), event.clone(), self.ears.clone())
    }

    /// Waits once; `naps` counts those of one operation that had nothing to poll for.
    pub(crate) fn wait(&self, ready: Ready<'_>, until: Until, naps: &mut u32) -> Ended {
        if self.flag.load(Ordering::SeqCst) && self.take_interrupted() {
            return Ended::Interrupted;
        }
        if until.has_come() {
            return Ended::TimedOut;
        }
        let deadline = match until {
            Until::Instant(at) => Some(at),
            _ => None,
        };
        let (file, interest) = match ready {
            Ready::Read(file) => (file, Interest::Read),
            Ready::Write(file) => (file, Interest::Write),
            Ready::Later(longest) => {
                if let Some(end) = nap_end(deadline, naps, longest) {
                    self.nap_until(end);
                }
                return self.ended();
            }
            Ready::Bell(word) => {
                if let Some(end) = nap_end(deadline, naps, SOMEBODY) {
                    self.sleep(word, end);
                }
                return self.ended();
            }
        };
        let deadline = match self.event.get() {
            Some(None) => Some(earlier(deadline, SOMEBODY)),
            _ => deadline,
        };
        let event = self.event().map(|event| event.as_fd());
        // An error of poll(2) is one of the descriptor, which the next try meets too.
        let _ = poll::either(file, interest, event, deadline);
        self.ended()
    }

    fn ended(&self) -> Ended {
        if self.take_interrupted() { Ended::Interrupted } else { Ended::Look }
    }

    fn nap_until(&self, end: Instant) {
        match self.event() {
            Some(event) => _ = poll::readable(&[event.as_fd()], Some(end)),
            None => std::thread::sleep(end.saturating_duration_since(Instant::now())),
        }
    }

    /// Sleeps if nobody has rung since it said that it would, which was before its last look. Otherwise it says so, and is to look once more.
    /// An interrupter does not ring: it is noticed when the nap ends.
    fn sleep(&self, word: &AtomicU32, end: Instant) {
        let value = bell::announce(word);
        if self.announced.replace(Some(value)) == Some(value) {
            let _ = futex::wait(word, value, Deadline::at(end));
        }
    }

    fn event(&self) -> Option<&EventFd> {
        self.event.get()?.as_deref()
    }

    pub(crate) fn ears(&self) -> &Ears {
        &self.ears
    }

    /// Whether it was interrupted, asked by one who does not wait here.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.flag.load(Ordering::SeqCst) && self.take_interrupted()
    }

    /// Whether it was interrupted; it is not any more. The event first: it is raised after the flag, so that whoever sees neither is woken by it.
    fn take_interrupted(&self) -> bool {
        if let Some(event) = self.event() {
            event.clear();
        }
        self.flag.swap(false, Ordering::SeqCst)
    }
}
