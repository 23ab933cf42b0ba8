//! Histories of real processes, held against the definition of a queue: every operation seems to happen at one instant between its call and its return, and in the order
//! of these instants messages leave as they came (Herlihy, Wing, "Linearizability", TOPLAS 1990).
//!
//! A history in which every message is another one is that of a queue unless it has one of four patterns (Henzinger, Sezgin, Vafeiadis, "Aspect-Oriented Linearizability
//! Proofs", CONCUR 2013), each of which is looked for in the time that sorting takes, so in millions of operations and not in a short window only:
//!
//! | pattern | what it is |
//! |---|---|
//! | fresh | a message was received before its sending began, or was never sent |
//! | repeated | a message was received twice |
//! | order | one was sent before the sending of another began, and that other was received before the receiving of the first began, or the first never was |
//! | witness | a receiver found nothing, though at each instant of its look some message was sent and not yet received |
//!
//! One excuse of the last is allowed for: a sender that has claimed its place, and was preempted there, is waited for by one who does not wait for some hundred looks only,
//! whatever lies behind its place. Then that one was in the middle of sending, and what was there all the time was sent after it had begun.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, address, scale};
use ginnel::{Receiver, RecvFailure, Sender};
use ginnel_os::process::monotonic_ns;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Sent(u64),
    Got(u64),
    FoundNothing,
}

/// One operation: between which instants, in nanoseconds of the clock that all processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    act: Act,
    called: u64,
    returned: u64,
}

/// A pattern that no queue has.
#[derive(Debug, PartialEq, Eq)]
enum Broken {
    Fresh(u64),
    Repeated(u64),
    Order { first: u64, overtaken_by: u64 },
    Witness { called: u64, returned: u64 },
}

/// The interval of an operation.
type Span = (u64, u64);

/// The first pattern that a complete history has, or how many looks were excused.
fn check(history: &[Operation]) -> Result<usize, Broken> {
    let (mut sent, mut got): (HashMap<u64, Span>, HashMap<u64, Span>) = Default::default();
    for operation in history {
        let span = (operation.called, operation.returned);
        match operation.act {
            Act::Sent(value) => _ = sent.insert(value, span),
            Act::Got(value) if got.insert(value, span).is_some() => return Err(Broken::Repeated(value)),
            Act::Got(_) | Act::FoundNothing => {}
        }
    }
    for (value, receiving) in &got {
        if sent.get(value).is_none_or(|sending| receiving.1 < sending.0) {
            return Err(Broken::Fresh(*value));
        }
    }
    let received = |value: &u64| got.get(value).copied().unwrap_or((u64::MAX, u64::MAX));
    order(&sent, received)?;
    witness(&sent, received, history)
}

