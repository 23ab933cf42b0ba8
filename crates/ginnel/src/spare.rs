//! Buffers that come back: a message that is a copy gives its memory back to the handle that it was received with, and the next copy uses it again.
//!
//! ```text
//! Spare, in a handle      at most one buffer that is not in use
//! a buffer's memory       home: its Spare, while it is lent | room, bytes | the bytes
//!                                                                         ^ all that its message knows
//! ```
//!
//! [I1] A buffer has one owner: a [`Buffer`], or the message that its bytes were [lent](Buffer::lend) to.
//! [I2] A message ends before the handle that it borrows, and in the same thread, as neither a message nor a reference to a handle can go to another. So
//! the home of a buffer is there when it comes back, and nobody else uses it then. A message that is forgotten leaks its buffer.
#![allow(unsafe_code)] // Memory with a head before its bytes, so that a message of one pointer can give it back.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

/// What lies before the bytes.
#[repr(C, align(16))]
struct Head {
    home: *const Spare,
    room: usize,
}

/// Memory for a copy; none yet when it is made.
#[derive(Default)]
pub(crate) struct Buffer(Option<NonNull<Head>>);

// SAFETY: it owns its memory [I1]; `home` is used while it is lent only.
unsafe impl Send for Buffer {}

/// A place for a buffer that is not in use.
#[derive(Default)]
pub(crate) struct Spare(Cell<Buffer>);

impl Spare {
    /// The buffer, or an empty one.
    #[inline(always)]
    pub(crate) fn take(&self) -> Buffer {
        self.0.take()
    }
}

impl Buffer {
    /// Its bytes, at least so many: the same memory, if that has room. Room comes in steps of 16 bytes.
    #[inline(always)]
    pub(crate) fn with_room(&mut self, len: usize) -> &mut [MaybeUninit<u8>] {
        let head = match self.0 {
            Some(head) if room(head) >= len => head,
            _ => self.replace(len),
        };
        // SAFETY: so many bytes follow the head, which are of nobody else [I1]; whatever is in them is a `MaybeUninit`.
        unsafe { std::slice::from_raw_parts_mut(bytes(head).cast().as_ptr(), room(head)) }
    }

    #[cold]
    #[inline(never)]
    fn replace(&mut self, len: usize) -> NonNull<Head> {
        drop(std::mem::take(self));
        let room = len.max(1).next_multiple_of(align_of::<Head>());
        let layout = layout(room);
        // SAFETY: the layout has a head at least.
        let Some(head) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let head = head.cast::<Head>();
        // SAFETY: there is memory for it, aligned as it wants.
        unsafe { head.write(Head { home: std::ptr::null(), room }) };
        self.0 = Some(head);
        head
    }

    /// Gives the bytes away, until they are [given back](give_back).
    ///
    /// # Panics
    /// If it never had room.
    #[inline(always)]
    pub(crate) fn lend(self, home: &Spare) -> NonNull<u8> {
        let Some(head) = ManuallyDrop::new(self).0 else { unreachable!("a buffer without room") };
        // SAFETY: this owns it [I1].
        unsafe { (*head.as_ptr()).home = home };
        bytes(head)
    }
}

impl Drop for Buffer {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(head) = self.0 {
            free(head);
        }
    }
}

/// Takes back what was lent. If its home has a buffer already, as several messages were in hand, that one goes.
///
/// # Safety
/// The bytes were [lent](Buffer::lend), were not given back since, and nobody refers to them any more; their home is there, and this is the thread that uses it [I2].
#[inline(always)]
pub(crate) unsafe fn give_back(bytes: NonNull<u8>) {
    // SAFETY: the head lies before the bytes, in the same memory.
    let head = unsafe { bytes.cast::<Head>().sub(1) };
    // SAFETY: it was written when the memory was made, and nobody else refers to it [I1].
    let home = unsafe { (*head.as_ptr()).home };
    // SAFETY: the caller promises that it is there, in this thread.
    unsafe { &*home }.0.set(Buffer(Some(head)));
}

#[inline(always)]
fn room(head: NonNull<Head>) -> usize {
    // SAFETY: every head in this file is of a buffer whose owner calls [I1].
    unsafe { (*head.as_ptr()).room }
}

#[inline(always)]
fn bytes(head: NonNull<Head>) -> NonNull<u8> {
    // SAFETY: at least one byte follows the head.
    unsafe { head.add(1) }.cast()
}

#[cold]
#[inline(never)]
fn free(head: NonNull<Head>) {
    let layout = layout(room(head));
    // SAFETY: it was allocated with this layout, and its owner calls as it ends [I1].
    unsafe { dealloc(head.as_ptr().cast(), layout) };
}

/// # Panics
/// If no memory has so much room.
fn layout(room: usize) -> Layout {
    let whole =
        size_of::<Head>().checked_add(room).and_then(|size| Layout::from_size_align(size, align_of::<Head>()).ok());
    whole.expect("a buffer that fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(spare: &Spare, len: usize) -> NonNull<u8> {
        let mut buffer = spare.take();
        let room = buffer.with_room(len);
        assert!(room.len() >= len && room.len() % 16 == 0);
        room.fill(MaybeUninit::new(7));
        buffer.lend(spare)
    }

    fn back(bytes: NonNull<u8>) {
        // SAFETY: the tests give back once what they were lent, while its home is there.
        unsafe { give_back(bytes) };
    }

    #[test]
    fn a_buffer_comes_back_and_is_used_again() {
        let spare = Spare::default();
        let first = lent(&spare, 100);
        back(first);
        for len in [0, 1, 100, 112] {
            let again = lent(&spare, len);
            assert_eq!(again, first, "{len} bytes");
            back(again);
        }
        let mut larger = spare.take();
        assert_eq!(larger.with_room(113).len(), 128);
    }

    #[test]
    fn several_may_be_lent_at_once() {
        let spare = Spare::default();
        let all: Vec<_> = (0..5).map(|len| lent(&spare, len)).collect();
        assert!((1..5).all(|at| !all[..at].contains(&all[at])));
        all.iter().for_each(|bytes| back(*bytes));
        assert_eq!(lent(&spare, 3), all[4], "the last that came back stays");
        back(all[4]);
    }
}
