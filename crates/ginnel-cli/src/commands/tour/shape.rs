//! The shapes of conversation that a tour shows: what each is called, who takes part, and what it is in one line.

use serde::{Deserialize, Serialize};

/// A shape of conversation in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    /// A queue whose sender never waits
    Unbounded,
    /// Everybody hears everything
    Broadcast,
    /// The newest value only
    Latest,
    /// A question and its answer
    Call,
    /// Letters to a name
    Mailbox,
    /// Bytes without messages
    Stream,
}

impl Shape {
    pub(super) const ALL: [Self; 6] =
        [Self::Unbounded, Self::Broadcast, Self::Latest, Self::Call, Self::Mailbox, Self::Stream];

    /// As `--only` takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unbounded => "unbounded",
            Self::Broadcast => "broadcast",
            Self::Latest => "latest",
            Self::Call => "call",
            Self::Mailbox => "mailbox",
            Self::Stream => "stream",
        }
    }

    /// For who has never heard of it.
    pub(super) fn is(self) -> &'static str {
        match self {
            Self::Unbounded => "a queue whose sender never waits: it grows, and gives its memory back",
            Self::Broadcast => "one speaks, and everybody hears all of it",
            Self::Latest => "only the newest value counts: who writes never waits for who reads",
            Self::Call => "a question goes out, and its answer comes back to who asked",
            Self::Mailbox => "letters to a name, and each says who wrote it",
            Self::Stream => "bytes one after the other, as through a pipe, and both ways",
        }
    }

    /// A process for each; the first begins, when the others are there.
    pub(super) fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Unbounded => &["producer", "consumer"],
            Self::Broadcast => &["sender", "first receiver", "second receiver", "third receiver"],
            Self::Latest => &["writer", "reader"],
            Self::Call => &["client", "first server", "second server"],
            Self::Mailbox => &["alice", "bob", "carol"],
            Self::Stream => &["client", "server"],
        }
    }
}
