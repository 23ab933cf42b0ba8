//! POSIX and System V shared memory: what one side writes, the other reads.

use crate::stranger::Stranger;
use ginnel_os::mmap::Mapping;
use ginnel_os::shared::Shared;
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_shm::Segment;
use ginnel_os::{shm, sysv_shm};
use std::os::fd::AsFd;

const BYTES: usize = 4096;

/// Removes the object of a name, or of a key.
struct Removed<'a>(&'a dyn Fn());

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[track_caller]
fn both_ways(memory: &Shared<'_>, c: &Stranger) {
    assert_eq!(memory.len(), BYTES);
    c.does(&["write", "from C"]);
    assert_eq!(memory.to_vec(0, 7).unwrap(), b"from C\0");
    memory.copy_in(0, b"from ours\0").unwrap();
    assert_eq!(c.does(&["read"]), "from ours");
}

#[test]
fn posix_shared_memory() {
    let name = format!("/ginnel-interop-{}", std::process::id());
    let Some(c) = Stranger::of("shm", &name) else { return };
    let _removed = Removed(&|| drop(shm::unlink(&name)));
    c.does(&["create", "4096"]);
    let object = shm::open(&name, shm::Access::ReadWrite).unwrap();
    both_ways(&Mapping::of_file(object.as_fd(), BYTES, true).unwrap().shared(), &c);
    c.does(&["remove"]);
    let object = shm::create(&name, BYTES as u64, 0o600).unwrap();
    both_ways(&Mapping::of_file(object.as_fd(), BYTES, true).unwrap().shared(), &c);
}

#[test]
fn system_v_shared_memory() {
    let key = Key::new(0x5c00_0000 | i32::try_from(std::process::id()).unwrap());
    let Some(c) = Stranger::of("sysv-shm", key.number()) else { return };
    let _removed = Removed(&|| drop(Segment::open(key).and_then(Segment::remove)));
    c.does(&["create", "4096"]);
    let segment = Segment::open(key).unwrap();
    both_ways(&segment.attach(sysv_shm::Access::ReadWrite).unwrap().shared(), &c);
    c.does(&["remove"]);
    assert!(Segment::open(key).is_err());
    let segment = Segment::create(key, BYTES, 0o600).unwrap();
    both_ways(&segment.attach(sysv_shm::Access::ReadWrite).unwrap().shared(), &c);
}
