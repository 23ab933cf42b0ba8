//! The mechanisms, and for each test a link of its own over one of them, which leaves nothing behind in the kernel.

use super::freight::Ledger;
use crate::child::Child;
use crate::place;
use ginnel::{Error, Link, Mode, Receiver, RecvFailure, SendFailure, Sender};
use ginnel_os::{mqueue, sysv_ipc, sysv_mq};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How late a machine with better things to do may be.
pub(super) const LATE: Duration = Duration::from_secs(2);
pub(super) const SHORT: Duration = Duration::from_millis(50);
/// Longest that a whole test here may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// A mechanism, by its name in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Shm,
    Pipe,
    Fifo,
    Mq,
    Sysv,
    Stream,
    Seqpacket,
    Dgram,
    Tcp,
    Mem,
}

use Mechanism::{Dgram, Fifo, Mem, Mq, Pipe, Seqpacket, Shm, Stream, Sysv, Tcp};

/// Those that join processes.
pub(super) const ALL: [Mechanism; 9] = [Shm, Pipe, Fifo, Mq, Sysv, Stream, Seqpacket, Dgram, Tcp];
/// Those with a name that processes find.
pub(super) const NAMED: [Mechanism; 8] = [Shm, Fifo, Mq, Sysv, Stream, Seqpacket, Dgram, Tcp];

impl Mechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Shm => "shm",
            Pipe => "pipe",
            Fifo => "fifo",
            Mq => "mq",
            Sysv => "sysv",
            Stream => "unix stream",
            Seqpacket => "unix seqpacket",
            Dgram => "unix dgram",
            Tcp => "tcp",
            Mem => "mem",
        }
    }

    /// A message that is large for it.
    pub(super) fn large(self) -> usize {
        match self {
            Shm | Mem | Pipe | Fifo | Stream | Tcp => 300_000,
            Mq | Sysv => 8_000,
            Seqpacket | Dgram => 100_000,
        }
    }

    /// Messages go in frames, so that a large one may be under way.
    pub(super) fn is_framed(self) -> bool {
        matches!(self, Pipe | Fifo | Stream | Tcp)
    }

    /// Its receiver makes a socket with a path.
    pub(super) fn is_unix(self) -> bool {
        matches!(self, Stream | Seqpacket | Dgram)
    }

    /// Any number of receivers share its messages.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Shm | Mem | Mq | Sysv)
    }
}

/// A link of one test.
pub(super) struct Ground {
    pub(super) mechanism: Mechanism,
    folder: tempfile::TempDir,
    number: u32,
    /// Of a pipe: what reads, what writes.
    pipe: Option<(OwnedFd, OwnedFd)>,
    host: String,
}

/// Where the ends of a pipe are in a child: beyond what the child, or who starts it, has open.
const READS: i32 = 900;
const WRITES: i32 = 901;

