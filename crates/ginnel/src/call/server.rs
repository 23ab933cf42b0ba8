//! The server's end: it takes requests, and answers each by the link of its client.

use super::error::{ServeError, ServeFailure};
use super::heading::{Kind, RequestHeading, ResponseHeading};
use super::{cancel_byte, response_name};
use crate::address::{Name, Wait, Wanted};
use crate::error::{Error, ErrorKind, RecvFailure, SendFailure};
use crate::heading;
use crate::message::{Held, Message};
#[cfg(feature = "async")]
use crate::ready;
use crate::ready::{Again, Ear, Found};
use crate::shm::{self, Mode, Spec};
use crate::wait::{Interrupter, Until};
use ginnel_core::Shape;
use ginnel_os::{ofd_lock, process};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Clients' links that a server keeps open.
const OUTLETS_MAX: usize = 64;
/// How long a server that is dropped stays for clients that it could not tell yet how their calls ended.
const GRACE: Duration = Duration::from_secs(1);
/// Calls whose end a server keeps in mind, because their clients could not be told: as many as all clients with an open link may have under way.
const OWED_MAX: usize = OUTLETS_MAX * 256;
/// Time between two attempts to tell them.
const RETRY: Duration = Duration::from_millis(10);
/// How often a server that waits for room in a client's link looks whether the call was given up.
const SLICE: Duration = Duration::from_millis(50);

/// The end that answers. Several, in any number of processes, share the requests of a link. A handle may move between threads, but one at a time uses it.
///
/// Clients come and go: a server waits for the next one, until it is dropped or [interrupted](Self::interrupter).
///
/// A client that could not be told at once that its call ended without an answer, because it does not receive or this process has no descriptors, is told
/// while this server receives, or up to a second after it was dropped. If it has no room by then, or this process is killed first, such a call has no end
/// before its deadline or the death of the last server.
///
/// # Examples
/// ```no_run
/// let server = ginnel::call::Server::open("shm:length")?;
/// loop {
///     let request = server.recv()?;
///     let answer = request.len().to_string();
///     let _ = request.reply(answer.as_bytes()); // an error: the client has gone
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    requests: shm::Receiver,
    /// The clients' links, the one that was used last at the end.
    outlets: RefCell<Vec<Outlet>>,
    /// What clients could not be told, in the order in which it happened.
    owed: RefCell<VecDeque<Debt>>,
    /// When to try that again.
    retry: Cell<Option<Instant>>,
    name: Name,
    wait: Wait,
    private: bool,
    /// This process, which asking for costs a system call.
    pid: u32,
}

/// A client's link.
struct Outlet {
    pid: u32,
    random: u64,
    sender: shm::Sender,
}

/// A call that has ended here, and whose client does not know.
struct Debt {
    client: RequestHeading,
    kind: Kind,
    redelivered: bool,
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let region = self.sender.region();
        if region.is_ours() {
            region.reap();
            if !self.sender.has_receiver() {
                let _ = region.end(true); // its client was killed, and left it to whoever notices
            }
        }
    }
}

