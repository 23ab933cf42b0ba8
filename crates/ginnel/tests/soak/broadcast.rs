//! Receivers of a broadcast. Each must get everything that is begun after it opened, once and in order; a lossy one everything but what it is told to have missed.
//!
//! A receiver compares with what each channel had begun when it joined, so a few words are enough; a gap is noted, and the judge knows whether a sender
//! was killed just there. With one sender, what a lossy receiver missed is compared message by message. With several only the sums can be: which channel's messages were
//! missed is not told.

use std::thread::sleep;
use std::time::Duration;

use ginnel::{Message, Receiver, RecvFailure};

use super::ledger::{Count, Kind, Sent};
use super::queue::sent_so_far;
use super::schedule::{Sabotage, Shape};
use super::worker::{Failed, Worker};

/// Messages until a receiver is closed and another opened, at most.
const HANDLE: u64 = 200_000;

/// What a receiver expects.
struct Listening {
    is_lossy: bool,
    /// Per channel: where this handle begins at the latest, and the next message after the last.
    joined: Vec<u64>,
    next: Vec<Option<u64>>,
    /// Per channel: what was sent before it opened, which it must not get.
    before: Vec<u64>,
    position: Option<u64>,
    /// Told when it was cut off, to be added to what the next message says.
    cut: u64,
    missed: u64,
    gaps: u64,
}

/// The life of a receiver.
pub(crate) fn listen(worker: &mut Worker) {
    let address = worker.address();
    loop {
        let before = sent_so_far(worker, Sent::Sent);
        let Some(receiver) = worker.open(&[], || Receiver::open(&address)) else { return };
        let mut listening = Listening::new(worker, before);
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && !worker.is_over() {
            left -= 1;
            match hear(worker, &receiver, &mut listening) {
                Ok(()) | Err(Failed::Again) => {}
                Err(Failed::Reopen) => break,
            }
        }
        if worker.is_over() {
            listening.end(worker);
        }
        listening.close(worker);
        drop(receiver);
        worker.closed();
    }
}

fn hear(worker: &mut Worker, receiver: &Receiver, listening: &mut Listening) -> Result<(), Failed> {
    if worker.sabotages(Sabotage::Sleep) {
        sleep(Duration::from_secs(3600));
    }
    if worker.dice.one_in(10_000) && worker.runs() {
        sleep(Duration::from_millis(worker.dice.below(10))); // so that it is late
    }
    let message = match receiver.recv_timeout(worker.patience()) {
        Ok(message) => message,
        Err(e) => {
            if let (RecvFailure::CutOff { missed }, true) = (e.reason(), listening.is_lossy) {
                listening.cut += missed;
                worker.beat();
                return Ok(());
            }
            // Whether senders come again is not known: a new handle would begin anew.
            return Err(worker.not_received(&e)).or(Err(Failed::Again));
        }
    };
    if !worker.sabotages(Sabotage::Lose) {
        listening.heard(worker, &message);
    }
    if worker.sabotages(Sabotage::Hold) {
        std::mem::forget(message);
    }
    Ok(())
}

impl Listening {
    fn new(worker: &Worker, before: Vec<u64>) -> Self {
        // After it was open: what was begun up to now may come or not, what begins later must.
        let joined = sent_so_far(worker, Sent::Begun);
        let next = vec![None; joined.len()];
        let is_lossy = worker.scene.shape == Shape::Lossy;
        Self { is_lossy, joined, next, before, position: None, cut: 0, missed: 0, gaps: 0 }
    }

    fn heard(&mut self, worker: &mut Worker, message: &Message<'_>) {
        let missed = message.missed() + std::mem::take(&mut self.cut);
        self.follow_position(worker, message.position(), missed);
        let Some(heading) = worker.read(message) else { return };
        let (channel, seq) = (heading.channel, heading.seq);
        worker.ledger.add(worker.seat, Count::Received, 1);
        worker.passed();
        if seq < self.before[channel] || message.redelivered() {
            worker.note(Kind::Duplicate, channel, seq, 0, self.before[channel]);
        }
        match self.next[channel] {
            None if self.is_lossy => {}
            None if seq > self.joined[channel] => worker.note(Kind::Gap, channel, self.joined[channel], seq, 0),
            None => {}
            Some(next) if seq + 1 == next => worker.note(Kind::Duplicate, channel, seq, 0, 0),
            Some(next) if seq < next => worker.note(Kind::Reordered, channel, seq, next, 0),
            Some(next) => self.passed_over(worker, channel, next, seq, missed),
        }
        self.next[channel] = Some(seq + 1);
    }

    /// Between two messages of a channel lie these.
    fn passed_over(&mut self, worker: &Worker, channel: usize, from: u64, to: u64, missed: u64) {
        self.gaps += to - from;
        let is_alone = self.joined.len() == 1;
        if !self.is_lossy && to > from {
            worker.note(Kind::Gap, channel, from, to, 0);
        } else if self.is_lossy && is_alone && to - from != missed {
            worker.note(Kind::Missed, channel, from, to, missed);
        }
    }

    /// Positions are counted, too: what lies between two was missed, or vanished with its sender.
    fn follow_position(&mut self, worker: &mut Worker, position: u64, missed: u64) {
        if let Some(last) = self.position {
            match position.checked_sub(last + 1 + missed) {
                Some(vanished) => worker.ledger.add(worker.seat, Count::Vanished, vanished),
                None => worker.note(Kind::Missed, 0, last + 1, position, missed),
            }
            self.missed += missed;
        }
        self.position = Some(position);
    }

    /// All senders have left and nothing comes any more: so everything has come.
    fn end(&self, worker: &Worker) {
        for (channel, next) in self.next.iter().enumerate() {
            let (from, to) = (next.unwrap_or(self.joined[channel]), worker.ledger.begun(channel));
            if from < to && !self.is_lossy {
                worker.note(Kind::Gap, channel, from, to, 0);
            }
        }
    }

    /// Of several senders: what did not come is at most what it was told to have missed.
    fn close(&self, worker: &Worker) {
        if self.is_lossy && self.joined.len() > 1 && self.gaps > self.missed {
            worker.note(Kind::Missed, usize::MAX, 0, self.gaps, self.missed);
        }
    }
}
