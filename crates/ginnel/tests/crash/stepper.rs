//! Runs one operation in a forked child and kills it after exactly so many instructions.
//!
//! The victim is a child that asks to be traced, prepares, and crosses a *start line*: an `int3` that stops it. From there
//! the tracer moves it, with `PTRACE_SINGLESTEP`, or faster with a debug register that stops it where a recording says
//! that position `i` is. Then SIGKILL: the kernel runs not one more instruction of it.
//!
//! ```text
//!   victim:  prepare()  |start|  operation()  |finish|  _exit
//!   tracer:              0 1 2 3 ... i: SIGKILL
//! ```
//!
//! - A system call is one instruction: the victim dies before it or after it, or asleep in it when it does not return
//!   within the patience of the tracer.
//! - Signals for the victim are passed on. A step into a handler counts as one instruction.
//! - Threads that the operation starts are not traced and run freely; SIGKILL takes them with the process, and the kill
//!   returns when the last one is dead. The victim stays an unreaped zombie while the survivors are checked: that is what
//!   a careless parent leaves, and a survivor must cope.
//! - Every wait has a limit, and the kernel kills the victim when its tracer dies (`PTRACE_O_EXITKILL`).

// ptrace is a C call that moves words between processes: the tracer's side of each pointer is a live local. The lines are
// two assembly symbols that do nothing but stop.
#![allow(unsafe_code)]

use std::arch::{asm, global_asm};
use std::mem::{ManuallyDrop, offset_of};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::fork::{self, Child, Heard, failed};
use super::trace::{Approach, Moment, Trace};
use super::visible::Visible;

/// An operation that is longer than this is a loop that waits for somebody.
const INSTRUCTIONS_MAX: u64 = 4_000_000;
/// How long anything may take that is not sleep.
const HARD_LIMIT: Duration = Duration::from_secs(5);
/// The kernel kills the victim when its tracer is gone.
const EXITKILL: u64 = libc::PTRACE_O_EXITKILL as u64;

global_asm!(
    ".p2align 4",
    ".globl ginnel_crash_start_line",
    ".hidden ginnel_crash_start_line",
    "ginnel_crash_start_line:",
    "int3",
    "ret",
    ".p2align 4",
    ".globl ginnel_crash_finish_line",
    ".hidden ginnel_crash_finish_line",
    "ginnel_crash_finish_line:",
    "int3",
    "ret",
);

unsafe extern "C" {
    safe fn ginnel_crash_start_line();
    safe fn ginnel_crash_finish_line();
}

/// Where to kill.
#[derive(Clone, Copy)]
pub(crate) enum Until<'t> {
    /// At its end, or where it falls asleep; record the path to there. The end must be a success.
    End,
    /// After so many single steps.
    Steps(u64),
    /// At a recorded position, by the approach that was worked out for it.
    Position(&'t Trace, Approach, u64),
}

/// One trial to be run.
#[derive(Clone, Copy)]
pub(crate) struct Order<'t> {
    pub(crate) until: Until<'t>,
    /// A victim that sleeps in a system call for so long is asleep.
    pub(crate) patience: Duration,
    /// Called when the victim is asleep for the first time: it should wake it.
    pub(crate) wake: Option<&'t dyn Fn() -> Result<(), String>>,
}

impl<'t> Until<'t> {
    /// At a recorded position, by the cheapest approach.
    pub(crate) fn at(trace: &'t Trace, position: u64) -> Self {
        Self::Position(trace, trace.approach(position), position)
    }
}

/// What became of the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Killed after so many instructions, before its end.
    Killed { at: u64 },
    /// It reached its end, and was killed there: everything it promises is due.
    Finished { instructions: u64 },
    /// Killed while it slept in a system call, its last instruction.
    Asleep { instructions: u64 },
    /// It took another path than the recorded one. Step plainly instead.
    Strayed,
    /// The trial itself went wrong.
    Failed(String),
}

