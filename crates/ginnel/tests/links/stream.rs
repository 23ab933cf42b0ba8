//! Streams of bytes: that what is written is read, over the wrap and in pieces; how each end learns that the other has gone; listening; what a peer that
//! lies or is killed can do; what is left.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, home, name_of, scale, within};
use crate::script;
use ginnel::stream::{Listener, Reader, Stream, Writer};
use ginnel::{Arrival, ErrorKind, Link, Liveness, Receiver, Select, Selected, Sender};
use ginnel_core::REMOVE_BYTE;
use ginnel_os::ofd_lock::{self, Kind};
use ginnel_os::poll;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A time-out of an operation that is due to work.
const SOON: Duration = Duration::from_secs(10);
/// One that is due to come.
const SHORT: Duration = Duration::from_millis(5);

fn connected(options: &str) -> (Stream, Stream) {
    let address = address("stream", "");
    let listener = Listener::bind(&address).unwrap();
    let client = Stream::connect(&format!("{address}{options}")).unwrap();
    (client, listener.accept().unwrap())
}

/// Files of links whose names begin so.
fn files_of(directory: &Path, name: &str) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    files.filter(|file| file.starts_with(name)).collect()
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn both_ways_then_the_end() {
    within(LIMIT, || {
        let (mut client, mut server) = connected("");
        assert_eq!((client.peer().pid, server.peer().pid), (std::process::id(), std::process::id()));
        assert_eq!(client.peer(), server.peer());
        client.write_all(b"a question\nrest").unwrap();
        let mut line = String::new();
        server.read_line(&mut line).unwrap();
        assert_eq!(line, "a question\n");
        server.write_all(b"an answer").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(kind(server.write(b"x")), io::ErrorKind::BrokenPipe);
        assert_eq!(read_all(&mut client), b"an answer");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end stays the end");
        client.write_all(b", which was half-closed").unwrap();
        drop(client);
        assert_eq!(read_all(&mut server), b"rest, which was half-closed");
    });
}

#[test]
fn writing_to_one_that_left_is_a_broken_pipe() {
    within(LIMIT, || {
        let (mut client, mut server) = connected("");
        server.shutdown(Shutdown::Read).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        let error = client.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(error.to_string().contains("shm:stream-") && error.to_string().contains("closed"), "{error}");
        server.write_all(b"this way goes on").unwrap();
        drop(server);
        assert_eq!(read_all(client), b"this way goes on");
        // One that waits for room is told.
        let (client, server) = connected("?capacity=4096");
        let (_reader, mut writer) = client.split();
        let waits = std::thread::spawn(move || writer.write_all(&[1; 10_000]));
        std::thread::sleep(SHORT);
        drop(server);
        assert_eq!(kind(waits.join().unwrap()), io::ErrorKind::BrokenPipe);
    });
}

/// Random writes and reads of every kind, in pieces of any size, against a queue of bytes; the ring is a page, so it wraps again and again.
#[test]
fn random_pieces_against_an_oracle() {
    for seed in 0..20 * scale() {
        let mut dice = Dice::new(seed);
        let (client, server) = if dice.one_in(2) { connected("?capacity=4096") } else { Stream::pair().unwrap() };
        let ((_up, mut writer), (mut reader, _down)) = (client.split(), server.split());
        let (mut oracle, mut written) = (VecDeque::new(), 0u64);
        for _ in 0..300 {
            let size = dice.pick(&[0, 1, 2, 63, 1000, 4095, 4096, 5000]);
            if dice.one_in(2) {
                let bytes: Vec<u8> = (written..).take(size).map(|at| (at * 31 / 7).to_le_bytes()[0]).collect();
                let wrote = write_somehow(&mut dice, &mut writer, &bytes);
                oracle.extend(&bytes[..wrote]);
                written += wrote as u64;
            } else {
                for byte in read_somehow(&mut dice, &mut reader, size) {
                    assert_eq!(Some(byte), oracle.pop_front(), "seed {seed}");
                }
            }
        }
        drop(writer);
        assert_eq!(read_all(reader), Vec::from(oracle), "seed {seed}");
    }
}

fn none_yet<T: Default>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        T::default()
    })
}

fn write_somehow(dice: &mut Dice, writer: &mut Writer, bytes: &[u8]) -> usize {
    writer.set_nonblocking(true);
    if dice.one_in(3) {
        let (one, other) = bytes.split_at(bytes.len() / 3);
        return none_yet(writer.write_vectored(&[IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(other)]));
    }
    none_yet(if dice.one_in(2) { writer.try_write(bytes) } else { writer.write(bytes) })
}

