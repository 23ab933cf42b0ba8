//! The watcher: one thread and one inotify instance a process, started by the first handle that finds nothing to do, which learns
//! of deaths and has them looked at, so that nobody waits for the dead.
//!
//! The kernel reports by `inotify(7)` that a description of a watched file was let go, which is what happens to a liveness
//! token when its process ends in any way. The report comes a moment before the lock is gone, so the watcher looks
//! again a little later. Where the kernel refuses another inotify instance or watch, it looks every 20 ms instead, and
//! asks again each second.
//!
//! To repair what a dead peer left takes a descriptor, for a moment. So each process keeps one in reserve from when it begins to watch, which it gives up
//! for that and takes back. One that lacks it, as there was none to keep or another thread was quicker, tries to get one each second. What could not be repaired
//! all the same is looked at again every 20 ms.

use ginnel_os::eventfd::EventFd;
use ginnel_os::fork::{self, Generation};
use ginnel_os::inotify::Inotify;
use ginnel_os::{errno, explain, poll, signal};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// When to look again after a report. The lock goes right after it, but the process that lets it go may be preempted between.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(8), Duration::from_millis(64), Duration::from_millis(512)];
/// How often to look at links of which there are no reports.
const POLL: Duration = Duration::from_millis(20);
/// How often to ask again for reports, or for a descriptor to keep in reserve, that the kernel has refused.
const ASK: Duration = Duration::from_secs(1);
/// In place of a watch: a link of which there are no reports.
const UNREPORTED: i32 = -1;

/// This process's watcher. A forked child finds its parent's here, sees that it is not its own, and starts another.
static WATCHER: AtomicPtr<Watcher> = AtomicPtr::new(std::ptr::null_mut());

/// What somebody may die of whom others wait for.
pub(crate) trait Watched: Send + Sync {
    /// The file that the tokens are in.
    fn file(&self) -> BorrowedFd<'_>;
    /// Whether it is watched already.
    fn watched(&self) -> &AtomicBool;
    /// Somebody may have died, or has left. False if that could not be told, or repaired, now: it is to be looked at again.
    fn look(&self) -> bool;
}

type Links = HashMap<i32, Vec<Weak<dyn Watched>>>;

/// Once published it stays, whether its thread could be started or not: what it has of the kernel's is made once a process.
struct Watcher {
    generation: Generation,
    /// Whether its thread is there, which never ends.
    running: AtomicBool,
    /// When its thread could not be started last. Locked by who starts it.
    refused: Mutex<Option<Instant>>,
    /// Empty for as long as the kernel refuses it.
    inotify: OnceLock<Inotify>,
    /// Tells the thread that a link came whose file cannot be watched.
    news: EventFd,
    links: Mutex<Links>,
    /// Watches of the links that are to be looked at again.
    unfinished: Mutex<Vec<i32>>,
    /// The descriptor in reserve: a copy of `news`, which nobody uses.
    reserve: Mutex<Option<OwnedFd>>,
}

/// Has it watched from now on, and looks at who died before. Cheap after the first time. False where no thread can be started: then
/// whoever waits has to look now and then.
#[inline]
pub(crate) fn watch<W: Watched + 'static>(link: &Arc<W>) -> bool {
    link.watched().load(Ordering::Relaxed) || start(link)
}

#[cold]
fn start<W: Watched + 'static>(link: &Arc<W>) -> bool {
    let Some(watcher) = Watcher::of_this_process() else {
        link.look();
        return false;
    };
    // Only now, as whoever finds it so relies on it.
    if link.watched().swap(true, Ordering::SeqCst) {
        return true; // by another thread, which looks
    }
    let watch = watcher.add(link);
    if !link.look() {
        watcher.look_later(watch);
    }
    true
}

/// Has it looked at again in a while, as what is to be done there could not be done now.
#[cold]
pub(crate) fn look_later<W: Watched + 'static>(link: &Arc<W>) {
    let watcher = shared(WATCHER.load(Ordering::SeqCst)).filter(|watcher| watcher.generation.is_current());
    if let Some((watcher, watch)) = watcher.and_then(|watcher| Some((watcher, watcher.watch_of(link)?))) {
        watcher.look_later(watch);
    }
}

/// Makes an attempt that needs a descriptor for a moment: in place of the one in reserve, where there is no other.
pub(crate) fn with_descriptor<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    attempt().or_else(|e| if is_starved(&e) { with_reserve(attempt).unwrap_or(Err(e)) } else { Err(e) })
}

fn is_starved(e: &io::Error) -> bool {
    matches!(explain::errno(e), Some(errno::EMFILE | errno::ENFILE))
}

#[cold]
fn with_reserve<T>(attempt: impl Fn() -> io::Result<T>) -> Option<io::Result<T>> {
    let watcher = shared(WATCHER.load(Ordering::SeqCst)).filter(|watcher| watcher.generation.is_current())?;
    let mut reserve = watcher.reserve();
    drop(reserve.take()?);
    let result = attempt();
    if !watcher.refill(&mut reserve) {
        watcher.news.signal(); // another thread has it now: the watcher asks for one again
    }
    Some(result)
}

