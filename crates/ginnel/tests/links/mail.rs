//! Mailboxes: who has a name, what comes there, and what is left of it when its owner is killed.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, name_of, number_in, scale, stamped};
use ginnel::mail::{Absent, Letter, MailError, MailFailure, Mailbox, Post};
use ginnel::{ErrorKind, Link, Receiver, Sender, Shape};
use std::io::BufRead;
use std::time::{Duration, Instant};

/// By when a survivor must know. The promise is 100 ms; a busy test machine may be late.
const TOLD: Duration = Duration::from_secs(1);

/// A name that nobody else uses.
fn name(what: &str) -> String {
    name_of(&address(what, "")).to_owned()
}

/// Two names between processes, and two between threads.
fn pairs(what: &str) -> [(String, String); 2] {
    let (one, other) = (name(what), name(what));
    [(one.clone(), other.clone()), (format!("mem:{one}"), format!("mem:{other}"))]
}

// ---- in one process

#[test]
fn letters_of_any_size_come_with_their_senders() {
    let _limit = place::limit(LIMIT);
    for (alice, bob) in pairs("sizes") {
        let (alice, bob) = (Mailbox::open(&alice).unwrap(), Mailbox::open(&bob).unwrap());
        for len in [0, 1, 50, 99, 100, 112, 113, 5000, 1 << 20] {
            let sent = stamped(len as u64, len);
            alice.send_to(bob.name(), &sent).unwrap(); // where a name without a scheme is, follows from the sender
            let letter = bob.recv().unwrap();
            assert_eq!((letter.bytes(), letter.sender(), letter.redelivered()), (&sent[..], alice.name(), false));
            assert_eq!((letter.pid(), letter.uid()), (std::process::id(), ginnel_os::process::user()));
        }
    }
}

#[test]
fn others_are_left_in_order() {
    let _limit = place::limit(LIMIT);
    for (to, other) in pairs("order") {
        let inbox = Mailbox::open(&to).unwrap();
        let bob = Mailbox::open(&other).unwrap();
        let carol = Mailbox::open(&format!("{other}-c")).unwrap();
        let nobody = Post::new();
        let full = |name: &str| if to.starts_with("mem:") { format!("mem:{name}") } else { name.to_owned() };
        let to = full(inbox.name());
        for number in 0..12 {
            match number % 3 {
                0 => bob.send_to(&to, &stamped(number, 40)).unwrap(),
                1 => carol.send_to(&to, &stamped(number, 400)).unwrap(),
                _ => nobody.send_to(&to, &stamped(number, 8)).unwrap(),
            }
        }
        let number = |letter: Result<Letter<'_>, _>| number_in(&letter.unwrap());
        assert_eq!(number(inbox.recv_from(carol.name())), 1);
        assert_eq!(inbox.set_aside(), 1);
        assert_eq!(number(inbox.recv_from("")), 2);
        assert_eq!(number(inbox.recv_from("")), 5);
        assert_eq!(inbox.set_aside(), 3, "0, 3 and 4");
        assert_eq!(number(inbox.recv_from(bob.name())), 0);
        let rest: Vec<u64> = std::iter::from_fn(|| inbox.try_recv().ok().map(|letter| number_in(&letter))).collect();
        assert_eq!(rest, [3, 4, 6, 7, 8, 9, 10, 11]);
        assert!(matches!(inbox.try_recv_from("x").unwrap_err().reason(), MailFailure::Empty));
    }
}

#[test]
fn more_than_a_mailbox_holds_cannot_be_set_aside() {
    let _limit = place::limit(LIMIT);
    for (to, other) in pairs("aside") {
        let inbox = Mailbox::open(&format!("{to}?capacity=4")).unwrap();
        let bob = Mailbox::open(&other).unwrap();
        bob.send_to(inbox.name(), &stamped(0, 8)).unwrap();
        assert!(matches!(inbox.try_recv_from("carol").unwrap_err().reason(), MailFailure::Empty));
        // The oldest keeps its place, so three more fit, whoever sends them and though they are received.
        let carol = Mailbox::open(&format!("{other}-c")).unwrap();
        for number in 1..4 {
            carol.try_send_to(inbox.name(), &stamped(number, 8)).unwrap();
            assert_eq!(number_in(&inbox.recv_from(carol.name()).unwrap()), number);
        }
        let error = inbox.recv_from(carol.name()).unwrap_err();
        assert!(matches!(error.reason(), MailFailure::SetAside { letters: 1, capacity: 4 }), "{error}");
        assert!(error.to_string().contains("holds 4") && error.to_string().contains("?capacity="), "{error}");
        let error = carol.try_send_to(inbox.name(), b"one too many").unwrap_err();
        assert!(matches!(error.reason(), MailFailure::NotSent(_)), "{error}");
        assert_eq!(number_in(&inbox.recv().unwrap()), 0);
        carol.try_send_to(inbox.name(), &stamped(9, 8)).unwrap();
        assert_eq!(number_in(&inbox.recv_from(carol.name()).unwrap()), 9);
    }
}

