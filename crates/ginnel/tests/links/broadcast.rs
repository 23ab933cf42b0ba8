//! Broadcast: every receiver gets every message that is sent while it is there, in order, whole; or the exact number that it missed.

use crate::child::Child;
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, file_of, number_in, scale, stamped};
use ginnel::{ErrorKind, Full, Link, Receiver, RecvFailure, SendFailure, Sender, Shape};
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// By when a survivor must know. The promise is 100 ms; a busy test machine may be late.
const TOLD: Duration = Duration::from_secs(1);

fn broadcast(name: &str, options: &str) -> String {
    let more = if options.is_empty() { String::new() } else { format!("&{options}") };
    address(name, &format!("shape=broadcast{more}"))
}

/// The same name, in this process alone.
fn private(address: &str) -> String {
    address.replacen("shm:", "mem:", 1)
}

fn numbers(receiver: &Receiver) -> Vec<u64> {
    receiver.try_iter().map(|message| number_in(&message)).collect()
}

fn send(sender: &Sender, numbers: std::ops::Range<u64>, len: usize) {
    numbers.for_each(|number| sender.send(&stamped(number, len)).unwrap());
}

#[test]
fn every_receiver_gets_every_message() {
    let _limit = place::limit(2 * LIMIT);
    for link in ["every", "every-private"].map(|name| broadcast(name, "capacity=16&max=4KiB&memory=128KiB")) {
        let link = if link.contains("private") { private(&link) } else { link };
        let (count, senders, receivers) = (2000 * scale(), 3, 4);
        let begin = Barrier::new(senders + receivers);
        std::thread::scope(|scope| {
            for sender in 0..senders as u64 {
                let (link, begin) = (&link, &begin);
                scope.spawn(move || {
                    let handle = Sender::open(link).unwrap();
                    begin.wait();
                    for number in 0..count {
                        let len = if number % 7 == 0 { 2000 } else { 16 };
                        handle.send_tagged(sender as u16, &stamped(number, len)).unwrap();
                    }
                });
            }
            for _ in 0..receivers {
                let (link, begin) = (&link, &begin);
                scope.spawn(move || {
                    let handle = Receiver::open(link).unwrap();
                    begin.wait();
                    let (mut next, mut position) = (vec![0; senders], 0);
                    let end = loop {
                        match handle.recv() {
                            Ok(message) => {
                                assert_eq!(
                                    (message.position(), message.missed(), message.redelivered()),
                                    (position, 0, false)
                                );
                                assert_eq!(number_in(&message), next[usize::from(message.tag())]);
                                next[usize::from(message.tag())] += 1;
                                position += 1;
                            }
                            Err(end) => break end,
                        }
                    };
                    assert_eq!(end, RecvFailure::Closed { died: 0 });
                    assert_eq!((next, handle.dropped()), (vec![count; senders], 0));
                });
            }
        });
    }
}

#[test]
fn who_is_too_slow_is_told_how_many_it_missed() {
    let _limit = place::limit(2 * LIMIT);
    for (capacity, len) in [(1, 16), (4, 300), (64, 16), (64, 3000)] {
        let link = broadcast("lossy", &format!("capacity={capacity}&max=4KiB&memory=64KiB&full=drop-oldest"));
        let (count, senders, receivers) = (5000 * scale(), 2, 3);
        let begin = Barrier::new(senders + receivers);
        std::thread::scope(|scope| {
            for sender in 0..senders as u16 {
                let (link, begin) = (&link, &begin);
                scope.spawn(move || {
                    let handle = Sender::open(link).unwrap();
                    begin.wait();
                    (0..count).for_each(|number| handle.send_tagged(sender, &stamped(number, len)).unwrap());
                });
            }
            for _ in 0..receivers {
                let (link, begin) = (&link, &begin);
                scope.spawn(move || {
                    let handle = Receiver::open(link).unwrap();
                    begin.wait();
                    let (mut last, mut position, mut missed) = (vec![None; senders], 0, 0);
                    for message in handle.iter() {
                        assert_eq!(message.position(), position + message.missed());
                        position = message.position() + 1;
                        missed += message.missed();
                        let number = Some(number_in(&message));
                        assert!(number > last[usize::from(message.tag())], "out of order, or twice");
                        last[usize::from(message.tag())] = number;
                    }
                    assert_eq!(position, senders as u64 * count, "the last message is always there");
                    assert_eq!(handle.dropped(), missed);
                });
            }
        });
    }
}

