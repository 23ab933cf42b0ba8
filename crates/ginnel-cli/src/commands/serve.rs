//! `ginnel serve`: a command for each request that comes by a link.

use super::request_address;
use crate::child;
use crate::exit::{Failure, say};
use crate::interrupt::{self, Group, Patience};
use crate::units;
use ginnel::call::{Request, ServeFailure, Server};
use ginnel_os::poll;
use ginnel_os::signal::{self, Signal};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// How often a command that says nothing is looked after: whether its client still waits.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of a response that are sent at once.
const PART: u64 = 1 << 20;

const AFTER_HELP: &str = "\
The request is the command's standard input, its standard output the response;
what is longer than 1MiB comes in parts. A status that is not 0 is told to the
client as a failure. The command finds the client's process in GINNEL_CLIENT,
and GINNEL_REDELIVERED=1 if a server that was killed had the request before.
It has a process group of its own, and is killed, with what it started, when its
client has left, or does not wait any longer. Signals that end serve go there too,
and serve waits a second for it. If serve ends first, or is killed, the command is
killed, but not what it started.

Several servers, here or elsewhere, share the requests of a link. One that is
killed gives back what it had in hand.

Examples:
  ginnel serve shm:upper -- tr a-z A-Z
  ginnel serve -j 4 shm:thumbs -- convert - -resize 100x100 -
  ginnel serve -n 1 shm:once -- cat";

/// Run a command for each request
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link of requests; made if it is not there
    #[arg(value_parser = request_address)]
    address: String,

    /// Run up to JOBS commands at once
    #[arg(short, long, value_name = "JOBS", default_value_t = 1, allow_hyphen_values = true, value_parser = units::whole(1, 1024u32))]
    jobs: u32,

    /// Stop after COUNT requests
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true, value_parser = units::whole(1, u64::MAX))]
    count: Option<u64>,

    /// Stop, with status 124, when no request comes for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    interrupt::install().map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    let first = Server::open(&args.address)?;
    let more: Result<Vec<Server>, ginnel::Error> = (1..args.jobs).map(|_| first.try_clone()).collect();
    let mut servers = more?;
    servers.push(first);
    let left = AtomicU64::new(args.count.unwrap_or(u64::MAX));
    servers.iter().for_each(|server| interrupt::end_waits_of(server.interrupter()));
    std::thread::scope(|scope| {
        let work = |server: Server| work(args, quiet, &server, &left);
        let workers: Vec<_> = servers.into_iter().map(|server| scope.spawn(move || work(server))).collect();
        let mut done = Ok(());
        for worker in workers {
            // All of them are waited for, and the first that failed is told.
            done = done.and(worker.join().unwrap_or_else(|_| Err(Failure::failed("a worker failed"))));
        }
        done
    })
}

