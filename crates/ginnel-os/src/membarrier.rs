//! `membarrier(2)`, global expedited: a full memory barrier on every core that runs a registered process. It lets one side of a
//! store-load pair go without a fence.
#![allow(unsafe_code)] // A system call that takes three integers.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::fork;

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// The generation that is registered; 0 is none. A child must register for itself if its parent did before the fork: the
/// kernel keeps the registration over fork, but asking again is free of doubt.
static REGISTERED: AtomicU32 = AtomicU32::new(0);

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// `membarrier(2)`: registers the process as one that other processes' barriers reach. False where the kernel or a sandbox refuses.
///
/// # Examples
/// ```
/// use ginnel_os::membarrier;
///
/// if membarrier::register() {
///     membarrier::global(); // what every registered process had stored before, all see now
/// }
/// ```
pub fn register() -> bool {
    let Ok(generation) = fork::generation() else { return false };
    if REGISTERED.load(SeqCst) == generation.number() {
        return true;
    }
    let registered = membarrier(REGISTER_GLOBAL_EXPEDITED);
    if registered {
        REGISTERED.store(generation.number(), SeqCst);
    }
    registered
}

/// `membarrier(2)`: a full barrier on every core that runs a registered process, this one included.
///
/// # Panics
/// If the kernel refuses, though it accepted [`register`]: going on would lose wake-ups.
pub fn global() {
    assert!(membarrier(GLOBAL_EXPEDITED), "membarrier(2) was registered but is refused now");
    // Other cores are ordered by the system call; the compiler and this core by this.
    std::sync::atomic::fence(SeqCst);
}
