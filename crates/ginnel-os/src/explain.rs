//! `errno(3)` with its reason: an [`io::Error`] that says which limit was met, what it is now, and what raises it, and that still gives
//! the number.
//!
//! What it is not: a second kind of error. It is the [`io::Error`] that the errno would have made, with a better text; where the kernel
//! has nothing to say (a value that no call could take), it carries the errno that the kernel would have used.

use std::fmt;
use std::io::{self, ErrorKind};

/// What stands inside an [`io::Error`] whose cause is explained; [`errno`] looks it up.
#[derive(Debug)]
pub struct Explained {
    errno: i32,
    text: String,
    limit: Option<(&'static str, u64)>,
}

impl Explained {
    /// The error number, as in `errno(3)`.
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Explained {}

/// The `errno(3)` of an error of this crate, explained or not. [`io::Error::raw_os_error`] only knows the ones that are not.
///
/// ```
/// let error = ginnel_os::shm::open("no slash", ginnel_os::shm::Access::Read).unwrap_err();
/// assert!(error.raw_os_error().is_none());
/// assert!(ginnel_os::explain::errno(&error).is_some());
/// ```
pub fn errno(error: &io::Error) -> Option<i32> {
    let inside = || error.get_ref()?.downcast_ref::<Explained>().map(Explained::errno);
    error.raw_os_error().or_else(inside)
}

/// The limit that a call met, by the name that raises it, and its value, where the explanation names one and it could be read.
///
/// ```
/// assert_eq!(ginnel_os::explain::limit(&std::io::Error::other("no limit")), None);
/// ```
pub fn limit(error: &io::Error) -> Option<(&'static str, u64)> {
    error.get_ref()?.downcast_ref::<Explained>()?.limit
}

/// An error with this number and this text.
#[cold]
pub(crate) fn explain(errno: i32, text: impl Into<String>) -> io::Error {
    io::Error::new(kind(errno), Explained { errno, text: text.into(), limit: None })
}

/// The same, of a limit that was met.
#[cold]
pub(crate) fn met(errno: i32, (name, value): (&'static str, Option<u64>), text: impl Into<String>) -> io::Error {
    io::Error::new(kind(errno), Explained { errno, text: text.into(), limit: value.map(|value| (name, value)) })
}

/// An error for an argument that the kernel would refuse with `EINVAL`.
#[cold]
pub(crate) fn invalid(text: impl Into<String>) -> io::Error {
    explain(libc::EINVAL, text)
}

/// The error of a deadline that has passed.
#[cold]
pub(crate) fn timed_out() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

/// The error of a `try_` that would have to wait.
#[cold]
pub(crate) fn would_block() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}

/// An error of a call that makes a descriptor: which limit on those it met, if that is what it met.
#[cold]
pub(crate) fn not_opened(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let text = format!(
                "no descriptor is left: RLIMIT_NOFILE allows this process {}; close some, or raise it with ulimit -n",
                shown(limit)
            );
            met(libc::EMFILE, ("RLIMIT_NOFILE", limit), text)
        }
        Some(libc::ENFILE) => {
            let limit = proc_number("/proc/sys/fs/file-max");
            let text = format!(
                "the machine has no open file left: fs.file-max is {}; raise it with sysctl fs.file-max=N",
                shown(limit)
            );
            met(libc::ENFILE, ("fs.file-max", limit), text)
        }
        _ => error,
    }
}

/// std leaves what concerns a caller's argument without a kind that can be matched.
fn kind(errno: i32) -> ErrorKind {
    match errno {
        libc::EMSGSIZE | libc::ERANGE | libc::EOVERFLOW | libc::E2BIG | libc::EFBIG | libc::ENAMETOOLONG => {
            ErrorKind::InvalidInput
        }
        other => io::Error::from_raw_os_error(other).kind(),
    }
}

/// A number that `/proc` shows in a file of its own, if it can be read.
pub(crate) fn proc_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A limit for people: the number, or that it is not known.
pub(crate) fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_survives_the_explanation() {
        let error = explain(libc::EMSGSIZE, "too long");
        assert_eq!(
            (errno(&error), error.kind(), error.to_string()),
            (Some(90), ErrorKind::InvalidInput, "too long".into())
        );
        assert_eq!(errno(&timed_out()), Some(libc::ETIMEDOUT));
        assert_eq!(errno(&io::Error::other("no number")), None);
    }
}