impl Server {
    /// Opens a link of requests as a server, and makes it if it is not there.
    ///
    /// # Errors
    /// If the address is bad, leads to something else than requests, or the link cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        let mut spec = heading::spec(address, Shape::Request, RequestHeading::BYTES)?;
        spec.follow = true;
        let requests = shm::Receiver::open(&spec, Mode::Open)?;
        let (wait, private, pid) = (spec.wait, spec.private, process::id());
        Ok(Self::with(requests, spec.name, wait, private, pid))
    }

    /// Another server of the same link, for another thread.
    ///
    /// # Errors
    /// If the link has as many handles as it was made for.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let requests = self.requests.try_clone()?;
        Ok(Self::with(requests, self.name.clone(), self.wait, self.private, self.pid))
    }

    fn with(requests: shm::Receiver, name: Name, wait: Wait, private: bool, pid: u32) -> Self {
        let (outlets, owed, retry) = (RefCell::default(), RefCell::default(), Cell::new(None));
        Self { requests, outlets, owed, retry, name, wait, private, pid }
    }

    /// The next request; waits for one. It is in hand until it is answered or dropped: if this process is killed before that, another server gets it,
    /// or its client is told, as the client asked.
    ///
    /// # Errors
    /// [`ServeFailure::Malformed`] once for each message that is no request; others end the use of this handle.
    pub fn recv(&self) -> Result<Request<'_>, ServeError> {
        self.recv_until(Until::Forever)
    }

    /// A request, if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`ServeFailure::Empty`].
    pub fn try_recv(&self) -> Result<Request<'_>, ServeError> {
        self.recv_until(Until::Now)
    }

    /// The next request, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`ServeFailure::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Request<'_>, ServeError> {
        self.recv_until(Until::after(timeout))
    }

    /// The next request, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`ServeFailure::TimedOut`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Request<'_>, ServeError> {
        self.recv_until(Until::Instant(deadline))
    }

    /// The next request, as [`Self::recv`], without holding up the thread. Where it can be polled, and what it costs to drop it, is said at
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). Answering waits only while the client's link is full.
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
    /// use ginnel::call::{Client, Server};
    ///
    /// let (mut server, mut client) = (Server::open("shm:double")?, Client::open("shm:double")?);
    /// let serving = async {
    ///     let request = server.recv_async().await?;
    ///     let answer = request.repeat(2);
    ///     request.reply(&answer)
    /// };
    /// let (served, response) = tokio::join!(serving, client.call_async(b"ha"));
    /// served?;
    /// assert_eq!(&*response?, b"haha");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_async(&mut self) -> Result<Request<'_>, ServeError> {
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let has_news = self.add_ear(&ear).map_err(|e| self.broken(RecvFailure::of_os(&e)))?;
        let held = std::future::poll_fn(|cx| self.poll_held(&mut wait, (&ear, has_news), cx)).await?;
        // It was understood a moment ago, in this very poll.
        self.understand(held).unwrap_or_else(|| Err(self.error(ServeFailure::Malformed)))
    }

    /// One poll, by whom has the handle to itself: then its future may move between threads, as the handle may.
    #[cfg(feature = "async")]
    fn poll_held(
        &mut self,
        wait: &mut ready::Wait,
        ear: (&Arc<Ear>, bool),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Held, ServeError>> {
        let attempt = |listens| self.look(listens).map(|done| done.map(Request::into_held));
        let polled = wait.poll_told(cx, ear, attempt, || self.again());
        polled.map(|done| done.unwrap_or_else(|e| Err(self.broken(RecvFailure::of_os(&e)))))
    }

    /// The address of the link of requests, without options.
    pub fn address(&self) -> &str {
        self.requests.address()
    }

    /// What ends this server's waiting for requests from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.requests.interrupter()
    }

    // ---- how

    fn error(&self, reason: ServeFailure) -> ServeError {
        ServeError { reason, link: self.requests.address().clone() }
    }

    fn recv_until(&self, until: Until) -> Result<Request<'_>, ServeError> {
        loop {
            if self.retry.get().is_some() {
                self.tell_late();
            }
            let held = match self.requests.take_fast(!matches!(until, Until::Now)) {
                Some(held) => held,
                None => match self.wait(until).map_err(|reason| self.error(reason))? {
                    Some(held) => held,
                    None => continue,
                },
            };
            if let Some(request) = self.understand(held) {
                return request;
            }
        }
    }

    /// The request that was taken; `None` if nobody is to do it, which its client was told.
    fn understand(&self, held: Held) -> Option<Result<Request<'_>, ServeError>> {
        let message = Message::new(Some(&self.requests), held);
        let Some(heading) = RequestHeading::parse(&message) else {
            return Some(Err(self.error(ServeFailure::Malformed)));
        };
        let request = Request { server: self, message, heading, answered: Cell::new(false) };
        if heading.tell && request.redelivered() {
            request.tell(Kind::Died);
            return None;
        }
        Some(Ok(request))
    }

    /// One look, which does not wait: see `ready`.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Request<'_>, ServeError>> {
        loop {
            if self.retry.get().is_some() {
                self.tell_late();
            }
            let held = match self.requests.look(listens) {
                Found::Done(Ok(held)) => held,
                Found::Done(Err(e)) => return Found::Done(Err(self.broken(e.reason()))),
                Found::Nothing => return Found::Nothing,
                Found::Busy => return Found::Busy,
            };
            if let Some(request) = self.understand(held) {
                return Found::Done(request);
            }
        }
    }

    /// What tells when to look again: also for the sake of those who could not be told yet.
    pub(crate) fn again(&self) -> Again<'_> {
        let again = self.requests.region().again();
        match self.retry.get() {
            Some(retry) => again.or_at(retry),
            None => again,
        }
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.requests.region().add_ear(ear)?;
        Ok(self.requests.region().has_news())
    }

    /// The handle cannot be waited for, or used.
    pub(crate) fn broken(&self, reason: RecvFailure) -> ServeError {
        self.error(ServeFailure::Broken(reason))
    }

    /// Waits for a request, or, with `None`, until somebody should be told what could not be told before.
    #[cold]
    fn wait(&self, until: Until) -> Result<Option<Held>, ServeFailure> {
        let slice = self.retry.get().map_or(until, |retry| until.or_earlier(retry));
        self.requests.recv_slow(slice).map(Some).or_else(|e| match e.reason() {
            RecvFailure::Empty => Err(ServeFailure::Empty),
            RecvFailure::TimedOut if !until.is_past() => Ok(None),
            RecvFailure::TimedOut => Err(ServeFailure::TimedOut),
            other => Err(ServeFailure::Broken(other)),
        })
    }

    /// Sends a message that belongs to a call.
    fn send(
        &self,
        to: &RequestHeading,
        heading: ResponseHeading,
        response: &[u8],
        until: Until,
    ) -> Result<(), ServeFailure> {
        let heading = heading.encode();
        self.with_outlet(to, |sender| {
            let max = most(sender);
            if response.len() as u64 > max {
                return Err(ServeFailure::TooLarge { len: response.len(), max });
            }
            // Without the clock while there is room. Then in slices: a client that gave the call up need not receive ever again, nor wake who waits for that.
            let mut slice = Until::Now;
            loop {
                let failed = match heading::send(sender, &heading, response, slice) {
                    Ok(()) => return Ok(()),
                    Err(e) => e,
                };
                match failed.reason() {
                    SendFailure::Closed { .. } => return Err(ServeFailure::ClientGone),
                    SendFailure::Full { .. } | SendFailure::NoMemory { .. } if !matches!(until, Until::Now) => {}
                    SendFailure::TimedOut { .. } if is_given_up(sender, to.call) => {
                        return Err(ServeFailure::ClientGone);
                    }
                    SendFailure::TimedOut { .. } if until.is_past() => return Err(ServeFailure::TimedOut),
                    SendFailure::TimedOut { .. } => {}
                    _ => return Err(ServeFailure::NotSent(failed)),
                }
                slice = until.or_earlier(Instant::now() + SLICE);
            }
        })
    }

    /// Ends a call without an answer; later, if its client cannot be told now.
    #[cold]
    fn tell(&self, debt: Debt) {
        if self.try_tell(&debt) {
            return;
        }
        let mut owed = self.owed.borrow_mut();
        if owed.len() >= OWED_MAX {
            owed.pop_front();
        }
        owed.push_back(debt);
        drop(owed);
        if self.retry.get().is_none() {
            self.retry.set(Some(Instant::now() + RETRY));
            // Who waits in an event loop has asked before what tells when to look again, and asks anew.
            self.requests.region().call_ears();
        }
    }

    /// Whether the client was told, or never can be.
    fn try_tell(&self, debt: &Debt) -> bool {
        let Debt { client, kind, redelivered } = debt;
        let heading = ResponseHeading { kind: *kind, redelivered: *redelivered, pid: self.pid, call: client.call };
        self.send(client, heading, &[], Until::Now).err().is_none_or(|failure| !may_pass(&failure))
    }

    /// Tries again to tell those who could not be told, if it is time. Never waits.
    #[cold]
    fn tell_late(&self) {
        if self.retry.get().is_none_or(|retry| Instant::now() < retry) {
            return;
        }
        let mut vain: Vec<(u32, u64)> = Vec::new();
        let owed = self.owed.take();
        let left = owed.into_iter().filter(|debt| {
            let client = (debt.client.pid, debt.client.random);
            // A client that has no room for one has none for the next.
            let told = !vain.contains(&client) && self.try_tell(debt);
            if !told && !vain.contains(&client) {
                vain.push(client);
            }
            !told
        });
        let left: VecDeque<Debt> = left.collect();
        self.retry.set(if left.is_empty() { None } else { Some(Instant::now() + RETRY) });
        self.owed.replace(left);
    }

    /// Does something with the link of a client.
    fn with_outlet<R>(
        &self,
        client: &RequestHeading,
        work: impl FnOnce(&shm::Sender) -> Result<R, ServeFailure>,
    ) -> Result<R, ServeFailure> {
        let mut outlets = self.outlets.borrow_mut();
        match outlets.iter().rposition(|outlet| outlet.random == client.random && outlet.pid == client.pid) {
            Some(at) if at + 1 == outlets.len() => {}
            Some(at) => outlets[at..].rotate_left(1),
            None => {
                let opened = self.open_outlet(client, &mut outlets)?;
                outlets.push(opened);
            }
        }
        match outlets.last() {
            Some(outlet) if outlet.sender.has_receiver() => work(&outlet.sender),
            _ => {
                outlets.pop();
                Err(ServeFailure::ClientGone)
            }
        }
    }

    /// Opens the link of a client that is not open, and closes those that need not stay.
    #[cold]
    fn open_outlet(&self, client: &RequestHeading, outlets: &mut Vec<Outlet>) -> Result<Outlet, ServeFailure> {
        outlets.retain(|outlet| outlet.sender.has_receiver());
        if outlets.len() >= OUTLETS_MAX {
            outlets.remove(0);
        }
        let spec = Spec {
            name: response_name(&self.name, client.pid, client.random),
            wanted: Wanted { shape: Some(Shape::Response), ..Wanted::default() },
            history: None,
            follow: false,
            wait: self.wait,
            private: self.private,
        };
        let open = || shm::Sender::open(&spec, Mode::Join);
        let opened = open().or_else(|e| match e.kind() {
            ErrorKind::NoDescriptors | ErrorKind::NoSpace if !outlets.is_empty() => {
                outlets.clear(); // which have some
                open()
            }
            _ => Err(e),
        });
        let sender = opened.map_err(|e| match e.kind() {
            ErrorKind::NotFound => ServeFailure::ClientGone,
            _ => ServeFailure::Setup(Box::new(e)),
        })?;
        crate::watch::watch(sender.region()); // so that a load tells later that the client was killed
        Ok(Outlet { pid: client.pid, random: client.random, sender })
    }
}

