//! Bytes that another process may be writing right now, read and written without a reference to them.
//!
//! A `&[u8]` promises that nothing changes behind it; no mapping of a peer's memory can keep that promise, so [`Shared`] gives none. It
//! loads a value once, and what the caller then checks is what the caller uses. This is the idea of vm-memory's `VolatileSlice`, with
//! relaxed atomic operations in place of volatile ones.
//!
//! - `[I1]` Each access lies within the range that the view was made for, and is aligned for its size; else it is a [`Fault`].
//! - `[I2]` Each access is a relaxed atomic operation, so that threads of this program which use the same bytes at once have no data
//!   race. Of operations of *different sizes* on the same bytes at once, the language says nothing; the processor makes each of
//!   them whole by itself. A copy is a sequence of such operations, down to single bytes: a reader may see any part of a concurrent copy.
//!   What must be seen whole is loaded and stored, not copied.
//! - `[I3]` Nothing here orders one access against another. Publish with an atomic of your own ([`Shared::atomic_u32`]), release and
//!   acquire, or by any system call that hands over (a semaphore, a futex, a message).
//!
//! A file that a peer makes shorter takes its pages away: an access then raises `SIGBUS`. A [`memfd`](crate::memfd) with the seal
//! `SHRINK` cannot be made shorter.
#![allow(unsafe_code)] // Turns offsets into addresses; each is checked against the length of the view first.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A view of shared bytes; see the module.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    memory: PhantomData<&'a AtomicU8>,
}

// SAFETY: all access is by atomic operations; the range belongs to the process, not to a thread.
unsafe impl Send for Shared<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Shared<'_> {}

/// Why an access did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It would leave the view.
    OutOfBounds {
        /// Where it began.
        offset: usize,
        /// Bytes that it wanted.
        bytes: usize,
        /// Bytes that the view has.
        len: usize,
    },
    /// Its address is no multiple of its size.
    Misaligned {
        /// Where it began.
        offset: usize,
        /// What the address must be a multiple of.
        align: usize,
    },
    /// The memory may only be read.
    ReadOnly,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { offset, bytes, len } => {
                write!(f, "{bytes} bytes at offset {offset} do not lie in shared memory of {len} bytes")
            }
            Self::Misaligned { offset, align } => write!(f, "offset {offset} is not aligned to {align} bytes"),
            Self::ReadOnly => f.write_str("the shared memory was mapped for reading only"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = if fault == Fault::ReadOnly { io::ErrorKind::PermissionDenied } else { io::ErrorKind::InvalidInput };
        Self::new(kind, fault)
    }
}

mod sealed {
    use std::ptr::NonNull;

    /// How a value goes to and from shared memory.
    pub trait Access: Copy {
        /// # Safety
        /// `at` is readable and aligned for `Self`.
        unsafe fn load(at: NonNull<u8>) -> Self;
        /// # Safety
        /// `at` is writable and aligned for `Self`.
        unsafe fn store(at: NonNull<u8>, value: Self);
    }
}

/// A plain number that is loaded and stored in one piece: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, in the machine's byte order.
pub trait Word: sealed::Access {}

macro_rules! words {
    ($($word:ty, $bits:ty, $atomic:ty;)*) => { $(
        impl sealed::Access for $word {
            /// # Safety
            /// As the trait says: readable and aligned.
            #[inline]
            unsafe fn load(at: NonNull<u8>) -> Self {
                debug_assert!(at.cast::<$atomic>().is_aligned());
                // SAFETY: the caller says that it is readable and aligned, for the length of this call.
                let word = unsafe { at.cast::<$atomic>().as_ref() };
                // ORDERING: relaxed, [I3] of this module.
                Self::from_ne_bytes(word.load(Relaxed).to_ne_bytes())
            }
            /// # Safety
            /// As the trait says: writable and aligned.
            #[inline]
            unsafe fn store(at: NonNull<u8>, value: Self) {
                debug_assert!(at.cast::<$atomic>().is_aligned());
                // SAFETY: the caller says that it is writable and aligned, for the length of this call.
                let word = unsafe { at.cast::<$atomic>().as_ref() };
                // ORDERING: relaxed, [I3] of this module.
                word.store(<$bits>::from_ne_bytes(value.to_ne_bytes()), Relaxed);
            }
        }
        impl Word for $word {}
    )* };
}

words! {
    u8, u8, AtomicU8;
    u16, u16, AtomicU16;
    u32, u32, AtomicU32;
    u64, u64, AtomicU64;
    i8, u8, AtomicU8;
    i16, u16, AtomicU16;
    i32, u32, AtomicU32;
    i64, u64, AtomicU64;
    f32, u32, AtomicU32;
    f64, u64, AtomicU64;
}

/// The unit of short copies.
const WORD: usize = size_of::<u64>();

