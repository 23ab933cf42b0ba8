//! `ginnel signal`: what is sent arrives with its value and its sender.

use crate::process::{Place, Run, wait_until};

/// Starts a wait, and returns when signals no longer end it.
fn waiting(place: &Place, args: &[&str]) -> Run {
    let run = place.start(["signal", "wait"].iter().chain(args));
    wait_until("it blocks signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        blocked.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask != 0))
    });
    run
}

fn send(place: &Place, to: &Run, args: &[&str]) -> u32 {
    let sent = place.start(["signal", &to.id().to_string()].iter().chain(args));
    let id = sent.id();
    let done = sent.end();
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    id
}

#[test]
fn a_signal_is_printed_with_its_value_and_its_sender() {
    let place = Place::new();
    let wait = waiting(&place, &["-n", "2"]);
    let first = send(&place, &wait, &["--signal", "RTMIN+1", "--value", "-42"]);
    let mut second = 0;
    // A standard one comes before a real-time one that is pending, so not both at once.
    wait_until("the first is taken", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", wait.id())).unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        pending.is_some_and(|mask| mask.trim().bytes().all(|byte| byte == b'0'))
    });
    second += send(&place, &wait, &["-s", "SIGUSR1"]);
    let done = wait.end();
    let uid = String::from_utf8(std::process::Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
    let uid = uid.trim_end();
    let expected = format!("SIGRTMIN+1 value=-42 pid={first} uid={uid}\nSIGUSR1 pid={second} uid={uid}\n");
    assert_eq!((done.status, done.out_text()), (0, expected));
    assert!(done.err.contains("waits for signals"), "{}", done.err);
}

#[test]
fn real_time_signals_arrive_as_often_as_they_were_sent_and_in_order() {
    let place = Place::new();
    let wait = waiting(&place, &["--json", "-n", "5", "--signal", "RTMIN+2,RTMIN+3"]);
    wait.signal("STOP"); // so that they are queued
    for value in 0..5 {
        send(&place, &wait, &["--signal", "RTMIN+2", "--value", &value.to_string()]);
    }
    wait.signal("CONT");
    let done = wait.end();
    assert_eq!(done.status, 0, "{}", done.err);
    let lines: Vec<serde_json::Value> =
        done.out_text().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let values: Vec<i64> = lines.iter().map(|line| line["value"].as_i64().unwrap()).collect();
    assert_eq!(values, [0, 1, 2, 3, 4]);
    assert!(lines.iter().all(|line| line["schema"] == 1 && line["signal"] == "SIGRTMIN+2" && line["pid"].is_u64()));
}

#[test]
fn what_is_not_waited_for_ends_it_as_always() {
    let place = Place::new();
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let wait = waiting(&place, &[]);
        wait.signal(name);
        let done = wait.end();
        assert_eq!((done.status, done.out.len()), (status, 0), "{name}: {}", done.err);
    }
    let wait = waiting(&place, &["-n", "1", "--signal", "TERM"]);
    wait.signal("TERM");
    let done = wait.end();
    assert!(done.status == 0 && done.out_text().starts_with("SIGTERM pid="), "{}", done.out_text());
}

#[test]
fn a_wait_that_is_too_long_ends_with_124() {
    let done = Place::new().run(["signal", "wait", "-W", "50ms"], b"");
    assert_eq!((done.status, done.out.len()), (124, 0));
    assert!(done.err.contains("timed out"), "{}", done.err);
}

#[test]
fn a_signal_ends_a_process() {
    let place = Place::new();
    let receiver = place.start(["recv", "shm:a"]);
    place.wait_for_open("shm:a", 1);
    send(&place, &receiver, &[]);
    assert_eq!(receiver.end().status, 143);
}

#[test]
fn processes_that_nobody_can_mean_are_refused() {
    let place = Place::new();
    for (args, status, complaint) in [
        (&["0"][..], 2, "many processes"),
        (&["0", "--force"], 2, "many processes"),
        (&["-1", "--force"], 2, "many processes"),
        (&["1"], 2, "--force"),
        (&["-77"], 2, "whole group"),
        (&["-77", "--force", "--value", "1"], 2, "group cannot be sent a value"),
        (&["99999999999"], 2, "99999999999"),
        (&["many"], 2, "many"),
        (&["2147483647"], 3, "no process 2147483647"),
        (&["2147483647", "--signal", "NONE"], 2, "NONE"),
        (&["2147483647", "--value", "3000000000"], 2, "3000000000"),
        (&["wait", "--signal", "KILL"], 2, "cannot be waited for"),
        (&[], 2, "PID"),
    ] {
        let done = place.run(["signal"].iter().chain(args), b"");
        assert_eq!(done.status, status, "{args:?}: {}", done.err);
        assert!(done.err.contains(complaint), "{args:?}: {}", done.err);
    }
}
