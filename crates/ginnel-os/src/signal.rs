//! `signal(7)`, `kill(2)`, `sigqueue(3)`: signals by number and name, and sending them, with a value if they are to carry one. Taking them is in
//! [`crate::sigset`] (masks, waiting) and [`crate::signalfd`]. Handlers are left to the crate `signal-hook`.
//!
//! - A standard signal (below [`Signal::real_time`]) that is pending already is not queued again: its value is lost. Real-time signals are queued,
//!   each with its value, up to `RLIMIT_SIGPENDING` of the receiver.
//! - A process id may have passed to another process. Who holds a [`crate::pidfd::PidFd`] sends through that.
#![allow(unsafe_code)] // Calls that take a struct from the stack.

use crate::sigset::Set;
use std::fmt;
use std::io;
use std::str::FromStr;

/// The number of a signal, standard or real-time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// Names of `signal(7)`, each signal's own before its synonyms.
const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("IOT", libc::SIGABRT),
    ("POLL", libc::SIGIO),
];

#[allow(missing_docs, reason = "they are named as in signal(7)")]
impl Signal {
    pub const HUP: Self = Self(libc::SIGHUP);
    pub const INT: Self = Self(libc::SIGINT);
    pub const QUIT: Self = Self(libc::SIGQUIT);
    pub const ILL: Self = Self(libc::SIGILL);
    pub const TRAP: Self = Self(libc::SIGTRAP);
    pub const ABRT: Self = Self(libc::SIGABRT);
    pub const BUS: Self = Self(libc::SIGBUS);
    pub const FPE: Self = Self(libc::SIGFPE);
    pub const KILL: Self = Self(libc::SIGKILL);
    pub const USR1: Self = Self(libc::SIGUSR1);
    pub const SEGV: Self = Self(libc::SIGSEGV);
    pub const USR2: Self = Self(libc::SIGUSR2);
    pub const PIPE: Self = Self(libc::SIGPIPE);
    pub const ALRM: Self = Self(libc::SIGALRM);
    pub const TERM: Self = Self(libc::SIGTERM);
    pub const CHLD: Self = Self(libc::SIGCHLD);
    pub const CONT: Self = Self(libc::SIGCONT);
    pub const STOP: Self = Self(libc::SIGSTOP);
    pub const TSTP: Self = Self(libc::SIGTSTP);
    pub const TTIN: Self = Self(libc::SIGTTIN);
    pub const TTOU: Self = Self(libc::SIGTTOU);
    pub const URG: Self = Self(libc::SIGURG);
    pub const XCPU: Self = Self(libc::SIGXCPU);
    pub const XFSZ: Self = Self(libc::SIGXFSZ);
    pub const VTALRM: Self = Self(libc::SIGVTALRM);
    pub const PROF: Self = Self(libc::SIGPROF);
    pub const WINCH: Self = Self(libc::SIGWINCH);
    pub const IO: Self = Self(libc::SIGIO);
    pub const PWR: Self = Self(libc::SIGPWR);
    pub const SYS: Self = Self(libc::SIGSYS);
}

impl Signal {
    /// `signal(7)`: the signal with this number.
    ///
    /// # Errors
    /// `InvalidInput`: there is none, or the C library keeps it to itself (32 and 33 with glibc).
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::signal::Signal;
    ///
    /// assert_eq!(Signal::new(15)?, Signal::TERM);
    /// assert!(Signal::new(0).is_err() && Signal::new(32).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(number: i32) -> io::Result<Self> {
        let is_standard = (1..=libc::SIGSYS).contains(&number);
        if is_standard || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
            return Ok(Self(number));
        }
        let (least, most) = (libc::SIGRTMIN(), libc::SIGRTMAX());
        Err(invalid(format!("no signal has the number {number}; use 1 to {}, or {least} to {most}", libc::SIGSYS)))
    }

    /// `SIGRTMIN + n`: a real-time signal, which is queued. The C library keeps the first of the kernel's to itself.
    ///
    /// # Errors
    /// `InvalidInput`: there are not so many (31 with glibc).
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::signal::Signal;
    ///
    /// assert_eq!(Signal::real_time(3)?.to_string(), "SIGRTMIN+3");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn real_time(n: u32) -> io::Result<Self> {
        let most = (libc::SIGRTMAX() - libc::SIGRTMIN()).unsigned_abs();
        if n <= most {
            return Ok(Self(libc::SIGRTMIN() + n as i32));
        }
        Err(invalid(format!("there is no SIGRTMIN+{n}; the last one is SIGRTMIN+{most}")))
    }

    /// The number, as in C.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether it is queued: a real-time signal.
    pub fn is_real_time(self) -> bool {
        self.0 >= libc::SIGRTMIN()
    }

    /// A number that the kernel says.
    pub(crate) fn from_kernel(number: i32) -> Self {
        Self(number)
    }
}

