//! The verdict as one table, and what was found, in words.

use super::judge::Verdict;
use super::schedule::Shape;

const TITLES: [&str; 18] = [
    "shape",
    "messages",
    "kills",
    "stops",
    "famines",
    "reopened",
    "redelivered",
    "told",
    "lost",
    "duplicated",
    "reordered",
    "torn",
    "stuck",
    "left files",
    "descriptors",
    "bytes",
    "other",
    "recovery ms",
];

fn row(name: &str, verdict: &Verdict) -> [String; 18] {
    let numbers = [
        verdict.messages,
        verdict.kills,
        verdict.stops,
        verdict.famines,
        verdict.reopened,
        verdict.redelivered,
        verdict.told,
        verdict.lost,
        verdict.duplicated,
        verdict.reordered,
        verdict.torn,
        verdict.stuck,
        verdict.leaked_files,
        verdict.leaked_descriptors,
        verdict.leaked_bytes,
        verdict.leaked_entries + verdict.unexpected,
    ];
    std::array::from_fn(|at| match at {
        0 => name.to_owned(),
        17 => format!("{:.1}", verdict.recovery_ns as f64 / 1e6),
        _ => numbers[at - 1].to_string(),
    })
}

/// Prints a line for each shape, and their sums.
pub(crate) fn print(verdicts: &[(Shape, Verdict)]) {
    let mut rows = vec![TITLES.map(str::to_owned)];
    let mut all = Verdict::default();
    for (shape, verdict) in verdicts {
        rows.push(row(shape.name(), verdict));
        all.add(verdict.clone());
    }
    rows.push(row("all", &all));
    let widths: [usize; 18] = std::array::from_fn(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0));
    for row in rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        println!("{line}");
    }
}
