//! Files are named for a concept, and a folder is there because it holds several.

use std::collections::BTreeMap;

use super::Finding;
use super::workspace::Workspace;

/// Names that say what kind of code is inside, or nothing at all. They hold for folders too.
const CATCH_ALLS: [&str; 7] = ["util", "common", "helpers", "manager", "types", "impl", "details"];

/// Folders that cargo's conventions ask for, whatever they hold.
const CARGOS: [&str; 6] = ["src", "tests", "benches", "examples", "bin", "fuzz_targets"];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    // How many Rust files and folders with Rust files each folder holds, and one of its files.
    let mut folders: BTreeMap<&str, (usize, Option<&str>)> = BTreeMap::new();
    for source in &workspace.sources {
        let path = &*source.path;
        if let Some(part) = path.trim_end_matches(".rs").split('/').find(|part| CATCH_ALLS.contains(part)) {
            findings.push(Finding::new(path, 1, format!("`{part}` names no concept; name it for what is inside")));
        }
        let mut inside = path;
        while let Some((folder, _)) = inside.rsplit_once('/') {
            let is_new = !folders.contains_key(folder);
            let entry = folders.entry(folder).or_default();
            entry.0 += 1;
            if inside == path {
                entry.1 = Some(path);
            }
            if !is_new {
                break;
            }
            inside = folder;
        }
    }
    for (folder, (count, file)) in folders {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        if let (1, Some(file), false) = (count, file, CARGOS.contains(&name)) {
            let text = format!("the only file of {folder}; move it up, a folder holds several");
            findings.push(Finding::new(file, 1, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: &[&str]) -> Vec<String> {
        let files: Vec<_> = paths.iter().map(|&path| (path, "")).collect();
        check(&Workspace::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn concepts_and_folders_of_several_are_fine() {
        assert_eq!(found(&["crates/a/src/lib.rs", "crates/a/src/ring.rs", "crates/a/tests/crash.rs"]), [""; 0]);
        assert_eq!(found(&["crates/a/src/lib.rs", "crates/a/src/os/fifo.rs", "crates/a/src/os/pipe.rs"]), [""; 0]);
        assert_eq!(found(&["crates/a/build.rs", "crates/a/src/lib.rs", "crates/a/src/bin/b.rs"]), [""; 0]);
    }

    #[test]
    fn a_catch_all_is_found_as_a_file_and_as_a_folder() {
        for name in CATCH_ALLS {
            let text = found(&["crates/a/src/lib.rs", &format!("crates/a/src/{name}.rs")]).join("\n");
            assert!(text.starts_with(&format!("crates/a/src/{name}.rs:1: `{name}` names no concept")), "{text}");
        }
        assert_eq!(found(&["crates/a/tests/common/mod.rs", "crates/a/tests/common/a.rs"]).len(), 2);
    }

    #[test]
    fn a_folder_with_one_file_is_found() {
        let text = found(&["crates/a/src/lib.rs", "crates/a/src/os/pipe.rs"]).join("\n");
        assert!(text.starts_with("crates/a/src/os/pipe.rs:1: the only file of crates/a/src/os"), "{text}");
        assert_eq!(found(&["crates/a/tests/crash/main.rs"]).len(), 1);
    }

    #[test]
    fn a_file_beside_a_folder_is_not_alone() {
        assert_eq!(found(&["crates/a/src/x/y.rs", "crates/a/src/x/y/a.rs", "crates/a/src/x/y/b.rs"]), [""; 0]);
    }
}
