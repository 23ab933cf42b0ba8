//! Mailboxes of ginnel as a mechanism to be measured: each process has a name, and writes to the other's.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use ginnel::mail::Mailbox;

use crate::ginnel_link::{Removed, fresh_address, wait_option};
use crate::{Case, Failure, Inlet, Mechanism, Outlet, Way};

/// What the heading of a letter needs, a name in it, and more.
const HEADING: usize = 1024;

/// Two names.
pub(crate) struct Letters {
    asker: String,
    answerer: String,
    options: String,
    /// This process's mailbox, once it is open.
    mailbox: RefCell<Weak<Mailbox>>,
    _removed: Removed,
}

impl Letters {
    pub(crate) fn new(case: &Case) -> Result<Self, Failure> {
        let address = fresh_address();
        let (asker, answerer) = (format!("{address}-asker"), format!("{address}-answerer"));
        let removed = Removed::new(&address);
        let options = format!("?{}&max={}", wait_option(case), case.size + HEADING);
        Ok(Self { asker, answerer, options, mailbox: RefCell::default(), _removed: removed })
    }

    fn end(&self, is_asker: bool) -> Result<LetterEnd, Failure> {
        let (own, other) = if is_asker { (&self.asker, &self.answerer) } else { (&self.answerer, &self.asker) };
        let mut known = self.mailbox.borrow_mut();
        let mailbox = match known.upgrade() {
            Some(mailbox) => mailbox,
            None => Rc::new(Mailbox::open(&format!("{own}{}", self.options)).map_err(Failure::new)?),
        };
        *known = Rc::downgrade(&mailbox);
        Ok(LetterEnd { mailbox, to: other.trim_start_matches("shm:").to_owned(), buffer: Vec::new() })
    }
}

impl Mechanism for Letters {
    type Out = LetterEnd;
    type In = LetterEnd;

    fn sender(&self, way: Way) -> Result<LetterEnd, Failure> {
        self.end(way == Way::There)
    }

    fn receiver(&self, way: Way) -> Result<LetterEnd, Failure> {
        self.end(way == Way::Back)
    }
}

/// A mailbox, and whom it writes to.
pub(crate) struct LetterEnd {
    mailbox: Rc<Mailbox>,
    to: String,
    buffer: Vec<u8>,
}

impl Outlet for LetterEnd {
    #[inline]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        self.buffer.resize(len, 0);
        fill(&mut self.buffer);
        self.mailbox.send_to(&self.to, &self.buffer).map_err(Failure::new)
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.mailbox.send_to(&self.to, message).map_err(Failure::new)
    }
}

impl Inlet for LetterEnd {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        let letter = self.mailbox.recv().map_err(Failure::new)?;
        Ok(take(&letter))
    }
}
