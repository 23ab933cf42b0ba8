//! `msgget(2)`, `msgop(2)`, `msgctl(2)`: message queues of System V: whole messages with a type, of which a receiver may choose.
//!
//! A queue lives until it is removed, whoever dies, and has neither a descriptor nor a time-out:
//!
//! - `[I1]` A call without a deadline waits in the kernel. A call with one tries, sleeps (20 µs, then twice as long up to 1 ms), and tries
//!   again: it may see a message up to 1 ms late (plus the timer slack), and costs up to a thousand system calls a second while it
//!   waits. Where that hurts, use [`mqueue`](crate::mqueue), which can be polled. Deadlines are monotonic; signals do not move them.
//! - `[I2]` A send that has to wait first looks whether its message can ever fit: the kernel would wait for ever for room that the
//!   queue does not have when empty.
//! - `[I3]` Removal of the queue ends each wait for it, with `EIDRM`.
#![allow(unsafe_code)] // Hands buffers that begin with a type to the C functions; rustix does not have them.

use crate::explain::{explain, invalid, proc_number, shown, timed_out, would_block};
use crate::sysv_ipc::{Key, Owner, Row, Table, moment};
use std::ffi::c_long;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant, SystemTime};

/// `struct msgbuf`: a message and room for one: its type, then its bytes, as the kernel wants them. It is allocated once and used again.
///
/// ```
/// let mut buffer = ginnel_os::sysv_mq::Buffer::new(100)?;
/// buffer.set(7, b"hello")?;
/// assert_eq!((buffer.kind(), buffer.bytes(), buffer.capacity()), (7, &b"hello"[..], 100));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Buffer {
    /// The type, then as many words as the bytes need; aligned as the type must be.
    words: Vec<c_long>,
    capacity: usize,
    len: usize,
}

impl Buffer {
    /// An empty buffer for messages of up to `capacity` bytes.
    ///
    /// # Errors
    /// Of kind `OutOfMemory`.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let count = capacity.div_ceil(size_of::<c_long>()).saturating_add(1);
        let mut words = Vec::new();
        let enough = words.try_reserve_exact(count);
        enough.map_err(|_| explain(libc::ENOMEM, format!("no memory for a buffer of {capacity} bytes")))?;
        words.resize(count, 0);
        words[0] = 1;
        Ok(Self { words, capacity, len: 0 })
    }

    /// Makes it hold a message.
    ///
    /// # Errors
    /// `EINVAL` for a type below 1, `EMSGSIZE` for more bytes than its capacity; it is unchanged then.
    pub fn set(&mut self, kind: c_long, bytes: &[u8]) -> io::Result<()> {
        self.set_kind(kind)?;
        let room = self.room().get_mut(..bytes.len());
        let Some(room) = room else { return Err(self.too_long(bytes.len())) };
        room.copy_from_slice(bytes);
        self.len = bytes.len();
        Ok(())
    }

    /// Makes it hold the first `len` bytes that were written to [`Self::room`].
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_len(&mut self, kind: c_long, len: usize) -> io::Result<()> {
        if len > self.capacity {
            return Err(self.too_long(len));
        }
        self.set_kind(kind)?;
        self.len = len;
        Ok(())
    }

    fn set_kind(&mut self, kind: c_long) -> io::Result<()> {
        if kind < 1 {
            return Err(invalid(format!("a message's type is 1 or more, not {kind}")));
        }
        self.words[0] = kind;
        Ok(())
    }

    #[cold]
    fn too_long(&self, len: usize) -> io::Error {
        explain(libc::EMSGSIZE, format!("{len} bytes do not fit in a buffer of {}; make a larger one", self.capacity))
    }

    /// The type of its message.
    pub fn kind(&self) -> c_long {
        self.words[0]
    }

    /// The bytes of its message.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the words after the first hold `capacity` bytes at least, all of them initialised, and `len` is at most that.
        unsafe { std::slice::from_raw_parts(self.words[1..].as_ptr().cast(), self.len) }
    }

    /// All bytes that it has room for, to write a message in place.
    pub fn room(&mut self) -> &mut [u8] {
        let start = self.words[1..].as_mut_ptr();
        // SAFETY: the words after the first hold `capacity` bytes at least, all of them initialised and borrowed here.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), self.capacity) }
    }

    /// Bytes of the longest message that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Which message to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The oldest.
    Any,
    /// The oldest of this type.
    Type(c_long),
    /// Of the lowest type that is there and not above this, the oldest.
    UpTo(c_long),
    /// The oldest of any other type than this (`MSG_EXCEPT`).
    Except(c_long),
}

