//! `sysctl(8)`, `getrlimit(2)`, `statvfs(3)`: every limit of this machine and this process that interprocess communication meets, as data;
//! and the surroundings that change what works: namespaces, containers, systemd.
//!
//! It only reads. Whether a limit is too low is the caller's to judge. What cannot be read, for want of the file or of the right to it, is
//! `None` and still listed.

mod logind;
mod surroundings;

pub use logind::RemoveIpc;
pub use surroundings::{Hint, Mount, Namespace, Surroundings, surroundings};

use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// How much, or that there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// So many of the limit's unit.
    Number(u64),
    /// As much as there is.
    Unlimited,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Unlimited => "unlimited".fmt(f),
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages of memory, or huge pages where the name says so.
    Pages,
    /// Things: messages, queues, descriptors, as the name says.
    Count,
    /// 0 is off, 1 is on.
    Switch,
    /// A level that the man page explains.
    Level,
}

/// Where a limit comes from, and so where it is changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A file below `/proc/sys`, set with `sysctl -w`; the number is the field in it, from 0, of a file with several.
    Sysctl(PathBuf, Option<usize>),
    /// A limit of the process: `ulimit`, `setrlimit(2)`.
    Rlimit(&'static str),
    /// The size of a mounted file system.
    FileSystem(PathBuf),
    /// Another file of the kernel's.
    File(PathBuf),
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// What it is called: `fs.mqueue.msg_max`, `RLIMIT_NOFILE`.
    pub name: String,
    /// What it is now; of something that is used up, what is left. `None` if that cannot be read.
    pub value: Option<Value>,
    /// What it can be raised to, or the whole of which `value` is left. `None` if nothing says.
    pub max: Option<Value>,
    /// Where it comes from.
    pub source: Source,
    /// What it counts.
    pub unit: Unit,
}

/// A sysctl: its name, field, unit, and what the kernel lets it be raised to.
type Sysctl = (&'static str, Option<usize>, Unit, Option<u64>);

#[rustfmt::skip]
const SYSCTLS: &[Sysctl] = &[
    ("fs.mqueue.queues_max", None, Unit::Count, None),
    ("fs.mqueue.msg_default", None, Unit::Count, None),
    ("fs.mqueue.msg_max", None, Unit::Count, Some(65_536)),
    ("fs.mqueue.msgsize_default", None, Unit::Bytes, None),
    ("fs.mqueue.msgsize_max", None, Unit::Bytes, Some(16_777_216)),
    ("kernel.msgmax", None, Unit::Bytes, None),
    ("kernel.msgmnb", None, Unit::Bytes, None),
    ("kernel.msgmni", None, Unit::Count, None),
    ("kernel.sem", Some(0), Unit::Count, None),
    ("kernel.sem", Some(1), Unit::Count, None),
    ("kernel.sem", Some(2), Unit::Count, None),
    ("kernel.sem", Some(3), Unit::Count, None),
    ("kernel.shmmax", None, Unit::Bytes, None),
    ("kernel.shmall", None, Unit::Pages, None),
    ("kernel.shmmni", None, Unit::Count, None),
    ("kernel.shm_rmid_forced", None, Unit::Switch, None),
    ("fs.pipe-max-size", None, Unit::Bytes, Some(1 << 31)),
    ("fs.pipe-user-pages-soft", None, Unit::Pages, None),
    ("fs.pipe-user-pages-hard", None, Unit::Pages, None),
    ("fs.file-max", None, Unit::Count, None),
    ("fs.nr_open", None, Unit::Count, None),
    ("fs.inotify.max_user_instances", None, Unit::Count, None),
    ("fs.inotify.max_user_watches", None, Unit::Count, None),
    ("fs.inotify.max_queued_events", None, Unit::Count, None),
    ("fs.epoll.max_user_watches", None, Unit::Count, None),
    ("net.core.wmem_default", None, Unit::Bytes, None),
    ("net.core.wmem_max", None, Unit::Bytes, None),
    ("net.core.rmem_default", None, Unit::Bytes, None),
    ("net.core.rmem_max", None, Unit::Bytes, None),
    ("net.core.optmem_max", None, Unit::Bytes, None),
    ("net.core.somaxconn", None, Unit::Count, None),
    ("net.unix.max_dgram_qlen", None, Unit::Count, None),
    ("vm.max_map_count", None, Unit::Count, None),
    ("vm.nr_hugepages", None, Unit::Pages, None),
    ("vm.nr_overcommit_hugepages", None, Unit::Pages, None),
    ("kernel.yama.ptrace_scope", None, Unit::Level, None),
];

/// What the fields of `kernel.sem` are called.
const SEM_FIELDS: [&str; 4] = ["SEMMSL", "SEMMNS", "SEMOPM", "SEMMNI"];

/// For these, 0 means that there is no limit.
const ZERO_IS_UNLIMITED: [&str; 2] = ["fs.pipe-user-pages-soft", "fs.pipe-user-pages-hard"];

const RLIMITS: &[(&str, Resource, Unit)] = &[
    ("RLIMIT_NOFILE", Resource::Nofile, Unit::Count),
    ("RLIMIT_MEMLOCK", Resource::Memlock, Unit::Bytes),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue, Unit::Bytes),
    ("RLIMIT_SIGPENDING", Resource::Sigpending, Unit::Count),
    ("RLIMIT_FSIZE", Resource::Fsize, Unit::Bytes),
    ("RLIMIT_AS", Resource::As, Unit::Bytes),
    ("RLIMIT_NPROC", Resource::Nproc, Unit::Count),
    ("RLIMIT_RTPRIO", Resource::Rtprio, Unit::Level),
];

