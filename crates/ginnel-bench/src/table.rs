//! The report as text for people: one block a case, one line a contender, the ratio beside each figure.
//!
//! Not the tool's data (that is the report itself), and without colour or knowledge of a terminal.

use std::fmt::Write;

use crate::case::Bytes;
use crate::contest::Role;
use crate::report::{Cost, Group, Report, Row, Spread};
use crate::{Environment, Workload};

/// Renders `report` as plain text.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = header(&report.environment, report.rounds);
    for group in &report.groups {
        out.push('\n');
        let _ = writeln!(out, "{}", group.case);
        let mut lines = vec![titles(group)];
        lines.extend(group.rows.iter().map(|row| cells(group, row)));
        align(&mut out, &lines);
        for row in &group.rows {
            notes(&mut out, row);
        }
    }
    out
}

fn header(environment: &Environment, rounds: u32) -> String {
    let mut out = String::new();
    let Environment { cpu, kernel, cores, clock_ns, .. } = environment;
    let _ = writeln!(out, "{cpu}, {cores} cores, Linux {kernel}, clock {clock_ns:.0} ns");
    if environment.pinned {
        let core = |side: usize| environment.quiet[side].core.unwrap_or_default();
        let _ = writeln!(out, "two processes pinned to cores {} and {}", core(0), core(1));
    } else {
        let _ = writeln!(out, "NOT pinned to two cores: take no figure below for one");
    }
    let gaps = environment.quiet.each_ref().map(|quiet| duration(quiet.longest_gap_ns as f64));
    let many = environment.quiet.each_ref().map(|quiet| quiet.gaps_over_10_us);
    let _ = writeln!(
        out,
        "noise in 100 ms: longest gap {} and {}, {} and {} above 10 us",
        gaps[0], gaps[1], many[0], many[1]
    );
    let _ = writeln!(
        out,
        "median of {rounds} rounds; ratios round by round against the best baseline (*), (lowest to highest)"
    );
    out
}

fn titles(group: &Group) -> Vec<String> {
    let columns: &[&str] = match group.case.workload {
        Workload::Send | Workload::Look => &["", "ratio", "", "p50", "p90", "p99", "p99.9", "max", "cpu"],
        Workload::RoundTrip => &["", "ratio", "", "to line", "p50", "p90", "p99", "p99.9", "max", "cpu", "sleeps/trip"],
        Workload::Stream => &["", "ratio", "", "M/s", "GB/s", "cpu ns/msg", "cpu", "sleeps/1000"],
    };
    columns.iter().map(|title| (*title).to_owned()).collect()
}

fn cells(group: &Group, row: &Row) -> Vec<String> {
    let mut name = row.mechanism.clone();
    if row.size != group.case.size {
        let _ = write!(name, " ({})", Bytes(row.size));
    }
    let baseline = match row.role {
        Role::Baseline => &group.baseline,
        Role::CacheLine => &group.cache_line,
        Role::Measured => &None,
    };
    if baseline.as_ref() == Some(&row.mechanism) {
        name.push_str(" *");
    }
    if row.failure.is_some() {
        return vec![name, "failed".to_owned()];
    }
    let mut cells = vec![name, ratio(row.ratio), range(row.ratio)];
    let number = |spread: Option<Spread>, unit: f64, digits: usize| {
        spread.map_or_else(dash, |spread| format!("{:.digits$}", spread.median / unit))
    };
    let per_message = |of: fn(&Cost) -> Spread, unit: f64, digits: usize| {
        let sides = [row.sender, row.receiver].map(|cost| number(cost.as_ref().map(of), unit, digits));
        sides.join(" + ")
    };
    let shares = per_message(|cost| cost.cpu_share, 1.0, 2);
    match group.case.workload {
        Workload::RoundTrip => {
            cells.push(ratio(row.line_ratio));
            cells.extend(times(row));
            cells.push(shares);
            cells.push(per_message(|cost| cost.sleeps_per_message, 1.0, 2));
        }
        Workload::Send | Workload::Look => {
            cells.extend(times(row));
            cells.push(shares);
        }
        Workload::Stream => {
            cells.push(number(row.rate_per_s, 1e6, 3));
            cells.push(number(row.bytes_per_s, 1e9, 2));
            cells.push(per_message(|cost| cost.cpu_ns_per_message, 1.0, 1));
            cells.push(shares);
            cells.push(per_message(|cost| cost.sleeps_per_message, 1e-3, 2));
        }
    }
    if row.disturbed > 0 {
        cells.push(format!("{} disturbed", row.disturbed));
    }
    cells
}

/// The percentiles.
fn times(row: &Row) -> [String; 5] {
    let times = row.times.map(|times| [times.p50_ns, times.p90_ns, times.p99_ns, times.p999_ns, times.max_ns]);
    times.map_or_else(|| [(); 5].map(|()| dash()), |times| times.map(|time| duration(time.median)))
}

/// What cannot stand in a column.
fn notes(out: &mut String, row: &Row) {
    if let Some(failure) = &row.failure {
        let _ = writeln!(out, "  {}: {failure}", row.mechanism);
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn ratio(spread: Option<Spread>) -> String {
    spread.map_or_else(dash, |spread| format!("{}x", three_digits(spread.median)))
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(dash, |spread| format!("({} to {})", three_digits(spread.min), three_digits(spread.max)))
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

/// A time given in ns, in the unit that suits it.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns >= 1e7 => format!("{:.1} ms", ns / 1e6),
        ns if ns >= 1e4 => format!("{:.1} us", ns / 1e3),
        ns if ns >= 100.0 || ns.fract() == 0.0 => format!("{ns:.0} ns"),
        ns => format!("{ns:.1} ns"),
    }
}

/// Writes `lines` as columns: the first to the left, the others to the right.
fn align(out: &mut String, lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |line: &Vec<String>, column: usize| line.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| lines.iter().map(|line| cell(line, column)).max().unwrap_or_default()).collect();
    for line in lines {
        let mut text = String::from("  ");
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}
