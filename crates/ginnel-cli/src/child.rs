//! A command that runs while something is held for it: a lock, a semaphore. It gets the signals that we get, and its status becomes ours.
//!
//! Signals are blocked from before the thing is taken until it is given back, and read from a descriptor. So a signal never ends this process
//! while it holds something. What a terminal sends goes to the command too, as it is in the same group, and is not sent again.

use crate::exit::{Code, Failure};
use crate::interrupt;
use ginnel_os::signal::{self, Info, Signal};
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::{Blocked, Set};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

/// What would end this process, and what a program may wait for.
const PASSED_ON: [Signal; 7] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::ALRM];

/// Signals that wait to be read, for as long as this is there.
pub(crate) struct Signals {
    coming: SignalFd,
    /// What this process was started with, and the command shall be.
    before: Set,
    _blocked: Blocked,
}

impl Signals {
    /// From now on. Not those that this process was started to ignore, as `nohup` does.
    pub(crate) fn hold_off() -> Result<Self, Failure> {
        let heeded = PASSED_ON.into_iter().filter(|signal| !interrupt::is_ignored(signal.number()));
        let set: Set = heeded.chain([Signal::CHLD]).collect();
        let before = Set::of_thread();
        let blocked = set.block();
        let coming = SignalFd::new(&set).map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
        Ok(Self { coming, before, _blocked: blocked })
    }

    /// Fails if one came: there is no command yet that could get it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        while let Ok(info) = self.coming.try_read() {
            if info.signal != Signal::CHLD {
                let number = u8::try_from(info.signal.number()).unwrap_or(0);
                return Err(Failure::quiet(Code::Signal(number)));
            }
        }
        Ok(())
    }

    /// Runs a command to its end; its status, unless that is 0, is the failure.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.before.pass(command);
        let mut child = command.spawn().map_err(|e| not_started(&name, &e))?;
        let status = self.wait(&mut child).map_err(|e| Failure::failed(format!("cannot wait for {name:?}: {e}")))?;
        match ended_with(status) {
            0 => Ok(()),
            other => Err(Failure::quiet(Code::Command(other))),
        }
    }

    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let info = self.coming.read(None)?;
            if is_to_pass_on(&info) {
                // It is not waited for yet, so its number is its own. That it may not be signalled is its own doing.
                let _ = signal::send(child.id(), info.signal);
            }
        }
    }
}

/// What a process sent; not what the kernel did, as it sends what a terminal says to the whole group.
fn is_to_pass_on(info: &Info) -> bool {
    info.signal != Signal::CHLD && info.sender.is_some()
}

/// As a shell says it: 128 and the number of the signal that ended it.
fn ended_with(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

pub(crate) fn not_started(name: &str, error: &io::Error) -> Failure {
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Failure::new(Code::Command(status), format!("cannot run {name:?}: {error}"))
}

/// A program with its arguments; clap sees to it that there is one.
pub(crate) fn command(words: &[OsString]) -> Command {
    let (program, arguments) =
        words.split_first().map_or((OsString::new(), &[][..]), |(first, rest)| (first.clone(), rest));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        for (raw, status) in [(0, 0), (7 << 8, 7), (9, 137), (15, 143)] {
            assert_eq!(ended_with(ExitStatus::from_raw(raw)), status);
        }
    }

    #[test]
    fn a_command_that_cannot_start_has_the_status_of_a_shell() {
        assert_eq!(not_started("x", &io::ErrorKind::NotFound.into()).code(), Code::Command(127));
        assert_eq!(not_started("x", &io::ErrorKind::PermissionDenied.into()).code(), Code::Command(126));
    }
}
