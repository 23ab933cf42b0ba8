//! The producers' end of the ring: claim, fill, commit; and removing the oldest message to make room. The notation, the invariants and
//! the synchronisation are those of `ring`.
//!
//! Two ways, as `side` says. On an exclusive side a free slot is filled and its word stored READY: claim and commit in one, and
//! nothing was claimed by one that is killed before. On a shared side a compare-and-swap claims the slot in its owner's name first.
//!
//! A *run* is several messages in one operation on an exclusive side. Each is committed by its own slot, in order; only the position,
//! the counters and `busy` are written once for all.

use crate::broadcast::Lowest;
use crate::consumer::Consumer;
use crate::engine::{Corrupt, Engine, Meta, PopError, PushError};
use crate::header::TAIL;
use crate::layout::CLASSES_MAX;
use crate::memory::{Line, copy_short_in, own_behind};
use crate::pace::{AHEAD, Pace};
use crate::participants::{BYTES, CLAIM, DROPPED_SHIFT, LOSSES, LOSSES_NEXT, Participant, Role, add};
use crate::pool::{Block, Window};
use crate::ring::{BLOCK_INDEX, BLOCK_WORD, META, RUN_MAX, WORD};
use crate::side::{Bias, Entered};
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, spin};
use core::cell::Cell;

/// What a sender remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Producer {
    pub(crate) me: Participant,
    pub(crate) windows: [Cell<Window>; CLASSES_MAX],
    bias: Bias,
    pub(crate) tail: Cell<u64>,
    /// Slots below were free when last looked at.
    limit: Cell<u64>,
    pub(crate) pace: Pace,
    /// Of a broadcast.
    pub(crate) lowest: Lowest,
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

impl Producer {
    /// A sender that has joined as `me`.
    pub fn new(me: Participant) -> Self {
        Self {
            me,
            windows: Default::default(),
            bias: Bias::default(),
            tail: Cell::new(0),
            limit: Cell::new(0),
            pace: Pace::default(),
            lowest: Lowest::default(),
        }
    }

    /// Forgets that the side was this producer's: its operations without locks are over.
    pub fn give_up_side(&self) {
        self.bias.forget();
    }
}

impl Engine {
    /// The common case of [`Self::push_slot`]: an inline message, on a side that is exclusive, with room. False otherwise, with
    /// nothing done.
    #[inline(always)]
    pub(crate) fn push_fast(&self, producer: &Producer, tag: u16, message: &[u8]) -> bool {
        let (tail, limit) = (producer.tail.get(), producer.limit.get());
        if tail >= limit {
            return false;
        }
        let hot = self.hot(producer.me);
        let Some(inside) = self.enter_exclusive(&producer.bias, Role::Sender, hot) else { return false };
        self.write_slot(tail, limit, tag, message);
        let next = tail.wrapping_add(1);
        producer.tail.set(next);
        if self.layout().ends_batch(tail, next) {
            // ORDERING [S11@ring]: release; the slots below are claimed. Between batches it lags behind [I1@ring].
            self.control(TAIL).store(next, Release);
            self.announce(tail, next);
        }
        add(&hot[BYTES], message.len() as u64);
        inside.leave(hot, 1);
        true
    }

    /// Commits an inline message to a free slot of an exclusive side, where those below `limit` are free.
    #[inline(always)]
    fn write_slot(&self, position: u64, limit: u64, tag: u16, message: &[u8]) {
        let slot = self.slot(position);
        if position.wrapping_add(AHEAD) < limit {
            own_behind(slot, self.layout().bytes_ahead());
        }
        copy_short_in(slot, message);
        // ORDERING: relaxed, published by the slot's word.
        slot[META].store(Meta::new(message.len(), None, tag).0, Relaxed);
        // ORDERING [S9@ring]: release; the message.
        slot[WORD].store(Word::ready(self.layout().lap(position)).0, Release);
    }

