//! The ring, its sides and its event counts under loom: every interleaving up to a bound of preemptions, with the reorderings
//! that the memory model allows. Run with `RUSTFLAGS="--cfg loom"`; without it there is nothing here.
//!
//! A fence of loom stands for `membarrier`, on both sides. Deaths are not modelled here; `model.rs` and the crash harness of
//! the `ginnel` crate have them.
#![cfg(loom)]

use ginnel_core::{
    Cell, Consumer, Engine, Full, Geometry, Growth, Identity, Known, Layout, Listener, Look, Memory, Participant,
    PopError, Producer, PushError, Role, Shape, Start,
};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use std::mem::MaybeUninit;

/// Bounded by `LOOM_MAX_PREEMPTIONS`, 2 if it is not set.
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(0, model);
}

/// With so many preemptions more.
fn check_with(more: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 50_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(2)).map(|bound| bound + more);
    builder.check(model);
}

fn heavy() {
    fence(Ordering::SeqCst);
}

fn engine(capacity: u64, participants: u32) -> Arc<Engine> {
    engine_if(true, capacity, participants)
}

/// Without a heavy fence that reaches every core, no side is ever exclusive.
fn engine_if(asymmetric: bool, capacity: u64, participants: u32) -> Arc<Engine> {
    let geometry = Geometry { capacity, max: 112, memory: 0, participants, ..Geometry::default() };
    let layout = Layout::new(geometry).unwrap();
    Arc::new(Engine::new(Memory::new(&layout), layout, asymmetric, heavy))
}

fn join(engine: &Engine, number: u32, role: Role) -> Participant {
    let me = Participant::new(number);
    engine.join(me, role, Identity { pid: 0, namespace: 0, now_ns: 0 }).unwrap();
    me
}

fn send(engine: &Engine, producer: &Producer, value: u64) {
    for turn in 0.. {
        // As a sender does: the common case first.
        if engine.try_push_fast(producer, 0, &value.to_le_bytes()) {
            return;
        }
        match engine.try_push(producer, 0, &value.to_le_bytes()) {
            Ok(()) => return,
            // At once at first: to yield would let the other finish what this one must not disturb.
            Err(PushError::Full | PushError::Busy) if turn < 3 => {}
            Err(PushError::Full | PushError::Busy) => thread::yield_now(),
            Err(e) => panic!("{e:?}"),
        }
    }
}

fn try_take(engine: &Engine, consumer: &Consumer) -> Option<u64> {
    let popped = engine.try_pop_fast(consumer, false).map_or_else(|| engine.try_pop(consumer), |(taken, _)| Ok(taken));
    match popped {
        Ok(delivery) => {
            let value = engine.memory().first_word(delivery.offset);
            engine.release(consumer, &delivery);
            Some(value)
        }
        Err(PopError::Empty | PopError::Busy) => None,
        Err(e) => panic!("{e:?}"),
    }
}

fn take(engine: &Engine, consumer: &Consumer) -> u64 {
    for turn in 0.. {
        if let Some(value) = try_take(engine, consumer) {
            return value;
        }
        if turn >= 3 {
            thread::yield_now();
        }
    }
    unreachable!()
}

#[test]
fn one_sender_one_receiver_over_the_wrap() {
    // The first release is by the slot's word; a slot that was released by position is the fourth one's.
    over_the_wrap(true, 4);
}

#[test]
fn one_sender_one_receiver_on_shared_sides() {
    over_the_wrap(false, 3);
}

