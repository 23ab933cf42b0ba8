//! `ginnel bench`: what the command line says of a measurement. Who measures is the crate ginnel-bench.

use crate::exit::Failure;
use crate::{json, output, units};
use clap::ValueEnum;
use ginnel_bench::{Amount, Case, Plan, baselines, contest, kernel_streams, links, table};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How long one run of one mechanism takes, about.
const RUN: Duration = Duration::from_millis(100);

const AFTER_HELP: &str = "\
Every figure is a ratio against a hand-written, unchecked baseline in the same
run on the same two cores.

Examples:
  ginnel bench
  ginnel bench --sizes 64,1MiB --rounds 5 --mode block
  ginnel bench --json > today.json";

/// Measure links against hand-written baselines and the kernel's mechanisms
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Sizes of messages
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = units::parse_size, default_value = "8,64,4KiB,64KiB,1MiB")]
    pub(crate) sizes: Vec<usize>,

    /// Messages of one measurement; as many as take about 100 ms if absent
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,

    /// Rounds, of which the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// How both sides wait; both ways if absent
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,

    /// Print JSON: one object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How both sides wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// They never sleep
    Spin,
    /// They sleep at once
    Block,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let plan = Plan {
        cases: cases(args),
        rounds: args.rounds,
        amount: args.messages.map_or(Amount::Time(RUN), Amount::Messages),
        ..Plan::default()
    };
    let mut contenders = baselines();
    contenders.extend(links());
    contenders.extend(kernel_streams());
    let shown = io::stderr().is_terminal();
    let report = contest(&plan, &contenders, |now| {
        if shown {
            eprint!("\r\x1b[K{} of {}: {}, {}", now.done + 1, now.total, now.case, now.mechanism);
        }
    });
    if shown {
        eprint!("\r\x1b[K");
    }
    let report = report.map_err(|e| Failure::failed(format!("cannot measure: {e}")))?;
    if args.json {
        json::print(&report)?;
    } else {
        output::emit(&table(&report))?;
    }
    match report.failures().next() {
        Some((case, mechanism, why)) => Err(Failure::failed(format!("{mechanism} failed at {case}: {why}"))),
        None => Ok(()),
    }
}

fn cases(args: &Args) -> Vec<Case> {
    let modes = match args.mode {
        Some(Mode::Spin) => vec![ginnel_bench::Mode::Spin],
        Some(Mode::Block) => vec![ginnel_bench::Mode::Block],
        None => vec![ginnel_bench::Mode::Spin, ginnel_bench::Mode::Block],
    };
    let of_mode = |mode: ginnel_bench::Mode| {
        let trips = args.sizes.iter().map(move |size| Case::round_trip(mode, *size));
        let streams = args.sizes.iter().map(move |size| Case::stream(mode, *size));
        trips.chain(streams).collect::<Vec<_>>()
    };
    modes.into_iter().flat_map(of_mode).collect()
}
