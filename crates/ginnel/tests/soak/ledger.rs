//! The account of a round: a mapped file that every worker writes as it goes. What a worker wrote is there after it was killed, as the page cache keeps it.
//!
//! ```text
//! | head | seats, 16 x 32 words | pairs, 16 x 16 x 8 words | channels, 16 x 8 words | events, 16 x 4096 x 6 words | ways | marks, 16 x 2^21 words |
//! ```
//! Everything is a 64-bit word in a sparse file, so what is not used costs nothing. A mark is two bits for each message: it arrived; who received it has
//! released it. So a hundred million messages take 25 MB, and counting is exact.
//!
//! - [I1] `begun` of a channel is raised before a message is sent, `sent` after the sender was told that it was. So what lies between them, when a
//!   sender is killed, may have been sent or not, and nothing else may.
//! - [I2] A message is marked as arrived before it is released, and as released after.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use ginnel_os::mmap::Mapping;
use ginnel_os::process::monotonic_ns;

/// How long nothing may happen where something could.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Seats and channels at most.
pub(crate) const MOST: usize = 16;
/// Messages of a channel at most, in one round.
pub(crate) const MESSAGES: u64 = 1 << 26;
/// Events of a seat at most.
const EVENTS: usize = 4096;
/// Connections of a seat at most.
pub(crate) const CONNECTIONS: usize = 4096;

const SEAT_WORDS: usize = 32;
const PAIR_WORDS: usize = 8;
const CHANNEL_WORDS: usize = 8;
const EVENT_WORDS: usize = 6;
const WAY_WORDS: usize = 24;
const MARK_WORDS: usize = (MESSAGES / 32) as usize;

const SEATS_AT: usize = 64;
const PAIRS_AT: usize = SEATS_AT + MOST * SEAT_WORDS;
const CHANNELS_AT: usize = PAIRS_AT + MOST * MOST * PAIR_WORDS;
const EVENTS_AT: usize = CHANNELS_AT + MOST * CHANNEL_WORDS;
const WAYS_AT: usize = EVENTS_AT + MOST * EVENTS * EVENT_WORDS;
const MARKS_AT: usize = WAYS_AT + MOST * CONNECTIONS * WAY_WORDS;
const WORDS: usize = MARKS_AT + MOST * MARK_WORDS;

/// The bits of a mark.
pub(crate) const ARRIVED: u64 = 1;
/// See [`ARRIVED`].
pub(crate) const RELEASED: u64 = 2;

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Run,
    /// Senders leave, receivers go on.
    Drain,
    /// Everybody leaves.
    End,
}

/// Words of the whole round.
#[derive(Clone, Copy)]
pub(crate) enum Head {
    Phase,
    /// When somebody was killed since whom no message has passed; 0 if one has.
    Killed,
    /// When a receiver was last killed.
    ReceiverKilled,
    /// The longest recovery, in ns.
    Recovery,
    /// What a participant waits at most, in ms; 0 is [`LIMIT`].
    Limit,
    /// Receivers that were killed, or are about to be.
    Kills,
}

/// Words of a seat; its worker writes them.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// Grows as long as the worker is not stuck.
    Beats,
    /// Messages received whole.
    Received,
    Redelivered,
    /// Opens that failed for want of descriptors.
    Famines,
    /// Handles closed and opened again.
    Reopened,
    Told,
    Events,
    /// Of a lossy broadcast: positions that nobody's message has.
    Vanished,
    /// The connection that it has now, plus one.
    Connection,
    Connections,
}

/// Words of a receiving seat and a channel.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// One more than the last one that was not redelivered.
    Next,
}

/// Words of a channel.
#[derive(Clone, Copy)]
pub(crate) enum Sent {
    Begun,
    Sent,
}

/// Words of a connection, whose client has a seat. Bytes, or flags.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    UpBegun,
    UpSent,
    UpRead,
    /// How reading ended: see [`Ending`].
    UpEnd,
    DownBegun,
    DownSent,
    DownRead,
    DownEnd,
    /// The client is about to close its way in good order.
    UpClosing,
    DownClosing,
    /// The server's life, plus one.
    Server,
    ClientKilled,
    ServerKilled,
    /// Why the client gave the connection up: 1 writing failed, 2 reading ended, 3 it was reset, 4 reading failed.
    GaveUp,
    /// Servers that had been killed when it connected, and when it gave up.
    KillsBefore,
    KillsAfter,
    /// Where the server read something else than was written, plus one.
    Torn,
}

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did not: the reader was killed, or gave up.
    None,
    Closed,
    Reset,
}

impl Ending {
    pub(crate) fn of(word: u64) -> Self {
        match word {
            1 => Self::Closed,
            2 => Self::Reset,
            _ => Self::None,
        }
    }
}

/// What a worker noticed. The numbers are explained by [`super::judge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of a channel: messages from `a` up to `b` did not come.
    Gap = 1,
    Torn,
    /// Message `a` came again: `b` is what its mark said.
    Duplicate,
    /// Message `a` came after `b` - 1.
    Reordered,
    /// Nothing happened in operation `a`.
    Stuck,
    /// Of a newest value: `a` came, though `b` - 1 was there before.
    Stale,
    /// A call for message `a` failed, and its client was told.
    Told,
    /// The worker has printed what.
    Unexpected,
    /// `a` descriptors, where there were `b`.
    Descriptors,
    /// `a` mappings of links that are closed.
    Mappings,
    /// Of a channel: from `a` up to `b` did not come, and the receiver was told that it missed `c`.
    Missed,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Gap,
        Self::Torn,
        Self::Duplicate,
        Self::Reordered,
        Self::Stuck,
        Self::Stale,
        Self::Told,
        Self::Unexpected,
        Self::Descriptors,
        Self::Mappings,
        Self::Missed,
    ];
}

