//! What a survivor does for a dead participant. The caller holds the dead one's liveness token, so exactly one survivor
//! recovers it, and if that one is killed too, the next one finds the entry not free and does the same again: each
//! step either changes a word that names the dead one, or can be repeated.
//!
//! | what the dead one held | becomes |
//! |---|---|
//! | a slot it was writing | SKIP: nothing was sent |
//! | a message it held, unread or not yet released | RETURNED: delivered again, marked |
//! | a message whose release had begun (`released` has passed it, or it owns the block) | released |
//! | a message it was dropping to make room | dropped, counted once |
//! | a block that no slot refers to | FREE |
//! | a cell in which it wrote a value, a pin | free; the value, if it was published before, stays |
//! | a cursor, as a listener of a broadcast | none: it holds nobody back |
//! | memory that it would have given back | left, for others to give back (see `growth`) |
//! | a side that was exclusive to it | SHARED: it may have died before it knew whether it is alone |
//!
//! [I1] Words are changed only from values that name the dead participant, by compare-and-swap.
//! [I2] The entry becomes FREE last, by [`Engine::finish_leave`], after the sleepers were woken.

use crate::engine::Engine;
use crate::header::{HEAD, RELEASED, RETURNS};
use crate::layout::Full;
use crate::participants::{CLAIM, LOSSES, LOSSES_NEXT, Participant, Role};
use crate::slot::{State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, SeqCst};

/// What was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which end the dead one was.
    pub role: Role,
    /// False if it was already leaving in good order, or another survivor had begun.
    pub was_open: bool,
    /// Messages that go back.
    pub returned: u64,
    /// Claims that vanish.
    pub skipped: u64,
}

impl Engine {
    /// Undoes what a dead participant held. Afterwards wake everybody who sleeps or listens on [`Self::items`] and [`Self::room`],
    /// then call [`Self::finish_leave`]. Nothing if the entry was free.
    pub fn recover(&self, dead: Participant) -> Option<Recovered> {
        let (role, was_open) = self.begin_recovery(dead)?;
        let mut recovered = Recovered { role, was_open, returned: 0, skipped: 0 };
        // In the dead one's name: its entry is the caller's. A second recovery finds it so, or does the same.
        let pin = self.pin(dead);
        if self.layout().geometry().full == Full::DropOldest {
            self.settle_losses(dead, role);
        }
        if self.layout().is_broadcast() {
            self.stop_listening(dead);
        }
        self.undo_claims(dead, role, &mut recovered);
        self.unpin(pin);
        self.resign_sides_of_dead(dead);
        self.leave_memory();
        // ORDERING [S12@ring]: SeqCst; the slots that went back. Even if none did: a first survivor may have died before this line.
        self.control(RETURNS).fetch_add(1, SeqCst);
        self.bump_membership();
        // The caller wakes all, whoever was announced: the dead one may have taken announcements down.
        let _ = (self.items().reset(), self.room().reset());
        Some(recovered)
    }

    /// The same for a participant that lives, but forgot guards: it leaves.
    pub fn recover_self(&self, me: Participant) {
        let role = self.state(me).role();
        let mut recovered = Recovered { role: Role::Sender, was_open: true, returned: 0, skipped: 0 };
        let Some(role) = role else { return };
        let losses = &self.hot(me)[LOSSES];
        // What left its slot was received, by one that lives: it is not lost with its guard.
        // ORDERING: relaxed; one writer.
        losses.store(losses.load(Relaxed) & !crate::participants::HELD_MASK, Relaxed);
        let pin = self.pin(me);
        self.undo_claims(me, role, &mut recovered);
        self.unpin(pin);
        self.leave_memory();
        // ORDERING [S12@ring]: SeqCst; the slots that went back.
        self.control(RETURNS).fetch_add(1, SeqCst);
    }

    fn undo_claims(&self, dead: Participant, role: Role, recovered: &mut Recovered) {
        if self.layout().is_latest() {
            recovered.skipped = self.recover_cells(dead);
            return;
        }
        if role == Role::Receiver && self.is_exclusive_to(role, dead) {
            self.mark_held(dead); // then they are found as on a shared side
        }
        for at in self.range_of(dead, role) {
            self.recover_slot(dead, role, self.layout().index(at), recovered);
        }
        self.free_blocks_of(dead);
    }

