//! Links of every shape whose words are flipped, or wrong, under whole handles: the bit is another between two calls, and every call after it returns in time,
//! with whatever it finds. The shapes of `corrupt` are a queue and the newest value; here are all others, and every file that a conversation is made of: a
//! client's responses, both ways of a connection.
//!
//! The mass of the flips is tried on the engine alone, in `ginnel-fed`. Here is what stands on it: headings, waiting, opening, closing, cleaning.
//! Trials run in a process of their own, as those of `corrupt`, which watches them.

use crate::corrupt::{self, call};
use crate::dice::Dice;
use ginnel::call::{Client, Server};
use ginnel::mail::{Mailbox, Post};
use ginnel::stream::{Listener, Stream};
use ginnel::{Link, Receiver, Sender};
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The words of the header that change, to the counts of records.
const HEADER: Range<u64> = 128..1336;
/// Participants, slots and block records; of a stream what comes before its bytes.
const TABLES: Range<u64> = 4096..16_384;
/// A time-out that is due to come: many of them pass in each trial.
const SHORT: Duration = Duration::from_micros(40);
/// The shapes below.
const SHAPES: u64 = 6;
/// Bits of those words: each seed of a shape has another, in no order.
const BITS: u64 = (HEADER.end - HEADER.start + TABLES.end - TABLES.start) * 8;
/// Without a divisor in common with that.
const STRIDE: u64 = 7919;
/// Trials in which each bit of each shape was flipped once.
pub(crate) const ALL: u64 = SHAPES * BITS;

/// The files of a conversation, and what is done to them.
struct Meddler {
    dice: Dice,
    files: Vec<File>,
    bit: u64,
    /// Whether more words change later on.
    goes_on: bool,
}

impl Meddler {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let bit = (seed / SHAPES).wrapping_mul(STRIDE) % BITS;
        Self { files: Vec::new(), bit, goes_on: dice.one_in(4), dice }
    }

    /// Takes notice of every file that is there now; a connection's lose their names when it is accepted.
    fn look_around(&mut self) {
        self.files.clear();
        for entry in std::fs::read_dir(ginnel::directory()).into_iter().flatten().flatten() {
            self.files.extend(File::options().read(true).write(true).open(entry.path()));
        }
    }

    /// Flips the bit in one of the files.
    fn flip(&mut self) {
        let Some(file) = self.pick() else { return };
        let (byte, header) = (self.bit / 8, HEADER.end - HEADER.start);
        let at = if byte < header { HEADER.start + byte } else { TABLES.start + byte - header };
        let mut old = [0];
        if file.read_exact_at(&mut old, at).is_ok() {
            file.write_all_at(&[old[0] ^ 1 << (self.bit % 8)], at).expect("a file that can be written");
        }
    }

    /// In some trials: one more wrong word.
    fn meddle(&mut self) {
        if !self.goes_on || self.dice.one_in(2) {
            return;
        }
        let Some(file) = self.pick() else { return };
        let end = file.metadata().expect("a file").len().min(TABLES.end);
        let range = if self.dice.one_in(2) { HEADER } else { TABLES.start..end };
        let mut at = range.start + self.dice.below((range.end - range.start) / 8) * 8;
        while self.dice.below(8) != 0 && corrupt::word(&file, at) == 0 && at + 8 < range.end {
            at += 8;
        }
        let old = corrupt::word(&file, at);
        let new = match self.dice.below(4) {
            0 => old ^ 1 << self.dice.below(64),
            1 => old.wrapping_add(self.dice.pick(&[1, u64::MAX, 1 << 16, 1 << 19])),
            2 => self.dice.pick(&[0, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 32]),
            _ => self.dice.roll(),
        };
        file.write_all_at(&new.to_le_bytes(), at).expect("a file that can be written");
    }

    fn pick(&mut self) -> Option<File> {
        let index = self.dice.index(self.files.len().max(1));
        self.files.get(index).and_then(|file| file.try_clone().ok())
    }
}

/// One trial.
pub(crate) fn trial(seed: u64) {
    let mut meddler = Meddler::new(seed);
    let name = format!("flipped-{seed}");
    match seed % SHAPES {
        0 => messages(&mut meddler, &name, "shape=broadcast&capacity=4&max=4096&memory=64KiB"),
        1 => messages(&mut meddler, &name, "unbounded&max=4096&memory=256KiB"),
        2 => requests(&mut meddler, &name),
        3 => letters(&mut meddler, &name),
        4 => connections(&mut meddler, &name),
        _ => bytes(&mut meddler, &name),
    }
    end(&mut meddler, &name);
}

