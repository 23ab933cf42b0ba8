//! The file in which the users of a link enter themselves, where the kernel does not know them: see `presence`. It lies beside the links, in a folder
//! whose name no link can have, and is as private as they are.
//!
//! ```text
//! file   0   1 byte    1 a sender was here, 2 a receiver was here, 4 ginnel is about to make something
//!        8   16 bytes  what ginnel made, and so may remove: two numbers of the mechanism's that no other object has; zeros if nothing.
//!                      If it is about to: since when, in seconds since 1970
//!        24  4 bytes   the word on which senders sleep, see `bell`
//!        28  4 bytes   that of receivers
//!        32            the link, as text, to the end
//! locks  2^61 the gate: while somebody joins, the last one leaves, or `clean` looks
//!        2^62 + n a sender      2^62 + 2^32 + n a receiver
//! ```
//!
//! [I1] The file, and the object that ginnel makes or removes, come and go under the gate only.
//! [I2] The file is born complete: whoever finds the name finds the link's text.

use crate::directory::Directory;
use crate::error::{Error, ErrorKind};
use ginnel_core::Role;
use ginnel_os::mmap::Mapping;
use ginnel_os::ofd_lock::{self, Token};
use ginnel_os::tmpfile::{self, Access};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

const GATE: u64 = 1 << 61;
const SENDERS: u64 = 1 << 62;
const RECEIVERS: u64 = SENDERS + (1 << 32);
/// Handles of a role at once.
const HANDLES: u64 = 1 << 16;

const MADE: usize = 8;
pub(super) const SENDERS_SLEEP: usize = 24;
pub(super) const RECEIVERS_SLEEP: usize = 28;
const TEXT: usize = 32;
/// Longest text of a link, in bytes: a path is the longest.
const TEXT_MAX: usize = 4096 + 16;

/// How long somebody may stand in the gate.
const PATIENCE: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_micros(50);

/// The directory of these files, in that of the links. No link can have its name.
pub(crate) const FOLDER: &str = "?ends";

/// Which object a mechanism means, whatever its name stands for later.
pub(super) type Identity = (u64, u64);

/// What a mechanism tells of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) identity: Identity,
    /// When it was made or changed, in seconds since 1970.
    pub(super) changed_s: u64,
    pub(super) messages: u64,
}

/// What ginnel made, and so may remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Made {
    #[default]
    Nothing,
    /// What comes to be in the second after this one: who wrote it was about to make it, and may have been killed before it could write which it is.
    Soon(u64),
    This(Identity),
}

impl Made {
    /// The same, if this is the object.
    pub(super) fn of(self, facts: &Facts) -> Self {
        let is_it = match self {
            Self::Nothing => false,
            Self::Soon(since_s) => (since_s..=since_s + 1).contains(&facts.changed_s),
            Self::This(identity) => identity == facts.identity,
        };
        if is_it { Self::This(facts.identity) } else { Self::Nothing }
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sender_seen: bool,
    pub(super) receiver_seen: bool,
    pub(super) made: Made,
}

impl Record {
    fn to_bytes(self) -> [u8; SENDERS_SLEEP] {
        let mut bytes = [0; SENDERS_SLEEP];
        let (soon, first, second) = match self.made {
            Made::Nothing => (false, 0, 0),
            Made::Soon(since_s) => (true, since_s, 0),
            Made::This((first, second)) => (false, first, second),
        };
        bytes[0] = u8::from(self.sender_seen) | u8::from(self.receiver_seen) << 1 | u8::from(soon) << 2;
        bytes[MADE..MADE + 8].copy_from_slice(&first.to_le_bytes());
        bytes[MADE + 8..].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: [u8; SENDERS_SLEEP]) -> Self {
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let made = match (bytes[0] & 4 != 0, number(MADE), number(MADE + 8)) {
            (true, since_s, _) => Made::Soon(since_s.min(u64::MAX - 1)),
            (false, 0, 0) => Made::Nothing,
            (false, first, second) => Made::This((first, second)),
        };
        Self { sender_seen: bytes[0] & 1 != 0, receiver_seen: bytes[0] & 2 != 0, made }
    }

    pub(super) fn has_seen(&self, role: Role) -> bool {
        if role == Role::Sender { self.sender_seen } else { self.receiver_seen }
    }

