//! The end of a name: accepts the connections that are asked for there.

use super::call::{self, REQUEST_MAX, Way};
use super::{Peer, Reader, Stream, Writer};
use crate::address::Wanted;
use crate::error::{Error, ErrorKind, RecvError, RecvFailure};
use crate::message::{Held, Message};
#[cfg(feature = "async")]
use crate::ready;
use crate::ready::{Again, Ear, Found};
use crate::shm::{self, Membership, Mode, Spec};
use crate::wait::{Interrupter, Until};
use ginnel_core::{Role, Shape};
use ginnel_os::process;
use std::cell::Cell;
#[cfg(feature = "async")]
use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Connections that wait to be accepted, at most.
const BACKLOG: u64 = 128;
/// Who connects has a handle of the listener's link for a moment.
const PARTICIPANTS: u32 = 256;
/// How long a connection is left alone that could not be joined for want of descriptors or memory, unless the caller does not wait.
const RETRY: Duration = Duration::from_millis(10);

/// Accepts connections under a name. There is one for each name; when it is dropped, or dies, those that it has not accepted are over: the next listener of that name
/// accepts none of them, so no client is told of a reset whose bytes somebody reads.
///
/// # Examples
/// A server that echoes; in real life each is a process.
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// use ginnel::stream::{Listener, Stream};
/// use std::io::{Read, Write};
///
/// let listener = Listener::bind("shm:echo")?;
/// let server = std::thread::spawn(move || -> std::io::Result<()> {
///     for stream in listener.incoming().take(1) {
///         let (mut reader, mut writer) = stream?.split();
///         std::io::copy(&mut reader, &mut writer)?;
///     }
///     Ok(())
/// });
/// let mut stream = Stream::connect("shm:echo")?;
/// stream.write_all(b"hello")?;
/// stream.shutdown(std::net::Shutdown::Write)?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    /// Before the requests: it goes first.
    begun: Cell<Option<Begun>>,
    /// When to go on with it.
    retry: Cell<Option<Instant>>,
    requests: shm::Receiver,
    /// Which listener of this name it is: see `call`.
    nth: u16,
    spec: Spec,
    link: Arc<str>,
    #[cfg(feature = "async")]
    ear: OnceCell<Arc<Ear>>,
}

/// A connection that could not be joined for want of descriptors or memory: the next call goes on with it.
struct Begun {
    request: Held,
    ways: Ways,
}

impl Begun {
    fn of(request: Held) -> Self {
        Self { request, ways: Ways::default() }
    }
}

/// What of a connection's ways was joined: up, down. `Some(None)` if a way is not there any more.
#[derive(Default)]
struct Ways([Option<Option<Membership>>; 2]);

impl Listener {
    /// Listens under a name: `shm:NAME`, or `mem:NAME` in this process. What a listener of that name left that was killed is collected.
    ///
    /// Options of the address: `capacity=`, the connections that may wait to be accepted, a power of two, default 128; and `wait=`.
    ///
    /// # Errors
    /// [`TooManyHandles`](crate::ErrorKind::TooManyHandles): another listens there. [`Mismatch`](crate::ErrorKind::Mismatch): the name is that of another
    /// link. Or the link could not be made.
    pub fn bind(address: &str) -> Result<Self, Error> {
        let spec = call::spec("listen on", address)?;
        if call::listener_of(&spec.name).is_some() {
            return Err(Error::new(ErrorKind::InvalidAddress, "listen on", spec.link())
                .problem("such names are those of connections")
                .remedy("choose one without `~`"));
        }
        Self::listen(spec)
    }

    /// The same, for a name that the program did not choose.
    pub(super) fn bind_any(address: &str) -> Result<Self, Error> {
        Self::listen(call::spec("listen on", address)?)
    }

