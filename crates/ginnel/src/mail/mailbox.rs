//! A mailbox: one's own name, and what comes there.

use super::error::{MailError, MailFailure};
use super::letter::{Letter, LetterHeading};
use super::name;
use super::post::{Absent, Post};
use crate::error::{Error, ErrorKind, RecvError, RecvFailure};
use crate::message::{Held, Message};
#[cfg(feature = "async")]
use crate::ready;
use crate::ready::{Again, Ear, Found};
use crate::shm::{self, Mode, Spec};
use crate::wait::{Interrupter, Until};
use ginnel_core::Role;
use ginnel_os::process;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How often an owner may be seen to leave just when its name was refused.
const TRIES: usize = 100;
/// How often `recv_from` looks whether the letters that it set aside leave no memory for another.
const SLICE: Duration = Duration::from_millis(50);

/// A name, and the letters that come to it. A handle may move between threads, but one at a time uses it.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::mail::Mailbox;
///
/// let alice = Mailbox::open("alice")?;                    // in one process
/// let bob = Mailbox::open("bob")?;                        // in another
/// bob.send_to("alice", b"lunch?")?;
/// let letter = alice.recv()?;
/// assert_eq!((&*letter, letter.sender()), (&b"lunch?"[..], "bob"));
/// alice.send_to(letter.sender(), b"yes")?;
/// assert_eq!(&*bob.recv_from("alice")?, b"yes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mailbox {
    name: String,
    inbox: shm::Receiver,
    /// Letters that `recv_from` passed over, in the order in which they came, with their senders' names. Forgotten when this is dropped: then they go
    /// back, as the messages of any guard that was forgotten.
    aside: RefCell<VecDeque<(String, Held, u64)>>,
    post: Post,
}

impl Mailbox {
    /// Takes a name; see [the module](super) for how one is written. Letters that wait there are received first.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`] while another process, or another handle of this one, has the name; if the name is bad, or its link cannot be opened.
    pub fn open(name: &str) -> Result<Self, Error> {
        let spec = name::parse(name, "shm")?;
        let inbox = claim(&spec)?;
        // Those who wait for an owner sleep until somebody says so.
        inbox.region().wake_all();
        let name = spec.name.as_str().to_owned();
        let post = Post::from(name.clone(), if spec.private { "mem" } else { "shm" });
        Ok(Self { name, inbox, aside: RefCell::default(), post })
    }

    /// What happens to letters that this sends, from now on, to a name that nobody has. Default [`Absent::Keep`].
    #[must_use]
    pub fn absent(mut self, absent: Absent) -> Self {
        self.post.set_absent(absent);
        self
    }

    /// Its name, which its letters carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Letters that are set aside now: see [`Self::recv_from`].
    pub fn set_aside(&self) -> usize {
        self.aside.borrow().len()
    }

    /// Sends a letter to a name. Waits while that mailbox is full, and for an owner if [asked](Absent::Wait).
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn send_to(&self, to: &str, letter: &[u8]) -> Result<(), MailError> {
        self.post.send_to(to, letter)
    }

    /// Sends a letter if there is room now, and an owner if one is [waited for](Absent::Wait).
    ///
    /// # Errors
    /// As [`Self::send_to`].
    pub fn try_send_to(&self, to: &str, letter: &[u8]) -> Result<(), MailError> {
        self.post.try_send_to(to, letter)
    }

    /// As [`Self::send_to`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::send_to`], and [`MailFailure::TimedOut`].
    pub fn send_to_timeout(&self, to: &str, letter: &[u8], timeout: Duration) -> Result<(), MailError> {
        self.post.send_to_timeout(to, letter, timeout)
    }

    /// As [`Self::send_to`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::send_to`], and [`MailFailure::TimedOut`].
    pub fn send_to_deadline(&self, to: &str, letter: &[u8], deadline: Instant) -> Result<(), MailError> {
        self.post.send_to_deadline(to, letter, deadline)
    }

