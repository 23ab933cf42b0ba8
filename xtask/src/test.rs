//! `cargo xtask test`: every test of the project, from a fresh clone.
//!
//! | step         | what it adds                                                                         |
//! |--------------|--------------------------------------------------------------------------------------|
//! | workspace    | unit tests, model tests, real processes, and examples and benches that must compile   |
//! | doc          | the examples in the documentation                                                     |
//! | loom         | the core under every interleaving that the bound on preemptions allows                |
//! | instructions | what a message costs on each hot path, in the code that users run, against a table    |
//! | crossbeam    | crossbeam-channel's own tests, copied from its package, on a link between threads    |
//! | crash        | processes killed at every step, in the same code                                      |
//! | soak         | processes killed at random on every shape, for some seconds                           |
//!
//! Loom is built apart (`target/loom`): its `--cfg` would otherwise rebuild everything at each change of step.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::Outcome;
use crate::step::{self, Step};

/// Preemptions a loom model explores per execution: two find nearly every bug, three take hours.
const LOOM_PREEMPTIONS: &str = "2";

/// Runs the steps named in `arguments`, or all.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let chosen = step::limit_of(arguments).and_then(|(limit, names)| Ok((limit, step::choose(steps(root), &names)?)));
    let (limit, steps) = match chosen {
        Ok(chosen) => chosen,
        Err(wrong) => {
            eprintln!("xtask test: {wrong}");
            return Ok(Outcome::Usage);
        }
    };
    let reports: Vec<_> = steps.into_iter().map(|step| step.run(limit)).collect();
    Ok(step::summarise(&reports))
}

/// All steps, in the order in which they run: from cheap to dear.
pub(crate) fn steps(root: &Path) -> Vec<Step> {
    let mut workspace = Step::cargo("workspace", root, &["test", "--workspace", "--all-features", "--all-targets"]);
    workspace.counts_tests = true;
    let mut doc = Step::cargo("doc", root, &["test", "--workspace", "--all-features", "--doc"]);
    doc.counts_tests = true;
    let instructions = released(root, "ginnel-bench", "instructions");
    let (crash, soak) = (released(root, "ginnel", "crash"), released(root, "ginnel", "soak"));
    vec![workspace, doc, loom(root, LOOM_PREEMPTIONS), instructions, crossbeam(root), crash, soak]
}

/// Loom with so many preemptions in an execution.
pub(crate) fn loom(root: &Path, preemptions: &str) -> Step {
    let mut step = Step::cargo("loom", root, &["test", "-p", "ginnel-core", "--release", "--test", "loom*"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    step.command
        .env("RUSTFLAGS", format!("{flags} --cfg loom").trim_start())
        .env("LOOM_MAX_PREEMPTIONS", preemptions)
        .env("CARGO_TARGET_DIR", target.join("loom"));
    step.counts_tests = true;
    step.needs_one_of = test_target(root, "ginnel-core", "loom");
    step
}

fn crossbeam(root: &Path) -> Step {
    let mut step = released(root, "ginnel-crossbeam", "suite");
    step.name = "crossbeam";
    step
}

/// A test of the code that users run: optimised, and of a package alone, with the features that it asks for itself.
pub(crate) fn released(root: &Path, package: &str, name: &'static str) -> Step {
    let mut step = Step::cargo(name, root, &["test", "--release", "-p", package, "--test", name]);
    step.counts_tests = true;
    step.needs_one_of = test_target(root, package, name);
    step
}

/// Where cargo looks for the integration test `name`.
fn test_target(root: &Path, package: &str, name: &str) -> Vec<PathBuf> {
    let tests = root.join("crates").join(package).join("tests");
    vec![tests.join(format!("{name}.rs")), tests.join(name).join("main.rs")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<&'static str>, String> {
        Ok(step::choose(steps(Path::new("/nonexistent")), names)?.iter().map(|step| step.name).collect())
    }

    #[test]
    fn without_names_every_step_runs() {
        assert_eq!(chosen(&[]).unwrap(), ["workspace", "doc", "loom", "instructions", "crossbeam", "crash", "soak"]);
    }

    #[test]
    fn names_choose_and_unknown_ones_are_refused() {
        assert_eq!(chosen(&["crash", "doc"]).unwrap(), ["doc", "crash"]);
        assert!(chosen(&["fuzz"]).unwrap_err().contains("workspace, doc, loom, instructions, crossbeam, crash, soak"));
    }

    #[test]
    fn every_step_counts_its_tests() {
        assert!(steps(Path::new("/nonexistent")).iter().all(|step| step.counts_tests));
    }

    #[test]
    fn those_of_one_target_name_the_file_they_need() {
        for (name, file) in [
            ("loom", "loom"),
            ("instructions", "instructions"),
            ("crossbeam", "suite"),
            ("crash", "crash"),
            ("soak", "soak"),
        ] {
            let step = step::choose(steps(Path::new("/nonexistent")), &[name]).unwrap().remove(0);
            let report = step.run(step::DEFAULT_LIMIT);
            assert!(report.failure.unwrap().contains(&format!("tests/{file}.rs is missing")));
        }
    }
}
