//! Semaphores of both kinds.

use crate::apart::{apart, told};
use ginnel_os::mmap::Mapping;
use ginnel_os::semaphore::{Semaphore, VALUE_MAX};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_sem::{Op, Set};

fn set(values: &[u16]) -> std::io::Result<Set> {
    Set::create(Key::PRIVATE, 0o600, values)
}

#[test]
fn system_v_sets() {
    apart("semaphores::system_v_sets", "echo 3 5 2 2 >/proc/sys/kernel/sem", || {
        let first = set(&[1, 1, 1]).unwrap();
        let words = ["4 semaphores", "limit 3", "kernel.sem", "sysctl"];
        told("sysv-sem: set larger than SEMMSL", || set(&[0; 4]), &words);
        let words = ["3 semaphores", "kernel.sem allows 5 in all", "ipcrm -s", "sysctl"];
        told("sysv-sem: more semaphores than SEMMNS", || set(&[0; 3]), &words);
        let _second = set(&[0]).unwrap();
        told("sysv-sem: more sets than SEMMNI", || set(&[0]), &["in 2 sets", "ipcrm -s", "sysctl"]);
        let words = ["3 operations", "limit 2", "kernel.sem", "sysctl"];
        told("sysv-sem: more operations than SEMOPM", || first.try_operate(&[Op::add(0, 1); 3]), &words);
        assert_eq!(first.values().unwrap(), [1, 1, 1]);
    });
}

#[test]
fn system_v_values() {
    apart("semaphores::system_v_values", ":", || {
        told("sysv-sem: value above SEMVMX", || set(&[32768]), &["32768", "32767", "smaller"]);
        let full = set(&[32767]).unwrap();
        told("sysv-sem: add above SEMVMX", || full.try_operate(&[Op::add(0, 1)]), &["32767", "post less"]);
        assert_eq!(full.value(0).unwrap(), 32767);
    });
}

#[test]
fn posix_values() {
    let memory = Mapping::anonymous(4096).unwrap();
    let shared = memory.shared();
    let words = ["2147483648", "2147483647", "smaller"];
    told("sem: value above SEM_VALUE_MAX", || Semaphore::init(&shared, 0, VALUE_MAX + 1), &words);
    let full = Semaphore::init(&shared, 0, VALUE_MAX).unwrap();
    told("sem: post above SEM_VALUE_MAX", || full.post(), &["2147483647", "more often than taken"]);
    assert_eq!(full.value().unwrap(), VALUE_MAX);
}
