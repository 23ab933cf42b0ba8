//! Who may work on one end of the ring. A side is either *exclusive* to one participant, which then needs no locked
//! operation, or *shared*, where each claim is a compare-and-swap. Links with one sender and one receiver are the most
//! common: they never pay for more. The first participant that works on a side gets it; when a second one comes, it is
//! revoked once. The idea is biased locking (Kawachiya et al., OOPSLA 2002), the fence is `membarrier(2)`.
//!
//! ```text
//! mode word: version 46 bits | mode 2 | owner 16
//!
//!          first operation            second participant's first operation
//! NONE ------------------> EXCLUSIVE(a) ---------------------> REVOKING(a)
//!  ^                          |   ^                               |
//!  |         a leaves         |   | alone at its first operation  | a is not busy: checked after a heavy fence
//!  +--------------------------+   +--------------------- SHARED <-+
//!                                                          ^ a died
//! ```
//! The owner raises `busy`, a bit of its entry's work word, before it looks at the mode, and lowers it after the operation. The revoker writes
//! REVOKING, passes the heavy fence, and waits until `busy` is down. Either the owner saw REVOKING and did nothing, or
//! the revoker sees it busy.
//!
//! [I1] Nobody works on a side while it is REVOKING.
//! [I2] A side becomes EXCLUSIVE only from NONE, or from SHARED when no other participant of that role has an entry.
//! [I3] `busy` is held for a bounded number of instructions, never while its owner sleeps or its user runs.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | [S6] | `busy` store, light fence, mode load | mode CAS, heavy fence, `busy` load | [I1]: store before load on both sides |
//! | [S7] | `busy` lowered | `busy` load in revoke | the owner's operation |
//! | [S8] | mode CAS to EXCLUSIVE or SHARED | mode load in `enter` | what was done in the former mode |

use crate::engine::Engine;
use crate::header::{CONSUMERS, PRODUCERS};
use crate::layout::Full;
use crate::memory::Line;
use crate::participants::{BUSY, MESSAGE, Participant, Role, WORK};
use crate::sync::{Acquire, Relaxed, Release, SeqCst, fence};
use core::cell::Cell;

const MODE_SHIFT: u32 = 16;
const VERSION_SHIFT: u32 = 18;

const NONE: u64 = 0;
const SHARED: u64 = 1;
const EXCLUSIVE: u64 = 2;
const REVOKING: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Mode(u64);

impl Mode {
    fn kind(self) -> u64 {
        self.0 >> MODE_SHIFT & 3
    }

    fn owner(self) -> u64 {
        self.0 & 0xFFFF
    }

    fn next(self, kind: u64, owner: u64) -> Self {
        let version = (self.0 >> VERSION_SHIFT).wrapping_add(1);
        Self(version << VERSION_SHIFT | kind << MODE_SHIFT | owner)
    }
}

/// How an operation may proceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// Without locked operations; [`Engine::leave_side`] ends it.
    Exclusive {
        /// It was not exclusive at the last operation: private positions are stale.
        anew: bool,
    },
    /// By compare-and-swap.
    Shared,
    /// The side is changing hands: try again.
    Changing,
    /// The mode names an impossible owner.
    Corrupt,
}

/// What a handle remembers of its side between operations.
#[derive(Debug, Default)]
pub(crate) struct Bias {
    /// The mode word with which this handle is exclusive; 0 is never one.
    mine: Cell<u64>,
    /// Version of the membership at which others of this role were last looked for.
    looked_at: Cell<u64>,
}

/// An operation on an exclusive side that has begun: the work word while it lasts.
#[must_use = "until it is left, nobody can revoke the side"]
pub(crate) struct Inside(u64);

impl Inside {
    /// Ends the operation, in which as many messages were sent or taken.
    #[inline(always)]
    pub(crate) fn leave(self, hot: &Line, messages: u64) {
        // ORDERING [S7]: release; the operation lies before it.
        hot[WORK].store((self.0 & !BUSY).wrapping_add(messages.wrapping_mul(MESSAGE)), Release);
    }
}

impl Bias {
    /// As if the side had never been exclusive to this handle.
    pub(crate) fn forget(&self) {
        self.mine.set(0);
    }
}

