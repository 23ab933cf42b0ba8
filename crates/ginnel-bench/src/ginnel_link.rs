//! A `shm:` link of ginnel as a mechanism to be measured: opened by address in each process, as a user would.
//!
//! Not tuned beyond what a user can say in an address: the largest message, and how to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use ginnel::{Batch, INLINE_MAX, Link, Receiver, Sender, Wait};

use crate::{Case, Contender, Failure, Inlet, Mechanism, Mode, Outlet, Way, Workload};

/// Messages that a link holds while it is measured.
const CAPACITY: u64 = 1024;

/// Messages that are sent, or taken, at once; the raw ring publishes as many.
const BATCH: usize = 64;

/// A link as a mechanism to be measured: one message at a time, and, for streams of small ones, several.
#[must_use]
pub fn links() -> Vec<Contender> {
    vec![
        Contender::new("ginnel shm:", GinnelLink::new),
        Contender::new("ginnel shm:, batches", GinnelBatches::new)
            .only(|case| case.workload == Workload::Stream && matches!(case.size, 8 | 64)),
    ]
}

/// One link for each direction.
struct Links {
    there: Link,
    back: Link,
}

impl Links {
    /// Two links under names that nobody else has.
    fn new(case: &Case) -> Result<Self, Failure> {
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
        Ok(Self { there: link("there")?, back: link("back")? })
    }

    fn sender(&self, way: Way) -> Result<Sender, Failure> {
        self.link(way).sender().map_err(Failure::new)
    }

    fn receiver(&self, way: Way) -> Result<Receiver, Failure> {
        self.link(way).receiver().map_err(Failure::new)
    }

    fn link(&self, way: Way) -> &Link {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in [&self.there, &self.back] {
            let _ = link.unlink(true); // only there if a side was killed
        }
    }
}

/// Links whose messages are sent and received one by one.
struct GinnelLink(Links);

impl GinnelLink {
    fn new(case: &Case) -> Result<Self, Failure> {
        Links::new(case).map(Self)
    }
}

impl Mechanism for GinnelLink {
    type Out = LinkSender;
    type In = LinkReceiver;

    fn sender(&self, way: Way) -> Result<Self::Out, Failure> {
        Ok(LinkSender { sender: self.0.sender(way)?, message: [0; INLINE_MAX] })
    }

    fn receiver(&self, way: Way) -> Result<Self::In, Failure> {
        Ok(LinkReceiver(self.0.receiver(way)?))
    }
}

/// The sending handle.
struct LinkSender {
    sender: Sender,
    /// Where a small message is written before it is sent, as a user's would be.
    message: [u8; INLINE_MAX],
}

impl Outlet for LinkSender {
    #[inline(always)]
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
struct LinkReceiver(Receiver);

impl Inlet for LinkReceiver {
    #[inline(always)]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        match self.0.recv() {
            Ok(message) => Ok(take(&message)),
            Err(error) => Err(Failure::new(error)),
        }
    }
}

/// Links whose sender sends several messages at once with `send_all`, and whose receiver takes what is there with `recv_many`.
struct GinnelBatches {
    links: Links,
    size: usize,
}

impl GinnelBatches {
    fn new(case: &Case) -> Result<Self, Failure> {
        Ok(Self { links: Links::new(case)?, size: case.size })
    }
}

impl Mechanism for GinnelBatches {
    type Out = BatchSender;
    type In = BatchReceiver;

    fn sender(&self, way: Way) -> Result<Self::Out, Failure> {
        let pending = match self.size {
            8 => Pending::Of8(Box::new([[0; 8]; BATCH])),
            64 => Pending::Of64(Box::new([[0; 64]; BATCH])),
            size => return Err(Failure::new(format_args!("no batches of messages of {size} bytes"))),
        };
        Ok(BatchSender { sender: self.links.sender(way)?, pending, written: 0 })
    }

    fn receiver(&self, way: Way) -> Result<Self::In, Failure> {
        let receiver = Box::leak(Box::new(self.links.receiver(way)?));
        Ok(BatchReceiver { batch: None, shown: 0, receiver })
    }
}

/// The sending handle of batches.
struct BatchSender {
    sender: Sender,
    pending: Pending,
    /// Messages that were written and not sent yet.
    written: usize,
}

/// Where messages are written before they are sent, as a user's would be.
enum Pending {
    Of8(Box<[[u8; 8]; BATCH]>),
    Of64(Box<[[u8; 64]; BATCH]>),
}

impl Outlet for BatchSender {
    #[inline(always)]
    fn send_with(&mut self, _len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        match &mut self.pending {
            Pending::Of8(messages) => fill(&mut messages[self.written]),
            Pending::Of64(messages) => fill(&mut messages[self.written]),
        }
        self.written += 1;
        if self.written == BATCH { self.flush() } else { Ok(()) }
    }

    #[inline(never)]
    fn flush(&mut self) -> Result<(), Failure> {
        let count = std::mem::take(&mut self.written);
        let sent = match &self.pending {
            Pending::Of8(messages) => self.sender.send_all(&messages[..count]),
            Pending::Of64(messages) => self.sender.send_all(&messages[..count]),
        };
        sent.map(|_| ()).map_err(Failure::new)
    }
}

/// The receiving handle of batches.
struct BatchReceiver {
    // Before what it borrows.
    batch: Option<Batch<'static>>,
    /// Messages of the batch that were shown.
    shown: usize,
    /// Leaked: the process that measures ends soon.
    receiver: &'static Receiver,
}

impl Inlet for BatchReceiver {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        loop {
            if let Some(message) = self.batch.as_ref().and_then(|batch| batch.get(self.shown)) {
                self.shown += 1;
                return Ok(take(&message));
            }
            self.batch = None; // releases before it takes
            self.batch = Some(self.receiver.recv_many(BATCH).map_err(Failure::new)?);
            self.shown = 0;
        }
    }
}
