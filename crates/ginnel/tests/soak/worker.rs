//! One life of a seat: a process that opens its link, works, closes, opens again, until the phase tells it to leave or it is killed.
//!
//! What all shapes share is here: opening with few descriptors, the account of what is sent, the checks of what is received, looking for leaks between two
//! handles. What a shape does is in the file of its name.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ginnel::{Error, ErrorKind, RecvError, RecvFailure, SendFailure};

use super::dice::Dice;
use super::famine::{self, Famine};
use super::ledger::{ARRIVED, Count, Event, Head, Kind, Ledger, Phase, RELEASED, Seen, Sent};
use super::payload::{self, HEADING, Heading};
use super::schedule::{Role, Sabotage, Scene, Shape};
use super::{broadcast, latest, mailbox, queue, request, stream};

/// Between two tries of what cannot be done now.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);
/// Descriptors and mappings that a process may have more than after its first handles, because a thread of the library is in the middle of something.
const SETTLE: Duration = Duration::from_secs(2);

/// Descriptors that the library opens once, when a handle first waits: for its watcher, and for news.
const LATER: u64 = 4;

/// A process of a seat.
pub(crate) struct Worker {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) scene: Scene,
    pub(crate) seat: usize,
    pub(crate) role: Role,
    pub(crate) index: usize,
    pub(crate) life: u64,
    pub(crate) dice: Dice,
    pub(crate) famine: Famine,
    pub(crate) buffer: Vec<u8>,
    writer: payload::Writer,
    /// The next message of each channel that it sends to.
    next: Vec<u64>,
    /// Descriptors that were open when its second handle had been closed.
    descriptors: Option<u64>,
    closed: u64,
}

/// What happens to a send that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Try again.
    Again,
    /// Close the handle, and open another.
    Reopen,
}

/// Runs the life that the arguments name.
pub(crate) fn main(scene: Scene, seat: usize, life: u64, ledger: &Path) -> ExitCode {
    let ledger = Ledger::open(ledger).map(Arc::new).expect("the ledger of the round");
    let (role, index) = (scene.seats[seat].role, scene.seats[seat].index);
    let mut dice = scene.dice_of(seat, life);
    let famine = match dice.one_in(scene.famine.max(1)) && scene.famine > 0 && scene.may_starve(seat) {
        true => Famine::begin(dice.below(6), 1 + dice.below(8), dice.one_in(2)),
        false => Famine::none(),
    };
    let next = (0..scene.channels()).map(|channel| ledger.begun(channel)).collect();
    let writer = payload::Writer::new();
    let (buffer, descriptors) = (vec![0; scene.longest.max(HEADING)], None);
    let mut worker =
        Worker { ledger, scene, seat, role, index, life, dice, famine, buffer, writer, next, descriptors, closed: 0 };
    worker.work();
    ExitCode::SUCCESS
}

impl Worker {
    fn work(&mut self) {
        match (self.scene.shape, self.role) {
            (Shape::Pair | Shape::Queue | Shape::Unbounded, Role::Sender) => queue::send(self),
            (Shape::Pair | Shape::Queue | Shape::Unbounded, Role::Receiver) => queue::receive(self),
            (Shape::Broadcast | Shape::Lossy, Role::Sender) => queue::send(self),
            (Shape::Broadcast | Shape::Lossy, Role::Receiver) => broadcast::listen(self),
            (Shape::Latest, Role::Sender) => queue::send(self),
            (Shape::Latest, Role::Receiver) => latest::look(self),
            (Shape::Request, Role::Sender) => request::call(self),
            (Shape::Request, Role::Receiver) => request::serve(self),
            (Shape::Mailbox, _) => mailbox::write(self),
            (Shape::Stream, Role::Sender) => stream::connect(self),
            (Shape::Stream, Role::Receiver) => stream::accept(self),
        }
    }

    /// The address of the link, with its options.
    pub(crate) fn address(&self) -> String {
        format!("shm:soak?{}", self.scene.options)
    }

    // ---- when

    pub(crate) fn runs(&self) -> bool {
        self.ledger.phase() == Phase::Run
    }

    /// Whether its part is over.
    pub(crate) fn is_over(&self) -> bool {
        match (self.role, self.ledger.phase()) {
            (_, Phase::Run) | (Role::Receiver, Phase::Drain) => false,
            (Role::Sender, Phase::Drain) | (_, Phase::End) => true,
        }
    }

    /// How long a receiver waits: as long as something must come, if senders are at work; else for a moment.
    pub(crate) fn patience(&self) -> Duration {
        if self.runs() { self.ledger.limit() } else { Duration::from_millis(20) }
    }

    #[inline]
    pub(crate) fn beat(&self) {
        self.ledger.add(self.seat, Count::Beats, 1);
    }

