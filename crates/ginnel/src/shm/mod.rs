//! Shared-memory links, `shm:NAME`: the engine of ginnel-core over a file on tmpfs; and `mem:NAME`, the same in one process.
//!
//! | concept | file |
//! |---|---|
//! | its ends | `sender`, `receiver`: each call is a try on the engine, and a wait when that finds nothing |
//! | a message being written | `loan` |
//! | waiting; who is on the other end; who died | `wait`, `wake`, `peers`, and the crate's `watch` |
//! | the file of a link; links of one process | `region`, `private` |
//! | looking from outside, cleaning | `list` |

mod list;
mod loan;
mod peers;
mod private;
mod receiver;
mod region;
mod sender;
mod wait;
mod wake;

pub use list::{Info, Liveness, ParticipantInfo, list};
pub(crate) use list::{clean, info};
pub(crate) use loan::Loan;
pub(crate) use receiver::Receiver;
pub use region::Mode;
pub(crate) use region::Region;
pub(crate) use sender::Sender;

use crate::address::{Name, Wait, Wanted};

/// Which link, and with which numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: Name,
    pub(crate) wanted: Wanted,
    pub(crate) follow: bool,
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
