//! The table of `docs/mechanisms.md`: each cell says how far a promise is kept, and here each cell is held against what happens.
//!
//! A row that says `coming` must be one that this build does not speak; any other row must be one of the mechanisms here. A cell
//! that does not say `kept` has a line below the table that says how.

use super::ground::{ALL, LIMIT, Mechanism};
use super::promises::CHECKS;
use crate::place;
use ginnel::{ErrorKind, Sender};
use std::panic::{AssertUnwindSafe, catch_unwind};

const PAGE: &str = include_str!("../../../../../docs/mechanisms.md");

/// How far a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Degree {
    Kept,
    /// As far as the page says below the table.
    SoFar,
    Not,
}

impl Degree {
    fn of(cell: &str) -> Option<Self> {
        match cell {
            "kept" | "yes" => Some(Self::Kept),
            "so far" => Some(Self::SoFar),
            "not" | "one" => Some(Self::Not),
            _ => None,
        }
    }
}

/// Rows of the table, cell by cell; the first is the head.
fn table() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with("| mechanism |"));
    let rows = lines.take_while(|line| line.starts_with('|')).filter(|line| !line.starts_with("|--"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The lines below the table, `- **mechanism, column**: how.`
fn explained(mechanism: &str, column: &str) -> bool {
    let begins = |line: &str| {
        let subject = line.strip_prefix("- **").and_then(|rest| rest.split_once("**"));
        subject.and_then(|(subject, _)| subject.rsplit_once(": ")).is_some_and(|(columns, mechanisms)| {
            columns.split(", ").any(|one| one == column)
                && match mechanisms.strip_prefix("all but ") {
                    Some(others) => others != mechanism,
                    None => mechanisms.split(", ").any(|one| one == mechanism),
                }
        })
    };
    PAGE.lines().any(begins)
}

#[test]
fn every_cell_is_what_happens() {
    let _limit = place::limit(LIMIT);
    let table = table();
    let (head, rows) = table.split_first().expect("a table");
    let mut wrong = Vec::new();
    for mechanism in ALL {
        let Some(row) = rows.iter().find(|row| row[0] == mechanism.name()) else {
            wrong.push(format!("{} has no row", mechanism.name()));
            continue;
        };
        for (column, cell) in head.iter().zip(row).skip(1) {
            wrong.extend(cell_is_wrong(mechanism, column, cell));
        }
    }
    assert!(wrong.is_empty(), "docs/mechanisms.md is wrong:\n{}", wrong.join("\n"));
}

/// What is wrong with a cell, if anything is.
fn cell_is_wrong(mechanism: Mechanism, column: &str, cell: &str) -> Option<String> {
    let at = format!("{}, {column} ({cell})", mechanism.name());
    if column == "largest message" {
        let check = AssertUnwindSafe(|| super::promises::largest(mechanism, cell));
        return catch_unwind(check).err().map(|_| format!("{at}: see above"));
    }
    let Some((_, check)) = CHECKS.iter().find(|(name, _)| *name == column) else {
        return Some(format!("{at}: the column has no check"));
    };
    let Some(degree) = Degree::of(cell) else { return Some(format!("{at}: the cell cannot be checked")) };
    let silent = cell == "so far" || cell == "not";
    if silent && !explained(mechanism.name(), column) {
        return Some(format!("{at}: no line below the table says how"));
    }
    catch_unwind(AssertUnwindSafe(|| check(mechanism, degree))).err().map(|_| format!("{at}: see above"))
}

/// What is to come is not there yet, and what is there stands in the table.
#[test]
fn every_scheme_has_a_row() {
    let table = table();
    let addresses =
        [("mem", "mem:a"), ("tcp", "tcp://127.0.0.1:9"), ("udp", "udp://127.0.0.1:9"), ("signal", "signal:1")];
    for (name, address) in addresses {
        let row = table.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} has no row"));
        let coming = row[1..].iter().all(|cell| *cell == "coming");
        let speaks = Sender::open(address).err().is_none_or(|e| e.kind() != ErrorKind::Unsupported);
        assert!(
            coming != speaks,
            "{name} is there and the table says `coming`, or the other way round: add it to `ground`"
        );
    }
    let known = |name: &str| ALL.iter().any(|one| one.name() == name) || addresses.iter().any(|(one, _)| *one == name);
    for row in &table[1..] {
        assert!(known(row[0]), "{} is checked by nobody", row[0]);
        assert_eq!(row.len(), table[0].len(), "the row of {}", row[0]);
    }
}
