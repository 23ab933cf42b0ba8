//! A Rust file as the rules see it: code and comments apart, line by line and token by token.
//!
//! It is a scanner, not a parser: it finds attributes, functions and the blocks around them by their keywords. Macros are read
//! as if they were ordinary code.

use std::ops::Range;

use super::lexer::{pair, separate, tokenize};

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the root of the repository, with `/`.
    pub(crate) path: String,
    /// The text with comments and the insides of literals blanked; as long as the text, so offsets agree.
    code: String,
    /// The text with everything but comments blanked.
    comments: String,
    /// Where each line starts, in bytes.
    line_starts: Vec<usize>,
    tokens: Vec<Range<usize>>,
    /// For a bracket, the index of the token that pairs with it.
    partners: Vec<Option<usize>>,
}

/// `#[...]` or `#![...]`.
pub(crate) struct Attribute {
    pub(crate) inner: bool,
    /// The tokens between the brackets.
    pub(crate) words: Range<usize>,
    /// The token `#`.
    start: usize,
}

/// A function that has a body.
pub(crate) struct Function {
    /// With the modules, types and functions around it: `tests::Ring::push`.
    pub(crate) name: String,
    /// First and last line, counted from 1.
    pub(crate) lines: (usize, usize),
}

/// The `fn` token of a definition, with or without a body.
pub(crate) struct Signature {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) is_unsafe: bool,
    /// Inside `impl Trait for Type`: the contract stands at the trait.
    pub(crate) in_trait_impl: bool,
}

/// `mod name;`
pub(crate) struct ModuleDeclaration {
    pub(crate) name: String,
    attributes: Vec<Attribute>,
}

