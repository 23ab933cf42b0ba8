//! `ginnel bench`: what the command line says of a measurement. Who measures is the crate ginnel-bench.
//!
//! | shape | cases | sizes, if none are given |
//! |---|---|---|
//! | queue | round trip, one-way stream; spinning, blocking | 8 B to 1 MiB |
//! | unbounded | one-way stream, likewise | 64 B, 4 KiB |
//! | broadcast | a send, by the number of receivers | 64 B |
//! | latest | a look | 8 B to 64 KiB |
//! | call, mailbox | round trip, likewise | 64 B |
//! | stream | round trip of 64 B, stream of bytes, likewise | 64 KiB |

use crate::exit::{Code, Failure};
use crate::{interrupt, json, output, units};
use clap::ValueEnum;
use ginnel_bench::{
    Amount, Case, MOST_RECEIVERS, Plan, RunError, Stop, baselines, contest, conversations, kernel_streams, links, table,
};
use ginnel_os::signal::Signal;
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::{Blocked, Set};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How long one run of one mechanism takes, about.
const RUN: Duration = Duration::from_millis(100);

const AFTER_HELP: &str = "\
Every figure is a ratio against a baseline in the same run on the same two
cores: of queues a hand-written, unchecked ring; of each other shape

  unbounded   the queue that has a bound
  broadcast   one receiver; --receivers says how many more
  latest      a raw seqlock
  call        the round trip of two queues
  mailbox     the same
  stream      a Unix stream socket

Messages are counted and checked where they arrive. For what a send to a
broadcast costs, and a look at the newest value, nobody waits: --mode is not
for these two.

Examples:
  ginnel bench
  ginnel bench --sizes 64,1MiB --rounds 5 --mode block
  ginnel bench --shape broadcast --receivers 4,64
  ginnel bench --shape call,mailbox --mode spin
  ginnel bench --json > today.json";

/// Measure links against hand-written baselines and the kernel's mechanisms
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Shapes of conversations
    #[arg(long, value_enum, value_name = "SHAPE,...", value_delimiter = ',', default_value = "queue")]
    shape: Vec<Shape>,

    /// Sizes of messages, values or writes; those that suit the shape if absent
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = units::parse_size)]
    sizes: Vec<usize>,

    /// Receivers of a broadcast, beside one: 4 and 64 if absent
    #[arg(long, value_name = "COUNT,...", value_delimiter = ',', value_parser = units::whole(1, MOST_RECEIVERS))]
    receivers: Vec<u32>,

    /// Messages of one measurement; as many as take about 100 ms if absent
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,

    /// Rounds, of which the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How both sides wait; both ways if absent
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// A shape of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Messages in order
    Queue,
    /// A queue without a bound
    Unbounded,
    /// Every receiver gets every message
    Broadcast,
    /// The newest value
    Latest,
    /// A request and its response
    Call,
    /// Letters to a name
    Mailbox,
    /// Bytes
    Stream,
}

/// How both sides wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// They never sleep
    Spin,
    /// They sleep at once
    Block,
}

