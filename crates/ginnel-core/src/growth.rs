//! How the ring of an unbounded link gets memory ahead of its tail, and gives it back behind what was released.
//!
//! It is the ring of `ring`, with so many slots that it is never full, in a sparse file. Positions are grouped in *extents*, and of all
//! positions those from `punched` to `grown` have memory: a window that moves through the ring with the messages.
//!
//! ```text
//!      given back      done with        released      in hand        waiting         ahead        no memory yet
//!  ----------------|---------------|--------------|-------------|---------------|-----------|------------------
//!               punched          floor        (released)       head            tail       grown
//!                  |<---------------------- memory, at most `capacity` slots ------------------>|
//! ```
//! A slot of a hole is not only empty: who touches it, even to read it, takes memory, and is killed where the host has none. So
//! nobody may. A producer needs no care for that but its limit, which it looks up when it has used up what it knew of: it writes no slot
//! but below `grown` - 1. So the slot at the tail always has memory, and a consumer, which looks no further, needs none at all.
//!
//! Memory is committed in these steps, which a kill may end anywhere:
//! 1. the grow lock, which dies with its holder; 2. the caller commits the extent's range of the file; 3. the words of its slots
//!    are written FREE for their lap (a hole reads as zero, which is lap 0); 4. `grown` moves.
//!
//! and given back in these:
//! 1. the grow lock; 2. every slot of the extent at `floor` was released, and `head` and `tail` have passed it: `floor` moves; 3. a
//!    heavy fence, and everybody who was inside an operation has left it; 4. the caller punches a hole; 5. `punched` moves.
//!
//! What is under way is written down before the memory comes, or the first word changes, and crossed out when all is done: so the next holder of the
//! lock knows which memory a killed one has committed that nobody can use, or has taken out of use and not given back. (Of what is punched in the
//! ring `floor` and `punched` tell that already.)
//!
//! Who gives back: a receiver that looks for messages and finds none, that has passed an extent, or that leaves. Whoever has freed something and can not,
//! or is none of these, leaves it to others by a word, `left`: one who was refused the lock, who recovered a dead one, who let go of a block
//! that was not sent. It is looked at by a receiver that looks, by each holder of the grow lock after it has let go of that, and by who recovers or leaves.
//!
//! The third is needed because of who loaded a position long ago and looks at its slot only now. On the side that is exclusive to it a participant
//! uses its own positions, below which nothing is given back. Everybody else *pins* before it loads one: it raises `busy` in its
//! entry, as on an exclusive side, and whoever gives back waits until it was seen down, or changed, once. If one does not come out (it
//! is stopped, perhaps), nothing is given back this time.
//!
//! [I1] `punched` <= `floor` <= `grown` <= `punched` + capacity; all four are multiples of an extent, and only the holder of the grow lock moves them.
//! [I2] Slots from `punched` to `grown` have memory. Below `grown`, each slot's word was written for the lap of its position, or later.
//! [I3] The tail is below `grown`, by one at least.
//! [I4] `floor` is above no position in memory, tail, head, nor any that a participant may still look at when it pins after that; nor above a slot that is not
//! released. A pinned participant may look at slots from the `floor` that it loads while it is pinned.
//! [I5] What lies above `grown` or below `punched` is touched by nobody.
//! [I6] Memory that nobody needs, beyond what may be spare, is the business of somebody who lives: of a receiver, until it looks for messages or leaves; or `left` is
//! set, and who has the grow lock looks at that when it has let go of it; or it is under way.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S16] | `grown` store, in `ring_grown` | `grown` load, by producers | memory, and the words of its slots |
//! | [S17] | `busy` store, light fence, position load | `floor` store, heavy fence, `busy` load | [I4]: store before load on both sides |
//! | [S19] | `punched` store | `punched` load, by the next holder of the grow lock | that the hole was made |
//! | [S20] | `left` set, before the lock is tried | `left` load, after the lock was let go of; its take, under the lock | what was freed: store before load on both sides |
//! | [S21] | `under_way` store | `under_way` load, by the next holder of the grow lock | how far that came |
//! | [S18] | `busy` lowered | `busy` load in `quiesce` | that the looks are over |

use crate::engine::{Corrupt, Engine, PushError};
use crate::header::{FLOOR, GROWN, HEAD, LEFT, PUNCHED, RELEASED, TAIL, UNDER_WAY};
use crate::memory::Line;
use crate::participants::{BUSY, Participant, WORK};
use crate::pool::Extent;
use crate::ring::WORD;
use crate::slot::Word;
use crate::sync::{Acquire, Relaxed, Release, SeqCst, spin};

/// Looks at a participant that is inside an operation, before giving back is put off.
#[cfg(not(loom))]
const PATIENCE: u32 = 4096;
#[cfg(loom)]
const PATIENCE: u32 = 2;

