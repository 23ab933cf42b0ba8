//! `ginnel ls`: all links, for people and as JSON, and what is no link.

use crate::process::Place;

#[test]
fn no_links_is_said_on_stderr() {
    let place = Place::new();
    let done = place.run(["ls"], b"");
    assert_eq!((done.status, done.out.len(), done.err.as_str()), (0, 0, "ginnel: no links\n"));
    assert_eq!(place.run(["ls", "-q"], b"").err, "");
    let json = place.run(["ls", "--json"], b"").json();
    assert_eq!(json, serde_json::json!({"schema": 1, "links": []}));
}

#[test]
fn links_are_listed_by_name_with_their_state() {
    let place = Place::new();
    place.run(["send", "shm:b waits"], b"1\n2\n");
    let mut sender = place.start(["send", "shm:a?capacity=16"]);
    sender.write(b"1\n");
    place.wait_for_messages("shm:a", 1);
    let done = place.run(["ls"], b"");
    assert_eq!(done.status, 0, "{}", done.err);
    let lines: Vec<Vec<String>> = done
        .out_text()
        .lines()
        .map(|l| l.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().into()).collect())
        .collect();
    assert_eq!(lines[0], ["ADDRESS", "STATE", "MESSAGES", "CAPACITY", "SENDERS", "RECEIVERS", "MEMORY", "AGE"]);
    assert_eq!(lines[1][..6], ["shm:a", "live", "1", "16", "1", "0"]);
    assert_eq!(lines[2][..6], ["shm:b waits", "waiting", "2", "1024", "0", "0"]);

    let json = place.run(["ls", "--json"], b"").json();
    assert_eq!(json["schema"], 1);
    let links = json["links"].as_array().unwrap();
    assert_eq!((&links[0]["address"], &links[0]["state"]), (&"shm:a".into(), &"live".into()));
    assert_eq!((&links[1]["messages"], &links[1]["geometry"]["capacity"]), (&2.into(), &1024.into()));
}

#[test]
fn what_is_no_link_is_a_warning() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    std::fs::write(place.links().join("stray"), "no link").unwrap();
    let done = place.run(["ls"], b"");
    assert_eq!((done.status, done.out_text().lines().count()), (0, 2));
    assert!(done.err.contains("warning") && done.err.contains("stray"), "{}", done.err);
    assert_eq!(place.run(["ls", "--json"], b"").json()["links"].as_array().unwrap().len(), 1);
}

#[test]
fn a_killed_owner_leaves_a_stale_link() {
    let place = Place::new();
    let mut receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    receiver.kill();
    assert_eq!(place.run(["ls", "--json"], b"").json()["links"][0]["state"], "stale");
}

#[test]
fn a_closed_pipe_and_a_full_disk() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    let done = place.start_closed(["ls"]).end();
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    let done = place.start_into(["ls"], "/dev/full".as_ref()).end();
    assert_eq!(done.status, 1);
    assert!(done.err.contains("standard output"), "{}", done.err);
}
