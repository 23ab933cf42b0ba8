//! The C library's calls, one function each, as a program in C would make them. They check nothing but that the call went well.
#![allow(unsafe_code)] // It is what the wrappers are compared with.

use libc::{c_int, c_long, sem_t, siginfo_t, sigset_t, ssize_t, timespec};
use std::ptr::{null, null_mut};

pub(crate) type Fd = c_int;

fn done(result: c_int) {
    assert!(result == 0, "{}", std::io::Error::last_os_error());
}

fn length(result: ssize_t) -> usize {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result as usize
}

#[inline(always)]
pub(crate) fn write(fd: Fd, bytes: &[u8]) -> usize {
    // SAFETY: pointer and length are of one slice.
    length(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

#[inline(always)]
pub(crate) fn read(fd: Fd, buffer: &mut [u8]) -> usize {
    // SAFETY: pointer and length are of one slice.
    length(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// -1 and the errno, if there is nothing.
#[inline(always)]
pub(crate) fn read_nothing(fd: Fd, buffer: &mut [u8]) -> bool {
    // SAFETY: pointer and length are of one slice.
    let result = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    result < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

#[inline(always)]
pub(crate) fn writev(fd: Fd, one: &[u8], two: &[u8]) -> usize {
    let both = [vector(one), vector(two)];
    // SAFETY: two vectors of live slices, which are only read.
    length(unsafe { libc::writev(fd, both.as_ptr(), 2) })
}

#[inline(always)]
pub(crate) fn readv(fd: Fd, one: &mut [u8], two: &mut [u8]) -> usize {
    let both = [vector(one), vector(two)];
    // SAFETY: two vectors of live slices, borrowed for writing here.
    length(unsafe { libc::readv(fd, both.as_ptr(), 2) })
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

#[inline(always)]
pub(crate) fn write_nowait(fd: Fd, bytes: &[u8]) -> usize {
    let vector = vector(bytes);
    // SAFETY: one vector of a live slice, which is only read.
    length(unsafe { libc::pwritev2(fd, &raw const vector, 1, -1, libc::RWF_NOWAIT) })
}

#[inline(always)]
pub(crate) fn read_nowait(fd: Fd, buffer: &mut [u8]) -> ssize_t {
    let vector = vector(buffer);
    // SAFETY: one vector of a live slice, borrowed for writing here.
    unsafe { libc::preadv2(fd, &raw const vector, 1, -1, libc::RWF_NOWAIT) }
}

#[inline(always)]
pub(crate) fn splice(from: Fd, to: Fd, bytes: usize) -> usize {
    // SAFETY: no offsets are given, so the call touches no memory of this program.
    length(unsafe { libc::splice(from, null_mut(), to, null_mut(), bytes, 0) })
}

#[inline(always)]
pub(crate) fn tee(from: Fd, to: Fd, bytes: usize) -> usize {
    // SAFETY: the call takes integers and touches no memory of this program.
    length(unsafe { libc::tee(from, to, bytes, 0) })
}

#[inline(always)]
pub(crate) fn mq_send(queue: Fd, bytes: &[u8]) {
    // SAFETY: pointer and length are of one slice.
    done(unsafe { libc::mq_send(queue, bytes.as_ptr().cast(), bytes.len(), 0) });
}

#[inline(always)]
pub(crate) fn mq_receive(queue: Fd, buffer: &mut [u8]) -> (usize, u32) {
    let mut priority = 0;
    // SAFETY: pointer and length are of one slice, and the priority is on the stack.
    let len = length(unsafe { libc::mq_receive(queue, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut priority) });
    (len, priority)
}

#[inline(always)]
pub(crate) fn mq_timedsend(queue: Fd, bytes: &[u8], until: &timespec) {
    // SAFETY: pointer and length are of one slice.
    done(unsafe { libc::mq_timedsend(queue, bytes.as_ptr().cast(), bytes.len(), 0, until) });
}

#[inline(always)]
pub(crate) fn mq_timedreceive(queue: Fd, buffer: &mut [u8], until: &timespec) -> (usize, u32) {
    let (start, len, mut priority) = (buffer.as_mut_ptr().cast(), buffer.len(), 0);
    // SAFETY: pointer and length are of one slice, and the priority is on the stack.
    let len = unsafe { libc::mq_timedreceive(queue, start, len, &raw mut priority, until) };
    (length(len), priority)
}

/// A System V message, as C programs declare it.
#[repr(C)]
pub(crate) struct Message {
    pub(crate) kind: c_long,
    pub(crate) bytes: [u8; 64],
}

#[inline(always)]
pub(crate) fn msgsnd(queue: c_int, message: &Message, flags: c_int) {
    // SAFETY: a type and 64 bytes.
    done(unsafe { libc::msgsnd(queue, std::ptr::from_ref(message).cast(), 64, flags) });
}

#[inline(always)]
pub(crate) fn msgrcv(queue: c_int, message: &mut Message, flags: c_int) -> ssize_t {
    // SAFETY: room for a type and 64 bytes.
    unsafe { libc::msgrcv(queue, std::ptr::from_mut(message).cast(), 64, 0, flags) }
}

#[inline(always)]
pub(crate) fn semop(set: c_int, change: i16, flags: i32) {
    let mut op = libc::sembuf { sem_num: 0, sem_op: change, sem_flg: flags as i16 };
    // SAFETY: one operation, on the stack.
    done(unsafe { libc::semop(set, &raw mut op, 1) });
}

#[inline(always)]
pub(crate) fn sem_wait(at: *mut sem_t) {
    // SAFETY: callers pass a semaphore that is mapped.
    done(unsafe { libc::sem_wait(at) });
}

#[inline(always)]
pub(crate) fn sem_timedwait(at: *mut sem_t, until: &timespec) {
    // SAFETY: callers pass a semaphore that is mapped.
    done(unsafe { libc::sem_timedwait(at, until) });
}

#[inline(always)]
pub(crate) fn sem_trywait(at: *mut sem_t) {
    // SAFETY: callers pass a semaphore that is mapped.
    done(unsafe { libc::sem_trywait(at) });
}

#[inline(always)]
pub(crate) fn sem_post(at: *mut sem_t) {
    // SAFETY: callers pass a semaphore that is mapped.
    done(unsafe { libc::sem_post(at) });
}

#[inline(always)]
pub(crate) fn send(fd: Fd, bytes: &[u8], flags: c_int) -> usize {
    // SAFETY: pointer and length are of one slice.
    length(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

#[inline(always)]
pub(crate) fn recv(fd: Fd, buffer: &mut [u8], flags: c_int) -> usize {
    // SAFETY: pointer and length are of one slice.
    length(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) })
}

/// `sendmsg(2)` of bytes, and of descriptors if there are any.
#[inline(always)]
pub(crate) fn sendmsg(fd: Fd, bytes: &[u8], descriptor: Option<Fd>) -> usize {
    let mut vector = vector(bytes);
    let mut control = Control::default();
    // SAFETY: all zeroes is a message without anything.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut vector, 1);
    if let Some(descriptor) = descriptor {
        control.head = libc::cmsghdr { cmsg_len: 20, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
        control.descriptor = descriptor;
        (header.msg_control, header.msg_controllen) = ((&raw mut control).cast(), size_of::<Control>());
    }
    // SAFETY: the header's pointers are to what lives here.
    length(unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_NOSIGNAL) })
}

/// `recvmsg(2)` with room for one descriptor, which is closed.
#[inline(always)]
pub(crate) fn recvmsg(fd: Fd, buffer: &mut [u8]) -> usize {
    let mut vector = vector(buffer);
    let mut control = Control { descriptor: -1, ..Control::default() };
    // SAFETY: all zeroes is a message without anything.
    let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    // SAFETY: all zeroes is a message without anything.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut vector, 1);
    (header.msg_name, header.msg_namelen) = ((&raw mut name).cast(), size_of::<libc::sockaddr_un>() as u32);
    (header.msg_control, header.msg_controllen) = ((&raw mut control).cast(), size_of::<Control>());
    // SAFETY: the header's pointers are to what lives here, with their lengths.
    let len = length(unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_CMSG_CLOEXEC) });
    if header.msg_controllen >= 20 && control.head.cmsg_type == libc::SCM_RIGHTS {
        // SAFETY: it has just come, and nobody else has it.
        done(unsafe { libc::close(control.descriptor) });
    }
    len
}

#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    descriptor: Fd,
    pad: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self { head: libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 }, descriptor: 0, pad: 0 }
    }
}

