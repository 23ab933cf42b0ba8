//! The atomic operations on shared memory carry tags that lead to the argument for their ordering.
//!
//! A file defines its synchronisation pairs (`S` and a number) and invariants (`I` and a number) in a table, a list, or at the
//! start of a line of its comments. A comment `ORDERING [tag]: why` stands at each operation; the same tag stands at both ends. A
//! pair of another file of the same crate is written with that file's name: `tag@ring`. Here are the four checks:
//!
//! 1. A tag that a comment mentions is defined.
//! 2. A pair that is defined is used by at least two ORDERING comments of the crate: one at each end.
//! 3. In the core, an operation with an explicit ordering has its comment on the line, or within [`REACH`] lines above.
//! 4. Only a relaxed operation may do without a tag, and says why: `ORDERING: relaxed, why`.
//!
//! Test code and the facades that only pass an ordering on are exempt from the last two.

use std::collections::BTreeMap;
use std::fmt;

use super::Finding;
use super::headers::words;
use super::source::Source;
use super::workspace::{Workspace, module_name, package_of};

/// How far above its operation a comment may stand, so that one can cover a small group.
const REACH: usize = 4;

/// Where every operation must explain itself.
const CORE: &str = "crates/ginnel-core/src/";

/// Files of the core that hand the ordering of their caller on.
const FACADES: [&str; 2] = ["crates/ginnel-core/src/sync.rs", "crates/ginnel-core/src/memory.rs"];

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// A mention of a pair or an invariant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    /// `S1` or `I1`.
    id: String,
    /// The module that defines it, when that is not the file of the mention.
    module: Option<String>,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "[{}@{module}]", self.id),
            None => write!(f, "[{}]", self.id),
        }
    }
}

/// What a comment that starts with ORDERING says.
enum Note {
    Tagged(Vec<Tag>),
    Relaxed,
    Malformed,
}

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let tables: BTreeMap<&str, BTreeMap<String, usize>> =
        workspace.sources.iter().map(|source| (&*source.path, definitions(source))).collect();
    let mut findings = Vec::new();
    let mut uses: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for source in &workspace.sources {
        for line in 1..=source.line_count() {
            for tag in tags_in(source.comment_text(line)) {
                if definer(&tables, source, &tag).is_none() {
                    findings.push(Finding::new(&source.path, line, undefined(&tag)));
                }
            }
            let Some(Note::Tagged(tags)) = note(source.comment_text(line)) else { continue };
            for tag in tags {
                if let Some(file) = definer(&tables, source, &tag) {
                    *uses.entry((file, tag.id)).or_default() += 1;
                }
            }
        }
    }
    findings.extend(unpaired(&tables, &uses));
    let tests = workspace.test_files();
    for source in &workspace.sources {
        let exempt = FACADES.contains(&&*source.path) || tests.contains(&*source.path);
        if source.path.starts_with(CORE) && !exempt {
            findings.extend(operations(source));
        }
    }
    findings
}

fn undefined(tag: &Tag) -> String {
    match &tag.module {
        Some(module) => {
            format!("{tag} is not defined in {module}.rs of this crate; define it there or correct the tag")
        }
        None => format!("{tag} is not defined in this file; add it to the table, or name its file: [{}@file]", tag.id),
    }
}

/// The file that defines the tag for a mention in `source`.
fn definer<'a>(tables: &BTreeMap<&'a str, BTreeMap<String, usize>>, source: &Source, tag: &Tag) -> Option<&'a str> {
    let serves = |path: &str| match &tag.module {
        None => path == source.path,
        Some(module) => package_of(path) == package_of(&source.path) && module_name(path) == module,
    };
    tables.iter().find(|(path, table)| serves(path) && table.contains_key(&tag.id)).map(|(path, _)| *path)
}

fn unpaired(tables: &BTreeMap<&str, BTreeMap<String, usize>>, uses: &BTreeMap<(&str, String), usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, table) in tables {
        for (id, line) in table.iter().filter(|(id, _)| id.starts_with('S')) {
            let count = uses.get(&(*path, id.clone())).copied().unwrap_or(0);
            if count < 2 {
                let text =
                    format!("[{id}] is used by {count} ORDERING comments; tag its release side and its acquire side");
                findings.push(Finding::new(path, *line, text));
            }
        }
    }
    findings
}

