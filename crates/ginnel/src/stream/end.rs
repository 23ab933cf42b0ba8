//! One way of a connection, seen from one of its ends: whether the other one is there, what waiting for it comes to, and what is said when it fails.
//!
//! | the other end | reading, when everything was read | writing |
//! |---|---|---|
//! | is there, or has not accepted yet | waits | waits for room |
//! | has left | the end: 0 bytes | `BrokenPipe` |
//! | was killed | `ConnectionReset` | `BrokenPipe` |
//! | never came, and its listener is gone | `ConnectionReset` | `BrokenPipe` |

use super::call::Asked;
use crate::address::Wait;
use crate::ready::{Again, Ear, Found};
use crate::shm::{Look, Membership, Peers, Region, UNWATCHED, Waiter};
use crate::wait::{Interrupter, Until};
use crate::watch;
use ginnel_core::{Corrupt, Engine, Event, Role};
#[cfg(any(feature = "tokio", feature = "smol"))]
use std::cell::OnceCell;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Looks before a sleep. Less than usual: a wake-up costs little of the many bytes that come with it, and where both ends share a core, spinning takes
/// from the other's time. Measured with `ginnel bench`, on one core and on two: with 2048 each, half of a Unix socket's rate on one core.
const WRITER_SPINS: u32 = 256;
const READER_SPINS: u32 = 512;

/// What the two ends of a way have in common.
pub(super) struct End {
    waiter: Waiter,
    peers: Peers,
    role: Role,
    timeout: Cell<Option<Duration>>,
    nonblocking: Cell<bool>,
    over: Cell<Option<Over>>,
    /// Until the other end has come.
    asked: RefCell<Option<Arc<Asked>>>,
    /// Whether it was not accepted when this was last looked at.
    awaits: Cell<bool>,
    /// The connection's other way.
    other: RefCell<Weak<Region>>,
    address: Arc<str>,
    /// Of the tasks that poll it.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    ear: OnceCell<Arc<Ear>>,
    /// What they wait for beside it: something only where nobody watches.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(super) polls: RefCell<crate::ready::Wait>,
    pub(super) membership: Membership,
}

/// Why nothing more is done at this end.
#[derive(Clone, Copy)]
enum Over {
    Corrupt(Corrupt),
    #[cfg(any(feature = "tokio", feature = "smol"))]
    Closed,
}

/// How the other end has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Left,
    Died,
    Refused,
}

impl End {
    pub(super) fn new(membership: Membership, role: Role, wait: Wait, address: Arc<str>) -> Self {
        // Who waits for room is in no hurry: each look takes a line from the reader.
        let (peer, rest, spins) = match role {
            Role::Sender => (Role::Receiver, 16, WRITER_SPINS),
            Role::Receiver => (Role::Sender, 1, READER_SPINS),
        };
        Self {
            waiter: Waiter::new(wait, rest).patient_for(spins),
            peers: Peers::of_all_time(peer),
            role,
            timeout: Cell::new(None),
            nonblocking: Cell::new(false),
            over: Cell::new(None),
            asked: RefCell::new(None),
            awaits: Cell::new(false),
            other: RefCell::default(),
            address,
            #[cfg(any(feature = "tokio", feature = "smol"))]
            ear: OnceCell::new(),
            #[cfg(any(feature = "tokio", feature = "smol"))]
            polls: RefCell::default(),
            membership,
        }
    }

    /// The other end has made the link, so it was there, though it may not be any more.
    pub(super) fn other_was_there(&self) {
        self.peers.heard_of_one();
    }

    /// The two are ways of one connection.
    pub(super) fn belongs_to(&self, other: &Self) {
        self.other.replace(Arc::downgrade(other.region()));
        other.other.replace(Arc::downgrade(self.region()));
    }

    /// Nobody has accepted yet.
    pub(super) fn awaits(&self, asked: Arc<Asked>) {
        self.asked.replace(Some(asked));
        self.awaits.set(true);
    }

    /// Whether the listener went without accepting: nobody else will come.
    pub(super) fn is_refused(&self) -> bool {
        self.region().is_ours() && self.gone() == Some(Gone::Refused)
    }

