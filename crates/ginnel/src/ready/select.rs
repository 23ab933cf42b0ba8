//! `Select`: the next message of several receivers, whatever carries them.
//!
//! One turn: look at each, beginning after the one that was served last, so that a busy one does not starve the others. If none has anything: listen at
//! each that can be listened at, look once more, and wait in one `poll(2)` for the descriptors of those that have one, for this process's
//! [`News`], and for the select's own signal, which its ear raises. What ended the wait is taken away before the next one, and not before the look: a
//! message is not held up by that. Others who wait for the same news are woken by them too, or called when they are drained.

use super::{Again, BUSY_MOST, Ear, Found, News, Signal, nap};
use crate::error::RecvError;
use crate::message::Message;
use crate::receiver::Receiver;
use crate::wait::Until;
use ginnel_os::poll::{self, Interest};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Waits for the first of several receivers that has a message. They may be of any kind: shared memory, threads, pipes, queues, sockets, signals.
///
/// Each is served in turn: one that always has messages does not keep those of the others waiting. Nothing is used up while it waits, but for
/// `sysv:`, which it looks at every 20 ms: nothing tells of its messages but a look.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{Link, Receiver, RecvFailure, Select, Sender};
///
/// let orders = Receiver::open("shm:orders")?;
/// let (writer, lines) = Link::new("pipe:?frame=line")?.pair()?;
/// let mut select = Select::new().recv(&orders).recv(&lines);
///
/// writer.send(b"from the pipe")?;
/// let first = select.wait();
/// assert_eq!((first.index, &*first.message?), (1, &b"from the pipe"[..]));
///
/// let sender = Sender::open("shm:orders")?;
/// sender.send(b"two coffees")?;
/// drop(writer);
/// let mut ended = 0;
/// while let Some(next) = select.try_now() {
///     match next.message {
///         Ok(message) => assert_eq!(&*message, b"two coffees"),
///         Err(end) => {
///             assert_eq!((next.index, end.reason()), (1, RecvFailure::Closed { died: 0 }));
///             select.remove(next.index); // or it is told again
///             ended += 1;
///         }
///     }
/// }
/// assert_eq!(ended, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Select<'a> {
    entries: Vec<Entry<'a>>,
    /// Which is looked at first.
    next: usize,
    post: Option<Post>,
    ready: Vec<bool>,
}

/// A receiver, until it is removed.
struct Entry<'a> {
    receiver: Option<&'a Receiver>,
    /// Whether the select's ear is at it.
    heard: bool,
}

/// What one of the receivers had.
#[derive(Debug)]
pub struct Selected<'a> {
    /// Which: the place in which it was added, from 0.
    pub index: usize,
    /// Its message, or why it has none: its senders have left, it was interrupted, or it failed. It stays until it is removed, and is told again.
    pub message: Result<Message<'a>, RecvError>,
}

/// Where the select is told what no descriptor of a receiver tells.
struct Post {
    ear: Arc<Ear>,
    signal: Arc<Signal>,
    waker: Waker,
    news: Option<Arc<News>>,
    /// What ended the last wait, and is still to be taken away: the signal, the news.
    raised: (bool, bool),
}

impl<'a> Select<'a> {
    /// Of no receivers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a receiver. Its place is the number of those that were added before it.
    #[must_use]
    pub fn recv(mut self, receiver: &'a Receiver) -> Self {
        self.add(receiver);
        self
    }

    /// The same, where a loop adds them. Returns its place.
    pub fn add(&mut self, receiver: &'a Receiver) -> usize {
        self.entries.push(Entry { receiver: Some(receiver), heard: false });
        self.entries.len() - 1
    }

    /// Takes a receiver out. The others keep their places.
    ///
    /// # Panics
    /// If no receiver was ever added at this place.
    pub fn remove(&mut self, index: usize) {
        self.entries[index].receiver = None;
    }

