//! The bodies of the fuzz targets over the inputs that are kept, and over mutations of them: what a fuzzer would do, without one, and the same each time.
//!
//! `GINNEL_FED=all` tries a hundred times as many.

use ginnel_fed::{Dice, inputs, mutate, targets};
use std::time::{Duration, Instant};

/// No input may take longer.
const SLOW: Duration = Duration::from_secs(1);

fn all_of(target: &str, mutations: u64, body: fn(&[u8])) {
    let inputs = inputs(target);
    let more = if std::env::var_os("GINNEL_FED").is_some_and(|value| value == "all") { 100 } else { 1 };
    for (name, bytes) in &inputs {
        once(body, bytes, name);
    }
    for seed in 0..mutations * more {
        once(body, &mutate(&inputs, &mut Dice::new(seed)), &format!("mutation {seed} of {target}"));
    }
    println!("{target}: {} inputs and {} mutations of them", inputs.len(), mutations * more);
}

fn once(body: fn(&[u8]), bytes: &[u8], name: &str) {
    let run = || {
        let begin = Instant::now();
        let ran = std::panic::catch_unwind(|| body(bytes));
        assert!(ran.is_ok(), "{name}: {:?}", String::from_utf8_lossy(bytes));
        begin.elapsed()
    };
    // Twice, as the machine may have had something else to do.
    assert!(run() < SLOW || run() < SLOW, "{name} takes long: {bytes:?}");
}

#[test]
fn any_header_is_refused_or_used() {
    all_of("attach", 3000, targets::attach);
}

#[test]
fn any_words_of_a_region_are_survived() {
    all_of("receive", 3000, targets::receive);
}

#[test]
fn any_address_is_refused_or_means_itself() {
    all_of("address", 20_000, targets::address);
}
