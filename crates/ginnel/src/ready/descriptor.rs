//! Descriptors for event loops of any kind: each becomes readable when there may be something to do at its handle.
//!
//! ```text
//! set (epoll): the process's News | the signal that the ear raises | the kernel's own descriptor, or a timer, while armed
//! ```
//! The whole protocol is in one call: a try that finds nothing arms the descriptor, and tries once more. So what came between is found, and
//! what comes later makes the descriptor readable. A try that finds nothing takes away what made it readable, before it arms it again.
//!
//! The news are those of all links of the process: any of them makes the descriptors of all handles readable, until somebody tries. Whoever
//! tries first drains them, which raises the signals of those concerned.

use super::{Again, BUSY_MOST, Ear, Found, News, Signal, nap};
use crate::error::{Error, RecvError, RecvFailure, SendError};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::sender::Sender;
use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::timerfd::TimerFd;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// What both kinds have.
struct Post {
    set: Epoll,
    ear: Arc<Ear>,
    signal: Arc<Signal>,
    waker: Waker,
    news: Option<Arc<News>>,
    /// A descriptor that is in the set until the next try.
    armed: RefCell<Option<OwnedFd>>,
    naps: Cell<u32>,
}

impl Post {
    /// `add_ear` brings the ear to the handle, and tells whether news are to be drained for it.
    fn new(add_ear: impl FnOnce(&Arc<Ear>) -> io::Result<bool>) -> io::Result<Self> {
        let (set, ear, signal) = (Epoll::new()?, Arc::default(), Signal::new()?);
        let news = if add_ear(&ear)? { Some(News::of_this_process()?) } else { None };
        set.add(signal.as_fd(), Interest::Read, 0)?;
        if let Some(news) = &news {
            set.add(news.as_fd(), Interest::Read, 0)?;
        }
        let waker = Waker::from(signal.clone());
        Ok(Self { set, ear, signal, waker, news, armed: RefCell::default(), naps: Cell::new(0) })
    }

    /// Takes away what made the descriptor readable.
    fn take(&self) {
        if let Some(file) = self.armed.take() {
            let _ = self.set.remove(file.as_fd());
        }
        if let Some(news) = &self.news {
            news.drain();
        }
        self.signal.clear();
    }

    /// A try has found something.
    fn found(&self) {
        self.naps.set(0);
    }

    /// A try has found nothing, and has announced itself.
    fn arm(&self, again: Again<'_>, busy: bool) -> io::Result<()> {
        let (file, interest) = match again {
            _ if busy => (self.timer(BUSY_MOST)?, Interest::Read),
            Again::Called => return Ok(()),
            Again::At(when) => (alarm(when)?, Interest::Read),
            Again::Later(most) => (self.timer(most)?, Interest::Read),
            Again::Read(file) => (file.try_clone_to_owned()?, Interest::Read),
            Again::Write(file) => (file.try_clone_to_owned()?, Interest::Write),
        };
        self.set.add(file.as_fd(), interest, 0)?;
        self.armed.replace(Some(file));
        Ok(())
    }

    fn timer(&self, most: Duration) -> io::Result<OwnedFd> {
        let mut naps = self.naps.get();
        let timer = TimerFd::new()?;
        timer.set(nap(&mut naps, most))?;
        self.naps.set(naps);
        Ok(timer.into())
    }
}

/// A descriptor that is readable from then on.
fn alarm(when: Instant) -> io::Result<OwnedFd> {
    let timer = TimerFd::new()?;
    timer.set(when.saturating_duration_since(Instant::now()))?;
    Ok(timer.into())
}

