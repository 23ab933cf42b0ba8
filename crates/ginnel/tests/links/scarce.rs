//! Where the kernel has no inotify instance or watch left: who waits for several links, in an event loop or in a task, is told the limit, its value
//! and what raises it; who waits for one link needs none. And where it has no thread left for the watcher, whose place is taken by looks now and then.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, skipped, within};
use crate::script;
use ginnel::{ErrorKind, Receiver, RecvFailure, Select, SendFailure, Sender};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What there is none of, and the limit as the kernel calls it.
const SCARCE: [(&str, &str); 2] =
    [("instances", "user.max_inotify_instances"), ("watches", "user.max_inotify_watches")];

#[test]
fn the_limit_is_told() {
    for (what, limit) in SCARCE {
        let directory = place::new_directory();
        let prepare = format!("echo 0 > /proc/sys/{}", limit.replace('.', "/"));
        let mut child = Child::start_apart(&format!("scarce {what}"), directory.path(), &prepare);
        match child.try_reply(LIMIT) {
            Some(reply) => _ = reply.ok(),
            None => skipped("no user namespace can be had"),
        }
    }
}

#[test]
fn without_a_thread_nothing_is_used_up_and_one_starts_when_it_may() {
    let directory = place::new_directory();
    let mut child = Child::start("scarce threads", directory.path());
    if child.reply_within(LIMIT).ok() == "skip" {
        skipped("this process may start threads beyond its limit");
    }
}

/// The lowest number that no descriptor has.
fn next_descriptor() -> i32 {
    std::fs::File::open("/dev/null").expect("a file that is everywhere").as_raw_fd()
}

fn is_watched_by_a_thread() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process").flatten();
    tasks
        .into_iter()
        .any(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "ginnel-watch"))
}

fn without_threads() {
    let _ = script::become_user(65534); // root has no such limit
    script::limit("nproc", 0).expect("a limit can be lowered");
    if std::thread::Builder::new().spawn(|| ()).is_ok() {
        return say("ok skip");
    }
    let (_sender, receiver) = (Sender::open("mem:scarce").unwrap(), Receiver::open("mem:scarce").unwrap());
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    let next = next_descriptor();
    for _ in 0..4 {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(50)).unwrap_err(), RecvFailure::TimedOut);
    }
    assert_eq!(next_descriptor(), next, "each try took some");
    assert!(!is_watched_by_a_thread());
    script::limit("nproc", u64::MAX).expect("a limit can be raised again");
    while !is_watched_by_a_thread() {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvFailure::TimedOut);
    }
    assert_eq!(next_descriptor(), next);
    say("ok");
}

/// The role.
pub(crate) fn role(what: &str) {
    if what == "threads" {
        return without_threads();
    }
    let (_, limit) = SCARCE.into_iter().find(|(name, _)| *name == what).unwrap();
    within(LIMIT, || {
        let (mut sender, mut receiver) = (Sender::open("shm:scarce").unwrap(), Receiver::open("shm:scarce").unwrap());
        let told = |text: String| {
            for word in ["shm:scarce", &*format!("{limit} allows"), &*format!("sysctl -w {limit}=")] {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
            assert!(!text.contains("ulimit") && !text.contains("ginnel"), "{text}");
        };
        for error in [receiver.readiness().unwrap_err(), sender.readiness().unwrap_err()] {
            let kind = if what == "instances" { ErrorKind::NoDescriptors } else { ErrorKind::NoSpace };
            assert_eq!(error.kind(), kind, "{error}");
            told(error.to_string());
        }
        assert!(Select::new().recv(&receiver).try_now().is_none(), "who does not wait needs nothing");
        let error = Select::new().recv(&receiver).wait().arrival.message().unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(receiver.recv_async()).unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(sender.send_async(b"x")).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Os(_)), "{error}");
        told(error.to_string());
        sender.send(b"still").unwrap();
        assert_eq!(&*receiver.recv().unwrap(), b"still");
    });
    say("ok");
}
