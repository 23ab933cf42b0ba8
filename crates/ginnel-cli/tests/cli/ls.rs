//! `ginnel ls`: every object of the host, for people and as JSON, and what could not be read.

use crate::objects::{self, find, pids};
use crate::process::{Place, json_of};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::{socket, sysv_shm, unix};
use serde_json::Value;
use std::os::fd::AsRawFd;

#[test]
fn no_links_is_said_on_stderr() {
    let place = Place::new();
    let done = place.run(["ls", "--only", "shm"], b"");
    assert_eq!((done.status, done.out.len()), (0, 0));
    assert!(done.err.starts_with("ginnel: nothing found\n"), "{}", done.err);
    assert!(!place.run(["ls", "-q", "--only", "shm"], b"").err.contains("nothing"));
    let json = place.run(["ls", "--only", "shm", "--json"], b"").json();
    assert_eq!(
        (&json["schema"], &json["links"], &json["objects"]),
        (&1.into(), &Value::Array(vec![]), &Value::Array(vec![]))
    );
}

#[test]
fn links_are_listed_by_name_with_their_state() {
    let place = Place::new();
    place.run(["send", "shm:b waits"], b"1\n2\n");
    let mut sender = place.start(["send", "shm:a?capacity=16"]);
    sender.write(b"1\n");
    place.wait_for_messages("shm:a", 1);
    let done = place.run(["ls", "--only", "shm", "--columns", "address,state,depth,capacity,processes"], b"");
    assert_eq!(done.status, 0, "{}", done.err);
    let lines = rows(&done.out_text());
    assert_eq!(lines[0], ["ADDRESS", "STATE", "DEPTH", "CAPACITY", "PROCESSES"]);
    assert_eq!(lines[1], ["shm:a", "live", "1", "16", &format!("ginnel({})", sender.id())]);
    assert_eq!(lines[2], ["shm:b waits", "waiting", "2", "1024", "-"]);

    place.run(["send", "shm:c?unbounded"], b"1\n");
    let done = place.run(["ls", "--only", "shm", "--columns", "address,shape"], b"");
    let lines = rows(&done.out_text());
    assert_eq!(
        lines[..4],
        [["ADDRESS", "SHAPE"], ["shm:a", "queue"], ["shm:b waits", "queue"], ["shm:c", "unbounded"]]
    );
    place.run(["rm", "--force", "shm:c"], b"");

    let json = place.run(["ls", "--json"], b"").json();
    assert_eq!(json["schema"], 1);
    let links = json["links"].as_array().unwrap();
    assert_eq!((&links[0]["address"], &links[0]["state"]), (&"shm:a".into(), &"live".into()));
    assert_eq!((&links[1]["messages"], &links[1]["geometry"]["capacity"]), (&2.into(), &1024.into()));
    let link = find(&json, "shm:a");
    assert_eq!((&link["processes"][0]["ends"][0], &link["mode"]), (&"sender".into(), &"0600".into()));
    assert_eq!(link["attributes"]["shape"], "queue");
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().into()).collect();
    text.lines().map(cells).collect()
}

#[test]
fn what_is_no_link_is_a_warning() {
    let place = Place::new();
    place.run(["send", "shm:a"], b"1\n");
    std::fs::write(place.links().join("stray"), "no link").unwrap();
    let done = place.run(["ls", "--only", "shm"], b"");
    assert_eq!((done.status, done.out_text().lines().count()), (0, 2));
    assert!(done.err.contains("warning") && done.err.contains("stray"), "{}", done.err);
    let json = place.run(["ls", "--json"], b"").json();
    assert_eq!(json["links"].as_array().unwrap().len(), 1);
    assert!(json["unread"].to_string().contains("stray"));
}