impl Engine {
    #[inline(always)]
    fn mode_of(&self, role: Role) -> usize {
        if role == Role::Sender { PRODUCERS } else { CONSUMERS }
    }

    /// Begins an operation on a side that was exclusive to the caller last time, whose hot line is `hot`. None if it no longer is. [`Inside::leave`]
    /// ends it.
    #[inline(always)]
    pub(crate) fn enter_exclusive(&self, bias: &Bias, role: Role, hot: &Line) -> Option<Inside> {
        let mine = bias.mine.get();
        if mine == 0 {
            return None;
        }
        let mode = self.control(self.mode_of(role)); // found before the fence, behind which all that is in memory is read again
        // ORDERING: relaxed; one writer.
        let inside = Inside(hot[WORK].load(Relaxed) | BUSY);
        // ORDERING [S6]: relaxed; the light fence orders it before the load of the mode.
        hot[WORK].store(inside.0, Relaxed);
        self.fences().light_of_exclusive();
        // ORDERING [S6] [S8]: acquire; what was done before the side became mine.
        if mode.load(Acquire) == mine {
            return Some(inside);
        }
        inside.leave(hot, 0); // nothing was done
        None
    }

    /// Begins an operation on a side.
    pub(crate) fn enter_side(&self, bias: &Bias, role: Role, me: Participant) -> Entered {
        let mode = self.control(self.mode_of(role));
        if self.enter_exclusive(bias, role, self.hot(me)).is_some() {
            return Entered::Exclusive { anew: false };
        }
        bias.mine.set(0);
        // ORDERING [S8]: acquire; what the exclusive owner did before it became shared.
        if Mode(mode.load(Acquire)).kind() == SHARED && bias.looked_at.get() == self.membership_version() {
            return Entered::Shared;
        }
        self.adopt(bias, role, me)
    }

    /// Ends an operation that began as exclusive.
    pub(crate) fn leave_side(&self, me: Participant) {
        let work = &self.hot(me)[WORK];
        // ORDERING [S7]: release; the operation lies before it. One writer.
        work.store(work.load(Relaxed) & !BUSY, Release);
    }

    /// Whether a shared side may ever become exclusive again: not where senders drop the oldest and so work on both sides,
    /// nor without a heavy fence.
    fn may_be_exclusive(&self, role: Role) -> bool {
        self.fences().asymmetric && (role == Role::Sender || self.layout().geometry().full != Full::DropOldest)
    }

    /// Finds a mode to work in, revoking another's if need be.
    #[cold]
    fn adopt(&self, bias: &Bias, role: Role, me: Participant) -> Entered {
        let word = self.control(self.mode_of(role));
        // ORDERING [S8]: acquire; what was done in the former mode.
        let mode = Mode(word.load(Acquire));
        match mode.kind() {
            NONE if self.may_be_exclusive(role) => self.take_over(bias, role, me, mode),
            NONE => {
                // ORDERING [S8]: SeqCst; nobody works on the side.
                let _ = word.compare_exchange(mode.0, mode.next(SHARED, 0).0, SeqCst, Relaxed);
                Entered::Changing
            }
            SHARED => {
                bias.looked_at.set(self.membership_version());
                if self.may_be_exclusive(role) && self.alone(role, me) {
                    return self.take_over(bias, role, me, mode);
                }
                Entered::Shared
            }
            EXCLUSIVE => {
                let revoking = mode.next(REVOKING, mode.owner());
                // ORDERING [S6]: SeqCst, then the heavy fence in `revoke`.
                if word.compare_exchange(mode.0, revoking.0, SeqCst, Relaxed).is_err() {
                    return Entered::Changing;
                }
                self.revoke_pinned(role, revoking, me)
            }
            _ => self.revoke_pinned(role, mode, me),
        }
    }

    /// Looks at slots by positions that others move: see `growth`.
    fn revoke_pinned(&self, role: Role, revoking: Mode, me: Participant) -> Entered {
        let pin = self.pin(me);
        let entered = self.revoke(role, revoking, me);
        self.unpin(pin);
        entered
    }

