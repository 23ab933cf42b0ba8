//! The processes of one mechanism, or one shape: started, watched, and gone at the end, however it ends, and all that they made as well.

use super::conversation::Found;
use super::mechanism::Mechanism;
use super::place::{InUse, Place};
use super::sample::Sample;
use super::shape::Shape;
use super::traffic::{NOT_HERE, Received, RoundTrip, Sent};
use crate::exit::Failure;
use crate::interrupt;
use ginnel::Link;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What one mechanism may take.
const LIMIT: Duration = Duration::from_secs(6);
/// How often the children are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long after one has failed the other may take to say why.
const OTHER: Duration = Duration::from_millis(250);

/// What both processes found.
#[derive(Serialize)]
pub(super) struct Outcome {
    /// Of those that arrived.
    pub(super) moved_bytes: u64,
    pub(super) messages: u64,
    /// Messages that did not arrive, and how many of them the receiver was told of.
    pub(super) lost: u64,
    pub(super) told_lost: u64,
    pub(super) transfer_ns: u64,
    pub(super) largest_bytes: u64,
    pub(super) round_trip_ns: RoundTrip,
    #[serde(skip)]
    sent_bytes: u64,
    #[serde(skip)]
    crc32: u32,
}

impl Outcome {
    fn of(sent: Sent, received: &Received) -> Self {
        Self {
            moved_bytes: received.bytes,
            messages: received.messages,
            lost: sent.messages.saturating_sub(received.messages),
            told_lost: received.dropped,
            transfer_ns: sent.transfer_ns,
            largest_bytes: sent.largest,
            round_trip_ns: sent.round_trip_ns,
            sent_bytes: sent.bytes,
            crc32: received.crc32,
        }
    }

    /// What is wrong with it, if anything. Datagrams may be lost; each of those that came was checked where it arrived.
    pub(super) fn wrong(&self, mechanism: Mechanism, sample: &Sample) -> Option<String> {
        if mechanism == Mechanism::Udp && self.lost > 0 {
            return None;
        }
        // Numbers were checked one by one, and are not of the file.
        let checked = mechanism == Mechanism::Signal || sample.crc32_of(self.moved_bytes) == Some(self.crc32);
        let right = self.moved_bytes == self.sent_bytes && self.lost == 0 && checked;
        (!right).then(|| {
            format!(
                "{} bytes arrived with checksum {:08x}, {} were sent with {:08x}",
                self.moved_bytes,
                self.crc32,
                self.sent_bytes,
                sample.crc32_of(self.sent_bytes).unwrap_or_default()
            )
        })
    }
}

/// Why there is no outcome.
pub(super) enum Trouble {
    /// This host does not give the mechanism.
    NotHere(String),
    Failed(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.text().to_owned())
    }
}

/// Moves the file through a mechanism.
pub(super) fn run(mechanism: Mechanism, sample: &Sample) -> Result<Outcome, Trouble> {
    let (place, in_use) = Place::make(mechanism)?;
    let place = Temporary(place, in_use);
    let start = Start { mechanism, sample, place: &place.0 };
    let mut members = start.all().map_err(|e| Trouble::Failed(format!("cannot start a process: {e}")))?;
    let outcome = wait(&mut members).and_then(|()| found(&mut members));
    drop(members); // before what they use goes
    outcome
}

/// Shows a shape: what each of its processes found, in the order of their parts.
pub(super) fn show(shape: Shape, sample: &Sample) -> Result<Vec<Found>, Trouble> {
    let (place, in_use) = Place::make(Mechanism::Shm)?;
    let place = Temporary(place, in_use);
    let start = Start { mechanism: Mechanism::Shm, sample, place: &place.0 };
    let mut members = Vec::new();
    for (part, name) in shape.parts().iter().enumerate() {
        let which = [shape.name().to_owned(), part.to_string()];
        let member = start.member("tour-shape", name, &which, 0, [Stdio::null(), Stdio::null()]);
        members.push(member.map_err(|e| Trouble::Failed(format!("cannot start a process: {e}")))?);
    }
    let found = wait(&mut members).and_then(|()| members.iter_mut().map(parsed).collect());
    drop(members); // before what they use goes
    found
}

/// Goes when this is dropped.
struct Temporary(Place, #[expect(dead_code, reason = "it is kept for its lock")] InUse);

impl Drop for Temporary {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// A process. It is killed when this is dropped, if it still runs.
struct Member {
    side: &'static str,
    child: Child,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill(); // does nothing to one that has been waited for
        let _ = self.child.wait();
    }
}

struct Start<'a> {
    mechanism: Mechanism,
    sample: &'a Sample,
    place: &'a Place,
}

