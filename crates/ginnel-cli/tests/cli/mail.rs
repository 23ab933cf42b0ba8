//! `ginnel mail`: letters by name.

use crate::process::Place;

#[test]
fn a_letter_waits_for_whoever_takes_the_name() {
    let place = Place::new();
    assert_eq!(place.run(["mail", "send", "bob", "lunch?"], b"").status, 0);
    assert_eq!(place.run(["mail", "send", "--as", "carol", "bob"], b"from input\n").status, 0);
    let first = place.run(["mail", "recv", "bob"], b"");
    assert_eq!((first.status, first.out_text().as_str()), (0, "lunch?\n"), "{}", first.err);
    assert!(first.err.contains("from nobody, process "), "{}", first.err);
    let second = place.run(["mail", "recv", "-q", "bob"], b"");
    assert_eq!((second.out_text().as_str(), second.err.as_str()), ("from input\n", ""));
    assert_eq!(place.link_files(), [""; 0], "nothing is left");
}

#[test]
fn letters_of_one_name_and_json() {
    let place = Place::new();
    for (sender, text) in [("carol", "one"), ("dave", "two"), ("carol", "three")] {
        assert_eq!(place.run(["mail", "send", "--as", sender, "bob", text], b"").status, 0);
    }
    let dave = place.run(["mail", "recv", "--json", "--from", "dave", "bob"], b"").json();
    assert_eq!(
        (dave["schema"].as_u64(), dave["sender"].as_str(), dave["text"].as_str()),
        (Some(1), Some("dave"), Some("two"))
    );
    assert!(dave["pid"].is_u64() && dave["uid"].is_u64());
    let rest = place.run(["mail", "recv", "-n", "2", "bob"], b"");
    assert_eq!(rest.out_text(), "one\nthree\n", "what was passed over went back");
}

#[test]
fn a_name_that_nobody_has_is_as_asked() {
    let place = Place::new();
    let done = place.run(["mail", "send", "--absent", "refuse", "bob", "x"], b"");
    assert_eq!(done.status, 3, "{}", done.err);
    let done = place.run(["mail", "send", "--absent", "wait", "-W", "50ms", "bob", "x"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
    let waiting = place.start(["mail", "send", "--absent", "wait", "bob", "at last"]);
    place.wait_for_open("shm:bob", 1);
    assert_eq!(place.run(["mail", "recv", "bob"], b"").out_text(), "at last\n");
    assert_eq!(waiting.end().status, 0);
    let done = place.run(["mail", "recv", "-W", "50ms", "bob"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
}

#[test]
fn a_name_has_one_owner() {
    let place = Place::new();
    let mut owner = place.start(["mail", "recv", "--follow", "bob"]);
    place.wait_for_open("shm:bob", 1);
    let done = place.run(["mail", "recv", "bob"], b"");
    assert_eq!(done.status, 1);
    assert!(done.err.contains(&format!("process {} has that name", owner.id())), "{}", done.err);
    owner.kill();
    place.run(["mail", "send", "bob", "still here"], b"");
    assert_eq!(place.run(["mail", "recv", "bob"], b"").out_text(), "still here\n");
}

#[test]
fn bad_names_are_usage_errors_and_other_hosts_are_refused() {
    let place = Place::new();
    for name in ["", "a/b", "fifo:/x", "bob@", "bob?colour=red"] {
        let done = place.run(["mail", "send", name, "x"], b"");
        assert_eq!(done.status, 2, "{name}: {}", done.err);
    }
    let done = place.run(["mail", "send", "bob@host", "x"], b"");
    assert!(done.status == 1 && done.err.contains("another host"), "{}", done.err);
    let _queue = place.start(["recv", "shm:queue"]);
    place.wait_for_open("shm:queue", 1);
    let done = place.run(["mail", "recv", "queue"], b"");
    assert!(done.status == 1 && done.err.contains("queue") && done.err.contains("mailbox"), "{}", done.err);
}

#[test]
fn a_letter_that_could_not_be_written_goes_back() {
    let place = Place::new();
    place.run(["mail", "send", "bob", "precious"], b"");
    for form in [&["mail", "recv", "bob"][..], &["mail", "recv", "--json", "bob"]] {
        let done = place.start_into(form, "/dev/full".as_ref()).end();
        assert_eq!(done.status, 1, "{}", done.err);
        assert!(done.err.contains("No space left"), "{}", done.err);
    }
    let again = place.run(["mail", "recv", "bob"], b"");
    assert_eq!(again.out_text(), "precious\n", "{}", again.err);
    assert!(again.err.contains("had in hand"), "{}", again.err);
}
