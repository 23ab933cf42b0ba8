//! Memory of a link while it is in use: blocks for large messages; the ring of an unbounded link; and giving both back.
//!
//! All of it under the link's grow lock, which the kernel takes from one who is killed. What is committed and what is punched, and in which order it is
//! written down, says ginnel-core (`pool`, `growth`); here are the system calls.
//!
//! Whoever gets the lock first finishes what a killed holder left by half; and looks, after letting go of it, whether somebody has left memory to be
//! given back meanwhile, who was refused the lock. So whoever is refused need not wait, and may leave.

use super::region::Region;
use crate::error::SendFailure;
use crate::wait::Until;
use ginnel_core::{CutShort, Extent, GROW_BYTE, Growth, InTheWay, Participant, Span};
use ginnel_os::ofd_lock::Token;
use ginnel_os::{fallocate, tmpfile};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Block memory that is committed at a time, in bytes; at least one extent.
const GROW_BYTES: u64 = 512 * 1024;
/// Block memory that an unbounded link keeps when nobody uses it, in bytes: so that one which is emptied again and again does not come and go.
pub(super) const SPARE_BYTES: u64 = 16 << 20;
/// How long another participant may be at it, before a receiver that has nothing else to do tries no more for now.
const IDLE_PATIENCE: Duration = Duration::from_millis(10);
/// How often memory that is left is given back in a row: each time somebody must have left some in the microseconds before.
const TURNS: u32 = 16;

/// What became of an attempt to get memory.
pub(super) enum Grown {
    /// Something changed: try again.
    Again,
    /// Everything that the link may have is in use.
    AtCeiling,
}

/// The grow lock, and what its holder owes to those who were refused it.
pub(super) struct Growing<'a> {
    region: &'a Region,
    lock: Option<Token>,
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        self.lock = None; // first: who is refused it from now on is refused by somebody else
        self.region.give_back_left();
    }
}