/// One event, as it stands in the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) seat: usize,
    pub(crate) life: u64,
    pub(crate) channel: usize,
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
}

/// The mapped file.
pub(crate) struct Ledger {
    mapping: Mapping,
}

impl Ledger {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(WORDS as u64 * 8)?;
        Self::map(&file)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::map(&File::options().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::of_file(file.as_fd(), WORDS * 8, true)? })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.mapping.shared().atomic_u64(at * 8).expect("a word of the ledger")
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.head(Head::Phase).load(Acquire) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::End,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.head(Head::Phase).store(phase as u64, Release);
    }

    pub(crate) fn head(&self, word: Head) -> &AtomicU64 {
        self.word(word as usize * 8)
    }

    pub(crate) fn limit(&self) -> Duration {
        match self.head(Head::Limit).load(Relaxed) {
            0 => LIMIT,
            ms => Duration::from_millis(ms),
        }
    }

    fn count_word(&self, seat: usize, count: Count) -> &AtomicU64 {
        self.word(SEATS_AT + seat * SEAT_WORDS + count as usize)
    }

    pub(crate) fn count(&self, seat: usize, count: Count) -> u64 {
        self.count_word(seat, count).load(Acquire)
    }

    /// Only the seat's worker does this, so it need not be one operation.
    pub(crate) fn add(&self, seat: usize, count: Count, more: u64) {
        let word = self.count_word(seat, count);
        word.store(word.load(Relaxed) + more, Release);
    }

    pub(crate) fn set(&self, seat: usize, count: Count, value: u64) {
        self.count_word(seat, count).store(value, Release);
    }

    pub(crate) fn seen(&self, seat: usize, channel: usize, seen: Seen) -> &AtomicU64 {
        self.word(PAIRS_AT + (seat * MOST + channel) * PAIR_WORDS + seen as usize)
    }

    pub(crate) fn channel(&self, channel: usize, word: Sent) -> &AtomicU64 {
        self.word(CHANNELS_AT + channel * CHANNEL_WORDS + word as usize)
    }

    pub(crate) fn begun(&self, channel: usize) -> u64 {
        self.channel(channel, Sent::Begun).load(Acquire)
    }

    pub(crate) fn sent(&self, channel: usize) -> u64 {
        self.channel(channel, Sent::Sent).load(Acquire)
    }

    fn mark_word(&self, channel: usize, seq: u64) -> (&AtomicU64, u32) {
        let word = (seq % MESSAGES / 32) as usize;
        (self.word(MARKS_AT + channel * MARK_WORDS + word), (seq % 32) as u32 * 2)
    }

    /// Marks a message; returns what its mark was.
    pub(crate) fn mark(&self, channel: usize, seq: u64, bits: u64) -> u64 {
        let (word, shift) = self.mark_word(channel, seq);
        word.fetch_or(bits << shift, AcqRel) >> shift & 3
    }

    pub(crate) fn mark_of(&self, channel: usize, seq: u64) -> u64 {
        let (word, shift) = self.mark_word(channel, seq);
        word.load(Acquire) >> shift & 3
    }

    pub(crate) fn way(&self, seat: usize, connection: usize, way: Way) -> &AtomicU64 {
        self.word(WAYS_AT + (seat * CONNECTIONS + connection % CONNECTIONS) * WAY_WORDS + way as usize)
    }

    /// Writes down what the seat's worker noticed.
    pub(crate) fn note(&self, event: Event) {
        let at = self.count(event.seat, Count::Events) as usize;
        if at < EVENTS {
            let first = EVENTS_AT + (event.seat * EVENTS + at) * EVENT_WORDS;
            let words = [event.kind as u64, event.life, event.channel as u64, event.a, event.b, event.c];
            for (offset, word) in words.into_iter().enumerate() {
                self.word(first + offset).store(word, Release);
            }
        }
        self.add(event.seat, Count::Events, 1);
    }

    /// What the seat's workers noticed; and how much more they did.
    pub(crate) fn events(&self, seat: usize) -> (Vec<Event>, u64) {
        let count = self.count(seat, Count::Events);
        let kept = (count as usize).min(EVENTS);
        let events = (0..kept).filter_map(|at| self.event(seat, at)).collect();
        (events, count - kept as u64)
    }

    fn event(&self, seat: usize, at: usize) -> Option<Event> {
        let first = EVENTS_AT + (seat * EVENTS + at) * EVENT_WORDS;
        let word = |offset: usize| self.word(first + offset).load(Acquire);
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u64 == word(0))?;
        let (channel, a, b, c) = (word(2) as usize, word(3), word(4), word(5));
        Some(Event { kind, seat, life: word(1), channel, a, b, c })
    }

    /// A message has passed the link: if it is the first after a kill, that took so long.
    #[inline]
    pub(crate) fn passed(&self) {
        if self.head(Head::Killed).load(Relaxed) != 0 {
            self.passed_first();
        }
    }

    #[cold]
    fn passed_first(&self) {
        self.recovered_since(self.head(Head::Killed).swap(0, AcqRel));
    }

    /// What was held by somebody who was killed then has come again.
    pub(crate) fn recovered_since(&self, killed_ns: u64) {
        if killed_ns != 0 {
            let took = monotonic_ns().saturating_sub(killed_ns);
            self.head(Head::Recovery).fetch_max(took, AcqRel);
        }
    }
}
