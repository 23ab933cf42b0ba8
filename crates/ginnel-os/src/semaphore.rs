//! `sem_overview(7)`: POSIX semaphores: a counter that is never below zero; taking from zero waits. A wait and a post that meet nobody make
//! no system call.
//!
//! **A semaphore does not survive the death of its holder.** It does not know who took from it: what a killed process had taken is never
//! given back, and the others wait until their deadline. Where that matters, use a lock that the kernel gives up
//! ([`ofd_lock`](crate::ofd_lock)), or System V semaphores with `SEM_UNDO` ([`sysv_sem`](crate::sysv_sem)).
//!
//! - [`Named`]: found by name, in a file of `/dev/shm`, until it is unlinked or the machine restarts.
//! - [`Semaphore::init`], [`Semaphore::attach`]: without a name, in shared memory of the caller's. It lasts as long as the memory; there is no
//!   `sem_destroy(3)`, which does nothing on Linux and would have to know that nobody waits.
//!
//! Deadlines are monotonic: `sem_clockwait(3)` of glibc 2.30. Where the C library lacks it, a wait with a deadline tries, sleeps (20 µs, then
//! twice as long up to 1 ms), and tries again. Processes that share a semaphore use the same C library, in the same word size: the layout
//! is its own affair. Who can write the memory can make waits hang, or the C library abort, but not touch other memory.
#![allow(unsafe_code)] // Hands the address of a semaphore that is mapped to the C functions.

use crate::explain::{self, explain, invalid, timed_out, would_block};
use crate::posix_name;
use crate::shared::{Fault, Shared};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{CStr, CString, OsStr, OsString, c_int};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Highest value (`SEM_VALUE_MAX`).
pub const VALUE_MAX: u32 = i32::MAX as u32;
/// Longest name after its slash, in bytes: the file's name begins with `sem.`.
pub const NAME_MAX: usize = 251;
/// Bytes that a semaphore without a name takes in shared memory, at an offset that is a multiple of [`ALIGN`].
pub const SIZE: usize = size_of::<libc::sem_t>();
/// What its address must be a multiple of.
pub const ALIGN: usize = align_of::<libc::sem_t>();

/// A semaphore that stays mapped for `'a`.
#[derive(Debug)]
pub struct Semaphore<'a> {
    at: NonNull<libc::sem_t>,
    memory: PhantomData<&'a ()>,
}

// SAFETY: sem_t is made for use by many threads.
unsafe impl Send for Semaphore<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Semaphore<'_> {}

impl<'a> Semaphore<'a> {
    /// `sem_init(3)` with `pshared`: makes a semaphore in shared memory. One process does that, before any other attaches.
    ///
    /// ```
    /// use ginnel_os::{mmap::Mapping, semaphore::Semaphore};
    /// let mapping = Mapping::anonymous(4096)?; // Shared with forked children.
    /// let semaphore = Semaphore::init(&mapping.shared(), 64, 1)?;
    /// let other = Semaphore::attach(&mapping.shared(), 64)?;
    /// semaphore.wait(None)?;
    /// assert_eq!(other.try_wait().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// other.post()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EINVAL` for a value above [`VALUE_MAX`]; a [`Fault`] for memory that is too short, misaligned or read-only.
    pub fn init(memory: &Shared<'a>, offset: usize, value: u32) -> io::Result<Self> {
        check_value(value)?;
        let semaphore = Self::attach(memory, offset)?;
        // SAFETY: the address is that of SIZE bytes which are mapped, writable and aligned.
        let done = unsafe { libc::sem_init(semaphore.at.as_ptr(), 1, value) };
        if done == 0 { Ok(semaphore) } else { Err(io::Error::last_os_error()) }
    }

