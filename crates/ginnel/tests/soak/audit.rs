//! What is left of a round's links: looked at from outside, in a process of its own, which has the round's directory.
//!
//! - *While receivers still have the link open, and it is drained:* no message, no block in use, nobody dead in the table of participants, and of an unbounded link
//!   no more memory than it may keep.
//! - *After all have gone, and `clean`:* no file.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ginnel::{Info, Link};

use super::schedule::{Scene, Shape};

/// How long what is dead may be in the table, or a block in use.
const SETTLE: Duration = Duration::from_secs(5);
/// What a drained unbounded link may keep: 16 MiB of blocks, extents of 1 MiB at both ends, records, and the first pages.
const KEPT: u64 = 24 << 20;

/// A thing that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leak {
    File(String),
    /// A participant's entry, a message, or bytes.
    Inside {
        bytes: u64,
        what: String,
    },
}

/// Looks at links that are drained and in use.
pub(crate) fn of_open(scene: &Scene, links: &Path) -> io::Result<Vec<Leak>> {
    ask(scene, links, "open")
}

/// Looks at what is left when all have gone.
pub(crate) fn of_closed(scene: &Scene, links: &Path) -> io::Result<Vec<Leak>> {
    if scene.sabotage == super::schedule::Sabotage::File {
        std::fs::write(links.join("left"), b"by nobody")?;
    }
    ask(scene, links, "closed")
}

fn ask(scene: &Scene, links: &Path, what: &str) -> io::Result<Vec<Leak>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["audit", scene.shape.name(), what]).env(ginnel::DIRECTORY_VARIABLE, links).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output()?;
    let mut leaks = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(' ') {
            Some(("file", name)) => leaks.push(Leak::File(name.to_owned())),
            Some((bytes, what)) => {
                leaks.push(Leak::Inside { bytes: bytes.parse().unwrap_or(0), what: what.to_owned() });
            }
            None => {}
        }
    }
    if !output.status.success() {
        leaks.push(Leak::File(format!("nobody knows what: the audit ended with {}", output.status)));
    }
    Ok(leaks)
}

/// The process that looks; it prints a line for each leak.
pub(crate) fn main(shape: Shape, what: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let lines = if what == "open" { look_at_open(shape) } else { look_at_closed(shape) };
    for line in lines {
        let _ = writeln!(out, "{}", line.replace('\n', " "));
    }
    ExitCode::SUCCESS
}

/// Looks until nothing is amiss, or it has been so for too long.
fn look_at_open(shape: Shape) -> Vec<String> {
    let until = Instant::now() + SETTLE;
    loop {
        let mut amiss = Vec::new();
        match ginnel::list() {
            Ok(links) => links.into_iter().flatten().for_each(|info| look_at(shape, &info, &mut amiss)),
            Err(e) => amiss.push(format!("file {e}")),
        }
        if amiss.is_empty() || Instant::now() > until {
            return amiss;
        }
        sleep(Duration::from_millis(20));
    }
}

fn look_at(shape: Shape, info: &Info, amiss: &mut Vec<String>) {
    let link = &info.address;
    if matches!(info.geometry.shape, ginnel::Shape::Response | ginnel::Shape::Stream) {
        return; // of a client that was killed: the next server or listener that notices removes it, or `clean`
    }
    for dead in info.participants.iter().filter(|participant| !participant.alive) {
        amiss.push(format!("0 {link}: the entry of process {} is still taken, and it is dead", dead.pid));
    }
    if matches!(shape, Shape::Latest | Shape::Stream) {
        return; // a value stays, and connections are judged one by one
    }
    if info.messages > 0 && !matches!(shape, Shape::Broadcast | Shape::Lossy) {
        amiss.push(format!("0 {link}: {} messages are still there, and nobody takes them", info.messages));
    }
    // A broadcast keeps what it has heard until the place is needed.
    if info.pool.used > 0 && !matches!(shape, Shape::Broadcast | Shape::Lossy) {
        amiss.push(format!(
            "{} {link}: {} bytes of blocks are in use, with no message there",
            info.pool.used, info.pool.used
        ));
    }
    if shape == Shape::Unbounded && info.allocated > KEPT {
        amiss.push(format!("{} {link}: the drained link keeps {} bytes", info.allocated - KEPT, info.allocated));
    }
}

fn look_at_closed(shape: Shape) -> Vec<String> {
    let mut left = Vec::new();
    match ginnel::clean(false) {
        Ok(cleaned) => cleaned.into_iter().filter_map(Result::err).for_each(|e| left.push(format!("file {e}"))),
        Err(e) => left.push(format!("file {e}")),
    }
    if shape == Shape::Latest {
        // The newest value waits for whoever comes.
        let removed = Link::new("shm:soak").and_then(|link| link.unlink(true));
        left.extend(removed.err().filter(|e| e.kind() != ginnel::ErrorKind::NotFound).map(|e| format!("file {e}")));
    }
    let names = std::fs::read_dir(ginnel::directory());
    for name in names.into_iter().flatten().flatten() {
        let said = name.file_name().to_string_lossy().into_owned();
        let is_empty_folder = std::fs::read_dir(name.path()).is_ok_and(|mut inside| inside.next().is_none());
        if !is_empty_folder {
            left.push(format!("file {said}"));
        }
    }
    left
}
