//! ARCHITECTURE.md lists exactly the modules that allow unsafe code, so that a reviewer knows where to look.
//!
//! The list stands between two marker comments, one file a line: a bullet, the path in backticks, and a reason if one likes.

use std::collections::BTreeMap;

use super::Finding;
use super::source::{Attribute, Source};
use super::workspace::Workspace;

const PAGE: &str = "ARCHITECTURE.md";
const START: &str = "<!-- unsafe-modules -->";
const END: &str = "<!-- /unsafe-modules -->";

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let listed = match workspace.texts.get(PAGE).map(|page| listed_in(page)) {
        Some(Ok(listed)) => listed,
        Some(Err(finding)) => return vec![finding],
        None => {
            return vec![Finding::new(PAGE, 1, format!("is missing; write it, with a list between {START} and {END}"))];
        }
    };
    let allowing = allowing(workspace);
    let mut findings = Vec::new();
    for (path, line) in &allowing {
        if !listed.contains_key(path) {
            findings.push(Finding::new(
                path,
                *line,
                format!("allows unsafe code; add the line {:?} to {PAGE}", bullet(path)),
            ));
        }
    }
    for (path, line) in &listed {
        if !allowing.contains_key(path) {
            findings.push(Finding::new(PAGE, *line, format!("{path} does not allow unsafe code; remove the line")));
        }
    }
    findings
}

fn bullet(path: &str) -> String {
    format!("- `{path}`")
}

/// The files that allow unsafe code, with the line that does it (or 1, when the line is in another file).
fn allowing(workspace: &Workspace) -> BTreeMap<String, usize> {
    let mut allowing = BTreeMap::new();
    for source in &workspace.sources {
        for attribute in source.attributes().iter().filter(|attribute| allows_unsafe(source, attribute)) {
            let module = source.declared_module(attribute).and_then(|name| workspace.module_file(&source.path, name));
            match module {
                Some(file) => allowing.insert(file, 1),
                None => allowing.insert(source.path.clone(), source.attribute_line(attribute)),
            };
        }
    }
    allowing
}

/// Any level below `deny` counts.
fn allows_unsafe(source: &Source, attribute: &Attribute) -> bool {
    source.has_word(attribute.words.clone(), &["unsafe_code"])
        && source.has_word(attribute.words.clone(), &["allow", "expect", "warn"])
}

/// The paths of the list with their lines.
fn listed_in(page: &str) -> Result<BTreeMap<String, usize>, Finding> {
    let position = |marker: &str| page.lines().position(|line| line.trim() == marker);
    let (Some(start), Some(end)) = (position(START), position(END)) else {
        return Err(Finding::new(
            PAGE,
            1,
            format!("has no list of modules; put it between the lines {START} and {END}"),
        ));
    };
    let mut listed = BTreeMap::new();
    for (index, line) in page.lines().enumerate().take(end).skip(start + 1) {
        let path = line.trim().strip_prefix("- `").and_then(|rest| rest.split_once('`'));
        match path {
            Some((path, _)) => {
                listed.insert(path.to_owned(), index + 1);
            }
            None if line.trim().is_empty() || line.starts_with("  ") => {}
            None => {
                return Err(Finding::new(PAGE, index + 1, "is no entry; write a bullet with the path in backticks"));
            }
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: &str = "crates/a/src/ring.rs";

    fn found(ring: &str, list: &str) -> String {
        let page = format!("# Map\n\n{START}\n{list}\n{END}\n");
        let lib = "#[allow(dead_code, unsafe_code)]\nmod memory;";
        let files = [(PAGE, &*page), (RING, ring), ("crates/a/src/lib.rs", lib), ("crates/a/src/memory.rs", "")];
        let findings = check(&Workspace::of(&files));
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_exact_list_is_fine() {
        let list = "- `crates/a/src/ring.rs`: slots\n  that are raw\n- `crates/a/src/memory.rs`";
        assert_eq!(found("//! A ring.\n#![allow(unsafe_code)]", list), "");
        assert_eq!(found("#![expect(unsafe_code, reason = \"slots\")]", list), "");
        assert_eq!(found("#[allow(unsafe_code)]\nfn f() {}", list), "");
    }

    #[test]
    fn a_module_that_is_not_listed_is_found() {
        let text = found("//! A ring.\n#![allow(unsafe_code)]", "- `crates/a/src/memory.rs`");
        assert_eq!(
            text,
            "crates/a/src/ring.rs:2: allows unsafe code; add the line \"- `crates/a/src/ring.rs`\" to ARCHITECTURE.md"
        );
        assert!(found("", "").contains("crates/a/src/memory.rs:1: allows unsafe code"));
    }

    #[test]
    fn an_entry_without_its_module_is_found() {
        let text = found("#![deny(unsafe_code)]", "- `crates/a/src/memory.rs`\n- `crates/a/src/ring.rs`");
        assert_eq!(text, "ARCHITECTURE.md:5: crates/a/src/ring.rs does not allow unsafe code; remove the line");
    }

    #[test]
    fn a_page_without_a_readable_list_is_found() {
        assert!(check(&Workspace::of(&[]))[0].text.contains("is missing"));
        assert!(check(&Workspace::of(&[(PAGE, "# Map")]))[0].text.contains("has no list"));
        assert!(found("", "* crates/a/src/memory.rs").contains("ARCHITECTURE.md:4: is no entry"));
    }
}
