//! Links whose messages are values of one type, without copies: what the sender wrote is what the receiver refers to.
//!
//! The type is one of [zerocopy](https://docs.rs/zerocopy)'s, for which any bytes are a value and no byte is padding, and is
//! [described](crate::Described). A link in shared memory is labelled with the description by who makes it: one who takes it for another
//! type, or for a typed link where it is none, gets an error that names both. Who opens it as plain bytes may do so: the tool does. Mechanisms of
//! the kernel have no place for a label; there, as everywhere, each message is checked for its size.
//!
//! # Examples
//! ```
//! # let dir = tempfile::tempdir()?;
//! # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
//! use ginnel::typed::{Receiver, Sender};
//! use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//!
//! #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
//! #[repr(C)]
//! struct Point {
//!     x: f64,
//!     y: f64,
//! }
//! ginnel::describe!(Point { x: f64, y: f64 });
//!
//! let sender = Sender::<Point>::open("shm:points")?;
//! let receiver = Receiver::<Point>::open("shm:points")?;
//! sender.send(&Point { x: 1.0, y: 2.0 })?;
//! let point = receiver.recv()?; // refers to the link's memory until it is dropped
//! assert_eq!(point.x + point.y, 3.0);
//! drop(point);
//!
//! let error = Receiver::<[u32; 4]>::open("shm:points").unwrap_err();
//! assert!(error.to_string().contains("Point") && error.to_string().contains("[u32; 4]"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "async")]
use crate::SendFuture;
use crate::error::{Error, RecvError, RecvFailure, SendError};
use crate::{Described, INLINE_MAX, Link, Message, Source};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What can be the type of a link's messages: any bytes of its size are a value, and no byte of a value is padding.
pub trait Plain: Described + FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: Described + FromBytes + IntoBytes + Immutable + KnownLayout> Plain for T {}

fn labelled<T: Plain>(link: Link) -> Link {
    link.labelled(&T::description())
}

/// The sending end of a link whose messages are values of type `T`.
pub struct Sender<T> {
    inner: crate::Sender,
    sends: PhantomData<fn(T)>,
}

impl<T: Plain> Sender<T> {
    /// Opens the sending end of a link; makes the link if it is not there.
    ///
    /// # Errors
    /// As [`crate::Sender::open`], and if its messages are of another type.
    pub fn open(address: &str) -> Result<Self, Error> {
        Self::of(Link::new(address)?)
    }

    /// Opens the sending end of a link with options.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(link: Link) -> Result<Self, Error> {
        Ok(Self { inner: labelled::<T>(link).sender()?, sends: PhantomData })
    }

    /// Another sender of the same link: another participant, which can move to another thread.
    ///
    /// # Errors
    /// As [`crate::Sender::try_clone`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { inner: self.inner.try_clone()?, sends: PhantomData })
    }

    /// Sends a value; waits while the link is full.
    ///
    /// # Errors
    /// As [`crate::Sender::send`].
    #[inline]
    pub fn send(&self, value: &T) -> Result<(), SendError> {
        self.inner.send(value.as_bytes())
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    /// As [`crate::Sender::try_send`].
    #[inline]
    pub fn try_send(&self, value: &T) -> Result<(), SendError> {
        self.inner.try_send(value.as_bytes())
    }

    /// Sends a value, waiting for room for at most this long.
    ///
    /// # Errors
    /// As [`crate::Sender::send_timeout`].
    pub fn send_timeout(&self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.inner.send_timeout(value.as_bytes(), timeout)
    }

    /// Sends a value, waiting for room until then at most.
    ///
    /// # Errors
    /// As [`crate::Sender::send_deadline`].
    pub fn send_deadline(&self, value: &T, deadline: Instant) -> Result<(), SendError> {
        self.inner.send_deadline(value.as_bytes(), deadline)
    }

    /// Sends a value, as [`Self::send`], without holding up the thread while the link is full.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// As [`crate::Sender::send_async`].
    #[cfg(feature = "async")]
    pub fn send_async<'a>(&'a mut self, value: &'a T) -> SendFuture<'a, [u8]> {
        self.inner.send_async(value.as_bytes())
    }

    /// Lends a place in the link to write a value in, which begins as zeroes if it is small, and is unspecified otherwise. Waits for memory.
    ///
    /// # Errors
    /// As [`crate::Sender::loan`].
    pub fn loan(&self) -> Result<Loan<'_, T>, SendError> {
        let place = if size_of::<T>() <= INLINE_MAX {
            Place::Own(T::new_zeroed())
        } else {
            let mut loan = self.inner.loan(size_of::<T>())?;
            // What the kernel will carry lies in a buffer that is aligned for bytes.
            if T::mut_from_bytes(&mut loan).is_ok() { Place::Link(loan) } else { Place::Own(T::new_zeroed()) }
        };
        Ok(Loan { sender: &self.inner, place })
    }

    /// The handle beneath, for what does not depend on the type: [`len`](crate::Sender::len), [`is_closed`](crate::Sender::is_closed).
    pub fn untyped(&self) -> &crate::Sender {
        &self.inner
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A value that is being written, in its link if it is a large one. Dropping it sends nothing.
#[must_use = "a loan that is not committed is not sent"]
pub struct Loan<'a, T> {
    sender: &'a crate::Sender,
    place: Place<'a, T>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "as large as a message that lies in its slot, unless the kernel carries it"
)]
enum Place<'a, T> {
    Link(crate::Loan<'a>),
    Own(T),
}

