//! How the file goes from the one process to the other.
//!
//! - Where messages arrive: chunks of it, and an empty message as its end.
//! - Where they may be lost (UDP): datagrams with a number and a checksum, and an end that is repeated until it is answered. What did not arrive is
//!   counted; what arrived is checked.
//! - Where a message is a number (signals): numbers from 0, and a negative one as their end.
//!
//! A move that takes too long ends after the block in hand: what has gone until then is what is checked.

use super::mechanism::Mechanism;
use super::sample::BLOCK;
use super::traffic::{Fault, Received, Task, Wire};
use crc32fast::Hasher;
use ginnel::{Message, RecvFailure};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// Bytes that are moved at once, where a message may be so long.
const CHUNK: usize = 64 << 10;
/// How long the file is on its way.
const TIME: Duration = Duration::from_millis(1200);
/// How many numbers go through signals.
const NUMBERS: i32 = 10_000;
/// All has arrived.
const DONE: i32 = i32::MIN;

/// Of a datagram: number and checksum.
const HEAD: usize = 8;
/// Bytes of the file in a datagram.
const PIECE: usize = 8 << 10;
/// As its number: no more will come.
const END: u32 = u32::MAX;
/// How long the receiver answers after the end: an answer may be lost as well.
const LINGER: Duration = Duration::from_millis(120);

/// Sends; bytes and messages that went.
pub(super) fn send(wire: &Wire, task: &Task) -> Result<(u64, u64), Fault> {
    let end = Instant::now() + TIME;
    match task.mechanism {
        Mechanism::Signal => send_numbers(wire, end),
        Mechanism::Udp => send_datagrams(wire, task, end),
        _ => send_chunks(wire, task, end),
    }
}

/// Receives, and checks what comes.
pub(super) fn recv(wire: &Wire) -> Result<Received, Fault> {
    match wire.mechanism {
        Mechanism::Signal => recv_numbers(wire),
        Mechanism::Udp => recv_datagrams(wire),
        _ => recv_chunks(wire),
    }
}

fn send_chunks(wire: &Wire, task: &Task, end: Instant) -> Result<(u64, u64), Fault> {
    let mut file = File::open(&task.file)?;
    let chunk = CHUNK.min(usize::try_from(wire.sender.max_message()).unwrap_or(CHUNK)).max(1);
    let (mut bytes, mut messages) = (0, 0);
    while bytes < task.bytes && (bytes == 0 || Instant::now() < end) {
        let mut block = at_most(BLOCK, task.bytes - bytes);
        while block > 0 {
            let mut loan = wire.sender.loan(chunk.min(block))?;
            file.read_exact(&mut loan)?;
            let len = loan.len();
            loan.commit().map_err(Fault::new)?;
            (block, bytes, messages) = (block - len, bytes + len as u64, messages + 1);
        }
    }
    wire.sender.send(b"")?;
    answered(wire)?;
    Ok((bytes, messages))
}

fn recv_chunks(wire: &Wire) -> Result<Received, Fault> {
    let (mut received, mut hasher) = (Received::default(), Hasher::new());
    loop {
        let message = wire.receiver.recv()?;
        if message.is_empty() {
            break;
        }
        hasher.update(&message);
        received.bytes += message.len() as u64;
        received.messages += 1;
    }
    received.crc32 = hasher.finalize();
    wire.put(&wire.record(DONE))?;
    Ok(received)
}

fn answered(wire: &Wire) -> Result<(), Fault> {
    match wire.get()?.number()? {
        DONE => Ok(()),
        other => Err(Fault::new(format!("{other} came back instead of word that all has arrived"))),
    }
}

fn send_numbers(wire: &Wire, end: Instant) -> Result<(u64, u64), Fault> {
    let mut sent = 0;
    while sent < NUMBERS && (sent % 100 > 0 || Instant::now() < end) {
        wire.put(&wire.record(sent))?;
        sent += 1;
    }
    wire.put(&wire.record(-1))?;
    answered(wire)?;
    let messages = u64::from(sent.unsigned_abs());
    Ok((messages * size_of::<i32>() as u64, messages))
}

fn recv_numbers(wire: &Wire) -> Result<Received, Fault> {
    let (mut hasher, mut expected) = (Hasher::new(), 0);
    loop {
        match wire.get()?.number()? {
            number if number < 0 => break,
            number if number != expected => {
                return Err(Fault::new(format!("{number} came where {expected} was sent")));
            }
            number => hasher.update(&number.to_le_bytes()),
        }
        expected += 1;
    }
    wire.put(&wire.record(DONE))?;
    let messages = u64::from(expected.unsigned_abs());
    let bytes = messages * size_of::<i32>() as u64;
    Ok(Received { bytes, messages, crc32: hasher.finalize(), dropped: 0 })
}

fn send_datagrams(wire: &Wire, task: &Task, end: Instant) -> Result<(u64, u64), Fault> {
    let mut file = File::open(&task.file)?;
    let mut datagram = vec![0; HEAD + PIECE];
    let (mut bytes, mut number) = (0, 0);
    while bytes < task.bytes && (bytes % BLOCK as u64 > 0 || Instant::now() < end) {
        let len = at_most(PIECE, task.bytes - bytes);
        let (head, piece) = datagram.split_at_mut(HEAD);
        file.read_exact(&mut piece[..len])?;
        head[..4].copy_from_slice(&u32::to_le_bytes(number));
        head[4..].copy_from_slice(&crc32fast::hash(&piece[..len]).to_le_bytes());
        wire.sender.send(&datagram[..HEAD + len])?;
        (bytes, number) = (bytes + len as u64, number + 1);
    }
    end_datagrams(wire, number)?;
    Ok((bytes, number.into()))
}

