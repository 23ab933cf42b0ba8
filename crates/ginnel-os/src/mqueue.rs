//! `mq_overview(7)`: POSIX message queues: named, bounded, with whole messages that come out by priority, the oldest first among equals.
//!
//! A queue lives until it is unlinked and nobody has it open; messages survive their senders. On Linux a queue is a descriptor, so it
//! can be polled beside others ([`poll`], `epoll(7)`). Names count within an IPC namespace (`ipc_namespaces(7)`), and
//! the memory of all queues of a user within `RLIMIT_MSGQUEUE`.
//!
//! - `[I1]` Deadlines are monotonic. `mq_timedsend(3)` wants the real-time clock, which may be set; so it is only ever given the year 1970,
//!   with which it does not wait whatever the clock says, and waiting until a deadline is `poll(2)`'s. A call without a deadline is one
//!   `mq_send(3)`, and waits in the kernel.
//! - `[I2]` No call depends on `O_NONBLOCK`, which belongs to the description, nor sets it. Descriptors close on `execve(2)`, so only a child
//!   that is forked and runs on shares the description; there is nothing in it by which the two could disturb each other.
//! - `[I3]` The length of a message and the room for one are checked against what the queue said when it was opened; a queue never
//!   changes that. No call on a message asks the kernel anything else.
#![allow(unsafe_code)] // Hands buffers with their lengths to the C functions; rustix does not have them.

use crate::eventfd::EventFd;
use crate::explain::{errno, explain, invalid, not_opened, proc_number, shown, timed_out, would_block};
use crate::{poll, posix_name};
use rustix::process::Resource;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// Highest priority of a message; 0 is the lowest (`MQ_PRIO_MAX` less one).
pub const PRIORITY_MAX: u32 = 32767;
/// Longest name after its slash, in bytes.
pub const NAME_MAX: usize = 255;

/// An absolute time that has passed for good: the real-time clock cannot be set before it.
const PAST: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

/// What a handle may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Receive.
    Receive,
    /// Send.
    Send,
    /// Both.
    #[default]
    Both,
}

impl Access {
    fn flags(self) -> libc::c_int {
        libc::O_CLOEXEC
            | match self {
                Self::Receive => libc::O_RDONLY,
                Self::Send => libc::O_WRONLY,
                Self::Both => libc::O_RDWR,
            }
    }
}

/// What a queue has room for, chosen when it is made and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Messages that it holds (`mq_maxmsg`).
    pub capacity: usize,
    /// Bytes of the longest message (`mq_msgsize`).
    pub message_size: usize,
}

impl Shape {
    /// Bytes that a queue of this shape counts for in `RLIMIT_MSGQUEUE`: its messages, and the kernel's records of them
    /// (`getrlimit(2)`). Of 64-bit kernels.
    pub fn accounted_bytes(self) -> u64 {
        let (capacity, size) = (self.capacity as u64, self.message_size as u64);
        let records = capacity.saturating_mul(48).saturating_add(capacity.min(u64::from(PRIORITY_MAX) + 1) * 48);
        capacity.saturating_mul(size).saturating_add(records)
    }
}

/// How a queue is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the handle may do.
    pub access: Access,
    /// Permission bits, less the umask.
    pub mode: u32,
    /// Room; `None` for the defaults of the system (`msg_default` and `msgsize_default` of [`limits`]).
    pub shape: Option<Shape>,
}

/// Both ways, for this user alone, with the room that is usual.
impl Default for Options {
    fn default() -> Self {
        Self { access: Access::Both, mode: 0o600, shape: None }
    }
}

/// `struct mq_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// Messages that it holds.
    pub capacity: usize,
    /// Bytes of the longest message.
    pub message_size: usize,
    /// Messages that are in it now.
    pub depth: usize,
}

/// An open queue.
///
/// ```
/// use ginnel_os::mqueue::{self, Options, Queue, Shape};
/// let name = format!("/example-{}", std::process::id());
/// let shape = Some(Shape { capacity: 4, message_size: 64 });
/// let queue = Queue::create(&name, Options { shape, ..Options::default() })?;
/// mqueue::unlink(&name)?;
/// queue.send(b"can wait", 0, None)?;
/// queue.send(b"urgent", 9, None)?;
/// let mut buffer = [0; 64];
/// let (len, priority) = queue.receive(&mut buffer, None)?;
/// assert_eq!((&buffer[..len], priority), (&b"urgent"[..], 9));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    descriptor: OwnedFd,
    shape: Shape,
}

