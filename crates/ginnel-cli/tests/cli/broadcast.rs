//! `?shape=broadcast`: every receiver gets every byte, or is told what it missed.

use crate::process::{Place, sequence};

const NEWS: &str = "shm:news?shape=broadcast";

#[test]
fn every_receiver_gets_every_byte() {
    let place = Place::new();
    let receivers: Vec<_> = (0..3).map(|_| place.start(["recv", NEWS])).collect();
    place.wait_for_open("shm:news", 3);
    let text = sequence(50_000);
    assert_eq!(place.run(["send", NEWS], &text).status, 0);
    for receiver in receivers {
        let done = receiver.end();
        assert_eq!((done.status, done.err.as_str()), (0, ""));
        assert!(done.out == text, "{} bytes instead of {}", done.out.len(), text.len());
    }
    assert_eq!(place.link_files(), [""; 0], "nothing is left");
}

#[test]
fn who_comes_late_gets_the_history_that_it_asks_for() {
    let place = Place::new();
    let mut sender = place.start(["send", NEWS]);
    sender.write(b"one\ntwo\nthree\n");
    place.wait_for("shm:news", |info| info["sent"] == 3);
    let receiver = place.run(["recv", "-n", "2", "shm:news?history=2"], b"");
    assert_eq!((receiver.status, receiver.out_text().as_str()), (0, "two\nthree\n"), "{}", receiver.err);
    assert_eq!(sender.end().status, 0);
    assert_eq!(place.link_files(), [""; 0], "nobody is left who could want it");
}

#[test]
fn who_was_too_slow_is_told_how_many_it_missed() {
    for (full, status, out) in [("drop-oldest", 0, "7\n"), ("cut-off", 1, "")] {
        let place = Place::new();
        let address = format!("{NEWS}&capacity=4&full={full}");
        let receiver = place.start(["recv", "-n", "1", address.as_str()]);
        place.wait_for_open("shm:news", 1);
        receiver.signal("STOP");
        assert_eq!(place.run(["send", "shm:news"], &sequence(10)).status, 0);
        receiver.signal("CONT");
        let done = receiver.end();
        assert_eq!((done.status, done.out_text().as_str()), (status, out), "{}", done.err);
        assert!(done.err.contains("6 messages were overwritten"), "{}", done.err);
    }
}

#[test]
fn a_killed_receiver_holds_nobody_back() {
    let place = Place::new();
    let address = format!("{NEWS}&capacity=4");
    let mut slow = place.start(["recv", address.as_str()]);
    place.wait_for_open("shm:news", 1);
    slow.signal("STOP");
    let receiver = place.start(["recv", "shm:news"]);
    place.wait_for_open("shm:news", 2);
    let text = sequence(1000);
    let mut sender = place.start(["send", "shm:news"]);
    sender.write(&text);
    place.wait_for("shm:news", |info| info["messages"] == 4);
    slow.kill();
    assert_eq!(sender.end().status, 0);
    let done = receiver.end();
    assert!(done.out == text && done.status == 0, "{}", done.err);
}

#[test]
fn info_shows_who_is_behind() {
    let place = Place::new();
    let slow = place.start(["recv", NEWS]);
    place.wait_for_open("shm:news", 1);
    slow.signal("STOP");
    let mut sender = place.start(["send", NEWS]);
    sender.write(b"one\ntwo\n");
    let info = place.wait_for("shm:news", |info| info["messages"] == 2);
    assert_eq!(info["geometry"]["shape"], "broadcast");
    let behind: Vec<_> = info["participants"].as_array().unwrap().iter().map(|p| p["behind"].clone()).collect();
    assert_eq!(behind, [serde_json::json!(2), serde_json::Value::Null]);
    let text = place.run(["info", "shm:news"], b"").out_text();
    assert!(text.contains("broadcast") && text.contains("BEHIND"), "{text}");
    slow.signal("CONT");
    assert_eq!(sender.end().status, 0);
    assert_eq!(slow.end().out_text(), "one\ntwo\n");
}
