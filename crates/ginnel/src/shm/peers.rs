//! Whether the other end of a link is still there. A count of the participants' table is kept as long as the membership's
//! version stands still, so the question costs one load.

use ginnel_core::{Census, Engine, Role};
use std::cell::Cell;

/// What a handle knows of the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// The role of the peers.
    role: Role,
    /// When this handle opened.
    first: Census,
    now: Cell<Census>,
    /// Whether a message came from a peer, so that one must have been there.
    heard: Cell<bool>,
}

impl Peers {
    pub(crate) fn new(engine: &Engine, role: Role) -> Self {
        let first = engine.census();
        Self { role, first, now: Cell::new(first), heard: Cell::new(false) }
    }

    /// On a link with one peer, for all of its time: also one that left before this handle opened counts.
    pub(crate) fn of_all_time(role: Role) -> Self {
        let nobody = Census { version: u64::MAX, ..Census::default() };
        Self { role, first: nobody, now: Cell::new(nobody), heard: Cell::new(false) }
    }

    pub(crate) fn heard_of_one(&self) {
        self.heard.set(true);
    }

    /// Whether a peer is there now: one that lives, or died so lately that nobody knows yet.
    pub(crate) fn are_there(&self, engine: &Engine) -> bool {
        self.count(engine).0 > 0
    }

    /// Whether a peer was there since this handle opened, or is there now.
    pub(crate) fn have_come(&self, engine: &Engine) -> bool {
        let (there, ever, _) = self.count(engine);
        there > 0 || ever
    }

    /// If there was a peer since this handle opened and none is there now: how many of them died. With no peer yet, none is
    /// gone: this handle waits for the first, as one waits for the other end of a FIFO.
    #[inline]
    pub(crate) fn are_gone(&self, engine: &Engine) -> Option<u64> {
        let (there, ever, died) = self.count(engine);
        (there == 0 && ever).then_some(died)
    }

    /// How many are there, whether any ever was, how many died.
    fn count(&self, engine: &Engine) -> (u32, bool, u64) {
        if self.now.get().version != engine.membership_version() {
            self.now.set(engine.census());
        }
        let now = self.now.get();
        let (there, was_there, joined, died) = match self.role {
            Role::Sender => (
                now.senders,
                self.first.senders,
                now.senders_joined.wrapping_sub(self.first.senders_joined),
                now.senders_died.wrapping_sub(self.first.senders_died),
            ),
            Role::Receiver => (
                now.receivers,
                self.first.receivers,
                now.receivers_joined.wrapping_sub(self.first.receivers_joined),
                now.receivers_died.wrapping_sub(self.first.receivers_died),
            ),
        };
        let ever = was_there > 0 || joined > 0 || died > 0 || self.heard.get();
        (there, ever, died)
    }
}
