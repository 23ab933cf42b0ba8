//! The table of participants: one entry for each open handle, and the membership word.
//!
//! An entry belongs to whoever holds its liveness token: a lock on byte `TOKEN_BASE + number` of the link's file, which
//! the kernel takes back when its holder dies. The living participant holds it; after its death the one that recovers
//! it. So an entry never has two writers, and needs no compare-and-swap. The living one locks byte `ALIVE_BASE + number` too, so
//! that others can tell the two apart.
//!
//! ```text
//! entry  0  state word: state 4 bits | role 4 | senders died here 28 | receivers died here 28
//!        8  process id, as its own namespace counts; for people only
//!       16  joined at, nanoseconds since 1970
//!       24  the pid namespace, as its inode number
//!       32  losses after the drop under way (see `producer`)
//!       40  handles that joined here: senders 32 bits | receivers 32
//!       48  position that it tried to claim last, on a shared side of an unbounded link
//!      128  work: bit 0 busy, the owner is inside an operation on a side that is exclusive to it; above, messages sent or received
//!      136  reserved                       144  their bytes
//!      152  losses: dropped 40 bits | held in hand 24
//!      160  redelivered to it              168  claims of dead senders that it passed over
//!      176  times it slept                     184  cursor of a listener (see `broadcast`): 0 none, else its position plus one
//! ```
//! Counters run on when an entry is used again: the totals of a link are sums over its entries. What was dropped, redelivered and passed over
//! is exact after any kill; of the messages and bytes, those of the operation in which a participant was killed may be missing.
//!
//! | state | meaning |
//! |---|---|
//! | FREE | nobody; the token may still be held for a moment |
//! | ACTIVE | open, or killed while open |
//! | LEAVING | closing in good order, or killed while it did |
//! | RECOVERING | killed; its claims are being undone |
//!
//! [I1] An entry becomes FREE only after everything that names it is undone.
//! [I2] The membership word grows after each change of a state, so a count of the table stays valid while it stands still.
//! [I3] Once the membership word says removed, no join succeeds.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S1] | membership add, after a state store | membership load, before reading states | the states |
//! | [S2] | removal CAS of membership | join's CAS of membership | that the link is removed |

use crate::engine::Engine;
use crate::header::MEMBERSHIP;
use crate::sync::{Acquire, AtomicU64, Relaxed, Release, SeqCst, fence};

const STATE: usize = 0;
const PID: usize = 8;
const JOINED_AT: usize = 16;
const NAMESPACE: usize = 24;
pub(crate) const LOSSES_NEXT: usize = 32;
const JOINS: usize = 40;
pub(crate) const CLAIM: usize = 48;
/// Words of the hot line, at 128.
pub(crate) const WORK: usize = 0;
pub(crate) const BYTES: usize = 2;
pub(crate) const LOSSES: usize = 3;
pub(crate) const REDELIVERED: usize = 4;
pub(crate) const SKIPPED: usize = 5;
pub(crate) const SLEPT: usize = 6;
pub(crate) const CURSOR: usize = 7;

/// Bit of the work word: inside an operation. In one word with the count of messages, since each operation writes both: stores are what a
/// stream is made of.
pub(crate) const BUSY: u64 = 1;
/// One message in the work word.
pub(crate) const MESSAGE: u64 = 2;

/// Where the count of drops begins in the losses word; below it, messages held in hand.
pub(crate) const DROPPED_SHIFT: u32 = 24;
pub(crate) const HELD_MASK: u64 = (1 << DROPPED_SHIFT) - 1;

const REMOVED: u64 = 1 << 63;
const DIED_BITS: u32 = 28;
const DIED_MASK: u64 = (1 << DIED_BITS) - 1;

/// The number of an entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Participant(u32);

impl Participant {
    /// The participant with this number.
    pub fn new(number: u32) -> Self {
        debug_assert!(number < crate::layout::PARTICIPANTS_MAX);
        Self(number)
    }

    /// Its place in the table, from 0.
    pub fn number(self) -> u32 {
        self.0
    }

    /// As it is written into words: never 0.
    #[inline(always)]
    pub(crate) fn owner(self) -> u64 {
        u64::from(self.0) + 1
    }
}

/// Which end of the link a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends.
    Sender,
    /// It receives.
    Receiver,
}

/// What the table says of an entry. Whether its holder lives, only the kernel can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParticipantState {
    /// Nobody.
    Free,
    /// Open, or killed while open.
    Active(Role),
    /// Closing, or killed while it did.
    Leaving(Role),
    /// Killed, and being recovered.
    Recovering(Role),
}

