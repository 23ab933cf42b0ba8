//! Blocks for messages that do not fit in a slot. Each size class, a power of two from 256 B, has an area of its own in the
//! address range, and a table with a record for each block. The table is the whole truth: there is no free list that
//! a kill could break, and what a dead participant held is found by a scan.
//!
//! ```text
//! record  0  word: generation 46 bits | state 2 | owner 16
//!         8  position at which the block was committed last
//! ```
//! | state  | memory    | meaning |
//! |--------|-----------|---------|
//! | ABSENT | none      | not committed to the file yet, or given back |
//! | FREE   | committed | anyone may take it |
//! | OWNED  | committed | the owner writes it, or sent it and it lies in the ring: the record says at which position |
//! | TAKEN  | committed | the owner releases the message, or keeps the block after it left the ring |
//!
//! Who releases a message first takes its block over: from then on the message counts as consumed. The two states differ
//! because a number can be used again: a block that lies in the ring may name a sender that left long ago, and the
//! receiver that has its number now did not take it.
//! Memory comes and goes by *extents*, runs of blocks, under the link's grow lock. The blocks of an extent become FREE from its last to its first,
//! and ABSENT from its first to its last: so the first alone tells whether all are there, also after a kill between.
//!
//! On an unbounded link the records come by extents too, and a word for each class says how many are there. They stay: a generation must not
//! begin anew [I2]. Its senders look for blocks behind the last that they took, where there are free ones as long as the queue grows.
//!
//! [I1] A block is referred to by at most one slot, and only while it is OWNED.
//! [I2] The generation grows each time a block is taken, so a word that was seen before never comes back.
//! [I3] An ABSENT block is never read or written; an extent is committed before its first block is FREE.
//! [I4] The ABSENT blocks of an extent are its first ones.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S13] | record becomes FREE, in `free_block` | CAS to OWNED, in `take_block` | that the last reader is done |
//! | [S14] | record becomes FREE, in `extent_ready` | CAS to OWNED, in `take_block` | that memory is committed |
//! | [S15] | record becomes TAKEN, in `take_over_block` | record load, by a peer or a recoverer | that the message is consumed |

use crate::engine::{Corrupt, Engine, PushError};
use crate::header::RECORDS;
use crate::layout::{Class, PAGE};
use crate::memory::Line;
use crate::participants::Participant;
use crate::producer::Producer;
use crate::sync::{AcqRel, Acquire, Relaxed, Release, spin};

const STATE_SHIFT: u32 = 16;
const GENERATION_SHIFT: u32 = 18;
const ABSENT: u64 = 0;
const FREE: u64 = 1;
const OWNED: u64 = 2;
const TAKEN: u64 = 3;
const COMMITTED_AT: usize = 8;
/// Bytes of blocks that stay in a core's cache.
const WARM_BYTES: usize = 512 * 1024;
/// Looks at a warm block before another is taken: about the time of one copy of a large message.
const WARM_LOOKS: u32 = 128;

/// A block that the caller holds, or that a slot refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) class: u8,
    pub(crate) index: u32,
    /// The record's word, as its holder knows it.
    pub(crate) word: u64,
}

/// A run of blocks that is to be committed or given back: a range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    class: u8,
    first: u32,
    blocks: u32,
    /// Range of their records, in whole pages.
    records: (u64, u64),
}

impl Extent {
    /// Its class and its first block.
    pub(crate) fn name(&self) -> (u8, u32) {
        (self.class, self.first)
    }

    /// Offset and bytes of what else is to be committed before the blocks can be used, if anything: on an unbounded link, their records.
    pub fn records(&self) -> Option<(u64, u64)> {
        (self.records.1 > 0).then_some(self.records)
    }
}

/// Block memory of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Bytes committed to the file.
    pub committed: u64,
    /// Bytes of blocks in use.
    pub used: u64,
    /// Ceiling of the committed bytes.
    pub ceiling: u64,
}

/// The blocks of a class that a sender cycles through: as many as were ever in flight at once, so that they stay in cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    next: u32,
    len: u32,
}

