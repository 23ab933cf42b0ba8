//! Much, large, many, empty, framed otherwise; under a storm of signals; and waits that an interrupter ends.
//!
//! That the wall clock may step needs no test: no wait of a link sees it. Deadlines are `Instant`s, `CLOCK_MONOTONIC`, turned into what is left of
//! them for `poll(2)`, which counts on the same clock; no call that takes wall-clock time (`mq_timedreceive`) is used.

use super::freight::{Ledger, message};
use super::ground::Mechanism::{Fifo, Mq, Pipe, Stream, Tcp};
use super::ground::{ALL, Ground, LATE, LIMIT, NAMED, SHORT, drain};
use super::promises::takes;
use crate::child::Child;
use crate::place;
use ginnel::{RecvFailure, SendFailure};
use std::time::Duration;

/// Ends that take their time.
const LONG: Duration = Duration::from_secs(110);

/// 64 MiB of random bytes in messages of random length, each byte checked.
#[test]
fn much_goes_through() {
    let _limit = place::limit(3 * LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (mut receiver, mut sender) = (ground.receiving_child(""), ground.sending_child(""));
        ground.let_go();
        let bytes = (64 << 20) * place::scale();
        sender.tell(&format!("bulk 1 {bytes} {}", mechanism.large()));
        receiver.tell("drain");
        let sent = sender.reply_within(LONG).ok();
        sender.must("close");
        assert_eq!(receiver.reply_within(LONG).ok(), sent, "{}", mechanism.name());
    }
}

/// Six processes send large messages at once: on a FIFO their pieces mix.
#[test]
fn many_senders_of_large_messages_do_not_tear_them() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let receiver = ground.receiver("");
        let mut senders: Vec<Child> = (0..6).map(|_| ground.sending_child("")).collect();
        ground.let_go();
        for (who, sender) in (0..).zip(&mut senders) {
            sender.tell(&format!("send {who} 60 {}", mechanism.large()));
        }
        let ledger = std::thread::scope(|scope| {
            let reader = scope.spawn(move || drain(&receiver));
            for mut sender in senders {
                sender.reply_within(LONG).ok();
                sender.finish();
            }
            reader.join().unwrap()
        });
        assert!((0..6).all(|who| ledger.of(who) == 60), "{}: {ledger}", mechanism.name());
    }
}

/// Where several may receive, each message goes to one of them.
#[test]
fn several_receivers_share_and_get_nothing_twice() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL.into_iter().filter(|one| one.is_shared()) {
        let ground = Ground::new(mechanism);
        let mut receivers: Vec<Child> = (0..3).map(|_| ground.receiving_child("")).collect();
        let mut senders: Vec<Child> = (0..3).map(|_| ground.sending_child("")).collect();
        receivers.iter_mut().for_each(|receiver| receiver.tell("sweep"));
        for (who, sender) in (0..).zip(&mut senders) {
            sender.tell(&format!("send {who} 500 {}", mechanism.large().min(20_000)));
        }
        for mut sender in senders {
            sender.reply_within(LONG).ok();
            sender.finish();
        }
        let got: u32 =
            receivers.iter_mut().map(|receiver| receiver.reply_within(LONG).ok().parse::<u32>().unwrap()).sum();
        assert_eq!(got, 1500, "{}", mechanism.name());
        drop(receivers);
    }
}

/// An empty message is a message, also the first one of a connection that nobody has accepted yet, and the last one before the end.
#[test]
fn empty_messages_arrive() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver(""), ground.sender(""));
        ground.let_go();
        for bytes in [&b""[..], b"", b"x", b""] {
            sender.send(bytes).unwrap();
        }
        drop(sender);
        let lens: Vec<usize> = receiver.iter().map(|message| message.len()).collect();
        assert_eq!(lens, [0, 0, 1, 0], "{}", mechanism.name());
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    }
}

