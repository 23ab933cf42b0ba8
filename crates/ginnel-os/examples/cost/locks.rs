//! Semaphores, locks, counters and futexes that meet nobody.

use crate::bare;
use crate::cases::{Cases, case};
use crate::streams::{later, raw};
use ginnel_os::eventfd::EventFd;
use ginnel_os::mmap::Mapping;
use ginnel_os::ofd_lock::{self, Kind};
use ginnel_os::semaphore::Semaphore;
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_sem::{Op, Set};
use ginnel_os::{flock, futex};
use std::fs::File;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;

pub(crate) fn cases() -> Cases {
    [posix(), system_v(), counters(), files(), futexes()].into_iter().flatten().collect()
}

fn posix() -> Cases {
    let memory: &'static Mapping = Box::leak(Box::new(Mapping::anonymous(4096).expect("a page")));
    let semaphore = || Semaphore::init(&memory.shared(), 0, 1).expect("a semaphore");
    let at = memory.base().as_ptr().cast::<libc::sem_t>();
    let (s, t, u, until) = (semaphore(), semaphore(), semaphore(), later());
    // In 2096, on the clock of the day, as C has it.
    let later = libc::timespec { tv_sec: 4_000_000_000, tv_nsec: 0 };
    let blocking = move || (s.wait(None).unwrap(), s.post().unwrap());
    let trying = move || (t.try_wait().unwrap(), t.post().unwrap());
    let with_deadline = move || (u.wait(until).unwrap(), u.post().unwrap());
    vec![
        case("sem_wait, sem_post", blocking, move || (bare::sem_wait(at), bare::sem_post(at))).in_process(),
        case("sem_trywait, sem_post", trying, move || (bare::sem_trywait(at), bare::sem_post(at))).in_process(),
        case("sem_wait until a deadline, sem_post", with_deadline, move || {
            (bare::sem_timedwait(at, &later), bare::sem_post(at))
        })
        .in_process(),
    ]
}

/// A set that goes with its last user here.
struct Removed(Set);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn system_v() -> Cases {
    let set = Rc::new(Removed(Set::create(Key::PRIVATE, 0o600, &[1]).expect("a set")));
    let of = || (set.clone(), set.clone());
    let ((s, other), (t, tried), until) = (of(), of(), later());
    let blocking =
        move || (s.0.operate(&[Op::take(0, 1)], None).unwrap(), s.0.operate(&[Op::add(0, 1)], None).unwrap());
    let trying = move || (t.0.try_operate(&[Op::take(0, 1)]).unwrap(), t.0.operate(&[Op::add(0, 1)], until).unwrap());
    vec![
        case("semop take, add", blocking, move || (bare::semop(other.0.id(), -1, 0), bare::semop(other.0.id(), 1, 0))),
        case("semop take tried, add until a deadline", trying, move || {
            (bare::semop(tried.0.id(), -1, libc::IPC_NOWAIT), bare::semop(tried.0.id(), 1, libc::IPC_NOWAIT))
        }),
    ]
}

fn counters() -> Cases {
    let event = Rc::new(EventFd::new().expect("an eventfd"));
    let of = || (event.clone(), event.clone());
    let ((e, other), (w, woken), mut buffer, mut second) = (of(), of(), [0; 8], [0; 8]);
    let counting = move || (e.add(1, None).unwrap(), e.read(None).unwrap());
    let waking = move || (w.signal(), w.clear());
    let one = 1u64.to_ne_bytes();
    vec![
        case("eventfd add, read", counting, move || {
            (bare::write(raw(&*other), &one), bare::read(raw(&*other), &mut buffer))
        }),
        case("eventfd signal, clear", waking, move || {
            (bare::write(raw(&*woken), &one), bare::read(raw(&*woken), &mut second))
        }),
    ]
}

fn file() -> File {
    let path = std::env::temp_dir().join(format!("ginnel-cost-lock-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    std::fs::remove_file(path).expect("it is ours");
    file
}

fn files() -> Cases {
    let file = Rc::new(file());
    let (f, other, g, third) = (file.clone(), file.clone(), file.clone(), file.clone());
    let range = move || drop(ofd_lock::try_lock(f.as_fd(), Kind::Write, 0..1).unwrap());
    vec![
        case("ofd lock, unlock", range, move || {
            (bare::ofd_lock(raw(&*other), libc::F_WRLCK), bare::ofd_lock(raw(&*other), libc::F_UNLCK))
        }),
        case("flock", move || flock::try_exclusive(&*g).unwrap(), move || bare::flock(raw(&*third))),
    ]
}

fn futexes() -> Cases {
    let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    let at = word.as_ptr().cast_const();
    vec![
        case("futex wake of nobody", move || futex::wake(word, 1).unwrap(), move || bare::futex_wake(at)),
        case(
            "futex wait for what has changed",
            move || futex::wait(word, 1, futex::Deadline::NEVER).unwrap(),
            move || bare::futex_wait(at, 1),
        ),
    ]
}
