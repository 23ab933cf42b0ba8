//! `shmget(2)`, `shmop(2)`, `shmctl(2)`: shared memory of System V: segments with a key and an id, attached to an address.
//!
//! A segment has no descriptor and outlives all processes; one that was removed goes when the last of them detaches. A forked child
//! inherits what is attached; `execve(2)` and the end of the process detach it. For something new, [`memfd`](crate::memfd) is the better
//! choice, and [`shm`](crate::shm) where it must have a name.
//!
//! - `[I1]` An [`Attachment`] is as long as the segment *it* attached. An id may come to mean another segment, so the size is asked for
//!   after attaching: while something is attached to a segment, it keeps its id, removed or not.
#![allow(unsafe_code)] // Attaches and detaches ranges; each is owned by one value, which detaches exactly what it attached.

use crate::explain::{explain, invalid, proc_number, shown};
use crate::mmap::{Pages, huge_page_size, no_huge_pages};
use crate::shared::Shared;
use crate::sysv_ipc::{Key, Owner, Row, Table, moment};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::SystemTime;

/// A segment by its id. It is only a number: the segment may be gone when it is used, which is an error then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment(i32);

/// What [`Segment::stat`] and [`list`] tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Which segment.
    pub segment: Segment,
    /// Whose it is.
    pub owner: Owner,
    /// Size in bytes, as it was asked for.
    pub bytes: usize,
    /// How many are attached.
    pub attached: u64,
    /// Process that made it.
    pub creator_pid: i32,
    /// Process that attached or detached last; 0 if none has.
    pub last_pid: i32,
    /// Last attach.
    pub attach_time: Option<SystemTime>,
    /// Last detach.
    pub detach_time: Option<SystemTime>,
    /// When it was made, or its owner or mode set.
    pub change_time: Option<SystemTime>,
    /// Whether it was removed and only waits for the last to detach.
    pub is_removed: bool,
    /// Whether it is kept in memory ([`Segment::lock`]).
    pub is_locked: bool,
}

const REMOVED: u32 = 0o1000;
const LOCKED: u32 = 0o2000;

impl Segment {
    /// `shmget(2)` with `IPC_CREAT | IPC_EXCL`: a new segment of zeroes.
    ///
    /// ```
    /// use ginnel_os::{sysv_ipc::Key, sysv_shm::{Access, Segment}};
    /// let segment = Segment::create(Key::PRIVATE, 4096, 0o600)?;
    /// let attachment = segment.attach(Access::ReadWrite)?;
    /// segment.remove()?; // It stays until it is detached, even if this process is killed.
    /// attachment.shared().store(8, 1u64)?;
    /// assert_eq!(attachment.len(), 4096);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EEXIST` if the key is taken; `EINVAL` for no bytes or more than `kernel.shmmax`; `ENOSPC` when the machine has `kernel.shmmni`
    /// segments or `kernel.shmall` pages of them; `ENOMEM`. The text names the limit.
    pub fn create(key: Key, bytes: usize, mode: u32) -> io::Result<Self> {
        shmget(key, bytes, libc::IPC_CREAT | libc::IPC_EXCL | mode_bits(mode)?)
    }