/// Says that all has gone, until that is answered.
fn end_datagrams(wire: &Wire, number: u32) -> Result<(), Fault> {
    let mut datagram = END.to_le_bytes().to_vec();
    datagram.extend(number.to_le_bytes());
    for _ in 0..50 {
        wire.sender.send(&datagram)?;
        match wire.receiver.recv_timeout(LINGER / 3) {
            Ok(message) if *message == wire.record(DONE).bytes()[..] => return Ok(()),
            Ok(_) => {} // an answer to an earlier one
            Err(e) if e == RecvFailure::TimedOut => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Fault::new("no word came that all has arrived"))
}

fn recv_datagrams(wire: &Wire) -> Result<Received, Fault> {
    let mut pieces: Vec<Option<Hasher>> = Vec::new();
    let mut received = Received::default();
    let expected = loop {
        match Datagram::of(&wire.receiver.recv()?) {
            Datagram::End(expected) => break expected,
            Datagram::Other => {} // sent twice before
            Datagram::Piece { number, crc32, bytes } => {
                let mut hasher = Hasher::new();
                hasher.update(bytes);
                if hasher.clone().finalize() != crc32 {
                    return Err(Fault::new(format!("datagram {number} came with other bytes than it was sent with")));
                }
                let place = number as usize;
                pieces.resize(pieces.len().max(place + 1), None);
                if pieces[place].replace(hasher).is_none() {
                    (received.bytes, received.messages) = (received.bytes + bytes.len() as u64, received.messages + 1);
                }
            }
        }
    };
    received.crc32 = whole(&pieces, expected);
    wire.put(&wire.record(DONE))?;
    while let Ok(message) = wire.receiver.recv_timeout(LINGER) {
        if let Datagram::End(_) = Datagram::of(&message) {
            wire.put(&wire.record(DONE))?;
        }
    }
    Ok(received)
}

/// The checksum of all pieces in their order; 0 if one is missing.
fn whole(pieces: &[Option<Hasher>], expected: u32) -> u32 {
    let mut whole = Hasher::new();
    for piece in pieces {
        let Some(piece) = piece else { return 0 };
        whole.combine(piece);
    }
    if pieces.len() == expected as usize { whole.finalize() } else { 0 }
}

enum Datagram<'a> {
    Piece {
        number: u32,
        crc32: u32,
        bytes: &'a [u8],
    },
    End(u32),
    /// A number as text, which begins with bytes that no piece's number has.
    Other,
}

impl<'a> Datagram<'a> {
    fn of(message: &'a Message<'_>) -> Self {
        let word = |at: usize| message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        match (word(0), word(4)) {
            (Some(END), Some(expected)) => Self::End(expected),
            (Some(number), Some(crc32)) if number < 1 << 24 => Self::Piece { number, crc32, bytes: &message[HEAD..] },
            _ => Self::Other,
        }
    }
}

fn at_most(most: usize, bytes: u64) -> usize {
    usize::try_from(bytes).map_or(most, |bytes| bytes.min(most))
}

#[cfg(test)]
mod tests {
    use super::super::traffic::Record;
    use super::*;
    use ginnel::{Link, Receiver, Sender};

    /// Ports that nobody else asks for: this test's process is one of many.
    fn ends(at: &str) -> (Sender, Receiver) {
        let low = std::process::id() % 60_000;
        let link = Link::new(&format!("udp://127.{}.{}.{at}", 1 + low / 255, 1 + low % 255)).unwrap();
        let receiver = link.receiver().unwrap();
        (link.sender().unwrap(), receiver)
    }

    fn datagram(number: u32, bytes: &[u8]) -> Vec<u8> {
        [&number.to_le_bytes()[..], &crc32fast::hash(bytes).to_le_bytes(), bytes].concat()
    }

    fn received(port: u16, datagrams: &[Vec<u8>]) -> Result<Received, Fault> {
        let ((sender, receiver), (back, _answers)) = (ends(&format!("1:{port}")), ends(&format!("2:{port}")));
        for datagram in datagrams {
            sender.send(datagram).unwrap();
        }
        recv_datagrams(&Wire { mechanism: Mechanism::Udp, sender: back, receiver })
    }

    fn end(number: u32) -> Vec<u8> {
        [END.to_le_bytes(), number.to_le_bytes()].concat()
    }

    #[test]
    fn datagrams_that_all_came_have_the_checksum_of_the_whole_in_any_order_and_twice() {
        let (one, two) = (datagram(0, b"two "), datagram(1, b"coffees"));
        let all = [two.clone(), one, two, Record::new(-7, Mechanism::Udp).bytes().to_vec(), end(2)];
        let received = received(21_001, &all).ok().unwrap();
        assert_eq!((received.bytes, received.messages), (11, 2));
        assert_eq!(received.crc32, crc32fast::hash(b"two coffees"));
    }

    #[test]
    fn datagrams_that_did_not_come_are_not_counted() {
        let received = received(21_003, &[datagram(0, b"two "), datagram(2, b"fees"), end(3)]).ok().unwrap();
        assert_eq!((received.bytes, received.messages, received.crc32), (8, 2, 0));
    }

    #[test]
    fn a_datagram_that_was_altered_is_a_failure() {
        let mut altered = datagram(0, b"two coffees");
        altered[12] ^= 1;
        assert!(received(21_005, &[altered, end(1)]).is_err());
    }
}
