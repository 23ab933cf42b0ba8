//! Names, files and bytes that are wrong: each is refused at once, with the right kind of error, which names the object and says what to do.
//! Nothing hangs, nothing panics, and what was there is there afterwards.

use super::freight::{Ledger, message};
use super::ground::Mechanism::{Dgram, Fifo, Mq, Pipe, Seqpacket, Stream, Sysv, Tcp};
use super::ground::{ALL, Ground, LATE, LIMIT, SHORT, drain};
use crate::child::Child;
use crate::place::{self, skipped};
use ginnel::ErrorKind::{self, InvalidAddress, InvalidOption, NotALink, PermissionDenied};
use ginnel::{Link, RecvFailure};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

/// Checks a refusal: its kind, that it names the object, and that it says what to do.
#[track_caller]
fn refused<T>(result: Result<T, ginnel::Error>, kinds: &[ErrorKind], names: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{names}: this should have failed"));
    assert!(kinds.contains(&error.kind()), "{:?} is none of {kinds:?}: {error}", error.kind());
    assert!(error.to_string().contains(names), "`{error}` does not name {names}");
    assert!(error.to_string().contains(';'), "`{error}` says no remedy");
}

#[test]
fn what_is_of_another_type_is_refused_by_both_ends_and_stays() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Fifo, Stream, Seqpacket, Dgram] {
        for what in ["file", "directory", "link", "fifo", "socket"] {
            let ground = Ground::new(mechanism);
            let path = ground.path();
            let mut socket = None;
            match what {
                "file" => std::fs::write(&path, "precious").unwrap(),
                "directory" => std::fs::create_dir(&path).unwrap(),
                "link" => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
                "fifo" if mechanism != Fifo => ginnel_os::fifo::make(&path, 0o600).unwrap(),
                "socket" if mechanism == Fifo => socket = Some(UnixListener::bind(&path).unwrap()),
                _ => continue,
            }
            let mode = ginnel::Mode::Open;
            refused(ground.try_receiver(mode, ""), &[NotALink], &ground.bare());
            refused(ground.try_sender(mode, ""), &[NotALink], &ground.bare());
            refused(ground.try_sender(ginnel::Mode::Join, ""), &[NotALink], &ground.bare());
            refused(Link::new(&ground.bare()).unwrap().unlink(true), &[NotALink], &ground.bare());
            assert!(path.symlink_metadata().is_ok(), "{what} is gone");
            drop(socket);
        }
    }
}

/// A socket has one type.
#[test]
fn a_socket_of_another_type_is_refused() {
    let _limit = place::limit(LIMIT);
    for (mechanism, other) in [(Stream, "dgram"), (Dgram, "seqpacket"), (Seqpacket, "stream")] {
        let ground = Ground::new(mechanism);
        let _receiver = ground.receiver("");
        let address = format!("{}?type={other}", ground.bare());
        let error = Link::new(&address).unwrap().sender().unwrap_err();
        assert!(error.remedy_text().contains("?type="), "{error}");
        refused(Link::new(&address).unwrap().receiver(), &[ErrorKind::AlreadyExists], &ground.bare());
    }
}

#[test]
fn names_that_are_too_long_are_refused() {
    place::home();
    let folder = place::new_directory();
    let at = |len: usize| {
        let base = format!("{}/", folder.path().display());
        format!("{base}{}", "x".repeat(len - base.len()))
    };
    for options in ["", "?type=seqpacket", "?type=dgram"] {
        let longest = format!("unix:{}{options}", at(107));
        drop(Link::new(&longest).unwrap().receiver().unwrap());
        let too_long = Link::new(&format!("unix:{}{options}", at(108))).unwrap();
        for error in [too_long.receiver().err(), too_long.sender().err()] {
            let text = error.expect("a path of 108 bytes is too long").to_string();
            assert!(text.contains("107") && text.contains("108") && text.contains(';'), "{text}");
        }
        assert!(Link::new(&format!("unix:@{}{options}", "x".repeat(108))).unwrap().receiver().is_err());
    }
    let fifo = Link::new(&format!("fifo:{}/{}", folder.path().display(), "x".repeat(256))).unwrap();
    assert!(fifo.receiver().is_err() && fifo.sender().is_err());
    refused(Link::new(&format!("mq:/{}", "x".repeat(256))), &[InvalidAddress], "mq:/x");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "something is left");
}

