//! The repository as the rules see it: every path, and the text of the files that a rule reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source::Source;

/// Folders of build outputs and of the version control.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Everything that the rules look at. Paths are relative to the root, with `/`.
pub(crate) struct Workspace {
    /// The Rust files below `crates` and `xtask`, sorted by path.
    pub(crate) sources: Vec<Source>,
    /// The text of every page, manifest and list.
    pub(crate) texts: BTreeMap<String, String>,
    /// Every file and folder.
    paths: BTreeSet<String>,
}

impl Workspace {
    /// Reads the repository at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut workspace = Self { sources: Vec::new(), texts: BTreeMap::new(), paths: BTreeSet::new() };
        workspace.read_folder(root, "")?;
        workspace.sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(workspace)
    }

    /// A workspace of the given files, for the tests of the rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut workspace = Self { sources: Vec::new(), texts: BTreeMap::new(), paths: BTreeSet::new() };
        for (path, text) in files {
            for (end, _) in path.match_indices('/') {
                workspace.paths.insert(path[..end].to_owned());
            }
            workspace.add(path, (*text).to_owned());
        }
        workspace
    }

    /// Whether the path is a file or a folder of the repository.
    pub(crate) fn contains(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }

    /// The file of `mod name;` in the file `declaring`.
    pub(crate) fn module_file(&self, declaring: &str, name: &str) -> Option<String> {
        let (folder, file) = declaring.rsplit_once('/')?;
        let folder = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ if is_crate_root(declaring) => folder.to_owned(),
            _ => declaring.trim_end_matches(".rs").to_owned(),
        };
        [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")].into_iter().find(|path| self.contains(path))
    }

    /// The Rust files that are compiled for tests only.
    pub(crate) fn test_files(&self) -> BTreeSet<&str> {
        let is_cargos = |path: &str| path.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"));
        let mut tests: BTreeSet<&str> =
            self.sources.iter().map(|source| &*source.path).filter(|path| is_cargos(path)).collect();
        // A file that a test file declares is a test file too; parents do not always sort before children.
        loop {
            let before = tests.len();
            for source in &self.sources {
                for declaration in source.module_declarations() {
                    if tests.contains(&*source.path) || source.is_test_module(&declaration) {
                        let file = self.module_file(&source.path, &declaration.name);
                        tests.extend(self.sources.iter().map(|s| &*s.path).find(|&path| Some(path) == file.as_deref()));
                    }
                }
            }
            if tests.len() == before {
                return tests;
            }
        }
    }

    fn read_folder(&mut self, root: &Path, folder: &str) -> Result<()> {
        let full = root.join(folder);
        for entry in fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if SKIPPED.contains(&&*name) {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                self.read_folder(root, &path)?;
                self.paths.insert(path);
            } else if is_read(&path) {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
                self.add(&path, text);
            } else {
                self.paths.insert(path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, text: String) {
        self.paths.insert(path.to_owned());
        if path.ends_with(".rs") {
            if is_ours(path) {
                self.sources.push(Source::new(path, &text));
            }
        } else {
            self.texts.insert(path.to_owned(), text);
        }
    }
}

/// The package that a path below `crates` or `xtask` belongs to, as a folder.
pub(crate) fn package_of(path: &str) -> &str {
    let depth = if path.starts_with("crates/") { 2 } else { 1 };
    path.match_indices('/').nth(depth - 1).map_or(path, |(end, _)| &path[..end])
}

/// What `mod` calls the file: its stem, or the folder's name for `mod.rs`.
pub(crate) fn module_name(path: &str) -> &str {
    let path = path.trim_end_matches(".rs");
    path.trim_end_matches("/mod").rsplit('/').next().unwrap_or(path)
}

/// A file that cargo compiles as a crate of its own, such as `tests/crash.rs`.
fn is_crate_root(path: &str) -> bool {
    let inside = path.strip_prefix(package_of(path)).unwrap_or(path).trim_start_matches('/');
    let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
    matches!(folder, "tests" | "benches" | "examples" | "src/bin" | "")
}

fn is_ours(path: &str) -> bool {
    path.starts_with("crates/") || path.starts_with("xtask/")
}

fn is_read(path: &str) -> bool {
    let is_source = is_ours(path) && path.ends_with(".rs");
    is_source || path.ends_with(".md") || path.ends_with("Cargo.toml") || path == super::length::RATCHET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_include_folders() {
        let workspace = Workspace::of(&[("docs/a/b.md", "")]);
        assert!(workspace.contains("docs/a") && workspace.contains("docs/a/b.md") && workspace.contains(""));
        assert!(!workspace.contains("docs/b"));
    }

    #[test]
    fn packages_and_modules_follow_from_the_path() {
        assert_eq!(package_of("crates/core/src/ring.rs"), "crates/core");
        assert_eq!(package_of("xtask/src/main.rs"), "xtask");
        assert_eq!(module_name("crates/core/src/ring.rs"), "ring");
        assert_eq!(module_name("crates/core/src/ring/mod.rs"), "ring");
    }

    #[test]
    fn a_module_is_found_where_rustc_looks() {
        let workspace = Workspace::of(&[
            ("crates/a/src/lib.rs", ""),
            ("crates/a/src/b.rs", ""),
            ("crates/a/src/b/c.rs", ""),
            ("crates/a/src/d/mod.rs", ""),
            ("crates/a/tests/all.rs", ""),
            ("crates/a/tests/one.rs", ""),
        ]);
        let file = |from: &str, name: &str| workspace.module_file(from, name).unwrap();
        assert_eq!(file("crates/a/src/lib.rs", "b"), "crates/a/src/b.rs");
        assert_eq!(file("crates/a/src/b.rs", "c"), "crates/a/src/b/c.rs");
        assert_eq!(file("crates/a/src/lib.rs", "d"), "crates/a/src/d/mod.rs");
        assert_eq!(file("crates/a/tests/all.rs", "one"), "crates/a/tests/one.rs");
    }

    #[test]
    fn test_files_are_found_through_their_declarations() {
        let workspace = Workspace::of(&[
            ("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod model;"),
            ("crates/a/src/b.rs", ""),
            ("crates/a/src/model.rs", "mod oracle;"),
            ("crates/a/src/model/oracle.rs", ""),
            ("crates/a/tests/t.rs", ""),
        ]);
        let tests: Vec<_> = workspace.test_files().into_iter().collect();
        assert_eq!(tests, ["crates/a/src/model.rs", "crates/a/src/model/oracle.rs", "crates/a/tests/t.rs"]);
    }
}
