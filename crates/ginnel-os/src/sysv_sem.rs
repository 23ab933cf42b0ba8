//! `semget(2)`, `semop(2)`, `semctl(2)`: semaphores of System V: sets of counters, and operations on several of them that happen all
//! together or not at all. With [`Op::undo`] the kernel takes back what a process did when it ends, however it ends.
//!
//! A set lives until it is removed, whoever dies. Each operation is a system call.
//!
//! - `[I1]` Deadlines are monotonic. `semtimedop(2)` counts from now, so after each signal it is given what is left.
//! - `[I2]` *A new set has no values yet*, and others can open it before it has. The kernel notes when the first operation was done
//!   (`sem_otime`); so [`Set::open_or_create`] gives values without an operation, then does one, and others wait until there has
//!   been one. A creator that died in between leaves a set that stays so; [`Set::take_over`] makes another in its place.
//! - `[I3]` `GETALL` and `SETALL` carry no length: the kernel copies as many values as the set has. The arrays handed over have room for
//!   [`SET_MAX`], as many as an operation can name, so that an id which has come to mean a larger set does no harm.
#![allow(unsafe_code)] // Hands operations and arrays of values to the C functions; rustix does not have them.

use crate::explain::{explain, invalid, shown, timed_out, would_block};
use crate::sysv_ipc::{Key, Owner, Row, Table, moment};
use std::ffi::{c_int, c_ushort};
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant, SystemTime};

/// Highest value of a semaphore (`SEMVMX`).
pub const VALUE_MAX: u16 = 32767;
/// Semaphores of a set that an operation can name.
pub const SET_MAX: usize = 1 << 16;

/// No time to wait.
const NOW: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

unsafe extern "C" {
    fn semtimedop(id: c_int, ops: *mut libc::sembuf, count: usize, timeout: *const libc::timespec) -> c_int;
}

/// The last argument of `semctl(2)`, which a caller declares.
#[repr(C)]
union Argument {
    value: c_int,
    stat: *mut libc::semid_ds,
    values: *mut c_ushort,
}

/// One of the operations that [`Set::operate`] does together.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Op(libc::sembuf);

impl Op {
    /// Adds to a semaphore; never waits.
    pub const fn add(semaphore: u16, count: u16) -> Self {
        Self::new(semaphore, if count > VALUE_MAX { i16::MAX } else { count as i16 })
    }

    /// Takes from a semaphore; waits until it has as much.
    pub const fn take(semaphore: u16, count: u16) -> Self {
        Self::new(semaphore, if count > VALUE_MAX { i16::MIN } else { -(count as i16) })
    }

    /// Waits until a semaphore is zero.
    pub const fn zero(semaphore: u16) -> Self {
        Self::new(semaphore, 0)
    }

    const fn new(semaphore: u16, delta: i16) -> Self {
        Self(libc::sembuf { sem_num: semaphore, sem_op: delta, sem_flg: 0 })
    }

    /// `SEM_UNDO`: the kernel takes it back when the process ends.
    #[must_use]
    pub const fn undo(self) -> Self {
        self.with(libc::SEM_UNDO)
    }

    /// `IPC_NOWAIT`: when this one would have to wait, nothing is done.
    #[must_use]
    pub const fn nowait(self) -> Self {
        self.with(libc::IPC_NOWAIT)
    }

    const fn with(self, flag: c_int) -> Self {
        Self(libc::sembuf { sem_flg: self.0.sem_flg | flag as i16, ..self.0 })
    }
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op({}: {:+}, flags {:#o})", self.0.sem_num, self.0.sem_op, self.0.sem_flg)
    }
}

/// A set by its id. It is only a number: the set may be gone when it is used, which is an error then.
///
/// ```
/// use ginnel_os::{sysv_ipc::Key, sysv_sem::{Op, Set}};
/// let set = Set::create(Key::PRIVATE, 0o600, &[3, 0])?;
/// // Two from the first, one to the second, both or neither.
/// set.operate(&[Op::take(0, 2), Op::add(1, 1)], None)?;
/// assert_eq!(set.values()?, [1, 1]);
/// assert!(set.try_operate(&[Op::take(0, 2), Op::add(1, 1)]).is_err());
/// assert_eq!(set.values()?, [1, 1]);
/// set.remove()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set(i32);

/// What [`Set::stat`] and [`list`] tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Which set.
    pub set: Set,
    /// Whose it is.
    pub owner: Owner,
    /// Semaphores in it.
    pub count: usize,
    /// Last operation; `None` while it has no values yet (see `[I2]` above).
    pub operation_time: Option<SystemTime>,
    /// When it was made, or its owner, mode or values set.
    pub change_time: Option<SystemTime>,
}

