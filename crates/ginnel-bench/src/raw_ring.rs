//! The raw baseline: a ring of equal slots between one producer and one consumer, with nothing checked.
//!
//! Not a queue to use. It is the floor of the reports: what these bytes cost to move when nobody can die, no length can
//! be wrong and no peer can be hostile. So it must be good: each side caches the other's position and looks again only when it
//! must, publishes its own in batches, asks for the lines ahead of it, and the message lies in its slot without a header.
//!
//! ```text
//! 0      tail      the producer publishes it: slots below are written          (own line, 128 B)
//! 128    head      the consumer publishes it: slots below are read             (own line)
//! 256    hungry    1 while the consumer sleeps, its futex                      (own line)
//! 384    stuck     1 while the producer sleeps, its futex                      (own line)
//! 512    slots     message size rounded up to 8 bytes, each
//! ```
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | `tail` store, `publish` of the producer | `tail` load, `wait` of the consumer | the slots' bytes |
//! | [S2] | `head` store, `publish` of the consumer | `head` load, `wait` of the producer | free slots |
//! | [S3] | position store, fence, sleeper load | sleeper store, fence, position load | one of the two sees the other's: no lost wake-up |
//!
//! Unsafe here follows pointers into the region. The argument: every handle keeps the region mapped; positions are written by
//! one side each and read by atomic loads; a slot is touched by the producer only while `tail - head < capacity` and by the
//! consumer only while `head < tail`. There is one producer and one consumer, because the harness opens one of each.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::thread::futex;

use crate::region::{Line, Region};
use crate::{Case, Failure, Inlet, Mechanism, Mode, Outlet, Way, Workload};

#[repr(C)]
struct Header {
    /// Messages published; the producer writes it.
    tail: Line<AtomicU64>,
    /// Messages consumed; the consumer writes it.
    head: Line<AtomicU64>,
    /// 1 while the consumer sleeps.
    hungry: Line<AtomicU32>,
    /// 1 while the producer sleeps.
    stuck: Line<AtomicU32>,
}

const SLOTS_AT: usize = 512;
const _: () = assert!(size_of::<Header>() == SLOTS_AT);

/// The numbers that a ring is tuned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// How many slots; a power of two.
    pub slots: u64,
    /// How many messages a side handles before it publishes its position.
    pub batch: u64,
    /// How many messages ahead of itself a side asks for a slot's first line; 0 for not at all.
    pub ahead: u64,
    /// How many pause instructions lie between two looks at the other's position.
    pub pauses: u32,
    /// How often a side looks again before it sleeps, in [`Mode::Block`].
    pub looks: u32,
}

impl RingShape {
    /// The shape that measured best for `case`; `examples/sweep.rs` compares it with its neighbours.
    ///
    /// A stream gets 128 KiB of slots, but no fewer than 8 (2 above 8 MiB) and no more than 4,096 of them: the footprint made no
    /// difference until it left the second-level cache, and with fewer slots each side waits for the other's whole message. The
    /// batch is half the ring or 64 messages, a quarter of that where somebody may sleep, so that the other is awake before the
    /// ring runs out. Asking ahead gained nothing over the processor's own prefetching.
    ///
    /// One pause between two looks took a quarter off the round trip on a Zen 5, for no load of the line is then in flight when
    /// it is written; two cost more than none. Intel's pauses are longer, so the baselines have a ring without them too. A stream looks
    /// 2,000 times, about as long as a wake-up takes, before it sleeps; a round trip never, for there both sides are to be asleep.
    #[must_use]
    pub fn best(case: &Case) -> Self {
        match case.workload {
            Workload::RoundTrip => {
                let slots = if case.size > 4096 { 1 } else { 64 };
                Self { slots, batch: 1, ahead: 0, pauses: 1, looks: 0 }
            }
            Workload::Stream | Workload::Send | Workload::Look => {
                let fewest = if case.size > 8 << 20 { 2 } else { 8 };
                let slots = ((128 << 10) / case.size.max(1)).next_power_of_two().clamp(fewest, 4096) as u64;
                let share = if case.mode == Mode::Spin { 2 } else { 8 };
                Self { slots, batch: (slots / share).clamp(1, 64), ahead: 0, pauses: 1, looks: 2000 }
            }
        }
    }
}

