//! Prints the table of the raw baselines and the kernel's byte streams on this machine.
//!
//! Not the tool's `bench`: no options but the number of rounds. `cargo run --release -p ginnel-bench --example raw -- 5`

use ginnel_bench::{Plan, baselines, contest, kernel_streams, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::default();
    if let Some(rounds) = std::env::args().nth(1) {
        plan.rounds = rounds.parse()?;
    }
    let mut contenders = baselines();
    contenders.extend(kernel_streams());
    let report = contest(&plan, &contenders, |now| {
        eprint!("\r\x1b[K{} of {}: {}, {}", now.done + 1, now.total, now.case, now.mechanism);
    })?;
    eprint!("\r\x1b[K");
    print!("{}", table(&report));
    Ok(())
}