impl Set {
    /// `semget(2)` with `IPC_CREAT | IPC_EXCL`, `semctl(2)` with `SETALL`, and `semop(2)`: a new set with these values.
    ///
    /// # Errors
    /// `EEXIST` if the key is taken; `EINVAL` for no values, or more than the first number of `kernel.sem`; `ERANGE` for a value above
    /// [`VALUE_MAX`]; `ENOSPC` for the limits of all sets together. The text names the limit.
    pub fn create(key: Key, mode: u32, values: &[u16]) -> io::Result<Self> {
        check_values(values)?;
        let set = semget(key, values.len(), libc::IPC_CREAT | libc::IPC_EXCL | mode_bits(mode)?)?;
        set.initialise(values).inspect_err(|_| {
            let _ = set.remove();
        })?;
        Ok(set)
    }

    /// `semget(2)`: the set of a key, of any size, whether or not it has values yet.
    ///
    /// # Errors
    /// `ENOENT` if there is none, `EACCES`. [`Key::PRIVATE`] is nobody's: `EINVAL`.
    pub fn open(key: Key) -> io::Result<Self> {
        if key == Key::PRIVATE {
            return Err(invalid("IPC_PRIVATE is the key of no set; open one by its id"));
        }
        semget(key, 0, 0)
    }

    /// `semget(2)`: the set of a key, made with these values if there is none. If another process is making it, this waits until it has values, or
    /// until the deadline (see `[I2]` above). One that is there keeps its values.
    ///
    /// ```
    /// use ginnel_os::{sysv_ipc::Key, sysv_sem::Set};
    /// let key = Key::new(0x5a00_0000 | std::process::id() as i32);
    /// let set = Set::open_or_create(key, 0o600, &[1], None)?;
    /// assert_eq!(Set::open_or_create(key, 0o600, &[7], None)?, set);
    /// assert_eq!(set.values()?, [1]);
    /// set.remove()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes and the set has no values yet: its creator may have died, see [`Self::take_over`].
    /// `EINVAL` for a set that has fewer semaphores than `values`. Else as [`Self::create`] and [`Self::open`].
    pub fn open_or_create(key: Key, mode: u32, values: &[u16], deadline: Option<Instant>) -> io::Result<Self> {
        Self::found_or_made(key, mode, values, deadline)?.map_err(|stale| stale.without_values(key))
    }

    /// `semget(2)`: the same; but a set that has had no values for as long as `patience` is removed, and another made in its place. For when the creator
    /// has died.
    ///
    /// What is removed is that one set, by its id. So of several that do this at once none removes what another has just made, and a creator
    /// that was not dead but slow gets `EIDRM`. Choose a patience that no living process needs between two system calls: a second, say.
    ///
    /// ```
    /// use ginnel_os::{sysv_ipc::Key, sysv_sem::Set};
    /// use std::time::{Duration, Instant};
    /// let key = Key::new(0x5b00_0000 | std::process::id() as i32);
    /// let soon = Some(Instant::now() + Duration::from_secs(1));
    /// let set = match Set::open_or_create(key, 0o600, &[1], soon) {
    ///     Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Set::take_over(key, 0o600, &[1], Duration::from_secs(1))?,
    ///     found => found?,
    /// };
    /// set.remove()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EPERM` if the set is another user's. Else as [`Self::open_or_create`], without `TimedOut`.
    pub fn take_over(key: Key, mode: u32, values: &[u16], patience: Duration) -> io::Result<Self> {
        loop {
            let stale = match Self::found_or_made(key, mode, values, Instant::now().checked_add(patience))? {
                Ok(set) => return Ok(set),
                Err(stale) => stale,
            };
            match stale.remove() {
                Err(e) if !was_removed(&e) => return Err(e),
                _ => {}
            }
        }
    }

