//! The ends of a link that carries the newest value: `?shape=latest`. What their operations mean is said at [`crate::Sender`] and [`crate::Receiver`].
//!
//! A message is a copy. The alternative, a pin for as long as the message lives, would make the number of messages in hand a limit of the link's; and a
//! copy is what every reader of a seqlock pays too. A loan is a buffer of this process for the same reason: a cell that is being written can be seen by a reader
//! that is about to find out that it is too late, so nobody may have a plain reference to its bytes.
#![allow(unsafe_code)] // Takes bytes of a vector for written that were.

use super::peers::Peers;
use super::region::{Membership, Region};
use super::wait::{Look, Waiter};
use crate::address::Wait;
use crate::error::{Error, RecvError, RecvFailure, SendAllError, SendError, SendFailure};
use crate::message::Held;
use crate::ready::Found;
use crate::spare::{Buffer, Spare};
use crate::wait::{Interrupter, Until};
use ginnel_core::{Cell as Place, Corrupt, Engine, Known, Look as Newest, PopError, PushError, Role};
use ginnel_os::fallocate;
use std::cell::Cell;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

/// What a sender waits for, when it has to wait at all: others, in the middle of a send.
pub(crate) const WRITERS: &str = "senders at once";

/// The sending end.
pub(crate) struct LatestSender {
    waiter: Waiter,
    peers: Peers,
    follow: bool,
    corrupt: Cell<bool>,
    membership: Membership,
}

/// What a try found in the way.
enum Obstacle {
    /// Over in a moment: others are at work in every cell.
    Busy,
    Failed(SendFailure),
}

impl LatestSender {
    pub(crate) fn with(membership: Membership, follow: bool, wait: Wait) -> Self {
        let peers = Peers::new(membership.region.engine(), Role::Receiver);
        Self { waiter: Waiter::new(wait, 1), peers, follow, corrupt: Cell::new(false), membership }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let mut clone = Self::with(self.membership.another(Role::Sender)?, self.follow, self.waiter.policy());
        // What this handle knows of its peers: the last may have left before the clone was made.
        clone.peers = self.peers.clone();
        Ok(clone)
    }

    pub(crate) fn len(&self) -> u64 {
        self.engine().len(self.membership.me)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.engine().layout().geometry().capacity
    }

    pub(crate) fn max_message(&self) -> u64 {
        self.engine().layout().geometry().max
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.peers.are_gone(self.engine()).is_some()
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        self.region().link()
    }

    /// A place to write a value of `len` bytes before it is sent.
    pub(crate) fn buffer(&self, len: usize) -> Result<Vec<u8>, SendError> {
        if len as u64 > self.max_message() {
            return Err(self.error(SendFailure::TooLarge { len, max: self.max_message() }));
        }
        Ok(vec![0; len])
    }

    #[inline]
    pub(crate) fn send_until(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
        match self.try_once(tag, message) {
            Ok(()) => Ok(()),
            Err(obstacle) => self.wait_send(tag, message, until, obstacle).map_err(|reason| self.error(reason)),
        }
    }

    pub(crate) fn send_all_until<M: AsRef<[u8]>>(&self, messages: &[M], until: Until) -> Result<u64, SendAllError> {
        for (sent, message) in (0..).zip(messages) {
            if sent > 0 && until.is_past() {
                return Err(SendAllError { sent, error: self.error(self.out_of_time(until)) });
            }
            self.send_until(0, message.as_ref(), until).map_err(|error| SendAllError { sent, error })?;
        }
        Ok(messages.len() as u64)
    }

    /// One look, which does not wait: sends the message, unless others are at work in every cell. Nobody calls when they are not any more.
    pub(crate) fn look(&self, tag: u16, message: &[u8]) -> Found<Result<(), SendError>> {
        match self.try_once(tag, message) {
            Ok(()) => Found::Done(Ok(())),
            Err(Obstacle::Failed(reason)) => Found::Done(Err(self.error(reason))),
            Err(Obstacle::Busy) if self.waiter.was_interrupted() => {
                Found::Done(Err(self.error(SendFailure::Interrupted)))
            }
            Err(Obstacle::Busy) => Found::Busy,
        }
    }