impl Queue {
    /// `mq_open(3)`: a queue that is there.
    ///
    /// ```
    /// # use ginnel_os::mqueue::{self, Access, Options, Queue, Shape};
    /// # let name = format!("/example-open-{}", std::process::id());
    /// # let shape = Some(Shape { capacity: 1, message_size: 8 });
    /// # let queue = Queue::create(&name, Options { shape, ..Options::default() })?;
    /// let sender = Queue::open(&name, Access::Send);
    /// mqueue::unlink(&name)?;
    /// assert_eq!(sender?.message_size(), 8);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ENOENT` if there is none, `EACCES`, `EINVAL` or `ENAMETOOLONG` for a name that cannot be, `EMFILE`.
    pub fn open(name: impl AsRef<OsStr>, access: Access) -> io::Result<Self> {
        let name = posix_name::check(name.as_ref(), NAME_MAX)?;
        // SAFETY: `name` is a C string for the duration of the call.
        let descriptor = unsafe { libc::mq_open(name.as_ptr(), access.flags()) };
        let descriptor = own(descriptor).map_err(|error| explain_open(error, &name))?;
        Self::from_fd(descriptor)
    }

    /// `mq_open(3)` with `O_CREAT | O_EXCL`: a new queue.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; `EINVAL` or `ENAMETOOLONG` for a name, mode or shape that cannot be; `EMFILE` for `RLIMIT_MSGQUEUE` or
    /// `RLIMIT_NOFILE`; `ENOSPC` for `fs.mqueue.queues_max`; `EACCES`. The text names the limit and what raises it.
    pub fn create(name: impl AsRef<OsStr>, options: Options) -> io::Result<Self> {
        Self::make(name.as_ref(), options, libc::O_EXCL)
    }

