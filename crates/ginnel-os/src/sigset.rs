//! `sigsetops(3)`, `pthread_sigmask(3)`, `sigpending(2)`, `sigtimedwait(2)`: sets of signals, blocking them in a thread, and taking them one by
//! one instead of being interrupted.
//!
//! A signal to a process goes to any thread that does not block it. So who waits for one blocks it in every thread: before the first thread is
//! started, as threads inherit the mask. Programs inherit it too, also those that [`std::process::Command`] starts: see [`Set::pass`].
#![allow(unsafe_code)] // Signal sets are C structs that calls fill in.

use crate::signal::{Fields, Info, Signal};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

/// `sigset_t`: a set of signals.
///
/// ```
/// use ginnel_os::{signal::Signal, sigset::Set};
///
/// let mut set = Set::from_iter([Signal::INT, Signal::TERM]);
/// set.remove(Signal::INT);
/// assert_eq!(set.iter().collect::<Vec<_>>(), [Signal::TERM]);
/// ```
#[derive(Clone, Copy)]
pub struct Set {
    raw: libc::sigset_t,
    /// False if nothing is in it, as far as that is known without counting.
    any: bool,
}

impl Set {
    /// `sigemptyset(3)`.
    pub fn empty() -> Self {
        let mut set = MaybeUninit::zeroed();
        // SAFETY: fills the set in.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: zeroed and then filled in.
        Self { raw: unsafe { set.assume_init() }, any: false }
    }

    /// `sigfillset(3)`: every signal but those of the C library. That `SIGKILL` and `SIGSTOP` are in it has no effect.
    pub fn all() -> Self {
        let mut set = Self::empty();
        // SAFETY: fills the set in.
        unsafe { libc::sigfillset(&raw mut set.raw) };
        set.any = true;
        set
    }

    /// `pthread_sigmask(3)`: what the calling thread blocks.
    ///
    /// ```
    /// use ginnel_os::{signal::Signal, sigset::Set};
    ///
    /// assert!(!Set::of_thread().contains(Signal::USR1));
    /// ```
    pub fn of_thread() -> Self {
        change(libc::SIG_BLOCK, None)
    }

    /// `sigpending(2)`: what waits for the calling thread or for the process until it is no longer blocked.
    ///
    /// ```
    /// assert_eq!(ginnel_os::sigset::Set::pending().iter().count(), 0);
    /// ```
    pub fn pending() -> Self {
        let mut set = Self::empty();
        // SAFETY: fills the set in.
        unsafe { libc::sigpending(&raw mut set.raw) };
        set.any = true;
        set
    }

    /// `sigaddset(3)`.
    pub fn insert(&mut self, signal: Signal) {
        // SAFETY: changes the set; a number that is no signal would be an error and change nothing.
        unsafe { libc::sigaddset(&raw mut self.raw, signal.number()) };
        self.any = true;
    }

    /// `sigdelset(3)`.
    pub fn remove(&mut self, signal: Signal) {
        // SAFETY: as in `insert`, changes the set or nothing.
        unsafe { libc::sigdelset(&raw mut self.raw, signal.number()) };
        let any = !self.is_empty();
        self.any = any;
    }

    /// `sigismember(3)`.
    pub fn contains(&self, signal: Signal) -> bool {
        // SAFETY: reads the set.
        unsafe { libc::sigismember(&raw const self.raw, signal.number()) == 1 }
    }

    /// Whether no signal is in it.
    pub fn is_empty(&self) -> bool {
        !self.any || self.iter().next().is_none()
    }

