//! The newest value, `?shape=latest`: what a reader gets is whole, is never older than what it had, and is the newest at last; no reader holds up
//! a writer, and no death of either holds up anybody.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{LIMIT, address, home, new_directory, number_in, scale, skipped, stamped, within};
use ginnel::{ErrorKind, Link, Receiver, RecvFailure, SendFailure, Sender, Shape};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A value in its head, at the edge of that, in an area of one page and of many.
const SIZES: &[usize] = &[8, 16, 64, 104, 105, 4096, 5000, 64 << 10, 1 << 20];

/// A number's upper bits say who wrote it.
const WRITER_SHIFT: u32 = 32;

fn latest(options: &str) -> String {
    address("latest", &format!("shape=latest&max=1MiB{options}"))
}

/// In this process alone.
fn private(address: &str) -> String {
    address.replacen("shm:", "mem:", 1)
}

#[test]
fn whoever_looks_gets_the_newest() {
    for address in [latest(""), private(&latest(""))] {
        let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
        assert_eq!(receiver.latest().unwrap_err(), RecvFailure::Empty);
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        let (mut dice, mut into, mut sent) = (Dice::new(1), Vec::new(), 0);
        for round in 0..200 {
            let values = 1 + dice.below(12);
            let mut last = Vec::new();
            for _ in 0..values {
                last = stamped(sent, dice.pick(SIZES).min(8 + dice.index(2 << 20)));
                sender.send_tagged(sent as u16, &last).unwrap();
                sent += 1;
            }
            assert_eq!((sender.len(), receiver.len(), sender.is_full()), (1, 1, false));
            match round % 3 {
                0 => {
                    let message = receiver.recv().unwrap();
                    assert_eq!((&*message, message.tag(), message.position()), (&*last, (sent - 1) as u16, sent - 1));
                }
                1 => assert_eq!(&*receiver.latest().unwrap(), &*last),
                _ => {
                    assert_eq!(receiver.latest_into(&mut into).unwrap(), sent - 1);
                    assert_eq!(into, last);
                }
            }
            assert_eq!(receiver.len(), 0);
            assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty, "it has been seen");
            assert_eq!(&*receiver.latest().unwrap(), &*last, "and is there");
            assert_eq!(receiver.dropped(), sent - round - 1, "what was not seen is counted");
        }
        let another = receiver.try_clone().unwrap();
        assert_eq!(another.try_recv().unwrap_err(), RecvFailure::Empty, "a clone has seen what the other has");
        assert_eq!(
            number_in(&Receiver::open(&address).unwrap().recv().unwrap()),
            sent - 1,
            "a newcomer has seen nothing"
        );
        assert_eq!(another.recv_many_timeout(5, Duration::ZERO).unwrap_err(), RecvFailure::TimedOut);
        sender.send(b"").unwrap();
        assert_eq!(another.recv_many(5).unwrap().iter().map(|message| message.len()).collect::<Vec<_>>(), [0]);
    }
}

/// A message's copy lies in a buffer of its receiver: one that is in hand is nobody else's, in whatever order they end.
#[test]
fn messages_in_hand_keep_their_bytes() {
    let address = latest("");
    let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
    let (mut dice, mut in_hand) = (Dice::new(7), Vec::new());
    for number in 0..300 {
        let value = stamped(number, dice.pick(SIZES).min(8 + dice.index(2 << 20)));
        sender.send_tagged(number as u16, &value).unwrap();
        let first = receiver.recv().unwrap();
        in_hand.extend([(value.clone(), first), (value, receiver.latest().unwrap())]);
        while in_hand.len() > dice.index(12) {
            drop(in_hand.swap_remove(dice.index(in_hand.len())));
        }
        for (value, message) in &in_hand {
            assert_eq!(&**message, &**value);
            assert_eq!((message.tag(), message.priority(), message.missed()), (number_in(message) as u16, 0, 0));
        }
    }
}

