//! `ginnel ps`: what a process has, and who is at the other end.

use crate::objects::{self, find, pids};
use crate::process::Place;
use ginnel_os::{sysv_shm, unix};
use std::os::fd::AsRawFd;

fn address_of(pid: u32, descriptor: i32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
    link.to_str().unwrap().replace("socket:", "unix:")
}

#[test]
fn the_other_end_of_a_pipe_is_shown() {
    let place = Place::new();
    let run = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    let json = place.run(["ps", "--json", &run.id().to_string()], b"").json();
    assert_eq!((&json["schema"], &json["command"], &json["pid"]), (&1.into(), &"ginnel".into(), &run.id().into()));
    assert_eq!(json["arguments"][1], "recv");
    for (descriptor, end) in [(0, "read"), (1, "write")] {
        let pipe = find(&json, &address_of(run.id(), descriptor));
        assert_eq!((&pipe["ends"][0], &pipe["descriptors"][0]), (&end.into(), &descriptor.into()));
        assert!(pids(&pipe["peers"]).contains(&std::process::id().into()), "{pipe}");
        assert!(!pids(&pipe["peers"]).contains(&run.id().into()), "{pipe}");
    }
    assert_eq!(find(&json, "shm:a")["ends"][0], "receiver");
    let text = place.run(["ps", &run.id().to_string()], b"").out_text();
    assert!(text.lines().any(|line| line.contains("shm:a") && line.contains("receiver")), "{text}");
}

#[test]
fn sockets_and_memory_are_shown_with_those_who_share_them() {
    let place = Place::new();
    let key = objects::key();
    let (segment, _mq) = objects::segment(key, 100);
    let _attached = segment.attach(sysv_shm::Access::ReadWrite).unwrap();
    // The output of this run is a socket, whose other end is closed; so its peer is nobody.
    let (a, b) = unix::pair(ginnel_os::socket::Kind::Stream).unwrap();
    let own = std::process::id();
    let json = place.run(["ps", "--json", &own.to_string()], b"").json();
    let memory = find(&json, &format!("sysv-shm:{:#x}", key.number()));
    assert_eq!(memory["ends"], serde_json::json!(["map", "write"]));
    let socket = find(&json, &address_of(own, a.as_raw_fd()));
    if !socket["attributes"]["peer_inode"].is_null() {
        assert!(pids(&socket["peers"]).contains(&own.into()), "both ends are here: {socket}");
    }
    drop(b);
}

#[test]
fn a_process_that_is_not_there_is_not_found() {
    let done = Place::new().run(["ps", "999999999"], b"");
    assert_eq!((done.status, done.out.len()), (3, 0));
    assert!(done.err.contains("999999999"), "{}", done.err);
    assert_eq!(Place::new().run(["ps", "0"], b"").status, 2);
}

#[test]
fn a_process_of_another_is_not_permitted() {
    if !objects::is_root() {
        return;
    }
    let done = Place::new().run_as_nobody(["ps", &std::process::id().to_string()]);
    assert_eq!((done.status, done.out.len()), (4, 0));
    assert!(done.err.contains("permission"), "{}", done.err);
}
