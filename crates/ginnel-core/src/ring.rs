//! The queue: a ring of slots, and a position for each end. What a producer does to it is in `producer`, what a consumer does in
//! `consumer`; here are the notation that both use, and what anybody may ask.
//!
//! Each slot carries its own sequence, as in Vyukov's bounded queue (1024cores.net, "Bounded MPMC queue"), so a consumer
//! learns from the slot and never needs the producers' position. Two deviations. The claim names its owner in the
//! same word, so that a survivor knows what a dead participant held. And a claim comes before the position moves, so
//! whoever finds a claimed slot under a position that has not moved yet moves it: a kill between the two harms nobody.
//!
//! ```text
//! slot   0  word: lap, state, owner (see `slot`)
//!        8  meta: length 32 bits | place 8 (0 inline, else class + 1) | 0 8 | tag 16
//!       16  the message, up to 112 bytes (fewer where the link's largest is); or: block's index (8), block's word (8)
//! ```
//!
//! A consumer that has its side for itself does not write to slots: it takes a message by moving `head` and releases it by
//! moving `released`, words of a line of its own, so that a slot's lines travel in one direction only. What it holds
//! is what is READY from `released` to `head`. A slot that somebody else may have to find is marked in its word: all
//! slots on a shared side; those that an exclusive consumer still held when it was revoked, which the revoker marks
//! in its name; those released out of order. Such a slot is released by its word, and `released` follows.
//!
//! [I1] Positions never decrease. The position of a side is never beyond the first slot that is not claimed, and behind it by one at
//! most; the tail by [`LAG_MAX`] at most while the side is exclusive, as its owner moves it where a batch ends. Whoever ends that,
//! the owner, its revoker or who recovers it, settles the tail. So `head` and `released` may be beyond the tail in memory, but
//! never beyond the one that the side's owner keeps.
//! [I2] On an exclusive side only its owner claims; on a shared side only a successful CAS does.
//! [I3] Messages leave in the order in which they were claimed, which on a shared side is the order of the CAS; only those
//! that went back after a death come later than that.
//! [I4] Every position below `released` was released. A slot at or above it is released when its word is FREE.
//! [I5] A slot below `head` that is READY and not below `released` is held by the participant that the consumers' side names, or
//! named when it was revoked.
//! [I6] `released` outweighs the word: a slot of a lap that it has passed is free, also if the word says READY or READING. It is moved only by
//! the participant that the side is exclusive to, or was until it was shared; no other can be both at the same time [I2@side].
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S9]  | word becomes READY, in commit | word load, in take | the message |
//! | [S10] | word becomes FREE, or `released` moves | word or `released` load, in claim | an empty slot |
//! | [S11] | position store or CAS | position load | that a slot below it is claimed |
//! | [S12] | `returns` add, in recovery | `returns` load, in take | slots that are RETURNED |

use crate::engine::{Corrupt, Engine, Meta, PushError};
use crate::growth::Growth;
use crate::header::{HEAD, RELEASED, RETURNS, TAIL};
use crate::layout::{BATCH_MAX, Shape};
use crate::memory::Line;
use crate::participants::Participant;
use crate::pool::Block;
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, spin};

/// Words of a slot.
pub(crate) const WORD: usize = 0;
pub(crate) const META: usize = 1;
pub(crate) const BLOCK_INDEX: usize = 2;
pub(crate) const BLOCK_WORD: usize = 3;

/// Messages of a run at most, which bounds the time in which its owner is busy.
pub const RUN_MAX: usize = 64;

/// Slots that the tail may lag behind at most: a batch that has not ended, and a run.
const LAG_MAX: u64 = BATCH_MAX + RUN_MAX as u64;

impl Engine {
    /// Moves a position on from a slot that is claimed, whoever claimed it.
    #[inline(always)]
    pub(crate) fn advance(&self, position: usize, from: u64) {
        // ORDERING [S11]: release; failure means that somebody else moved it.
        if self.control(position).compare_exchange(from, from.wrapping_add(1), AcqRel, Relaxed).is_err() {
            spin();
        }
    }

    /// Moves the producers' position on from the slots that an exclusive producer claimed before it moved it: see [I1].
    pub(crate) fn settle_tail(&self) -> u64 {
        self.claimed(|tail| self.advance(TAIL, tail))
    }

    /// The first position that is not claimed, which the tail may lag behind: see [I1]. Each position that it lags behind is passed to `step`.
    /// The caller is pinned.
    fn claimed(&self, step: impl Fn(u64)) -> u64 {
        self.claimed_by(|position| self.slot_word(position), step)
    }

