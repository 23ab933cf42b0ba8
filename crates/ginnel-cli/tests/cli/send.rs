//! `ginnel send`: how input is cut, and how each failure ends.

use crate::process::{Place, noise, sequence, wait_until};

#[test]
fn empty_input_sends_nothing_and_ends_properly() {
    for args in [
        &["send", "shm:a"][..],
        &["send", "--nul", "shm:a"],
        &["send", "--chunk", "1KiB", "shm:a"],
        &["send", "shm:a", "-"],
    ] {
        let place = Place::new();
        let receiver = place.start(["recv", "shm:a"]);
        place.wait_for_open("shm:a", 1);
        let sent = place.run(args, b"");
        let received = receiver.end();
        assert_eq!((sent.status, received.status), (0, 0), "{args:?} {}{}", sent.err, received.err);
        assert!(received.out.is_empty() && sent.err.is_empty());
        assert_eq!(place.link_files(), [""; 0]);
    }
}

#[test]
fn a_binary_file_goes_in_chunks_and_comes_out_the_same() {
    let place = Place::new();
    let bytes = noise(3_000_001);
    let file = place.write("file", &bytes);
    for args in [
        &["send", "shm:a", &*file][..],
        &["send", "--chunk", "1000", "shm:a", &file],
        &["send", "--chunk", "1MiB", "shm:a", &file],
    ] {
        let receiver = place.start(["recv", "shm:a"]);
        let sent = place.run(args, b"");
        let received = receiver.end();
        assert_eq!((sent.status, received.status), (0, 0), "{args:?} {}{}", sent.err, received.err);
        assert!(received.out == bytes, "{args:?}");
    }
    let receiver = place.start(["recv", "--chunk", "7KiB", "shm:a"]);
    assert_eq!(place.run(["send", "shm:a"], &bytes).status, 0, "from a pipe");
    assert!(receiver.end().out == bytes);
}

#[test]
fn chunks_have_the_size_that_was_asked_for() {
    let place = Place::new();
    assert_eq!(place.run(["send", "--chunk", "300", "shm:a"], &noise(1000)).status, 0);
    let received = place.run(["recv", "--length-prefixed", "shm:a"], b"").out;
    let mut rest = &received[..];
    let mut lengths = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        lengths.push(u32::from_le_bytes(*length));
        rest = &after[*lengths.last().unwrap() as usize..];
    }
    assert_eq!(lengths, [300, 300, 300, 100]);
}

#[test]
fn chunks_that_fill_the_link_end_without_waiting_for_more_room() {
    let place = Place::new();
    let done = place
        .run(["send", "--chunk", "64KiB", "-W", "100ms", "shm:a?max=64KiB&memory=256KiB&capacity=4"], &noise(4 << 16));
    assert_eq!(done.status, 0, "{}", done.err);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let place = Place::new();
    let missing = place.run(["send", "shm:a", "/no/such/file"], b"");
    assert_eq!(missing.status, 3);
    assert!(missing.err.contains("/no/such/file"), "{}", missing.err);
    let directory = place.run(["send", "shm:a", "/"], b"");
    assert_eq!(directory.status, 1);
    assert!(directory.err.contains("directory"), "{}", directory.err);
    assert_eq!(place.link_files(), [""; 0], "no link was made for that");
}

#[test]
fn a_line_that_is_too_long_names_the_limit_and_a_remedy() {
    let place = Place::new();
    let mut text = b"short\n".to_vec();
    text.extend([b'x'; 5000]);
    for end in [&b""[..], b"\n", b"\nmore\n"] {
        let done = place.run(["send", "shm:a?max=4KiB"], &[&text, end].concat());
        assert_eq!(done.status, 1);
        for part in ["message 2", "shm:a", "max=4KiB", "5000 bytes", "--chunk 4KiB", "?max=8KiB"] {
            assert!(done.err.contains(part), "{part} in {}", done.err);
        }
        assert_eq!(place.run(["recv", "shm:a"], b"").out, b"short\n", "what came before was sent");
    }
}

#[test]
fn sizes_above_the_limit_are_refused_before_anything_is_sent() {
    let place = Place::new();
    let done = place.run(["send", "--chunk", "8KiB", "shm:a?max=4KiB"], &noise(10));
    assert_eq!(done.status, 1);
    assert!(done.err.contains("max=4KiB") && done.err.contains("8KiB"), "{}", done.err);
    let done = place.run(["send", "--length-prefixed", "shm:a?max=4KiB"], &[0, 0, 1, 0, 0]);
    assert_eq!(done.status, 1);
    assert!(done.err.contains("65536"), "{}", done.err);
    assert_eq!(place.link_files(), [""; 0]);
}

#[test]
fn a_length_that_promises_too_much_is_an_error() {
    for (input, complaint) in [
        (&[1, 0][..], "2 of the 4 bytes"),
        (&[9, 0, 0, 0, b'a'], "1 of the 9 bytes"),
        (&[0, 0, 2, 0, 7], "1 of the 131072"),
    ] {
        let done = Place::new().run(["send", "--length-prefixed", "shm:a"], input);
        assert_eq!(done.status, 1);
        assert!(done.err.contains(complaint), "{}", done.err);
    }
}

#[test]
fn a_wait_for_room_that_is_too_long_ends_with_124() {
    for address in ["shm:a?capacity=4", "shm:a?capacity=1024&max=64KiB&memory=256KiB"] {
        let place = Place::new();
        let input = if address.contains("1024") { noise(1 << 20) } else { sequence(100) };
        let done = place.run(["send", "-W", "50ms", address], &input);
        assert_eq!(done.status, 124, "{}", done.err);
        assert!(done.err.contains("shm:a") && done.err.contains("full"), "{}", done.err);
        place.wait_for_messages("shm:a", 4);
    }
}

