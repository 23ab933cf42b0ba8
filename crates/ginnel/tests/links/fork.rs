//! A forked child and the handles of its parent: it can do nothing with them, and nothing that it does to them disturbs the
//! parent. It opens its own.
#![allow(unsafe_code)] // fork, clone, waitpid.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, number_in, stamped, within};
use ginnel::{Link, Receiver, RecvFailure, Select, SendError, SendFailure, Sender};
use std::time::Duration;

/// Scenarios, each in a process of its own: forking the test program itself would copy the locks of its other tests.
const SCENARIOS: [(&str, fn()); 8] = [
    ("nothing-works", nothing_works_in_the_child),
    ("drops", drops_in_the_child_are_harmless),
    ("held", what_the_parent_holds_stays_its_own),
    ("own", the_child_opens_its_own),
    ("raw", a_raw_clone_is_noticed),
    ("asleep", a_fork_while_another_thread_sleeps),
    ("listens", news_stay_with_their_process),
    ("looks", looking_writes_nothing),
];

/// The role: runs one scenario.
pub(crate) fn role(name: &str) {
    let (_, scenario) = SCENARIOS.iter().find(|(known, _)| *known == name).expect("a scenario");
    within(LIMIT, scenario);
    say("ok");
}

fn run(name: &str) {
    let directory = place::new_directory();
    let mut child = Child::start(&format!("fork {name}"), directory.path());
    child.reply_within(2 * LIMIT).ok();
    child.finish();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left");
}

#[test]
fn a_child_cannot_use_its_parents_handles() {
    run("nothing-works");
}

#[test]
fn a_child_that_drops_them_disturbs_nobody() {
    run("drops");
    run("held");
    run("looks");
}

#[test]
fn a_child_opens_its_own() {
    run("own");
    run("asleep");
    run("listens");
}

#[test]
fn a_child_made_without_libc_is_noticed_too() {
    run("raw");
}

/// Runs a closure in a forked child, which must end well.
pub(crate) fn in_child(run: impl FnOnce()) {
    // SAFETY: this process has no other thread that holds a lock: the watcher sleeps, libtest waits.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a child");
    if child == 0 {
        end_child(run);
    }
    reap(child);
}

fn end_child(run: impl FnOnce()) -> ! {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok();
    // SAFETY: leaves without the destructors of the parent's copy.
    unsafe { libc::_exit(i32::from(!done)) }
}

fn reap(child: libc::pid_t) {
    assert_eq!(status_of(child), 0, "the child failed");
}

/// How a forked child ended, once it has.
pub(crate) fn status_of(child: libc::pid_t) -> libc::c_int {
    let mut status = -1;
    loop {
        // SAFETY: waits for the child that this process started; `status` lives during the call.
        match unsafe { libc::waitpid(child, &raw mut status, 0) } {
            -1 => assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted),
            _ => return status,
        }
    }
}

fn forked<T>(sent: Result<T, SendError>) {
    let error = sent.err().expect("a handle of the parent");
    assert!(matches!(error.reason(), SendFailure::Forked), "{error}");
}

fn pair(options: &str) -> (Sender, Receiver) {
    let link = Link::new(&format!("shm:forked?{options}")).unwrap();
    (link.sender().unwrap(), link.receiver().unwrap())
}

/// A child that asks its parent's handles how full the link is does not touch their entries: here it could not.
fn looking_writes_nothing() {
    for options in ["", "unbounded", "shape=broadcast", "shape=latest"] {
        let (sender, receiver) = pair(options);
        sender.send("one").unwrap();
        in_child(|| {
            forbid_writing();
            assert_eq!((sender.len(), receiver.len(), sender.is_full()), (1, 1, false), "{options}");
            assert!(format!("{sender:?}{receiver:?}").contains("forked"));
        });
        assert_eq!(&*receiver.recv().unwrap(), b"one");
        drop((sender, receiver));
        let _ = Link::new("shm:forked").unwrap().unlink(true);
    }
}

/// From now on a write to a link's mapping kills the process.
fn forbid_writing() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let links = maps.lines().filter(|line| line.ends_with("/forked"));
    let mut found = 0;
    for line in links {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        // SAFETY: takes a right away from a mapping of this child's, whose writers are what is tested.
        let done = unsafe { libc::mprotect(start as *mut libc::c_void, end - start, libc::PROT_READ) };
        assert_eq!(done, 0, "{line}");
        found += 1;
    }
    assert!(found > 0, "no mapping of a link in {maps}");
}

