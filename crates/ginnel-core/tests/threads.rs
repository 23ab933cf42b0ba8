//! The engine between threads, as fast as they go: what one writes plainly another reads plainly, ordered by nothing but the engine's own words. So a
//! ThreadSanitizer (`cargo xtask prove tsan`) that sees a message read which its writer has not published says so, where loom has no blocks, and only a few steps.
//!
//! It sees what is copied plainly: blocks, loans, the bytes of a stream. What the engine copies in assembly, or word by word, it takes for ordered. It does not
//! know fences: what needs one is loom's business.
#![allow(unsafe_code)] // Makes a region of a vector that outlives the engine, and slices of what the protocol gives to one side.
#![cfg(not(loom))]

use ginnel_core::{
    ByteReader, ByteWriter, Consumer, Delivery, Engine, Full, Geometry, Identity, Layout, Listener, Memory,
    Participant, PopError, Producer, PushError, Role, Route, Shape, Start,
};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::thread::{self, JoinHandle};

/// Bytes of the largest message; it has a block.
const MAX: usize = 300;
/// Parts that go through a stream: a debug build takes a moment for them, and so does a sanitizer.
const PARTS: u64 = 1000;

/// Messages of each sender. On a small link each may take two switches of a thread, on a machine that has other work too.
fn each(capacity: u64) -> u64 {
    20 * capacity.min(64)
}

struct Shared {
    engine: Engine,
    _region: Vec<u128>,
}

fn link(shape: Shape, capacity: u64, max: u64) -> Arc<Shared> {
    let memory = if max == 1 { 0 } else { 256 << 10 };
    let geometry = Geometry { shape, capacity, max, memory, participants: 6, full: Full::Block, ..Geometry::default() };
    let layout = Layout::new(geometry).unwrap();
    let mut region = vec![0u128; layout.mapped_bytes() / 16];
    let base = NonNull::new(region.as_mut_ptr()).unwrap().cast();
    // SAFETY: the vector is kept beside the engine, and nothing else refers to its elements.
    let memory = unsafe { Memory::new(base, layout.mapped_bytes()) };
    let shared = Arc::new(Shared { engine: Engine::new(memory, layout, true, || fence(SeqCst)), _region: region });
    for len in [200, MAX] {
        while let Some(extent) = shared.engine.extent_to_commit(len).filter(|_| max > 1) {
            shared.engine.extent_ready(&extent);
        }
    }
    shared
}

fn join(shared: &Shared, number: u32, role: Role) -> Participant {
    let me = Participant::new(number);
    shared.engine.join(me, role, Identity { pid: 1, namespace: 1, now_ns: 1 }).unwrap();
    me
}

/// A message says who sent it, and which it is; each byte behind that depends on both.
fn message(sender: u64, number: u64) -> Vec<u8> {
    let len = [16, 113, 200, 256, MAX][(number % 5) as usize];
    let mut bytes = vec![(sender ^ number) as u8; len];
    bytes[..8].copy_from_slice(&sender.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Checks a message, which is read in its place; says who sent it, and which it is.
fn checked(engine: &Engine, delivery: &Delivery) -> (u64, u64) {
    let place = engine.memory().bytes(delivery.offset, delivery.len());
    // SAFETY: a range of the region that is this receiver's until it releases the message: that is what is tested.
    let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), delivery.len()) };
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (sender, number) = (word(0), word(8));
    assert_eq!(bytes, message(sender, number), "message {number} of {sender} is torn");
    (sender, number)
}

