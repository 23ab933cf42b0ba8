//! An event count: how those who make messages, or room, learn whether anybody sleeps for it.
//!
//! ```text
//! +0  u32  sequence: the futex word, grows with each wake
//! +8  u64  epoch 32 bits | listens 1 bit | sleepers 31 bits
//! ```
//! The algorithm is the classic event count. A sleeper reads the sequence, announces itself, looks once more at what it
//! waits for, and sleeps only if the sequence has not moved. A waker publishes, then looks for sleepers, and makes a
//! system call only if there are any. The waker takes the announcements down: it begins a new epoch, in which nobody
//! sleeps, and wakes all; who still has to wait announces itself again. So a burst of messages to a sleeper costs one
//! system call, and what a killed sleeper announced costs one more, once.
//!
//! Who cannot sleep on the word, as it waits for other things too, *listens*: it sets the bit, looks once more, and then waits for
//! whatever the waker is to do for those who listen (the crate above reads a byte of the link's file, which inotify reports). One bit for
//! all of them: it is not withdrawn, as it may be another's too; what is left of one who gave up costs the next waker one call, once.
//!
//! [I1] If a sleeper sleeps, either it announced itself before the waker looked, and is woken; or the waker published
//! before the sleeper looked again, and it does not sleep. The same for one who listens.
//! [I2] Whoever takes announcements down owes each kind its wake. If it is killed first, its recoverer wakes all, announced or not.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S4] | publish, light fence, load sleepers | add sleeper or set the bit, heavy fence, look again | [I1]: store before load on both sides |
//! | [S5] | sequence add | sequence load, before sleeping | that a wake happened |

use crate::sync::{AtomicU32, AtomicU64, Fences, Relaxed, SeqCst};

/// Anybody, of either kind.
const ANNOUNCED: u64 = 0xFFFF_FFFF;
/// Somebody listens.
const LISTENS: u64 = 1 << 31;
/// How many sleep.
const COUNT_MASK: u64 = LISTENS - 1;

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

/// Whom a waker found announced: it owes them a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "those whose announcement was taken down wait for ever if they are not woken"]
pub struct Called {
    /// Some sleep on the futex word.
    pub sleepers: bool,
    /// Some listen.
    pub listeners: bool,
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

    /// Announces one who listens. The caller then looks again at what it waits for, and waits only if it is still not there.
    pub fn listen(&self) {
        // ORDERING [S4]: SeqCst or, then the heavy fence, then the caller looks.
        self.sleepers.fetch_or(LISTENS, SeqCst);
        self.fences.heavy();
    }

    /// After something was published: who must be woken, if anybody: all sleepers on the futex word, and all who listen.
    #[inline(always)]
    pub fn notify(&self) -> Option<Called> {
        self.fences.light();
        // ORDERING [S4]: relaxed after the light fence.
        if self.sleepers.load(Relaxed) & ANNOUNCED == 0 {
            return None;
        }
        Some(self.reset())
    }

    /// The same for one who published on a side that is exclusive to it: whether anybody is announced. Then [`Self::take_down`] tells who.
    #[inline(always)]
    pub fn is_announced_of_exclusive(&self) -> bool {
        self.fences.light_of_exclusive();
        // ORDERING [S4]: relaxed after the light fence.
        self.sleepers.load(Relaxed) & ANNOUNCED != 0
    }

    /// Whether anybody is announced, or was when it was killed: a hint for who asks again.
    pub fn is_announced(&self) -> bool {
        // ORDERING: relaxed; a hint.
        self.sleepers.load(Relaxed) & ANNOUNCED != 0
    }

    /// What [`Self::notify`] does when anybody is announced.
    #[cold]
    pub fn take_down(&self) -> Called {
        self.reset()
    }

    /// Something was published that all must see, announced or not: nobody falls asleep any more who has not seen it. The caller wakes all. Whoever is announced
    /// stays so: if the caller is killed before that, the next waker owes them the wake.
    #[cold]
    pub fn stir(&self) {
        // ORDERING [S5]: SeqCst, after what was published: who reads the word later sees that too, and who read it before does not sleep on it.
        self.sequence.fetch_add(1, SeqCst);
    }

    /// Begins a new epoch in which nobody is announced. The caller wakes all: those who still wait announce themselves again.
    #[cold]
    pub(crate) fn reset(&self) -> Called {
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
        let called = Called { sleepers: word & COUNT_MASK != 0, listeners: word & LISTENS != 0 };
        // ORDERING [S5]: SeqCst; nobody falls asleep on the old value, whoever announced before is woken by the caller.
        self.sequence.fetch_add(1, SeqCst);
        called
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn fences() -> Fences {
        Fences { asymmetric: false, heavy: || crate::sync::fence(SeqCst) }
    }

    #[test]
    fn each_kind_is_told_from_the_other_and_once() {
        let (sequence, sleepers) = (AtomicU32::new(0), AtomicU64::new(0));
        let event = Event::new(&sequence, &sleepers, fences());
        assert_eq!(event.notify(), None);
        event.listen();
        event.listen();
        assert_eq!(event.notify(), Some(Called { sleepers: false, listeners: true }));
        assert_eq!(event.notify(), None);
        let waiting = event.arm();
        assert_eq!(event.notify(), Some(Called { sleepers: true, listeners: false }));
        event.disarm(waiting);
        let waiting = event.arm();
        event.listen();
        event.disarm(waiting); // the bit is not its own
        event.disarm(waiting); // nor does a second withdrawal reach it
        assert_eq!(event.notify(), Some(Called { sleepers: false, listeners: true }));
    }

    #[test]
    fn who_is_stirred_does_not_sleep_and_stays_announced() {
        let (sequence, sleepers) = (AtomicU32::new(0), AtomicU64::new(0));
        let event = Event::new(&sequence, &sleepers, fences());
        let waiting = event.arm();
        event.listen();
        event.stir();
        assert_ne!(event.futex_word().load(SeqCst), waiting.sequence);
        assert_eq!(event.notify(), Some(Called { sleepers: true, listeners: true }));
        event.disarm(waiting);
    }
}
