//! The ring of a stream: bytes without messages, from one writer to one reader. The classic ring of one producer and one consumer (Lamport, 1977), with
//! the peer's position cached (as in rtrb and s2n-quic).
//!
//! ```text
//!            head: the reader's          tail: the writer's
//!                 v                           v
//!  ring, once     |===== bytes to be read ====|     free     | ring, once more, by the second mapping |
//!                 <------ [`Engine::readable`] one range, also where it passes the end of the ring --->
//! ```
//! A position counts bytes from 0 for ever; its lowest bits are its place. The region is mapped with the ring twice, back to back, so every range
//! that begins in the ring and is not longer than it is one range of addresses.
//!
//! The writer copies bytes in, then stores the tail: that publishes them. The reader copies out, or looks at them in place, then stores the head: that
//! gives their room back. Each is one store, so a kill leaves nothing to repair: what was not published is not there, what was not given back is read
//! again by nobody, as a reader that died has no successor that it could mislead.
//!
//! Who waits for room is woken when there is as much as it wants (`wanted`), and not for each byte.
//!
//! [I1] `tail` is stored by the writer alone, `head` by the reader alone, and each works with a copy of its own.
//! [I2] head <= tail <= head + capacity, and neither goes back. A peer's position that breaks this is an error.
//! [I3] Every access begins below the capacity and is not longer than it: positions are masked, lengths bounded by [I2].
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S13] | `tail` store, `publish` | `tail` load, `readable`, `bytes_waiting` | the bytes below |
//! | [S14] | `head` store, `consume` | `head` load, `room_for` | that the bytes below were read |
//! | [S15] | `head` store, light fence, `wanted` load | `wanted` store, arm with its heavy fence, `head` load | store before load on both sides |

use crate::engine::{Corrupt, Engine};
use crate::event::Called;
use crate::header::{HEAD, TAIL, WANTED};
use crate::memory::Route;
use crate::participants::Participant;
use crate::sync::{Acquire, Relaxed, Release};
use core::cell::Cell;

/// The writing end of a stream's ring.
#[derive(Debug)]
pub struct ByteWriter {
    me: Participant,
    /// Bytes below are published.
    tail: Cell<u64>,
    /// Bytes below were read, when last looked.
    head_seen: Cell<u64>,
}

/// The reading end of a stream's ring.
#[derive(Debug)]
pub struct ByteReader {
    me: Participant,
    /// Bytes below were given back.
    head: Cell<u64>,
    /// Bytes below are published, when last looked.
    tail_seen: Cell<u64>,
}

/// A range of the region: bytes of the stream that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Offset in the region.
    pub offset: usize,
    /// How many.
    pub len: usize,
}

impl Engine {
    /// The writing end for a participant that joined as the one sender of a stream.
    ///
    /// # Panics
    /// If the link has another shape.
    pub fn byte_writer(&self, me: Participant) -> ByteWriter {
        assert!(self.layout().stream_ring().is_some(), "a link without a ring of bytes");
        // ORDERING: relaxed; the last writer is gone, which the membership said.
        let tail = self.control(TAIL).load(Relaxed);
        // As if the ring were full: the first write looks.
        let head_seen = tail.wrapping_sub(self.layout().stream_bytes());
        ByteWriter { me, tail: Cell::new(tail), head_seen: Cell::new(head_seen) }
    }

    /// The reading end for a participant that joined as the one receiver of a stream.
    ///
    /// # Panics
    /// If the link has another shape.
    pub fn byte_reader(&self, me: Participant) -> ByteReader {
        assert!(self.layout().stream_ring().is_some(), "a link without a ring of bytes");
        // ORDERING: relaxed; the last reader is gone, which the membership said.
        let head = self.control(HEAD).load(Relaxed);
        ByteReader { me, head: Cell::new(head), tail_seen: Cell::new(head) }
    }

    // ---- writing

    /// How many bytes can be written. Less than there are, perhaps, but not less than `wanted` if there is room for as many.
    ///
    /// # Errors
    /// If the reader's position is impossible.
    #[inline]
    pub fn room_for(&self, writer: &ByteWriter, wanted: usize) -> Result<usize, Corrupt> {
        let (tail, capacity) = (writer.tail.get(), self.layout().stream_bytes());
        let used = tail.wrapping_sub(writer.head_seen.get());
        let free = capacity - used;
        if free >= (wanted as u64).min(capacity) {
            return Ok(free as usize);
        }
        // ORDERING [S14] [S15]: acquire; the reader is done with the bytes below.
        let head = self.control(HEAD).load(Acquire);
        let used_now = tail.wrapping_sub(head);
        if used_now > used {
            return Err(Corrupt::Position); // it went back, or passed the tail [I2]
        }
        writer.head_seen.set(head);
        Ok((capacity - used_now) as usize)
    }

    /// Where the next bytes go, up to `most`: write them there, then [`Self::publish`] them.
    ///
    /// # Errors
    /// If the reader's position is impossible.
    pub fn writable(&self, writer: &ByteWriter, most: usize) -> Result<Bytes, Corrupt> {
        let len = self.room_for(writer, most)?.min(most);
        Ok(Bytes { offset: self.layout().stream_byte(writer.tail.get()), len })
    }

