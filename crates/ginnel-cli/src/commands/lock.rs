//! `ginnel lock`: a command runs while a file is locked for it.
//!
//! The lock belongs to our open file description (`F_OFD_SETLK`, `fcntl(2)`): the kernel drops it when this process ends, however that
//! happens. The command does not get the descriptor unless it is passed; then the lock stays until the last who has it is gone.

use crate::child::{self, Signals};
use crate::exit::{Code, Failure};
use crate::units;
use ginnel_os::dup;
use ginnel_os::ofd_lock::{self, Kind, Lock};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where the command finds the file that is passed: the first number that is not a standard one.
const NUMBER: i32 = 3;

const AFTER_HELP: &str = "\
The file is made if it is not there, and stays. The lock excludes those of
fcntl(2) and lockf(3), of any program, but not those of flock(1). It is gone
when ginnel ends, also when it is killed; the command does not have it then,
unless --pass gave it the descriptor, in which case it lasts until the command
and all who got it from there have ended.

Ends with the status of the command; 124 if the lock was not to be had in time,
126 or 127 if the command cannot be run. Signals are passed on to the command.

Examples:
  ginnel lock /run/lock/backup -- backup --all       one at a time
  ginnel lock -W 0s /run/lock/backup -- backup       or not at all
  ginnel lock --shared data.lock -- report data      beside other readers
  ginnel lock --pass x.lock -- sh -c 'job & exit'    held until the job ends";

/// Run a command while a file is locked
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// File to lock; made if it is not there
    file: PathBuf,

    /// Beside others that lock it so; without, alone
    #[arg(short, long)]
    shared: bool,

    /// Give up, with status 124, when the lock cannot be had for so long: 0s, 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Give the command the locked file as descriptor 3; GINNEL_LOCK_FD says so
    #[arg(long)]
    pass: bool,

    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let file = open(args)?;
    // Signals may end this process while it waits: it holds nothing yet.
    let lock = take(args, &file)?;
    let signals = Signals::hold_off()?;
    let mut command = child::command(&args.command);
    if args.pass {
        pass(args, &mut command, &file)?;
    }
    let done = signals.run(&mut command);
    if args.pass {
        // Unlocked by hand it would be unlocked for whoever was given it, too.
        std::mem::forget(lock);
    }
    done
}

fn open(args: &Args) -> Result<File, Failure> {
    let name = args.file.display();
    if std::fs::metadata(&args.file).is_ok_and(|status| !status.is_file()) {
        return Err(Failure::failed(format!("cannot lock {name}: it is no regular file; lock one beside it")));
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(&args.file) {
        // Who only wants to read need not be allowed to write.
        Err(e) if args.shared && is_for_reading(&e) => File::open(&args.file),
        opened => opened,
    }
    .map_err(|e| Failure::file("open", name, &e))
}

fn is_for_reading(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn take<'f>(args: &Args, file: &'f File) -> Result<Lock<'f>, Failure> {
    let kind = if args.shared { Kind::Read } else { Kind::Write };
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    ofd_lock::lock(file.as_fd(), kind, .., deadline).map_err(|e| not_taken(args, file, kind, &e))
}

#[cold]
fn not_taken(args: &Args, file: &File, kind: Kind, error: &io::Error) -> Failure {
    if error.kind() != io::ErrorKind::TimedOut {
        return Failure::file("lock", args.file.display(), error);
    }
    let holder = ofd_lock::conflict(file.as_fd(), kind, ..).ok().flatten().and_then(|conflict| conflict.pid);
    let holder = holder.map_or_else(|| "somebody else".to_owned(), |pid| format!("process {pid}"));
    let name = args.file.display();
    Failure::new(Code::TimedOut, format!("timed out: {holder} has {name} locked; wait longer with -W, or end that one"))
}

fn pass(args: &Args, command: &mut std::process::Command, file: &File) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::file("pass on", args.file.display(), &e);
    dup::pass(command, file.try_clone().map_err(failed)?, NUMBER).map_err(failed)?;
    command.env("GINNEL_LOCK_FD", NUMBER.to_string());
    Ok(())
}