    /// A semaphore that another process has made in shared memory.
    ///
    /// # Errors
    /// A [`Fault`] for memory that is too short, misaligned or read-only.
    pub fn attach(memory: &Shared<'a>, offset: usize) -> io::Result<Self> {
        let range = memory.range(offset, SIZE)?;
        if !range.is_writable() {
            return Err(Fault::ReadOnly.into());
        }
        let at = range.base().cast::<libc::sem_t>();
        if !at.is_aligned() {
            return Err(Fault::Misaligned { offset, align: ALIGN }.into());
        }
        Ok(Self { at, memory: PhantomData })
    }

    /// A semaphore at an address.
    ///
    /// # Safety
    /// For all of `'a` it points to a `sem_t` that is mapped, writable and initialised, and only used by the C functions.
    pub unsafe fn from_ptr(at: NonNull<libc::sem_t>) -> Self {
        Self { at, memory: PhantomData }
    }

    /// `sem_wait(3)`, `sem_clockwait(3)`: takes one; waits for it until the deadline.
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes.
    #[inline]
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        match deadline {
            None => self.wait_for_ever(),
            Some(deadline) if !self.taken()? => self.wait_until(deadline),
            Some(_) => Ok(()),
        }
    }

    /// `sem_trywait(3)`: takes one if there is one.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if there is none.
    #[inline]
    pub fn try_wait(&self) -> io::Result<()> {
        if self.taken()? { Ok(()) } else { Err(would_block()) }
    }

    /// `sem_post(3)`: gives one. Safe in a signal handler.
    ///
    /// # Errors
    /// `EOVERFLOW` at [`VALUE_MAX`].
    #[inline]
    pub fn post(&self) -> io::Result<()> {
        // SAFETY: the semaphore is mapped for 'a.
        if unsafe { libc::sem_post(self.at.as_ptr()) } == 0 { Ok(()) } else { Err(not_posted()) }
    }

    /// `sem_getvalue(3)`: what it was a moment ago; 0 also while others wait.
    ///
    /// # Errors
    /// The errno; none is known.
    pub fn value(&self) -> io::Result<u32> {
        let mut value = 0;
        // SAFETY: the semaphore is mapped for 'a, and the value is on the stack.
        let done = unsafe { libc::sem_getvalue(self.at.as_ptr(), &raw mut value) };
        if done == 0 { Ok(u32::try_from(value).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
    }

    /// `sem_timedwait(3)`, as [`Self::wait`], with a guard that posts when it is dropped; but not when the process is killed, see the module.
    ///
    /// ```
    /// use ginnel_os::{mmap::Mapping, semaphore::Semaphore};
    /// let mapping = Mapping::anonymous(4096)?;
    /// let semaphore = Semaphore::init(&mapping.shared(), 0, 1)?;
    /// let guard = semaphore.acquire(None)?;
    /// assert_eq!(semaphore.value()?, 0);
    /// drop(guard);
    /// assert_eq!(semaphore.value()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::wait`].
    #[inline]
    pub fn acquire(&self, deadline: Option<Instant>) -> io::Result<Guard<'_>> {
        self.wait(deadline).map(|()| Guard(self.at, PhantomData))
    }

    /// `sem_trywait(3)`, as [`Self::try_wait`], with a guard.
    ///
    /// # Errors
    /// As [`Self::try_wait`].
    #[inline]
    pub fn try_acquire(&self) -> io::Result<Guard<'_>> {
        self.try_wait().map(|()| Guard(self.at, PhantomData))
    }

    /// False if there is none to take.
    #[inline]
    fn taken(&self) -> io::Result<bool> {
        if self.took() { Ok(true) } else { self.not_taken() }
    }

    #[inline]
    fn took(&self) -> bool {
        // SAFETY: the semaphore is mapped for 'a.
        unsafe { libc::sem_trywait(self.at.as_ptr()) == 0 }
    }

    /// Why the last try did not take one; tries again after a signal.
    #[cold]
    fn not_taken(&self) -> io::Result<bool> {
        loop {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(false),
                Some(libc::EINTR) if self.took() => return Ok(true),
                Some(libc::EINTR) => {}
                _ => return Err(error),
            }
        }
    }

    #[inline]
    fn wait_for_ever(&self) -> io::Result<()> {
        loop {
            // SAFETY: the semaphore is mapped for 'a.
            if unsafe { libc::sem_wait(self.at.as_ptr()) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    #[cold]
    fn wait_until(&self, deadline: Instant) -> io::Result<()> {
        let Some(clockwait) = clockwait() else { return self.try_until(deadline) };
        let at = monotonic(deadline);
        loop {
            // SAFETY: the semaphore is mapped for 'a, and the time is on the stack.
            if unsafe { clockwait(self.at.as_ptr(), libc::CLOCK_MONOTONIC, &raw const at) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// For a C library without `sem_clockwait`; see the module.
    fn try_until(&self, deadline: Instant) -> io::Result<()> {
        let mut pause = Duration::from_micros(20);
        while !self.taken()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        Ok(())
    }
}

type ClockWait = unsafe extern "C" fn(*mut libc::sem_t, libc::clockid_t, *const libc::timespec) -> c_int;

/// `sem_clockwait`, if the C library has it. Looked up, as a program that is linked to it would not start with an older one.
fn clockwait() -> Option<ClockWait> {
    static FOUND: OnceLock<Option<ClockWait>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the name is a C string.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"sem_clockwait".as_ptr()) };
        // SAFETY: a function of this name has this signature; null becomes None.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<ClockWait>>(address) }
    })
}

/// An instant on the monotonic clock; at most a moment later than it is.
#[allow(clippy::useless_conversion, reason = "widths differ between architectures")]
fn monotonic(at: Instant) -> libc::timespec {
    let left = at.saturating_duration_since(Instant::now());
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_nsec + i64::from(left.subsec_nanos());
    let seconds = now.tv_sec.saturating_add_unsigned(left.as_secs()).saturating_add(nanoseconds / 1_000_000_000);
    libc::timespec {
        tv_sec: seconds.try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    }
}

#[cold]
fn not_posted() -> io::Error {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOVERFLOW) => explain(
            libc::EOVERFLOW,
            format!("the semaphore has the highest value, {VALUE_MAX}; it is posted more often than taken"),
        ),
        _ => error,
    }
}