/// A signal each millisecond to both processes, without `SA_RESTART`: nothing is lost, torn or sent twice, and no time-out is early.
#[test]
fn a_storm_of_signals_changes_nothing() {
    let _limit = place::limit(2 * LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (mut receiver, mut sender) = (ground.receiving_child(""), ground.sending_child(""));
        ground.let_go();
        receiver.must("storm");
        sender.must("storm");
        let waited: u64 = receiver.must("early 200").parse().unwrap();
        assert!(waited >= 200, "{}: {waited} ms", mechanism.name());
        sender.tell(&format!("bulk 1 {} {}", 8 << 20, mechanism.large()));
        receiver.tell("drain");
        let sent = sender.reply_within(LONG).ok();
        sender.must("close");
        assert_eq!(receiver.reply_within(LONG).ok(), sent, "{}", mechanism.name());
        assert!(receiver.must("signals").parse::<u32>().unwrap() > 100);
    }
}

/// Interrupted waits send and take nothing, and the next ones are not touched.
#[test]
fn an_interrupter_ends_one_wait() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (sender, receiver) = ground.full("");
        let (of_sender, of_receiver) = (sender.interrupter(), receiver.interrupter());
        let error = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(SHORT);
                of_sender.interrupt();
            });
            takes(Duration::ZERO, || sender.send(&[1; 1000])).unwrap_err()
        });
        assert!(matches!(error.reason(), SendFailure::Interrupted), "{error}");
        let mut ledger = Ledger::shared();
        while let Ok(message) = receiver.recv_timeout(SHORT) {
            ledger.enter(&message);
        }
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(SHORT);
                of_receiver.interrupt();
            });
            assert_eq!(takes(Duration::ZERO, || receiver.recv()).unwrap_err(), RecvFailure::Interrupted);
        });
        assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
        sender.send(&message(1, 0, 100)).unwrap();
        assert_eq!(&*receiver.recv().unwrap(), message(1, 0, 100), "{}", mechanism.name());
    }
}

/// A message of which a part is on its way when the interruption comes goes on when it is sent again, and arrives once.
#[test]
fn an_interrupted_message_is_sent_once() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL.into_iter().filter(|one| one.is_framed()) {
        let mut ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver(""), ground.sender(""));
        ground.let_go();
        let (interrupter, large) = (sender.interrupter(), message(1, 0, 8 << 20));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(SHORT);
                interrupter.interrupt();
            });
            let error = takes(Duration::ZERO, || sender.send(&large)).unwrap_err();
            assert!(matches!(error.reason(), SendFailure::Interrupted), "{error}");
        });
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send(&large).unwrap());
            assert_eq!(drain(&receiver).of(1), 1, "{}", mechanism.name());
        });
    }
}

/// A large message of a sender that is killed half-way vanishes; those of others that came in between arrive.
#[test]
fn half_a_message_is_none() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL.into_iter().filter(|one| one.is_framed()) {
        let mut ground = Ground::new(mechanism);
        let receiver = ground.receiver("");
        let (mut killed, mut other) = (ground.sending_child(""), ground.sending_child(""));
        ground.let_go();
        killed.tell("exact 1 1 16000000"); // more than fits: it waits in the middle
        std::thread::sleep(SHORT);
        other.tell("exact 2 5 100000");
        std::thread::sleep(SHORT);
        killed.kill_and_reap();
        let ledger = std::thread::scope(|scope| {
            let reader = scope.spawn(move || drain(&receiver));
            other.reply().ok();
            other.finish();
            reader.join().unwrap()
        });
        assert_eq!((ledger.of(1), ledger.of(2)), (0, 5), "{}", mechanism.name());
    }
}

