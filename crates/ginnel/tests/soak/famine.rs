//! Few descriptors: the limit of this process, lowered below what an open needs. And dying with one's parent.
#![allow(unsafe_code)] // Two system calls with plain arguments.

use std::fs;
use std::time::Duration;

use ginnel::Link;

/// When there are descriptors again, whatever happens, for one that has none in reserve.
const RELIEF: Duration = Duration::from_millis(500);
const ENOUGH: u64 = 1024;

/// A limit of descriptors that is raised again after some failures.
pub(crate) struct Famine {
    /// Failures until relief; `None` if there are descriptors enough.
    left: Option<u64>,
}

impl Famine {
    pub(crate) fn none() -> Self {
        Self { left: None }
    }

    /// Leaves `spare` descriptors, until so many opens have failed. Who `is_watching` before has one in reserve, by which it repairs what a dead peer left, and is told.
    pub(crate) fn begin(spare: u64, failures: u64, is_watching: bool) -> Self {
        if is_watching {
            begin_to_watch();
        } else {
            // Without a descriptor nobody can repair what a dead peer left, so who waits for that waits for descriptors, too.
            std::thread::spawn(|| {
                std::thread::sleep(RELIEF);
                set_limit(ENOUGH);
            });
        }
        set_limit(open_descriptors() + spare);
        Self { left: Some(failures) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.left.is_some()
    }

    /// An open has failed.
    pub(crate) fn failed(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.left == Some(0) {
            self.end();
        }
    }

    pub(crate) fn end(&mut self) {
        if self.left.take().is_some() {
            set_limit(ENOUGH);
        }
    }
}

/// By waiting for a moment.
fn begin_to_watch() {
    let Ok((_sender, receiver)) = Link::new("mem:soak-famine").and_then(|link| link.pair()) else { return };
    let _ = receiver.recv_timeout(Duration::from_millis(1));
}

/// One more than the highest descriptor, but for the one that this needs itself.
fn open_descriptors() -> u64 {
    let names = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<u64> = names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
    (numbers.len() as u64).saturating_sub(1).max(3)
}

/// How many descriptors this process has open.
pub(crate) fn count_descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |names| names.count() as u64).saturating_sub(1)
}

fn set_limit(descriptors: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a struct on the stack.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = descriptors.min(limit.rlim_max);
    // SAFETY: reads a struct on the stack.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Has the kernel kill this process when its parent dies, which may have happened already.
pub(crate) fn die_with(parent: u32) {
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if std::os::unix::process::parent_id() != parent {
        std::process::exit(1);
    }
}
