//! `memfd_create(2)`: memory that is a file without a name, reached by whoever is handed its descriptor, and gone with the last of them;
//! and `F_ADD_SEALS` (`fcntl(2)`): promises about it that nobody, its maker included, can take back.
//!
//! | a seal | says | so that a peer who maps it |
//! |---|---|---|
//! | [`Seals::SHRINK`] | it gets no shorter | has no `SIGBUS` |
//! | [`Seals::GROW`] | it gets no longer | knows its size for good |
//! | [`Seals::WRITE`] | nobody writes any more | may check it once and then believe it |
//! | [`Seals::FUTURE_WRITE`] | only mappings that are writable now stay so | may only read, while the maker writes |
//! | [`Seals::EXEC`] | its mode does not change between executable and not | |
//! | [`Seals::SEAL`] | no more seals | |

use crate::explain::{explain, not_opened};
use crate::mmap::{Pages, huge_page_size, no_huge_pages};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest name, in bytes: `NAME_MAX` less the kernel's prefix `memfd:`.
pub const NAME_MAX: usize = 249;

/// What may be done with new memory later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether it takes seals (`MFD_ALLOW_SEALING`).
    pub sealing: bool,
    /// Whether `execve(2)` may run it.
    pub executable: bool,
}

/// It takes seals, and is never run.
impl Default for Options {
    fn default() -> Self {
        Self { sealing: true, executable: false }
    }
}

/// `memfd_create(2)` with `MFD_CLOEXEC`, and `ftruncate(2)` to `bytes`: zeroed memory, of which pages are taken as they are touched. The
/// name is for people (`/proc/PID/fd` shows it) and need not be unique.
///
/// Memory that is not [`Options::executable`] is made with `MFD_NOEXEC_SEAL`, and the other with `MFD_EXEC`, where the kernel knows them
/// (Linux 6.3); before that any can be run.
///
/// ```
/// use ginnel_os::{memfd::{self, Seals}, mmap::Mapping};
/// use std::os::fd::AsFd;
/// let memory = memfd::create("example", 4096, Default::default())?;
/// memfd::add_seals(memory.as_fd(), Seals::SHRINK | Seals::GROW)?;
/// let mapping = Mapping::of_file(memory.as_fd(), 4096, true)?;
/// mapping.shared().copy_in(0, b"no SIGBUS here")?;
/// assert!(memfd::seals(memory.as_fd())?.contains(Seals::SHRINK));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno: `EINVAL` for a name with a zero byte, one longer than [`NAME_MAX`], or a size of 2^63 and more; `EFBIG` for `RLIMIT_FSIZE`;
/// `EMFILE`; `EACCES` where `vm.memfd_noexec` is 2 and it shall be executable.
pub fn create(name: &str, bytes: u64, options: Options) -> io::Result<OwnedFd> {
    let memory = open(name, MemfdFlags::empty(), options).map_err(not_opened)?;
    rustix::fs::ftruncate(&memory, bytes)?;
    Ok(memory)
}

/// `memfd_create(2)` with `MFD_HUGETLB`, and `fallocate(2)`: the same in huge pages, all of them taken now; in ordinary ones if that cannot
/// be, and then it says why. The size is rounded up to whole huge pages. `page` is the bytes of one, a power of two; without it the kernel
/// chooses. Map huge pages as a whole ([`len`]): a part of one cannot be unmapped.
///
/// ```
/// let (memory, pages) = ginnel_os::memfd::create_huge("example", 1 << 20, None, Default::default())?;
/// println!("{pages:?}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`create`].
pub fn create_huge(name: &str, bytes: u64, page: Option<usize>, options: Options) -> io::Result<(OwnedFd, Pages)> {
    match try_huge(name, bytes, page, options) {
        Ok((memory, bytes)) => Ok((memory, Pages::Huge { bytes })),
        Err(why) => Ok((create(name, bytes, options)?, no_huge_pages(why.into()))),
    }
}

