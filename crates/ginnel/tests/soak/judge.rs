//! The verdict on a round: from the ledger and from what the stage saw, and from nothing that the library says of itself.
//!
//! | rule | how |
//! |---|---|
//! | lost | of a queue: a message below `begun` that is not in doubt and has no mark. Of a broadcast: a gap that doubts do not explain |
//! | duplicated | noted when it came; and redeliveries, if there are more than the receivers that were killed can have had in hand |
//! | in doubt | what was begun and not sent when its sender died; what a client was told about |
//! | a stream | each way: what was sent <= what was read <= what was begun, where reading ended; its end only after closing, a reset only after a kill |

use std::ops::Range;

use super::audit::Leak;
use super::ledger::{ARRIVED, Count, Ending, Event, Kind, Ledger, Way};
use super::schedule::{BATCH, Role, Scene, Shape};

/// What a mailbox has set aside is in its hand, and may be all that it holds.
const ASIDE: u64 = 1024;
/// Findings that are kept in words.
const WORDS_MAX: usize = 40;

/// The messages of one sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) number: usize,
    pub(crate) begun: u64,
    /// These may have been sent or not.
    pub(crate) doubts: Vec<Range<u64>>,
}

impl Channel {
    fn is_in_doubt(&self, seq: u64) -> bool {
        self.doubts.iter().any(|doubt| doubt.contains(&seq))
    }

    fn doubts_in(&self, range: &Range<u64>) -> u64 {
        range.clone().filter(|seq| self.is_in_doubt(*seq)).count() as u64
    }

    /// Messages that were sent and did not arrive.
    pub(crate) fn missing<'a>(&'a self, ledger: &'a Ledger) -> impl Iterator<Item = u64> + 'a {
        (0..self.begun).filter(|seq| ledger.mark_of(self.number, *seq) & ARRIVED == 0 && !self.is_in_doubt(*seq))
    }
}

/// What the stage saw.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) channels: Vec<Channel>,
    pub(crate) events: Vec<Event>,
    pub(crate) more_events: u64,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    /// Messages that killed receivers, or senders, can have had in hand.
    pub(crate) in_hands: u64,
    pub(crate) in_claims: u64,
    pub(crate) stuck: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) leaks: Vec<Leak>,
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
    pub(crate) famines: u64,
    pub(crate) told: u64,
    pub(crate) reopened: u64,
    pub(crate) vanished: u64,
    pub(crate) recovery_ns: u64,
}

impl Account {
    pub(crate) fn new(_: &Scene) -> Self {
        Self::default()
    }

    /// Somebody was killed.
    pub(crate) fn killed(&mut self, role: Role, shape: Shape) {
        let is_mailbox = shape == Shape::Mailbox;
        if role == Role::Receiver {
            self.in_hands += if is_mailbox { ASIDE } else { BATCH };
        }
        if role == Role::Sender || is_mailbox {
            self.in_claims += BATCH;
        }
    }

    /// What the seats counted, and where it is added up.
    pub(crate) fn sums(&mut self) -> [(Count, &mut u64); 6] {
        [
            (Count::Received, &mut self.received),
            (Count::Redelivered, &mut self.redelivered),
            (Count::Famines, &mut self.famines),
            (Count::Told, &mut self.told),
            (Count::Reopened, &mut self.reopened),
            (Count::Vanished, &mut self.vanished),
        ]
    }
}

/// What a round came to, or several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) messages: u64,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) famines: u64,
    pub(crate) reopened: u64,
    pub(crate) redelivered: u64,
    pub(crate) told: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) torn: u64,
    pub(crate) stuck: u64,
    pub(crate) leaked_files: u64,
    pub(crate) leaked_descriptors: u64,
    pub(crate) leaked_bytes: u64,
    /// Leaks that are no bytes: entries, messages.
    pub(crate) leaked_entries: u64,
    /// What should not be, and has no column: a process that failed, an error that nobody expects.
    pub(crate) unexpected: u64,
    pub(crate) recovery_ns: u64,
    pub(crate) words: Vec<String>,
}

impl Verdict {
    pub(crate) fn violations(&self) -> u64 {
        let counts = [
            self.lost,
            self.duplicated,
            self.reordered,
            self.torn,
            self.stuck,
            self.leaked_files,
            self.leaked_descriptors,
            self.leaked_bytes,
            self.leaked_entries,
            self.unexpected,
        ];
        counts.iter().sum()
    }