impl ParticipantState {
    /// The role of a handle that is there.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Free => None,
            Self::Active(role) | Self::Leaving(role) | Self::Recovering(role) => Some(role),
        }
    }
}

/// Who is there, at one version of the membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Changes whenever the rest may have.
    pub version: u64,
    /// Open senders.
    pub senders: u32,
    /// Open receivers.
    pub receivers: u32,
    /// Senders that joined, ever; wraps.
    pub senders_joined: u32,
    /// Receivers that joined, ever; wraps.
    pub receivers_joined: u32,
    /// Senders that died, ever; wraps.
    pub senders_died: u64,
    /// Receivers that died, ever; wraps.
    pub receivers_died: u64,
}

/// The counters of one entry, or their sums over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages sent or received.
    pub messages: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// Messages dropped to make room, or lost in the hands of a dead receiver of a dropping link.
    pub dropped: u64,
    /// Messages delivered a second time after a death.
    pub redelivered: u64,
    /// Claims of dead senders that were passed over.
    pub skipped: u64,
    /// Times it went to sleep.
    pub slept: u64,
}

/// One entry, for people: read without co-operation of its holder.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub participant: Participant,
    /// What the table says.
    pub state: ParticipantState,
    /// Process id, in its own pid namespace.
    pub pid: u32,
    /// Inode number of its pid namespace.
    pub namespace: u64,
    /// When it joined, in nanoseconds since 1970.
    pub joined_ns: u64,
    /// What it did; runs on over the entry's holders.
    pub counters: Counters,
}

/// Who joins, for people.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Inode number of the pid namespace.
    pub namespace: u64,
    /// Now, in nanoseconds since 1970.
    pub now_ns: u64,
}

/// Why a join was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The link was removed meanwhile: open again.
    Removed,
    /// The link was made for fewer handles of this role; this many are there.
    RoleTaken(u32),
}

#[derive(Clone, Copy)]
struct StateWord(u64);

impl StateWord {
    fn with(self, state: ParticipantState) -> Self {
        let (code, role) = match state {
            ParticipantState::Free => (0, None),
            ParticipantState::Active(role) => (1, Some(role)),
            ParticipantState::Leaving(role) => (2, Some(role)),
            ParticipantState::Recovering(role) => (3, Some(role)),
        };
        let role = role.map_or(0, |role| if role == Role::Sender { 1 } else { 2 });
        Self(self.0 & !0xFF | role << 4 | code)
    }

    /// An impossible word is a free entry: then nobody relies on it.
    fn state(self) -> ParticipantState {
        let role = if self.0 >> 4 & 0xF == 1 { Role::Sender } else { Role::Receiver };
        match self.0 & 0xF {
            1 => ParticipantState::Active(role),
            2 => ParticipantState::Leaving(role),
            3 => ParticipantState::Recovering(role),
            _ => ParticipantState::Free,
        }
    }

    fn died(self, role: Role) -> u64 {
        let shift = if role == Role::Sender { 8 } else { 8 + DIED_BITS };
        self.0 >> shift & DIED_MASK
    }

    fn with_death(self, role: Role) -> Self {
        let shift = if role == Role::Sender { 8 } else { 8 + DIED_BITS };
        let died = (self.died(role) + 1) & DIED_MASK;
        Self(self.0 & !(DIED_MASK << shift) | died << shift)
    }
}

/// A word of joins and one more: senders in the lower half, receivers in the upper one. Neither runs over into the other, which says who listens (see
/// the byte stream's listeners) and who has come.
fn one_more(joins: u64, role: Role) -> u64 {
    let (senders, receivers) = (joins as u32, (joins >> 32) as u32);
    let (senders, receivers) = match role {
        Role::Sender => (senders.wrapping_add(1), receivers),
        Role::Receiver => (senders, receivers.wrapping_add(1)),
    };
    u64::from(receivers) << 32 | u64::from(senders)
}

impl Engine {
    fn state_word(&self, participant: Participant) -> StateWord {
        // ORDERING [S1]: SeqCst, with the store in `set_state`: side::adopt decides by who is there, store before load.
        StateWord(self.entry_word(participant, STATE).load(SeqCst))
    }

    fn set_state(&self, participant: Participant, word: StateWord) {
        // ORDERING [S1]: SeqCst, see `state_word`.
        self.entry_word(participant, STATE).store(word.0, SeqCst);
    }

    /// What the table says of a participant.
    pub fn state(&self, participant: Participant) -> ParticipantState {
        self.state_word(participant).state()
    }

