//! POSIX semaphores, with and without a name, and System V sets: what one side gives, the other takes; each waits for the other.

use crate::stranger::{Running, Stranger};
use ginnel_os::mmap::Mapping;
use ginnel_os::semaphore::{self, Named, Semaphore};
use ginnel_os::shm;
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_sem::{Op, Set};
use std::io::{self, BufRead, ErrorKind};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HOLD: &str = "GINNEL_OS_INTEROP_HOLD";
const PLACE: usize = 64;
const SHORT: Duration = Duration::from_millis(30);
const LATE: Duration = Duration::from_secs(20);

/// Our end of a semaphore, whichever it is.
struct Ours<'a> {
    wait: &'a (dyn Fn(Instant) -> io::Result<()> + Sync),
    post: &'a dyn Fn() -> io::Result<()>,
    value: &'a dyn Fn() -> u32,
}

impl Ours<'_> {
    fn of<'a, R>(semaphore: &'a Semaphore<'a>, run: impl FnOnce(&Ours<'_>) -> R) -> R {
        run(&Ours {
            wait: &|until| semaphore.wait(Some(until)),
            post: &|| semaphore.post(),
            value: &|| semaphore.value().unwrap(),
        })
    }

    fn of_set<R>(set: Set, run: impl FnOnce(&Ours<'_>) -> R) -> R {
        run(&Ours {
            wait: &|until| set.operate(&[Op::take(0, 1)], Some(until)),
            post: &|| set.operate(&[Op::add(0, 1)], None),
            value: &|| set.value(0).unwrap().into(),
        })
    }

    /// From a semaphore of value 1 to one of value 0.
    #[track_caller]
    fn meets(&self, c: &Stranger) {
        // What one takes, the other lacks.
        assert_eq!(((self.value)(), c.does(&["value"])), (1, "1".into()));
        assert_eq!((c.does(&["try"]), c.does(&["try"])), ("taken".into(), "would block".into()));
        let late = (self.wait)(Instant::now() + SHORT).unwrap_err();
        assert_eq!((late.kind(), c.does(&["timed", "30"])), (ErrorKind::TimedOut, "timed out".into()));
        // Each wakes the other.
        let mut waiting = c.starts(&["wait"]);
        sleeps(&waiting);
        (self.post)().unwrap();
        assert_eq!(waiting.says(), "taken");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (self.wait)(Instant::now() + LATE));
            std::thread::sleep(SHORT);
            c.does(&["post"]);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(((self.value)(), c.does(&["value"])), (0, "0".into()));
    }
}

/// Until it waits, as `/proc` tells.
fn sleeps(run: &Running) {
    let until = Instant::now() + LATE;
    let call = || std::fs::read_to_string(format!("/proc/{}/wchan", run.id())).unwrap_or_default();
    while !call().contains("futex") && !call().contains("sem") && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Unlinked(String, fn(&str) -> io::Result<()>);

impl Drop for Unlinked {
    fn drop(&mut self) {
        let _ = (self.1)(&self.0);
    }
}

#[test]
fn posix_semaphores_with_a_name() {
    let name = Unlinked(format!("/ginnel-interop-{}", std::process::id()), |name| semaphore::unlink(name));
    let Some(c) = Stranger::of("sem", &name.0) else { return };
    c.does(&["create", "1"]);
    Ours::of(&Named::open(&name.0).unwrap(), |ours| ours.meets(&c));
    c.does(&["remove"]);
    assert_eq!(Named::open(&name.0).unwrap_err().kind(), ErrorKind::NotFound);
    Ours::of(&Named::create(&name.0, 1, 0o600).unwrap(), |ours| ours.meets(&c));
}

#[test]
fn posix_semaphores_in_shared_memory() {
    let name = Unlinked(format!("/ginnel-interop-place-{}", std::process::id()), |name| shm::unlink(name));
    let Some(c) = Stranger::of("unnamed", &name.0) else { return };
    c.does(&["create", "1"]);
    let object = shm::open(&name.0, shm::Access::ReadWrite).unwrap();
    let mapping = Mapping::of_file(object.as_fd(), 4096, true).unwrap();
    Ours::of(&Semaphore::attach(&mapping.shared(), PLACE).unwrap(), |ours| ours.meets(&c));
    c.does(&["remove"]);
    let object = shm::create(&name.0, 4096, 0o600).unwrap();
    let mapping = Mapping::of_file(object.as_fd(), 4096, true).unwrap();
    Ours::of(&Semaphore::init(&mapping.shared(), PLACE, 1).unwrap(), |ours| ours.meets(&c));
}

struct Removed(Key);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = Set::open(self.0).and_then(Set::remove);
    }
}

fn key(number: i32) -> Removed {
    Removed(Key::new(0x5d00_0000 | number << 22 | i32::try_from(std::process::id()).unwrap()))
}

#[test]
fn system_v_sets() {
    let key = key(0);
    let Some(c) = Stranger::of("sysv-sem", key.0.number()) else { return };
    c.does(&["create", "1"]);
    Ours::of_set(Set::open(key.0).unwrap(), |ours| ours.meets(&c));
    c.does(&["remove"]);
    assert_eq!(Set::open(key.0).unwrap_err().kind(), ErrorKind::NotFound);
    Ours::of_set(Set::create(key.0, 0o600, &[1]).unwrap(), |ours| ours.meets(&c));
}

/// `SEM_UNDO`: who dies gives back to the other.
#[test]
fn a_dead_holder_of_a_system_v_semaphore_gives_back() {
    let key = key(1);
    let Some(c) = Stranger::of("sysv-sem", key.0.number()) else { return };
    let set = Set::create(key.0, 0o600, &[1]).unwrap();
    let mut holder = c.starts(&["hold"]);
    assert_eq!((holder.says(), set.value(0).unwrap()), ("taken".into(), 0));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| set.operate(&[Op::take(0, 1)], Some(Instant::now() + LATE)));
        std::thread::sleep(SHORT);
        drop(holder); // by SIGKILL
        waiting.join().unwrap().unwrap();
    });
    set.set_value(0, 1).unwrap();
    let mut holder = our_holder(set);
    assert_eq!(c.does(&["try"]), "would block");
    let mut waiting = c.starts(&["wait"]);
    sleeps(&waiting);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!((waiting.says(), set.value(0).unwrap()), ("taken".into(), 0));
}

/// Takes the semaphore and keeps it, when [`our_holder`] has started this as a process of its own.
#[test]
fn hold() {
    let Ok(id) = std::env::var(HOLD) else { return };
    std::mem::forget(Set::from_id(id.parse().unwrap()).try_acquire(0, true).unwrap());
    eprintln!("holds");
    let _ = io::stdin().read_line(&mut String::new());
}

fn our_holder(set: Set) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["semaphores::hold", "--exact", "--nocapture"]).env(HOLD, set.id().to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    io::BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "holds");
    child
}
