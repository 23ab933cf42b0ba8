//! The sending end of a link.

use crate::address::{Address, Wait};
use crate::error::{Error, SendAllError, SendError, SendFailure};
use crate::loan::Loan;
use crate::peers::Peers;
use crate::region::{Membership, Region, drops_oldest};
use crate::wait::{Interrupter, Look, Until, Waiter};
use ginnel_core::{Block, Engine, Full, GROW_BYTE, Producer, PushError, RUN_MAX, Role};
use ginnel_os::fallocate;
use std::cell::Cell;
use std::fmt;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The sending end of a link. A clone is another participant; a handle may move between threads, but one at a time uses it.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{Receiver, Sender};
///
/// let sender = Sender::open("shm:greetings")?;
/// let receiver = Receiver::open("shm:greetings")?;
/// sender.send(b"hello")?;
/// assert_eq!(&*receiver.recv()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    // Before the membership: nothing of the producer's is used after it has left.
    producer: Producer,
    waiter: Waiter,
    peers: Peers,
    follow: bool,
    corrupt: Cell<bool>,
    /// Loans that are out; those that were forgotten are given back when the handle is dropped.
    pub(crate) loans: Cell<usize>,
    membership: Membership,
}

/// Looks between two attempts to get more block memory, while spinning.
const GROW_EVERY: u32 = 64;

/// Block memory that is committed at a time, in bytes; at least one extent.
const GROW_BYTES: u64 = 512 * 1024;

/// What a try found in the way.
enum Obstacle {
    /// Worth waiting for.
    Full,
    /// The same, for a block of this many bytes.
    NoBlock(usize),
    /// Over in a moment.
    Busy,
    /// Not worth waiting for.
    Failed(SendFailure),
}

impl Sender {
    pub(crate) fn new(membership: Membership, address: &Address) -> Self {
        let (follow, wait) = (address.follow, address.wait);
        Self::with(membership, follow, wait)
    }

    fn with(membership: Membership, follow: bool, wait: Wait) -> Self {
        // Who waits for room is in no hurry: each look takes a line from the receiver, which pays when several places are free.
        let capacity = membership.region.engine().layout().geometry().capacity;
        let rest = (capacity / 8).clamp(1, 16) as u32;
        Self {
            producer: Producer::new(membership.me),
            waiter: Waiter::new(wait, rest),
            peers: Peers::new(membership.region.engine(), Role::Receiver),
            follow,
            corrupt: Cell::new(false),
            loans: Cell::new(0),
            membership,
        }
    }

