//! Every flipped bit of the words of every shape of link, parts full of zeroes and ones, and words that change between and during operations: no panic,
//! nothing that does not return, nothing outside the region. What is not in `cargo test`'s few seconds is in `cargo xtask prove flips`.
//!
//! `GINNEL_FED=all` tries every bit, in every scene and order; without it, one bit in so many, others each time that the step below changes.

use ginnel_fed::{Campaign, LINKS, Verdict};
use std::time::Duration;

/// One bit in so many, by default: a prime, so that no word is left out for its place.
const STEP: u64 = 701;

fn is_all() -> bool {
    std::env::var_os("GINNEL_FED").is_some_and(|value| value == "all")
}

fn judge(what: &str, verdict: &Verdict) {
    let Verdict { flips, mutations, scribbles, bad } = verdict;
    println!(
        "{what}: {flips} flips and fills, {mutations} words changed between operations, {scribbles} during them, {} kinds of trouble",
        bad.len()
    );
    assert!(bad.is_empty(), "{what}: what went wrong, how often, and the first of each: {bad:#?}");
    assert!(flips + mutations + scribbles > 0, "nothing was tried");
}

#[test]
fn every_flipped_bit_and_every_filled_part_is_survived() {
    let mut all = Verdict::default();
    for link in LINKS {
        let mut campaign = Campaign::new(link);
        let (first, step) = if is_all() { (0, 1) } else { (campaign.bits() % STEP, STEP) };
        campaign.flips(first, step);
        campaign.fills();
        all.add(campaign.verdict());
    }
    judge("flips", &all);
}

#[test]
fn words_that_change_between_operations_are_survived() {
    let mut all = Verdict::default();
    for link in LINKS {
        let mut campaign = Campaign::new(link);
        campaign.mutations(0..if is_all() { 60_000 } else { 60 });
        all.add(campaign.verdict());
    }
    judge("mutations", &all);
}

#[test]
fn words_that_change_during_operations_are_survived() {
    let mut all = Verdict::default();
    for link in LINKS {
        let mut campaign = Campaign::new(link);
        campaign.race(Duration::from_millis(if is_all() { 3000 } else { 60 }), 1);
        all.add(campaign.verdict());
    }
    judge("races", &all);
}