    /// Receivers in it.
    pub fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.receiver.is_some()).count()
    }

    /// Whether there is no receiver in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a message, or for the end of one of them.
    ///
    /// # Panics
    /// If it is empty: it would wait for ever.
    pub fn wait(&mut self) -> Selected<'a> {
        assert!(!self.is_empty(), "a select of no receivers waits for ever");
        self.wait_until(Until::Forever).expect("it waits for ever")
    }

    /// Waits for at most this long; `None` when nothing came.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Selected<'a>> {
        self.wait_until(Until::after(timeout))
    }

    /// Waits until then at most; `None` when nothing came.
    pub fn wait_deadline(&mut self, deadline: Instant) -> Option<Selected<'a>> {
        self.wait_until(Until::Instant(deadline))
    }

    /// What is there now.
    pub fn try_now(&mut self) -> Option<Selected<'a>> {
        self.wait_until(Until::Now)
    }

    // ---- how

    fn wait_until(&mut self, until: Until) -> Option<Selected<'a>> {
        let mut naps = 0;
        loop {
            if matches!(until, Until::Now) {
                return self.look_now();
            }
            if let (Some(found), _) = self.look(false) {
                return Some(found);
            }
            if until.has_come() {
                return None;
            }
            if let Err(failed) = self.listen() {
                return Some(failed);
            }
            let (found, busy) = self.look(true);
            if found.is_some() {
                self.hush();
                return found;
            }
            self.sleep(until, busy, &mut naps);
        }
    }

    fn look_now(&mut self) -> Option<Selected<'a>> {
        super::look_now(|| match self.look(false) {
            (Some(found), _) => Found::Done(found),
            (None, false) => Found::Nothing,
            (None, true) => Found::Busy,
        })
    }

    /// Looks at each, from the next one on. And whether one of those that had nothing was busy.
    fn look(&mut self, listens: bool) -> (Option<Selected<'a>>, bool) {
        let mut busy = false;
        let count = self.entries.len();
        for index in (self.next..count).chain(0..self.next.min(count)) {
            match self.entries[index].receiver.map(|receiver| receiver.look(listens)) {
                Some(Found::Done(message)) => {
                    self.next = (index + 1) % count;
                    return (Some(Selected { index, message }), busy);
                }
                Some(Found::Busy) => busy = true,
                Some(Found::Nothing) | None => {}
            }
        }
        (None, busy)
    }

    /// Arms the ear, and brings it to those receivers that it is not at yet. On an error that receiver is selected.
    fn listen(&mut self) -> Result<(), Selected<'a>> {
        let first = self.entries.iter().position(|entry| entry.receiver.is_some()).unwrap_or_default();
        let failed = |index: usize, receiver: Option<&Receiver>, e: &std::io::Error| {
            let error = receiver.map(|receiver| receiver.os_error(e));
            Selected { index, message: Err(error.expect("it is there")) }
        };
        let post = match &mut self.post {
            Some(post) => post,
            None => {
                let made = Post::new().map_err(|e| failed(first, self.entries[first].receiver, &e))?;
                self.post.insert(made)
            }
        };
        post.take();
        post.ear.arm(&post.waker);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let Some(receiver) = entry.receiver.filter(|_| !entry.heard) else { continue };
            let has_news = receiver.add_ear(&post.ear).map_err(|e| failed(index, Some(receiver), &e))?;
            if has_news && post.news.is_none() {
                let news = News::of_this_process().map_err(|e| failed(index, Some(receiver), &e))?;
                post.news = Some(news);
            }
            entry.heard = true;
        }
        Ok(())
    }

    /// Ends the listening: what is called from now on would only raise the signal in vain.
    fn hush(&self) {
        if let Some(post) = &self.post {
            post.ear.disarm();
        }
    }

    fn sleep(&mut self, until: Until, busy: bool, naps: &mut u32) {
        let Some(post) = &mut self.post else { return };
        let mut files: Vec<(BorrowedFd<'_>, Interest)> = vec![(post.signal.as_fd(), Interest::Read)];
        let has_news = post.news.is_some();
        files.extend(post.news.iter().map(|news| (news.as_fd(), Interest::Read)));
        let mut longest = busy.then_some(BUSY_MOST);
        for receiver in self.entries.iter().filter_map(|entry| entry.receiver) {
            match receiver.again() {
                Again::Called => {}
                Again::Later(most) => longest = Some(longest.map_or(most, |longest| longest.min(most))),
                Again::Read(file) => files.push((file, Interest::Read)),
                Again::Write(file) => files.push((file, Interest::Write)),
            }
        }
        let nap = longest.map(|most| Instant::now() + nap(naps, most));
        let deadline = match until {
            Until::Instant(at) => Some(nap.map_or(at, |nap| nap.min(at))),
            _ => nap,
        };
        let woken = poll::which(&files, &mut self.ready, deadline);
        if woken.is_err() {
            // Of a descriptor, which the next look meets too; or no memory: then this is a busy wait, with pauses.
            std::thread::sleep(BUSY_MOST);
        }
        // Who looks at all of them in a moment need not be told which.
        post.ear.disarm();
        let is_ready = |at: usize| self.ready.get(at) == Some(&true);
        post.raised = (is_ready(0), has_news && is_ready(1));
    }
}

impl Post {
    fn new() -> std::io::Result<Self> {
        let (ear, signal) = (Arc::default(), Signal::new()?);
        Ok(Self { ear, waker: Waker::from(signal.clone()), signal, news: None, raised: (false, false) })
    }

    /// Takes away what ended the last wait.
    fn take(&mut self) {
        let (signal, news) = std::mem::take(&mut self.raised);
        if let (Some(there), true) = (&self.news, news) {
            there.drain();
        }
        if signal {
            self.signal.clear();
        }
    }
}

impl Drop for Select<'_> {
    fn drop(&mut self) {
        self.hush();
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.entries.iter().map(|entry| entry.receiver.map(Receiver::address));
        f.debug_list().entries(links).finish()
    }
}