type RecvFrom = for<'m> fn(&'m mut Mailbox, &str) -> Result<Letter<'m>, MailError>;

const BLOCKS: RecvFrom = |inbox, sender| inbox.recv_from(sender);
const AWAITS: RecvFrom = |inbox, sender| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(inbox.recv_from_async(sender))
};

/// It waits already when the mailbox becomes stuck.
#[test]
fn who_waits_when_the_mailbox_is_full_of_others_is_told() {
    let _limit = place::limit(LIMIT);
    for ((to, _), how) in pairs("stuck").into_iter().chain(pairs("stuck-async")).zip([BLOCKS, BLOCKS, AWAITS, AWAITS]) {
        let mut inbox = Mailbox::open(&format!("{to}?capacity=4")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let post = Post::new();
                for number in 0..4 {
                    std::thread::sleep(Duration::from_millis(3));
                    post.send_to(&to, &stamped(number, 8)).unwrap();
                }
            });
            let error = how(&mut inbox, "carol").unwrap_err();
            assert!(matches!(error.reason(), MailFailure::SetAside { letters: 4, capacity: 4 }), "{error}");
        });
        (0..4).for_each(|number| assert_eq!(number_in(&inbox.recv().unwrap()), number));
    }
}

/// There are places, but those letters have all the memory; the sender waits already, or comes later.
#[test]
fn who_waits_when_others_have_all_the_memory_is_told() {
    let _limit = place::limit(LIMIT);
    for ((to, _), how) in pairs("memory").into_iter().chain(pairs("memory-async")).zip([BLOCKS, BLOCKS, AWAITS, AWAITS])
    {
        let mut inbox = Mailbox::open(&format!("{to}?max=64KiB&memory=256KiB&wait=block")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let post = Post::new();
                (0..10).for_each(|number| post.send_to(&to, &stamped(number, 60_000)).unwrap());
            });
            let error = how(&mut inbox, "carol").unwrap_err();
            assert!(matches!(error.reason(), MailFailure::SetAside { .. }), "{error}");
            assert!(error.to_string().contains("?memory="), "{error}");
            (0..10).for_each(|number| assert_eq!(number_in(&inbox.recv().unwrap()), number));
        });
        // It has memory again.
        assert!(matches!(inbox.try_recv_from("carol").unwrap_err().reason(), MailFailure::Empty));
    }
}

#[test]
fn a_name_that_nobody_has_is_as_it_was_asked() {
    let _limit = place::limit(LIMIT);
    for (nobody, _) in pairs("absent") {
        let refusing = Post::new().absent(Absent::Refuse);
        let error = refusing.send_to(&nobody, b"x").unwrap_err();
        assert!(matches!(error.reason(), MailFailure::Nobody), "{error}");
        // Kept: for whoever comes.
        Post::new().send_to(&nobody, b"kept").unwrap();
        let error = refusing.send_to(&nobody, b"x").unwrap_err();
        assert!(matches!(error.reason(), MailFailure::Nobody), "letters are there, and still nobody: {error}");
        let owner = Mailbox::open(&nobody).unwrap();
        assert_eq!(&*owner.recv().unwrap(), b"kept");
        refusing.send_to(&nobody, b"now").unwrap();
        assert_eq!(&*owner.recv().unwrap(), b"now");
        drop(owner);
        let error = refusing.send_to(&nobody, b"x").unwrap_err();
        assert!(matches!(error.reason(), MailFailure::Nobody), "the owner has left: {error}");
        // Waiting.
        let waiting = Post::new().absent(Absent::Wait);
        let error = waiting.send_to_timeout(&nobody, b"x", Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error.reason(), MailFailure::TimedOut), "{error}");
        let error = waiting.try_send_to(&nobody, b"x").unwrap_err();
        assert!(matches!(error.reason(), MailFailure::Nobody), "{error}");
        std::thread::scope(|scope| {
            scope.spawn(|| waiting_send(&nobody));
            std::thread::sleep(Duration::from_millis(20)); // past spinning, asleep
            let owner = Mailbox::open(&nobody).unwrap();
            assert_eq!(&*owner.recv().unwrap(), b"at last");
            assert!(matches!(owner.try_recv().unwrap_err().reason(), MailFailure::Empty), "nothing that was refused");
        });
    }
}

