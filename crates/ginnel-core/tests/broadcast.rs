//! A broadcast against an obvious oracle: the list of everything that was sent, and for each listener where it is in that. Random operations
//! of several participants, one at a time, deaths included.
//!
//! Interleavings within an operation are loom's business, kills within an operation the crash harness's.
#![allow(unsafe_code)] // Makes a region of a vector that outlives the engine.
#![cfg(not(loom))]

use ginnel_core::{
    Delivery, Engine, Full, Geometry, Identity, Layout, Listener, Memory, Participant, ParticipantState, PopError,
    Producer, PushError, Role, Shape, Start,
};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::ptr::NonNull;

const CAPACITIES: [u64; 3] = [1, 4, 32];
const PARTICIPANTS: u32 = 6;
const MAX: usize = 2000;

#[derive(Clone, Debug)]
enum Op {
    JoinSender,
    /// With so many messages that were there before.
    JoinReceiver(u64),
    Send(usize, usize),
    SendRun(usize, usize),
    /// Claims a block and holds it.
    Claim(usize),
    Hear(usize),
    /// Releases one of the messages in hand.
    Release(usize, usize),
    Leave(usize),
    Die(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0..=112usize, 3 => 113..=MAX, 1 => Just(MAX + 1)];
    prop_oneof![
        1 => Just(Op::JoinSender),
        2 => (0..40u64).prop_map(Op::JoinReceiver),
        9 => (0..8usize, len).prop_map(|(who, len)| Op::Send(who, len)),
        3 => (0..8usize, 1..6usize).prop_map(|(who, count)| Op::SendRun(who, count)),
        1 => (0..8usize).prop_map(Op::Claim),
        12 => (0..8usize).prop_map(Op::Hear),
        8 => (0..8usize, 0..4usize).prop_map(|(who, which)| Op::Release(who, which)),
        1 => (0..8usize).prop_map(Op::Leave),
        2 => (0..8usize).prop_map(Op::Die),
    ]
}

struct Sender {
    producer: Producer,
    me: Participant,
}

struct Receiver {
    listener: Listener,
    me: Participant,
    /// Position of the next message, as the oracle has it.
    next: u64,
    in_hand: VecDeque<Delivery>,
}

impl Receiver {
    /// The oldest message that is kept for it.
    fn cursor(&self) -> u64 {
        self.in_hand.front().map_or(self.next, |delivery| delivery.position)
    }
}

struct World {
    engine: Engine,
    _region: Vec<u128>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    /// Every message that was ever sent, by position.
    sent: Vec<Vec<u8>>,
}

impl World {
    fn new(full: Full, capacity: u64) -> Self {
        let shape = Shape::Broadcast;
        let geometry = Geometry {
            shape,
            capacity,
            max: MAX as u64,
            memory: 64 << 10,
            participants: PARTICIPANTS,
            full,
            ..Geometry::default()
        };
        let layout = Layout::new(geometry).unwrap();
        let mut region = vec![0u128; layout.total_bytes() / 16];
        let base = NonNull::new(region.as_mut_ptr()).unwrap().cast();
        // SAFETY: the vector is kept beside the engine, and nothing else refers to its elements.
        let memory = unsafe { Memory::new(base, layout.total_bytes()) };
        let engine = Engine::new(memory, layout, true, || ());
        Self { engine, _region: region, senders: Vec::new(), receivers: Vec::new(), sent: Vec::new() }
    }

    fn capacity(&self) -> u64 {
        self.engine.layout().geometry().capacity
    }

    fn waits(&self) -> bool {
        matches!(self.engine.layout().geometry().full, Full::Block | Full::Reject)
    }

