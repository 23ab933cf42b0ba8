//! Processes that are killed at any moment: what they had sent arrives, what they held goes back, who waits for them is told.
//! Times are from before kill(2) to the return of the blocked call, while the dead child is still an unreaped zombie.
#![allow(unsafe_code)] // fork and unshare, in children.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, number_in, scale, skipped, stamped};
use crate::script::linger;
use ginnel::{Link, Receiver, RecvFailure, SendFailure, Sender};
use ginnel_core::TOKEN_BASE;
use ginnel_os::ofd_lock::Token;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// By when a survivor must know. The promise is 100 ms; a busy test machine may be late.
const TOLD: Duration = Duration::from_secs(1);

/// A child that takes orders, with its links where this process has them.
fn scripted() -> Child {
    let mut child = Child::start("script", place::home());
    child.reply().ok();
    child
}

/// Prints the middle and the longest of some times.
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: {} runs, p50 {p50:?}, max {max:?}", times.len());
    assert!(max < TOLD, "{what}: told after {max:?}");
}

/// Kills a child while this process is blocked in a call; how long that call took to return, and what it said.
fn time_of_death<H: Sync, R: Send>(
    child: &mut Child,
    handle: &H,
    blocked: impl FnOnce(&H) -> R + Send,
) -> (Duration, R) {
    std::thread::scope(|scope| {
        let (ready, about_to) = mpsc::channel();
        let waiting = scope.spawn(move || {
            ready.send(()).expect("the other thread waits");
            let result = blocked(handle);
            (Instant::now(), result)
        });
        about_to.recv().expect("the thread starts");
        std::thread::sleep(Duration::from_millis(10)); // past spinning, asleep
        let killed = Instant::now();
        child.kill();
        let (told, result) = waiting.join().expect("a result");
        (told.saturating_duration_since(killed), result)
    })
}

/// A handle is used by one thread at a time: here by the blocked one.
struct Lent<H>(std::sync::Mutex<H>);

impl<H> Lent<H> {
    fn new(handle: H) -> Self {
        Self(std::sync::Mutex::new(handle))
    }

    fn with<R>(&self, run: impl FnOnce(&H) -> R) -> R {
        run(&self.0.lock().expect("nobody panicked with it"))
    }
}

/// A process without a descriptor for its watcher, nor for the repair of what a dead peer left: whoever is blocked there is told as soon as it has some.
#[test]
fn who_is_blocked_without_descriptors_is_told_when_there_are_some() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("starving", "");
    let (mut waiting, mut other) = (scripted(), scripted());
    waiting.must(&format!("receiver open {address}"));
    other.must(&format!("sender open {address}"));
    let open = std::fs::read_dir(format!("/proc/{}/fd", waiting.pid())).expect("a process that lives").count();
    waiting.must(&format!("limit nofile {open}"));
    waiting.tell("recv 1");
    std::thread::sleep(Duration::from_millis(50)); // past spinning, asleep
    other.kill_and_reap();
    std::thread::sleep(Duration::from_millis(50)); // whatever it was told by has come
    let many = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: reads a struct that lives during the call; the process is a child that was not reaped.
    unsafe { libc::prlimit(waiting.pid() as i32, libc::RLIMIT_NOFILE, &raw const many, std::ptr::null_mut()) };
    let [what, ..] = waiting.reply().err();
    assert_eq!(what, "Closed { died: 1 }");
}

/// The lowest number that no descriptor of a process has.
fn lowest_free(child: &Child) -> usize {
    let is_open = |number: &usize| std::fs::symlink_metadata(format!("/proc/{}/fd/{number}", child.pid())).is_ok();
    (0..).find(|number| !is_open(number)).expect("a process that lives")
}

