//! Broadcast: every receiver gets every message. The producers' end is that of `ring` and `producer`: the same slots, claims and runs. The
//! consumers' end is not used. Instead each receiver, a *listener*, has a *cursor* in the hot line of its own entry, which it alone
//! writes: it is done with every position below. A message in hand is one that the cursor has not passed.
//!
//! ```text
//!            gone           lowest cursor            tail
//!   gone      |  kept: history  |   not heard by all   |  free: up to `released` + capacity
//! ------------+-----------------+----------------------+-----------
//!  `released` is at most `gone`: what is gone for readers becomes free for writers when its blocks are freed
//!
//! participant, hot line  56  cursor: 0 none, else the position plus one
//! header, line 3          0  gone (the word that is `head` on a queue)    8  released
//! ```
//! *Lossless* (`full=block`, `full=reject`): nothing that a cursor has not passed is let go of. So the sender is as slow as the slowest
//! receiver, and a message is read in its place. *Lossy* (`full=drop-oldest`, `full=cut-off`): the sender goes on, and lets go of the oldest. A
//! receiver copies a message out, then looks at `gone` as at the sequence of a seqlock: if that has passed the message, the copy is
//! worth nothing, and the receiver learns from the difference how many it missed.
//!
//! **Letting go** of the messages below a position *r*, which a producer does when it has used up the room that it knows of, has three steps,
//! each a maximum, so that several producers may do it at once, and one that is killed between two is finished by the next:
//!
//! 1. `gone` becomes *r*: nobody begins to read below.
//! 2. The blocks of the slots from `released` to *r* are freed. Whoever frees a block first, by its exact word, has freed it.
//! 3. `released` becomes *r*: the slots may be written.
//!
//! A slot that is still being written stops it: its writer is in the middle of a few instructions, or is dead and will be recovered.
//! It is done for a *batch* of messages at once, so its cost is shared by them, and as many messages less are kept than there are slots.
//!
//! **The lowest cursor** is looked for only when what a producer knew of it is used up: once in about a ring of messages, if the receivers
//! keep up. So what a send costs does not depend on how many they are. One that joins meanwhile may have a cursor below what was found, so:
//!
//! | the producer | the newcomer |
//! |---|---|
//! | loads the version of the membership, then every cursor: none is below *m* | stores its cursor, *p*; |
//! | stores `gone` = *r*, at most *m* | adds one to the version |
//! | light fence | heavy fence |
//! | loads the version: if it has changed, it begins again | loads `gone`: if it has passed *p*, it begins there, and stores that |
//!
//! If the newcomer's addition is before the first load of the version, its cursor was seen. If it is after the second, the newcomer sees
//! `gone` = *r* and begins at *r* or later. If it is between, the producer begins again. So whenever the producer goes on to free what is
//! below *r*, each living cursor is at *r* or above, or its owner will move it there before it reads anything; and what is true of *r* stays
//! true. A version never comes back. A cursor that leaves or dies is cleared before the version grows.
//!
//! **No receiver** holds nobody back: then messages become history only, for those who come and ask for it.
//!
//! [I1] `released` is at most `gone`, and `gone` at most the tail.
//! [I2] On a lossless link no listener that has begun reads a position below `released`.
//! [I3] A slot from `released` to the tail is READY, SKIP or WRITING of its lap. No receiver writes to it.
//! [I4] A block belongs to the slot that refers to it until `gone` has passed that; who lets go of the slot frees it.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S16] | cursor store, by its listener | cursor load, in `look_for_lowest` | that it has read what is below |
//! | [S17] | `gone` maximum, light fence, version load, in `agree` | version add, heavy fence, `gone` load, in `listen` | store before load |
//! | [S18] | `gone` maximum, release fence, bytes of a later message | bytes, acquire fence, `gone` load, in `copy_heard` | that they are not its |
//! | [S19] | `released` maximum, in `let_go` | `released` load, in `ring::limit` | that the blocks below are freed |

use crate::engine::{Corrupt, Delivery, Engine, PopError, PushError};
use crate::header::{HEAD as GONE, RELEASED};
use crate::layout::{Full, SLOT_HEAD};
use crate::participants::{CURSOR, DROPPED_SHIFT, LOSSES, Participant, SKIPPED};
use crate::producer::Producer;
use crate::ring::WORD;
use crate::slot::{Lap, State, Word};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, SeqCst, fence};
use core::cell::Cell;

