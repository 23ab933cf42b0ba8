//! `getpid(2)`, `geteuid(2)`, `namespaces(7)`, `sched_setaffinity(2)`: who the process is, and where it runs.

use crate::explain::invalid;
use rustix::thread::CpuSet;
use std::io;

/// `getpid(2)`.
///
/// # Examples
/// ```
/// use ginnel_os::process;
///
/// assert_eq!(process::id(), std::process::id());
/// let cores = process::cores()?;
/// process::pin(cores[0])?;
/// assert_eq!(process::cores()?, [cores[0]]);
/// assert!(process::pin(100_000).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn id() -> u32 {
    std::process::id()
}

/// `geteuid(2)`: the effective user.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// `stat(2)`: inode number of the PID namespace that [`id`] counts in; 0 where `/proc` does not say.
pub fn pid_namespace() -> u64 {
    rustix::fs::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// `clock_gettime(2)`: now, in nanoseconds since 1970, for people.
pub fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// `clock_gettime(2)`: now on the monotonic clock, in nanoseconds since some moment that all processes of the machine share (but for those in
/// another time namespace): a time to hand to another process.
///
/// # Examples
/// ```
/// let before = ginnel_os::process::monotonic_ns();
/// assert!(ginnel_os::process::monotonic_ns() >= before);
/// ```
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Cores that the calling thread may run on: `sched_getaffinity(2)`.
///
/// # Errors
/// The errno.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Whether the machine has one core online, whatever the caller may run on: `/sys/devices/system/cpu/online`. False where that cannot
/// be read.
pub fn is_only_core() -> bool {
    std::fs::read_to_string("/sys/devices/system/cpu/online").is_ok_and(|list| !list.trim().contains(['-', ',']))
}

/// Pins the calling thread to one core: `sched_setaffinity(2)`.
///
/// # Errors
/// The errno: `EINVAL` if there is no such core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        let text =
            format!("core {core} is above the limit of the call, {}; `cores` lists what there is", CpuSet::MAX_CPU - 1);
        return Err(invalid(text));
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// `getrlimit(2)` with `RLIMIT_SIGPENDING`: signals that may be queued for all processes of this user; the largest number if there is no limit.
pub fn signals_pending_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Sigpending).current.unwrap_or(u64::MAX)
}

/// Largest file that the process may make, in bytes: `getrlimit(2)` with `RLIMIT_FSIZE`. `None` if there is no limit.
pub fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_cannot_be_is_an_error() {
        let before = cores().unwrap();
        for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, 1 << 63, usize::MAX] {
            let error = pin(core).unwrap_err();
            assert_eq!(crate::explain::errno(&error), Some(libc::EINVAL), "{core}");
        }
        assert_eq!(cores().unwrap(), before);
    }
}