/// A range of an unbounded link's file that is to be committed or punched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// First position.
    start: u64,
    /// Position after the last.
    end: u64,
}

/// Whether the ring can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// By this range: commit it, then call [`Engine::ring_grown`].
    By(Span),
    /// Every slot of the ring is in use: so many messages.
    Slots(u64),
    /// The link's ceiling of memory is reached: so many bytes.
    Memory(u64),
    /// A peer wrote impossible values.
    Corrupt(Corrupt),
}

/// Memory that a holder of the grow lock did not get ready or gave back by half: it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// Nobody can use it: punch a hole there, then call [`Engine::crossed_out`].
    Unused(u64, u64),
    /// Some blocks of it can be used: call [`Engine::extent_ready`].
    InUse(Extent),
}

/// In [`UNDER_WAY`], in place of a class of blocks: the next extent of the ring.
const RING_UNDER_WAY: u64 = 0xFF;

/// What kept memory of the ring from being given back. As long as it does, trying again is in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTheWay(Obstacle);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// A slot that was not released: its message is in hand.
    Slot(u64),
    /// The tail is not known to have come to this position.
    Tail(u64),
    /// A participant inside an operation, and its word.
    Inside(Participant, u64),
}

/// The window of positions that have memory; see the module.
#[derive(Clone, Copy, Debug)]
struct Reach {
    punched: u64,
    floor: u64,
    grown: u64,
}

/// The slots that a participant looks at stay where they are while this is there; [`Engine::unpin`] ends it.
#[must_use = "until it is unpinned, no memory can be given back"]
pub(crate) struct Pin(Option<Participant>);

impl Engine {
    /// Whether the link is unbounded: then commit memory where [`PushError::Full`] is said; see [`Self::ring_growth`].
    pub fn is_unbounded(&self) -> bool {
        self.layout().is_unbounded()
    }

    /// Slots below have memory.
    pub fn grown(&self) -> u64 {
        // ORDERING [S16]: acquire; the memory and the words of the slots below.
        self.control(GROWN).load(Acquire).saturating_add(self.layout().extent())
    }

    /// The lowest position whose slot may be looked at by one that is pinned, or is inside an operation on a side of its own. 0 on a bounded link.
    pub(crate) fn floor(&self) -> u64 {
        if !self.is_unbounded() {
            return 0;
        }
        // ORDERING [S17]: acquire; after the light fence of the caller's pin.
        self.control(FLOOR).load(Acquire)
    }

    /// The first position that has no room, for a producer at `tail`, which is true, while `grown` is a peer's word.
    pub(crate) fn grown_limit(&self, tail: u64) -> Result<u64, PushError> {
        let grown = self.grown();
        if grown <= tail || grown - tail > self.layout().capacity() {
            return Err(PushError::Corrupt(Corrupt::Position));
        }
        Ok(grown - 1)
    }

    /// The three words, if they agree with each other. The caller holds the grow lock, or wants a figure.
    fn reach_of_ring(&self) -> Option<Reach> {
        // ORDERING [S19]: acquire; what the last holder of the grow lock did.
        let load = |at| self.control(at).load(Acquire);
        let (punched, floor, grown) = (load(PUNCHED), load(FLOOR), load(GROWN).checked_add(self.layout().extent())?);
        grown.checked_add(self.layout().extent())?; // a position that is reckoned from one of these is one
        let whole = (punched | floor | grown) & (self.layout().extent() - 1) == 0;
        let ordered = punched <= floor && floor <= grown && grown - punched <= self.layout().capacity();
        (whole && ordered).then_some(Reach { punched, floor, grown })
    }

    // ---- looking

    /// Begins looks at slots by positions that others move. On a bounded link this is nothing.
    #[inline(always)]
    pub(crate) fn pin(&self, me: Participant) -> Pin {
        if !self.is_unbounded() {
            return Pin(None);
        }
        let work = &self.hot(me)[WORK];
        // ORDERING [S17]: relaxed, one writer; the light fence orders it before the positions that are loaded next.
        work.store(work.load(Relaxed) | BUSY, Relaxed);
        self.fences().light();
        Pin(Some(me))
    }

    /// Ends the looks.
    #[inline(always)]
    pub(crate) fn unpin(&self, pin: Pin) {
        if let Pin(Some(me)) = pin {
            self.leave_side(me); // [S18]
        }
    }

    // ---- growing; the caller holds the grow lock

