//! The directory that holds a user's links: one file each, named as the link. `$GINNEL_DIR`, or `/dev/shm/ginnel-UID`.
//!
//! Nobody else may write to it, or they could put their files in place of ours: it is checked at each open.

use crate::error::{Error, ErrorKind};
use ginnel_os::tmpfile::{self, Kind};
use ginnel_os::{errno, process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Names the directory, when `/dev/shm` is not to be used: in containers, or to keep tests apart.
pub const DIRECTORY_VARIABLE: &str = "GINNEL_DIR";

/// An open directory of links.
#[derive(Debug)]
pub(crate) struct Directory {
    file: OwnedFd,
    path: PathBuf,
}

/// Where this user's links lie, whether it is there or not.
///
/// ```
/// assert!(ginnel::directory().is_absolute() || std::env::var_os(ginnel::DIRECTORY_VARIABLE).is_some());
/// ```
pub fn directory() -> PathBuf {
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(path) if !path.is_empty() => path.into(),
        _ => format!("/dev/shm/ginnel-{}", process::user()).into(),
    }
}

impl Directory {
    /// Opens the directory, and makes it if it is not there.
    pub(crate) fn open() -> Result<Self, Error> {
        let path = directory();
        match Self::open_path(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                tmpfile::make_directory(&path).map_err(|e| {
                    let error = Error::os("create the directory", shown(&path), e);
                    if error.kind() != ErrorKind::NotFound {
                        return error;
                    }
                    error.remedy("make its parent directory first, or set GINNEL_DIR to a directory of yours")
                })?;
                Self::open_path(&path)
            }
            other => other,
        }
    }

    /// Opens the directory if it is there.
    pub(crate) fn open_existing() -> Result<Option<Self>, Error> {
        match Self::open_path(&directory()) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn open_path(path: &Path) -> Result<Self, Error> {
        let tried = "open the directory";
        let file = tmpfile::open_directory(path).map_err(|e| match e.raw_os_error() {
            Some(errno::ELOOP | errno::ENOTDIR) => Error::new(ErrorKind::PermissionDenied, tried, shown(path))
                .problem("something else has its name: a symbolic link or a file")
                .remedy("remove that, or set GINNEL_DIR to a directory of yours"),
            _ => Error::os(tried, shown(path), e),
        })?;
        let status = tmpfile::fstat(file.as_fd()).map_err(|e| Error::os(tried, shown(path), e))?;
        debug_assert_eq!(status.kind, Kind::Directory);
        let denied = |problem: String| {
            let error = Error::new(ErrorKind::PermissionDenied, tried, shown(path)).problem(problem);
            Err(error.remedy("set GINNEL_DIR to a directory of yours with mode 0700"))
        };
        if status.uid != process::user() {
            return denied(format!("it belongs to user {}, not to you", status.uid));
        }
        if status.mode & 0o022 != 0 {
            return denied(format!("its mode {:04o} lets others write to it", status.mode));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the files in it that can be links; others are told apart by `list`.
    pub(crate) fn names(&self) -> Result<Vec<std::ffi::CString>, Error> {
        tmpfile::names(self.as_fd()).map_err(|e| Error::os("list", shown(&self.path), e))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