    // ---- how

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.membership.region
    }

    fn engine(&self) -> &Engine {
        self.membership.region.engine()
    }

    pub(crate) fn error(&self, reason: SendFailure) -> SendError {
        if let SendFailure::Corrupt(_) = reason {
            self.corrupt.set(true);
        }
        SendError { reason, link: self.region().link().clone() }
    }

    #[inline]
    fn try_once(&self, tag: u16, message: &[u8]) -> Result<(), Obstacle> {
        if !self.region().is_ours() {
            return Err(Obstacle::Failed(SendFailure::Forked));
        }
        if self.corrupt.get() {
            return Err(Obstacle::Failed(SendFailure::Corrupt(Corrupt::Newest)));
        }
        let (engine, me) = (self.engine(), self.membership.me);
        let place = engine.claim_cell(me, message.len()).map_err(|e| self.obstacle(e, message.len()))?;
        if let Some((offset, bytes)) = engine.absent(&place, message.len()) {
            if let Err(e) = self.commit(&place, offset, bytes) {
                engine.give_back(place);
                return Err(Obstacle::Failed(SendFailure::NoSpace(e)));
            }
        }
        engine.write_cell(&place, tag, message);
        engine.publish_value(me, place, message.len()).map_err(|e| self.obstacle(e, message.len()))?;
        self.region().wake_receivers();
        Ok(())
    }

    /// Commits memory for a cell, which nobody else touches meanwhile. If this process is killed between the two, the next one commits it again.
    #[cold]
    fn commit(&self, place: &Place, offset: u64, bytes: u64) -> std::io::Result<()> {
        fallocate::commit(self.region().file().as_fd(), offset, bytes)?;
        self.region().mapping().populate(offset as usize, bytes as usize);
        self.engine().committed(place, bytes);
        Ok(())
    }

    #[cold]
    fn obstacle(&self, error: PushError, len: usize) -> Obstacle {
        match error {
            PushError::TooLarge => Obstacle::Failed(SendFailure::TooLarge { len, max: self.max_message() }),
            PushError::Corrupt(what) => Obstacle::Failed(SendFailure::Corrupt(what)),
            _ => Obstacle::Busy,
        }
    }

    #[cold]
    fn wait_send(&self, tag: u16, message: &[u8], until: Until, first: Obstacle) -> Result<(), SendFailure> {
        if let Obstacle::Failed(reason) = first {
            return Err(reason);
        }
        let (region, event) = (self.region(), self.engine().room());
        let sent = self.waiter.wait(
            region,
            self.membership.me,
            &event,
            until,
            || None,
            |_| match self.try_once(tag, message) {
                Ok(()) => Look::Done(Ok(())),
                Err(Obstacle::Failed(reason)) => Look::Done(Err(reason)),
                Err(Obstacle::Busy) => Look::Busy,
            },
        );
        sent.unwrap_or_else(|| Err(self.out_of_time(until)))
    }

    fn out_of_time(&self, until: Until) -> SendFailure {
        let value = self.capacity() / 2;
        match until {
            Until::Now => SendFailure::NoRoom { limit: WRITERS, value },
            _ if self.waiter.was_interrupted() => SendFailure::Interrupted,
            _ => SendFailure::TimedOut { limit: WRITERS, value },
        }
    }
}

/// The receiving end.
pub(crate) struct LatestReceiver {
    waiter: Waiter,
    peers: Peers,
    follow: bool,
    corrupt: Cell<Option<Corrupt>>,
    /// Version of the value that this handle saw last; before its first, of the one before that which was the newest when it opened.
    seen: Cell<u64>,
    /// That value, if there is one and the handle can be used: whoever finds it to be the newest still has nothing else to check.
    known: Cell<Known>,
    /// For the next message: memory of one that is not in hand any more.
    spare: Spare,
    /// Values that it did not see between two that it did.
    skipped: Cell<u64>,
    membership: Membership,
}

impl LatestReceiver {
    pub(crate) fn with(membership: Membership, follow: bool, wait: Wait) -> Self {
        let engine = membership.region.engine();
        Self {
            waiter: Waiter::new(wait, 1),
            peers: Peers::new(engine, Role::Sender),
            follow,
            corrupt: Cell::new(None),
            seen: Cell::new(engine.newest_version().saturating_sub(1)),
            known: Cell::new(Known::NONE),
            spare: Spare::default(),
            skipped: Cell::new(0),
            membership,
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let mut clone = Self::with(self.membership.another(Role::Receiver)?, self.follow, self.waiter.policy());
        // What this handle knows of its peers: the last may have left before the clone was made. And what it has seen.
        clone.peers = self.peers.clone();
        clone.seen.set(self.seen.get());
        Ok(clone)
    }

    /// One if there is a value that this handle has not seen.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.engine().newest_version() > self.seen.get())
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.engine().layout().geometry().capacity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.peers.are_gone(self.engine()).is_some()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.skipped.get()
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        self.region().link()
    }

    /// A value that this handle has not seen: the newest.
    pub(crate) fn recv_until(&self, until: Until) -> Result<Held, RecvError> {
        match self.try_unseen() {
            Ok(held) => Ok(held),
            Err(first) => self.wait_unseen(until, first).map_err(|reason| self.error(reason)),
        }
    }

