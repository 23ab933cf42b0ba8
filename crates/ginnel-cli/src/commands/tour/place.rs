//! Where the processes of a tour meet: a directory, in which each of them holds a lock, and addresses. The directory's name says which addresses these are, so that
//! `clean` can remove all of it when everybody was killed.

use super::mechanism::Mechanism;
use crate::exit::Failure;
use ginnel::Link;
use ginnel_os::{flock, process, tmpfile};
use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Back,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Back => "back",
        }
    }
}

/// How often, and after which pause, removing is tried.
const TRIES: u32 = 50;
const LOOK: Duration = Duration::from_millis(2);

/// Between the names of the directory of links, or nothing, and of the mechanism.
const MARK: &str = "tour-";

/// Where the two meet: a directory of their own, and names that nobody else has.
pub(super) struct Place {
    id: u64,
    dir: PathBuf,
    mechanism: Mechanism,
}

impl Place {
    /// Makes one beside the directory of links, where there is the same kind of file system; or in it, if that cannot be. It is in use as long as the lock.
    pub(super) fn make(mechanism: Mechanism) -> Result<(Self, InUse), Failure> {
        let id = std::hash::RandomState::new().build_hasher().finish();
        let (links, name) = (ginnel::directory(), format!("{MARK}{}-{id:016x}", mechanism.name()));
        let beside = PathBuf::from(format!("{}-{name}", links.display()));
        let inside = links.join(name);
        let fail = |e: io::Error| Failure::file("make the directory", beside.display(), &e);
        loop {
            let made = make_directory(&beside).map(|()| &beside);
            let dir = made.or_else(|e| make_directory(&inside).map(|()| &inside).map_err(|_| e)).map_err(fail)?;
            let place = Self { id, dir: dir.clone(), mechanism };
            // Or `clean` was faster than the lock.
            if let Some(lock) = place.enter().map_err(fail)? {
                return Ok((place, lock));
            }
        }
    }

    /// That of the parent, which has made the directory the one for links.
    pub(super) fn of_parent(mechanism: Mechanism, id: u64) -> Self {
        Self { id, dir: ginnel::directory(), mechanism }
    }

    /// Says that it is in use; `None` if it is being removed, or has been.
    pub(super) fn enter(&self) -> io::Result<Option<InUse>> {
        let dir = match tmpfile::open_directory(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let is_there = flock::try_shared(&dir)? && self.is(&dir);
        Ok(is_there.then_some(InUse(dir)))
    }

    /// Those that nobody uses any more: both processes and the one that started them were killed. Nobody enters one as long as it is kept here.
    pub(super) fn left_over() -> impl Iterator<Item = (Self, InUse)> {
        let links = ginnel::directory();
        let name = links.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = links.parent().filter(|parent| !parent.as_os_str().is_empty());
        let beside = parent.unwrap_or(Path::new(".")).to_owned();
        let places = places(beside, format!("{name}-{MARK}")).into_iter().chain(places(links, MARK.to_owned()));
        places.filter_map(|place| {
            let dir = tmpfile::open_directory(&place.dir).ok()?;
            let is_mine = tmpfile::fstat(dir.as_fd()).is_ok_and(|status| status.uid == process::user());
            (is_mine && flock::try_exclusive(&dir).ok()? && place.is(&dir)).then_some((place, InUse(dir)))
        })
    }

    fn is(&self, dir: &OwnedFd) -> bool {
        let named = std::fs::symlink_metadata(&self.dir).map(|status| (status.dev(), status.ino()));
        named.is_ok_and(|named| tmpfile::fstat(dir.as_fd()).is_ok_and(|status| status.identity == named))
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Where messages of this way are received. Of signals the one who receives says it.
    pub(super) fn address(&self, way: Way) -> String {
        let (id, name, back) = (self.id, way.name(), u64::from(way == Way::Back));
        let path = self.dir.join(name);
        let path = path.display();
        match self.mechanism {
            // Few places, so that what is on its way stays in the cores' caches.
            Mechanism::Shm => format!("shm:{name}?capacity=16"),
            Mechanism::Mem => format!("mem:{name}?capacity=16"),
            Mechanism::Pipe => "pipe:".into(),
            Mechanism::Fifo => format!("fifo:{path}"),
            Mechanism::Mq => format!("mq:/ginnel-tour-{id:016x}-{name}"),
            Mechanism::Sysv => format!("sysv:{}", 0x4000_0000 | (id & 0x3fff_fffe) | back),
            Mechanism::Unix => format!("unix:{path}"),
            Mechanism::Seqpacket => format!("unix:{path}?type=seqpacket"),
            Mechanism::Dgram => format!("unix:{path}?type=dgram"),
            Mechanism::Tcp => format!("tcp://{}", self.host(back)),
            Mechanism::Udp => format!("udp://{}", self.host(back)),
            Mechanism::Signal => "signal:".into(),
        }
    }

    /// Anything in 127.0.0.0/8 is this host, and ports below 32768 are given to nobody who has not asked for them.
    fn host(&self, back: u64) -> String {
        let [a, b, c, ..] = self.id.to_le_bytes();
        let port = 10_000 + (self.id >> 24) % 10_000 * 2 + back;
        format!("127.{}.{b}.{}:{port}", 1 + a % 254, 1 + c % 254)
    }

    /// Removes what has a name; most often it is gone already.
    pub(super) fn remove(&self) {
        if matches!(self.mechanism, Mechanism::Mq | Mechanism::Sysv) {
            for way in [Way::There, Way::Back] {
                let _ = Link::new(&self.address(way)).and_then(|link| link.unlink(true));
            }
        }
        // The others may be about to leave, and move things meanwhile.
        for _ in 0..TRIES {
            match std::fs::remove_dir_all(&self.dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound || self.dir.exists() => std::thread::sleep(LOOK),
                _ => return,
            }
        }
    }
}

/// A lock on the directory of a place, which goes with its process.
pub(super) struct InUse(#[expect(dead_code, reason = "it is kept for its lock")] OwnedFd);

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// The places in a directory whose names begin so.
fn places(dir: PathBuf, begin: String) -> Vec<Place> {
    let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let place = |name: String| {
        let (mechanism, id) = name.strip_prefix(&begin)?.split_once('-')?;
        let mechanism = Mechanism::ALL.into_iter().find(|known| known.name() == mechanism)?;
        Some(Place { id: u64::from_str_radix(id, 16).ok()?, dir: dir.join(&name), mechanism })
    };
    names.filter_map(place).collect()
}