/// Times that a producer begins again, because others joined or left, before it lets its caller wait a moment.
const AGAIN: u32 = 8;

/// Where a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With so many of the newest messages that are there, and everything that comes; 0 is with the next message.
    Newest(u64),
    /// At a position that another listener, which is there, has not passed.
    At(u64),
}

/// What a receiver of a broadcast remembers between operations; nobody else sees it.
#[derive(Debug)]
pub struct Listener {
    me: Participant,
    /// Position of the next message.
    next: Cell<u64>,
    /// Times in a row that it was overtaken before it had a message.
    overtaken: Cell<u32>,
}

impl Listener {
    /// Position of the next message that it will get, or was about to.
    pub fn next(&self) -> u64 {
        self.next.get()
    }
}

/// What a producer knows of the cursors.
#[derive(Debug, Default)]
pub(crate) struct Lowest(Cell<Option<Found>>);

#[derive(Clone, Copy, Debug)]
struct Found {
    /// No cursor was below.
    floor: u64,
    /// The version of the membership before it was looked for.
    version: u64,
    /// Whose cursor it was.
    whose: Option<Participant>,
}

impl Engine {
    fn overwrites(&self) -> bool {
        matches!(self.layout().geometry().full, Full::DropOldest | Full::CutOff)
    }

    // ---- the listener

    /// Becomes a listener: from here on every message that is sent is kept for it, as far as the link keeps messages for anybody. The caller
    /// has joined as `me`.
    ///
    /// # Errors
    /// If the region is corrupt.
    pub fn listen(&self, me: Participant, start: Start) -> Result<Listener, Corrupt> {
        let tail = self.claimed_tail();
        let wanted = match start {
            Start::Newest(messages) => tail.saturating_sub(messages.min(self.layout().capacity())),
            Start::At(position) => position.min(tail),
        };
        // ORDERING: relaxed; a first guess, decided below.
        let first = wanted.max(self.control(GONE).load(Relaxed).min(tail));
        self.set_cursor(me, first);
        // ORDERING [S17]: SeqCst add, then the heavy fence; the cursor is seen by who sees the version.
        self.bump_membership();
        self.fences().heavy();
        // ORDERING [S17]: acquire after the fence; what is gone was agreed on without this cursor.
        let gone = self.control(GONE).load(Acquire);
        if gone > self.claimed_tail() {
            return Err(Corrupt::Position);
        }
        if gone > first {
            self.set_cursor(me, gone);
        }
        Ok(Listener { me, next: Cell::new(first.max(gone)), overtaken: Cell::new(0) })
    }

    /// The listener is done with every position below.
    pub fn heard_until(&self, listener: &Listener, position: u64) {
        self.set_cursor(listener.me, position);
    }

    fn set_cursor(&self, me: Participant, position: u64) {
        // ORDERING [S16]: release; the reads of the messages below lie before.
        self.hot(me)[CURSOR].store(position.wrapping_add(1), Release);
    }

    /// Nobody listens as this participant any more: it leaves, or is dead.
    pub(crate) fn stop_listening(&self, participant: Participant) {
        // ORDERING [S16]: release; its reads lie before.
        self.hot(participant)[CURSOR].store(0, Release);
    }

    /// The cursor of a participant, if it listens.
    fn cursor(&self, participant: Participant) -> Option<u64> {
        // ORDERING [S16]: acquire; its owner has read what is below.
        self.hot(participant)[CURSOR].load(Acquire).checked_sub(1)
    }