    /// The set, or one that still has no values when the deadline comes.
    fn found_or_made(key: Key, mode: u32, values: &[u16], deadline: Option<Instant>) -> io::Result<Result<Self, Self>> {
        loop {
            match Self::create(key, mode, values) {
                Ok(set) => return Ok(Ok(set)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // Somebody lost patience with this one.
                Err(e) if was_removed(&e) => continue,
                Err(e) => return Err(e),
            }
            match semget(key, values.len(), 0).and_then(|set| Ok((set, set.has_values(deadline)?))) {
                Ok((set, has_values)) => return Ok(if has_values { Ok(set) } else { Err(set) }),
                // It was removed meanwhile, before or after it was found.
                Err(e) if e.kind() == io::ErrorKind::NotFound || was_removed(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives the values without an operation, all but the first; and that with one, which says that they are there.
    fn initialise(self, values: &[u16]) -> io::Result<()> {
        let rest: Vec<u16> = std::iter::once(0).chain(values[1..].iter().copied()).collect();
        self.set_values(&rest)?;
        self.try_operate(&[Op::add(0, values[0])])
    }

    /// Waits until it has values; false when the deadline comes first.
    fn has_values(self, deadline: Option<Instant>) -> io::Result<bool> {
        let mut pause = Duration::from_micros(100);
        while self.stat()?.operation_time.is_none() {
            let left = deadline.map_or(pause, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(true)
    }

    #[cold]
    fn without_values(self, key: Key) -> io::Error {
        let id = self.0;
        let text = format!(
            "the semaphore set {key} (id {id}) has no values yet; if the process that makes it has died, take it over or remove it (ipcrm -s {id})"
        );
        explain(libc::ETIMEDOUT, text)
    }

    /// The set with an id that was handed over; not looked up.
    pub const fn from_id(id: i32) -> Self {
        Self(id)
    }

    /// Its id.
    pub const fn id(self) -> i32 {
        self.0
    }

    /// `semtimedop(2)`: does all operations together, as soon as none of them has to wait; or none, when the deadline comes first.
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes, `WouldBlock` when an operation with [`Op::nowait`] would have to wait. `EIDRM`
    /// if the set was removed, also while waiting; `E2BIG` for more operations than the third number of `kernel.sem`; `EFBIG`
    /// for a semaphore that the set does not have; `ERANGE` above [`VALUE_MAX`]; `ENOSPC` for too many undone operations; `EACCES`.
    #[inline]
    pub fn operate(self, ops: &[Op], deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return self.operated(ops, std::ptr::null())?.ok_or_else(would_block) };
        // Most calls need not wait, and neither clock nor timer then.
        match self.attempted(ops)? {
            Some(()) => Ok(()),
            None => self.operate_until(ops, deadline),
        }
    }

    #[cold]
    fn operate_until(self, ops: &[Op], deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            match self.once(ops, &relative(left)) {
                Ok(()) => return Ok(()),
                Err(libc::EAGAIN) if ops.iter().any(Op::is_nowait) && Instant::now() < deadline => {
                    return Err(would_block());
                }
                Err(libc::EINTR | libc::EAGAIN) => {}
                Err(e) => return Err(self.refused(e, ops)),
            }
        }
    }

    /// `semtimedop(2)` with no time: does all operations together if none of them has to wait.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if one would have to wait; else as [`Self::operate`].
    #[inline]
    pub fn try_operate(self, ops: &[Op]) -> io::Result<()> {
        self.attempted(ops)?.ok_or_else(would_block)
    }

    /// Without waiting. Few operations are copied and told not to wait, as the kernel reads the clock for each time it is given, even for none.
    #[inline]
    fn attempted(self, ops: &[Op]) -> io::Result<Option<()>> {
        let mut few = [Op::zero(0); 4];
        let Some(now) = few.get_mut(..ops.len()) else { return self.operated(ops, &NOW) };
        now.iter_mut().zip(ops).for_each(|(now, op)| *now = op.nowait());
        self.operated(now, std::ptr::null())
    }

    /// Again after each signal, with the same time: none at all, or for ever. `None` if it would have to wait.
    #[inline]
    fn operated(self, ops: &[Op], timeout: *const libc::timespec) -> io::Result<Option<()>> {
        loop {
            match self.once(ops, timeout) {
                Ok(()) => return Ok(Some(())),
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => return Ok(None),
                Err(e) => return Err(self.refused(e, ops)),
            }
        }
    }

    #[inline]
    fn once(self, ops: &[Op], timeout: *const libc::timespec) -> Result<(), i32> {
        // SAFETY: `Op` is a struct sembuf, which the kernel only reads; pointer and length are of one slice; the time is null or the
        // caller's.
        match unsafe { semtimedop(self.0, ops.as_ptr().cast_mut().cast(), ops.len(), timeout) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// `semtimedop(2)`: takes one from a semaphore, and gives it back when the guard is dropped. With `undo` the kernel gives it back when the process ends
    /// before that, killed or not.
    ///
    /// ```
    /// use ginnel_os::{sysv_ipc::Key, sysv_sem::Set};
    /// let set = Set::create(Key::PRIVATE, 0o600, &[1])?;
    /// let guard = set.acquire(0, true, None)?;
    /// assert!(set.try_acquire(0, true).is_err());
    /// drop(guard);
    /// assert_eq!(set.value(0)?, 1);
    /// set.remove()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::operate`].
    pub fn acquire(self, semaphore: u16, undo: bool, deadline: Option<Instant>) -> io::Result<Guard> {
        self.operate(&[undone(Op::take(semaphore, 1), undo)], deadline)?;
        Ok(Guard { set: self, semaphore, undo })
    }

    /// `semop(2)` with `IPC_NOWAIT`: the same without waiting.
    ///
    /// # Errors
    /// As [`Self::try_operate`].
    pub fn try_acquire(self, semaphore: u16, undo: bool) -> io::Result<Guard> {
        self.try_operate(&[undone(Op::take(semaphore, 1), undo)])?;
        Ok(Guard { set: self, semaphore, undo })
    }

    /// `semctl(2)` with `GETVAL`.
    ///
    /// # Errors
    /// `EINVAL` for a semaphore that the set does not have; `EIDRM` if it is gone; `EACCES`.
    pub fn value(self, semaphore: u16) -> io::Result<u16> {
        self.ask(semaphore, libc::GETVAL).map(|value| value as u16)
    }

    /// `semctl(2)` with `SETVAL`. It wakes who can go on, and clears the undone operations of every process on this semaphore.
    ///
    /// # Errors
    /// `ERANGE` above [`VALUE_MAX`]; else as [`Self::value`].
    pub fn set_value(self, semaphore: u16, value: u16) -> io::Result<()> {
        check_value(value)?;
        self.control(semaphore, libc::SETVAL, Argument { value: c_int::from(value) }).map(|_| ())
    }

    /// `semctl(2)` with `GETALL`: all values of one moment.
    ///
    /// # Errors
    /// `EIDRM` if it is gone; `EACCES`.
    pub fn values(self) -> io::Result<Vec<u16>> {
        let count = self.checked_count()?;
        let mut values = vec![0; SET_MAX]; // [I3]
        self.control(0, libc::GETALL, Argument { values: values.as_mut_ptr() })?;
        values.truncate(count);
        values.shrink_to_fit();
        Ok(values)
    }

    /// `semctl(2)` with `SETALL`: all values at once. It clears the undone operations of every process.
    ///
    /// # Errors
    /// `EINVAL` for another number of values than the set has; `ERANGE` above [`VALUE_MAX`]; else as [`Self::values`].
    pub fn set_values(self, values: &[u16]) -> io::Result<()> {
        check_values(values)?;
        let count = self.checked_count()?;
        if values.len() != count {
            return Err(invalid(format!("the set has {count} semaphores, these are {} values", values.len())));
        }
        let mut all = vec![0; SET_MAX]; // [I3]
        all[..count].copy_from_slice(values);
        self.control(0, libc::SETALL, Argument { values: all.as_mut_ptr() }).map(|_| ())
    }

    fn checked_count(self) -> io::Result<usize> {
        let count = self.stat()?.count;
        if count <= SET_MAX {
            Ok(count)
        } else {
            Err(invalid(format!("a set of {count} semaphores is above {SET_MAX}")))
        }
    }

    /// `semctl(2)` with `GETPID`: the process that changed a semaphore last; 0 if none has.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn last_pid(self, semaphore: u16) -> io::Result<i32> {
        self.ask(semaphore, libc::GETPID)
    }

    /// `semctl(2)` with `GETNCNT` and `GETZCNT`: how many wait for a semaphore to grow, and to be zero.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn waiting(self, semaphore: u16) -> io::Result<(u32, u32)> {
        let ask = |command| self.ask(semaphore, command).map(|count| u32::try_from(count).unwrap_or(0));
        Ok((ask(libc::GETNCNT)?, ask(libc::GETZCNT)?))
    }

    /// `semctl(2)` with `IPC_STAT`.
    ///
    /// # Errors
    /// `EIDRM` if there is no such set (any more), `EACCES`.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "widths differ between architectures")]
    pub fn stat(self) -> io::Result<Stat> {
        let data = self.raw_stat()?;
        Ok(Stat {
            set: self,
            owner: Owner::of(&data.sem_perm),
            count: data.sem_nsems as usize,
            operation_time: moment(data.sem_otime as i64),
            change_time: moment(data.sem_ctime as i64),
        })
    }

    fn raw_stat(self) -> io::Result<libc::semid_ds> {
        let mut data = MaybeUninit::<libc::semid_ds>::zeroed();
        self.control(0, libc::IPC_STAT, Argument { stat: data.as_mut_ptr() })?;
        // SAFETY: plain integers, of which any bits are values; the call has filled them in.
        Ok(unsafe { data.assume_init() })
    }

    /// `semctl(2)` with `IPC_SET`: another owner, group and mode.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn set_owner(self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let mut data = self.raw_stat()?;
        (data.sem_perm.uid, data.sem_perm.gid) = (uid, gid);
        data.sem_perm.mode = mode_bits(mode)? as _;
        self.control(0, libc::IPC_SET, Argument { stat: &raw mut data }).map(|_| ())
    }

    /// `semctl(2)` with `IPC_RMID`: the set goes now; who waits for it gets `EIDRM`.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn remove(self) -> io::Result<()> {
        self.control(0, libc::IPC_RMID, Argument { value: 0 }).map(|_| ())
    }

    fn ask(self, semaphore: u16, command: c_int) -> io::Result<c_int> {
        self.control(semaphore, command, Argument { value: 0 })
    }

    fn control(self, semaphore: u16, command: c_int, argument: Argument) -> io::Result<c_int> {
        // SAFETY: the argument is what the command wants: a number, a struct of the caller's, or an array as [I3] wants it.
        match unsafe { libc::semctl(self.0, c_int::from(semaphore), command, argument) } {
            -1 => Err(self.gone(io::Error::last_os_error(), semaphore)),
            result => Ok(result),
        }
    }

    #[cold]
    fn gone(self, error: io::Error, semaphore: u16) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EINVAL) if self.exists() => {
                invalid(format!("the set has no semaphore {semaphore}, or an argument is none that it takes"))
            }
            // The kernel says EINVAL where nothing has taken the place of what was removed.
            Some(libc::EINVAL | libc::EIDRM) => {
                explain(libc::EIDRM, format!("there is no semaphore set with id {}; it was removed", self.0))
            }
            _ => error,
        }
    }

