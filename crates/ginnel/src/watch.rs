//! The watcher: one thread a process, started by the first handle that finds nothing to do, which learns of deaths and
//! recovers the dead, so that nobody waits for them.
//!
//! The kernel reports by `inotify(7)` that a description of a link's file was let go, which is what happens to a liveness
//! token when its process ends in any way. The report comes a moment before the lock is gone, so the watcher looks
//! again a little later. Where the kernel refuses another inotify instance, it looks every 20 ms instead.

use crate::region::Region;
use ginnel_os::fork::{self, Generation};
use ginnel_os::inotify::Inotify;
use ginnel_os::{poll, signal};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// When to look again after a report.
const AGAIN: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(8)];
/// How often to look where there are no reports.
const POLL: Duration = Duration::from_millis(20);

/// This process's watcher. A forked child finds its parent's here, sees that it is not its own, and starts another.
static WATCHER: AtomicPtr<Watcher> = AtomicPtr::new(std::ptr::null_mut());

struct Watcher {
    generation: Generation,
    inotify: Option<Inotify>,
    links: Mutex<HashMap<i32, Vec<Weak<Region>>>>,
}

/// Has the region watched from now on, and recovers who died before. Cheap after the first time.
pub(crate) fn watch(region: &Arc<Region>) {
    if !region.watched.load(Ordering::Relaxed) {
        start(region);
    }
}

#[cold]
fn start(region: &Arc<Region>) {
    if region.watched.swap(true, Ordering::SeqCst) {
        return;
    }
    let watcher = Watcher::of_this_process();
    if let Some(watcher) = watcher {
        watcher.add(region);
    }
    region.reap();
}

impl Watcher {
    /// `None` where no thread can be started: then deaths are noticed at the next opening.
    fn of_this_process() -> Option<&'static Self> {
        let generation = fork::generation().ok()?;
        let current = WATCHER.load(Ordering::SeqCst);
        if let Some(watcher) = shared(current) {
            if watcher.generation.is_current() {
                return Some(watcher);
            }
        }
        let watcher = Box::new(Self { generation, inotify: Inotify::new().ok(), links: Mutex::default() });
        let new = Box::into_raw(watcher);
        match WATCHER.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                let watcher = shared(new)?;
                let builder = std::thread::Builder::new().name("ginnel-watch".into()).stack_size(128 * 1024);
                // The program's signals are not for this thread.
                signal::with_all_blocked(|| builder.spawn(|| watcher.run())).ok()?;
                Some(watcher)
            }
            Err(other) => {
                discard(new);
                shared(other)
            }
        }
    }

    fn add(&self, region: &Arc<Region>) {
        // Under the lock: the thread may be about to give up the watch of an earlier handle on the same file.
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = self.inotify.as_ref().and_then(|inotify| inotify.watch_close(region.file().as_fd()).ok());
        links.entry(watch.unwrap_or(-1)).or_default().push(Arc::downgrade(region));
    }

    fn run(&self) {
        let mut look_again: Vec<(Instant, i32)> = Vec::new();
        loop {
            let unreported = self.prune();
            let due = look_again.iter().map(|(at, _)| *at).min();
            let polled = unreported.then(|| Instant::now() + POLL);
            let until = [due, polled].into_iter().flatten().min();
            match &self.inotify {
                Some(inotify) => drop(poll::readable(&[inotify], until)),
                None => std::thread::sleep(until.map_or(POLL, |at| at.saturating_duration_since(Instant::now()))),
            }
            for watch in self.reports() {
                self.reap(watch);
                look_again.extend(AGAIN.map(|after| (Instant::now() + after, watch)));
            }
            let now = Instant::now();
            let mut ready: Vec<i32> = look_again.iter().filter(|(at, _)| *at <= now).map(|(_, watch)| *watch).collect();
            look_again.retain(|(at, _)| *at > now);
            ready.sort_unstable();
            ready.dedup();
            ready.into_iter().chain(unreported.then_some(-1)).for_each(|watch| self.reap(watch));
        }
    }

    /// Watches with news: all of them if the kernel lost count.
    fn reports(&self) -> Vec<i32> {
        let all = || self.links.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        match &self.inotify {
            Some(inotify) => inotify.read().ok().flatten().unwrap_or_else(all),
            None => Vec::new(),
        }
    }

    fn reap(&self, watch: i32) {
        let regions: Vec<_> = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.get(&watch).map(|regions| regions.iter().filter_map(Weak::upgrade).collect()).unwrap_or_default()
        };
        for region in regions {
            region.reap();
        }
    }

    /// Forgets links that were closed. True if one is watched without reports.
    fn prune(&self) -> bool {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|watch, regions| {
            regions.retain(|region| region.strong_count() > 0);
            if let (true, Some(inotify)) = (regions.is_empty(), &self.inotify) {
                inotify.unwatch(*watch);
            }
            !regions.is_empty()
        });
        links.contains_key(&-1)
    }
}

#[allow(unsafe_code)] // A watcher is never freed once it is published.
fn shared(watcher: *mut Watcher) -> Option<&'static Watcher> {
    // SAFETY: null, or made by Box::into_raw in `of_this_process` and, once stored in WATCHER, never freed.
    unsafe { watcher.as_ref() }
}

#[allow(unsafe_code)] // A watcher that lost the race was never published.
fn discard(watcher: *mut Watcher) {
    // SAFETY: made by Box::into_raw just before, and its pointer was given to nobody.
    drop(unsafe { Box::from_raw(watcher) });
}
