//! An anonymous memory region that a process shares with the children it forks.
//!
//! Not a link: it has no name, no header of its own and nobody checks anything. The raw baselines and the start gate lie
//! in one.
//!
//! Unsafe here maps and unmaps. The argument: the region owns its mapping alone, unmaps it once, when the last `Arc` of
//! this process goes, and hands out raw pointers only; who follows one holds an `Arc` of the region.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::Failure;

/// What is kept apart so that no two writers share a line, nor the pair of lines that a prefetcher takes together.
pub(crate) const LINE: usize = 128;

/// A value alone on its line.
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// Zeroed memory, shared with every child forked after its creation.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the region is only an address range; what is read and written in it is the business of those who follow its
// pointers, in this process exactly as across processes.
unsafe impl Send for Region {}
// SAFETY: no method of the region touches its memory through a shared reference.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes, committed at once.
    pub(crate) fn new(len: usize) -> Result<Arc<Self>, Failure> {
        let len = len.next_multiple_of(4096);
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a null hint lets the kernel choose a range that nothing uses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let base = base.map_err(|errno| Failure::new(format_args!("mapping {len} shared bytes: {errno}")))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| Failure::new("mmap returned address zero"))?;
        Ok(Arc::new(Self { base, len }))
    }

    /// Fills this process's page tables for the whole region: a fork copies no entries of shared mappings, so each child
    /// would take its page faults while it is measured. A kernel before 5.14 refuses, and the warm-up does it.
    pub(crate) fn populate(&self) {
        // SAFETY: the advice only faults pages of this mapping in; it changes neither contents nor protection.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxPopulateWrite) };
    }

    /// A word of the region, zero at first, which all who share it read and write as an atomic.
    ///
    /// # Panics
    ///
    /// As [`Self::at`].
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the word lies in the mapping, which `self` keeps, and any bytes are a valid atomic.
        unsafe { self.at(offset).as_ref() }
    }

    /// The address of the `T` at `offset` bytes.
    ///
    /// # Panics
    ///
    /// When it would not lie inside, or not be aligned.
    pub(crate) fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.len), "offset {offset} outside a region of {} bytes", self.len);
        assert!(offset % align_of::<T>() == 0, "offset {offset} is not aligned");
        // SAFETY: `offset` was just found to lie inside the mapping.
        let address = unsafe { self.base.add(offset) };
        address.cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what `mmap` returned, and no `Arc` of the region is left to reach it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
