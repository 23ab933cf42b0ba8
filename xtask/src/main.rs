//! The project's own chores, as `cargo xtask COMMAND`.
//!
//! It holds what a machine can check or repeat: the house rules (`tidy`), the tests (`test`), everything that a change
//! must pass (`ci`), what takes too long for that (`prove`), and the demonstrations (`show`). It is not part of what users install, and nothing depends on it.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage.

mod ci;
mod mutants;
mod prove;
mod show;
mod soak;
mod step;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

/// One command of the table below.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&Path, &[String]) -> Result<Outcome>,
}

const COMMANDS: &[Command] = &[
    Command { name: "tidy", arguments: "", about: "check the house rules (`tidy --help` lists them)", run: tidy::run },
    Command {
        name: "test",
        arguments: "[--limit SECONDS] [STEP..]",
        about: "run every test: workspace, doc, loom, instructions, crash, soak",
        run: test::run,
    },
    Command {
        name: "soak",
        arguments: "--for TIME [--seed N] [--shape NAME,..]",
        about: "kill and stop processes on every shape for so long, and count every message",
        run: soak::run,
    },
    Command {
        name: "mutants",
        arguments: "[PART-OF-A-NAME..]",
        about: "put in bugs on purpose, one at a time, and see that a test turns red",
        run: mutants::run,
    },
    Command {
        name: "prove",
        arguments: "[--limit SECONDS] [STEP..]",
        about: "the deep forms, by hand: flips, handles, fuzz, asan, tsan, loom, soak, crash",
        run: prove::run,
    },
    Command {
        name: "ci",
        arguments: "[--limit SECONDS]",
        about: "run everything that a change must pass: format, lints, tidy, docs, tests",
        run: ci::run,
    },
    Command {
        name: "show",
        arguments: "[WHAT..]",
        about: "run the demonstrations of xtask/show; without an argument, list them",
        run: show::run,
    },
];

/// How a command ended when nothing unexpected happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// The arguments make no sense; the command has said why.
    Usage,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Usage) => ExitCode::from(2),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<Outcome> {
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", help());
        return Ok(Outcome::Usage);
    };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        print!("{}", help());
        return Ok(Outcome::Passed);
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(&root()?, rest),
        None => {
            eprint!("xtask: there is no command `{name}`\n\n{}", help());
            Ok(Outcome::Usage)
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n\n");
    for command in COMMANDS {
        let left = format!("{} {}", command.name, command.arguments);
        text += &format!("  {left:34}{}\n", command.about);
    }
    text
}

/// The root of the repository: the folder above this package.
fn root() -> Result<PathBuf> {
    // Cargo sets the variable when it runs us; the built-in value serves a binary that was started by hand.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.parent().context("the package xtask has no folder above it")?;
    Ok(root.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(arguments: &[&str]) -> Outcome {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.into()).collect();
        dispatch(&arguments).unwrap()
    }

    #[test]
    fn help_names_every_command() {
        assert_eq!(outcome(&["--help"]), Outcome::Passed);
        for command in COMMANDS {
            assert!(help().contains(command.about), "{} is missing", command.name);
        }
    }

    #[test]
    fn nothing_and_nonsense_are_usage_errors() {
        assert_eq!(outcome(&[]), Outcome::Usage);
        assert_eq!(outcome(&["polish"]), Outcome::Usage);
    }
}
