//! What only descriptors and mappings lead to: pipes, memfds, eventfds and the like.

use super::entry::{Entry, Mechanism, State};
use super::holders::{Holders, Holding, Identity};
use super::posix::seen;
use ginnel_os::census::Object;

/// Lists all that is of these mechanisms.
pub(super) fn list(holders: &mut Holders<'_>, entries: &mut Vec<Entry>, wanted: impl Fn(Mechanism) -> bool) {
    let found = holders.take_some(|identity, holdings| {
        let (mechanism, address) = address(identity, holdings)?;
        wanted(mechanism).then_some((identity, mechanism, address))
    });
    for ((identity, mechanism, address), holdings) in found {
        let mut entry = Entry::new(mechanism, address);
        entry.is_named = false;
        entry.state = State::Live;
        entry.size = holdings.iter().map(|holding| holding.mapped).max().filter(|mapped| *mapped > 0);
        let mut entry = seen(entry, &holdings).with("inode", inode(identity));
        if matches!(mechanism, Mechanism::Eventfd | Mechanism::Epoll | Mechanism::Signalfd) {
            // All of these are one file of the kernel's: its owner and its times say nothing.
            (entry.owner, entry.mode, entry.since, entry.file) = (None, None, None, None);
            entry.attributes.retain(|(name, _)| *name == "id");
        }
        entries.push(entry);
    }
}

fn address(identity: Identity, holdings: &[Holding<'_>]) -> Option<(Mechanism, Vec<u8>)> {
    let numbered = |mechanism: Mechanism| {
        let address = match identity {
            Identity::Descriptor(pid, number) => mechanism.numbered(format_args!("{pid}/{number}")),
            Identity::File(id) => mechanism.numbered(id.inode),
            Identity::Pipe(number)
            | Identity::Socket(number)
            | Identity::SysvShm(number)
            | Identity::Eventfd(number) => mechanism.numbered(number),
        };
        Some((mechanism, address))
    };
    match holdings.first()?.object {
        Object::Pipe { .. } => numbered(Mechanism::Pipe),
        Object::Memfd { name, .. } => Some((Mechanism::Memfd, Mechanism::Memfd.address(name))),
        Object::Anonymous { .. } => numbered(Mechanism::Anonymous),
        // A segment that the table of this IPC namespace does not have: another namespace's.
        Object::SysV { .. } => numbered(Mechanism::SysvShm),
        Object::Eventfd { .. } => numbered(Mechanism::Eventfd),
        Object::Epoll => numbered(Mechanism::Epoll),
        Object::Signalfd => numbered(Mechanism::Signalfd),
        // Files that are only read are libraries' tables; nobody talks through them.
        Object::File { path, .. } if holdings.iter().any(Holding::is_writable) => {
            Some((Mechanism::File, Mechanism::File.address(path)))
        }
        _ => None,
    }
}

fn inode(identity: Identity) -> Option<u64> {
    match identity {
        Identity::Pipe(inode) => Some(inode),
        Identity::File(id) => Some(id.inode),
        _ => None,
    }
}
