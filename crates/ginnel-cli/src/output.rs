//! What is written: text for people and programs, and received messages.
//!
//! [`Sink`] collects small messages and writes them together, but keeps hold of each until all of its bytes are written. If
//! writing fails, those that were not written whole go back to the link: the next receiver gets them, marked as redelivered.
//! What the kernel has taken counts as written, so what lies unread in a pipe when its reader leaves is lost.

use crate::exit::Failure;
use crate::framing::{NEWLINE, NUL};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::AsFd;

/// Bytes that are collected before they are written.
pub(crate) const BUFFER: usize = 256 << 10;
/// A message of so many bytes is written from its place.
const LARGE: usize = 32 << 10;

/// Standard output without a buffer; `io::stdout` would look for newlines in everything.
///
/// # Errors
/// If it cannot be duplicated.
pub(crate) fn stdout() -> Result<File, Failure> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(|e| Failure::output(&e))
}

/// Writes text to standard output.
pub(crate) fn emit(text: &str) -> Result<(), Failure> {
    stdout()?.write_all(text.as_bytes()).map_err(|e| Failure::output(&e))
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Followed by what its tag names; on a terminal by a newline if it has none.
    AsSent {
        /// Whether it is read by a person.
        terminal: bool,
    },
    /// Followed by this byte.
    Ended(u8),
    /// After its length: 32 bits, little-endian.
    LengthPrefixed,
    /// Alone.
    Raw,
}

impl Form {
    fn after(self, tag: u16, message: &[u8]) -> &'static [u8] {
        match (self, tag) {
            (Self::Ended(0), _) | (Self::AsSent { .. }, NUL) => b"\0",
            (Self::Ended(_), _) | (Self::AsSent { .. }, NEWLINE) => b"\n",
            (Self::AsSent { terminal: true }, _) if message.last() != Some(&b'\n') => b"\n",
            _ => b"",
        }
    }

    fn before(self, message: &[u8]) -> io::Result<[u8; 4]> {
        let len = u32::try_from(message.len()).map_err(|_| io::Error::other("a message has 4GiB or more"))?;
        Ok(len.to_le_bytes())
    }
}

/// Writes messages, and gives back those that could not be written.
pub(crate) struct Sink<W, M> {
    out: W,
    form: Form,
    /// Bytes that are written at once, at most.
    piece: usize,
    /// Messages that are held at once, at most.
    most: usize,
    buffer: Vec<u8>,
    /// Messages whose bytes are in the buffer, and where each one ends there.
    held: Vec<(M, usize)>,
}

impl<W: Write, M: Deref<Target = [u8]>> Sink<W, M> {
    /// Writes pieces of at most `piece` bytes. Messages are held up to `most`: on a link of few places, few.
    pub(crate) fn new(out: W, form: Form, piece: usize, most: usize) -> Self {
        let buffer = Vec::with_capacity(piece.min(BUFFER));
        Self { out, form, piece, most: most.max(1), buffer, held: Vec::with_capacity(most.max(1)) }
    }

    /// Takes a message, to be written now or at the next [`flush`](Self::flush).
    #[inline]
    pub(crate) fn put(&mut self, message: M, tag: u16) -> io::Result<()> {
        if message.len() >= LARGE {
            return self.put_large(message, tag);
        }
        if self.form == Form::LengthPrefixed {
            self.buffer.extend_from_slice(&self.form.before(&message)?);
        }
        self.buffer.extend_from_slice(&message);
        self.buffer.extend_from_slice(self.form.after(tag, &message));
        self.held.push((message, self.buffer.len()));
        if self.held.len() >= self.most || self.buffer.len() >= self.piece {
            return self.flush();
        }
        Ok(())
    }

    #[cold]
    fn put_large(&mut self, message: M, tag: u16) -> io::Result<()> {
        self.held.push((message, usize::MAX)); // goes back if anything fails
        self.flush_before_last()?;
        let Some((message, _)) = self.held.last() else { return Ok(()) };
        if self.form == Form::LengthPrefixed {
            self.out.write_all(&self.form.before(message)?)?;
        }
        for piece in message.chunks(self.piece) {
            self.out.write_all(piece)?;
        }
        self.out.write_all(self.form.after(tag, message))?;
        self.held.clear();
        Ok(())
    }

    fn flush_before_last(&mut self) -> io::Result<()> {
        let last = self.held.pop();
        let flushed = self.flush();
        self.held.extend(last);
        flushed
    }

    /// Writes what was collected, and lets go of those messages.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.buffer.len() {
            let piece = self.piece.min(self.buffer.len() - written);
            match self.out.write(&self.buffer[written..written + piece]) {
                Ok(0) => return Err(self.let_go(written, io::ErrorKind::WriteZero.into())),
                Ok(len) => written += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.let_go(written, e)),
            }
        }
        self.buffer.clear();
        self.held.clear();
        Ok(())
    }

    /// Lets go of those messages only that were written whole.
    #[cold]
    fn let_go(&mut self, written: usize, error: io::Error) -> io::Error {
        self.held.retain(|(_, end)| *end > written);
        self.buffer.clear();
        error
    }
}

