//! Ends, deaths, forks, and what is left behind.

use super::freight::{Ledger, message};
use super::ground::Mechanism::{Dgram, Fifo, Mq, Seqpacket, Shm, Stream, Sysv, Tcp};
use super::ground::{ALL, Ground, LATE, LIMIT, Mechanism, NAMED, SHORT, drain, eventually};
use super::promises::takes;
use crate::place;
use ginnel::{ErrorKind, Link, Mode, Receiver, RecvFailure, SendFailure, Sender};
use ginnel_os::{mqueue, sysv_ipc, sysv_mq};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Everybody is killed; to the next receiver it is as if nobody had been there.
#[test]
fn after_a_crash_of_everybody_it_begins_anew() {
    let _limit = place::limit(LIMIT);
    for mechanism in NAMED {
        let ground = Ground::new(mechanism);
        let (mut receiver, mut sender) = (ground.receiving_child(""), ground.sending_child(""));
        sender.must("exact 1 1 100");
        receiver.must("recv 1");
        receiver.kill_and_reap();
        sender.kill_and_reap();
        let next = eventually_a_receiver(&ground);
        let first = next.recv_timeout(SHORT).unwrap_err();
        assert_eq!(first, RecvFailure::TimedOut, "{}", mechanism.name());
        ground.sender("").send(&message(1, 0, 100)).unwrap();
        assert_eq!(drain(&next).of(1), 1, "{}", mechanism.name());
    }
}

/// What lay in a queue when everybody was killed is received, and then the end.
#[test]
fn what_a_crash_left_is_received() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Shm, Mq, Sysv] {
        let ground = Ground::new(mechanism);
        let mut sender = ground.sending_child("");
        sender.must("exact 1 2 100");
        sender.kill_and_reap();
        assert_eq!(drain(&ground.receiver("")).of(1), 2, "{}", mechanism.name());
        ground.leaves_nothing();
    }
}

/// `EIDRM`: somebody removes the queue under those who wait for it.
#[test]
fn a_system_v_queue_that_is_removed_tells_its_waiters() {
    let _limit = place::limit(LIMIT);
    let ground = Ground::new(Sysv);
    let (receiver, sender) = (ground.receiver(""), ground.sender(""));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || (receiver.recv_timeout(LATE * 10).unwrap_err(), drop(receiver)));
        std::thread::sleep(SHORT);
        sysv_mq::Queue::open(sysv_ipc::Key::new(ground.key())).unwrap().remove().unwrap();
        let told = takes(Duration::ZERO, || waiting.join().unwrap().0);
        assert!(matches!(told.reason(), RecvFailure::Os(libc::EIDRM | libc::EINVAL)), "{told}");
    });
    let error = sender.send(b"x").unwrap_err();
    assert!(matches!(error.reason(), SendFailure::Os(_)), "{error}");
    drop(sender);
    ground.leaves_nothing();
}

/// As with a file: those who have it open go on with each other; whoever comes later has a new one, which they leave alone.
#[test]
fn a_posix_queue_that_is_removed_stays_for_those_who_have_it() {
    let _limit = place::limit(LIMIT);
    for by_ginnel in [true, false] {
        let ground = Ground::new(Mq);
        let (receiver, sender) = (ground.receiver(""), ground.sender(""));
        sender.send(&message(1, 0, 100)).unwrap();
        match by_ginnel {
            true => Link::new(&ground.bare()).unwrap().unlink(true).unwrap(),
            false => mqueue::unlink(format!("/{}", ground.id())).unwrap(),
        }
        let later = ground.sender("");
        later.send(&message(2, 0, 100)).unwrap();
        drop(later);
        sender.send(&message(1, 1, 100)).unwrap();
        drop(sender);
        assert_eq!(drain(&receiver).of(1), 2);
        drop(receiver);
        // The new one has a message still.
        let next = ground.receiver("");
        assert_eq!(drain(&next).of(2), 1);
        drop(next);
        if by_ginnel {
            ground.leaves_nothing();
        }
    }
}

#[test]
fn what_is_removed_leaves_nothing() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Shm, Fifo, Mq, Sysv] {
        let ground = Ground::new(mechanism);
        let link = Link::new(&ground.bare()).unwrap();
        assert_eq!(link.unlink(true).unwrap_err().kind(), ErrorKind::NotFound);
        let sender = ground.sender("");
        if mechanism == Fifo {
            drop(sender);
            link.unlink(false).unwrap();
        } else {
            sender.send(&message(1, 0, 100)).unwrap();
            drop(sender);
            assert_eq!(link.unlink(false).unwrap_err().kind(), ErrorKind::InUse, "{}", mechanism.name());
            link.unlink(true).unwrap();
        }
        ground.leaves_nothing();
        let receiver = ground.receiver("");
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut, "{}", mechanism.name());
    }
}