fn check_value(value: u32) -> io::Result<()> {
    if value <= VALUE_MAX {
        Ok(())
    } else {
        Err(invalid(format!("value {value} is above the limit {VALUE_MAX}; use a smaller one")))
    }
}

/// Gives back what it took when it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it gives back at once"]
pub struct Guard<'s>(NonNull<libc::sem_t>, PhantomData<&'s ()>);

// SAFETY: a semaphore may be posted by another thread than took it.
unsafe impl Send for Guard<'_> {}
// SAFETY: a shared guard does nothing.
unsafe impl Sync for Guard<'_> {}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: the semaphore is mapped for 's.
        unsafe { libc::sem_post(self.0.as_ptr()) };
    }
}

/// A semaphore with a name, closed when dropped (`sem_close(3)`). It derefs to a [`Semaphore`].
///
/// ```
/// use ginnel_os::semaphore::{self, Named};
/// let name = format!("/example-{}", std::process::id());
/// let semaphore = Named::create(&name, 2, 0o600)?;
/// Named::open(&name)?.try_wait()?;
/// semaphore::unlink(&name)?;
/// assert_eq!(semaphore.value()?, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Named(Semaphore<'static>);

impl Named {
    /// `sem_open(3)`: a semaphore that is there.
    ///
    /// # Errors
    /// `ENOENT` if there is none, `EACCES` (it must be readable and writable), `EINVAL` or `ENAMETOOLONG` for a name that cannot be, and
    /// `EINVAL` for a file that is too short to be one.
    pub fn open(name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = posix_name::check(name.as_ref(), NAME_MAX)?;
        check_file(&name)?;
        // SAFETY: the name is a C string.
        Self::own(unsafe { libc::sem_open(name.as_ptr(), 0) }, &name)
    }