/// From this many bytes on the processor's own instruction copies faster than words do.
const BULK: usize = 512;

impl<'a> Shared<'a> {
    /// A view of a range of addresses; mappings of this crate make theirs by themselves.
    ///
    /// ```
    /// use std::{ptr::NonNull, sync::atomic::AtomicU64};
    /// let memory = AtomicU64::new(0);
    /// // SAFETY: the word outlives the view, and is only used as an atomic.
    /// let view = unsafe { ginnel_os::shared::Shared::new(NonNull::from(&memory).cast(), 8, true) };
    /// view.store(4, 0x0102_u16)?;
    /// assert_eq!(view.load::<u16>(4)?, 0x0102);
    /// # Ok::<(), ginnel_os::shared::Fault>(())
    /// ```
    ///
    /// # Safety
    /// For all of `'a` the range is mapped, readable, and writable if it says so; and no reference in this program, other than to
    /// atomics, covers any of it.
    pub unsafe fn new(base: NonNull<u8>, len: usize, writable: bool) -> Self {
        Self { base, len, writable, memory: PhantomData }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether stores are allowed.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The first address.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// A view of a part.
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`].
    pub fn range(&self, offset: usize, len: usize) -> Result<Self, Fault> {
        Ok(Self { base: self.at(offset, len)?, len, ..*self })
    }

    /// Loads one number.
    ///
    /// ```
    /// let mapping = ginnel_os::mmap::Mapping::anonymous(4096)?;
    /// let view = mapping.shared();
    /// view.store(8, -1.5_f64)?;
    /// assert_eq!(view.load::<f64>(8)?, -1.5);
    /// assert!(view.load::<f64>(4090).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], [`Fault::Misaligned`].
    #[inline]
    pub fn load<T: Word>(&self, offset: usize) -> Result<T, Fault> {
        let at = self.aligned::<T>(offset)?;
        // SAFETY: `aligned` has checked both, and the view is readable.
        Ok(unsafe { T::load(at) })
    }

    /// Stores one number.
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], [`Fault::Misaligned`], [`Fault::ReadOnly`].
    #[inline]
    pub fn store<T: Word>(&self, offset: usize, value: T) -> Result<(), Fault> {
        let at = self.for_writing()?.aligned::<T>(offset)?;
        // SAFETY: `aligned` has checked both, and the view is writable.
        unsafe { T::store(at, value) };
        Ok(())
    }