    /// The same by another way to look at a slot.
    fn claimed_by(&self, word: impl Fn(u64) -> Word, step: impl Fn(u64)) -> u64 {
        // ORDERING [S11]: acquire; slots below are claimed.
        let tail = self.control(TAIL).load(Acquire);
        let most = if self.is_unbounded() { self.grown().saturating_sub(tail).min(LAG_MAX) } else { LAG_MAX };
        let lag = (0..most).map(|ahead| tail.wrapping_add(ahead));
        lag.take_while(|position| word(*position).is_claimed_in(self.layout().lap(*position)))
            .inspect(|position| step(*position))
            .last()
            .map_or(tail, |last| last.wrapping_add(1))
    }

    /// The first position that is not free by what `released` says, for a producer at `tail`, which is true, while `released` is a peer's
    /// word.
    pub(crate) fn limit(&self, tail: u64) -> Result<u64, PushError> {
        // ORDERING [S10]: acquire; the consumer is done with the slots below.
        let released = self.control(RELEASED).load(Acquire);
        if released > tail {
            return Err(PushError::Corrupt(Corrupt::Position));
        }
        if self.is_unbounded() {
            return self.grown_limit(tail);
        }
        Ok(released.saturating_add(self.layout().capacity()))
    }

    /// The second word of a slot whose first was read before.
    #[inline(always)]
    pub(crate) fn meta_in(&self, slot: &Line) -> Meta {
        // ORDERING: relaxed, published by the slot's word [S9].
        Meta(slot[META].load(Relaxed))
    }

    /// Index of the block that a slot points at.
    pub(crate) fn block_index_in(&self, slot: &Line) -> u64 {
        // ORDERING: relaxed, published by the slot's word [S9].
        slot[BLOCK_INDEX].load(Relaxed)
    }

    /// The block that a slot points at, if its message is not inline.
    pub(crate) fn block_in_slot(&self, slot: &Line, meta: Meta) -> Result<Option<Block>, Corrupt> {
        let Some(class) = meta.class() else { return Ok(None) };
        // ORDERING: relaxed, published by the slot's word [S9].
        let word = slot[BLOCK_WORD].load(Relaxed);
        self.check_block(class, self.block_index_in(slot), word, meta.len()).map(Some)
    }

    /// Gives a slot to the producers of the next lap.
    #[inline(always)]
    pub(crate) fn free_slot(&self, position: u64) {
        let slot = self.slot(position);
        // ORDERING [S10]: release; the reads of the message lie before.
        slot[WORD].store(Word::free(self.layout().lap(position).wrapping_add(1)).0, Release);
    }

    pub(crate) fn slot_word(&self, position: u64) -> Word {
        // ORDERING [S9] [S10]: acquire; whatever the word publishes.
        Word(self.slot(position)[WORD].load(Acquire))
    }

    // ---- looking

    /// Messages that can be received, as far as one look can tell; of a broadcast, those that the slowest receiver has not released. For
    /// who has no entry see [`Self::len_by`].
    pub fn len(&self, me: Participant) -> u64 {
        let pin = self.pin(me);
        let len = self.len_of(|position| self.slot_word(position));
        self.unpin(pin);
        len
    }

    /// The same for one who only looks. `word_at` loads the word at an offset of the link's file, and takes no memory if there is none: of an
    /// unbounded link, memory may be given back at this moment.
    pub fn len_by(&self, word_at: impl Fn(u64) -> u64) -> u64 {
        self.len_of(|position| Word(word_at(self.layout().slot(position) as u64)))
    }

    fn len_of(&self, word: impl Fn(u64) -> Word) -> u64 {
        if self.layout().is_latest() {
            return u64::from(self.newest_version() > 0);
        }
        if self.layout().stream_ring().is_some() {
            return 0; // it has bytes: `bytes_waiting`
        }
        if self.layout().is_broadcast() {
            return self.backlog();
        }
        // ORDERING: relaxed; the answer is old before it is used.
        let (tail, head) = (self.claimed_by(&word, |_| {}), self.control(HEAD).load(Relaxed));
        // ORDERING: relaxed, as above. Only after a death can messages have gone back.
        let returned = if self.control(RETURNS).load(Relaxed) == 0 { 0 } else { self.returned_below(head, word) };
        tail.saturating_sub(head).saturating_add(returned).min(self.layout().capacity())
    }

    fn returned_below(&self, head: u64, word: impl Fn(u64) -> Word) -> u64 {
        let returned = |at: &u64| {
            let word = word(*at);
            word.state() == Some(State::Returned) && self.layout().position(word.lap(), self.layout().index(*at)) < head
        };
        self.taken_range().filter(returned).count() as u64
    }

