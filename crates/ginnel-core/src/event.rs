//! An event count: how those who make messages, or room, learn whether anybody sleeps for it.
//!
//! ```text
//! +0  u32  sequence: the futex word, grows with each wake
//! +8  u64  epoch 32 bits | sleepers 32 bits
//! ```
//! The algorithm is the classic event count. A sleeper reads the sequence, announces itself, looks once more at what it
//! waits for, and sleeps only if the sequence has not moved. A waker publishes, then looks for sleepers, and makes a
//! system call only if there are any. The waker takes the announcements down: it begins a new epoch, in which nobody
//! sleeps, and wakes all; who still has to wait announces itself again. So a burst of messages to a sleeper costs one
//! system call, and what a killed sleeper announced costs one more, once.
//!
//! [I1] If a sleeper sleeps, either it announced itself before the waker looked, and is woken; or the waker published
//! before the sleeper looked again, and it does not sleep.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S4] | publish, light fence, load sleepers | add sleeper, heavy fence, look again | [I1]: store before load on both sides |
//! | [S5] | sequence add | sequence load, before sleeping | that a wake happened |

use crate::sync::{AtomicU32, AtomicU64, Fences, Relaxed, SeqCst};

const COUNT_MASK: u64 = 0xFFFF_FFFF;

/// One event count; see the module.
pub struct Event<'a> {
    sequence: &'a AtomicU32,
    sleepers: &'a AtomicU64,
    fences: Fences,
}

/// An announced sleeper. It must be handed back to [`Event::disarm`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an announced sleeper costs every waker a system call until it is disarmed"]
pub struct Waiting {
    /// Value of the futex word with which to sleep.
    pub sequence: u32,
    epoch: u64,
}

impl<'a> Event<'a> {
    pub(crate) fn new(sequence: &'a AtomicU32, sleepers: &'a AtomicU64, fences: Fences) -> Self {
        Self { sequence, sleepers, fences }
    }

    /// The word to sleep and wake on, with a shared futex.
    pub fn futex_word(&self) -> &'a AtomicU32 {
        self.sequence
    }

    /// Announces a sleeper. The caller then looks again at what it waits for, and sleeps only if it is still not there.
    pub fn arm(&self) -> Waiting {
        // ORDERING [S5]: SeqCst, and before the announcement: a wake of whoever counts this sleeper, and a reset that forgets
        // it, change the word after this load, so the kernel does not let it sleep.
        let sequence = self.sequence.load(SeqCst);
        // ORDERING [S4]: SeqCst add, then the heavy fence, then the caller looks.
        let epoch = self.sleepers.fetch_add(1, SeqCst) >> 32;
        self.fences.heavy();
        Waiting { sequence, epoch }
    }

    /// Withdraws the announcement, whether it slept or not.
    pub fn disarm(&self, waiting: Waiting) {
        // ORDERING: relaxed loop; the count is a hint, its epoch makes a late withdrawal harmless.
        let mut word = self.sleepers.load(Relaxed);
        while word >> 32 == waiting.epoch && word & COUNT_MASK != 0 {
            // ORDERING [S4]: SeqCst, as the announcement.
            match self.sleepers.compare_exchange(word, word - 1, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// After something was published: whether anybody must be woken. If true, wake all sleepers on the futex word.
    #[inline(always)]
    pub fn notify(&self) -> bool {
        self.fences.light();
        // ORDERING [S4]: relaxed after the light fence.
        if self.sleepers.load(Relaxed) & COUNT_MASK == 0 {
            return false;
        }
        self.reset();
        true
    }

    /// The same for one who published on a side that is exclusive to it.
    #[inline(always)]
    pub fn notify_of_exclusive(&self) -> bool {
        self.fences.light_of_exclusive();
        // ORDERING [S4]: relaxed after the light fence.
        if self.sleepers.load(Relaxed) & COUNT_MASK == 0 {
            return false;
        }
        self.reset();
        true
    }

    /// Begins a new epoch without sleepers. The caller wakes all: those who still wait announce themselves again.
    #[cold]
    pub(crate) fn reset(&self) {
        // ORDERING: relaxed load, the CAS decides.
        let mut word = self.sleepers.load(Relaxed);
        loop {
            let next = (word >> 32).wrapping_add(1) << 32;
            // ORDERING [S4]: SeqCst; whoever announced before this is woken by the caller.
            match self.sleepers.compare_exchange(word, next, SeqCst, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // ORDERING [S5]: SeqCst; nobody falls asleep on the old value, whoever announced before is woken by the caller.
        self.sequence.fetch_add(1, SeqCst);
    }
}
