//! A case: a wrapper, and the bare calls that do the same.

use crate::{locks, memory, queues, signals, sockets, streams};
use std::hint::black_box;

/// Whether the two sides promise the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// They do, and the limit holds.
    Same,
    /// The wrapper does more, for this reason; shown, and not judged.
    More(&'static str),
}

/// Runs a side so many times.
type Side = Box<dyn FnMut(u32)>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
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
    Case { name, class: Class::Same, is_in_process: false, wrapped: side(wrapped), bare: side(bare) }
}

impl Case {
    pub(crate) fn more(self, why: &'static str) -> Self {
        Self { class: Class::More(why), ..self }
    }

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
