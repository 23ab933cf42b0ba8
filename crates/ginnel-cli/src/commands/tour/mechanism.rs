//! The mechanisms of a tour: what each is called, and what it promises.

use serde::{Deserialize, Serialize};

/// A way between two processes, or two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mechanism {
    /// A link in shared memory
    Shm,
    /// The same between two threads of one process
    Mem,
    /// An unnamed pipe, handed to the child
    Pipe,
    /// A named pipe
    Fifo,
    /// A POSIX message queue
    Mq,
    /// A System V message queue
    Sysv,
    /// A Unix-domain stream socket
    Unix,
    /// A Unix-domain seqpacket socket
    Seqpacket,
    /// A Unix-domain datagram socket
    Dgram,
    /// TCP, over the loopback interface
    Tcp,
    /// UDP, over the loopback interface
    Udp,
    /// Real-time signals that carry a number
    Signal,
}

/// In a few words, as docs/mechanisms.md says it at length.
#[derive(Serialize)]
pub(super) struct Promise {
    pub(super) messages: &'static str,
    pub(super) order: &'static str,
    pub(super) end: &'static str,
    pub(super) killed: &'static str,
    pub(super) holds: &'static str,
}

const fn promise(
    messages: &'static str,
    order: &'static str,
    end: &'static str,
    killed: &'static str,
    holds: &'static str,
) -> Promise {
    Promise { messages, order, end, killed, holds }
}

const WHOLE: &str = "whole";
const FRAMED: &str = "whole: framed";
const ONE: &str = "one for all";
const SENDERS: &str = "per sender";
const OURS: &str = "if all use ginnel";
const LOST: &str = "goes on; held one lost";

impl Mechanism {
    pub(super) const ALL: [Self; 12] = [
        Self::Shm,
        Self::Mem,
        Self::Pipe,
        Self::Fifo,
        Self::Mq,
        Self::Sysv,
        Self::Unix,
        Self::Seqpacket,
        Self::Dgram,
        Self::Tcp,
        Self::Udp,
        Self::Signal,
    ];

    /// As `--only` takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Mem => "mem",
            Self::Pipe => "pipe",
            Self::Fifo => "fifo",
            Self::Mq => "mq",
            Self::Sysv => "sysv",
            Self::Unix => "unix",
            Self::Seqpacket => "seqpacket",
            Self::Dgram => "dgram",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Signal => "signal",
        }
    }

    /// What it gives: messages, order, end of stream, after a kill -9, what bounds it.
    pub(super) fn promise(self) -> Promise {
        match self {
            Self::Shm => promise(WHOLE, ONE, "yes", "goes on; held one again", "?capacity="),
            Self::Mem => promise(WHOLE, ONE, "yes", "both threads end", "?capacity="),
            Self::Pipe | Self::Fifo => promise(FRAMED, SENDERS, "yes", LOST, "pipe size"),
            Self::Mq => promise(WHOLE, "by priority", OURS, LOST, "fs.mqueue.msg_max"),
            Self::Sysv => promise(WHOLE, ONE, OURS, LOST, "kernel.msgmnb"),
            Self::Unix => promise(FRAMED, SENDERS, "yes", LOST, "net.core.wmem_default"),
            Self::Seqpacket => promise(WHOLE, SENDERS, "yes", LOST, "net.core.wmem_default"),
            Self::Dgram => promise(WHOLE, ONE, OURS, LOST, "net.unix.max_dgram_qlen"),
            Self::Tcp => promise(FRAMED, SENDERS, "yes", LOST, "net.ipv4.tcp_wmem"),
            Self::Udp => promise("whole, if any", "no", "no", "nobody is told", "net.core.rmem_max"),
            Self::Signal => promise("numbers", ONE, OURS, LOST, "RLIMIT_SIGPENDING"),
        }
    }

    /// No more of the file than this, in bytes: what does not fit a receiver's buffer is lost, and numbers are no file.
    pub(super) fn most(self) -> u64 {
        match self {
            Self::Udp => 32 << 20,
            Self::Signal => 0,
            _ => u64::MAX,
        }
    }
}