#[test]
fn who_is_cut_off_gets_an_error_with_the_number_and_goes_on() {
    let link = broadcast("cut", "capacity=4&max=64&full=cut-off");
    let (slow, fast, sender) =
        (Receiver::open(&link).unwrap(), Receiver::open(&link).unwrap(), Sender::open(&link).unwrap());
    for number in 0..10 {
        sender.try_send(&stamped(number, 8)).unwrap();
        assert_eq!(number_in(&fast.recv().unwrap()), number);
    }
    assert_eq!((slow.len(), slow.dropped()), (4, 0));
    let error = slow.recv().unwrap_err();
    assert_eq!(error, RecvFailure::CutOff { missed: 6 });
    assert!(error.to_string().contains("6 messages"), "{error}");
    assert_eq!((numbers(&slow), slow.dropped(), fast.dropped()), (vec![6, 7, 8, 9], 6, 0));
    // In the middle of several at once, the error comes with the next call.
    (10..12).for_each(|number| sender.send(&stamped(number, 8)).unwrap());
    assert_eq!(slow.try_recv_many(1).unwrap().len(), 1);
    (12..20).for_each(|number| sender.send(&stamped(number, 8)).unwrap());
    drop(sender);
    assert_eq!(slow.recv_many(9).unwrap_err(), RecvFailure::CutOff { missed: 5 });
    assert_eq!(slow.recv_many(9).unwrap().len(), 4);
    assert_eq!(slow.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
}

#[test]
fn the_slowest_holds_the_senders_back() {
    for (link, rejects) in
        [(broadcast("slow", "capacity=4&max=64"), false), (broadcast("slow", "capacity=4&max=64&full=reject"), true)]
    {
        let (slow, fast) = (Receiver::open(&link).unwrap(), Receiver::open(&link).unwrap());
        let sender = Sender::open(&link).unwrap();
        send(&sender, 0..4, 8);
        assert_eq!(numbers(&fast), [0, 1, 2, 3]);
        assert!(sender.is_full() && sender.len() == 4 && slow.len() == 4 && fast.is_empty());
        let refused = sender.send_timeout(&[0], Duration::from_millis(5)).unwrap_err();
        match refused.reason() {
            SendFailure::Full { capacity: 4 } if rejects => {}
            SendFailure::TimedOut { limit: "capacity", value: 4 } if !rejects => {}
            other => panic!("{other:?}"),
        }
        // In hand is not released.
        let held = slow.recv().unwrap();
        assert!(sender.try_send(&stamped(4, 8)).is_err());
        assert_eq!(number_in(&held), 0);
        drop(held);
        sender.try_send(&stamped(4, 8)).unwrap();
        assert!(sender.try_send(&stamped(5, 8)).is_err());
        drop(slow);
        send(&sender, 5..8, 8);
        assert_eq!(numbers(&fast), [4, 5, 6, 7]);
    }
}

#[test]
fn messages_in_hand_are_released_in_any_order() {
    let link = broadcast("hand", "capacity=4&max=1KiB");
    let (receiver, sender) = (Receiver::open(&link).unwrap(), Sender::open(&link).unwrap());
    for len in [8, 1000] {
        send(&sender, 0..4, len);
        let mut held: Vec<_> = (0..4).map(|_| receiver.try_recv().unwrap()).collect();
        drop(held.remove(2));
        drop(held.remove(1));
        assert!(sender.try_send(&[1]).is_err(), "the oldest is in hand");
        drop(held.remove(0));
        (0..3).for_each(|number| sender.try_send(&stamped(4 + number, len)).unwrap());
        assert!(sender.try_send(&[1]).is_err());
        assert_eq!(number_in(&held[0]), 3);
        drop(held);
        assert_eq!(numbers(&receiver), [4, 5, 6]);
    }
    // Forgotten guards are released with their receiver.
    send(&sender, 0..4, 8);
    std::mem::forget(receiver.recv().unwrap());
    std::mem::forget(receiver.recv_many(2).unwrap());
    assert!(sender.try_send(&[1]).is_err());
    drop(receiver);
    (0..9).for_each(|_| sender.try_send(&[1]).unwrap());
}

#[test]
fn late_joiners_get_history() {
    for full in ["block", "drop-oldest"] {
        let link = broadcast("history", &format!("capacity=64&max=64&full={full}"));
        let sender = Sender::open(&link).unwrap();
        let late = |history: u64| Link::new(&link).unwrap().history(history).receiver().unwrap();
        assert_eq!((numbers(&late(0)), numbers(&late(9))), (vec![], vec![]));
        send(&sender, 0..10, 8);
        assert_eq!((numbers(&late(0)), numbers(&late(3))), (vec![], vec![7, 8, 9]));
        assert_eq!(numbers(&late(1000)), (0..10).collect::<Vec<_>>());
        // Those that were heard by all are there too.
        let there = late(0);
        for number in 10..1000 {
            sender.send(&stamped(number, 8)).unwrap();
            assert_eq!(number_in(&there.recv().unwrap()), number);
        }
        let all = numbers(&late(64));
        assert!(all.len() >= 64 - 8, "{} are there", all.len());
        assert_eq!(all, (1000 - all.len() as u64..1000).collect::<Vec<_>>());
        let three: Receiver = Receiver::open(&format!("{}?history=3", link.split('?').next().unwrap())).unwrap();
        assert_eq!(numbers(&three), [997, 998, 999]);
    }
}

#[test]
fn a_clone_gets_what_its_original_has_yet_to_get() {
    for full in ["block", "drop-oldest"] {
        let link = broadcast("clone", &format!("capacity=16&full={full}"));
        let (receiver, sender) = (Receiver::open(&link).unwrap(), Sender::open(&link).unwrap());
        send(&sender, 0..5, 200);
        assert_eq!(number_in(&receiver.recv().unwrap()), 0);
        let clone = receiver.clone();
        assert_eq!((numbers(&clone), numbers(&receiver)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    }
}

#[test]
fn without_a_receiver_messages_are_history_only() {
    let link = broadcast("nobody", "capacity=4&max=64");
    let sender = Sender::open(&link).unwrap();
    send(&sender, 0..100, 8);
    assert!(sender.is_empty() && !sender.is_full() && !sender.is_closed());
    let receiver = Receiver::open(&link).unwrap();
    assert!(receiver.is_empty() && !receiver.is_closed());
    send(&sender, 100..102, 8);
    assert_eq!((receiver.len(), numbers(&receiver)), (2, vec![100, 101]));
    drop(receiver);
    assert!(sender.is_closed());
    send(&sender, 102..120, 8);
    // Nobody is left, so nothing is: a broadcast is not kept for who comes later.
    drop(sender);
    assert!(!file_of(&link).exists());
}

#[test]
fn the_end_comes_after_the_last_message() {
    let link = broadcast("end", "capacity=8");
    let receivers = [Receiver::open(&link).unwrap(), Receiver::open(&link).unwrap()];
    let sender = Sender::open(&link).unwrap();
    send(&sender, 0..5, 500);
    drop(sender);
    for receiver in &receivers {
        assert!(receiver.is_closed() && receiver.len() == 5);
        assert_eq!(receiver.iter().map(|m| number_in(&m)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    }
}

#[test]
fn blocks_make_way_for_larger_messages_than_the_memory_holds() {
    let _limit = place::limit(2 * LIMIT);
    for full in ["block", "drop-oldest", "cut-off"] {
        let link = broadcast("blocks", &format!("capacity=64&max=64KiB&memory=256KiB&full={full}"));
        let sender = Sender::open(&link).unwrap();
        // Without a receiver, and of one class after the other.
        for len in [65536, 300, 65536, 5000] {
            send(&sender, 0..200, len);
        }
        let receiver = Receiver::open(&link).unwrap();
        for number in 0..200 {
            send(&sender, number..number + 1, 65536);
            assert_eq!(number_in(&receiver.recv().unwrap()), number);
        }
        if full == "block" {
            let refused = (0..9).find_map(|number| sender.try_send(&stamped(number, 65536)).err()).unwrap();
            assert!(matches!(refused.reason(), SendFailure::NoMemory { .. }), "{refused}");
            let held = receiver.recv().unwrap();
            assert_eq!(numbers(&receiver).len(), 3);
            drop(held);
            send(&sender, 0..4, 65536);
        }
    }
}

#[test]
fn a_waiting_sender_gets_the_block_that_the_slowest_releases() {
    let _limit = place::limit(LIMIT);
    let link = broadcast("wait-block", "capacity=64&max=64KiB&memory=128KiB");
    let (receiver, sender) = (Receiver::open(&link).unwrap(), Sender::open(&link).unwrap());
    let count = 500 * scale();
    std::thread::scope(|scope| {
        scope.spawn(move || send(&sender, 0..count, 50_000));
        let heard = receiver.iter().map(|message| number_in(&message));
        assert!(heard.eq(0..count));
    });
}

#[test]
fn receivers_come_and_go_while_messages_flow() {
    let _limit = place::limit(2 * LIMIT);
    for (full, capacity) in [("block", 4), ("block", 64), ("drop-oldest", 16)] {
        let link = broadcast("come-and-go", &format!("capacity={capacity}&max=1KiB&memory=64KiB&full={full}"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for tag in 0..2 {
                let (link, done) = (&link, &done);
                scope.spawn(move || {
                    let sender = Sender::open(link).unwrap();
                    let mut number = 0;
                    while !done.load(Relaxed) {
                        let len = if number % 5 == 0 { 900 } else { 24 };
                        let _ = sender.send_tagged(tag, &stamped(number, len));
                        number += 1;
                    }
                });
            }
            let visitors: Vec<_> = (0..3)
                .map(|seed| {
                    let link = &link;
                    scope.spawn(move || {
                        let mut dice = Dice::new(seed);
                        for _ in 0..60 * scale() {
                            let link = Link::new(link).unwrap().history(dice.below(2 * capacity));
                            let receiver = link.receiver().unwrap();
                            let (mut last, mut next) = ([None; 2], None);
                            for _ in 0..dice.below(100) {
                                let message = receiver.recv().unwrap();
                                let number = Some(number_in(&message));
                                let last = &mut last[usize::from(message.tag())];
                                assert!(number > *last);
                                *last = number;
                                if let Some(next) = next {
                                    assert_eq!(message.position(), next + message.missed());
                                }
                                next = Some(message.position() + 1);
                            }
                        }
                    })
                })
                .collect();
            visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
            done.store(true, Relaxed);
        });
    }
}

#[test]
fn a_thousand_receivers() {
    let _limit = place::limit(4 * LIMIT);
    let link = broadcast("thousand", "capacity=16&max=64&participants=1100");
    let first = Receiver::open(&link).unwrap();
    let receivers: Vec<Receiver> = (0..999).map(|_| first.clone()).collect();
    let sender = Sender::open(&link).unwrap();
    send(&sender, 0..16, 8);
    assert!(sender.try_send(&[1]).is_err());
    for receiver in receivers.iter().chain([&first]) {
        assert_eq!(numbers(receiver), (0..16).collect::<Vec<_>>());
    }
    send(&sender, 16..20, 8);
    let info = Link::new(&link).unwrap().info().unwrap();
    assert_eq!((info.participants.len(), info.messages, info.geometry.shape), (1001, 4, Shape::Broadcast));
    assert!(info.participants.iter().filter_map(|p| p.behind).eq((0..1000).map(|_| 4)));
}

#[test]
fn a_full_table_names_the_option_that_makes_it_larger() {
    let link = broadcast("table", "participants=3");
    let _three: Vec<Receiver> = (0..3).map(|_| Receiver::open(&link).unwrap()).collect();
    let error = Receiver::open(&link).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyHandles);
    assert!(error.to_string().contains("3 handles") && error.to_string().contains("?participants="), "{error}");
}

#[test]
fn shapes_are_not_mixed() {
    let (queue, news) = (address("mixed", "shape=queue"), broadcast("mixed", ""));
    let (_queue, _news) = (Sender::open(&queue).unwrap(), Sender::open(&news).unwrap());
    let name = |link: &str| link.split('?').next().unwrap().to_owned();
    for (link, wanted, is) in [(&queue, "broadcast", "queue"), (&news, "queue", "broadcast")] {
        let error = Receiver::open(&format!("{}?shape={wanted}", name(link))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains(is), "{text}");
    }
    assert_eq!(Receiver::open(&name(&news)).unwrap().shape(), Shape::Broadcast);
    let error = Receiver::open(&format!("{}?history=3", name(&queue))).unwrap_err();
    assert!(error.to_string().contains("shape=queue") && error.to_string().contains("shape=broadcast"), "{error}");
    let error = Link::new(&address("cut-queue", "")).unwrap().full(Full::CutOff).sender().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().contains("shape=broadcast"), "{error}");
}

// ---- processes

fn scripted() -> Child {
    let mut child = Child::start("script", place::home());
    child.reply().ok();
    child
}

/// A sender sleeps, as the slowest receiver has all it may have; that is killed.
#[test]
fn a_killed_receiver_holds_nobody_back() {
    let _limit = place::limit(2 * LIMIT);
    let mut times = Vec::new();
    for turn in 0..20 * scale() {
        let link = broadcast("slowest-dies", "capacity=4&max=1KiB");
        let sender = Sender::open(&link).unwrap();
        let mut child = scripted();
        child.must(&format!("receiver open {link}"));
        let other = Receiver::open(&link).unwrap();
        send(&sender, 0..4, 8);
        if turn % 2 == 0 {
            assert_eq!(child.must("hold 1"), "0");
        }
        assert_eq!(numbers(&other), [0, 1, 2, 3]);
        let (asleep, about_to) = mpsc::channel();
        let blocked = std::thread::spawn(move || {
            asleep.send(()).unwrap();
            sender.send(&stamped(4, 1000)).unwrap();
            (Instant::now(), sender)
        });
        about_to.recv().unwrap();
        std::thread::sleep(Duration::from_millis(10)); // past spinning, asleep
        let killed = Instant::now();
        child.kill();
        let (told, sender) = blocked.join().unwrap();
        times.push(told.saturating_duration_since(killed));
        send(&sender, 5..8, 8);
        assert_eq!(numbers(&other), [4, 5, 6, 7]);
    }
    times.sort_unstable();
    let max = times[times.len() - 1];
    println!("sender held back, receiver killed: p50 {:?}, max {max:?}", times[times.len() / 2]);
    assert!(max < TOLD, "told after {max:?}");
}

/// A sender is killed in the middle of a message, and that was all there was room for: those who wait for room get it as soon as those who wait
/// for messages have passed over the hole.
#[test]
fn a_claim_that_vanished_holds_nobody_back() {
    let _limit = place::limit(LIMIT);
    let link = broadcast("hole", "capacity=1&max=64&participants=4");
    let receiver = Receiver::open(&link).unwrap();
    let mut child = scripted();
    child.must(&format!("sender open {link}"));
    // What it would have written first: the slot is WRITING, in lap 0, and its owner is the second participant.
    let ring = (4096 + 4 * 256u64).next_multiple_of(4096);
    let file = std::fs::OpenOptions::new().write(true).open(file_of(&link)).unwrap();
    file.write_all_at(&(1u64 << 16 | 2).to_le_bytes(), ring).unwrap();
    let sender = Sender::open(&link).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let message = receiver.recv_timeout(TOLD).unwrap();
            (number_in(&message), message.position())
        });
        std::thread::sleep(Duration::from_millis(10)); // both asleep, perhaps
        child.kill();
        sender.send_timeout(&stamped(7, 8), TOLD).unwrap();
        assert_eq!(waiting.join().unwrap(), (7, 1));
    });
}

