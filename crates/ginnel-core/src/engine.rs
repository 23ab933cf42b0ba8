//! The engine of one attached link: the parts of this crate over one region. Its methods stand in the files of the
//! concepts that they belong to; here are the operations that need several of them.
//!
//! Every value that comes from the region may have been written by a hostile or broken peer: it is loaded once, checked,
//! then used, and a wrong one is [`Corrupt`].

use crate::consumer::{Consumer, Run};
use crate::event::Event;
use crate::header::{ITEMS, ROOM};
use crate::layout::{INLINE_MAX, LINE, Layout};
use crate::memory::{Line, Memory};
use crate::participants::{LOSSES, Participant};
use crate::pool::Block;
use crate::producer::{Body, Outgoing, Producer};
use crate::sync::{AtomicU64, Fences, Release, fence};
use core::fmt;

/// One attached link.
pub struct Engine {
    memory: Memory,
    layout: Layout,
    fences: Fences,
}

/// What is wrong with a value in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corrupt {
    /// A slot's word has a lap or state that no run leads to.
    Slot,
    /// A slot says a length that no message of its place has.
    Length,
    /// A slot refers to a block that does not exist or is not its.
    Block,
    /// A side names an impossible owner.
    Mode,
    /// A position lies beyond another that bounds it.
    Position,
    /// The word that names the newest value names none that there can be.
    Newest,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "a slot's word is impossible",
            Self::Length => "a message's length is impossible",
            Self::Block => "a message refers to a block that is not its own",
            Self::Mode => "a side of the ring names an impossible owner",
            Self::Position => "a position of the ring is impossible",
            Self::Newest => "the word that names the newest value is impossible",
        })
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// Every slot holds a message. On an unbounded link: every slot that has memory; see [`Engine::ring_growth`].
    Full,
    /// Another participant is in the middle of something that takes a few instructions, or died there.
    Busy,
    /// No committed block is free: commit an extent, or wait.
    NoBlock,
    /// Longer than the link's largest message.
    TooLarge,
    /// A peer wrote an impossible value.
    Corrupt(Corrupt),
}

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PopError {
    /// There is none.
    Empty,
    /// The next one is being written, or the side changes hands: a few instructions, or a death.
    Busy,
    /// Of a broadcast: so many messages were overwritten before this receiver got them.
    Lapped(u64),
    /// A peer wrote an impossible value.
    Corrupt(Corrupt),
}

/// A message that a receiver holds in its place in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its position in the link's order.
    pub position: u64,
    /// Offset of its bytes in the region.
    pub offset: usize,
    /// The slot's second word, checked: length, place and tag.
    pub(crate) meta: Meta,
    /// The block's word, as its holder knows it; 0 if the message lies in its slot.
    pub(crate) block_word: u64,
}

/// The second word of a slot: length 32 bits, place 8 (0 inline, else class + 1), 0 4, lent 1, marked 1, detached 1, redelivered 1, tag 16. The
/// four flags only mean something in a receiver's copy. (Bits and no `bool` beside it: a delivery is
/// moved by words, and a word that was just written as a byte cannot be loaded until it has left the store buffer.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta(pub(crate) u64);

impl Meta {
    const REDELIVERED: u64 = 1 << 47;
    const DETACHED: u64 = 1 << 46;
    const MARKED: u64 = 1 << 45;
    const LENT: u64 = 1 << 44;
    const FLAGS: u64 = Self::REDELIVERED | Self::DETACHED | Self::MARKED | Self::LENT;
    /// The place.
    const PLACE: u64 = 0xFF << 32;

    pub(crate) fn new(len: usize, class: Option<u8>, tag: u16) -> Self {
        Self(len as u64 | class.map_or(0, |class| u64::from(class) + 1) << 32 | u64::from(tag) << 48)
    }

    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.0 as u32 as usize
    }

    /// Class of the block that holds the message; none if it is inline.
    #[inline(always)]
    pub(crate) fn class(self) -> Option<u8> {
        ((self.0 >> 32) as u8).checked_sub(1)
    }

    /// Whether it says that its message lies in its slot, that it is not longer than that can be, and nothing else but a tag.
    #[inline(always)]
    pub(crate) fn is_inline_of(self, most: usize) -> bool {
        self.0 << 16 <= (most as u64) << 16
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// A receiver's copy, without flags.
    #[inline(always)]
    pub(crate) fn plain(self) -> Self {
        Self(self.0 & !Self::FLAGS)
    }

    pub(crate) fn redelivered(self, redelivered: bool) -> Self {
        Self(self.0 | if redelivered { Self::REDELIVERED } else { 0 })
    }

    /// Whether its slot was marked when it was taken (see `consumer`).
    pub(crate) fn marked(self, marked: bool) -> Self {
        Self(self.0 | if marked { Self::MARKED } else { 0 })
    }

    pub(crate) fn is_marked(self) -> bool {
        self.0 & Self::MARKED != 0
    }
}

