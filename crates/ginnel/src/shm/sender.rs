//! The sending end of a shared-memory link.

use super::Spec;
use super::growth::Grown;
use super::loan::Loan;
use super::peers::Peers;
use super::region::{Membership, Mode, Region, drops_oldest};
use super::wait::{Look, Waiter};
use crate::address::Wait;
use crate::error::{Error, SendAllError, SendError, SendFailure};
use crate::ready::Found;
use crate::wait::{Interrupter, Until};
use ginnel_core::{Block, Engine, Full, Producer, PushError, RUN_MAX, Role};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// The sending end of a shared-memory link; what its operations mean is said at [`crate::Sender`].
pub(crate) struct Sender {
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

/// Names what is in the way of a sender of an unbounded link, which waits for nothing else.
pub(crate) const GROWTH: &str = "growth";
/// The limit that a sender meets where another participant is in the middle of a few instructions: one at a time.
pub(crate) const TURN: &str = "turn";
/// How often, and how long, a sender that does not wait does so for another one that gets memory: that takes longer than a few instructions, and it may
/// have lost its core meanwhile.
const NAPS: u32 = 20;
const NAP: Duration = Duration::from_micros(100);

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

/// What the last try of one that ran out of time lacked.
#[derive(Clone, Copy)]
enum Lacks {
    /// Room, or who gives it.
    Room,
    /// A block.
    Memory,
    /// Somebody else is in the middle of a few instructions.
    Turn,
}

impl Lacks {
    fn of<T>(tried: &Result<T, Obstacle>) -> Self {
        match tried {
            Err(Obstacle::NoBlock(_)) => Self::Memory,
            Err(Obstacle::Busy) => Self::Turn,
            _ => Self::Room,
        }
    }
}

impl Sender {
    pub(crate) fn open(spec: &Spec, mode: Mode) -> Result<Self, Error> {
        let membership = Region::join(spec, mode, Role::Sender)?;
        Ok(Self::with(membership, spec.follow, spec.wait))
    }

    pub(super) fn with(membership: Membership, follow: bool, wait: Wait) -> Self {
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

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let membership = self.membership.another(Role::Sender)?;
        let mut clone = Self::with(membership, self.follow, self.waiter.policy());
        // What this handle knows of its peers: the last may have left before the clone was made.
        clone.peers = self.peers.clone();
        Ok(clone)
    }

    pub(crate) fn len(&self) -> u64 {
        self.region().len_for(self.membership.me)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.region().is_ours() && self.region().is_full_for(self.membership.me) // a forked child sends nothing
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

    /// If the last receiver has left, and that is the end: how many died.
    pub(crate) fn receivers_gone(&self) -> Option<u64> {
        self.peers_gone()
    }

    /// Whether somebody has the receiving end, as far as this process knows: see `Region::reap`.
    pub(crate) fn has_receiver(&self) -> bool {
        self.peers.are_there(self.engine())
    }

    /// Waits until somebody has the receiving end. A receiver that relies on this wakes all when it has joined. False if the link was removed.
    pub(crate) fn wait_for_receiver(&self, until: Until) -> Result<bool, SendFailure> {
        if !self.region().is_ours() {
            return Err(SendFailure::Forked);
        }
        let event = self.engine().room();
        let came = self.waiter.wait(
            self.region(),
            self.membership.me,
            &event,
            until,
            || None,
            |_| match (self.engine().is_removed(), self.has_receiver()) {
                (true, _) => Look::Done(false),
                (false, true) => Look::Done(true),
                (false, false) => Look::Nothing,
            },
        );
        came.ok_or_else(|| match until {
            Until::Now => SendFailure::Full { capacity: 0 },
            _ if self.waiter.was_interrupted() => SendFailure::Interrupted,
            _ => SendFailure::TimedOut { limit: "receivers", value: 0 },
        })
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    pub(crate) fn address(&self) -> &std::sync::Arc<str> {
        self.region().link()
    }

    // ---- how

    pub(super) fn waiter(&self) -> &Waiter {
        &self.waiter
    }

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
            self.producer.give_up_side();
        }
        SendError { reason, link: self.region().link().clone() }
    }

