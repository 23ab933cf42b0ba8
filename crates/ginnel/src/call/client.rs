//! The client's end: it sends requests, and takes its responses apart by call.
//!
//! Responses come by one link, in the order in which servers sent them. One for another call than the one that is being waited for is copied and set aside;
//! all others are read in their place.

use super::aside::{Entry, Turn};
use super::error::{CallError, CallFailure};
use super::heading::{Kind, RequestHeading, ResponseHeading};
use super::{cancel_byte, response_name};
use crate::address::Wanted;
use crate::error::{Error, ErrorKind, RecvError, RecvFailure, SendError, SendFailure};
use crate::heading;
use crate::message::{Held, Message};
#[cfg(feature = "async")]
use crate::ready;
use crate::ready::{Again, Ear, Found};
use crate::shm::{self, Mode, Spec};
use crate::wait::{Interrupter, Until};
use ginnel_core::{Full, Geometry, Shape};
use ginnel_os::ofd_lock::Token;
use ginnel_os::process;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Messages that a client's link holds at most, and calls that it has under way at most.
const RESPONSES_MAX: u64 = 256;

/// What shall happen to a request that a server had in hand when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDeath {
    /// It goes to another server, [marked](super::Request::redelivered): right for what may be done twice.
    #[default]
    Redeliver,
    /// The client is told, [`CallFailure::ServerDied`]; nobody else does it. It is the next server that tells; if none is left, the client learns that
    /// by itself.
    Tell,
}

/// The end that calls. A handle may move between threads, but one at a time uses it; another thread opens another.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::call::{Client, Server};
///
/// let server = Server::open("shm:shout")?;                    // in one process
/// let serving = std::thread::spawn(move || {
///     let request = server.recv().unwrap();
///     let answer = request.to_ascii_uppercase();
///     request.reply(&answer).unwrap();
/// });
/// let client = Client::open("shm:shout")?;                    // in another
/// assert_eq!(&*client.call(b"hello")?, b"HELLO");
/// # serving.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    requests: shm::Sender,
    responses: shm::Receiver,
    pid: u32,
    random: u64,
    last: Cell<u64>,
    calls: RefCell<Vec<Entry>>,
    /// Responses that were set aside, for all calls together.
    aside: Cell<usize>,
    /// How often somebody has looked for a call.
    looks: Cell<u64>,
    on_death: OnDeath,
}

/// Where the bytes of a response are.
enum Bytes<'c> {
    InPlace(Message<'c>),
    Copied(Vec<u8>),
}

/// The same, of a response that is between two borrows of its client.
#[cfg(feature = "async")]
enum Apart {
    InPlace(Held),
    Copied(Vec<u8>),
}

#[cfg(feature = "async")]
impl Apart {
    fn at(self, client: &Client) -> Bytes<'_> {
        match self {
            Self::InPlace(held) => Bytes::InPlace(Message::new(Some(&client.responses), held)),
            Self::Copied(bytes) => Bytes::Copied(bytes),
        }
    }
}

#[cfg(feature = "async")]
impl Bytes<'_> {
    fn apart(self) -> Apart {
        match self {
            Bytes::InPlace(message) => Apart::InPlace(message.into_held()),
            Bytes::Copied(bytes) => Apart::Copied(bytes),
        }
    }
}

/// A call of a client that waits for no other. Dropping it gives it up.
#[cfg(feature = "async")]
struct UnderWay<'c> {
    /// Until it is over.
    client: Option<&'c mut Client>,
    call: u64,
}

#[cfg(feature = "async")]
impl<'c> UnderWay<'c> {
    fn poll(
        &mut self,
        wait: &mut ready::Wait,
        ear: (&Arc<Ear>, bool),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(ResponseHeading, Apart), CallFailure>> {
        let client = self.client.as_mut().expect("a call that is not over");
        let look =
            |listens| client.look_for(self.call, listens, false).map(|done| done.map(|(h, bytes)| (h, bytes.apart())));
        let polled = wait.poll_told(cx, ear, look, || client.again());
        polled.map(|done| done.unwrap_or_else(|e| Err(CallFailure::Broken(RecvFailure::of_os(&e)))))
    }

    fn end(&mut self) -> &'c Client {
        self.client.take().expect("a call that is not over")
    }
}

#[cfg(feature = "async")]
impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.cancel(self.call);
        }
    }
}