fn waiting_send(to: &str) {
    Post::new().absent(Absent::Wait).send_to(&format!("{to}?wait=block"), b"at last").unwrap();
}

#[test]
fn a_mailbox_that_is_removed_while_somebody_waits_for_its_owner_is_made_anew() {
    let _limit = place::limit(LIMIT);
    let to = name("removed");
    std::thread::scope(|scope| {
        scope.spawn(|| waiting_send(&to));
        let link = Link::new(&format!("shm:{to}")).unwrap();
        while link.unlink(true).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let owner = Mailbox::open(&to).unwrap();
        assert_eq!(&*owner.recv_timeout(LIMIT).unwrap(), b"at last");
    });
}

#[test]
fn times_are_kept() {
    let _limit = place::limit(LIMIT);
    for (to, _) in pairs("times") {
        let inbox = Mailbox::open(&format!("{to}?capacity=1")).unwrap();
        let short = Duration::from_millis(5);
        let soon = || Instant::now() + short;
        for failed in [
            inbox.recv_timeout(short).map(drop),
            inbox.recv_deadline(soon()).map(drop),
            inbox.recv_from_timeout("x", short).map(drop),
            inbox.recv_from_deadline("x", soon()).map(drop),
        ] {
            assert!(matches!(failed.unwrap_err().reason(), MailFailure::TimedOut));
        }
        let post = Post::new();
        post.send_to(&to, b"fills it").unwrap();
        for failed in [post.send_to_timeout(&to, b"x", short), post.send_to_deadline(&to, b"x", soon())] {
            assert!(matches!(failed.unwrap_err().reason(), MailFailure::TimedOut));
        }
        let failed = post.try_send_to(&to, b"x").unwrap_err();
        assert!(failed.to_string().contains("full with 1 letters"), "{failed}");
    }
}

#[test]
fn waiting_is_interrupted() {
    let _limit = place::limit(LIMIT);
    let inbox = Mailbox::open(&name("interrupt")).unwrap();
    let interrupter = inbox.interrupter();
    std::thread::spawn(move || interrupter.interrupt());
    assert!(inbox.recv_from("x").unwrap_err().to_string().contains("interrupted"));
}

// ---- bad input

#[test]
fn bad_names_and_other_hosts_are_refused() {
    let _limit = place::limit(LIMIT);
    place::home();
    let post = Post::new();
    let refused = |to: &str| match post.send_to(to, b"x").unwrap_err() {
        e if matches!(e.reason(), MailFailure::Setup(_)) => e.to_string(),
        e => panic!("{to}: {e}"),
    };
    assert!(refused("bob@host").contains("another host") && refused("bob@host").contains("bob@host"));
    assert!(refused("a/b").contains("`/`") && refused("").contains("empty"));
    assert!(refused("fifo:/tmp/x").contains("may not hold `:`"));
    assert_eq!(Mailbox::open("bob@host").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Mailbox::open("bob@").unwrap_err().kind(), ErrorKind::InvalidAddress);
}

#[test]
fn a_letter_that_is_too_large_names_the_limit() {
    let _limit = place::limit(LIMIT);
    for (to, from) in pairs("large") {
        let inbox = Mailbox::open(&format!("{to}?max=1000")).unwrap();
        let from = Mailbox::open(&from).unwrap();
        let max = 1000 - 12 - from.name().len();
        from.send_to(inbox.name(), &vec![0; max]).unwrap();
        let error = from.send_to(inbox.name(), &vec![0; max + 1]).unwrap_err();
        assert!(matches!(error.reason(), MailFailure::TooLarge { max: most, .. } if *most == max as u64), "{error}");
    }
}

