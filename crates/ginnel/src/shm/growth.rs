//! Memory of a link while it is in use: blocks for large messages; the ring of an unbounded link; and giving both back.
//!
//! All of it under the link's grow lock, which the kernel takes from one who is killed. What is committed and what is punched, and in which order it is
//! written down, says ginnel-core (`pool`, `growth`); here are the system calls.

use super::region::Region;
use crate::error::SendFailure;
use crate::wait::Until;
use ginnel_core::{Extent, GROW_BYTE, Growth, InTheWay, Participant, Span};
use ginnel_os::{fallocate, tmpfile};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Block memory that is committed at a time, in bytes; at least one extent.
const GROW_BYTES: u64 = 512 * 1024;
/// Block memory that an unbounded link keeps when nobody uses it, in bytes: so that one which is emptied again and again does not come and go.
const SPARE_BYTES: u64 = 16 << 20;
/// How long another participant may be at it, before a receiver that has nothing else to do tries no more for now.
const IDLE_PATIENCE: Duration = Duration::from_millis(10);

/// What became of an attempt to get memory.
pub(super) enum Grown {
    /// Something changed: try again.
    Again,
    /// Everything that the link may have is in use.
    AtCeiling,
}

impl Region {
    /// Commits memory for blocks of `len` bytes; at the ceiling, or where the kernel has no more, takes it from what nobody uses.
    pub(super) fn grow_blocks(&self, len: usize) -> Result<Grown, SendFailure> {
        let engine = self.engine();
        if !engine.is_unbounded() && !engine.may_grow(len) {
            return Ok(Grown::AtCeiling);
        }
        let lock = self.try_lock(GROW_BYTE).map_err(SendFailure::Os)?;
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
                Ok(Grown::Again)
            }
            (None, Some(e)) => Err(SendFailure::NoSpace(e)),
            (None, None) => Ok(Grown::AtCeiling),
        }
    }

    /// Messages in the link, for a handle: in a forked child, which must not touch its parent's entry, as an observer sees it.
    pub(super) fn len_for(&self, me: Participant) -> u64 {
        if self.is_ours() { self.engine().len(me) } else { self.engine().len_by(peek(self.file().as_fd())) }
    }

    /// The same of both positions.
    pub(super) fn positions_for(&self, me: Participant) -> (u64, u64) {
        if self.is_ours() { self.engine().positions(me) } else { self.engine().positions_by(peek(self.file().as_fd())) }
    }

    fn commit_extent(&self, extent: &Extent) -> std::io::Result<()> {
        let file = self.file().as_fd();
        if let Some((offset, len)) = extent.records() {
            fallocate::commit(file, offset, len)?; // some of it may be there, and is another extent's too
        }
        if let Err(e) = fallocate::commit(file, extent.offset, extent.len) {
            // Of an extent that nobody uses yet a part may be committed.
            if self.engine().is_absent(extent) {
                let _ = fallocate::release(file, extent.offset, extent.len);
            }
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
        let lock = self.try_lock(GROW_BYTE).map_err(SendFailure::Os)?;
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

    fn commit_span(&self, span: &Span) -> std::io::Result<()> {
        let file = self.file().as_fd();
        if let Err(e) = fallocate::commit(file, span.offset, span.len) {
            let _ = fallocate::release(file, span.offset, span.len);
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
        let Some(_lock) = lock else { return false };
        self.give_back_held(blocks.then_some(SPARE_BYTES));
        in_the_way.set(self.engine().in_the_way());
        true
    }

    /// The same for the holder of the lock: all of the ring that can go, and unused blocks but for so many bytes. Whether anything went.
    fn give_back_held(&self, spare: Option<u64>) -> bool {
        let (engine, file) = (self.engine(), self.file().as_fd());
        let mut any = false;
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
            engine.retire_unused(spare, |extent| any |= fallocate::release(file, extent.offset, extent.len).is_ok());
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
