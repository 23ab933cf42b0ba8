//! The judge: what the survivors of a death, and those who come after it, must find.
//!
//! It uses the public interface alone, and asks after each kill, in this order:
//!
//! 1. Is `Closed` told, when the victim was the last sender?
//! 2. Did each message arrive that was due, whole, once, in order; the one in flight whole or not at all; and is a message
//!    marked as redelivered only if the victim may have held it?
//! 3. Can those who were there, and those who come now, send and receive within a second?
//! 4. Does the table of participants hold those who live, and nobody else, and is every block free?
//! 5. When all have left: is `Closed` told, and is the file gone?
//!
//! Numbers in messages tell who sent them, and rise in the order in which they were sent:
//!
//! | numbers | who |
//! |---|---|
//! | 0.. | a survivor, before |
//! | 10 | the victim, in its preparation |
//! | 20.. | the victim, in the operation: in flight |
//! | 30.. | survivors and newcomers, after |

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ginnel::{Info, Link, Message, Receiver, RecvFailure, Sender};

use super::fork::Child;
use super::stepper::{Outcome, Trial};

pub(super) const ADDRESS: &str = "shm:crash?capacity=8&max=8KiB&participants=8";
/// The same link, whatever its capacity.
pub(super) const ANY: &str = "shm:crash?max=8KiB&participants=8";
/// Fits the slot.
pub(super) const INLINE: usize = 64;
/// Needs a block.
pub(super) const BLOCK: usize = 4096;
/// How soon a link must work again.
pub(super) const SOON: Duration = Duration::from_secs(1);
pub(super) const WARM: u64 = 10;
pub(super) const IN_FLIGHT: u64 = 20;
const PROBE: u64 = 30;

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// The handles that the director holds while the victim dies, and the dead that are not reaped yet.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) sender: Option<Sender>,
    pub(super) receiver: Option<Receiver>,
    pub(super) _zombies: (Option<Child>, Option<Trial>),
}

/// What the survivors may and must find.
#[derive(Default)]
pub(super) struct Due {
    /// Once each, in order, not marked.
    pub(super) committed: Vec<u64>,
    /// The victim had these in hand: once, marked if it had got that far.
    pub(super) held: Vec<u64>,
    /// As `held`, but they may be gone.
    pub(super) may_be_gone: Vec<u64>,
    /// In the order of sending: each whole or not at all, and none without those before it. If the operation had finished, they
    /// are committed.
    pub(super) in_flight: Vec<u64>,
    /// The last sender died, so the receiver is told.
    pub(super) closed: bool,
    /// What is missing must have been counted.
    pub(super) counted: bool,
}

/// One message as a receiver saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) number: u64,
    pub(super) redelivered: bool,
}

/// Names the directory that `GINNEL_DIR` names, where the links lie.
pub(super) fn use_directory(directory: &Path) {
    let _ = DIRECTORY.set(directory.to_owned());
}

pub(super) fn text(error: impl Display) -> String {
    error.to_string()
}

fn directory() -> &'static Path {
    DIRECTORY.get().map_or(Path::new("/nonexistent"), PathBuf::as_path)
}

pub(super) fn left_in_directory() -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory()).map_err(text)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(text)).collect()
}

/// An empty directory: a trial must not see what an earlier one left.
pub(super) fn fresh() -> Result<(), String> {
    left_in_directory()?.into_iter().try_for_each(|path| fs::remove_file(path).map_err(text))
}

/// A message that tells its number, and whether it is whole.
pub(super) fn message(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((bytes.len()..len).map(|index| pattern(number, index)));
    bytes
}

fn pattern(number: u64, index: usize) -> u8 {
    (number as usize).wrapping_mul(37).wrapping_add(index.wrapping_mul(11)).to_le_bytes()[0]
}

pub(super) fn number_of(bytes: &[u8]) -> Result<u64, String> {
    let (number, rest) = bytes.split_first_chunk().ok_or("a message of a few bytes, which nobody sent")?;
    let number = u64::from_le_bytes(*number);
    let whole = (8..).zip(rest).all(|(index, byte)| *byte == pattern(number, index));
    match bytes.len() {
        INLINE | BLOCK if whole => Ok(number),
        len => Err(format!("a torn message: it begins with {number} and has {len} bytes")),
    }
}

pub(super) fn sender(address: &str) -> Result<Sender, String> {
    Sender::open(address).map_err(text)
}

