//! A drained unbounded link gives its memory back, whoever should have done it: one who was refused the lock, has left, was killed, or never knew.
//!
//! Messages of 1 MiB have an extent each. 16 MiB of unused blocks may stay (see `shm/growth.rs`), so much more than that is sent each time.

use crate::child::Child;
use crate::place::{self, LIMIT, address, within};
use ginnel::{Link, Receiver, RecvFailure, Select, Sender};
use ginnel_core::GROW_BYTE;
use ginnel_os::ofd_lock::Token;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const LARGE: usize = 1 << 20;
const MANY: u64 = 24;
/// What may stay of blocks.
const SPARE: u64 = 16 << 20;
/// For what does not come.
const SHORT: Duration = Duration::from_millis(5);

fn committed(address: &str) -> u64 {
    Link::new(address).unwrap().info().unwrap().pool.committed
}

fn send_many(sender: &Sender, address: &str) {
    (0..MANY).for_each(|_| sender.send(&[0; LARGE]).unwrap());
    assert!(committed(address) >= MANY << 20);
}

fn take_many(receiver: &Receiver) {
    (0..MANY).for_each(|_| assert_eq!(receiver.recv().unwrap().len(), LARGE));
}

/// It is given back soon, without anybody doing anything more.
#[track_caller]
fn is_given_back(address: &str) {
    let until = Instant::now() + LIMIT / 3;
    while committed(address) > SPARE {
        assert!(Instant::now() < until, "{} bytes are kept", committed(address));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn grow_lock(address: &str) -> Token {
    let file = File::options().read(true).write(true).open(place::file_of(address)).unwrap();
    Token::take(file.as_fd(), GROW_BYTE).unwrap().expect("a lock that nobody has")
}

/// Whoever looks next, in whichever way, gives back what one could not who has left since.
#[test]
fn one_who_was_refused_leaves_it_to_others() {
    type Look = fn(&mut Receiver);
    let trying: Look = |receiver| assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    let waiting: Look = |receiver| assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
    let selecting: Look = |receiver| assert!(Select::new().recv(&*receiver).wait_timeout(SHORT).is_none());
    let polling: Look = |receiver| assert!(Select::new().recv(&*receiver).try_now().is_none());
    let leaving: Look = |receiver| drop(receiver.try_clone().unwrap());
    for (how, look) in [trying, waiting, selecting, polling, leaving].into_iter().enumerate() {
        let address = address("refused", "unbounded");
        let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
        let mut other = receiver.try_clone().unwrap();
        within(LIMIT, || {
            send_many(&sender, &address);
            take_many(&receiver);
            let lock = grow_lock(&address);
            drop(receiver); // waits for the lock for a while, and gives up
            assert!(committed(&address) > SPARE, "{how}");
            drop(lock);
            look(&mut other);
            is_given_back(&address);
        });
    }
}

/// Who only spins never comes to the look before a sleep.
#[test]
fn so_does_one_who_spins() {
    let address = address("spins", "unbounded&wait=spin");
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    within(LIMIT, || {
        send_many(&sender, &address);
        take_many(&receiver);
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
        is_given_back(&address);
        let waiting = std::thread::spawn(move || {
            (0..=MANY).for_each(|_| drop(receiver.recv().unwrap()));
            receiver
        });
        (0..MANY).for_each(|_| sender.send(&[0; LARGE]).unwrap());
        is_given_back(&address);
        sender.send(b"the last").unwrap();
        waiting.join().unwrap();
    });
}

/// Nobody looks any more: who has the lock when others are refused it, and has looked through the blocks already, gives back in their place.
#[test]
fn who_has_the_lock_gives_back_for_the_refused() {
    let address = address("at-once", "unbounded");
    let (sender, idle) = Link::new(&address).unwrap().pair().unwrap();
    within(LIMIT, || {
        for _ in 0..20 * place::scale() {
            let receivers = [(); 4].map(|()| idle.try_clone().unwrap());
            send_many(&sender, &address);
            let barrier = Barrier::new(receivers.len());
            std::thread::scope(|scope| {
                for receiver in receivers {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        let messages: Vec<_> = (0..MANY / 4).map(|_| receiver.recv().unwrap()).collect();
                        barrier.wait();
                        drop(messages);
                        drop(receiver);
                    });
                }
            });
            is_given_back(&address);
        }
    });
}

/// Who is told of the end looks no more, but keeps its handle.
#[test]
fn the_end_of_the_stream_gives_back() {
    type End = fn(&mut Receiver) -> RecvFailure;
    let receiving: End = |receiver| receiver.recv().unwrap_err().reason();
    let trying: End = |receiver| receiver.try_recv().unwrap_err().reason();
    let selecting: End = |receiver| Select::new().recv(&*receiver).wait().arrival.message().unwrap_err().reason();
    let awaiting: End = |receiver| smol::block_on(receiver.recv_async()).unwrap_err().reason();
    for (how, end) in [receiving, trying, selecting, awaiting].into_iter().enumerate() {
        let address = address("the-end", "unbounded");
        let (sender, mut receiver) = Link::new(&address).unwrap().pair().unwrap();
        within(LIMIT, || {
            send_many(&sender, &address);
            drop(sender);
            take_many(&receiver);
            assert_eq!(end(&mut receiver), RecvFailure::Closed { died: 0 }, "{how}");
            is_given_back(&address);
        });
    }
}