/// `proc(5)`, `getrlimit(2)`, `statvfs(3)`: every limit, as it is now.
///
/// ```
/// use ginnel_os::limits::{Value, all};
///
/// let limits = all();
/// let files = limits.iter().find(|limit| limit.name == "RLIMIT_NOFILE").unwrap();
/// assert!(files.value > Some(Value::Number(0)));
/// assert!(files.value <= files.max);
/// ```
pub fn all() -> Vec<Limit> {
    let mut limits: Vec<Limit> = SYSCTLS.iter().map(|sysctl| self::sysctl(Path::new("/proc/sys"), sysctl)).collect();
    limits.extend(RLIMITS.iter().map(|(name, resource, unit)| rlimit(name, *resource, *unit)));
    limits.extend(file_system(Path::new("/dev/shm")));
    limits.extend(huge_pages(Path::new("/sys/kernel/mm/hugepages")));
    limits
}

fn sysctl(root: &Path, &(name, field, unit, max): &Sysctl) -> Limit {
    let path = root.join(name.replace('.', "/"));
    let text = fs::read_to_string(&path).ok();
    let number = text.and_then(|text| text.split_ascii_whitespace().nth(field.unwrap_or(0))?.parse().ok());
    let is_unlimited = number == Some(0) && ZERO_IS_UNLIMITED.contains(&name);
    Limit {
        name: field.map_or_else(|| name.into(), |field| format!("{name} {}", SEM_FIELDS[field])),
        value: if is_unlimited { Some(Value::Unlimited) } else { number.map(Value::Number) },
        max: max.map(Value::Number),
        source: Source::Sysctl(path, field),
        unit,
    }
}

fn rlimit(name: &'static str, resource: Resource, unit: Unit) -> Limit {
    let now = getrlimit(resource);
    let value = |limit: Option<u64>| Some(limit.map_or(Value::Unlimited, Value::Number));
    let (value, max) = (value(now.current), value(now.maximum));
    Limit { name: name.into(), value, max, source: Source::Rlimit(name), unit }
}

/// Bytes and files that are free for this user, of how many.
fn file_system(path: &Path) -> [Limit; 2] {
    let stat = rustix::fs::statvfs(path).ok();
    let limit = |what: &str, unit, left: Option<u64>, whole: Option<u64>| Limit {
        name: format!("{} {what}", path.display()),
        value: left.map(Value::Number),
        max: whole.map(Value::Number),
        source: Source::FileSystem(path.into()),
        unit,
    };
    let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
    let stat = stat.as_ref();
    // A file system that was mounted without a limit says that it has no files at all.
    let files = stat.filter(|stat| stat.f_files > 0);
    [
        limit(
            "free",
            Unit::Bytes,
            stat.map(|stat| bytes(stat.f_bavail, stat.f_frsize)),
            stat.map(|stat| bytes(stat.f_blocks, stat.f_frsize)),
        ),
        limit("free files", Unit::Count, files.map(|stat| stat.f_favail), files.map(|stat| stat.f_files)),
    ]
}

/// For each size the pages that are free and not promised to anybody, of all.
fn huge_pages(root: &Path) -> Vec<Limit> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders.into_iter().filter_map(huge_page_size).collect()
}

fn huge_page_size(folder: PathBuf) -> Option<Limit> {
    let size = folder.file_name()?.to_str()?.strip_prefix("hugepages-")?.to_owned();
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let free = number("free_hugepages").map(|free| free.saturating_sub(number("resv_hugepages").unwrap_or(0)));
    Some(Limit {
        name: format!("huge pages of {size} free"),
        value: free.map(Value::Number),
        max: number("nr_hugepages").map(Value::Number),
        source: Source::File(folder),
        unit: Unit::Pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_once() {
        let limits = all();
        let mut names: Vec<_> = limits.iter().map(|limit| &limit.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in
            ["kernel.sem SEMMNI", "fs.pipe-max-size", "RLIMIT_MSGQUEUE", "/dev/shm free", "kernel.yama.ptrace_scope"]
        {
            assert!(limits.iter().any(|limit| limit.name == name), "{name}");
        }
        let pipe = limits.iter().find(|limit| limit.name == "fs.pipe-max-size").unwrap();
        assert!(matches!(pipe.value, Some(Value::Number(4096..))));
    }

    #[test]
    fn files_are_read_as_they_are() {
        let root = std::env::temp_dir().join(format!("ginnel-os-limits-{}", std::process::id()));
        let _clean = Remove(root.clone());
        fs::create_dir_all(root.join("kernel")).unwrap();
        fs::create_dir_all(root.join("fs")).unwrap();
        fs::write(root.join("kernel/sem"), "250\t32000\t32\n").unwrap();
        fs::write(root.join("fs/pipe-user-pages-hard"), "0\n").unwrap();
        fs::write(root.join("kernel/msgmax"), "many\n").unwrap();
        let read = |name, field| sysctl(&root, &(name, field, Unit::Count, None)).value;
        assert_eq!(read("kernel.sem", Some(1)), Some(Value::Number(32000)));
        assert_eq!(read("kernel.sem", Some(3)), None);
        assert_eq!(read("fs.pipe-user-pages-hard", None), Some(Value::Unlimited));
        assert_eq!(read("kernel.msgmax", None), None);
        assert_eq!(read("kernel.missing", None), None);
        fs::create_dir_all(root.join("hugepages-2048kB")).unwrap();
        fs::write(root.join("hugepages-2048kB/free_hugepages"), "7\n").unwrap();
        fs::write(root.join("hugepages-2048kB/resv_hugepages"), "3\n").unwrap();
        let pages = huge_pages(&root);
        assert_eq!((pages.len(), pages[0].value, pages[0].max), (1, Some(Value::Number(4)), None));
        assert!(file_system(&root.join("missing"))[0].value.is_none());
    }

    struct Remove(PathBuf);

    impl Drop for Remove {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
