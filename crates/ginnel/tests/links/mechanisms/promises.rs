//! What each column of the table means, as a check that a mechanism passes in the degree that its cell says, and in no other.

use super::ends::eventually_a_receiver;
use super::freight::message;
use super::ground::{Ground, LATE, Mechanism, SHORT, drain, eventually, fill};
use super::table::Degree::{self, Kept, Not, SoFar};
use crate::place::within;
use ginnel::ErrorKind::{AlreadyExists, InvalidOption, NotFound, PermissionDenied, Unsupported};
use ginnel::{Link, Mode, RecvFailure, SendFailure, Sender};
use std::time::{Duration, Instant};

type Check = fn(Mechanism, Degree);

/// A check for each column, but the last.
pub(super) const CHECKS: [(&str, Check); 14] = [
    ("establish once", establish),
    ("whole", whole),
    ("order", order),
    ("nothing lost silently", lost),
    ("bounded", bounded),
    ("end", end),
    ("time", time),
    ("death", death),
    ("lifetime", lifetime),
    ("errors", errors),
    ("tags", tags),
    ("priority", priority),
    ("several senders", senders),
    ("several receivers", receivers),
];

/// Runs something that must take at least `least`, and not much longer.
#[track_caller]
pub(super) fn takes<R>(least: Duration, run: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = within(Duration::from_secs(30), run);
    let took = begin.elapsed();
    assert!(took >= least, "too early: {took:?} of {least:?}");
    assert!(took < least + LATE, "too late: {took:?} for {least:?}");
    result
}

#[track_caller]
fn no_such_degree(mechanism: Mechanism, degree: Degree) -> ! {
    panic!("nothing is known of a {} that is {degree:?} here", mechanism.name())
}

fn establish(mechanism: Mechanism, degree: Degree) {
    let ground = Ground::new(mechanism);
    match degree {
        // There is nothing to establish: whoever uses it was given a descriptor.
        Not => assert!(mechanism == Mechanism::Pipe && Link::new("pipe:1000000").unwrap().receiver().is_err()),
        Kept | SoFar => {
            assert_eq!(ground.try_sender(Mode::Join, "").unwrap_err().kind(), NotFound);
            let made = ground.try_receiver(Mode::Create, "");
            let by_sender = Ground::new(mechanism).try_sender(Mode::Create, "");
            match by_sender {
                Err(e) if degree == SoFar => assert_eq!(e.kind(), Unsupported),
                other => assert!(degree == Kept && other.is_ok(), "{other:?}"),
            }
            let made = made.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(ground.try_receiver(Mode::Create, "").unwrap_err().kind(), AlreadyExists);
            drop((ground.try_sender(Mode::Join, "").unwrap(), made));
            all_at_once(mechanism);
        }
    }
}

/// Who opens at once gets one link, whoever makes it.
fn all_at_once(mechanism: Mechanism) {
    let ground = Ground::new(mechanism);
    std::thread::scope(|scope| {
        for who in 0..6 {
            let ground = &ground;
            scope.spawn(move || ground.sender("").send(&message(who, 0, 100)).unwrap());
        }
        let receiver = ground.receiver("follow");
        let mut came: Vec<u32> = (0..6).map(|_| u32::from(receiver.recv_timeout(LATE).unwrap()[0])).collect();
        came.sort_unstable();
        assert_eq!(came, [0, 1, 2, 3, 4, 5]);
    });
}

/// One sender is killed in the middle of large messages, another goes on: what comes is whole.
fn whole(mechanism: Mechanism, degree: Degree) {
    assert_eq!(degree, Kept);
    if mechanism == Mechanism::Mem {
        return order(mechanism, degree); // threads are not killed one by one
    }
    let mut ground = Ground::new(mechanism);
    let receiver = ground.receiver("");
    let (mut killed, mut other) = (ground.sending_child(""), ground.sending_child(""));
    ground.let_go();
    killed.tell(&format!("flood 1 {}", mechanism.large()));
    other.tell(&format!("send 2 200 {}", mechanism.large()));
    killed.reply().ok();
    let mut ledger = super::freight::Ledger::default();
    for _ in 0..50 {
        ledger.enter(&receiver.recv_timeout(LATE * 5).unwrap());
    }
    killed.kill_and_reap();
    let reader = std::thread::scope(|scope| {
        let rest = scope.spawn(move || {
            loop {
                match receiver.recv_timeout(LATE * 10) {
                    Ok(message) => ledger.enter(&message),
                    Err(e) => return (e.reason(), ledger),
                }
            }
        });
        other.reply().ok();
        other.must("close");
        rest.join().unwrap()
    });
    assert!(matches!(reader.0, RecvFailure::Closed { .. }), "{:?}", reader.0);
    assert_eq!(reader.1.of(2), 200);
}

