//! Waiting for a link: look, spin for as long as that has paid off, then sleep until somebody publishes, leaves or dies.
//!
//! A sleeper announces itself before it looks for the last time, so a message or a death between the look and the sleep
//! wakes it (see `event` in ginnel-core). Deadlines are absolute: a signal neither shortens nor lengthens a wait.

use super::region::Region;
use crate::address::Wait;
use crate::ready::{Found, look_now};
use crate::wait::{Interrupter, Until};
use ginnel_core::{Event, Participant};
use ginnel_os::futex;
use ginnel_os::process;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What one look at the link found.
pub(crate) enum Look<T> {
    /// Done, well or not.
    Done(T),
    /// Nothing yet: a wake-up will tell.
    Nothing,
    /// Somebody is in the middle of a few instructions, or was killed there: no wake-up is promised.
    Busy,
}

impl<T> From<Look<T>> for Found<T> {
    fn from(look: Look<T>) -> Self {
        match look {
            Look::Done(done) => Self::Done(done),
            Look::Nothing => Self::Nothing,
            Look::Busy => Self::Busy,
        }
    }
}

/// How a handle waits, and how well spinning has paid off.
#[derive(Debug)]
pub(crate) struct Waiter {
    policy: Wait,
    /// Pauses between two looks while spinning.
    rest: u32,
    /// Looks after one that has paid off, at most.
    most: u32,
    spins: Cell<u32>,
    interrupted: Arc<AtomicBool>,
}

/// Looks for an answer that is on its way: about a round trip between two cores.
const BRIEF: u32 = 16;
/// Looks at an announcement while staying away, a pause apart: 1 to 5 us, as long as the processor's pauses are.
const STAY_AWAY: u32 = 128;
const SPINS_LEAST: u32 = 16;
/// About as long as a wake-up takes: then waiting costs at most twice what the best choice would have cost.
const SPINS_MOST: u32 = 2048;
/// Looks between two looks at the clock while spinning for ever.
const CLOCK_EVERY: u32 = 256;
/// Cheap looks between two full ones while spinning.
const LOOK_EVERY: u32 = 16;
/// Looks in a row of who only spins.
const ROUND: u32 = 1 << 20;
/// How often to look for the dead where no watcher does.
pub(crate) const UNWATCHED: Duration = Duration::from_millis(20);
/// Sleep while somebody else is in the middle of a few instructions.
const NAP: Duration = Duration::from_micros(50);

impl Waiter {
    pub(crate) fn new(policy: Wait, rest: u32) -> Self {
        Self { policy, rest, most: SPINS_MOST, spins: Cell::new(SPINS_MOST), interrupted: Arc::default() }
    }

    /// Spins less than usual: for who waits for much at a time, so that being woken costs little of it.
    pub(crate) fn patient_for(mut self, most: u32) -> Self {
        self.most = most;
        self.spins.set(most);
        self
    }

    pub(crate) fn interrupter(&self, region: &Arc<Region>) -> Interrupter {
        Interrupter::of_region(self.interrupted.clone(), Arc::downgrade(region))
    }

    /// One [`Interrupter`] ends the waits of this one and of another.
    pub(crate) fn share_interrupts(&mut self, other: &Self) {
        self.interrupted = other.interrupted.clone();
    }

