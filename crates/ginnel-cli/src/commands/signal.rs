//! `ginnel signal`: signals are sent to a process, or taken and printed.

use crate::exit::{Code, Failure, say};
use crate::{interrupt, json, output, units};
use ginnel_os::pidfd::PidFd;
use ginnel_os::signal::{self, Info, Signal, Value};
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::Set;
use ginnel_os::{errno, process};
use serde::Serialize;
use std::io;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
A standard signal that is pending is not queued again; real-time signals
(RTMIN to RTMAX) are, each with its value. The process is held by a descriptor
while the signal is sent, so that a number that passes to another process
meanwhile does no harm. Process 1 and negative numbers, which mean groups, need
--force; 0 and -1, which mean everybody, are refused.

Examples:
  ginnel signal 4711                                 SIGTERM
  ginnel signal 4711 --signal RTMIN+1 --value 42     with a value
  ginnel signal wait --signal RTMIN+1 -n 1           in another terminal";

const AFTER_WAIT_HELP: &str = "\
One line a signal: its name, and what is known of value, process and user. The
signals to wait for are those named; without any, USR1, USR2 and the real-time
ones. SIGINT, SIGTERM and SIGHUP end the command unless they are named.

Examples:
  ginnel signal wait
  ginnel signal wait --signal USR1,RTMIN+1 -n 2 -W 10s --json";

/// Send a signal to a process, or wait for signals
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    wait: Option<Action>,

    /// Process to send to
    #[arg(required = true, allow_negative_numbers = true, value_parser = units::whole(i32::MIN, i32::MAX))]
    pid: Option<i32>,

    /// Which one: TERM, SIGUSR1, RTMIN+1, 34
    #[arg(short, long, default_value = "TERM", value_parser = named)]
    signal: Signal,

    /// A number to send along
    #[arg(long, allow_hyphen_values = true, value_parser = units::whole(i32::MIN, i32::MAX))]
    value: Option<i32>,

    /// Also to process 1, or to the group whose number is given as a negative one
    #[arg(long)]
    force: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    Wait(WaitArgs),
}

/// Print the signals that come to this process
#[derive(clap::Args)]
#[command(after_help = AFTER_WAIT_HELP)]
struct WaitArgs {
    /// Which ones: USR1, RTMIN+1, 34
    #[arg(short, long, value_name = "SIGNAL,...", value_delimiter = ',', value_parser = takeable)]
    signal: Vec<Signal>,

    /// Stop after COUNT signals
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true, value_parser = units::whole(1, u64::MAX))]
    count: Option<u64>,

    /// Give up, with status 124, when none comes for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Print JSON: one object a signal
    #[arg(long)]
    json: bool,
}

fn named(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|e: io::Error| e.to_string())
}

