//! The path that one operation took, instruction by instruction, and which moments on it are worth dying at.
//!
//! Position `i` is the moment after exactly `i` instructions; position 0 is the start line, the last one is the finish line,
//! or the system call that the operation went to sleep in. Pure arithmetic: nothing here touches a process.
//!
//! A `rep movsb` is stepped once for each byte it moves, all at one address. Such a run is a stretch of positions with the
//! same address; only its first two, its middle and its last are kill points, or a copy of 4 KiB would drown the rest.
//!
//! [`Trace::approach`] is the cheap way to a position: run to a breakpoint some number of times, then step the rest.
//! Children of one parent share its addresses, so a position's address is the same in each of them.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// Where the victim stood at one position: enough to notice that it has left the recorded path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) instruction: u64,
    /// Bytes of stack in use since the start line.
    pub(crate) depth: u64,
}

/// Run to `moment(position)` by stopping `passes` times at its address; step from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Approach {
    pub(crate) position: u64,
    pub(crate) passes: u64,
}

/// A recorded operation.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    moments: Vec<Moment>,
    /// Positions whose next instruction leads to a moment that is new to others (see `visible`).
    changes: Vec<u64>,
    /// Positions where a signal arrived: the handler ran first, so no breakpoint stops there.
    interrupted: Vec<u64>,
    /// The operation did not come back from its last system call.
    asleep: bool,
    approaches: OnceLock<Vec<Approach>>,
}

impl Trace {
    /// Continues the recording by one position.
    pub(crate) fn push(&mut self, moment: Moment) {
        self.moments.push(moment);
    }

    /// Tells that the instruction at the latest position led to a moment that is new to others.
    pub(crate) fn mark_new(&mut self) {
        self.changes.extend((self.moments.len() as u64).checked_sub(1));
    }

    /// Tells that a signal was delivered at the latest position.
    pub(crate) fn mark_interrupted(&mut self) {
        self.interrupted.extend((self.moments.len() as u64).checked_sub(1));
    }

    pub(crate) fn mark_asleep(&mut self) {
        self.asleep = true;
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// How many instructions the operation took; the one that it sleeps in counts.
    pub(crate) fn instructions(&self) -> u64 {
        (self.moments.len() as u64).saturating_sub(1) + u64::from(self.asleep)
    }

    pub(crate) fn moment(&self, position: u64) -> Option<Moment> {
        self.moments.get(usize::try_from(position).ok()?).copied()
    }

    /// The first position at which another recording takes another way, and the address before it.
    pub(crate) fn parts_from(&self, other: &Self) -> Option<(u64, u64)> {
        let same = self.moments.iter().zip(&other.moments).take_while(|(a, b)| a == b).count();
        let before = self.moments.get(same.saturating_sub(1)).map_or(0, |moment| moment.instruction);
        let whole = same == self.moments.len() && same == other.moments.len();
        (!whole).then_some((same as u64, before))
    }

    pub(crate) fn changes(&self) -> &[u64] {
        &self.changes
    }

    /// Every kill point: each position after the start, but few of a run at one address.
    pub(crate) fn points(&self) -> Vec<u64> {
        let mut points = Vec::with_capacity(self.moments.len());
        let mut first = 0;
        for run in self.moments.chunk_by(|a, b| a.instruction == b.instruction) {
            let length = run.len() as u64;
            points.extend((first..first + length).filter(|&position| {
                let within = position - first;
                position > 0 && (within < 2 || within == length / 2 || within == length - 1)
            }));
            first += length;
        }
        if self.asleep {
            points.push(first);
        }
        points
    }

    /// The kill points that others can tell apart: one of each. The first, each after something new to them, and the last.
    pub(crate) fn distinct(&self) -> Vec<u64> {
        let seen: HashSet<u64> = self.changes.iter().map(|position| position + 1).chain([1]).collect();
        let mut points = self.points();
        let last = points.last().copied();
        points.retain(|point| seen.contains(point) || Some(*point) == last);
        points
    }

    /// The kill points to try: all within `budget`. Otherwise so many, half of them where the operation first comes to
    /// an instruction and half anywhere, evenly spread from a seeded start; and all that others can tell apart.
    pub(crate) fn plan(&self, budget: u64, seed: u64) -> Vec<u64> {
        let points = self.points();
        if points.len() as u64 <= budget {
            return points;
        }
        let mut seen = HashSet::new();
        let is_new = |position: &u64| self.moment(*position).is_some_and(|moment| seen.insert(moment.instruction));
        let new: Vec<u64> = points.iter().copied().filter(is_new).collect();
        let mut plan = spread(&new, budget / 2, seed);
        plan.extend(spread(&points, budget - budget / 2, seed));
        plan.extend(self.distinct());
        plan.sort_unstable();
        plan.dedup();
        plan
    }

    /// The cheapest way to a position; worked out for all of them at once.
    pub(crate) fn approach(&self, position: u64) -> Approach {
        let approaches = self.approaches.get_or_init(|| self.cheapest());
        let at = usize::try_from(position).ok().and_then(|at| approaches.get(at));
        // Asleep in the last instruction is a step from the position before.
        at.or(approaches.last()).copied().unwrap_or(Approach { position: 0, passes: 0 })
    }

    /// The fewest stops to every position, at breakpoints and single steps together.
    fn cheapest(&self) -> Vec<Approach> {
        let mut passes_of = HashMap::new();
        let mut approaches: Vec<Approach> = Vec::with_capacity(self.moments.len());
        let mut previous = None;
        let mut best_cost = 0;
        for (position, moment) in (0_u64..).zip(&self.moments) {
            best_cost += 1;
            let mut best = approaches.last().copied().unwrap_or(Approach { position, passes: 0 });
            // A breakpoint stops once for a run at one address, so only its first position can be run to.
            let executes = self.interrupted.binary_search(&position).is_err();
            if previous != Some(moment.instruction) && executes {
                let passes = passes_of.entry(moment.instruction).or_insert(0);
                *passes += 1;
                if *passes < best_cost && position > 0 {
                    best = Approach { position, passes: *passes };
                    best_cost = *passes;
                }
            }
            previous = Some(moment.instruction);
            approaches.push(best);
        }
        approaches
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut words = vec![u64::from(self.asleep)];
        words.push(self.moments.len() as u64);
        words.extend(self.moments.iter().flat_map(|moment| [moment.instruction, moment.depth]));
        for list in [&self.changes, &self.interrupted] {
            words.push(list.len() as u64);
            words.extend(list);
        }
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
        let mut words = words.collect::<Result<Vec<u64>, _>>().ok()?.into_iter();
        let asleep = words.next()? == 1;
        let mut moments = Vec::new();
        for _ in 0..words.next()? {
            moments.push(Moment { instruction: words.next()?, depth: words.next()? });
        }
        let mut list = || -> Option<Vec<u64>> { (0..words.next()?).map(|_| words.next()).collect() };
        let (changes, interrupted) = (list()?, list()?);
        Some(Self { moments, changes, interrupted, asleep, approaches: OnceLock::new() })
    }
}

/// `count` of the points, evenly spread from a seeded start; all if there are no more.
fn spread(points: &[u64], count: u64, seed: u64) -> Vec<u64> {
    let (total, count) = (points.len() as u128, u128::from(count));
    // Those where a line of that slope takes a step.
    let taken = |ordinal: u128| (ordinal * count + u128::from(seed)) % total < count;
    (0..).zip(points).filter(|(ordinal, _)| taken(*ordinal)).map(|(_, point)| *point).collect()
}
