//! Where each byte of a link lies: arithmetic on the numbers that its creator chose, and nothing else.
//! `docs/format.md` draws the same tables. No shared memory is touched here.
//!
//! ```text
//! 0        header                     one page, see `header`
//! 4096     participants               256 B each
//! ..       ring                       32 to 128 B a slot, by the largest message
//! ..       block records              16 B a block, class after class
//! ..       areas of blocks            class after class, each from a page boundary; sparse until committed
//! ..       bytes                      of a stream: its ring, from a multiple of 64 KiB; everybody maps it twice, back to back
//! ```
//! Where the link carries the [newest value](Shape::Latest) only, the heads of its cells lie in the place of the ring, 128 B each, there are
//! no blocks, and in the place of their areas lie the values that do not fit in a head.
//! A stream has one slot, which nobody uses: so whatever a peer writes into the words of its queue, nothing leaves the region.
//! Of an unbounded link the ring and the records are sparse too: only the first extent of the ring is there from the start.
//!
//! [I1] Every offset that this crate uses is derived from a [`Geometry`] that passed [`Layout::new`], never from a
//! value that a peer can change afterwards.

use crate::pace::AHEAD;
use core::fmt;

/// Bytes that are kept apart so that two sides do not write to neighbouring cache lines: a constant of the format.
pub const LINE: usize = 128;
/// Alignment of the parts of a link, in bytes: a constant of the format, whatever the machine's page size.
pub const PAGE: usize = 4096;
/// Bytes of a slot at most, message included when it is small.
pub const SLOT_BYTES: usize = 128;
/// A slot is as long as its head and the largest message need, in steps of this many bytes: where all messages are small,
/// they lie close, and fewer lines travel.
const SLOT_STEP: usize = 16;
/// Bytes of a slot before its message.
pub(crate) const SLOT_HEAD: usize = 16;
/// Largest message that lies in its slot, in bytes.
pub const INLINE_MAX: usize = SLOT_BYTES - SLOT_HEAD;
/// Bytes of the smallest block.
pub const BLOCK_MIN: usize = 256;
/// Size classes at most: 256 B to 1 GiB by powers of two.
pub const CLASSES_MAX: usize = 23;
/// Largest message that any link may be made for, in bytes.
pub const MESSAGE_MAX: u64 = 1 << 30;
/// Bytes of a participant's entry.
pub const ENTRY_BYTES: usize = 256;
/// Bytes of a block's record.
pub(crate) const RECORD_BYTES: usize = 16;
/// Bytes of the header.
pub const CONTROL_BYTES: usize = PAGE;
/// Most participants of a link.
pub const PARTICIPANTS_MAX: u32 = 0xFFFE;
/// Largest value that lies in the head of its cell, in bytes; see `latest`.
pub(crate) const VALUE_INLINE: usize = LINE - SLOT_HEAD - 8;
/// Cells of a link that carries the newest value: at least so many that readers may pin one while two writers are at work.
const CELLS_MIN: u64 = 4;
/// And at most.
const CELLS_MAX: u64 = 64;
/// Pins at most: the words of a line.
const PINS_MAX: u64 = (LINE / 8) as u64;
/// Slots of a link at most.
pub const CAPACITY_MAX: u64 = 1 << 26;
/// Messages that are announced together at most.
pub(crate) const BATCH_MAX: u64 = 64;
/// Bytes of block memory at most.
const MEMORY_MAX: u64 = 1 << 40;
/// Bytes of a stream's ring at most.
const STREAM_MAX: u64 = 1 << 30;
/// Bytes of a stream's ring at least: it is mapped twice, so it is made of pages. (A model has no pages, and few bytes.)
const STREAM_MIN: u64 = if cfg!(loom) { 2 } else { PAGE as u64 };
/// The ring of a stream begins at a multiple of this many bytes: the largest page of any machine, as it is mapped for itself.
const STREAM_ALIGN: usize = 64 * 1024;
/// Memory of a class is committed in steps of at least this many bytes.
const EXTENT_MIN: usize = 64 * 1024;
/// Extents of an unbounded link are not larger, unless a single block is, in bytes: what a sender commits in one step.
const EXTENT_MAX: u64 = 1 << 20;
/// Extents of an unbounded link are this part of its ceiling, if they are not larger then.
const EXTENTS_WANTED: u64 = 64;

