//! `ginnel info`: everything about one link, for people and as JSON.

use crate::process::Place;

#[test]
fn a_link_that_is_not_there_is_not_found() {
    let done = Place::new().run(["info", "shm:none"], b"");
    assert_eq!(done.status, 3);
    assert!(done.err.contains("shm:none"), "{}", done.err);
}

#[test]
fn everything_is_shown() {
    let place = Place::new();
    let mut sender = place.start(["send", "shm:a?capacity=16&full=reject&senders=2"]);
    sender.write(b"one\ntwo\n");
    place.wait_for_messages("shm:a", 2);
    let text = place.run(["info", "shm:a"], b"").out_text();
    for line in [
        "address       shm:a",
        "state         live",
        "messages      2 of 16",
        "full          reject",
        "senders       2 at most",
    ] {
        assert!(text.lines().any(|is| is == line), "{line} in\n{text}");
    }
    let participant = text.lines().last().unwrap();
    for cell in ["sender", &sender.id().to_string(), "ginnel", "alive", "6B"] {
        assert!(participant.split_whitespace().any(|is| is == cell), "{cell} in {participant}");
    }

    let json = place.run(["info", "--json", "shm:a"], b"").json();
    assert_eq!((&json["schema"], &json["sent"], &json["taken"]), (&1.into(), &2.into(), &0.into()));
    assert_eq!((&json["geometry"]["full"], &json["geometry"]["senders"]), (&"reject".into(), &2.into()));
    let participant = &json["participants"][0];
    assert_eq!((&participant["pid"], &participant["command"]), (&sender.id().into(), &"ginnel".into()));
    assert_eq!(
        (&participant["role"], &participant["messages"], &participant["bytes"]),
        (&"sender".into(), &2.into(), &6.into())
    );
}

#[test]
fn a_dead_participant_is_shown_as_dead() {
    let place = Place::new();
    let mut receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    receiver.kill();
    let participant = &place.run(["info", "--json", "shm:a"], b"").json()["participants"][0];
    assert_eq!((&participant["alive"], &participant["command"]), (&false.into(), &serde_json::Value::Null));
    assert!(place.run(["info", "shm:a"], b"").out_text().contains("dead"));
}
