//! The harness against itself: every mechanism moves a few messages between two real processes and all are counted, and what
//! goes wrong (damage, loss, death, a hang) is found and named.
//!
//! Not a measurement: no time is asserted but the hard limit of each run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ginnel_bench::{
    Amount, ByteStream, CacheLine, Case, Contender, Count, Failure, Inlet, Mechanism, Mode, Outlet, Payload, Placement,
    Plan, RawConsumer, RawProducer, RawRing, RawSlots, RingShape, Role, RunError, Sample, Shape, Terms, Way, Workload,
    baselines, contest, kernel_streams, measure, table,
};

const LIMIT: Duration = Duration::from_secs(30);

/// One test measures at a time: two that spin would wait for each other's time slices.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn terms(limit: Duration) -> Terms {
    Terms { placement: Placement::Auto, limit, stop: None }
}

fn few<M: Mechanism>(mechanism: &M, case: &Case) -> Result<Sample, RunError> {
    measure(mechanism, case, Count { warm_up: 20, messages: 300 }, &terms(LIMIT))
}

fn every_case(sizes: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for workload in [Workload::RoundTrip, Workload::Stream] {
        for mode in [Mode::Spin, Mode::Block] {
            for payload in [Payload::Whole, Payload::Ends] {
                cases.extend(sizes.iter().map(|size| Case {
                    shape: Shape::Queue,
                    workload,
                    mode,
                    size: *size,
                    payload,
                }));
            }
        }
    }
    cases
}

fn arrives<M: Mechanism>(name: &str, cases: &[Case], make: impl Fn(&Case) -> Result<M, Failure>) {
    let _alone = alone();
    for case in cases {
        let sample = few(&make(case).unwrap(), case).unwrap_or_else(|error| panic!("{name}, {case}: {error}"));
        assert_eq!(sample.messages, 300, "{name}, {case}");
        assert!(sample.elapsed_s > 0.0 && sample.sender.cpu_s >= 0.0, "{name}, {case}");
        assert_eq!(sample.times.is_some(), case.workload == Workload::RoundTrip, "{name}, {case}");
        if let Some(times) = sample.times {
            assert!(times.min_ns <= times.p50_ns && times.p50_ns <= times.p999_ns && times.p999_ns <= times.max_ns);
            assert!(times.middle_ns >= times.min_ns && times.middle_ns <= times.max_ns);
        }
    }
}

const SIZES: [usize; 7] = [1, 8, 20, 64, 4096, 5000, 64 << 10];

#[test]
fn the_raw_ring_delivers_in_every_case() {
    arrives("raw ring", &every_case(&SIZES), RawRing::new);
    arrives("unpaused", &every_case(&[64]), RawRing::unpaused);
}

#[test]
fn the_raw_ring_delivers_when_it_is_always_full_or_always_asleep() {
    for looks in [0, 5] {
        let shape = RingShape { slots: 2, batch: 1, ahead: 1, pauses: 0, looks };
        arrives("a ring of two", &every_case(&[8, 64]), |case| RawRing::with_shape(case, shape));
    }
    let shape = RingShape { slots: 4, batch: 4, ahead: 0, pauses: 1, looks: 0 };
    arrives("a whole ring a batch", &every_case(&[64]), |case| RawRing::with_shape(case, shape));
}

#[test]
fn the_raw_slots_deliver_in_every_case_that_spins() {
    let mut cases = every_case(&SIZES);
    cases.retain(|case| case.mode == Mode::Spin);
    arrives("raw slots", &cases, RawSlots::new);
    arrives("two slots", &cases, |case| RawSlots::with_shape(case, 2, 2, 8, 0));
}

#[test]
fn the_cache_line_goes_there_and_back() {
    arrives("cache line", &[Case::round_trip(Mode::Spin, 8)], |_| CacheLine::new(1));
}

#[test]
fn pipes_and_sockets_deliver_in_every_case() {
    arrives("pipe", &every_case(&SIZES), ByteStream::pipe);
    arrives("unix stream", &every_case(&SIZES), ByteStream::socket);
}

#[test]
fn impossible_shapes_and_empty_cases_are_refused() {
    let case = Case::stream(Mode::Spin, 64);
    let good = RingShape::best(&case);
    for bad in
        [RingShape { slots: 3, ..good }, RingShape { batch: 0, ..good }, RingShape { batch: good.slots + 1, ..good }]
    {
        assert!(RawRing::with_shape(&case, bad).is_err(), "{bad:?}");
    }
    assert!(RawSlots::with_shape(&case, 2, 3, 8, 0).is_err());
    let empty = Case { size: 0, ..case };
    assert!(matches!(few(&RawRing::new(&case).unwrap(), &empty), Err(RunError::Setup(_))));
}

/// What a saboteur does to the sixth message after the warm-up.
#[derive(Clone, Copy, Debug)]
enum Sabotage {
    FlipByte(usize),
    Drop,
    Repeat,
    DieSending,
    DieReceiving,
    HangSending,
    FailReceiving,
}

/// The raw ring with an accident.
struct Saboteur {
    ring: RawRing,
    sabotage: Sabotage,
}

struct BadOut(RawProducer, Sabotage, u64);
struct BadIn(RawConsumer, Sabotage, u64);

const ACCIDENT: u64 = 26;

fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    unreachable!("killed")
}

impl Mechanism for Saboteur {
    type Out = BadOut;
    type In = BadIn;

    fn sender(&self, way: Way) -> Result<BadOut, Failure> {
        Ok(BadOut(self.ring.sender(way)?, self.sabotage, 0))
    }

    fn receiver(&self, way: Way) -> Result<BadIn, Failure> {
        Ok(BadIn(self.ring.receiver(way)?, self.sabotage, 0))
    }
}