/// A forked child has copies of the handles: they do nothing there, and dropping them there changes nothing here.
#[test]
fn a_forked_child_changes_nothing() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let (mut receiver, mut sender) = (ground.receiving_child(""), ground.sending_child(""));
        ground.let_go();
        for child in [&mut receiver, &mut sender] {
            assert_eq!(child.must("fork"), "0", "{}: uses its parent's handle", mechanism.name());
        }
        sender.must("exact 1 1 100");
        assert_eq!(sender.must("fork"), "0");
        assert_eq!(receiver.must("recv 1"), "1:1", "{}", mechanism.name());
        if mechanism.is_unix() {
            assert!(ground.path().metadata().unwrap().file_type().is_socket(), "the child removed the name");
            ground.sender("").send(&message(2, 0, 100)).unwrap();
            assert_eq!(receiver.must("recv 1"), "2:1", "{}", mechanism.name());
        }
        sender.must("close");
        receiver.must("close");
        if mechanism != Fifo {
            ground.leaves_nothing();
        }
    }
}

/// A child that lives on has copies of a receiver's connections, which so stay open when their senders have left.
#[test]
fn connections_that_a_forked_child_keeps_do_not_confuse() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Stream, Seqpacket, Dgram, Tcp] {
        let ground = Ground::new(mechanism);
        let mut receiver = ground.receiving_child("follow");
        let sender = ground.sender("");
        sender.send(&message(1, 0, 100)).unwrap();
        assert_eq!(receiver.must("recv 1"), "1:1");
        receiver.must("hold");
        drop(sender);
        receiver.tell("wait");
        receiver.reply().ok();
        std::thread::sleep(SHORT);
        ground.sender("").send(&message(2, 0, 100)).unwrap();
        assert!(receiver.reply().ok().starts_with("Ok(100)"), "{}", mechanism.name());
        assert_eq!(receiver.must("idle"), "true", "{} spins", mechanism.name());
    }
}

/// A child that a sender forked has copies of all that its parent had open. The end is told when the parent leaves, and, where anybody knows who that was, when it
/// is killed.
#[test]
fn a_sender_that_goes_is_missed_though_its_child_lives() {
    let _limit = place::limit(LIMIT);
    let all = [Shm, Mq, Sysv, Stream, Seqpacket, Dgram].into_iter().flat_map(|one| [(one, true), (one, false)]);
    for (mechanism, is_killed) in all.chain([(Tcp, false)]) {
        let ground = Ground::new(mechanism);
        let receiver = ground.receiver("");
        let mut sender = ground.sending_child("");
        sender.must("exact 1 3 100");
        sender.must("hold");
        let (mut ledger, name) = (Ledger::default(), mechanism.name());
        ledger.enter(&receiver.recv_timeout(LATE).unwrap());
        if is_killed {
            sender.kill_and_reap();
        } else {
            sender.must("close");
        }
        let end = loop {
            match receiver.recv_timeout(LATE) {
                Ok(message) => ledger.enter(&message),
                Err(e) => break e.reason(),
            }
        };
        assert!(matches!(end, RecvFailure::Closed { .. }), "{name}, killed: {is_killed}: {end:?}");
        assert_eq!(ledger.of(1), 3, "{name}, killed: {is_killed}");
        ground.sender("").send(&message(2, 0, 100)).unwrap();
        assert_eq!(receiver.recv_timeout(LATE).unwrap()[..], message(2, 0, 100), "{name}: the next one");
    }
}

/// Each handle gives back what it took.
#[test]
fn no_descriptor_leaks() {
    let _limit = place::limit(LIMIT);
    for mechanism in NAMED {
        let ground = Ground::new(mechanism);
        let mut porter = ground.receiving_child("follow");
        let round = |porter: &mut crate::child::Child| {
            ground.sender("").send(&message(1, 0, 100)).unwrap();
            porter.must("recv 1");
            porter.must(&format!("sender {}", ground.sends("")));
        };
        round(&mut porter);
        porter.must(&format!("try {}", SHORT.as_millis()));
        let before: u32 = porter.must("descriptors").parse().unwrap();
        for _ in 0..20 {
            round(&mut porter);
        }
        porter.must(&format!("try {}", SHORT.as_millis()));
        let after: u32 = porter.must("descriptors").parse().unwrap();
        assert_eq!(before, after, "{}", mechanism.name());
    }
}