/// Serves until there is nothing left to do.
fn work(args: &Args, quiet: bool, server: &Server, left: &AtomicU64) -> Result<(), Failure> {
    while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        let request = next(server, args.timeout)?;
        match serve(args, &request) {
            Ok(Outcome::Served(last)) => tell(quiet, request.reply(&last)),
            Ok(Outcome::Failed(why)) => {
                if !quiet {
                    say(&why);
                }
                tell(quiet, request.fail(&why));
            }
            Ok(Outcome::Unwanted) => {} // nobody is told
            Err(failure) => {
                let why = failure.text().to_owned();
                tell(quiet, request.fail(&why));
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// A response that does not arrive is the client's loss, not the end of the server.
fn tell(quiet: bool, sent: Result<(), ginnel::call::ServeError>) {
    if let (Err(e), false) = (sent, quiet) {
        say(&e.to_string());
    }
}

fn next(server: &Server, timeout: Option<Duration>) -> Result<Request<'_>, Failure> {
    let patience = Patience::of(timeout);
    loop {
        match server.recv_deadline(patience.slice()?) {
            Ok(request) => return Ok(request),
            Err(e) => match e.reason() {
                ServeFailure::TimedOut if !patience.is_over() => {}
                ServeFailure::Malformed => say(&e.to_string()),
                _ => {
                    interrupt::check()?;
                    return Err(e.into());
                }
            },
        }
    }
}

/// What came of a command.
enum Outcome {
    /// The last of what it wrote.
    Served(Vec<u8>),
    Failed(String),
    /// Its client does not wait any more.
    Unwanted,
}

fn serve(args: &Args, request: &Request<'_>) -> Result<Outcome, Failure> {
    if is_unwanted(request) {
        return Ok(Outcome::Unwanted);
    }
    let mut command = child::command(&args.command);
    command.env("GINNEL_CLIENT", request.pid().to_string());
    if request.redelivered() {
        command.env("GINNEL_REDELIVERED", "1");
    }
    signal::on_parent_death(&mut command, Signal::KILL); // this thread waits for it
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
    let child = spawned.map_err(|e| child::not_started(&command.get_program().to_string_lossy(), &e))?;
    let mut group = Group::of(child);
    let (input, output) = (group.leader().stdin.take(), group.leader().stdout.take());
    let bytes: &[u8] = request;
    let gathered = std::thread::scope(|scope| {
        // That a command does not read its input to the end is its own affair.
        let writing = scope.spawn(move || input.map(|mut input| input.write_all(bytes)));
        let gathered = output.map_or(Ok(None), |output| gather(output, request));
        if !matches!(gathered, Ok(Some(_))) || !ends(&writing, request) {
            group.kill(); // so that whoever writes to it ends
        }
        gathered
    });
    let status = wait(&mut group, request);
    match (gathered, status) {
        (Ok(Some(last)), Ok(Some(status))) if status.success() => Ok(Outcome::Served(last)),
        (Ok(Some(_)), Ok(Some(status))) => Ok(Outcome::Failed(how_it_ended(args, status))),
        (Ok(_), Ok(_)) => Ok(Outcome::Unwanted),
        (Err(e), _) | (_, Err(e)) => {
            Ok(Outcome::Failed(format!("cannot run {}: {e}", args.command[0].to_string_lossy())))
        }
    }
}

/// Reads what a command writes, and sends it on part by part, but for the last. `None` if nobody waits for it.
fn gather(mut output: ChildStdout, request: &Request<'_>) -> io::Result<Option<Vec<u8>>> {
    let most = usize::try_from(request.max_response().min(PART)).unwrap_or(usize::MAX).max(1);
    let (mut gathered, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if !poll::readable(&[output.as_fd()], Some(Instant::now() + LOOK))? {
            if is_unwanted(request) {
                return Ok(None);
            }
            continue;
        }
        let len = output.read(&mut piece)?;
        if len == 0 {
            return Ok(Some(gathered));
        }
        gathered.extend_from_slice(&piece[..len]);
        while gathered.len() > most {
            let rest = gathered.split_off(most);
            if request.part(&gathered).is_err() {
                return Ok(None);
            }
            gathered = rest;
        }
    }
}

/// Waits for a command that has closed its output. `None` if it was killed, because nobody waits for it.
fn wait(group: &mut Group, request: &Request<'_>) -> io::Result<Option<ExitStatus>> {
    let (mut nap, mut is_killed) = (Duration::from_micros(200), false);
    loop {
        if let Some(status) = group.try_wait()? {
            return Ok(Some(status).filter(|_| !is_killed));
        }
        if nap >= LOOK && !is_killed && is_unwanted(request) {
            group.kill();
            is_killed = true;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(LOOK);
    }
}

/// Waits for a command that has closed its output to take its input, or to leave it. False if nobody waits for it before.
fn ends<T>(writing: &ScopedJoinHandle<'_, T>, request: &Request<'_>) -> bool {
    let mut nap = Duration::from_micros(50);
    while !writing.is_finished() {
        if nap >= LOOK && is_unwanted(request) {
            return false;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(LOOK);
    }
    true
}

fn is_unwanted(request: &Request<'_>) -> bool {
    request.deadline().is_some_and(|deadline| Instant::now() >= deadline) || request.is_cancelled()
}

fn how_it_ended(args: &Args, status: ExitStatus) -> String {
    let name = args.command[0].to_string_lossy();
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("{name} ended with status {code}"),
        (None, Some(signal)) => format!("{name} was ended by signal {signal}"),
        (None, None) => format!("{name} did not end well"),
    }
}
