//! A `shm:` link of ginnel as a mechanism to be measured: opened by address in each process, as a user would.
//!
//! Not tuned beyond what a user can say in an address: the largest message, and how to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use ginnel::{Batch, INLINE_MAX, Link, Receiver, Sender, Wait};

use crate::{Case, Contender, Failure, Inlet, Mechanism, Mode, Outlet, Way, Workload};

/// Messages that a link holds while it is measured.
const CAPACITY: u64 = 1024;

/// A link as a mechanism to be measured: one message at a time, and, for streams of small ones, several.
#[must_use]
pub fn links() -> Vec<Contender> {
    vec![
        Contender::new("ginnel shm:", GinnelLink::new),
        Contender::new("ginnel shm:, recv_many", GinnelLink::batched)
            .only(|case| case.workload == Workload::Stream && case.size <= INLINE_MAX),
    ]
}

/// One link for each direction.
pub struct GinnelLink {
    there: Link,
    back: Link,
    most: usize,
}

impl GinnelLink {
    /// Two links under names that nobody else has.
    ///
    /// # Errors
    /// If the addresses cannot be used.
    pub fn new(case: &Case) -> Result<Self, Failure> {
        Self::taking(case, 1)
    }

    /// The same, whose receiver takes what is there at once, as the documentation of `recv_many` advises for streams.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn batched(case: &Case) -> Result<Self, Failure> {
        Self::taking(case, 64)
    }

    fn taking(case: &Case, most: usize) -> Result<Self, Failure> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let wait = match case.mode {
            Mode::Spin => Wait::Spin,
            Mode::Block if case.workload == Workload::RoundTrip => Wait::Block,
            Mode::Block => Wait::Adaptive,
        };
        let link = |way: &str| -> Result<Link, Failure> {
            let address = format!("shm:bench-{}-{run}-{way}", std::process::id());
            let link = Link::new(&address).map_err(Failure::new)?;
            Ok(link.capacity(CAPACITY).max(case.size as u64).wait(wait))
        };
        Ok(Self { there: link("there")?, back: link("back")?, most })
    }

    fn link(&self, way: Way) -> &Link {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Drop for GinnelLink {
    fn drop(&mut self) {
        for link in [&self.there, &self.back] {
            let _ = link.unlink(true); // only there if a side was killed
        }
    }
}

impl Mechanism for GinnelLink {
    type Out = LinkSender;
    type In = LinkReceiver;

    fn sender(&self, way: Way) -> Result<Self::Out, Failure> {
        let sender = self.link(way).sender().map_err(Failure::new)?;
        Ok(LinkSender { sender, message: [0; INLINE_MAX] })
    }

    fn receiver(&self, way: Way) -> Result<Self::In, Failure> {
        let receiver = self.link(way).receiver().map_err(Failure::new)?;
        Ok(LinkReceiver { batch: None, shown: 0, most: self.most, receiver: Box::leak(Box::new(receiver)) })
    }
}

/// The sending handle.
pub struct LinkSender {
    sender: Sender,
    /// Where small messages are written before they are sent, as a user's would be.
    message: [u8; INLINE_MAX],
}

impl Outlet for LinkSender {
    #[inline]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        if len <= INLINE_MAX {
            fill(&mut self.message[..len]);
            return self.sender.send(&self.message[..len]).map_err(Failure::new);
        }
        let mut loan = self.sender.loan(len).map_err(Failure::new)?;
        fill(&mut loan);
        loan.commit().map_err(Failure::new)
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.sender.send(message).map_err(Failure::new)
    }
}

/// The receiving handle.
pub struct LinkReceiver {
    // Before what it borrows.
    batch: Option<Batch<'static>>,
    /// Messages of the batch that were shown.
    shown: usize,
    /// Messages to take at once; 1 is one by one.
    most: usize,
    /// Leaked: the process that measures ends soon.
    receiver: &'static Receiver,
}

impl Inlet for LinkReceiver {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        if self.most == 1 {
            return self.receiver.recv().map(|message| take(&message)).map_err(Failure::new);
        }
        loop {
            if let Some(message) = self.batch.as_ref().and_then(|batch| batch.get(self.shown)) {
                self.shown += 1;
                return Ok(take(&message));
            }
            self.batch = None; // releases before it takes
            self.batch = Some(self.receiver.recv_many(self.most).map_err(Failure::new)?);
            self.shown = 0;
        }
    }
}
