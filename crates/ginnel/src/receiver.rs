//! The receiving end of a link: one handle for every mechanism.

use crate::batch::Batch;
use crate::error::{Error, RecvError, RecvFailure};
use crate::kernel;
use crate::message::{Held, Message};
use crate::ready::{Again, Ear, Found, RecvReadiness};
#[cfg(feature = "async")]
use crate::ready::{RecvFuture, RecvStream};
use crate::shm;
use crate::wait::{Interrupter, Until};
use ginnel_core::Shape;
use std::cell::Cell;
#[cfg(feature = "async")]
use std::cell::OnceCell;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The receiving end of a link. A clone is another participant; a handle may move between threads, but one at a time uses it.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{Receiver, RecvFailure, Sender};
///
/// let receiver = Receiver::open("shm:numbers")?;
/// let sender = Sender::open("shm:numbers")?;
/// sender.send_all(&[[1u8], [2], [3]])?;
/// drop(sender);
/// let sum: u32 = receiver.iter().map(|message| u32::from(message[0])).sum();
/// assert_eq!(sum, 6);
/// assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    end: End,
    /// A message on its way out of [`Self::recv_slow`].
    taken: Cell<Option<Held>>,
    /// The one of its futures.
    #[cfg(feature = "async")]
    ear: OnceCell<Arc<Ear>>,
}

#[allow(clippy::large_enum_variant, reason = "the large one is the fast one: it is reached without another pointer")]
enum End {
    Shm(shm::Receiver),
    Latest(Box<shm::LatestReceiver>),
    Kernel(Box<kernel::Receiver>),
}

impl From<End> for Receiver {
    fn from(end: End) -> Self {
        Self {
            end,
            taken: Cell::new(None),
            #[cfg(feature = "async")]
            ear: OnceCell::new(),
        }
    }
}

impl Receiver {
    pub(crate) fn shm(receiver: shm::ReceiverOf) -> Self {
        match receiver {
            shm::ReceiverOf::Queue(receiver) => End::Shm(receiver).into(),
            shm::ReceiverOf::Latest(receiver) => End::Latest(receiver).into(),
        }
    }

    pub(crate) fn kernel(receiver: kernel::Receiver) -> Self {
        End::Kernel(Box::new(receiver)).into()
    }

