//! Programs that know nothing of ginnel, in both directions: Python with its own `os`, `socket` and `struct`; and for the queues, which Python does
//! not have, the C program beside this file. What they write and read is what `docs/mechanisms.md` says is on the wire.

use super::ground::Mechanism::{Dgram, Fifo, Mq, Seqpacket, Stream, Sysv, Tcp};
use super::ground::{Ground, LATE, LIMIT, SHORT, eventually};
use crate::place::{self, skipped};
use ginnel::{Receiver, RecvFailure, Sender};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A stranger. Dropping it kills and reaps it.
struct Stranger(Child);

impl Stranger {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap())
    }

    /// What it printed, once it has ended well.
    #[track_caller]
    fn says(mut self) -> String {
        let text = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}: {text}");
        text.trim().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(program: &str, arguments: &[&str]) -> Option<Stranger> {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there =
        THERE.get_or_init(|| Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()));
    if !there {
        skipped("python3 is not there");
        return None;
    }
    let program = format!("import os, socket, struct, sys, time\n{program}");
    Some(Stranger::start(Command::new("python3").arg("-c").arg(program).args(arguments)))
}

/// Ends that are there before anything is sent.
const READ_FRAMES: &str = "
def exactly(n):
    data = b''
    while len(data) < n:
        piece = read(n - len(data))
        if not piece: sys.exit('torn' if data else 0)
        data += piece
    return data
parts = {}
while True:
    length, tag, flags = struct.unpack('<IHH', exactly(8))
    if flags == 0:
        message = exactly(length)
    else:
        writer, = struct.unpack('<Q', exactly(8))
        if not flags & 2: parts[writer] = b''
        parts[writer] += exactly(length)
        if flags & 1: continue
        message = parts.pop(writer)
    print(tag, len(message), sum(message) % 65521, flush=True)
";

const FRAME: &str = "
def frame(tag, message): return struct.pack('<IHH', len(message), tag, 0) + message
";

/// What [`READ_FRAMES`] prints of these messages.
fn told(messages: &[(u16, Vec<u8>)]) -> String {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>() % 65_521;
    let lines: Vec<_> = messages.iter().map(|(tag, m)| format!("{tag} {} {}", m.len(), sum(m))).collect();
    lines.join("\n")
}

fn samples() -> Vec<(u16, Vec<u8>)> {
    vec![
        (0, b"hello".to_vec()),
        (7, Vec::new()),
        (65_535, vec![200; 4088]),
        (1, (0..100_000).map(|n| n as u8).collect()),
    ]
}

#[test]
fn python_reads_and_writes_frames_on_a_fifo() {
    let _limit = place::limit(LIMIT);
    let ground = Ground::new(Fifo);
    let sender = ground.sender("");
    let reader = format!("f = open(sys.argv[1], 'rb', buffering=0)\nread = f.read\n{READ_FRAMES}");
    let path = ground.path().display().to_string();
    let Some(reader) = python(&reader, &[&path]) else { return };
    for (tag, message) in samples() {
        sender.send_tagged(tag, &message).unwrap();
    }
    drop(sender);
    assert_eq!(reader.says(), told(&samples()));

    let receiver = ground.receiver("");
    let writer = format!(
        "{FRAME}\nf = os.open(sys.argv[1], os.O_WRONLY)\nfor n in range(1000): os.write(f, frame(n, b'x' * n))"
    );
    let writer = python(&writer, &[&path]).unwrap();
    for number in 0..1000 {
        let message = receiver.recv_timeout(LATE * 5).unwrap();
        assert_eq!((message.tag(), message.len()), (number, usize::from(number)));
    }
    assert_eq!(receiver.recv_timeout(LATE).unwrap_err(), RecvFailure::Closed { died: 0 });
    writer.says();
}

