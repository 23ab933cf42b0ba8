//! A semaphore by address, of either kind.

use ginnel_os::semaphore::{self, Named};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_sem::{self, Op, Set};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long the maker of a System V set may take to give it values.
const PATIENCE: Duration = Duration::from_secs(1);

/// `sem:/name`, `sysv-sem:KEY#INDEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Posix(String),
    SysV(SysVKey, u16),
}

/// How a set is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SysVKey {
    Number(i32),
    File(PathBuf, u8),
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sem", name)) => posix(name).map(Self::Posix),
            Some(("sysv-sem", rest)) => sysv(rest),
            _ => Err("a semaphore is written sem:/NAME or sysv-sem:KEY#INDEX".to_owned()),
        }
    }

    pub(super) fn value_max(&self) -> u64 {
        match self {
            Self::Posix(_) => u64::from(semaphore::VALUE_MAX),
            Self::SysV(..) => u64::from(sysv_sem::VALUE_MAX),
        }
    }

    /// The file that its key comes from, if it is not there.
    pub(super) fn missing_file(&self) -> Option<&Path> {
        match self {
            Self::SysV(SysVKey::File(path, _), _) if !path.exists() => Some(path),
            _ => None,
        }
    }

    pub(super) fn can_undo(&self) -> bool {
        matches!(self, Self::SysV(..))
    }

    /// How many semaphores to make.
    pub(super) fn size(&self, asked: Option<u16>) -> Result<usize, String> {
        match (self, asked) {
            (Self::Posix(_), None) => Ok(1),
            (Self::Posix(_), Some(_)) => Err("a POSIX semaphore is alone; --size is for sysv-sem:".to_owned()),
            (Self::SysV(_, index), Some(size)) if size <= *index => {
                Err(format!("a set of {size} has no number {index}, as they count from 0; make it larger with --size"))
            }
            (Self::SysV(_, index), asked) => Ok(asked.map_or(usize::from(*index) + 1, usize::from)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posix(name) => write!(f, "sem:{}", name.escape_debug()),
            Self::SysV(SysVKey::Number(key), index) => write!(f, "sysv-sem:{key:#x}#{index}"),
            Self::SysV(SysVKey::File(path, project), index) => {
                write!(f, "sysv-sem:{}#{project}#{index}", path.display().to_string().escape_debug())
            }
        }
    }
}

fn posix(name: &str) -> Result<String, String> {
    let bare = name.strip_prefix('/').unwrap_or_default();
    if bare.is_empty() || bare.contains(['/', '\0']) {
        return Err("a name begins with its only slash, as in sem:/slots".to_owned());
    }
    if bare.len() > semaphore::NAME_MAX {
        return Err(format!("the name has {} bytes, {} are the most", bare.len(), semaphore::NAME_MAX));
    }
    Ok(name.to_owned())
}

fn sysv(rest: &str) -> Result<Address, String> {
    let mut parts: Vec<&str> = rest.split('#').collect();
    let is_file = rest.starts_with(['/', '.']);
    // A number's first `#` is that of the index, a file's that of the project.
    let index = if parts.len() > 1 + usize::from(is_file) { parts.pop() } else { None };
    let index = index.map_or(Ok(0), |text| text.parse().map_err(|_| format!("{text:?} is no index: 0 to 65535")))?;
    let key = match parts[..] {
        [number] if !is_file => SysVKey::Number(key_number(number)?),
        [file, project] if is_file => SysVKey::File(file.into(), project_number(project)?),
        _ => return Err(key_form()),
    };
    Ok(Address::SysV(key, index))
}

fn key_form() -> String {
    "a key is a number, as in sysv-sem:0x4711, or a file and a project, as in sysv-sem:/etc/passwd#1; behind it \
     may stand # and the index"
        .to_owned()
}

fn key_number(text: &str) -> Result<i32, String> {
    let number = match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok().map(|number| number as i32),
        None => text.parse().ok(),
    };
    match number {
        Some(0) => Err("the key 0 is IPC_PRIVATE: nobody could find the set".to_owned()),
        Some(number) => Ok(number),
        None => Err(key_form()),
    }
}

fn project_number(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|project| *project != 0).ok_or_else(|| "a project is a number from 1 to 255".to_owned())
}

impl SysVKey {
    fn key(&self) -> io::Result<Key> {
        match self {
            Self::Number(number) => Ok(Key::new(*number)),
            Self::File(path, project) => Key::from_path(Path::new(path), *project),
        }
    }
}

/// One that is open.
pub(super) enum Semaphore {
    Posix(Named),
    SysV(Set, u16),
}

