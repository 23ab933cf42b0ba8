//! How many instructions a message costs on each hot path: counted one by one, and held to a table.
//!
//! ```text
//! cargo xtask test instructions                          # or: cargo test --release -p ginnel-bench --test instructions
//! GINNEL_RATCHET=write cargo xtask test instructions     # rewrites the table: tests/instructions/expected.txt
//! ```
//!
//! Not a measure of time: it says the same on a slow, a busy and a fast machine, and that is why it may fail a change where a clock may
//! not. What an instruction waits for, a line of memory above all, it does not see; `ginnel bench` does.
//!
//! The paths are counted in a build that is optimised, as users' are; any other runs the harness's own tests alone. The table is for this
//! package alone (`-p`): in one build with others, the library has the features that they ask for, and some figures are others.

use std::process::ExitCode;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "instructions/run.rs"]
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
