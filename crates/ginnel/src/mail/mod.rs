//! Mailboxes: letters to somebody by name. A composition of links, with nothing in shared memory but them.
//!
//! ```text
//! alice, process 4711                          bob, process 4712
//!   inbox    shm:alice, shape=mailbox <------    send_to("alice", ..)
//!   send_to("bob", ..)   ------>                 inbox    shm:bob, shape=mailbox
//! ```
//! Each name is a link with one receiver, who owns the name as long as it lives. A letter begins with a heading in which the library writes
//! who sends it: its name, pid and uid. A program cannot say something else by mistake; one that wants to can, as it may write to the
//! link's memory anyway: the boundary is the uid, and a link belongs to one.
//!
//! - *A name that nobody has.* As the sender [chose](Absent): the letter is kept in the name's link, for whoever takes the name; or it is refused; or the sender waits.
//! - *An owner that is killed.* Its letters stay in the link. The next owner of the name gets them, those that were in its hand marked.
//! - *`recv_from`.* Letters of others that come first are set aside, in hand, in their places in the link: they are received later in the order in which they
//!   came, and if the owner is killed they go back. So a mailbox cannot set aside more than its link holds, counted from the oldest.
//!
//! # Names
//!
//! `NAME`, or `NAME?capacity=16&max=64KiB`: a name and the options of a link that is made for it. `shm:NAME` is the same, `mem:NAME` a mailbox between
//! threads. A name holds neither `:` nor `@`. `NAME@HOST` is somebody on another host; that is refused, as nothing takes letters there yet. HOST is a host name
//! or an address: 1 to 253 letters, digits, `.`, `-`, `_`, or an IPv6 address in brackets.

// - [I1] A letter is in its link until its guard is dropped, whether it is set aside or not.
// - [I2] A mailbox hands out the letters of each sender in the order in which they were sent, but for what a dead owner had in hand.

mod error;
mod letter;
mod mailbox;
mod name;
mod post;

pub use error::{MailError, MailFailure};
pub use letter::Letter;
pub use mailbox::Mailbox;
pub use post::{Absent, Post};
