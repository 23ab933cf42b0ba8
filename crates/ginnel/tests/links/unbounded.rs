//! Unbounded links: nobody waits for room, memory comes and goes, and where there is no more that is an error, of which everything recovers.
//!
//! A small ceiling makes small extents, of 32 slots of 128 bytes or 128 of 32: then a test passes hundreds of borders, and laps.

use crate::child::Child;
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, number_in, scale, stamped, within};
use ginnel::{Link, Message, Receiver, RecvFailure, Select, SendFailure, Sender};
use ginnel_core::GROW_BYTE;
use ginnel_os::inotify::Inotify;
use ginnel_os::ofd_lock::{self, Kind};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Extents of 4 KiB, 32 slots.
const TINY: &str = "unbounded&memory=256KiB&max=4KiB&participants=16";

/// For what does not come.
const SHORT: Duration = Duration::from_millis(5);

fn allocated(address: &str) -> u64 {
    Link::new(address).unwrap().info().unwrap().allocated
}

/// The same in this process alone.
fn private(address: &str) -> String {
    address.replacen("shm:", "mem:", 1)
}

#[test]
fn memory_comes_and_goes_with_the_messages() {
    const MANY: u64 = 300_000;
    type Take = fn(&Receiver, u64);
    let one_by_one: Take = |receiver, count| {
        (0..count).for_each(|number| assert_eq!(number_in(&receiver.recv().unwrap()), number));
    };
    let trying: Take = |receiver, count| {
        (0..count).for_each(|number| assert_eq!(number_in(&receiver.try_recv().unwrap()), number));
    };
    let together: Take = |receiver, count| {
        let mut expected = 0..count;
        while !expected.is_empty() {
            let most = (expected.end - expected.start).min(1000) as usize;
            let batch = receiver.recv_many(most).unwrap();
            batch.iter().for_each(|message| assert_eq!(Some(number_in(&message)), expected.next()));
        }
    };
    let shm = address("comes-and-goes", "unbounded&max=8");
    for address in [private(&shm), shm] {
        let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
        let before = allocated(&address);
        assert!(before < 2 << 20, "{before}");
        for take in [one_by_one, trying, together] {
            within(LIMIT, || {
                (0..MANY).for_each(|number| sender.send(&number.to_le_bytes()).unwrap());
                assert_eq!(receiver.len(), MANY);
                let peak = allocated(&address);
                assert!(peak >= 32 * MANY, "{peak}");
                take(&receiver, MANY / 2);
                let half = allocated(&address);
                assert!(half < peak / 2 + (4 << 20), "{half} of {peak} while it drains");
                (MANY / 2..MANY).for_each(|number| assert_eq!(number_in(&receiver.recv().unwrap()), number));
                assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
                assert!(allocated(&address) <= before + (1 << 20), "{} after {before}", allocated(&address));
            });
        }
    }
}

#[test]
fn so_do_blocks() {
    for (len, count) in [(200, 40_000), (10_000, 2500), (1 << 20, 40)] {
        let address = address("blocks", "unbounded");
        let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
        within(LIMIT, || {
            for round in 0..2 {
                (0..count).for_each(|number| sender.send(&stamped(round + number, len)).unwrap());
                let peak = allocated(&address);
                assert!(peak >= len as u64 * count, "{peak}");
                (0..count).for_each(|number| assert_eq!(number_in(&receiver.recv().unwrap()), round + number));
                assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
                let (pool, after) = (Link::new(&address).unwrap().info().unwrap().pool, allocated(&address));
                // What is spare stays, and 16 bytes for each block that there ever was.
                assert_eq!((pool.used, pool.committed <= 16 << 20), (0, true), "{pool:?}");
                assert!(after <= (20 << 20) + peak / 8, "{after} of {peak}");
            }
        });
    }
}