/// What was taken; dropping it gives it back.
pub(super) enum Held<'s> {
    Posix(#[expect(dead_code, reason = "it is there to be dropped")] semaphore::Guard<'s>),
    SysV(#[expect(dead_code, reason = "it is there to be dropped")] sysv_sem::Guard),
}

impl Semaphore {
    pub(super) fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Posix(name) => Named::open(name).map(Self::Posix),
            Address::SysV(key, index) => {
                let set = Set::open(key.key()?)?;
                wait_for_values(set)?;
                let count = set.stat().map_or(usize::MAX, |stat| stat.count); // Who may only write is told by the kernel.
                if usize::from(*index) >= count {
                    let text = format!("the set has no semaphore {index}: it has {count}, counted from 0");
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Ok(Self::SysV(set, *index))
            }
        }
    }

    /// Makes it, of System V a set in which all have this value.
    pub(super) fn create(address: &Address, value: u32, size: usize, if_missing: bool) -> io::Result<()> {
        const MODE: u32 = 0o600;
        match address {
            Address::Posix(name) if if_missing => Named::open_or_create(name, value, MODE).map(drop),
            Address::Posix(name) => Named::create(name, value, MODE).map(drop),
            Address::SysV(key, _) => {
                let (key, values) = (key.key()?, vec![value as u16; size]);
                let made = if if_missing {
                    Set::take_over(key, MODE, &values, PATIENCE)
                } else {
                    Set::create(key, MODE, &values)
                };
                made.map(drop)
            }
        }
    }

    pub(super) fn remove(address: &Address) -> io::Result<()> {
        match address {
            Address::Posix(name) => semaphore::unlink(name),
            Address::SysV(key, _) => Set::open(key.key()?)?.remove(),
        }
    }

    pub(super) fn take(&self, until: Instant) -> io::Result<()> {
        match self {
            Self::Posix(semaphore) => semaphore.wait(Some(until)),
            Self::SysV(set, index) => set.operate(&[Op::take(*index, 1)], Some(until)),
        }
    }

    pub(super) fn acquire(&self, undo: bool, until: Instant) -> io::Result<Held<'_>> {
        match self {
            Self::Posix(semaphore) => semaphore.acquire(Some(until)).map(Held::Posix),
            Self::SysV(set, index) => set.acquire(*index, undo, Some(until)).map(Held::SysV),
        }
    }

    pub(super) fn try_take(&self) -> io::Result<()> {
        match self {
            Self::Posix(semaphore) => semaphore.try_wait(),
            Self::SysV(set, index) => set.try_operate(&[Op::take(*index, 1)]),
        }
    }

    pub(super) fn post(&self) -> io::Result<()> {
        match self {
            Self::Posix(semaphore) => semaphore.post(),
            Self::SysV(set, index) => set.try_operate(&[Op::add(*index, 1)]),
        }
    }

    pub(super) fn value(&self) -> io::Result<u32> {
        match self {
            Self::Posix(semaphore) => semaphore.value(),
            Self::SysV(set, index) => set.value(*index).map(u32::from),
        }
    }
}

/// A set that was made just now may have no values yet, and what is posted before it has them would be overwritten. But one that was initialised
/// by another program without an operation looks the same for ever: after a while it is taken as it is.
fn wait_for_values(set: Set) -> io::Result<()> {
    loop {
        let stat = set.stat()?;
        let age = stat.change_time.and_then(|at| SystemTime::now().duration_since(at).ok());
        // Times are whole seconds.
        if stat.operation_time.is_some() || age.is_none_or(|age| age > PATIENCE * 2) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let number = |key, index| Ok(Address::SysV(SysVKey::Number(key), index));
        assert_eq!(Address::parse("sem:/a"), Ok(Address::Posix("/a".into())));
        assert_eq!(Address::parse("sysv-sem:0x4711"), number(0x4711, 0));
        assert_eq!(Address::parse("sysv-sem:7#2"), number(7, 2));
        assert_eq!(Address::parse("sysv-sem:0xffffffff"), number(-1, 0));
        assert_eq!(Address::parse("sysv-sem:/a#1#3"), Ok(Address::SysV(SysVKey::File("/a".into(), 1), 3)));
        assert_eq!(Address::parse("sysv-sem:/a#1"), Ok(Address::SysV(SysVKey::File("/a".into(), 1), 0)));
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for text in ["sem:/a", "sysv-sem:0x4711#2", "sysv-sem:/a#1#3"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("sem:/{}", "a".repeat(252));
        for text in
            ["", "sem", "sem:", "sem:a", "sem:/", "sem:/a/b", &long, "shm:a", "sysv-sem:", "sysv-sem:0", "sysv-sem:x"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        for text in ["7#", "7#-1", "7#65536", "7#1#2", "/a", "/a#0", "/a#256", "/a#1#2#3", "0x1ffffffff"] {
            assert!(Address::parse(&format!("sysv-sem:{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_has_room_for_its_index() {
        let third = Address::parse("sysv-sem:7#2").unwrap();
        assert_eq!((third.size(None), third.size(Some(5))), (Ok(3), Ok(5)));
        assert!(third.size(Some(2)).is_err());
        assert!(Address::parse("sem:/a").unwrap().size(Some(1)).is_err());
    }
}
