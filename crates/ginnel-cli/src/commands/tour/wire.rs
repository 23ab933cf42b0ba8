//! The mechanisms, and how each moves records and files between two processes, both ways.

use crc32fast::Hasher;
use ginnel::{Link, Receiver, Sender};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// A way between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(super) enum Mechanism {
    Shm,
    Pipe,
    Unix,
}

impl Mechanism {
    pub(super) const ALL: [Self; 3] = [Self::Shm, Self::Pipe, Self::Unix];

    /// As in an address.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm:",
            Self::Pipe => "pipe:",
            Self::Unix => "unix:",
        }
    }

    /// What it gives, in a line.
    pub(super) fn promise(self) -> &'static str {
        match self {
            Self::Shm => {
                "whole messages, read where they lie; many to many; in order, and nobody hangs after a kill -9"
            }
            Self::Pipe => {
                "a stream of bytes, one way, copied in and out; a small write stays whole, a large one need not"
            }
            Self::Unix => "a stream of bytes, both ways, copied in and out; can pass open files, and says who is there",
        }
    }
}

/// One end of both ways.
pub(super) trait Wire {
    /// Sends a small record.
    fn put(&mut self, record: &[u8]) -> io::Result<()>;
    /// Receives a record of this length.
    fn get(&mut self, record: &mut [u8]) -> io::Result<()>;
    /// Sends so many bytes of a file.
    fn put_file(&mut self, file: &mut File, bytes: u64) -> io::Result<()>;
    /// Receives so many bytes, and checksums them as they come.
    fn get_file(&mut self, hasher: &mut Hasher, bytes: u64) -> io::Result<()>;
}

/// A pipe there and one back, or a socket: standard input and output.
pub(super) struct Stream {
    input: File,
    output: File,
    buffer: Vec<u8>,
}

impl Stream {
    pub(super) fn new() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self { input, output, buffer: vec![0; CHUNK] })
    }
}

impl Wire for Stream {
    fn put(&mut self, record: &[u8]) -> io::Result<()> {
        self.output.write_all(record)
    }

    fn get(&mut self, record: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(record)
    }

    fn put_file(&mut self, file: &mut File, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let chunk = &mut self.buffer[..at_most(CHUNK, bytes)];
            file.read_exact(chunk)?;
            self.output.write_all(chunk)?;
            bytes -= chunk.len() as u64;
        }
        Ok(())
    }

    fn get_file(&mut self, hasher: &mut Hasher, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let room = at_most(CHUNK, bytes);
            let read = self.input.read(&mut self.buffer[..room])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&self.buffer[..read]);
            bytes -= read as u64;
        }
        Ok(())
    }
}

/// Two links.
pub(super) struct Links {
    sender: Sender,
    receiver: Receiver,
}

impl Links {
    pub(super) fn new(send_to: &Link, receive_from: &Link) -> Result<Self, ginnel::Error> {
        Ok(Self { sender: send_to.sender()?, receiver: receive_from.receiver()? })
    }

    /// The links of a tour, there and back. Few places, so that what is on its way stays in the cores' caches.
    pub(super) fn of_tour(tour: u32) -> Result<[Link; 2], ginnel::Error> {
        let link =
            |way: &str| Link::new(&format!("shm:tour-{tour}-{way}")).map(|link| link.capacity(16).max(CHUNK as u64));
        Ok([link("there")?, link("back")?])
    }
}

impl Wire for Links {
    fn put(&mut self, record: &[u8]) -> io::Result<()> {
        self.sender.send(record).map_err(other)
    }

    fn get(&mut self, record: &mut [u8]) -> io::Result<()> {
        let message = self.receiver.recv().map_err(other)?;
        if message.len() != record.len() {
            return Err(io::Error::other(format!("{} bytes came instead of {}", message.len(), record.len())));
        }
        record.copy_from_slice(&message);
        Ok(())
    }

    fn put_file(&mut self, file: &mut File, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let mut loan = self.sender.loan(at_most(CHUNK, bytes)).map_err(other)?;
            file.read_exact(&mut loan)?;
            bytes -= loan.len() as u64;
            loan.commit().map_err(other)?;
        }
        Ok(())
    }

    fn get_file(&mut self, hasher: &mut Hasher, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let message = self.receiver.recv().map_err(other)?;
            hasher.update(&message);
            bytes = bytes
                .checked_sub(message.len() as u64)
                .ok_or_else(|| io::Error::other("more bytes came than were sent"))?;
        }
        Ok(())
    }
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn at_most(chunk: usize, bytes: u64) -> usize {
    usize::try_from(bytes).map_or(chunk, |bytes| bytes.min(chunk))
}
