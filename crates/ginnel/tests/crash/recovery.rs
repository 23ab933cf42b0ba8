//! Recovery is an operation too: somebody died before, and the victim dies of picking up the pieces.
//!
//! A first process is killed with something in its hands, or in the middle of a send; the victim recovers that and is
//! killed at every instruction of it; a third party judges. The watcher of a survivor would be first to recover, so the
//! survivors of these scenarios do not sleep before the kill.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ginnel::{Receiver, Sender};

use super::fork::{self, Child};
use super::judge::*;
use super::stepper::{self, Order, Outcome, Trial, Until};
use super::sweep::Scenario;
use super::trace::Trace;

/// An outcome that promises nothing.
const UNKNOWN: Outcome = Outcome::Killed { at: 0 };
/// How long a search for a kill point may take.
const SEARCH_LIMIT: Duration = Duration::from_secs(120);

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![holder("recover, by opening", reopen), holder("recover, by cleaning", clean), clean_stale()];
    for (index, fifths) in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (1, 3), (1, 4)] {
        all.push(half_sent(&HALVES[index], fifths));
    }
    all.push(receive_over_claim("recv over a dead claim, alone", &HALVES[0], false));
    all.push(receive_over_claim("recv over a dead claim, shared", &HALVES[0], true));
    all
}

// ---- a process that died with its hands full

/// It held an inline message, a block and a loan.
fn holder(name: &str, recovery: fn(()) -> Result<Option<Receiver>, String>) -> Scenario {
    let setup = || {
        fresh()?;
        let sender = sender(ADDRESS)?;
        for (number, len) in (0..4).zip([INLINE, BLOCK, INLINE, BLOCK]) {
            send_message(&sender, &message(number, len))?;
        }
        let dead = dies_after(hold)?;
        Ok(Ends { sender: Some(sender), _zombies: (Some(dead), None), ..Ends::default() })
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![2, 3], held: vec![0, 1], ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, |_: &Ends| Ok(()), recovery, check)
}

/// A process that does something, and is killed before it lets anything go.
fn dies_after(deed: fn() -> Result<(), String>) -> Result<Child, String> {
    let child = Child::spawn(|| {
        if fork::caught(deed).is_ok() {
            fork::kill_this_process();
        }
    })?;
    match child.wait(Instant::now() + SOON)?.as_str() {
        "died of signal 9" => Ok(child),
        how => Err(format!("the first victim {how}")),
    }
}

/// Takes two messages and a loan, and keeps them.
fn hold() -> Result<(), String> {
    let receiver = Box::leak(Box::new(receiver(ADDRESS)?));
    let messages = receiver.recv_many(2).map_err(text)?;
    if messages.len() != 2 {
        return Err(format!("{} messages came", messages.len()));
    }
    let sender = Box::leak(Box::new(sender(ADDRESS)?));
    std::mem::forget((messages, sender.try_loan(BLOCK).map_err(text)?));
    Ok(())
}

/// An opener looks for the dead before it takes its place.
fn reopen((): ()) -> Result<Option<Receiver>, String> {
    receiver(ADDRESS).map(Some)
}

fn clean((): ()) -> Result<Option<Receiver>, String> {
    ginnel::clean(false).map_err(text).map(|_| None)
}

/// Everybody died, and nothing is left in the link. The victim cleans up.
fn clean_stale() -> Scenario {
    let setup = || {
        fresh()?;
        dies_after(|| {
            std::mem::forget((sender(ADDRESS)?, receiver(ADDRESS)?));
            Ok(())
        })
    };
    let check = |_dead: Child, outcome: &Outcome| match left_in_directory()? {
        left if matches!(outcome, Outcome::Finished { .. }) && !left.is_empty() => {
            Err(format!("still there: {left:?}"))
        }
        _ => judge(Ends::default(), &Due::default(), outcome),
    };
    Scenario::new("clean up after all", setup, |_: &Child| Ok(()), clean, check)
}

// ---- a process that died in the middle of a send

/// A send, by a second sender, that a first process dies of: its path, and where on it a claim is left behind.
struct Half {
    size: &'static str,
    len: usize,
    trace: OnceLock<Result<Trace, String>>,
    claim: OnceLock<Result<u64, String>>,
}

static HALVES: [Half; 2] = [Half::new("inline", INLINE), Half::new("block", BLOCK)];

impl Half {
    const fn new(size: &'static str, len: usize) -> Self {
        Self { size, len, trace: OnceLock::new(), claim: OnceLock::new() }
    }

