//! What a look at the newest value costs, while another process writes all the time, with short pauses.
//!
//! Not a measure of the writer. A reader looks as often as it can: most looks find the value of the look before, some a new one, and some
//! one that is being written. The time of a batch of looks is divided by their number, as one reading of the clock costs as much as a look.
//!
//! Proof: each value is stamped with its number in every word (see `message`). Within the timed part each look compares the first word
//! with the last and with that of the look before: whole, and never older. After each batch one look more is checked byte by byte.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::crew::{Gate, Member, RunError};
use crate::region::Region;
use crate::round_trip::Percentiles;
use crate::run::{Sample, Side, Terms};
use crate::usage::Usage;
use crate::{Case, Count, Failure, message};

/// Between two values.
const PAUSE: Duration = Duration::from_micros(5);
/// Bytes that a batch looks at, and looks of a batch, at most.
const BATCH_BYTES: usize = 64 << 10;
const BATCH: usize = 64;
/// Parts of a nanosecond in which the time of a look is recorded.
const PARTS: u64 = 1000;

/// A place for the newest value.
pub(crate) trait Newest {
    /// The writing handle.
    type Write: Write;
    /// The reading handle.
    type Read: Read;

    /// Opens the writing handle; runs in the writing process.
    fn writer(&self) -> Result<Self::Write, Failure>;

    /// Opens the reading handle; runs in the reading process.
    fn reader(&self) -> Result<Self::Read, Failure>;
}

/// The writing handle.
pub(crate) trait Write {
    /// Makes `value` the newest.
    fn write(&mut self, value: &[u8]) -> Result<(), Failure>;
}

/// The reading handle.
pub(crate) trait Read {
    /// Shows the newest value to `show`, which is called once.
    fn look<R>(&mut self, show: impl FnOnce(&[u8]) -> R) -> Result<R, Failure>;
}

/// Runs `case` once.
pub(crate) fn measure(newest: &impl Newest, case: &Case, count: Count, terms: &Terms) -> Result<Sample, RunError> {
    let stop = Flag::new().map_err(RunError::Setup)?;
    let [first, second] = terms.placement.choose();
    let members = vec![
        Member::new("writer", first, |gate| write(newest, case, &stop, gate)),
        Member::new("reader", second, |gate| read(newest, case, count, &stop, gate)),
    ];
    let sides = terms.run(members)?;
    let [writer, reader] = sides[..] else {
        return Err(RunError::Setup(Failure::new("a side is missing")));
    };
    Ok(Sample {
        messages: reader.messages,
        elapsed_s: reader.elapsed_s,
        times: reader.times,
        sender: writer.usage,
        sender_s: writer.elapsed_s,
        receiver: reader.usage,
        receiver_s: reader.elapsed_s,
    })
}

/// A word that all processes share: that the reader has seen enough.
struct Flag(Arc<Region>);

impl Flag {
    fn new() -> Result<Self, Failure> {
        Ok(Self(Region::new(size_of::<AtomicU32>())?))
    }

    fn word(&self) -> &AtomicU32 {
        self.0.word(0)
    }
}

fn write<N: Newest>(newest: &N, case: &Case, stop: &Flag, gate: &Gate) -> Result<Side, Failure> {
    let mut writer = newest.writer()?;
    let mut value = vec![0; case.size];
    let mut sequence = 1;
    message::stamp(&mut value, sequence);
    writer.write(&value)?;
    gate.wait();
    let (usage, start) = (Usage::now(), Instant::now());
    while stop.word().load(Ordering::Relaxed) == 0 {
        sequence += 1;
        message::stamp(&mut value, sequence);
        writer.write(&value)?;
        let begin = Instant::now();
        while begin.elapsed() < PAUSE {
            spin_loop();
        }
    }
    let elapsed_s = start.elapsed().as_secs_f64();
    Ok(Side { messages: sequence, elapsed_s, usage: Usage::since(&usage), times: None })
}