    /// `shmget(2)` with `SHM_HUGETLB`: the same in huge pages if as many are free, else in ordinary ones, and then it says why.
    ///
    /// ```
    /// use ginnel_os::{sysv_ipc::Key, sysv_shm::Segment};
    /// let (segment, pages) = Segment::create_huge(Key::PRIVATE, 1 << 20, 0o600)?;
    /// segment.remove()?;
    /// println!("{pages:?}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_huge(key: Key, bytes: usize, mode: u32) -> io::Result<(Self, Pages)> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | libc::SHM_HUGETLB | mode_bits(mode)?;
        match (shmget_errno(key, bytes, flags), huge_page_size()) {
            (Ok(segment), Some(bytes)) => Ok((segment, Pages::Huge { bytes })),
            (Ok(segment), None) => Ok((segment, no_huge_pages(io::Error::from_raw_os_error(libc::ENOSYS)))),
            (Err(why), _) => Ok((Self::create(key, bytes, mode)?, no_huge_pages(why))),
        }
    }

    /// `shmget(2)`: the segment of a key, of any size.
    ///
    /// # Errors
    /// `ENOENT` if there is none, `EACCES`. [`Key::PRIVATE`] is nobody's: `EINVAL`.
    pub fn open(key: Key) -> io::Result<Self> {
        if key == Key::PRIVATE {
            return Err(invalid("IPC_PRIVATE is the key of no segment; open one by its id"));
        }
        shmget(key, 0, 0)
    }

    /// `shmget(2)` with `IPC_CREAT`: the segment of a key if it has these bytes at least, else a new one.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::open`]; `EINVAL` also for a segment that is smaller.
    pub fn open_or_create(key: Key, bytes: usize, mode: u32) -> io::Result<Self> {
        shmget(key, bytes, libc::IPC_CREAT | mode_bits(mode)?)
    }

    /// The segment with an id that was handed over; not looked up.
    pub const fn from_id(id: i32) -> Self {
        Self(id)
    }

    /// Its id.
    pub const fn id(self) -> i32 {
        self.0
    }

    /// `shmat(2)` at an address that the kernel chooses.
    ///
    /// # Errors
    /// `EIDRM` if there is no such segment (any more), `EACCES`, `ENOMEM`.
    pub fn attach(self, access: Access) -> io::Result<Attachment> {
        let flags = if access == Access::Read { libc::SHM_RDONLY } else { 0 };
        // SAFETY: the kernel chooses an unused range, so no memory of this program is replaced.
        let base = unsafe { libc::shmat(self.0, std::ptr::null(), flags) };
        if base.addr() == usize::MAX {
            return Err(self.gone(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        let mut attachment = Attachment { base, len: 0, writable: access == Access::ReadWrite, segment: self };
        attachment.len = self.stat()?.bytes; // [I1]
        Ok(attachment)
    }

    /// `shmctl(2)` with `IPC_STAT`.
    ///
    /// # Errors
    /// `EIDRM` if there is no such segment (any more), `EACCES`.
    pub fn stat(self) -> io::Result<Stat> {
        Ok(self.stat_of(&self.raw_stat()?))
    }

    fn raw_stat(self) -> io::Result<libc::shmid_ds> {
        let mut data = MaybeUninit::<libc::shmid_ds>::zeroed();
        self.control(libc::IPC_STAT, data.as_mut_ptr())?;
        // SAFETY: plain integers, of which any bits are values; the call has filled them in.
        Ok(unsafe { data.assume_init() })
    }

    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "widths differ between architectures")]
    fn stat_of(self, data: &libc::shmid_ds) -> Stat {
        let mode = data.shm_perm.mode as u32;
        Stat {
            segment: self,
            owner: Owner::of(&data.shm_perm),
            bytes: data.shm_segsz,
            attached: data.shm_nattch as u64,
            creator_pid: data.shm_cpid,
            last_pid: data.shm_lpid,
            attach_time: moment(data.shm_atime as i64),
            detach_time: moment(data.shm_dtime as i64),
            change_time: moment(data.shm_ctime as i64),
            is_removed: mode & REMOVED != 0,
            is_locked: mode & LOCKED != 0,
        }
    }

    /// `shmctl(2)` with `IPC_SET`: another owner, group and mode.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn set_owner(self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let mut data = self.raw_stat()?;
        (data.shm_perm.uid, data.shm_perm.gid) = (uid, gid);
        data.shm_perm.mode = mode_bits(mode)? as _;
        self.control(libc::IPC_SET, &raw mut data)
    }

    /// `shmctl(2)` with `SHM_LOCK`: its pages stay in memory once they are there.
    ///
    /// # Errors
    /// `EPERM`, or `ENOMEM` for `RLIMIT_MEMLOCK` (`ulimit -l`).
    pub fn lock(self) -> io::Result<()> {
        self.control(libc::SHM_LOCK, std::ptr::null_mut())
    }

    /// `shmctl(2)` with `SHM_UNLOCK`.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn unlock(self) -> io::Result<()> {
        self.control(libc::SHM_UNLOCK, std::ptr::null_mut())
    }

    /// `shmctl(2)` with `IPC_RMID`: nobody finds it by its key any more; it goes when the last detaches.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn remove(self) -> io::Result<()> {
        self.control(libc::IPC_RMID, std::ptr::null_mut())
    }

    fn control(self, command: i32, data: *mut libc::shmid_ds) -> io::Result<()> {
        // SAFETY: `data` is what the command wants: a struct of the caller, or unused.
        match unsafe { libc::shmctl(self.0, command, data) } {
            -1 => Err(self.gone(io::Error::last_os_error())),
            _ => Ok(()),
        }
    }

    #[cold]
    fn gone(self, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            // The kernel says EINVAL where nothing has taken the place of what was removed.
            Some(libc::EINVAL) if self.exists() => error,
            Some(libc::EINVAL | libc::EIDRM) => {
                explain(libc::EIDRM, format!("there is no shared memory with id {}; it was removed", self.0))
            }
            _ => error,
        }
    }

    fn exists(self) -> bool {
        let mut data = MaybeUninit::<libc::shmid_ds>::zeroed();
        // SAFETY: the struct has room for what IPC_STAT writes.
        let done = unsafe { libc::shmctl(self.0, libc::IPC_STAT, data.as_mut_ptr()) };
        done != -1 || io::Error::last_os_error().raw_os_error() == Some(libc::EACCES)
    }
}

