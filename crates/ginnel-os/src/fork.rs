//! `fork(2)` detection: a page that the kernel zeroes in every child (`madvise(2)` with `MADV_WIPEONFORK`), so that even a child
//! made by a raw `clone(2)` knows that it is one. The check is one load. And [`hold_off`], which makes `fork(3)` in another
//! thread wait for a few system calls during which a child must not come to be (`pthread_atfork(3)`).
#![allow(unsafe_code)] // Maps one anonymous page for the life of the process and refers to it as an atomic.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

const PAGE: usize = 4096;

/// Threads that hold forks off, or [`FORKING`].
static GATE: AtomicU32 = AtomicU32::new(0);
const FORKING: u32 = 1 << 31;

/// While it is there, `fork(3)` in other threads of this process waits.
#[derive(Debug)]
pub struct HeldOff(());

/// Makes `fork(3)` in other threads wait until the guard is dropped. Only for a few system calls, and never in a signal handler. A raw
/// `clone(2)` is not held off.
pub fn hold_off() -> HeldOff {
    register();
    while GATE.fetch_update(SeqCst, SeqCst, |gate| (gate & FORKING == 0).then_some(gate + 1)).is_err() {
        std::thread::yield_now();
    }
    HeldOff(())
}

impl Drop for HeldOff {
    fn drop(&mut self) {
        GATE.fetch_sub(1, SeqCst);
    }
}

/// Not by a `OnceLock`: a child that is forked while another thread is inside it would wait for that thread for ever. So two threads may both
/// register, and the handlers may run twice.
fn register() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.load(SeqCst) {
        // SAFETY: the handlers are functions of this program that only use atomics and a flag of their thread, and yield.
        let _ = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        REGISTERED.store(true, SeqCst);
    }
}

thread_local! {
    /// This thread is between the two handlers.
    static FORKS: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn before_fork() {
    if FORKS.replace(true) {
        return;
    }
    while GATE.compare_exchange(0, FORKING, SeqCst, SeqCst).is_err() {
        std::thread::yield_now();
    }
}

extern "C" fn after_fork() {
    if FORKS.replace(false) {
        GATE.store(0, SeqCst);
    }
}

/// The page's word: this process's number, or 0 in a child that has none yet.
static WORD: OnceLock<&'static AtomicU32> = OnceLock::new();
/// The last number given out; inherited, so a child's differs from all of its ancestors'.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Which process, counted along a line of forks, something was made by.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    word: &'static AtomicU32,
    number: u32,
}

impl Generation {
    /// Whether the caller runs in the process that took this generation, and not in a forked child of it.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        self.word.load(std::sync::atomic::Ordering::Relaxed) == self.number
    }

    /// A number that differs from those of all ancestors.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// `madvise(2)` with `MADV_WIPEONFORK`: the generation of the calling process.
///
/// # Examples
/// ```
/// let mine = ginnel_os::fork::generation()?;
/// assert!(mine.is_current()); // in a forked child: false
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The errno of `mmap(2)` or `madvise(2)`: `EINVAL` before Linux 4.14.
pub fn generation() -> io::Result<Generation> {
    let word = match WORD.get() {
        Some(word) => word,
        None => {
            let page = new_page()?;
            WORD.get_or_init(|| page)
        }
    };
    if word.load(SeqCst) == 0 {
        let number = LAST.fetch_add(1, SeqCst) + 1;
        // Another thread may be first; then its number is this process's.
        let _ = word.compare_exchange(0, number, SeqCst, SeqCst);
    }
    Ok(Generation { word, number: word.load(SeqCst) })
}

fn new_page() -> io::Result<&'static AtomicU32> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses an unused range, so no memory of this program is replaced.
    let page = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) }?;
    // SAFETY: the page was just mapped; only a child's copy of it is changed by the advice.
    unsafe { rustix::mm::madvise(page, PAGE, Advice::LinuxWipeOnFork) }?;
    // SAFETY: the page is zeroed, aligned, and stays mapped for the life of the process.
    Ok(unsafe { &*page.cast::<AtomicU32>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_not_current() {
        let generation = generation().unwrap();
        assert!(generation.is_current());
        crate::storm::in_child(|| {
            assert!(!generation.is_current());
            let own = super::generation().unwrap();
            assert!(own.is_current() && own.number() != generation.number());
            assert!(!generation.is_current());
        });
        assert!(generation.is_current());
    }
}
