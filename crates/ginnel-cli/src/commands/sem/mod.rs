//! `ginnel sem`: semaphores from the shell.

mod semaphore;

use crate::child::{self, Signals};
use crate::exit::{Code, Failure};
use crate::{output, units};
use semaphore::{Address, Held, Semaphore};
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

/// How long a wait goes on before it looks whether a signal came. The C library's wait cannot be ended in between without losing what it may just
/// have taken.
const SLICE: Duration = Duration::from_millis(100);

const AFTER_HELP: &str = "\
Addresses:
  sem:/NAME                a POSIX semaphore
  sysv-sem:KEY[#INDEX]     one of a System V set, the first if none is named;
                           KEY is a number (0x4711) or FILE#PROJECT (ftok(3))

A POSIX semaphore does not know who took from it: what a killed process had is
never given back. With sysv-sem: and `run --undo` the kernel gives it back.

Examples:
  ginnel sem sem:/slots create 4
  ginnel sem sem:/slots run -- convert big.tiff big.png    four at a time
  ginnel sem sem:/slots wait -W 2s && echo mine
  ginnel sem sysv-sem:0x4711#2 run --undo -- job
  ginnel sem sem:/slots rm";

/// Wait for, post, make and remove semaphores
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Semaphore
    #[arg(value_parser = Address::parse)]
    address: Address,

    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Take one; wait until there is one
    Wait(WaitArgs),
    /// Take one if there is one; status 1 if not
    Try,
    /// Give one
    Post,
    /// Print how many there are
    Value,
    /// Make it
    Create(CreateArgs),
    /// Remove it; of System V the whole set
    Rm,
    /// Take one, run a command, give it back
    Run(RunArgs),
}

#[derive(clap::Args)]
struct WaitArgs {
    /// Give up, with status 124, when there is none for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

#[derive(clap::Args)]
struct CreateArgs {
    /// How many there are at first
    #[arg(default_value_t = 1, allow_negative_numbers = true, value_parser = units::whole(0, u32::MAX))]
    value: u32,

    /// How many semaphores the set has, all with this value; enough for the index if absent
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = units::whole(1, u16::MAX))]
    size: Option<u16>,

    /// If it is there, leave it as it is
    #[arg(long)]
    if_missing: bool,
}

#[derive(clap::Args)]
struct RunArgs {
    #[command(flatten)]
    wait: WaitArgs,

    /// Have the kernel give it back if this is killed; System V only
    #[arg(long)]
    undo: bool,

    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let address = &args.address;
    match &args.action {
        Action::Wait(args) => wait(address, args),
        Action::Try => try_once(address),
        Action::Post => open(address)?.post().map_err(|e| Failure::file("post", address, &e)),
        Action::Value => {
            let value = open(address)?.value().map_err(|e| Failure::file("read", address, &e))?;
            output::emit(&format!("{value}\n"))
        }
        Action::Create(args) => create(address, args),
        Action::Rm => Semaphore::remove(address).map_err(|e| missing_or(address, "remove", &e)),
        Action::Run(args) => run_with(address, args),
    }
}

fn open(address: &Address) -> Result<Semaphore, Failure> {
    Semaphore::open(address).map_err(|e| missing_or(address, "open", &e))
}

fn missing_or(address: &Address, tried: &str, error: &io::Error) -> Failure {
    match error.kind() {
        _ if address.missing_file().is_some() => Failure::new(
            Code::NotFound,
            format!("cannot {tried} {address}: its key is that of a file, which is not there; name one that stays"),
        ),
        io::ErrorKind::NotFound if tried == "remove" => {
            Failure::new(Code::NotFound, format!("cannot remove {address}: there is none"))
        }
        io::ErrorKind::NotFound => Failure::new(
            Code::NotFound,
            format!("cannot {tried} {address}: there is none; make it with `ginnel sem {address} create`"),
        ),
        _ => Failure::file(tried, address, error),
    }
}

fn create(address: &Address, args: &CreateArgs) -> Result<(), Failure> {
    let usage = |text: String| Failure::new(Code::Usage, text);
    if u64::from(args.value) > address.value_max() {
        let most = address.value_max();
        return Err(usage(format!("{address} cannot have the value {}; {most} is the highest", args.value)));
    }
    let size = address.size(args.size).map_err(usage)?;
    let made = Semaphore::create(address, args.value, size, args.if_missing);
    made.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::failed(format!("cannot create {address}: it is there; say --if-missing, or remove it with rm"))
        }
        _ => missing_or(address, "create", &e),
    })
}

fn try_once(address: &Address) -> Result<(), Failure> {
    match open(address)?.try_take() {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(Failure::failed(format!("cannot take {address}: it is 0; use wait, or post to it")))
        }
        done => done.map_err(|e| Failure::file("take", address, &e)),
    }
}

fn wait(address: &Address, args: &WaitArgs) -> Result<(), Failure> {
    let semaphore = open(address)?;
    let signals = Signals::hold_off()?;
    take(address, &signals, args, |until| semaphore.take(until))
}

fn run_with(address: &Address, args: &RunArgs) -> Result<(), Failure> {
    if args.undo && !address.can_undo() {
        let text =
            format!("{address} cannot be undone: a POSIX semaphore does not know who took from it; use sysv-sem:");
        return Err(Failure::new(Code::Usage, text));
    }
    let semaphore = open(address)?;
    let signals = Signals::hold_off()?;
    // Dropped, and so given back, before signals are let through again.
    let _held: Held<'_> = take(address, &signals, &args.wait, |until| semaphore.acquire(args.undo, until))?;
    signals.run(&mut child::command(&args.command))
}

/// Waits in slices, so that a signal is noticed; but one that comes when it was taken does not lose it.
fn take<T>(
    address: &Address,
    signals: &Signals,
    args: &WaitArgs,
    attempt: impl Fn(Instant) -> io::Result<T>,
) -> Result<T, Failure> {
    let end = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        signals.check()?;
        let slice = Instant::now() + SLICE;
        match attempt(end.map_or(slice, |end| end.min(slice))) {
            Err(e) if e.kind() != io::ErrorKind::TimedOut => return Err(Failure::file("take", address, &e)),
            Err(_) if end.is_some_and(|end| Instant::now() >= end) => return Err(timed_out(address, args)),
            Err(_) => {}
            Ok(taken) => return Ok(taken),
        }
    }
}

#[cold]
fn timed_out(address: &Address, args: &WaitArgs) -> Failure {
    let waited = match args.timeout.unwrap_or_default() {
        Duration::ZERO => "0s".to_owned(),
        waited => format!("{waited:?}"),
    };
    Failure::new(
        Code::TimedOut,
        format!("timed out: {address} stayed 0 for {waited}; post to it, or wait longer with -W"),
    )
}
