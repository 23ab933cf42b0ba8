//! The interface of crossbeam-channel over a `mem:` link, as far as its own tests ask for what a link has: so that these can be run on ginnel. For tests only.
//!
//! ```text
//! Sender<T>   -- Box<T>, its address as 8 bytes -->   mem:crossbeam-N   -->   Receiver<T>
//! a handle    = a Pool of ginnel's handles: one for each operation that is under way at once
//! ```
//!
//! Thin on purpose: who waits, who is woken, in which order messages come, when a channel is disconnected, is all the link's. What differs is put right here:
//!
//! - crossbeam's handles may be used by several threads at once, ginnel's by one at a time. So an operation borrows a handle from a `Pool`, which clones another
//!   one when none is idle: each operation that is under way has a participant of its own.
//! - crossbeam refuses to send once the last receiver has gone; a link lets messages wait for the next receiver while there is room. So a sender asks first.
//! - crossbeam drops what is left in a channel; a link keeps it. So the last handle of a channel receives it.
//! - A link's capacity is a power of two. It is rounded up, and [`Sender::capacity`] says what it is.
//!
//! # Why a pointer
//!
//! What the pointer refers to is written before it is sent and read after it was received, and nothing else orders the two: a link that published a message too early
//! would be seen by the reader of the value, too.
//!
//! Unsafe, here and in the modules: a word becomes a value of the type that it was sent as, once.
//!
//! - \[I1\] A word in the link is the address of a `Box<T>` that nobody else has: made in `Word::of`.
//! - \[I2\] A link has one `T`: its name is this process's, counted up, and `pair` makes its only two handles, from which all others are cloned.
//! - \[I3\] A word is received once: what a killed process held comes again, but no thread is killed here; and it is checked.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ginnel::{ErrorKind, Link, Message, Mode, RecvFailure, SendFailure};

mod select;
mod word;

/// The macros `select!` and `select_biased!`, copied from the package: they expand to calls of [`internal`].
#[allow(missing_docs, reason = "that of crossbeam-channel")]
mod macros {
    include!(concat!(env!("OUT_DIR"), "/macros.rs"));
}

/// Where a test needs a channel of capacity 0 to keep its threads in step.
pub use crossbeam_channel as original;
/// Named by the imports of tests; those that call them are not run.
pub use crossbeam_channel::{after, tick};
pub use crossbeam_channel::{RecvError, RecvTimeoutError, SelectTimeoutError, TryRecvError, TrySelectError};
pub use crossbeam_channel::{SendError, SendTimeoutError, TrySendError};
pub use select::{internal, Select, SelectedOperation};

use word::Word;

/// Handles of a link at once: some tests have a hundred threads, each with a handle of its own, and each of those keeps one to clone.
const PARTICIPANTS: u32 = 512;

/// Links so far, for their names.
static LINKS: AtomicU64 = AtomicU64::new(0);

/// A channel for this many messages, rounded up to a power of two.
///
/// # Panics
/// If the capacity is 0: no link hands messages over without holding them.
///
/// # Examples
/// ```
/// let (s, r) = ginnel_crossbeam::bounded(2);
/// s.send(String::from("a value")).unwrap();
/// assert_eq!(r.recv().unwrap(), "a value");
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "no link has a capacity of 0");
    pair(|link| link.capacity(capacity.next_power_of_two() as u64), true)
}

/// A channel for any number of messages.
///
/// # Examples
/// ```
/// let (s, r) = ginnel_crossbeam::unbounded();
/// (0..1000).for_each(|n| s.send(n).unwrap());
/// drop(s);
/// assert_eq!(r.iter().sum::<i32>(), 499_500);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    pair(Link::unbounded, false)
}

/// A receiver that never gets anything: of a link whose sender it keeps.
///
/// # Examples
/// ```
/// assert!(ginnel_crossbeam::never::<u8>().try_recv().unwrap_err().is_empty());
/// ```
pub fn never<T>() -> Receiver<T> {
    let (sender, mut receiver) = bounded(1);
    receiver.keeps = Some(Arc::new(sender));
    receiver
}

