//! The pages: README.md is short enough to be read, and a relative link leads to a file of the repository.
//!
//! Checked are the pages at the root, below `docs`, and each crate's README. Code is skipped; addresses of other machines and
//! anchors are not followed.

use super::Finding;
use super::workspace::Workspace;

const README: &str = "README.md";
const README_LINES: usize = 200;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    match workspace.texts.get(README) {
        None => findings.push(Finding::new(README, 1, "is missing; write it")),
        Some(text) if text.lines().count() >= README_LINES => {
            let text = format!("{} lines; keep it under {README_LINES}, and move detail to docs", text.lines().count());
            findings.push(Finding::new(README, README_LINES, text));
        }
        Some(_) => {}
    }
    for (page, text) in workspace.texts.iter().filter(|(page, _)| is_page(page)) {
        for (line, target) in links(text) {
            if let Some(wrong) = complaint(workspace, page, target) {
                findings.push(Finding::new(page, line, wrong));
            }
        }
    }
    findings
}

fn is_page(path: &str) -> bool {
    path.ends_with(".md") && (!path.contains('/') || path.starts_with("docs/") || path.ends_with("/README.md"))
}

/// What is wrong with a link, if it is one into the repository.
fn complaint(workspace: &Workspace, page: &str, target: &str) -> Option<String> {
    let path = target.split(['#', '?']).next().unwrap_or(target);
    let is_elsewhere = target.split('/').next().is_some_and(|start| start.contains(':'));
    if path.is_empty() || is_elsewhere {
        return None;
    }
    match resolve(page, path) {
        Some(file) if workspace.contains(&file) => None,
        Some(file) => Some(format!("link to {target}, but there is no {file}; correct the link")),
        None => Some(format!("link to {target} leaves the repository; link to a public address")),
    }
}

/// The path that a link on a page means, unless it climbs out of the repository.
fn resolve(page: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = if link.starts_with('/') { Vec::new() } else { page.split('/').collect() };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The targets of `[text](target)` and `[name]: target`, with their lines.
fn links(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_code = !in_code;
        } else if !in_code {
            found.extend(targets(line).into_iter().map(|target| (index + 1, target)));
        }
    }
    found
}

fn targets(line: &str) -> Vec<&str> {
    let reference = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    // Parts at odd places between backticks are code.
    let prose = line.split('`').step_by(2);
    let starts = prose.flat_map(|text| text.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    reference.into_iter().chain(starts).map(bare).collect()
}

/// A target without its angle brackets and the title that may follow it.
fn bare(target: &str) -> &str {
    let first = target.split_whitespace().next().unwrap_or("");
    first.trim_start_matches('<').trim_end_matches('>')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str, text: &str) -> String {
        let mut files = vec![(page, text), ("docs/format.md", ""), ("LICENSE-MIT", "")];
        if page != README {
            files.push((README, "A ginnel."));
        }
        check(&Workspace::of(&files)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let good = [
            "[a](docs/format.md) [b](docs/format.md#slots) [c](./docs) [d](/docs/format.md \"title\")",
            "[`a`](<docs/format.md>)\n[a]: docs/format.md",
            "[a](https://example.org/x) [b](mailto:a@b) [c](#here)",
            "`[a](gone.md)`\n```text\n[a](gone.md)\n```",
        ];
        for text in good {
            assert_eq!(found("README.md", text), "", "{text}");
        }
        assert_eq!(found("docs/decisions/0001.md", "[a](../format.md) [b](../../LICENSE-MIT)"), "");
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let bad = [
            "[a](gone.md)",
            "[a](docs/format.md) [b](gone.md#x)",
            "[`a`](gone.md)",
            "[a]: gone.md",
            "![a](gone.md \"t\")",
        ];
        for text in bad {
            assert!(found("README.md", text).contains("README.md:1: link to gone.md"), "{text}");
        }
        assert!(found("docs/a/b.md", "\n[a](format.md)").contains("docs/a/b.md:2:"));
        assert!(found("docs/a.md", "[a](../../x.md)").contains("leaves the repository"));
    }

    #[test]
    fn a_long_readme_is_found() {
        assert_eq!(found(README, &"a\n".repeat(199)), "");
        assert!(found(README, &"a\n".repeat(200)).contains("README.md:200: 200 lines; keep it under 200"));
    }
}