pub(super) fn receiver(address: &str) -> Result<Receiver, String> {
    Receiver::open(address).map_err(text)
}

pub(super) fn send_message(sender: &Sender, message: &[u8]) -> Result<(), String> {
    sender.try_send(message).map_err(text)
}

pub(super) fn loan_message(sender: &Sender, message: &[u8]) -> Result<(), String> {
    let mut loan = sender.try_loan(message.len()).map_err(text)?;
    loan.copy_from_slice(message);
    loan.commit().map_err(text)
}

/// Receives one message and releases it; `None` when the last sender has left.
pub(super) fn take(receiver: &Receiver, limit: Duration) -> Result<Option<Arrival>, String> {
    match receiver.recv_timeout(limit) {
        Ok(message) => arrival(&message).map(Some),
        Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => Ok(None),
        Err(error) => Err(text(error)),
    }
}

/// Receives what is there; `None` when nothing is.
pub(super) fn take_now(receiver: &Receiver) -> Result<Option<Arrival>, String> {
    match receiver.try_recv() {
        Ok(message) => arrival(&message).map(Some),
        Err(e) if e == RecvFailure::Empty => Ok(None),
        Err(error) => Err(text(error)),
    }
}

fn arrival(message: &Message<'_>) -> Result<Arrival, String> {
    Ok(Arrival { number: number_of(message)?, redelivered: message.redelivered() })
}

// ---- the judge

/// Holds the survivors, and newcomers, to every promise.
pub(super) fn judge(mut ends: Ends, due: &Due, outcome: &Outcome) -> Result<(), String> {
    let mut arrived = Vec::new();
    if due.closed {
        let receiver = ends.receiver.as_ref().ok_or("the scenario has no receiver")?;
        let told = told_closed(receiver).map_err(|error| format!("Closed was not told: {error}"))?;
        arrived.extend(told);
    }
    let started = Instant::now();
    let sender = ends.sender.take().map_or_else(|| sender(ANY), Ok)?;
    let receiver = ends.receiver.take().map_or_else(|| receiver(ANY), Ok)?;
    arrived.extend(drain(&sender, &receiver)?);
    await_held(&receiver, due, &mut arrived)?;
    let new_sender = self::sender(ANY).map_err(|error| format!("a newcomer: {error}"))?;
    let new_receiver = self::receiver(ANY).map_err(|error| format!("a newcomer: {error}"))?;
    // Whoever opens recovers the dead first, so what goes back is back by now.
    while let Some(arrival) = take_now(&receiver)? {
        arrived.push(arrival);
    }
    agree(due, outcome, &arrived)?;
    let missing =
        (due.may_be_gone.iter()).filter(|gone| arrived.iter().all(|arrival| arrival.number != **gone)).count();
    if due.counted && receiver.dropped() != missing as u64 {
        return Err(format!("{missing} messages are missing, {} are counted", receiver.dropped()));
    }
    exchange(PROBE + 1, &sender, &new_receiver)?;
    exchange(PROBE + 2, &new_sender, &receiver)?;
    if started.elapsed() > SOON {
        return Err(format!("the link worked again only after {:?}", started.elapsed()));
    }
    inspect(4)?;
    drop((new_sender, new_receiver));
    farewell(sender, receiver)
}

/// Receives to the end of the stream.
fn told_closed(receiver: &Receiver) -> Result<Vec<Arrival>, String> {
    let mut arrived = Vec::new();
    while let Some(arrival) = take(receiver, SOON)? {
        arrived.push(arrival);
    }
    Ok(arrived)
}

/// Sends a probe and receives until it comes: everything sent before it has then come, or never will.
pub(super) fn drain(sender: &Sender, receiver: &Receiver) -> Result<Vec<Arrival>, String> {
    let mut arrived = Vec::new();
    let probe = message(PROBE, INLINE);
    // A full link is emptied first. One that is not, and does not take the probe, waits for the recovery of the dead.
    while let Err(error) = sender.try_send(&probe) {
        match take_now(receiver)? {
            Some(arrival) => arrived.push(arrival),
            None => match sender.send_timeout(&probe, SOON) {
                Ok(()) => break,
                Err(_) => return Err(format!("a survivor cannot send for {SOON:?}: {}", text(error))),
            },
        }
    }
    loop {
        match take(receiver, SOON).map_err(|error| format!("a survivor waits for its own message: {error}"))? {
            Some(Arrival { number: PROBE, .. }) => return Ok(arrived),
            Some(arrival) => arrived.push(arrival),
            None => return Err("Closed was told while a sender was open".into()),
        }
    }
}

