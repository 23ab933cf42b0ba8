//! The table of what was tried, and every broken promise with the place where its victim died.

use std::fs;

use super::sweep::{Sweep, Violation};

/// Counts over the whole run: one pass for each kill point.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, sweep: &Sweep) {
        let violations = sweep.violations.len() as u64;
        self.passed += sweep.tried - violations;
        // A scenario that could not even be recorded has no kill point to fail at, and must not pass for that.
        self.failed += violations.max(u64::from(sweep.abandoned.is_some()));
    }
}

pub(crate) fn heading() {
    println!(
        "{:<28} {:>12} {:>8} {:>8} {:>17} {:>10} {:>8} {:>9}  moved by",
        "operation", "instructions", "points", "distinct", "tried", "violations", "seconds", "trials/s"
    );
}

/// Prints one line of the table, and the violations below it.
pub(crate) fn line(sweep: &Sweep) {
    let seconds = sweep.took.as_secs_f64();
    let tried = format!("{} of {}", sweep.tried, sweep.points);
    let mut how = sweep.method.to_string();
    if let Some((position, address)) = sweep.varies {
        how += &format!(", its path varies after {position} at {}", locate(address));
    }
    if sweep.strayed > 0 {
        how += &format!(", {} left the recorded path and were stepped", sweep.strayed);
    }
    println!(
        "{:<28} {:>12} {:>8} {:>8} {:>17} {:>10} {:>8.2} {:>9.0}  {how}",
        sweep.name,
        sweep.instructions,
        sweep.points,
        sweep.distinct,
        tried,
        sweep.violations.len(),
        seconds,
        sweep.tried as f64 / seconds.max(1e-9),
    );
    for same in sweep.violations.chunk_by(|a, b| a.promise == b.promise) {
        println!("  VIOLATION {}: {}", sweep.name, place(same));
    }
    if let Some(why) = &sweep.abandoned {
        println!("  ABANDONED {}: {why}", sweep.name);
    }
}

/// Neighbours that broke the same promise share a line.
fn place(same: &[Violation]) -> String {
    let (Some(first), Some(last)) = (same.first(), same.last()) else {
        return String::new();
    };
    let from = format!("killed after {} instructions at {}", first.position, locate(first.instruction));
    let to = match same.len() {
        1 => String::new(),
        count => format!(" to {} at {} ({count} kills)", last.position, locate(last.instruction)),
    };
    format!("{from}{to}: {}", first.promise)
}

/// The file and the offset of an address, for `addr2line -e FILE OFFSET`. Children of one parent share its map.
fn locate(address: u64) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let base_of = |file: &str| {
        let first = maps.lines().find(|line| line.ends_with(file))?;
        u64::from_str_radix(first.split('-').next()?, 16).ok()
    };
    let found = maps.lines().find_map(|line| {
        let (from, rest) = line.split_once('-')?;
        let (to, rest) = rest.split_once(' ')?;
        let range = u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?;
        let file = rest.split_whitespace().nth(4)?;
        let name = file.rsplit('/').next()?;
        range.contains(&address).then(|| Some(format!("{name}+{:#x}", address - base_of(file)?)))?
    });
    found.unwrap_or_else(|| format!("{address:#x}"))
}