/// The tags that the comments of a file define, with their line: first thing in a table row, a list item, or a header line.
fn definitions(source: &Source) -> BTreeMap<String, usize> {
    let mut table = BTreeMap::new();
    for line in 1..=source.line_count() {
        let text = source.comment_text(line);
        let is_header = source.comment_line(line).starts_with("//!");
        let is_row = text.starts_with(['|', '-', '*']);
        let start = text.trim_start_matches(['|', '-', '*', ' ', '`', '\\']);
        if (is_header || is_row) && start.starts_with('[') {
            if let Some(tag) = tags_in(start).into_iter().next().filter(|tag| tag.module.is_none()) {
                if start.starts_with(&format!("[{}", tag.id)) {
                    table.entry(tag.id).or_insert(line);
                }
            }
        }
    }
    table
}

/// Every tag of a text; brackets may hold several, with commas.
fn tags_in(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    for group in text.split('[').skip(1) {
        let Some((inside, _)) = group.split_once(']') else { continue };
        let group: Option<Vec<Tag>> = inside.trim_end_matches('\\').split(',').map(|part| tag(part.trim())).collect();
        tags.extend(group.unwrap_or_default());
    }
    tags
}

fn tag(text: &str) -> Option<Tag> {
    let (id, module) = match text.split_once('@') {
        Some((id, module)) => (id, Some(module.to_owned())),
        None => (text, None),
    };
    let digits = id.strip_prefix(['S', 'I'])?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Tag { id: id.to_owned(), module })
}

fn note(comment: &str) -> Option<Note> {
    let rest = comment.strip_prefix("ORDERING")?;
    if let Some(why) = rest.strip_prefix(':') {
        let relaxed = why.trim().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("relaxed"));
        return Some(if relaxed && words(why) >= 3 { Note::Relaxed } else { Note::Malformed });
    }
    let tags = rest.split_once(':').map(|(tags, _)| tags_in(tags)).unwrap_or_default();
    Some(if tags.is_empty() { Note::Malformed } else { Note::Tagged(tags) })
}

