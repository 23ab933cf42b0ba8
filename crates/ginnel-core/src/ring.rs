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
//!       16  the message, up to 112 bytes; or: block's index (8), block's word (8)
//! ```
//!
//! [I1] Positions never decrease. The position of a side is at most one behind the first slot that is not claimed.
//! [I2] On an exclusive side only its owner claims; on a shared side only a successful CAS does.
//! [I3] Messages leave in the order in which they were claimed, which on a shared side is the order of the CAS; only those
//! that went back after a death come later than that.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S9]  | word becomes READY, in commit | word load, in take | the message |
//! | [S10] | word becomes FREE, in release | word load, in claim | an empty slot |
//! | [S11] | position store or CAS | position load | that a slot below it is claimed |
//! | [S12] | `returns` add, in recovery | `returns` load, in take | slots that are RETURNED |

use crate::engine::{Corrupt, Delivery, Engine, Place, PopError, PushError};
use crate::header::{HEAD, RETURNS, TAIL};
use crate::layout::{CLASSES_MAX, INLINE_MAX};
use crate::participants::{BYTES, DROPPED_SHIFT, LOSSES, LOSSES_NEXT, MESSAGES, Participant, REDELIVERED, Role, SKIPPED};
use crate::pool::{Block, Window};
use crate::side::{Bias, Entered};
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release};

const META: usize = 8;
pub(crate) const PAYLOAD: usize = 16;
const BLOCK_INDEX: usize = 16;
const BLOCK_WORD: usize = 24;

/// What a sender remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Producer {
    pub(crate) me: Participant,
    pub(crate) windows: [Window; CLASSES_MAX],
    bias: Bias,
    tail: u64,
}

/// What a receiver remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Consumer {
    pub(crate) me: Participant,
    bias: Bias,
    head: u64,
    returns_seen: u64,
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

/// A slot that the caller took, before its message is looked at.
struct Taken {
    position: u64,
    redelivered: bool,
}

impl Producer {
    /// A sender that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self { me, windows: [Window::default(); CLASSES_MAX], bias: Bias::default(), tail: 0 }
    }
}

impl Consumer {
    /// A receiver that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self { me, bias: Bias::default(), head: 0, returns_seen: 0 }
    }
}

impl Engine {
    // ---- producing

