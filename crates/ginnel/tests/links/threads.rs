//! Many threads at once: each message is numbered by its sender, and at the end each has arrived exactly once, in the order of
//! its sender at each receiver, whole. Handles come and go meanwhile.

use crate::dice::Dice;
use crate::place::{LIMIT, address, number_in, scale, stamped, within};
use ginnel::{Link, Receiver, RecvFailure, Sender, Wait};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number's upper bits say who sent it.
const SENDER_SHIFT: u32 = 32;

/// What runs against what.
#[derive(Clone, Copy)]
struct Load {
    senders: u64,
    receivers: u64,
    /// Messages of each sender.
    each: u64,
    wait: Wait,
    options: &'static str,
    sizes: &'static [usize],
    /// Handles are cloned and dropped all the time.
    restless: bool,
}

const SMALL: &[usize] = &[8, 24, 64, 112];
const MIXED: &[usize] = &[8, 112, 113, 300, 5000];

impl Load {
    fn of(senders: u64, receivers: u64) -> Self {
        let each = 12_000 * scale() / senders;
        Self { senders, receivers, each, wait: Wait::Adaptive, options: "capacity=64", sizes: SMALL, restless: false }
    }

    fn send(self, me: u64, mut sender: Sender) {
        let mut dice = Dice::new(me);
        for at in 0..self.each {
            let message = stamped(me << SENDER_SHIFT | at, dice.pick(self.sizes));
            match dice.below(3) {
                0 => sender.send(&message).unwrap(),
                1 => assert_eq!(sender.send_all(&[&message]).unwrap(), 1),
                _ => {
                    let mut loan = sender.loan(message.len()).unwrap();
                    loan.copy_from_slice(&message);
                    loan.commit().unwrap();
                }
            }
            if self.restless && dice.one_in(100) {
                sender = sender.try_clone().unwrap();
            }
        }
    }

    /// Receives until the end; counts each message in `seen`. Returns how many it got.
    fn recv(self, me: u64, mut receiver: Receiver, seen: &[Vec<AtomicU8>]) -> u64 {
        let mut dice = Dice::new(1000 + me);
        let mut last = vec![None; seen.len()];
        let mut count = 0;
        loop {
            match receiver.recv_many(1 + dice.index(5)) {
                Ok(messages) => {
                    for message in messages.iter() {
                        let number = number_in(&message);
                        let (from, at) = ((number >> SENDER_SHIFT) as usize, number & 0xFFFF_FFFF);
                        assert!(last[from] < Some(at), "of sender {from}: {at} after {:?}", last[from]);
                        last[from] = Some(at);
                        assert_eq!(seen[from][at as usize].fetch_add(1, Relaxed), 0, "{from}/{at} came twice");
                        assert!(!message.redelivered());
                    }
                    count += messages.len() as u64;
                }
                Err(end) => {
                    assert_eq!(end, RecvFailure::Closed { died: 0 });
                    return count;
                }
            }
            if self.restless && dice.one_in(100) {
                receiver = receiver.try_clone().unwrap();
            }
        }
    }

    /// Runs it all. Returns how many arrived, and how many the link says were dropped.
    fn run(self, name: &str) -> (u64, u64) {
        let link = Link::new(&address(name, self.options)).unwrap().wait(self.wait);
        let seen: Vec<Vec<AtomicU8>> =
            (0..self.senders).map(|_| (0..self.each).map(|_| AtomicU8::new(0)).collect()).collect();
        let arrived = AtomicU64::new(0);
        let last = link.receiver().unwrap();
        within(4 * LIMIT, || {
            std::thread::scope(|scope| {
                for me in 0..self.receivers {
                    let receiver = link.receiver().unwrap();
                    let (seen, arrived) = (&seen, &arrived);
                    scope.spawn(move || arrived.fetch_add(self.recv(me, receiver, seen), Relaxed));
                }
                let senders: Vec<_> = (0..self.senders).map(|_| link.sender().unwrap()).collect();
                for (me, sender) in (0..).zip(senders) {
                    scope.spawn(move || self.send(me, sender));
                }
            });
        });
        assert_eq!(last.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
        (arrived.into_inner(), last.dropped())
    }

    fn check(self, name: &str) {
        assert_eq!(
            self.run(name),
            (self.senders * self.each, 0),
            "{} senders, {} receivers",
            self.senders,
            self.receivers
        );
    }
}

#[test]
fn every_message_arrives_once_in_order() {
    for (senders, receivers) in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 4)] {
        Load::of(senders, receivers).check("threads");
    }
}

