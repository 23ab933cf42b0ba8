//! `fallocate(2)`: memory of a file is committed before it is touched, so that a full file system is an error and not a
//! `SIGBUS`; and given back by punching a hole.

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;

/// Commits a range; what it holds stays as it is, new bytes are zero.
///
/// # Errors
/// The errno: `ENOSPC` if the file system is full.
pub fn commit(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    retry(|| rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))
}

/// Gives the memory of a range back; its bytes read as zero.
///
/// # Errors
/// The errno.
pub fn release(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    retry(|| rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len))
}

fn retry(mut call: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
