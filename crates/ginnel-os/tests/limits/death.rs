//! A process that is killed while it holds a System V semaphore.

use crate::apart::{apart, told};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_sem::Set;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HOLD: &str = "GINNEL_OS_LIMITS_HOLD";

/// Takes a semaphore and never gives it back, when [`holder`] has started this as a process of its own.
#[test]
fn hold() {
    let Ok(what) = std::env::var(HOLD) else { return };
    let (id, undo) = what.split_once(' ').unwrap();
    let set = Set::from_id(id.parse().unwrap());
    std::mem::forget(set.try_acquire(0, undo == "undo").unwrap());
    std::io::stderr().write_all(b"holds\n").unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

fn holder(set: Set, undo: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["death::hold", "--exact", "--nocapture"]).env(HOLD, format!("{} {undo}", set.id()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stderr.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    child
}

#[test]
fn of_the_holder_of_a_system_v_semaphore() {
    apart("death::of_the_holder_of_a_system_v_semaphore", ":", || {
        let set = Set::create(Key::PRIVATE, 0o600, &[1]).unwrap();
        let mut child = holder(set, "undo");
        assert_eq!(set.value(0).unwrap(), 0);
        child.kill().unwrap();
        let start = Instant::now();
        drop(set.acquire(0, true, Some(start + Duration::from_secs(10))).expect("the kernel gives it back"));
        println!("limit: sysv-sem: holder with SEM_UNDO killed -> acquired, {} ms later", start.elapsed().as_millis());
        assert!(start.elapsed() < Duration::from_secs(1));
        child.wait().unwrap();

        let mut child = holder(set, "none");
        let pid = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let lost = told("sysv-sem: holder without SEM_UNDO killed", || set.acquire(0, true, soon).map(drop), &[]);
        assert_eq!(lost.kind(), ErrorKind::TimedOut);
        assert_eq!(set.last_pid(0).unwrap().unsigned_abs(), pid, "who took it last is known, and dead");
    });
}
