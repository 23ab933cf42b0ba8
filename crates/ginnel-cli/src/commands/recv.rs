//! `ginnel recv`: messages become bytes on standard output.

use super::address;
use crate::exit::{Failure, say};
use crate::interrupt::{self, Patience};
use crate::meter::Meter;
use crate::output::{self, BUFFER, Form, Sink};
use crate::units;
use ginnel::{Carriage, Link, Message, Receiver, RecvError, RecvFailure, Shape};
use std::fs::File;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

const AFTER_HELP: &str = "\
After each message comes what its sender read after it: a newline, a NUL or
nothing. So `ginnel recv` writes exactly what `ginnel send` read. It ends when
the last sender has left and every message was received; if there is no sender
yet, it waits for the first. Nothing tells the end of UDP: there -n COUNT ends
it, or -W 1s, with status 124, after so long a silence.

Of a link with ?shape=broadcast every receiver gets every message that is sent while
it is there, and with ?history=N the newest N before. If the link was made with
?full=drop-oldest, what came too fast is missed, and its number is said at the end;
with ?full=cut-off that is an error, with status 1.

A message is held until its bytes are written. If they cannot be, it goes back
to the link, whole, and the next receiver gets it. But what lies unread in a
pipe when its reader leaves (`| head -1`) is lost: use `-n 1` instead.

Examples:
  ginnel recv shm:numbers                     until the senders have left
  ginnel recv -n 1 -W 500ms shm:jobs          one message, if it comes in time
  ginnel recv --nul shm:files | xargs -0 ls   whatever is in the names
  ginnel recv 'shm:news?shape=broadcast'      as everybody else who receives it
  ginnel recv --follow shm:events >> events   for ever";

/// How often to look for a message before what was collected is written.
const LOOKS: u32 = 16;

/// Receive messages, and write them to standard output
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link to receive from; made if it is not there
    #[arg(value_parser = address)]
    address: Link,

    #[command(flatten)]
    form: FormArgs,

    /// Stop after COUNT messages
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true, value_parser = units::whole(1, u64::MAX))]
    count: Option<u64>,

    /// Give up, with status 124, when no message comes for so long: 10ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// When the last sender has left, wait for the next one
    #[arg(long)]
    follow: bool,
}

impl Args {
    /// A link to standard output, as it was sent.
    pub(super) fn standard_output(address: Link, count: Option<u64>, timeout: Option<Duration>) -> Self {
        Self { address, form: FormArgs::default(), count, timeout, follow: false }
    }
}

#[derive(clap::Args, Default)]
#[group(multiple = false)]
struct FormArgs {
    /// A newline after each message
    #[arg(long)]
    lines: bool,

    /// A NUL after each message
    #[arg(short = '0', long)]
    nul: bool,

    /// Before each message its length, a 32-bit little-endian number
    #[arg(long)]
    length_prefixed: bool,

    /// Nothing between messages; write at most SIZE bytes at once
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    chunk: Option<usize>,
}

