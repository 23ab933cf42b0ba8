//! Streams of bytes between two processes, or two threads: [`Listener`] and [`Stream`], used as std's `UnixListener` and `UnixStream` are. The bytes
//! lie in shared memory, are copied once by who writes and once by who reads, or are read in place; nobody makes a system call unless somebody sleeps.
//!
//! ```text
//!  connect                         shm:web                              accept
//!     | 1. makes two links    shm:web~4711-1.up     ---- bytes ---->      | 3. joins them, and removes their names
//!     |    of one way each    shm:web~4711-1.down   <--- bytes -----      |
//!     | 2. "4711-1"  ------>  the listener's queue  --------------->      |
//! ```
//!
//! | concept | file |
//! |---|---|
//! | asking for a connection; what happens until it is accepted | `call` |
//! | accepting | `listener` |
//! | one way of a connection: who is at its other end, waiting | `end` |
//! | its two ends | `reader`, `writer` |
//! | through the caches or past them | `route` |
//! | reading and writing in tasks: `AsyncRead`, `AsyncWrite` | `poll` |
//!
//! **Death.** What a killed peer had written arrives; then reading fails with `ConnectionReset`. A peer that left in good order is the end of the stream.
//! Writing to one that is gone fails with `BrokenPipe`. Whoever is blocked is told within 100 ms.
//!
//! **Differences from a Unix socket.** No descriptor is behind a stream; a forked child cannot use its parent's. There is no `try_clone`:
//! [`Stream::split`] gives the two halves, each with one owner, as each end of a ring has one position. A time-out is `TimedOut`.
//! A connection that its client closed before it was accepted, without writing anything, is not seen by the listener.

mod call;
mod end;
mod listener;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod poll;
mod reader;
mod route;
mod writer;

pub(crate) use call::listener_of;
pub use listener::{Incoming, Listener};
pub use reader::Reader;
pub use writer::Writer;

use crate::error::Error;
use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// The process at the other end of a stream, as it was when the connection was made. Both belong to one user, as the links of one user do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its process id, as its own PID namespace counts; 0 if it had left by then.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// A connection: bytes both ways. It may move between threads; [`split`](Self::split) it to read in one and write in another.
///
/// Dropping it closes both ways, in good order: the peer reads what was written, then the end.
///
/// In tasks it has `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of tokio (feature `tokio`) and of futures-io (feature `smol`), as its halves do. A future that is
/// dropped loses no byte. Time-outs and `set_nonblocking` are for who blocks. They panic where no runtime is: see [`Receiver::recv_async`](crate::Receiver::recv_async).
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::stream::{Listener, Stream};
/// use std::io::{BufRead, Read, Write};
///
/// let listener = Listener::bind("shm:greeter")?;
/// let mut client = Stream::connect("shm:greeter")?; // in another process
/// client.write_all(b"Alice\n")?;
///
/// let mut server = listener.accept()?;
/// let mut name = String::new();
/// server.read_line(&mut name)?;
/// write!(server, "Hello, {name}")?;
/// drop(server);
///
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "Hello, Alice\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream {
    reader: Option<Reader>,
    writer: Option<Writer>,
    peer: Peer,
    address: Arc<str>,
}

impl Stream {
    /// Connects to a listener: `shm:NAME`, or `mem:NAME` in this process. It need not have accepted when this returns.
    ///
    /// Options of the address: `capacity=`, the bytes that each way holds, a power of two from a page to 1 GiB, default 256 KiB; and `wait=`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): there is no such link. [`Refused`](crate::ErrorKind::Refused): nobody listens there.
    /// [`Mismatch`](crate::ErrorKind::Mismatch): the link is no listener. Or the links of the connection could not be made.
    pub fn connect(address: &str) -> Result<Self, Error> {
        call::connect(address, crate::wait::Until::Forever)
    }

    /// As [`connect`](Self::connect); waits no longer than `timeout` where too many others wait to be accepted.
    ///
    /// # Errors
    /// As `connect`; [`Stuck`](crate::ErrorKind::Stuck) when the time is over.
    pub fn connect_timeout(address: &str, timeout: Duration) -> Result<Self, Error> {
        call::connect(address, crate::wait::Until::after(timeout))
    }

    /// As [`connect`](Self::connect), in a task; see [`Listener::accept_async`], with an example. It waits where too many others wait to be accepted; making
    /// the links does not wait.
    ///
    /// # Errors
    /// As `connect`.
    ///
    /// # Panics
    /// When it is polled where no runtime is: see [`Receiver::recv_async`](crate::Receiver::recv_async).
    #[cfg(feature = "async")]
    pub async fn connect_async(address: &str) -> Result<Self, Error> {
        call::connect_async(address).await
    }

