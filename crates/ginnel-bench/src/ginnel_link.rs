//! A `shm:` link of ginnel as a mechanism to be measured: opened by address in each process, as a user would.
//!
//! Not tuned beyond what a user can say in an address: the largest message, and how to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use ginnel::{INLINE_MAX, Link, Receiver, Sender, Wait};

use crate::{Case, Failure, Inlet, Mechanism, Mode, Outlet, Way};

/// Messages that a link holds while it is measured.
const CAPACITY: u64 = 1024;

/// One link for each direction.
pub struct GinnelLink {
    there: Link,
    back: Link,
}

impl GinnelLink {
    /// Two links under names that nobody else has.
    ///
    /// # Errors
    /// If the addresses cannot be used.
    pub fn new(case: &Case) -> Result<Self, Failure> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let wait = match case.mode {
            Mode::Spin => Wait::Spin,
            Mode::Block if case.workload == crate::Workload::RoundTrip => Wait::Block,
            Mode::Block => Wait::Adaptive,
        };
        let link = |way: &str| -> Result<Link, Failure> {
            let address = format!("shm:bench-{}-{run}-{way}", std::process::id());
            let link = Link::new(&address).map_err(Failure::new)?;
            Ok(link.capacity(CAPACITY).max(case.size as u64).wait(wait))
        };
        Ok(Self { there: link("there")?, back: link("back")? })
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
        self.link(way).receiver().map(LinkReceiver).map_err(Failure::new)
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
pub struct LinkReceiver(Receiver);

impl Inlet for LinkReceiver {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        self.0.recv().map(|message| take(&message)).map_err(Failure::new)
    }
}
