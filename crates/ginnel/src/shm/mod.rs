//! Shared-memory links, `shm:NAME`: the engine of ginnel-core over a file on tmpfs; and `mem:NAME`, the same in one process.
//!
//! | concept | file |
//! |---|---|
//! | its ends | `sender`, `receiver`: each call is a try on the engine, and a wait when that finds nothing |
//! | a message being written | `loan` |
//! | the receiving end of a broadcast | `listening` |
//! | waiting; who is on the other end; who died | `wait`, `wake`, `peers`, and the crate's `watch` |
//! | the file of a link; links of one process | `region`, `private` |
//! | memory that comes and goes | `growth` |
//! | looking from outside, cleaning | `list` |

mod growth;
mod list;
mod listening;
mod loan;
mod peers;
mod private;
mod receiver;
mod region;
mod sender;
mod wait;
mod wake;

pub use list::{Info, Liveness, ParticipantInfo, list};
pub(crate) use list::{clean, clean_connections_of, info};
pub(crate) use loan::Loan;
pub(crate) use peers::Peers;
pub(crate) use receiver::Receiver;
pub use region::Mode;
pub(crate) use region::{Membership, Region};
pub(crate) use sender::Sender;
pub(crate) use wait::{Look, Waiter};

use crate::address::{Name, Wait, Wanted};

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

impl Spec {
    /// As the link is named in messages: without options.
    pub(crate) fn link(&self) -> String {
        format!("{}:{}", if self.private { "mem" } else { "shm" }, self.name.as_str())
    }
}
