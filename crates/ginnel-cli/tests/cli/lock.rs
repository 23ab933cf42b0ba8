//! `ginnel lock`: one at a time, for exactly as long as the command runs or its keeper lives.

use crate::process::{Place, Run, wait_until};

/// Whether somebody has it locked against everybody.
fn is_locked(place: &Place, file: &str) -> bool {
    place.run(["lock", "-W", "0s", file, "--", "true"], b"").status == 124
}

/// A run whose command has begun, so that the command has what was passed to it.
fn holding(place: &Place, file: &str, options: &[&str]) -> Run {
    let begun = place.path("begun");
    let command = [file, "--", "sh", "-c", ": >\"$0\"; exec cat", begun.to_str().unwrap()];
    let run = place.start(["lock"].iter().chain(options).chain(&command));
    wait_until("its command runs", || begun.exists());
    assert!(is_locked(place, file));
    run
}

#[test]
fn one_that_was_started_to_ignore_its_children_waits_for_its_command() {
    let place = Place::new();
    let run = place.start_shell("exec env --ignore-signal=CHLD $GINNEL lock file -- sh -c 'exit 7'");
    assert_eq!(run.end_by_itself().status, 7);
}

#[test]
fn commands_run_one_at_a_time() {
    const RUNS: usize = 6;
    let place = Place::new();
    let (lock, file) = (place.path("lock"), place.write("count", b"0"));
    let script = format!("n=$(cat {file}); sleep 0.05; echo $((n + 1)) > {file}");
    let lock = lock.to_str().unwrap();
    let start = |_| place.start(["lock", lock, "--", "sh", "-c", &script]);
    let runs: Vec<Run> = (0..RUNS).map(start).collect();
    for run in runs {
        assert_eq!(run.end().status, 0);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), RUNS.to_string());
}

#[test]
fn the_status_is_that_of_the_command() {
    let place = Place::new();
    let file = place.write("lock", b"");
    for (command, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        assert_eq!(place.run(["lock", &file, "--", "sh", "-c", command], b"").status, status);
    }
    assert_eq!(place.run(["lock", &file, "--", "/no/such/program"], b"").status, 127);
    assert_eq!(place.run(["lock", &file, "--", "/dev/null"], b"").status, 126);
}

#[test]
fn one_that_is_held_is_not_waited_for_longer_than_asked() {
    let place = Place::new();
    let file = place.write("lock", b"");
    let holder = holding(&place, &file, &[]);
    let done = place.run(["lock", "-W", "50ms", &file, "--", "true"], b"");
    assert_eq!(done.status, 124);
    assert!(done.err.contains(&file) && done.err.contains("timed out"), "{}", done.err);
    assert_eq!(holder.end().status, 0);
    assert!(!is_locked(&place, &file));
}

#[test]
fn those_that_share_it_run_beside_each_other_but_not_beside_one_alone() {
    let place = Place::new();
    let file = place.write("lock", b"");
    let holder = holding(&place, &file, &["--shared"]);
    assert_eq!(place.run(["lock", "--shared", "-W", "0s", &file, "--", "true"], b"").status, 0);
    assert!(is_locked(&place, &file), "for one alone");
    drop(holder.end());
}

#[test]
fn a_signal_goes_to_the_command() {
    let place = Place::new();
    let (file, ready) = (place.write("lock", b""), place.path("ready"));
    let script = format!("trap 'exit 9' USR1; : > {}; for i in $(seq 500); do sleep 0.02; done", ready.display());
    let run = place.start(["lock", &file, "--", "sh", "-c", &script]);
    wait_until("the trap is set", || ready.exists());
    run.signal("USR1");
    assert_eq!(run.end_by_itself().status, 9);
}

#[test]
fn a_signal_while_it_waits_ends_it() {
    let place = Place::new();
    let (file, never) = (place.write("lock", b""), place.path("never"));
    let holder = holding(&place, &file, &[]);
    let waiting = place.start(["lock", &*file, "--", "touch", never.to_str().unwrap()]);
    wait_until("it sleeps on the lock", || is_asleep(waiting.id()));
    waiting.signal("INT");
    assert_eq!(waiting.end_by_itself().status, 130);
    assert_eq!(holder.end().status, 0);
    assert!(!never.exists() && !is_locked(&place, &file));
}

fn is_asleep(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

#[test]
fn the_lock_dies_with_its_keeper_though_the_command_runs_on() {
    let place = Place::new();
    let file = place.write("lock", b"");
    let mut holder = holding(&place, &file, &[]);
    holder.kill();
    assert!(!is_locked(&place, &file));
}

#[test]
fn a_lock_that_was_passed_lasts_as_long_as_the_command() {
    let place = Place::new();
    let file = place.write("lock", b"");
    let mut holder = holding(&place, &file, &["--pass"]);
    holder.kill();
    assert!(is_locked(&place, &file), "the command has it still");
    drop(holder); // and with it the input of the command, which so ends
    wait_until("it is unlocked", || !is_locked(&place, &file));
}

#[test]
fn a_command_finds_what_was_passed_at_its_number() {
    let place = Place::new();
    let file = place.write("lock", b"");
    let script = "test $GINNEL_LOCK_FD = 3 && readlink /proc/self/fd/3";
    let done = place.run(["lock", "--pass", &*file, "--", "sh", "-c", script], b"");
    assert_eq!((done.status, done.out_text().trim_end()), (0, &*file));
    let script = "test -z \"$GINNEL_LOCK_FD\" && ls -l /proc/self/fd";
    let done = place.run(["lock", &*file, "--", "sh", "-c", script], b"");
    assert!(done.status == 0 && !done.out_text().contains(&file), "{}", done.out_text());
}

#[test]
fn what_cannot_be_locked_says_why() {
    let place = Place::new();
    let done = place.run(["lock", place.path("").to_str().unwrap(), "--", "true"], b"");
    assert_eq!(done.status, 1);
    assert!(done.err.contains("no regular file"), "{}", done.err);
    let missing = place.path("missing/lock");
    assert_eq!(place.run(["lock", missing.to_str().unwrap(), "--", "true"], b"").status, 3);
    let fresh = place.path("fresh");
    assert_eq!(place.run(["lock", fresh.to_str().unwrap(), "--", "true"], b"").status, 0);
    assert!(fresh.exists(), "it is made");
}