/// One that has waited before needs no descriptor any more to repair what a dead peer left, and to be told.
#[test]
fn who_is_blocked_without_descriptors_is_told() {
    let _limit = place::limit(2 * LIMIT);
    for large in [false, true] {
        let address = address("starved", "max=1MiB");
        let (mut waiting, mut other) = (scripted(), scripted());
        waiting.must(&format!("receiver open {address}"));
        other.must(&format!("sender open {address}"));
        waiting.tell("recv 2");
        std::thread::sleep(Duration::from_millis(50));
        other.must("send 2 50 0"); // from now on it watches
        assert_eq!(waiting.reply().ok(), "0,1");
        let limit = lowest_free(&waiting);
        waiting.must(&format!("limit nofile {limit}"));
        for turn in 0..3 {
            waiting.tell("recv 1");
            std::thread::sleep(Duration::from_millis(50));
            if large {
                other.must(&format!("send 1 100000 {turn}"));
                assert_eq!(waiting.reply().ok(), turn.to_string());
                waiting.tell("recv 1");
            }
            other.kill_and_reap();
            let [what, ..] = waiting.reply().err();
            assert_eq!(what, format!("Closed {{ died: {} }}", turn + 1));
            other = scripted();
            other.must(&format!("sender open {address}"));
        }
    }
}

/// The watcher has looked as often as it does after a report, in vain, when there are descriptors at last.
#[test]
fn who_was_starved_for_long_is_told_when_there_are_some() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("long-starved", "");
    let (mut waiting, mut other) = (scripted(), scripted());
    waiting.must(&format!("receiver open {address}"));
    other.must(&format!("sender open {address}"));
    // For the watcher's news, and its inotify instance; none is left to keep in reserve.
    let limit = lowest_free(&waiting) + 2;
    waiting.must(&format!("limit nofile {limit}"));
    waiting.tell("recv 1");
    std::thread::sleep(Duration::from_millis(50));
    other.kill_and_reap();
    std::thread::sleep(Duration::from_millis(900));
    let many = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: reads a struct that lives during the call; the process is a child that was not reaped.
    unsafe { libc::prlimit(waiting.pid() as i32, libc::RLIMIT_NOFILE, &raw const many, std::ptr::null_mut()) };
    let [what, ..] = waiting.reply().err();
    assert_eq!(what, "Closed { died: 1 }");
}

/// The watcher had no descriptor to keep in reserve when it began. It keeps one when there are some, though nothing happens, and does without any from then on.
#[test]
fn who_had_none_to_keep_in_reserve_keeps_one_when_there_are_some() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("late-reserve", "");
    let (mut waiting, mut other) = (scripted(), scripted());
    waiting.must(&format!("receiver open {address}"));
    other.must(&format!("sender open {address}"));
    // For the watcher's news, and its inotify instance.
    let limit = lowest_free(&waiting) + 2;
    waiting.must(&format!("limit nofile {limit}"));
    waiting.tell("recv 1");
    until_open(&waiting, limit);
    set_descriptors(&waiting, 100);
    until_open(&waiting, limit + 1);
    set_descriptors(&waiting, limit as u64 + 1);
    other.kill_and_reap();
    let [what, ..] = waiting.reply().err();
    assert_eq!(what, "Closed { died: 1 }");
}

