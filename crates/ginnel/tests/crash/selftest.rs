//! The harness on itself: it must find a broken protocol, exactly where it is broken, and nothing in a correct one.
//!
//! Runs before every other scenario. Each case is a small program over one shared page, in which what a kill leaves behind
//! is known from the instructions.

// The cases are instructions written out, and calls of the C library that do what a careless operation might.
#![allow(unsafe_code)]

use std::arch::asm;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::fork;
use super::report::Tally;
use super::stepper::{self, Order, Outcome, Until};
use super::sweep::{Effort, Method, Part, Scenario, Sweep, sweep};
use super::trace::Trace;

const EVERYTHING: Effort = Effort { budget: u64::MAX, seed: 0, method: Method::Breakpoints, part: Part::WHOLE };
const SHORT: Duration = Duration::from_millis(60);
const LIMIT: Duration = Duration::from_secs(20);
const WORDS: usize = 512;

/// One page that parent and children share.
type Page = &'static [AtomicU64; WORDS];
type Case = (&'static str, fn(Page) -> Result<String, String>);

const CASES: [Case; 11] = [
    ("a broken update is found, exactly where", broken_update),
    ("a correct update has no violation", correct_update),
    ("breakpoints and steps reach the same moment", same_moment),
    ("a copy by one instruction is few points", repeated_instruction),
    ("a signal is passed on", signal),
    ("threads of the victim die with it", threads),
    ("a victim asleep is killed asleep", asleep),
    ("what fails is reported", failures),
    ("a survivor that hangs is a violation", hanging_survivor),
    ("the parts of a sweep are the whole", parts),
    ("one kill for each moment that others can tell apart", told_apart),
];

/// Runs every case: one line, and one pass or failure, for each.
pub(crate) fn run(tally: &mut Tally) {
    let page = match shared_page() {
        Ok(page) => page,
        Err(error) => {
            println!("self-test FAILED: {error}");
            tally.failed += 1;
            return;
        }
    };
    for (name, case) in CASES {
        let started = std::time::Instant::now();
        page.iter().for_each(|word| word.store(0, Relaxed));
        match fork::caught(|| case(page)) {
            Ok(note) => {
                println!("self-test ok: {name}: {note} ({:.2} s)", started.elapsed().as_secs_f64());
                tally.passed += 1;
            }
            Err(error) => {
                println!("self-test FAILED: {name}: {error}");
                tally.failed += 1;
            }
        }
    }
}

fn shared_page() -> Result<Page, String> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), WORDS * 8, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(fork::failed("mmap"));
    }
    // SAFETY: the mapping is that long, zeroed, aligned to a page, never unmapped, and reached through atomics only.
    Ok(unsafe { &*page.cast::<[AtomicU64; WORDS]>() })
}

/// A scenario over the page: zeroed, operated on, checked.
fn over_page(
    page: Page,
    name: &str,
    operation: impl Fn(Page) -> Result<(), String> + 'static,
    check: impl Fn(Page, &Outcome) -> Result<(), String> + 'static,
) -> Scenario {
    let zero = move || {
        page.iter().for_each(|word| word.store(0, Relaxed));
        Ok(page)
    };
    Scenario::new(name, zero, |page: &Page| Ok(*page), operation, check)
}

fn equal_pair(a: &AtomicU64, b: &AtomicU64) -> Result<(), String> {
    match (a.load(Relaxed), b.load(Relaxed)) {
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("A is {a}, B is {b}")),
    }
}

fn complete(sweep: &Sweep) -> Result<(), String> {
    match &sweep.abandoned {
        Some(why) => Err(why.clone()),
        None if sweep.tried != sweep.points => Err("not every point was tried".into()),
        None if sweep.method == EVERYTHING.method && sweep.strayed > 0 => Err("left its path".into()),
        None => Ok(()),
    }
}

/// Two words that must be equal are stored one after the other, three instructions apart.
fn broken(page: Page) -> Scenario {
    let update = |page: Page| {
        let words = page.as_ptr();
        // SAFETY: `words` is a live page, and its first two words are atomics that may change at any time.
        unsafe {
            asm!(
                "mov qword ptr [{words}], 1", "nop", "nop", "nop", "mov qword ptr [{words} + 8], 1",
                words = in(reg) words,
            );
        }
        Ok(())
    };
    over_page(page, "broken", update, |page, _| equal_pair(&page[0], &page[1]))
}

