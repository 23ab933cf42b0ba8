//! An address, whoever typed it: refused in words, or a link whose own address means the same.

use ginnel::Link;

/// The bytes are an address, if they are text; and a size.
pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = ginnel::parse_size(text);
    match Link::new(text) {
        Ok(link) => {
            let short = link.address();
            let again = Link::new(&short).unwrap_or_else(|e| panic!("`{text}` is `{short}`, which is refused: {e}"));
            assert_eq!(again.address(), short, "`{text}`");
            let _ = (link.carriage(), format!("{link:?}"));
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}
