//! Real processes that run closures at the same time, each on its own core, under a hard time limit.
//!
//! Not a general process pool: every run forks its members anew, and they live for one measurement.
//!
//! ```text
//! caller   fork, fork .......... poll(pidfd, pidfd, limit) .......... reap, read the results
//! member        pin, open, gate | measure | write the result into its mailbox (a memfd), _exit
//! ```
//!
//! A member that dies, fails or panics ends the run at once: the others, which may be waiting for it for ever, are
//! killed, and the error names the one that went first. At the limit the error names those that still ran. Only processes
//! that this module forked are signalled, through their pidfd, and all are reaped before [`run`] returns. Should the caller die,
//! the kernel kills its members.
//!
//! Unsafe here is `fork` and `_exit`. The argument for `fork`: the member never returns
//! into the caller's code (it leaves with `_exit`, a panic included), and allocating after a fork is sound with glibc and
//! musl, whose allocators survive one. In a caller with several threads a lock of the standard library that another thread
//! held (standard error's, say) stays locked in the member: call from a process with one thread, or live with the time limit.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::cores;
use crate::region::Region;

/// Why a run gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The run could not be set up.
    #[error("setting up: {0}")]
    Setup(Failure),
    /// A member reported an error, or panicked.
    #[error("the {who} failed: {reason}")]
    Failed {
        /// The member's name.
        who: String,
        /// What it said.
        reason: Failure,
    },
    /// A member was killed, or left without a result.
    #[error("the {who} died: {how}")]
    Died {
        /// The member's name.
        who: String,
        /// Its signal or exit status, in words.
        how: String,
    },
    /// The time limit passed.
    #[error("the {who} did not finish within {limit:?}")]
    Hung {
        /// The names of the members that still ran.
        who: String,
        /// The limit of the run.
        limit: Duration,
    },
    /// The run was to end before its time.
    #[error("stopped")]
    Stopped,
}

/// Where members wait for each other: all of them start when the last has arrived.
#[derive(Clone, Debug)]
pub struct Gate {
    region: Arc<Region>,
    members: u32,
}

impl Gate {
    fn new(members: u32) -> Result<Self, Failure> {
        Ok(Self { region: Region::new(size_of::<AtomicU32>())?, members })
    }

    /// Arrives and spins until everybody has; to be called once by each member, after it has opened its handles.
    pub fn wait(&self) {
        let arrived = self.region.word(0);
        // Release and acquire: what a member prepared before the gate is seen by the others behind it.
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < self.members {
            // Members may share a core where there is only one.
            std::thread::yield_now();
        }
    }
}

type Body<'a, T> = dyn FnOnce(&Gate) -> Result<T, Failure> + 'a;

/// One process of a run.
pub struct Member<'a, T> {
    name: &'static str,
    core: Option<usize>,
    body: Box<Body<'a, T>>,
}

impl<'a, T> Member<'a, T> {
    /// A member called `name` in errors, pinned to `core` if there is one, that runs `body`.
    pub fn new(name: &'static str, core: Option<usize>, body: impl FnOnce(&Gate) -> Result<T, Failure> + 'a) -> Self {
        Self { name, core, body: Box::new(body) }
    }
}