/// One queue, one set of participants, however it is written.
#[test]
fn a_system_v_key_is_the_same_by_path_and_by_number() {
    let _limit = place::limit(LIMIT);
    let folder = place::new_directory();
    place::home();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let key = sysv_ipc::Key::from_path(&file, 7).unwrap().number();
    let sender = Sender::open(&format!("sysv:{}#7", file.display())).unwrap();
    let receiver = Receiver::open(&format!("sysv:{key}")).unwrap();
    sender.send(&message(1, 0, 100)).unwrap();
    drop(sender);
    assert_eq!(drain(&receiver).of(1), 1);
    drop(receiver);
    assert!(sysv_mq::Queue::open(sysv_ipc::Key::new(key)).is_err(), "the queue is left");
}

/// The receiver is killed with pieces of large messages in its hands, and more in the FIFO: the next one gets whole messages only.
#[test]
fn the_next_receiver_of_a_fifo_begins_with_a_whole_message() {
    let _limit = place::limit(LIMIT);
    for size in [64 << 10, 1 << 20] {
        let ground = Ground::new(Fifo);
        drop(ground.receiver("")); // makes it
        let keeper = ginnel_os::fifo::reader(ground.path()).unwrap();
        keeper.set_size(size).unwrap();
        let mut first = ground.receiving_child("");
        let sender = ground.sender("");
        drop(keeper);
        let count = (size >> 15) as u32; // each fills eight pages
        for number in 0..count {
            sender.send(&message(1, number, 30_000)).unwrap();
        }
        first.must("recv 1");
        first.kill_and_reap();
        let next = eventually_a_receiver(&ground);
        for number in count..count + 5 {
            sender.try_send(&message(1, number, 5_000)).unwrap();
        }
        drop(sender);
        let mut ledger = Ledger::shared();
        let end = loop {
            match next.recv_timeout(LATE) {
                Ok(message) => ledger.enter(&message),
                Err(e) => break e,
            }
        };
        assert_eq!((end.reason(), ledger.of(1)), (RecvFailure::Closed { died: 0 }, count + 5));
    }
}

/// The kernel may still be closing what a killed one had.
pub(super) fn eventually_a_receiver(ground: &Ground) -> Receiver {
    let mut receiver = None;
    assert!(eventually(|| {
        receiver = ground.try_receiver(Mode::Open, "").ok();
        receiver.is_some()
    }));
    receiver.expect("the next receiver")
}

/// A clone is there from the moment that it is made.
#[test]
fn a_clone_keeps_a_stream_open() {
    let _limit = place::limit(LIMIT);
    for mechanism in ALL {
        let mut ground = Ground::new(mechanism);
        let receiver = ground.receiver("");
        let sender = ground.sender("");
        ground.let_go();
        let clone = sender.try_clone().unwrap();
        drop(sender);
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut, "{}", mechanism.name());
        drop(clone);
        assert_eq!(drain(&receiver).entries(), 0);
    }
}

/// Not even while it is joining.
#[test]
fn a_sender_that_comes_is_not_taken_for_gone() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Mq, Sysv, Dgram] {
        for _ in 0..50 {
            let ground = Ground::new(mechanism);
            let receiver = ground.receiver("");
            let joined = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let joining = scope.spawn(|| {
                    let sender = ground.sender("");
                    joined.store(true, Relaxed);
                    sender
                });
                while !joined.load(Relaxed) {
                    assert!(!receiver.is_closed(), "{}", mechanism.name());
                }
                drop(joining.join().unwrap());
            });
        }
    }
}

/// Sender first, receiver first, and a sender that waits for its receiver.
#[test]
fn either_end_may_be_first() {
    let _limit = place::limit(LIMIT);
    for mechanism in NAMED {
        let ground = Ground::new(mechanism);
        let sender = ground.sender("");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..3 {
                    sender.send(&message(1, number, 100)).unwrap();
                }
            });
            std::thread::sleep(SHORT);
            assert_eq!(drain(&ground.receiver("")).of(1), 3, "{}", mechanism.name());
        });
        let Err(error) = no_receiver(mechanism) else { continue };
        assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
    }
}

fn no_receiver(mechanism: Mechanism) -> Result<(), ginnel::SendError> {
    let ground = Ground::new(mechanism);
    let sender = ground.sender("");
    let sent = takes(Duration::ZERO, || sender.send_timeout(b"nobody is there", SHORT));
    assert_eq!(sent.is_ok(), mechanism.is_shared(), "{}", mechanism.name());
    sent
}