    pub(super) fn see(&mut self, role: Role) {
        if role == Role::Sender { self.sender_seen = true } else { self.receiver_seen = true }
    }
}

/// The file's name: readable, and different for different links.
fn name_of(link: &str) -> CString {
    let readable: String = link.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
    // FNV-1a, of 64 bits (draft-eastlake-fnv).
    let hash = link
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    CString::new(format!("{readable}-{hash:016x}")).expect("it holds no NUL")
}

fn folder() -> Result<OwnedFd, Error> {
    let path = Directory::open()?.path().join(FOLDER);
    let os = |e| Error::os("open the directory", path.display().to_string(), e);
    tmpfile::make_directory(&path).map_err(os)?;
    tmpfile::open_directory(&path).map_err(os)
}

/// The folder, if it is there.
fn existing_folder() -> Result<Option<OwnedFd>, Error> {
    let Some(directory) = Directory::open_existing()? else { return Ok(None) };
    let path = directory.path().join(FOLDER);
    match tmpfile::open_directory(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|e| Error::os("open the directory", path.display().to_string(), e)),
    }
}

/// Names of the links that have a book.
pub(super) fn names() -> Result<Vec<CString>, Error> {
    let Some(folder) = existing_folder()? else { return Ok(Vec::new()) };
    tmpfile::names(folder.as_fd()).map_err(|e| Error::os("list", FOLDER, e))
}

/// The file, open.
pub(super) struct Book {
    file: OwnedFd,
    folder: OwnedFd,
    name: CString,
}

impl Book {
    /// The book of a link, which is made if there is none, and its gate.
    pub(super) fn enter(link: &str) -> Result<(Self, Token), Error> {
        let os = |e: io::Error| Error::os("open", link, e);
        let (folder, name) = (folder()?, name_of(link));
        let end = Instant::now() + PATIENCE;
        loop {
            let Some(book) = Self::open_in(folder.as_fd(), &name).map_err(os)? else {
                write(folder.as_fd(), &name, link).map_err(os)?;
                continue;
            };
            if let Some(gate) = book.try_gate().map_err(os)? {
                return Ok((book, gate));
            }
            if Instant::now() > end {
                return Err(Error::new(ErrorKind::Stuck, "open", link)
                    .problem(
                        "another process is in the middle of joining or leaving and does not go on: it is stopped, perhaps",
                    )
                    .remedy("continue or kill that process"));
            }
            std::thread::sleep(NAP);
        }
    }

    /// The book of this link, if there is one.
    pub(super) fn find(link: &str) -> Result<Option<Self>, Error> {
        Self::open(&name_of(link))
    }

    /// The book of this name, if there is one.
    pub(super) fn open(name: &CStr) -> Result<Option<Self>, Error> {
        let Some(folder) = existing_folder()? else { return Ok(None) };
        Self::open_in(folder.as_fd(), name).map_err(|e| Error::os("open", shown(name), e))
    }