    /// Opens the receiving end of a link; makes the link if it is not there. See [`Link`](crate::Link) for options.
    ///
    /// # Errors
    /// If the address is bad, or the link cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.receiver()
    }

    /// Makes a link and opens its receiving end.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is there.
    pub fn create(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Create).receiver()
    }

    /// Opens the receiving end of a link that is there.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is not there.
    pub fn join(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Join).receiver()
    }

    /// Another receiver of the same link, which shares its messages, or, of a broadcast, gets what this one has yet to receive: another participant, which can move to another thread.
    ///
    /// # Errors
    /// If the link has as many handles, or receivers, as it was made for.
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(match &self.end {
            End::Shm(receiver) => End::Shm(receiver.try_clone()?).into(),
            End::Latest(receiver) => End::Latest(Box::new(receiver.try_clone()?)).into(),
            End::Kernel(receiver) => End::Kernel(Box::new(receiver.try_clone()?)).into(),
        })
    }

    /// Receives the next message; waits for one. On a link with [`Shape::Latest`](crate::Shape::Latest): the newest value, once this handle has not seen it. The message stays in its place until the guard is dropped: if this process is
    /// killed before that, another receiver gets it, marked as [redelivered](Message::redelivered).
    ///
    /// # Errors
    /// [`RecvFailure::Closed`](crate::RecvFailure::Closed) when the last sender has left and every message was received;
    /// [`RecvFailure::CutOff`](crate::RecvFailure::CutOff) of a broadcast that cuts off who is too slow.
    #[inline]
    pub fn recv(&self) -> Result<Message<'_>, RecvError> {
        self.recv_until(Until::Forever)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::Empty`](crate::RecvFailure::Empty). That is also said where another sender has been stopped in the middle of sending, in the
    /// place before the first message that is whole: it is waited for a few hundred looks, and no longer. [`Self::recv`] waits until it goes on, or is dead.
    #[inline]
    pub fn try_recv(&self) -> Result<Message<'_>, RecvError> {
        self.recv_until(Until::Now)
    }

    /// Receives the next message, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`](crate::RecvFailure::TimedOut).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message<'_>, RecvError> {
        self.recv_until(Until::after(timeout))
    }

    /// Receives the next message, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`](crate::RecvFailure::TimedOut).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message<'_>, RecvError> {
        self.recv_until(Until::Instant(deadline))
    }

    /// Receives at least one message, waiting for it, and as many more as are there, up to `most`. They cost less each than
    /// one by one, and are released together.
    ///
    /// # Errors
    /// As [`Self::recv`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// let receiver = ginnel::Receiver::open("shm:lines")?;
    /// let sender = ginnel::Sender::open("shm:lines")?;
    /// sender.send_all(&["one", "two", "three"])?;
    /// let mut words = Vec::new();
    /// while words.len() < 3 {
    ///     words.extend(receiver.recv_many(64)?.iter().map(|message| message.to_vec()));
    /// }
    /// assert_eq!(words.concat(), b"onetwothree");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_many(&self, most: usize) -> Result<Batch<'_>, RecvError> {
        self.recv_many_until(most, Until::Forever)
    }

    /// Receives as many messages as are there, up to `most`; none is an error.
    ///
    /// # Errors
    /// As [`Self::try_recv`].
    pub fn try_recv_many(&self, most: usize) -> Result<Batch<'_>, RecvError> {
        self.recv_many_until(most, Until::Now)
    }

    /// As [`Self::recv_many`], waiting for the first message for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv_timeout`].
    pub fn recv_many_timeout(&self, most: usize, timeout: Duration) -> Result<Batch<'_>, RecvError> {
        self.recv_many_until(most, Until::after(timeout))
    }

    /// As [`Self::recv_many`], waiting for the first message until then at most.
    ///
    /// # Errors
    /// As [`Self::recv_deadline`].
    pub fn recv_many_deadline(&self, most: usize, deadline: Instant) -> Result<Batch<'_>, RecvError> {
        self.recv_many_until(most, Until::Instant(deadline))
    }

    /// The newest value of a link with [`Shape::Latest`](crate::Shape::Latest), without waiting, whether this handle has seen it before or not; it has then. It was
    /// the newest at some instant of the call. [`Message::position`] tells which value of the link it is, from 0: what lies between two is what was skipped.
    ///
    /// # Errors
    /// [`RecvFailure::Empty`](crate::RecvFailure::Empty) if there is none yet, [`RecvFailure::Unfit`](crate::RecvFailure::Unfit) if the link has another shape.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// let sender = ginnel::Sender::open("shm:position?shape=latest")?;
    /// let receiver = ginnel::Receiver::open("shm:position")?;
    /// sender.send_all(&["1 m", "2 m", "3 m"])?;
    /// assert_eq!(&*receiver.recv()?, b"3 m");            // a value that it has not seen: waits for one
    /// assert_eq!(&*receiver.latest()?, b"3 m");          // the newest, whatever it has seen
    /// assert_eq!(receiver.dropped(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn latest(&self) -> Result<Message<'_>, RecvError> {
        let known = match &self.end {
            End::Latest(receiver) => receiver.newest_fast(),
            _ => None,
        };
        if let Some(held) = known {
            return Ok(Message::new(None, held));
        }
        self.latest_slow()?;
        match self.taken.take() {
            Some(held) => Ok(Message::new(None, held)),
            None => unreachable!("a message was taken"),
        }
    }

    /// As [`Self::recv_slow`].
    #[inline(never)]
    fn latest_slow(&self) -> Result<(), RecvError> {
        self.taken.set(Some(self.latest_end()?.newest()?));
        Ok(())
    }

    /// As [`Self::latest`], into a vector, whose memory is used again: what it held before is gone, also on an error. Returns the value's position.
    ///
    /// # Errors
    /// As [`Self::latest`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// let sender = ginnel::Sender::open("shm:level?shape=latest&max=8")?;
    /// let receiver = ginnel::Receiver::open("shm:level")?;
    /// let mut level = Vec::new();
    /// for litres in 0..3u64 {
    ///     sender.send(&litres.to_le_bytes())?;
    ///     assert_eq!(receiver.latest_into(&mut level)?, litres);
    ///     assert_eq!(level, litres.to_le_bytes());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn latest_into(&self, bytes: &mut Vec<u8>) -> Result<u64, RecvError> {
        self.latest_end()?.newest_into(bytes)
    }

    #[inline(always)]
    fn latest_end(&self) -> Result<&shm::LatestReceiver, RecvError> {
        match &self.end {
            End::Latest(receiver) => Ok(receiver),
            _ => Err(self.has_no_newest()),
        }
    }

    #[cold]
    fn has_no_newest(&self) -> RecvError {
        let reason = RecvFailure::Unfit("a link has a newest value if it was made with ?shape=latest; use recv");
        RecvError { reason, link: self.address().into() }
    }

    /// Messages until the end: ends when [`Self::recv`] would fail.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Messages that are there: ends when [`Self::try_recv`] would fail.
    pub fn try_iter(&self) -> impl Iterator<Item = Message<'_>> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Messages in the link now, those in hand not counted; of a broadcast, those that this receiver has yet to get.
    pub fn len(&self) -> u64 {
        match &self.end {
            End::Shm(receiver) => receiver.len(),
            End::Latest(receiver) => receiver.len(),
            End::Kernel(receiver) => receiver.len(),
        }
    }

    /// Whether no message is in the link now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that the link may hold.
    pub fn capacity(&self) -> u64 {
        match &self.end {
            End::Shm(receiver) => receiver.capacity(),
            End::Latest(receiver) => receiver.capacity(),
            End::Kernel(receiver) => receiver.capacity(),
        }
    }

    /// Whether there was a sender since this receiver opened, and none is left. Messages may still be there.
    pub fn is_closed(&self) -> bool {
        match &self.end {
            End::Shm(receiver) => receiver.is_closed(),
            End::Latest(receiver) => receiver.is_closed(),
            End::Kernel(receiver) => receiver.is_closed(),
        }
    }

    /// Messages of this link, since this receiver opened, that nobody will receive: dropped to make room, or in the hands of a
    /// killed receiver of a link that drops the oldest. Of a broadcast, those that this receiver [missed](Message::missed). Of
    /// [`Shape::Latest`](crate::Shape::Latest), values that it did not see, as newer ones came before it looked. Exact.
    pub fn dropped(&self) -> u64 {
        match &self.end {
            End::Shm(receiver) => receiver.dropped(),
            End::Latest(receiver) => receiver.dropped(),
            End::Kernel(receiver) => receiver.dropped(),
        }
    }

    /// A descriptor for an event loop of one's own, which tells when there may be a message: see [`RecvReadiness`].
    ///
    /// # Errors
    /// If no descriptor is left, or no inotify instance or watch (`fs.inotify.max_user_instances`: a process needs one, whatever the number of its links).
    pub fn readiness(&self) -> Result<RecvReadiness<'_>, Error> {
        RecvReadiness::of(self)
    }

    /// Receives the next message, as [`Self::recv`], without holding up the thread. It is polled in a tokio runtime with its I/O enabled (feature `tokio`),
    /// or in any other (feature `smol`); `mem:` links do with any executor at all.
    ///
    /// A future that is dropped loses nothing: the message is taken when the future is done, or not at all. A time limit is the runtime's own, around it.
    ///
    /// # Errors
    /// As [`Self::recv`], and what the kernel says if it has no inotify instance or watch left.
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// # #[cfg(feature = "tokio")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut receiver = ginnel::Receiver::open("shm:calls")?;
    /// let mut sender = ginnel::Sender::open("shm:calls")?;
    /// let (message, sent) = tokio::join!(receiver.recv_async(), sender.send_async(b"hello"));
    /// sent?;
    /// assert_eq!(&*message?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn recv_async(&mut self) -> RecvFuture<'_> {
        RecvFuture::of(self)
    }

    /// Messages as they come, copied, as a [`Stream`](futures_core::Stream). It ends when the last sender has left and every message was received; if that one was
    /// killed, or for any other failure, with that error as its last item. A stream that is dropped loses nothing.
    ///
    /// # Panics
    /// When it is polled where no runtime is: see [`Self::recv_async`].
    #[cfg(feature = "async")]
    pub fn stream(&mut self) -> RecvStream<'_> {
        RecvStream::of(self)
    }

    /// What kind of conversation the link carries: [`Shape::Queue`] where the kernel does.
    pub fn shape(&self) -> Shape {
        match &self.end {
            End::Shm(receiver) => receiver.shape(),
            End::Latest(_) => Shape::Latest,
            End::Kernel(_) => Shape::Queue,
        }
    }

    /// What ends this handle's waiting from another thread.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// let receiver = ginnel::Receiver::open("shm:quiet")?;
    /// let interrupter = receiver.interrupter();
    /// std::thread::spawn(move || interrupter.interrupt());
    /// assert_eq!(receiver.recv().unwrap_err(), ginnel::RecvFailure::Interrupted);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn interrupter(&self) -> Interrupter {
        match &self.end {
            End::Shm(receiver) => receiver.interrupter(),
            End::Latest(receiver) => receiver.interrupter(),
            End::Kernel(receiver) => receiver.interrupter(),
        }
    }

    /// The link's address, without options.
    pub fn address(&self) -> &str {
        match &self.end {
            End::Shm(receiver) => receiver.address(),
            End::Latest(receiver) => receiver.address(),
            End::Kernel(receiver) => receiver.address(),
        }
    }

    /// The descriptor of a pipe, for the standard input of a child, which opens it as `pipe:`. Messages that this handle has read from the pipe already are lost: hand it over unused.
    ///
    /// # Errors
    /// If this is no pipe.
    pub fn into_stdio(self) -> Result<Stdio, Error> {
        match self.end {
            End::Shm(receiver) => Err(kernel::no_stdio(receiver.address())),
            End::Latest(receiver) => Err(kernel::no_stdio(receiver.address())),
            End::Kernel(receiver) => receiver.into_stdio(),
        }
    }

    // ---- how

    #[inline(always)]
    fn recv_until(&self, until: Until) -> Result<Message<'_>, RecvError> {
        let receiver = match &self.end {
            End::Shm(receiver) => Some(receiver),
            End::Latest(_) | End::Kernel(_) => None,
        };
        // Not by `and_then`: a closure may be left a call of its own, which then takes the message through memory.
        if let Some(shm) = receiver
            && let Some(held) = shm.take_fast(!matches!(until, Until::Now))
        {
            return Ok(Message::new(receiver, held));
        }
        self.recv_slow(until)?;
        match self.taken.take() {
            Some(held) => Ok(Message::new(receiver, held)),
            None => unreachable!("a message was taken"),
        }
    }

    /// Leaves the message in `taken`: so that the common case has its message in registers, and not where this call would write it.
    #[inline(never)]
    fn recv_slow(&self, until: Until) -> Result<(), RecvError> {
        self.taken.set(Some(match &self.end {
            End::Shm(receiver) => receiver.recv_slow(until)?,
            End::Latest(receiver) => receiver.recv_until(until)?,
            End::Kernel(receiver) => receiver.recv_until(until)?,
        }));
        Ok(())
    }

    // ---- for who waits for several: see `ready`

    /// One look, which does not wait. One who listens is armed, and announces itself before it.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Message<'_>, RecvError>> {
        let (receiver, found) = match &self.end {
            End::Shm(receiver) => (Some(receiver), receiver.look(listens)),
            End::Latest(receiver) => (None, receiver.look(listens)),
            End::Kernel(receiver) => (None, receiver.look()),
        };
        match found {
            Found::Done(done) => Found::Done(done.map(|held| Message::new(receiver, held))),
            Found::Nothing => Found::Nothing,
            Found::Busy => Found::Busy,
        }
    }

    /// What tells when to look again.
    pub(crate) fn again(&self) -> Again<'_> {
        match &self.end {
            End::Shm(receiver) => receiver.region().again(),
            End::Latest(receiver) => receiver.region().again(),
            End::Kernel(receiver) => receiver.again(),
        }
    }

    /// Has an ear called whenever there may be news that nothing else tells of. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> std::io::Result<bool> {
        match &self.end {
            End::Shm(receiver) => receiver.region().add_ear(ear),
            End::Latest(receiver) => receiver.region().add_ear(ear),
            End::Kernel(receiver) => {
                receiver.ears().add(ear);
                Ok(false)
            }
        }
    }

    /// The ear of its futures.
    #[cfg(feature = "async")]
    pub(crate) fn ear(&self) -> Result<&Arc<Ear>, RecvError> {
        if let Some(ear) = self.ear.get() {
            return Ok(ear);
        }
        let ear = Arc::default();
        self.add_ear(&ear).map_err(|e| self.os_error(&e))?;
        Ok(self.ear.get_or_init(|| ear))
    }

    /// Whether the process's `News` are to be drained for it.
    #[cfg(feature = "async")]
    pub(crate) fn has_news(&self) -> bool {
        match &self.end {
            End::Shm(receiver) => receiver.region().has_news(),
            End::Latest(receiver) => receiver.region().has_news(),
            End::Kernel(_) => false,
        }
    }

    /// A message that [`Self::look`] has found, again.
    #[cfg(feature = "async")]
    pub(crate) fn message(&self, held: Held) -> Message<'_> {
        match &self.end {
            End::Shm(receiver) => Message::new(Some(receiver), held),
            End::Latest(_) | End::Kernel(_) => Message::new(None, held),
        }
    }

    #[cfg(any(feature = "zerocopy", feature = "serde"))]
    #[allow(dead_code, reason = "for futures, which not every build has")]
    pub(crate) fn link(&self) -> &Arc<str> {
        match &self.end {
            End::Shm(receiver) => receiver.address(),
            End::Latest(receiver) => receiver.address(),
            End::Kernel(receiver) => receiver.address(),
        }
    }

    pub(crate) fn os_error(&self, e: &std::io::Error) -> RecvError {
        self.error(RecvFailure::of_os(e))
    }

    pub(crate) fn error(&self, reason: RecvFailure) -> RecvError {
        let link = match &self.end {
            End::Shm(receiver) => receiver.address(),
            End::Latest(receiver) => receiver.address(),
            End::Kernel(receiver) => receiver.address(),
        };
        RecvError { reason, link: link.clone() }
    }

    fn recv_many_until(&self, most: usize, until: Until) -> Result<Batch<'_>, RecvError> {
        match &self.end {
            End::Shm(receiver) => receiver.recv_many_until(most, until),
            // One, the newest, as a run of others would have to be older.
            End::Latest(_) if most == 0 => Ok(Batch::of_messages(Vec::new())),
            End::Latest(_) => self.recv_until(until).map(|message| Batch::of_messages(vec![message])),
            End::Kernel(receiver) => receiver.recv_many_until(most, until).map(Batch::of_messages),
        }
    }
}

impl Clone for Receiver {
    /// As [`Receiver::try_clone`].
    ///
    /// # Panics
    /// If the link has as many handles, or receivers, as it was made for, or its mechanism cannot have another.
    fn clone(&self) -> Self {
        self.try_clone().unwrap_or_else(|e| panic!("{e}"))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Shm(receiver) => receiver.fmt(f),
            End::Latest(receiver) => receiver.fmt(f),
            End::Kernel(receiver) => receiver.fmt(f),
        }
    }
}
