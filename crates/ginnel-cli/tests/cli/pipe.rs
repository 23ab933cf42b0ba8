//! `ginnel pipe`: everything arrives, in order, and what cannot go on is not lost without a word.

use crate::process::{Place, Run, noise, sequence, wait_until};

/// A System V key that no other test has, and the removal of its queue.
struct Queue(i32);

impl Queue {
    fn new(number: i32) -> Self {
        Self(0x6700_0000 | (std::process::id() as i32 & 0xffff) << 8 | number)
    }

    fn address(&self) -> String {
        format!("sysv:{}", self.0)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = Place::new().run(["rm", "--force", &self.address()], b"");
    }
}

/// Sends through two pipes: `shm:a` to an address, and from there to `shm:b`.
fn through(place: &Place, address: &str, sent: &[u8], form: &str) -> Vec<u8> {
    let receiver = place.start(["recv", form, "shm:b"]);
    let second = place.start(["pipe", address, "shm:b"]);
    // It makes what the first one connects to before it opens... its own sender, so both of `shm:b` are there first.
    place.wait_for_open("shm:b", 2);
    if let Some(path) = address.strip_prefix("unix:").and_then(|rest| rest.split('?').next()) {
        wait_until("the socket is there", || std::path::Path::new(path).exists());
    }
    let first = place.start(["pipe", "shm:a", address]);
    let send = place.run(["send", "shm:a"], sent);
    let (first, second, received) = (first.end(), second.end(), receiver.end());
    let statuses = (send.status, first.status, second.status, received.status);
    assert_eq!(statuses, (0, 0, 0, 0), "{address}: {}{}{}", first.err, second.err, received.err);
    assert!(first.err.is_empty() && second.err.is_empty(), "{address}: {}{}", first.err, second.err);
    received.out
}

#[test]
fn every_message_arrives_with_its_tag() {
    let place = Place::new();
    let text = [&sequence(20_000)[..], b"\n\nlast without newline"].concat();
    let queue = Queue::new(1);
    let (fifo, socket) = (place.path("fifo"), place.path("socket"));
    let addresses = [
        "shm:between?capacity=4".to_owned(),
        format!("fifo:{}", fifo.display()),
        format!("unix:{}", socket.display()),
        queue.address(),
    ];
    for address in addresses {
        // Without a form, what follows a message is what its tag says.
        assert!(through(&place, &address, &text, "--quiet") == text, "{address}");
    }
    assert_eq!(place.link_files().iter().filter(|name| name.starts_with(['a', 'b'])).count(), 0, "nothing is left");
}

#[test]
fn lines_stay_lines_from_tags_to_none_and_back() {
    let place = Place::new();
    let text = [&sequence(2_000)[..], b"\n\nlast without newline"].concat();
    let name = format!("mq:/ginnel-pipe-{}", std::process::id());
    let socket = format!("unix:{}?type=seqpacket", place.path("packets").display());
    for address in [name, socket] {
        assert!(through(&place, &address, &text, "--quiet") == text, "{address}");
    }
    let lines = format!("fifo:{}?frame=line", place.path("lines").display());
    let text = sequence(2_000);
    assert!(through(&place, &lines, &text, "--quiet") == text, "{lines}");
}

#[test]
fn lines_go_between_links_without_tags() {
    let place = Place::new();
    let text = sequence(100);
    let (a, b) = (format!("mq:/ginnel-pipe-a-{}", std::process::id()), place.path("b"));
    let b = format!("fifo:{}?frame=line", b.display());
    for (from, to) in [(&a, &b), (&b, &a)] {
        let receiver = place.start(["recv", to]);
        let pipe = place.start(["pipe", from, to]);
        let send = place.run(["send", from], &text);
        let (pipe, received) = (pipe.end(), receiver.end());
        assert_eq!((send.status, pipe.status, received.status), (0, 0, 0), "{}{}{}", send.err, pipe.err, received.err);
        assert!(received.out == text, "{from} to {to}: {}", received.out_text());
    }
}

#[test]
fn large_messages_stay_whole() {
    let place = Place::new();
    let bytes = noise(3_000_000);
    let fifo = format!("fifo:{}", place.path("fifo").display());
    assert!(through(&place, &fifo, &bytes, "--quiet") == bytes);
}