    /// The newest value, if this handle has seen it: the common case of [`Self::newest`].
    #[inline(always)]
    pub(crate) fn newest_fast(&self) -> Option<Held> {
        let look = self.look_again()?;
        let mut buffer = self.spare.take();
        copy_to_buffer(&look, &mut buffer).then(|| self.held(buffer, look.version(), look.len(), look.tag()))
    }

    /// The newest value, seen or not.
    pub(crate) fn newest(&self) -> Result<Held, RecvError> {
        let mut buffer = self.spare.take();
        let known = self.read_other(&mut |value| copy_to_buffer(value, &mut buffer))?;
        Ok(self.held(buffer, known.version(), known.len(), known.tag()))
    }

    /// The newest value, seen or not, into a vector: its position.
    #[inline(always)]
    pub(crate) fn newest_into(&self, bytes: &mut Vec<u8>) -> Result<u64, RecvError> {
        match self.look_again() {
            Some(look) if copy(&look, bytes) => Ok(look.version() - 1),
            _ => self.newest_other_into(bytes),
        }
    }

    #[inline(never)]
    fn newest_other_into(&self, bytes: &mut Vec<u8>) -> Result<u64, RecvError> {
        self.read_other(&mut |value| copy(value, bytes)).map(|known| known.version() - 1)
    }

