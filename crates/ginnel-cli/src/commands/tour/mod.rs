//! `ginnel tour`: a file goes from one process to another through every mechanism, its bytes are checked, and a table shows
//! what each gave on this machine; then processes have every shape of conversation that shared memory carries. The first thing that a
//! newcomer runs.
//!
//! | what | where |
//! |---|---|
//! | the file | `sample` |
//! | the mechanisms: names, promises | `mechanism` |
//! | where two processes meet, and how it is removed | `place` |
//! | the processes, their time limit, what they report | `pair` |
//! | what the two of a mechanism do | `traffic` |
//! | how the file goes from the one to the other | `freight` |
//! | the shapes: names, parts | `shape` |
//! | what the processes of a shape do; what came of it | `conversation`; `story` |
//! | what is shown | `report` |

mod conversation;
mod freight;
mod mechanism;
mod pair;
mod place;
mod report;
mod sample;
mod shape;
mod story;
mod traffic;

use crate::exit::{Code, Failure, say};
use crate::{interrupt, json, output, units};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use mechanism::Mechanism;
use place::Place;
use report::{Report, Row, State};
use sample::Sample;
use shape::Shape;
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Instant;
use story::Story;
pub(crate) use traffic::child;

const AFTER_HELP: &str = "\
The processes are real, and are started anew for each mechanism and shape. The rate is
that of reading the file, moving it, and checksumming what arrived, all at
once; a mechanism that is slow here moves as much as it can in about a second.
Signals carry 10000 numbers instead of the file. Each shape takes about 300ms. Nothing is pinned to a core,
and nothing is left behind. For figures that can be compared, with baselines,
see `ginnel bench`.

A mechanism that this host lacks or forbids is named, with the reason, and is
no failure. UDP may lose datagrams: they are counted. All else that is lost or
altered is a failure.

Examples:
  ginnel tour                    256MiB of pseudo-random bytes
  ginnel tour video.mkv          a file of yours, up to its first 1GiB
  ginnel tour --only mq,fifo     two of the mechanisms
  ginnel tour --only broadcast   one of the shapes
  ginnel tour --json | jq '.mechanisms[] | {mechanism, gb_per_s}'";

/// Move a file between processes through every mechanism, in every shape, and show what each gave
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// File to move, instead of one that is made for this
    file: Option<PathBuf>,

    /// These mechanisms and shapes only
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<Stop>,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// Where a tour stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Mechanism(Mechanism),
    Shape(Shape),
}

impl Stop {
    const ALL: [Self; Mechanism::ALL.len() + Shape::ALL.len()] = {
        let mut all = [Self::Mechanism(Mechanism::Shm); Mechanism::ALL.len() + Shape::ALL.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = match at.checked_sub(Mechanism::ALL.len()) {
                None => Self::Mechanism(Mechanism::ALL[at]),
                Some(at) => Self::Shape(Shape::ALL[at]),
            };
            at += 1;
        }
        all
    };
}

impl ValueEnum for Stop {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Mechanism(mechanism) => mechanism.to_possible_value(),
            Self::Shape(shape) => shape.to_possible_value(),
        }
    }
}

impl Args {
    fn stops(&self) -> impl Iterator<Item = Stop> {
        let only = &self.only;
        Stop::ALL.into_iter().filter(move |stop| only.is_empty() || only.contains(stop))
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let start = Instant::now();
    let install = interrupt::install();
    install.map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")))?;
    let talk = !quiet && stderr().is_terminal();
    if talk && args.file.is_none() {
        say(&format!("making a file of {}", units::size(sample::BYTES)));
    }
    let sample = match &args.file {
        Some(path) => Sample::of_file(path)?,
        None => Sample::make()?,
    };
    let mut report = Report::new(&sample);
    for stop in args.stops() {
        if talk {
            say(&match stop {
                Stop::Mechanism(mechanism) => format!("moving it through {}", mechanism.name()),
                Stop::Shape(shape) => format!("{}: {}", shape.name(), shape.is()),
            });
        }
        match stop {
            Stop::Mechanism(mechanism) => {
                let outcome = pair::run(mechanism, &sample);
                interrupt::check()?;
                report.mechanisms.push(Row::new(mechanism, outcome, &sample));
            }
            Stop::Shape(shape) => {
                let found = pair::show(shape, &sample);
                interrupt::check()?;
                report.shapes.push(Story::new(shape, found, &sample));
            }
        }
    }
    report.total_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if args.json {
        json::print(&report)?;
    } else {
        output::emit(&report.text())?;
    }
    verdict(&report)
}

/// Removes what tours left of which everybody was killed; their directories.
pub(crate) fn clean(dry_run: bool) -> Vec<PathBuf> {
    let mut cleaned = Vec::new();
    for (place, _in_use) in Place::left_over() {
        if !dry_run {
            place.remove();
        }
        cleaned.push(place.dir().clone());
    }
    cleaned
}

fn verdict(report: &Report) -> Result<(), Failure> {
    for (name, error) in report.in_state(State::Failed) {
        say(&format!("{name} failed: {error}"));
    }
    if report.in_state(State::Failed).next().is_some() {
        return Err(Failure::quiet(Code::Failed));
    }
    if report.in_state(State::Ok).next().is_none() {
        return Err(Failure::failed("this host gives none of them; the reasons are above"));
    }
    Ok(())
}
