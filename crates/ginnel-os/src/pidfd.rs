//! `pidfd_open(2)`: a process as a descriptor, which becomes readable when the process ends, reaped or not.
//!
//! An id passes to another process after the end; a descriptor does not. So waiting and sending through it never meet the wrong one. Only
//! [`PidFd::open`] takes an id: its caller knows that it still is the process it means.
#![allow(unsafe_code)] // A siginfo_t that is filled in by hand, for a system call that the C library may not have.

use crate::explain::not_opened;
use crate::poll;
use crate::signal::{self, Signal, Value};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// A process that cannot be mistaken for a later one with the same id.
///
/// ```
/// use ginnel_os::{pidfd::PidFd, signal::Signal};
/// use std::os::unix::process::ExitStatusExt;
///
/// let child = std::process::Command::new("sleep").arg("60").spawn()?;
/// let process = PidFd::open(child.id())?;
/// process.send(Signal::TERM)?;
/// assert_eq!(process.reap(None)?.signal(), Some(Signal::TERM.number()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `pidfd_open(2)`. The caller knows that `pid` still is the process it means: its own child, say.
    ///
    /// # Errors
    /// The errno: `ESRCH` if there is no such process, or it is no process's id but a thread's (`EINVAL` before Linux 6.9).
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(Self(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(not_opened)?))
    }

    /// `proc_pid_fdinfo(5)`: takes a descriptor over that is a process, from `SCM_PIDFD` or `CLONE_PIDFD` say.
    ///
    /// # Errors
    /// `InvalidInput`: it is something else. Else the errno: `ENOENT` where `/proc` is not mounted.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pidfd::PidFd;
    ///
    /// let me = PidFd::open(std::process::id())?;
    /// assert!(PidFd::from_fd(me.into()).is_ok());
    /// assert!(PidFd::from_fd(std::fs::File::open("/dev/null")?.into()).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        match pid_line(&file)? {
            Some(_) => Ok(Self(file)),
            None => {
                let text = "the descriptor is not a process; pass a pidfd";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    /// `proc_pid_fdinfo(5)`: its id in this process's namespace; none once it has been reaped, or if it has none here.
    ///
    /// # Errors
    /// The errno: `ENOENT` where `/proc` is not mounted.
    ///
    /// # Examples
    /// ```
    /// let me = ginnel_os::pidfd::PidFd::open(std::process::id())?;
    /// assert_eq!(me.pid()?, Some(std::process::id()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pid(&self) -> io::Result<Option<u32>> {
        Ok(pid_line(&self.0)?.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0))
    }

    /// `poll(2)`: waits until the process has ended, all of its threads. It need not be a child.
    ///
    /// # Errors
    /// `TimedOut`: it still ran at the deadline. Else the errno.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let me = ginnel_os::pidfd::PidFd::open(std::process::id())?;
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(me.wait(Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        if poll::readable(&[self.0.as_fd()], deadline)? { Ok(()) } else { Err(Errno::TIMEDOUT.into()) }
    }

    /// `poll(2)` without waiting: whether the process has ended.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Examples
    /// ```
    /// let me = ginnel_os::pidfd::PidFd::open(std::process::id())?;
    /// assert!(!me.has_ended()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn has_ended(&self) -> io::Result<bool> {
        poll::is_readable(self.0.as_fd())
    }

    /// `poll(2)`: waits until the process has ended; false if it still runs after `limit`.
    ///
    /// # Errors
    /// The errno of `poll(2)`.
    pub fn wait_ended(&self, limit: Duration) -> io::Result<bool> {
        poll::readable(&[self.0.as_fd()], Instant::now().checked_add(limit))
    }

    /// `waitid(2)` with `P_PIDFD`: how this child ended, once it has; it is reaped, and its id is free.
    ///
    /// # Errors
    /// The errno: `ECHILD` if it is not a child of this process, was reaped before, or `SIGCHLD` is ignored, so that the kernel reaps. `TimedOut`: it still
    /// ran at the deadline.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use ginnel_os::pidfd::PidFd;
    ///
    /// let child = std::process::Command::new("true").spawn()?;
    /// let process = PidFd::open(child.id())?;
    /// let status = process.reap(Some(Instant::now() + Duration::from_secs(60)))?;
    /// assert!(status.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reap(&self, deadline: Option<Instant>) -> io::Result<ExitStatus> {
        let options = match deadline {
            None => WaitIdOptions::EXITED,
            Some(_) => {
                self.wait(deadline)?;
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG
            }
        };
        // Nothing, once it has ended: a tracer of it has not been told yet.
        self.waitid(options)?.ok_or_else(|| Errno::TIMEDOUT.into())
    }

    /// `waitid(2)` with `WNOHANG`: how this child ended; it is reaped.
    ///
    /// # Errors
    /// As [`Self::reap`]; `WouldBlock` if it still runs.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pidfd::PidFd;
    ///
    /// let child = std::process::Command::new("true").spawn()?;
    /// let process = PidFd::open(child.id())?;
    /// process.wait(None)?;
    /// assert!(process.try_reap()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_reap(&self) -> io::Result<ExitStatus> {
        self.waitid(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?.ok_or_else(|| Errno::AGAIN.into())
    }

    /// `waitid(2)` with `WNOWAIT`: how this child ended, if it has; it stays to be reaped.
    ///
    /// # Errors
    /// As [`Self::reap`].
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::pidfd::PidFd;
    ///
    /// let child = std::process::Command::new("false").spawn()?;
    /// let process = PidFd::open(child.id())?;
    /// process.wait(None)?;
    /// assert_eq!(process.peek()?.and_then(|status| status.code()), Some(1));
    /// assert_eq!(process.try_reap()?.code(), Some(1));
    /// assert!(process.peek().is_err()); // ECHILD
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek(&self) -> io::Result<Option<ExitStatus>> {
        Ok(self.waitid(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?)
    }

    fn waitid(&self, options: WaitIdOptions) -> Result<Option<ExitStatus>, Errno> {
        let found = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.0.as_fd()), options))?;
        Ok(found.as_ref().map(exit_status))
    }

    /// `pidfd_send_signal(2)`.
    ///
    /// # Errors
    /// The errno: `ESRCH` if it has ended and was reaped, `EPERM`.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        self.send_with(signal, None)
    }

    /// `pidfd_send_signal(2)` with `SIGKILL`.
    ///
    /// # Errors
    /// The errno: `ESRCH` if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.send(Signal::KILL)
    }

    /// `pidfd_send_signal(2)` with a `siginfo_t`: as [`signal::queue`], to this very process.
    ///
    /// # Errors
    /// As [`signal::queue`].
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{pidfd::PidFd, signal::{Signal, Value}, sigset::Set};
    ///
    /// let signal = Signal::real_time(4)?;
    /// let set = Set::from_iter([signal]);
    /// let _blocked = set.block(); // as the only thread
    /// PidFd::open(std::process::id())?.queue(signal, Value::from_int(-3))?;
    /// assert_eq!(set.wait(None)?.value.map(Value::as_int), Some(-3));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn queue(&self, signal: Signal, value: Value) -> io::Result<()> {
        let result = self.send_with(signal, Some(&queued(signal, value)));
        result.map_err(|error| match self.pid() {
            Ok(Some(pid)) => signal::queue_full(pid, error),
            _ => error,
        })
    }

    fn send_with(&self, signal: Signal, info: Option<&libc::siginfo_t>) -> io::Result<()> {
        let info = info.map_or(std::ptr::null(), std::ptr::from_ref);
        let (file, number) = (self.0.as_raw_fd(), signal.number());
        // SAFETY: the descriptor is open; `info` is null or a whole siginfo_t, which is only read.
        if unsafe { libc::syscall(libc::SYS_pidfd_send_signal, file, number, info, 0) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }

    /// `pidfd_getfd(2)`: a duplicate of a descriptor that the process has open, by its number there. It shares the description, as after `dup(2)`.
    ///
    /// # Errors
    /// `PermissionDenied`: the caller may not trace the process. Else the errno: `EBADF` if nothing is open at that number, `ESRCH` if the
    /// process has ended.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{pidfd::PidFd, pipe};
    /// use std::os::fd::{AsFd, AsRawFd};
    ///
    /// let (reader, writer) = pipe::pair()?;
    /// let me = PidFd::open(std::process::id())?;
    /// let copy = pipe::Writer::from_fd(me.getfd(writer.as_fd().as_raw_fd())?)?;
    /// copy.write(b"x", None)?;
    /// assert_eq!(reader.available()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn getfd(&self, number: i32) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        let flags = rustix::process::PidfdGetfdFlags::empty();
        rustix::process::pidfd_getfd(&self.0, number, flags).map_err(|error| match error {
            Errno::PERM => {
                let text = "taking a descriptor of a process needs the right to trace it: the same user and \
                            /proc/sys/kernel/yama/ptrace_scope 0, or CAP_SYS_PTRACE";
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            }
            error => error.into(),
        })
    }
}