    #[inline(always)]
    pub(super) fn region(&self) -> &Arc<Region> {
        &self.membership.region
    }

    #[inline(always)]
    pub(super) fn engine(&self) -> &Engine {
        self.membership.region.engine()
    }

    pub(super) fn interrupter(&self) -> Interrupter {
        self.waiter.interrupter(self.region())
    }

    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            let text = "a timeout of no time at all: give a longer one, or none, or use set_nonblocking";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.timeout.set(timeout);
        Ok(())
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.set(nonblocking);
    }

    /// Until when an operation that begins now may wait.
    pub(super) fn until(&self) -> Until {
        match self.timeout.get() {
            _ if self.nonblocking.get() => Until::Now,
            Some(timeout) => Until::after(timeout),
            None => Until::Forever,
        }
    }

    /// Whether this process may use the handle, and the link is whole.
    #[inline(always)]
    pub(super) fn check(&self) -> io::Result<()> {
        if self.region().is_ours() && self.over.get().is_none() {
            if self.awaits.get() {
                self.look_for_acceptance();
            }
            return Ok(());
        }
        Err(self.unusable())
    }

    #[cold]
    fn unusable(&self) -> io::Error {
        match self.over.get().filter(|_| self.region().is_ours()) {
            Some(Over::Corrupt(what)) => self.corrupted(what),
            #[cfg(any(feature = "tokio", feature = "smol"))]
            Some(Over::Closed) => self.error(io::ErrorKind::BrokenPipe, "this end was shut down; connect again"),
            None => self.error(
                io::ErrorKind::Unsupported,
                "the handle belongs to the parent of this process; connect from this one",
            ),
        }
    }

    /// How the other end has gone, if it has. Ask before the last look at the ring: what came before it went is then seen.
    #[inline]
    pub(super) fn gone(&self) -> Option<Gone> {
        let gone = self.peers.are_gone(self.engine());
        // After that: a listener that throws a connection away says so before it leaves this way, and the other one may hear of it by this look alone.
        let over = self.awaits.get() && self.asked.borrow().as_ref().is_some_and(|asked| asked.is_over());
        match gone {
            Some(0) => Some(Gone::Left),
            Some(_) => Some(Gone::Died),
            None if over && !self.peers.have_come(self.engine()) => Some(Gone::Refused),
            None => None,
        }
    }

    /// Waits for what `look` finds; see the table above for what else can happen. `Ok(None)`: the other end has left.
    #[cold]
    pub(super) fn wait<T>(
        &self,
        event: &Event<'_>,
        until: Until,
        mut look: impl FnMut() -> Result<Option<T>, Corrupt>,
    ) -> io::Result<Option<T>> {
        self.watch_for_acceptance();
        let waited = self.waiter.wait(
            self.region(),
            self.membership.me,
            event,
            until,
            || None,
            |_| {
                if self.awaits.get() {
                    self.watch_for_acceptance(); // again, as there may be nobody who watches
                }
                let gone = self.gone();
                match (look(), gone) {
                    (Err(what), _) => Look::Done(Err(what)),
                    (Ok(Some(found)), _) => Look::Done(Ok(Ok(found))),
                    (Ok(None), Some(gone)) => Look::Done(Ok(Err(gone))),
                    (Ok(None), None) => Look::Nothing,
                }
            },
        );
        match waited {
            Some(Ok(Ok(found))) => Ok(Some(found)),
            Some(Ok(Err(Gone::Left))) if self.role == Role::Receiver => Ok(None),
            Some(Ok(Err(gone))) => Err(self.gone_error(gone)),
            Some(Err(what)) => Err(self.corrupted(what)),
            None => Err(self.out_of_time(until)),
        }
    }

    /// Before it waits: has the listener watched, unless that has accepted.
    fn watch_for_acceptance(&self) {
        if self.awaits.get() {
            self.look_for_acceptance();
        }
        if let Some(asked) = &*self.asked.borrow() {
            asked.watch();
        }
    }

    /// Forgets about the listener when it has accepted.
    #[cold]
    fn look_for_acceptance(&self) {
        if self.peers.have_come(self.engine()) && self.asked.borrow().as_ref().is_none_or(|asked| asked.let_go()) {
            self.asked.replace(None);
            self.awaits.set(false);
        }
    }

    /// Closes it before the handle goes: the other end is told.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(super) fn close(&mut self) {
        if self.region().is_ours() {
            self.over.set(Some(Over::Closed));
            self.membership.leave();
        }
    }

    // ---- for who waits for several, and for tasks: see `ready` and `poll`

    /// What tells when to look again: as the link does, and the listener's while nobody has accepted.
    pub(super) fn again(&self) -> Again<'static> {
        match self.region().again() {
            Again::Called if self.asked.borrow().as_ref().is_some_and(|asked| !asked.is_watched()) => {
                Again::Later(UNWATCHED)
            }
            again => again,
        }
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    pub(super) fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.region().add_ear(ear)?;
        Ok(self.region().has_news())
    }

    /// The ear of the tasks that poll it, and whether the process's `News` are to be drained for it. First whether it may be used at all.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(super) fn ear(&self) -> io::Result<(&Arc<Ear>, bool)> {
        self.check()?;
        if self.ear.get().is_none() {
            let ear = Arc::default();
            self.add_ear(&ear)?;
            let _ = self.ear.set(ear);
        }
        Ok((self.ear.get().expect("it was set just now"), self.region().has_news()))
    }

    /// Says that somebody listens, who then looks again; has those watched that may die meanwhile.
    pub(super) fn listen(&self, event: &Event<'_>) {
        self.watch_for_acceptance();
        watch::watch(self.region());
        event.listen();
        self.engine().count_sleep(self.membership.me);
    }

    /// What it comes to that a look has found nothing.
    pub(super) fn nothing<T>(&self) -> Found<io::Result<T>> {
        if self.waiter.was_interrupted() { Found::Done(Err(self.interrupted())) } else { Found::Nothing }
    }

    // ---- errors

    fn error(&self, kind: io::ErrorKind, text: &str) -> io::Error {
        let what = if self.role == Role::Sender { "write to" } else { "read from" };
        io::Error::new(kind, format!("cannot {what} {}: {text}", self.address))
    }

    #[cold]
    pub(super) fn gone_error(&self, gone: Gone) -> io::Error {
        if let (Gone::Died, Some(other)) = (gone, self.other.borrow().upgrade()) {
            // It was at the other way too, which may never have waited, and so would not hear of it.
            watch::watch(&other);
            other.reap();
        }
        let kind = match self.role {
            Role::Sender => io::ErrorKind::BrokenPipe,
            Role::Receiver => io::ErrorKind::ConnectionReset,
        };
        self.error(
            kind,
            match gone {
                Gone::Left => "the peer has closed its end; connect again",
                Gone::Died => "the peer was killed; what it had written was read; connect again",
                Gone::Refused => "the listener has gone without accepting; connect again when there is another",
            },
        )
    }

    /// Ends the use of this handle.
    #[cold]
    pub(super) fn corrupted(&self, what: Corrupt) -> io::Error {
        self.over.set(Some(Over::Corrupt(what)));
        self.error(io::ErrorKind::InvalidData, &format!("{what}: the peer damaged the link; connect again"))
    }

    fn interrupted(&self) -> io::Error {
        self.error(io::ErrorKind::ConnectionAborted, "the wait was interrupted")
    }

    #[cold]
    fn out_of_time(&self, until: Until) -> io::Error {
        match until {
            Until::Now => io::ErrorKind::WouldBlock.into(),
            // Not `Interrupted`: whoever gets that tries again, as std's own loops do.
            _ if self.waiter.was_interrupted() => self.interrupted(),
            _ if self.role == Role::Sender => {
                let capacity = self.engine().layout().geometry().capacity;
                let text = format!("timed out: {capacity} bytes wait to be read, as many as ?capacity= allows");
                self.error(io::ErrorKind::TimedOut, &text)
            }
            _ => self.error(io::ErrorKind::TimedOut, "timed out: the peer wrote nothing"),
        }
    }
}
