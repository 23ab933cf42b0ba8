//! Children of this test: forked, bounded in time, killed and reaped by their own pid.
//!
//! [`ask`] runs a closure in a fresh child and brings back the bytes it returns. Whatever the closure does (hang, panic,
//! crash, start threads, leak), the caller gets a `Result` within the limit and its own process is as it was. That is why
//! every trial runs in one: the heap, the descriptors and the number of threads are the same at the start of each.
//!
//! A child dies with the thread that started it (`PR_SET_PDEATHSIG`), so a killed test leaves no process.

// The system calls below take no pointer but to a local of the right size, and a forked child never returns.
#![allow(unsafe_code)]

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// A forked process that is killed and reaped when this is dropped.
pub(crate) struct Child {
    pid: libc::pid_t,
    reaped: bool,
}

impl Child {
    /// Forks; the child runs `run`, which must not return control to the caller's code, and leaves through `_exit(0)`.
    pub(crate) fn spawn(run: impl FnOnce()) -> Result<Self, String> {
        // SAFETY: `getpid` cannot fail and touches no memory.
        let parent = unsafe { libc::getpid() };
        // SAFETY: the caller has one thread, or threads whose locks the child does not take; the child never returns.
        match unsafe { libc::fork() } {
            -1 => Err(failed("fork")),
            0 => {
                die_with(parent);
                // A panic that reached the caller's frames would run its code, and its destructors, twice.
                let _ = catch_unwind(AssertUnwindSafe(run));
                exit_now(0)
            }
            pid => Ok(Self { pid, reaped: false }),
        }
    }

    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Tells that somebody has reaped it: the pid may belong to a stranger from now on.
    pub(crate) fn mark_reaped(&mut self) {
        self.reaped = true;
    }

    /// Sends SIGKILL and returns when every thread of the child is dead. The child stays a zombie until the drop.
    pub(crate) fn kill(&self) {
        if self.reaped {
            return;
        }
        // SAFETY: the pid is that of a child of ours that has not been reaped, so it cannot have been reused.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let id = self.pid.unsigned_abs();
        loop {
            // SAFETY: `siginfo_t` is plain data for which all zeros is a valid value.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let how = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
            // SAFETY: `info` is a live local that the kernel may fill.
            let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut info, how) };
            if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }

    /// Waits for the child to leave by itself, at most until `deadline`; says how it left. It stays a zombie.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<String, String> {
        let id = self.pid.unsigned_abs();
        loop {
            // SAFETY: `siginfo_t` is plain data for which all zeros is a valid value.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let how = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
            // SAFETY: `info` is a live local that the kernel may fill.
            if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, how) } == -1 {
                return Err(failed("waitid"));
            }
            // SAFETY: `waitid` succeeded: the field is set, or zero where nobody has left yet.
            if unsafe { info.si_pid() } != 0 {
                // SAFETY: the record describes a child that left, so it carries a status.
                let status = unsafe { info.si_status() };
                return Ok(match info.si_code {
                    libc::CLD_EXITED => format!("exited with {status}"),
                    _ => format!("died of signal {status}"),
                });
            }
            if Instant::now() >= deadline {
                return Err("did not leave in time".into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kill();
        // SAFETY: a null status is allowed; the pid is a dead child of ours that nobody else reaps.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) };
    }
}

/// A child that was asked something and may not have answered yet.
pub(crate) struct Asked {
    reader: OwnedFd,
    child: Child,
}

impl Asked {
    /// Runs `answer` in a forked child.
    pub(crate) fn begin(answer: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Self, String> {
        let (reader, writer) = pipe()?;
        let child = Child::spawn(|| tell(writer.as_raw_fd(), &caught(answer)))?;
        Ok(Self { reader, child })
    }

    /// What it answers within `limit`; an error when it says no, panicked, died or hangs.
    pub(crate) fn answer(&self, limit: Duration) -> Result<Vec<u8>, String> {
        match hear(&self.reader, Instant::now() + limit)? {
            Heard::Answer(answer) => answer,
            Heard::Silence => Err(format!("no answer within {limit:?}")),
            Heard::End => {
                let how = self.child.wait(Instant::now() + Duration::from_secs(1));
                Err(format!("{} before it answered", how.unwrap_or_else(|error| error)))
            }
        }
    }
}

/// Runs `answer` in a forked child, and returns what it returned within `limit`.
pub(crate) fn ask(limit: Duration, answer: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
    Asked::begin(answer)?.answer(limit)
}

/// Calls `f`, and turns a panic into an error that carries its message.
pub(crate) fn caught<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(panic_message(&*panic)))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}