    /// Where slots may lie that were taken and are not released: all, or, on an unbounded link, those up to the head, which may lag by one. The caller is
    /// pinned, or looks in another way.
    pub(crate) fn taken_range(&self) -> core::ops::Range<u64> {
        if !self.is_unbounded() {
            return 0..self.layout().capacity();
        }
        // ORDERING [S11]: acquire; slots below are taken.
        let head = self.control(HEAD).load(Acquire);
        let (floor, grown) = (self.floor(), self.grown());
        let sound = floor <= head && head < grown && grown - floor <= self.layout().capacity();
        if sound { floor..head + 1 } else { 0..0 }
    }

    /// Whether a message that waits in the ring has a block, which dropping it would free.
    pub fn any_block_waits(&self) -> bool {
        (0..self.layout().capacity()).any(|index| {
            let waits = matches!(self.slot_word(index).state(), Some(State::Ready | State::Returned));
            waits && self.meta_in(self.slot(index)).class().is_some()
        })
    }

    /// Whether the next message finds no slot, as far as one look can tell: the link holds as many as it may, those in hand included.
    pub fn is_full(&self, me: Participant) -> bool {
        if self.layout().is_latest() {
            return false; // there is always room for a newer value
        }
        if self.layout().is_broadcast() {
            return self.is_held_up();
        }
        let pin = self.pin(me);
        let tail = self.claimed(|_| {});
        self.unpin(pin);
        if self.is_unbounded() {
            return tail.saturating_add(1) >= self.grown() && !matches!(self.ring_growth(), Growth::By(_));
        }
        let before = self.slot_word(tail).against(self.layout().lap(tail)) == Lap::Before;
        before && self.limit(tail).is_ok_and(|limit| tail >= limit)
    }

    /// Whether [`Self::len`] is zero.
    pub fn is_empty(&self, me: Participant) -> bool {
        self.len(me) == 0
    }

    /// The first position that is not claimed, of a link that is bounded.
    pub(crate) fn claimed_tail(&self) -> u64 {
        self.claimed(|_| {})
    }

    /// Positions of both ends: the next to take, the next to claim. Those of a stream count bytes. On a broadcast, what the slowest receiver is
    /// at in place of the first. For `word_at` see [`Self::len_by`].
    pub fn positions_by(&self, word_at: impl Fn(u64) -> u64) -> (u64, u64) {
        if self.layout().is_latest() {
            return (0, self.newest_version()); // nobody takes a value away
        }
        if self.layout().is_broadcast() {
            let tail = self.claimed_tail();
            return (tail.saturating_sub(self.backlog()), tail);
        }
        // ORDERING: relaxed; figures for people.
        let (head, tail) = (self.control(HEAD).load(Relaxed), self.control(TAIL).load(Relaxed));
        if self.layout().stream_ring().is_some() {
            return (head, tail);
        }
        (head, self.claimed_by(|position| Word(word_at(self.layout().slot(position) as u64)), |_| {}))
    }

    /// The same for a participant.
    pub fn positions(&self, me: Participant) -> (u64, u64) {
        let pin = self.pin(me);
        // ORDERING [S9] [S10]: acquire; whatever the word publishes.
        let positions = self.positions_by(|at| self.word(at as usize).load(Acquire));
        self.unpin(pin);
        positions
    }

    /// The oldest message that went back after a death, if there is one. The caller is pinned.
    pub(crate) fn oldest_returned(&self) -> Option<(u64, Word)> {
        self.taken_range()
            .filter_map(|at| {
                let word = self.slot_word(at);
                let returned = word.state() == Some(State::Returned);
                returned.then(|| (self.layout().position(word.lap(), self.layout().index(at)), word))
            })
            .min_by_key(|(position, _)| *position)
    }

    /// Whether no message is left, when nobody is there who could add or take one. On an unbounded link the caller holds the grow lock.
    pub(crate) fn is_drained(&self) -> bool {
        if self.layout().is_latest() {
            return self.newest_version() == 0;
        }
        match self.layout().geometry().shape {
            Shape::Stream => return self.bytes_waiting() == 0,
            Shape::Listener => return true, // nobody is left who could accept
            _ => {}
        }
        if self.layout().is_broadcast() {
            return true; // nobody is there who has not heard it
        }
        // ORDERING [S11]: acquire; what those who left did.
        let mut head = self.control(HEAD).load(Acquire);
        for _ in 0..=self.layout().capacity() {
            if self.is_unbounded() && head >= self.grown() {
                break;
            }
            let word = self.slot_word(head);
            match (word.against(self.layout().lap(head)), word.state()) {
                (Lap::Same, Some(State::Free)) | (Lap::Before, _) => break,
                (Lap::Same, Some(State::Reading | State::Skip)) | (Lap::After, _) => head = head.wrapping_add(1),
                _ => return false,
            }
        }
        // ORDERING [S12]: acquire; slots that went back.
        self.control(RETURNS).load(Acquire) == 0 || self.oldest_returned().is_none()
    }
}
