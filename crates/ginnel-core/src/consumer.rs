//! The consumers' end of the ring: take and release. The notation, the invariants and the synchronisation are those of `ring`.
//!
//! Two ways, as `side` says. A consumer that has its side for itself takes by moving `head` and releases by moving `released`, and
//! writes to no slot. On a shared side a compare-and-swap takes the slot in its owner's name, and a store of its word releases it.
//!
//! A *run* is several inline messages that an exclusive consumer takes, and releases, in one operation.

use crate::engine::{Corrupt, Delivery, Engine, Meta, PopError};
use crate::header::{HEAD, RELEASED, RETURNS};
use crate::layout::SLOT_HEAD;
use crate::memory::{Line, fetch_behind, fetch_second};
use crate::pace::Pace;
use crate::participants::{BYTES, Participant, REDELIVERED, Role, SKIPPED, add};
use crate::ring::{RUN_MAX, WORD};
use crate::side::{Bias, Entered};
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, spin};
use core::cell::Cell;

/// What a receiver remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Consumer {
    pub(crate) me: Participant,
    bias: Bias,
    pub(crate) head: Cell<u64>,
    /// Read by [`Self::released`] alone.
    released: Cell<u64>,
    /// In place of `released`, if moving it is all that the next release takes: this handle had the side for itself at its last operation, and
    /// no slot from there to `head` is marked in its word. Else [`NEVER`].
    next_release: Cell<u64>,
    returns_seen: Cell<u64>,
    /// It freed a slot that held no message: who waits for room must be told.
    made_room: Cell<bool>,
    /// Deliveries in hand whose slots were marked when they were taken.
    marked: Cell<u64>,
    /// It released the last slot of an extent: memory may be given back.
    passed_extent: Cell<bool>,
    /// It received a message that has a block since block memory was given back last.
    had_blocks: Cell<bool>,
    pub(crate) pace: Pace,
}

/// Inline messages that were taken together, one slot after the other.
#[derive(Debug)]
pub struct Run {
    start: u64,
    len: usize,
}

impl Run {
    /// How many messages: at least one.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Bytes of a message in the first 64 of its slot.
const FIRST_LINE: usize = 64 - SLOT_HEAD;
/// A position that no slot has.
const NEVER: u64 = u64::MAX;

/// A slot that the caller took, before its message is looked at.
pub(crate) struct Taken {
    pub(crate) position: u64,
    redelivered: bool,
    /// In its word, and not by the position of an exclusive side.
    marked: bool,
}

impl Consumer {
    /// A receiver that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self {
            me,
            bias: Bias::default(),
            head: Cell::new(0),
            released: Cell::new(0),
            next_release: Cell::new(NEVER),
            returns_seen: Cell::new(0),
            made_room: Cell::new(false),
            marked: Cell::new(0),
            passed_extent: Cell::new(false),
            had_blocks: Cell::new(false),
            pace: Pace::default(),
        }
    }

    pub(crate) fn bias(&self) -> &Bias {
        &self.bias
    }

    /// Whether a slot without a message was freed since this was last asked: if so, notify [`Engine::room`].
    pub fn take_made_room(&self) -> bool {
        self.made_room.take()
    }

    /// Whether it released the last slot of an extent since this was last asked: if so, it is time for [`Engine::ring_to_punch`].
    #[inline]
    pub fn take_passed_extent(&self) -> bool {
        self.passed_extent.take()
    }

    /// Whether it received a message that has a block since this was last asked: if so, there may be some to give back.
    pub fn take_had_blocks(&self) -> bool {
        self.had_blocks.take()
    }

    /// What was asked for could not be given back now: it is still to be.
    pub fn still_had_blocks(&self) {
        self.had_blocks.set(true);
    }

    /// The next take goes the slow way, where this is noticed: the fast one costs no look for it.
    #[cold]
    fn pass_extent(&self) {
        self.passed_extent.set(true);
        self.returns_seen.set(u64::MAX);
    }

    /// Forgets that the side was this consumer's: its operations without locks are over.
    pub fn give_up_side(&self) {
        self.bias.forget();
        self.release_by_words();
    }

    /// Slots below were released, as far as this handle knows.
    fn released(&self) -> u64 {
        let next = self.next_release.get();
        if next == NEVER { self.released.get() } else { next }
    }

    /// From now on the word of each slot says who holds it: the next release is not the fast one.
    fn release_by_words(&self) {
        self.released.set(self.released());
        self.next_release.set(NEVER);
    }

    /// Whether a message may be in hand. Never false if one is; it may be true without one after the side changed hands, or after a
    /// slot without a message was passed over.
    pub fn may_hold(&self) -> bool {
        self.marked.get() != 0 || self.head.get() != self.released()
    }
}

