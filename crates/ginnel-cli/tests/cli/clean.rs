//! `ginnel clean`: what it collects, and what it leaves alone.

use crate::process::{Place, wait_until};

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

/// Everybody who used it is killed; nobody is told, and nothing is left.
#[test]
fn what_a_crash_left_of_a_queue_is_collected() {
    let place = Place::new();
    let queue = format!("mq:/ginnel-clean-{}", std::process::id());
    let mut killed = place.start(["send", &queue]);
    killed.write(b"1\n");
    wait_until("it is sent", || place.run(["info", "--json", &queue], b"").out_text().contains("\"depth\":1"));
    killed.kill();
    let none = place.run(["clean"], b"");
    assert_eq!((none.status, none.err.as_str()), (0, "ginnel: nothing to clean\n"), "a message is in it");
    assert_eq!(place.run(["ls"], b"").out_text().matches(&queue).count(), 1);
    let mut killed = place.start(["recv", "--follow", &queue]);
    wait_until("it is received", || place.run(["info", "--json", &queue], b"").out_text().contains("\"depth\":0"));
    assert_eq!(place.run(["clean"], b"").err, "ginnel: nothing to clean\n", "somebody has it open");
    killed.kill();
    let would = place.run(["clean", "--dry-run"], b"").out_text();
    assert_eq!(would, format!("{queue}: would be removed\n"));
    let json = place.run(["clean", "--json"], b"").json();
    let cleaned = serde_json::json!([{"address": queue, "dead": 0, "removed": true}]);
    assert_eq!(json, serde_json::json!({"schema": 1, "dry_run": false, "cleaned": cleaned}));
    assert_eq!(place.run(["rm", &queue], b"").status, 3, "it is gone");
    assert_eq!(std::fs::read_dir(place.links().join("?ends")).unwrap().count(), 0);
}

/// A queue that another program made, and that ginnel's dead users had.
#[test]
fn a_queue_of_another_program_is_forgotten_and_stays() {
    let place = Place::new();
    let key = 0x4900_0000 | std::process::id() as i32 & 0xff_ffff;
    let theirs = ginnel_os::sysv_mq::Queue::create(ginnel_os::sysv_ipc::Key::new(key), 0o600).unwrap();
    let mut killed = place.start(["recv", &format!("sysv:{key}")]);
    let books = || std::fs::read_dir(place.links().join("?ends")).into_iter().flatten().count();
    wait_until("it joins", || books() == 1 && killed.processor_time() > std::time::Duration::ZERO);
    std::thread::sleep(std::time::Duration::from_millis(50));
    killed.kill();
    let done = place.run(["clean"], b"").out_text();
    let stays = theirs.remove();
    assert_eq!(done, format!("sysv:{key}: forgot who was there; it is another program's\n"));
    assert!(stays.is_ok(), "the queue was removed");
    assert_eq!(books(), 0);
}
