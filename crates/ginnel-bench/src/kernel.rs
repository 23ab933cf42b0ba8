//! The kernel's byte streams, a pipe and a Unix stream socket pair, for comparison.
//!
//! Not their general use: both sides know the size of every message, so that nothing but its bytes travels. Spinning, the
//! descriptors are non-blocking and a side that would wait asks again at once.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{Case, Failure, Inlet, Mechanism, Mode, Outlet, Way};

/// Two byte streams, one in each direction.
#[derive(Debug)]
pub struct ByteStream {
    there: Ends,
    back: Ends,
    size: usize,
}

#[derive(Debug)]
struct Ends {
    write: OwnedFd,
    read: OwnedFd,
}

impl ByteStream {
    /// A pipe for each direction, of the default capacity.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn pipe(case: &Case) -> Result<Self, Failure> {
        let one = || -> Result<Ends, Failure> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok(Ends { write, read })
        };
        Self::of(one()?, one()?, case)
    }

    /// A connected pair of Unix stream sockets, with the default buffers, for each direction.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn socket(case: &Case) -> Result<Self, Failure> {
        let one = || -> Result<Ends, Failure> {
            let (write, read) = UnixStream::pair()?;
            Ok(Ends { write: write.into(), read: read.into() })
        };
        Self::of(one()?, one()?, case)
    }

    fn of(there: Ends, back: Ends, case: &Case) -> Result<Self, Failure> {
        if case.mode == Mode::Spin {
            for fd in [&there.write, &there.read, &back.write, &back.read] {
                fcntl_setfl(fd, OFlags::NONBLOCK)?;
            }
        }
        Ok(Self { there, back, size: case.size })
    }

    fn ends(&self, way: Way) -> &Ends {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Mechanism for ByteStream {
    type Out = StreamEnd;
    type In = StreamEnd;

    fn sender(&self, way: Way) -> Result<StreamEnd, Failure> {
        Ok(StreamEnd { fd: self.ends(way).write.try_clone()?, buffer: vec![0; self.size] })
    }

    fn receiver(&self, way: Way) -> Result<StreamEnd, Failure> {
        Ok(StreamEnd { fd: self.ends(way).read.try_clone()?, buffer: vec![0; self.size] })
    }
}

/// The writing or the reading end of a byte stream.
#[derive(Debug)]
pub struct StreamEnd {
    fd: OwnedFd,
    /// Where a message lies that is not in the workload's own memory.
    buffer: Vec<u8>,
}

impl Outlet for StreamEnd {
    #[inline]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        let message = &mut self.buffer[..len];
        fill(message);
        write_all(&self.fd, message)
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        write_all(&self.fd, message)
    }
}

impl Inlet for StreamEnd {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        read_exact(&self.fd, &mut self.buffer)?;
        Ok(take(&self.buffer))
    }

    #[inline]
    fn recv(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let len = self.buffer.len().min(into.len());
        read_exact(&self.fd, &mut into[..len])?;
        Ok(len)
    }
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Failure::new(format_args!("write: {errno}"))),
        }
    }
    Ok(())
}

fn read_exact(fd: impl AsFd, mut bytes: &mut [u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match rustix::io::read(&fd, &mut *bytes) {
            Ok(0) => return Err(Failure::new("the stream ended")),
            Ok(read) => bytes = &mut bytes[read..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Failure::new(format_args!("read: {errno}"))),
        }
    }
    Ok(())
}
