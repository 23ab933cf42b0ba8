//! What goes wrong with a call, for its client and for its server.

use crate::error::{Error, RecvFailure, SendError, SendFailure};
use std::fmt;
use std::sync::Arc;

/// Why a call has no response, or not the next one.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallFailure {
    /// The request was not sent.
    NotSent(SendFailure),
    /// The request is longer than the link allows.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The largest that the link allows, in bytes.
        max: u64,
    },
    /// This client has as many calls under way as may be.
    TooManyCalls {
        /// How many that is.
        limit: usize,
        /// How many of them were dropped, and are not over yet: their servers have not ended them, or nobody has taken them.
        given_up: usize,
    },
    /// So many responses to other calls were set aside while this one waited for its own; receive some of those. Not told in a task, which waits until another
    /// has received them, nor in a [`Select`](crate::Select) that waits for those calls too.
    SetAside {
        /// How many, and at most.
        limit: usize,
    },
    /// The deadline came before a response did. The call is under way still, until it is dropped.
    TimedOut,
    /// There is no response now.
    Empty,
    /// The last server has left.
    Closed {
        /// How many servers were killed, rather than closed, since this client opened.
        died: u64,
    },
    /// The server died with the request in hand: see [`OnDeath::Tell`](crate::call::OnDeath::Tell).
    ServerDied,
    /// The server let go of the request without an answer.
    GivenUp,
    /// The server says that the request failed, and why.
    Failed(Vec<u8>),
    /// The server finished without a response.
    NoResponse,
    /// What came is no response.
    Malformed,
    /// The client's own link can no longer be used, or the wait was interrupted.
    Broken(RecvFailure),
}

/// A call has no response, or not the next one.
#[derive(Debug)]
pub struct CallError {
    pub(super) reason: CallFailure,
    pub(super) link: Arc<str>,
}

impl CallError {
    /// Why.
    pub fn reason(&self) -> &CallFailure {
        &self.reason
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot call {}: ", self.link)?;
        match &self.reason {
            CallFailure::NotSent(SendFailure::Closed { died }) | CallFailure::Closed { died } => {
                f.write_str("no server is left")?;
                if *died > 0 {
                    write!(f, ", {died} killed")?;
                }
                f.write_str("; start one, or wait for the next with ?follow")
            }
            CallFailure::NotSent(SendFailure::TimedOut { .. }) => {
                f.write_str("timed out: no server took a request; start more servers, or wait longer")
            }
            CallFailure::NotSent(reason) => fmt_send(f, reason, &self.link),
            CallFailure::TooLarge { len, max } => {
                write!(f, "the request has {len} bytes, the link allows {max}; make it anew with a larger ?max=")
            }
            CallFailure::TooManyCalls { limit, given_up } if given_up * 2 > *limit => write!(
                f,
                "{limit} calls are under way, as many as may be, and {given_up} of them were dropped, but no server has ended those yet; \
                 start more servers, have them look whether a request is cancelled, or open another client"
            ),
            CallFailure::TooManyCalls { limit, .. } => {
                write!(
                    f,
                    "{limit} calls are under way, as many as may be; receive the responses of some, or open another client"
                )
            }
            CallFailure::SetAside { limit } => {
                write!(f, "{limit} responses to other calls wait to be received; receive those first")
            }
            CallFailure::TimedOut => f.write_str(
                "timed out: no response came; `ginnel info` shows who serves, a longer timeout waits longer",
            ),
            CallFailure::Empty => f.write_str("there is no response now; wait with recv"),
            CallFailure::ServerDied => {
                f.write_str("the server died with the request in hand; call again if that does no harm")
            }
            CallFailure::GivenUp => f.write_str("the server let go of the request without an answer"),
            CallFailure::Failed(why) => write!(f, "it failed there: {}", String::from_utf8_lossy(why)),
            CallFailure::NoResponse => f.write_str("the server finished without a response"),
            CallFailure::Malformed => {
                f.write_str("what came is no response; its server must use the same version of ginnel")
            }
            CallFailure::Broken(RecvFailure::Corrupt(what)) => {
                write!(f, "{what}: a peer damaged the link of its responses; open another client")
            }
            CallFailure::Broken(RecvFailure::Interrupted) => f.write_str("the wait was interrupted"),
            CallFailure::Broken(RecvFailure::Forked) => {
                f.write_str("the client belongs to the parent of this process; open one of its own")
            }
            CallFailure::Broken(reason) => {
                f.write_str("its responses cannot be received: ")?;
                reason.explain(f, &self.link)
            }
        }
    }
}

