//! The command line: which shapes, for how long, from which seed; and what a process of the soak does that was started by it.

mod audit;
mod broadcast;
#[path = "../links/dice.rs"]
mod dice;
mod famine;
mod judge;
mod latest;
mod ledger;
mod mailbox;
mod payload;
mod queue;
mod request;
mod schedule;
mod selftest;
mod stage;
mod stream;
mod table;
mod worker;

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use judge::Verdict;
use ledger::LIMIT;
use schedule::{Sabotage, Scene, Shape};
use stage::Pace;

/// How long senders are at work in a round.
const ROUND: Duration = Duration::from_millis(2500);
/// For each shape, when nothing is asked for. A build that is not optimised does the harness's own tests only.
const QUICK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 0 } else { 1500 });
/// Between two kills, at most.
const BETWEEN: Duration = Duration::from_millis(60);

/// What is asked for.
struct Wish {
    /// For all shapes together.
    time: Option<Duration>,
    seed: u64,
    shapes: Vec<Shape>,
    /// One round only.
    round: Option<u64>,
}

pub(crate) fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("worker") => work(&words[1..]),
        Some("audit") => Shape::named(&words[1]).map_or(ExitCode::from(2), |shape| audit::main(shape, &words[2])),
        _ if words.iter().any(|word| word == "--list") => ExitCode::SUCCESS, // a test runner asks for names: this test is one piece
        _ => match wish(&words) {
            Ok(wish) => soak(&wish),
            Err(wrong) => {
                eprintln!("soak: {wrong}");
                eprintln!("usage: cargo xtask soak --for 60s [--seed N] [--shape NAME,..] [--round N]");
                ExitCode::from(2)
            }
        },
    }
}

/// The process of a seat: SHAPE SABOTAGE LEDGER SEED ROUND SEAT LIFE PARENT.
fn work(words: &[String]) -> ExitCode {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let numbers = [3, 4, 5, 6, 7].map(number);
    let ([Some(seed), Some(round), Some(seat), Some(life), Some(parent)], Some(shape)) =
        (numbers, words.first().and_then(|name| Shape::named(name)))
    else {
        return ExitCode::from(2);
    };
    famine::die_with(parent as u32);
    let sabotage = Sabotage::named(&words[1]);
    let scene = selftest::sabotaged(Scene::new(seed, shape, round), sabotage);
    worker::main(scene, seat as usize, life, Path::new(&words[2]))
}

fn wish(words: &[String]) -> Result<Wish, String> {
    let seed = RandomState::new().build_hasher().finish() % 1_000_000;
    let mut wish = Wish { time: None, seed, shapes: Shape::ALL.to_vec(), round: None };
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "--for" => wish.time = Some(duration(value()?)?),
            "--seed" => wish.seed = number(value()?)?,
            "--round" => wish.round = Some(number(value()?)?),
            "--shape" => wish.shapes = shapes(value()?)?,
            // What a test runner says to every test.
            _ if word.starts_with("--test-threads") || word == "--nocapture" || word == "--quiet" => {}
            _ => return Err(format!("unknown argument `{word}`")),
        }
    }
    Ok(wish)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn shapes(text: &str) -> Result<Vec<Shape>, String> {
    let named = |name: &str| {
        let known = || Shape::ALL.map(Shape::name).join(", ");
        Shape::named(name).ok_or_else(|| format!("there is no shape `{name}`; the shapes are {}", known()))
    };
    text.split(',').map(named).collect()
}

/// `90s`, `10min`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = number(&text[..digits]).map_err(|_| format!("`{text}` is no time: write 60s or 10min"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" | "" => Ok(Duration::from_secs(count)),
        "min" | "m" => Ok(Duration::from_secs(count * 60)),
        _ => Err(format!("`{text}` is no time: write 60s or 10min")),
    }
}

fn soak(wish: &Wish) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    if wish.time.is_none() && wish.round.is_none() {
        (passed, failed) = selftest::run();
    }
    let each = wish.time.map_or(QUICK, |time| time / wish.shapes.len().max(1) as u32);
    if each.is_zero() {
        println!("skipped: the shapes, in a build that is not optimised; use --release");
    } else {
        println!("seed {} (--seed {0} repeats its decisions)", wish.seed);
        let mut verdicts = Vec::new();
        for shape in &wish.shapes {
            verdicts.push((*shape, rounds_of(*shape, wish, each)));
            println!("{} done", shape.name());
        }
        table::print(&verdicts);
        let bad = verdicts.iter().filter(|(_, verdict)| verdict.violations() > 0).count() as u64;
        (passed, failed) = (passed + verdicts.len() as u64 - bad, failed + bad);
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Rounds of a shape, until its time is over.
fn rounds_of(shape: Shape, wish: &Wish, each: Duration) -> Verdict {
    let mut all = Verdict::default();
    let end = Instant::now() + each;
    for round in wish.round.unwrap_or(0).. {
        let scene = Scene::new(wish.seed, shape, round);
        let run = ROUND.min(end.saturating_duration_since(Instant::now())).max(Duration::from_millis(300));
        let pace = Pace { run, between: BETWEEN, limit: LIMIT };
        let verdict = stage::play(&scene, pace).unwrap_or_else(|error| {
            let words = vec![format!("unexpected: the stage: {error}")];
            Verdict { unexpected: 1, words, ..Verdict::default() }
        });
        if verdict.violations() > 0 {
            println!("VIOLATION {} ({})", scene.again(), scene.options);
            verdict.words.iter().for_each(|words| println!("  {words}"));
        }
        all.add(verdict);
        if wish.round.is_some() || Instant::now() >= end {
            break;
        }
    }
    all
}
