//! Futures, a stream and a sink over the same handles. They belong to no runtime: a waker is called, whoever's it is; only who drains the process's
//! [`News`](super::News), and who waits for a kernel's descriptor, is the reactor of the runtime that polls (see `reactor`).
//!
//! A future holds nothing of the link between two polls: a message is taken in the poll that returns it, or not at all. So one that is dropped
//! loses nothing, whenever that is. What it announced costs the next peer one call in vain.
//!
//! They borrow the handle mutably: one at a time waits at it, and the futures can move between threads as the handle can.

use super::reactor::{self, Source};
use super::{Again, BUSY_MOST, Ear, Found, News, nap};
use crate::error::{RecvError, RecvFailure, SendError};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::sender::Sender;
use futures_core::Stream;
use futures_sink::Sink;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Looks in a row, in one poll, at what is ready each time and then is not: then other tasks have their turn.
const TURNS: u32 = 16;

/// Takes what tells when to look again.
type Take<'t> = dyn FnMut(Again<'_>) -> io::Result<Option<Source>> + 't;

/// What one who waits has at its runtime.
#[derive(Default)]
pub(crate) struct Wait {
    source: Option<Source>,
    naps: u32,
}

impl Wait {
    /// As [`Self::poll`], where what else tells is at hand.
    pub(crate) fn poll_told<'s, T>(
        &mut self,
        cx: &mut Context<'_>,
        ear: (&Arc<Ear>, bool),
        attempt: impl FnMut(bool) -> Found<T>,
        again: impl Fn() -> Again<'s>,
    ) -> Poll<io::Result<T>> {
        self.poll(cx, ear, attempt, |take| take(again()))
    }

    /// Tries until there is something, first of all: who was woken is in a hurry. `attempt` is told whether to listen, `again` gives what to wait for to its
    /// argument.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        (ear, has_news): (&Arc<Ear>, bool),
        mut attempt: impl FnMut(bool) -> Found<T>,
        again: impl Fn(&mut Take<'_>) -> io::Result<Option<Source>>,
    ) -> Poll<io::Result<T>> {
        for _ in 0..TURNS {
            if let Some(source) = &mut self.source {
                // Nothing has changed if it was polled for another reason: a time-out beside it, say.
                if source.poll(cx).is_pending() && ear.stays_armed(cx.waker()) {
                    return Poll::Pending;
                }
                self.source = None;
            }
            let mut found = attempt(false);
            // One that naps listens anew each time: it is then that what nobody watches is looked at.
            if matches!(found, Found::Nothing | Found::Busy) && (!arm(ear, has_news, cx)? || self.naps > 0) {
                found = attempt(true);
            }
            let busy = match found {
                Found::Done(done) => {
                    ear.disarm();
                    self.naps = 0;
                    return Poll::Ready(Ok(done));
                }
                Found::Nothing => false,
                Found::Busy => true,
            };
            let naps = &mut self.naps;
            let source = again(&mut |again| match again {
                _ if busy => Ok(Some(Source::timer(nap(naps, BUSY_MOST)))),
                Again::Called => Ok(None),
                Again::At(when) => Ok(Some(Source::timer(when.saturating_duration_since(Instant::now())))),
                Again::Later(most) => Ok(Some(Source::timer(nap(naps, most)))),
                Again::Read(file) => Source::readable(file).map(Some),
                Again::Write(file) => Source::writable(file).map(Some),
            });
            self.source = source?;
            if has_news {
                reactor::attend()?; // whatever else it waits for: an interruption, say
            }
            if self.source.is_none() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Arms an ear, and has the news drained that it may have been called for and that are left. Whether it was armed already.
fn arm(ear: &Ear, has_news: bool, cx: &Context<'_>) -> io::Result<bool> {
    let drain_left = || if has_news { News::drain_left() } else { Ok(()) };
    drain_left()?; // before, or that would call this very ear
    let was_armed = ear.arm(cx.waker());
    drain_left()?; // [I1@news]
    Ok(was_armed)
}

/// One poll for a message.
fn poll_recv<'r>(
    receiver: &'r Receiver,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Poll<Result<Message<'r>, RecvError>> {
    let ear = receiver.ear()?;
    let again = |take: &mut Take<'_>| take(receiver.again());
    let polled = ready!(wait.poll(cx, (ear, receiver.has_news()), |listens| receiver.look(listens), again));
    Poll::Ready(polled.map_err(|e| receiver.os_error(&e)).and_then(|done| done))
}

/// One poll to send.
fn poll_send(
    sender: &Sender,
    tag: u16,
    message: &[u8],
    begun: &mut bool,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    let ear = sender.ear()?;
    let again = |take: &mut Take<'_>| sender.again(take);
    let attempt = |listens| sender.look(tag, message, begun, listens);
    let polled = ready!(wait.poll(cx, (ear, sender.has_news()), attempt, again));
    Poll::Ready(polled.map_err(|e| sender.os_error(e)).and_then(|done| done))
}

/// The next message, once it is there: see [`Receiver::recv_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct RecvFuture<'a> {
    /// Until it is done.
    receiver: Option<&'a mut Receiver>,
    wait: Wait,
}

impl<'a> RecvFuture<'a> {
    pub(crate) fn of(receiver: &'a mut Receiver) -> Self {
        Self { receiver: Some(receiver), wait: Wait::default() }
    }
}

impl<'a> Future for RecvFuture<'a> {
    type Output = Result<Message<'a>, RecvError>;

    /// # Panics
    /// If it is polled again after it was done; if no runtime is there for what it waits for.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let receiver = this.receiver.take().expect("a future that is done is not polled again");
        // The first message that it finds is the last: its borrow is the future's.
        match poll_recv_or_back(receiver, &mut this.wait, cx) {
            Ok(done) => Poll::Ready(done),
            Err(receiver) => {
                this.receiver = Some(receiver);
                Poll::Pending
            }
        }
    }
}

