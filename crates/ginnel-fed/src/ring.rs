//! What the two ends of a queue do, of whatever shape: messages in slots and blocks, on loan, in runs, in hand, set aside.

use crate::dice::Dice;
use crate::links::MAX;
use crate::region::Region;
use crate::world::{TRIES, World};
use ginnel_core::{Consumer, Delivery, Engine, Full, INLINE_MAX, Participant, PopError, Producer, PushError, RUN_MAX};

/// A receiving end, and what it holds.
pub(crate) struct Taker {
    consumer: Consumer,
    in_hand: Vec<Delivery>,
}

impl Taker {
    pub(crate) fn new(me: Participant) -> Self {
        Self { consumer: Consumer::new(me), in_hand: Vec::new() }
    }
}

/// Sends one message, or several.
pub(crate) fn send(world: &World, dice: &mut Dice, producer: &Producer) {
    let bytes = [7; MAX as usize + 1];
    let len = dice.pick(&[0, 8, 40, INLINE_MAX, INLINE_MAX + 1, 250, 257, MAX as usize, MAX as usize + 1]);
    match dice.below(6) {
        0 => _ = world.engine.try_push_run(producer, 3, &[&bytes[..8], &[], &bytes[..INLINE_MAX]]),
        1 => loan(world, dice, producer, len.max(INLINE_MAX + 1)),
        _ => push(world, producer, &bytes[..len]),
    }
    let _ = world.engine.stays_away_from_room(producer) && world.engine.is_room_announced(producer);
    world.engine.lose_patience_for_room(producer);
}

fn push(world: &World, producer: &Producer, message: &[u8]) {
    for _ in 0..TRIES {
        match world.engine.try_push(producer, 7, message) {
            Err(obstacle) => {
                if !overcome(world, producer, message.len(), obstacle) {
                    return;
                }
            }
            Ok(()) => return,
        }
    }
}

/// Writes a message in its place, and sends it, or not.
fn loan(world: &World, dice: &mut Dice, producer: &Producer, len: usize) {
    let mut claimed = world.engine.claim(producer, len);
    if let Err(obstacle) = claimed {
        if overcome(world, producer, len, obstacle) {
            claimed = world.engine.claim(producer, len);
        }
    }
    let Ok(block) = claimed else { return };
    let (offset, most) = world.engine.block_range(&block);
    assert!(len <= most, "a block that is too small");
    world.region.write(offset, len, 9);
    if dice.one_in(3) || world.engine.commit(producer, block, len, 5).is_err() {
        world.engine.abort(block);
    }
}

/// Does what the crate above does before it tries again. False if that is not worth it.
fn overcome(world: &World, producer: &Producer, len: usize, obstacle: PushError) -> bool {
    let engine = &world.engine;
    let drops = engine.layout().geometry().full == Full::DropOldest;
    match obstacle {
        PushError::Busy => true,
        PushError::Full if engine.is_unbounded() => {
            world.grow_ring();
            true
        }
        PushError::Full if drops && !engine.layout().is_broadcast() => engine.make_room(producer).unwrap_or(false),
        PushError::NoBlock => {
            world.grow_blocks(len);
            if engine.layout().is_broadcast() && engine.layout().geometry().full != Full::Block {
                return engine.let_go_of_a_block(producer, len).unwrap_or(false);
            }
            if drops && engine.any_block_waits() {
                return engine.make_room(producer).unwrap_or(false);
            }
            true
        }
        _ => false,
    }
}

/// Takes a message, or several; some stay in hand.
pub(crate) fn receive(engine: &Engine, region: &Region, dice: &mut Dice, taker: &mut Taker) {
    let consumer = &taker.consumer;
    if dice.one_in(4) {
        take_run(engine, region, dice, consumer);
    }
    for _ in 0..TRIES {
        let fast = engine.try_pop_fast(consumer, dice.one_in(2)).map(|(delivery, _)| delivery);
        match fast.map_or_else(|| engine.try_pop(consumer), Ok) {
            Ok(mut delivery) => {
                read(engine, region, &delivery);
                let _ = (delivery.tag(), delivery.redelivered(), delivery.is_plain());
                if engine.layout().geometry().full == Full::DropOldest {
                    engine.detach(consumer, &mut delivery);
                }
                taker.in_hand.push(delivery);
                break;
            }
            Err(PopError::Busy) => {}
            Err(_) => {
                let _ = engine.stays_away(consumer) && engine.is_announced(consumer);
                engine.found_nothing(consumer);
                engine.lose_patience(consumer);
                break;
            }
        }
    }
    let _ = (consumer.may_hold(), consumer.take_made_room(), consumer.take_passed_extent(), consumer.take_had_blocks());
}

fn take_run(engine: &Engine, region: &Region, dice: &mut Dice, consumer: &Consumer) {
    let most = dice.pick(&[1, 3, RUN_MAX, usize::MAX]);
    let Some(run) = engine.try_pop_run(consumer, most, false) else { return };
    for index in 0..run.len() {
        let (offset, len, _) = engine.message_in(&run, index);
        assert!(len <= INLINE_MAX, "a message of {len} bytes in a slot");
        region.sum(offset, len);
    }
    engine.release_run(consumer, &run);
}

/// Releases a message, the oldest in hand or another.
pub(crate) fn release(engine: &Engine, region: &Region, dice: &mut Dice, taker: &mut Taker) {
    if taker.in_hand.is_empty() {
        return;
    }
    let delivery = taker.in_hand.remove(if dice.one_in(2) { 0 } else { dice.index(taker.in_hand.len()) });
    read(engine, region, &delivery);
    let consumer = &taker.consumer;
    if delivery.is_detached() {
        engine.release_detached(consumer, &delivery);
    } else if !delivery.is_plain() {
        engine.release(consumer, &delivery);
    } else if !engine.release_fast(consumer, delivery.position) {
        engine.release_plain(consumer, delivery.position);
    }
}

/// Reads a message: it lies in its slot, or in a block that may be as long, and is not longer than the link's largest.
pub(crate) fn read(engine: &Engine, region: &Region, delivery: &Delivery) {
    let (len, max) = (delivery.len(), engine.layout().geometry().max);
    assert!(len as u64 <= max, "a message of {len} bytes where {max} is the most");
    assert!(!delivery.is_inline() || len <= INLINE_MAX, "a message of {len} bytes in a slot");
    region.sum(delivery.offset, len);
}
