//! The look whether anybody sleeps, alone: what each send and each release do when they are done.

// Makes a region of a vector that outlives the engine.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::ptr::NonNull;

use ginnel_core::{Engine, Geometry, Layout, Memory};

use super::paths::Loops;

/// An engine that nobody has joined: nobody sleeps.
pub(crate) struct WakeCheck {
    engine: Engine,
    /// Whether the side that looks is exclusive to it.
    exclusive: bool,
    _region: Vec<u128>,
}

impl WakeCheck {
    pub(crate) fn new(exclusive: bool) -> Result<Self, String> {
        let layout = Layout::new(Geometry::default()).map_err(|error| format!("{error:?}"))?;
        let mut region = vec![0u128; layout.total_bytes() / 16];
        let base = NonNull::new(region.as_mut_ptr()).ok_or("no memory")?.cast();
        // SAFETY: the vector is kept beside the engine, and nothing else refers to its elements.
        let memory = unsafe { Memory::new(base, layout.total_bytes()) };
        Ok(Self { engine: Engine::new(memory, layout, true, || ()), exclusive, _region: region })
    }
}

impl Loops for WakeCheck {
    fn counted(&mut self, times: u64) -> Result<(), String> {
        let engine = black_box(&self.engine);
        if self.exclusive {
            (0..times).for_each(|_| _ = black_box(engine.items().is_announced_of_exclusive()));
        } else {
            (0..times).for_each(|_| _ = black_box(engine.items().notify().is_some()));
        }
        Ok(())
    }
}
