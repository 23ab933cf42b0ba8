//! Atomics, behind a facade that loom can replace. Nothing else in this crate names `core::sync`.
//!
//! Two fences are ours. The *light* one stands on paths that run per message, the *heavy* one on paths that
//! run per sleep or per change of hands; together they order a store before a load on both sides, as two
//! `SeqCst` fences would. Where the kernel offers `membarrier(2)` the light one is a compiler fence only,
//! since the heavy one makes every other core pass a full barrier.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Between two turns of a loop that another participant must end.
#[inline(always)]
pub(crate) fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// The pair of fences that an attached engine uses; see the module.
#[derive(Clone, Copy)]
pub(crate) struct Fences {
    /// `heavy` is `membarrier`: the light side needs no instruction.
    pub(crate) asymmetric: bool,
    /// Given by the crate above, which may call the kernel.
    pub(crate) heavy: fn(),
}

impl Fences {
    /// Before this: a store. After it: a load. The peer has `heavy` between its own store and load.
    #[inline(always)]
    pub(crate) fn light(&self) {
        if self.asymmetric && cfg!(not(loom)) {
            core::sync::atomic::compiler_fence(SeqCst);
        } else {
            // ORDERING: SeqCst; the store-load pair of [S4@event] and [S6@side], with the same fence at the heavy side.
            fence(SeqCst);
        }
    }

    /// The light fence of one whose side is exclusive to it, which only is where the heavy one reaches every core.
    #[inline(always)]
    pub(crate) fn light_of_exclusive(&self) {
        debug_assert!(self.asymmetric);
        #[cfg(not(loom))]
        core::sync::atomic::compiler_fence(SeqCst);
        #[cfg(loom)]
        self.light();
    }

    pub(crate) fn heavy(&self) {
        (self.heavy)();
    }
}
