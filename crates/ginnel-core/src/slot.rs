//! The word of a slot: lap, state and owner in 64 bits, so that one store or one compare-and-swap changes all three.
//!
//! ```text
//! 63                                19 18  16 15           0
//! +-----------------------------------+------+--------------+
//! | lap (45 bits)                     | state| owner        |
//! +-----------------------------------+------+--------------+
//! ```
//! The owner is a participant's number plus one, and 0 where the state has none. A word of zero is a free slot of lap
//! 0: a file full of zeros is an empty ring.
//!
//! | state    | who may change it                     | to                                        |
//! |----------|---------------------------------------|-------------------------------------------|
//! | FREE     | a producer at this position           | WRITING (shared side), READY (exclusive)  |
//! | WRITING  | its owner; who recovers its owner     | READY; SKIP                               |
//! | READY    | a consumer; a revoker in its holder's name | READING                               |
//! | READING  | its owner; who recovers its owner     | FREE of the next lap; RETURNED            |
//! | READY, READING | nobody, if `released` has passed it [I6@ring]: a producer of the next lap | WRITING, READY |
//! | RETURNED | a consumer                            | READING                                   |
//! | SKIP     | a consumer                            | FREE of the next lap                      |
//!
//! [I1] Only the owner named by a word, or the one who holds the dead owner's token, changes a WRITING or READING word, unless [I6@ring].
//! [I2] The lap of a slot's word never decreases. It grows by one from READING to FREE, or, where `released` (see `ring`) says
//! that the message is gone, when the next producer claims the slot.

use crate::participants::Participant;

const STATE_SHIFT: u32 = 16;
const LAP_SHIFT: u32 = 19;
const LAP_MASK: u64 = (1 << (64 - LAP_SHIFT)) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Writing = 1,
    Ready = 2,
    Reading = 3,
    Returned = 4,
    Skip = 5,
}

/// A slot's word, unpacked by methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

/// How the lap of a word stands to the lap that a position expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lap {
    Same,
    /// One behind: the slot still holds the message of one lap ago.
    Before,
    /// One ahead: the position is stale.
    After,
    /// No run of the protocol leads here, unless the position was read long ago.
    Far,
}

impl Word {
    #[inline(always)]
    pub(crate) fn new(lap: u64, state: State, owner: Option<Participant>) -> Self {
        let owner = owner.map_or(0, Participant::owner);
        Self((lap & LAP_MASK) << LAP_SHIFT | (state as u64) << STATE_SHIFT | owner)
    }

    #[inline(always)]
    pub(crate) fn free(lap: u64) -> Self {
        Self::new(lap, State::Free, None)
    }

    #[inline(always)]
    pub(crate) fn ready(lap: u64) -> Self {
        Self::new(lap, State::Ready, None)
    }

    #[inline(always)]
    pub(crate) fn reading(lap: u64, by: Participant) -> Self {
        Self::new(lap, State::Reading, Some(by))
    }

    #[inline(always)]
    pub(crate) fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// The state, or nothing if the bits mean none.
    #[inline(always)]
    pub(crate) fn state(self) -> Option<State> {
        Some(match (self.0 >> STATE_SHIFT) & 7 {
            0 => State::Free,
            1 => State::Writing,
            2 => State::Ready,
            3 => State::Reading,
            4 => State::Returned,
            5 => State::Skip,
            _ => return None,
        })
    }

    #[inline(always)]
    pub(crate) fn is_owned_by(self, participant: Participant) -> bool {
        self.0 & 0xFFFF == participant.owner()
    }

    /// Whether a producer claimed the slot in this lap or a later one.
    pub(crate) fn is_claimed_in(self, lap: u64) -> bool {
        match self.against(lap) {
            Lap::Same => self.state() != Some(State::Free),
            Lap::After => true,
            _ => false,
        }
    }

    /// Whether the message of this lap was released, by the slot's word.
    pub(crate) fn is_released_in(self, lap: u64) -> bool {
        self.against(lap) == Lap::After
    }

    /// Whether the slot holds a committed message of this lap.
    pub(crate) fn holds_message_of(self, lap: u64) -> bool {
        self.against(lap) == Lap::Same && matches!(self.state(), Some(State::Ready | State::Reading | State::Returned))
    }

    /// How many laps it is behind another; laps wrap after 2^45.
    pub(crate) fn laps_before(self, lap: u64) -> u64 {
        lap.wrapping_sub(self.lap()) & LAP_MASK
    }

    /// Compares with the lap expected at a position; laps wrap after 2^45.
    #[inline(always)]
    pub(crate) fn against(self, lap: u64) -> Lap {
        match self.lap().wrapping_sub(lap) & LAP_MASK {
            0 => Lap::Same,
            1 => Lap::After,
            LAP_MASK => Lap::Before,
            _ => Lap::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_a_free_slot_of_lap_zero() {
        assert_eq!(Word(0), Word::free(0));
        assert_eq!(Word(0).state(), Some(State::Free));
    }

    #[test]
    fn a_word_names_its_owner() {
        let (a, b) = (Participant::new(0), Participant::new(1));
        let word = Word::reading(7, a);
        assert!(word.is_owned_by(a) && !word.is_owned_by(b));
        assert!(!Word::ready(7).is_owned_by(a));
        assert_eq!((word.lap(), word.state()), (7, Some(State::Reading)));
    }

    #[test]
    fn laps_compare_across_the_wrap() {
        assert_eq!(Word::free(0).against(LAP_MASK), Lap::After);
        assert_eq!(Word::free(LAP_MASK).against(0), Lap::Before);
        assert_eq!(Word::free(5).against(5), Lap::Same);
        assert_eq!(Word::free(9).against(5), Lap::Far);
        assert_eq!((Word::free(4).laps_before(5), Word::free(LAP_MASK).laps_before((1 << 50) + 1)), (1, 2));
    }

    #[test]
    fn meaningless_states_are_refused() {
        assert_eq!(Word(6 << STATE_SHIFT).state(), None);
        assert_eq!(Word(7 << STATE_SHIFT).state(), None);
    }
}
