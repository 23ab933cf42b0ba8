//! The other raw baseline: a ring whose slots carry the sequence of the message in them, with nothing checked.
//!
//! Not a queue to use, as `raw_ring` is not. It differs in what a message costs to announce: not a position on a line of its own
//! but eight bytes in front of the payload, so that a short message and its announcement cross in one line. It wins where
//! messages come one by one and loses where they come in batches. It spins; for sleeping the announcement's place makes no
//! difference.
//!
//! ```text
//! 0      head      the consumer publishes it, in batches: slots below are read   (own line, 128 B)
//! 128    slots     sequence u64 | payload, `stride` bytes each
//! ```
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | `sequence` store, `send_with` | `sequence` load, `recv_with` | the slot's payload |
//! | [S2] | `head` store, `recv_with` | `head` load, `send_with` | free slots |
//!
//! Unsafe here follows pointers into the region. The argument: every handle keeps the region mapped; the sequence and the head are
//! only accessed as atomics; a payload is touched by the producer only while `tail - head < capacity` and by the consumer
//! only behind its sequence. There is one producer and one consumer, because the harness opens one of each.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::raw_ring::{pause, prefetch_to_write};
use crate::region::{LINE, Region};
use crate::{Case, Failure, Inlet, Mechanism, Outlet, Way, Workload};

/// Bytes of the sequence in front of a payload.
const SEQUENCE: usize = 8;

/// Both directions of the ring with sequences in its slots.
#[derive(Debug)]
pub struct RawSlots {
    there: Arc<Region>,
    /// The same region where the case has no way back: it is never opened.
    back: Arc<Region>,
    size: usize,
    stride: usize,
    slots: u64,
    batch: u64,
    pauses: u32,
}

impl RawSlots {
    /// A ring for `case` in the shape that measured best.
    ///
    /// # Errors
    ///
    /// When the memory cannot be mapped.
    pub fn new(case: &Case) -> Result<Self, Failure> {
        match case.workload {
            Workload::RoundTrip => Self::with_shape(case, 64, 1, 64, 1),
            Workload::Stream | Workload::Send | Workload::Look => Self::with_shape(case, 1024, 64, 8, 1),
        }
    }

    /// A ring of `slots` slots, a power of two, aligned to `align` bytes, whose consumer publishes after `batch` messages.
    ///
    /// # Errors
    ///
    /// When `slots` is not a power of two, `batch` exceeds it, or the memory cannot be mapped.
    pub fn with_shape(case: &Case, slots: u64, batch: u64, align: usize, pauses: u32) -> Result<Self, Failure> {
        if !slots.is_power_of_two() || batch == 0 || batch > slots || align == 0 || align % 8 != 0 {
            return Err(Failure::new("not the shape of a ring"));
        }
        let stride = (SEQUENCE + case.size).next_multiple_of(align);
        let bytes = LINE + usize::try_from(slots).map_err(Failure::new)? * stride;
        let there = Region::new(bytes)?;
        let back = if case.workload == Workload::RoundTrip { Region::new(bytes)? } else { Arc::clone(&there) };
        Ok(Self { there, back, size: case.size, stride, slots, batch, pauses })
    }

    fn end(&self, way: Way) -> End {
        let region = match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        };
        region.populate();
        End {
            head: region.at(0),
            slots: region.at(LINE),
            stride: self.stride,
            size: self.size,
            mask: self.slots - 1,
            batch: self.batch,
            pauses: self.pauses,
            position: 0,
            other: 0,
            _region: Arc::clone(region),
        }
    }
}

impl Mechanism for RawSlots {
    type Out = SlotProducer;
    type In = SlotConsumer;

    fn sender(&self, way: Way) -> Result<SlotProducer, Failure> {
        Ok(SlotProducer(self.end(way)))
    }

    fn receiver(&self, way: Way) -> Result<SlotConsumer, Failure> {
        Ok(SlotConsumer(self.end(way)))
    }
}