impl Watcher {
    /// `None` where it has no thread, and none can be started now.
    fn of_this_process() -> Option<&'static Self> {
        let watcher = Self::published()?;
        let is_running = watcher.running.load(Ordering::SeqCst) || watcher.start(|| watcher.spawn());
        is_running.then_some(watcher)
    }

    fn published() -> Option<&'static Self> {
        let generation = fork::generation().ok()?;
        let current = WATCHER.load(Ordering::SeqCst);
        if let Some(watcher) = shared(current) {
            if watcher.generation.is_current() {
                return Some(watcher);
            }
        }
        let new = Box::into_raw(Box::new(Self::new(generation)?));
        match WATCHER.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => shared(new),
            Err(other) => {
                discard(new);
                shared(other)
            }
        }
    }

    fn new(generation: Generation) -> Option<Self> {
        let watcher = Self::with(generation, EventFd::new().ok()?);
        watcher.ask_for_inotify();
        watcher.refill(&mut watcher.reserve());
        Some(watcher)
    }

    fn with(generation: Generation, news: EventFd) -> Self {
        let (running, refused, inotify, links, unfinished, reserve) = Default::default();
        Self { generation, running, refused, inotify, news, links, unfinished, reserve }
    }

    fn reserve(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the descriptor in reserve back, if there is one. Whether it is there.
    fn refill(&self, reserve: &mut Option<OwnedFd>) -> bool {
        if reserve.is_none() {
            *reserve = self.news.as_fd().try_clone_to_owned().ok();
        }
        reserve.is_some()
    }

    /// Has its thread started, one caller at a time, and after a refusal not at once again. Whether it is there.
    #[cold]
    fn start(&self, spawn: impl FnOnce() -> io::Result<()>) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if self.running.load(Ordering::SeqCst) {
            return true; // since just now
        }
        if refused.is_some_and(|at| at.elapsed() < POLL) {
            return false;
        }
        let spawned = spawn().is_ok();
        self.running.store(spawned, Ordering::SeqCst);
        *refused = (!spawned).then(Instant::now);
        spawned
    }

    fn spawn(&'static self) -> io::Result<()> {
        let builder = std::thread::Builder::new().name("ginnel-watch".into()).stack_size(128 * 1024);
        // The program's signals are not for this thread.
        signal::with_all_blocked(|| builder.spawn(|| self.run())).map(drop)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<W: Watched + 'static>(&self, link: &Arc<W>) -> i32 {
        // Under the lock: the thread may be about to give up the watch of an earlier handle on the same file.
        let mut links = self.links();
        let watch = self.inotify.get().and_then(|inotify| inotify.watch_close(link.file()).ok());
        let weak: Weak<W> = Arc::downgrade(link);
        links.entry(watch.unwrap_or(UNREPORTED)).or_default().push(weak);
        if watch.is_none() {
            self.news.signal();
        }
        watch.unwrap_or(UNREPORTED)
    }

    fn watch_of<W: Watched + 'static>(&self, link: &Arc<W>) -> Option<i32> {
        let is_it = |weak: &Weak<dyn Watched>| std::ptr::addr_eq(weak.as_ptr(), Arc::as_ptr(link));
        self.links().iter().find(|(_, all)| all.iter().any(is_it)).map(|(watch, _)| *watch)
    }

    /// What a look at a link has not finished is left to the thread.
    fn look_later(&self, watch: i32) {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
        self.news.signal();
    }

    fn take_unfinished(&self) -> Vec<i32> {
        std::mem::take(&mut *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask_for_inotify(&self) {
        if let (None, Ok(inotify)) = (self.inotify.get(), Inotify::new()) {
            let _ = self.inotify.set(inotify); // by this thread, or before there is another
        }
    }

    /// Asks again for reports of the links of which there are none. The watches that it got: of who died before, they tell nothing.
    fn ask_for_reports(&self) -> Vec<i32> {
        self.ask_for_inotify();
        let Some(inotify) = self.inotify.get() else { return Vec::new() };
        let mut links = self.links();
        let unreported = links.remove(&UNREPORTED).unwrap_or_default();
        let kept: Vec<_> = unreported.iter().filter_map(Weak::upgrade).collect();
        let mut got = Vec::new();
        for link in &kept {
            let watch = inotify.watch_close(link.file()).ok();
            got.extend(watch);
            links.entry(watch.unwrap_or(UNREPORTED)).or_default().push(Arc::downgrade(link));
        }
        drop(links); // before the links, which may be let go of here
        got
    }

    fn run(&self) {
        let mut look_again: Vec<(Instant, i32)> = Vec::new();
        let mut ask_at = Instant::now() + ASK;
        loop {
            let unreported = self.prune();
            let polled = unreported.then(|| Instant::now() + POLL);
            let reserve = (!self.refill(&mut self.reserve())).then(|| Instant::now() + ASK);
            let until = look_again.iter().map(|(at, _)| *at).chain(polled).chain(reserve).min();
            let inotify = self.inotify.get().map(AsFd::as_fd);
            let files: Vec<_> = inotify.into_iter().chain([self.news.as_fd()]).collect();
            let _ = poll::readable(&files, until);
            self.news.clear();
            let mut told = self.reports();
            if unreported && Instant::now() >= ask_at {
                told.extend(self.ask_for_reports());
                ask_at = Instant::now() + ASK;
            }
            for watch in told {
                self.look(watch);
                look_again.extend(AGAIN.map(|after| (Instant::now() + after, watch)));
            }
            let mut unfinished = self.take_unfinished();
            let now = Instant::now();
            let mut ready: Vec<i32> = look_again.iter().filter(|(at, _)| *at <= now).map(|(_, watch)| *watch).collect();
            look_again.retain(|(at, _)| *at > now);
            ready.extend(unreported.then_some(UNREPORTED));
            ready.sort_unstable();
            ready.dedup();
            unfinished.extend(ready.into_iter().filter(|watch| !self.look(*watch)));
            for watch in unfinished {
                if watch != UNREPORTED && look_again.iter().all(|(_, other)| *other != watch) {
                    look_again.push((now + POLL, watch));
                }
            }
        }
    }

    /// Watches with news: all of them if the kernel lost count.
    fn reports(&self) -> Vec<i32> {
        match self.inotify.get() {
            Some(inotify) => inotify.read().ok().flatten().unwrap_or_else(|| self.links().keys().copied().collect()),
            None => Vec::new(),
        }
    }

    /// False if one of its links is to be looked at again.
    fn look(&self, watch: i32) -> bool {
        let links: Vec<_> =
            self.links().get(&watch).map(|all| all.iter().filter_map(Weak::upgrade).collect()).unwrap_or_default();
        links.iter().filter(|link| !link.look()).count() == 0 // all of them are looked at
    }

    /// Forgets links that were closed. True if one is watched without reports.
    fn prune(&self) -> bool {
        let mut links = self.links();
        links.retain(|watch, all| {
            all.retain(|link| link.strong_count() > 0);
            if let (true, Some(inotify)) = (all.is_empty(), self.inotify.get()) {
                inotify.unwatch(*watch);
            }
            !all.is_empty()
        });
        links.contains_key(&UNREPORTED)
    }
}

#[allow(unsafe_code)] // A watcher is never freed once it is published.
fn shared(watcher: *mut Watcher) -> Option<&'static Watcher> {
    // SAFETY: null, or made by Box::into_raw in `published` and, once stored in WATCHER, never freed.
    unsafe { watcher.as_ref() }
}