impl Which {
    fn raw(self) -> io::Result<(c_long, i32)> {
        match self {
            Self::Any => Ok((0, 0)),
            Self::Type(kind) if kind > 0 => Ok((kind, 0)),
            Self::UpTo(kind) if kind > 0 => Ok((-kind, 0)),
            Self::Except(kind) if kind > 0 => Ok((kind, libc::MSG_EXCEPT)),
            Self::Type(kind) | Self::UpTo(kind) | Self::Except(kind) => {
                Err(invalid(format!("a message's type is 1 or more, not {kind}")))
            }
        }
    }
}

/// What to do with a message that is longer than the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlong {
    /// Leave it in the queue; the error is `E2BIG`.
    #[default]
    Refuse,
    /// Take it out, and lose what does not fit (`MSG_NOERROR`).
    Truncate,
}

/// A queue by its id. It is only a number: the queue may be gone when it is used, which is an error then.
///
/// ```
/// use ginnel_os::{sysv_ipc::Key, sysv_mq::{Buffer, Overlong, Queue, Which}};
/// let queue = Queue::create(Key::PRIVATE, 0o600)?;
/// let mut buffer = Buffer::new(64)?;
/// for (kind, text) in [(1, "one"), (2, "two")] {
///     buffer.set(kind, text.as_bytes())?;
///     queue.send(&buffer, None)?;
/// }
/// queue.receive(&mut buffer, Which::Type(2), Overlong::Refuse, None)?;
/// assert_eq!((buffer.kind(), buffer.bytes()), (2, &b"two"[..]));
/// queue.remove()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue(i32);

/// What [`Queue::stat`] and [`list`] tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Which queue.
    pub queue: Queue,
    /// Whose it is.
    pub owner: Owner,
    /// Messages in it.
    pub depth: u64,
    /// Bytes in its messages.
    pub bytes: u64,
    /// Bytes that it has room for; `None` from [`list`], as the table does not tell.
    pub bytes_max: Option<u64>,
    /// Process that sent last; 0 if none has.
    pub last_send_pid: i32,
    /// Process that received last; 0 if none has.
    pub last_receive_pid: i32,
    /// Last send.
    pub send_time: Option<SystemTime>,
    /// Last receive.
    pub receive_time: Option<SystemTime>,
    /// When it was made, or its owner, mode or room set.
    pub change_time: Option<SystemTime>,
}

