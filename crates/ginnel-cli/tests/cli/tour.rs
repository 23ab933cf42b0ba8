//! `ginnel tour`: it checks what it moves, and leaves nothing behind.

use crate::process::{Place, noise};
use std::time::{Duration, Instant};

const ALL: [&str; 12] =
    ["shm", "mem", "pipe", "fifo", "mq", "sysv", "unix", "seqpacket", "dgram", "tcp", "udp", "signal"];

const SHAPES: [&str; 6] = ["unbounded", "broadcast", "latest", "call", "mailbox", "stream"];

/// Names of what the tour could have left in its directory, and beside that of the links.
fn left(place: &Place) -> Vec<String> {
    let names =
        std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "links" && name != "file").chain(place.link_files()).collect()
}

#[test]
fn a_file_goes_through_every_mechanism() {
    let place = Place::new();
    let file = place.write("file", &noise(1_000_003));
    let done = place.run(["tour", &file], b"");
    assert_eq!(done.status, 0, "{}", done.err);
    let text = done.out_text();
    for mechanism in ALL {
        let mut rows = text.lines().filter(|line| line.split_whitespace().next() == Some(mechanism));
        let row = rows.next().unwrap();
        // Datagrams may be lost, which the row says.
        assert!(row.contains("B/s") && row.ends_with(" ok") || mechanism == "udp" || mechanism == "signal", "{row}");
        assert!(rows.next().unwrap().split_whitespace().count() > 5, "what it promises");
    }
    assert!(text.contains("next:") && text.contains(" in all."));
    assert_eq!(left(&place), [""; 0]);
}

#[test]
fn json_has_every_figure() {
    let place = Place::new();
    let file = place.write("file", &noise(100_000));
    let json = place.run(["tour", "--json", &file], b"").json();
    assert_eq!((&json["schema"], &json["bytes"]), (&1.into(), &100_000.into()));
    assert!(json["total_ns"].as_u64().unwrap() > 0);
    let rows = json["mechanisms"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["mechanism"].as_str().unwrap()).collect();
    assert_eq!(names, ALL);
    for row in rows {
        assert_eq!((&row["ok"], &row["state"]), (&true.into(), &"ok".into()), "{row}");
        let times = &row["round_trip_ns"];
        let figures = ["p50", "p99", "p99_9", "max"].map(|name| times[name].as_u64().unwrap());
        assert!(figures[0] > 0 && figures.is_sorted(), "{times}");
        let number = |name: &str| row[name].as_u64().unwrap();
        assert!(times["trips"].as_u64().unwrap() > 0 && number("transfer_ns") > 0 && number("largest_bytes") > 0);
        match row["mechanism"].as_str().unwrap() {
            "signal" => assert_eq!((number("messages"), number("lost")), (10_000, 0), "{row}"),
            "udp" => assert_eq!(number("messages") + number("lost"), 100_000_u64.div_ceil(8192), "{row}"),
            _ => assert_eq!((number("moved_bytes"), number("lost")), (100_000, 0), "{row}"),
        }
    }
}

