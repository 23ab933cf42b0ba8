//! The measuring harness of ginnel: two pinned processes, raw baselines, every message counted and checked.
//!
//! Not a micro-benchmark of functions, and no judge of absolute times: every figure is worth what the raw baseline beside
//! it, measured a moment before on the same two cores, says it is worth.
//!
//! | module | what it is |
//! |---|---|
//! | `channel` | the seam: what a mechanism offers to be measured |
//! | `case`, `message` | what is measured; what the messages carry and how it is proved |
//! | `crew`, `cores`, `usage` | real processes under a time limit; where they run; what they cost |
//! | `round_trip`, `stream`, `run` | the two workloads of two processes with a channel; one run of one mechanism |
//! | `solo` | both ends of a stream in one process, for those who count its instructions |
//! | `burst`, `look` | the workloads of a broadcast and of the newest value |
//! | `contest`, `report`, `table` | all contenders in turns; the findings; the findings as text |
//! | `raw_ring`, `raw_slot`, `raw_seqlock`, `cache_line` | the baselines, over `region` |
//! | `ginnel_link` | a link of ginnel, as a user opens it |
//! | `request`, `letter`, `connection` | requests and responses, mailboxes, streams of bytes of ginnel, likewise |
//! | `conversation` | who meets whom in the cases of each shape |
//! | `kernel` | pipe and Unix stream socket |
//! | `checksum` | every byte of a stream that has no messages |
//!
//! A mechanism is added by implementing [`Mechanism`], with an [`Outlet`] and an [`Inlet`], and passing a [`Contender`] for it
//! to [`contest`]:
//!
//! ```
//! use ginnel_bench::{Amount, Case, Mode, Plan, baselines, contest, table};
//!
//! let plan = Plan {
//!     cases: vec![Case::stream(Mode::Spin, 64)],
//!     rounds: 1,
//!     amount: Amount::Messages(1000),
//!     ..Plan::default()
//! };
//! let report = contest(&plan, &baselines(), |_| ())?;
//! assert_eq!(report.failures().count(), 0);
//! eprintln!("{}", table(&report));
//! # Ok::<(), ginnel_bench::RunError>(())
//! ```

mod burst;
mod cache_line;
mod case;
mod channel;
mod checksum;
mod connection;
mod contest;
mod conversation;
mod cores;
mod crew;
mod ginnel_link;
mod kernel;
mod letter;
mod look;
mod message;
mod raw_ring;
mod raw_seqlock;
mod raw_slot;
mod region;
mod report;
mod request;
mod round_trip;
mod run;
mod solo;
mod stream;
mod table;
mod usage;

pub use cache_line::{CacheLine, Word};
pub use case::{Amount, COPIES_FROM, Case, Count, Mode, Payload, Shape, Workload};
pub use channel::{Failure, Inlet, Mechanism, Outlet, Way};
pub use contest::{Contender, Plan, Progress, Role, baselines, contest, kernel_streams};
pub use conversation::{MOST_RECEIVERS, conversations};
pub use cores::{Environment, Placement, Quiet};
pub use crew::{Gate, Member, RunError, Stop, run as run_crew};
pub use ginnel_link::links;
pub use kernel::{ByteStream, StreamEnd};
pub use raw_ring::{RawConsumer, RawProducer, RawRing, RingShape};
pub use raw_seqlock::RawSeqlock;
pub use raw_slot::{RawSlots, SlotConsumer, SlotProducer};
pub use report::{Cost, Group, Report, Row, Spread, Times};
pub use round_trip::Percentiles;
pub use run::{Sample, Terms, measure};
pub use solo::Solo;
pub use table::table;
pub use usage::Usage;
