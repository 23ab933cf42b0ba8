//! What is decided by chance, from the seed: which round has which link, who sits where, who is killed when.

use super::dice::Dice;

/// A shape of conversation, as `--shape` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One sender, one receiver, bounded.
    Pair,
    /// Several of each, bounded.
    Queue,
    Unbounded,
    Broadcast,
    /// Senders that do not wait for receivers.
    Lossy,
    Latest,
    Request,
    Mailbox,
    Stream,
}

impl Shape {
    pub(crate) const ALL: [Self; 9] = [
        Self::Pair,
        Self::Queue,
        Self::Unbounded,
        Self::Broadcast,
        Self::Lossy,
        Self::Latest,
        Self::Request,
        Self::Mailbox,
        Self::Stream,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Queue => "queue",
            Self::Unbounded => "unbounded",
            Self::Broadcast => "broadcast",
            Self::Lossy => "lossy",
            Self::Latest => "latest",
            Self::Request => "request",
            Self::Mailbox => "mailbox",
            Self::Stream => "stream",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Whether each message goes to one receiver, and none is passed over.
    pub(crate) fn is_queue(self) -> bool {
        matches!(self, Self::Pair | Self::Queue | Self::Unbounded | Self::Request | Self::Mailbox)
    }
}

/// What a seat does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends, calls, connects; leaves when the round drains.
    Sender,
    /// Receives, serves, accepts; leaves when the round ends. Also a mailbox, which does both.
    Receiver,
}

/// A part that some process always has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) role: Role,
    /// Its number among those of its role.
    pub(crate) index: usize,
    /// Whether its process may be killed. One that is not shows leaks over its whole life.
    pub(crate) is_mortal: bool,
}

/// What a worker does wrong on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// A receiver takes a message and says nothing.
    Lose,
    /// A sender sends a message twice.
    Repeat,
    /// A sender sends two messages in the wrong order.
    Swap,
    /// A byte changes on its way.
    Tear,
    /// A receiver neither receives nor leaves.
    Sleep,
    /// A file is left.
    File,
    /// Descriptors are left open.
    Descriptor,
    /// A message is kept in hand for ever.
    Hold,
}

impl Sabotage {
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (Self::None, "none"),
        (Self::Lose, "lose"),
        (Self::Repeat, "repeat"),
        (Self::Swap, "swap"),
        (Self::Tear, "tear"),
        (Self::Sleep, "sleep"),
        (Self::File, "file"),
        (Self::Descriptor, "descriptor"),
        (Self::Hold, "hold"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(one, _)| *one == self).map_or("none", |(_, name)| name)
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(_, one)| *one == name).map_or(Self::None, |(one, _)| *one)
    }
}

/// What stage and workers of a round agree on: all of it comes from these three numbers.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) round: u64,
    /// Of the link, as in an address.
    pub(crate) options: String,
    pub(crate) seats: Vec<Seat>,
    /// Longest message.
    pub(crate) longest: usize,
    /// Whether messages are also sent and received several at a time.
    pub(crate) batches: bool,
    /// One of how many lives has few descriptors; 0 for none.
    pub(crate) famine: u64,
    pub(crate) sabotage: Sabotage,
}

/// Most messages that are sent at once, or are in one receiver's hands.
pub(crate) const BATCH: u64 = 16;
/// Largest message that is sent anywhere.
const LONGEST: usize = 1_200_000;

impl Scene {
    pub(crate) fn new(seed: u64, shape: Shape, round: u64) -> Self {
        let mut dice = dice(seed, shape, round, 0);
        let (senders, receivers) = match shape {
            Shape::Pair => (1, 1),
            Shape::Mailbox => (0, 3),
            Shape::Lossy => (1 + round as usize % 2, 2),
            Shape::Stream => (3, 1),
            Shape::Broadcast => (2, 3),
            _ => (2 + dice.index(2), 2),
        };
        let mut seats = Vec::new();
        for (role, count) in [(Role::Sender, senders), (Role::Receiver, receivers)] {
            for index in 0..count {
                let is_mortal = count == 1 || index > 0 || dice.one_in(2);
                seats.push(Seat { role, index, is_mortal });
            }
        }
        let longest = if dice.one_in(3) { 100 } else { LONGEST };
        let options = options(shape, &mut dice);
        let (batches, famine) = (dice.one_in(2), 4);
        Self { seed, shape, round, options, seats, longest, batches, famine, sabotage: Sabotage::None }
    }

