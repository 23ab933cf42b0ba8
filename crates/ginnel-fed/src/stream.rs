//! What the two ends of a stream of bytes do: copy, or work in its place.

use crate::dice::Dice;
use crate::region::Region;
use crate::world::World;
use ginnel_core::{ByteReader, ByteWriter, Engine, Route};

/// Writes some bytes.
pub(crate) fn write(world: &World, dice: &mut Dice, writer: &ByteWriter) {
    let engine = &world.engine;
    let len = dice.pick(&[1, 100, 2000, 4096, 5000]);
    engine.want_room(writer, len);
    if dice.one_in(3) {
        let Ok(range) = engine.writable(writer, len) else { return };
        world.region.write(range.offset, range.len, 5);
        engine.publish(writer, range.len);
        return;
    }
    let ahead = if dice.one_in(4) { dice.pick(&[1, 4096, usize::MAX]) } else { 0 };
    let route = dice.pick(&[Route::Cache, Route::Memory]);
    match engine.put(writer, ahead, &vec![3; len], route) {
        Ok(written) if ahead == 0 => engine.publish(writer, written),
        _ => {}
    }
}

/// Reads some, and gives back some of it.
pub(crate) fn read(engine: &Engine, region: &Region, dice: &mut Dice, reader: &ByteReader) {
    let wanted = dice.pick(&[1, 100, 4096, usize::MAX]);
    let there = if dice.one_in(2) {
        let Ok(range) = engine.readable(reader, wanted) else { return };
        region.sum(range.offset, range.len);
        range.len
    } else {
        let mut bytes = vec![0; wanted.min(5000)];
        engine.get(reader, &mut bytes).unwrap_or(0)
    };
    let _ = engine.consume(reader, if dice.one_in(2) { there } else { there / 2 });
}