#[test]
fn every_shape_is_shown_between_processes_and_told() {
    let place = Place::new();
    let file = place.write("file", &noise(3_000_003));
    let done = place.run(["tour", "--only", &SHAPES.join(","), &file], b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    let text = done.out_text();
    for (shape, happened) in SHAPES.iter().zip([
        "46876 messages, 2.9MiB, were sent before one was received",
        "each of 3 processes got the same 46 messages, 2.9MiB",
        "each whole, none older than the last",
        "right answers, half of them within ",
        "400 to alice; ",
        "2.9MiB went at ",
    ]) {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{shape} ")));
        assert!(lines.next().is_some_and(|line| line.contains("  ok        ")), "{shape}: {text}");
        assert!(lines.next().is_some_and(|line| line.contains(happened)), "{shape}: {text}");
    }
    assert!(!text.contains("MECHANISM"), "{text}");
    assert_eq!(left(&place), [""; 0]);
}

#[test]
fn json_has_what_every_process_of_a_shape_found() {
    let place = Place::new();
    let file = place.write("file", &noise(100_000));
    let json = place.run(["tour", "--json", "--only", &SHAPES.join(","), &file], b"").json();
    let shapes = json["shapes"].as_array().unwrap();
    let all = |name: &str| shapes.iter().map(|story| story[name].clone()).collect::<Vec<_>>();
    assert_eq!((all("shape"), all("ok")), (SHAPES.map(Into::into).to_vec(), [true; 6].map(Into::into).to_vec()));
    let counts = shapes.iter().map(|story| story["processes"].as_array().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 4, 2, 3, 3, 2]);
    let drained = &shapes[0]["processes"][1];
    assert_eq!(
        (&drained["part"], &drained["did"], &drained["waiting"]),
        (&"consumer".into(), &"drained".into(), &1563.into())
    );
    let heard = shapes[1]["processes"].as_array().unwrap()[1..].iter().map(|one| one["crc32"].as_u64().unwrap());
    assert!(heard.eq([json["crc32"].as_u64().unwrap(); 3]), "{json}");
    let letters = &shapes[4]["processes"][0];
    assert_eq!((&letters["part"], &letters["letters"]), (&"alice".into(), &400.into()));
}

#[test]
fn a_process_of_a_shape_that_dies_is_a_failure_and_the_others_go_on() {
    for (shape, victim) in
        [("unbounded", 1), ("broadcast", 2), ("latest", 0), ("call", 0), ("mailbox", 1), ("stream", 1)]
    {
        let place = Place::new();
        let tour = place.start(["tour", "--json", "--only", &format!("{shape},pipe")]);
        let is_of = |id: &u32| {
            let text = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            text.split('\0').nth(2) == Some(shape)
        };
        let parts = || children(tour.id()).into_iter().filter(is_of).collect::<Vec<_>>();
        wait_until("it has begun", || parts().len() > victim);
        let kill = format!("kill -KILL {}", parts()[victim]);
        let _ = std::process::Command::new("sh").arg("-c").arg(kill).status();
        let done = tour.end();
        let json = done.json();
        assert_eq!(json["mechanisms"][0]["ok"], true, "{shape}: {json}");
        // Somebody on a busy machine may be too late to kill it.
        if json["shapes"][0]["ok"] == false {
            assert_eq!(done.status, 1, "{shape}: {json}");
            assert!(done.err.contains(&format!("{shape} failed: ")), "{}", done.err);
        }
        assert_eq!(left(&place), [""; 0], "{shape}");
    }
}

#[test]
fn only_what_was_chosen_runs() {
    let place = Place::new();
    let file = place.write("file", &noise(1000));
    let json = place.run(["tour", "--json", "--only", "fifo,mq", &file], b"").json();
    let names: Vec<_> = json["mechanisms"].as_array().unwrap().iter().map(|row| row["mechanism"].clone()).collect();
    assert_eq!(names, ["fifo", "mq"]);
    assert_eq!(json["shapes"], serde_json::json!([]));
    let done = place.run(["tour", "--only", "pigeon", &file], b"");
    assert_eq!(done.status, 2);
    assert!(done.err.contains("seqpacket") && done.err.contains("mailbox"), "it lists what there is: {}", done.err);
}