/// Of those that were sent before the sending of another began, the one that was begun to be received last must not be later than the end of that one's receiving.
fn order(sent: &HashMap<u64, Span>, received: impl Fn(&u64) -> Span) -> Result<(), Broken> {
    let mut by_call: Vec<_> = sent.iter().collect();
    by_call.sort_unstable_by_key(|(_, sending)| sending.0);
    let mut by_return: Vec<_> = sent.iter().collect();
    by_return.sort_unstable_by_key(|(_, sending)| sending.1);
    let mut done = by_return.into_iter().peekable();
    let mut last: Option<(u64, u64)> = None; // when its receiving began, and which
    for (value, sending) in by_call {
        while let Some((earlier, _)) = done.next_if(|(_, other)| other.1 < sending.0) {
            last = last.max(Some((received(earlier).0, *earlier)));
        }
        match last {
            Some((began, first)) if received(value).1 < began => {
                return Err(Broken::Order { first, overtaken_by: *value });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The times in which some message was surely there, joined where they overlap, must not cover a look that found nothing.
fn witness(sent: &HashMap<u64, Span>, received: impl Fn(&u64) -> Span, history: &[Operation]) -> Result<usize, Broken> {
    let there = |(value, sending): (&u64, &Span)| (sending.1, received(value).0);
    let joined = joined(sent.iter().map(there));
    let mut by_return: Vec<(Span, Span)> = sent.iter().map(|(value, sending)| (*sending, received(value))).collect();
    by_return.sort_unstable_by_key(|(sending, _)| sending.1);
    let (mut excused, mut known, mut last) = (0, HashMap::new(), None);
    for look in history.iter().filter(|operation| operation.act == Act::FoundNothing) {
        if !covers(&joined, (look.called, look.returned)) {
            continue;
        }
        if !is_excused(&by_return, &mut known, &mut last, (look.called, look.returned)) {
            return Err(Broken::Witness { called: look.called, returned: look.returned });
        }
        excused += 1;
    }
    Ok(excused)
}

/// Spans as disjoint ones, in order.
fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.filter(|(from, to)| from < to).collect();
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Whether one of such spans covers each instant of another span.
fn covers(joined: &[Span], (from, to): Span) -> bool {
    let before = joined.partition_point(|(begin, _)| *begin < from);
    before > 0 && to < joined[before - 1].1
}

/// Whether somebody was in the middle of sending during a look, at an instant at which nothing was there but what was sent after that had begun. Of each sending its span and
/// that of its receiving, by the former's end; `known` has what was there when one began, as many looks may be for the same one.
fn is_excused(
    by_return: &[(Span, Span)],
    known: &mut HashMap<Span, Vec<Span>>,
    last: &mut Option<usize>,
    look: Span,
) -> bool {
    // Most looks have the excuse of the look before.
    let ended = by_return.partition_point(|(sending, _)| sending.1 <= look.0);
    let in_the_way = last.iter().copied().chain(ended..by_return.len()).filter(|at| {
        let (sending, receiving) = by_return[*at];
        sending.0 < look.1 && sending.1 > look.0 && receiving.1 > look.0 // it may have had its place
    });
    // Who was stopped took longest. A look of one who was stopped itself has thousands beside that.
    let mut in_the_way: Vec<usize> = in_the_way.collect();
    in_the_way.sort_by_key(|at| (Some(*at) != *last, std::cmp::Reverse(by_return[*at].0.1 - by_return[*at].0.0)));
    let excuse = in_the_way.into_iter().find(|at| {
        let sending = &by_return[*at].0;
        let (from, to) = (look.0.max(sending.0), look.1.min(sending.1));
        let there = known.entry(*sending).or_insert_with(|| {
            let older = by_return.iter().take_while(|(other, _)| other.1 <= sending.0);
            joined(older.map(|(other, receiving)| (other.1, receiving.0)).filter(|(_, end)| *end > sending.0))
        });
        !covers(there, (from, to))
    });
    *last = excuse;
    excuse.is_some()
}

// ---- processes that write their histories down

/// Runs an operation, and notes when.
fn timed<R>(history: &mut Vec<Operation>, run: impl FnOnce() -> (R, Act)) -> R {
    let called = monotonic_ns();
    let (result, act) = run();
    history.push(Operation { act, called, returned: monotonic_ns() });
    result
}

/// The role: `ADDRESS sender NUMBER COUNT FILE` sends so many messages, `ADDRESS receiver NUMBER COUNT FILE` receives until the senders have left. Some are large.
pub(crate) fn role(what: &str) {
    let [address, end, number, count, file] = what.split(' ').collect::<Vec<_>>()[..] else { panic!("{what}") };
    let (number, count): (u64, u64) = (number.parse().unwrap(), count.parse().unwrap());
    let mut history = Vec::new();
    if end == "sender" {
        let sender = Sender::open(address).unwrap();
        say("ok open");
        for value in (0..count).map(|message| number << 32 | message) {
            let mut message = vec![0; if value % 16 == 0 { 300 } else { 8 }];
            message[..8].copy_from_slice(&value.to_le_bytes());
            timed(&mut history, || (sender.send(&message).unwrap(), Act::Sent(value)));
        }
    } else {
        let receiver = Receiver::open(address).unwrap();
        say("ok open");
        let value = |message: &[u8]| u64::from_le_bytes(message[..8].try_into().unwrap());
        loop {
            let called = monotonic_ns();
            let act = match receiver.try_recv() {
                Ok(message) => Act::Got(value(&message)),
                Err(error) if error.reason() == RecvFailure::Empty => Act::FoundNothing,
                Err(error) if matches!(error.reason(), RecvFailure::Closed { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            history.push(Operation { act, called, returned: monotonic_ns() });
        }
    }
    let mut out = BufWriter::new(File::create(file).unwrap());
    for Operation { act, called, returned } in history {
        let (kind, value) = match act {
            Act::Sent(value) => (0, value),
            Act::Got(value) => (1, value),
            Act::FoundNothing => (2, 0),
        };
        for word in [kind, value, called, returned] {
            out.write_all(&u64::to_le_bytes(word)).unwrap();
        }
    }
    out.flush().unwrap();
    say("ok done");
    std::thread::sleep(LIMIT);
}

/// What a process wrote down.
fn read(file: &std::path::Path) -> Vec<Operation> {
    let mut bytes = Vec::new();
    BufReader::new(File::open(file).unwrap()).read_to_end(&mut bytes).unwrap();
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let operation = |record: &[u8]| {
        let value = word(&record[8..16]);
        let act = [Act::Sent(value), Act::Got(value), Act::FoundNothing][word(&record[..8]) as usize];
        Operation { act, called: word(&record[16..24]), returned: word(&record[24..]) }
    };
    bytes.chunks_exact(32).map(operation).collect()
}

/// The history of so many senders and receivers. Those beyond the first of each join while the first are at work: sides that one had for itself become shared.
fn recorded(options: &str, senders: u64, receivers: u64, count: u64) -> Vec<Operation> {
    let address = address("history", options);
    let files = tempfile::tempdir().unwrap();
    // The link is there before anybody works, and has a receiver until all have one.
    let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
    let mut children: Vec<_> = [("receiver", receivers), ("sender", senders)]
        .into_iter()
        .flat_map(|(end, number)| (0..number).map(move |number| (end, number)))
        .map(|(end, number)| {
            let file = files.path().join(format!("{end}-{number}"));
            let role = format!("history {address} {end} {number} {count} {}", file.display());
            let mut child = Child::start(&role, place::home());
            child.reply().ok();
            (child, file)
        })
        .collect();
    drop((sender, receiver));
    let mut history = Vec::new();
    for (child, file) in &mut children {
        child.reply_within(4 * LIMIT).ok();
        history.extend(read(file));
    }
    history
}

fn is_a_queue(options: &str, senders: u64, receivers: u64) {
    let _limit = place::limit(8 * LIMIT);
    let count = 20_000 * scale();
    let history = recorded(options, senders, receivers, count);
    let kind = |wanted: fn(&Act) -> bool| history.iter().filter(|operation| wanted(&operation.act)).count() as u64;
    assert_eq!(kind(|act| matches!(act, Act::Sent(_))), senders * count);
    assert_eq!(kind(|act| matches!(act, Act::Got(_))), senders * count);
    let empty = kind(|act| *act == Act::FoundNothing);
    let excused = check(&history).unwrap_or_else(|broken| panic!("{options}, {senders} by {receivers}: {broken:?}"));
    let operations = history.len();
    println!(
        "{options} {senders} by {receivers}: {operations} operations; {empty} found nothing, {excused} of them excused"
    );
}

#[test]
fn one_by_one_is_a_queue() {
    is_a_queue("capacity=64&max=512", 1, 1);
}

#[test]
fn two_by_two_is_a_queue() {
    is_a_queue("capacity=8&max=512", 2, 2);
}

#[test]
fn three_by_one_is_a_queue() {
    is_a_queue("capacity=256&max=512", 3, 1);
}

#[test]
fn an_unbounded_one_is_a_queue() {
    is_a_queue("unbounded&max=512", 2, 2);
}

// ---- the checks can fail

fn at(act: Act, called: u64, returned: u64) -> Operation {
    Operation { act, called, returned }
}

#[test]
fn what_a_queue_may_do_is_fine() {
    use Act::{FoundNothing, Got, Sent};
    // Two that overlap may leave in either order; a look may have been before what came during it, or after what went.
    let history = [
        at(Sent(1), 0, 10),
        at(Sent(2), 5, 8),
        at(Got(2), 6, 20),
        at(FoundNothing, 1, 9),
        at(Got(1), 21, 30),
        at(FoundNothing, 22, 25),
    ];
    assert_eq!(check(&history), Ok(0));
}

#[test]
fn who_is_stopped_while_it_sends_is_an_excuse() {
    use Act::{FoundNothing, Got, Sent};
    let behind =
        [at(Sent(1), 0, 100), at(Sent(2), 2, 3), at(FoundNothing, 4, 5), at(Got(1), 6, 101), at(Got(2), 102, 103)];
    assert_eq!(check(&behind), Ok(1));
    // What was sent before it had begun lies before its place.
    let before = [at(Sent(1), 4, 100), at(Sent(2), 2, 3), at(FoundNothing, 5, 6), at(Got(2), 7, 8), at(Got(1), 9, 101)];
    assert_eq!(check(&before), Err(Broken::Witness { called: 5, returned: 6 }));
}

#[test]
fn each_pattern_is_found() {
    use Act::{FoundNothing, Got, Sent};
    let cases = [
        (vec![at(Got(1), 0, 5), at(Sent(1), 6, 7)], Broken::Fresh(1)),
        (vec![at(Got(1), 0, 5)], Broken::Fresh(1)),
        (vec![at(Sent(1), 0, 1), at(Got(1), 2, 3), at(Got(1), 2, 4)], Broken::Repeated(1)),
        (
            vec![at(Sent(1), 0, 1), at(Sent(2), 2, 3), at(Got(2), 4, 5), at(Got(1), 6, 7)],
            Broken::Order { first: 1, overtaken_by: 2 },
        ),
        (vec![at(Sent(1), 0, 1), at(Sent(2), 2, 3), at(Got(2), 4, 5)], Broken::Order { first: 1, overtaken_by: 2 }),
        (vec![at(Sent(1), 0, 1), at(FoundNothing, 2, 3), at(Got(1), 4, 5)], Broken::Witness { called: 2, returned: 3 }),
        // One goes while the next one is there already: at no instant of the look was there nothing.
        (
            vec![at(Sent(1), 0, 1), at(Sent(2), 2, 4), at(FoundNothing, 3, 8), at(Got(1), 6, 7), at(Got(2), 9, 10)],
            Broken::Witness { called: 3, returned: 8 },
        ),
    ];
    for (history, broken) in cases {
        assert_eq!(check(&history), Err(broken), "{history:?}");
    }
}
