//! The calls of a client that have not ended, and what a look for one of them may do about the responses to the others that are before its own in the link.
//!
//! Those are set aside, as nobody gets by them otherwise. But a look takes little at a time, and nothing while others receive what is aside for them: what stays in
//! the link holds its server back, and what is aside does not. Whether they do is seen from the order of looks; no clock is asked.

use super::heading::ResponseHeading;
use ginnel_os::ofd_lock::Token;
use std::collections::VecDeque;

/// A call that has not ended.
pub(super) struct Entry {
    pub(super) call: u64,
    pub(super) aside: VecDeque<(ResponseHeading, Vec<u8>)>,
    /// Which look was the last one for it; 0 if there was none.
    pub(super) looked: u64,
    /// That one found no room aside, nobody who would make some, and nothing to tell yet.
    stuck: bool,
    /// Its [`Call`](super::Call) was dropped.
    pub(super) abandoned: bool,
    /// While it is there, whoever serves the call finds it cancelled.
    pub(super) _cancelled: Option<Token>,
}

impl Entry {
    pub(super) fn of(call: u64) -> Self {
        Self { call, aside: VecDeque::new(), looked: 0, stuck: false, abandoned: false, _cancelled: None }
    }
}

/// What a look for a call may do.
pub(super) enum Turn {
    /// Nothing: this was aside for it.
    Own(ResponseHeading, Vec<u8>),
    /// Take from the link, and set so many aside.
    Take(usize),
    /// Nothing: others receive what is aside for them.
    Others,
    /// Nothing: there is no room aside, and nobody was seen to make some since the last look; `again`: which found the same.
    Stuck { again: bool },
}

impl Turn {
    /// That of the look `now` for one of the calls. So many responses are aside for all of them, of at most so many.
    pub(super) fn of(calls: &mut [Entry], call: u64, now: u64, (aside, limit): (usize, usize)) -> Self {
        let Some(at) = calls.iter().position(|entry| entry.call == call) else { return Self::Take(1) };
        let entry = &mut calls[at];
        let since = std::mem::replace(&mut entry.looked, now);
        let was_stuck = std::mem::take(&mut entry.stuck);
        if aside == 0 {
            return Self::Take(1);
        }
        if let Some((heading, bytes)) = entry.aside.pop_front() {
            return Self::Own(heading, bytes);
        }
        if calls.iter().any(|entry| entry.looked > since && !entry.aside.is_empty()) {
            return Self::Others;
        }
        if aside < limit {
            return Self::Take(aside); // twice as many each time: nobody seems to receive them
        }
        calls[at].stuck = !was_stuck; // who is told begins anew: the others may have a turn by then
        Self::Stuck { again: was_stuck }
    }
}