fn pair<T>(kind: impl FnOnce(Link) -> Link, is_bounded: bool) -> (Sender<T>, Receiver<T>) {
    let name = format!("mem:crossbeam-{}", LINKS.fetch_add(1, Relaxed));
    let link = kind(Link::new(&name).expect("an address")).max(Word::BYTES as u64).participants(PARTICIPANTS);
    let (sender, receiver) = link.pair().unwrap_or_else(|e| panic!("{e}"));
    let channel = Arc::new(Channel { link: Link::new(&name).expect("an address"), is_bounded, of: PhantomData });
    let receiver = Receiver { pool: Pool::of(receiver), keeps: None, channel: channel.clone() };
    (Sender { pool: Pool::of(sender), channel }, receiver)
}

/// The sending half of a channel.
pub struct Sender<T> {
    // Before the channel: the last handle has left the link when the channel is dropped.
    pool: Pool<ginnel::Sender>,
    channel: Arc<Channel<T>>,
}

/// The receiving half of a channel.
pub struct Receiver<T> {
    pool: Pool<ginnel::Receiver>,
    /// Of [`never`]: the sender.
    keeps: Option<Arc<Sender<T>>>,
    channel: Arc<Channel<T>>,
}

/// What the handles of one channel share.
struct Channel<T> {
    link: Link,
    is_bounded: bool,
    /// Its values go from thread to thread, and are looked at by one at a time.
    of: PhantomData<Mutex<T>>,
}

impl<T> Drop for Channel<T> {
    /// Drops what nobody received. The link is there only if there is something.
    fn drop(&mut self) {
        let receiver = match self.link.clone().mode(Mode::Join).receiver() {
            Ok(receiver) => receiver,
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => panic!("{e}"),
        };
        while let Ok(message) = receiver.try_recv() {
            let word = Word::address_of(&message);
            drop(message);
            // SAFETY: [I2] the message was this channel's; [I3] it was just received.
            drop(unsafe { Word::<T>::at(word) }.value());
        }
    }
}

/// ginnel's handles of one end: as many as there were operations at once.
struct Pool<H> {
    /// The first is only cloned, the others are idle.
    idle: Mutex<(H, Vec<H>)>,
}

/// A handle of ginnel's, until the operation is done.
struct Lease<'a, H> {
    pool: &'a Pool<H>,
    handle: Option<H>,
}

impl<H: Clone> Pool<H> {
    fn of(handle: H) -> Self {
        Self { idle: Mutex::new((handle, Vec::new())) }
    }

    fn lease(&self) -> Lease<'_, H> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = idle.1.pop().unwrap_or_else(|| idle.0.clone());
        Lease { pool: self, handle: Some(handle) }
    }

    fn another(&self) -> Self {
        Self::of(self.idle.lock().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

impl<H> Deref for Lease<'_, H> {
    type Target = H;

    fn deref(&self) -> &H {
        self.handle.as_ref().expect("it has one until it is dropped")
    }
}

impl<H> Drop for Lease<'_, H> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.1.extend(self.handle.take());
    }
}

/// How a send ended that did not send.
enum Unsent {
    Full,
    TimedOut,
    Disconnected,
}