impl Client {
    /// Opens a link of requests as a client, and makes it if it is not there; and a link of one's own for the responses.
    ///
    /// With `?follow`, a call waits for the next server when the last one has left.
    ///
    /// # Errors
    /// If the address is bad, leads to something else than requests, or a link cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        let spec = heading::spec(address, Shape::Request, RequestHeading::BYTES)?;
        let requests = shm::Sender::open(&spec, Mode::Open)?;
        let geometry = *requests.engine().layout().geometry();
        let pid = process::id();
        let (random, mut responses) = loop {
            // Its keys come from the system's randomness. Whoever has the same name by chance, or by a fork, is found below.
            let random = RandomState::new().build_hasher().finish();
            match shm::Receiver::open(&response_spec(&spec, &geometry, pid, random), Mode::Create) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => break (random, made?),
            }
        };
        responses.share_interrupts(&requests);
        requests.region().relay_to(responses.region());
        Ok(Self {
            requests,
            responses,
            pid,
            random,
            last: Cell::new(0),
            calls: RefCell::default(),
            aside: Cell::new(0),
            looks: Cell::new(0),
            on_death: OnDeath::default(),
        })
    }

    /// What shall happen to requests, from now on, when a server dies. Default [`OnDeath::Redeliver`].
    #[must_use]
    pub fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = on_death;
        self
    }

    /// Sends a request and waits for its response: the first one, if the server sends several; the others are given up.
    ///
    /// # Errors
    /// [`CallFailure::Closed`] when the last server has left, and what else may happen to a request.
    pub fn call(&self, request: &[u8]) -> Result<Response<'_>, CallError> {
        self.call_until(request, Until::Forever)
    }

    /// As [`Self::call`], for at most this long, sending included. The server sees the deadline.
    ///
    /// # Errors
    /// As [`Self::call`], and [`CallFailure::TimedOut`].
    pub fn call_timeout(&self, request: &[u8], timeout: Duration) -> Result<Response<'_>, CallError> {
        self.call_until(request, Until::after(timeout))
    }

    /// As [`Self::call`], until then at most, sending included. The server sees the deadline.
    ///
    /// # Errors
    /// As [`Self::call`], and [`CallFailure::TimedOut`].
    pub fn call_deadline(&self, request: &[u8], deadline: Instant) -> Result<Response<'_>, CallError> {
        self.call_until(request, Until::Instant(deadline))
    }

    /// As [`Self::call`], without holding up the thread. Where it can be polled is said at [`Receiver::recv_async`](crate::Receiver::recv_async);
    /// [`Server::recv_async`](super::Server::recv_async) has an example. A future that is dropped gives the call up, as a [`Call`] that is dropped. A time limit is the
    /// runtime's own, around it; the server does not see it.
    ///
    /// One call at a time waits at a client: several under way are several clients, or [`Call::recv_async`].
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    #[cfg(feature = "async")]
    pub async fn call_async(&mut self, request: &[u8]) -> Result<Response<'_>, CallError> {
        // Before the request is sent: what cannot be waited for is not asked for.
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let has_news = self.add_ear(&ear).map_err(|e| self.error(CallFailure::Broken(RecvFailure::of_os(&e))))?;
        let begun = self.begin_async(request).await.map_err(|reason| self.error(reason))?;
        let mut under_way = UnderWay { client: Some(self), call: begun };
        let taken = std::future::poll_fn(|cx| under_way.poll(&mut wait, (&ear, has_news), cx)).await;
        let client = under_way.end();
        let call = Call::of(client, begun, Until::Forever);
        let found = taken.map(|(heading, apart)| (heading, apart.at(client)));
        call.understand(found)?.ok_or_else(|| client.error(CallFailure::NoResponse))
    }

    /// Sends a request.
    #[cfg(feature = "async")]
    async fn begin_async(&mut self, request: &[u8]) -> Result<u64, CallFailure> {
        let heading = self.prepare(request.len(), Until::Forever)?;
        let message = [&heading.encode()[..], request].concat();
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let broken = |e: io::Error| CallFailure::Broken(RecvFailure::of_os(&e));
        self.requests.region().add_ear(&ear).map_err(broken)?;
        let sent = std::future::poll_fn(|cx| self.poll_send(&message, &mut wait, &ear, cx)).await;
        sent.map_err(broken)?.map_err(not_sent)?;
        Ok(self.is_begun(&heading))
    }

    /// One poll, by whom has the handle to itself: then its future may move between threads, as the handle may.
    #[cfg(feature = "async")]
    fn poll_send(
        &mut self,
        message: &[u8],
        wait: &mut ready::Wait,
        ear: &Arc<Ear>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Result<(), SendError>>> {
        let ear = (ear, self.requests.region().has_news());
        wait.poll_told(cx, ear, |listens| self.requests.look(0, message, listens), || self.requests.region().again())
    }

    /// Sends a request, and leaves its responses for later. Several calls may be under way, up to as many as [`Self::limit`] says.
    ///
    /// # Errors
    /// If the request cannot be sent.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::call::{Client, Server};
    ///
    /// let server = Server::open("shm:count")?;
    /// let client = Client::open("shm:count")?;
    /// let call = client.begin(b"to three")?;
    /// let request = server.recv()?;
    /// request.part(b"one")?;
    /// request.part(b"two")?;
    /// request.reply(b"three")?;
    /// let mut numbers = Vec::new();
    /// while let Some(response) = call.recv()? {
    ///     numbers.push(response.to_vec());
    /// }
    /// assert_eq!(numbers.concat(), b"onetwothree");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin(&self, request: &[u8]) -> Result<Call<'_>, CallError> {
        self.begin_until(request, Until::Forever)
    }

    /// As [`Self::begin`], for a call that is over after this long; so long may sending take, and [`Call::recv`].
    ///
    /// # Errors
    /// As [`Self::begin`], and [`CallFailure::TimedOut`].
    pub fn begin_timeout(&self, request: &[u8], timeout: Duration) -> Result<Call<'_>, CallError> {
        self.begin_until(request, Until::after(timeout))
    }

    /// As [`Self::begin`], for a call that is over at that time; until then may sending take, and [`Call::recv`].
    ///
    /// # Errors
    /// As [`Self::begin`], and [`CallFailure::TimedOut`].
    pub fn begin_deadline(&self, request: &[u8], deadline: Instant) -> Result<Call<'_>, CallError> {
        self.begin_until(request, Until::Instant(deadline))
    }

    /// Calls that may be under way at once; those that were dropped count until their servers are done with them.
    pub fn limit(&self) -> usize {
        usize::try_from(self.responses.capacity()).unwrap_or(usize::MAX)
    }

    /// Largest request, in bytes.
    pub fn max_request(&self) -> u64 {
        self.requests.max_message().saturating_sub(RequestHeading::BYTES as u64)
    }

    /// Whether there was a server since this client opened, and none is left.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// The address of the link of requests, without options.
    pub fn address(&self) -> &str {
        self.requests.address()
    }

    /// What ends this client's waiting from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.requests.interrupter()
    }

    // ---- how

    fn error(&self, reason: CallFailure) -> CallError {
        CallError { reason, link: self.requests.address().clone() }
    }

    fn call_until(&self, request: &[u8], until: Until) -> Result<Response<'_>, CallError> {
        let call = self.begin_until(request, until)?;
        call.recv_until(until)?.ok_or_else(|| self.error(CallFailure::NoResponse))
    }

    fn begin_until(&self, request: &[u8], until: Until) -> Result<Call<'_>, CallError> {
        let begun = self.send(request, until).map_err(|reason| self.error(reason))?;
        Ok(Call::of(self, begun, until))
    }

    fn send(&self, request: &[u8], until: Until) -> Result<u64, CallFailure> {
        let heading = self.prepare(request.len(), until)?;
        heading::send(&self.requests, &heading.encode(), request, until).map_err(not_sent)?;
        Ok(self.is_begun(&heading))
    }

    /// What a request of this length begins with, if one can be sent.
    fn prepare(&self, len: usize, until: Until) -> Result<RequestHeading, CallFailure> {
        if self.calls.borrow().len() >= self.limit() {
            self.sweep()?;
        }
        if len as u64 > self.max_request() {
            return Err(CallFailure::TooLarge { len, max: self.max_request() });
        }
        // There may be room still, but nobody who would take it.
        if let Some(died) = self.requests.receivers_gone() {
            return Err(CallFailure::Closed { died });
        }
        Ok(RequestHeading {
            tell: self.on_death == OnDeath::Tell,
            pid: self.pid,
            random: self.random,
            call: self.last.get() + 1,
            deadline_ns: heading::deadline_to_wire(until),
        })
    }

    /// Its request was sent.
    fn is_begun(&self, heading: &RequestHeading) -> u64 {
        let call = heading.call;
        self.last.set(call);
        self.calls.borrow_mut().push(Entry::of(call));
        call
    }

    /// Takes what has come, to find calls that have ended though nobody waits for them.
    #[cold]
    fn sweep(&self) -> Result<(), CallFailure> {
        let limit = self.limit();
        while self.aside.get() < limit {
            match self.take(Until::Now) {
                Ok((heading, message)) => self.set_aside(heading, &message),
                Err(_) => break,
            }
        }
        let calls = self.calls.borrow();
        if calls.len() < limit {
            return Ok(());
        }
        let given_up = calls.iter().filter(|entry| entry.abandoned).count();
        Err(CallFailure::TooManyCalls { limit, given_up })
    }

    /// The next message that belongs to a call.
    fn next_of(&self, call: u64, until: Until) -> Result<(ResponseHeading, Bytes<'_>), CallFailure> {
        if let Some((heading, bytes)) = self.take_aside(call) {
            return Ok((heading, Bytes::Copied(bytes)));
        }
        loop {
            self.has_room_aside()?;
            let (heading, message) = self.take(until)?;
            if heading.call == call {
                return Ok((heading, Bytes::InPlace(message)));
            }
            self.set_aside(heading, &message);
        }
    }

    /// One look for it, which does not wait: see `ready`. What it finds for others it sets aside, little at a time, and says that it is busy: whoever waits beside
    /// it for those calls has a turn, and takes it. While that goes on it leaves the link alone, so a stream that is being received is not piled up here.
    ///
    /// With no room aside it can only wait for others to be received. Who is `alone` waits here, where nobody else can receive them: it is told, once nobody was
    /// seen to between two looks. In a task it waits: another task may receive them, and it is called then.
    fn look_for(
        &self,
        call: u64,
        listens: bool,
        alone: bool,
    ) -> Found<Result<(ResponseHeading, Bytes<'_>), CallFailure>> {
        let most = match self.turn_of(call) {
            Turn::Own(heading, bytes) => return Found::Done(Ok((heading, Bytes::Copied(bytes)))),
            Turn::Take(most) => most,
            Turn::Others => return self.look_away(listens, Found::Busy),
            Turn::Stuck { again: true } if alone => {
                return Found::Done(Err(CallFailure::SetAside { limit: self.limit() }));
            }
            Turn::Stuck { .. } if alone => return self.look_away(listens, Found::Busy),
            Turn::Stuck { .. } => return self.look_away(listens, Found::Nothing),
        };
        let (limit, before) = (self.limit(), self.aside.get());
        for _ in 0..limit {
            let taken = self.responses.look_unless(listens, &|| self.servers_gone());
            match taken.map(|held| held.map_err(not_received).and_then(|held| self.parse(held))) {
                Found::Done(Ok((heading, message))) if heading.call == call => {
                    return Found::Done(Ok((heading, Bytes::InPlace(message))));
                }
                Found::Done(Ok((heading, message))) => self.set_aside(heading, &message),
                Found::Done(Err(failure)) => return Found::Done(Err(failure)),
                Found::Nothing if self.aside.get() == before => return Found::Nothing,
                Found::Nothing | Found::Busy => return Found::Busy,
            }
            if self.aside.get() >= limit.min(before + most) {
                break;
            }
        }
        self.look_away(listens, Found::Busy)
    }

    /// What a look may do.
    fn turn_of(&self, call: u64) -> Turn {
        self.looks.set(self.looks.get() + 1);
        let turn = Turn::of(&mut self.calls.borrow_mut(), call, self.looks.get(), (self.aside.get(), self.limit()));
        if matches!(turn, Turn::Own(..)) {
            self.has_taken_aside(1);
        }
        turn
    }

    /// The end of a look that has not found the link empty. One who listens is announced all the same: it may stay armed over the looks to come.
    fn look_away<T>(&self, listens: bool, found: Found<Result<T, CallFailure>>) -> Found<Result<T, CallFailure>> {
        match self.responses.look_away(listens) {
            Ok(()) => found,
            Err(e) => Found::Done(Err(not_received(e))),
        }
    }

    /// The next of those that were set aside for a call.
    fn take_aside(&self, call: u64) -> Option<(ResponseHeading, Vec<u8>)> {
        if self.aside.get() == 0 {
            return None;
        }
        let mut calls = self.calls.borrow_mut();
        let entry = calls.iter_mut().find(|entry| entry.call == call)?;
        self.looks.set(self.looks.get() + 1);
        entry.looked = self.looks.get();
        let found = entry.aside.pop_front()?;
        drop(calls);
        self.has_taken_aside(1);
        Some(found)
    }

    /// So many are no longer aside. Whoever waits for that in a task is called.
    #[inline]
    fn has_taken_aside(&self, count: usize) {
        if count == 0 {
            return;
        }
        let (was, limit) = (self.aside.get(), self.limit());
        self.aside.set(was - count);
        if was >= limit {
            self.responses.region().call_ears();
        }
    }

    fn has_room_aside(&self) -> Result<(), CallFailure> {
        let limit = self.limit();
        if self.aside.get() < limit { Ok(()) } else { Err(CallFailure::SetAside { limit }) }
    }

    /// Whether the last server has left, of whose going this one is told from now on.
    fn servers_gone(&self) -> Option<u64> {
        crate::watch::watch(self.requests.region());
        self.requests.receivers_gone()
    }

    /// What tells who waits for a response when to look again: the servers are at the other link.
    fn again(&self) -> Again<'static> {
        match self.requests.region().again() {
            Again::Called => self.responses.region().again(),
            later => later,
        }
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.responses.region().add_ear(ear)?;
        Ok(self.responses.region().has_news())
    }

    fn take(&self, until: Until) -> Result<(ResponseHeading, Message<'_>), CallFailure> {
        let held = match self.responses.take_fast(!matches!(until, Until::Now)) {
            Some(held) => held,
            None => self.wait(until)?,
        };
        self.parse(held)
    }

    fn parse(&self, held: Held) -> Result<(ResponseHeading, Message<'_>), CallFailure> {
        let message = Message::new(Some(&self.responses), held);
        let heading = ResponseHeading::parse(&message).ok_or(CallFailure::Malformed)?;
        Ok((heading, message))
    }

    #[cold]
    fn wait(&self, until: Until) -> Result<Held, CallFailure> {
        self.responses.recv_unless(until, &|| self.servers_gone()).map_err(not_received)
    }

    /// Keeps a response for the call that it belongs to. One for a call that is over is what a second server answered after a redelivery.
    fn set_aside(&self, heading: ResponseHeading, message: &Message<'_>) {
        let mut calls = self.calls.borrow_mut();
        let Some(at) = calls.iter().position(|entry| entry.call == heading.call) else { return };
        if !calls[at].abandoned {
            calls[at].aside.push_back((heading, message[ResponseHeading::BYTES..].to_vec()));
            self.aside.set(self.aside.get() + 1);
        } else if heading.kind.ends() {
            calls.swap_remove(at);
        }
    }

    fn forget(&self, call: u64) {
        let mut calls = self.calls.borrow_mut();
        if let Some(at) = calls.iter().position(|entry| entry.call == call) {
            let entry = calls.swap_remove(at);
            drop(calls);
            self.has_taken_aside(entry.aside.len());
        }
    }

    /// Lets the call's server know that nobody waits for it.
    #[cold]
    fn cancel(&self, call: u64) {
        if !self.responses.region().is_ours() {
            return; // the parent's
        }
        let mut calls = self.calls.borrow_mut();
        let Some(at) = calls.iter().position(|entry| entry.call == call) else { return };
        let aside = std::mem::take(&mut calls[at].aside);
        if aside.iter().any(|(heading, _)| heading.kind.ends()) {
            calls.swap_remove(at);
        } else {
            calls[at].abandoned = true;
            // Without a descriptor for the lock, the server is not told: that costs it its work, and if the link is full, the wait for this client to receive.
            let lock = Token::take(self.responses.region().file().as_fd(), cancel_byte(call));
            calls[at]._cancelled = lock.ok().flatten();
        }
        drop(calls);
        self.has_taken_aside(aside.len());
    }
}

