//! Readers of a newest value: whole, never older than one that they have seen, and never older than one that was sent before they looked.

use std::thread::sleep;
use std::time::Duration;

use ginnel::{Message, Receiver, RecvFailure};

use super::ledger::{Count, Kind, Sent};
use super::queue::sent_so_far;
use super::schedule::Sabotage;
use super::worker::{Failed, Worker};

/// Values until a reader is closed and another opened, at most.
const HANDLE: u64 = 200_000;

/// What a handle saw last.
struct Looking {
    position: Option<u64>,
    /// What came last, and how many it had skipped by then, if `recv` gave it.
    received: Option<(u64, u64)>,
    /// Per channel: one more than the newest that came.
    next: Vec<u64>,
    /// The channel and number of the last one.
    last: (usize, u64),
}

/// The life of a reader.
pub(crate) fn look(worker: &mut Worker) {
    let address = worker.address();
    let next = vec![0; worker.scene.channels()];
    let mut looking = Looking { position: None, received: None, next, last: (0, 0) };
    while let Some(receiver) = worker.open(&[], || Receiver::open(&address)) {
        (looking.position, looking.received) = (None, None);
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && !worker.is_over() {
            left -= 1;
            let got = if worker.dice.one_in(2) {
                receive(worker, &receiver, &mut looking)
            } else {
                newest(worker, &receiver, &mut looking)
            };
            if got == Err(Failed::Reopen) {
                break;
            }
        }
        if worker.is_over() {
            end(worker, &receiver);
        }
        drop(receiver);
        worker.closed();
    }
}

/// Waits for one that this handle has not seen.
fn receive(worker: &mut Worker, receiver: &Receiver, looking: &mut Looking) -> Result<(), Failed> {
    let sent = sent_so_far(worker, Sent::Sent);
    if worker.sabotages(Sabotage::Sleep) {
        sleep(Duration::from_secs(3600));
    }
    let message = receiver.recv_timeout(worker.patience()).map_err(|e| worker.not_received(&e))?;
    let (position, dropped) = (message.position(), receiver.dropped());
    if let Some((last, dropped_then)) = looking.received {
        let skipped = position.wrapping_sub(last + 1);
        if dropped - dropped_then != skipped {
            worker.note(Kind::Missed, 0, last, position, dropped - dropped_then);
        }
    }
    looking.saw(worker, &message, &sent, true);
    looking.received = Some((position, dropped));
    Ok(())
}

/// The newest, whether this handle has seen it or not.
fn newest(worker: &mut Worker, receiver: &Receiver, looking: &mut Looking) -> Result<(), Failed> {
    let sent = sent_so_far(worker, Sent::Sent);
    match receiver.latest() {
        Ok(message) => {
            looking.received = None;
            looking.saw(worker, &message, &sent, false);
            Ok(())
        }
        Err(e) if e.reason() == RecvFailure::Empty && sent.iter().sum::<u64>() == 0 => {
            worker.pause();
            Ok(())
        }
        Err(e) => {
            worker.unexpected(&e);
            Err(Failed::Again)
        }
    }
}

impl Looking {
    /// `sent`: per channel, one more than what was sent before it looked.
    fn saw(&mut self, worker: &mut Worker, message: &Message<'_>, sent: &[u64], is_new: bool) {
        let Some(heading) = worker.read(message) else { return };
        let (channel, seq, position) = (heading.channel, heading.seq, message.position());
        worker.ledger.add(worker.seat, Count::Received, 1);
        worker.passed();
        match self.position {
            Some(last) if position < last || is_new && position == last => {
                worker.note(Kind::Reordered, channel, seq, position, last);
            }
            Some(last) if position == last && self.last != (channel, seq) => {
                worker.note(Kind::Duplicate, channel, seq, position, 0);
            }
            _ => {}
        }
        if seq + 1 < self.next[channel] {
            worker.note(Kind::Reordered, channel, seq, self.next[channel], 0);
        }
        if seq + 1 < sent[channel] {
            worker.note(Kind::Stale, channel, seq, sent[channel], 0);
        }
        (self.position, self.last) = (Some(position), (channel, seq));
        self.next[channel] = seq + 1;
    }
}

/// All senders have left: what is there is the last one of some channel.
fn end(worker: &mut Worker, receiver: &Receiver) {
    let (sent, begun) = (sent_so_far(worker, Sent::Sent), sent_so_far(worker, Sent::Begun));
    if sent.iter().sum::<u64>() == 0 {
        return;
    }
    match receiver.latest() {
        Ok(message) => {
            let Some(heading) = worker.read(&message) else { return };
            let (channel, seq) = (heading.channel, heading.seq);
            if seq + 1 < sent[channel] || seq >= begun[channel] {
                worker.note(Kind::Stale, channel, seq, sent[channel], 0);
            }
        }
        Err(e) => worker.unexpected(&e),
    }
}