    /// `mq_open(3)` with `O_CREAT`: the queue of a name, made if there is none. One that was there keeps its shape and mode: look at
    /// [`Self::message_size`].
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::open`].
    pub fn open_or_create(name: impl AsRef<OsStr>, options: Options) -> io::Result<Self> {
        Self::make(name.as_ref(), options, 0)
    }

    fn make(name: &OsStr, options: Options, exclusive: libc::c_int) -> io::Result<Self> {
        let name = posix_name::check(name, NAME_MAX)?;
        if options.mode > 0o777 {
            return Err(invalid("a mode has the bits 0777 at most"));
        }
        let attributes = options.shape.map(raw_attributes);
        let pointer = attributes.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let flags = options.access.flags() | libc::O_CREAT | exclusive;
        // SAFETY: `name` is a C string, and the attributes, if any, are on the stack for the duration of the call.
        let descriptor = unsafe { libc::mq_open(name.as_ptr(), flags, options.mode as libc::mode_t, pointer) };
        Self::from_fd(own(descriptor).map_err(|error| explain_creation(error, &name, options.shape))?)
    }

    /// A queue by a descriptor that was handed over.
    ///
    /// # Errors
    /// `EBADF` if it is no queue.
    pub fn from_fd(descriptor: OwnedFd) -> io::Result<Self> {
        let Attributes { capacity, message_size, .. } = attributes(descriptor.as_fd())?;
        Ok(Self { descriptor, shape: Shape { capacity, message_size } })
    }

    /// Bytes of the longest message, and so of the shortest buffer to receive with. No system call.
    pub fn message_size(&self) -> usize {
        self.shape.message_size
    }

    /// Messages that it holds. No system call.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// `mq_getattr(3)`.
    ///
    /// # Errors
    /// The errno.
    pub fn attributes(&self) -> io::Result<Attributes> {
        attributes(self.as_fd())
    }

    /// `mq_send(3)`: puts a message in, before all of lower priority; waits for room until the deadline.
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes. `EMSGSIZE` for a message longer than [`Self::message_size`], `EINVAL` for a priority
    /// above [`PRIORITY_MAX`], `EBADF` if it is open for receiving only.
    #[inline]
    pub fn send(&self, message: &[u8], priority: u32, deadline: Option<Instant>) -> io::Result<()> {
        self.check_message(message, priority)?;
        // SAFETY: the pointer and length are of one slice.
        let send = |at| unsafe { libc::mq_timedsend(self.raw(), message.as_ptr().cast(), message.len(), priority, at) };
        let room = |deadline| poll::writable(self.as_fd(), deadline);
        self.until(deadline, |at| isize::try_from(send(at)).unwrap_or(-1), room).map(|_| ())
    }

    /// `mq_timedsend(3)` that does not wait.
    ///
    /// ```
    /// # use ginnel_os::mqueue::{self, Access, Options, Queue, Shape};
    /// # let name = format!("/example-try-send-{}", std::process::id());
    /// # let shape = Some(Shape { capacity: 1, message_size: 8 });
    /// # let queue = Queue::create(&name, Options { shape, ..Options::default() })?;
    /// # mqueue::unlink(&name)?;
    /// queue.try_send(b"first", 0)?;
    /// assert_eq!(queue.try_send(b"full", 0).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `WouldBlock` if the queue is full; else as [`Self::send`].
    #[inline]
    pub fn try_send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        self.check_message(message, priority)?;
        // SAFETY: the pointer and length are of one slice, and the time is a constant.
        let send =
            || unsafe { libc::mq_timedsend(self.raw(), message.as_ptr().cast(), message.len(), priority, &PAST) };
        self.attempt(|| isize::try_from(send()).unwrap_or(-1))?.map(|_| ()).ok_or_else(would_block)
    }

    /// `mq_receive(3)`: takes the oldest message of the highest priority out; waits for one until the deadline. Returns its bytes in the
    /// buffer, and its priority.
    ///
    /// ```
    /// # use ginnel_os::mqueue::{self, Access, Options, Queue, Shape};
    /// # let name = format!("/example-receive-{}", std::process::id());
    /// # let shape = Some(Shape { capacity: 1, message_size: 8 });
    /// # let queue = Queue::create(&name, Options { shape, ..Options::default() })?;
    /// # mqueue::unlink(&name)?;
    /// use std::time::{Duration, Instant};
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// let error = queue.receive(&mut [0; 8], Some(soon)).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `TimedOut` when the deadline passes. `EMSGSIZE` for a buffer shorter than [`Self::message_size`] (the kernel has no
    /// partial receive), `EBADF` if it is open for sending only.
    #[inline]
    pub fn receive(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<(usize, u32)> {
        self.check_buffer(buffer)?;
        let (start, len, mut priority) = (buffer.as_mut_ptr().cast(), buffer.len(), 0);
        // SAFETY: the pointer and length are of one slice that is borrowed here, and the priority is on the stack.
        let receive = |at| unsafe { libc::mq_timedreceive(self.raw(), start, len, &raw mut priority, at) };
        let news = |deadline| poll::readable(&[self.as_fd()], deadline);
        let len = self.until(deadline, receive, news)?;
        Ok((len, priority))
    }

    /// `mq_timedreceive(3)` that does not wait.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if the queue is empty; else as [`Self::receive`].
    #[inline]
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
        self.check_buffer(buffer)?;
        let (start, len, mut priority) = (buffer.as_mut_ptr().cast(), buffer.len(), 0);
        // SAFETY: the pointer and length are of one slice that is borrowed here, and the priority is on the stack.
        let receive = || unsafe { libc::mq_timedreceive(self.raw(), start, len, &raw mut priority, &PAST) };
        let len = self.attempt(receive)?.ok_or_else(would_block)?;
        Ok((len, priority))
    }

    /// `mq_notify(3)` with `SIGEV_SIGNAL`: one signal to this process when a message comes into the empty queue and nobody waits in a
    /// receive (a poll is no receive). It carries `value` as `si_value.sival_ptr`, and is over once it is sent: register again, *then*
    /// empty the queue.
    ///
    /// ```
    /// # use ginnel_os::mqueue::{self, Options, Queue, Shape};
    /// # let name = format!("/example-notify-{}", std::process::id());
    /// # let shape = Some(Shape { capacity: 1, message_size: 8 });
    /// # let queue = Queue::create(&name, Options { shape, ..Options::default() })?;
    /// # mqueue::unlink(&name)?;
    /// let sigchld = 17; // Ignored unless somebody handles it.
    /// queue.notify(sigchld, 42)?;
    /// assert!(queue.notify(sigchld, 43).is_err(), "one at a time");
    /// queue.stop_notify()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EBUSY` if a process is registered already, this one included; `EINVAL` for a number that is no signal.
    pub fn notify(&self, signal: i32, value: usize) -> io::Result<()> {
        // SAFETY: a struct of plain integers and a pointer, for which zero is a value.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(value);
        // SAFETY: the event is on the stack for the duration of the call.
        let done = unsafe { libc::mq_notify(self.raw(), &raw const event) };
        done_or(done, |error| match error.raw_os_error() {
            Some(libc::EBUSY) => {
                explain(libc::EBUSY, "a process is registered already; one queue notifies one at a time")
            }
            Some(libc::EINVAL) => invalid(format!("{signal} is no signal")),
            _ => error,
        })
    }

    /// `mq_notify(3)` without an event: no signal any more. That this process was not registered is no error.
    ///
    /// # Errors
    /// The errno.
    pub fn stop_notify(&self) -> io::Result<()> {
        // SAFETY: no event is the request to remove it.
        done_or(unsafe { libc::mq_notify(self.raw(), std::ptr::null()) }, |error| error)
    }

    /// Calls without a time, which waits in the kernel, or tries and polls until the deadline. `call` gives a length, or -1.
    #[inline]
    fn until(
        &self,
        deadline: Option<Instant>,
        mut call: impl FnMut(*const libc::timespec) -> isize,
        poll: impl Fn(Option<Instant>) -> io::Result<bool>,
    ) -> io::Result<usize> {
        let at = if deadline.is_some() { std::ptr::from_ref(&PAST) } else { std::ptr::null() };
        loop {
            if let Some(len) = self.attempt(|| call(at))? {
                return Ok(len);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(timed_out());
            }
            // Without a deadline this is reached only if somebody else set O_NONBLOCK on the description.
            poll(deadline)?;
        }
    }

    /// One call, again if a signal came; `None` if it would have to wait.
    #[inline]
    fn attempt(&self, mut call: impl FnMut() -> isize) -> io::Result<Option<usize>> {
        loop {
            if let Ok(len) = usize::try_from(call()) {
                return Ok(Some(len));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ETIMEDOUT | libc::EAGAIN) => return Ok(None),
                Some(libc::EBADF) => return Err(explain(libc::EBADF, "the queue was not opened for this direction")),
                _ => return Err(error),
            }
        }
    }

    #[inline]
    fn check_message(&self, message: &[u8], priority: u32) -> io::Result<()> {
        if message.len() > self.shape.message_size || priority > PRIORITY_MAX {
            Err(self.refused(message, priority))
        } else {
            Ok(())
        }
    }

    #[cold]
    fn refused(&self, message: &[u8], priority: u32) -> io::Error {
        if priority > PRIORITY_MAX {
            return invalid(format!("priority {priority} is above the limit {PRIORITY_MAX}; use a smaller one"));
        }
        explain(
            libc::EMSGSIZE,
            format!(
                "the queue takes messages of {} bytes, this has {}; make it with a larger mq_msgsize, up to {MSGSIZE_MAX}",
                self.shape.message_size,
                message.len()
            ),
        )
    }

    #[inline]
    fn check_buffer(&self, buffer: &[u8]) -> io::Result<()> {
        if buffer.len() >= self.shape.message_size { Ok(()) } else { Err(self.too_short(buffer)) }
    }

    #[cold]
    fn too_short(&self, buffer: &[u8]) -> io::Error {
        let (size, len) = (self.shape.message_size, buffer.len());
        explain(
            libc::EMSGSIZE,
            format!("the queue has messages of up to {size} bytes, the buffer has {len}; make it as long"),
        )
    }

    fn raw(&self) -> libc::mqd_t {
        self.descriptor.as_raw_fd()
    }
}

