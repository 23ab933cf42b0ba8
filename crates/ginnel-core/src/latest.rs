//! The newest value: what a link carries in the place of a queue when only that matters. Whoever looks gets a whole value of any size,
//! never a torn one, and the newest that there was at some instant of the call. No reader ever holds up a writer.
//!
//! Not a queue of one: a value stays, however often it is read, until a newer one is there. The idea is a seqlock (Lameter, "Effective
//! synchronization on Linux/NUMA systems", 2005; for its orderings Boehm, "Can seqlocks get along with programming language memory models?",
//! MSPC 2012) over several cells in the place of one, so that a value that is being read is the last to be written over; and, for a reader that loses the race
//! nevertheless, hazard pointers (Michael, PODC 2002). Deviations: a claim of a cell names its owner in the same word, and so does a pin, so that a
//! survivor knows what a dead participant held; and there are fewer pins than cells, so that pins alone never leave a writer without one.
//!
//! ```text
//! current   version 56 bits | cell 8        0: there is none yet
//! pins      words: 0 32 | owner 24 | cell 8      0: no pin
//!
//! cell   0  word: generation 46 bits | state 2 (0 idle, 1 being written) | owner 16
//!        8  meta: length 32 bits | 0 16 | tag 16
//!       16  the value, if it has at most 104 bytes; otherwise it lies in the cell's area
//!      120  bytes of the area that are committed, from its start
//!
//!             writer                                             reader
//!   claim a cell: idle(g) -> being written(g + 1, me)     current -> version, cell
//!   write into it                                         word of the cell -> g;   current again: still the same?
//!   current: (v, old) -> (v + 1, cell)                    copy
//!   the cell: idle(g + 1)                                 word of the cell: still g? then what was copied is whole
//! ```
//!
//! [I1] A cell is written only by the owner that its word names, and while it is being written.
//! [I2] The newest value's cell is not claimed: a writer reads a cell's word, then `current`, then claims the cell by a CAS from that word. A cell
//! becomes the newest only by who has claimed it, which changes the generation, so the CAS fails.
//! [I3] A generation is that of one value: it grows with each claim, and is put back only by a claimant that has written nothing.
//! [I4] Versions grow by one with each value, as `current` changes by a CAS alone. Reading `current` is the moment at which a read takes effect.
//! [I5] A pinned cell is not written: who pins it announces that, then reads its word; who claims it changes its word, then reads the pins. One of
//! the two sees the other, and gives way.
//! [I6] A word that names a dead participant is undone in one way, whether the value was published or not: the cell becomes idle with its
//! generation. If it is the newest, [I2] keeps it; if not, it may be claimed.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S20] | `current` CAS, in `publish_value` | `current` load, in `newest` | the value, and its cell's generation |
//! | [S21] | release fence behind the claim, before the value is written | acquire fence behind the copy, before the word is read again | that the copy is torn |
//! | [S22] | word becomes idle, in `publish_value` | word load, in `try_claim` | that `current` had named the cell [I2] |
//! | [S23] | claim CAS, then pins load | pin CAS, then word load | [I5]: store before load on both sides, all four SeqCst |
//! | [S24] | pin store of 0 | pins load, in `try_claim` | that the reader's copy is done |
//! | [S25] | word CAS to being written, in `try_claim` | word load, in `newest` | that `current` has moved on: the second look at it says so |

use crate::engine::{Corrupt, Engine, Meta, PopError, PushError};
use crate::header::{CURRENT, PINS};
use crate::layout::{PAGE, VALUE_INLINE};
use crate::memory::{Line, copy_short_out, in_pairs};
use crate::participants::Participant;
use crate::pool::PoolUse;
use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed, Release, SeqCst, fence, spin};
use core::mem::MaybeUninit;

/// Words of a cell's head.
const WORD: usize = 0;
const META: usize = 1;
const COMMITTED: usize = 15;
/// Offset of a small value in its cell's head.
const VALUE_AT: usize = 16;

