//! A link that is scribbled over while it is in use: by a peer of the same user that is broken, or means harm. Whatever stands in
//! the words of the region, no call panics, hangs or leaves the mapping. What they return is not asked: garbage in, garbage
//! out, but as a value.
//!
//! Thousands of trials, each from a seed, in a process of their own. `GINNEL_TEST_SEED=n` runs the trial `n` alone.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::flipped;
use crate::place::{self, LIMIT, scale};
use ginnel::{Link, Message, Receiver, Sender};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// No call may take longer: the timeouts that are given are below a millisecond.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_micros(300);

/// The words that change: the header's, then participants, slots and block records of the links below.
const HEADER: std::ops::Range<u64> = 128..1024;
const TABLES: std::ops::Range<u64> = 4096..16_384;

/// The trial that runs, for the thread that watches over it and for the report of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);
/// Grows with each call.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The role: runs trials for some seconds; says what went wrong, and how many there were.
pub(crate) fn scribbler(what: &str) {
    let [kind, first, seconds]: [&str; 3] = std::array::from_fn(|at| what.split(' ').nth(at).expect("three words"));
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or_default();
        say(&format!("bad panic at {place}: {text}|seed {}", SEED.load(Relaxed)));
    }));
    std::thread::spawn(watch_over);
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a number"));
    let mut seed: u64 = first.parse().expect("a number");
    let mut trials = 0;
    while trials == 0 || Instant::now() < end {
        SEED.store(seed, Relaxed);
        // A panic was told by the hook.
        let _ = catch_unwind(|| match kind {
            "racing" => racing(seed),
            "swing" => swing(seed),
            "flipped" => flipped::trial(seed),
            _ => trial(seed),
        });
        if kind == "swing" && seed >= SWINGS || kind == "flipped" && seed >= flipped::ALL {
            break;
        }
        (seed, trials) = (seed + 1, trials + 1);
    }
    say(&format!("done {trials} trials"));
}

/// Ends the process when a call does not return.
fn watch_over() {
    let mut last = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let calls = CALLS.load(Relaxed);
        if calls != last.0 {
            last = (calls, Instant::now());
        } else if last.1.elapsed() > 5 * SLOW {
            say(&format!("bad a call that does not return|seed {}", SEED.load(Relaxed)));
            std::process::abort();
        }
    }
}

/// Runs one call, and tells if it is slow.
pub(crate) fn call<R>(what: &str, run: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = run();
    if begin.elapsed() > SLOW {
        say(&format!("bad {what} took a second or more|seed {}, {:?}", SEED.load(Relaxed), begin.elapsed()));
    }
    CALLS.fetch_add(1, Relaxed);
    result
}

fn link(seed: u64, dice: &mut Dice) -> Link {
    let full = dice.pick(&["block", "reject", "drop-oldest", "block&senders=2", "block&receivers=1&senders=1"]);
    let (capacity, max) = (dice.pick(&[1, 4, 8]), dice.pick(&[64, 4096]));
    if dice.one_in(3) {
        let address = format!("shm:victim-{seed}?shape=latest&capacity=4&max={max}&participants=6");
        return Link::new(&address).expect("a good address");
    }
    let address = format!("shm:victim-{seed}?capacity={capacity}&max={max}&memory=64KiB&participants=6&full={full}");
    Link::new(&address).expect("a good address")
}

/// Scribbles between calls.
fn trial(seed: u64) {
    let mut dice = Dice::new(seed);
    let link = link(seed, &mut dice);
    let (mut senders, mut receivers) = (vec![link.sender().unwrap()], vec![link.receiver().unwrap()]);
    let file = open(&link);
    for _ in 0..4 {
        senders.extend(dice.one_in(3).then(|| link.sender().ok()).flatten());
        receivers.extend(dice.one_in(3).then(|| link.receiver().ok()).flatten());
        calls(&mut dice, &senders, &receivers, Some(&file));
        drop(call("clone", || receivers[0].try_clone()));
        if dice.one_in(2) && senders.len() > 1 {
            call("close a sender", || drop(senders.remove(0)));
        }
        if dice.one_in(2) && receivers.len() > 1 {
            call("close a receiver", || drop(receivers.remove(0)));
        }
    }
    finish(&mut dice, &link, senders, receivers, &file);
}