    /// What the ring can grow by.
    pub fn ring_growth(&self) -> Growth {
        let Some(reach) = self.reach_of_ring() else { return Growth::Corrupt(Corrupt::Position) };
        let (span, ceiling) = (self.span(reach.grown, self.layout().extent()), self.layout().geometry().memory);
        if self.ring_bytes() + self.blocks_committed() + span.len > ceiling {
            return Growth::Memory(ceiling);
        }
        if span.end - reach.punched > self.layout().capacity() {
            return Growth::Slots(self.layout().capacity());
        }
        Growth::By(span)
    }

    /// Makes the slots of a range available, after its memory was committed.
    pub fn ring_grown(&self, span: &Span) {
        if self.layout().lap(span.start) != 0 {
            for position in span.start..span.end {
                // ORDERING: relaxed, published by `grown`; nobody else looks at it before [I5].
                self.slot(position)[WORD].store(Word::free(self.layout().lap(position)).0, Relaxed);
            }
        }
        // ORDERING [S16]: release; the memory and the words of the slots.
        self.control(GROWN).store(span.end - self.layout().extent(), Release);
        self.crossed_out();
    }

    // ---- what is under way, and what is left; the caller of what concerns the former holds the grow lock

    /// Writes down that the memory of [`Growth::By`] is about to be committed. [`Self::ring_grown`] crosses it out.
    pub fn ring_under_way(&self) {
        // ORDERING [S21]: release; nothing lies before.
        self.control(UNDER_WAY).store(RING_UNDER_WAY, Release);
    }

    /// The same of blocks. [`Self::extent_ready`] crosses it out.
    pub fn extent_under_way(&self, extent: &Extent) {
        let (class, first) = extent.name();
        // ORDERING [S21]: release; nothing lies before.
        self.control(UNDER_WAY).store((u64::from(class) + 1) | u64::from(first) << 8, Release);
    }

    /// Crosses out what was under way: it was given back, or nothing came of it.
    pub fn crossed_out(&self) {
        // ORDERING [S21]: release; what was done.
        self.control(UNDER_WAY).store(0, Release);
    }

    /// What an earlier holder of the lock has not brought to an end.
    pub fn cut_short(&self) -> Option<CutShort> {
        // ORDERING [S21]: acquire; how far it came.
        let word = self.control(UNDER_WAY).load(Acquire);
        if word == RING_UNDER_WAY {
            let reach = if self.is_unbounded() { self.reach_of_ring()? } else { return None };
            let span = self.span(reach.grown, self.layout().extent());
            let is_free = span.end - reach.punched <= self.layout().capacity();
            return is_free.then_some(CutShort::Unused(span.offset, span.len));
        }
        let class = u8::try_from((word & 0xFF).checked_sub(1)?).ok()?;
        let extent = self.extent_named(class, u32::try_from(word >> 8).ok()?)?;
        Some(if self.is_absent(&extent) {
            CutShort::Unused(extent.offset, extent.len)
        } else {
            CutShort::InUse(extent)
        })
    }

    /// Says of an unbounded link that there may be memory that nobody needs, of which nobody else knows. Then try to get the lock, or wake one who will.
    pub fn leave_memory(&self) {
        if self.is_unbounded() {
            // ORDERING [S20]: SeqCst; what was freed lies before, the try comes after.
            self.control(LEFT).store(1, SeqCst);
        }
    }

    /// Whether that was said, since it was last taken.
    pub fn is_memory_left(&self) -> bool {
        // ORDERING [S20]: SeqCst; what was freed, and after the lock was let go of.
        self.is_unbounded() && self.control(LEFT).load(SeqCst) != 0
    }

    /// Takes that upon the caller, who holds the lock and gives all back that nobody needs.
    pub fn take_left_memory(&self) {
        // ORDERING [S20]: SeqCst; before what is looked at then.
        self.control(LEFT).store(0, SeqCst);
    }

    /// Bytes of the ring that have memory; 0 on a bounded link.
    pub(crate) fn ring_bytes(&self) -> u64 {
        if !self.is_unbounded() {
            return 0;
        }
        self.reach_of_ring().map_or(0, |reach| self.layout().slots_bytes(reach.grown - reach.punched))
    }

    fn span(&self, start: u64, slots: u64) -> Span {
        let (offset, len) = (self.layout().slot(start) as u64, self.layout().slots_bytes(slots));
        Span { offset, len, start, end: start + slots }
    }

    // ---- giving back

    /// Whether it may be worth to take the grow lock for [`Self::ring_to_punch`].
    pub fn ring_may_shrink(&self) -> bool {
        if !self.is_unbounded() {
            return false;
        }
        // ORDERING: relaxed; both are hints.
        let load = |at| self.control(at).load(Relaxed);
        self.layout().ends_extent(load(FLOOR), load(HEAD)) || load(PUNCHED) != load(FLOOR)
    }

