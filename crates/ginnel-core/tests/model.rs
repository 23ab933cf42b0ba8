//! The engine against an obvious oracle: a queue, what each receiver holds, and what went back after a death. Random operations of
//! several participants, one at a time, deaths included: a participant that dies is never used again, and a survivor recovers it.
//!
//! Interleavings within an operation are loom's business, kills within an operation the crash harness's.
#![allow(unsafe_code)] // Makes a region of a vector that outlives the engine.
#![cfg(not(loom))]

use ginnel_core::{
    CONTROL_BYTES, Consumer, CutShort, Delivery, ENTRY_BYTES, Engine, Full, Geometry, Growth, Identity, InTheWay,
    Layout, Memory, PAGE, Participant, ParticipantState, PopError, Producer, PushError, Role, Span,
};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;

/// Few slots; and enough for a batch (see `pace`) of several. And slots of an extent, where the link is unbounded.
const CAPACITIES: [(u64, u32); 5] = [(4, 0), (32, 0), (8, 2), (32, 4), (64, 32)];
const PARTICIPANTS: u32 = 6;
const MAX: usize = 2000;

#[derive(Clone, Debug)]
enum Op {
    Join(Role),
    Send(usize, usize),
    /// Sends several small messages at once.
    SendRun(usize, usize),
    /// Takes several at once, and releases them.
    ReceiveRun(usize, usize),
    /// Claims a block and holds it.
    Claim(usize),
    Receive(usize),
    /// Releases one of the messages in hand.
    Release(usize, usize),
    Leave(usize),
    Die(usize),
    /// Memory that nobody needs goes.
    GiveBack,
}

fn op() -> impl Strategy<Value = Op> {
    let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    let len = prop_oneof![4 => 0..=112usize, 2 => 113..=MAX, 1 => Just(MAX + 1)];
    prop_oneof![
        2 => role.prop_map(Op::Join),
        8 => (0..8usize, len).prop_map(|(who, len)| Op::Send(who, len)),
        3 => (0..8usize, 1..6usize).prop_map(|(who, count)| Op::SendRun(who, count)),
        3 => (0..8usize, 1..6usize).prop_map(|(who, most)| Op::ReceiveRun(who, most)),
        1 => (0..8usize).prop_map(Op::Claim),
        8 => (0..8usize).prop_map(Op::Receive),
        6 => (0..8usize, 0..4usize).prop_map(|(who, which)| Op::Release(who, which)),
        1 => (0..8usize).prop_map(Op::Leave),
        2 => (0..8usize).prop_map(Op::Die),
        2 => Just(Op::GiveBack),
    ]
}

struct Sender {
    producer: Producer,
    me: Participant,
}

struct Receiver {
    consumer: Consumer,
    me: Participant,
    in_hand: InHand,
}

/// Messages that a receiver holds, and what they should say.
type InHand = Vec<(Delivery, Vec<u8>)>;

/// The engine and what it should hold.
struct World {
    engine: Engine,
    _region: Vec<u128>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    queue: VecDeque<Vec<u8>>,
    /// Messages that went back, by position.
    returned: BTreeMap<u64, Vec<u8>>,
    sent: u64,
    /// What kept memory from being given back last.
    in_the_way: Cell<Option<InTheWay>>,
}

impl World {
    fn new(full: Full, (capacity, extent): (u64, u32)) -> Self {
        let memory = if extent == 0 { 64 << 10 } else { 512 << 10 };
        let (max, participants) = (MAX as u64, PARTICIPANTS);
        let geometry = Geometry { capacity, max, memory, participants, full, extent, ..Geometry::default() };
        let layout = Layout::new(geometry).unwrap();
        let mut region = vec![0u128; layout.total_bytes() / 16];
        let base = NonNull::new(region.as_mut_ptr()).unwrap().cast();
        // SAFETY: the vector is kept beside the engine, and nothing else refers to its elements.
        let memory = unsafe { Memory::new(base, layout.total_bytes()) };
        // What has no memory must not be looked at: there is rubbish in it, of which no run of the protocol makes sense.
        let (first, slots) = (u64::from(extent) * 128, capacity * 128);
        let control = engine_offset(&layout);
        let engine = Engine::new(memory, layout, true, || ());
        let (senders, receivers) = (Vec::new(), Vec::new());
        let (queue, returned) = (VecDeque::new(), BTreeMap::new());
        let (sent, in_the_way) = (0, Cell::new(None));
        let world = Self { engine, _region: region, senders, receivers, queue, returned, sent, in_the_way };
        if extent != 0 {
            world.fill(control + first, slots - first, 0xFF);
        }
        world
    }

