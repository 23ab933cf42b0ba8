//! Messages between handles of one thread: order, content, sizes, loans, guards, full links; and random runs against an
//! oracle that is a `VecDeque`.

use crate::dice::Dice;
use crate::place::{self, LIMIT, address, number_in, scale, stamped, within};
use ginnel::{Batch, Full, INLINE_MAX, Link, Message, Receiver, RecvFailure, SendFailure, Sender, Wait};
use std::collections::{BTreeMap, VecDeque};
use std::mem::forget;
use std::time::Duration;

/// Sizes around every border: empty, inline, the first classes, a page, extents, the default largest.
const SIZES: [usize; 14] =
    [0, 1, 8, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 256, 257, 4096, 4097, 65_536, 65_537, 1 << 20, 16 << 20];

/// Large enough for a block, and a link of four of them.
const BLOCK: usize = 40_000;

fn pair(name: &str, options: &str) -> (Sender, Receiver) {
    let link = Link::new(&address(name, options)).unwrap();
    (link.sender().unwrap(), link.receiver().unwrap())
}

fn used(address: &str) -> u64 {
    Link::new(address).unwrap().info().unwrap().pool.used
}

#[track_caller]
fn is_full(sent: Result<(), ginnel::SendError>, capacity: u64) {
    let error = sent.unwrap_err();
    assert!(matches!(error.reason(), SendFailure::Full { capacity: c } if *c == capacity), "{error}");
}

#[test]
fn every_size_arrives_whole() {
    let (sender, receiver) = pair("sizes", "");
    within(LIMIT, || {
        for (number, len) in (0u64..).zip(SIZES) {
            let bytes = stamped(number, len);
            sender.send(&bytes).unwrap();
            let message = receiver.recv().unwrap();
            assert!(*message == *bytes, "copied, {len} bytes");
            assert_eq!((message.tag(), message.redelivered(), message.position()), (0, false, 2 * number));
            drop(message);

            let mut loan = sender.loan(len).unwrap();
            assert_eq!(loan.len(), len);
            loan.copy_from_slice(&bytes);
            loan.set_tag(number as u16 | 0x8000);
            loan.commit().unwrap();
            let message = receiver.recv().unwrap();
            assert!(*message == *bytes, "in place, {len} bytes");
            assert_eq!(message.tag(), number as u16 | 0x8000);
        }
    });
}

#[test]
fn a_gigabyte_passes() {
    if scale() < 2 {
        return place::skipped("it needs 2 GiB of memory: set GINNEL_TEST_SCALE=2");
    }
    const GIB: usize = 1 << 30;
    let (sender, receiver) = pair("gigabyte", "max=1GiB&memory=1GiB&capacity=4");
    within(4 * LIMIT, || {
        let mut loan = sender.loan(GIB).unwrap();
        loan.fill(7);
        loan[GIB - 1] = 8;
        loan.commit().unwrap();
        let message = receiver.recv().unwrap();
        assert_eq!((message.len(), message[0], message[GIB - 1]), (GIB, 7, 8));
        assert!(message[..GIB - 1].iter().all(|byte| *byte == 7));
        drop(message);
        let error = sender.send(&vec![0; GIB + 1]).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::TooLarge { .. }), "{error}");
        sender.send(&vec![9; GIB]).unwrap();
        assert!(receiver.recv().unwrap().iter().all(|byte| *byte == 9));
    });
}

#[test]
fn tags_travel() {
    let (sender, receiver) = pair("tags", "");
    for (tag, len) in [(0, 0), (1, 1), (0x1234, INLINE_MAX), (u16::MAX, 1000)] {
        sender.send_tagged(tag, &stamped(9, len)).unwrap();
        assert_eq!(receiver.recv().unwrap().tag(), tag);
    }
    sender.send(b"untagged").unwrap();
    assert_eq!(receiver.recv().unwrap().tag(), 0);
}