fn order(mechanism: Mechanism, degree: Degree) {
    assert_eq!(degree, Kept);
    let mut ground = Ground::new(mechanism);
    let receiver = ground.receiver("");
    let (first, second) = (ground.sender(""), ground.sender(""));
    ground.let_go();
    std::thread::scope(|scope| {
        for (who, sender) in [(1, first), (2, second)] {
            scope.spawn(move || {
                for number in 0..500 {
                    sender.send(&message(who, number, 12 + number as usize * 13 % 5000)).unwrap();
                }
            });
        }
        let ledger = drain(&receiver);
        assert_eq!((ledger.of(1), ledger.of(2)), (500, 500));
    });
}

/// A receiver that closes leaves what it has not received to the next one, or its sender is told.
fn lost(mechanism: Mechanism, degree: Degree) {
    let mut ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    ground.let_go();
    for number in 0..3 {
        sender.send(&message(1, number, 100)).unwrap();
    }
    assert_eq!(&*receiver.recv().unwrap(), message(1, 0, 100));
    drop(receiver);
    match degree {
        Kept => {
            let next = ground.receiver("");
            for number in 1..3 {
                assert_eq!(&*next.recv_timeout(LATE).unwrap(), message(1, number, 100));
            }
        }
        // What it had not received is lost with it; its sender's next message says that nobody is there.
        SoFar => {
            assert!(!mechanism.is_shared(), "nothing is lost");
            let told = eventually(|| {
                sender.send_timeout(b"next", SHORT).is_err_and(|e| matches!(e.reason(), SendFailure::Closed { .. }))
            });
            assert!(told, "nobody told the sender");
        }
        Not => no_such_degree(mechanism, degree),
    }
}

fn bounded(mechanism: Mechanism, degree: Degree) {
    let mut ground = Ground::new(mechanism);
    let (sender, _receiver) = ground.full("");
    let error = takes(SHORT, || sender.send_timeout(&[1; 1000], SHORT)).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
    let mut ground = Ground::new(mechanism);
    let (rejecting, _receiver) = ground.full("full=reject");
    let error = takes(Duration::ZERO, || rejecting.send(&[1; 1000])).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::Full { .. } | SendFailure::NoRoom { .. }), "{error}");
    let ground = Ground::new(mechanism);
    let dropping = ground.try_sender(Mode::Open, "full=drop-oldest");
    match degree {
        Kept => {
            let (sender, receiver) = (dropping.unwrap(), ground.receiver("full=drop-oldest"));
            for number in 0..sender.capacity() + 3 {
                sender.send(&number.to_le_bytes()).unwrap();
            }
            assert_eq!((receiver.recv().unwrap()[0], receiver.dropped()), (3, 3));
        }
        SoFar => assert_eq!(dropping.unwrap_err().kind(), InvalidOption),
        Not => no_such_degree(mechanism, degree),
    }
}

fn end(mechanism: Mechanism, degree: Degree) {
    let mut ground = Ground::new(mechanism);
    let receiver = ground.receiver("");
    let (first, second) = (ground.sender(""), ground.sender(""));
    let third = first.try_clone().unwrap();
    ground.let_go();
    first.send(&message(1, 0, 100)).unwrap();
    drop((first, second));
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(1, 0, 100));
    assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
    third.send(&message(1, 1, 100)).unwrap();
    drop(third);
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(1, 1, 100));
    assert_eq!(takes(Duration::ZERO, || receiver.recv()).unwrap_err(), RecvFailure::Closed { died: 0 });
    drop(receiver);
    follows(mechanism);
    let is_exact = an_early_sender_is_known(mechanism) && a_stranger_is_known(mechanism);
    match degree {
        Kept => assert!(is_exact),
        SoFar => assert!(!is_exact),
        Not => no_such_degree(mechanism, degree),
    }
}

