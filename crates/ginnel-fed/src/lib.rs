//! What ginnel does with whatever it is fed. A link's memory is a peer's word, and so are an address and a command line: whatever stands in them, no
//! operation panics, hangs, or leaves the region. What an operation returns is not asked: garbage in, garbage out, but as a value.
//!
//! ```text
//! links ---> world: an engine over a region of its exact size, and the handles of a few participants
//!              |
//!            scene: what had happened before the change: nothing much, messages in hand, shared sides, full, a death
//!              |
//!            change: a bit, a word, a part filled, words between operations, or a thread that scribbles meanwhile
//!              |
//!            exercise: each operation of the link's shape, by old handles and new ones; then everybody leaves
//! ```
//!
//! | what | file |
//! |---|---|
//! | a region that ends where its heap block ends, so that a sanitizer sees what is outside | `region` |
//! | the links that are tried: each shape, small | `links` |
//! | the engine, who is there, and what they do | `world`, and `ring`, `broadcast`, `latest`, `stream` for each kind of conversation |
//! | what had happened before | `scene` |
//! | one trial: a scene, a change, an order | `trial` |
//! | many of them, watched | `campaign` |
//! | the bodies of the fuzz targets, which `fuzz/` and a plain test call | `targets` |
//! | inputs that are kept, and mutations of them | `corpus` |
//! | seeded chance | `dice` |
//!
//! It is not part of what users install.

mod broadcast;
mod campaign;
mod corpus;
mod dice;
mod latest;
mod links;
mod region;
mod ring;
mod scene;
mod stream;
pub mod targets;
mod trial;
mod world;

pub use campaign::{Campaign, Verdict};
pub use corpus::{inputs, mutate};
pub use dice::Dice;
pub use links::{LINKS, Link};
pub use scene::{SCENES, Scene};
pub use trial::{Change, Order, Part, Trial};