impl Drop for Server {
    /// Whoever is not told now is so by the end of the link, if this is the last server.
    fn drop(&mut self) {
        if !self.requests.region().is_ours() {
            return; // the parent's
        }
        let end = Instant::now() + GRACE;
        while let Some(retry) = self.retry.get().filter(|_| Instant::now() < end) {
            std::thread::sleep(retry.saturating_duration_since(Instant::now()));
            self.tell_late();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("link", self.requests.address()).finish_non_exhaustive()
    }
}

/// A request in hand. It derefs to its bytes, which lie in the link. Dropping it without an answer tells the client so, and never waits: see [`Server`].
#[must_use = "a request that is dropped is answered with a failure"]
pub struct Request<'s> {
    server: &'s Server,
    message: Message<'s>,
    heading: RequestHeading,
    answered: Cell<bool>,
}

impl Request<'_> {
    /// The process id of the client, in its own PID namespace; for people.
    pub fn pid(&self) -> u32 {
        self.heading.pid
    }

    /// Whether a server that died had this request in hand before: it may have done some of the work, or all.
    pub fn redelivered(&self) -> bool {
        self.message.redelivered()
    }

    /// Until when the client waits, if it said so.
    pub fn deadline(&self) -> Option<Instant> {
        heading::deadline_from_wire(self.heading.deadline_ns)
    }

    /// Largest response that its client can take, in bytes; 0 if the client has gone.
    pub fn max_response(&self) -> u64 {
        self.server.with_outlet(&self.heading, |sender| Ok(most(sender))).unwrap_or(0)
    }

    /// Whether nobody waits for the answer any more: the client has left, was killed, or has dropped the call. Costs a system call.
    ///
    /// It is true as soon as the client has dropped the call, and within 100 ms of its death. A call whose deadline has passed is not cancelled by that.
    pub fn is_cancelled(&self) -> bool {
        let asked = self.server.with_outlet(&self.heading, |sender| Ok(is_given_up(sender, self.heading.call)));
        asked.unwrap_or_else(|failure| matches!(failure, ServeFailure::ClientGone))
    }

    /// Answers, as the last or only response. Waits while the client's link is full, until the client's deadline at most.
    ///
    /// # Errors
    /// [`ServeFailure::ClientGone`]; [`ServeFailure::TooLarge`]. After any other than the first the client is told that there is no answer.
    pub fn reply(self, response: &[u8]) -> Result<(), ServeError> {
        self.answer(Kind::Last, response, self.until())
    }

    /// As [`Self::reply`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::reply`], and [`ServeFailure::TimedOut`].
    pub fn reply_timeout(self, response: &[u8], timeout: Duration) -> Result<(), ServeError> {
        self.answer(Kind::Last, response, Until::after(timeout))
    }

    /// As [`Self::reply`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::reply`], and [`ServeFailure::TimedOut`].
    pub fn reply_deadline(self, response: &[u8], deadline: Instant) -> Result<(), ServeError> {
        self.answer(Kind::Last, response, Until::Instant(deadline))
    }

    /// Sends one of several responses. Waits while the client's link is full, until the client's deadline at most, or until the client drops the call.
    ///
    /// # Errors
    /// As [`Self::reply`], but the request is still in hand. [`ServeFailure::ClientGone`] also if the call was dropped and the link is full.
    pub fn part(&self, response: &[u8]) -> Result<(), ServeError> {
        self.answer(Kind::Part, response, self.until())
    }

    /// As [`Self::part`], waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::part`], and [`ServeFailure::TimedOut`].
    pub fn part_timeout(&self, response: &[u8], timeout: Duration) -> Result<(), ServeError> {
        self.answer(Kind::Part, response, Until::after(timeout))
    }

    /// As [`Self::part`], waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::part`], and [`ServeFailure::TimedOut`].
    pub fn part_deadline(&self, response: &[u8], deadline: Instant) -> Result<(), ServeError> {
        self.answer(Kind::Part, response, Until::Instant(deadline))
    }

    /// Says that no more responses follow.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub fn finish(self) -> Result<(), ServeError> {
        self.answer(Kind::Finished, &[], self.until())
    }

    /// Says that the request failed, and why, for people: the client gets [`CallFailure::Failed`](super::CallFailure::Failed).
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub fn fail(self, why: &str) -> Result<(), ServeError> {
        self.answer(Kind::Failed, why.as_bytes(), self.until())
    }

    // ---- how

    /// What is in hand, without what ends it.
    #[cfg(feature = "async")]
    fn into_held(self) -> Held {
        let held = self.message.held();
        std::mem::forget(self); // or dropping it would tell the client so
        held
    }

    fn until(&self) -> Until {
        self.deadline().map_or(Until::Forever, Until::Instant)
    }

    fn answer(&self, kind: Kind, response: &[u8], until: Until) -> Result<(), ServeError> {
        let (redelivered, pid, call) = (self.redelivered(), self.server.pid, self.heading.call);
        let heading = ResponseHeading { kind, redelivered, pid, call };
        let sent = self.server.send(&self.heading, heading, response, until);
        if sent.is_ok() && kind.ends() {
            self.answered.set(true);
        }
        sent.map_err(|reason| self.server.error(reason))
    }

    /// Ends the call without an answer.
    #[cold]
    fn tell(&self, kind: Kind) {
        self.answered.set(true);
        self.server.tell(Debt { client: self.heading, kind, redelivered: self.redelivered() });
    }
}

