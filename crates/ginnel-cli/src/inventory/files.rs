//! FIFOs and the files of sockets: those that are in use are found through their processes, the others only by looking through directories.

use super::entry::{Entry, Mechanism, State};
use super::holders::{Holders, Identity, people};
use super::posix::{of_file, seen};
use ginnel_os::census::Object;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Directories within each other that are looked through, at most.
const DEEPEST: usize = 64;

/// Looks through paths; what cannot be read is said by `problem`.
pub(super) fn below(
    holders: &mut Holders<'_>,
    entries: &mut Vec<Entry>,
    paths: &[PathBuf],
    problem: &mut impl FnMut(String),
) {
    for path in paths {
        look(holders, entries, path, 0, problem);
    }
}

fn look(
    holders: &mut Holders<'_>,
    entries: &mut Vec<Entry>,
    path: &Path,
    depth: usize,
    problem: &mut impl FnMut(String),
) {
    let mut failed = |e: std::io::Error| {
        // What goes while one looks, below what was given, is gone.
        if depth == 0 || e.kind() != std::io::ErrorKind::NotFound {
            problem(format!("{}: {e}", crate::escape::terminal(path.as_os_str().as_bytes())));
        }
    };
    let status = match std::fs::symlink_metadata(path) {
        Ok(status) => status,
        Err(e) => return failed(e),
    };
    if status.is_dir() && depth < DEEPEST {
        match std::fs::read_dir(path) {
            Ok(inside) => {
                for found in inside.flatten() {
                    let is_wanted =
                        found.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_fifo() || kind.is_socket());
                    if is_wanted {
                        look(holders, entries, &found.path(), depth + 1, problem);
                    }
                }
            }
            Err(e) => failed(e),
        }
        return;
    }
    let is_known = entries.iter().any(|entry| entry.file == Some((status.dev(), status.ino())));
    if !is_known {
        entries.extend(entry(holders, path, &status));
    }
}

fn entry(holders: &mut Holders<'_>, path: &Path, status: &Metadata) -> Option<Entry> {
    let kind = status.file_type();
    let mechanism = match () {
        () if kind.is_fifo() => Mechanism::Fifo,
        () if kind.is_socket() => Mechanism::Unix,
        () => return None,
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut entry = of_file(Entry::new(mechanism, mechanism.address(path.as_os_str().as_bytes())), status);
    entry.holders = people(&holders.take(Identity::file((status.dev(), status.ino()))));
    entry.state = match mechanism {
        Mechanism::Fifo => holders.state(&entry.holders, status.uid(), status.mode(), State::Stale),
        // The kernel listed every socket of this network namespace; what has this file is none of them.
        _ => State::Stale,
    };
    Some(entry)
}

/// FIFOs that processes have open.
pub(super) fn fifos(holders: &mut Holders<'_>, entries: &mut Vec<Entry>) {
    let open = holders.take_some(|_, holdings| match holdings[0].object {
        Object::Fifo { path, is_unlinked, .. } => Some((path, *is_unlinked)),
        _ => None,
    });
    for ((path, is_unlinked), holdings) in open {
        let mut entry = Entry::new(Mechanism::Fifo, Mechanism::Fifo.address(path));
        entry.state = if is_unlinked { State::Orphan } else { State::Live };
        entries.push(seen(entry, &holdings).with("is_removed", is_unlinked.then_some(true)));
    }
}
