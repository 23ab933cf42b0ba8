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

/// A storm on this thread until it is dropped.
pub(crate) struct Storm {
    over: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    pub(crate) fn here() -> Self {
        let signal = libc::SIGRTMIN() + 1;
        install(signal, nothing as *const () as libc::sighandler_t, 0);
        // SAFETY: the call takes no argument and only names the calling thread.
        let target = unsafe { libc::gettid() };
        let over = std::sync::Arc::new(AtomicBool::new(false));
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
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
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