    fn exists(self) -> bool {
        let mut data = MaybeUninit::<libc::semid_ds>::zeroed();
        // SAFETY: the struct has room for what IPC_STAT writes.
        let done = unsafe { libc::semctl(self.0, 0, libc::IPC_STAT, Argument { stat: data.as_mut_ptr() }) };
        done != -1 || io::Error::last_os_error().raw_os_error() == Some(libc::EACCES)
    }

    /// Which limit operations met.
    #[cold]
    fn refused(self, errno: i32, ops: &[Op]) -> io::Error {
        let text = match errno {
            libc::EINVAL if ops.is_empty() => "there is nothing to do: no operations".into(),
            libc::E2BIG => {
                let limit = shown(limits().map(|limits| limits.operations_max));
                format!(
                    "{} operations are above the limit {limit}, the third number of kernel.sem; do fewer, or raise it with sysctl",
                    ops.len()
                )
            }
            libc::EFBIG => {
                let named = ops.iter().map(|op| op.0.sem_num).max().unwrap_or(0);
                format!(
                    "the set has {} semaphores, an operation names number {named}",
                    shown(self.stat().ok().map(|s| s.count as u64))
                )
            }
            libc::ERANGE => {
                format!("a semaphore would come above the limit {VALUE_MAX}, or what is to be undone would; post less")
            }
            libc::ENOSPC => {
                "the kernel keeps no more operations to undo (SEMMNU); use fewer processes with undo".into()
            }
            _ => return self.gone(io::Error::from_raw_os_error(errno), 0),
        };
        explain(errno, text)
    }
}

