//! `ginnel rm`: what protects a link, and what force does.

use crate::objects;
use crate::process::Place;
use ginnel_os::mmap::Mapping;
use ginnel_os::sysv_ipc::Key;
use ginnel_os::{semaphore, shm, sysv_mq, sysv_sem, sysv_shm};
use std::os::fd::AsFd;

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

#[test]
fn what_is_no_link_is_removed_once_nobody_has_it() {
    let place = Place::new();
    let (name, key) = (objects::name(), objects::key());
    let (memory, _removed_1) = objects::memory(&name, 4096);
    let (segment, _removed_2) = objects::segment(key, 5000);
    let (semaphore, _removed_3) = objects::named_semaphore(&name, 1);
    let attached = segment.attach(sysv_shm::Access::ReadWrite).unwrap();
    let mapped = Mapping::of_file(memory.as_fd(), 4096, true).unwrap();
    let addresses = [format!("posix-shm:{name}"), format!("sysv-shm:{:#x}", key.number()), format!("sem:{name}")];
    for address in &addresses {
        let refused = place.run(["rm", address], b"");
        assert_eq!(refused.status, 1, "{address}: {}", refused.err);
        let me = std::process::id().to_string();
        assert!(refused.err.contains(&me) && refused.err.contains("--force"), "{address}: {}", refused.err);
    }
    assert!(shm::open(&name, shm::Access::Read).is_ok() && sysv_shm::Segment::open(key).is_ok());
    drop((attached, mapped, memory, semaphore));
    // Where a process may not be looked into, only force removes what that one could have.
    for address in &addresses {
        let done = place.run(["rm", "--force", address], b"");
        assert_eq!((done.status, done.err.as_str()), (0, ""), "{address}");
        assert_eq!(place.run(["rm", address], b"").status, 3, "{address}: it is gone");
    }
    assert!(shm::open(&name, shm::Access::Read).is_err() && sysv_shm::Segment::open(key).is_err());
    assert!(semaphore::Named::open(&name).is_err());
}

#[test]
fn of_system_v_a_key_or_a_number_says_which() {
    let place = Place::new();
    let (key, other) = (objects::key(), objects::key());
    let (_set, _removed_1) = objects::sysv_set(key, &[1]);
    let (_other, _removed_2) = objects::sysv_set(other, &[1]);
    let (queue, _removed_3) = objects::sysv_queue(Key::PRIVATE);
    queue.send(&sysv_mq::Buffer::new(4).unwrap(), None).unwrap();
    let number = format!("sysv:[{}]", queue.id());
    let refused = place.run(["rm", &number], b"");
    assert_eq!(refused.status, 1, "{}", refused.err);
    assert_eq!(queue.stat().unwrap().depth, 1);
    assert_eq!(place.run(["rm", "-f", &number, &format!("sysv-sem:{}", key.number())], b"").status, 0);
    assert!(queue.stat().is_err() && sysv_sem::Set::open(key).is_err());
    assert!(sysv_sem::Set::open(other).is_ok(), "another one stays");
    assert!(sysv_mq::list().unwrap().iter().all(|stat| stat.queue.id() != queue.id()));
}

#[test]
fn what_has_no_name_says_how_it_goes() {
    let place = Place::new();
    for (address, status, text) in [
        ("memfd:x", 2, "goes with the last process"),
        ("pipe:[1]", 2, "goes with the last process"),
        ("unix:@none", 1, "end its receiver"),
        ("tcp://127.0.0.1:4711", 1, "ss -tuap"),
        ("signal:4711", 1, "ginnel ps"),
    ] {
        let done = place.run(["rm", address], b"");
        assert_eq!(done.status, status, "{address}: {}", done.err);
        assert!(done.err.contains(text), "{address}: {}", done.err);
    }
}
