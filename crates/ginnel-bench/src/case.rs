//! What is measured: the workload, the way of waiting, the size, and how many messages.
//!
//! Not how it is measured (see `round_trip` and `stream`), nor between whom (see `contest`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the two processes do with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// One message there, one back, one after the other; the time of every pair is recorded.
    RoundTrip,
    /// Messages one way as fast as they go, counted where they arrive.
    Stream,
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
}

/// Messages of this size and above are copied from and to private memory; smaller ones are written and read word by
/// word where they lie.
pub const COPIES_FROM: usize = 4096;

/// One measurement: what every contender of a group does alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
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
        Self { workload: Workload::RoundTrip, mode, size, payload: Payload::Whole }
    }

    /// A one-way stream of messages of `size` bytes, all of them written and read.
    #[must_use]
    pub fn stream(mode: Mode, size: usize) -> Self {
        Self { workload: Workload::Stream, mode, size, payload: Payload::Whole }
    }

    /// Whether the payload is copied between private memory and the channel.
    pub(crate) fn copies(&self) -> bool {
        self.payload == Payload::Whole && self.size >= COPIES_FROM
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.workload {
            Workload::RoundTrip => "round trip",
            Workload::Stream => "one-way stream",
        };
        let how = match self.mode {
            Mode::Spin => "spinning",
            Mode::Block => "blocking",
        };
        write!(f, "{what}, {}, {how}", Bytes(self.size))?;
        match self.payload {
            Payload::Ends => f.write_str(", payload untouched"),
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
