//! A case: a wrapper, and the bare calls that do the same.

use crate::{locks, memory, queues, signals, sockets, streams};
use std::hint::black_box;

/// Runs a side so many times.
type Side = Box<dyn FnMut(u32)>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Neither side enters the kernel.
    pub(crate) is_in_process: bool,
    pub(crate) wrapped: Side,
    pub(crate) bare: Side,
}

pub(crate) type Cases = Vec<Case>;

/// Both sides leave things as they found them, so that they can run in any number and order.
pub(crate) fn case<W, B>(
    name: &'static str,
    wrapped: impl FnMut() -> W + 'static,
    bare: impl FnMut() -> B + 'static,
) -> Case {
    Case { name, is_in_process: false, wrapped: side(wrapped), bare: side(bare) }
}

impl Case {
    pub(crate) fn in_process(self) -> Self {
        Self { is_in_process: true, ..self }
    }
}

fn side<R>(mut call: impl FnMut() -> R + 'static) -> Side {
    Box::new(move |calls| {
        for _ in 0..calls {
            black_box(call());
        }
    })
}

pub(crate) fn all() -> Cases {
    [streams::cases(), queues::cases(), sockets::cases(), locks::cases(), signals::cases(), memory::cases()]
        .into_iter()
        .flatten()
        .collect()
}