/// What a failure to send says after the name of its link.
fn fmt_send(f: &mut fmt::Formatter<'_>, reason: &SendFailure, link: &str) -> fmt::Result {
    match reason {
        SendFailure::Full { capacity } => {
            write!(
                f,
                "{capacity} requests wait already; start more servers, or make the link anew with a larger ?capacity="
            )
        }
        SendFailure::NoMemory { ceiling } => {
            write!(
                f,
                "its {ceiling} bytes of block memory are in use; start more servers, or make it anew with a larger ?memory="
            )
        }
        SendFailure::Corrupt(what) => write!(f, "{what}: a peer damaged it; remove it with `ginnel rm --force {link}`"),
        SendFailure::Interrupted => f.write_str("the wait was interrupted"),
        SendFailure::Forked => f.write_str("the handle belongs to the parent of this process; open one of its own"),
        other => other.explain(f, link),
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            CallFailure::NotSent(SendFailure::NoSpace(e) | SendFailure::Os(e)) => Some(e),
            _ => None,
        }
    }
}

/// Why a server has no request, or a response did not go.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeFailure {
    /// There is no request now.
    Empty,
    /// The deadline came first: no request was there, or no room for the response, because the client does not receive.
    TimedOut,
    /// What came is no request. It is gone; the next can be received.
    Malformed,
    /// The client has left, or was killed.
    ClientGone,
    /// The response is longer than the client's link allows.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The largest that the link allows, in bytes.
        max: u64,
    },
    /// The response was not sent.
    NotSent(SendError),
    /// The client's link cannot be opened.
    Setup(Box<Error>),
    /// The link of requests can no longer be used, or the wait was interrupted.
    Broken(RecvFailure),
}

/// A server has no request, or a response did not go.
#[derive(Debug)]
pub struct ServeError {
    pub(super) reason: ServeFailure,
    pub(super) link: Arc<str>,
}

impl ServeError {
    /// Why.
    pub fn reason(&self) -> &ServeFailure {
        &self.reason
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve {}: ", self.link)?;
        match &self.reason {
            ServeFailure::Empty => f.write_str("there is no request now; wait with recv"),
            ServeFailure::TimedOut => {
                f.write_str("timed out: no request came, or its client does not receive; a longer timeout waits longer")
            }
            ServeFailure::Malformed => {
                f.write_str("what came is no request; its client must use the same version of ginnel")
            }
            ServeFailure::ClientGone => {
                f.write_str("the client has left, or was killed: nobody waits for this response")
            }
            ServeFailure::TooLarge { len, max } => write!(
                f,
                "the response has {len} bytes, the client's link allows {max}; send it in parts, or make the link of requests anew with a larger ?max="
            ),
            ServeFailure::NotSent(e) => e.fmt(f),
            ServeFailure::Setup(e) => e.fmt(f),
            ServeFailure::Broken(RecvFailure::Corrupt(what)) => {
                write!(f, "{what}: a peer damaged it; remove it with `ginnel rm --force {}`", self.link)
            }
            ServeFailure::Broken(RecvFailure::Interrupted) => f.write_str("the wait was interrupted"),
            ServeFailure::Broken(RecvFailure::Forked) => {
                f.write_str("the server belongs to the parent of this process; open one of its own")
            }
            ServeFailure::Broken(reason) => {
                f.write_str("requests cannot be received: ")?;
                reason.explain(f, &self.link)
            }
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            ServeFailure::NotSent(e) => Some(e),
            ServeFailure::Setup(e) => Some(&**e),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a failure says that is not a case of its own here.
    #[test]
    fn no_message_is_code() {
        let link: Arc<str> = "shm:calc".into();
        let call = |reason| CallError { reason, link: link.clone() }.to_string();
        let serve = |reason| ServeError { reason, link: link.clone() }.to_string();
        for (said, remedy) in [
            (call(CallFailure::Broken(RecvFailure::CutOff { missed: 3 })), "?capacity="),
            (serve(ServeFailure::Broken(RecvFailure::CutOff { missed: 3 })), "?capacity="),
            (call(CallFailure::NotSent(SendFailure::TimedOut { limit: "memory", value: 7 })), "start more servers"),
            (call(CallFailure::NotSent(SendFailure::NoRoom { limit: "writers", value: 7 })), "raise that limit"),
            (call(CallFailure::NotSent(SendFailure::NoSpace(std::io::ErrorKind::StorageFull.into()))), "ginnel clean"),
        ] {
            assert!(said.contains(remedy) && !said.contains(['{', '}']), "{said}");
        }
    }

    #[test]
    fn too_many_calls_that_were_dropped_have_another_remedy() {
        let said = |given_up| {
            let reason = CallFailure::TooManyCalls { limit: 4, given_up };
            CallError { reason, link: "shm:calc".into() }.to_string()
        };
        assert!(said(1).contains("receive the responses"), "{}", said(1));
        assert!(said(3).contains("3 of them were dropped") && !said(3).contains("receive the"), "{}", said(3));
    }
}
