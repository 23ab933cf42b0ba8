//! A stream of bytes of ginnel as a mechanism to be measured: the receiver (answerer) listens, the sender (asker) connects.

use std::cell::RefCell;
use std::io::{BufRead, Read, Write};
use std::time::{Duration, Instant};

use ginnel::ErrorKind;
use ginnel::stream::{Listener, Reader, Stream, Writer};

use crate::ginnel_link::{Removed, fresh_address, wait_option};
use crate::{Case, Failure, Inlet, Mechanism, Outlet, Way};

/// How long the other process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are looked at before they are given back, so that the writer goes on meanwhile.
const PIECE: usize = 64 << 10;

/// A connection, made when the first handle of a process is opened.
pub(crate) struct Connection {
    address: String,
    size: usize,
    in_place: bool,
    /// The halves that nobody has asked for yet.
    halves: RefCell<Option<(Option<Reader>, Option<Writer>)>>,
    _removed: Removed,
}

impl Connection {
    /// One whose bytes are read by a copy, or summed where they lie.
    pub(crate) fn new(case: &Case, in_place: bool) -> Result<Self, Failure> {
        let address = fresh_address();
        let removed = Removed::new(&address);
        let address = format!("{address}?{}", wait_option(case));
        Ok(Self { address, size: case.size, in_place, halves: RefCell::default(), _removed: removed })
    }

    /// Has the halves of this process's end, and makes the connection if that is not made yet.
    fn halves<R>(
        &self,
        connects: bool,
        choose: impl FnOnce(&mut (Option<Reader>, Option<Writer>)) -> Option<R>,
    ) -> Result<R, Failure> {
        let mut halves = self.halves.borrow_mut();
        if halves.is_none() {
            let stream = if connects { self.connect()? } else { self.accept()? };
            *halves = Some(stream.into_halves());
        }
        halves.as_mut().and_then(choose).ok_or_else(|| Failure::new("that half is in use"))
    }

    fn accept(&self) -> Result<Stream, Failure> {
        let listener = Listener::bind(&self.address).map_err(Failure::new)?;
        let stream = listener.accept_timeout(PATIENCE).map_err(Failure::new)?;
        stream.ok_or_else(|| Failure::new(format_args!("nobody connected within {PATIENCE:?}")))
    }

    fn connect(&self) -> Result<Stream, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Stream::connect(&self.address) {
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Refused) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other.map_err(Failure::new),
            }
        }
    }
}

impl Mechanism for Connection {
    type Out = WriteEnd;
    type In = ReadEnd;

    fn sender(&self, way: Way) -> Result<WriteEnd, Failure> {
        let writer = self.halves(way == Way::There, |(_, writer)| writer.take())?;
        Ok(WriteEnd { writer, buffer: vec![0; self.size] })
    }

    fn receiver(&self, way: Way) -> Result<ReadEnd, Failure> {
        let reader = self.halves(way == Way::Back, |(reader, _)| reader.take())?;
        Ok(ReadEnd { reader, buffer: vec![0; self.size], in_place: self.in_place })
    }
}

/// The half that writes.
pub(crate) struct WriteEnd {
    writer: Writer,
    buffer: Vec<u8>,
}

impl Outlet for WriteEnd {
    #[inline]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        fill(&mut self.buffer[..len]);
        Ok(self.writer.write_all(&self.buffer[..len])?)
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(message)?)
    }
}

/// The half that reads.
pub(crate) struct ReadEnd {
    reader: Reader,
    buffer: Vec<u8>,
    in_place: bool,
}

impl Inlet for ReadEnd {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        self.reader.read_exact(&mut self.buffer)?;
        Ok(take(&self.buffer))
    }

    #[inline]
    fn recv(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let len = self.buffer.len().min(into.len());
        self.reader.read_exact(&mut into[..len])?;
        Ok(len)
    }

    fn recv_pieces(&mut self, room: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        if !self.in_place {
            self.reader.read_exact(room)?;
            take(room);
            return Ok(());
        }
        let mut due = room.len();
        while due > 0 {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(Failure::new("the stream ended"));
            }
            let len = bytes.len().min(due).min(PIECE);
            take(&bytes[..len]);
            self.reader.consume(len);
            due -= len;
        }
        Ok(())
    }
}