fn operations(source: &Source) -> Vec<Finding> {
    let tests = source.test_lines();
    let mut findings = Vec::new();
    for line in (1..=source.line_count()).filter(|line| !tests[line - 1]) {
        if matches!(note(source.comment_text(line)), Some(Note::Malformed)) {
            let text = "unreadable ORDERING comment; write `ORDERING [tag]: why`, or `ORDERING: relaxed, why`";
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    for index in 0..source.token_count() {
        let Some((name, last)) = operation(source, index) else { continue };
        let line = source.token_line(index);
        if tests[line - 1] {
            continue;
        }
        let relaxed = !source.has_word(index..last, &ORDERINGS[1..]);
        let notes = notes_for(source, line, source.token_line(last));
        if notes.is_empty() {
            let text =
                format!("`{name}` without an ORDERING comment within {REACH} lines; say which pair it belongs to");
            findings.push(Finding::new(&source.path, line, text));
        } else if !relaxed && !notes.iter().any(|note| matches!(note, Note::Tagged(_))) {
            let text = format!("`{name}` is not relaxed but its ORDERING comment has no tag; name its pair");
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    findings
}

/// The atomic operation at a token: its name and the token that closes its call.
fn operation(source: &Source, index: usize) -> Option<(&str, usize)> {
    let name = source.token(index);
    let is_method = matches!(name, "load" | "store" | "swap" | "compare_exchange" | "compare_exchange_weak")
        || name.starts_with("fetch_");
    let is_called = is_method && index > 0 && source.token(index - 1) == "." || name.ends_with("fence");
    if !is_called || source.token(index + 1) != "(" {
        return None;
    }
    let last = source.closing(index + 1).min(source.token_count() - 1);
    source.has_word(index..last, &ORDERINGS).then_some((name, last))
}

/// The ORDERING comments that cover the lines of an operation. A comment of several lines counts as long as one of them is in
/// reach.
fn notes_for(source: &Source, first: usize, last: usize) -> Vec<Note> {
    let mut start = first.saturating_sub(REACH).max(1);
    while start > 1 && source.is_comment_only(start) && source.is_comment_only(start - 1) {
        start -= 1;
    }
    (start..=last).filter_map(|line| note(source.comment_text(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "//! | pair | release side | acquire side |\n//! | [S1] | a | b |\n//! [I1] All is well.\n";
    const BOTH: &str = "// ORDERING [S1]: a.\nx.store(1, Release);\n\n\n\n\n// ORDERING [S1]: b.\nx.load(Acquire);\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Workspace::of(files)).iter().map(ToString::to_string).collect()
    }

    fn found_in(text: &str) -> String {
        found(&[("crates/ginnel-core/src/ring.rs", text)]).join("\n")
    }

    #[test]
    fn a_defined_and_paired_tag_is_fine() {
        assert_eq!(found_in(&format!("{TABLE}{BOTH}")), "");
        assert_eq!(found_in(&format!("//! - `[S1]`: a pair\n{BOTH}")), "");
    }

    #[test]
    fn an_undefined_tag_is_found_in_any_comment() {
        assert!(found_in(BOTH).contains("ring.rs:1: [S1] is not defined in this file"));
        assert!(found_in("// SAFETY: by [I7], the slot is ours.").contains("[I7] is not defined"));
        assert!(found_in(&format!("{TABLE}{BOTH}// see [S1, S9]")).contains("[S9] is not defined"));
    }

    #[test]
    fn a_pair_needs_both_ends() {
        let one = "// ORDERING [S1]: a.\nx.store(1, Release);";
        assert!(found_in(&format!("{TABLE}{one}")).contains("ring.rs:2: [S1] is used by 1 ORDERING comments"));
    }

    #[test]
    fn the_other_end_may_be_in_another_file_of_the_crate() {
        let ring = format!("{TABLE}// ORDERING [S1]: a.\nx.store(1, Release);");
        let other = "// ORDERING [S1@ring]: b.\nx.load(Acquire);";
        let ring = ("crates/ginnel-core/src/ring.rs", &*ring);
        assert_eq!(found(&[ring, ("crates/ginnel-core/src/pool.rs", other)]), [""; 0]);
        let elsewhere = found(&[ring, ("crates/ginnel/src/pool.rs", other)]).join("\n");
        assert!(elsewhere.contains("[S1@ring] is not defined in ring.rs"), "{elsewhere}");
        assert!(elsewhere.contains("[S1] is used by 1"), "{elsewhere}");
    }

    #[test]
    fn an_operation_of_the_core_explains_itself() {
        let bare = "fn f() {\n    x.fetch_add(1, Ordering::Relaxed);\n}";
        assert!(found_in(bare).contains("ring.rs:2: `fetch_add` without an ORDERING comment"));
        assert!(found_in("fence(SeqCst);").contains("`fence` without"));
        assert!(found_in("x.compare_exchange(\n    a,\n    b,\n    AcqRel,\n    Relaxed,\n);").contains("ring.rs:1:"));
        let far = "// ORDERING: relaxed, a figure for people.\n\n\n\n\nx.load(Relaxed);";
        assert!(found_in(far).contains("ring.rs:6: `load` without"));
    }

    #[test]
    fn comments_reach_a_group_and_long_ones_count_whole() {
        assert_eq!(found_in("// ORDERING: relaxed, a figure for people.\nx.load(Relaxed);\n\n\ny.load(Relaxed);"), "");
        assert_eq!(found_in("x.load(Relaxed); // ORDERING: relaxed, a figure for people."), "");
        let long = "// ORDERING: relaxed, a figure\n// for\n// people\n// who\n// look\n// on.\nx.load(Relaxed);";
        assert_eq!(found_in(long), "");
    }

    #[test]
    fn only_a_relaxed_operation_goes_without_a_tag() {
        let text = "// ORDERING: relaxed, a figure for people.\nx.load(Acquire);";
        assert!(found_in(text).contains("ring.rs:2: `load` is not relaxed"));
        assert!(found_in("// ORDERING: relaxed\nx.load(Relaxed);").contains("ring.rs:1: unreadable"));
        assert!(found_in("// ORDERING [acquire]\nx.load(Relaxed);").contains("ring.rs:1: unreadable"));
    }

    #[test]
    fn tests_facades_other_crates_and_other_methods_are_exempt() {
        let bare = "fn f() { x.load(Acquire); }";
        assert_eq!(found(&[("crates/ginnel-core/src/sync.rs", bare)]), [""; 0]);
        assert_eq!(found(&[("crates/ginnel-bench/src/raw.rs", bare)]), [""; 0]);
        assert_eq!(found_in(&format!("#[cfg(test)]\nmod tests {{\n    {bare}\n}}")), "");
        assert_eq!(found_in("fn f() { self.load(\"Acquire\"); fn load(o: Ordering) {} }"), "");
    }
}
