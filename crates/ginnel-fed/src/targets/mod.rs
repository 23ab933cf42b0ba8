//! The bodies of the fuzz targets: one function each, of any bytes. `fuzz/fuzz_targets` calls them under libFuzzer, and the test `corpus` over the inputs that are kept,
//! and mutations of them. A body panics where something is wrong.
//!
//! The command line of the tool is a target too; its body stands in `ginnel-cli`, as nobody depends on a leaf but its own tests.

mod address;
mod attach;
mod receive;

pub use address::address;
pub use attach::attach;
pub use receive::receive;