fn read_somehow(dice: &mut Dice, reader: &mut Reader, size: usize) -> Vec<u8> {
    reader.set_nonblocking(true);
    let mut bytes = vec![0; size];
    let len = match dice.pick(&[0, 1, 2]) {
        0 => none_yet(reader.read(&mut bytes)),
        1 => {
            let (one, other) = bytes.split_at_mut(size / 3);
            none_yet(reader.read_vectored(&mut [IoSliceMut::new(one), IoSliceMut::new(other)]))
        }
        _ => {
            let there = none_yet(reader.try_fill_buf().map(<[u8]>::to_vec));
            let len = there.len().min(size);
            bytes[..len].copy_from_slice(&there[..len]);
            reader.consume(len);
            len
        }
    };
    bytes.truncate(len);
    bytes
}

/// What lies over the end of the ring is one slice.
#[test]
fn a_view_passes_the_wrap() {
    let (mut client, mut server) = connected("?capacity=4096");
    client.write_all(&[0; 4000]).unwrap();
    server.read_exact(&mut [0; 4000]).unwrap();
    let bytes: Vec<u8> = (0..4096u32).map(|n| n.to_le_bytes()[0]).collect();
    client.write_all(&bytes).unwrap();
    assert_eq!(server.fill_buf().unwrap(), bytes);
    server.consume(4096);
}

#[test]
#[should_panic(expected = "more bytes than there were")]
fn what_was_not_given_cannot_be_consumed() {
    let (mut client, mut server) = connected("");
    client.write_all(b"123").unwrap();
    let len = server.fill_buf().unwrap().len();
    server.consume(len + 1);
}

#[test]
fn time_outs_and_interrupts() {
    within(LIMIT, || {
        let (mut client, mut server) = connected("?capacity=4096");
        assert_eq!(kind(client.set_read_timeout(Some(Duration::ZERO))), io::ErrorKind::InvalidInput);
        client.set_read_timeout(Some(SHORT)).unwrap();
        client.set_write_timeout(Some(SHORT)).unwrap();
        let begin = Instant::now();
        assert_eq!(kind(client.read(&mut [0])), io::ErrorKind::TimedOut);
        assert_eq!(kind(client.fill_buf().map(<[u8]>::len)), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= 2 * SHORT);
        // What fits was written: that is no failure. The next write says what is in the way.
        assert_eq!(client.write(&[7; 5000]).unwrap(), 4096);
        let error = client.write(&[7; 5000]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("4096") && error.to_string().contains("capacity"), "{error}");
        assert_eq!(kind(client.write_vectored(&[IoSlice::new(b"x")])), io::ErrorKind::TimedOut);
        client.set_nonblocking(true).unwrap();
        assert_eq!(kind(client.write(b"x")), io::ErrorKind::WouldBlock);
        assert_eq!(kind(client.read(&mut [0])), io::ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        assert_eq!((server.read(&mut [0; 4096]).unwrap(), client.write(b"x").unwrap()), (4096, 1));
        for interrupter in [server.reader().unwrap().interrupter(), server.writer().unwrap().interrupter()] {
            interrupter.interrupt();
        }
        server.read_exact(&mut [0]).unwrap(); // it had not to wait
        assert_eq!(kind(server.read(&mut [0])), io::ErrorKind::ConnectionAborted);
        assert_eq!(server.write(&[1; 5000]).unwrap(), 4096);
    });
}

#[test]
fn who_connects_need_not_wait_for_the_listener() {
    within(LIMIT, || {
        let address = address("early", "");
        let listener = Listener::bind(&address).unwrap();
        assert!(listener.try_accept().unwrap().is_none());
        assert!(listener.accept_timeout(SHORT).unwrap().is_none());
        let mut clients: Vec<_> = (0..3).map(|_| Stream::connect(&address).unwrap()).collect();
        for (number, client) in (0..).zip(&mut clients) {
            client.write_all(&[number]).unwrap();
        }
        drop(clients.remove(1)); // what it wrote arrives
        drop(Stream::connect(&address).unwrap()); // this one is as if it had never been
        let mut last = Stream::connect(&address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        for number in 0..3 {
            let mut stream = listener.accept().unwrap();
            let mut byte = [9];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
            let wrote = stream.write_all(b"hello");
            assert_eq!(wrote.is_err(), number == 1);
        }
        let mut half_closed = listener.accept().unwrap();
        assert_eq!(half_closed.read(&mut [0]).unwrap(), 0);
        half_closed.write_all(b"for the last").unwrap();
        drop(half_closed);
        assert_eq!(read_all(last), b"for the last");
        drop(clients);
        assert!(listener.try_accept().unwrap().is_none());
        drop(listener);
        assert_eq!(files_of(home(), name_of(&address)), [""; 0]);
    });
}

#[test]
fn nobody_listens() {
    within(LIMIT, || {
        let address = address("nobody", "");
        assert_eq!(Stream::connect(&address).unwrap_err().kind(), ErrorKind::NotFound);
        let listener = Listener::bind(&address).unwrap();
        let second = Listener::bind(&address).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::TooManyHandles);
        let (mut early, mut waits) = (Stream::connect(&address).unwrap(), Stream::connect(&address).unwrap());
        waits.write_all(b"nobody reads this").unwrap();
        let waiting = std::thread::spawn(move || (waits.read(&mut [0]).map_err(|e| e.kind()), waits));
        std::thread::sleep(SHORT);
        drop(listener);
        let (read, waits) = waiting.join().unwrap();
        // It was accepted and closed by the listener that left, or not at all.
        assert!(matches!(read, Ok(0) | Err(io::ErrorKind::ConnectionReset)), "{read:?}");
        assert_eq!(kind(early.write(b"x")), io::ErrorKind::BrokenPipe);
        drop((waits, early));
        assert_eq!(files_of(home(), name_of(&address)), [""; 0]);
    });
}

#[test]
fn a_full_backlog_makes_clients_wait() {
    within(LIMIT, || {
        let address = address("backlog", "");
        let listener = Listener::bind(&format!("{address}?capacity=1")).unwrap();
        let _first = Stream::connect(&address).unwrap();
        let error = Stream::connect_timeout(&address, SHORT).unwrap_err();
        assert!(error.kind() == ErrorKind::Stuck && error.to_string().contains("capacity"), "{error}");
        let next = std::thread::spawn({
            let address = address.clone();
            move || Stream::connect(&address).map(|_| ())
        });
        let _accepted = listener.accept().unwrap();
        next.join().unwrap().unwrap();
    });
}

/// Another shape on a name is refused by either, and both are named.
#[test]
fn other_shapes_are_refused() {
    let address = address("shapes", "");
    let listener = Listener::bind(&address).unwrap();
    let mut client = Stream::connect(&address).unwrap();
    for error in [Sender::open(&address).unwrap_err(), Receiver::open(&address).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains("listener") && error.to_string().contains("queue"), "{error}");
        assert!(error.remedy_text().contains("stream::Stream"), "{error}");
    }
    let way = files_of(home(), &format!("{}~", name_of(&address))).remove(0);
    let error = Receiver::open(&format!("shm:{way}")).unwrap_err();
    assert!(error.to_string().contains("shape=\"stream\""), "{error}");
    assert!(error.remedy_text().contains("listener"), "{error}");
    client.write_all(b"undisturbed").unwrap();
    drop(client);
    assert_eq!(read_all(listener.accept().unwrap()), b"undisturbed");

    let queue = place::address("queue", "");
    let _sender = Sender::open(&queue).unwrap();
    for error in [Listener::bind(&queue).unwrap_err(), Stream::connect(&queue).unwrap_err()] {
        assert!(error.to_string().contains("queue") && error.to_string().contains("listener"), "{error}");
    }
    for (bad, kind) in [
        ("mq:/a", ErrorKind::InvalidAddress),
        ("shm:a~1-2.up", ErrorKind::InvalidAddress),
        (&*format!("shm:{}", "n".repeat(180)), ErrorKind::InvalidAddress),
        ("shm:a?capacity=3", ErrorKind::InvalidOption),
    ] {
        assert_eq!(Listener::bind(bad).unwrap_err().kind(), kind, "{bad}");
    }
}

