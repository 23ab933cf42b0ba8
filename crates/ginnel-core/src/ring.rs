//! The queue: a ring of slots, a position for each end, and what each side may do to a slot's word.
//!
//! Each slot carries its own sequence, as in Vyukov's bounded queue (1024cores.net, "Bounded MPMC queue"), so a consumer
//! learns from the slot and never reads the producers' position. Two deviations. The claim names its owner in the
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
//! [I1] Positions never decrease. The position of a side is at most one behind the first slot that is not claimed.
//! [I2] On an exclusive side only its owner claims; on a shared side only a successful CAS does.
//! [I3] Messages leave in the order in which they were claimed, which on a shared side is the order of the CAS; only those
//! that went back after a death come later than that.
//! [I4] Every position below `released` was released. A slot at or above it is released when its word is FREE.
//! [I5] A slot below `head` that is READY and not below `released` is held by the participant that the consumers' side names, or
//! named when it was revoked.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S9]  | word becomes READY, in commit | word load, in take | the message |
//! | [S10] | word becomes FREE, or `released` moves | word or `released` load, in claim | an empty slot |
//! | [S11] | position store or CAS | position load | that a slot below it is claimed |
//! | [S12] | `returns` add, in recovery | `returns` load, in take | slots that are RETURNED |

use crate::engine::{Corrupt, Delivery, Engine, Meta, PopError, PushError};
use crate::header::{HEAD, RELEASED, RETURNS, TAIL};
use crate::layout::{CLASSES_MAX, SLOT_HEAD};
use crate::memory::Line;
use crate::participants::{
    BUSY, BYTES, DROPPED_SHIFT, LOSSES, LOSSES_NEXT, MESSAGES, Participant, REDELIVERED, Role, SKIPPED, add,
};
use crate::pool::{Block, Window};
use crate::side::{Bias, Entered};
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, spin};

/// Words of a slot.
const WORD: usize = 0;
const META: usize = 1;
const BLOCK_INDEX: usize = 2;
const BLOCK_WORD: usize = 3;

/// What a sender remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Producer {
    pub(crate) me: Participant,
    pub(crate) windows: [Window; CLASSES_MAX],
    bias: Bias,
    tail: u64,
    /// Slots below were free when `released` was last looked at.
    limit: u64,
}

/// What a receiver remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Consumer {
    pub(crate) me: Participant,
    bias: Bias,
    head: u64,
    released: u64,
    /// Some slots from `released` to `head` may be marked in their words: released, or held in this participant's name.
    gaps: bool,
    returns_seen: u64,
    /// It freed a slot that held no message: who waits for room must be told.
    made_room: bool,
}

/// A message on its way into a slot.
pub(crate) struct Outgoing<'a> {
    pub(crate) tag: u16,
    pub(crate) len: usize,
    pub(crate) body: Body<'a>,
}

pub(crate) enum Body<'a> {
    Inline(&'a [u8]),
    Block(Block),
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

/// Slots ahead of the one that is written whose line is asked for.
const PREFETCH: u64 = 16;

/// Messages of a run at most, which bounds the time in which its consumer is busy.
const RUN_MAX: usize = 256;

/// A slot that the caller took, before its message is looked at.
struct Taken {
    position: u64,
    redelivered: bool,
}

impl Producer {
    /// A sender that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self { me, windows: [Window::default(); CLASSES_MAX], bias: Bias::default(), tail: 0, limit: 0 }
    }

    /// Where it sends next, as far as it knows: grows with each message on an exclusive side.
    pub fn position(&self) -> u64 {
        self.tail
    }
}

impl Consumer {
    /// A receiver that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self { me, bias: Bias::default(), head: 0, released: 0, gaps: false, returns_seen: 0, made_room: false }
    }

    /// Whether a slot without a message was freed since this was last asked: if so, notify [`Engine::room`].
    pub fn take_made_room(&mut self) -> bool {
        core::mem::take(&mut self.made_room)
    }

    /// Where it takes next, as far as it knows: grows with each message on an exclusive side.
    pub fn position(&self) -> u64 {
        self.head
    }
}

