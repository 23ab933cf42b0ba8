//! What is read: a file or standard input, which a signal can interrupt.

use crate::exit::Failure;
use crate::interrupt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

/// An open file, or standard input.
pub(crate) struct Input {
    file: File,
    name: String,
    /// Length, if it is a regular file.
    len: Option<u64>,
    /// Until when to wait for it.
    end: Option<Instant>,
}

impl Input {
    /// Opens a file; standard input if there is none, or it is called `-`.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let file = match path {
            Some(path) => File::open(path),
            // Not through `io::stdin`, whose buffer of 8 KiB would be in the way.
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        let file = file.map_err(|e| Failure::file("open", &name, &e))?;
        let status = file.metadata().map_err(|e| Failure::file("look at", &name, &e))?;
        if status.is_dir() {
            return Err(Failure::failed(format!(
                "cannot read {name}: it is a directory; name a file, or pipe `tar c` here"
            )));
        }
        Ok(Self { file, name, len: status.is_file().then_some(status.len()), end: None })
    }

    /// Reading fails with `TimedOut` when it would wait longer than this.
    pub(crate) fn until(self, end: Option<Instant>) -> Self {
        Self { end, ..self }
    }

    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its length, if that is known.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }
}

impl Read for Input {
    /// Fails with `Interrupted` when a signal came, and only then; with `TimedOut` when it took too long.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.len.is_none() {
            interrupt::wait_readable(self.file.as_fd(), self.end)?;
        }
        self.file.read(into)
    }
}
