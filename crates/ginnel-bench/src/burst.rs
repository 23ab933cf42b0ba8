//! What a send costs the sender, by the number of receivers that get it.
//!
//! Not a throughput: how fast many receivers read depends on how many cores they have. So sender and receivers take turns, and only the
//! sends are timed; nobody waits for a message meanwhile, and the link holds two bursts, so that nobody waits for room.
//!
//! ```text
//! sender      [ BURST sends, timed ]  turn += 1 ...................... [ BURST sends, timed ]
//! receivers   asleep on turn .......  [ BURST receives, checked ] done += 1   asleep ........
//! ```
//!
//! Every receiver is a process, and checks every message. The time of a burst is divided by its sends: one reading of the clock costs as
//! much as a send.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | `turn` store, sender | `turn` load, receiver | that a burst has been sent |
//! | [S2] | `done` addition, receiver | `done` load, sender | that a burst has been received |

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::futex;

use crate::crew::{Gate, Member, RunError};
use crate::region::{LINE, Region};
use crate::round_trip::Percentiles;
use crate::run::{Sample, Side, Terms};
use crate::usage::Usage;
use crate::{Case, Count, Failure, Inlet, Outlet, message};

/// Messages of a burst.
pub(crate) const BURST: u64 = 512;

/// Parts of a nanosecond in which the time of a send is recorded.
const PARTS: u64 = 1000;

/// A way for one process to send to several.
pub(crate) trait Several {
    /// The sending handle. It must take a burst without waiting.
    type Out: Outlet;
    /// A receiving handle, which gets every message.
    type In: Inlet;

    /// Opens the sending handle; runs in the sending process.
    fn sender(&self) -> Result<Self::Out, Failure>;

    /// Opens a receiving handle; runs in each receiving process.
    fn receiver(&self) -> Result<Self::In, Failure>;
}

/// Runs `case` once, with so many receivers.
pub(crate) fn measure(
    several: &impl Several,
    receivers: u32,
    case: &Case,
    count: Count,
    terms: &Terms,
) -> Result<Sample, RunError> {
    let turns = Turns::new(receivers).map_err(RunError::Setup)?;
    let bursts = Bursts { warm_up: 1 + count.warm_up / BURST, measured: count.messages.div_ceil(BURST) };
    let [first, second] = terms.placement.choose();
    let mut members = vec![Member::new("sender", first, |gate| send(several, case, bursts, &turns, gate))];
    members.extend((0..receivers).map(|_| {
        let turns = &turns;
        Member::new("receiver", second, move |gate| receive(several, case, bursts, turns, gate))
    }));
    let sides = terms.run(members)?;
    let Some((sender, receivers)) = sides.split_first() else {
        return Err(RunError::Setup(Failure::new("a side is missing")));
    };
    Ok(Sample {
        // Each of them failed if it had missed one.
        messages: receivers.iter().map(|side| side.messages).min().unwrap_or_default(),
        elapsed_s: sender.times.map_or(0.0, |times| times.middle_ns) * sender.messages as f64 / 1e9,
        times: sender.times,
        sender: sender.usage,
        sender_s: sender.elapsed_s,
        receiver: receivers.iter().fold(Usage::default(), |all, side| all + side.usage),
        receiver_s: receivers.iter().map(|side| side.elapsed_s).fold(0.0, f64::max),
    })
}

/// How often the turns go round.
#[derive(Clone, Copy)]
struct Bursts {
    warm_up: u64,
    measured: u64,
}

/// Whose turn it is: words that all processes share.
struct Turns {
    region: Arc<Region>,
    receivers: u32,
}

impl Turns {
    fn new(receivers: u32) -> Result<Self, Failure> {
        Ok(Self { region: Region::new(2 * LINE)?, receivers })
    }

    /// Bursts that were sent.
    fn turn(&self) -> &AtomicU32 {
        self.region.word(0)
    }

    /// Bursts that were received, by each receiver.
    fn done(&self) -> &AtomicU32 {
        self.region.word(LINE)
    }

    /// The receivers' turn; returns when they are done.
    fn give(&self, burst: u32) {
        // ORDERING [S1]: release; the burst has been sent.
        self.turn().store(burst, Ordering::Release);
        fence(Ordering::SeqCst);
        let _ = futex::wake(self.turn(), futex::Flags::empty(), i32::MAX as u32);
        // ORDERING [S2]: acquire; the burst has been received.
        while self.done().load(Ordering::Acquire) != burst.wrapping_mul(self.receivers) {
            std::thread::yield_now();
        }
    }

    /// Sleeps until it is the turn of those who receive this burst.
    fn wait(&self, burst: u32) {
        loop {
            // ORDERING [S1]: acquire; see `give`.
            let turn = self.turn().load(Ordering::Acquire);
            if turn >= burst {
                return;
            }
            let _ = futex::wait(self.turn(), futex::Flags::empty(), turn, None);
        }
    }