    /// Another round of the same shape.
    pub(crate) fn add(&mut self, other: Self) {
        let pairs = [
            (&mut self.messages, other.messages),
            (&mut self.kills, other.kills),
            (&mut self.stops, other.stops),
            (&mut self.famines, other.famines),
            (&mut self.reopened, other.reopened),
            (&mut self.redelivered, other.redelivered),
            (&mut self.told, other.told),
            (&mut self.lost, other.lost),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.torn, other.torn),
            (&mut self.stuck, other.stuck),
            (&mut self.leaked_files, other.leaked_files),
            (&mut self.leaked_descriptors, other.leaked_descriptors),
            (&mut self.leaked_bytes, other.leaked_bytes),
            (&mut self.leaked_entries, other.leaked_entries),
            (&mut self.unexpected, other.unexpected),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.recovery_ns = self.recovery_ns.max(other.recovery_ns);
        self.words.extend(other.words);
    }

    fn say(&mut self, words: impl Into<String>) {
        if self.words.len() < WORDS_MAX {
            self.words.push(words.into());
        }
    }
}

/// Goes over everything.
pub(crate) fn judge(scene: &Scene, account: &Account, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict {
        messages: account.received,
        kills: account.kills,
        stops: account.stops,
        famines: account.famines,
        reopened: account.reopened,
        redelivered: account.redelivered,
        told: account.told,
        recovery_ns: account.recovery_ns,
        ..Verdict::default()
    };
    let mut channels = account.channels.clone();
    for event in account.events.iter().filter(|event| event.kind == Kind::Told) {
        channels[event.channel].doubts.push(event.a..event.a + 1);
    }
    if scene.shape.is_queue() {
        count_missing(&channels, ledger, &mut verdict);
    }
    for event in &account.events {
        weigh(scene, event, &channels, account, &mut verdict);
    }
    if scene.shape == Shape::Stream {
        connections(scene, ledger, &mut verdict);
    }
    let listeners = scene.receivers() as u64;
    if account.vanished > account.in_claims * listeners {
        verdict.lost += account.vanished - account.in_claims * listeners;
        verdict.say(format!(
            "lost: {} positions of a broadcast were empty, more than dead senders explain",
            account.vanished
        ));
    }
    totals(scene.shape, account, &mut verdict);
    verdict
}

fn count_missing(channels: &[Channel], ledger: &Ledger, verdict: &mut Verdict) {
    for channel in channels {
        for seq in channel.missing(ledger) {
            verdict.lost += 1;
            verdict.say(format!("lost: message {seq} of channel {} was sent and never came", channel.number));
        }
    }
}

/// What one event means.
fn weigh(scene: &Scene, event: &Event, channels: &[Channel], account: &Account, verdict: &mut Verdict) {
    let &Event { kind, seat, life, channel, a, b, c } = event;
    let who = format!("{:?} in seat {seat}, life {life}", scene.seats[seat].role);
    match kind {
        Kind::Told => {}
        Kind::Gap => {
            let range = a..b;
            let lost = (b - a) - channels[channel].doubts_in(&range);
            verdict.lost += lost;
            if lost > 0 {
                verdict.say(format!("lost: {lost} messages of channel {channel} in {range:?} did not come to {who}"));
            }
        }
        Kind::Missed => {
            if !is_explained(event, channels, account) {
                verdict.lost += 1;
                verdict.say(format!(
                    "lost: {who} was told of {c} missed messages of channel {channel}, where {a}..{b} did not come"
                ));
            }
        }
        Kind::Torn => {
            verdict.torn += 1;
            verdict.say(format!("torn: {who}: one of {b} bytes that says it is message {a} ({c})"));
        }
        Kind::Duplicate => {
            verdict.duplicated += 1;
            let marked = if c == 1 { "marked" } else { "not marked" };
            verdict.say(format!(
                "duplicated: message {a} of channel {channel} came to {who} again, {marked}; its mark was {b}"
            ));
        }
        Kind::Reordered => {
            verdict.reordered += 1;
            verdict
                .say(format!("reordered: message {a} of channel {channel} came to {who} where {b} was expected ({c})"));
        }
        Kind::Stale => {
            verdict.lost += 1;
            verdict.say(format!(
                "lost: {who} saw value {a} of channel {channel} as the newest, and {} was there before",
                b - 1
            ));
        }
        Kind::Stuck => {
            verdict.stuck += 1;
            verdict.say(format!(
                "stuck: {who}: nothing for the limit, in operation {a} (message {b} of channel {channel})"
            ));
        }
        Kind::Descriptors => {
            verdict.leaked_descriptors += a - b;
            verdict.say(format!("leaked: {who} has {a} descriptors without a handle, and had {b}"));
        }
        Kind::Mappings => {
            verdict.leaked_entries += a;
            verdict.say(format!("leaked: {who} has {a} mappings of links without a handle"));
        }
        Kind::Unexpected => {
            verdict.unexpected += 1;
            verdict.say(format!("unexpected: {who}: see its words above"));
        }
    }
}