    /// Sends as many inline messages as there is room for, in one operation, if the side is exclusive. How many: [`RUN_MAX`] at most.
    pub(crate) fn push_run(&self, producer: &Producer, tag: u16, messages: &[&[u8]]) -> usize {
        let (first, limit) = (producer.tail.get(), producer.limit.get());
        if first >= limit {
            return 0;
        }
        let hot = self.hot(producer.me);
        let Some(inside) = self.enter_exclusive(&producer.bias, Role::Sender, hot) else { return 0 };
        let room = usize::try_from(limit - first).unwrap_or(usize::MAX);
        let (mut next, mut bytes) = (first, 0);
        for message in messages.iter().take(room.min(RUN_MAX)) {
            if message.len() > self.layout().inline_max() {
                break;
            }
            self.write_slot(next, limit, tag, message);
            bytes += message.len() as u64;
            next = next.wrapping_add(1);
        }
        if next == first {
            inside.leave(hot, 0);
            return 0;
        }
        producer.tail.set(next);
        // ORDERING [S11@ring]: release; the slots below are claimed.
        self.control(TAIL).store(next, Release);
        self.announce(first, next);
        add(&hot[BYTES], bytes);
        inside.leave(hot, next.wrapping_sub(first));
        next.wrapping_sub(first) as usize
    }

    pub(crate) fn push_slot(&self, producer: &Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let me = producer.me;
        let pushed = match self.enter_side(&producer.bias, Role::Sender, me) {
            Entered::Exclusive { anew } => {
                if anew {
                    // What the side's former owners claimed: the last may have been killed between a claim and its position.
                    producer.tail.set(self.settle_tail());
                    producer.limit.set(0);
                }
                let pushed = self.push_exclusive(producer, out);
                self.leave_side(me);
                pushed
            }
            Entered::Shared => {
                let pin = self.pin(me);
                let pushed = self.push_shared(producer, out);
                self.unpin(pin);
                pushed
            }
            Entered::Changing => Err(PushError::Busy),
            Entered::Corrupt => Err(PushError::Corrupt(Corrupt::Mode)),
        };
        if pushed.is_ok() {
            self.count_message(me, out.len);
        }
        pushed
    }

    fn push_exclusive(&self, producer: &Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let tail = producer.tail.get();
        let (slot, lap) = (self.slot(tail), self.layout().lap(tail));
        if tail >= producer.limit.get() {
            producer.limit.set(self.limit_for(producer, tail)?);
        }
        if tail >= producer.limit.get() {
            if self.is_unbounded() {
                return Err(PushError::Full);
            }
            // ORDERING [S10@ring]: acquire; the consumer is done with the slot.
            let word = Word(slot[WORD].load(Acquire));
            if word != Word::free(lap) {
                let held = word.against(lap) == Lap::Before && word.state().is_some_and(|state| state != State::Free);
                return Err(if held { PushError::Full } else { PushError::Corrupt(Corrupt::Slot) });
            }
        }
        self.fill(slot, tail, out);
        // ORDERING [S9@ring]: release; the message.
        slot[WORD].store(Word::ready(lap).0, Release);
        let next = tail.wrapping_add(1);
        producer.tail.set(next);
        // ORDERING [S11@ring]: release; the slot below is claimed.
        self.control(TAIL).store(next, Release);
        self.announce(tail, next);
        Ok(())
    }

