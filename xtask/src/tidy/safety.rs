//! Every `unsafe` says why it is sound: a `// SAFETY:` sentence above a block or an impl, a `# Safety` section on a function.
//!
//! Clippy checks the same where it compiles; this also sees code for another `cfg`, private functions, and empty sentences.

use super::Finding;
use super::headers::words;
use super::source::Source;
use super::workspace::Workspace;

/// A reason with fewer words is not specific.
const FEWEST_WORDS: usize = 3;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    workspace.sources.iter().flat_map(|source| blocks_and_impls(source).into_iter().chain(functions(source))).collect()
}

fn blocks_and_impls(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for index in 0..source.token_count() {
        let what = match (source.token(index), source.token(index + 1)) {
            ("unsafe", "{") => "unsafe block",
            ("unsafe", "impl") => "unsafe impl",
            _ => continue,
        };
        let line = source.token_line(index);
        if !has_reason(source, line) {
            let text =
                format!("{what} without its reason; write `// SAFETY: ` and one specific sentence directly above");
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    findings
}

/// Looks for the reason in the comments directly above the statement that reaches `line`.
fn has_reason(source: &Source, line: usize) -> bool {
    let mut above = line;
    let mut block = Vec::new();
    while above > 1 {
        above -= 1;
        let code = source.code_line(above).trim();
        if source.is_comment_only(above) {
            block.push(source.comment_text(above));
        } else if block.is_empty() && (code.starts_with("#[") || is_unfinished(code)) {
            continue;
        } else {
            break;
        }
    }
    block.reverse();
    let text = block.join(" ");
    text.split_once("SAFETY:").is_some_and(|(_, reason)| words(reason) >= FEWEST_WORDS)
}

/// The statement goes on in the next line.
fn is_unfinished(code: &str) -> bool {
    !code.is_empty() && !code.ends_with([';', '{', '}', ',', ']'])
}

fn functions(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for signature in source.signatures() {
        if signature.is_unsafe && !signature.in_trait_impl && !documents_safety(source, signature.line) {
            let text = format!(
                "unsafe fn {} without `# Safety` in its doc; state what the caller must ensure",
                signature.name
            );
            findings.push(Finding::new(&source.path, signature.line, text));
        }
    }
    findings
}

fn documents_safety(source: &Source, line: usize) -> bool {
    (1..line)
        .rev()
        .take_while(|&above| {
            let code = source.code_line(above).trim();
            source.is_comment_only(above) || code.starts_with('#') || code.ends_with(']')
        })
        .any(|above| source.comment_line(above).starts_with("///") && source.comment_text(above) == "# Safety")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Workspace::of(&[("crates/a/src/lib.rs", text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_reason_directly_above_is_enough() {
        let good = [
            "// SAFETY: the slot is ours.\nunsafe { f() };",
            "// SAFETY: the slot is ours\n// until the commit.\nlet x = unsafe { f() };",
            "// SAFETY:\n// the slot is ours.\nlet x =\n    unsafe { f() };",
            "// SAFETY: the pointer is private.\n#[cfg(loom)]\nunsafe impl Send for A {}",
            "let s = \"unsafe {\"; // unsafe {",
            "unsafe extern \"C\" { }",
        ];
        for text in good {
            assert_eq!(lines(text), [0; 0], "{text}");
        }
    }

    #[test]
    fn no_reason_an_empty_one_or_another_statements_is_found() {
        let bad = [
            ("fn f() {\n    unsafe { g() }\n}", 2),
            ("// SAFETY:\nunsafe { g() }", 2),
            ("// SAFETY: fine.\nunsafe { g() }", 2),
            ("// SAFETY: the slot is ours.\ng();\nunsafe { g() }", 3),
            ("// SAFETY: the slot is ours.\n\nunsafe { g() }", 3),
            ("// SAFETY: the slot is ours.\nunsafe impl Send for A {}\nunsafe impl Sync for A {}", 3),
            ("match x {\n    // SAFETY: the slot is ours.\n    1 => unsafe { g() },\n    _ => unsafe { h() },\n}", 4),
        ];
        for (text, line) in bad {
            assert_eq!(lines(text), [line], "{text}");
        }
    }

    #[test]
    fn an_unsafe_function_documents_its_contract() {
        assert_eq!(
            lines("/// Reads.\n///\n/// # Safety\n///\n/// `at` is valid.\n#[inline]\npub unsafe fn read() {}"),
            [0; 0]
        );
        assert_eq!(lines("impl A for B {\n    unsafe fn read() {}\n}"), [0; 0]);
        assert_eq!(lines("type F = unsafe fn(u8);"), [0; 0]);
        assert_eq!(lines("/// Reads.\nunsafe fn read() {}"), [2]);
        assert_eq!(lines("/// # Safety\n/// a\nfn a() {}\nunsafe fn read() {}"), [4]);
    }
}