#[test]
fn a_commit_that_fails_gives_the_loan_back() {
    for len in [8, BLOCK] {
        let (sender, receiver) = pair("commit", "capacity=1&max=64KiB");
        within(LIMIT, || {
            sender.send(b"in the way").unwrap();
            let mut loan = sender.loan(len).unwrap();
            loan.copy_from_slice(&stamped(5, len));
            loan.set_tag(55);
            let refused = loan.try_commit().unwrap_err();
            assert!(matches!(refused.error.reason(), SendFailure::Full { capacity: 1 }), "{refused}");
            let refused = refused.loan.commit_timeout(Duration::from_millis(5)).unwrap_err();
            assert!(matches!(refused.error.reason(), SendFailure::TimedOut { .. }), "{refused}");
            let refused = refused.loan.commit_deadline(std::time::Instant::now()).unwrap_err();
            assert!(matches!(refused.error.reason(), SendFailure::TimedOut { .. }), "{refused}");
            assert_eq!(&*receiver.recv().unwrap(), b"in the way");
            refused.loan.commit().unwrap();
            let message = receiver.recv().unwrap();
            assert_eq!((number_in(&message), message.len(), message.tag()), (5, len, 55));
        });
    }
}

#[test]
fn a_dropped_loan_is_not_sent_and_its_block_is_free() {
    let address = address("dropped-loan", "capacity=4&max=64KiB&memory=64KiB");
    let sender = Sender::open(&address).unwrap();
    let receiver = Receiver::open(&address).unwrap();
    within(LIMIT, || {
        for _ in 0..100 {
            let mut loan = sender.try_loan(BLOCK).unwrap(); // there is one such block
            loan.fill(1);
            assert!(matches!(sender.try_loan(BLOCK).unwrap_err().reason(), SendFailure::NoMemory { .. }));
        }
        drop(sender.loan(3).unwrap());
        assert_eq!(used(&address), 0);
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        let error = sender.loan(64 * 1024 + 1).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::TooLarge { len: 65_537, max: 65_536 }), "{error}");
    });
}

/// Every order of 0, 1, 2, 3.
fn orders_of_four() -> Vec<[usize; 4]> {
    let all = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3]);
    all.filter(|order| (0..4).all(|i| order.contains(&i))).collect()
}

#[test]
fn guards_are_dropped_in_any_order() {
    for len in [16, BLOCK] {
        let (sender, receiver) = pair("orders", "capacity=4&max=64KiB&memory=256KiB");
        let orders = orders_of_four();
        assert_eq!(orders.len(), 24);
        within(LIMIT, || {
            for (round, order) in (0u64..).zip(orders) {
                for number in 0..4 {
                    sender.try_send(&stamped(round * 4 + number, len)).unwrap();
                }
                let mut held: Vec<Option<Message<'_>>> = receiver.try_iter().map(Some).collect();
                assert_eq!(held.len(), 4);
                for at in order {
                    let message = held[at].take().expect("each once");
                    assert_eq!(number_in(&message), round * 4 + at as u64, "{order:?}");
                }
            }
            assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        });
    }
}

#[test]
fn a_guard_held_for_a_lap_stays_whole_and_keeps_its_place() {
    for len in [16, BLOCK] {
        let (sender, receiver) = pair("lap", "capacity=4&max=64KiB&memory=512KiB");
        within(LIMIT, || {
            for lap in 0..50 {
                sender.send(&stamped(lap, len)).unwrap();
                let first = receiver.recv().unwrap();
                for number in 1..4 {
                    sender.try_send(&stamped(100 + number, len)).unwrap();
                }
                is_full(sender.try_send(&stamped(9, len)), 4);
                for number in 1..4 {
                    assert_eq!(number_in(&receiver.recv().unwrap()), 100 + number);
                }
                is_full(sender.try_send(&stamped(9, len)), 4); // the slot of the next position is the held one
                assert_eq!(number_in(&first), lap);
                drop(first);
                sender.try_send(&stamped(9, len)).unwrap();
                assert_eq!(number_in(&receiver.recv().unwrap()), 9);
            }
        });
    }
}