/// Byte of the link's file whose lock is the liveness token of participant 0; the others follow.
pub const TOKEN_BASE: u64 = 1 << 62;
/// Byte of the link's file that the living participant 0 locks beside its token, and its recoverer does not; the others follow.
pub const ALIVE_BASE: u64 = TOKEN_BASE + (1 << 16);
/// Byte of the link's file that is locked while block memory is committed or given back.
pub const GROW_BYTE: u64 = TOKEN_BASE - 1;
/// Byte of the link's file that is locked while its name is removed.
pub const REMOVE_BYTE: u64 = TOKEN_BASE - 2;
/// Byte of the link's file that is read, with `pread(2)`, to wake those who listen: its value means nothing. It lies in a line that whoever wakes has just changed.
pub const BELL_BYTE: u64 = crate::header::ITEMS as u64;

/// What a sender does when the link is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Full {
    /// Waits for room.
    #[default]
    Block,
    /// Returns an error at once.
    Reject,
    /// Removes the oldest message, and counts it.
    DropOldest,
    /// The same, of a broadcast; and who has not received it is told by an error.
    CutOff,
}

/// What kind of conversation a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Shape {
    /// Each message goes to one receiver.
    #[default]
    Queue,
    /// Each message goes to every receiver.
    Broadcast,
    /// The newest message, for whoever looks.
    Latest,
    /// Bytes without messages, from one writer to one reader.
    Stream,
    /// Requests, which servers share.
    Request,
    /// What comes back to one client.
    Response,
    /// Letters to one name.
    Mailbox,
    /// Who wants a stream, for the one who accepts.
    Listener,
}

impl Shape {
    /// Every shape, in the order of their codes in a header.
    pub const ALL: [Self; 8] = [
        Self::Queue,
        Self::Broadcast,
        Self::Latest,
        Self::Stream,
        Self::Request,
        Self::Response,
        Self::Mailbox,
        Self::Listener,
    ];

    /// As it is written in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Broadcast => "broadcast",
            Self::Latest => "latest",
            Self::Stream => "stream",
            Self::Request => "request",
            Self::Response => "response",
            Self::Mailbox => "mailbox",
            Self::Listener => "listener",
        }
    }
}

/// What the creator of a link chooses. It is stored in the header and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// What kind of conversation it carries.
    pub shape: Shape,
    /// Messages that the link holds at most: a power of two. Of a stream, bytes, at least a page.
    pub capacity: u64,
    /// Largest message, in bytes.
    pub max: u64,
    /// Ceiling of block memory, in bytes.
    pub memory: u64,
    /// Handles that may be open at once.
    pub participants: u32,
    /// What a sender does when the link is full.
    pub full: Full,
    /// Senders that may be open at once; 0 is any number.
    pub senders: u32,
    /// Receivers that may be open at once; 0 is any number.
    pub receivers: u32,
    /// Slots that are committed, and given back, together: a power of two, on an unbounded link. 0 on a bounded one, all of whose slots are
    /// committed when it is made. With it `memory` is the ceiling of slots and blocks together.
    pub extent: u32,
}

impl Default for Geometry {
    fn default() -> Self {
        Self {
            shape: Shape::Queue,
            capacity: 1024,
            max: 16 << 20,
            memory: 64 << 20,
            participants: 128,
            full: Full::Block,
            senders: 0,
            receivers: 0,
            extent: 0,
        }
    }
}

/// A number that no link can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeometryError {
    /// The option, as it is written in an address.
    pub option: &'static str,
    /// Its value.
    pub value: u64,
    /// The rule that it breaks.
    pub rule: Rule,
}