/// Who never sleeps on the link gives back too. And who was refused the lock, later.
#[test]
fn so_do_blocks_of_who_listens() {
    type Drain = fn(&mut Receiver, u64);
    let selecting: Drain = |receiver, count| {
        let mut select = Select::new().recv(&*receiver);
        (0..count).for_each(|number| assert_eq!(number_in(&select.wait().arrival.message().unwrap()), number));
        assert!(select.wait_timeout(SHORT).is_none());
    };
    let ready: Drain = |receiver, count| {
        let ready = receiver.readiness().unwrap();
        (0..count).for_each(|number| assert_eq!(number_in(&ready.try_recv().unwrap()), number));
        assert_eq!(ready.try_recv().unwrap_err(), RecvFailure::Empty);
    };
    let awaiting: Drain = |receiver, count| {
        smol::block_on(async {
            for number in 0..count {
                assert_eq!(number_in(&receiver.recv_async().await.unwrap()), number);
            }
            let nothing = futures_util::future::poll_immediate(receiver.recv_async()).await;
            assert!(nothing.is_none());
        });
    };
    let sleeping: Drain = |receiver, count| {
        (0..count).for_each(|number| assert_eq!(number_in(&receiver.recv().unwrap()), number));
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
    };
    for (how, drain) in [selecting, ready, awaiting, sleeping].into_iter().enumerate() {
        let address = address("listening", "unbounded");
        let (sender, mut receiver) = Link::new(&address).unwrap().pair().unwrap();
        let pool = || Link::new(&address).unwrap().info().unwrap().pool;
        within(LIMIT, || {
            for refused in [false, true] {
                (0..40).for_each(|number| sender.send(&stamped(number, 1 << 20)).unwrap());
                assert!(pool().committed >= 40 << 20);
                let file = file_to_lock(&address);
                let lock =
                    refused.then(|| ofd_lock::try_lock(file.as_fd(), Kind::Write, GROW_BYTE..=GROW_BYTE).unwrap());
                drain(&mut receiver, 40);
                if refused {
                    assert!(pool().committed >= 40 << 20);
                    drop(lock);
                    drain(&mut receiver, 0);
                }
                // Whoever else looks after the link may have had the lock at that moment: then the next look gives it back.
                let given_back = || pool().used == 0 && pool().committed <= 16 << 20;
                (0..20).take_while(|_| !given_back()).for_each(|_| drain(&mut receiver, 0));
                assert!(given_back(), "{how}, {refused}: {:?}", pool());
            }
        });
    }
}

/// A message in hand keeps the memory from its place on: looking again and again for others costs no more for that. Taking a lock opens the file anew.
#[test]
fn a_message_that_is_held_costs_no_lock_at_each_look() {
    let address = address("held", TINY);
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    let (file, inotify) = (file_to_lock(&address), Inotify::new().unwrap());
    let opened = || !inotify.read().unwrap().unwrap().is_empty();
    for is_shared in [false, true] {
        let another = is_shared.then(|| receiver.try_clone().unwrap());
        let receiver = another.as_ref().unwrap_or(&receiver);
        for held in [0, 40, 64] {
            (0..200).for_each(|number| sender.send(&stamped(number, 8)).unwrap());
            let before = allocated(&address);
            let take = |count| (0..count).for_each(|_| drop(receiver.recv().unwrap()));
            take(held);
            let message = receiver.recv().unwrap();
            take(199 - held);
            let nothing = || assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
            nothing();
            let watch = inotify.watch_open(file.as_fd()).unwrap();
            (0..100).for_each(|_| nothing());
            assert!(!opened(), "{held}");
            drop(message);
            nothing();
            assert!(opened(), "now there is something to give back");
            inotify.unwatch(watch);
            let _ = inotify.read();
            assert!(allocated(&address) < before, "{} of {before}", allocated(&address));
        }
    }
}

fn file_to_lock(address: &str) -> File {
    File::options().read(true).write(true).open(place::file_of(address)).unwrap()
}

/// Somebody is stopped while memory is its business: who does not wait is told, who waits for a time waits no longer.
#[test]
fn nobody_waits_for_one_that_is_stopped() {
    let address = address("stopped", "unbounded&participants=8");
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    let file = file_to_lock(&address);
    for len in [8, 5000] {
        let lock = ofd_lock::try_lock(file.as_fd(), Kind::Write, GROW_BYTE..=GROW_BYTE).unwrap();
        within(LIMIT, || {
            let message = vec![7; len];
            let sent = (0..).find(|_| sender.try_send(&message).is_err()).unwrap();
            for _ in 0..20 {
                let error = sender.try_send(&message).unwrap_err();
                assert!(matches!(error.reason(), SendFailure::NoRoom { .. }), "{error}");
                assert!(error.to_string().contains("ginnel info"), "{error}");
                let error = sender.send_timeout(&message, SHORT).unwrap_err();
                assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
                assert!(error.to_string().contains("ginnel info"), "{error}");
            }
            (0..sent).for_each(|_| assert_eq!(receiver.recv().unwrap().len(), len));
            for _ in 0..5000 {
                assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
            }
            drop(lock);
            (0..=sent).for_each(|_| sender.try_send(&message).unwrap());
            (0..=sent).for_each(|_| assert_eq!(receiver.recv().unwrap().len(), len));
        });
    }
}

