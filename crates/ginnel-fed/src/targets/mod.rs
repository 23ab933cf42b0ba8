//! The bodies of the fuzz targets: one function each, of any bytes. `fuzz/fuzz_targets` calls them under libFuzzer, and the test `corpus` over the inputs that are kept,
//! and mutations of them. A body panics where something is wrong.
//!
//! The command line of the tool is a target too: `ginnel_cli::understand` of the `arguments` here, as nothing below the tool depends on it.

mod address;
mod attach;
mod command;
mod receive;

pub use address::address;
pub use attach::attach;
pub use command::arguments;
pub use receive::receive;
