//! The round trip: one process asks, the other answers, one message at a time.
//!
//! Not a throughput: between two messages the channel is empty and both sides wait. Every pair of messages is timed by the
//! asker's clock and recorded, none is sampled or averaged, and each side checks what it receives; the answer depends on the
//! question's bytes having been read.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::crew::Gate;
use crate::run::Side;
use crate::usage::Usage;
use crate::{Case, Count, Failure, Inlet, Mechanism, Outlet, Payload, Way, message};

/// The distribution of what was timed in one run (round trips, sends, looks), ns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The fastest.
    pub min_ns: f64,
    /// Half of them took no longer.
    pub p50_ns: f64,
    /// Nine of ten took no longer.
    pub p90_ns: f64,
    /// 99 of a hundred took no longer.
    pub p99_ns: f64,
    /// 999 of a thousand took no longer.
    pub p999_ns: f64,
    /// The slowest.
    pub max_ns: f64,
    /// The mean of the middle half (from the 25th to the 75th percentile). Ratios are made of it: it ignores outliers as the
    /// median does, but is not rounded to the tick of the clock, which is 10 ns on some machines.
    pub middle_ns: f64,
}

impl Percentiles {
    /// Of what was recorded in units of so many nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>, unit_ns: f64) -> Self {
        let ns = |value: u64| value as f64 * unit_ns;
        let at = |quantile| ns(histogram.value_at_quantile(quantile));
        Self {
            min_ns: ns(histogram.min()),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: ns(histogram.max()),
            middle_ns: middle(histogram) * unit_ns,
        }
    }
}

/// The mean of the middle half of what was recorded; a value that straddles the edge counts in part.
fn middle(histogram: &Histogram<u64>) -> f64 {
    let total = histogram.len() as f64;
    let (low, high) = (total * 0.25, total * 0.75);
    let mut passed = 0.0;
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let next = passed + step.count_at_value() as f64;
        let inside = (next.min(high) - f64::max(passed, low)).max(0.0);
        sum += inside * step.value_iterated_to() as f64;
        passed = next;
    }
    sum / (high - low)
}

/// The asking process.
pub(crate) fn ask<M: Mechanism>(mechanism: &M, case: &Case, count: Count, gate: &Gate) -> Result<Side, Failure> {
    let mut talk = Talk::open(mechanism, case, Way::There, Way::Back)?;
    // Three digits; beyond a minute the harness has given up.
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(Failure::new)?;
    gate.wait();
    talk.ask_each(1..=count.warm_up, |_| ())?;
    times.reset();
    let usage = Usage::now();
    let start = Instant::now();
    talk.ask_each(count.warm_up + 1..=count.warm_up + count.messages, |time| {
        times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    })?;
    Ok(Side {
        messages: times.len(),
        elapsed_s: start.elapsed().as_secs_f64(),
        usage: Usage::since(&usage),
        times: Some(Percentiles::of(&times, 1.0)),
    })
}

/// The answering process.
pub(crate) fn answer<M: Mechanism>(mechanism: &M, case: &Case, count: Count, gate: &Gate) -> Result<Side, Failure> {
    let mut talk = Talk::open(mechanism, case, Way::Back, Way::There)?;
    gate.wait();
    talk.answer_each(1..=count.warm_up)?;
    let usage = Usage::now();
    let start = Instant::now();
    talk.answer_each(count.warm_up + 1..=count.warm_up + count.messages)?;
    Ok(Side {
        messages: count.messages,
        elapsed_s: start.elapsed().as_secs_f64(),
        usage: Usage::since(&usage),
        times: None,
    })
}

/// Both handles of one process, and its private copy of a message.
struct Talk<O, I> {
    out: O,
    inlet: I,
    case: Case,
    buffer: Vec<u8>,
}

impl<O: Outlet, I: Inlet> Talk<O, I> {
    fn open<M>(mechanism: &M, case: &Case, out: Way, inlet: Way) -> Result<Self, Failure>
    where
        M: Mechanism<Out = O, In = I>,
    {
        Ok(Self {
            out: mechanism.sender(out)?,
            inlet: mechanism.receiver(inlet)?,
            case: *case,
            buffer: vec![1; if case.copies() { case.size } else { 0 }],
        })
    }

    fn ask_each(&mut self, sequences: RangeInclusive<u64>, record: impl FnMut(Duration)) -> Result<(), Failure> {
        // The sizes of the tables are constants of the loop, as they are in a program whose message is a struct.
        match self.case.size {
            8 => self.ask_sized::<8>(sequences, record),
            64 => self.ask_sized::<64>(sequences, record),
            _ => self.ask_sized::<0>(sequences, record),
        }
    }

    fn ask_sized<const SIZE: usize>(
        &mut self,
        sequences: RangeInclusive<u64>,
        mut record: impl FnMut(Duration),
    ) -> Result<(), Failure> {
        for sequence in sequences {
            let start = Instant::now();
            self.send::<SIZE>(sequence)?;
            self.recv::<SIZE>(sequence)?;
            record(start.elapsed());
        }
        Ok(())
    }

    fn answer_each(&mut self, sequences: RangeInclusive<u64>) -> Result<(), Failure> {
        match self.case.size {
            8 => self.answer_sized::<8>(sequences),
            64 => self.answer_sized::<64>(sequences),
            _ => self.answer_sized::<0>(sequences),
        }
    }

    fn answer_sized<const SIZE: usize>(&mut self, sequences: RangeInclusive<u64>) -> Result<(), Failure> {
        for sequence in sequences {
            self.recv::<SIZE>(sequence)?;
            self.send::<SIZE>(sequence)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn send<const SIZE: usize>(&mut self, sequence: u64) -> Result<(), Failure> {
        let size = if SIZE == 0 { self.case.size } else { SIZE };
        if SIZE == 0 && self.case.copies() {
            message::seal(&mut self.buffer, sequence);
            self.out.send(&self.buffer)?;
        } else if self.case.payload == Payload::Ends {
            self.out.send_with(size, |bytes| message::seal(bytes, sequence))?;
        } else {
            self.out.send_with(size, |bytes| message::stamp(bytes, sequence))?;
        }
        self.out.flush()
    }

    #[inline(always)]
    fn recv<const SIZE: usize>(&mut self, sequence: u64) -> Result<(), Failure> {
        let size = if SIZE == 0 { self.case.size } else { SIZE };
        if SIZE == 0 && self.case.copies() {
            let len = self.inlet.recv(&mut self.buffer)?;
            message::check_seal(&self.buffer[..len], size, sequence)
        } else if self.case.payload == Payload::Ends {
            self.inlet.recv_with(|bytes| message::check_seal(bytes, size, sequence))?
        } else {
            self.inlet.recv_with(|bytes| message::check(bytes, size, sequence))?
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn the_middle_lies_between_the_ticks_and_ignores_outliers() {
        assert!((middle(&histogram([100; 40])) - 100.0).abs() < 1e-9);
        // Of the middle half, three parts are 100 and one is 110.
        let mixed = [[10].repeat(25), [100].repeat(37), [110].repeat(13), [1_000_000].repeat(25)].concat();
        let value = middle(&histogram(mixed));
        assert!((value - 102.6).abs() < 1e-9, "{value}");
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let p = Percentiles::of(&histogram(1..=1000), 0.5);
        let all = [p.min_ns, p.p50_ns, p.p90_ns, p.p99_ns, p.p999_ns, p.max_ns];
        assert_eq!(all, [1, 500, 900, 990, 999, 1000].map(|value| f64::from(value) / 2.0));
    }
}
