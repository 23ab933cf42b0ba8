//! The fuzz target `address`: its body is `ginnel_fed::targets::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ginnel_fed::targets::address(bytes));
