//! `mmap(2)`: a shared mapping of a file, as an owned range of addresses.
//!
//! What lies in it is another process's business too: there are no references to it here. [`Mapping::shared`] gives a view that loads,
//! stores and copies without any; see [`shared`](crate::shared).
#![allow(unsafe_code)] // Maps and unmaps ranges; each is owned by one value, which unmaps exactly what it mapped.

use crate::explain::explain;
use crate::shared::Shared;
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// A shared mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    access: Access,
}

/// What the pages allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Nothing,
    Read,
    ReadWrite,
}

impl Access {
    fn of(writable: bool) -> Self {
        if writable { Self::ReadWrite } else { Self::Read }
    }

    fn protection(self) -> ProtFlags {
        match self {
            Self::Nothing => ProtFlags::empty(),
            Self::Read => ProtFlags::READ,
            Self::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

/// Which pages were got, where huge ones were asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Pages {
    /// Huge ones, of this many bytes each.
    Huge {
        /// Bytes of a page.
        bytes: usize,
    },
    /// Ordinary ones: `why` says what stood in the way of huge ones, and is `None` if nobody asked.
    Normal {
        /// The reason, with the remedy.
        why: Option<io::Error>,
    },
}

impl Pages {
    /// Whether they are huge.
    pub fn are_huge(&self) -> bool {
        matches!(self, Self::Huge { .. })
    }
}

/// `sysconf(3)`: bytes of an ordinary page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Bytes of a huge page as the kernel chooses it where no size is named (`Hugepagesize` in `/proc/meminfo`); `None` if it has none.
pub fn huge_page_size() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

impl Mapping {
    /// `mmap(2)`: `len` bytes of a file from its start, shared, readable, and writable if asked.
    ///
    /// # Errors
    /// The errno: `ENOMEM` where the address space is limited (`ulimit -v`), `EINVAL` for no bytes, `EACCES` for a descriptor that does
    /// not allow it, `EPERM` for a sealed one, `ENODEV` for one that cannot be mapped.
    pub fn of_file(file: BorrowedFd<'_>, len: usize, writable: bool) -> io::Result<Self> {
        Self::map(file, 0, len, Access::of(writable))
    }

    /// `mmap(2)` from an offset, which is a multiple of the page size.
    ///
    /// ```
    /// use ginnel_os::mmap::{Mapping, page_size};
    /// use std::os::fd::AsFd;
    /// let memory = ginnel_os::memfd::create("example", 2 * page_size() as u64, Default::default())?;
    /// let second = Mapping::of_range(memory.as_fd(), page_size() as u64, page_size(), true)?;
    /// second.shared().store(0, 7u32)?;
    /// let both = Mapping::of_file(memory.as_fd(), 2 * page_size(), false)?;
    /// assert_eq!(both.shared().load::<u32>(page_size())?, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::of_file`]; `EINVAL` also for another offset.
    pub fn of_range(file: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> io::Result<Self> {
        Self::map(file, offset, len, Access::of(writable))
    }

    /// `mmap(2)` twice: `len` bytes of a file from its start, and once more, right behind, the bytes from `ring` on to `len`. Those are a ring that
    /// has no end: what passes its last byte goes on at its first.
    ///
    /// ```
    /// use ginnel_os::mmap::{Mapping, page_size};
    /// use std::os::fd::AsFd;
    /// let page = page_size();
    /// let memory = ginnel_os::memfd::create("example", 2 * page as u64, Default::default())?;
    /// let twice = Mapping::with_ring(memory.as_fd(), 2 * page, page, true)?;
    /// assert_eq!(twice.len(), 3 * page);
    /// twice.shared().copy_in(2 * page - 2, b"over the end")?;
    /// assert_eq!(twice.shared().to_vec(page, 10)?, b"er the end");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::of_file`]; `EINVAL` also if the ring does not begin in the file, or at no multiple of the page size.
    pub fn with_ring(file: BorrowedFd<'_>, len: usize, ring: usize, writable: bool) -> io::Result<Self> {
        let invalid = rustix::io::Errno::INVAL;
        let again =
            len.checked_sub(ring).filter(|again| *again > 0 && ring % page_size() == 0 && len % page_size() == 0);
        let again = again.ok_or(invalid)?;
        let all = len.checked_add(again).ok_or(invalid)?;
        let access = Access::of(writable);
        // The range is reserved as a whole, by the file's first pages, so that nothing else can get between the two.
        let mapping = Self::map(file, 0, all, access)?;
        // SAFETY: within the range, as `len + again` is its length.
        let place = unsafe { mapping.base.as_ptr().add(len) }.cast();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces pages of the range that was just mapped, which nobody has seen yet.
        unsafe { rustix::mm::mmap(place, again, access.protection(), flags, file, ring as u64) }?;
        Ok(mapping)
    }

    /// `mmap(2)` with `MAP_ANONYMOUS`: zeroed memory without a file, which this process shares with the children that it forks.
    ///
    /// # Errors
    /// The errno: `ENOMEM`, `EINVAL` for no bytes.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        Self::map_anonymous(len, MapFlags::empty())
    }

    /// `mmap(2)` with `MAP_HUGETLB`: the same in huge pages if there are any free; else in ordinary ones, and it says why. The length is rounded up to whole pages.
    ///
    /// ```
    /// let (mapping, pages) = ginnel_os::mmap::Mapping::anonymous_huge(1 << 20)?;
    /// assert!(mapping.len() >= 1 << 20);
    /// if let ginnel_os::mmap::Pages::Normal { why: Some(why) } = pages {
    ///     println!("no huge pages: {why}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::anonymous`].
    pub fn anonymous_huge(len: usize) -> io::Result<(Self, Pages)> {
        let Some((bytes, rounded)) = huge_page_size().and_then(|b| Some((b, len.checked_next_multiple_of(b)?))) else {
            return Ok((Self::anonymous(len)?, no_huge_pages(rustix::io::Errno::OPNOTSUPP.into())));
        };
        match Self::map_anonymous(rounded, MapFlags::HUGETLB) {
            Ok(mapping) => Ok((mapping, Pages::Huge { bytes })),
            Err(why) => Ok((Self::anonymous(len)?, no_huge_pages(why))),
        }
    }

    /// Maps one page of a file without any access, only to keep its description open.
    pub(crate) fn holding(file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::map(file, 0, 1, Access::Nothing)
    }

    fn map(file: BorrowedFd<'_>, offset: u64, len: usize, access: Access) -> io::Result<Self> {
        let protection = access.protection();
        // SAFETY: the kernel chooses an unused range, so no memory of this program is replaced.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, offset) }?;
        Self::owning(base, len, access)
    }

    fn map_anonymous(len: usize, more: MapFlags) -> io::Result<Self> {
        let (access, flags) = (Access::ReadWrite, MapFlags::SHARED | more);
        // SAFETY: the kernel chooses an unused range, so no memory of this program is replaced.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access.protection(), flags) }?;
        Self::owning(base, len, access)
    }

    fn owning(base: *mut std::ffi::c_void, len: usize, access: Access) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::FAULT)?;
        Ok(Self { base, len, access })
    }

