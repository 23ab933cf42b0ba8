//! `Select` of crossbeam-channel over ginnel's, and what its macros expand to. Receivers only: a `Select` of ginnel's waits for what arrives, not for room.
//!
//! ginnel's takes the message when it selects, where crossbeam's does when the operation is completed. So an operation that was selected has the word already, and must be
//! completed on the receiver of which it is: that is checked by the receiver's address, which lives at least as long.
//!
//! Unsafe: the word becomes a value there.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::word::Word;
use crate::{is_closed, Receiver, RecvError, SelectTimeoutError, TrySelectError};

/// What is named where crossbeam's macros expand.
pub mod internal {
    use super::{select_until, SelectedOperation, Until};
    use crate::{Lease, Receiver};
    use std::time::{Duration, Instant};

    /// What can be selected: receivers.
    pub trait SelectHandle {
        /// A handle of ginnel's, for one turn.
        #[doc(hidden)]
        fn lease(&self) -> Option<Leased<'_>>;
    }

    /// A handle of ginnel's that was leased.
    pub struct Leased<'a>(pub(super) Lease<'a, ginnel::Receiver>);

    impl<T> SelectHandle for Receiver<T> {
        fn lease(&self) -> Option<Leased<'_>> {
            Some(Leased(self.pool.lease()))
        }
    }

    /// A place that is filled before anybody selects.
    pub struct Nothing;

    impl SelectHandle for Nothing {
        fn lease(&self) -> Option<Leased<'_>> {
            None
        }
    }

    /// A handle, its place, and its address.
    pub type Entry<'a> = (&'a dyn SelectHandle, usize, *const u8);

    /// Waits for one of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn select<'a>(entries: &mut [Entry<'a>], biased: bool) -> SelectedOperation<'a> {
        select_until(entries, biased, Until::Ever).expect("it waits for ever")
    }

    /// One that is ready.
    pub fn try_select<'a>(entries: &mut [Entry<'a>], biased: bool) -> Option<SelectedOperation<'a>> {
        select_until(entries, biased, Until::Now)
    }

    /// One that becomes ready in this time.
    pub fn select_timeout<'a>(
        entries: &mut [Entry<'a>],
        timeout: Duration,
        biased: bool,
    ) -> Option<SelectedOperation<'a>> {
        select_until(entries, biased, Until::Instant(Instant::now() + timeout))
    }
}

enum Until {
    Now,
    Instant(Instant),
    Ever,
}

/// Calls so far: where the next one begins to look.
static TURN: AtomicUsize = AtomicUsize::new(0);

fn select_until<'a>(entries: &mut [internal::Entry<'a>], biased: bool, until: Until) -> Option<SelectedOperation<'a>> {
    if !biased && !entries.is_empty() {
        // Each `Select` of ginnel's serves its handles in turn; this one is new in each call.
        entries.rotate_left(TURN.fetch_add(1, Relaxed) % entries.len());
    }
    let leases: Vec<_> = entries.iter().map(|entry| entry.0.lease().expect("a receiver").0).collect();
    let mut select = ginnel::Select::new();
    for lease in &leases {
        select.add(&**lease);
    }
    let selected = match until {
        Until::Now => select.try_now(),
        Until::Instant(at) => select.wait_deadline(at),
        Until::Ever => Some(select.wait()),
    }?;
    let (_, index, of) = entries[selected.index];
    let word = match selected.arrival.message() {
        Ok(message) => Some(Word::address_of(&message)),
        Err(error) => {
            assert!(is_closed(&error), "{error}");
            None
        }
    };
    Some(SelectedOperation { index, of, word, on: std::marker::PhantomData })
}

/// An operation that was selected, and is to be completed.
#[must_use]
pub struct SelectedOperation<'a> {
    index: usize,
    /// The address of its receiver.
    of: *const u8,
    word: Option<usize>,
    on: std::marker::PhantomData<&'a ()>,
}

impl SelectedOperation<'_> {
    /// Which it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes it.
    ///
    /// # Errors
    /// If the channel is disconnected.
    ///
    /// # Panics
    /// If it is an operation of another receiver.
    pub fn recv<T>(mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        assert!(ptr::from_ref(receiver).cast::<u8>() == self.of, "passed a receiver that was not selected");
        let word = self.word.take().ok_or(RecvError)?;
        // SAFETY: [I2@lib] it came from the link of the receiver at this address, which is borrowed since, so it is `receiver`; [I3@lib] it is taken out of this operation.
        Ok(unsafe { Word::at(word) }.value())
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        assert!(self.word.is_none() || std::thread::panicking(), "dropped an operation without completing it");
    }
}

/// Waits for one of several operations.
#[derive(Clone, Default)]
pub struct Select<'a> {
    entries: Vec<internal::Entry<'a>>,
    next: usize,
    biased: bool,
}

impl<'a> Select<'a> {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, where the first of those that are ready is selected.
    pub fn new_biased() -> Self {
        Self { biased: true, ..Self::default() }
    }

    /// Adds a receive operation; returns its index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.entries.push((receiver, self.next, ptr::from_ref(receiver).cast()));
        self.next += 1;
        self.next - 1
    }

    /// Takes an operation out.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, index: usize) {
        let at = self.entries.iter().position(|entry| entry.1 == index).expect("no operation with this index");
        self.entries.swap_remove(at);
    }

    /// Waits for one of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn select(&mut self) -> SelectedOperation<'a> {
        internal::select(&mut self.entries, self.biased)
    }

    /// One that is ready.
    ///
    /// # Errors
    /// If none is.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        internal::try_select(&mut self.entries, self.biased).ok_or(TrySelectError)
    }

    /// One that becomes ready in this time.
    ///
    /// # Errors
    /// If none does.
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        internal::select_timeout(&mut self.entries, timeout, self.biased).ok_or(SelectTimeoutError)
    }
}
