//! What the processes of a shape do. They are this program again, started as `ginnel tour-shape SHAPE PART`, which no help shows.
//!
//! ```text
//! part 0                                            the others
//! opens shm:ready                                   open what they need, then send to shm:ready
//! hears from all of them, opens what it needs,
//! and begins                                        do their part until it has ended (bob and carol have written by then)
//! ```
//! As with the mechanisms, each says what it found on stderr, as a line of JSON, and ends by itself if its parent does or time is over.

use super::sample::BLOCK;
use super::shape::Shape;
use super::traffic::{Fault, Task, nanoseconds, opening};
use crc32fast::Hasher;
use ginnel::call::{Client, Server};
use ginnel::mail::{Absent, Mailbox};
use ginnel::stream::{Listener, Stream};
use ginnel::{Link, Receiver, RecvFailure, Sender};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// Where the others say that they are there.
const READY: &str = "shm:ready?follow&capacity=16&max=8&participants=8";
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a shape is shown, about.
const TIME: Duration = Duration::from_millis(300);

/// No more of the file than this, through an unbounded queue: all of it is in memory at once. And by broadcast, to three.
const HOARD: u64 = 8 << 20;
const NEWS: u64 = 128 << 20;
/// Bytes of a message of the former, which lies in its slot: blocks for larger ones would be kept for a while. And of the latter, and of a
/// write to a stream.
const SMALL: usize = 64;
const LARGE: usize = 64 << 10;
/// Words of a newest value, which is as long as a page.
const WORDS: usize = 512;
/// Among its numbers: the last one has it.
const LAST: u64 = 1 << 63;
/// Bytes of a question, and how many are asked.
const QUESTION: usize = 256;
const QUESTIONS: u64 = 20_000;
/// Letters that each writes: together no more than a mailbox holds.
const LETTERS: u64 = 200;

/// What one process found.
#[derive(Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub(super) enum Found {
    /// It sent.
    Sent { messages: u64, bytes: u64, took_ns: u64 },
    /// It received.
    Received { messages: u64, bytes: u64, crc32: u32, dropped: u64 },
    /// It received what had been waiting: bytes of memory before, then, and after it.
    Drained { messages: u64, bytes: u64, crc32: u32, waiting: u64, before: u64, peak: u64, after: u64 },
    /// It looked at the newest value, and how many different ones it saw.
    Looked { looks: u64, values: u64 },
    /// It asked: what one question took, and how many each server answered.
    Asked { questions: u64, p50_ns: u64, p99_ns: u64, answered_by: Vec<u64> },
    /// It answered.
    Answered { questions: u64 },
    /// It read letters by their senders: who wrote the first, and how many of that one's waited while the other's were read.
    Read { letters: u64, first: String, set_aside: u64 },
    /// It wrote letters, and got an answer.
    Wrote { letters: u64 },
    /// It sent bytes, and heard what had arrived.
    Streamed { bytes: u64, crc32: u32, took_ns: u64 },
}

/// Does one part.
pub(super) fn play(shape: Shape, part: usize, task: &Task) -> Result<Found, Fault> {
    task.watch()?;
    match (shape, part) {
        (Shape::Unbounded, 0) => produce(task),
        (Shape::Unbounded, _) => consume(),
        (Shape::Broadcast, 0) => speak(task),
        (Shape::Broadcast, _) => hear(),
        (Shape::Latest, 0) => write(),
        (Shape::Latest, _) => look(),
        (Shape::Call, 0) => ask(),
        (Shape::Call, _) => answer(),
        (Shape::Mailbox, 0) => read_letters(),
        (Shape::Mailbox, part) => write_letters(shape.parts()[part]),
        (Shape::Stream, 0) => stream(task),
        (Shape::Stream, _) => listen(),
    }
}

/// Opens something, unless all is being removed.
fn open<T, E>(what: impl FnOnce() -> Result<T, E>) -> Result<T, Fault>
where
    Fault: From<E>,
{
    let _opening = opening();
    Ok(what()?)
}