/// Whether the end waits for a sender that was there before its receiver, and has not sent anything. What it sends later arrives in any case.
fn an_early_sender_is_known(mechanism: Mechanism) -> bool {
    let mut ground = Ground::new(mechanism);
    let early = ground.sender("");
    let (receiver, other) = (ground.receiver(""), ground.sender(""));
    ground.let_go();
    other.send(&message(1, 0, 100)).unwrap();
    drop(other);
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(1, 0, 100));
    let reason = receiver.recv_timeout(SHORT).unwrap_err().reason();
    early.send(&message(2, 0, 100)).unwrap();
    drop(early);
    assert_eq!(drain(&receiver).of(2), 1);
    reason == RecvFailure::TimedOut
}

/// Whether the end comes when a program that does not know ginnel has sent something and gone. Where only ginnel can send, it does.
fn a_stranger_is_known(mechanism: Mechanism) -> bool {
    let ground = Ground::new(mechanism);
    if !matches!(mechanism, Mechanism::Mq | Mechanism::Sysv | Mechanism::Dgram) {
        return true; // the kernel tells: see `interop`
    }
    let receiver = ground.receiver("");
    ground.stranger_sends(b"hello");
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), b"hello");
    receiver.recv_timeout(SHORT).unwrap_err() == RecvFailure::Closed { died: 0 }
}

fn follows(mechanism: Mechanism) {
    if mechanism == Mechanism::Pipe {
        return; // it has no such option: once its last sender has gone, nobody can come
    }
    let ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver("follow"), ground.sender(""));
    sender.send(&message(1, 0, 100)).unwrap();
    drop(sender);
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(1, 0, 100));
    assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
    ground.sender("").send(&message(2, 0, 100)).unwrap();
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(2, 0, 100));
    assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
}

fn time(mechanism: Mechanism, degree: Degree) {
    let mut ground = Ground::new(mechanism);
    let (sender, receiver) = ground.full("");
    let error = takes(SHORT, || sender.send_timeout(&[1; 1000], SHORT)).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
    let at = Instant::now() + SHORT;
    takes(SHORT / 2, || sender.send_deadline(&[1; 1000], at)).unwrap_err();
    assert!(Instant::now() >= at);
    while receiver.recv_timeout(SHORT).is_ok() {}
    assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
    let at = Instant::now() + SHORT;
    assert_eq!(takes(SHORT / 2, || receiver.recv_deadline(at)).unwrap_err(), RecvFailure::TimedOut);
    assert!(Instant::now() >= at);
    match degree {
        Kept => assert!(!mechanism.is_framed(), "a part of a message may be under way"),
        SoFar => a_large_message_goes_on_when_it_is_sent_again(mechanism),
        Not => no_such_degree(mechanism, degree),
    }
}

/// What was begun when the time was over was not sent. Sent again it goes on; if another is sent instead, it never arrives, or, of a stream that is cut
/// anywhere, arrives if its last piece was begun.
fn a_large_message_goes_on_when_it_is_sent_again(mechanism: Mechanism) {
    let mut ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    ground.let_go();
    let large = message(1, 0, 8 << 20);
    let error = takes(SHORT, || sender.send_timeout(&large, SHORT)).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
    takes(SHORT, || sender.send_timeout(&large, SHORT)).unwrap_err();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(&large).unwrap();
            sender.send(&message(1, 1, 100)).unwrap();
        });
        assert_eq!(drain(&receiver).of(1), 2);
    });
    another_takes_a_large_message_back(mechanism);
}

fn another_takes_a_large_message_back(mechanism: Mechanism) {
    let mut ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    ground.let_go();
    takes(SHORT, || sender.send_timeout(&message(1, 0, 8 << 20), SHORT)).unwrap_err();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(&message(1, 0, 100)).unwrap());
        std::thread::sleep(SHORT); // so that it finds no room for the rest of a piece
        assert_eq!(drain(&receiver).of(1), 1);
    });
}

fn death(mechanism: Mechanism, degree: Degree) {
    if mechanism == Mechanism::Mem {
        return assert_eq!(degree, Not); // threads die together
    }
    a_receiver_is_told(mechanism);
    a_sender_is_told(mechanism);
    match degree {
        Kept => held_messages_go_back(mechanism, true),
        SoFar => held_messages_go_back(mechanism, false),
        Not => no_such_degree(mechanism, degree),
    }
}