    fn fill(&self, offset: u64, len: u64, byte: u8) {
        let bytes = self.engine.memory().bytes(offset as usize, len as usize);
        // SAFETY: a range of the region, of a test that has one thread and holds no reference into it.
        unsafe { std::ptr::write_bytes(bytes.as_ptr(), byte, len as usize) }
    }

    fn write(&self, offset: u64, word: u64) {
        let bytes = self.engine.memory().bytes(offset as usize, 8);
        // SAFETY: a word of the region, of a test that has one thread.
        unsafe { bytes.cast::<u64>().write(word) }
    }

    /// As one who only looks loads it.
    fn word_at(&self, offset: u64) -> u64 {
        let bytes = self.engine.memory().bytes(offset as usize, 8);
        // SAFETY: a word of the region, of a test that has one thread.
        unsafe { bytes.cast::<u64>().read() }
    }

    fn len(&self) -> u64 {
        self.engine.len_by(|offset| self.word_at(offset))
    }

    /// What the crate above does where an unbounded link is full.
    fn grow_ring(&self) -> bool {
        if let Growth::Slots(_) = self.engine.ring_growth() {
            self.give_back();
        }
        let Growth::By(span) = self.engine.ring_growth() else { return false };
        self.fill(span.offset, span.len, 0);
        self.engine.ring_grown(&span);
        true
    }

    fn give_back(&self) {
        let is_in_the_way = |way| self.receivers.first().is_some_and(|r| self.engine.is_in_the_way(r.me, way));
        let was_in_vain = self.in_the_way.get().is_some_and(is_in_the_way);
        while self.engine.ring_may_shrink() {
            let Some(span) = self.engine.ring_to_punch() else {
                self.in_the_way.set(self.engine.in_the_way());
                assert!(self.in_the_way.get().is_some(), "it says what it was");
                break;
            };
            assert!(!was_in_vain, "{:?}", self.in_the_way);
            self.fill(span.offset, span.len, 0xFF);
            self.engine.ring_punched(&span);
        }
        if self.engine.is_unbounded() {
            self.engine.retire_unused(64 << 10, |extent| {
                self.fill(extent.offset, extent.len, 0xFF);
                true
            });
        }
    }

    fn join(&mut self, role: Role) {
        let mut free = self.engine.participants().filter(|p| self.engine.state(*p) == ParticipantState::Free);
        let Some(me) = free.next() else { return };
        self.engine.join(me, role, Identity { pid: 1, namespace: 1, now_ns: 1 }).unwrap();
        match role {
            Role::Sender => self.senders.push(Sender { producer: Producer::new(me), me }),
            Role::Receiver => self.receivers.push(Receiver { consumer: Consumer::new(me), me, in_hand: Vec::new() }),
        }
    }

    fn capacity(&self) -> usize {
        self.engine.layout().geometry().capacity as usize
    }

    /// What anybody sees who only looks.
    fn look(&self) {
        let waiting = self.queue.len() + self.returned.len();
        assert_eq!(self.len(), waiting as u64);
        if let Some(sender) = self.senders.first() {
            assert_eq!((self.engine.len(sender.me), self.engine.is_empty(sender.me)), (waiting as u64, waiting == 0));
        }
        let Some(sender) = self.senders.first() else { return };
        let is_full = self.engine.is_full(sender.me);
        assert!(!is_full || self.slots_in_use() > 0 || self.engine.is_unbounded());
        assert!(is_full || waiting < self.capacity());
    }

    /// Messages that occupy a slot.
    fn slots_in_use(&self) -> usize {
        self.queue.len() + self.returned.len() + self.receivers.iter().map(|r| r.in_hand.len()).sum::<usize>()
    }

