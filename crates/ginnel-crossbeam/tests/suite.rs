//! crossbeam-channel's own tests on a `mem:` link: other people's second opinion.
//!
//! ```text
//! cargo xtask test crossbeam                                              # or: cargo test --release -p ginnel-crossbeam --test suite
//! cargo test --release -p ginnel-crossbeam --test suite -- array::spsc    # those whose name has this in it
//! ```
//!
//! `build.rs` copies them from the package; `suite/excepted.txt` names those that are not run, with the reason. One that is neither run nor named there, or that is named
//! and not there, fails the suite.
//!
//! Tests that sleep lean on time: they run first, all at once, while nothing else does; the others on every processor; and one at a time those that count what the whole
//! process allocates. Each has [`LIMIT`].

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

include!(concat!(env!("OUT_DIR"), "/suite.rs"));

/// What is not run, and why.
const EXCEPTED: &str = include_str!("suite/excepted.txt");

/// The longest that a test may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// A test that runs.
struct Run {
    name: &'static str,
    test: fn(),
    /// What it is to panic with.
    should_panic: Option<&'static str>,
    sleeps: bool,
    /// It would be disturbed by others.
    alone: bool,
    /// It asks for a capacity of 0, and gets one of 1.
    from_zero: bool,
}

/// A test that ended: how, and after how long.
struct Ended {
    name: &'static str,
    failed: bool,
    took: Duration,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS; // a test runner asks for names: this test is one piece
    }
    let reasons = reasons();
    let wrong = account(&reasons);
    wrong.iter().for_each(|line| println!("FAILED  {line}"));
    if !wrong.is_empty() {
        println!("0 passed, {} failed", wrong.len());
        return ExitCode::FAILURE;
    }
    let filters: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |run: &&Run| filters.is_empty() || filters.iter().any(|&filter| run.name.contains(filter));
    let ended = if cfg!(debug_assertions) {
        println!("skipped: the tests, in a build that is not optimised; use --release");
        Vec::new()
    } else {
        run_all(&RUNS.iter().filter(wanted).collect::<Vec<_>>())
    };
    report(&ended, &reasons)
}

/// Reasons, each with the tests that it excepts: a line that begins with `=`, then a name on each line.
fn reasons() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut reasons = Vec::new();
    for line in EXCEPTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("= ") {
            Some(reason) => reasons.push((reason, Vec::new())),
            None => reasons.last_mut().expect("a reason comes first").1.push(line),
        }
    }
    reasons
}

/// What is wrong with the list.
fn account(reasons: &[(&str, Vec<&str>)]) -> Vec<String> {
    let (found, run): (BTreeSet<_>, BTreeSet<_>) =
        (FOUND.iter().copied().collect(), RUNS.iter().map(|run| run.name).collect());
    let mut times = BTreeMap::<_, u32>::new();
    reasons.iter().flat_map(|(_, names)| names).for_each(|&name| *times.entry(name).or_default() += 1);
    let left_out = found.iter().filter(|&name| !run.contains(name) && !times.contains_key(name));
    let mut wrong: Vec<_> = left_out.map(|name| format!("{name} is neither run nor excepted")).collect();
    let stale = times.keys().filter(|&name| !found.contains(name));
    wrong.extend(stale.map(|name| format!("{name} is excepted, but {PACKAGE} has no such test")));
    wrong.extend(
        times.iter().filter(|(name, _)| run.contains(*name)).map(|(name, _)| format!("{name} is excepted, and run")),
    );
    wrong.extend(times.iter().filter(|(_, &times)| times > 1).map(|(name, _)| format!("{name} is excepted twice")));
    wrong
}

/// Runs them, in three parts.
fn run_all(runs: &[&'static Run]) -> Vec<Ended> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let part = |is_in: fn(&Run) -> bool| runs.iter().copied().filter(|run| is_in(run)).collect::<Vec<_>>();
    let mut ended = run_part(&part(|run| run.sleeps && !run.alone), usize::MAX);
    ended.extend(run_part(&part(|run| !run.sleeps && !run.alone), processors));
    ended.extend(run_part(&part(|run| run.alone), 1));
    ended
}

/// Runs some, so many at once.
fn run_part(runs: &[&'static Run], at_once: usize) -> Vec<Ended> {
    let (ends, results) = channel();
    let mut under_way = BTreeMap::new();
    let mut waiting = runs.iter().copied();
    let mut ended = Vec::new();
    loop {
        while under_way.len() < at_once {
            let Some(run) = waiting.next() else { break };
            start(run, ends.clone());
            under_way.insert(run.name, Instant::now());
        }
        if under_way.is_empty() {
            return ended;
        }
        let end = next(&results, &under_way);
        under_way.remove(end.name);
        println!("{} {} in {:.2} s", if end.failed { "FAILED " } else { "ok     " }, end.name, end.took.as_secs_f64());
        ended.push(end);
    }
}

/// What ends next. The end of the process if one has had its time.
fn next(results: &Receiver<Ended>, under_way: &BTreeMap<&str, Instant>) -> Ended {
    loop {
        if let Ok(end) = results.recv_timeout(Duration::from_secs(1)) {
            return end;
        }
        let hang: Vec<_> =
            under_way.iter().filter(|(_, began)| began.elapsed() > LIMIT).map(|(name, _)| *name).collect();
        if !hang.is_empty() {
            println!("FAILED  not done after {} s: {}", LIMIT.as_secs(), hang.join(", "));
            println!("0 passed, {} failed", hang.len());
            std::process::exit(1);
        }
    }
}

fn start(run: &'static Run, ends: Sender<Ended>) {
    let body = move || {
        let began = Instant::now();
        let said = catch_unwind(run.test).err().map(|panic| match panic.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned()),
        });
        let failed = match (run.should_panic, said) {
            (Some(expected), said) => !said.is_some_and(|said| said.contains(expected)),
            (None, said) => said.is_some(),
        };
        let _ = ends.send(Ended { name: run.name, failed, took: began.elapsed() });
    };
    thread::Builder::new().name(run.name.to_owned()).spawn(body).expect("a thread");
}

fn report(ended: &[Ended], reasons: &[(&str, Vec<&str>)]) -> ExitCode {
    let excepted: usize = reasons.iter().map(|(_, names)| names.len()).sum();
    let from_zero = RUNS.iter().filter(|run| run.from_zero).count();
    println!("\n{PACKAGE} has {} tests: {} are run, {excepted} excepted.", FOUND.len(), RUNS.len());
    println!("Of those that are run {from_zero} ask for a capacity of 0, and get one of 1. Any other capacity is rounded up to a power of two.");
    EDITED.iter().for_each(|(name, edit)| println!("Changed: {name}: {edit}"));
    for (reason, names) in reasons {
        println!("\nExcepted, {}: {reason}", names.len());
        println!("  {}", names.join(", "));
    }
    let failed: Vec<_> = ended.iter().filter(|end| end.failed).map(|end| end.name).collect();
    if !failed.is_empty() {
        println!("\nFAILED: {}", failed.join(", "));
    }
    println!("\n{} passed, {} failed", ended.len() - failed.len() + 1, failed.len()); // one more: the account
    ExitCode::from(u8::from(!failed.is_empty()))
}
