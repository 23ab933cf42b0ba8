//! Announcements: how two sides in a stream stay out of each other's way.
//!
//! The other side learns of each message from its slot, at once. But a look at a slot that its producer is about to write, or
//! at a position that moves with each message, takes that line from its writer, and gives it back a round trip between two
//! cores later: as long as tens of messages take. A consumer that is a little faster than its producer looks after each message, and
//! both become as slow as the line. The remedy is old: publish in batches (Lee et al., "MCRingBuffer", ANCS 2009). But a message must not
//! wait for its batch. So the batches are only *announced*, in words of their own that are written once for many messages,
//! beside the exact ones:
//!
//! ```text
//!                 exact, with each message          announced, once for `layout.batch` messages
//! messages        the slot's word                   ANNOUNCED: slots below were committed
//! room            `released`, or the slot's word    FREED: slots below were released
//! ```
//!
//! A side that has used up what it knows of looks at the announcement first. If there is none, and the side is in a stream, it
//! *stays away* for a bounded time, about what a batch takes, in which it looks at the announcement only. Then it looks at the exact
//! word. If the announcement did not come, it does not stay away again for a good number of messages.
//!
//! [I1] An announcement is a hint. Whatever it says, each slot is claimed, taken and released by its word and the positions alone;
//! a stale or wrong announcement costs time only.

use crate::consumer::Consumer;
use crate::engine::Engine;
use crate::header::{ANNOUNCED, FREED};
use crate::producer::Producer;
use crate::sync::Relaxed;
use core::cell::Cell;

/// What a side remembers of the other's announcements.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Positions below were announced.
    known: Cell<u64>,
    /// Position of the last look that was not announced.
    looked_at: Cell<u64>,
    /// Messages that came without an announcement lately; below 0 while it is not worth staying away.
    unannounced: Cell<i64>,
}

/// How many slots ahead of itself a side fetches the lines of the one that it is about to need: a line from another core takes as long as several messages. Only
/// slots that it knows the other side to be done with, or they would be taken from who is at work on them.
pub(crate) const AHEAD: u64 = 8;

/// So many messages that came faster than they were announced are a stream.
const STREAM: i64 = 8;
/// Messages before staying away is tried again, after it did not pay off.
const RELUCTANCE: i64 = 256;

impl Pace {
    /// Takes note of an announcement. True if the next position is known of, or ought to be looked at without.
    fn note(&self, announced: u64, position: u64) -> bool {
        let came = position.wrapping_sub(self.looked_at.replace(position));
        if announced > position {
            self.known.set(announced);
            return true;
        }
        self.unannounced.set(self.unannounced.get().saturating_add(came.min(RELUCTANCE as u64) as i64));
        !self.is_streaming()
    }

    fn found_nothing(&self) {
        let before = self.unannounced.get();
        self.unannounced.set(if before > 0 { before.min(STREAM) / 2 } else { before });
    }

    fn is_streaming(&self) -> bool {
        self.unannounced.get() >= STREAM
    }

    fn give_up(&self) {
        self.unannounced.set(-RELUCTANCE);
    }
}

impl Engine {
    /// Tells the consumers of slots below `tail`, now and then.
    #[inline(always)]
    pub(crate) fn announce(&self, from: u64, tail: u64) {
        if self.layout().ends_batch(from, tail) {
            // ORDERING: relaxed; a hint [I1].
            self.control(ANNOUNCED).store(tail, Relaxed);
        }
    }

    /// Tells the producers of slots below `released`, now and then. Whether it did.
    #[inline(always)]
    pub(crate) fn announce_freed(&self, from: u64, released: u64) -> bool {
        let due = self.layout().ends_batch(from, released);
        if due {
            // ORDERING: relaxed; a hint [I1].
            self.control(FREED).store(released, Relaxed);
        }
        due
    }

    /// Whether to look at the slot at `consumer`'s head.
    #[inline(always)]
    pub(crate) fn may_take(&self, consumer: &Consumer) -> bool {
        consumer.head.get() < consumer.pace.known.get() || self.look_for_announcement(consumer)
    }

    /// Whether the message that is [`AHEAD`] positions later was announced.
    #[inline(always)]
    pub(crate) fn knows_ahead(&self, consumer: &Consumer, position: u64) -> bool {
        position.wrapping_add(AHEAD) < consumer.pace.known.get()
    }

    #[cold]
    #[inline(never)]
    fn look_for_announcement(&self, consumer: &Consumer) -> bool {
        let head = consumer.head.get();
        // ORDERING: relaxed; a hint [I1].
        let announced = self.control(ANNOUNCED).load(Relaxed);
        consumer.pace.note(announced.min(head.saturating_add(self.layout().capacity())), head)
    }

    /// Slots that a run may look at: not into those that are being written, if some are known not to be.
    pub(crate) fn reach(&self, consumer: &Consumer) -> usize {
        let known = consumer.pace.known.get().saturating_sub(consumer.head.get());
        let reach = if known > 0 { known } else { self.layout().capacity() };
        usize::try_from(reach).unwrap_or(usize::MAX)
    }

    /// Whether a receiver that found nothing announced should stay away for a moment: until [`Self::is_announced`] says so, or it loses
    /// patience and says so by [`Self::lose_patience`].
    pub fn stays_away(&self, consumer: &Consumer) -> bool {
        consumer.pace.is_streaming() && consumer.head.get() >= consumer.pace.known.get()
    }

    /// Whether the next message was announced.
    #[inline(always)]
    pub fn is_announced(&self, consumer: &Consumer) -> bool {
        // ORDERING: relaxed; a hint [I1].
        self.control(ANNOUNCED).load(Relaxed) > consumer.head.get()
    }

    /// A look at the slot found no message: they come no faster than they are taken, which is no stream.
    pub fn found_nothing(&self, consumer: &Consumer) {
        consumer.pace.found_nothing();
    }

    /// The announcement did not come.
    pub fn lose_patience(&self, consumer: &Consumer) {
        consumer.pace.give_up();
    }

    /// Whether a sender that found the link full should stay away from what the receiver writes: until [`Self::is_room_announced`] says
    /// so, or it loses patience and says so by [`Self::lose_patience_for_room`].
    pub fn stays_away_from_room(&self, producer: &Producer) -> bool {
        let pace = &producer.pace;
        let came = producer.tail.get().wrapping_sub(pace.looked_at.replace(producer.tail.get()));
        pace.unannounced.set(pace.unannounced.get().saturating_add(came.min(RELUCTANCE as u64) as i64));
        pace.unannounced.get() >= 0
    }

    /// Whether room was announced.
    #[inline(always)]
    pub fn is_room_announced(&self, producer: &Producer) -> bool {
        // ORDERING: relaxed; a hint [I1].
        self.control(FREED).load(Relaxed).saturating_add(self.layout().capacity()) > producer.tail.get()
    }

    /// The announcement did not come.
    pub fn lose_patience_for_room(&self, producer: &Producer) {
        producer.pace.give_up();
    }
}
