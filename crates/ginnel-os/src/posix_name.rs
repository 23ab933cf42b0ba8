//! The name of a POSIX object (`mq_overview(7)`, `sem_overview(7)`, `shm_overview(7)`): a slash, then at least one byte, none of them a
//! slash or zero. Checked here because the C library is of several minds: it strips the slash, or adds one, or says `EINVAL`, `ENOENT`
//! or `EACCES` for the same mistake.

use crate::explain::explain;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// The name for C, with its slash; `longest` is the number of bytes after it that the mechanism takes.
pub(crate) fn check(name: &OsStr, longest: usize) -> io::Result<CString> {
    let bytes = name.as_bytes();
    let refuse = |errno, why: String| Err(explain(errno, format!("the name {name:?} {why}")));
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return refuse(libc::EINVAL, format!("does not begin with a slash; write \"/{}\"", name.to_string_lossy()));
    };
    match rest {
        b"" => refuse(libc::EINVAL, "is empty after its slash; give it at least one more byte".into()),
        b"." | b".." => refuse(libc::EINVAL, "stands for a directory; choose another".into()),
        _ if rest.contains(&b'/') => refuse(libc::EINVAL, "has a second slash; use only the one at its start".into()),
        _ if rest.len() > longest => refuse(
            libc::ENAMETOOLONG,
            format!("has {} bytes after its slash, the limit is {longest}; shorten it", rest.len()),
        ),
        _ => CString::new(bytes)
            .or_else(|_| refuse(libc::EINVAL, "contains a zero byte, where C would end it; remove that".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::errno;

    fn checked(name: &[u8]) -> Result<usize, Option<i32>> {
        check(OsStr::from_bytes(name), 255).map(|name| name.as_bytes().len()).map_err(|e| errno(&e))
    }

    #[test]
    fn only_a_slash_and_a_plain_name_pass() {
        let long = |n: usize| [b"/".to_vec(), vec![b'x'; n]].concat();
        assert_eq!(checked(b"/a"), Ok(2));
        assert_eq!(checked(b"/..."), Ok(4));
        assert_eq!(checked(b"/\xff"), Ok(2));
        assert_eq!(checked(&long(255)), Ok(256));
        assert_eq!(checked(&long(256)), Err(Some(libc::ENAMETOOLONG)));
        for bad in [&b""[..], b"/", b"a", b"//", b"/a/", b"/a/b", b"/.", b"/..", b"/a\0b", b"\0"] {
            assert_eq!(checked(bad), Err(Some(libc::EINVAL)), "{bad:?}");
        }
    }
}
