//! The writing end of one way of a connection.

use super::end::End;
use super::route::Routes;
use crate::wait::{Interrupter, Until};
use ginnel_core::{ByteWriter, Corrupt};
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::time::Duration;

/// Bytes that are published together: the reader goes on while the rest is written.
const STEP: usize = 32 * 1024;

/// The writing half of a [`Stream`](super::Stream). Dropping it closes that way: the peer reads what was written, then the end.
pub struct Writer {
    // Before the end: nothing of the ring's is used after its membership is gone.
    pub(super) bytes: ByteWriter,
    routes: Routes,
    end: End,
}

impl Writer {
    pub(super) fn new(end: End) -> Self {
        Self { bytes: end.engine().byte_writer(end.membership.me), routes: Routes::default(), end }
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// How long writing waits for room; see [`Stream::set_write_timeout`](super::Stream::set_write_timeout).
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.end.set_timeout(timeout)
    }

    /// Whether writing fails with `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.end.set_nonblocking(nonblocking);
    }

    /// Ends the waiting of this handle from another thread: the write fails with `ConnectionAborted`, or says how much was written.
    pub fn interrupter(&self) -> Interrupter {
        self.end.interrupter()
    }

    /// Writes as much as there is room for, without waiting, whether [nonblocking](Self::set_nonblocking) or not.
    ///
    /// # Errors
    /// `WouldBlock`: there is no room now. Else as writing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_until(bytes, Until::Now)
    }

    /// Everything, or as much as was written before it failed.
    fn write_until(&self, bytes: &[u8], until: Until) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.check()?;
        let mut left = bytes;
        loop {
            let written = self.write_there(left).map_err(|what| self.end.corrupted(what));
            let waited = match written {
                Ok(written) => {
                    left = &left[written..];
                    if left.is_empty() {
                        return Ok(bytes.len());
                    }
                    self.wait_for_room(left.len(), until)
                }
                Err(error) => Err(error),
            };
            match waited {
                Ok(()) => {}
                Err(_) if left.len() < bytes.len() => return Ok(bytes.len() - left.len()), // the next call says why
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it makes sense to write.
    #[inline]
    pub(super) fn check(&self) -> io::Result<()> {
        self.end.check()?;
        match self.end.gone() {
            None => Ok(()),
            Some(gone) => Err(self.end.gone_error(gone)),
        }
    }

    /// Writes as much as there is room for.
    #[inline]
    pub(super) fn write_there(&self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let mut written = 0;
        for part in bytes.chunks(STEP) {
            let len = self.put(0, part)?;
            self.publish(len);
            written += len;
            if len < part.len() {
                break;
            }
        }
        Ok(written)
    }

    /// Copies as much of a part as there is room for.
    #[inline]
    fn put(&self, ahead: usize, part: &[u8]) -> Result<usize, Corrupt> {
        self.routes.copy(part.len(), |route| self.end.engine().put(&self.bytes, ahead, part, route))
    }

    #[inline]
    fn publish(&self, len: usize) {
        if len > 0 {
            self.end.engine().publish(&self.bytes, len);
            self.end.region().wake_receivers();
        }
    }

    /// Waits for room for so many bytes, or half of the ring: it pays to be woken for much.
    #[cold]
    fn wait_for_room(&self, len: usize, until: Until) -> io::Result<()> {
        let engine = self.end.engine();
        // Who does not wait here may be waiting elsewhere, for any room.
        let wanted = if matches!(until, Until::Now) { 1 } else { self.worth_waiting_for(len) };
        engine.want_room(&self.bytes, wanted);
        let look = || engine.room_for(&self.bytes, wanted).map(|room| (room >= wanted).then_some(()));
        self.end.wait(&engine.room(), until, look).map(|_| ())
    }

    /// How much room who has so many bytes waits for.
    pub(super) fn worth_waiting_for(&self, len: usize) -> usize {
        let half = self.end.engine().layout().geometry().capacity as usize / 2;
        len.min(half)
    }

    /// Several pieces as if they were one, as many as there is room for; waits if there is none.
    fn write_vectored_until(&self, parts: &[IoSlice<'_>], until: Until) -> io::Result<usize> {
        let all: usize = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        if all == 0 {
            return Ok(0);
        }
        self.check()?;
        loop {
            match self.write_parts(parts) {
                Ok(0) => self.wait_for_room(all, until)?,
                Ok(written) => return Ok(written),
                Err(what) => return Err(self.end.corrupted(what)),
            }
        }
    }

    /// Closes this way before the handle goes.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(super) fn close(&mut self) {
        self.end_if_refused();
        self.end.close();
    }

    fn end_if_refused(&self) {
        if self.end.is_refused() {
            // Nobody will read what is in it. An error leaves it for `clean`.
            let _ = self.end.region().end(true);
        }
    }

    /// Whether any of it fits: several parts are published at once.
    pub(super) fn write_parts(&self, parts: &[IoSlice<'_>]) -> Result<usize, Corrupt> {
        let mut written = 0;
        for part in parts {
            let len = self.put(written, part)?;
            written += len;
            if len < part.len() {
                break;
            }
        }
        self.publish(written);
        Ok(written)
    }
}

impl Write for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

/// As std's streams: by a shared reference, too.
impl Write for &Writer {
    /// Waits until everything is written, unless it cannot be.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_until(bytes, self.end.until())
    }

    /// Writes several pieces as if they were one, as many as there is room for; waits if there is none.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored_until(parts, self.end.until())
    }

    /// Nothing: what was written can be read already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end_if_refused();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.end.engine().bytes_waiting();
        f.debug_struct("Writer")
            .field("link", self.end.region().link())
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