    /// Finds the next message. On a lossless link it is taken, and stays in its place until [`Self::heard_until`] passes it. On a lossy one
    /// it was only found: [`Self::copy_heard`] takes it.
    ///
    /// # Errors
    /// If there is none; [`PopError::Lapped`] if some were overwritten before they were heard, which are counted then, and the listener goes
    /// on with the oldest that is there; or if the region is corrupt.
    pub fn try_hear(&self, listener: &Listener) -> Result<Delivery, PopError> {
        // More than one step only over slots that hold no message.
        for _ in 0..=self.layout().capacity() {
            let at = listener.next.get();
            let (slot, lap) = (self.slot(at), self.layout().lap(at));
            // ORDERING [S9@ring]: acquire; the message.
            let word = Word(slot[WORD].load(Acquire));
            match (word.against(lap), word.state()) {
                (Lap::Same, Some(State::Ready)) => return self.heard(listener, at),
                (Lap::Same, Some(State::Skip)) => self.pass_over(listener, at)?,
                (Lap::Same, Some(State::Writing)) => return Err(self.overtaken_or(listener, PopError::Busy)),
                (Lap::Same, Some(State::Free)) => return Err(PopError::Empty),
                (Lap::Before, Some(state)) if state != State::Free => return Err(PopError::Empty),
                _ => return Err(self.overtaken_or(listener, PopError::Corrupt(Corrupt::Slot))),
            }
        }
        Err(PopError::Corrupt(Corrupt::Slot))
    }

    /// A claim that vanished with its owner. Where messages are counted by their positions, it counts as missed.
    #[cold]
    fn pass_over(&self, listener: &Listener, at: u64) -> Result<(), PopError> {
        self.count(listener.me, SKIPPED, 1);
        listener.next.set(at.wrapping_add(1));
        if self.layout().geometry().full == Full::DropOldest {
            self.count(listener.me, LOSSES, 1 << DROPPED_SHIFT);
            return Err(PopError::Lapped(1));
        }
        Ok(())
    }

    /// Reads what a slot says of its message. Everything in it is a peer's value, and on a lossy link it may be changing.
    fn heard(&self, listener: &Listener, at: u64) -> Result<Delivery, PopError> {
        let slot = self.slot(at);
        let meta = self.meta_in(slot);
        let found = match self.block_in_slot(slot, meta) {
            Ok(Some(block)) => Ok((self.block_range(&block).0, block.word)),
            Ok(None) if meta.len() <= self.layout().inline_max() => Ok((self.layout().slot(at) + SLOT_HEAD, 0)),
            Ok(None) => Err(Corrupt::Length),
            Err(what) => Err(what),
        };
        let (offset, block_word) = found.map_err(|what| self.overtaken_or(listener, PopError::Corrupt(what)))?;
        if !self.overwrites() {
            listener.next.set(at.wrapping_add(1));
            self.count_message(listener.me, meta.len());
        }
        Ok(Delivery { position: at, offset, meta: meta.plain().marked(true), block_word })
    }

    /// Copies the bytes of a message that was found on a lossy link, and takes it.
    ///
    /// # Errors
    /// As [`Self::try_hear`], if it was let go of meanwhile: then the copy is worth nothing.
    ///
    /// # Panics
    /// If `to` is not as long as the message.
    pub fn copy_heard(&self, listener: &Listener, delivery: &Delivery, to: &mut [u8]) -> Result<(), PopError> {
        assert_eq!(to.len(), delivery.len(), "a copy of another length");
        self.memory().copy_contested(delivery.offset, to);
        self.take_heard(listener, delivery)
    }

    /// Takes a message of a lossy link that the caller has copied. Not from the mapping, if it lies in a block: its memory may have been given back.
    ///
    /// # Errors
    /// As [`Self::copy_heard`].
    pub fn take_heard(&self, listener: &Listener, delivery: &Delivery) -> Result<(), PopError> {
        // ORDERING [S18]: acquire; if any of these bytes is of a later message, `gone` is seen beyond this one.
        fence(Acquire);
        // ORDERING [S18]: relaxed after the fence.
        if self.control(GONE).load(Relaxed) > delivery.position {
            return Err(self.overtaken_or(listener, PopError::Busy));
        }
        listener.next.set(delivery.position.wrapping_add(1));
        listener.overtaken.set(0);
        self.set_cursor(listener.me, listener.next.get());
        self.count_message(listener.me, delivery.len());
        Ok(())
    }

