//! `namespaces(7)`, containers and mounts: what a process is surrounded by.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::logind::{self, RemoveIpc};

/// What changes which processes and objects can be seen at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surroundings {
    /// The namespaces that matter: `pid`, `ipc`, `net`, `mnt`, `user`.
    pub namespaces: Vec<Namespace>,
    /// The ids of this process, from the PID namespace of `/proc` inwards: more than one if this process is deeper than its `/proc`.
    pub nested_pids: Vec<u32>,
    /// Signs of a container. None is no proof that there is none.
    pub container: Vec<Hint>,
    /// Whether systemd removes what a user leaves.
    pub remove_ipc: RemoveIpc,
    /// Where message queues are mounted as files: usually `/dev/mqueue`. They work without.
    pub message_queues: Option<Mount>,
    /// What is mounted at `/dev/shm`: usually a `tmpfs`. `None` if it is no mount of its own.
    pub shared_memory: Option<Mount>,
}

/// A namespace of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// Its kind, as in `/proc/PID/ns`.
    pub name: &'static str,
    /// Which one.
    pub inode: Option<u64>,
    /// Whether it is the one that the machine began with. `None` where its number is not fixed, or unknown.
    pub is_initial: Option<bool>,
    /// Whether process 1 is in it too. `None` where the caller may not look.
    pub is_of_init: Option<bool>,
}

/// A sign of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hint {
    /// Where it was found.
    pub path: PathBuf,
    /// What it says; empty for a file whose being there is the sign.
    pub text: String,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
    /// Its type: `tmpfs`.
    pub kind: String,
}

/// Kinds of namespaces, with the inode that the kernel gives to the first of each kind (`include/linux/proc_ns.h`).
const NAMESPACES: [(&str, Option<u64>); 5] =
    [("pid", Some(0xEFFF_FFFC)), ("ipc", Some(0xEFFF_FFFF)), ("net", None), ("mnt", None), ("user", Some(0xEFFF_FFFD))];

/// `proc(5)`, `namespaces(7)`: what this process is surrounded by.
///
/// ```
/// let around = ginnel_os::limits::surroundings();
/// assert_eq!(around.namespaces[0].name, "pid");
/// ```
pub fn surroundings() -> Surroundings {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = parse_mounts(&mounts);
    Surroundings {
        namespaces: NAMESPACES.iter().map(|(name, first)| namespace(name, *first)).collect(),
        nested_pids: nested_pids(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        container: container(Path::new("/")),
        remove_ipc: logind::remove_ipc(Path::new("/"), crate::process::user()),
        message_queues: mounts.iter().find(|mount| mount.kind == "mqueue").cloned(),
        // The last one mounted covers the others.
        shared_memory: mounts.into_iter().rfind(|mount| mount.path == Path::new("/dev/shm")),
    }
}

fn namespace(name: &'static str, first: Option<u64>) -> Namespace {
    let inode = |pid: &str| Some(rustix::fs::stat(format!("/proc/{pid}/ns/{name}")).ok()?.st_ino);
    let (own, init) = (inode("self"), inode("1"));
    Namespace {
        name,
        inode: own,
        is_initial: own.zip(first).map(|(own, first)| own == first),
        is_of_init: own.zip(init).map(|(own, init)| own == init),
    }
}

fn nested_pids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.unwrap_or_default().split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn container(root: &Path) -> Vec<Hint> {
    let mut hints = Vec::new();
    let mut hint = |path: PathBuf, text: String| hints.push(Hint { path, text });
    for file in [".dockerenv", "run/.containerenv"] {
        if root.join(file).exists() {
            hint(root.join(file), String::new());
        }
    }
    let path = root.join("run/systemd/container");
    if let Ok(text) = fs::read_to_string(&path) {
        hint(path, text.trim().into());
    }
    let path = root.join("proc/1/environ");
    let environment = fs::read(&path).unwrap_or_default();
    if let Some(value) = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"container="))
    {
        hint(path, String::from_utf8_lossy(value).into_owned());
    }
    let path = root.join("proc/self/cgroup");
    let groups = fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = groups.lines().find(|line| is_of_a_container(line)) {
        hint(path, line.into());
    }
    hints
}

fn is_of_a_container(group: &str) -> bool {
    ["docker", "kubepods", "libpod", "lxc", "containerd", "crio"].iter().any(|name| group.contains(name))
}

/// `/proc/self/mountinfo`: the fifth field is the mount point; after a field `-` comes the type.
fn parse_mounts(text: &[u8]) -> Vec<Mount> {
    let parse = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let path = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { path, kind: String::from_utf8_lossy(kind).into_owned() })
    };
    text.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match rest.get(..3).filter(|_| *first == b'\\').and_then(octal) {
            Some(byte) => {
                plain.push(byte);
                text = &rest[3..];
            }
            None => {
                plain.push(*first);
                text = rest;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somewhere() {
        let around = surroundings();
        assert_eq!(around.namespaces[0].inode, Some(crate::process::pid_namespace()));
        assert_eq!(around.nested_pids.last(), Some(&std::process::id()));
        assert!(around.namespaces.iter().all(|namespace| namespace.inode.is_some()));
    }

    #[test]
    fn mounts_are_parsed() {
        let text = b"29 1 0:26 / /dev/shm rw,relatime shared:3 - tmpfs tmpfs rw
30 1 0:20 / /dev/two\\040words rw - mqueue mqueue rw
31 1 nonsense
\xff
";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].path.to_str(), &*mounts[0].kind), (Some("/dev/shm"), "tmpfs"));
        assert_eq!((mounts[1].path.to_str(), &*mounts[1].kind), (Some("/dev/two words"), "mqueue"));
        assert_eq!(unescape(b"\\"), b"\\");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999a"), b"\\999a");
    }

    #[test]
    fn signs_of_a_container_are_found() {
        let root = std::env::temp_dir().join(format!("ginnel-os-container-{}", std::process::id()));
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::create_dir_all(root.join("proc/1")).unwrap();
        let before = container(&root);
        fs::write(root.join(".dockerenv"), "").unwrap();
        fs::write(root.join("proc/self/cgroup"), "1:name=x:/\n0::/system.slice/docker-0123.scope\n").unwrap();
        fs::write(root.join("proc/1/environ"), "PATH=/bin\0container=podman\0").unwrap();
        let after = container(&root);
        let _ = fs::remove_dir_all(&root);
        assert!(before.is_empty());
        let texts: Vec<_> = after.iter().map(|hint| &*hint.text).collect();
        assert_eq!(texts, ["", "podman", "0::/system.slice/docker-0123.scope"]);
    }

    #[test]
    fn nested_ids_are_parsed() {
        assert_eq!(nested_pids("Name:\tx\nNSpid:\t812\t7\t1\n"), [812, 7, 1]);
        assert!(nested_pids("NSpid:\tx").is_empty() && nested_pids("").is_empty());
    }
}
