//! `Select` and descriptors over links in shared memory: in turn, asleep, and beside each other in one process.

use crate::child::Child;
use crate::place::{self, LIMIT, address, number_in, scale, stamped};
use ginnel::call::{Client, Server};
use ginnel::mail::Mailbox;
use ginnel::stream::{Listener, Stream};
use ginnel::{Receiver, RecvFailure, Select, Sender};
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::poll;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn pairs(count: usize, options: &str) -> (Vec<Receiver>, Vec<Sender>) {
    let addresses: Vec<_> = (0..count).map(|_| address("several", options)).collect();
    let receivers = addresses.iter().map(|address| Receiver::open(address).unwrap()).collect();
    (receivers, addresses.iter().map(|address| Sender::open(address).unwrap()).collect())
}

#[test]
fn each_has_its_turn() {
    let (receivers, senders) = pairs(3, "capacity=64");
    for number in 0..64 {
        senders.iter().for_each(|sender| sender.send(&stamped(number, 8)).unwrap());
    }
    let mut select = Select::new();
    receivers.iter().for_each(|receiver| _ = select.add(receiver));
    let served: Vec<usize> = (0..30).map(|_| select.wait().index).collect();
    assert_eq!(served, [0, 1, 2].repeat(10));
    // One that is removed is passed over; one that has nothing too.
    select.remove(1);
    let served: Vec<usize> = (0..10).map(|_| select.wait().index).collect();
    assert_eq!(served, [0, 2].repeat(5));
}

/// A message comes to one link before another thread takes that of the other: one of them has one all the time, whenever a try looks at which.
#[test]
fn a_try_finds_the_message_that_is_in_one_of_them_all_the_time() {
    let _limit = place::limit(2 * LIMIT);
    let (receivers, senders) = pairs(2, "capacity=4");
    let (other, rounds) = (receivers[1].clone(), 2_000 * scale());
    let (begun, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait_for = |word: &AtomicU64, round: u64| {
        while word.load(Ordering::Acquire) < round {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let (to_first, to_second) = (senders[0].clone(), &senders[1]);
        scope.spawn(|| {
            let (to_first, other) = (to_first, other); // this thread's
            for round in 1..=rounds {
                wait_for(&begun, round);
                to_first.send(b"first").unwrap();
                _ = other.try_recv();
                done.store(round, Ordering::Release);
            }
        });
        for round in 1..=rounds {
            to_second.send(b"second").unwrap();
            begun.store(round, Ordering::Release);
            let found = Select::new().recv(&receivers[0]).recv(&receivers[1]).try_now();
            wait_for(&done, round);
            assert!(found.is_some(), "nothing in round {round}");
            drop(found);
            receivers.iter().for_each(|receiver| _ = receiver.try_iter().count());
        }
    });
}

/// More threads than cores, each with a select of its own over links of its own: whoever drains calls the others.
#[test]
fn selects_beside_each_other_miss_nothing() {
    let _limit = place::limit(2 * LIMIT);
    let count = 300 * scale();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (receivers, senders) = pairs(3, "capacity=4");
            scope.spawn(move || {
                let mut select = Select::new();
                receivers.iter().for_each(|receiver| _ = select.add(receiver));
                let mut next = [0; 3];
                while !select.is_empty() {
                    let found = select.wait();
                    match found.arrival.message() {
                        Ok(message) => {
                            assert_eq!(number_in(&message), next[found.index]);
                            next[found.index] += 1;
                        }
                        Err(_) => select.remove(found.index),
                    }
                }
                assert_eq!(next, [count; 3]);
            });
            scope.spawn(move || {
                for number in 0..count {
                    for (which, sender) in (0..).zip(&senders) {
                        if (number + which) % 5 == 0 {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                        sender.send(&stamped(number, 100)).unwrap();
                    }
                }
            });
        }
    });
}