/// The line `Pid:`, which only descriptors of processes have: -1 once it is reaped.
fn pid_line(file: &OwnedFd) -> io::Result<Option<i64>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    Ok(info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok()))
}

/// The wait status of `wait(2)`, which `ExitStatus` is made of.
fn exit_status(found: &WaitIdStatus) -> ExitStatus {
    let core = if found.dumped() { 0x80 } else { 0 };
    let raw = match (found.exit_status(), found.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, signal) => signal.unwrap_or(0) & 0x7f | core,
    };
    ExitStatus::from_raw(raw)
}

/// The start of a `siginfo_t` as `sigqueue(3)` fills it in.
#[repr(C)]
struct Queued {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    sent: Sent,
}

/// The member `_rt` of its union, which is aligned like the pointer in it.
#[repr(C)]
struct Sent {
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: *mut libc::c_void,
}

const _: () = assert!(size_of::<Queued>() <= size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<Queued>() <= align_of::<libc::siginfo_t>());

fn queued(signal: Signal, value: Value) -> libc::siginfo_t {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let sent = Sent {
        pid: std::process::id() as libc::pid_t,
        uid: rustix::process::getuid().as_raw(),
        value: std::ptr::without_provenance_mut(value.as_word()),
    };
    let start = Queued { signal: signal.number(), errno: 0, code: libc::SI_QUEUE, sent };
    // SAFETY: it fits, in size and alignment, as is asserted above.
    unsafe { info.as_mut_ptr().cast::<Queued>().write(start) };
    // SAFETY: zeroed, then partly written with integers and a pointer that nobody follows.
    unsafe { info.assume_init() }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(process: PidFd) -> Self {
        process.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigset::Set;
    use crate::storm::{Storm, in_child};
    use std::io::ErrorKind;
    use std::process::Command;

    fn shell(script: &str) -> PidFd {
        PidFd::open(Command::new("sh").args(["-c", script]).spawn().unwrap().id()).unwrap()
    }

    #[test]
    fn a_child_is_awaited_looked_at_and_reaped_once() {
        let child = shell("exit 7");
        child
            .reap(Some(Instant::now() + Duration::from_secs(20)))
            .map(|status| assert_eq!(status.code(), Some(7)))
            .unwrap();
        assert_eq!(child.reap(None).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(child.pid().unwrap(), None);
        assert!(child.has_ended().unwrap());
        assert_eq!(child.send(Signal::TERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        let queued = child.queue(Signal::TERM, Value::from_int(1));
        assert_eq!(queued.unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(child.getfd(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_deadline_holds_in_a_storm_of_signals() {
        let child = shell("sleep 60");
        assert_eq!(child.try_reap().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(child.peek().unwrap(), None);
        let storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(child.wait(Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        assert_eq!(child.reap(Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(!child.wait_ended(Duration::ZERO).unwrap());
        child.kill().unwrap();
        assert_eq!(child.reap(None).unwrap().signal(), Some(libc::SIGKILL));
        drop(storm);
        assert!(child.wait_ended(Duration::MAX).unwrap());
    }

    #[test]
    fn queued_values_arrive_with_their_sender() {
        in_child(|| {
            let signal = Signal::real_time(5).unwrap();
            let set = Set::from_iter([signal]);
            let _blocked = set.block();
            let me = PidFd::open(std::process::id()).unwrap();
            for word in [0, 1, usize::MAX] {
                me.queue(signal, Value::from_word(word)).unwrap();
            }
            for word in [0, 1, usize::MAX] {
                let info = set.try_wait().unwrap();
                assert_eq!((info.code, info.value.unwrap().as_word()), (libc::SI_QUEUE, word));
                assert_eq!(info.sender.unwrap().pid, std::process::id());
                assert_eq!(info.sender.unwrap().uid, rustix::process::getuid().as_raw());
            }
        });
    }

    #[test]
    fn bad_ids_and_numbers_are_errors() {
        for pid in [0, i32::MAX as u32, 1 << 31, u32::MAX] {
            assert_eq!(PidFd::open(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH), "{pid}");
        }
        let me = PidFd::open(std::process::id()).unwrap();
        for number in [i32::MIN, -1, i32::MAX] {
            assert_eq!(me.getfd(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
        let (reader, _writer) = crate::pipe::pair().unwrap();
        assert_eq!(PidFd::from_fd(reader.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
