//! A message in hand.

use crate::kernel::About;
use crate::shm::Receiver;
use crate::spare;
use ginnel_core::Delivery;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

/// A received message. It derefs to its bytes; dropping it releases its place.
///
/// On a shared-memory link the bytes lie in the link. On one that drops the oldest, its place in the ring is free at once, so that a
/// slow receiver holds nobody up: a small message is then a copy, a larger one keeps its block. Of a broadcast whose senders do not wait, each
/// is a copy. What comes from the kernel is a copy.
pub struct Message<'a> {
    /// In whose link the bytes lie; `None` if the kernel carried the message.
    receiver: Option<&'a Receiver>,
    held: Held,
}

/// What a receiver has in hand.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    delivery: Delivery,
    /// Where its bytes are: in the link, or, if it left its slot and has no block or never was in one, in a copy that its message owns.
    bytes: NonNull<u8>,
}

#[allow(unsafe_code)] // A pointer that is as good in any thread.
// SAFETY: the bytes are in the mapping, which all threads have, or in a copy that nobody else refers to.
unsafe impl Send for Held {}

impl Held {
    #[inline(always)]
    pub(crate) fn in_place(receiver: &Receiver, delivery: Delivery) -> Self {
        Self { delivery, bytes: receiver.engine().memory().bytes(delivery.offset, delivery.len()) }
    }

    /// One that [`Engine::try_pop_fast`](ginnel_core::Engine::try_pop_fast) took, which tells where its bytes are.
    #[inline(always)]
    pub(crate) fn short(delivery: Delivery, bytes: NonNull<u8>) -> Self {
        Self { delivery, bytes }
    }

    pub(crate) fn detached(receiver: &Receiver, delivery: Delivery) -> Self {
        let mut held = Self::in_place(receiver, delivery);
        if delivery.is_inline() {
            let copy: Box<[u8]> = held.slice().to_vec().into_boxed_slice();
            held.bytes = NonNull::from(Box::leak(copy)).cast();
        }
        receiver.detach(&mut held.delivery);
        held
    }

    /// Copied out of a broadcast, so many messages after the one before.
    pub(crate) fn heard(bytes: Vec<u8>, from: &Delivery, missed: u64) -> Self {
        let delivery = Delivery::elsewhere(from.position, from.len() as u32, from.tag(), missed as usize);
        Self { delivery, bytes: NonNull::from(Box::leak(bytes.into_boxed_slice())).cast() }
    }

    /// What the kernel carried.
    pub(crate) fn copied(bytes: Vec<u8>, position: u64, about: About) -> Self {
        // No mechanism carries more than 4 GiB at once: see the limits of each.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let delivery = Delivery::elsewhere(position, len, about.tag, about.priority as usize);
        let copy = bytes.into_boxed_slice();
        Self { delivery, bytes: NonNull::from(Box::leak(copy)).cast() }
    }

    /// Copied into a buffer that was lent, which comes back to the handle when the message ends.
    #[inline(always)]
    pub(crate) fn lent(bytes: NonNull<u8>, position: u64, len: usize, tag: u16) -> Self {
        Self { delivery: Delivery::lent(position, len as u32, tag), bytes }
    }

    #[inline(always)]
    #[allow(unsafe_code)] // Makes a slice of bytes that the protocol keeps still while its message is there.
    fn slice<'b>(&self) -> &'b [u8] {
        // SAFETY: as many bytes of the mapping, checked when this was made, which lives as long as the receiver that the message
        // borrows; slot and block are this participant's, so peers that follow the protocol leave them alone, and one that
        // does not could as well change this process's own memory (same uid; see SECURITY.md). Or a copy of its own. The callers,
        // all in this file, give the slice the lifetime of the message.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.delivery.len()) }
    }

    #[cold]
    #[inline(never)]
    #[allow(unsafe_code)] // Frees the copy that `detached` or `copied` leaked, or gives it back.
    fn end(self, receiver: Option<&Receiver>) {
        if receiver.is_none() && self.delivery.is_lent() {
            // SAFETY: no delivery of a region is without a receiver, so this is of `lent`, which was given what a buffer lent. A message borrows its
            // receiver, whose buffer it is, and stays in its thread; and this runs once, when the message is dropped.
            return unsafe { spare::give_back(self.bytes) };
        }
        if self.delivery.is_detached() && self.delivery.is_inline() {
            let copy = NonNull::slice_from_raw_parts(self.bytes, self.delivery.len());
            // SAFETY: a detached inline message's bytes were leaked from a box of this length, and nobody frees them twice: this
            // runs once, when the message is dropped.
            drop(unsafe { Box::from_raw(copy.as_ptr()) });
        }
        if let Some(receiver) = receiver {
            receiver.release(self.delivery);
        }
    }
}

impl<'a> Message<'a> {
    /// Of a receiver in whose link the bytes lie, or of none if the kernel carried it.
    #[inline(always)]
    pub(crate) fn new(receiver: Option<&'a Receiver>, held: Held) -> Self {
        Self { receiver, held }
    }

    /// What is in hand, without what ends it: the caller makes a message of it again.
    pub(crate) fn into_held(self) -> Held {
        std::mem::ManuallyDrop::new(self).held
    }

    /// What is in hand, of a message that the caller forgets.
    #[cfg(feature = "async")]
    pub(crate) fn held(&self) -> Held {
        self.held
    }

    /// What its sender tagged it with; 0 if it did not, or the mechanism carries no tags.
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        self.held.delivery.tag()
    }

    /// Whether a receiver that died held this message unread, or had not finished with it, before it was delivered here.
    #[inline(always)]
    pub fn redelivered(&self) -> bool {
        self.held.delivery.redelivered()
    }

    /// Its place in the link's order, from 0. Positions of claims that vanished with their sender are left out. Where the kernel carries the
    /// messages, its place among those that this receiver got.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        self.held.delivery.position
    }

    /// Of a broadcast whose senders do not wait ([`Full::DropOldest`](crate::Full::DropOldest)): how many messages this receiver missed
    /// between the one that it received before and this one, as they were overwritten. Exact: a message that its sender was killed in
    /// the middle of counts as one. Everywhere else 0.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// let receiver = ginnel::Receiver::open("shm:ticks?shape=broadcast&full=drop-oldest&capacity=4")?;
    /// let sender = ginnel::Sender::open("shm:ticks")?;
    /// (0..10u8).try_for_each(|tick| sender.send(&[tick]))?;
    /// let tick = receiver.recv()?;
    /// assert_eq!((tick[0], tick.missed()), (6, 6));
    /// assert_eq!(receiver.dropped(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn missed(&self) -> u64 {
        match self.receiver {
            Some(receiver) if receiver.counts_missed() => self.held.delivery.offset as u64,
            _ => 0,
        }
    }

    /// The priority with which it was sent, where the mechanism has priorities; 0 otherwise.
    pub fn priority(&self) -> u32 {
        match self.receiver {
            Some(_) => 0,
            None => self.held.delivery.offset as u32,
        }
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.held.slice()
    }
}

impl Drop for Message<'_> {
    /// Short, so that it is inlined and the message can stay in registers: it is never in memory between `recv` and here.
    #[inline(always)]
    fn drop(&mut self) {
        match self.receiver {
            Some(receiver) if self.held.delivery.is_plain() => receiver.release_plain(self.held.delivery.position),
            receiver => {
                let held = self.held;
                held.end(receiver);
            }
        }
    }
}

impl AsRef<[u8]> for Message<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.len())
            .field("tag", &self.tag())
            .field("position", &self.position())
            .field("redelivered", &self.redelivered())
            .finish_non_exhaustive()
    }
}
