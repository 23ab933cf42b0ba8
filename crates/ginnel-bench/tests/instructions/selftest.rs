//! The harness on itself: it counts what is known, and says no where it should.

// Loops whose instructions are known are written out.
#![allow(unsafe_code)]

use std::arch::asm;

use super::Tally;
use super::ratchet::{Count, REWRITE, Table};
use super::stepper;

type Case = (&'static str, fn() -> Result<(), String>);

const CASES: [Case; 7] = [
    ("a loop of two instructions is counted to the last", counts_exactly),
    ("an instruction that repeats is one", repeats_are_one),
    ("a loop that fails, and one that dies, are told", failures_are_told),
    ("what rose fails, what fell asks to be held", both_ways),
    ("a difference within the margin passes", margins),
    ("another compiler may have a quarter more, and any less", another_compiler),
    ("the table survives writing and reading, and a bad one is told", tables),
];

/// Runs every case: one line, and one pass or failure, for each.
pub(crate) fn run(tally: &mut Tally) {
    for (name, case) in CASES {
        tally.note("self-test", case().map(|()| name.to_owned()).map_err(|error| format!("{name}: {error}")));
    }
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Instructions of `part`, called with each number.
fn counted<const N: usize>(numbers: [u64; N], part: fn(u64)) -> Result<Vec<u64>, String> {
    stepper::parts(|| {
        for number in numbers {
            stepper::cross_line();
            part(number);
            stepper::cross_line();
        }
        Ok(())
    })
}

fn counts_exactly() -> Result<(), String> {
    let turns = |number: u64| {
        // SAFETY: it counts a register of its own down to zero.
        unsafe { asm!("2:", "dec {n}", "jnz 2b", n = inout(reg) number => _, options(nomem, nostack)) }
    };
    let parts = counted([1000, 1007, 1000], turns)?;
    expect(parts.len() == 3 && parts[1] - parts[0] == 14 && parts[2] == parts[0], &format!("counted {parts:?}"))
}

fn repeats_are_one() -> Result<(), String> {
    let fill = |number: u64| {
        let mut room = [0_u8; 256];
        let (to, times) = (room.as_mut_ptr(), number.min(256));
        // SAFETY: it writes no more bytes than the array has.
        unsafe { asm!("rep stosb", inout("rdi") to => _, inout("rcx") times => _, in("al") 1_u8, options(nostack)) }
        std::hint::black_box(room);
    };
    let parts = counted([1, 200], fill)?;
    expect(parts.len() == 2 && parts[0] == parts[1], &format!("counted {parts:?}"))
}

fn failures_are_told() -> Result<(), String> {
    let failed = stepper::parts(|| Err("(a failure that is wanted: no message)".into()));
    expect(failed.is_err_and(|text| text.contains("it failed")), "a failure")?;
    let died = stepper::parts(|| {
        stepper::cross_line();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .map_err(|e| e.to_string())
    });
    expect(died.is_err_and(|text| text.contains("died of signal")), "a death")
}

const RUSTC: &str = "rustc 1.2.3 (abc 2020-02-20)";
const OTHER: &str = "rustc 1.2.4 (abd 2020-03-20)";

/// What a table with 100 instructions for a path says of so many.
fn verdict(rustc: &str, expected: f64, instructions: f64) -> Result<String, String> {
    let count = |instructions| vec![Count { name: "send".into(), instructions }];
    let table = Table { rustc: RUSTC.into(), counts: count(expected) };
    let mut verdicts = table.judge(rustc, &count(instructions));
    verdicts.pop().map_or(Err("no verdict".into()), |(_, verdict)| verdict)
}

fn both_ways() -> Result<(), String> {
    expect(verdict(RUSTC, 100.0, 103.1).is_err_and(|text| text.contains("3.1 more")), "more")?;
    let fewer = verdict(RUSTC, 100.0, 96.9);
    expect(fewer.is_err_and(|text| text.contains("3.1 fewer") && text.contains(REWRITE)), "fewer")
}

fn margins() -> Result<(), String> {
    for (expected, found) in [(100.0, 103.0), (100.0, 97.0), (10.0, 12.0), (10.0, 8.0)] {
        expect(verdict(RUSTC, expected, found).is_ok(), &format!("{found} where {expected} were expected"))?;
    }
    expect(verdict(RUSTC, 10.0, 12.1).is_err(), "more than two of ten")?;
    expect(verdict(RUSTC, 1000.0, 1100.0).is_ok(), "a tenth more of a long path")?;
    expect(verdict(RUSTC, 1000.0, 1100.1).is_err(), "more than a tenth")
}

fn another_compiler() -> Result<(), String> {
    expect(verdict(OTHER, 100.0, 125.0).is_ok() && verdict(OTHER, 100.0, 50.0).is_ok(), "within the margin")?;
    expect(verdict(OTHER, 100.0, 125.1).is_err(), "more than a quarter")?;
    let table = Table { rustc: RUSTC.into(), counts: Vec::new() };
    expect(table.other_compiler(RUSTC).is_none(), "its own compiler")?;
    expect(table.other_compiler(OTHER).is_some_and(|text| text.contains(OTHER) && text.contains(RUSTC)), "the note")
}

fn tables() -> Result<(), String> {
    let count = |name: &str, instructions| Count { name: name.into(), instructions };
    let table = Table { rustc: RUSTC.into(), counts: vec![count("send 8 B", 80.5), count("receive", 1234.0)] };
    expect(table.to_string().parse::<Table>()? == table, "written and read")?;
    expect("send 8 B".parse::<Table>().is_err_and(|text| text.contains(":1:")), "a line without a number")?;
    let verdicts = table.judge(RUSTC, &[count("send 8 B", 80.5), count("new", 1.0)]);
    let failed: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).map(|(name, _)| &**name).collect();
    expect(failed == ["new", "receive"], "a path that is new, and one that is gone")
}