/// A named pair of braces: `mod`, `trait`, `impl` or `fn`.
struct Block {
    name: String,
    trait_impl: bool,
    tokens: Range<usize>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = separate(text);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let tokens = tokenize(&code);
        let partners = pair(&code, &tokens);
        Self { path: path.to_owned(), code, comments, line_starts, tokens, partners }
    }

    // --- lines, counted from 1 ---

    pub(crate) fn line_count(&self) -> usize {
        self.line_starts.len()
    }

    /// The code of a line, without comments.
    pub(crate) fn code_line(&self, line: usize) -> &str {
        &self.code[self.span(line)]
    }

    /// The comment of a line with its slashes, or nothing.
    pub(crate) fn comment_line(&self, line: usize) -> &str {
        self.comments[self.span(line)].trim()
    }

    /// What the comment of a line says, without slashes.
    pub(crate) fn comment_text(&self, line: usize) -> &str {
        self.comment_line(line).trim_start_matches(['/', '!', '*']).trim()
    }

    pub(crate) fn is_comment_only(&self, line: usize) -> bool {
        self.code_line(line).trim().is_empty() && !self.comment_line(line).is_empty()
    }

    /// How many of the lines hold code.
    pub(crate) fn code_lines(&self, lines: impl Iterator<Item = usize>) -> usize {
        lines.filter(|&line| !self.code_line(line).trim().is_empty()).count()
    }

    fn span(&self, line: usize) -> Range<usize> {
        let end = self.line_starts.get(line).map_or(self.code.len(), |next| next - 1);
        self.line_starts[line - 1]..end
    }

    // --- tokens ---

    pub(crate) fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// A word, a number, or a single character of punctuation; empty past either end.
    pub(crate) fn token(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |range| &self.code[range.clone()])
    }

    pub(crate) fn token_line(&self, index: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= self.tokens[index].start)
    }

    /// The closing token of the bracket at `index`, or the end of the file when it is never closed.
    pub(crate) fn closing(&self, index: usize) -> usize {
        self.partners[index].unwrap_or(self.tokens.len())
    }

    pub(crate) fn has_word(&self, tokens: Range<usize>, words: &[&str]) -> bool {
        tokens.into_iter().any(|index| words.contains(&self.token(index)))
    }

    // --- items ---

    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = Vec::new();
        for start in 0..self.tokens.len() {
            let inner = self.token(start + 1) == "!";
            let open = start + 1 + usize::from(inner);
            if self.token(start) == "#" && self.token(open) == "[" {
                attributes.push(Attribute { inner, words: open + 1..self.closing(open), start });
            }
        }
        attributes
    }

    pub(crate) fn attribute_line(&self, attribute: &Attribute) -> usize {
        self.token_line(attribute.start)
    }

    /// True for `test`, `cfg(test)` and `cfg(all(.., test, ..))`.
    pub(crate) fn is_test_attribute(&self, attribute: &Attribute) -> bool {
        let words: Vec<&str> = attribute.words.clone().map(|index| self.token(index)).collect();
        match words.as_slice() {
            ["test"] | ["cfg", "(", "test", ")"] => true,
            ["cfg", "(", "all", "(", conditions @ ..] => {
                let negated = conditions.windows(3).any(|three| three == ["not", "(", "test"]);
                conditions.contains(&"test") && !negated
            }
            _ => false,
        }
    }

    /// The declaration that an outer attribute belongs to, when that is `mod name;`.
    pub(crate) fn declared_module(&self, attribute: &Attribute) -> Option<&str> {
        let item = self.after_visibility(self.after_attributes(attribute.words.end + 1));
        let declares = !attribute.inner && self.token(item) == "mod" && self.token(item + 2) == ";";
        declares.then(|| self.token(item + 1))
    }

    pub(crate) fn module_declarations(&self) -> Vec<ModuleDeclaration> {
        let mut declarations: Vec<ModuleDeclaration> = Vec::new();
        for index in 0..self.tokens.len() {
            if self.token(index) == "mod" && self.token(index + 2) == ";" {
                declarations.push(ModuleDeclaration { name: self.token(index + 1).to_owned(), attributes: Vec::new() });
            }
        }
        for attribute in self.attributes() {
            let name = self.declared_module(&attribute).map(str::to_owned);
            if let Some(declaration) =
                declarations.iter_mut().find(|declaration| Some(&declaration.name) == name.as_ref())
            {
                declaration.attributes.push(attribute);
            }
        }
        declarations
    }

    pub(crate) fn is_test_module(&self, declaration: &ModuleDeclaration) -> bool {
        declaration.attributes.iter().any(|attribute| self.is_test_attribute(attribute))
    }

    /// For each line (index 0 is line 1) whether it belongs to test code.
    pub(crate) fn test_lines(&self) -> Vec<bool> {
        let mut lines = vec![false; self.line_count()];
        for attribute in self.attributes().iter().filter(|attribute| self.is_test_attribute(attribute)) {
            let (first, last) = if attribute.inner {
                (1, self.line_count())
            } else {
                (self.attribute_line(attribute), self.item_end_line(attribute.words.end + 1))
            };
            lines[first - 1..last].fill(true);
        }
        lines
    }

    pub(crate) fn signatures(&self) -> Vec<Signature> {
        let blocks = self.blocks();
        let mut signatures = Vec::new();
        for index in 0..self.tokens.len() {
            if self.is_definition(index) {
                let around = blocks.iter().rfind(|block| block.tokens.contains(&index));
                signatures.push(Signature {
                    line: self.token_line(index),
                    name: self.token(index + 1).to_owned(),
                    is_unsafe: self.has_word(self.qualifiers(index), &["unsafe"]),
                    in_trait_impl: around.is_some_and(|block| block.trait_impl),
                });
            }
        }
        signatures
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let blocks = self.blocks();
        let mut functions = Vec::new();
        for index in 0..self.tokens.len() {
            let Some(open) = self.is_definition(index).then(|| self.body(index)).flatten() else { continue };
            let around = blocks.iter().filter(|block| block.tokens.contains(&index));
            let path: Vec<&str> = around.map(|block| &*block.name).chain([self.token(index + 1)]).collect();
            let last = self.closing(open).min(self.tokens.len() - 1);
            let lines = (self.token_line(self.qualifiers(index).start), self.token_line(last));
            functions.push(Function { name: path.join("::"), lines });
        }
        functions
    }

    /// `fn name`, as opposed to the type `fn(..)`.
    fn is_definition(&self, index: usize) -> bool {
        self.token(index) == "fn" && is_word(self.token(index + 1))
    }

    /// The tokens `const async unsafe extern "C"` before a `fn`.
    fn qualifiers(&self, function: usize) -> Range<usize> {
        let mut start = function;
        while start > 0 && matches!(self.token(start - 1), "const" | "async" | "unsafe" | "safe" | "extern" | "\"") {
            start -= 1;
        }
        start..function
    }

    /// The brace that opens the body of the item at `index`, unless it ends in `;`.
    fn body(&self, index: usize) -> Option<usize> {
        let mut at = index;
        while at < self.tokens.len() {
            match self.token(at) {
                "{" => return Some(at),
                ";" | "}" => return None,
                "(" | "[" => at = self.closing(at),
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Outer blocks before inner ones.
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for index in 0..self.tokens.len() {
            let (name, trait_impl) = match self.token(index) {
                "mod" | "trait" => (self.token(index + 1).to_owned(), false),
                "fn" if self.is_definition(index) => (self.token(index + 1).to_owned(), false),
                "impl" if self.starts_item(index) => self.implementation(index),
                _ => continue,
            };
            if let Some(open) = self.body(index) {
                blocks.push(Block { name, trait_impl, tokens: open..self.closing(open) });
            }
        }
        blocks
    }

    /// An `impl` that opens a block, as opposed to `impl Trait` in a type.
    fn starts_item(&self, index: usize) -> bool {
        index == 0 || matches!(self.token(index - 1), ";" | "{" | "}" | "]" | "unsafe" | "default")
    }

    /// The name of the type that an `impl` is for, and whether a trait is implemented.
    fn implementation(&self, index: usize) -> (String, bool) {
        let mut depth = 0;
        let mut name = String::new();
        let mut trait_impl = false;
        for at in index + 1..self.body(index).unwrap_or(index) {
            match self.token(at) {
                "<" => depth += 1,
                ">" if self.token(at - 1) != "-" => depth -= 1,
                "where" if depth == 0 => break,
                "for" if depth == 0 => {
                    trait_impl = true;
                    name.clear();
                }
                word if depth == 0 && is_word(word) => word.clone_into(&mut name),
                _ => {}
            }
        }
        (name, trait_impl)
    }

    fn after_attributes(&self, mut index: usize) -> usize {
        while self.token(index) == "#" && self.token(index + 1) == "[" {
            index = self.closing(index + 1) + 1;
        }
        index
    }

    fn after_visibility(&self, index: usize) -> usize {
        match (self.token(index), self.token(index + 1)) {
            ("pub", "(") => self.closing(index + 1) + 1,
            ("pub", _) => index + 1,
            _ => index,
        }
    }

    /// The last line of the item, field or statement that starts at `index`.
    fn item_end_line(&self, index: usize) -> usize {
        let first = self.after_attributes(index);
        let is_item = is_item_keyword(self.token(self.after_visibility(first)));
        let mut at = first;
        while at < self.tokens.len() {
            match self.token(at) {
                "{" => return self.token_line(self.closing(at).min(self.tokens.len() - 1)),
                ";" => return self.token_line(at),
                "," if !is_item => return self.token_line(at),
                "}" | ")" | "]" => return self.token_line(at - 1),
                "(" | "[" => at = self.closing(at),
                _ => {}
            }
            at += 1;
        }
        self.line_count()
    }
}

fn is_item_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 14] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "macro_rules",
        "mod",
        "static",
        "struct",
        "trait",
        "type",
        "unsafe",
        "use",
    ];
    KEYWORDS.contains(&word)
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_comment() {
        let source = Source::new("a.rs", "a(); // why\n/// doc\nb();");
        assert_eq!((source.code_line(1).trim(), source.comment_text(1)), ("a();", "why"));
        assert!(source.is_comment_only(2) && !source.is_comment_only(1));
        assert_eq!(source.comment_text(2), "doc");
        assert_eq!(source.code_lines(1..=3), 2);
    }

    #[test]
    fn functions_have_names_and_lines() {
        let text = "impl<T: Fn() -> u8> Iterator for Ring<T> {\n    fn next(&mut self) -> [u8; 4] {\n        1\n    }\n}\n\
                    mod tests {\n    impl Ring { const unsafe fn push(x: impl Copy) {} }\n}\ntrait A { fn f(); }\ntype F = fn(u8);";
        let functions = Source::new("a.rs", text).functions();
        let seen: Vec<_> = functions.iter().map(|function| (&*function.name, function.lines)).collect();
        assert_eq!(seen, [("Ring::next", (2, 4)), ("tests::Ring::push", (7, 7))]);
    }

    #[test]
    fn signatures_know_unsafe_and_trait_impls() {
        let text = "unsafe impl A for B { unsafe fn a() {} }\nimpl B { pub unsafe extern \"C\" fn b() {} fn c() {} }";
        let signatures = Source::new("a.rs", text).signatures();
        let seen: Vec<_> = signatures.iter().map(|s| (&*s.name, s.is_unsafe, s.in_trait_impl)).collect();
        assert_eq!(seen, [("a", true, true), ("b", true, false), ("c", false, false)]);
    }

    #[test]
    fn test_code_is_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n}\n#[cfg(not(test))]\nfn b() {}\n\
                    #[cfg(all(test, loom))]\nuse x;\n#[cfg(all(not(test), loom))]\nfn c() {}";
        let lines = Source::new("a.rs", text).test_lines();
        let tests: Vec<_> = (1..=lines.len()).filter(|line| lines[line - 1]).collect();
        assert_eq!(tests, [2, 3, 4, 5, 8, 9]);
        assert!(Source::new("a.rs", "#![cfg(test)]\nfn a() {}").test_lines()[1]);
    }

    #[test]
    fn module_declarations_know_their_attributes() {
        let source = Source::new("a.rs", "mod a;\n#[cfg(test)]\npub(crate) mod b;\nmod c {}");
        let declarations = source.module_declarations();
        let seen: Vec<_> = declarations.iter().map(|d| (&*d.name, source.is_test_module(d))).collect();
        assert_eq!(seen, [("a", false), ("b", true)]);
    }
}
