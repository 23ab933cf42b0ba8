//! The seam: what a mechanism must offer to be measured.
//!
//! Not a transport API. It has the two calls of each direction that the workloads need, generic so that they inline,
//! and the rule of where each runs:
//!
//! ```text
//! the caller            make(case) -> M             before the fork: regions, pipes, a fresh address
//!   +- process "sender"     M::sender(way)          after it: opens its handle, sends, drops it
//!   +- process "receiver"   M::receiver(way)        after it: opens its handle, receives, drops it
//! ```
//!
//! So a mechanism whose handles do not survive `fork` opens by address in `sender` and `receiver`, and one that is
//! inherited (a pipe, an anonymous mapping) duplicates what `make` built. The value that `make` returned is dropped in
//! the caller when both processes have been reaped: the place to remove what a killed process left.

/// Which of the two directions of a round trip. A stream goes [`Way::There`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the process that asks to the process that answers.
    There,
    /// From the process that answers back to the one that asked.
    Back,
}

/// Why one side gave up, in words: it travels from the child process to the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(Box<str>);

impl Failure {
    /// A failure that says `reason`.
    #[cold]
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::new(error)
    }
}

/// One way for two processes to exchange messages, made before the fork and opened after it.
pub trait Mechanism {
    /// The sending handle.
    type Out: Outlet;
    /// The receiving handle.
    type In: Inlet;

    /// Opens the sending handle of one direction; runs in the sending process.
    fn sender(&self, way: Way) -> Result<Self::Out, Failure>;

    /// Opens the receiving handle of one direction; runs in the receiving process.
    fn receiver(&self, way: Way) -> Result<Self::In, Failure>;
}

/// The sending handle of a mechanism. Both calls block (or spin) while the channel is full.
pub trait Outlet {
    /// Sends a message of `len` bytes that `fill` writes, in place where the mechanism can.
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure>;

    /// Sends bytes that lie in private memory: the copy in. To be overridden where `send_with` would copy twice.
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.send_with(message.len(), |slot| slot.copy_from_slice(message))
    }

    /// Makes everything that was sent visible. A mechanism that publishes each message has nothing to do.
    #[inline]
    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The receiving handle of a mechanism. Both calls block (or spin) while the channel is empty.
pub trait Inlet {
    /// Receives a message and shows it to `take`, in place where the mechanism can.
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure>;

    /// Receives into private memory, the copy out, and returns the length. To be overridden where `recv_with` would
    /// copy twice.
    #[inline]
    fn recv(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        self.recv_with(|message| {
            let len = message.len();
            match into.get_mut(..len) {
                Some(room) => {
                    room.copy_from_slice(message);
                    Ok(len)
                }
                None => Err(Failure::new(format_args!("a message of {len} bytes, room for {}", into.len()))),
            }
        })?
    }

    /// Receives `room.len()` bytes and shows them to `take` in their order, in whatever pieces they come: in place where the mechanism
    /// can, else through `room`.
    #[inline]
    fn recv_pieces(&mut self, room: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        let len = self.recv(room)?;
        take(&room[..len]);
        Ok(())
    }
}