    fn push_shared(&self, producer: &Producer, out: &Outgoing<'_>) -> Result<(), PushError> {
        let me = producer.me;
        loop {
            // ORDERING [S11@ring]: acquire; slots below are claimed.
            let tail = self.control(TAIL).load(Acquire);
            if self.is_unbounded() && !self.may_claim(me, tail)? {
                continue;
            }
            let (slot, lap) = (self.slot(tail), self.layout().lap(tail));
            // ORDERING [S10@ring]: acquire; the consumer is done with the slot.
            let word = Word(slot[WORD].load(Acquire));
            let room = if word.against(lap) == Lap::Before { self.limit_for(producer, tail) } else { Ok(0) };
            let released = matches!(room, Ok(limit) if tail < limit);
            match (word.against(lap), word.state()) {
                (seen, Some(state)) if released || (seen, state) == (Lap::Same, State::Free) => {
                    let claim = Word::new(lap, State::Writing, Some(me));
                    // ORDERING [S10@ring]: acquire on success; the claim names its owner in the same word.
                    if slot[WORD].compare_exchange(word.0, claim.0, AcqRel, Relaxed).is_err() {
                        spin();
                        continue;
                    }
                    self.advance(TAIL, tail);
                    self.fill(slot, tail, out);
                    // ORDERING [S9@ring]: release; the message.
                    slot[WORD].store(Word::ready(lap).0, Release);
                    self.announce(tail, tail.wrapping_add(1));
                    return Ok(());
                }
                (Lap::Same | Lap::After, Some(_)) => self.advance(TAIL, tail),
                (seen, state) => {
                    // ORDERING [S11@ring]: acquire; a stale position explains any word.
                    if self.control(TAIL).load(Acquire) != tail {
                        spin();
                        continue;
                    }
                    if self.layout().is_broadcast() {
                        room?; // that is why
                    }
                    let held = seen == Lap::Before && state.is_some_and(|state| state != State::Free);
                    return Err(if held { PushError::Full } else { PushError::Corrupt(Corrupt::Slot) });
                }
            }
        }
    }

    /// Whether the slot at `tail` of an unbounded link has memory, and another behind it. Then it is written down who may claim it: of a dead
    /// producer nobody looks through the ring. False if the tail moved on.
    fn may_claim(&self, me: Participant, tail: u64) -> Result<bool, PushError> {
        let limit = self.grown_limit(tail);
        // ORDERING [S11@ring]: acquire; a stale position explains anything.
        if limit.as_ref().is_ok_and(|limit| tail >= *limit) || limit.is_err() {
            if self.control(TAIL).load(Acquire) != tail {
                spin();
                return Ok(false);
            }
            return Err(limit.err().unwrap_or(PushError::Full));
        }
        // ORDERING: relaxed; before the CAS on the slot's word, which releases; read after my death.
        self.entry_word(me, CLAIM).store(tail, Relaxed);
        Ok(true)
    }

    #[inline(always)]
    fn fill(&self, slot: &Line, position: u64, out: &Outgoing<'_>) {
        let class = match &out.body {
            Body::Inline(bytes) => {
                copy_short_in(slot, bytes);
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

    /// Removes the oldest message to make room. True if something was removed.
    pub(crate) fn drop_oldest(&self, producer: &Producer) -> Result<bool, PushError> {
        let me = producer.me;
        let consumer = Consumer::new(me);
        match self.enter_side(consumer.bias(), Role::Receiver, me) {
            Entered::Shared => {}
            Entered::Corrupt => return Err(PushError::Corrupt(Corrupt::Mode)),
            _ => return Ok(true), // the side is becoming shared: try again
        }
        // Written ahead: if this participant is killed while it holds the slot, whoever recovers it sets the count to
        // this value, so that the loss is counted exactly once.
        // ORDERING: relaxed; one writer, read after its death.
        let losses = self.hot(me)[LOSSES].load(Relaxed).wrapping_add(1 << DROPPED_SHIFT);
        self.entry_word(me, LOSSES_NEXT).store(losses, Relaxed);
        let position = match self.take_shared(&consumer) {
            Ok(taken) => taken.position,
            Err(PopError::Corrupt(what)) => return Err(PushError::Corrupt(what)),
            Err(_) => return Ok(consumer.take_made_room()),
        };
        // ORDERING: relaxed; one writer.
        self.hot(me)[LOSSES].store(losses, Relaxed);
        self.discard(me, position);
        Ok(true)
    }
}
