//! A region in use, of which some words are whatever a peer wrote.
//!
//! ```text
//! input  0  which of the links        1  scene, and who notices first
//!        2  words that change: number 16 bits, value 64 bits; and again
//! ```

use crate::links::LINKS;
use crate::scene::SCENES;
use crate::trial::{Change, InUse, Order, Trial};
use crate::world::World;

/// Words of one input at most.
const WORDS: usize = 64;
/// Bytes of a word in the input.
const RECORD: usize = 10;

/// Changes the words that the input says, and works on.
pub fn receive(bytes: &[u8]) {
    let [link, how, words @ ..] = bytes else { return };
    let link = &LINKS[usize::from(*link) % LINKS.len()];
    let words = words.chunks_exact(RECORD).take(WORDS).map(|record| {
        let (number, value) = record.split_at(2);
        let number = u16::from_le_bytes(number.try_into().expect("two bytes"));
        (u64::from(number), u64::from_le_bytes(value.try_into().expect("eight bytes")))
    });
    let trial = Trial {
        link,
        scene: SCENES[usize::from(how >> 1) % SCENES.len()],
        change: Change::Words(words.collect()),
        order: if how & 1 == 0 { Order::Old } else { Order::New },
    };
    trial.run(&mut World::new(link), &InUse::of(link));
}