/// Writes a message behind the first two words of its slot, word by word. Words and not wider: a message was often written a
/// moment ago by words, and a wider load would have to wait until they have left the store buffer.
#[inline(always)]
fn write_inline(slot: &Line, message: &[u8]) {
    let words = message.chunks_exact(8);
    let rest = words.remainder();
    let mut at = SLOT_HEAD / 8;
    for word in words {
        let word = u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        // ORDERING: relaxed, published by the slot's word.
        slot[at].store(word, Relaxed);
        at += 1;
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        // ORDERING: relaxed, as above; a slot is a whole number of words.
        slot[at].store(word, Relaxed);
    }
}

impl Engine {
    // ---- producing

    /// The common case of [`Self::push_slot`]: an inline message, on a side that is exclusive, with room. False otherwise, with
    /// nothing done.
    #[inline(always)]
    pub(crate) fn push_fast(&self, producer: &mut Producer, tag: u16, message: &[u8]) -> bool {
        let hot = self.hot(producer.me);
        if !self.enter_exclusive(&producer.bias, Role::Sender, hot) {
            return false;
        }
        let tail = producer.tail;
        let (slot, lap) = (self.slot(tail), self.layout().lap(tail));
        let free = tail < producer.limit;
        if free {
            // Not one that the consumer has still to read: it would be taken away from it.
            if tail.wrapping_add(PREFETCH) < producer.limit {
                self.memory().prefetch_line(self.layout().slot(tail.wrapping_add(PREFETCH)));
            }
            write_inline(slot, message);
            // ORDERING: relaxed, published by the slot's word.
            slot[META].store(Meta::new(message.len(), None, tag).0, Relaxed);
            // ORDERING [S9]: release; the message.
            slot[WORD].store(Word::ready(lap).0, Release);
            producer.tail = tail.wrapping_add(1);
            // ORDERING [S11]: release; the slot below is claimed.
            self.control(TAIL).store(producer.tail, Release);
            add(&hot[MESSAGES], 1);
            add(&hot[BYTES], message.len() as u64);
        }
        // ORDERING [S7@side]: release; the operation lies before it.
        hot[BUSY].store(0, Release);
        free
    }

