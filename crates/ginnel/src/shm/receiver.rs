//! The receiving end of a shared-memory link.

use super::Spec;
use super::growth::SPARE_BYTES;
use super::listening::Listening;
use super::peers::Peers;
use super::region::{Membership, Mode, Region, drops_oldest};
use super::wait::{Look, Waiter};
use crate::address::Wait;
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, RecvError, RecvFailure};
use crate::message::{Held, Message};
use crate::ready::Found;
use crate::wait::{Interrupter, Until};
use ginnel_core::{Consumer, Corrupt, Delivery, Engine, InTheWay, PopError, Role, Run, Shape, Start};
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
    /// What kept memory from being given back last: a message in hand, say.
    in_the_way: Cell<Option<InTheWay>>,
    /// Messages dropped before this receiver opened.
    dropped_before: u64,
    /// What it is on a broadcast; the consumer has nothing to do there.
    listening: Option<Listening>,
    membership: Membership,
}

impl Receiver {
    pub(crate) fn open(spec: &Spec, mode: Mode) -> Result<Self, Error> {
        Ok(Self::of(Self::join(spec, mode)?, spec))
    }

    /// Becomes a receiver of a link, whichever shape it has.
    pub(super) fn join(spec: &Spec, mode: Mode) -> Result<Membership, Error> {
        let membership = Region::join(spec, mode, Role::Receiver)?;
        let geometry = *membership.region.engine().layout().geometry();
        if spec.history.is_some() && geometry.shape != Shape::Broadcast {
            return Err(Error::new(ErrorKind::Mismatch, "open", spec.link())
                .problem(format!("it was made with shape={}, and history= was asked for", geometry.shape.name()))
                .remedy("leave history= out: only a link with ?shape=broadcast keeps messages that were received"));
        }
        Ok(membership)
    }

    pub(super) fn of(membership: Membership, spec: &Spec) -> Self {
        Self::with(membership, Start::Newest(spec.history.unwrap_or(0)), spec.follow, spec.wait)
    }

