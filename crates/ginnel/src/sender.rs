//! The sending end of a link: one handle for every mechanism.

use crate::error::{Error, SendAllError, SendError, SendFailure};
use crate::kernel;
use crate::loan::Loan;
use crate::ready::{Again, Ear, Found, SendReadiness};
#[cfg(feature = "async")]
use crate::ready::{SendFuture, SendSink};
use crate::shm;
use crate::wait::{Interrupter, Until};
#[cfg(feature = "async")]
use std::cell::OnceCell;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sending end of a link. A clone is another participant; a handle may move between threads, but one at a time uses it.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{Receiver, Sender};
///
/// let sender = Sender::open("shm:greetings")?;
/// let receiver = Receiver::open("shm:greetings")?;
/// sender.send(b"hello")?;
/// assert_eq!(&*receiver.recv()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    end: End,
    /// The one of its futures.
    #[cfg(feature = "async")]
    ear: OnceCell<Arc<Ear>>,
}

#[allow(clippy::large_enum_variant, reason = "the large one is the fast one: it is reached without another pointer")]
enum End {
    Shm(shm::Sender),
    Latest(Box<shm::LatestSender>),
    Kernel(Box<kernel::Sender>),
}

impl From<End> for Sender {
    fn from(end: End) -> Self {
        Self {
            end,
            #[cfg(feature = "async")]
            ear: OnceCell::new(),
        }
    }
}

impl Sender {
    pub(crate) fn shm(sender: shm::SenderOf) -> Self {
        match sender {
            shm::SenderOf::Queue(sender) => End::Shm(sender).into(),
            shm::SenderOf::Latest(sender) => End::Latest(sender).into(),
        }
    }

    pub(crate) fn kernel(sender: kernel::Sender) -> Self {
        End::Kernel(Box::new(sender)).into()
    }