/// Until a process has so many descriptors.
fn until_open(child: &Child, many: usize) {
    while lowest_free(child) < many {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set_descriptors(child: &Child, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 100 };
    // SAFETY: reads a struct that lives during the call; the process is a child that was not reaped.
    unsafe { libc::prlimit(child.pid() as i32, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
}

#[test]
fn a_blocked_receiver_is_told() {
    let _limit = place::limit(2 * LIMIT);
    let mut times = Vec::new();
    for _ in 0..20 * scale() {
        let address = address("sender-dies", "");
        let receiver = Lent::new(Receiver::open(&address).unwrap());
        let mut child = scripted();
        child.must(&format!("sender open {address}"));
        child.must("send 3 50 0");
        receiver.with(|r| (0..3).for_each(|n| assert_eq!(number_in(&r.recv().unwrap()), n)));
        let (took, end) = time_of_death(&mut child, &receiver, |lent| lent.with(|r| r.recv().map(drop)));
        assert_eq!(end.unwrap_err(), RecvFailure::Closed { died: 1 });
        assert!(child.becomes_zombie(), "nobody reaped it");
        times.push(took);
    }
    report("receiver blocked, sender killed", times);
}

#[test]
fn a_blocked_sender_is_told() {
    let _limit = place::limit(2 * LIMIT);
    let mut times = Vec::new();
    for _ in 0..20 * scale() {
        let address = address("receiver-dies", "capacity=2&max=64");
        let sender = Lent::new(Sender::open(&address).unwrap());
        let mut child = scripted();
        child.must(&format!("receiver open {address}"));
        sender.with(|s| (0..2).for_each(|n| s.try_send(&stamped(n, 8)).unwrap()));
        assert_eq!(child.must("recv 1"), "0");
        let (took, end) = time_of_death(&mut child, &sender, |lent| {
            lent.with(|s| {
                loop {
                    if let Err(e) = s.send(b"more, until it is full for ever") {
                        return e;
                    }
                }
            })
        });
        assert!(matches!(end.reason(), SendFailure::Closed { died: 1 }), "{end}");
        assert!(child.becomes_zombie(), "nobody reaped it");
        times.push(took);
    }
    report("sender blocked, receiver killed", times);
}

/// On a busy machine a process that gives way to others takes long to die: between the kernel's report and the end of its
/// liveness token, others run.
#[test]
fn a_slow_death_is_noticed() {
    let _limit = place::limit(2 * LIMIT);
    let mut ends = Vec::new();
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while busy.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for _ in 0..5 * scale() {
            let address = address("slow", "max=64");
            let receiver = Lent::new(Receiver::open(&address).unwrap());
            let mut child = scripted();
            child.must(&format!("sender open {address}"));
            child.must("idle");
            let (_, end) =
                time_of_death(&mut child, &receiver, |lent| lent.with(|r| r.recv_timeout(20 * TOLD).map(drop)));
            ends.push(end);
        }
        busy.store(false, Relaxed);
    });
    assert!(ends.iter().all(|end| end.as_ref().is_err_and(|e| *e == RecvFailure::Closed { died: 1 })), "{ends:?}");
}

/// The child of a dead process lives on, with a copy of its descriptors and its memory.
#[test]
fn a_forked_child_does_not_keep_its_parent_alive() {
    let _limit = place::limit(2 * LIMIT);
    let mut times = Vec::new();
    for _ in 0..5 * scale() {
        let address = address("forked", "");
        let receiver = Lent::new(Receiver::open(&address).unwrap());
        let mut child = scripted();
        child.must(&format!("sender open {address}"));
        child.must("fork");
        let (took, end) = time_of_death(&mut child, &receiver, |lent| lent.with(|r| r.recv().map(drop)));
        assert_eq!(end.unwrap_err(), RecvFailure::Closed { died: 1 });
        times.push(took);
    }
    report("the same, its forked child lives", times);
}

/// Handles that the next role has open at the end, in a link with room for one more and a receiver.
const SENDERS: usize = 20;

/// The role: opens and closes senders in one thread while another forks children that live on. A child that got hold of a
/// token would keep its place of the table taken.
pub(crate) fn forker(address: &str) {
    let forking = std::thread::spawn(|| {
        let mut dice = Dice::new(5);
        for _ in 0..300 {
            // SAFETY: the child makes system calls only.
            if unsafe { libc::fork() } == 0 {
                linger();
            }
            (0..dice.below(20_000)).for_each(|_| std::hint::spin_loop());
        }
    });
    let mut senders = Vec::new();
    while senders.len() < SENDERS || !forking.is_finished() {
        senders.push(Sender::open(address).expect("a free place"));
        if senders.len() > SENDERS {
            senders.swap_remove(0);
        }
    }
    forking.join().expect("children");
    say("ok forked");
    std::thread::sleep(LIMIT);
}

/// As above, but the children were forked at any moment of opening.
#[test]
fn a_child_forked_while_a_handle_opens_does_not_keep_its_parent_alive() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("forker", &format!("participants={}&max=64", SENDERS + 2));
    let receiver = Lent::new(Receiver::open(&address).unwrap());
    let mut child = Child::start(&format!("forker {address}"), place::home());
    child.reply().ok();
    let (took, end) = time_of_death(&mut child, &receiver, |lent| lent.with(|r| r.recv_timeout(10 * TOLD).map(drop)));
    assert!(matches!(end.unwrap_err().reason(), RecvFailure::Closed { died: 20.. }), "told nothing in {took:?}");
    assert!(took < TOLD, "{took:?}");
}

