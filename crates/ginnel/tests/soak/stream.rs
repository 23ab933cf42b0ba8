//! Streams of bytes: clients connect, write, read the same bytes back, and close or are killed; so is the server. Whoever reads gets a prefix of what was written, byte
//! for byte, and all of it before the end or the news of a death.
//!
//! The byte at an offset of a connection is known, so no copy of what was sent is needed.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

use ginnel::ErrorKind;
use ginnel::stream::{Listener, Stream};

use super::ledger::{Count, Ending, Head, Kind, Ledger, Way};
use super::schedule::Sabotage;
use super::worker::{Failed, Worker};

/// Largest piece that a client writes before it reads: it fits into the ring, so that nobody waits for each other.
const PIECE: usize = 100_000;
/// What a connection begins with: the client's seat and the connection's number.
const GREETING: usize = 16;

/// The byte at an offset of a connection, the same both ways.
fn fill(connection: u64, offset: u64, bytes: &mut [u8]) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = byte_at(connection, offset + at as u64);
    }
}

fn byte_at(connection: u64, offset: u64) -> u8 {
    let mixed = (offset >> 3).wrapping_add(connection << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (8 * (offset & 7))) as u8
}

fn is_as_written(connection: u64, offset: u64, bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| *byte == byte_at(connection, offset + at as u64))
}

/// The life of a client.
pub(crate) fn connect(worker: &mut Worker) {
    let address = worker.address();
    while worker.runs() {
        let number = worker.ledger.count(worker.seat, Count::Connections);
        worker.ledger.set(worker.seat, Count::Connections, number + 1);
        let kills = worker.ledger.head(Head::Kills).load(Acquire);
        way(worker, number, Way::KillsBefore).store(kills, Release);
        let passing = [ErrorKind::NotFound, ErrorKind::Refused];
        let Some(stream) = worker.open(&passing, || Stream::connect(&address)) else { return };
        worker.ledger.set(worker.seat, Count::Connection, number + 1);
        converse(worker, stream, number);
        worker.ledger.set(worker.seat, Count::Connection, 0);
        worker.closed();
    }
}

/// One connection, from its greeting to its end.
fn converse(worker: &mut Worker, mut stream: Stream, number: u64) {
    let _ = stream.set_read_timeout(Some(worker.ledger.limit()));
    let _ = stream.set_write_timeout(Some(worker.ledger.limit()));
    let mut greeting = [0; GREETING];
    greeting[..8].copy_from_slice(&(worker.seat as u64).to_le_bytes());
    greeting[8..].copy_from_slice(&number.to_le_bytes());
    if let Err(e) = stream.write_all(&greeting) {
        return failed(worker, &e);
    }
    let (mut offset, pieces) = (0, 1 + worker.dice.below(40));
    for _ in 0..pieces {
        if !worker.runs() {
            break;
        }
        match exchange(worker, &mut stream, number, offset) {
            Ok(len) => offset += len,
            Err(ended) => {
                way(worker, number, Way::DownEnd).store(ended as u64, Release);
                return;
            }
        }
    }
    way(worker, number, Way::UpClosing).store(1, Release);
    let _ = stream.shutdown(Shutdown::Write);
    let ended = read_to_end(worker, &mut stream);
    if ended == Ending::Reset {
        gave_up(worker, number, 3);
    }
    way(worker, number, Way::DownEnd).store(ended as u64, Release);
}

/// Writes a piece and reads it back.
fn exchange(worker: &mut Worker, stream: &mut Stream, number: u64, offset: u64) -> Result<u64, Ending> {
    let len = match worker.dice.below(8) {
        0 => 1 + worker.dice.index(PIECE),
        _ => 1 + worker.dice.index(2000),
    };
    let name = connection(worker.seat as u64, number);
    let mut piece = vec![0; len];
    fill(name, offset, &mut piece);
    if worker.sabotages(Sabotage::Tear) {
        piece[len - 1] ^= 1;
    }
    way(worker, number, Way::UpBegun).store(offset + len as u64, Release);
    if let Err(e) = stream.write_all(&piece) {
        gave_up(worker, number, 1);
        failed(worker, &e);
        return Err(Ending::None);
    }
    way(worker, number, Way::UpSent).store(offset + len as u64, Release);
    let mut read = 0;
    while read < len {
        match stream.read(&mut piece[..len - read]) {
            Ok(0) => {
                gave_up(worker, number, 2);
                return Err(Ending::Closed);
            }
            Ok(more) => {
                if !is_as_written(name, offset + read as u64, &piece[..more]) {
                    worker.note(Kind::Torn, 0, offset + read as u64, more as u64, number);
                }
                read += more;
                way(worker, number, Way::DownRead).store(offset + read as u64, Release);
                worker.passed();
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                gave_up(worker, number, 3);
                return Err(Ending::Reset);
            }
            Err(e) => {
                gave_up(worker, number, 4);
                failed(worker, &e);
                return Err(Ending::None);
            }
        }
    }
    worker.ledger.add(worker.seat, Count::Received, 1);
    Ok(len as u64)
}

