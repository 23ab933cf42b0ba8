//! One scenario under every kill: record its path, choose the kill points, run a trial at each, collect what broke.
//!
//! A trial is four steps in a process of its own, the *director*: set up the survivor's side; fork the victim, which
//! prepares and operates; kill it; check the promises with what the survivor sees. A director that does not answer in time
//! is a violation: a survivor that hangs is what this test is after.

use std::fmt;
use std::time::{Duration, Instant};

use super::fork;
use super::stepper::{self, Outcome, Until};
use super::trace::Trace;

/// How long one trial may take, all in all.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// How long the recording may take: it steps through the entire operation.
const RECORD_LIMIT: Duration = Duration::from_secs(120);
/// A scenario with so many violations is abandoned: each may have cost a whole time limit.
const VIOLATIONS_MAX: usize = 20;

/// What a director found, when no promise was broken.
pub(crate) enum Reply {
    Recorded(Trace),
    Kept,
    Strayed,
}

/// One operation, who prepares it, who does it, and who judges.
pub(crate) struct Scenario {
    pub(crate) name: String,
    patience: Duration,
    sleeps: bool,
    ready: Option<Ready>,
    direct: Direct,
}

/// Wakes a victim that sleeps.
type Wake<S> = fn(&S) -> Result<(), String>;
type Ready = Box<dyn Fn() -> Result<(), String>>;

type Direct = Box<dyn Fn(Until<'_>, Duration) -> Result<(Outcome, Option<Trace>), String>>;

impl Scenario {
    /// `setup` and `check` run in the director; `prepare` and `operation` in the victim, which is forked between them.
    ///
    /// `operation` should hand back what it made, so that nothing is dropped before the finish line.
    pub(crate) fn new<S: 'static, T: 'static, R: 'static>(
        name: impl Into<String>,
        setup: impl Fn() -> Result<S, String> + 'static,
        prepare: impl Fn(&S) -> Result<T, String> + 'static,
        operation: impl Fn(T) -> Result<R, String> + 'static,
        check: impl Fn(S, &Outcome) -> Result<(), String> + 'static,
    ) -> Self {
        Self::woken(name, setup, prepare, operation, None, check)
    }

    /// As [`Scenario::new`]; `wake` runs in the director when the victim is asleep for the first time.
    pub(crate) fn woken<S: 'static, T: 'static, R: 'static>(
        name: impl Into<String>,
        setup: impl Fn() -> Result<S, String> + 'static,
        prepare: impl Fn(&S) -> Result<T, String> + 'static,
        operation: impl Fn(T) -> Result<R, String> + 'static,
        wake: Option<Wake<S>>,
        check: impl Fn(S, &Outcome) -> Result<(), String> + 'static,
    ) -> Self {
        let direct = move |until: Until<'_>, patience| {
            let survivor = setup().map_err(|error| format!("setup: {error}"))?;
            let seen = &survivor;
            let prepared = || prepare(seen).map_err(|error| format!("prepare: {error}"));
            let waken = wake.map(|wake| move || wake(seen).map_err(|error| format!("wake: {error}")));
            let wake = waken.as_ref().map(|wake| wake as &dyn Fn() -> Result<(), String>);
            let mut trial = stepper::trial(prepared, &operation, stepper::Order { until, patience, wake });
            match trial.outcome.clone() {
                Outcome::Failed(text) => return Err(text),
                Outcome::Strayed => {}
                // The recording is not judged: that comes with the trial of its last position.
                _ if trial.trace.is_some() => {}
                // `trial` lives on: the victim is a zombie while the survivor is checked.
                ref outcome => check(survivor, outcome)?,
            }
            Ok((trial.outcome.clone(), trial.trace.take()))
        };
        let patience = Duration::from_secs(2);
        Self { name: name.into(), patience, sleeps: false, ready: None, direct: Box::new(direct) }
    }

    /// Calls `ready` once before the recording: what it finds out is known to every director.
    pub(crate) fn after(mut self, ready: impl Fn() -> Result<(), String> + 'static) -> Self {
        self.ready = Some(Box::new(ready));
        self
    }

    /// The operation ends asleep in a system call.
    pub(crate) fn sleeping(mut self) -> Self {
        self.sleeps = true;
        self
    }

    /// A system call that lasts longer than this sleeps.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs one trial and judges it.
    pub(crate) fn kill(&self, until: Until<'_>) -> Result<Reply, String> {
        let limit = match until {
            Until::End => RECORD_LIMIT,
            _ => TRIAL_LIMIT,
        };
        let answer = fork::ask(limit, || {
            let (outcome, trace) = (self.direct)(until, self.patience)?;
            if matches!(outcome, Outcome::Asleep { .. }) && !self.sleeps {
                return Err(format!("sleeps over {:?} in a system call", self.patience));
            }
            Ok(match (trace, outcome) {
                (Some(trace), _) => trace.to_bytes(),
                (None, Outcome::Strayed) => vec![1],
                (None, _) => vec![0],
            })
        })?;
        match (until, answer.as_slice()) {
            (Until::End, bytes) => Trace::from_bytes(bytes).map(Reply::Recorded).ok_or_else(|| "no trace".into()),
            (_, [1]) => Ok(Reply::Strayed),
            _ => Ok(Reply::Kept),
        }
    }

    /// Records the path, with no kill but at its end.
    pub(crate) fn record(&self) -> Result<Trace, String> {
        match self.kill(Until::End)? {
            Reply::Recorded(trace) => Ok(trace),
            _ => Err("no trace".into()),
        }
    }
}