const CELL_BITS: u32 = 8;
const CELL_MASK: u64 = (1 << CELL_BITS) - 1;

/// Copies that are tried before a pin.
const COPIES: u32 = if cfg!(loom) { 1 } else { 3 };
/// Looks in all, most of them with a pin: each fails only if writers went once around all cells between two reads of words.
const LOOKS: u32 = 64;
/// Values that others may publish between two tries to publish one's own.
const PUBLISH_TRIES: u32 = 1024;

/// Which value is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Current(u64);

impl Current {
    fn version(self) -> u64 {
        self.0 >> CELL_BITS
    }

    fn cell(self) -> u64 {
        self.0 & CELL_MASK
    }

    /// Which no link has: its version is the one behind the last.
    const NONE: Self = Self(u64::MAX);

    /// The next one; none after 2^56, which no run leads to.
    fn next(self, cell: u64) -> Option<Self> {
        let version = self.version() + 1;
        (version >> (u64::BITS - CELL_BITS) == 0).then_some(Self(version << CELL_BITS | cell))
    }
}

/// The word of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const STATE_SHIFT: u32 = 16;
    const GENERATION_SHIFT: u32 = 18;
    const WRITING: u64 = 1;

    fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT
    }

    fn state(self) -> u64 {
        self.0 >> Self::STATE_SHIFT & 3
    }

    fn is_idle(self) -> bool {
        self.state() == 0
    }

    fn owner(self) -> u64 {
        self.0 & 0xFFFF
    }

    fn claimed_by(self, me: Participant) -> Self {
        let generation = self.generation().wrapping_add(1);
        Self(generation << Self::GENERATION_SHIFT | Self::WRITING << Self::STATE_SHIFT | me.owner())
    }

    fn idle(self) -> Self {
        Self(self.generation() << Self::GENERATION_SHIFT)
    }
}

/// A cell that a writer has claimed.
#[derive(Debug)]
#[must_use = "a cell that is neither published nor given back stays claimed until its owner dies"]
pub struct Cell {
    index: u64,
    /// As its owner knows it.
    word: Word,
}

/// The newest value at one instant, not yet copied. It may be written over at any time: [`Self::copy_to`] tells.
pub struct Look<'a> {
    engine: &'a Engine,
    head: &'a Line,
    current: Current,
    generation: u64,
    meta: Meta,
    /// Nobody writes over it while this is there.
    pinned: bool,
}

/// A value that was copied whole, without its bytes: what there is to know about it, checked. While `current` is the same, the value is, and its cell has
/// the same generation (I3 and I4 of this module); so whoever keeps this reads it again with one look at `current`, and one behind the copy: [`Engine::look_again`].
#[derive(Clone, Copy, Debug)]
pub struct Known {
    current: Current,
    generation: u64,
    meta: Meta,
    /// Offset of its cell's head.
    head: usize,
}

impl Known {
    /// No value. If a peer makes it the newest nevertheless, no copy of it is ever whole: a generation has 46 bits.
    pub const NONE: Self = Self { current: Current::NONE, generation: u64::MAX, meta: Meta(0), head: 0 };

    /// Which value of the link it is, from 1.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.current.version()
    }

    /// Bytes.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty, reason = "a number that is passed on")]
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// What its sender tagged it with.
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        self.meta.tag()
    }
}

#[inline(never)]
fn copy_area(engine: &Engine, cell: u64, to: &mut [MaybeUninit<u8>]) {
    engine.memory().copy_out_racing(engine.layout().value_area(cell).0, to);
}

#[inline(never)]
fn copy_narrow(head: &Line, to: &mut [MaybeUninit<u8>]) {
    let mut wide = [MaybeUninit::uninit(); in_pairs(VALUE_INLINE)];
    copy_short_out(&head[VALUE_AT / 8..], &mut wide, to.len());
    to.copy_from_slice(&wide[..to.len()]);
}