    /// The next letter, from anyone: first those that were set aside. Waits for one.
    ///
    /// # Errors
    /// [`MailFailure::Malformed`] once for each message that is no letter; others end the use of this handle.
    pub fn recv(&self) -> Result<Letter<'_>, MailError> {
        self.recv_until(Until::Forever)
    }

    /// A letter from anyone, if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`MailFailure::Empty`].
    pub fn try_recv(&self) -> Result<Letter<'_>, MailError> {
        self.recv_until(Until::Now)
    }

    /// The next letter from anyone, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`MailFailure::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Letter<'_>, MailError> {
        self.recv_until(Until::after(timeout))
    }

    /// The next letter from anyone, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`MailFailure::TimedOut`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Letter<'_>, MailError> {
        self.recv_until(Until::Instant(deadline))
    }

    /// The next letter from one name; `""` is those who have none. Letters of others that came before it are set aside, and received later in the order in
    /// which they came. They keep their places in the link: when as many letters as the mailbox holds have come since the oldest of them, no more
    /// can come, and this is an error. So it is when they have the memory for which a sender sleeps.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`MailFailure::SetAside`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::mail::Mailbox;
    ///
    /// let (alice, bob, carol) = (Mailbox::open("alice")?, Mailbox::open("bob")?, Mailbox::open("carol")?);
    /// carol.send_to("alice", b"first")?;
    /// bob.send_to("alice", b"second")?;
    /// assert_eq!(&*alice.recv_from("bob")?, b"second");
    /// assert_eq!(&*alice.recv()?, b"first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_from(&self, sender: &str) -> Result<Letter<'_>, MailError> {
        self.recv_from_until(sender, Until::Forever)
    }

    /// A letter from one name, if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv_from`], and [`MailFailure::Empty`].
    pub fn try_recv_from(&self, sender: &str) -> Result<Letter<'_>, MailError> {
        self.recv_from_until(sender, Until::Now)
    }

    /// The next letter from one name, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv_from`], and [`MailFailure::TimedOut`].
    pub fn recv_from_timeout(&self, sender: &str, timeout: Duration) -> Result<Letter<'_>, MailError> {
        self.recv_from_until(sender, Until::after(timeout))
    }

    /// The next letter from one name, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv_from`], and [`MailFailure::TimedOut`].
    pub fn recv_from_deadline(&self, sender: &str, deadline: Instant) -> Result<Letter<'_>, MailError> {
        self.recv_from_until(sender, Until::Instant(deadline))
    }

    /// The next letter from anyone, as [`Self::recv`], without holding up the thread. Where it can be polled, and what it costs to drop it, is said at
    /// [`Receiver::recv_async`](crate::Receiver::recv_async).
    ///
    /// # Errors
    /// As [`Self::recv`].
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ginnel::mail::Mailbox;
    ///
    /// let mut alice = Mailbox::open("alice")?;
    /// let bob = std::thread::spawn(|| Mailbox::open("bob").unwrap().send_to("alice", b"lunch?").unwrap());
    /// assert_eq!(alice.recv_async().await?.bytes(), b"lunch?");
    /// # bob.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_async(&mut self) -> Result<Letter<'_>, MailError> {
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let has_news = self.add_ear(&ear).map_err(|e| self.broken(RecvFailure::of_os(&e)))?;
        let held = std::future::poll_fn(|cx| self.poll_held(&mut wait, (&ear, has_news), cx)).await?;
        self.letter(held)
    }

    /// The next letter from one name, as [`Self::recv_from`], without holding up the thread. Where it can be polled is said at
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). If it is dropped, letters that it set aside stay set aside, and nothing is lost.
    ///
    /// # Errors
    /// As [`Self::recv_from`].
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ginnel::mail::Mailbox;
    ///
    /// let (mut alice, bob, carol) = (Mailbox::open("alice")?, Mailbox::open("bob")?, Mailbox::open("carol")?);
    /// carol.send_to("alice", b"first")?;
    /// bob.send_to("alice", b"second")?;
    /// assert_eq!(alice.recv_from_async("bob").await?.bytes(), b"second");
    /// assert_eq!(alice.recv_async().await?.bytes(), b"first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_from_async(&mut self, sender: &str) -> Result<Letter<'_>, MailError> {
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let has_news = self.add_ear(&ear).map_err(|e| self.broken(RecvFailure::of_os(&e)))?;
        let held = std::future::poll_fn(|cx| self.poll_from(sender, &mut wait, (&ear, has_news), cx)).await?;
        self.letter(held)
    }

    /// One poll, by whom has the handle to itself: then its future may move between threads, as the handle may.
    #[cfg(feature = "async")]
    fn poll_held(
        &mut self,
        wait: &mut ready::Wait,
        ear: (&Arc<Ear>, bool),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Held, MailError>> {
        let polled = wait.poll_told(cx, ear, |listens| self.look_held(listens), || self.again());
        polled.map(|done| done.unwrap_or_else(|e| Err(self.broken(RecvFailure::of_os(&e)))))
    }

    /// The same, for a letter from one name.
    #[cfg(feature = "async")]
    fn poll_from(
        &mut self,
        sender: &str,
        wait: &mut ready::Wait,
        ear: (&Arc<Ear>, bool),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Held, MailError>> {
        let again = || match self.set_aside() {
            0 => self.again(),
            _ => self.again().or_at(Instant::now() + SLICE), // see `is_out_of_memory`
        };
        let polled = wait.poll_told(cx, ear, |listens| self.look_from(sender, listens), again);
        polled.map(|done| done.unwrap_or_else(|e| Err(self.broken(RecvFailure::of_os(&e)))))
    }

    /// What ends this mailbox's waiting for letters from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.inbox.interrupter()
    }

    // ---- how

    fn error(&self, reason: MailFailure) -> MailError {
        MailError { reason, tried: "receive from", mailbox: self.name.clone() }
    }

    fn recv_until(&self, until: Until) -> Result<Letter<'_>, MailError> {
        let first = self.aside.borrow_mut().pop_front();
        let held = match first {
            Some((_, held, _)) => held,
            None => self.take(until, &|| None).map_err(|reason| self.error(reason))?,
        };
        self.letter(held)
    }

    /// One look, which does not wait: see `ready`.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Letter<'_>, MailError>> {
        self.look_held(listens).map(|held| held.and_then(|held| self.letter(held)))
    }

    /// The same, of a letter that nobody has looked into.
    fn look_held(&self, listens: bool) -> Found<Result<Held, MailError>> {
        let first = self.aside.borrow_mut().pop_front();
        match first {
            Some((_, held, _)) => Found::Done(Ok(held)),
            None => self.inbox.look(listens).map(|held| held.map_err(|e| self.broken(e.reason()))),
        }
    }

    /// The same, for a letter from one name: what comes from others is set aside.
    #[cfg(feature = "async")]
    fn look_from(&self, sender: &str, listens: bool) -> Found<Result<Held, MailError>> {
        if let Some(held) = self.take_aside(sender) {
            return Found::Done(Ok(held));
        }
        loop {
            match self.inbox.look_unless(listens, &|| self.is_stuck()) {
                Found::Done(Ok(held)) => match self.sort(held, sender) {
                    Ok(None) => {}
                    Ok(Some(held)) => return Found::Done(Ok(held)),
                    Err(e) => return Found::Done(Err(e)),
                },
                Found::Done(Err(e)) => return Found::Done(Err(self.error(self.failure(&e)))),
                Found::Nothing if self.set_aside() > 0 && self.is_out_of_memory() => {
                    return Found::Done(Err(self.error(self.too_much_aside())));
                }
                Found::Nothing => return Found::Nothing,
                Found::Busy => return Found::Busy,
            }
        }
    }

    /// What tells when to look again.
    pub(crate) fn again(&self) -> Again<'_> {
        self.inbox.region().again()
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.inbox.region().add_ear(ear)?;
        Ok(self.inbox.region().has_news())
    }

    /// The handle cannot be waited for, or used.
    pub(crate) fn broken(&self, reason: RecvFailure) -> MailError {
        self.error(MailFailure::Broken(reason))
    }

    fn letter(&self, held: Held) -> Result<Letter<'_>, MailError> {
        Letter::new(Message::new(Some(&self.inbox), held)).ok_or_else(|| self.error(MailFailure::Malformed))
    }

    fn recv_from_until(&self, sender: &str, until: Until) -> Result<Letter<'_>, MailError> {
        if let Some(held) = self.take_aside(sender) {
            return self.letter(held);
        }
        loop {
            let Some(held) = self.take_unless_stuck(until).map_err(|reason| self.error(reason))? else { continue };
            if let Some(held) = self.sort(held, sender)? {
                return self.letter(held);
            }
        }
    }

    /// The oldest letter from one name of those that were set aside.
    fn take_aside(&self, sender: &str) -> Option<Held> {
        let mut aside = self.aside.borrow_mut();
        let at = aside.iter().position(|(from, ..)| from == sender)?;
        aside.remove(at).map(|(_, held, _)| held)
    }

    /// Hands a letter back if it is from that name, and sets it aside if not.
    fn sort(&self, held: Held, sender: &str) -> Result<Option<Held>, MailError> {
        let message = Message::new(Some(&self.inbox), held);
        let Some((heading, _)) = LetterHeading::parse(&message) else {
            return Err(self.error(MailFailure::Malformed));
        };
        let position = message.position();
        let held = message.into_held(); // in hand still, and nobody's guard: it says nothing when it is forgotten
        if heading.sender == sender {
            return Ok(Some(held));
        }
        self.aside.borrow_mut().push_back((heading.sender, held, position));
        Ok(None)
    }

    /// Takes a letter, or, with `None`, has waited for a while in vain.
    fn take_unless_stuck(&self, until: Until) -> Result<Option<Held>, MailFailure> {
        let some_aside = self.set_aside() > 0;
        let slice = if some_aside { until.or_earlier(Instant::now() + SLICE) } else { until };
        match self.take(slice, &|| self.is_stuck()) {
            Err(MailFailure::Empty | MailFailure::TimedOut) if some_aside && self.is_out_of_memory() => {
                Err(self.too_much_aside())
            }
            Err(MailFailure::TimedOut) if !until.is_past() => Ok(None),
            taken => taken.map(Some),
        }
    }

    fn too_much_aside(&self) -> MailFailure {
        MailFailure::SetAside { letters: self.set_aside(), capacity: self.inbox.capacity() }
    }

    fn take(&self, until: Until, stuck: &dyn Fn() -> Option<u64>) -> Result<Held, MailFailure> {
        if let Some(held) = self.inbox.take_fast(!matches!(until, Until::Now)) {
            return Ok(held);
        }
        self.inbox.recv_unless(until, stuck).map_err(|e| self.failure(&e))
    }

    /// What the inbox's error says of letters.
    fn failure(&self, error: &RecvError) -> MailFailure {
        match error.reason() {
            RecvFailure::Empty => MailFailure::Empty,
            RecvFailure::TimedOut => MailFailure::TimedOut,
            RecvFailure::Closed { .. } => self.too_much_aside(),
            other => MailFailure::Broken(other),
        }
    }

    /// Whether no letter can come any more while those that are set aside keep their places. It changes only when a letter comes, or is received.
    fn is_stuck(&self) -> Option<u64> {
        let oldest = self.aside.borrow().iter().map(|(_, _, position)| *position).min()?;
        let next = self.inbox.positions().1;
        (next.wrapping_sub(oldest) >= self.inbox.capacity()).then_some(0)
    }

    /// Whether a sender sleeps for block memory while nothing is unread: only what is set aside could make room. A sender that falls asleep wakes
    /// nobody, so this is asked now and then. One that spins is not seen.
    fn is_out_of_memory(&self) -> bool {
        let engine = self.inbox.engine();
        let (taken, next) = self.inbox.positions();
        taken == next && engine.room().is_announced() && engine.any_class_is_used_up()
    }
}