    /// Opens the sending end of a link; makes the link if it is not there. See [`Link`](crate::Link) for options.
    ///
    /// # Errors
    /// If the address is bad, or the link cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.sender()
    }

    /// Makes a link and opens its sending end.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is there.
    pub fn create(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Create).sender()
    }

    /// Opens the sending end of a link that is there.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is not there.
    pub fn join(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Join).sender()
    }

    /// Another sender of the same link: another participant, which can move to another thread.
    ///
    /// # Errors
    /// If the link has as many handles, or senders, as it was made for.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let membership = self.membership.another(Role::Sender)?;
        Ok(Self::with(membership, self.follow, self.waiter.policy()))
    }

    /// Sends a message; waits while the link is full, unless it was made to reject or to drop the oldest.
    ///
    /// # Errors
    /// If it cannot be sent: too long, nobody left who could make room, or no memory.
    #[inline]
    pub fn send<M: AsRef<[u8]> + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Forever)
    }

    /// Sends a message with a tag: 16 bits of the application's own, which travel with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline]
    pub fn send_tagged<M: AsRef<[u8]> + ?Sized>(&self, tag: u16, message: &M) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Forever)
    }

    /// As [`Self::try_send`], with a tag.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    #[inline]
    pub fn try_send_tagged<M: AsRef<[u8]> + ?Sized>(&self, tag: u16, message: &M) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Now)
    }

    /// As [`Self::send_deadline`], with a tag.
    ///
    /// # Errors
    /// As [`Self::send_deadline`].
    pub fn send_tagged_deadline<M: AsRef<[u8]> + ?Sized>(
        &self,
        tag: u16,
        message: &M,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Instant(deadline))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::Full`] or [`SendFailure::NoMemory`] if there is no room.
    #[inline]
    pub fn try_send<M: AsRef<[u8]> + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Now)
    }

    /// Sends a message, waiting for room for at most this long.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::TimedOut`].
    pub fn send_timeout<M: AsRef<[u8]> + ?Sized>(&self, message: &M, timeout: Duration) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::after(timeout))
    }

    /// Sends a message, waiting for room until then at most.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::TimedOut`].
    pub fn send_deadline<M: AsRef<[u8]> + ?Sized>(&self, message: &M, deadline: Instant) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Instant(deadline))
    }

    /// Sends many messages, in order, each as [`Self::send`] does, small ones several at a time: they cost less than one by one. Returns
    /// how many were sent.
    ///
    /// # Errors
    /// As [`Self::send`], with the number of messages that were sent before.
    pub fn send_all<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Forever)
    }

    /// Sends messages for as long as there is room now.
    ///
    /// # Errors
    /// As [`Self::try_send`], with the number of messages that were sent before.
    pub fn try_send_all<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Now)
    }

    /// As [`Self::send_all`], waiting for at most this long in all.
    ///
    /// # Errors
    /// As [`Self::send_timeout`], with the number of messages that were sent before.
    pub fn send_all_timeout<M: AsRef<[u8]>>(&self, messages: &[M], timeout: Duration) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::after(timeout))
    }

    /// As [`Self::send_all`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_deadline`], with the number of messages that were sent before.
    pub fn send_all_deadline<M: AsRef<[u8]>>(&self, messages: &[M], deadline: Instant) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Instant(deadline))
    }

    /// Lends `len` bytes of the link to write a message in place; its contents are unspecified until written. Waits for memory.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn loan(&self, len: usize) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Forever)
    }

    /// As [`Self::loan`], without waiting.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub fn try_loan(&self, len: usize) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Now)
    }

    /// As [`Self::loan`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::send_timeout`].
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::after(timeout))
    }

    /// As [`Self::loan`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_deadline`].
    pub fn loan_deadline(&self, len: usize, deadline: Instant) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Instant(deadline))
    }

    /// Messages in the link now.
    pub fn len(&self) -> u64 {
        self.engine().len()
    }

    /// Whether no message is in the link now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the link holds as many messages as it may.
    pub fn is_full(&self) -> bool {
        self.engine().is_full()
    }

    /// Messages that the link may hold.
    pub fn capacity(&self) -> u64 {
        self.engine().layout().geometry().capacity
    }

    /// Largest message, in bytes.
    pub fn max_message(&self) -> u64 {
        self.engine().layout().geometry().max
    }

    /// Whether there was a receiver since this sender opened, and none is left. A message can still be sent while there is
    /// room: it waits in the link for the next receiver.
    pub fn is_closed(&self) -> bool {
        self.peers.are_gone(self.engine()).is_some()
    }

    /// What ends this handle's waiting from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    /// The link's address, without options.
    pub fn address(&self) -> &str {
        self.region().link()
    }

    // ---- how

    pub(crate) fn region(&self) -> &std::sync::Arc<Region> {
        &self.membership.region
    }

    #[inline(always)]
    pub(crate) fn engine(&self) -> &Engine {
        self.membership.region.engine()
    }

    pub(crate) fn error(&self, reason: SendFailure) -> SendError {
        if let SendFailure::Corrupt(_) = reason {
            self.corrupt.set(true);
        }
        SendError { reason, link: self.region().link().clone() }
    }

    #[inline(always)]
    fn send_until(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
        match self.try_once(tag, message) {
            Ok(()) => {
                self.region().wake_receivers();
                Ok(())
            }
            Err(obstacle) => {
                let sent = self.wait_send(tag, message, until, obstacle);
                sent.map_err(|reason| self.error(reason))
            }
        }
    }

    fn send_all_until<M: AsRef<[u8]>>(&self, messages: &[M], until: Until) -> Result<u64, SendAllError> {
        let mut sent = 0;
        for group in messages.chunks(RUN_MAX) {
            // The caller's code runs here, not while the link is being worked on.
            let mut slices: [&[u8]; RUN_MAX] = [&[]; RUN_MAX];
            for (slice, message) in slices.iter_mut().zip(group) {
                *slice = message.as_ref();
            }
            let mut left = &slices[..group.len()];
            while let Some(next) = left.first() {
                if sent > 0 && until.is_past() {
                    // The waits of a slow stream may each be short of it: the deadline is that of the whole call.
                    let error = self.error(self.out_of_time(until, false));
                    return Err(SendAllError { sent, error });
                }
                let mut done = self.try_run(left);
                if done == 0 {
                    self.send_until(0, next, until).map_err(|error| SendAllError { sent, error })?;
                    done = 1;
                }
                sent += done as u64;
                left = &left[done..];
            }
        }
        Ok(sent)
    }

    /// Sends the first of several messages, if they are of the common case, and says how many.
    fn try_run(&self, messages: &[&[u8]]) -> usize {
        if self.check().is_err() {
            return 0;
        }
        let done = self.engine().try_push_run(&self.producer, 0, messages);
        if done > 0 {
            self.region().wake_receivers();
        }
        done
    }

    #[inline(always)]
    fn try_once(&self, tag: u16, message: &[u8]) -> Result<(), Obstacle> {
        self.check()?;
        let pushed = self.engine().try_push(&self.producer, tag, message);
        pushed.map_err(|e| self.obstacle(e, message.len()))
    }

    #[inline(always)]
    fn check(&self) -> Result<(), Obstacle> {
        if !self.region().is_ours() {
            return Err(Obstacle::Failed(SendFailure::Forked));
        }
        if self.corrupt.get() {
            return Err(Obstacle::Failed(SendFailure::Corrupt(ginnel_core::Corrupt::Slot)));
        }
        Ok(())
    }

    #[cold]
    fn obstacle(&self, error: PushError, len: usize) -> Obstacle {
        match error {
            PushError::Full => Obstacle::Full,
            PushError::NoBlock => Obstacle::NoBlock(len),
            PushError::TooLarge => Obstacle::Failed(SendFailure::TooLarge { len, max: self.max_message() }),
            PushError::Corrupt(what) => Obstacle::Failed(SendFailure::Corrupt(what)),
            _ => Obstacle::Busy,
        }
    }

    #[cold]
    fn wait_send(&self, tag: u16, message: &[u8], until: Until, first: Obstacle) -> Result<(), SendFailure> {
        self.wait_for(until, first, || self.try_once(tag, message))?;
        self.region().wake_receivers();
        Ok(())
    }

    /// Tries again until it works, fails for good, or the time has come.
    fn wait_for<T>(
        &self,
        until: Until,
        first: Obstacle,
        mut attempt: impl FnMut() -> Result<T, Obstacle>,
    ) -> Result<T, SendFailure> {
        if let Obstacle::Failed(reason) = first {
            return Err(reason);
        }
        let rejects = self.engine().layout().geometry().full == Full::Reject;
        let until = if rejects { Until::Now } else { until };
        // A link that was full a moment ago may have been emptied, even left, since: unless it is to be mended, look again.
        let is_stale = matches!(first, Obstacle::Full) && !drops_oldest(self.engine());
        if is_stale && !matches!(until, Until::Now) {
            self.stay_away();
        }
        let mut first = if is_stale { None } else { Some(first) };
        let (mut lacked_memory, mut looks) = (false, 0u32);
        let (region, event) = (self.region(), self.engine().room());
        // While the ring is full, nothing cheaper than a full look can tell: its consumer moves one word.
        let peek = || None;
        let done = self.waiter.wait(region, self.membership.me, &event, until, peek, |last| {
            let gone = self.peers_gone();
            // What the first try found may be mended at once: memory to commit, an old message to drop.
            let tried = first.take().map_or_else(&mut attempt, Err);
            lacked_memory = matches!(tried, Err(Obstacle::NoBlock(_)));
            match tried {
                Ok(done) => Look::Done(Ok(done)),
                Err(Obstacle::Failed(reason)) => Look::Done(Err(reason)),
                Err(Obstacle::Busy) => Look::Busy,
                Err(Obstacle::Full) => self.full(gone),
                Err(Obstacle::NoBlock(len)) => {
                    // Asking for memory costs system calls, and at the ceiling only a release can help: so now and then.
                    looks = looks.wrapping_add(1);
                    if !last && looks % GROW_EVERY != 1 {
                        return Look::Nothing;
                    }
                    let grown = self.no_block(len, gone);
                    if let Look::Busy = grown {
                        looks = 0; // what was released by one class is committed to the other next
                    }
                    grown
                }
            }
        });
        done.unwrap_or_else(|| Err(self.out_of_time(until, lacked_memory)))
    }

    /// Waits for an announcement of room, if that is worth it.
    fn stay_away(&self) {
        if self.engine().stays_away_from_room(&self.producer)
            && !self.waiter.stay_away(|| self.engine().is_room_announced(&self.producer))
        {
            self.engine().lose_patience_for_room(&self.producer);
        }
    }

    /// How many receivers died, if none is left and that is the end.
    fn peers_gone(&self) -> Option<u64> {
        if self.follow { None } else { self.peers.are_gone(self.engine()) }
    }

    fn full<T>(&self, gone: Option<u64>) -> Look<Result<T, SendFailure>> {
        if drops_oldest(self.engine()) {
            return match self.engine().make_room(&self.producer) {
                Ok(_) => Look::Busy,
                Err(PushError::Corrupt(what)) => Look::Done(Err(SendFailure::Corrupt(what))),
                Err(_) => Look::Busy,
            };
        }
        match gone {
            Some(died) => Look::Done(Err(SendFailure::Closed { died })),
            None => Look::Nothing,
        }
    }

    fn no_block<T>(&self, len: usize, gone: Option<u64>) -> Look<Result<T, SendFailure>> {
        match self.grow(len) {
            Ok(Grown::Again) => Look::Busy,
            Ok(Grown::AtCeiling) if drops_oldest(self.engine()) && !self.engine().any_block_waits() => Look::Nothing,
            Ok(Grown::AtCeiling) => self.full(gone),
            Err(reason) => Look::Done(Err(reason)),
        }
    }

    fn out_of_time(&self, until: Until, lacked_memory: bool) -> SendFailure {
        if !matches!(until, Until::Now) && self.waiter.was_interrupted() {
            return SendFailure::Interrupted;
        }
        let geometry = self.engine().layout().geometry();
        match until {
            Until::Now if lacked_memory => SendFailure::NoMemory { ceiling: geometry.memory },
            Until::Now => SendFailure::Full { capacity: geometry.capacity },
            _ if lacked_memory => SendFailure::TimedOut { limit: "memory", value: geometry.memory },
            _ => SendFailure::TimedOut { limit: "capacity", value: geometry.capacity },
        }
    }

    /// Commits memory for blocks of `len` bytes; at the ceiling, or where the kernel has no more, takes it from an unused class.
    fn grow(&self, len: usize) -> Result<Grown, SendFailure> {
        let (engine, file) = (self.engine(), self.region().file().as_fd());
        if !engine.may_grow(len) {
            return Ok(Grown::AtCeiling);
        }
        let Some(_lock) = self.region().try_lock(GROW_BYTE).map_err(SendFailure::NoSpace)? else {
            return Ok(Grown::Again); // somebody else is at it
        };
        // Several at once, while they are small: the lock costs more than the memory.
        let (mut committed, mut refused) = (0, None);
        while let (true, Some(extent)) = (committed < GROW_BYTES, engine.extent_to_commit(len)) {
            if let Err(e) = fallocate::commit(file, extent.offset, extent.len) {
                refused = Some(e);
                break;
            }
            self.region().mapping().populate(extent.offset as usize, extent.len as usize);
            engine.extent_ready(&extent);
            committed += extent.len;
        }
        if committed > 0 {
            return Ok(Grown::Again);
        }
        match (engine.extent_to_release(len), refused) {
            (Some(unused), _) => {
                fallocate::release(file, unused.offset, unused.len).map_err(SendFailure::NoSpace)?;
                Ok(Grown::Again)
            }
            (None, Some(e)) => Err(SendFailure::NoSpace(e)),
            (None, None) => Ok(Grown::AtCeiling),
        }
    }

    fn loan_until(&self, len: usize, until: Until) -> Result<Loan<'_>, SendError> {
        let loan =
            self.try_loan_once(len).or_else(|obstacle| self.wait_for(until, obstacle, || self.try_loan_once(len)));
        loan.map_err(|reason| self.error(reason))
    }

    fn try_loan_once(&self, len: usize) -> Result<Loan<'_>, Obstacle> {
        self.check()?;
        if Loan::is_small(len) {
            if len as u64 > self.max_message() {
                return Err(self.obstacle(PushError::TooLarge, len));
            }
            return Ok(Loan::small(self, len));
        }
        let block = self.engine().claim(&self.producer, len);
        block.map(|block| Loan::in_place(self, block, len)).map_err(|e| self.obstacle(e, len))
    }

    /// Sends what a loan's block holds.
    pub(crate) fn commit_block(&self, block: Block, len: usize, tag: u16, until: Until) -> Result<(), SendFailure> {
        let mut attempt = || {
            self.check()?;
            let committed = self.engine().commit(&self.producer, block, len, tag);
            committed.map_err(|e| self.obstacle(e, len))
        };
        attempt().or_else(|obstacle| self.wait_for(until, obstacle, &mut attempt))?;
        self.region().wake_receivers();
        Ok(())
    }

    /// Sends what a small loan holds.
    pub(crate) fn commit_small(&self, message: &[u8], tag: u16, until: Until) -> Result<(), SendFailure> {
        self.send_until(tag, message, until).map_err(|e| e.reason)
    }
}

enum Grown {
    /// Something changed: try again.
    Again,
    /// Everything that the link may have is in use.
    AtCeiling,
}

impl Clone for Sender {
    /// As [`Sender::try_clone`].
    ///
    /// # Panics
    /// If the link has as many handles, or senders, as it was made for.
    fn clone(&self) -> Self {
        self.try_clone().unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.loans.get() > 0 && self.region().is_ours() {
            self.engine().recover_self(self.membership.me);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("link", &self.address())
            .field("participant", &self.membership.me.number())
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
