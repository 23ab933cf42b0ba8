//! `pthread_sigmask(3)`: which signals a thread takes.
#![allow(unsafe_code)] // Signal sets are C structs that a call fills in.

use std::mem::MaybeUninit;

/// Runs a closure with every signal blocked in the calling thread, as a thread that it starts will inherit.
pub fn with_all_blocked<R>(run: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set in.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` was filled in just now; `before` has room for the former mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = run();
    // SAFETY: `before` was filled in by the call above, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}
