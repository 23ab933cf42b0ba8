//! `Select`: what comes next from any of several handles, whatever they are: see `source`.
//!
//! One turn: look at each, beginning after the one that was served last, so that a busy one does not starve the others. If none has anything: listen at
//! each that can be listened at, look once more, and wait in one `poll(2)` for the descriptors of those that have one, for this process's
//! [`News`], and for the select's own signal, which its ear raises. What ended the wait is taken away before the next one, and not before the look: a
//! message is not held up by that. Others who wait for the same news are woken by them too, or called when they are drained.
//!
//! For a loop of somebody else's the same descriptors, and a timer for what would end the wait by the clock, are in one epoll set: see
//! [`Select::descriptor`]. There the caller waits between two turns, and each turn takes away all that may have ended the wait.

use super::{Again, Arrival, BUSY_MOST, Ear, Found, News, Signal, Source, nap};
use crate::wait::Until;
use ginnel_os::epoll::Epoll;
use ginnel_os::poll::{self, Interest};
use ginnel_os::timerfd::TimerFd;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Waits for the first of several handles that has something. They may be of any kind: [receivers](crate::Receiver) over shared memory, threads, pipes, queues, sockets,
/// signals; [servers](crate::call::Server) and [calls](crate::call::Call) under way; [mailboxes](crate::mail::Mailbox);
/// [listeners](crate::stream::Listener), and [streams](crate::stream::Stream) of bytes.
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
/// assert_eq!((first.index, &*first.arrival.message()?), (1, &b"from the pipe"[..]));
///
/// let sender = Sender::open("shm:orders")?;
/// sender.send(b"two coffees")?;
/// drop(writer);
/// let mut ended = 0;
/// while let Some(next) = select.try_now() {
///     match next.arrival.message() {
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
///
/// Handles of several kinds, told apart by what arrives:
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::call::{Client, Server};
/// use ginnel::mail::{Mailbox, Post};
/// use ginnel::stream::{Listener, Stream};
/// use ginnel::{Arrival, Select};
/// use std::io::Write;
///
/// let (server, mailbox) = (Server::open("shm:length")?, Mailbox::open("clerk")?);
/// let listener = Listener::bind("shm:desk")?;
/// let mut select = Select::new().recv(&server).recv(&mailbox).recv(&listener);
///
/// let client = Client::open("shm:length")?;                 // in other processes
/// let call = client.begin(b"how long?")?;
/// Post::new().send_to("clerk", b"good morning")?;
/// let visitor = Stream::connect("shm:desk")?;
///
/// for _ in 0..3 {
///     match select.wait().arrival {
///         Arrival::Request(request) => {
///             let request = request?;
///             let length = request.len().to_string();
///             request.reply(length.as_bytes())?;
///         }
///         Arrival::Letter(letter) => assert_eq!(letter?.bytes(), b"good morning"),
///         Arrival::Connection(stream) => write!(stream?, "next, please")?,
///         other => panic!("{other:?}"),
///     }
/// }
/// assert_eq!(&*call.recv()?.expect("a response"), b"9");
/// match Select::new().recv(&visitor).wait().arrival {
///     Arrival::Bytes(there) => assert_eq!(there?, 12), // read it as `(&visitor).read(..)`, which does not wait now
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Select<'a> {
    entries: Vec<Entry<'a>>,
    /// Which is looked at first.
    next: usize,
    post: Option<Post>,
    ready: Vec<bool>,
    outlet: Option<Outlet>,
}

/// A handle, until it is removed.
struct Entry<'a> {
    source: Option<Source<'a>>,
    /// Whether the select's ear is at it.
    heard: bool,
}

/// What one of the handles had.
#[derive(Debug)]
pub struct Selected<'a> {
    /// Which: the place in which it was added, from 0.
    pub index: usize,
    /// What arrived, or why nothing does: the peers have left, it was interrupted, or it failed. Such a one stays until it is removed, and is told again.
    pub arrival: Arrival<'a>,
}

/// The descriptor for somebody else's loop.
struct Outlet {
    set: Epoll,
    /// Whether the news are in the set.
    has_news: bool,
    /// What is in the set until the next turn.
    armed: Vec<OwnedFd>,
    /// A timer from the beginning: a listener may wait until there are descriptors.
    alarm: TimerFd,
    /// Whether that is in the set too.
    is_set: bool,
    naps: u32,
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
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handle: a reference to any of those that a [`Source`] is made of. Its place is the number of those that were added before it.
    #[must_use]
    pub fn recv(mut self, handle: impl Into<Source<'a>>) -> Self {
        self.add(handle);
        self
    }

    /// The same, where a loop adds them. Returns its place.
    pub fn add(&mut self, handle: impl Into<Source<'a>>) -> usize {
        self.entries.push(Entry { source: Some(handle.into()), heard: false });
        self.entries.len() - 1
    }