    /// Every number of the table.
    pub fn participants(&self) -> impl Iterator<Item = Participant> + use<> {
        (0..self.layout().geometry().participants).map(Participant::new)
    }

    /// Makes the caller a participant. The caller holds the token of `participant`, whose entry is free, and, if the
    /// link limits this role, the removal lock.
    ///
    /// # Errors
    /// If the link was removed, or has as many handles of this role as it was made for.
    pub fn join(&self, participant: Participant, role: Role, identity: Identity) -> Result<(), JoinError> {
        let geometry = self.layout().geometry();
        let limit = if role == Role::Sender { geometry.senders } else { geometry.receivers };
        let census = self.census();
        let there = if role == Role::Sender { census.senders } else { census.receivers };
        if limit != 0 && there >= limit {
            return Err(JoinError::RoleTaken(there));
        }
        let pid = u64::from(identity.pid);
        for (field, value) in [(PID, pid), (NAMESPACE, identity.namespace), (JOINED_AT, identity.now_ns)] {
            // ORDERING: relaxed, published by the state word.
            self.entry_word(participant, field).store(value, Relaxed);
        }
        let work = &self.hot(participant)[WORK];
        // ORDERING: relaxed, published by the state word.
        work.store(work.load(Relaxed) & !BUSY, Relaxed);
        let word = self.state_word(participant);
        self.set_state(participant, word.with(ParticipantState::Active(role)));
        // After the state: if this process is killed in between, its death is counted instead.
        let joins = self.entry_word(participant, JOINS);
        // ORDERING: relaxed, one writer; published by the membership word.
        joins.store(one_more(joins.load(Relaxed), role), Relaxed);
        if !self.bump_membership() {
            self.set_state(participant, word.with(ParticipantState::Free));
            return Err(JoinError::Removed);
        }
        // ORDERING [S1]: SeqCst, with the fence in side::take_over: this handle reads the mode of its side after its state
        // can be seen.
        fence(SeqCst);
        Ok(())
    }

    /// Adds one to the version; false if the link is removed.
    pub(crate) fn bump_membership(&self) -> bool {
        // ORDERING [S1] [S2]: SeqCst; publishes the state stored before, and meets the remover's CAS.
        self.control(MEMBERSHIP).fetch_add(1, SeqCst) & REMOVED == 0
    }

    /// First half of leaving in good order: the handle no longer counts. [`Self::finish_leave`] follows after the peers were woken.
    pub fn begin_leave(&self, participant: Participant) {
        let word = self.state_word(participant);
        if let ParticipantState::Active(role) = word.state() {
            self.resign_sides(participant);
            if self.layout().is_broadcast() {
                self.stop_listening(participant);
            }
            self.set_state(participant, word.with(ParticipantState::Leaving(role)));
        }
        self.bump_membership();
    }

    /// Second half of leaving: the entry is free.
    pub fn finish_leave(&self, participant: Participant) {
        let word = self.state_word(participant);
        self.set_state(participant, word.with(ParticipantState::Free));
        self.bump_membership();
    }

    /// Marks a dead participant; the caller holds its token. Tells its role if there is anything to recover.
    pub(crate) fn begin_recovery(&self, participant: Participant) -> Option<(Role, bool)> {
        let word = self.state_word(participant);
        let role = word.state().role()?;
        let was_open = matches!(word.state(), ParticipantState::Active(_));
        // One store marks and counts, so a second recovery after a kill in the first does not count again.
        let counted = if was_open { word.with_death(role) } else { word };
        self.set_state(participant, counted.with(ParticipantState::Recovering(role)));
        Some((role, was_open))
    }

    /// The version of the membership: while it stands still, so does [`Self::census`].
    #[inline]
    pub fn membership_version(&self) -> u64 {
        // ORDERING [S1]: acquire; the states counted at this version.
        self.control(MEMBERSHIP).load(Acquire)
    }

    /// Counts who is there.
    pub fn census(&self) -> Census {
        let mut census = Census { version: self.membership_version(), ..Census::default() };
        for participant in self.participants() {
            let word = self.state_word(participant);
            match word.state() {
                ParticipantState::Active(Role::Sender) => census.senders += 1,
                ParticipantState::Active(Role::Receiver) => census.receivers += 1,
                _ => {}
            }
            // ORDERING: relaxed; published by the membership word.
            let joins = self.entry_word(participant, JOINS).load(Relaxed);
            census.senders_joined = census.senders_joined.wrapping_add(joins as u32);
            census.receivers_joined = census.receivers_joined.wrapping_add((joins >> 32) as u32);
            census.senders_died += word.died(Role::Sender);
            census.receivers_died += word.died(Role::Receiver);
        }
        census
    }

