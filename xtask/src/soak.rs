//! `cargo xtask soak --for 10min --seed 7`: real processes on every shape of link, killed and stopped at random, and an account of every message.
//!
//! The time is shared by the shapes: nine, unless `--shape` names some. What is counted, and how a round is run again, is said in
//! `crates/ginnel/tests/soak.rs`, which this starts; it exits with 1 on any violation.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Outcome;

/// Builds the soak as users would, and hands the arguments on.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    if !arguments.iter().any(|argument| argument == "--for" || argument == "--round") {
        eprintln!(
            "xtask soak: say for how long, all shapes together: cargo xtask soak --for 10min [--seed N] [--shape NAME,..] [--round N]"
        );
        return Ok(Outcome::Usage);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--quiet", "--release", "-p", "ginnel", "--test", "soak", "--"])
        .args(arguments)
        .current_dir(root);
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_must_be_said() {
        assert_eq!(run(Path::new("/nonexistent"), &["--seed".into(), "1".into()]).unwrap(), Outcome::Usage);
    }
}