#[test]
fn looking_tells_bytes_and_who_is_there() {
    let address = address("looked-at", "");
    let listener = Listener::bind(&address).unwrap();
    let mut client = Stream::connect(&format!("{address}?capacity=8KiB")).unwrap();
    client.write_all(b"12345").unwrap();
    let info = Link::new(&address).unwrap().info().unwrap();
    assert_eq!((info.geometry.shape.name(), info.liveness, info.messages), ("listener", Liveness::Live, 1));
    let up =
        files_of(home(), &format!("{}~", name_of(&address))).into_iter().find(|file| file.ends_with("up")).unwrap();
    let info = Link::new(&format!("shm:{up}")).unwrap().info().unwrap();
    assert_eq!((info.geometry.shape.name(), info.geometry.capacity, info.bytes), ("stream", 8192, 5));
    assert_eq!((info.sent, info.taken, info.messages, info.participants.len()), (5, 0, 0, 1));
    assert_eq!(info.participants[0].counters.bytes, 5);
    drop(client);
    let info = Link::new(&format!("shm:{up}")).unwrap().info().unwrap();
    assert_eq!((info.liveness, info.bytes), (Liveness::Waiting, 5), "its listener lives");
    assert_eq!(read_all(listener.accept().unwrap()), b"12345");
}

/// No files, descriptors or mappings are left, whoever closes first.
#[test]
fn ten_thousand_connections() {
    let directory = place::new_directory();
    let mut child = Child::start("stream cycles", directory.path());
    child.reply_within(10 * LIMIT).ok();
    child.finish();
    assert_eq!(files_of(directory.path(), ""), [""; 0]);
}