/// The role: another role, whose process ids count in a namespace of their own.
pub(crate) fn nested(role: &str) {
    // SAFETY: takes an integer; the next child is the first process of a new namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return say(&format!("err io|||{}", std::io::Error::last_os_error()));
    }
    let mut first = Child::command(role).spawn().expect("a child in the namespace");
    first.wait().expect("a child that can be reaped");
}

/// The number that two processes have, one after the other.
const REUSED: u32 = 500;

/// The role, first in its namespace: a receiver that holds a message and is killed, and then a process with the same number.
pub(crate) fn reuser(address: &str) {
    let next = || std::fs::write("/proc/sys/kernel/ns_last_pid", (REUSED - 1).to_string());
    if let Err(error) = next() {
        return say(&format!("err io|||{error}"));
    }
    let directory = std::env::var(ginnel::DIRECTORY_VARIABLE).expect("the directory of the links");
    let scripted = || {
        let mut child = Child::start("script", Path::new(&directory));
        child.reply().ok();
        child
    };
    let mut first = scripted();
    first.must(&format!("receiver open {address}"));
    assert_eq!(first.must("hold 1"), "0");
    next().expect("it worked before");
    let killed = first.pid();
    first.kill_and_reap();
    let second = scripted();
    say(&format!("ok {killed} {}", second.pid()));
    std::thread::sleep(LIMIT); // until this one is killed, and with it the namespace
}

#[test]
fn a_death_in_another_pid_namespace_is_noticed() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("namespace", "");
    let receiver = Lent::new(Receiver::open(&address).unwrap());
    let mut child = Child::start("nested script", place::home());
    let ready = child.reply();
    if !ready.text().starts_with("ok") {
        return skipped(ready.text());
    }
    child.must(&format!("sender open {address}"));
    let info = Link::new(&address).unwrap().info().unwrap();
    let theirs = info.participants.iter().find(|p| p.role == ginnel::Role::Sender).expect("it joined");
    assert!(theirs.alive && !theirs.same_pid_namespace, "{theirs:?}");
    let (took, end) = time_of_death(&mut child, &receiver, |lent| lent.with(|r| r.recv().map(drop)));
    assert_eq!(end.unwrap_err(), RecvFailure::Closed { died: 1 });
    report("sender in another namespace killed", vec![took]);
}

/// A process that has the number of a dead one is not taken for it.
#[test]
fn a_reused_process_id_keeps_nobody_alive() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("reused", "");
    let sender = Sender::open(&address).unwrap();
    sender.send(&stamped(0, 16)).unwrap();
    let mut child = Child::start(&format!("nested reuser {address}"), place::home());
    let ready = child.reply();
    if !ready.text().starts_with("ok") {
        return skipped(ready.text());
    }
    assert_eq!(ready.text(), format!("ok {REUSED} {REUSED}"));
    let receiver = Receiver::open(&address).unwrap();
    let message = receiver.recv_timeout(LIMIT).unwrap();
    assert!(message.redelivered());
    assert_eq!(number_in(&message), 0);
    let info = Link::new(&address).unwrap().info().unwrap();
    assert_eq!((info.died, info.participants.len()), (1, 2));
}