impl Region {
    fn growing(&self, lock: Token) -> Growing<'_> {
        self.finish_cut_short();
        Growing { region: self, lock: Some(lock) }
    }

    /// Takes the grow lock, if nobody has it.
    fn try_growing(&self) -> io::Result<Option<Growing<'_>>> {
        Ok(self.try_lock(GROW_BYTE)?.map(|lock| self.growing(lock)))
    }

    /// What a holder of the lock was killed over. What cannot be given back now stays written down.
    fn finish_cut_short(&self) {
        let is_gone = |offset, len| fallocate::release(self.file().as_fd(), offset, len).is_ok();
        match self.engine().cut_short() {
            Some(CutShort::InUse(extent)) => self.engine().extent_ready(&extent),
            Some(CutShort::Unused(offset, len)) if is_gone(offset, len) => self.engine().crossed_out(),
            _ => {}
        }
    }

    /// Gives back what others have left, if they have. False if that could not be done, and nobody else is at it.
    #[inline]
    pub(super) fn give_back_left(&self) -> bool {
        !self.engine().is_memory_left() || !self.is_ours() || self.give_back_left_now()
    }

    #[cold]
    fn give_back_left_now(&self) -> bool {
        for _ in 0..TURNS {
            match self.try_lock(GROW_BYTE) {
                Ok(Some(_lock)) => {
                    self.finish_cut_short();
                    self.give_back_held(Some(SPARE_BYTES));
                }
                Ok(None) => return true, // who has it looks afterwards
                Err(_) => return false,
            }
            if !self.engine().is_memory_left() {
                return true;
            }
        }
        true
    }

    /// After a block was let go of that was not sent: nobody who receives knows of it.
    #[cold]
    pub(super) fn leave_blocks(&self) {
        let engine = self.engine();
        if engine.is_unbounded() && !engine.is_memory_left() && engine.more_blocks_than(SPARE_BYTES) {
            engine.leave_memory();
            self.wake_receivers();
        }
    }

    /// After a look at slots on an unbounded link that no message follows: meanwhile somebody may have given up to punch what it has done with.
    fn looked(&self) {
        if self.engine().is_ring_unpunched() {
            self.engine().leave_memory();
            self.give_back_left();
        }
    }

    /// Commits memory for blocks of `len` bytes; at the ceiling, or where the kernel has no more, takes it from what nobody uses.
    pub(super) fn grow_blocks(&self, len: usize) -> Result<Grown, SendFailure> {
        let engine = self.engine();
        if !engine.is_unbounded() && !engine.may_grow(len) {
            return Ok(Grown::AtCeiling);
        }
        let lock = self.try_growing().map_err(SendFailure::Os)?;
        let Some(_lock) = lock else { return Ok(Grown::Again) }; // somebody else is at it
        // Several at once, while they are small: the lock costs more than the memory.
        let (mut committed, mut refused) = (0, None);
        while let (true, Some(extent)) = (committed < GROW_BYTES, engine.extent_to_commit(len)) {
            if let Err(e) = self.commit_extent(&extent) {
                refused = Some(e);
                break;
            }
            committed += extent.len;
        }
        if committed > 0 {
            return Ok(Grown::Again);
        }
        if engine.is_unbounded() && self.give_back_held(Some(0)) {
            return Ok(Grown::Again);
        }
        match (engine.extent_to_release(len), refused) {
            (Some(unused), _) => {
                fallocate::release(self.file().as_fd(), unused.offset, unused.len).map_err(SendFailure::NoSpace)?;
                engine.crossed_out();
                Ok(Grown::Again)
            }
            (None, Some(e)) => Err(SendFailure::NoSpace(e)),
            (None, None) => Ok(Grown::AtCeiling),
        }
    }

    /// Messages in the link, for a handle: in a forked child, which must not touch its parent's entry, as an observer sees it.
    pub(super) fn len_for(&self, me: Participant) -> u64 {
        if !self.is_ours() {
            return self.engine().len_by(peek(self.file().as_fd()));
        }
        let len = self.engine().len(me);
        self.looked();
        len
    }

    /// The same of both positions.
    pub(super) fn positions_for(&self, me: Participant) -> (u64, u64) {
        if !self.is_ours() {
            return self.engine().positions_by(peek(self.file().as_fd()));
        }
        let positions = self.engine().positions(me);
        self.looked();
        positions
    }

    /// Whether the next message finds no slot, for a handle of this process.
    pub(super) fn is_full_for(&self, me: Participant) -> bool {
        let is_full = self.engine().is_full(me);
        self.looked();
        is_full
    }

    fn commit_extent(&self, extent: &Extent) -> io::Result<()> {
        let file = self.file().as_fd();
        self.engine().extent_under_way(extent);
        if let Some((offset, len)) = extent.records() {
            fallocate::commit(file, offset, len)?; // some of it may be there, and is another extent's too
        }
        if let Err(e) = fallocate::commit(file, extent.offset, extent.len) {
            self.finish_cut_short(); // a part may be committed
            return Err(e);
        }
        self.mapping().populate(extent.offset as usize, extent.len as usize);
        self.engine().extent_ready(extent);
        Ok(())
    }

    /// Commits the next extent of an unbounded link's ring, for a sender that found none.
    pub(super) fn grow_ring(&self) -> Result<Grown, SendFailure> {
        let engine = self.engine();
        let seen = engine.grown();
        let lock = self.try_growing().map_err(SendFailure::Os)?;
        let Some(_lock) = lock else { return Ok(Grown::Again) }; // somebody else is at it
        if engine.grown() != seen {
            return Ok(Grown::Again); // somebody else did
        }
        let mut refused = None;
        // A second time after something was given back.
        for _ in 0..2 {
            refused = Some(match engine.ring_growth() {
                Growth::By(span) => match self.commit_span(&span) {
                    Ok(()) => return Ok(Grown::Again),
                    Err(e) => SendFailure::NoSpace(e),
                },
                Growth::Slots(capacity) => SendFailure::Full { capacity },
                Growth::Memory(ceiling) => SendFailure::NoMemory { ceiling },
                Growth::Corrupt(what) => return Err(SendFailure::Corrupt(what)),
            });
            if !self.give_back_held(Some(0)) {
                break;
            }
        }
        refused.map_or(Ok(Grown::AtCeiling), Err)
    }

    fn commit_span(&self, span: &Span) -> io::Result<()> {
        self.engine().ring_under_way();
        if let Err(e) = fallocate::commit(self.file().as_fd(), span.offset, span.len) {
            self.finish_cut_short(); // a part may be committed
            return Err(e);
        }
        self.mapping().populate(span.offset as usize, span.len as usize);
        self.engine().ring_grown(span);
        Ok(())
    }

    /// Gives memory of an unbounded link back that nobody uses: of the ring, and, if `blocks`, of blocks. Says what is in the way of more. False if somebody else
    /// has the lock: for a moment at least where the caller can wait, but not past its deadline.
    pub(super) fn give_back(&self, blocks: bool, until: Until, in_the_way: &Cell<Option<InTheWay>>) -> bool {
        let patience = Instant::now() + IDLE_PATIENCE;
        let lock = match until {
            Until::Now => self.try_lock(GROW_BYTE).ok().flatten(),
            Until::Instant(at) => self.lock(GROW_BYTE, at.min(patience)).ok(),
            Until::Forever => self.lock(GROW_BYTE, patience).ok(),
        };
        let Some(_lock) = lock.map(|lock| self.growing(lock)) else { return false };
        self.give_back_held(blocks.then_some(SPARE_BYTES));
        in_the_way.set(self.engine().in_the_way());
        true
    }

    /// The same for the holder of the lock: all of the ring that can go, and unused blocks but for so many bytes. Whether anything went.
    fn give_back_held(&self, spare: Option<u64>) -> bool {
        let (engine, file) = (self.engine(), self.file().as_fd());
        let mut any = false;
        if spare.is_some() {
            engine.take_left_memory(); // what is left from now on is for the next
        }
        // Twice where the ring's end lies in it.
        for _ in 0..2 {
            let Some(span) = engine.ring_to_punch() else { break };
            if fallocate::release(file, span.offset, span.len).is_err() {
                break; // nobody may take it for given back
            }
            engine.ring_punched(&span);
            any = true;
        }
        if let Some(spare) = spare {
            engine.retire_unused(spare, |extent| {
                let gone = fallocate::release(file, extent.offset, extent.len).is_ok();
                any |= gone;
                gone
            });
        }
        any
    }
}

/// Loads a word of a link's file for one who only looks: where there is no memory, it takes none.
pub(super) fn peek(file: BorrowedFd<'_>) -> impl Fn(u64) -> u64 {
    move |offset| {
        let mut word = [0; 8];
        match tmpfile::read_at(file, &mut word, offset) {
            Ok(8) => u64::from_le_bytes(word),
            _ => 0,
        }
    }
}
