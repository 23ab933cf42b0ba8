//! A message in hand.

use crate::receiver::Receiver;
use ginnel_core::Delivery;
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
    /// Slot and block are this message's.
    InPlace,
    /// Only the block is, if it has one; otherwise this is a copy.
    Detached(Option<Box<[u8]>>),
}

impl<'a> Message<'a> {
    #[inline(always)]
    pub(crate) fn in_place(receiver: &'a Receiver, delivery: Delivery) -> Self {
        Self { receiver, delivery, holding: Holding::InPlace }
    }

    pub(crate) fn detached(receiver: &'a Receiver, delivery: Delivery) -> Self {
        let mut message = Self::in_place(receiver, delivery);
        let copy = delivery.is_inline().then(|| message.to_vec().into_boxed_slice());
        receiver.detach(&mut message.delivery);
        message.holding = Holding::Detached(copy);
        message
    }

    /// What its sender tagged it with; 0 if it did not.
    pub fn tag(&self) -> u16 {
        self.delivery.tag()
    }

    /// Whether a receiver that died held this message unread, or had not finished with it, before it was delivered here.
    pub fn redelivered(&self) -> bool {
        self.delivery.redelivered()
    }

    /// Its place in the link's order, from 0. Positions of claims that vanished with their sender are left out.
    pub fn position(&self) -> u64 {
        self.delivery.position
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    #[inline(always)]
    #[allow(unsafe_code)] // Makes a slice of bytes that the protocol keeps still while this guard is there.
    fn deref(&self) -> &[u8] {
        if let Holding::Detached(Some(bytes)) = &self.holding {
            return bytes;
        }
        let len = self.delivery.len();
        let address = self.receiver.engine().memory().bytes(self.delivery.offset, len);
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
    #[inline(always)]
    fn drop(&mut self) {
        match self.holding {
            Holding::InPlace => self.receiver.release(&self.delivery),
            Holding::Detached(_) => self.receiver.release_detached(&self.delivery),
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.delivery.len())
            .field("tag", &self.tag())
            .field("position", &self.position())
            .field("redelivered", &self.redelivered())
            .finish_non_exhaustive()
    }
}
