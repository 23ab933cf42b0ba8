//! The harness on itself: whatever a worker does wrong must be found under its name, and a right one must not be accused.

use std::fs;
use std::time::Duration;

use super::audit::Leak;
use super::judge::{self, Account, Channel, Verdict};
use super::ledger::{ARRIVED, Event, Kind, Ledger, RELEASED};
use super::payload::{self, HEADING, Heading};
use super::schedule::{Sabotage, Scene, Shape};
use super::stage::{self, Pace};

/// Short rounds, in which who is stuck is found soon.
const PACE: Pace =
    Pace { run: Duration::from_millis(400), between: Duration::from_millis(60), limit: Duration::from_millis(600) };
const SEED: u64 = 4;

/// A violation of a verdict.
type Column = fn(&Verdict) -> u64;

type Case = fn() -> Result<(), String>;

const LOST: Column = |verdict| verdict.lost;
const DUPLICATED: Column = |verdict| verdict.duplicated;
const REORDERED: Column = |verdict| verdict.reordered;
const TORN: Column = |verdict| verdict.torn;
const STUCK: Column = |verdict| verdict.stuck;
const FILES: Column = |verdict| verdict.leaked_files;
const DESCRIPTORS: Column = |verdict| verdict.leaked_descriptors;
const INSIDE: Column = |verdict| verdict.leaked_entries + verdict.leaked_bytes;

/// What a worker does, on which shape, and which column must show it.
const SABOTAGES: [(Shape, Sabotage, &str, Column); 15] = [
    (Shape::Queue, Sabotage::Lose, "lost", LOST),
    (Shape::Queue, Sabotage::Repeat, "duplicated", DUPLICATED),
    (Shape::Pair, Sabotage::Swap, "reordered", REORDERED),
    (Shape::Unbounded, Sabotage::Tear, "torn", TORN),
    (Shape::Queue, Sabotage::Sleep, "stuck", STUCK),
    (Shape::Queue, Sabotage::File, "leaked files", FILES),
    (Shape::Queue, Sabotage::Descriptor, "leaked descriptors", DESCRIPTORS),
    (Shape::Broadcast, Sabotage::Lose, "lost", LOST),
    (Shape::Broadcast, Sabotage::Repeat, "duplicated", DUPLICATED),
    (Shape::Lossy, Sabotage::Tear, "torn", TORN),
    (Shape::Latest, Sabotage::Tear, "torn", TORN),
    (Shape::Request, Sabotage::Tear, "torn", TORN),
    (Shape::Mailbox, Sabotage::Lose, "lost", LOST),
    (Shape::Mailbox, Sabotage::Tear, "torn", TORN),
    (Shape::Stream, Sabotage::Tear, "torn", TORN),
];

/// Cases without processes.
const CASES: [(&str, Case); 7] = [
    ("a message says what it is, and a changed one does not", payloads),
    ("what is in doubt may come or not, and nothing else may be missing", doubts),
    ("more redeliveries than the dead had in hand are duplicates", redeliveries),
    ("gaps of a broadcast are lost, but for doubts", gaps),
    ("what a lossy receiver missed must add up", missed),
    ("a way of a connection ends as its writer did", ways),
    ("leaks have columns", leaks),
];

/// Runs every case: one line, and one pass or failure, for each. Only with `--release` those with processes.
pub(crate) fn run() -> (u64, u64) {
    let (mut passed, mut failed) = (0, 0);
    let mut say = |name: String, outcome: Result<(), String>| match outcome {
        Ok(()) => {
            println!("self-test ok: {name}");
            passed += 1;
        }
        Err(why) => {
            println!("self-test FAILED: {name}: {why}");
            failed += 1;
        }
    };
    for (name, case) in CASES {
        say(name.to_owned(), case());
    }
    for (shape, sabotage, column, count) in SABOTAGES {
        say(format!("{} on {}: {column}", sabotage.name(), shape.name()), sabotage_is_found(shape, sabotage, count));
    }
    (passed, failed)
}

/// A scene in which workers do wrong: nothing else disturbs it.
pub(crate) fn sabotaged(mut scene: Scene, sabotage: Sabotage) -> Scene {
    if sabotage != Sabotage::None {
        (scene.sabotage, scene.famine, scene.batches, scene.longest) = (sabotage, 0, false, 100);
        scene.seats.iter_mut().for_each(|seat| seat.is_mortal = false);
    }
    scene
}

fn sabotage_is_found(shape: Shape, sabotage: Sabotage, column: Column) -> Result<(), String> {
    let scene = sabotaged(Scene::new(SEED, shape, 0), sabotage);
    let verdict = stage::play(&scene, PACE).map_err(|error| error.to_string())?;
    if column(&verdict) > 0 { Ok(()) } else { Err(format!("it was not found: {verdict:?}")) }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:?}, expected {expected:?}")) }
}