impl<W, M> Drop for Sink<W, M> {
    /// What is held still was not written: it goes back when the receiver is dropped, as a message whose guard was forgotten.
    fn drop(&mut self) {
        self.held.drain(..).for_each(std::mem::forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::RAW;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A message that reports when it is let go.
    struct Guard(Vec<u8>, Rc<RefCell<Vec<Vec<u8>>>>);

    impl Deref for Guard {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.borrow_mut().push(std::mem::take(&mut self.0));
        }
    }

    /// Takes so many bytes, then fails; `step` at a time.
    struct Pipe {
        taken: Rc<RefCell<Vec<Vec<u8>>>>,
        room: usize,
        step: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room).min(self.step);
            if len == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.room -= len;
            self.taken.borrow_mut().push(bytes[..len].to_vec());
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Log = Rc<RefCell<Vec<Vec<u8>>>>;

    fn sink(form: Form, piece: usize, most: usize, room: usize, step: usize) -> (Sink<Pipe, Guard>, Log, Log) {
        let (taken, released) = (Log::default(), Log::default());
        let pipe = Pipe { taken: taken.clone(), room, step };
        (Sink::new(pipe, form, piece, most), taken, released)
    }

    fn written(form: Form, messages: &[(&[u8], u16)]) -> Vec<u8> {
        let (mut sink, taken, released) = sink(form, BUFFER, 100, usize::MAX, usize::MAX);
        for (message, tag) in messages {
            sink.put(Guard(message.to_vec(), released.clone()), *tag).unwrap();
        }
        sink.flush().unwrap();
        assert_eq!(released.borrow().len(), messages.len());
        taken.borrow().concat()
    }

    #[test]
    fn forms() {
        let messages: [(&[u8], u16); 4] = [(b"a", NEWLINE), (b"", NUL), (b"b\n", RAW), (b"c", RAW)];
        assert_eq!(written(Form::AsSent { terminal: false }, &messages), b"a\n\0b\nc");
        assert_eq!(written(Form::AsSent { terminal: true }, &messages), b"a\n\0b\nc\n");
        assert_eq!(written(Form::Ended(b'\n'), &messages), b"a\n\nb\n\nc\n");
        assert_eq!(written(Form::Ended(0), &messages), b"a\0\0b\n\0c\0");
        assert_eq!(written(Form::Raw, &messages), b"ab\nc");
        let prefixed = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0b\n\x01\0\0\0c";
        assert_eq!(written(Form::LengthPrefixed, &messages), prefixed);
    }

    #[test]
    fn large_messages_keep_their_place_among_small_ones() {
        let large = vec![7; LARGE];
        for form in [Form::AsSent { terminal: false }, Form::LengthPrefixed, Form::Raw] {
            let joined = written(form, &[(b"a", NEWLINE), (&large, NEWLINE), (b"b", NEWLINE)]);
            let parts = [b"a", &*large, b"b"].map(|part| written(form, &[(part, NEWLINE)]));
            assert_eq!(joined, parts.concat());
        }
    }

    #[test]
    fn what_was_not_written_whole_is_not_let_go() {
        for room in 0..=9 {
            for step in 1..4 {
                let (mut sink, taken, released) = sink(Form::Ended(b'\n'), BUFFER, 100, room, step);
                for message in [b"a", b"b", b"c", b"d"] {
                    sink.put(Guard(message.to_vec(), released.clone()), RAW).unwrap();
                }
                assert!(released.borrow().is_empty());
                assert_eq!(sink.flush().is_ok(), room >= 8);
                drop(sink);
                assert_eq!(released.borrow().len(), (room / 2).min(4), "room {room}");
                assert_eq!(taken.borrow().concat().len(), room.min(8));
            }
        }
    }

    #[test]
    fn a_large_message_that_fails_is_not_let_go() {
        let (mut sink, _, released) = sink(Form::Ended(b'\n'), BUFFER, 100, 2, usize::MAX);
        sink.put(Guard(b"a".to_vec(), released.clone()), RAW).unwrap();
        assert!(sink.put(Guard(vec![7; LARGE], released.clone()), RAW).is_err());
        drop(sink);
        assert_eq!(*released.borrow(), [b"a".to_vec()]);
    }

    #[test]
    fn pieces_and_held_messages_are_bounded() {
        let (mut sink, taken, released) = sink(Form::Raw, 4, 2, usize::MAX, usize::MAX);
        for message in [&b"abcdefghi"[..], b"j", b"k", b"l"] {
            sink.put(Guard(message.to_vec(), released.clone()), RAW).unwrap();
        }
        assert_eq!(released.borrow().len(), 3, "one is held");
        assert_eq!(*taken.borrow(), [&b"abcd"[..], b"efgh", b"i", b"jk"]);
    }
}