    /// Its signals, from the lowest number up.
    pub fn iter(&self) -> impl Iterator<Item = Signal> + '_ {
        (1..=libc::SIGRTMAX()).filter_map(|number| Signal::new(number).ok()).filter(|signal| self.contains(*signal))
    }

    /// `pthread_sigmask(3)`: blocks these in the calling thread until the guard is dropped, which unblocks those that were not blocked before.
    ///
    /// ```
    /// use ginnel_os::{signal::Signal, sigset::Set};
    ///
    /// let blocked = Set::from_iter([Signal::USR1]).block();
    /// assert!(Set::of_thread().contains(Signal::USR1));
    /// drop(blocked);
    /// assert!(!Set::of_thread().contains(Signal::USR1));
    /// ```
    pub fn block(&self) -> Blocked {
        let before = change(libc::SIG_BLOCK, Some(self));
        Blocked { new: self.iter().filter(|signal| !before.contains(*signal)).collect(), thread: PhantomData }
    }

    /// `sigtimedwait(2)`: takes a signal of this set, the lowest first, once there is one. The calling thread has them blocked, and so has every
    /// other if they are sent to the process; else they are delivered instead.
    ///
    /// # Errors
    /// `TimedOut`: none came until the deadline. `InvalidInput`: the set is empty and there is no deadline, which would never end.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::{signal::{self, Signal}, sigset::Set};
    /// use std::time::{Duration, Instant};
    ///
    /// let set = Set::from_iter([Signal::USR1]);
    /// let _blocked = set.block();
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(set.wait(Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// signal::send(std::process::id(), Signal::USR1)?;
    /// assert_eq!(set.wait(None)?.signal, Signal::USR1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<Info> {
        if deadline.is_none() && !self.any {
            let text = "a wait for no signal without a deadline never ends; put a signal into the set";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            match self.take(left.map(timespec)) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    if deadline.is_none_or(|at| Instant::now() >= at) {
                        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
                    }
                }
                result => return result,
            }
        }
    }

    /// `sigtimedwait(2)` with no time: takes a signal of this set that is pending.
    ///
    /// # Errors
    /// `WouldBlock`: none is.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::sigset::Set;
    ///
    /// assert_eq!(Set::empty().try_wait().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// ```
    pub fn try_wait(&self) -> io::Result<Info> {
        loop {
            match self.take(Some(libc::timespec { tv_sec: 0, tv_nsec: 0 })) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                result => return result,
            }
        }
    }

    fn take(&self, left: Option<libc::timespec>) -> io::Result<Info> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set and the time are valid for the call, which fills `info` in.
        if unsafe { libc::sigtimedwait(&raw const self.raw, info.as_mut_ptr(), left) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: filled in; before it was zeroed, which is valid too.
        Ok(read(&unsafe { info.assume_init() }))
    }

    /// `pthread_sigmask(3)` in the child: the command's program starts with these signals blocked, and no others. Without this it starts with
    /// those that are blocked in the thread that spawns it, and a program that expects to be ended by a signal may never be.
    ///
    /// ```
    /// use ginnel_os::{signal::{self, Signal}, sigset::Set};
    /// use std::{os::unix::process::ExitStatusExt, process::Command};
    ///
    /// let before = Set::of_thread();
    /// let _blocked = Set::from_iter([Signal::TERM]).block();
    /// let mut command = Command::new("sleep");
    /// before.pass(command.arg("60"));
    /// let mut child = command.spawn()?;
    /// signal::send(child.id(), Signal::TERM)?;
    /// assert_eq!(child.wait()?.signal(), Some(Signal::TERM.number()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pass(&self, command: &mut Command) {
        let set = *self;
        let place = move || {
            change(libc::SIG_SETMASK, Some(&set));
            Ok(())
        };
        // SAFETY: the closure makes one system call and fills a set on its stack, which is safe after a fork: no allocation, no lock.
        unsafe { command.pre_exec(place) };
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sigset_t {
        &raw const self.raw
    }
}

/// Every field that may be asked for lies within the struct, so all are read and the code decides what they mean.
fn read(info: &libc::siginfo_t) -> Info {
    Info::of(&Fields {
        signal: info.si_signo,
        code: info.si_code,
        // SAFETY: an integer within the struct.
        pid: unsafe { info.si_pid() } as u32,
        // SAFETY: an integer within the struct.
        uid: unsafe { info.si_uid() },
        // SAFETY: a word within the struct, which is not used as a pointer.
        word: unsafe { info.si_value() }.sival_ptr.addr(),
        // SAFETY: an integer within the struct.
        status: unsafe { info.si_status() },
    })
}

fn timespec(left: std::time::Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        #[allow(clippy::cast_lossless, reason = "its width differs between architectures")]
        tv_nsec: left.subsec_nanos() as libc::c_long,
    }
}

/// Changes the mask of this thread, and says what it was.
fn change(how: libc::c_int, set: Option<&Set>) -> Set {
    let mut before = Set::empty();
    let set = set.map_or(std::ptr::null(), Set::as_ptr);
    // SAFETY: `set` is valid or null; `before` has room for the former mask. With a valid `how` the call cannot fail.
    unsafe { libc::pthread_sigmask(how, set, &raw mut before.raw) };
    before.any = true;
    before
}