/// `SIGTERM`, `SIGRTMIN+3`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.is_real_time() => write!(f, "SIGRTMIN+{}", self.0 - libc::SIGRTMIN()),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As `kill(1)` reads them, in capitals or not: `TERM`, `SIGTERM`, `RTMIN`, `RTMIN+3`, `RTMAX-1`, `34`.
///
/// ```
/// use ginnel_os::signal::Signal;
///
/// assert_eq!("term".parse::<Signal>()?, Signal::TERM);
/// assert_eq!("SIGRTMIN+3".parse::<Signal>()?, Signal::real_time(3)?);
/// assert!("SIGNAL".parse::<Signal>().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
impl FromStr for Signal {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        if let Ok(number) = text.parse() {
            return Self::new(number);
        }
        let capitals = text.to_ascii_uppercase();
        let name = capitals.strip_prefix("SIG").unwrap_or(&capitals);
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => Ok(Self(*number)),
            None => real_time_named(name).ok_or_else(|| {
                invalid(format!("no signal is called {text:?}; use a name such as TERM or RTMIN+3, or a number"))
            }),
        }
    }
}

fn real_time_named(name: &str) -> Option<Signal> {
    let (start, sign, rest) = match name.strip_prefix("RTMIN") {
        Some(rest) => (libc::SIGRTMIN(), '+', rest),
        None => (libc::SIGRTMAX(), '-', name.strip_prefix("RTMAX")?),
    };
    if rest.is_empty() {
        return Some(Signal(start));
    }
    let digits = rest.strip_prefix(sign).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let steps: i32 = digits.parse().ok().filter(|steps| *steps < 256)?;
    let number = if sign == '+' { start + steps } else { start - steps };
    Signal::new(number).ok().filter(|signal| signal.is_real_time())
}

#[cold]
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// `union sigval`: what a queued signal carries. Sender and receiver agree whether it is an `int` or a word; it is never used as a pointer here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(usize);

impl Value {
    /// `sival_ptr`: a word. Between a 32-bit and a 64-bit process only the lower half arrives.
    pub fn from_word(word: usize) -> Self {
        Self(word)
    }

    /// `sival_int`.
    ///
    /// ```
    /// assert_eq!(ginnel_os::signal::Value::from_int(-7).as_int(), -7);
    /// ```
    pub fn from_int(int: i32) -> Self {
        let mut bytes = [0; size_of::<usize>()];
        bytes[..size_of::<i32>()].copy_from_slice(&int.to_ne_bytes());
        Self(usize::from_ne_bytes(bytes))
    }

    /// `sival_ptr`.
    pub fn as_word(self) -> usize {
        self.0
    }

    /// `sival_int`.
    pub fn as_int(self) -> i32 {
        let mut bytes = [0; size_of::<i32>()];
        bytes.copy_from_slice(&self.0.to_ne_bytes()[..size_of::<i32>()]);
        i32::from_ne_bytes(bytes)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:#x})", self.0)
    }
}

/// Who caused a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its process id in this process's namespace when it sent; 0 if it has none here.
    pub pid: u32,
    /// Its real user id.
    pub uid: u32,
}

