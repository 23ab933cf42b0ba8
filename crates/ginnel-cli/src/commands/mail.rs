//! `ginnel mail`: letters to somebody by name.

use crate::exit::{Failure, say};
use crate::interrupt::{self, Patience};
use crate::{escape, json, output, units};
use ginnel::mail::{Absent, Letter, MailError, MailFailure, Mailbox, Post};
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// Longest letter that is read from standard input: the longest that a mailbox can be made for.
const MOST: u64 = 1 << 30;

const AFTER_HELP: &str = "\
A name is NAME, shm:NAME, or either with options for a mailbox that is made for
it: 'bob?capacity=16'. NAME@HOST, somebody on another host, is refused as yet.

One process has a name at a time. What waits there is for the next one.

Examples:
  ginnel mail send bob 'lunch?'            kept until bob looks
  ginnel mail recv bob                     the next letter
  ginnel mail recv --follow --json bob     all that come, with their senders
  make 2>&1 | ginnel mail send --as make --absent wait bob";

/// Send letters to a name, and receive those of one's own
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Send a letter
    Send(SendArgs),
    /// Take a name, and write the letters that come to it to standard output
    Recv(RecvArgs),
}

#[derive(clap::Args)]
struct SendArgs {
    /// Name of the mailbox
    name: String,

    /// The letter; standard input if absent or `-`
    text: Option<OsString>,

    /// Name from which it comes: taken while it is being sent
    #[arg(long = "as", value_name = "NAME")]
    sender: Option<String>,

    /// What to do if nobody has the name
    #[arg(long, value_name = "HOW", default_value = "keep")]
    absent: Absence,

    /// Give up, with status 124, when it is not sent after so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Absence {
    /// Keep it there for whoever takes the name
    Keep,
    /// Fail, with status 3
    Refuse,
    /// Wait until somebody takes the name
    Wait,
}

#[derive(clap::Args)]
struct RecvArgs {
    /// Name of the mailbox
    name: String,

    /// Stop after COUNT letters
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, allow_hyphen_values = true, value_parser = units::whole(1, u64::MAX))]
    count: u64,

    /// Do not stop
    #[arg(long, conflicts_with = "count")]
    follow: bool,

    /// Letters from this name only; others stay, in their order
    #[arg(long, value_name = "NAME")]
    from: Option<String>,

    /// Give up, with status 124, when no letter comes for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Print JSON: one object a letter
    #[arg(long)]
    json: bool,
}

/// A letter as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    sender: &'a str,
    pid: u32,
    uid: u32,
    redelivered: bool,
    /// What is no UTF-8 is escaped.
    text: String,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    interrupt::install().map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    match &args.action {
        Action::Send(args) => send(args),
        Action::Recv(args) => receive(args, quiet),
    }
}

fn send(args: &SendArgs) -> Result<(), Failure> {
    let absent = match args.absent {
        Absence::Keep => Absent::Keep,
        Absence::Refuse => Absent::Refuse,
        Absence::Wait => Absent::Wait,
    };
    let letter = match &args.text {
        Some(text) if text != "-" => text.as_bytes().to_vec(),
        _ => super::call::read_request(MOST, None)?,
    };
    match &args.sender {
        None => {
            let post = Post::new().absent(absent);
            send_by(args, |until| post.send_to_deadline(&args.name, &letter, until))
        }
        Some(sender) => {
            let mailbox = Mailbox::open(sender)?.absent(absent);
            send_by(args, |until| mailbox.send_to_deadline(&args.name, &letter, until))
        }
    }
}

fn send_by(args: &SendArgs, send: impl Fn(Instant) -> Result<(), MailError>) -> Result<(), Failure> {
    let patience = Patience::of(args.timeout);
    loop {
        match send(patience.slice()?) {
            Err(e) if matches!(e.reason(), MailFailure::TimedOut) && !patience.is_over() => {}
            done => return done.map_err(Failure::from),
        }
    }
}

fn receive(args: &RecvArgs, quiet: bool) -> Result<(), Failure> {
    let mailbox = Mailbox::open(&args.name)?;
    interrupt::end_waits_of(mailbox.interrupter());
    let count = if args.follow { u64::MAX } else { args.count };
    for _ in 0..count {
        let letter = next(&mailbox, args)?;
        let written = if args.json { print_json(&letter) } else { print(&letter, quiet) };
        if written.is_err() {
            // As a letter whose guard was forgotten it goes back when the mailbox is dropped: it was not written whole.
            std::mem::forget(letter);
        }
        written?;
    }
    Ok(())
}

fn print_json(letter: &Letter<'_>) -> Result<(), Failure> {
    json::print(&Shown {
        sender: letter.sender(),
        pid: letter.pid(),
        uid: letter.uid(),
        redelivered: letter.redelivered(),
        text: escape::json(letter),
    })
}

fn print(letter: &Letter<'_>, quiet: bool) -> Result<(), Failure> {
    if !quiet {
        let sender = if letter.sender().is_empty() { "nobody" } else { letter.sender() };
        let again = if letter.redelivered() { ", which an owner before had in hand" } else { "" };
        say(&format!(
            "from {}, process {}, user {}{again}",
            escape::terminal(sender.as_bytes()),
            letter.pid(),
            letter.uid()
        ));
    }
    let mut out = output::stdout()?;
    let end: &[u8] = if letter.last() == Some(&b'\n') { b"" } else { b"\n" };
    out.write_all(letter).and_then(|()| out.write_all(end)).map_err(|e| Failure::output(&e))
}

fn next<'m>(mailbox: &'m Mailbox, args: &RecvArgs) -> Result<Letter<'m>, Failure> {
    let patience = Patience::of(args.timeout);
    loop {
        let until = patience.slice()?;
        let received = match &args.from {
            Some(from) => mailbox.recv_from_deadline(from, until),
            None => mailbox.recv_deadline(until),
        };
        match received {
            Ok(letter) => return Ok(letter),
            Err(e) => match e.reason() {
                MailFailure::TimedOut if !patience.is_over() => {}
                MailFailure::Malformed => say(&e.to_string()),
                _ => {
                    interrupt::check()?;
                    return Err(e.into());
                }
            },
        }
    }
}
