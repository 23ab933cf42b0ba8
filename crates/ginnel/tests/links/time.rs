//! Time: a deadline bounds the whole call, is not early, and a signal changes nothing. The end of the stream comes when the last
//! sender has left, but not to those who follow. Upper bounds are generous: a busy machine is no failure.
#![allow(unsafe_code)] // A signal handler and a timer; the time that a thread used.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, address, stamped, within};
use ginnel::{Link, Receiver, RecvFailure, SendFailure, Sender, Wait};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(60);
/// How late a machine with better things to do may be.
const LATE: Duration = Duration::from_secs(2);
const POLICIES: [Wait; 3] = [Wait::Adaptive, Wait::Block, Wait::Spin];

/// Runs something that must take at least `least`, and not much longer.
#[track_caller]
fn takes<R>(least: Duration, run: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = within(LIMIT, run);
    let took = begin.elapsed();
    assert!(took >= least, "too early: {took:?} of {least:?}");
    assert!(took < least + LATE, "too late: {took:?} for {least:?}");
    result
}

#[track_caller]
fn timed_out<T>(sent: Result<T, ginnel::SendError>) {
    let error = sent.err().expect("there is no room");
    assert!(matches!(error.reason(), SendFailure::TimedOut { .. }), "{error}");
}

/// A full link with little memory, and an empty one.
fn full_and_empty(wait: Wait) -> (Sender, Receiver, Receiver, Sender) {
    let full = Link::new(&address("full", "capacity=1&max=64KiB&memory=64KiB")).unwrap().wait(wait);
    let empty = Link::new(&address("empty", "")).unwrap().wait(wait);
    let (sender, beside) = (full.sender().unwrap(), full.receiver().unwrap());
    sender.send(&[0; 50_000]).unwrap();
    (sender, beside, empty.receiver().unwrap(), empty.sender().unwrap())
}

#[test]
fn no_timeout_is_early_or_much_too_late() {
    for wait in POLICIES {
        let (sender, _beside, receiver, _other) = full_and_empty(wait);
        assert_eq!(takes(SHORT, || receiver.recv_timeout(SHORT)).unwrap_err(), RecvFailure::TimedOut);
        let at = Instant::now() + SHORT;
        assert_eq!(takes(SHORT / 2, || receiver.recv_deadline(at)).unwrap_err(), RecvFailure::TimedOut);
        assert!(Instant::now() >= at);
        takes(SHORT, || timed_out(sender.send_timeout(b"small", SHORT)));
        assert_eq!(takes(SHORT, || receiver.recv_many_timeout(5, SHORT)).unwrap_err(), RecvFailure::TimedOut);
        let at = Instant::now() + SHORT;
        assert_eq!(takes(SHORT / 2, || receiver.recv_many_deadline(5, at)).unwrap_err(), RecvFailure::TimedOut);
        assert!(Instant::now() >= at);
        // One deadline for all of them.
        let several = [b"a", b"b", b"c"];
        takes(SHORT, || timed_out(sender.send_all_timeout(&several, SHORT).map_err(|e| e.error)));
        let at = Instant::now() + SHORT;
        takes(SHORT / 2, || timed_out(sender.send_all_deadline(&several, at).map_err(|e| e.error)));
        assert!(Instant::now() >= at);
        takes(SHORT, || timed_out(sender.send_timeout(&[0; 1000], SHORT)));
        let at = Instant::now() + SHORT;
        takes(SHORT / 2, || timed_out(sender.send_deadline(b"small", at)));
        assert!(Instant::now() >= at);
        let at = Instant::now() + SHORT;
        takes(SHORT / 2, || timed_out(sender.loan_deadline(50_000, at)));
        assert!(Instant::now() >= at);
        takes(SHORT, || timed_out(sender.loan_timeout(50_000, SHORT)));
        let at = Instant::now() + SHORT;
        takes(SHORT / 2, || timed_out(sender.send_tagged_deadline(7, b"small", at)));
        assert!(Instant::now() >= at);
        let loan = sender.loan(5).unwrap();
        takes(SHORT, || timed_out(loan.commit_timeout(SHORT).map_err(|e| e.error)));
    }
}

/// With a receiver that keeps up no single message waits, but all together take too long.
#[test]
fn the_deadline_of_several_is_that_of_the_whole_call() {
    let link = Link::new(&address("whole-call", "capacity=65536&max=64")).unwrap().wait(Wait::Spin);
    let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || while receiver.recv_many(64).is_ok() {});
        let messages = vec![[1u8; 8]; 4_000_000];
        let error = takes(SHORT, || sender.send_all_timeout(&messages, SHORT)).unwrap_err();
        assert!(error.sent > 0, "{error}");
        assert!(matches!(error.error.reason(), SendFailure::TimedOut { .. }), "{error}");
        drop(sender);
    });
}

