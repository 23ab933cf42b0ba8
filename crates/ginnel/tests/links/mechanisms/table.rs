//! The table of `docs/mechanisms.md`: each cell says how far a promise is kept, and here each cell is held against what happens.
//!
//! A cell that says `so far` or `not` has a line below the table that says how.

use super::ground::{ALL, LIMIT, Mechanism};
use super::loose;
use super::promises::CHECKS;
use crate::place;
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
    for mechanism in ALL.into_iter().chain([Mechanism::Mem]) {
        let Some(row) = rows.iter().find(|row| row[0] == mechanism.name()) else {
            wrong.push(format!("{} has no row", mechanism.name()));
            continue;
        };
        for (column, cell) in head.iter().zip(row).skip(1) {
            wrong.extend(cell_is_wrong(mechanism, column, cell));
        }
    }
    for (name, check) in [("udp", loose::udp as fn(&str, Degree)), ("signal", loose::signal)] {
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} has no row"));
        for (column, cell) in head.iter().zip(row).skip(1) {
            wrong.extend(loose_cell_is_wrong(name, check, column, cell));
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

fn loose_cell_is_wrong(name: &str, check: fn(&str, Degree), column: &str, cell: &str) -> Option<String> {
    let at = format!("{name}, {column} ({cell})");
    let degree = if *column == *"largest message" { Some(Degree::Kept) } else { Degree::of(cell) };
    let Some(degree) = degree else { return Some(format!("{at}: the cell cannot be checked")) };
    if (cell == "so far" || cell == "not") && !explained(name, column) {
        return Some(format!("{at}: no line below the table says how"));
    }
    catch_unwind(|| check(column, degree)).err().map(|_| format!("{at}: see above"))
}

#[test]
fn every_row_is_checked_by_somebody() {
    let table = table();
    for row in &table[1..] {
        let known = ALL.iter().any(|one| one.name() == row[0]) || ["mem", "udp", "signal"].contains(&row[0]);
        assert!(known, "{} is checked by nobody", row[0]);
        assert_eq!(row.len(), table[0].len(), "the row of {}", row[0]);
    }
}

/// A check that passes whatever its cell says holds nothing.
#[test]
#[ignore = "a minute of checks that must fail"]
fn no_cell_could_say_anything_else() {
    let _limit = place::limit(3 * LIMIT);
    let table = table();
    let (head, rows) = table.split_first().expect("a table");
    let mut weak = Vec::new();
    for mechanism in ALL.into_iter().chain([Mechanism::Mem]) {
        let row = rows.iter().find(|row| row[0] == mechanism.name()).expect("a row");
        for (column, cell) in head.iter().zip(row).skip(1) {
            let Some((_, check)) = CHECKS.iter().find(|(name, _)| name == column) else { continue };
            let passes = |other: &Degree| catch_unwind(AssertUnwindSafe(|| check(mechanism, *other))).is_ok();
            let others =
                [Degree::Kept, Degree::SoFar, Degree::Not].into_iter().filter(|one| Some(*one) != Degree::of(cell));
            weak.extend(others.filter(passes).map(|other| format!("{}, {column}: {other:?}", mechanism.name())));
        }
    }
    assert!(weak.is_empty(), "also right would be:\n{}", weak.join("\n"));
}
