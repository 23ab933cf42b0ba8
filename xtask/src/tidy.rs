//! `cargo xtask tidy`: the house rules that a machine can check.
//!
//! It reads every Rust file, manifest and page of the repository once into a [`Workspace`]; each rule is then a plain function
//! from the workspace to its findings, in a file of its own. The rules look at tokens and comments, not at types: they need no
//! compiler, see code that is configured away, and are finished in a blink. What clippy and rustc check already is left to them,
//! unless it is hidden from them by a `cfg`.
//!
//! A finding reads `file:line: what is wrong; what to do`.

mod headers;
mod layers;
mod length;
mod lexer;
mod links;
mod names;
mod ordering;
mod safety;
mod source;
mod unsafe_list;
mod workspace;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use self::workspace::Workspace;
use crate::Outcome;

/// A house rule.
struct Rule {
    name: &'static str,
    about: &'static str,
    check: fn(&Workspace) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { name: "headers", about: "every Rust file opens by saying what it is", check: headers::check },
    Rule { name: "safety", about: "every unsafe block, impl and function says why it is sound", check: safety::check },
    Rule {
        name: "ordering",
        about: "atomic operations carry ORDERING tags that are defined and paired",
        check: ordering::check,
    },
    Rule {
        name: "length",
        about: "functions and files are short, or shrink (xtask/ratchet.txt)",
        check: length::check,
    },
    Rule { name: "names", about: "no catch-all file names, no folder for a single file", check: names::check },
    Rule { name: "layers", about: "crates depend only on what their layer may know", check: layers::check },
    Rule {
        name: "unsafe",
        about: "ARCHITECTURE.md lists exactly the modules that allow unsafe code",
        check: unsafe_list::check,
    },
    Rule { name: "links", about: "README.md is short, and relative links lead somewhere", check: links::check },
];

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl Finding {
    /// `line` counts from 1; `text` says what is wrong, then what to do.
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// Checks the repository at `root` and prints what it finds.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    if let Some(argument) = arguments.first() {
        let help = matches!(argument.as_str(), "--help" | "-h");
        if !help {
            eprintln!("xtask tidy: unknown argument `{argument}`");
        }
        println!("usage: cargo xtask tidy\n");
        for rule in RULES {
            println!("  {:10}{}", rule.name, rule.about);
        }
        return Ok(if help { Outcome::Passed } else { Outcome::Usage });
    }
    let workspace = Workspace::read(root)?;
    let mut total = 0;
    for rule in RULES {
        let mut findings = (rule.check)(&workspace);
        findings.sort();
        total += findings.len();
        for finding in findings {
            println!("{finding} [{}]", rule.name);
        }
    }
    eprintln!("tidy: {} Rust files, {} rules, {total} findings", workspace.sources.len(), RULES.len());
    Ok(if total == 0 { Outcome::Passed } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_clickable() {
        let finding = Finding::new("crates/a/src/lib.rs", 7, "too long; split it");
        assert_eq!(finding.to_string(), "crates/a/src/lib.rs:7: too long; split it");
    }

    #[test]
    fn an_empty_repository_breaks_rules() {
        // The rules that demand a file must not pass for want of anything to read.
        let findings: Vec<_> = RULES.iter().flat_map(|rule| (rule.check)(&Workspace::of(&[]))).collect();
        assert!(findings.iter().any(|finding| finding.path == "README.md"));
        assert!(findings.iter().any(|finding| finding.path == "ARCHITECTURE.md"));
    }
}
