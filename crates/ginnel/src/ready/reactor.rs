//! The reactors of runtimes: whoever of them polls has the process's [`News`] drained as its own I/O, and waits for the kernel's descriptors.
//!
//! The news are registered once with each runtime, by an [`Attendant`]: it is the waker of that registration itself. The reactor calls it as it would call
//! any task; it drains the news, right there, which calls the wakers of those concerned, and waits on. So there is no task and no thread for this,
//! and a future that is dropped leaves nothing undone that others count on.
//!
//! | runtime | feature | reactor |
//! |---|---|---|
//! | tokio | `tokio` | `AsyncFd`, of the runtime that polls; its I/O must be enabled |
//! | smol, and any other | `smol` | `async-io`, one for the process |

use super::NAP_LEAST;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

/// What to wait for at a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    Read,
    Write,
}

/// A descriptor that a runtime waits for: a copy, so that the handle may close its own. Or a moment.
pub(super) enum Source {
    #[cfg(feature = "tokio")]
    Tokio(tokio::Source),
    #[cfg(feature = "smol")]
    Smol(smol::Source),
    /// Where no descriptor is left for a timer. The task has one turn after the other until then, with pauses, and the others have theirs between.
    Clock(Instant),
}

impl Source {
    pub(super) fn readable(file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::of(file.try_clone_to_owned()?, Interest::Read)
    }

    pub(super) fn writable(file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::of(file.try_clone_to_owned()?, Interest::Write)
    }

    /// Ready after so long.
    pub(super) fn timer(after: Duration) -> Self {
        let timer = || {
            let timer = ginnel_os::timerfd::TimerFd::new()?;
            timer.set(after)?;
            Self::of(timer.into(), Interest::Read)
        };
        timer().unwrap_or_else(|_| Self::Clock(Instant::now() + after))
    }

    #[allow(unused_variables, reason = "without a runtime there is none")]
    fn of(file: OwnedFd, interest: Interest) -> io::Result<Self> {
        #[cfg(feature = "tokio")]
        if tokio::is_here() {
            return tokio::Source::new(file, interest).map(Self::Tokio);
        }
        #[cfg(feature = "smol")]
        return smol::Source::new(file, interest).map(Self::Smol);
        #[cfg(not(feature = "smol"))]
        no_runtime()
    }

    /// Ready when it is worth looking again; an error counts as that.
    #[allow(unused_variables, reason = "without a runtime there is none")]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            #[cfg(feature = "tokio")]
            Self::Tokio(source) => source.poll(cx),
            #[cfg(feature = "smol")]
            Self::Smol(source) => source.poll(cx),
            Self::Clock(at) if Instant::now() >= *at => Poll::Ready(()),
            Self::Clock(_) => {
                std::thread::sleep(NAP_LEAST);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Makes sure that the runtime that polls drains the news.
#[allow(unused_variables, reason = "not every reactor wants it")]
pub(super) fn attend() -> io::Result<()> {
    #[cfg(feature = "tokio")]
    if tokio::is_here() {
        return tokio::attend();
    }
    #[cfg(feature = "smol")]
    return smol::attend();
    #[cfg(not(feature = "smol"))]
    no_runtime()
}

#[cfg(not(feature = "smol"))]
fn no_runtime() -> ! {
    panic!(
        "no runtime waits for this link: poll it in a tokio runtime, with ginnel's feature `tokio`, or in any other, with `smol`"
    )
}