    fn send(&mut self, who: usize, len: usize) {
        let count = self.senders.len();
        if self.senders.is_empty() {
            return;
        }
        let who = who % count;
        self.sent += 1;
        let message: Vec<u8> = (0..len).map(|i| (i as u64 ^ self.sent) as u8).collect();
        let mut tries = 0;
        let result = loop {
            match self.engine.try_push(&self.senders[who].producer, 7, &message) {
                Err(PushError::Busy) if tries < 4 => tries += 1,
                Err(PushError::Full) if tries < 4 && self.engine.is_unbounded() => {
                    tries += 1;
                    if !self.grow_ring() {
                        break Err(PushError::Full);
                    }
                }
                Err(PushError::NoBlock) if tries < 4 => {
                    tries += 1;
                    match self.engine.extent_to_commit(len) {
                        Some(extent) => self.engine.extent_ready(&extent),
                        None => drop(self.engine.extent_to_release(len)),
                    }
                }
                other => break other,
            }
        };
        match result {
            Ok(()) => self.queue.push_back(message),
            Err(PushError::TooLarge) => assert!(len > MAX),
            // A message in hand can hold the slot that comes next though others are free.
            Err(PushError::Full) => assert!(self.slots_in_use() > 0),
            Err(PushError::NoBlock) => assert!(len > 112),
            Err(e) => panic!("{e:?}"),
        }
    }

    /// The first of several are sent, as many as it says.
    fn send_run(&mut self, who: usize, count: usize) {
        let senders = self.senders.len();
        let Some(sender) = self.senders.get(who % senders.max(1)) else { return };
        let messages: Vec<Vec<u8>> = (0..count).map(|i| vec![self.sent as u8 ^ i as u8; 8 * i]).collect();
        self.sent += 1;
        let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let done = self.engine.try_push_run(&sender.producer, 7, &slices);
        assert!(done <= count && self.slots_in_use() + done <= self.capacity(), "a slot was written that is in use");
        self.queue.extend(messages.into_iter().take(done));
    }