fn cycles() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let listener = Listener::bind("shm:cycles").unwrap();
    let cycle = |number: u64| {
        let mut client = Stream::connect("shm:cycles?capacity=4096").unwrap();
        client.write_all(&number.to_le_bytes()).unwrap();
        if number % 3 == 0 {
            client.shutdown(Shutdown::Both).unwrap();
        }
        let mut server = listener.accept().unwrap();
        let mut bytes = [0; 8];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), number);
        if number % 2 == 0 { drop((server, client)) } else { drop((client, server)) }
    };
    (0..100).for_each(cycle);
    let before = (count("fd"), count("task"), mappings());
    (100..10_000).for_each(cycle);
    let after = (count("fd"), count("task"), mappings());
    assert_eq!((before.0, before.1), (after.0, after.1), "descriptors and threads");
    // The allocator may map a little more; each connection had six mappings.
    assert!(after.2 < before.2 + 50, "{} mappings became {}", before.2, after.2);
}

// ---- other processes

/// The role: what each test below has another process do.
pub(crate) fn role(what: &str) {
    let address = "shm:there";
    match what {
        "cycles" => cycles(),
        "listen" => {
            let listener = Listener::bind(address).unwrap();
            say("ok listening");
            let mut streams = Vec::new();
            for stream in listener.incoming() {
                streams.push(stream.unwrap());
                say("ok accepted");
            }
        }
        "bind" | "bind-one" => {
            let options = if what == "bind-one" { "?capacity=1" } else { "" };
            let _listener = Listener::bind(&format!("{address}{options}")).unwrap();
            say("ok listening");
            std::thread::sleep(LIMIT);
        }
        "accept" => {
            let listener = Listener::bind(address).unwrap();
            say("ok listening");
            std::io::stdin().lock().read_line(&mut String::new()).expect("an order");
            say("ok accepts");
            let _ = listener.accept();
        }
        "connect" => {
            let mut stream = Stream::connect(address).unwrap();
            stream.write_all(b"before it was killed").unwrap();
            say("ok connected");
            let _ = stream.read(&mut [0]);
        }
        "flood" => {
            let mut stream = Stream::connect(address).unwrap();
            for number in 0u64.. {
                let mut bytes = [0; 1000];
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                stream.write_all(&bytes).unwrap();
            }
        }
        _ => panic!("no such role: {what}"),
    }
    say("ok done");
}

/// Runs in a process of its own, as its links lie in a directory of their own.
fn elsewhere(what: &str) {
    let directory = place::new_directory();
    let mut child = Child::start(&format!("stream-test {what}"), directory.path());
    child.reply_within(4 * LIMIT).ok();
    child.finish();
    assert_eq!(files_of(directory.path(), ""), [""; 0], "left behind");
}

/// The role: runs one of the tests.
pub(crate) fn test_role(what: &str) {
    let directory = std::env::var(ginnel::DIRECTORY_VARIABLE).unwrap();
    let directory = Path::new(&directory).to_owned();
    let what = what.to_owned();
    within(3 * LIMIT, move || match &*what {
        "killed-server" => killed_server(&directory),
        "killed-client" => killed_client(&directory),
        "killed-listener" => killed_listener(&directory),
        "killed-accepting" => killed_accepting(&directory),
        "killed-full" => killed_full(&directory),
        "killed-writer" => killed_writer(&directory),
        "starved" => starved(),
        "starved-waiting" => starved_waiting(),
        "starved-going" => starved_going(&directory),
        "lets-go" => lets_go(),
        _ => fork(),
    });
    say("ok");
}

#[test]
fn a_killed_server_is_told() {
    elsewhere("killed-server");
}

#[test]
fn a_killed_client_is_told_and_what_it_wrote_arrives() {
    elsewhere("killed-client");
}

#[test]
fn a_killed_listener_is_told_and_collected() {
    elsewhere("killed-listener");
}

#[test]
fn what_was_asked_of_a_killed_listener_is_no_other_ones() {
    elsewhere("killed-accepting");
}

#[test]
fn who_waits_at_a_full_backlog_is_told_that_the_listener_was_killed() {
    elsewhere("killed-full");
}

#[test]
fn what_a_killed_writer_wrote_is_whole() {
    elsewhere("killed-writer");
}

#[test]
fn a_forked_child_has_no_part_in_it() {
    elsewhere("fork");
}

#[test]
fn a_listener_without_descriptors_loses_nobody() {
    elsewhere("starved");
}

#[test]
fn a_listener_without_descriptors_lets_others_go_on() {
    elsewhere("starved-waiting");
}

#[test]
fn a_listener_without_descriptors_goes_in_good_order() {
    elsewhere("starved-going");
}