    #[inline(always)]
    pub(crate) fn push_slot(&self, producer: &mut Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let me = producer.me;
        let pushed = match self.enter_side(&mut producer.bias, Role::Sender, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    // ORDERING [S11]: acquire; what the side's former owners claimed.
                    producer.tail = self.word(TAIL).load(Acquire);
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

    #[inline(always)]
    fn push_exclusive(&self, producer: &mut Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        // More than one step only after a predecessor was killed between its claim and its position.
        for _ in 0..=self.layout().capacity() {
            let tail = producer.tail;
            let (slot, lap) = (self.layout().slot(tail), self.layout().lap(tail));
            // ORDERING [S10]: acquire; the consumer is done with the slot.
            let word = Word(self.word(slot).load(Acquire));
            if word == Word::free(lap) {
                self.fill(slot, tail, out);
                // ORDERING [S9]: release; the message.
                self.word(slot).store(Word::ready(lap).0, Release);
                producer.tail = tail + 1;
                // ORDERING [S11]: release; the slot below is claimed.
                self.word(TAIL).store(tail + 1, Release);
                return Ok(());
            }
            match (word.against(lap), word.state()) {
                (Lap::Before, Some(state)) if state != State::Free => return Err(PushError::Full),
                (Lap::Same | Lap::After, Some(_)) => producer.tail = tail + 1,
                _ => break,
            }
        }
        Err(PushError::Corrupt(Corrupt::Slot))
    }

    fn push_shared(&self, me: Participant, out: &Outgoing<'_>) -> Result<(), PushError> {
        loop {
            // ORDERING [S11]: acquire; slots below are claimed.
            let tail = self.word(TAIL).load(Acquire);
            let (slot, lap) = (self.layout().slot(tail), self.layout().lap(tail));
            // ORDERING [S10]: acquire; the consumer is done with the slot.
            let word = Word(self.word(slot).load(Acquire));
            match (word.against(lap), word.state()) {
                (Lap::Same, Some(State::Free)) => {
                    let claim = Word::new(lap, State::Writing, Some(me));
                    // ORDERING [S10]: acquire on success; the claim names its owner in the same word.
                    if self.word(slot).compare_exchange(word.0, claim.0, AcqRel, Relaxed).is_err() {
                        continue;
                    }
                    self.advance(TAIL, tail);
                    self.fill(slot, tail, out);
                    // ORDERING [S9]: release; the message.
                    self.word(slot).store(Word::ready(lap).0, Release);
                    return Ok(());
                }
                (Lap::Same | Lap::After, Some(_)) => self.advance(TAIL, tail),
                (seen, state) => {
                    // ORDERING [S11]: acquire; a stale position explains any word.
                    if self.word(TAIL).load(Acquire) != tail {
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
        let _ = self.word(position).compare_exchange(from, from + 1, AcqRel, Relaxed);
    }

    #[inline(always)]
    fn fill(&self, slot: usize, position: u64, out: &Outgoing<'_>) {
        let place = match &out.body {
            Body::Inline(bytes) => {
                self.memory().copy_in(slot + PAYLOAD, bytes);
                0
            }
            Body::Block(block) => {
                self.note_committed(block, position);
                // ORDERING: relaxed, published by the slot's word.
                self.word(slot + BLOCK_INDEX).store(u64::from(block.index), Relaxed);
                self.word(slot + BLOCK_WORD).store(block.word, Relaxed);
                block.class as u64 + 1
            }
        };
        let meta = out.len as u64 | place << 32 | u64::from(out.tag) << 48;
        // ORDERING: relaxed, published by the slot's word.
        self.word(slot + META).store(meta, Relaxed);
    }

    /// Whether a push would find no slot, as far as one look can tell: saves the copy of a large message.
    pub(crate) fn looks_full(&self) -> bool {
        // ORDERING: relaxed; a hint, `push_slot` decides.
        let tail = self.word(TAIL).load(Relaxed);
        let word = Word(self.word(self.layout().slot(tail)).load(Relaxed));
        word.against(self.layout().lap(tail)) == Lap::Before
    }

    // ---- consuming

    #[inline(always)]
    pub(crate) fn take_slot(&self, consumer: &mut Consumer) -> Result<Delivery, PopError> {
        let me = consumer.me;
        // ORDERING [S12]: acquire; slots that went back before this value.
        let returns = self.word(RETURNS).load(Acquire);
        if returns != consumer.returns_seen {
            match self.take_returned(me) {
                Some(taken) => return self.deliver(me, &taken),
                None => consumer.returns_seen = returns,
            }
        }
        let taken = match self.enter_side(&mut consumer.bias, Role::Receiver, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    // ORDERING [S11]: acquire; what the side's former owners took.
                    consumer.head = self.word(HEAD).load(Acquire);
                }
                let taken = self.take_exclusive(consumer);
                self.leave_side(me);
                taken?
            }
            Entered::Shared => self.take_shared(me)?,
            Entered::Changing => return Err(PopError::Busy),
            Entered::Corrupt => return Err(PopError::Corrupt(Corrupt::Mode)),
        };
        self.deliver(me, &taken)
    }

    #[inline(always)]
    fn take_exclusive(&self, consumer: &mut Consumer) -> Result<Taken, PopError> {
        // More than one step only over slots that hold no message.
        for _ in 0..=2 * self.layout().capacity() {
            let head = consumer.head;
            let (slot, lap) = (self.layout().slot(head), self.layout().lap(head));
            // ORDERING [S9]: acquire; the message.
            let word = Word(self.word(slot).load(Acquire));
            let (lap_seen, state) = (word.against(lap), word.state());
            match (lap_seen, state) {
                (Lap::Same, Some(State::Ready | State::Returned | State::Skip)) => {
                    // ORDERING: relaxed; a survivor reads it after this participant's death, which orders everything.
                    self.word(slot).store(Word::reading(lap, consumer.me).0, Relaxed);
                    consumer.head = head + 1;
                    // ORDERING [S11]: release; the slot below is taken.
                    self.word(HEAD).store(head + 1, Release);
                    if state != Some(State::Skip) {
                        return Ok(Taken { position: head, redelivered: state == Some(State::Returned) });
                    }
                    self.skip(consumer.me, head);
                }
                (Lap::Same, Some(State::Free)) => return Err(PopError::Empty),
                (Lap::Same, Some(State::Writing)) => return Err(PopError::Busy),
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => consumer.head = head + 1,
                (Lap::Before, Some(state)) if state != State::Free => return Err(PopError::Empty),
                _ => break,
            }
        }
        Err(PopError::Corrupt(Corrupt::Slot))
    }

    pub(crate) fn take_shared_for_drop(&self, me: Participant) -> Result<u64, PopError> {
        self.take_shared(me).map(|taken| taken.position)
    }

    fn take_shared(&self, me: Participant) -> Result<Taken, PopError> {
        loop {
            // ORDERING [S11]: acquire; slots below are taken.
            let head = self.word(HEAD).load(Acquire);
            let (slot, lap) = (self.layout().slot(head), self.layout().lap(head));
            // ORDERING [S9]: acquire; the message.
            let word = Word(self.word(slot).load(Acquire));
            let (lap_seen, state) = (word.against(lap), word.state());
            match (lap_seen, state) {
                (Lap::Same, Some(State::Ready | State::Returned | State::Skip)) => {
                    // ORDERING [S9]: acquire on success; the claim names its owner in the same word.
                    let claim = Word::reading(lap, me);
                    if self.word(slot).compare_exchange(word.0, claim.0, AcqRel, Relaxed).is_err() {
                        continue;
                    }
                    self.advance(HEAD, head);
                    if state != Some(State::Skip) {
                        return Ok(Taken { position: head, redelivered: state == Some(State::Returned) });
                    }
                    self.skip(me, head);
                }
                (Lap::Same, Some(State::Reading)) | (Lap::After, Some(_)) => self.advance(HEAD, head),
                (lap_seen, state) => {
                    // ORDERING [S11]: acquire; a stale position explains any word.
                    if self.word(HEAD).load(Acquire) != head {
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

    /// Passes over a slot whose producer died before it committed.
    #[cold]
    fn skip(&self, me: Participant, position: u64) {
        self.count(me, SKIPPED, 1);
        self.free_slot(position);
    }

    /// Takes the oldest message that went back after a death, if there is one.
    #[cold]
    fn take_returned(&self, me: Participant) -> Option<Taken> {
        loop {
            let (position, word) = self.oldest_returned()?;
            let slot = self.layout().slot(position);
            let claim = Word::reading(word.lap(), me);
            // ORDERING [S9]: acquire on success; the message, through the recoverer.
            if self.word(slot).compare_exchange(word.0, claim.0, AcqRel, Relaxed).is_ok() {
                return Some(Taken { position, redelivered: true });
            }
        }
    }

    fn oldest_returned(&self) -> Option<(u64, Word)> {
        (0..self.layout().capacity())
            .filter_map(|index| {
                // ORDERING [S9]: acquire, as in `take_shared`.
                let word = Word(self.word(self.layout().slot(index)).load(Acquire));
                let returned = word.state() == Some(State::Returned);
                returned.then(|| (self.layout().position(word.lap(), index), word))
            })
            .min_by_key(|(position, _)| *position)
    }

    /// Reads what a taken slot holds. Everything in it is a peer's value.
    #[inline(always)]
    fn deliver(&self, me: Participant, taken: &Taken) -> Result<Delivery, PopError> {
        let slot = self.layout().slot(taken.position);
        // ORDERING: relaxed, published by the slot's word [S9].
        let meta = self.word(slot + META).load(Relaxed);
        let (len, place, tag) = (meta as u32 as usize, (meta >> 32) as u8, (meta >> 48) as u16);
        let place = if place == 0 {
            if len > INLINE_MAX {
                return Err(PopError::Corrupt(Corrupt::Length));
            }
            Place::Inline
        } else {
            Place::Block(self.block_in_slot(slot, usize::from(place) - 1, len).map_err(PopError::Corrupt)?)
        };
        if taken.redelivered {
            self.count(me, REDELIVERED, 1);
        }
        self.count(me, MESSAGES, 1);
        self.count(me, BYTES, len as u64);
        Ok(Delivery { position: taken.position, len, tag, redelivered: taken.redelivered, place })
    }

    /// The block that a slot points at.
    pub(crate) fn block_in_slot(&self, slot: usize, class: usize, len: usize) -> Result<Block, Corrupt> {
        // ORDERING: relaxed, published by the slot's word [S9].
        let (index, word) = (self.word(slot + BLOCK_INDEX).load(Relaxed), self.word(slot + BLOCK_WORD).load(Relaxed));
        self.check_block(class, index, word, len)
    }

    /// Class of the block that a slot points at, if it points at one.
    pub(crate) fn place_in_slot(&self, slot: usize) -> Option<(usize, usize)> {
        // ORDERING: relaxed; read by who recovers or drops, after an acquire of the word [S9].
        let meta = self.word(slot + META).load(Relaxed);
        let place = (meta >> 32) as u8;
        (place != 0).then(|| (usize::from(place) - 1, meta as u32 as usize))
    }

    /// Gives a slot to the producers of the next lap.
    #[inline(always)]
    pub(crate) fn free_slot(&self, position: u64) {
        let slot = self.layout().slot(position);
        // ORDERING [S10]: release; the reads of the message lie before.
        self.word(slot).store(Word::free(self.layout().lap(position) + 1).0, Release);
    }

    /// Removes the oldest message to make room. True if something was removed.
    pub(crate) fn drop_oldest(&self, producer: &mut Producer) -> Result<bool, PushError> {
        let me = producer.me;
        let mut bias = Bias::default();
        match self.enter_side(&mut bias, Role::Receiver, me) {
            Entered::Shared => {}
            Entered::Corrupt => return Err(PushError::Corrupt(Corrupt::Mode)),
            _ => return Ok(true), // the side is becoming shared: try again
        }
        // Written ahead: if this participant is killed while it holds the slot, whoever recovers it sets the count to
        // this value, so that the loss is counted exactly once.
        // ORDERING: relaxed; one writer, read after its death.
        let losses = self.entry_word(me, LOSSES).load(Relaxed) + (1 << DROPPED_SHIFT);
        self.entry_word(me, LOSSES_NEXT).store(losses, Relaxed);
        let position = match self.take_shared_for_drop(me) {
            Ok(position) => position,
            Err(PopError::Corrupt(what)) => return Err(PushError::Corrupt(what)),
            Err(_) => return Ok(false),
        };
        // ORDERING: relaxed; one writer.
        self.entry_word(me, LOSSES).store(losses, Relaxed);
        self.discard(me, position);
        Ok(true)
    }

    // ---- looking

    /// Messages in the link, as far as one look can tell.
    pub fn len(&self) -> u64 {
        // ORDERING: relaxed; the answer is old before it is used.
        let (tail, head) = (self.word(TAIL).load(Relaxed), self.word(HEAD).load(Relaxed));
        tail.saturating_sub(head).min(self.layout().capacity())
    }

    /// Whether [`Self::len`] is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of both ends: the next to take, the next to claim.
    pub fn positions(&self) -> (u64, u64) {
        // ORDERING: relaxed; figures for people.
        (self.word(HEAD).load(Relaxed), self.word(TAIL).load(Relaxed))
    }

    /// Whether no message is left, when nobody is there who could add or take one.
    pub(crate) fn is_drained(&self) -> bool {
        // ORDERING [S11]: acquire; what those who left did.
        let mut head = self.word(HEAD).load(Acquire);
        for _ in 0..=self.layout().capacity() {
            let word = self.slot_word(head);
            match (word.against(self.layout().lap(head)), word.state()) {
                (Lap::Same, Some(State::Free)) | (Lap::Before, _) => break,
                (Lap::Same, Some(State::Reading | State::Skip)) | (Lap::After, _) => head += 1,
                _ => return false,
            }
        }
        // ORDERING [S12]: acquire; slots that went back.
        self.word(RETURNS).load(Acquire) == 0 || self.oldest_returned().is_none()
    }

    pub(crate) fn slot_word(&self, position: u64) -> Word {
        // ORDERING [S9] [S10]: acquire; whatever the word publishes.
        Word(self.word(self.layout().slot(position)).load(Acquire))
    }
}
