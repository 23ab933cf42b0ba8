//! Who is woken, and by what: sleepers by their futex, those who listen by a read of the link's file, which inotify reports to them (see `ready`), or, in a
//! link of this process, by a call; and who waits for news of another link, by that one's.
//!
//! Who was killed between taking announcements down and waking has a recoverer, which wakes all, announced or not.

use super::region::{Home, Region};
use super::wait::UNWATCHED;
use crate::ready::{Again, Ear};
use ginnel_core::{BELL_BYTE, Called, Event};
use ginnel_os::{futex, tmpfile};
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError, Weak};

impl Region {
    /// Wakes everybody who sleeps or listens, to look again; even those who were forgotten with a dead one's epoch, or by one who was killed when it had
    /// taken their announcements down. The caller may be no participant, whom nobody recovers: killed in the middle, it has taken nothing down.
    pub(crate) fn wake_all(&self) {
        self.wake_all_here();
        self.wake_relays();
    }

    fn wake_all_here(&self) {
        for event in [self.engine.items(), self.engine.room()] {
            event.stir();
            let _ = futex::wake_all(event.futex_word());
        }
        self.call_listeners();
    }

    /// From now on the sleepers of another link of this process look again when somebody joins this one, leaves it or dies. Whoever relies on
    /// that also has this one watched.
    pub(crate) fn relay_to(&self, other: &Arc<Self>) {
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        relays.retain(|relay| relay.strong_count() > 0);
        relays.push(Arc::downgrade(other));
    }

    pub(super) fn wake_relays(&self) {
        if !self.is_ours() {
            return; // a forked child, which may have inherited the lock locked
        }
        let relays: Vec<_> = {
            let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
            relays.iter().filter_map(Weak::upgrade).collect()
        };
        relays.iter().for_each(|relay| relay.wake_all_here()); // no further: two may relay to each other
    }

    /// After a message was committed: wakes the receivers that sleep or listen.
    #[inline(always)]
    pub(crate) fn wake_receivers(&self) {
        let event = self.engine.items();
        if let Some(called) = event.notify() {
            self.wake(&event, called);
        }
    }

    /// The same, for a sender whose side is exclusive to it.
    #[inline(always)]
    pub(crate) fn wake_receivers_fast(&self) {
        if self.engine.items().is_announced_of_exclusive() {
            self.wake_noted_receivers();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_noted_receivers(&self) {
        let event = self.engine.items();
        self.wake(&event, event.take_down());
    }

    /// As [`Self::wake_senders`], for a receiver whose side is exclusive to it.
    #[inline(always)]
    pub(crate) fn wake_senders_fast(&self) {
        if self.engine.room().is_announced_of_exclusive() {
            self.wake_noted_senders();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_noted_senders(&self) {
        let event = self.engine.room();
        self.wake(&event, event.take_down());
    }

    /// After a place became free: wakes the senders that sleep or listen, whatever they wait for: a slot, or a block of some size.
    #[inline(always)]
    pub(crate) fn wake_senders(&self) {
        let event = self.engine.room();
        if let Some(called) = event.notify() {
            self.wake(&event, called);
        }
    }

    /// After the room of bytes was given back that the writer of a stream waits for.
    #[cold]
    pub(crate) fn wake_writer(&self, called: Called) {
        self.wake(&self.engine.room(), called);
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, event: &Event<'_>, called: Called) {
        if called.sleepers {
            let _ = futex::wake_all(event.futex_word());
        }
        if called.listeners {
            self.call_listeners();
        }
    }

    /// Calls those who listen, in any process: see `ready`.
    fn call_listeners(&self) {
        match self.home {
            Home::Directory(..) => _ = tmpfile::read_at(self.file.as_fd(), &mut [0], BELL_BYTE),
            Home::Process => self.ears.call(),
        }
    }

    /// Calls those who listen in this process, for news that only this process has.
    #[cold]
    pub(crate) fn call_ears(&self) {
        if self.is_ours() {
            self.ears.call(); // not in a forked child, which may have inherited the lock locked
        }
    }

    /// Has an ear called from now on whenever there may be news; its owner then announces itself in an event, and looks again.
    /// Whether the process's [`News`](crate::ready::News) are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> std::io::Result<bool> {
        if let Home::Directory(..) = self.home {
            self.ears.join(self.file.as_fd())?; // first: who tries again would add an ear more each time
        }
        self.ears.add(ear);
        Ok(self.has_news())
    }

    /// What tells who listens here when to look again. A look of one who listens has it watched first; where nobody can watch, nobody is called
    /// for a death, and that look finds the dead itself.
    pub(crate) fn again(&self) -> Again<'static> {
        if self.is_watched() { Again::Called } else { Again::Later(UNWATCHED) }
    }

    /// Whether who listens is called by the process's [`News`](crate::ready::News).
    pub(crate) fn has_news(&self) -> bool {
        matches!(self.home, Home::Directory(..))
    }
}
