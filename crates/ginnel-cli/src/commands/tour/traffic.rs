//! What the two processes of a tour do. They are this program again, started as `ginnel tour-send` and `ginnel tour-recv`,
//! which no help shows.
//!
//! ```text
//! tour-send                                  tour-recv
//! 64 bytes, the first says whether to go on ->
//!                                           <- the same 64 bytes
//! the file                                  ->
//!                                           <- 4 bytes: its checksum, so that the clock stops when all has arrived
//! ```
//! Each says what it found on stderr, as a line of JSON, and ends by itself if its parent does or time is over.

use super::wire::{Links, Mechanism, Stream, Wire};
use crc32fast::Hasher;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const RECORD: usize = 64;
const TRIPS: u64 = 20_000;
const WARM_UP: u64 = 1_000;
/// Where one core does the work of two, or others are busy too, fewer trips have to do.
const TRIPS_TIME: Duration = Duration::from_millis(1500);

/// How the parent starts its children.
#[derive(clap::Parser)]
#[command(name = "ginnel", hide = true)]
pub(super) struct ChildArgs {
    #[command(subcommand)]
    side: Side,
}

#[derive(clap::Subcommand)]
enum Side {
    TourSend(Task),
    TourRecv(Task),
}

#[derive(clap::Args)]
struct Task {
    mechanism: Mechanism,
    /// The parent's process: also the number of this tour.
    parent: u32,
    limit_ms: u64,
    bytes: u64,
    file: PathBuf,
}

/// What the sending process found.
#[derive(Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) transfer_ns: u64,
    pub(super) round_trip_ns: RoundTrip,
}

/// What the receiving process found.
#[derive(Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) crc32: u32,
    pub(super) bytes: u64,
}

/// Percentiles of the time that 64 bytes take there and back.
#[derive(Serialize, Deserialize)]
pub(super) struct RoundTrip {
    trips: u64,
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl RoundTrip {
    pub(super) fn figures(&self) -> [u64; 4] {
        [self.p50, self.p99, self.p99_9, self.max]
    }
}

/// Runs as a child, if that is what this process was started for.
pub(crate) fn child() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    if first != "tour-send" && first != "tour-recv" {
        return None;
    }
    let (is_sender, task) = match <ChildArgs as clap::Parser>::parse().side {
        Side::TourSend(task) => (true, task),
        Side::TourRecv(task) => (false, task),
    };
    let found = task.watch().and_then(|()| task.wire(is_sender)).and_then(|mut wire| {
        if is_sender {
            task.send(&mut *wire).map(|sent| json(&sent))
        } else {
            task.recv(&mut *wire).map(|got| json(&got))
        }
    });
    let (text, status) = match found {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(e) => (e.to_string(), ExitCode::FAILURE),
    };
    let _ = writeln!(io::stderr(), "{text}");
    Some(status)
}

fn json(found: &impl Serialize) -> String {
    serde_json::to_string(found).unwrap_or_default()
}

impl Task {
    /// From now on this process ends when its time is over or its parent has; Ctrl-C is for the parent, which is told as well.
    fn watch(&self) -> io::Result<()> {
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)))?;
        let (parent, tour, mechanism) = (self.parent, self.parent, self.mechanism);
        let end = Instant::now() + Duration::from_millis(self.limit_ms);
        let watch = move || {
            while std::os::unix::process::parent_id() == parent && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
            if mechanism == Mechanism::Shm {
                remove_links(tour);
            }
            std::process::exit(124);
        };
        std::thread::Builder::new().spawn(watch).map(drop)
    }

    fn wire(&self, is_sender: bool) -> io::Result<Box<dyn Wire>> {
        if self.mechanism != Mechanism::Shm {
            return Ok(Box::new(Stream::new()?));
        }
        let links = Links::of_tour(self.parent)
            .and_then(|[there, back]| if is_sender { Links::new(&there, &back) } else { Links::new(&back, &there) });
        Ok(Box::new(links.map_err(|e| io::Error::other(e.to_string()))?))
    }

    fn send(&self, wire: &mut dyn Wire) -> io::Result<Sent> {
        let mut file = File::open(&self.file)?;
        let round_trip_ns = round_trips(wire)?;
        let start = Instant::now();
        wire.put_file(&mut file, self.bytes)?;
        wire.get(&mut [0; 4])?;
        let transfer_ns = nanoseconds(start.elapsed());
        Ok(Sent { transfer_ns, round_trip_ns })
    }

    fn recv(&self, wire: &mut dyn Wire) -> io::Result<Received> {
        let mut record = [0; RECORD];
        loop {
            wire.get(&mut record)?;
            wire.put(&record)?;
            if record[0] == 0 {
                break;
            }
        }
        let mut hasher = Hasher::new();
        wire.get_file(&mut hasher, self.bytes)?;
        let crc32 = hasher.finalize();
        wire.put(&crc32.to_le_bytes())?;
        Ok(Received { crc32, bytes: self.bytes })
    }
}

fn round_trips(wire: &mut dyn Wire) -> io::Result<RoundTrip> {
    let mut times =
        Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(|e| io::Error::other(e.to_string()))?;
    let end = Instant::now() + TRIPS_TIME;
    for trip in 0.. {
        let begin = Instant::now();
        let goes_on = trip < WARM_UP + TRIPS && begin < end;
        let mut sent = [u8::from(goes_on); RECORD];
        sent[1..9].copy_from_slice(&u64::to_le_bytes(trip));
        let mut came = [0; RECORD];
        wire.put(&sent)?;
        wire.get(&mut came)?;
        if came != sent {
            return Err(io::Error::other(format!("round trip {trip} brought other bytes back")));
        }
        // The first and the last are not typical; but some figure is better than none.
        if trip >= WARM_UP || !goes_on && times.is_empty() {
            times.saturating_record(nanoseconds(begin.elapsed()));
        }
        if !goes_on {
            break;
        }
    }
    let at = |quantile| times.value_at_quantile(quantile);
    Ok(RoundTrip { trips: times.len(), p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: times.max() })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Removes what a tour that was cut short left.
pub(super) fn remove_links(tour: u32) {
    for link in Links::of_tour(tour).into_iter().flatten() {
        let _ = link.unlink(true); // most often it is gone already
    }
}
