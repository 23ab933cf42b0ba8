//! `unix(7)`, `sock_diag(7)`: Unix-domain sockets, and who has them.
//!
//! A socket that listens, or that a datagram socket's peers can find, is named. One end of a connection is not, though it carries the name of the
//! listener that accepted it.

use super::entry::{Amount, Entry, Mechanism, State};
use super::holders::{Holders, Identity, people};
use super::posix::of_file;
use ginnel_os::census::Object;
use ginnel_os::sock_diag::{self, State as Doing, UnixSocket};
use ginnel_os::socket::Kind;
use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

pub(super) fn unix(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
    let sockets = sock_diag::unix_sockets()?;
    let listeners: HashSet<Vec<u8>> =
        sockets.iter().filter(|socket| socket.state == Doing::Listening).filter_map(name).collect();
    // A connection that nobody has accepted yet has no number; its listener counts it.
    for socket in sockets.iter().filter(|socket| socket.inode != 0) {
        entries.push(entry(holders, socket, &listeners));
    }
    Ok(())
}

/// As it stands behind `unix:`.
fn name(socket: &UnixSocket) -> Option<Vec<u8>> {
    let path = socket.address.as_path().map(|path| path.as_os_str().as_bytes().to_vec());
    path.or_else(|| Some([b"@", socket.address.as_abstract()?].concat()))
}

fn entry(holders: &mut Holders<'_>, socket: &UnixSocket, listeners: &HashSet<Vec<u8>>) -> Entry {
    let name = name(socket);
    let address =
        name.as_ref().map_or_else(|| Mechanism::Unix.numbered(socket.inode), |name| Mechanism::Unix.address(name));
    let is_listening = socket.state == Doing::Listening;
    let is_accepted = !is_listening && name.as_ref().is_some_and(|name| listeners.contains(name));
    let mut entry = Entry::new(Mechanism::Unix, address);
    if let Some(status) = socket.address.as_path().and_then(|path| std::fs::symlink_metadata(path).ok()) {
        // Another socket may have taken the path since, or it may be relative to another directory.
        let is_same =
            socket.file.is_none_or(|(device, inode)| (status.dev(), status.ino() & 0xffff_ffff) == (device, inode));
        if is_same {
            entry = of_file(entry, &status);
        }
    }
    entry.is_named = name.is_some() && !is_accepted;
    entry.holders = people(&holders.take(Identity::Socket(socket.inode)));
    entry.holders.iter_mut().for_each(|holder| holder.ends = vec![end(socket.state)]);
    // One that no process has is on its way in a message, or has not been accepted, or its process may not be looked into.
    entry.state = if entry.holders.is_empty() { State::Unknown } else { State::Live };
    entry.socket = Some((socket.inode, socket.peer));
    if let Some((waiting, room)) = socket.queued {
        entry.depth =
            Some(if is_listening { Amount::Connections(waiting.into()) } else { Amount::Bytes(waiting.into()) });
        entry.capacity = is_listening.then(|| Amount::Connections(room.into()));
    }
    entry
        .with("inode", Some(socket.inode))
        .with("peer_inode", socket.peer)
        .with("type", socket.kind.map(kind))
        .with("doing", Some(doing(socket.state)))
        .with("is_accepted", is_accepted.then_some(true))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stream => "stream",
        Kind::Datagram => "dgram",
        Kind::SeqPacket => "seqpacket",
    }
}

fn end(state: Doing) -> &'static str {
    match state {
        Doing::Listening => "listen",
        Doing::Connected => "connected",
        _ => "open",
    }
}

fn doing(state: Doing) -> &'static str {
    match state {
        Doing::Listening => "listening",
        Doing::Connected => "connected",
        Doing::Unconnected => "unconnected",
        _ => "between",
    }
}

/// Sockets that no list of Unix-domain sockets has.
pub(super) fn others(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) {
    let rest = holders.take_some(|_, holdings| match holdings[0].object {
        Object::Socket { inode } => Some(*inode),
        _ => None,
    });
    for (inode, holdings) in rest {
        let mut entry = Entry::new(Mechanism::Socket, Mechanism::Socket.numbered(inode)).with("inode", Some(inode));
        entry.is_named = false;
        entry.state = State::Live;
        entry.holders = people(&holdings);
        entries.push(entry);
    }
}
