//! `ginnel send`: a file or standard input becomes messages.
//!
//! Lines are copied once, from the input's buffer into the link; chunks are read by the kernel into the link itself.

use super::address;
use crate::exit::{Failure, say};
use crate::framing::{CHUNK, Cut, CutError, NEWLINE, NUL, RAW, Source};
use crate::input::Input;
use crate::interrupt::{self, Patience};
use crate::meter::Meter;
use crate::units;
use ginnel::{Carriage, CommitError, Link, Loan, SendError, SendFailure, Sender};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Text is sent line by line, anything else in chunks of 64KiB. (Text is UTF-8
without NUL, as far as the first read shows.) A message that was a line does
not hold its newline: a tag says that one followed, so that `ginnel recv`
writes exactly what was read here. When the link is full, send waits. When
the input ends it leaves; what nobody has received yet stays in the link.

Examples:
  seq 5 | ginnel send shm:numbers               five messages
  ginnel send shm:pictures photo.jpg            chunks, as it is no text
  find . -print0 | ginnel send --nul shm:files  one message a name
  ginnel send -W 2s 'shm:jobs?capacity=16' jobs give up if stuck for 2s";

/// Send a file, or standard input, as messages
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link to send to; made if it is not there
    #[arg(value_parser = address)]
    address: Link,

    /// File to send; standard input if absent or `-`
    file: Option<PathBuf>,

    #[command(flatten)]
    cut: CutArgs,

    /// Give up, with status 124, when there is no room for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// When the link is full and the last receiver has left, wait for the next one
    #[arg(long)]
    follow: bool,
}

impl Args {
    /// Standard input to a link, cut as it comes.
    pub(super) fn standard_input(address: Link, timeout: Option<Duration>) -> Self {
        Self { address, file: None, cut: CutArgs::default(), timeout, follow: false }
    }
}

#[derive(clap::Args, Default)]
#[group(multiple = false)]
struct CutArgs {
    /// One message a line, without its newline
    #[arg(long)]
    lines: bool,

    /// One message for each piece that ends with a NUL, without that
    #[arg(short = '0', long)]
    nul: bool,

    /// Each message stands after its length, a 32-bit little-endian number
    #[arg(long)]
    length_prefixed: bool,

    /// One message for each SIZE bytes; the last may be shorter
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    chunk: Option<usize>,
}

impl CutArgs {
    fn cut(&self) -> Option<Cut> {
        match self {
            Self { lines: true, .. } => Some(Cut::At(b'\n')),
            Self { nul: true, .. } => Some(Cut::At(0)),
            Self { length_prefixed: true, .. } => Some(Cut::LengthPrefixed),
            Self { chunk, .. } => chunk.map(Cut::Chunks),
        }
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let install = interrupt::install();
    install.map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    let input = Input::open(args.file.as_deref())?;
    let sender = args.address.clone().follow(args.follow).sender()?;
    interrupt::end_waits_of(sender.interrupter());
    let meter = Meter::new(quiet, input.len().filter(|len| *len > 0));
    let outlet = Outlet::new(&sender, args.timeout, meter);
    let mut sending = Sending {
        carriage: args.address.carriage(),
        name: input.name().to_owned(),
        source: Source::new(input),
        outlet,
    };
    let done = sending.all(args.cut.cut());
    let left = sending.outlet.meter.messages();
    if !quiet && done.is_err() && left > 0 {
        say(&format!("{left} messages were sent before this:"));
    }
    if sender.dropped() > 0 {
        say(&format!("{} datagrams came to a host where nobody received them", sender.dropped()));
    }
    done
}

/// The end of the link, with all the waiting that it needs.
pub(super) struct Outlet<'a> {
    sender: &'a Sender,
    timeout: Option<Duration>,
    pub(super) meter: Meter,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(sender: &'a Sender, timeout: Option<Duration>, meter: Meter) -> Self {
        Self { sender, timeout, meter }
    }

