//! The contest: every contender runs every case, in turns, so that all of them see the same machine.
//!
//! Not a scheduler of long experiments. A cloud machine changes its speed by the second (a neighbour, a clock, another pair of
//! cores under the same numbers), so runs are short and rounds many: in each round every contender runs once, the round's
//! ratio is made of runs a moment apart, and the report has the median of the rounds' ratios. The order turns by one from
//! round to round, for the first of a round finds the cores in another state than the last.
//!
//! Where another process had a side's core for more than 3 % of the time, by the scheduler's own account, the run is thrown
//! away and repeated, as often as there are rounds at the most. Both are counted and reported.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::burst;
use crate::report::{self, Record, Report};
use crate::run::{self, Sample};
use crate::{
    Amount, ByteStream, CacheLine, Case, Count, Environment, Failure, Mechanism, Mode, Payload, Placement, RawRing,
    RawSlots, RunError, Shape, Stop, Terms, Workload,
};

/// What a contender stands for in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A baseline, in most cases a raw one; the best of them is what the others are compared with.
    Baseline,
    /// A bare cache line; the best of them is the second baseline of round trips. It moves 8 bytes, whatever the size of the case.
    CacheLine,
    /// A mechanism to be judged.
    Measured,
}

type Covers = dyn Fn(&Case) -> bool;
type Run = dyn Fn(&Case, Count, &Terms) -> Result<Sample, RunError>;

/// A mechanism that takes part, by name.
pub struct Contender {
    name: String,
    role: Role,
    shape: Shape,
    covers: Box<Covers>,
    run: Box<Run>,
}

impl Contender {
    /// A mechanism to be judged, which `make` builds anew for every run, in the calling process, before the fork.
    pub fn new<M, F>(name: impl Into<String>, make: F) -> Self
    where
        M: Mechanism,
        F: Fn(&Case) -> Result<M, Failure> + 'static,
    {
        Self::running(name, move |case, count, terms| {
            let mechanism = make(case).map_err(RunError::Setup)?;
            run::measure(&mechanism, case, count, terms)
        })
    }

    /// One that runs in its own way: what has not two processes with two directions between them.
    pub(crate) fn running(
        name: impl Into<String>,
        run: impl Fn(&Case, Count, &Terms) -> Result<Sample, RunError> + 'static,
    ) -> Self {
        let (role, shape) = (Role::Measured, Shape::Queue);
        Self { name: name.into(), role, shape, covers: Box::new(|_| true), run: Box::new(run) }
    }

    /// The same, taking part in the cases of another shape than a queue's.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// The same in another role.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The same, taking part only in the cases that `covers` says.
    #[must_use]
    pub fn only(mut self, covers: impl Fn(&Case) -> bool + 'static) -> Self {
        self.covers = Box::new(covers);
        self
    }

    /// Its name in the report.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it takes part in a case.
    fn takes(&self, case: &Case) -> bool {
        self.shape == case.shape && (self.covers)(case)
    }

    /// The case as this contender runs it.
    fn adapt(&self, case: &Case) -> Case {
        if self.role == Role::CacheLine { Case { size: 8, payload: Payload::Whole, ..*case } } else { *case }
    }
}

/// The raw baselines: the bare cache line, the ring, the ring with sequences in its slots.
///
/// Round trips have the first two a second time without the pause in their waiting: which is faster is the processor's choice, and
/// the ratios are against the best.
#[must_use]
pub fn baselines() -> Vec<Contender> {
    let spinning_round_trip = |case: &Case| case.workload == Workload::RoundTrip && case.mode == Mode::Spin;
    let line = |name, pauses| Contender::new(name, move |_| CacheLine::new(pauses)).role(Role::CacheLine);
    vec![
        line("cache line", 1).only(spinning_round_trip),
        line("cache line, unpaused", 0).only(spinning_round_trip),
        Contender::new("raw ring", RawRing::new).role(Role::Baseline),
        Contender::new("raw ring, unpaused", RawRing::unpaused).role(Role::Baseline).only(spinning_round_trip),
        // Where the copying dominates, the place of the sequence cannot matter.
        Contender::new("raw slots", RawSlots::new)
            .role(Role::Baseline)
            .only(|case| case.mode == Mode::Spin && case.size <= 256 && case.payload == Payload::Whole),
    ]
}