    /// Opens the sending end of a link; makes the link if it is not there. See [`Link`](crate::Link) for options.
    ///
    /// # Errors
    /// If the address is bad, or the link cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.sender()
    }

    /// Makes a link and opens its sending end.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is there.
    pub fn create(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Create).sender()
    }

    /// Opens the sending end of a link that is there.
    ///
    /// # Errors
    /// As [`Self::open`], and if the link is not there.
    pub fn join(address: &str) -> Result<Self, Error> {
        crate::Link::new(address)?.mode(crate::Mode::Join).sender()
    }

    /// Another sender of the same link: another participant, which can move to another thread.
    ///
    /// # Errors
    /// If the link has as many handles, or senders, as it was made for.
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(match &self.end {
            End::Shm(sender) => End::Shm(sender.try_clone()?).into(),
            End::Latest(sender) => End::Latest(Box::new(sender.try_clone()?)).into(),
            End::Kernel(sender) => End::Kernel(Box::new(sender.try_clone()?)).into(),
        })
    }

    /// Sends a message; waits while the link is full, unless it was made to reject or to drop the oldest. On a link with
    /// [`Shape::Latest`](crate::Shape::Latest) the message becomes the newest value, and no receiver is ever waited for.
    ///
    /// # Errors
    /// If it cannot be sent: too long, nobody left who could make room, or no memory.
    #[inline(always)] // the fast path is what is inlined: the rest is `send_slow`
    pub fn send<M: AsRef<[u8]> + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Forever)
    }

    /// Sends a message with a tag: 16 bits of the application's own, which travel with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline(always)] // the fast path is what is inlined: the rest is `send_slow`
    pub fn send_tagged<M: AsRef<[u8]> + ?Sized>(&self, tag: u16, message: &M) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Forever)
    }

    /// As [`Self::try_send`], with a tag.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    #[inline(always)] // the fast path is what is inlined: the rest is `send_slow`
    pub fn try_send_tagged<M: AsRef<[u8]> + ?Sized>(&self, tag: u16, message: &M) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Now)
    }

    /// As [`Self::send_deadline`], with a tag.
    ///
    /// # Errors
    /// As [`Self::send_deadline`].
    pub fn send_tagged_deadline<M: AsRef<[u8]> + ?Sized>(
        &self,
        tag: u16,
        message: &M,
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.send_until(tag, message.as_ref(), Until::Instant(deadline))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::Full`](crate::SendFailure::Full), [`SendFailure::NoRoom`](crate::SendFailure::NoRoom) or [`SendFailure::NoMemory`](crate::SendFailure::NoMemory) if there is no room. Of a stream,
    /// a part of a large message may be on its way then: sent again, it goes on; if another is sent, it never arrives.
    #[inline(always)] // the fast path is what is inlined: the rest is `send_slow`
    pub fn try_send<M: AsRef<[u8]> + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Now)
    }

    /// Sends a message, waiting for room for at most this long.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::TimedOut`](crate::SendFailure::TimedOut).
    pub fn send_timeout<M: AsRef<[u8]> + ?Sized>(&self, message: &M, timeout: Duration) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::after(timeout))
    }

    /// Sends a message, waiting for room until then at most.
    ///
    /// # Errors
    /// As [`Self::send`], and [`SendFailure::TimedOut`](crate::SendFailure::TimedOut).
    pub fn send_deadline<M: AsRef<[u8]> + ?Sized>(&self, message: &M, deadline: Instant) -> Result<(), SendError> {
        self.send_until(0, message.as_ref(), Until::Instant(deadline))
    }

    /// Sends many messages, in order, each as [`Self::send`] does, small ones several at a time: they cost less than one by one. Returns
    /// how many were sent.
    ///
    /// # Errors
    /// As [`Self::send`], with the number of messages that were sent before.
    pub fn send_all<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Forever)
    }

    /// Sends messages for as long as there is room now.
    ///
    /// # Errors
    /// As [`Self::try_send`], with the number of messages that were sent before.
    pub fn try_send_all<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Now)
    }

    /// As [`Self::send_all`], waiting for at most this long in all.
    ///
    /// # Errors
    /// As [`Self::send_timeout`], with the number of messages that were sent before.
    pub fn send_all_timeout<M: AsRef<[u8]>>(&self, messages: &[M], timeout: Duration) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::after(timeout))
    }

    /// As [`Self::send_all`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_deadline`], with the number of messages that were sent before.
    pub fn send_all_deadline<M: AsRef<[u8]>>(&self, messages: &[M], deadline: Instant) -> Result<u64, SendAllError> {
        self.send_all_until(messages, Until::Instant(deadline))
    }

    /// Lends `len` bytes of the link to write a message in place; its contents are unspecified until written. Waits for memory.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn loan(&self, len: usize) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Forever)
    }

    /// As [`Self::loan`], without waiting.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub fn try_loan(&self, len: usize) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Now)
    }

    /// As [`Self::loan`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::send_timeout`].
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::after(timeout))
    }

    /// As [`Self::loan`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_deadline`].
    pub fn loan_deadline(&self, len: usize, deadline: Instant) -> Result<Loan<'_>, SendError> {
        self.loan_until(len, Until::Instant(deadline))
    }

    /// Messages in the link now; of a broadcast, those that its slowest receiver has yet to receive or to release.
    pub fn len(&self) -> u64 {
        match &self.end {
            End::Shm(sender) => sender.len(),
            End::Latest(sender) => sender.len(),
            End::Kernel(sender) => sender.len(),
        }
    }

    /// Whether no message is in the link now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the link holds as many messages as it may.
    pub fn is_full(&self) -> bool {
        match &self.end {
            End::Shm(sender) => sender.is_full(),
            End::Latest(_) => false,
            End::Kernel(sender) => sender.is_full(),
        }
    }

    /// Messages that the link may hold.
    pub fn capacity(&self) -> u64 {
        match &self.end {
            End::Shm(sender) => sender.capacity(),
            End::Latest(sender) => sender.capacity(),
            End::Kernel(sender) => sender.capacity(),
        }
    }

    /// Largest message, in bytes.
    pub fn max_message(&self) -> u64 {
        match &self.end {
            End::Shm(sender) => sender.max_message(),
            End::Latest(sender) => sender.max_message(),
            End::Kernel(sender) => sender.max_message(),
        }
    }

    /// Whether there was a receiver since this sender opened, and none is left. A message can still be sent while there is
    /// room: it waits in the link for the next receiver.
    pub fn is_closed(&self) -> bool {
        match &self.end {
            End::Shm(sender) => sender.is_closed(),
            End::Latest(sender) => sender.is_closed(),
            End::Kernel(sender) => sender.is_closed(),
        }
    }

    /// Messages that this handle sent and that nobody will receive, as far as it was told: of `udp:`, those that came to a host where nobody
    /// received. Everywhere else a sender learns that before it sends, and this is 0.
    pub fn dropped(&self) -> u64 {
        match &self.end {
            End::Shm(_) | End::Latest(_) => 0,
            End::Kernel(sender) => sender.dropped(),
        }
    }

    /// A descriptor for an event loop of one's own, which tells when there may be room: see [`SendReadiness`].
    ///
    /// # Errors
    /// As [`Receiver::readiness`](crate::Receiver::readiness).
    pub fn readiness(&self) -> Result<SendReadiness<'_>, Error> {
        SendReadiness::of(self)
    }

    /// Sends a message, as [`Self::send`], without holding up the thread while the link is full. Where it can be polled is said at
    /// [`Receiver::recv_async`](crate::Receiver::recv_async), with an example.
    ///
    /// A future that is dropped has sent the message, if it was done, or has not; of a stream, a part of a large message may be on its way then, as with
    /// [`Self::try_send`].
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    #[cfg(feature = "async")]
    pub fn send_async<'a, M: AsRef<[u8]> + ?Sized>(&'a mut self, message: &'a M) -> SendFuture<'a, M> {
        SendFuture::of(self, 0, message)
    }

    /// The same, with a tag.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// As [`Self::send_async`].
    #[cfg(feature = "async")]
    pub fn send_tagged_async<'a, M: AsRef<[u8]> + ?Sized>(&'a mut self, tag: u16, message: &'a M) -> SendFuture<'a, M> {
        SendFuture::of(self, tag, message)
    }

    /// A [`Sink`](futures_sink::Sink) of messages. It sends each at once if there is room, and keeps one at most that waits for room: flush it, or that one goes
    /// with the sink.
    ///
    /// # Panics
    /// As [`Self::send_async`].
    #[cfg(feature = "async")]
    pub fn sink<M: AsRef<[u8]>>(&mut self) -> SendSink<'_, M> {
        SendSink::of(self)
    }

    /// What ends this handle's waiting from another thread.
    pub fn interrupter(&self) -> Interrupter {
        match &self.end {
            End::Shm(sender) => sender.interrupter(),
            End::Latest(sender) => sender.interrupter(),
            End::Kernel(sender) => sender.interrupter(),
        }
    }

    /// The link's address, without options.
    pub fn address(&self) -> &str {
        match &self.end {
            End::Shm(sender) => sender.address(),
            End::Latest(sender) => sender.address(),
            End::Kernel(sender) => sender.address(),
        }
    }

    /// The descriptor of a pipe, for the standard output of a child, which opens it as `pipe:`.
    ///
    /// # Errors
    /// If this is no pipe.
    pub fn into_stdio(self) -> Result<Stdio, Error> {
        match self.end {
            End::Shm(sender) => Err(kernel::no_stdio(sender.address())),
            End::Latest(sender) => Err(kernel::no_stdio(sender.address())),
            End::Kernel(sender) => sender.into_stdio(),
        }
    }

    // ---- how

    /// An error of what stands above this handle.
    #[cfg(any(feature = "zerocopy", feature = "serde"))]
    #[allow(dead_code, reason = "each feature uses one side of it or both")]
    pub(crate) fn error(&self, reason: crate::SendFailure) -> SendError {
        SendError { reason, link: self.address().into() }
    }

    #[inline(always)]
    fn send_until(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
        let sent = match &self.end {
            End::Shm(sender) => sender.send_fast(tag, message),
            End::Latest(_) | End::Kernel(_) => false,
        };
        if sent { Ok(()) } else { self.send_slow(tag, message, until) }
    }

    #[inline(never)]
    fn send_slow(&self, tag: u16, message: &[u8], until: Until) -> Result<(), SendError> {
        match &self.end {
            End::Shm(sender) => sender.send_until(tag, message, until),
            End::Latest(sender) => sender.send_until(tag, message, until),
            End::Kernel(sender) => sender.send_until(tag, message, until),
        }
    }

    fn send_all_until<M: AsRef<[u8]>>(&self, messages: &[M], until: Until) -> Result<u64, SendAllError> {
        match &self.end {
            End::Shm(sender) => sender.send_all_until(messages, until),
            End::Latest(sender) => sender.send_all_until(messages, until),
            End::Kernel(sender) => sender.send_all_until(messages, until),
        }
    }

    // ---- for who waits for several: see `ready`

    /// One look, which does not wait: sends the message if there is room. One who listens is armed, and announces itself before it. `begun` is set while
    /// a part of it was written.
    pub(crate) fn look(
        &self,
        tag: u16,
        message: &[u8],
        begun: &mut bool,
        listens: bool,
    ) -> Found<Result<(), SendError>> {
        match &self.end {
            End::Shm(sender) => sender.look(tag, message, listens),
            End::Latest(sender) => sender.look(tag, message),
            End::Kernel(sender) => sender.look(tag, message, begun),
        }
    }

    /// What tells when to look again.
    pub(crate) fn again<R>(&self, run: impl FnOnce(Again<'_>) -> R) -> R {
        match &self.end {
            End::Shm(sender) => run(sender.region().again()),
            End::Latest(_) => run(Again::Called), // it never waits
            End::Kernel(sender) => sender.again(run),
        }
    }

    /// Has an ear called whenever there may be news that nothing else tells of. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> std::io::Result<bool> {
        match &self.end {
            End::Shm(sender) => sender.region().add_ear(ear),
            End::Latest(sender) => sender.region().add_ear(ear),
            End::Kernel(sender) => {
                sender.ears().add(ear);
                Ok(false)
            }
        }
    }

    /// The ear of its futures.
    #[cfg(feature = "async")]
    pub(crate) fn ear(&self) -> Result<&Arc<Ear>, SendError> {
        if let Some(ear) = self.ear.get() {
            return Ok(ear);
        }
        let ear = Arc::default();
        self.add_ear(&ear).map_err(|e| self.os_error(e))?;
        Ok(self.ear.get_or_init(|| ear))
    }

    /// Whether the process's `News` are to be drained for it.
    #[cfg(feature = "async")]
    pub(crate) fn has_news(&self) -> bool {
        match &self.end {
            End::Shm(sender) => sender.region().has_news(),
            End::Latest(sender) => sender.region().has_news(),
            End::Kernel(_) => false,
        }
    }

    pub(crate) fn os_error(&self, e: std::io::Error) -> SendError {
        let link = match &self.end {
            End::Shm(sender) => sender.address(),
            End::Latest(sender) => sender.address(),
            End::Kernel(sender) => sender.address(),
        };
        SendError { reason: SendFailure::Os(e), link: link.clone() }
    }

    fn loan_until(&self, len: usize, until: Until) -> Result<Loan<'_>, SendError> {
        match &self.end {
            End::Shm(sender) => sender.loan_until(len, until).map(Loan::shm),
            End::Latest(sender) => sender.buffer(len).map(|bytes| Loan::latest(sender, bytes)),
            End::Kernel(sender) => sender.buffer(len).map(|bytes| Loan::kernel(sender, bytes)),
        }
    }
}

impl Clone for Sender {
    /// As [`Sender::try_clone`].
    ///
    /// # Panics
    /// If the link has as many handles, or senders, as it was made for, or its mechanism cannot have another.
    fn clone(&self) -> Self {
        self.try_clone().unwrap_or_else(|e| panic!("{e}"))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Shm(sender) => sender.fmt(f),
            End::Latest(sender) => sender.fmt(f),
            End::Kernel(sender) => sender.fmt(f),
        }
    }
}
