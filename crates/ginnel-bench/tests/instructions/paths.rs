//! The hot paths, each as a loop of one process that waits for nobody.
//!
//! Streams are the loops of the benchmark itself ([`Solo`]), as what is inlined there is what its figures and its users see; the rest
//! calls the library as a user would. What a loop without a message takes is subtracted from what it takes with some, and the rest divided
//! by their number: what is done once for a loop falls out, and what is done once for 64 messages is shared by them. The loop's own two or
//! three instructions a message stay in, and so does what a stream's message costs its user, who writes it and reads it: `raw ring` has
//! little but that.

use std::hint::black_box;

use ginnel::call::{Client, Server};
use ginnel::{Receiver, Sender};
use ginnel_bench::{Case, Failure, Mode, Payload, Solo};

use super::stepper;
use super::wake::WakeCheck;

/// Messages before anything is counted: the ring has gone round, each block and each page was used. Whole batches, as everywhere here:
/// a receiver stays away for a while from messages that were not announced, and that is not what is to be counted.
const WARM_UP: [u64; 4] = [576; 4];
/// Messages that are counted, where a message costs little, and where it costs much.
const STREAM: u64 = 128;
const FEW: u64 = 64;

/// A path, by its name in the table.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// So many are counted.
    messages: u64,
    open: fn() -> Result<Box<dyn Loops>, String>,
}

/// What is counted, and what has to be done around it.
pub(crate) trait Loops {
    /// Makes what so many operations will use up.
    fn before(&mut self, _times: u64) -> Result<(), String> {
        Ok(())
    }

    /// So many operations: this is counted.
    fn counted(&mut self, times: u64) -> Result<(), String>;

    /// Clears away what they made.
    fn after(&mut self, _times: u64) -> Result<(), String> {
        Ok(())
    }
}

/// In the order of the table.
pub(crate) const ALL: &[Path] = &[
    Path { name: "raw ring: send 64 B", messages: STREAM, open: || stream(Solo::raw_ring, &small(64), End::Sender) },
    Path {
        name: "raw ring: receive 64 B",
        messages: STREAM,
        open: || stream(Solo::raw_ring, &small(64), End::Receiver),
    },
    Path { name: "send 8 B", messages: STREAM, open: || stream(Solo::link, &small(8), End::Sender) },
    Path { name: "receive 8 B", messages: STREAM, open: || stream(Solo::link, &small(8), End::Receiver) },
    Path { name: "send 64 B", messages: STREAM, open: || stream(Solo::link, &small(64), End::Sender) },
    Path { name: "receive 64 B", messages: STREAM, open: || stream(Solo::link, &small(64), End::Receiver) },
    Path { name: "batches: send 64 B", messages: STREAM, open: || stream(Solo::batches, &small(64), End::Sender) },
    Path { name: "batches: receive 64 B", messages: STREAM, open: || stream(Solo::batches, &small(64), End::Receiver) },
    Path { name: "loan and commit 1 KiB", messages: FEW, open: || stream(Solo::link, &ends(1024), End::Sender) },
    Path { name: "receive 1 KiB", messages: FEW, open: || stream(Solo::link, &ends(1024), End::Receiver) },
    Path { name: "try_recv of an empty link", messages: FEW, open: Empty::open },
    Path { name: "wake check", messages: FEW, open: || Ok(Box::new(WakeCheck::new(false)?)) },
    Path { name: "wake check, exclusive side", messages: FEW, open: || Ok(Box::new(WakeCheck::new(true)?)) },
    Path { name: "call 64 B, both ends", messages: FEW, open: Calls::open },
    Path { name: "latest 64 B", messages: FEW, open: || Newest::open(true) },
    Path { name: "latest_into 64 B", messages: FEW, open: || Newest::open(false) },
];

/// Instructions of one operation of a path.
pub(crate) fn count(path: &Path) -> Result<f64, String> {
    let parts = stepper::parts(|| {
        let mut loops = (path.open)()?;
        for times in WARM_UP {
            run(&mut *loops, times, || ())?;
        }
        [0, path.messages].into_iter().try_for_each(|times| run(&mut *loops, times, stepper::cross_line))
    })?;
    let &[of_none, of_all] = &parts[..] else {
        return Err(format!("{} parts were counted instead of 2", parts.len()));
    };
    let per_message = (of_all as f64 - of_none as f64) / path.messages as f64;
    Ok((per_message * 10.0).round() / 10.0) // as it stands in the table
}

