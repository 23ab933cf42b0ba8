//! `ginnel rm`: what protects a link, and what force does.

use crate::process::Place;

#[test]
fn a_link_that_is_not_there_is_not_found() {
    let place = Place::new();
    for args in [&["rm", "shm:none"][..], &["rm", "--force", "shm:none"]] {
        let done = place.run(args, b"");
        assert_eq!(done.status, 3);
        assert!(done.err.contains("shm:none"), "{}", done.err);
    }
}

#[test]
fn messages_and_owners_protect_a_link_unless_forced() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n2\n");
    let refused = place.run(["rm", "shm:a"], b"");
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("2 messages") && refused.err.contains("--force"), "{}", refused.err);
    let forced = place.run(["rm", "--force", "shm:a"], b"");
    assert_eq!((forced.status, forced.out.len(), forced.err.as_str()), (0, 0, ""));

    let _receiver = place.start(["recv", "shm:b"]);
    place.wait_for_open("shm:b", 1);
    assert_eq!(place.run(["rm", "shm:b"], b"").status, 1);
    assert_eq!(place.run(["rm", "-f", "shm:b"], b"").status, 0);
    assert_eq!(place.link_files(), [""; 0]);
}

#[test]
fn several_are_all_tried() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    place.run(["send", "shm:c"], b"1\n");
    let done = place.run(["rm", "-f", "shm:a", "shm:b", "shm:c"], b"");
    assert_eq!(done.status, 3, "{}", done.err);
    assert_eq!(place.link_files(), [""; 0]);
}
