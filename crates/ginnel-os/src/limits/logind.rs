//! `logind.conf(5)`: whether systemd removes the System V objects, message queues and `/dev/shm` files of a user who has logged out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// `RemoveIPC=`, and whom it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveIpc {
    /// Whether it is on. It is, where nothing is written about it.
    pub is_on: bool,
    /// The file that says so; `None` for the default.
    pub from: Option<PathBuf>,
    /// Whether systemd runs here at all.
    pub is_systemd: bool,
    /// Whether the calling process belongs to a system user (root, or up to `SYS_UID_MAX` of `login.defs(5)`), whose objects stay.
    pub is_system_user: bool,
}

/// Where configuration lies; what comes first wins.
const FOLDERS: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

pub(super) fn remove_ipc(root: &Path, uid: u32) -> RemoveIpc {
    let mut files: Vec<PathBuf> = main_file(root).into_iter().collect();
    files.extend(drop_ins(root).into_values());
    let said = files.into_iter().rev().find_map(|file| Some((read(&file)?, file)));
    RemoveIpc {
        is_on: said.as_ref().is_none_or(|(is_on, _)| *is_on),
        from: said.map(|(_, file)| file),
        is_systemd: root.join("run/systemd/system").is_dir(),
        is_system_user: uid <= system_uid_max(root),
    }
}

/// Only the first of these files counts.
fn main_file(root: &Path) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| root.join(folder).join("logind.conf")).find(|file| file.exists())
}

/// In the order of their names, wherever they lie; of two with one name the first folder's counts.
fn drop_ins(root: &Path) -> BTreeMap<OsString, PathBuf> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder).join("logind.conf.d")).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "conf")) {
            files.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    files
}

/// The last thing that a file says.
fn read(file: &Path) -> Option<bool> {
    let text = String::from_utf8_lossy(&fs::read(file).ok()?).into_owned();
    let mut section = "";
    let mut said = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let Some(("RemoveIPC", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            said = (section == "[Login]").then(|| boolean(value)).flatten().or(said);
        }
    }
    said
}

/// As systemd reads it; what makes no sense to it changes nothing.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

fn system_uid_max(root: &Path) -> u32 {
    const DEFAULT: u32 = 999;
    let text = fs::read_to_string(root.join("etc/login.defs")).unwrap_or_default();
    let said = text.lines().find_map(|line| line.trim().strip_prefix("SYS_UID_MAX")?.trim().parse().ok());
    said.unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    struct Root(PathBuf);

    impl Root {
        fn new(files: &[(&str, &str)]) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("ginnel-os-logind-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
            let root = Self(std::env::temp_dir().join(name));
            fs::create_dir_all(&root.0).unwrap();
            for (name, text) in files {
                let file = root.0.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            root
        }

        fn is_on(&self) -> bool {
            remove_ipc(&self.0, 1000).is_on
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_on_unless_a_file_says_otherwise() {
        let silent = Root::new(&[("etc/systemd/logind.conf", "[Login]\n#RemoveIPC=no\n")]);
        let found = remove_ipc(&silent.0, 1000);
        assert_eq!((found.is_on, found.from, found.is_systemd, found.is_system_user), (true, None, false, false));
        assert!(!Root::new(&[("usr/lib/systemd/logind.conf", "[Login]\nRemoveIPC = off")]).is_on());
        assert!(Root::new(&[("etc/systemd/logind.conf", "[Other]\nRemoveIPC=no")]).is_on());
        assert!(Root::new(&[("etc/systemd/logind.conf", "[Login]\nRemoveIPC=perhaps")]).is_on());
        assert!(!Root::new(&[("etc/systemd/logind.conf", "[Login]\nRemoveIPC=yes\nRemoveIPC=no\n\u{ff}")]).is_on());
    }

    #[test]
    fn drop_ins_come_last_by_name_and_folder() {
        let root = Root::new(&[
            ("etc/systemd/logind.conf", "[Login]\nRemoveIPC=yes"),
            ("usr/lib/systemd/logind.conf", "[Login]\nRemoveIPC=yes"),
            ("usr/lib/systemd/logind.conf.d/50-a.conf", "[Login]\nRemoveIPC=yes"),
            ("etc/systemd/logind.conf.d/50-a.conf", "[Login]\nRemoveIPC=no"),
            ("usr/lib/systemd/logind.conf.d/40-b.conf", "[Login]\nRemoveIPC=yes"),
            ("etc/systemd/logind.conf.d/99-c.conf.bak", "[Login]\nRemoveIPC=yes"),
        ]);
        let found = remove_ipc(&root.0, 0);
        assert!(!found.is_on && found.from.unwrap().ends_with("etc/systemd/logind.conf.d/50-a.conf"));
        assert!(found.is_system_user);
    }

    #[test]
    fn system_users_are_told_by_number() {
        let root = Root::new(&[("etc/login.defs", "# SYS_UID_MAX 5\nSYS_UID_MAX\t\t 499\n")]);
        assert!(remove_ipc(&root.0, 499).is_system_user);
        assert!(!remove_ipc(&root.0, 500).is_system_user);
    }
}
