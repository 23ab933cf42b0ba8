//! For tests: a signal every millisecond to the calling thread, with a handler that does nothing and restarts nothing, so that every
//! call that waits is interrupted.
#![allow(unsafe_code)] // Installs a handler, and sends to a thread of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

extern "C" fn nothing(_: libc::c_int) {}

/// Blows until it is dropped.
pub(crate) struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    pub(crate) fn here() -> Self {
        let signal = libc::SIGRTMIN() + 7;
        // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing, which is safe at any time.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        // SAFETY: asks who this thread is.
        let target = unsafe { libc::gettid() };
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let blow = move || {
            // ORDERING: relaxed; nothing else is published.
            while !told.load(Ordering::Relaxed) {
                // SAFETY: sends to a thread of this process, which has a handler.
                unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), target, signal) };
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Self { over, thread: Some(std::thread::spawn(blow)) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // ORDERING: relaxed; nothing else is published.
        self.over.store(true, Ordering::Relaxed);
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

/// Runs a test in a forked child, which has this thread only, so that a signal to the process is one to this thread.
pub(crate) fn in_child(run: impl FnOnce()) {
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
            return assert_eq!(status, 0, "the child failed");
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