impl Shape {
    /// Sizes that say most about it.
    fn sizes(self) -> &'static [usize] {
        match self {
            Self::Queue => &[8, 64, 4 << 10, 64 << 10, 1 << 20],
            Self::Unbounded => &[64, 4 << 10],
            Self::Latest => &[8, 64, 1 << 10, 64 << 10],
            Self::Broadcast | Self::Call | Self::Mailbox => &[64],
            Self::Stream => &[64 << 10],
        }
    }

    /// The cases of one way of waiting.
    fn cases(self, mode: ginnel_bench::Mode, sizes: &[usize]) -> Vec<Case> {
        use ginnel_bench::Shape as Kind;
        let each = |case: &dyn Fn(usize) -> Case| sizes.iter().map(|size| case(*size)).collect::<Vec<_>>();
        let trip = |size| Case::round_trip(mode, size);
        match self {
            Self::Queue => [each(&trip), each(&|size| Case::stream(mode, size))].concat(),
            Self::Unbounded => each(&|size| Case::stream(mode, size).of(Kind::Unbounded)),
            Self::Broadcast => each(&Case::send),
            Self::Latest => each(&Case::look),
            Self::Call => each(&|size| trip(size).of(Kind::Call)),
            Self::Mailbox => each(&|size| trip(size).of(Kind::Mailbox)),
            Self::Stream => [vec![trip(64).of(Kind::Stream)], each(&|size| Case::bytes(mode, size))].concat(),
        }
    }

    fn waits(self) -> bool {
        !matches!(self, Self::Broadcast | Self::Latest)
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !args.receivers.is_empty() && !args.shape.contains(&Shape::Broadcast) {
        return Err(Failure::new(
            Code::Usage,
            "--receivers is for a broadcast: add --shape broadcast, or leave it out",
        ));
    }
    let signals = Signals::hold_off()?;
    let plan = Plan {
        cases: args.shape.iter().flat_map(|shape| cases(args, *shape)).collect(),
        rounds: args.rounds,
        amount: args.messages.map_or(Amount::Time(RUN), Amount::Messages),
        stop: Some(signals.stop()?),
        ..Plan::default()
    };
    let receivers = if args.receivers.is_empty() { &[4, 64] } else { &args.receivers[..] };
    let mut contenders = baselines();
    contenders.extend(links());
    contenders.extend(kernel_streams());
    contenders.extend(conversations(receivers));
    let shown = io::stderr().is_terminal();
    let report = contest(&plan, &contenders, |now| {
        if shown {
            eprint!("\r\x1b[K{} of {}: {}, {}", now.done + 1, now.total, now.case, now.mechanism);
        }
    });
    if shown {
        eprint!("\r\x1b[K");
    }
    let report = report.map_err(|e| match e {
        RunError::Stopped => Failure::quiet(signals.what_came()),
        e => Failure::failed(format!("cannot measure: {e}")),
    })?;
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

fn cases(args: &Args, shape: Shape) -> Vec<Case> {
    let modes: &[_] = match args.mode {
        _ if !shape.waits() => &[ginnel_bench::Mode::Spin],
        Some(Mode::Spin) => &[ginnel_bench::Mode::Spin],
        Some(Mode::Block) => &[ginnel_bench::Mode::Block],
        None => &[ginnel_bench::Mode::Spin, ginnel_bench::Mode::Block],
    };
    let sizes = if args.sizes.is_empty() { shape.sizes() } else { &args.sizes };
    modes.iter().flat_map(|mode| shape.cases(*mode, sizes)).collect()
}

/// Signals that ask for an end, blocked from now on, here and in the processes that measure: Ctrl-C reaches them all, and this one is to
/// tidy up. A thread that waits for signals will not do, as a process that forks has one thread.
struct Signals {
    coming: SignalFd,
    _blocked: Blocked,
}

impl Signals {
    fn hold_off() -> Result<Self, Failure> {
        let outlives_terminal = interrupt::is_ignored(Signal::HUP.number());
        let heeded = [Signal::INT, Signal::TERM, Signal::HUP].into_iter();
        let set: Set = heeded.filter(|signal| *signal != Signal::HUP || !outlives_terminal).collect();
        let blocked = set.block();
        let coming = SignalFd::new(&set).map_err(|e| cannot_watch(&e))?;
        Ok(Self { coming, _blocked: blocked })
    }

    fn stop(&self) -> Result<Stop, Failure> {
        Stop::when_readable(&self.coming).map_err(|e| cannot_watch(&e))
    }

    fn what_came(&self) -> Code {
        let number = self.coming.try_read().ok().and_then(|info| u8::try_from(info.signal.number()).ok());
        Code::Signal(number.unwrap_or(2))
    }
}

fn cannot_watch(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot watch for signals: {error}"))
}
