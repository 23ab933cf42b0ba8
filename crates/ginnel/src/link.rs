//! A description of a link: its address and options. Opening it gives a [`Sender`] or a [`Receiver`].

use crate::address::{Address, Carriage, Wait, Wanted};
use crate::error::Error;
use crate::kernel;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::shm::{self, Info, Mode, Region};
use ginnel_core::{Full, Shape};

/// A link by address, with the options that its handles get. The builder and the query of an address mean the same.
///
/// A number that is not given is the default for a link that is made, and whatever it has for one that is joined. One that is
/// given must agree with a link that is there.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::{Full, Link};
///
/// let link = Link::new("shm:orders?max=64KiB")?.capacity(16).full(Full::Reject);
/// let sender = link.sender()?;
/// assert_eq!(sender.capacity(), 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Link {
    address: Address,
    mode: Mode,
}

impl Link {
    /// Understands an address such as `shm:orders?capacity=1024&max=64KiB`. Nothing is opened yet.
    ///
    /// # Errors
    /// If the address or an option of it cannot be understood.
    pub fn new(address: &str) -> Result<Self, Error> {
        Ok(Self { address: address.parse()?, mode: Mode::Open })
    }

    /// What kind of conversation it carries. Default [`Shape::Queue`].
    ///
    /// On a [`Shape::Broadcast`] every receiver gets every message that is sent after it has opened, and those of its
    /// [history](Self::history). What a send costs does not depend on how many receivers there are. With [`Full::Block`] and [`Full::Reject`]
    /// the slowest receiver holds the senders back, and messages are read in their place; one that dies holds nobody back. With
    /// [`Full::DropOldest`] and [`Full::CutOff`] senders do not wait for anybody; a receiver that is too slow is told exactly how many it
    /// [missed](crate::Message::missed), or is [cut off](crate::RecvFailure::CutOff). Without a receiver a message is history only: senders do
    /// not wait for the first one.
    #[must_use]
    pub fn shape(self, shape: Shape) -> Self {
        self.with(|wanted| wanted.shape = Some(shape))
    }

    /// Messages that the link holds at most: a power of two. Default 1024. Of [`Shape::Latest`]: places for values, the newest and those that are being
    /// written, from 4 to 64, default 8; half of them is how many senders may be in the middle of a send at once.
    #[must_use]
    pub fn capacity(self, messages: u64) -> Self {
        self.with(|wanted| wanted.capacity = Some(messages))
    }

