//! Who makes a link, who removes it, what is left: opening at once, strict modes, limits, looking, unlinking, cleaning. What
//! looks at a whole directory has one of its own, in other processes.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, address, file_of, name_of, number_in, scale, stamped, within};
use ginnel::{ErrorKind, Full, Link, Liveness, Mode, Receiver, RecvFailure, Role, Sender};
use ginnel_core::TOKEN_BASE;
use ginnel_os::ofd_lock::Token;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[track_caller]
fn refused<T>(result: Result<T, ginnel::Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.err().expect("this should have failed");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(words.iter().all(|word| error.to_string().contains(word)), "{error} does not say {words:?}");
    assert!(!error.remedy_text().is_empty(), "{error} says no remedy");
}

fn scripted(directory: &Path) -> Child {
    let mut child = Child::start("script", directory);
    child.reply().ok();
    child
}

#[test]
fn modes_are_strict() {
    let address = address("modes", "");
    let name = name_of(&address);
    refused(Sender::join(&address), ErrorKind::NotFound, &[name]);
    refused(Receiver::join(&address), ErrorKind::NotFound, &[name]);
    assert!(!file_of(&address).exists(), "looking for a link does not make it");
    let sender = Sender::create(&address).unwrap();
    refused(Sender::create(&address), ErrorKind::AlreadyExists, &[name]);
    refused(Receiver::create(&address), ErrorKind::AlreadyExists, &[name]);
    let receiver = Receiver::join(&address).unwrap();
    let another = Receiver::open(&address).unwrap();
    sender.send(b"one link").unwrap();
    assert_eq!((receiver.len(), another.len(), sender.len()), (1, 1, 1));
    drop((sender, another));
    assert_eq!(&*receiver.recv().unwrap(), b"one link");
    drop(receiver);
    refused(Receiver::join(&address), ErrorKind::NotFound, &[name]);
    let receiver = Receiver::create(&address).unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty, "another link of the same name");
}

#[test]
fn the_last_to_leave_an_empty_link_removes_it() {
    let address = address("last", "");
    let file = file_of(&address);
    for sender_first in [true, false] {
        let (sender, receiver) = (Sender::open(&address).unwrap(), Receiver::open(&address).unwrap());
        let clone = sender.try_clone().unwrap();
        sender.send(b"1").unwrap();
        drop(receiver.recv().unwrap());
        drop(clone);
        assert!(file.exists());
        if sender_first {
            drop(sender);
            assert!(file.exists());
            drop(receiver);
        } else {
            drop(receiver);
            assert!(file.exists());
            drop(sender);
        }
        assert!(!file.exists());
    }
}

#[test]
fn a_link_with_messages_stays() {
    let address = address("stays", "capacity=16&max=8KiB");
    let link = Link::new(&address).unwrap();
    link.sender().unwrap().send_all(&(0..3).map(|n| stamped(n, 1000)).collect::<Vec<_>>()).unwrap();
    let info = link.info().unwrap();
    assert_eq!((info.liveness, info.messages, info.participants.len()), (Liveness::Waiting, 3, 0));
    refused(link.unlink(false), ErrorKind::InUse, &["3 messages"]);
    refused(Sender::create(&address), ErrorKind::AlreadyExists, &[]);
    let receiver = Receiver::join(&address).unwrap();
    assert_eq!(receiver.try_iter().map(|m| number_in(&m)).collect::<Vec<_>>(), [0, 1, 2]);
    drop(receiver);
    assert!(!file_of(&address).exists());
    refused(link.info(), ErrorKind::NotFound, &[name_of(&address)]);
    link.sender().unwrap().send(b"never read").unwrap();
    link.unlink(true).unwrap();
    assert!(!file_of(&address).exists());
}

/// A message that was held by a receiver that is gone counts as one, for those who look and those who remove.
#[test]
fn a_message_that_went_back_keeps_the_link() {
    let address = address("went-back", "");
    let link = Link::new(&address).unwrap();
    let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
    sender.send(&stamped(4, 50)).unwrap();
    std::mem::forget(receiver.recv().unwrap());
    drop((sender, receiver));
    let info = link.info().unwrap();
    assert_eq!((info.liveness, info.messages), (Liveness::Waiting, 1));
    refused(link.unlink(false), ErrorKind::InUse, &["1 message"]);
    let receiver = link.receiver().unwrap();
    let message = receiver.try_recv().unwrap();
    assert_eq!((number_in(&message), message.redelivered()), (4, true));
}

