//! `ginnel`: the tool. Each command is a file under `commands`; what they share is here beside this file.
//!
//! | what | where |
//! |---|---|
//! | exit statuses and errors for people | `exit` |
//! | Ctrl-C | `interrupt` |
//! | a command that runs while something is held for it | `child` |
//! | bytes in, messages out | `input`, `framing` |
//! | messages in, bytes out | `output` |
//! | progress; tables; numbers; JSON | `meter`, `table`, `units`, `json` |
//! | every object of the host, and who has it | `inventory` |
//! | names of users; bytes that anybody chose | `users`, `escape` |
//!
//! Data goes to stdout, talk to stderr. A flag is declared in one place, the struct of its command; help, man pages and
//! completions come from there.

mod child;
mod commands;
mod escape;
mod exit;
mod framing;
mod input;
mod interrupt;
mod inventory;
mod json;
mod meter;
mod output;
mod table;
mod units;
mod users;

use clap::Parser;
use commands::Cli;
use ginnel_os::signal::{self, Signal};
use std::ffi::OsString;
use std::process::ExitCode;

/// The tool: understands the command line of this process, and does what it says.
#[must_use = "it is the exit status of the process"]
pub fn run() -> ExitCode {
    // Children are waited for, whatever this process was started to ignore. That cannot fail.
    let _ = signal::restore_default(Signal::CHLD);
    if let Some(status) = commands::tour::child() {
        return status;
    }
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Understands a command line, and does nothing of it. The body of a fuzz target: see `fuzz/`.
///
/// # Errors
/// What the tool would print: help, or what is wrong.
///
/// # Examples
/// ```
/// assert!(ginnel_cli::understand(["ginnel", "send", "shm:orders"].map(Into::into)).is_ok());
/// assert!(ginnel_cli::understand(["ginnel", "sned"].map(Into::into)).unwrap_err().contains("sned"));
/// ```
pub fn understand(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    Cli::try_parse_from(arguments).map(drop).map_err(|e| e.render().to_string())
}