/// What a number of a [`Geometry`] must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// Between these two, both included.
    Between(u64, u64),
    /// A power of two; these are the nearest below and above.
    PowerOfTwo(u64, u64),
    /// Left out: it means nothing to a link of this shape.
    NotWith(Shape),
    /// For a link whose shape is [`Shape::Broadcast`].
    OfBroadcast,
    /// Nothing but the default: the link is unbounded.
    NotUnbounded,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: ", self.option, self.value)?;
        match self.rule {
            Rule::Between(least, most) => write!(f, "must lie between {least} and {most}"),
            Rule::PowerOfTwo(below, above) => write!(f, "must be a power of two: take {below} or {above}"),
            Rule::NotWith(shape) => write!(f, "means nothing with shape={}", shape.name()),
            Rule::OfBroadcast => f.write_str("cut-off is for shape=broadcast, where others go on"),
            Rule::NotUnbounded => write!(f, "means nothing where a link is unbounded"),
        }
    }
}

impl core::error::Error for GeometryError {}

impl Geometry {
    fn check(&self) -> Result<(), GeometryError> {
        let latest = self.shape == Shape::Latest;
        let (least, most) = match self.shape {
            Shape::Stream => (STREAM_MIN, STREAM_MAX),
            Shape::Latest => (CELLS_MIN, CELLS_MAX),
            _ => (1, CAPACITY_MAX),
        };
        between("capacity", self.capacity, least, most)?;
        power_of_two("capacity", self.capacity)?;
        between("max", self.max, 1, MESSAGE_MAX)?;
        if latest && self.full != Full::Block {
            let rule = Rule::NotWith(self.shape);
            return Err(GeometryError { option: "full", value: self.full as u64, rule });
        }
        if self.full == Full::CutOff && self.shape != Shape::Broadcast {
            return Err(GeometryError { option: "full", value: self.full as u64, rule: Rule::OfBroadcast });
        }
        if self.extent != 0 {
            let extent = u64::from(self.extent);
            between("extent", extent, 1, self.capacity / 2)?;
            power_of_two("extent", extent)?;
            if self.full != Full::Block {
                return Err(GeometryError { option: "full", value: self.full as u64, rule: Rule::NotUnbounded });
            }
            if matches!(self.shape, Shape::Broadcast | Shape::Latest | Shape::Stream | Shape::Listener) {
                return Err(GeometryError { option: "shape", value: self.shape as u64, rule: Rule::NotUnbounded });
            }
        }
        between("memory", self.memory, self.memory_min(), MEMORY_MAX)?;
        between("participants", u64::from(self.participants), 2, u64::from(PARTICIPANTS_MAX))?;
        between("senders", u64::from(self.senders), 0, u64::from(self.participants))?;
        between("receivers", u64::from(self.receivers), 0, u64::from(self.participants))
    }

    /// Messages that have a place: those of a queue.
    fn slots(&self) -> u64 {
        if self.shape == Shape::Stream { 1 } else { self.capacity }
    }

    /// Least memory with which the largest message can be sent. Of the newest value: what all of its cells may take.
    pub fn memory_min(&self) -> u64 {
        if self.shape == Shape::Latest {
            return self.value_bytes().saturating_mul(self.capacity);
        }
        let ring = 2 * u64::from(self.extent) * slot_bytes(self.max) as u64;
        if self.max <= INLINE_MAX as u64 {
            ring
        } else {
            let blocks = self.max.checked_next_power_of_two().unwrap_or(u64::MAX).max(EXTENT_MIN as u64);
            blocks.saturating_add(ring)
        }
    }

