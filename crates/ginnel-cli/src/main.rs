//! The binary `ginnel`: the library beside it, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    ginnel_cli::run()
}