    #[inline]
    pub(super) fn send(&mut self, tag: u16, message: &[u8]) -> Result<(), Failure> {
        let sender = self.sender;
        if let Err(e) = sender.try_send_tagged(tag, message) {
            self.wait(e, |until| sender.send_tagged_deadline(tag, message, until))?;
        }
        self.meter.add(message.len());
        Ok(())
    }

    #[inline]
    fn loan(&mut self, len: usize) -> Result<Loan<'a>, Failure> {
        let sender = self.sender;
        match sender.try_loan(len) {
            Ok(loan) => Ok(loan),
            Err(e) => self.wait(e, |until| sender.loan_deadline(len, until)),
        }
    }

    #[inline]
    fn commit(&mut self, loan: Loan<'a>) -> Result<(), Failure> {
        let len = loan.len();
        if let Err(CommitError { loan, error }) = loan.try_commit() {
            self.commit_later(loan, error)?;
        }
        self.meter.add(len);
        Ok(())
    }

    #[cold]
    fn commit_later(&mut self, loan: Loan<'a>, first: SendError) -> Result<(), Failure> {
        let mut unsent = Some(loan);
        self.wait(first, |until| {
            let Some(loan) = unsent.take() else { return Ok(()) };
            loan.commit_deadline(until).map_err(|e| {
                unsent = Some(e.loan);
                e.error
            })
        })
    }

    /// What did not work at once is tried until it works, fails for good, takes too long, or a signal comes.
    #[cold]
    fn wait<T>(
        &mut self,
        first: SendError,
        mut attempt: impl FnMut(Instant) -> Result<T, SendError>,
    ) -> Result<T, Failure> {
        if !is_worth_waiting(&first) {
            return Err(first.into());
        }
        let patience = Patience::of(self.timeout);
        loop {
            match attempt(patience.slice()?) {
                Err(e) if matches!(e.reason(), SendFailure::Interrupted) => {}
                Err(e) if matches!(e.reason(), SendFailure::TimedOut { .. }) && !patience.is_over() => {}
                done => return done.map_err(Failure::from),
            }
            self.meter.idle("waiting for a receiver to make room");
        }
    }

    fn max(&self) -> usize {
        usize::try_from(self.sender.max_message()).unwrap_or(usize::MAX)
    }
}

/// Whether somebody may make room.
fn is_worth_waiting(error: &SendError) -> bool {
    matches!(error.reason(), SendFailure::Full { .. } | SendFailure::NoRoom { .. } | SendFailure::NoMemory { .. })
}

struct Sending<'a> {
    carriage: Carriage,
    name: String,
    source: Source<Input>,
    outlet: Outlet<'a>,
}