/// Somebody is stopped in the middle of an operation on a side that was its own: that is what is said, of a link that grows too.
#[test]
fn a_side_that_changes_hands_is_not_taken_for_one_that_grows() {
    for options in ["unbounded", "capacity=64"] {
        let address = address("turn", &format!("{options}&participants=8&max=64"));
        let (owner, _receiver) = Link::new(&address).unwrap().pair().unwrap();
        let other = owner.try_clone().unwrap();
        within(LIMIT, || {
            (0..5).for_each(|_| owner.send(b"mine").unwrap());
            let file = file_to_lock(&address);
            let is_its = |at: &u64| {
                let mut work = [0; 8];
                file.read_exact_at(&mut work, *at).unwrap();
                u64::from_le_bytes(work) == 5 << 1 // its messages
            };
            // See docs/format.md: the work word of its entry.
            let at = (0..8).map(|number| 4096 + number * 256 + 128).find(is_its).unwrap();
            let set = |busy: u64| file.write_all_at(&(5 << 1 | busy).to_le_bytes(), at).unwrap();
            set(1);
            if options == "unbounded" {
                let error = other.try_send(b"x").unwrap_err();
                assert!(matches!(error.reason(), SendFailure::NoRoom { limit: "turn", value: 1 }), "{error}");
                assert!(error.to_string().contains("ginnel info"), "{error}");
            }
            let error = other.send_timeout(b"x", SHORT).unwrap_err();
            assert!(matches!(error.reason(), SendFailure::TimedOut { limit: "turn", value: 1 }), "{error}");
            assert!(error.to_string().contains("ginnel info") && !error.to_string().contains("memory"), "{error}");
            set(0);
            other.send(b"x").unwrap();
            owner.send(b"x").unwrap();
        });
    }
}

/// Sends until that fails; how many were sent, and why no more.
fn fill(sender: &Sender, first: u64, len: usize) -> (u64, SendFailure) {
    for number in first.. {
        if let Err(error) = sender.send(&stamped(number, len)) {
            let text = error.to_string();
            return match error.reason() {
                SendFailure::NoMemory { ceiling } => (number - first, SendFailure::NoMemory { ceiling: *ceiling }),
                _ => panic!("{text}"),
            };
        }
    }
    unreachable!()
}

/// At the ceiling a sender does not wait: it is told. Then it goes on as soon as there is room, lap after lap.
#[test]
fn the_ceiling_is_an_error() {
    let shm = address("ceiling", "unbounded&memory=64KiB&max=8&senders=3");
    for address in [private(&shm), shm] {
        let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
        let other = sender.try_clone().unwrap();
        within(LIMIT, || {
            let mut next = 0;
            for round in 0..40u64 {
                let sender = if round % 3 == 0 { &other } else { &sender };
                let (sent, why) = fill(sender, next, 8);
                assert!(matches!(why, SendFailure::NoMemory { ceiling: 65_536 }), "{why:?}");
                assert!((1500..=2048).contains(&sent), "{sent} of 2048 slots in round {round}");
                assert!(sender.is_full() && allocated(&address) <= (64 + 60) << 10, "{}", allocated(&address));
                assert_eq!(receiver.len(), sent);
                for number in next..next + sent {
                    assert_eq!(number_in(&receiver.recv().unwrap()), number);
                }
                assert!(receiver.is_empty() && !sender.is_full());
                next += sent;
            }
        });
    }
}

/// Blocks and slots share the ceiling; either can have what the other has given back.
#[test]
fn blocks_and_slots_share_the_ceiling() {
    let address = address("shared-ceiling", TINY);
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    within(LIMIT, || {
        for len in [8, 4000, 8, 200, 112, 4000] {
            let (sent, _) = fill(&sender, 0, len);
            let each = if len > 112 { len.next_power_of_two() } else { 128 };
            assert!(sent as usize * each >= 120 << 10, "{sent} of {len} bytes");
            (0..sent).for_each(|number| assert_eq!(number_in(&receiver.recv().unwrap()), number));
        }
    });
}

