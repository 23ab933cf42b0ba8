//! `ginnel tour`: it checks what it moves, and leaves nothing behind.

use crate::process::{Place, noise};
use std::time::{Duration, Instant};

#[test]
fn a_file_goes_through_every_mechanism() {
    let place = Place::new();
    let file = place.write("file", &noise(1_000_003));
    let done = place.run(["tour", &file], b"");
    assert_eq!(done.status, 0, "{}", done.err);
    let text = done.out_text();
    for mechanism in ["shm:", "pipe:", "unix:"] {
        let row = text.lines().find(|line| line.starts_with(mechanism)).unwrap();
        assert!(row.ends_with("ok") && row.contains("GB/s"), "{row}");
    }
    assert!(text.contains("next:"));
    assert_eq!(place.link_files(), [""; 0], "no links are left");
}

#[test]
fn json_has_every_figure() {
    let place = Place::new();
    let file = place.write("file", &noise(100_000));
    let json = place.run(["tour", "--json", &file], b"").json();
    assert_eq!((&json["schema"], &json["bytes"]), (&1.into(), &100_000.into()));
    let rows = json["mechanisms"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert_eq!(row["ok"], true, "{row}");
        let times = &row["round_trip_ns"];
        let figures = ["p50", "p99", "p99_9", "max"].map(|name| times[name].as_u64().unwrap());
        assert!(figures[0] > 0 && figures.is_sorted(), "{times}");
        assert!(times["trips"].as_u64().unwrap() > 0 && row["transfer_ns"].as_u64().unwrap() > 0);
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let place = Place::new();
    let file = place.write("file", b"");
    let done = place.run(["tour", &file], b"");
    assert_eq!(done.status, 0, "{}", done.err);
}

#[test]
fn files_that_cannot_be_moved_are_named() {
    let place = Place::new();
    assert_eq!(place.run(["tour", "/no/such/file"], b"").status, 3);
    assert_eq!(place.run(["tour", "/dev/zero"], b"").status, 1);
}

/// Processes that were started by this one.
fn children(parent: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupt_leaves_no_process_no_link_and_no_file() {
    for signal in ["INT", "KILL"] {
        let place = Place::new();
        let tour = place.start(["tour"]); // of 256MiB, so there is time
        wait_until("both processes run", || children(tour.id()).len() == 2);
        let started = children(tour.id());
        tour.signal(signal);
        let done = tour.end();
        assert_eq!(done.status, if signal == "INT" { 130 } else { 128 + 9 }, "{}", done.err);
        for id in started {
            wait_until("it ends", || !std::path::Path::new(&format!("/proc/{id}")).exists());
        }
        assert_eq!(place.link_files(), [""; 0]);
        let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty() || left == ["links"], "{left:?}");
    }
}

#[test]
fn a_process_that_dies_is_a_failure_and_the_others_go_on() {
    let place = Place::new();
    let tour = place.start(["tour"]);
    wait_until("both processes run", || children(tour.id()).len() == 2);
    let victim = children(tour.id())[0];
    let killed = std::process::Command::new("sh").arg("-c").arg(format!("kill -KILL {victim}")).status().unwrap();
    assert!(killed.success());
    let done = tour.end();
    assert_eq!(done.status, 1, "{}", done.out_text());
    assert!(done.err.contains("shm: failed"), "{}", done.err);
    assert_eq!(done.out_text().lines().filter(|line| line.ends_with(" ok")).count(), 2, "{}", done.out_text());
    assert_eq!(place.link_files(), [""; 0]);
}