/// Why a request was not sent.
fn not_sent(error: SendError) -> CallFailure {
    match error.reason {
        SendFailure::TimedOut { .. } => CallFailure::TimedOut,
        SendFailure::Closed { died } => CallFailure::Closed { died },
        SendFailure::Interrupted => CallFailure::Broken(RecvFailure::Interrupted),
        SendFailure::Forked => CallFailure::Broken(RecvFailure::Forked),
        other => CallFailure::NotSent(other),
    }
}

/// Why no message was received.
fn not_received(error: RecvError) -> CallFailure {
    match error.reason() {
        RecvFailure::Empty => CallFailure::Empty,
        RecvFailure::TimedOut => CallFailure::TimedOut,
        RecvFailure::Closed { died } => CallFailure::Closed { died },
        other => CallFailure::Broken(other),
    }
}

fn response_spec(requests: &Spec, geometry: &Geometry, pid: u32, random: u64) -> Spec {
    let wanted = Wanted {
        shape: Some(Shape::Response),
        capacity: Some(geometry.capacity.min(RESPONSES_MAX)),
        max: Some(geometry.max),
        memory: Some(geometry.memory),
        participants: Some(geometry.participants), // every server, and the client in place of itself
        full: Some(Full::Block),
        senders: None,
        receivers: Some(1),
        ..Wanted::default()
    };
    let name = response_name(&requests.name, pid, random);
    Spec { name, wanted, follow: true, history: None, wait: requests.wait, private: requests.private }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.responses.region().is_ours() {
            // What is left in it was for this client. An error leaves what the next server, or `clean`, removes.
            let _ = self.responses.region().end(true);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("link", self.requests.address())
            .field("responses", self.responses.address())
            .field("calls", &self.calls.borrow().len())
            .finish_non_exhaustive()
    }
}