/// Writes an answer as one record: `0` or `1`, eight bytes of length, the bytes.
pub(crate) fn tell(pipe: RawFd, answer: &Result<Vec<u8>, String>) {
    let (flag, body) = match answer {
        Ok(bytes) => (1, bytes.as_slice()),
        Err(text) => (0, text.as_bytes()),
    };
    let mut record = vec![flag];
    record.extend((body.len() as u64).to_le_bytes());
    record.extend(body);
    let mut rest = record.as_slice();
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of a live slice.
        let written = unsafe { libc::write(pipe, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(written) => rest = &rest[written..],
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return, // the reader is gone
        }
    }
}

/// What came through a pipe.
pub(crate) enum Heard {
    Answer(Result<Vec<u8>, String>),
    /// The deadline came first.
    Silence,
    /// The writer left without a whole record.
    End,
}

/// Reads one record until `deadline`.
pub(crate) fn hear(pipe: &OwnedFd, deadline: Instant) -> Result<Heard, String> {
    const HEADER: usize = 9;
    let mut record = Vec::new();
    let mut chunk = [0_u8; 65_536];
    loop {
        if let Some((header, body)) = record.split_at_checked(HEADER) {
            let length: [u8; 8] = header[1..].try_into().unwrap_or_default();
            if body.len() as u64 >= u64::from_le_bytes(length) {
                let fine = header[0] == 1;
                let no = || String::from_utf8_lossy(body).into_owned();
                return Ok(Heard::Answer(if fine { Ok(body.to_vec()) } else { Err(no()) }));
            }
        }
        if !readable(pipe, deadline)? {
            return Ok(Heard::Silence);
        }
        // SAFETY: the pointer and the length are those of a live array.
        let read = unsafe { libc::read(pipe.as_raw_fd(), chunk.as_mut_ptr().cast(), chunk.len()) };
        match usize::try_from(read) {
            Ok(0) => return Ok(Heard::End),
            Ok(read) => record.extend(&chunk[..read]),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(failed("read")),
        }
    }
}

fn readable(pipe: &OwnedFd, deadline: Instant) -> Result<bool, String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left_ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let mut wanted = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `wanted` is one live record, as the count says.
        match unsafe { libc::poll(&raw mut wanted, 1, left_ms) } {
            0 => return Ok(false),
            1 => return Ok(true),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(failed("poll")),
        }
    }
}

/// A pipe whose ends are closed on exec.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let mut ends = [0; 2];
    // SAFETY: the kernel fills the two elements of a live array.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(failed("pipe2"));
    }
    // SAFETY: `pipe2` just made this descriptor and nobody else owns it.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as for the reading end.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((reader, writer))
}

/// Leaves the process at once: no destructor, no exit handler, no flush.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` does not return and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// SIGKILL, as if from outside.
pub(crate) fn kill_this_process() {
    // SAFETY: takes numbers only; nothing of this process runs after it.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// Sets an environment variable, for this process and its children.
pub(crate) fn set_variable(name: &str, value: &Path) {
    // SAFETY: this test has one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

/// What the last system call complained of.
pub(crate) fn failed(call: &str) -> String {
    format!("{call}: {}", io::Error::last_os_error())
}

/// Makes the kernel kill this process when the thread that forked it is gone.
fn die_with(parent: libc::pid_t) {
    // SAFETY: this option takes a signal number and no pointer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: `getppid` cannot fail and touches no memory.
    if unsafe { libc::getppid() } != parent {
        exit_now(1); // it died before the line above
    }
}