/// A finished trial. The victim is dead, and reaped when this is dropped.
pub(crate) struct Trial {
    pub(crate) outcome: Outcome,
    /// The path, when it was to be recorded.
    pub(crate) trace: Option<Trace>,
    _corpse: Option<Child>,
}

/// Runs `prepare`, then `operation`, in a child, and kills it as ordered.
///
/// Recordings and kills are the same calls, so that the victim starts in the same state in both.
pub(crate) fn trial<T, R>(
    prepare: impl FnOnce() -> Result<T, String>,
    operation: impl FnOnce(T) -> Result<R, String>,
    order: Order<'_>,
) -> Trial {
    let failed = |text| Trial { outcome: Outcome::Failed(text), trace: None, _corpse: None };
    let mut victim = match Victim::start(prepare, operation, order) {
        Ok(victim) => victim,
        Err(text) => return failed(text),
    };
    let mut trace = None;
    let moved = match order.until {
        Until::End => victim.record(trace.insert(Trace::default())),
        Until::Steps(steps) => victim.step_to(steps),
        Until::Position(trace, approach, position) => victim.approach(trace, approach, position),
    };
    victim.child.kill();
    match moved {
        Ok(outcome) => Trial { outcome, trace, _corpse: Some(victim.child) },
        Err(text) => failed(text),
    }
}

fn start_line() -> u64 {
    ginnel_crash_start_line as *const () as u64
}

fn finish_line() -> u64 {
    ginnel_crash_finish_line as *const () as u64
}

/// Why the victim gave control to its tracer.
enum Stop {
    Trap,
    Signal(u32),
    Gone,
}

/// A stopped child under trace.
struct Victim<'t> {
    child: Child,
    /// The stack pointer at the start line; moments are told relative to it.
    stack: u64,
    /// A signal that arrived and is to be delivered at the next move.
    pending: u32,
    /// A signal was delivered during the latest move.
    interrupted: bool,
    patience: Duration,
    wake: Option<&'t dyn Fn() -> Result<(), String>>,
    says: OwnedFd,
    _notice: Notice,
}

impl<'t> Victim<'t> {
    /// Forks the victim and lets it run to the start line.
    fn start<T, R>(
        prepare: impl FnOnce() -> Result<T, String>,
        operation: impl FnOnce(T) -> Result<R, String>,
        order: Order<'t>,
    ) -> Result<Self, String> {
        let (says, told) = fork::pipe()?;
        let notice = Notice::new()?;
        let child = Child::spawn(|| {
            notice.restore();
            on_even_stack(|| {
                let verdict = fork::caught(|| cross(prepare, operation));
                fork::tell(told.as_raw_fd(), &verdict);
            });
        })?;
        drop(told);
        let (patience, wake) = (HARD_LIMIT, None);
        let mut victim =
            Self { child, stack: 0, pending: 0, interrupted: false, patience, wake, says, _notice: notice };
        // The child stops for its signals only once it is traced, so it starts by itself.
        let mut stop = victim.wait()?;
        loop {
            match stop {
                None => return Err(format!("the preparation took over {HARD_LIMIT:?}")),
                Some(Stop::Gone) => return Err(victim.last_words()),
                Some(Stop::Trap) => break,
                Some(Stop::Signal(signal)) => victim.pending = signal,
            }
            victim.resume(libc::PTRACE_CONT)?;
            stop = victim.wait()?;
        }
        let start = victim.moment()?;
        if start.instruction != start_line() + 1 {
            return Err("the child stopped before the start line".into());
        }
        victim.stack = start.depth.wrapping_neg();
        (victim.patience, victim.wake) = (order.patience, order.wake);
        victim.ask(libc::PTRACE_SETOPTIONS, 0, EXITKILL)?;
        Ok(victim)
    }