#[test]
fn shapes_are_not_mixed() {
    let _limit = place::limit(LIMIT);
    let (box_name, queue) = (name("shape"), address("shape", ""));
    let _inbox = Mailbox::open(&box_name).unwrap();
    let address = format!("shm:{box_name}");
    for error in [Sender::open(&address).unwrap_err(), Receiver::open(&address).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        assert!(error.to_string().contains("queue") && error.to_string().contains("mailbox"), "{error}");
        assert!(error.remedy_text().contains("`ginnel mail`"), "{error}");
    }
    let _queue = Receiver::open(&queue).unwrap();
    let error = Mailbox::open(&queue).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    let error = Post::new().send_to(&queue, b"x").unwrap_err().to_string();
    assert!(error.contains("queue") && error.contains("mailbox"), "{error}");
}

#[test]
fn hostile_letters_are_refused_one_by_one() {
    let _limit = place::limit(LIMIT);
    let to = name("hostile");
    let inbox = Mailbox::open(&to).unwrap();
    let forger = Link::new(&format!("shm:{to}")).unwrap().shape(Shape::Mailbox).sender().unwrap();
    let mut dice = Dice::new(3);
    for round in 0..200 * scale() {
        let mut bytes: Vec<u8> = (0..dice.below(300)).map(|_| dice.below(256) as u8).collect();
        if let (true, Some(version)) = (round % 2 == 0, bytes.first_mut()) {
            *version = 1;
        }
        forger.send(&bytes).unwrap();
        let found = if round % 3 == 0 { inbox.try_recv_from("x") } else { inbox.try_recv() };
        match found {
            Ok(letter) => assert_eq!(&*letter, &bytes[12 + letter.sender().len()..]),
            Err(e) => assert!(matches!(e.reason(), MailFailure::Malformed | MailFailure::Empty), "{e}"),
        }
    }
    while inbox.try_recv().is_ok() {}
    Post::new().send_to(&to, b"still works").unwrap();
    assert_eq!(&*inbox.recv().unwrap(), b"still works");
}

// ---- processes

