//! Queues, bounded or not: senders, who also feed broadcasts and newest values; and receivers that share the messages.

use std::thread::sleep;
use std::time::Duration;

use ginnel::{Message, Receiver, Sender};

use super::ledger::{Kind, Sent};
use super::payload::{self, Heading};
use super::schedule::{BATCH, Sabotage, Shape};
use super::worker::{Failed, Worker};

/// Messages until a handle is closed and another opened, at most.
const HANDLE: u64 = 100_000;

/// The life of a sender. Its channel has its own number.
pub(crate) fn send(worker: &mut Worker) {
    let address = worker.address();
    while let Some(sender) = worker.open(&[], || Sender::open(&address)) {
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && worker.runs() {
            match send_some(worker, &sender) {
                Ok(sent) => left = left.saturating_sub(sent),
                Err(Failed::Again) => {}
                Err(Failed::Reopen) => break,
            }
            if worker.dice.one_in(20_000) {
                sleep(Duration::from_millis(worker.dice.below(5))); // so that the link is empty, and others sleep
            }
        }
        drop(sender);
        worker.closed();
    }
}

fn send_some(worker: &mut Worker, sender: &Sender) -> Result<u64, Failed> {
    match worker.dice.below(16) {
        0 if worker.scene.batches => send_batch(worker, sender),
        1 if worker.scene.shape != Shape::Latest => send_loan(worker, sender),
        // Faults are of messages one by one.
        _ => send_one(worker, sender),
    }
}

fn send_one(worker: &mut Worker, sender: &Sender) -> Result<u64, Failed> {
    let (channel, len, limit) = (worker.index, worker.length(), worker.ledger.limit());
    if worker.sabotages(Sabotage::Swap) {
        return send_swapped(worker, sender);
    }
    let seq = worker.begin(channel, 1);
    worker.write(channel, seq, 0, len);
    if worker.sabotages(Sabotage::Tear) {
        worker.buffer[len - 1] ^= 1;
    }
    let repeats = worker.sabotages(Sabotage::Repeat);
    for _ in 0..1 + u64::from(repeats) {
        if let Err(e) = sender.send_timeout(&worker.buffer[..len], limit) {
            worker.sent(channel, 0);
            return Err(worker.not_sent(e.reason(), &e));
        }
    }
    worker.sent(channel, 1);
    Ok(1)
}

/// Sabotage: the second of two before the first.
fn send_swapped(worker: &mut Worker, sender: &Sender) -> Result<u64, Failed> {
    let channel = worker.index;
    let first = worker.begin(channel, 2);
    for seq in [first + 1, first] {
        worker.write(channel, seq, 0, payload::HEADING);
        sender.send(&worker.buffer[..payload::HEADING]).map_err(|e| worker.not_sent(e.reason(), &e))?;
    }
    worker.sent(channel, 2);
    Ok(2)
}

fn send_loan(worker: &mut Worker, sender: &Sender) -> Result<u64, Failed> {
    let (channel, len, limit) = (worker.index, worker.length(), worker.ledger.limit());
    let seq = worker.begin(channel, 1);
    let heading = Heading { channel, part: 0, life: worker.life as u32, seq };
    let mut loan = match sender.loan_timeout(len, limit) {
        Ok(loan) => loan,
        Err(e) => {
            worker.sent(channel, 0);
            return Err(worker.not_sent(e.reason(), &e));
        }
    };
    worker.write_to(heading, &mut loan);
    if worker.dice.one_in(8) {
        drop(loan); // never mind
        worker.sent(channel, 0);
        return Ok(0);
    }
    if let Err(e) = loan.commit_timeout(limit) {
        worker.sent(channel, 0);
        return Err(worker.not_sent(e.error.reason(), &e.error));
    }
    worker.sent(channel, 1);
    Ok(1)
}

fn send_batch(worker: &mut Worker, sender: &Sender) -> Result<u64, Failed> {
    let (channel, limit) = (worker.index, worker.ledger.limit());
    let count = 2 + worker.dice.below(BATCH - 1);
    let first = worker.begin(channel, count);
    let mut messages = Vec::with_capacity(count as usize);
    for seq in first..first + count {
        let len = worker.length();
        let mut message = vec![0; len];
        worker.write_to(Heading { channel, part: 0, life: worker.life as u32, seq }, &mut message);
        messages.push(message);
    }
    match sender.send_all_timeout(&messages, limit) {
        Ok(sent) => {
            worker.sent(channel, sent);
            if sent < count {
                worker.unexpected(&format!("{sent} of {count} messages were sent, without an error"));
            }
            Ok(sent)
        }
        Err(e) => {
            worker.sent(channel, e.sent);
            Err(worker.not_sent(e.error.reason(), &e.error))
        }
    }
}

/// The life of a receiver of a queue.
pub(crate) fn receive(worker: &mut Worker) {
    let address = worker.address();
    while let Some(receiver) = worker.open(&[], || Receiver::open(&address)) {
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && !worker.is_over() {
            match receive_some(worker, &receiver) {
                Ok(received) => left = left.saturating_sub(received),
                Err(Failed::Again) => {}
                Err(Failed::Reopen) => break,
            }
            if worker.dice.one_in(20_000) && worker.runs() {
                sleep(Duration::from_millis(worker.dice.below(5))); // so that the link is full
            }
        }
        drop(receiver);
        worker.closed();
    }
}

fn receive_some(worker: &mut Worker, receiver: &Receiver) -> Result<u64, Failed> {
    if worker.sabotages(Sabotage::Sleep) {
        sleep(Duration::from_secs(3600));
    }
    if worker.scene.batches && worker.dice.one_in(4) {
        return receive_batch(worker, receiver);
    }
    let message = receiver.recv_timeout(worker.patience()).map_err(|e| worker.not_received(&e))?;
    if worker.sabotages(Sabotage::Lose) {
        return Ok(1);
    }
    let heading = worker.received(&message, message.redelivered());
    if worker.sabotages(Sabotage::Hold) {
        std::mem::forget(message);
        return Ok(1);
    }
    linger(worker, &message);
    drop(message);
    if let Some(heading) = heading {
        worker.released(heading);
    }
    Ok(1)
}

/// Some messages stay in hand for a while, and must be whole still.
fn linger(worker: &mut Worker, message: &Message<'_>) {
    if worker.dice.one_in(2000) {
        sleep(Duration::from_micros(worker.dice.below(500)));
        if payload::read(message).is_none() {
            worker.note(Kind::Torn, 0, message.position(), message.len() as u64, 1);
        }
    }
}

fn receive_batch(worker: &mut Worker, receiver: &Receiver) -> Result<u64, Failed> {
    let most = 1 + worker.dice.below(BATCH) as usize;
    let batch = receiver.recv_many_timeout(most, worker.patience()).map_err(|e| worker.not_received(&e))?;
    let mut headings = [None; BATCH as usize];
    for (message, heading) in batch.iter().zip(&mut headings) {
        *heading = worker.received(&message, message.redelivered());
    }
    let count = batch.len() as u64;
    drop(batch);
    headings.into_iter().flatten().for_each(|heading| worker.released(heading));
    Ok(count)
}

/// How many messages a channel had begun, and was told that they were sent: to compare what comes with.
pub(crate) fn sent_so_far(worker: &Worker, word: Sent) -> Vec<u64> {
    let channels = 0..worker.scene.channels();
    channels.map(|channel| worker.ledger.channel(channel, word).load(std::sync::atomic::Ordering::Acquire)).collect()
}