fn broken_update(page: Page) -> Result<String, String> {
    const NOP: u8 = 0x90;
    for method in [Method::Plain, Method::Breakpoints] {
        let sweep = sweep(&broken(page), Effort { method, ..EVERYTHING });
        complete(&sweep)?;
        let found: Vec<u64> = sweep.violations.iter().map(|violation| violation.position).collect();
        if found.len() != 4 || found[3] - found[0] != 3 {
            return Err(format!("{method}: violations at {found:?}, not at four in a row"));
        }
        let nops = sweep.violations[..3].iter().all(|violation| {
            // SAFETY: the address is one that this program's own code ran at.
            unsafe { *(violation.instruction as *const u8) == NOP }
        });
        if !nops {
            return Err(format!("{method}: the violations are not between the stores"));
        }
    }
    Ok("4 violations, between the stores, by either method".into())
}

/// The pair is written aside, and one store makes it the valid one.
fn correct_update(page: Page) -> Result<String, String> {
    let update = |page: Page| {
        page[2].store(1, Relaxed);
        page[3].store(1, Relaxed);
        page[4].store(2, Relaxed);
        Ok(())
    };
    let check = |page: Page, outcome: &Outcome| {
        let at = usize::try_from(page[4].load(Relaxed)).unwrap_or(0);
        equal_pair(&page[at], &page[at + 1])?;
        match outcome {
            Outcome::Finished { .. } if at != 2 => Err("the finished update is not visible".into()),
            _ => Ok(()),
        }
    };
    let sweep = sweep(&over_page(page, "correct", update, check), EVERYTHING);
    complete(&sweep)?;
    match sweep.violations.first() {
        Some(violation) => Err(format!("at {}: {}", violation.position, violation.promise)),
        None => Ok(format!("0 violations in {} kills", sweep.tried)),
    }
}

/// Loops, system calls, allocation and a repeated instruction: what a kill leaves must not depend on how it got there.
fn busy(page: Page) -> Result<(), String> {
    for round in 0..40 {
        page[0].fetch_add(1, Relaxed);
        if round % 8 == 0 {
            // SAFETY: `getppid` cannot fail and touches no memory.
            page[1].store(u64::from(unsafe { libc::getppid() } > 0) + round, Relaxed);
        }
    }
    let words: Vec<u64> = black_box((0..20).collect());
    page[2].store(words.iter().sum(), Relaxed);
    copy_bytes(page, 30);
    page[0].fetch_add(1, Relaxed);
    Ok(())
}

/// Copies within the page by one repeated instruction.
fn copy_bytes(page: Page, count: usize) {
    let (from, to) = (page[8..].as_ptr(), page[256..].as_ptr());
    assert!(count <= (256 - 8) * 8, "the copy would run into its target");
    // SAFETY: both ranges lie within the page, and its words may change at any time.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rsi") from => _, inout("rdi") to => _);
    }
}

fn same_moment(page: Page) -> Result<String, String> {
    let fill = |page: Page| {
        for (index, word) in (0..).zip(page) {
            let source = (8..256).contains(&index);
            word.store(if source { index * 0x0101_0101_0101_0101 } else { 0 }, Relaxed);
        }
    };
    let left_by = |until: Until<'_>| {
        fork::ask(LIMIT, || {
            fill(page);
            let trial = stepper::trial(|| Ok(page), busy, Order { until, patience: SHORT, wake: None });
            if let Some(trace) = trial.trace {
                return Ok(trace.to_bytes());
            }
            let words = page.iter().map(|word| word.load(Relaxed));
            let digest = words.fold(0_u64, |digest, word| digest.rotate_left(5) ^ word);
            let counter = page[0].load(Relaxed);
            Ok(format!("{:?}, counter {counter}, page {digest:x}", trial.outcome).into_bytes())
        })
    };
    let trace = Trace::from_bytes(&left_by(Until::End)?).ok_or("no trace")?;
    let (mut tried, mut hurried) = (0, 0);
    let points = trace.points();
    let stride = points.len().div_ceil(25);
    for position in points.into_iter().step_by(stride) {
        let approach = trace.approach(position);
        let plain = left_by(Until::Steps(position))?;
        let quick = left_by(Until::at(&trace, position))?;
        if plain != quick {
            return Err(format!(
                "at {position}: steps left {}, breakpoints {}",
                String::from_utf8_lossy(&plain),
                String::from_utf8_lossy(&quick),
            ));
        }
        tried += 1;
        hurried += u64::from(approach.passes > 0);
    }
    let new = trace.changes().len();
    if new < 5 || hurried * 2 < tried {
        return Err(format!("{new} new moments seen, {hurried} of {tried} by breakpoint"));
    }
    Ok(format!("{tried} moments compared, {hurried} by breakpoint, {new} new to others"))
}

