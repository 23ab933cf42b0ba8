//! Which cores the two processes of a measurement run on, and what is known of them.
//!
//! Not a topology library: it finds two cores that are not threads of one, if it can, and says what it chose.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::crew::{self, Gate, Member, RunError};

/// Where the two processes are to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Two cores of those allowed to this process; unpinned if there is only one.
    #[default]
    Auto,
    /// The sender (or asker) on the first, the receiver (or answerer) on the second.
    Cores(usize, usize),
    /// Wherever the scheduler puts them.
    Unpinned,
}

impl Placement {
    /// The core of the sender and that of the receiver; `None` where they are not pinned.
    pub(crate) fn choose(self) -> [Option<usize>; 2] {
        match self {
            Self::Unpinned => [None, None],
            Self::Cores(sender, receiver) => [Some(sender), Some(receiver)],
            Self::Auto => choose_of(&allowed()),
        }
    }
}

/// The cores that this process may run on, ascending.
fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// The first two of `allowed` that are different physical cores. Core 0, which takes most interrupts, is left out where
/// there are enough others.
fn choose_of(allowed: &[usize]) -> [Option<usize>; 2] {
    let candidates = if allowed.len() >= 4 && allowed[0] == 0 { &allowed[1..] } else { allowed };
    let [first, others @ ..] = candidates else { return [None, None] };
    let siblings = siblings_of(*first);
    let second = others.iter().find(|core| !siblings.contains(core)).or_else(|| others.first());
    second.map_or([None, None], |second| [Some(*first), Some(*second)])
}

/// The hardware threads of the physical core that `core` is one of, from sysfs (`0,64` or `0-1`); empty if unknown.
fn siblings_of(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    parse_list(&fs::read_to_string(path).unwrap_or_default())
}

fn parse_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// Pins the calling thread to `core`.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    if core >= CpuSet::MAX_CPU {
        return Err(Failure::new(format_args!("there is no core {core}")));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|errno| Failure::new(format_args!("pinning to core {core}: {errno}")))
}

/// The machine and the moment that a report was made in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's name for itself.
    pub cpu: String,
    /// The running kernel.
    pub kernel: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Whether each of the two processes had a core of its own.
    pub pinned: bool,
    /// The sender's (asker's) and the receiver's (answerer's) core, and what disturbed it.
    pub quiet: [Quiet; 2],
    /// What one reading of the clock costs, ns: each recorded round trip contains about one.
    pub clock_ns: f64,
}

/// How quiet a core is: what a loop that does nothing but read the clock saw in 100 ms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quiet {
    /// The core, if the process was pinned to it.
    pub core: Option<usize>,
    /// The longest time between two readings, ns: no maximum below it means anything.
    pub longest_gap_ns: u64,
    /// How many gaps exceeded 10 us.
    pub gaps_over_10_us: u64,
}

impl Environment {
    /// Looks at the machine; both cores spin for 100 ms.
    ///
    /// # Errors
    ///
    /// When the two processes cannot be run there.
    pub fn observe(placement: Placement) -> Result<Self, RunError> {
        let cores = placement.choose();
        let members = cores.map(|core| {
            Member::new("clock loop", core, move |gate: &Gate| {
                gate.wait();
                Ok(listen(core, Duration::from_millis(100)))
            })
        });
        let quiet = crew::run(Vec::from(members), Duration::from_secs(20))?;
        let quiet = quiet.try_into().map_err(|_| RunError::Setup(Failure::new("a clock loop is missing")))?;
        Ok(Self {
            cpu: cpu_name(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cores: allowed().len(),
            pinned: cores.iter().all(Option::is_some) && cores[0] != cores[1],
            quiet,
            clock_ns: clock_cost(),
        })
    }
}

/// Reads the clock for `time` and notes the gaps.
fn listen(core: Option<usize>, time: Duration) -> Quiet {
    let mut quiet = Quiet { core, longest_gap_ns: 0, gaps_over_10_us: 0 };
    let start = Instant::now();
    let mut last = start;
    while last - start < time {
        let now = Instant::now();
        let gap = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
        quiet.longest_gap_ns = quiet.longest_gap_ns.max(gap);
        quiet.gaps_over_10_us += u64::from(gap > 10_000);
        last = now;
    }
    quiet
}

/// The mean cost of reading the clock, ns.
fn clock_cost() -> f64 {
    const READINGS: u32 = 20_000;
    let start = Instant::now();
    for _ in 0..READINGS {
        black_box(Instant::now());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(READINGS)
}

/// The processor's name: what x86 calls `model name`, and other architectures give in other words or not at all.
fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value_of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    value_of("model name").or_else(|| value_of("CPU part")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0,64\n"), [0, 64]);
        assert_eq!(parse_list("2-4,7"), [2, 3, 4, 7]);
        assert_eq!(parse_list(""), Vec::<usize>::new());
    }

    #[test]
    fn a_single_core_means_unpinned() {
        assert_eq!(choose_of(&[3]), [None, None]);
        assert_eq!(choose_of(&[]), [None, None]);
        let [first, second] = choose_of(&[5000, 5001]);
        assert_eq!((first, second), (Some(5000), Some(5001)));
    }

    #[test]
    fn the_environment_can_be_observed() {
        let environment = Environment::observe(Placement::Auto).unwrap();
        assert!(environment.cores >= 1 && environment.clock_ns > 0.0);
        assert!(!environment.kernel.is_empty());
    }
}
