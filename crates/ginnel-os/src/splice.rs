//! `splice(2)`, `tee(2)`, `vmsplice(2)`: bytes between a pipe and a file, a socket or another pipe, which this process never sees.
//!
//! - The pages move by reference. What a file's page or `vmsplice`d memory holds when the *reader* looks is what it gets, not what it held when it
//!   was spliced. For files that is the caller's affair. For memory it decides the interface: [`Writer::vmsplice`] takes bytes that nobody can
//!   change or free, `&'static [u8]`. Borrowed bytes could be freed and used for another purpose, a secret say, before the reader looks, and
//!   nothing tells when it has; `SPLICE_F_GIFT` does not change that. Use [`Writer::write`], which copies, for those.
//! - A deadline bounds the wait for pipes, and for other files as far as `poll(2)` tells whether they are ready or they have `O_NONBLOCK` set: the kernel
//!   has no way to try a blocking socket here. Regular files are always ready.
//! - As with `write(2)`, no `SIGPIPE` comes; see [`crate::pipe`].
#![allow(unsafe_code)] // vmsplice(2) makes the kernel refer to memory of this process.

use crate::pipe::{Patience, Reader, Writer, poll_for};
use crate::sigpipe::{self, Care};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{IoSliceRaw, SpliceFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// One move: where from and to, and how long it may wait.
struct Move<'a> {
    from: Option<BorrowedFd<'a>>,
    to: BorrowedFd<'a>,
    patience: Patience,
    care: Care,
}

impl Move<'_> {
    fn run(&self, mut call: impl FnMut(SpliceFlags) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let flags = match self.patience {
            Patience::Forever => SpliceFlags::empty(),
            _ => SpliceFlags::NONBLOCK,
        };
        loop {
            let result = match self.care {
                Care::Nothing => call(flags),
                _ => sigpipe::without(|| call(flags)),
            };
            match result {
                Err(Errno::AGAIN) => self.wait()?,
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Waits for the side that is not ready.
    fn wait(&self) -> Result<(), Errno> {
        match self.from {
            Some(from) if poll_for(from, PollFlags::IN, Some(Duration::ZERO))?.is_empty() => {
                self.patience.wait(from, PollFlags::IN)
            }
            _ => self.patience.wait(self.to, PollFlags::OUT),
        }
    }
}

impl Reader {
    /// `splice(2)`: takes up to `most` bytes from the pipe to a file, a socket or a pipe; says how many, 0 at the end. With an offset it writes
    /// there and moves the offset on; without, where the file stands.
    ///
    /// # Errors
    /// The errno: `EINVAL` for a file that cannot be spliced, that is open with `O_APPEND`, or for the same pipe; `ESPIPE` for an offset in what
    /// has none; `BrokenPipe`. `TimedOut` when nothing moved until the deadline.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// writer.write(b"hello", None)?;
    /// let path = format!("/dev/shm/ginnel-splice-doc-{}", std::process::id());
    /// let file = std::fs::File::create(&path)?;
    /// assert_eq!(reader.splice(&file, None, 1 << 16, None)?, 5);
    /// assert_eq!(std::fs::read(&path)?, b"hello");
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn splice(
        &self,
        to: impl AsFd,
        offset: Option<&mut u64>,
        most: usize,
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        self.splice_with(to.as_fd(), offset, most, Patience::of(deadline))
    }

    /// `splice(2)` with `SPLICE_F_NONBLOCK`: as [`Self::splice`], what is there.
    ///
    /// # Errors
    /// As [`Self::splice`]; `WouldBlock` when nothing is there, or no room.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let (_other, to_other) = ginnel_os::pipe::pair()?;
    /// writer.write(b"hello", None)?;
    /// assert_eq!(reader.try_splice(&to_other, None, 3)?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_splice(&self, to: impl AsFd, offset: Option<&mut u64>, most: usize) -> io::Result<usize> {
        self.splice_with(to.as_fd(), offset, most, Patience::Try)
    }

    fn splice_with(
        &self,
        to: BorrowedFd<'_>,
        mut offset: Option<&mut u64>,
        most: usize,
        patience: Patience,
    ) -> io::Result<usize> {
        let step = Move { from: Some(self.as_fd()), to, patience, care: self.care() };
        self.until_some(most, patience, || {
            step.run(|flags| rustix::pipe::splice(self.as_fd(), None, to, offset.as_deref_mut(), most, flags))
        })
    }

    /// `tee(2)`: copies up to `most` bytes into another pipe and leaves them here; says how many, 0 at the end. The next call begins with the
    /// same bytes.
    ///
    /// # Errors
    /// The errno: `EINVAL` for the two ends of one pipe, `BrokenPipe`. `TimedOut` when there was nothing, or no room, until the deadline.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let (copy, to_copy) = ginnel_os::pipe::pair()?;
    /// writer.write(b"hello", None)?;
    /// assert_eq!(reader.tee(&to_copy, 1 << 16, None)?, 5);
    /// assert_eq!((reader.available()?, copy.available()?), (5, 5));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tee(&self, to: &Writer, most: usize, deadline: Option<Instant>) -> io::Result<usize> {
        self.tee_with(to, most, Patience::of(deadline))
    }

    /// `tee(2)` with `SPLICE_F_NONBLOCK`: as [`Self::tee`], what is there.
    ///
    /// # Errors
    /// As [`Self::tee`]; `WouldBlock` when nothing is there, or no room.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let (_other, to_other) = ginnel_os::pipe::pair()?;
    /// writer.write(b"hello", None)?;
    /// assert_eq!(reader.try_tee(&to_other, 3)?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_tee(&self, to: &Writer, most: usize) -> io::Result<usize> {
        self.tee_with(to, most, Patience::Try)
    }

    fn tee_with(&self, to: &Writer, most: usize, patience: Patience) -> io::Result<usize> {
        let step = Move { from: Some(self.as_fd()), to: to.as_fd(), patience, care: to.care() };
        self.until_some(most, patience, || step.run(|flags| rustix::pipe::tee(self, to, most, flags)))
    }

    /// Repeats a call that found nothing until there is something, or it is the end.
    fn until_some(
        &self,
        most: usize,
        patience: Patience,
        mut call: impl FnMut() -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        if most == 0 {
            return Ok(0);
        }
        loop {
            let moved = call()?;
            if moved > 0 || self.is_over(patience)? {
                return Ok(moved);
            }
        }
    }
}