#[test]
fn what_a_dead_receiver_held_is_delivered_again() {
    let _limit = place::limit(2 * LIMIT);
    for bytes in [16, 5000] {
        let address = address("redelivered", "capacity=16&max=8KiB");
        let sender = Sender::open(&address).unwrap();
        let mut child = scripted();
        child.must(&format!("receiver open {address}"));
        for number in 0..10 {
            sender.send(&stamped(number, bytes)).unwrap();
        }
        assert_eq!(child.must("recv 2"), "0,1");
        assert_eq!(child.must("hold 3"), "2,3,4");
        child.kill_and_reap();
        let receiver = Receiver::open(&address).unwrap();
        assert_eq!((receiver.len(), sender.len()), (8, 8), "messages that went back are in the link");
        let got: Vec<_> = receiver.try_iter().map(|m| (number_in(&m), m.redelivered())).collect();
        assert_eq!(got, (2..10).map(|n| (n, n < 5)).collect::<Vec<_>>());
        assert_eq!((receiver.len(), receiver.dropped()), (0, 0));
        sender.send(&stamped(10, bytes)).unwrap();
        assert!(!receiver.recv().unwrap().redelivered());
    }
}

#[test]
fn a_batch_that_a_dead_receiver_held_is_delivered_again() {
    let _limit = place::limit(2 * LIMIT);
    for bytes in [16, 5000] {
        let address = address("batch", "capacity=16&max=8KiB");
        let sender = Sender::open(&address).unwrap();
        let mut child = scripted();
        child.must(&format!("receiver open {address}"));
        sender.send_all(&(0..10).map(|n| stamped(n, bytes)).collect::<Vec<_>>()).unwrap();
        assert_eq!(child.must("recv 2"), "0,1");
        let held = child.must("grab 5").split(',').count() as u64;
        child.kill_and_reap();
        let receiver = Receiver::open(&address).unwrap();
        let got: Vec<_> = receiver.try_iter().map(|m| (number_in(&m), m.redelivered())).collect();
        assert_eq!(got, (2..10).map(|n| (n, n < 2 + held)).collect::<Vec<_>>());
    }
}

/// Another receiver was there all the time, asleep.
#[test]
fn a_sleeping_receiver_gets_what_a_dead_one_held() {
    let _limit = place::limit(2 * LIMIT);
    let mut times = Vec::new();
    for _ in 0..10 * scale() {
        let address = address("taken-over", "");
        let sender = Sender::open(&address).unwrap();
        let mut child = scripted();
        child.must(&format!("receiver open {address}"));
        sender.send(&stamped(7, 300)).unwrap();
        assert_eq!(child.must("hold 1"), "7");
        let receiver = Lent::new(Receiver::open(&address).unwrap());
        let (took, got) = time_of_death(&mut child, &receiver, |lent| {
            lent.with(|r| r.recv().map(|message| (number_in(&message), message.redelivered())))
        });
        assert_eq!(got.unwrap(), (7, true));
        times.push(took);
    }
    report("receiver blocked, the one that held its message killed", times);
}

/// The stream has not ended while a message that a dead receiver held has still to go back.
#[test]
fn the_end_comes_after_what_goes_back() {
    let _limit = place::limit(2 * LIMIT);
    for round in 0..20 * scale() {
        let address = address("end", "");
        let sender = Sender::open(&address).unwrap();
        let receiver = Receiver::open(&address).unwrap();
        let mut child = scripted();
        child.must(&format!("receiver open {address}"));
        sender.send_all(&(0..3).map(|n| stamped(n, 16)).collect::<Vec<_>>()).unwrap();
        assert_eq!(child.must("hold 3"), "0,1,2");
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
        drop(sender);
        child.kill_and_reap();
        let got: Vec<u64> = receiver.iter().map(|m| number_in(&m)).collect();
        assert_eq!(got, [0, 1, 2], "round {round}");
    }
}