/// Both directions of the raw ring.
#[derive(Debug)]
pub struct RawRing {
    there: Arc<Region>,
    /// The same region where the case has no way back: it is never opened.
    back: Arc<Region>,
    size: usize,
    mode: Mode,
    shape: RingShape,
}

impl RawRing {
    /// A ring for `case` in its best shape.
    ///
    /// # Errors
    ///
    /// When the memory cannot be mapped.
    pub fn new(case: &Case) -> Result<Self, Failure> {
        Self::with_shape(case, RingShape::best(case))
    }

    /// The same without a pause between two looks at the other's position.
    ///
    /// # Errors
    ///
    /// When the memory cannot be mapped.
    pub fn unpaused(case: &Case) -> Result<Self, Failure> {
        Self::with_shape(case, RingShape { pauses: 0, ..RingShape::best(case) })
    }

    /// A ring for `case` in a given shape.
    ///
    /// # Errors
    ///
    /// When `shape` is none of a ring, or the memory cannot be mapped.
    pub fn with_shape(case: &Case, shape: RingShape) -> Result<Self, Failure> {
        if !shape.slots.is_power_of_two() || shape.batch == 0 || shape.batch > shape.slots {
            return Err(Failure::new(format_args!("not the shape of a ring: {shape:?}")));
        }
        let slots = usize::try_from(shape.slots).map_err(Failure::new)?;
        let region = || Region::new(SLOTS_AT + slots * case.size.next_multiple_of(8));
        let there = region()?;
        let back = if case.workload == Workload::RoundTrip { region()? } else { Arc::clone(&there) };
        Ok(Self { there, back, size: case.size, mode: case.mode, shape })
    }

    fn end(&self, way: Way, words: Words) -> End {
        let region = match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        };
        region.populate();
        End {
            mine: region.at(words.mine),
            theirs: region.at(words.theirs),
            my_bed: region.at(words.my_bed),
            their_bed: region.at(words.their_bed),
            slots: region.at(SLOTS_AT),
            stride: self.size.next_multiple_of(8),
            size: self.size,
            mask: self.shape.slots - 1,
            shape: self.shape,
            sleeps: self.mode == Mode::Block,
            position: 0,
            published: 0,
            seen: 0,
            _region: Arc::clone(region),
        }
    }
}

impl Mechanism for RawRing {
    type Out = RawProducer;
    type In = RawConsumer;

    fn sender(&self, way: Way) -> Result<RawProducer, Failure> {
        Ok(RawProducer(self.end(way, PRODUCER)))
    }

    fn receiver(&self, way: Way) -> Result<RawConsumer, Failure> {
        Ok(RawConsumer(self.end(way, CONSUMER)))
    }
}

/// The offsets of the words that a side works with.
struct Words {
    mine: usize,
    theirs: usize,
    my_bed: usize,
    their_bed: usize,
}

const PRODUCER: Words = Words {
    mine: offset_of!(Header, tail),
    theirs: offset_of!(Header, head),
    my_bed: offset_of!(Header, stuck),
    their_bed: offset_of!(Header, hungry),
};

const CONSUMER: Words =
    Words { mine: PRODUCER.theirs, theirs: PRODUCER.mine, my_bed: PRODUCER.their_bed, their_bed: PRODUCER.my_bed };

/// What both ends do alike: publish a position, and wait for the other's to move.
#[derive(Debug)]
struct End {
    mine: NonNull<AtomicU64>,
    theirs: NonNull<AtomicU64>,
    my_bed: NonNull<AtomicU32>,
    their_bed: NonNull<AtomicU32>,
    slots: NonNull<u8>,
    stride: usize,
    size: usize,
    mask: u64,
    shape: RingShape,
    sleeps: bool,
    /// Messages this side has handled.
    position: u64,
    /// Of those, how many the other side knows of.
    published: u64,
    /// The other side's position when this one last looked.
    seen: u64,
    _region: Arc<Region>,
}

impl End {
    fn slot(&self, position: u64) -> NonNull<u8> {
        // The index fits: the region was mapped with as many slots.
        let index = (position & self.mask) as usize;
        // SAFETY: the region has `mask + 1` slots of `stride` bytes behind `slots`.
        unsafe { self.slots.add(index * self.stride) }
    }

