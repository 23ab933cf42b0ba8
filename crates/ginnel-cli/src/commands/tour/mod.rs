//! `ginnel tour`: a file goes from one process to another through every mechanism, its bytes are checked, and a table shows
//! what each gave on this machine. The first thing that a newcomer runs.
//!
//! | what | where |
//! |---|---|
//! | the file | `sample` |
//! | two processes, their time limit, what they report | `pair` |
//! | what these processes do | `traffic` |
//! | what each mechanism is, and how it moves bytes | `wire` |

mod pair;
mod sample;
mod traffic;
mod wire;

use crate::exit::{Failure, say};
use crate::interrupt;
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::{json, output, units};
use pair::Outcome;
use sample::Sample;
use serde::Serialize;
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
pub(crate) use traffic::child;
use wire::Mechanism;

const AFTER_HELP: &str = "\
Both processes are real, and are started anew for each mechanism. The rate is
that of reading the file, moving it, and checksumming what arrived, all at
once. Nothing is pinned to a core, and nothing is left behind. For figures
that can be compared, with baselines, see `ginnel bench`.

Examples:
  ginnel tour              256MiB of pseudo-random bytes
  ginnel tour video.mkv    a file of yours, up to its first 1GiB
  ginnel tour --json | jq '.mechanisms[] | {mechanism, gb_per_s}'";

/// Move a file between two processes through every mechanism, and show what each gave
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// File to move, instead of one that is made for this
    file: Option<PathBuf>,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    bytes: u64,
    crc32: u32,
    cores: usize,
    mechanisms: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    mechanism: &'static str,
    promise: &'static str,
    ok: bool,
    error: Option<String>,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    gb_per_s: Option<f64>,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
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
    let mut report = Report { bytes: sample.bytes, crc32: sample.crc32, cores: cores(), mechanisms: Vec::new() };
    for mechanism in Mechanism::ALL {
        if talk {
            say(&format!("moving it through {}", mechanism.name()));
        }
        let outcome = pair::run(mechanism, &sample);
        interrupt::check()?;
        report.mechanisms.push(row(mechanism, outcome, &sample));
    }
    if args.json {
        json::print(&report)?;
    } else {
        output::emit(&text(&report))?;
    }
    verdict(&report)
}

fn cores() -> usize {
    ginnel_os::process::cores().map_or(1, |cores| cores.len())
}

fn row(mechanism: Mechanism, outcome: Result<Outcome, Failure>, sample: &Sample) -> Row {
    let (outcome, error) = match outcome {
        Ok(outcome) => {
            let error = outcome.wrong(sample);
            (Some(outcome), error)
        }
        Err(failure) => (None, Some(failure.text().to_owned())),
    };
    let rate = |outcome: &Outcome| sample.bytes as f64 / outcome.transfer_ns.max(1) as f64;
    Row {
        mechanism: mechanism.name(),
        promise: mechanism.promise(),
        ok: error.is_none(),
        gb_per_s: outcome.as_ref().filter(|_| sample.bytes > 0).map(rate),
        outcome,
        error,
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        ("MECHANISM", Left),
        ("RATE", Right),
        ("ROUND TRIP: p50", Right),
        ("p99", Right),
        ("p99.9", Right),
        ("max", Right),
        ("BYTES", Left),
    ]);
    for row in &report.mechanisms {
        let rate = row.gb_per_s.map_or("-".into(), |rate| format!("{rate:.2}GB/s"));
        let mut cells = vec![row.mechanism.into(), rate];
        match &row.outcome {
            Some(outcome) => cells.extend(outcome.round_trip_ns.figures().map(units::time)),
            None => cells.extend(["-"; 4].map(String::from)),
        }
        cells.push(if row.ok { "ok" } else { "FAILED" }.into());
        table.row(cells);
    }
    let size = units::size(report.bytes);
    let mut text =
        format!("{size} from one process to another, and messages of 64B there and back; every byte checked\n\n");
    text += &table.render();
    text += "\n";
    for row in &report.mechanisms {
        text += &format!("{:<6} {}\n", row.mechanism, row.promise);
    }
    text += match report.cores {
        1 => "\nOne core: the two processes take turns on it. One run, so no benchmark.\n",
        _ => "\nOne run, not pinned to cores, beside whatever else runs here: no benchmark.\n",
    };
    text += "\nnext:\n  seq 5 | ginnel send shm:hello    lines become messages\n";
    text + "  ginnel recv shm:hello            in another terminal\n"
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let failed: Vec<_> = report.mechanisms.iter().filter(|row| !row.ok).collect();
    for row in &failed {
        say(&format!("{} failed: {}", row.mechanism, row.error.as_deref().unwrap_or_default()));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::quiet(crate::exit::Code::Failed)) }
}