#[inline(always)]
pub(crate) fn sendto(fd: Fd, bytes: &[u8], to: &libc::sockaddr_in) -> usize {
    let (start, len) = (bytes.as_ptr().cast(), bytes.len());
    let (to, size) = (std::ptr::from_ref(to).cast(), size_of::<libc::sockaddr_in>() as u32);
    // SAFETY: pointers and lengths are of one slice and one struct.
    length(unsafe { libc::sendto(fd, start, len, libc::MSG_NOSIGNAL, to, size) })
}

#[inline(always)]
pub(crate) fn recvfrom(fd: Fd, buffer: &mut [u8]) -> (usize, libc::sockaddr_in) {
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut from: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_in>() as u32;
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: pointers and lengths are of one slice and one struct.
    let len = unsafe { libc::recvfrom(fd, start, len, 0, (&raw mut from).cast(), &raw mut size) };
    (length(len), from)
}

#[inline(always)]
pub(crate) fn poll(fd: Fd, timeout_ms: c_int) -> bool {
    let mut file = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, on the stack.
    unsafe { libc::poll(&raw mut file, 1, timeout_ms) == 1 }
}

#[inline(always)]
pub(crate) fn epoll_wait(set: Fd, events: &mut [libc::epoll_event; 32], keys: &mut [u64; 32]) -> u64 {
    // SAFETY: the array has room for the 32 events that are asked for.
    let ready = length(unsafe { libc::epoll_wait(set, events.as_mut_ptr(), 32, 0) } as ssize_t);
    for (key, event) in keys.iter_mut().zip(&events[..ready]) {
        *key = event.u64;
    }
    keys[0]
}