#[test]
fn unlinking_asks_unless_forced() {
    let address = address("unlink", "");
    let link = Link::new(&address).unwrap();
    refused(link.unlink(false), ErrorKind::NotFound, &[name_of(&address)]);
    refused(link.unlink(true), ErrorKind::NotFound, &[name_of(&address)]);
    let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
    refused(link.unlink(false), ErrorKind::InUse, &["2 handles"]);
    link.unlink(true).unwrap();
    assert!(!file_of(&address).exists());
    // Those who are attached go on with each other; nobody joins them.
    sender.send(b"still here").unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"still here");
    refused(link.clone().mode(Mode::Join).receiver(), ErrorKind::NotFound, &[]);
    assert!(sender.try_clone().is_err());
    let stranger = link.sender().unwrap();
    stranger.send(b"elsewhere").unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    drop(sender);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    drop(receiver);
    assert!(file_of(&address).exists(), "the other link keeps its name");
    link.unlink(true).unwrap();
}

#[test]
fn info_tells_what_is_there() {
    let address = address("info", "capacity=8&max=4096&memory=128KiB&participants=5&full=reject&senders=2&receivers=3");
    let link = Link::new(&address).unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
    sender.send_all(&[vec![1; 10], vec![2; 1000], vec![3; 20]]).unwrap();
    drop(receiver.recv().unwrap());
    let info = link.info().unwrap();
    assert_eq!(info.address, format!("shm:{}", name_of(&address)));
    assert_eq!(info.path, file_of(&address));
    assert_eq!((info.liveness, info.messages, info.sent, info.taken), (Liveness::Live, 2, 3, 1));
    assert_eq!((info.dropped, info.died), (0, 0));
    let g = info.geometry;
    assert_eq!((g.capacity, g.max, g.memory, g.participants), (8, 4096, 128 << 10, 5));
    assert_eq!((g.full, g.senders, g.receivers), (Full::Reject, 2, 3));
    assert!(info.created_ns >= before && info.allocated >= 4096);
    assert_eq!((info.pool.used, info.pool.ceiling), (1024, 128 << 10));
    let people: Vec<_> = info.participants.iter().map(|p| (p.role, p.alive, p.pid, p.same_pid_namespace)).collect();
    let pid = std::process::id();
    assert_eq!(people, [(Role::Sender, true, pid, true), (Role::Receiver, true, pid, true)]);
    let counted: Vec<_> = info.participants.iter().map(|p| (p.counters.messages, p.counters.bytes)).collect();
    assert_eq!(counted, [(3, 1030), (1, 10)]);
    assert!(info.participants.iter().all(|p| p.joined_ns >= before));
}

#[test]
fn limits_of_a_side_hold_and_are_given_back() {
    let address = address("limits", "senders=1&receivers=2");
    let words: &[&str] = &[name_of(&address), "senders=1"];
    let sender = Sender::open(&address).unwrap();
    let receivers = [Receiver::open(&address).unwrap(), Receiver::open(&address).unwrap()];
    for _ in 0..50 {
        refused(Sender::open(&address), ErrorKind::TooManyHandles, words);
        refused(sender.try_clone(), ErrorKind::TooManyHandles, words);
        refused(receivers[0].try_clone(), ErrorKind::TooManyHandles, &["receivers=2"]);
    }
    drop(sender);
    let sender = Sender::open(&address).unwrap();
    sender.send(b"1").unwrap();
    drop((sender, receivers));
    for _ in 0..5 {
        let mut child = scripted(place::home());
        child.must(&format!("sender open {address}"));
        refused(Sender::open(&address), ErrorKind::TooManyHandles, words);
        child.kill_and_reap();
        drop(Sender::open(&address).unwrap());
    }
    Link::new(&address).unwrap().unlink(true).unwrap();
}

#[test]
fn places_at_the_table_run_out_and_come_back() {
    let address = address("places", "participants=4");
    let mut handles: Vec<_> = (0..4).map(|_| Sender::open(&address).unwrap()).collect();
    refused(Receiver::open(&address), ErrorKind::TooManyHandles, &[name_of(&address), "4 handles", "participants="]);
    refused(handles[0].try_clone(), ErrorKind::TooManyHandles, &["4 handles"]);
    for at in 0..4 {
        handles.swap_remove(at);
        handles.push(Sender::open(&address).unwrap());
    }
    let clone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handles[0].clone()));
    assert!(clone.is_err(), "`clone` panics where `try_clone` fails");
}