#[allow(unsafe_code)] // A watcher that lost the race was never published.
fn discard(watcher: *mut Watcher) {
    // SAFETY: made by Box::into_raw just before, and its pointer was given to nobody.
    drop(unsafe { Box::from_raw(watcher) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct File(std::fs::File, AtomicBool);

    impl Watched for File {
        fn file(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn watched(&self) -> &AtomicBool {
            &self.1
        }

        fn look(&self) -> bool {
            true
        }
    }

    #[test]
    fn links_get_their_reports_once_the_kernel_allows_it() {
        let watcher = Watcher::with(fork::generation().unwrap(), EventFd::new().unwrap());
        let file = Arc::new(File(tempfile::tempfile().unwrap(), AtomicBool::new(false)));
        watcher.add(&file);
        watcher.add(&Arc::new(File(tempfile::tempfile().unwrap(), AtomicBool::new(false)))); // gone
        assert_eq!(watcher.links().keys().copied().collect::<Vec<_>>(), [UNREPORTED]);
        let watches = watcher.ask_for_reports();
        assert_eq!(watches.len(), 1);
        assert_eq!(watcher.watch_of(&file), watches.first().copied());
        assert_eq!(watcher.links().keys().copied().collect::<Vec<_>>(), watches);
        assert!(!watcher.prune(), "none is looked at now and then");
        drop(file.0.try_clone().unwrap());
        assert!(watcher.reports().is_empty(), "a copy is no description");
        drop(Arc::into_inner(file).unwrap());
        assert_eq!(watcher.reports(), watches);
    }

    #[test]
    fn a_thread_that_is_refused_is_asked_for_again_and_started_once() {
        let watcher = Watcher::new(fork::generation().unwrap()).unwrap();
        let asked = Cell::new(0);
        let start = |succeeds: bool| {
            watcher.start(|| {
                asked.set(asked.get() + 1);
                if succeeds { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            })
        };
        assert!(!start(false));
        assert!(!watcher.running.load(Ordering::SeqCst));
        *watcher.refused.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
        assert!(!start(true), "at once again");
        assert_eq!(asked.get(), 1);
        *watcher.refused.lock().unwrap() = Instant::now().checked_sub(POLL);
        assert!(start(true));
        assert!(start(false), "it is there");
        assert_eq!(asked.get(), 2);
    }
}
