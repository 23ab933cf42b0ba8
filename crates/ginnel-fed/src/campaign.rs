//! Many trials, one after the other, watched by a thread: a panic is noted and the next one begins, one that takes long is run again, and where one does
//! not return the process ends with its name.
//!
//! Time: a trial makes no system call and waits for nothing, so it takes some microseconds. One that takes longer than [`SLOW`] is run once more, as the
//! machine may have had something else to do; twice is a finding.

use crate::dice::Dice;
use crate::links::Link;
use crate::scene::SCENES;
use crate::trial::{Change, InUse, Order, Part, Trial, scribble};
use crate::world::World;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

/// No trial may take longer.
const SLOW: Duration = Duration::from_secs(1);
/// One that takes longer does not return.
const HUNG: Duration = Duration::from_secs(20);

/// The trials of one link.
pub struct Campaign<'a> {
    link: &'a Link,
    in_use: InUse,
    world: World,
    watch: Arc<Watch>,
    verdict: Verdict,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Trials in which a bit was flipped, or a part filled.
    pub flips: u64,
    /// Words that were changed between operations.
    pub mutations: u64,
    /// Words that another thread changed during operations.
    pub scribbles: u64,
    /// What went wrong, how often, and the first trial of each.
    pub bad: BTreeMap<String, (u64, String)>,
}

/// What the watching thread knows of the trial that runs.
#[derive(Default)]
struct Watch {
    /// Grows with each trial.
    trials: AtomicU64,
    done: AtomicBool,
    /// What it is, as words: a name takes longer than a trial.
    what: [AtomicU64; 2],
}

impl Verdict {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.flips += other.flips;
        self.mutations += other.mutations;
        self.scribbles += other.scribbles;
        for (what, (times, first)) in other.bad {
            self.bad.entry(what).or_insert((0, first)).0 += times;
        }
    }
}

impl<'a> Campaign<'a> {
    /// Of this link; begins to watch.
    pub fn new(link: &'a Link) -> Self {
        let watch = Arc::new(Watch::default());
        let watched = watch.clone();
        let name = link.name;
        std::thread::spawn(move || watch_over(&watched, name));
        Self { link, in_use: InUse::of(link), world: World::new(link), watch, verdict: Verdict::default() }
    }

    /// Bits that [`Self::flips`] flips.
    pub fn bits(&self) -> u64 {
        self.in_use.words() * 64
    }

    /// Flips each bit whose number is `first` and a multiple of `step` more, in every scene and both orders.
    pub fn flips(&mut self, first: u64, step: u64) {
        for bit in (first..self.bits()).step_by(step as usize) {
            for scene in SCENES {
                for order in [Order::Old, Order::New] {
                    self.attempt(&Trial { link: self.link, scene, change: Change::Flip(bit), order });
                    self.verdict.flips += 1;
                }
            }
        }
    }

    /// Fills each part with zeroes, ones, and a few other bytes.
    pub fn fills(&mut self) {
        for part in [Part::Control, Part::Entries, Part::Slots, Part::All] {
            for byte in [0, 0xFF, 1, 0x7F, 0x80, 0x55] {
                for scene in SCENES {
                    for order in [Order::Old, Order::New] {
                        self.attempt(&Trial { link: self.link, scene, change: Change::Fill(part, byte), order });
                        self.verdict.flips += 1;
                    }
                }
            }
        }
    }

    /// Changes words between operations, once for each seed.
    pub fn mutations(&mut self, seeds: std::ops::Range<u64>) {
        for seed in seeds {
            let (scene, order) = (SCENES[seed as usize % SCENES.len()], [Order::Old, Order::New][seed as usize % 2]);
            let change = Change::Scribble(seed);
            self.verdict.mutations += self.attempt(&Trial { link: self.link, scene, change, order });
        }
    }

    /// The words of one input of a fuzzer.
    pub fn words(&mut self, scene: usize, order: Order, words: Vec<(u64, u64)>) {
        let scene = SCENES[scene % SCENES.len()];
        self.attempt(&Trial { link: self.link, scene, change: Change::Words(words), order });
    }

