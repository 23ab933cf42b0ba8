//! Links whose messages are values of any type that serde knows, encoded by [postcard](https://docs.rs/postcard). Each value is encoded by its sender
//! and decoded by its receiver; for types that can lie in a link as they are, see [typed links](crate::typed).
//!
//! A link in shared memory is labelled with the name of the type, without its path: one who takes it for another gets an error that names both.
//! Two versions of a type under the same name are not told apart by that, but by decoding, if at all: postcard writes no names of fields.
//!
//! # Examples
//! ```
//! # let dir = tempfile::tempdir()?;
//! # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
//! use ginnel::encoded::{Receiver, Sender};
//!
//! #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
//! enum Job {
//!     Resize { path: String, width: u32 },
//!     Stop,
//! }
//!
//! let sender = Sender::<Job>::open("shm:jobs")?;
//! let receiver = Receiver::<Job>::open("shm:jobs")?;
//! sender.send(&Job::Resize { path: "a.png".into(), width: 640 })?;
//! sender.send(&Job::Stop)?;
//! assert!(matches!(receiver.recv()?, Job::Resize { width: 640, .. }));
//! assert_eq!(receiver.recv()?, Job::Stop);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::error::{Error, RecvError, RecvFailure, SendError, SendFailure};
use crate::{Link, Message, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

fn labelled<T>(link: Link) -> Link {
    link.labelled(&format!("{}, encoded by postcard", name(std::any::type_name::<T>())))
}

/// A type's name without the paths in it: these differ between two programs that have the type from different places.
fn name(full: &str) -> String {
    let mut name = String::new();
    for part in full.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name
}

/// The sending end of a link whose messages are encoded values of type `T`.
pub struct Sender<T> {
    inner: crate::Sender,
    /// Where the last value was encoded: its memory is used again.
    buffer: RefCell<Vec<u8>>,
    sends: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
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
        Ok(Self { inner: labelled::<T>(link).sender()?, buffer: RefCell::default(), sends: PhantomData })
    }

    /// Another sender of the same link: another participant, which can move to another thread.
    ///
    /// # Errors
    /// As [`crate::Sender::try_clone`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { inner: self.inner.try_clone()?, buffer: RefCell::default(), sends: PhantomData })
    }

    /// Sends a value; waits while the link is full.
    ///
    /// # Errors
    /// As [`crate::Sender::send`], and [`SendFailure::NotEncoded`] if serde or postcard refuses the value.
    pub fn send(&self, value: &T) -> Result<(), SendError> {
        self.encode(value, |bytes| self.inner.send(bytes))
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    /// As [`Self::send`] and [`crate::Sender::try_send`].
    pub fn try_send(&self, value: &T) -> Result<(), SendError> {
        self.encode(value, |bytes| self.inner.try_send(bytes))
    }

    /// Sends a value, waiting for room for at most this long.
    ///
    /// # Errors
    /// As [`Self::send`] and [`crate::Sender::send_timeout`].
    pub fn send_timeout(&self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.encode(value, |bytes| self.inner.send_timeout(bytes, timeout))
    }

    /// Sends a value, waiting for room until then at most.
    ///
    /// # Errors
    /// As [`Self::send`] and [`crate::Sender::send_deadline`].
    pub fn send_deadline(&self, value: &T, deadline: Instant) -> Result<(), SendError> {
        self.encode(value, |bytes| self.inner.send_deadline(bytes, deadline))
    }

    /// Sends a value, as [`Self::send`], without holding up the thread while the link is full. The value is encoded by this call, before the future is polled.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// As [`crate::Sender::send_async`].
    #[cfg(feature = "async")]
    pub fn send_async<'a>(&'a mut self, value: &T) -> impl Future<Output = Result<(), SendError>> + use<'a, T> {
        let encoded = self.encoded(value);
        async move {
            let bytes = encoded?;
            let sent = self.inner.send_async(&bytes).await;
            self.buffer.replace(bytes);
            sent
        }
    }

    /// The handle beneath, for what does not depend on the type.
    pub fn untyped(&self) -> &crate::Sender {
        &self.inner
    }

    fn encode(&self, value: &T, send: impl FnOnce(&[u8]) -> Result<(), SendError>) -> Result<(), SendError> {
        let bytes = self.encoded(value)?;
        let sent = send(&bytes);
        self.buffer.replace(bytes);
        sent
    }

    fn encoded(&self, value: &T) -> Result<Vec<u8>, SendError> {
        // A value whose own `Serialize` sends by this handle finds the buffer taken, and makes another.
        let mut bytes = self.buffer.take();
        bytes.clear();
        postcard::to_extend(value, bytes).map_err(|e| self.inner.error(SendFailure::NotEncoded(e.to_string())))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The receiving end of a link whose messages are encoded values of type `T`.
pub struct Receiver<T> {
    inner: crate::Receiver,
    receives: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
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

    /// Receives the next value; waits for one.
    ///
    /// # Errors
    /// As [`crate::Receiver::recv`], and [`RecvFailure::WrongType`] of a message that is no value of the type, which is received by that.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.inner.recv().and_then(|message| self.value(message))
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::Empty`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.inner.try_recv().and_then(|message| self.value(message))
    }

    /// Receives the next value, waiting for at most this long.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.inner.recv_timeout(timeout).and_then(|message| self.value(message))
    }

    /// Receives the next value, waiting until then at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and [`RecvFailure::TimedOut`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
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
    /// use ginnel::encoded::{Receiver, Sender};
    ///
    /// let (mut sender, mut receiver) = (Sender::<Vec<String>>::open("shm:names")?, Receiver::<Vec<String>>::open("shm:names")?);
    /// let names = vec!["Alice".to_string(), "Bob".to_string()];
    /// let (received, sent) = tokio::join!(receiver.recv_async(), sender.send_async(&names));
    /// sent?;
    /// assert_eq!(received?, names);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        let link = self.inner.link().clone();
        let message = self.inner.recv_async().await?;
        decode(&message).map_err(|reason| RecvError { reason, link })
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
    /// use ginnel::encoded::{Receiver, Sender};
    ///
    /// let sender = Sender::<String>::open("shm:headline?shape=latest")?;
    /// let receiver = Receiver::<String>::open("shm:headline")?;
    /// sender.send(&"nothing new".into())?;
    /// sender.send(&"something".into())?;
    /// assert_eq!(receiver.latest()?, "something");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn latest(&self) -> Result<T, RecvError> {
        self.inner.latest().and_then(|message| self.value(message))
    }

    /// The value in a message of this link: one that a [`Select`](crate::Select) or a [readiness](crate::RecvReadiness) has received.
    ///
    /// # Errors
    /// [`RecvFailure::WrongType`] of a message that is no value of the type, which is received by that.
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
    /// use ginnel::Select;
    /// use ginnel::encoded::{Receiver, Sender};
    ///
    /// let names = Receiver::<String>::open("shm:guests")?;
    /// Sender::<String>::open("shm:guests")?.send(&"Carol".into())?;
    /// let message = Select::new().recv(&names).wait().arrival.message()?;
    /// assert_eq!(names.value(message)?, "Carol");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, message: Message<'_>) -> Result<T, RecvError> {
        decode(&message).map_err(|reason| self.inner.error(reason))
    }

    /// Values until the end: ends when [`Self::recv`] would fail.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The handle beneath, for what does not depend on the type.
    pub fn untyped(&self) -> &crate::Receiver {
        &self.inner
    }
}

/// All of the message is the value: what is left over is of another type.
fn decode<T: DeserializeOwned>(message: &Message<'_>) -> Result<T, RecvFailure> {
    match postcard::take_from_bytes(message) {
        Ok((value, [])) => Ok(value),
        _ => Err(RecvFailure::WrongType { len: message.len() as u64 }),
    }
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

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_has_no_paths() {
        assert_eq!(name("alloc::vec::Vec<(u8, my_crate::jobs::Job)>"), "Vec<(u8, Job)>");
        assert_eq!(name("[core::option::Option<a::B>; 3]"), "[Option<B>; 3]");
        assert_eq!(name("u32"), "u32");
    }
}
