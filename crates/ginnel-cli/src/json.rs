//! What programs read: one JSON object a line, with the version of its schema.
//!
//! Within a version, members are only added. Sizes are in bytes, times in nanoseconds, and the names say so.

use crate::escape;
use crate::exit::Failure;
use crate::output;
use ginnel::{Cleaned, Full, Info, Liveness, ParticipantInfo, Role};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Version of the schema of everything that `--json` prints.
pub(crate) const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// Prints an object as a line, with the schema's version as its first member.
pub(crate) fn print<T: Serialize>(body: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(&Document { schema: SCHEMA, body });
    let text = text.map_err(|e| Failure::failed(format!("cannot write JSON: {e}")))?;
    output::emit(&(text + "\n"))
}

/// A link, as `ls` and `info` show it.
#[derive(Serialize)]
pub(crate) struct Link {
    address: String,
    path: String,
    state: &'static str,
    created_ns: u64,
    messages: u64,
    /// Of a stream: written, and not read.
    bytes: u64,
    sent: u64,
    taken: u64,
    dropped: u64,
    died: u64,
    allocated_bytes: u64,
    geometry: Geometry,
    pool: Pool,
    participants: Vec<Participant>,
}

#[derive(Serialize)]
struct Geometry {
    shape: &'static str,
    capacity: u64,
    max_bytes: u64,
    memory_bytes: u64,
    participants: u32,
    full: &'static str,
    /// At most; 0 is any number.
    senders: u32,
    receivers: u32,
}

#[derive(Serialize)]
struct Pool {
    committed_bytes: u64,
    used_bytes: u64,
    ceiling_bytes: u64,
}

/// A participant of a link.
#[derive(Serialize)]
pub(crate) struct Participant {
    number: u32,
    role: &'static str,
    alive: bool,
    pid: u32,
    same_pid_namespace: bool,
    /// Where it can be known.
    command: Option<String>,
    joined_ns: u64,
    /// Of a receiver of a broadcast: messages that it has yet to receive or to release.
    behind: Option<u64>,
    messages: u64,
    bytes: u64,
    dropped: u64,
    redelivered: u64,
    skipped: u64,
    slept: u64,
}

impl From<&Info> for Link {
    fn from(info: &Info) -> Self {
        let (geometry, pool) = (&info.geometry, &info.pool);
        Self {
            address: info.address.clone(),
            path: info.path.display().to_string(),
            state: state(info.liveness),
            created_ns: info.created_ns,
            messages: info.messages,
            bytes: info.bytes,
            sent: info.sent,
            taken: info.taken,
            dropped: info.dropped,
            died: info.died,
            allocated_bytes: info.allocated,
            geometry: Geometry {
                shape: geometry.shape.name(),
                capacity: geometry.capacity,
                max_bytes: geometry.max,
                memory_bytes: geometry.memory,
                participants: geometry.participants,
                full: full(geometry.full),
                senders: geometry.senders,
                receivers: geometry.receivers,
            },
            pool: Pool { committed_bytes: pool.committed, used_bytes: pool.used, ceiling_bytes: pool.ceiling },
            participants: info.participants.iter().map(Participant::from).collect(),
        }
    }
}

impl From<&ParticipantInfo> for Participant {
    fn from(info: &ParticipantInfo) -> Self {
        let counters = &info.counters;
        Self {
            number: info.number,
            role: role(info.role),
            alive: info.alive,
            pid: info.pid,
            same_pid_namespace: info.same_pid_namespace,
            command: command(info),
            joined_ns: info.joined_ns,
            behind: info.behind,
            messages: counters.messages,
            bytes: counters.bytes,
            dropped: counters.dropped,
            redelivered: counters.redelivered,
            skipped: counters.skipped,
            slept: counters.slept,
        }
    }
}

/// What `clean` did, or would do, with a link.
#[derive(Serialize)]
pub(crate) struct Swept {
    pub(crate) address: String,
    pub(crate) dead: usize,
    pub(crate) removed: bool,
}

impl Swept {
    /// One that no link needs any more.
    pub(crate) fn directory(dir: &Path) -> Self {
        Self { address: escape::json(dir.as_os_str().as_bytes()), dead: 0, removed: true }
    }
}

impl From<&Cleaned> for Swept {
    fn from(cleaned: &Cleaned) -> Self {
        Self { address: cleaned.address.clone(), dead: cleaned.dead, removed: cleaned.removed }
    }
}

/// The word for a link's state.
pub(crate) fn state(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Live => "live",
        Liveness::Waiting => "waiting",
        Liveness::Stale => "stale",
        _ => "unknown",
    }
}

/// The word for what happens when a link is full, as in an address.
pub(crate) fn full(full: Full) -> &'static str {
    match full {
        Full::Block => "block",
        Full::Reject => "reject",
        Full::DropOldest => "drop-oldest",
        Full::CutOff => "cut-off",
        _ => "unknown",
    }
}

/// The word for an end.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Sender => "sender",
        Role::Receiver => "receiver",
    }
}

/// The name of a participant's program: only a living one's, and only if its number means the same here.
pub(crate) fn command(participant: &ParticipantInfo) -> Option<String> {
    if !participant.alive || !participant.same_pid_namespace {
        return None;
    }
    let command = std::fs::read_to_string(format!("/proc/{}/comm", participant.pid)).ok()?;
    Some(command.trim_end().to_owned())
}
