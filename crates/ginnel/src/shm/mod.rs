//! Shared-memory links, `shm:NAME`: the engine of ginnel-core over a file on tmpfs; and `mem:NAME`, the same in one process.
//!
//! | concept | file |
//! |---|---|
//! | its ends | `sender`, `receiver`: each call is a try on the engine, and a wait when that finds nothing |
//! | a message being written | `loan` |
//! | the newest value, in place of a queue | `latest` |
//! | the receiving end of a broadcast | `listening` |
//! | waiting; who is on the other end; who died | `wait`, `wake`, `peers`, and the crate's `watch` |
//! | the file of a link; links of one process; what is done for its dead | `region`, `private`, `recover` |
//! | memory that comes and goes | `growth` |
//! | looking from outside, cleaning | `list` |

mod growth;
mod latest;
mod list;
mod listening;
mod loan;
mod peers;
mod private;
mod receiver;
mod recover;
mod region;
mod sender;
mod wait;
mod wake;

pub(crate) use latest::{LatestReceiver, LatestSender, WRITERS};
pub use list::{Info, Liveness, ParticipantInfo, list};
pub(crate) use list::{clean, clean_connections_of, info, turn_away};
pub(crate) use loan::Loan;
pub(crate) use peers::Peers;
pub(crate) use receiver::Receiver;
pub use region::Mode;
pub(crate) use region::{Membership, Region};
pub(crate) use sender::Sender;
pub(crate) use sender::{GROWTH, TURN};
pub(crate) use wait::{Look, UNWATCHED, Waiter};

use crate::address::{Name, Wait, Wanted};
use crate::error::Error;
use ginnel_core::{Role, Shape};

/// Which link, and with which numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: Name,
    pub(crate) wanted: Wanted,
    pub(crate) follow: bool,
    /// Messages that were there before, for a receiver of a broadcast.
    pub(crate) history: Option<u64>,
    pub(crate) wait: Wait,
    /// `mem:`: in this process alone.
    pub(crate) private: bool,
}

/// The sending end of a link, by its shape.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(crate) enum SenderOf {
    Queue(Sender),
    Latest(Box<LatestSender>),
}

/// The receiving end.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(crate) enum ReceiverOf {
    Queue(Receiver),
    Latest(Box<LatestReceiver>),
}

/// Opens the sending end of a link, whichever shape it has.
pub(crate) fn open_sender(spec: &Spec, mode: Mode) -> Result<SenderOf, Error> {
    let membership = Region::join(spec, mode, Role::Sender)?;
    Ok(match membership.region.engine().layout().geometry().shape {
        Shape::Latest => SenderOf::Latest(Box::new(LatestSender::with(membership, spec.follow, spec.wait))),
        _ => SenderOf::Queue(Sender::with(membership, spec.follow, spec.wait)),
    })
}

/// Opens the receiving end of a link, whichever shape it has.
pub(crate) fn open_receiver(spec: &Spec, mode: Mode) -> Result<ReceiverOf, Error> {
    let membership = Receiver::join(spec, mode)?;
    Ok(match membership.region.engine().layout().geometry().shape {
        Shape::Latest => ReceiverOf::Latest(Box::new(LatestReceiver::with(membership, spec.follow, spec.wait))),
        _ => ReceiverOf::Queue(Receiver::of(membership, spec)),
    })
}

impl Spec {
    /// As the link is named in messages: without options.
    pub(crate) fn link(&self) -> String {
        format!("{}:{}", if self.private { "mem" } else { "shm" }, self.name.as_str())
    }
}