/// The kernel's byte streams. They take no part where the payload is handed over untouched: they can only copy.
#[must_use]
pub fn kernel_streams() -> Vec<Contender> {
    vec![
        Contender::new("pipe", ByteStream::pipe).only(|case| case.payload == Payload::Whole),
        Contender::new("unix stream", ByteStream::socket).only(|case| case.payload == Payload::Whole),
    ]
}

/// What to measure, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cases, one group of the report each.
    pub cases: Vec<Case>,
    /// How often each contender runs each case.
    pub rounds: u32,
    /// How many messages a run moves.
    pub amount: Amount,
    /// Where the two processes run.
    pub placement: Placement,
    /// How long one run may take before its processes are killed.
    pub limit: Duration,
    /// What ends the contest before its time, if anything; its processes are gone then, and so is what they made.
    pub stop: Option<Stop>,
}

impl Plan {
    fn terms(&self) -> Terms {
        Terms { placement: self.placement, limit: self.limit, stop: self.stop.clone() }
    }
}

impl Default for Plan {
    /// The cases of the goals, 11 rounds of 100 ms.
    fn default() -> Self {
        let streams = [8, 64, 4096, 64 << 10, 1 << 20];
        let mut cases =
            vec![Case::round_trip(Mode::Spin, 8), Case::round_trip(Mode::Spin, 64), Case::round_trip(Mode::Block, 64)];
        cases.extend(streams.map(|size| Case::stream(Mode::Spin, size)));
        cases.extend(streams.map(|size| Case::stream(Mode::Block, size)));
        Self {
            cases,
            rounds: 11,
            amount: Amount::Time(Duration::from_millis(100)),
            placement: Placement::Auto,
            limit: Duration::from_secs(20),
            stop: None,
        }
    }
}

/// Where a contest is, for a progress meter.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The case being measured.
    pub case: &'a Case,
    /// The contender about to run.
    pub mechanism: &'a str,
    /// Runs done so far.
    pub done: u32,
    /// Runs in all, as far as can be foreseen.
    pub total: u32,
}

/// Runs the plan and reports. To be called while the process has one thread (see `crew`); `progress` is called before each run.
///
/// A contender that fails gets a row that says why, and takes no further part in that case.
///
/// # Errors
///
/// [`RunError`], when not even the environment can be observed; [`RunError::Stopped`], when the plan's `stop` says so.
pub fn contest(
    plan: &Plan,
    contenders: &[Contender],
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, RunError> {
    let environment = Environment::observe(plan.placement)?;
    let entries = |case: &Case| contenders.iter().filter(|contender| contender.takes(case)).count();
    let entries: usize = plan.cases.iter().map(entries).sum();
    let total = u32::try_from(entries).unwrap_or(u32::MAX).saturating_mul(plan.rounds);
    let mut done = 0;
    let mut groups = Vec::new();
    for case in &plan.cases {
        let mut heats: Vec<Heat<'_>> = contenders
            .iter()
            .filter(|contender| contender.takes(case))
            .map(|contender| Heat::new(contender, case, plan))
            .collect();
        let heats_in_case = heats.len();
        for round in 0..plan.rounds as usize {
            for turn in 0..heats_in_case {
                let heat = &mut heats[(round + turn) % heats_in_case];
                progress(Progress { case, mechanism: heat.contender.name(), done, total });
                heat.run()?;
                done += 1;
            }
        }
        let records: Vec<Record> = heats.into_iter().map(|heat| heat.record).collect();
        groups.push(report::group(case, &records));
    }
    Ok(Report { environment, rounds: plan.rounds, groups })
}

/// One contender in one case.
struct Heat<'a> {
    contender: &'a Contender,
    plan: &'a Plan,
    case: Case,
    /// Found at the first run.
    count: Option<Count>,
    record: Record,
}

