//! `ginnel clean`: what it collects, and what it leaves alone.

use crate::process::Place;

/// A link whose only receiver was killed, one with a message, and one that is open.
fn after_a_crash() -> (Place, crate::process::Run) {
    let place = Place::new();
    let mut killed = place.start(["recv", "shm:crashed"]);
    place.wait_for_open("shm:crashed", 1);
    killed.kill();
    place.run(["send", "shm:waiting"], b"1\n");
    let open = place.start(["recv", "shm:open"]);
    place.wait_for_open("shm:open", 1);
    (place, open)
}

#[test]
fn a_dry_run_changes_nothing() {
    let (place, _open) = after_a_crash();
    let done = place.run(["clean", "--dry-run"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, "shm:crashed: would recover 1 dead, would be removed\n"));
    let json = place.run(["clean", "--dry-run", "--json"], b"").json();
    let cleaned = serde_json::json!([{"address": "shm:crashed", "dead": 1, "removed": true}]);
    assert_eq!(json, serde_json::json!({"schema": 1, "dry_run": true, "cleaned": cleaned}));
    assert_eq!(place.link_files().len(), 3);
}

#[test]
fn only_what_a_crash_left_is_collected() {
    let (place, _open) = after_a_crash();
    let done = place.run(["clean"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, "shm:crashed: recovered 1 dead, removed\n"));
    let mut left = place.link_files();
    left.sort();
    assert_eq!(left, ["open", "waiting"]);
    let again = place.run(["clean"], b"");
    assert_eq!((again.status, again.out.len(), again.err.as_str()), (0, 0, "ginnel: nothing to clean\n"));
}

#[test]
fn strange_files_stay_and_are_a_warning() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    std::fs::write(place.links().join("stray"), "no link").unwrap();
    let done = place.run(["clean"], b"");
    assert_eq!(done.status, 0);
    assert!(done.err.contains("warning") && done.err.contains("stray"), "{}", done.err);
    assert_eq!(place.link_files().len(), 2);
}
