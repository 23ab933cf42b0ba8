//! `dup2(2)`: a descriptor for a child, at a number that was agreed on, as shells write `3<file`.
//!
//! What it is not: a way to pass descriptors to a process that runs already; that is `SCM_RIGHTS` of `unix(7)`.
//!
//! Every descriptor of this crate is closed by `execve(2)`. A program that expects one at number 3 therefore needs two steps between
//! `fork(2)` and `execve(2)`: the copy to that number, and no `FD_CLOEXEC` on the copy. [`pass`] puts both into a [`Command`].
#![allow(unsafe_code)] // A closure that runs in a forked child before `execve`.

use rustix::io::{Errno, FdFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The numbers below are for [`Command::stdin`] and its like.
const FIRST: i32 = 3;

/// `dup2(2)` in the child: the command's program finds `file` at this number. In this process nothing changes hands at that number; the
/// command keeps `file` open until it is dropped, so drop it after the last spawn, or a pipe passed like this never ends.
///
/// The number is taken in this process too while the command lives, if it is free. So nothing that is opened later, such as the descriptor by
/// which [`Command::spawn`] learns that `execve(2)` failed, comes to lie there and is overwritten in the child; and several descriptors
/// can be passed by one command, in any order. A number that another descriptor of this process holds is fine too, unless that one is closed
/// before the spawn.
///
/// # Errors
/// `InvalidInput`: a number below 3, or not below `RLIMIT_NOFILE`. Else the errno: `EMFILE`.
///
/// # Examples
/// ```
/// use std::process::Command;
///
/// let (reader, writer) = ginnel_os::pipe::pair()?;
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo three >&3"]);
/// ginnel_os::dup::pass(&mut command, writer, 3)?;
/// let mut child = command.spawn()?;
/// drop(command); // It holds the writer.
/// assert_eq!(std::io::read_to_string(reader)?, "three\n");
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pass(command: &mut Command, file: impl Into<OwnedFd>, number: i32) -> io::Result<()> {
    let file = reserve(file.into(), number)?;
    // SAFETY: the closure makes system calls only, which is safe after a fork: no allocation, no lock.
    unsafe { command.pre_exec(move || place(&file, number)) };
    Ok(())
}

/// A duplicate at `number`, or above where that is taken; so no later duplicate lies on an earlier target.
fn reserve(file: OwnedFd, number: i32) -> io::Result<OwnedFd> {
    if number < FIRST {
        let text = format!("descriptor {number} is a standard one; use the command's stdin, stdout or stderr");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if file.as_raw_fd() == number {
        return Ok(file);
    }
    rustix::io::fcntl_dupfd_cloexec(&file, number).map_err(|error| match error {
        Errno::INVAL => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let limit = limit.map_or_else(|| "what the kernel allows".to_owned(), |limit| limit.to_string());
            let text =
                format!("descriptor {number} is not below RLIMIT_NOFILE, {limit}; use a smaller one, or `ulimit -n`");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        }
        error => error.into(),
    })
}

/// In the child.
fn place(file: &OwnedFd, number: i32) -> io::Result<()> {
    if file.as_raw_fd() == number {
        return Ok(rustix::io::fcntl_setfd(file.as_fd(), FdFlags::empty())?);
    }
    // SAFETY: the number is not one that anything in this child owns: it is about to be replaced by a program that expects `file` there.
    let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(rustix::io::dup2(file, &mut target)?)
}

/// `fcntl(2)` with `F_DUPFD_CLOEXEC`: a copy of a descriptor that this process was started with, or has from elsewhere, by its number. The copy has the
/// same description: the same flags and position.
///
/// # Errors
/// The errno: `EBADF` if nothing has the number, `EMFILE`.
///
/// # Examples
/// ```
/// let output = ginnel_os::dup::of_number(1)?;
/// assert_eq!(ginnel_os::dup::of_number(999_999).unwrap_err().raw_os_error(), Some(9));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn of_number(number: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: takes integers; a number that stands for nothing is an error.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made it just now, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn several_are_passed_even_where_others_lie() {
        let (a, to_a) = pipe::pair().unwrap();
        let (b, to_b) = pipe::pair().unwrap();
        // The first is to lie where the second one does, or the reader of it where that has moved.
        let (first, second) = (to_b.as_fd().as_raw_fd(), b.as_fd().as_raw_fd());
        let mut command = shell(&format!("echo a >/proc/self/fd/{first}; echo b >/proc/self/fd/{second}"));
        pass(&mut command, to_a, first).unwrap();
        pass(&mut command, to_b, second).unwrap();
        assert!(command.status().unwrap().success());
        // And again: a command can be used twice.
        assert!(command.status().unwrap().success());
        drop(command);
        assert_eq!(io::read_to_string(a).unwrap(), "a\na\n");
        assert_eq!(io::read_to_string(b).unwrap(), "b\nb\n");
    }

    #[test]
    fn one_that_lies_there_already_is_only_kept_open() {
        let (reader, writer) = pipe::pair().unwrap();
        let number = writer.as_fd().as_raw_fd();
        let mut command = shell(&format!("echo here >/proc/self/fd/{number}"));
        pass(&mut command, writer, number).unwrap();
        assert!(command.status().unwrap().success());
        drop(command);
        assert_eq!(io::read_to_string(reader).unwrap(), "here\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_still_an_error() {
        let (_reader, writer) = pipe::pair().unwrap();
        let mut command = Command::new("/nonexistent/program");
        let free = OwnedFd::from(writer.try_clone().unwrap());
        let number = free.as_raw_fd();
        drop(free);
        pass(&mut command, writer, number).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for number in [i32::MIN, -1, 0, 2, i32::MAX] {
            let (_reader, writer) = pipe::pair().unwrap();
            let error = pass(&mut shell("true"), writer, number).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{number}");
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
    }
}
