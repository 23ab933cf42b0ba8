//! The fuzz target `receive`: its body is `ginnel_fed::targets::receive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ginnel_fed::targets::receive(bytes));
