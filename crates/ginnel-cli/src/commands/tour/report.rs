//! What a tour shows: what each mechanism gave here, what it promises, and what could not be.

use super::mechanism::{Mechanism, Promise};
use super::pair::{Outcome, Trouble};
use super::sample::Sample;
use super::story::Story;
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::units;
use serde::Serialize;

/// All of it.
#[derive(Serialize)]
pub(super) struct Report {
    bytes: u64,
    crc32: u32,
    cores: usize,
    pub(super) total_ns: u64,
    pub(super) mechanisms: Vec<Row>,
    pub(super) shapes: Vec<Story>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Ok,
    Failed,
    /// This host lacks or forbids it.
    NotHere,
}

/// What one mechanism gave.
#[derive(Serialize)]
pub(super) struct Row {
    mechanism: Mechanism,
    promise: Promise,
    ok: bool,
    state: State,
    error: Option<String>,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    gb_per_s: Option<f64>,
}

impl Row {
    pub(super) fn new(mechanism: Mechanism, outcome: Result<Outcome, Trouble>, sample: &Sample) -> Self {
        let (state, outcome, error) = match outcome {
            Ok(outcome) => {
                let error = outcome.wrong(mechanism, sample);
                (if error.is_none() { State::Ok } else { State::Failed }, Some(outcome), error)
            }
            Err(Trouble::Failed(error)) => (State::Failed, None, Some(error)),
            Err(Trouble::NotHere(error)) => (State::NotHere, None, Some(error)),
        };
        let rate = |outcome: &Outcome| outcome.moved_bytes as f64 / outcome.transfer_ns.max(1) as f64;
        Self {
            mechanism,
            promise: mechanism.promise(),
            ok: state == State::Ok,
            state,
            gb_per_s: outcome.as_ref().filter(|outcome| outcome.moved_bytes > 0).map(rate),
            outcome,
            error,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.mechanism.name()
    }

    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.name().into()];
        match &self.outcome {
            Some(outcome) => {
                cells.push(self.moved(outcome));
                cells.push(self.rate(outcome));
                cells.extend(outcome.round_trip_ns.figures().map(units::time));
            }
            None => cells.extend(["-"; 6].map(String::from)),
        }
        cells.push(match (self.state, &self.outcome) {
            (State::Ok, Some(outcome)) if outcome.lost > 0 => self.losses(outcome),
            (State::Ok, _) => "ok".into(),
            (State::Failed, _) => "FAILED".into(),
            (State::NotHere, _) => "not here".into(),
        });
        cells
    }

    fn moved(&self, outcome: &Outcome) -> String {
        match self.mechanism {
            Mechanism::Signal => format!("{} numbers", outcome.messages),
            _ => units::size(outcome.moved_bytes),
        }
    }

    fn rate(&self, outcome: &Outcome) -> String {
        match (self.mechanism, self.gb_per_s) {
            (_, None) => "-".into(),
            (Mechanism::Signal, _) => {
                format!("{:.0}k/s", outcome.messages as f64 * 1e6 / outcome.transfer_ns.max(1) as f64)
            }
            (_, Some(rate)) if rate < 0.1 => format!("{:.1}MB/s", rate * 1e3),
            (_, Some(rate)) => format!("{rate:.2}GB/s"),
        }
    }

    fn losses(&self, outcome: &Outcome) -> String {
        let all = outcome.lost + outcome.messages;
        let told = match outcome.told_lost {
            told if told == outcome.lost => "all counted by the receiver".into(),
            told => format!("{told} counted by the receiver"),
        };
        format!("ok, but {} of {all} lost, {told}", outcome.lost)
    }
}

impl Report {
    pub(super) fn new(sample: &Sample) -> Self {
        let cores = ginnel_os::process::cores().map_or(1, |cores| cores.len());
        Self {
            bytes: sample.bytes,
            crc32: sample.crc32,
            cores,
            total_ns: 0,
            mechanisms: Vec::new(),
            shapes: Vec::new(),
        }
    }

    /// Which mechanisms and shapes are in a state, and why.
    pub(super) fn in_state(&self, state: State) -> impl Iterator<Item = (&'static str, &str)> {
        let mechanisms = self.mechanisms.iter().map(|row| (row.state, row.name(), row.error()));
        let shapes = self.shapes.iter().map(|story| (story.state, story.name(), story.error()));
        mechanisms.chain(shapes).filter(move |(is, ..)| *is == state).map(|(_, name, error)| (name, error))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.mechanisms.is_empty() {
            let size = units::size(self.bytes);
            text += &format!(
                "{size} from one process to another, and a small message there and back; every byte checked\n\n"
            );
            text += &self.measured();
            for row in self.mechanisms.iter().filter(|row| row.state == State::NotHere) {
                text += &format!("\n{} is not here: {}\n", row.name(), row.error());
            }
            text += "\n";
            text += &self.promised();
            text += "\n";
        }
        if !self.shapes.is_empty() {
            text +=
                "What shared memory carries beside queues, each between processes of its own, all of it checked:\n\n";
            self.shapes.iter().for_each(|story| text += &story.lines());
            text += "\n";
        }
        text += &format!("{} in all. ", units::time(self.total_ns));
        text += match self.cores {
            1 => "One core: the processes take turns on it. One run, so no benchmark.\n",
            _ => "One run, not pinned to cores, beside whatever else runs here: no benchmark.\n",
        };
        text += "\nnext:\n  seq 5 | ginnel send shm:hello    lines become messages\n";
        text + "  ginnel recv shm:hello            in another terminal\n"
    }

    fn measured(&self) -> String {
        let mut table = Table::new(&[
            ("MECHANISM", Left),
            ("MOVED", Right),
            ("RATE", Right),
            ("ROUND TRIP: p50", Right),
            ("p99", Right),
            ("p99.9", Right),
            ("max", Right),
            ("BYTES", Left),
        ]);
        self.mechanisms.iter().for_each(|row| table.row(row.cells()));
        table.render()
    }

    fn promised(&self) -> String {
        let mut table = Table::new(&[
            ("MECHANISM", Left),
            ("MESSAGES", Left),
            ("LARGEST", Right),
            ("ORDER", Left),
            ("SAYS THE END", Left),
            ("AFTER kill -9", Left),
            ("BOUNDED BY", Left),
        ]);
        for row in &self.mechanisms {
            let Promise { messages, order, end, killed, holds } = row.promise;
            let largest = row.outcome.as_ref().map_or("-".into(), |outcome| exact(outcome.largest_bytes));
            let largest = [messages.into(), largest];
            let words = [order, end, killed, holds].map(String::from);
            table.row([row.name().into()].into_iter().chain(largest).chain(words).collect());
        }
        table.render()
    }
}

/// A limit, which no rounding may raise.
fn exact(bytes: u64) -> String {
    if bytes % 1024 == 0 { units::size(bytes) } else { format!("{bytes}B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_not_rounded() {
        assert_eq!([exact(16 << 20), exact(65_507), exact(8192)], ["16MiB", "65507B", "8KiB"]);
    }

    #[test]
    fn the_words_fit_a_line() {
        let sample = Sample::make().unwrap();
        let mut report = Report::new(&sample);
        let row = |mechanism| Row::new(mechanism, Err(Trouble::NotHere("why".into())), &sample);
        report.mechanisms = Mechanism::ALL.into_iter().map(row).collect();
        let words = report.promised();
        assert!(words.lines().all(|line| line.chars().count() < 120), "{words}");
    }
}