/// Scribbles from another thread during the calls.
fn racing(seed: u64) {
    let mut dice = Dice::new(seed);
    let link = link(seed, &mut dice);
    let (senders, receivers) = (vec![link.sender().unwrap()], vec![link.receiver().unwrap()]);
    let file = open(&link);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(!seed);
            while !done.load(Relaxed) {
                scribble(&mut dice, &file);
                (0..dice.below(2000)).for_each(|_| std::hint::spin_loop());
            }
        });
        let ran = catch_unwind(AssertUnwindSafe(|| {
            (0..4).for_each(|_| calls(&mut dice, &senders, &receivers, Some(&file)));
            finish(&mut dice, &link, senders, receivers, &file);
        }));
        done.store(true, Relaxed);
        drop(ran);
    });
}

/// Extremes that a word swings between.
const EXTREMES: [(u64, u64); 4] = [(u64::MAX, 0), (0, u64::MAX), (1 << 63, (1 << 63) - 1), (u64::MAX - 1, 1 << 32)];
/// Words of the header, of the first participants, and of the first slots, with each of the extremes.
const SWINGS: u64 = (112 + 96 + 32) * EXTREMES.len() as u64;

/// One word goes from one extreme to the other, with calls before, between and after, and handles from each time.
fn swing(seed: u64) {
    let mut dice = Dice::new(seed);
    let (word, (first, second)) = (seed / EXTREMES.len() as u64, EXTREMES[seed as usize % EXTREMES.len()]);
    let at = match word {
        0..112 => HEADER.start + word * 8,
        112..208 => TABLES.start + (word - 112) * 8,
        _ => 2 * TABLES.start + (word - 208) * 8,
    };
    let full = dice.pick(&["block", "drop-oldest"]);
    let address = format!("shm:swing-{seed}?capacity=4&max=4096&memory=64KiB&participants=8&full={full}");
    let link = Link::new(&address).expect("a good address");
    let (mut senders, mut receivers) = (vec![link.sender().unwrap()], vec![link.receiver().unwrap()]);
    let file = open(&link);
    for value in [None, Some(first), Some(second)] {
        if let Some(value) = value {
            file.write_all_at(&u64::to_le_bytes(value), at).expect("a file that can be written");
        }
        calls(&mut dice, &senders, &receivers, None);
        senders.extend(link.sender());
        receivers.extend(link.receiver());
        calls(&mut dice, &senders, &receivers, None);
    }
    finish(&mut dice, &link, senders, receivers, &file);
}

fn open(link: &Link) -> File {
    let path = link.info().expect("a link that is there").path;
    File::options().read(true).write(true).open(path).expect("its file")
}

/// Writes a wrong word, or a few.
fn scribble(dice: &mut Dice, file: &File) {
    for _ in 0..1 + dice.below(3) {
        let end = file.metadata().expect("a file").len().min(TABLES.end);
        let range = if dice.one_in(2) { HEADER } else { TABLES.start..end };
        let mut at = range.start + dice.below((range.end - range.start) / 8) * 8;
        // Words that hold something are worth more: look for the next one.
        while dice.below(8) != 0 && word(file, at) == 0 && at + 8 < range.end {
            at += 8;
        }
        let old = word(file, at);
        let new = match dice.below(12) {
            0..4 => old ^ 1 << dice.below(64),
            4 => old.wrapping_add(1),
            5 => old.wrapping_sub(1),
            6 => old.wrapping_add(dice.pick(&[1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 22])),
            7 => dice.roll(),
            8 => dice.pick(&[0, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 32]),
            9 => dice.below(16),
            10 => dice.below(16) << 19 | dice.below(8) << 16 | dice.below(8), // as a slot's word is made
            _ => word(file, range.start + dice.below((range.end - range.start) / 8) * 8),
        };
        file.write_all_at(&new.to_le_bytes(), at).expect("a file that can be written");
    }
}

pub(crate) fn word(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).expect("a file as long as its tables");
    u64::from_le_bytes(bytes)
}