impl<T> Sender<T> {
    /// Sends a value; waits for room.
    ///
    /// # Errors
    /// If the last receiver has gone.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_by(value, ginnel::Sender::send).map_err(|(value, _)| SendError(value))
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    /// If there is none, or the last receiver has gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.send_by(value, ginnel::Sender::try_send).map_err(|(value, why)| match why {
            Unsent::Disconnected => TrySendError::Disconnected(value),
            _ => TrySendError::Full(value),
        })
    }

    /// Sends a value, waiting for room for at most this long.
    ///
    /// # Errors
    /// If there was none, or the last receiver has gone.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_by(value, |sender, word| sender.send_timeout(word, timeout)).map_err(timed_out)
    }

    /// Sends a value, waiting for room until then at most.
    ///
    /// # Errors
    /// As [`Self::send_timeout`].
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_by(value, |sender, word| sender.send_deadline(word, deadline)).map_err(timed_out)
    }

    fn send_by(
        &self,
        value: T,
        send: impl FnOnce(&ginnel::Sender, &[u8; Word::BYTES]) -> Result<(), ginnel::SendError>,
    ) -> Result<(), (T, Unsent)> {
        let sender = self.pool.lease();
        if sender.is_closed() {
            return Err((value, Unsent::Disconnected));
        }
        let word = Word::of(value);
        let Err(error) = send(&sender, &word.bytes()) else {
            word.was_sent();
            return Ok(());
        };
        let why = match error.reason() {
            SendFailure::Full { .. } => Unsent::Full,
            SendFailure::TimedOut { .. } => Unsent::TimedOut,
            SendFailure::Closed { died: 0 } => Unsent::Disconnected,
            _ => panic!("{error}"),
        };
        Err((word.value(), why))
    }

    /// Messages in the channel.
    pub fn len(&self) -> usize {
        self.pool.lease().len() as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pool.lease().is_empty()
    }

    /// Whether it has as many as it may.
    pub fn is_full(&self) -> bool {
        self.pool.lease().is_full()
    }

    /// How many it may have: those of the link, which is a power of two. `None` if it is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.is_bounded.then(|| self.pool.lease().capacity() as usize)
    }

    /// Whether both are of one channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }
}

fn timed_out<T>((value, why): (T, Unsent)) -> SendTimeoutError<T> {
    match why {
        Unsent::Disconnected => SendTimeoutError::Disconnected(value),
        _ => SendTimeoutError::Timeout(value),
    }
}

impl<T> Receiver<T> {
    /// Receives a value; waits for one.
    ///
    /// # Errors
    /// If the last sender has gone, and the channel is empty.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_by(|receiver| receiver.recv()).map_err(|_| RecvError)
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    /// If there is none.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.recv_by(|receiver| receiver.try_recv()).map_err(|closed| match closed {
            true => TryRecvError::Disconnected,
            false => TryRecvError::Empty,
        })
    }

    /// Receives a value, waiting for at most this long.
    ///
    /// # Errors
    /// If none came.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_by(|receiver| receiver.recv_timeout(timeout)).map_err(none_came)
    }

    /// Receives a value, waiting until then at most.
    ///
    /// # Errors
    /// If none came.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_by(|receiver| receiver.recv_deadline(deadline)).map_err(none_came)
    }

    /// On an error: whether the channel is disconnected.
    fn recv_by(
        &self,
        recv: impl FnOnce(&ginnel::Receiver) -> Result<Message<'_>, ginnel::RecvError>,
    ) -> Result<T, bool> {
        let receiver = self.pool.lease();
        let message = recv(&receiver).map_err(|error| is_closed(&error))?;
        let word = Word::address_of(&message);
        drop(message);
        // SAFETY: [I2] the message was this channel's; [I3] it was just received.
        Ok(unsafe { Word::at(word) }.value())
    }

    /// Values, until the channel is disconnected.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Values that are there.
    pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Messages in the channel.
    pub fn len(&self) -> usize {
        self.pool.lease().len() as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pool.lease().is_empty()
    }

    /// Whether it has as many as it may: ginnel's receivers do not ask that, so it is counted.
    pub fn is_full(&self) -> bool {
        self.capacity() == Some(self.len())
    }

    /// As [`Sender::capacity`].
    pub fn capacity(&self) -> Option<usize> {
        self.channel.is_bounded.then(|| self.pool.lease().capacity() as usize)
    }

    /// Whether both are of one channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }
}

/// Whether it is the end; anything but that or the lack of a message is a bug.
fn is_closed(error: &ginnel::RecvError) -> bool {
    match error.reason() {
        RecvFailure::Closed { died: 0 } => true,
        RecvFailure::Empty | RecvFailure::TimedOut => false,
        _ => panic!("{error}"),
    }
}

fn none_came(closed: bool) -> RecvTimeoutError {
    match closed {
        true => RecvTimeoutError::Disconnected,
        false => RecvTimeoutError::Timeout,
    }
}

/// The values of a [`Receiver`], which it owns.
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Box<dyn Iterator<Item = T> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.another(), channel: self.channel.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.another(), keeps: self.keeps.clone(), channel: self.channel.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}
