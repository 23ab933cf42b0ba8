//! The ring of a stream under loom: that no byte is read before it was written, or overwritten before it was read, over the wrap, and that a
//! writer which waits for room is woken. Loom's cells say when both sides are at one byte. Run with `RUSTFLAGS="--cfg loom"`.
#![cfg(loom)]

use ginnel_core::{
    ByteReader, ByteWriter, Engine, Geometry, Identity, Layout, Memory, Participant, Role, Route, Shape,
};
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 50_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

fn ends(capacity: u64) -> (Arc<Engine>, ByteWriter, ByteReader) {
    let one = Geometry { max: 1, memory: 0, participants: 2, senders: 1, receivers: 1, ..Geometry::default() };
    let layout = Layout::new(Geometry { shape: Shape::Stream, capacity, ..one }).unwrap();
    let heavy = || fence(Ordering::SeqCst);
    let engine = Arc::new(Engine::new(Memory::new(&layout), layout, true, heavy));
    let (writes, reads) = (Participant::new(0), Participant::new(1));
    let nobody = Identity { pid: 0, namespace: 0, now_ns: 0 };
    engine.join(writes, Role::Sender, nobody).unwrap();
    engine.join(reads, Role::Receiver, nobody).unwrap();
    let (writer, reader) = (engine.byte_writer(writes), engine.byte_reader(reads));
    (engine, writer, reader)
}

/// Writes in parts of two, as far as there is room.
fn write(engine: &Engine, writer: &ByteWriter, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let len = engine.put(writer, 0, &bytes[..bytes.len().min(2)], Route::Cache).unwrap();
        if len == 0 {
            thread::yield_now();
            continue;
        }
        engine.publish(writer, len);
        let _ = engine.items().notify(); // it has changed the word
        bytes = &bytes[len..];
    }
}

fn read(engine: &Engine, reader: &ByteReader, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut some = [0; 3];
        let len = engine.get(reader, &mut some).unwrap();
        if len == 0 {
            thread::yield_now();
            continue;
        }
        let _ = engine.consume(reader, len); // it has changed the word
        all.extend(&some[..len]);
    }
    all
}

#[test]
fn bytes_come_in_order_over_the_wrap() {
    check(|| {
        let (engine, writer, reader) = ends(2);
        let written = {
            let engine = engine.clone();
            thread::spawn(move || write(&engine, &writer, &[1, 2, 3, 4, 5]))
        };
        assert_eq!(read(&engine, &reader, 5), [1, 2, 3, 4, 5]);
        written.join().unwrap();
        assert_eq!(engine.bytes_waiting(), 0);
    });
}

#[test]
fn a_writer_that_waits_for_much_room_is_woken() {
    check(|| {
        let (engine, writer, reader) = ends(4);
        write(&engine, &writer, &[1, 2, 3, 4]);
        let reads = {
            let engine = engine.clone();
            thread::spawn(move || {
                let mut one = [0];
                for byte in 1..=3 {
                    assert_eq!((engine.get(&reader, &mut one), one), (Ok(1), [byte]));
                    let _ = engine.consume(&reader, 1); // as above
                }
            })
        };
        let event = engine.room();
        engine.want_room(&writer, 3);
        loop {
            let waiting = event.arm();
            if engine.room_for(&writer, 3).unwrap() >= 3 {
                event.disarm(waiting);
                break;
            }
            // The futex: asleep while the word has this value. A lost wake-up never leaves this loop, and loom says so.
            while event.futex_word().load(Ordering::SeqCst) == waiting.sequence {
                thread::yield_now();
            }
            event.disarm(waiting);
        }
        reads.join().unwrap();
    });
}

#[test]
fn a_reader_that_waits_is_woken() {
    check(|| {
        let (engine, writer, reader) = ends(2);
        let writes = {
            let engine = engine.clone();
            thread::spawn(move || write(&engine, &writer, &[7]))
        };
        let event = engine.items();
        loop {
            let waiting = event.arm();
            let found = engine.readable(&reader, 1).unwrap().len;
            if found == 0 {
                while event.futex_word().load(Ordering::SeqCst) == waiting.sequence {
                    thread::yield_now();
                }
            }
            event.disarm(waiting);
            if found > 0 {
                break;
            }
        }
        writes.join().unwrap();
    });
}
