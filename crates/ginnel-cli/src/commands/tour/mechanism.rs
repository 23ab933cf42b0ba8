//! The mechanisms of a tour: what each is called, what it promises, and under which addresses two processes meet.

use crate::exit::Failure;
use ginnel::Link;
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

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

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Back,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Back => "back",
        }
    }
}

/// How often, and after which pause, removing is tried.
const TRIES: u32 = 50;
const LOOK: Duration = Duration::from_millis(2);

/// Where the two meet: a directory of their own, in another one without which it cannot be made again, and names that nobody else has. It goes, with all that has a name, when this is dropped.
pub(super) struct Place {
    id: u64,
    dir: PathBuf,
    mechanism: Mechanism,
}

impl Place {
    /// Makes one beside the directory of links, where there is the same kind of file system; or in it, if that cannot be.
    pub(super) fn make(mechanism: Mechanism) -> Result<Self, Failure> {
        let id = std::hash::RandomState::new().build_hasher().finish();
        let (links, name) = (ginnel::directory(), format!("tour-{id:016x}"));
        let beside = PathBuf::from(format!("{}-{name}", links.display()));
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = builder.create(&beside).map(|()| beside.clone()).or_else(|e| {
            let inside = links.join(name);
            builder.create(&inside).map(|()| inside).map_err(|_| e)
        });
        let failed = |e: io::Error| Failure::file("make the directory", beside.display(), &e);
        let place = Self { id, dir: made.map_err(failed)?.join("l"), mechanism };
        builder.create(&place.dir).map_err(|e| {
            place.remove();
            failed(e)
        })?;
        Ok(place)
    }

    /// That of the parent, which has named the directory the one for links.
    pub(super) fn of_parent(mechanism: Mechanism, id: u64) -> Self {
        Self { id, dir: ginnel::directory(), mechanism }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Where messages of this way are received. Of signals the one who receives says it.
    pub(super) fn address(&self, way: Way) -> String {
        let (id, name, back) = (self.id, way.name(), u64::from(way == Way::Back));
        let path = self.dir.join(name);
        let path = path.display();
        match self.mechanism {
            // Few places, so that what is on its way stays in the cores' caches.
            Mechanism::Shm => format!("shm:{name}?capacity=16"),
            Mechanism::Mem => format!("mem:{name}?capacity=16"),
            Mechanism::Pipe => "pipe:".into(),
            Mechanism::Fifo => format!("fifo:{path}"),
            Mechanism::Mq => format!("mq:/ginnel-tour-{id:016x}-{name}"),
            Mechanism::Sysv => format!("sysv:{}", 0x4000_0000 | (id & 0x3fff_fffe) | back),
            Mechanism::Unix => format!("unix:{path}"),
            Mechanism::Seqpacket => format!("unix:{path}?type=seqpacket"),
            Mechanism::Dgram => format!("unix:{path}?type=dgram"),
            Mechanism::Tcp => format!("tcp://{}", self.host(back)),
            Mechanism::Udp => format!("udp://{}", self.host(back)),
            Mechanism::Signal => "signal:".into(),
        }
    }

    /// Anything in 127.0.0.0/8 is this host, and ports below 32768 are given to nobody who has not asked for them.
    fn host(&self, back: u64) -> String {
        let [a, b, c, ..] = self.id.to_le_bytes();
        let port = 10_000 + (self.id >> 24) % 10_000 * 2 + back;
        format!("127.{}.{b}.{}:{port}", 1 + a % 254, 1 + c % 254)
    }

    /// Removes what has a name; most often it is gone already.
    pub(super) fn remove(&self) {
        if matches!(self.mechanism, Mechanism::Mq | Mechanism::Sysv) {
            for way in [Way::There, Way::Back] {
                let _ = Link::new(&self.address(way)).and_then(|link| link.unlink(true));
            }
        }
        // The others may be about to leave, and move things meanwhile, or make the directory anew; that ends when the outer one is gone.
        let Some(outer) = self.dir.parent() else { return };
        for _ in 0..TRIES {
            let _ = std::fs::remove_dir_all(&self.dir);
            match std::fs::remove_dir(outer) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(LOOK),
                _ => return,
            }
        }
    }
}