    /// Works while another thread changes words, for so long.
    pub fn race(&mut self, time: Duration, seed: u64) {
        let (region, in_use) = (self.world.region.clone(), self.in_use.clone());
        let (done, end) = (AtomicBool::new(false), Instant::now() + time);
        self.verdict.scribbles += std::thread::scope(|scope| {
            let scribbler = scope.spawn(|| {
                let (mut dice, mut scribbles) = (Dice::new(!seed), 0);
                while !done.load(Relaxed) {
                    scribbles += scribble(&region, &in_use, &mut dice);
                    (0..dice.below(2000)).for_each(|_| std::hint::spin_loop());
                }
                scribbles
            });
            let mut dice = Dice::new(seed);
            while Instant::now() < end {
                self.race_once(dice.roll());
            }
            done.store(true, Relaxed);
            scribbler.join().expect("a thread that only writes")
        });
    }

    fn race_once(&mut self, seed: u64) {
        self.watch.begin(u64::MAX, seed);
        let ran = quietly(|| {
            self.world.clear();
            SCENES[seed as usize % SCENES.len()].play(&mut self.world);
            Trial::operate(&mut self.world, &self.in_use, Dice::new(seed));
        });
        if let Err(panic) = ran {
            note(&mut self.verdict.bad, panic, || format!("race {seed:#x} on {}", self.link.name));
        }
    }

    /// Ends the watch.
    pub fn verdict(mut self) -> Verdict {
        std::mem::take(&mut self.verdict)
    }

    fn attempt(&mut self, trial: &Trial<'_>) -> u64 {
        let (took, written) = self.once(trial);
        if took > SLOW && self.once(trial).0 > SLOW {
            note(&mut self.verdict.bad, "it took a second or more".into(), || name_of(trial));
        }
        written
    }

    fn once(&mut self, trial: &Trial<'_>) -> (Duration, u64) {
        self.watch.begin((trial.scene as u64) << 1 | trial.order as u64, trial.seed());
        let begin = Instant::now();
        let written = quietly(|| trial.run(&mut self.world, &self.in_use)).unwrap_or_else(|panic| {
            note(&mut self.verdict.bad, panic, || name_of(trial));
            0
        });
        (begin.elapsed(), written)
    }
}

impl Drop for Campaign<'_> {
    fn drop(&mut self) {
        self.watch.done.store(true, Relaxed);
    }
}

fn name_of(trial: &Trial<'_>) -> String {
    format!("{:?} on {} in {:?}, {:?} handles first", trial.change, trial.link.name, trial.scene, trial.order)
}

fn note(bad: &mut BTreeMap<String, (u64, String)>, what: String, first: impl FnOnce() -> String) {
    bad.entry(what).or_insert_with(|| (0, first())).0 += 1;
}

thread_local! {
    /// Whether this thread runs trials.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs it; a panic is not printed, but told with its place.
fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            PLACE.with(|last| last.replace(place));
            if !QUIET.with(Cell::get) {
                loud(panic);
            }
        }));
    });
    QUIET.with(|quiet| quiet.set(true));
    let ran = catch_unwind(AssertUnwindSafe(run));
    QUIET.with(|quiet| quiet.set(false));
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("panic at {}: {}", PLACE.with(|last| last.borrow().clone()), text.unwrap_or_default())
    })
}

impl Watch {
    fn begin(&self, how: u64, seed: u64) {
        self.what[0].store(how, Relaxed);
        self.what[1].store(seed, Relaxed);
        self.trials.fetch_add(1, Relaxed);
    }
}

/// Ends the process when a trial does not return.
fn watch_over(watch: &Watch, link: &str) {
    let mut last = (0, Instant::now());
    while !watch.done.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        let trials = watch.trials.load(Relaxed);
        if trials != last.0 || trials == 0 {
            last = (trials, Instant::now());
        } else if last.1.elapsed() > HUNG {
            let [how, seed] = [0, 1].map(|index: usize| watch.what[index].load(Relaxed));
            // Not eprintln: its output is captured, and lost with the program.
            let _ = writeln!(
                std::io::stderr(),
                "\na trial on {link} does not return: scene {}, order {}, bit or seed {seed:#x}",
                how >> 1,
                how & 1
            );
            std::process::abort();
        }
    }
}