fn word(generation: u64, state: u64, owner: u64) -> u64 {
    generation << GENERATION_SHIFT | state << STATE_SHIFT | owner
}

fn state(word: u64) -> u64 {
    word >> STATE_SHIFT & 3
}

fn generation(word: u64) -> u64 {
    word >> GENERATION_SHIFT
}

fn names(word: u64, participant: Participant) -> bool {
    word & 0xFFFF == participant.owner()
}

impl Engine {
    fn class(&self, class: u8) -> &Class {
        &self.layout().classes()[usize::from(class)]
    }

    /// Records of a class that have memory: all, unless the link is unbounded. A peer's word, bounded.
    fn records_there(&self, class: u8) -> u32 {
        let blocks = self.class(class).blocks;
        if !self.is_unbounded() {
            return blocks;
        }
        // ORDERING [S14]: acquire; that they have.
        let there = self.control(RECORDS + 8 * usize::from(class)).load(Acquire);
        u32::try_from(there).map_or(blocks, |there| there.min(blocks))
    }

    fn class_numbers(&self) -> core::ops::Range<u8> {
        0..self.layout().classes().len() as u8
    }

    /// The first block of each extent that has records.
    fn extents(&self, class: u8) -> impl DoubleEndedIterator<Item = u32> + use<> {
        let blocks = self.class(class).extent_blocks;
        (0..self.records_there(class) / blocks).map(move |extent| extent * blocks)
    }

    /// Takes a block of at least `len` bytes, which is above the inline size.
    pub(crate) fn take_block(&self, producer: &Producer, len: usize) -> Result<Block, PushError> {
        let class = self.layout().class_of(len);
        let window = &producer.windows[usize::from(class)];
        let blocks = self.records_there(class);
        let Window { next, len } = window.get();
        let next = if next < len { next } else { 0 };
        // Where the window fills a cache, a short wait for a block that is warm costs less than a copy into one that is not.
        let patience = if len as usize * self.class(class).block_bytes >= WARM_BYTES { WARM_LOOKS } else { 1 };
        for turn in 0..if len > 0 { patience } else { 0 } {
            if let Some(block) = self.try_take(class, next, producer.me) {
                window.set(Window { next: next + 1, len });
                return Ok(block);
            }
            if turn + 1 < patience {
                spin();
            }
        }
        // The window is too small, or others use its blocks: look at all, from the lowest; where there may be very many, first behind the window.
        let first = if self.is_unbounded() && len < blocks { len } else { 0 };
        for index in (first..blocks).chain(0..first) {
            if let Some(block) = self.try_take(class, index, producer.me) {
                window.set(Window { next: index + 1, len: len.max(index + 1) });
                return Ok(block);
            }
        }
        Err(PushError::NoBlock)
    }

    #[inline(always)]
    fn try_take(&self, class: u8, index: u32, me: Participant) -> Option<Block> {
        let record = self.word(self.class(class).record(index));
        // ORDERING: relaxed; the CAS decides.
        let seen = record.load(Relaxed);
        if state(seen) != FREE {
            return None;
        }
        let taken = word(generation(seen).wrapping_add(1), OWNED, me.owner());
        // ORDERING [S13] [S14]: acquire; its last reader is done, its memory is committed.
        record.compare_exchange(seen, taken, AcqRel, Relaxed).ok()?;
        Some(Block { class, index, word: taken })
    }

    /// Gives a block back. The caller owns it.
    pub(crate) fn free_block(&self, block: &Block) -> bool {
        let record = self.word(self.class(block.class).record(block.index));
        // ORDERING [S13]: release; what the holder did with the block.
        record.compare_exchange(block.word, word(generation(block.word), FREE, 0), Release, Relaxed).is_ok()
    }

    /// Makes a block that a slot refers to the caller's. False if a peer meddled with it.
    pub(crate) fn take_over_block(&self, block: &mut Block, me: Participant) -> bool {
        let mine = word(generation(block.word), TAKEN, me.owner());
        let record = self.word(self.class(block.class).record(block.index));
        // ORDERING [S15]: acquire-release; from here on a death of the caller frees the block.
        let taken = record.compare_exchange(block.word, mine, AcqRel, Relaxed).is_ok();
        block.word = mine;
        taken
    }

