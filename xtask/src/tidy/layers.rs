//! The layers: which crate may know which.
//!
//! ```text
//! leaves        ginnel-cli, ginnel-bench, xtask ..   nobody depends on the tool or on xtask
//! ginnel        what users depend on
//! ginnel-os     the only published crate that speaks to the kernel; it does not know the engine
//! ginnel-core   the engine; it does not know the system
//! ```
//!
//! Manifests are read line by line, in the plain form in which this repository writes them.

use super::Finding;
use super::workspace::{Workspace, package_of};

/// Crates that make system calls.
const KERNEL: [&str; 4] = ["libc", "rustix", "nix", "linux-raw-sys"];

/// The only published crate that may depend on them.
const KERNEL_LAYER: &str = "ginnel-os";

/// What a crate must not depend on, not even for its tests.
const FORBIDDEN: [(&str, &[&str]); 2] =
    [("ginnel-core", &["ginnel-os", "ginnel"]), ("ginnel-os", &["ginnel-core", "ginnel"])];

/// What nobody depends on.
const LEAVES: [&str; 3] = ["ginnel-cli", "ginnel-crossbeam", "xtask"];

/// Who may all the same: the fuzz targets, which nobody depends on either.
const FUZZER: &str = "ginnel-fuzz";

/// One `Cargo.toml`.
#[derive(Default)]
struct Manifest {
    name: String,
    published: bool,
    inherits_lints: bool,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    line: usize,
    /// The package, whatever it is renamed to.
    package: String,
    for_tests: bool,
}

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &workspace.texts {
        if path.ends_with("/Cargo.toml") && path.rsplit_once('/').is_some_and(|(folder, _)| folder == package_of(path))
        {
            findings.extend(check_manifest(path, &read(text)));
        }
    }
    findings
}

fn check_manifest(path: &str, manifest: &Manifest) -> Vec<Finding> {
    let name = &*manifest.name;
    let mut findings = Vec::new();
    for Dependency { line, package, for_tests } in &manifest.dependencies {
        let package = &**package;
        let text = if LEAVES.contains(&package) && name != FUZZER {
            format!("{name} depends on the leaf {package}; move what it needs into a crate below")
        } else if FORBIDDEN.iter().any(|(layer, below)| *layer == name && below.contains(&package)) {
            format!("{name} must not know {package}; pass what it needs in from above")
        } else if KERNEL.contains(&package) && name != KERNEL_LAYER && manifest.published && !for_tests {
            format!("{name} depends on {package}; put the system call into {KERNEL_LAYER}")
        } else {
            continue;
        };
        findings.push(Finding::new(path, *line, text));
    }
    if !manifest.inherits_lints {
        let text = "does not inherit the lints of the workspace; add `[lints]` with `workspace = true`";
        findings.push(Finding::new(path, 1, text));
    }
    findings
}

fn read(text: &str) -> Manifest {
    let mut manifest = Manifest { published: true, ..Manifest::default() };
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            header.clone_into(&mut section);
            // `[dependencies.libc]`: the section is the dependency.
            if let Some((kind, name)) = section.rsplit_once('.').filter(|(kind, _)| kind.ends_with("dependencies")) {
                manifest.dependencies.push(dependency(index + 1, kind, name, ""));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        match (&*section, key, value) {
            ("package", "name", name) => name.trim_matches('"').clone_into(&mut manifest.name),
            ("package", "publish", "false") => manifest.published = false,
            ("lints", "workspace", "true") => manifest.inherits_lints = true,
            (kind, name, value) if kind.ends_with("dependencies") => {
                let name = name.split('.').next().unwrap_or(name);
                manifest.dependencies.push(dependency(index + 1, kind, name, value));
            }
            (kind, "package", renamed) if kind.contains("dependencies.") => {
                if let Some(last) = manifest.dependencies.last_mut() {
                    renamed.trim_matches('"').clone_into(&mut last.package);
                }
            }
            _ => {}
        }
    }
    manifest
}

/// `name = value` in a section of dependencies; the value may name another package.
fn dependency(line: usize, kind: &str, name: &str, value: &str) -> Dependency {
    let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
    let package = renamed.unwrap_or(name).trim_matches('"').to_owned();
    Dependency { line, package, for_tests: kind.ends_with("dev-dependencies") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(package: &str, rest: &str) -> String {
        let path = format!("crates/{package}/Cargo.toml");
        let text = format!("[package]\nname = \"{package}\"\n[lints]\nworkspace = true\n{rest}");
        let findings = check(&Workspace::of(&[(&path, &text)]));
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_each_layer_may_know_is_fine() {
        assert_eq!(found("ginnel-os", "[dependencies]\nlibc.workspace = true\nrustix = \"1\"\n"), "");
        assert_eq!(
            found("ginnel", "[dependencies]\nginnel-core.workspace = true\n[dev-dependencies]\nlibc = \"1\"\n"),
            ""
        );
        assert_eq!(found("ginnel-bench", "[package]\npublish = false\n[dependencies]\nlibc.workspace = true\n"), "");
        assert_eq!(found("ginnel-core", "[target.'cfg(loom)'.dependencies]\nloom.workspace = true # models\n"), "");
    }

    #[test]
    fn a_system_call_above_the_os_layer_is_found() {
        let bad = [
            "[dependencies]\nlibc.workspace = true",
            "[dependencies]\nrustix = { version = \"1\" }",
            "[dependencies.libc]\nversion = \"1\"",
            "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"",
            "[dependencies]\nsystem = { version = \"1\", package = \"libc\" }",
            "[dependencies.system]\npackage = \"libc\"",
            "[build-dependencies]\nlibc = \"1\"",
        ];
        for text in bad {
            assert!(found("ginnel", text).contains("put the system call into ginnel-os"), "{text}");
        }
    }

    #[test]
    fn a_layer_that_knows_another_is_found() {
        let text = found("ginnel-core", "[dev-dependencies]\nginnel-os.workspace = true");
        assert_eq!(
            text,
            "crates/ginnel-core/Cargo.toml:6: ginnel-core must not know ginnel-os; pass what it needs in from above"
        );
        assert!(found("ginnel-os", "[dependencies]\nginnel-core = \"1\"").contains("must not know ginnel-core"));
        assert!(found("ginnel", "[dependencies]\nginnel-cli = \"1\"").contains("depends on the leaf ginnel-cli"));
        assert!(found("ginnel-bench", "[dependencies]\nxtask.path = \"../../xtask\"").contains("the leaf xtask"));
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_found() {
        let findings = check(&Workspace::of(&[("crates/a/Cargo.toml", "[package]\nname = \"a\"")]));
        assert!(findings[0].text.contains("does not inherit the lints"));
    }
}
