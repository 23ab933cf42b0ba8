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
//! | [`flock`] | locks on whole files |
//! | [`futex`] | sleeping on a shared word until an absolute time |
//! | [`membarrier`] | a full barrier on every core from one side only |
//! | [`eventfd`] | making a descriptor readable for another thread |
//! | [`inotify`] | notice that somebody opened a file, read it, or let go of it |
//! | [`timerfd`] | a moment as a descriptor |
//! | [`pidfd`] | a process as a descriptor |
//! | [`fork`] | knowing that one is a forked child |
//! | [`poll`] | waiting for a few descriptors |
//! | [`epoll`] | waiting for many |
//! | [`socket`] | what sockets of every family share: send, receive, accept, options |
//! | [`inet`] | TCP and UDP with deadlines, options and multicast |
//! | [`census`] | who on this machine has which object |
//! | [`limits`] | every limit that communication meets, and what a process is surrounded by |
//! | [`sock_diag`] | all `unix` sockets of the machine, and their peers |
//! | [`udp_diag`] | how full the UDP socket is that a datagram would go to |
//! | [`unix`] | sockets with names, credentials and descriptors in messages |
//! | [`pipe`] | bytes in order, from one process to another |
//! | [`fifo`] | a pipe with a name |
//! | [`splice`] | bytes between a pipe and a file, a socket or a pipe, uncopied |
//! | [`dup`] | a descriptor for a child, at a number |
//! | [`mqueue`] | message queues of POSIX |
//! | [`sysv_mq`] | message queues of System V |
//! | [`semaphore`] | semaphores of POSIX, by name or in shared memory |
//! | [`sysv_sem`] | sets of semaphores of System V |
//! | [`shm`] | POSIX shared memory, by name |
//! | [`sysv_shm`] | shared memory of System V |
//! | [`memfd`] | memory as a file without a name, and seals |
//! | [`shared`] | loads, stores and copies of bytes that a peer may be writing |
//! | [`sysv_ipc`] | keys, owners and tables of System V |
//! | [`explain`] | an errno with the limit it met and what raises it |
//! | [`signal`] | signals by name, and sending them |
//! | [`sigset`] | which signals a thread takes, and taking them one by one |
//! | [`signalfd`] | signals as something to read |
//! | [`process`] | who am I, on which cores |

pub mod census;
pub mod dup;
pub mod epoll;
pub mod eventfd;
pub mod explain;
pub mod fallocate;
pub mod fifo;
pub mod flock;
pub mod fork;
pub mod futex;
pub mod inet;
pub mod inotify;
pub mod limits;
pub mod membarrier;
pub mod memfd;
pub mod mmap;
pub mod mqueue;
pub mod ofd_lock;
pub mod pidfd;
pub mod pipe;
pub mod poll;
mod posix_name;
pub mod process;
pub mod semaphore;
pub mod shared;
pub mod shm;
pub mod signal;
pub mod signalfd;
mod sigpipe;
pub mod sigset;
pub mod sock_diag;
pub mod socket;
pub mod splice;
#[cfg(test)]
mod storm;
pub mod sysv_ipc;
pub mod sysv_mq;
pub mod sysv_sem;
pub mod sysv_shm;
pub mod timerfd;
pub mod tmpfile;
pub mod udp_diag;
pub mod unix;

/// Error numbers that callers tell apart, from `errno(3)`; [`explain::errno`] finds them in an error.
pub mod errno {
    pub use libc::{
        E2BIG, EACCES, EAGAIN, EBADF, EBUSY, EDQUOT, EEXIST, EFBIG, EIDRM, EINVAL, ELOOP, EMFILE, EMSGSIZE,
        ENAMETOOLONG, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, ENXIO, EOPNOTSUPP, EOVERFLOW, EPERM,
        EPROTOTYPE, ERANGE, EROFS, ESRCH, ETIMEDOUT,
    };
}