    /// The bytes, for loads, stores and copies; see [`shared`](crate::shared).
    pub fn shared(&self) -> Shared<'_> {
        let len = if self.access == Access::Nothing { 0 } else { self.len };
        // SAFETY: the range stays mapped while `self` is borrowed, allows what is said, and no reference to it is ever made.
        unsafe { Shared::new(self.base, len, self.access == Access::ReadWrite) }
    }

    /// `madvise(2)` with `MADV_DONTFORK`: a forked child does not get this range.
    pub(crate) fn exclude_from_fork(&self) -> io::Result<()> {
        self.advise(Advice::LinuxDontFork)
    }

    /// `madvise(2)` with `MADV_HUGEPAGE`: the kernel may back the range with huge pages where it can put them together, now or later. For
    /// files of `/dev/shm` and for [`memfd`](crate::memfd) it heeds this if `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says so.
    ///
    /// # Errors
    /// The errno: `EINVAL` for a kernel without transparent huge pages.
    pub fn prefer_huge_pages(&self) -> io::Result<()> {
        self.advise(Advice::LinuxHugepage)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this mapping's; neither advice changes what it holds in this process.
        Ok(unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) }?)
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

    /// `mlock(2)`: every page is brought in, and stays in memory until the mapping is dropped.
    ///
    /// # Errors
    /// `ENOMEM` or `EPERM` when `RLIMIT_MEMLOCK` is met, `EAGAIN` when memory is short; the text says what raises the limit.
    pub fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping's, and its contents stay as they are.
        let done = unsafe { rustix::mm::mlock(self.base.as_ptr().cast(), self.len) };
        done.map_err(|e| {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
            let limit = limit.map_or("none".into(), |bytes| format!("{bytes} bytes"));
            let text = format!(
                "cannot lock {} bytes: {e}; the limit RLIMIT_MEMLOCK is {limit}, raise it with ulimit -l",
                self.len
            );
            explain(e.raw_os_error(), text)
        })
    }

    /// `msync(2)` with `MS_SYNC`: what was stored is written to the disk that the file lies on, if any.
    ///
    /// # Errors
    /// The errno: `EIO`.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping's, and its contents stay as they are.
        Ok(unsafe { rustix::mm::msync(self.base.as_ptr().cast(), self.len, MsyncFlags::SYNC) }?)
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

