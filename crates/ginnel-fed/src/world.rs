//! An engine over a region of its own, the participants of one link, and what they do, whatever they find: nothing here expects an operation to succeed.
//! What a system call would do to the memory of a link is done to the region.

use crate::broadcast::{self, Hearer};
use crate::dice::Dice;
use crate::latest::{self, Looker};
use crate::links::Link;
use crate::region::Region;
use crate::ring::{self, Taker};
use crate::stream;
use ginnel_core::{
    ByteReader, ByteWriter, CutShort, Engine, Extent, Growth, Identity, Layout, Participant, ParticipantState,
    Producer, Role, Shape, Span,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;

/// Times that an operation is tried again which says that it is worth it.
pub(crate) const TRIES: usize = 4;

/// One link, and who is there.
pub(crate) struct World {
    asymmetric: bool,
    pub(crate) engine: Engine,
    pub(crate) region: Arc<Region>,
    pub(crate) senders: Vec<Sender>,
    pub(crate) receivers: Vec<Receiver>,
}

/// A handle that sends.
pub(crate) struct Sender {
    pub(crate) me: Participant,
    pub(crate) end: Sending,
}

/// What it sends with.
#[allow(clippy::large_enum_variant, reason = "a few of them, in trials that allocate nothing")]
pub(crate) enum Sending {
    Ring(Producer),
    Latest,
    Stream(ByteWriter),
}

/// A handle that receives.
pub(crate) struct Receiver {
    pub(crate) me: Participant,
    pub(crate) end: Receiving,
}

/// What it receives with.
pub(crate) enum Receiving {
    Ring(Taker),
    Broadcast(Hearer),
    Latest(Looker),
    Stream(ByteReader),
}

impl World {
    /// An empty link.
    pub(crate) fn new(link: &Link) -> Self {
        Self::of(link.layout(), link.asymmetric)
    }

    /// An empty link that lies so.
    pub(crate) fn of(layout: Layout, asymmetric: bool) -> Self {
        let region = Arc::new(Region::new(layout.mapped_bytes()));
        let engine = Engine::new(region.memory(), layout, asymmetric, || fence(SeqCst));
        Self { asymmetric, engine, region, senders: Vec::new(), receivers: Vec::new() }
    }

    /// Empty again, as it was born.
    pub(crate) fn clear(&mut self) {
        self.senders.clear();
        self.receivers.clear();
        self.region.fill(0, self.region.len(), 0);
    }

    pub(crate) fn shape(&self) -> Shape {
        self.engine.layout().geometry().shape
    }

    // ---- who is there

    pub(crate) fn join(&mut self, role: Role) {
        let mut free = self.engine.participants().filter(|p| self.engine.state(*p) == ParticipantState::Free);
        let Some(me) = free.next() else { return };
        let identity = Identity { pid: 1, namespace: 1, now_ns: 1 };
        if self.engine.join(me, role, identity).is_err() {
            return;
        }
        match role {
            Role::Sender => self.senders.push(Sender { me, end: self.sending(me) }),
            Role::Receiver => {
                let end = self.receiving(me);
                self.receivers.extend(end.map(|end| Receiver { me, end }));
            }
        }
    }

    fn sending(&self, me: Participant) -> Sending {
        match self.shape() {
            Shape::Latest => Sending::Latest,
            Shape::Stream => Sending::Stream(self.engine.byte_writer(me)),
            _ => Sending::Ring(Producer::new(me)),
        }
    }

    /// Nothing if the link is too damaged to listen.
    fn receiving(&self, me: Participant) -> Option<Receiving> {
        Some(match self.shape() {
            Shape::Latest => Receiving::Latest(Looker::default()),
            Shape::Stream => Receiving::Stream(self.engine.byte_reader(me)),
            Shape::Broadcast => Receiving::Broadcast(Hearer::begin(&self.engine, me)?),
            _ => Receiving::Ring(Taker::new(me)),
        })
    }

    /// Leaves in good order, whatever it still holds.
    pub(crate) fn leave(&self, me: Participant) {
        self.engine.recover_self(me);
        self.engine.begin_leave(me);
        self.wake();
        self.engine.finish_leave(me);
    }

    /// A survivor finds this one dead.
    pub(crate) fn bury(&self, dead: Participant) {
        if self.engine.recover(dead).is_some() {
            self.wake();
            self.engine.finish_leave(dead);
        }
    }

    /// What each waker does.
    fn wake(&self) {
        let (items, room) = (self.engine.items(), self.engine.room());
        items.stir();
        room.stir();
        let _ = (items.notify(), room.notify());
    }

    // ---- what they do

    /// Sends with one of those who are there: a length that is inline, or not, or too long.
    pub(crate) fn send(&self, dice: &mut Dice, who: usize) {
        let Some(sender) = self.senders.get(who) else { return };
        match &sender.end {
            Sending::Ring(producer) => ring::send(self, dice, producer),
            Sending::Latest => latest::send(self, dice, sender.me),
            Sending::Stream(writer) => stream::write(self, dice, writer),
        }
        let _ = self.engine.items().notify();
    }

    /// Receives, and keeps some of it.
    pub(crate) fn receive(&mut self, dice: &mut Dice, who: usize) {
        let Self { engine, region, receivers, .. } = self;
        let Some(receiver) = receivers.get_mut(who) else { return };
        match &mut receiver.end {
            Receiving::Ring(taker) => ring::receive(engine, region, dice, taker),
            Receiving::Broadcast(hearer) => broadcast::receive(engine, region, dice, hearer),
            Receiving::Latest(looker) => latest::receive(engine, dice, receiver.me, looker),
            Receiving::Stream(reader) => stream::read(engine, region, dice, reader),
        }
        let _ = self.engine.room().notify();
    }

    /// Releases what one of them holds.
    pub(crate) fn release(&mut self, dice: &mut Dice, who: usize) {
        let Self { engine, region, receivers, .. } = self;
        match receivers.get_mut(who).map(|receiver| &mut receiver.end) {
            Some(Receiving::Ring(taker)) => ring::release(engine, region, dice, taker),
            Some(Receiving::Broadcast(hearer)) => hearer.release(engine),
            _ => {}
        }
    }

    /// Waits, as far as the engine knows of it: announces, looks, withdraws.
    pub(crate) fn wait(&self) {
        for event in [self.engine.items(), self.engine.room()] {
            let waiting = event.arm();
            event.listen();
            let _ = event.futex_word().load(Relaxed);
            event.disarm(waiting);
            let _ = event.is_announced() || self.asymmetric && event.is_announced_of_exclusive();
        }
    }

    /// What anybody may ask, with an entry and without.
    pub(crate) fn look(&self) {
        let engine = &self.engine;
        let word_at = |offset: u64| self.region.word(usize::try_from(offset).expect("an offset")).load(Relaxed);
        let mut sum = engine.len_by(word_at) ^ engine.positions_by(word_at).0 ^ engine.dropped();
        for participant in engine.participants() {
            let entry = engine.entry(participant);
            sum ^= entry.counters.messages ^ engine.behind(participant).unwrap_or(0);
        }
        if let Some(me) = self.senders.first().map(|s| s.me).or(self.receivers.first().map(|r| r.me)) {
            sum ^= engine.len(me)
                ^ engine.positions(me).1
                ^ u64::from(engine.is_full(me))
                ^ u64::from(engine.is_empty(me));
            engine.count_sleep(me);
        }
        let pool = engine.pool_use();
        let (census, version) = (engine.census(), engine.membership_version());
        sum ^= pool.used ^ pool.committed ^ u64::from(census.senders) ^ version ^ engine.bytes_waiting();
        sum ^= u64::from(engine.any_class_is_used_up()) ^ engine.newest_version();
        if !engine.is_unbounded() {
            sum ^= u64::from(engine.any_block_waits());
        }
        std::hint::black_box(sum);
    }

    // ---- memory, as the crate above gets it

    /// Gives blocks of so many bytes memory, or takes it from others.
    pub(crate) fn grow_blocks(&self, len: usize) {
        let _ = self.engine.may_grow(len);
        match self.engine.extent_to_commit(len) {
            Some(extent) => {
                if let Some((offset, len)) = extent.records() {
                    self.is_inside(offset, len);
                }
                self.is_inside(extent.offset, extent.len);
                if self.engine.is_absent(&extent) {
                    self.punch(extent.offset, extent.len);
                }
                self.engine.extent_ready(&extent);
            }
            None => {
                if let Some(extent) = self.engine.extent_to_release(len) {
                    self.punch(extent.offset, extent.len);
                }
            }
        }
    }

    /// Gives the ring of an unbounded link memory.
    pub(crate) fn grow_ring(&self) {
        if let Growth::Slots(_) = self.engine.ring_growth() {
            self.give_back();
        }
        let Growth::By(span) = self.engine.ring_growth() else { return };
        self.is_in_ring(&span);
        self.engine.ring_under_way();
        self.engine.ring_grown(&span);
    }

    /// Takes the memory from the ring and the blocks that nobody needs.
    pub(crate) fn give_back(&self) {
        if !self.engine.is_unbounded() {
            return;
        }
        for _ in 0..2 {
            let Some(span) = self.engine.ring_to_punch() else { break };
            self.is_in_ring(&span);
            self.punch(span.offset, span.len);
            self.engine.ring_punched(&span);
        }
        if let (Some(way), Some(receiver)) = (self.engine.in_the_way(), self.receivers.first()) {
            let _ = self.engine.is_in_the_way(receiver.me, way);
        }
        let _ = self.engine.ring_may_shrink();
        self.finish_cut_short();
        self.engine.retire_unused(0, |extent: &Extent| {
            self.punch(extent.offset, extent.len);
            true
        });
        if self.engine.is_memory_left() {
            self.engine.take_left_memory();
        }
    }

    /// What a holder of the grow lock was killed over, or a peer's word says that one was.
    fn finish_cut_short(&self) {
        match self.engine.cut_short() {
            Some(CutShort::InUse(extent)) => {
                self.is_inside(extent.offset, extent.len);
                self.engine.extent_ready(&extent);
            }
            Some(CutShort::Unused(offset, len)) => {
                assert!(offset >= ginnel_core::CONTROL_BYTES as u64, "a hole in the header: {offset}");
                self.punch(offset, len);
                self.engine.crossed_out();
            }
            None => {}
        }
    }

    fn punch(&self, offset: u64, len: u64) {
        self.is_inside(offset, len);
        self.region.fill(offset as usize, len as usize, 0);
    }

    fn is_in_ring(&self, span: &Span) {
        self.is_inside(span.offset, span.len);
        assert!(span.offset >= ginnel_core::CONTROL_BYTES as u64, "slots in the header: {span:?}");
    }

    fn is_inside(&self, offset: u64, len: u64) {
        let total = self.engine.layout().total_bytes() as u64;
        assert!(offset <= total && len <= total - offset, "{len} bytes at {offset} of {total}");
    }
}
