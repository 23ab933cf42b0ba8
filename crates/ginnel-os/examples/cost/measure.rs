//! Time of a wrapper against that of the bare call, on a machine that does other things too.

use crate::cases::Case;
use std::time::{Duration, Instant};

/// How long a batch takes: short, so that most batches run undisturbed.
const BATCH: Duration = Duration::from_micros(40);

/// How a wrapper compares.
pub(crate) struct Time {
    /// Nanoseconds of the bare call, in its fastest batch.
    pub(crate) bare_ns: f64,
    /// Median of the rounds' ratios.
    pub(crate) median: f64,
    /// Ratio of the fastest batches.
    pub(crate) fastest: f64,
}

impl Time {
    pub(crate) fn lower(&self) -> f64 {
        self.median.min(self.fastest)
    }
}

/// Each round is wrapper, bare, bare, wrapper: what drifts, or depends on who was first, falls on both.
pub(crate) fn compare(case: &mut Case, rounds: usize) -> Time {
    let calls = batch(case);
    let (mut ratios, mut best) = (Vec::with_capacity(rounds), [f64::INFINITY; 2]);
    for _ in 0..rounds.max(1) {
        let (first, second) = (timed(&mut *case.wrapped, calls), timed(&mut *case.bare, calls));
        let (third, fourth) = (timed(&mut *case.bare, calls), timed(&mut *case.wrapped, calls));
        ratios.push((first + fourth) / (second + third));
        best = [best[0].min(first).min(fourth), best[1].min(second).min(third)];
    }
    ratios.sort_by(f64::total_cmp);
    let bare_ns = best[1] * 1e9 / f64::from(calls);
    Time { bare_ns, median: ratios[ratios.len() / 2], fastest: best[0] / best[1] }
}

/// Calls that fill a batch. It also warms both sides up.
fn batch(case: &mut Case) -> u32 {
    let mut calls = 1;
    while calls < 1 << 20 {
        timed(&mut *case.wrapped, calls);
        if timed(&mut *case.bare, calls) >= BATCH.as_secs_f64() {
            break;
        }
        calls *= 2;
    }
    calls
}

fn timed(run: &mut dyn FnMut(u32), calls: u32) -> f64 {
    let start = Instant::now();
    run(calls);
    start.elapsed().as_secs_f64()
}
