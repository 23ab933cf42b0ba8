//! `ginnel pipe`: messages from one address go to another, one by one.
//!
//! A message is held until it was sent. If it cannot be, it goes back where its link can take it back (`shm:`); from anywhere else the kernel
//! gave it away when it was received, so it is lost, and that is said.

use super::{address, recv, send};
use crate::exit::{Code, Failure, say};
use crate::framing::{NEWLINE, NUL, RAW};
use crate::interrupt::{self, Patience};
use crate::meter::Meter;
use crate::units;
use ginnel::{Carriage, Link, Message, Receiver, RecvFailure};
use std::time::Duration;

const AFTER_HELP: &str = "\
It ends when the last sender of FROM has left and every message was sent. Tags
go along where both ends carry them: shm, pipe, fifo, sysv, unix and tcp do.
To mq, datagrams and ?frame=raw, which do not, a line goes with its newline;
from a link of lines, ?frame=line, each message is a line.

A message that was received and cannot be sent goes back if FROM is shm:,
marked as redelivered; from anything else it is lost, which is reported.

Examples:
  ginnel pipe fifo:/run/in shm:orders      many readers for one FIFO
  ginnel pipe shm:orders unix:/run/orders  a link for a program that knows sockets
  ginnel pipe -n 10 -W 1s mq:/a shm:b      ten messages, if they come in time
  seq 5 | ginnel pipe - shm:numbers        as `ginnel send`";

/// Move messages from one address to another
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where to receive; `-` is standard input, cut as `ginnel send` does
    #[arg(value_parser = end)]
    from: End,

    /// Where to send; `-` is standard output, as `ginnel recv` writes it
    #[arg(value_parser = end)]
    to: End,

    /// Stop after COUNT messages
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true, value_parser = units::whole(1, u64::MAX))]
    count: Option<u64>,

    /// Give up, with status 124, when no message comes, or there is no room, for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
enum End {
    Standard,
    Link(Box<Link>),
}

fn end(text: &str) -> Result<End, String> {
    if text == "-" { Ok(End::Standard) } else { address(text).map(|link| End::Link(Box::new(link))) }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::new(Code::Usage, text));
    match (&args.from, &args.to) {
        (End::Standard, End::Standard) => usage("both ends are `-`; that is what cat(1) does"),
        (End::Standard, End::Link(_)) if args.count.is_some() => {
            usage("-n does not count what comes from standard input; put `head -n` before it")
        }
        (End::Standard, End::Link(to)) => send::run(&send::Args::standard_input(*to.clone(), args.timeout), quiet),
        (End::Link(from), End::Standard) => {
            recv::run(&recv::Args::standard_output(*from.clone(), args.count, args.timeout), quiet)
        }
        (End::Link(from), End::Link(to)) if from.address() == to.address() => {
            usage(&format!("both ends are {}; its messages would go round for ever", from.address()))
        }
        (End::Link(from), End::Link(to)) => between(from, to, args, quiet),
    }
}

fn between(from: &Link, to: &Link, args: &Args, quiet: bool) -> Result<(), Failure> {
    // A receiver of signals comes before the thread that heeds some, as in `recv`; it takes nothing yet.
    let of_signals = from.address().starts_with("signal:").then(|| from.receiver()).transpose()?;
    interrupt::install().map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    // The sender first: if it cannot be opened, nothing was taken from the other side.
    let sender = to.sender()?;
    interrupt::end_waits_of(sender.interrupter());
    let receiver = of_signals.map_or_else(|| from.receiver(), Ok)?;
    interrupt::end_waits_of(receiver.interrupter());
    let outlet = send::Outlet::new(&sender, args.timeout, Meter::new(quiet, None));
    let carriages = (from.carriage(), to.carriage());
    let mut pump =
        Pump { receiver: &receiver, outlet, carriages, spare: Vec::new(), timeout: args.timeout, redelivered: 0 };
    let done = pump.all(args.count.unwrap_or(u64::MAX));
    let (moved, redelivered) = (pump.outlet.meter.messages(), pump.redelivered);
    drop(pump);
    recv::tell_losses(&receiver, redelivered, quiet);
    if !quiet && moved > 0 && done.as_ref().is_err_and(|failure| failure.code() != Code::Done) {
        say(&format!("{moved} messages were moved before this:"));
    }
    done
}

/// What ended a message, said as the other link says it: by a tag, by the byte itself, or, of a line, not at all.
#[inline]
fn said<'b>(ends: (Carriage, Carriage), tag: u16, bytes: &'b [u8], spare: &'b mut Vec<u8>) -> (u16, &'b [u8]) {
    let end = match (ends, tag) {
        ((Carriage::Line, Carriage::Tagged), _) => return (NEWLINE, bytes),
        ((Carriage::Bare, Carriage::Line), _) => return (tag, bytes.strip_suffix(b"\n").unwrap_or(bytes)),
        ((Carriage::Line, Carriage::Bare), _) | ((Carriage::Tagged, Carriage::Bare), NEWLINE) => b'\n',
        ((Carriage::Tagged, Carriage::Bare), NUL) => 0,
        _ => return (tag, bytes),
    };
    spare.clear();
    spare.extend_from_slice(bytes);
    spare.push(end);
    (RAW, spare)
}

struct Pump<'a> {
    receiver: &'a Receiver,
    outlet: send::Outlet<'a>,
    carriages: (Carriage, Carriage),
    spare: Vec<u8>,
    timeout: Option<Duration>,
    redelivered: u64,
}

impl<'a> Pump<'a> {
    fn all(&mut self, count: u64) -> Result<(), Failure> {
        for moved in 0..count {
            if moved % 1024 == 0 {
                interrupt::check()?;
            }
            let message = match self.receiver.try_recv() {
                Ok(message) => message,
                Err(e) if e == RecvFailure::Empty => self.wait()?,
                Err(e) => return Err(Failure::recv(&e)),
            };
            self.pass(message)?;
        }
        Ok(())
    }

    #[inline]
    fn pass(&mut self, message: Message<'a>) -> Result<(), Failure> {
        self.redelivered += u64::from(message.redelivered());
        let (tag, bytes) = said(self.carriages, message.tag(), &message, &mut self.spare);
        match self.outlet.send(tag, bytes) {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.give_back(message, failure)),
        }
    }

    #[cold]
    fn give_back(&self, message: Message<'a>, failure: Failure) -> Failure {
        let (from, bytes) = (self.receiver.address(), message.len());
        let fate = if from.starts_with("shm:") { "goes back there" } else { "is lost" };
        say(&format!("a message of {bytes} bytes was received from {from} and could not be sent: it {fate}"));
        // Not dropped, which would say that it was dealt with.
        std::mem::forget(message);
        failure
    }

    #[cold]
    fn wait(&mut self) -> Result<Message<'a>, Failure> {
        let patience = Patience::of(self.timeout);
        loop {
            match self.receiver.recv_deadline(patience.slice()?) {
                Ok(message) => return Ok(message),
                Err(e) if e == RecvFailure::Interrupted => {}
                Err(e) if e == RecvFailure::TimedOut && !patience.is_over() => {
                    self.outlet.meter.idle("waiting for a sender");
                }
                Err(e) => return Err(Failure::recv(&e)),
            }
        }
    }
}