    fn with(membership: Membership, start: Start, follow: bool, wait: Wait) -> Self {
        let engine = membership.region.engine();
        let (listening, corrupt) = match Listening::begin(engine, membership.me, start) {
            Ok(listening) => (listening, None),
            Err(what) => (None, Some(what)), // the first call says so
        };
        Self {
            consumer: Consumer::new(membership.me),
            waiter: Waiter::new(wait, 1),
            peers: Peers::new(engine, Role::Sender),
            follow,
            corrupt: Cell::new(corrupt),
            in_the_way: Cell::new(None),
            dropped_before: engine.dropped(),
            listening,
            membership,
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let membership = self.membership.another(Role::Receiver)?;
        let start = self.listening.as_ref().map_or(Start::Newest(0), Listening::here);
        let mut clone = Self::with(membership, start, self.follow, self.waiter.policy());
        // What this handle knows of its peers: the last may have left before the clone was made.
        clone.peers = self.peers.clone();
        Ok(clone)
    }

    pub(crate) fn len(&self) -> u64 {
        let of_queue = || self.region().len_for(self.membership.me);
        self.listening.as_ref().map_or_else(of_queue, |listening| listening.unheard(self.engine()))
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.engine().layout().geometry().capacity
    }

    /// The next position to take, and the next to claim.
    pub(crate) fn positions(&self) -> (u64, u64) {
        self.region().positions_for(self.membership.me)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.peers.are_gone(self.engine()).is_some()
    }

    pub(crate) fn dropped(&self) -> u64 {
        match &self.listening {
            Some(listening) => listening.missed_ever(),
            None => self.engine().dropped().wrapping_sub(self.dropped_before),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.engine().layout().geometry().shape
    }

    /// Whether its messages are copies that know how many were missed before them.
    pub(crate) fn counts_missed(&self) -> bool {
        self.listening.as_ref().is_some_and(Listening::copies)
    }

    /// What interrupts a sender interrupts this receiver too, if the sender's link relays to this one.
    pub(crate) fn share_interrupts(&mut self, sender: &super::Sender) {
        self.waiter.share_interrupts(sender.waiter());
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
        match (reason, &self.listening) {
            (RecvFailure::Corrupt(what), _) => self.poison(what),
            (RecvFailure::CutOff { .. }, Some(listening)) => listening.was_told(),
            _ => {}
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
        let (delivery, bytes) = self.engine().try_pop_fast(&self.consumer, patient)?;
        Some(Held::short(delivery, bytes))
    }

    /// What [`Self::take_fast`] does not do.
    pub(crate) fn recv_slow(&self, until: Until) -> Result<Held, RecvError> {
        let gone = || if self.follow { None } else { self.peers.are_gone(self.engine()) };
        self.recv_unless(until, &gone)
    }

    /// Receives, or reports the end when `gone` says that it has come, and how many died. `gone` is asked before each look at the link, so what
    /// was committed before the end is received first. What changes its answer wakes the sleepers of this link.
    pub(crate) fn recv_unless(&self, until: Until, gone: &dyn Fn() -> Option<u64>) -> Result<Held, RecvError> {
        if matches!(until, Until::Now) {
            return self.recv_now(gone).map_err(|reason| self.error(reason));
        }
        let announced = if self.stay_away(until) { self.take_fast(false) } else { None };
        let taken = announced.map_or_else(|| self.try_take(), Ok);
        taken.or_else(|obstacle| self.wait_take(until, obstacle, gone)).map_err(|reason| self.error(reason))
    }

    /// One look, if that is enough: who finds nothing, and asks again and again, pays for no second one.
    fn recv_now(&self, gone: &dyn Fn() -> Option<u64>) -> Result<Held, RecvFailure> {
        let gone_before = gone();
        match self.try_take() {
            Ok(held) => Ok(held),
            Err(PopError::Empty) if gone_before.is_none() && self.is_usable() => {
                crate::watch::watch(self.region());
                self.give_back(Until::Now);
                Err(RecvFailure::Empty)
            }
            Err(obstacle) => self.wait_take(Until::Now, obstacle, gone),
        }
    }

    /// Whether this process has the handle, and nobody damaged its link.
    fn is_usable(&self) -> bool {
        self.region().is_ours() && self.corrupt.get().is_none()
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
        if !self.is_usable() {
            return Err(PopError::Empty); // `wait_take` says why
        }
        if let Some(listening) = &self.listening {
            let held = listening.try_hear(self)?;
            self.peers.heard_of_one();
            return Ok(held);
        }
        if self.consumer.take_passed_extent() {
            self.try_give_back(Until::Now);
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

    /// Gives memory of an unbounded link back that nobody uses. What somebody else is in the way of is tried again later. Where somebody else has the lock, it
    /// is left to that one, or to whoever looks next: this one may not look again for long.
    #[cold]
    fn give_back(&self, until: Until) {
        if self.try_give_back(until) {
            return;
        }
        self.engine().leave_memory();
        // Who had the lock may have let go of it before that could be seen.
        if !self.region().give_back_left() {
            crate::watch::look_later(self.region());
        }
    }

    /// The same for one that goes on: false if somebody else has the lock, and it is still to be done.
    fn try_give_back(&self, until: Until) -> bool {
        let engine = self.engine();
        if !engine.is_unbounded() {
            return true;
        }
        let is_in_the_way = |way| engine.is_in_the_way(self.membership.me, way);
        let ring = engine.ring_may_shrink() && !self.in_the_way.get().is_some_and(is_in_the_way);
        let blocks = self.consumer.take_had_blocks() && engine.more_blocks_than(SPARE_BYTES);
        let left = engine.is_memory_left();
        let done = !(ring || blocks || left) || self.region().give_back(blocks || left, until, &self.in_the_way);
        if blocks && !done {
            self.consumer.still_had_blocks();
        }
        done
    }

    /// Looks for the most common result only, while waiting.
    #[inline(always)]
    fn peek(&self) -> Option<Held> {
        if self.listening.is_some() { self.try_take().ok() } else { self.take_fast(false) }
    }

    #[cold]
    fn wait_take(&self, until: Until, first: PopError, gone: &dyn Fn() -> Option<u64>) -> Result<Held, RecvFailure> {
        if !self.region().is_ours() {
            return Err(RecvFailure::Forked);
        }
        if let Some(what) = self.corrupt.get() {
            return Err(RecvFailure::Corrupt(what));
        }
        if let Some(failure) = failure_of(first) {
            return Err(failure);
        }
        if !matches!(until, Until::Now) {
            self.engine().found_nothing(&self.consumer);
            // An answer may be on its way: before anything that takes longer than such an answer.
            if let Some(held) = self.waiter.look_briefly(|| self.peek()) {
                return Ok(held);
            }
        }
        let (region, event) = (self.region(), self.engine().items());
        let peek = || self.peek().map(Ok);
        let mut settled = false;
        let taken = self.waiter.wait(region, self.membership.me, &event, until, peek, |last| {
            // In this order: what the last sender sent before it left is seen by the try after it was found gone.
            let gone = gone();
            match (self.try_take(), gone) {
                (Ok(held), _) => Look::Done(Ok(held)),
                (Err(PopError::Empty), Some(_)) if !settled => {
                    // The end comes after what a dead receiver held has gone back.
                    settled = region.is_settled();
                    Look::Busy
                }
                (Err(PopError::Empty), Some(died)) => {
                    self.give_back(until);
                    Look::Done(Err(RecvFailure::Closed { died }))
                }
                (Err(PopError::Empty), None) => {
                    if last {
                        self.give_back(until);
                    }
                    Look::Nothing
                }
                (Err(other), _) => failure_of(other).map_or(Look::Busy, |failure| Look::Done(Err(failure))),
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

    /// Waits until then, and takes nothing. An error if it was interrupted.
    pub(crate) fn pause(&self, until: Until) -> Result<(), RecvError> {
        let event = self.engine().items();
        let _: Option<()> =
            self.waiter.wait(self.region(), self.membership.me, &event, until, || None, |_| Look::Nothing);
        self.interruption().map_or(Ok(()), Err)
    }

    fn interruption(&self) -> Option<RecvError> {
        self.waiter.was_interrupted().then(|| self.error(RecvFailure::Interrupted))
    }

    /// Says that somebody listens, and has those watched that may die meanwhile.
    fn listen(&self) {
        crate::watch::watch(self.region());
        self.engine().items().listen();
    }

    /// One look, which does not wait. One who listens announces itself before it.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Held, RecvError>> {
        self.look_unless(listens, &|| if self.follow { None } else { self.peers.are_gone(self.engine()) })
    }

    /// The same, with an end of one's own, as [`Self::recv_unless`]. What changes the answer of `gone` calls those who listen to this link.
    pub(crate) fn look_unless(&self, listens: bool, gone: &dyn Fn() -> Option<u64>) -> Found<Result<Held, RecvError>> {
        if let Some(held) = self.take_fast(false) {
            return Found::Done(Ok(held));
        }
        match self.look_closely(listens, gone) {
            Look::Done(done) => Found::Done(done.map_err(|reason| self.error(reason))),
            Look::Nothing => Found::Nothing,
            Look::Busy => Found::Busy,
        }
    }

    fn look_closely(&self, listens: bool, gone: &dyn Fn() -> Option<u64>) -> Look<Result<Held, RecvFailure>> {
        if !self.region().is_ours() {
            return Look::Done(Err(RecvFailure::Forked));
        }
        if let Some(what) = self.corrupt.get() {
            return Look::Done(Err(RecvFailure::Corrupt(what)));
        }
        if listens {
            self.listen();
        }
        // In this order, as in `wait_take`: gone, settled, empty.
        let gone = gone();
        let mut found = self.try_take();
        let ends = matches!(found, Err(PopError::Empty)) && gone.is_some() && self.region().is_settled();
        if ends {
            found = self.try_take();
        }
        let found = match found {
            Ok(held) => return Look::Done(Ok(held)),
            Err(obstacle) => obstacle,
        };
        if let Some(failure) = failure_of(found) {
            return Look::Done(Err(failure));
        }
        match (found, gone) {
            (PopError::Empty, Some(died)) if ends => {
                self.give_back(Until::Now);
                Look::Done(Err(RecvFailure::Closed { died }))
            }
            _ if self.waiter.was_interrupted() => Look::Done(Err(RecvFailure::Interrupted)),
            (PopError::Empty, None) => {
                if listens {
                    self.give_back(Until::Now);
                    self.engine().count_sleep(self.membership.me);
                }
                Look::Nothing
            }
            _ => Look::Busy,
        }
    }

    /// In place of a look, for who leaves what is in the link alone for now. One who listens announces itself.
    pub(crate) fn look_away(&self, listens: bool) -> Result<(), RecvError> {
        if !self.region().is_ours() {
            return Err(self.error(RecvFailure::Forked));
        }
        if listens {
            self.listen();
        }
        self.interruption().map_or(Ok(()), Err)
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
        if let Some(listening) = &self.listening {
            if listening.release(self.engine(), &delivery) {
                self.region().wake_senders();
            }
            return;
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

/// What a look found that is worth telling.
fn failure_of(found: PopError) -> Option<RecvFailure> {
    match found {
        PopError::Corrupt(what) => Some(RecvFailure::Corrupt(what)),
        PopError::Lapped(missed) => Some(RecvFailure::CutOff { missed }),
        _ => None,
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Messages whose guards were forgotten, or that a corrupt link did not let out.
        if (self.consumer.may_hold() || self.corrupt.get().is_some()) && self.region().is_ours() {
            self.engine().recover_self(self.membership.me);
        }
        if self.region().is_ours() {
            self.give_back(Until::Now);
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