#[test]
fn other_options_do_not_join() {
    let made = address("mismatch", "capacity=64&max=8KiB&memory=1MiB&participants=9&full=reject&senders=3&receivers=2");
    let _sender = Sender::open(&made).unwrap();
    let bare = format!("shm:{}", name_of(&made));
    let others = [
        ("capacity=128", "capacity=64"),
        ("max=4096", "max=8192"),
        ("memory=2MiB", "memory=1048576"),
        ("participants=8", "participants=9"),
        ("full=block", "reject"),
        ("senders=2", "senders=3"),
        ("receivers=0", "receivers=2"),
    ];
    for (wanted, is) in others {
        let wanted_value = wanted.split('=').nth(1).unwrap().trim_end_matches("MiB");
        refused(Sender::open(&format!("{bare}?{wanted}")), ErrorKind::Mismatch, &[name_of(&made), is, wanted_value]);
    }
    Receiver::open(&bare).unwrap();
    Receiver::open(&made).unwrap();
}

/// What a crash left behind, with nothing in it, does not stand in the way of one who wants other options.
#[test]
fn an_empty_leftover_does_not_dictate_options() {
    let address = address("leftover", "capacity=64");
    let mut child = scripted(place::home());
    child.must(&format!("sender open {address}"));
    child.kill_and_reap();
    let other = format!("shm:{}?capacity=128", name_of(&address));
    let sender = Sender::open(&other).unwrap();
    assert_eq!(sender.capacity(), 128);
}

/// The same while another process is about to recover who was killed: it took the token, and was preempted.
#[test]
fn a_leftover_that_is_being_recovered_does_not_stand_in_the_way() {
    type Verdict = fn(&str) -> Result<(), ginnel::Error>;
    let verdicts: [(&str, Verdict); 3] = [
        ("mismatch", |name| {
            Sender::open(&format!("{name}?capacity=128")).map(|sender| assert_eq!(sender.capacity(), 128))
        }),
        ("create", |name| Sender::create(name).map(drop)),
        ("unlink", |name| Link::new(name).and_then(|link| link.unlink(false))),
    ];
    for (what, verdict) in verdicts {
        within(LIMIT, || {
            let address = address(what, "capacity=64");
            let mut child = scripted(place::home());
            child.must(&format!("sender open {address}"));
            child.kill_and_reap();
            let file = std::fs::File::open(file_of(&address)).unwrap();
            let token = Token::take(file.as_fd(), TOKEN_BASE).unwrap().expect("its holder is dead");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(50));
                    drop(token);
                });
                verdict(&format!("shm:{}", name_of(&address))).unwrap();
            });
        });
    }
}

#[test]
fn creating_over_an_empty_leftover_works() {
    let address = address("recreate", "");
    for _ in 0..3 {
        let mut child = scripted(place::home());
        child.must(&format!("sender create {address}"));
        child.kill_and_reap();
    }
    let mut child = scripted(place::home());
    child.must(&format!("sender create {address}"));
    child.must("send 1 10 0");
    child.kill_and_reap();
    refused(Sender::create(&address), ErrorKind::AlreadyExists, &[name_of(&address)]);
    assert_eq!(Receiver::join(&address).unwrap().try_iter().count(), 1);
}

// ---- two processes at once

/// Now, on a clock that all processes share.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Spins until then: two processes that do so go on within a microsecond or two.
fn meet_at(instant: Duration) {
    while now() < instant {
        std::hint::spin_loop();
    }
}

const EVERY: Duration = Duration::from_millis(4);
/// A link that is made quickly. A receiver may meet the sender of the last round, who leaves: that is not its end.
const RACE: &str = "capacity=4&max=64&follow";

/// A place is never refused while fewer handles are open than may be, however fast they come and go.
#[test]
fn a_free_place_is_found() {
    for others in [2, 4] {
        let address = address("busy-table", &format!("participants={}&capacity=4&max=64", others + 1));
        let _steady = Receiver::open(&address).unwrap();
        within(LIMIT, || {
            std::thread::scope(|scope| {
                for _ in 0..others {
                    scope.spawn(|| (0..500 * scale()).for_each(|_| drop(Sender::open(&address).unwrap())));
                }
            });
        });
    }
}

