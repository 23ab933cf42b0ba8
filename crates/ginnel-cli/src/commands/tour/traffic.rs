//! What the two processes of a tour do. They are this program again, started as `ginnel tour-send` and `ginnel tour-recv`,
//! which no help shows; `tour-both` is both at once, in two threads; `tour-shape` is one part of a shape: see `conversation`.
//!
//! ```text
//! sending                                    receiving
//! its process's number                      ->
//!                                           <- the same
//! a number, below zero when it is the last  ->
//!                                           <- the same
//! the file: see `freight`                   ->
//!                                           <- that all has arrived, so that the clock stops then
//! ```
//! Numbers are text in messages of 64 bytes, filled with blanks, but where a message is a number anyway. Each process says what it found on
//! stderr, as a line of JSON, and ends by itself if its parent does or time is over.

use super::conversation;
use super::freight;
use super::mechanism::Mechanism;
use super::place::{Place, Way};
use super::shape::Shape;
use ginnel::{Error, ErrorKind, Link, Receiver, RecvError, RecvFailure, SendError, SendFailure, Sender};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// How a process ends that finds that the host does not give the mechanism (EX_UNAVAILABLE of sysexits.h).
pub(super) const NOT_HERE: u8 = 69;
/// How it ends when the other one left before anything had come through: that one knows why.
const ALONE: u8 = 70;

const RECORD: usize = 64;
const TRIPS: i32 = 20_000;
const WARM_UP: i32 = 1_000;
/// Where one core does the work of two, or others are busy too, or it naps, fewer trips have to do.
const TRIPS_TIME: Duration = Duration::from_millis(300);
/// How long the first message may take: longer, and the mechanism does not carry messages here.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long waits the receiving process: the sending one knows better what is wrong, and is to say it first.
const MORE_PATIENCE: Duration = Duration::from_secs(4);
/// How long an answer may take where it may be lost.
const ANSWER: Duration = Duration::from_millis(50);

/// How the parent starts its children.
#[derive(clap::Parser)]
#[command(name = "ginnel", hide = true)]
pub(super) struct ChildArgs {
    #[command(subcommand)]
    side: Side,
}

#[derive(clap::Subcommand)]
enum Side {
    #[command(name = "tour-send")]
    Send(Task),
    #[command(name = "tour-recv")]
    Recv(Task),
    #[command(name = "tour-both")]
    Both(Task),
    #[command(name = "tour-shape")]
    Shape {
        shape: Shape,
        /// Which of its parts.
        part: usize,
        #[command(flatten)]
        task: Task,
    },
}

#[derive(clap::Args)]
pub(super) struct Task {
    pub(super) mechanism: Mechanism,
    /// The parent's process.
    parent: u32,
    /// Of the place where the two meet.
    id: u64,
    limit_ms: u64,
    /// The receiving process, for the sending one; or 0.
    peer: u32,
    pub(super) bytes: u64,
    pub(super) file: PathBuf,
}

/// What the sending process found.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    pub(super) transfer_ns: u64,
    pub(super) largest: u64,
    pub(super) round_trip_ns: RoundTrip,
}

/// What the receiving process found.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    pub(super) crc32: u32,
    /// As the receiver has been told.
    pub(super) dropped: u64,
}

/// Percentiles of the time that a message takes there and back.
#[derive(Serialize, Deserialize)]
pub(super) struct RoundTrip {
    trips: u64,
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl RoundTrip {
    pub(super) fn figures(&self) -> [u64; 4] {
        [self.p50, self.p99, self.p99_9, self.max]
    }
}

/// Why a process could not do its part.
pub(super) struct Fault {
    text: String,
    status: u8,
}

impl Fault {
    pub(super) fn new(text: impl Display) -> Self {
        Self { text: text.to_string(), status: 1 }
    }

    fn not_here(text: impl Display) -> Self {
        Self { text: text.to_string(), status: NOT_HERE }
    }

    fn alone(text: impl Display) -> Self {
        Self { text: text.to_string(), status: ALONE }
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        match e.kind() {
            ErrorKind::InvalidAddress | ErrorKind::InvalidOption => Self::new(e),
            _ => Self::not_here(e),
        }
    }
}

impl From<SendError> for Fault {
    fn from(e: SendError) -> Self {
        match e.reason() {
            SendFailure::NoSpace(_) => Self::not_here(e),
            _ => Self::new(e),
        }
    }
}

impl From<RecvError> for Fault {
    fn from(e: RecvError) -> Self {
        Self::new(e)
    }
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        Self::new(e)
    }
}

