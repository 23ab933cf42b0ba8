//! A broadcast whose participants are killed at every instruction of what they do: a survivor that hears gets everything that was committed,
//! once, whole, in order; one that was killed holds nobody back; and no block is lost.

use std::time::{Duration, Instant};

use ginnel::{Link, Receiver, Sender};

use super::fork::Asked;
use super::judge::*;
use super::operations::CAPACITY;
use super::stepper::Outcome;
use super::sweep::Scenario;

const LOSSLESS: &str = "shm:crash?shape=broadcast&capacity=8&max=8KiB&participants=8&memory=64KiB";
const LOSSY: &str = "shm:crash?shape=broadcast&capacity=8&max=8KiB&participants=8&memory=64KiB&full=drop-oldest";
/// More slots than blocks.
const FEW_BLOCKS: &str = "shm:crash?shape=broadcast&capacity=64&max=8KiB&participants=8&memory=64KiB";
/// Blocks that hold [`BLOCK`] bytes there.
const BLOCKS: u64 = 16;
/// Longer than anybody has to wait.
const FOR_EVER: Duration = Duration::from_secs(5);
/// What survivors and newcomers send after.
const AFTER: u64 = 40;

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (policy, address) in [("lossless", LOSSLESS), ("lossy", LOSSY)] {
        all.push(join(&format!("broadcast: open, {policy}"), address));
        for (size, len) in [("inline", INLINE), ("block", BLOCK)] {
            for (company, rival) in [("alone", false), ("second", true)] {
                all.push(send(&format!("broadcast: send {size}, {company}, {policy}"), address, len, rival));
            }
            all.push(receive(&format!("broadcast: recv {size}, {policy}"), address, len));
        }
    }
    all.extend([release("broadcast: release inline", INLINE), release("broadcast: release block", BLOCK)]);
    all.extend([make_way(false), make_way(true)]);
    all.push(make_way_lossy());
    all.push(let_go_of_a_block());
    all.extend([close_receiver(), close_last_sender()]);
    all.extend([release_to_sleeper(), close_on_sleeper()]);
    all
}

// ---- the scenarios