fn was_removed(error: &io::Error) -> bool {
    crate::explain::errno(error) == Some(libc::EIDRM)
}

impl Op {
    fn is_nowait(&self) -> bool {
        c_int::from(self.0.sem_flg) & libc::IPC_NOWAIT != 0
    }
}

fn undone(op: Op, undo: bool) -> Op {
    if undo { op.undo() } else { op }
}

#[allow(clippy::cast_lossless, reason = "widths differ between architectures")]
fn relative(left: Duration) -> libc::timespec {
    libc::timespec { tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX), tv_nsec: left.subsec_nanos() as _ }
}

fn check_value(value: u16) -> io::Result<()> {
    if value <= VALUE_MAX {
        return Ok(());
    }
    Err(explain(libc::ERANGE, format!("value {value} is above the limit {VALUE_MAX}; use a smaller one")))
}

fn check_values(values: &[u16]) -> io::Result<()> {
    if values.is_empty() || values.len() > SET_MAX {
        return Err(invalid(format!("a set has 1 to {SET_MAX} semaphores, not {}", values.len())));
    }
    values.iter().try_for_each(|value| check_value(*value))
}

fn mode_bits(mode: u32) -> io::Result<c_int> {
    if mode > 0o777 { Err(invalid("a mode has the bits 0777 at most")) } else { Ok(mode as c_int) }
}