fn over_the_wrap(asymmetric: bool, messages: u64) {
    check(move || {
        let engine = engine_if(asymmetric, 2, 2);
        let sender = {
            let engine = engine.clone();
            let me = join(&engine, 0, Role::Sender);
            thread::spawn(move || {
                let producer = Producer::new(me);
                (1..=messages).for_each(|value| send(&engine, &producer, value));
            })
        };
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        for value in 1..=messages {
            assert_eq!(take(&engine, &consumer), value);
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_second_sender_revokes_the_first() {
    check(|| {
        let engine = engine(4, 3);
        let first = Producer::new(join(&engine, 0, Role::Sender));
        send(&engine, &first, 1);
        let second = {
            let engine = engine.clone();
            let me = join(&engine, 1, Role::Sender);
            thread::spawn(move || send(&engine, &Producer::new(me), 10))
        };
        send(&engine, &first, 2);
        second.join().unwrap();
        let consumer = Consumer::new(join(&engine, 2, Role::Receiver));
        let mut got: Vec<u64> = (0..3).map(|_| take(&engine, &consumer)).collect();
        assert_eq!(got.iter().filter(|v| **v < 10).copied().collect::<Vec<_>>(), [1, 2]);
        got.sort_unstable();
        assert_eq!(got, [1, 2, 10]);
    });
}

#[test]
fn a_second_sender_revokes_the_first_in_a_run() {
    check(|| {
        let engine = engine(4, 3);
        let first = Producer::new(join(&engine, 0, Role::Sender));
        send(&engine, &first, 1);
        let second = {
            let engine = engine.clone();
            let me = join(&engine, 1, Role::Sender);
            thread::spawn(move || send(&engine, &Producer::new(me), 10))
        };
        let (two, three) = (2u64.to_le_bytes(), 3u64.to_le_bytes());
        let done = engine.try_push_run(&first, 0, &[&two, &three]);
        (2 + done as u64..=3).for_each(|value| send(&engine, &first, value));
        second.join().unwrap();
        let consumer = Consumer::new(join(&engine, 2, Role::Receiver));
        let got: Vec<u64> = (0..4).map(|_| take(&engine, &consumer)).collect();
        assert_eq!(got.iter().filter(|v| **v < 10).copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(got.iter().filter(|v| **v == 10).count(), 1);
    });
}

#[test]
fn a_second_receiver_revokes_the_first_while_it_holds_a_message() {
    check(|| {
        let engine = engine(2, 3);
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let first = Consumer::new(join(&engine, 1, Role::Receiver));
        send(&engine, &producer, 1);
        send(&engine, &producer, 2);
        let held = engine.try_pop(&first).unwrap();
        let second = {
            let engine = engine.clone();
            let me = join(&engine, 2, Role::Receiver);
            thread::spawn(move || take(&engine, &Consumer::new(me)))
        };
        assert_eq!(engine.memory().first_word(held.offset), 1);
        engine.release(&first, &held);
        assert_eq!(second.join().unwrap(), 2);
        // Both places are free again, however they were released.
        send(&engine, &producer, 3);
        send(&engine, &producer, 4);
        assert_eq!(engine.try_push(&producer, 0, &[0; 8]), Err(PushError::Full));
        assert_eq!((take(&engine, &first), take(&engine, &first)), (3, 4));
    });
}

/// A release does not ask whether the side is still exclusive: the revoker may mark the slot after it was released.
#[test]
fn what_was_released_while_the_side_was_revoked_does_not_go_back_after_a_death() {
    check(|| {
        let engine = engine(2, 3);
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let first = Consumer::new(join(&engine, 1, Role::Receiver));
        // Once, so that the next release is of the common kind.
        send(&engine, &producer, 0);
        assert_eq!(take(&engine, &first), 0);
        send(&engine, &producer, 1);
        send(&engine, &producer, 2);
        let held = engine.try_pop(&first).unwrap();
        let second = {
            let engine = engine.clone();
            let me = join(&engine, 2, Role::Receiver);
            thread::spawn(move || take(&engine, &Consumer::new(me)))
        };
        engine.release(&first, &held);
        assert_eq!(second.join().unwrap(), 2);
        let recovered = engine.recover(Participant::new(1)).unwrap();
        assert_eq!(recovered.returned, 0);
        send(&engine, &producer, 3);
        send(&engine, &producer, 4);
        assert_eq!(engine.try_push(&producer, 0, &[0; 8]), Err(PushError::Full));
    });
}

#[test]
fn two_receivers_share_without_loss() {
    check(|| {
        let engine = engine(2, 3);
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        send(&engine, &producer, 1);
        send(&engine, &producer, 2);
        let takers: Vec<_> = [1, 2]
            .into_iter()
            .map(|number| {
                let engine = engine.clone();
                let me = join(&engine, number, Role::Receiver);
                thread::spawn(move || take(&engine, &Consumer::new(me)))
            })
            .collect();
        let sum: u64 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(sum, 3);
    });
}

/// An unbounded link; extents of two slots.
fn unbounded(capacity: u64, participants: u32) -> Arc<Engine> {
    let geometry = Geometry { capacity, extent: 2, max: 112, memory: 4096, participants, ..Geometry::default() };
    let layout = Layout::new(geometry).unwrap();
    let engine = Engine::new(Memory::new(&layout), layout, true, heavy);
    engine.memory().fill(engine.layout().control_bytes() as u64 - 4096 + 256, (capacity - 2) * 128, PUNCHED);
    Arc::new(engine)
}

/// What no run of the protocol leads to: who looks at such a slot says that the link is corrupt.
const PUNCHED: u64 = u64::MAX;

/// As the holder of the grow lock does it.
fn grow(engine: &Engine) -> bool {
    let Growth::By(span) = engine.ring_growth() else { return false };
    engine.memory().fill(span.offset, span.len, 0);
    engine.ring_grown(&span);
    true
}

fn give_back(engine: &Engine, word: u64) -> bool {
    let Some(span) = engine.ring_to_punch() else { return false };
    engine.memory().fill(span.offset, span.len, word);
    engine.ring_punched(&span);
    true
}

/// A sender that loaded the tail long ago must not find that its slot is a hole.
#[test]
fn nothing_is_given_back_that_a_sender_looks_at() {
    check(|| {
        let engine = unbounded(8, 3);
        while engine.grown() < 8 {
            assert!(grow(&engine));
        }
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        let second = Producer::new(join(&engine, 2, Role::Sender));
        send(&engine, &producer, 0);
        send(&engine, &second, 1); // from now on the side is shared
        send(&engine, &producer, 2);
        (0..3).for_each(|value| assert_eq!(take(&engine, &consumer), value));
        let sender = {
            let engine = engine.clone();
            thread::spawn(move || send(&engine, &second, 10))
        };
        send(&engine, &producer, 20);
        let mut got = vec![take(&engine, &consumer)];
        give_back(&engine, 0); // a hole: that looks like a free slot, and a message in it would be lost
        sender.join().unwrap();
        got.push(take(&engine, &consumer));
        got.sort_unstable();
        assert_eq!(got, [10, 20]);
    });
}

/// The same for a receiver that loaded the head.
#[test]
fn nothing_is_given_back_that_a_receiver_looks_at() {
    check(|| {
        let engine = unbounded(8, 3);
        while engine.grown() < 8 {
            assert!(grow(&engine));
        }
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        let second = Consumer::new(join(&engine, 2, Role::Receiver));
        (0..6).for_each(|value| send(&engine, &producer, value));
        assert_eq!((take(&engine, &consumer), take(&engine, &second), take(&engine, &consumer)), (0, 1, 2));
        let receiver = {
            let engine = engine.clone();
            thread::spawn(move || take(&engine, &second))
        };
        let mut got = vec![take(&engine, &consumer)];
        give_back(&engine, PUNCHED);
        got.push(receiver.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [3, 4]);
    });
}

/// Who tries once to get its part of a side, and then never again, is in nobody's way.
#[test]
fn the_owner_of_a_side_goes_on_when_its_revoker_does_not() {
    check(|| {
        let engine = unbounded(8, 3);
        while engine.grown() < 8 {
            assert!(grow(&engine));
        }
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let second = Producer::new(join(&engine, 1, Role::Sender));
        send(&engine, &producer, 0);
        let revoker = {
            let engine = engine.clone();
            thread::spawn(move || _ = engine.try_push(&second, 0, &[1; 8]))
        };
        let _ = engine.try_push(&producer, 0, &[1; 8]);
        revoker.join().unwrap();
        assert!((0..4).any(|_| engine.try_push(&producer, 0, &[1; 8]).is_ok()));
    });
}

/// Slots of the next lap are reached only after their words were written.
#[test]
fn slots_are_ready_before_they_are_reached() {
    check(|| {
        let engine = unbounded(4, 3);
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        let second = Producer::new(join(&engine, 2, Role::Sender));
        for value in 0..3 {
            while engine.try_push(if value == 1 { &second } else { &producer }, 0, &[value; 8]).is_err() {
                grow(&engine);
            }
            assert_eq!(take(&engine, &consumer), u64::from_le_bytes([value; 8]));
        }
        assert!(give_back(&engine, PUNCHED));
        let sender = {
            let engine = engine.clone();
            // At position 3 the next slot has no memory yet.
            thread::spawn(move || (10..12).for_each(|value| send(&engine, &second, value)))
        };
        assert!(grow(&engine));
        assert_eq!((take(&engine, &consumer), take(&engine, &consumer)), (10, 11));
        sender.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost() {
    no_wake_up_is_lost_if(|engine| _ = engine.items().notify()); // it has changed the word
}

/// By a sender that has its side for itself.
#[test]
fn no_wake_up_is_lost_of_an_exclusive_side() {
    no_wake_up_is_lost_if(|engine| {
        if engine.items().is_announced_of_exclusive() {
            let _ = engine.items().take_down();
        }
    });
}

fn no_wake_up_is_lost_if(wake: fn(&Engine)) {
    check(move || {
        let engine = engine(2, 2);
        let sender = {
            let engine = engine.clone();
            let me = join(&engine, 0, Role::Sender);
            thread::spawn(move || {
                send(&engine, &Producer::new(me), 7);
                wake(&engine);
            })
        };
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        let event = engine.items();
        loop {
            let waiting = event.arm();
            let found = try_take(&engine, &consumer);
            if let Some(value) = found {
                assert_eq!(value, 7);
                event.disarm(waiting);
                break;
            }
            // The futex: asleep while the word has this value. A lost wake-up never leaves this loop, and loom says so.
            while event.futex_word().load(Ordering::SeqCst) == waiting.sequence {
                thread::yield_now();
            }
            event.disarm(waiting);
        }
        sender.join().unwrap();
    });
}

/// Who listens does not sleep on the word, but until somebody touches the link's file: here, until `touched` is not 0.
#[test]
fn who_listens_is_called() {
    use loom::sync::atomic::AtomicU64;
    check(|| {
        let engine = engine(2, 3);
        let touched = Arc::new(AtomicU64::new(0));
        let sender = {
            let (engine, touched) = (engine.clone(), touched.clone());
            let me = join(&engine, 0, Role::Sender);
            thread::spawn(move || {
                send(&engine, &Producer::new(me), 7);
                if engine.items().notify().is_some_and(|called| called.listeners) {
                    touched.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        let event = engine.items();
        loop {
            event.listen();
            if let Some(value) = try_take(&engine, &consumer) {
                assert_eq!(value, 7);
                break;
            }
            // A lost call never leaves this loop, and loom says so.
            while touched.swap(0, Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        }
        sender.join().unwrap();
    });
}

/// A sleeper that withdraws does not take the announcement of one who listens with it.
#[test]
fn who_listens_is_called_though_a_sleeper_withdraws() {
    use loom::sync::atomic::AtomicU64;
    check(|| {
        let engine = engine(2, 2);
        let touched = Arc::new(AtomicU64::new(0));
        let sleeper = {
            let engine = engine.clone();
            thread::spawn(move || {
                let event = engine.items();
                let waiting = event.arm();
                event.disarm(waiting);
            })
        };
        let sender = {
            let (engine, touched) = (engine.clone(), touched.clone());
            let me = join(&engine, 0, Role::Sender);
            thread::spawn(move || {
                send(&engine, &Producer::new(me), 7);
                if engine.items().notify().is_some_and(|called| called.listeners) {
                    touched.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let consumer = Consumer::new(join(&engine, 1, Role::Receiver));
        engine.items().listen();
        if try_take(&engine, &consumer).is_none() {
            while touched.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        }
        sleeper.join().unwrap();
        sender.join().unwrap();
    });
}

// ---- broadcast

fn broadcast(capacity: u64, participants: u32, full: Full) -> Arc<Engine> {
    let shape = Shape::Broadcast;
    let geometry = Geometry { shape, capacity, max: 112, memory: 0, participants, full, ..Geometry::default() };
    let layout = Layout::new(geometry).unwrap();
    Arc::new(Engine::new(Memory::new(&layout), layout, true, heavy))
}

/// Takes everything that is there, in its place; each is read again before it is released.
fn hear_in_place(engine: &Engine, listener: &Listener) -> Vec<u64> {
    let mut heard = Vec::new();
    loop {
        match engine.try_hear(listener) {
            Ok(delivery) => {
                let value = engine.memory().first_word(delivery.offset);
                assert_eq!(value, delivery.position, "another message lies in its place");
                thread::yield_now();
                assert_eq!(engine.memory().first_word(delivery.offset), value, "it changed while it was in hand");
                engine.heard_until(listener, listener.next());
                heard.push(value);
            }
            Err(PopError::Empty | PopError::Busy) => return heard,
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// The senders count the newcomer, or it begins behind what they let go of.
#[test]
fn a_newcomer_is_counted_or_begins_later() {
    check(|| {
        let engine = broadcast(2, 2, Full::Reject);
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        (0..2).for_each(|value| send(&engine, &producer, value));
        let newcomer = {
            let engine = engine.clone();
            let me = join(&engine, 1, Role::Receiver);
            thread::spawn(move || {
                let listener = engine.listen(me, Start::Newest(2)).unwrap();
                hear_in_place(&engine, &listener)
            })
        };
        for value in 2..4u64 {
            if engine.try_push(&producer, 0, &value.to_le_bytes()) != Ok(()) {
                break;
            }
        }
        let heard = newcomer.join().unwrap();
        assert!(heard.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{heard:?}");
    });
}

/// Two producers let go at once, and a listener is in the middle.
#[test]
fn two_senders_let_go_of_what_one_listener_has_heard() {
    check(|| {
        let engine = broadcast(1, 3, Full::Reject);
        let listener = engine.listen(join(&engine, 2, Role::Receiver), Start::Newest(0)).unwrap();
        let (first, second) = (join(&engine, 0, Role::Sender), join(&engine, 1, Role::Sender));
        let second = {
            let engine = engine.clone();
            thread::spawn(move || {
                let producer = Producer::new(second);
                (0..3).any(|_| engine.try_push(&producer, 0, &7u64.to_le_bytes()) == Ok(()))
            })
        };
        let producer = Producer::new(first);
        let mine = (0..3).any(|_| engine.try_push(&producer, 0, &7u64.to_le_bytes()) == Ok(()));
        let heard = engine.try_hear(&listener);
        let value = heard.map(|delivery| engine.memory().first_word(delivery.offset));
        thread::yield_now();
        if let Ok(delivery) = heard {
            assert_eq!((Ok(7), delivery.position), (value, 0));
            engine.heard_until(&listener, 1);
        }
        let theirs = second.join().unwrap();
        assert!(mine || theirs || heard.is_err());
        // What was sent and not heard is there.
        let count = u64::from(mine) + u64::from(theirs);
        assert!(count == 2 || count <= 1, "{count}");
        assert_eq!(engine.positions(Participant::new(0)).1, count);
    });
}

/// A copy is whole, or worth nothing and counted.
#[test]
fn what_is_overwritten_while_it_is_copied_is_missed() {
    check(|| overwritten_while_it_is_copied(false));
    check(|| overwritten_while_it_is_copied(true));
}

/// `shared`: the one that lets go of the message is not the one that overwrites it.
fn overwritten_while_it_is_copied(shared: bool) {
    let engine = broadcast(2, 3, Full::DropOldest);
    let listener = engine.listen(join(&engine, 1, Role::Receiver), Start::Newest(0)).unwrap();
    let push = |producer: &Producer, engine: &Engine, value: u64| {
        let message = [value.to_le_bytes(), value.to_le_bytes()].concat();
        while engine.try_push(producer, 0, &message) != Ok(()) {
            thread::yield_now();
        }
    };
    let (first, second) = (Producer::new(join(&engine, 0, Role::Sender)), join(&engine, 2, Role::Sender));
    (0..2).for_each(|value| push(&first, &engine, value));
    let second = if shared {
        let second = Producer::new(second);
        push(&second, &engine, 2);
        second
    } else {
        push(&first, &engine, 2);
        first
    };
    let sender = {
        let engine = engine.clone();
        thread::spawn(move || (3..5).for_each(|value| push(&second, &engine, value)))
    };
    let (mut next, mut bytes) = (0u64, Vec::new());
    let mut look = |next: &mut u64| {
        let mut hear = || {
            let delivery = engine.try_hear(&listener)?;
            bytes.resize(delivery.len(), 0);
            engine.copy_heard(&listener, &delivery, &mut bytes)
        };
        match hear() {
            Ok(()) => {
                assert_eq!(bytes, [next.to_le_bytes(), next.to_le_bytes()].concat(), "torn");
                *next += 1;
            }
            Err(PopError::Lapped(missed)) => *next += missed,
            Err(PopError::Empty | PopError::Busy) => return false,
            Err(e) => panic!("{e:?}"),
        }
        true
    };
    for _ in 0..2 {
        look(&mut next);
    }
    sender.join().unwrap();
    while look(&mut next) {}
    assert_eq!(next, 5);
}

/// A sender that waits for the slowest is woken by it.
#[test]
fn no_wake_up_for_room_is_lost() {
    check(|| {
        let engine = broadcast(1, 2, Full::Block);
        let listener = engine.listen(join(&engine, 1, Role::Receiver), Start::Newest(0)).unwrap();
        let producer = Producer::new(join(&engine, 0, Role::Sender));
        send(&engine, &producer, 0);
        let receiver = {
            let engine = engine.clone();
            thread::spawn(move || {
                assert_eq!(hear_in_place(&engine, &listener).first(), Some(&0));
                let _ = engine.room().notify(); // it has changed the word
            })
        };
        let event = engine.room();
        loop {
            let waiting = event.arm();
            let sent = engine.try_push(&producer, 0, &1u64.to_le_bytes());
            if sent.is_ok() {
                event.disarm(waiting);
                break;
            }
            while event.futex_word().load(Ordering::SeqCst) == waiting.sequence {
                thread::yield_now();
            }
            event.disarm(waiting);
        }
        receiver.join().unwrap();
    });
}

// ---- the newest value (see `latest`)

/// A link of four cells, of which somebody holds as many as `held`: the fewer are left, the sooner one is written over.
fn latest(participants: u32, held: usize) -> Arc<Engine> {
    let geometry =
        Geometry { shape: Shape::Latest, capacity: 4, max: 16, memory: 0, participants, ..Geometry::default() };
    let layout = Layout::new(geometry).unwrap();
    let engine = Arc::new(Engine::new(Memory::new(&layout), layout, true, heavy));
    let holder = join(&engine, participants - 1, Role::Sender);
    (0..held).for_each(|_| drop(engine.claim_cell(holder, 16).unwrap()));
    engine
}

/// Both words of a value are its number.
fn publish(engine: &Engine, me: Participant, value: u64) -> u64 {
    let cell = claim(engine, me);
    let value = value.to_le_bytes();
    engine.write_cell(&cell, 0, &[value, value].concat());
    engine.publish_value(me, cell, 16).unwrap()
}

fn claim(engine: &Engine, me: Participant) -> Cell {
    loop {
        match engine.claim_cell(me, 16) {
            Ok(cell) => return cell,
            Err(PushError::Busy) => thread::yield_now(),
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// A copy, and whether it is whole.
#[allow(unsafe_code)] // Takes bytes for written that were.
fn copied(look: &Look<'_>) -> ([u8; 16], bool) {
    let mut copy = [MaybeUninit::uninit(); 16];
    let whole = look.copy_to(&mut copy);
    // SAFETY: all of it was written, whole or torn.
    (copy.map(|byte| unsafe { byte.assume_init() }), whole)
}

/// The number in both words of a whole value.
fn number(bytes: [u8; 16]) -> u64 {
    let [one, two]: [u64; 2] =
        std::array::from_fn(|at| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * at + byte])));
    assert_eq!(one, two, "a torn value");
    one
}

/// The newest value, whole, and its version; none if writers were faster.
fn newest(engine: &Engine, me: Participant) -> Option<(u64, u64)> {
    let mut bytes = [0; 16];
    let read = engine.read_newest(me, &mut |look| {
        let (copy, whole) = copied(look);
        bytes = copy;
        whole
    });
    match read {
        Ok((version, _)) => Some((number(bytes), version)),
        Err(PopError::Busy | PopError::Empty) => None,
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn a_value_is_whole_and_newest_while_it_is_replaced() {
    check(|| {
        let engine = latest(3, 2); // two cells in turn
        let me = join(&engine, 0, Role::Sender);
        publish(&engine, me, 1);
        let writer = {
            let engine = engine.clone();
            thread::spawn(move || (2..=3).for_each(|value| assert_eq!(publish(&engine, me, value), value)))
        };
        let reader = join(&engine, 1, Role::Receiver);
        let mut last = 1;
        for _ in 0..2 {
            if let Some((value, version)) = newest(&engine, reader) {
                assert_eq!(value, version);
                assert!(value >= last, "{value} after {last}");
                last = value;
            }
        }
        writer.join().unwrap();
        assert_eq!(newest(&engine, reader), Some((3, 3)));
    });
}

/// What is read again is whole and the same; and one that another thread has heard to be replaced is not read again.
#[test]
fn a_value_is_read_again_while_it_is_replaced() {
    check(|| {
        let engine = latest(3, 2); // two cells in turn
        let me = join(&engine, 0, Role::Sender);
        publish(&engine, me, 1);
        let reader = join(&engine, 1, Role::Receiver);
        let mut known = Known::NONE;
        assert!(engine.look_again(known).is_none());
        let read = engine.read_newest(reader, &mut |look| {
            known = look.known();
            copied(look).1
        });
        assert_eq!(read, Ok((1, 0)));
        let told = Arc::new(AtomicU64::new(1));
        let writer = {
            let (engine, told) = (engine.clone(), told.clone());
            thread::spawn(move || (2..=3).for_each(|value| told.store(publish(&engine, me, value), Ordering::Release)))
        };
        for _ in 0..2 {
            let least = told.load(Ordering::Acquire);
            if let Some(look) = engine.look_again(known) {
                assert_eq!((look.version(), least), (1, 1), "an old value passes for the newest");
                let (copy, whole) = copied(&look);
                assert!(!whole || number(copy) == 1, "another value");
            }
        }
        writer.join().unwrap();
        assert!(engine.look_again(known).is_none());
    });
}

#[test]
fn two_writers_get_versions_of_their_own() {
    check(|| {
        let engine = latest(4, 0);
        let writers: Vec<_> = [0, 1]
            .into_iter()
            .map(|number| {
                let engine = engine.clone();
                let me = join(&engine, number, Role::Sender);
                thread::spawn(move || publish(&engine, me, u64::from(number) + 10))
            })
            .collect();
        let reader = join(&engine, 2, Role::Receiver);
        let seen = newest(&engine, reader);
        let mut versions: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let second = if versions[0] == 2 { 10 } else { 11 };
        assert_eq!(newest(&engine, reader), Some((second, 2)));
        if let Some((value, version)) = seen {
            assert_eq!(versions[value as usize - 10], version);
        }
        versions.sort_unstable();
        assert_eq!(versions, [1, 2]);
    });
}

/// The second look of a read pins, in a model. Three preemptions: a writer between its look at the pins and its claim, a reader in its copy, the writer in its.
#[test]
fn a_pinned_value_is_not_written_over() {
    check_with(1, || {
        let engine = latest(3, 2); // two cells in turn
        let me = join(&engine, 0, Role::Sender);
        publish(&engine, me, 1);
        let writer = {
            let engine = engine.clone();
            thread::spawn(move || (2..=3).for_each(|value| _ = publish(&engine, me, value)))
        };
        let reader = join(&engine, 1, Role::Receiver);
        let mut turns = 0;
        let _ = engine.read_newest(reader, &mut |look| {
            turns += 1;
            if turns < 2 {
                return false;
            }
            let (copy, whole) = copied(look);
            assert!(!whole || copy[..8] == copy[8..], "a torn value");
            whole
        });
        writer.join().unwrap();
        assert_eq!(newest(&engine, reader).map(|(value, _)| value), Some(3));
    });
}

#[test]
fn no_change_of_the_newest_value_is_slept_over() {
    check(|| {
        let engine = latest(3, 0);
        let writer = {
            let engine = engine.clone();
            let me = join(&engine, 0, Role::Sender);
            thread::spawn(move || {
                publish(&engine, me, 7);
                engine.items().notify();
            })
        };
        let reader = join(&engine, 1, Role::Receiver);
        let event = engine.items();
        loop {
            let waiting = event.arm();
            if let Some((value, _)) = newest(&engine, reader) {
                assert_eq!(value, 7);
                event.disarm(waiting);
                break;
            }
            while event.futex_word().load(Ordering::SeqCst) == waiting.sequence {
                thread::yield_now();
            }
            event.disarm(waiting);
        }
        writer.join().unwrap();
    });
}
