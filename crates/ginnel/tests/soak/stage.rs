//! One round: its processes, who of them is killed and stopped when, the drain, and the account that the judge gets.
//!
//! A kill is noted before the signal is sent, and the victim is reaped before its seat is taken again: so what the ledger says of its last life stands still.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ginnel_os::pidfd::PidFd;
use ginnel_os::process::monotonic_ns;
use ginnel_os::signal::Signal;

use super::audit;
use super::dice::Dice;
use super::judge::{self, Account, Channel, Verdict};
use super::ledger::{Count, Head, Ledger, Phase, Way};
use super::schedule::{Role, Scene, Shape};

/// Longest pause of a stopped process.
const STOP_MAX: Duration = Duration::from_millis(300);
/// How often it looks whether everything has come.
const LOOK: Duration = Duration::from_millis(10);

/// What is not from chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How long senders are at work.
    pub(crate) run: Duration,
    /// Between two kills or stops, at most.
    pub(crate) between: Duration,
    /// What a participant waits at most.
    pub(crate) limit: Duration,
}

/// The process of a seat.
struct Life {
    number: u64,
    process: Option<Child>,
    /// When it may be started again.
    due: Instant,
    stopped_until: Option<Instant>,
    /// Its last count of beats, and when that changed.
    beats: (u64, Instant),
}

struct Stage<'a> {
    scene: &'a Scene,
    pace: Pace,
    ledger: Ledger,
    ledger_path: PathBuf,
    links: PathBuf,
    lives: Vec<Life>,
    dice: Dice,
    doubts: Vec<Vec<std::ops::Range<u64>>>,
    account: Account,
}

/// Runs one round.
pub(crate) fn play(scene: &Scene, pace: Pace) -> io::Result<Verdict> {
    let home = tempfile::Builder::new().prefix("ginnel-soak-").tempdir_in("/dev/shm")?;
    let mut stage = Stage::set(scene, pace, home.path())?;
    stage.run()?;
    stage.drain()?;
    stage.account.leaks.extend(audit::of_open(scene, &stage.links)?);
    stage.end()?;
    stage.account.leaks.extend(audit::of_closed(scene, &stage.links)?);
    stage.judge()
}

impl<'a> Stage<'a> {
    fn set(scene: &'a Scene, pace: Pace, home: &Path) -> io::Result<Self> {
        let (ledger_path, links) = (home.join("ledger"), home.join("links"));
        std::fs::create_dir(&links)?;
        set_private(&links)?;
        let ledger = Ledger::create(&ledger_path)?;
        ledger.head(Head::Limit).store(pace.limit.as_millis() as u64, Release);
        let (now, dice) = (Instant::now(), scene.dice_of_stage());
        let life = |_| Life { number: 0, process: None, due: now, stopped_until: None, beats: (0, now) };
        let lives = scene.seats.iter().map(life).collect();
        let doubts = vec![Vec::new(); scene.channels()];
        let account = Account::new(scene);
        Ok(Self { scene, pace, ledger, ledger_path, links, lives, dice, doubts, account })
    }

    fn run(&mut self) -> io::Result<()> {
        let end = Instant::now() + self.pace.run;
        while Instant::now() < end {
            self.tend()?;
            let until = Instant::now() + self.random_time(self.pace.between);
            while Instant::now() < until.min(end) {
                self.tend()?;
                // To the microsecond, so that it comes at any point of what its victim does.
                sleep(until.min(end).saturating_duration_since(Instant::now()).min(Duration::from_millis(3)));
            }
            self.strike()?;
        }
        Ok(())
    }

