//! Messages in a stream of bytes: a pipe, a FIFO, a stream socket.
//!
//! ```text
//! piece  0  length of the bytes that follow the header   32 bits, little-endian
//!        4  tag                                          16
//!        6  flags: 1 more pieces follow, 2 not the first 16
//!        8  if a flag is set: who writes, a number of its own for each sender   64
//!        8 or 16  the bytes
//! ```
//!
//! A message is one piece, with no flag, if that fits into what the mechanism writes at once; otherwise several. On a pipe each piece is one write of up to
//! `PIPE_BUF` bytes, which the kernel keeps whole (`pipe(7)`): pieces of several senders mix, their bytes do not, and a sender that
//! is killed leaves pieces of a message whose last never comes, which nobody sees.
//!
//! [I1] A message is committed by its last piece. A first piece of a sender gives up what that sender had begun.
//! [I2] Lengths are a peer's: nothing is kept of a piece longer than the message may be, nor of more than [`BEGUN_MAX`] messages at once, of one
//! where each sender has a stream of its own.

use super::Blocked;
use crate::address::Frame;
use crate::error::SendFailure;
use ginnel_os::process;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

const HEADER: usize = 8;
const PIECE_HEADER: usize = 16;
const MORE: u16 = 1;
const REST: u16 = 2;

/// Messages that may be begun and not ended at once on a pipe: one for each sender.
pub(super) const BEGUN_MAX: usize = 64;
/// Bytes that are read at once, at the least.
pub(super) const READ: usize = 64 * 1024;

/// Turns a message into pieces of at most `most` bytes each, behind what `out` holds. The error says why this framing cannot carry it.
pub(super) fn encode(
    frame: Frame,
    out: &mut Vec<u8>,
    tag: u16,
    message: &[u8],
    most: usize,
    writer: u64,
) -> Result<(), &'static str> {
    match frame {
        Frame::Raw if message.is_empty() => {
            return Err("it is empty, which leaves no trace in a stream of bytes; use ?frame=length");
        }
        Frame::Raw => out.extend_from_slice(message),
        Frame::Line => {
            if message.contains(&b'\n') {
                return Err("it holds a newline, which ends a message here; use ?frame=length");
            }
            if most < PIECE && message.len() >= most {
                return Err("it is longer than a pipe writes at once (4096 bytes with its newline); use ?frame=length");
            }
            out.extend_from_slice(message);
            out.push(b'\n');
        }
        Frame::Length if message.len() <= most - HEADER => {
            header(out, message.len(), tag, 0);
            out.extend_from_slice(message);
        }
        Frame::Length => {
            let pieces = message.chunks(most - PIECE_HEADER);
            let last = pieces.len() - 1;
            for (index, piece) in pieces.enumerate() {
                let flags = if index < last { MORE } else { 0 } | if index > 0 { REST } else { 0 };
                header(out, piece.len(), tag, flags);
                out.extend_from_slice(&writer.to_le_bytes());
                out.extend_from_slice(piece);
            }
        }
    }
    Ok(())
}

fn header(out: &mut Vec<u8>, len: usize, tag: u16, flags: u16) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
}

/// Messages on their way into a stream, written by `write` calls that never wait.
///
/// A message is sent when all of it was written, and not before. If there is no more time, what is left of it waits here: the same message, sent again, goes on
/// where it was. Any other message gives it up, and the receiver never sees it, as a first piece takes back what came before it; but of a piece that
/// was cut the rest has to go first, and if that was the last one, the message arrives after all.
#[derive(Debug)]
pub(super) struct Encoder {
    frame: Frame,
    /// Largest message, in bytes.
    max: u64,
    cut: Cut,
    writer: u64,
    /// The message that is being sent, as it is written, and how much of it was.
    left: RefCell<Vec<u8>>,
    written: Cell<usize>,
    /// The next one, while there are two.
    next: RefCell<Vec<u8>>,
    /// Whether what is left is of the message that was given last, and not of one before it.
    is_last: Cell<bool>,
}

/// Where a mechanism may cut what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nowhere, up to so many bytes.
    Never(usize),
    /// Anywhere.
    Anywhere,
}

/// Bytes of a piece where the mechanism cuts anywhere: so much has to be ended of a message that is given up.
const PIECE: usize = 64 * 1024;

