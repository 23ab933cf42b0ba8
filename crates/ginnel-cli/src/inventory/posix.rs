//! What POSIX gives a name: message queues, semaphores and shared memory; and what still is in use without its name.

use super::entry::{Amount, Entry, Mechanism, State};
use super::holders::{Holders, Holding, Identity, people};
use ginnel_os::census::Object;
use ginnel_os::{mqueue, semaphore, shm};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn queues(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    let listed = mqueue::list();
    let unreadable = listed.as_ref().err().map(|e| format!("{e}; those that are in use are listed"));
    for queue in listed.unwrap_or_default() {
        entries.push(listed_queue(holders, &queue));
    }
    // Unlinked ones, those of other IPC namespaces, and all of them where the list is not to be had.
    let others = holders.take_some(|_, holdings| match holdings[0].object {
        Object::MessageQueue { name, is_unlinked, .. } => Some((name, *is_unlinked)),
        _ => None,
    });
    for ((name, is_unlinked), holdings) in others {
        entries.push(open_queue(name, is_unlinked, &holdings));
    }
    unreadable.map_or(Ok(()), |text| Err(io::Error::other(text)))
}

fn listed_queue(holders: &mut Holders<'_>, queue: &mqueue::Entry) -> Entry {
    let entry = Entry::new(Mechanism::Mq, Mechanism::Mq.address(queue.name.as_bytes()));
    let mut entry = entry.owned(queue.uid, queue.mode).with("group", Some(queue.gid));
    entry.holders = people(&holders.take(Identity::file(queue.identity)));
    let holds = queue.attributes.is_some_and(|attributes| attributes.depth > 0);
    let nobody = if holds { State::Waiting } else { State::Stale };
    entry.state = holders.state(&entry.holders, queue.uid, queue.mode, nobody);
    entry.file = Some(queue.identity);
    entry.since = queue.changed;
    entry.size = queue.bytes;
    describe_queue(entry, queue.attributes).with("notified_pid", queue.notified_pid)
}

