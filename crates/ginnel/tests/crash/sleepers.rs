//! Operations with somebody asleep: the victim, until it is killed asleep, or a survivor in a process of its own, who must
//! be woken, or told, by whatever the victim got done.
//!
//! The wake-up is a message of its own and can be lost on its own: after the commit and before the wake, or by a victim that
//! is woken in place of another and dies before it has done anything with that.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use ginnel::{Receiver, RecvFailure, SendFailure, Sender};
use ginnel_os::poll;
use std::os::fd::AsFd;

use super::fork::Asked;
use super::judge::*;
use super::operations::{CAPACITY, full};
use super::stepper::Outcome;
use super::sweep::Scenario;

/// A victim that sleeps longer than this is killed asleep.
const DOZE: Duration = Duration::from_millis(20);

/// Longer than any survivor has to wait.
const FOR_EVER: Duration = Duration::from_secs(5);

/// Who opens it so sleeps without spinning first: fewer steps.
const SLEEPY: &str = "shm:crash?capacity=8&max=8KiB&participants=8&wait=block";

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    vec![
        send_asleep(),
        receive_asleep(),
        send_to_sleeper("send inline, to a sleeper", INLINE),
        send_to_sleeper("send block, to a sleeper", BLOCK),
        close_sender_on_sleeper(),
        release_to_sleeper("release inline, to a sleeper", INLINE),
        release_to_sleeper("release block, to a sleeper", BLOCK),
        close_receiver_on_sleeper(),
        receive_woken(),
        send_woken(),
        listen(),
        send_to_listener("send inline, to one who listens", INLINE),
        send_to_listener("send block, to one who listens", BLOCK),
        close_sender_on_listener(),
        release_to_listener(),
    ]
}

// ---- the victim sleeps

/// The victim waits for room, and is killed asleep at last.
fn send_asleep() -> Scenario {
    let operation = |(sender, bytes): (Sender, Vec<u8>)| {
        sender.send(&bytes).map_err(text)?;
        Ok((sender, bytes))
    };
    let prepare = |_: &Ends| Ok((sender(ADDRESS)?, message(IN_FLIGHT, INLINE)));
    let check = |ends: Ends, outcome: &Outcome| {
        let due = Due { committed: (0..CAPACITY).collect(), in_flight: vec![IN_FLIGHT], ..Due::default() };
        judge(ends, &due, outcome)
    };
    let scenario = Scenario::new("send, asleep", || full(ADDRESS), prepare, operation, check);
    scenario.sleeping().patience(DOZE)
}

/// The victim waits for a message, and is killed asleep at last.
fn receive_asleep() -> Scenario {
    let setup = || {
        fresh()?;
        Ok(Ends { sender: Some(sender(ADDRESS)?), ..Ends::default() })
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver));
        receiver.recv().map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| judge(ends, &Due::default(), outcome);
    let scenario = Scenario::new("recv, asleep", setup, |_: &Ends| receiver(ADDRESS), operation, check);
    scenario.sleeping().patience(DOZE)
}

// ---- a survivor sleeps