    /// The same for an unbounded link, whose slots and blocks grow up to a ceiling of `memory` bytes together.
    #[must_use]
    pub fn unbounded(mut self, memory: u64) -> Self {
        let slot = slot_bytes(self.max.min(MESSAGE_MAX)) as u64;
        // Whole pages, or none could be given back.
        let least = PAGE as u64 >> slot.trailing_zeros().min(PAGE.trailing_zeros());
        let wanted = (memory / EXTENTS_WANTED).clamp(PAGE as u64, EXTENT_MAX) / slot;
        let extent = (wanted + 1).next_power_of_two() / 2;
        self.extent = extent.max(least) as u32;
        let slots = (memory / slot).clamp(1, CAPACITY_MAX).next_power_of_two();
        self.capacity = slots.clamp(4 * u64::from(self.extent), CAPACITY_MAX);
        self.memory = memory;
        self
    }

    /// Whether it is an unbounded link's.
    pub fn is_unbounded(&self) -> bool {
        self.extent != 0
    }

    /// Least bytes of blocks that are committed together.
    fn block_extent(&self) -> usize {
        if self.extent == 0 {
            return EXTENT_MIN;
        }
        let wanted = (self.memory / EXTENTS_WANTED).clamp(EXTENT_MIN as u64, EXTENT_MAX) as usize;
        (wanted + 1).next_power_of_two() / 2
    }

    /// Bytes that a cell may take besides its head: whole pages, and none where each value fits in the head.
    fn value_bytes(&self) -> u64 {
        if self.max <= VALUE_INLINE as u64 {
            0
        } else {
            self.max.saturating_add(PAGE as u64 - 1) / PAGE as u64 * PAGE as u64
        }
    }
}

/// Bytes of a slot, by the largest message.
fn slot_bytes(max: u64) -> usize {
    SLOT_HEAD + (max.min(INLINE_MAX as u64) as usize).next_multiple_of(SLOT_STEP)
}

fn power_of_two(option: &'static str, value: u64) -> Result<(), GeometryError> {
    if value.is_power_of_two() {
        return Ok(());
    }
    let above = value.next_power_of_two();
    Err(GeometryError { option, value, rule: Rule::PowerOfTwo(above / 2, above) })
}

fn between(option: &'static str, value: u64, least: u64, most: u64) -> Result<(), GeometryError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(GeometryError { option, value, rule: Rule::Between(least, most) })
}

/// One size class of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// Bytes of a block.
    pub(crate) block_bytes: usize,
    pub(crate) blocks: u32,
    /// Blocks that are committed and given back together.
    pub(crate) extent_blocks: u32,
    /// Offset of the first record.
    pub(crate) records: usize,
    /// Offset of the first block.
    pub(crate) area: usize,
}

/// The offsets of a link with a given geometry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    geometry: Geometry,
    index_mask: u64,
    lap_shift: u32,
    batch_mask: u64,
    /// All ones on a bounded link: its ring is one extent that has no border.
    extent_mask: u64,
    inline_max: usize,
    slot_bytes: usize,
    ring: usize,
    classes: [Class; CLASSES_MAX],
    classes_len: usize,
    /// Bytes of each value's area, which lie one after the other from the end of the control bytes.
    value_bytes: usize,
    control_bytes: usize,
    total_bytes: usize,
    /// Offset of a stream's ring of bytes, and its length; 0 of any other shape.
    stream: usize,
    stream_bytes: usize,
}

impl Layout {
    /// Computes the layout of a link.
    ///
    /// # Errors
    /// If a number of `geometry` is out of range.
    pub fn new(geometry: Geometry) -> Result<Self, GeometryError> {
        geometry.check()?;
        let ring = (CONTROL_BYTES + geometry.participants as usize * ENTRY_BYTES).next_multiple_of(PAGE);
        let inline_max = INLINE_MAX.min(geometry.max as usize);
        let latest = geometry.shape == Shape::Latest;
        let slot_bytes = if latest { LINE } else { slot_bytes(geometry.max) };
        // A line more than the slots take: every slot can be looked at as a whole line.
        let slots = geometry.slots();
        let records = (ring + slots as usize * slot_bytes).next_multiple_of(LINE) + LINE;
        let mut layout = Self {
            geometry,
            index_mask: slots - 1,
            lap_shift: slots.trailing_zeros(),
            batch_mask: !((slots / 8).clamp(1, BATCH_MAX) - 1),
            extent_mask: u64::from(geometry.extent).wrapping_sub(1),
            inline_max,
            slot_bytes,
            ring,
            classes: [Class::default(); CLASSES_MAX],
            classes_len: 0,
            value_bytes: 0,
            control_bytes: 0,
            total_bytes: 0,
            stream: 0,
            stream_bytes: 0,
        };
        match geometry.shape {
            Shape::Latest => layout.place_values(records),
            _ => layout.place_classes(records),
        }
        if geometry.shape == Shape::Stream {
            layout.place_stream();
        }
        Ok(layout)
    }

