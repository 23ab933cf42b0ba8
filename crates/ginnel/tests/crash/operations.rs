//! Every operation of a link that is in good order: who prepares it, who survives its death, what is due.
//!
//! Most come in several companies, because the engine takes another way for each: the first handle of its kind takes
//! its side of the link for itself, later it keeps it, a second one revokes that, and then the side is shared.

use std::path::Path;

use ginnel::{Link, Mode, Receiver, Sender};

use super::broadcast;
use super::judge::*;
use super::latest;
use super::letters;
use super::recovery;
use super::sleepers;
use super::stepper::Outcome;
use super::streams;
use super::sweep::Scenario;
use super::unbounded;

const DROPPING: &str = "shm:crash?capacity=8&max=8KiB&participants=8&full=drop-oldest";
pub(super) const CAPACITY: u64 = 8;
/// Messages of the victim that are sent at once.
const IN_RUN: [u64; 4] = [IN_FLIGHT, IN_FLIGHT + 1, IN_FLIGHT + 2, IN_FLIGHT + 3];

/// Every scenario. The links lie in `directory`, which `GINNEL_DIR` names, and which is emptied before each trial.
pub(crate) fn all(directory: &Path) -> Vec<Scenario> {
    use_directory(directory);
    let mut all = vec![create()];
    all.extend([open("open, sender", false), open("open, receiver", true)]);
    for (size, len) in [("inline", INLINE), ("block", BLOCK)] {
        for (company, with) in Company::ALL {
            all.push(send(&format!("send {size}, {with}"), len, company, send_message));
            all.push(receive(&format!("recv {size}, {with}"), len, company));
        }
        all.push(release(&format!("release {size}"), len));
    }
    all.push(send("loan and commit, alone", BLOCK, Company::Itself, loan_message));
    all.push(send("loan and commit, shared", BLOCK, Company::Both, loan_message));
    all.extend([send_all("send_all, alone", false), send_all("send_all, shared", true)]);
    all.extend([receive_many(), release_many()]);
    all.push(send_dropping());
    all.extend([close_sender(), close_last_sender(), close_receiver(), close_all()]);
    all.extend([unlink("unlink", false), unlink("unlink, in use", true)]);
    all.extend(sleepers::all());
    all.extend(recovery::all());
    all.extend(latest::all());
    all.extend(letters::all());
    all.extend(streams::all());
    all.extend(broadcast::all());
    all.extend(unbounded::all());
    all
}

/// Who has used the victim's side of the link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    /// Nobody: the victim takes the side for itself.
    Nobody,
    /// The victim, once before.
    Itself,
    /// The victim, once before; a survivor has a handle of the same kind and has not used it.
    Bystander,
    /// A survivor: the victim revokes its hold on the side.
    Rival,
    /// A survivor and the victim: the side is shared.
    Both,
}

impl Company {
    const ALL: [(Self, &str); 5] = [
        (Self::Nobody, "first of all"),
        (Self::Itself, "alone"),
        (Self::Bystander, "bystander"),
        (Self::Rival, "second"),
        (Self::Both, "shared"),
    ];

    /// The victim has done the same before.
    fn is_warm(self) -> bool {
        matches!(self, Self::Itself | Self::Bystander | Self::Both)
    }

    /// A survivor has a handle of the same kind.
    fn has_survivor(self) -> bool {
        matches!(self, Self::Bystander | Self::Rival | Self::Both)
    }

    /// It has used it.
    fn is_used(self) -> bool {
        matches!(self, Self::Rival | Self::Both)
    }
}

// ---- the scenarios

fn create() -> Scenario {
    let operation = |()| Link::new(ADDRESS).map_err(text)?.mode(Mode::Create).sender().map_err(text);
    let check = |(), outcome: &Outcome| judge(Ends::default(), &Due::default(), outcome);
    Scenario::new("create", fresh, |()| Ok(()), operation, check)
}

fn open(name: &str, as_receiver: bool) -> Scenario {
    let setup = || {
        fresh()?;
        let (sender, receiver) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        (0..3).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        Ok(Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() })
    };
    let operation = move |()| {
        let receiver = as_receiver.then(|| receiver(ADDRESS)).transpose()?;
        let sender = (!as_receiver).then(|| sender(ADDRESS)).transpose()?;
        Ok((sender, receiver))
    };
    let check = |ends, outcome: &Outcome| judge(ends, &Due { committed: vec![0, 1, 2], ..Due::default() }, outcome);
    Scenario::new(name, setup, |_: &Ends| Ok(()), operation, check)
}

