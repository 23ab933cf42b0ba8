//! The table of what each path costs, and the verdict on a count.
//!
//! ```text
//! # comment
//! rustc 1.95.0 (59807616e 2026-04-14)
//! receive 64 B                96.5
//! ```
//! A ratchet: more fails, and so does less until the table says so too, or the next change could lose it again unseen. Both by a margin,
//! wider for long paths, as the C library copies with what the processor at hand has. Another compiler than the table's inlines otherwise: then only much more fails.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

/// The table, from the root of the repository.
pub(crate) const TABLE: &str = "crates/ginnel-bench/tests/instructions/expected.txt";

/// How to make it anew.
pub(crate) const REWRITE: &str = "GINNEL_RATCHET=write cargo xtask test instructions";

/// A count may differ by this part of what is expected, or by so many instructions, whichever is more.
const MARGIN: f64 = 0.03;
const MARGIN_INSTRUCTIONS: f64 = 2.0;
/// The same part of a long path, which goes through the C library: that has other code for other processors.
const MARGIN_OF_LONG: f64 = 0.10;
const LONG: f64 = 300.0;
/// The part that it may be above, of another compiler than the table's.
const MARGIN_OF_ANOTHER: f64 = 0.25;

/// What a path costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Count {
    pub(crate) name: String,
    /// For one message, or one operation.
    pub(crate) instructions: f64,
}

/// The table, as it is written.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    /// The compiler that it was made with, as it tells of itself.
    pub(crate) rustc: String,
    pub(crate) counts: Vec<Count>,
}

/// Where the table lies.
pub(crate) fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/expected.txt")
}

/// What the compiler tells of itself: that of this directory, which has just made this test.
pub(crate) fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    said.map_or_else(
        |error| format!("rustc unknown: {error}"),
        |said| String::from_utf8_lossy(&said.stdout).trim().into(),
    )
}

impl Table {
    /// What is to be said if the table was made with another compiler.
    pub(crate) fn other_compiler(&self, rustc: &str) -> Option<String> {
        (rustc != self.rustc).then(|| {
            let percent = MARGIN_OF_ANOTHER * 100.0;
            format!(
                "this is {rustc}, the table was made with {}: only what is above it by more than {percent} % fails. To make it anew: {REWRITE}",
                self.rustc
            )
        })
    }

    /// A verdict for each path that is in the table, or was counted.
    pub(crate) fn judge(&self, rustc: &str, counts: &[Count]) -> Vec<(String, Result<String, String>)> {
        let same = rustc == self.rustc;
        let mut verdicts = Vec::new();
        for count in counts {
            let expected = self.counts.iter().find(|expected| expected.name == count.name);
            let verdict = match expected {
                Some(expected) => judge(count.instructions, expected.instructions, same),
                None => {
                    let found = count.instructions;
                    Err(format!("{found:.1} instructions, and {TABLE} does not have it. To write it down: {REWRITE}"))
                }
            };
            verdicts.push((count.name.clone(), verdict));
        }
        for gone in self.counts.iter().filter(|expected| counts.iter().all(|count| count.name != expected.name)) {
            let text = format!("is in {TABLE}, and was not counted. If there is no such path any more: {REWRITE}");
            verdicts.push((gone.name.clone(), Err(text)));
        }
        verdicts
    }
}

/// The verdict on one path.
fn judge(found: f64, expected: f64, same_compiler: bool) -> Result<String, String> {
    let part = match (same_compiler, expected < LONG) {
        (true, true) => MARGIN,
        (true, false) => MARGIN_OF_LONG,
        (false, _) => MARGIN_OF_ANOTHER,
    };
    let margin = (expected * part).max(MARGIN_INSTRUCTIONS);
    let difference = found - expected;
    let figures = format!("{found:.1} instructions, {expected:.1} expected");
    if difference > margin {
        return Err(format!(
            "{figures}: {difference:.1} more (up to {margin:.1} pass). Something was added to the path, or is no longer inlined \
             into it. If it is worth that: {REWRITE}"
        ));
    }
    if same_compiler && difference < -margin {
        return Err(format!(
            "{figures}: {:.1} fewer. Hold on to it: {REWRITE}, and commit the table with the change",
            -difference
        ));
    }
    // Told though it passes: several such add up.
    Ok(if difference.abs() < 0.05 { figures } else { format!("{figures} ({difference:+.1})") })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions for a message, or an operation, on each hot path: docs/performance.md says what is counted."
        )?;
        writeln!(f, "# Made by: {REWRITE}")?;
        writeln!(f, "{}", self.rustc)?;
        for count in &self.counts {
            writeln!(f, "{:<32}{:>10.1}", count.name, count.instructions)?;
        }
        Ok(())
    }
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
        let mut table = Self { rustc: String::new(), counts: Vec::new() };
        for (at, line) in lines {
            if line.starts_with("rustc ") {
                line.trim().clone_into(&mut table.rustc);
                continue;
            }
            let count = line.rsplit_once(' ').and_then(|(name, number)| {
                let instructions = number.parse().ok().filter(|number: &f64| number.is_finite())?;
                Some(Count { name: name.trim().to_owned(), instructions })
            });
            let wrong =
                || format!("{TABLE}:{}: `{line}` is no path with its number. To make it anew: {REWRITE}", at + 1);
            table.counts.push(count.ok_or_else(wrong)?);
        }
        Ok(table)
    }
}