/// Runs as a child, if that is what this process was started for.
pub(crate) fn child() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    if !["tour-send", "tour-recv", "tour-both", "tour-shape"].iter().any(|side| first == *side) {
        return None;
    }
    let side = <ChildArgs as clap::Parser>::parse().side;
    let (Side::Send(task) | Side::Recv(task) | Side::Both(task) | Side::Shape { task, .. }) = &side;
    // Before it makes anything: from now on nobody removes that but the parent and the two children.
    let Ok(Some(_in_use)) = task.place().enter() else { return Some(ALONE.into()) };
    let found = match &side {
        Side::Send(_) => task.send().map(|sent| json(&sent)),
        Side::Recv(_) => task.recv().map(|received| json(&received)),
        Side::Both(_) => task.both().map(|both| json(&both)),
        Side::Shape { shape, part, .. } => conversation::play(*shape, *part, task).map(|found| json(&found)),
    };
    if task.is_orphan() {
        task.place().remove();
    }
    let (text, status) = match found {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(Fault { text, status }) => (text, status.into()),
    };
    let _ = writeln!(io::stderr(), "{text}");
    Some(status)
}

/// Held by who opens a link, or removes all for good.
pub(super) fn opening() -> MutexGuard<'static, ()> {
    static OPENING: Mutex<()> = Mutex::new(());
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json(found: &impl Serialize) -> String {
    serde_json::to_string(found).unwrap_or_default()
}

impl Task {
    fn place(&self) -> Place {
        Place::of_parent(self.mechanism, self.id)
    }

    fn is_orphan(&self) -> bool {
        std::os::unix::process::parent_id() != self.parent
    }

    /// From now on this process ends when its time is over or its parent has; Ctrl-C is for the parent, which is told as well.
    pub(super) fn watch(&self) -> io::Result<()> {
        static ONCE: Once = Once::new();
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)))?;
        let (parent, place) = (self.parent, self.place());
        let end = Instant::now() + Duration::from_millis(self.limit_ms);
        let watch = move || {
            while std::os::unix::process::parent_id() == parent && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
            // Nothing is made after it was removed.
            let _opening = opening();
            place.remove();
            std::process::exit(124);
        };
        ONCE.call_once(|| drop(std::thread::spawn(watch)));
        Ok(())
    }

    /// Opens the receiving end first: one of signals has to be there before any thread.
    fn receiver(&self, way: Way) -> Result<Receiver, Fault> {
        let receiver = {
            let _opening = opening();
            Link::new(&self.place().address(way))?.receiver()?
        };
        self.watch()?;
        Ok(receiver)
    }

    fn sender(&self, way: Way, peer: u32) -> Result<Sender, Fault> {
        let address = match self.mechanism {
            Mechanism::Signal => format!("signal:{peer}"),
            _ => self.place().address(way),
        };
        let _opening = opening();
        Ok(Link::new(&address)?.sender()?)
    }

    fn both(&self) -> Result<(Sent, Received), Fault> {
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| self.recv());
            let sent = self.send()?;
            let received = receiving.join().map_err(|_| Fault::new("the receiving thread panicked"))??;
            Ok((sent, received))
        })
    }

    fn send(&self) -> Result<Sent, Fault> {
        let receiver = self.receiver(Way::Back)?;
        let wire = Wire { mechanism: self.mechanism, sender: self.sender(Way::There, self.peer)?, receiver };
        wire.hello()?;
        let round_trip_ns = wire.round_trips()?;
        let start = Instant::now();
        let (bytes, messages) = freight::send(&wire, self)?;
        let transfer_ns = nanoseconds(start.elapsed());
        Ok(Sent { bytes, messages, transfer_ns, largest: wire.sender.max_message(), round_trip_ns })
    }

    fn recv(&self) -> Result<Received, Fault> {
        let receiver = self.receiver(Way::There)?;
        let first = match receiver.recv_timeout(MORE_PATIENCE) {
            Err(e) if e == RecvFailure::TimedOut => return Err(Fault::not_here(e)),
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return Err(Fault::alone(e)),
            other => Record::of(&other?)?,
        };
        let sender = self.sender(Way::Back, first.number()?.unsigned_abs())?;
        let wire = Wire { mechanism: self.mechanism, sender, receiver };
        wire.put(&first)?;
        loop {
            let record = wire.get()?;
            wire.put(&record)?;
            if record.number()? < 0 {
                break;
            }
        }
        let mut received = freight::recv(&wire)?;
        received.dropped = wire.receiver.dropped();
        Ok(received)
    }
}