    /// Goes on where the link begins by now, if it has let go of the next message; otherwise it was `other` that happened.
    #[cold]
    fn overtaken_or(&self, listener: &Listener, other: PopError) -> PopError {
        let at = listener.next.get();
        // ORDERING [S18]: acquire; if anything that was found odd is of a later message, `gone` is seen beyond this one.
        fence(Acquire);
        // ORDERING [S17]: acquire; with what made it gone.
        let gone = self.control(GONE).load(Acquire);
        if !self.overwrites() || gone <= at {
            return other;
        }
        let tail = self.claimed_tail();
        if gone > tail {
            return PopError::Corrupt(Corrupt::Position);
        }
        // Who is overtaken again and again, at the very end where the senders let go next, moves away from it.
        let turns = listener.overtaken.replace(listener.overtaken.get().saturating_add(1));
        let next = if turns < 2 { gone } else { gone + (tail - gone) / 2 };
        let missed = next - at;
        listener.next.set(next);
        self.set_cursor(listener.me, next);
        self.count(listener.me, LOSSES, missed << DROPPED_SHIFT);
        PopError::Lapped(missed)
    }

    /// Messages that a listener can still get, as far as one look can tell.
    pub fn unheard(&self, listener: &Listener) -> u64 {
        self.behind_at(listener.next.get())
    }

    /// How many messages a participant is behind, if it listens: those that it has not released, and that are still there.
    pub fn behind(&self, participant: Participant) -> Option<u64> {
        self.cursor(participant).map(|cursor| self.behind_at(cursor))
    }

    fn behind_at(&self, cursor: u64) -> u64 {
        // ORDERING: relaxed; a figure that is old before it is used.
        let gone = self.control(GONE).load(Relaxed);
        self.claimed_tail().saturating_sub(cursor.max(gone)).min(self.layout().capacity())
    }

    /// How far the slowest listener is behind; 0 without any.
    pub(crate) fn backlog(&self) -> u64 {
        self.participants().filter_map(|p| self.behind(p)).max().unwrap_or(0)
    }

    /// Whether the next message would have to wait for a listener.
    pub(crate) fn is_held_up(&self) -> bool {
        let tail = self.claimed_tail();
        let is_short = !self.overwrites() && self.limit(tail).is_ok_and(|limit| tail >= limit);
        is_short && self.look_for_lowest(tail).floor.saturating_add(self.layout().capacity()) <= tail
    }

    // ---- the producer

    /// The first position that a producer at `tail` may not write yet; above `tail`, or an error. On a queue it may also be below, which says
    /// nothing.
    #[inline(always)]
    pub(crate) fn limit_for(&self, producer: &Producer, tail: u64) -> Result<u64, PushError> {
        let limit = self.limit(tail)?;
        if !self.layout().is_broadcast() {
            return Ok(limit);
        }
        if tail >= limit {
            return self.make_way(producer, tail);
        }
        // ORDERING [S18]: release; who reads what is written now sees what made way for it.
        fence(Release);
        Ok(limit)
    }

    /// Lets go of a batch of the oldest messages.
    #[cold]
    fn make_way(&self, producer: &Producer, tail: u64) -> Result<u64, PushError> {
        let capacity = self.layout().capacity();
        let least = tail.saturating_sub(capacity).saturating_add(1);
        let wanted = tail.saturating_sub(capacity).saturating_add(self.layout().batch()).min(tail);
        let to = self.agree(producer, tail, least, wanted)?;
        if to < least {
            return Err(PushError::Full);
        }
        let released = self.let_go(to)?;
        // ORDERING [S18]: release, as in `limit_for`.
        fence(Release);
        if released < least { Err(PushError::Busy) } else { Ok(released.saturating_add(capacity)) }
    }

    /// Lets go of the oldest messages until the block of one is free, if possible of the class that holds `len` bytes. False if there is none
    /// that can be let go of. Notify nobody: the caller wants it.
    ///
    /// # Errors
    /// If a message is being written there, or the region is corrupt.
    pub fn let_go_of_a_block(&self, producer: &Producer, len: usize) -> Result<bool, PushError> {
        let (tail, class) = (self.claimed_tail(), self.layout().class_of(len));
        // ORDERING [S19]: acquire; the blocks below were freed.
        let from = self.control(RELEASED).load(Acquire);
        let class_at = |position: &u64| {
            let slot = self.slot(*position);
            let is_ready = self.slot_word(*position) == Word::ready(self.layout().lap(*position));
            if is_ready { self.meta_in(slot).class() } else { None }
        };
        let ring = || from..tail.min(from.saturating_add(self.layout().capacity()));
        let found = ring().find(|p| class_at(p) == Some(class)).or_else(|| ring().find(|p| class_at(p).is_some()));
        let Some(last) = found else { return Ok(false) };
        let to = self.agree(producer, tail, from.saturating_add(1), last.saturating_add(1))?;
        if to <= from {
            return Ok(false);
        }
        self.let_go(to).map(|released| released > from)
    }