/// A pin, which ends when it is dropped.
struct Pin<'a>(&'a AtomicU64);

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // ORDERING [S24]: release; the reads of the value lie before.
        self.0.store(0, Release);
    }
}

/// Between the store and the load of [S23], on either side. All of them are SeqCst; loom takes that for less than it is, and needs a fence.
#[inline(always)]
fn store_before_load() {
    #[cfg(loom)]
    // ORDERING [S23]: see above.
    fence(SeqCst);
}

impl Look<'_> {
    /// Which value of the link it is, from 1.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.current.version()
    }

    /// What to keep of it, once it was copied whole.
    pub fn known(&self) -> Known {
        let head = self.engine.layout().cell(self.current.cell());
        Known { current: self.current, generation: self.generation, meta: self.meta, head }
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
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        self.meta.tag()
    }

    /// Copies it, and tells whether the copy is whole. The first [`Self::len`] bytes of `to` are written, whatever the answer; with room for 15 more,
    /// which may be written too, a small value is copied in less time.
    ///
    /// # Panics
    /// If `to` has fewer bytes.
    #[inline(always)]
    pub fn copy_to(&self, to: &mut [MaybeUninit<u8>]) -> bool {
        let len = self.len();
        if len > VALUE_INLINE {
            copy_area(self.engine, self.current.cell(), &mut to[..len]);
        } else if in_pairs(len) <= to.len() {
            copy_short_out(&self.head[VALUE_AT / 8..], to, len);
        } else {
            copy_narrow(self.head, &mut to[..len]);
        }
        self.pinned || self.is_untouched()
    }

    /// Whether nobody has claimed its cell so far.
    #[inline(always)]
    fn is_untouched(&self) -> bool {
        // ORDERING [S21]: acquire; if any byte of the copy is of a later value, so is the word.
        fence(Acquire);
        // ORDERING: relaxed, behind the fence.
        Word(self.head[WORD].load(Relaxed)).generation() == self.generation
    }
}

impl Engine {
    /// Offset of a value of `len` bytes, at most the link's largest, in a cell.
    #[inline(always)]
    fn value_at(&self, cell: u64, len: usize) -> usize {
        if len <= VALUE_INLINE { self.layout().slot(cell) + VALUE_AT } else { self.layout().value_area(cell).0 }
    }

    /// Which value is the newest, from 1; 0 if there is none yet.
    #[inline(always)]
    pub fn newest_version(&self) -> u64 {
        // ORDERING [S20]: acquire; whoever sees a version finds its value, or a later one.
        Current(self.control(CURRENT).load(Acquire)).version()
    }

    // ---- reading