/// Senders and receivers are killed at any moment; a receiver that lives gets what was committed, in order, whole, once.
#[test]
fn who_lives_gets_everything_though_others_are_killed() {
    let _limit = place::limit(3 * LIMIT);
    for full in ["block", "drop-oldest"] {
        let link = broadcast("killed", &format!("capacity=16&max=4KiB&memory=256KiB&participants=16&full={full}"));
        let receiver = Receiver::open(&link).unwrap();
        let steady = Sender::open(&link).unwrap();
        let mut dice = Dice::new(7);
        let mut sent = 0;
        let mut position = 0;
        for _ in 0..12 * scale() {
            let (mut sender, mut rival) = (scripted(), scripted());
            sender.must(&format!("sender open {link}"));
            rival.must(&format!("receiver open {link}"));
            rival.must("recv 0");
            sender.tell(&format!("flood {}", if dice.one_in(2) { 16 } else { 3000 }));
            rival.tell("drain");
            let end = Instant::now() + Duration::from_millis(dice.below(40));
            let mut last = None;
            let (mut killed, mut marked, mut quiet) = (false, false, 0);
            while quiet < 3 {
                if !killed && Instant::now() > end {
                    sender.kill();
                    rival.kill();
                    killed = true;
                }
                if killed && !marked && steady.try_send_tagged(1, &stamped(sent, 24)).is_ok() {
                    marked = true;
                    sent += 1;
                }
                match receiver.recv_timeout(Duration::from_millis(if killed { 50 } else { 5 })) {
                    Ok(message) => {
                        if full == "drop-oldest" {
                            assert_eq!(message.position(), position + message.missed());
                        }
                        position = message.position() + 1;
                        let number = number_in(&message);
                        if message.tag() == 1 {
                            assert_eq!(number, sent - 1);
                            quiet = 2;
                        } else if full == "block" {
                            assert_eq!(number, last.map_or(0, |last: u64| last + 1), "lost, twice or out of order");
                            last = Some(number);
                        } else {
                            assert!(last.is_none_or(|last| number > last));
                            last = Some(number);
                        }
                    }
                    Err(e) if e == RecvFailure::TimedOut => quiet += u32::from(marked),
                    Err(e) => panic!("{e}"),
                }
            }
        }
        assert!(receiver.is_empty());
    }
}
