//! UDP, whose network may lose, double and reorder, and signals, which carry a number: what little they promise, cell by cell. What their
//! row calls *not* is not promised, so there is nothing to check.

use super::freight::{Ledger, message};
use super::ground::{LATE, LIMIT, SHORT, eventually, fill};
use super::promises::takes;
use super::table::Degree::{self, Kept, SoFar};
use crate::child::Child;
use crate::place;
use ginnel::ErrorKind::{AlreadyExists, InvalidOption};
use ginnel::{Link, Receiver, RecvFailure, SendFailure, Sender};
use ginnel_os::signal::Signal;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A port of this test alone: the whole of 127/8 is this host.
pub(super) fn host() -> String {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let (pid, number) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{number}:4711", 1 + pid / 250 % 250, pid % 250)
}

pub(super) fn udp(column: &str, degree: Degree) {
    let address = format!("udp://{}", host());
    let (receiver, sender) = (Receiver::open(&address).unwrap(), Sender::open(&address).unwrap());
    match (column, degree) {
        (_, Degree::Not) if column != "several receivers" => {}
        ("establish once", SoFar) | ("several receivers", Degree::Not) => {
            assert_eq!(Receiver::open(&address).unwrap_err().kind(), AlreadyExists);
        }
        ("whole", Kept) => {
            for len in [0, 1, 1500, 65_507] {
                sender.send(&vec![7; len]).unwrap();
                assert_eq!(*receiver.recv_timeout(LATE).unwrap(), vec![7; len]);
            }
        }
        // What this host throws away of somebody who does not look is counted.
        ("nothing lost silently", SoFar) => {
            let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut sent = 0;
            while receiver.dropped() == 0 {
                stranger.send_to(&[1; 1000], address.trim_start_matches("udp://")).unwrap();
                sent += 1;
            }
            let came = receiver.try_iter().count() as u64;
            assert!(eventually(|| came + receiver.dropped() == sent), "{came} of {sent}, {}", receiver.dropped());
        }
        ("bounded", SoFar) => {
            let sent = fill(&sender, 1000);
            assert!(sent > 50, "{sent}");
            assert_eq!((receiver.try_iter().count(), receiver.dropped()), (sent as usize, 0));
            sender.send(b"there is room again").unwrap();
        }
        ("time", Kept) => {
            assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
        }
        ("lifetime", Kept) => {
            drop(receiver);
            Receiver::open(&address).unwrap(); // nothing keeps the name
        }
        ("errors", Kept) => {
            let text = sender.send(&[0; 65_508]).unwrap_err().to_string();
            assert!(text.contains(&address) && text.contains("65507") && text.contains(';'), "{text}");
            let error = Sender::open(&format!("{address}?max=1MiB")).unwrap_err();
            assert_eq!(error.kind(), InvalidOption, "{error}");
        }
        ("several senders", Kept) => {
            Sender::open(&address).unwrap().send(b"1").unwrap();
            sender.send(b"2").unwrap();
            assert_eq!([&*receiver.recv_timeout(LATE).unwrap(), &*receiver.recv_timeout(LATE).unwrap()], [b"1", b"2"]);
        }
        ("largest message", _) => assert_eq!(sender.max_message(), 65_507),
        _ => panic!("{column} of udp has no check as {degree:?}"),
    }
}

/// Four at once, and a receiver that often has something else to do: on one host nothing is thrown away.
#[test]
fn senders_on_the_same_host_do_not_overrun_a_slow_receiver() {
    let _limit = place::limit(LIMIT);
    let address = format!("udp://{}", host());
    std::thread::scope(|scope| {
        let receiver = Receiver::open(&address).unwrap();
        for who in 0..4 {
            let sender = Sender::open(&address).unwrap();
            scope.spawn(move || (0..2_000).for_each(|number| sender.send(&message(who, number, 8_000)).unwrap()));
        }
        let mut ledger = Ledger::default();
        for count in 1..=8_000 {
            ledger.enter(&receiver.recv_timeout(LATE).unwrap_or_else(|e| panic!("{e}; until then {ledger}")));
            if count % 1_000 == 0 {
                std::thread::sleep(SHORT);
            }
        }
        assert_eq!(receiver.dropped(), 0);
    });
}