/// A side that another process kept from its core for more than this share of the time was disturbed.
const TAKEN: f64 = 0.03;

impl<'a> Heat<'a> {
    fn new(contender: &'a Contender, case: &Case, plan: &'a Plan) -> Self {
        let case = contender.adapt(case);
        let record = Record {
            mechanism: contender.name.clone(),
            role: contender.role,
            size: case.size,
            samples: Vec::new(),
            repeated: 0,
            disturbed: 0,
            failure: None,
        };
        Self { contender, plan, case, count: None, record }
    }

    /// Runs once, or notes why it cannot.
    fn run(&mut self) -> Result<(), RunError> {
        if self.record.failure.is_some() {
            return Ok(());
        }
        match self.sample() {
            Ok(sample) => self.record.samples.push(sample),
            Err(RunError::Stopped) => return Err(RunError::Stopped),
            Err(error) => {
                self.record.samples.clear();
                self.record.failure = Some(error.to_string());
            }
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample, RunError> {
        let count = match self.count {
            Some(count) => count,
            None => *self.count.insert(self.calibrate()?),
        };
        loop {
            let sample = self.once(count)?;
            if !self.was_disturbed(&sample) {
                return Ok(sample);
            }
            // On a machine that is busy all the time, repeating for ever would only make it busier.
            if self.record.repeated >= self.plan.rounds {
                self.record.disturbed += 1;
                return Ok(sample);
            }
            self.record.repeated += 1;
        }
    }

    fn once(&self, count: Count) -> Result<Sample, RunError> {
        (self.contender.run)(&self.case, count, &self.plan.terms())
    }

    fn was_disturbed(&self, sample: &Sample) -> bool {
        let mut taken = sample.sender.queued_s / sample.sender_s;
        // Several receivers on one core queue for it themselves.
        if self.case.workload != Workload::Send {
            taken = taken.max(sample.receiver.queued_s / sample.receiver_s);
        }
        let share = f64::min(sample.sender.cpu_s / sample.sender_s, sample.receiver.cpu_s / sample.receiver_s);
        // Below a few milliseconds neither time is exact enough to tell.
        sample.elapsed_s > 0.005 && (taken > TAKEN || self.case.mode == Mode::Spin && share < 1.0 - TAKEN)
    }

    /// How many messages take about as long as the plan wants.
    fn calibrate(&self) -> Result<Count, RunError> {
        let time = match self.plan.amount {
            Amount::Messages(messages) => return Ok(Count::of(messages)),
            Amount::Time(time) => time.as_secs_f64(),
        };
        let mut trial = match self.case.workload {
            Workload::RoundTrip => 200,
            Workload::Stream => ((4 << 20) / self.case.size as u64).clamp(50, 20_000),
            Workload::Send => 4 * burst::BURST,
            Workload::Look => ((4 << 20) / self.case.size as u64).clamp(100, 20_000),
        };
        // Disturbances only slow a trial down, so the fastest of three is the one to believe.
        loop {
            let mut rate = 0.0;
            for _ in 0..3 {
                let sample = self.once(Count::of(trial))?;
                // Of sends, and of looks, only a part of the run is timed.
                let seconds = if sample.times.is_some() { sample.sender_s } else { sample.elapsed_s };
                rate = f64::max(rate, sample.messages as f64 / seconds);
            }
            // A trial that was too short says too little.
            if trial as f64 / rate >= time / 20.0 || trial >= 1 << 32 {
                // Percentiles of a few bursts are none.
                let fewest = if self.case.workload == Workload::Send { 32 * burst::BURST } else { 20 };
                return Ok(Count::of(((rate * time) as u64).max(fewest)));
            }
            trial *= 8;
        }
    }
}
