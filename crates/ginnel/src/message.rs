//! A message in hand.

use crate::receiver::Receiver;
use ginnel_core::Delivery;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

/// A received message. It derefs to its bytes, which lie in the link; dropping it releases its place.
///
/// On a link that drops the oldest, its place in the ring is free at once, so that a slow receiver holds nobody up: a small
/// message is then a copy, a larger one keeps its block.
pub struct Message<'a> {
    receiver: &'a Receiver,
    delivery: Delivery,
    /// Where its bytes are: in the link, or, if it left its slot and has no block, in a copy that this message owns.
    bytes: NonNull<u8>,
}

impl<'a> Message<'a> {
    #[inline(always)]
    pub(crate) fn in_place(receiver: &'a Receiver, delivery: Delivery) -> Self {
        let bytes = receiver.engine().memory().bytes(delivery.offset, delivery.len());
        Self { receiver, delivery, bytes }
    }

    pub(crate) fn detached(receiver: &'a Receiver, delivery: Delivery) -> Self {
        let mut message = Self::in_place(receiver, delivery);
        if delivery.is_inline() {
            let copy: Box<[u8]> = message.to_vec().into_boxed_slice();
            message.bytes = NonNull::from(Box::leak(copy)).cast();
        }
        receiver.detach(&mut message.delivery);
        message
    }

    #[cold]
    #[allow(unsafe_code)] // Frees the copy that `detached` leaked.
    fn end_detached(&mut self) {
        if self.delivery.is_inline() {
            let copy = NonNull::slice_from_raw_parts(self.bytes, self.delivery.len());
            // SAFETY: a detached inline message's bytes were leaked from a box of this length, and nobody frees them twice: this
            // runs once, when the message is dropped.
            drop(unsafe { Box::from_raw(copy.as_ptr()) });
        }
        self.receiver.release_detached(&self.delivery);
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
        // SAFETY: as many bytes of the mapping, checked when this message was made, which lives as long as the receiver that it
        // borrows; slot and block are this participant's, so peers that follow the protocol leave them alone, and one that
        // does not could as well change this process's own memory (same uid; see SECURITY.md). Or a copy of its own.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.delivery.len()) }
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
        if self.delivery.is_detached() {
            self.end_detached();
        } else {
            self.receiver.release(&self.delivery);
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
