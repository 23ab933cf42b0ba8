//! The newest value against an obvious oracle: the last one that was published. Random operations of several participants, one at a time, some
//! of which hold a cell that they have not published; deaths included.
//!
//! Interleavings within an operation are loom's business, kills within an operation the crash harness's.
#![allow(unsafe_code)] // Makes a region of a vector that outlives the engine, and takes bytes for written that were.
#![cfg(not(loom))]

use ginnel_core::{
    Cell, Engine, Geometry, Identity, Known, Layout, Look, Memory, Participant, ParticipantState, PopError, PushError,
    Role, Shape,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

const CAPACITY: u64 = 4;
const PARTICIPANTS: u32 = 6;
const MAX: usize = 5000;

#[derive(Clone, Debug)]
enum Op {
    Join(Role),
    /// Publishes a value of a length.
    Send(usize, usize),
    /// Claims a cell and scribbles into it.
    Claim(usize, usize),
    GiveBack(usize),
    Read(usize),
    /// Reads; in the middle of the copy others publish, so many values.
    ReadLate(usize, usize),
    /// The same, of what was read before, if it is the newest still.
    ReadAgain(usize, usize),
    Leave(usize),
    Die(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    let len = prop_oneof![2 => 0..=104usize, 2 => 105..=MAX, 1 => Just(MAX + 1)];
    prop_oneof![
        2 => role.prop_map(Op::Join),
        6 => (0..8usize, len).prop_map(|(who, len)| Op::Send(who, len)),
        2 => (0..8usize, 0..=MAX).prop_map(|(who, len)| Op::Claim(who, len)),
        1 => (0..8usize).prop_map(Op::GiveBack),
        4 => (0..8usize).prop_map(Op::Read),
        4 => (0..8usize, 0..9usize).prop_map(|(who, values)| Op::ReadLate(who, values)),
        4 => (0..8usize, 0..9usize).prop_map(|(who, values)| Op::ReadAgain(who, values)),
        1 => (0..8usize).prop_map(Op::Leave),
        2 => (0..8usize).prop_map(Op::Die),
    ]
}

struct Member {
    me: Participant,
    role: Role,
    claimed: Vec<Cell>,
    /// What it has read last.
    known: Known,
    /// Its version; 0 if it has read none.
    version: u64,
}

/// The engine and what it should hold.
struct World {
    engine: Rc<Engine>,
    region: Region,
    members: Vec<Member>,
    newest: Option<Vec<u8>>,
    version: u64,
    /// A reader is in the middle of a copy.
    reading: bool,
}

/// Memory that an engine works on, and what reaches into it behind the engine's back.
struct Region {
    base: NonNull<u64>,
    words: usize,
    _memory: Vec<u128>,
}

impl Region {
    fn word(&self, offset: usize) -> u64 {
        assert!(offset / 8 < self.words);
        // SAFETY: a word of the memory, as just checked.
        let word = unsafe { self.base.add(offset / 8) };
        // SAFETY: it is there, and one thread uses it.
        unsafe { word.read_volatile() }
    }

    fn set_word(&self, offset: usize, value: u64) {
        assert!(offset / 8 < self.words);
        // SAFETY: a word of the memory, as just checked.
        let word = unsafe { self.base.add(offset / 8) };
        // SAFETY: it is there, and one thread uses it.
        unsafe { word.write_volatile(value) }
    }
}

fn region(max: usize) -> (Engine, Region) {
    let mut geometry = Geometry {
        shape: Shape::Latest,
        capacity: CAPACITY,
        max: max as u64,
        participants: PARTICIPANTS,
        ..Geometry::default()
    };
    geometry.memory = geometry.memory_min();
    let layout = Layout::new(geometry).unwrap();
    let mut region = vec![0u128; layout.total_bytes() / 16];
    let base: NonNull<u64> = NonNull::new(region.as_mut_ptr()).unwrap().cast();
    // SAFETY: the vector is kept beside the engine, and nothing else refers to its elements but through this address.
    let memory = unsafe { Memory::new(base.cast(), layout.total_bytes()) };
    let region = Region { base, words: layout.total_bytes() / 8, _memory: region };
    (Engine::new(memory, layout, true, || ()), region)
}

fn copy(look: &Look<'_>, into: &mut Vec<u8>) -> bool {
    into.clear();
    into.reserve(look.len());
    let whole = look.copy_to(&mut into.spare_capacity_mut()[..look.len()]);
    // SAFETY: as many bytes were written, whole or torn.
    unsafe { into.set_len(look.len()) };
    whole
}

impl World {
    fn new() -> Self {
        let (engine, region) = region(MAX);
        Self { engine: Rc::new(engine), region, members: Vec::new(), newest: None, version: 0, reading: false }
    }

    fn join(&mut self, role: Role) {
        let mut free = self.engine.participants().filter(|p| self.engine.state(*p) == ParticipantState::Free);
        let Some(me) = free.next() else { return };
        self.engine.join(me, role, Identity { pid: 1, namespace: 1, now_ns: 1 }).unwrap();
        self.members.push(Member { me, role, claimed: Vec::new(), known: Known::NONE, version: 0 });
    }

    fn one(&self, who: usize, role: Role) -> Option<usize> {
        let of_role: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].role == role).collect();
        (!of_role.is_empty()).then(|| of_role[who % of_role.len()])
    }

    fn claims(&self) -> u64 {
        self.members.iter().map(|member| member.claimed.len() as u64).sum()
    }

    /// Values differ in each byte from that of any version nearby.
    fn value(version: u64, len: usize) -> Vec<u8> {
        (0..len).map(|at| ((at as u64 * 31) ^ (version * 7)) as u8).collect()
    }

    fn claim(&self, me: Participant, len: usize) -> Result<Cell, PushError> {
        let cell = self.engine.claim_cell(me, len)?;
        if let Some((offset, bytes)) = self.engine.absent(&cell, len) {
            assert!(offset + bytes <= self.engine.layout().total_bytes() as u64 && bytes >= len as u64);
            self.engine.committed(&cell, bytes);
            assert_eq!(self.engine.absent(&cell, len), None);
        }
        Ok(cell)
    }

    fn send(&mut self, me: Participant, len: usize) {
        let claimed = self.claim(me, len);
        if len > MAX {
            assert_eq!(claimed.unwrap_err(), PushError::TooLarge);
            return;
        }
        // Cell 0 counts as the newest while there is none.
        if self.claims() + 1 >= CAPACITY {
            assert_eq!(claimed.unwrap_err(), PushError::Busy);
            return;
        }
        // The last one may be pinned.
        if self.claims() + 2 >= CAPACITY && self.reading && matches!(claimed, Err(PushError::Busy)) {
            return;
        }
        let cell = claimed.unwrap();
        let value = Self::value(self.version + 1, len);
        self.engine.write_cell(&cell, self.version as u16, &value);
        assert_eq!(self.engine.publish_value(me, cell, len), Ok(self.version + 1));
        self.version += 1;
        self.newest = Some(value);
    }

    fn read(&mut self, who: usize) {
        let Some(at) = self.one(who, Role::Receiver) else { return };
        let mut bytes = Vec::new();
        let Member { me, ref mut known, .. } = self.members[at];
        let read = self.engine.read_newest(me, &mut |look| {
            *known = look.known();
            copy(look, &mut bytes)
        });
        match &self.newest {
            None => assert_eq!(read, Err(PopError::Empty)),
            Some(newest) => {
                assert_eq!(read, Ok((self.version, (self.version - 1) as u16)));
                self.members[at].version = self.version;
                assert_eq!(&bytes, newest);
            }
        }
    }

    /// What is read is a value whose moment as the newest was in the call; and a copy that was disturbed says so.
    fn read_late(&mut self, who: usize, values: usize) {
        let (Some(at), Some(sender)) = (self.one(who, Role::Receiver), self.one(who, Role::Sender)) else { return };
        let (reader, writer) = (self.members[at].me, self.members[sender].me);
        let (first, world) = (self.version, RefCell::new(self));
        let mut bytes = Vec::new();
        let engine = world.borrow().engine.clone();
        world.borrow_mut().reading = true;
        let read = engine.read_newest(reader, &mut |look| {
            let mut world = world.borrow_mut();
            let before = Self::value(look.version(), look.len());
            (0..values).for_each(|turn| world.send(writer, (turn * 1237 + look.len()) % MAX));
            let whole = copy(look, &mut bytes);
            assert!(!whole || bytes == before, "a torn value passes for whole");
            whole
        });
        world.borrow_mut().reading = false;
        match read {
            Ok((version, _)) => assert!(version >= first),
            Err(e) => assert_eq!(e, PopError::Empty),
        }
    }

    /// What a reader knows it reads again exactly while it is the newest; and a copy that was disturbed says so.
    fn read_again(&mut self, who: usize, values: usize) {
        let (Some(at), Some(sender)) = (self.one(who, Role::Receiver), self.one(who, Role::Sender)) else { return };
        let (known, writer, engine) = (self.members[at].known, self.members[sender].me, self.engine.clone());
        let Some(look) = engine.look_again(known) else {
            assert!(self.members[at].version != self.version || self.version == 0, "the newest is not known again");
            return;
        };
        assert_eq!(
            (look.version(), look.tag(), self.members[at].version),
            (self.version, (self.version - 1) as u16, self.version)
        );
        let (first, before) = (self.version, self.newest.clone().unwrap());
        (0..values).for_each(|turn| self.send(writer, (turn * 1237 + look.len()) % MAX));
        let mut bytes = Vec::new();
        let whole = copy(&look, &mut bytes);
        assert!(!whole || bytes == before, "a torn value passes for whole");
        assert!(whole || self.version > first, "an untouched value passes for torn");
        assert_eq!(engine.look_again(known).is_some(), self.version == first);
    }

    fn undo(&mut self, at: usize) -> Member {
        self.members.swap_remove(at)
    }

    fn look(&self) {
        assert_eq!(self.engine.newest_version(), self.version);
        assert_eq!(self.engine.len(Participant::new(0)), u64::from(self.version > 0));
        assert!(!self.engine.is_full(Participant::new(0)));
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Join(role) => self.join(role),
            Op::Send(who, len) => {
                let Some(at) = self.one(who, Role::Sender) else { return };
                self.send(self.members[at].me, len);
            }
            Op::Claim(who, len) => {
                let Some(at) = self.one(who, Role::Sender) else { return };
                if let Ok(cell) = self.claim(self.members[at].me, len) {
                    self.engine.write_cell(&cell, 9, &vec![0xEE; len]);
                    self.members[at].claimed.push(cell);
                }
            }
            Op::GiveBack(who) => {
                let Some(at) = self.one(who, Role::Sender) else { return };
                if let Some(cell) = self.members[at].claimed.pop() {
                    self.engine.give_back(cell);
                }
            }
            Op::Read(who) => self.read(who),
            Op::ReadLate(who, values) => self.read_late(who, values),
            Op::ReadAgain(who, values) => self.read_again(who, values),
            Op::Leave(who) if !self.members.is_empty() => {
                let mut member = self.undo(who % self.members.len());
                member.claimed.drain(..).for_each(|cell| self.engine.give_back(cell));
                self.engine.begin_leave(member.me);
                self.engine.finish_leave(member.me);
            }
            Op::Die(who) if !self.members.is_empty() => {
                let member = self.undo(who % self.members.len());
                let recovered = self.engine.recover(member.me).unwrap();
                assert_eq!(recovered.skipped, member.claimed.len() as u64);
                assert_eq!(self.engine.recover(member.me).unwrap().skipped, 0, "a second survivor finds nothing left");
                self.engine.finish_leave(member.me);
            }
            Op::Leave(_) | Op::Die(_) => {}
        }
        self.look();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_newest_value_is_the_oracles(ops in prop::collection::vec(op(), 1..200)) {
        let mut world = World::new();
        world.join(Role::Sender);
        world.join(Role::Receiver);
        ops.iter().for_each(|op| world.apply(op));
    }

    /// Whatever stands in the region, no call panics, leaves it, or goes on for ever.
    #[test]
    fn a_scribbled_region_is_an_error(words in prop::collection::vec((0usize..1536, any::<u64>(), any::<bool>()), 0..60), len in 0usize..200) {
        let (engine, scribbled) = region(200);
        let identity = Identity { pid: 1, namespace: 1, now_ns: 1 };
        let (writer, reader) = (Participant::new(0), Participant::new(1));
        engine.join(writer, Role::Sender, identity).unwrap();
        engine.join(reader, Role::Receiver, identity).unwrap();
        // The words that change, of the header, the participants and the cells.
        let heads = engine.layout().control_bytes() - 4096;
        for (at, value, small) in words {
            let offset = [128 + at * 8 % 896, 4096 + at * 8 % 4096, heads + at * 8 % 4096][at % 3];
            scribbled.set_word(offset, if small { value % 1024 } else { value });
        }
        let mut bytes = Vec::new();
        let mut known = Known::NONE;
        for _ in 0..3 {
            let _ = engine.look_again(known).map(|look| copy(&look, &mut bytes));
            let _ = engine.read_newest(reader, &mut |look| {
                known = look.known();
                copy(look, &mut bytes)
            });
            if let Ok(cell) = engine.claim_cell(writer, len) {
                let _ = engine.absent(&cell, len);
                engine.write_cell(&cell, 1, &vec![1; len]);
                let _ = engine.publish_value(writer, cell, len);
            }
            let _ = (engine.len(Participant::new(0)), engine.is_full(Participant::new(0)), engine.positions(Participant::new(0)), engine.pool_use(), engine.census());
        }
        let _ = engine.recover(writer);
        let _ = engine.recover(reader);
    }
}

