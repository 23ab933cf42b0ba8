//! The memory of a link, on the heap and not a byte longer than its layout: what leaves it is in another allocation, or in none, and a sanitizer says so.
//!
//! Everything here goes through atomics, as a thread may scribble while others work.
#![allow(unsafe_code)] // Allocates a region and hands out its words, each checked against its length first.

use ginnel_core::Memory;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Zeroed memory that is freed when dropped.
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, which is only ever accessed through atomics here.
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn new(bytes: usize) -> Self {
        // Only as aligned as the engine asks for: a larger alignment would put room behind it.
        let layout = Layout::from_size_align(bytes, 16).expect("a small region");
        assert!(bytes > 0 && bytes % 8 == 0);
        // SAFETY: the layout is not empty.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        Self { base: NonNull::new(base).expect("memory"), layout }
    }

    /// Describes it to an engine, which must not outlive it.
    pub(crate) fn memory(&self) -> Memory {
        // SAFETY: the memory is there as long as `self` is; each caller keeps the two together.
        unsafe { Memory::new(self.base, self.layout.size()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The word at an offset, a multiple of 8.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < self.len(), "a word outside the region");
        // SAFETY: within the region, as just checked.
        let word = unsafe { self.base.add(offset) }.cast::<AtomicU64>();
        // SAFETY: it is aligned, as base and offset are, and zeroed memory is an atomic.
        unsafe { word.as_ref() }
    }

    /// Fills a range of whole words.
    ///
    /// # Panics
    /// If it leaves the region.
    pub(crate) fn fill(&self, offset: usize, len: usize, byte: u8) {
        let end = offset.checked_add(len).filter(|end| *end <= self.len()).expect("a range inside the region");
        (offset..end).step_by(8).for_each(|at| self.word(at).store(u64::from_ne_bytes([byte; 8]), Relaxed));
    }

    /// Reads each byte of a range, and adds them up.
    ///
    /// # Panics
    /// If it leaves the region.
    pub(crate) fn sum(&self, offset: usize, len: usize) -> u64 {
        let end = offset.checked_add(len).filter(|end| *end <= self.len()).expect("a message inside the region");
        let byte = |at| {
            // SAFETY: below the end, which was checked.
            let byte = unsafe { self.base.add(at) }.cast::<AtomicU8>();
            // SAFETY: as above; bytes need no alignment.
            u64::from(unsafe { byte.as_ref() }.load(Relaxed))
        };
        (offset..end).map(byte).sum()
    }

    /// Writes each byte of a range, as one who has it on loan.
    ///
    /// # Panics
    /// If it leaves the region.
    pub(crate) fn write(&self, offset: usize, len: usize, value: u8) {
        let end = offset.checked_add(len).filter(|end| *end <= self.len()).expect("a loan inside the region");
        for at in offset..end {
            // SAFETY: below the end, which was checked.
            let byte = unsafe { self.base.add(at) }.cast::<AtomicU8>();
            // SAFETY: as above; bytes need no alignment.
            unsafe { byte.as_ref() }.store(value, Relaxed);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody has it any more.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}