impl<T: Plain> Loan<'_, T> {
    /// Sends the value; waits while the link is full.
    ///
    /// # Errors
    /// As [`crate::Sender::send`]; the loan is given up.
    pub fn commit(self) -> Result<(), SendError> {
        match self.place {
            Place::Link(loan) => loan.commit(),
            Place::Own(value) => self.sender.send(value.as_bytes()),
        }
    }
}

impl<T: Plain> Deref for Loan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.place {
            Place::Link(loan) => T::ref_from_bytes(loan).unwrap_or_else(|_| unreachable!("looked at by `loan`")),
            Place::Own(value) => value,
        }
    }
}

impl<T: Plain> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.place {
            Place::Link(loan) => T::mut_from_bytes(loan).unwrap_or_else(|_| unreachable!("looked at by `loan`")),
            Place::Own(value) => value,
        }
    }
}

impl<T> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("link", &self.sender.address())
            .field("len", &size_of::<T>())
            .finish_non_exhaustive()
    }
}

/// The receiving end of a link whose messages are values of type `T`.
pub struct Receiver<T> {
    inner: crate::Receiver,
    receives: PhantomData<fn() -> T>,
}

impl<T: Plain> Receiver<T> {
    /// Opens the receiving end of a link; makes the link if it is not there.
    ///
    /// # Errors
    /// As [`crate::Receiver::open`], and if its messages are of another type.
    pub fn open(address: &str) -> Result<Self, Error> {
        Self::of(Link::new(address)?)
    }