impl Encoder {
    pub(super) fn new(frame: Frame, max: u64, cut: Cut) -> Self {
        let (left, written, next) = (RefCell::default(), Cell::new(0), RefCell::default());
        Self { frame, max, cut, writer: writer(), left, written, next, is_last: Cell::new(false) }
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Whether a part of the message that was given last was written.
    pub(super) fn has_begun(&self) -> bool {
        self.is_last.get() && self.is_under_way()
    }

    fn is_under_way(&self) -> bool {
        self.written.get() > 0
    }

    /// Begins to send a message, or goes on with it if it is the one that was begun.
    pub(super) fn send(
        &self,
        tag: u16,
        message: &[u8],
        write: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> Result<(), Blocked> {
        if message.len() as u64 > self.max {
            return Err(Blocked::Failed(SendFailure::TooLarge { len: message.len(), max: self.max }));
        }
        self.is_last.set(false);
        let mut next = self.next.borrow_mut();
        next.clear();
        encode(self.frame, &mut next, tag, message, self.piece(), self.writer)
            .map_err(|why| Blocked::Failed(SendFailure::Unfit(why)))?;
        if self.is_under_way() && *self.left.borrow() != *next {
            self.end_piece();
            self.flush(&write)?;
        }
        self.is_last.set(true);
        if !self.is_under_way() {
            std::mem::swap(&mut *self.left.borrow_mut(), &mut *next);
        }
        drop(next);
        let result = self.flush(&write);
        if result.is_err() && !self.is_under_way() {
            self.forget();
        }
        result
    }

    /// Goes on with the message that was begun.
    pub(super) fn flush(&self, write: impl Fn(&[u8]) -> io::Result<usize>) -> Result<(), Blocked> {
        let left = self.left.borrow();
        let most = match self.cut {
            Cut::Never(most) => most,
            Cut::Anywhere => usize::MAX,
        };
        while self.written.get() < left.len() {
            let next = &left[self.written.get()..];
            let written = write(&next[..next.len().min(most)])?;
            self.written.set(self.written.get() + written);
        }
        drop(left);
        self.forget();
        Ok(())
    }

    /// Nobody is left to get the rest.
    pub(super) fn forget(&self) {
        self.left.borrow_mut().clear();
        self.written.set(0);
    }

    fn piece(&self) -> usize {
        match self.cut {
            Cut::Never(most) => most,
            Cut::Anywhere => PIECE,
        }
    }

    /// Forgets the pieces that were not begun.
    fn end_piece(&self) {
        if self.frame == Frame::Length {
            let end = self.written.get().next_multiple_of(self.piece());
            self.left.borrow_mut().truncate(end);
        }
    }
}

/// A number that no other sender on any machine has, as good as surely: the hasher's keys are random.
fn writer() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.write_u32(process::id());
    hasher.write_u64(process::now_ns());
    hasher.finish()
}

/// What a stream holds that is no message of this framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The length that it says, in bytes.
    pub(super) len: u64,
}

/// Messages out of a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    frame: Frame,
    /// Largest message, in bytes.
    max: usize,
    bytes: Vec<u8>,
    /// Of `bytes`, where what was read and not yet taken begins and ends.
    start: usize,
    end: usize,
    /// Of that, what was looked at for the end of a line.
    searched: usize,
    /// By sender, the one that was begun first in front.
    begun: VecDeque<(u64, Vec<u8>)>,
    /// So many of them at most.
    begun_max: usize,
}

impl Decoder {
    pub(super) fn new(frame: Frame, max: usize, begun_max: usize) -> Self {
        let (bytes, begun) = (Vec::new(), VecDeque::new());
        Self { frame, max, bytes, start: 0, end: 0, searched: 0, begun, begun_max }
    }