    /// Waits a little for others.
    pub(crate) fn pause(&self) {
        self.beat();
        sleep(PAUSE);
    }

    // ---- what goes wrong

    pub(crate) fn note(&self, kind: Kind, channel: usize, a: u64, b: u64, c: u64) {
        self.ledger.note(Event { kind, seat: self.seat, life: self.life, channel, a, b, c });
    }

    /// Something that should not be, in words.
    pub(crate) fn unexpected(&self, what: &dyn std::fmt::Display) {
        let (role, index, life) = (self.role, self.index, self.life);
        eprintln!("soak: {}: {role:?} {index}, life {life}: {what}", self.scene.again());
        self.note(Kind::Unexpected, 0, 0, 0, 0);
        sleep(Duration::from_millis(20));
    }

    /// Whether this is a moment for its [`Sabotage`], if it is of that kind: now and then, after a while.
    pub(crate) fn sabotages(&mut self, kind: Sabotage) -> bool {
        self.scene.sabotage == kind && self.ledger.count(self.seat, Count::Beats) > 50 && self.dice.one_in(20)
    }

    /// Messages until a handle is closed and another opened.
    pub(crate) fn until_reopening(&mut self, most: u64) -> u64 {
        let hurry = if self.scene.sabotage == Sabotage::None { 1 } else { 200 };
        1 + self.dice.below(most / hurry)
    }

    /// What to do after a receive that failed.
    pub(crate) fn not_received(&mut self, error: &RecvError) -> Failed {
        self.beat();
        match error.reason() {
            RecvFailure::TimedOut if self.runs() => {
                self.note(Kind::Stuck, 0, 0, 0, 0);
                Failed::Again
            }
            RecvFailure::TimedOut | RecvFailure::Empty => Failed::Again,
            RecvFailure::Closed { .. } => {
                self.pause();
                if self.dice.one_in(4) { Failed::Reopen } else { Failed::Again }
            }
            RecvFailure::Os(number) if self.starved(number) => Failed::Again,
            _ => {
                self.unexpected(error);
                Failed::Reopen
            }
        }
    }

    /// What to do after a send that failed: it was not sent, or was told to be so.
    pub(crate) fn not_sent(&mut self, failure: &SendFailure, said: &dyn std::fmt::Display) -> Failed {
        match failure {
            SendFailure::TimedOut { .. } => {
                self.note(Kind::Stuck, 0, 1, 0, 0);
                Failed::Again
            }
            SendFailure::Closed { .. } => {
                self.pause();
                if self.dice.one_in(4) { Failed::Reopen } else { Failed::Again }
            }
            SendFailure::NoMemory { .. } | SendFailure::Full { .. } | SendFailure::NoRoom { .. } => {
                self.pause();
                Failed::Again
            }
            SendFailure::Os(e) | SendFailure::NoSpace(e) if self.starved(e.raw_os_error().unwrap_or(0)) => {
                Failed::Again
            }
            _ => {
                self.unexpected(said);
                Failed::Reopen
            }
        }
    }

    fn starved(&mut self, number: i32) -> bool {
        // Some errors are explained in words, and have no number then.
        let starved = self.famine.is_on() && matches!(number, 0 | libc::EMFILE | libc::ENFILE);
        if starved {
            self.ledger.add(self.seat, Count::Famines, 1);
            self.famine.failed();
        }
        starved
    }

    // ---- handles

    /// Opens, until it works or its part is over. Others may be in the way for a moment, as `passing` says.
    pub(crate) fn open<T>(&mut self, passing: &[ErrorKind], open: impl Fn() -> Result<T, Error>) -> Option<T> {
        let mut until = Instant::now() + self.ledger.limit();
        while !self.is_over() {
            match open() {
                Ok(opened) => return Some(opened),
                Err(e) if e.kind() == ErrorKind::NoDescriptors && self.famine.is_on() => {
                    self.ledger.add(self.seat, Count::Famines, 1);
                    self.famine.failed();
                }
                Err(e) if passing.contains(&e.kind()) && Instant::now() < until => {}
                Err(e) if passing.contains(&e.kind()) => {
                    eprintln!("soak: {}: {e}", self.scene.again());
                    self.note(Kind::Stuck, 0, 2, 0, 0);
                    until = Instant::now() + self.ledger.limit();
                }
                Err(e) => self.unexpected(&e),
            }
            self.pause();
        }
        None
    }

