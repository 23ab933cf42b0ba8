//! `ginnel info`: everything about one link or other object, for people and as JSON.

use crate::objects;
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

#[test]
fn attributes_of_every_mechanism_are_shown() {
    let place = Place::new();
    let (name, key) = (objects::name(), objects::key());
    let (queue, _mq) = objects::queue(&name);
    queue.send(b"12345", 0, None).unwrap();
    let (_sysv, _sysv_guard) = objects::sysv_queue(key);
    let (_set, _set_guard) = objects::sysv_set(key, &[1, 2]);
    let (_segment, _segment_guard) = objects::segment(key, 5000);
    let (_semaphore, _semaphore_guard) = objects::named_semaphore(&name, 7);
    let (_memory, _sixth) = objects::memory(&name, 4096);
    let fifo = objects::fifo(&place.path("fifo"));
    let listener = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    let number = key.number();
    for (address, member, value) in [
        (format!("mq:{name}"), "depth", 1.into()),
        (format!("mq:{name}?max=64"), "capacity", 4.into()),
        (format!("sysv:{number}"), "depth", 0.into()),
        (format!("sysv:{number:#x}"), "capacity_unit", "bytes".into()),
        (format!("sysv-sem:{number:#x}"), "depth", 3.into()),
        (format!("sysv-shm:{number}"), "size_bytes", 5000.into()),
        (format!("sem:{name}"), "depth", 7.into()),
        (format!("posix-shm:{name}"), "mode", serde_json::Value::from("0640")),
        (fifo.clone(), "mechanism", "fifo".into()),
        (format!("unix:{}", place.path("socket").display()), "capacity_unit", "connections".into()),
    ] {
        let done = place.run(["info", "--json", &address], b"");
        assert_eq!(done.status, 0, "{address}: {}", done.err);
        let json = done.json();
        assert_eq!((&json["schema"], &json[member]), (&1.into(), &value), "{address}: {json}");
        let text = place.run(["info", &address], b"").out_text();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("address ") && first.ends_with(json["address"].as_str().unwrap()), "{text}");
    }
    drop(listener);
}

#[test]
fn who_talks_to_a_socket_is_shown() {
    let place = Place::new();
    let path = place.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let _accepted = listener.accept().unwrap();
    let json = place.run(["info", "--json", &format!("unix:{}", path.display())], b"").json();
    let ends: Vec<_> = json["processes"].as_array().unwrap().iter().map(|process| process["ends"][0].clone()).collect();
    assert!(ends.contains(&"listen".into()), "{json}");
    // Without sock_diag nobody knows.
    assert!(ends.contains(&"client".into()) || ends.len() == 1, "{json}");
}

#[test]
fn objects_that_are_not_there_are_not_found() {
    let place = Place::new();
    let nowhere = format!("fifo:{}", place.path("none").display());
    for address in
        ["mq:/none", "sysv:0x6fffffff", "sem:/none", "posix-shm:none", "sysv-shm:[99999999]", "pipe:[1]", &nowhere]
    {
        let done = place.run(["info", address], b"");
        assert_eq!((done.status, done.out.len()), (3, 0), "{address}: {}", done.err);
        assert!(done.err.contains(address.trim_end_matches("none")), "{address}: {}", done.err);
    }
    std::fs::write(place.path("file"), "").unwrap();
    assert_eq!(place.run(["info", &format!("fifo:{}", place.path("file").display())], b"").status, 1);
    for bad in ["sem:", "sysv-shm:many", "sysv:0", "memfd:"] {
        assert_eq!(place.run(["info", bad], b"").status, 2, "{bad}");
    }
}
