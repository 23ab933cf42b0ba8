//! Two processes for one mechanism: started, watched, and gone at the end, however it ends.

use super::sample::Sample;
use super::traffic::{self, Received, RoundTrip, Sent};
use super::wire::Mechanism;
use crate::exit::Failure;
use crate::interrupt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What one mechanism may take.
const LIMIT: Duration = Duration::from_secs(6);
/// How often the children are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What both processes found.
#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) transfer_ns: u64,
    pub(super) round_trip_ns: RoundTrip,
    #[serde(skip)]
    received: Received,
}

impl Outcome {
    /// What is wrong with it, if anything.
    pub(super) fn wrong(&self, sample: &Sample) -> Option<String> {
        let Received { crc32, bytes } = self.received;
        let wrong = (crc32, bytes) != (sample.crc32, sample.bytes);
        wrong.then(|| {
            format!(
                "{bytes} bytes arrived with checksum {crc32:08x}, {} were sent with {:08x}",
                sample.bytes, sample.crc32
            )
        })
    }
}

/// Moves the file through a mechanism.
pub(super) fn run(mechanism: Mechanism, sample: &Sample) -> Result<Outcome, Failure> {
    let pair =
        Pair::start(mechanism, sample).map_err(|e| Failure::failed(format!("cannot start two processes: {e}")))?;
    let outcome = pair.finish();
    if mechanism == Mechanism::Shm && outcome.is_err() {
        traffic::remove_links(std::process::id());
    }
    outcome
}

/// The processes; none of them outlives this.
struct Pair {
    sender: Member,
    receiver: Member,
    end: Instant,
}

/// One of them. It is killed when this is dropped, if it still runs.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill(); // does nothing to one that has been waited for
        let _ = self.0.wait();
    }
}

impl Pair {
    fn start(mechanism: Mechanism, sample: &Sample) -> io::Result<Self> {
        let end = Instant::now() + LIMIT;
        let command = |side: &str| command(side, mechanism, sample);
        let (sender, receiver) = match mechanism {
            Mechanism::Shm => {
                let sender = Member(command("tour-send")?.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
                (sender, Member(command("tour-recv")?.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
            }
            Mechanism::Pipe => {
                let mut sender = Member(command("tour-send")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
                let there = sender.0.stdout.take().map_or_else(Stdio::null, Stdio::from);
                let back = sender.0.stdin.take().map_or_else(Stdio::null, Stdio::from);
                (sender, Member(command("tour-recv")?.stdin(there).stdout(back).spawn()?))
            }
            Mechanism::Unix => {
                let (ours, theirs) = UnixStream::pair()?;
                let both = |end: UnixStream| -> io::Result<(Stdio, Stdio)> {
                    Ok((OwnedFd::from(end.try_clone()?).into(), OwnedFd::from(end).into()))
                };
                let ((input, output), (input2, output2)) = (both(ours)?, both(theirs)?);
                let sender = Member(command("tour-send")?.stdin(input).stdout(output).spawn()?);
                (sender, Member(command("tour-recv")?.stdin(input2).stdout(output2).spawn()?))
            }
        };
        Ok(Self { sender, receiver, end })
    }

    fn finish(mut self) -> Result<Outcome, Failure> {
        let sent = self.wait()?;
        let (Sent { transfer_ns, round_trip_ns }, received) =
            (found("sending", &mut self.sender.0, sent[0])?, found("receiving", &mut self.receiver.0, sent[1])?);
        Ok(Outcome { transfer_ns, round_trip_ns, received })
    }

    /// Waits until both have ended, or one has failed.
    fn wait(&mut self) -> Result<[ExitStatus; 2], Failure> {
        let failed = |e: io::Error| Failure::failed(format!("cannot wait for a process: {e}"));
        loop {
            let sender = self.sender.0.try_wait().map_err(failed)?;
            let receiver = self.receiver.0.try_wait().map_err(failed)?;
            if let (Some(sender), Some(receiver)) = (sender, receiver) {
                return Ok([sender, receiver]);
            }
            for (side, status, child) in
                [("sending", sender, &mut self.sender.0), ("receiving", receiver, &mut self.receiver.0)]
            {
                if let Some(status) = status.filter(|status| !status.success()) {
                    return Err(complaint(side, child, status));
                }
            }
            interrupt::check()?;
            if Instant::now() >= self.end {
                return Err(Failure::failed(format!("it was not done after {}s", LIMIT.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn command(side: &str, mechanism: Mechanism, sample: &Sample) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let name = <Mechanism as clap::ValueEnum>::to_possible_value(&mechanism).map(|value| value.get_name().to_owned());
    command.arg(side).arg(name.unwrap_or_default()).stderr(Stdio::piped());
    command.args(
        [u64::from(std::process::id()), LIMIT.as_millis() as u64, sample.bytes].map(|n| OsString::from(n.to_string())),
    );
    command.arg("--").arg(&sample.path);
    Ok(command)
}

/// What a process that has ended says that it found.
fn found<T: DeserializeOwned>(side: &str, child: &mut Child, status: ExitStatus) -> Result<T, Failure> {
    if !status.success() {
        return Err(complaint(side, child, status));
    }
    let text = said(child);
    serde_json::from_str(&text).map_err(|_| Failure::failed(format!("the {side} process said: {text}")))
}

fn complaint(side: &str, child: &mut Child, status: ExitStatus) -> Failure {
    Failure::failed(format!("the {side} process ended with {status}: {}", said(child)))
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        // Ended, so this ends; and it says little.
        let _ = stderr.take(64 << 10).read_to_string(&mut text);
    }
    text.trim().to_owned()
}
