//! A process without a free descriptor: every mechanism's open says so, and leaves nothing behind.

use crate::apart::{apart, told};
use ginnel_os::epoll::Epoll;
use ginnel_os::eventfd::EventFd;
use ginnel_os::inet::{self, Sharing};
use ginnel_os::inotify::Inotify;
use ginnel_os::pidfd::PidFd;
use ginnel_os::semaphore::Named;
use ginnel_os::signalfd::SignalFd;
use ginnel_os::sigset::Set;
use ginnel_os::socket::Kind;
use ginnel_os::unix::{self, Address, Outgoing};
use ginnel_os::{fifo, memfd, mqueue, pipe, shm};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

type Open = (&'static str, fn() -> io::Result<()>);

const OPENS: [Open; 16] = [
    ("pipe", || pipe::pair().map(drop)),
    ("pipe of packets", || pipe::packets().map(drop)),
    ("fifo, read", || fifo::reader("/dev/shm/fifo").map(drop)),
    ("fifo, write", || fifo::try_writer("/dev/shm/fifo").map(drop)),
    ("mq", || mqueue::Queue::create("/q", mqueue::Options::default()).map(drop)),
    ("mq, open", || mqueue::Queue::open("/there", mqueue::Access::Both).map(drop)),
    ("sem", || Named::create("/s", 1, 0o600).map(drop)),
    ("posix-shm", || shm::create("/m", 4096, 0o600).map(drop)),
    ("memfd", || memfd::create("m", 4096, memfd::Options::default()).map(drop)),
    ("unix pair", || unix::pair(Kind::Stream).map(drop)),
    ("unix", || unix::bind(Kind::Stream, &Address::unnamed()).map(drop)),
    ("tcp", || inet::listen((Ipv4Addr::LOCALHOST, 0).into(), 1, Sharing::default()).map(drop)),
    ("udp", || inet::bind((Ipv4Addr::LOCALHOST, 0).into(), Sharing::default()).map(drop)),
    ("eventfd", || EventFd::new().map(drop)),
    ("epoll", || Epoll::new().map(drop)),
    ("pidfd", || PidFd::open(std::process::id()).map(drop)),
];

const MORE: [Open; 2] =
    [("signalfd", || SignalFd::new(&Set::empty()).map(drop)), ("inotify", || Inotify::new().map(drop))];

fn allow(descriptors: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum: Some(1024) }).unwrap();
}

/// Fills every number below the limit.
fn fill() -> Vec<OwnedFd> {
    let mut all = Vec::new();
    while let Ok(file) = std::fs::File::open("/proc/self/exe") {
        all.push(file.into());
    }
    all
}

#[test]
fn none_is_left() {
    apart("descriptors::none_is_left", "mount -t tmpfs none /dev/shm", || {
        fifo::make("/dev/shm/fifo", 0o600).unwrap();
        let there = mqueue::Queue::create("/there", mqueue::Options::default()).unwrap();
        allow(64);
        let held = fill();
        for (what, open) in OPENS.into_iter().chain(MORE) {
            let case = format!("{what}: no descriptor left");
            told(&case, open, &["RLIMIT_NOFILE", "64", "ulimit -n"]);
        }
        let full = held.len();
        drop(held);
        assert_eq!(fill().len(), full, "an open that failed kept a descriptor");
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 1, "an open that failed left a file");
        drop(there);
    });
}

#[test]
fn none_is_left_for_those_that_arrive() {
    apart("descriptors::none_is_left_for_those_that_arrive", ":", || {
        let (one, two) = unix::pair(Kind::SeqPacket).unwrap();
        let passed = [one.as_fd(); 3];
        let bytes = [IoSlice::new(b"three")];
        unix::send(&one, &Outgoing { slices: &bytes, descriptors: &passed, ..Outgoing::default() }, None).unwrap();
        unix::send(&one, &Outgoing { slices: &bytes, ..Outgoing::default() }, None).unwrap();
        allow(64);
        let mut held = fill();
        let full = held.len();
        held.truncate(full - 1);
        let mut buffer = [0; 8];
        let receive = || unix::recv(&two, &mut [IoSliceMut::new(&mut buffer)], 3, None);
        told("unix: descriptors cut off in transit", receive, &["1 that came", "closed", "RLIMIT_NOFILE", "64"]);
        let next = unix::recv(&two, &mut [IoSliceMut::new(&mut buffer)], 3, None).unwrap();
        assert_eq!((next.bytes, next.descriptors.len()), (5, 0), "the message after it is whole");
        drop(held);
        assert_eq!(fill().len(), full, "a descriptor that came was kept");
    });
}
