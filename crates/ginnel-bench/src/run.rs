//! One run: one mechanism, one case, its processes, one sample.
//!
//! Not a comparison: what a sample is worth shows only beside a baseline of the same minute (see `contest`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::crew::{self, Member, RunError, Stop};
use crate::round_trip::{self, Percentiles};
use crate::stream;
use crate::usage::Usage;
use crate::{Case, Count, Failure, Mechanism, Placement, Workload};

/// Where a run takes place, how long it may take, and what ends it before.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where its processes run.
    pub placement: Placement,
    /// After which they are killed.
    pub limit: Duration,
    /// What kills them before, if anything.
    pub stop: Option<Stop>,
}

impl Terms {
    /// Runs members on these terms.
    pub(crate) fn run(&self, members: Vec<Member<'_, Side>>) -> Result<Vec<Side>, RunError> {
        crew::run_until(members, self.limit, self.stop.as_ref())
    }
}

/// What one process brings back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Side {
    pub(crate) messages: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) usage: Usage,
    pub(crate) times: Option<Percentiles>,
}

/// What one run measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// How many messages arrived and were right; round trips count once, and so does what went to several receivers.
    pub messages: u64,
    /// How long they took, by the clock of the side that counted them (the receiver, the asker); of sends and looks their time alone.
    pub elapsed_s: f64,
    /// The times of round trips, sends or looks; none for a stream.
    pub times: Option<Percentiles>,
    /// The cost of the sender, or asker.
    pub sender: Usage,
    /// How long the sender's part took by its own clock.
    pub sender_s: f64,
    /// The cost of the receiver, or answerer; of several receivers together.
    pub receiver: Usage,
    /// How long the receiver's part took by its own clock.
    pub receiver_s: f64,
}

impl Sample {
    /// Messages, or round trips, a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed_s
    }
}

/// Runs `case` once through `mechanism`, in two processes placed as told.
///
/// # Errors
///
/// [`RunError`], when a side failed, died, or did not finish within `limit`.
pub fn measure<M: Mechanism>(mechanism: &M, case: &Case, count: Count, terms: &Terms) -> Result<Sample, RunError> {
    if case.size == 0 || count.messages == 0 {
        return Err(RunError::Setup(Failure::new("nothing to measure: no bytes or no messages")));
    }
    let [first, second] = terms.placement.choose();
    let members = match case.workload {
        Workload::RoundTrip => vec![
            Member::new("asker", first, |gate| round_trip::ask(mechanism, case, count, gate)),
            Member::new("answerer", second, |gate| round_trip::answer(mechanism, case, count, gate)),
        ],
        Workload::Stream => vec![
            Member::new("sender", first, |gate| stream::send(mechanism, case, count, gate)),
            Member::new("receiver", second, |gate| stream::receive(mechanism, case, count, gate)),
        ],
        Workload::Send | Workload::Look => {
            return Err(RunError::Setup(Failure::new("no mechanism of two directions has this workload")));
        }
    };
    let sides = terms.run(members)?;
    let [sender, receiver] = sides[..] else {
        return Err(RunError::Setup(Failure::new("a side is missing")));
    };
    let counter: Side = match case.workload {
        Workload::Stream => receiver,
        _ => sender,
    };
    Ok(Sample {
        messages: counter.messages,
        elapsed_s: counter.elapsed_s,
        times: counter.times,
        sender: sender.usage,
        sender_s: sender.elapsed_s,
        receiver: receiver.usage,
        receiver_s: receiver.elapsed_s,
    })
}