/// Whether the client of this link has dropped a call.
fn is_given_up(sender: &shm::Sender, call: u64) -> bool {
    matches!(ofd_lock::first_locked(sender.region().file().as_fd(), cancel_byte(call), 1), Ok(Some(_)))
}

/// Whether what kept a client from being told may be otherwise later.
fn may_pass(failure: &ServeFailure) -> bool {
    match failure {
        ServeFailure::ClientGone | ServeFailure::TooLarge { .. } => false,
        ServeFailure::NotSent(e) => !matches!(e.reason(), SendFailure::Corrupt(_) | SendFailure::Forked),
        ServeFailure::Setup(e) => !matches!(
            e.kind(),
            ErrorKind::NotALink | ErrorKind::Mismatch | ErrorKind::PermissionDenied | ErrorKind::Unsupported
        ),
        _ => true,
    }
}

/// Largest response on a client's link.
fn most(sender: &shm::Sender) -> u64 {
    sender.max_message().saturating_sub(ResponseHeading::BYTES as u64)
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.answered.get() && self.server.requests.region().is_ours() {
            self.tell(Kind::GivenUp);
        }
    }
}

impl Deref for Request<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.message[RequestHeading::BYTES..]
    }
}

impl AsRef<[u8]> for Request<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("len", &self.len())
            .field("pid", &self.pid())
            .field("redelivered", &self.redelivered())
            .finish_non_exhaustive()
    }
}