/// It closes in the middle, for one of the reasons of [`Way::GaveUp`].
fn gave_up(worker: &Worker, number: u64, why: u64) {
    let kills = worker.ledger.head(Head::Kills).load(Acquire);
    way(worker, number, Way::KillsAfter).store(kills, Release);
    way(worker, number, Way::GaveUp).store(why, Release);
    way(worker, number, Way::UpClosing).store(1, Release);
}

/// What comes after the last piece: nothing but the end.
fn read_to_end(worker: &mut Worker, stream: &mut Stream) -> Ending {
    let mut byte = [0; 1];
    match stream.read(&mut byte) {
        Ok(0) => Ending::Closed,
        Ok(_) => {
            worker.unexpected(&"more came back than was sent");
            Ending::None
        }
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ending::Reset,
        Err(e) => {
            failed(worker, &e);
            Ending::None
        }
    }
}

fn failed(worker: &mut Worker, error: &io::Error) {
    worker.beat();
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {}
        io::ErrorKind::TimedOut => worker.note(Kind::Stuck, 0, 5, 0, 0),
        _ => worker.unexpected(error),
    }
}

fn connection(seat: u64, number: u64) -> u64 {
    seat << 16 | number & 0xffff
}

fn way(worker: &Worker, number: u64, way: Way) -> &AtomicU64 {
    worker.ledger.way(worker.seat, number as usize, way)
}

/// The life of the server: a thread for each connection.
pub(crate) fn accept(worker: &mut Worker) {
    let address = worker.address();
    // The name is free a moment after the one before was killed.
    while let Some(listener) = worker.open(&[ErrorKind::TooManyHandles], || Listener::bind(&address)) {
        let mut left = 1 + worker.dice.below(300);
        thread::scope(|scope| {
            while left > 0 && !worker.is_over() {
                match listener.accept_timeout(Duration::from_millis(20)) {
                    Ok(Some(stream)) => {
                        left -= 1;
                        let (ledger, life) = (worker.ledger.clone(), worker.life);
                        scope.spawn(move || echo(&ledger, stream, life));
                    }
                    Ok(None) => {}
                    Err(e) => {
                        if not_accepted(worker, &e) == Failed::Reopen {
                            break;
                        }
                    }
                }
                worker.beat();
            }
            drop(listener);
        });
        worker.closed();
    }
}

fn not_accepted(worker: &mut Worker, error: &ginnel::Error) -> Failed {
    if error.kind() == ErrorKind::NoDescriptors && worker.famine.is_on() {
        worker.ledger.add(worker.seat, Count::Famines, 1);
        worker.famine.failed();
        return Failed::Again;
    }
    worker.unexpected(error);
    Failed::Reopen
}

/// Sends back what comes, and keeps the server's half of the account.
fn echo(ledger: &Ledger, mut stream: Stream, life: u64) {
    let patience = ledger.limit() + Duration::from_secs(1);
    let _ = stream.set_read_timeout(Some(patience));
    let _ = stream.set_write_timeout(Some(patience));
    let mut greeting = [0; GREETING];
    if stream.read_exact(&mut greeting).is_err() {
        return; // the client was killed, or let go before it said anything
    }
    let word = |at: usize| u64::from_le_bytes(greeting[at..at + 8].try_into().unwrap_or_default());
    let (seat, number) = (word(0), word(8));
    let way = |way: Way| ledger.way(seat as usize, number as usize, way);
    way(Way::Server).store(life + 1, Release);
    let name = connection(seat, number);
    let mut bytes = vec![0; 32 * 1024];
    let (mut offset, mut writes) = (0, true);
    let began = Instant::now();
    let ended = loop {
        match stream.read(&mut bytes) {
            Ok(0) => break Ending::Closed,
            Ok(len) => {
                if !is_as_written(name, offset, &bytes[..len]) {
                    way(Way::Torn).store(offset + 1, Release);
                    break Ending::None;
                }
                way(Way::UpRead).store(offset + len as u64, Release);
                way(Way::DownBegun).store(offset + len as u64, Release);
                writes = writes && stream.write_all(&bytes[..len]).is_ok();
                offset += len as u64;
                if writes {
                    way(Way::DownSent).store(offset, Release);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break Ending::Reset,
            Err(e) => {
                eprintln!("soak: a server's stream, after {:?}: {e}", began.elapsed());
                break Ending::None;
            }
        }
    };
    way(Way::UpEnd).store(ended as u64, Release);
    way(Way::DownClosing).store(1, Release);
}