#[test]
fn many_at_once() {
    let (sender, receiver) = pair("many", "capacity=256");
    within(LIMIT, || {
        let sizes = [8, 50, INLINE_MAX, 113, 5000];
        let messages = |from: u64, to: u64| (from..to).map(move |n| stamped(n, sizes[n as usize % sizes.len()]));
        assert_eq!(sender.send_all(&messages(0, 100).collect::<Vec<_>>()).unwrap(), 100);
        assert_eq!(sender.send_all::<&[u8]>(&[]).unwrap(), 0);
        assert!(receiver.recv_many(0).unwrap().is_empty());
        // At least one, at most as many as were asked for, in order.
        let mut got = Vec::new();
        for most in (1..20).cycle().take_while(|_| !receiver.is_empty()) {
            let batch = receiver.recv_many(most).unwrap();
            assert!((1..=most).contains(&batch.len()) && !batch.is_empty());
            assert!(batch.get(batch.len()).is_none() && batch.get(0).is_some());
            got.extend(batch.iter().map(|m| number_in(&m)));
        }
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        sender.send_all(&messages(0, 20).collect::<Vec<_>>()).unwrap();
        let held: Vec<Message<'_>> = receiver.try_iter().collect();
        assert_eq!(held.iter().map(|m| number_in(m)).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        drop(held);
        assert_eq!(receiver.try_iter().count(), 0);
        sender.send_all(&messages(100, 300).collect::<Vec<_>>()).unwrap();
        drop(sender);
        let rest: Vec<u64> = receiver.iter().map(|message| number_in(&message)).collect();
        assert_eq!(rest, (100..300).collect::<Vec<_>>());
        assert_eq!(receiver.recv_many(5).unwrap_err(), RecvFailure::Closed { died: 0 });
    });
}

#[test]
fn send_all_says_how_many_went() {
    let (sender, receiver) = pair("send-all", "capacity=8&full=reject&max=64");
    let error = sender.send_all(&(0..20).map(|n| stamped(n, 8)).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(error.sent, 8);
    assert!(matches!(error.error.reason(), SendFailure::Full { capacity: 8 }), "{error}");
    assert_eq!(receiver.try_iter().count(), 8);
    let error = sender.send_all(&[vec![1; 10], vec![1; 65], vec![1; 10]]).unwrap_err();
    assert_eq!(error.sent, 1);
    assert!(matches!(error.error.reason(), SendFailure::TooLarge { len: 65, max: 64 }), "{error}");
    assert_eq!(receiver.try_iter().count(), 1);
}

#[test]
fn try_send_all_and_try_recv_many_take_what_there_is() {
    let (sender, receiver) = pair("try-many", "capacity=256&max=64");
    assert_eq!(receiver.try_recv_many(8).unwrap_err(), RecvFailure::Empty);
    // Several times round the ring, in runs that end in the middle of it.
    let mut next = 0;
    for _ in 0..20 {
        let messages: Vec<_> = (next..next + 300).map(|n| stamped(n, 8 + n as usize % 50)).collect();
        let error = sender.try_send_all(&messages).unwrap_err();
        assert_eq!(error.sent, 256);
        assert!(matches!(error.error.reason(), SendFailure::Full { capacity: 256 }), "{error}");
        assert_eq!((sender.len(), receiver.len(), sender.is_full()), (256, 256, true));
        let mut got = Vec::new();
        while let Ok(batch) = receiver.try_recv_many(100) {
            got.extend(batch.iter().map(|m| number_in(&m)));
        }
        assert_eq!(got, (next..next + 256).collect::<Vec<_>>());
        next += 256;
    }
    let info = Link::new(receiver.address()).unwrap().info().unwrap();
    let sent: Vec<u64> = info.participants.iter().map(|p| p.counters.messages).collect();
    assert_eq!(sent, [next, next], "sent by the one, received by the other");
}

/// Whoever took many messages at full speed is told of the next one at once when it does not wait, and soon when it does, though it
/// was not announced.
#[test]
fn the_end_of_a_stream_is_not_waited_for() {
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Block] {
        let link = Link::new(&address("stream-end", "capacity=1024")).unwrap().wait(wait);
        let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
        within(LIMIT, || {
            let mut next = 0;
            for round in 0..300u64 {
                let count = 64 + round % 67;
                (next..next + count).for_each(|n| sender.send(&stamped(n, 16)).unwrap());
                for n in next..next + count {
                    // Now and then without waiting, in the middle and at the end.
                    let message = if (n + round) % 3 == 0 { receiver.try_recv() } else { receiver.recv_timeout(LIMIT) };
                    assert_eq!(number_in(&message.unwrap()), n);
                }
                assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
                next += count;
            }
        });
    }
}

#[test]
fn forgotten_messages_go_to_the_next_receiver() {
    for len in [16, BLOCK] {
        let address = address("forgotten", "capacity=8&max=64KiB&memory=512KiB");
        let sender = Sender::open(&address).unwrap();
        within(LIMIT, || {
            for round in 0..20 {
                let first = Receiver::open(&address).unwrap();
                for number in 0..5 {
                    sender.send(&stamped(round * 5 + number, len)).unwrap();
                }
                forget(first.recv().unwrap());
                drop(first.recv().unwrap());
                forget(first.recv().unwrap());
                drop(first);
                let next = Receiver::open(&address).unwrap();
                let got: Vec<_> = next.try_iter().map(|m| (number_in(&m) - round * 5, m.redelivered())).collect();
                assert_eq!(got, [(0, true), (2, true), (3, false), (4, false)], "{len} bytes, round {round}");
            }
        });
        assert_eq!(used(&address), 0);
    }
}

#[test]
fn forgotten_batches_go_to_the_next_receiver() {
    for len in [16, 5000] {
        let address = address("forgotten-batch", "capacity=16&max=8KiB");
        let sender = Sender::open(&address).unwrap();
        within(LIMIT, || {
            for round in 0..20 {
                let first = Receiver::open(&address).unwrap();
                sender.send_all(&(0..10).map(|n| stamped(round * 10 + n, len)).collect::<Vec<_>>()).unwrap();
                drop(first.recv().unwrap());
                let (held, forgotten) = (first.recv_many(2).unwrap(), first.recv_many(3).unwrap());
                assert_eq!(held.iter().map(|m| number_in(&m)).next(), Some(round * 10 + 1));
                let (begin, end) = (1 + held.len() as u64, (1 + held.len() + forgotten.len()) as u64);
                drop(held);
                forget(forgotten);
                drop(first);
                let next = Receiver::open(&address).unwrap();
                let got: Vec<_> = next.try_iter().map(|m| (number_in(&m) - round * 10, m.redelivered())).collect();
                assert_eq!(got, (begin..10).map(|n| (n, n < end)).collect::<Vec<_>>(), "{len} bytes, round {round}");
            }
        });
        assert_eq!(used(&address), 0);
    }
}

#[test]
fn forgotten_loans_come_back_with_their_sender() {
    let address = address("forgotten-loan", "capacity=8&max=64KiB&memory=64KiB");
    let _receiver = Receiver::open(&address).unwrap();
    for _ in 0..20 {
        let sender = Sender::open(&address).unwrap();
        forget(sender.try_loan(BLOCK).unwrap());
        assert!(matches!(sender.try_loan(BLOCK).unwrap_err().reason(), SendFailure::NoMemory { ceiling: 65_536 }));
        drop(sender);
        assert_eq!(used(&address), 0);
    }
}

/// A receiver of a dropping link that forgets what it took has received it: the message is not lost, and is not counted as such,
/// however its successors end.
#[test]
fn forgotten_messages_of_a_dropping_link_leave_nothing_behind() {
    let address = address("forgotten-dropping", "capacity=4&max=64KiB&memory=64KiB&full=drop-oldest&participants=2");
    let sender = Sender::open(&address).unwrap();
    for _ in 0..5 {
        let receiver = Receiver::open(&address).unwrap();
        sender.send(&stamped(1, 16)).unwrap();
        forget(receiver.recv().unwrap());
        sender.send(&stamped(2, BLOCK)).unwrap();
        forget(receiver.recv().unwrap());
        drop(receiver);
        assert_eq!(used(&address), 0);
    }
    let receiver = Receiver::open(&address).unwrap();
    assert_eq!((receiver.dropped(), receiver.len()), (0, 0));
}

#[test]
fn the_smallest_links_go_round() {
    for capacity in [1, 2, 4] {
        let (sender, receiver) = pair("small", &format!("capacity={capacity}&max=4096"));
        assert_eq!((sender.capacity(), receiver.capacity(), sender.max_message()), (capacity, capacity, 4096));
        within(LIMIT, || {
            for lap in 0..100 {
                for number in 0..capacity {
                    assert_eq!((sender.len(), sender.is_full()), (number, false));
                    sender.try_send(&stamped(lap * capacity + number, 8 + (lap * 37 % 4000) as usize)).unwrap();
                }
                assert!(sender.is_full() && !sender.is_empty() && !receiver.is_empty());
                is_full(sender.try_send(b"more"), capacity);
                for number in 0..capacity {
                    assert_eq!(number_in(&receiver.try_recv().unwrap()), lap * capacity + number);
                }
                assert!(sender.is_empty() && receiver.is_empty());
                assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
            }
        });
    }
}

#[test]
fn handles_know_whether_the_others_are_gone() {
    let address = address("closed", "");
    let sender = Sender::open(&address).unwrap();
    assert!(!sender.is_closed(), "nobody was there yet");
    let receiver = Receiver::open(&address).unwrap();
    assert!(!sender.is_closed() && !receiver.is_closed());
    drop(receiver);
    assert!(sender.is_closed());
    sender.send(b"for the next one").unwrap();
    let receiver = Receiver::open(&address).unwrap();
    assert!(!sender.is_closed() && !receiver.is_closed());
    drop(sender);
    assert!(receiver.is_closed());
    assert_eq!(&*receiver.recv().unwrap(), b"for the next one");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
}

#[test]
fn a_full_link_blocks_or_refuses() {
    let (sender, _receiver) = pair("blocks", "capacity=2&full=block");
    let (rejecting, receiver) = pair("rejects", "capacity=2&full=reject");
    within(LIMIT, || {
        for sender in [&sender, &rejecting] {
            sender.send(b"1").unwrap();
            sender.send(b"2").unwrap();
            is_full(sender.try_send(b"3"), 2);
        }
        let error = sender.send_timeout(b"3", Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
        is_full(rejecting.send(b"3"), 2);
        is_full(rejecting.send_timeout(b"3", Duration::from_secs(9)), 2);
        assert_eq!(receiver.try_iter().map(|m| m[0]).collect::<Vec<_>>(), *b"12");
        assert_eq!(receiver.dropped(), 0);
    });
}

#[test]
fn a_slow_receiver_of_a_dropping_link_holds_nobody_up() {
    for len in [16, 1000] {
        let (sender, receiver) = pair("dropping", "capacity=4&max=4096&full=drop-oldest");
        within(LIMIT, || {
            for number in 0..10 {
                sender.send(&stamped(number, len)).unwrap();
            }
            assert_eq!(receiver.dropped(), 6);
            let held = receiver.recv().unwrap();
            for number in 10..1000 {
                sender.send(&stamped(number, len)).unwrap();
            }
            assert_eq!((number_in(&held), held.redelivered()), (6, false));
            assert_eq!(receiver.dropped(), 6 + 989); // 7, 8 and 9 and then all but the last four
            let rest: Vec<u64> = receiver.try_iter().map(|m| number_in(&m)).collect();
            assert_eq!(rest, [996, 997, 998, 999]);
            drop(held);
            assert_eq!(receiver.dropped(), 995);
            assert_eq!(receiver.try_clone().unwrap().dropped(), 0, "those before it opened are not its");
        });
    }
}

#[test]
fn a_dropping_link_makes_room_in_memory_too() {
    let address = address("dropping-memory", "capacity=64&max=64KiB&memory=256KiB&full=drop-oldest");
    let sender = Sender::open(&address).unwrap();
    let receiver = Receiver::open(&address).unwrap();
    within(LIMIT, || {
        for number in 0..100 {
            sender.send(&stamped(number, BLOCK)).unwrap();
        }
        let got: Vec<u64> = receiver.try_iter().map(|m| number_in(&m)).collect();
        assert_eq!(*got.last().unwrap(), 99);
        assert_eq!(got.len() as u64 + receiver.dropped(), 100);
        assert!(got.windows(2).all(|two| two[0] + 1 == two[1]), "{got:?}");
    });
}

/// Small messages are not dropped for the sake of a large one that still has no block then: its memory is in the hands of a receiver.
#[test]
fn a_dropping_link_drops_only_what_helps() {
    let (sender, receiver) = pair("in-vain", "capacity=4&max=64KiB&memory=64KiB&full=drop-oldest");
    sender.send(&stamped(1, BLOCK)).unwrap();
    let held = receiver.recv().unwrap();
    sender.send(&stamped(2, 16)).unwrap();
    sender.send(&stamped(3, 16)).unwrap();
    let refused = sender.try_send(&stamped(4, BLOCK)).unwrap_err();
    assert!(matches!(refused.reason(), SendFailure::NoMemory { .. }), "{refused}");
    assert_eq!((number_in(&held), receiver.dropped(), receiver.len()), (1, 0, 2));
}

/// Memory that one size does not use any more goes to another, whatever the way of waiting.
#[test]
fn memory_moves_to_the_size_that_needs_it() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Spin] {
        let link = Link::new(&address("moves", "capacity=4&max=8KiB&memory=64KiB")).unwrap().wait(wait);
        let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
        for (number, len) in (0u64..).zip([200, 300, 600, 1200, 3000, 8000, 200, 8000, 300]) {
            let sent = sender.send_timeout(&stamped(number, len), Duration::from_secs(2));
            assert!(sent.is_ok(), "{wait:?}: no memory for {len} bytes in an empty link: {}", sent.unwrap_err());
            assert_eq!(number_in(&receiver.try_recv().unwrap()), number);
            sender.try_send(&stamped(number, len)).unwrap();
            assert_eq!(number_in(&receiver.try_recv().unwrap()), number);
        }
        // In the hands of a receiver it cannot move; one that waits for it gets it when it is released.
        sender.send(&stamped(1, 200)).unwrap();
        let held = receiver.recv().unwrap();
        let refused = sender.try_send(&stamped(2, 8000)).unwrap_err();
        assert!(matches!(refused.reason(), SendFailure::NoMemory { ceiling: 65_536 }), "{refused}");
        within(LIMIT, || {
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let sender = sender;
                    sender.send(&stamped(3, 8000)).map(|()| sender)
                });
                std::thread::sleep(Duration::from_millis(20));
                drop(held);
                let _sender = waiting.join().unwrap().unwrap();
                assert_eq!(number_in(&receiver.recv().unwrap()), 3);
            });
        });
    }
}