/// A survivor that does something in a process of its own, and has gone to sleep over it.
fn sleeper(deed: fn() -> Result<Vec<u8>, String>) -> Result<Asked, String> {
    // Before the first opener there is no link to look at.
    let slept = || info().map_or(0, |info| info.participants.iter().map(|one| one.counters.slept).sum::<u64>());
    let before = slept();
    let asked = Asked::begin(deed)?;
    let limit = Instant::now() + SOON;
    while slept() == before {
        if Instant::now() > limit {
            return Err(format!("the survivor does not go to sleep: {:?}", asked.answer(Duration::ZERO)));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(asked)
}

/// What the sleeper answers when it was woken in time.
fn woken(sleeper: &Asked) -> Result<Vec<u8>, String> {
    sleeper.answer(SOON).map_err(|error| format!("the sleeping survivor: {error}"))
}

/// Receives until the end of the stream; answers the numbers that came.
fn receive_all() -> Result<Vec<u8>, String> {
    let receiver = receiver(ADDRESS)?;
    let mut numbers = Vec::new();
    while let Some(arrival) = take(&receiver, FOR_EVER)? {
        numbers.push(arrival.number.to_le_bytes()[0]);
    }
    Ok(numbers)
}

/// Fills the link with messages of this length and sends one more; answers 1 if that was sent, and 0 if it was told Closed.
fn overfill(len: usize) -> Result<Vec<u8>, String> {
    let sender = sender(ADDRESS)?;
    (0..CAPACITY).try_for_each(|number| send_message(&sender, &message(number, len)))?;
    match sender.send_timeout(&message(CAPACITY, len), FOR_EVER) {
        Ok(()) => Ok(vec![1]),
        Err(error) if matches!(error.reason(), SendFailure::Closed { .. }) => Ok(vec![0]),
        Err(error) => Err(text(error)),
    }
}

fn overfill_with(len: usize) -> fn() -> Result<Vec<u8>, String> {
    if len == INLINE { || overfill(INLINE) } else { || overfill(BLOCK) }
}

/// A receiver sleeps. The victim sends to it: it gets the message, or is told that the sender has died.
fn send_to_sleeper(name: &str, len: usize) -> Scenario {
    let setup = || {
        fresh()?;
        sleeper(receive_all)
    };
    let prepare = move |_: &Asked| Ok((sender(ADDRESS)?, message(IN_FLIGHT, len)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |sleeper: Asked, outcome: &Outcome| {
        match (woken(&sleeper)?.as_slice(), outcome) {
            ([20], _) | ([], Outcome::Killed { .. }) => {}
            (numbers, _) => return Err(format!("the sleeper received {numbers:?}")),
        }
        judge(Ends::default(), &Due::default(), outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// A receiver sleeps. The victim is the only sender and leaves: the sleeper is told.
fn close_sender_on_sleeper() -> Scenario {
    let setup = || {
        fresh()?;
        sleeper(receive_all)
    };
    let operation = |sender| {
        drop(sender);
        Ok(())
    };
    let check = |sleeper: Asked, outcome: &Outcome| match woken(&sleeper)?.as_slice() {
        [] => judge(Ends::default(), &Due::default(), outcome),
        numbers => Err(format!("the sleeper received {numbers:?}")),
    };
    Scenario::new("close sender, on a sleeper", setup, |_: &Asked| sender(ADDRESS), operation, check)
}

/// A sender sleeps over a full link. The victim holds a message and releases it: the sleeper sends, or is told that the
/// receiver has died, and then the message is back.
fn release_to_sleeper(name: &str, len: usize) -> Scenario {
    let setup = move || {
        fresh()?;
        sleeper(overfill_with(len))
    };
    let prepare = |_: &Asked| {
        let receiver = Box::leak(Box::new(receiver(ADDRESS)?));
        receiver.try_recv().map_err(text)
    };
    let operation = |message| {
        drop(message);
        Ok(())
    };
    let check = |sleeper: Asked, outcome: &Outcome| {
        let mut due = Due { committed: (1..CAPACITY).collect(), ..Due::default() };
        match (woken(&sleeper)?.as_slice(), outcome) {
            ([1], _) => due.committed.push(CAPACITY),
            ([0], Outcome::Killed { .. }) => due.held.push(0),
            (answer, _) => return Err(format!("the sleeper answered {answer:?}")),
        }
        judge(Ends::default(), &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// A sender sleeps over a full link. The victim is the only receiver and leaves: the sleeper is told.
fn close_receiver_on_sleeper() -> Scenario {
    let setup = || {
        fresh()?;
        sleeper(overfill_with(INLINE))
    };
    let operation = |receiver| {
        drop(receiver);
        Ok(())
    };
    let check = |sleeper: Asked, outcome: &Outcome| match woken(&sleeper)?.as_slice() {
        [0] => judge(Ends::default(), &Due { committed: (0..CAPACITY).collect(), ..Due::default() }, outcome),
        answer => Err(format!("the sleeper answered {answer:?}")),
    };
    Scenario::new("close receiver, on a sleeper", setup, |_: &Asked| receiver(ADDRESS), operation, check)
}

// ---- a survivor listens, by a descriptor

/// The victim begins to listen, and is killed at that.
fn listen() -> Scenario {
    let setup = || {
        fresh()?;
        Ok(Ends { sender: Some(sender(ADDRESS)?), ..Ends::default() })
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver));
        let ready = receiver.readiness().map_err(text)?;
        match ready.try_recv() {
            Err(e) if e == RecvFailure::Empty => Ok(ready),
            other => Err(format!("{:?} instead of nothing", other.map(drop))),
        }
    };
    let check = |ends: Ends, outcome: &Outcome| judge(ends, &Due::default(), outcome);
    Scenario::new("listen", setup, |_: &Ends| receiver(ADDRESS), operation, check)
}

/// Receives until the end of the stream, as [`receive_all`], in a loop over a descriptor.
fn hear_all() -> Result<Vec<u8>, String> {
    let receiver = receiver(ADDRESS)?;
    let ready = receiver.readiness().map_err(text)?;
    let (mut numbers, limit) = (Vec::new(), Instant::now() + FOR_EVER);
    loop {
        match ready.try_recv() {
            Ok(message) => numbers.push(message[0]),
            Err(e) if e == RecvFailure::Empty => {
                if !poll::readable(&[ready.as_fd()], Some(limit)).map_err(text)? {
                    return Err("one who listens is not called".into());
                }
            }
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return Ok(numbers),
            Err(e) => return Err(text(e)),
        }
    }
}

/// As [`send_to_sleeper`]. Between taking the announcement down and reading the file's byte the victim is killed too: its recoverer calls.
fn send_to_listener(name: &str, len: usize) -> Scenario {
    let setup = || {
        fresh()?;
        sleeper(hear_all)
    };
    let prepare = move |_: &Asked| Ok((sender(ADDRESS)?, message(IN_FLIGHT, len)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |listener: Asked, outcome: &Outcome| {
        match (woken(&listener)?.as_slice(), outcome) {
            ([20], _) | ([], Outcome::Killed { .. }) => {}
            (numbers, _) => return Err(format!("the one who listens received {numbers:?}")),
        }
        judge(Ends::default(), &Due::default(), outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// As [`close_sender_on_sleeper`].
fn close_sender_on_listener() -> Scenario {
    let setup = || {
        fresh()?;
        sleeper(hear_all)
    };
    let operation = |sender| {
        drop(sender);
        Ok(())
    };
    let check = |listener: Asked, outcome: &Outcome| match woken(&listener)?.as_slice() {
        [] => judge(Ends::default(), &Due::default(), outcome),
        numbers => Err(format!("the one who listens received {numbers:?}")),
    };
    Scenario::new("close sender, on one who listens", setup, |_: &Asked| sender(ADDRESS), operation, check)
}

/// As [`overfill`], in a loop over a descriptor.
fn overfill_in_loop() -> Result<Vec<u8>, String> {
    let sender = sender(ADDRESS)?;
    (0..CAPACITY).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
    let ready = sender.readiness().map_err(text)?;
    let limit = Instant::now() + FOR_EVER;
    loop {
        match ready.try_send(&message(CAPACITY, INLINE)) {
            Ok(true) => return Ok(vec![1]),
            Ok(false) => {
                if !poll::readable(&[ready.as_fd()], Some(limit)).map_err(text)? {
                    return Err("one who listens is not called".into());
                }
            }
            Err(error) if matches!(error.reason(), SendFailure::Closed { .. }) => return Ok(vec![0]),
            Err(error) => return Err(text(error)),
        }
    }
}

/// As [`release_to_sleeper`].
fn release_to_listener() -> Scenario {
    let setup = move || {
        fresh()?;
        sleeper(overfill_in_loop)
    };
    let prepare = |_: &Asked| {
        let receiver = Box::leak(Box::new(receiver(ADDRESS)?));
        receiver.try_recv().map_err(text)
    };
    let operation = |message| {
        drop(message);
        Ok(())
    };
    let check = |listener: Asked, outcome: &Outcome| {
        let mut due = Due { committed: (1..CAPACITY).collect(), ..Due::default() };
        match (woken(&listener)?.as_slice(), outcome) {
            ([1], _) => due.committed.push(CAPACITY),
            ([0], Outcome::Killed { .. }) => due.held.push(0),
            (answer, _) => return Err(format!("the one who listens answered {answer:?}")),
        }
        judge(Ends::default(), &due, outcome)
    };
    Scenario::new("release inline, to one who listens", setup, prepare, operation, check)
}

// ---- both sleep, and the victim is woken

/// The director's handles, and the survivor that went to sleep behind the victim, if it came to that.
type Queue = (Ends, RefCell<Option<Asked>>);

/// The victim and then a survivor sleep over an empty link, and one message comes. The survivor gets it in the end:
/// because the victim did not wake in time, or died on the way to it, or with it in its hand.
fn receive_woken() -> Scenario {
    let setup = || {
        fresh()?;
        Ok((Ends { sender: Some(sender(SLEEPY)?), ..Ends::default() }, RefCell::default()))
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver));
        receiver.recv().map_err(text)
    };
    let wake: fn(&Queue) -> Result<(), String> = |(ends, behind)| {
        let receive_one = || match take(&receiver(SLEEPY)?, FOR_EVER)? {
            Some(arrival) => Ok(vec![arrival.number.to_le_bytes()[0]]),
            None => Err("Closed was told while a sender was open".into()),
        };
        behind.replace(Some(sleeper(receive_one)?));
        send_message(ends.sender.as_ref().ok_or("no sender")?, &message(IN_FLIGHT, INLINE))
    };
    let check = |(ends, behind): Queue, outcome: &Outcome| match behind
        .take()
        .map(|behind| woken(&behind))
        .transpose()?
        .as_deref()
    {
        None | Some([20]) => judge(ends, &Due::default(), outcome),
        Some(numbers) => Err(format!("the sleeper received {numbers:?}")),
    };
    let prepare = |_: &Queue| receiver(SLEEPY);
    // Awake, it may find that the survivor was faster, and sleeps again.
    Scenario::woken("recv, woken", setup, prepare, operation, Some(wake), check).patience(DOZE).sleeping()
}

/// The victim and then a survivor sleep over a full link, and one message is received. The survivor sends unless the
/// victim has, and then after the next one.
fn send_woken() -> Scenario {
    const BEHIND: u64 = IN_FLIGHT + 1;
    let setup = || Ok((full(SLEEPY)?, RefCell::default()));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| {
        sender.send(&bytes).map_err(text)?;
        Ok((sender, bytes))
    };
    let wake: fn(&Queue) -> Result<(), String> = |(ends, behind)| {
        let send_one = || {
            let sender = sender(SLEEPY)?;
            sender.send_timeout(&message(BEHIND, INLINE), FOR_EVER).map_err(text)?;
            Ok(Vec::new())
        };
        behind.replace(Some(sleeper(send_one)?));
        take_now(ends.receiver.as_ref().ok_or("no receiver")?).map(drop)
    };
    let check = |(ends, behind): Queue, outcome: &Outcome| {
        let mut due = Due { committed: (0..CAPACITY).collect(), in_flight: vec![IN_FLIGHT], ..Due::default() };
        if let Some(behind) = behind.take() {
            due.committed = (1..CAPACITY).collect();
            if behind.answer(SOON / 5).is_err() {
                if info()?.messages < CAPACITY {
                    return Err("a survivor sleeps over a link that has room".into());
                }
                take_now(ends.receiver.as_ref().ok_or("no receiver")?)?;
                due.committed.remove(0);
                woken(&behind)?;
            }
            due.committed.push(BEHIND);
        }
        judge(ends, &due, outcome)
    };
    let prepare = |_: &Queue| Ok((sender(SLEEPY)?, message(IN_FLIGHT, INLINE)));
    // As in `receive_woken`.
    Scenario::woken("send, woken", setup, prepare, operation, Some(wake), check).patience(DOZE).sleeping()
}
