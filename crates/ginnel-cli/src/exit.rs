//! How a run ends: each failure becomes one line on stderr and an exit status that scripts can rely on.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done; also when the reader of our output has gone |
//! | 1 | failed |
//! | 2 | usage: a bad option, address or option of an address |
//! | 3 | not found |
//! | 4 | not permitted |
//! | 5 | the peer died before it closed |
//! | 124 | timed out |
//! | 130 | interrupted; 128 and the number of the signal for other signals |
//! | 126, 127 | a command that was to run cannot be executed; is not there (as in shells) |
//! | any | that of the command that ran |

use ginnel::call::{CallError, CallFailure, ServeError, ServeFailure};
use ginnel::mail::{MailError, MailFailure};
use ginnel::{ErrorKind, RecvError, RecvFailure, SendError, SendFailure};
use std::fmt::Display;
use std::io;
use std::io::Write;
use std::process::ExitCode;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Done,
    Failed,
    Usage,
    NotFound,
    NotPermitted,
    PeerDied,
    TimedOut,
    /// The number of the signal.
    Signal(u8),
    /// What a command that ran for us ended with.
    Command(u8),
}

impl Code {
    /// The exit status.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotPermitted => 4,
            Self::PeerDied => 5,
            Self::TimedOut => 124,
            Self::Signal(number) => 128 + number,
            Self::Command(status) => status,
        }
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidAddress | ErrorKind::InvalidOption => Self::Usage,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::NotPermitted,
            _ => Self::Failed,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

/// The end of a run before its time: a status, and a line for people unless there is nothing to say.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// With status 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(Code::Failed, text)
    }

    /// Nothing to say: the status says it, or whoever would read has gone.
    pub(crate) fn quiet(code: Code) -> Self {
        Self::new(code, "")
    }

    /// A file could not be opened, read or written: `cannot read NAME: why`.
    pub(crate) fn file(tried: &str, name: impl Display, error: &io::Error) -> Self {
        Self::new(Code::of_io(error), format!("cannot {tried} {name}: {error}"))
    }

    /// Standard output could not be written: quiet and no failure if its reader has gone.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::quiet(Code::Done),
            _ => Self::failed(format!("cannot write standard output: {error}")),
        }
    }

    /// Receiving from an address ended.
    pub(crate) fn recv(error: &RecvError) -> Self {
        Self::recv_ended(error.reason(), error)
    }

    fn recv_ended(reason: RecvFailure, text: impl Display) -> Self {
        let code = match reason {
            RecvFailure::Closed { died: 0 } => return Self::quiet(Code::Done),
            RecvFailure::Closed { .. } => Code::PeerDied,
            RecvFailure::TimedOut => Code::TimedOut,
            _ => Code::Failed,
        };
        Self::new(code, text.to_string())
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Says it, and gives the status.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.text.is_empty() {
            say(&self.text);
        }
        ExitCode::from(self.code.status())
    }
}

impl From<ginnel::Error> for Failure {
    fn from(error: ginnel::Error) -> Self {
        Self::new(Code::of_kind(error.kind()), error.to_string())
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let code = match error.reason() {
            SendFailure::TimedOut { .. } => Code::TimedOut,
            SendFailure::Closed { died } if *died > 0 => Code::PeerDied,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let code = match error.reason() {
            CallFailure::TimedOut => Code::TimedOut,
            CallFailure::Closed { died } if *died > 0 => Code::PeerDied,
            CallFailure::ServerDied => Code::PeerDied,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let code = match error.reason() {
            ServeFailure::TimedOut => Code::TimedOut,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<MailError> for Failure {
    fn from(error: MailError) -> Self {
        let code = match error.reason() {
            MailFailure::TimedOut => Code::TimedOut,
            MailFailure::Nobody => Code::NotFound,
            MailFailure::Setup(e) => Code::of_kind(e.kind()),
            MailFailure::NotSent(SendFailure::Closed { died }) if *died > 0 => Code::PeerDied,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

/// A line for people, on stderr. That nobody reads it is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "ginnel: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_contract() {
        let all = [
            (Code::Done, 0),
            (Code::Failed, 1),
            (Code::Usage, 2),
            (Code::NotFound, 3),
            (Code::NotPermitted, 4),
            (Code::PeerDied, 5),
            (Code::TimedOut, 124),
            (Code::Signal(2), 130),
            (Code::Signal(15), 143),
            (Code::Command(7), 7),
        ];
        for (code, status) in all {
            assert_eq!(code.status(), status);
        }
    }

    #[test]
    fn kinds_of_setup_errors_have_their_statuses() {
        let all = [
            (ErrorKind::InvalidAddress, Code::Usage),
            (ErrorKind::InvalidOption, Code::Usage),
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::PermissionDenied, Code::NotPermitted),
            (ErrorKind::InUse, Code::Failed),
            (ErrorKind::Mismatch, Code::Failed),
            (ErrorKind::NoSpace, Code::Failed),
        ];
        for (kind, code) in all {
            assert_eq!(Code::of_kind(kind), code, "{kind:?}");
        }
    }

    #[test]
    fn the_end_of_a_link_is_no_failure_but_a_death_is() {
        assert_eq!(Failure::recv_ended(RecvFailure::Closed { died: 0 }, "why").code(), Code::Done);
        let died = Failure::recv_ended(RecvFailure::Closed { died: 2 }, "why");
        assert_eq!((died.code(), died.text()), (Code::PeerDied, "why"));
        assert_eq!(Failure::recv_ended(RecvFailure::TimedOut, "why").code(), Code::TimedOut);
        assert_eq!(Failure::recv_ended(RecvFailure::Forked, "why").code(), Code::Failed);
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        let closed = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.code(), closed.text()), (Code::Done, ""));
        let full = Failure::output(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.code(), Code::Failed);
        assert!(full.text().contains("standard output"));
    }

    #[test]
    fn files_that_are_missing_or_forbidden_have_their_statuses() {
        assert_eq!(Failure::file("open", "x", &io::ErrorKind::NotFound.into()).code(), Code::NotFound);
        assert_eq!(Failure::file("open", "x", &io::ErrorKind::PermissionDenied.into()).code(), Code::NotPermitted);
    }
}
