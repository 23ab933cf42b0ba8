//! The receiving end of a shared-memory link.

use super::peers::Peers;
use super::region::{Membership, Region, drops_oldest};
use super::wait::{Look, Waiter};
use crate::address::Wait;
use crate::batch::Batch;
use crate::error::{Error, RecvError, RecvFailure};
use crate::message::{Held, Message};
use crate::wait::{Interrupter, Until};
use ginnel_core::{Consumer, Corrupt, Delivery, Engine, PopError, Role, Run};
use std::cell::Cell;
use std::fmt;

/// The receiving end of a shared-memory link; what its operations mean is said at [`crate::Receiver`].
pub(crate) struct Receiver {
    // Before the membership: nothing of the consumer's is used after it has left.
    consumer: Consumer,
    waiter: Waiter,
    peers: Peers,
    follow: bool,
    corrupt: Cell<Option<Corrupt>>,
    /// Messages dropped before this receiver opened.
    dropped_before: u64,
    membership: Membership,
}

impl Receiver {
    pub(super) fn with(membership: Membership, follow: bool, wait: Wait) -> Self {
        let engine = membership.region.engine();
        Self {
            consumer: Consumer::new(membership.me),
            waiter: Waiter::new(wait, 1),
            peers: Peers::new(engine, Role::Sender),
            follow,
            corrupt: Cell::new(None),
            dropped_before: engine.dropped(),
            membership,
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let membership = self.membership.another(Role::Receiver)?;
        let mut clone = Self::with(membership, self.follow, self.waiter.policy());
        // What this handle knows of its peers: the last may have left before the clone was made.
        clone.peers = self.peers.clone();
        Ok(clone)
    }

    pub(crate) fn len(&self) -> u64 {
        self.engine().len()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.engine().layout().geometry().capacity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.peers.are_gone(self.engine()).is_some()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.engine().dropped().wrapping_sub(self.dropped_before)
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    pub(crate) fn address(&self) -> &std::sync::Arc<str> {
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

    /// Ends the use of this handle.
    #[cold]
    fn poison(&self, what: Corrupt) {
        self.corrupt.set(Some(what));
        self.consumer.give_up_side();
    }

    fn error(&self, reason: RecvFailure) -> RecvError {
        if let RecvFailure::Corrupt(what) = reason {
            self.poison(what);
        }
        RecvError { reason, link: self.region().link().clone() }
    }

    /// The common case of [`Self::try_take`].
    #[inline(always)]
    pub(crate) fn take_fast(&self, patient: bool) -> Option<Held> {
        if !self.region().is_ours() {
            return None;
        }
        // Never on a link that drops the oldest: its receivers' side is always shared.
        let delivery = self.engine().try_pop_fast(&self.consumer, patient)?;
        Some(Held::short(self, delivery))
    }

    /// What [`Self::take_fast`] does not do.
    pub(crate) fn recv_slow(&self, until: Until) -> Result<Held, RecvError> {
        let announced = if self.stay_away(until) { self.take_fast(false) } else { None };
        let taken = announced.map_or_else(|| self.try_take(), Ok);
        taken.or_else(|obstacle| self.wait_take(until, obstacle)).map_err(|reason| self.error(reason))
    }

    pub(crate) fn recv_many_until(&self, most: usize, until: Until) -> Result<Batch<'_>, RecvError> {
        let mut messages = Vec::new();
        if most == 0 {
            return Ok(Batch::of_messages(messages));
        }
        if let Some(run) = self.take_run(most, until) {
            return Ok(Batch::of_run(self, run));
        }
        messages.push(Message::new(Some(self), self.recv_slow(until)?));
        while messages.len() < most {
            match self.try_take() {
                Ok(held) => messages.push(Message::new(Some(self), held)),
                Err(obstacle) => {
                    if let PopError::Corrupt(what) = obstacle {
                        self.poison(what); // the next call says so
                    }
                    break;
                }
            }
        }
        Ok(Batch::of_messages(messages))
    }

    /// Several small messages at once, if they are there.
    fn take_run(&self, most: usize, until: Until) -> Option<Run> {
        if !self.region().is_ours() {
            return None;
        }
        let run = self.engine().try_pop_run(&self.consumer, most, !matches!(until, Until::Now));
        run.or_else(
            || if self.stay_away(until) { self.engine().try_pop_run(&self.consumer, most, false) } else { None },
        )
    }

    /// Ends the delivery of several.
    pub(crate) fn release_run(&self, run: &Run) {
        if self.region().is_ours() {
            self.engine().release_run(&self.consumer, run);
            self.region().wake_senders();
        }
    }

    /// Waits for an announcement, if that is worth it. True if it came.
    #[inline(never)]
    fn stay_away(&self, until: Until) -> bool {
        if matches!(until, Until::Now) || !self.engine().stays_away(&self.consumer) {
            return false;
        }
        let came = self.waiter.stay_away(|| self.engine().is_announced(&self.consumer));
        if !came {
            self.engine().lose_patience(&self.consumer);
        }
        came
    }

    fn try_take(&self) -> Result<Held, PopError> {
        if !self.region().is_ours() || self.corrupt.get().is_some() {
            return Err(PopError::Empty); // `wait_take` says why
        }
        let popped = self.engine().try_pop(&self.consumer);
        if self.consumer.take_made_room() {
            self.region().wake_senders();
        }
        let delivery = popped?;
        self.peers.heard_of_one(); // a first message comes by this way, or its sender joined before this handle's eyes
        if drops_oldest(self.engine()) {
            return Ok(Held::detached(self, delivery));
        }
        Ok(Held::in_place(self, delivery))
    }

    #[cold]
    fn wait_take(&self, until: Until, first: PopError) -> Result<Held, RecvFailure> {
        if !self.region().is_ours() {
            return Err(RecvFailure::Forked);
        }
        if let Some(what) = self.corrupt.get() {
            return Err(RecvFailure::Corrupt(what));
        }
        if let PopError::Corrupt(what) = first {
            return Err(RecvFailure::Corrupt(what));
        }
        if !matches!(until, Until::Now) {
            self.engine().found_nothing(&self.consumer);
            // An answer may be on its way: before anything that takes longer than such an answer.
            if let Some(held) = self.waiter.look_briefly(|| self.take_fast(false)) {
                return Ok(held);
            }
        }
        let (region, event) = (self.region(), self.engine().items());
        let peek = || self.take_fast(false).map(Ok);
        let mut settled = false;
        let taken = self.waiter.wait(region, self.membership.me, &event, until, peek, |_| {
            // In this order: what the last sender sent before it left is seen by the try after it was found gone.
            let gone = if self.follow { None } else { self.peers.are_gone(self.engine()) };
            match (self.try_take(), gone) {
                (Ok(held), _) => Look::Done(Ok(held)),
                (Err(PopError::Corrupt(what)), _) => Look::Done(Err(RecvFailure::Corrupt(what))),
                (Err(PopError::Empty), Some(_)) if !settled => {
                    // The end comes after what a dead receiver held has gone back.
                    settled = region.is_settled();
                    Look::Busy
                }
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

    /// Ends a plain delivery. Never inlined, or a message's drop is too long to be, and the message goes to memory for it.
    #[inline(never)]
    pub(crate) fn release_plain(&self, position: u64) {
        if self.region().is_ours() && self.engine().release_fast(&self.consumer, position) {
            return self.region().wake_senders_fast();
        }
        self.release_plain_slow(position);
    }

    #[cold]
    #[inline(never)]
    fn release_plain_slow(&self, position: u64) {
        if self.region().is_ours() {
            self.engine().release_plain(&self.consumer, position);
            self.region().wake_senders();
        }
    }

    /// Ends a delivery, in its place or detached.
    #[cold]
    #[inline(never)]
    pub(crate) fn release(&self, delivery: Delivery) {
        if !self.region().is_ours() {
            return; // the parent's
        }
        if delivery.is_detached() {
            self.engine().release_detached(&self.consumer, &delivery);
        } else {
            self.engine().release(&self.consumer, &delivery);
        }
        self.region().wake_senders();
    }

    /// Leaves the slot of a delivery.
    pub(crate) fn detach(&self, delivery: &mut Delivery) {
        self.engine().detach(&self.consumer, delivery);
        self.region().wake_senders();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Messages whose guards were forgotten, or that a corrupt link did not let out.
        if (self.consumer.may_hold() || self.corrupt.get().is_some()) && self.region().is_ours() {
            self.engine().recover_self(self.membership.me);
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("link", self.address())
            .field("participant", &self.membership.me.number())
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
