//! `ginnel recv`: bytes come out as they went in, whatever happens to either side.

use crate::process::{Place, noise, sequence};
use std::time::Duration;

#[test]
fn what_is_sent_line_by_line_comes_out_byte_by_byte() {
    let place = Place::new();
    let text = sequence(200_000);
    for address in ["shm:a", "shm:small?capacity=2", "shm:one?capacity=1"] {
        let text = if address == "shm:a" { &text[..] } else { &text[..20_000] };
        let receiver = place.start(["recv", address]);
        let sent = place.run(["send", address], text);
        let received = receiver.end();
        assert_eq!((sent.status, received.status), (0, 0), "{}{}", sent.err, received.err);
        assert!(received.out == text, "{address}: {} bytes instead of {}", received.out.len(), text.len());
    }
    assert_eq!(place.link_files(), [""; 0], "nothing is left");
}

#[test]
fn empty_lines_and_a_last_line_without_newline_are_kept() {
    for text in [&b"\n"[..], b"\n\n", b"a\n\nb", b"a", b"\n\na\n"] {
        let place = Place::new();
        assert_eq!(place.run(["send", "shm:a"], text).status, 0);
        assert_eq!(place.run(["recv", "shm:a"], b"").out, text);
    }
}

#[test]
fn terminators_can_be_forced() {
    for (form, expected) in
        [("--lines", &b"a\nb\n"[..]), ("--nul", b"a\0b\0"), ("--length-prefixed", b"\x01\0\0\0a\x01\0\0\0b")]
    {
        let place = Place::new();
        place.run(["send", "shm:a"], b"a\nb");
        let received = place.run(["recv", "shm:a", form], b"");
        assert_eq!((received.status, &received.out[..]), (0, expected), "{form}: {}", received.err);
    }
    let place = Place::new();
    place.run(["send", "shm:a"], b"a\nb\nc");
    assert_eq!(place.run(["recv", "shm:a", "--chunk", "2"], b"").out, b"abc");
}

#[test]
fn pieces_that_end_with_nul_come_out_byte_by_byte() {
    let place = Place::new();
    let names = b"one\0two\nlines\0\0last";
    place.run(["send", "--nul", "shm:a"], names);
    place.wait_for_messages("shm:a", 4);
    assert_eq!(place.run(["recv", "shm:a"], b"").out, names);
}

#[test]
fn length_prefixed_messages_keep_their_borders() {
    let place = Place::new();
    let mut stream = Vec::new();
    for len in [0, 1, 112, 113, 4096, 70_000, 300_000] {
        stream.extend(u32::to_le_bytes(len));
        stream.extend(noise(len as usize));
    }
    let sent = place.run(["send", "--length-prefixed", "shm:a"], &stream);
    assert_eq!(sent.status, 0, "{}", sent.err);
    place.wait_for_messages("shm:a", 7);
    assert!(place.run(["recv", "--length-prefixed", "shm:a"], b"").out == stream);
}

#[test]
fn a_count_is_kept_exactly() {
    let place = Place::new();
    place.run(["send", "shm:a"], &sequence(1000));
    for first in [1, 301, 601] {
        let received = place.run(["recv", "-n", "300", "shm:a"], b"");
        let expected: String = (first..first + 300).map(|n| format!("{n}\n")).collect();
        assert_eq!((received.status, received.out_text()), (0, expected));
    }
    let rest = place.run(["recv", "-n", "300", "shm:a"], b"");
    assert_eq!((rest.status, rest.out_text().lines().count()), (0, 100), "fewer if there are no more senders");
}

#[test]
fn a_wait_that_is_too_long_ends_with_124() {
    let place = Place::new();
    let done = place.run(["recv", "-W", "50ms", "shm:nobody"], b"");
    assert_eq!((done.status, done.out.len()), (124, 0));
    assert!(done.err.contains("shm:nobody") && done.err.contains("timed out"), "{}", done.err);
    assert_eq!(place.link_files(), [""; 0], "the link that was made for it is gone");
}

#[test]
fn what_came_in_time_is_written_before_it_times_out() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a"]);
    sender.write(b"early\n");
    place.wait_for_messages("shm:a", 1);
    let done = place.run(["recv", "-W", "300ms", "shm:a"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (124, "early\n"));
}