impl Delivery {
    /// A message that lies in no region, but in its holder's own memory: for handles that have both. `note` stands in place of the offset.
    /// Detached: the engine has nothing to release, and must not be asked to.
    #[inline(always)]
    pub fn elsewhere(position: u64, len: u32, tag: u16, note: usize) -> Self {
        let meta = Meta(Meta::new(len as usize, None, tag).0 | Meta::DETACHED);
        Self { position, offset: note, meta, block_word: 0 }
    }

    /// The same, and its holder has it from somebody who wants it back: see [`Self::is_lent`].
    #[inline(always)]
    pub fn lent(position: u64, len: u32, tag: u16) -> Self {
        let elsewhere = Self::elsewhere(position, len, tag, 0);
        Self { meta: Meta(elsewhere.meta.0 | Meta::LENT), ..elsewhere }
    }

    /// Whether it was made by [`Self::lent`].
    #[inline(always)]
    pub fn is_lent(&self) -> bool {
        self.meta.0 & Meta::LENT != 0
    }

    /// Bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What its sender tagged it with.
    pub fn tag(&self) -> u16 {
        self.meta.tag()
    }

    /// Whether somebody who died may have received it before.
    pub fn redelivered(&self) -> bool {
        self.meta.0 & Meta::REDELIVERED != 0
    }

    /// Whether it left its slot; see [`Engine::detach`].
    #[inline(always)]
    pub fn is_detached(&self) -> bool {
        self.meta.0 & Meta::DETACHED != 0
    }

    /// Whether it is inline, and neither its slot nor it is marked as anything special: then its position is all that
    /// [`Engine::release_plain`] needs.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.meta.0 & (Meta::PLACE | Meta::MARKED | Meta::DETACHED) == 0
    }

    /// Whether its bytes lie in its slot.
    #[inline(always)]
    pub fn is_inline(&self) -> bool {
        self.block_word == 0
    }
}

impl Engine {
    /// Attaches to a region that has this layout. `heavy` is a full barrier for every participant when `asymmetric`,
    /// and for the calling thread otherwise.
    ///
    /// # Panics
    /// If the region is shorter than the layout.
    pub fn new(memory: Memory, layout: Layout, asymmetric: bool, heavy: fn()) -> Self {
        assert!(memory.len() >= layout.mapped_bytes(), "the region is shorter than its layout");
        Self { memory, layout, fences: Fences { asymmetric, heavy } }
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The region.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    #[inline(always)]
    pub(crate) fn fences(&self) -> &Fences {
        &self.fences
    }

    #[inline(always)]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.memory.word(offset)
    }

    /// A word of the header page.
    #[inline(always)]
    pub(crate) fn control(&self, offset: usize) -> &AtomicU64 {
        self.memory.control(offset)
    }

    #[inline(always)]
    pub(crate) fn entry_word(&self, participant: Participant, field: usize) -> &AtomicU64 {
        self.memory.word(self.layout.entry(participant.number()) + field)
    }

    /// The line of a participant's entry that its owner writes at each operation.
    #[inline(always)]
    pub(crate) fn hot(&self, participant: Participant) -> &Line {
        self.memory.line(self.layout.entry(participant.number()) + LINE)
    }

    /// The words of a position's slot.
    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> &Line {
        self.memory.line(self.layout.slot(position))
    }

    /// The participant that an owner field names, if there can be one.
    pub(crate) fn participant(&self, owner: u64) -> Option<Participant> {
        let number = u32::try_from(owner.checked_sub(1)?).ok()?;
        (number < self.layout.geometry().participants).then(|| Participant::new(number))
    }