    /// Opens the receiving end of a link with options.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(link: Link) -> Result<Self, Error> {
        Ok(Self { inner: labelled::<T>(link).receiver()?, receives: PhantomData })
    }

    /// Another receiver of the same link, which shares its messages, or, of a broadcast, gets what this one has yet to receive.
    ///
    /// # Errors
    /// As [`crate::Receiver::try_clone`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { inner: self.inner.try_clone()?, receives: PhantomData })
    }

    /// Receives the next value; waits for one. It stays in its place until the guard is dropped, as a [`Message`] does.
    ///
    /// # Errors
    /// As [`crate::Receiver::recv`], and [`RecvFailure::WrongType`] of a message that has another size, which is received by that.
    #[inline]
    pub fn recv(&self) -> Result<Value<'_, T>, RecvError> {
        self.inner.recv().and_then(|message| self.value(message))
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::Empty`].
    #[inline]
    pub fn try_recv(&self) -> Result<Value<'_, T>, RecvError> {
        self.inner.try_recv().and_then(|message| self.value(message))
    }

    /// Receives the next value, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Value<'_, T>, RecvError> {
        self.inner.recv_timeout(timeout).and_then(|message| self.value(message))
    }

    /// Receives the next value, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Value<'_, T>, RecvError> {
        self.inner.recv_deadline(deadline).and_then(|message| self.value(message))
    }

    /// Receives the next value, as [`Self::recv`], without holding up the thread. A future that is dropped loses nothing.
    ///
    /// # Errors
    /// As [`Self::recv`].
    ///
    /// # Panics
    /// As [`crate::Receiver::recv_async`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ginnel::typed::{Receiver, Sender};
    ///
    /// let (mut sender, mut receiver) = (Sender::<[f32; 3]>::open("shm:forces")?, Receiver::<[f32; 3]>::open("shm:forces")?);
    /// let force = [0.0, 0.0, -9.8];
    /// let (received, sent) = tokio::join!(receiver.recv_async(), sender.send_async(&force));
    /// sent?;
    /// assert_eq!(*received?, force);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_async(&mut self) -> Result<Value<'_, T>, RecvError> {
        let link = self.inner.link().clone();
        let message = self.inner.recv_async().await?;
        Value::of(message).map_err(|reason| RecvError { reason, link })
    }

    /// The newest value of a link with [`Shape::Latest`](crate::Shape::Latest), without waiting, whether this handle has seen it before or not.
    ///
    /// # Errors
    /// As [`crate::Receiver::latest`], and [`RecvFailure::WrongType`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::typed::{Receiver, Sender};
    ///
    /// let sender = Sender::<[f64; 2]>::open("shm:place?shape=latest")?;
    /// let receiver = Receiver::<[f64; 2]>::open("shm:place")?;
    /// sender.send(&[1.0, 2.0])?;
    /// sender.send(&[3.0, 4.0])?;
    /// assert_eq!(*receiver.latest()?, [3.0, 4.0]);
    ///
    /// let mut place = [0.0; 2];
    /// assert_eq!(receiver.latest_into(&mut place)?, 1); // the second value of the link
    /// assert_eq!(place, [3.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn latest(&self) -> Result<Value<'_, T>, RecvError> {
        self.inner.latest().and_then(|message| self.value(message))
    }

    /// As [`Self::latest`], into a value, which is left alone on an error. Returns the [position](Message::position) of what was received.
    ///
    /// # Errors
    /// As [`Self::latest`].
    #[inline]
    pub fn latest_into(&self, value: &mut T) -> Result<u64, RecvError> {
        let message = self.inner.latest()?;
        if message.len() != size_of::<T>() {
            return Err(self.inner.error(wrong(&message)));
        }
        value.as_mut_bytes().copy_from_slice(&message);
        Ok(message.position())
    }

    /// The value in a message of this link: one that a [`Select`](crate::Select) or a [readiness](crate::RecvReadiness) has received. That the link's values are of this type
    /// was checked when it was opened; here, that the message has the size of one.
    ///
    /// # Errors
    /// [`RecvFailure::WrongType`] of a message that has another size, which is received by that.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::Select;
    /// use ginnel::typed::{Receiver, Sender};
    ///
    /// let (prices, volumes) = (Receiver::<f64>::open("shm:prices")?, Receiver::<u32>::open("shm:volumes")?);
    /// let mut select = Select::new().recv(&prices).recv(&volumes);
    /// Sender::<u32>::open("shm:volumes")?.send(&500)?;
    /// Sender::<f64>::open("shm:prices")?.send(&1.5)?;
    /// for _ in 0..2 {
    ///     let next = select.wait();
    ///     let message = next.arrival.message()?;
    ///     match next.index {
    ///         0 => assert_eq!(*prices.value(message)?, 1.5),
    ///         _ => assert_eq!(*volumes.value(message)?, 500),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn value<'a>(&self, message: Message<'a>) -> Result<Value<'a, T>, RecvError> {
        Value::of(message).map_err(|reason| self.inner.error(reason))
    }

    /// Values until the end: ends when [`Self::recv`] would fail.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_, T>> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The handle beneath, for what does not depend on the type: [`len`](crate::Receiver::len), [`is_closed`](crate::Receiver::is_closed).
    pub fn untyped(&self) -> &crate::Receiver {
        &self.inner
    }
}

fn wrong(message: &Message<'_>) -> RecvFailure {
    RecvFailure::WrongType { len: message.len() as u64 }
}

impl<'a, T> From<&'a Receiver<T>> for Source<'a> {
    fn from(receiver: &'a Receiver<T>) -> Self {
        Source::from(&receiver.inner)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A received value. On a link in shared memory it lies there until this is dropped.
pub struct Value<'a, T> {
    message: Message<'a>,
    /// The value, if the bytes of the message are not aligned for it.
    copy: Option<T>,
}

impl<'a, T> Value<'a, T> {
    /// The message that it came in: whether it was [redelivered](Message::redelivered), its [position](Message::position).
    pub fn message(&self) -> &Message<'a> {
        &self.message
    }
}

impl<'a, T: Plain> Value<'a, T> {
    #[inline]
    fn of(message: Message<'a>) -> Result<Self, RecvFailure> {
        if T::ref_from_bytes(&message).is_ok() {
            return Ok(Self { message, copy: None });
        }
        // Of its size, then, but not aligned: it came in a buffer for bytes.
        let copy = T::read_from_bytes(&message).map_err(|_| wrong(&message))?;
        Ok(Self { message, copy: Some(copy) })
    }
}

impl<T: Plain> Deref for Value<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.copy {
            Some(value) => value,
            None => T::ref_from_bytes(&self.message).unwrap_or_else(|_| unreachable!("looked at when it came")),
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Value<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