/// Two descriptors of one process in two loops: a wake-up that one of them drains reaches the other.
#[test]
fn descriptors_beside_each_other_miss_nothing() {
    let _limit = place::limit(2 * LIMIT);
    let count = 500 * scale();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (mut receivers, mut senders) = pairs(1, "capacity=4");
            let (receiver, sender) = (receivers.remove(0), senders.remove(0));
            scope.spawn(move || {
                let ready = receiver.readiness().unwrap();
                let set = Epoll::new().unwrap();
                set.add(ready.as_fd(), Interest::Read, 0).unwrap();
                for number in 0..count {
                    let message = loop {
                        match ready.try_recv() {
                            Ok(message) => break message,
                            Err(e) if e == RecvFailure::Empty => _ = poll::readable(&[set.as_fd()], None).unwrap(),
                            Err(e) => panic!("{e}"),
                        }
                    };
                    assert_eq!(number_in(&message), number);
                }
            });
            scope.spawn(move || {
                let ready = sender.readiness().unwrap();
                for number in 0..count {
                    while !ready.try_send(&stamped(number, 100)).unwrap() {
                        poll::readable(&[ready.as_fd()], None).unwrap();
                    }
                    if number % 3 == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
                drop(ready);
                std::mem::forget(sender); // its receiver counts, and does not wait for the end
            });
        }
    });
}

/// A descriptor that is armed is not readable before there is something, and is after.
#[test]
fn a_descriptor_is_readable_when_there_is_something_and_not_before() {
    let _limit = place::limit(LIMIT);
    let (receivers, senders) = pairs(1, "");
    let ready = receivers[0].readiness().unwrap();
    for number in 0..100 {
        // Other tests of this process have news, too, which make it readable for a moment.
        assert_eq!(ready.try_recv().unwrap_err(), RecvFailure::Empty);
        senders[0].send(&stamped(number, 8)).unwrap();
        assert!(poll::readable(&[ready.as_fd()], None).unwrap());
        assert_eq!(number_in(&ready.try_recv().unwrap()), number);
    }
}

#[test]
fn a_death_ends_a_select() {
    let _limit = place::limit(LIMIT);
    for _ in 0..5 * scale() {
        let (receivers, _senders) = pairs(2, "");
        let dying = address("select-death", "");
        let receiver = Receiver::open(&dying).unwrap();
        let mut child = Child::start("script", place::home());
        child.reply().ok();
        child.must(&format!("sender open {dying}"));
        child.must("send 1 40 7");
        let mut select = Select::new().recv(&receivers[0]).recv(&receiver).recv(&receivers[1]);
        let first = select.wait();
        assert_eq!((first.index, number_in(&first.arrival.message().unwrap())), (1, 7));
        let killing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            child.kill();
            assert!(child.becomes_zombie());
            child
        });
        let end = select.wait();
        assert_eq!((end.index, end.arrival.message().unwrap_err().reason()), (1, RecvFailure::Closed { died: 1 }));
        drop(killing.join().unwrap());
    }
}

#[test]
#[should_panic(expected = "waits for ever")]
fn a_select_of_nothing_is_refused() {
    Select::new().wait();
}

/// Not a test: in a process of its own, where nobody else has news.
pub(crate) fn quiet() {
    let receivers: Vec<_> = (0..4).map(|n| Receiver::open(&format!("shm:quiet-{n}")).unwrap()).collect();
    let threads = Receiver::open("mem:quiet").unwrap();
    let (_writer, pipe) = ginnel::Link::new("pipe:").unwrap().pair().unwrap();
    let (server, mailbox) = (Server::open("shm:quiet-calls").unwrap(), Mailbox::open("quiet-mail").unwrap());
    let client = Client::open("shm:quiet-calls").unwrap();
    let call = client.begin(b"taken, and not answered").unwrap();
    let _request = server.recv().unwrap();
    let listener = Listener::bind("shm:quiet-desk").unwrap();
    let (stream, _other) = Stream::pair().unwrap();
    let mut select = Select::new().recv(&threads).recv(&pipe);
    select = select.recv(&server).recv(&call).recv(&mailbox).recv(&listener).recv(&stream);
    receivers.iter().for_each(|receiver| _ = select.add(receiver));
    assert!(select.wait_timeout(Duration::from_millis(1)).is_none());
    let before = place::switches();
    assert!(select.wait_timeout(Duration::from_millis(500)).is_none());
    let switches = place::switches() - before;
    assert!(switches <= 3, "its thread was run {switches} times");
    crate::child::say("ok done");
}

#[test]
fn a_select_that_waits_is_not_run() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    assert_eq!(Child::start("quiet", directory.path()).reply().ok(), "done");
}