#[derive(Debug)]
struct End {
    head: NonNull<AtomicU64>,
    slots: NonNull<u8>,
    stride: usize,
    size: usize,
    mask: u64,
    batch: u64,
    pauses: u32,
    /// Messages this side has handled.
    position: u64,
    /// The producer: the head when it last looked. The consumer: the head that it last published.
    other: u64,
    _region: Arc<Region>,
}

impl End {
    #[inline(always)]
    fn slot(&self, position: u64) -> NonNull<u8> {
        // The index fits: the region was mapped with as many slots.
        let index = (position & self.mask) as usize;
        // SAFETY: the region has `mask + 1` slots of `stride` bytes behind `slots`.
        unsafe { self.slots.add(index * self.stride) }
    }

    #[inline(always)]
    fn sequence(&self, slot: NonNull<u8>) -> &AtomicU64 {
        // SAFETY: a slot begins with its sequence, eight bytes aligned, in the region that `self` keeps mapped.
        unsafe { slot.cast().as_ref() }
    }

    #[inline(always)]
    fn payload(&self, slot: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: `size` bytes of payload follow the sequence.
        unsafe { slot.add(SEQUENCE) }
    }

    /// The slot's second line, of 64 bytes as the processor has them.
    #[inline(always)]
    fn second_line(&self, slot: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: only called for slots of more than 64 bytes.
        unsafe { slot.add(64) }
    }

    #[inline(always)]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: the region of `_region` is mapped, and begins with this atomic.
        unsafe { self.head.as_ref() }
    }
}

/// The writing end.
#[derive(Debug)]
pub struct SlotProducer(End);

impl SlotProducer {
    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self) {
        let end = &mut self.0;
        while end.position - end.other > end.mask {
            pause(end.pauses);
            // ORDERING [S2]: acquire; the consumer is done with every slot below.
            end.other = end.head().load(Ordering::Acquire);
        }
    }
}

impl Outlet for SlotProducer {
    #[inline(always)]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        debug_assert_eq!(len, self.0.size, "a raw ring moves messages of one size");
        if self.0.position - self.0.other > self.0.mask {
            self.wait_for_room();
        }
        let end = &mut self.0;
        let slot = end.slot(end.position);
        let payload = end.payload(slot).as_ptr();
        // SAFETY: the slot holds `size` initialised bytes of payload, and the consumer is done with them.
        fill(unsafe { std::slice::from_raw_parts_mut(payload, len) });
        end.position += 1;
        // ORDERING [S1]: release; the payload is written.
        end.sequence(slot).store(end.position, Ordering::Release);
        // While the message is on its way, the lines of the next one come here.
        let next = end.slot(end.position);
        prefetch_to_write(next);
        if end.stride > 64 {
            prefetch_to_write(end.second_line(next));
        }
        Ok(())
    }
}

/// The reading end.
#[derive(Debug)]
pub struct SlotConsumer(End);

impl Inlet for SlotConsumer {
    #[inline(always)]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        let end = &mut self.0;
        let slot = end.slot(end.position);
        // ORDERING [S1]: acquire; the payload behind this sequence is the producer's.
        while end.sequence(slot).load(Ordering::Acquire) != end.position + 1 {
            if end.other != end.position {
                // ORDERING [S2]: release; every slot below is read.
                end.head().store(end.position, Ordering::Release);
                end.other = end.position;
            }
            pause(end.pauses);
        }
        let payload = end.payload(slot).as_ptr();
        // SAFETY: the slot holds `size` initialised bytes, and the producer does not write them before `head` passes it.
        let result = take(unsafe { std::slice::from_raw_parts(payload, end.size) });
        end.position += 1;
        if end.position - end.other >= end.batch {
            // ORDERING [S2]: release; every slot below is read.
            end.head().store(end.position, Ordering::Release);
            end.other = end.position;
        }
        Ok(result)
    }
}