    /// Whether the wait that just ended was interrupted; asking takes the answer away.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn policy(&self) -> Wait {
        self.policy
    }

    /// Waits for an announcement (see `pace` in ginnel-core) for about as long as a batch takes in a stream. True if it came.
    #[inline(always)]
    pub(crate) fn stay_away(&self, came: impl Fn() -> bool) -> bool {
        if self.policy == Wait::Block || is_single_core() {
            return false;
        }
        for _ in 0..STAY_AWAY {
            if came() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Looks a few times for the most common result.
    #[inline(always)]
    pub(crate) fn look_briefly<T>(&self, mut peek: impl FnMut() -> Option<T>) -> Option<T> {
        if self.policy == Wait::Block || is_single_core() {
            return None;
        }
        (0..BRIEF).find_map(|_| {
            std::hint::spin_loop();
            peek()
        })
    }

    /// Looks until there is a result or the time has come; then `None`. The first look was in vain already. `peek` looks for the most common result only, and costs less than `look`, which is
    /// told whether it is the last before a sleep.
    #[cold]
    pub(crate) fn wait<T>(
        &self,
        region: &Arc<Region>,
        me: Participant,
        event: &Event<'_>,
        until: Until,
        mut peek: impl FnMut() -> Option<T>,
        mut look: impl FnMut(bool) -> Look<T>,
    ) -> Option<T> {
        let mut is_watched = crate::watch::watch(region);
        if matches!(until, Until::Now) {
            return look_now(|| look(true).into());
        }
        loop {
            if let Some(done) = self.spin(until, &mut peek, &mut look) {
                return Some(done);
            }
            if self.policy == Wait::Spin {
                // It never sleeps: so what is done before a sleep is done now and then.
                if let Look::Done(done) = look(true) {
                    return Some(done);
                }
            }
            if until.has_come() || self.interrupted.load(Ordering::SeqCst) {
                return None;
            }
            if self.policy == Wait::Spin {
                is_watched = crate::watch::watch(region);
                continue;
            }
            let waiting = event.arm();
            let found = if self.interrupted.load(Ordering::SeqCst) { Look::Busy } else { look(true) };
            if let Look::Nothing = found {
                region.engine().count_sleep(me);
                // An error would be a sandbox that forbids futexes: then this becomes a busy wait, and still correct.
                let _ = futex::wait(event.futex_word(), waiting.sequence, slice(until, is_watched).deadline());
            }
            event.disarm(waiting);
            is_watched = crate::watch::watch(region);
            match found {
                Look::Done(done) => return Some(done),
                Look::Nothing => {}
                Look::Busy => std::thread::sleep(NAP),
            }
        }
    }

    #[inline(always)]
    fn spin<T>(
        &self,
        until: Until,
        peek: &mut impl FnMut() -> Option<T>,
        look: &mut impl FnMut(bool) -> Look<T>,
    ) -> Option<T> {
        let spins = match self.policy {
            Wait::Spin => ROUND,
            Wait::Block => 1,
            Wait::Adaptive if is_single_core() => 1,
            Wait::Adaptive => self.spins.get().div_ceil(self.rest),
        };
        for turn in 0..spins {
            let found = if turn % LOOK_EVERY == LOOK_EVERY - 1 || self.rest > 1 || spins == 1 {
                match look(false) {
                    Look::Done(done) => Some(done),
                    _ => None,
                }
            } else {
                peek()
            };
            if let Some(done) = found {
                self.spins.set(self.most);
                return Some(done);
            }
            if turn % CLOCK_EVERY == CLOCK_EVERY - 1 && (until.has_come() || self.interrupted.load(Ordering::Relaxed)) {
                return None;
            }
            (0..self.rest).for_each(|_| std::hint::spin_loop());
        }
        self.spins.set((self.spins.get() / 2).max(SPINS_LEAST).min(self.most));
        None
    }
}

/// How long to sleep at once: where nobody watches for the dead, because this process has no descriptor or thread for that, its sleepers look themselves.
fn slice(until: Until, is_watched: bool) -> Until {
    if is_watched { until } else { until.or_earlier(Instant::now() + UNWATCHED) }
}

/// Whether the machine has one core only: then spinning steals the time of the one that it waits for. A process that is pinned to a
/// core is not alone for that: its peer may be pinned to another.
fn is_single_core() -> bool {
    static SINGLE: OnceLock<bool> = OnceLock::new();
    *SINGLE.get_or_init(|| process::cores().is_ok_and(|cores| cores.len() < 2) && process::is_only_core())
}
