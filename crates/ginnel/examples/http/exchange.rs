//! A server and a client of hyper's that exchange a body each way, whatever the transport: all that is asked of it is that tasks can read and write it.

use crc32fast::Hasher;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, client, server};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// What either end says about what it did.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of a frame of a body.
const FRAME: usize = 64 * 1024;
/// The header in which the server says what arrived.
const ARRIVED: &str = "x-arrived";

/// A body of so many MiB: pieces of one block of numbers without a pattern, each from another place.
pub(crate) struct Source {
    block: Bytes,
    next: u64,
    frames: u64,
}

impl Source {
    pub(crate) fn of(mib: u64) -> Self {
        let mut word = 0x9E37_79B9_7F4A_7C15_u64;
        let words = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word
        });
        let len = if mib == 0 { 0 } else { 4 * FRAME / 8 };
        let block = words.take(len).flat_map(u64::to_le_bytes).collect();
        Self { block, next: 0, frames: (mib << 20) / FRAME as u64 }
    }

    fn frame(&mut self) -> Option<Bytes> {
        let number = self.next;
        if number == self.frames {
            return None;
        }
        self.next += 1;
        let at = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as usize % (3 * FRAME);
        Some(self.block.slice(at..at + FRAME))
    }

    /// What is due to arrive.
    pub(crate) fn sum(mut self) -> String {
        let mut sum = Sum::default();
        while let Some(bytes) = self.frame() {
            sum.add(&bytes);
        }
        sum.said()
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().frame().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.frames
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.frames - self.next) * FRAME as u64)
    }
}

/// Of bytes in their order.
#[derive(Default)]
struct Sum {
    sum: Hasher,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn said(self) -> String {
        format!("{:08x} of {} bytes", self.sum.finalize(), self.bytes)
    }
}

/// Reads a body to its end.
async fn arrived(mut body: Incoming) -> hyper::Result<String> {
    let mut sum = Sum::default();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Some(bytes) = frame?.data_ref() {
            sum.add(bytes);
        }
    }
    Ok(sum.said())
}

/// `GET /MIB` is answered with so many; `POST` with what arrived.
async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Source>> {
    if *request.method() == Method::GET {
        let mib = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
        return Ok(Response::new(Source::of(mib)));
    }
    let mut response = Response::new(Source::of(0));
    let arrived = arrived(request.into_body()).await?;
    response.headers_mut().insert(ARRIVED, HeaderValue::from_str(&arrived).expect("plain text"));
    Ok(response)
}

/// Answers on one connection until the client closes it.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> Outcome<()> {
    Ok(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await?)
}

/// Asks for a body, and sends one. How long each took; an error if something else arrived than was sent.
pub(crate) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mib: u64,
) -> Outcome<(Duration, Duration)> {
    let due = Source::of(mib).sum();
    let check = |way: &str, arrived: &str| {
        if arrived == due { Ok(()) } else { Err(format!("{way}: {arrived} arrived instead of {due}")) }
    };
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);

    let begin = Instant::now();
    let request = Request::get(format!("/{mib}")).header("host", "ginnel").body(Source::of(0))?;
    let response = sender.send_request(request).await?;
    check("down", &arrived(response.into_body()).await?)?;
    let down = begin.elapsed();

    let begin = Instant::now();
    let request = Request::post("/").header("host", "ginnel").body(Source::of(mib))?;
    let response = sender.send_request(request).await?;
    check("up", response.headers().get(ARRIVED).ok_or("no sum came back")?.to_str()?)?;
    let up = begin.elapsed();

    drop(sender);
    driver.await??;
    Ok((down, up))
}
