//! A `shm:` link of ginnel as a mechanism to be measured: opened by address in each process, as a user would. A queue, bounded or not; a
//! broadcast; the newest value.
//!
//! Not tuned beyond what a user can say in an address: the largest message, how many may join, and how to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use ginnel::{Batch, INLINE_MAX, Link, Receiver, Sender, Wait};

use crate::burst::Several;
use crate::look::{Newest, Read, Write};
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

/// An address that nobody else has.
pub(crate) fn fresh_address() -> String {
    static RUN: AtomicU32 = AtomicU32::new(0);
    format!("shm:bench-{}-{}", std::process::id(), RUN.fetch_add(1, Ordering::Relaxed))
}

/// How both sides wait. In a stream that may block, who finds nothing looks again for a while, as by default.
fn wait(case: &Case) -> Wait {
    match case.mode {
        Mode::Spin => Wait::Spin,
        Mode::Block if case.workload == Workload::RoundTrip => Wait::Block,
        Mode::Block => Wait::Adaptive,
    }
}

/// The same as an option of an address.
pub(crate) fn wait_option(case: &Case) -> &'static str {
    match wait(case) {
        Wait::Spin => "wait=spin",
        Wait::Block => "wait=block",
        _ => "wait=adaptive",
    }
}

/// A name that is free again when this is dropped: links are only there still if a side was killed. Among them are those that a client or
/// a connection made beside it, whose names begin with it.
pub(crate) struct Removed {
    name: String,
}

impl Removed {
    pub(crate) fn new(address: &str) -> Self {
        Self { name: address.trim_start_matches("shm:").to_owned() }
    }
}

/// Whether a link is of this name: it has no digit behind it, so that 12 is not of 1.
fn is_of(name: &str, link: &str) -> bool {
    link.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

impl Drop for Removed {
    fn drop(&mut self) {
        let names = std::fs::read_dir(ginnel::directory()).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        for link in names.filter(|link| is_of(&self.name, link)) {
            let _ = Link::new(&format!("shm:{link}")).and_then(|link| link.unlink(true));
        }
    }
}

/// One link for each direction.
struct Links {
    there: Link,
    back: Link,
    _removed: Removed,
}

impl Links {
    /// Two links under names that nobody else has, with what else `options` says.
    fn new(case: &Case, options: impl Fn(Link) -> Link) -> Result<Self, Failure> {
        let address = fresh_address();
        let link = |way: &str| -> Result<Link, Failure> {
            let link = Link::new(&format!("{address}-{way}")).map_err(Failure::new)?;
            Ok(options(link.max(case.size as u64).wait(wait(case))))
        };
        Ok(Self { there: link("there")?, back: link("back")?, _removed: Removed::new(&address) })
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

/// Links whose messages are sent and received one by one.
pub(crate) struct GinnelLink(Links);

impl GinnelLink {
    pub(crate) fn new(case: &Case) -> Result<Self, Failure> {
        Links::new(case, |link| link.capacity(CAPACITY)).map(Self)
    }

    /// Links whose sender never waits for room.
    pub(crate) fn unbounded(case: &Case) -> Result<Self, Failure> {
        Links::new(case, Link::unbounded).map(Self)
    }
}

impl Mechanism for GinnelLink {
    type Out = LinkSender;
    type In = LinkReceiver;

    fn sender(&self, way: Way) -> Result<Self::Out, Failure> {
        Ok(LinkSender::new(self.0.sender(way)?))
    }

    fn receiver(&self, way: Way) -> Result<Self::In, Failure> {
        Ok(LinkReceiver(self.0.receiver(way)?))
    }
}

/// The sending handle.
pub(crate) struct LinkSender {
    sender: Sender,
    /// Where a small message is written before it is sent, as a user's would be.
    message: [u8; INLINE_MAX],
}

impl LinkSender {
    fn new(sender: Sender) -> Self {
        Self { sender, message: [0; INLINE_MAX] }
    }
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
pub(crate) struct LinkReceiver(Receiver);

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
pub(crate) struct GinnelBatches {
    links: Links,
    size: usize,
}

impl GinnelBatches {
    pub(crate) fn new(case: &Case) -> Result<Self, Failure> {
        Ok(Self { links: Links::new(case, |link| link.capacity(CAPACITY))?, size: case.size })
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
pub(crate) struct BatchSender {
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
pub(crate) struct BatchReceiver {
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

/// A link every receiver of which gets every message.
pub(crate) struct GinnelBroadcast {
    address: String,
    _removed: Removed,
}

impl GinnelBroadcast {
    /// A link for so many receivers.
    pub(crate) fn new(case: &Case, receivers: u32) -> Result<Self, Failure> {
        let (address, size, handles) = (fresh_address(), case.size, receivers + 1);
        let removed = Removed::new(&address);
        let address =
            format!("{address}?shape=broadcast&full=block&capacity={CAPACITY}&max={size}&participants={handles}");
        Ok(Self { address, _removed: removed })
    }
}

impl Several for GinnelBroadcast {
    type Out = LinkSender;
    type In = LinkReceiver;

    fn sender(&self) -> Result<LinkSender, Failure> {
        Sender::open(&self.address).map(LinkSender::new).map_err(Failure::new)
    }

    fn receiver(&self) -> Result<LinkReceiver, Failure> {
        Receiver::open(&self.address).map(LinkReceiver).map_err(Failure::new)
    }
}

/// A link that carries the newest value, and how it is looked at.
pub(crate) struct GinnelLatest {
    address: String,
    in_place: bool,
    _removed: Removed,
}

impl GinnelLatest {
    /// Looked at in place, or copied into a vector that is used again.
    pub(crate) fn new(case: &Case, in_place: bool) -> Result<Self, Failure> {
        let address = fresh_address();
        let removed = Removed::new(&address);
        Ok(Self { address: format!("{address}?shape=latest&max={}", case.size), in_place, _removed: removed })
    }
}

impl Newest for GinnelLatest {
    type Write = LatestSender;
    type Read = LatestReceiver;

    fn writer(&self) -> Result<LatestSender, Failure> {
        Sender::open(&self.address).map(LatestSender).map_err(Failure::new)
    }

    fn reader(&self) -> Result<LatestReceiver, Failure> {
        let receiver = Receiver::open(&self.address).map_err(Failure::new)?;
        Ok(LatestReceiver { receiver, in_place: self.in_place, copy: Vec::new() })
    }
}

/// The writing handle of the newest value.
pub(crate) struct LatestSender(Sender);

impl Write for LatestSender {
    #[inline]
    fn write(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.0.send(value).map_err(Failure::new)
    }
}

/// The reading handle of the newest value.
pub(crate) struct LatestReceiver {
    receiver: Receiver,
    in_place: bool,
    copy: Vec<u8>,
}

impl Read for LatestReceiver {
    #[inline(always)]
    fn look<R>(&mut self, show: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        if self.in_place {
            return match self.receiver.latest() {
                Ok(value) => Ok(show(&value)),
                Err(error) => Err(Failure::new(error)),
            };
        }
        self.receiver.latest_into(&mut self.copy).map_err(Failure::new)?;
        Ok(show(&self.copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_has_the_name_and_no_other() {
        for link in ["bench-7-1", "bench-7-1-there", "bench-7-1.re-8-0a", "bench-7-1~8-1.up"] {
            assert!(is_of("bench-7-1", link), "{link}");
        }
        for link in ["bench-7-12", "bench-7-12-there", "bench-71-1", "bench"] {
            assert!(!is_of("bench-7-1", link), "{link}");
        }
    }
}
