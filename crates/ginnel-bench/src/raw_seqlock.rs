//! The raw baseline of the newest value: one value behind a sequence, which is odd while it is being written, with nothing checked.
//!
//! ```text
//! 0      sequence   the writer stores it: even, and the value is whole        (own line, 128 B)
//! 128    value      the bytes
//! ```
//!
//! Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012. One writer.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | even `sequence` store, `write` | first `sequence` load, `look` | the value's bytes |
//! | [S2] | odd `sequence` store, release fence, `write` | acquire fence, second `sequence` load, `look` | that a copy may be torn |
//!
//! Unsafe here copies into and out of the region while the other side may write: a data race, which is what makes this baseline raw. The
//! argument: handles keep the region mapped, copies stay within it, and what may be torn is thrown away.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::look::{Newest, Read, Write};
use crate::region::{LINE, Region};
use crate::{Case, Failure};

/// A sequence and a value, shared with every child forked after its creation.
#[derive(Clone, Debug)]
pub struct RawSeqlock {
    region: Arc<Region>,
    sequence: NonNull<AtomicU64>,
    value: NonNull<u8>,
    size: usize,
    /// The reader's copy.
    copy: Vec<u8>,
}

impl RawSeqlock {
    /// One for values of the size of `case`.
    ///
    /// # Errors
    ///
    /// When the memory cannot be mapped.
    pub fn new(case: &Case) -> Result<Self, Failure> {
        let region = Region::new(LINE + case.size)?;
        region.populate();
        let (sequence, value) = (region.at(0), region.at(LINE));
        Ok(Self { region, sequence, value, size: case.size, copy: vec![0; case.size] })
    }

    #[inline(always)]
    fn sequence(&self) -> &AtomicU64 {
        // SAFETY: the word lies in the region that `self` keeps mapped, and zero bytes are a valid atomic.
        unsafe { self.sequence.as_ref() }
    }

    /// Makes `value`, which has the size of the case, the newest. One process at a time.
    ///
    /// # Panics
    ///
    /// When it has another size.
    #[inline]
    pub fn set(&mut self, value: &[u8]) {
        assert_eq!(value.len(), self.size, "a value of another size");
        let sequence = self.sequence().load(Ordering::Relaxed);
        self.sequence().store(sequence + 1, Ordering::Relaxed);
        // ORDERING [S2]: release; who copies one of the bytes below sees an odd or another sequence.
        fence(Ordering::Release);
        // SAFETY: both have `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), self.value.as_ptr(), self.size) };
        // ORDERING [S1]: release; the value is whole.
        self.sequence().store(sequence + 2, Ordering::Release);
    }

    /// The newest value.
    #[inline]
    pub fn get(&mut self) -> &[u8] {
        let (from, to) = (self.value, self.copy.as_mut_ptr());
        loop {
            // ORDERING [S1]: acquire; even means whole.
            let sequence = self.sequence().load(Ordering::Acquire);
            if sequence % 2 == 0 {
                // SAFETY: both have `size` bytes; what the writer does meanwhile is seen below.
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, self.size) };
                // ORDERING [S2]: acquire; a byte of a newer value comes with a newer sequence.
                fence(Ordering::Acquire);
                if self.sequence().load(Ordering::Relaxed) == sequence {
                    return &self.copy;
                }
            }
            std::hint::spin_loop();
        }
    }
}

impl Newest for RawSeqlock {
    type Write = Self;
    type Read = Self;

    fn writer(&self) -> Result<Self, Failure> {
        self.region.populate();
        Ok(self.clone())
    }

    fn reader(&self) -> Result<Self, Failure> {
        self.writer()
    }
}

impl Write for RawSeqlock {
    #[inline]
    fn write(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.set(value);
        Ok(())
    }
}

impl Read for RawSeqlock {
    #[inline]
    fn look<R>(&mut self, show: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        Ok(show(self.get()))
    }
}
