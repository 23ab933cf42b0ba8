//! An unbounded link at the border of an extent, where memory is committed or given back: the victim is killed at every instruction of that.
//!
//! Its extents have 32 slots. A send finds no memory at position 31, as the slot behind it must have some too; a receive that comes after the release
//! of position 31 gives the extent back. In the second lap, which begins at position 2048, committed slots are written first.
//!
//! Memory that a victim was about to commit, or to give back, is in nobody's hand. So where that is what it does, the file is measured too.

use ginnel::{Receiver, Sender};

use super::fork::{self, Child};
use super::judge::*;
use super::stepper::Outcome;
use super::sweep::Scenario;
use std::time::Instant;

const ADDRESS: &str = "shm:crash?unbounded&max=8KiB&memory=256KiB&participants=8";
const EXTENT: u64 = 32;
const CAPACITY: u64 = 2048;
/// A link in which more block memory is used than may be spare, and what that is.
const LARGE: &str = "shm:crash?unbounded&max=8KiB&memory=64MiB&participants=8";
const SPARE: u64 = 16 << 20;
/// Number of a message that is received before anybody dies.
const FILLER: u64 = 0;

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (lap, laps) in [("", 0), (", second lap", 1)] {
        for (with, shared) in [("alone", false), ("shared", true)] {
            all.push(send(&format!("unbounded send, grows, {with}{lap}"), laps * CAPACITY + EXTENT - 1, shared));
            all.push(receive(&format!("unbounded recv, gives back, {with}{lap}"), laps * CAPACITY + EXTENT, shared));
        }
    }
    all.extend([send_block(), release(false), release(true), recover(), second_sender(), second_receiver()]);
    all.extend([borrow(), give_back_blocks()]);
    all
}

/// So many messages go through, by handles that stay.
fn pass(sender: &Sender, receiver: &Receiver, count: u64) -> Result<(), String> {
    for _ in 0..count {
        send_message(sender, &message(FILLER, INLINE))?;
        take(receiver, SOON)?;
    }
    Ok(())
}

/// The next message finds no slot: the victim commits an extent.
fn send(name: &str, before: u64, shared: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let receiver = receiver(ADDRESS)?;
        let survivor = shared.then(|| sender(ADDRESS)).transpose()?;
        if let Some(survivor) = &survivor {
            pass(survivor, &receiver, before - 1)?;
        }
        Ok(Ends { sender: survivor, receiver: Some(receiver), ..Ends::default() })
    };
    let prepare = move |_: &Ends| {
        let sender = sender(ADDRESS)?;
        if !shared {
            pass(&sender, &receiver(ADDRESS)?, before - 1)?;
        }
        send_message(&sender, &message(WARM, INLINE))?;
        Ok((sender, message(IN_FLIGHT, INLINE)))
    };
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = move |ends: Ends, outcome: &Outcome| {
        let due = Due { committed: vec![WARM], in_flight: vec![IN_FLIGHT], closed: !shared, ..Due::default() };
        judge(ends, &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim has released the last slot of an extent, receives the next message, gives the extent back, and keeps the message.
fn receive(name: &str, before: u64, shared: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let (sender, first) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        pass(&sender, &first, before - 1)?;
        (0..5).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        let receiver = shared.then_some(first);
        Ok(Ends { sender: Some(sender), receiver, ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let receiver = receiver(ADDRESS)?;
        take(&receiver, SOON)?;
        Ok(receiver)
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the message that it returns refers to it
        receiver.try_recv().map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![2, 3, 4], held: vec![1], ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The survivor is alone on its side, until the victim comes, and dies of taking that from it.
fn second_sender() -> Scenario {
    let setup = || {
        fresh()?;
        let (sender, receiver) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        send_message(&sender, &message(WARM, INLINE))?;
        Ok(Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() })
    };
    let prepare = |_: &Ends| Ok((sender(ADDRESS)?, message(IN_FLIGHT, INLINE)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![WARM], in_flight: vec![IN_FLIGHT], ..Due::default() }, outcome)
    };
    Scenario::new("unbounded send, the second sender's first", setup, prepare, operation, check)
}

/// The same of the other side.
fn second_receiver() -> Scenario {
    let setup = || {
        fresh()?;
        let (sender, receiver) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        pass(&sender, &receiver, 1)?;
        (0..3).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        Ok(Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() })
    };
    let prepare = |_: &Ends| receiver(ADDRESS);
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the message that it returns refers to it
        receiver.try_recv().map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![1, 2], held: vec![0], ..Due::default() }, outcome)
    };
    Scenario::new("unbounded recv, the second receiver's first", setup, prepare, operation, check)
}