#[test]
fn a_link_that_rejects_refuses_at_once() {
    let place = Place::new();
    let done = place.run(["send", "shm:a?capacity=4&full=reject"], &sequence(100));
    assert_eq!(done.status, 1);
    assert!(done.err.contains("full with 4 messages"), "{}", done.err);
}

#[test]
fn the_last_receiver_that_leaves_is_told() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a?capacity=4"]);
    sender.write(b"x\n");
    place.wait_for_messages("shm:a", 1);
    let receiver = place.start(["recv", "-n", "2", "shm:a"]);
    place.wait_for_open("shm:a", 2);
    sender.write(&sequence(100));
    assert_eq!(receiver.end().status, 0);
    let done = sender.end();
    assert_eq!(done.status, 1, "{}", done.err);
    assert!(done.err.contains("nobody is left"), "{}", done.err);
}

#[test]
fn a_killed_receiver_is_told() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a?capacity=4"]);
    sender.write(b"x\n");
    place.wait_for_messages("shm:a", 1);
    let mut receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 2);
    place.wait_for_messages("shm:a", 0);
    receiver.kill();
    sender.write(&sequence(100));
    let done = sender.end();
    assert_eq!(done.status, 5, "{}", done.err);
    assert!(done.err.contains("1 killed"), "{}", done.err);
}

#[test]
fn an_interrupt_ends_it_with_130_wherever_it_waits() {
    let place = Place::new();
    let sender = place.start(["send", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    sender.signal("INT");
    assert_eq!(sender.end_by_itself().status, 130, "waiting for input");
    assert_eq!(place.link_files(), [""; 0]);

    let mut sender = place.start(["send", "shm:a?capacity=4"]);
    sender.write(&sequence(100));
    place.wait_for_messages("shm:a", 4);
    sender.signal("INT");
    assert_eq!(sender.end_by_itself().status, 130, "waiting for room");
    let info = place.wait_for("shm:a", |_| true);
    assert_eq!((&info["died"], &info["state"]), (&0.into(), &"waiting".into()), "it left properly");
}

#[test]
fn messages_wait_for_a_receiver_that_comes_later() {
    let place = Place::new();
    assert_eq!(place.run(["send", "shm:a"], b"one\n").status, 0);
    assert_eq!(place.run(["send", "shm:a"], b"two\n").status, 0);
    assert_eq!(place.run(["recv", "shm:a"], b"").out, b"one\ntwo\n");
}

#[test]
fn a_file_arrives_whole_in_datagrams() {
    let (place, bytes) = (Place::new(), noise(16 << 20));
    let [_, _, low, high] = std::process::id().to_be_bytes();
    let address = format!("udp://127.{}.{high}.77:4713", 1 + low % 250);
    let receiver = place.start(["recv", "-W", "10s", "-n", "257", &address]);
    // As the kernel writes it: the address as a number in its own order, and the port.
    let bound = format!("{:08X}:1269", u32::from_ne_bytes([127, 1 + low % 250, high, 77]));
    wait_until("it is bound", || std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound));
    let sent = place.run(["send", &address], &bytes);
    let received = receiver.end();
    assert_eq!((sent.status, received.status), (0, 0), "{}{}", sent.err, received.err);
    assert!(received.out == bytes, "{}", received.err);
}

/// What nobody took in time is lost, and how much that was is said.
#[test]
fn datagrams_that_are_lost_are_counted_by_their_receiver() {
    let place = Place::new();
    let [_, _, low, high] = std::process::id().to_be_bytes();
    let host = format!("127.{}.{high}.78:4713", 1 + low % 250);
    let receiver = place.start(["recv", "-W", "1s", &format!("udp://{host}")]);
    let bound = format!("{:08X}:1269", u32::from_ne_bytes([127, 1 + low % 250, high, 78]));
    wait_until("it is bound", || std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound));
    receiver.signal("STOP");
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..4_000 {
        stranger.send_to(&[7; 8_000], &host).unwrap();
    }
    receiver.signal("CONT");
    let received = receiver.end();
    let lost = 4_000 - received.out.len() / 8_000;
    assert_eq!(received.status, 124, "{}", received.err);
    assert!(lost > 0 && received.err.contains(&format!("{lost} datagrams")), "{lost}: {}", received.err);
}

/// A queue carries no tags, so a line keeps its newline there; a signal is a line of its own.
#[test]
fn lines_stay_lines_where_no_tag_says_so() {
    let place = Place::new();
    let name = format!("mq:/ginnel-lines-{}", std::process::id());
    let unix = "unix:@ginnel-lines?type=seqpacket".replace("lines", &format!("lines-{}", std::process::id()));
    for address in [name.as_str(), unix.as_str()] {
        for lines in [&["--lines"][..], &[]] {
            let receiver = place.start([&["recv", address][..], lines].concat());
            let sent = place.run(["send", "-W", "20s", address], b"one\n\ntwo\nlast");
            assert_eq!(sent.status, 0, "{}", sent.err);
            let end = receiver.end();
            assert_eq!(end.status, 0, "{}", end.err);
            let expected = if lines.is_empty() { "one\n\ntwo\nlast" } else { "one\n\ntwo\nlast\n" };
            assert_eq!(end.out_text(), expected, "{address}");
        }
    }
}