/// A message that carries a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    bytes: [u8; RECORD],
    len: usize,
}

impl Record {
    pub(super) fn new(number: i32, mechanism: Mechanism) -> Self {
        let mut bytes = [b' '; RECORD];
        let mut rest = &mut bytes[..];
        let _ = write!(rest, "{number}");
        let digits = RECORD - rest.len();
        Self { bytes, len: if mechanism == Mechanism::Signal { digits } else { RECORD } }
    }

    fn of(message: &[u8]) -> Result<Self, Fault> {
        let mut bytes = [b' '; RECORD];
        let room = bytes.get_mut(..message.len());
        room.ok_or_else(|| Fault::new(format!("{} bytes came instead of {RECORD}", message.len())))?
            .copy_from_slice(message);
        Ok(Self { bytes, len: message.len() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn number(&self) -> Result<i32, Fault> {
        let text = std::str::from_utf8(&self.bytes).ok().map(str::trim);
        text.and_then(|text| text.parse().ok()).ok_or_else(|| Fault::new("what came is not the number that was sent"))
    }
}

/// One end of both ways.
pub(super) struct Wire {
    pub(super) mechanism: Mechanism,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Wire {
    pub(super) fn record(&self, number: i32) -> Record {
        Record::new(number, self.mechanism)
    }

    pub(super) fn put(&self, record: &Record) -> Result<(), Fault> {
        Ok(self.sender.send(record.bytes())?)
    }

    pub(super) fn get(&self) -> Result<Record, Fault> {
        Record::of(&self.receiver.recv()?)
    }

    fn is_lossy(&self) -> bool {
        self.mechanism == Mechanism::Udp
    }

    /// Sends a record, and again if need be, until the same comes back or patience is over. False if it does not come.
    pub(super) fn insist(&self, record: &Record) -> Result<bool, Fault> {
        let end = Instant::now() + PATIENCE;
        let answer = if self.is_lossy() { ANSWER } else { PATIENCE };
        while Instant::now() < end {
            match self.sender.send_timeout(record.bytes(), PATIENCE) {
                Err(e) if matches!(e.reason(), SendFailure::TimedOut { .. }) => return Err(Fault::not_here(e)),
                Err(_) if self.is_lossy() => {} // nobody was there for an earlier one
                other => other?,
            }
            let soon = Instant::now() + answer;
            loop {
                match self.receiver.recv_deadline(soon) {
                    Ok(message) if Record::of(&message)? == *record => return Ok(true),
                    Ok(_) if self.is_lossy() => {} // an answer to an earlier one
                    Ok(_) => return Err(Fault::new("other bytes came back")),
                    Err(e) if e == RecvFailure::TimedOut => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(false)
    }

    fn hello(&self) -> Result<(), Fault> {
        let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let alone = |fault: Fault| if fault.status == 1 { Fault::alone(fault.text) } else { fault };
        match self.insist(&self.record(me)).map_err(alone)? {
            true => Ok(()),
            false => Err(Fault::not_here(format!("no message came through within {}s", PATIENCE.as_secs()))),
        }
    }

    fn round_trips(&self) -> Result<RoundTrip, Fault> {
        let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(Fault::new)?;
        let start = Instant::now();
        for trip in 1.. {
            let begin = Instant::now();
            let goes_on = trip < WARM_UP + TRIPS && begin < start + TRIPS_TIME;
            self.trip(&self.record(if goes_on { trip } else { -trip }))?;
            // The first and the last are not typical; but some figure is better than none.
            if trip > WARM_UP || begin > start + TRIPS_TIME / 4 || !goes_on && times.is_empty() {
                times.saturating_record(nanoseconds(begin.elapsed()));
            }
            if !goes_on {
                break;
            }
        }
        let at = |quantile| times.value_at_quantile(quantile);
        Ok(RoundTrip { trips: times.len(), p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: times.max() })
    }

    fn trip(&self, record: &Record) -> Result<(), Fault> {
        if self.is_lossy() {
            return match self.insist(record)? {
                true => Ok(()),
                false => Err(Fault::new("no answer came any more")),
            };
        }
        self.put(record)?;
        if self.get()? == *record { Ok(()) } else { Err(Fault::new("other bytes came back")) }
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
