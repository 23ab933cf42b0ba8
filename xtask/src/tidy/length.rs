//! Functions and files stay short. What was too long when the rule met it is listed in `xtask/ratchet.txt` and may only shrink.
//!
//! Lines of code are counted: not blank lines, and not comments, which nobody should be tempted to save. A file is counted
//! without its test modules. The list has one entry a line:
//!
//! ```text
//! fn   crates/ginnel-core/src/ring.rs Ring::push 84
//! file crates/ginnel-core/src/ring.rs 655
//! ```

use std::collections::BTreeMap;

use super::Finding;
use super::workspace::Workspace;

/// The list of exceptions.
pub(super) const RATCHET: &str = "xtask/ratchet.txt";

const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 600;

/// `fn PATH NAME` or `file PATH`, as in the list.
type Key = String;

/// What is measured at a key.
struct Measured {
    path: String,
    line: usize,
    length: usize,
    limit: usize,
}

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let measured = measure(workspace);
    let (listed, mut findings) = read_list(workspace.texts.get(RATCHET).map_or("", |text| text));
    for (key, found) in &measured {
        if listed.contains_key(key) || found.length <= found.limit {
            continue;
        }
        let text = format!("{} lines of code, the limit is {}: `{key}`; split it", found.length, found.limit);
        findings.push(Finding::new(&found.path, found.line, text));
    }
    for (key, &(line, length)) in &listed {
        let text = match measured.get(key) {
            Some(found) if found.length > length => {
                let text = format!("`{key}` grew from {length} to {} lines of code; shorten it", found.length);
                findings.push(Finding::new(&found.path, found.line, text));
                continue;
            }
            Some(found) if found.length == length && length > found.limit => continue,
            Some(found) if found.length > found.limit => format!("it shrank; write `{key} {}`", found.length),
            Some(_) => format!("`{key}` is within the limit; remove the line"),
            None => format!("`{key}` does not exist; remove the line"),
        };
        findings.push(Finding::new(RATCHET, line, text));
    }
    findings
}

fn measure(workspace: &Workspace) -> BTreeMap<Key, Measured> {
    let mut measured: BTreeMap<Key, Measured> = BTreeMap::new();
    for source in &workspace.sources {
        let path = &source.path;
        let tests = source.test_lines();
        let length = source.code_lines((1..=source.line_count()).filter(|line| !tests[line - 1]));
        let file = Measured { path: path.clone(), line: 1, length, limit: LONGEST_FILE };
        measured.insert(format!("file {path}"), file);
        for function in source.functions() {
            let (first, last) = function.lines;
            let length = source.code_lines(first..=last);
            let key = format!("fn {path} {}", function.name);
            // Two impls may have functions of one name: the longer one counts.
            if measured.get(&key).is_none_or(|other| other.length < length) {
                measured.insert(key, Measured { path: path.clone(), line: first, length, limit: LONGEST_FUNCTION });
            }
        }
    }
    measured
}

/// The entries with their line and length, and the lines that are none.
fn read_list(text: &str) -> (BTreeMap<Key, (usize, usize)>, Vec<Finding>) {
    let mut listed = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, entry) in text.lines().enumerate() {
        let words: Vec<&str> = entry.split_whitespace().collect();
        let parsed = match words.as_slice() {
            [] | ["#", ..] => continue,
            [start @ .., length] if matches!(start, ["fn", _, _] | ["file", _]) => {
                length.parse().ok().map(|length| (start.join(" "), length))
            }
            _ => None,
        };
        match parsed {
            Some((key, length)) => {
                listed.insert(key, (index + 1, length));
            }
            None => {
                let text = "unreadable entry; write `fn PATH NAME LINES` or `file PATH LINES`";
                findings.push(Finding::new(RATCHET, index + 1, text));
            }
        }
    }
    (listed, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/a/src/ring.rs";

    fn found(code: &str, list: &str) -> String {
        let findings = check(&Workspace::of(&[(PATH, code), (RATCHET, list)]));
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// A function of so many lines of code.
    fn function(lines: usize) -> String {
        format!("impl Ring {{\nfn push() {{\n{}}}\n}}\n", "    // why\n\n    a();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_may_have_seventy_lines_of_code() {
        assert_eq!(found(&function(70), ""), "");
        let text = found(&function(71), "");
        assert!(text.starts_with("crates/a/src/ring.rs:2: 71 lines of code, the limit is 70"), "{text}");
    }

    #[test]
    fn a_listed_function_may_only_shrink() {
        let list = "# exceptions\nfn crates/a/src/ring.rs Ring::push 80\n";
        assert_eq!(found(&function(80), list), "");
        assert!(found(&function(81), list).contains("grew from 80 to 81"));
        assert!(
            found(&function(75), list)
                .contains("ratchet.txt:2: it shrank; write `fn crates/a/src/ring.rs Ring::push 75`")
        );
        assert!(
            found(&function(70), list)
                .contains("ratchet.txt:2: `fn crates/a/src/ring.rs Ring::push` is within the limit")
        );
        assert!(found("", list).contains("does not exist; remove the line"));
        assert!(found("", "fn Ring::push").contains("unreadable entry"));
    }

    #[test]
    fn a_file_may_have_six_hundred_lines_of_code_and_any_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "use x;\n".repeat(500));
        assert_eq!(found(&format!("{}{tests}", "use x;\n".repeat(600)), ""), "");
        let long = "use x;\n".repeat(601);
        assert!(found(&long, "").contains("ring.rs:1: 601 lines of code, the limit is 600"));
        assert_eq!(found(&long, "file crates/a/src/ring.rs 601"), "");
    }
}