#[test]
fn a_name_has_one_owner_while_that_lives() {
    let _limit = place::limit(LIMIT);
    let to = name("claimed");
    let mut owner = role(place::home());
    owner.must(&format!("open {to}"));
    let error = Mailbox::open(&to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    let text = error.to_string();
    assert!(text.contains(&owner.pid().to_string()) && text.contains(&std::process::id().to_string()), "{text}");
    owner.kill();
    let end = Instant::now() + TOLD;
    let inbox = loop {
        match Mailbox::open(&to) {
            Ok(inbox) => break inbox,
            Err(e) => assert!(Instant::now() < end, "the dead one keeps its name: {e}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    drop(inbox);
    let mut next = role(place::home());
    next.must(&format!("open {to}"));
    next.must("close");
    let _inbox = Mailbox::open(&to).unwrap();
}

#[test]
fn letters_of_a_killed_owner_go_to_the_next() {
    let _limit = place::limit(LIMIT);
    for from in ["one", "other"] {
        let to = name("inherit");
        let mut owner = role(place::home());
        owner.must(&format!("open {to}"));
        let one = Mailbox::open(&format!("one-{to}")).unwrap();
        let other = Mailbox::open(&format!("other-{to}")).unwrap();
        for number in 0..6 {
            let sender = if number < 3 { &one } else { &other };
            sender.send_to(&to, &stamped(number, 8 + 60 * number as usize)).unwrap();
        }
        // In hand, and perhaps with others set aside before it.
        let expected = if from == "one" { 0 } else { 3 };
        assert_eq!(owner.must(&format!("hold {from}-{to}")), expected.to_string());
        owner.kill_and_reap();
        let inbox = Mailbox::open(&to).unwrap();
        for number in 0..6 {
            let letter = inbox.recv_timeout(LIMIT).unwrap();
            assert_eq!((number_in(&letter), letter.redelivered()), (number, number <= expected));
            assert_eq!(letter.sender(), if number < 3 { one.name() } else { other.name() });
        }
    }
}

#[test]
fn a_sender_that_waits_for_an_owner_is_not_taken_in_by_a_dead_one() {
    let _limit = place::limit(LIMIT);
    let to = name("dead-owner");
    let mut owner = role(place::home());
    owner.must(&format!("open {to}"));
    let (refusing, waiting) = (Post::new().absent(Absent::Refuse), Post::new().absent(Absent::Wait));
    refusing.send_to(&to, b"one").unwrap();
    waiting.send_to(&to, b"two").unwrap();
    owner.kill_and_reap();
    assert!(matches!(refusing.send_to(&to, b"x").unwrap_err().reason(), MailFailure::Nobody));
    let error = waiting.send_to_timeout(&to, b"x", Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error.reason(), MailFailure::TimedOut), "{error}");
    let inbox = Mailbox::open(&to).unwrap();
    assert_eq!((&*inbox.recv().unwrap(), &*inbox.recv().unwrap()), (&b"one"[..], &b"two"[..]));
    assert!(inbox.try_recv().is_err());
}

/// Owners and senders that are killed at random: each letter comes once, in order, but for what was in a dead owner's hand.
#[test]
fn a_soak_with_kills() {
    let _limit = place::limit(2 * LIMIT + Duration::from_secs(4 * scale()));
    let directory = place::new_directory();
    let lasts = Duration::from_secs(2 * scale());
    let mut dice = Dice::new(0x3A11);
    let owner = || {
        let mut child = role(directory.path());
        child.must("open soak?capacity=64");
        child
    };
    let writer = |seed: u64| {
        let mut child = role(directory.path());
        child.must(&format!("open writer-{seed}"));
        child.tell("write soak?capacity=64");
        child
    };
    let mut reading = owner();
    let mut writers = [writer(0), writer(1)];
    let (mut generation, mut last) = (2, std::collections::BTreeMap::<String, u64>::new());
    let (end, mut kills, mut came, mut twice) = (Instant::now() + lasts, 0, 0u64, 0u64);
    while Instant::now() < end {
        let text = reading.must(&format!("read {}", 20 + dice.below(100)));
        for word in text.split(' ') {
            let (sender, number) = word.split_once('=').expect("a letter");
            let again = number.ends_with('r');
            let number: u64 = number.trim_end_matches('r').parse().expect("a number");
            let next = last.get(sender).map_or(0, |last| last + 1);
            came += 1;
            if again && number < next {
                twice += 1; // read before its owner died, and not let go of
                continue;
            }
            assert_eq!(number, next, "letters of {sender}");
            last.insert(sender.to_owned(), number);
        }
        if dice.below(2) == 0 {
            reading.kill_and_reap();
            reading = owner();
        } else {
            let at = dice.below(2) as usize;
            writers[at].kill_and_reap();
            writers[at] = writer(generation);
            generation += 1;
        }
        kills += 1;
    }
    println!("{kills} kills, {came} letters came, {twice} of them again");
    assert!(came > 0 && generation > 2);
}

fn role(directory: &std::path::Path) -> Child {
    let mut child = Child::start("mail", directory);
    child.reply().ok();
    child
}

/// A process that owns a mailbox and does what it is told.
pub(crate) fn run() {
    let mut inbox: Option<Mailbox> = None;
    say("ok ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("orders");
        match obey(&mut inbox, &line.split(' ').collect::<Vec<_>>()) {
            Ok(text) => say(&format!("ok {text}")),
            Err(text) => say(&format!("err {text}")),
        }
    }
}

fn obey(inbox: &mut Option<Mailbox>, order: &[&str]) -> Result<String, String> {
    let mine = || inbox.as_ref().expect("a mailbox");
    match order {
        // Senders wait for the next owner: one that keeps letters is told when a mailbox is full and nobody will make room.
        ["open", name] => *inbox = Some(Mailbox::open(name).map_err(|e| e.to_string())?.absent(Absent::Wait)),
        ["close"] => *inbox = None,
        ["hold", from] => {
            let letter = mine().recv_from(from).map_err(|e| e.to_string())?;
            let number = number_in(&letter);
            std::mem::forget(letter); // as good as held: it goes back when the handle is gone
            return Ok(number.to_string());
        }
        ["read", count] => {
            let mut words = Vec::new();
            for _ in 0..count.parse::<u64>().expect("a number") {
                let letter = mine().recv().map_err(|e| e.to_string())?;
                let again = if letter.redelivered() { "r" } else { "" };
                words.push(format!("{}={}{again}", letter.sender(), number_in(&letter)));
            }
            return Ok(words.join(" "));
        }
        ["write", to] => {
            for number in 0.. {
                let len = 8 + (number as usize * 37) % 400;
                mine().send_to(to, &stamped(number, len)).map_err(|e| e.to_string())?;
            }
        }
        _ => panic!("no such order: {order:?}"),
    }
    Ok(String::new())
}