#[test]
fn numbers_beyond_a_limit_are_refused() {
    let open = |ground: &Ground, options: &str| ground.try_sender(ginnel::Mode::Open, options);
    for (mechanism, options) in [
        (Sysv, "max=1MiB"),
        (Seqpacket, "max=1GiB"),
        (Dgram, "max=1GiB"),
        (Pipe, "max=4GiB"),
        (Fifo, "max=1TiB"),
        (Stream, "max=4GiB"),
    ] {
        let ground = Ground::new(mechanism);
        let names = if mechanism == Pipe { "pipe:".to_owned() } else { ground.bare() };
        refused(open(&ground, options), &[InvalidOption], &names);
        ground.leaves_nothing();
    }
    for options in ["max=1GiB", "capacity=1000000"] {
        let ground = Ground::new(Mq);
        let error = open(&ground, options).err();
        // The superuser may have more; and then the limit is one of memory.
        let text = error.expect("more than any queue may have").to_string();
        assert!(text.contains(&ground.bare()) && text.contains("limit"), "{text}");
        ground.leaves_nothing();
    }
    let ground = Ground::new(Mq);
    let _queue = ground.sender("capacity=4&max=100");
    refused(open(&ground, "capacity=5"), &[ErrorKind::Mismatch], &ground.bare());
    refused(open(&ground, "max=101"), &[ErrorKind::Mismatch], &ground.bare());
}

/// Another user may not.
#[test]
fn what_one_may_not_open_is_refused() {
    let _limit = place::limit(LIMIT);
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        return skipped("only the superuser can become somebody else");
    }
    for mechanism in [Fifo, Mq, Sysv, Stream, Seqpacket, Dgram] {
        let ground = Ground::new(mechanism);
        let _receiver = ground.receiver("");
        if let Some(folder) = ground.path().parent() {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        if mechanism.is_unix() {
            std::fs::set_permissions(ground.path(), PermissionsExt::from_mode(0o600)).unwrap();
        }
        let theirs = place::new_directory();
        std::os::unix::fs::chown(theirs.path(), Some(65534), Some(65534)).unwrap();
        let mut other = Child::start("script", theirs.path());
        other.reply().ok();
        other.must("become 65534");
        let [kind, object, _, text] = other.ask(&format!("sender open {}", ground.sends(""))).err();
        assert_eq!((kind, object), (format!("{PermissionDenied:?}"), ground.bare()), "{text}");
        assert!(text.contains(';'), "{text}");
    }
}

/// What a peer writes that is no frame: the receiver says so.
const MALFORMED: [(&[u8], u64); 4] = [
    (b"\xff\xff\xff\xff\0\0\0\0", u32::MAX as u64), // too long
    (b"\x01\0\0\0\0\0\x04\0x", 1),                  // an unknown flag
    (b"\x65\0\0\0\0\0\0\0", 101),                   // longer than this link's max
    (b"hello, world\n", 0x6c6c_6568),               // a program that knows no frames
];

/// On a FIFO nobody can tell whose bytes come next: it is over.
#[test]
fn a_malformed_frame_ends_a_fifo() {
    let _limit = place::limit(LIMIT);
    for (bytes, len) in MALFORMED {
        let ground = Ground::new(Fifo);
        let receiver = ground.receiver("max=100");
        let sender = ground.sender("");
        sender.send(&message(1, 0, 50)).unwrap();
        let mut stranger = std::fs::File::options().write(true).open(ground.path()).unwrap();
        stranger.write_all(bytes).unwrap();
        assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), message(1, 0, 50));
        for _ in 0..2 {
            assert_eq!(receiver.recv_timeout(LATE).unwrap_err(), RecvFailure::Malformed { len });
        }
    }
}