/// Says that this process is there.
fn ready() -> Result<(), Fault> {
    Ok(open(|| Sender::open(READY))?.send(b"")?)
}

/// Waits until so many others are.
fn wait_for(others: usize) -> Result<(), Fault> {
    let ready = open(|| Receiver::open(READY))?;
    for _ in 0..others {
        ready.recv_timeout(PATIENCE)?;
    }
    Ok(())
}

/// Gives the file to `put` in pieces, as much as `most`, and as can be given in the time; bytes and pieces.
fn pour(
    task: &Task,
    most: u64,
    piece: usize,
    mut put: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(u64, u64), Fault> {
    let (end, most) = (Instant::now() + TIME, most.min(task.bytes));
    let (mut file, mut buffer) = (BufReader::with_capacity(BLOCK, File::open(&task.file)?), vec![0; piece]);
    let (mut bytes, mut pieces) = (0, 0);
    while bytes < most && (bytes % BLOCK as u64 > 0 || Instant::now() < end) {
        let len = usize::try_from(most - bytes).map_or(piece, |left| left.min(piece));
        file.read_exact(&mut buffer[..len])?;
        put(&buffer[..len])?;
        (bytes, pieces) = (bytes + len as u64, pieces + 1);
    }
    Ok((bytes, pieces))
}

/// Receives until the last sender has left.
fn receive_all(receiver: &Receiver) -> Result<(u64, u64, u32), Fault> {
    let (mut messages, mut bytes, mut hasher) = (0, 0, Hasher::new());
    loop {
        match receiver.recv() {
            Ok(message) => {
                hasher.update(&message);
                (messages, bytes) = (messages + 1, bytes + message.len() as u64);
            }
            Err(e) if e == (RecvFailure::Closed { died: 0 }) => return Ok((messages, bytes, hasher.finalize())),
            Err(e) => return Err(e.into()),
        }
    }
}

// ---- unbounded

const ITEMS: &str = "shm:items?unbounded&max=64";
const START: &str = "shm:start?follow&capacity=16&max=8&participants=8";

fn produce(task: &Task) -> Result<Found, Fault> {
    wait_for(1)?;
    let (sender, start) = (open(|| Sender::open(ITEMS))?, open(|| Sender::open(START))?);
    let begin = Instant::now();
    let (bytes, messages) = pour(task, HOARD, SMALL, |piece| Ok(sender.send(piece)?))?;
    let took_ns = nanoseconds(begin.elapsed());
    start.send(b"")?;
    Ok(Found::Sent { messages, bytes, took_ns })
}

/// Waits until everything is there, and only then takes it.
fn consume() -> Result<Found, Fault> {
    let memory = || -> Result<u64, Fault> { Ok(Link::new(ITEMS)?.info()?.allocated) };
    let (receiver, start) = (open(|| Receiver::open(ITEMS))?, open(|| Receiver::open(START))?);
    let before = memory()?;
    ready()?;
    start.recv()?;
    let (waiting, peak) = (receiver.len(), memory()?);
    let (messages, bytes, crc32) = receive_all(&receiver)?;
    Ok(Found::Drained { messages, bytes, crc32, waiting, before, peak, after: memory()? })
}

// ---- broadcast

const STATION: &str = "shm:news?shape=broadcast&capacity=16&max=64KiB";

fn speak(task: &Task) -> Result<Found, Fault> {
    wait_for(Shape::Broadcast.parts().len() - 1)?;
    let sender = open(|| Sender::open(STATION))?;
    let begin = Instant::now();
    let (bytes, messages) = pour(task, NEWS, LARGE, |piece| Ok(sender.send(piece)?))?;
    Ok(Found::Sent { messages, bytes, took_ns: nanoseconds(begin.elapsed()) })
}

fn hear() -> Result<Found, Fault> {
    let receiver = open(|| Receiver::open(STATION))?;
    ready()?;
    let (messages, bytes, crc32) = receive_all(&receiver)?;
    Ok(Found::Received { messages, bytes, crc32, dropped: receiver.dropped() })
}

// ---- latest

const POSITION: &str = "shm:position?shape=latest&max=4KiB";

/// Writes values of which every word is their number.
fn write() -> Result<Found, Fault> {
    wait_for(1)?;
    let sender = open(|| Sender::open(POSITION))?;
    let (begin, mut number) = (Instant::now(), 0);
    let put = |number: u64| sender.send(&number.to_le_bytes().repeat(WORDS)[..]);
    while begin.elapsed() < TIME {
        number += 1;
        put(number)?;
    }
    put((number + 1) | LAST)?;
    let (messages, took_ns) = (number + 1, nanoseconds(begin.elapsed()));
    Ok(Found::Sent { messages, bytes: messages * (WORDS * 8) as u64, took_ns })
}

fn look() -> Result<Found, Fault> {
    let receiver = open(|| Receiver::open(POSITION))?;
    ready()?;
    let (mut value, mut last, mut looks, mut values) = (Vec::new(), 0, 0, 0);
    while last & LAST == 0 {
        match receiver.latest_into(&mut value) {
            Err(e) if e == RecvFailure::Empty => std::thread::yield_now(),
            other => _ = other?,
        }
        let Some(number) = value.first_chunk().map(|word| u64::from_le_bytes(*word)) else { continue };
        if value.len() != WORDS * 8 || value.chunks_exact(8).any(|word| word != number.to_le_bytes()) {
            return Err(Fault::new(format!("value {number} is torn")));
        }
        if number < last {
            return Err(Fault::new(format!("value {number} was the newest after value {last}")));
        }
        (looks, values) = (looks + 1, values + u64::from(number != last));
        last = number;
    }
    Ok(Found::Looked { looks, values })
}

// ---- call

const SUMS: &str = "shm:sums";

/// A question: bytes that depend on its number.
fn question(number: u64) -> Vec<u8> {
    let words = (0..QUESTION as u64 / 8).map(|at| (number + at).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Asks for checksums, and makes each itself; at last asks each server to leave.
fn ask() -> Result<Found, Fault> {
    let servers = Shape::Call.parts().len() - 1;
    wait_for(servers)?;
    let client = open(|| Client::open(SUMS))?;
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(Fault::new)?;
    let mut answered: Vec<(u32, u64)> = Vec::new();
    let end = Instant::now() + TIME;
    for number in 0..QUESTIONS {
        if Instant::now() >= end {
            break;
        }
        let (asked, question) = (Instant::now(), question(number));
        let answer = client.call(&question).map_err(Fault::new)?;
        times.saturating_record(nanoseconds(asked.elapsed()));
        if *answer != crc32fast::hash(&question).to_le_bytes() {
            return Err(Fault::new(format!("question {number} got the answer to another")));
        }
        match answered.iter_mut().find(|(server, _)| *server == answer.pid()) {
            Some((_, count)) => *count += 1,
            None => answered.push((answer.pid(), 1)),
        }
    }
    for _ in 0..servers {
        client.call(b"").map_err(Fault::new)?;
    }
    let at = |quantile| times.value_at_quantile(quantile);
    let answered_by = answered.into_iter().map(|(_, count)| count).collect();
    Ok(Found::Asked { questions: times.len(), p50_ns: at(0.5), p99_ns: at(0.99), answered_by })
}

fn answer() -> Result<Found, Fault> {
    let server = open(|| Server::open(SUMS))?;
    ready()?;
    for questions in 0.. {
        let request = server.recv().map_err(Fault::new)?;
        let (answer, is_last) = (crc32fast::hash(&request), request.is_empty());
        request.reply(&answer.to_le_bytes()).map_err(Fault::new)?;
        if is_last {
            return Ok(Found::Answered { questions });
        }
    }
    unreachable!("the numbers do not end")
}

// ---- mailbox

/// The words of a letter.
fn letter(number: u64, name: &str) -> String {
    format!("letter {number} of {name}")
}

/// Alice reads one letter, then all of whoever did not write it: those of the first come between them, and have to wait. She answers both.
fn read_letters() -> Result<Found, Fault> {
    let alice = open(|| Mailbox::open("alice?capacity=1024"))?;
    wait_for(2)?;
    let first = alice.recv_timeout(PATIENCE).map_err(Fault::new)?.sender().to_owned();
    let other = if first == "bob" { "carol" } else { "bob" };
    let read = |name: &str, begin: u64| -> Result<(), Fault> {
        for number in begin..LETTERS {
            let came = alice.recv_from_timeout(name, PATIENCE).map_err(Fault::new)?;
            let due = letter(number, name);
            if came.sender() != name || came.bytes() != due.as_bytes() {
                let (text, sender) = (String::from_utf8_lossy(came.bytes()), came.sender());
                return Err(Fault::new(format!("{text:?} came from {sender}, and {due:?} was next")));
            }
        }
        Ok(())
    };
    read(other, 0)?;
    let set_aside = alice.set_aside() as u64;
    read(&first, 1)?;
    for name in [&first, other] {
        alice.send_to(name, b"thanks").map_err(Fault::new)?;
    }
    Ok(Found::Read { letters: 2 * LETTERS, first, set_aside })
}

fn write_letters(name: &str) -> Result<Found, Fault> {
    let mailbox = open(|| Mailbox::open(name))?.absent(Absent::Wait);
    for number in 0..LETTERS {
        mailbox.send_to_timeout("alice", letter(number, name).as_bytes(), PATIENCE).map_err(Fault::new)?;
    }
    ready()?;
    let answer = mailbox.recv_from_timeout("alice", PATIENCE).map_err(Fault::new)?;
    match answer.bytes() {
        b"thanks" => Ok(Found::Wrote { letters: LETTERS }),
        other => Err(Fault::new(format!("alice answered {:?}", String::from_utf8_lossy(other)))),
    }
}

// ---- stream

const BYTES: &str = "shm:bytes";

/// Writes the file, closes that way, and reads what the other process made of it.
fn stream(task: &Task) -> Result<Found, Fault> {
    wait_for(1)?;
    let mut stream = open(|| Stream::connect(BYTES))?;
    let begin = Instant::now();
    let (bytes, _) = pour(task, u64::MAX, LARGE, |piece| Ok(stream.write_all(piece)?))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let took_ns = nanoseconds(begin.elapsed());
    let ([count @ .., _, _, _, _], [_, _, _, _, _, _, _, _, sum @ ..]) = (answer, answer);
    if u64::from_le_bytes(count) != bytes {
        return Err(Fault::new(format!("{} bytes arrived, {bytes} were written", u64::from_le_bytes(count))));
    }
    Ok(Found::Streamed { bytes, crc32: u32::from_le_bytes(sum), took_ns })
}

/// Reads in place until the end, and writes back how many bytes there were, and their checksum.
fn listen() -> Result<Found, Fault> {
    let listener = open(|| Listener::bind(BYTES))?;
    ready()?;
    let stream = listener.accept_timeout(PATIENCE)?;
    let mut stream = stream.ok_or_else(|| Fault::new("nobody connected"))?;
    let (mut bytes, mut pieces, mut hasher) = (0_u64, 0, Hasher::new());
    loop {
        let piece = stream.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        let len = piece.len().min(LARGE); // the writer goes on meanwhile
        hasher.update(&piece[..len]);
        stream.consume(len);
        (bytes, pieces) = (bytes + len as u64, pieces + 1);
    }
    let crc32 = hasher.finalize();
    stream.write_all(&bytes.to_le_bytes())?;
    stream.write_all(&crc32.to_le_bytes())?;
    Ok(Found::Received { messages: pieces, bytes, crc32, dropped: 0 })
}
