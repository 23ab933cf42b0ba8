//! `SIGPIPE` of `pipe(7)`: a write to a pipe that nobody reads is to be an error, `EPIPE`, and never end the process.
//!
//! Where the signal is ignored, as the runtime of Rust arranges, there is nothing to do. Else Linux 6.18 takes `RWF_NOSIGNAL` with
//! a write. Before that, and for `splice(2)` and its kin, the signal is blocked in this thread around the call, and taken away if the
//! call brought it: the kernel sends it to the writing thread, so nobody else's is touched.
#![allow(unsafe_code)] // Asks for the disposition of a signal, and takes one that is pending.

use rustix::io::{Errno, ReadWriteFlags};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// `RWF_NOSIGNAL`, which no crate names yet.
pub(crate) const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// What a write has to do about the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Nothing: it is ignored.
    Nothing,
    /// Pass [`NOSIGNAL`].
    Flag,
    /// Go through [`without`].
    Mask,
}

impl Care {
    /// For the disposition of this moment.
    pub(crate) fn learn() -> Self {
        if is_ignored() {
            Self::Nothing
        } else if has_flag() {
            Self::Flag
        } else {
            Self::Mask
        }
    }
}

fn is_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks; `action` has room for the answer.
    unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid value too, should the call have failed.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Whether the kernel takes the flag, tried once on a pipe of our own.
pub(crate) fn has_flag() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let Ok((_reader, writer)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) else { return false };
        rustix::io::pwritev2(&writer, &[std::io::IoSlice::new(&[0])], u64::MAX, NOSIGNAL).is_ok()
    })
}

/// Runs a call that may bring `SIGPIPE` to this thread, so that it brings none.
pub(crate) fn without<R>(call: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    let set = only_sigpipe();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is a signal set; `before` has room for the former mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) };
    let was_pending = is_pending();
    let result = call();
    if matches!(result, Err(Errno::PIPE)) && !was_pending {
        take(&set);
    }
    // SAFETY: `before` was filled in by the call above, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: makes it an empty set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it is a set, and the number is a signal's.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: the two calls above filled it in.
    unsafe { set.assume_init() }
}

fn is_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: has room for the answer.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: it is a set, filled in by the call above.
    unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

/// Takes the pending signal, or nothing if it is ignored.
fn take(set: &libc::sigset_t) {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both are valid for the call, and nothing is asked about the signal.
    unsafe { libc::sigtimedwait(std::ptr::from_ref(set), std::ptr::null_mut(), &raw const at_once) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_that_was_pending_stays() {
        let run = || {
            let set = only_sigpipe();
            // SAFETY: a valid set, for a thread that ends with this test.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
            assert_eq!(without(|| Err::<(), _>(Errno::PIPE)), Err(Errno::PIPE));
            assert!(!is_pending());
            let raised = without(|| {
                // SAFETY: raises a blocked signal in this thread.
                unsafe { libc::raise(libc::SIGPIPE) };
                Err::<(), _>(Errno::PIPE)
            });
            assert_eq!(raised, Err(Errno::PIPE));
            assert!(!is_pending());
            // SAFETY: raises a blocked signal in this thread.
            unsafe { libc::raise(libc::SIGPIPE) };
            assert!(without(|| Err::<(), _>(Errno::PIPE)).is_err());
            assert!(is_pending());
            take(&set);
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn the_disposition_of_a_test_is_what_the_runtime_made_it() {
        assert_eq!(Care::learn(), Care::Nothing);
    }

    /// Writes to a pipe without readers in a process where the signal is deadly, when the test below asks for it.
    #[test]
    fn deadly() {
        let Ok(care) = std::env::var("GINNEL_CARE") else { return };
        // SAFETY: the default disposition, in a process of this test's own.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (reader, mut writer) = crate::pipe::pair().unwrap();
        drop(reader);
        let is_refused = |writer: &crate::pipe::Writer| {
            assert_eq!(writer.write(&[1], None).unwrap_err().raw_os_error(), Some(libc::EPIPE));
            assert_eq!(writer.try_write(&[1]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        };
        match &*care {
            "plain" => drop(rustix::io::write(&writer, &[1])),
            "learnt" => {
                writer.learn_sigpipe();
                is_refused(&writer);
            }
            _ => {
                assert_eq!(without(|| rustix::io::write(&writer, &[1])), Err(Errno::PIPE));
                assert!(!is_pending());
            }
        }
    }

    #[test]
    fn the_signal_ends_nobody_who_looked_it_up() {
        use std::os::unix::process::ExitStatusExt;
        let run = |care: &str| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "sigpipe::tests::deadly"]).env("GINNEL_CARE", care);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap()
        };
        assert!(run("learnt").success());
        assert!(run("mask").success());
        assert_eq!(run("plain").signal(), Some(libc::SIGPIPE), "the case is no proof");
    }
}