    /// Two ends of a connection, for two threads of this process.
    ///
    /// # Errors
    /// If the links cannot be made.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (mut one, mut other) = ginnel::stream::Stream::pair()?;
    /// one.write_all(b"over there")?;
    /// drop(one);
    /// let mut text = String::new();
    /// other.read_to_string(&mut text)?;
    /// assert_eq!(text, "over there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pair() -> Result<(Self, Self), Error> {
        static PAIRS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = PAIRS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A name that no listener of the program's has, as its names have no such sign.
        let address = format!("mem:pair~{}-{number}", ginnel_os::process::id());
        let listener = Listener::bind_any(&address)?;
        let client = Self::connect(&address)?;
        Ok((client, listener.accept()?))
    }

    pub(crate) fn new(ends: (Option<Reader>, Option<Writer>), peer: Peer, address: Arc<str>) -> Self {
        let (reader, writer) = ends;
        if let (Some(reader), Some(writer)) = (&reader, &writer) {
            reader.end().belongs_to(writer.end());
        }
        Self { reader, writer, peer, address }
    }

    /// The two ways, each for an owner of its own: they may live in two threads. Dropping one closes that way.
    ///
    /// # Panics
    /// If one of them was shut down.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (one, mut other) = ginnel::stream::Stream::pair()?;
    /// let (mut reader, mut writer) = one.split();
    /// let echo = std::thread::spawn(move || std::io::copy(&mut reader, &mut writer));
    /// other.write_all(b"hello")?;
    /// other.shutdown(std::net::Shutdown::Write)?;
    /// let mut text = String::new();
    /// other.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (Reader, Writer) {
        let (Some(reader), Some(writer)) = (self.reader, self.writer) else {
            panic!("a stream that was shut down cannot be split");
        };
        (reader, writer)
    }

    /// The ways that are still open, if they were not [shut down](Self::shutdown).
    pub fn into_halves(self) -> (Option<Reader>, Option<Writer>) {
        (self.reader, self.writer)
    }

    /// Closes one way, or both. The peer reads what was written, then the end; or its writing fails with `BrokenPipe`. Bytes that were not read are lost.
    ///
    /// # Errors
    /// None; as with std's streams, it could.
    pub fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.reader = None;
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.writer = None;
        }
        Ok(())
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address of the listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The reading half, if it was not shut down.
    pub fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.as_mut()
    }

    /// The writing half, if it was not shut down.
    pub fn writer(&mut self) -> Option<&mut Writer> {
        self.writer.as_mut()
    }

    /// How long reading waits; `None`, the default, is for ever. Then it fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all: see [`set_nonblocking`](Self::set_nonblocking).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.as_ref().map_or(Ok(()), |reader| reader.set_timeout(timeout))
    }

    /// How long writing waits for room; `None`, the default, is for ever. Then it fails with `TimedOut`, or says how many bytes were written.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all: see [`set_nonblocking`](Self::set_nonblocking).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.set_timeout(timeout))
    }

    /// Whether reading and writing fail with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// None; as with std's streams, it could.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        if let Some(reader) = &self.reader {
            reader.set_nonblocking(nonblocking);
        }
        if let Some(writer) = &self.writer {
            writer.set_nonblocking(nonblocking);
        }
        Ok(())
    }

    fn writing(&mut self) -> io::Result<&mut Writer> {
        let address = &self.address;
        self.writer.as_mut().ok_or_else(|| shut_down(address))
    }

    /// For who waits for several, of whose reading half it is.
    pub(crate) fn reading(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    fn written(&self) -> io::Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| shut_down(&self.address))
    }
}

#[cold]
fn shut_down(address: &str) -> io::Error {
    let text = format!("cannot write to {address}: this end was shut down for writing; connect again");
    io::Error::new(io::ErrorKind::BrokenPipe, text)
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read(bytes))
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read_vectored(parts))
    }
}

/// As std's streams: who waits for several, and so has lent the stream to a [`Select`](crate::Select), reads and writes by reference.
impl Read for &Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reading().map_or(Ok(0), |mut reader| reader.read(bytes))
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reading().map_or(Ok(0), |mut reader| reader.read_vectored(parts))
    }
}

/// As std's streams.
impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written()?.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.written()?.write_vectored(parts)
    }

    /// Nothing: what was written can be read already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BufRead for Stream {
    /// The bytes that are there, in place: one range, also where they pass the end of the ring. None at the end of the stream.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.as_mut().map_or(Ok(&[]), |reader| reader.fill_buf())
    }

    fn consume(&mut self, len: usize) {
        if let Some(reader) = &mut self.reader {
            reader.consume(len);
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing()?.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writing()?.write_vectored(parts)
    }

    /// Nothing: what was written can be read already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("link", &self.address)
            .field("peer", &self.peer)
            .field("reader", &self.reader)
            .field("writer", &self.writer)
            .finish()
    }
}
