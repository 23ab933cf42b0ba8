//! Inputs that are kept for each fuzz target, as files of `fuzz/corpus`, and mutations of them.

use crate::dice::Dice;
use std::path::Path;

/// Bytes of an input at most, after it was mutated.
const MOST: usize = 4096;

/// The inputs of a target, by name.
///
/// # Panics
/// If there are none: a corpus that is looked for in the wrong place is no corpus.
pub fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            (path.display().to_string(), std::fs::read(&path).expect("an input"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no inputs in {}", folder.display());
    inputs
}

/// An input that differs from one of these in a few places.
///
/// # Panics
/// If there are none.
pub fn mutate(inputs: &[(String, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = inputs[dice.index(inputs.len())].1.clone();
    for _ in 0..1 + dice.below(4) {
        let at = dice.index(bytes.len() + 1);
        match dice.below(7) {
            0 => bytes.insert(at, dice.roll() as u8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, vec![dice.pick(b"0?&=:/-\xFF"); dice.index(40)])),
            3 => {
                let other = &inputs[dice.index(inputs.len())].1;
                let from = dice.index(other.len() + 1);
                let to = from + dice.index(other.len() - from + 1);
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            4 if at + 8 <= bytes.len() => {
                let old = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
                bytes[at..at + 8].copy_from_slice(&dice.wrong(old).to_le_bytes());
            }
            5 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
    }
    bytes.truncate(MOST);
    bytes
}
