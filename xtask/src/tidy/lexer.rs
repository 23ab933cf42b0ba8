//! Rust text taken apart: what is code, what is comment, and where the tokens are.
//!
//! Comments, strings and characters are known exactly, with nesting, escapes and hashes; nothing else of the language is.

use std::ops::Range;

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Splits a text into its code and its comments, each as long as the text.
pub(super) fn separate(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let blank: Vec<u8> = bytes.iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }).collect();
    let (mut code, mut comments) = (blank.clone(), blank);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && is_word_byte(bytes[at - 1]);
        if rest.starts_with(b"//") || rest.starts_with(b"/*") {
            let end = at + comment_length(rest);
            comments[at..end].copy_from_slice(&bytes[at..end]);
            at = end;
        } else if let Some(length) = literal_length(rest, after_word) {
            // Only the quotes stay, so that a literal is still a token or two.
            code[at] = b'"';
            code[at + length - 1] = b'"';
            at += length;
        } else {
            code[at] = bytes[at];
            at += 1;
        }
    }
    let text = |bytes| String::from_utf8(bytes).expect("only whole comments, literals and characters were blanked");
    (text(code), text(comments))
}

/// The length of the comment that `rest` starts with; block comments nest.
fn comment_length(rest: &[u8]) -> usize {
    if rest.starts_with(b"//") {
        return rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string or character that `rest` starts with, if any. A prefix such as `b` is left as a word of its own;
/// only `r` matters, and only with the hashes that follow it.
fn literal_length(rest: &[u8], after_word: bool) -> Option<usize> {
    match rest[0] {
        b'"' => Some(quoted_length(rest)),
        b'\'' => character_length(rest),
        b'r' if !after_word => raw_length(rest),
        b'b' | b'c' if !after_word && rest.get(1) == Some(&b'r') => raw_length(&rest[1..]).map(|length| length + 1),
        _ => None,
    }
}

fn quoted_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'x'`, but not the lifetime `'x`.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|&byte| byte == b'\'')?;
        return Some(end + 4);
    }
    let width = match rest.get(1)? {
        byte if byte.is_ascii() => 1,
        byte => byte.leading_ones() as usize,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// `r"..."` with any number of hashes, but not the raw identifier `r#fn`.
fn raw_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = rest[open + 1..].windows(closing.len()).position(|window| window == closing);
    Some(inside.map_or(rest.len(), |at| open + 1 + at + closing.len()))
}

/// Words and numbers whole, every other character alone, white space not at all.
pub(super) fn tokenize(code: &str) -> Vec<Range<usize>> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += 1;
        if is_word_byte(bytes[start]) {
            while at < bytes.len() && is_word_byte(bytes[at]) {
                at += 1;
            }
        }
        if !bytes[start].is_ascii_whitespace() {
            tokens.push(start..at);
        }
    }
    tokens
}

/// For each token the index of the bracket that it pairs with.
pub(super) fn pair(code: &str, tokens: &[Range<usize>]) -> Vec<Option<usize>> {
    let mut partners = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match &code[token.clone()] {
            "(" | "[" | "{" => open.push(index),
            ")" | "]" | "}" => {
                if let Some(start) = open.pop() {
                    partners[start] = Some(index);
                    partners[index] = Some(start);
                }
            }
            _ => {}
        }
    }
    partners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        separate(text).0
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        assert_eq!(code("a // unsafe {"), "a            ");
        assert_eq!(code("a /* x /* y */ fn */ b"), "a                    b");
        assert_eq!(code(r#"f("a \" fn {")"#), r#"f("         ")"#);
        assert_eq!(code("f(r##\"a \"# fn\"##)"), "f(\"            \")");
        assert_eq!(code("f(br\"\\\") + 1"), "f(\"   \") + 1");
        assert_eq!(code("x == '\"' || y"), "x == \" \" || y");
        assert_eq!(code(r"x == '\'' || y"), "x == \"  \" || y");
        assert_eq!(code("x == 'é' || y"), "x == \"  \" || y");
        assert_eq!(code("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
        assert_eq!(code("let r#fn = bar\"x\";"), "let r#fn = bar\" \";");
    }

    #[test]
    fn code_and_comments_are_as_long_as_the_text() {
        let text = "a /* é */ \"é\" é // é\n\"open";
        let (code, comments) = separate(text);
        assert_eq!((code.len(), comments.len()), (text.len(), text.len()));
        assert_eq!(comments, "  /* é */         // é\n     ");
    }

    #[test]
    fn brackets_pair() {
        let code = "f([a]) }";
        let partners = pair(code, &tokenize(code));
        assert_eq!(partners, [None, Some(5), Some(4), None, Some(2), Some(1), None]);
    }
}
