//! The order of the run: the harness on itself, then the operations, then the verdict.

mod broadcast;
mod fork;
mod judge;
mod latest;
mod letters;
mod operations;
mod recovery;
mod report;
mod selftest;
mod sleepers;
mod stepper;
mod streams;
mod sweep;
mod trace;
mod unbounded;
mod visible;

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;

use report::Tally;
use sweep::{Effort, Method, Part};

/// Kill points for each operation when nothing is asked for, beside those that others can tell apart. A build that is not optimised takes five times the
/// instructions to do the same, and users do not run it.
const DEFAULT: Option<u64> = if cfg!(debug_assertions) { None } else { Some(QUICK) };
const QUICK: u64 = 40;

/// Runs everything, or what the arguments name; prints the table and `N passed, N failed`.
pub(crate) fn main() -> ExitCode {
    let filters: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS; // a test runner asks for names: this test is one piece
    }
    let effort = match effort() {
        Ok(effort) => effort,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    stepper::pin_to_one_cpu(effort.map_or(0, |effort| effort.part.index));
    let mut tally = Tally::default();
    selftest::run(&mut tally);
    match effort {
        _ if tally.failed > 0 => {}
        None => {
            println!("skipped: the operations, in a build that is not optimised; use --release, or set GINNEL_CRASH");
        }
        Some(effort) => {
            if let Err(error) = sweep_all(effort, &filters, &mut tally) {
                println!("FAILED: {error}");
                tally.failed += 1;
            }
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ExitCode::from(u8::from(tally.failed > 0))
}

/// Sweeps every operation that has one of `filters` in its name.
fn sweep_all(effort: Effort, filters: &[String], tally: &mut Tally) -> Result<(), String> {
    let directory = tempfile::Builder::new().prefix("ginnel-crash-").tempdir_in("/dev/shm");
    let directory = directory.map_err(|error| format!("a directory in /dev/shm: {error}"))?;
    fork::set_variable(ginnel::DIRECTORY_VARIABLE, directory.path());
    let mut scenarios = operations::all(directory.path());
    scenarios.retain(|scenario| filters.is_empty() || filters.iter().any(|filter| scenario.name.contains(filter)));
    if scenarios.is_empty() {
        return Err(format!("no operation has {filters:?} in its name"));
    }
    println!("seed {} (GINNEL_CRASH_SEED={0} repeats this run)", effort.seed);
    report::heading();
    let operations = scenarios.len();
    let (mut instructions, mut distinct) = (0, 0);
    for scenario in scenarios {
        let sweep = sweep::sweep(&scenario, effort);
        report::line(&sweep);
        tally.add(&sweep);
        instructions += sweep.instructions;
        distinct += sweep.distinct;
    }
    println!("{operations} operations, {instructions} instructions, {distinct} moments that others can tell apart");
    Ok(())
}

/// What is asked for; `None` if the operations are not to be swept.
fn effort() -> Result<Option<Effort>, String> {
    let number = |name: &str, text: &str| text.parse().map_err(|_| format!("{name}={text}: not a number"));
    let budget = match env::var("GINNEL_CRASH").as_deref() {
        Ok("all") => Some(u64::MAX),
        Ok("quick") => Some(QUICK),
        Ok("") | Err(_) => DEFAULT,
        Ok(text) => Some(number("GINNEL_CRASH", text)?),
    };
    let seed = match env::var("GINNEL_CRASH_SEED") {
        Ok(text) => number("GINNEL_CRASH_SEED", &text)?,
        Err(_) => RandomState::new().build_hasher().finish() % 1_000_000,
    };
    let method = match env::var("GINNEL_CRASH_STEP").as_deref() {
        Ok("plain") => Method::Plain,
        Ok(text) => return Err(format!("GINNEL_CRASH_STEP={text}: only `plain` is known")),
        Err(_) => Method::Breakpoints,
    };
    let part = match env::var("GINNEL_CRASH_PART") {
        Ok(text) => Part::parse(&text).ok_or(format!("GINNEL_CRASH_PART={text}: not K/N, with K from 1 to N"))?,
        Err(_) => Part::WHOLE,
    };
    Ok(budget.map(|budget| Effort { budget, seed, method, part }))
}
