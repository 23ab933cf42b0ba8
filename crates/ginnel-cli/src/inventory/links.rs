//! ginnel's own links, among the other objects.

use super::entry::{Amount, Entry, Holder, Mechanism, State};
use super::holders::{Holders, Identity};
use crate::json;
use ginnel::{Info, Liveness, ParticipantInfo, Shape};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// As the others are listed.
pub(super) fn entry(holders: &mut Holders<'_>, info: &Info) -> Entry {
    let mut entry = Entry::new(Mechanism::Shm, info.address.clone().into_bytes());
    if let Ok(status) = std::fs::symlink_metadata(&info.path) {
        entry = entry.owned(status.uid(), status.mode());
        entry.file = Some((status.dev(), status.ino()));
        // Its participants know better than the census who it is: several handles of a process are several participants.
        holders.take(Identity::file((status.dev(), status.ino())));
    }
    entry.state = match info.liveness {
        Liveness::Live => State::Live,
        Liveness::Waiting => State::Waiting,
        Liveness::Stale => State::Stale,
        _ => State::Unknown,
    };
    entry.size = Some(info.allocated);
    let (depth, capacity) = match info.geometry.shape {
        Shape::Stream => (Amount::Bytes(info.bytes), Amount::Bytes(info.geometry.capacity)),
        Shape::Listener => (Amount::Connections(info.messages), Amount::Connections(info.geometry.capacity)),
        _ => (Amount::Messages(info.messages), Amount::Messages(info.geometry.capacity)),
    };
    (entry.depth, entry.capacity) = (Some(depth), (!info.geometry.is_unbounded()).then_some(capacity));
    entry.attributes.push(("shape", info.geometry.shape.name().into()));
    if info.geometry.is_unbounded() {
        entry.attributes.push(("unbounded", true.into()));
    }
    entry.since = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(info.created_ns));
    for participant in info.participants.iter().filter(|participant| participant.alive) {
        add(holders, &mut entry.holders, participant);
    }
    entry
}

fn add(holders: &Holders<'_>, people: &mut Vec<Holder>, participant: &ParticipantInfo) {
    let pid = if participant.same_pid_namespace { participant.pid } else { 0 };
    let end = json::role(participant.role);
    match people.iter_mut().find(|known| known.pid == pid) {
        Some(known) if known.has(end) => {}
        Some(known) => known.ends.push(end),
        None => {
            let command = holders.process(pid).map(|process| process.comm.clone()).unwrap_or_default();
            people.push(Holder { pid, command, ends: vec![end], descriptors: Vec::new() });
        }
    }
}
