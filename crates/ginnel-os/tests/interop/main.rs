//! Semaphores and shared memory together with a program that knows nothing of ginnel: the C program beside this file. Each kind is made by
//! one and used by the other, in both directions. Skipped, with a message, where there is no `cc`. (Queues, sockets and FIFOs: `tests/links` of ginnel.)

mod memory;
mod semaphores;
mod stranger;
