//! `mmap(2)`: a shared mapping of a file, as an owned range of addresses.
#![allow(unsafe_code)] // Maps and unmaps ranges; each is owned by one value, which unmaps exactly what it mapped.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// A shared mapping, unmapped when dropped. What lies in it is another process's business too: there are no references here.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of addresses belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; the methods only read the two fields.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file from its start, shared, readable, and writable if asked.
    ///
    /// # Errors
    /// The errno: `ENOMEM` where the address space is limited (`ulimit -v`).
    pub fn of_file(file: BorrowedFd<'_>, len: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        Self::map(file, len, protection)
    }

    /// Maps one page of a file without any access, only to keep its description open.
    pub(crate) fn holding(file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::map(file, 1, ProtFlags::empty())
    }

    fn map(file: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses an unused range, so no memory of this program is replaced.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::FAULT)?;
        Ok(Self { base, len })
    }

    /// `madvise(2)` with `MADV_DONTFORK`: a forked child does not get this range.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping's; the advice changes nothing in this process.
        Ok(unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontFork) }?)
    }

    /// `madvise(2)` with `MADV_POPULATE_WRITE`: pages in a range now, instead of one fault at a time. A hint: failure is ignored.
    pub fn populate(&self, offset: usize, len: usize) {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return;
        }
        // SAFETY: offset lies within the mapping, as just checked.
        let start = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: the range lies within the mapping, and its contents stay as they are.
        let _ = unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxPopulateWrite) };
    }

    /// The first address.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes; a mapping has some.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped only here.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