/// A tour of a small file under a limit that `prlimit(1)` sets.
fn limited(place: &Place, limit: &str, only: &str) -> (i32, String) {
    let file = place.write("file", &noise(1000));
    let mut run = std::process::Command::new("prlimit");
    run.args([limit, env!("CARGO_BIN_EXE_ginnel"), "tour", "--only", only, &file]).env("GINNEL_DIR", place.links());
    let done = run.output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

#[test]
fn what_the_host_forbids_is_named_with_the_reason_and_is_no_failure() {
    for (limit, mechanism, reason) in
        [("--msgqueue=0", "mq", "RLIMIT_MSGQUEUE"), ("--sigpending=0", "signal", "RLIMIT_SIGPENDING")]
    {
        let place = Place::new();
        let (status, text) = limited(&place, limit, &format!("{mechanism},fifo"));
        assert_eq!(status, 0, "{text}");
        let named = text.lines().find(|line| line.starts_with(&format!("{mechanism} is not here: "))).unwrap();
        assert!(named.contains(reason), "{named}");
        assert!(text.lines().any(|line| line.starts_with("fifo ") && line.ends_with(" ok")), "{text}");
        assert_eq!(left(&place), [""; 0]);
        let (status, text) = limited(&place, limit, mechanism);
        assert_eq!(status, 1, "nothing at all went: {text}");
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

/// The two processes of a mechanism: their numbers, and the addresses of the queues that they would leave.
fn both(tour: u32, mechanism: &str) -> (Vec<u32>, [String; 2]) {
    let arguments = |id: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        text.split('\0').map(String::from).collect::<Vec<_>>()
    };
    let is_of = |id: &u32| arguments(id).get(2).is_some_and(|name| name == mechanism);
    let are_there = || children(tour).iter().filter(|id| is_of(id)).count() == 2;
    wait_until("both processes run", are_there);
    let started = children(tour);
    let id: u64 = arguments(&started[0])[4].parse().unwrap();
    let key = 0x4000_0000 | (id & 0x3fff_fffe);
    match mechanism {
        "sysv" => (started, [format!("sysv:{key}"), format!("sysv:{}", key + 1)]),
        _ => (started, ["there", "back"].map(|way| format!("mq:/ginnel-tour-{id:016x}-{way}"))),
    }
}

fn is_clean(place: &Place, queues: &[String]) {
    for queue in queues {
        let done = place.run(["rm", queue], b"");
        assert_eq!(done.status, 3, "{queue} is still there: {}", done.err);
    }
    assert_eq!(left(place), [""; 0]);
}

#[test]
fn an_interrupt_leaves_no_process_and_nothing_that_has_a_name() {
    for (signal, mechanism) in [("INT", "shm"), ("KILL", "shm"), ("INT", "sysv"), ("KILL", "mq"), ("KILL", "fifo")] {
        let place = Place::new();
        let tour = place.start(["tour", "--only", mechanism]);
        let (started, queues) = both(tour.id(), mechanism);
        std::thread::sleep(Duration::from_millis(100)); // into the round trips, most likely
        tour.signal(signal);
        let done = tour.end();
        assert_eq!(done.status, if signal == "INT" { 130 } else { 128 + 9 }, "{}", done.err);
        for id in started {
            wait_until("it ends", || !std::path::Path::new(&format!("/proc/{id}")).exists());
        }
        if signal == "KILL" {
            place.run(["clean"], b""); // its children may just have left the rest to it
        }
        is_clean(&place, &queues);
    }
}

/// Signalled so many ms after its processes have started; its status.
fn interrupted(signal: &str, shape: &str, after: u64) -> i32 {
    let place = Place::new();
    let tour = place.start(["tour", "--only", shape]);
    wait_until("its processes run", || children(tour.id()).len() >= 2);
    let started = children(tour.id());
    std::thread::sleep(Duration::from_millis(after));
    tour.signal(signal);
    let done = tour.end();
    for id in started {
        wait_until("it ends", || !std::path::Path::new(&format!("/proc/{id}")).exists());
    }
    if signal == "KILL" {
        wait_until("clean finds the rest", || {
            place.run(["clean"], b"");
            left(&place).is_empty()
        });
    }
    is_clean(&place, &[]);
    done.status
}

#[test]
fn an_interrupted_shape_leaves_neither_processes_nor_links() {
    for (signal, shape) in [("INT", "stream"), ("KILL", "mailbox"), ("INT", "broadcast"), ("KILL", "call")] {
        // Into the middle, most likely; but a tour that has ended by itself before, on a machine that is busy, was not interrupted: then sooner.
        let mut statuses = Vec::new();
        for after in [60, 20, 5, 1, 0] {
            statuses.push(interrupted(signal, shape, after));
            if statuses.last() != Some(&0) {
                break;
            }
        }
        assert_eq!(statuses.last(), Some(&if signal == "INT" { 130 } else { 128 + 9 }), "{shape}: {statuses:?}");
    }
}

#[test]
fn a_process_that_dies_is_a_failure_and_the_others_go_on() {
    for (victim, mechanism) in
        [(0, "shm"), (1, "mq"), (0, "sysv"), (1, "dgram"), (0, "unix"), (1, "udp"), (0, "signal")]
    {
        let place = Place::new();
        let tour = place.start(["tour", "--only", &format!("{mechanism},pipe")]);
        let (started, queues) = both(tour.id(), mechanism);
        std::thread::sleep(Duration::from_millis(100));
        let kill = format!("kill -KILL {}", started[victim]);
        assert!(std::process::Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
        let done = tour.end();
        assert_eq!(done.status, 1, "{mechanism}: {}", done.out_text());
        assert!(done.err.contains(&format!("{mechanism} failed: ")) && done.err.contains("signal: 9"), "{}", done.err);
        assert!(done.out_text().lines().any(|line| line.starts_with("pipe ") && line.ends_with(" ok")));
        is_clean(&place, &queues);
    }
}

/// The places of tours beside the links: what is there of a mechanism's queues, by the directory's name.
fn queues(place: &Place) -> Vec<String> {
    let mut queues = Vec::new();
    for name in left(place) {
        let Some((mechanism, id)) = name.strip_prefix("links-tour-").and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        let key = 0x4000_0000 | (u64::from_str_radix(id, 16).unwrap() & 0x3fff_fffe);
        match mechanism {
            "sysv" => queues.extend([format!("sysv:{key}"), format!("sysv:{}", key + 1)]),
            "mq" => queues.extend(["there", "back"].map(|way| format!("mq:/ginnel-tour-{id}-{way}"))),
            _ => {}
        }
    }
    queues
}

/// Killed at any moment, alone or with its children: `clean` finds what is left.
#[test]
fn whatever_a_kill_leaves_is_cleaned() {
    let scale: u64 = std::env::var("GINNEL_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = 88_172_645_463_325_252_u64;
    let mut left_over = 0;
    for trial in 0..10 * scale {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = Place::new();
        let file = place.write("file", &noise(1000));
        let tour = place.start(["tour", "--only", "mq,sysv,dgram,fifo", &file]);
        let (end, mut seen) = (Instant::now() + Duration::from_micros((random >> 33) % 600_000), Vec::new());
        while Instant::now() < end {
            seen.extend(queues(&place));
            std::thread::sleep(Duration::from_millis(1));
        }
        let started = children(tour.id());
        // At once, so that no one can clean up after the others; those who have ended are none.
        let others =
            started.iter().filter(|_| trial % 3 > 0).map(|id| format!("kill -KILL {id} 2>&-; ")).collect::<String>();
        let kill = format!("kill -{} {}; {others}", ["KILL", "TERM"][trial as usize % 2], tour.id());
        let _ = std::process::Command::new("sh").arg("-c").arg(kill).status();
        tour.end();
        seen.extend(queues(&place));
        for id in started {
            wait_until("it ends", || !std::path::Path::new(&format!("/proc/{id}")).exists());
        }
        left_over += left(&place).len();
        let done = place.run(["clean"], b"");
        assert_eq!(done.status, 0, "{}", done.err);
        seen.sort();
        seen.dedup();
        for queue in seen {
            let done = place.run(["rm", &queue], b"");
            assert_eq!(done.status, 3, "trial {trial}: {queue} is still there: {}", done.err);
        }
        let left: Vec<_> = left(&place).into_iter().filter(|name| name != "?ends").collect();
        assert_eq!(left, [""; 0], "trial {trial}");
    }
    eprintln!("{left_over} things were left for clean");
}

/// What a living tour has is not touched.
#[test]
fn a_living_tour_is_not_cleaned() {
    let place = Place::new();
    let file = place.write("file", &noise(1000));
    let tour = place.start(["tour", "--json", "--only", "mq,sysv,dgram,unix", &file]);
    let mut run = tour;
    while run.is_running() {
        assert_eq!(place.run(["clean"], b"").out_text(), "");
    }
    let json = run.end().json();
    for row in json["mechanisms"].as_array().unwrap() {
        assert_eq!(row["ok"], true, "{row}");
    }
}