/// `siginfo_t`: what is known about a signal that was taken. A sender with the right to send can write any of it, apart from its own pid in
/// what looks like `kill(2)`: take it as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Which one.
    pub signal: Signal,
    /// `si_code`: why, `SI_USER` for `kill(2)`, `SI_QUEUE` for [`queue`].
    pub code: i32,
    /// The process that sent it, or for `SIGCHLD` the child. None if the kernel or a timer did.
    pub sender: Option<Sender>,
    /// Of a queued signal, a timer or a message queue.
    pub value: Option<Value>,
    /// Of `SIGCHLD`: exit code, or number of the signal, as the code says.
    pub status: Option<i32>,
}

/// The fields of a `siginfo_t` that may mean something.
pub(crate) struct Fields {
    pub(crate) signal: i32,
    pub(crate) code: i32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) word: usize,
    pub(crate) status: i32,
}

impl Info {
    /// Keeps the fields that the code says are there.
    pub(crate) fn of(fields: &Fields) -> Self {
        let is_child = fields.signal == libc::SIGCHLD && fields.code > 0;
        let is_queued = matches!(fields.code, libc::SI_QUEUE | libc::SI_MESGQ);
        let is_sent = is_child || is_queued || matches!(fields.code, libc::SI_USER | libc::SI_TKILL);
        Self {
            signal: Signal::from_kernel(fields.signal),
            code: fields.code,
            sender: is_sent.then_some(Sender { pid: fields.pid, uid: fields.uid }),
            value: (is_queued || fields.code == libc::SI_TIMER).then_some(Value(fields.word)),
            status: is_child.then_some(fields.status),
        }
    }
}

/// `kill(2)`: sends a signal to a process.
///
/// # Errors
/// The errno: `ESRCH` if there is no such process, `EPERM`. Process 0 and numbers above 2^31 - 1, which C would take for groups, are `ESRCH`.
///
/// # Examples
/// ```
/// use ginnel_os::signal::{self, Signal};
/// use std::os::unix::process::ExitStatusExt;
///
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// signal::send(child.id(), Signal::TERM)?;
/// assert_eq!(child.wait()?.signal(), Some(Signal::TERM.number()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    kill(one(pid)?, signal.0)
}

/// `killpg(3)`: sends a signal to every process of a group.
///
/// # Errors
/// As [`send`]; group 1, which C would take for everybody, is `ESRCH`.
///
/// # Examples
/// ```
/// use ginnel_os::signal::{self, Signal};
/// use std::os::unix::process::{CommandExt, ExitStatusExt};
///
/// let mut child = std::process::Command::new("sleep").arg("60").process_group(0).spawn()?;
/// signal::send_to_group(child.id(), Signal::TERM)?;
/// assert_eq!(child.wait()?.signal(), Some(Signal::TERM.number()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_to_group(group: u32, signal: Signal) -> io::Result<()> {
    let group = if group == 1 { 0 } else { group };
    kill(-one(group)?, signal.0)
}

/// `PR_SET_PDEATHSIG(2const)` in the child: the command's process gets this signal when the *thread* that spawns it ends, or its process does, in any way; also if
/// that is so before it could ask. What it starts itself does not, nor does a program that runs with another user's rights. So the thread waits for its child before it ends.
///
/// # Examples
/// ```
/// use ginnel_os::signal::{self, Signal};
/// use std::{os::unix::process::ExitStatusExt, process::Command};
///
/// let spawning = std::thread::spawn(|| {
///     let mut command = Command::new("sleep");
///     signal::on_parent_death(command.arg("60"), Signal::TERM);
///     command.spawn()
/// });
/// let mut child = spawning.join().unwrap()?;
/// assert_eq!(child.wait()?.signal(), Some(Signal::TERM.number()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn on_parent_death(command: &mut std::process::Command, signal: Signal) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: a system call that takes integers.
        done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.0 as libc::c_ulong) } == 0)?;
        if std::os::unix::process::parent_id() == parent { Ok(()) } else { send(std::process::id(), signal) }
    };
    // SAFETY: the closure makes three system calls on integers, which is safe after a fork: no allocation, no lock.
    unsafe { command.pre_exec(ask) };
}