    /// `sem_open(3)` with `O_CREAT | O_EXCL`: a new semaphore with an initial value. It appears with its value. The umask counts.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; `EINVAL` for a value above [`VALUE_MAX`] or a mode above 0777; else as [`Self::open`].
    pub fn create(name: impl AsRef<OsStr>, value: u32, mode: u32) -> io::Result<Self> {
        Self::make(name.as_ref(), value, mode, libc::O_EXCL)
    }

    /// `sem_open(3)` with `O_CREAT`: the semaphore of a name, made if there is none. One that was there keeps its value and mode.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create(name: impl AsRef<OsStr>, value: u32, mode: u32) -> io::Result<Self> {
        Self::make(name.as_ref(), value, mode, 0)
    }

    fn make(name: &OsStr, value: u32, mode: u32, exclusive: c_int) -> io::Result<Self> {
        let name = posix_name::check(name, NAME_MAX)?;
        check_value(value)?;
        if mode > 0o777 {
            return Err(invalid("a mode has the bits 0777 at most"));
        }
        check_file(&name)?;
        // SAFETY: the name is a C string; mode and value are what C wants with O_CREAT.
        let at = unsafe { libc::sem_open(name.as_ptr(), libc::O_CREAT | exclusive, mode as libc::mode_t, value) };
        Self::own(at, &name)
    }

    fn own(at: *mut libc::sem_t, name: &CStr) -> io::Result<Self> {
        // SEM_FAILED is null.
        let at = NonNull::new(at).ok_or_else(|| not_opened(name))?;
        Ok(Self(Semaphore { at, memory: PhantomData }))
    }
}

/// The C library maps whatever has the name. A file without a whole semaphore would be a `SIGBUS` at the first wait.
fn check_file(name: &CStr) -> io::Result<()> {
    let path = [b"/dev/shm/sem.", &name.to_bytes()[1..]].concat();
    match std::fs::metadata(OsStr::from_bytes(&path)) {
        Ok(status) if !status.is_file() || status.len() < SIZE as u64 => {
            Err(invalid(format!("what has the name {name:?} is no semaphore, but a file of another kind or size")))
        }
        // Or there is none yet, which is not for this to say.
        _ => Ok(()),
    }
}

#[cold]
fn not_opened(name: &CStr) -> io::Error {
    let error = io::Error::last_os_error();
    let text = match error.raw_os_error() {
        Some(libc::ENOENT) => format!("there is no semaphore {name:?}"),
        Some(libc::EACCES) => {
            format!("the semaphore {name:?} is another's, and its mode does not let this user read and write")
        }
        Some(libc::EINVAL) => format!("what has the name {name:?} is no semaphore"),
        Some(libc::ENOSPC) => crate::shm::full(),
        _ => return explain::not_opened(error),
    };
    explain(error.raw_os_error().unwrap_or(libc::EIO), text)
}

impl Deref for Named {
    type Target = Semaphore<'static>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // SAFETY: opened by `sem_open`, which counts how often, and closed once here.
        unsafe { libc::sem_close(self.0.at.as_ptr()) };
    }
}

