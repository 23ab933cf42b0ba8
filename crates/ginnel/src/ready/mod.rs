//! Waiting for several things at once: what `Select`, descriptors and async have in common.
//!
//! ```text
//!             one who waits                              one who has news
//!   ear: whom to call, as a std Waker           publishes; finds the announcement in the event count
//!   announces that it listens, looks again      shm: reads a byte of the link's file  --inotify-->  drain, in the
//!   waits for descriptors, or returns Pending   mem: calls the ears itself                           waiting process
//! ```
//!
//! Who sleeps on one link sleeps on its futex. Who waits for several, or in an event loop, cannot: it *listens* (see `event` in ginnel-core). Whoever
//! has news for it reads a byte of the link's file, which `inotify(7)` reports to each process that listens (`IN_ACCESS`). A process has one
//! inotify instance for that ([`News`]), whatever the number of its links; whoever of its threads finds it readable *drains* it, on
//! behalf of all: it finds the links that have news, and calls their ears. There is no thread for this, and nothing beside the link.
//!
//! A link of one process (`mem:`) needs no file: who has news calls the ears itself. A link that the kernel carries has descriptors of its own.
//!
//! | concept | file |
//! |---|---|
//! | ears: who is to be called, by link | here |
//! | the inotify instance | `news` |
//! | waiting for one of several; what they may be, and what comes from each | `select`, `source` |
//! | a descriptor for event loops | `descriptor` |
//! | futures, streams, sinks | `future` |
//! | the reactors of runtimes | `reactor` |
//!
//! [I1] An ear that is armed belongs to one who is announced, or whose announcement somebody has taken down and who is about to be called. So
//! one that is still armed need not announce itself again.
//! [I2] News are drained before the ears are called, or the only one that is armed is, and they are drained before anybody announces itself again (see `news`);
//! and an ear is armed before its owner announces itself: no news come between.

mod descriptor;
#[cfg(feature = "async")]
mod future;
mod news;
#[cfg(feature = "async")]
mod reactor;
mod select;
mod source;

pub use descriptor::{RecvReadiness, SendReadiness};
#[cfg(feature = "async")]
pub(crate) use future::Wait;
#[cfg(feature = "async")]
pub use future::{RecvFuture, RecvStream, SendFuture, SendSink};
pub(crate) use news::News;
pub use select::{Select, Selected};
pub use source::{Arrival, Source};

use ginnel_os::eventfd::EventFd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// What tells when to look again at what was not there.
pub(crate) enum Again<'a> {
    /// The ears are called, and nothing else tells.
    Called,
    /// Nothing tells: after so long at most.
    Later(Duration),
    /// The ears are called, and then it is worth looking again.
    At(Instant),
    /// This descriptor is readable, or its other end gone.
    Read(BorrowedFd<'a>),
    /// This descriptor is writable, or its other end gone.
    Write(BorrowedFd<'a>),
}

impl Again<'_> {
    /// The same, and from then on it is worth looking again whatever else tells.
    pub(crate) fn or_at(self, at: Instant) -> Self {
        match self {
            Self::Called => Self::At(at),
            Self::Later(most) => Self::Later(most.min(at.saturating_duration_since(Instant::now()))),
            other => other,
        }
    }
}

/// What a look found.
pub(crate) enum Found<T> {
    /// What was looked for, or why it cannot be had.
    Done(T),
    /// Nothing: see the handle's [`Again`].
    Nothing,
    /// Somebody is in the middle of a few instructions, or was killed there: nobody calls.
    Busy,
}

impl<T> Found<T> {
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Done(found) => Found::Done(make(found)),
            Self::Nothing => Found::Nothing,
            Self::Busy => Found::Busy,
        }
    }
}

/// A look that does not wait; but a side that changes hands, or a message whose last bytes are being written, is worth a few.
pub(crate) fn look_now<T>(mut look: impl FnMut() -> Found<T>) -> Option<T> {
    for turn in 0..200 {
        match look() {
            Found::Done(done) => return Some(done),
            Found::Nothing => return None,
            Found::Busy if turn < 100 => std::hint::spin_loop(),
            Found::Busy => std::thread::yield_now(),
        }
    }
    None
}

/// Longest nap while somebody else is in the middle of a few instructions.
const BUSY_MOST: Duration = Duration::from_millis(1);
/// The first nap.
const NAP_LEAST: Duration = Duration::from_micros(50);

/// The next of several naps in a row, each twice as long as the one before.
pub(crate) fn nap(naps: &mut u32, most: Duration) -> Duration {
    *naps += 1;
    NAP_LEAST.saturating_mul(1 << (*naps - 1).min(16)).min(most)
}

/// Whom to call.
#[derive(Default)]
pub(crate) struct Ear {
    waker: Mutex<Option<Waker>>,
}

impl Ear {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this one called, once. Whether the ear was armed already, and not called since.
    pub(crate) fn arm(&self, waker: &Waker) -> bool {
        if self.waker().as_ref().is_some_and(|armed| armed.will_wake(waker)) {
            return true;
        }
        let waker = waker.clone();
        let was = self.waker().replace(waker);
        was.is_some() // dropped without the lock: what that runs is not ours
    }

