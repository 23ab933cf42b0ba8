//! The newest value under every kill: a link with `?shape=latest`, whose victim sends, looks, receives or leaves.
//!
//! What must hold is another thing than for a queue, so the judge is one of its own. The value in flight is the newest, or the one before is; whole in
//! both cases. Nobody is held up: the survivors go around all cells twice at once. The table holds who lives, and no cell is the dead one's.

use std::time::{Duration, Instant};

use ginnel::{Link, Receiver, RecvFailure, Sender};

use super::judge::*;
use super::stepper::Outcome;
use super::sweep::Scenario;

const LATEST: &str = "shm:crash?shape=latest&capacity=4&max=8KiB&participants=8";
/// Values that the survivors send afterwards: twice around.
const AROUND: u64 = 8;
const AFTER: u64 = 40;

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (size, len) in [("inline", INLINE), ("block", BLOCK)] {
        all.push(send(&format!("latest, send {size}, first of all"), len, false, false));
        all.push(send(&format!("latest, send {size}, again"), len, true, false));
        all.push(send(&format!("latest, send {size}, with another"), len, true, true));
        all.push(receive(&format!("latest, look {size}"), len, |receiver| receiver.latest().map(drop).map_err(text)));
        all.push(receive(&format!("latest, recv {size}"), len, |receiver| receiver.try_recv().map(drop).map_err(text)));
    }
    all.extend([close("latest, close sender", true), close("latest, close last sender", false), reopen()]);
    all
}

/// The victim sends, with or without another sender beside it.
fn send(name: &str, len: usize, warm: bool, with_another: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let receiver = Some(receiver(LATEST)?);
        let survivor = with_another.then(|| sender(LATEST)).transpose()?;
        if let Some(survivor) = &survivor {
            send_message(survivor, &message(0, len))?;
        }
        Ok(Ends { sender: survivor, receiver, ..Ends::default() })
    };
    let prepare = move |_: &Ends| {
        let sender = sender(LATEST)?;
        if warm {
            send_message(&sender, &message(WARM, len))?;
        }
        Ok((sender, message(IN_FLIGHT, len)))
    };
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = move |ends: Ends, outcome: &Outcome| {
        let before = if warm { Some(WARM) } else { with_another.then_some(0) };
        judge(ends, before, Some(IN_FLIGHT), outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim looks at the newest value, or receives it.
fn receive(name: &str, len: usize, how: fn(&Receiver) -> Result<(), String>) -> Scenario {
    let setup = move || {
        fresh()?;
        let sender = sender(LATEST)?;
        (0..5).try_for_each(|number| send_message(&sender, &message(number, len)))?;
        Ok(Ends { sender: Some(sender), ..Ends::default() })
    };
    let operation = move |receiver: Receiver| how(&receiver).map(|()| receiver);
    let check = |ends: Ends, outcome: &Outcome| judge(ends, Some(4), None, outcome);
    Scenario::new(name, setup, |_: &Ends| receiver(LATEST), operation, check)
}

fn close(name: &str, with_another: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let (receiver, survivor) = (Some(receiver(LATEST)?), with_another.then(|| sender(LATEST)).transpose()?);
        Ok(Ends { sender: survivor, receiver, ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let sender = sender(LATEST)?;
        send_message(&sender, &message(WARM, BLOCK))?;
        Ok(sender)
    };
    let operation = |sender| {
        drop(sender);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| judge(ends, Some(WARM), None, outcome);
    Scenario::new(name, setup, prepare, operation, check)
}

/// A link that holds a value and has nobody.
fn reopen() -> Scenario {
    let setup = || {
        fresh()?;
        send_message(&sender(LATEST)?, &message(WARM, BLOCK))
    };
    let operation = |()| receiver(LATEST);
    let check = |(), outcome: &Outcome| judge(Ends::default(), Some(WARM), None, outcome);
    Scenario::new("latest, open what has a value", setup, |(): &()| Ok(()), operation, check)
}

// ---- the judge

fn judge(mut ends: Ends, before: Option<u64>, in_flight: Option<u64>, outcome: &Outcome) -> Result<(), String> {
    let receiver = ends.receiver.take().map_or_else(|| receiver(LATEST), Ok)?;
    let started = Instant::now();
    let newest = newest(&receiver)?;
    let finished = matches!(outcome, Outcome::Finished { .. });
    let due = if finished && in_flight.is_some() {
        newest == in_flight
    } else {
        newest == before || newest.is_some() && newest == in_flight
    };
    if !due {
        return Err(format!("the newest value is {newest:?}, was {before:?}, and {in_flight:?} was in flight"));
    }
    if ends.sender.is_none() && newest.is_some() {
        told_closed(&receiver)?;
    }
    let survivor = ends.sender.take().map_or_else(|| sender(LATEST), Ok)?;
    go_around(&survivor, &receiver, AFTER)?;
    let (new_sender, new_receiver) = (sender(LATEST)?, self::receiver(LATEST)?);
    go_around(&new_sender, &receiver, AFTER + AROUND)?;
    go_around(&survivor, &new_receiver, AFTER + 2 * AROUND)?;
    if started.elapsed() > SOON {
        return Err(format!("the link worked again only after {:?}", started.elapsed()));
    }
    inspect(4)?;
    drop((new_sender, new_receiver));
    drop(survivor);
    told_closed(&receiver)?;
    drop(receiver);
    let later = self::receiver(LATEST)?;
    if self::newest(&later)? != Some(AFTER + 3 * AROUND - 1) {
        return Err("the value did not stay when all had left".into());
    }
    drop(later);
    Link::new(LATEST).map_err(text)?.unlink(true).map_err(text)?;
    let left = left_in_directory()?;
    if left.is_empty() { Ok(()) } else { Err(format!("it was removed, and this is still there: {left:?}")) }
}

fn newest(receiver: &Receiver) -> Result<Option<u64>, String> {
    match receiver.latest() {
        Ok(message) => number_of(&message).map(Some),
        Err(e) if e == RecvFailure::Empty => Ok(None),
        Err(e) => Err(text(e)),
    }
}

/// Values one after the other, at once, each seen.
fn go_around(sender: &Sender, receiver: &Receiver, first: u64) -> Result<(), String> {
    for number in first..first + AROUND {
        send_message(sender, &message(number, BLOCK)).map_err(|error| format!("sending {number}: {error}"))?;
        let came = receiver.recv_timeout(SOON).map_err(|error| format!("receiving {number}: {error}"))?;
        if number_of(&came)? != number {
            return Err(format!("{} came instead of {number}", number_of(&came)?));
        }
    }
    Ok(())
}

/// The last sender is gone: a receiver that has seen everything is told.
fn told_closed(receiver: &Receiver) -> Result<(), String> {
    loop {
        match receiver.recv_timeout(SOON) {
            Ok(message) => _ = number_of(&message)?,
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return Ok(()),
            Err(e) => return Err(format!("Closed was not told: {e}")),
        }
    }
}

/// Who lives, and the newest value, are all that is there.
fn inspect(living: usize) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let info = Link::new(LATEST).map_err(text)?.info().map_err(text)?;
        if info.participants.len() == living && info.pool.used <= BLOCK as u64 {
            return Ok(());
        }
        if started.elapsed() > SOON {
            let entries = info.participants.len();
            return Err(format!(
                "{living} live, the table holds {entries}; {} bytes of cells are in use",
                info.pool.used
            ));
        }
        drop(receiver(LATEST)?);
        std::thread::sleep(Duration::from_millis(1));
    }
}