impl FromIterator<Signal> for Set {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        let mut set = Self::empty();
        signals.into_iter().for_each(|signal| set.insert(signal));
        set
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Set {}

/// Signals that are blocked in a thread as long as this is there. It stays in that thread.
#[derive(Debug)]
#[must_use = "it unblocks when it is dropped"]
pub struct Blocked {
    new: Set,
    thread: PhantomData<*const ()>,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        change(libc::SIG_UNBLOCK, Some(&self.new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{self, Value};
    use crate::storm::{Storm, in_child};
    use std::time::Duration;

    fn to_me(signal: Signal) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        signal::send_to_thread(std::process::id(), thread, signal).unwrap();
    }

    #[test]
    fn sets_are_sets() {
        let all = Set::all();
        assert!(all.contains(Signal::TERM) && all.contains(Signal::real_time(30).unwrap()));
        assert_eq!(all.iter().count(), 62);
        assert!(Set::empty().is_empty() && Set::empty() != all);
        let set = Set::from_iter([Signal::TERM, Signal::INT, Signal::TERM]);
        assert_eq!(format!("{set:?}"), "{SIGINT, SIGTERM}");
    }

    #[test]
    fn guards_restore_what_they_changed_even_in_a_panic() {
        let outer = Set::from_iter([Signal::USR1]).block();
        let inner = Set::from_iter([Signal::USR1, Signal::USR2]).block();
        assert!(Set::of_thread().contains(Signal::USR2));
        drop(inner);
        assert!(Set::of_thread().contains(Signal::USR1) && !Set::of_thread().contains(Signal::USR2));
        drop(outer);
        let panic = std::panic::catch_unwind(|| {
            signal::with_all_blocked(|| std::panic::resume_unwind(Box::new(())));
        });
        assert!(panic.is_err());
        assert!(Set::of_thread().is_empty());
    }

    #[test]
    fn the_lowest_pending_signal_is_taken_first() {
        let set = Set::from_iter([Signal::USR1, Signal::USR2]);
        let _blocked = set.block();
        assert_eq!(set.try_wait().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        to_me(Signal::USR2);
        to_me(Signal::USR1);
        assert_eq!(Set::pending(), set);
        let first = set.wait(Some(Instant::now())).unwrap();
        assert_eq!(first.signal, Signal::USR1);
        assert_eq!(first.sender.unwrap().pid, std::process::id());
        assert_eq!((first.value, first.status), (None, None));
        assert_eq!(set.try_wait().unwrap().signal, Signal::USR2);
        assert_eq!(set.wait(Some(Instant::now())).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_deadline_holds_in_a_storm_of_signals() {
        let set = Set::from_iter([Signal::USR1]);
        let _blocked = set.block();
        let _storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(set.wait(Some(until)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        let far = Instant::now() + Duration::from_secs(u64::MAX / 4_000_000_000);
        to_me(Signal::USR1);
        assert!(set.wait(Some(far)).is_ok());
    }

    #[test]
    fn an_endless_wait_for_nothing_is_refused() {
        assert_eq!(Set::empty().wait(None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(Set::empty().wait(Some(soon)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn queued_values_arrive_in_order() {
        in_child(|| {
            let signal = Signal::real_time(1).unwrap();
            let set = Set::from_iter([signal, Signal::USR1]);
            let _blocked = set.block();
            for value in [-1, 2, i32::MIN] {
                signal::queue(std::process::id(), signal, Value::from_int(value)).unwrap();
                // A standard one is there once, with its first value.
                signal::queue(std::process::id(), Signal::USR1, Value::from_word(usize::MAX - 7)).unwrap();
            }
            let standard = set.try_wait().unwrap();
            assert_eq!(standard.value.map(Value::as_word), Some(usize::MAX - 7));
            for value in [-1, 2, i32::MIN] {
                let info = set.try_wait().unwrap();
                assert_eq!((info.signal, info.code, info.value.unwrap().as_int()), (signal, libc::SI_QUEUE, value));
            }
            assert!(set.try_wait().is_err());
        });
    }

    #[test]
    fn a_child_that_ends_is_told_with_its_status() {
        in_child(|| {
            let set = Set::from_iter([Signal::CHLD]);
            let _blocked = set.block();
            let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
            let info = set.wait(Some(Instant::now() + Duration::from_secs(20))).unwrap();
            assert_eq!(info.sender.unwrap().pid, child.id());
            assert_eq!((info.code, info.status), (libc::CLD_EXITED, Some(3)));
            child.wait().unwrap();
        });
    }
}