/// How the victim is moved to a kill point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// By single steps alone.
    Plain,
    /// By a breakpoint, and plainly when the path leaves the recorded one.
    Breakpoints,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Breakpoints => "breakpoints",
        })
    }
}

/// How much to try, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Kill points for each operation, but for those near a system call.
    pub(crate) budget: u64,
    pub(crate) seed: u64,
    pub(crate) method: Method,
    pub(crate) part: Part,
}

/// Every N-th of the planned kill points: several processes share a sweep, each with a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 0, below `of`.
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Part {
    pub(crate) const WHOLE: Self = Self { index: 0, of: 1 };

    /// `K/N`, with K from 1 to N.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (k, of) = text.split_once('/')?;
        let (index, of) = (k.parse::<usize>().ok()?.checked_sub(1)?, of.parse().ok()?);
        (index < of).then_some(Self { index, of })
    }
}

/// A broken promise.
pub(crate) struct Violation {
    /// After so many instructions.
    pub(crate) position: u64,
    /// Where the victim stood.
    pub(crate) instruction: u64,
    pub(crate) promise: String,
}

/// What came out for one scenario.
pub(crate) struct Sweep {
    pub(crate) name: String,
    pub(crate) instructions: u64,
    pub(crate) points: u64,
    /// Of the points, those that others can tell apart.
    pub(crate) distinct: u64,
    pub(crate) tried: u64,
    /// Trials that left the recorded path and were stepped plainly.
    pub(crate) strayed: u64,
    pub(crate) method: Method,
    /// Where two recordings part, and the address before that: the path depends on more than the state, as on the clock.
    pub(crate) varies: Option<(u64, u64)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) took: Duration,
    /// Why it ended before the last point.
    pub(crate) abandoned: Option<String>,
}

impl Sweep {
    fn new(name: &str, method: Method) -> Self {
        Self {
            name: name.into(),
            instructions: 0,
            points: 0,
            distinct: 0,
            tried: 0,
            strayed: 0,
            method,
            varies: None,
            violations: Vec::new(),
            took: Duration::ZERO,
            abandoned: None,
        }
    }
}

/// Kills the scenario's operation at every planned point.
pub(crate) fn sweep(scenario: &Scenario, effort: Effort) -> Sweep {
    let started = Instant::now();
    let mut sweep = Sweep::new(&scenario.name, effort.method);
    if let Err(error) = kill_all(scenario, effort, &mut sweep) {
        sweep.abandoned = Some(error);
    }
    sweep.took = started.elapsed();
    sweep
}

fn kill_all(scenario: &Scenario, effort: Effort, sweep: &mut Sweep) -> Result<(), String> {
    if let Some(ready) = &scenario.ready {
        ready()?;
    }
    let trace = scenario.record()?;
    sweep.varies = scenario.record()?.parts_from(&trace);
    sweep.instructions = trace.instructions();
    sweep.points = trace.points().len() as u64;
    sweep.distinct = trace.distinct().len() as u64;
    let Part { index, of } = effort.part;
    for position in trace.plan(effort.budget, effort.seed).into_iter().skip(index).step_by(of) {
        let plainly = || scenario.kill(Until::Steps(position));
        let result = match effort.method {
            Method::Plain => plainly(),
            Method::Breakpoints => match scenario.kill(Until::at(&trace, position)) {
                Ok(Reply::Strayed) => {
                    sweep.strayed += 1;
                    plainly()
                }
                other => other,
            },
        };
        sweep.tried += 1;
        if let Err(promise) = result {
            let instruction = trace.moment(position).map_or(0, |moment| moment.instruction);
            sweep.violations.push(Violation { position, instruction, promise });
            if sweep.violations.len() >= VIOLATIONS_MAX {
                return Err(format!("stopped after {VIOLATIONS_MAX} violations"));
            }
        }
    }
    Ok(())
}
