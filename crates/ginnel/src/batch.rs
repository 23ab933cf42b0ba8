//! Several messages in hand at once.

use crate::message::Message;
use crate::shm::Receiver;
use ginnel_core::Run;
use std::fmt;

/// Messages that were received together; see [`Receiver::recv_many`](crate::Receiver::recv_many). They are released together too, when this is
/// dropped: if the process is killed before that, all of them go back, where the mechanism can do that.
pub struct Batch<'a> {
    content: Content<'a>,
}

enum Content<'a> {
    /// Small messages, one slot after the other.
    Run(&'a Receiver, Run),
    /// Any messages.
    Messages(Vec<Message<'a>>),
}

/// One message of a [`Batch`].
#[derive(Clone, Copy)]
pub struct BatchMessage<'b> {
    bytes: &'b [u8],
    tag: u16,
    redelivered: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn of_run(receiver: &'a Receiver, run: Run) -> Self {
        Self { content: Content::Run(receiver, run) }
    }

    pub(crate) fn of_messages(messages: Vec<Message<'a>>) -> Self {
        Self { content: Content::Messages(messages) }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Run(_, run) => run.len(),
            Content::Messages(messages) => messages.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages, in order.
    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = BatchMessage<'_>> {
        (0..self.len()).map(|index| self.message(index))
    }

    /// The message at an index, if there is one.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<BatchMessage<'_>> {
        (index < self.len()).then(|| self.message(index))
    }

    #[inline(always)]
    fn message(&self, index: usize) -> BatchMessage<'_> {
        match &self.content {
            Content::Run(receiver, run) => {
                let (bytes, tag) = bytes::of_run(receiver, run, index);
                BatchMessage { bytes, tag, redelivered: false }
            }
            Content::Messages(messages) => {
                let message = &messages[index];
                BatchMessage { bytes: message, tag: message.tag(), redelivered: message.redelivered() }
            }
        }
    }
}

impl BatchMessage<'_> {
    /// What its sender tagged it with; 0 if it did not, or the mechanism carries no tags.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// See [`Message::redelivered`].
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }
}

impl std::ops::Deref for BatchMessage<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for BatchMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchMessage").field("len", &self.bytes.len()).field("tag", &self.tag).finish_non_exhaustive()
    }
}

#[allow(unsafe_code)] // Makes slices of slots that the protocol keeps still while the batch is there.
mod bytes {
    use super::{Receiver, Run};

    #[inline(always)]
    pub(super) fn of_run<'b>(receiver: &'b Receiver, run: &Run, index: usize) -> (&'b [u8], u16) {
        let (offset, len, tag) = receiver.engine().message_in(run, index);
        let address = receiver.engine().memory().bytes(offset, len);
        // SAFETY: `len` bytes of the mapping, checked by `bytes`, which lives as long as the receiver; the slot is this
        // participant's until the run is released, so peers that follow the protocol leave it alone, and one that does not
        // could as well change this process's own memory (same uid; see SECURITY.md).
        (unsafe { std::slice::from_raw_parts(address.as_ptr(), len) }, tag)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Content::Run(receiver, run) = &self.content {
            receiver.release_run(run);
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}
