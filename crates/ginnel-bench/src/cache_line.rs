//! The bare cache line: one word that one process writes and the other waits for, in each direction.
//!
//! Not a channel: it holds one message of 8 bytes, which must differ from the one before, and nobody may send before the
//! last one was taken. It is the time that two cores need to see each other, the bound that no round trip goes below.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | store, `send_with` | load, `recv_with` | the word itself, and everything before it |
//!
//! Unsafe here follows the pointer to the word. The argument: each handle keeps the region mapped, and the word is only ever
//! accessed as an atomic.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::raw_ring::pause;
use crate::region::{LINE, Region};
use crate::{Failure, Inlet, Mechanism, Outlet, Way};

/// Two words, each alone on its line.
#[derive(Debug)]
pub struct CacheLine {
    region: Arc<Region>,
    pauses: u32,
}

impl CacheLine {
    /// Maps the two lines; who waits puts `pauses` pause instructions between two looks.
    ///
    /// # Errors
    ///
    /// When the memory cannot be mapped.
    pub fn new(pauses: u32) -> Result<Self, Failure> {
        Ok(Self { region: Region::new(2 * LINE)?, pauses })
    }

    fn word(&self, way: Way) -> Word {
        let offset = match way {
            Way::There => 0,
            Way::Back => LINE,
        };
        self.region.populate();
        Word { word: self.region.at(offset), last: 0, pauses: self.pauses, _region: Arc::clone(&self.region) }
    }
}

impl Mechanism for CacheLine {
    type Out = Word;
    type In = Word;

    fn sender(&self, way: Way) -> Result<Word, Failure> {
        Ok(self.word(way))
    }

    fn receiver(&self, way: Way) -> Result<Word, Failure> {
        Ok(self.word(way))
    }
}

/// One end of one direction.
#[derive(Debug)]
pub struct Word {
    word: NonNull<AtomicU64>,
    /// The value last received.
    last: u64,
    pauses: u32,
    _region: Arc<Region>,
}

impl Word {
    #[inline(always)]
    fn shared(&self) -> &AtomicU64 {
        // SAFETY: the region of `_region` is mapped, and holds an atomic here.
        unsafe { self.word.as_ref() }
    }
}

impl Outlet for Word {
    #[inline(always)]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        debug_assert_eq!(len, 8, "a cache line's word is the message");
        let mut bytes = [0; 8];
        fill(&mut bytes);
        // ORDERING [S1]: release, as a message would be published.
        self.shared().store(u64::from_ne_bytes(bytes), Ordering::Release);
        Ok(())
    }
}

impl Inlet for Word {
    #[inline(always)]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        let value = loop {
            // ORDERING [S1]: acquire, as a message would be received.
            let value = self.shared().load(Ordering::Acquire);
            if value != self.last {
                break value;
            }
            pause(self.pauses);
        };
        self.last = value;
        Ok(take(&value.to_ne_bytes()))
    }
}