/// Readable while there is a message, writable while there is room.
impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl From<Queue> for OwnedFd {
    fn from(queue: Queue) -> Self {
        queue.descriptor
    }
}

/// `mq_unlink(3)`: the name goes; the queue goes when nobody has it open.
///
/// # Errors
/// `ENOENT` if there is none, `EACCES` or `EPERM` if it is another user's.
pub fn unlink(name: impl AsRef<OsStr>) -> io::Result<()> {
    let name = posix_name::check(name.as_ref(), NAME_MAX)?;
    // SAFETY: `name` is a C string for the duration of the call.
    done_or(unsafe { libc::mq_unlink(name.as_ptr()) }, |error| error)
}

fn done_or(result: libc::c_int, explained: impl FnOnce(io::Error) -> io::Error) -> io::Result<()> {
    if result == -1 { Err(explained(io::Error::last_os_error())) } else { Ok(()) }
}

fn own(descriptor: libc::mqd_t) -> io::Result<OwnedFd> {
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and on Linux a queue's handle is a descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[allow(clippy::unnecessary_cast, reason = "the fields are wider than long on one architecture")]
fn raw_attributes(shape: Shape) -> libc::mq_attr {
    let most = |n: usize| libc::c_long::try_from(n).unwrap_or(libc::c_long::MAX);
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    attributes.mq_maxmsg = most(shape.capacity) as _;
    attributes.mq_msgsize = most(shape.message_size) as _;
    attributes
}

#[allow(clippy::unnecessary_cast, reason = "the fields are wider than long on one architecture")]
fn attributes(queue: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = MaybeUninit::<libc::mq_attr>::zeroed();
    // SAFETY: `attributes` has room for the struct.
    done_or(unsafe { libc::mq_getattr(queue.as_raw_fd(), attributes.as_mut_ptr()) }, |error| error)?;
    // SAFETY: plain integers, of which any bits are values.
    let attributes = unsafe { attributes.assume_init() };
    let number = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(Attributes {
        capacity: number(attributes.mq_maxmsg as i64),
        message_size: number(attributes.mq_msgsize as i64),
        depth: number(attributes.mq_curmsgs as i64),
    })
}

#[cold]
fn explain_open(error: io::Error, name: &CString) -> io::Error {
    match error.raw_os_error() {
        Some(e @ libc::ENOENT) => explain(e, format!("there is no queue {name:?} in this IPC namespace")),
        Some(e @ libc::EACCES) => {
            explain(e, format!("the queue {name:?} is another's, and its mode forbids this; run as its owner"))
        }
        _ => not_opened(error),
    }
}

/// The most messages of a queue, and bytes of a message, that any setting allows: `mq_overview(7)`.
const CEILINGS: (usize, usize) = (65_536, 16_777_216);

/// Which numbers of a shape the kernel does not take, and what to do about those.
fn beyond_limits(Shape { capacity, message_size }: Shape, limits: &Limits) -> String {
    let of = |what, asked: usize, name, limit: Option<u64>, ceiling| match asked {
        0 => Some(format!("it needs {what} of at least 1")),
        _ if asked > ceiling => {
            Some(format!("the limit {name} is {}, and {ceiling} at most; ask for less", shown(limit)))
        }
        _ if limit.is_some_and(|limit| asked as u64 > limit) => Some(format!(
            "the limit {name} is {}; raise it with `sysctl -w {name}={asked}`, or ask for less",
            shown(limit)
        )),
        _ => None,
    };
    let reasons: Vec<String> = [
        of("a capacity", capacity, "fs.mqueue.msg_max", limits.msg_max, CEILINGS.0),
        of("a message size", message_size, "fs.mqueue.msgsize_max", limits.msgsize_max, CEILINGS.1),
    ]
    .into_iter()
    .flatten()
    .collect();
    let reasons = if reasons.is_empty() { "the kernel refuses it".to_owned() } else { reasons.join(", and ") };
    format!("a queue of {capacity} messages of {message_size} bytes cannot be: {reasons}")
}

/// Which limit a creation met.
#[cold]
fn explain_creation(error: io::Error, name: &CString, shape: Option<Shape>) -> io::Error {
    let limits = limits();
    let shape = shape.unwrap_or(Shape {
        capacity: limits.msg_default.and_then(|n| n.try_into().ok()).unwrap_or(10),
        message_size: limits.msgsize_default.and_then(|n| n.try_into().ok()).unwrap_or(8192),
    });
    let text = match error.raw_os_error() {
        Some(libc::EINVAL) => beyond_limits(shape, &limits),
        // The kernel has one number for two limits: whether this one can be had tells which.
        Some(libc::EMFILE) if EventFd::new().is_ok() => format!(
            "no room for a queue that counts for {} bytes: RLIMIT_MSGQUEUE allows this user {} in all queues; unlink some, or raise it with ulimit -q",
            shape.accounted_bytes(),
            shown(limits.user_bytes),
        ),
        Some(libc::ENOSPC) => {
            format!(
                "fs.mqueue.queues_max allows {} queues; unlink some, or raise it with sysctl",
                shown(limits.queues_max)
            )
        }
        _ => return explain_open(error, name),
    };
    explain(error.raw_os_error().unwrap_or(libc::EIO), text)
}

const MSGSIZE_MAX: &str = "/proc/sys/fs/mqueue/msgsize_max";

/// `/proc/sys/fs/mqueue/*`, and `RLIMIT_MSGQUEUE`, as they are now; `None` where that cannot be read, or for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Queues in this IPC namespace.
    pub queues_max: Option<u64>,
    /// Messages of a queue, for who has no `CAP_SYS_RESOURCE`.
    pub msg_max: Option<u64>,
    /// Messages of a queue that is made without a shape.
    pub msg_default: Option<u64>,
    /// Bytes of a message, for who has no `CAP_SYS_RESOURCE`.
    pub msgsize_max: Option<u64>,
    /// Bytes of a message, of a queue that is made without a shape.
    pub msgsize_default: Option<u64>,
    /// `RLIMIT_MSGQUEUE`: bytes of all queues of this user ([`Shape::accounted_bytes`]).
    pub user_bytes: Option<u64>,
}

