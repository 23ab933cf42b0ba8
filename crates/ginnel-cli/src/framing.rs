//! Cutting a stream of bytes into messages, so that they can be put together again without loss.
//!
//! A message that was a line does not hold its newline; its tag says that one followed. So a receiver that writes after each
//! message what its tag names gives back the stream byte by byte, however it was cut.
//!
//! | cut | message | tag |
//! |---|---|---|
//! | lines | the bytes before a newline | [`NEWLINE`]; [`RAW`] for a last line without one |
//! | nul | the bytes before a NUL | [`NUL`]; [`RAW`] for a last one without |
//! | length-prefixed | as many bytes as the 32-bit little-endian number before them says | [`RAW`] |
//! | chunks | that many bytes; the last may be shorter | [`RAW`] |
//!
//! ```text
//! buffer  | given out |  to be cut  | to be read |
//!         0         start          end          len
//! ```

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// Tag of a message that nothing followed.
pub(crate) const RAW: u16 = 0;
/// Tag of a message that a NUL followed: 0x0100 and the byte.
pub(crate) const NUL: u16 = 0x0100;
/// Tag of a message that a newline followed: 0x0100 and the byte.
pub(crate) const NEWLINE: u16 = 0x010A;

/// Size of chunks, when none is asked for.
pub(crate) const CHUNK: usize = 64 << 10;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// How a stream is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At a byte, which is left out.
    At(u8),
    /// By the length before each message.
    LengthPrefixed,
    /// Into pieces of so many bytes.
    Chunks(usize),
}

/// Why a stream could not be cut further.
#[derive(Debug)]
pub(crate) enum CutError {
    /// It could not be read.
    Read(io::Error),
    /// A message is longer than is allowed.
    TooLong {
        /// Its length as far as is known.
        len: usize,
        /// Whether it may be longer still.
        or_more: bool,
    },
    /// The stream ends inside a message, or inside the length before it.
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that should be.
        want: usize,
    },
}

