//! The process at the other end of a connection of a Unix socket, which the kernel knows (`SO_PEERPIDFD`, `unix(7)`).
//!
//! A child that a sender forked has a copy of its connection, which so stays open when the sender is killed. The death of the process itself is told
//! all the same. What such a child goes on sending is received; but the connection counts as one that has been left, for the end of the stream. On
//! kernels before Linux 6.5, and over TCP, nothing tells.

use ginnel_os::epoll::{Epoll, Interest};
use ginnel_os::unix;
use std::os::fd::{AsFd, OwnedFd};

/// In a set, the key of a connection with this bit is that of its process.
pub(super) const DEATH: u64 = 1 << 63;

/// Who connected.
pub(super) struct Peer {
    process: Option<OwnedFd>,
    is_dead: bool,
}

impl Peer {
    /// Has the set tell of its death.
    pub(super) fn of(socket: &OwnedFd, set: &Epoll, key: u64) -> Self {
        let process = unix::peer_pidfd(socket).ok();
        let process = process.filter(|process| set.add(process.as_fd(), Interest::Read, key | DEATH).is_ok());
        Self { process, is_dead: false }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// The set told of its death.
    pub(super) fn died(&mut self, set: &Epoll) {
        self.is_dead = true;
        self.forget(set);
    }

    /// By name: in a forked child it may be open still, and then it would stay in the set.
    pub(super) fn forget(&mut self, set: &Epoll) {
        if let Some(process) = self.process.take() {
            let _ = set.remove(process.as_fd());
        }
    }
}