/// Messages go from one handle to the other as if nothing had happened.
fn goes_on(sender: &Sender, receiver: &Receiver) {
    for number in 0..100 {
        sender.send(&stamped(number, 8 + 13 * number as usize)).unwrap();
        let message = receiver.recv_timeout(LIMIT).unwrap();
        assert_eq!((number_in(&message), message.redelivered()), (number, false));
    }
}

/// A child has a copy of the descriptor that tells its parent of news, and takes none of them.
fn news_stay_with_their_process() {
    let (sender, receiver) = pair("capacity=16");
    let mut select = Select::new().recv(&receiver);
    assert!(select.wait_timeout(SHORT).is_none());
    in_child(|| {
        assert_eq!(select.try_now().unwrap().arrival.message().unwrap_err(), RecvFailure::Forked);
        let own = Link::new("shm:own").unwrap().pair().unwrap();
        let mut select = Select::new().recv(&own.1);
        for number in 0..20 {
            assert!(select.wait_timeout(Duration::from_millis(1)).is_none());
            own.0.send(&stamped(number, 8)).unwrap();
            assert_eq!(number_in(&select.wait().arrival.message().unwrap()), number);
        }
        drop(select);
        drop(own);
    });
    for number in 0..100 {
        assert!(select.wait_timeout(Duration::from_millis(1)).is_none());
        sender.send(&stamped(number, 8)).unwrap();
        assert_eq!(number_in(&select.wait().arrival.message().unwrap()), number);
    }
}

const SHORT: Duration = Duration::from_millis(5);

fn nothing_works_in_the_child() {
    let (sender, receiver) = pair("capacity=16");
    goes_on(&sender, &receiver); // both sides have been used, and are this process's
    sender.send(b"for the parent").unwrap();
    in_child(|| {
        forked(sender.send(b"1"));
        forked(sender.try_send(&[1; 500]));
        forked(sender.send_timeout(b"1", SHORT));
        forked(sender.send_deadline(b"1", std::time::Instant::now()));
        forked(sender.send_tagged(7, b"1"));
        forked(sender.send_all(&[b"1"]).map_err(|e| e.error));
        forked(sender.loan(8));
        forked(sender.try_loan(1000));
        assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Forked);
        assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Forked);
        assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::Forked);
        assert_eq!(receiver.recv_many(3).unwrap_err(), RecvFailure::Forked);
        assert_eq!(receiver.iter().count() + receiver.try_iter().count(), 0);
        for error in [sender.try_clone().err(), receiver.try_clone().err()] {
            let error = error.expect("a handle of the parent");
            assert!(error.to_string().contains("parent") && !error.remedy_text().is_empty(), "{error}");
        }
    });
    assert_eq!(&*receiver.recv_timeout(LIMIT).unwrap(), b"for the parent");
    goes_on(&sender, &receiver);
}

fn drops_in_the_child_are_harmless() {
    let (sender, receiver) = pair("capacity=4&max=8KiB&memory=64KiB");
    goes_on_small(&sender, &receiver);
    sender.send(&stamped(1, 16)).unwrap();
    sender.send(&stamped(2, 5000)).unwrap();
    sender.send(&stamped(3, 5000)).unwrap();
    in_child(|| {
        drop(take(&sender));
        drop(take(&receiver));
    });
    let numbers: Vec<u64> = receiver.try_iter().map(|m| number_in(&m)).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(!sender.is_closed() && !receiver.is_closed());
    goes_on_small(&sender, &receiver);
    let info = Link::new("shm:forked").unwrap().info().unwrap();
    assert_eq!((info.participants.len(), info.died, info.pool.used), (2, 0, 0));
}

fn goes_on_small(sender: &Sender, receiver: &Receiver) {
    for number in 0..50 {
        sender.send(&stamped(number, 8 + 100 * number as usize)).unwrap();
        assert_eq!(number_in(&receiver.recv_timeout(LIMIT).unwrap()), number);
    }
}

/// In a child: its copy of what the parent goes on to own.
fn take<T>(of: &T) -> T {
    // SAFETY: this process is a copy that ends by _exit(2); the original of the value in its memory is never used again.
    unsafe { std::ptr::read(of) }
}