impl Queue {
    /// `msgget(2)` with `IPC_CREAT | IPC_EXCL`: a new queue.
    ///
    /// # Errors
    /// `EEXIST` if the key is taken; `ENOSPC` when there are `kernel.msgmni` queues, which the text says; `EINVAL` for a mode above 0777.
    pub fn create(key: Key, mode: u32) -> io::Result<Self> {
        msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | mode_bits(mode)?)
    }

    /// `msgget(2)`: the queue of a key.
    ///
    /// # Errors
    /// `ENOENT` if there is none, `EACCES`. [`Key::PRIVATE`] is nobody's: `EINVAL`.
    pub fn open(key: Key) -> io::Result<Self> {
        if key == Key::PRIVATE {
            return Err(invalid("IPC_PRIVATE is the key of no queue; open one by its id"));
        }
        msgget(key, 0)
    }

    /// `msgget(2)` with `IPC_CREAT`: the queue of a key, made if there is none.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::open`].
    pub fn open_or_create(key: Key, mode: u32) -> io::Result<Self> {
        msgget(key, libc::IPC_CREAT | mode_bits(mode)?)
    }

    /// The queue with an id that was handed over; not looked up.
    pub const fn from_id(id: i32) -> Self {
        Self(id)
    }

    /// Its id.
    pub const fn id(self) -> i32 {
        self.0
    }

    /// `msgsnd(2)`: puts a message in; waits for room until the deadline (see `[I1]` above).
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes. `EMSGSIZE` for a message longer than `kernel.msgmax` or than the whole queue has room
    /// for, which the text says; `EIDRM` if the queue was removed; `EACCES`.
    #[inline]
    pub fn send(self, message: &Buffer, deadline: Option<Instant>) -> io::Result<()> {
        if self.send_once(message, libc::IPC_NOWAIT)? {
            return Ok(());
        }
        self.check_fits(message)?;
        wait(deadline, |flags| Ok(self.send_once(message, flags)?.then_some(())))
    }

    /// `msgsnd(2)` with `IPC_NOWAIT`.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if the queue is full; else as [`Self::send`].
    #[inline]
    pub fn try_send(self, message: &Buffer) -> io::Result<()> {
        if self.send_once(message, libc::IPC_NOWAIT)? {
            return Ok(());
        }
        self.check_fits(message)?;
        Err(would_block())
    }

    /// False if the queue is full.
    fn send_once(self, message: &Buffer, flags: i32) -> io::Result<bool> {
        loop {
            // SAFETY: the buffer begins with a type and has `len` bytes after it.
            if unsafe { libc::msgsnd(self.0, message.words.as_ptr().cast(), message.len, flags) } == 0 {
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => return Ok(false),
                _ => return Err(self.refused(error, message.len)),
            }
        }
    }

    /// A message for which the queue has no room when empty would wait for ever.
    #[cold]
    fn check_fits(self, message: &Buffer) -> io::Result<()> {
        // Who may send but not read cannot ask; then it waits.
        match self.raw_stat() {
            Ok(data) if message.len.max(1) as u64 > data.msg_qbytes => Err(explain(
                libc::EMSGSIZE,
                format!(
                    "the queue has room for {} bytes, the message has {}; raise it with set_bytes_max, above {} only with CAP_SYS_RESOURCE (kernel.msgmnb)",
                    data.msg_qbytes,
                    message.len,
                    shown(limits().queue_bytes_max)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// `msgrcv(2)`: takes a message out into the buffer; waits for one until the deadline (see `[I1]` above).
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes. `E2BIG` for a message longer than the buffer, unless it may be truncated; `EIDRM`
    /// if the queue was removed; `EINVAL` for a type below 1; `EACCES`.
    #[inline]
    pub fn receive(
        self,
        buffer: &mut Buffer,
        which: Which,
        overlong: Overlong,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let (kind, flags) = which.raw()?;
        let flags = flags | if overlong == Overlong::Truncate { libc::MSG_NOERROR } else { 0 };
        wait(deadline, |wait| Ok(self.receive_once(buffer, kind, flags | wait)?.then_some(())))
    }

    /// `msgrcv(2)` with `IPC_NOWAIT`.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if there is no such message; else as [`Self::receive`].
    #[inline]
    pub fn try_receive(self, buffer: &mut Buffer, which: Which, overlong: Overlong) -> io::Result<()> {
        let (kind, flags) = which.raw()?;
        let flags = flags | libc::IPC_NOWAIT | if overlong == Overlong::Truncate { libc::MSG_NOERROR } else { 0 };
        if self.receive_once(buffer, kind, flags)? { Ok(()) } else { Err(would_block()) }
    }

    /// `msgrcv(2)` with `MSG_COPY`: copies the message at an index, counted from the oldest, and leaves it there; false if there are not
    /// so many.
    ///
    /// ```
    /// # use ginnel_os::{sysv_ipc::Key, sysv_mq::{Buffer, Overlong, Queue, Which}};
    /// # let queue = Queue::create(Key::PRIVATE, 0o600)?;
    /// # let mut buffer = Buffer::new(64)?;
    /// buffer.set(1, b"stays")?;
    /// queue.send(&buffer, None)?;
    /// let seen = queue.peek(&mut buffer, 0, Overlong::Refuse);
    /// let depth = queue.stat()?.depth;
    /// queue.remove()?;
    /// assert_eq!(depth, 1);
    /// // A kernel may not have it, which is an error then.
    /// assert!(seen.is_err() || buffer.bytes() == b"stays");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ENOSYS` for a kernel without `CONFIG_CHECKPOINT_RESTORE`; else as [`Self::try_receive`].
    pub fn peek(self, buffer: &mut Buffer, index: usize, overlong: Overlong) -> io::Result<bool> {
        let Ok(index) = c_long::try_from(index) else { return Ok(false) };
        let flags =
            libc::MSG_COPY | libc::IPC_NOWAIT | if overlong == Overlong::Truncate { libc::MSG_NOERROR } else { 0 };
        self.receive_once(buffer, index, flags).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => {
                explain(libc::ENOSYS, "looking without taking needs a kernel with CONFIG_CHECKPOINT_RESTORE")
            }
            _ => error,
        })
    }

    /// False if there is no such message.
    fn receive_once(self, buffer: &mut Buffer, kind: c_long, flags: i32) -> io::Result<bool> {
        loop {
            let start = buffer.words.as_mut_ptr().cast();
            // SAFETY: the buffer has room for a type and `capacity` bytes after it, and is borrowed here.
            let len = unsafe { libc::msgrcv(self.0, start, buffer.capacity, kind, flags) };
            if let Ok(len) = usize::try_from(len) {
                buffer.len = len.min(buffer.capacity);
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ENOMSG) => return Ok(false),
                _ => return Err(self.not_received(error, buffer.capacity)),
            }
        }
    }

    /// `msgctl(2)` with `IPC_STAT`.
    ///
    /// # Errors
    /// `EIDRM` if there is no such queue (any more), `EACCES`.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "widths differ between architectures")]
    pub fn stat(self) -> io::Result<Stat> {
        let data = self.raw_stat()?;
        Ok(Stat {
            queue: self,
            owner: Owner::of(&data.msg_perm),
            depth: data.msg_qnum as u64,
            bytes: data.__msg_cbytes as u64,
            bytes_max: Some(data.msg_qbytes as u64),
            last_send_pid: data.msg_lspid,
            last_receive_pid: data.msg_lrpid,
            send_time: moment(data.msg_stime as i64),
            receive_time: moment(data.msg_rtime as i64),
            change_time: moment(data.msg_ctime as i64),
        })
    }

    fn raw_stat(self) -> io::Result<libc::msqid_ds> {
        let mut data = MaybeUninit::<libc::msqid_ds>::zeroed();
        self.control(libc::IPC_STAT, data.as_mut_ptr())?;
        // SAFETY: plain integers, of which any bits are values; the call has filled them in.
        Ok(unsafe { data.assume_init() })
    }

    /// `msgctl(2)` with `IPC_SET`: room for this many bytes (`msg_qbytes`).
    ///
    /// ```
    /// # use ginnel_os::{sysv_ipc::Key, sysv_mq::{Buffer, Overlong, Queue, Which}};
    /// # let queue = Queue::create(Key::PRIVATE, 0o600)?;
    /// # let mut buffer = Buffer::new(64)?;
    /// queue.set_bytes_max(1024)?;
    /// assert_eq!(queue.stat()?.bytes_max, Some(1024));
    /// queue.remove()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EPERM` above `kernel.msgmnb` without `CAP_SYS_RESOURCE`, which the text says, or for who is neither owner nor creator.
    pub fn set_bytes_max(self, bytes: u64) -> io::Result<()> {
        let mut data = self.raw_stat()?;
        data.msg_qbytes = bytes as _;
        self.control(libc::IPC_SET, &raw mut data).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                let limit = shown(limits().queue_bytes_max);
                let text = format!("{bytes} bytes: only its owner sets the room, up to the limit {limit} of kernel.msgmnb; raise that with sysctl");
                explain(libc::EPERM, text)
            }
            _ => error,
        })
    }

    /// `msgctl(2)` with `IPC_SET`: another owner, group and mode.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn set_owner(self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let mut data = self.raw_stat()?;
        (data.msg_perm.uid, data.msg_perm.gid) = (uid, gid);
        data.msg_perm.mode = mode_bits(mode)? as _;
        self.control(libc::IPC_SET, &raw mut data)
    }

    /// `msgctl(2)` with `IPC_RMID`: the queue and its messages go now; who waits for it gets `EIDRM`.
    ///
    /// # Errors
    /// `EPERM` for who is neither owner nor creator nor privileged; `EIDRM` if it is gone.
    pub fn remove(self) -> io::Result<()> {
        self.control(libc::IPC_RMID, std::ptr::null_mut())
    }

    fn control(self, command: i32, data: *mut libc::msqid_ds) -> io::Result<()> {
        // SAFETY: `data` is what the command wants: a struct of the caller, or unused.
        match unsafe { libc::msgctl(self.0, command, data) } {
            -1 => Err(self.gone(io::Error::last_os_error())),
            _ => Ok(()),
        }
    }

    #[cold]
    fn refused(self, error: io::Error, len: usize) -> io::Error {
        let limit = limits().message_bytes_max;
        if error.raw_os_error() == Some(libc::EINVAL) && limit.is_some_and(|limit| len as u64 > limit) {
            let limit = shown(limit);
            let text = format!(
                "{len} bytes are above the limit {limit} of kernel.msgmax; raise it with sysctl kernel.msgmax={len}"
            );
            return explain(libc::EMSGSIZE, text);
        }
        self.gone(error)
    }

    #[cold]
    fn not_received(self, error: io::Error, capacity: usize) -> io::Error {
        match error.raw_os_error() {
            Some(libc::E2BIG) => {
                let text = format!(
                    "the message has more than the {capacity} bytes of the buffer, and was left; use a larger one, or truncate"
                );
                explain(libc::E2BIG, text)
            }
            _ => self.gone(error),
        }
    }

    #[cold]
    fn gone(self, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            // The kernel says EINVAL where nothing has taken the place of what was removed.
            Some(libc::EINVAL) if self.exists() => error,
            Some(libc::EINVAL | libc::EIDRM) => {
                explain(libc::EIDRM, format!("there is no message queue with id {}; it was removed", self.0))
            }
            _ => error,
        }
    }

    fn exists(self) -> bool {
        let mut data = MaybeUninit::<libc::msqid_ds>::zeroed();
        // SAFETY: the struct has room for what IPC_STAT writes.
        let done = unsafe { libc::msgctl(self.0, libc::IPC_STAT, data.as_mut_ptr()) };
        done != -1 || io::Error::last_os_error().raw_os_error() == Some(libc::EACCES)
    }
}