// SAFETY: a range of addresses belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; the methods only read the fields.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped only here.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Why there are ordinary pages where huge ones were asked for, with what helps.
pub(crate) fn no_huge_pages(why: io::Error) -> Pages {
    let errno = why.raw_os_error().unwrap_or(libc::EIO);
    let remedy = match errno {
        libc::ENOMEM | libc::ENOSPC => "none are free; reserve some with sysctl vm.nr_hugepages=N",
        libc::EPERM => "they need CAP_IPC_LOCK, or a group that is vm.hugetlb_shm_group",
        libc::EINVAL | libc::ENODEV | libc::ENOENT => "the kernel has none of this size; see /sys/kernel/mm/hugepages",
        _ => "the kernel has none",
    };
    Pages::Normal { why: Some(explain(errno, format!("no huge pages: {why}; {remedy}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_mapping_without_access_has_nothing_to_see() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mapping = Mapping::holding(file.as_fd()).unwrap();
        assert!(mapping.shared().is_empty() && !mapping.is_empty());
    }

    #[test]
    fn a_mapping_for_reading_refuses_stores() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mapping = Mapping::of_file(file.as_fd(), 4, false).unwrap();
        assert_eq!(mapping.shared().to_vec(0, 4).unwrap(), b"\x7fELF");
        assert_eq!(mapping.shared().store(0, 1u8), Err(crate::shared::Fault::ReadOnly));
        assert!(mapping.shared().atomic_u32(0).is_err() && mapping.shared().fill(0, 1, 0).is_err());
    }

    #[test]
    fn sizes_that_cannot_be_are_errors() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        for len in [0, 1 << 63, usize::MAX] {
            assert!(Mapping::of_file(file.as_fd(), len, false).is_err(), "{len}");
            assert!(Mapping::anonymous(len).is_err() && Mapping::anonymous_huge(len).is_err(), "{len}");
        }
        assert!(Mapping::of_range(file.as_fd(), 1, 1, false).is_err());
        assert!(Mapping::of_range(file.as_fd(), u64::MAX, 1, false).is_err());
    }

    #[test]
    fn a_ring_is_there_twice_or_refused() {
        let page = page_size();
        let memory = crate::memfd::create("test", 3 * page as u64, crate::memfd::Options::default()).unwrap();
        let mapping = Mapping::with_ring(memory.as_fd(), 3 * page, page, true).unwrap();
        assert_eq!(mapping.len(), 5 * page);
        for (write, read) in [(page, 3 * page), (3 * page - 8, 5 * page - 8), (4 * page, 2 * page)] {
            mapping.shared().store(write, write as u64).unwrap();
            assert_eq!(mapping.shared().load::<u64>(read).unwrap(), write as u64);
        }
        assert_eq!(mapping.shared().load::<u64>(0).unwrap(), 0);
        for (len, ring) in [(3 * page, 3 * page), (3 * page, 4 * page), (3 * page, 1), (3 * page - 1, page), (0, 0)] {
            assert!(Mapping::with_ring(memory.as_fd(), len, ring, true).is_err(), "{len} {ring}");
        }
        assert!(Mapping::with_ring(memory.as_fd(), usize::MAX / page * page, 0, true).is_err());
    }

    #[test]
    fn huge_pages_or_a_reason() {
        let (mapping, pages) = Mapping::anonymous_huge(1).unwrap();
        mapping.shared().store(0, 1u8).unwrap();
        match pages {
            Pages::Huge { bytes } => assert_eq!(mapping.len(), bytes),
            Pages::Normal { why } => assert!(why.unwrap().to_string().contains("huge pages")),
        }
    }

    #[test]
    fn locking_one_page_works_or_names_the_limit() {
        let mapping = Mapping::anonymous(page_size()).unwrap();
        if let Err(e) = mapping.lock() {
            assert!(e.to_string().contains("RLIMIT_MEMLOCK"), "{e}");
        }
        mapping.sync().unwrap();
    }
}
