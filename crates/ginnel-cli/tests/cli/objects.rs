//! Objects of every mechanism, which this process has; each is removed when it is dropped, also when a test fails.

use ginnel_os::sysv_ipc::Key;
use ginnel_os::{fifo, mqueue, semaphore, shm, sysv_mq, sysv_sem, sysv_shm};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A number that no other test has.
pub(crate) fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::process::id() << 8 | NEXT.fetch_add(1, Relaxed)
}

/// A name that no other test has, with its slash.
pub(crate) fn name() -> String {
    format!("/ginnel-cli-{}", unique())
}

/// A key that no other test has, and that is not that of `ftok` of a usual file.
pub(crate) fn key() -> Key {
    Key::new((unique() & 0x00ff_ffff | 0x6700_0000) as i32)
}

/// Something to be removed.
pub(crate) struct Removed<F: FnMut()>(F);

impl<F: FnMut()> Drop for Removed<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(crate) fn queue(name: &str) -> (mqueue::Queue, impl Drop + use<>) {
    let shape = Some(mqueue::Shape { capacity: 4, message_size: 64 });
    let queue = mqueue::Queue::create(name, mqueue::Options { shape, ..Default::default() }).unwrap();
    let name = name.to_owned();
    (queue, Removed(move || drop(mqueue::unlink(&name))))
}

pub(crate) fn sysv_queue(key: Key) -> (sysv_mq::Queue, impl Drop + use<>) {
    let queue = sysv_mq::Queue::create(key, 0o600).unwrap();
    (queue, Removed(move || drop(queue.remove())))
}

pub(crate) fn sysv_set(key: Key, values: &[u16]) -> (sysv_sem::Set, impl Drop + use<>) {
    let set = sysv_sem::Set::create(key, 0o600, values).unwrap();
    (set, Removed(move || drop(set.remove())))
}

pub(crate) fn segment(key: Key, bytes: usize) -> (sysv_shm::Segment, impl Drop + use<>) {
    let segment = sysv_shm::Segment::create(key, bytes, 0o600).unwrap();
    (segment, Removed(move || drop(segment.remove())))
}

pub(crate) fn named_semaphore(name: &str, value: u32) -> (semaphore::Named, impl Drop + use<>) {
    let semaphore = semaphore::Named::create(name, value, 0o600).unwrap();
    let name = name.to_owned();
    (semaphore, Removed(move || drop(semaphore::unlink(&name))))
}

pub(crate) fn memory(name: &str, bytes: u64) -> (std::os::fd::OwnedFd, impl Drop + use<>) {
    let memory = shm::create(name, bytes, 0o640).unwrap();
    let name = name.to_owned();
    (memory, Removed(move || drop(shm::unlink(&name))))
}

/// In the directory of a place, which removes it.
pub(crate) fn fifo(path: &std::path::Path) -> String {
    fifo::make(path, 0o600).unwrap();
    format!("fifo:{}", path.display())
}

/// The object with this address in what `ls` or `ps` printed.
pub(crate) fn find(json: &Value, address: &str) -> Value {
    let objects = json["objects"].as_array().expect("there are objects");
    let found = objects.iter().find(|object| object["address"] == address);
    found.unwrap_or_else(|| panic!("{address} is not listed")).clone()
}

/// The numbers of its processes.
pub(crate) fn pids(processes: &Value) -> Vec<u64> {
    processes.as_array().unwrap().iter().filter_map(|process| process["pid"].as_u64()).collect()
}

/// Whether another user can be tried to be; says so if not.
pub(crate) fn is_root() -> bool {
    let is = ginnel_os::process::user() == 0;
    if !is {
        eprintln!("skipped: only root can become another user");
    }
    is
}