/// Opens the receiving end of a mailbox, or says who has it.
fn claim(spec: &Spec) -> Result<shm::Receiver, Error> {
    let mut refused = None;
    for _ in 0..TRIES {
        match shm::Receiver::open(spec, Mode::Open) {
            Err(e) if e.kind() == ErrorKind::TooManyHandles => {
                if let Some(owner) = owner(spec) {
                    return Err(Error::new(ErrorKind::InUse, "open", format!("the mailbox {}", spec.name.as_str()))
                        .problem(format!("process {owner} has that name, and this is process {}", process::id()))
                        .remedy("close it there, or choose another name"));
                }
                refused = Some(e); // it left meanwhile; or senders have all the places
            }
            // What a dead owner had in hand comes before what it had not.
            other => return other.inspect(|inbox| inbox.region().settle()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(refused.unwrap_or_else(|| Error::new(ErrorKind::TooManyHandles, "open", spec.link())))
}

/// The process that has a name.
fn owner(spec: &Spec) -> Option<u32> {
    if spec.private {
        return Some(process::id());
    }
    let info = shm::info(spec).ok()?;
    info.participants.iter().find(|one| one.role == Role::Receiver && one.alive).map(|one| one.pid)
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.name)
            .field("len", &self.inbox.len())
            .field("set_aside", &self.set_aside())
            .finish_non_exhaustive()
    }
}