fn send(engine: &Engine, producer: &Producer, bytes: &[u8], on_loan: bool) {
    loop {
        let sent = if on_loan && bytes.len() > 112 {
            loan(engine, producer, bytes)
        } else {
            engine.try_push(producer, 0, bytes)
        };
        match sent {
            Ok(()) => return,
            Err(PushError::Full | PushError::Busy | PushError::NoBlock) => thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Writes a message in its place.
fn loan(engine: &Engine, producer: &Producer, bytes: &[u8]) -> Result<(), PushError> {
    let block = engine.claim(producer, bytes.len())?;
    let place = engine.memory().bytes(engine.block_range(&block).0, bytes.len());
    // SAFETY: the block is this sender's until it commits.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
    engine.commit(producer, block, bytes.len(), 0).inspect_err(|_| engine.abort(block))
}

fn sender(shared: &Arc<Shared>, number: u32, each: u64) -> JoinHandle<()> {
    let (shared, producer) = (shared.clone(), Producer::new(join(shared, number, Role::Sender)));
    thread::spawn(move || {
        for index in 0..each {
            send(&shared.engine, &producer, &message(u64::from(number), index), index % 3 == 0);
        }
    })
}

/// Remembers what each sender sent last: messages come in order.
#[derive(Default)]
struct Order([Option<u64>; 6]);

impl Order {
    fn saw(&mut self, (sender, number): (u64, u64)) {
        let last = &mut self.0[sender as usize];
        assert!(last.is_none_or(|last| last < number), "{number} of {sender} after {last:?}");
        *last = Some(number);
    }
}

fn receiver(shared: &Arc<Shared>, number: u32, total: Arc<std::sync::atomic::AtomicU64>) -> JoinHandle<()> {
    let (shared, consumer) = (shared.clone(), Consumer::new(join(shared, number, Role::Receiver)));
    thread::spawn(move || {
        let mut order = Order::default();
        while total.load(SeqCst) > 0 {
            match shared.engine.try_pop(&consumer) {
                Ok(delivery) => {
                    order.saw(checked(&shared.engine, &delivery));
                    shared.engine.release(&consumer, &delivery);
                    total.fetch_sub(1, SeqCst);
                }
                Err(PopError::Empty | PopError::Busy) => thread::yield_now(),
                Err(other) => panic!("{other:?}"),
            }
        }
    })
}

/// On a queue with so many of each.
fn exchange(senders: u32, receivers: u32, capacity: u64) {
    let shared = link(Shape::Queue, capacity, MAX as u64);
    let total = Arc::new(std::sync::atomic::AtomicU64::new(each(capacity) * u64::from(senders)));
    let all: Vec<_> = (0..receivers).map(|number| receiver(&shared, senders + number, total.clone())).collect();
    let all: Vec<_> = (0..senders).map(|number| sender(&shared, number, each(capacity))).chain(all).collect();
    all.into_iter().for_each(|one| one.join().unwrap());
    assert_eq!(shared.engine.pool_use().used, 0);
}

#[test]
fn one_sends_and_one_receives() {
    [1, 4, 64].into_iter().for_each(|capacity| exchange(1, 1, capacity));
}

#[test]
fn several_send_and_several_receive() {
    [1, 4, 64].into_iter().for_each(|capacity| exchange(2, 2, capacity));
}

fn listener(shared: &Arc<Shared>, number: u32, total: u64) -> JoinHandle<()> {
    let me = join(shared, number, Role::Receiver);
    let listener: Listener = shared.engine.listen(me, Start::Newest(0)).unwrap();
    let shared = shared.clone();
    thread::spawn(move || {
        let mut order = Order::default();
        for _ in 0..total {
            let delivery = loop {
                match shared.engine.try_hear(&listener) {
                    Ok(delivery) => break delivery,
                    Err(PopError::Empty | PopError::Busy) => thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            };
            order.saw(checked(&shared.engine, &delivery));
            shared.engine.heard_until(&listener, delivery.position + 1);
        }
    })
}

#[test]
fn several_listen_to_several() {
    for capacity in [4, 64] {
        let shared = link(Shape::Broadcast, capacity, MAX as u64);
        let all: Vec<_> = (0..2).map(|number| listener(&shared, 2 + number, 2 * each(capacity))).collect();
        let all: Vec<_> = (0..2).map(|number| sender(&shared, number, each(capacity))).chain(all).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    }
}

/// In parts that the ring is made of: here it is not mapped twice.
#[test]
fn bytes_go_through_a_stream() {
    const PART: usize = 512;
    let shared = link(Shape::Stream, 4096, 1);
    let (writes, reads) = (join(&shared, 0, Role::Sender), join(&shared, 1, Role::Receiver));
    let writing = {
        let (shared, writer): (_, ByteWriter) = (shared.clone(), shared.engine.byte_writer(writes));
        thread::spawn(move || {
            for number in 0..PARTS {
                while shared.engine.room_for(&writer, PART).unwrap() < PART {
                    thread::yield_now();
                }
                let route = [Route::Cache, Route::Memory][number as usize % 2];
                let len = shared.engine.put(&writer, 0, &[number as u8; PART], route).unwrap();
                shared.engine.publish(&writer, len);
            }
        })
    };
    let reader: ByteReader = shared.engine.byte_reader(reads);
    for number in 0..PARTS {
        while shared.engine.readable(&reader, PART).unwrap().len < PART {
            thread::yield_now();
        }
        let mut part = [0; PART];
        assert_eq!((shared.engine.get(&reader, &mut part), part), (Ok(PART), [number as u8; PART]));
        let _ = shared.engine.consume(&reader, PART); // nobody sleeps
    }
    writing.join().unwrap();
}
