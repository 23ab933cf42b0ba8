//! Every Rust file opens with `//!`: what it is, so that a reader knows whether to read on.

use super::Finding;
use super::source::Source;
use super::workspace::Workspace;

/// A header line with fewer words says nothing that the file name does not.
const FEWEST_WORDS: usize = 3;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let silent = workspace.sources.iter().filter(|source| !says_what_it_is(source));
    silent
        .map(|source| {
            Finding::new(
                &source.path,
                1,
                "does not open with a `//!` sentence; say what the file is, above any attribute",
            )
        })
        .collect()
}

fn says_what_it_is(source: &Source) -> bool {
    let header = (1..=source.line_count()).take_while(|&line| source.comment_line(line).starts_with("//!"));
    header.into_iter().any(|line| words(source.comment_text(line)) >= FEWEST_WORDS)
}

/// Words of at least one letter.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.contains(char::is_alphabetic)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Workspace::of(&[("crates/a/src/lib.rs", text)])).len()
    }

    #[test]
    fn a_sentence_at_the_top_is_enough() {
        assert_eq!(findings("//! A ring of slots.\n\nfn a() {}"), 0);
        assert_eq!(findings("//!\n//! A ring of slots.\n"), 0);
    }

    #[test]
    fn no_header_a_late_one_or_a_placeholder_is_found() {
        for bad in [
            "fn a() {}",
            "#![allow(x)]\n//! A ring of slots.",
            "use x;\n//! A ring of slots.",
            "//!",
            "//! Stub.",
            "// A ring of slots.",
            "",
        ] {
            assert_eq!(findings(bad), 1, "{bad}");
        }
    }
}