/// A survivor receives. The victim sends one message, by `how`.
fn send(name: &str, len: usize, company: Company, how: fn(&Sender, &[u8]) -> Result<(), String>) -> Scenario {
    let setup = move || {
        fresh()?;
        let receiver = Some(receiver(ADDRESS)?);
        let survivor = company.has_survivor().then(|| sender(ADDRESS)).transpose()?;
        for (number, survivor) in (0..2).zip(survivor.iter().cycle()).filter(|_| company.is_used()) {
            how(survivor, &message(number, len))?;
        }
        Ok(Ends { sender: survivor, receiver, ..Ends::default() })
    };
    let prepare = move |_: &Ends| {
        let sender = sender(ADDRESS)?;
        if company.is_warm() {
            how(&sender, &message(WARM, len))?;
        }
        Ok((sender, message(IN_FLIGHT, len)))
    };
    let operation = move |(sender, bytes): (Sender, Vec<u8>)| how(&sender, &bytes).map(|()| (sender, bytes));
    let check = move |ends: Ends, outcome: &Outcome| {
        let mut committed = if company.is_used() { vec![0, 1] } else { Vec::new() };
        committed.extend(company.is_warm().then_some(WARM));
        let due = Due { committed, in_flight: vec![IN_FLIGHT], closed: !company.has_survivor(), ..Due::default() };
        judge(ends, &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// A survivor has sent five messages. The victim receives the next one and keeps it.
fn receive(name: &str, len: usize, company: Company) -> Scenario {
    let setup = move || {
        fresh()?;
        let sender = sender(ADDRESS)?;
        (0..5).try_for_each(|number| send_message(&sender, &message(number, len)))?;
        let survivor = company.has_survivor().then(|| receiver(ADDRESS)).transpose()?;
        if let Some(survivor) = survivor.as_ref().filter(|_| company.is_used()) {
            take(survivor, SOON)?;
        }
        Ok(Ends { sender: Some(sender), receiver: survivor, ..Ends::default() })
    };
    let prepare = move |_: &Ends| {
        let receiver = receiver(ADDRESS)?;
        if company.is_warm() {
            take(&receiver, SOON)?;
        }
        Ok(receiver)
    };
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the message that it returns refers to it
        receiver.try_recv().map_err(text)
    };
    let check = move |ends: Ends, outcome: &Outcome| {
        let next = u64::from(company.is_used()) + u64::from(company.is_warm());
        let due = Due { committed: (next + 1..5).collect(), held: vec![next], ..Due::default() };
        judge(ends, &due, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim holds the first of three messages and releases it.
fn release(name: &str, len: usize) -> Scenario {
    let setup = move || {
        fresh()?;
        let sender = sender(ADDRESS)?;
        (0..3).try_for_each(|number| send_message(&sender, &message(number, len)))?;
        Ok(Ends { sender: Some(sender), ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let receiver = Box::leak(Box::new(receiver(ADDRESS)?));
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
    Scenario::new(name, setup, prepare, operation, check)
}

/// A survivor receives. The victim sends four messages at once.
fn send_all(name: &str, shared: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let receiver = Some(receiver(ADDRESS)?);
        let survivor = shared.then(|| sender(ADDRESS)).transpose()?;
        if let Some(survivor) = &survivor {
            send_message(survivor, &message(0, INLINE))?;
        }
        Ok(Ends { sender: survivor, receiver, ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let sender = sender(ADDRESS)?;
        send_message(&sender, &message(WARM, INLINE))?;
        Ok((sender, IN_RUN.map(|number| message(number, INLINE))))
    };
    let operation = |(sender, messages): (Sender, [Vec<u8>; 4])| {
        sender.try_send_all(&messages).map_err(text)?;
        Ok((sender, messages))
    };
    let check = move |ends: Ends, outcome: &Outcome| {
        let committed = if shared { vec![0, WARM] } else { vec![WARM] };
        judge(ends, &Due { committed, in_flight: IN_RUN.to_vec(), closed: !shared, ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// A survivor has sent five messages. The victim has received one, receives three at once, and keeps them.
fn receive_many() -> Scenario {
    let operation = |receiver: Receiver| {
        let receiver = Box::leak(Box::new(receiver)); // the batch refers to it
        receiver.try_recv_many(3).map_err(text)
    };
    let check = |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![4], held: vec![1, 2, 3], ..Due::default() }, outcome)
    };
    Scenario::new("recv_many, alone", five_sent, warm_receiver, operation, check)
}

/// The victim holds three messages that it received at once, and releases them.
fn release_many() -> Scenario {
    let prepare = |ends: &Ends| {
        let receiver = Box::leak(Box::new(warm_receiver(ends)?));
        receiver.try_recv_many(3).map_err(text)
    };
    let operation = |batch| {
        drop(batch);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| {
        let mut due = Due { committed: vec![4], ..Due::default() };
        if !matches!(outcome, Outcome::Finished { .. }) {
            due.may_be_gone.extend([1, 2, 3]);
        }
        judge(ends, &due, outcome)
    };
    Scenario::new("release of recv_many", five_sent, prepare, operation, check)
}

fn five_sent() -> Result<Ends, String> {
    fresh()?;
    let sender = sender(ADDRESS)?;
    (0..5).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
    Ok(Ends { sender: Some(sender), ..Ends::default() })
}

/// A receiver that has received one.
fn warm_receiver(_: &Ends) -> Result<Receiver, String> {
    let receiver = receiver(ADDRESS)?;
    take(&receiver, SOON)?;
    Ok(receiver)
}

/// A full link with both ends in the director's hands.
pub(super) fn full(address: &'static str) -> Result<Ends, String> {
    fresh()?;
    let (receiver, sender) = (receiver(address)?, sender(address)?);
    (0..CAPACITY).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
    Ok(Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() })
}

/// The victim drops the oldest message to make room for its own: it is gone and counted, or it is there.
fn send_dropping() -> Scenario {
    let prepare = |_: &Ends| Ok((sender(DROPPING)?, message(IN_FLIGHT, INLINE)));
    let operation = |(sender, bytes): (Sender, Vec<u8>)| send_message(&sender, &bytes).map(|()| (sender, bytes));
    let check = |ends: Ends, outcome: &Outcome| {
        let (committed, in_flight) = ((2..CAPACITY).collect(), vec![IN_FLIGHT]);
        // One for the victim's message, one for the probe.
        let due = Due { committed, in_flight, may_be_gone: vec![0, 1], counted: true, ..Due::default() };
        judge(ends, &due, outcome)
    };
    Scenario::new("send, drop-oldest", || full(DROPPING), prepare, operation, check)
}

/// The victim has sent and leaves; a survivor's sender stays.
fn close_sender() -> Scenario {
    closing("close sender", true)
}

/// The same, and it was the last sender.
fn close_last_sender() -> Scenario {
    closing("close last sender", false)
}

fn closing(name: &str, rival: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let (receiver, sender) = (Some(receiver(ADDRESS)?), rival.then(|| sender(ADDRESS)).transpose()?);
        Ok(Ends { sender, receiver, ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let sender = sender(ADDRESS)?;
        send_message(&sender, &message(WARM, BLOCK))?;
        Ok(sender)
    };
    let operation = |sender| {
        drop(sender);
        Ok(())
    };
    let check = move |ends: Ends, outcome: &Outcome| {
        judge(ends, &Due { committed: vec![WARM], closed: !rival, ..Due::default() }, outcome)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim has received and leaves, messages being there.
fn close_receiver() -> Scenario {
    let setup = || {
        fresh()?;
        let sender = sender(ADDRESS)?;
        (0..3).try_for_each(|number| send_message(&sender, &message(number, BLOCK)))?;
        Ok(Ends { sender: Some(sender), ..Ends::default() })
    };
    let prepare = |_: &Ends| {
        let receiver = receiver(ADDRESS)?;
        take(&receiver, SOON)?;
        Ok(receiver)
    };
    let operation = |receiver| {
        drop(receiver);
        Ok(())
    };
    let check = |ends: Ends, outcome: &Outcome| judge(ends, &Due { committed: vec![1, 2], ..Due::default() }, outcome);
    Scenario::new("close receiver", setup, prepare, operation, check)
}

/// The victim is the last to leave an empty link: it removes it.
fn close_all() -> Scenario {
    let prepare = |(): &()| Ok((sender(ADDRESS)?, receiver(ADDRESS)?));
    let operation = |ends| {
        drop(ends);
        Ok(())
    };
    let check = |(), outcome: &Outcome| match left_in_directory()? {
        left if matches!(outcome, Outcome::Finished { .. }) && !left.is_empty() => {
            Err(format!("all have left, and this is still there: {left:?}"))
        }
        _ => judge(Ends::default(), &Due::default(), outcome),
    };
    Scenario::new("close last of all", fresh, prepare, operation, check)
}

/// The victim removes a link that holds messages. It is there as it was, or it is not there.
fn unlink(name: &str, in_use: bool) -> Scenario {
    let setup = move || {
        fresh()?;
        let (sender, receiver) = (sender(ADDRESS)?, receiver(ADDRESS)?);
        (0..3).try_for_each(|number| send_message(&sender, &message(number, INLINE)))?;
        let ends = Ends { sender: Some(sender), receiver: Some(receiver), ..Ends::default() };
        Ok(if in_use { ends } else { Ends::default() })
    };
    let operation = |()| Link::new(ADDRESS).map_err(text)?.unlink(true).map_err(text);
    let check = |mut ends: Ends, outcome: &Outcome| {
        let all = [0, 1, 2];
        if let (Some(sender), Some(receiver)) = (ends.sender.take(), ends.receiver.take()) {
            // Those who were there go on with each other, whether it still has its name or not.
            let due = Due { committed: all.to_vec(), ..Due::default() };
            agree(&due, outcome, &drain(&sender, &receiver)?)?;
        } else if let Ok(receiver) = Receiver::join(ADDRESS) {
            let due = Due { committed: all.to_vec(), closed: true, ..Due::default() };
            return judge(Ends { receiver: Some(receiver), ..ends }, &due, outcome);
        }
        if matches!(outcome, Outcome::Finished { .. }) && !left_in_directory()?.is_empty() {
            return Err("the unlinked file is still there".into());
        }
        judge(ends, &Due::default(), outcome)
    };
    Scenario::new(name, setup, |_: &Ends| Ok(()), operation, check)
}