    fn end(&self) {
        // ORDERING [S2]: release; the burst has been received.
        self.done().fetch_add(1, Ordering::AcqRel);
    }
}

fn send<S: Several>(several: &S, case: &Case, bursts: Bursts, turns: &Turns, gate: &Gate) -> Result<Side, Failure> {
    let mut out = several.sender()?;
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000 * PARTS, 3).map_err(Failure::new)?;
    gate.wait();
    let (mut sequence, mut usage, mut start) = (0, Usage::now(), Instant::now());
    for burst in 0..bursts.warm_up + bursts.measured {
        if burst == bursts.warm_up {
            times.reset();
            (usage, start) = (Usage::now(), Instant::now());
        }
        let begin = Instant::now();
        for _ in 0..BURST {
            sequence += 1;
            out.send_with(case.size, |bytes| message::stamp(bytes, sequence))?;
        }
        let time = parts(begin.elapsed()) / BURST;
        times.saturating_record_n(time, BURST);
        turns.give(burst as u32 + 1);
    }
    Ok(Side {
        messages: times.len(),
        elapsed_s: start.elapsed().as_secs_f64(),
        usage: Usage::since(&usage),
        times: Some(Percentiles::of(&times, 1.0 / PARTS as f64)),
    })
}

fn receive<S: Several>(several: &S, case: &Case, bursts: Bursts, turns: &Turns, gate: &Gate) -> Result<Side, Failure> {
    let mut inlet = several.receiver()?;
    gate.wait();
    let (mut sequence, mut usage, mut start) = (0, Usage::now(), Instant::now());
    for burst in 0..bursts.warm_up + bursts.measured {
        if burst == bursts.warm_up {
            (usage, start) = (Usage::now(), Instant::now());
        }
        turns.wait(burst as u32 + 1);
        for _ in 0..BURST {
            sequence += 1;
            inlet.recv_with(|bytes| message::check(bytes, case.size, sequence))??;
        }
        turns.end();
    }
    let (messages, elapsed_s) = (bursts.measured * BURST, start.elapsed().as_secs_f64());
    Ok(Side { messages, elapsed_s, usage: Usage::since(&usage), times: None })
}

fn parts(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(u64::MAX, |ns| ns.saturating_mul(PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mechanism, Placement, RawConsumer, RawProducer, RawRing, Way};

    /// A ring to one receiver, which may be shown the wrong thing.
    struct Faulty {
        ring: RawRing,
        fault: fn(u64, &mut [u8]),
    }

    struct FaultyReceiver {
        consumer: RawConsumer,
        fault: fn(u64, &mut [u8]),
        received: u64,
    }

    impl Several for Faulty {
        type Out = Flushed;
        type In = FaultyReceiver;

        fn sender(&self) -> Result<Flushed, Failure> {
            Ok(Flushed(self.ring.sender(Way::There)?))
        }

        fn receiver(&self) -> Result<FaultyReceiver, Failure> {
            let consumer = self.ring.receiver(Way::There)?;
            Ok(FaultyReceiver { consumer, fault: self.fault, received: 0 })
        }
    }

    /// The ring publishes in batches.
    struct Flushed(RawProducer);

    impl Outlet for Flushed {
        fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
            self.0.send_with(len, fill)?;
            self.0.flush()
        }
    }

    impl Inlet for FaultyReceiver {
        fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
            let (fault, number) = (self.fault, self.received + 1);
            self.received = number;
            self.consumer.recv_with(|bytes| {
                let mut bytes = bytes.to_vec();
                fault(number, &mut bytes);
                take(&bytes)
            })
        }
    }

    fn sent(fault: fn(u64, &mut [u8])) -> Result<Sample, RunError> {
        let case = Case::send(64);
        let terms = Terms { placement: Placement::Auto, limit: Duration::from_secs(20), stop: None };
        let faulty = Faulty { ring: RawRing::new(&Case::stream(crate::Mode::Block, 64)).unwrap(), fault };
        measure(&faulty, 1, &case, Count { warm_up: 16, messages: 600 }, &terms)
    }

    #[test]
    fn sends_are_counted_where_they_arrive_and_timed() {
        let sample = sent(|_, _| ()).unwrap();
        assert_eq!(sample.messages, 2 * BURST, "whole bursts");
        assert!(sample.times.unwrap().p50_ns > 0.0 && sample.rate() > 0.0);
    }

    #[test]
    fn a_receiver_that_gets_something_else_says_so() {
        let lost = sent(|number, bytes| message::stamp(bytes, if number < 700 { number } else { number + 1 }));
        let lost = lost.unwrap_err().to_string();
        assert_eq!(
            lost,
            "the receiver failed: expected message 700, the bytes say 701: lost, repeated or out of order"
        );
        let altered = sent(|number, bytes| bytes[40] ^= u8::from(number == 1000)).unwrap_err().to_string();
        assert!(altered.contains("message 1000 is damaged"), "{altered}");
    }
}
