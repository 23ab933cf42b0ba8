//! Each limit that communication meets, met: in namespaces of the test's own, where it is small. The error names the limit, its value and
//! what raises it; it comes within a second; and what was there stays. `xtask/show/limits.sh` prints the table.

mod apart;
mod death;
mod descriptors;
mod memory;
mod queues;
mod semaphores;
mod signals;
mod sockets;
