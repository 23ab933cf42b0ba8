//! What a [`Select`](crate::Select) waits for, and what comes from it. The one place that knows all handles that can be waited for: each has a look that does
//! not wait, what tells when to look again, and a place for an ear.
//!
//! | handle | what arrives | what else wakes |
//! |---|---|---|
//! | receiver of any mechanism | a message | |
//! | server | a request | the time to try again to tell a client what it could not be told |
//! | call under way | a response | the call's deadline; the last server has left |
//! | mailbox | a letter | |
//! | listener | a connection | the time to try again to join one for which there were no descriptors or no memory |
//! | stream, or its reading half | bytes, which stay in it | the listener has gone without accepting |
//!
//! [I1] What a look finds is taken by it, but for bytes: they are read from the stream.
//! [I2] A look at a call may take the response to another call of its client: then it says that it is busy, so that whoever waits for both looks at the other again.
//! It takes few at a time, and none while others receive what is aside for them; only when a select can do nothing but wait for calls that are not in it, it says so.

use super::{Again, Ear, Found};
use crate::call::{Call, CallError, Request, Response, ServeError, Server};
use crate::error::{Error, RecvError, RecvFailure};
use crate::mail::{Letter, MailError, Mailbox};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::stream::{Listener, Reader, Stream};
use std::fmt;
use std::io;
use std::sync::Arc;

/// One of those that a [`Select`](crate::Select) waits for: made of a reference to a [`Receiver`], a [`Server`], a [`Call`], a [`Mailbox`], a [`Listener`], a
/// [`Stream`] or its [`Reader`].
#[derive(Clone, Copy)]
pub struct Source<'a>(Handle<'a>);

