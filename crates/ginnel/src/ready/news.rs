//! This process's one inotify instance for news of links: of which of its links somebody read a byte, because somebody here listens.
//!
//! It is not the watcher's (see `watch`): that one has a thread, which is told of deaths; were the two one, each message to one who listens would
//! wake that thread too.
//!
//! To read the instance takes a system call, which who is woken can do after what it was woken for. So where one ear is armed in the whole process, the news are
//! *told*: that ear is called at once, and they are *left* where they are. Whoever is about to announce itself then takes them first: news of which the
//! kernel has one already, of the same link, call nobody.
//!
//! [I1] Where news are left, every ear that was armed when that was said was called. Whoever arms one looks afterwards whether any are left, and drains them.
//!
//! A forked child has a copy of the descriptor, and never touches it: what it read there, its parent would miss. It makes one of its own.

#[cfg(any(feature = "tokio", feature = "smol"))]
use super::Ear;
use super::Ears;
use ginnel_os::fork::{self, Generation};
use ginnel_os::inotify::Inotify;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Links at whose ears it looks, at most, to find the one that is armed.
#[cfg(any(feature = "tokio", feature = "smol"))]
const FEW: usize = 8;

/// The instance, once somebody has listened.
static NEWS: Mutex<Option<Arc<News>>> = Mutex::new(None);
/// Whether there may be news in the instance of which those were told who listened. In a forked child at most once in vain.
static LEFT: AtomicBool = AtomicBool::new(false);

/// The instance, and the links that it watches.
pub(crate) struct News {
    generation: Generation,
    inotify: Inotify,
    /// By watch. Several regions of one process may be of the same file.
    links: Mutex<HashMap<i32, Vec<Weak<Ears>>>>,
}

impl News {
    pub(crate) fn of_this_process() -> io::Result<Arc<Self>> {
        // A child would inherit the table locked.
        let _no_fork = fork::hold_off();
        let mut news = NEWS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = news.as_ref().filter(|news| news.generation.is_current()) {
            return Ok(news.clone());
        }
        let (generation, inotify) = (fork::generation()?, Inotify::new()?);
        let new = Arc::new(Self { generation, inotify, links: Mutex::default() });
        // A child's copy of its parent's is leaked: its ears lock what the parent may have had locked.
        std::mem::forget(news.replace(new.clone()));
        Ok(new)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<i32, Vec<Weak<Ears>>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has reads of a file told to these ears. Says as which watch.
    pub(super) fn add(&self, ears: &Arc<Ears>, file: BorrowedFd<'_>) -> io::Result<i32> {
        // Under the lock: another region of this file may be about to give the watch up.
        let mut links = self.links();
        let watch = self.inotify.watch_access(file)?;
        links.entry(watch).or_default().push(Arc::downgrade(ears));
        Ok(watch)
    }

    /// The ears of a watch are gone, of which there may be others.
    pub(super) fn forget(&self, watch: i32) {
        if !self.generation.is_current() {
            return; // the parent's
        }
        let mut links = self.links();
        let Some(all) = links.get_mut(&watch) else { return };
        all.retain(|ears| ears.strong_count() > 0);
        if all.is_empty() {
            links.remove(&watch);
            self.inotify.unwatch(watch);
        }
    }

    /// There are news: calls the one who listens, if it is one, and leaves them. False if nothing was done.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(crate) fn tell(&self) -> bool {
        // Before the ears are looked at [I1]. If some are left already, of these everybody was told.
        if !self.generation.is_current() || LEFT.swap(true, SeqCst) {
            return false;
        }
        let only = self.only_one_armed();
        only.inspect(|ear| ear.call()).is_some()
    }

    #[cfg(any(feature = "tokio", feature = "smol"))]
    fn only_one_armed(&self) -> Option<Arc<Ear>> {
        let links = self.links();
        if links.len() > FEW {
            return None;
        }
        let mut only = None;
        for ears in links.values().flatten().filter_map(Weak::upgrade) {
            if !ears.only_one_armed(&mut only) {
                return None;
            }
        }
        only
    }

    /// Drains what was left, before somebody announces itself.
    #[cfg(feature = "async")]
    pub(crate) fn drain_left() -> io::Result<()> {
        if LEFT.load(SeqCst) {
            Self::of_this_process()?.drain();
        }
        Ok(())
    }

    /// Takes what news there are, and calls the ears that they are for. Does not wait.
    pub(crate) fn drain(&self) {
        if !self.generation.is_current() {
            return;
        }
        LEFT.store(false, SeqCst); // first: what is left from now on is left by somebody else
        // An error is as if the kernel had lost count.
        let watches = self.inotify.read().ok().flatten();
        let ears: Vec<Arc<Ears>> = {
            let links = self.links();
            let told: Vec<&Vec<Weak<Ears>>> = match &watches {
                Some(watches) => watches.iter().filter_map(|watch| links.get(watch)).collect(),
                None => links.values().collect(),
            };
            told.into_iter().flatten().filter_map(Weak::upgrade).collect()
        };
        ears.iter().for_each(|ears| ears.call());
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