/// What ends a run, or a contest, before its time: a descriptor that becomes readable, as that of a signal does.
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// Stops when `file` can be read.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn when_readable(file: impl AsFd) -> std::io::Result<Self> {
        Ok(Self(Arc::new(file.as_fd().try_clone_to_owned()?)))
    }

    /// Whether it is to stop now.
    fn is_now(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// Runs all members at once and returns their results in the order given.
///
/// # Errors
///
/// [`RunError`], when a member failed, died, or did not finish within `limit`. No member is left in any case.
pub fn run<T>(members: Vec<Member<'_, T>>, limit: Duration) -> Result<Vec<T>, RunError>
where
    T: Serialize + DeserializeOwned,
{
    run_until(members, limit, None)
}

/// The same, and fails with [`RunError::Stopped`] when told to stop.
pub(crate) fn run_until<T>(
    members: Vec<Member<'_, T>>,
    limit: Duration,
    stop: Option<&Stop>,
) -> Result<Vec<T>, RunError>
where
    T: Serialize + DeserializeOwned,
{
    let deadline = Instant::now() + limit;
    let count = u32::try_from(members.len()).map_err(|_| RunError::Setup(Failure::new("too many members")))?;
    let gate = Gate::new(count).map_err(RunError::Setup)?;
    let mut children = Vec::new();
    for member in members {
        children.push(Child::spawn(member, &gate).map_err(RunError::Setup)?);
    }
    watch(&mut children, deadline, limit, stop)?;
    children.iter().map(Child::result).collect()
}

/// Waits until every child has left in good order, or returns the first thing that went wrong.
fn watch(children: &mut [Child], deadline: Instant, limit: Duration, stop: Option<&Stop>) -> Result<(), RunError> {
    while children.iter().any(|child| child.ended.is_none()) {
        if stop.is_some_and(Stop::is_now) {
            return Err(RunError::Stopped);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let hung: Vec<_> = children.iter().filter(|child| child.ended.is_none()).map(|child| child.name).collect();
            return Err(RunError::Hung { who: hung.join(" and the "), limit });
        }
        wait_for_any(children, left, stop).map_err(|errno| RunError::Setup(errno.into()))?;
        for child in children.iter_mut() {
            child.reap_if_ended().map_err(|errno| RunError::Setup(errno.into()))?;
        }
        // A death explains another member's failure, never the other way round.
        for child in children.iter() {
            child.death()?;
        }
        for child in children.iter() {
            child.failure()?;
        }
    }
    Ok(())
}

/// Sleeps until a child that still runs leaves, it is time to stop, or `left` has passed.
fn wait_for_any(children: &[Child], left: Duration, stop: Option<&Stop>) -> rustix::io::Result<()> {
    let running = children.iter().filter(|child| child.ended.is_none());
    let files = running.map(|child| &child.pidfd).chain(stop.map(|stop| &*stop.0));
    let mut fds: Vec<_> = files.map(|file| PollFd::new(file, PollFlags::IN)).collect();
    let timeout =
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// How a child left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Exited(i32),
    Signalled(i32),
    /// Somebody else took the status: SIGCHLD is ignored in this process.
    Unknown,
}

/// A forked member. Dropping one that still runs kills and reaps it.
struct Child {
    name: &'static str,
    pidfd: OwnedFd,
    mailbox: File,
    ended: Option<Ended>,
}

const DONE: i32 = 0;
const FAILED: i32 = 1;

impl Child {
    fn spawn<T: Serialize>(member: Member<'_, T>, gate: &Gate) -> Result<Self, Failure> {
        let mailbox = File::from(memfd_create("ginnel-bench-result", MemfdFlags::CLOEXEC)?);
        let caller = rustix::process::getpid();
        let name = member.name;
        // SAFETY: the child runs `live` alone, which never returns; see the module's argument for what it may do there.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(Failure::new(format_args!("fork: {}", std::io::Error::last_os_error()))),
            0 => live(member, gate, mailbox, caller),
            pid => {
                let pid = Pid::from_raw(pid).ok_or_else(|| Failure::new("fork returned a negative process id"))?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                })?;
                Ok(Self { name, pidfd, mailbox, ended: None })
            }
        }
    }

    /// Collects the status of a child that has left; one that runs is left alone.
    fn reap_if_ended(&mut self) -> rustix::io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        self.ended = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exited(code),
                (_, Some(signal)) => Ended::Signalled(signal),
                _ => Ended::Unknown,
            }),
            Err(rustix::io::Errno::CHILD) => Some(Ended::Unknown),
            Err(errno) => return Err(errno),
        };
        Ok(())
    }

    /// An error when the child was killed or left by another exit than its own.
    fn death(&self) -> Result<(), RunError> {
        let how = match self.ended {
            Some(Ended::Signalled(signal)) => format!("killed by signal {signal}"),
            Some(Ended::Exited(code)) if code != DONE && code != FAILED => format!("exit status {code}"),
            _ => return Ok(()),
        };
        Err(RunError::Died { who: self.name.to_owned(), how })
    }

    /// An error when the child said that it failed.
    fn failure(&self) -> Result<(), RunError> {
        if self.ended != Some(Ended::Exited(FAILED)) {
            return Ok(());
        }
        let reason = match self.letter::<serde::de::IgnoredAny>()? {
            Err(reason) => Failure::new(reason),
            Ok(_) => Failure::new("it gave no reason"),
        };
        Err(RunError::Failed { who: self.name.to_owned(), reason })
    }

    /// The result of a child that left in good order.
    fn result<T: DeserializeOwned>(&self) -> Result<T, RunError> {
        let letter = self.letter()?;
        letter.map_err(|reason: String| RunError::Failed { who: self.name.to_owned(), reason: Failure::new(reason) })
    }

    /// What lies in the mailbox.
    fn letter<T: DeserializeOwned>(&self) -> Result<Result<T, String>, RunError> {
        let read = || -> std::io::Result<Vec<u8>> {
            let len = self.mailbox.metadata()?.len();
            let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
            self.mailbox.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let no_result = |error: &dyn std::fmt::Display| RunError::Died {
            who: self.name.to_owned(),
            how: format!("it left no result ({error})"),
        };
        let bytes = read().map_err(|error| no_result(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| no_result(&error))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {}
    }
}

/// The life of a member, in its own process.
fn live<T: Serialize>(member: Member<'_, T>, gate: &Gate, mut mailbox: File, caller: Pid) -> ! {
    // A second net, should the body's result be unserialisable by panicking: nothing may unwind out of here.
    let code = catch_unwind(AssertUnwindSafe(|| {
        let result = work(member, gate, caller).map_err(|failure| failure.to_string());
        let code = if result.is_ok() { DONE } else { FAILED };
        let letter = serde_json::to_vec(&result).unwrap_or_default();
        mailbox.write_all(&letter).map_or(FAILED, |()| code)
    }));
    // SAFETY: `_exit` ends this process without running the caller's exit handlers, which are the caller's to run.
    unsafe { libc::_exit(code.unwrap_or(FAILED)) }
}

fn work<T>(member: Member<'_, T>, gate: &Gate, caller: Pid) -> Result<T, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(caller) {
        return Err(Failure::new("the caller died before it could be watched"));
    }
    if let Some(core) = member.core {
        cores::pin(core)?;
    }
    catch_unwind(AssertUnwindSafe(|| (member.body)(gate))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Failure::new(format_args!("panicked: {}", text.as_deref().unwrap_or("with something that is not text"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn nap() -> Result<u64, Failure> {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(0)
    }

    #[test]
    fn results_come_back_in_order() {
        let members = (0..4u64).map(|i| {
            Member::new("counter", None, move |gate: &Gate| {
                gate.wait();
                Ok(i * 10)
            })
        });
        assert_eq!(run(members.collect(), LIMIT).unwrap(), [0, 10, 20, 30]);
    }

    #[test]
    fn a_large_result_comes_back_whole() {
        let member = Member::new("talker", None, |_: &Gate| Ok("x".repeat(3 << 20)));
        assert_eq!(run(vec![member], LIMIT).unwrap()[0].len(), 3 << 20);
    }

    #[test]
    fn a_killed_member_is_named_and_the_other_not_waited_for() {
        let members = vec![
            Member::new("sleeper", None, |_: &Gate| nap()),
            Member::new("victim", None, |_: &Gate| {
                rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
                nap()
            }),
        ];
        let error = run(members, LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "the victim died: killed by signal 9");
    }

    #[test]
    fn a_member_that_exits_behind_our_back_is_dead() {
        let member = Member::new("leaver", None, |_: &Gate| -> Result<u64, Failure> {
            // SAFETY: ends this forked process at once; nothing of it is used afterwards.
            unsafe { libc::_exit(0) }
        });
        let error = run(vec![member], LIMIT).unwrap_err().to_string();
        assert!(error.starts_with("the leaver died: it left no result"), "{error}");
    }

    #[test]
    fn a_run_that_is_stopped_ends_at_once_and_leaves_nobody() {
        let (told, tell) = std::io::pipe().unwrap();
        let stop = Stop::when_readable(&told).unwrap();
        drop(tell); // the end of a pipe is readable
        let begun = Instant::now();
        let members = vec![Member::new("sleeper", None, |_: &Gate| nap())];
        assert!(matches!(run_until(members, LIMIT, Some(&stop)), Err(RunError::Stopped)));
        assert!(begun.elapsed() < LIMIT);
    }

    #[test]
    fn a_failure_and_a_panic_are_told() {
        let members = vec![
            Member::new("sleeper", None, |_: &Gate| nap()),
            Member::new("unlucky", None, |_: &Gate| Err(Failure::new("no luck"))),
        ];
        assert_eq!(run(members, LIMIT).unwrap_err().to_string(), "the unlucky failed: no luck");
        let member = Member::new("clumsy", None, |_: &Gate| -> Result<u64, Failure> { panic!("dropped it") });
        assert_eq!(run(vec![member], LIMIT).unwrap_err().to_string(), "the clumsy failed: panicked: dropped it");
    }

    #[test]
    fn hung_members_are_named_at_the_limit_and_gone_after_it() {
        let started = Instant::now();
        let members =
            vec![Member::new("quick", None, |_: &Gate| Ok(1)), Member::new("sleeper", None, |_: &Gate| nap())];
        let error = run(members, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.to_string(), "the sleeper did not finish within 200ms");
        assert!(started.elapsed() < LIMIT);
    }
}
