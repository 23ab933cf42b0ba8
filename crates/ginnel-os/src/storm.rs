//! For tests: a signal every millisecond to the calling thread, with a handler that does nothing and no `SA_RESTART`, so that each
//! system call that waits comes back with `EINTR` many times.
#![allow(unsafe_code)] // Installs a handler and sends signals to a thread that is there as long as the scope.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

thread_local! {
    /// Signals that this thread has taken: tests that run beside it have their own.
    static HANDLED: Cell<usize> = const { Cell::new(0) };
}

extern "C" fn count(_: libc::c_int) {
    HANDLED.set(HANDLED.get() + 1);
}

/// Runs a closure in the storm; its result, and how many signals came.
pub(crate) fn during<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = HANDLED.get();
    let storm = Storm::here();
    let result = run();
    drop(storm);
    (result, HANDLED.get() - before)
}

/// Installs a handler of a test for good.
pub(crate) fn install(signal: i32, handler: libc::sighandler_t, flags: i32) {
    // SAFETY: a struct of plain integers and pointers, for which zero is a value: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the handlers of tests only touch atomics.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

/// A storm on this thread until it is dropped.
pub(crate) struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    pub(crate) fn here() -> Self {
        let signal = libc::SIGRTMIN() + 1;
        install(signal, count as *const () as libc::sighandler_t, 0);
        // SAFETY: the call takes no argument and only names the calling thread.
        let target = unsafe { libc::gettid() };
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let blow = move || {
            while !told.load(SeqCst) {
                // SAFETY: sends to a thread of this process, which has a handler; if it is gone, that is an error and no more.
                unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), target, signal) };
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Self { over, thread: Some(std::thread::spawn(blow)) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Until it is so: a child that another test is starting has a copy of every descriptor for a moment.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came to be so");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a test in a forked child, which has this thread only, so that a signal to the process is one to this thread. Its process id.
pub(crate) fn in_child(run: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs the closure and leaves; the C library makes its memory allocator usable after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        // SAFETY: leaves without destructors.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    assert!(child > 0);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let mut status = 0;
    loop {
        // SAFETY: asks about the child that was started above; `status` has room for the answer.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            assert_eq!(status, 0, "the child failed");
            return child;
        }
        if std::time::Instant::now() > end {
            // SAFETY: kills the child that was started above.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What this thread has computed so far: who sleeps computes next to nothing.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}