impl Ground {
    pub(super) fn new(mechanism: Mechanism) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        place::home();
        let pipe = (mechanism == Pipe).then(|| {
            let (reader, writer) = ginnel_os::pipe::pair().expect("a pipe");
            (reader.into(), writer.into())
        });
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Self { mechanism, folder: place::new_directory(), number, pipe, host: super::loose::host() }
    }

    /// What no other link here is called.
    pub(super) fn id(&self) -> String {
        format!("mech-{}-{}", std::process::id(), self.number)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("it")
    }

    pub(super) fn key(&self) -> i32 {
        0x4700_0000 | (std::process::id() as i32 & 0xffff) << 8 | self.number as i32 & 0xff
    }

    /// Its address without options.
    pub(super) fn bare(&self) -> String {
        let path = self.path().display().to_string();
        match self.mechanism {
            Shm => format!("shm:{}", self.id()),
            Mem => format!("mem:{}", self.id()),
            Tcp => format!("tcp://{}", self.host),
            Pipe => "pipe:".to_owned(),
            Fifo => format!("fifo:{path}"),
            Mq => format!("mq:/{}", self.id()),
            Sysv => format!("sysv:{:#x}", self.key()),
            Stream | Seqpacket | Dgram => format!("unix:{path}"),
        }
    }

    fn with(&self, bare: &str, options: &str) -> String {
        let kind = match self.mechanism {
            Seqpacket => "type=seqpacket",
            Dgram => "type=dgram",
            _ => "",
        };
        format!("{bare}?{kind}&{options}")
    }

    /// The address that a sender of this process opens.
    pub(super) fn sends(&self, options: &str) -> String {
        match &self.pipe {
            Some((_, writer)) => self.with(&format!("pipe:{}", writer.as_raw_fd()), options),
            None => self.with(&self.bare(), options),
        }
    }

    /// The address that a receiver of this process opens.
    pub(super) fn receives(&self, options: &str) -> String {
        match &self.pipe {
            Some((reader, _)) => self.with(&format!("pipe:{}", reader.as_raw_fd()), options),
            None => self.with(&self.bare(), options),
        }
    }

    pub(super) fn try_sender(&self, mode: Mode, options: &str) -> Result<Sender, Error> {
        Link::new(&self.sends(options))?.mode(mode).sender()
    }

    pub(super) fn try_receiver(&self, mode: Mode, options: &str) -> Result<Receiver, Error> {
        Link::new(&self.receives(options))?.mode(mode).receiver()
    }

    #[track_caller]
    pub(super) fn sender(&self, options: &str) -> Sender {
        self.try_sender(Mode::Open, options).unwrap_or_else(|e| panic!("{e}"))
    }

    #[track_caller]
    pub(super) fn receiver(&self, options: &str) -> Receiver {
        self.try_receiver(Mode::Open, options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Options with which it is soon full, for either end.
    pub(super) fn small(&self) -> &'static str {
        match self.mechanism {
            Shm | Mem => "capacity=4&max=1MiB&memory=4MiB",
            Mq => "capacity=4",
            _ => "",
        }
    }

    /// Both ends, the receiver first, and full. With a pipe, no other end is open in this process.
    pub(super) fn full(&mut self, options: &str) -> (Sender, Receiver) {
        let options = format!("{}&{options}", self.small());
        let (receiver, sender) = (self.receiver(&options), self.sender(&options));
        self.let_go();
        fill(&sender, 1000.min(sender.max_message() as usize));
        (sender, receiver)
    }

    /// A message from who does not know ginnel, and then goes.
    pub(super) fn stranger_sends(&self, bytes: &[u8]) {
        let sent = match self.mechanism {
            Mq => mqueue::Queue::open(format!("/{}", self.id()), mqueue::Access::Send)
                .and_then(|queue| queue.try_send(bytes, 0)),
            Sysv => sysv_mq::Queue::open(sysv_ipc::Key::new(self.key())).and_then(|queue| {
                let mut buffer = sysv_mq::Buffer::new(bytes.len())?;
                buffer.set(1, bytes)?;
                queue.try_send(&buffer)
            }),
            Dgram => std::os::unix::net::UnixDatagram::unbound()
                .and_then(|socket| socket.send_to(bytes, self.path()).map(drop)),
            other => panic!("only ginnel sends to {other:?}, or the kernel knows who does"),
        };
        sent.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Of a pipe: closes its ends here that no handle has.
    pub(super) fn let_go(&mut self) {
        self.pipe = None;
    }

    /// A porter that has the sending end open.
    pub(super) fn sending_child(&self, options: &str) -> Child {
        let mut child = self.child(self.pipe.as_ref().map(|(_, writer)| (writer.as_raw_fd(), WRITES)));
        child.must(&format!("sender {}", self.in_child(WRITES, options)));
        self.shut(&mut child, WRITES);
        child
    }

    /// A porter that has the receiving end open.
    pub(super) fn receiving_child(&self, options: &str) -> Child {
        let mut child = self.child(self.pipe.as_ref().map(|(reader, _)| (reader.as_raw_fd(), READS)));
        child.must(&format!("receiver {}", self.in_child(READS, options)));
        self.shut(&mut child, READS);
        child
    }

    fn in_child(&self, end: i32, options: &str) -> String {
        match self.mechanism {
            Pipe => self.with(&format!("pipe:{end}"), options),
            _ => self.with(&self.bare(), options),
        }
    }

    fn shut(&self, child: &mut Child, end: i32) {
        if self.mechanism == Pipe {
            child.must(&format!("shut {end}"));
        }
    }

    fn child(&self, end: Option<(i32, i32)>) -> Child {
        let mut child = Child::start_with("porter", place::home(), end);
        child.reply().ok();
        child
    }

    /// What is there of it in the kernel, in the file system and beside the links, by name. Not what a mechanism leaves on purpose.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        let id = match self.mechanism {
            Sysv => format!("sysv-{}-", self.key()),
            Stream | Seqpacket | Dgram => self.folder.path().file_name().unwrap().to_string_lossy().into_owned(),
            _ => self.id() + "-",
        };
        for folder in [place::home().to_owned(), place::home().join("?ends")] {
            let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            left.extend(names.filter(|name| name.contains(&id) || *name == self.id()));
        }
        left.extend(std::fs::read_dir(self.folder.path()).unwrap().flatten().map(|entry| format!("{entry:?}")));
        if self.mechanism == Mq && mqueue::Queue::open(format!("/{}", self.id()), mqueue::Access::Send).is_ok() {
            left.push(self.bare());
        }
        if self.mechanism == Sysv && sysv_mq::Queue::open(sysv_ipc::Key::new(self.key())).is_ok() {
            left.push(self.bare());
        }
        left
    }

    #[track_caller]
    pub(super) fn leaves_nothing(&self) {
        assert!(
            eventually(|| self.left_behind().is_empty()),
            "{}: left behind: {:?}",
            self.mechanism.name(),
            self.left_behind()
        );
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        match self.mechanism {
            Mq => _ = mqueue::unlink(format!("/{}", self.id())),
            Sysv => _ = sysv_mq::Queue::open(sysv_ipc::Key::new(self.key())).and_then(sysv_mq::Queue::remove),
            _ => {}
        }
    }
}

/// Sends until it is full; how many.
#[track_caller]
pub(super) fn fill(sender: &Sender, len: usize) -> u32 {
    // TCP makes room for a while by itself.
    let settle = if sender.address().starts_with("tcp:") { SHORT * 6 } else { Duration::ZERO };
    for sent in 0..100_000 {
        let bytes = super::freight::message(99, sent, len);
        let result = sender.try_send(&bytes).or_else(|_| sender.send_timeout(&bytes, settle));
        match result {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.reason(),
                    SendFailure::Full { .. } | SendFailure::NoRoom { .. } | SendFailure::TimedOut { .. }
                ) =>
            {
                return sent;
            }
            Err(e) => panic!("{e}"),
        }
    }
    panic!("{} is never full", sender.address());
}

/// Whether something comes true in a while.
pub(super) fn eventually(mut is: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Receives until the end, which must be the end of the stream.
#[track_caller]
pub(super) fn drain(receiver: &Receiver) -> Ledger {
    let mut ledger = Ledger::default();
    loop {
        match receiver.recv_timeout(Duration::from_secs(60)) {
            Ok(message) => ledger.enter(&message),
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return ledger,
            Err(e) => panic!("{e}; until then {ledger}"),
        }
    }
}