fn read<N: Newest>(newest: &N, case: &Case, count: Count, stop: &Flag, gate: &Gate) -> Result<Side, Failure> {
    let mut reader = newest.reader()?;
    // Three digits; beyond a minute the harness has given up.
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000 * PARTS, 3).map_err(Failure::new)?;
    let batch = (BATCH_BYTES / case.size).clamp(1, BATCH) as u64;
    gate.wait();
    let mut last = 0;
    batches(&mut reader, case, batch, count.warm_up.div_ceil(batch), &mut last, |_| ())?;
    let (usage, start) = (Usage::now(), Instant::now());
    batches(&mut reader, case, batch, count.messages.div_ceil(batch), &mut last, |time| {
        let parts = u64::try_from(time.as_nanos()).map_or(u64::MAX, |ns| ns.saturating_mul(PARTS));
        times.saturating_record_n(parts / batch, batch);
    })?;
    let elapsed_s = start.elapsed().as_secs_f64();
    let usage = Usage::since(&usage);
    stop.word().store(1, Ordering::Relaxed);
    Ok(Side { messages: times.len(), elapsed_s, usage, times: Some(Percentiles::of(&times, 1.0 / PARTS as f64)) })
}

fn batches(
    reader: &mut impl Read,
    case: &Case,
    looks: u64,
    batches: u64,
    last: &mut u64,
    mut record: impl FnMut(Duration),
) -> Result<(), Failure> {
    for _ in 0..batches {
        let begin = Instant::now();
        for _ in 0..looks {
            let number = reader.look(|value| message::number_of(black_box(value), case.size))??;
            if number < *last {
                return Err(went_back(*last, number));
            }
            *last = number;
        }
        record(begin.elapsed());
        *last = reader.look(|value| whole(value, case.size))??;
    }
    Ok(())
}

/// The number of a value, every byte of which is right.
fn whole(value: &[u8], size: usize) -> Result<u64, Failure> {
    let number = message::number_of(value, size)?;
    message::check(value, size, number).map(|()| number)
}

#[cold]
fn went_back(last: u64, number: u64) -> Failure {
    Failure::new(format_args!("value {number} was shown after value {last}: the newest may not become older"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Placement, RawSeqlock};

    /// A seqlock whose reader is shown something else at a certain look.
    struct Faulty {
        seqlock: RawSeqlock,
        fault: fn(&mut [u8]),
    }

    struct FaultyReader {
        seqlock: RawSeqlock,
        fault: fn(&mut [u8]),
        looks: u32,
    }

    impl Newest for Faulty {
        type Write = RawSeqlock;
        type Read = FaultyReader;

        fn writer(&self) -> Result<RawSeqlock, Failure> {
            self.seqlock.writer()
        }

        fn reader(&self) -> Result<FaultyReader, Failure> {
            Ok(FaultyReader { seqlock: self.seqlock.reader()?, fault: self.fault, looks: 0 })
        }
    }

    impl Read for FaultyReader {
        fn look<R>(&mut self, show: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
            let mut value = self.seqlock.get().to_vec();
            self.looks += 1;
            if self.looks > 100 {
                (self.fault)(&mut value);
            }
            Ok(show(&value))
        }
    }

    fn looked(fault: fn(&mut [u8])) -> Result<Sample, RunError> {
        let case = Case::look(64);
        let terms = Terms { placement: Placement::Auto, limit: Duration::from_secs(20), stop: None };
        let faulty = Faulty { seqlock: RawSeqlock::new(&case).unwrap(), fault };
        measure(&faulty, &case, Count { warm_up: 16, messages: 300 }, &terms)
    }

    #[test]
    fn looks_are_counted_and_timed() {
        let sample = looked(|_| ()).unwrap();
        assert_eq!(sample.messages, 320, "whole batches");
        assert!(sample.times.unwrap().p50_ns > 0.0);
    }

    #[test]
    fn a_torn_and_an_older_value_are_found() {
        let torn = looked(|value| value[60] ^= 1).unwrap_err().to_string();
        assert!(torn.starts_with("the reader failed: message") && torn.contains("damaged"), "{torn}");
        let inside = looked(|value| value[20] ^= 1).unwrap_err().to_string();
        assert!(inside.contains("damaged"), "between the ends, found after a batch: {inside}");
        let older = looked(|value| message::stamp(value, 0)).unwrap_err().to_string();
        assert!(older.contains("value 0 was shown after value"), "{older}");
    }
}