fn repeated_instruction(page: Page) -> Result<String, String> {
    let copy = |page: Page| {
        copy_bytes(page, 1500);
        Ok(())
    };
    let trace = over_page(page, "copy", copy, |_, _| Ok(())).record()?;
    let points = trace.points().len();
    match trace.instructions() {
        steps if steps < 1500 => Err(format!("{steps} steps for 1500 bytes")),
        steps if points > 200 => Err(format!("{points} points for {steps} steps")),
        steps => Ok(format!("{points} points for {steps} steps")),
    }
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.store(1, Relaxed);
}

fn signal(page: Page) -> Result<String, String> {
    let operation = |page: Page| {
        let handler = handle as extern "C" fn(libc::c_int);
        // SAFETY: the handler stores to one atomic, which is allowed at any moment.
        unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
        // SAFETY: `raise` touches no memory.
        unsafe { libc::raise(libc::SIGUSR1) };
        page[0].store(HANDLED.load(Relaxed), Relaxed);
        page[1].store(1, Relaxed);
        Ok(())
    };
    let check = |page: Page, _: &Outcome| match page[1].load(Relaxed) {
        1 if page[0].load(Relaxed) != 1 => Err("the handler did not run".into()),
        _ => Ok(()),
    };
    let sweep = sweep(&over_page(page, "signal", operation, check), EVERYTHING);
    complete(&sweep)?;
    match sweep.violations.first() {
        Some(violation) => Err(format!("at {}: {}", violation.position, violation.promise)),
        None => Ok(format!("{} kills around one handler", sweep.tried)),
    }
}

fn threads(page: Page) -> Result<String, String> {
    let operation = |page: Page| {
        let beat = move || {
            loop {
                page[0].fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        };
        drop(std::thread::spawn(beat));
        page[1].store(1, Relaxed);
        Ok(())
    };
    let check = |page: Page, _: &Outcome| {
        let before = page[0].load(Relaxed);
        std::thread::sleep(Duration::from_millis(3));
        match page[0].load(Relaxed) {
            after if after != before => Err("a thread outlived the kill".into()),
            _ => Ok(()),
        }
    };
    let scenario = over_page(page, "threads", operation, check);
    let length = scenario.record()?.instructions();
    for eighth in 1..=8 {
        scenario.kill(Until::Steps(length * eighth / 8))?;
    }
    Ok(format!("8 kills on {length} instructions that start one"))
}

fn asleep(page: Page) -> Result<String, String> {
    let sleep = |page: Page| {
        page[0].store(1, Relaxed);
        // SAFETY: `pause` touches no memory.
        unsafe { libc::pause() };
        page[0].store(2, Relaxed);
        Ok(())
    };
    let check = |page: Page, outcome: &Outcome| match (page[0].load(Relaxed), outcome) {
        (2, _) => Err("it woke".into()),
        (0, Outcome::Asleep { .. }) => Err("asleep before it began".into()),
        (_, Outcome::Finished { .. }) => Err("it finished".into()),
        _ => Ok(()),
    };
    let scenario = || over_page(page, "asleep", sleep, check).patience(SHORT);
    let sweep = sweep(&scenario().sleeping(), EVERYTHING);
    complete(&sweep)?;
    if let Some(violation) = sweep.violations.first() {
        return Err(format!("at {}: {}", violation.position, violation.promise));
    }
    match scenario().record() {
        Err(error) if error.contains("sleeps") => Ok(format!("{} kills, the last asleep", sweep.tried)),
        other => Err(format!("a sleep that is not allowed gave {other:?}")),
    }
}

fn failures(page: Page) -> Result<String, String> {
    let fine = |_: Page, _: &Outcome| Ok(());
    let refuses = over_page(page, "", |_| Err("no luck".into()), fine);
    let leaves = over_page(page, "", |_| fork::exit_now(3), fine);
    let unprepared = |why: &'static str| {
        let prepare = move |_: &Page| -> Result<Page, String> {
            std::panic::set_hook(Box::new(|_| {})); // this one is meant, and only the child's
            if why == "no nerve" { panic!("{why}") } else { Err(why.into()) }
        };
        Scenario::new("", move || Ok(page), prepare, |_| Ok(()), fine)
    };
    let cases = [
        (refuses, "no luck"),
        (unprepared("no nerve"), "panicked: no nerve"),
        (leaves, "died by itself"),
        (unprepared("no time"), "prepare: no time"),
    ];
    for (scenario, expected) in &cases {
        match scenario.record() {
            Err(error) if error.contains(expected) => {}
            other => return Err(format!("{other:?} instead of {expected:?}")),
        }
    }
    Ok(format!("{} ways to fail", cases.len()))
}