#[test]
fn a_line_is_written_as_soon_as_it_comes() {
    let place = Place::new();
    let out = place.path("out");
    let mut sender = place.start(["send", "shm:a"]);
    let receiver = place.start_into(["recv", "shm:a"], &out);
    for lines in 1..5 {
        sender.write(b"line\n");
        while std::fs::read(&out).unwrap_or_default() != b"line\n".repeat(lines) {
            std::thread::sleep(Duration::from_millis(5)); // the limit is that of `end`
        }
    }
    drop(sender.end());
    assert_eq!(receiver.end().status, 0);
}

#[test]
fn a_closed_pipe_is_quiet_and_loses_nothing_that_was_not_written() {
    let place = Place::new();
    place.run(["send", "shm:a"], &sequence(1000));
    // Nobody reads: not a byte is written, so not a message is lost.
    let run = place.start_closed(["recv", "shm:a"]);
    let done = run.end();
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    let rest = place.run(["recv", "shm:a"], b"");
    assert!(rest.out == sequence(1000), "in order, whole: {}", rest.out_text());
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let place = Place::new();
    place.run(["send", "shm:a"], &sequence(700));
    let done = place.start_into(["recv", "shm:a"], "/dev/full".as_ref()).end();
    assert_eq!(done.status, 1);
    assert!(done.err.contains("standard output") && done.err.contains("No space left"), "{}", done.err);
    assert!(place.run(["recv", "shm:a"], b"").out == sequence(700));
}

#[test]
fn a_killed_sender_is_told_and_what_it_had_sent_is_written() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a"]);
    sender.write(b"before\n");
    place.wait_for_messages("shm:a", 1);
    let receiver = place.start(["recv", "shm:a"]);
    place.wait_for_messages("shm:a", 0);
    place.wait_for_open("shm:a", 2);
    sender.kill();
    let done = receiver.end();
    assert_eq!((done.status, done.out_text().as_str()), (5, "before\n"), "{}", done.err);
    assert!(done.err.contains("1 killed"), "{}", done.err);
}

#[test]
fn an_interrupt_ends_it_with_130_and_leaves_no_link() {
    let place = Place::new();
    let receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    receiver.signal("INT");
    assert_eq!(receiver.end().status, 130);
    assert_eq!(place.link_files(), [""; 0]);

    let receiver = place.start(["recv", "--follow", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    receiver.signal("TERM");
    assert_eq!(receiver.end().status, 143);
}

#[test]
fn a_follower_stays_when_the_sender_leaves() {
    let place = Place::new();
    let out = place.path("out");
    let mut follower = place.start_into(["recv", "--follow", "shm:a"], &out);
    place.wait_for_open("shm:a", 1);
    for lines in 1..4 {
        assert_eq!(place.run(["send", "shm:a"], b"line\n").status, 0);
        place.wait_for_open("shm:a", 1);
        place.wait_for_messages("shm:a", 0);
        while std::fs::read(&out).unwrap() != b"line\n".repeat(lines) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert!(follower.is_running());
    follower.signal("INT");
    assert_eq!(follower.end().status, 130);
}

#[test]
fn the_address_can_say_follow_too() {
    let place = Place::new();
    let follower = place.start(["recv", "-W", "1s", "shm:a?follow"]);
    place.wait_for_open("shm:a", 1);
    assert_eq!(place.run(["send", "shm:a"], b"line\n").status, 0);
    let done = follower.end();
    assert_eq!((done.status, done.out_text().as_str()), (124, "line\n"), "it waited for the next sender: {}", done.err);
}

#[test]
fn an_idle_receiver_uses_next_to_no_processor_time() {
    let place = Place::new();
    let receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    let before = receiver.processor_time();
    std::thread::sleep(Duration::from_secs(2));
    let used = receiver.processor_time() - before;
    assert!(used < Duration::from_millis(20), "{used:?} in 2 s");
}

#[test]
fn dropped_messages_are_told() {
    let place = Place::new();
    let receiver = place.start(["recv", "-n", "1", "shm:a?capacity=4&full=drop-oldest"]);
    place.wait_for_open("shm:a", 1);
    receiver.signal("STOP");
    assert_eq!(place.run(["send", "shm:a"], &sequence(10)).status, 0);
    receiver.signal("CONT");
    let done = receiver.end();
    assert_eq!((done.status, done.out_text().as_str()), (0, "7\n"));
    assert!(done.err.contains("6 messages were dropped"), "{}", done.err);
}
