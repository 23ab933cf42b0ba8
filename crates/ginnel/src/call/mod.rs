//! Request and response: many clients, many servers that share the work. A composition of links, with nothing in shared memory but them.
//!
//! ```text
//! client 4711 ----+                                 +----> server 1
//!                 +--> shm:calc, shape=request  ----+
//! client 4712 ----+    a queue: each request to one +----> server 2
//!      ^                                                     |
//!      +---- shm:calc.re-4712-RANDOM, shape=response <-------+
//!            one receiver, the client; each server that got a request from it sends
//! ```
//! A request tells in its heading which client waits, for which call, and until when. A server keeps the request in hand until it has
//! answered: so if it is killed, the queue delivers the request again, to another server, marked; or, if the client asked for
//! that, the other server only tells the client that it was killed. Servers open a client's link when they first answer, and keep the
//! latest few.
//!
//! - *The last server leaves, or is killed.* A client that sleeps over its responses is woken by the watcher of its process, which watches the link of
//!   requests and relays its news. So it does not matter whether the server had opened the client's link, or had taken the request at all.
//! - *The client leaves, or is killed.* Its link has no receiver then: that is what a server asks for.
//! - *One call is given up, and its client lives.* The client locks byte `CANCEL_BASE` + call of its link's file, and keeps the lock until the call has
//!   ended. Whoever serves the call, now or after a redelivery, asks the kernel for that lock; also while it waits for room in the client's link. No message is needed, which could come late or go to the wrong
//!   server, and a client that dies has cancelled everything.

// - [I1] A server lets go of a request after its last response was committed, or after it gave the request up: never before.
// - [I2] Each request that a living server lets go of is answered by exactly one message that ends the call. One for which there is no room, or no descriptor,
//      is owed, and sent while the server goes on receiving or is dropped. Not sent is what is owed by a server that is killed, or to a client that has no
//      room for a second after the server was dropped.
// - [I3] A client has at most as many calls under way as its link holds messages, so a server that answers each call once need not wait for it.
// - [I4] A client's link ends with its client: the client removes it, and if it was killed, the next server that notices, or `clean`.

mod aside;
mod client;
mod error;
mod heading;
mod server;

pub use client::{Call, Client, OnDeath, Response};
pub use error::{CallError, CallFailure, ServeError, ServeFailure};
pub use server::{Request, Server};

use crate::address::{NAME_MAX, Name};

/// Byte of a client's link whose lock says that call 0 was given up; the others follow.
const CANCEL_BASE: u64 = 1 << 61;
/// Calls whose bytes are apart: nobody has as many under way.
const CANCEL_MASK: u64 = (1 << 48) - 1;

/// The byte of a call.
fn cancel_byte(call: u64) -> u64 {
    CANCEL_BASE + (call & CANCEL_MASK)
}

/// The name of the link for the responses to one client: that of the link of requests, shortened if need be, the client's pid and a random part.
fn response_name(requests: &Name, pid: u32, random: u64) -> Name {
    let tail = format!(".re-{pid}-{random:016x}");
    let requests = requests.as_str();
    let mut end = requests.len().min(NAME_MAX - tail.len());
    while !requests.is_char_boundary(end) {
        end -= 1;
    }
    let name = format!("{}{tail}", &requests[..end]);
    Name::new(&name).unwrap_or_else(|problem| unreachable!("a name from a good one: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_responses_fit_whatever_the_link_is_called() {
        for name in ["a", "calc", &"x".repeat(NAME_MAX), &"ü".repeat(NAME_MAX / 2), &"日".repeat(NAME_MAX / 3)] {
            let made = response_name(&Name::new(name).unwrap(), u32::MAX, u64::MAX);
            assert!(made.as_str().len() <= NAME_MAX, "{}", made.as_str());
            assert!(made.as_str().ends_with(".re-4294967295-ffffffffffffffff"));
        }
        assert_eq!(response_name(&Name::new("calc").unwrap(), 7, 0x1f).as_str(), "calc.re-7-000000000000001f");
    }

    #[test]
    fn bytes_of_calls_lie_below_those_of_participants() {
        assert!(cancel_byte(u64::MAX) < ginnel_core::REMOVE_BYTE && cancel_byte(0) == CANCEL_BASE);
    }
}