/// A call under way. Dropping it gives it up: whoever serves it finds it [cancelled](super::Request::is_cancelled), and what still comes is thrown away.
#[must_use = "a call that is dropped is given up"]
pub struct Call<'c> {
    client: &'c Client,
    call: u64,
    until: Until,
    ended: Cell<bool>,
}

impl<'c> Call<'c> {
    fn of(client: &'c Client, call: u64, until: Until) -> Self {
        Self { client, call, until, ended: Cell::new(false) }
    }

    /// The next response; waits for it, until the call's own deadline if it has one. `None` when the server has finished.
    ///
    /// # Errors
    /// [`CallFailure::Closed`] when the last server has left, and what else may happen to a request.
    pub fn recv(&self) -> Result<Option<Response<'c>>, CallError> {
        self.recv_until(self.until)
    }

    /// The next response, if it is there now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`CallFailure::Empty`].
    pub fn try_recv(&self) -> Result<Option<Response<'c>>, CallError> {
        self.recv_until(Until::Now)
    }

    /// The next response, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`CallFailure::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Response<'c>>, CallError> {
        self.recv_until(Until::after(timeout))
    }

    /// The next response, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`CallFailure::TimedOut`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Option<Response<'c>>, CallError> {
        self.recv_until(Until::Instant(deadline))
    }

    /// The next response, as [`Self::recv`], without holding up the thread. Where it can be polled is said at
    /// [`Receiver::recv_async`](crate::Receiver::recv_async); it stays in its thread, as the client that several calls share. A future that is dropped loses nothing:
    /// the call is under way still.
    ///
    /// # Errors
    /// As [`Self::recv`].
    ///
    /// # Panics
    /// When it is polled where no runtime is.
    #[cfg(feature = "async")]
    pub async fn recv_async(&self) -> Result<Option<Response<'c>>, CallError> {
        let (ear, mut wait) = (Arc::default(), ready::Wait::default());
        let has_news = self.add_ear(&ear).map_err(|e| self.broken(&e))?;
        let look = |listens| self.look_as(listens, false);
        let polled = std::future::poll_fn(|cx| wait.poll_told(cx, (&ear, has_news), look, || self.again()));
        polled.await.map_err(|e| self.broken(&e))?
    }

    /// One look, which does not wait, for who waits in this thread: see `ready`.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Option<Response<'c>>, CallError>> {
        self.look_as(listens, true)
    }

    fn look_as(&self, listens: bool, alone: bool) -> Found<Result<Option<Response<'c>>, CallError>> {
        if self.ended.get() {
            return Found::Done(Ok(None));
        }
        match self.client.look_for(self.call, listens, alone) {
            Found::Nothing | Found::Busy if self.until.is_past() => {
                Found::Done(Err(self.client.error(CallFailure::TimedOut)))
            }
            found => found.map(|found| self.understand(found)),
        }
    }

    /// What tells when to look again.
    pub(crate) fn again(&self) -> Again<'_> {
        match self.until {
            Until::Instant(at) => self.client.again().or_at(at),
            _ => self.client.again(),
        }
    }

    /// Has an ear called when it is worth looking again. Whether the process's `News` are to be drained for that.
    pub(crate) fn add_ear(&self, ear: &Arc<Ear>) -> io::Result<bool> {
        self.client.add_ear(ear)
    }

    /// The call cannot be waited for.
    pub(crate) fn broken(&self, error: &io::Error) -> CallError {
        self.client.error(CallFailure::Broken(RecvFailure::of_os(error)))
    }

    fn recv_until(&self, until: Until) -> Result<Option<Response<'c>>, CallError> {
        if self.ended.get() {
            return Ok(None);
        }
        self.understand(self.client.next_of(self.call, until))
    }

    fn understand(
        &self,
        found: Result<(ResponseHeading, Bytes<'c>), CallFailure>,
    ) -> Result<Option<Response<'c>>, CallError> {
        let (heading, bytes) = found.map_err(|reason| self.client.error(reason))?;
        if heading.kind.ends() {
            self.ended.set(true);
            self.client.forget(self.call);
        }
        let response = Response { bytes, redelivered: heading.redelivered, pid: heading.pid };
        let failure = match heading.kind {
            Kind::Part | Kind::Last => return Ok(Some(response)),
            Kind::Finished => return Ok(None),
            Kind::GivenUp => CallFailure::GivenUp,
            Kind::Died => CallFailure::ServerDied,
            Kind::Failed => CallFailure::Failed(response.to_vec()),
        };
        Err(self.client.error(failure))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.client.cancel(self.call);
        }
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("call", &self.call).field("ended", &self.ended.get()).finish_non_exhaustive()
    }
}

