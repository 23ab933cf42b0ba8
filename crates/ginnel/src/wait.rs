//! What all waiting has in common: until when, and how another thread ends it. How each mechanism waits is its own business.

use crate::ready::Ears;
use crate::shm::Region;
use ginnel_os::eventfd::EventFd;
use ginnel_os::futex::Deadline;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Until when to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Not at all.
    Now,
    /// For ever.
    Forever,
    /// Until an instant.
    Instant(Instant),
}

impl Until {
    /// After a time from now; for ever if that is beyond the clock.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::Instant)
    }

    /// Whether it is a deadline, and it has come.
    pub(crate) fn is_past(self) -> bool {
        matches!(self, Self::Instant(at) if Instant::now() >= at)
    }

    /// Until then, if that is earlier.
    pub(crate) fn or_earlier(self, other: Instant) -> Self {
        match self {
            Self::Now => Self::Now,
            Self::Forever => Self::Instant(other),
            Self::Instant(at) => Self::Instant(at.min(other)),
        }
    }

    pub(crate) fn has_come(self) -> bool {
        match self {
            Self::Now => true,
            Self::Forever => false,
            Self::Instant(at) => Instant::now() >= at,
        }
    }

    /// For a futex.
    pub(crate) fn deadline(self) -> Deadline {
        match self {
            Self::Instant(at) => Deadline::at(at),
            _ => Deadline::NEVER,
        }
    }
}

/// Ends the waiting of one handle from another thread: a handler of signals, say. What the handle waits for returns
/// `Interrupted`, at once if it waits now, or the next time that it would wait; each call ends one wait.
#[derive(Clone, Debug)]
pub struct Interrupter {
    flag: Arc<AtomicBool>,
    sleeper: Sleeper,
}

/// What the handle may sleep on.
#[derive(Clone, Debug)]
enum Sleeper {
    Region(Weak<Region>),
    Event(Option<Arc<EventFd>>, Arc<Ears>),
}

impl Interrupter {
    pub(crate) fn of_region(flag: Arc<AtomicBool>, region: Weak<Region>) -> Self {
        Self { flag, sleeper: Sleeper::Region(region) }
    }

    pub(crate) fn of_event(flag: Arc<AtomicBool>, event: Option<Arc<EventFd>>, ears: Arc<Ears>) -> Self {
        Self { flag, sleeper: Sleeper::Event(event, ears) }
    }

    /// Interrupts the handle. Nothing happens if it is closed.
    pub fn interrupt(&self) {
        self.flag.store(true, Ordering::SeqCst);
        match &self.sleeper {
            Sleeper::Region(region) => {
                if let Some(region) = region.upgrade() {
                    region.wake_all();
                }
            }
            Sleeper::Event(event, ears) => {
                if let Some(event) = event {
                    event.signal();
                } // else it looks at the flag now and then
                ears.call();
            }
        }
    }
}
