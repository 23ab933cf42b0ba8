//! `fallocate(2)`: memory of a file is committed before it is touched, so that a full file system is an error and not a
//! `SIGBUS`; and given back by punching a hole.

use crate::explain::explain;
use crate::tmpfile::free_space;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;

/// `fallocate(2)`: commits a range; what it holds stays as it is, new bytes are zero.
///
/// # Errors
/// The errno: `ENOSPC` if the file system is full.
///
/// # Examples
/// ```
/// use ginnel_os::{fallocate, memfd, tmpfile};
/// use std::os::fd::AsFd;
///
/// let memory = memfd::create("example", 8192, memfd::Options::default())?;
/// fallocate::commit(memory.as_fd(), 0, 8192)?; // from here on no write can meet a full memory
/// fallocate::release(memory.as_fd(), 4096, 4096)?;
/// assert_eq!(tmpfile::fstat(memory.as_fd())?.bytes, 8192);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn commit(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    retry(|| rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))
        .map_err(|e| does_not_fit(file, len, e))
}

#[cold]
fn does_not_fit(file: BorrowedFd<'_>, len: u64, error: io::Error) -> io::Error {
    let (Some(libc::ENOSPC), Ok((free, all))) = (error.raw_os_error(), free_space(file)) else { return error };
    let text = format!(
        "{len} bytes do not fit in the file system, of whose {all} bytes {free} are free; remove files, or make it larger (mount -o remount,size=N)"
    );
    explain(libc::ENOSPC, text)
}

/// `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE`: gives the memory of a range back; its bytes read as zero.
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
