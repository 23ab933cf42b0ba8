//! A value on its way through a link: its address, as 8 bytes.
//!
//! Unsafe: an address is turned back into the box that it was made of. That is sound as the address is a box's that nobody else has [I1@lib], of this type [I2@lib], and no
//! address is received twice [I3@lib]: see the crate's invariants.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;

use ginnel::Message;

/// The address of a box that this word owns, until it is sent.
pub(crate) struct Word<T> {
    address: usize,
    owns: PhantomData<Box<T>>,
}

impl Word<()> {
    /// The length of a message.
    pub(crate) const BYTES: usize = size_of::<usize>();

    /// The word of a message, of whatever type: the message is not let go by that.
    ///
    /// # Panics
    /// If the message has another length, or was delivered before.
    pub(crate) fn address_of(message: &Message<'_>) -> usize {
        assert!(!message.redelivered(), "nobody died, and a message came again");
        usize::from_ne_bytes((**message).try_into().expect("a message of another length"))
    }
}

impl<T> Word<T> {
    /// Boxes a value.
    pub(crate) fn of(value: T) -> Self {
        Self { address: Box::into_raw(Box::new(value)).expose_provenance(), owns: PhantomData }
    }

    /// The word of a message of the link that carries `T`.
    ///
    /// # Safety
    /// The address was received from a link whose values are `T`, and nobody has used it since.
    pub(crate) unsafe fn at(address: usize) -> Self {
        Self { address, owns: PhantomData }
    }

    /// What is sent.
    pub(crate) fn bytes(&self) -> [u8; size_of::<usize>()] {
        self.address.to_ne_bytes()
    }

    /// The box is whose the message is.
    pub(crate) fn was_sent(self) {}

    /// The value, out of its box.
    pub(crate) fn value(self) -> T {
        let address = ptr::with_exposed_provenance_mut::<T>(self.address);
        // SAFETY: [I1@lib] `of` leaked a box at this address, [I2@lib] of a `T`, and [I3@lib] this word, which is used up, is all that has it.
        *unsafe { Box::from_raw(address) }
    }
}