#[test]
fn a_loan_is_sent_when_it_is_committed() {
    let address = latest("");
    let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
    let mut loan = sender.loan(5000).unwrap();
    loan.copy_from_slice(&stamped(3, 5000));
    loan.set_tag(9);
    assert_eq!(receiver.latest().unwrap_err(), RecvFailure::Empty);
    loan.commit().unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((number_in(&message), message.tag()), (3, 9));
    drop(sender.loan(10).unwrap());
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    assert!(matches!(sender.loan(2 << 20).unwrap_err().reason(), SendFailure::TooLarge { .. }));
}

#[test]
fn the_end_comes_after_the_newest_and_the_value_stays() {
    let address = latest("");
    let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
    (0..3).for_each(|number| sender.send(&stamped(number, 100)).unwrap());
    drop(sender);
    assert_eq!(number_in(&receiver.recv().unwrap()), 2);
    assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    assert_eq!(number_in(&receiver.latest().unwrap()), 2, "a look needs nobody who sends");
    drop(receiver);
    let info = Link::new(&address).unwrap().info().unwrap();
    assert_eq!((info.geometry.shape, info.messages, info.sent), (Shape::Latest, 1, 3));
    let later = Receiver::join(&address.replace("shape=latest&", "")).unwrap();
    assert_eq!(number_in(&later.recv().unwrap()), 2);
    assert_eq!(later.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    drop(later);
    let link = Link::new(&address).unwrap();
    assert_eq!(link.unlink(false).unwrap_err().kind(), ErrorKind::InUse);
    link.unlink(true).unwrap();
    assert_eq!(link.info().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (first, second) in [("shape=latest", "shape=queue"), ("shape=queue", "shape=latest"), ("", "shape=latest")] {
        let plain = address("mixed", "");
        for plain in [plain.clone(), private(&plain)] {
            let _there = Sender::open(&format!("{plain}?{first}")).unwrap();
            let error = Receiver::open(&format!("{plain}?{second}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            assert!(["queue", "latest"].iter().all(|shape| error.to_string().contains(shape)), "{error}");
        }
    }
    for (options, word) in [
        ("&full=reject", "full"),
        ("&capacity=2", "between 4 and 64"),
        ("&capacity=6", "power of two"),
        ("&memory=1MiB", "memory"),
    ] {
        let error = Sender::open(&latest(options)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains(word) && !error.remedy_text().is_empty(), "{error}");
    }
    let queue = Receiver::open(&address("queue", "")).unwrap();
    assert!(matches!(queue.latest().unwrap_err().reason(), RecvFailure::Unfit(_)));
    assert!(queue.latest_into(&mut Vec::new()).unwrap_err().to_string().contains("shape=latest"));
    let sender = Sender::open(&latest("")).unwrap();
    assert!(matches!(sender.send(&vec![0; (1 << 20) + 1]).unwrap_err().reason(), SendFailure::TooLarge { .. }));
}

/// Each writer's numbers rise for each reader, and so do positions; every value is whole; the last is the last.
#[test]
fn many_writers_and_readers() {
    for (address, sizes) in
        [(latest(""), SIZES), (private(&latest("&capacity=4")), &SIZES[..5]), (latest("&capacity=4"), &SIZES[5..])]
    {
        within(2 * LIMIT, || crowd(&address, sizes));
    }
}

fn crowd(address: &str, sizes: &[usize]) {
    const WRITERS: u64 = 3;
    let each = 300 * scale();
    let senders: Vec<_> = (0..WRITERS).map(|_| Sender::open(address).unwrap()).collect();
    let receivers: Vec<_> = (0..3).map(|_| Receiver::open(address).unwrap()).collect();
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (me, sender) in (0..).zip(senders) {
            scope.spawn(move || {
                let mut dice = Dice::new(me);
                for at in 0..each {
                    sender.send(&stamped(me << WRITER_SHIFT | at, dice.pick(sizes))).unwrap();
                }
            });
        }
        for (way, receiver) in receivers.into_iter().enumerate() {
            let seen = &seen;
            scope.spawn(move || seen.fetch_add(watch(way, &receiver, WRITERS * each), Relaxed));
        }
    });
    assert!(seen.into_inner() >= 3);
}

/// Looks until the last of all values came, and says how many it saw.
fn watch(way: usize, receiver: &Receiver, values: u64) -> u64 {
    let (mut last, mut of, mut count, mut into) = (None, [None; 8], 0, Vec::new());
    loop {
        let position = match way {
            0 => match receiver.recv() {
                Ok(message) => {
                    assert!(last < Some(message.position()), "the same again");
                    into.clear();
                    into.extend_from_slice(&message);
                    message.position()
                }
                Err(end) => {
                    assert_eq!((end.reason(), last), (RecvFailure::Closed { died: 0 }, Some(values - 1)));
                    assert_eq!(receiver.dropped() + count, values, "seen or counted");
                    return count;
                }
            },
            _ => match receiver.latest_into(&mut into) {
                Ok(position) => position,
                Err(e) => {
                    assert_eq!(e, RecvFailure::Empty);
                    std::thread::yield_now();
                    continue;
                }
            },
        };
        assert!(last <= Some(position), "{position} after {last:?}");
        if last < Some(position) {
            let number = number_in(&into);
            let (writer, at) = ((number >> WRITER_SHIFT) as usize, number & 0xFFFF_FFFF);
            assert!(of[writer] < Some(at), "of writer {writer}: {at} after {:?}", of[writer]);
            (of[writer], last, count) = (Some(at), Some(position), count + 1);
        }
        if way > 0 && position == values - 1 {
            return count;
        }
    }
}

/// Each waits for the other's change, asleep: one wake-up that is lost, and this never ends.
#[test]
fn no_change_is_slept_over() {
    for wait in ["block", "adaptive"] {
        let (there, back) = (latest(&format!("&wait={wait}")), latest(&format!("&wait={wait}")));
        let rounds = 3000 * scale();
        within(2 * LIMIT, || {
            let echo = (Receiver::open(&there).unwrap(), Sender::open(&back).unwrap());
            let (sender, receiver) = (Sender::open(&there).unwrap(), Receiver::open(&back).unwrap());
            std::thread::spawn(move || {
                while let Ok(message) = echo.0.recv() {
                    echo.1.send(&message).unwrap();
                }
            });
            for round in 0..rounds {
                sender.send(&stamped(round, 8)).unwrap();
                assert_eq!(number_in(&receiver.recv().unwrap()), round);
            }
            drop(sender);
            assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
        });
    }
}

#[test]
fn waiting_ends_in_time_and_when_it_is_interrupted() {
    let address = latest("");
    let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
    sender.send(b"once").unwrap();
    drop(receiver.recv().unwrap());
    assert_eq!(receiver.recv_timeout(Duration::from_millis(5)).unwrap_err(), RecvFailure::TimedOut);
    let interrupter = receiver.interrupter();
    let waiting = std::thread::spawn(move || receiver.recv().map(drop).unwrap_err());
    interrupter.interrupt();
    assert_eq!(within(LIMIT, || waiting.join().unwrap()), RecvFailure::Interrupted);
}

/// Readers with values in hand, and readers that never look, hold nobody up.
#[test]
fn no_reader_holds_up_a_writer() {
    let address = latest("&capacity=4");
    let sender = Sender::open(&address).unwrap();
    let receivers: Vec<_> = (0..20).map(|_| Receiver::open(&address).unwrap()).collect();
    sender.send(&stamped(0, 5000)).unwrap();
    let held: Vec<_> =
        receivers.iter().flat_map(|receiver| [receiver.recv().unwrap(), receiver.latest().unwrap()]).collect();
    (1..1000).for_each(|number| sender.try_send(&stamped(number, 5000)).unwrap());
    assert!(held.iter().all(|message| number_in(message) == 0), "what is in hand stays as it is");
    assert!(receivers.iter().all(|receiver| number_in(&receiver.recv().unwrap()) == 999));
}

/// Processes that write are killed all the time; others read on, and write on.
#[test]
fn writers_that_are_killed() {
    let directory = new_directory();
    let mut watcher = Child::start("latest watch", directory.path());
    watcher.reply().ok();
    let (end, mut first) = (Instant::now() + Duration::from_secs(3 * scale()), 1);
    let mut dice = Dice::new(5);
    let mut writers: Vec<_> = (0..3).map(|_| writer(&mut first, directory.path())).collect();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(dice.below(30)));
        let which = dice.index(writers.len());
        writers[which].kill_and_reap();
        writers[which] = writer(&mut first, directory.path());
    }
    writers.iter_mut().for_each(Child::kill_and_reap);
    println!("{} writers were killed; {}", first - 1, watcher.must("stop"));
    watcher.finish();
}

