//! `ginnel tour`: a file goes from one process to another through every mechanism, its bytes are checked, and a table shows
//! what each gave on this machine. The first thing that a newcomer runs.
//!
//! | what | where |
//! |---|---|
//! | the file | `sample` |
//! | the mechanisms: names, promises | `mechanism` |
//! | where two processes meet, and how it is removed | `place` |
//! | two processes, their time limit, what they report | `pair` |
//! | what these processes do | `traffic` |
//! | how the file goes from the one to the other | `freight` |
//! | what is shown | `report` |

mod freight;
mod mechanism;
mod pair;
mod place;
mod report;
mod sample;
mod traffic;

use crate::exit::{Code, Failure, say};
use crate::{interrupt, json, output, units};
use mechanism::Mechanism;
use place::Place;
use report::{Report, Row, State};
use sample::Sample;
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Instant;
pub(crate) use traffic::child;

const AFTER_HELP: &str = "\
Both processes are real, and are started anew for each mechanism. The rate is
that of reading the file, moving it, and checksumming what arrived, all at
once; a mechanism that is slow here moves as much as it can in about a second.
Signals carry 10000 numbers instead of the file. Nothing is pinned to a core,
and nothing is left behind. For figures that can be compared, with baselines,
see `ginnel bench`.

A mechanism that this host lacks or forbids is named, with the reason, and is
no failure. UDP may lose datagrams: they are counted. All else that is lost or
altered is a failure.

Examples:
  ginnel tour                    256MiB of pseudo-random bytes
  ginnel tour video.mkv          a file of yours, up to its first 1GiB
  ginnel tour --only mq,fifo     two of the mechanisms
  ginnel tour --json | jq '.mechanisms[] | {mechanism, gb_per_s}'";

/// Move a file between two processes through every mechanism, and show what each gave
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// File to move, instead of one that is made for this
    file: Option<PathBuf>,

    /// These mechanisms only
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MECHANISM,...")]
    only: Vec<Mechanism>,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

impl Args {
    fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let only = &self.only;
        Mechanism::ALL.into_iter().filter(move |mechanism| only.is_empty() || only.contains(mechanism))
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
    for mechanism in args.mechanisms() {
        if talk {
            say(&format!("moving it through {}", mechanism.name()));
        }
        let outcome = pair::run(mechanism, &sample);
        interrupt::check()?;
        report.mechanisms.push(Row::new(mechanism, outcome, &sample));
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
    for row in report.in_state(State::Failed) {
        say(&format!("{} failed: {}", row.name(), row.error()));
    }
    if report.in_state(State::Failed).next().is_some() {
        return Err(Failure::quiet(Code::Failed));
    }
    if report.in_state(State::Ok).next().is_none() {
        return Err(Failure::failed("this host gives none of them; the reasons are above"));
    }
    Ok(())
}
