//! One toolkit for every way that processes on a machine exchange data and synchronise. This version has shared-memory
//! links, `shm:NAME`: as fast as the memory between two cores, and still standing after `kill -9`.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
//! let sender = ginnel::Sender::open("shm:orders")?;        // in one process
//! let receiver = ginnel::Receiver::open("shm:orders")?;    // in another
//!
//! sender.send(b"two coffees")?;
//! let message = receiver.recv()?;
//! assert_eq!(&*message, b"two coffees");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | concept | file |
//! |---|---|
//! | how a link is written | `address` |
//! | a link to be opened, with options | `link` |
//! | its ends | `sender`, `receiver` |
//! | a message being written, a message in hand, several | `loan`, `message`, `batch` |
//! | requests and responses; letters to names | [`call`], [`mail`], over `heading` |
//! | until when to wait | `wait` |
//! | waiting for several: `Select`, descriptors, async | `ready/` |
//! | who died, of those whom others wait for | `watch` |
//! | what crashes left | `clean` |
//! | shared memory | `shm/` |
//! | streams of bytes: listen, connect, read, write | `stream/` |
//! | what the kernel carries: pipes, queues, sockets, signals | `kernel/` |
//! | what goes wrong | `error` |

mod address;
mod batch;
pub mod call;
mod clean;
#[cfg(feature = "zerocopy")]
mod described;
mod directory;
#[cfg(feature = "serde")]
pub mod encoded;
mod error;
mod heading;
mod kernel;
mod link;
mod loan;
pub mod mail;
mod message;
mod ready;
mod receiver;
mod sender;
mod shm;
mod spare;
pub mod stream;
#[cfg(feature = "zerocopy")]
pub mod typed;
mod wait;
mod watch;

pub use address::{Carriage, Frame, NAME_MAX, SocketType, Wait, parse_size};
pub use batch::{Batch, BatchMessage};
pub use clean::{Cleaned, clean};
#[cfg(feature = "zerocopy")]
pub use described::Described;
pub use directory::{DIRECTORY_VARIABLE, directory};
pub use error::{CommitError, Error, ErrorKind, RecvError, RecvFailure, SendAllError, SendError, SendFailure};
pub use ginnel_core::{Corrupt, Counters, Full, Geometry, INLINE_MAX, PoolUse, Role, Shape};
pub use link::Link;
pub use loan::Loan;
pub use message::Message;
pub use ready::{Arrival, RecvReadiness, Select, Selected, SendReadiness, Source};
#[cfg(feature = "async")]
pub use ready::{RecvFuture, RecvStream, SendFuture, SendSink};
pub use receiver::Receiver;
pub use sender::Sender;
pub use shm::{Info, Liveness, Mode, ParticipantInfo, list};
pub use wait::Interrupter;
