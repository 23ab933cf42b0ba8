//! What a look at the newest value costs, against a raw seqlock in the same process: hand-written, nothing checked, one writer, one value, and
//! nobody to be saved from. In turns, raw and link, in rounds; the figure is the middle of the rounds' ratios.
//!
//! - `latest [ROUNDS]` prints a table: nobody writes, then somebody does all the time, with a pause of some microseconds between values.
//! - `latest --reads N raw|into|message|none BYTES` reads so often and ends: for callgrind, see `xtask/show/latest.sh`.

use ginnel::{Receiver, Sender};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SIZES: [usize; 5] = [8, 64, 1024, 64 << 10, 1 << 20];
/// Bytes that a turn reads at most, and reads: about a millisecond of it.
const TURN_BYTES: usize = 4 << 20;
const TURN_READS: usize = 20_000;
/// Between two values of the writer.
const PAUSE: Duration = Duration::from_micros(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir_in("/dev/shm")?;
    raw::set_directory(directory.path());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--reads", reads, what, bytes] => count(reads.parse()?, what, bytes.parse()?),
        [] => table(21),
        [rounds, ..] => table(rounds.parse()?),
    }
}

/// A value of the link and one of the baseline, with both their ends.
struct Pair {
    sender: Sender,
    receiver: Receiver,
    seqlock: raw::Seqlock,
    value: Vec<u8>,
}

impl Pair {
    fn new(bytes: usize) -> Result<Self, ginnel::Error> {
        let address = format!("shm:latest-{bytes}?shape=latest&max={bytes}");
        let (sender, receiver) = (Sender::open(&address)?, Receiver::open(&address)?);
        let pair = Self { sender, receiver, seqlock: raw::Seqlock::new(bytes), value: vec![7; bytes] };
        (0..16).for_each(|_| pair.write_both());
        Ok(pair)
    }

    fn write_both(&self) {
        self.seqlock.write(&self.value);
        self.sender.send(&self.value).expect("a value that fits");
    }
}

fn count(reads: usize, what: &str, bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let pair = Pair::new(bytes)?;
    let (mut out, mut into) = (vec![0; bytes], Vec::new());
    for _ in 0..reads {
        match what {
            "raw" => _ = black_box(pair.seqlock.read(&mut out)),
            "into" => _ = black_box(pair.receiver.latest_into(&mut into)?),
            "message" => _ = black_box(pair.receiver.latest()?.len()),
            _ => _ = black_box(&mut into),
        }
    }
    Ok(())
}

fn table(rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>8}  {:7}  {:>12}  {:>16}  {:>14}", "BYTES", "WRITER", "RAW", "latest_into", "latest");
    for bytes in SIZES {
        let pair = Pair::new(bytes)?;
        for writes in [false, true] {
            let [raw, into, message] = compare(&pair, writes, rounds)?;
            let of = |side: &[f64]| middle(side.iter().zip(&raw).map(|(side, raw)| side / raw).collect());
            let (ns, writer) = (middle(raw.clone()), if writes { "writing" } else { "quiet" });
            let (into, message) = (of(&into), of(&message));
            println!("{bytes:>8}  {writer:7}  {ns:>9.1} ns  {into:>14.2} x  {message:>12.2} x");
        }
    }
    Ok(())
}

/// Nanoseconds of a read in each round.
fn compare(pair: &Pair, writes: bool, rounds: usize) -> Result<[Vec<f64>; 3], Box<dyn std::error::Error>> {
    let (bytes, side) = (pair.value.len(), AtomicU32::new(0));
    let reads = (TURN_BYTES / bytes).clamp(20, TURN_READS);
    let mut times = [const { Vec::new() }; 3];
    let writer = writes.then(|| pair.sender.try_clone()).transpose()?;
    std::thread::scope(|scope| {
        if let Some(writer) = writer {
            let (seqlock, value, side) = (&pair.seqlock, &pair.value, &side);
            scope.spawn(move || {
                while side.load(Ordering::Relaxed) < 3 {
                    match side.load(Ordering::Relaxed) {
                        0 => seqlock.write(value),
                        _ => writer.send(value).expect("a value that fits"),
                    }
                    let begin = Instant::now();
                    while begin.elapsed() < PAUSE {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        let (mut out, mut into) = (vec![0; bytes], Vec::new());
        for round in 0..=rounds {
            for (turn, times) in times.iter_mut().enumerate() {
                side.store(turn as u32, Ordering::Relaxed);
                let begin = Instant::now();
                for _ in 0..reads {
                    match turn {
                        0 => _ = black_box(pair.seqlock.read(&mut out)),
                        1 => _ = black_box(pair.receiver.latest_into(&mut into)),
                        _ => _ = black_box(pair.receiver.latest().map(|message| message.len())),
                    }
                }
                let ns = begin.elapsed().as_nanos() as f64 / reads as f64;
                times.extend((round > 0).then_some(ns)); // the first is to warm up
            }
        }
        side.store(3, Ordering::Relaxed);
    });
    Ok(times)
}

fn middle(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[allow(unsafe_code)] // The baseline, and an environment variable before any thread.
mod raw {
    use std::cell::UnsafeCell;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering, fence};

    pub(super) fn set_directory(path: &Path) {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(ginnel::DIRECTORY_VARIABLE, path) };
    }

    /// One value behind a sequence, odd while it is being written.
    #[repr(align(128))]
    pub(super) struct Seqlock {
        sequence: AtomicU64,
        value: Box<[UnsafeCell<u8>]>,
    }

    // SAFETY: the bytes are copied as they are, torn or not: a data race, which is what makes this baseline raw.
    unsafe impl Sync for Seqlock {}

    impl Seqlock {
        pub(super) fn new(bytes: usize) -> Self {
            Self { sequence: AtomicU64::new(0), value: (0..bytes).map(|_| UnsafeCell::new(0)).collect() }
        }

        /// One writer at a time.
        pub(super) fn write(&self, from: &[u8]) {
            let sequence = self.sequence.load(Ordering::Relaxed);
            self.sequence.store(sequence + 1, Ordering::Relaxed);
            fence(Ordering::Release);
            // SAFETY: both have as many bytes.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.value.as_ptr() as *mut u8, self.value.len()) };
            self.sequence.store(sequence + 2, Ordering::Release);
        }

        #[inline]
        pub(super) fn read(&self, to: &mut [u8]) -> u64 {
            loop {
                let sequence = self.sequence.load(Ordering::Acquire);
                if sequence % 2 == 0 {
                    // SAFETY: both have as many bytes.
                    unsafe { std::ptr::copy_nonoverlapping(self.value.as_ptr().cast(), to.as_mut_ptr(), to.len()) };
                    fence(Ordering::Acquire);
                    if self.sequence.load(Ordering::Relaxed) == sequence {
                        return sequence;
                    }
                }
                std::hint::spin_loop();
            }
        }
    }
}
