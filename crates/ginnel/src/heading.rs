//! Messages with a heading: what `call` and `mail` write before their user's bytes, and how they open the links that they are made of.
//!
//! A heading is little-endian, begins with its version, and is a peer's input to who reads it: lengths are checked, nothing in it is trusted.
//! Its bytes are in docs/format.md.

use crate::address::Address;
use crate::error::{Error, ErrorKind, SendError};
use crate::shm::{self, Spec};
use crate::wait::Until;
use ginnel_core::{Full, INLINE_MAX, Shape};
use ginnel_os::process;
use std::time::{Duration, Instant};

/// The version of every heading.
pub(crate) const VERSION: u8 = 1;

/// Sends a heading and what follows it as one message: copied once into the link if it is large, and in one piece of the stack if it fits a slot.
#[inline]
pub(crate) fn send(sender: &shm::Sender, heading: &[u8], body: &[u8], until: Until) -> Result<(), SendError> {
    let (from, len) = (heading.len(), heading.len() + body.len());
    if len > INLINE_MAX {
        return send_large(sender, heading, body, until);
    }
    let mut bytes = [0; INLINE_MAX];
    bytes[..from].copy_from_slice(heading);
    bytes[from..len].copy_from_slice(body);
    sender.send_until(0, &bytes[..len], until)
}

#[cold]
fn send_large(sender: &shm::Sender, heading: &[u8], body: &[u8], until: Until) -> Result<(), SendError> {
    let mut loan = sender.loan_until(heading.len() + body.len(), until)?;
    loan[..heading.len()].copy_from_slice(heading);
    loan[heading.len()..].copy_from_slice(body);
    loan.commit_until(until).map_err(|(_, error)| error)
}

/// Understands the address of a link that carries one shape, and whose messages begin with a heading of so many bytes.
pub(crate) fn spec(address: &str, shape: Shape, heading: usize) -> Result<Spec, Error> {
    let parsed: Address = address.parse()?;
    let Some(mut spec) = parsed.engine() else {
        return Err(Error::new(ErrorKind::Unsupported, "open", parsed.link())
            .problem(format!("shape={} is carried by shared memory only", shape.name()))
            .remedy("write `shm:NAME`, or `mem:NAME` between threads"));
    };
    let invalid = |problem: String, remedy: &str| {
        Err(Error::new(ErrorKind::InvalidOption, "open", spec.link()).problem(problem).remedy(remedy))
    };
    if let Some(other) = spec.wanted.shape.filter(|wanted| *wanted != shape) {
        let problem = format!("it says shape={}, and a {} is asked for", other.name(), shape.name());
        return invalid(problem, "leave that option out");
    }
    if spec.wanted.full == Some(Full::DropOldest) {
        let problem = format!("a {} may not be dropped to make room: somebody relies on it", shape.name());
        return invalid(problem, "write full=block or full=reject");
    }
    if let Some(max) = spec.wanted.max.filter(|max| *max < heading as u64) {
        let problem = format!("max={max} has no room for the {heading} bytes that each message begins with");
        return invalid(problem, "write a larger max=, or leave it out");
    }
    spec.wanted.shape = Some(shape);
    Ok(spec)
}

// ---- numbers in a heading

/// Four bytes of a heading whose length was checked.
pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Eight bytes of a heading whose length was checked.
pub(crate) fn get64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// A deadline as it travels: nanoseconds on the monotonic clock, which all processes of a machine share; 0 for none.
pub(crate) fn deadline_to_wire(until: Until) -> u64 {
    let Until::Instant(at) = until else { return 0 };
    let (now, now_ns) = (Instant::now(), process::monotonic_ns());
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    match at.checked_duration_since(now) {
        Some(left) => now_ns.saturating_add(ns(left)),
        None => now_ns.saturating_sub(ns(now.duration_since(at))),
    }
    .max(1)
}

/// The deadline that came. One beyond the clock of this process is none; one before it began is over.
pub(crate) fn deadline_from_wire(ns: u64) -> Option<Instant> {
    if ns == 0 {
        return None;
    }
    let (now, now_ns) = (Instant::now(), process::monotonic_ns());
    if ns >= now_ns {
        return now.checked_add(Duration::from_nanos(ns - now_ns));
    }
    Some(now.checked_sub(Duration::from_nanos(now_ns - ns)).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_travels() {
        let now = Instant::now();
        for (away, back) in [(Duration::from_secs(5), false), (Duration::from_millis(3), true)] {
            let at = if back { now.checked_sub(away).unwrap() } else { now + away };
            let came = deadline_from_wire(deadline_to_wire(Until::Instant(at))).unwrap();
            let off = came.max(at) - came.min(at);
            assert!(off < Duration::from_millis(1500), "{off:?}"); // as long as this thread may stand still between two clocks
        }
        assert_eq!(deadline_to_wire(Until::Forever), 0);
        assert_eq!(deadline_from_wire(0), None);
        assert!(deadline_from_wire(1).is_some_and(|at| at <= Instant::now()), "long over");
        let _ = deadline_from_wire(u64::MAX); // whatever it says, it is no panic
    }

    #[test]
    fn addresses_that_cannot_carry_a_shape_say_why() {
        let error = |address| spec(address, Shape::Request, 32).unwrap_err().to_string();
        assert!(error("mq:/calc").contains("shared memory only"));
        assert!(
            error("shm:calc?shape=queue").contains("shape=queue") && error("shm:calc?shape=queue").contains("request")
        );
        assert!(error("shm:calc?full=drop-oldest").contains("full=block"));
        assert!(error("shm:calc?max=16").contains("32 bytes"));
        assert_eq!(spec("shm:calc", Shape::Request, 32).unwrap().wanted.shape, Some(Shape::Request));
    }
}
