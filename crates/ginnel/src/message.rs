//! A message in hand.

use crate::receiver::Receiver;
use ginnel_core::{Block, Delivery, Place};
use std::fmt;
use std::ops::Deref;

/// A received message. It derefs to its bytes, which lie in the link; dropping it releases its place.
///
/// On a link that drops the oldest, its place in the ring is free at once, so that a slow receiver holds nobody up: a small
/// message is then a copy, a larger one keeps its block.
pub struct Message<'a> {
    receiver: &'a Receiver,
    delivery: Delivery,
    holding: Holding,
}

enum Holding {
    InPlace,
    Copy(Box<[u8]>),
    Block(Option<Block>),
}

impl<'a> Message<'a> {
    #[inline(always)]
    pub(crate) fn in_place(receiver: &'a Receiver, delivery: Delivery) -> Self {
        Self { receiver, delivery, holding: Holding::InPlace }
    }

    pub(crate) fn detached(receiver: &'a Receiver, delivery: Delivery) -> Self {
        let mut message = Self::in_place(receiver, delivery);
        let copy = matches!(delivery.place, Place::Inline).then(|| message.to_vec().into_boxed_slice());
        let block = receiver.detach(delivery);
        message.holding = copy.map_or(Holding::Block(block), Holding::Copy);
        message
    }

    /// What its sender tagged it with; 0 if it did not.
    pub fn tag(&self) -> u16 {
        self.delivery.tag
    }

    /// Whether a receiver that died held this message unread, or had not finished with it, before it was delivered here.
    pub fn redelivered(&self) -> bool {
        self.delivery.redelivered
    }

    /// Its place in the link's order, from 0. Positions of claims that vanished with their sender are left out.
    pub fn position(&self) -> u64 {
        self.delivery.position
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    /// # Panics
    /// In a forked child: the message is its parent's.
    #[inline]
    #[allow(unsafe_code)] // Makes a slice of bytes that the protocol keeps still while this guard is there.
    fn deref(&self) -> &[u8] {
        if let Holding::Copy(bytes) = &self.holding {
            return bytes;
        }
        assert!(self.receiver.region().is_ours(), "a message belongs to the parent of this process");
        let engine = self.receiver.engine();
        let (offset, len) = engine.message_range(&self.delivery);
        let address = engine.memory().bytes(offset, len);
        // SAFETY: `len` bytes of the mapping, checked by `bytes`, which lives as long as the receiver that the message
        // borrows; slot and block name this participant, so peers that follow the protocol leave them alone, and one that
        // does not could as well change this process's own memory (same uid; see SECURITY.md).
        unsafe { std::slice::from_raw_parts(address.as_ptr(), len) }
    }
}

impl AsRef<[u8]> for Message<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Message<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.holding {
            Holding::InPlace => self.receiver.release(self.delivery),
            Holding::Copy(_) => self.receiver.release_detached(None),
            Holding::Block(block) => self.receiver.release_detached(block),
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.delivery.len)
            .field("tag", &self.tag())
            .field("position", &self.position())
            .field("redelivered", &self.redelivered())
            .finish_non_exhaustive()
    }
}
