//! A service of tarpc's, its server and its client, whatever the transport: all that is asked of it is that tasks can read and write it.

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::{Duration, Instant};
use tarpc::client::Config;
use tarpc::context::{self, Context};
use tarpc::serde_transport::{self, Transport};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Json;
use tarpc::tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio::io::{AsyncRead, AsyncWrite};

/// What either end says about what it did.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Calls that are under way at once, in the second half.
pub(crate) const TOGETHER: usize = 32;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Line {
    item: String,
    count: u32,
    cents: i64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Order {
    number: u64,
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct Bill {
    order: Order,
    cents: i64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum Refused {
    Empty { number: u64 },
}

#[tarpc::service]
pub(crate) trait Shop {
    /// What an order comes to.
    async fn bill(order: Order) -> Result<Bill, Refused>;
}

#[derive(Clone)]
struct Desk;

impl Shop for Desk {
    async fn bill(self, _: Context, order: Order) -> Result<Bill, Refused> {
        if order.lines.is_empty() {
            return Err(Refused::Empty { number: order.number });
        }
        let cents = order.lines.iter().map(|line| i64::from(line.count) * line.cents).sum();
        Ok(Bill { order, cents })
    }
}

impl Order {
    /// One that its number tells; each seventh has nothing in it.
    fn numbered(number: u64) -> Self {
        let line = |at: u64| Line {
            item: format!("item {}", number ^ at),
            count: (number % 9) as u32 + at as u32,
            cents: (number * 7 + at) as i64 % 1000 - 300,
        };
        Self { number, lines: (0..number % 7).map(line).collect() }
    }

    /// What is due to come back: reckoned in another way than the server does.
    fn is_answered_by(&self, answer: &Result<Bill, Refused>) -> bool {
        match answer {
            Ok(bill) => {
                let mut left = bill.cents;
                self.lines.iter().for_each(|line| (0..line.count).for_each(|_| left -= line.cents));
                bill.order == *self && left == 0 && !self.lines.is_empty()
            }
            Err(Refused::Empty { number }) => *number == self.number && self.lines.is_empty(),
        }
    }
}

/// tarpc over a stream of bytes.
fn transport<S, In, Out>(stream: S) -> Transport<S, In, Out, Json<In, Out>>
where
    S: AsyncRead + AsyncWrite,
    In: for<'d> Deserialize<'d>,
    Out: Serialize,
{
    serde_transport::new(Framed::new(stream, LengthDelimitedCodec::new()), Json::default())
}

/// Answers on one connection until the client closes it. How many calls came.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> usize {
    let calls = BaseChannel::with_defaults(transport(stream)).execute(Desk.serve());
    calls.map(|call| tokio::spawn(call)).count().await
}

/// Calls one by one, then several at a time. How long a call took, each way; an error if an answer is not the one that is due.
pub(crate) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    calls: u64,
) -> Outcome<[Duration; 2]> {
    let client = ShopClient::new(Config::default(), transport(stream)).spawn();
    let ask = async |number: u64| -> Outcome<()> {
        let order = Order::numbered(number);
        let answer = client.bill(context::current(), order.clone()).await?;
        let right = order.is_answered_by(&answer);
        if right { Ok(()) } else { Err(format!("{order:?} was answered with {answer:?}").into()) }
    };
    let begin = Instant::now();
    for number in 0..calls {
        ask(number).await?;
    }
    let alone = begin.elapsed();

    let begin = Instant::now();
    let mut answers = futures_util::stream::iter(calls..2 * calls).map(ask).buffer_unordered(TOGETHER);
    while let Some(answered) = answers.next().await {
        answered?;
    }
    Ok([alone, begin.elapsed()].map(|took| took / calls as u32))
}