/// A reader pins the value that it lost before; then writers, however fast, go around it.
#[test]
fn a_reader_that_lost_the_race_pins() {
    let mut world = World::new();
    world.join(Role::Sender);
    world.join(Role::Receiver);
    let (writer, reader) = (world.members[0].me, world.members[1].me);
    world.send(writer, 300);
    let mut turns = 0;
    let mut bytes = Vec::new();
    let world = RefCell::new(world);
    let engine = world.borrow().engine.clone();
    let read = engine.read_newest(reader, &mut |look| {
        turns += 1;
        // Twice around in the middle of each copy.
        (0..2 * CAPACITY).for_each(|_| world.borrow_mut().send(writer, 300));
        copy(look, &mut bytes)
    });
    let (version, _) = read.unwrap();
    assert_eq!(turns, 4, "three copies, then one with a pin");
    assert_eq!(bytes, World::value(version, 300));
    // The pin is gone: every cell is free again but the newest.
    let mut world = world.into_inner();
    (0..4 * CAPACITY).for_each(|_| world.send(writer, 200));
}

/// A peer makes the newest what stands for no value.
#[test]
fn no_value_is_never_read_again() {
    let (engine, scribbled) = region(200);
    scribbled.set_word(2 * 128, u64::MAX);
    let mut bytes = Vec::new();
    assert!(!engine.look_again(Known::NONE).is_some_and(|look| copy(&look, &mut bytes)));
    assert_eq!(bytes, []);
}

/// One that dies with a pin leaves none.
#[test]
fn a_dead_readers_pin_is_taken_away() {
    let mut world = World::new();
    world.join(Role::Sender);
    world.join(Role::Receiver);
    let (writer, reader) = (world.members[0].me, world.members[1].me);
    world.send(writer, 10);
    let pins = |world: &World| (0..16).filter(|at| world.region.word(3 * 128 + 8 * at) != 0).count();
    let mut turns = 0;
    let read = world.engine.read_newest(reader, &mut |_| {
        turns += 1;
        assert_eq!(pins(&world), usize::from(turns > 3));
        false
    });
    assert_eq!((read, pins(&world)), (Err(PopError::Busy), 0), "a reader that lives takes its pins with it");
    // What a kill leaves: owner and cell.
    let newest = world.region.word(2 * 128) & 0xFF;
    world.region.set_word(3 * 128, (u64::from(reader.number()) + 1) << 8 | newest);
    world.send(writer, 10);
    (0..2 * CAPACITY).for_each(|_| world.send(writer, 10));
    world.engine.recover(reader).unwrap();
    assert_eq!(pins(&world), 0);
}