fn open_queue(name: &[u8], is_unlinked: bool, holdings: &[Holding<'_>]) -> Entry {
    let mut entry = Entry::new(Mechanism::Mq, Mechanism::Mq.address(name));
    entry.state = if is_unlinked { State::Orphan } else { State::Live };
    let mut entry = seen(entry, holdings).with("is_removed", is_unlinked.then_some(true));
    // The length of its file is that of a line of numbers.
    entry.size = None;
    entry.attributes.retain(|(name, _)| *name != "allocated_bytes");
    // Opening it again through the holder reads no message.
    let file = holdings.iter().find_map(Holding::path).and_then(|path| File::open(path).ok());
    let queue = file.and_then(|file| mqueue::Queue::from_fd(file.into()).ok());
    describe_queue(entry, queue.and_then(|queue| queue.attributes().ok()))
}

fn describe_queue(mut entry: Entry, attributes: Option<mqueue::Attributes>) -> Entry {
    let Some(attributes) = attributes else { return entry };
    entry.depth = Some(Amount::Messages(attributes.depth as u64));
    entry.capacity = Some(Amount::Messages(attributes.capacity as u64));
    entry.with("message_max_bytes", Some(attributes.message_size as u64))
}

/// What those who have it open know of it.
pub(super) fn seen(mut entry: Entry, holdings: &[Holding<'_>]) -> Entry {
    entry.holders = people(holdings);
    let status = holdings.iter().filter_map(Holding::path).find_map(|path| std::fs::metadata(path).ok());
    match status {
        Some(status) => of_file(entry, &status),
        None => entry,
    }
}

/// Owner, mode, size and times of a file.
pub(super) fn of_file(mut entry: Entry, status: &Metadata) -> Entry {
    entry.file = Some((status.dev(), status.ino()));
    entry.size = status.is_file().then_some(status.len());
    entry.since = status.created().or_else(|_| status.modified()).ok();
    let allocated = status.is_file().then(|| status.blocks() * 512);
    entry.owned(status.uid(), status.mode()).with("group", Some(status.gid())).with("allocated_bytes", allocated)
}

pub(super) fn semaphores(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    for semaphore in semaphore::list()? {
        let mut entry = Entry::new(Mechanism::Sem, Mechanism::Sem.address(semaphore.name.as_bytes()))
            .owned(semaphore.uid, semaphore.mode)
            .with("group", Some(semaphore.gid));
        entry.holders = people(&holders.take(Identity::file(semaphore.identity)));
        entry.state = holders.state(&entry.holders, semaphore.uid, semaphore.mode, State::Stale);
        entry.file = Some(semaphore.identity);
        entry.size = Some(semaphore::SIZE as u64);
        entry.depth = semaphore.value.map(|value| Amount::Units(value.into()));
        entry.capacity = Some(Amount::Units(semaphore::VALUE_MAX.into()));
        entry.since = semaphore.modified;
        entries.push(entry);
    }
    gone(holders, entries, Mechanism::Sem);
    Ok(())
}

/// The directory of links is left out: they are listed as links.
pub(super) fn memory(holders: &mut Holders<'_>, entries: &mut Vec<Entry>, links: &Path) -> io::Result<()> {
    let mut problem = None;
    let named = shm::list()?.into_iter().map(|object| object.name.into_vec()).collect::<Vec<_>>();
    for name in named.into_iter().chain(below(links, &mut problem)?) {
        let path = [b"/dev/shm", name.as_slice()].concat();
        let Ok(status) = std::fs::symlink_metadata(std::ffi::OsStr::from_bytes(&path)) else { continue };
        let mut entry = of_file(Entry::new(Mechanism::PosixShm, Mechanism::PosixShm.address(&name)), &status);
        entry.holders = people(&holders.take(Identity::file((status.dev(), status.ino()))));
        entry.state = holders.state(&entry.holders, status.uid(), status.mode(), State::Stale);
        entries.push(entry);
    }
    gone(holders, entries, Mechanism::PosixShm);
    problem.map_or(Ok(()), Err)
}

/// Files one directory below, as programs that keep several make them: ginnel for other users, for one. `/dir/file`.
fn below(links: &Path, problem: &mut Option<io::Error>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for found in std::fs::read_dir("/dev/shm")? {
        let found = found?;
        if found.path() == links || !found.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match std::fs::read_dir(found.path()) {
            Ok(inside) => {
                for file in inside.flatten().filter(|file| file.file_type().is_ok_and(|kind| kind.is_file())) {
                    names.push([b"/", found.file_name().as_bytes(), b"/", file.file_name().as_bytes()].concat());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                let path = crate::escape::terminal(found.path().as_os_str().as_bytes());
                *problem = Some(io::Error::new(e.kind(), format!("{path} cannot be read: {e}")));
            }
        }
    }
    Ok(names)
}

/// Files of `/dev/shm` that processes have, and that no list had.
fn gone(holders: &mut Holders<'_>, entries: &mut Vec<Entry>, mechanism: Mechanism) {
    let rest = holders.take_some(|_, holdings| match holdings[0].object {
        Object::Shm { name, is_unlinked, .. } if !is_bookkeeping(name) => {
            let semaphore = name.strip_prefix(b"sem.");
            let is = if semaphore.is_some() { Mechanism::Sem } else { Mechanism::PosixShm };
            (is == mechanism).then(|| ([b"/", semaphore.unwrap_or(name)].concat(), *is_unlinked))
        }
        _ => None,
    });
    for ((name, is_unlinked), holdings) in rest {
        let mut entry = Entry::new(mechanism, mechanism.address(&name));
        // A file that was made without a name (`O_TMPFILE`) lost none.
        entry.is_named = !is_unlinked || !name.starts_with(b"/#");
        entry.state = if is_unlinked && entry.is_named { State::Orphan } else { State::Live };
        entry.size = holdings.iter().map(|holding| holding.mapped).max();
        let removed = is_unlinked.then_some(true);
        entries.push(seen(entry, &holdings).with("is_removed", removed));
    }
}

/// The files in which ginnel keeps who is there, for links whose mechanism does not know. They are no objects of their own.
fn is_bookkeeping(name: &[u8]) -> bool {
    name.windows(7).any(|part| part == b"/?ends/")
}