impl Start<'_> {
    /// The receiving process first: of signals, the sending one has to know its number.
    fn all(&self) -> io::Result<Vec<Member>> {
        match self.mechanism {
            Mechanism::Mem => Ok(vec![self.one("tour-both", 0, [Stdio::null(), Stdio::null()])?]),
            Mechanism::Pipe => {
                let pipe = || Link::new("pipe:").and_then(|link| link.pair()).map_err(io::Error::other);
                let ((there_in, there_out), (back_in, back_out)) = (pipe()?, pipe()?);
                let stdio = |ends: [Result<Stdio, ginnel::Error>; 2]| -> io::Result<[Stdio; 2]> {
                    let [input, output] = ends;
                    Ok([input.map_err(io::Error::other)?, output.map_err(io::Error::other)?])
                };
                self.two(
                    stdio([there_out.into_stdio(), back_in.into_stdio()])?,
                    stdio([back_out.into_stdio(), there_in.into_stdio()])?,
                )
            }
            _ => self.two([Stdio::null(), Stdio::null()], [Stdio::null(), Stdio::null()]),
        }
    }

    fn two(&self, receiving: [Stdio; 2], sending: [Stdio; 2]) -> io::Result<Vec<Member>> {
        let receiver = self.one("tour-recv", 0, receiving)?;
        let sender = self.one("tour-send", receiver.child.id(), sending)?;
        Ok(vec![sender, receiver])
    }

    fn one(&self, command: &'static str, peer: u32, stdio: [Stdio; 2]) -> io::Result<Member> {
        let side = match command {
            "tour-recv" => "receiving",
            "tour-send" => "sending",
            _ => "only",
        };
        self.member(command, side, &[], peer, stdio)
    }

    /// Starts one; `which` of the command's parts it is, and what it is called when it fails.
    fn member(
        &self,
        command: &str,
        side: &'static str,
        which: &[String],
        peer: u32,
        [input, output]: [Stdio; 2],
    ) -> io::Result<Member> {
        let bytes = self.sample.bytes.min(self.mechanism.most());
        let numbers = [std::process::id().into(), self.place.id(), LIMIT.as_millis() as u64, peer.into(), bytes];
        let mut child = Command::new(std::env::current_exe()?);
        child.arg(command).args(which).arg(self.mechanism.name()).args(numbers.map(|number| number.to_string()));
        child.arg("--").arg(&self.sample.path).env(ginnel::DIRECTORY_VARIABLE, self.place.dir());
        Ok(Member { side, child: child.stdin(input).stdout(output).stderr(Stdio::piped()).spawn()? })
    }
}

/// Waits until all have ended, or one has failed.
fn wait(members: &mut [Member]) -> Result<(), Trouble> {
    let end = Instant::now() + LIMIT;
    loop {
        let statuses = statuses(members)?;
        if statuses.iter().flatten().any(|status| !status.success()) {
            wait_for_the_other(members)?;
            return Err(first_trouble(members)?);
        }
        if statuses.iter().all(Option::is_some) {
            return Ok(());
        }
        interrupt::check()?;
        if Instant::now() >= end {
            return Err(Trouble::Failed(format!("it was not done after {}s", LIMIT.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
}

/// The other one may be the reason, and about to end.
fn wait_for_the_other(members: &mut [Member]) -> Result<(), Trouble> {
    let end = Instant::now() + OTHER;
    while Instant::now() < end && statuses(members)?.iter().any(Option::is_none) {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn statuses(members: &mut [Member]) -> Result<Vec<Option<ExitStatus>>, Trouble> {
    let statuses: io::Result<Vec<_>> = members.iter_mut().map(|member| member.child.try_wait()).collect();
    statuses.map_err(|e| Trouble::Failed(format!("cannot wait for a process: {e}")))
}

/// What is wrong with the one that failed. If both did: with the one that was killed, or else knows more, which is the lower status.
fn first_trouble(members: &mut [Member]) -> Result<Trouble, Trouble> {
    let statuses = statuses(members)?;
    let failed = |(_, status): &(&mut Member, Option<ExitStatus>)| status.is_some_and(|status| !status.success());
    let worst = members.iter_mut().zip(statuses).filter(failed).min_by_key(|(_, status)| status.and_then(|s| s.code()));
    let Some((Member { side, child }, Some(status))) = worst else {
        return Err(Trouble::Failed("a process failed".into()));
    };
    let said = said(child);
    Ok(match status.code() {
        Some(code) if code == i32::from(NOT_HERE) => Trouble::NotHere(said),
        Some(_) => Trouble::Failed(format!("the {side} process: {said}")),
        None => Trouble::Failed(format!("the {side} process ended with {status}: {said}")),
    })
}

/// What they say that they found.
fn found(members: &mut [Member]) -> Result<Outcome, Trouble> {
    let (sent, received) = match members {
        [both] => parsed::<(Sent, Received)>(both)?,
        [sender, receiver, ..] => (parsed(sender)?, parsed(receiver)?),
        [] => return Err(Trouble::Failed("no process was started".into())),
    };
    Ok(Outcome::of(sent, &received))
}

fn parsed<T: DeserializeOwned>(member: &mut Member) -> Result<T, Trouble> {
    let text = said(&mut member.child);
    serde_json::from_str(&text).map_err(|_| Trouble::Failed(format!("the {} process said: {text}", member.side)))
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        // Ended, so this ends; and it says little.
        let _ = stderr.take(64 << 10).read_to_string(&mut text);
    }
    text.trim().to_owned()
}
