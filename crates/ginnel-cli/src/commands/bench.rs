//! `ginnel bench`: what the command line says of a measurement. Who measures is the crate ginnel-bench.

use crate::exit::Failure;
use crate::units;
use clap::ValueEnum;

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
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = units::parse_size, default_value = "64,64KiB,1MiB")]
    pub(crate) sizes: Vec<usize>,

    /// Messages of one measurement; as many as take about a second if absent
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

/// Not wired yet: the lead connects it to ginnel-bench.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Args { sizes, messages, rounds, mode, json } = args;
    let plan = format!("{sizes:?}, messages {messages:?}, rounds {rounds}, mode {mode:?}, json {json}");
    Err(Failure::failed(format!("bench is not wired to ginnel-bench yet (sizes {plan})")))
}