    /// Reads the newest value: `copy` is called with one look after another, until it says that it [has a whole copy](Look::copy_to). Returns
    /// version and tag of what it copied last.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is none yet, [`PopError::Busy`] if writers were faster each time, [`PopError::Corrupt`] if the region is.
    #[inline(never)]
    pub fn read_newest(
        &self,
        me: Participant,
        copy: &mut dyn FnMut(&Look<'_>) -> bool,
    ) -> Result<(u64, u16), PopError> {
        for turn in 0..LOOKS {
            let mut look = match self.newest() {
                Ok(look) => look,
                Err(PopError::Busy) => {
                    spin();
                    continue;
                }
                Err(e) => return Err(e),
            };
            let pin = if turn < COPIES { None } else { self.pin_cell(me, &look) };
            look.pinned = pin.is_some();
            // Without a pin, as others have them all, or the cell was claimed already: then the copy would be in vain.
            if (look.pinned || look.is_untouched()) && copy(&look) {
                return Ok((look.version(), look.tag()));
            }
        }
        Err(PopError::Busy)
    }

    /// Counts a value that one has seen for the first time, for people.
    pub fn count_value(&self, me: Participant, len: usize) {
        self.count_message(me, len);
    }

    /// The newest value, if it can be told at once: the common case of [`Self::read_newest`].
    ///
    /// # Errors
    /// As there; [`PopError::Busy`] if another value became the newest meanwhile.
    #[inline(always)]
    pub fn newest(&self) -> Result<Look<'_>, PopError> {
        let word = self.control(CURRENT);
        // ORDERING [S20]: acquire; the value, and the word of its cell.
        let current = Current(word.load(Acquire));
        if current.version() == 0 {
            return Err(PopError::Empty);
        }
        if current.cell() >= self.layout().capacity() {
            return Err(PopError::Corrupt(Corrupt::Newest));
        }
        let head = self.memory().line(self.layout().cell(current.cell()));
        // ORDERING [S25]: acquire; if the cell was claimed for a later value, `current` says so below.
        let generation = Word(head[WORD].load(Acquire)).generation();
        // ORDERING [S25]: relaxed, behind an acquire. Versions do not come back: the generation is that of this one.
        if word.load(Relaxed) != current.0 {
            return Err(PopError::Busy);
        }
        // ORDERING: relaxed, published by [S20]; or of a later value [S21], whose length is as good.
        let meta = Meta(head[META].load(Relaxed)).plain();
        if meta.len() as u64 > self.layout().geometry().max {
            return Err(PopError::Corrupt(Corrupt::Length));
        }
        Ok(Look { engine: self, head, current, generation, meta, pinned: false })
    }