    /// Makes the side exclusive to `me`, from NONE, or from SHARED when nobody else of the role was there.
    fn take_over(&self, bias: &Bias, role: Role, me: Participant, mode: Mode) -> Entered {
        let word = self.control(self.mode_of(role));
        let mine = mode.next(EXCLUSIVE, me.owner());
        // ORDERING [S8]: SeqCst; takes over what the last owners did.
        if word.compare_exchange(mode.0, mine.0, SeqCst, Relaxed).is_err() {
            return Entered::Changing;
        }
        // One who joined since stored its state before it read the mode, so either it is seen here, or it saw `mine`.
        // ORDERING [S1@participants]: SeqCst, with the fence in `join`; store before load on both sides.
        fence(SeqCst);
        if mode.kind() == SHARED && !self.alone(role, me) {
            // ORDERING [S8]: SeqCst; nothing was done while the side was mine.
            let _ = word.compare_exchange(mine.0, mine.next(SHARED, 0).0, SeqCst, Relaxed);
            return Entered::Changing;
        }
        bias.mine.set(mine.0);
        match self.enter_side(bias, role, me) {
            Entered::Exclusive { .. } => Entered::Exclusive { anew: true },
            other => other,
        }
    }

    /// Makes a side that is being revoked shared, if its owner is not inside an operation. That may be `me`, whose revoker was killed or gave up: it is inside
    /// none, though `busy` is up, as it has pinned what it looks at.
    fn revoke(&self, role: Role, revoking: Mode, me: Participant) -> Entered {
        self.fences().heavy();
        let Some(owner) = self.participant(revoking.owner()) else {
            return Entered::Corrupt;
        };
        // ORDERING [S6] [S7]: acquire after the heavy fence; the owner's last operation.
        if owner == me || self.hot(owner)[WORK].load(Acquire) & BUSY == 0 {
            match role {
                Role::Sender => _ = self.settle_tail(),
                Role::Receiver => self.mark_held(owner), // from now on, others must be able to tell what is its
            }
            let shared = revoking.next(SHARED, 0);
            // ORDERING [S8]: SeqCst; the owner's operations lie before it.
            let _ = self.control(self.mode_of(role)).compare_exchange(revoking.0, shared.0, SeqCst, Relaxed);
        }
        Entered::Changing
    }

    /// Whether a side is exclusive to this participant, or being revoked from it.
    pub(crate) fn is_exclusive_to(&self, role: Role, participant: Participant) -> bool {
        // ORDERING [S8]: acquire; the participant's operations.
        let mode = Mode(self.control(self.mode_of(role)).load(Acquire));
        mode.kind() >= EXCLUSIVE && mode.owner() == participant.owner()
    }

    /// Gives up both sides: its holder leaves.
    pub(crate) fn resign_sides(&self, participant: Participant) {
        self.end_exclusive(participant, NONE);
    }

    /// The same for one that is dead, whose token the caller holds. It may have been killed in [`Self::take_over`], when it did not
    /// know yet that somebody else is at work on the side, which was shared [I2]: so it is shared again, and whoever is alone takes it over.
    pub(crate) fn resign_sides_of_dead(&self, participant: Participant) {
        self.end_exclusive(participant, SHARED);
    }

    fn end_exclusive(&self, participant: Participant, then: u64) {
        self.leave_side(participant);
        for role in [Role::Sender, Role::Receiver] {
            let word = self.control(self.mode_of(role));
            loop {
                // ORDERING [S8]: acquire, the CAS decides.
                let mode = Mode(word.load(Acquire));
                let next = match mode.kind() {
                    EXCLUSIVE if mode.owner() == participant.owner() => mode.next(then, 0),
                    REVOKING if mode.owner() == participant.owner() => mode.next(SHARED, 0),
                    _ => break,
                };
                if role == Role::Sender {
                    let pin = self.pin(participant);
                    self.settle_tail();
                    self.unpin(pin);
                }
                // ORDERING [S8]: SeqCst; the participant's operations lie before it.
                if word.compare_exchange(mode.0, next.0, SeqCst, Relaxed).is_ok() {
                    break;
                }
            }
        }
    }

    /// Whether no other participant of this role has an entry.
    fn alone(&self, role: Role, me: Participant) -> bool {
        self.participants().all(|other| other == me || self.state(other).role() != Some(role))
    }
}