#[test]
fn zero_time_tries_once() {
    for wait in POLICIES {
        let (sender, beside, receiver, other) = full_and_empty(wait);
        let past = Instant::now() - Duration::from_secs(5);
        takes(Duration::ZERO, || {
            assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap_err(), RecvFailure::TimedOut);
            assert_eq!(receiver.recv_deadline(past).unwrap_err(), RecvFailure::TimedOut);
            timed_out(sender.send_timeout(b"1", Duration::ZERO));
            timed_out(sender.send_deadline(b"1", past));
            timed_out(sender.loan_deadline(50_000, past));
        });
        other.send(b"1").unwrap();
        other.send(b"2").unwrap();
        assert_eq!(&*receiver.recv_timeout(Duration::ZERO).unwrap(), b"1");
        assert_eq!(&*receiver.recv_deadline(past).unwrap(), b"2");
        drop(beside.recv().unwrap());
        sender.send_timeout(b"1", Duration::ZERO).unwrap();
        drop(beside.recv().unwrap());
        sender.send_deadline(b"2", past).unwrap();
    }
}

#[test]
fn the_longest_time_is_for_ever() {
    let (_sender, _beside, receiver, other) = full_and_empty(Wait::Adaptive);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(SHORT);
            other.send(b"at last").unwrap();
        });
        let message = takes(Duration::ZERO, || receiver.recv_timeout(Duration::MAX)).unwrap();
        assert_eq!(&*message, b"at last");
    });
}

/// Wake-ups for messages that others take do not lengthen a wait.
#[test]
fn a_deadline_bounds_the_whole_call() {
    let link = Link::new(&address("stolen", "capacity=4")).unwrap();
    let (sender, thief, receiver) = (link.sender().unwrap(), link.receiver().unwrap(), link.receiver().unwrap());
    let until = Instant::now() + 10 * SHORT;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(message) = thief.recv() {
                drop(message);
            }
        });
        scope.spawn(move || {
            while Instant::now() < until {
                sender.send(b"x").unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        while Instant::now() < until {
            takes(Duration::ZERO, || drop(receiver.recv_timeout(SHORT / 10)));
        }
    });
}

#[test]
fn the_end_comes_when_the_link_is_drained() {
    for wait in POLICIES {
        let link = Link::new(&address("end", "")).unwrap().wait(wait);
        let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
        let other = sender.try_clone().unwrap();
        sender.send(b"1").unwrap();
        drop(sender);
        other.send(b"2").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(SHORT);
                other.send(b"3").unwrap();
                drop(other);
            });
            let got: Vec<u8> = takes(Duration::ZERO, || receiver.iter().map(|message| message[0]).collect());
            assert_eq!(got, b"123");
        });
        for _ in 0..2 {
            assert_eq!(takes(Duration::ZERO, || receiver.recv()).unwrap_err(), RecvFailure::Closed { died: 0 });
            assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
            assert_eq!(receiver.recv_timeout(LIMIT).unwrap_err(), RecvFailure::Closed { died: 0 });
        }
    }
}

#[test]
fn a_receiver_waits_for_the_first_sender() {
    let link = Link::new(&address("first", "")).unwrap();
    let receiver = link.receiver().unwrap();
    assert_eq!(receiver.recv_timeout(SHORT).unwrap_err(), RecvFailure::TimedOut);
    let sender = link.sender().unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    drop(sender);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Closed { died: 0 });
    // One that comes late to what was left finds it, and then the end.
    let link = Link::new(&address("late", "")).unwrap();
    link.sender().unwrap().send(b"left behind").unwrap();
    let receiver = link.receiver().unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"left behind");
    assert_eq!(within(LIMIT, || receiver.recv()).unwrap_err(), RecvFailure::Closed { died: 0 });
}

#[test]
fn a_follower_waits_for_the_next_one() {
    for wait in POLICIES {
        let link = Link::new(&address("follow", "capacity=1&max=64&follow")).unwrap().wait(wait);
        let receiver = link.receiver().unwrap();
        for round in 0..5u8 {
            let sender = link.sender().unwrap();
            sender.send(&[round]).unwrap();
            drop(sender);
            assert_eq!(*receiver.recv().unwrap(), [round]);
            assert!(receiver.is_closed());
            assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
            assert_eq!(receiver.recv_timeout(SHORT / 10).unwrap_err(), RecvFailure::TimedOut);
        }
        let sender = link.sender().unwrap();
        drop(receiver);
        sender.send(b"1").unwrap();
        timed_out(sender.send_timeout(b"2", SHORT / 10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SHORT);
                assert_eq!(&*link.receiver().unwrap().try_recv().unwrap(), b"1");
            });
            takes(Duration::ZERO, || sender.send(b"2")).unwrap();
        });
    }
}

