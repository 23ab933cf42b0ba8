//! Names and command lines are bytes that anybody may have chosen: what they would do to a terminal, and what is not UTF-8, is escaped.

use std::fmt::Write;

/// For a terminal: printable text as it is; control characters, invisible ones, those that turn the direction of writing, and bytes that are no UTF-8
/// as `\n`, `\u{202e}`, `\xff`.
pub(crate) fn terminal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' | '\\' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// For JSON, which has its own escapes for characters: bytes that are no UTF-8 as `\xff`.
pub(crate) fn json(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(terminal(b"plain 'text' \\ \xc3\xa4"), "plain 'text' \\ \u{e4}");
        assert_eq!(terminal(b"\x1b[31m\n\xff"), "\\u{1b}[31m\\n\\xff");
        assert_eq!(terminal("\u{202e}a".as_bytes()), "\\u{202e}a");
    }

    #[test]
    fn json_keeps_what_it_can() {
        assert_eq!(json(b"a\n\xff\xc3\xa4"), "a\n\\xff\u{e4}");
    }
}
