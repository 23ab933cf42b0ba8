//! The shared mappings of a process, as `/proc/PID/maps` lists them (`proc(5)`).

use rustix::fs::makedev;

use super::object::{FileId, Object, number};

/// A shared mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Whether it can be read.
    pub is_readable: bool,
    /// Whether it can be written.
    pub is_writable: bool,
    /// Where in the object it begins, in bytes.
    pub offset: u64,
    /// What is mapped.
    pub object: Object,
}

/// `proc(5)`: the shared mappings in the text of `/proc/PID/maps`. Private ones, and lines that make no sense, are left out.
///
/// ```
/// let text = b"7f00-8f00 rw-s 00000000 00:01 12                 /SYSV00001234 (deleted)\n";
/// let mappings = ginnel_os::census::parse_maps(text);
/// assert_eq!(mappings[0].object, ginnel_os::census::Object::SysV { key: 0x1234, id: 12 });
/// ```
pub fn parse_maps(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').filter_map(parse_mapping).collect()
}

fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut range = fields.next()?.splitn(2, |byte| *byte == b'-');
    let (start, end) = (number(range.next()?, 16)?, number(range.next()?, 16)?);
    let rights = fields.next()?;
    if rights.get(3) != Some(&b's') {
        return None;
    }
    let offset = number(fields.next()?, 16)?;
    let mut device = fields.next()?.splitn(2, |byte| *byte == b':');
    let (major, minor) = (number(device.next()?, 16)?, number(device.next()?, 16)?);
    let inode = number(fields.next()?, 10)?;
    let id = FileId { device: makedev(u32::try_from(major).ok()?, u32::try_from(minor).ok()?), inode };
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    let object = Object::of_mapping(path, id);
    Some(Mapping { start, end, is_readable: rights[0] == b'r', is_writable: rights[1] == b'w', offset, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_mappings_are_listed() {
        let text = b"55d0-55d1 r-xp 00000000 fe:00 42                         /usr/bin/sleep
7f00-7f01 rw-s 00001000 00:1b 7                          /dev/shm/two words (deleted)
7f01-7f02 r--s 00000000 00:01 8                          /memfd:m (deleted)
7f02-7f03 rw-s 00000000 00:01 9                          /dev/zero (deleted)
7f03-7f04 rw-s 00000000 00:01 65538                      /SYSV00000000 (deleted)
7f04-7f05 rw-s 00000000 00:0f 3                          anon_inode:[io_uring]
7f05-7f06 rw-p 00000000 00:00 0 
";
        let mappings = parse_maps(text);
        let id = |minor, inode| FileId { device: makedev(0, minor), inode };
        let objects: Vec<_> = mappings.iter().map(|mapping| mapping.object.clone()).collect();
        assert_eq!(
            objects,
            [
                Object::Shm { name: b"two words".to_vec(), id: id(0x1b, 7), is_unlinked: true },
                Object::Memfd { name: b"m".to_vec(), id: Some(id(1, 8)) },
                Object::Anonymous { id: id(1, 9) },
                Object::SysV { key: 0, id: 65538 },
                Object::Other { text: b"anon_inode:[io_uring]".to_vec() },
            ]
        );
        let first = &mappings[0];
        assert_eq!((first.start, first.end, first.offset, first.is_writable), (0x7f00, 0x7f01, 0x1000, true));
        assert!(!mappings[1].is_writable && mappings[1].is_readable);
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in [
            &b""[..],
            b"\n\n",
            b"x",
            b"1-2",
            b"1-2 rw-s",
            b"1-2 rw-s 0",
            b"1-2 rw-s 0 1:2",
            b"1-2 rw-s 0 12 3 /x",
            b"1 rw-s 0 1:2 3",
            b"1-2 s 0 1:2 3 x",
        ] {
            assert!(parse_maps(text).is_empty(), "{}", text.escape_ascii());
        }
    }
}
