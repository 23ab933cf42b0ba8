//! `fallocate(2)`: memory of a file is committed before it is touched, so that a full file system is an error and not a
//! `SIGBUS`; and given back by punching a hole.

use crate::explain::explain;
use crate::tmpfile::free_space;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::os::fd::BorrowedFd;

/// What is not cut smaller: some microseconds of work.
const LEAST_PIECE: u64 = 64 << 10;

/// `fallocate(2)`: commits a range; what it holds stays as it is, new bytes are zero.
///
/// # Errors
/// The errno: `ENOSPC` if the file system is full. A part of the range may be committed then, if a signal came meanwhile.
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
    in_pieces(offset, len, |offset, len| rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))
        .map_err(|e| does_not_fit(file, len, e.into()))
}

/// On older kernels (not on 6.18) tmpfs undoes what it has done when a signal comes: with signals more often than it needs for the
/// whole, trying again would never end. So each time the piece is half as long.
fn in_pieces(offset: u64, len: u64, mut call: impl FnMut(u64, u64) -> Result<(), Errno>) -> Result<(), Errno> {
    let (mut at, mut left, mut piece) = (offset, len, len);
    loop {
        match call(at, piece.min(left)) {
            Err(Errno::INTR) => piece = (piece / 2).max(LEAST_PIECE.min(len)),
            Ok(()) if piece < left => (at, left) = (at + piece, left - piece),
            done => return done,
        }
    }
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
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| rustix::fs::fallocate(file, how, offset, len))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memfd, storm};
    use std::os::fd::AsFd;

    const MIB: u64 = 1 << 20;

    fn committed(file: BorrowedFd<'_>) -> u64 {
        rustix::fs::fstat(file).unwrap().st_blocks as u64 * 512
    }

    /// It takes the kernel longer than the signals leave it in peace.
    #[test]
    fn much_is_committed_in_a_storm_of_signals() {
        let file = memfd::create("storm", 256 * MIB, memfd::Options::default()).unwrap();
        storm::during(|| commit(file.as_fd(), 0, 256 * MIB)).0.unwrap();
        assert_eq!(committed(file.as_fd()), 256 * MIB);
        storm::during(|| release(file.as_fd(), MIB, 255 * MIB)).0.unwrap();
        assert_eq!(committed(file.as_fd()), MIB);
    }

    /// As an older kernel does it: what takes long is interrupted, and undone.
    #[test]
    fn what_is_always_interrupted_is_committed_in_pieces() {
        let (mut done, mut calls) = (Vec::new(), 0);
        let call = |at, len| {
            calls += 1;
            if len > MIB {
                return Err(Errno::INTR);
            }
            done.push((at, len));
            Ok(())
        };
        in_pieces(8192, 10 * MIB, call).unwrap();
        let end =
            done.iter().fold(8192, |end, (at, len)| if *at == end { end + len } else { panic!("a gap at {end}") });
        assert_eq!(end, 8192 + 10 * MIB);
        assert!(calls < 30, "{calls}");
        assert_eq!(in_pieces(0, 0, |_, len| if len == 0 { Err(Errno::INVAL) } else { Ok(()) }), Err(Errno::INVAL));
        assert_eq!(in_pieces(0, 9, |_, _| Err(Errno::NOSPC)), Err(Errno::NOSPC));
    }
}