/// Guards and loans that the parent has out, and that the child drops, commits, or writes to.
fn what_the_parent_holds_stays_its_own() {
    let (sender, receiver) = pair("capacity=4&max=8KiB&memory=128KiB");
    sender.send(&stamped(1, 16)).unwrap();
    sender.send(&stamped(2, 5000)).unwrap();
    let guards = [receiver.recv().unwrap(), receiver.recv().unwrap()];
    let mut small = sender.loan(16).unwrap();
    small.copy_from_slice(&stamped(3, 16));
    let mut large = sender.loan(5000).unwrap();
    large.copy_from_slice(&stamped(4, 5000));
    let loans = [small, large];
    in_child(|| {
        drop(take(&guards));
        let [small, large] = take(&loans);
        forked(small.try_commit().map_err(SendError::from));
        forked(large.commit());
    });
    in_child(|| drop(take(&loans)));
    in_child(|| {
        let mut loans = std::mem::ManuallyDrop::new(take(&loans));
        std::panic::set_hook(Box::new(|_| {})); // it is meant to panic
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loans[1][0] = 99));
        assert!(written.is_err(), "the child wrote into its parent's loan");
    });
    let [first, second] = guards;
    assert_eq!((number_in(&first), number_in(&second)), (1, 2));
    drop((second, first));
    for loan in loans {
        loan.commit().unwrap();
    }
    let numbers: Vec<u64> = receiver.try_iter().map(|m| number_in(&m)).collect();
    assert_eq!(numbers, [3, 4]);
    goes_on_small(&sender, &receiver);
    let info = Link::new("shm:forked").unwrap().info().unwrap();
    assert_eq!((info.pool.used, info.messages), (0, 0));
}

fn the_child_opens_its_own() {
    let (sender, receiver) = pair("capacity=8");
    in_child(|| {
        let (own, other) = pair("capacity=8");
        own.send(b"from the child").unwrap();
        assert_eq!(&*other.recv_timeout(LIMIT).unwrap(), b"from the child");
        own.send(b"to the parent").unwrap();
        assert_eq!(other.try_clone().unwrap().capacity(), 8);
        // Its child, too.
        in_child(|| Sender::join("shm:forked").unwrap().send(b"from the grandchild").unwrap());
    });
    assert_eq!(&*receiver.recv_timeout(LIMIT).unwrap(), b"to the parent");
    assert_eq!(&*receiver.recv_timeout(LIMIT).unwrap(), b"from the grandchild");
    goes_on(&sender, &receiver);
    // One that is not closed when its process ends counts as a death, and is noticed.
    in_child(|| std::mem::forget(Sender::join("shm:forked").unwrap()));
    drop(sender);
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap_err(), RecvFailure::Closed { died: 1 });
}

fn a_raw_clone_is_noticed() {
    let (sender, receiver) = pair("capacity=8");
    sender.send(b"before").unwrap();
    // SAFETY: as fork(2), without what libc does around it; the child only makes calls that find out that it is one.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    assert!(child >= 0, "a child");
    if child == 0 {
        let sent = matches!(sender.try_send(b"1").map_err(|e| matches!(e.reason(), SendFailure::Forked)), Err(true));
        let received = receiver.try_recv().is_err_and(|e| e == RecvFailure::Forked);
        // SAFETY: leaves without destructors.
        unsafe { libc::_exit(i32::from(!(sent && received))) };
    }
    reap(child as libc::pid_t);
    assert_eq!(&*receiver.recv_timeout(LIMIT).unwrap(), b"before");
    goes_on(&sender, &receiver);
}

/// The watcher and a sleeping thread exist when the process forks; the child waits, and is told of a death, by its own.
fn a_fork_while_another_thread_sleeps() {
    let (sender, receiver) = pair("capacity=8");
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(move || {
            let message = receiver.recv_timeout(LIMIT).unwrap().to_vec();
            (message, receiver)
        });
        std::thread::sleep(10 * SHORT);
        in_child(|| {
            let (own, other) = pair("capacity=8");
            assert_eq!(other.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
            drop(own);
        });
        sender.send(b"good morning").unwrap();
        let (message, receiver) = sleeping.join().unwrap();
        assert_eq!(message, b"good morning");
        goes_on(&sender, &receiver);
    });
    let receiver = Receiver::open("shm:another").unwrap();
    in_child(|| {
        let sender = Sender::join("shm:another").unwrap();
        in_child(|| std::mem::forget(Receiver::join("shm:another").unwrap()));
        sender.send(b"alive").unwrap();
    });
    assert_eq!(&*receiver.recv_timeout(LIMIT).unwrap(), b"alive");
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap_err(), RecvFailure::Closed { died: 0 });
}
