//! The sending end of a link that the kernel carries: a try on its outlet, and a wait when that finds no room.

use super::wait::{Ended, Waiter};
use super::{Blocked, Inlet, Outlet, Receiver, check, no_stdio, pipe};
use crate::address::Address;
use crate::error::{Error, SendAllError, SendError, SendFailure};
use crate::ready::{Again, Ears, Found};
use crate::shm::Mode;
use crate::wait::{Interrupter, Until};
use ginnel_core::{Full, Role};
use ginnel_os::fork::{self, Generation};
use std::cell::Cell;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;

/// What its operations mean is said at [`crate::Sender`].
pub(crate) struct Sender {
    outlet: Outlet,
    waiter: Waiter,
    rejects: bool,
    link: Arc<str>,
    generation: Generation,
    spare: Cell<Vec<u8>>,
}

impl Sender {
    pub(crate) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        check(address, Role::Sender)?;
        let rejects = address.wanted.full == Some(Full::Reject);
        Self::with(Outlet::open(address, mode)?, rejects, address.link().into())
    }

    fn with(outlet: Outlet, rejects: bool, link: Arc<str>) -> Result<Self, Error> {
        let generation = fork::generation().map_err(|e| Error::os("open", link.to_string(), e))?;
        Ok(Self { outlet, waiter: Waiter::new(), rejects, link, generation, spare: Cell::default() })
    }

    /// Both ends of a new pipe.
    pub(crate) fn pair(address: &Address) -> Result<(Self, Receiver), Error> {
        check(address, Role::Sender)?;
        let (outlet, inlet) = pipe::pair(address)?;
        let rejects = address.wanted.full == Some(Full::Reject);
        let sender = Self::with(Outlet::Pipe(outlet), rejects, address.link().into())?;
        Ok((sender, Receiver::of(Inlet::Pipe(inlet), address)?))
    }

    /// The descriptor, for a child's standard output.
    pub(crate) fn into_stdio(self) -> Result<Stdio, Error> {
        self.attempt(Until::Forever, || self.outlet.flush())
            .map_err(|e| no_stdio(&self.link).problem(e.to_string()))?;
        match &self.outlet {
            Outlet::Pipe(outlet) => outlet.stdio().map_err(|e| Error::os("hand over", self.link.to_string(), e)),
            _ => Err(no_stdio(&self.link)),
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        Self::with(self.outlet.try_clone(&self.link)?, self.rejects, self.link.clone())
    }

    pub(crate) fn send_until(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
        let until = if self.rejects { Until::Now } else { until };
        let begun = Cell::new(false);
        self.attempt(until, || {
            let result = if begun.get() { self.outlet.flush() } else { self.outlet.try_send(tag, message) };
            begun.set(self.outlet.has_begun());
            result
        })
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

    /// A buffer for a loan.
    pub(crate) fn buffer(&self, len: usize) -> Result<Vec<u8>, SendError> {
        let max = self.max_message();
        if len as u64 > max {
            return Err(self.error(SendFailure::TooLarge { len, max }));
        }
        let mut bytes = self.spare.take();
        bytes.resize(len, 0);
        Ok(bytes)
    }

    pub(crate) fn give_back(&self, bytes: Vec<u8>) {
        self.spare.set(bytes);
    }

    fn attempt(&self, until: Until, attempt: impl Fn() -> Result<(), Blocked>) -> Result<(), SendError> {
        if !self.generation.is_current() {
            return Err(self.error(SendFailure::Forked));
        }
        let mut naps = 0;
        loop {
            match attempt() {
                Ok(()) => return Ok(()),
                Err(Blocked::Failed(reason)) => return Err(self.error(reason)),
                Err(Blocked::Full) if matches!(until, Until::Now) => return Err(self.error(self.out_of_time(until))),
                Err(Blocked::Full) => {}
            }
            match self.outlet.wait(|ready| self.waiter.wait(ready, until, &mut naps)) {
                Ended::Look => {}
                Ended::TimedOut => return Err(self.error(self.out_of_time(until))),
                Ended::Interrupted => return Err(self.error(SendFailure::Interrupted)),
            }
        }
    }

    /// One look, which does not wait: sends the message if there is room. `begun` is set while a part of it was written.
    pub(crate) fn look(&self, tag: u16, message: &[u8], begun: &mut bool) -> Found<Result<(), SendError>> {
        if !self.generation.is_current() {
            return Found::Done(Err(self.error(SendFailure::Forked)));
        }
        let result = if *begun { self.outlet.flush() } else { self.outlet.try_send(tag, message) };
        *begun = self.outlet.has_begun();
        match result {
            Ok(()) => Found::Done(Ok(())),
            Err(Blocked::Failed(reason)) => Found::Done(Err(self.error(reason))),
            Err(Blocked::Full) if self.rejects => Found::Done(Err(self.error(self.out_of_time(Until::Now)))),
            Err(Blocked::Full) if self.waiter.was_interrupted() => {
                Found::Done(Err(self.error(SendFailure::Interrupted)))
            }
            Err(Blocked::Full) => Found::Nothing,
        }
    }

    /// What tells when to look again.
    pub(crate) fn again<R>(&self, run: impl FnOnce(Again<'_>) -> R) -> R {
        self.outlet.wait(|ready| run(ready.into()))
    }

    pub(crate) fn ears(&self) -> &Ears {
        self.waiter.ears()
    }

    fn out_of_time(&self, until: Until) -> SendFailure {
        let (limit, value) = self.outlet.limit();
        match until {
            Until::Now if limit == "receivers" || limit == "capacity" => SendFailure::Full { capacity: value },
            Until::Now => SendFailure::NoRoom { limit, value },
            _ => SendFailure::TimedOut { limit, value },
        }
    }

    fn error(&self, reason: SendFailure) -> SendError {
        SendError { reason, link: self.link.clone() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.outlet.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        let (limit, value) = self.outlet.limit();
        limit == "capacity" && self.outlet.len() >= value
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.outlet.limit().1
    }

    pub(crate) fn max_message(&self) -> u64 {
        self.outlet.max()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.outlet.is_closed()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.outlet.dropped()
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter()
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.link
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.generation.is_current() {
            self.outlet.hang_up();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("link", &self.link).finish_non_exhaustive()
    }
}
