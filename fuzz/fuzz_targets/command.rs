//! The fuzz target `command`: a command line of the tool, understood, and nothing done of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ginnel_cli::understand(ginnel_fed::targets::arguments(bytes));
});