    /// How far messages may be let go of, up to `wanted`; then they are gone for everybody who begins to read. Below `least`: not at all.
    fn agree(&self, producer: &Producer, tail: u64, least: u64, wanted: u64) -> Result<u64, PushError> {
        let gone = self.control(GONE);
        if self.overwrites() {
            // ORDERING [S18]: SeqCst; before the slots and blocks below are given to anybody.
            gone.fetch_max(wanted, SeqCst);
            return Ok(wanted);
        }
        for _ in 0..AGAIN {
            let found = self.lowest(producer, tail, least);
            let to = wanted.min(found.floor);
            if to < least {
                return Ok(to);
            }
            // ORDERING [S17]: SeqCst, then the light fence, then the version.
            gone.fetch_max(to, SeqCst);
            self.fences().light();
            if self.membership_version() == found.version {
                return Ok(to);
            }
            producer.lowest.0.set(None);
        }
        Err(PushError::Busy)
    }

    /// The lowest cursor: as it was found before, if that is good enough, or if the one that it was has not moved.
    fn lowest(&self, producer: &Producer, tail: u64, least: u64) -> Found {
        if let Some(found) = producer.lowest.0.get().filter(|found| found.version == self.membership_version()) {
            let has_moved = || found.whose.is_none_or(|slowest| self.cursor(slowest) != Some(found.floor));
            if found.floor >= least || !has_moved() {
                return found;
            }
        }
        let found = self.look_for_lowest(tail);
        producer.lowest.0.set(Some(found));
        found
    }

    fn look_for_lowest(&self, tail: u64) -> Found {
        // In this order: who is not seen below has changed the version.
        let mut found = Found { floor: tail, version: self.membership_version(), whose: None };
        for participant in self.participants() {
            if let Some(cursor) = self.cursor(participant).filter(|cursor| *cursor < found.floor) {
                found = Found { floor: cursor, whose: Some(participant), ..found };
            }
        }
        found
    }

    /// Frees the blocks of what is gone below `to`, and gives its slots to the producers. How far: less than `to` if a slot is still being written.
    fn let_go(&self, to: u64) -> Result<u64, PushError> {
        let released = self.control(RELEASED);
        // ORDERING [S19]: acquire; the blocks below were freed.
        let mut at = released.load(Acquire);
        while at < to {
            let word = self.slot_word(at);
            match (word.against(self.layout().lap(at)), word.state()) {
                (Lap::Same, Some(State::Ready)) => self.free_block_in(at),
                (Lap::Same, Some(State::Skip)) => {}
                (Lap::Same, Some(State::Writing)) => break,
                _ => {
                    // Another producer was faster, and the slot has been written since; or it is damaged.
                    // ORDERING [S19]: acquire; as above.
                    let now = released.load(Acquire);
                    if now <= at {
                        return Err(PushError::Corrupt(Corrupt::Slot));
                    }
                    at = now;
                    continue;
                }
            }
            at += 1;
        }
        // ORDERING [S19]: AcqRel; the blocks below are freed, by this producer or one before.
        let others = released.fetch_max(at, AcqRel);
        if others > at && others > self.claimed_tail() {
            return Err(PushError::Corrupt(Corrupt::Position));
        }
        Ok(others.max(at))
    }

    /// Frees the block of a message that is gone, if it has one, and nobody else has let go of the slot.
    fn free_block_in(&self, at: u64) {
        let slot = self.slot(at);
        let meta = self.meta_in(slot);
        if meta.class().is_none() {
            return;
        }
        // A block that is not the slot's was freed by another producer. If it has an owner again, its word is another.
        let Ok(Some(block)) = self.block_in_slot(slot, meta) else { return };
        // ORDERING [S18]: acquire; if any of this is of a later message, `released` is seen beyond this slot.
        fence(Acquire);
        // ORDERING [S18]: relaxed after the fence.
        if self.control(RELEASED).load(Relaxed) <= at {
            self.free_block(&block);
        }
    }
}