    /// A run is the head of the queue; what went back comes before it, so then there is none.
    fn receive_run(&mut self, who: usize, most: usize) {
        let receivers = self.receivers.len();
        let Some(receiver) = self.receivers.get(who % receivers.max(1)) else { return };
        let Some(run) = self.engine.try_pop_run(&receiver.consumer, most, false) else { return };
        assert!(self.returned.is_empty() && (1..=most).contains(&run.len()));
        for index in 0..run.len() {
            let (offset, len, tag) = self.engine.message_in(&run, index);
            let bytes = self.engine.memory().bytes(offset, len);
            // SAFETY: as in `read`.
            let got = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), len) }.to_vec();
            assert_eq!((Some(got), tag), (self.queue.pop_front(), 7));
        }
        self.engine.release_run(&receiver.consumer, &run);
        assert!(receiver.in_hand.is_empty() || receiver.consumer.may_hold(), "what is in hand was forgotten");
    }

    fn claim(&mut self, who: usize) {
        let count = self.senders.len();
        let Some(sender) = self.senders.get_mut(who % count.max(1)) else { return };
        let _ = self.engine.claim(&sender.producer, 300); // held until its owner dies or leaves
    }

    fn receive(&mut self, who: usize) {
        let count = self.receivers.len();
        let Some(receiver) = self.receivers.get_mut(who % count.max(1)) else { return };
        let mut tries = 0;
        let popped = loop {
            let consumer = &receiver.consumer;
            match self
                .engine
                .try_pop_fast(consumer, false)
                .map_or_else(|| self.engine.try_pop(consumer), |(taken, _)| Ok(taken))
            {
                Err(PopError::Busy) if tries < 4 => tries += 1,
                other => break other,
            }
        };
        match popped {
            Ok(delivery) => {
                let expected = match self.returned.pop_first() {
                    Some((position, message)) => {
                        assert_eq!((delivery.position, delivery.redelivered()), (position, true));
                        message
                    }
                    None => {
                        assert!(!delivery.redelivered());
                        self.queue.pop_front().expect("nothing was sent")
                    }
                };
                assert_eq!((read(&self.engine, &delivery), delivery.tag()), (expected.clone(), 7));
                assert!(receiver.consumer.may_hold());
                receiver.in_hand.push((delivery, expected));
            }
            Err(PopError::Empty) => assert!(self.queue.is_empty() && self.returned.is_empty()),
            Err(e) => panic!("{e:?}"),
        }
    }

    fn release(&mut self, who: usize, which: usize) {
        let count = self.receivers.len();
        let Some(receiver) = self.receivers.get_mut(who % count.max(1)) else { return };
        if receiver.in_hand.is_empty() {
            return;
        }
        let (delivery, message) = receiver.in_hand.remove(which % receiver.in_hand.len());
        assert_eq!(read(&self.engine, &delivery), message, "changed while it was in hand");
        self.engine.release(&receiver.consumer, &delivery);
        assert!(receiver.in_hand.is_empty() || receiver.consumer.may_hold(), "what is in hand was forgotten");
    }

    /// Takes a participant away: senders and receivers in one numbering.
    fn take_away(&mut self, who: usize) -> Option<(Participant, InHand)> {
        let count = self.senders.len() + self.receivers.len();
        let who = who % count.max(1);
        if who < self.senders.len() {
            return Some((self.senders.remove(who).me, Vec::new()));
        }
        let who = who - self.senders.len();
        (who < self.receivers.len()).then(|| self.receivers.remove(who)).map(|r| (r.me, r.in_hand))
    }

    fn leave(&mut self, who: usize) {
        let Some((me, in_hand)) = self.take_away(who) else { return };
        self.returned.extend(in_hand.into_iter().map(|(delivery, message)| (delivery.position, message)));
        self.engine.recover_self(me); // guards were forgotten, perhaps
        self.engine.begin_leave(me);
        self.engine.finish_leave(me);
    }

    fn die(&mut self, who: usize) {
        let Some((dead, in_hand)) = self.take_away(who) else { return };
        let held = in_hand.len() as u64;
        self.returned.extend(in_hand.into_iter().map(|(delivery, message)| (delivery.position, message)));
        let recovered = self.engine.recover(dead).expect("it was there");
        assert_eq!(recovered.returned, held);
        // A survivor that was killed before it finished: the next one finds nothing left to do, and does no harm.
        assert_eq!(self.engine.recover(dead).map(|r| (r.returned, r.was_open)), Some((0, false)));
        self.engine.finish_leave(dead);
        assert!(self.engine.recover(dead).is_none());
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Join(role) => self.join(role),
            Op::Send(who, len) => self.send(who, len),
            Op::SendRun(who, count) => self.send_run(who, count),
            Op::ReceiveRun(who, most) => self.receive_run(who, most),
            Op::Claim(who) => self.claim(who),
            Op::Receive(who) => self.receive(who),
            Op::Release(who, which) => self.release(who, which),
            Op::Leave(who) => self.leave(who),
            Op::Die(who) => self.die(who),
            Op::GiveBack => self.give_back(),
        }
    }

    /// Everybody dies; what was committed arrives at the next receiver, every block is free, the link can end.
    fn end(mut self) {
        while !self.senders.is_empty() || !self.receivers.is_empty() {
            self.die(0);
        }
        self.join(Role::Receiver);
        while !self.queue.is_empty() || !self.returned.is_empty() {
            let left = self.queue.len() + self.returned.len();
            self.receive(0);
            self.release(0, 0);
            assert_eq!(self.queue.len() + self.returned.len(), left - 1);
        }
        assert_eq!(self.engine.pool_use().used, 0, "a block leaked");
        assert!(!self.engine.try_remove(), "somebody is there");
        self.leave(0);
        assert!(self.engine.try_remove());
        assert!(
            self.engine.join(Participant::new(0), Role::Sender, Identity { pid: 1, namespace: 1, now_ns: 1 }).is_err()
        );
    }
}

/// Where the ring begins: after the participants, from a page boundary.
fn engine_offset(layout: &Layout) -> u64 {
    (CONTROL_BYTES + layout.geometry().participants as usize * ENTRY_BYTES).next_multiple_of(PAGE) as u64
}

fn read(engine: &Engine, delivery: &Delivery) -> Vec<u8> {
    let bytes = engine.memory().bytes(delivery.offset, delivery.len());
    // SAFETY: a range of the region, which nobody writes to while this test reads it: it has one thread.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr(), delivery.len()) }.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_a_queue_that_survives_deaths(ops in prop::collection::vec(op(), 1..120), capacity in prop::sample::select(&CAPACITIES)) {
        let mut world = World::new(Full::Block, capacity);
        world.join(Role::Sender);
        world.join(Role::Receiver);
        for op in ops {
            world.apply(op);
            world.look();
        }
        world.end();
    }
}