    /// Steps to the end and notes every position.
    fn record(&mut self, trace: &mut Trace) -> Result<Outcome, String> {
        let mut visible = Visible::new(self.child.pid())?;
        let outcome = loop {
            let registers = self.registers()?;
            let moment = self.moment_of(&registers);
            trace.push(moment);
            visible.before(&registers);
            if moment.instruction == finish_line() {
                break Outcome::Finished { instructions: trace.instructions() };
            }
            let returned = self.step()?;
            if self.interrupted {
                trace.mark_interrupted();
            }
            if !returned {
                trace.mark_asleep();
                break Outcome::Asleep { instructions: trace.instructions() };
            }
            if visible.is_new(&registers)? {
                trace.mark_new();
            }
            if trace.instructions() > INSTRUCTIONS_MAX {
                return Err(format!("still running after {INSTRUCTIONS_MAX} instructions"));
            }
        };
        if !trace.is_asleep() {
            self.verdict()?;
        }
        Ok(outcome)
    }

    /// Single-steps to a position.
    fn step_to(&mut self, position: u64) -> Result<Outcome, String> {
        for at in 0..position {
            if self.moment()?.instruction == finish_line() {
                return Ok(Outcome::Finished { instructions: at });
            }
            if !self.step()? {
                return Ok(Outcome::Asleep { instructions: at + 1 });
            }
        }
        self.outcome_at(position)
    }

    /// Runs to a recorded position by way of a breakpoint.
    fn approach(&mut self, trace: &Trace, approach: Approach, position: u64) -> Result<Outcome, String> {
        if approach.passes > 0 {
            let Some(target) = trace.moment(approach.position) else {
                return Ok(Outcome::Strayed);
            };
            self.set_breakpoints(target.instruction)?;
            for _ in 0..approach.passes {
                if !self.run()? || self.moment()?.instruction != target.instruction {
                    return Ok(Outcome::Strayed);
                }
            }
            // Were it still set, a step that returns to its address would stop twice.
            self.clear_breakpoints()?;
        }
        for at in approach.position..position {
            if Some(self.moment()?) != trace.moment(at) {
                return Ok(Outcome::Strayed);
            }
            if !self.step()? {
                let expected = trace.is_asleep() && at + 1 == trace.instructions();
                let asleep = Outcome::Asleep { instructions: at + 1 };
                return Ok(if expected { asleep } else { Outcome::Strayed });
            }
        }
        if Some(self.moment()?) != trace.moment(position) {
            return Ok(Outcome::Strayed);
        }
        self.outcome_at(position)
    }

    fn outcome_at(&self, position: u64) -> Result<Outcome, String> {
        Ok(if self.moment()?.instruction == finish_line() {
            Outcome::Finished { instructions: position }
        } else {
            Outcome::Killed { at: position }
        })
    }

    /// Executes one instruction; false when it is a system call that does not return.
    fn step(&mut self) -> Result<bool, String> {
        self.advance(libc::PTRACE_SINGLESTEP)
    }

    /// Runs to a breakpoint; false when it gets to none within the patience.
    fn run(&mut self) -> Result<bool, String> {
        self.advance(libc::PTRACE_CONT)
    }

    fn advance(&mut self, request: libc::c_uint) -> Result<bool, String> {
        self.interrupted = false;
        loop {
            self.resume(request)?;
            match self.wait_or_wake()? {
                None => return Ok(false),
                Some(Stop::Trap) => return Ok(true),
                Some(Stop::Signal(signal)) => {
                    self.pending = signal;
                    self.interrupted = true;
                }
                Some(Stop::Gone) => return Err(self.last_words()),
            }
        }
    }

    /// Lets the victim finish behind the line, and returns what its operation returned.
    fn verdict(&mut self) -> Result<(), String> {
        self.advance(libc::PTRACE_CONT)?; // over the line's own trap
        self.ask(libc::PTRACE_DETACH, 0, 0)?;
        match fork::hear(&self.says, Instant::now() + HARD_LIMIT)? {
            Heard::Answer(verdict) => verdict.map(drop),
            _ => Err("the victim left without a word".into()),
        }
    }

    fn last_words(&mut self) -> String {
        match fork::hear(&self.says, Instant::now()) {
            Ok(Heard::Answer(Err(text))) => text,
            _ => "the victim died by itself".into(),
        }
    }