    fn listen(spec: Spec) -> Result<Self, Error> {
        if !spec.private {
            shm::clean_connections_of(&spec.name)?;
        }
        let wanted = Wanted {
            shape: Some(Shape::Listener),
            capacity: Some(spec.wanted.capacity.unwrap_or(BACKLOG)),
            max: Some(REQUEST_MAX),
            memory: Some(0),
            participants: Some(PARTICIPANTS),
            receivers: Some(1),
            ..Wanted::default()
        };
        let requests = shm::Receiver::open(&Spec { wanted, follow: true, ..spec.clone() }, Mode::Open)?;
        let link = spec.link().into();
        let nth = call::nth(requests.region().engine());
        Ok(Self {
            begun: Cell::new(None),
            retry: Cell::new(None),
            requests,
            nth,
            spec,
            link,
            #[cfg(feature = "async")]
            ear: OnceCell::new(),
        })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// If it cannot be joined: then its client is told that it was refused. But [`NoDescriptors`](crate::ErrorKind::NoDescriptors), [`NoSpace`](crate::ErrorKind::NoSpace): it waits on, and a later
    /// call accepts it, once there are some; after such an error who waits looks for them 10 ms later, not at once. Or an [`Interrupter`] ended the wait.
    pub fn accept(&self) -> Result<Stream, Error> {
        loop {
            if let Some(stream) = self.accept_until(Until::Forever)? {
                return Ok(stream);
            }
        }
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn try_accept(&self) -> Result<Option<Stream>, Error> {
        self.accept_until(Until::Now)
    }

    /// Waits for the next connection; `None` when the time is over.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<Stream>, Error> {
        self.accept_until(Until::after(timeout))
    }

    fn accept_until(&self, until: Until) -> Result<Option<Stream>, Error> {
        loop {
            let Some(begun) = self.next(until)? else { return Ok(None) };
            if let Some(stream) = self.go_on(begun)? {
                return Ok(Some(stream));
            }
        }
    }

    /// The next connection to join.
    fn next(&self, until: Until) -> Result<Option<Begun>, Error> {
        if let Some(retry) = self.rests().filter(|_| !matches!(until, Until::Now)) {
            self.requests.pause(until.or_earlier(retry)).map_err(|error| self.failed(&error))?;
            if until.is_past() {
                return Ok(None);
            }
        }
        if let Some(begun) = self.take_begun() {
            return Ok(Some(begun));
        }
        let taken = self.requests.take_fast(false).map_or_else(|| self.requests.recv_slow(until), Ok);
        match taken {
            Ok(request) => Ok(Some(Begun::of(request))),
            Err(error) if matches!(error.reason, RecvFailure::Empty | RecvFailure::TimedOut) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The one that is to be gone on with. In a forked child it is the parent's: receiving says so.
    fn take_begun(&self) -> Option<Begun> {
        if !self.requests.region().is_ours() {
            return None;
        }
        self.retry.set(None);
        self.begun.take()
    }

    /// Until when the one that was begun is left alone: with an error at each look, whoever looks until there is nothing would never be done.
    fn rests(&self) -> Option<Instant> {
        self.retry.get().filter(|retry| self.requests.region().is_ours() && Instant::now() < *retry)
    }

    /// Joins a connection, or keeps it for the next call. `None` if nothing of it is left, or if it was asked of a listener that is gone: that was the end of
    /// it, and its client may have been told already.
    fn go_on(&self, Begun { request, mut ways }: Begun) -> Result<Option<Stream>, Error> {
        // The request is released when the connection is joined: killed before that, it goes back.
        let message = Message::new(Some(&self.requests), request);
        if message.tag() != self.nth {
            self.refuse(&message, ways);
            return Ok(None);
        }
        let joined = self.join(&message, &mut ways);
        match joined.as_ref().map_err(Error::kind) {
            Ok(_) => {}
            Err(ErrorKind::NoDescriptors | ErrorKind::NoSpace) => {
                let request = message.into_held();
                self.begun.set(Some(Begun { request, ways }));
                self.retry.set(Some(Instant::now() + RETRY));
            }
            Err(_) => self.refuse(&message, ways),
        }
        joined
    }

    /// Ends a connection that is not to be joined, as far as that can be done: its client is told, and what it has written goes.
    fn refuse(&self, request: &[u8], ways: Ways) {
        let Some((request, _)) = understood(request) else { return };
        for (joined, way) in ways.0.into_iter().zip([Way::Up, Way::Down]) {
            let _ = match joined {
                Some(Some(joined)) => {
                    let region = joined.region.clone();
                    // Before it is left: who learns of that may be the only one who can tell the other way of its end.
                    region.engine().remove();
                    drop(joined); // before it is ended: its descriptors may be the only ones
                    region.end(true)
                }
                Some(None) => Ok(()),
                None => call::refuse(&self.spec, request, way),
            };
        }
    }

    /// One look, which does not wait: see `ready`.
    pub(crate) fn look(&self, listens: bool) -> Found<Result<Stream, Error>> {
        if self.rests().is_some() {
            return match self.requests.look_away(listens) {
                Ok(()) => Found::Nothing,
                Err(error) => Found::Done(Err(self.failed(&error))),
            };
        }
        loop {
            let begun = match self.take_begun() {
                Some(begun) => begun,
                None => {
                    match self.requests.look(listens).map(|found| found.map(Begun::of).map_err(|e| self.failed(&e))) {
                        Found::Done(Ok(begun)) => begun,
                        Found::Done(Err(e)) => return Found::Done(Err(e)),
                        Found::Nothing => return Found::Nothing,
                        Found::Busy => return Found::Busy,
                    }
                }
            };
            if let Some(done) = self.go_on(begun).transpose() {
                return Found::Done(done);
            }
        }
    }

    /// What tells when to look again.
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

    /// Waits for the next connection, in a task.
    ///
    /// The future may be dropped at any time: a connection that was not returned is there for the next one.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Panics
    /// When it is polled where no runtime is: see [`Receiver::recv_async`](crate::Receiver::recv_async).
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ginnel::stream::{Listener, Stream};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut listener = Listener::bind("shm:greeting")?;
    /// let (server, client) = tokio::join!(listener.accept_async(), Stream::connect_async("shm:greeting"));
    /// let (mut server, mut client) = (server?, client?);
    /// client.write_all(b"hello").await?;
    /// client.shutdown(std::net::Shutdown::Write)?; // or drop it
    /// let mut text = String::new();
    /// server.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn accept_async(&mut self) -> Result<Stream, Error> {
        let mut wait = ready::Wait::default();
        std::future::poll_fn(|cx| self.poll_accept(&mut wait, cx)).await
    }

    #[cfg(feature = "async")]
    fn poll_accept(&mut self, wait: &mut ready::Wait, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let os = |e| Error::os("accept on", &*self.link, e);
        let ear = (self.ear().map_err(os)?, self.requests.region().has_news());
        let polled = wait.poll_told(cx, ear, |listens| self.look(listens), || self.again());
        polled.map(|done| done.unwrap_or_else(|e| Err(os(e))))
    }

    #[cfg(feature = "async")]
    fn ear(&self) -> std::io::Result<&Arc<Ear>> {
        if self.ear.get().is_none() {
            let ear = Arc::default();
            self.requests.region().add_ear(&ear)?;
            let _ = self.ear.set(ear);
        }
        Ok(self.ear.get().expect("it was set just now"))
    }

    /// Joins both ways of a connection, and removes their names. `None` if nothing of it is left.
    fn join(&self, request: &[u8], ways: &mut Ways) -> Result<Option<Stream>, Error> {
        let Some((request, pid)) = understood(request) else { return Ok(None) };
        for (joined, way) in ways.0.iter_mut().zip([Way::Up, Way::Down]) {
            if joined.is_none() {
                *joined = Some(call::join(&self.spec, request, way)?);
            }
        }
        let [up, down] = std::mem::take(ways).0.map(Option::flatten);
        for way in [&up, &down].into_iter().flatten() {
            // Nobody else joins them. What cannot be removed now goes with its last participant.
            let _ = way.region.end(true);
        }
        if up.is_none() && down.is_none() {
            return Ok(None);
        }
        let wait = self.spec.wait;
        let reader = up.map(|up| Reader::new(call::accepted(up, Role::Receiver, wait, &self.link)));
        let writer = down.map(|down| Writer::new(call::accepted(down, Role::Sender, wait, &self.link)));
        Ok(Some(Stream::new((reader, writer), Peer { pid, uid: process::user() }, self.link.clone())))
    }

    fn failed(&self, error: &RecvError) -> Error {
        let kind = match error.reason {
            RecvFailure::Interrupted => ErrorKind::Interrupted,
            RecvFailure::Forked => ErrorKind::InUse,
            _ => ErrorKind::NotALink,
        };
        Error::new(kind, "accept on", &*self.link).problem(error.to_string())
    }

    /// Every connection that comes, for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that it listens on.
    pub fn address(&self) -> &str {
        &self.link
    }

    /// Ends the waiting of this handle from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.requests.interrupter()
    }
}

impl Drop for Listener {
    /// Those who wait to be accepted are told, and what they have written goes.
    fn drop(&mut self) {
        while let Ok(Some(begun)) = self.next(Until::Now) {
            drop(self.go_on(begun));
            if let Some(Begun { request, ways }) = self.take_begun() {
                self.refuse(&Message::new(Some(&self.requests), request), ways);
            }
        }
    }
}

/// A request, and the process that sent it.
fn understood(request: &[u8]) -> Option<(&str, u32)> {
    let request = std::str::from_utf8(request).ok()?;
    Some((request, call::pid_of(request)?))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("link", &self.link)
            .field("waiting", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// The connections that come; see [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<Stream, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}