/// Once without flags, which waits in the kernel; or, until the deadline, with `IPC_NOWAIT` and longer and longer sleeps.
#[inline]
fn wait<T>(deadline: Option<Instant>, mut attempt: impl FnMut(i32) -> io::Result<Option<T>>) -> io::Result<T> {
    let flags = if deadline.is_some() { libc::IPC_NOWAIT } else { 0 };
    let mut pause = Duration::from_micros(20);
    loop {
        if let Some(result) = attempt(flags)? {
            return Ok(result);
        }
        let left = deadline.map_or(pause, |at| at.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(timed_out());
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

fn mode_bits(mode: u32) -> io::Result<i32> {
    if mode > 0o777 { Err(invalid("a mode has the bits 0777 at most")) } else { Ok(mode as i32) }
}

fn msgget(key: Key, flags: i32) -> io::Result<Queue> {
    // SAFETY: the call takes three integers or fewer and touches no memory of this program.
    match unsafe { libc::msgget(key.number(), flags) } {
        -1 => Err(not_got(io::Error::last_os_error())),
        id => Ok(Queue(id)),
    }
}

#[cold]
fn not_got(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => {
            let limit = shown(limits().queues_max);
            let text =
                format!("kernel.msgmni allows {limit} queues; remove some (ipcrm -q ID), or raise it with sysctl");
            explain(libc::ENOSPC, text)
        }
        _ => error,
    }
}

/// `/proc/sys/kernel/msg*`, as they are now; `None` where that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `msgmax`: bytes of a message.
    pub message_bytes_max: Option<u64>,
    /// `msgmnb`: bytes that a new queue has room for.
    pub queue_bytes_max: Option<u64>,
    /// `msgmni`: queues.
    pub queues_max: Option<u64>,
}

/// `/proc/sys/kernel/msg*` of `proc_sys_kernel(5)`: the limits of this IPC namespace.
///
/// ```
/// assert!(ginnel_os::sysv_mq::limits().queues_max.is_none_or(|max| max > 0));
/// ```
pub fn limits() -> Limits {
    Limits {
        message_bytes_max: proc_number("/proc/sys/kernel/msgmax"),
        queue_bytes_max: proc_number("/proc/sys/kernel/msgmnb"),
        queues_max: proc_number("/proc/sys/kernel/msgmni"),
    }
}

/// The queues of this IPC namespace, of every user, from `/proc/sysvipc/msg`.
///
/// ```
/// for queue in ginnel_os::sysv_mq::list()? {
///     println!("{} {} {}", queue.owner.key, queue.queue.id(), queue.depth);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno, where `/proc` is not mounted or the kernel has no System V IPC.
pub fn list() -> io::Result<Vec<Stat>> {
    Ok(Table::read("/proc/sysvipc/msg")?.rows().map(stat_of_row).collect())
}

fn stat_of_row(row: Row<'_>) -> Stat {
    Stat {
        queue: Queue(row.number("msqid")),
        owner: Owner::of_row(row),
        depth: row.number("qnum"),
        bytes: row.number("cbytes"),
        bytes_max: None,
        last_send_pid: row.number("lspid"),
        last_receive_pid: row.number("lrpid"),
        send_time: row.moment("stime"),
        receive_time: row.moment("rtime"),
        change_time: row.moment("ctime"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;
    use crate::storm;
    use std::io::ErrorKind;

    struct Removed(Queue);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = self.0.remove();
        }
    }

    fn made() -> Removed {
        Removed(Queue::create(Key::PRIVATE, 0o600).unwrap())
    }

    fn message(kind: c_long, bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::new(bytes.len()).unwrap();
        buffer.set(kind, bytes).unwrap();
        buffer
    }

    fn soon(ms: u64) -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(ms))
    }

    fn take(queue: Queue, which: Which) -> Result<(c_long, Vec<u8>), ErrorKind> {
        let mut buffer = Buffer::new(16).unwrap();
        queue.try_receive(&mut buffer, which, Overlong::Refuse).map_err(|e| e.kind())?;
        Ok((buffer.kind(), buffer.bytes().to_vec()))
    }

    #[test]
    fn a_receiver_chooses_by_type() {
        let queue = made();
        for (kind, text) in [(3, "c"), (1, "a"), (2, "b"), (3, "d"), (c_long::MAX, "")] {
            queue.0.try_send(&message(kind, text.as_bytes())).unwrap();
        }
        assert_eq!(take(queue.0, Which::UpTo(2)), Ok((1, b"a".to_vec())));
        assert_eq!(take(queue.0, Which::Except(3)), Ok((2, b"b".to_vec())));
        assert_eq!(take(queue.0, Which::Type(7)), Err(ErrorKind::WouldBlock));
        assert_eq!(take(queue.0, Which::Any), Ok((3, b"c".to_vec())));
        assert_eq!(take(queue.0, Which::Type(c_long::MAX)), Ok((c_long::MAX, vec![])));
        assert_eq!(take(queue.0, Which::UpTo(c_long::MAX)), Ok((3, b"d".to_vec())));
        for which in [Which::Type(0), Which::UpTo(c_long::MIN), Which::Except(-1)] {
            assert_eq!(take(queue.0, which), Err(ErrorKind::InvalidInput));
        }
    }

    #[test]
    fn a_long_message_stays_unless_it_may_be_cut() {
        let queue = made();
        queue.0.try_send(&message(1, b"12345")).unwrap();
        let mut small = Buffer::new(3).unwrap();
        let error = queue.0.receive(&mut small, Which::Any, Overlong::Refuse, None).unwrap_err();
        assert_eq!((errno(&error), error.kind()), (Some(libc::E2BIG), ErrorKind::InvalidInput));
        queue.0.receive(&mut small, Which::Any, Overlong::Truncate, None).unwrap();
        assert_eq!(small.bytes(), b"123");
        assert_eq!(take(queue.0, Which::Any), Err(ErrorKind::WouldBlock));
    }

    #[test]
    fn a_peek_takes_nothing() {
        let queue = made();
        for text in ["a", "bb"] {
            queue.0.try_send(&message(4, text.as_bytes())).unwrap();
        }
        let mut buffer = Buffer::new(8).unwrap();
        match queue.0.peek(&mut buffer, 1, Overlong::Refuse) {
            Err(e) if errno(&e) == Some(libc::ENOSYS) => return eprintln!("skipped: {e}"),
            found => assert!(found.unwrap()),
        }
        assert_eq!((buffer.kind(), buffer.bytes()), (4, &b"bb"[..]));
        assert!(!queue.0.peek(&mut buffer, 2, Overlong::Refuse).unwrap());
        assert!(!queue.0.peek(&mut buffer, usize::MAX, Overlong::Refuse).unwrap());
        assert_eq!(queue.0.stat().unwrap().depth, 2);
    }

    #[test]
    fn a_buffer_holds_what_it_has_room_for() {
        let mut buffer = Buffer::new(3).unwrap();
        assert!(buffer.set(1, b"1234").is_err() && buffer.set_len(1, 4).is_err());
        assert!(buffer.set(0, b"").is_err() && buffer.set(-1, b"").is_err() && buffer.set_len(0, 0).is_err());
        buffer.room().copy_from_slice(b"xyz");
        buffer.set_len(9, 2).unwrap();
        assert_eq!((buffer.kind(), buffer.bytes(), buffer.capacity()), (9, &b"xy"[..], 3));
        assert!(Buffer::new(0).unwrap().set(1, b"").is_ok());
        for capacity in [1 << 63, usize::MAX] {
            assert_eq!(Buffer::new(capacity).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
    }

    #[test]
    fn deadlines_pass_and_not_before() {
        let queue = made();
        queue.0.set_bytes_max(4).unwrap();
        let mut buffer = message(1, b"1234");
        queue.0.send(&buffer, Some(Instant::now())).unwrap();
        for ms in [0, 30] {
            let deadline = soon(ms);
            assert_eq!(queue.0.send(&buffer, deadline).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(Instant::now() >= deadline.unwrap());
        }
        assert_eq!(queue.0.try_send(&buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        queue.0.receive(&mut buffer, Which::Any, Overlong::Refuse, Some(Instant::now())).unwrap();
        let deadline = soon(30);
        let (result, _) = storm::during(|| queue.0.receive(&mut buffer, Which::Any, Overlong::Refuse, deadline));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline.unwrap());
    }

    #[test]
    fn a_message_that_never_fits_does_not_wait_for_ever() {
        let queue = made();
        queue.0.set_bytes_max(4).unwrap();
        let error = queue.0.send(&message(1, b"12345"), None).unwrap_err();
        assert_eq!(errno(&error), Some(libc::EMSGSIZE));
        assert!(error.to_string().contains("room for 4 bytes, the message has 5"), "{error}");
        let Some(limit) = limits().message_bytes_max else { return eprintln!("skipped: no /proc/sys/kernel/msgmax") };
        let long = message(1, &vec![0; limit as usize + 1]);
        let error = queue.0.try_send(&long).unwrap_err();
        assert!(error.to_string().contains("kernel.msgmax") && errno(&error) == Some(libc::EMSGSIZE), "{error}");
    }

    #[test]
    fn signals_do_not_end_a_wait_in_the_kernel() {
        let queue = made();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(60));
                queue.0.send(&message(1, b"x"), None).unwrap();
            });
            let mut buffer = Buffer::new(1).unwrap();
            let (result, signals) = storm::during(|| queue.0.receive(&mut buffer, Which::Any, Overlong::Refuse, None));
            result.unwrap();
            assert!(signals > 3 && buffer.bytes() == b"x");
        });
    }

    #[test]
    fn removal_ends_each_wait() {
        for deadline in [None, soon(20_000)] {
            let queue = made();
            let error = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(30));
                    queue.0.remove().unwrap();
                });
                let mut buffer = Buffer::new(1).unwrap();
                queue.0.receive(&mut buffer, Which::Any, Overlong::Refuse, deadline).unwrap_err()
            });
            assert!(matches!(errno(&error), Some(libc::EIDRM)), "{error}");
            assert!(error.to_string().contains("removed") && queue.0.stat().is_err() && queue.0.remove().is_err());
        }
    }

    #[test]
    fn the_list_tells_what_stat_tells() {
        let queue = made();
        queue.0.try_send(&message(1, b"123")).unwrap();
        let stat = queue.0.stat().unwrap();
        assert_eq!((stat.depth, stat.bytes, stat.last_send_pid), (1, 3, std::process::id() as i32));
        assert!(stat.send_time.is_some() && stat.receive_time.is_none() && stat.owner.mode == 0o600);
        let listed = list().unwrap().into_iter().find(|stat| stat.queue == queue.0).unwrap();
        assert_eq!(listed, Stat { bytes_max: None, ..stat });
    }

    #[test]
    fn a_key_finds_its_queue() {
        let key = Key::new(0x5d00_0000 | (std::process::id() as i32 & 0xff_ffff));
        let queue = Removed(Queue::create(key, 0o600).unwrap());
        assert_eq!((Queue::open(key).unwrap(), Queue::open_or_create(key, 0o600).unwrap()), (queue.0, queue.0));
        assert_eq!(errno(&Queue::create(key, 0o600).unwrap_err()), Some(libc::EEXIST));
        queue.0.set_owner(crate::process::user(), 0, 0o622).unwrap();
        assert_eq!(queue.0.stat().unwrap().owner.mode, 0o622);
        queue.0.remove().unwrap();
        assert_eq!(errno(&Queue::open(key).unwrap_err()), Some(libc::ENOENT));
        assert!(Queue::open(Key::PRIVATE).is_err() && Queue::create(key, 0o1000).is_err());
        assert!(Queue::from_id(-1).stat().is_err() && Queue::from_id(i32::MAX).try_send(&message(1, b"")).is_err());
    }
}