/// One way is held by somebody who does not go on.
#[test]
fn one_who_cannot_be_joined_is_told() {
    for way in ["up", "down"] {
        for accepts in [true, false] {
            within(LIMIT, move || {
                let address = address("refused", "");
                let files = |way: &str| {
                    let mut files = files_of(home(), &format!("{}~", name_of(&address)));
                    files.retain(|file| file.ends_with(way));
                    files
                };
                let listener = Listener::bind(&address).unwrap();
                let mut first = Stream::connect(&address).unwrap();
                let file = File::options().write(true).open(home().join(&files(way)[0])).unwrap();
                let held = ofd_lock::try_lock(file.as_fd(), Kind::Write, REMOVE_BYTE..=REMOVE_BYTE).unwrap();
                let mut second = Stream::connect(&address).unwrap();
                for client in [&mut first, &mut second] {
                    client.write_all(b"nobody reads this").unwrap();
                }
                let waiting = std::thread::spawn(move || (kind(first.read(&mut [0])), first));
                if accepts {
                    assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::Stuck);
                    drop(listener.accept().unwrap());
                } else {
                    drop(listener);
                }
                let (read, mut first) = waiting.join().unwrap();
                assert_eq!(read, io::ErrorKind::ConnectionReset);
                assert_eq!(kind(first.write(b"x")), io::ErrorKind::BrokenPipe);
                assert_eq!(kind(second.write(b"x")), io::ErrorKind::BrokenPipe);
                drop(held);
                drop((first, second));
                assert_eq!(files(""), [""; 0], "{way}");
            });
        }
    }
}

/// The same where one of the ways is no link any more, and so cannot be ended either: the other one tells.
#[test]
fn one_whose_way_is_damaged_is_told() {
    let damages = [("up", "name"), ("down", "name"), ("up", "header"), ("down", "header")];
    // Who spins hears of one way while the listener has yet to end it.
    let cases = ["wait=adaptive", "wait=spin"].into_iter().flat_map(|wait| damages.map(|damage| (wait, damage)));
    for (wait, (way, damage)) in cases {
        within(LIMIT, move || {
            let address = address("damaged", wait);
            let listener = Listener::bind(&address).unwrap();
            let (mut reader, mut writer) = Stream::connect(&address).unwrap().split();
            let mut files = files_of(home(), &format!("{}~", name_of(&address)));
            files.retain(|file| file.ends_with(way));
            let file = home().join(&files[0]);
            match damage {
                "name" => std::fs::hard_link(&file, home().join("second")).unwrap(),
                _ => File::options().write(true).open(&file).unwrap().write_all_at(b"not a link", 0).unwrap(),
            }
            let reading = std::thread::spawn(move || kind(reader.read(&mut [0])));
            let writing = std::thread::spawn(move || kind(writer.write_all(&[0; 1 << 20])));
            std::thread::sleep(SHORT);
            assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::NotALink);
            assert_eq!(reading.join().unwrap(), io::ErrorKind::ConnectionReset, "{way} {damage}");
            assert_eq!(writing.join().unwrap(), io::ErrorKind::BrokenPipe, "{way} {damage}");
            for name in [&file, &home().join("second")] {
                let _ = std::fs::remove_file(name);
            }
        });
    }
}

#[test]
fn an_accepted_client_lets_go_of_the_listener() {
    elsewhere("lets-go");
}

/// Whatever descriptor it is that is missing: accepting says so, and works when there is one.
fn starved() {
    let listener = Listener::bind("shm:there").unwrap();
    for spare in 0..30 {
        let mut client = Stream::connect("shm:there").unwrap();
        client.write_all(b"early").unwrap();
        let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
        script::limit("nofile", next + spare).unwrap();
        let first = listener.try_accept();
        script::limit("nofile", 1000).unwrap();
        let refused = first.as_ref().is_err();
        let accepted = first.unwrap_or_else(|error| {
            assert_eq!(error.kind(), ErrorKind::NoDescriptors, "{error}");
            assert!(
                error.to_string().contains(&format!("RLIMIT_NOFILE allows this process {}", next + spare)),
                "{error}"
            );
            assert!(error.to_string().contains("ulimit -n"), "{error}");
            listener.accept_timeout(SOON).unwrap()
        });
        let mut server = accepted.expect("the client that waits");
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).unwrap();
        server.write_all(&bytes).unwrap();
        drop(server);
        assert_eq!(read_all(client), b"early");
        if !refused {
            assert!((1..20).contains(&spare), "{spare}");
            return;
        }
    }
    panic!("it never has enough");
}

/// From now on no descriptor can be had.
fn starve() {
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    script::limit("nofile", next).unwrap();
}

fn is_starved<T>(result: Result<T, ginnel::Error>) {
    assert_eq!(result.map(drop).unwrap_err().kind(), ErrorKind::NoDescriptors);
}

