//! `cargo xtask show`: the demonstrations, one executable script each in `xtask/show/NAME.sh`.
//!
//! A script runs in the root of the repository and shows one promise being kept. Its first comment line says which.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Outcome;

/// Runs the scripts named in `names`, in that order; without a name, lists them.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<Outcome> {
    let scripts = scripts(&root.join("xtask/show"))?;
    if names.is_empty() {
        if scripts.is_empty() {
            eprintln!("there is nothing in xtask/show yet");
        }
        for script in &scripts {
            println!("{:20} {}", name_of(script), about(&fs::read_to_string(script)?));
        }
        return Ok(Outcome::Passed);
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some(script) = scripts.iter().find(|script| name_of(script) == *name) else {
            eprintln!("xtask show: there is no `{name}`; `cargo xtask show` lists what there is");
            return Ok(Outcome::Usage);
        };
        chosen.push(script);
    }
    let mut outcome = Outcome::Passed;
    for script in chosen {
        if !show(root, script)? {
            outcome = Outcome::Failed;
        }
    }
    Ok(outcome)
}

/// Runs one script; false when it fails.
fn show(root: &Path, script: &Path) -> Result<bool> {
    let name = name_of(script);
    if fs::metadata(script)?.permissions().mode() & 0o111 == 0 {
        eprintln!("xtask show: {} is not executable; run `chmod +x` on it", script.display());
        return Ok(false);
    }
    eprintln!("== {name}");
    let status = Command::new(script).current_dir(root).status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        eprintln!("== {name} FAILED: {status}");
    }
    Ok(status.success())
}

/// The scripts of `folder`, sorted; none when the folder does not exist.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut scripts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn name_of(script: &Path) -> String {
    script.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first comment line of a script, after the line that names its interpreter.
fn about(script: &str) -> &str {
    let comment = script.lines().find(|line| line.starts_with('#') && !line.starts_with("#!"));
    comment.map_or("", |line| line.trim_start_matches('#').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with one script, removed when dropped.
    struct Repository(PathBuf);

    impl Repository {
        fn new(test: &str, script: &str, mode: u32) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-show-{test}-{}", std::process::id()));
            fs::create_dir_all(root.join("xtask/show")).unwrap();
            let path = root.join("xtask/show/kill.sh");
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Self(root)
        }

        fn show(&self, names: &[&str]) -> Outcome {
            let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
            run(&self.0, &names).unwrap()
        }
    }

    impl Drop for Repository {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_script_runs_in_the_root_and_its_status_decides() {
        let good = Repository::new("good", "#!/bin/sh\ntest -d xtask/show\n", 0o755);
        assert_eq!(good.show(&["kill"]), Outcome::Passed);
        let bad = Repository::new("bad", "#!/bin/sh\nexit 3\n", 0o755);
        assert_eq!(bad.show(&["kill"]), Outcome::Failed);
    }

    #[test]
    fn what_cannot_run_is_said() {
        let plain = Repository::new("plain", "#!/bin/sh\n", 0o644);
        assert_eq!(plain.show(&["kill"]), Outcome::Failed);
        assert_eq!(plain.show(&["nothing"]), Outcome::Usage);
        assert_eq!(plain.show(&[]), Outcome::Passed);
    }

    #[test]
    fn the_first_comment_describes_the_script() {
        assert_eq!(about("#!/bin/sh\n# Survive kill -9.\nset -e\n"), "Survive kill -9.");
        assert_eq!(about("#!/bin/sh\nset -e\n"), "");
    }
}