fn run(loops: &mut dyn Loops, times: u64, line: impl Fn()) -> Result<(), String> {
    loops.before(times)?;
    line();
    let done = loops.counted(times);
    line();
    done?;
    loops.after(times)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A stream of messages that are written and read byte by byte, as those of the benchmark's tables.
fn small(size: usize) -> Case {
    Case::stream(Mode::Spin, size)
}

/// One of messages of which only the ends are touched: larger than what a slot holds, they lie in blocks.
fn ends(size: usize) -> Case {
    Case { payload: Payload::Ends, ..small(size) }
}

/// Which end of a stream is counted.
#[derive(Clone, Copy)]
enum End {
    Sender,
    Receiver,
}

struct Stream {
    both: Solo,
    counted: End,
}

fn stream(open: fn(&Case) -> Result<Solo, Failure>, case: &Case, counted: End) -> Result<Box<dyn Loops>, String> {
    Ok(Box::new(Stream { both: open(case).map_err(text)?, counted }))
}

impl Loops for Stream {
    fn before(&mut self, times: u64) -> Result<(), String> {
        match self.counted {
            End::Sender => Ok(()),
            End::Receiver => self.both.send(times).map_err(text),
        }
    }

    fn counted(&mut self, times: u64) -> Result<(), String> {
        match self.counted {
            End::Sender => self.both.send(times),
            End::Receiver => self.both.receive(times),
        }
        .map_err(text)
    }

    fn after(&mut self, times: u64) -> Result<(), String> {
        match self.counted {
            End::Sender => self.both.receive(times).map_err(text),
            End::Receiver => Ok(()),
        }
    }
}

/// A receiver that looks, and finds nothing.
struct Empty {
    receiver: Receiver,
    _sender: Sender,
}

impl Empty {
    fn open() -> Result<Box<dyn Loops>, String> {
        let address = "shm:empty";
        Ok(Box::new(Self {
            receiver: Receiver::open(address).map_err(text)?,
            _sender: Sender::open(address).map_err(text)?,
        }))
    }
}

impl Loops for Empty {
    fn counted(&mut self, times: u64) -> Result<(), String> {
        for _ in 0..times {
            if self.receiver.try_recv().is_ok() {
                return Err("there is a message".into());
            }
        }
        Ok(())
    }
}

/// A client and a server: a call from its beginning to its response.
struct Calls {
    client: Client,
    server: Server,
}

impl Calls {
    fn open() -> Result<Box<dyn Loops>, String> {
        let address = "shm:calls";
        Ok(Box::new(Self {
            server: Server::open(address).map_err(text)?,
            client: Client::open(address).map_err(text)?,
        }))
    }
}

impl Loops for Calls {
    fn counted(&mut self, times: u64) -> Result<(), String> {
        let message = black_box([7; 64]);
        for _ in 0..times {
            let call = self.client.begin(&message).map_err(text)?;
            self.server.recv().map_err(text)?.reply(&message).map_err(text)?;
            let response = call.recv().map_err(text)?.ok_or("no response")?;
            black_box(response.len());
        }
        Ok(())
    }
}

/// A look at the newest value.
struct Newest {
    receiver: Receiver,
    _sender: Sender,
    in_place: bool,
    copy: Vec<u8>,
}

impl Newest {
    fn open(in_place: bool) -> Result<Box<dyn Loops>, String> {
        let sender = Sender::open("shm:newest?shape=latest&max=64").map_err(text)?;
        let receiver = Receiver::open("shm:newest").map_err(text)?;
        for value in 0..16 {
            sender.send(&[value; 64]).map_err(text)?; // all its cells are in use then
        }
        Ok(Box::new(Self { receiver, _sender: sender, in_place, copy: Vec::new() }))
    }
}

impl Loops for Newest {
    fn counted(&mut self, times: u64) -> Result<(), String> {
        if self.in_place {
            for _ in 0..times {
                black_box(self.receiver.latest().map_err(text)?.len());
            }
        } else {
            for _ in 0..times {
                black_box(self.receiver.latest_into(&mut self.copy).map_err(text)?);
            }
        }
        Ok(())
    }
}