/// Whatever descriptor it is that is missing: the client is told, and what it wrote goes.
fn starved_going(directory: &Path) {
    for spare in 0..30 {
        let listener = Listener::bind("shm:there").unwrap();
        let mut client = Stream::connect("shm:there").unwrap();
        client.write_all(b"nobody reads this").unwrap();
        let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
        script::limit("nofile", next + spare).unwrap();
        let first = listener.try_accept();
        script::limit("nofile", 1000).unwrap();
        let is_joined = first.map_err(|error| assert_eq!(error.kind(), ErrorKind::NoDescriptors, "{error}")).is_ok();
        let mut up = files_of(directory, "there~");
        up.retain(|file| file.ends_with("up"));
        let there = |up: &String| Link::new(&format!("shm:{up}")).unwrap().info().unwrap().participants.len();
        if !is_joined && up.first().map(there) == Some(2) {
            starve(); // half of it is joined: what that has is all that there is
        }
        drop(listener);
        script::limit("nofile", 1000).unwrap();
        let read = client.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(read, Ok(0) | Err(io::ErrorKind::ConnectionReset)), "{read:?}");
        assert_eq!(kind(client.write(b"x")), io::ErrorKind::BrokenPipe);
        drop(client);
        assert_eq!(files_of(directory, ""), [""; 0], "{spare}");
        if is_joined {
            return;
        }
    }
    panic!("it never has enough");
}

/// However one waits: the error is told, and then there is nothing for a while, in which others may close a descriptor.
fn starved_waiting() {
    let mut listener = Listener::bind("shm:there").unwrap();
    let feed = || script::limit("nofile", 1000).unwrap();
    let connect = || Stream::connect("shm:there").unwrap();
    let client = connect();
    starve();
    let begin = Instant::now();
    listener.incoming().take(3).for_each(is_starved);
    assert!(begin.elapsed() >= 3 * SHORT, "it spins");
    // Somebody who is slow may be told once more, now and then.
    let at_last = |done: &dyn Fn() -> bool| assert!((0..1000).any(|_| done()));
    at_last(&|| matches!(listener.accept_timeout(Duration::ZERO), Ok(None)));
    let interrupter = listener.interrupter();
    at_last(&|| {
        interrupter.interrupt();
        listener.accept().is_err_and(|error| error.kind() == ErrorKind::Interrupted)
    });
    feed();
    drop((listener.accept().unwrap(), client));

    let mut select = Select::new().recv(&listener);
    let file = select.descriptor().unwrap().try_clone_to_owned().unwrap();
    assert!(select.try_now().is_none());
    let client = connect();
    starve();
    let starved = |found: Option<Selected<'_>>| match found.map(|found| found.arrival) {
        Some(Arrival::Connection(stream)) => {
            is_starved(stream);
            true
        }
        Some(other) => panic!("{other:?}"),
        None => false,
    };
    for turn in 0..3 {
        assert!(poll::readable(&[file.as_fd()], None).unwrap());
        let told = (0..1000).take_while(|_| starved(select.try_now())).count();
        assert!(told < 1000 && (told > 0 || turn > 0), "{told}");
    }
    assert!(starved(Some(select.wait())));
    feed();
    drop((select.wait(), client));
    drop(select);

    // In tasks: other tasks have their turn. The first look finds what it needs for that.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let with_tokio = |listener: &mut Listener| runtime.block_on(in_tasks(listener));
    let with_smol = |listener: &mut Listener| smol::block_on(in_tasks(listener));
    for accept in [&with_tokio as &dyn Fn(&mut Listener), &with_smol] {
        accept(&mut listener);
    }
}

async fn in_tasks(listener: &mut Listener) {
    assert!(smol::future::poll_once(listener.accept_async()).await.is_none());
    let client = Stream::connect("shm:there").unwrap();
    starve();
    let accepting = async {
        while let Err(error) = listener.accept_async().await {
            is_starved::<()>(Err(error));
        }
    };
    let closing = async {
        smol::future::yield_now().await;
        script::limit("nofile", 1000).unwrap();
    };
    smol::future::zip(accepting, closing).await;
    drop(client);
}

/// Also if neither half ever waits, and one is not used.
fn lets_go() {
    let listener = Listener::bind("shm:there").unwrap();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.ends_with("/there")).count()
    };
    let before = mapped();
    assert_ne!(before, 0);
    for writes in [true, false] {
        let mut client = Stream::connect("shm:there").unwrap();
        client.write_all(b"early").unwrap();
        assert!(mapped() > before, "it is told when the listener goes");
        let mut server = listener.accept().unwrap();
        server.write_all(b"x").unwrap();
        if writes {
            client.write_all(b"y").unwrap();
        } else {
            client.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(mapped(), before, "writes: {writes}");
    }
}

fn start(what: &str, directory: &Path) -> Child {
    Child::start(&format!("stream {what}"), directory)
}

fn killed_server(directory: &Path) {
    let mut server = start("listen", directory);
    assert_eq!(server.reply().ok(), "listening");
    let (mut reads, writes) =
        (Stream::connect("shm:there").unwrap(), Stream::connect("shm:there?capacity=4096").unwrap());
    server.reply().ok();
    server.reply().ok();
    assert_eq!(reads.peer().pid, server.pid());
    let waits = std::thread::spawn(move || {
        let (mut reader, mut writer) = writes.split();
        (kind(writer.write_all(&[1; 10_000])), kind(reader.read(&mut [0])))
    });
    let reading = std::thread::spawn(move || (kind(reads.read(&mut [0])), told(&mut reads)));
    std::thread::sleep(SHORT);
    server.kill_and_reap();
    assert_eq!(waits.join().unwrap(), (io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset));
    assert_eq!(reading.join().unwrap(), (io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe));
    // The name is free for the next one.
    drop(Listener::bind("shm:there").unwrap());
}

