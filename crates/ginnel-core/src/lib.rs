//! The engine of ginnel: a bounded queue of messages in memory that several processes map, and what a
//! survivor does when one of them is killed.
//!
//! What it is not: it makes no system call, opens no file, never sleeps and never learns by itself who is
//! dead. The crate above gives it mapped [`Memory`], a heavy fence, and the kernel's word on deaths; it gives
//! back what to wake.
//!
//! | file | concept |
//! |---|---|
//! | `layout` | what the user chooses, and where each byte lies: arithmetic only |
//! | `header` | the first page: checked once at attach |
//! | `slot`   | one word of a slot: lap, state, owner |
//! | `ring`   | the queue: its slots and positions |
//! | `producer`, `consumer` | its two ends: claim, commit; take, release |
//! | `side`   | who may work on one end of the ring without locked operations |
//! | `latest` | the newest value, in place of the queue |
//! | `broadcast` | the other end where every receiver gets every message: cursors, and letting go of what all have heard |
//! | `pace`   | announcements: how two sides in a stream stay out of each other's way |
//! | `pool`   | blocks for messages that do not fit in a slot |
//! | `growth` | how the ring of an unbounded link gets memory, and gives it back |
//! | `participants` | the table of handles, and the word that decides when a link is removed |
//! | `event`  | how one side learns that somebody of the other side sleeps |
//! | `recovery` | what is done for a dead participant |
//! | `bytes`  | the ring of a stream: bytes from one writer to one reader |
//! | `engine` | the parts put together: push, pop, loan |
//! | `memory`, `sync` | access to shared bytes and atomics, replaceable by a model |
#![cfg_attr(not(any(test, loom)), no_std)]

mod broadcast;
mod bytes;
mod consumer;
mod engine;
mod event;
mod growth;
mod header;
mod label;
mod latest;
mod layout;
mod memory;
mod pace;
mod participants;
mod pool;
mod producer;
mod recovery;
mod ring;
mod side;
mod slot;
mod sync;

pub use broadcast::{Listener, Start};
pub use bytes::{ByteReader, ByteWriter, Bytes};
pub use consumer::{Consumer, Run};
pub use engine::{Corrupt, Delivery, Engine, PopError, PushError};
pub use event::{Called, Event, Waiting};
pub use growth::{CutShort, Growth, InTheWay, Span};
pub use header::{Header, HeaderError};
pub use label::{LABEL_AT, LABEL_BYTES, Label};
pub use latest::{Cell, Known, Look};
pub use layout::{
    ALIVE_BASE, BELL_BYTE, BLOCK_MIN, CAPACITY_MAX, CLASSES_MAX, CONTROL_BYTES, ENTRY_BYTES, Full, GROW_BYTE, Geometry,
    GeometryError, INLINE_MAX, LINE, Layout, MESSAGE_MAX, PAGE, PARTICIPANTS_MAX, REMOVE_BYTE, Rule, SLOT_BYTES, Shape,
    TOKEN_BASE,
};
pub use memory::{Memory, Route};
pub use participants::{Census, Counters, Entry, Identity, JoinError, Participant, ParticipantState, Role};
pub use pool::{Block, Extent, PoolUse};
pub use producer::Producer;
pub use recovery::Recovered;
pub use ring::RUN_MAX;

#[cfg(not(target_endian = "little"))]
compile_error!("the format of a link is little-endian: a big-endian port needs its own version of the format");