impl From<io::Error> for CutError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// A stream that is being cut.
pub(crate) struct Source<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The input has ended: it is not read again, as a terminal would ask for more.
    ended: bool,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(input: R) -> Self {
        Self::with_buffer(input, BUFFER)
    }

    fn with_buffer(input: R, bytes: usize) -> Self {
        Self { input, buffer: vec![0; bytes], start: 0, end: 0, ended: false }
    }

    /// How to cut, if nobody says: at newlines if what can be read first is text, otherwise into chunks.
    pub(crate) fn sniff(&mut self) -> io::Result<Cut> {
        self.is_at_end()?;
        Ok(if is_text(&self.buffer[self.start..self.end]) { Cut::At(b'\n') } else { Cut::Chunks(CHUNK) })
    }

    /// Whether nothing is left; waits for more input, or its end.
    pub(crate) fn is_at_end(&mut self) -> io::Result<bool> {
        if self.start == self.end && !self.ended {
            self.fill()?;
        }
        Ok(self.start == self.end)
    }

    /// As [`Self::until`], with the byte, which counts.
    pub(crate) fn through(&mut self, byte: u8, max: usize) -> Result<Option<&[u8]>, CutError> {
        let (message, found) = self.range_until(byte, max.saturating_sub(1))?;
        let whole = message.start..message.end + usize::from(found);
        self.start = whole.end;
        Ok((!whole.is_empty()).then(|| &self.buffer[whole]))
    }

    /// The next message that ends at a byte, or at the end of the stream, and whether the byte was there; `None` at the end.
    #[inline]
    pub(crate) fn until(&mut self, byte: u8, max: usize) -> Result<Option<(&[u8], bool)>, CutError> {
        let (message, found) = self.range_until(byte, max)?;
        self.start = message.end + usize::from(found);
        let there = found || !message.is_empty();
        Ok(there.then(|| (&self.buffer[message], found)))
    }

    fn range_until(&mut self, byte: u8, max: usize) -> Result<(Range<usize>, bool), CutError> {
        let mut searched = 0;
        loop {
            let found = position(byte, &self.buffer[self.start + searched..self.end]);
            let len = found.map_or(self.end - self.start, |at| searched + at);
            if len > max {
                return Err(CutError::TooLong { len, or_more: found.is_none() });
            }
            if found.is_some() || self.ended {
                return Ok((self.start..self.start + len, found.is_some()));
            }
            searched = len;
            self.fill()?;
        }
    }

    /// The length that stands before the next message; `None` at the end.
    pub(crate) fn length(&mut self, max: usize) -> Result<Option<usize>, CutError> {
        if self.is_at_end()? {
            return Ok(None);
        }
        let bytes = self.take(4)?;
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if len > max { Err(CutError::TooLong { len, or_more: false }) } else { Ok(Some(len)) }
    }

    /// The next bytes.
    pub(crate) fn take(&mut self, want: usize) -> Result<&[u8], CutError> {
        while self.end - self.start < want && !self.ended {
            self.fill()?;
        }
        let have = self.end - self.start;
        if have < want {
            return Err(CutError::Truncated { have, want });
        }
        self.start += want;
        Ok(&self.buffer[self.start - want..self.start])
    }

    /// Fills a place with the next bytes, without a copy if none are in the buffer. Fewer only at the end.
    pub(crate) fn read_full(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let mut len = place.len().min(self.end - self.start);
        place[..len].copy_from_slice(&self.buffer[self.start..self.start + len]);
        self.start += len;
        while len < place.len() && !self.ended {
            let read = self.input.read(&mut place[len..])?;
            self.ended = read == 0;
            len += read;
        }
        Ok(len)
    }

    /// Reads once, into whatever room there is; makes some if there is none.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        let read = self.input.read(&mut self.buffer[self.end..])?;
        self.ended = read == 0;
        self.end += read;
        Ok(())
    }
}

/// Where a byte stands first. `skip_until` is `memchr(3)`, which looks at 32 bytes at once.
#[inline]
fn position(byte: u8, mut bytes: &[u8]) -> Option<usize> {
    let all = bytes;
    let passed = bytes.skip_until(byte).unwrap_or(0);
    (passed > 0 && all[passed - 1] == byte).then(|| passed - 1)
}