/// A sender that was killed between its claim and the tail leaves the tail behind the head. Whoever sends next looks at slots from there on: so far memory stays.
#[test]
fn memory_behind_a_tail_that_lags_is_kept() {
    const TAIL: u64 = 2 * 128;
    for (capacity, extent) in CAPACITIES.into_iter().filter(|(_, extent)| *extent != 0) {
        let mut world = World::new(Full::Block, (capacity, extent));
        (0..2).for_each(|_| world.join(Role::Sender));
        (0..2).for_each(|_| world.join(Role::Receiver));
        for turn in 0..extent as usize {
            world.send(turn, 8);
            world.receive(turn);
            world.release(turn, 0);
        }
        assert_eq!(world.word_at(TAIL), u64::from(extent));
        world.fill(TAIL, 1, extent as u8 - 1);
        world.give_back();
        world.send(0, 8);
        world.receive(0);
        world.release(0, 0);
        world.give_back();
        assert_eq!(world.engine.ring_to_punch(), None);
        (0..2).for_each(|who| world.send(who, 8));
        (0..2).for_each(|who| world.receive(who));
    }
}

/// Whatever a peer writes into the words of the window that has memory, whoever looks after it neither panics nor leaves the ring.
#[test]
fn any_window_of_memory_is_survived() {
    const WORDS: [u64; 5] = [2 * 128, 3 * 128, 8 * 128, 8 * 128 + 8, 8 * 128 + 16]; // tail, head, grown, floor, punched
    let (capacity, extent) = *CAPACITIES.iter().find(|(_, extent)| *extent != 0).unwrap();
    let far = u64::MAX - u64::from(extent) + 1;
    let values = [0, u64::from(extent), 1 << 63, far - u64::from(extent), far, u64::MAX];
    for turn in 0..values.len().pow(WORDS.len() as u32) {
        let mut world = World::new(Full::Block, (capacity, extent));
        [Role::Sender, Role::Receiver].into_iter().for_each(|role| world.join(role));
        for (index, at) in WORDS.into_iter().enumerate() {
            world.write(at, values[turn / values.len().pow(index as u32) % values.len()]);
        }
        let ring = world.engine.layout().control_bytes() as u64;
        let inside = |span: &Span| assert!(span.offset < ring && span.len <= ring - span.offset, "{span:?}");
        world.engine.ring_to_punch().iter().for_each(inside);
        if let (Some(way), Some(receiver)) = (world.engine.in_the_way(), world.receivers.first()) {
            let _ = world.engine.is_in_the_way(receiver.me, way);
        }
        if let Growth::By(span) = world.engine.ring_growth() {
            inside(&span);
            world.engine.ring_grown(&span);
        }
        let _ = (world.engine.ring_may_shrink(), world.len());
        let _ = (
            world.engine.try_push(&world.senders[0].producer, 0, b"x"),
            world.engine.try_pop(&world.receivers[0].consumer),
        );
    }
}

/// Whoever is killed in the middle of getting memory, or of giving it back: the next holder of the lock knows what to do about it.
#[test]
fn what_was_under_way_is_found() {
    let mut world = World::new(Full::Block, *CAPACITIES.iter().find(|(_, extent)| *extent != 0).unwrap());
    [Role::Sender, Role::Receiver].into_iter().for_each(|role| world.join(role));
    let engine = &world.engine;
    let Growth::By(span) = engine.ring_growth() else { panic!("it can grow") };
    assert_eq!(engine.cut_short(), None);
    engine.ring_under_way();
    assert_eq!(engine.cut_short(), Some(CutShort::Unused(span.offset, span.len)));
    world.fill(span.offset, span.len, 0);
    engine.ring_grown(&span);
    assert_eq!(engine.cut_short(), None);
    for len in [MAX, 200] {
        let extent = engine.extent_to_commit(len).unwrap();
        engine.extent_under_way(&extent);
        let unused = Some(CutShort::Unused(extent.offset, extent.len));
        assert_eq!(engine.cut_short(), unused);
        engine.extent_ready(&extent);
        assert_eq!(engine.cut_short(), None);
        // Killed when all blocks can be used, but that is not crossed out yet.
        engine.extent_under_way(&extent);
        assert_eq!(engine.cut_short(), Some(CutShort::InUse(extent)));
        engine.extent_ready(&extent);
        engine.retire_unused(0, |gone| {
            assert_eq!((*gone, engine.cut_short()), (extent, unused));
            false // cannot be given back now
        });
        assert_eq!(engine.cut_short(), unused);
        engine.crossed_out();
        engine.retire_unused(0, |_| panic!("it is out of use"));
        assert_eq!(engine.extent_to_commit(len), Some(extent));
    }
}