    pub(crate) fn push_slot(&self, producer: &mut Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let me = producer.me;
        let pushed = match self.enter_side(&mut producer.bias, Role::Sender, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    self.settle_tail(producer);
                }
                let pushed = self.push_exclusive(producer, out);
                self.leave_side(me);
                pushed
            }
            Entered::Shared => self.push_shared(me, out),
            Entered::Changing => Err(PushError::Busy),
            Entered::Corrupt => Err(PushError::Corrupt(Corrupt::Mode)),
        };
        if pushed.is_ok() {
            self.count(me, MESSAGES, 1);
            self.count(me, BYTES, out.len as u64);
        }
        pushed
    }

    /// Finds where a side that just became exclusive stands: its last owner may have been killed between a claim and its position.
    fn settle_tail(&self, producer: &mut Producer) {
        // ORDERING [S11]: acquire; what the side's former owners claimed.
        producer.tail = self.control(TAIL).load(Acquire);
        producer.limit = 0;
        let lap = self.layout().lap(producer.tail);
        if self.slot_word(producer.tail).is_claimed_in(lap) {
            producer.tail = producer.tail.wrapping_add(1);
        }
    }

    fn push_exclusive(&self, producer: &mut Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let tail = producer.tail;
        let (slot, lap) = (self.slot(tail), self.layout().lap(tail));
        if tail >= producer.limit {
            producer.limit = self.limit(tail)?;
        }
        if tail >= producer.limit {
            // ORDERING [S10]: acquire; the consumer is done with the slot.
            let word = Word(slot[WORD].load(Acquire));
            if word != Word::free(lap) {
                let held = word.against(lap) == Lap::Before && word.state().is_some_and(|state| state != State::Free);
                return Err(if held { PushError::Full } else { PushError::Corrupt(Corrupt::Slot) });
            }
        }
        self.fill(slot, tail, out);
        // ORDERING [S9]: release; the message.
        slot[WORD].store(Word::ready(lap).0, Release);
        producer.tail = tail.wrapping_add(1);
        // ORDERING [S11]: release; the slot below is claimed.
        self.control(TAIL).store(producer.tail, Release);
        Ok(())
    }

    /// The first position that is not free by what `released` says. Tail is private and true, `released` a peer's word.
    fn limit(&self, tail: u64) -> Result<u64, PushError> {
        // ORDERING [S10]: acquire; the consumer is done with the slots below.
        let released = self.control(RELEASED).load(Acquire);
        if released > tail {
            return Err(PushError::Corrupt(Corrupt::Position));
        }
        Ok(released.saturating_add(self.layout().capacity()))
    }

    fn push_shared(&self, me: Participant, out: &Outgoing<'_>) -> Result<(), PushError> {
        loop {
            // ORDERING [S11]: acquire; slots below are claimed.
            let tail = self.control(TAIL).load(Acquire);
            let (slot, lap) = (self.slot(tail), self.layout().lap(tail));
            // ORDERING [S10]: acquire; the consumer is done with the slot.
            let word = Word(slot[WORD].load(Acquire));
            let released = word.against(lap) == Lap::Before && self.limit(tail).is_ok_and(|limit| tail < limit);
            match (word.against(lap), word.state()) {
                (seen, Some(state)) if released || (seen, state) == (Lap::Same, State::Free) => {
                    let claim = Word::new(lap, State::Writing, Some(me));
                    // ORDERING [S10]: acquire on success; the claim names its owner in the same word.
                    if slot[WORD].compare_exchange(word.0, claim.0, AcqRel, Relaxed).is_err() {
                        spin();
                        continue;
                    }
                    self.advance(TAIL, tail);
                    self.fill(slot, tail, out);
                    // ORDERING [S9]: release; the message.
                    slot[WORD].store(Word::ready(lap).0, Release);
                    return Ok(());
                }
                (Lap::Same | Lap::After, Some(_)) => self.advance(TAIL, tail),
                (seen, state) => {
                    // ORDERING [S11]: acquire; a stale position explains any word.
                    if self.control(TAIL).load(Acquire) != tail {
                        spin();
                        continue;
                    }
                    let held = seen == Lap::Before && state.is_some_and(|state| state != State::Free);
                    return Err(if held { PushError::Full } else { PushError::Corrupt(Corrupt::Slot) });
                }
            }
        }
    }

    /// Moves a position on from a slot that is claimed, whoever claimed it.
    #[inline(always)]
    fn advance(&self, position: usize, from: u64) {
        // ORDERING [S11]: release; failure means that somebody else moved it.
        if self.control(position).compare_exchange(from, from.wrapping_add(1), AcqRel, Relaxed).is_err() {
            spin();
        }
    }

    #[inline(always)]
    fn fill(&self, slot: &Line, position: u64, out: &Outgoing<'_>) {
        let class = match &out.body {
            Body::Inline(bytes) => {
                write_inline(slot, bytes);
                None
            }
            Body::Block(block) => {
                self.note_committed(block, position);
                // ORDERING: relaxed, published by the slot's word.
                slot[BLOCK_INDEX].store(u64::from(block.index), Relaxed);
                slot[BLOCK_WORD].store(block.word, Relaxed);
                Some(block.class)
            }
        };
        // ORDERING: relaxed, published by the slot's word.
        slot[META].store(Meta::new(out.len, class, out.tag).0, Relaxed);
    }

    /// Whether a push would find no slot, as far as one look can tell: saves the copy of a large message.
    pub(crate) fn looks_full(&self) -> bool {
        // ORDERING: relaxed; a hint, `push_slot` decides.
        let tail = self.control(TAIL).load(Relaxed);
        let before = self.slot_word(tail).against(self.layout().lap(tail)) == Lap::Before;
        before && self.limit(tail).is_ok_and(|limit| tail >= limit)
    }

    // ---- consuming

    /// The common case of [`Self::take_slot`]: a committed inline message, on a side that is exclusive. `None` otherwise, with
    /// nothing done.
    #[inline(always)]
    pub(crate) fn take_fast(&self, consumer: &mut Consumer) -> Option<Delivery> {
        // ORDERING [S12]: acquire; slots that went back before this value.
        if self.control(RETURNS).load(Acquire) != consumer.returns_seen {
            return None;
        }
        let hot = self.hot(consumer.me);
        if !self.enter_exclusive(&consumer.bias, Role::Receiver, hot) {
            return None;
        }
        let head = consumer.head;
        let (slot, lap) = (self.slot(head), self.layout().lap(head));
        // ORDERING [S9]: acquire; the message.
        let ready = slot[WORD].load(Acquire) == Word::ready(lap).0;
        let meta = self.meta_in(slot).with_redelivered(false);
        let common = ready && meta.class().is_none() && meta.len() <= self.layout().inline_max();
        if common {
            consumer.head = head.wrapping_add(1);
            // ORDERING [S11]: release; the slot below is taken.
            self.control(HEAD).store(consumer.head, Release);
            add(&hot[MESSAGES], 1);
            add(&hot[BYTES], meta.len() as u64);
        }
        // ORDERING [S7@side]: release; the operation lies before it.
        hot[BUSY].store(0, Release);
        let offset = self.layout().slot(head) + SLOT_HEAD;
        common.then_some(Delivery { position: head, offset, meta, block_word: 0 })
    }

    /// Takes as many committed inline messages as lie at the head, up to `most`, if the side is exclusive to this consumer. The
    /// length of each is looked at again when it is read.
    pub(crate) fn take_run(&self, consumer: &mut Consumer, most: usize) -> Option<Run> {
        // ORDERING [S12]: acquire; slots that went back before this value.
        if self.control(RETURNS).load(Acquire) != consumer.returns_seen {
            return None;
        }
        let hot = self.hot(consumer.me);
        if !self.enter_exclusive(&consumer.bias, Role::Receiver, hot) {
            return None;
        }
        let start = consumer.head;
        let most = most.min(self.layout().capacity() as usize).min(RUN_MAX);
        let (mut len, mut bytes) = (0, 0);
        while len < most {
            let position = start.wrapping_add(len as u64);
            let slot = self.slot(position);
            // ORDERING [S9]: acquire; the message.
            let ready = slot[WORD].load(Acquire) == Word::ready(self.layout().lap(position)).0;
            let meta = self.meta_in(slot);
            if !ready || meta.class().is_some() || meta.len() > self.layout().inline_max() {
                break;
            }
            bytes += meta.len() as u64;
            len += 1;
        }
        if len > 0 {
            consumer.head = start.wrapping_add(len as u64);
            // ORDERING [S11]: release; the slots below are taken.
            self.control(HEAD).store(consumer.head, Release);
            add(&hot[MESSAGES], len as u64);
            add(&hot[BYTES], bytes);
        }
        // ORDERING [S7@side]: release; the operation lies before it.
        hot[BUSY].store(0, Release);
        (len > 0).then_some(Run { start, len })
    }

    /// Offset, length and tag of a message of a run.
    ///
    /// # Panics
    /// If `index` is not below the run's length.
    #[inline(always)]
    pub fn message_in(&self, run: &Run, index: usize) -> (usize, usize, u16) {
        assert!(index < run.len, "a message beyond the run");
        let position = run.start.wrapping_add(index as u64);
        let meta = self.meta_in(self.slot(position));
        // A peer that changes it now makes it shorter, never longer than the slot.
        (self.layout().slot(position) + SLOT_HEAD, meta.len().min(self.layout().inline_max()), (meta.0 >> 48) as u16)
    }

    /// Releases a run.
    pub(crate) fn release_slots(&self, consumer: &mut Consumer, run: &Run) {
        let hot = self.hot(consumer.me);
        if run.start == consumer.released && !consumer.gaps && self.enter_exclusive(&consumer.bias, Role::Receiver, hot)
        {
            consumer.released = run.start.wrapping_add(run.len as u64);
            // ORDERING [S10]: release; the reads of the messages lie before.
            self.control(RELEASED).store(consumer.released, Release);
            // ORDERING [S7@side]: release; the operation lies before it.
            hot[BUSY].store(0, Release);
            return;
        }
        for index in 0..run.len as u64 {
            self.release_slot(consumer, run.start.wrapping_add(index));
        }
    }

    pub(crate) fn take_slot(&self, consumer: &mut Consumer) -> Result<Delivery, PopError> {
        let me = consumer.me;
        // ORDERING [S12]: acquire; slots that went back before this value.
        let returns = self.control(RETURNS).load(Acquire);
        if returns != consumer.returns_seen {
            match self.take_returned(me) {
                Some(taken) => {
                    consumer.gaps = true;
                    return self.deliver(me, &taken);
                }
                None => consumer.returns_seen = returns,
            }
        }
        let taken = match self.enter_side(&mut consumer.bias, Role::Receiver, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    // ORDERING [S11]: acquire; what the side's former owners took and released.
                    consumer.head = self.control(HEAD).load(Acquire);
                    // Positions a lap ago were released by their words, or the producers could not have gone on.
                    let lap_ago = consumer.head.saturating_sub(self.layout().capacity());
                    consumer.released = self.control(RELEASED).load(Acquire).max(lap_ago).min(consumer.head);
                    consumer.gaps = true;
                }
                let taken = self.take_exclusive(consumer);
                self.leave_side(me);
                taken?
            }
            Entered::Shared => self.take_shared(consumer)?,
            Entered::Changing => return Err(PopError::Busy),
            Entered::Corrupt => return Err(PopError::Corrupt(Corrupt::Mode)),
        };
        self.deliver(me, &taken)
    }

    fn take_exclusive(&self, consumer: &mut Consumer) -> Result<Taken, PopError> {
        // More than one step only over slots that hold no message.
        for _ in 0..=2 * self.layout().capacity() {
            let head = consumer.head;
            let (slot, lap) = (self.slot(head), self.layout().lap(head));
            // ORDERING [S9]: acquire; the message.
            let word = Word(slot[WORD].load(Acquire));
            if word == Word::free(lap) {
                return Err(PopError::Empty);
            }
            let state = word.state();
            match (word.against(lap), state) {
                (Lap::Same, Some(State::Ready)) => {
                    self.take_next(consumer);
                    return Ok(Taken { position: head, redelivered: false });
                }
                (Lap::Same, Some(State::Returned)) => {
                    // A newcomer that looks for returned messages does not enter the side: only a CAS decides between the two.
                    let mine = self.mark_taken(slot, word, consumer.me);
                    consumer.gaps = true;
                    self.take_next(consumer);
                    if mine {
                        return Ok(Taken { position: head, redelivered: true });
                    }
                }
                (Lap::Same, Some(State::Skip)) => {
                    self.skip(consumer, slot, word);
                    self.take_next(consumer);
                }
                (Lap::Same, Some(State::Writing)) => return Err(PopError::Busy),
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => consumer.head = head.wrapping_add(1),
                (Lap::Before, Some(state)) if state != State::Free => return Err(PopError::Empty),
                _ => break,
            }
        }
        Err(PopError::Corrupt(Corrupt::Slot))
    }

    /// Moves an exclusive side past the slot at its head.
    fn take_next(&self, consumer: &mut Consumer) {
        consumer.head = consumer.head.wrapping_add(1);
        // ORDERING [S11]: release; the slot below is taken.
        self.control(HEAD).store(consumer.head, Release);
    }

    /// Claims a committed message in its slot's word. False if somebody else was first.
    fn mark_taken(&self, slot: &Line, word: Word, me: Participant) -> bool {
        // ORDERING [S9]: acquire on success; the claim names its owner in the same word.
        slot[WORD].compare_exchange(word.0, Word::reading(word.lap(), me).0, AcqRel, Relaxed).is_ok()
    }

    fn take_shared(&self, consumer: &mut Consumer) -> Result<Taken, PopError> {
        loop {
            // ORDERING [S11]: acquire; slots below are taken.
            let head = self.control(HEAD).load(Acquire);
            let (slot, lap) = (self.slot(head), self.layout().lap(head));
            // ORDERING [S9]: acquire; the message.
            let word = Word(slot[WORD].load(Acquire));
            let (lap_seen, state) = (word.against(lap), word.state());
            match (lap_seen, state) {
                (Lap::Same, Some(State::Ready | State::Returned)) => {
                    if !self.mark_taken(slot, word, consumer.me) {
                        spin();
                        continue;
                    }
                    self.advance(HEAD, head);
                    return Ok(Taken { position: head, redelivered: state == Some(State::Returned) });
                }
                (Lap::Same, Some(State::Skip)) => {
                    self.skip(consumer, slot, word);
                    self.advance(HEAD, head);
                }
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => self.advance(HEAD, head),
                (lap_seen, state) => {
                    // ORDERING [S11]: acquire; a stale position explains any word.
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
    fn skip(&self, consumer: &mut Consumer, slot: &Line, word: Word) {
        let free = Word::free(word.lap().wrapping_add(1));
        // ORDERING [S10]: release; failure means that somebody else passed over it.
        if slot[WORD].compare_exchange(word.0, free.0, Release, Relaxed).is_ok() {
            self.count(consumer.me, SKIPPED, 1);
            consumer.made_room = true;
            consumer.gaps = true;
        }
    }

    /// Takes the oldest message that went back after a death, if there is one.
    #[cold]
    fn take_returned(&self, me: Participant) -> Option<Taken> {
        loop {
            let (position, word) = self.oldest_returned()?;
            if self.mark_taken(self.slot(position), word, me) {
                return Some(Taken { position, redelivered: true });
            }
        }
    }

    fn oldest_returned(&self) -> Option<(u64, Word)> {
        (0..self.layout().capacity())
            .filter_map(|index| {
                // ORDERING [S9]: acquire, as in `take_shared`.
                let word = Word(self.slot(index)[WORD].load(Acquire));
                let returned = word.state() == Some(State::Returned);
                returned.then(|| (self.layout().position(word.lap(), index), word))
            })
            .min_by_key(|(position, _)| *position)
    }

    /// Reads what a taken slot holds. Everything in it is a peer's value.
    fn deliver(&self, me: Participant, taken: &Taken) -> Result<Delivery, PopError> {
        let slot = self.slot(taken.position);
        let meta = self.meta_in(slot);
        let block = self.block_in_slot(slot, meta).map_err(PopError::Corrupt)?;
        let offset = match &block {
            None if meta.len() <= self.layout().inline_max() => self.layout().slot(taken.position) + SLOT_HEAD,
            None => return Err(PopError::Corrupt(Corrupt::Length)),
            Some(block) => self.block_range(block).0,
        };
        if taken.redelivered {
            self.count(me, REDELIVERED, 1);
        }
        self.count(me, MESSAGES, 1);
        self.count(me, BYTES, meta.len() as u64);
        let meta = meta.with_redelivered(taken.redelivered);
        Ok(Delivery { position: taken.position, offset, meta, block_word: block.map_or(0, |block| block.word) })
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

    /// Releases a slot that the caller took. Moves `released` if the caller has the side for itself, the slot is the next one,
    /// and none that it holds is marked; else marks the word.
    #[inline(always)]
    pub(crate) fn release_slot(&self, consumer: &mut Consumer, position: u64) {
        let hot = self.hot(consumer.me);
        if position == consumer.released && !consumer.gaps && self.enter_exclusive(&consumer.bias, Role::Receiver, hot)
        {
            consumer.released = position.wrapping_add(1);
            // ORDERING [S10]: release; the reads of the message lie before.
            self.control(RELEASED).store(consumer.released, Release);
            // ORDERING [S7@side]: release; the operation lies before it.
            hot[BUSY].store(0, Release);
        } else {
            self.release_by_word(consumer, position);
        }
    }

    #[cold]
    fn release_by_word(&self, consumer: &mut Consumer, position: u64) {
        let (slot, lap) = (self.slot(position), self.layout().lap(position));
        let (ready, free) = (Word::ready(lap).0, Word::free(lap.wrapping_add(1)).0);
        // ORDERING: relaxed; only the caller, or a revoker before the side became shared [S8@side], changes it now.
        let unmarked = slot[WORD].load(Relaxed) == ready;
        // ORDERING [S10]: release; the reads of the message lie before. A revoker may mark the slot in the caller's name at this
        // moment: either it finds the slot free, or its mark is replaced.
        if !unmarked || slot[WORD].compare_exchange(ready, free, Release, Relaxed).is_err() {
            self.free_slot(position);
        }
        consumer.gaps = true;
        if !self.enter_exclusive(&consumer.bias, Role::Receiver, self.hot(consumer.me)) {
            return;
        }
        // What was taken a lap ago was released, or the producers could not have gone on.
        consumer.released = consumer.released.max(consumer.head.saturating_sub(self.layout().capacity()));
        while consumer.released < consumer.head {
            let lap = self.layout().lap(consumer.released);
            if !self.slot_word(consumer.released).is_released_in(lap) {
                break;
            }
            consumer.released += 1;
        }
        consumer.gaps = consumer.released < consumer.head && self.any_marked(consumer);
        // ORDERING [S10]: release; the slots below are free.
        self.control(RELEASED).store(consumer.released, Release);
        self.leave_side(consumer.me);
    }

    /// Whether a slot that is taken but not below `released` was marked in its word.
    fn any_marked(&self, consumer: &Consumer) -> bool {
        (consumer.released..consumer.head).any(|p| self.slot_word(p) != Word::ready(self.layout().lap(p)))
    }

    /// Marks what an exclusive consumer holds as its own, slot by slot: it is being revoked, or is dead.
    pub(crate) fn mark_held(&self, holder: Participant) {
        // ORDERING [S11] [S10]: acquire; what the holder took and released last.
        let (head, released) = (self.control(HEAD).load(Acquire), self.control(RELEASED).load(Acquire));
        for position in released.max(head.saturating_sub(self.layout().capacity()))..head {
            let lap = self.layout().lap(position);
            let mark = Word::reading(lap, holder);
            // ORDERING [S9]: release; the message goes on with the mark.
            let _ = self.slot(position)[WORD].compare_exchange(Word::ready(lap).0, mark.0, AcqRel, Relaxed);
        }
    }

    /// Gives a slot to the producers of the next lap.
    #[inline(always)]
    pub(crate) fn free_slot(&self, position: u64) {
        let slot = self.slot(position);
        // ORDERING [S10]: release; the reads of the message lie before.
        slot[WORD].store(Word::free(self.layout().lap(position).wrapping_add(1)).0, Release);
    }

    /// Removes the oldest message to make room. True if something was removed.
    pub(crate) fn drop_oldest(&self, producer: &mut Producer) -> Result<bool, PushError> {
        let me = producer.me;
        let mut consumer = Consumer::new(me);
        match self.enter_side(&mut consumer.bias, Role::Receiver, me) {
            Entered::Shared => {}
            Entered::Corrupt => return Err(PushError::Corrupt(Corrupt::Mode)),
            _ => return Ok(true), // the side is becoming shared: try again
        }
        // Written ahead: if this participant is killed while it holds the slot, whoever recovers it sets the count to
        // this value, so that the loss is counted exactly once.
        // ORDERING: relaxed; one writer, read after its death.
        let losses = self.hot(me)[LOSSES].load(Relaxed).wrapping_add(1 << DROPPED_SHIFT);
        self.entry_word(me, LOSSES_NEXT).store(losses, Relaxed);
        let position = match self.take_shared(&mut consumer) {
            Ok(taken) => taken.position,
            Err(PopError::Corrupt(what)) => return Err(PushError::Corrupt(what)),
            Err(_) => return Ok(consumer.made_room),
        };
        // ORDERING: relaxed; one writer.
        self.hot(me)[LOSSES].store(losses, Relaxed);
        self.discard(me, position);
        Ok(true)
    }

    // ---- looking

    /// Messages that can be received, as far as one look can tell.
    pub fn len(&self) -> u64 {
        // ORDERING: relaxed; the answer is old before it is used.
        let (tail, head) = (self.control(TAIL).load(Relaxed), self.control(HEAD).load(Relaxed));
        // ORDERING: relaxed, as above. Only after a death can messages have gone back.
        let returned = if self.control(RETURNS).load(Relaxed) == 0 { 0 } else { self.returned_below(head) };
        tail.saturating_sub(head).saturating_add(returned).min(self.layout().capacity())
    }

    fn returned_below(&self, head: u64) -> u64 {
        let returned = |index: &u64| {
            let word = self.slot_word(*index);
            word.state() == Some(State::Returned) && self.layout().position(word.lap(), *index) < head
        };
        (0..self.layout().capacity()).filter(returned).count() as u64
    }

    /// Whether a message that waits in the ring has a block, which dropping it would free.
    pub fn any_block_waits(&self) -> bool {
        (0..self.layout().capacity()).any(|index| {
            let waits = matches!(self.slot_word(index).state(), Some(State::Ready | State::Returned));
            waits && self.meta_in(self.slot(index)).class().is_some()
        })
    }

    /// Whether the next message finds no slot: the link holds as many as it may, those in hand included.
    pub fn is_full(&self) -> bool {
        self.looks_full()
    }

    /// Whether [`Self::len`] is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of both ends: the next to take, the next to claim.
    pub fn positions(&self) -> (u64, u64) {
        // ORDERING: relaxed; figures for people.
        (self.control(HEAD).load(Relaxed), self.control(TAIL).load(Relaxed))
    }

    /// Whether no message is left, when nobody is there who could add or take one.
    pub(crate) fn is_drained(&self) -> bool {
        // ORDERING [S11]: acquire; what those who left did.
        let mut head = self.control(HEAD).load(Acquire);
        for _ in 0..=self.layout().capacity() {
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

    pub(crate) fn slot_word(&self, position: u64) -> Word {
        // ORDERING [S9] [S10]: acquire; whatever the word publishes.
        Word(self.slot(position)[WORD].load(Acquire))
    }
}
