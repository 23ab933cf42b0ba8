//! The reading end of one way of a connection.

use super::end::End;
use crate::ready::{Again, Ear, Found};
use crate::wait::{Interrupter, Until};
use ginnel_core::{ByteReader, Bytes};
use std::fmt;
use std::io::{self, BufRead, IoSliceMut, Read};
use std::sync::Arc;
use std::time::Duration;

/// After so many bytes that were copied out, their room is given back: the writer goes on while the rest is read.
pub(super) const STEP: usize = 32 * 1024;

/// The reading half of a [`Stream`](super::Stream). Dropping it closes that way: the peer's writing fails with `BrokenPipe`.
///
/// `BufRead` reads without copying: [`fill_buf`](BufRead::fill_buf) gives the bytes where they lie.
pub struct Reader {
    // Before the end: nothing of the ring's is used after its membership is gone.
    pub(super) bytes: ByteReader,
    end: End,
}

impl Reader {
    pub(super) fn new(end: End) -> Self {
        Self { bytes: end.engine().byte_reader(end.membership.me), end }
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// How long reading waits; see [`Stream::set_read_timeout`](super::Stream::set_read_timeout).
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.end.set_timeout(timeout)
    }

    /// Whether reading fails with `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.end.set_nonblocking(nonblocking);
    }

    /// Ends the waiting of this handle from another thread: the read fails with `ConnectionAborted`.
    pub fn interrupter(&self) -> Interrupter {
        self.end.interrupter()
    }

    /// Reads what is there, without waiting, whether [nonblocking](Self::set_nonblocking) or not. 0 bytes are the end.
    ///
    /// # Errors
    /// `WouldBlock`: there is nothing now. Else as reading.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.read_bytes_until(bytes, Until::Now)
    }

    /// The bytes that are there, in place, without waiting. None at the end.
    ///
    /// # Errors
    /// `WouldBlock`: there is nothing now. Else as reading.
    pub fn try_fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.fill(Until::Now)?;
        Ok(self.slice(bytes))
    }

    fn read_bytes_until(&self, to: &mut [u8], until: Until) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        self.end.check()?;
        let read = self.read_there(to)?;
        if read > 0 {
            return Ok(read);
        }
        self.fill(until)?;
        self.read_there(to)
    }

    /// Reads what is there.
    #[inline]
    fn read_there(&self, to: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        for part in to.chunks_mut(STEP) {
            let len = match self.end.engine().get(&self.bytes, part) {
                Ok(len) => len,
                Err(_) if read > 0 => return Ok(read), // the next call says so
                Err(what) => return Err(self.end.corrupted(what)),
            };
            self.give_back(len);
            read += len;
            if len < part.len() {
                break;
            }
        }
        Ok(read)
    }

    #[inline]
    pub(super) fn give_back(&self, len: usize) {
        if len > 0 {
            if let Some(called) = self.end.engine().consume(&self.bytes, len) {
                self.end.region().wake_writer(called);
            }
        }
    }

    fn read_parts(&self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut read = 0;
        for part in parts.iter_mut().filter(|part| !part.is_empty()) {
            let len = match read {
                0 => self.read_bytes_until(part, self.end.until())?,
                _ => self.read_there(part).unwrap_or(0),
            };
            read += len;
            if len < part.len() {
                break;
            }
        }
        Ok(read)
    }

    /// One look for bytes, which does not wait: see `ready`. None at the end.
    pub(crate) fn look(&self, listens: bool) -> Found<io::Result<Bytes>> {
        if listens {
            self.end.listen(&self.end.engine().items());
        }
        match self.fill(Until::Now) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.end.nothing(),
            done => Found::Done(done),
        }
    }

    /// What tells when to look again.
    pub(crate) fn again(&self) -> Again<'_> {
        self.end.again()
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.end.add_ear(ear)
    }

    /// Waits until there is something, or the end.
    pub(super) fn fill(&self, until: Until) -> io::Result<Bytes> {
        self.end.check()?;
        let (engine, nothing) = (self.end.engine(), Bytes { offset: 0, len: 0 });
        let look = || engine.readable(&self.bytes, 1).map(|bytes| (bytes.len > 0).then_some(bytes));
        match look() {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => self.end.wait(&engine.items(), until, look).map(|found| found.unwrap_or(nothing)),
            Err(what) => Err(self.end.corrupted(what)),
        }
    }

    #[allow(unsafe_code)] // Makes a slice of bytes that the writer leaves alone until they are consumed.
    pub(super) fn slice(&self, bytes: Bytes) -> &[u8] {
        let place = self.end.engine().memory().bytes(bytes.offset, bytes.len);
        // SAFETY: as many bytes of the mapping, checked just now, which lives as long as this handle. They were published, and the writer
        // leaves them alone until they are consumed, for which this handle must be borrowed anew; a writer that does not follow the protocol
        // could as well change this process's own memory (same uid; see SECURITY.md).
        unsafe { std::slice::from_raw_parts(place.as_ptr(), bytes.len) }
    }
}

impl Read for Reader {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.read_bytes_until(bytes, self.end.until())
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_parts(parts)
    }
}

/// As std's streams: who waits for several, and so has lent the reader to a [`Select`](crate::Select), reads by reference.
impl Read for &Reader {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.read_bytes_until(bytes, self.end.until())
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_parts(parts)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.fill(self.end.until())?;
        Ok(self.slice(bytes))
    }

    /// Gives the room of so many bytes back to the writer.
    ///
    /// # Panics
    /// If [`fill_buf`](BufRead::fill_buf) gave fewer.
    fn consume(&mut self, len: usize) {
        if self.end.region().is_ours() {
            self.give_back(len);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.end.engine().bytes_waiting();
        f.debug_struct("Reader")
            .field("link", self.end.region().link())
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