// ---- random runs against an oracle

/// A message as the oracle knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sent {
    number: u64,
    len: usize,
    tag: u16,
}

/// What a link ought to hold.
#[derive(Debug)]
struct Oracle {
    capacity: u64,
    full: Full,
    /// Position of the next message.
    tail: u64,
    queued: VecDeque<(u64, Sent)>,
    held: BTreeMap<u64, Sent>,
    returned: BTreeMap<u64, Sent>,
    dropped: u64,
}

impl Oracle {
    /// Whether the message of one lap ago still has the next slot.
    fn is_full(&self) -> bool {
        let Some(rival) = self.tail.checked_sub(self.capacity) else { return false };
        let queued = self.queued.front().is_some_and(|(first, _)| *first <= rival);
        queued
            || self.full != Full::DropOldest && (self.held.contains_key(&rival) || self.returned.contains_key(&rival))
    }

    /// True if it is sent.
    fn send(&mut self, message: Sent) -> bool {
        if self.is_full() {
            if self.full != Full::DropOldest {
                return false;
            }
            self.queued.pop_front();
            self.dropped += 1;
        }
        self.queued.push_back((self.tail, message));
        self.tail += 1;
        true
    }

    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.returned.is_empty()
    }

    /// The next one, and whether it went back before.
    fn recv(&mut self) -> Option<(u64, Sent, bool)> {
        let next = match self.returned.pop_first() {
            Some((position, message)) => Some((position, message, true)),
            None => self.queued.pop_front().map(|(position, message)| (position, message, false)),
        };
        if let Some((position, message, _)) = next {
            self.held.insert(position, message);
        }
        next
    }
}

