//! The receiving end of a broadcast: what a receiver has in hand, and what it missed. The engine has the cursor (see `broadcast` in ginnel-core);
//! here is what needs memory.
//!
//! [I1] The cursor stands at the oldest message in hand, or at the next one if there is none.

use super::receiver::Receiver;
use crate::message::Held;
use ginnel_core::{Corrupt, Delivery, Engine, Full, Listener, Participant, PopError, Start};
use ginnel_os::tmpfile;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::AsFd;

/// Times that one look begins again because the senders were faster.
const AGAIN: u32 = 32;

/// What a receiver is on a broadcast.
pub(super) struct Listening {
    listener: Listener,
    /// Positions of the messages in hand, in order; of a lossless link, where they are read in their place.
    in_hand: RefCell<VecDeque<u64>>,
    /// Missed since the last message, not told yet.
    missed: Cell<u64>,
    /// Missed since it opened.
    missed_ever: Cell<u64>,
    full: Full,
}

impl Listening {
    /// Nothing if the link is no broadcast.
    pub(super) fn begin(engine: &Engine, me: Participant, start: Start) -> Result<Option<Self>, Corrupt> {
        if !engine.layout().is_broadcast() {
            return Ok(None);
        }
        Ok(Some(Self {
            listener: engine.listen(me, start)?,
            in_hand: RefCell::default(),
            missed: Cell::new(0),
            missed_ever: Cell::new(0),
            full: engine.layout().geometry().full,
        }))
    }

    /// Where another receiver begins that is to hear what this one has yet to hear.
    pub(super) fn here(&self) -> Start {
        Start::At(self.listener.next())
    }

    /// Whether messages are copied out, as the senders do not wait.
    #[inline]
    pub(super) fn copies(&self) -> bool {
        matches!(self.full, Full::DropOldest | Full::CutOff)
    }

    pub(super) fn missed_ever(&self) -> u64 {
        self.missed_ever.get()
    }

    pub(super) fn unheard(&self, engine: &Engine) -> u64 {
        engine.unheard(&self.listener)
    }

    /// It was told that it was cut off.
    pub(super) fn was_told(&self) {
        self.missed.set(0);
    }

    /// One look.
    pub(super) fn try_hear(&self, receiver: &Receiver) -> Result<Held, PopError> {
        for _ in 0..AGAIN {
            if self.full == Full::CutOff && self.missed.get() > 0 {
                return Err(PopError::Lapped(self.missed.get()));
            }
            match self.hear_one(receiver) {
                Err(PopError::Lapped(missed)) => {
                    self.missed.set(self.missed.get().saturating_add(missed));
                    self.missed_ever.set(self.missed_ever.get().saturating_add(missed));
                }
                other => return other,
            }
        }
        Err(PopError::Busy)
    }

    fn hear_one(&self, receiver: &Receiver) -> Result<Held, PopError> {
        let engine = receiver.engine();
        let before = self.listener.next();
        let delivery = engine.try_hear(&self.listener).inspect_err(|_| {
            // It passed over claims that vanished with their senders: nobody shall wait for that until the next message comes.
            if self.listener.next() != before && !self.copies() && self.in_hand.borrow().is_empty() {
                engine.heard_until(&self.listener, self.listener.next());
                receiver.region().wake_senders();
            }
        })?;
        if self.copies() {
            let mut bytes = vec![0; delivery.len()];
            if delivery.is_inline() {
                engine.copy_heard(&self.listener, &delivery, &mut bytes)?;
            } else {
                // A block may be given back meanwhile: what the kernel reads in a hole is zeroes, where a load would take memory, or kill.
                let file = receiver.region().file().as_fd();
                let read = tmpfile::read_at(file, &mut bytes, delivery.offset as u64);
                read.map_err(|_| PopError::Corrupt(Corrupt::Block))?;
                engine.take_heard(&self.listener, &delivery)?;
            }
            return Ok(Held::heard(bytes, &delivery, self.missed.take()));
        }
        self.in_hand.borrow_mut().push_back(delivery.position);
        Ok(Held::in_place(receiver, delivery))
    }

    /// A message is no longer in hand. True if the senders may have waited for that.
    pub(super) fn release(&self, engine: &Engine, delivery: &Delivery) -> bool {
        let mut in_hand = self.in_hand.borrow_mut();
        let Ok(place) = in_hand.binary_search(&delivery.position) else { return false }; // a copy
        in_hand.remove(place);
        if place == 0 {
            engine.heard_until(&self.listener, in_hand.front().copied().unwrap_or_else(|| self.listener.next()));
        }
        place == 0
    }
}