/// A survivor that waits is woken by the death, and gets what the dead one held.
fn await_held(receiver: &Receiver, due: &Due, arrived: &mut Vec<Arrival>) -> Result<(), String> {
    while let Some(lost) = due.held.iter().find(|held| arrived.iter().all(|arrival| arrival.number != **held)) {
        match take(receiver, SOON).map_err(|error| format!("message {lost} was not delivered again: {error}"))? {
            Some(arrival) => arrived.push(arrival),
            None => return Err("Closed was told while a sender was open".into()),
        }
    }
    Ok(())
}

/// Compares what came with what was due.
pub(super) fn agree(due: &Due, outcome: &Outcome, arrived: &[Arrival]) -> Result<(), String> {
    let shown = || format!("; {arrived:?} arrived");
    let finished = matches!(outcome, Outcome::Finished { .. });
    let (mut once, mut perhaps) = (due.committed.clone(), due.may_be_gone.clone());
    once.extend(&due.held);
    (if finished { &mut once } else { &mut perhaps }).extend(&due.in_flight);
    let count = |number: u64| arrived.iter().filter(|arrival| arrival.number == number).count();
    if let Some(lost) = once.iter().find(|number| count(**number) == 0) {
        return Err(format!("message {lost} was lost{}", shown()));
    }
    if let Some(twice) = arrived.iter().find(|arrival| count(arrival.number) > 1) {
        return Err(format!("message {} arrived twice{}", twice.number, shown()));
    }
    if let Some(stray) = arrived.iter().find(|a| !once.contains(&a.number) && !perhaps.contains(&a.number)) {
        return Err(format!("message {} was not sent{}", stray.number, shown()));
    }
    let came = due.in_flight.iter().take_while(|number| count(**number) == 1).count();
    if let Some(early) = due.in_flight[came..].iter().find(|number| count(**number) > 0) {
        return Err(format!("message {early} came without one that was sent before it{}", shown()));
    }
    let in_hand = |number: u64| due.held.contains(&number) || due.may_be_gone.contains(&number);
    if let Some(marked) = arrived.iter().find(|arrival| arrival.redelivered && !in_hand(arrival.number)) {
        return Err(format!("message {} is marked as redelivered and was in nobody's hand{}", marked.number, shown()));
    }
    let unmarked: Vec<u64> = arrived.iter().filter(|a| !a.redelivered).map(|arrival| arrival.number).collect();
    if !unmarked.is_sorted() {
        return Err(format!("out of order{}", shown()));
    }
    Ok(())
}

/// One message, alone, from one to the other.
fn exchange(number: u64, from: &Sender, to: &Receiver) -> Result<(), String> {
    send_message(from, &message(number, BLOCK)).map_err(|error| format!("sending {number}: {error}"))?;
    let arrival = take(to, SOON).map_err(|error| format!("receiving {number}: {error}"))?;
    if arrival != Some(Arrival { number, redelivered: false }) {
        return Err(format!("{arrival:?} came instead of {number}"));
    }
    Ok(())
}

/// What everybody can see of a link whose messages are all received: those who live, and no block in use. Another opener
/// may be needed for that, when one died while it recovered somebody.
pub(super) fn inspect(living: usize) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let info = info()?;
        if info.participants.len() == living && info.pool.used == 0 {
            return Ok(());
        }
        if started.elapsed() > SOON {
            let entries = info.participants.len();
            return Err(format!(
                "{living} live, the table holds {entries}; {} bytes of blocks are in use",
                info.pool.used
            ));
        }
        drop(receiver(ANY)?);
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn info() -> Result<Info, String> {
    Link::new(ANY).map_err(text)?.info().map_err(text)
}

/// The last sender leaves: Closed. The last receiver leaves: no file.
fn farewell(sender: Sender, receiver: Receiver) -> Result<(), String> {
    drop(sender);
    let told = told_closed(&receiver).map_err(|error| format!("the last sender has left: {error}"))?;
    if !told.is_empty() {
        return Err(format!("{told:?} came after everything had"));
    }
    drop(receiver);
    match left_in_directory()? {
        left if left.is_empty() => Ok(()),
        left => Err(format!("all have left, and this is still there: {left:?}")),
    }
}
