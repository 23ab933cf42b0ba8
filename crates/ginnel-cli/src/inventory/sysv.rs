//! `sysvipc(7)`: queues, semaphores and segments of System V. Segments know how many have them attached, and the census who. Of the others the
//! kernel keeps only who used them last: that is their user here, as long as it lives.

use super::entry::{Amount, Entry, Holder, Mechanism, State, nanoseconds};
use super::holders::{Holders, Identity, people, person};
use ginnel_os::sysv_ipc::{Key, Owner};
use ginnel_os::{errno, sysv_mq, sysv_sem, sysv_shm};
use std::io;
use std::time::SystemTime;

/// Semaphores of a set that are asked, one by one, who used them last.
const ASKED: usize = 256;

pub(super) fn queues(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    entries.extend(sysv_mq::list()?.iter().map(|stat| queue(holders, stat)));
    Ok(())
}

pub(super) fn semaphores(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    entries.extend(sysv_sem::list()?.iter().map(|stat| set(holders, stat)));
    Ok(())
}

pub(super) fn segments(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    entries.extend(sysv_shm::list()?.iter().map(|stat| segment(holders, stat)));
    Ok(())
}

/// By its key; without one by its number.
pub(super) fn address(mechanism: Mechanism, key: Key, id: i32) -> Vec<u8> {
    match key {
        Key::PRIVATE => mechanism.numbered(id),
        key => mechanism.address(format!("{:#x}", key.number()).as_bytes()),
    }
}

fn entry(mechanism: Mechanism, owner: &Owner, id: i32) -> Entry {
    let entry = Entry::new(mechanism, address(mechanism, owner.key, id)).owned(owner.uid, owner.mode);
    entry.with("id", Some(id)).with("group", Some(owner.gid)).with("creator_user", Some(owner.creator_uid))
}

fn moment(moment: Option<SystemTime>) -> Option<u64> {
    moment.map(nanoseconds)
}

fn number(pid: i32) -> Option<i32> {
    (pid != 0).then_some(pid)
}

/// The state of what has no descriptor: its last users live, or have ended, or there never were any, which is known only from a time.
fn state_of_used(living: &[Holder], was_used: bool) -> State {
    match () {
        () if !living.is_empty() => State::Live,
        () if was_used => State::Orphan,
        () => State::Stale,
    }
}

fn add(users: &mut Vec<Holder>, user: Holder) {
    match users.iter_mut().find(|known| known.pid == user.pid) {
        Some(known) => known.ends.extend(user.ends),
        None => users.push(user),
    }
}

fn queue(holders: &Holders<'_>, stat: &sysv_mq::Stat) -> Entry {
    let (sent, received) = (stat.last_send_pid, stat.last_receive_pid);
    let mut users = Vec::new();
    for (pid, at, end) in [(sent, stat.send_time, "send"), (received, stat.receive_time, "receive")] {
        if let Some(process) = holders.living(pid, at) {
            add(&mut users, person(process, &[end]));
        }
    }
    // The table does not have the limit; the queue itself does, for those who may read it.
    let bytes_max = stat.queue.stat().ok().and_then(|stat| stat.bytes_max);
    let mut entry = entry(Mechanism::Sysv, &stat.owner, stat.queue.id())
        .with("last_send_pid", number(sent))
        .with("last_send_ns", moment(stat.send_time))
        .with("last_receive_pid", number(received))
        .with("last_receive_ns", moment(stat.receive_time));
    entry.size = Some(stat.bytes);
    entry.depth = Some(Amount::Messages(stat.depth));
    entry.capacity = bytes_max.map(Amount::Bytes);
    entry.since = stat.change_time;
    entry.state = state_of_used(&users, stat.send_time.is_some() || stat.receive_time.is_some());
    entry.holders = users;
    entry
}

fn set(holders: &Holders<'_>, stat: &sysv_sem::Stat) -> Entry {
    let pids = || (0..stat.count.min(ASKED)).map(|n| stat.set.last_pid(u16::try_from(n).unwrap_or(u16::MAX)));
    let at = stat.operation_time.max(stat.change_time);
    let mut users: Vec<Holder> = Vec::new();
    let mut is_denied = false;
    for pid in pids() {
        match pid {
            Ok(pid) if users.iter().all(|user| i64::from(user.pid) != i64::from(pid)) => {
                users.extend(holders.living(pid, at).map(|process| person(process, &["use"])));
            }
            Ok(_) => {}
            Err(e) => is_denied |= ginnel_os::explain::errno(&e) == Some(errno::EACCES),
        }
    }
    let values = stat.set.values().ok();
    let mut entry = entry(Mechanism::SysvSem, &stat.owner, stat.set.id())
        .with("values", values.clone())
        .with("last_operation_ns", moment(stat.operation_time));
    entry.depth = values.map(|values| Amount::Units(values.iter().map(|value| u64::from(*value)).sum()));
    entry.capacity = Some(Amount::Semaphores(stat.count as u64));
    entry.since = stat.change_time;
    entry.state = match is_denied {
        true => State::Unknown,
        false => state_of_used(&users, stat.operation_time.is_some()),
    };
    entry.holders = users;
    entry
}

fn segment(holders: &mut Holders<'_>, stat: &sysv_shm::Stat) -> Entry {
    let holdings = holders.take(Identity::SysvShm(u64::from(stat.segment.id() as u32)));
    let mut entry = entry(Mechanism::SysvShm, &stat.owner, stat.segment.id())
        .with("attached", Some(stat.attached))
        .with("creator_pid", number(stat.creator_pid))
        .with("last_pid", number(stat.last_pid))
        .with("last_attach_ns", moment(stat.attach_time))
        .with("last_detach_ns", moment(stat.detach_time))
        .with("is_removed", stat.is_removed.then_some(true))
        .with("is_locked", stat.is_locked.then_some(true));
    entry.size = Some(stat.bytes as u64);
    entry.since = stat.change_time;
    entry.state = match () {
        () if stat.is_removed => State::Orphan,
        () if stat.attached > 0 => State::Live,
        () if holders.living(stat.creator_pid, stat.change_time).is_some() => State::Stale,
        () => State::Orphan,
    };
    entry.holders = people(&holdings);
    entry
}