fn try_huge(name: &str, bytes: u64, page: Option<usize>, options: Options) -> Result<(OwnedFd, usize), Errno> {
    let size = page.or_else(huge_page_size).filter(|size| size.is_power_of_two()).ok_or(Errno::INVAL)?;
    let bytes = bytes.checked_next_multiple_of(size as u64).ok_or(Errno::INVAL)?;
    let which = page.map_or(0, |size| size.trailing_zeros() << libc::MAP_HUGE_SHIFT);
    let memory = open(name, MemfdFlags::HUGETLB | MemfdFlags::from_bits_retain(which), options)?;
    rustix::fs::ftruncate(&memory, bytes)?;
    loop {
        match rustix::fs::fallocate(&memory, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1)) {
            Err(Errno::INTR) => {}
            done => return done.map(|()| (memory, size)),
        }
    }
}

fn open(name: &str, more: MemfdFlags, options: Options) -> Result<OwnedFd, Errno> {
    let sealing = if options.sealing { MemfdFlags::ALLOW_SEALING } else { MemfdFlags::empty() };
    let plain = MemfdFlags::CLOEXEC | sealing | more;
    let running = if options.executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let memory = match rustix::fs::memfd_create(name, plain | running) {
        // Before Linux 6.3; or it is the name, and then it is refused again.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, plain)?,
        made => made?,
    };
    if !options.sealing {
        // NOEXEC_SEAL allows seals by itself. Memory that takes none already refuses this one too.
        let _ = rustix::fs::fcntl_add_seals(&memory, SealFlags::SEAL);
    }
    Ok(memory)
}

/// A set of seals; see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seals(u32);

impl Seals {
    /// `F_SEAL_SEAL`.
    pub const SEAL: Self = Self(SealFlags::SEAL.bits());
    /// `F_SEAL_SHRINK`.
    pub const SHRINK: Self = Self(SealFlags::SHRINK.bits());
    /// `F_SEAL_GROW`.
    pub const GROW: Self = Self(SealFlags::GROW.bits());
    /// `F_SEAL_WRITE`.
    pub const WRITE: Self = Self(SealFlags::WRITE.bits());
    /// `F_SEAL_FUTURE_WRITE`, from Linux 5.1.
    pub const FUTURE_WRITE: Self = Self(SealFlags::FUTURE_WRITE.bits());
    /// `F_SEAL_EXEC`, from Linux 6.3.
    pub const EXEC: Self = Self(libc::F_SEAL_EXEC as u32);

