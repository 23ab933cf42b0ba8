//! `ginnel call` and `ginnel serve`: a request is a command's input, and its output the response.

use crate::process::{Place, noise, wait_until};
use std::time::Duration;

#[test]
fn a_request_is_answered_by_the_output_of_a_command() {
    let place = Place::new();
    let server = place.start(["serve", "-n", "3", "shm:upper", "--", "tr", "a-z", "A-Z"]);
    let done = place.run(["call", "shm:upper", "hello"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, "HELLO"), "{}", done.err);
    assert_eq!(place.run(["call", "shm:upper"], b"from input\n").out, b"FROM INPUT\n");
    assert_eq!(place.run(["call", "shm:upper", "-"], b"so too").out, b"SO TOO");
    let served = server.end_by_itself();
    assert_eq!((served.status, served.err.as_str()), (0, ""));
    assert_eq!(place.link_files(), [""; 0], "nothing is left");
}

#[test]
fn a_large_response_comes_in_parts_and_a_request_that_nobody_reads_is_no_failure() {
    let place = Place::new();
    let server = place.start_shell("head -c 3000000 /dev/zero >big; exec $GINNEL serve -n 1 shm:big -- cat big");
    let done = place.run(["call", "shm:big"], &noise(500_000));
    assert_eq!((done.status, done.out.len()), (0, 3_000_000), "{}", done.err);
    assert_eq!(server.end().status, 0);
}

#[test]
fn a_command_that_fails_is_told() {
    let place = Place::new();
    let server = place.start(["serve", "-n", "2", "shm:fails", "--", "sh", "-c", "cat >/dev/null; exit 7"]);
    let done = place.run(["call", "shm:fails", "x"], b"");
    assert_eq!((done.status, done.out.len()), (1, 0));
    assert!(done.err.contains("sh ended with status 7"), "{}", done.err);
    assert_eq!(place.run(["call", "shm:fails", "x"], b"").status, 1);
    let served = server.end();
    assert_eq!(served.status, 0);
    assert!(served.err.contains("status 7"), "{}", served.err);
    // One that cannot be run ends the server, and its client is told why.
    let server = place.start(["serve", "shm:fails", "--", "./no-such-command"]);
    let done = place.run(["call", "shm:fails", "x"], b"");
    assert!(done.status == 1 && done.err.contains("no-such-command"), "{}", done.err);
    assert_eq!(server.end_by_itself().status, 127);
}

/// Some supervisors start their programs so; a command is waited for all the same.
#[test]
fn a_server_that_was_started_to_ignore_its_children_serves() {
    let place = Place::new();
    let server = place.start_shell("exec env --ignore-signal=CHLD $GINNEL serve -n 1 shm:orphans -- cat");
    let done = place.run(["call", "shm:orphans", "hello"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, "hello"), "{}", done.err);
    assert_eq!(server.end_by_itself().status, 0);
}

