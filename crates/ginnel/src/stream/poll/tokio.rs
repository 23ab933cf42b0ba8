//! tokio's traits. Each operation counts against the budget of its task, as those of tokio's own sockets do.

use super::{Reader, Stream, Writer};
use std::io::{self, BufRead, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

fn within_budget<T>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let budget = ready!(coop::poll_proceed(cx));
    let polled = poll(cx);
    if polled.is_ready() {
        budget.made_progress();
    }
    polled
}

macro_rules! reads {
    ($handle:ty) => {
        /// With tokio (feature `tokio`).
        impl AsyncRead for $handle {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                let (this, most) = (self.get_mut(), to.remaining());
                within_budget(cx, |cx| this.poll_pieces(cx, most, |piece| to.put_slice(piece)).map_ok(drop))
            }
        }

        /// With tokio (feature `tokio`): in place, as [`BufRead`].
        impl AsyncBufRead for $handle {
            fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                let this = self.get_mut();
                within_budget(cx, |cx| this.poll_bytes(cx))
            }

            fn consume(self: Pin<&mut Self>, len: usize) {
                BufRead::consume(self.get_mut(), len);
            }
        }
    };
}

macro_rules! writes {
    ($handle:ty) => {
        /// With tokio (feature `tokio`). Shutting down closes this way, in good order.
        impl AsyncWrite for $handle {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                within_budget(cx, |cx| this.poll_one(cx, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                within_budget(cx, |cx| this.poll_parts(cx, parts))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().close();
                Poll::Ready(Ok(()))
            }
        }
    };
}

reads!(Reader);
reads!(Stream);
writes!(Writer);
writes!(Stream);