#[test]
fn a_full_link_without_receivers_is_closed() {
    let link = Link::new(&address("unread", "capacity=2&max=64")).unwrap();
    let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
    drop(receiver);
    sender.send(b"1").unwrap();
    sender.send(b"2").unwrap();
    for sent in [sender.send(b"3"), sender.try_send(b"3"), sender.send_timeout(b"3", LIMIT)] {
        let error = sent.unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Closed { died: 0 }), "{error}");
    }
}

/// What interrupts a wait, interrupts one wait of one handle, now or the next.
#[test]
fn an_interrupter_ends_one_wait() {
    for wait in POLICIES {
        let (sender, beside, receiver, other) = full_and_empty(wait);
        let neighbour = receiver.try_clone().unwrap();
        let (of_receiver, of_sender) = (receiver.interrupter(), sender.interrupter());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SHORT);
                of_receiver.interrupt();
                std::thread::sleep(SHORT);
                of_sender.interrupt();
            });
            assert_eq!(takes(Duration::ZERO, || receiver.recv()).unwrap_err(), RecvFailure::Interrupted);
            let error = takes(Duration::ZERO, || sender.send(b"1")).unwrap_err();
            assert!(matches!(error.reason(), SendFailure::Interrupted), "{error}");
        });
        // It was used up; it takes no message away; a message that is there is received without a wait.
        assert_eq!(takes(SHORT / 6, || receiver.recv_timeout(SHORT / 6)).unwrap_err(), RecvFailure::TimedOut);
        of_receiver.interrupt();
        assert_eq!(takes(SHORT / 6, || neighbour.recv_timeout(SHORT / 6)).unwrap_err(), RecvFailure::TimedOut);
        other.send(b"there").unwrap();
        assert_eq!(&*receiver.recv().unwrap(), b"there");
        assert_eq!(takes(Duration::ZERO, || receiver.recv_timeout(LIMIT)).unwrap_err(), RecvFailure::Interrupted);
        of_sender.interrupt();
        drop(beside.recv().unwrap());
        sender.send(b"1").unwrap();
        drop((sender, receiver, neighbour));
        of_sender.interrupt();
        of_receiver.interrupt(); // nobody is there: nothing happens
    }
}

/// A thread that waits uses next to nothing of a core.
#[test]
fn waiting_costs_nothing() {
    for wait in [Wait::Adaptive, Wait::Block] {
        let (sender, _beside, receiver, _other) = full_and_empty(wait);
        let (begin, long) = (cpu_time(), Duration::from_secs(1));
        assert_eq!(receiver.recv_timeout(long).unwrap_err(), RecvFailure::TimedOut);
        timed_out(sender.send_timeout(b"1", long));
        let used = cpu_time() - begin;
        assert!(used < long / 2, "{used:?} of {:?}", 2 * long);
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in a struct that lives during the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

// ---- a storm of signals, in a process of its own

static ALARMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: libc::c_int) {
    ALARMS.fetch_add(1, Relaxed);
}

fn begin_storm() {
    let handler = on_alarm as extern "C" fn(libc::c_int);
    // SAFETY: an all-zero struct is a valid one: no flags, so system calls are not restarted, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: installs a handler that does nothing but add to an atomic.
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) }, 0);
    let every = libc::timeval { tv_sec: 0, tv_usec: 700 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: reads a struct that lives during the call.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
}

/// The role: waits in every way under a signal each 0.7 ms.
pub(crate) fn storm() {
    begin_storm();
    for wait in POLICIES {
        let link = |options: &str| Link::new(&format!("shm:storm-{wait:?}{options}")).unwrap().wait(wait);
        let (full, empty) = (link("-full?capacity=1&max=64"), link("-empty"));
        let (sender, _receiver) = (full.sender().unwrap(), full.receiver().unwrap());
        let (other, receiver) = (empty.sender().unwrap(), empty.receiver().unwrap());
        sender.send(b"1").unwrap();
        let long = 3 * SHORT;
        assert_eq!(takes(long, || receiver.recv_timeout(long)).unwrap_err(), RecvFailure::TimedOut);
        takes(long, || timed_out(sender.send_timeout(b"2", long)));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..100 {
                    std::thread::sleep(SHORT / 60);
                    other.send(&stamped(number, 8)).unwrap();
                }
            });
            assert_eq!(receiver.iter().count(), 100);
        });
    }
    say(&format!("ok {}", ALARMS.load(Relaxed)));
}

#[test]
fn signals_change_nothing() {
    let directory = place::new_directory();
    let mut child = Child::start("storm", directory.path());
    let alarms: u64 = child.reply().ok().parse().unwrap();
    assert!(alarms > 100, "only {alarms} signals came");
    child.finish();
}