fn mode_bits(mode: u32) -> io::Result<i32> {
    if mode > 0o777 { Err(invalid("a mode has the bits 0777 at most")) } else { Ok(mode as i32) }
}

fn shmget(key: Key, bytes: usize, flags: i32) -> io::Result<Segment> {
    shmget_errno(key, bytes, flags).map_err(|error| refused(error, key, bytes))
}

fn shmget_errno(key: Key, bytes: usize, flags: i32) -> io::Result<Segment> {
    // SAFETY: the call takes three integers or fewer and touches no memory of this program.
    match unsafe { libc::shmget(key.number(), bytes, flags) } {
        -1 => Err(io::Error::last_os_error()),
        id => Ok(Segment(id)),
    }
}

/// Which limit a creation met.
#[cold]
fn refused(error: io::Error, key: Key, bytes: usize) -> io::Error {
    let limits = limits();
    let text = match error.raw_os_error() {
        Some(libc::EINVAL) if bytes == 0 => "a segment has one byte at least".into(),
        Some(libc::EINVAL) if key != Key::PRIVATE && shmget_errno(key, 0, 0).is_ok() => {
            format!("the segment of this key has less than {bytes} bytes; remove it, or ask for less")
        }
        Some(libc::EINVAL) => {
            let max = shown(limits.bytes_max);
            format!(
                "{bytes} bytes are above the limit {max} of kernel.shmmax; raise it with sysctl kernel.shmmax={bytes}"
            )
        }
        Some(libc::ENOSPC | libc::ENOMEM) => format!(
            "no room for {bytes} bytes: kernel.shmmni allows {} segments, kernel.shmall {} pages; remove some (ipcrm), or raise them with sysctl",
            shown(limits.segments_max),
            shown(limits.pages_max)
        ),
        _ => return error,
    };
    explain(error.raw_os_error().unwrap_or(libc::EIO), text)
}

/// What an attachment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An attached segment, detached when dropped (`shmdt(2)`).
#[derive(Debug)]
pub struct Attachment {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    segment: Segment,
}

// SAFETY: a range of addresses belongs to the process, not to a thread.
unsafe impl Send for Attachment {}
// SAFETY: as for Send; the methods only read the fields.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// The bytes, for loads, stores and copies; see [`shared`](crate::shared).
    pub fn shared(&self) -> Shared<'_> {
        // SAFETY: the range stays attached while `self` is borrowed, has these bytes by [I1], and no reference to it is ever made.
        unsafe { Shared::new(self.base, self.len, self.writable) }
    }

    /// The first address.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes, as the segment was made.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes; a segment has some.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which segment it is.
    pub fn segment(&self) -> Segment {
        self.segment
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: the range was attached by `Segment::attach` and is detached only here.
        unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

/// `/proc/sys/kernel/shm*`, as they are now; `None` where that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `shmmax`: bytes of a segment.
    pub bytes_max: Option<u64>,
    /// `shmall`: pages of all segments together.
    pub pages_max: Option<u64>,
    /// `shmmni`: segments.
    pub segments_max: Option<u64>,
    /// `shm_rmid_forced`: whether a segment goes with the last that detaches, removed or not.
    pub removed_when_unused: Option<bool>,
}

/// `/proc/sys/kernel/shm*` of `proc_sys_kernel(5)`: the limits of this IPC namespace.
///
/// ```
/// assert!(ginnel_os::sysv_shm::limits().bytes_max.is_none_or(|max| max > 0));
/// ```
pub fn limits() -> Limits {
    Limits {
        bytes_max: proc_number("/proc/sys/kernel/shmmax"),
        pages_max: proc_number("/proc/sys/kernel/shmall"),
        segments_max: proc_number("/proc/sys/kernel/shmmni"),
        removed_when_unused: proc_number("/proc/sys/kernel/shm_rmid_forced").map(|n| n != 0),
    }
}

/// The segments of this IPC namespace, of every user, from `/proc/sysvipc/shm`.
///
/// ```
/// for segment in ginnel_os::sysv_shm::list()? {
///     println!("{} {} {}", segment.owner.key, segment.bytes, segment.attached);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno, where `/proc` is not mounted or the kernel has no System V IPC.
pub fn list() -> io::Result<Vec<Stat>> {
    Ok(Table::read("/proc/sysvipc/shm")?.rows().map(stat_of_row).collect())
}