/// Who is refused and follows waits for the next receiver, and says how many were lost until it knew.
#[test]
fn a_sender_of_datagrams_that_follows_waits_for_the_next_receiver() {
    let _limit = place::limit(LIMIT);
    let address = format!("udp://{}", host());
    let sender = Sender::open(&format!("{address}?follow")).unwrap();
    sender.send(b"nobody is there").unwrap();
    let error = takes(SHORT, || sender.send_timeout(b"kept", SHORT)).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::TimedOut { limit: "receivers", .. }), "{error}");
    assert_eq!(sender.dropped(), 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SHORT);
            let receiver = Receiver::open(&address).unwrap();
            assert_eq!(*receiver.recv_timeout(LATE).unwrap(), *b"kept");
        });
        sender.send_timeout(b"kept", LATE).unwrap();
    });
    assert_eq!(sender.dropped(), 1);
    let other = Sender::open(&format!("udp://{}", host())).unwrap();
    other.send(b"nobody is there").unwrap();
    assert!(matches!(other.send(b"here neither").unwrap_err().reason(), SendFailure::Closed { .. }));
}

pub(super) fn signal(column: &str, degree: Degree) {
    let number = Signal::real_time(5).unwrap().number();
    let mut child = Child::start_blocking("porter", place::home(), number);
    child.reply().ok();
    child.must("receiver signal:?number=RTMIN+5");
    let address = format!("signal:{}?number=RTMIN+5", child.pid());
    let sender = Sender::open(&address).unwrap();
    match (column, degree) {
        (_, Degree::Not) => {}
        ("whole" | "order", Kept) => {
            let all = ["0", "-2147483648", "2147483647", "42"];
            all.iter().for_each(|text| sender.send(text).unwrap());
            all.iter().for_each(|text| assert_eq!(child.must("text"), *text));
        }
        ("bounded", SoFar) => {
            let error = Link::new(&format!("{address}&full=drop-oldest")).unwrap().sender().unwrap_err();
            assert_eq!(error.kind(), InvalidOption);
        }
        ("end" | "several senders", _) => {
            let other = Sender::open(&address).unwrap();
            sender.send("1").unwrap();
            drop(sender);
            other.send("2").unwrap();
            assert_eq!((child.must("text"), child.must("text")), ("1".to_owned(), "2".to_owned()));
            drop(other);
            assert!(child.ask("text").text().contains("the last sender has left"));
        }
        ("time", Kept) => {
            assert!(child.must("early 100").parse::<u32>().unwrap() >= 100);
        }
        ("death" | "nothing lost silently", SoFar) => {
            sender.send("1").unwrap();
            child.kill_and_reap();
            let error = takes(Duration::ZERO, || sender.send("2")).unwrap_err();
            assert!(matches!(error.reason(), SendFailure::Closed { .. }), "{error}");
        }
        ("lifetime", Kept) => {
            let ends = || std::fs::read_dir(place::home().join("?ends")).unwrap().flatten();
            let name = format!("signal-{}-", child.pid());
            let left = || ends().any(|entry| entry.file_name().to_string_lossy().contains(&name));
            assert!(left());
            drop(sender);
            child.must("close");
            assert!(!left());
        }
        ("errors", Kept) => {
            let text = sender.send("no number").unwrap_err().to_string();
            assert!(text.contains(&format!("signal:{}", child.pid())) && text.contains("2147483647"), "{text}");
        }
        ("largest message", _) => assert_eq!(sender.max_message(), 11),
        _ => panic!("{column} of signal has no check as {degree:?}"),
    }
}
