//! Counts the instructions of a part of a forked child, by stepping it through that part one by one.
//!
//! ```text
//!   child:   prepares  |line|  the part that counts  |line|  goes on  |line|  ..  |line|  _exit(0)
//!   tracer:  lets run          steps and counts              lets run         ..
//! ```
//! A line is an `int3`, which stops the child: the first opens a part, the next closes it, and so on. What lies between two parts runs at
//! full speed.
//!
//! - A system call is one instruction, and so is an instruction that repeats (`rep movsb`), however often.
//! - Threads of the child are not traced, and what they do is not counted.
//! - The child is killed by its alarm if it takes too long, and by the kernel if its tracer is gone.
//!
//! The crash harness has a stepper that kills at a chosen instruction, and knows of sleep and of signals; this one only counts.

// ptrace is a C call that takes numbers here, and a forked child never returns. The line is an assembly symbol that only stops.
#![allow(unsafe_code)]

use std::arch::global_asm;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// After which the child is killed, in seconds: far more than any machine takes.
const LIMIT_S: u32 = 120;
/// A part that is longer than this is a loop that waits for somebody.
const INSTRUCTIONS_MAX: u64 = 20_000_000;

global_asm!(
    ".p2align 4",
    ".globl ginnel_instructions_line",
    ".hidden ginnel_instructions_line",
    "ginnel_instructions_line:",
    "int3",
    "ret",
);

unsafe extern "C" {
    safe fn ginnel_instructions_line();
}

/// Crosses the line, in the child: the part that counts begins, or ends.
#[inline(always)]
pub(crate) fn cross_line() {
    ginnel_instructions_line();
}

/// Runs `body` in a child, and returns how many instructions each of its parts took, the call of the line that ends it included.
pub(crate) fn parts(body: impl FnOnce() -> Result<(), String>) -> Result<Vec<u64>, String> {
    let child = Child::start(body)?;
    let mut parts = Vec::new();
    // The first stop is at a line, or the child left without one.
    while child.run_to_line()? {
        parts.push(child.step_to_line()?);
    }
    Ok(parts)
}

/// A child under trace; killed and reaped when this is dropped.
struct Child(Pid);

impl Child {
    fn start(body: impl FnOnce() -> Result<(), String>) -> Result<Self, String> {
        // SAFETY: this process has one thread, and the child never returns from here.
        match unsafe { libc::fork() } {
            -1 => Err(failed("fork")),
            0 => {
                let done = catch_unwind(AssertUnwindSafe(|| be_traced().and_then(|()| body())));
                let code = match done {
                    Ok(Ok(())) => 0,
                    Ok(Err(error)) => {
                        eprintln!("{error}");
                        1
                    }
                    Err(_) => 1, // the panic has said why
                };
                // SAFETY: it does not return, and runs nothing of ours.
                unsafe { libc::_exit(code) }
            }
            pid => Pid::from_raw(pid).map(Self).ok_or_else(|| "fork returned no child".into()),
        }
    }

    /// Lets the child run to its next line; false when it has left in good order.
    fn run_to_line(&self) -> Result<bool, String> {
        let mut status = self.wait()?;
        loop {
            match self.signal_of(status)? {
                None => return Ok(false),
                Some(Signal::TRAP) if self.instruction()? == line() + 1 => break,
                Some(Signal::TRAP) => return Err("it stopped where there is no line".into()),
                Some(signal) => self.resume(libc::PTRACE_CONT, signal.as_raw())?,
            }
            status = self.wait()?;
        }
        self.ask(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL as u64)?;
        Ok(true)
    }

    /// Steps from one line to the next, lets the child go on from there, and returns the instructions between them.
    fn step_to_line(&self) -> Result<u64, String> {
        let (mut count, mut before) = (0, line() + 1);
        loop {
            self.step()?;
            let now = self.instruction()?;
            count += u64::from(now != before); // else it repeats
            before = now;
            if now == line() {
                break;
            }
            if count > INSTRUCTIONS_MAX {
                return Err(format!("still running after {INSTRUCTIONS_MAX} instructions: does it wait for somebody?"));
            }
        }
        self.step()?; // over the line's own trap
        self.resume(libc::PTRACE_CONT, 0)?;
        Ok(count)
    }

    /// One instruction; a signal that comes is passed on.
    fn step(&self) -> Result<(), String> {
        let mut signal = 0;
        loop {
            self.resume(libc::PTRACE_SINGLESTEP, signal)?;
            match self.signal_of(self.wait()?)? {
                None => return Err("it left in the middle of a part".into()),
                Some(Signal::TRAP) => return Ok(()),
                Some(other) => signal = other.as_raw(),
            }
        }
    }

    /// The signal that it stopped for; none when it has left in good order.
    fn signal_of(&self, status: WaitStatus) -> Result<Option<Signal>, String> {
        if let Some(signal) = status.stopping_signal() {
            return Signal::from_named_raw(signal).map(Some).ok_or_else(|| format!("it stopped for signal {signal}"));
        }
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ok(None),
            (Some(_), _) => Err("it failed: see what it said above".into()),
            (_, Some(libc::SIGALRM)) => Err(format!("it took over {LIMIT_S} s")),
            (_, how) => Err(format!("it died of signal {how:?}")),
        }
    }

    fn wait(&self) -> Result<WaitStatus, String> {
        loop {
            match rustix::process::waitpid(Some(self.0), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("waitpid: {error}")),
            }
        }
    }

    fn instruction(&self) -> Result<u64, String> {
        let at = offset_of!(libc::user_regs_struct, rip); // they stand first in `struct user`
        // SAFETY: this request takes an offset and returns the word there.
        Ok(unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, self.0.as_raw_pid(), at, 0) } as u64)
    }

    fn resume(&self, request: libc::c_uint, signal: i32) -> Result<(), String> {
        self.ask(request, u64::from(signal.unsigned_abs()))
    }

    fn ask(&self, request: libc::c_uint, data: u64) -> Result<(), String> {
        // SAFETY: the requests that come here take numbers, not pointers into this process.
        if unsafe { libc::ptrace(request, self.0.as_raw_pid(), 0, data) } == -1 {
            return Err(failed("ptrace"));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both say that there is no such child, once it has been reaped: it was the only one, so nobody else has its number.
        if rustix::process::kill_process(self.0, Signal::KILL).is_ok() {
            let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
        }
    }
}

/// What a child is before its body runs.
fn be_traced() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("prctl: {error}"))?;
    // SAFETY: it takes a number of seconds.
    unsafe { libc::alarm(LIMIT_S) };
    // SAFETY: this request takes no argument.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == -1 {
        return Err(failed("PTRACE_TRACEME"));
    }
    Ok(())
}

fn line() -> u64 {
    ginnel_instructions_line as *const () as u64
}

fn failed(call: &str) -> String {
    format!("{call}: {}", std::io::Error::last_os_error())
}

/// Sets an environment variable, for this process and its children.
pub(crate) fn set_variable(name: &str, value: &Path) {
    // SAFETY: this test has one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

/// Keeps this process and its children on the processor that it runs on: a step is two switches between tracer and child, four times as
/// fast when neither has to wake another processor.
pub(crate) fn pin_to_one_cpu() {
    let mut set = rustix::thread::CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    let _ = rustix::thread::sched_setaffinity(None, &set); // slower without, and as exact
}