    fn resume(&mut self, request: libc::c_uint) -> Result<(), String> {
        let signal = std::mem::take(&mut self.pending);
        self.ask(request, 0, u64::from(signal))
    }

    /// Waits for the next stop; `None` when the victim sleeps and nobody is there to wake it.
    fn wait_or_wake(&mut self) -> Result<Option<Stop>, String> {
        let limit = Instant::now() + HARD_LIMIT;
        loop {
            match self.wait()? {
                Some(stop) => return Ok(Some(stop)),
                None if Instant::now() > limit => return Err(format!("the victim goes on for {HARD_LIMIT:?}")),
                None if !self.is_asleep()? => {} // slow: others have the processor
                None => match self.wake.take() {
                    Some(wake) => wake()?,
                    None => return Ok(None),
                },
            }
        }
    }

    /// Whether the kernel has put the victim to sleep, as `/proc` tells.
    fn is_asleep(&self) -> Result<bool, String> {
        let path = format!("/proc/{}/stat", self.child.pid());
        let stat = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Ok(stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S')))
    }

    /// Waits for the next stop; `None` when there is none within the patience.
    fn wait(&mut self) -> Result<Option<Stop>, String> {
        let deadline = Instant::now() + self.patience;
        loop {
            let noticed = Notice::wait(deadline)?;
            let mut status = 0;
            let how = libc::__WALL | libc::WNOHANG;
            // SAFETY: `status` is a live local that the kernel may fill.
            match unsafe { libc::waitpid(self.child.pid(), &raw mut status, how) } {
                -1 => return Err(failed("waitpid")),
                0 if noticed => {}
                0 => return Ok(None),
                _ if !libc::WIFSTOPPED(status) => {
                    self.child.mark_reaped();
                    return Ok(Some(Stop::Gone));
                }
                _ => {
                    return Ok(Some(match libc::WSTOPSIG(status) {
                        libc::SIGTRAP => Stop::Trap,
                        signal => Stop::Signal(signal.unsigned_abs()),
                    }));
                }
            }
        }
    }

    fn moment(&self) -> Result<Moment, String> {
        self.registers().map(|registers| self.moment_of(&registers))
    }

    fn moment_of(&self, registers: &libc::user_regs_struct) -> Moment {
        Moment { instruction: registers.rip, depth: self.stack.wrapping_sub(registers.rsp) }
    }

    fn registers(&self) -> Result<libc::user_regs_struct, String> {
        // SAFETY: `user_regs_struct` is integers, for which all zeros is a valid value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let to = &raw mut registers;
        // SAFETY: the victim is stopped, and `to` is a live local of the size that the kernel writes.
        if unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.child.pid(), 0, to) } == -1 {
            return Err(failed("PTRACE_GETREGS"));
        }
        Ok(registers)
    }

    /// Stops the victim at `address`, and at the finish line in case that it never gets there.
    fn set_breakpoints(&self, address: u64) -> Result<(), String> {
        const LOCAL_0_AND_1_ON_EXECUTION: u64 = 0b101;
        self.set_debug_register(0, address)?;
        self.set_debug_register(1, finish_line())?;
        self.set_debug_register(7, LOCAL_0_AND_1_ON_EXECUTION)
    }

    fn clear_breakpoints(&self) -> Result<(), String> {
        self.set_debug_register(7, 0)
    }

    fn set_debug_register(&self, number: usize, value: u64) -> Result<(), String> {
        let offset = offset_of!(libc::user, u_debugreg) + 8 * number;
        self.ask(libc::PTRACE_POKEUSER, offset, value)
    }

    fn ask(&self, request: libc::c_uint, address: usize, data: u64) -> Result<(), String> {
        // SAFETY: the requests that come here take numbers, not pointers into this process.
        if unsafe { libc::ptrace(request, self.child.pid(), address, data) } == -1 {
            return Err(failed("ptrace"));
        }
        Ok(())
    }
}

