//! `ginnel call`: a request to whoever serves a link, and its responses.

use super::request_address;
use crate::exit::{Code, Failure};
use crate::input::Input;
use crate::interrupt;
use crate::output;
use crate::units;
use ginnel::call::{Call, CallError, Client, OnDeath};
use ginnel::{Info, Link, Role};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write, stdout};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Responses are written as they come, byte by byte; on a terminal each ends with
a newline. If no server was there yet, call waits for the first. When a server
is killed with the request in hand, another one gets it; with --tell nobody
does it twice, and call fails with status 5. It does so too when no server is
left. What the server says failed is status 1, and its words are on stderr.

Examples:
  ginnel serve shm:upper -- tr a-z A-Z     in another terminal
  ginnel call shm:upper hello
  ginnel call -W 2s shm:thumbs <big.png >small.png";

/// Send a request, and write the responses to standard output
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link of requests; made if it is not there
    #[arg(value_parser = request_address)]
    address: String,

    /// The request; standard input if absent or `-`
    message: Option<OsString>,

    /// Give up, with status 124, when it is not done after so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// If the server dies with the request in hand, fail instead of giving it to another
    #[arg(long)]
    tell: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    interrupt::install().map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    let end = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let on_death = if args.tell { OnDeath::Tell } else { OnDeath::Redeliver };
    let client = Client::open(&args.address)?.on_death(on_death);
    interrupt::end_waits_of(client.interrupter());
    let request = match &args.message {
        Some(message) if message != "-" => message.as_bytes().to_vec(),
        _ => read_request(client.max_request(), end)?,
    };
    let failed = |error| explained(interrupted_or(error), &args.address);
    let call = begin(&client, &request, end).map_err(failed)?;
    let mut out = output::stdout()?;
    let on_terminal = stdout().is_terminal();
    while let Some(response) = call.recv().map_err(failed)? {
        out.write_all(&response).map_err(|e| Failure::output(&e))?;
        if on_terminal && response.last() != Some(&b'\n') {
            out.write_all(b"\n").map_err(|e| Failure::output(&e))?;
        }
    }
    Ok(())
}

fn begin<'c>(client: &'c Client, request: &[u8], end: Option<Instant>) -> Result<Call<'c>, CallError> {
    end.map_or_else(|| client.begin(request), |end| client.begin_deadline(request, end))
}

/// A request for which the time is over stays where nobody serves: the next server passes over it.
fn explained(failure: Failure, address: &str) -> Failure {
    let requests = || Link::new(address).and_then(|link| link.info()).ok();
    let is_served = |info: &Info| info.participants.iter().any(|there| there.alive && there.role == Role::Receiver);
    match failure.code() {
        Code::TimedOut if requests().is_some_and(|info| info.messages > 0 && !is_served(&info)) => {
            let text = failure.text();
            Failure::new(
                Code::TimedOut,
                format!(
                    "{text}; nobody serves there, and the request stays until a server passes over it, or `ginnel rm --force {address}`"
                ),
            )
        }
        _ => failure,
    }
}

/// That a signal came says more than that the wait was interrupted.
fn interrupted_or(error: CallError) -> Failure {
    interrupt::check().err().unwrap_or_else(|| error.into())
}

/// Standard input to its end, which must come before `end`; one byte more than a request may have is enough to have that refused.
pub(super) fn read_request(max: u64, end: Option<Instant>) -> Result<Vec<u8>, Failure> {
    let mut input = Input::open(None)?.until(end);
    let most = usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1);
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while bytes.len() < most {
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => bytes.extend_from_slice(&piece[..len]),
            Err(e) => {
                interrupt::check()?;
                let e = match e.kind() {
                    io::ErrorKind::TimedOut => {
                        io::Error::new(e.kind(), "its end did not come in the time of --timeout")
                    }
                    _ => e,
                };
                return Err(Failure::file("read", input.name(), &e));
            }
        }
    }
    Ok(bytes)
}
