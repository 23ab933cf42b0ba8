//! What a process has cost so far: processor time and how often it gave the core away.
//!
//! Not the time that passed: a side that spins costs all of it, a side that sleeps almost none.
//!
//! Unsafe here is `getrusage`, which rustix does not wrap. The argument: it fills a structure of this frame.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use serde::{Deserialize, Serialize};

/// The cost of one side of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor seconds, user and system.
    pub cpu_s: f64,
    /// Seconds for which its main thread could have run and another process had the core; 0 where the kernel does not say.
    pub queued_s: f64,
    /// How often it slept.
    pub voluntary_switches: u64,
    /// How often the core was taken from it.
    pub involuntary_switches: u64,
}

impl Usage {
    /// What this process has cost since it began.
    pub(crate) fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a whole `rusage` that this frame owns.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        // SAFETY: zeroed bytes are a valid `rusage`, and the call only writes integers into it.
        let usage = unsafe { usage.assume_init() };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Self {
            cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
            queued_s: queued_s().unwrap_or_default(),
            voluntary_switches: u64::try_from(usage.ru_nvcsw).unwrap_or(0),
            involuntary_switches: u64::try_from(usage.ru_nivcsw).unwrap_or(0),
        }
    }

    /// What it has cost since `start`.
    pub(crate) fn since(start: &Self) -> Self {
        let now = Self::now();
        Self {
            cpu_s: now.cpu_s - start.cpu_s,
            queued_s: now.queued_s - start.queued_s,
            voluntary_switches: now.voluntary_switches - start.voluntary_switches,
            involuntary_switches: now.involuntary_switches - start.involuntary_switches,
        }
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            queued_s: self.queued_s + other.queued_s,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }
}

/// The calling thread's wait on run queues so far: the second number of its `schedstat`, in ns.
fn queued_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(ns as f64 / 1e9)
}