    pub(crate) fn senders(&self) -> usize {
        self.seats.iter().filter(|seat| seat.role == Role::Sender).count()
    }

    pub(crate) fn receivers(&self) -> usize {
        self.seats.len() - self.senders()
    }

    /// Sequences of messages: one for each sender; of mailboxes, one for each pair.
    pub(crate) fn channels(&self) -> usize {
        match self.shape {
            Shape::Mailbox => self.receivers() * self.receivers(),
            _ => self.senders(),
        }
    }

    /// Whether lives of a seat may have few descriptors.
    ///
    /// Not servers that may be killed: one that dies before it could tell a client that it has no descriptor leaves that call without an end, as is said at
    /// `call::Server`.
    pub(crate) fn may_starve(&self, seat: usize) -> bool {
        let Seat { role, is_mortal, .. } = self.seats[seat];
        match (self.shape, role) {
            (_, Role::Sender) => true,
            (Shape::Request, _) => !is_mortal,
            _ => true,
        }
    }

    /// Where a seat's messages go.
    pub(crate) fn channels_of(&self, seat: usize) -> std::ops::Range<usize> {
        let Seat { role, index, .. } = self.seats[seat];
        match (self.shape, role) {
            (Shape::Mailbox, _) => index * self.receivers()..(index + 1) * self.receivers(),
            (_, Role::Sender) => index..index + 1,
            (_, Role::Receiver) => 0..0,
        }
    }

    /// Chance for one life of one seat.
    pub(crate) fn dice_of(&self, seat: usize, life: u64) -> Dice {
        dice(self.seed, self.shape, self.round, 1 + (seat as u64) + (life << 8))
    }

    /// Chance for who is killed when.
    pub(crate) fn dice_of_stage(&self) -> Dice {
        dice(self.seed, self.shape, self.round, u64::MAX)
    }

    /// How it is run again.
    pub(crate) fn again(&self) -> String {
        format!("--seed {} --shape {} --round {}", self.seed, self.shape.name(), self.round)
    }
}

fn dice(seed: u64, shape: Shape, round: u64, part: u64) -> Dice {
    let mut dice = Dice::new(seed);
    let mut mixed = dice.roll();
    for number in [shape as u64, round, part] {
        mixed = Dice::new(mixed ^ number).roll();
    }
    Dice::new(mixed)
}

/// Options for the link of a round.
fn options(shape: Shape, dice: &mut Dice) -> String {
    // More who spin than there are cores hold each other up for time slices.
    let ways: &[&str] =
        if shape == Shape::Pair { &["adaptive", "block", "spin"] } else { &["adaptive", "adaptive", "block"] };
    let wait = dice.pick(ways);
    let capacity = 1u64 << dice.pick(&[2u32, 4, 6, 8, 10]);
    let capacity = format!("capacity={capacity}&max=2MiB&memory=64MiB&wait={wait}");
    match shape {
        Shape::Pair if dice.one_in(2) => format!("{capacity}&senders=1&receivers=1"),
        Shape::Pair | Shape::Queue | Shape::Request | Shape::Mailbox => capacity,
        Shape::Unbounded => {
            let memory = dice.pick(&["8MiB", "64MiB", "256MiB"]);
            format!("unbounded&max=2MiB&memory={memory}&wait={wait}")
        }
        Shape::Broadcast => format!("shape=broadcast&{capacity}"),
        Shape::Lossy => format!("shape=broadcast&{capacity}&full={}", dice.pick(&["drop-oldest", "cut-off"])),
        Shape::Latest => format!("shape=latest&max=2MiB&capacity={}&wait={wait}", 4 << dice.below(3)),
        Shape::Stream => format!("wait={wait}"),
    }
}