    /// The word at an offset as an atomic, for any ordering, and for a [`futex`](crate::futex).
    ///
    /// ```
    /// use std::sync::atomic::Ordering;
    /// let mapping = ginnel_os::mmap::Mapping::anonymous(4096)?;
    /// mapping.shared().atomic_u32(64)?.fetch_add(1, Ordering::AcqRel);
    /// assert_eq!(mapping.shared().load::<u32>(64)?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], [`Fault::Misaligned`]; [`Fault::ReadOnly`], as a store through it would be a `SIGSEGV`.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> Result<&'a AtomicU32, Fault> {
        let at = self.for_writing()?.aligned::<u32>(offset)?;
        // SAFETY: in bounds, aligned and writable, as just checked, for all of `'a`.
        Ok(unsafe { at.cast().as_ref() })
    }

    /// The same for 64 bits.
    ///
    /// # Errors
    /// As [`Self::atomic_u32`].
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> Result<&'a AtomicU64, Fault> {
        let at = self.for_writing()?.aligned::<u64>(offset)?;
        // SAFETY: in bounds, aligned and writable, as just checked, for all of `'a`.
        Ok(unsafe { at.cast().as_ref() })
    }

    /// Copies bytes out of the shared memory, all of `into`. They are a snapshot byte by byte, not as a whole.
    ///
    /// ```
    /// let mapping = ginnel_os::mmap::Mapping::anonymous(4096)?;
    /// mapping.shared().copy_in(3, b"hello")?;
    /// let mut bytes = [0; 5];
    /// mapping.shared().copy_out(3, &mut bytes)?;
    /// assert_eq!(&bytes, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`]; nothing was copied then.
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> Result<(), Fault> {
        let mut from = self.at(offset, into.len())?;
        if HAS_BULK && into.len() >= BULK {
            // SAFETY: the view covers so many readable bytes, and `into` is this call's alone.
            unsafe { bulk(from.as_ptr(), into.as_mut_ptr(), into.len()) };
            return Ok(());
        }
        let (lead, rest) = into.split_at_mut(lead(from, into.len()));
        let mut words = rest.chunks_exact_mut(WORD);
        for byte in lead {
            *byte = take(&mut from);
        }
        for word in &mut words {
            word.copy_from_slice(&take::<u64>(&mut from).to_ne_bytes());
        }
        for byte in words.into_remainder() {
            *byte = take(&mut from);
        }
        Ok(())
    }

    /// Copies bytes into the shared memory, all of `from`.
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], [`Fault::ReadOnly`]; nothing was copied then.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<(), Fault> {
        let mut into = self.for_writing()?.at(offset, from.len())?;
        if HAS_BULK && from.len() >= BULK {
            // SAFETY: the view covers so many writable bytes, and nothing writes to `from` while it is borrowed.
            unsafe { bulk(from.as_ptr(), into.as_ptr(), from.len()) };
            return Ok(());
        }
        let (lead, rest) = from.split_at(lead(into, from.len()));
        let words = rest.chunks_exact(WORD);
        let tail = words.remainder();
        for byte in lead {
            put(&mut into, *byte);
        }
        for word in words {
            put(&mut into, u64::from_ne_bytes(word.try_into().expect("a chunk has eight bytes")));
        }
        for byte in tail {
            put(&mut into, *byte);
        }
        Ok(())
    }

    /// Sets every byte of a range.
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], [`Fault::ReadOnly`]; nothing was written then.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) -> Result<(), Fault> {
        let mut into = self.for_writing()?.at(offset, len)?;
        let lead = lead(into, len);
        (0..lead).for_each(|_| put(&mut into, byte));
        (0..(len - lead) / WORD).for_each(|_| put(&mut into, u64::from_ne_bytes([byte; WORD])));
        (0..(len - lead) % WORD).for_each(|_| put(&mut into, byte));
        Ok(())
    }

    /// Copies bytes out into a new vector.
    ///
    /// # Errors
    /// [`Fault::OutOfBounds`], before anything is allocated.
    pub fn to_vec(&self, offset: usize, len: usize) -> Result<Vec<u8>, Fault> {
        self.at(offset, len)?;
        let mut bytes = vec![0; len];
        self.copy_out(offset, &mut bytes)?;
        Ok(bytes)
    }

    #[inline]
    fn for_writing(&self) -> Result<&Self, Fault> {
        if self.writable { Ok(self) } else { Err(Fault::ReadOnly) }
    }

    #[inline]
    fn aligned<T>(&self, offset: usize) -> Result<NonNull<u8>, Fault> {
        let at = self.at(offset, size_of::<T>())?;
        // A word is atomic when it is aligned to its size, which is more than the ABI asks on some machines.
        let align = size_of::<T>();
        if at.addr().get() % align == 0 { Ok(at) } else { Err(Fault::Misaligned { offset, align }) }
    }

    #[inline]
    fn at(&self, offset: usize, bytes: usize) -> Result<NonNull<u8>, Fault> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.len) {
            return Err(Fault::OutOfBounds { offset, bytes, len: self.len });
        }
        // SAFETY: the offset lies within the range, or at its end, as just checked.
        Ok(unsafe { self.base.add(offset) })
    }
}

/// Bytes until an address is aligned for words; at most `len`.
fn lead(at: NonNull<u8>, len: usize) -> usize {
    (at.addr().get().wrapping_neg() % WORD).min(len)
}

/// Loads at a place that [`Shared::at`] has checked, and goes on by its size. Only for the loops above, which count the same bytes.
#[inline]
fn take<T: Word>(from: &mut NonNull<u8>) -> T {
    // SAFETY: the loops stay within the range that was checked, and come to words only when aligned.
    let value = unsafe { T::load(*from) };
    // SAFETY: within the range, or at its end.
    *from = unsafe { from.add(size_of::<T>()) };
    value
}

/// The same for a store.
#[inline]
fn put<T: Word>(into: &mut NonNull<u8>, value: T) {
    // SAFETY: the loops stay within the range that was checked, and come to words only when aligned.
    unsafe { T::store(*into, value) };
    // SAFETY: within the range, or at its end.
    *into = unsafe { into.add(size_of::<T>()) };
}

/// Whether [`bulk`] is there.
const HAS_BULK: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// `rep movsb`: copies bytes that others may write at the same time, as fast as `memcpy` does, which may not be used for them.
///
/// It is assembly because the language has no such copy. What it is held to is what a loop over relaxed atomic bytes may do: each byte is
/// loaded once and stored once, and no value of them decides where.
///
/// # Safety
/// `from` is readable and `into` writable for `len` bytes; of the two, what is not shared memory is borrowed for as long.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn bulk(from: *const u8, into: *mut u8, len: usize) {
    // SAFETY: the caller gives both ranges; the direction flag is clear on entry, as the ABI has it, and no stack is used.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") into => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Elsewhere words are copied.
