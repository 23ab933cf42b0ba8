//! What each wrapper of this crate costs above the bare call of the C library that a program in C would make: both in one process, in turns.
//!
//! Two opinions. *Time*: [`measure`] runs short batches in the order wrapper, bare, bare, wrapper; the median of the rounds' ratios counts, or
//! the ratio of the fastest batches where that is lower, so that a busy machine does not decide. *Instructions* (`--count`, under callgrind):
//! how many more the wrapper executes outside of the kernel; `--judge FILE` takes those counts and charges [`INSTRUCTION_NS`] for each.
//! A call fails that is above [`LIMIT`] by both.
//!
//! ```text
//! cost [--rounds N] [--judge FILE] [PART OF A NAME]     the table; status 1 if a call fails
//! cost --count                                          each case, marked for callgrind
//! cost --names                                          the names, one a line
//! ```

mod bare;
mod callgrind;
mod cases;
mod locks;
mod measure;
mod memory;
mod queues;
mod signals;
mod sockets;
mod streams;

use cases::Case;
use std::collections::HashMap;
use std::process::ExitCode;

/// What a wrapper may cost, as a multiple of the bare call.
const LIMIT: f64 = 1.05;

/// What an instruction outside of the kernel is charged with: one a cycle at 3 GHz, which is slow.
const INSTRUCTION_NS: f64 = 0.33;

/// How often each side of a case runs under callgrind.
const COUNTED: u32 = 500;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut counts, mut part) = (300, None, String::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().and_then(|n| n.parse().ok()).expect("--rounds takes a number"),
            "--judge" => counts = Some(callgrind::read(&arguments.next().expect("--judge takes a file"))),
            "--count" => return count(),
            "--names" => return names(),
            _ => part = argument,
        }
    }
    let mut cases = cases::all();
    cases.retain(|case| case.name.contains(&part));
    table(&mut cases, rounds, counts.as_ref())
}

fn names() -> ExitCode {
    cases::all().iter().for_each(|case| println!("{}", case.name));
    ExitCode::SUCCESS
}

fn count() -> ExitCode {
    for case in &mut cases::all() {
        (case.wrapped)(1);
        callgrind::zero();
        (case.wrapped)(COUNTED);
        callgrind::dump(&format!("{}\twrapped", case.name));
        (case.bare)(1);
        callgrind::zero();
        (case.bare)(COUNTED);
        callgrind::dump(&format!("{}\tbare", case.name));
    }
    ExitCode::SUCCESS
}

fn table(cases: &mut [Case], rounds: usize, counts: Option<&HashMap<String, (f64, f64)>>) -> ExitCode {
    println!("{:38} {:>9} {:>8} {:>8} {:>13} {:>8}", "call", "bare ns", "median", "fastest", "instructions", "charged");
    let mut failed = Vec::new();
    for case in cases {
        let mut time = measure::compare(case, rounds);
        if time.lower() > LIMIT {
            // It may have been the machine: once more, and longer.
            time = measure::compare(case, rounds * 4);
        }
        let counted = counts.and_then(|counts| counts.get(case.name));
        let charged = counted.map(|(wrapped, bare)| charged(case, time.bare_ns, *wrapped, *bare));
        let is_dear = time.lower() > LIMIT && charged.is_none_or(|charged| charged > LIMIT);
        println!(
            "{:38} {:9.1} {:7.3}x {:7.3}x {:>13} {:>8}  {}",
            case.name,
            time.bare_ns,
            time.median,
            time.fastest,
            counted.map_or("-".into(), |(wrapped, bare)| format!("{wrapped:.0} / {bare:.0}")),
            charged.map_or("-".into(), |charged| format!("{charged:.3}x")),
            if is_dear { "TOO DEAR" } else { "" },
        );
        if is_dear {
            failed.push(case.name);
        }
    }
    println!("above {LIMIT}x by both opinions: {}", if failed.is_empty() { "none".into() } else { failed.join(", ") });
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The wrapper's cost by its instructions. Where there is no system call, instructions are all there is.
fn charged(case: &Case, bare_ns: f64, wrapped: f64, bare: f64) -> f64 {
    if case.is_in_process { wrapped / bare } else { 1.0 + (wrapped - bare) * INSTRUCTION_NS / bare_ns }
}