    /// Has this one called instead, if the ear is still armed. Otherwise nothing is armed: who wants to be called announces itself again.
    #[cfg(feature = "async")]
    pub(crate) fn stays_armed(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut there = self.waker();
        let was = if there.is_some() { there.replace(waker) } else { None };
        drop(there);
        was.is_some() // dropped without the lock, as above
    }

    #[cfg(any(feature = "tokio", feature = "smol"))]
    fn is_armed(&self) -> bool {
        self.waker().is_some()
    }

    /// Whom it would call now.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(crate) fn armed(&self) -> Option<Waker> {
        self.waker().clone()
    }

    /// Calls nobody from now on.
    pub(crate) fn disarm(&self) {
        let was = self.waker().take();
        drop(was); // without the lock, as above
    }

    fn call(&self) {
        let armed = self.waker().take();
        if let Some(waker) = armed {
            waker.wake();
        }
    }
}

/// The ears at one link, or at one handle of the kernel's.
#[derive(Default)]
pub(crate) struct Ears {
    /// Whether there ever was one: where there was none, calling them is one load, and may be done by a handler of signals.
    any: AtomicBool,
    list: Mutex<Vec<Weak<Ear>>>,
    /// Where its news come from, if from another process, and as which watch.
    news: OnceLock<(Arc<News>, i32)>,
}

impl Ears {
    fn list(&self) -> MutexGuard<'_, Vec<Weak<Ear>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ear more, until its owner drops it.
    pub(crate) fn add(&self, ear: &Arc<Ear>) {
        self.any.store(true, SeqCst);
        let mut list = self.list();
        list.retain(|ear| ear.strong_count() > 0);
        list.push(Arc::downgrade(ear));
    }

    /// Has the news of a link's file come here.
    pub(crate) fn join(self: &Arc<Self>, file: BorrowedFd<'_>) -> io::Result<()> {
        if self.news.get().is_none() {
            let news = News::of_this_process()?;
            let watch = news.add(self, file)?;
            let _ = self.news.set((news, watch));
        }
        Ok(())
    }

    /// Finds the one that is armed. False if there is another already.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    fn only_one_armed(&self, only: &mut Option<Arc<Ear>>) -> bool {
        let armed = |ear: &Weak<Ear>| ear.upgrade().filter(|ear| ear.is_armed());
        !self.any.load(SeqCst) || self.list().iter().filter_map(armed).all(|ear| only.replace(ear).is_none())
    }

    /// Calls everybody who is armed.
    pub(crate) fn call(&self) {
        if !self.any.load(SeqCst) {
            return;
        }
        let ears: Vec<_> = self.list().iter().filter_map(Weak::upgrade).collect();
        ears.iter().for_each(|ear| ear.call()); // without the lock: what wakers run is not ours
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        if let Some((news, watch)) = self.news.take() {
            news.forget(watch);
        }
    }
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").finish_non_exhaustive()
    }
}

/// One who is called by a descriptor that becomes readable.
struct Signal(EventFd);

impl Signal {
    fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(EventFd::new()?)))
    }

    fn clear(&self) {
        self.0.clear();
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.signal();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.signal();
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_os::poll;

    #[test]
    fn an_ear_is_called_once_and_by_whom_it_was_armed_last() {
        let (ears, ear) = (Ears::default(), Arc::new(Ear::default()));
        ears.add(&ear);
        let [first, second] = [(); 2].map(|()| Signal::new().unwrap());
        let readable = |signal: &Arc<Signal>| poll::is_readable(signal.as_fd()).unwrap();
        assert!(!ear.arm(&first.clone().into()));
        assert!(ear.arm(&second.clone().into()));
        ears.call();
        assert_eq!((readable(&first), readable(&second)), (false, true));
        second.clear();
        ears.call();
        assert!(!readable(&second));
        assert!(!ear.arm(&first.clone().into()));
        ear.disarm();
        ears.call();
        assert!(!readable(&first));
    }

    #[test]
    fn ears_that_are_gone_are_forgotten() {
        let ears = Ears::default();
        for _ in 0..100 {
            ears.add(&Arc::new(Ear::default()));
        }
        assert_eq!(ears.list().len(), 1);
    }

    #[test]
    fn one_who_does_not_wait_looks_again_while_somebody_is_busy() {
        let mut looks = 0;
        let mut look = |busy, found: fn() -> Found<()>| {
            looks = 0;
            look_now(|| {
                looks += 1;
                if looks > busy { found() } else { Found::Busy }
            })
        };
        assert_eq!(look(150, || Found::Done(())), Some(()));
        assert_eq!(look(150, || Found::Nothing), None);
        assert_eq!(look(u32::MAX, || Found::Nothing), None, "not for ever");
        assert!(looks > 150);
    }

    #[test]
    fn naps_grow_to_their_limit() {
        let mut naps = 0;
        let lengths: Vec<_> = (0..40).map(|_| nap(&mut naps, Duration::from_millis(20))).collect();
        assert_eq!((lengths[0], lengths[1]), (NAP_LEAST, 2 * NAP_LEAST));
        assert_eq!(lengths[39], Duration::from_millis(20));
        assert!(lengths.is_sorted());
    }
}