    fn open_in(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Self>> {
        let file = match tmpfile::open_at(folder, name, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(Some(Self { file, folder: folder.try_clone_to_owned()?, name: name.to_owned() }))
    }

    /// The gate, if nobody stands in it and the file still has its name.
    pub(super) fn try_gate(&self) -> io::Result<Option<Token>> {
        let gate = Token::take(self.file.as_fd(), GATE)?;
        Ok(gate.filter(|_| self.has_name()))
    }

    /// The gate, unless the file loses its name, or nobody gets through it.
    pub(super) fn gate(&self) -> Option<Token> {
        let end = Instant::now() + PATIENCE;
        while self.has_name() {
            match self.try_gate() {
                Ok(Some(gate)) => return Some(gate),
                Ok(None) if Instant::now() < end => std::thread::sleep(NAP),
                _ => return None,
            }
        }
        None
    }

    /// Enters a handle: it is there as long as its token.
    pub(super) fn sign(&self, role: Role) -> io::Result<Option<Token>> {
        for number in 0..HANDLES {
            let token = Token::take(self.file.as_fd(), base(role) + number)?;
            if token.is_some() {
                return Ok(token);
            }
        }
        Ok(None)
    }

    /// Whether nobody is there. If that cannot be told, somebody is.
    pub(super) fn is_alone(&self) -> bool {
        !self.has(Role::Sender) && !self.has(Role::Receiver)
    }

    /// Whether somebody of this role is there.
    pub(super) fn has(&self, role: Role) -> bool {
        !matches!(ofd_lock::first_locked(self.file.as_fd(), base(role), HANDLES), Ok(None))
    }

    fn has_name(&self) -> bool {
        let named = tmpfile::stat_at(self.folder.as_fd(), &self.name).map(|status| status.identity);
        named.is_ok_and(|named| tmpfile::fstat(self.file.as_fd()).is_ok_and(|status| status.identity == named))
    }

    pub(super) fn record(&self) -> Record {
        let mut bytes = [0; SENDERS_SLEEP];
        let _ = tmpfile::read_at(self.file.as_fd(), &mut bytes, 0);
        Record::of_bytes(bytes)
    }

    pub(super) fn set_record(&self, record: Record) -> io::Result<()> {
        tmpfile::write_at(self.file.as_fd(), &record.to_bytes(), 0)
    }

    /// Enters that an object is about to be made.
    pub(super) fn announce(&self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.set_record(Record { made: Made::Soon(now.as_secs()), ..self.record() })
    }

    /// Whose book it is, by what stands in it; `None` if that is no link, or another one than its name says.
    pub(super) fn link(&self) -> io::Result<Option<String>> {
        let mut bytes = [0; TEXT_MAX];
        let len = tmpfile::read_at(self.file.as_fd(), &mut bytes, TEXT as u64)?;
        let text = std::str::from_utf8(&bytes[..len]).ok();
        Ok(text.filter(|text| name_of(text) == self.name).map(str::to_owned))
    }

    /// Ends it. Under the gate, with nobody there.
    pub(super) fn remove(&self) {
        let _ = tmpfile::unlink_at(self.folder.as_fd(), &self.name);
    }

    /// The part that holds the words on which the ends sleep. It was written when the file was made, so that memory for it is there.
    pub(super) fn map(&self) -> io::Result<Mapping> {
        Mapping::of_file(self.file.as_fd(), TEXT, true)
    }
}

impl AsFd for Book {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn base(role: Role) -> u64 {
    if role == Role::Sender { SENDERS } else { RECEIVERS }
}

/// Makes the file, unless somebody else was first.
fn write(folder: BorrowedFd<'_>, name: &CStr, link: &str) -> io::Result<()> {
    let new = tmpfile::create_unnamed(folder)?;
    let bytes: Vec<u8> = [0; TEXT].into_iter().chain(link.bytes()).collect();
    tmpfile::write_at(new.as_fd(), &bytes, 0)?;
    match tmpfile::link_at(new.as_fd(), folder, name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A file of the folder, for people.
pub(super) fn shown(name: &CStr) -> String {
    let path = crate::directory::directory().join(FOLDER);
    format!("{}/{}", path.display(), name.to_string_lossy().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let made = [Made::This((1 << 63 | 2, 3)), Made::Nothing, Made::This((0, 7)), Made::Soon(1 << 40)];
        for (sender_seen, made) in [true, false, true, false].into_iter().zip(made) {
            let record = Record { sender_seen, receiver_seen: !sender_seen, made };
            assert_eq!(Record::of_bytes(record.to_bytes()), record);
        }
    }

    #[test]
    fn what_comes_soon_is_ours_and_what_comes_later_is_not() {
        let facts = |identity, changed_s| Facts { identity, changed_s, messages: 0 };
        assert_eq!(Made::Soon(100).of(&facts((1, 2), 101)), Made::This((1, 2)));
        for changed_s in [99, 102] {
            assert_eq!(Made::Soon(100).of(&facts((1, 2), changed_s)), Made::Nothing);
        }
        assert_eq!(Made::This((1, 2)).of(&facts((1, 2), 5)), Made::This((1, 2)));
        assert_eq!(Made::This((1, 2)).of(&facts((1, 3), 5)), Made::Nothing);
    }

    #[test]
    fn names_tell_links_apart() {
        assert_ne!(name_of("mq:/a-b"), name_of("mq:/a_b"));
        assert!(name_of("mq:/a").to_str().unwrap().starts_with("mq--a-"));
    }
}