    /// Writes down at which position a block is about to be committed, before the slot says so.
    #[inline(always)]
    pub(crate) fn note_committed(&self, block: &Block, position: u64) {
        let record = self.class(block.class).record(block.index);
        // ORDERING: relaxed; read by who recovers the owner, after its death.
        self.word(record + COMMITTED_AT).store(position, Relaxed);
    }

    /// Turns a slot's reference into a block, or finds it impossible.
    pub(crate) fn check_block(&self, class: u8, index: u64, word: u64, len: usize) -> Result<Block, Corrupt> {
        let Some(found) = self.layout().classes().get(usize::from(class)) else {
            return Err(Corrupt::Block);
        };
        if index >= u64::from(self.records_there(class))
            || len > found.block_bytes
            || len as u64 > self.layout().geometry().max
        {
            return Err(Corrupt::Block);
        }
        let index = index as u32;
        // ORDERING [S15]: acquire; the record's owner wrote it before it committed.
        let now = self.word(found.record(index)).load(Acquire);
        if now != word || state(word) != OWNED {
            return Err(Corrupt::Block);
        }
        Ok(Block { class, index, word })
    }

    /// Offset of a block's bytes, and how many there are.
    pub fn block_range(&self, block: &Block) -> (usize, usize) {
        let class = self.class(block.class);
        (class.block(block.index), class.block_bytes)
    }

    /// The block whose bytes begin at `offset`.
    pub(crate) fn block_at(&self, class: u8, offset: usize, word: u64) -> Block {
        let found = self.class(class);
        Block { class, index: ((offset - found.area) / found.block_bytes) as u32, word }
    }

    /// Whether a participant took over the block that a slot refers to: it was killed while it released the message.
    pub(crate) fn took_block_in(&self, slot: &Line, participant: Participant) -> bool {
        self.record_in(slot).is_some_and(|now| state(now) == TAKEN && names(now, participant))
    }

    fn record_in(&self, slot: &Line) -> Option<u64> {
        let number = self.meta_in(slot).class()?;
        let class = self.layout().classes().get(usize::from(number))?;
        let index =
            u32::try_from(self.block_index_in(slot)).ok().filter(|index| *index < self.records_there(number))?;
        // ORDERING [S15]: acquire; what a receiver took over.
        Some(self.word(class.record(index)).load(Acquire))
    }

    /// Frees every block of a dead participant that no slot refers to. The caller holds its token.
    pub(crate) fn free_blocks_of(&self, dead: Participant) {
        for (class, found) in (0u8..).zip(self.layout().classes()) {
            for index in 0..self.records_there(class) {
                // ORDERING [S15]: acquire; what made it the dead one's.
                let now = self.word(found.record(index)).load(Acquire);
                let idle = match state(now) {
                    OWNED => !self.is_in_ring(found, class, index, now),
                    TAKEN => true,
                    _ => false,
                };
                if names(now, dead) && idle {
                    self.free_block(&Block { class, index, word: now });
                }
            }
        }
    }

    /// Whether the slot where this block was committed last still refers to it. If the slot has moved on, a receiver took the
    /// block over first, so the caller's CAS on the record fails.
    fn is_in_ring(&self, found: &Class, class: u8, index: u32, now: u64) -> bool {
        // ORDERING: relaxed; the owner is dead.
        let position = self.word(found.record(index) + COMMITTED_AT).load(Relaxed);
        if self.is_unbounded() && !(self.floor()..self.grown()).contains(&position) {
            return false; // of an earlier use of the block: its slot has no memory
        }
        let slot = self.slot(position);
        let held = self.slot_word(position);
        held.holds_message_of(self.layout().lap(position))
            && self.block_in_slot(slot, self.meta_in(slot)) == Ok(Some(Block { class, index, word: now }))
    }

    // ---- extents; the caller holds the link's grow lock