fn semget(key: Key, count: usize, flags: c_int) -> io::Result<Set> {
    // SAFETY: the call takes three integers or fewer and touches no memory of this program.
    match unsafe { libc::semget(key.number(), count as c_int, flags) } {
        -1 => Err(not_got(io::Error::last_os_error(), count, flags & libc::IPC_CREAT != 0)),
        id => Ok(Set(id)),
    }
}

#[cold]
fn not_got(error: io::Error, count: usize, creating: bool) -> io::Error {
    let limits = limits();
    let text = match error.raw_os_error() {
        Some(libc::EINVAL) if creating => {
            let limit = shown(limits.map(|limits| limits.set_max));
            format!(
                "a set of {count} semaphores is above the limit {limit}, the first number of kernel.sem; raise it with sysctl"
            )
        }
        Some(libc::EINVAL) => {
            format!("the set of this key has less than {count} semaphores; it is another's, or remove it")
        }
        Some(libc::ENOSPC) => format!(
            "no room for {count} semaphores: kernel.sem allows {} in all, in {} sets; remove some (ipcrm -s ID), or raise its second and fourth number with sysctl",
            shown(limits.map(|limits| limits.semaphores_max)),
            shown(limits.map(|limits| limits.sets_max))
        ),
        _ => return error,
    };
    explain(error.raw_os_error().unwrap_or(libc::EIO), text)
}

/// Gives back what [`Set::acquire`] took, when it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it gives back at once"]
pub struct Guard {
    set: Set,
    semaphore: u16,
    undo: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // That the set was removed is no concern of this one.
        let _ = self.set.try_operate(&[undone(Op::add(self.semaphore, 1), self.undo)]);
    }
}

/// `/proc/sys/kernel/sem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `SEMMSL`: semaphores of a set.
    pub set_max: u64,
    /// `SEMMNS`: semaphores of all sets.
    pub semaphores_max: u64,
    /// `SEMOPM`: operations that are done together.
    pub operations_max: u64,
    /// `SEMMNI`: sets.
    pub sets_max: u64,
}

/// `/proc/sys/kernel/sem` of `proc_sys_kernel(5)`: the limits of this IPC namespace; `None` where they cannot be read.
///
/// ```
/// println!("{:?}", ginnel_os::sysv_sem::limits());
/// ```
pub fn limits() -> Option<Limits> {
    let text = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Limits { set_max: next()?, semaphores_max: next()?, operations_max: next()?, sets_max: next()? })
}

/// The sets of this IPC namespace, of every user, from `/proc/sysvipc/sem`.
///
/// ```
/// for set in ginnel_os::sysv_sem::list()? {
///     println!("{} {} {}", set.owner.key, set.set.id(), set.count);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno, where `/proc` is not mounted or the kernel has no System V IPC.
pub fn list() -> io::Result<Vec<Stat>> {
    Ok(Table::read("/proc/sysvipc/sem")?.rows().map(stat_of_row).collect())
}

