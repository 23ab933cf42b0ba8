//! The same promises over every mechanism that a link can use, as `docs/mechanisms.md` states them.
//!
//! | what | file |
//! |---|---|
//! | the mechanisms; a link of each that cleans up after itself | `ground` |
//! | messages that prove themselves | `freight` |
//! | another process that carries them | `porter` |
//! | the table of `docs/mechanisms.md`, read and held against what happens | `table` |
//! | what each of its columns means | `promises` |
//! | UDP and signals, which promise little | `loose` |
//! | much, large, many, empty; a storm of signals | `exchange` |
//! | ends, deaths, what is left behind | `ends` |
//! | what `clean` collects, and what it leaves alone; whose a queue is | `leftover` |
//! | names, files and bytes that are wrong | `refusals` |
//! | waiting for several: `Select`, descriptors, futures | `several` |
//! | programs that know nothing of ginnel | `interop` |

mod ends;
mod exchange;
mod freight;
mod ground;
mod interop;
mod leftover;
mod loose;
pub(crate) mod porter;
mod promises;
mod refusals;
mod several;
mod table;