#[test]
fn waiting_too_long_ends_with_124() {
    let place = Place::new();
    let done = place.run(["call", "-W", "50ms", "shm:nobody", "x"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
    assert!(
        done.err.contains("the request stays") && done.err.contains("ginnel rm --force shm:nobody"),
        "{}",
        done.err
    );
    let done = place.run(["serve", "-W", "50ms", "shm:idle", "--", "cat"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
    // A command whose client does not wait any longer is ended.
    let server = place.start(["serve", "-n", "1", "shm:slow", "--", "sleep", "1000"]);
    let done = place.run(["call", "-W", "100ms", "shm:slow", "x"], b"");
    assert_eq!(done.status, 124, "{}", done.err);
    assert_eq!(server.end_by_itself().status, 0);
}

/// What a command has started ends with it, whatever it is, when nobody waits for it; and when its server is told to end.
#[test]
fn what_a_command_started_ends_with_it() {
    let place = Place::new();
    let (leader, other) = (place.path("leader"), place.path("other"));
    let script = format!(
        "sleep 1000 & echo $! >{o}.new; mv {o}.new {o}; echo $$ >{l}; wait",
        o = other.display(),
        l = leader.display()
    );
    let number = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let runs = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !pid.is_empty() && stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    };
    for is_told in [false, true] {
        let server = place.start(["serve", "-n", "1", "shm:group", "--", "sh", "-c", &script]);
        let client = if is_told {
            place.start(["call", "shm:group", "x"])
        } else {
            place.start(["call", "-W", "1s", "shm:group", "x"])
        };
        wait_until("the command runs", || leader.exists());
        let started = number(&other);
        assert!(runs(&started));
        if is_told {
            server.signal("TERM");
        }
        let done = client.end();
        assert_eq!(done.status, if is_told { 1 } else { 124 }, "{}", done.err);
        server.end_by_itself();
        wait_until("what it started has ended", || !runs(&started));
        std::fs::remove_file(&leader).unwrap();
    }
}

/// Whatever its server waits for: room in the link of a client that does not receive; or that the command takes its input.
#[test]
fn a_command_is_told_to_end_with_its_server() {
    for waits in ["for room", "for the input"] {
        let place = Place::new();
        let [ready, told] = ["ready", "told"].map(|name| place.path(name));
        let work = if waits == "for room" { "cat /dev/zero" } else { "exec >/dev/null; sleep 1000" };
        let script = format!(
            "trap 'touch {}; exit 0' TERM; {{ {work}; }} & touch {}; exec >/dev/null; wait",
            told.display(),
            ready.display()
        );
        let mut server = place.start(["serve", "shm:told", "--", "sh", "-c", &script]);
        place.wait_for_open("shm:told", 1);
        let mut client = place.start(["call", "shm:told"]);
        client.write(&noise(300_000));
        client.close();
        wait_until("the command runs", || ready.exists());
        client.signal("STOP");
        std::thread::sleep(Duration::from_millis(300)); // until nothing moves any more
        server.signal("TERM");
        wait_until("the command is told", || told.exists());
        wait_until("its server ends", || !server.is_running());
        client.signal("CONT");
        client.end();
    }
}

#[test]
fn a_command_ends_with_a_server_that_is_killed() {
    let place = Place::new();
    let leader = place.path("leader");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", leader.display());
    let mut server = place.start(["serve", "shm:dies", "--", "sh", "-c", &script]);
    place.wait_for_open("shm:dies", 1);
    let client = place.start(["call", "shm:dies", "x"]);
    wait_until("the command runs", || leader.exists());
    server.kill();
    let pid = std::fs::read_to_string(&leader).unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    wait_until("the command has ended", || !stat().contains("(sleep)") || stat().contains(") Z"));
    assert_eq!(client.end().status, 5);
}

#[test]
fn the_time_of_a_call_counts_what_it_reads_too() {
    let place = Place::new();
    let _server = place.start(["serve", "shm:reads", "--", "cat"]);
    place.wait_for_open("shm:reads", 1);
    let mut client = place.start(["call", "-W", "50ms", "shm:reads"]);
    client.write(b"begun, and never ended");
    let done = client.end_by_itself();
    assert_eq!(done.status, 124, "{}", done.err);
    assert!(done.err.contains("standard input") && done.err.contains("--timeout"), "{}", done.err);
}

#[test]
fn a_killed_server_is_told_or_its_request_goes_to_another() {
    let place = Place::new();
    let started = place.path("started");
    let script = format!("touch {}; exec sleep 1000", started.display());
    let mut doomed = place.start(["serve", "shm:dies", "--", "sh", "-c", &script]);
    place.wait_for_open("shm:dies", 1);
    let client = place.start(["call", "shm:dies", "x"]);
    wait_until("the command runs", || started.exists());
    doomed.kill();
    let done = client.end();
    assert_eq!(done.status, 5, "{}", done.err);
    assert!(done.err.contains("no server is left, 1 killed"), "{}", done.err);
    // With another server.
    std::fs::remove_file(&started).unwrap();
    assert_eq!(place.run(["rm", "--force", "shm:dies"], b"").status, 0);
    for (tell, status, out) in [(false, 0, "again 1"), (true, 5, "")] {
        let mut doomed = place.start(["serve", "shm:dies", "--", "sh", "-c", &script]);
        place.wait_for_open("shm:dies", 1);
        let args: &[&str] = if tell { &["call", "--tell", "shm:dies", "x"] } else { &["call", "shm:dies", "x"] };
        let client = place.start(args);
        wait_until("the command runs", || started.exists());
        let other = place.start(["serve", "shm:dies", "--", "sh", "-c", "printf 'again %s' $GINNEL_REDELIVERED"]);
        place.wait_for_open("shm:dies", 3);
        doomed.kill();
        let done = client.end();
        assert_eq!((done.status, done.out_text().as_str()), (status, out), "{}", done.err);
        other.signal("TERM");
        assert_eq!(other.end().status, 143);
        std::fs::remove_file(&started).unwrap();
    }
}

#[test]
fn several_commands_run_at_once() {
    let place = Place::new();
    // Each waits for the other one.
    let meet = format!(
        "touch {0}/$GINNEL_CLIENT; until [ $(ls {0} | wc -l) = 2 ]; do sleep 0.01; done; echo met",
        place.path("met").display()
    );
    std::fs::create_dir(place.path("met")).unwrap();
    let server = place.start(["serve", "-j", "2", "-n", "2", "shm:meet", "--", "sh", "-c", &meet]);
    let (one, other) = (place.start(["call", "shm:meet", "x"]), place.start(["call", "shm:meet", "x"]));
    assert_eq!((one.end().out_text().as_str(), other.end().out_text().as_str()), ("met\n", "met\n"));
    assert_eq!(server.end_by_itself().status, 0);
}

#[test]
fn signals_end_both() {
    let place = Place::new();
    let client = place.start(["call", "shm:wait", "x"]);
    place.wait_for_open("shm:wait", 1);
    place.wait_for_messages("shm:wait", 1);
    client.signal("INT");
    assert_eq!(client.end().status, 130);
    let server = place.start(["serve", "shm:wait", "--", "cat"]);
    place.wait_for_open("shm:wait", 1);
    std::thread::sleep(Duration::from_millis(50));
    server.signal("TERM");
    assert_eq!(server.end().status, 143);
}

#[test]
fn what_cannot_carry_requests_is_refused() {
    let place = Place::new();
    assert_eq!(place.run(["call", "mem:x", "y"], b"").status, 2);
    assert_eq!(place.run(["call", "nonsense", "y"], b"").status, 2);
    assert_eq!(place.run(["serve", "shm:x?full=drop-oldest", "--", "cat"], b"").status, 2);
    let done = place.run(["call", "mq:/x", "y"], b"");
    assert!(done.status == 1 && done.err.contains("shared memory only"), "{}", done.err);
    let _queue = place.start(["recv", "shm:queue"]);
    place.wait_for_open("shm:queue", 1);
    let done = place.run(["call", "shm:queue", "y"], b"");
    assert!(done.status == 1 && done.err.contains("queue") && done.err.contains("request"), "{}", done.err);
    let done = place.run(["call", "shm:small?max=100", &"x".repeat(69)], b"");
    assert!(done.status == 1 && done.err.contains("69 bytes, the link allows 68"), "{}", done.err);
}