impl Sending<'_> {
    fn all(&mut self, cut: Option<Cut>) -> Result<(), Failure> {
        let cut = match cut {
            Some(cut) => cut,
            None => match self.source.sniff() {
                Ok(Cut::Chunks(_)) => Cut::Chunks(CHUNK.min(self.outlet.max())),
                Ok(cut) => cut,
                Err(e) => return Err(self.refused(CutError::Read(e))),
            },
        };
        match cut {
            Cut::At(byte) if self.carriage == Carriage::Bare => self.ended_within(byte),
            Cut::At(byte) => self.ended_by(byte),
            Cut::LengthPrefixed => self.length_prefixed(),
            Cut::Chunks(size) => self.chunks(size),
        }
    }

    /// Where no tag says what ended a message, the message ends with that itself.
    fn ended_within(&mut self, byte: u8) -> Result<(), Failure> {
        let max = self.outlet.max();
        for unchecked in 1u64.. {
            match self.source.through(byte, max) {
                Ok(Some(message)) => self.outlet.send(RAW, message)?,
                Ok(None) => break,
                Err(e) => return Err(self.refused(e)),
            }
            if unchecked % 1024 == 0 {
                interrupt::check()?;
            }
        }
        Ok(())
    }

    fn ended_by(&mut self, byte: u8) -> Result<(), Failure> {
        let (max, tag) = (self.outlet.max(), if byte == 0 { NUL } else { NEWLINE });
        let mut unchecked = 0;
        loop {
            match self.source.until(byte, max) {
                Ok(Some((message, found))) => self.outlet.send(if found { tag } else { RAW }, message)?,
                Ok(None) => return Ok(()),
                Err(e) => return Err(self.refused(e)),
            }
            unchecked += 1;
            if unchecked == 1024 {
                unchecked = 0;
                interrupt::check()?;
            }
        }
    }

    fn length_prefixed(&mut self) -> Result<(), Failure> {
        let max = self.outlet.max();
        loop {
            interrupt::check()?;
            match self.source.length(max) {
                Ok(Some(len)) if len > CHUNK => self.chunk(len)?,
                Ok(Some(len)) => match self.source.take(len) {
                    Ok(message) => self.outlet.send(RAW, message)?,
                    Err(e) => return Err(self.refused(e)),
                },
                Ok(None) => return Ok(()),
                Err(e) => return Err(self.refused(e)),
            }
        }
    }

    /// A message of a known length, read in its place.
    fn chunk(&mut self, want: usize) -> Result<(), Failure> {
        let mut loan = self.outlet.loan(want)?;
        match self.source.read_full(&mut loan) {
            Ok(have) if have == want => self.outlet.commit(loan),
            Ok(have) => Err(self.refused(CutError::Truncated { have, want })),
            Err(e) => Err(self.refused(CutError::Read(e))),
        }
    }

    fn chunks(&mut self, size: usize) -> Result<(), Failure> {
        if size > self.outlet.max() {
            return Err(self.too_long(&format!("chunks of {} are", units::size(size as u64)), size, false));
        }
        loop {
            interrupt::check()?;
            // At the end no place is needed, so none is waited for.
            let mut loan = match self.outlet.sender.try_loan(size) {
                Ok(loan) => loan,
                Err(_) if self.source.is_at_end().map_err(|e| self.refused(CutError::Read(e)))? => return Ok(()),
                Err(_) => self.outlet.loan(size)?,
            };
            match self.source.read_full(&mut loan) {
                Ok(0) => return Ok(()),
                Ok(len) if len == size => self.outlet.commit(loan)?,
                Ok(len) => self.outlet.send(RAW, &loan[..len])?,
                Err(e) => return Err(self.refused(CutError::Read(e))),
            }
        }
    }

    fn refused(&self, error: CutError) -> Failure {
        match error {
            CutError::Read(e) => match interrupt::check() {
                Err(interrupted) => interrupted,
                Ok(()) => Failure::file("read", &self.name, &e),
            },
            CutError::TooLong { len, or_more } => {
                let number = self.outlet.meter.messages() + 1;
                self.too_long(&format!("message {number} of {} is", self.name), len, or_more)
            }
            CutError::Truncated { have, want } => Failure::failed(format!(
                "{} ends after {have} of the {want} bytes that its last length promises",
                self.name
            )),
        }
    }

    fn too_long(&self, what: &str, len: usize, or_more: bool) -> Failure {
        let (max, address) = (exact(self.outlet.sender.max_message()), self.outlet.sender.address());
        let more = if or_more { " or more" } else { "" };
        let enough = (len as u64 + u64::from(or_more)).next_power_of_two();
        Failure::failed(format!(
            "{what} longer than {address} allows: {len} bytes{more}, max={max}; send it in pieces with `--chunk {}`{}",
            exact(self.outlet.max().min(CHUNK) as u64),
            larger(address, enough),
        ))
    }
}

/// A size to be typed again: not rounded.
fn exact(bytes: u64) -> String {
    let short = units::size(bytes);
    if short.contains('.') { bytes.to_string() } else { short }
}

/// The longest message that any link can be made for.
const MOST: u64 = 1 << 30;

/// What else than smaller pieces would help.
fn larger(address: &str, enough: u64) -> String {
    match address.split(':').next() {
        Some("sysv") => ", or raise kernel.msgmax and kernel.msgmnb with sysctl and make the link anew".into(),
        Some("udp") => String::new(),
        _ if enough > MOST => String::new(),
        _ => format!(", or make the link anew with ?max={} or more", units::size(enough)),
    }
}
