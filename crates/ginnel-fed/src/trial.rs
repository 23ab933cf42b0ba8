//! One trial: a scene, a change of the region, and every operation of the link's shape afterwards.

use crate::dice::Dice;
use crate::links::Link;
use crate::region::Region;
use crate::scene::Scene;
use crate::world::World;
use ginnel_core::{CONTROL_BYTES, ENTRY_BYTES, LINE, PAGE, Role, Shape};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// What is done to the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A bit of the words in use, by number, is another.
    Flip(u64),
    /// All of a part is this byte.
    Fill(Part, u8),
    /// Words become wrong between operations, by chance of this seed.
    Scribble(u64),
    /// These words, by their numbers among those in use, have these values.
    Words(Vec<(u64, u64)>),
}

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The words of the header that change.
    Control,
    /// The table of participants.
    Entries,
    /// Slots or cells, and the records of blocks.
    Slots,
    /// All three.
    All,
}

/// Who goes first after the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Handles that were there before it.
    Old,
    /// Handles that come.
    New,
}

/// A trial. The same one does the same each time.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// On which link.
    pub link: &'a Link,
    /// What had happened.
    pub scene: Scene,
    /// What is changed.
    pub change: Change,
    /// Who notices first.
    pub order: Order,
}

/// The words of a region that its link uses, apart from messages: header, participants, slots or cells, records.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    control: Range<usize>,
    entries: Range<usize>,
    slots: Range<usize>,
}

/// Bytes of the header's words that change, the counts of records at their end included.
const CONTROL_END: usize = 9 * LINE + 8 * 23;

impl InUse {
    /// Of a link, by its layout and what its fullest scene leaves in its tables.
    pub(crate) fn of(link: &Link) -> Self {
        let geometry = link.geometry();
        let entries = CONTROL_BYTES..CONTROL_BYTES + geometry.participants as usize * ENTRY_BYTES;
        let first = entries.end.next_multiple_of(PAGE);
        let mut world = World::new(link);
        world.region.fill(0, world.region.len(), 0);
        let blocks = world.engine.extent_to_commit(ginnel_core::INLINE_MAX + 1).map(|extent| extent.offset as usize);
        let end = match geometry.shape {
            Shape::Stream => first + LINE,
            Shape::Latest => first + geometry.capacity as usize * LINE,
            _ => blocks.unwrap_or(world.engine.layout().control_bytes()),
        };
        Scene::Full.play(&mut world);
        let last = (first..end).step_by(8).rev().find(|at| world.region.word(*at).load(Relaxed) != 0);
        Self { control: LINE..CONTROL_END, entries, slots: first..last.map_or(end, |last| last + 8) }
    }

    fn ranges(&self) -> [&Range<usize>; 3] {
        [&self.control, &self.entries, &self.slots]
    }

    /// How many words.
    pub(crate) fn words(&self) -> u64 {
        self.ranges().map(|range| range.len() as u64 / 8).iter().sum()
    }

    /// The offset of a word, by its number.
    pub(crate) fn at(&self, number: u64) -> usize {
        let mut bytes = (number % self.words()) as usize * 8;
        for range in self.ranges() {
            if bytes < range.len() {
                return range.start + bytes;
            }
            bytes -= range.len();
        }
        unreachable!("a number below the number of words")
    }

    fn part(&self, part: Part) -> Vec<Range<usize>> {
        let [control, entries, slots] = self.ranges().map(Range::clone);
        match part {
            Part::Control => vec![control],
            Part::Entries => vec![entries],
            Part::Slots => vec![slots],
            Part::All => vec![control, entries, slots],
        }
    }
}