/// `sigaction(2)` with `SIG_DFL`: what the kernel does by itself with a signal that this process was started to ignore, or handles. With [`Signal::CHLD`] ignored no
/// child can be waited for: each is gone, and its number another's, at once.
///
/// # Errors
/// The errno: `EINVAL` for `SIGKILL` and `SIGSTOP`.
///
/// # Examples
/// ```
/// use ginnel_os::signal::{self, Signal};
///
/// signal::restore_default(Signal::CHLD)?; // whatever the parent ignored
/// assert!(std::process::Command::new("true").status()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn restore_default(signal: Signal) -> io::Result<()> {
    // SAFETY: all zeroes is a valid action: the default one, with no flags and no signal blocked.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: reads an action that lives during the call; the default one runs no code of this process.
    done(unsafe { libc::sigaction(signal.0, &raw const action, std::ptr::null_mut()) } == 0)
}

/// `tgkill(2)`: sends a signal to one thread of a process.
///
/// # Errors
/// As [`send`].
///
/// # Examples
/// ```
/// use ginnel_os::{signal::{self, Signal}, sigset::Set};
///
/// let set = Set::from_iter([Signal::USR1]);
/// let _blocked = set.block();
/// let me: u32 = std::fs::read_link("/proc/thread-self")?.file_name().unwrap().to_str().unwrap().parse().unwrap();
/// signal::send_to_thread(std::process::id(), me, Signal::USR1)?;
/// assert_eq!(set.wait(None)?.signal, Signal::USR1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn send_to_thread(pid: u32, thread: u32, signal: Signal) -> io::Result<()> {
    let (pid, thread) = (one(pid)?, one(thread)?);
    // SAFETY: a system call that takes integers.
    done(unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal.0) } == 0)
}

/// `kill(2)` with signal 0: whether a process has this id, a zombie included. It may be another one than the caller means.
///
/// # Errors
/// The errno; `EPERM` is no error here, as it says that there is one.
///
/// # Examples
/// ```
/// assert!(ginnel_os::signal::is_process(std::process::id())?);
/// assert!(!ginnel_os::signal::is_process(0)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_process(pid: u32) -> io::Result<bool> {
    match one(pid).and_then(|pid| kill(pid, 0)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `sigqueue(3)`: sends a signal with a value. A real-time signal arrives as often as it was sent; of a standard one that is pending already
/// nothing arrives.
///
/// # Errors
/// `WouldBlock`: the receiver has as many signals pending as `RLIMIT_SIGPENDING` allows its user; the limit is named. Else as [`send`].
///
/// # Examples
/// ```
/// use ginnel_os::signal::{self, Signal, Value};
/// use ginnel_os::sigset::Set;
///
/// let signal = Signal::real_time(3)?;
/// let set = Set::from_iter([signal]);
/// let _blocked = set.block(); // as the only thread
/// signal::queue(std::process::id(), signal, Value::from_int(42))?;
/// let info = set.wait(None)?;
/// assert_eq!(info.value.map(Value::as_int), Some(42));
/// assert_eq!(info.sender.map(|sender| sender.pid), Some(std::process::id()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn queue(pid: u32, signal: Signal, value: Value) -> io::Result<()> {
    let target = one(pid)?;
    // SAFETY: takes integers; the value is not used as a pointer.
    let result = unsafe { libc::sigqueue(target, signal.0, sigval(value)) };
    done(result == 0).map_err(|error| queue_full(pid, error))
}

fn sigval(value: Value) -> libc::sigval {
    libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value.0) }
}

/// Says which limit was met.
#[cold]
pub(crate) fn queue_full(pid: u32, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EAGAIN) {
        return error;
    }
    let limit = pending_limit(pid).map_or_else(|| "its limit".to_owned(), |limit| limit.to_string());
    let text = format!(
        "no more signals can be queued for process {pid}: RLIMIT_SIGPENDING of its user is {limit}; let it take some, or raise its \
         limit (`ulimit -i`)"
    );
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