fn writer(first: &mut u64, directory: &std::path::Path) -> Child {
    let mut child = Child::start(&format!("latest write {first}"), directory);
    child.reply().ok();
    *first += 1;
    child
}

const STORM: &str = "shm:storm?shape=latest&max=1MiB&capacity=4&participants=16";

/// The roles: one that writes until it is killed; one that reads and writes until it is told to stop, and says how much it saw.
pub(crate) fn role(what: &str) {
    match what.split_once(' ') {
        Some((_, me)) => write(me.parse().expect("a number")),
        None => watch_storm(),
    }
}

fn write(me: u64) {
    let (sender, mut dice) = (Sender::open(STORM).unwrap(), Dice::new(me));
    say("ok");
    for at in 0.. {
        sender.send(&stamped(me << WRITER_SHIFT | at, dice.pick(SIZES))).unwrap();
    }
}

fn watch_storm() {
    let (sender, receiver) = (Sender::open(STORM).unwrap(), Receiver::open(STORM).unwrap());
    say("ok");
    let (orders, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        let _ = orders.send(());
    });
    let (mut values, mut last, mut own) = (0u64, None, 0);
    while told.try_recv().is_err() {
        let message = match receiver.recv_timeout(Duration::from_millis(1)) {
            Ok(message) => message,
            Err(e) => {
                assert_eq!(e, RecvFailure::TimedOut, "the writers that died had each their turn");
                continue;
            }
        };
        number_in(&message); // whole
        assert!(last < Some(message.position()));
        (last, values) = (Some(message.position()), values + 1);
        if values % 64 == 0 {
            // One's own value comes at once, whoever died in the middle of a send: half of the cells are not the dead's.
            own += 1;
            sender.send_timeout(&stamped(own, 5000), Duration::from_secs(10)).unwrap();
        }
    }
    // The dead are recovered, and hold no cell: every one of them can be written again.
    drop(Receiver::open(STORM).unwrap());
    let info = || Link::new(STORM).unwrap().info().unwrap();
    let settled = |_| {
        let settled = info().participants.len() == 2;
        if !settled {
            drop(Receiver::open(STORM).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        settled
    };
    assert!((0..2000).any(settled), "{:?}", info().participants);
    for number in 0..16 {
        sender.try_send(&stamped(number, 1 << 20)).unwrap();
        assert_eq!(number_in(&receiver.latest().unwrap()), number);
        assert!(info().pool.used <= 1 << 20, "nobody but the newest has a cell: {:?}", info().pool);
    }
    say(&format!("ok {values} values were seen, {} skipped", receiver.dropped()));
    Link::new(STORM).unwrap().unlink(true).unwrap();
}

/// A file system that has no more is an error, and no signal; what fits goes on.
#[test]
fn on_a_file_system_that_fills_up() {
    home();
    let directory = new_directory();
    let mut child = Child::start("script", directory.path());
    child.reply().ok();
    let mounted = child.ask(&format!("tmpfs {} 1048576", directory.path().display()));
    if !mounted.text().starts_with("ok") {
        return skipped(mounted.text());
    }
    child.must("sender open shm:x?shape=latest&max=4MiB&participants=4");
    child.must("receiver open shm:x");
    for round in 0..10 {
        let [kind, _, _, text] = child.ask("send 1 4194304 9").err();
        assert!(kind.starts_with("NoSpace") && text.contains("shm:x"), "{kind}: {text}");
        child.must(&format!("send 8 64 {round}"));
        child.must(&format!("send 8 20000 {round}"));
        assert_eq!(child.must("recv 1"), (round + 7).to_string());
    }
}
