//! The commands: what can be said on the command line, and who answers it.

mod bench;
mod call;
mod clean;
mod completions;
mod doctor;
mod info;
mod lock;
mod ls;
mod mail;
mod man;
mod pipe;
mod ps;
mod recv;
mod rm;
mod sem;
mod send;
mod serve;
mod signal;
pub(crate) mod tour;

use crate::exit::Failure;
use clap::{Parser, Subcommand};
use ginnel::Link;

const AFTER_HELP: &str = "\
Addresses:
  shm:NAME                   a link in shared memory: made when it is first
                             opened, removed when the last one leaves it empty
  pipe:  pipe:N              standard input or output, or an open descriptor
  fifo:/PATH                 a named pipe
  mq:/NAME                   a POSIX message queue
  sysv:KEY                   a System V one; KEY is a number or FILE#NUMBER
  unix:/PATH  unix:@NAME     a socket: ?type=stream|seqpacket|dgram
  tcp://HOST:PORT  udp://HOST:PORT
  signal:PID  signal:        numbers as real-time signals: to a process, to us

Options stand behind ?, joined by &, as in 'shm:NAME?capacity=16&full=reject':
  shm          capacity, max, memory, participants, senders, receivers, follow,
               full=block|reject|drop-oldest, wait=adaptive|spin|block
  all others   max, full=block|reject, follow; byte streams also
               frame=length|line|raw, mq: capacity and priority, sysv: memory,
               signal: number=RTMIN+1

Examples:
  ginnel tour                      see it work
  seq 5 | ginnel send shm:hello    lines become messages
  ginnel recv shm:hello            in another terminal
  ginnel doctor                    which limits of this machine hurt

Exit status:
  0 done, 1 failed, 2 usage, 3 not found, 4 not permitted, 5 the peer died,
  124 timed out, 130 interrupted

Environment:
  GINNEL_DIR  directory of the links, instead of /dev/shm/ginnel-UID
  NO_COLOR    no colours";

/// Passes messages between the processes of a machine.
#[derive(Parser)]
#[command(name = "ginnel", version, after_help = AFTER_HELP, arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Cli {
    /// No progress and no remarks on stderr; errors and losses only
    #[arg(short, long, global = true)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Tour(tour::Args),
    Send(send::Args),
    Recv(recv::Args),
    Pipe(pipe::Args),
    Call(call::Args),
    Serve(serve::Args),
    Mail(mail::Args),
    Ls(ls::Args),
    Ps(ps::Args),
    Info(info::Args),
    Rm(rm::Args),
    Clean(clean::Args),
    Sem(sem::Args),
    Lock(lock::Args),
    Signal(signal::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let quiet = self.quiet;
        match &self.command {
            Command::Tour(args) => tour::run(args, quiet),
            Command::Send(args) => send::run(args, quiet),
            Command::Recv(args) => recv::run(args, quiet),
            Command::Pipe(args) => pipe::run(args, quiet),
            Command::Call(args) => call::run(args),
            Command::Serve(args) => serve::run(args, quiet),
            Command::Mail(args) => mail::run(args, quiet),
            Command::Ls(args) => ls::run(args, quiet),
            Command::Ps(args) => ps::run(args),
            Command::Info(args) => info::run(args),
            Command::Rm(args) => rm::run(args),
            Command::Clean(args) => clean::run(args, quiet),
            Command::Sem(args) => sem::run(args),
            Command::Lock(args) => lock::run(args),
            Command::Signal(args) => signal::run(args, quiet),
            Command::Doctor(args) => doctor::run(args, quiet),
            Command::Bench(args) => bench::run(args),
            Command::Completions(args) => completions::run(args),
            Command::Man(args) => man::run(args),
        }
    }
}

/// Understands an address; a bad one is a usage error, and so is one that leads nowhere from here.
pub(crate) fn address(text: &str) -> Result<Link, String> {
    if text.starts_with("mem:") {
        return Err(
            "mem: leads from thread to thread of one process, and nobody else is in this one; use shm:NAME".into()
        );
    }
    Link::new(text).map_err(|e| e.to_string())
}

/// The same for a link of requests, which its client or server understands for itself.
fn request_address(text: &str) -> Result<String, String> {
    address(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn ways_to_cut_exclude_each_other() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).map(|_| ()).map_err(|e| e.kind());
        let conflict = Err(clap::error::ErrorKind::ArgumentConflict);
        assert_eq!(parse(&["ginnel", "send", "shm:a", "--lines", "--nul"]), conflict);
        assert_eq!(parse(&["ginnel", "recv", "shm:a", "--nul", "--chunk", "1KiB"]), conflict);
        assert_eq!(parse(&["ginnel", "recv", "shm:a", "--length-prefixed"]), Ok(()));
        assert_eq!(parse(&["ginnel", "recv", "nonsense"]), Err(clap::error::ErrorKind::ValueValidation));
    }
}