/// Some calls of every kind, with guards in hand.
fn calls(dice: &mut Dice, senders: &[Sender], receivers: &[Receiver], file: Option<&File>) {
    let mut held: Vec<Message<'_>> = Vec::new();
    for _ in 0..12 {
        if let (Some(file), true) = (file, dice.one_in(3)) {
            scribble(dice, file);
        }
        let (sender, receiver) = (&senders[dice.index(senders.len())], &receivers[dice.index(receivers.len())]);
        match dice.below(9) {
            0..3 => send(dice, sender),
            3..6 => held.extend(receive(dice, receiver)),
            6 => several(dice, sender, receiver, file),
            7 if !held.is_empty() => {
                let message = held.swap_remove(dice.index(held.len()));
                call("release", || drop(message));
            }
            _ => look(sender, receiver),
        }
    }
    if dice.one_in(4) {
        std::mem::forget(held.pop());
    }
    held.into_iter().for_each(|message| call("release", || drop(message)));
}

fn send(dice: &mut Dice, sender: &Sender) {
    let len = dice.pick(&[0, 8, 64, 112, 113, 500, 4096]);
    let bytes = [7; 4096];
    let _ = match dice.below(12) {
        0 => call("send_timeout", || sender.send_timeout(&bytes[..len], SHORT)),
        1..4 => call("loan", || sender.try_loan(len)).and_then(|mut loan| {
            loan.fill(9);
            call("commit", || Ok(loan.commit_timeout(SHORT)?))
        }),
        4..6 => call("abort", || sender.try_loan(len).map(drop)),
        _ => call("try_send", || sender.try_send(&bytes[..len])),
    };
}

fn receive<'a>(dice: &mut Dice, receiver: &'a Receiver) -> Option<Message<'a>> {
    let received = match dice.below(12) {
        0 => call("recv_timeout", || receiver.recv_timeout(SHORT)),
        1..4 => call("try_iter", || receiver.try_iter().take(20).last().map_or_else(|| receiver.try_recv(), Ok)),
        _ => call("try_recv", || receiver.try_recv()),
    };
    let message = received.ok()?;
    let read = call("read", || message.iter().fold(0u64, |sum, byte| sum + u64::from(*byte)));
    assert!(read <= 4096 * 255 && format!("{message:?}").len() < 1000);
    Some(message)
}

/// Several messages, in hand while words change.
fn several(dice: &mut Dice, sender: &Sender, receiver: &Receiver, file: Option<&File>) {
    (0..3).for_each(|_| drop(call("try_send", || sender.try_send(&[5; 40]))));
    let Ok(first) = call("try_recv", || receiver.try_recv()) else { return };
    receiver.interrupter().interrupt(); // it has no timeout
    let batch = call("recv_many", || receiver.recv_many(4)).ok();
    if let Some(file) = file {
        scribble(dice, file);
    }
    let sum = batch.iter().flat_map(|batch| batch.iter()).fold(0u64, |sum, m| sum + m.iter().count() as u64);
    assert!(sum <= 4 * 4096);
    call("release", || drop(first));
    call("release", || drop(batch));
}

fn look(sender: &Sender, receiver: &Receiver) {
    call("look", || {
        let (len, dropped, closed) = (sender.len(), receiver.dropped(), sender.is_closed() | receiver.is_closed());
        let text =
            format!("{len} {dropped} {closed} {} {} {sender:?} {receiver:?}", sender.is_full(), receiver.is_empty());
        assert!(text.len() < 1000);
    });
}