/// A survivor took a dead receiver's token, and was preempted before it did anything: the end still comes after what goes back.
#[test]
fn the_end_comes_after_a_slow_survivor() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("slow-survivor", "");
    let mut dead = [scripted(), scripted()];
    dead[0].must(&format!("sender open {address}"));
    dead[1].must(&format!("receiver open {address}"));
    dead[0].must("send 3 16 0");
    assert_eq!(dead[1].must("hold 3"), "0,1,2");
    dead.iter_mut().for_each(Child::kill_and_reap);
    let file = std::fs::File::open(place::file_of(&address)).unwrap();
    let token = Token::take(file.as_fd(), TOKEN_BASE + 1).unwrap().expect("its holder is dead");
    let receiver = Receiver::open(&address).unwrap();
    drop(Sender::open(&address).unwrap());
    let seen = receiver.recv_timeout(Duration::from_millis(50)).map(|m| number_in(&m));
    assert_eq!(seen.unwrap_err(), RecvFailure::TimedOut, "three messages have still to go back");
    drop(token);
    let got: Vec<_> = receiver.iter().map(|m| (number_in(&m), m.redelivered())).collect();
    assert_eq!(got, [(0, true), (1, true), (2, true)]);
}

#[test]
fn when_all_are_killed_the_next_one_gets_everything() {
    let _limit = place::limit(2 * LIMIT);
    for bytes in [16, 300] {
        let address = address("all-dead", "capacity=128");
        let mut senders = [scripted(), scripted()];
        let mut reader = scripted();
        for (sender, first) in senders.iter_mut().zip([0, 1000]) {
            sender.must(&format!("sender open {address}"));
            sender.must(&format!("send 50 {bytes} {first}"));
        }
        reader.must(&format!("receiver open {address}"));
        reader.must("hold 10");
        senders.iter_mut().chain([&mut reader]).for_each(Child::kill);
        senders.iter_mut().chain([&mut reader]).for_each(|child| assert!(!child.reap().success()));
        let receiver = Receiver::join(&address).unwrap();
        let got: Vec<_> = receiver.iter().map(|m| (number_in(&m), m.redelivered())).collect();
        assert_eq!(got, (0..50).chain(1000..1050).map(|n| (n, n < 10)).collect::<Vec<_>>());
        let info = Link::new(&address).unwrap().info().unwrap();
        assert_eq!((info.died, info.messages, info.dropped, info.pool.used), (3, 0, 0, 0));
    }
}

#[test]
fn the_block_of_a_dead_sender_comes_back() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("loan", "capacity=4&max=64KiB&memory=64KiB");
    let sender = Lent::new(Sender::open(&address).unwrap());
    let _receiver = Receiver::open(&address).unwrap();
    let mut times = Vec::new();
    for round in 0..10 * scale() {
        let mut child = scripted();
        child.must(&format!("sender open {address}"));
        child.must("loan 60000"); // the only block
        let refused = sender.with(|s| s.try_loan(50_000).map(drop)).unwrap_err();
        assert!(matches!(refused.reason(), SendFailure::NoMemory { ceiling: 65_536 }), "{refused}");
        let (took, loan) = time_of_death(&mut child, &sender, |lent| lent.with(|s| s.loan(50_000).map(drop)));
        assert!(loan.is_ok(), "round {round}: {loan:?}");
        times.push(took);
    }
    report("sender blocked on memory, the one that had it killed", times);
}