/// The last sender is killed while a receiver waits.
fn a_receiver_is_told(mechanism: Mechanism) {
    let mut ground = Ground::new(mechanism);
    let receiver = ground.receiver("");
    let mut child = ground.sending_child("");
    ground.let_go();
    child.must("exact 1 1 100");
    receiver.recv_timeout(LATE).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv_timeout(LATE * 10).unwrap_err());
        std::thread::sleep(SHORT);
        child.kill_and_reap();
        let error = takes(Duration::ZERO, || waiting.join().unwrap());
        assert!(matches!(error.reason(), RecvFailure::Closed { .. }), "{error}");
    });
}

/// The last receiver is killed while a sender waits for room.
fn a_sender_is_told(mechanism: Mechanism) {
    let mut ground = Ground::new(mechanism);
    let mut child = ground.receiving_child(ground.small());
    let sender = ground.sender(ground.small());
    ground.let_go();
    fill(&sender, 1000);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || sender.send_timeout(&[1; 1000], LATE * 10).unwrap_err());
        std::thread::sleep(SHORT);
        child.kill_and_reap();
        let error = takes(Duration::ZERO, || waiting.join().unwrap());
        assert!(matches!(error.reason(), SendFailure::Closed { .. }), "{error}");
    });
}

/// A message in the hands of a killed receiver.
fn held_messages_go_back(mechanism: Mechanism, goes_back: bool) {
    let ground = Ground::new(mechanism);
    if mechanism == Mechanism::Pipe {
        return assert!(!goes_back); // there is no other receiver to whom it could go
    }
    let mut child = ground.receiving_child("");
    let sender = ground.sender("");
    sender.send(&message(1, 0, 100)).unwrap();
    child.must("keep");
    child.kill_and_reap();
    let next = eventually_a_receiver(&ground);
    match next.recv_timeout(SHORT * 4) {
        Ok(message) => assert!(goes_back && message.redelivered()),
        Err(e) => assert!(!goes_back, "{e}"),
    }
}

fn lifetime(mechanism: Mechanism, degree: Degree) {
    let ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    sender.send(&message(1, 0, 100)).unwrap();
    receiver.recv_timeout(LATE).unwrap();
    drop((receiver, sender));
    if degree == Not {
        assert!(ground.path().exists(), "it is removed");
        Link::new(&ground.sends("")).unwrap().unlink(false).unwrap();
    }
    ground.leaves_nothing();
    if !matches!(mechanism, Mechanism::Pipe | Mechanism::Mem) {
        after_a_crash_the_next_one_cleans_up(mechanism, degree);
    }
    if mechanism.is_shared() || mechanism == Mechanism::Pipe {
        assert_eq!(degree, Kept);
    }
    if degree == Kept && mechanism != Mechanism::Pipe {
        ground.sender("").send_timeout(&message(1, 0, 100), LATE).unwrap();
        let hidden = mechanism == Mechanism::Mem;
        assert!(hidden || !ground.left_behind().is_empty(), "what holds a message stays");
        assert_eq!(drain(&ground.receiver("")).of(1), 1);
        ground.leaves_nothing();
    }
}

fn after_a_crash_the_next_one_cleans_up(mechanism: Mechanism, degree: Degree) {
    let ground = Ground::new(mechanism);
    let (mut receiver, mut sender) = (ground.receiving_child(""), ground.sending_child(""));
    sender.must("exact 1 1 100");
    receiver.must("recv 1");
    sender.kill_and_reap();
    receiver.kill_and_reap();
    drop((eventually_a_receiver(&ground), ground.sender("")));
    if degree != Not {
        ground.leaves_nothing();
    }
}

