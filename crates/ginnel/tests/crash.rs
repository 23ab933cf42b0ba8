//! SIGKILL after every instruction: no operation of a link may harm anybody when its process dies in the middle.
//!
//! ```text
//! cargo test --release --test crash                      # every moment that others can tell apart, and a sample of the rest
//! GINNEL_CRASH=all cargo test --release --test crash     # every instruction, one by one: hours
//! GINNEL_CRASH=500 cargo test --test crash -- send       # up to 500 for each operation with `send` in its name
//! ```
//!
//! An operation is hundreds to a hundred thousand instructions long, and does some tens of things that another process can see: stores to
//! shared memory, system calls. A kill between two of those is the same kill wherever it strikes, as nobody can tell its moments
//! apart; `crash/visible.rs` finds them. One kill is tried in each, so each instruction is covered; the sample checks that.
//!
//! `GINNEL_CRASH` is `quick`, `all`, or a number of kill points for each operation; without it a build that is not
//! optimised runs the harness's own tests alone. `GINNEL_CRASH_SEED=N` repeats the sample of an earlier run;
//! `GINNEL_CRASH_STEP=plain` does without breakpoints. `GINNEL_CRASH_PART=2/16` tries every 16th point, from the second: so 16 processes, each on a
//! processor of its own, share a run. The harness first shows, on protocols of its own that are broken or
//! correct, that it finds what it should.
//!
//! Everything stays on one processor, where a step costs a quarter: so the waits of the library do not spin here.

use std::process::ExitCode;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "crash/run.rs"]
mod run;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> ExitCode {
    run::main()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> ExitCode {
    println!("skipped: only on x86-64 Linux");
    println!("0 passed, 0 failed");
    ExitCode::SUCCESS
}
