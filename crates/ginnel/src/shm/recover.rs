//! What is done for the dead of a link: finding them by their tokens, which the kernel has let go of, and repairing what they left. The repair itself is ginnel-core's.
//!
//! Who takes the token of a dead participant recovers it, alone: death and the right to repair are one system call, for which a descriptor is needed for a moment. One
//! for whose token there is none, not even that in reserve (see the crate's `watch`), stays dead until somebody looks again.

use super::region::{PATIENCE, Region};
use ginnel_core::{ALIVE_BASE, Participant, ParticipantState, TOKEN_BASE};
use ginnel_os::ofd_lock;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Region {
    /// Whether nobody holds a participant's token. On an error the answer is no: never recover the living.
    fn is_dead(&self, participant: Participant) -> bool {
        let byte = TOKEN_BASE + u64::from(participant.number());
        matches!(ofd_lock::first_locked(self.file.as_fd(), byte, 1), Ok(None))
    }

    /// Looks for dead participants and recovers them. Returns how many.
    pub(crate) fn reap(&self) -> usize {
        self.reap_all().0
    }

    /// The same; and whether that was all: one for whose token there is no descriptor has to wait, and so has memory that nobody gives back.
    pub(crate) fn reap_all(&self) -> (usize, bool) {
        let (mut recovered, mut all) = (0, true);
        if !self.is_ours() {
            return (recovered, all);
        }
        let there = self.engine.participants().filter(|p| self.engine.state(*p) != ParticipantState::Free);
        for dead in there.filter(|p| self.is_dead(*p)) {
            match self.recover_dead(dead) {
                Ok(done) => recovered += usize::from(done),
                Err(_) => all = false,
            }
        }
        all &= self.give_back_left(); // of the dead, for one; after the sleepers were woken
        (recovered, all)
    }

    /// Recovers the dead; whether nobody was dead, and nobody else is recovering anybody.
    pub(crate) fn is_settled(&self) -> bool {
        // The token of one that does not live is held by who recovers it, or is about to.
        let lives = |p: Participant| {
            let byte = ALIVE_BASE + u64::from(p.number());
            !matches!(ofd_lock::first_locked(self.file.as_fd(), byte, 1), Ok(None))
        };
        self.reap() == 0
            && self.engine.participants().all(|p| self.engine.state(p) == ParticipantState::Free || lives(p))
    }

    /// Recovers the dead, and lets others finish who do. That one of these is stopped in the middle of it is no reason to wait for long.
    pub(crate) fn settle(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.is_settled() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn recover_dead(&self, dead: Participant) -> std::io::Result<bool> {
        match self.take(TOKEN_BASE + u64::from(dead.number()))? {
            Some(_token) => Ok(self.recover(dead)),
            None => Ok(false), // it closed meanwhile, or somebody else recovers it
        }
    }

    /// Recovers an entry whose token the caller holds. False if there was nothing to recover.
    pub(super) fn recover(&self, dead: Participant) -> bool {
        let recovered = self.engine.recover(dead).is_some();
        if recovered {
            self.wake_all();
            self.engine.finish_leave(dead);
        }
        recovered
    }
}
