//! Who meets whom in the cases of each shape: the shape as ginnel carries it, and what it is compared with.
//!
//! | shape | measured | against |
//! |---|---|---|
//! | unbounded | a queue without a bound | the bounded queue |
//! | broadcast | a send to several receivers | a send to one |
//! | latest | `latest_into`, `latest` | a raw seqlock |
//! | call | `Client::call`, `Server::recv`, `reply` | the round trip of two queues |
//! | mailbox | `send_to`, `recv` | the same |
//! | stream | `Read`, `Write`; `BufRead` in place | a Unix stream socket |
//!
//! Not the queue itself, which [`baselines`](crate::baselines), [`links`](crate::links) and [`kernel_streams`](crate::kernel_streams) are
//! for.

use crate::burst;
use crate::connection::Connection;
use crate::ginnel_link::{GinnelBroadcast, GinnelLatest, GinnelLink};
use crate::letter::Letters;
use crate::look;
use crate::request::Requests;
use crate::{ByteStream, Case, Contender, Failure, Payload, RawSeqlock, Role, RunError, Shape};

/// The most receivers that a broadcast is measured with: each is a process.
pub const MOST_RECEIVERS: u32 = 1000;

/// The contenders of every shape but the queue; those of a broadcast with one receiver, and with each of these numbers of them.
///
/// # Panics
///
/// When a number is 0 or above [`MOST_RECEIVERS`].
#[must_use]
pub fn conversations(receivers: &[u32]) -> Vec<Contender> {
    let mut all = vec![
        Contender::new("bounded queue", GinnelLink::new).shape(Shape::Unbounded).role(Role::Baseline),
        Contender::new("unbounded", GinnelLink::unbounded).shape(Shape::Unbounded),
    ];
    all.push(audience(1).role(Role::Baseline));
    all.extend(receivers.iter().filter(|several| **several != 1).map(|several| audience(*several)));
    all.extend([
        newest("raw seqlock", RawSeqlock::new).role(Role::Baseline),
        newest("latest_into", |case| GinnelLatest::new(case, false)),
        newest("latest", |case| GinnelLatest::new(case, true)),
        Contender::new("two queues", GinnelLink::new).shape(Shape::Call).role(Role::Baseline),
        Contender::new("call", Requests::new).shape(Shape::Call),
        Contender::new("two queues", GinnelLink::new).shape(Shape::Mailbox).role(Role::Baseline),
        Contender::new("mailbox", Letters::new).shape(Shape::Mailbox),
        Contender::new("unix stream", ByteStream::socket).shape(Shape::Stream).role(Role::Baseline),
        Contender::new("stream", |case| Connection::new(case, false)).shape(Shape::Stream),
        Contender::new("stream, in place", |case| Connection::new(case, true))
            .shape(Shape::Stream)
            .only(|case| case.payload == Payload::Summed),
    ]);
    all
}

/// A broadcast to so many.
fn audience(receivers: u32) -> Contender {
    assert!((1..=MOST_RECEIVERS).contains(&receivers), "from 1 to {MOST_RECEIVERS} receivers");
    let name = if receivers == 1 { "1 receiver".to_owned() } else { format!("{receivers} receivers") };
    Contender::running(name, move |case, count, terms| {
        let broadcast = GinnelBroadcast::new(case, receivers).map_err(RunError::Setup)?;
        burst::measure(&broadcast, receivers, case, count, terms)
    })
    .shape(Shape::Broadcast)
}

/// A place for the newest value.
fn newest<N: look::Newest>(name: &str, make: impl Fn(&Case) -> Result<N, Failure> + 'static) -> Contender {
    Contender::running(name, move |case, count, terms| {
        if case.size < 8 {
            return Err(RunError::Setup(Failure::new("a value needs 8 bytes or more, for its number")));
        }
        look::measure(&make(case).map_err(RunError::Setup)?, case, count, terms)
    })
    .shape(Shape::Latest)
}