fn stat_of_row(row: Row<'_>) -> Stat {
    Stat {
        segment: Segment(row.number("shmid")),
        owner: Owner::of_row(row),
        bytes: row.number("size"),
        attached: row.number("nattch"),
        creator_pid: row.number("cpid"),
        last_pid: row.number("lpid"),
        attach_time: row.moment("atime"),
        detach_time: row.moment("dtime"),
        change_time: row.moment("ctime"),
        is_removed: row.mode() & REMOVED != 0,
        is_locked: row.mode() & LOCKED != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;

    struct Removed(Segment);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = self.0.remove();
        }
    }

    fn made(bytes: usize) -> Removed {
        Removed(Segment::create(Key::PRIVATE, bytes, 0o600).unwrap())
    }

    #[test]
    fn two_attachments_see_the_same_bytes() {
        let segment = made(5000);
        let writer = segment.0.attach(Access::ReadWrite).unwrap();
        let reader = segment.0.attach(Access::Read).unwrap();
        writer.shared().store(4096, 99u32).unwrap();
        assert_eq!((reader.shared().load::<u32>(4096), reader.len()), (Ok(99), 5000));
        assert_eq!(reader.shared().store(0, 1u8), Err(crate::shared::Fault::ReadOnly));
        assert!(writer.shared().load::<u8>(5000).is_err());
        let stat = segment.0.stat().unwrap();
        assert_eq!((stat.attached, stat.bytes, stat.creator_pid), (2, 5000, std::process::id() as i32));
        assert!(stat.attach_time.is_some() && stat.detach_time.is_none());
    }

    #[test]
    fn a_removed_segment_lives_as_long_as_it_is_attached() {
        let guard = made(1);
        let segment = guard.0;
        let attachment = segment.attach(Access::ReadWrite).unwrap();
        segment.remove().unwrap();
        assert!(segment.stat().unwrap().is_removed);
        attachment.shared().store(0, 7u8).unwrap();
        drop(attachment);
        let error = segment.attach(Access::Read).unwrap_err();
        assert!(matches!(errno(&error), Some(libc::EIDRM)), "{error}");
        assert!(error.to_string().contains("removed") && segment.remove().is_err() && segment.stat().is_err());
    }

    #[test]
    fn the_list_tells_what_stat_tells() {
        let segment = made(1234);
        let _attachment = segment.0.attach(Access::Read).unwrap();
        let listed = list().unwrap().into_iter().find(|stat| stat.segment == segment.0).unwrap();
        assert_eq!(listed, segment.0.stat().unwrap());
    }

    #[test]
    fn sizes_and_modes_that_cannot_be_name_the_limit() {
        let create = |bytes| Segment::create(Key::PRIVATE, bytes, 0o600).map(Removed);
        assert!(create(0).err().unwrap().to_string().contains("one byte"));
        for bytes in [1 << 63, usize::MAX] {
            let text = create(bytes).err().unwrap().to_string();
            assert!(text.contains("kernel.shm"), "{text}");
        }
        assert!(Segment::create(Key::PRIVATE, 1, 0o1000).is_err());
        assert!(Segment::open(Key::PRIVATE).is_err());
        assert!(Segment::from_id(-1).attach(Access::Read).is_err() && Segment::from_id(i32::MAX).stat().is_err());
    }

    #[test]
    fn a_key_finds_its_segment() {
        let key = Key::new(0x5e00_0000 | (std::process::id() as i32 & 0xff_ffff));
        let segment = Removed(Segment::create(key, 100, 0o600).unwrap());
        assert_eq!(Segment::open(key).unwrap(), segment.0);
        assert_eq!(Segment::open_or_create(key, 100, 0o600).unwrap(), segment.0);
        assert!(Segment::open_or_create(key, 101, 0o600).unwrap_err().to_string().contains("less than 101"));
        assert_eq!(errno(&Segment::create(key, 100, 0o600).unwrap_err()), Some(libc::EEXIST));
        segment.0.set_owner(crate::process::user(), 0, 0o640).unwrap();
        assert_eq!(segment.0.stat().unwrap().owner.mode, 0o640);
        segment.0.remove().unwrap();
        assert_eq!(errno(&Segment::open(key).unwrap_err()), Some(libc::ENOENT));
    }

    #[test]
    fn huge_pages_or_a_reason() {
        let (segment, pages) = Segment::create_huge(Key::PRIVATE, 4096, 0o600).unwrap();
        let segment = Removed(segment);
        assert!(pages.are_huge() || matches!(pages, Pages::Normal { why: Some(_) }));
        assert_eq!(segment.0.attach(Access::ReadWrite).unwrap().shared().load::<u8>(4095), Ok(0));
    }
}
