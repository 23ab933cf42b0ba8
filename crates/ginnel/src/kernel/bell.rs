//! A word in shared memory on which an end sleeps that has no descriptor to wait for, and which its peers ring. It is even, and odd once somebody is about
//! to sleep; to ring is to make it even again, a number that it has not had for long, and to wake all. So who rings makes a system call only if
//! somebody sleeps, and a sleeper that was killed costs the next one that rings a single call.
//!
//! The word and the queue are two things, one here and one in the kernel. A sleeper makes the word odd, then looks into the queue, then sleeps; who rings
//! has put something into the queue (or taken it out), then looks at the word. The kernel locks the queue for either look, so one of them comes
//! first: the sleeper finds what was put there, or its odd word is seen. Whatever else the word is made to hold costs time at most.
//!
//! | pair | release side | acquire side | publishes |
//! |---|---|---|---|
//! | `[S1]` | `fetch_or`, `announce` | load, `ring` | that somebody is about to sleep |

use super::book::{RECEIVERS_SLEEP, SENDERS_SLEEP};
use super::presence::Presence;
use ginnel_core::Role;
use ginnel_os::futex;
use ginnel_os::mmap::Mapping;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Both words, as one end sees them.
pub(super) struct Bell {
    mapping: Mapping,
    role: Role,
}

impl Bell {
    pub(super) fn of(presence: &Presence, role: Role) -> io::Result<Self> {
        Ok(Self { mapping: presence.map()?, role })
    }

    fn word_of(&self, role: Role) -> &AtomicU32 {
        let at = if role == Role::Sender { SENDERS_SLEEP } else { RECEIVERS_SLEEP };
        self.mapping.shared().atomic_u32(at).expect("it is in the mapping, and aligned")
    }

    /// What this end sleeps on.
    pub(super) fn word(&self) -> &AtomicU32 {
        self.word_of(self.role)
    }

    /// Wakes the peers. After the change that they sleep for.
    pub(super) fn ring(&self) {
        let word = self.word_of(if self.role == Role::Sender { Role::Receiver } else { Role::Sender });
        // ORDERING [S1]: SeqCst; after the system call that changed the queue, see above.
        let value = word.load(SeqCst);
        // Of several who ring one has to wake.
        if value & 1 != 0 && word.compare_exchange(value, value.wrapping_add(1), SeqCst, SeqCst).is_ok() {
            let _ = futex::wake_all(word);
        }
    }
}

/// Says that somebody is about to sleep; the value to sleep on, if what it waits for is not there when it looks again.
pub(super) fn announce(word: &AtomicU32) -> u32 {
    // ORDERING [S1]: SeqCst; before the system call that looks into the queue again, see above.
    word.fetch_or(1, SeqCst) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_os::futex::{Deadline, Woken};
    use std::time::{Duration, Instant};

    /// Both ends in one mapping.
    fn ends() -> [Bell; 2] {
        let file = ginnel_os::memfd::create("bell", 32, Default::default()).unwrap();
        [Role::Sender, Role::Receiver].map(|role| {
            let mapping = Mapping::of_file(std::os::fd::AsFd::as_fd(&file), 32, true).unwrap();
            Bell { mapping, role }
        })
    }

    #[test]
    fn who_sleeps_is_woken_by_the_peer_and_not_by_its_like() {
        let [sender, receiver] = ends();
        let long = Deadline::at(Instant::now() + Duration::from_secs(20));
        let value = announce(receiver.word());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex::wait(receiver.word(), value, long).unwrap());
            std::thread::sleep(Duration::from_millis(20));
            receiver.ring();
            std::thread::sleep(Duration::from_millis(20));
            assert!(!sleeper.is_finished());
            sender.ring();
            assert_eq!(sleeper.join().unwrap(), Woken::Look);
        });
    }

    #[test]
    fn who_rings_between_announcement_and_sleep_is_heard() {
        let [sender, receiver] = ends();
        let value = announce(receiver.word());
        sender.ring();
        assert_eq!(futex::wait(receiver.word(), value, Deadline::NEVER).unwrap(), Woken::Look);
        let word = receiver.word().load(SeqCst);
        sender.ring();
        assert_eq!(receiver.word().load(SeqCst), word, "nobody sleeps");
    }
}