    /// Whether all of the others are among them.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// None of them.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As the kernel numbers them.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Seals {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `fcntl(2)` with `F_ADD_SEALS`: adds to the seals that are there.
///
/// ```
/// use ginnel_os::memfd::{self, Seals};
/// use std::os::fd::AsFd;
/// let memory = memfd::create("example", 4096, Default::default())?;
/// memfd::add_seals(memory.as_fd(), Seals::GROW | Seals::SEAL)?;
/// assert!(memfd::add_seals(memory.as_fd(), Seals::SHRINK).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `EBUSY` for [`Seals::WRITE`] while a writable shared mapping is there, `EPERM` if it takes no more seals or the descriptor is not for
/// writing, `EINVAL` if it is not such memory at all, or the kernel does not know a seal. The text says which and what to do.
pub fn add_seals(memory: BorrowedFd<'_>, seals: Seals) -> io::Result<()> {
    rustix::fs::fcntl_add_seals(memory, SealFlags::from_bits_retain(seals.0)).map_err(|e| {
        let why = match e {
            Errno::BUSY => "a writable shared mapping of it is there; unmap it, or seal against future writing only",
            Errno::PERM => "it takes no more seals, or this descriptor is not for writing",
            Errno::INVAL => "it is no memory of memfd_create(2), or the kernel does not know the seal",
            other => return other.into(),
        };
        explain(e.raw_os_error(), format!("cannot seal the memory: {why}"))
    })
}

/// `fcntl(2)` with `F_GET_SEALS`. A receiver looks here before it relies on any.
///
/// # Errors
/// `EINVAL` if it is not such memory.
pub fn seals(memory: BorrowedFd<'_>) -> io::Result<Seals> {
    Ok(Seals(rustix::fs::fcntl_get_seals(memory)?.bits()))
}

/// `fstat(2)`: its size in bytes.
///
/// # Errors
/// The errno.
pub fn len(memory: impl AsFd) -> io::Result<u64> {
    Ok(crate::tmpfile::fstat(memory.as_fd())?.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;
    use crate::mmap::Mapping;

    fn made(options: Options) -> OwnedFd {
        create("test", 4096, options).unwrap()
    }

    #[test]
    fn a_size_that_is_sealed_stays() {
        let memory = made(Options::default());
        add_seals(memory.as_fd(), Seals::SHRINK | Seals::GROW).unwrap();
        assert!(crate::tmpfile::set_len(memory.as_fd(), 4095).is_err());
        assert!(crate::tmpfile::set_len(memory.as_fd(), 4097).is_err());
        assert_eq!(len(&memory).unwrap(), 4096);
        add_seals(memory.as_fd(), Seals::SEAL).unwrap();
        assert_eq!(errno(&add_seals(memory.as_fd(), Seals::WRITE).unwrap_err()), Some(libc::EPERM));
    }

    #[test]
    fn writing_is_not_sealed_under_a_writable_mapping() {
        let memory = made(Options::default());
        let mapping = Mapping::of_file(memory.as_fd(), 4096, true).unwrap();
        let error = add_seals(memory.as_fd(), Seals::WRITE).unwrap_err();
        assert_eq!(errno(&error), Some(libc::EBUSY));
        assert!(error.to_string().contains("unmap"));
        drop(mapping);
        add_seals(memory.as_fd(), Seals::WRITE).unwrap();
        assert!(Mapping::of_file(memory.as_fd(), 4096, true).is_err());
        assert!(Mapping::of_file(memory.as_fd(), 4096, false).is_ok());
    }

    #[test]
    fn sealing_can_be_refused_from_the_start() {
        for executable in [false, true] {
            let memory = made(Options { sealing: false, executable });
            assert!(seals(memory.as_fd()).unwrap().contains(Seals::SEAL));
            assert_eq!(errno(&add_seals(memory.as_fd(), Seals::GROW).unwrap_err()), Some(libc::EPERM));
        }
    }

    #[test]
    fn what_is_not_sealed_memory_says_so() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(seals(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(add_seals(file.as_fd(), Seals::GROW).is_err());
    }

    #[test]
    fn names_and_sizes_at_their_limits() {
        let named = |n: usize| create(&"x".repeat(n), 0, Options::default());
        assert!(named(0).is_ok() && named(NAME_MAX).is_ok());
        assert_eq!(errno(&named(NAME_MAX + 1).unwrap_err()), Some(libc::EINVAL));
        assert!(create("a\0b", 1, Options::default()).is_err());
        for bytes in [1 << 63, u64::MAX] {
            assert!(create("test", bytes, Options::default()).is_err());
            assert!(create_huge("test", bytes, None, Options::default()).is_err());
        }
    }

    #[test]
    fn huge_pages_or_a_reason() {
        for page in [None, Some(2 << 20), Some(3), Some(0), Some(1 << 40)] {
            let (memory, pages) = create_huge("test", 5000, page, Options::default()).unwrap();
            match pages {
                Pages::Huge { bytes } => assert_eq!(len(&memory).unwrap() % bytes as u64, 0),
                Pages::Normal { why } => {
                    assert!(why.unwrap().to_string().contains("huge pages"));
                    assert_eq!(len(&memory).unwrap(), 5000);
                }
            }
        }
    }
}