    /// Where the slots may lie that name a participant. On an unbounded link a sender has one at most, where it tried to claim one last.
    fn range_of(&self, dead: Participant, role: Role) -> core::ops::Range<u64> {
        if role == Role::Receiver || !self.is_unbounded() {
            return self.taken_range();
        }
        // ORDERING: relaxed; the writer is dead.
        let claim = self.entry_word(dead, CLAIM).load(Relaxed);
        let (floor, grown) = (self.floor(), self.grown());
        let there = floor <= claim && claim < grown && grown - floor <= self.layout().capacity();
        if there { claim..claim + 1 } else { 0..0 }
    }

    fn recover_slot(&self, dead: Participant, role: Role, index: u64, recovered: &mut Recovered) {
        let word = self.slot_word(index);
        if !word.is_owned_by(dead) {
            return;
        }
        match word.state() {
            Some(State::Writing) => {
                self.replace(index, word, State::Skip);
                recovered.skipped += 1;
            }
            Some(State::Reading) if self.was_released(word, index) => {
                // ORDERING [S10@ring]: release; failure means that a producer of the next lap was first.
                let free = Word::free(word.lap().wrapping_add(1));
                let _ = self.slot(index)[0].compare_exchange(word.0, free.0, AcqRel, Acquire);
            }
            Some(State::Reading) if self.is_being_released(dead, role, index) => {
                self.finish_release(dead, self.layout().position(word.lap(), index));
            }
            Some(State::Reading) => {
                self.replace(index, word, State::Returned);
                recovered.returned += 1;
            }
            _ => {}
        }
    }

    fn replace(&self, index: u64, word: Word, state: State) {
        let next = Word::new(word.lap(), state, None);
        // ORDERING [S9@ring]: release; what the dead one's claim published goes on.
        let _ = self.slot(index)[0].compare_exchange(word.0, next.0, AcqRel, Acquire);
    }

    /// Whether `released` has passed a slot, though it may have been marked at that moment [I6@ring].
    fn was_released(&self, word: Word, index: u64) -> bool {
        // ORDERING [S11@ring]: acquire; the slot lies below, by less than a lap.
        let lap_now = self.layout().lap(self.control(HEAD).load(Acquire));
        let lap = lap_now.wrapping_sub(word.laps_before(lap_now));
        // ORDERING [S10@ring]: acquire; what the dead one released last.
        self.layout().position(lap, index) < self.control(RELEASED).load(Acquire)
    }

    /// A sender holds a slot only to drop its message; a receiver that took the block over has consumed it.
    fn is_being_released(&self, dead: Participant, role: Role, index: u64) -> bool {
        role == Role::Sender || self.took_block_in(self.slot(index), dead)
    }

    /// Goes on where the dead one stopped, in its name: its block is freed with all others that are its.
    fn finish_release(&self, dead: Participant, position: u64) {
        let slot = self.slot(position);
        if let Ok(Some(mut block)) = self.block_in_slot(slot, self.meta_in(slot)) {
            self.take_over_block(&mut block, dead);
        }
        self.free_slot(position);
    }

    /// Counts what is lost, in one store, before anything else changes: a second recovery then finds nothing to count.
    fn settle_losses(&self, dead: Participant, role: Role) {
        let held = |index: &u64| {
            let word = self.slot_word(*index);
            word.is_owned_by(dead) && word.state() == Some(State::Reading)
        };
        let mut holding = (0..self.layout().capacity()).filter(held);
        let losses = &self.hot(dead)[LOSSES];
        // ORDERING: relaxed; the writer is dead, its entry is the caller's.
        let now = losses.load(Relaxed);
        if role == Role::Sender {
            if holding.next().is_some() {
                // ORDERING: relaxed, as above.
                losses.store(self.entry_word(dead, LOSSES_NEXT).load(Relaxed), Relaxed);
            }
            return;
        }
        let goes_back = holding.filter(|index| !self.took_block_in(self.slot(*index), dead)).count() as u64;
        let lost = (now & crate::participants::HELD_MASK).saturating_sub(goes_back);
        let dropped = (now >> crate::participants::DROPPED_SHIFT).wrapping_add(lost);
        // ORDERING: relaxed, as above.
        losses.store(dropped << crate::participants::DROPPED_SHIFT, Relaxed);
    }
}