    /// Where receivers sleep until there are messages.
    #[inline(always)]
    pub fn items(&self) -> Event<'_> {
        self.event(ITEMS)
    }

    /// Where senders sleep until there is room.
    #[inline(always)]
    pub fn room(&self) -> Event<'_> {
        self.event(ROOM)
    }

    #[inline(always)]
    fn event(&self, at: usize) -> Event<'_> {
        Event::new(self.memory.control32(at), self.control(at + 8), self.fences)
    }

    // ---- sending

    /// Sends a message by copying it, if that is the common case: one that lies in its slot, on a side that is exclusive to this producer, with
    /// room. False otherwise, with nothing done. If true, see [`Event::is_announced_of_exclusive`] of [`Self::items`].
    #[inline(always)]
    pub fn try_push_fast(&self, producer: &Producer, tag: u16, message: &[u8]) -> bool {
        message.len() <= self.layout.inline_max() && self.push_fast(producer, tag, message)
    }

    /// Sends a message by copying it. On success, notify [`Self::items`].
    ///
    /// # Errors
    /// If there is no room, or the region is corrupt.
    pub fn try_push(&self, producer: &Producer, tag: u16, message: &[u8]) -> Result<(), PushError> {
        let len = message.len();
        if self.try_push_fast(producer, tag, message) {
            return Ok(());
        }
        if len <= self.layout.inline_max() {
            return self.push_slot(producer, &Outgoing { tag, len, body: Body::Inline(message) });
        }
        self.push_large(producer, tag, message)
    }

    /// Sends several messages at once, if they are of the common case: inline, and there is room. How many: the first of `messages`; 0
    /// says nothing about why. On success, notify [`Self::items`].
    pub fn try_push_run(&self, producer: &Producer, tag: u16, messages: &[&[u8]]) -> usize {
        self.push_run(producer, tag, messages)
    }

    fn push_large(&self, producer: &Producer, tag: u16, message: &[u8]) -> Result<(), PushError> {
        if message.len() as u64 <= self.layout.geometry().max && !self.is_unbounded() && self.is_full(producer.me) {
            return Err(PushError::Full); // before the copy
        }
        let block = self.claim(producer, message.len())?;
        self.memory.copy_in(self.block_range(&block).0, message);
        let pushed = self.commit(producer, block, message.len(), tag);
        if pushed.is_err() {
            self.abort(block);
            self.leave_memory();
        }
        pushed
    }

    /// Takes a block to write a message of `len` bytes in place; see [`Self::commit`] and [`Self::abort`].
    ///
    /// # Errors
    /// If `len` is above the link's largest message, or no committed block is free.
    pub fn claim(&self, producer: &Producer, len: usize) -> Result<Block, PushError> {
        if len as u64 > self.layout.geometry().max || len <= INLINE_MAX {
            return Err(PushError::TooLarge);
        }
        let block = self.take_block(producer, len)?;
        // ORDERING [S18@broadcast]: release; who reads what is written into the block now sees that its last message is gone.
        fence(Release);
        Ok(block)
    }

    /// Sends what was written into a claimed block. On success, notify [`Self::items`]; on error the block is still the
    /// caller's.
    ///
    /// # Errors
    /// If there is no room, or the region is corrupt.
    pub fn commit(&self, producer: &Producer, block: Block, len: usize, tag: u16) -> Result<(), PushError> {
        debug_assert!(len > INLINE_MAX && len <= self.block_range(&block).1);
        self.push_slot(producer, &Outgoing { tag, len, body: Body::Block(block) })
    }

    /// Gives a claimed block back without sending it. Notify [`Self::room`], and see [`Self::leave_memory`].
    pub fn abort(&self, block: Block) {
        self.free_block(&block);
    }

    /// Makes room by removing the oldest message, and counts it: for links made so. True if it is worth trying again.
    ///
    /// # Errors
    /// If the region is corrupt.
    pub fn make_room(&self, producer: &Producer) -> Result<bool, PushError> {
        self.drop_oldest(producer)
    }

    // ---- receiving

    /// Takes the next message, if that is the common case: an inline message, on a side that is exclusive to this consumer, and, if it is
    /// patient, one that it need not stay away from (see [`Self::stays_away`]). With the address of its bytes.
    #[inline(always)]
    pub fn try_pop_fast(&self, consumer: &Consumer, patient: bool) -> Option<(Delivery, core::ptr::NonNull<u8>)> {
        let (delivery, slot) = self.take_fast(consumer, patient)?;
        Some((delivery, core::ptr::NonNull::from(&slot[crate::layout::SLOT_HEAD / 8..]).cast()))
    }

    /// Takes several messages at once, up to `most`, if they are of the common case. None otherwise.
    pub fn try_pop_run(&self, consumer: &Consumer, most: usize, patient: bool) -> Option<Run> {
        self.take_run(consumer, most, patient)
    }

    /// Ends the delivery of a run. Notify [`Self::room`].
    pub fn release_run(&self, consumer: &Consumer, run: &Run) {
        self.release_slots(consumer, run);
    }

    /// Takes the next message; it stays in its place until [`Self::release`] or [`Self::detach`].
    ///
    /// # Errors
    /// If there is none, or the region is corrupt.
    pub fn try_pop(&self, consumer: &Consumer) -> Result<Delivery, PopError> {
        self.take_slot(consumer)
    }

    /// Ends a delivery that [is plain](Delivery::is_plain), if that is the common case: the next one, on a side that was exclusive
    /// to this consumer. False otherwise, with nothing done. See [`Event::is_announced_of_exclusive`] of [`Self::room`].
    #[inline(always)]
    pub fn release_fast(&self, consumer: &Consumer, position: u64) -> bool {
        self.release_next(consumer, position, 1)
    }

    /// Ends a delivery that [is plain](Delivery::is_plain). Notify [`Self::room`].
    pub fn release_plain(&self, consumer: &Consumer, position: u64) {
        self.release_slot(consumer, position);
    }

    /// Ends a delivery: the message is consumed, its place is free. Notify [`Self::room`].
    pub fn release(&self, consumer: &Consumer, delivery: &Delivery) {
        self.put_down(consumer, delivery.meta);
        match self.block_of(delivery) {
            None => self.release_slot(consumer, delivery.position),
            Some(block) => self.release_block(consumer, delivery.position, block),
        }
    }

    /// The order makes each kill harmless: before the take-over the message goes back; after it, it is consumed.
    #[inline(never)]
    fn release_block(&self, consumer: &Consumer, position: u64, mut block: Block) {
        let mine = self.take_over_block(&mut block, consumer.me);
        self.release_slot(consumer, position);
        if mine {
            self.free_block(&block);
        }
        consumer.still_had_blocks(); // after, or it would be looked for too soon
    }

    /// On a link that drops the oldest, a slow receiver must not hold up the ring: it leaves the slot and keeps the
    /// block. An inline message must have been copied out before. Notify [`Self::room`].
    pub fn detach(&self, consumer: &Consumer, delivery: &mut Delivery) {
        self.count(consumer.me, LOSSES, 1); // in hand: lost, and counted, if this process dies now
        if let Some(mut block) = self.block_of(delivery) {
            self.take_over_block(&mut block, consumer.me);
            delivery.block_word = block.word;
        }
        self.free_slot(delivery.position);
        delivery.meta.0 |= Meta::DETACHED;
    }

    /// Ends a detached delivery. Notify [`Self::room`].
    pub fn release_detached(&self, consumer: &Consumer, delivery: &Delivery) {
        self.put_down(consumer, delivery.meta);
        self.count(consumer.me, LOSSES, 1u64.wrapping_neg());
        if let Some(block) = self.block_of(delivery) {
            self.free_block(&block);
        }
    }

    fn block_of(&self, delivery: &Delivery) -> Option<Block> {
        if delivery.is_inline() {
            return None;
        }
        Some(self.block_at(delivery.meta.class()?, delivery.offset, delivery.block_word))
    }

    /// Finishes a drop: the slot is `me`'s, its message is counted as dropped.
    pub(crate) fn discard(&self, me: Participant, position: u64) {
        let slot = self.slot(position);
        match self.block_in_slot(slot, self.meta_in(slot)) {
            Ok(Some(mut block)) => {
                let mine = self.take_over_block(&mut block, me);
                self.free_slot(position);
                if mine {
                    self.free_block(&block);
                }
            }
            _ => self.free_slot(position),
        }
    }
}
