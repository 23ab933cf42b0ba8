//! What a contest found, as data: the tables, the JSON of the tool and the checks against the goals are made of it.
//!
//! Not a rendering (see `table`), and without a schema version, which belongs to who writes it out.

use serde::{Deserialize, Serialize};

use crate::contest::Role;
use crate::run::Sample;
use crate::{Case, Environment, Workload};

/// Everything that was measured in one go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The machine and its noise.
    pub environment: Environment,
    /// How often each contender ran each case.
    pub rounds: u32,
    /// One group for each case.
    pub groups: Vec<Group>,
}

impl Report {
    /// What went wrong: the case, the mechanism, the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&Case, &str, &str)> {
        self.groups.iter().flat_map(|group| {
            let failed = |row: &'_ Row| row.failure.is_some();
            group
                .rows
                .iter()
                .filter(move |row| failed(row))
                .map(|row| (&group.case, row.mechanism.as_str(), row.failure.as_deref().unwrap_or_default()))
        })
    }
}

/// One case, and what every contender made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// What was measured.
    pub case: Case,
    /// The baseline that did best, which the ratios are against; none if none ran.
    pub baseline: Option<String>,
    /// The bare cache line that did best, for round trips that spin.
    pub cache_line: Option<String>,
    /// The contenders, in the order in which they ran.
    pub rows: Vec<Row>,
}

/// One contender in one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The contender's name.
    pub mechanism: String,
    /// What it stands for.
    pub role: Role,
    /// The bytes of its messages: those of the case, or 8 for the bare cache line.
    pub size: usize,
    /// Messages (round trips) measured in each round.
    pub messages: u64,
    /// How many runs were thrown away because another process took a side's core.
    pub repeated: u32,
    /// How many of the runs that count were disturbed all the same.
    pub disturbed: u32,
    /// Why it has no figures; the other fields are then empty.
    pub failure: Option<String>,
    /// Messages (round trips) a second.
    pub rate_per_s: Option<Spread>,
    /// Payload bytes a second, one way.
    pub bytes_per_s: Option<Spread>,
    /// The times of round trips, sends or looks; none for a stream.
    pub times: Option<Times>,
    /// What the sender (asker) cost.
    pub sender: Option<Cost>,
    /// What the receiver (answerer) cost.
    pub receiver: Option<Cost>,
    /// Against the baseline of the same round. Of a stream it is rate by rate, below 1 is slower; of all else time by time, above 1 is
    /// slower.
    pub ratio: Option<Spread>,
    /// The time of a round trip against the bare cache line of the same round.
    pub line_ratio: Option<Spread>,
}

/// The median of the rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest round.
    pub min: f64,
    /// The highest round.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; none if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { median, min, max })
    }
}

/// The times of round trips, sends or looks, ns: each percentile is taken over every message of a round, then its spread over the rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Times {
    /// The median.
    pub p50_ns: Spread,
    /// The 90th percentile.
    pub p90_ns: Spread,
    /// The 99th percentile.
    pub p99_ns: Spread,
    /// The 99.9th percentile.
    pub p999_ns: Spread,
    /// The slowest.
    pub max_ns: Spread,
    /// The mean of the middle half, which the ratios are made of.
    pub middle_ns: Spread,
}

/// What one side cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Processor seconds for each second that passed; 1 is a core kept busy.
    pub cpu_share: Spread,
    /// Processor time for each message (round trip), ns.
    pub cpu_ns_per_message: Spread,
    /// Seconds for which another process had its core although it could run, for each second that passed.
    pub queued_share: Spread,
    /// How often it slept, for each message (round trip).
    pub sleeps_per_message: Spread,
}

/// The samples of one contender, from which its row is made.
pub(crate) struct Record {
    pub(crate) mechanism: String,
    pub(crate) role: Role,
    pub(crate) size: usize,
    pub(crate) samples: Vec<Sample>,
    pub(crate) repeated: u32,
    pub(crate) disturbed: u32,
    pub(crate) failure: Option<String>,
}

impl Record {
    /// What of round `round` is compared, so that more is worse: seconds of a message, or ns of a round trip.
    fn slowness(&self, round: usize) -> Option<f64> {
        let sample = self.samples.get(round)?;
        Some(sample.times.map_or_else(|| sample.elapsed_s / sample.messages as f64, |times| times.middle_ns))
    }

    fn typical_slowness(&self) -> Option<f64> {
        Some(Spread::of((0..self.samples.len()).filter_map(|round| self.slowness(round)))?.median)
    }

