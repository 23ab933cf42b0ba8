//! Signals, processes, and waiting for descriptors.

use crate::bare;
use crate::cases::{Cases, case};
use crate::streams::raw;
use ginnel_os::epoll::Epoll;
use ginnel_os::eventfd::EventFd;
use ginnel_os::pidfd::PidFd;
use ginnel_os::poll::{self, Interest};
use ginnel_os::signal::{self, Signal, Value};
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::Set;
use std::os::fd::AsFd;
use std::rc::Rc;

pub(crate) fn cases() -> Cases {
    [queued(), processes(), readiness()].into_iter().flatten().collect()
}

fn queued() -> Cases {
    let wanted = Signal::real_time(3).expect("a real-time signal");
    let set: Set = std::iter::once(wanted).collect();
    // For as long as the process lives.
    std::mem::forget(set.block());
    let (me, c_set, number) = (std::process::id(), bare::set_of(wanted.number()), wanted.number());
    let file = Rc::new(SignalFd::new(&set).expect("a signalfd"));
    let (other, mut record) = (file.clone(), [0; 128]);
    let value = Value::from_word(42);
    vec![
        case(
            "sigqueue, sigtimedwait",
            move || (signal::queue(me, wanted, value).unwrap(), set.try_wait().unwrap()),
            move || (bare::sigqueue(me as i32, number, 42), bare::sigtimedwait(&c_set)),
        ),
        case(
            "sigqueue, signalfd read",
            move || (signal::queue(me, wanted, value).unwrap(), file.read(None).unwrap()),
            move || (bare::sigqueue(me as i32, number, 42), bare::read(raw(&*other), &mut record)),
        ),
    ]
}

fn processes() -> Cases {
    let me = std::process::id();
    let kill = case("kill 0", move || signal::is_process(me).unwrap(), move || bare::kill_zero(me as i32));
    // Older kernels have none, nor has valgrind.
    let Ok(process) = PidFd::open(me).map(Rc::new) else { return vec![kill] };
    let (sent, asked, other) = (process.clone(), process.clone(), process.clone());
    // Ignored unless somebody handles it.
    let ignored = Signal::CHLD;
    vec![
        kill,
        case(
            "pidfd_send_signal",
            move || sent.send(ignored).unwrap(),
            move || {
                bare::pidfd_send_signal(raw(&*process), ignored.number());
            },
        ),
        case("pidfd has_ended", move || asked.has_ended().unwrap(), move || bare::poll(raw(&*other), 0)),
    ]
}

fn readiness() -> Cases {
    let event = Rc::new(EventFd::new().expect("an eventfd"));
    event.signal();
    let set = Rc::new(Epoll::new().expect("an epoll"));
    set.add(event.as_fd(), Interest::Read, 7).expect("it can be added");
    let (ready, other, waited, looked) = (set.clone(), event.clone(), event.clone(), event.clone());
    let mut keys = Vec::new();
    let (mut events, mut known) = ([libc::epoll_event { events: 0, u64: 0 }; 32], [0; 32]);
    let kept = event.clone(); // also where no other of these cases is asked for
    vec![
        case(
            "epoll ready_into",
            move || {
                let _ = &kept;
                keys.clear();
                ready.ready_into(&mut keys).unwrap();
                keys[0]
            },
            move || bare::epoll_wait(raw(&*set), &mut events, &mut known),
        ),
        case(
            "poll readable",
            move || poll::readable(&[waited.as_fd()], None).unwrap(),
            move || bare::poll(raw(&*other), -1),
        ),
        case(
            "poll is_readable",
            move || poll::is_readable(looked.as_fd()).unwrap(),
            move || bare::poll(raw(&*event), 0),
        ),
    ]
}