#[test]
fn a_killed_owner_leaves_a_stale_link() {
    let place = Place::new();
    let mut receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    receiver.kill();
    let json = place.run(["ls", "--json"], b"").json();
    assert_eq!((&json["links"][0]["state"], &find(&json, "shm:a")["state"]), (&"stale".into(), &"stale".into()));
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

/// Listed, live, and had by this process.
fn assert_ours(json: &Value, address: &str) -> Value {
    let object = find(json, address);
    assert_eq!(object["state"], "live", "{object}");
    assert!(pids(&object["processes"]).contains(&std::process::id().into()), "{object}");
    object
}

#[test]
fn objects_with_names_are_listed_with_who_has_them() {
    let place = Place::new();
    let (queue_name, semaphore_name, memory_name, key) =
        (objects::name(), objects::name(), objects::name(), objects::key());
    let (queue, _removed_1) = objects::queue(&queue_name);
    queue.send(b"12345", 0, None).unwrap();
    let (sysv, _removed_2) = objects::sysv_queue(key);
    let mut message = ginnel_os::sysv_mq::Buffer::new(16).unwrap();
    message.set(1, b"123").unwrap();
    sysv.try_send(&message).unwrap();
    let (set, _removed_3) = objects::sysv_set(key, &[2, 3]);
    set.try_operate(&[ginnel_os::sysv_sem::Op::add(0, 1)]).unwrap();
    let (segment, _removed_4) = objects::segment(key, 5000);
    let _attached = segment.attach(sysv_shm::Access::ReadWrite).unwrap();
    let (_semaphore, _removed_5) = objects::named_semaphore(&semaphore_name, 7);
    let (_memory, _removed_6) = objects::memory(&memory_name, 4096);
    let fifo = objects::fifo(&place.path("fifo"));
    let _reader = ginnel_os::fifo::reader(place.path("fifo")).unwrap();

    let json = place.run(["ls", "--json"], b"").json();
    let queue = assert_ours(&json, &format!("mq:{queue_name}"));
    assert_eq!((&queue["depth"], &queue["depth_unit"], &queue["capacity"]), (&1.into(), &"messages".into(), &4.into()));
    assert_eq!((&queue["size_bytes"], &queue["attributes"]["message_max_bytes"]), (&5.into(), &64.into()));
    let sysv = assert_ours(&json, &format!("sysv:{:#x}", key.number()));
    assert_eq!((&sysv["depth"], &sysv["size_bytes"], &sysv["capacity_unit"]), (&1.into(), &3.into(), &"bytes".into()));
    assert_eq!(sysv["processes"][0]["ends"][0], "send");
    let set = assert_ours(&json, &format!("sysv-sem:{:#x}", key.number()));
    assert_eq!((&set["attributes"]["values"], &set["capacity"]), (&serde_json::json!([3, 3]), &2.into()));
    let segment = assert_ours(&json, &format!("sysv-shm:{:#x}", key.number()));
    assert_eq!((&segment["size_bytes"], &segment["attributes"]["attached"]), (&5000.into(), &1.into()));
    assert_eq!(assert_ours(&json, &format!("sem:{semaphore_name}"))["depth"], 7);
    let memory = assert_ours(&json, &format!("posix-shm:{memory_name}"));
    assert_eq!((&memory["size_bytes"], &memory["mode"]), (&4096.into(), &"0640".into()));
    assert_eq!(assert_ours(&json, &fifo)["processes"][0]["ends"], serde_json::json!(["read"]));
}

#[test]
fn sockets_are_listed_with_their_peers() {
    let place = Place::new();
    let (path, name) = (place.path("socket"), format!("ginnel-cli-{}", objects::unique()));
    let listener = unix::bind(socket::Kind::Stream, &unix::Address::path(&path).unwrap()).unwrap();
    unix::listen(&listener, 3).unwrap();
    let _abstract =
        unix::bind(socket::Kind::Datagram, &unix::Address::abstract_name(name.as_bytes()).unwrap()).unwrap();
    let (a, _b) = unix::pair(socket::Kind::Stream).unwrap();
    socket::send(&a, b"12345", None).unwrap();
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();

    let json = place.run(["ls", "--json", "--all"], b"").json();
    let listener = assert_ours(&json, &format!("unix:{}", path.display()));
    assert_eq!((&listener["depth"], &listener["capacity"]), (&1.into(), &3.into()), "a connection waits");
    assert_eq!((&listener["attributes"]["doing"], &listener["named"]), (&"listening".into(), &true.into()));
    assert_eq!(assert_ours(&json, &format!("unix:@{name}"))["attributes"]["type"], "dgram");
    let inode = std::fs::read_link(format!("/proc/self/fd/{}", a.as_raw_fd())).unwrap();
    let own = inode.to_str().unwrap().replace("socket:", "unix:");
    let own = assert_ours(&json, &own);
    assert_eq!(own["named"], false);
    if let Some(peer) = own["attributes"]["peer_inode"].as_u64() {
        let peer = assert_ours(&json, &format!("unix:[{peer}]"));
        assert_eq!((&peer["depth"], &peer["depth_unit"]), (&5.into(), &"bytes".into()));
    }
}

#[test]
fn nameless_objects_are_counted_or_listed() {
    let place = Place::new();
    let run = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    let input = std::fs::read_link(format!("/proc/{}/fd/0", run.id())).unwrap();
    let pipe = input.to_str().unwrap();
    let done = place.run(["ls"], b"");
    assert!(
        !done.out_text().contains(pipe) && done.err.contains("left out: ") && done.err.contains(" pipe"),
        "{}",
        done.err
    );
    assert!(!place.run(["ls", "-q"], b"").err.contains("left out"));
    let few = place.run(["ls", "--json"], b"").json();
    assert!(few["left_out"].as_u64().unwrap() > 0);
    for args in [&["ls", "--json", "--all"][..], &["ls", "--json", "--only", "pipe,memfd"]] {
        let object = find(&place.run(args, b"").json(), pipe);
        let both = [u64::from(std::process::id()), run.id().into()];
        assert!(both.iter().all(|pid| pids(&object["processes"]).contains(pid)), "{object}");
    }
}

#[test]
fn what_nobody_has_is_stale_and_waits_with_messages() {
    let place = Place::new();
    let (queue_name, semaphore_name, memory_name, key) =
        (objects::name(), objects::name(), objects::name(), objects::key());
    let (queue, _removed_1) = objects::queue(&queue_name);
    let (semaphore, _removed_2) = objects::named_semaphore(&semaphore_name, 1);
    let (memory, _removed_3) = objects::memory(&memory_name, 100);
    let (_segment, _removed_4) = objects::segment(key, 100);
    let (_queue, _removed_5) = objects::sysv_queue(key);
    let fifo = objects::fifo(&place.path("fifo"));
    drop(unix::bind(socket::Kind::Datagram, &unix::Address::path(place.path("socket")).unwrap()).unwrap());
    let socket = format!("unix:{}", place.path("socket").display());
    let waiting = objects::name();
    let (other, _removed_6) = objects::queue(&waiting);
    other.send(b"x", 0, None).unwrap();
    drop((queue, semaphore, memory, other));
    // Another test may fork between the opening and the closing of a descriptor here, and its child has it until it executes something.
    std::thread::sleep(std::time::Duration::from_millis(50));

    let below = place.path("");
    let json = place.run(["ls".as_ref(), "--json".as_ref(), below.as_os_str()], b"").json();
    for address in [
        format!("mq:{queue_name}"),
        format!("sem:{semaphore_name}"),
        format!("posix-shm:{memory_name}"),
        format!("sysv-shm:{:#x}", key.number()), // its creator lives
        format!("sysv:{:#x}", key.number()),     // nobody used it yet
        fifo,
        socket,
    ] {
        let object = find(&json, &address);
        assert!(is_state(&json, &object, "stale") && pids(&object["processes"]).is_empty(), "{object}");
    }
    let waiting = find(&json, &format!("mq:{waiting}"));
    assert!(is_state(&json, &waiting, "waiting"), "{waiting}");
}

/// Where a process may not be looked into, not even by root, nobody can say that nobody has it.
fn is_state(json: &Value, object: &Value, state: &str) -> bool {
    object["state"] == state || json["denied"] != 0 && object["state"] == "unknown"
}

#[test]
fn what_outlived_its_users_or_its_name_is_an_orphan() {
    let place = Place::new();
    let (key, memory_name) = (objects::key(), objects::name());
    let (_queue, _removed_1) = objects::sysv_queue(key);
    let sent = place.run(["send", "--quiet", &format!("sysv:{}", key.number())], b"x\n");
    assert_eq!(sent.status, 0, "{}", sent.err);
    let (segment, _removed_2) = objects::segment(Key::PRIVATE, 100);
    let _attached = segment.attach(sysv_shm::Access::ReadWrite).unwrap();
    segment.remove().unwrap();
    let path = format!("/dev/shm{memory_name}");
    let _memory = std::fs::File::create_new(&path).unwrap();
    std::fs::remove_file(&path).unwrap();

    let json = place.run(["ls", "--json"], b"").json();
    for address in [
        format!("sysv:{:#x}", key.number()),
        format!("sysv-shm:[{}]", segment.id()),
        format!("posix-shm:{memory_name}"),
    ] {
        assert_eq!(find(&json, &address)["state"], "orphan", "{address}");
    }
}

#[test]
fn a_line_for_each_process_and_object() {
    let place = Place::new();
    let (name, own) = (objects::name(), std::process::id().to_string());
    let (_memory, _removed) = objects::memory(&name, 100);
    let done = place.run(["ls", "--by", "pid", "--columns", "address,size", "--only", "posix-shm"], b"");
    let lines = rows(&done.out_text());
    assert_eq!(lines[0], ["PID", "COMMAND", "END", "ADDRESS", "SIZE"]);
    let line = lines.iter().find(|line| line.contains(&format!("posix-shm:{name}"))).unwrap();
    assert_eq!((&line[0], &*line[2], &*line[4]), (&own, "read+write", "100B"));
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let place = Place::new();
    objects::fifo(&place.path("\u{1b}[31mred\n"));
    let below = place.path("");
    let args: [&std::ffi::OsStr; 4] = ["ls".as_ref(), "--only".as_ref(), "fifo".as_ref(), below.as_os_str()];
    let text = place.run(args, b"").out_text();
    assert!(text.contains("\\u{1b}[31mred\\n") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn what_may_not_be_read_is_said() {
    if !objects::is_root() {
        return;
    }
    let place = Place::new();
    let name = objects::name();
    let (_memory, _removed) = objects::memory(&name, 100);
    let done = place.run_as_nobody(["ls", "--json"]);
    assert_eq!(done.status, 0, "{}", done.err);
    assert!(
        done.err.contains("processes that may not be looked into") && done.err.contains("run as root"),
        "{}",
        done.err
    );
    let json = json_of(&done.out);
    assert!(json["denied"].as_u64().unwrap() > 0 && json["unread"].to_string().contains("looked into"));
    assert_eq!(find(&json, &format!("posix-shm:{name}"))["state"], "unknown", "root has it, and nobody knows");
}

#[test]
fn an_unknown_mechanism_or_column_is_a_usage_error() {
    let place = Place::new();
    for args in [["ls", "--only", "smoke"], ["ls", "--columns", "colour"], ["ls", "--by", "moon"]] {
        assert_eq!(place.run(args, b"").status, 2, "{args:?}");
    }
}