/// A response in hand. It derefs to its bytes, which lie in the client's link until it is dropped: hold few of them for long.
pub struct Response<'c> {
    bytes: Bytes<'c>,
    redelivered: bool,
    pid: u32,
}

impl Response<'_> {
    /// Whether the request had been in the hands of a server that died: then what that one had sent of a stream may have come before.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// The process id of the server, in its own PID namespace; for people.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Deref for Response<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::InPlace(message) => &message[ResponseHeading::BYTES..],
            Bytes::Copied(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Response<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("len", &self.len()).field("pid", &self.pid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Server;

    /// Who waits for both calls looks at the other again.
    #[test]
    fn a_look_that_sets_something_aside_says_that_it_is_busy() {
        let server = Server::open("mem:aside").unwrap();
        let client = Client::open("mem:aside").unwrap();
        let [first, second] = [b"1", b"2"].map(|request| client.begin(request).unwrap());
        assert!(matches!(first.look(true), Found::Nothing) && matches!(second.look(true), Found::Nothing));
        let (_one, other) = (server.recv().unwrap(), server.recv().unwrap());
        other.reply(b"to the second").unwrap();
        assert!(matches!(first.look(true), Found::Busy));
        assert!(matches!(second.look(true), Found::Done(Ok(Some(response))) if &*response == b"to the second"));
        assert!(matches!(first.look(true), Found::Nothing));
    }
    /// The one that is looked at first leaves a stream in the link, where it holds its server back, as long as somebody receives it.
    #[test]
    fn what_is_being_received_is_not_piled_up() {
        let server = Server::open("mem:piled?capacity=8").unwrap();
        let client = Client::open("mem:piled?capacity=8").unwrap();
        let [idle, other, busy] = [b"1", b"2", b"3"].map(|request| client.begin(request).unwrap());
        let [_one, _two, three] = [(); 3].map(|()| server.recv().unwrap());
        (0..8).for_each(|_| three.part(b"part").unwrap());
        for left in (0..8).rev() {
            assert!(matches!(idle.look(true), Found::Busy | Found::Nothing));
            assert!(matches!(other.look(true), Found::Busy | Found::Nothing));
            assert!(client.aside.get() <= 2 && client.aside.get() as u64 + client.responses.len() == left + 1);
            assert!(matches!(busy.look(true), Found::Done(Ok(Some(_)))));
        }
        assert!(matches!(idle.look(true), Found::Nothing));
    }
}