    /// Whether an extent is in nobody's hand and was not punched, as somebody was inside an operation, or at this moment.
    pub fn is_ring_unpunched(&self) -> bool {
        // ORDERING: relaxed; both are hints.
        self.is_unbounded() && self.control(PUNCHED).load(Relaxed) != self.control(FLOOR).load(Relaxed)
    }

    /// What kept [`Self::ring_to_punch`] from finding anything. The caller holds the grow lock since before that, and is inside no operation.
    pub fn in_the_way(&self) -> Option<InTheWay> {
        let Reach { punched, floor, grown } = self.reach_of_ring()?;
        let end = floor + self.layout().extent();
        // ORDERING: relaxed, a hint, as are those below.
        let is_inside = |participant: &Participant| self.hot(*participant)[WORK].load(Relaxed) & BUSY != 0;
        let obstacle = if floor != punched {
            let inside = self.participants().find(is_inside)?;
            // ORDERING: relaxed, a hint.
            Obstacle::Inside(inside, self.hot(inside)[WORK].load(Relaxed))
        // ORDERING: relaxed, a hint.
        } else if self.control(TAIL).load(Relaxed) < end {
            Obstacle::Tail(end)
        } else {
            // Below `grown` all have memory, and nobody gives any back but the caller.
            let mut slots = floor..end.min(grown);
            Obstacle::Slot(slots.find(|position| !self.is_free_again(*position))?)
        };
        Some(InTheWay(obstacle))
    }

    /// Whether it is there yet. The caller, who is `me`, is inside no operation.
    pub fn is_in_the_way(&self, me: Participant, InTheWay(obstacle): InTheWay) -> bool {
        let there = match obstacle {
            // ORDERING: relaxed; both are hints.
            Obstacle::Tail(end) => self.control(TAIL).load(Relaxed) < end,
            Obstacle::Inside(who, word) => self.hot(who)[WORK].load(Relaxed) == word,
            Obstacle::Slot(position) => {
                let pin = self.pin(me);
                let there = self.floor() <= position && !self.is_free_again(position);
                self.unpin(pin);
                there
            }
        };
        // Somebody else may have come further meanwhile, and met another obstacle: the caller, while it was pinned just now.
        there && matches!(obstacle, Obstacle::Inside(..)) == self.is_ring_unpunched()
    }

    /// Whether a slot was released. It has memory.
    fn is_free_again(&self, position: u64) -> bool {
        // ORDERING: relaxed; a hint.
        self.control(RELEASED).load(Relaxed) > position
            || self.slot_word(position).is_released_in(self.layout().lap(position))
    }

    /// A range of the ring that nobody needs any more, and that nobody looks at: punch a hole there, then call [`Self::ring_punched`].
    /// The caller holds the grow lock, and is inside no operation.
    pub fn ring_to_punch(&self) -> Option<Span> {
        let extent = self.layout().extent();
        let Reach { punched, floor: before, grown } = self.reach_of_ring()?;
        let mut floor = before;
        while floor + extent < grown && self.is_done_with(floor, floor + extent) {
            floor += extent;
        }
        if floor != before {
            // ORDERING [S17]: SeqCst, then the heavy fence in `quiesce`.
            self.control(FLOOR).store(floor, SeqCst);
        }
        if floor == punched || !self.quiesce() {
            return None;
        }
        let to_the_end = self.layout().capacity() - self.layout().index(punched);
        Some(self.span(punched, (floor - punched).min(to_the_end)))
    }

    /// Remembers that a range was given back.
    pub fn ring_punched(&self, span: &Span) {
        // ORDERING [S19]: release; the hole was made.
        self.control(PUNCHED).store(span.end, Release);
    }

    /// Whether every slot from `start` to `end` was released, and no position is below `end` [I4].
    fn is_done_with(&self, start: u64, end: u64) -> bool {
        // ORDERING [S11@ring] [S10@ring]: acquire; who took and released what lies below.
        let load = |at| self.control(at).load(Acquire);
        if load(HEAD) < end || load(TAIL) < end {
            return false;
        }
        let unknown = load(RELEASED).clamp(start, end)..end;
        // On a shared side only the words tell.
        unknown.into_iter().all(|position| self.slot_word(position).is_released_in(self.layout().lap(position)))
    }

    /// Waits, for a bounded time, until everybody who may have loaded a position before was outside of its operation once.
    fn quiesce(&self) -> bool {
        self.fences().heavy();
        self.participants().all(|participant| {
            let hot: &Line = self.hot(participant);
            // ORDERING [S17] [S18]: acquire, after the heavy fence; the looks of the operation are over.
            let inside = hot[WORK].load(Acquire);
            inside & BUSY == 0
                || (0..PATIENCE).any(|_| {
                    spin();
                    // ORDERING [S18]: as above.
                    hot[WORK].load(Acquire) != inside
                })
        })
    }
}