    /// Reads on: `read` fills in up to `most` bytes and says how many. As its result.
    pub(super) fn read<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        if self.start == self.end || self.start >= most {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.end..self.end + most;
        if self.bytes.len() < room.end {
            self.bytes.resize(room.end, 0);
        }
        let result = read(&mut self.bytes[room]);
        self.end += result.as_ref().map_or(0, |got| (*got).min(most));
        result
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The next message that was read, into `message`; its tag.
    pub(super) fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u16>, Malformed> {
        match self.frame {
            Frame::Length => self.next_piece(message),
            Frame::Line => self.next_line(message),
            Frame::Raw => {
                message.clear();
                message.extend_from_slice(&self.left()[..self.left().len().min(self.max)]);
                self.start += message.len();
                Ok((!message.is_empty()).then_some(0))
            }
        }
    }

    /// At the end of the stream: the last line, if it has no newline.
    pub(super) fn rest(&mut self, message: &mut Vec<u8>) -> Option<u16> {
        if self.frame != Frame::Line || self.left().is_empty() {
            return None;
        }
        message.clear();
        message.extend_from_slice(self.left());
        self.start = self.end;
        Some(0)
    }

    fn next_line(&mut self, message: &mut Vec<u8>) -> Result<Option<u16>, Malformed> {
        let left = &self.bytes[self.start..self.end];
        match left[self.searched.min(left.len())..].iter().position(|byte| *byte == b'\n') {
            Some(at) if self.searched + at > self.max => Err(Malformed { len: (self.searched + at) as u64 }),
            Some(at) => {
                let end = self.searched + at;
                message.clear();
                message.extend_from_slice(&left[..end]);
                self.start += end + 1;
                self.searched = 0;
                Ok(Some(0))
            }
            None if left.len() > self.max => Err(Malformed { len: left.len() as u64 }),
            None => {
                self.searched = left.len();
                Ok(None)
            }
        }
    }

    fn next_piece(&mut self, message: &mut Vec<u8>) -> Result<Option<u16>, Malformed> {
        loop {
            let left = &self.bytes[self.start..self.end];
            let Some((head, _)) = left.split_first_chunk::<HEADER>() else { return Ok(None) };
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let tag = u16::from_le_bytes([head[4], head[5]]);
            let flags = u16::from_le_bytes([head[6], head[7]]);
            if len > self.max || flags > MORE | REST {
                return Err(Malformed { len: len as u64 });
            }
            let at = if flags == 0 { HEADER } else { PIECE_HEADER };
            if left.len() < at + len {
                return Ok(None);
            }
            let writer =
                left[..at].get(HEADER..).and_then(|writer| writer.first_chunk::<8>()).map(|w| u64::from_le_bytes(*w));
            let piece = self.start + at..self.start + at + len;
            self.start = piece.end;
            let Some(writer) = writer else {
                message.clear();
                message.extend_from_slice(&self.bytes[piece]);
                return Ok(Some(tag));
            };
            let (first, whole) = (flags & REST == 0, flags & MORE == 0);
            let at = self.begun.iter().position(|(who, _)| *who == writer);
            let at = match at {
                Some(at) if first => {
                    self.begun.remove(at);
                    self.begin(writer)
                }
                None if first => self.begin(writer),
                Some(at) => at,
                None => continue, // its first piece came before this end was there, or was given up
            };
            let (begun, bytes) = (&mut self.begun[at].1, &self.bytes[piece]);
            if begun.len() + bytes.len() > self.max {
                return Err(Malformed { len: (begun.len() + bytes.len()) as u64 });
            }
            begun.extend_from_slice(bytes);
            if whole {
                *message = self.begun.remove(at).map_or_else(Vec::new, |(_, message)| message);
                return Ok(Some(tag));
            }
        }
    }
}

impl Decoder {
    /// A place for the message of a sender that begins one; where it is.
    fn begin(&mut self, writer: u64) -> usize {
        if self.begun.len() >= self.begun_max {
            self.begun.pop_front(); // of one that is long dead, most likely
        }
        self.begun.push_back((writer, Vec::new()));
        self.begun.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(decoder: &mut Decoder, bytes: &[u8]) {
        for chunk in bytes.chunks(READ) {
            let read = decoder.read(READ, |room| {
                room[..chunk.len()].copy_from_slice(chunk);
                Ok::<_, ()>(chunk.len())
            });
            assert_eq!(read, Ok(chunk.len()));
        }
    }

    fn all(decoder: &mut Decoder) -> Vec<(u16, Vec<u8>)> {
        let mut message = Vec::new();
        let mut all = Vec::new();
        while let Some(tag) = decoder.next(&mut message).unwrap() {
            all.push((tag, message.clone()));
        }
        all
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let messages: Vec<Vec<u8>> =
            [0, 1, 4087, 4088, 4089, 4096, 8160, 8161, 100_000].iter().map(|len| vec![*len as u8; *len]).collect();
        for cut in [1, 7, 4096, 65536] {
            let mut out = Vec::new();
            for (tag, message) in messages.iter().enumerate() {
                encode(Frame::Length, &mut out, tag as u16, message, 4096, 9).unwrap();
            }
            let (mut decoder, mut got) = (Decoder::new(Frame::Length, 100_000, BEGUN_MAX), Vec::new());
            for chunk in out.chunks(cut) {
                feed(&mut decoder, chunk);
                got.extend(all(&mut decoder));
            }
            assert!(got.iter().map(|(_, m)| m).eq(&messages));
            assert!(got.iter().map(|(tag, _)| usize::from(*tag)).eq(0..messages.len()));
        }
    }

    #[test]
    fn pieces_are_whole_writes() {
        let mut out = Vec::new();
        encode(Frame::Length, &mut out, 0, &[1; 10_000], 4096, 9).unwrap();
        let lens: Vec<u32> = out.chunks(4096).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]])).collect();
        assert_eq!(lens, [4080, 4080, 1840]);
    }

    #[test]
    fn pieces_of_two_senders_mix() {
        let (mut a, mut b, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
        encode(Frame::Length, &mut a, 1, &[1; 9000], 4096, 1).unwrap();
        encode(Frame::Length, &mut b, 2, &[2; 9000], 4096, 2).unwrap();
        for (a, b) in a.chunks(4096).zip(b.chunks(4096)) {
            mixed.extend_from_slice(a);
            mixed.extend_from_slice(b);
        }
        let mut decoder = Decoder::new(Frame::Length, 9000, BEGUN_MAX);
        feed(&mut decoder, &mixed);
        assert_eq!(all(&mut decoder), [(1, vec![1; 9000]), (2, vec![2; 9000])]);
    }

    #[test]
    fn what_a_killed_sender_began_vanishes() {
        let (mut begun, mut next) = (Vec::new(), Vec::new());
        encode(Frame::Length, &mut begun, 1, &[1; 9000], 4096, 1).unwrap();
        encode(Frame::Length, &mut next, 2, &[2; 5000], 4096, 1).unwrap();
        begun.truncate(4096);
        let mut decoder = Decoder::new(Frame::Length, 9000, BEGUN_MAX);
        feed(&mut decoder, &begun);
        feed(&mut decoder, &next);
        assert_eq!(all(&mut decoder), [(2, vec![2; 5000])]);
        // The rest of a message whose beginning somebody else read.
        let mut decoder = Decoder::new(Frame::Length, 9000, BEGUN_MAX);
        let mut whole = Vec::new();
        encode(Frame::Length, &mut whole, 1, &[1; 9000], 4096, 1).unwrap();
        feed(&mut decoder, &whole[4096..]);
        assert_eq!(all(&mut decoder), []);
    }

    #[test]
    fn lies_are_refused() {
        let mut message = Vec::new();
        for (bytes, len) in [(&b"\xff\xff\xff\xff\0\0\0\0"[..], u64::from(u32::MAX)), (b"\x01\0\0\0\0\0\x04\0", 1)] {
            let mut decoder = Decoder::new(Frame::Length, 100, BEGUN_MAX);
            feed(&mut decoder, bytes);
            assert_eq!(decoder.next(&mut message), Err(Malformed { len }));
        }
        // A message of pieces that together are too long.
        let mut out = Vec::new();
        encode(Frame::Length, &mut out, 0, &[0; 200], 100, 1).unwrap();
        let mut decoder = Decoder::new(Frame::Length, 100, BEGUN_MAX);
        feed(&mut decoder, &out);
        assert!(matches!(decoder.next(&mut message), Err(Malformed { .. })));
        // Many that begin and never end: no more is kept than one for each of so many senders.
        let mut decoder = Decoder::new(Frame::Length, 100, BEGUN_MAX);
        for writer in 0..2 * BEGUN_MAX as u64 {
            let mut out = Vec::new();
            encode(Frame::Length, &mut out, 0, &[0; 90], 66, writer).unwrap();
            feed(&mut decoder, &out[..66]);
            assert_eq!(decoder.next(&mut message), Ok(None));
        }
        assert_eq!(decoder.begun.len(), BEGUN_MAX);
    }

    #[test]
    fn lines() {
        let mut decoder = Decoder::new(Frame::Line, 10, BEGUN_MAX);
        let mut message = Vec::new();
        feed(&mut decoder, b"one\n\ntw");
        assert_eq!(all(&mut decoder), [(0, b"one".to_vec()), (0, Vec::new())]);
        feed(&mut decoder, b"o\nthree");
        assert_eq!(all(&mut decoder), [(0, b"two".to_vec())]);
        assert_eq!((decoder.rest(&mut message), &message[..]), (Some(0), &b"three"[..]));
        assert_eq!(decoder.rest(&mut message), None);
        feed(&mut decoder, b"more than ten bytes");
        assert!(decoder.next(&mut message).is_err());
        let mut decoder = Decoder::new(Frame::Line, 10, BEGUN_MAX);
        feed(&mut decoder, b"exactly 10\nmore than ten bytes\n");
        assert_eq!(decoder.next(&mut message), Ok(Some(0)));
        assert_eq!(decoder.next(&mut message), Err(Malformed { len: 19 }));
        assert!(encode(Frame::Line, &mut Vec::new(), 0, b"a\nb", 4096, 0).is_err());
    }

    #[test]
    fn raw() {
        let mut decoder = Decoder::new(Frame::Raw, 10, BEGUN_MAX);
        feed(&mut decoder, b"anything");
        assert_eq!(all(&mut decoder), [(0, b"anything".to_vec())]);
        feed(&mut decoder, b"more than ten");
        assert_eq!(all(&mut decoder), [(0, b"more than ".to_vec()), (0, b"ten".to_vec())]);
        assert!(encode(Frame::Raw, &mut Vec::new(), 0, b"", 4096, 0).is_err());
    }
}