/// Whatever a peer writes there, nothing outside of the ring and the blocks is given back, and nobody panics.
#[test]
fn any_word_of_what_is_under_way_is_survived() {
    const UNDER_WAY: u64 = 8 * 128 + 32;
    for geometry in CAPACITIES {
        let world = World::new(Full::Block, geometry);
        let from = engine_offset(world.engine.layout());
        let words = (0..1 << 16).chain((0..64).map(|bit| u64::MAX << bit)).chain((0..64).map(|bit| 1 << bit | 1));
        for word in words {
            world.write(UNDER_WAY, word);
            match world.engine.cut_short() {
                Some(CutShort::Unused(offset, len)) => {
                    assert!(offset >= from && offset + len <= world.engine.layout().total_bytes() as u64, "{word:#x}");
                }
                Some(CutShort::InUse(extent)) => world.engine.extent_ready(&extent),
                None => {}
            }
        }
    }
}

/// The dead one may have had the side while another was at work on it, and not known it yet.
#[test]
fn a_dead_owners_side_is_shared_by_those_who_are_there() {
    let mut world = World::new(Full::Block, CAPACITIES[1]);
    world.join(Role::Sender);
    (0..3).for_each(|_| world.join(Role::Receiver));
    (0..3).for_each(|_| world.send(0, 8));
    let take = |world: &World, who: usize| loop {
        match world.engine.try_pop(&world.receivers[who].consumer) {
            Err(PopError::Busy) => {}
            taken => break taken.unwrap(),
        }
    };
    let first = take(&world, 0);
    world.engine.release(&world.receivers[0].consumer, &first);
    let dead = world.receivers.remove(0).me;
    world.engine.recover(dead).unwrap();
    world.engine.finish_leave(dead);
    let held = take(&world, 0);
    assert!(!held.is_plain(), "its slot names its holder");
    world.engine.release(&world.receivers[0].consumer, &held);
    let other = world.receivers.remove(1).me;
    world.engine.recover(other).unwrap();
    world.engine.finish_leave(other);
    assert!(take(&world, 0).is_plain(), "who is alone has the side for itself");
}

#[test]
fn drops_are_counted_exactly() {
    let (capacity, _) = CAPACITIES[0];
    let mut world = World::new(Full::DropOldest, CAPACITIES[0]);
    world.join(Role::Sender);
    world.join(Role::Receiver);
    let sender = &world.senders[0].producer;
    for value in 0..10u64 {
        while let Err(e) = world.engine.try_push(sender, 0, &value.to_le_bytes()) {
            match e {
                PushError::Full => assert!(world.engine.make_room(sender).unwrap()),
                PushError::Busy => {}
                e => panic!("{e:?}"),
            }
        }
    }
    assert_eq!(world.engine.dropped(), 10 - capacity);
    let receiver = &world.receivers[0].consumer;
    let mut delivery = loop {
        match world.engine.try_pop(receiver) {
            Ok(delivery) => break delivery,
            Err(e) => assert_eq!(e, PopError::Busy),
        }
    };
    assert_eq!(read(&world.engine, &delivery), (10 - capacity).to_le_bytes());
    // Detached, its place is free; if its holder dies now, the message is lost, and counted.
    world.engine.detach(receiver, &mut delivery);
    let me = world.receivers.remove(0).me;
    assert_eq!(world.engine.recover(me).unwrap().returned, 0);
    assert_eq!(world.engine.dropped(), 10 - capacity + 1);
    world.engine.recover(me);
    assert_eq!(world.engine.dropped(), 10 - capacity + 1);
}