/// One poll, which gives the receiver back if there is nothing yet.
fn poll_recv_or_back<'a>(
    receiver: &'a mut Receiver,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<Result<Message<'a>, RecvError>, &'a mut Receiver> {
    match poll_recv(receiver, wait, cx).map_ok(Message::into_held) {
        Poll::Pending => Err(receiver),
        Poll::Ready(Ok(held)) => Ok(Ok(receiver.message(held))),
        Poll::Ready(Err(e)) => Ok(Err(e)),
    }
}

/// Messages as they come, copied: see [`Receiver::stream`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct RecvStream<'a> {
    receiver: &'a mut Receiver,
    wait: Wait,
    ended: bool,
}

impl<'a> RecvStream<'a> {
    pub(crate) fn of(receiver: &'a mut Receiver) -> Self {
        Self { receiver, wait: Wait::default(), ended: false }
    }
}

impl Stream for RecvStream<'_> {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(poll_recv(this.receiver, &mut this.wait, cx)).map(|message| message.to_vec());
        this.ended = next.is_err();
        Poll::Ready(match next {
            Err(e) if e.reason() == (RecvFailure::Closed { died: 0 }) => None,
            next => Some(next),
        })
    }
}

/// A message on its way into the link: see [`Sender::send_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct SendFuture<'a, M: ?Sized> {
    sender: &'a mut Sender,
    tag: u16,
    message: &'a M,
    begun: bool,
    wait: Wait,
}

impl<'a, M: AsRef<[u8]> + ?Sized> SendFuture<'a, M> {
    pub(crate) fn of(sender: &'a mut Sender, tag: u16, message: &'a M) -> Self {
        Self { sender, tag, message, begun: false, wait: Wait::default() }
    }
}

impl<M: AsRef<[u8]> + ?Sized> Future for SendFuture<'_, M> {
    type Output = Result<(), SendError>;

    /// # Panics
    /// If no runtime is there for what it waits for.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        poll_send(this.sender, this.tag, this.message.as_ref(), &mut this.begun, &mut this.wait, cx)
    }
}

/// A sink of messages: see [`Sender::sink`].
pub struct SendSink<'a, M> {
    sender: &'a mut Sender,
    /// The one that did not fit yet.
    pending: Option<M>,
    begun: bool,
    wait: Wait,
}

impl<'a, M: AsRef<[u8]>> SendSink<'a, M> {
    pub(crate) fn of(sender: &'a mut Sender) -> Self {
        Self { sender, pending: None, begun: false, wait: Wait::default() }
    }

    /// The message that it has accepted and not sent yet, if there is one: it goes with the sink.
    pub fn take_pending(&mut self) -> Option<M> {
        self.begun = false;
        self.pending.take()
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(message) = &self.pending else { return Poll::Ready(Ok(())) };
        let sent = ready!(poll_send(self.sender, 0, message.as_ref(), &mut self.begun, &mut self.wait, cx));
        if sent.is_ok() {
            self.pending = None;
        }
        Poll::Ready(sent)
    }
}

impl<M: AsRef<[u8]> + Unpin> Sink<M> for SendSink<'_, M> {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_pending(cx)
    }

    /// Sends it if there is room now, and keeps it otherwise.
    ///
    /// # Panics
    /// If one is kept already: see [`Sink::poll_ready`].
    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), SendError> {
        let this = self.get_mut();
        assert!(this.pending.is_none(), "a sink that is not ready was given a message");
        match this.sender.look(0, message.as_ref(), &mut this.begun, false) {
            Found::Done(done) => done,
            Found::Nothing | Found::Busy => {
                this.pending = Some(message);
                Ok(())
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_pending(cx)
    }
}

impl fmt::Debug for RecvFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecvFuture").field(&self.receiver).finish()
    }
}

impl fmt::Debug for RecvStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecvStream").field(&self.receiver).finish()
    }
}

impl<M: ?Sized> fmt::Debug for SendFuture<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendFuture").field(&self.sender).finish()
    }
}

impl<M> fmt::Debug for SendSink<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendSink").field(&self.sender).finish()
    }
}

#[cfg(all(test, feature = "smol"))]
mod tests {
    use super::*;
    use crate::ready::Ears;
    use std::task::Waker;
    use std::time::Duration;

    /// Whoever is called is no longer announced: it says again that it listens, though its nap is not over.
    #[test]
    fn one_who_is_called_while_it_naps_listens_again() {
        let (ears, ear) = (Ears::default(), Arc::new(Ear::default()));
        ears.add(&ear);
        let mut wait = Wait { source: None, naps: 20 };
        let mut poll = || {
            let mut listened = Vec::new();
            let attempt = |listens| {
                listened.push(listens);
                Found::<()>::Nothing
            };
            let cx = &mut Context::from_waker(Waker::noop());
            let polled = wait.poll(cx, (&ear, false), attempt, |take| take(Again::Later(Duration::from_secs(100))));
            assert!(polled.is_pending());
            listened
        };
        assert_eq!(poll(), [false, true]);
        assert!(poll().is_empty(), "nothing has changed");
        ears.call();
        assert_eq!(poll(), [false, true]);
    }
}
