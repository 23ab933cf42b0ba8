//! For tests: a signal every millisecond to the calling thread, with a handler that does nothing and no `SA_RESTART`, so that each
//! system call that waits comes back with `EINTR` many times.
#![allow(unsafe_code)] // Installs a handler and sends signals to a thread that is there as long as the scope.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn nothing(_: libc::c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Runs a closure in the storm; its result, and how many signals came.
pub(crate) fn during<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let signal = libc::SIGRTMIN() + 1;
    install(signal, nothing as *const () as libc::sighandler_t, 0);
    // SAFETY: the call takes no argument and only names the calling thread.
    let thread = unsafe { libc::pthread_self() };
    let (over, before) = (AtomicBool::new(false), HANDLED.load(SeqCst));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
                // SAFETY: the thread waits for this scope, so it is there.
                unsafe { libc::pthread_kill(thread, signal) };
            }
        });
        let _end = End(&over);
        run()
    });
    (result, HANDLED.load(SeqCst) - before)
}

/// Installs a handler of a test for good.
pub(crate) fn install(signal: i32, handler: libc::sighandler_t, flags: i32) {
    // SAFETY: a struct of plain integers and pointers, for which zero is a value: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the handlers of tests only touch atomics.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

/// Ends the storm even if the closure panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