/// A link, its oracle, and chance.
struct Run {
    link: Link,
    dice: Dice,
    oracle: Oracle,
    numbers: u64,
    /// Where the run is, for the one who reads a failure.
    seed: u64,
}

/// Messages in hand, by their positions, and which receiver holds them.
struct Held<'a> {
    who: usize,
    positions: Vec<u64>,
    guard: Guard<'a>,
}

enum Guard<'a> {
    One(Message<'a>),
    Many(Batch<'a>),
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let capacity = dice.pick(&[1, 2, 4, 8, 64]);
        let full = dice.pick(&[Full::Block, Full::Block, Full::Reject, Full::DropOldest]);
        let link = Link::new(&address("oracle", "max=4096&memory=1MiB")).unwrap().capacity(capacity).full(full);
        let (queued, held, returned) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            link,
            dice,
            oracle: Oracle { capacity, full, tail: 0, queued, held, returned, dropped: 0 },
            numbers: 0,
            seed,
        }
    }

    /// Some operations with the same handles; then the guards that are left are dropped, or forgotten with their receiver, which
    /// must close then.
    fn episode(&mut self, senders: &[Sender], receivers: &[Receiver]) -> Vec<usize> {
        let mut held: Vec<Held<'_>> = Vec::new();
        for _ in 0..60 {
            match self.dice.below(10) {
                0..4 => {
                    let at = self.dice.index(senders.len());
                    self.send(&senders[at]);
                }
                4..8 => {
                    let who = self.dice.index(receivers.len());
                    let taken = self.recv(&receivers[who]);
                    held.extend(taken.map(|(positions, guard)| Held { who, positions, guard }));
                }
                8 if !held.is_empty() => {
                    let Held { positions, guard, .. } = held.swap_remove(self.dice.index(held.len()));
                    self.release(&positions, guard);
                }
                _ => {
                    let at = self.dice.index(receivers.len());
                    self.look(&receivers[at]);
                }
            }
        }
        let forgetful = self.dice.one_in(3) && self.oracle.full != Full::DropOldest;
        let who = self.dice.index(receivers.len());
        let mut leaving = Vec::new();
        while !held.is_empty() {
            let one = held.swap_remove(self.dice.index(held.len()));
            if forgetful && one.who == who {
                for position in one.positions {
                    let back = self.oracle.held.remove(&position).expect("it was held");
                    self.oracle.returned.insert(position, back);
                }
                forget(one.guard);
                leaving = vec![who];
            } else {
                self.release(&one.positions, one.guard);
            }
        }
        leaving
    }

    fn send(&mut self, sender: &Sender) {
        let len = self.dice.pick(&[8, 9, 64, 112, 113, 256, 257, 1000, 4096]);
        let message = Sent { number: self.numbers, len, tag: self.dice.roll() as u16 };
        self.numbers += 1;
        let bytes = stamped(message.number, len);
        let mut loan = sender.try_loan(len).unwrap();
        loan.copy_from_slice(&bytes);
        loan.set_tag(message.tag);
        let expected = self.oracle.send(message);
        match loan.try_commit() {
            Ok(()) => assert!(expected, "seed {}: sent into a full link", self.seed),
            Err(refused) => {
                assert!(matches!(refused.error.reason(), SendFailure::Full { .. }), "seed {}: {refused}", self.seed);
                assert!(!expected, "seed {}: refused with room, {:?}", self.seed, self.oracle);
            }
        }
    }

    /// Receives one, or several if there is one. What is not released at once is in hand.
    fn recv<'a>(&mut self, receiver: &'a Receiver) -> Option<(Vec<u64>, Guard<'a>)> {
        let (positions, guard) = if !self.oracle.is_empty() && self.dice.one_in(4) {
            let batch = receiver.recv_many(1 + self.dice.index(6)).unwrap();
            let positions = batch.iter().map(|m| self.expect(&m, m.tag(), m.redelivered())).collect();
            (positions, Guard::Many(batch))
        } else {
            match receiver.try_recv() {
                Ok(message) => {
                    let position = self.expect(&message, message.tag(), message.redelivered());
                    assert_eq!(message.position(), position, "seed {}", self.seed);
                    (vec![position], Guard::One(message))
                }
                Err(e) => {
                    assert!(
                        e == RecvFailure::Empty && self.oracle.is_empty(),
                        "seed {}: {e}, {:?}",
                        self.seed,
                        self.oracle
                    );
                    return None;
                }
            }
        };
        if self.dice.one_in(2) && self.may_hold() {
            return Some((positions, guard));
        }
        self.release(&positions, guard);
        None
    }

    /// A link has twice as many blocks of a size as slots. On one that drops the oldest, guards hold none of the slots, so here they
    /// must leave blocks for the rest.
    fn may_hold(&self) -> bool {
        self.oracle.full != Full::DropOldest || self.oracle.held.len() as u64 <= self.oracle.capacity / 2
    }

    /// Compares a message that was received with the next one of the oracle; its position.
    fn expect(&mut self, message: &[u8], tag: u16, redelivered: bool) -> u64 {
        let got = Sent { number: number_in(message), len: message.len(), tag };
        let (position, sent, again) = self.oracle.recv().expect("the oracle is empty");
        assert_eq!((got, redelivered), (sent, again), "seed {}", self.seed);
        position
    }

    fn release(&mut self, positions: &[u64], guard: Guard<'_>) {
        let numbers: Vec<u64> = match &guard {
            Guard::One(message) => vec![number_in(message)],
            Guard::Many(batch) => batch.iter().map(|m| number_in(&m)).collect(),
        };
        let held: Vec<u64> =
            positions.iter().map(|p| self.oracle.held.remove(p).expect("it was held").number).collect();
        assert_eq!(numbers, held, "seed {}: changed in hand", self.seed);
    }

    fn look(&self, receiver: &Receiver) {
        let there = self.oracle.queued.len() + self.oracle.returned.len();
        assert_eq!(receiver.len(), there as u64, "seed {}: {:?}", self.seed, self.oracle);
    }

    /// Opens and closes handles at random, and leaves 1 to 3 of each.
    fn shuffle<H>(&mut self, handles: &mut Vec<H>, open: impl Fn(&Link) -> H, clone: impl Fn(&H) -> H) {
        for _ in 0..self.dice.below(3) {
            if handles.len() > 1 && self.dice.one_in(2) {
                handles.swap_remove(self.dice.index(handles.len()));
            } else if handles.len() < 3 {
                let another = match handles.first() {
                    Some(first) if self.dice.one_in(2) => clone(first),
                    _ => open(&self.link),
                };
                handles.push(another);
            }
        }
    }
}

#[test]
fn random_runs_agree_with_an_oracle() {
    within(4 * LIMIT, || {
        for seed in 0..60 * scale() {
            let mut run = Run::new(seed);
            let mut senders = vec![run.link.sender().unwrap()];
            let mut receivers = vec![run.link.receiver().unwrap()];
            for _ in 0..30 {
                for who in run.episode(&senders, &receivers) {
                    receivers.swap_remove(who);
                    if receivers.is_empty() {
                        receivers.push(run.link.receiver().unwrap());
                    }
                }
                run.shuffle(&mut senders, |link| link.sender().unwrap(), |one| one.try_clone().unwrap());
                run.shuffle(&mut receivers, |link| link.receiver().unwrap(), |one| one.try_clone().unwrap());
            }
            let dropped = run.link.info().unwrap().dropped;
            assert_eq!(dropped, run.oracle.dropped, "seed {seed}");
            // What is left comes out in order, and then nothing.
            for receiver in receivers.iter().cycle().take(200) {
                if let Some((positions, guard)) = run.recv(receiver) {
                    run.release(&positions, guard);
                }
            }
            assert!(run.oracle.is_empty(), "seed {seed}");
        }
    });
}
