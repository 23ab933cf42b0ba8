//! Mailboxes that write to each other. Their senders' names are true, each letter arrives once, those of one sender in order.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ginnel::mail::{Letter, MailError, MailFailure, Mailbox};

use super::ledger::{Count, Kind};
use super::schedule::Sabotage;
use super::worker::{Failed, Worker};

/// Letters until a mailbox is closed and opened again, at most.
const HANDLE: u64 = 20_000;

fn name(index: usize) -> String {
    format!("box{index}")
}

/// The life of a mailbox.
pub(crate) fn write(worker: &mut Worker) {
    let address = format!("{}?{}", name(worker.index), worker.scene.options);
    while let Some(mailbox) = worker.open(&[], || Mailbox::open(&address)) {
        let mut left = worker.until_reopening(HANDLE);
        let mut idle_since = Instant::now();
        while left > 0 && !worker.is_over() {
            let did = [send(worker, &mailbox), receive(worker, &mailbox)];
            if did.contains(&Ok(true)) {
                (left, idle_since) = (left - 1, Instant::now());
            } else if did.contains(&Err(Failed::Reopen)) {
                break;
            } else if worker.runs() && idle_since.elapsed() > worker.ledger.limit() {
                worker.note(Kind::Stuck, 0, 4, 0, 0);
                idle_since = Instant::now();
            }
        }
        drop(mailbox);
        worker.closed();
    }
}

/// A letter to one of the others, as there is room.
fn send(worker: &mut Worker, mailbox: &Mailbox) -> Result<bool, Failed> {
    if !worker.runs() {
        return Ok(false);
    }
    let boxes = worker.scene.receivers();
    let to = (worker.index + 1 + worker.dice.index(boxes - 1)) % boxes;
    let (channel, len) = (worker.index * boxes + to, worker.length());
    let seq = worker.begin(channel, 1);
    worker.write(channel, seq, 0, len);
    if worker.sabotages(Sabotage::Tear) {
        worker.buffer[len - 1] ^= 1;
    }
    // The first who needs the link makes it, whoever that is.
    let address = format!("{}?{}", name(to), worker.scene.options);
    let letter = &worker.buffer[..len];
    let sent = if worker.dice.one_in(4) {
        mailbox.send_to_timeout(&address, letter, Duration::from_millis(2))
    } else {
        mailbox.try_send_to(&address, letter)
    };
    match sent {
        Ok(()) => {
            worker.sent(channel, 1);
            Ok(true)
        }
        Err(e) => {
            worker.sent(channel, 0);
            not_sent(worker, &e)
        }
    }
}

fn not_sent(worker: &mut Worker, error: &MailError) -> Result<bool, Failed> {
    match error.reason() {
        MailFailure::TimedOut => Ok(false),
        MailFailure::NotSent(failure) => Err(worker.not_sent(failure, error)),
        MailFailure::Setup(e) if e.kind() == ginnel::ErrorKind::NoDescriptors && worker.famine.is_on() => {
            worker.ledger.add(worker.seat, Count::Famines, 1);
            worker.famine.failed();
            Ok(false)
        }
        _ => {
            worker.unexpected(error);
            Err(Failed::Reopen)
        }
    }
}

fn receive(worker: &mut Worker, mailbox: &Mailbox) -> Result<bool, Failed> {
    if worker.sabotages(Sabotage::Sleep) {
        sleep(Duration::from_secs(3600));
    }
    let moment = Duration::from_millis(1 + worker.dice.below(10));
    let got = match worker.dice.below(64) {
        0 => {
            let from = name((worker.index + 1) % worker.scene.receivers());
            mailbox.recv_from_timeout(&from, moment)
        }
        1..=8 => mailbox.recv_timeout(moment),
        _ => mailbox.try_recv(),
    };
    let letter = match got {
        Ok(letter) => letter,
        Err(e) => return not_received(worker, &e),
    };
    if worker.sabotages(Sabotage::Lose) {
        return Ok(true);
    }
    if let Some(heading) = took(worker, &letter) {
        drop(letter);
        worker.released(heading);
    }
    Ok(true)
}

fn took(worker: &mut Worker, letter: &Letter<'_>) -> Option<super::payload::Heading> {
    let heading = worker.received(letter, letter.redelivered())?;
    let boxes = worker.scene.receivers();
    let (from, to) = (heading.channel / boxes, heading.channel % boxes);
    if letter.sender() != name(from) || to != worker.index {
        worker.unexpected(&format!("a letter from {} to box{to} says that it is from {}", name(from), letter.sender()));
    }
    Some(heading)
}

fn not_received(worker: &mut Worker, error: &MailError) -> Result<bool, Failed> {
    worker.beat();
    match error.reason() {
        MailFailure::Empty | MailFailure::TimedOut | MailFailure::SetAside { .. } => Ok(false),
        _ => {
            worker.unexpected(error);
            Err(Failed::Reopen)
        }
    }
}