impl FormArgs {
    /// How messages are written, and how many bytes at once.
    fn form(&self, carriage: Carriage) -> (Form, usize) {
        match self {
            // Of a link that carries no tags, the message may have its own.
            Self { lines: true, .. } if carriage == Carriage::Bare => (Form::AsSent { terminal: true }, BUFFER),
            Self { lines: true, .. } => (Form::Ended(b'\n'), BUFFER),
            Self { nul: true, .. } => (Form::Ended(0), BUFFER),
            Self { length_prefixed: true, .. } => (Form::LengthPrefixed, BUFFER),
            Self { chunk: Some(size), .. } => (Form::Raw, *size),
            _ if carriage == Carriage::Line => (Form::Ended(b'\n'), BUFFER),
            _ => (Form::AsSent { terminal: stdout().is_terminal() }, BUFFER),
        }
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let link = args.address.clone();
    let receiver = open(&if args.follow { link.follow(true) } else { link })?;
    interrupt::end_waits_of(receiver.interrupter());
    let (form, piece) = args.form.form(args.address.carriage());
    // So many that writing is worth it, so few that the senders have room meanwhile.
    let most = usize::try_from(receiver.capacity() / 4).unwrap_or(usize::MAX).min(4096);
    let mut receiving = Receiving {
        receiver: &receiver,
        sink: Sink::new(output::stdout()?, form, piece, most),
        timeout: args.timeout,
        left: args.count.unwrap_or(u64::MAX),
        meter: Meter::new(quiet || stdout().is_terminal(), None),
        redelivered: 0,
    };
    let done = receiving.all();
    let redelivered = receiving.redelivered;
    drop(receiving);
    tell_losses(&receiver, redelivered, quiet);
    done
}

/// Whoever is interrupted leaves no link behind, so signals are heeded before there is one. But a receiver of signals has to block them in
/// every thread, so it comes before the one that heeds them.
fn open(link: &Link) -> Result<Receiver, Failure> {
    let heed = || interrupt::install().map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")));
    if link.address().starts_with("signal:") {
        let receiver = link.receiver()?;
        return heed().map(|()| receiver);
    }
    heed()?;
    Ok(link.receiver()?)
}

/// What did not go as it should, though nothing failed.
pub(super) fn tell_losses(receiver: &Receiver, redelivered: u64, quiet: bool) {
    if redelivered > 0 && !quiet {
        say(&format!(
            "{redelivered} messages had been in the hands of another receiver, which did not finish with them"
        ));
    }
    let dropped = receiver.dropped();
    if dropped > 0 && receiver.address().starts_with("udp:") {
        say(&format!(
            "{dropped} datagrams came while the receive buffer was full, and are lost; send more slowly, or raise its limit with `sysctl -w net.core.rmem_max=16777216`"
        ));
    } else if dropped > 0 && receiver.shape() == Shape::Broadcast {
        say(&format!(
            "{dropped} messages were overwritten before they were received here, and are missed; receive faster, or make the link with a larger ?capacity="
        ));
    } else if dropped > 0 {
        say(&format!("{dropped} messages were dropped to make room and will never be received"));
    }
}

struct Receiving<'a> {
    receiver: &'a Receiver,
    sink: Sink<File, Message<'a>>,
    timeout: Option<Duration>,
    left: u64,
    meter: Meter,
    redelivered: u64,
}

impl<'a> Receiving<'a> {
    fn all(&mut self) -> Result<(), Failure> {
        let mut unchecked = 0;
        while self.left > 0 {
            let message = match self.recv_soon() {
                Ok(message) => message,
                Err(e) if e == RecvFailure::Empty => {
                    // Whoever reads what we write shall have it before we sleep.
                    self.flush()?;
                    self.wait()?
                }
                Err(e) => return self.flush().and_then(|()| self.ended(&e)),
            };
            self.take(message)?;
            unchecked += 1;
            if unchecked == 1024 {
                unchecked = 0;
                interrupt::check().or_else(|interrupted| self.flush().and(Err(interrupted)))?;
            }
        }
        self.flush()
    }

    /// A message that is there, or comes within about a microsecond: so much longer to collect is worth a write.
    #[inline]
    fn recv_soon(&self) -> Result<Message<'a>, RecvError> {
        for _ in 1..LOOKS {
            match self.receiver.try_recv() {
                Err(e) if e == RecvFailure::Empty => std::hint::spin_loop(),
                other => return other,
            }
        }
        self.receiver.try_recv()
    }

    #[inline]
    fn take(&mut self, message: Message<'a>) -> Result<(), Failure> {
        self.left -= 1;
        self.redelivered += u64::from(message.redelivered());
        self.meter.add(message.len());
        let tag = message.tag();
        self.sink.put(message, tag).map_err(|e| Failure::output(&e))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush().map_err(|e| Failure::output(&e))
    }

    #[cold]
    fn wait(&mut self) -> Result<Message<'a>, Failure> {
        let patience = Patience::of(self.timeout);
        loop {
            match self.receiver.recv_deadline(patience.slice()?) {
                Ok(message) => return Ok(message),
                Err(e) if e == RecvFailure::Interrupted => {}
                Err(e) if e == RecvFailure::TimedOut && !patience.is_over() => self.meter.idle("waiting for a sender"),
                Err(e) => return Err(Failure::recv(&e)),
            }
        }
    }

    fn ended(&self, error: &RecvError) -> Result<(), Failure> {
        Err(Failure::recv(error))
    }
}