/// `mq_overview(7)`: the limits that hold for this process.
///
/// ```
/// println!("{:?}", ginnel_os::mqueue::limits());
/// ```
pub fn limits() -> Limits {
    let number = |name: &str| proc_number(&format!("/proc/sys/fs/mqueue/{name}"));
    Limits {
        queues_max: number("queues_max"),
        msg_max: number("msg_max"),
        msg_default: number("msg_default"),
        msgsize_max: number("msgsize_max"),
        msgsize_default: number("msgsize_default"),
        user_bytes: rustix::process::getrlimit(Resource::Msgqueue).current,
    }
}

/// A queue, as [`list`] finds it.
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
    /// When a message last went in or out, or its mode was set.
    pub changed: Option<SystemTime>,
    /// Its room and depth; `None` without the right to read it.
    pub attributes: Option<Attributes>,
    /// Bytes in its messages; `None` without the right to read it.
    pub bytes: Option<u64>,
    /// Process that is registered by [`Queue::notify`], if any.
    pub notified_pid: Option<u32>,
    /// Device and inode: which queue it is, whatever its name.
    pub identity: (u64, u64),
}

/// `readdir(3)`: the queues of this IPC namespace, sorted by name, from the file system at `/dev/mqueue`. Where that is not mounted, who may mount looks into
/// a mount that nobody else sees, and that is gone afterwards.
///
/// ```
/// match ginnel_os::mqueue::list() {
///     Ok(queues) => queues.iter().for_each(|queue| println!("{:?} {:?}", queue.name, queue.attributes)),
///     Err(error) => println!("{error}"), // "... mount -t mqueue none /dev/mqueue"
/// }
/// ```
///
/// # Errors
/// `ENODEV` if that file system is not mounted there; the text says how to.
pub fn list() -> io::Result<Vec<Entry>> {
    match list_at(Path::new("/dev/mqueue")) {
        Err(e) if errno(&e) == Some(libc::ENODEV) => {
            let Ok(mount) = detached() else { return Err(e) };
            list_at(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())))
        }
        listed => listed,
    }
}