impl Engine {
    /// The common case of [`Self::take_slot`]: a committed inline message, on a side that is exclusive. `None` otherwise, with
    /// nothing done. With its slot.
    #[inline(always)]
    pub(crate) fn take_fast(&self, consumer: &Consumer, patient: bool) -> Option<(Delivery, &Line)> {
        // ORDERING [S12@ring]: acquire; slots that went back before this value.
        if self.control(RETURNS).load(Acquire) != consumer.returns_seen.get() {
            return None;
        }
        if patient && !self.may_take(consumer) {
            return None;
        }
        let hot = self.hot(consumer.me);
        let inside = self.enter_exclusive(&consumer.bias, Role::Receiver, hot)?;
        let head = consumer.head.get();
        let offset = self.layout().slot(head);
        let slot = self.memory().line(offset);
        if self.knows_ahead(consumer, head) {
            fetch_behind(slot, self.layout().bytes_ahead());
        } else if self.layout().inline_max() > FIRST_LINE {
            // It comes while the first does, if the sender has just written both: else a message of two lines is waited for twice.
            fetch_second(slot);
        }
        // ORDERING [S9@ring]: acquire; the message.
        let ready = slot[WORD].load(Acquire) == Word::ready(self.layout().lap(head)).0;
        let meta = self.meta_in(slot);
        let common = ready && meta.is_inline_of(self.layout().inline_max());
        if common {
            let next = head.wrapping_add(1);
            consumer.head.set(next);
            // ORDERING [S11@ring]: release; the slot below is taken.
            self.control(HEAD).store(next, Release);
            add(&hot[BYTES], meta.len() as u64);
        }
        inside.leave(hot, u64::from(common));
        common.then_some((Delivery { position: head, offset: offset + SLOT_HEAD, meta, block_word: 0 }, slot))
    }

    /// Takes as many committed inline messages as lie at the head, up to `most`, if the side is exclusive to this consumer. The
    /// length of each is looked at again when it is read.
    pub(crate) fn take_run(&self, consumer: &Consumer, most: usize, patient: bool) -> Option<Run> {
        // ORDERING [S12@ring]: acquire; slots that went back before this value.
        if self.control(RETURNS).load(Acquire) != consumer.returns_seen.get() {
            return None;
        }
        if patient && !self.may_take(consumer) {
            return None;
        }
        let hot = self.hot(consumer.me);
        let inside = self.enter_exclusive(&consumer.bias, Role::Receiver, hot)?;
        let start = consumer.head.get();
        let most = most.min(RUN_MAX).min(self.reach(consumer));
        let (mut len, mut bytes) = (0, 0);
        while len < most {
            let position = start.wrapping_add(len as u64);
            let slot = self.slot(position);
            if self.knows_ahead(consumer, position) {
                fetch_behind(slot, self.layout().bytes_ahead());
            }
            // ORDERING [S9@ring]: acquire; the message.
            let ready = slot[WORD].load(Acquire) == Word::ready(self.layout().lap(position)).0;
            let meta = self.meta_in(slot);
            if !ready || !meta.is_inline_of(self.layout().inline_max()) {
                break;
            }
            bytes += meta.len() as u64;
            len += 1;
        }
        if len > 0 {
            consumer.head.set(start.wrapping_add(len as u64));
            // ORDERING [S11@ring]: release; the slots below are taken.
            self.control(HEAD).store(consumer.head.get(), Release);
            add(&hot[BYTES], bytes);
        }
        inside.leave(hot, len as u64);
        (len > 0).then_some(Run { start, len })
    }

    /// Offset, length and tag of a message of a run.
    ///
    /// # Panics
    /// If `index` is not below the run's length.
    #[inline(always)]
    pub fn message_in(&self, run: &Run, index: usize) -> (usize, usize, u16) {
        assert!(index < run.len, "a message beyond the run");
        let offset = self.layout().slot(run.start.wrapping_add(index as u64));
        let meta = self.meta_in(self.memory().line(offset));
        // A peer that changes it now makes it shorter, never longer than the slot.
        (offset + SLOT_HEAD, meta.len().min(self.layout().inline_max()), meta.tag())
    }