/// Closes, opens, looks, cleans, removes: a damaged link must be possible to get rid of.
fn finish(dice: &mut Dice, link: &Link, senders: Vec<Sender>, receivers: Vec<Receiver>, file: &File) {
    let mut handles = Some((senders, receivers));
    if dice.one_in(2) {
        let (senders, receivers) = handles.take().expect("just put there");
        call("close", || drop(senders));
        scribble(dice, file);
        call("close", || drop(receivers));
    }
    scribble(dice, file);
    drop(call("info", || link.info()));
    drop(call("list", ginnel::list));
    drop(call("open", || link.receiver()));
    scribble(dice, file);
    drop(call("clean dry", || ginnel::clean(true)));
    drop(call("clean", || ginnel::clean(false)));
    drop(call("unlink", || link.unlink(false)));
    let forced = call("unlink by force", || link.unlink(true));
    let gone = forced.is_ok() || link.info().is_err_and(|e| e.kind() == ginnel::ErrorKind::NotFound);
    assert!(gone, "cannot get rid of it: {forced:?}");
    call("close", || drop(handles)); // in the other half of the trials, participants were there all the time
}

pub(crate) fn run(kind: &str) {
    let directory = place::new_directory();
    let replay = std::env::var("GINNEL_TEST_SEED").ok();
    let seconds = if kind == "swing" { 60 } else { 3 * scale() };
    let (first, seconds) = replay.map_or(("0".to_owned(), seconds), |seed| (seed, 0));
    let mut child = Child::start(&format!("scribbler {kind} {first} {seconds}"), directory.path());
    let mut bad: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let end = loop {
        let Some(reply) = child.try_reply(LIMIT + Duration::from_secs(seconds)) else {
            break "the process ended, or hangs".to_owned();
        };
        match reply.text().strip_prefix("bad ").and_then(|text| text.split_once('|')) {
            Some((what, seed)) => bad.entry(what.to_owned()).or_insert((0, seed.to_owned())).0 += 1,
            None => break reply.text().to_owned(),
        }
    };
    println!("{kind}: {end}");
    assert!(end.starts_with("done"), "{end}; {bad:#?}");
    assert!(bad.is_empty(), "{end}; what went wrong, how often, and the first seed of each: {bad:#?}");
}

/// A wrong length in the second of three messages: whoever meets it says so, takes nothing more, and leaves no place unusable.
#[test]
fn a_wrong_length_ends_the_handle_and_blocks_nobody() {
    let directory = place::new_directory();
    let mut child = Child::start("wrong-length", directory.path());
    child.reply().ok();
}

/// The role.
pub(crate) fn wrong_length() {
    for (shared, many) in [(false, false), (false, true), (true, false), (true, true)] {
        let link = Link::new("shm:length?capacity=4&max=4096&memory=64KiB&participants=8").expect("a good address");
        let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
        let other = shared.then(|| link.receiver().unwrap());
        if let Some(other) = &other {
            sender.send(b"0").unwrap();
            drop(other.recv().unwrap()); // the side is this one's, until the next line
            sender.send(b"0").unwrap();
            drop(receiver.recv().unwrap());
        }
        let first = if shared { 2 } else { 0 };
        (0..3).for_each(|_| sender.send(b"message").unwrap());
        let file = open(&link);
        let meta = 2 * TABLES.start + 128 * (first + 1) + 8;
        assert_eq!(word(&file, meta), 7, "the length of the second message");
        file.write_all_at(&200u64.to_le_bytes(), meta).unwrap();
        if many {
            assert_eq!(receiver.recv_many(3).unwrap().len(), 1);
        } else {
            assert_eq!(&*receiver.recv().unwrap(), b"message");
        }
        for _ in 0..3 {
            let error = receiver.recv_timeout(SHORT).unwrap_err();
            assert!(matches!(error.reason(), ginnel::RecvFailure::Corrupt(_)), "{error}");
            assert!(receiver.try_recv_many(3).is_err());
        }
        drop((receiver, other));
        // It goes back to the link that its holder found it in: the next one meets it too. But none of its places is lost.
        file.write_all_at(&7u64.to_le_bytes(), meta).unwrap();
        let next = link.receiver().unwrap();
        assert_eq!(next.try_iter().count(), 2, "shared {shared}, many {many}");
        (0..4).for_each(|_| sender.try_send(b"again").unwrap());
        assert_eq!(next.try_iter().count(), 4);
    }
    say("ok");
}

#[test]
fn words_that_are_wrong_between_calls() {
    run("between");
}

#[test]
fn words_that_swing_between_extremes() {
    run("swing");
}

#[test]
fn words_that_change_during_calls() {
    run("racing");
}