/// Whether a block, which may end inside a character, looks like text: UTF-8 without NUL.
fn is_text(block: &[u8]) -> bool {
    let whole = match std::str::from_utf8(block) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none(),
    };
    whole && position(0, block).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(into.len()).min(self.0.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    /// Every string over three letters up to a length.
    fn strings(letters: [u8; 3], longest: u32) -> impl Iterator<Item = Vec<u8>> {
        (0..=longest).flat_map(move |len| {
            (0..3usize.pow(len)).map(move |mut n| {
                let mut letter = || {
                    let letter = letters[n % 3];
                    n /= 3;
                    letter
                };
                (0..len).map(|_| letter()).collect()
            })
        })
    }

    /// Buffers and reads of every small size.
    fn sources(bytes: &[u8]) -> impl Iterator<Item = Source<Slow<'_>>> {
        (1..5).flat_map(move |buffer| (1..4).map(move |read| Source::with_buffer(Slow(bytes, read), buffer)))
    }

    #[test]
    fn lines_are_what_split_says() {
        for text in strings([b'a', b'\n', b'b'], 7) {
            let mut oracle: Vec<(&[u8], bool)> = text.split(|b| *b == b'\n').map(|line| (line, true)).collect();
            let last = oracle.pop().unwrap().0;
            if !last.is_empty() {
                oracle.push((last, false));
            }
            for mut source in sources(&text) {
                for (line, terminated) in &oracle {
                    assert_eq!(source.until(b'\n', 9).unwrap(), Some((*line, *terminated)), "{text:?}");
                }
                assert_eq!(source.until(b'\n', 9).unwrap(), None);
                assert_eq!(source.until(b'\n', 9).unwrap(), None, "it stays ended");
            }
        }
    }

    #[test]
    fn a_line_may_have_max_bytes_and_no_more() {
        for text in strings([b'a', b'\n', b'b'], 6) {
            for mut source in sources(&text) {
                let longest = text.split(|b| *b == b'\n').map(<[u8]>::len).position(|len| len > 2);
                let mut number = 0;
                loop {
                    match source.until(b'\n', 2) {
                        Ok(Some((line, _))) => assert!(line.len() <= 2),
                        Ok(None) => break assert_eq!(longest, None, "{text:?}"),
                        Err(CutError::TooLong { len, .. }) => {
                            assert!(len > 2);
                            break assert_eq!(longest, Some(number), "{text:?}");
                        }
                        Err(e) => panic!("{e:?}"),
                    }
                    number += 1;
                }
            }
        }
    }

    #[test]
    fn chunks_are_what_chunks_says() {
        for text in strings([0, b'\n', 255], 6) {
            for size in 1..4 {
                for mut source in sources(&text) {
                    source.sniff().unwrap(); // so that a part of it lies in the buffer
                    for chunk in text.chunks(size) {
                        let mut place = vec![0; size];
                        let len = source.read_full(&mut place).unwrap();
                        assert_eq!(&place[..len], chunk);
                    }
                    assert!(source.is_at_end().unwrap());
                    assert_eq!(source.read_full(&mut [0; 3]).unwrap(), 0);
                }
            }
        }
    }

    #[test]
    fn lengths_give_back_what_was_joined() {
        for text in strings([0, 1, b'x'], 5) {
            for size in 1..4 {
                let mut joined = Vec::new();
                for part in text.chunks(size) {
                    joined.extend((part.len() as u32).to_le_bytes());
                    joined.extend(part);
                }
                for mut source in sources(&joined) {
                    for part in text.chunks(size) {
                        assert_eq!(source.length(9).unwrap(), Some(part.len()));
                        assert_eq!(source.take(part.len()).unwrap(), part);
                    }
                    assert_eq!(source.length(9).unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn a_truncated_length_or_message_is_told_apart_from_the_end() {
        let whole = [3, 0, 0, 0, b'a', b'b', b'c'];
        for cut in 1..whole.len() {
            for mut source in sources(&whole[..cut]) {
                let result = source.length(9).and_then(|len| source.take(len.unwrap()).map(<[u8]>::len));
                let (have, want) = if cut < 4 { (cut, 4) } else { (cut - 4, 3) };
                match result {
                    Err(CutError::Truncated { have: h, want: w }) => assert_eq!((h, w), (have, want)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_read() {
        let mut source = Source::new(&[255, 255, 255, 255, 0][..]);
        assert!(matches!(source.length(9), Err(CutError::TooLong { len: 0xFFFF_FFFF, or_more: false })));
    }

    #[test]
    fn text_is_told_from_other_bytes() {
        let sniffed = |bytes: &[u8]| Source::new(bytes).sniff().unwrap();
        assert_eq!(sniffed(b""), Cut::At(b'\n'));
        assert_eq!(sniffed("grüße\n".as_bytes()), Cut::At(b'\n'));
        assert_eq!(sniffed(&"grü".as_bytes()[..3]), Cut::At(b'\n'), "a block may end inside a character");
        assert_eq!(sniffed(b"a\0b"), Cut::Chunks(CHUNK));
        assert_eq!(sniffed(&[b'a', 0xFF, b'b']), Cut::Chunks(CHUNK));
    }

    #[test]
    fn a_byte_is_found_where_it_stands() {
        for text in strings([b'a', b'\n', b'b'], 6) {
            assert_eq!(position(b'\n', &text), text.iter().position(|b| *b == b'\n'));
        }
    }
}
