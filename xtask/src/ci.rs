//! `cargo xtask ci`: everything that a change must pass, in one command.
//!
//! Each step runs even when one before it failed, so that one run shows all that is to be done.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use crate::step::{self, Report, Step};
use crate::{Outcome, test, tidy};

/// Parts of the toolchain that a minimal installation lacks.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Checks the toolchain, then runs the checks and the tests.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let limit = match step::limit_of(arguments) {
        Ok((limit, rest)) if rest.is_empty() => limit,
        Ok((_, rest)) => return Ok(usage(&format!("unknown argument `{}`", rest[0]))),
        Err(wrong) => return Ok(usage(&wrong)),
    };
    let missing: Vec<_> = COMPONENTS.iter().filter(|(command, _)| !has_component(command)).collect();
    for (_, component) in &missing {
        eprintln!("xtask ci: {component} is missing; install it with `rustup component add {component}`");
    }
    if !missing.is_empty() {
        return Ok(Outcome::Failed);
    }

    let mut reports = vec![
        Step::cargo("format", root, &["fmt", "--all", "--check"]).run(limit),
        Step::cargo(
            "clippy",
            root,
            &["clippy", "--workspace", "--all-features", "--all-targets", "--", "-D", "warnings"],
        )
        .run(limit),
        // What the tool is built with: with all features, whatever one of them lacks is there for another's sake.
        with_features("bare", root, "").run(limit),
        with_features("tokio", root, "tokio").run(limit),
        with_features("smol", root, "smol").run(limit),
        tidy_report(root),
        documentation(root).run(limit),
    ];
    reports.extend(test::steps(root).into_iter().map(|step| step.run(limit)));
    Ok(step::summarise(&reports))
}

fn usage(wrong: &str) -> Outcome {
    eprintln!("xtask ci: {wrong}");
    Outcome::Usage
}

fn has_component(command: &str) -> bool {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cargo.status().is_ok_and(|status| status.success())
}

/// Lints of the library alone, with no more than these features.
fn with_features(name: &'static str, root: &Path, features: &str) -> Step {
    Step::cargo(name, root, &["clippy", "-p", "ginnel", "--lib", "--features", features, "--", "-D", "warnings"])
}

fn documentation(root: &Path) -> Step {
    let mut step = Step::cargo("docs", root, &["doc", "--workspace", "--all-features", "--no-deps"]);
    step.command.env("RUSTDOCFLAGS", "-Dwarnings");
    step
}

/// Tidy runs inside this process: it is quick, and starts nothing that could hang.
fn tidy_report(root: &Path) -> Report {
    eprintln!("\n== tidy");
    let start = Instant::now();
    let failure = match tidy::run(root, &[]) {
        Ok(Outcome::Passed) => None,
        Ok(_) => Some("see the findings above".to_owned()),
        Err(error) => Some(format!("{error:#}")),
    };
    let report = Report {
        name: "tidy",
        took: start.elapsed(),
        tests_passed: None,
        failure,
        skipped: None,
        last_words: Vec::new(),
    };
    eprintln!("== {report}");
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_argument_is_refused_before_anything_runs() {
        let root = Path::new("/nonexistent");
        assert_eq!(run(root, &["--fast".into()]).unwrap(), Outcome::Usage);
    }

    #[test]
    fn a_component_that_does_not_exist_is_seen() {
        assert!(!has_component("no-such-component-of-cargo"));
    }
}