impl Trial<'_> {
    /// Runs it on a link of its kind, whatever was there before. A panic, a call that does not return and an access that a sanitizer reports are
    /// what it may not come to.
    /// How many words were changed, bits and parts apart.
    pub(crate) fn run(&self, world: &mut World, in_use: &InUse) -> u64 {
        world.clear();
        self.scene.play(world);
        let mut run = Run { world, in_use, change: &self.change, dice: Dice::new(self.seed()), written: 0 };
        run.apply();
        if self.order == Order::New {
            run.newcomers();
        }
        run.operate();
        if self.order == Order::Old {
            run.newcomers();
            run.operate();
        }
        run.finish();
        run.written
    }

    /// The same without an end of the link, while somebody else scribbles over it; for as long as they like.
    pub(crate) fn operate(world: &mut World, in_use: &InUse, dice: Dice) {
        let mut run = Run { world, in_use, change: &Change::Words(Vec::new()), dice, written: 0 };
        run.newcomers();
        run.operate();
        run.finish();
    }

    /// What chance begins with after the change.
    pub(crate) fn seed(&self) -> u64 {
        match self.change {
            Change::Flip(number) | Change::Scribble(number) => number,
            Change::Fill(part, byte) => part as u64 ^ u64::from(byte),
            Change::Words(_) => 1,
        }
    }
}

/// A trial that runs.
struct Run<'a> {
    world: &'a mut World,
    in_use: &'a InUse,
    change: &'a Change,
    dice: Dice,
    /// Words that were scribbled.
    written: u64,
}

impl Run<'_> {
    fn apply(&mut self) {
        let region = &self.world.region;
        match self.change {
            Change::Flip(bit) => _ = region.word(self.in_use.at(bit / 64)).fetch_xor(1 << (bit % 64), Relaxed),
            Change::Fill(part, byte) => {
                self.in_use.part(*part).into_iter().for_each(|range| region.fill(range.start, range.len(), *byte));
            }
            Change::Words(words) => {
                words.iter().for_each(|(number, value)| region.word(self.in_use.at(*number)).store(*value, Relaxed));
            }
            Change::Scribble(_) => self.between(),
        }
    }

    /// Between two operations.
    fn between(&mut self) {
        if matches!(self.change, Change::Scribble(_)) && self.dice.one_in(3) {
            self.written += scribble(&self.world.region, self.in_use, &mut self.dice);
        }
    }

    fn newcomers(&mut self) {
        for role in [Role::Receiver, Role::Sender] {
            self.between();
            self.world.join(role);
        }
    }

    fn operate(&mut self) {
        for who in 0..self.world.senders.len().max(self.world.receivers.len()) {
            for _ in 0..2 {
                self.between();
                self.world.send(&mut self.dice, who);
                self.between();
                self.world.receive(&mut self.dice, who);
            }
            self.world.look();
            self.between();
            self.world.release(&mut self.dice, who);
        }
        self.world.wait();
        self.world.give_back();
    }

    /// One of each role dies, the others leave, and the link ends.
    fn finish(&mut self) {
        let dead = [self.world.senders.pop().map(|one| one.me), self.world.receivers.pop().map(|one| one.me)];
        for dead in dead.into_iter().flatten() {
            self.between();
            self.world.bury(dead);
        }
        self.operate();
        let world = &self.world;
        let alive = world.senders.iter().map(|one| one.me).chain(world.receivers.iter().map(|one| one.me));
        for me in alive.collect::<Vec<_>>() {
            self.between();
            self.world.leave(me);
        }
        self.world.engine.participants().for_each(|one| self.world.bury(one));
        self.world.look();
        let _ = self.world.engine.try_remove();
        self.world.engine.remove();
        let _ = self.world.engine.is_removed();
    }
}

/// Writes a wrong word, or a few; how many.
pub(crate) fn scribble(region: &Region, in_use: &InUse, dice: &mut Dice) -> u64 {
    let count = 1 + dice.below(3);
    for _ in 0..count {
        let mut number = dice.below(in_use.words());
        // Words that hold something are worth more: look for the next one.
        while dice.below(8) != 0 && region.word(in_use.at(number)).load(Relaxed) == 0 {
            number += 1;
        }
        let word = region.word(in_use.at(number));
        word.store(dice.wrong(word.load(Relaxed)), Relaxed);
    }
    count
}