/// The victim's side: everything between the fork and the exit.
fn cross<T, R>(
    prepare: impl FnOnce() -> Result<T, String>,
    operation: impl FnOnce(T) -> Result<R, String>,
) -> Result<Vec<u8>, String> {
    // SAFETY: this request takes no argument.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == -1 {
        return Err(failed("PTRACE_TRACEME"));
    }
    let prepared = prepare()?;
    ginnel_crash_start_line();
    let result = ManuallyDrop::new(operation(prepared)); // no destructor before the line, and none after
    ginnel_crash_finish_line();
    match &*result {
        Ok(_) => Ok(Vec::new()),
        Err(text) => Err(text.clone()),
    }
}

/// Calls `run`, which must not unwind, with the stack pointer at a round address.
///
/// Whoever asked for the trial, the victim's frames are then aligned alike, and so are its copies and signal frames.
fn on_even_stack<F: FnOnce()>(run: F) {
    extern "C" fn call<F: FnOnce()>(run: &mut Option<F>) {
        run.take().into_iter().for_each(|run| run());
    }
    let mut run = Some(run);
    // SAFETY: the stack pointer only moves down, by less than the main thread's stack has, and comes back from the register
    // that a callee must preserve; the argument is a live local.
    unsafe {
        asm!(
            "mov r12, rsp",
            "and rsp, -65536",
            "call {call}",
            "mov rsp, r12",
            call = in(reg) call::<F> as extern "C" fn(&mut Option<F>),
            in("rdi") &raw mut run,
            out("r12") _,
            clobber_abi("C"),
        );
    }
}

/// SIGCHLD blocked and awaited instead of delivered: the way to wait for a child with a time limit and no handler.
struct Notice {
    before: libc::sigset_t,
}

impl Notice {
    fn new() -> Result<Self, String> {
        let chld = Self::set();
        // SAFETY: `sigset_t` is plain data for which all zeros is a valid value.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are live locals.
        match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const chld, &raw mut before) } {
            0 => Ok(Self { before }),
            _ => Err(failed("sigprocmask")),
        }
    }

    fn set() -> libc::sigset_t {
        // SAFETY: `sigset_t` is plain data for which all zeros is a valid value.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a live local, and the signal exists.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
        set
    }

    /// True when some child may have changed, false at the deadline.
    fn wait(deadline: Instant) -> Result<bool, String> {
        let chld = Self::set();
        let left = deadline.saturating_duration_since(Instant::now());
        let left = libc::timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        // SAFETY: the set and the time are live locals, and a null record is allowed.
        let got = unsafe { libc::sigtimedwait(&raw const chld, std::ptr::null_mut(), &raw const left) };
        match std::io::Error::last_os_error().raw_os_error() {
            _ if got != -1 => Ok(true),
            Some(libc::EAGAIN) => Ok(false),
            Some(libc::EINTR) => Ok(true),
            _ => Err(failed("sigtimedwait")),
        }
    }

    fn restore(&self) {
        // SAFETY: the set is one that the kernel returned, and a null place for the old one is allowed.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Keeps this process and its children on one processor: the one that it runs on, or, where others share the sweep, one of `turn`'s own.
///
/// A step is two switches between tracer and victim: four times as fast when neither has to wake another processor.
pub(crate) fn pin_to_one_cpu(turn: usize) {
    // SAFETY: `sched_getcpu` touches no memory of ours.
    let Ok(here) = usize::try_from(unsafe { libc::sched_getcpu() }) else {
        return; // slower, and as correct
    };
    // SAFETY: `cpu_set_t` is plain bits for which all zeros is a valid value.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a live local of the size given.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut allowed) };
    // SAFETY: within the set; it is read only.
    let mut others = (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) });
    let cpu = if turn == 0 { here } else { others.nth(turn).unwrap_or(here) };
    // SAFETY: `cpu_set_t` is plain bits for which all zeros is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel's number of a processor lies within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is a live local of the size given.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}