///
/// # Safety
/// None is needed, as it is never called.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn bulk(_: *const u8, _: *mut u8, _: usize) {
    unreachable!("HAS_BULK is false");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmap::Mapping;

    #[test]
    fn copies_at_every_offset_and_length_touch_exactly_their_bytes() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared();
        for (offset, len) in (0..17).flat_map(|offset| (0..40).map(move |len| (offset, len))) {
            view.fill(0, 64, 0xee).unwrap();
            let bytes: Vec<u8> = (1..=len as u8).collect();
            view.copy_in(offset, &bytes).unwrap();
            let mut expected = vec![0xee; 64];
            expected[offset..offset + len].copy_from_slice(&bytes);
            assert_eq!(view.to_vec(0, 64).unwrap(), expected, "in: offset {offset}, length {len}");
            let mut out = vec![0; len];
            view.copy_out(offset, &mut out).unwrap();
            assert_eq!(out, bytes, "out: offset {offset}, length {len}");
            view.fill(offset, len, 0x11).unwrap();
            expected[offset..offset + len].fill(0x11);
            assert_eq!(view.to_vec(0, 64).unwrap(), expected, "fill: offset {offset}, length {len}");
        }
    }

    #[test]
    fn what_leaves_the_view_is_a_fault() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared().range(0, 100).unwrap();
        assert_eq!(view.load::<u64>(88).unwrap(), 0);
        assert_eq!(view.load::<u64>(96), Err(Fault::OutOfBounds { offset: 96, bytes: 8, len: 100 }));
        for offset in [100, 101, usize::MAX, usize::MAX - 7, 1 << 63] {
            assert!(matches!(view.load::<u8>(offset), Err(Fault::OutOfBounds { .. })));
            assert!(matches!(view.store(offset, 1u64), Err(Fault::OutOfBounds { .. })));
            assert!(matches!(view.copy_in(offset, &[1]), Err(Fault::OutOfBounds { .. })));
            assert!(view.atomic_u32(offset).is_err() && view.range(offset, 1).is_err());
        }
        assert!(view.to_vec(0, 1 << 63).is_err() && view.fill(1, usize::MAX, 0).is_err());
        assert!(view.copy_in(100, &[]).is_ok() && view.range(100, 0).unwrap().is_empty());
        assert_eq!(mapping.shared().to_vec(0, 4096).unwrap(), vec![0; 4096]);
    }

    #[test]
    fn alignment_is_of_the_address_not_of_the_offset() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let odd = mapping.shared().range(1, 64).unwrap();
        assert_eq!(odd.load::<u32>(0), Err(Fault::Misaligned { offset: 0, align: 4 }));
        assert_eq!(odd.load::<u32>(3).unwrap(), 0);
        assert!(odd.atomic_u64(7).is_ok() && odd.atomic_u64(8).is_err());
        assert!(odd.load::<u8>(0).is_ok());
    }

    #[test]
    fn every_kind_of_number_comes_back() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared();
        view.store(0, -2i8).unwrap();
        view.store(2, -3i16).unwrap();
        view.store(4, f32::MIN).unwrap();
        view.store(8, i64::MIN).unwrap();
        assert_eq!((view.load::<i8>(0), view.load::<u8>(0)), (Ok(-2), Ok(254)));
        assert_eq!((view.load::<i16>(2), view.load::<f32>(4)), (Ok(-3), Ok(f32::MIN)));
        assert_eq!((view.load::<i64>(8), view.load::<u64>(8)), (Ok(i64::MIN), Ok(1 << 63)));
    }

    #[test]
    fn copies_around_the_bulk_limit_touch_exactly_their_bytes() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared();
        for (offset, len) in (0..9).flat_map(|offset| (BULK - 2..BULK + 3).map(move |len| (offset, len))) {
            view.fill(0, 1024, 0xee).unwrap();
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            view.copy_in(offset, &bytes).unwrap();
            let mut expected = vec![0xee; 1024];
            expected[offset..offset + len].copy_from_slice(&bytes);
            assert_eq!(view.to_vec(0, 1024).unwrap(), expected, "in: offset {offset}, length {len}");
            let mut out = vec![0x77; len + 2];
            view.copy_out(offset, &mut out[1..=len]).unwrap();
            assert_eq!((out[0], &out[1..=len], out[len + 1]), (0x77, &bytes[..], 0x77), "out: {offset}, {len}");
        }
        let short = view.range(0, BULK).unwrap();
        assert!(short.copy_out(1, &mut [0; BULK]).is_err() && short.copy_in(1, &[0; BULK]).is_err());
    }

    #[test]
    fn threads_see_whole_words() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20_000u64).for_each(|n| view.store(8, u64::from_ne_bytes([n as u8; 8])).unwrap()));
            for _ in 0..20_000 {
                let word = view.load::<u64>(8).unwrap().to_ne_bytes();
                assert!(word.iter().all(|byte| *byte == word[0]), "{word:?}");
            }
        });
    }
}