/// On a socket only the connection is over that it came from, however one receives.
#[test]
fn a_malformed_frame_ends_one_connection() {
    let _limit = place::limit(LIMIT);
    for several in [false, true] {
        for (bytes, len) in MALFORMED {
            let ground = Ground::new(Stream);
            let receiver = ground.receiver("max=100");
            let sender = ground.sender("");
            sender.send(&message(1, 0, 50)).unwrap();
            let mut stranger = UnixStream::connect(ground.path()).unwrap();
            stranger.write_all(bytes).unwrap();
            let (mut ledger, mut told) = (Ledger::default(), 0);
            for _ in 0..20 {
                let got = match several {
                    false => receiver.recv_timeout(SHORT).map(|message| ledger.enter(&message)),
                    true => receiver
                        .recv_many_timeout(5, SHORT)
                        .map(|batch| batch.iter().for_each(|message| ledger.enter(&message))),
                };
                match got.err().map(|e| e.reason()) {
                    Some(RecvFailure::Malformed { len: is }) if is == len => told += 1,
                    Some(RecvFailure::TimedOut) if told > 0 => break,
                    None => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(told, 1, "told so often, receiving several: {several}");
            sender.send(&message(1, 1, 50)).unwrap();
            drop(sender);
            while let Ok(message) = receiver.recv_timeout(LATE) {
                ledger.enter(&message);
            }
            assert_eq!(ledger.of(1), 2);
        }
    }
}

/// Random bytes from a stranger: an error or nothing, and never a hang.
#[test]
fn noise_does_no_harm() {
    let _limit = place::limit(LIMIT);
    for seed in 0..200 {
        let ground = Ground::new(Stream);
        let receiver = ground.receiver("max=1000");
        let mut stranger = UnixStream::connect(ground.path()).unwrap();
        let mut noise = message(seed, 0, 3_000);
        // Lengths that are believed, and flags that are known, now and then.
        (0..noise.len() / 100).for_each(|at| noise[at * 100 + 1..at * 100 + 4].fill(0));
        let _ = stranger.write_all(&noise[12..]);
        drop(stranger);
        while !matches!(
            receiver.recv_timeout(LATE).map(|_| ()).map_err(|e| e.reason()),
            Err(RecvFailure::Closed { .. })
        ) {}
        let sender = ground.sender("");
        sender.send(&message(1, 0, 500)).unwrap();
        drop(sender);
        assert_eq!(drain(&receiver).of(1), 1);
    }
}

/// A message that is longer than the receiver takes is lost; it is told, and goes on.
#[test]
fn an_overlong_packet_is_told() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Seqpacket, Dgram] {
        let ground = Ground::new(mechanism);
        let (receiver, sender) = (ground.receiver("max=100"), ground.sender(""));
        sender.send(&[1; 101]).unwrap();
        sender.send(&[1; 100]).unwrap();
        assert_eq!(receiver.recv_timeout(LATE).unwrap_err(), RecvFailure::Malformed { len: 101 });
        assert_eq!(receiver.recv_timeout(LATE).unwrap().len(), 100, "{}", mechanism.name());
    }
}

/// No descriptor is left for another connection: those that are there go on, and the new one comes in when there is room.
#[test]
fn a_connection_that_cannot_be_let_in_harms_no_other() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Stream, Seqpacket, Tcp] {
        let ground = Ground::new(mechanism);
        let mut receiver = ground.receiving_child("follow");
        let first = ground.sender("");
        first.send(&message(1, 0, 100)).unwrap();
        assert_eq!(receiver.must("recv 1"), "1:1");
        receiver.must("no-more");
        let late = ground.sender("");
        late.send(&message(2, 0, 100)).unwrap();
        first.send(&message(3, 0, 100)).unwrap();
        let (mut came, mut told) = (Vec::new(), 0);
        for _ in 0..20 {
            match receiver.ask("recv 1").text() {
                "ok 3:1" => came.push(3),
                "ok 2:1" => came.push(2),
                text if text.contains("RLIMIT_NOFILE allows") => told += 1,
                text => panic!("{text}"),
            }
            if came.contains(&3) && told == 1 {
                receiver.must("more");
            }
            if came.len() == 2 {
                break;
            }
        }
        assert_eq!((came, told > 0), (vec![3, 2], true), "{}", mechanism.name());
    }
}

#[test]
fn a_queue_without_room_is_refused_before_it_is_made() {
    let ground = Ground::new(Sysv);
    let error = Link::new(&ground.sends("memory=0")).unwrap().sender().unwrap_err();
    assert_eq!(error.kind(), InvalidOption);
    assert!(error.to_string().contains("memory=0") && error.remedy_text().contains("leave it out"), "{error}");
    let none = Link::new(&ground.sends("")).unwrap().mode(ginnel::Mode::Join).sender().unwrap_err();
    assert_eq!(none.kind(), ginnel::ErrorKind::NotFound);
}

/// Options that mean nothing for a mechanism are named.
#[test]
fn options_of_other_mechanisms_are_refused() {
    for mechanism in ALL {
        let ground = Ground::new(mechanism);
        for option in ["capacity=4", "priority=1", "frame=line", "memory=1MiB", "number=3"] {
            if let Err(error) = Link::new(&ground.sends(option)) {
                assert_eq!(error.kind(), InvalidOption);
                let (key, _) = option.split_once('=').unwrap();
                let remedy = error.remedy_text();
                assert!(error.to_string().contains(key), "{error}");
                assert!(remedy.contains("known are") || remedy.contains("leave frame= out"), "{error}");
            }
        }
    }
}