    fn place_values(&mut self, end: usize) {
        self.control_bytes = end.next_multiple_of(PAGE);
        self.value_bytes = self.geometry.value_bytes() as usize;
        self.total_bytes = self.control_bytes + self.value_bytes * self.geometry.capacity as usize;
    }

    fn place_stream(&mut self) {
        self.stream = self.total_bytes.next_multiple_of(STREAM_ALIGN);
        self.stream_bytes = self.geometry.capacity as usize;
        self.total_bytes = self.stream + self.stream_bytes;
    }

    fn place_classes(&mut self, records: usize) {
        let mut at = records;
        while (self.classes_len == 0 && self.geometry.max > INLINE_MAX as u64)
            || (self.classes_len > 0 && (self.largest_block() as u64) < self.geometry.max)
        {
            let class = Class::new(BLOCK_MIN << self.classes_len, &self.geometry, at);
            at += class.blocks as usize * RECORD_BYTES;
            self.classes[self.classes_len] = class;
            self.classes_len += 1;
        }
        let mut area = at.next_multiple_of(PAGE);
        self.control_bytes = match self.geometry.extent as usize {
            0 => area,
            slots => (self.ring + slots * self.slot_bytes).next_multiple_of(PAGE),
        };
        for class in &mut self.classes[..self.classes_len] {
            class.area = area;
            area += (class.block_bytes * class.blocks as usize).next_multiple_of(PAGE);
        }
        self.total_bytes = area;
    }

    fn largest_block(&self) -> usize {
        self.classes[..self.classes_len].last().map_or(0, |class| class.block_bytes)
    }

    /// The numbers that this layout was made from.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes from the start of the file that are committed when the link is made. Of an unbounded one the first extent of the ring is among
    /// them, of a bounded one the whole ring and all records.
    pub fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Bytes of the whole file, block areas included.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Bytes of the whole address range: the file, and the ring of a stream once more.
    pub fn mapped_bytes(&self) -> usize {
        self.total_bytes + self.stream_bytes
    }

    /// Of a stream: where its ring of bytes begins, up to the end of the file. It is committed when the link is made, and mapped twice.
    pub fn stream_ring(&self) -> Option<usize> {
        (self.stream_bytes > 0).then_some(self.stream)
    }