    /// The path of the whole send, recorded once.
    fn trace(&'static self) -> Result<&'static Trace, String> {
        let record = || {
            let bytes = fork::ask(SEARCH_LIMIT, || {
                let (_ends, trial) = self.send(Until::End)?;
                trial.trace.map(|trace| trace.to_bytes()).ok_or_else(|| format!("{:?}", trial.outcome))
            })?;
            Trace::from_bytes(&bytes).ok_or_else(|| "no trace".into())
        };
        self.trace.get_or_init(record).as_ref().map_err(Clone::clone)
    }

    /// The first kill point, of every third, that leaves a claimed slot without a message.
    fn claim(&'static self) -> Result<u64, String> {
        let find = || {
            let points = self.trace()?.points();
            for point in points.into_iter().step_by(3) {
                let answer = fork::ask(SEARCH_LIMIT, || {
                    let ends = self.killed_at(point)?;
                    Ok(vec![u8::from(skips(&ends)?)])
                })?;
                if answer == [1] {
                    return Ok(point);
                }
            }
            Err("no kill point of a send leaves a claim behind".into())
        };
        self.claim.get_or_init(find).clone()
    }

    /// A link with a survivor at each end, and a first victim that is killed in its second send.
    fn send(&self, until: Until<'_>) -> Result<(Ends, Trial), String> {
        fresh()?;
        let (sender, receiver) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        send_message(&sender, &message(0, self.len))?;
        let prepare = || {
            let sender = self::sender(ADDRESS)?;
            send_message(&sender, &message(WARM, self.len))?;
            Ok((sender, message(IN_FLIGHT, self.len)))
        };
        let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
        let trial = stepper::trial(prepare, operation, Order { until, patience: SOON, wake: None });
        Ok((Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() }, trial))
    }

    fn killed_at(&'static self, point: u64) -> Result<Ends, String> {
        let trace = self.trace()?;
        let (mut ends, mut dead) = self.send(Until::at(trace, point))?;
        if dead.outcome == Outcome::Strayed {
            drop((ends, dead));
            (ends, dead) = self.send(Until::Steps(point))?;
        }
        match &dead.outcome {
            Outcome::Killed { .. } => Ok(Ends { _zombies: (None, Some(dead)), ..ends }),
            other => Err(format!("the first victim: {other:?}")),
        }
    }
}

/// Whether a receiver passes over a dead claim.
fn skips(_still_open: &Ends) -> Result<bool, String> {
    let newcomer = receiver(ADDRESS)?; // recovers
    while take_now(&newcomer)?.is_some() {}
    Ok(info()?.participants.iter().any(|participant| participant.counters.skipped > 0))
}

/// A first process died at some fifths of the kill points of a send. The victim recovers it.
fn half_sent(half: &'static Half, fifths: usize) -> Scenario {
    let setup = move || {
        let points = half.trace()?.points();
        half.killed_at(points[points.len() * fifths / 5])
    };
    let check = |ends: Ends, _: &Outcome| {
        // That the recovery has finished makes the send in flight neither due nor excluded.
        judge(ends, &Due { committed: vec![0, WARM], in_flight: vec![IN_FLIGHT], ..Due::default() }, &UNKNOWN)
    };
    let name = format!("recover, {} sent {fifths}/5", half.size);
    Scenario::new(name, setup, |_: &Ends| Ok(()), reopen, check).after(|| half.trace().map(drop))
}

/// A first process left a claim behind, which was recovered. The victim receives what was sent after it.
fn receive_over_claim(name: &str, half: &'static Half, shared: bool) -> Scenario {
    let setup = move || {
        let mut ends = half.killed_at(half.claim()?)?;
        let receiver = ends.receiver.as_ref().ok_or("no receiver")?;
        drop(self::receiver(ADDRESS)?); // recovers
        for number in [0, WARM] {
            match take_now(receiver)? {
                Some(arrival) if arrival.number == number => {}
                other => return Err(format!("{other:?} came instead of {number}")),
            }
        }
        let sender = ends.sender.as_ref().ok_or("no sender")?;
        (1..3).try_for_each(|number| send_message(sender, &message(number, INLINE)))?;
        ends.receiver = ends.receiver.take().filter(|_| shared);
        Ok(ends)
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver));
        receiver.try_recv().map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![2], held: vec![1], ..Due::default() }, outcome)
    };
    let scenario = Scenario::new(name, setup, |_: &Ends| receiver(ADDRESS), operation, check);
    scenario.after(|| half.claim().map(drop))
}