/// The first block: its extent and the records are committed.
fn send_block() -> Scenario {
    let setup = || {
        fresh()?;
        Ok(Ends { receiver: Some(receiver(ADDRESS)?), ..Ends::default() })
    };
    let prepare = |_: &Ends| Ok((sender(ADDRESS)?, message(IN_FLIGHT, BLOCK)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { in_flight: vec![IN_FLIGHT], closed: true, ..Due::default() }, outcome)
    };
    Scenario::new("unbounded send block, grows", setup, prepare, operation, check)
}

/// The victim borrows the first block of its size, which nobody else has a use for.
fn borrow() -> Scenario {
    let setup = || {
        fresh()?;
        Ok(Ends { receiver: Some(receiver(ADDRESS)?), ..Ends::default() })
    };
    let operation = |sender: Sender| {
        let sender = Box::leak(Box::new(sender)); // the loan refers to it
        sender.try_loan(2 * BLOCK).map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| {
        let sender = sender(ADDRESS)?; // recovers the victim
        is_given_back(&ends, 64 << 10)?;
        judge(Ends { sender: Some(sender), ..ends }, &Due::default(), outcome)
    };
    Scenario::new("unbounded loan, grows", setup, |_: &Ends| sender(ADDRESS), operation, check)
}

/// The victim alone has received much, finds that there is no more, and gives back the memory of what it has released.
fn give_back_blocks() -> Scenario {
    let setup = || {
        fresh()?;
        Ok(Ends { sender: Some(sender(LARGE)?), ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let (sender, receiver, bytes) = (sender(LARGE)?, receiver(LARGE)?, [0; 8 << 10]);
        (0..2300).try_for_each(|_| send_message(&sender, &bytes))?;
        (0..2300).try_for_each(|_| receiver.try_recv().map(drop).map_err(text))?;
        Ok((sender, receiver)) // a sender that leaves would give back
    };
    let operation = |(sender, receiver): (Sender, Receiver)| match receiver.try_recv().map(drop) {
        Ok(()) => Err("more has come than was sent".to_owned()),
        Err(_) => Ok((sender, receiver)),
    };
    let check = |ends: Ends, outcome: &Outcome| {
        let receiver = receiver("shm:crash")?;
        let ends = Ends { receiver: Some(receiver), ..ends };
        is_given_back(&ends, 3 << 19)?;
        judge(ends, &Due::default(), outcome)
    };
    Scenario::new("unbounded recv, gives back blocks", setup, prepare, operation, check)
}

/// After one look: of blocks there is what may be spare, and besides less than `others`, which is the first extent of the ring, some pages of each table, and not one
/// extent that nobody can use.
fn is_given_back(ends: &Ends, others: u64) -> Result<(), String> {
    let receiver = ends.receiver.as_ref().ok_or("the scenario has no receiver")?;
    take_now(receiver)?;
    let info = info()?;
    if info.pool.committed > SPARE || info.allocated - info.pool.committed >= others {
        return Err(format!("{} bytes are kept, {} of them in blocks", info.allocated, info.pool.committed));
    }
    Ok(())
}

/// The victim releases the last slot of an extent, and leaves.
fn release(shared: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let (sender, first) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        pass(&sender, &first, EXTENT - 1)?;
        (0..3).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        Ok(Ends { sender: Some(sender), receiver: shared.then_some(first), ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let receiver: &'static Receiver = Box::leak(Box::new(receiver(ADDRESS)?));
        receiver.try_recv().map_err(text)
    };
    let operation = |message| {
        drop(message);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| {
        let mut due = Due { committed: vec![1, 2], ..Due::default() };
        if !matches!(outcome, Outcome::Finished { .. }) {
            due.may_be_gone.push(0);
        }
        judge(ends, &due, outcome)
    };
    let with = if shared { "shared" } else { "alone" };
    Scenario::new(format!("unbounded release, ends extent, {with}"), setup, prepare, operation, check)
}

/// One died with messages of two extents in hand. The victim recovers it, and dies of that.
fn recover() -> Scenario {
    let setup = || {
        fresh()?;
        let (sender, first) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        pass(&sender, &first, EXTENT - 2)?;
        drop(first);
        (0..5).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        let dead = Child::spawn(|| {
            if fork::caught(hold).is_ok() {
                fork::kill_this_process();
            }
        })?;
        match dead.wait(Instant::now() + SOON)?.as_str() {
            "died of signal 9" => {}
            how => return Err(format!("the first victim {how}")),
        }
        Ok(Ends { sender: Some(sender), _zombies: (Some(dead), None), ..Ends::default() })
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![3, 4], held: vec![0, 1, 2], ..Due::default() }, outcome)
    };
    Scenario::new("unbounded recover, by opening", setup, |_: &Ends| Ok(()), |()| receiver(ADDRESS), check)
}

fn hold() -> Result<(), String> {
    let receiver = Box::leak(Box::new(receiver(ADDRESS)?));
    for _ in 0..3 {
        std::mem::forget(receiver.try_recv().map_err(text)?);
    }
    Ok(())
}