/// `fsopen(2)`, `fsmount(2)`: the file system without a place.
fn detached() -> io::Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let context = fsopen(c"mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// `readdir(3)`: the same, where it is mounted elsewhere.
///
/// # Errors
/// As [`list`].
pub fn list_at(directory: &Path) -> io::Result<Vec<Entry>> {
    const MQUEUE_MAGIC: i64 = 0x1980_0202;
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "its width differs between architectures")]
    let mounted = rustix::fs::statfs(directory).is_ok_and(|fs| fs.f_type as i64 == MQUEUE_MAGIC);
    if !mounted {
        let at = directory.display();
        return Err(explain(libc::ENODEV, format!("no mqueue file system at {at}; mount -t mqueue none {at}")));
    }
    let mut entries = Vec::new();
    for found in std::fs::read_dir(directory)? {
        let found = found?;
        // One that went meanwhile is left out.
        let Ok(status) = found.metadata() else { continue };
        entries.push(entry(&found, &status));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry(found: &std::fs::DirEntry, status: &std::fs::Metadata) -> Entry {
    let mut name = OsString::from("/");
    name.push(found.file_name());
    // What this file system opens is the queue itself; reading it gives a line of numbers, not a message.
    let file = std::fs::File::open(found.path()).ok();
    let line = file.as_ref().and_then(|file| io::read_to_string(file).ok()).unwrap_or_default();
    let number = |tag| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(tag)?.parse::<u64>().ok());
    Entry {
        name,
        uid: status.uid(),
        gid: status.gid(),
        mode: status.mode() & 0o7777,
        changed: u64::try_from(status.ctime()).ok().map(|s| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(s)),
        attributes: file.and_then(|file| attributes(file.as_fd()).ok()),
        bytes: number("QSIZE:"),
        notified_pid: number("NOTIFY_PID:").and_then(|pid| pid.try_into().ok()).filter(|pid| *pid != 0),
        identity: (status.dev(), status.ino()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    struct Named(String, Queue);

    impl Drop for Named {
        fn drop(&mut self) {
            let _ = unlink(&self.0);
        }
    }

    fn name() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("/ginnel-os-mq-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst))
    }

    fn shaped(capacity: usize, message_size: usize) -> Options {
        Options { shape: Some(Shape { capacity, message_size }), ..Options::default() }
    }

    fn made(capacity: usize, message_size: usize) -> Named {
        let name = name();
        let queue = Queue::create(&name, shaped(capacity, message_size)).unwrap();
        Named(name, queue)
    }

    fn soon(ms: u64) -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(ms))
    }

    #[test]
    fn a_shape_that_cannot_be_is_told_which_number_and_what_to_do() {
        let limits = Limits { msg_max: Some(10), msgsize_max: Some(8192), ..limits() };
        let text = |capacity, message_size| beyond_limits(Shape { capacity, message_size }, &limits);
        assert!(text(0, 8192).ends_with("cannot be: it needs a capacity of at least 1"), "{}", text(0, 8192));
        assert!(text(10, 0).ends_with("a message size of at least 1"));
        assert!(text(11, 1).contains("msg_max is 10; raise it with `sysctl -w fs.mqueue.msg_max=11`"));
        assert!(!text(11, 1).contains("msgsize_max"), "what fits is not blamed");
        assert!(text(11, 8193).contains(", and the limit fs.mqueue.msgsize_max is 8192"));
        for capacity in [65_537, 1 << 63] {
            assert!(text(capacity, 1).contains("65536 at most; ask for less"), "no setting allows it");
        }
        assert!(text(1, 16_777_217).contains("msgsize_max is 8192, and 16777216 at most"));
    }

    #[test]
    fn messages_come_by_priority_then_age() {
        let queue = made(5, 8);
        for (message, priority) in [("a", 0), ("b", PRIORITY_MAX), ("c", 5), ("d", 5), ("", 1)] {
            queue.1.try_send(message.as_bytes(), priority).unwrap();
        }
        assert_eq!(queue.1.try_send(b"", 0).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(queue.1.attributes().unwrap(), Attributes { capacity: 5, message_size: 8, depth: 5 });
        let mut buffer = [0; 8];
        for (message, priority) in [("b", PRIORITY_MAX), ("c", 5), ("d", 5), ("", 1), ("a", 0)] {
            let (len, from) = queue.1.receive(&mut buffer, None).unwrap();
            assert_eq!((&buffer[..len], from), (message.as_bytes(), priority));
        }
        assert_eq!(queue.1.try_receive(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_too_long_or_too_short_says_so() {
        let queue = made(1, 8);
        let error = queue.1.send(&[0; 9], 0, None).unwrap_err();
        assert_eq!((errno(&error), error.kind()), (Some(libc::EMSGSIZE), ErrorKind::InvalidInput));
        assert!(error.to_string().contains("messages of 8 bytes, this has 9"), "{error}");
        let error = queue.1.try_send(b"", PRIORITY_MAX + 1).unwrap_err();
        assert!(error.to_string().contains("priority 32768 is above the limit 32767"), "{error}");
        assert!(queue.1.try_send(b"", u32::MAX).is_err());
        queue.1.send(&[0; 8], 0, None).unwrap();
        assert_eq!(errno(&queue.1.receive(&mut [0; 7], None).unwrap_err()), Some(libc::EMSGSIZE));
        assert_eq!(queue.1.try_receive(&mut [0; 9]).unwrap().0, 8);
    }

    #[test]
    fn a_deadline_passes_and_not_before() {
        let queue = made(1, 1);
        for ms in [0, 30] {
            let deadline = soon(ms);
            assert_eq!(queue.1.receive(&mut [0], deadline).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(Instant::now() >= deadline.unwrap());
        }
        queue.1.send(b"", 0, Some(Instant::now())).unwrap();
        let deadline = soon(30);
        assert_eq!(queue.1.send(b"", 0, deadline).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline.unwrap());
        assert!(queue.1.receive(&mut [0], Some(Instant::now())).is_ok());
    }

    #[test]
    fn signals_neither_end_nor_lengthen_a_wait() {
        let queue = made(1, 1);
        let start = Instant::now();
        let (result, signals) = storm::during(|| queue.1.receive(&mut [0], Some(start + Duration::from_millis(100))));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(100) && start.elapsed() < Duration::from_secs(10));
        assert!(signals > 3, "only {signals} signals came");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(60));
                queue.1.send(b"x", 3, None).unwrap();
            });
            assert_eq!(storm::during(|| queue.1.receive(&mut [0], None)).0.unwrap(), (1, 3));
        });
    }

    #[test]
    fn a_waiting_sender_gets_the_room_that_is_made() {
        let queue = made(1, 1);
        queue.1.try_send(b"1", 0).unwrap();
        for deadline in [None, soon(20_000)] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(20));
                    queue.1.try_receive(&mut [0]).unwrap();
                });
                queue.1.send(b"2", 0, deadline).unwrap();
            });
        }
    }

    #[test]
    fn somebody_elses_nonblock_does_not_end_a_wait() {
        let queue = made(1, 1);
        rustix::fs::fcntl_setfl(&queue.1, rustix::fs::OFlags::NONBLOCK).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                queue.1.send(b"x", 0, None).unwrap();
            });
            assert_eq!(queue.1.receive(&mut [0], None).unwrap(), (1, 0));
        });
    }

    #[test]
    fn directions_and_wrong_descriptors_are_errors() {
        let queue = made(1, 1);
        let sender = Queue::open(&queue.0, Access::Send).unwrap();
        let receiver = Queue::open(&queue.0, Access::Receive).unwrap();
        assert_eq!(errno(&sender.try_receive(&mut [0]).unwrap_err()), Some(libc::EBADF));
        assert_eq!(errno(&receiver.send(b"", 0, None).unwrap_err()), Some(libc::EBADF));
        sender.try_send(b"", 0).unwrap();
        assert!(poll::readable(&[receiver.as_fd()], Some(Instant::now())).unwrap());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(Queue::from_fd(file.into()).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let again = Queue::from_fd(sender.into()).unwrap();
        assert_eq!(again.attributes().unwrap().depth, 1);
        assert!(rustix::io::fcntl_getfd(&again).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn creation_names_the_limit_that_it_meets() {
        let attempt = |capacity, size| {
            let name = name();
            Queue::create(&name, shaped(capacity, size)).map(|queue| Named(name, queue)).err()
        };
        for (capacity, size) in [(0, 1), (1, 0), (1 << 63, 1), (1, usize::MAX), (65537, 1), (1, (16 << 20) + 1)] {
            let error = attempt(capacity, size).unwrap();
            assert_eq!(errno(&error), Some(libc::EINVAL), "{capacity} {size}");
            let text = error.to_string();
            assert!(text.contains("at least 1") || text.contains("ask for less"), "{text}");
        }
        if let Some(limit) = limits().user_bytes {
            // Above the limit of the user; without the right to pass msg_max it is EINVAL.
            let error = attempt(1, (limit as usize + 1).min(16 << 20)).unwrap();
            assert!(
                matches!(errno(&error), Some(libc::EMFILE | libc::EINVAL)) && error.to_string().contains("ulimit -q")
                    || error.to_string().contains("msgsize_max"),
                "{error}"
            );
        }
        assert!(Queue::create(name(), Options { mode: 0o1000, ..shaped(1, 1) }).is_err());
    }

    #[test]
    fn a_name_is_taken_once() {
        let queue = made(2, 3);
        assert_eq!(errno(&Queue::create(&queue.0, shaped(1, 1)).unwrap_err()), Some(libc::EEXIST));
        let again = Queue::open_or_create(&queue.0, shaped(1, 1)).unwrap();
        assert_eq!((again.capacity(), again.message_size()), (2, 3));
        unlink(&queue.0).unwrap();
        assert_eq!(errno(&unlink(&queue.0).unwrap_err()), Some(libc::ENOENT));
        let error = Queue::open(&queue.0, Access::Both).unwrap_err();
        assert_eq!((errno(&error), error.kind()), (Some(libc::ENOENT), ErrorKind::NotFound));
        let long = |n: usize| format!("/{}", "x".repeat(n));
        assert_eq!(errno(&Queue::open(long(256), Access::Both).unwrap_err()), Some(libc::ENAMETOOLONG));
        assert_eq!(errno(&Queue::open(long(255), Access::Both).unwrap_err()), Some(libc::ENOENT));
    }

    static VALUE: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn keep_value(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel hands a valid struct to a handler with SA_SIGINFO.
        let info = unsafe { &*info };
        // SAFETY: a signal of mq_notify carries a value.
        VALUE.store(unsafe { info.si_value() }.sival_ptr.addr(), SeqCst);
    }

    #[test]
    fn a_notification_carries_its_value_once() {
        let queue = made(2, 1);
        let signal = libc::SIGRTMIN() + 5;
        storm::install(signal, keep_value as *const () as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_RESTART);
        queue.1.notify(signal, 0xabcd).unwrap();
        assert_eq!(errno(&queue.1.notify(signal, 1).unwrap_err()), Some(libc::EBUSY));
        queue.1.try_send(b"", 0).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while VALUE.load(SeqCst) != 0xabcd {
            assert!(Instant::now() < end, "no signal came");
            std::thread::yield_now();
        }
        queue.1.notify(signal, 1).unwrap();
        queue.1.stop_notify().unwrap();
        queue.1.stop_notify().unwrap();
        assert_eq!(errno(&queue.1.notify(1000, 0).unwrap_err()), Some(libc::EINVAL));
    }

    #[test]
    fn queues_are_listed_where_nothing_is_mounted() {
        let mount = match detached() {
            Ok(mount) => mount,
            Err(e) => return eprintln!("skipped: this may not mount: {e}"),
        };
        let name = format!("/ginnel-os-mq-detached-{}", std::process::id());
        let queue = Queue::create(name.as_str(), Options::default()).unwrap();
        queue.send(b"123", 0, None).unwrap();
        let listed = list_at(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())));
        unlink(name.as_str()).unwrap();
        let entry = listed.unwrap().into_iter().find(|entry| entry.name == *name).expect("it is listed");
        let status = rustix::fs::fstat(&queue).unwrap();
        assert_eq!(entry.identity, (status.st_dev, status.st_ino));
        assert_eq!((entry.attributes.unwrap().depth, entry.bytes), (1, Some(3)));
    }

    #[test]
    fn the_list_shows_room_depth_and_bytes() {
        let queue = made(3, 10);
        queue.1.try_send(b"12345", 0).unwrap();
        let mount = MountedAt::new();
        let Some(mount) = mount else { return eprintln!("skipped: no right to mount an mqueue file system") };
        let entries = list_at(&mount.0).unwrap();
        let entry = entries.iter().find(|entry| entry.name == OsStr::new(&queue.0)).unwrap();
        assert_eq!(entry.attributes.unwrap(), Attributes { capacity: 3, message_size: 10, depth: 1 });
        assert_eq!((entry.uid, entry.mode & 0o700), (crate::process::user(), 0o600));
        // The kernel counts its own records in some versions.
        assert!(entry.bytes.unwrap() >= 5 && entry.notified_pid.is_none() && entry.changed.is_some());
        assert_eq!(errno(&list_at(Path::new("/proc")).unwrap_err()), Some(libc::ENODEV));
    }

    struct MountedAt(std::path::PathBuf);

    impl MountedAt {
        fn new() -> Option<Self> {
            let path = std::env::temp_dir().join(name().trim_start_matches('/'));
            std::fs::create_dir(&path).unwrap();
            let mounted = Self(path);
            let target = CString::new(mounted.0.as_os_str().as_encoded_bytes()).unwrap();
            let (none, kind) = (c"none".as_ptr(), c"mqueue".as_ptr());
            // SAFETY: all four are C strings for the duration of the call.
            let done = unsafe { libc::mount(none, target.as_ptr(), kind, 0, std::ptr::null()) };
            (done == 0).then_some(mounted)
        }
    }

    impl Drop for MountedAt {
        fn drop(&mut self) {
            let target = CString::new(self.0.as_os_str().as_encoded_bytes()).unwrap();
            // SAFETY: a C string.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
            let _ = std::fs::remove_dir(&self.0);
        }
    }
}
