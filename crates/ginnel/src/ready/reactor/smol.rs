//! The reactor of smol, and of whoever has none of its own: `async-io`. There is one for the process; whoever blocks on a future drives it, or else
//! a thread of its own does.

use super::Interest;
use crate::ready::News;
use async_io::Async;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A descriptor that the reactor waits for.
pub(in crate::ready) struct Source {
    file: Async<OwnedFd>,
    interest: Interest,
}

impl Source {
    pub(super) fn new(file: OwnedFd, interest: Interest) -> io::Result<Self> {
        Ok(Self { file: Async::new_nonblocking(file)?, interest })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.interest {
            Interest::Read => self.file.poll_readable(cx).map(drop),
            Interest::Write => self.file.poll_writable(cx).map(drop),
        }
    }
}

/// The news, as one descriptor of the reactor.
struct Registered(Arc<News>);

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Tells or drains the news whenever the reactor says that there are some.
struct Attendant {
    file: Async<Registered>,
    /// The reactor is not asked for more, as it would say at once what is left. Who announces itself, and has taken that, sees to it.
    rests: AtomicBool,
}

/// That of this process, and in a child that of its parent.
static ATTENDANT: Mutex<Option<Arc<Attendant>>> = Mutex::new(None);

pub(super) fn attend() -> io::Result<()> {
    let news = News::of_this_process()?;
    let new = {
        // A child would inherit it locked.
        let _no_fork = ginnel_os::fork::hold_off();
        let mut there = ATTENDANT.lock().unwrap_or_else(PoisonError::into_inner);
        match there.as_ref().filter(|there| Arc::ptr_eq(&there.file.get_ref().0, &news)) {
            Some(there) if there.rests.swap(false, SeqCst) => there.clone(),
            Some(_) => return Ok(()),
            None => {
                let new = Attendant { file: Async::new_nonblocking(Registered(news))?, rests: AtomicBool::new(false) };
                let new = Arc::new(new);
                std::mem::forget(there.replace(new.clone()));
                new
            }
        }
    };
    new.run(false);
    Ok(())
}

impl Attendant {
    /// Leaves itself with the reactor, and drains for as long as there is something. `is_new`: that is what the reactor said last. Else somebody has drained
    /// that since.
    fn run(self: Arc<Self>, mut is_new: bool) {
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        while let Poll::Ready(Ok(())) = self.file.poll_readable(&mut cx) {
            if std::mem::replace(&mut is_new, true) {
                self.file.get_ref().0.drain();
            }
        }
    }
}

impl Wake for Attendant {
    /// The reactor says that there is something, and does so once.
    fn wake(self: Arc<Self>) {
        self.rests.store(true, SeqCst); // before anybody is called, who may see to it at once
        if !self.file.get_ref().0.tell() && self.rests.swap(false, SeqCst) {
            self.run(true);
        }
    }
}