/// Handles come and go, so both sides change hands; messages are held and released in any order.
#[test]
fn a_random_run_agrees_with_a_queue() {
    for seed in 0..8 * scale() {
        let mut dice = Dice::new(seed);
        let address = address("oracle", TINY);
        let (mut senders, mut receivers) = (vec![Sender::open(&address).unwrap()], Vec::new());
        receivers.push(Box::leak(Box::new(Receiver::open(&address).unwrap())) as &Receiver);
        let mut held: Vec<Message<'_>> = Vec::new();
        let (mut oracle, mut next) = (VecDeque::new(), 0u64);
        within(LIMIT, || {
            for _ in 0..3000 {
                match dice.below(40) {
                    0 if senders.len() < 4 => senders.push(senders[0].try_clone().unwrap()),
                    1 if senders.len() > 1 => drop(senders.swap_remove(dice.index(senders.len()))),
                    2 if receivers.len() < 4 => {
                        receivers.push(Box::leak(Box::new(receivers[0].try_clone().unwrap())));
                    }
                    3..=12 => {
                        let sender = &senders[dice.index(senders.len())];
                        for _ in 0..dice.below(60) {
                            let len = dice.pick(&[8, 8, 8, 100, 112, 113, 1000, 4096]);
                            match sender.send(&stamped(next, len)) {
                                Ok(()) => oracle.push_back((next, len)),
                                Err(e) => assert!(matches!(e.reason(), SendFailure::NoMemory { .. }), "{seed}: {e}"),
                            }
                            next += 1;
                        }
                    }
                    13..=30 => {
                        let receiver = receivers[dice.index(receivers.len())];
                        for _ in 0..dice.below(40) {
                            let Some((number, len)) = oracle.pop_front() else { break };
                            let message = receiver.try_recv().unwrap();
                            assert_eq!((number_in(&message), message.len()), (number, len), "seed {seed}");
                            if dice.one_in(50) {
                                held.push(message);
                            }
                        }
                        assert_eq!(receiver.len(), oracle.len() as u64, "seed {seed}");
                    }
                    _ if !held.is_empty() => {
                        let message = held.swap_remove(dice.index(held.len()));
                        number_in(&message);
                    }
                    _ => {}
                }
            }
            held.clear();
            let all: Vec<_> = receivers[0].try_iter().map(|m| (number_in(&m), m.len())).collect();
            assert_eq!(all, Vec::from(oracle), "seed {seed}");
        });
    }
}

/// Who is slow, and who is fast, changes all the time; memory is given back while others are at work.
#[test]
fn many_senders_and_receivers() {
    const EACH: u64 = 40_000;
    for (senders, receivers) in [(1, 1), (3, 1), (1, 3), (3, 3)] {
        let address = address("crowd", "unbounded&memory=16MiB&max=300&participants=16");
        let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
        let (count, sum) = (AtomicU64::new(0), AtomicU64::new(0));
        within(2 * LIMIT, || {
            std::thread::scope(|scope| {
                for first in 0..senders {
                    let sender = sender.try_clone().unwrap();
                    scope.spawn(move || {
                        let mut dice = Dice::new(first);
                        for number in (0..EACH).map(|n| n * senders + first) {
                            let len = if dice.one_in(8) { 300 } else { 8 };
                            while let Err(e) = sender.send(&stamped(number, len)) {
                                assert!(matches!(e.reason(), SendFailure::NoMemory { .. }), "{e}");
                                std::thread::yield_now();
                            }
                        }
                    });
                }
                drop(sender);
                for _ in 0..receivers {
                    let (receiver, count, sum) = (receiver.try_clone().unwrap(), &count, &sum);
                    scope.spawn(move || {
                        let mut last = vec![None; senders as usize];
                        for message in receiver.iter() {
                            let number = number_in(&message);
                            let from = &mut last[(number % senders) as usize];
                            assert!(from.is_none_or(|before| before < number), "{number} after {from:?}");
                            *from = Some(number);
                            count.fetch_add(1, Ordering::Relaxed);
                            sum.fetch_add(number, Ordering::Relaxed);
                        }
                    });
                }
            });
        });
        let all = senders * EACH;
        assert_eq!((count.into_inner(), sum.into_inner()), (all, all * (all - 1) / 2), "{senders}:{receivers}");
        drop(receiver);
    }
}