fn hanging_survivor(_: Page) -> Result<String, String> {
    let hang = || loop {
        std::thread::sleep(SHORT);
    };
    match fork::ask(SHORT, hang) {
        Err(error) if error.contains("no answer") => Ok(error),
        other => Err(format!("{other:?}")),
    }
}

/// Processes that share a sweep try each point once.
fn parts(page: Page) -> Result<String, String> {
    let found = |part| {
        let sweep = sweep(&broken(page), Effort { part, ..EVERYTHING });
        (sweep.tried, sweep.violations.iter().map(|violation| violation.position).collect::<Vec<_>>())
    };
    let (tried, whole) = found(Part::WHOLE);
    let (mut tried_in_parts, mut in_parts) = (0, Vec::new());
    for part in ["1/3", "2/3", "3/3"] {
        let (tried, found) = found(Part::parse(part).ok_or(part)?);
        tried_in_parts += tried;
        in_parts.extend(found);
    }
    in_parts.sort_unstable();
    if tried_in_parts != tried || in_parts != whole {
        return Err(format!("{tried_in_parts} tried and {in_parts:?} found, and not {tried} and {whole:?}"));
    }
    if ["0/3", "4/3", "1", "x/3"].iter().any(|text| Part::parse(text).is_some()) {
        return Err("a part that is none".into());
    }
    Ok(format!("{tried} kills in 3 parts"))
}

/// Stores of every kind, some that change nothing, a loop that leads back, and system calls.
fn told_apart(page: Page) -> Result<String, String> {
    /// One for each line below that says so.
    const NEW: usize = 6 + 20 + 1 + 1;
    let update = |page: Page| {
        let words = page.as_ptr();
        // SAFETY: `words` is a live page of atomics that may change at any time; the system calls are yields and a question.
        unsafe {
            asm!(
                "push rax", "pop rax",
                "mov qword ptr [{words} + 16], 5", // new
                "mov qword ptr [{words} + 16], 5",
                "mov {one}, 1",
                "lock xadd qword ptr [{words} + 24], {one}", // new
                "mov {one}, 1",
                "xchg qword ptr [{words} + 32], {one}", // new
                "pcmpeqd xmm0, xmm0",
                "movups xmmword ptr [{words} + 48], xmm0", // new
                "mov qword ptr [{words} + 16], 0", // new
                "mov byte ptr [{words} + 4093], 1", // new, at the end of the page
                "mov rcx, 20", "lea rdi, [{words} + 512]", "mov al, 1",
                "rep stosb", // new, twenty times
                "mov rcx, 3",
                "2:",
                "mov qword ptr [{words} + 8], 1", // new, once
                "mov qword ptr [{words} + 8], 0",
                "dec rcx", "jnz 2b",
                "mov eax, 24", "syscall", // sched_yield
                "mov eax, 39", "syscall", // new: getpid, for all that is known here
                words = in(reg) words, one = out(reg) _,
                out("rax") _, out("rcx") _, out("rdi") _, out("r11") _, out("xmm0") _,
            );
        }
        Ok(())
    };
    let trace = over_page(page, "stores", update, |_, _| Ok(())).record()?;
    if trace.changes().len() != NEW {
        return Err(format!("{} new moments, and not {NEW}: at {:?}", trace.changes().len(), trace.changes()));
    }
    let few = sweep(&broken(page), Effort { budget: 0, ..EVERYTHING });
    if few.violations.is_empty() || few.tried != few.distinct {
        return Err(format!("{} of {} found {} violations", few.tried, few.distinct, few.violations.len()));
    }
    Ok(format!("{NEW} of {} moments; a broken update is found by {} kills", trace.points().len(), few.tried))
}