/// The role: at each instant that the other one does too, opens the same link, says or hears one word, and leaves. Or creates, and
/// says how often it was first.
pub(crate) fn racer(what: &str) {
    let [what, begin_ns, rounds] = std::array::from_fn(|at| what.split(' ').nth(at).expect("three words"));
    let begin = Duration::from_nanos(begin_ns.parse().expect("a time"));
    let mut first = Vec::new();
    for round in 0..rounds.parse().expect("a number") {
        meet_at(begin + EVERY * round);
        match what {
            "send" => {
                let sender = Sender::open(&format!("shm:race?{RACE}")).expect("a link");
                sender.send(&stamped(u64::from(round), 50)).expect("room");
            }
            "recv" => {
                let receiver = Receiver::open(&format!("shm:race?{RACE}")).expect("a link");
                let message = within(LIMIT, || receiver.recv_timeout(LIMIT)).expect("a message");
                assert_eq!(number_in(&message), u64::from(round));
            }
            _ => match Sender::create(&format!("shm:create-{round}?{RACE}")) {
                Ok(link) => first.push(link), // kept until both have tried them all
                Err(e) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}"),
            },
        }
    }
    say(&format!("ok {}", first.len()));
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn race(one: &str, other: &str) -> [u64; 2] {
    let directory = place::new_directory();
    let begin = (now() + Duration::from_millis(200)).as_nanos();
    let rounds = 200 * scale();
    let start = |what: &str| Child::start(&format!("racer {what} {begin} {rounds}"), directory.path());
    let mut racers = [start(one), start(other)];
    let first = [0, 1].map(|at: usize| racers[at].reply_within(4 * LIMIT).ok().parse().unwrap());
    racers.into_iter().for_each(Child::finish);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left");
    first
}

#[test]
fn two_that_open_at_once_get_one_link() {
    race("send", "recv");
}

#[test]
fn of_two_that_create_at_once_one_does() {
    let first = race("create", "create");
    println!("first by {first:?}");
    assert_eq!(first[0] + first[1], 200 * scale(), "{first:?}");
}

// ---- looking and cleaning

#[test]
fn the_list_tells_the_living_from_the_left() {
    let directory = place::new_directory();
    let mut looker = scripted(directory.path());
    assert_eq!((looker.must("list"), looker.must("clean real")), (String::new(), String::new()));
    let mut living = scripted(directory.path());
    living.must("sender open shm:b-live");
    living.must("send 2 10 0");
    let mut writer = scripted(directory.path());
    writer.must("sender open shm:c-waiting");
    writer.must("send 3 1000 0");
    writer.must("close");
    let mut dead = scripted(directory.path());
    dead.must("sender open shm:a-stale");
    dead.kill_and_reap();
    let before = "shm:a-stale Stale 0 Sender-;shm:b-live Live 2 Sender+;shm:c-waiting Waiting 3";
    assert_eq!(looker.must("list"), before);
    // A dry run says what would be done, and does not.
    assert_eq!(looker.must("clean dry"), "shm:a-stale dead=1 removed=true");
    assert_eq!(looker.must("list"), before);
    assert_eq!(looker.must("clean real"), "shm:a-stale dead=1 removed=true");
    assert_eq!(looker.must("list"), "shm:b-live Live 2 Sender+;shm:c-waiting Waiting 3");
    assert_eq!((looker.must("clean real"), looker.must("clean dry")), (String::new(), String::new()));
    living.must("receiver join shm:c-waiting");
    assert_eq!(living.must("sweep"), "3");
}

/// What a dead process left with messages in it: the dead are cleaned away, the messages stay.
#[test]
fn cleaning_loses_no_message() {
    let directory = place::new_directory();
    let mut looker = scripted(directory.path());
    let mut dead = scripted(directory.path());
    dead.must("sender open shm:left");
    dead.must("send 3 10 0");
    dead.must("receiver open shm:left");
    dead.must("hold 2");
    dead.kill_and_reap();
    assert_eq!(looker.must("clean dry"), "shm:left dead=2 removed=false");
    assert_eq!(looker.must("clean real"), "shm:left dead=2 removed=false");
    assert_eq!(looker.must("list"), "shm:left Waiting 3");
    assert_eq!(looker.must("clean real"), "");
    looker.must("receiver open shm:left");
    assert_eq!(looker.must("recv 3"), "0r,1r,2");
}