#[test]
fn lines_and_raw_bytes() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Pipe, Fifo, Stream, Tcp] {
        let mut ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver("frame=line&max=20"), ground.sender("frame=line"));
        ground.let_go();
        for line in ["one", "", "three"] {
            sender.send(line).unwrap();
        }
        let error = sender.send("two\nlines").unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Unfit(_)), "{error}");
        sender.send("longer than the twenty bytes that may be").unwrap();
        for line in ["one", "", "three"] {
            assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), line.as_bytes());
        }
        let error = receiver.recv_timeout(LATE).unwrap_err();
        assert!(matches!(error.reason(), RecvFailure::Malformed { len: 40 }), "{error:?}");
        let mut ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver("frame=raw"), ground.sender("frame=raw"));
        ground.let_go();
        let error = sender.send("").unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Unfit(_)), "an empty message would be lost: {error}");
        let bytes = message(1, 0, 150_000);
        std::thread::scope(|scope| {
            let bytes = &bytes;
            scope.spawn(move || sender.send(bytes).unwrap());
            let mut got = Vec::new();
            receiver.iter().for_each(|piece| got.extend_from_slice(&piece));
            assert!(got == message(1, 0, 150_000), "{}", mechanism.name());
        });
    }
}

/// Messages of a higher priority overtake; those of the same one keep their order.
#[test]
fn priorities_order_the_messages_of_a_posix_queue() {
    let ground = Ground::new(Mq);
    let receiver = ground.receiver("");
    let (low, high) = (ground.sender("priority=1"), ground.sender("priority=9"));
    for number in 0..3 {
        low.send(&message(1, number, 20)).unwrap();
        high.send(&message(9, number, 20)).unwrap();
    }
    let mut ledger = Ledger::default();
    for expected in [9, 9, 9, 1, 1, 1] {
        let message = receiver.recv().unwrap();
        assert_eq!(message.priority(), expected);
        ledger.enter(&message);
    }
}

/// Not a bit of time is used while nothing comes, by either end.
#[test]
fn who_waits_is_idle() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let mut receiver = ground.receiving_child("");
        let sender = ground.sender("");
        ground.let_go();
        sender.send(&message(1, 0, 100)).unwrap();
        receiver.must("recv 1");
        assert_eq!(receiver.must("idle"), "true", "{}", mechanism.name());
    }
}

/// Very many messages between many pairs of handles, to and fro: a wake-up that is lost shows as a time-out.
#[test]
fn no_wake_up_is_lost() {
    let _limit = place::limit(2 * LIMIT);
    for mechanism in NAMED {
        let (there, back) = (Ground::new(mechanism), Ground::new(mechanism));
        let rounds = 2_000 * place::scale() as u32;
        std::thread::scope(|scope| {
            let (first, second) = (there.receiver(""), back.receiver(""));
            let (to_first, to_second) = (there.sender(""), back.sender(""));
            scope.spawn(move || {
                for _ in 0..rounds {
                    let came = first.recv_timeout(LATE * 5).unwrap_or_else(|e| panic!("{e}"));
                    to_second.send(&came).unwrap();
                }
            });
            for number in 0..rounds {
                to_first.send(&message(1, number, 12 + number as usize % 100)).unwrap();
                let came = second.recv_timeout(LATE * 5).unwrap_or_else(|e| panic!("{e}"));
                assert!(*came == message(1, number, 12 + number as usize % 100));
            }
        });
    }
}

/// A full link, and a sender and a receiver that both wait now and then.
#[test]
fn no_wake_up_for_room_is_lost() {
    let _limit = place::limit(2 * LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver(ground.small()), ground.sender(ground.small()));
        ground.let_go();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..3_000 {
                    let bytes = message(1, number, 3_000);
                    sender.send_timeout(&bytes, LATE * 5).unwrap_or_else(|e| panic!("{e}"));
                }
            });
            let mut ledger = Ledger::default();
            for number in 0..3_000 {
                if number % 97 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                ledger.enter(&receiver.recv_timeout(LATE * 5).unwrap_or_else(|e| panic!("{e}")));
            }
            assert_eq!(drain(&receiver).entries(), 0);
        });
    }
}