    fn tail(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The slowest receiver.
    fn lowest(&self) -> u64 {
        self.receivers.iter().map(Receiver::cursor).min().unwrap_or(self.tail())
    }

    fn place(&self, role: Role) -> Option<Participant> {
        let me = self.engine.participants().find(|p| self.engine.state(*p) == ParticipantState::Free)?;
        self.engine.join(me, role, Identity { pid: 1, namespace: 1, now_ns: 1 }).unwrap();
        Some(me)
    }

    fn join_sender(&mut self) {
        let Some(me) = self.place(Role::Sender) else { return };
        self.senders.push(Sender { producer: Producer::new(me), me });
    }

    /// It gets as many as it asked for, or as are there: never less than a ring without its batch, unless blocks ran out.
    fn join_receiver(&mut self, history: u64) {
        let Some(me) = self.place(Role::Receiver) else { return };
        let listener = self.engine.listen(me, Start::Newest(history)).unwrap();
        let (next, tail) = (listener.next(), self.tail());
        assert!(next <= tail && tail - next <= history.min(self.capacity()));
        let kept = self.capacity() - (self.capacity() / 8).max(1);
        let had_blocks = self.sent.iter().any(|message| message.len() > 112);
        assert!(had_blocks || tail - next >= history.min(kept).min(tail), "history was lost");
        self.receivers.push(Receiver { listener, me, next, in_hand: VecDeque::new() });
    }

    fn look(&self) {
        let capacity = self.capacity();
        if self.waits() {
            assert_eq!(self.engine.len(), self.tail() - self.lowest());
            assert_eq!(self.engine.is_full(), self.tail() - self.lowest() == capacity && capacity > 0);
        } else {
            assert!(self.engine.len() <= capacity && !self.engine.is_full());
        }
        assert_eq!(self.engine.positions().1, self.tail());
    }

    fn send(&mut self, who: usize, len: usize) {
        let count = self.senders.len();
        let Some(sender) = self.senders.get(who % count.max(1)) else { return };
        let message = stamped(self.tail(), len);
        let mut tries = 0;
        let result = loop {
            match self.engine.try_push(&sender.producer, 7, &message) {
                Err(PushError::Busy) if tries < 200 => tries += 1,
                Err(PushError::NoBlock) if tries < 200 => {
                    tries += 1;
                    if let Some(extent) = self.engine.extent_to_commit(len) {
                        self.engine.extent_ready(&extent);
                    } else if self.engine.extent_to_release(len).is_none()
                        && !self.engine.let_go_of_a_block(&sender.producer, len).unwrap()
                    {
                        break Err(PushError::NoBlock);
                    }
                }
                other => break other,
            }
        };
        match result {
            Ok(()) => self.sent.push(message),
            Err(PushError::TooLarge) => assert!(len > MAX),
            Err(PushError::Full) => assert!(self.waits() && self.tail() - self.lowest() == self.capacity()),
            // Blocks are claimed and held, or kept for the slowest.
            Err(PushError::NoBlock) => assert!(len > 112),
            Err(e) => panic!("{e:?}"),
        }
    }

    fn send_run(&mut self, who: usize, count: usize) {
        let senders = self.senders.len();
        let Some(sender) = self.senders.get(who % senders.max(1)) else { return };
        let messages: Vec<Vec<u8>> = (0..count).map(|i| stamped(self.tail() + i as u64, 8 * i)).collect();
        let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let done = self.engine.try_push_run(&sender.producer, 7, &slices);
        assert!(done <= count);
        self.sent.extend(messages.into_iter().take(done));
        assert!(!self.waits() || self.tail() - self.lowest() <= self.capacity(), "a slot was written that is in use");
    }

    fn claim(&mut self, who: usize) {
        let count = self.senders.len();
        let Some(sender) = self.senders.get(who % count.max(1)) else { return };
        let _ = self.engine.claim(&sender.producer, 300); // held until its owner dies or leaves
    }

    /// The next one, or as many fewer as it says.
    fn hear(&mut self, who: usize) {
        let (count, waits, tail) = (self.receivers.len(), self.waits(), self.tail());
        let Some(receiver) = self.receivers.get_mut(who % count.max(1)) else { return };
        let mut bytes = Vec::new();
        let heard = self.engine.try_hear(&receiver.listener).and_then(|delivery| {
            if !waits {
                bytes = vec![0; delivery.len()];
                self.engine.copy_heard(&receiver.listener, &delivery, &mut bytes)?;
            }
            Ok(delivery)
        });
        match heard {
            Ok(delivery) => {
                assert_eq!((delivery.position, delivery.tag(), delivery.redelivered()), (receiver.next, 7, false));
                let expected = &self.sent[receiver.next as usize];
                if waits {
                    assert_eq!(&read(&self.engine, &delivery), expected);
                    receiver.in_hand.push_back(delivery);
                } else {
                    assert_eq!(&bytes, expected);
                }
                receiver.next += 1;
            }
            Err(PopError::Empty) => assert_eq!(receiver.next, tail),
            Err(PopError::Lapped(missed)) => {
                assert!(!waits && missed > 0);
                receiver.next += missed;
                assert!(receiver.next <= tail);
            }
            Err(e) => panic!("{e:?}"),
        }
        assert_eq!(receiver.listener.next(), receiver.next);
    }

    fn release(&mut self, who: usize, which: usize) {
        let count = self.receivers.len();
        let Some(receiver) = self.receivers.get_mut(who % count.max(1)) else { return };
        if receiver.in_hand.is_empty() {
            return;
        }
        let delivery = receiver.in_hand.remove(which % receiver.in_hand.len()).unwrap();
        assert_eq!(
            read(&self.engine, &delivery),
            self.sent[delivery.position as usize],
            "changed while it was in hand"
        );
        self.engine.heard_until(&receiver.listener, receiver.cursor());
    }

    fn take_away(&mut self, who: usize) -> Option<Participant> {
        let count = self.senders.len() + self.receivers.len();
        let who = who % count.max(1);
        if who < self.senders.len() {
            return Some(self.senders.remove(who).me);
        }
        let who = who - self.senders.len();
        (who < self.receivers.len()).then(|| self.receivers.remove(who).me)
    }

    fn leave(&mut self, who: usize) {
        let Some(me) = self.take_away(who) else { return };
        self.engine.recover_self(me); // loans were forgotten, perhaps
        self.engine.begin_leave(me);
        self.engine.finish_leave(me);
        assert_eq!(self.engine.behind(me), None);
    }

    fn die(&mut self, who: usize) {
        let Some(dead) = self.take_away(who) else { return };
        let recovered = self.engine.recover(dead).expect("it was there");
        assert_eq!((recovered.returned, self.engine.behind(dead)), (0, None));
        assert_eq!(self.engine.recover(dead).map(|r| r.was_open), Some(false));
        self.engine.finish_leave(dead);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::JoinSender => self.join_sender(),
            Op::JoinReceiver(history) => self.join_receiver(history),
            Op::Send(who, len) => self.send(who, len),
            Op::SendRun(who, count) => self.send_run(who, count),
            Op::Claim(who) => self.claim(who),
            Op::Hear(who) => self.hear(who),
            Op::Release(who, which) => self.release(who, which),
            Op::Leave(who) => self.leave(who),
            Op::Die(who) => self.die(who),
        }
    }