impl Writer {
    /// `splice(2)`: puts up to `most` bytes of a file, a socket or a pipe into this one; says how many, 0 at the other's end. With an offset it
    /// reads there and moves the offset on; without, where the file stands. From a FIFO prefer [`Reader::splice`], which knows the end from
    /// writers that have not come yet.
    ///
    /// # Errors
    /// The errno: `EINVAL` for a file that cannot be spliced or the same pipe; `ESPIPE` for an offset in what has none; `BrokenPipe`. `TimedOut`
    /// when nothing moved until the deadline.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let file = std::fs::File::open(std::env::current_exe()?)?;
    /// let mut offset = 1;
    /// assert_eq!(writer.splice(&file, Some(&mut offset), 3, None)?, 3);
    /// assert_eq!(offset, 4);
    /// let mut magic = [0; 3];
    /// reader.read_exact(&mut magic, None)?;
    /// assert_eq!(&magic, b"ELF");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn splice(
        &self,
        from: impl AsFd,
        offset: Option<&mut u64>,
        most: usize,
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        self.splice_with(from.as_fd(), offset, most, Patience::of(deadline))
    }

    /// `splice(2)` with `SPLICE_F_NONBLOCK`: as [`Self::splice`], what there is room for.
    ///
    /// # Errors
    /// As [`Self::splice`]; `WouldBlock` when there is no room, or nothing to move.
    ///
    /// # Examples
    /// ```
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// let (_other, to_other) = ginnel_os::pipe::pair()?;
    /// writer.write(b"hello", None)?;
    /// assert_eq!(to_other.try_splice(&reader, None, 3)?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_splice(&self, from: impl AsFd, offset: Option<&mut u64>, most: usize) -> io::Result<usize> {
        self.splice_with(from.as_fd(), offset, most, Patience::Try)
    }

    fn splice_with(
        &self,
        from: BorrowedFd<'_>,
        mut offset: Option<&mut u64>,
        most: usize,
        patience: Patience,
    ) -> io::Result<usize> {
        let step = Move { from: Some(from), to: self.as_fd(), patience, care: self.care() };
        Ok(step.run(|flags| rustix::pipe::splice(from, offset.as_deref_mut(), self, None, most, flags))?)
    }

    /// `vmsplice(2)`: puts bytes into the pipe without copying them, as they never change; says how many, at least one unless there are none. A
    /// file that is served again and again, say. The reader still copies.
    ///
    /// # Errors
    /// The errno: `BrokenPipe`. `TimedOut` when there was no room until the deadline.
    ///
    /// # Examples
    /// ```
    /// static GREETING: &[u8] = b"220 ready\n";
    ///
    /// let (reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(writer.vmsplice(GREETING, None)?, GREETING.len());
    /// drop(writer);
    /// assert_eq!(std::io::read_to_string(reader)?, "220 ready\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn vmsplice(&self, bytes: &'static [u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.vmsplice_with(bytes, Patience::of(deadline))
    }

    /// `vmsplice(2)` with `SPLICE_F_NONBLOCK`: as [`Self::vmsplice`], what there is room for.
    ///
    /// # Errors
    /// As [`Self::vmsplice`]; `WouldBlock` when there is no room.
    ///
    /// # Examples
    /// ```
    /// let (_reader, writer) = ginnel_os::pipe::pair()?;
    /// assert_eq!(writer.try_vmsplice(b"fixed")?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_vmsplice(&self, bytes: &'static [u8]) -> io::Result<usize> {
        self.vmsplice_with(bytes, Patience::Try)
    }

    fn vmsplice_with(&self, bytes: &'static [u8], patience: Patience) -> io::Result<usize> {
        let step = Move { from: None, to: self.as_fd(), patience, care: self.care() };
        Ok(step.run(|flags| {
            let pages = [IoSliceRaw::from_slice(bytes)];
            // SAFETY: the bytes are there as long as the process and nobody may change them, so what the pipe refers to stays what it is.
            unsafe { rustix::pipe::vmsplice(self, &pages, flags) }
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::{self, pair};
    use crate::storm::{Storm, cpu_time, eventually};
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(30))
    }

    #[test]
    fn nothing_moves_from_an_empty_pipe_or_into_a_full_one() {
        let (reader, writer) = pair().unwrap();
        let (other, to_other) = pair().unwrap();
        assert_eq!(reader.try_splice(&to_other, None, 9).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(reader.splice(&to_other, None, 9, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(reader.tee(&to_other, 9, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(reader.tee(&to_other, 0, None).unwrap(), 0);
        writer.write(b"12345", None).unwrap();
        while to_other.try_write(&[0; 4096]).is_ok() {}
        assert_eq!(reader.try_tee(&to_other, 9).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(to_other.splice(&reader, None, 9, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        other.read_exact(&mut [0; 8192], None).unwrap();
        assert_eq!(reader.try_splice(&to_other, None, usize::MAX).unwrap(), 5);
        drop(writer);
        assert_eq!(reader.splice(&to_other, None, 9, None).unwrap(), 0);
    }

    #[test]
    fn the_same_pipe_and_an_offset_of_a_pipe_are_errors() {
        let (reader, writer) = pair().unwrap();
        writer.write(b"12345", None).unwrap();
        assert_eq!(reader.tee(&writer, 5, None).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(writer.splice(&reader, None, 5, None).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let (_other, to_other) = pair().unwrap();
        let error = reader.splice(&to_other, Some(&mut 7), 5, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    }

    #[test]
    fn a_socket_is_a_source_and_a_sink() {
        let (reader, writer) = pair().unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        assert_eq!(writer.splice(&there, None, 9, soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        here.write_all(b"abc").unwrap();
        assert_eq!(writer.splice(&there, None, 9, soon()).unwrap(), 3);
        assert_eq!(reader.splice(&there, None, 9, soon()).unwrap(), 3);
        let mut back = [0; 3];
        here.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"abc");
        writer.write(b"x", None).unwrap();
        here.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(reader.splice(&there, None, 9, None).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        assert_eq!(writer.splice(&there, None, 9, None).unwrap(), 0);
    }

    #[test]
    fn a_deadline_holds_in_a_storm_of_signals() {
        let (reader, _writer) = pair().unwrap();
        let (_other, to_other) = pair().unwrap();
        let _storm = Storm::here();
        let before = cpu_time();
        let until = Instant::now() + Duration::from_millis(200);
        assert_eq!(reader.splice(&to_other, None, 9, Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        assert!(cpu_time() - before < Duration::from_millis(100), "it spun");
    }

    #[test]
    fn fixed_bytes_arrive_without_a_copy() {
        static TEXT: [u8; 100_000] = [b'v'; 100_000];
        let (reader, writer) = pair().unwrap();
        let moved = writer.vmsplice(&TEXT, soon()).unwrap();
        assert!(moved > 0 && moved <= TEXT.len());
        let mut back = vec![0; moved];
        reader.read_exact(&mut back, None).unwrap();
        assert!(back.iter().all(|&byte| byte == b'v'));
        while writer.try_vmsplice(&TEXT).is_ok() {}
        assert_eq!(writer.try_vmsplice(b"more").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(writer.vmsplice(b"", None).unwrap(), 0);
        drop(reader);
        eventually(|| !writer.has_reader().unwrap());
        assert_eq!(writer.vmsplice(b"more", None).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        assert_eq!(pipe::ATOMIC, 4096);
    }
}