#[test]
fn python_reads_and_writes_frames_on_stream_sockets() {
    let _limit = place::limit(LIMIT);
    for mechanism in [Stream, Tcp] {
        let ground = Ground::new(mechanism);
        let (family, at) = python_address(&ground);
        let listen = format!(
            "s = socket.socket(socket.{family}, socket.SOCK_STREAM)\ns.bind({at})\ns.listen()\nc, _ = s.accept()\nread = c.recv\n{READ_FRAMES}"
        );
        let Some(reader) = python(&listen, &[]) else { return };
        let sender = ground.sender(""); // waits for it
        for (tag, message) in samples() {
            sender.send_tagged(tag, &message).unwrap();
        }
        drop(sender);
        assert_eq!(reader.says(), told(&samples()));

        let ground = Ground::new(mechanism);
        let (family, at) = python_address(&ground);
        let receiver = ground.receiver("");
        let connect = format!(
            "{FRAME}\nc = socket.socket(socket.{family}, socket.SOCK_STREAM)\nc.connect({at})\nfor n in range(1000): c.sendall(frame(n, b'x' * n * 10))"
        );
        let writer = python(&connect, &[]).unwrap();
        for number in 0..1000 {
            let message = receiver.recv_timeout(LATE * 5).unwrap();
            assert_eq!((message.tag(), message.len()), (number, usize::from(number) * 10));
        }
        assert_eq!(receiver.recv_timeout(LATE).unwrap_err(), RecvFailure::Closed { died: 0 });
        writer.says();
    }
}

/// Family, and address as Python writes it.
fn python_address(ground: &Ground) -> (&'static str, String) {
    match ground.mechanism {
        Tcp => {
            let bare = ground.bare();
            let (host, port) = bare.trim_start_matches("tcp://").split_once(':').unwrap();
            ("AF_INET", format!("('{host}', {port})"))
        }
        _ => ("AF_UNIX", format!("'{}'", ground.path().display())),
    }
}

#[test]
fn python_speaks_lines() {
    let _limit = place::limit(LIMIT);
    let ground = Ground::new(Fifo);
    let path = ground.path().display().to_string();
    let receiver = ground.receiver("frame=line");
    let Some(writer) = python("print('one\\n\\nthree', file=open(sys.argv[1], 'w'))", &[&path]) else { return };
    let lines: Vec<_> = (0..3).map(|_| receiver.recv_timeout(LATE * 5).unwrap().to_vec()).collect();
    assert_eq!(lines, [&b"one"[..], b"", b"three"]);
    writer.says();
    drop(receiver);
    let reader = python("for line in open(sys.argv[1]): print(len(line))", &[&path]).unwrap();
    let sender = ground.sender("frame=line");
    ["one", "", "three"].iter().for_each(|line| sender.send(line).unwrap());
    drop(sender);
    assert_eq!(reader.says(), "4\n1\n6");
}

#[test]
fn python_is_at_the_other_end_of_a_pipe() {
    let _limit = place::limit(LIMIT);
    let ground = Ground::new(super::ground::Mechanism::Pipe);
    let reader = format!("read = lambda n: os.read(0, n)\n{READ_FRAMES}");
    if python("", &[]).is_none() {
        return;
    }
    let program = format!("import os, struct, sys\n{reader}");
    let mut child =
        Command::new("python3").arg("-c").arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input: std::os::fd::OwnedFd = child.stdin.take().unwrap().into();
    let sender = Sender::open(&format!("pipe:{}", std::os::fd::AsRawFd::as_raw_fd(&input))).unwrap();
    drop((input, ground));
    for (tag, message) in samples() {
        sender.send_tagged(tag, &message).unwrap();
    }
    drop(sender);
    assert_eq!(Stranger(child).says(), told(&samples()));
}

#[test]
fn python_reads_and_writes_packets() {
    let _limit = place::limit(LIMIT);
    for (mechanism, kind) in [(Seqpacket, "SOCK_SEQPACKET"), (Dgram, "SOCK_DGRAM")] {
        let ground = Ground::new(mechanism);
        let path = ground.path().display().to_string();
        let accept = if mechanism == Seqpacket { "s.listen()\nc, _ = s.accept()" } else { "c = s" };
        let reader = format!(
            "s = socket.socket(socket.AF_UNIX, socket.{kind})\ns.bind(sys.argv[1])\n{accept}\nfor n in range(3): print(len(c.recv(100000)))"
        );
        let Some(reader) = python(&reader, &[&path]) else { return };
        let sender = ground.sender("");
        for len in [5, 0, 90_000] {
            sender.send(&vec![1; len]).unwrap();
        }
        assert_eq!(reader.says(), "5\n0\n90000", "{kind}");
        drop(sender);

        let ground = Ground::new(mechanism);
        let path = ground.path().display().to_string();
        let receiver = ground.receiver("");
        let writer = format!(
            "c = socket.socket(socket.AF_UNIX, socket.{kind})\nc.connect(sys.argv[1])\nfor n in [5, 0, 90000]: c.send(b'x' * n)"
        );
        let writer = python(&writer, &[&path]).unwrap();
        for len in [5, 0, 90_000] {
            assert_eq!(receiver.recv_timeout(LATE * 5).unwrap().len(), len);
        }
        writer.says();
        // A connection ends; a datagram socket does not know that a stranger was there.
        let end = receiver.recv_timeout(SHORT).unwrap_err();
        let expected = if mechanism == Seqpacket { RecvFailure::Closed { died: 0 } } else { RecvFailure::TimedOut };
        assert_eq!(end, expected, "{kind}");
    }
}

