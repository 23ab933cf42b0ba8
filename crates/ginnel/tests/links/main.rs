//! Links from the outside: what `docs/` promises, held by threads and by real processes, some of which are killed.
//!
//! | what | file |
//! |---|---|
//! | where the links of a test live, how long it may wait, how much it does | `place` |
//! | seeded chance | `dice` |
//! | another process of this binary; what it can be told to do | `child`, `script` |
//! | messages between handles of one thread, against an oracle | `exchange` |
//! | every receiver gets every message | `broadcast` |
//! | many threads at once | `threads` |
//! | what processes did and when, against the definition of a queue | `history` |
//! | the newest value | `latest` |
//! | timeouts, deadlines, signals, the end of the stream | `time` |
//! | processes that are killed | `death` |
//! | requests and their responses; letters to names | `call`, `mail` |
//! | who makes a link, who removes it, who cleans up | `lifetime` |
//! | handles in a forked child | `fork` |
//! | waiting for several: `Select` and descriptors; handles that are no receivers; futures | `several`, `kinds`, `futures` |
//! | what is no link, no directory, no memory | `hostile` |
//! | links without a capacity; what they give back | `unbounded`, `unbounded_drained` |
//! | a link that is scribbled over while it is in use; every shape of it, bit by bit | `corrupt`, `flipped` |
//! | messages that are values of a type | `typed` |
//! | streams of bytes; the same in tasks, with hyper | `stream`, `polled` |
//! | the promises over every other mechanism | `mechanisms` |
//!
//! `GINNEL_TEST_SCALE=10` does ten times as much. A failing seed is printed; nothing here depends on the clock being fast.

mod broadcast;
mod call;
mod child;
mod corrupt;
mod death;
mod dice;
mod exchange;
mod flipped;
mod fork;
mod futures;
mod history;
mod hostile;
mod kinds;
mod latest;
mod lifetime;
mod mail;
mod mechanisms;
mod place;
mod polled;
mod scarce;
mod script;
mod several;
mod stream;
mod threads;
mod time;
#[cfg(all(feature = "zerocopy", feature = "serde"))]
mod typed;
mod unbounded;
mod unbounded_drained;
