//! `ginnel bench`: every shape is measured beside its baseline, what is wrong is said, and nothing is left behind.

use crate::process::{Place, wait_until};
use serde_json::Value;
use std::time::Duration;

/// A run that is over soon: how fast anything was is not asserted.
fn quick(place: &Place, args: &[&str]) -> Value {
    let done = place.run(["bench", "--json", "--rounds", "1", "--messages", "600"].iter().chain(args), b"");
    assert_eq!(done.status, 0, "{args:?}: {}", done.err);
    assert_eq!(place.link_files(), [""; 0], "{args:?}");
    done.json()
}

fn rows(group: &Value) -> Vec<&Value> {
    group["rows"].as_array().unwrap().iter().collect()
}

fn names(group: &Value) -> Vec<&str> {
    rows(group).iter().map(|row| row["mechanism"].as_str().unwrap()).collect()
}

#[test]
fn every_shape_is_measured_beside_its_baseline() {
    for (shape, contenders) in [
        ("unbounded", &["bounded queue", "unbounded"][..]),
        ("broadcast", &["1 receiver", "4 receivers", "64 receivers"]),
        ("latest", &["raw seqlock", "latest_into", "latest"]),
        ("call", &["two queues", "call"]),
        ("mailbox", &["two queues", "mailbox"]),
    ] {
        let report = quick(&Place::new(), &["--shape", shape]);
        for group in report["groups"].as_array().unwrap() {
            assert_eq!((&group["case"]["shape"], &group["baseline"]), (&shape.into(), &contenders[0].into()));
            assert_eq!(names(group), contenders);
            for row in rows(group) {
                assert!(row["failure"].is_null() && row["messages"].as_u64().unwrap() >= 600, "{row}");
                assert!(row["ratio"]["median"].as_f64().unwrap() > 0.0, "{row}");
                assert_eq!(row["times"]["p99_ns"].is_null(), shape == "unbounded", "{row}");
            }
        }
    }
}

#[test]
fn a_stream_of_bytes_is_summed_against_a_socket() {
    let report = quick(&Place::new(), &["--shape", "stream", "--sizes", "100,64KiB"]);
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 6, "round trip and two sizes, two ways of waiting");
    for group in groups {
        assert_eq!(group["baseline"], "unix stream");
        let sums = group["case"]["payload"] == "summed";
        assert_eq!(sums, group["case"]["size"] == 65536, "{group}");
        assert_eq!(names(group).contains(&"stream, in place"), sums);
    }
}

#[test]
fn receivers_are_as_many_as_asked_for() {
    let report = quick(&Place::new(), &["--shape", "broadcast,latest", "--receivers", "1,3", "--sizes", "24"]);
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(names(&groups[0]), ["1 receiver", "3 receivers"]);
    assert_eq!((&groups[0]["case"]["workload"], &groups[1]["case"]["workload"]), (&"send".into(), &"look".into()));
    // Bursts are whole.
    assert!(rows(&groups[0]).iter().all(|row| row["messages"] == 1024), "{report}");
}

#[test]
fn people_get_a_table_without_a_meter() {
    let place = Place::new();
    let args = ["bench", "--shape", "call,broadcast", "--rounds", "1", "--messages", "100", "--mode", "block"];
    let done = place.run(args.iter().chain(&["--receivers", "2"]), b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    let text = done.out_text();
    for words in ["call: round trip, 64 B, blocking", "two queues *", "broadcast: a send, 64 B", "2 receivers", "p99.9"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains('\x1b'));
}

#[test]
fn what_cannot_be_measured_is_a_usage_error_that_lists_what_can() {
    let place = Place::new();
    for (args, complaint) in [
        (&["--shape", "circle"][..], "queue, unbounded, broadcast, latest, call, mailbox, stream"),
        (&["--shape", "broadcast", "--receivers", "0"], "from 1 to 1000"),
        (&["--shape", "broadcast", "--receivers", "1001"], "from 1 to 1000"),
        (&["--receivers", "4"], "--shape broadcast"),
        (&["--sizes", "64kb"], "64KiB"),
    ] {
        let done = place.run(["bench"].iter().chain(args), b"");
        assert_eq!(done.status, 2, "{args:?}: {}", done.err);
        assert!(done.out.is_empty() && done.err.contains(complaint), "{args:?}: {}", done.err);
    }
}

#[test]
fn a_value_without_room_for_its_number_is_a_failure_that_says_so() {
    let place = Place::new();
    let done = place.run(["bench", "--shape", "latest", "--sizes", "4", "--rounds", "1", "--messages", "10"], b"");
    assert_eq!(done.status, 1);
    assert!(done.err.contains("needs 8 bytes"), "{}", done.err);
}

/// Processes that were started by this one.
fn children(parent: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn an_interrupt_ends_it_at_once_and_leaves_neither_process_nor_link() {
    for (trial, (shape, signal, status)) in [
        ("call", "INT", 130),
        ("mailbox", "TERM", 143),
        ("broadcast", "INT", 130),
        ("stream", "HUP", 129),
        ("call", "INT", 130),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::new();
        // So many rounds that it would not end; short ones, so that any contender may be at work.
        let run =
            place.start(["bench", "--shape", shape, "--messages", "3000", "--rounds", "1000000", "--mode", "block"]);
        std::thread::sleep(Duration::from_millis(300 + 150 * trial as u64)); // beyond the look at the machine, most likely
        wait_until("some are at work", || children(run.id()).len() >= 2);
        let started = children(run.id());
        // As a terminal does it: everybody is told.
        let all: String = started.iter().map(|id| format!("kill -{signal} {id} 2>&-; ")).collect();
        let _ = std::process::Command::new("sh").arg("-c").arg(all).status();
        run.signal(signal);
        let done = run.end();
        assert_eq!((done.status, done.out_text().as_str()), (status, ""), "{shape}: {}", done.err);
        for id in started {
            wait_until("it ends", || !std::path::Path::new(&format!("/proc/{id}")).exists());
        }
        assert_eq!(place.link_files(), [""; 0], "{shape}");
    }
}