fn errors(mechanism: Mechanism, degree: Degree) {
    assert_eq!(degree, Kept);
    let mut ground = Ground::new(mechanism);
    let (sender, _receiver) = ground.full("");
    let link = sender.address().to_owned();
    let too_large = vec![0; sender.max_message() as usize + 1];
    let told = [
        sender.send(&too_large).unwrap_err().to_string(),
        sender.try_send(&[1; 1000]).unwrap_err().to_string(),
        sender.send_timeout(&[1; 1000], SHORT).unwrap_err().to_string(),
    ];
    for text in &told {
        assert!(text.contains(&link) && text.contains(';') && text.chars().any(|c| c.is_ascii_digit()), "{text}");
    }
    assert!(told[0].contains(&sender.max_message().to_string()), "{}", told[0]);
    let absent = Ground::new(mechanism);
    let error = match mechanism {
        Mechanism::Pipe => Sender::open("pipe:1000000").unwrap_err(),
        _ => absent.try_sender(Mode::Join, "").unwrap_err(),
    };
    assert!([NotFound, PermissionDenied, ginnel::ErrorKind::Os].contains(&error.kind()), "{error}");
    let names = if mechanism == Mechanism::Pipe { "pipe:1000000".to_owned() } else { absent.bare() };
    assert!(error.to_string().contains(&names) && !error.remedy_text().is_empty(), "{error}");
}

fn tags(mechanism: Mechanism, degree: Degree) {
    assert_ne!(degree, SoFar);
    let ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    for tag in [0, 1, 4711, u16::MAX] {
        sender.send_tagged(tag, b"x").unwrap();
        assert_eq!(receiver.recv().unwrap().tag(), if degree == Kept { tag } else { 0 });
    }
}

fn priority(mechanism: Mechanism, degree: Degree) {
    let ground = Ground::new(mechanism);
    if degree == Not {
        let error = ground.try_sender(Mode::Open, "priority=3").unwrap_err();
        assert_eq!(error.kind(), InvalidOption);
        return;
    }
    assert_eq!(degree, Kept);
    let receiver = ground.receiver("");
    for priority in [1, 7, 3] {
        ground.sender(&format!("priority={priority}")).send(b"x").unwrap();
    }
    let came: Vec<u32> = (0..3).map(|_| receiver.recv().unwrap().priority()).collect();
    assert_eq!(came, [7, 3, 1]);
    let most = ground.try_sender(Mode::Open, "priority=32768").unwrap_err();
    assert_eq!(most.kind(), InvalidOption);
}

fn senders(mechanism: Mechanism, degree: Degree) {
    assert_eq!(degree, Kept);
    order(mechanism, Kept);
}

fn receivers(mechanism: Mechanism, degree: Degree) {
    let ground = Ground::new(mechanism);
    let first = ground.receiver("");
    if mechanism == Mechanism::Pipe {
        assert_eq!(degree, Not);
        return assert!(first.try_clone().is_err()); // another descriptor of it cannot be told from the first
    }
    let second = ground.try_receiver(Mode::Open, "");
    if degree == Not {
        assert!(first.try_clone().is_err());
        return assert!(second.unwrap_err().to_string().contains("another receiver has it"));
    }
    assert_eq!(degree, Kept);
    let (second, sender) = (second.unwrap(), ground.sender(""));
    sender.send(b"1").unwrap();
    sender.send(b"2").unwrap();
    assert_eq!((&*first.recv().unwrap(), &*second.recv().unwrap()), (&b"1"[..], &b"2"[..]));
}

/// A cell of the last column begins with a size, or with a limit of the kernel under `/proc/sys`, less a number if one stands behind it.
pub(super) fn largest(mechanism: Mechanism, cell: &str) {
    let words: Vec<&str> = cell.split(' ').collect();
    let less: u64 = if words.get(1) == Some(&"-") { words[2].parse().unwrap() } else { 0 };
    let file = format!("/proc/sys/{}", words[0].trim_matches('`').replace('.', "/"));
    let size = ginnel::parse_size(words[0])
        .or_else(|| std::fs::read_to_string(&file).ok()?.trim().parse().ok())
        .unwrap_or_else(|| panic!("`{cell}` is no size"));
    let mut ground = Ground::new(mechanism);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    ground.let_go();
    assert_eq!(sender.max_message(), size - less);
    let mut longest = message(1, 0, (size - less) as usize);
    let expected = &longest;
    std::thread::scope(|scope| {
        scope.spawn(move || assert!(*receiver.recv_timeout(LATE * 10).unwrap() == *expected));
        sender.send(expected).unwrap();
    });
    longest.push(0);
    let error = sender.send(&longest).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::TooLarge { .. }), "{error}");
}