/// A look while messages are in hand finds nothing to give back. The next one does.
#[test]
fn what_was_in_hand_at_the_last_look_goes_at_the_next() {
    let address = address("in-hand", "unbounded");
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    within(LIMIT, || {
        send_many(&sender, &address);
        let messages: Vec<_> = (0..MANY).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        assert_eq!(committed(&address), MANY << 20);
        drop(messages);
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        is_given_back(&address);
    });
}

/// What was never sent has no receiver who would give it back. One who sleeps is told; else it goes with the sender.
#[test]
fn so_do_loans_that_were_not_sent() {
    let address = address("loans", "unbounded");
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    let borrow = |sender: &Sender| {
        let loans: Vec<_> = (0..MANY).map(|_| sender.loan(LARGE).unwrap()).collect();
        assert!(committed(&address) >= MANY << 20);
        drop(loans);
    };
    within(LIMIT, || {
        // It is dropped when it has got a message.
        let waiting = std::thread::spawn(move || receiver.recv().map(|message| message.len()));
        let slept = || Link::new(&address).unwrap().info().unwrap().participants.iter().any(|p| p.counters.slept > 0);
        while !slept() {
            std::thread::sleep(Duration::from_millis(1));
        }
        borrow(&sender);
        is_given_back(&address);
        sender.send(b"the last").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 8);
        let other = sender.try_clone().unwrap();
        borrow(&other);
        drop(other);
        is_given_back(&address);
        let other = sender.try_clone().unwrap();
        (0..MANY).for_each(|_| std::mem::forget(other.loan(LARGE).unwrap()));
        drop(other);
        is_given_back(&address);
    });
}

/// One is stopped inside an operation, so nothing of the ring can go. When it has come out of it, and nothing came of it that others would look for, it sees
/// to that itself.
#[test]
fn who_was_in_the_way_gives_back() {
    let address = address("inside", "unbounded&memory=256KiB&max=4KiB&participants=16");
    let (sender, receiver) = Link::new(&address).unwrap().pair().unwrap();
    let other = sender.try_clone().unwrap();
    let allocated = || Link::new(&address).unwrap().info().unwrap().allocated;
    within(LIMIT, || {
        (0..5).for_each(|_| other.send(b"its").unwrap());
        sender.send(b"its").unwrap();
        let file = File::options().read(true).write(true).open(place::file_of(&address)).unwrap();
        let is_its = |at: &u64| {
            let mut work = [0; 8];
            file.read_exact_at(&mut work, *at).unwrap();
            u64::from_le_bytes(work) == 5 << 1 // its messages
        };
        // See docs/format.md: the work word of its entry.
        let at = (0..16).map(|number| 4096 + number * 256 + 128).find(is_its).unwrap();
        let set = |busy: u64| file.write_all_at(&(5 << 1 | busy).to_le_bytes(), at).unwrap();
        set(1);
        (0..600).for_each(|_| sender.send(b"much").unwrap());
        let peak = allocated();
        (0..606).for_each(|_| drop(receiver.recv().unwrap()));
        (0..2).for_each(|_| assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty));
        assert_eq!(allocated(), peak);
        set(0);
        assert_eq!(other.len(), 0);
        assert!(allocated() < peak - (48 << 10), "{} of {peak}", allocated());
    });
}

/// The dead had taken everything, or borrowed it, and nobody else ever had a large message. The survivor sleeps, looks now and then, or is no receiver.
#[test]
fn what_the_dead_had_is_given_back() {
    for (end, orders) in [("receiver", "recv 24"), ("receiver", "hold 24"), ("sender", "loan 1048576")] {
        for survivor in ["sleeps", "looks", "sends"] {
            let directory = place::new_directory();
            let mut other = script(directory.path());
            let mut victim = script(directory.path());
            other.must("sender open shm:x?unbounded");
            if survivor != "sends" {
                other.must("receiver open shm:x");
            }
            victim.must(&format!("{end} open shm:x"));
            if end == "receiver" {
                other.must("send 24 1048576 0");
                victim.must(orders);
            } else {
                (0..MANY).for_each(|_| _ = victim.must(orders));
            }
            let kept = || std::fs::metadata(directory.path().join("x")).unwrap().blocks() * 512;
            assert!(kept() >= MANY << 20);
            if survivor == "sleeps" {
                other.tell("recv 25");
            }
            victim.kill_and_reap();
            let until = Instant::now() + LIMIT / 3;
            while kept() > SPARE + (4 << 20) {
                assert!(Instant::now() < until, "{end}, {orders}, {survivor}: {} bytes are kept", kept());
                match survivor {
                    "sleeps" => std::thread::sleep(Duration::from_millis(1)),
                    "looks" => _ = other.must("sweep"),
                    _ if orders == "hold 24" => {
                        other.must("receiver open shm:x"); // they went back
                        other.must("sweep");
                    }
                    _ => _ = other.must("sender open shm:x"),
                }
            }
        }
    }
}

fn script(directory: &Path) -> Child {
    let mut child = Child::start("script", directory);
    child.reply().ok();
    child
}
