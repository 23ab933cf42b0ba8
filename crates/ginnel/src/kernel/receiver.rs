//! The receiving end of a link that the kernel carries: a try on its inlet, and a wait when that finds nothing.

use super::wait::{Ended, Waiter};
use super::{Inlet, Nothing, check, no_stdio};
use crate::address::Address;
use crate::error::{Error, RecvError, RecvFailure};
use crate::message::{Held, Message};
use crate::ready::{Again, Ears, Found};
use crate::shm::Mode;
use crate::wait::{Interrupter, Until};
use ginnel_core::Role;
use ginnel_os::fork::{self, Generation};
use std::cell::Cell;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;

/// What its operations mean is said at [`crate::Receiver`].
pub(crate) struct Receiver {
    inlet: Inlet,
    waiter: Waiter,
    follow: bool,
    link: Arc<str>,
    generation: Generation,
    received: Cell<u64>,
    /// A buffer that is not in use.
    spare: Cell<Vec<u8>>,
    failed: Cell<Option<RecvFailure>>,
    /// What the next call says, and then no more.
    told_later: Cell<Option<RecvFailure>>,
}

impl Receiver {
    pub(crate) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        check(address, Role::Receiver)?;
        Self::of(Inlet::open(address, mode)?, address)
    }

    pub(super) fn of(inlet: Inlet, address: &Address) -> Result<Self, Error> {
        let generation = fork::generation().map_err(|e| Error::os("open", address.link(), e))?;
        Ok(Self::with(inlet, address.follow, address.link().into(), generation))
    }

    /// The descriptor, for a child's standard input. What was read already goes with this handle.
    pub(crate) fn into_stdio(self) -> Result<Stdio, Error> {
        match &self.inlet {
            Inlet::Pipe(inlet) => inlet.stdio().map_err(|e| Error::os("hand over", self.link.to_string(), e)),
            _ => Err(no_stdio(&self.link)),
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let inlet = self.inlet.try_clone(&self.link)?;
        Ok(Self::with(inlet, self.follow, self.link.clone(), self.generation))
    }

    fn with(inlet: Inlet, follow: bool, link: Arc<str>, generation: Generation) -> Self {
        let (received, spare) = (Cell::new(0), Cell::default());
        let (failed, told_later) = (Cell::new(None), Cell::new(None));
        Self { inlet, waiter: Waiter::new(), follow, link, generation, received, spare, failed, told_later }
    }

    pub(crate) fn recv_until(&self, until: Until) -> Result<Held, RecvError> {
        self.take(until).map_err(|reason| RecvError { reason, link: self.link.clone() })
    }

    pub(crate) fn recv_many_until(&self, most: usize, until: Until) -> Result<Vec<Message<'_>>, RecvError> {
        let mut messages = Vec::new();
        if most == 0 {
            return Ok(messages);
        }
        messages.push(Message::new(None, self.recv_until(until)?));
        while messages.len() < most {
            match self.try_take() {
                Ok(held) => messages.push(Message::new(None, held)),
                Err(Nothing::Failed(reason)) => {
                    self.failed.set(Some(reason)); // the next call says so
                    break;
                }
                Err(Nothing::CutOff(reason)) => {
                    self.told_later.set(Some(reason));
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(messages)
    }

    fn take(&self, until: Until) -> Result<Held, RecvFailure> {
        let mut naps = 0;
        loop {
            if let Some(done) = self.once() {
                return done;
            }
            if matches!(until, Until::Now) {
                return Err(RecvFailure::Empty);
            }
            match self.waiter.wait(self.inlet.ready(), until, &mut naps) {
                Ended::Look => {}
                Ended::TimedOut => return Err(RecvFailure::TimedOut),
                Ended::Interrupted => return Err(RecvFailure::Interrupted),
            }
        }
    }

    /// A message, or why there will be none; nothing while it is worth waiting.
    fn once(&self) -> Option<Result<Held, RecvFailure>> {
        if !self.generation.is_current() {
            return Some(Err(RecvFailure::Forked));
        }
        if let Some(reason) = self.failed.get().or_else(|| self.told_later.take()) {
            return Some(Err(reason));
        }
        match self.try_take() {
            Ok(held) => Some(Ok(held)),
            Err(Nothing::Ended) if !self.follow => Some(Err(RecvFailure::Closed { died: 0 })),
            Err(Nothing::Failed(reason)) => {
                self.failed.set(Some(reason));
                Some(Err(reason))
            }
            Err(Nothing::CutOff(reason)) => Some(Err(reason)),
            Err(_) => None,
        }
    }

    /// One look, which does not wait.
    pub(crate) fn look(&self) -> Found<Result<Held, RecvError>> {
        let interrupted = || self.waiter.was_interrupted().then_some(Err(RecvFailure::Interrupted));
        match self.once().or_else(interrupted) {
            Some(done) => Found::Done(done.map_err(|reason| RecvError { reason, link: self.link.clone() })),
            None => Found::Nothing,
        }
    }

    /// What tells when to look again.
    pub(crate) fn again(&self) -> Again<'_> {
        self.inlet.ready().into()
    }

    pub(crate) fn ears(&self) -> &Ears {
        self.waiter.ears()
    }

    fn try_take(&self) -> Result<Held, Nothing> {
        let mut bytes = self.spare.take();
        match self.inlet.try_recv(&mut bytes) {
            Ok(about) => {
                let position = self.received.get();
                self.received.set(position + 1);
                Ok(Held::copied(bytes, position, about))
            }
            Err(nothing) => {
                self.spare.set(bytes);
                Err(nothing)
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.inlet.len()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.inlet.capacity()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inlet.is_closed()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.inlet.dropped()
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter()
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.link
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("link", &self.link).finish_non_exhaustive()
    }
}