    /// One look for a value that this handle has not seen, which does not wait. One who listens announces itself before it.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Held, RecvError>> {
        if let Some(failure) = self.unusable(PopError::Empty) {
            return Found::Done(Err(self.error(failure)));
        }
        if listens {
            crate::watch::watch(self.region());
            self.engine().items().listen();
        }
        // In this order, as in `wait_unseen`: gone, empty.
        let gone = if self.follow { None } else { self.peers.are_gone(self.engine()) };
        match (self.try_unseen(), gone) {
            (Ok(held), _) => Found::Done(Ok(held)),
            (Err(PopError::Corrupt(what)), _) => Found::Done(Err(self.error(RecvFailure::Corrupt(what)))),
            (Err(PopError::Empty), Some(died)) => Found::Done(Err(self.error(RecvFailure::Closed { died }))),
            _ if self.waiter.was_interrupted() => Found::Done(Err(self.error(RecvFailure::Interrupted))),
            (Err(PopError::Empty), None) => {
                if listens {
                    self.engine().count_sleep(self.membership.me);
                }
                Found::Nothing
            }
            _ => Found::Busy,
        }
    }

    // ---- how

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.membership.region
    }

    #[inline(always)]
    fn engine(&self) -> &Engine {
        self.membership.region.engine()
    }

    fn error(&self, reason: RecvFailure) -> RecvError {
        if let RecvFailure::Corrupt(what) = reason {
            self.corrupt.set(Some(what));
            self.known.set(Known::NONE);
        }
        RecvError { reason, link: self.region().link().clone() }
    }

    /// The newest value, if this handle has seen it. One comparison stands for all that was checked when it was seen.
    #[inline(always)]
    fn look_again(&self) -> Option<Newest<'_>> {
        if !self.region().is_ours() {
            return None; // `unusable` says why
        }
        self.engine().look_again(self.known.get())
    }

    /// Reads the newest value, which this handle has not seen, or which a writer was about to replace; or finds out why it cannot.
    #[inline(never)]
    fn read_other(&self, copy: &mut dyn FnMut(&Newest<'_>) -> bool) -> Result<Known, RecvError> {
        self.try_read(copy).or_else(|first| self.wait_newest(copy, first)).map_err(|reason| self.error(reason))
    }

    /// Reads the newest value. What was copied last is it, on success; otherwise it is worth nothing.
    fn try_read(&self, copy: &mut dyn FnMut(&Newest<'_>) -> bool) -> Result<Known, PopError> {
        if !self.region().is_ours() || self.corrupt.get().is_some() {
            return Err(PopError::Empty); // `unusable` says why
        }
        let known = match self.engine().newest() {
            Ok(look) if copy(&look) => look.known(),
            Err(PopError::Empty) => return Err(PopError::Empty),
            _ => self.read_contested(copy)?,
        };
        if known.version() != self.seen.get() {
            self.see(known)?;
        }
        self.known.set(known);
        Ok(known)
    }

    fn see(&self, known: Known) -> Result<(), PopError> {
        let version = known.version();
        let more = version.checked_sub(self.seen.get()).ok_or(PopError::Corrupt(Corrupt::Newest))?; // versions grow
        self.peers.heard_of_one();
        self.seen.set(version);
        self.skipped.set(self.skipped.get() + (more - 1));
        self.engine().count_value(self.membership.me, known.len());
        Ok(())
    }

    /// A writer was faster.
    #[cold]
    #[inline(never)]
    fn read_contested(&self, copy: &mut dyn FnMut(&Newest<'_>) -> bool) -> Result<Known, PopError> {
        let mut known = Known::NONE;
        self.engine().read_newest(self.membership.me, &mut |look| {
            known = look.known();
            copy(look)
        })?;
        Ok(known)
    }

    fn try_unseen(&self) -> Result<Held, PopError> {
        if self.engine().newest_version() == self.seen.get() {
            return Err(PopError::Empty);
        }
        let mut buffer = self.spare.take();
        let known = self.try_read(&mut |value| copy_to_buffer(value, &mut buffer))?;
        Ok(self.held(buffer, known.version(), known.len(), known.tag()))
    }

    /// A message of what was copied.
    #[inline(always)]
    fn held(&self, buffer: Buffer, version: u64, len: usize, tag: u16) -> Held {
        Held::lent(buffer.lend(&self.spare), version - 1, len, tag)
    }

    /// Why this handle cannot be used, if it cannot.
    fn unusable(&self, first: PopError) -> Option<RecvFailure> {
        match first {
            _ if !self.region().is_ours() => Some(RecvFailure::Forked),
            PopError::Corrupt(what) => Some(RecvFailure::Corrupt(what)),
            _ => self.corrupt.get().map(RecvFailure::Corrupt),
        }
    }

    #[cold]
    fn wait_unseen(&self, until: Until, first: PopError) -> Result<Held, RecvFailure> {
        if let Some(failure) = self.unusable(first) {
            return Err(failure);
        }
        let (region, event) = (self.region(), self.engine().items());
        let peek = || self.try_unseen().ok().map(Ok);
        let taken = self.waiter.wait(region, self.membership.me, &event, until, peek, |_| {
            // In this order: what the last sender sent before it left is seen by the try after it was found gone.
            let gone = if self.follow { None } else { self.peers.are_gone(self.engine()) };
            match (self.try_unseen(), gone) {
                (Ok(held), _) => Look::Done(Ok(held)),
                (Err(PopError::Corrupt(what)), _) => Look::Done(Err(RecvFailure::Corrupt(what))),
                (Err(PopError::Empty), Some(died)) => Look::Done(Err(RecvFailure::Closed { died })),
                (Err(PopError::Empty), None) => Look::Nothing,
                _ => Look::Busy,
            }
        });
        taken.unwrap_or_else(|| {
            Err(match until {
                Until::Now => RecvFailure::Empty,
                _ if self.waiter.was_interrupted() => RecvFailure::Interrupted,
                _ => RecvFailure::TimedOut,
            })
        })
    }

    /// The newest value is there, or it is not: only writers that are faster than every look are worth another.
    #[cold]
    #[inline(never)]
    fn wait_newest(&self, copy: &mut dyn FnMut(&Newest<'_>) -> bool, first: PopError) -> Result<Known, RecvFailure> {
        let mut found = first;
        for _ in 0..TURNS {
            if let Some(failure) = self.unusable(found) {
                return Err(failure);
            }
            if found == PopError::Empty {
                break;
            }
            match self.try_read(copy) {
                Ok(known) => return Ok(known),
                Err(e) => found = e,
            }
            std::thread::yield_now();
        }
        Err(RecvFailure::Empty)
    }
}

/// Makes a vector a copy of a value, and tells whether that is whole.
#[inline(always)]
fn copy(value: &Newest<'_>, bytes: &mut Vec<u8>) -> bool {
    let len = value.len();
    bytes.clear();
    if bytes.capacity() < len {
        replace(bytes, len.next_multiple_of(STEP));
    }
    let whole = value.copy_to(bytes.spare_capacity_mut());
    // SAFETY: there is room for as many bytes, and all of them were written, whatever they are.
    unsafe { bytes.set_len(len) };
    whole
}

/// The same, of a buffer; the first bytes of its room.
#[inline(always)]
fn copy_to_buffer(value: &Newest<'_>, buffer: &mut Buffer) -> bool {
    value.copy_to(buffer.with_room(value.len()))
}

#[cold]
#[inline(never)]
fn replace(bytes: &mut Vec<u8>, len: usize) {
    *bytes = Vec::with_capacity(len);
}

/// A small value is copied in steps of so many bytes, where there is room for the last.
const STEP: usize = 16;

/// Reads that are tried, each of many looks, before writers are believed to be no writers.
const TURNS: u32 = 1000;

impl fmt::Debug for LatestSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let me = self.membership.me.number();
        f.debug_struct("Sender").field("link", self.address()).field("participant", &me).finish_non_exhaustive()
    }
}

impl fmt::Debug for LatestReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("link", self.address())
            .field("participant", &self.membership.me.number())
            .field("seen", &self.seen.get())
            .finish_non_exhaustive()
    }
}
