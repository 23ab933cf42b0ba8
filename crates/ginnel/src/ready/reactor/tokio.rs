//! tokio's reactor: `AsyncFd`.
#![allow(unsafe_code)] // Registers descriptors that the registration owns.

use super::Interest;
use crate::ready::News;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

/// Whether the caller runs in a tokio runtime.
pub(super) fn is_here() -> bool {
    Handle::try_current().is_ok()
}

/// A descriptor that this runtime waits for.
pub(in crate::ready) struct Source {
    file: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl Source {
    pub(super) fn new(file: OwnedFd, interest: Interest) -> io::Result<Self> {
        let wanted = match interest {
            Interest::Read => tokio::io::Interest::READABLE,
            Interest::Write => tokio::io::Interest::WRITABLE,
        };
        // SAFETY: the descriptor is open, and the registration owns it until it is dropped.
        let file = unsafe { AsyncFd::register_with_interest(file, wanted) }?;
        Ok(Self { file, interest })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.interest {
            Interest::Read => self.file.poll_read_ready(cx).map(drop),
            Interest::Write => self.file.poll_write_ready(cx).map(drop),
        }
    }
}

/// The news, as one descriptor of a runtime.
struct Registered(Arc<News>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Tells or drains the news whenever the reactor of its runtime says that there are some.
struct Attendant {
    runtime: Id,
    file: AsyncFd<Registered>,
}

/// Those of this process: one a runtime.
static ATTENDANTS: Mutex<Vec<Arc<Attendant>>> = Mutex::new(Vec::new());

fn with_attendants<R>(work: impl FnOnce(&mut Vec<Arc<Attendant>>) -> R) -> R {
    // A child would inherit the table locked.
    let _no_fork = ginnel_os::fork::hold_off();
    work(&mut ATTENDANTS.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(super) fn attend() -> io::Result<()> {
    let news = News::of_this_process()?;
    let runtime = Handle::current().id();
    let is_mine = |there: &Arc<Attendant>| there.runtime == runtime && Arc::ptr_eq(&there.file.get_ref().0, &news);
    let new = with_attendants(|there| {
        if there.iter().any(is_mine) {
            return Ok(None);
        }
        let registered = Registered(news.clone());
        // SAFETY: the instance is open for as long as the registration holds it, and never replaced.
        let file = unsafe { AsyncFd::register_with_interest(registered, tokio::io::Interest::READABLE) }?;
        let new = Arc::new(Attendant { runtime, file });
        there.push(new.clone());
        io::Result::Ok(Some(new))
    })?;
    if let Some(new) = new {
        new.run();
    }
    Ok(())
}

impl Attendant {
    /// Drains for as long as there is something, and leaves itself with the reactor.
    fn run(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            // Not within the budget of the task that happens to run: what it has used up is of no concern here.
            let ready = tokio::task::unconstrained(std::future::poll_fn(|cx| self.file.poll_read_ready(cx)));
            match std::pin::pin!(ready).poll(&mut cx) {
                Poll::Ready(Ok(mut guard)) => {
                    // It is registered for edges: what is left makes none.
                    guard.clear_ready();
                    let news = &self.file.get_ref().0;
                    if !news.tell() {
                        news.drain();
                    }
                }
                Poll::Ready(Err(_)) => {
                    // The runtime is shut down.
                    let gone = with_attendants(|there| {
                        let at = there.iter().position(|there| Arc::ptr_eq(there, &self));
                        at.map(|at| there.swap_remove(at))
                    });
                    drop(gone);
                    return;
                }
                Poll::Pending => return,
            }
        }
    }
}

impl Wake for Attendant {
    fn wake(self: Arc<Self>) {
        self.run();
    }
}