impl Outlet for BadOut {
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        self.2 += 1;
        let mut bytes = vec![0; len];
        fill(&mut bytes);
        if self.2 == ACCIDENT {
            match self.1 {
                Sabotage::FlipByte(at) => bytes[at] ^= 0x10,
                Sabotage::Drop => return Ok(()),
                Sabotage::Repeat => self.0.send(&bytes)?,
                Sabotage::DieSending => die(),
                Sabotage::HangSending => std::thread::sleep(Duration::from_secs(3600)),
                Sabotage::DieReceiving | Sabotage::FailReceiving => {}
            }
        }
        self.0.send(&bytes)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush()
    }
}

impl Inlet for BadIn {
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        self.2 += 1;
        match self.1 {
            Sabotage::DieReceiving if self.2 == ACCIDENT => die(),
            Sabotage::FailReceiving if self.2 == ACCIDENT => Err(Failure::new("no more today")),
            _ => self.0.recv_with(take),
        }
    }
}

fn accident(case: &Case, sabotage: Sabotage, limit: Duration) -> RunError {
    let _alone = alone();
    let saboteur = Saboteur { ring: RawRing::new(case).unwrap(), sabotage };
    let count = Count { warm_up: 20, messages: 300 };
    let started = Instant::now();
    let error = measure(&saboteur, case, count, &terms(limit)).expect_err("an accident");
    assert!(started.elapsed() < LIMIT, "{error}");
    error
}

#[test]
fn damage_loss_and_repetition_are_found_by_the_receiver() {
    for (size, byte) in [(8, 7), (20, 19), (64, 40), (4096, 0), (4096, 4095)] {
        let error = accident(&Case::stream(Mode::Spin, size), Sabotage::FlipByte(byte), LIMIT).to_string();
        assert!(error.starts_with("the receiver failed: "), "{error}");
        assert!(error.contains("message 26"), "{error}");
    }
    let error = accident(&Case::stream(Mode::Spin, 64), Sabotage::Drop, LIMIT).to_string();
    assert!(error.contains("expected message 26, the bytes say 27"), "{error}");
    let error = accident(&Case::stream(Mode::Block, 64), Sabotage::Repeat, LIMIT).to_string();
    assert!(error.contains("expected message 27, the bytes say 26"), "{error}");
    let error = accident(&Case::round_trip(Mode::Spin, 64), Sabotage::FlipByte(63), LIMIT).to_string();
    assert!(error.starts_with("the a") && error.contains("message 26 is damaged"), "{error}");
}

#[test]
fn a_dead_side_is_named_and_its_peer_not_waited_for() {
    for mode in [Mode::Spin, Mode::Block] {
        let error = accident(&Case::stream(mode, 64), Sabotage::DieSending, LIMIT).to_string();
        assert_eq!(error, "the sender died: killed by signal 9");
        let error = accident(&Case::stream(mode, 64), Sabotage::DieReceiving, LIMIT).to_string();
        assert_eq!(error, "the receiver died: killed by signal 9");
        let error = accident(&Case::round_trip(mode, 64), Sabotage::DieReceiving, LIMIT).to_string();
        assert!(error.ends_with("died: killed by signal 9"), "{error}");
    }
    let error = accident(&Case::stream(Mode::Block, 64), Sabotage::FailReceiving, LIMIT).to_string();
    assert_eq!(error, "the receiver failed: no more today");
}

#[test]
fn a_hang_ends_at_the_limit() {
    let limit = Duration::from_millis(300);
    let error = accident(&Case::stream(Mode::Block, 64), Sabotage::HangSending, limit).to_string();
    assert_eq!(error, "the sender and the receiver did not finish within 300ms");
}

#[test]
fn a_contest_of_everything_fills_its_table() {
    let _alone = alone();
    let cases = vec![
        Case::round_trip(Mode::Spin, 64),
        Case::round_trip(Mode::Block, 64),
        Case::stream(Mode::Spin, 64),
        Case::stream(Mode::Block, 4096),
    ];
    let plan = Plan { cases, rounds: 2, amount: Amount::Messages(200), limit: LIMIT, ..Plan::default() };
    let mut contenders = baselines();
    contenders.extend(kernel_streams());
    contenders.push(Contender::new("broken", |_: &Case| Err::<RawRing, _>(Failure::new("out of order today"))));
    let mut steps = 0;
    let report = contest(&plan, &contenders, |_| steps += 1).unwrap();
    assert_eq!(report.groups.len(), 4);
    assert_eq!(report.failures().count(), 4);
    assert_eq!(steps, 2 * report.groups.iter().map(|group| group.rows.len()).sum::<usize>());
    for group in &report.groups {
        assert!(group.baseline.is_some());
        assert_eq!(group.cache_line.is_some(), group.case == Case::round_trip(Mode::Spin, 64));
        for row in group.rows.iter().filter(|row| row.failure.is_none()) {
            assert_eq!(row.messages, 200);
            assert!(row.rate_per_s.unwrap().median > 0.0 && row.ratio.unwrap().median > 0.0);
            assert_eq!(row.size == 8, row.role == Role::CacheLine);
        }
    }
    let text = table(&report);
    for words in ["cache line (8 B)", "raw ring", "unix stream", "broken", "setting up: out of order today", "GB/s"] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""workload":"round-trip","mode":"spin""#), "{json}");
}

#[test]
fn a_contest_by_time_finds_its_own_number_of_messages() {
    let _alone = alone();
    let plan = Plan {
        cases: vec![Case::stream(Mode::Spin, 4096)],
        rounds: 1,
        amount: Amount::Time(Duration::from_millis(5)),
        limit: LIMIT,
        ..Plan::default()
    };
    let report = contest(&plan, &baselines(), |_| ()).unwrap();
    assert!(report.groups[0].rows[0].messages > 20);
}
