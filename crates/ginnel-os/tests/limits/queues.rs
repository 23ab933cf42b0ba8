//! Message queues of POSIX and of System V.

use crate::apart::{apart, told};
use ginnel_os::mqueue::{self, Options, Shape};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_mq::{Buffer, Overlong, Queue, Which};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

fn posix(name: &str, capacity: usize, message_size: usize) -> std::io::Result<mqueue::Queue> {
    mqueue::Queue::create(name, Options { shape: Some(Shape { capacity, message_size }), ..Options::default() })
}

/// A queue with a message in it.
fn kept() -> mqueue::Queue {
    let queue = posix("/kept", 1, 8).unwrap();
    queue.try_send(b"kept", 0).unwrap();
    queue
}

fn is_kept(queue: &mqueue::Queue) {
    let mut buffer = [0; 8];
    assert_eq!(queue.try_receive(&mut buffer).unwrap(), (4, 0));
}

#[test]
fn posix_queues_too_deep_or_with_too_long_messages() {
    let prepare = "echo 5 >/proc/sys/fs/mqueue/msg_max && echo 200 >/proc/sys/fs/mqueue/msgsize_max";
    apart("queues::posix_queues_too_deep_or_with_too_long_messages", prepare, || {
        let queue = kept();
        let deep = ["6 messages", "fs.mqueue.msg_max is 5", "sysctl"];
        told("mq: queue of more than msg_max messages", || posix("/deep", 6, 8), &deep);
        let long = ["201 bytes", "fs.mqueue.msgsize_max is 200", "sysctl"];
        told("mq: messages above msgsize_max", || posix("/long", 1, 201), &long);
        told("mq: message longer than the queue's", || queue.try_send(&[0; 9], 0), &["8 bytes", "9", "larger"]);
        is_kept(&queue);
    });
}

#[test]
fn posix_queues_of_too_many_bytes() {
    apart("queues::posix_queues_of_too_many_bytes", ":", || {
        let queue = kept();
        setrlimit(Resource::Msgqueue, Rlimit { current: Some(10_000), maximum: Some(10_000) }).unwrap();
        let words = ["RLIMIT_MSGQUEUE", "10000", "ulimit -q"];
        told("mq: queues of more bytes than RLIMIT_MSGQUEUE", || posix("/large", 10, 1000), &words);
        is_kept(&queue);
    });
}

#[test]
fn too_many_posix_queues() {
    apart("queues::too_many_posix_queues", "echo 1 >/proc/sys/fs/mqueue/queues_max", || {
        let queue = kept();
        let words = ["fs.mqueue.queues_max allows 1", "unlink", "sysctl"];
        let more = || {
            let _second = posix("/second", 1, 8)?;
            posix("/third", 1, 8)
        };
        told("mq: more queues than queues_max", more, &words);
        is_kept(&queue);
    });
}

fn message(len: usize) -> Buffer {
    let mut buffer = Buffer::new(len).unwrap();
    buffer.set(1, &vec![7; len]).unwrap();
    buffer
}

fn receives(queue: Queue, len: usize) {
    let mut buffer = Buffer::new(100).unwrap();
    queue.try_receive(&mut buffer, Which::Any, Overlong::Refuse).unwrap();
    assert_eq!(buffer.bytes().len(), len);
}

#[test]
fn system_v_queues_of_too_many_bytes() {
    apart("queues::system_v_queues_of_too_many_bytes", "echo 64 >/proc/sys/kernel/msgmnb", || {
        let queue = Queue::create(Key::PRIVATE, 0o600).unwrap();
        queue.try_send(&message(40)).unwrap();
        let words = ["room for 64", "100", "kernel.msgmnb"];
        told("sysv: message above the queue's room", || queue.send(&message(100), None), &words);
        let soon = Some(Instant::now() + Duration::from_millis(30));
        let full = told("sysv: full queue until a deadline", || queue.send(&message(40), soon), &[]);
        assert_eq!(full.kind(), ErrorKind::TimedOut);
        assert_eq!(queue.try_send(&message(40)).unwrap_err().kind(), ErrorKind::WouldBlock);
        receives(queue, 40);
    });
}

#[test]
fn system_v_messages_that_are_too_long() {
    apart("queues::system_v_messages_that_are_too_long", "echo 32 >/proc/sys/kernel/msgmax", || {
        let queue = Queue::create(Key::PRIVATE, 0o600).unwrap();
        queue.try_send(&message(32)).unwrap();
        let words = ["33 bytes", "32 of kernel.msgmax", "sysctl"];
        told("sysv: message above msgmax", || queue.send(&message(33), None), &words);
        receives(queue, 32);
        let mut short = Buffer::new(8).unwrap();
        queue.try_send(&message(32)).unwrap();
        let receive = || queue.try_receive(&mut short, Which::Any, Overlong::Refuse);
        told("sysv: message longer than the buffer", receive, &["8 bytes", "left", "larger"]);
        receives(queue, 32);
    });
}

#[test]
fn too_many_system_v_queues() {
    apart("queues::too_many_system_v_queues", "echo 1 >/proc/sys/kernel/msgmni", || {
        let queue = Queue::create(Key::PRIVATE, 0o600).unwrap();
        queue.try_send(&message(8)).unwrap();
        let words = ["kernel.msgmni allows 1", "ipcrm -q", "sysctl"];
        told("sysv: more queues than msgmni", || Queue::create(Key::PRIVATE, 0o600), &words);
        receives(queue, 8);
    });
}

#[test]
fn a_queue_that_is_removed_under_a_waiter() {
    apart("queues::a_queue_that_is_removed_under_a_waiter", ":", || {
        let queue = Queue::create(Key::PRIVATE, 0o600).unwrap();
        let waiting = std::thread::spawn(move || {
            let mut buffer = Buffer::new(8).unwrap();
            queue.receive(&mut buffer, Which::Any, Overlong::Refuse, None)
        });
        std::thread::sleep(Duration::from_millis(50));
        queue.remove().unwrap();
        told("sysv: queue removed under a waiter", || waiting.join().unwrap(), &["no message queue", "removed"]);
    });
}