    /// Bytes of a stream's ring; 0 of any other shape.
    #[inline(always)]
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.stream_bytes as u64
    }

    /// Offset of a byte of a stream; as many bytes as the ring has lie behind it.
    #[inline(always)]
    pub(crate) fn stream_byte(&self, position: u64) -> usize {
        self.stream + (position & (self.stream_bytes as u64).wrapping_sub(1)) as usize
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> u64 {
        self.index_mask + 1
    }

    /// Whether every receiver gets every message.
    #[inline(always)]
    pub fn is_broadcast(&self) -> bool {
        self.geometry.shape == Shape::Broadcast
    }

    /// Messages of a batch: see [`Self::ends_batch`].
    pub(crate) fn batch(&self) -> u64 {
        !self.batch_mask + 1
    }

    /// Largest message of this link that lies in its slot.
    #[inline(always)]
    pub(crate) fn inline_max(&self) -> usize {
        self.inline_max
    }

    /// The lap of a position.
    #[inline(always)]
    pub(crate) fn lap(&self, position: u64) -> u64 {
        position >> self.lap_shift
    }

    /// Whether a batch ends above `from` and not above `to`: that is what is announced (see `pace`). A batch is 64 messages, or an eighth
    /// of a small ring.
    #[inline(always)]
    pub(crate) fn ends_batch(&self, from: u64, to: u64) -> bool {
        (from ^ to) & self.batch_mask != 0
    }

    /// Whether the ring is committed and given back by extents.
    #[inline(always)]
    pub(crate) fn is_unbounded(&self) -> bool {
        self.geometry.extent != 0
    }

    /// Whether an extent of an unbounded link's ring ends above `from` and not above `to`.
    #[inline(always)]
    pub(crate) fn ends_extent(&self, from: u64, to: u64) -> bool {
        (from ^ to) & !self.extent_mask != 0
    }

    /// Slots of an extent; 0 on a bounded link.
    pub(crate) fn extent(&self) -> u64 {
        u64::from(self.geometry.extent)
    }

    /// Bytes of so many slots.
    pub(crate) fn slots_bytes(&self, slots: u64) -> u64 {
        slots.saturating_mul(self.slot_bytes as u64)
    }

    /// The slot's index of a position.
    pub(crate) fn index(&self, position: u64) -> u64 {
        position & self.index_mask
    }

    /// The position of a slot's index in a lap.
    pub(crate) fn position(&self, lap: u64, index: u64) -> u64 {
        lap << self.lap_shift | index
    }

    /// Offset of the slot of a position; an index is a position too.
    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> usize {
        self.ring + (position & self.index_mask) as usize * self.slot_bytes
    }

    /// How far behind a slot the one lies that is [`AHEAD`] positions later, but for the end of the ring.
    #[inline(always)]
    pub(crate) fn bytes_ahead(&self) -> usize {
        AHEAD as usize * self.slot_bytes
    }

    /// Whether it carries the newest value only: then it has cells in the place of slots.
    #[inline(always)]
    pub(crate) fn is_latest(&self) -> bool {
        matches!(self.geometry.shape, Shape::Latest)
    }

    /// Offset of a cell's head, which [`Self::slot`] says too.
    #[inline(always)]
    pub(crate) fn cell(&self, cell: u64) -> usize {
        self.ring + (cell & self.index_mask) as usize * LINE
    }

    /// Offset and bytes of a cell's area.
    #[inline(always)]
    pub(crate) fn value_area(&self, cell: u64) -> (usize, usize) {
        (self.control_bytes + (cell & self.index_mask) as usize * self.value_bytes, self.value_bytes)
    }

    /// How many cells may be pinned: as many are left as there may be pins, with the newest, and two more.
    #[inline(always)]
    pub(crate) fn pins(&self) -> usize {
        (self.capacity() / 2 - 1).min(PINS_MAX) as usize
    }

    /// Offset of a participant's entry.
    #[inline(always)]
    pub(crate) fn entry(&self, number: u32) -> usize {
        debug_assert!(number < self.geometry.participants);
        CONTROL_BYTES + number as usize * ENTRY_BYTES
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes[..self.classes_len]
    }

    /// The class whose blocks hold `len` bytes, where `len` is above [`INLINE_MAX`] and at most the link's largest.
    #[inline(always)]
    pub(crate) fn class_of(&self, len: usize) -> u8 {
        len.div_ceil(BLOCK_MIN).next_power_of_two().trailing_zeros() as u8
    }
}

impl Class {
    fn new(block_bytes: usize, geometry: &Geometry, records: usize) -> Self {
        let wanted = (geometry.memory / block_bytes as u64).min(2 * geometry.capacity).max(1) as usize;
        let extent_blocks =
            (geometry.block_extent() / block_bytes).clamp(1, wanted.next_multiple_of(PAGE.div_ceil(block_bytes)));
        let blocks = wanted.next_multiple_of(extent_blocks);
        Self { block_bytes, blocks: blocks as u32, extent_blocks: extent_blocks as u32, records, area: 0 }
    }

