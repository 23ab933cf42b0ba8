//! What a receiver of a broadcast does: it hears messages in their place, or copies them where senders do not wait for it.

use crate::dice::Dice;
use crate::region::Region;
use crate::ring;
use crate::world::TRIES;
use ginnel_core::{Delivery, Engine, Full, Listener, Participant, PopError, Start};
use std::collections::VecDeque;

/// A listener, and what it has in hand.
pub(crate) struct Hearer {
    listener: Listener,
    in_hand: VecDeque<Delivery>,
}

impl Hearer {
    /// Begins with what is there. Nothing if the link is damaged.
    pub(crate) fn begin(engine: &Engine, me: Participant) -> Option<Self> {
        let listener = engine.listen(me, Start::Newest(u64::from(me.number()))).ok()?;
        Some(Self { listener, in_hand: VecDeque::new() })
    }

    /// The oldest message in hand is done with.
    pub(crate) fn release(&mut self, engine: &Engine) {
        if self.in_hand.pop_front().is_some() {
            let next = self.in_hand.front().map_or_else(|| self.listener.next(), |delivery| delivery.position);
            engine.heard_until(&self.listener, next);
        }
    }
}

/// Hears a message.
pub(crate) fn receive(engine: &Engine, region: &Region, dice: &mut Dice, hearer: &mut Hearer) {
    let copies = engine.layout().geometry().full != Full::Block;
    let _ = engine.unheard(&hearer.listener);
    for _ in 0..TRIES {
        match engine.try_hear(&hearer.listener) {
            Ok(delivery) if copies => {
                ring::read(engine, region, &delivery);
                let mut bytes = vec![0; delivery.len()];
                if delivery.is_inline() || dice.one_in(2) {
                    _ = engine.copy_heard(&hearer.listener, &delivery, &mut bytes);
                } else {
                    _ = engine.take_heard(&hearer.listener, &delivery);
                }
                return;
            }
            Ok(delivery) => {
                ring::read(engine, region, &delivery);
                hearer.in_hand.push_back(delivery);
                return;
            }
            Err(PopError::Busy | PopError::Lapped(_)) => {}
            Err(_) => return,
        }
    }
}