    /// No capacity: a sender never waits for room, the link grows as messages wait in it, and gives memory back as they are received. Its ceiling is
    /// [`Self::memory`], for all messages together, of any size; without one it is what the host has, up to 64 GiB, and 67,108,864 messages. There a
    /// sender fails at once.
    ///
    /// # Examples
    /// ```
    /// use ginnel::Link;
    ///
    /// let (sender, receiver) = Link::new("mem:any-number")?.unbounded().pair()?;
    /// for number in 0..100_000u64 {
    ///     sender.send(&number.to_le_bytes())?; // nobody receives yet
    /// }
    /// assert_eq!((receiver.len(), receiver.recv()?.as_ref()), (100_000, [0; 8].as_slice()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unbounded(self) -> Self {
        self.with(|wanted| wanted.unbounded = true)
    }

    /// Largest message, in bytes, up to 1 GiB. Default 16 MiB; costs no memory until such messages are sent.
    #[must_use]
    pub fn max(self, bytes: u64) -> Self {
        self.with(|wanted| wanted.max = Some(bytes))
    }

    /// Ceiling of the memory for messages above 112 bytes, or, if the link is [unbounded](Self::unbounded), for all. In bytes. Default 64 MiB, or four of the largest messages; memory
    /// is committed when it is first needed.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|wanted| wanted.memory = Some(bytes))
    }

    /// Handles that may be open at once. Default 128.
    #[must_use]
    pub fn participants(self, handles: u32) -> Self {
        self.with(|wanted| wanted.participants = Some(handles))
    }

    /// What a sender does when the link is full. Default [`Full::Block`].
    #[must_use]
    pub fn full(self, full: Full) -> Self {
        self.with(|wanted| wanted.full = Some(full))
    }

    /// Senders that may be open at once; 0, the default, is any number.
    #[must_use]
    pub fn senders(self, senders: u32) -> Self {
        self.with(|wanted| wanted.senders = Some(senders))
    }

    /// Receivers that may be open at once; 0, the default, is any number.
    #[must_use]
    pub fn receivers(self, receivers: u32) -> Self {
        self.with(|wanted| wanted.receivers = Some(receivers))
    }

    /// Keeps waiting for the next peer when the last one has left, instead of reporting the end.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.address.follow = follow;
        self
    }

    /// Of a broadcast: with how many of the newest messages that are still there a receiver begins. Default 0: with the next one that is sent.
    /// As many are there as the capacity, but for a batch: 64, or an eighth of a smaller capacity; where they are large, as many as the memory
    /// holds. A broadcast that nobody has open ends, and its history with it.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::{Link, Shape};
    ///
    /// let news = Link::new("shm:news")?.shape(Shape::Broadcast);
    /// let sender = news.sender()?;
    /// ["one", "two", "three"].iter().try_for_each(|word| sender.send(word))?;
    /// let late = news.history(2).receiver()?;
    /// assert_eq!(late.try_iter().map(|word| word.to_vec()).collect::<Vec<_>>(), [&b"two"[..], b"three"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn history(mut self, messages: u64) -> Self {
        self.address.history = Some(messages);
        self
    }

    /// How the handles wait. Default [`Wait::Adaptive`].
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.address.wait = wait;
        self
    }

    /// Whether to find the link, make it, or either. Default [`Mode::Open`].
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    fn with(mut self, set: impl FnOnce(&mut Wanted)) -> Self {
        set(&mut self.address.wanted);
        self
    }

    /// The link's address without options.
    pub fn address(&self) -> String {
        self.address.link()
    }

    /// What of a message arrives besides its bytes.
    ///
    /// # Examples
    /// ```
    /// use ginnel::{Carriage, Link};
    ///
    /// assert_eq!(Link::new("shm:a")?.carriage(), Carriage::Tagged);
    /// assert_eq!(Link::new("mq:/a")?.carriage(), Carriage::Bare);
    /// assert_eq!(Link::new("fifo:/tmp/a?frame=line")?.carriage(), Carriage::Line);
    /// # Ok::<(), ginnel::Error>(())
    /// ```
    pub fn carriage(&self) -> Carriage {
        self.address.carriage()
    }

    /// Labels what its messages are: see [`crate::typed`].
    #[cfg(any(feature = "zerocopy", feature = "serde"))]
    pub(crate) fn labelled(self, schema: &str) -> Self {
        self.with(|wanted| wanted.label = Some(Box::new(ginnel_core::Label::new(schema))))
    }

    /// Opens the sending end.
    ///
    /// # Errors
    /// If the link cannot be found or made as asked; [`Error::kind`] tells which.
    pub fn sender(&self) -> Result<Sender, Error> {
        match self.address.engine() {
            Some(spec) => shm::open_sender(&spec, self.mode).map(Sender::shm),
            None => kernel::Sender::open(&self.address, self.mode).map(Sender::kernel),
        }
    }

    /// Opens the receiving end.
    ///
    /// # Errors
    /// If the link cannot be found or made as asked; [`Error::kind`] tells which.
    pub fn receiver(&self) -> Result<Receiver, Error> {
        match self.address.engine() {
            Some(spec) => shm::open_receiver(&spec, self.mode).map(Receiver::shm),
            None => kernel::Receiver::open(&self.address, self.mode).map(Receiver::kernel),
        }
    }

    /// Opens both ends: of `pipe:` those of a new pipe, of any other address the receiving end first.
    ///
    /// # Errors
    /// As [`Self::sender`] and [`Self::receiver`].
    ///
    /// # Examples
    /// A child that writes to its standard output as `pipe:`, or, as here, a program that knows nothing of ginnel.
    /// ```
    /// let (sender, receiver) = ginnel::Link::new("pipe:?frame=line")?.pair()?;
    /// let mut child = std::process::Command::new("seq").arg("3").stdout(sender.into_stdio()?).spawn()?;
    /// let lines: Vec<_> = receiver.iter().map(|line| line.to_vec()).collect();
    /// assert_eq!(lines, [b"1", b"2", b"3"]);
    /// child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pair(&self) -> Result<(Sender, Receiver), Error> {
        if self.address.is_new_pipe() {
            let (sender, receiver) = kernel::Sender::pair(&self.address)?;
            return Ok((Sender::kernel(sender), Receiver::kernel(receiver)));
        }
        let receiver = self.receiver()?;
        Ok((self.sender()?, receiver))
    }

    /// Removes the link's name. Without `force` only if nobody is attached and no message is in it; with it, those who are
    /// attached go on with each other, and messages that nobody receives are lost.
    ///
    /// # Errors
    /// If there is no such link, or it is in use.
    pub fn unlink(&self, force: bool) -> Result<(), Error> {
        match self.address.engine() {
            Some(spec) => Region::unlink(&spec, force),
            None => kernel::unlink(&self.address, force),
        }
    }

    /// What there is to see of the link, without disturbing it.
    ///
    /// # Errors
    /// If there is no such link, or it is not one in shared memory.
    pub fn info(&self) -> Result<Info, Error> {
        match self.address.engine() {
            Some(spec) => shm::info(&spec),
            None => Err(kernel::unsupported("look at", &self.address)),
        }
    }
}