    /// All its handles are closed: is anything left of them in this process?
    pub(crate) fn closed(&mut self) {
        self.closed += 1;
        self.ledger.add(self.seat, Count::Reopened, 1);
        if self.closed > 2 && self.scene.sabotage == Sabotage::Descriptor {
            (0..4).for_each(|_| std::mem::forget(fs::File::open("/dev/null").expect("a file that is always there")));
        }
        if self.closed < 2 {
            return; // threads of the library have begun only now
        }
        let until = Instant::now() + SETTLE.min(self.ledger.limit() / 3);
        loop {
            let (descriptors, mappings) = (famine::count_descriptors(), count_mappings());
            let base = *self.descriptors.get_or_insert(descriptors);
            self.descriptors = Some(base.min(descriptors));
            if descriptors <= base + LATER && mappings == 0 {
                return;
            }
            if Instant::now() > until {
                if descriptors > base + LATER {
                    self.note(Kind::Descriptors, 0, descriptors, base, 0);
                    self.descriptors = Some(descriptors);
                }
                if mappings > 0 {
                    self.note(Kind::Mappings, 0, mappings, 0, 0);
                }
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }

    // ---- sending

    /// Begins to send so many messages; returns the number of the first.
    #[inline]
    pub(crate) fn begin(&mut self, channel: usize, count: u64) -> u64 {
        let first = self.next[channel];
        // Before the first byte of it goes anywhere: [I1@ledger].
        self.ledger.channel(channel, Sent::Begun).store(first + count, Release);
        first
    }

    /// So many of them were sent, and the others were not.
    #[inline]
    pub(crate) fn sent(&mut self, channel: usize, count: u64) {
        self.next[channel] += count;
        if count > 0 {
            self.ledger.channel(channel, Sent::Sent).store(self.next[channel], Release);
        }
        self.ledger.channel(channel, Sent::Begun).store(self.next[channel], Release);
        self.beat();
    }

    /// Nobody knows whether the message that was begun was sent.
    pub(crate) fn told(&mut self, channel: usize) {
        self.note(Kind::Told, channel, self.next[channel], 0, 0);
        self.ledger.add(self.seat, Count::Told, 1);
        self.next[channel] += 1;
        self.beat();
    }

    /// Writes a message into its buffer.
    pub(crate) fn write(&mut self, channel: usize, seq: u64, part: u16, len: usize) {
        let heading = Heading { channel, part, life: self.life as u32, seq };
        self.writer.write(heading, &mut self.buffer[..len]);
    }

    /// The same, elsewhere.
    pub(crate) fn write_to(&self, heading: Heading, bytes: &mut [u8]) {
        self.writer.write(heading, bytes);
    }

    pub(crate) fn length(&mut self) -> usize {
        payload::length(&mut self.dice, self.scene.longest)
    }

    // ---- receiving

    /// What a message says; `None`, and noted, if it is torn.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Heading> {
        match payload::read(bytes) {
            Some(heading) if heading.channel < self.scene.channels() => Some(heading),
            _ => {
                let said = bytes.get(16..24).map_or(0, |seq| u64::from_le_bytes(seq.try_into().unwrap_or_default()));
                self.note(Kind::Torn, 0, said, bytes.len() as u64, 0);
                None
            }
        }
    }

    /// A message that goes to one receiver has come: into the books with it, before it is released.
    #[inline]
    pub(crate) fn received(&mut self, bytes: &[u8], redelivered: bool) -> Option<Heading> {
        let heading = self.read(bytes)?;
        let Heading { channel, seq, .. } = heading;
        let before = self.ledger.mark(channel, seq, ARRIVED);
        if before & RELEASED != 0 || before & ARRIVED != 0 && !redelivered {
            self.note(Kind::Duplicate, channel, seq, before, u64::from(redelivered));
        }
        self.ledger.add(self.seat, Count::Received, 1);
        if redelivered {
            self.ledger.add(self.seat, Count::Redelivered, 1);
            let killed = self.ledger.head(Head::ReceiverKilled).swap(0, AcqRel);
            self.ledger.recovered_since(killed);
        } else {
            let next = self.ledger.seen(self.seat, channel, Seen::Next);
            let expected = next.load(Acquire);
            if seq < expected {
                self.note(Kind::Reordered, channel, seq, expected, 0);
            }
            next.store(seq + 1, Release);
        }
        self.passed();
        Some(heading)
    }

    #[inline]
    pub(crate) fn passed(&self) {
        self.ledger.passed();
        self.beat();
    }

    /// It was released.
    #[inline]
    pub(crate) fn released(&self, heading: Heading) {
        self.ledger.mark(heading.channel, heading.seq, RELEASED);
    }
}

/// Mappings of links in this process.
fn count_mappings() -> u64 {
    let Some(directory) = std::env::var_os(ginnel::DIRECTORY_VARIABLE) else { return 0 };
    let directory = directory.to_string_lossy().into_owned();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter(|line| line.contains(&directory)).count() as u64
}