    /// Sends, if that is the common case: see [`Engine::try_push_fast`].
    #[inline(always)]
    pub(crate) fn send_fast(&self, tag: u16, message: &[u8]) -> bool {
        // A corrupt link has no common case: `error` gave the side up.
        if !self.region().is_ours() || !self.engine().try_push_fast(&self.producer, tag, message) {
            return false;
        }
        self.region().wake_receivers_fast();
        true
    }

    pub(crate) fn send_until(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
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

    pub(crate) fn send_all_until<M: AsRef<[u8]>>(&self, messages: &[M], until: Until) -> Result<u64, SendAllError> {
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
                    let error = self.error(self.out_of_time(until, Lacks::Room));
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

    fn try_once(&self, tag: u16, message: &[u8]) -> Result<(), Obstacle> {
        self.check()?;
        let pushed = self.engine().try_push(&self.producer, tag, message);
        pushed.map_err(|e| self.obstacle(e, message.len()))
    }

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
        let is_mended = drops_oldest(self.engine()) || self.engine().is_unbounded();
        let is_stale = matches!(first, Obstacle::Full) && !is_mended;
        if is_stale && !matches!(until, Until::Now) {
            self.stay_away();
        }
        let mut first = if is_stale { None } else { Some(first) };
        let (mut lacked, mut looks) = (Lacks::Room, 0u32);
        let (region, event) = (self.region(), self.engine().room());
        // While the ring is full, nothing cheaper than a full look can tell: its consumer moves one word.
        let peek = || None;
        let mut look = |last: bool| {
            let gone = self.peers_gone();
            // What the first try found may be mended at once: memory to commit, an old message to drop.
            let tried = first.take().map_or_else(&mut attempt, Err);
            lacked = Lacks::of(&tried);
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
        };
        let mut done = self.waiter.wait(region, self.membership.me, &event, until, peek, &mut look);
        let mut naps = if self.engine().is_unbounded() && matches!(until, Until::Now) { NAPS } else { 0 };
        while done.is_none() && naps > 0 {
            naps -= 1;
            std::thread::sleep(NAP);
            done = self.waiter.wait(region, self.membership.me, &event, until, peek, &mut look);
        }
        done.unwrap_or_else(|| Err(self.out_of_time(until, lacked)))
    }

    /// Waits for an announcement of room, if that is worth it.
    fn stay_away(&self) {
        if self.engine().stays_away_from_room(&self.producer)
            && !self.waiter.stay_away(|| self.engine().is_room_announced(&self.producer))
        {
            self.engine().lose_patience_for_room(&self.producer);
        }
    }

    /// One look, which does not wait: sends the message if there is room. One who listens announces itself before it.
    pub(crate) fn look(&self, tag: u16, message: &[u8], listens: bool) -> Found<Result<(), SendError>> {
        if listens && self.region().is_ours() {
            crate::watch::watch(self.region());
            self.engine().room().listen();
        }
        let gone = self.peers_gone();
        let tried = self.try_once(tag, message);
        let lacks = Lacks::of(&tried);
        let looked = match tried {
            Ok(()) => {
                self.region().wake_receivers();
                Look::Done(Ok(()))
            }
            Err(Obstacle::Failed(reason)) => Look::Done(Err(reason)),
            Err(Obstacle::Busy) => Look::Busy,
            Err(Obstacle::Full) => self.full(gone),
            Err(Obstacle::NoBlock(len)) => self.no_block(len, gone),
        };
        match looked {
            Look::Done(done) => Found::Done(done.map_err(|reason| self.error(reason))),
            Look::Nothing if self.engine().layout().geometry().full == Full::Reject => {
                Found::Done(Err(self.error(self.out_of_time(Until::Now, lacks))))
            }
            _ if self.waiter.was_interrupted() => Found::Done(Err(self.error(SendFailure::Interrupted))),
            Look::Nothing => {
                if listens {
                    self.engine().count_sleep(self.membership.me);
                }
                Found::Nothing
            }
            Look::Busy => Found::Busy,
        }
    }

    /// How many receivers died, if none is left and that is the end.
    fn peers_gone(&self) -> Option<u64> {
        if self.follow { None } else { self.peers.are_gone(self.engine()) }
    }

    fn full<T>(&self, gone: Option<u64>) -> Look<Result<T, SendFailure>> {
        if self.engine().layout().is_broadcast() {
            return Look::Nothing; // without a receiver it is not full
        }
        if drops_oldest(self.engine()) {
            return match self.engine().make_room(&self.producer) {
                Ok(_) => Look::Busy,
                Err(PushError::Corrupt(what)) => Look::Done(Err(SendFailure::Corrupt(what))),
                Err(_) => Look::Busy,
            };
        }
        if self.engine().is_unbounded() {
            return self.grown(self.region().grow_ring(), gone);
        }
        match gone {
            Some(died) => Look::Done(Err(SendFailure::Closed { died })),
            None => Look::Nothing,
        }
    }

    /// A sender of an unbounded link does not wait for room: where there is no more memory it fails.
    fn grown<T>(&self, grown: Result<Grown, SendFailure>, gone: Option<u64>) -> Look<Result<T, SendFailure>> {
        let ceiling = self.engine().layout().geometry().memory;
        let reason = match grown {
            Ok(Grown::Again) => return Look::Busy,
            Ok(Grown::AtCeiling) => SendFailure::NoMemory { ceiling },
            Err(reason) => reason,
        };
        Look::Done(Err(match (reason, gone) {
            (SendFailure::NoMemory { .. } | SendFailure::Full { .. }, Some(died)) => SendFailure::Closed { died },
            (reason, _) => reason,
        }))
    }

    fn no_block<T>(&self, len: usize, gone: Option<u64>) -> Look<Result<T, SendFailure>> {
        let grown = self.region().grow_blocks(len);
        if self.engine().is_unbounded() {
            return self.grown(grown, gone);
        }
        match grown {
            Ok(Grown::Again) => Look::Busy,
            Ok(Grown::AtCeiling) if self.engine().layout().is_broadcast() => self.let_go_of_a_block(len),
            Ok(Grown::AtCeiling) if drops_oldest(self.engine()) && !self.engine().any_block_waits() => Look::Nothing,
            Ok(Grown::AtCeiling) => self.full(gone),
            Err(reason) => Look::Done(Err(reason)),
        }
    }

    /// On a broadcast a block stays with its message until that makes way: here it makes way for a block.
    fn let_go_of_a_block<T>(&self, len: usize) -> Look<Result<T, SendFailure>> {
        match self.engine().let_go_of_a_block(&self.producer, len) {
            Ok(false) => Look::Nothing,
            Err(PushError::Corrupt(what)) => Look::Done(Err(SendFailure::Corrupt(what))),
            _ => Look::Busy,
        }
    }

    fn out_of_time(&self, until: Until, lacked: Lacks) -> SendFailure {
        if !matches!(until, Until::Now) && self.waiter.was_interrupted() {
            return SendFailure::Interrupted;
        }
        let geometry = self.engine().layout().geometry();
        let is_unbounded = self.engine().is_unbounded();
        match (until, lacked) {
            (Until::Now, Lacks::Turn) if is_unbounded => SendFailure::NoRoom { limit: TURN, value: 1 },
            (Until::Now, _) if is_unbounded => SendFailure::NoRoom { limit: GROWTH, value: 1 },
            (Until::Now, Lacks::Memory) => SendFailure::NoMemory { ceiling: geometry.memory },
            (Until::Now, _) => SendFailure::Full { capacity: geometry.capacity },
            (_, Lacks::Turn) => SendFailure::TimedOut { limit: TURN, value: 1 },
            _ if is_unbounded => SendFailure::TimedOut { limit: GROWTH, value: 1 },
            (_, Lacks::Memory) => SendFailure::TimedOut { limit: "memory", value: geometry.memory },
            (_, Lacks::Room) => SendFailure::TimedOut { limit: "capacity", value: geometry.capacity },
        }
    }

    pub(crate) fn loan_until(&self, len: usize, until: Until) -> Result<Loan<'_>, SendError> {
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

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.region().is_ours() {
            return;
        }
        if self.loans.get() > 0 {
            self.engine().recover_self(self.membership.me);
        }
        self.region().leave_blocks(); // that it got and has not used: whose send was given up, say
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("link", self.address())
            .field("participant", &self.membership.me.number())
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
