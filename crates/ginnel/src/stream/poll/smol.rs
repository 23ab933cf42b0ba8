//! The traits of futures-io, which smol uses, and others.

use super::{Reader, Stream, Writer};
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::io::{self, BufRead, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

macro_rules! reads {
    ($handle:ty) => {
        /// With futures-io (feature `smol`).
        impl AsyncRead for $handle {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
                let mut at = 0;
                self.get_mut().poll_pieces(cx, to.len(), |piece| {
                    to[at..at + piece.len()].copy_from_slice(piece);
                    at += piece.len();
                })
            }
        }

        /// With futures-io (feature `smol`): in place, as [`BufRead`].
        impl AsyncBufRead for $handle {
            fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                self.get_mut().poll_bytes(cx)
            }

            fn consume(self: Pin<&mut Self>, len: usize) {
                BufRead::consume(self.get_mut(), len);
            }
        }
    };
}

macro_rules! writes {
    ($handle:ty) => {
        /// With futures-io (feature `smol`). Closing it closes this way, in good order.
        impl AsyncWrite for $handle {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                self.get_mut().poll_one(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_parts(cx, parts)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
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
