//! What the messages of a link are, as its creator said: part of the header page, written before the file has a name and never again.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0  | 8 | FNV-1a hash of the schema, 64 bits |
//! | 8  | 2 | bytes of the text that follows |
//! | 10 | 6 | zero |
//! | 16 | 240 | the schema, in UTF-8: as much as fits; then zeroes |
//!
//! The hash decides whether two programs mean the same, the text is for people. The header holds the checksum of all of it.

/// Bytes of a label.
pub const LABEL_BYTES: usize = 256;
/// Offset of a link's label.
pub const LABEL_AT: u64 = 2048;
const TEXT_AT: usize = 16;

/// A label: the hash and the text of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label([u8; LABEL_BYTES]);

impl Label {
    /// Of a schema: any text that two programs write alike if, and only if, they mean the same.
    ///
    /// # Examples
    /// ```
    /// use ginnel_core::Label;
    ///
    /// let label = Label::new("Point { x: f64, y: f64 }");
    /// assert_eq!(label.text(), "Point { x: f64, y: f64 }");
    /// assert_ne!(label.hash(), Label::new("Point { x: f32, y: f32 }").hash());
    /// ```
    pub fn new(schema: &str) -> Self {
        let mut len = schema.len().min(LABEL_BYTES - TEXT_AT);
        while !schema.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; LABEL_BYTES];
        bytes[..8].copy_from_slice(&fnv(schema.as_bytes()).to_le_bytes());
        bytes[8..10].copy_from_slice(&(len as u16).to_le_bytes());
        bytes[TEXT_AT..TEXT_AT + len].copy_from_slice(&schema.as_bytes()[..len]);
        Self(bytes)
    }

    /// Checks what a file has in the place of a label, against the checksum in its header.
    pub fn parse(bytes: [u8; LABEL_BYTES], checksum: u32) -> Option<Self> {
        let label = Self(bytes);
        let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let text = bytes[TEXT_AT..].get(..len)?;
        (label.checksum() == checksum && core::str::from_utf8(text).is_ok()).then_some(label)
    }

    /// Hash of the schema.
    pub fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The schema, or its beginning.
    pub fn text(&self) -> &str {
        let len = usize::from(u16::from_le_bytes([self.0[8], self.0[9]]));
        let text = self.0[TEXT_AT..].get(..len).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8; LABEL_BYTES] {
        &self.0
    }

    /// CRC-32 of the bytes, never 0: that is the checksum of no label.
    pub fn checksum(&self) -> u32 {
        crc32fast::hash(&self.0).max(1)
    }
}

/// Fowler, Noll and Vo, variant 1a (draft-eastlake-fnv): not against an enemy, who could write the hash as well.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(Label::new("").hash(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Label::new("a").hash(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Label::new("foobar").hash(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let label = Label::new("Point { x: f64 }");
        assert_eq!(Label::parse(*label.bytes(), label.checksum()), Some(label.clone()));
        for bit in 0..LABEL_BYTES * 8 {
            let mut bad = *label.bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Label::parse(bad, label.checksum()), None, "bit {bit}");
        }
    }

    #[test]
    fn a_long_schema_is_cut_between_characters() {
        let long: std::string::String = "ü".repeat(200);
        let label = Label::new(&long);
        assert_eq!(label.text(), &long[..240]);
        let odd = std::format!("a{long}");
        assert_eq!(Label::new(&odd).text(), &odd[..239]);
        assert_ne!(Label::new(&odd).hash(), Label::new(&odd[..239]).hash());
    }

    #[test]
    fn a_length_beyond_the_text_is_refused() {
        let mut bad = *Label::new("x").bytes();
        bad[8] = 241;
        let sum = crc32fast::hash(&bad);
        assert_eq!(Label::parse(bad, sum), None);
    }
}