/// Whether doubts explain that what did not come and what was said to be missed differ: one that was begun may have had a place or not.
fn is_explained(event: &Event, channels: &[Channel], account: &Account) -> bool {
    let &Event { channel, a, b, c, .. } = event;
    if channel == usize::MAX {
        let doubts: u64 =
            channels.iter().flat_map(|channel| &channel.doubts).map(|doubt| doubt.end - doubt.start).sum();
        return b <= c + doubts.max(account.in_claims);
    }
    let gap = b - a;
    channels.len() == 1 && c <= gap && c + channels[channel].doubts_in(&(a..b)) >= gap
}

/// Each way of each connection.
fn connections(scene: &Scene, ledger: &Ledger, verdict: &mut Verdict) {
    for seat in 0..scene.seats.len() {
        let count = ledger.count(seat, Count::Connections).min(super::ledger::CONNECTIONS as u64);
        for connection in 0..count {
            let word = |way: Way| ledger.way(seat, connection as usize, way).load(std::sync::atomic::Ordering::Acquire);
            if word(Way::Server) == 0 {
                continue; // it was never served: its client was told so, or killed
            }
            if word(Way::Torn) > 0 {
                verdict.torn += 1;
                let at = word(Way::Torn) - 1;
                verdict.say(format!(
                    "torn: connection {connection} of seat {seat}: the server read something else behind byte {at}"
                ));
            }
            // Whoever was killed after this client had connected may have been the one who accepted it, before another did.
            let killed = word(Way::ServerKilled).max(u64::from(word(Way::KillsAfter) > word(Way::KillsBefore)));
            let up = [Way::UpBegun, Way::UpSent, Way::UpRead, Way::UpEnd, Way::UpClosing, Way::ClientKilled].map(word);
            let [begun, sent, read, end, closing] =
                [Way::DownBegun, Way::DownSent, Way::DownRead, Way::DownEnd, Way::DownClosing].map(word);
            let down = [begun, sent, read, end, closing, killed];
            let told = [1, 3].contains(&word(Way::GaveUp)) && killed == 0 && closing == 0;
            let told = told.then(|| "its client was told that the server has gone, and it was there".to_owned());
            for wrong in [wrong_with(up), wrong_with(down), told].into_iter().flatten() {
                verdict.lost += 1;
                let server = word(Way::Server) - 1;
                let numbers = format!("server's life {server}, up {up:?}, down {down:?}, {}", word(Way::GaveUp));
                verdict.say(format!("lost: connection {connection} of seat {seat}: {wrong} ({numbers})"));
            }
        }
    }
}

/// What is wrong with a way: bytes begun, written, read; how reading ended; whether its writer closed, or was killed.
pub(crate) fn wrong_with([begun, sent, read, end, closing, killed]: [u64; 6]) -> Option<String> {
    if read > begun {
        return Some(format!("{read} bytes were read, {begun} were written"));
    }
    match Ending::of(end) {
        Ending::None => None,
        Ending::Closed if closing == 0 && killed == 0 => Some("it ended, and its writer had not closed it".into()),
        Ending::Closed if closing == 0 => Some("it ended in good order, and its writer was killed".into()),
        Ending::Reset if killed == 0 => Some("it was reset, and its writer was not killed".into()),
        _ if read < sent => Some(format!("{read} bytes were read to its end, {sent} were written")),
        _ => None,
    }
}

/// What the sums say, and what the stage saw itself.
fn totals(shape: Shape, account: &Account, verdict: &mut Verdict) {
    // What a mailbox has set aside goes back, marked, also when it closes.
    let most = account.in_hands + if shape == Shape::Mailbox { account.reopened * ASIDE } else { 0 };
    if account.redelivered > most {
        verdict.duplicated += account.redelivered - most;
        let came = account.redelivered;
        verdict.say(format!("duplicated: {came} redeliveries, and the dead had at most {most} messages in hand"));
    }
    for what in &account.stuck {
        verdict.stuck += 1;
        verdict.say(format!("stuck: {what}"));
    }
    for what in &account.failures {
        verdict.unexpected += 1;
        verdict.say(format!("unexpected: {what}"));
    }
    if account.more_events > 0 {
        verdict.unexpected += account.more_events;
        verdict.say(format!("unexpected: {} more events than the ledger holds", account.more_events));
    }
    for leak in &account.leaks {
        match leak {
            Leak::File(name) => {
                verdict.leaked_files += 1;
                verdict.say(format!("leaked: a file: {name}"));
            }
            Leak::Inside { bytes, what } => {
                verdict.leaked_bytes += bytes;
                verdict.leaked_entries += u64::from(*bytes == 0);
                verdict.say(format!("leaked: {what}"));
            }
        }
    }
}