/// A receiver with a descriptor, for an event loop of one's own: `epoll(7)`, `poll(2)`, or that of a framework.
///
/// Call [`try_recv`](Self::try_recv) until it says `Empty`: then, and only then, the descriptor becomes readable when it is worth calling again. It
/// may be readable in vain. In an edge-triggered loop nothing more is needed; in one that is level-triggered neither.
///
/// For many links one [`Select`](crate::Select), or async, is better: the wake-ups of all `shm:` links of a process make all of its descriptors readable for a moment.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{RecvFailure, Receiver, Sender};
/// use ginnel_os::poll;
/// use std::os::fd::AsFd;
///
/// let receiver = Receiver::open("shm:loop")?;
/// let ready = receiver.readiness()?;
/// let sender = std::thread::spawn(|| Sender::open("shm:loop")?.send(b"wake up").map_err(Box::<dyn std::error::Error + Send + Sync>::from));
/// let message = loop {
///     match ready.try_recv() {
///         Ok(message) => break message,
///         Err(e) if e == RecvFailure::Empty => _ = poll::readable(&[ready.as_fd()], None)?, // your loop
///         Err(e) => return Err(e.into()),
///     }
/// };
/// assert_eq!(&*message, b"wake up");
/// # sender.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecvReadiness<'a> {
    receiver: &'a Receiver,
    post: Post,
}

impl<'a> RecvReadiness<'a> {
    pub(crate) fn of(receiver: &'a Receiver) -> Result<Self, Error> {
        let os = |e| Error::os("make a descriptor for", receiver.address(), e);
        let post = Post::new(|ear| receiver.add_ear(ear)).map_err(os)?;
        Ok(Self { receiver, post })
    }

    /// Receives a message if there is one now. If there is none, the descriptor is armed.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`], and [`RecvFailure::Interrupted`].
    pub fn try_recv(&self) -> Result<Message<'a>, RecvError> {
        let mut found = self.receiver.look(false);
        if !matches!(found, Found::Done(_)) {
            self.post.take();
            self.post.ear.arm(&self.post.waker);
            found = self.receiver.look(true);
        }
        let busy = match found {
            Found::Done(done) => {
                self.post.ear.disarm();
                self.post.found();
                return done;
            }
            Found::Nothing => false,
            Found::Busy => true,
        };
        self.post.arm(self.receiver.again(), busy).map_err(|e| self.receiver.os_error(&e))?;
        Err(self.receiver.error(RecvFailure::Empty))
    }
}

/// A sender with a descriptor, as [`RecvReadiness`]: call [`try_send`](Self::try_send) until it says that there is no room; then the descriptor becomes
/// readable when it is worth trying again.
pub struct SendReadiness<'a> {
    sender: &'a Sender,
    post: Post,
}

impl<'a> SendReadiness<'a> {
    pub(crate) fn of(sender: &'a Sender) -> Result<Self, Error> {
        let os = |e| Error::os("make a descriptor for", sender.address(), e);
        let post = Post::new(|ear| sender.add_ear(ear)).map_err(os)?;
        Ok(Self { sender, post })
    }

    /// Sends a message if there is room now. True if it was sent; false if there is no room: the descriptor is armed. Of a stream a part of a large
    /// message may be on its way then: sent again, it goes on.
    ///
    /// # Errors
    /// As [`Sender::try_send`], but for those that say that there is no room, unless the link was made to reject.
    pub fn try_send<M: AsRef<[u8]> + ?Sized>(&self, message: &M) -> Result<bool, SendError> {
        // Sent again or another one: the encoder knows.
        let mut begun = false;
        let mut found = self.sender.look(0, message.as_ref(), &mut begun, false);
        if !matches!(found, Found::Done(_)) {
            self.post.take();
            self.post.ear.arm(&self.post.waker);
            found = self.sender.look(0, message.as_ref(), &mut begun, true);
        }
        let busy = match found {
            Found::Done(done) => {
                self.post.ear.disarm();
                self.post.found();
                return done.map(|()| true);
            }
            Found::Nothing => false,
            Found::Busy => true,
        };
        self.sender.again(|again| self.post.arm(again, busy)).map_err(|e| self.sender.os_error(e))?;
        Ok(false)
    }
}

impl AsFd for RecvReadiness<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.set.as_fd()
    }
}

impl AsRawFd for RecvReadiness<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for SendReadiness<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.set.as_fd()
    }
}

impl AsRawFd for SendReadiness<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for RecvReadiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecvReadiness").field(self.receiver).finish()
    }
}

impl fmt::Debug for SendReadiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendReadiness").field(self.sender).finish()
    }
}