#[test]
fn blocks_do_not_get_mixed_up() {
    for (senders, receivers) in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 4)] {
        // So little memory that senders wait for blocks as well as for slots.
        let options = "capacity=32&max=8KiB&memory=128KiB";
        Load { sizes: MIXED, options, ..Load::of(senders, receivers) }.check("blocks");
    }
}

#[test]
fn the_smallest_links_lose_no_wake_up() {
    for capacity in ["capacity=1&max=64", "capacity=2&max=64"] {
        for wait in [Wait::Adaptive, Wait::Block] {
            let each = 2000 * scale();
            Load { options: capacity, sizes: &[8], wait, each, ..Load::of(1, 1) }.check("smallest");
            Load { options: capacity, sizes: &[8], wait, each: each / 4, ..Load::of(3, 3) }.check("smallest");
        }
    }
}

#[test]
fn every_policy_of_waiting_delivers() {
    for wait in [Wait::Block, Wait::Spin] {
        for (senders, receivers) in [(1, 1), (2, 2), (4, 4)] {
            let each = 2000 * scale() / senders;
            Load { wait, each, ..Load::of(senders, receivers) }.check("policies");
        }
    }
}

#[test]
fn handles_come_and_go_meanwhile() {
    for (senders, receivers) in [(1, 1), (2, 1), (1, 2), (3, 3)] {
        let options = "capacity=16&max=8KiB";
        Load { restless: true, sizes: MIXED, options, ..Load::of(senders, receivers) }.check("restless");
    }
}

#[test]
fn limited_sides_deliver_too() {
    for options in ["capacity=16&senders=1", "capacity=16&receivers=2&max=8KiB", "capacity=1&senders=1&receivers=2"] {
        Load { options, ..Load::of(1, 1) }.check("limited");
    }
}

/// What is sent, received and dropped adds up exactly, while senders drop what receivers reach for.
#[test]
fn a_dropping_link_counts_exactly() {
    for (senders, receivers) in [(1, 1), (2, 1), (1, 2), (3, 3)] {
        for sizes in [SMALL, MIXED] {
            let options = "capacity=4&max=8KiB&full=drop-oldest";
            let load = Load { options, sizes, ..Load::of(senders, receivers) };
            let (arrived, dropped) = load.run("counts");
            assert_eq!(arrived + dropped, load.senders * load.each, "{senders} senders, {receivers} receivers");
        }
    }
}

/// A message for one of many sleepers wakes one, and no message is left lying while they sleep.
#[test]
fn one_of_many_sleepers_wakes() {
    let link = Link::new(&address("sleepers", "capacity=8")).unwrap().wait(Wait::Block);
    let sender = link.sender().unwrap();
    let received = AtomicU64::new(0);
    let receivers: Vec<_> = (0..8).map(|_| link.receiver().unwrap()).collect();
    within(LIMIT, || {
        std::thread::scope(|scope| {
            for receiver in receivers {
                let received = &received;
                scope.spawn(move || received.fetch_add(receiver.iter().count() as u64, Relaxed));
            }
            let messages = 300 * scale();
            for number in 0..messages {
                sender.send(&stamped(number, 8)).unwrap();
                while !sender.is_empty() {
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
            drop(sender);
        });
    });
    assert_eq!(received.into_inner(), 300 * scale());
}
