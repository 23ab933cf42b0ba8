//! The fuzz target `attach`: its body is `ginnel_fed::targets::attach`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ginnel_fed::targets::attach(bytes));