#[test]
fn signals_go_into_any_link() {
    let place = Place::new();
    let pump = place.start(["pipe", "-n", "1", "signal:", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    // Its receiver is there before its sender.
    let sent = place.run(["signal", "--signal", "RTMIN", "--value", "42", &pump.id().to_string()], b"");
    assert_eq!((sent.status, sent.err.as_str()), (0, ""));
    let done = pump.end();
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    assert_eq!(place.run(["recv", "shm:a"], b"").out_text(), "42\n");
}

#[test]
fn a_count_is_kept_exactly() {
    let place = Place::new();
    assert_eq!(place.run(["send", "shm:a"], &sequence(10)).status, 0);
    let done = place.run(["pipe", "-n", "3", "shm:a", "shm:b"], b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    assert_eq!(place.run(["recv", "shm:b"], b"").out_text(), "1\n2\n3\n");
    assert_eq!(place.run(["recv", "-n", "1", "shm:a"], b"").out_text(), "4\n");
}

#[test]
fn standard_input_and_output_are_ends_too() {
    let place = Place::new();
    assert_eq!(place.run(["pipe", "-", "shm:a"], b"1\n2").status, 0);
    let done = place.run(["pipe", "-n", "2", "shm:a", "-"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, "1\n2"));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let place = Place::new();
    for (args, complaint) in [
        (&["pipe", "-", "-"][..], "cat(1)"),
        (&["pipe", "shm:a?capacity=4", "shm:a"], "round for ever"),
        (&["pipe", "-n", "1", "-", "shm:a"], "head"),
        (&["pipe", "shm:a"], "<TO>"),
        (&["pipe", "nonsense", "shm:a"], "scheme"),
        (&["pipe", "-n", "0", "shm:a", "shm:b"], "0"),
    ] {
        let done = place.run(args, b"");
        assert_eq!(done.status, 2, "{args:?}: {}", done.err);
        assert!(done.err.contains(complaint), "{args:?}: {}", done.err);
    }
    assert_eq!(place.link_files(), [""; 0]);
}

#[test]
fn an_end_that_cannot_be_opened_takes_nothing_from_the_other() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    let done = place.run(["pipe", "shm:a", "fifo:/no/such/place"], b"");
    assert_eq!(done.status, 3, "{}", done.err);
    assert_eq!(place.run(["recv", "shm:a"], b"").out_text(), "1\n");
}

#[test]
fn it_gives_up_when_nothing_comes() {
    let place = Place::new();
    let done = place.run(["pipe", "-W", "50ms", "shm:a", "shm:b"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
    assert!(done.err.contains("shm:a"), "{}", done.err);
}

/// A pipe that has a message in hand and no room for it.
fn stuck(place: &Place, from: &str, options: &[&str]) -> Run {
    assert_eq!(place.run(["send", "shm:full?capacity=1"], b"first\n").status, 0);
    place.start(["pipe"].iter().chain(options).chain(&[from, "shm:full"]))
}

fn goes_back(place: &Place) {
    let back = place.run(["recv", "-W", "10s", "-n", "2", "shm:a"], b"");
    assert_eq!((back.status, back.out_text().as_str()), (0, "1\n2\n"), "{}", back.err);
}

#[test]
fn a_message_that_finds_no_room_goes_back() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n2\n");
    let done = stuck(&place, "shm:a", &["-W", "100ms"]).end();
    assert_eq!(done.status, 124, "{}", done.err);
    assert!(done.err.contains("1 bytes was received from shm:a") && done.err.contains("goes back"), "{}", done.err);
    let back = place.run(["recv", "shm:a"], b"").out_text();
    let mut lines: Vec<&str> = back.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "2"], "neither is lost");
}

#[test]
fn a_message_that_the_kernel_gave_away_is_reported_as_lost() {
    let place = Place::new();
    let fifo = format!("fifo:{}", place.path("fifo").display());
    let stuck = stuck(&place, &fifo, &["-W", "300ms"]);
    let mut sender = place.start(["send", &fifo]);
    sender.write(b"precious\n");
    let done = stuck.end();
    assert_eq!(done.status, 124, "{}", done.err);
    assert!(done.err.contains("8 bytes") && done.err.contains("is lost"), "{}", done.err);
}

#[test]
fn interrupted_with_a_message_in_hand_it_loses_nothing() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    let stuck = stuck(&place, "shm:a", &[]);
    place.wait_for("shm:a", |info| info["taken"] == 1);
    stuck.signal("INT");
    let done = stuck.end();
    assert_eq!(done.status, 130, "{}", done.err);
    assert!(done.err.contains("goes back"), "{}", done.err);
    assert_eq!(place.run(["recv", "shm:a"], b"").out_text(), "1\n");
}

#[test]
fn interrupted_while_it_waits_it_leaves_nothing() {
    let place = Place::new();
    let pipe = place.start(["pipe", "shm:a", "shm:b"]);
    place.wait_for_open("shm:a", 1);
    pipe.signal("TERM");
    let done = pipe.end();
    assert_eq!((done.status, done.err.as_str()), (143, ""));
    assert_eq!(place.link_files(), [""; 0]);
}

#[test]
fn killed_with_a_message_in_hand_it_loses_nothing() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    let mut stuck = stuck(&place, "shm:a", &[]);
    place.wait_for("shm:a", |info| info["taken"] == 1);
    stuck.kill();
    place.run(["send", "shm:a"], b"2\n");
    let received = place.run(["recv", "-n", "2", "-W", "10s", "shm:a"], b"");
    let text = received.out_text();
    assert!(text.contains('1') && text.contains('2') && received.err.contains("hands of another"), "{}", received.err);
}

#[test]
fn a_sender_that_is_killed_is_told_by_the_status() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a"]);
    sender.write(b"1\n");
    place.wait_for_messages("shm:a", 1);
    let pipe = place.start(["pipe", "shm:a", "shm:b"]);
    place.wait_for_messages("shm:b", 1);
    sender.kill();
    assert_eq!(pipe.end().status, 5);
    goes_on(&place);
}

/// What was moved before is there.
fn goes_on(place: &Place) {
    assert_eq!(place.run(["recv", "shm:b"], b"").out_text(), "1\n");
}

#[test]
fn a_message_that_is_too_long_for_the_other_end_goes_back() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n2\n");
    place.run(["send", "--chunk", "100KiB", "shm:long"], &noise(100 << 10));
    let done = place.run(["pipe", "shm:long", "shm:b?max=64KiB"], b"");
    assert_eq!(done.status, 1, "{}", done.err);
    assert!(done.err.contains("102400 bytes") && done.err.contains("goes back"), "{}", done.err);
    assert_eq!(place.run(["recv", "shm:long"], b"").out, noise(100 << 10));
    goes_back(&place);
}
