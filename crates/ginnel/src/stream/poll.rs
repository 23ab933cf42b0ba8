//! Reading and writing in tasks: `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of tokio (feature `tokio`) and of futures-io (feature `smol`).
//!
//! ```text
//! poll: look --nothing--> arm the ear, listen --> look again --nothing--> Pending        (see `ready`)
//!       ^-------------------- the ear is called: bytes, room, the other end has gone
//! ```
//! Nothing of the link is held between two polls: bytes are copied in the poll that says so, or not at all. So a future that is dropped loses nothing.
//!
//! [I1] A writer says how much room it wants before it says that it listens, each time that it does, as that depends on what it is given to write.
//! [I2] Whether the other end has gone is asked before the last look at the ring, as when blocking.
//! [I3] Who was told to wait is called, even if a later poll finds what it waited for before the call came. A protocol may poll twice in a row, be told
//! to wait by the first, and rely on that, whatever the second says (hyper does): so it is with sockets, whose registration stays.

use super::reader::STEP;
use super::{Reader, Stream, Writer};
use crate::ready::Found;
use ginnel_core::{Bytes, Corrupt};
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker, ready};

#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

/// Calls who was told to wait before a poll that is done [I3].
fn keep_promise<T>(owed: Option<Waker>, polled: &Poll<T>) {
    if let (Some(waker), Poll::Ready(_)) = (owed, polled) {
        waker.wake();
    }
}

impl Reader {
    fn poll_there(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let ear = self.end().ear()?;
        let owed = ear.0.armed();
        let mut wait = self.end().polls.borrow_mut();
        let polled = wait.poll_told(cx, ear, |listens| self.look(listens), || self.again());
        drop(wait);
        keep_promise(owed, &polled);
        polled.map(|done| done.and_then(|found| found))
    }

    /// The bytes that are there, in place. None at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let bytes = ready!(self.poll_there(cx))?;
        Poll::Ready(Ok(self.slice(bytes)))
    }

    /// Reads up to `most` of them, piece by piece. How many; 0 at the end.
    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if most == 0 {
            return Poll::Ready(Ok(0));
        }
        let there = ready!(self.poll_there(cx))?;
        let len = there.len.min(most);
        let mut read = 0;
        while read < len {
            let piece = Bytes { offset: there.offset + read, len: STEP.min(len - read) };
            take(self.slice(piece));
            self.give_back(piece.len);
            read += piece.len;
        }
        Poll::Ready(Ok(read))
    }
}

impl Writer {
    /// One look, which writes what there is room for.
    fn look(
        &self,
        listens: bool,
        all: usize,
        put: impl Fn(&Self) -> Result<usize, Corrupt>,
    ) -> Found<io::Result<usize>> {
        if listens {
            let engine = self.end().engine();
            engine.want_room(&self.bytes, self.worth_waiting_for(all));
            self.end().listen(&engine.room());
        }
        if let Err(e) = self.check() {
            return Found::Done(Err(e));
        }
        match put(self) {
            Ok(0) => self.end().nothing(),
            Ok(written) => Found::Done(Ok(written)),
            Err(what) => Found::Done(Err(self.end().corrupted(what))),
        }
    }

    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        all: usize,
        put: impl Fn(&Self) -> Result<usize, Corrupt>,
    ) -> Poll<io::Result<usize>> {
        let ear = self.end().ear()?;
        if all == 0 {
            return Poll::Ready(Ok(0));
        }
        let owed = ear.0.armed();
        ear.0.disarm(); // so that it listens anew, with what it wants now [I1]
        let this = &*self;
        let mut wait = this.end().polls.borrow_mut();
        let polled = wait.poll_told(cx, ear, |listens| this.look(listens, all, &put), || this.end().again());
        drop(wait);
        keep_promise(owed, &polled);
        polled.map(|done| done.and_then(|written| written))
    }

    fn poll_one(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, bytes.len(), |this| this.write_there(bytes))
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        self.poll_put(cx, all, |this| this.write_parts(parts))
    }
}

impl Stream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.reader.as_mut().map_or(Poll::Ready(Ok(&[])), |reader| reader.poll_bytes(cx))
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>, most: usize, take: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        self.reader.as_mut().map_or(Poll::Ready(Ok(0)), |reader| reader.poll_pieces(cx, most, take))
    }

    fn poll_one(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writing()?.poll_one(cx, bytes)
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writing()?.poll_parts(cx, parts)
    }

    fn close(&mut self) {
        self.writer = None;
    }
}