    /// Counts one message as handled, and publishes when a batch is full.
    #[inline(always)]
    fn advance(&mut self) {
        self.position += 1;
        if self.position - self.published >= self.shape.batch {
            self.publish();
        }
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.published = self.position;
        // SAFETY: the region of `_region` is mapped, and holds an atomic here.
        let mine = unsafe { self.mine.as_ref() };
        // ORDERING [S1] [S2]: release; this side is done with every slot below `position`.
        mine.store(self.position, Ordering::Release);
        if self.sleeps {
            self.wake();
        }
    }

    #[inline]
    fn wake(&self) {
        // SAFETY: the region of `_region` is mapped, and holds an atomic here.
        let bed = unsafe { self.their_bed.as_ref() };
        // ORDERING [S3]: sequentially consistent fence; the position's store before the sleeper's load.
        fence(Ordering::SeqCst);
        if bed.load(Ordering::Relaxed) != 0 {
            bed.store(0, Ordering::Relaxed);
            // It cannot fail on a mapped, aligned word.
            let _ = futex::wake(bed, futex::Flags::empty(), 1);
        }
    }

    /// Waits until the other side's position is no longer `old`.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, old: u64) {
        if self.published != self.position {
            self.publish();
        }
        // SAFETY: the region of `_region` is mapped, and holds an atomic here.
        let theirs = unsafe { self.theirs.as_ref() };
        let mut looks = 0;
        loop {
            // ORDERING [S1] [S2]: acquire; the other side is done with every slot below.
            self.seen = theirs.load(Ordering::Acquire);
            if self.seen != old {
                return;
            }
            pause(self.shape.pauses);
            if self.sleeps {
                looks += 1;
                if looks > self.shape.looks {
                    self.sleep(theirs, old);
                }
            }
        }
    }

    fn sleep(&self, theirs: &AtomicU64, old: u64) {
        // SAFETY: the region of `_region` is mapped, and holds an atomic here.
        let bed = unsafe { self.my_bed.as_ref() };
        bed.store(1, Ordering::Relaxed);
        // ORDERING [S3]: sequentially consistent fence; the sleeper's store before the position's load.
        fence(Ordering::SeqCst);
        if theirs.load(Ordering::Relaxed) == old {
            // Woken, too late to sleep, or interrupted: the caller looks again in each case.
            let _ = futex::wait(bed, futex::Flags::empty(), 1, None);
        }
        bed.store(0, Ordering::Relaxed);
    }
}

/// The writing end.
#[derive(Debug)]
pub struct RawProducer(End);

impl Outlet for RawProducer {
    #[inline(always)]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        let end = &mut self.0;
        debug_assert_eq!(len, end.size, "a raw ring moves messages of one size");
        if end.position - end.seen > end.mask {
            end.wait(end.seen);
        }
        let slot = end.slot(end.position);
        if end.shape.ahead != 0 {
            prefetch_to_write(end.slot(end.position + end.shape.ahead));
        }
        // SAFETY: the slot holds `size` initialised bytes, and the consumer is done with it.
        fill(unsafe { std::slice::from_raw_parts_mut(slot.as_ptr(), len) });
        end.advance();
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Failure> {
        if self.0.published != self.0.position {
            self.0.publish();
        }
        Ok(())
    }
}

/// The reading end.
#[derive(Debug)]
pub struct RawConsumer(End);

impl Inlet for RawConsumer {
    #[inline(always)]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        let end = &mut self.0;
        if end.position == end.seen {
            end.wait(end.seen);
        }
        let slot = end.slot(end.position);
        if end.shape.ahead != 0 {
            prefetch_to_read(end.slot(end.position + end.shape.ahead));
        }
        // SAFETY: the slot holds `size` initialised bytes, and the producer does not write it before `head` passes it.
        let result = take(unsafe { std::slice::from_raw_parts(slot.as_ptr(), end.size) });
        end.advance();
        Ok(result)
    }
}

/// Tells the processor that it waits, `times` times.
#[inline(always)]
pub(crate) fn pause(times: u32) {
    for _ in 0..times {
        std::hint::spin_loop();
    }
}

/// Asks for the line at `address` in a state in which it can be written.
#[inline(always)]
pub(crate) fn prefetch_to_write(address: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes nothing that a program can see, whatever the address; a processor without the
    // instruction takes it for a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address.as_ptr(), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the line at `address`.
#[inline(always)]
pub(crate) fn prefetch_to_read(address: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes nothing that a program can see, whatever the address.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) address.as_ptr(), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
