//! What is measured: the shape, the workload, the way of waiting, the size, and how many messages.
//!
//! Not how it is measured (see `round_trip`, `stream`, `burst` and `look`), nor between whom (see `contest`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the processes have of each other: the shape of their conversation. Contenders of one shape meet only in cases of that shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Messages in order, and a bound.
    #[default]
    Queue,
    /// Messages in order, and none.
    Unbounded,
    /// Every receiver gets every message.
    Broadcast,
    /// The newest value only.
    Latest,
    /// A request and its response.
    Call,
    /// Letters to a name.
    Mailbox,
    /// Bytes without bounds between them.
    Stream,
}

impl Shape {
    /// Its name, as reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Unbounded => "unbounded",
            Self::Broadcast => "broadcast",
            Self::Latest => "latest",
            Self::Call => "call",
            Self::Mailbox => "mailbox",
            Self::Stream => "stream",
        }
    }
}

/// What the processes do with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// One message there, one back, one after the other; the time of every pair is recorded.
    RoundTrip,
    /// Messages one way as fast as they go, counted where they arrive.
    Stream,
    /// Bursts of messages to several receivers, which receive each burst when it is there; the time of a send is recorded.
    Send,
    /// One process writes values with short pauses, the other looks at the newest all the time; the time of a look is recorded.
    Look,
}

/// How a side waits that finds the channel empty or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It looks again at once, for ever.
    Spin,
    /// It sleeps in the kernel until it is woken.
    Block,
}

/// How much of each message is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// The sender writes all of it and the receiver reads all of it; from [`COPIES_FROM`] bytes by a copy out of and
    /// into private memory.
    Whole,
    /// Only the first and the last word, in place: what handing over a large message costs without its bytes.
    Ends,
    /// The sender copies all of it, and the receiver adds every byte to a checksum, in whatever pieces they come: a stream of bytes.
    Summed,
}

/// Messages of this size and above are copied from and to private memory; smaller ones are written and read word by
/// word where they lie.
pub const COPIES_FROM: usize = 4096;

/// One measurement: what every contender of a group does alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// The shape of the conversation.
    pub shape: Shape,
    /// What the two processes do.
    pub workload: Workload,
    /// How they wait.
    pub mode: Mode,
    /// Bytes of one message; at least 1.
    pub size: usize,
    /// How much of it is touched.
    pub payload: Payload,
}

impl Case {
    /// A round trip of `size` bytes, all of them written and read.
    #[must_use]
    pub fn round_trip(mode: Mode, size: usize) -> Self {
        Self { shape: Shape::Queue, workload: Workload::RoundTrip, mode, size, payload: Payload::Whole }
    }

    /// A one-way stream of messages of `size` bytes, all of them written and read.
    #[must_use]
    pub fn stream(mode: Mode, size: usize) -> Self {
        Self { shape: Shape::Queue, workload: Workload::Stream, mode, size, payload: Payload::Whole }
    }

    /// A stream of bytes in writes of `size`; from [`COPIES_FROM`] on all of them are summed where they arrive, below it each write is
    /// checked.
    #[must_use]
    pub fn bytes(mode: Mode, size: usize) -> Self {
        let payload = if size >= COPIES_FROM { Payload::Summed } else { Payload::Whole };
        Self { shape: Shape::Stream, workload: Workload::Stream, mode, size, payload }
    }

    /// What a send of `size` bytes costs the sender, by the number of receivers that get it. Nobody waits while it is timed.
    #[must_use]
    pub fn send(size: usize) -> Self {
        let (workload, payload) = (Workload::Send, Payload::Whole);
        Self { shape: Shape::Broadcast, workload, mode: Mode::Block, size, payload }
    }

    /// What a look at the newest value of `size` bytes costs. Nobody waits.
    #[must_use]
    pub fn look(size: usize) -> Self {
        Self { shape: Shape::Latest, workload: Workload::Look, mode: Mode::Spin, size, payload: Payload::Whole }
    }

    /// The same in another shape.
    #[must_use]
    pub fn of(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Whether the payload is copied between private memory and the channel.
    pub(crate) fn copies(&self) -> bool {
        self.payload == Payload::Whole && self.size >= COPIES_FROM
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.shape != Shape::Queue {
            write!(f, "{}: ", self.shape.name())?;
        }
        let size = Bytes(self.size);
        match self.workload {
            Workload::RoundTrip => write!(f, "round trip, {size}")?,
            Workload::Stream => write!(f, "one-way stream, {size}")?,
            Workload::Send => return write!(f, "a send, {size}"),
            Workload::Look => return write!(f, "a look at the newest value, {size}, while another process writes"),
        }
        f.write_str(match self.mode {
            Mode::Spin => ", spinning",
            Mode::Block => ", blocking",
        })?;
        match self.payload {
            Payload::Ends => f.write_str(", payload untouched"),
            Payload::Summed => f.write_str(", every byte summed"),
            Payload::Whole if self.copies() => f.write_str(", copied in and out"),
            Payload::Whole => Ok(()),
        }
    }
}

/// A number of bytes as people write it: `64 B`, `4 KiB`, `1 MiB`.
pub(crate) struct Bytes(pub(crate) usize);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} B"),
        }
    }
}

/// How many messages one run of a contender moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Exactly this many after the warm-up.
    Messages(u64),
    /// As many as take about this long, found by a short trial of each contender.
    Time(Duration),
}

/// The messages of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Sent first, verified, not measured.
    pub warm_up: u64,
    /// Measured.
    pub messages: u64,
}

impl Count {
    /// `messages` and a tenth of them as a warm-up, 16 at the least and 50,000 at the most.
    #[must_use]
    pub fn of(messages: u64) -> Self {
        Self { warm_up: (messages / 10).clamp(16, 50_000), messages }
    }
}
