//! Safe wrappers of the kernel mechanisms that ginnel stands on. This is the only crate that calls rustix or libc.
//!
//! What it is not: it knows nothing of rings, messages or links. Each module is one mechanism, named as its man page is,
//! and useful alone. Errors are the errno as [`std::io::Error`]; `EINTR` is handled here and never seen outside.
//!
//! | module | mechanism |
//! |---|---|
//! | [`tmpfile`] | files that are born without a name (`open(2)` with `O_TMPFILE`, `linkat(2)`) and private directories |
//! | [`mmap`] | shared mappings, and advice on them |
//! | [`fallocate`] | committing and giving back memory of a file |
//! | [`ofd_lock`] | open-file-description locks, and [`ofd_lock::Token`]: a lock that lives as long as a process |
//! | [`futex`] | sleeping on a shared word until an absolute time |
//! | [`membarrier`] | a full barrier on every core from one side only |
//! | [`eventfd`] | making a descriptor readable for another thread |
//! | [`inotify`] | notice that somebody let go of a file |
//! | [`pidfd`] | a process as a descriptor |
//! | [`fork`] | knowing that one is a forked child |
//! | [`poll`] | waiting for descriptors |
//! | [`socket`] | what sockets of every family share: send, receive, accept, options |
//! | [`inet`] | TCP and UDP with deadlines, options and multicast |
//! | [`census`] | who on this machine has which object |
//! | [`limits`] | every limit that communication meets, and what a process is surrounded by |
//! | [`sock_diag`] | all `unix` sockets of the machine, and their peers |
//! | [`unix`] | sockets with names, credentials and descriptors in messages |
//! | [`signal`] | which signals a thread takes |
//! | [`process`] | who am I, on which cores |

pub mod census;
pub mod eventfd;
pub mod fallocate;
pub mod fork;
pub mod futex;
pub mod inet;
pub mod inotify;
pub mod limits;
pub mod membarrier;
pub mod mmap;
pub mod ofd_lock;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod signal;
pub mod sock_diag;
pub mod socket;
pub mod tmpfile;
pub mod unix;

/// Error numbers that callers tell apart, from `errno(3)`.
pub mod errno {
    pub use libc::{
        EACCES, EAGAIN, EDQUOT, EEXIST, EFBIG, ELOOP, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, ENXIO,
        EOPNOTSUPP, EPERM, EROFS,
    };
}