/// A dropping link counts what was lost in the hands of the dead, and only that.
#[test]
fn what_a_dead_receiver_of_a_dropping_link_held_is_counted() {
    let _limit = place::limit(2 * LIMIT);
    let address = address("dropping", "capacity=8&max=64KiB&memory=256KiB&full=drop-oldest&participants=2");
    let sender = Sender::open(&address).unwrap();
    let dropped = || Link::new(&address).unwrap().info().unwrap().dropped;
    let mut child = scripted();
    child.must(&format!("receiver open {address}"));
    sender.send_all(&(0..3).map(|n| stamped(n, 16)).collect::<Vec<_>>()).unwrap();
    child.must("hold 2");
    child.must("close"); // the guards were forgotten: what was received is not lost
    child.must(&format!("receiver open {address}"));
    assert_eq!(dropped(), 0);
    assert_eq!(child.must("recv 1"), "2");
    child.kill_and_reap();
    let receiver = Receiver::open(&address).unwrap(); // in the same place of the table
    assert_eq!(dropped(), 0, "the dead one held nothing");
    drop(receiver);
    let mut child = scripted();
    child.must(&format!("receiver open {address}"));
    sender.send_all(&(3..8).map(|n| stamped(n, 20_000)).collect::<Vec<_>>()).unwrap();
    child.must("hold 2");
    child.kill_and_reap();
    let receiver = Receiver::open(&address).unwrap();
    assert_eq!(dropped(), 2);
    assert_eq!(receiver.try_iter().map(|m| number_in(&m)).collect::<Vec<_>>(), [5, 6, 7]);
}

/// One who is told of the death and leaves then is the last, and removes the link.
#[test]
fn the_survivor_removes_the_link() {
    let _limit = place::limit(2 * LIMIT);
    let mut left = 0;
    for _ in 0..30 * scale() {
        let address = address("survivor", "max=64");
        let receiver = Receiver::open(&address).unwrap();
        let mut child = scripted();
        child.must(&format!("sender open {address}"));
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvFailure::TimedOut);
        child.kill();
        assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 1 });
        drop(receiver);
        let gone = || !place::file_of(&address).exists();
        let gone_soon = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            gone()
        });
        left += u64::from(!gone_soon);
    }
    assert_eq!(left, 0, "links without participants and messages are left");
}

/// Kills at random moments of whole lives, from the start of a process on; whatever that leaves, the next pair works, and
/// afterwards nothing is left that is not collected.
#[test]
fn random_kills_harm_nobody() {
    let _limit = place::limit(2 * LIMIT);
    let directory = place::new_directory();
    let start = || Child::start("script", directory.path());
    let mut dice = Dice::new(8);
    for round in 0..50 * scale() {
        let mut pair = [start(), start()];
        let bytes = dice.pick(&[16, 112, 300, 4000]);
        pair[0].tell(&format!("sender open shm:random?capacity=8&max=4096&memory=128KiB\nflood {bytes}"));
        pair[1].tell("receiver open shm:random?capacity=8&max=4096&memory=128KiB\ndrain");
        if dice.one_in(2) {
            pair.iter_mut().for_each(|child| assert_eq!(child.reply().ok(), "ready")); // they have started
        }
        std::thread::sleep(Duration::from_micros(dice.below(20_000)));
        let first = dice.index(2);
        pair[first].kill();
        std::thread::sleep(Duration::from_micros(dice.below(2000)));
        if dice.one_in(4) {
            pair[1 - first].kill();
        }
        drop(pair);
        if round % 10 == 9 {
            a_fresh_pair_works(start(), start());
        }
    }
    let mut last = start();
    last.reply().ok();
    last.must("receiver open shm:random");
    last.must("sweep");
    last.must("close");
    let cleaned = last.must("clean real");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left; cleaned {cleaned}");
}

/// The link may hold messages of the dead, torn ones never: `drain` looks at every byte.
fn a_fresh_pair_works(mut sender: Child, mut receiver: Child) {
    sender.reply().ok();
    receiver.reply().ok();
    sender.must("sender open shm:random"); // first, or what the dead left could be the whole stream
    receiver.must("receiver open shm:random");
    receiver.tell("drain");
    sender.must("send 1000 500 0");
    sender.must("close");
    let (count, end) =
        receiver.reply().ok().split_once(' ').map(|(c, e)| (c.parse::<u64>().unwrap(), e.to_owned())).unwrap();
    assert!(count >= 1000, "{count}");
    assert_eq!(end, "Closed { died: 0 }");
}