    fn random_time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.dice.below(most.as_micros() as u64 + 1))
    }

    /// Starts who is due, lets go on who was stopped for long enough, and looks whether everybody is well.
    fn tend(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for seat in 0..self.lives.len() {
            if self.lives[seat].process.is_none() && self.lives[seat].due <= now && self.is_needed(seat) {
                self.start(seat)?;
            }
            if self.lives[seat].stopped_until.is_some_and(|until| until <= now) {
                self.go_on(seat)?;
            }
            self.look_after(seat)?;
        }
        Ok(())
    }

    fn is_needed(&self, seat: usize) -> bool {
        match self.ledger.phase() {
            Phase::Run => true,
            Phase::Drain => self.scene.seats[seat].role == Role::Receiver,
            Phase::End => false,
        }
    }

    fn start(&mut self, seat: usize) -> io::Result<()> {
        let (scene, number) = (self.scene, self.lives[seat].number);
        let numbers = [scene.seed, scene.round, seat as u64, number, u64::from(std::process::id())];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").arg(scene.shape.name()).arg(scene.sabotage.name()).arg(&self.ledger_path);
        command.args(numbers.map(|number| number.to_string()));
        command.env(ginnel::DIRECTORY_VARIABLE, &self.links).stdin(Stdio::null()).stdout(Stdio::null());
        self.lives[seat].process = Some(command.spawn()?);
        self.lives[seat].beats = (self.ledger.count(seat, Count::Beats), Instant::now());
        Ok(())
    }

    /// Whether it has ended by itself, or does nothing for too long.
    fn look_after(&mut self, seat: usize) -> io::Result<()> {
        let role = self.scene.seats[seat].role;
        let Some(process) = &mut self.lives[seat].process else { return Ok(()) };
        if let Some(status) = process.try_wait()? {
            self.lives[seat].process = None;
            self.bury(seat);
            if !status.success() || self.is_needed(seat) {
                self.account.failures.push(format!("{role:?} in seat {seat} ended by itself: {status}"));
            }
            return Ok(());
        }
        let (beats, now) = (self.ledger.count(seat, Count::Beats), Instant::now());
        if beats != self.lives[seat].beats.0 || self.lives[seat].stopped_until.is_some() {
            self.lives[seat].beats = (beats, now);
        } else if now - self.lives[seat].beats.1 > 2 * self.pace.limit {
            let life = self.lives[seat].number;
            self.account
                .stuck
                .push(format!("{role:?} in seat {seat}, life {life}: no sign for {:?}", 2 * self.pace.limit));
            self.kill(seat)?;
        }
        Ok(())
    }

    /// A kill or a stop.
    fn strike(&mut self) -> io::Result<()> {
        let kills = !self.dice.one_in(4);
        let seat = self.dice.index(self.lives.len());
        let pause = self.random_time(STOP_MAX);
        if self.lives[seat].process.is_none() {
            return Ok(());
        }
        if kills && self.scene.seats[seat].is_mortal {
            self.kill(seat)?;
            self.account.kills += 1;
        } else if !kills && self.lives[seat].stopped_until.is_none() {
            // A message that waits for who is stopped shows nothing about recovery.
            self.forget_kill();
            self.signal(seat, Signal::STOP)?;
            self.lives[seat].stopped_until = Some(Instant::now() + pause);
            self.account.stops += 1;
        }
        Ok(())
    }

    fn forget_kill(&self) {
        self.ledger.head(Head::Killed).store(0, Release);
        self.ledger.head(Head::ReceiverKilled).store(0, Release);
    }

    fn kill(&mut self, seat: usize) -> io::Result<()> {
        let is_anybody_stopped = self.lives.iter().any(|life| life.stopped_until.is_some());
        let now = monotonic_ns();
        let Some(process) = &mut self.lives[seat].process else { return Ok(()) };
        if self.scene.seats[seat].role == Role::Receiver {
            self.ledger.head(Head::Kills).fetch_add(1, AcqRel);
        }
        process.kill()?;
        process.wait()?;
        if !is_anybody_stopped {
            self.ledger.head(Head::Killed).store(now, Release);
            if self.scene.seats[seat].role == Role::Receiver {
                self.ledger.head(Head::ReceiverKilled).store(now, Release);
            }
        }
        self.lives[seat].process = None;
        self.lives[seat].stopped_until = None;
        self.mark_connections(seat);
        self.account.killed(self.scene.seats[seat].role, self.scene.shape);
        self.bury(seat);
        Ok(())
    }

    /// Its life is over: what it had begun is in doubt, and the next life is due.
    fn bury(&mut self, seat: usize) {
        for channel in self.scene.channels_of(seat) {
            let (begun, sent) = (self.ledger.begun(channel), self.ledger.sent(channel));
            if sent < begun {
                self.doubts[channel].push(sent..begun);
            }
        }
        let delay = if self.dice.one_in(3) { self.random_time(Duration::from_millis(30)) } else { Duration::ZERO };
        self.lives[seat].number += 1;
        self.lives[seat].due = Instant::now() + delay;
    }

    /// Of a stream: which connections lost an end.
    fn mark_connections(&self, seat: usize) {
        if self.scene.shape != Shape::Stream {
            return;
        }
        if self.scene.seats[seat].role == Role::Sender {
            let connection = self.ledger.count(seat, Count::Connection);
            if connection > 0 {
                self.ledger.way(seat, connection as usize - 1, Way::ClientKilled).store(1, Release);
            }
            self.ledger.set(seat, Count::Connection, 0);
            return;
        }
        let life = self.lives[seat].number + 1;
        for client in 0..self.scene.seats.len() {
            for connection in 0..self.ledger.count(client, Count::Connections) {
                let way = |way: Way| self.ledger.way(client, connection as usize, way);
                if way(Way::Server).load(Acquire) == life {
                    way(Way::ServerKilled).store(1, Release);
                }
            }
        }
    }

    fn signal(&mut self, seat: usize, signal: Signal) -> io::Result<()> {
        let Some(process) = &self.lives[seat].process else { return Ok(()) };
        // Not reaped yet, so the number is still its own.
        PidFd::open(process.id())?.send(signal)
    }

    fn go_on(&mut self, seat: usize) -> io::Result<()> {
        self.lives[seat].stopped_until = None;
        self.signal(seat, Signal::CONT)
    }

    /// Senders leave, receivers take what is there.
    fn drain(&mut self) -> io::Result<()> {
        for seat in 0..self.lives.len() {
            self.go_on(seat)?;
        }
        self.forget_kill();
        self.ledger.set_phase(Phase::Drain);
        let (mut received, mut since) = (0, Instant::now());
        loop {
            self.tend()?;
            let now = Instant::now();
            if self.received() != received {
                (received, since) = (self.received(), now);
            }
            let quiet = now - since;
            let is_done = match self.senders_left() {
                0 => quiet >= self.quiet() || self.has_everything_come() && quiet > 5 * LOOK,
                _ => quiet > 3 * self.pace.limit,
            };
            if is_done {
                return Ok(());
            }
            sleep(LOOK);
        }
    }

    fn senders_left(&self) -> usize {
        let seats = self.scene.seats.iter().zip(&self.lives);
        seats.filter(|(seat, life)| seat.role == Role::Sender && life.process.is_some()).count()
    }

    /// How long nothing must come before it counts as lost.
    fn quiet(&self) -> Duration {
        match self.scene.shape {
            shape if shape.is_queue() => self.pace.limit / 3,
            Shape::Latest => Duration::ZERO, // the newest can be looked at for ever
            _ => Duration::from_millis(200),
        }
    }

    fn received(&self) -> u64 {
        (0..self.lives.len()).map(|seat| self.ledger.count(seat, Count::Received)).sum()
    }

    fn has_everything_come(&self) -> bool {
        self.scene.shape.is_queue()
            && self.channels().iter().all(|channel| channel.missing(&self.ledger).next().is_none())
    }

    fn channels(&self) -> Vec<Channel> {
        let channels = 0..self.scene.channels();
        channels
            .map(|number| Channel { number, begun: self.ledger.begun(number), doubts: self.doubts[number].clone() })
            .collect()
    }

    /// Everybody leaves.
    fn end(&mut self) -> io::Result<()> {
        self.ledger.set_phase(Phase::End);
        let until = Instant::now() + 3 * self.pace.limit;
        while self.lives.iter().any(|life| life.process.is_some()) && Instant::now() < until {
            self.tend()?;
            sleep(Duration::from_millis(1));
        }
        for seat in 0..self.lives.len() {
            if self.lives[seat].process.is_some() {
                self.account.stuck.push(format!("seat {seat} did not leave"));
                self.kill(seat)?;
            }
        }
        Ok(())
    }

    fn judge(mut self) -> io::Result<Verdict> {
        self.account.channels = self.channels();
        for seat in 0..self.lives.len() {
            let (events, more) = self.ledger.events(seat);
            self.account.events.extend(events);
            self.account.more_events += more;
            for (count, sum) in self.account.sums() {
                *sum += self.ledger.count(seat, count);
            }
        }
        self.account.recovery_ns = self.ledger.head(Head::Recovery).load(Acquire);
        Ok(judge::judge(self.scene, &self.account, &self.ledger))
    }
}

impl Drop for Stage<'_> {
    /// Nobody outlives an error.
    fn drop(&mut self) {
        for process in self.lives.iter_mut().filter_map(|life| life.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// 0700, as a directory of links must be.
fn set_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}