/// Killed while they send, receive, grow and give back: what survivors send and receive is whole, once, in order.
#[test]
fn killed_peers_harm_nobody() {
    let directory = place::new_directory();
    let mut dice = Dice::new(7);
    let mut survivor = Child::start("script", directory.path());
    survivor.reply().ok();
    survivor.must(&format!("sender open shm:x?{TINY}"));
    survivor.must("receiver open shm:x");
    for round in 0..20 * scale() {
        let mut victim = Child::start("script", directory.path());
        victim.reply().ok();
        let end = if dice.one_in(2) { "receiver" } else { "sender" };
        victim.must(&format!("{end} open shm:x"));
        victim.tell(if end == "sender" { "flood 64" } else { "sweep" });
        for turn in 0..dice.below(5) {
            // The victim may have filled all that there may be.
            let sent = survivor.ask(&format!("send 40 64 {}", 1000 * round + 100 * turn));
            assert!(sent.text().starts_with("ok") || sent.err()[0].contains("NoMemory"), "{}", sent.text());
            victim.tell(if end == "sender" { "flood 64" } else { "sweep" });
        }
        victim.kill_and_reap();
        // What it held has gone back when nothing is left of it.
        within(LIMIT, || {
            while survivor.must("info shm:x").matches(['+', '-']).count() > 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        survivor.must("sweep");
        survivor.must(&format!("send 300 64 {round}"));
        assert_eq!(survivor.must("sweep"), "300", "round {round}");
    }
    survivor.must("close");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "something was left");
}

/// A file system of a few MiB runs full: that is an error, nothing is lost, nobody is killed, and after the drain it goes on.
#[test]
fn a_full_file_system_is_an_error() {
    let directory = place::new_directory();
    let mut child = Child::start("script", directory.path());
    child.reply().ok();
    let mounted = child.ask(&format!("tmpfs {} 4194304", directory.path().display()));
    if !mounted.text().starts_with("ok") {
        return place::skipped(mounted.text());
    }
    child.must("sender open shm:x?unbounded&max=64KiB&participants=8");
    child.must("receiver open shm:x");
    for (round, bytes) in [64, 64, 3000, 60_000, 64, 64].into_iter().enumerate() {
        let filled = child.must(&format!("fill {bytes}"));
        let (count, why) = filled.split_once(' ').unwrap();
        assert!(why.contains("no memory could be committed") && why.contains("ginnel clean"), "{why}");
        assert!(count.parse::<u64>().unwrap() * bytes >= 1 << 19, "round {round}: {count} messages of {bytes} bytes");
        assert_eq!(child.must("sweep"), count, "round {round}");
    }
    // One more sender, and a second receiver: the sides are shared now.
    child.must("sender open shm:x");
    child.must("receiver open shm:x");
    for round in 0..3 {
        let filled = child.must("fill 64");
        assert_eq!(Some(child.must("sweep").as_str()), filled.split(' ').next(), "round {round}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (options, names) in [
        ("unbounded&capacity=16", "capacity="),
        ("unbounded&full=reject", "full="),
        ("unbounded&full=drop-oldest", "full="),
        ("unbounded=maybe", "unbounded"),
    ] {
        let error = Link::new(&address("senseless", options)).unwrap_err().to_string();
        assert!(error.contains(names) && error.contains("memory=") || error.contains("write"), "{error}");
    }
    let error = Link::new(&address("senseless", "unbounded")).unwrap().capacity(4).sender().unwrap_err().to_string();
    assert!(error.contains("capacity=") && error.contains("memory="), "{error}");
    let error = Sender::open(&address("too-little", "unbounded&memory=4KiB")).unwrap_err().to_string();
    assert!(error.contains("memory="), "{error}");

    let bounded = address("bounded", "");
    let _sender = Sender::open(&bounded).unwrap();
    let error = Receiver::open(&format!("{bounded}?unbounded")).unwrap_err().to_string();
    assert!(error.contains("unbounded=false") && error.contains("unbounded=true"), "{error}");
    let unbounded = address("unbounded", "unbounded");
    let _sender = Sender::open(&unbounded).unwrap();
    Receiver::open(unbounded.split('?').next().unwrap()).unwrap();
    Receiver::open(&unbounded).unwrap();
}