#[derive(Clone, Copy)]
enum Handle<'a> {
    Receiver(&'a Receiver),
    Server(&'a Server),
    Call(&'a Call<'a>),
    Mailbox(&'a Mailbox),
    Listener(&'a Listener),
    /// Without a reader, it was shut down for reading: it is at its end.
    Stream(Option<&'a Reader>),
}

/// What one of those that a [`Select`](crate::Select) waits for had, or why it has nothing. An error that ends its use, and the end of a stream, come again until it is
/// [removed](crate::Select::remove).
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival<'a> {
    /// Of a [`Receiver`]: its message, as [`Receiver::recv`] gives it.
    Message(Result<Message<'a>, RecvError>),
    /// Of a [`Server`]: a request, as [`Server::recv`] gives it.
    Request(Result<Request<'a>, ServeError>),
    /// Of a [`Call`]: its next response, or `None` after the last, as [`Call::recv`] gives it.
    Response(Result<Option<Response<'a>>, CallError>),
    /// Of a [`Mailbox`]: a letter, as [`Mailbox::recv`] gives it.
    Letter(Result<Letter<'a>, MailError>),
    /// Of a [`Listener`]: a connection, as [`Listener::accept`] gives it, in a box as it is many times as large as the others.
    Connection(Result<Box<Stream>, Error>),
    /// Of a [`Stream`] or its [`Reader`]: how many bytes are there, 0 at the end. They stay until they are read, as `(&stream).read(..)` or
    /// [`Reader::try_read`] does, which does not wait then.
    Bytes(io::Result<usize>),
}

impl<'a> Arrival<'a> {
    /// The message of a [`Receiver`]: for who waits for receivers only.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// # Panics
    /// If it came from something else.
    #[track_caller]
    pub fn message(self) -> Result<Message<'a>, RecvError> {
        match self {
            Self::Message(message) => message,
            other => panic!("a message was expected of a receiver, and this came from something else: {other:?}"),
        }
    }
}

impl<'a> Source<'a> {
    /// One look, which does not wait. One who listens is armed; it is announced before the look.
    pub(super) fn look(self, listens: bool) -> Found<Arrival<'a>> {
        match self.0 {
            Handle::Receiver(receiver) => receiver.look(listens).map(Arrival::Message),
            Handle::Server(server) => server.look(listens).map(Arrival::Request),
            Handle::Call(call) => call.look(listens).map(Arrival::Response),
            Handle::Mailbox(mailbox) => mailbox.look(listens).map(Arrival::Letter),
            Handle::Listener(listener) => {
                listener.look(listens).map(|stream| Arrival::Connection(stream.map(Box::new)))
            }
            Handle::Stream(Some(reader)) => {
                reader.look(listens).map(|found| Arrival::Bytes(found.map(|bytes| bytes.len)))
            }
            Handle::Stream(None) => Found::Done(Arrival::Bytes(Ok(0))),
        }
    }

    /// What tells when to look again.
    pub(super) fn again(self) -> Again<'a> {
        match self.0 {
            Handle::Receiver(receiver) => receiver.again(),
            Handle::Server(server) => server.again(),
            Handle::Call(call) => call.again(),
            Handle::Listener(listener) => listener.again(),
            Handle::Mailbox(mailbox) => mailbox.again(),
            Handle::Stream(reader) => reader.map_or(Again::Called, |reader| reader.again()),
        }
    }

    /// Has an ear called whenever there may be news that nothing else tells of. Whether the process's `News` are to be drained for that.
    pub(super) fn add_ear(self, ear: &Arc<Ear>) -> Result<bool, Arrival<'a>> {
        let added = match self.0 {
            Handle::Receiver(receiver) => receiver.add_ear(ear),
            Handle::Server(server) => server.add_ear(ear),
            Handle::Call(call) => call.add_ear(ear),
            Handle::Mailbox(mailbox) => mailbox.add_ear(ear),
            Handle::Listener(listener) => listener.add_ear(ear),
            Handle::Stream(reader) => reader.map_or(Ok(false), |reader| reader.add_ear(ear)),
        };
        added.map_err(|e| self.failed(e))
    }

    /// It cannot be waited for, as the kernel says.
    pub(super) fn failed(self, error: io::Error) -> Arrival<'a> {
        match self.0 {
            Handle::Receiver(receiver) => Arrival::Message(Err(receiver.os_error(&error))),
            Handle::Server(server) => Arrival::Request(Err(server.broken(RecvFailure::of_os(&error)))),
            Handle::Call(call) => Arrival::Response(Err(call.broken(&error))),
            Handle::Mailbox(mailbox) => Arrival::Letter(Err(mailbox.broken(RecvFailure::of_os(&error)))),
            Handle::Listener(listener) => {
                Arrival::Connection(Err(Error::os("accept on", listener.address().to_owned(), error)))
            }
            Handle::Stream(_) => Arrival::Bytes(Err(error)),
        }
    }
}

impl<'a> From<&'a Receiver> for Source<'a> {
    fn from(receiver: &'a Receiver) -> Self {
        Self(Handle::Receiver(receiver))
    }
}

impl<'a> From<&'a Server> for Source<'a> {
    fn from(server: &'a Server) -> Self {
        Self(Handle::Server(server))
    }
}

impl<'a> From<&'a Call<'_>> for Source<'a> {
    fn from(call: &'a Call<'_>) -> Self {
        Self(Handle::Call(call))
    }
}

impl<'a> From<&'a Mailbox> for Source<'a> {
    fn from(mailbox: &'a Mailbox) -> Self {
        Self(Handle::Mailbox(mailbox))
    }
}

impl<'a> From<&'a Listener> for Source<'a> {
    fn from(listener: &'a Listener) -> Self {
        Self(Handle::Listener(listener))
    }
}

impl<'a> From<&'a Stream> for Source<'a> {
    fn from(stream: &'a Stream) -> Self {
        Self(Handle::Stream(stream.reading()))
    }
}

impl<'a> From<&'a Reader> for Source<'a> {
    fn from(reader: &'a Reader) -> Self {
        Self(Handle::Stream(Some(reader)))
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Handle::Receiver(receiver) => receiver.fmt(f),
            Handle::Server(server) => server.fmt(f),
            Handle::Call(call) => call.fmt(f),
            Handle::Mailbox(mailbox) => mailbox.fmt(f),
            Handle::Listener(listener) => listener.fmt(f),
            Handle::Stream(reader) => reader.fmt(f),
        }
    }
}
