//! `sysvipc(7)`, `ftok(3)`: what the three mechanisms of System V share: keys, owners, and the tables in `/proc/sysvipc`.
//!
//! A *key* is how unrelated processes agree on an object; the *id* that the kernel gives for it is what calls use. An object lives until
//! somebody removes it, whoever dies. It has no descriptor: nothing closes it, and neither `poll(2)` nor a file system knows it. Ids and
//! keys count within an IPC namespace (`ipc_namespaces(7)`).
#![allow(unsafe_code)] // ftok reads a C string.

use crate::explain::{explain, invalid};
use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What unrelated processes name an object by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(libc::key_t);

impl Key {
    /// `IPC_PRIVATE`: no key at all. Each creation with it makes a new object, which others reach by its id.
    pub const PRIVATE: Self = Self(libc::IPC_PRIVATE);

    /// A number that its users agree on; 0 is [`Key::PRIVATE`].
    ///
    /// ```
    /// use ginnel_os::sysv_ipc::Key;
    /// assert_eq!(Key::new(0), Key::PRIVATE);
    /// assert_eq!(format!("{:?}", Key::new(0x1234)), "0x00001234");
    /// ```
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// `ftok(3)`: a key from a file that exists, and a project number that is not 0.
    ///
    /// **Two files may give the same key**: it holds the low 16 bits of the inode number, the low 8 bits of the device number, and the
    /// project. A file that is replaced (as editors do) gives another key than before. So create with a key exclusively, and check what
    /// was opened.
    ///
    /// ```
    /// use ginnel_os::sysv_ipc::Key;
    /// assert_eq!(Key::from_path("/".as_ref(), 7)?, Key::from_path("/".as_ref(), 7)?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errno of `stat(2)`: `ENOENT`, `EACCES`. `EINVAL` for project 0, with which `ftok` is not defined.
    pub fn from_path(path: &Path, project: u8) -> io::Result<Self> {
        if project == 0 {
            return Err(invalid("ftok(3) is not defined for project 0; use a number from 1 to 255"));
        }
        let name = c_path(path.as_os_str())?;
        // SAFETY: `name` is a C string for the duration of the call.
        let key = unsafe { libc::ftok(name.as_ptr(), i32::from(project)) };
        // -1 is a key too, in principle; then errno is stale, and stat tells.
        if key == -1 {
            rustix::fs::stat(name.as_c_str())?;
        }
        Ok(Self(key))
    }

    /// As a number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

fn c_path(path: &OsStr) -> io::Result<CString> {
    CString::new(path.as_bytes()).map_err(|_| explain(libc::EINVAL, format!("the path {path:?} contains a zero byte")))
}

/// As `ipcs(1)` shows it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `struct ipc_perm`: whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its key; [`Key::PRIVATE`] also for one that was removed and is still in use.
    pub key: Key,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// User who made it.
    pub creator_uid: u32,
    /// Group of that user.
    pub creator_gid: u32,
    /// Permission bits, at most 0777.
    pub mode: u32,
}

impl Owner {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the width of mode differs between architectures"
    )]
    pub(crate) fn of(perm: &libc::ipc_perm) -> Self {
        Self {
            key: Key(perm.__key),
            uid: perm.uid,
            gid: perm.gid,
            creator_uid: perm.cuid,
            creator_gid: perm.cgid,
            mode: perm.mode as u32 & 0o777,
        }
    }

    pub(crate) fn of_row(row: Row<'_>) -> Self {
        Self {
            key: Key(row.number("key")),
            uid: row.number("uid"),
            gid: row.number("gid"),
            creator_uid: row.number("cuid"),
            creator_gid: row.number("cgid"),
            mode: row.mode() & 0o777,
        }
    }
}

/// A moment, in whole seconds; the kernel writes 0 for never.
pub(crate) fn moment(seconds: i64) -> Option<SystemTime> {
    u64::try_from(seconds).ok().filter(|s| *s > 0).and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)))
}

/// A table of `/proc/sysvipc`: a line of column names, then a line an object. Columns are found by name, as kernels add some.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn read(path: &str) -> io::Result<Self> {
        std::fs::read_to_string(path).map(Self).map_err(|e| {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            explain(errno, format!("{path}: {e}; it needs /proc mounted and a kernel with CONFIG_SYSVIPC"))
        })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let mut lines = self.0.lines();
        let header = lines.next().unwrap_or_default();
        lines.map(move |line| Row { header, line })
    }
}

/// A line of a [`Table`].
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    header: &'a str,
    line: &'a str,
}

impl Row<'_> {
    /// The number in a column; 0 where there is none.
    pub(crate) fn number<T: std::str::FromStr + Default>(self, column: &str) -> T {
        self.text(column).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The column `perms`, which is octal.
    pub(crate) fn mode(self) -> u32 {
        self.text("perms").and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or_default()
    }

    pub(crate) fn moment(self, column: &str) -> Option<SystemTime> {
        moment(self.number(column))
    }

    fn text(&self, column: &str) -> Option<&str> {
        let index = self.header.split_ascii_whitespace().position(|name| name == column)?;
        self.line.split_ascii_whitespace().nth(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let table = Table("  key  msqid perms  cbytes\n -17   3   1660   88\n  5  4\n".into());
        let rows: Vec<_> = table.rows().collect();
        assert_eq!((rows[0].number::<i32>("key"), rows[0].mode(), rows[0].number::<u64>("cbytes")), (-17, 0o1660, 88));
        assert_eq!((rows[1].number::<i32>("msqid"), rows[1].number::<u64>("cbytes"), rows[1].mode()), (4, 0, 0));
        assert_eq!(rows[0].number::<u64>("no such column"), 0);
    }

    #[test]
    fn a_key_of_a_file_depends_on_the_project() {
        let key = |project| Key::from_path("/proc/self".as_ref(), project);
        assert_ne!(key(1).unwrap(), key(2).unwrap());
        assert_eq!(key(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Key::from_path("/no/such".as_ref(), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Key::from_path("a\0b".as_ref(), 1).is_err());
    }

    #[test]
    fn never_is_no_moment() {
        assert_eq!(moment(0), None);
        assert_eq!(moment(-1), None);
        assert_eq!(moment(1), Some(UNIX_EPOCH + Duration::from_secs(1)));
        assert!(moment(i64::MAX).is_none_or(|at| at > UNIX_EPOCH));
    }
}