/// `sem_unlink(3)`: the name goes; the semaphore goes when nobody has it open.
///
/// # Errors
/// `ENOENT` if there is none, `EACCES` if it is another user's.
pub fn unlink(name: impl AsRef<OsStr>) -> io::Result<()> {
    let name: CString = posix_name::check(name.as_ref(), NAME_MAX)?;
    // SAFETY: the name is a C string.
    if unsafe { libc::sem_unlink(name.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A named semaphore, as [`list`] finds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name, with the slash.
    pub name: OsString,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its value; `None` without the right to read it.
    pub value: Option<u32>,
    /// When it was made.
    pub modified: Option<SystemTime>,
    /// Device and inode: which file it is, whatever its name.
    pub identity: (u64, u64),
}

/// `readdir(3)` of `/dev/shm`: the named semaphores, sorted by name. One that goes while this looks is left out.
///
/// ```
/// for semaphore in ginnel_os::semaphore::list()? {
///     println!("{:?} {:?}", semaphore.name, semaphore.value);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno of reading `/dev/shm`.
pub fn list() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in std::fs::read_dir("/dev/shm")? {
        let found = found?;
        let Ok(status) = found.metadata() else { continue };
        if let Some(name) = name_of(&found.file_name()).filter(|_| status.is_file()) {
            let value = value_in(&found.path());
            let (uid, gid, mode) = (status.uid(), status.gid(), status.mode() & 0o7777);
            let (modified, identity) = (status.modified().ok(), (status.dev(), status.ino()));
            entries.push(Entry { name, uid, gid, mode, value, modified, identity });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The value in a copy of a file: whoever made that file, a mapping of it could be cut short.
fn value_in(path: &Path) -> Option<u32> {
    let mut copy = MaybeUninit::<libc::sem_t>::zeroed();
    // SAFETY: SIZE bytes that are all initialised and borrowed here.
    let bytes = unsafe { std::slice::from_raw_parts_mut(copy.as_mut_ptr().cast(), SIZE) };
    std::fs::File::open(path).ok()?.read_exact_at(bytes, 0).ok()?;
    let semaphore = Semaphore { at: NonNull::from(&mut copy).cast(), memory: PhantomData };
    semaphore.value().ok()
}

fn name_of(file: &OsStr) -> Option<OsString> {
    let rest = file.as_bytes().strip_prefix(b"sem.")?;
    let mut name = OsString::from("/");
    name.push(OsStr::from_bytes(rest));
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;
    use crate::mmap::Mapping;
    use crate::storm;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    struct Name(String);

    impl Name {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            Self(format!("/ginnel-os-sem-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst)))
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = unlink(&self.0);
        }
    }

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn values_end_at_their_limits() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let semaphore = Semaphore::init(&mapping.shared(), 0, VALUE_MAX).unwrap();
        let error = semaphore.post().unwrap_err();
        assert_eq!((errno(&error), semaphore.value().unwrap()), (Some(libc::EOVERFLOW), VALUE_MAX));
        assert!(error.to_string().contains("2147483647"));
        semaphore.try_wait().unwrap();
        semaphore.post().unwrap();
        for value in [VALUE_MAX + 1, u32::MAX] {
            assert_eq!(errno(&Semaphore::init(&mapping.shared(), 0, value).unwrap_err()), Some(libc::EINVAL));
            assert_eq!(errno(&Named::create(Name::new().0.as_str(), value, 0o600).unwrap_err()), Some(libc::EINVAL));
        }
    }

    #[test]
    fn memory_that_cannot_hold_one_is_refused() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let view = mapping.shared();
        assert!(Semaphore::init(&view, 4096 - SIZE, 0).is_ok());
        for offset in [4096 - SIZE + ALIGN, 4096, usize::MAX, 1 << 63, 1, ALIGN / 2] {
            assert!(
                Semaphore::init(&view, offset, 0).is_err() && Semaphore::attach(&view, offset).is_err(),
                "{offset}"
            );
        }
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let text = Mapping::of_file(std::os::fd::AsFd::as_fd(&file), 4096, false).unwrap();
        assert_eq!(Semaphore::attach(&text.shared(), 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_deadline_passes_and_not_before() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let semaphore = Semaphore::init(&mapping.shared(), 0, 0).unwrap();
        assert_eq!(semaphore.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
        for wait in [Semaphore::wait_until, Semaphore::try_until, |s: &Semaphore<'_>, at| s.wait(Some(at))] {
            for ms in [0, 30] {
                let deadline = soon(ms);
                assert_eq!(wait(&semaphore, deadline).unwrap_err().kind(), ErrorKind::TimedOut);
                assert!(Instant::now() >= deadline);
            }
            semaphore.post().unwrap();
            wait(&semaphore, Instant::now()).unwrap();
        }
        assert!(clockwait().is_some(), "this test wants a C library with sem_clockwait");
        semaphore.post().unwrap();
        semaphore.wait(Some(Instant::now() + Duration::from_secs(u64::MAX >> 2))).unwrap();
    }

    #[test]
    fn signals_neither_end_nor_lengthen_a_wait() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let semaphore = Semaphore::init(&mapping.shared(), 0, 0).unwrap();
        let deadline = soon(100);
        let (result, signals) = storm::during(|| semaphore.wait(Some(deadline)));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline && Instant::now() < deadline + Duration::from_secs(10) && signals > 3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(60));
                semaphore.post().unwrap();
            });
            storm::during(|| semaphore.wait(None)).0.unwrap();
        });
    }

    #[test]
    fn a_guard_gives_back() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let semaphore = Semaphore::init(&mapping.shared(), 0, 2).unwrap();
        let first = semaphore.acquire(None).unwrap();
        let second = semaphore.try_acquire().unwrap();
        assert_eq!(semaphore.try_acquire().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop((first, second));
        assert_eq!(semaphore.value().unwrap(), 2);
    }

    #[test]
    fn a_forked_child_posts_and_what_it_takes_dies_with_it() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let semaphore = Semaphore::init(&mapping.shared(), 0, 1).unwrap();
        let done = Semaphore::init(&mapping.shared(), 64, 0).unwrap();
        storm::in_child(|| {
            semaphore.try_wait().unwrap();
            done.post().unwrap();
        });
        done.wait(Some(soon(20_000))).unwrap();
        assert_eq!(semaphore.value().unwrap(), 0);
    }

    #[test]
    fn a_name_is_taken_once_and_listed() {
        let name = Name::new();
        let semaphore = Named::create(&name.0, 3, 0o600).unwrap();
        assert_eq!(errno(&Named::create(&name.0, 1, 0o600).unwrap_err()), Some(libc::EEXIST));
        let again = Named::open_or_create(&name.0, 1, 0o600).unwrap();
        again.post().unwrap();
        drop(again);
        let found = list().unwrap().into_iter().find(|entry| entry.name == OsStr::new(&name.0)).unwrap();
        assert_eq!((found.value, found.mode, found.uid), (Some(4), 0o600, crate::process::user()));
        unlink(&name.0).unwrap();
        assert_eq!(errno(&Named::open(&name.0).unwrap_err()), Some(libc::ENOENT));
        assert_eq!(errno(&unlink(&name.0).unwrap_err()), Some(libc::ENOENT));
        assert_eq!(semaphore.value().unwrap(), 4);
    }

    #[test]
    fn names_at_their_limits_and_files_that_are_no_semaphores() {
        let long = |n: usize| format!("/{}", "y".repeat(n));
        assert_eq!(errno(&Named::open(long(251)).unwrap_err()), Some(libc::ENOENT));
        assert_eq!(errno(&Named::open(long(252)).unwrap_err()), Some(libc::ENAMETOOLONG));
        assert!(Named::open("plain").is_err() && Named::create("/x", 0, 0o1000).is_err());
        let name = Name::new();
        for bytes in [&b""[..], b"short", &[0; SIZE - 1]] {
            std::fs::write(format!("/dev/shm/sem.{}", &name.0[1..]), bytes).unwrap();
            assert_eq!(errno(&Named::open(&name.0).unwrap_err()), Some(libc::EINVAL));
            assert_eq!(errno(&Named::open_or_create(&name.0, 1, 0o600).unwrap_err()), Some(libc::EINVAL));
            let found = list().unwrap().into_iter().find(|entry| entry.name == OsStr::new(&name.0)).unwrap();
            assert_eq!(found.value, None);
        }
    }
}