/// A survivor has sent three messages. The victim joins as a receiver that wants all of them.
fn join(name: &str, address: &'static str) -> Scenario {
    let setup = move || {
        let ends = ends(address)?;
        send_some(&ends, 0..3, INLINE)?;
        Ok(ends)
    };
    let operation = move |()| late(address);
    let check = move |ends, outcome: &Outcome| {
        judge(ends, address, &Due { committed: vec![0, 1, 2], ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, |_: &Ends| Ok(()), operation, check)
}

/// The victim sends one message, for the first time, alone or where a survivor has sent.
fn send(name: &str, address: &'static str, len: usize, rival: bool) -> Scenario {
    let setup = move || {
        let mut ends = ends(address)?;
        if rival {
            send_some(&ends, 0..2, len)?;
        } else {
            ends.sender = None;
        }
        Ok(ends)
    };
    let prepare = move |_: &Ends| Ok((sender(address)?, message(IN_FLIGHT, len)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = move |ends: Ends, outcome: &Outcome| {
        let committed = if rival { vec![0, 1] } else { Vec::new() };
        let due = Due { committed, in_flight: vec![IN_FLIGHT], closed: !rival, ..Due::default() };
        judge(ends, address, &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim receives the first of as many messages as there are slots, and keeps it; nobody waits for it any more.
fn receive(name: &str, address: &'static str, len: usize) -> Scenario {
    let setup = move || {
        let ends = ends(address)?;
        send_some(&ends, 0..CAPACITY - 1, len)?;
        Ok(ends)
    };
    let prepare = move |_: &Ends| late(address);
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the message that it returns refers to it
        receiver.try_recv().map_err(text)
    };
    let check = move |ends: Ends, outcome: &Outcome| {
        let due = Due { committed: (0..CAPACITY - 1).collect(), ..Due::default() };
        judge(ends, address, &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim holds the first message and releases it.
fn release(name: &str, len: usize) -> Scenario {
    let prepare = |_: &Ends| {
        let receiver = Box::leak(Box::new(late(LOSSLESS)?));
        receiver.try_recv().map_err(text)
    };
    let operation = |message| {
        drop(message);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, LOSSLESS, &Due { committed: vec![0, 1, 2], ..Due::default() }, outcome)
    };
    Scenario::new(name, move || three_sent(len), prepare, operation, check)
}

/// Every slot holds a message with a block, which all have heard. The victim sends one more: it lets go of the oldest.
fn make_way(warm: bool) -> Scenario {
    let setup = || {
        let ends = ends(LOSSLESS)?;
        send_some(&ends, 0..CAPACITY, BLOCK)?;
        hear_all(&ends)?;
        Ok(ends)
    };
    let prepare = move |_: &Ends| {
        let sender = sender(LOSSLESS)?;
        if warm {
            send_message(&sender, &message(WARM, BLOCK))?;
        }
        Ok((sender, message(IN_FLIGHT, BLOCK)))
    };
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = move |ends: Ends, outcome: &Outcome| {
        let committed = if warm { vec![WARM] } else { Vec::new() };
        let due = Due { committed, in_flight: vec![IN_FLIGHT], ..Due::default() };
        judge(ends, LOSSLESS, &due, outcome)
    };
    let name = format!("broadcast: send, makes way, {}", if warm { "shared" } else { "second" });
    Scenario::new(name, setup, prepare, operation, check)
}

/// The same where the survivor has heard nothing, and nobody waits for it. The victim is alone.
fn make_way_lossy() -> Scenario {
    let setup = || {
        let mut ends = ends(LOSSY)?;
        send_some(&ends, 0..CAPACITY, BLOCK)?;
        ends.sender = None;
        Ok(ends)
    };
    let prepare = |_: &Ends| Ok((sender(LOSSY)?, message(IN_FLIGHT, BLOCK)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |ends: Ends, outcome: &Outcome| {
        let due = Due {
            committed: (1..CAPACITY).collect(),
            in_flight: vec![IN_FLIGHT],
            may_be_gone: vec![0],
            closed: true,
            counted: true,
            ..Due::default()
        };
        judge(ends, LOSSY, &due, outcome)
    };
    Scenario::new("broadcast: send, makes way, lossy", setup, prepare, operation, check)
}

/// Every block is in a message that all have heard, and slots are free. The victim needs a block.
fn let_go_of_a_block() -> Scenario {
    let setup = || {
        let ends = ends(FEW_BLOCKS)?;
        send_some(&ends, 0..BLOCKS, BLOCK)?;
        hear_all(&ends)?;
        Ok(ends)
    };
    let prepare = |_: &Ends| Ok((sender(FEW_BLOCKS)?, message(IN_FLIGHT, BLOCK)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| {
        sender.send(&bytes).map_err(text)?;
        Ok((sender, bytes))
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, FEW_BLOCKS, &Due { in_flight: vec![IN_FLIGHT], ..Due::default() }, outcome)
    };
    Scenario::new("broadcast: send, takes an old block", setup, prepare, operation, check)
}

/// The victim has heard one of three and leaves.
fn close_receiver() -> Scenario {
    let prepare = |_: &Ends| {
        let receiver = late(LOSSLESS)?;
        take(&receiver, SOON)?;
        Ok(receiver)
    };
    let operation = |receiver| {
        drop(receiver);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, LOSSLESS, &Due { committed: vec![0, 1, 2], ..Due::default() }, outcome)
    };
    Scenario::new("broadcast: close receiver", || three_sent(BLOCK), prepare, operation, check)
}

/// The victim is the last sender and leaves.
fn close_last_sender() -> Scenario {
    let setup = || {
        let mut ends = ends(LOSSLESS)?;
        ends.sender = None;
        Ok(ends)
    };
    let prepare = |_: &Ends| {
        let sender = sender(LOSSLESS)?;
        send_message(&sender, &message(WARM, BLOCK))?;
        Ok(sender)
    };
    let operation = |sender| {
        drop(sender);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, LOSSLESS, &Due { committed: vec![WARM], closed: true, ..Due::default() }, outcome)
    };
    Scenario::new("broadcast: close last sender", setup, prepare, operation, check)
}

// ---- a sender sleeps, as the victim is the slowest

/// Sends a message when somebody holds the senders back: it waits for that one.
fn send_when_full() -> Result<Vec<u8>, String> {
    let sender = sender(LOSSLESS)?;
    await_that("nobody holds the senders back", || Ok(sender.is_full()))?;
    sender.send_timeout(&message(CAPACITY, INLINE), FOR_EVER).map_err(text)?;
    Ok(Vec::new())
}

fn await_that(what: &str, is_so: impl Fn() -> Result<bool, String>) -> Result<(), String> {
    let limit = Instant::now() + FOR_EVER;
    while !is_so()? {
        if Instant::now() > limit {
            return Err(what.into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The victim wants everything that the survivor has heard, and holds the first of it. `operation` lets go of that.
fn on_sleeper<T: 'static>(
    name: &str,
    prepare: fn(Receiver) -> Result<T, String>,
    operation: fn(T) -> Result<(), String>,
) -> Scenario {
    let setup = || {
        let ends = ends(LOSSLESS)?;
        send_some(&ends, 0..CAPACITY, INLINE)?;
        hear_all(&ends)?;
        Ok((ends, Asked::begin(send_when_full)?))
    };
    let prepare = move |_: &(Ends, Asked)| {
        let prepared = prepare(late(LOSSLESS)?)?;
        let slept = || Ok(info()?.participants.iter().any(|one| one.counters.slept > 0));
        await_that("the sender does not go to sleep", slept)?;
        Ok(prepared)
    };
    let check = |(ends, asleep): (Ends, Asked), outcome: &Outcome| {
        asleep.answer(SOON).map_err(|error| format!("the sender that waited: {error}"))?;
        judge(ends, LOSSLESS, &Due { committed: vec![CAPACITY], ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

fn release_to_sleeper() -> Scenario {
    let operation = |message| {
        drop(message);
        Ok(())
    };
    let prepare = |receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the message refers to it
        Receiver::try_recv(receiver).map_err(text)
    };
    on_sleeper("broadcast: release, to a sleeper", prepare, operation)
}

fn close_on_sleeper() -> Scenario {
    let operation = |receiver| {
        drop(receiver);
        Ok(())
    };
    on_sleeper("broadcast: close receiver, on a sleeper", Ok, operation)
}

// ---- the judge

/// A receiver that has been there from the beginning, and a sender.
fn ends(address: &str) -> Result<Ends, String> {
    fresh()?;
    Ok(Ends { receiver: Some(receiver(address)?), sender: Some(sender(address)?), ..Ends::default() })
}

fn three_sent(len: usize) -> Result<Ends, String> {
    let ends = ends(LOSSLESS)?;
    send_some(&ends, 0..3, len)?;
    Ok(ends)
}

/// A receiver that gets everything that was sent.
fn late(address: &str) -> Result<Receiver, String> {
    Link::new(address).map_err(text)?.history(CAPACITY).receiver().map_err(text)
}

fn send_some(ends: &Ends, numbers: std::ops::Range<u64>, len: usize) -> Result<(), String> {
    let sender = ends.sender.as_ref().ok_or("no sender")?;
    // A block may have to be made way for.
    numbers.into_iter().try_for_each(|number| sender.send_timeout(&message(number, len), SOON).map_err(text))
}

fn hear_all(ends: &Ends) -> Result<(), String> {
    let receiver = ends.receiver.as_ref().ok_or("no receiver")?;
    while take_now(receiver)?.is_some() {}
    Ok(())
}

/// Holds the survivors, and newcomers, to every promise. The survivor has heard nothing of what is due.
fn judge(mut ends: Ends, address: &str, due: &Due, outcome: &Outcome) -> Result<(), String> {
    let receiver = ends.receiver.take().ok_or("the scenario has nobody who hears")?;
    let mut arrived = Vec::new();
    if due.closed {
        while let Some(arrival) = take(&receiver, SOON).map_err(|error| format!("Closed was not told: {error}"))? {
            arrived.push(arrival);
        }
        let missing = due.may_be_gone.iter().filter(|gone| arrived.iter().all(|a| a.number != **gone)).count();
        if due.counted && receiver.dropped() != missing as u64 {
            return Err(format!("{missing} messages are missing, {} are counted", receiver.dropped()));
        }
    }
    let old_sender = ends.sender.take().map_or_else(|| sender(address), Ok)?;
    arrived.extend(drain(&old_sender, &receiver)?);
    agree(due, outcome, &arrived)?;
    let new_sender = sender(address).map_err(|error| format!("a newcomer: {error}"))?;
    let new_receiver = self::receiver(address).map_err(|error| format!("a newcomer: {error}"))?;
    // Around the ring and again, by both senders to both receivers: nobody dead holds them back, and every block is let go of.
    let slots = receiver.capacity();
    for number in AFTER..AFTER + 2 * slots + 1 {
        let from = if number % 2 == 0 { &old_sender } else { &new_sender };
        from.send_timeout(&message(number, INLINE), SOON).map_err(|error| format!("sending {number}: {error}"))?;
        for to in [&receiver, &new_receiver] {
            let came = take(to, SOON).map_err(|error| format!("receiving {number}: {error}"))?;
            if came != Some(Arrival { number, redelivered: false }) {
                return Err(format!("{came:?} came instead of {number}"));
            }
        }
    }
    inspect(4)?;
    if info()?.messages != 0 {
        return Err(format!("all have heard all, and {} messages are there", info()?.messages));
    }
    drop((old_sender, new_sender));
    for to in [&receiver, &new_receiver] {
        if let Some(arrival) = take(to, SOON).map_err(|error| format!("the last sender has left: {error}"))? {
            return Err(format!("{arrival:?} came after everything had"));
        }
    }
    drop((receiver, new_receiver));
    match left_in_directory()? {
        left if left.is_empty() => Ok(()),
        left => Err(format!("all have left, and this is still there: {left:?}")),
    }
}