    /// Takes a handle out. The others keep their places.
    ///
    /// # Panics
    /// If no handle was ever added at this place.
    pub fn remove(&mut self, index: usize) {
        self.entries[index].source = None;
    }

    /// Handles in it.
    pub fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.source.is_some()).count()
    }

    /// Whether there is no handle in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the first of them that has something, or is at its end.
    ///
    /// # Panics
    /// If it is empty: it would wait for ever.
    pub fn wait(&mut self) -> Selected<'a> {
        assert!(!self.is_empty(), "a select of nothing waits for ever");
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

    /// What is there now. `None`: each was empty when it was looked at, twice if there are several.
    pub fn try_now(&mut self) -> Option<Selected<'a>> {
        self.wait_until(Until::Now)
    }

    /// A descriptor for an event loop of one's own: `epoll(7)`, `poll(2)`, or that of a framework. From now on, when [`Self::try_now`] has said `None`, and only then, it
    /// becomes readable when it is worth calling that again; it may be readable in vain. A select of one handle is that handle's own descriptor.
    ///
    /// # Errors
    /// If no descriptor is left.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::mail::{Mailbox, Post};
    /// use ginnel::{Arrival, Select};
    /// use ginnel_os::poll;
    /// use std::os::fd::AsFd;
    ///
    /// let mailbox = Mailbox::open("loop")?;
    /// let mut select = Select::new().recv(&mailbox);
    /// let ready = select.descriptor()?.try_clone_to_owned()?;
    /// let sender = std::thread::spawn(|| Post::new().send_to("loop", b"wake up").unwrap());
    /// let found = loop {
    ///     match select.try_now() {
    ///         Some(found) => break found,
    ///         None => _ = poll::readable(&[ready.as_fd()], None)?, // your loop
    ///     }
    /// };
    /// assert!(matches!(found.arrival, Arrival::Letter(Ok(letter)) if letter.bytes() == b"wake up"));
    /// # sender.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn descriptor(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.outlet.is_none() {
            let post = match &mut self.post {
                Some(post) => post,
                None => self.post.insert(Post::new()?),
            };
            let set = Epoll::new()?;
            set.add(post.signal.as_fd(), Interest::Read, 0)?;
            let alarm = TimerFd::new()?;
            self.outlet = Some(Outlet { set, has_news: false, armed: Vec::new(), alarm, is_set: false, naps: 0 });
        }
        Ok(self.outlet.as_ref().expect("it was made just now").set.as_fd())
    }

    // ---- how

    fn wait_until(&mut self, until: Until) -> Option<Selected<'a>> {
        let mut naps = 0;
        loop {
            let found = if matches!(until, Until::Now) { self.look_now() } else { self.look(false).0 };
            if found.is_some() {
                return found;
            }
            let is_over = until.has_come();
            if is_over && self.outlet.is_none() {
                return self.look_again();
            }
            if let Err(failed) = self.listen() {
                return Some(failed);
            }
            let (found, busy) = self.look(true);
            if found.is_some() {
                self.hush();
                return found;
            }
            if is_over {
                return self.arm(busy).err();
            }
            self.sleep(until, busy, &mut naps);
        }
    }

    /// A look at each that does not wait.
    fn look_now(&mut self) -> Option<Selected<'a>> {
        super::look_now(|| match self.look(false) {
            (Some(found), _) => Found::Done(found),
            (None, false) => Found::Nothing,
            (None, true) => Found::Busy,
        })
    }

    /// Before it says that there is nothing: a message may have come to one that had been looked at, before the one in another that had not been was taken by
    /// somebody else. Then there was one all the time.
    #[cold]
    fn look_again(&mut self) -> Option<Selected<'a>> {
        if self.len() > 1 { self.look_now() } else { None }
    }

    /// Looks at each, from the next one on. And whether one of those that had nothing was busy.
    fn look(&mut self, listens: bool) -> (Option<Selected<'a>>, bool) {
        let mut busy = false;
        let count = self.entries.len();
        for index in (self.next..count).chain(0..self.next.min(count)) {
            match self.entries[index].source.map(|source| source.look(listens)) {
                Some(Found::Done(arrival)) => {
                    self.next = (index + 1) % count;
                    return (Some(Selected { index, arrival }), busy);
                }
                Some(Found::Busy) => busy = true,
                Some(Found::Nothing) | None => {}
            }
        }
        (None, busy)
    }

    /// Arms the ear, and brings it to those that it is not at yet. On an error that one is selected.
    fn listen(&mut self) -> Result<(), Selected<'a>> {
        let failed = |at: (usize, Source<'a>), e| Selected { index: at.0, arrival: at.1.failed(e) };
        let post = match (&mut self.post, first_of(&self.entries)) {
            (Some(post), _) => post,
            (None, first) => match (Post::new(), first) {
                (Ok(post), _) => self.post.insert(post),
                (Err(e), Some(first)) => return Err(failed(first, e)),
                (Err(_), None) => return Ok(()), // of nothing, which ends by the clock
            },
        };
        post.take();
        post.ear.arm(&post.waker);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let Some(source) = entry.source.filter(|_| !entry.heard) else { continue };
            let has_news = source.add_ear(&post.ear).map_err(|arrival| Selected { index, arrival })?;
            if has_news && post.news.is_none() {
                post.news = Some(News::of_this_process().map_err(|e| failed((index, source), e))?);
            }
            entry.heard = true;
        }
        Ok(())
    }

    /// Leaves it to the descriptor to tell when to look again. On an error the first one is selected.
    fn arm(&mut self, busy: bool) -> Result<(), Selected<'a>> {
        let (Some(post), Some(outlet)) = (&mut self.post, &mut self.outlet) else { return Ok(()) };
        let again = self.entries.iter().filter_map(|entry| Some(entry.source?.again()));
        let armed = outlet.arm(post, busy, again);
        match (armed, first_of(&self.entries)) {
            (Err(e), Some((index, source))) => Err(Selected { index, arrival: source.failed(e) }),
            _ => Ok(()), // or of nothing, which nobody need look at again
        }
    }

    /// Ends the listening: what is called from now on would only raise the signal in vain.
    fn hush(&self) {
        if let Some(post) = &self.post {
            post.ear.disarm();
        }
    }

    fn sleep(&mut self, until: Until, busy: bool, naps: &mut u32) {
        let Some(post) = &mut self.post else {
            return std::thread::sleep(BUSY_MOST); // of nothing
        };
        let mut files: Vec<(BorrowedFd<'_>, Interest)> = vec![(post.signal.as_fd(), Interest::Read)];
        let has_news = post.news.is_some();
        files.extend(post.news.iter().map(|news| (news.as_fd(), Interest::Read)));
        let mut clock = Clock::new(busy);
        for source in self.entries.iter().filter_map(|entry| entry.source) {
            match source.again() {
                Again::Read(file) => files.push((file, Interest::Read)),
                Again::Write(file) => files.push((file, Interest::Write)),
                other => clock.add(&other),
            }
        }
        let deadline = match (until, clock.next(naps)) {
            (Until::Instant(at), next) => Some(next.map_or(at, |next| next.min(at))),
            (_, next) => next,
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

/// The first that was not removed, and its place.
fn first_of<'a>(entries: &[Entry<'a>]) -> Option<(usize, Source<'a>)> {
    entries.iter().enumerate().find_map(|(index, entry)| Some((index, entry.source?)))
}

/// When to look again though nothing tells.
struct Clock {
    longest: Option<Duration>,
    at: Option<Instant>,
}

impl Clock {
    fn new(busy: bool) -> Self {
        Self { longest: busy.then_some(BUSY_MOST), at: None }
    }

    fn add(&mut self, again: &Again<'_>) {
        match *again {
            Again::Later(most) => self.longest = Some(self.longest.map_or(most, |longest| longest.min(most))),
            Again::At(at) => self.at = Some(self.at.map_or(at, |earliest| earliest.min(at))),
            _ => {}
        }
    }

    fn next(&self, naps: &mut u32) -> Option<Instant> {
        let nap = self.longest.map(|most| Instant::now() + nap(naps, most));
        nap.into_iter().chain(self.at).min()
    }
}

impl Outlet {
    /// A turn has found nothing, and has announced itself.
    fn arm<'f>(&mut self, post: &mut Post, busy: bool, again: impl Iterator<Item = Again<'f>>) -> io::Result<()> {
        for file in self.armed.drain(..) {
            self.set.remove(file.as_fd())?;
        }
        if std::mem::take(&mut self.is_set) {
            self.set.remove(self.alarm.as_fd())?;
        }
        if let Some(news) = post.news.as_ref().filter(|_| !self.has_news) {
            self.set.add(news.as_fd(), Interest::Read, 0)?;
            self.has_news = true;
        }
        let mut clock = Clock::new(busy);
        for again in again {
            let (file, interest) = match again {
                Again::Read(file) => (file, Interest::Read),
                Again::Write(file) => (file, Interest::Write),
                other => {
                    clock.add(&other);
                    continue;
                }
            };
            self.add(file.try_clone_to_owned()?, interest)?;
        }
        if let Some(at) = clock.next(&mut self.naps) {
            self.alarm.set(at.saturating_duration_since(Instant::now()))?;
            self.set.add(self.alarm.as_fd(), Interest::Read, 0)?;
            self.is_set = true;
        }
        // Whatever of it is readable by the next turn.
        post.raised = (true, self.has_news);
        Ok(())
    }

    fn add(&mut self, file: OwnedFd, interest: Interest) -> io::Result<()> {
        self.set.add(file.as_fd(), interest, 0)?;
        self.armed.push(file);
        Ok(())
    }
}

impl Post {
    fn new() -> io::Result<Self> {
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
        f.debug_list().entries(self.entries.iter().map(|entry| entry.source)).finish()
    }
}