    pub(crate) fn take_slot(&self, consumer: &Consumer) -> Result<Delivery, PopError> {
        let me = consumer.me;
        // ORDERING [S12@ring]: acquire; slots that went back before this value.
        let returns = self.control(RETURNS).load(Acquire);
        if returns != consumer.returns_seen.get() {
            let pin = self.pin(me);
            let taken = if returns == 0 { None } else { self.take_returned(me) };
            self.unpin(pin);
            match taken {
                Some(taken) => {
                    consumer.release_by_words();
                    return self.deliver(consumer, &taken);
                }
                None => consumer.returns_seen.set(returns),
            }
        }
        let taken = match self.enter_side(&consumer.bias, Role::Receiver, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    // ORDERING [S11@ring]: acquire; what the side's former owners took and released.
                    let head = self.control(HEAD).load(Acquire);
                    // Positions a lap ago were released by their words, or the producers could not have gone on.
                    let lap_ago = head.saturating_sub(self.layout().capacity());
                    consumer.head.set(head);
                    // ORDERING [S10@ring]: acquire, as for the head.
                    let released = self.control(RELEASED).load(Acquire);
                    consumer.next_release.set(NEVER);
                    consumer.released.set(released.max(lap_ago).max(self.floor()).min(head));
                }
                let taken = self.take_exclusive(consumer);
                self.leave_side(me);
                taken?
            }
            other => {
                consumer.release_by_words();
                match other {
                    Entered::Corrupt => return Err(PopError::Corrupt(Corrupt::Mode)),
                    Entered::Shared => {
                        let pin = self.pin(me);
                        let taken = self.take_shared(consumer);
                        self.unpin(pin);
                        taken?
                    }
                    _ => return Err(PopError::Busy),
                }
            }
        };
        self.deliver(consumer, &taken)
    }

    fn take_exclusive(&self, consumer: &Consumer) -> Result<Taken, PopError> {
        // More than one step only over slots that hold no message.
        for _ in 0..=2 * self.layout().capacity() {
            let head = consumer.head.get();
            if self.is_unbounded() && head >= self.grown() {
                return Err(PopError::Corrupt(Corrupt::Position));
            }
            let (slot, lap) = (self.slot(head), self.layout().lap(head));
            // ORDERING [S9@ring]: acquire; the message.
            let word = Word(slot[WORD].load(Acquire));
            if word == Word::free(lap) {
                return Err(PopError::Empty);
            }
            let state = word.state();
            match (word.against(lap), state) {
                (Lap::Same, Some(State::Ready)) => {
                    self.take_next(consumer);
                    return Ok(Taken { position: head, redelivered: false, marked: false });
                }
                (Lap::Same, Some(State::Returned)) => {
                    // A newcomer that looks for returned messages does not enter the side: only a CAS decides between the two.
                    let mine = self.mark_taken(slot, word, consumer.me);
                    consumer.release_by_words();
                    self.take_next(consumer);
                    if mine {
                        return Ok(Taken { position: head, redelivered: true, marked: true });
                    }
                }
                (Lap::Same, Some(State::Skip)) => {
                    self.skip(consumer, slot, word);
                    self.take_next(consumer);
                }
                (Lap::Same, Some(State::Writing)) => return Err(PopError::Busy),
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => consumer.head.set(head.wrapping_add(1)),
                (Lap::Before, Some(state)) if state != State::Free => return Err(PopError::Empty),
                _ => break,
            }
        }
        Err(PopError::Corrupt(Corrupt::Slot))
    }

    /// Moves an exclusive side past the slot at its head.
    fn take_next(&self, consumer: &Consumer) {
        consumer.head.set(consumer.head.get().wrapping_add(1));
        // ORDERING [S11@ring]: release; the slot below is taken.
        self.control(HEAD).store(consumer.head.get(), Release);
    }

    /// Claims a committed message in its slot's word. False if somebody else was first.
    fn mark_taken(&self, slot: &Line, word: Word, me: Participant) -> bool {
        // ORDERING [S9@ring]: acquire on success; the claim names its owner in the same word.
        slot[WORD].compare_exchange(word.0, Word::reading(word.lap(), me).0, AcqRel, Relaxed).is_ok()
    }

    pub(crate) fn take_shared(&self, consumer: &Consumer) -> Result<Taken, PopError> {
        loop {
            // ORDERING [S11@ring]: acquire; slots below are taken.
            let head = self.control(HEAD).load(Acquire);
            if self.is_unbounded() && head >= self.grown() {
                return Err(PopError::Corrupt(Corrupt::Position));
            }
            let (slot, lap) = (self.slot(head), self.layout().lap(head));
            // ORDERING [S9@ring]: acquire; the message.
            let word = Word(slot[WORD].load(Acquire));
            let (lap_seen, state) = (word.against(lap), word.state());
            match (lap_seen, state) {
                (Lap::Same, Some(State::Ready | State::Returned)) => {
                    if !self.mark_taken(slot, word, consumer.me) {
                        spin();
                        continue;
                    }
                    self.advance(HEAD, head);
                    let redelivered = state == Some(State::Returned);
                    return Ok(Taken { position: head, redelivered, marked: true });
                }
                (Lap::Same, Some(State::Skip)) => {
                    self.skip(consumer, slot, word);
                    self.advance(HEAD, head);
                }
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => self.advance(HEAD, head),
                (lap_seen, state) => {
                    // ORDERING [S11@ring]: acquire; a stale position explains any word.
                    if self.control(HEAD).load(Acquire) != head {
                        spin();
                        continue;
                    }
                    return Err(match (lap_seen, state) {
                        (Lap::Same, Some(State::Writing)) => PopError::Busy,
                        (Lap::Same, Some(State::Free)) => PopError::Empty,
                        (Lap::Before, Some(state)) if state != State::Free => PopError::Empty,
                        _ => PopError::Corrupt(Corrupt::Slot),
                    });
                }
            }
        }
    }

    /// Passes over a slot whose producer died before it committed. In one step: a slot without a message is never anybody's, or
    /// a second death would make a message of it.
    #[cold]
    fn skip(&self, consumer: &Consumer, slot: &Line, word: Word) {
        let free = Word::free(word.lap().wrapping_add(1));
        // ORDERING [S10@ring]: release; failure means that somebody else passed over it.
        if slot[WORD].compare_exchange(word.0, free.0, Release, Relaxed).is_ok() {
            self.count(consumer.me, SKIPPED, 1);
            consumer.made_room.set(true);
            consumer.release_by_words();
        }
    }

    /// Takes the oldest message that went back after a death, if there is one.
    #[cold]
    fn take_returned(&self, me: Participant) -> Option<Taken> {
        loop {
            let (position, word) = self.oldest_returned()?;
            if self.mark_taken(self.slot(position), word, me) {
                return Some(Taken { position, redelivered: true, marked: true });
            }
        }
    }

    /// Reads what a taken slot holds. Everything in it is a peer's value.
    fn deliver(&self, consumer: &Consumer, taken: &Taken) -> Result<Delivery, PopError> {
        let me = consumer.me;
        if taken.marked {
            consumer.marked.set(consumer.marked.get() + 1); // whatever is in it
        }
        let slot = self.slot(taken.position);
        let meta = self.meta_in(slot);
        let block = self.block_in_slot(slot, meta).map_err(PopError::Corrupt)?;
        let offset = match &block {
            None if meta.len() <= self.layout().inline_max() => self.layout().slot(taken.position) + SLOT_HEAD,
            None => return Err(PopError::Corrupt(Corrupt::Length)),
            Some(block) => {
                consumer.had_blocks.set(true);
                self.block_range(block).0
            }
        };
        if taken.redelivered {
            self.count(me, REDELIVERED, 1);
        }
        self.count_message(me, meta.len());
        let meta = meta.plain().marked(taken.marked).redelivered(taken.redelivered);
        Ok(Delivery { position: taken.position, offset, meta, block_word: block.map_or(0, |block| block.word) })
    }

    /// A delivery is no longer in hand.
    pub(crate) fn put_down(&self, consumer: &Consumer, meta: Meta) {
        if meta.is_marked() {
            consumer.marked.set(consumer.marked.get() - 1);
        }
    }

    /// The common case of [`Self::release_slot`]: the caller had the side for itself at its last operation, the slots are the next ones, and
    /// none that it held then is marked. False otherwise, with nothing done.
    ///
    /// It does not ask whether the side still is its own. If somebody revokes it now, slots that this gives away may be marked
    /// in the caller's name; `released` has passed them, and that is what counts [I6@ring]. And nobody else can have got the
    /// side: nobody is alone while this handle has an entry [I2@side].
    #[inline(always)]
    pub(crate) fn release_next(&self, consumer: &Consumer, start: u64, len: u64) -> bool {
        if start != consumer.next_release.get() {
            return false;
        }
        let end = start.wrapping_add(len);
        consumer.next_release.set(end);
        // ORDERING [S10@ring]: release; the reads of the messages lie before.
        self.control(RELEASED).store(end, Release);
        if self.announce_freed(start, end) && self.layout().ends_extent(start, end) {
            consumer.pass_extent();
        }
        true
    }

    /// Releases a slot that the caller took. Moves `released` if the caller has the side for itself, the slot is the next one,
    /// and none that it holds is marked; else marks the word.
    #[inline(always)]
    pub(crate) fn release_slot(&self, consumer: &Consumer, position: u64) {
        if !self.release_next(consumer, position, 1) {
            self.release_by_word(consumer, position);
        }
    }

    /// Releases a run.
    pub(crate) fn release_slots(&self, consumer: &Consumer, run: &Run) {
        if self.release_next(consumer, run.start, run.len as u64) {
            return;
        }
        for index in 0..run.len as u64 {
            self.release_slot(consumer, run.start.wrapping_add(index));
        }
    }

    #[cold]
    fn release_by_word(&self, consumer: &Consumer, position: u64) {
        let (slot, lap) = (self.slot(position), self.layout().lap(position));
        let (ready, free) = (Word::ready(lap).0, Word::free(lap.wrapping_add(1)).0);
        // ORDERING: relaxed; only the caller, or a revoker that marks what the caller holds, changes it now.
        let unmarked = slot[WORD].load(Relaxed) == ready;
        // ORDERING [S10@ring]: release; the reads of the message lie before. A revoker may mark the slot in the caller's name at this
        // moment: either it finds the slot free, or its mark is replaced.
        if !unmarked || slot[WORD].compare_exchange(ready, free, Release, Relaxed).is_err() {
            self.free_slot(position);
        }
        consumer.release_by_words();
        if self.layout().ends_extent(position, position.wrapping_add(1)) {
            consumer.pass_extent();
        }
        let hot = self.hot(consumer.me);
        let Some(inside) = self.enter_exclusive(&consumer.bias, Role::Receiver, hot) else { return };
        let head = consumer.head.get();
        // What was taken a lap ago was released, or the producers could not have gone on.
        let lap_ago = head.saturating_sub(self.layout().capacity());
        let mut released = consumer.released().max(lap_ago).max(self.floor());
        while released < head && self.slot_word(released).is_released_in(self.layout().lap(released)) {
            released += 1;
        }
        consumer.released.set(released);
        consumer.next_release.set(if self.any_marked(released, head) { NEVER } else { released });
        // ORDERING [S10@ring]: release; the slots below are free.
        self.control(RELEASED).store(released, Release);
        inside.leave(hot, 0);
    }

    /// Whether a slot that is taken but not below `released` may be marked in its word: of many, this is not looked up, as `busy` is up meanwhile.
    fn any_marked(&self, released: u64, head: u64) -> bool {
        head.saturating_sub(released) > RUN_MAX as u64
            || (released..head).any(|p| self.slot_word(p) != Word::ready(self.layout().lap(p)))
    }

    /// A position, but not beyond what has memory on an unbounded link.
    fn end_of_memory(&self, position: u64) -> u64 {
        if self.is_unbounded() { position.min(self.grown()) } else { position }
    }

    /// Marks what an exclusive consumer holds as its own, slot by slot: it is being revoked, or is dead. The caller is pinned.
    pub(crate) fn mark_held(&self, holder: Participant) {
        // ORDERING [S11@ring] [S10@ring]: acquire; what the holder took and released last.
        let (head, released) = (self.control(HEAD).load(Acquire), self.control(RELEASED).load(Acquire));
        let (lap_ago, end) = (head.saturating_sub(self.layout().capacity()), self.end_of_memory(head));
        for position in released.max(lap_ago).max(self.floor())..end {
            let lap = self.layout().lap(position);
            let mark = Word::reading(lap, holder);
            // ORDERING [S9@ring]: release; the message goes on with the mark.
            let _ = self.slot(position)[WORD].compare_exchange(Word::ready(lap).0, mark.0, AcqRel, Relaxed);
        }
    }
}
