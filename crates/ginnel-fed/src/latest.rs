//! What is done to the newest value: written into a cell that is claimed, looked at by who copies it, looked at again.

use crate::dice::Dice;
use crate::world::World;
use ginnel_core::{Engine, Known, Look, Participant};
use std::mem::MaybeUninit;

/// What a reader has read last.
pub(crate) struct Looker(Known);

impl Default for Looker {
    fn default() -> Self {
        Self(Known::NONE)
    }
}

/// Publishes a value, or gives its cell back.
pub(crate) fn send(world: &World, dice: &mut Dice, me: Participant) {
    let engine = &world.engine;
    let max = engine.layout().geometry().max as usize;
    let len = dice.pick(&[0, 8, 100, 104, 105, 4096, max, max + 1]);
    let Ok(cell) = engine.claim_cell(me, len) else { return };
    let len = len.min(max);
    if let Some((offset, bytes)) = engine.absent(&cell, len) {
        let total = engine.layout().total_bytes() as u64;
        assert!(offset <= total && bytes <= total - offset, "{bytes} bytes at {offset} of {total}");
        engine.committed(&cell, bytes);
    }
    engine.write_cell(&cell, 4, &vec![6; len]);
    if dice.one_in(4) {
        engine.give_back(cell);
    } else {
        _ = engine.publish_value(me, cell, len);
    }
}

/// Reads the newest value.
pub(crate) fn receive(engine: &Engine, dice: &mut Dice, me: Participant, looker: &mut Looker) {
    let max = engine.layout().geometry().max;
    if let Some(look) = engine.look_again(looker.0) {
        let _ = copy(&look, dice, max);
    }
    if let Ok(look) = engine.newest() {
        let _ = (look.version(), look.tag(), look.is_empty());
        if copy(&look, dice, max) {
            looker.0 = look.known();
        }
    }
    // Not at once: so a value is pinned now and then.
    let mut times = dice.below(8);
    let _ = engine.read_newest(me, &mut |look| {
        let whole = copy(look, dice, max);
        times = times.saturating_sub(1);
        whole && times == 0
    });
    engine.count_value(me, looker.0.len());
}

/// Copies a value to memory that is as long, or a little longer.
fn copy(look: &Look<'_>, dice: &mut Dice, max: u64) -> bool {
    let more = if dice.one_in(2) { 15 } else { 0 };
    assert!(look.len() as u64 <= max, "a value of {} bytes where {max} is the most", look.len());
    let mut bytes = vec![MaybeUninit::uninit(); look.len() + more];
    look.copy_to(&mut bytes)
}
