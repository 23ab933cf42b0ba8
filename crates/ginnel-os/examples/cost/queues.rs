//! Message queues of POSIX and of System V.

use crate::bare::{self, Message};
use crate::cases::{Cases, case};
use crate::streams::{later, raw};
use ginnel_os::mqueue::{self, Options, Shape};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_mq::{Buffer, Overlong, Queue, Which};
use std::rc::Rc;

const BYTES: [u8; 64] = [7; 64];

pub(crate) fn cases() -> Cases {
    [posix(), system_v()].into_iter().flatten().collect()
}

fn posix_queue() -> Rc<mqueue::Queue> {
    let name = format!("/ginnel-cost-{}", std::process::id());
    let shape = Some(Shape { capacity: 4, message_size: 64 });
    let queue = mqueue::Queue::create(&name, Options { shape, ..Options::default() }).expect("a queue");
    mqueue::unlink(&name).expect("it is ours");
    Rc::new(queue)
}

/// C has O_NONBLOCK for it, which would also be the first queue's.
fn nonblocking() -> Rc<mqueue::Queue> {
    let queue = posix_queue();
    bare::set_nonblocking(raw(&*queue));
    queue
}

fn posix() -> Cases {
    let queue = posix_queue();
    let of = || (queue.clone(), queue.clone(), [0; 64], [0; 64]);
    let (q, other, mut one, mut two) = of();
    let blocking = case(
        "mq_send, mq_receive",
        move || (q.send(&BYTES, 0, None).unwrap(), q.receive(&mut one, None).unwrap()),
        move || (bare::mq_send(raw(&*other), &BYTES), bare::mq_receive(raw(&*other), &mut two)),
    );
    let (q, _, mut one, mut two) = of();
    let other = nonblocking();
    let trying = case(
        "mq try_send, try_receive",
        move || (q.try_send(&BYTES, 0).unwrap(), q.try_receive(&mut one).unwrap()),
        move || (bare::mq_send(raw(&*other), &BYTES), bare::mq_receive(raw(&*other), &mut two)),
    );
    let (q, other, mut one, mut two) = of();
    let until = later();
    // In 2096, on the clock of the day, as C has it.
    let at = libc::timespec { tv_sec: 4_000_000_000, tv_nsec: 0 };
    let with_deadline = case(
        "mq send, receive until a deadline",
        move || (q.send(&BYTES, 0, until).unwrap(), q.receive(&mut one, until).unwrap()),
        move || (bare::mq_timedsend(raw(&*other), &BYTES, &at), bare::mq_timedreceive(raw(&*other), &mut two, &at)),
    );
    vec![blocking, trying, with_deadline]
}

/// A queue that goes with its last user here.
struct Removed(Queue);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn system_v() -> Cases {
    let queue = Rc::new(Removed(Queue::create(Key::PRIVATE, 0o600).expect("a queue")));
    let message = || {
        let mut buffer = Buffer::new(64).expect("64 bytes");
        buffer.set(1, &BYTES).expect("they fit");
        (queue.clone(), buffer, queue.clone(), Message { kind: 1, bytes: BYTES })
    };
    let (q, mut buffer, other, mut plain) = message();
    let blocking = case(
        "msgsnd, msgrcv",
        move || {
            (q.0.send(&buffer, None).unwrap(), q.0.receive(&mut buffer, Which::Any, Overlong::Refuse, None).unwrap())
        },
        move || (bare::msgsnd(other.0.id(), &plain, 0), bare::msgrcv(other.0.id(), &mut plain, 0)),
    );
    let (q, mut buffer, other, mut plain) = message();
    let trying = case(
        "msgsnd, msgrcv, tried",
        move || (q.0.try_send(&buffer).unwrap(), q.0.try_receive(&mut buffer, Which::Any, Overlong::Refuse).unwrap()),
        move || {
            bare::msgsnd(other.0.id(), &plain, libc::IPC_NOWAIT);
            bare::msgrcv(other.0.id(), &mut plain, libc::IPC_NOWAIT)
        },
    );
    let (q, mut buffer, other, mut plain) = message();
    let nothing = case(
        "msgrcv of nothing, tried",
        move || q.0.try_receive(&mut buffer, Which::Any, Overlong::Refuse).is_err(),
        move || bare::msgrcv(other.0.id(), &mut plain, libc::IPC_NOWAIT) < 0,
    );
    vec![blocking, trying, nothing]
}