    /// Whoever is left gets everything that it is owed; then all die, and the link can end. No block is in use that no slot refers to.
    fn end(mut self) {
        for who in 0..self.receivers.len() {
            for _ in 0..3 * self.capacity() {
                self.hear(who);
            }
            assert_eq!(self.receivers[who].next, self.tail());
        }
        while !self.senders.is_empty() || !self.receivers.is_empty() {
            self.die(0);
        }
        assert_eq!(self.engine.len(), 0);
        // As many messages as the ring has slots take every block out of it.
        self.join_sender();
        (0..2 * self.capacity()).for_each(|_| self.send(0, 8));
        assert_eq!(self.engine.pool_use().used, 0, "a block leaked");
        self.die(0);
        assert!(self.engine.try_remove());
    }
}

fn stamped(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number.wrapping_mul(31) + at as u64) as u8).collect()
}

fn read(engine: &Engine, delivery: &Delivery) -> Vec<u8> {
    let bytes = engine.memory().bytes(delivery.offset, delivery.len());
    // SAFETY: a range of the region, which nobody writes to while this test reads it: it has one thread.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr(), delivery.len()) }.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_receiver_gets_everything_or_the_number_that_it_missed(
        ops in prop::collection::vec(op(), 1..150),
        capacity in prop::sample::select(&CAPACITIES),
        full in prop::sample::select(&[Full::Block, Full::Reject, Full::DropOldest, Full::CutOff]),
    ) {
        let mut world = World::new(full, capacity);
        world.join_sender();
        world.join_receiver(0);
        for op in ops {
            world.apply(op);
            world.look();
        }
        world.end();
    }
}

#[test]
fn a_thousand_listeners_hold_a_sender_back_only_by_the_slowest() {
    let geometry = Geometry {
        shape: Shape::Broadcast,
        capacity: 8,
        max: 64,
        memory: 0,
        participants: 1100,
        ..Geometry::default()
    };
    let layout = Layout::new(geometry).unwrap();
    let mut region = vec![0u128; layout.total_bytes() / 16];
    let base = NonNull::new(region.as_mut_ptr()).unwrap().cast();
    // SAFETY: the vector outlives the engine, and nothing else refers to its elements.
    let engine = Engine::new(unsafe { Memory::new(base, layout.total_bytes()) }, layout, true, || ());
    let identity = Identity { pid: 1, namespace: 1, now_ns: 1 };
    let listeners: Vec<Listener> = (1..1001)
        .map(|number| {
            engine.join(Participant::new(number), Role::Receiver, identity).unwrap();
            engine.listen(Participant::new(number), Start::Newest(0)).unwrap()
        })
        .collect();
    engine.join(Participant::new(0), Role::Sender, identity).unwrap();
    let producer = Producer::new(Participant::new(0));
    let push = |value: u64| engine.try_push(&producer, 0, &value.to_le_bytes());
    while push(0) == Err(PushError::Busy) {}
    (1..8).for_each(|value| push(value).unwrap());
    let mut seen = BTreeSet::new();
    for listener in &listeners {
        assert_eq!(push(8), Err(PushError::Full));
        let delivery = engine.try_hear(listener).unwrap();
        seen.insert(delivery.offset);
        engine.heard_until(listener, delivery.position + 1);
    }
    assert_eq!(seen.len(), 1, "all read it in its place");
    assert_eq!((push(8), push(9)), (Ok(()), Err(PushError::Full)));
    assert_eq!((engine.len(), engine.behind(Participant::new(1))), (8, Some(8)));
}
