//! A full /dev/shm.

use crate::apart::{apart, told};
use ginnel_os::semaphore::Named;
use ginnel_os::{fallocate, shm};
use std::os::fd::AsFd;

#[test]
fn a_full_file_system() {
    apart("memory::a_full_file_system", "mount -t tmpfs -o size=64k none /dev/shm", || {
        let object = shm::create("/there", 60 << 10, 0o600).unwrap();
        fallocate::commit(object.as_fd(), 0, 60 << 10).unwrap();
        let large = shm::create("/large", 1 << 20, 0o600).unwrap();
        let words = ["1048576 bytes", "4096", "free"];
        told("posix-shm: committed in a full /dev/shm", || fallocate::commit(large.as_fd(), 0, 1 << 20), &words);
        shm::unlink("/large").unwrap();
        drop(large);
        let last = shm::create("/last", 4096, 0o600).unwrap();
        fallocate::commit(last.as_fd(), 0, 4096).unwrap();
        told("sem: made in a full /dev/shm", || Named::create("/s", 1, 0o600), &["/dev/shm", "full", "mount"]);
        assert_eq!(std::fs::metadata("/dev/shm/there").unwrap().len(), 60 << 10);
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 2, "what failed left a file");
    });
}

#[test]
fn no_file_is_left() {
    apart("memory::no_file_is_left", "mount -t tmpfs -o size=64k,nr_inodes=2 none /dev/shm", || {
        let _there = shm::create("/there", 1, 0o600).unwrap();
        told("posix-shm: no file left in /dev/shm", || shm::create("/more", 1, 0o600), &["/dev/shm", "files", "mount"]);
    });
}