    /// The next extent to commit for messages of `len` bytes, if the class has one left and the ceiling allows it.
    pub fn extent_to_commit(&self, len: usize) -> Option<Extent> {
        let class = self.layout().class_of(len);
        let found = *self.layout().classes().get(usize::from(class))?;
        let (committed, ceiling) = (self.blocks_committed() + self.ring_bytes(), self.layout().geometry().memory);
        if committed + found.extent_bytes() as u64 > ceiling.max(found.extent_bytes() as u64) {
            return None;
        }
        let there = self.records_there(class) / found.extent_blocks * found.extent_blocks;
        let absent = self.extents(class).find(|first| self.any_absent(&found, *first));
        absent.or((there < found.blocks).then_some(there)).map(|first| self.extent(class, first))
    }

    /// Bytes of blocks that have memory.
    pub(crate) fn blocks_committed(&self) -> u64 {
        let of_class = |class| {
            let found = self.class(class);
            let there = self.extents(class).filter(|first| !self.any_absent(found, *first)).count();
            (there * found.extent_bytes()) as u64
        };
        self.class_numbers().map(of_class).sum()
    }

    /// Whether more bytes of blocks than these have memory. Anybody may ask.
    pub fn more_blocks_than(&self, bytes: u64) -> bool {
        self.blocks_committed() > bytes
    }

    /// The extent that a peer's word names, if there is one.
    pub(crate) fn extent_named(&self, class: u8, first: u32) -> Option<Extent> {
        let found = self.layout().classes().get(usize::from(class))?;
        (first < found.blocks && first % found.extent_blocks == 0).then(|| self.extent(class, first))
    }

    /// Whether there is anything to gain from the grow lock: an extent to commit, or one of another class to release.
    pub fn may_grow(&self, len: usize) -> bool {
        let wanted = self.layout().class_of(len);
        let unused = |class: u8| {
            let found = self.class(class);
            self.extents(class).any(|first| self.is_unused(found, first))
        };
        self.extent_to_commit(len).is_some() || self.class_numbers().any(|class| class != wanted && unused(class))
    }

    /// Whether messages of some length find no block, nor memory for one: until one is given back.
    pub fn any_class_is_used_up(&self) -> bool {
        self.class_numbers().any(|number| {
            let class = self.class(number);
            // ORDERING: relaxed; a hint.
            let free = |index: u32| state(self.word(class.record(index)).load(Relaxed)) == FREE;
            let any_free = self.extents(number).any(|first| (first..first + class.extent_blocks).any(free));
            !any_free && !self.may_grow(class.block_bytes)
        })
    }

    fn is_unused(&self, class: &Class, first: u32) -> bool {
        // ORDERING: relaxed; a hint, or decided by the CAS that follows.
        (first..first + class.extent_blocks).all(|i| state(self.word(class.record(i)).load(Relaxed)) == FREE)
    }

    fn extent(&self, class: u8, first: u32) -> Extent {
        let found = self.class(class);
        let (offset, len) = (found.block(first) as u64, found.extent_bytes() as u64);
        let records = if self.is_unbounded() {
            let (start, end) = (found.record(first) / PAGE * PAGE, found.record(first + found.extent_blocks));
            (start as u64, (end.next_multiple_of(PAGE) - start) as u64)
        } else {
            (0, 0)
        };
        Extent { offset, len, class, first, blocks: found.extent_blocks, records }
    }

    /// Whether any block of an extent is absent [I4].
    fn any_absent(&self, class: &Class, first: u32) -> bool {
        // ORDERING: relaxed; only the holder of the grow lock makes blocks present or absent.
        state(self.word(class.record(first)).load(Relaxed)) == ABSENT
    }

    /// Whether nobody can use any block of an extent. Not so of one whose last growing, or giving back, was cut short by a kill.
    pub fn is_absent(&self, extent: &Extent) -> bool {
        let class = self.class(extent.class);
        if extent.first + extent.blocks > self.records_there(extent.class) {
            return true; // nor is it said that its records have memory
        }
        let absent = |index: u32| {
            // ORDERING: relaxed; only the holder of the grow lock, who asks, changes an absent block.
            state(self.word(class.record(index)).load(Relaxed)) == ABSENT
        };
        (extent.first..extent.first + extent.blocks).all(absent)
    }