    /// Round by round, this contender's slowness over that of `other`.
    fn slower_than<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = f64> + 'a {
        let rounds = 0..self.samples.len();
        rounds.filter_map(|round| Some(self.slowness(round)? / other.slowness(round)?))
    }

    fn spread(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(of))
    }

    fn times(&self) -> Option<Times> {
        let spread = |of: &dyn Fn(&crate::Percentiles) -> f64| {
            Spread::of(self.samples.iter().filter_map(|sample| sample.times.as_ref()).map(of))
        };
        Some(Times {
            p50_ns: spread(&|times| times.p50_ns)?,
            p90_ns: spread(&|times| times.p90_ns)?,
            p99_ns: spread(&|times| times.p99_ns)?,
            p999_ns: spread(&|times| times.p999_ns)?,
            max_ns: spread(&|times| times.max_ns)?,
            middle_ns: spread(&|times| times.middle_ns)?,
        })
    }

    fn cost(&self, of: impl Fn(&Sample) -> (crate::Usage, f64)) -> Option<Cost> {
        Some(Cost {
            cpu_share: self.spread(|sample| {
                let (usage, seconds) = of(sample);
                usage.cpu_s / seconds
            })?,
            queued_share: self.spread(|sample| {
                let (usage, seconds) = of(sample);
                usage.queued_s / seconds
            })?,
            cpu_ns_per_message: self.spread(|sample| of(sample).0.cpu_s * 1e9 / sample.messages as f64)?,
            sleeps_per_message: self
                .spread(|sample| of(sample).0.voluntary_switches as f64 / sample.messages as f64)?,
        })
    }

    fn row(&self, case: &Case, baseline: Option<&Self>, line: Option<&Self>) -> Row {
        let ratio = baseline.and_then(|best| {
            let slower = self.slower_than(best);
            match case.workload {
                Workload::RoundTrip | Workload::Send | Workload::Look => Spread::of(slower),
                Workload::Stream => Spread::of(slower.map(|ratio| 1.0 / ratio)),
            }
        });
        Row {
            mechanism: self.mechanism.clone(),
            role: self.role,
            size: self.size,
            messages: self.samples.first().map_or(0, |sample| sample.messages),
            repeated: self.repeated,
            disturbed: self.disturbed,
            failure: self.failure.clone(),
            rate_per_s: self.spread(Sample::rate),
            bytes_per_s: self.spread(|sample| sample.rate() * self.size as f64),
            times: self.times(),
            sender: self.cost(|sample| (sample.sender, sample.sender_s)),
            receiver: self.cost(|sample| (sample.receiver, sample.receiver_s)),
            ratio,
            line_ratio: line.and_then(|line| Spread::of(self.slower_than(line))),
        }
    }
}

/// Makes the group of a case out of its contenders' samples.
pub(crate) fn group(case: &Case, records: &[Record]) -> Group {
    let baseline = best_of(records, Role::Baseline);
    let line = best_of(records, Role::CacheLine);
    Group {
        case: *case,
        baseline: baseline.map(|best| best.mechanism.clone()),
        cache_line: line.map(|line| line.mechanism.clone()),
        rows: records.iter().map(|record| record.row(case, baseline, line)).collect(),
    }
}

/// The fastest contender in a role.
fn best_of(records: &[Record], role: Role) -> Option<&Record> {
    let candidates = records.iter().filter(|record| record.role == role);
    let timed = candidates.filter_map(|record| Some((record, record.typical_slowness()?)));
    timed.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(record, _)| record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Usage};

    fn stream(mechanism: &str, role: Role, seconds: &[f64]) -> Record {
        let samples = seconds.iter().map(|elapsed_s| Sample {
            messages: 100,
            elapsed_s: *elapsed_s,
            times: None,
            sender: Usage { cpu_s: 0.5, queued_s: 0.0, voluntary_switches: 50, involuntary_switches: 0 },
            sender_s: 1.0,
            receiver: Usage::default(),
            receiver_s: 1.0,
        });
        Record {
            mechanism: mechanism.to_owned(),
            role,
            size: 64,
            samples: samples.collect(),
            repeated: 0,
            disturbed: 0,
            failure: None,
        }
    }

    #[test]
    fn a_spread_is_its_median_and_its_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round_against_the_best_raw_one() {
        let records = [
            stream("slow raw", Role::Baseline, &[3.0, 3.0, 3.0]),
            // The whole machine was ten times as slow in the second round: no ratio shows it.
            stream("good raw", Role::Baseline, &[1.0, 10.0, 1.0]),
            stream("other", Role::Measured, &[2.0, 20.0, 2.0]),
        ];
        let group = group(&Case::stream(Mode::Spin, 64), &records);
        assert_eq!(group.baseline.as_deref(), Some("good raw"));
        assert_eq!(group.rows[2].ratio, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        assert_eq!(group.rows[2].sender.unwrap().sleeps_per_message.median, 0.5);
        assert_eq!(group.rows[2].rate_per_s.unwrap().median, 50.0);
    }

    #[test]
    fn a_failed_contender_is_no_baseline_and_is_listed() {
        let mut failed = stream("raw", Role::Baseline, &[]);
        failed.failure = Some("no luck".to_owned());
        let group = group(&Case::stream(Mode::Spin, 64), &[failed, stream("other", Role::Measured, &[1.0])]);
        assert_eq!(group.baseline, None);
        assert_eq!(group.rows[0].rate_per_s, None);
        assert_eq!(group.rows[1].ratio, None);
    }
}