fn killed_client(directory: &Path) {
    let listener = Listener::bind("shm:there").unwrap();
    for accepted_before in [true, false] {
        let mut client = start("connect", directory);
        client.reply().ok();
        let accepted = accepted_before.then(|| listener.accept().unwrap());
        client.kill_and_reap();
        let mut stream = accepted.unwrap_or_else(|| listener.accept().unwrap());
        assert_eq!(stream.peer().pid, client.pid());
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).unwrap_err();
        assert_eq!((error.kind(), &*all), (io::ErrorKind::ConnectionReset, &b"before it was killed"[..]));
        assert!(error.to_string().contains("killed"), "{error}");
        assert_eq!(told(&mut stream), io::ErrorKind::BrokenPipe);
    }
}

/// How writing fails. The kernel lets go of what the dead one had on either way one after the other.
fn told(stream: &mut Stream) -> io::ErrorKind {
    let begin = Instant::now();
    loop {
        match stream.write(b"x") {
            Err(error) => return error.kind(),
            Ok(_) => assert!(begin.elapsed() < SOON, "not told"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn killed_listener(directory: &Path) {
    for collect in ["clean", "bind"] {
        let mut listener = start("bind", directory);
        listener.reply().ok();
        let (mut waits, mut left) = (Stream::connect("shm:there").unwrap(), Stream::connect("shm:there").unwrap());
        left.write_all(b"and it left").unwrap();
        drop(left);
        let mut killed = start("connect", directory);
        killed.reply().ok();
        killed.kill_and_reap();
        let waiting = std::thread::spawn(move || (kind(waits.read(&mut [0])), kind(waits.write(b"x"))));
        std::thread::sleep(SHORT);
        listener.kill_and_reap();
        assert_eq!(waiting.join().unwrap(), (io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe));
        if collect == "clean" {
            ginnel::clean(false).unwrap().into_iter().for_each(|cleaned| drop(cleaned.unwrap()));
        } else {
            let listener = Listener::bind("shm:there").unwrap();
            assert!(listener.try_accept().unwrap().is_none(), "they were told that it is over");
        }
        assert_eq!(files_of(directory, ""), [""; 0], "{collect}");
    }
    // One that is waited for is not collected.
    let listener = Listener::bind("shm:there").unwrap();
    let mut client = Stream::connect("shm:there").unwrap();
    client.write_all(b"kept").unwrap();
    drop(client);
    assert_eq!(ginnel::clean(false).unwrap().len(), 0);
    assert_eq!(read_all(listener.accept().unwrap()), b"kept");
}

/// A listener is killed before it has accepted, or in the middle of that: its client is told, and so the next one must not take what it wrote for a conversation that
/// ended well. Nor that of a client that has not looked yet.
fn killed_accepting(directory: &Path) {
    for accepts in [false, true] {
        let mut listener = start("accept", directory);
        listener.reply().ok();
        let [mut told, mut untold] = [(); 2].map(|()| Stream::connect("shm:there").unwrap());
        let mut files = files_of(directory, "there~");
        files.retain(|file| file.ends_with("up"));
        let ways: Vec<File> =
            files.iter().map(|file| File::options().write(true).open(directory.join(file)).unwrap()).collect();
        // Who joins a way waits for this, for half a second.
        let held = ways.iter().map(|way| ofd_lock::try_lock(way.as_fd(), Kind::Write, REMOVE_BYTE..=REMOVE_BYTE));
        let held: Vec<_> = held.map(Result::unwrap).collect();
        for client in [&mut told, &mut untold] {
            client.write_all(b"the beginning of").unwrap();
        }
        if accepts {
            listener.must("now");
            std::thread::sleep(10 * SHORT);
        }
        listener.kill_and_reap();
        drop(held);
        assert_eq!(kind(told.read(&mut [0])), io::ErrorKind::ConnectionReset);
        let next = Listener::bind("shm:there").unwrap();
        drop(told);
        assert!(
            next.accept_timeout(SHORT).unwrap().is_none(),
            "of a client that was told otherwise; accepts: {accepts}"
        );
        assert_eq!(kind(untold.read(&mut [0])), io::ErrorKind::ConnectionReset);
        drop(untold);
        let mut client = Stream::connect("shm:there").unwrap();
        client.write_all(b"to the next one").unwrap();
        drop(client);
        assert_eq!(read_all(next.accept().unwrap()), b"to the next one");
        drop(next);
        assert_eq!(files_of(directory, ""), [""; 0]);
    }
}

/// A client that waits for room among those who wait to be accepted.
fn killed_full(directory: &Path) {
    let connects: [fn() -> Result<Stream, ginnel::Error>; 3] = [
        || Stream::connect("shm:there"),
        || Stream::connect_timeout("shm:there", 100 * LIMIT),
        || smol::block_on(Stream::connect_async("shm:there")),
    ];
    for connect in connects {
        let mut listener = start("bind-one", directory);
        listener.reply().ok();
        let first = Stream::connect("shm:there").unwrap();
        let waiting = std::thread::spawn(move || connect().map(drop).map_err(|error| error.kind()));
        std::thread::sleep(10 * SHORT);
        listener.kill_and_reap();
        assert_eq!(waiting.join().unwrap(), Err(ErrorKind::Refused));
        drop((first, Listener::bind("shm:there").unwrap()));
        assert_eq!(files_of(directory, ""), [""; 0]);
    }
}

fn killed_writer(directory: &Path) {
    let listener = Listener::bind("shm:there").unwrap();
    for round in 0..3 * scale() {
        let mut child = start("flood", directory);
        let mut stream = listener.accept().unwrap();
        std::thread::scope(|scope| {
            let kills = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(3 * (round + 1)));
                child.kill_and_reap();
            });
            let mut all: Vec<u8> = Vec::new();
            let mut buffer = vec![0; 3000];
            let error = loop {
                match stream.read(&mut buffer) {
                    Ok(len) => all.extend(&buffer[..len]),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            for (number, bytes) in (0u64..).zip(all.chunks_exact(1000)) {
                assert!(bytes[..8] == number.to_le_bytes() && bytes[8..].iter().all(|byte| *byte == 0), "{number}");
            }
            kills.join().unwrap();
        });
    }
}

fn fork() {
    let listener = Listener::bind("shm:forked").unwrap();
    let mut client = Stream::connect("shm:forked").unwrap();
    let mut server = listener.accept().unwrap();
    client.write_all(b"before").unwrap();
    crate::fork::in_child(|| {
        assert_eq!(kind(client.write(b"x")), io::ErrorKind::Unsupported);
        assert_eq!(kind(server.read(&mut [0])), io::ErrorKind::Unsupported);
        assert_eq!(kind(server.fill_buf().map(<[u8]>::len)), io::ErrorKind::Unsupported);
        server.consume(1);
        assert!(listener.try_accept().is_err());
        drop(client.shutdown(Shutdown::Both));
        // Its own it may have.
        let mut own = Stream::connect("shm:forked").unwrap();
        own.write_all(b"from the child").unwrap();
    });
    client.write_all(b", after").unwrap();
    drop(client);
    assert_eq!(read_all(server), b"before, after");
    assert_eq!(read_all(listener.accept().unwrap()), b"from the child");
}

/// Whatever stands in the words of the link, reading and writing return, without a panic.
#[test]
fn positions_that_cannot_be_are_errors() {
    within(LIMIT, || {
        let (tail, head, wanted) = (256u64, 384u64, 656u64);
        for seed in 0..100 * scale() {
            let mut dice = Dice::new(seed);
            let address = address("lies", "");
            let listener = Listener::bind(&address).unwrap();
            let mut client = Stream::connect(&format!("{address}?capacity=4096")).unwrap();
            let way =
                files_of(home(), &format!("{}~", name_of(&address))).into_iter().find(|file| file.ends_with("up"));
            let file = std::fs::File::options().write(true).open(home().join(way.unwrap())).unwrap();
            let mut server = listener.accept().unwrap();
            server.set_nonblocking(true).unwrap();
            client.set_nonblocking(true).unwrap();
            client.write_all(&[1; 3000]).unwrap();
            server.read_exact(&mut [0; 1500]).unwrap();
            // Each end has an own copy of its own position, so what is changed is what it sees of the other's.
            let at = dice.pick(&[tail, head, wanted]);
            let lie = dice.pick(&[0, 1, 1499, 3001, 6000, 1 << 40, u64::MAX, u64::MAX - 4000]);
            file.write_all_at(&lie.to_le_bytes(), at).unwrap();
            for _ in 0..4 {
                let (mut bytes, len) = ([0; 5000], dice.pick(&[1, 4096, 5000]));
                let read = server.read(&mut bytes[..len]).map_err(|e| e.kind());
                assert!(
                    matches!(read, Ok(1..) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::InvalidData)),
                    "{read:?}"
                );
                let wrote = client.write(&bytes[..len]).map_err(|e| e.kind());
                assert!(
                    matches!(wrote, Ok(1..) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::InvalidData)),
                    "{wrote:?}"
                );
            }
            let words = (0..20).map(|_| (dice.pick(&[128u64, 256, 384, 392, 512, 640, 4096, 4352, 8192]), dice.roll()));
            for (at, word) in words.collect::<Vec<_>>() {
                file.write_all_at(&word.to_le_bytes(), at).unwrap();
                let _ = (server.read(&mut [0; 100]), client.write(&[1; 100]), server.fill_buf().map(<[u8]>::len));
            }
        }
    });
}