    /// Makes the blocks of an extent available, after its memory was committed.
    pub fn extent_ready(&self, extent: &Extent) {
        let class = self.class(extent.class);
        let end = extent.first + extent.blocks;
        if end > self.records_there(extent.class) {
            // ORDERING [S14]: release; their records have memory.
            self.control(RECORDS + 8 * usize::from(extent.class)).store(u64::from(end), Release);
        }
        for index in (extent.first..end).rev() {
            let record = self.word(class.record(index));
            // ORDERING: relaxed; only the holder of the grow lock changes an absent block.
            let seen = record.load(Relaxed);
            if state(seen) == ABSENT {
                // ORDERING [S14]: release; the memory is committed.
                record.store(word(generation(seen), FREE, 0), Release);
            }
        }
        self.crossed_out();
    }

    /// Takes an unused extent of another class out of use, so that its memory can be given back; then call [`Self::crossed_out`].
    pub fn extent_to_release(&self, len: usize) -> Option<Extent> {
        let wanted = self.layout().class_of(len);
        for class in self.class_numbers().filter(|class| *class != wanted) {
            let found = self.class(class);
            for first in self.extents(class).rev() {
                let extent = self.extent(class, first);
                if self.retire(found, &extent) {
                    return Some(extent);
                }
            }
        }
        None
    }

    /// Takes unused extents of all classes out of use, but for the first `spare` bytes of them, and passes each to `give_back`, which punches a hole there. If it says that
    /// it could not, that one stays under way, and it was the last.
    pub fn retire_unused(&self, spare: u64, mut give_back: impl FnMut(&Extent) -> bool) {
        let mut unused = 0;
        for class in self.class_numbers() {
            let found = self.class(class);
            for first in self.extents(class) {
                if !self.is_unused(found, first) {
                    continue;
                }
                unused += found.extent_bytes() as u64;
                let extent = self.extent(class, first);
                if unused > spare && self.retire(found, &extent) {
                    if !give_back(&extent) {
                        return;
                    }
                    self.crossed_out();
                }
            }
        }
    }

    /// If it did, the extent is under way.
    fn retire(&self, class: &Class, extent: &Extent) -> bool {
        let first = extent.first;
        if !self.is_unused(class, first) {
            return false;
        }
        self.extent_under_way(extent);
        for index in first..first + class.extent_blocks {
            let record = self.word(class.record(index));
            // ORDERING: relaxed; the CAS decides.
            let seen = record.load(Relaxed);
            let absent = word(generation(seen), ABSENT, 0);
            // ORDERING [S13]: acquire; its last reader is done.
            if state(seen) != FREE || record.compare_exchange(seen, absent, AcqRel, Relaxed).is_err() {
                for undo in (first..index).rev() {
                    let record = self.word(class.record(undo));
                    // ORDERING [S14]: release; its memory is still there.
                    record.store(word(generation(record.load(Relaxed)), FREE, 0), Release);
                }
                self.crossed_out();
                return false;
            }
        }
        true
    }

    /// Block memory committed and in use.
    pub fn pool_use(&self) -> PoolUse {
        if self.layout().is_latest() {
            return self.value_use();
        }
        let mut pool = PoolUse { ceiling: self.layout().geometry().memory, ..PoolUse::default() };
        for number in self.class_numbers() {
            let class = self.class(number);
            for first in self.extents(number) {
                if !self.any_absent(class, first) {
                    pool.committed += class.extent_bytes() as u64;
                    // ORDERING: relaxed; a figure for people.
                    let used = |i: &u32| state(self.word(class.record(*i)).load(Relaxed)) >= OWNED;
                    let used = (first..first + class.extent_blocks).filter(used).count();
                    pool.used += (used * class.block_bytes) as u64;
                }
            }
        }
        pool
    }
}