/// The C program, compiled; `None` where there is no compiler.
fn c_program() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let compile = || {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("queues");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/links/mechanisms/interop_queues.c");
        let mut cc = Command::new("cc");
        let status = cc.args(["-Wall", "-Werror", "-o"]).arg(&program).arg(source).arg("-lrt").status().ok()?;
        assert!(status.success(), "{source} does not compile");
        Some((folder, program))
    };
    let program = PROGRAM.get_or_init(compile).as_ref().map(|(_, program)| program);
    if program.is_none() {
        skipped("cc is not there");
    }
    program
}

#[test]
fn c_reads_and_writes_queues() {
    let _limit = place::limit(LIMIT);
    let Some(program) = c_program() else { return };
    for mechanism in [Mq, Sysv] {
        let ground = Ground::new(mechanism);
        let (kind, name) = match mechanism {
            Mq => ("mq", format!("/{}", ground.id())),
            _ => ("sysv", ground.key().to_string()),
        };
        let c = |what: &str, rest: &[&str]| Stranger::start(Command::new(program).args([kind, what, &name]).args(rest));
        // To ginnel: the queue is the stranger's, and stays when ginnel leaves.
        c("create", &[]).says();
        let receiver: Receiver = ground.receiver("");
        c("send", &["3", "three"]).says();
        c("send", &["1", ""]).says();
        let first = receiver.recv_timeout(LATE).unwrap();
        let about = (first.to_vec(), first.tag(), first.priority());
        assert_eq!(about, if mechanism == Mq { (b"three".to_vec(), 0, 3) } else { (b"three".to_vec(), 2, 0) });
        assert!(receiver.recv_timeout(LATE).unwrap().is_empty());
        // No end: a stranger is not seen.
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
        drop(first);
        drop(receiver);
        assert!(eventually(|| !ground.left_behind().is_empty()), "a stranger's queue was removed");
        // From ginnel.
        let sender: Sender = ground.sender(if mechanism == Mq { "priority=5" } else { "" });
        sender.send_tagged(6, b"from ginnel").unwrap();
        let told = c("recv", &[]).says();
        assert_eq!(told, if mechanism == Mq { "5 from ginnel" } else { "7 from ginnel" });
        drop(sender);
        c("remove", &[]).says();
        ground.leaves_nothing();
    }
}

/// The lines of Python in `docs/mechanisms.md` do what is said there.
#[test]
fn the_lines_in_the_documentation_work() {
    let _limit = place::limit(LIMIT);
    let page = include_str!("../../../../../docs/mechanisms.md");
    let line = |holds: &str, ground: &Ground| {
        let line = page.lines().find(|line| line.starts_with("import ") && line.contains(holds)).expect("such a line");
        let path = ground.path().display().to_string();
        line.replace("/tmp/orders", &path).replace("/run/orders", &path)
    };
    let ground = Ground::new(Fifo);
    let receiver = ground.receiver("");
    let Some(writer) = python(&line("os.write(f", &ground), &[]) else { return };
    assert_eq!(&*receiver.recv_timeout(LATE * 5).unwrap(), b"two coffees");
    writer.says();
    drop(receiver);
    let reader = python(&line("print(f.read(length))", &ground), &[]).unwrap();
    ground.sender("").send(b"two coffees").unwrap();
    assert_eq!(reader.says(), "b'two coffees'");
    let ground = Ground::new(Seqpacket);
    let receiver = ground.receiver("");
    python(&line("SOCK_SEQPACKET", &ground), &[]).unwrap().says();
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), b"two coffees");
    let ground = Ground::new(Dgram);
    let reader = python(&line("SOCK_DGRAM", &ground), &[]).unwrap();
    ground.sender("").send(b"two coffees").unwrap();
    assert_eq!(reader.says(), "b'two coffees'");
    let ground = Ground::new(Tcp);
    let receiver = ground.receiver("");
    let (_, at) = python_address(&ground);
    python(&line("create_connection", &ground).replace("(\"127.0.0.1\", 4711)", &at), &[]).unwrap().says();
    assert_eq!(&*receiver.recv_timeout(LATE).unwrap(), b"two coffees");
}