    /// Copies as many bytes as there is room for to the place `ahead` bytes behind the tail, by a route, without publishing them. How many.
    ///
    /// # Errors
    /// If the reader's position is impossible.
    #[inline]
    pub fn put(&self, writer: &ByteWriter, ahead: usize, bytes: &[u8], route: Route) -> Result<usize, Corrupt> {
        let room = self.room_for(writer, ahead.saturating_add(bytes.len()))?;
        let len = bytes.len().min(room.saturating_sub(ahead));
        if len > 0 {
            let at = self.layout().stream_byte(writer.tail.get().wrapping_add(ahead as u64));
            self.memory().copy_in_by(route, at, &bytes[..len]);
        }
        Ok(len)
    }

    /// Makes the next `len` bytes the reader's. Notify [`Self::items`].
    ///
    /// # Panics
    /// If there was no room for as many.
    #[inline]
    pub fn publish(&self, writer: &ByteWriter, len: usize) {
        let tail = writer.tail.get().wrapping_add(len as u64);
        let used = tail.wrapping_sub(writer.head_seen.get());
        assert!(len as u64 <= used && used <= self.layout().stream_bytes(), "more bytes than there was room for");
        writer.tail.set(tail);
        // ORDERING [S13]: release; the bytes were written before.
        self.control(TAIL).store(tail, Release);
        self.count_message(writer.me, len);
    }

    /// Says how much room the writer is about to wait for: it is woken when there is as much. Before [`Event::arm`](crate::Event::arm), as it
    /// is announced with that.
    pub fn want_room(&self, writer: &ByteWriter, wanted: usize) {
        let capacity = self.layout().stream_bytes();
        let end = writer.tail.get().wrapping_add((wanted as u64).min(capacity));
        // ORDERING [S15]: relaxed; the heavy fence of the announcement that follows orders it before the writer looks again.
        self.control(WANTED).store(end.wrapping_sub(capacity), Relaxed);
    }

    // ---- reading

    /// The bytes that can be read, in one range, whether it passes the end of the ring or not. Less than there are, perhaps, but not
    /// less than `wanted` if there are as many. They stay as they are until they are [consumed](Self::consume).
    ///
    /// # Errors
    /// If the writer's position is impossible.
    #[inline]
    pub fn readable(&self, reader: &ByteReader, wanted: usize) -> Result<Bytes, Corrupt> {
        let (head, capacity) = (reader.head.get(), self.layout().stream_bytes());
        let mut len = reader.tail_seen.get().wrapping_sub(head);
        if len < (wanted as u64).min(capacity) {
            // ORDERING [S13]: acquire; the bytes below were written.
            let tail = self.control(TAIL).load(Acquire);
            let now = tail.wrapping_sub(head);
            if now < len || now > capacity {
                return Err(Corrupt::Position); // it went back, or too far [I2]
            }
            reader.tail_seen.set(tail);
            len = now;
        }
        Ok(Bytes { offset: self.layout().stream_byte(head), len: len as usize })
    }

    /// Copies the next bytes out. How many; they are not consumed.
    ///
    /// # Errors
    /// If the writer's position is impossible.
    #[inline]
    pub fn get(&self, reader: &ByteReader, to: &mut [u8]) -> Result<usize, Corrupt> {
        let bytes = self.readable(reader, to.len())?;
        let len = bytes.len.min(to.len());
        if len > 0 {
            self.memory().copy_out(bytes.offset, &mut to[..len]);
        }
        Ok(len)
    }

    /// Gives the room of the next `len` bytes back. If the writer waits for that: then wake it, as [`Self::room`] says.
    ///
    /// # Panics
    /// If there were not as many.
    #[inline]
    pub fn consume(&self, reader: &ByteReader, len: usize) -> Option<Called> {
        let waiting = reader.tail_seen.get().wrapping_sub(reader.head.get());
        assert!(len as u64 <= waiting, "more bytes than there were");
        let head = reader.head.get().wrapping_add(len as u64);
        reader.head.set(head);
        // ORDERING [S14] [S15]: release; the bytes were read before. The light fence orders it before what follows.
        self.control(HEAD).store(head, Release);
        self.count_message(reader.me, len);
        self.fences().light();
        // ORDERING [S15]: relaxed after the light fence. A wrong value of the writer's harms itself alone.
        let wanted = self.control(WANTED).load(Relaxed);
        if (head.wrapping_sub(wanted) as i64) < 0 {
            return None;
        }
        self.room().notify()
    }

    // ---- looking

    /// Bytes of a stream that were written and not read, as far as one look can tell; 0 of any other shape.
    pub fn bytes_waiting(&self) -> u64 {
        if self.layout().stream_ring().is_none() {
            return 0;
        }
        // ORDERING [S14]: acquire; the head first, so that it is not beyond the tail.
        let head = self.control(HEAD).load(Acquire);
        // ORDERING [S13]: acquire; with the same right as the reader.
        let tail = self.control(TAIL).load(Acquire);
        tail.wrapping_sub(head).min(self.layout().stream_bytes())
    }
}