    /// Offset of a block's record: its word, then the position that it was committed at.
    #[inline(always)]
    pub(crate) fn record(&self, index: u32) -> usize {
        self.records + index as usize * RECORD_BYTES
    }

    /// Offset of a block.
    #[inline(always)]
    pub(crate) fn block(&self, index: u32) -> usize {
        self.area + index as usize * self.block_bytes
    }

    pub(crate) fn extent_bytes(&self) -> usize {
        (self.extent_blocks as usize * self.block_bytes).next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometry() -> impl Strategy<Value = Geometry> {
        (0u32..14, 1u64..1 << 26, 0u64..1 << 28, 2u32..512).prop_map(|(shift, max, more, participants)| {
            let mut geometry = Geometry { capacity: 1 << shift, max, participants, ..Geometry::default() };
            geometry.memory = geometry.memory_min() + more;
            geometry
        })
    }

    proptest! {
        /// [I1] The parts lie one after the other, none overlaps, none leaves the file.
        #[test]
        fn parts_do_not_overlap(geometry in geometry()) {
            let layout = Layout::new(geometry).unwrap();
            let last = geometry.participants - 1;
            prop_assert!(layout.entry(last) + ENTRY_BYTES <= layout.slot(0));
            let ring_end = layout.slot(geometry.capacity - 1) + SLOT_HEAD + layout.inline_max();
            prop_assert!(layout.slot(0) % PAGE == 0 && layout.slot_bytes % 16 == 0);
            let mut records = (layout.slot(geometry.capacity - 1) + layout.slot_bytes).next_multiple_of(LINE) + LINE;
            prop_assert!(ring_end <= records && layout.slot(geometry.capacity - 1) + LINE <= records);
            let mut area = layout.control_bytes();
            for class in layout.classes() {
                prop_assert_eq!(class.records, records);
                records = class.record(class.blocks - 1) + RECORD_BYTES;
                prop_assert_eq!(class.area, area);
                prop_assert_eq!(class.blocks % class.extent_blocks, 0);
                area = (class.block(class.blocks - 1) + class.block_bytes).next_multiple_of(PAGE);
                prop_assert_eq!(class.area % PAGE, 0);
            }
            prop_assert!(records <= layout.control_bytes());
            prop_assert_eq!(area, layout.total_bytes());
        }

        /// Every message that the link allows has a class, and it is the smallest that fits.
        #[test]
        fn each_length_has_its_class(geometry in geometry(), part in 0.0f64..=1.0) {
            let layout = Layout::new(geometry).unwrap();
            let len = (geometry.max as f64 * part) as usize;
            prop_assume!(len > INLINE_MAX);
            let class = usize::from(layout.class_of(len));
            prop_assert!(layout.classes()[class].block_bytes >= len);
            prop_assert!(class == 0 || layout.classes()[class - 1].block_bytes < len);
        }
    }

    #[test]
    fn bad_numbers_name_their_rule() {
        let with = |f: fn(&mut Geometry)| {
            let mut geometry = Geometry::default();
            f(&mut geometry);
            std::string::ToString::to_string(&Layout::new(geometry).unwrap_err())
        };
        assert_eq!(with(|g| g.capacity = 0), "capacity=0: must lie between 1 and 67108864");
        assert_eq!(with(|g| g.capacity = 1000), "capacity=1000: must be a power of two: take 512 or 1024");
        assert!(with(|g| g.capacity = 1 << 63).contains("between"));
        assert!(with(|g| g.max = 0).starts_with("max=0"));
        assert!(with(|g| g.memory = 1).starts_with("memory=1"));
        assert!(with(|g| g.participants = 1).starts_with("participants=1"));
    }

    fn latest() -> impl Strategy<Value = Geometry> {
        (2u32..7, 1u64..1 << 26, 2u32..512).prop_map(|(shift, max, participants)| {
            let shape = Shape::Latest;
            let mut geometry = Geometry { shape, capacity: 1 << shift, max, participants, ..Geometry::default() };
            geometry.memory = geometry.memory_min();
            geometry
        })
    }

    proptest! {
        /// [I1] Heads and areas of cells neither overlap nor leave the file, each area holds the largest value, and there are never pins enough
        /// to take every cell but the newest.
        #[test]
        fn cells_do_not_overlap(geometry in latest()) {
            let layout = Layout::new(geometry).unwrap();
            let cells = geometry.capacity;
            prop_assert!(layout.entry(geometry.participants - 1) + ENTRY_BYTES <= layout.slot(0));
            prop_assert!((1..cells).all(|cell| layout.slot(cell) == layout.slot(cell - 1) + LINE));
            prop_assert!(layout.slot(cells - 1) + LINE <= layout.control_bytes());
            let (first, bytes) = layout.value_area(0);
            prop_assert!(first == layout.control_bytes() && first % PAGE == 0 && bytes % PAGE == 0);
            prop_assert!(bytes as u64 >= geometry.max || geometry.max <= VALUE_INLINE as u64);
            prop_assert!((1..cells).all(|cell| layout.value_area(cell).0 == layout.value_area(cell - 1).0 + bytes));
            prop_assert_eq!(layout.value_area(cells - 1).0 + bytes, layout.total_bytes());
            prop_assert!(layout.pins() >= 1 && layout.pins() as u64 + 3 <= cells);
        }
    }

    #[test]
    fn what_means_nothing_to_the_newest_value_is_refused() {
        let shape = Shape::Latest;
        let of = |capacity, full, memory| {
            let geometry = Geometry { shape, capacity, full, memory, ..Geometry::default() };
            std::string::ToString::to_string(&Layout::new(geometry).unwrap_err())
        };
        assert!(of(2, Full::Block, 1 << 30).contains("between 4 and 64"));
        assert!(of(128, Full::Block, 1 << 40).contains("between 4 and 64"));
        assert!(of(8, Full::Reject, 1 << 30).contains("means nothing with shape=latest"));
        assert!(of(8, Full::Block, 1 << 20).starts_with("memory="));
    }

    #[test]
    fn the_ring_of_a_stream_is_made_of_pages() {
        for capacity in [1 << 12, 1 << 16, 1 << 30] {
            let layout = Layout::new(Geometry { shape: Shape::Stream, capacity, ..Geometry::default() }).unwrap();
            let ring = layout.stream_ring().unwrap();
            assert!(ring % STREAM_ALIGN == 0 && ring >= layout.control_bytes());
            assert_eq!(layout.total_bytes(), ring + capacity as usize);
            assert_eq!(layout.mapped_bytes(), layout.total_bytes() + capacity as usize);
            for position in [0, 1, capacity - 1, capacity, u64::MAX] {
                assert!(layout.stream_byte(position) + capacity as usize <= layout.mapped_bytes(), "{position}");
            }
            assert_eq!((layout.capacity(), layout.slot(u64::MAX) + LINE <= layout.control_bytes()), (1, true));
        }
        for (capacity, says) in [(2048, "between 4096"), (4097, "power of two"), (1 << 31, "between")] {
            let error = Layout::new(Geometry { shape: Shape::Stream, capacity, ..Geometry::default() }).unwrap_err();
            assert!(std::string::ToString::to_string(&error).contains(says), "{error}");
        }
    }

    #[test]
    fn a_batch_is_an_eighth_of_the_ring_or_64() {
        for (capacity, batch) in [(1, 1), (8, 1), (64, 8), (512, 64), (4096, 64)] {
            let layout = Layout::new(Geometry { capacity, ..Geometry::default() }).unwrap();
            assert_eq!(layout.batch(), batch);
            assert!(layout.ends_batch(batch - 1, batch) && !layout.ends_batch(batch, 2 * batch - 1));
        }
    }

    #[test]
    fn small_messages_need_no_blocks() {
        let layout = Layout::new(Geometry { max: 100, memory: 0, ..Geometry::default() }).unwrap();
        assert_eq!((layout.classes().len(), layout.total_bytes()), (0, layout.control_bytes()));
    }
}