fn takeable(text: &str) -> Result<Signal, String> {
    let signal = named(text)?;
    match signal {
        Signal::KILL | Signal::STOP => Err(format!("{signal} cannot be waited for; it ends or stops any process")),
        Signal::SEGV | Signal::BUS | Signal::FPE | Signal::ILL => {
            Err(format!("{signal} means that the process itself went wrong; use USR1 or RTMIN+1"))
        }
        _ => Ok(signal),
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    match (&args.wait, args.pid) {
        (Some(Action::Wait(args)), _) => wait(args, quiet),
        (None, Some(pid)) => send(args, pid),
        (None, None) => Err(Failure::new(Code::Usage, "say which process the signal is for")),
    }
}

fn send(args: &Args, pid: i32) -> Result<(), Failure> {
    let usage = |text: String| Err(Failure::new(Code::Usage, text));
    let sent = match pid {
        0 | -1 => return usage(format!("{pid} means many processes that nobody has named; name one")),
        1 | ..0 if !args.force => {
            let who = if pid == 1 { "process 1, on which all others stand" } else { "a whole group" };
            return usage(format!("{pid} is {who}; say --force if that is meant"));
        }
        ..0 if args.value.is_some() => return usage("a group cannot be sent a value; name one process".to_owned()),
        ..0 => signal::send_to_group(pid.unsigned_abs(), args.signal),
        1.. => send_to(pid.unsigned_abs(), args.signal, args.value.map(Value::from_int)),
    };
    sent.map_err(|e| not_sent(args.signal, pid, &e))
}

fn send_to(pid: u32, signal: Signal, value: Option<Value>) -> io::Result<()> {
    match (PidFd::open(pid), value) {
        (Ok(process), None) => process.send(signal),
        (Ok(process), Some(value)) => process.queue(signal, value),
        // A kernel before Linux 5.3, or a sandbox.
        (Err(e), None) if is_unsupported(&e) => signal::send(pid, signal),
        (Err(e), Some(value)) if is_unsupported(&e) => signal::queue(pid, signal, value),
        (Err(e), _) => Err(e),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(errno::ENOSYS)
}

#[cold]
fn not_sent(signal: Signal, pid: i32, error: &io::Error) -> Failure {
    let what = if pid < 0 { format!("group {}", pid.unsigned_abs()) } else { format!("process {pid}") };
    if error.raw_os_error() == Some(errno::ESRCH) {
        return Failure::new(Code::NotFound, format!("cannot send {signal}: there is no {what}"));
    }
    Failure::file(&format!("send {signal} to"), what, error)
}

fn wait(args: &WaitArgs, quiet: bool) -> Result<(), Failure> {
    let wanted = if args.signal.is_empty() { usual() } else { args.signal.iter().copied().collect() };
    let ending = [Signal::INT, Signal::TERM, Signal::HUP].into_iter();
    let ending = ending.filter(|signal| !wanted.contains(*signal) && !interrupt::is_ignored(signal.number()));
    let all: Set = wanted.iter().chain(ending).collect();
    // Before any thread is there, so in all of them.
    let _blocked = all.block();
    let coming = SignalFd::new(&all).map_err(|e| Failure::failed(format!("cannot wait for signals: {e}")))?;
    if !quiet {
        say(&format!("process {} waits for signals", process::id()));
    }
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let info = coming.read(deadline).map_err(|e| none_came(args, &e))?;
        if !wanted.contains(info.signal) {
            let number = u8::try_from(info.signal.number()).unwrap_or(0);
            return Err(Failure::quiet(Code::Signal(number)));
        }
        print(args, &info)?;
    }
    Ok(())
}

/// Those that no program and no terminal sends for a reason of its own.
fn usual() -> Set {
    let real_time = (0..).map_while(|n| Signal::real_time(n).ok());
    [Signal::USR1, Signal::USR2].into_iter().chain(real_time).collect()
}

#[cold]
fn none_came(args: &WaitArgs, error: &io::Error) -> Failure {
    match args.timeout {
        Some(timeout) if error.kind() == io::ErrorKind::TimedOut => {
            Failure::new(Code::TimedOut, format!("timed out: no signal came for {timeout:?}"))
        }
        _ => Failure::failed(format!("cannot wait for signals: {error}")),
    }
}

/// A signal that came; what is not known is null.
#[derive(Serialize)]
struct Came {
    signal: String,
    number: i32,
    value: Option<i32>,
    pid: Option<u32>,
    uid: Option<u32>,
}

impl From<&Info> for Came {
    fn from(info: &Info) -> Self {
        Self {
            signal: info.signal.to_string(),
            number: info.signal.number(),
            value: info.value.map(Value::as_int),
            pid: info.sender.map(|sender| sender.pid),
            uid: info.sender.map(|sender| sender.uid),
        }
    }
}

impl Came {
    fn line(&self) -> String {
        let known = |name: &str, value: Option<i64>| value.map(|value| format!(" {name}={value}")).unwrap_or_default();
        let (value, pid, uid) = (self.value.map(i64::from), self.pid.map(i64::from), self.uid.map(i64::from));
        format!("{}{}{}{}\n", self.signal, known("value", value), known("pid", pid), known("uid", uid))
    }
}

fn print(args: &WaitArgs, info: &Info) -> Result<(), Failure> {
    let came = Came::from(info);
    if args.json { json::print(&came) } else { output::emit(&came.line()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut came = Came { signal: "SIGUSR1".into(), number: 10, value: None, pid: Some(7), uid: Some(0) };
        assert_eq!(came.line(), "SIGUSR1 pid=7 uid=0\n");
        came.value = Some(-3);
        assert_eq!(came.line(), "SIGUSR1 value=-3 pid=7 uid=0\n");
    }

    #[test]
    fn the_usual_ones_end_nothing() {
        let usual = usual();
        assert!(usual.contains(Signal::USR1) && usual.iter().any(Signal::is_real_time));
        for ending in [Signal::INT, Signal::TERM, Signal::HUP, Signal::CHLD, Signal::SEGV] {
            assert!(!usual.contains(ending), "{ending}");
        }
    }

    #[test]
    fn what_cannot_be_waited_for_is_refused() {
        for name in ["KILL", "SIGSTOP", "SEGV", "nonsense", "0", "32"] {
            assert!(takeable(name).is_err(), "{name}");
        }
        assert_eq!(takeable("usr1"), Ok(Signal::USR1));
    }
}