    /// Whether the link's name was, or is about to be, removed.
    pub fn is_removed(&self) -> bool {
        self.membership_version() & REMOVED != 0
    }

    /// Decides that the link ends, if nobody is there, no message is left, and nobody joins at this moment. True if it
    /// ended by this call or before; then its name may be removed.
    pub fn try_remove(&self) -> bool {
        let version = self.membership_version();
        if version & REMOVED != 0 {
            return true;
        }
        let nobody = self.participants().all(|p| self.state(p) == ParticipantState::Free);
        // ORDERING [S2]: SeqCst; fails if anyone joined since `version` was read.
        nobody
            && self.is_drained()
            && self.control(MEMBERSHIP).compare_exchange(version, version | REMOVED, SeqCst, SeqCst).is_ok()
    }

    /// Ends the link whoever is there: those who are go on with each other, nobody joins any more.
    pub fn remove(&self) {
        // ORDERING [S2]: SeqCst, as `try_remove`.
        self.control(MEMBERSHIP).fetch_or(REMOVED, SeqCst);
    }

    /// One entry, for people.
    pub fn entry(&self, participant: Participant) -> Entry {
        // ORDERING: relaxed; figures for people.
        let field = |at| self.entry_word(participant, at).load(Relaxed);
        // ORDERING: relaxed; figures for people.
        let hot = |at: usize| self.hot(participant)[at].load(Relaxed);
        Entry {
            participant,
            state: self.state(participant),
            pid: field(PID) as u32,
            namespace: field(NAMESPACE),
            joined_ns: field(JOINED_AT),
            counters: Counters {
                messages: hot(WORK) / MESSAGE,
                bytes: hot(BYTES),
                dropped: hot(LOSSES) >> DROPPED_SHIFT,
                redelivered: hot(REDELIVERED),
                skipped: hot(SKIPPED),
                slept: hot(SLEPT),
            },
        }
    }

    /// Adds to a counter of one's own hot line: it has one writer, so this is a plain load and store.
    #[inline(always)]
    pub(crate) fn count(&self, participant: Participant, field: usize, by: u64) {
        add(&self.hot(participant)[field], by);
    }

    /// Counts a message that one sent or took, outside of an operation.
    pub(crate) fn count_message(&self, me: Participant, len: usize) {
        self.count(me, BYTES, len as u64);
        let work = &self.hot(me)[WORK];
        // ORDERING [S7@side]: release; who revokes the side may see this store and not the one that lowered `busy`.
        work.store(work.load(Relaxed).wrapping_add(MESSAGE), Release);
    }

    /// Messages dropped on this link so far, by everybody together.
    pub fn dropped(&self) -> u64 {
        // ORDERING: relaxed; a sum of single-writer counters.
        self.participants().map(|p| self.hot(p)[LOSSES].load(Relaxed) >> DROPPED_SHIFT).fold(0, u64::wrapping_add)
    }

    /// Notes that a participant goes to sleep.
    pub fn count_sleep(&self, participant: Participant) {
        self.count(participant, SLEPT, 1);
    }
}

/// Adds to a word that has one writer.
#[inline(always)]
pub(crate) fn add(word: &AtomicU64, by: u64) {
    // ORDERING: relaxed, one writer; figures for people, or ordered by the word that follows.
    word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_keeps_its_deaths() {
        let mut word = StateWord(0);
        assert_eq!(word.state(), ParticipantState::Free);
        for n in 1..=5 {
            word = word.with_death(Role::Sender).with(ParticipantState::Recovering(Role::Sender));
            assert_eq!((word.died(Role::Sender), word.died(Role::Receiver)), (n, 0));
        }
        word = word.with_death(Role::Receiver).with(ParticipantState::Free);
        assert_eq!((word.died(Role::Sender), word.died(Role::Receiver)), (5, 1));
        assert_eq!(word.state(), ParticipantState::Free);
    }

    #[test]
    fn joins_of_senders_are_none_of_receivers() {
        let most = u64::from(u32::MAX);
        assert_eq!(one_more(7 << 32 | most, Role::Sender), 7 << 32, "a listener stays the seventh, whoever connects");
        assert_eq!(one_more(most << 32 | 7, Role::Receiver), 7);
        assert_eq!(one_more(one_more(0, Role::Sender), Role::Receiver), 1 << 32 | 1);
    }
}