    /// A value that was copied before, if it is the newest still: the common case of [`Self::newest`], as values are read more often than written.
    #[inline(always)]
    pub fn look_again(&self, known: Known) -> Option<Look<'_>> {
        // ORDERING [S20]: acquire, as in `newest`. The word of the cell is not read here: it was, when the value was copied first; and if it has changed
        // since, the read behind the copy says so [S21].
        let current = Current(self.control(CURRENT).load(Acquire));
        let Known { generation, meta, head, .. } = known;
        (current == known.current).then(|| {
            let head = self.memory().line(head);
            Look { engine: self, head, current, generation, meta, pinned: false }
        })
    }

    /// Keeps writers away from a cell. None if it was claimed already, or all pins are in use.
    fn pin_cell(&self, me: Participant, look: &Look<'_>) -> Option<Pin<'_>> {
        let mine = me.owner() << CELL_BITS | look.current.cell();
        let pin = self.pins().iter().find_map(|place| {
            // ORDERING: relaxed; the CAS decides.
            let free = place.load(Relaxed) == 0;
            // ORDERING [S23]: SeqCst; a claim that does not see it is seen below.
            (free && place.compare_exchange(0, mine, SeqCst, Relaxed).is_ok()).then_some(Pin(place))
        })?;
        store_before_load();
        // ORDERING [S23]: SeqCst; a claim that did not see the pin.
        let word = Word(self.slot(look.current.cell())[WORD].load(SeqCst));
        (word.generation() == look.generation).then_some(pin)
    }

    fn pins(&self) -> &[AtomicU64] {
        &self.memory().line(PINS)[..self.layout().pins()]
    }

    #[inline(always)]
    fn is_pinned(&self, cell: u64) -> bool {
        self.pins().iter().any(|place| {
            // ORDERING [S23] [S24]: SeqCst, which is acquire too; a pin that does not see the claim, or a reader that is done.
            let pin = place.load(SeqCst);
            pin != 0 && pin & CELL_MASK == cell
        })
    }

    // ---- writing

    /// Claims a cell for a value of `len` bytes. See [`Self::absent`], [`Self::write_cell`], [`Self::publish_value`], [`Self::give_back`].
    ///
    /// # Errors
    /// [`PushError::TooLarge`], [`PushError::Busy`] if others are writing into every cell that is left, [`PushError::Corrupt`].
    pub fn claim_cell(&self, me: Participant, len: usize) -> Result<Cell, PushError> {
        if len as u64 > self.layout().geometry().max {
            return Err(PushError::TooLarge);
        }
        // ORDERING: relaxed, a hint: behind the newest lies the oldest, which is read by the fewest.
        let newest = Current(self.control(CURRENT).load(Relaxed));
        for ahead in 1..=self.layout().capacity() {
            let index = (newest.cell() + ahead) & (self.layout().capacity() - 1);
            if let Some(cell) = self.try_claim(index, me)? {
                return Ok(cell);
            }
        }
        Err(PushError::Busy)
    }

    fn try_claim(&self, index: u64, me: Participant) -> Result<Option<Cell>, PushError> {
        let word = &self.slot(index)[WORD];
        // ORDERING [S22]: acquire; then a cell that became the newest and is idle again is seen as the newest below [I2].
        let seen = Word(word.load(Acquire));
        if !seen.is_idle() {
            let is_possible = seen.state() == Word::WRITING && self.participant(seen.owner()).is_some();
            return if is_possible { Ok(None) } else { Err(PushError::Corrupt(Corrupt::Slot)) };
        }
        // ORDERING [S20]: acquire, as [S25] passes it on to those who see the claim.
        let newest = Current(self.control(CURRENT).load(Acquire)).cell();
        if newest == index || self.is_pinned(index) {
            return Ok(None);
        }
        let mine = seen.claimed_by(me);
        // ORDERING [S23]: SeqCst; a pin that the look below does not see, sees this. [S25]: and release.
        if word.compare_exchange(seen.0, mine.0, SeqCst, Relaxed).is_err() {
            return Ok(None);
        }
        store_before_load();
        if self.is_pinned(index) {
            // ORDERING [S22]: release; nothing was written, so the word is as it was [I3].
            word.store(seen.0, Release);
            return Ok(None);
        }
        // ORDERING [S21]: release; whoever reads a byte of what is written from here on, sees the claim.
        fence(Release);
        Ok(Some(Cell { index, word: mine }))
    }

    /// The range of the file, offset and bytes, that must be committed before a value of `len` bytes is written into a cell; none if it is, or
    /// the value lies in the cell's head. Then call [`Self::committed`].
    pub fn absent(&self, cell: &Cell, len: usize) -> Option<(u64, u64)> {
        if len <= VALUE_INLINE {
            return None;
        }
        let (area, most) = self.layout().value_area(cell.index);
        // ORDERING: relaxed; only the owner of a cell writes it, and [S22] passes it on.
        let committed = self.slot(cell.index)[COMMITTED].load(Relaxed);
        // In doubling steps, so that values that grow do not ask each time.
        let wanted = len.next_power_of_two().max(PAGE).min(most) as u64;
        (committed < len as u64).then_some((area as u64, wanted))
    }

    /// After so many bytes were committed to a cell's area.
    pub fn committed(&self, cell: &Cell, bytes: u64) {
        // ORDERING: relaxed, as in `absent`.
        self.slot(cell.index)[COMMITTED].store(bytes, Relaxed);
    }

    /// Writes a value into a cell, whose memory is committed.
    ///
    /// # Panics
    /// If the value is longer than the cell was claimed for, and leaves the region.
    pub fn write_cell(&self, cell: &Cell, tag: u16, value: &[u8]) {
        self.memory().copy_over(self.value_at(cell.index, value.len()), value);
        // ORDERING: relaxed, published by [S20].
        self.slot(cell.index)[META].store(Meta::new(value.len(), None, tag).0, Relaxed);
    }

    /// Makes what was written into a cell, `len` bytes, the newest value. Returns its version. On success, notify [`Self::items`]. On an error the
    /// cell is given back.
    ///
    /// # Errors
    /// [`PushError::Busy`] if others were faster each time, [`PushError::Corrupt`] if the region is.
    pub fn publish_value(&self, me: Participant, cell: Cell, len: usize) -> Result<u64, PushError> {
        let published = self.advance_to(&cell);
        self.give_back(cell);
        let version = published?;
        self.count_message(me, len);
        Ok(version)
    }

    fn advance_to(&self, cell: &Cell) -> Result<u64, PushError> {
        let word = self.control(CURRENT);
        // ORDERING: relaxed; the CAS decides.
        let mut current = Current(word.load(Relaxed));
        for _ in 0..PUBLISH_TRIES {
            let next = current.next(cell.index).ok_or(PushError::Corrupt(Corrupt::Newest))?;
            // ORDERING [S20]: release; the value.
            match word.compare_exchange(current.0, next.0, AcqRel, Relaxed) {
                Ok(_) => return Ok(next.version()),
                Err(now) => current = Current(now),
            }
        }
        Err(PushError::Busy)
    }

    /// Ends a claim. If nothing was published from the cell, it is as free as before.
    pub fn give_back(&self, cell: Cell) {
        // ORDERING [S22]: release; if it was published, that it was.
        self.slot(cell.index)[WORD].store(cell.word.idle().0, Release);
    }

    // ---- after a death, and for people

    /// Ends the claims and pins of a dead participant. Returns how many values were never published.
    pub(crate) fn recover_cells(&self, dead: Participant) -> u64 {
        for place in self.pins() {
            // ORDERING: relaxed; nobody else changes a pin of the dead.
            let pin = place.load(Relaxed);
            if pin >> CELL_BITS == dead.owner() {
                // ORDERING [S24]: release; as its owner would have.
                let _ = place.compare_exchange(pin, 0, Release, Relaxed);
            }
        }
        let mut unpublished = 0;
        for index in 0..self.layout().capacity() {
            let word = &self.slot(index)[WORD];
            // ORDERING [S25]: acquire; whatever made it the dead one's.
            let seen = Word(word.load(Acquire));
            if seen.state() == Word::WRITING && seen.owner() == dead.owner() {
                unpublished += u64::from(!self.is_newest(index));
                // ORDERING [S22]: release; as its owner would have [I6].
                let _ = word.compare_exchange(seen.0, seen.idle().0, AcqRel, Relaxed);
            }
        }
        unpublished
    }

    fn is_newest(&self, cell: u64) -> bool {
        // ORDERING: relaxed; a figure for people.
        let current = Current(self.control(CURRENT).load(Relaxed));
        current.version() > 0 && current.cell() == cell
    }

    /// Memory of the cells: all that is committed, and that of the newest value and of values that are being written.
    pub(crate) fn value_use(&self) -> PoolUse {
        let mut sum = PoolUse { ceiling: self.layout().geometry().memory, ..PoolUse::default() };
        for index in 0..self.layout().capacity() {
            let cell: &Line = self.slot(index);
            // ORDERING: relaxed; figures for people.
            let (word, committed) = (Word(cell[WORD].load(Relaxed)), cell[COMMITTED].load(Relaxed));
            let committed = committed.min(self.layout().value_area(index).1 as u64);
            sum.committed += committed;
            sum.used += if !word.is_idle() || self.is_newest(index) { committed } else { 0 };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_its_owner_and_keeps_its_generation() {
        let me = Participant::new(6);
        let mine = Word(0).claimed_by(me);
        assert_eq!((mine.generation(), mine.state(), mine.owner(), mine.is_idle()), (1, Word::WRITING, 7, false));
        assert_eq!((mine.idle().generation(), mine.idle().owner(), mine.idle().is_idle()), (1, 0, true));
        assert_eq!(Word(u64::MAX << Word::GENERATION_SHIFT).claimed_by(me).generation(), 0);
    }

    #[test]
    fn versions_grow_and_end() {
        let first = Current(0).next(3).unwrap();
        assert_eq!((first.version(), first.cell()), (1, 3));
        assert_eq!(first.next(0).map(Current::version), Some(2));
        assert!(Current(u64::MAX).next(0).is_none());
    }
}
