//! Compares the raw ring's chosen shape with its neighbours: run it on a new kind of machine before trusting the baselines.
//!
//! Not part of any report. `cargo run --release -p ginnel-bench --example sweep -- 64 4096` takes the sizes to try.

use std::time::Duration;

use ginnel_bench::{Amount, Case, Contender, Mode, Plan, RawRing, RingShape, Role, contest, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![8, 64, 4096, 64 << 10, 1 << 20];
    }
    let cases = sizes.iter().flat_map(|size| {
        [Case::round_trip(Mode::Spin, *size), Case::stream(Mode::Spin, *size), Case::stream(Mode::Block, *size)]
    });
    let plan =
        Plan { cases: cases.collect(), rounds: 7, amount: Amount::Time(Duration::from_millis(50)), ..Plan::default() };
    let report = contest(&plan, &neighbours(), |now| eprint!("\r\x1b[K{} of {}", now.done + 1, now.total))?;
    eprint!("\r\x1b[K");
    print!("{}", table(&report));
    Ok(())
}

/// The chosen shape, as the baseline, and others that differ from it in one number.
fn neighbours() -> Vec<Contender> {
    let ring = |name: &str, change: fn(RingShape) -> RingShape| {
        Contender::new(name, move |case: &Case| RawRing::with_shape(case, change(RingShape::best(case))))
    };
    vec![
        ring("chosen", |shape| shape).role(Role::Baseline),
        ring("half the slots", |shape| RingShape {
            slots: (shape.slots / 2).max(1),
            batch: shape.batch.div_ceil(2),
            ..shape
        }),
        ring("twice the slots", |shape| RingShape { slots: shape.slots * 2, ..shape }),
        ring("half the batch", |shape| RingShape { batch: shape.batch.div_ceil(2), ..shape }),
        ring("one ahead", |shape| RingShape { ahead: 1, ..shape }),
        ring("eight ahead", |shape| RingShape { ahead: 8, ..shape }),
        ring("no pause", |shape| RingShape { pauses: 0, ..shape }),
        ring("two pauses", |shape| RingShape { pauses: 2, ..shape }),
        ring("half the looks", |shape| RingShape { looks: shape.looks / 2, ..shape }),
        ring("five times the looks", |shape| RingShape { looks: shape.looks * 5, ..shape }),
    ]
}