fn payloads() -> Result<(), String> {
    let writer = payload::Writer::new();
    let heading = Heading { channel: 3, part: 2, life: 9, seq: 77 };
    for len in [HEADING, HEADING + 1, 100, 70_000, 1_200_000] {
        let mut bytes = vec![0; len];
        writer.write(heading, &mut bytes);
        expect("a whole one", payload::read(&bytes), Some(heading))?;
        expect("a short one", payload::read(&bytes[..len - 1]), None)?;
        bytes[len / 2] ^= 4;
        expect("a changed one", payload::read(&bytes), None)?;
    }
    Ok(())
}

/// A ledger of its own, and a verdict on what is in it.
fn judged(shape: Shape, fill: impl FnOnce(&Ledger, &mut Account)) -> Result<Verdict, String> {
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = home.path().join("ledger");
    let ledger = Ledger::create(&path).map_err(|error| error.to_string())?;
    let scene = Scene::new(SEED, shape, 0);
    let mut account = Account::new(&scene);
    fill(&ledger, &mut account);
    let _ = fs::remove_file(&path);
    Ok(judge::judge(&scene, &account, &ledger))
}

fn event(kind: Kind, [a, b, c]: [u64; 3]) -> Event {
    Event { kind, seat: 0, life: 0, channel: 0, a, b, c }
}

fn doubts() -> Result<(), String> {
    let verdict = judged(Shape::Queue, |ledger, account| {
        for seq in [0, 1, 2, 5, 6, 7, 8, 63, 64] {
            ledger.mark(0, seq, ARRIVED);
        }
        ledger.mark(0, 0, RELEASED);
        let doubts = vec![4..6, 9..63];
        account.channels.push(Channel { number: 0, begun: 66, doubts });
        account.events.push(event(Kind::Told, [65, 0, 0]));
    })?;
    expect("lost", verdict.lost, 1)?; // 3
    expect("in words", verdict.words.iter().any(|words| words.contains("message 3 of channel 0")), true)?;
    expect("violations", verdict.violations(), 1)
}

fn redeliveries() -> Result<(), String> {
    let with =
        |redelivered| judged(Shape::Queue, |_, account| (account.redelivered, account.in_hands) = (redelivered, 16));
    expect("as many", with(16)?.duplicated, 0)?;
    expect("one more", with(17)?.duplicated, 1)
}

fn gaps() -> Result<(), String> {
    let verdict = judged(Shape::Broadcast, |_, account| {
        account.channels.push(Channel { number: 0, begun: 100, doubts: vec![10..12, 50..51] });
        account.events.extend([event(Kind::Gap, [10, 12, 0]), event(Kind::Gap, [49, 52, 0])]);
    })?;
    expect("lost", verdict.lost, 2)
}

fn missed() -> Result<(), String> {
    let told = |count| {
        judged(Shape::Lossy, |_, account| {
            account.channels.push(Channel { number: 0, begun: 100, doubts: vec![20..21, 21..22] });
            account.events.push(event(Kind::Missed, [10, 30, count]));
        })
    };
    for (count, lost) in [(17, 1), (18, 0), (19, 0), (20, 0), (21, 1)] {
        expect(&format!("{count} of 20, 2 in doubt"), told(count)?.lost, lost)?;
    }
    Ok(())
}

fn ways() -> Result<(), String> {
    // Bytes begun, written, read; the end; closing, killed.
    for (way, is_wrong) in [
        ([9, 8, 8, 1, 1, 0], false),
        ([9, 8, 9, 2, 0, 1], false),
        ([9, 8, 3, 0, 0, 0], false),
        ([9, 8, 7, 1, 1, 0], true),
        ([9, 8, 7, 2, 0, 1], true),
        ([9, 8, 10, 0, 0, 0], true),
        ([9, 8, 9, 1, 0, 1], true),
        ([9, 8, 9, 1, 0, 0], true),
        ([9, 8, 9, 2, 1, 0], true),
    ] {
        expect(&format!("{way:?}"), judge::wrong_with(way).is_some(), is_wrong)?;
    }
    Ok(())
}

fn leaks() -> Result<(), String> {
    let verdict = judged(Shape::Queue, |_, account| {
        account.leaks.push(Leak::File("left".into()));
        account.leaks.push(Leak::Inside { bytes: 128, what: "a block".into() });
        account.leaks.push(Leak::Inside { bytes: 0, what: "an entry".into() });
        account.events.push(event(Kind::Descriptors, [9, 7, 0]));
    })?;
    let counts = [verdict.leaked_files, verdict.leaked_bytes, verdict.leaked_entries, verdict.leaked_descriptors];
    expect("counts", counts, [1, 128, 1, 2])?;
    expect("inside", INSIDE(&verdict), 129)
}
