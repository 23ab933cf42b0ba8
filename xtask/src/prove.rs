//! `cargo xtask prove`: the deep forms of what `ci` does in seconds. By hand, and by name: all of it takes days.
//!
//! | step    | what it does                                                                             | about        |
//! |---------|------------------------------------------------------------------------------------------|--------------|
//! | flips   | every bit of every shape, and millions of wrong words, on the engine alone               | 5 minutes    |
//! | handles | the same under whole handles, over real files                                            | 10 minutes   |
//! | fuzz    | each fuzz target under libFuzzer for a minute; new inputs go to `target/fuzz-corpus`      | 10 minutes   |
//! | asan    | `flips`, the corpus and the engine's tests under AddressSanitizer                        | 15 minutes   |
//! | tsan    | the engine between threads, under ThreadSanitizer                                        | 1 minute     |
//! | loom    | the core under every interleaving with three preemptions                                 | hours        |
//! | soak    | ten minutes of kills on every shape                                                      | 11 minutes   |
//! | crash   | a kill at every instruction                                                              | hours        |
//!
//! Fuzzer and sanitizers need a nightly toolchain: where it, or cargo-fuzz, is not installed, their steps are skipped, and say so.
//! They build apart (`target/asan` and so on), as their flags would otherwise rebuild everything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::step::{self, Step};
use crate::{Outcome, test};

/// The longest that a step may take unless the caller says otherwise.
const LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// Preemptions that a loom model explores per execution, here.
const LOOM_PREEMPTIONS: &str = "3";

/// What the sanitizers run on: the only platform that ginnel is tested on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Seconds for each fuzz target.
const FUZZ_SECONDS: u32 = 60;

/// Runs the steps named in `arguments`, or all.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let chosen =
        step::limit_or(LIMIT, arguments).and_then(|(limit, names)| Ok((limit, step::choose(steps(root), &names)?)));
    let (limit, steps) = match chosen {
        Ok(chosen) => chosen,
        Err(wrong) => {
            eprintln!("xtask prove: {wrong}");
            return Ok(Outcome::Usage);
        }
    };
    let reports: Vec<_> = steps.into_iter().map(|step| step.run(limit)).collect();
    Ok(step::summarise(&reports))
}

fn steps(root: &Path) -> Vec<Step> {
    let mut crash = test::released(root, "ginnel", "crash");
    crash.command.env("GINNEL_CRASH", "all");
    let mut soak = Step::cargo("soak", root, &["test", "--release", "-p", "ginnel", "--test", "soak", "--"]);
    soak.command.args(["--for", "10min", "--seed", "7"]);
    soak.counts_tests = true;
    let loom = test::loom(root, LOOM_PREEMPTIONS);
    vec![flips(root), handles(root), fuzz(root), asan(root), tsan(root), loom, soak, crash]
}

/// Of what users run, but with the checks of a debug build: an overflow is a finding too.
fn flips(root: &Path) -> Step {
    let mut step = Step::cargo("flips", root, &["test", "--release", "-p", "ginnel-fed", "--", "--nocapture"]);
    step.command.env("GINNEL_FED", "all").env("CARGO_TARGET_DIR", apart(root, "checked"));
    checked(&mut step.command);
    step.counts_tests = true;
    step
}

fn handles(root: &Path) -> Step {
    let mut step = Step::cargo("handles", root, &["test", "--release", "-p", "ginnel", "--test", "links", "--"]);
    step.command.args(["--nocapture", "--test-threads=1", "flipped::", "corrupt::"]).env("GINNEL_TEST_SCALE", "60");
    step.command.env("CARGO_TARGET_DIR", apart(root, "checked"));
    checked(&mut step.command);
    step.counts_tests = true;
    step
}

fn checked(command: &mut Command) {
    command
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
}

fn fuzz(root: &Path) -> Step {
    let script = format!(
        "set -e; for target in attach receive address command; do mkdir -p {corpus}/$target; \
         cargo +nightly fuzz run --fuzz-dir {folder} $target {corpus}/$target {folder}/corpus/$target \
         -- -max_total_time={FUZZ_SECONDS} -timeout=1 -max_len=4096; done",
        corpus = apart(root, "fuzz-corpus").display(),
        folder = root.join("fuzz").display(),
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(root);
    command.env_remove("CARGO").env("CARGO_TARGET_DIR", apart(root, "fuzz"));
    let skipped = nightly_is_missing().or_else(|| {
        let is_there = succeeds(Command::new("cargo").args(["fuzz", "--version"]));
        (!is_there).then(|| "cargo-fuzz is not installed: cargo install cargo-fuzz".to_owned())
    });
    Step { name: "fuzz", command, counts_tests: false, needs_one_of: Vec::new(), skipped }
}

/// In regions on the heap, whose ends the sanitizer knows.
fn asan(root: &Path) -> Step {
    let mut step = sanitized("asan", root, "address", &["-p", "ginnel-fed", "-p", "ginnel-core", "--all-targets"]);
    step.command.env("GINNEL_FED", "all").env("GINNEL_FED_REGION", "heap");
    step
}

/// The engine between threads. Not whole handles: the standard library, with whose locks they work, is not instrumented, for which its source would be needed.
fn tsan(root: &Path) -> Step {
    let mut step = sanitized("tsan", root, "thread", &["-p", "ginnel-core", "--test", "threads"]);
    step.command.env("TSAN_OPTIONS", format!("suppressions={}", root.join("xtask/tsan.txt").display()));
    step
}

fn sanitized(name: &'static str, root: &Path, sanitizer: &str, tests: &[&str]) -> Step {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "test", "--release", "--target", TARGET]).args(tests).current_dir(root);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!("{flags} -Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer");
    command.env("RUSTFLAGS", flags.trim_start()).env("CARGO_TARGET_DIR", apart(root, name));
    // Set by the cargo that runs us, for another toolchain.
    command.env_remove("CARGO").env_remove("RUSTC");
    checked(&mut command);
    Step { name, command, counts_tests: true, needs_one_of: Vec::new(), skipped: nightly_is_missing() }
}

/// A folder of its own below the build's.
fn apart(root: &Path, name: &str) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join(name)
}

fn nightly_is_missing() -> Option<String> {
    let is_there = succeeds(Command::new("cargo").args(["+nightly", "--version"]));
    (!is_there).then(|| "no nightly toolchain is installed: rustup toolchain install nightly".to_owned())
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_steps_are_refused_before_anything_runs() {
        let root = Path::new("/nonexistent");
        assert_eq!(run(root, &["polish".into()]).unwrap(), Outcome::Usage);
    }

    #[test]
    fn every_step_is_in_the_table_and_in_the_help() {
        let help = crate::COMMANDS.iter().find(|command| command.name == "prove").unwrap().about;
        for step in steps(Path::new("/nonexistent")) {
            let table = include_str!("prove.rs");
            assert!(table.contains(&format!("//! | {:7} |", step.name)) && help.contains(step.name), "{}", step.name);
        }
    }
}
