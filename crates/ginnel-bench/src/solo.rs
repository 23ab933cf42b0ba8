//! Both ends of a stream in one process that waits for nobody: it sends some messages, then it receives them.
//!
//! Not a measure of a stream, in which two processors take lines from each other. These are the loops of the stream itself, though, as
//! they were compiled into this crate, at a place where nothing but the loop runs: for those who count instructions.

use crate::checksum::Checksum;
use crate::ginnel_link::{GinnelBatches, GinnelLink};
use crate::stream::{receive_each, room, send_each};
use crate::{Case, Failure, Mechanism, Outlet, RawRing, Way};

/// Both ends of one stream. Messages are numbered, and each is checked where it arrives.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel_bench::{Case, Mode, Solo};
///
/// let mut both = Solo::link(&Case::stream(Mode::Spin, 64))?;
/// both.send(64)?;
/// both.receive(64)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Solo(Box<dyn Ends>);

impl Solo {
    /// A `shm:` link of ginnel under a fresh name, whose messages go one by one. It holds 1024.
    ///
    /// # Errors
    ///
    /// If the link cannot be made.
    pub fn link(case: &Case) -> Result<Self, Failure> {
        Self::of(GinnelLink::new(case)?, case)
    }

    /// The same, through `send_all` and `recv_many`, 64 at a time, of 8 or of 64 bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::link`].
    pub fn batches(case: &Case) -> Result<Self, Failure> {
        Self::of(GinnelBatches::new(case)?, case)
    }

    /// The raw ring, which checks nothing: what the loops cost by themselves.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn raw_ring(case: &Case) -> Result<Self, Failure> {
        Self::of(RawRing::new(case)?, case)
    }

    fn of<M: Mechanism + 'static>(mechanism: M, case: &Case) -> Result<Self, Failure> {
        Ok(Self(Box::new(Both {
            out: mechanism.sender(Way::There)?,
            inlet: mechanism.receiver(Way::There)?,
            buffer: room(case),
            case: *case,
            sent: 0,
            received: 0,
            _mechanism: mechanism,
        })))
    }

    /// Sends so many messages: no more than there is room for, or it waits for ever.
    ///
    /// # Errors
    ///
    /// What sending said.
    pub fn send(&mut self, messages: u64) -> Result<(), Failure> {
        self.0.send(messages)
    }

    /// Receives so many messages: no more than were sent, or it waits for ever.
    ///
    /// # Errors
    ///
    /// What receiving said, or a message that is not the next.
    pub fn receive(&mut self, messages: u64) -> Result<(), Failure> {
        self.0.receive(messages)
    }
}

/// Both ends, of whatever mechanism.
trait Ends {
    fn send(&mut self, messages: u64) -> Result<(), Failure>;
    fn receive(&mut self, messages: u64) -> Result<(), Failure>;
}

struct Both<M: Mechanism> {
    out: M::Out,
    inlet: M::In,
    /// The private copy of a message, for cases that copy.
    buffer: Vec<u8>,
    case: Case,
    sent: u64,
    received: u64,
    /// Behind its handles: it removes the link's name.
    _mechanism: M,
}

impl<M: Mechanism> Ends for Both<M> {
    fn send(&mut self, messages: u64) -> Result<(), Failure> {
        let first = self.sent + 1;
        self.sent += messages;
        send_each(&mut self.out, &self.case, &mut self.buffer, first..=self.sent)?;
        self.out.flush()
    }

    fn receive(&mut self, messages: u64) -> Result<(), Failure> {
        let first = self.received + 1;
        self.received += messages;
        receive_each(&mut self.inlet, &self.case, &mut self.buffer, &mut Checksum::default(), first..=self.received)
    }
}