/// Looks, cleans, and gets rid of whatever is left.
fn end(meddler: &mut Meddler, name: &str) {
    meddler.meddle();
    let Ok(links) = call("list", ginnel::list) else { return };
    for link in links.into_iter().flatten() {
        assert!(format!("{link:?}").len() < 100_000);
    }
    drop(call("clean dry", || ginnel::clean(true)));
    drop(call("clean", || ginnel::clean(false)));
    for entry in std::fs::read_dir(ginnel::directory()).expect("the directory").flatten() {
        let left = entry.file_name().into_string().expect("a name");
        let link = Link::new(&format!("shm:{left}")).expect("a good address");
        drop(call("info", || link.info()));
        let forced = call("unlink by force", || link.unlink(true));
        let gone = forced.is_ok() || link.info().is_err_and(|e| e.kind() == ginnel::ErrorKind::NotFound);
        assert!(gone, "cannot get rid of {left} of {name}: {forced:?}");
    }
}

fn messages(meddler: &mut Meddler, name: &str, options: &str) {
    let mut full = "";
    if options.contains("broadcast") {
        full = meddler.dice.pick(&["&full=block", "&full=drop-oldest", "&full=cut-off", "&history=3"]);
    }
    let link = Link::new(&format!("shm:{name}?{options}&participants=6{full}")).expect("a good address");
    let (mut senders, mut receivers) = (vec![link.sender().unwrap()], vec![link.receiver().unwrap()]);
    exchange(meddler, &senders, &receivers);
    if meddler.dice.one_in(2) {
        senders.extend(link.sender());
        receivers.extend(link.receiver());
        exchange(meddler, &senders, &receivers);
    }
    meddler.look_around();
    meddler.flip();
    exchange(meddler, &senders, &receivers);
    senders.extend(call("open", || link.sender()));
    receivers.extend(call("open", || link.receiver()));
    receivers.extend(call("clone", || receivers[0].try_clone()));
    exchange(meddler, &senders, &receivers);
    meddler.meddle();
    call("close", || drop(receivers));
    drop(call("info", || link.info()));
    call("close", || drop(senders));
}

fn exchange(meddler: &mut Meddler, senders: &[Sender], receivers: &[Receiver]) {
    let message = [5; 4096];
    let mut held = Vec::new();
    for turn in 0..3 {
        for sender in senders {
            let len = meddler.dice.pick(&[0, 60, 112, 113, 4096]);
            drop(call("try_send", || sender.try_send(&message[..len])));
            meddler.meddle();
            if turn == 0 {
                drop(call("send_timeout", || sender.send_timeout(&message[..len], SHORT)));
                drop(call("loan", || sender.try_loan(len)));
            }
            let _ = call("look", || (sender.len(), sender.is_full(), sender.is_closed()));
        }
        for receiver in receivers {
            held.extend(call("try_recv", || receiver.try_recv()));
            meddler.meddle();
            if turn == 1 {
                held.extend(call("recv_timeout", || receiver.recv_timeout(SHORT)));
            }
            let _ = call("look", || (receiver.len(), receiver.dropped(), receiver.is_closed()));
        }
        if turn == 1 {
            held.drain(..).for_each(|message| call("release", || drop(message)));
        }
    }
    for message in held {
        assert!(call("read", || message.iter().fold(0u64, |sum, byte| sum + u64::from(*byte))) < 1 << 30);
        call("release", || drop(message));
    }
}

fn requests(meddler: &mut Meddler, name: &str) {
    let address = format!("shm:{name}?capacity=4&max=4096&memory=64KiB&participants=6");
    let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
    talk(meddler, &client, &server);
    meddler.look_around();
    meddler.flip();
    talk(meddler, &client, &server);
    let (second, other) = (call("open", || Client::open(&address)), call("clone", || server.try_clone()));
    talk(meddler, second.as_ref().unwrap_or(&client), other.as_ref().unwrap_or(&server));
    drop(call("call_timeout", || client.call_timeout(b"nobody answers", SHORT)));
    let _ = call("look", || (client.is_closed(), client.limit(), client.max_request()));
    if meddler.dice.one_in(2) {
        call("close", || drop((server, other)));
        drop(call("call_timeout", || client.call_timeout(b"nobody is there", SHORT)));
    }
    call("close", || drop((client, second)));
}

fn talk(meddler: &mut Meddler, client: &Client, server: &Server) {
    let request = vec![1; meddler.dice.pick(&[0, 60, 500])];
    let first = call("begin", || client.begin_timeout(&request, SHORT));
    let second = call("begin", || client.begin_timeout(&request, SHORT));
    meddler.meddle();
    for turn in 0..2 {
        let Ok(request) = call("recv_timeout", || server.recv_timeout(SHORT)) else { break };
        meddler.meddle();
        let _ = (request.pid(), request.deadline(), request.redelivered(), request.max_response());
        let _ = call("is_cancelled", || request.is_cancelled());
        if turn == 0 {
            let _ = call("part", || request.part_timeout(&[2; 300], SHORT));
            let _ = call("finish", || request.finish());
        } else {
            let _ = call("reply", || request.reply_timeout(&[3; 20], SHORT));
        }
    }
    for under_way in [first, second].into_iter().flatten() {
        for _ in 0..2 {
            meddler.meddle();
            if let Ok(Some(response)) = call("recv_timeout", || under_way.recv_timeout(SHORT)) {
                assert!(response.iter().count() <= 4096 && (response.pid(), response.redelivered()) != (1, true));
            }
        }
        call("drop a call", || drop(under_way));
    }
}