/// A dead one beside a living one is recovered, the link stays.
#[test]
fn cleaning_beside_the_living() {
    let directory = place::new_directory();
    let mut looker = scripted(directory.path());
    let (mut living, mut dead) = (scripted(directory.path()), scripted(directory.path()));
    living.must("receiver open shm:half");
    dead.must("sender open shm:half");
    dead.must("send 2 10 0");
    dead.kill_and_reap();
    assert_eq!(looker.must("list"), "shm:half Live 2 Receiver+ Sender-");
    assert_eq!(looker.must("clean dry"), "shm:half dead=1 removed=false");
    assert_eq!(looker.must("clean real"), "shm:half dead=1 removed=false");
    assert_eq!(looker.must("list"), "shm:half Live 2 Receiver+");
    assert_eq!(living.must("drain"), "2 Closed { died: 1 }");
}

/// A link whose name looks like an address is cleaned itself, and not the one that it seems to name.
#[test]
fn cleaning_takes_names_by_the_letter() {
    let directory = place::new_directory();
    let mut looker = scripted(directory.path());
    let mut dead = scripted(directory.path());
    dead.must("sender open shm:shm:odd");
    dead.kill_and_reap();
    assert_eq!(looker.must("list"), "shm:shm:odd Stale 0 Sender-");
    assert_eq!(looker.must("clean real"), "shm:shm:odd dead=1 removed=true");
    assert_eq!(looker.must("list"), "");
}

/// The role: cleans as often as it can.
pub(crate) fn cleaner(rounds: &str) {
    for _ in 0..rounds.parse().expect("a number") {
        for cleaned in ginnel::clean(false).expect("a directory") {
            // Another cleaner may be in the middle of the same link.
            cleaned.unwrap_or_else(|e| panic!("{e}"));
        }
    }
    say("ok");
}

#[test]
fn cleaners_harm_no_bystander() {
    let directory = place::new_directory();
    let mut cleaners: Vec<_> =
        (0..4).map(|_| Child::start(&format!("cleaner {}", 300 * scale()), directory.path())).collect();
    let (mut sender, mut receiver) = (scripted(directory.path()), scripted(directory.path()));
    sender.must("sender open shm:bystander?capacity=16&max=4096&memory=256KiB");
    receiver.must("receiver open shm:bystander");
    receiver.tell("drain");
    let messages = 20_000 * scale();
    sender.tell(&format!("send {messages} 300 0"));
    for round in 0..10 * scale() {
        let mut dead = scripted(directory.path());
        dead.must(&format!("sender open shm:dead-{round}"));
        dead.must("sender open shm:bystander");
        dead.kill_and_reap();
    }
    sender.reply_within(4 * LIMIT).ok();
    sender.must("close");
    let end = receiver.reply_within(LIMIT).ok();
    assert!(end.starts_with(&format!("{messages} Closed")), "{end}");
    for cleaner in &mut cleaners {
        cleaner.reply_within(4 * LIMIT).ok();
    }
    receiver.must("close");
    receiver.must("clean real");
    assert_eq!(receiver.must("list"), "");
}

/// A clone knows what its original knew: that there was a peer.
#[test]
fn a_clone_knows_that_the_last_peer_has_left() {
    let _limit = crate::place::limit(crate::place::LIMIT);
    let address = crate::place::address("clone-of-the-left", "");
    let receiver = ginnel::Receiver::open(&address).unwrap();
    drop(ginnel::Sender::open(&address).unwrap());
    let clone = receiver.try_clone().unwrap();
    drop(receiver);
    let soon = std::time::Duration::from_millis(200);
    assert_eq!(clone.recv_timeout(soon).unwrap_err(), ginnel::RecvFailure::Closed { died: 0 });
}

/// Only what a queue carries can be unbounded: the other shapes have their own ends.
#[test]
fn what_is_no_queue_is_never_unbounded() {
    for shape in ["broadcast", "latest"] {
        let asked = format!("shm:unbounded-{shape}?unbounded&shape={shape}");
        refused(Sender::open(&asked), ErrorKind::InvalidOption, &[shape, "unbounded"]);
    }
}