#[inline(always)]
pub(crate) fn sigqueue(pid: c_int, signal: c_int, value: usize) {
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value) };
    // SAFETY: integers; nobody follows the value.
    done(unsafe { libc::sigqueue(pid, signal, value) });
}

#[inline(always)]
pub(crate) fn sigtimedwait(set: &sigset_t) -> siginfo_t {
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut info: siginfo_t = unsafe { std::mem::zeroed() };
    let none = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: all three are on the stack or the caller's.
    length(unsafe { libc::sigtimedwait(set, &raw mut info, &raw const none) } as ssize_t);
    info
}

pub(crate) fn set_of(signal: c_int) -> sigset_t {
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut set: sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is on the stack.
    done(unsafe { libc::sigaddset(&raw mut set, signal) });
    set
}

#[inline(always)]
pub(crate) fn kill_zero(pid: c_int) {
    // SAFETY: the call takes integers and touches no memory of this program.
    done(unsafe { libc::kill(pid, 0) });
}

#[inline(always)]
pub(crate) fn pidfd_send_signal(process: Fd, signal: c_int) {
    // SAFETY: the call takes integers, and a null where information about the signal could be.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, null::<siginfo_t>(), 0) };
    done(result as c_int);
}

#[inline(always)]
pub(crate) fn futex_wake(word: *const u32) -> c_long {
    // SAFETY: the word is the caller's, mapped while the call runs.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1) }
}

#[inline(always)]
pub(crate) fn futex_wait(word: *const u32, value: u32) -> c_long {
    let none = null::<timespec>();
    // SAFETY: the word is the caller's, mapped while the call runs.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT_BITSET, value, none, null::<u32>(), u32::MAX) }
}

#[inline(always)]
pub(crate) fn ofd_lock(fd: Fd, kind: c_int) {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    let lock = libc::flock { l_type, l_whence, l_start: 0, l_len: 1, l_pid: 0 };
    // SAFETY: the struct is on the stack.
    done(unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) });
}

#[inline(always)]
pub(crate) fn flock(fd: Fd) {
    // SAFETY: the call takes integers and touches no memory of this program.
    done(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) });
}

#[inline(always)]
pub(crate) fn copy(from: *const u8, into: *mut u8, len: usize) {
    // SAFETY: callers pass two buffers of that length that do not overlap.
    unsafe { libc::memcpy(into.cast(), from.cast(), len) };
}

pub(crate) fn set_nonblocking(fd: Fd) {
    // SAFETY: the call takes integers and touches no memory of this program.
    done(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) });
}