fn stat_of_row(row: Row<'_>) -> Stat {
    Stat {
        set: Set(row.number("semid")),
        owner: Owner::of_row(row),
        count: row.number("nsems"),
        operation_time: row.moment("otime"),
        change_time: row.moment("ctime"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;
    use crate::storm;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

    struct Removed(Set);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = self.0.remove();
        }
    }

    fn made(values: &[u16]) -> Removed {
        Removed(Set::create(Key::PRIVATE, 0o600, values).unwrap())
    }

    struct RemovedByKey(Key);

    impl Drop for RemovedByKey {
        fn drop(&mut self) {
            let _ = Set::open(self.0).and_then(Set::remove);
        }
    }

    fn key() -> Key {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        Key::new(0x5c00_0000 | (NEXT.fetch_add(1, SeqCst) << 22) | (std::process::id() as i32 & 0x3f_ffff))
    }

    fn soon(ms: u64) -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(ms))
    }

    #[test]
    fn operations_happen_together_or_not_at_all() {
        let set = made(&[2, 0, 5]);
        set.0.try_operate(&[Op::take(0, 2), Op::zero(1), Op::add(2, 1)]).unwrap();
        assert_eq!(set.0.values().unwrap(), [0, 0, 6]);
        assert_eq!(set.0.try_operate(&[Op::add(1, 1), Op::take(0, 1)]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let nowait = [Op::add(1, 1), Op::take(0, 1).nowait()];
        for deadline in [None, soon(60_000)] {
            assert_eq!(set.0.operate(&nowait, deadline).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(set.0.values().unwrap(), [0, 0, 6]);
    }

    #[test]
    fn a_deadline_passes_and_not_before_in_a_storm_or_not() {
        let set = made(&[0]);
        for ms in [0, 30] {
            let deadline = soon(ms);
            assert_eq!(set.0.operate(&[Op::take(0, 1)], deadline).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(Instant::now() >= deadline.unwrap());
        }
        let deadline = soon(100);
        let (result, signals) = storm::during(|| set.0.operate(&[Op::take(0, 1)], deadline));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline.unwrap() && signals > 3);
        assert!(Instant::now() < deadline.unwrap() + Duration::from_secs(10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(60));
                set.0.try_operate(&[Op::add(0, 1)]).unwrap();
            });
            storm::during(|| set.0.operate(&[Op::take(0, 1)], None)).0.unwrap();
        });
        set.0.set_value(0, 1).unwrap();
        set.0.operate(&[Op::take(0, 1)], Some(Instant::now())).unwrap();
        set.0.set_value(0, 1).unwrap();
        set.0.operate(&[Op::take(0, 1)], Some(Instant::now() + Duration::from_secs(u64::MAX >> 2))).unwrap();
    }

    #[test]
    fn what_cannot_be_names_its_limit() {
        let set = made(&[VALUE_MAX, 0]);
        let refused = |ops: &[Op]| set.0.try_operate(ops).map_err(|e| (errno(&e).unwrap(), e.to_string())).unwrap_err();
        assert_eq!(refused(&[Op::add(0, 1)]).0, libc::ERANGE);
        let (errno_of_far, text) = refused(&[Op::zero(0), Op::add(2, 1)]);
        assert!(
            errno_of_far == libc::EFBIG && text.contains("has 2 semaphores") && text.contains("number 2"),
            "{text}"
        );
        assert_eq!(refused(&[]).0, libc::EINVAL);
        let limit = limits().unwrap().operations_max as usize;
        let (errno_of_many, text) = refused(&vec![Op::zero(1); limit + 1]);
        assert!(errno_of_many == libc::E2BIG && text.contains(&limit.to_string()), "{text}");
        set.0.try_operate(&vec![Op::zero(1); limit]).unwrap();
        assert!(Op::add(0, u16::MAX).0.sem_op == i16::MAX && Op::take(0, u16::MAX).0.sem_op == i16::MIN);
        assert_eq!(errno(&set.0.set_value(0, VALUE_MAX + 1).unwrap_err()), Some(libc::ERANGE));
        assert!(set.0.value(2).unwrap_err().to_string().contains("no semaphore 2"));
        assert!(set.0.set_values(&[1]).is_err() && set.0.set_values(&[1, 2, 3]).is_err());
    }

    #[test]
    fn sets_of_every_size() {
        let largest = limits().unwrap().set_max as usize;
        for count in [1, 2, 500, 501, largest.min(SET_MAX)] {
            let mut values = vec![1; count];
            values[count - 1] = 9;
            let set = made(&values);
            assert_eq!(set.0.values().unwrap(), values);
            assert!(set.0.stat().unwrap().operation_time.is_some() && set.0.stat().unwrap().count == count);
        }
        let create = |count| Set::create(Key::PRIVATE, 0o600, &vec![0; count]).map(Removed).err().unwrap();
        for count in [0, SET_MAX + 1] {
            assert_eq!(errno(&create(count)), Some(libc::EINVAL));
        }
        if largest < SET_MAX {
            assert!(create(largest + 1).to_string().contains("first number of kernel.sem"));
        }
    }

    #[test]
    fn removal_ends_each_wait() {
        for deadline in [None, soon(60_000)] {
            let set = made(&[0]);
            let error = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let end = Instant::now() + Duration::from_secs(20);
                    while set.0.waiting(0).unwrap().0 == 0 && Instant::now() < end {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    set.0.remove().unwrap();
                });
                set.0.operate(&[Op::take(0, 1)], deadline).unwrap_err()
            });
            assert!(errno(&error) == Some(libc::EIDRM) && error.to_string().contains("removed"), "{error}");
            assert!(set.0.stat().is_err() && set.0.values().is_err() && set.0.remove().is_err());
        }
    }

    #[test]
    fn others_wait_until_a_new_set_has_values() {
        let key = key();
        let set = Removed(semget(key, 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o600).unwrap());
        let deadline = soon(30);
        let error = Set::open_or_create(key, 0o600, &[7], deadline).unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::TimedOut, Some(libc::ETIMEDOUT)));
        assert!(error.to_string().contains("take it over") && Instant::now() >= deadline.unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                set.0.initialise(&[4]).unwrap();
            });
            assert_eq!(Set::open_or_create(key, 0o600, &[7], soon(20_000)).unwrap().values().unwrap(), [4]);
        });
        assert_eq!(Set::take_over(key, 0o600, &[7], Duration::ZERO).unwrap(), set.0, "a set with values stays");
    }

    #[test]
    fn a_set_of_a_dead_creator_is_taken_over_once() {
        let key = key();
        let _guard = RemovedByKey(key);
        let stale = Removed(semget(key, 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o600).unwrap());
        let sets: Vec<_> = std::thread::scope(|scope| {
            let each = || scope.spawn(|| Set::take_over(key, 0o600, &[3], Duration::from_secs(1)).unwrap());
            let threads = [each(), each(), each(), each()];
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert!(sets.iter().all(|set| *set == sets[0] && *set != stale.0), "{sets:?}");
        assert_eq!(sets[0].values().unwrap(), [3]);
        assert!(stale.0.initialise(&[3]).is_err(), "the slow creator learns of it");
    }

    #[test]
    fn a_dead_holder_gives_back_only_with_undo() {
        for undo in [true, false] {
            let set = made(&[1]);
            let child = storm::in_child(|| std::mem::forget(set.0.try_acquire(0, undo).unwrap()));
            assert_eq!(set.0.value(0).unwrap(), u16::from(undo));
            assert_eq!(set.0.last_pid(0).unwrap(), child);
        }
    }

    #[test]
    fn a_guard_gives_back() {
        let set = made(&[1]);
        let guard = set.0.acquire(0, true, None).unwrap();
        assert_eq!(set.0.acquire(0, true, Some(Instant::now())).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(guard);
        assert_eq!((set.0.value(0).unwrap(), set.0.waiting(0).unwrap()), (1, (0, 0)));
    }

    #[test]
    fn the_list_tells_what_stat_tells() {
        let key = key();
        let set = Removed(Set::create(key, 0o640, &[1, 2]).unwrap());
        let stat = set.0.stat().unwrap();
        assert_eq!((stat.owner.key, stat.owner.mode, stat.count), (key, 0o640, 2));
        assert_eq!(list().unwrap().into_iter().find(|stat| stat.set == set.0).unwrap(), stat);
        set.0.set_owner(crate::process::user(), 0, 0o600).unwrap();
        assert_eq!(set.0.stat().unwrap().owner.mode, 0o600);
        assert!(Set::open_or_create(key, 0o600, &[0; 3], None).unwrap_err().to_string().contains("less than 3"));
        assert!(Set::open(Key::PRIVATE).is_err() && Set::from_id(-1).stat().is_err());
        assert!(Set::from_id(i32::MAX).try_operate(&[Op::zero(0)]).unwrap_err().to_string().contains("removed"));
    }
}
