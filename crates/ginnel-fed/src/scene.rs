//! What had happened on a link before its memory is changed: the same from any memory, as long as that is all zeroes.

use crate::dice::Dice;
use crate::world::World;
use ginnel_core::Role;

/// What had happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// One of each role, who exchanged a little.
    Idle,
    /// One of each role; messages wait, and are in hand.
    InHand,
    /// Two of each role, where the link allows that, each in the middle of something.
    Shared,
    /// One of each role, and no room.
    Full,
    /// Several died: some were buried, what they held went back; one is still in the table.
    Deaths,
}

/// All of them.
pub const SCENES: [Scene; 5] = [Scene::Idle, Scene::InHand, Scene::Shared, Scene::Full, Scene::Deaths];

impl Scene {
    /// Plays it on an empty link.
    pub(crate) fn play(self, world: &mut World) {
        let mut dice = Dice::new(self as u64);
        world.join(Role::Sender);
        world.join(Role::Receiver);
        match self {
            Self::Idle => exchange(world, &mut dice, 3),
            Self::InHand => {
                exchange(world, &mut dice, 2);
                hold(world, &mut dice, 0);
            }
            Self::Shared => {
                world.join(Role::Sender);
                world.join(Role::Receiver);
                exchange(world, &mut dice, 4);
                (0..2).for_each(|who| hold(world, &mut dice, who));
            }
            Self::Full => (0..90).for_each(|_| world.send(&mut dice, 0)),
            Self::Deaths => deaths(world, &mut dice),
        }
    }
}

fn exchange(world: &mut World, dice: &mut Dice, turns: usize) {
    for turn in 0..turns {
        let who = turn % 2;
        world.send(dice, who.min(world.senders.len().saturating_sub(1)));
        world.receive(dice, who.min(world.receivers.len().saturating_sub(1)));
        world.release(dice, who);
    }
}

/// Two messages in hand, two on their way.
fn hold(world: &mut World, dice: &mut Dice, who: usize) {
    for turn in 0..4 {
        world.send(dice, who);
        if turn % 2 == 0 {
            world.receive(dice, who);
        }
    }
}

fn deaths(world: &mut World, dice: &mut Dice) {
    exchange(world, dice, 1);
    hold(world, dice, 0);
    let dead = world.receivers.pop().map(|receiver| receiver.me);
    dead.into_iter().for_each(|dead| world.bury(dead));
    world.join(Role::Receiver);
    world.receive(dice, 0);
    let dead = world.senders.pop().map(|sender| sender.me);
    dead.into_iter().for_each(|dead| world.bury(dead));
    world.join(Role::Sender);
    world.send(dice, 0);
    world.receivers.pop(); // nobody has noticed yet
    world.join(Role::Receiver);
}
