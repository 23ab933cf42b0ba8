//! The memory of a link, and not a byte more: what leaves it is seen.
//!
//! ```text
//! in pages   | no access | region | no access |      any access outside is a fault, whichever instruction makes it: also those in assembly
//! on the heap  redzone   | region | redzone          `GINNEL_FED_REGION=heap`: AddressSanitizer says what was accessed, and by whom
//! ```
//! Everything here goes through atomics, as a thread may scribble while others work.
#![allow(unsafe_code)] // Allocates a region and hands out its words, each checked against its length first.

use ginnel_core::{Memory, PAGE};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Zeroed memory that is freed when dropped.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    on_heap: bool,
}

// SAFETY: it owns its memory, which is only ever accessed through atomics here.
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn new(len: usize) -> Self {
        assert!(len > 0 && len % PAGE == 0, "a region is made of pages");
        let on_heap = std::env::var_os("GINNEL_FED_REGION").is_some_and(|value| value == "heap");
        let base = if on_heap { allocated(len) } else { mapped(len) };
        Self { base, len, on_heap }
    }

    /// Describes it to an engine, which must not outlive it.
    pub(crate) fn memory(&self) -> Memory {
        // SAFETY: the memory is there as long as `self` is; each caller keeps the two together.
        unsafe { Memory::new(self.base, self.len) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
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

/// Only as aligned as the engine asks for: a larger alignment would put room behind it.
fn heap_layout(len: usize) -> Layout {
    Layout::from_size_align(len, 16).expect("a small region")
}

fn allocated(len: usize) -> NonNull<u8> {
    // SAFETY: the layout is not empty.
    let base = unsafe { std::alloc::alloc_zeroed(heap_layout(len)) };
    NonNull::new(base).expect("memory")
}

/// Between two pages that nobody may touch.
fn mapped(len: usize) -> NonNull<u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever there is room.
    let all = unsafe { libc::mmap(std::ptr::null_mut(), len + 2 * PAGE, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(all, libc::MAP_FAILED, "no address space");
    let base = all.cast::<u8>().wrapping_add(PAGE);
    // SAFETY: pages of the mapping that was just made.
    let made = unsafe { libc::mprotect(base.cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
    assert_eq!(made, 0, "no memory");
    NonNull::new(base).expect("an address behind the first page")
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.on_heap {
            // SAFETY: allocated with this layout, and nobody has it any more.
            return unsafe { std::alloc::dealloc(self.base.as_ptr(), heap_layout(self.len)) };
        }
        let all = self.base.as_ptr().wrapping_sub(PAGE);
        // SAFETY: the whole mapping, which nobody has any more.
        let unmapped = unsafe { libc::munmap(all.cast(), self.len + 2 * PAGE) };
        debug_assert_eq!(unmapped, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the checks of the region would have missed is a fault: this test is its own victim, in a child.
    #[test]
    fn what_leaves_the_region_is_a_fault() {
        const CHILD: &str = "GINNEL_FED_VICTIM";
        if std::env::var_os(CHILD).is_some() {
            let region = Region::new(PAGE);
            let outside = region.base.as_ptr().wrapping_add(region.len()).cast::<AtomicU8>();
            // SAFETY: none; that is what is tried.
            let _ = unsafe { &*outside }.load(Relaxed);
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"));
        child.args(["--exact", "region::tests::what_leaves_the_region_is_a_fault"]).env(CHILD, "1");
        let output = child.output().expect("a child");
        assert!(!output.status.success(), "nobody noticed: {output:?}");
    }
}