fn pending_limit(pid: u32) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: only asks, with room for the answer.
    let result = unsafe { libc::prlimit(one(pid).ok()?, libc::RLIMIT_SIGPENDING, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some(limit.rlim_cur)
}

/// A number that names one process and no group.
fn one(pid: u32) -> io::Result<i32> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

fn kill(target: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a system call that takes integers.
    done(unsafe { libc::kill(target, signal) } == 0)
}

fn done(is_done: bool) -> io::Result<()> {
    if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `pthread_sigmask(3)`: runs a closure with every signal blocked in the calling thread, as a thread that it starts will inherit.
///
/// # Examples
/// ```
/// use ginnel_os::{signal, sigset::Set};
///
/// let mask = signal::with_all_blocked(|| std::thread::spawn(Set::of_thread).join().unwrap());
/// assert!(mask.contains(signal::Signal::TERM));
/// ```
pub fn with_all_blocked<R>(run: impl FnOnce() -> R) -> R {
    let _blocked = Set::all().block();
    run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// A process that is killed and reaped when the test ends.
    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn every_signal_has_a_name_that_is_read_again() {
        let numbers = (1..=libc::SIGSYS).chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        for number in numbers {
            let signal = Signal::new(number).unwrap();
            let name = signal.to_string();
            assert!(name.starts_with("SIG"), "{name}");
            for text in [&*name, &name[3..], &name.to_lowercase(), &number.to_string()] {
                assert_eq!(text.parse::<Signal>().unwrap(), signal, "{text}");
            }
        }
        assert_eq!("RTMAX-1".parse::<Signal>().unwrap().number(), libc::SIGRTMAX() - 1);
        assert_eq!("IOT".parse::<Signal>().unwrap(), Signal::ABRT);
        assert_eq!("SIGPOLL".parse::<Signal>().unwrap(), Signal::IO);
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "SIG",
            "0",
            "-1",
            "32",
            "33",
            "65",
            "2147483648",
            "SIGSIGTERM",
            "RTMIN+",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+-1",
            "RTMAX-40",
            "RTMIN+99999999999",
            "TERM ",
            "TERM\0",
            "é",
        ] {
            assert_eq!(text.parse::<Signal>().unwrap_err().kind(), io::ErrorKind::InvalidInput, "{text:?}");
        }
        for number in [i32::MIN, -1, 0, 32, 33, 65, i32::MAX] {
            assert!(Signal::new(number).is_err(), "{number}");
        }
        assert!(
            Signal::real_time(30).is_ok() && Signal::real_time(31).is_err() && Signal::real_time(u32::MAX).is_err()
        );
    }

    #[test]
    fn a_value_is_an_int_or_a_word() {
        for int in [0, 1, -1, i32::MIN, i32::MAX] {
            assert_eq!(Value::from_int(int).as_int(), int);
        }
        assert_eq!(Value::from_word(usize::MAX).as_word(), usize::MAX);
        assert_eq!(Value::from_word(usize::MAX).as_int(), -1);
    }

    #[test]
    fn groups_and_everybody_are_never_meant() {
        for pid in [0, 1 << 31, u32::MAX] {
            assert_eq!(send(pid, Signal::KILL).unwrap_err().raw_os_error(), Some(libc::ESRCH));
            let queued = queue(pid, Signal::KILL, Value::from_int(0));
            assert_eq!(queued.unwrap_err().raw_os_error(), Some(libc::ESRCH));
            assert_eq!(
                send_to_thread(std::process::id(), pid, Signal::KILL).unwrap_err().raw_os_error(),
                Some(libc::ESRCH)
            );
        }
        for group in [0, 1, 1 << 31, u32::MAX] {
            assert_eq!(send_to_group(group, Signal::KILL).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn a_dead_process_is_told() {
        let mut sleeper = Sleeper::new();
        let pid = sleeper.0.id();
        assert!(is_process(pid).unwrap());
        send(pid, Signal::KILL).unwrap();
        sleeper.0.wait().unwrap();
        assert!(!is_process(pid).unwrap());
        assert_eq!(send(pid, Signal::TERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_full_queue_names_its_limit() {
        let sleeper = Sleeper::new();
        let pid = sleeper.0.id();
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: sets a limit of the child that this test started.
        let set = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_SIGPENDING, &raw const none, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        let error = queue(pid, Signal::real_time(9).unwrap(), Value::from_int(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let text = error.to_string();
        assert!(text.contains("RLIMIT_SIGPENDING of its user is 0") && text.contains("ulimit -i"), "{text}");
    }
}
