//! A message being written in place in a shared-memory link.

use super::sender::Sender;
use crate::error::SendError;
use crate::wait::Until;
use ginnel_core::{Block, INLINE_MAX};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes of a shared-memory link, lent to write a message into.
pub(crate) struct Loan<'a> {
    sender: &'a Sender,
    len: usize,
    tag: u16,
    place: Place,
}

enum Place {
    Small([u8; INLINE_MAX]),
    Block(Block),
    /// Committed: nothing to give back.
    Sent,
}

#[allow(clippy::result_large_err, reason = "the error is the loan itself, handed back")]
impl<'a> Loan<'a> {
    pub(crate) fn is_small(len: usize) -> bool {
        len <= INLINE_MAX
    }

    pub(crate) fn small(sender: &'a Sender, len: usize) -> Self {
        Self { sender, len, tag: 0, place: Place::Small([0; INLINE_MAX]) }
    }

    pub(crate) fn in_place(sender: &'a Sender, block: Block, len: usize) -> Self {
        sender.loans.set(sender.loans.get() + 1);
        Self { sender, len, tag: 0, place: Place::Block(block) }
    }

    pub(crate) fn set_tag(&mut self, tag: u16) {
        self.tag = tag;
    }

    pub(crate) fn commit_until(mut self, until: Until) -> Result<(), (Self, SendError)> {
        let sent = match &self.place {
            Place::Small(bytes) => self.sender.commit_small(&bytes[..self.len], self.tag, until),
            Place::Block(block) => self.sender.commit_block(*block, self.len, self.tag, until),
            Place::Sent => Ok(()),
        };
        match sent {
            Ok(()) => {
                self.forget_block();
                Ok(())
            }
            Err(reason) => {
                let error = self.sender.error(reason);
                Err((self, error))
            }
        }
    }

    fn forget_block(&mut self) {
        if let Place::Block(_) = self.place {
            self.sender.loans.set(self.sender.loans.get() - 1);
        }
        self.place = Place::Sent;
    }

    fn assert_ours(&self) {
        assert!(self.sender.region().is_ours(), "a loan belongs to the parent of this process");
    }
}

#[allow(unsafe_code)] // Makes slices of a block that the protocol gives to this guard alone.
mod bytes {
    use super::{Block, Loan};
    use std::ptr::NonNull;

    fn address(loan: &Loan<'_>, block: &Block) -> NonNull<u8> {
        let engine = loan.sender.engine();
        engine.memory().bytes(engine.block_range(block).0, loan.len)
    }

    pub(super) fn shared<'a>(loan: &'a Loan<'_>, block: &Block) -> &'a [u8] {
        let address = address(loan, block);
        // SAFETY: `loan.len` bytes of the mapping, checked by `bytes`, which lives as long as the sender that the loan
        // borrows; the block's record names this participant, so peers that follow the protocol leave it alone, and one
        // that does not could as well change this process's own memory (same uid; see SECURITY.md).
        unsafe { std::slice::from_raw_parts(address.as_ptr(), loan.len) }
    }

    pub(super) fn exclusive<'a>(loan: &'a mut Loan<'_>, block: &Block) -> &'a mut [u8] {
        let address = address(loan, block);
        // SAFETY: as in `shared`; the loan is borrowed exclusively, and no other loan has this block.
        unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), loan.len) }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Small(bytes) => &bytes[..self.len],
            Place::Block(block) => bytes::shared(self, block),
            Place::Sent => &[],
        }
    }
}

impl DerefMut for Loan<'_> {
    /// # Panics
    /// In a forked child: the loan is its parent's.
    fn deref_mut(&mut self) -> &mut [u8] {
        self.assert_ours();
        if let Place::Block(block) = self.place {
            return bytes::exclusive(self, &block);
        }
        match &mut self.place {
            Place::Small(bytes) => &mut bytes[..self.len],
            _ => &mut [],
        }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Place::Block(block) = self.place {
            self.forget_block();
            if self.sender.region().is_ours() {
                self.sender.engine().abort(block);
                self.sender.region().leave_blocks();
                self.sender.region().wake_senders();
            }
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len).field("tag", &self.tag).finish_non_exhaustive()
    }
}