fn letters(meddler: &mut Meddler, name: &str) {
    let (alice, bob) = (format!("{name}-alice?max=4096&memory=64KiB&capacity=4"), format!("{name}-bob"));
    let (inbox, other) = (Mailbox::open(&alice).unwrap(), Mailbox::open(&bob).unwrap());
    correspond(meddler, &inbox, &other);
    meddler.look_around();
    meddler.flip();
    correspond(meddler, &inbox, &other);
    let _ = call("send_to", || Post::new().send_to_timeout(inbox.name(), b"from nobody", SHORT));
    call("close", || drop(inbox));
    meddler.meddle();
    let again = call("open", || Mailbox::open(&alice));
    again.iter().for_each(|again| correspond(meddler, again, &other));
    call("close", || drop((again, other)));
}

fn correspond(meddler: &mut Meddler, inbox: &Mailbox, other: &Mailbox) {
    for len in [0, 90, 700] {
        let _ = call("send_to", || other.send_to_timeout(inbox.name(), &vec![4; len], SHORT));
        let _ = call("try_send_to", || inbox.try_send_to(other.name(), &vec![4; len]));
        meddler.meddle();
    }
    drop(call("recv_from", || inbox.recv_from_timeout("somebody", SHORT)));
    for _ in 0..2 {
        meddler.meddle();
        if let Ok(letter) = call("recv_timeout", || inbox.recv_timeout(SHORT)) {
            assert!(letter.bytes().iter().count() <= 4096 && letter.sender().len() < 4096);
            let _ = (letter.pid(), letter.uid(), letter.redelivered());
        }
    }
    drop(call("try_recv", || other.try_recv()));
}

/// What is flipped is the listener's link, or those of a connection before it is accepted.
fn connections(meddler: &mut Meddler, name: &str) {
    let address = format!("shm:{name}");
    let listener = Listener::bind(&address).unwrap();
    let mut streams: Vec<Stream> = Stream::connect(&address).into_iter().collect();
    meddler.look_around();
    meddler.flip();
    streams.extend(call("connect", || Stream::connect_timeout(&address, SHORT)));
    for _ in 0..3 {
        meddler.meddle();
        streams.extend(call("accept", || listener.accept_timeout(SHORT)).ok().flatten());
        streams.extend(call("accept", || listener.try_accept()).ok().flatten());
    }
    streams.iter_mut().for_each(|stream| pump(meddler, stream));
    call("close", || drop(listener));
    drop(call("connect", || Stream::connect_timeout(&address, SHORT)));
    streams.iter_mut().for_each(|stream| pump(meddler, stream));
    call("close", || drop(streams));
}

/// What is flipped are the links of a connection.
fn bytes(meddler: &mut Meddler, name: &str) {
    let address = format!("shm:{name}");
    let listener = Listener::bind(&address).unwrap();
    let mut client = Stream::connect(&format!("{address}?capacity=4096")).unwrap();
    meddler.look_around();
    let Ok(Some(mut server)) = listener.accept_timeout(corrupt::SLOW) else { panic!("nobody called") };
    pump(meddler, &mut client);
    pump(meddler, &mut server);
    meddler.flip();
    for _ in 0..2 {
        pump(meddler, &mut server);
        meddler.meddle();
        pump(meddler, &mut client);
    }
    if meddler.dice.one_in(2) {
        call("close", || drop(server));
        pump(meddler, &mut client);
    }
    call("close", || drop(client));
}

fn pump(meddler: &mut Meddler, stream: &mut Stream) {
    let _ = (stream.set_read_timeout(Some(SHORT)), stream.set_write_timeout(Some(SHORT)));
    let mut buffer = vec![0; meddler.dice.pick(&[1, 100, 5000])];
    let _ = call("write", || stream.write(&buffer));
    meddler.meddle();
    let _ = call("read", || stream.read(&mut buffer));
    meddler.meddle();
    let there =
        call("fill_buf", || stream.fill_buf().map(|bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()));
    if there.is_ok() {
        stream.consume(0);
    }
    let _ = call("flush", || stream.flush());
}

#[test]
fn a_flipped_bit_ends_in_an_error_whatever_the_shape() {
    corrupt::run("flipped");
}
