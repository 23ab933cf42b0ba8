//! What came of a shape: whether what its processes found agrees, and what happened, in words.

use super::conversation::Found;
use super::pair::Trouble;
use super::report::State;
use super::sample::Sample;
use super::shape::Shape;
use crate::units;
use serde::Serialize;

/// One shape, as it went.
#[derive(Serialize)]
pub(super) struct Story {
    shape: Shape,
    is: &'static str,
    ok: bool,
    pub(super) state: State,
    error: Option<String>,
    happened: Option<String>,
    /// One for each process, in the order of their parts.
    processes: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    part: &'static str,
    #[serde(flatten)]
    found: Found,
}

impl Story {
    pub(super) fn new(shape: Shape, found: Result<Vec<Found>, Trouble>, sample: &Sample) -> Self {
        let (state, error, happened, found) = match found {
            Ok(found) => match told(&found, sample) {
                Ok(happened) => (State::Ok, None, Some(happened), found),
                Err(wrong) => (State::Failed, Some(wrong), None, found),
            },
            Err(Trouble::Failed(error)) => (State::Failed, Some(error), None, Vec::new()),
            Err(Trouble::NotHere(error)) => (State::NotHere, Some(error), None, Vec::new()),
        };
        let processes = shape.parts().iter().zip(found).map(|(part, found)| Part { part, found }).collect();
        Self { shape, is: shape.is(), ok: state == State::Ok, state, error, happened, processes }
    }

    pub(super) fn name(&self) -> &'static str {
        self.shape.name()
    }

    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    /// Its two lines: what it is, and what happened.
    pub(super) fn lines(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Failed => "FAILED",
            State::NotHere => "not here",
        };
        let happened = self.happened.as_deref().unwrap_or(self.error());
        format!("{:<9}  {state:<8}  {}\n{:21}{happened}\n", self.name(), self.is, "")
    }
}

/// What happened, or what does not agree.
fn told(found: &[Found], sample: &Sample) -> Result<String, String> {
    match found {
        [sent @ Found::Sent { .. }, drained @ Found::Drained { .. }] => hoarded(sent, drained, sample),
        [Found::Sent { messages, took_ns, .. }, Found::Looked { looks, values }] => {
            let (time, seen) = (units::time(*took_ns), format!("{looks} looks saw {values} of them"));
            Ok(format!("{messages} values of 4KiB in {time}; {seen}, each whole, none older than the last"))
        }
        [Found::Sent { messages, bytes, took_ns }, heard @ ..] => {
            heard.iter().try_for_each(|one| heard_all([*messages, *bytes], one, sample))?;
            let (many, size, rate) = (heard.len(), units::size(*bytes), rate(*bytes, *took_ns));
            Ok(format!("each of {many} processes got the same {messages} messages, {size}, at {rate}"))
        }
        [asked @ Found::Asked { .. }, servers @ ..] => answered(asked, servers),
        [Found::Read { letters, first, set_aside }, Found::Wrote { .. }, Found::Wrote { .. }] => {
            let other = if first == "bob" { "carol" } else { "bob" };
            let waited = format!("while {set_aside} waited in their order");
            Ok(format!("{letters} to alice; {first} wrote first, she read {other}'s first, {waited}"))
        }
        [Found::Streamed { bytes, crc32, took_ns }, Found::Received { .. }] => {
            agree(sample, [0, *bytes], [0, *bytes], *crc32)?;
            let (size, rate) = (units::size(*bytes), rate(*bytes, *took_ns));
            Ok(format!("{size} went at {rate}, were read where they lay, and their checksum came back"))
        }
        _ => Err(other_things()),
    }
}

fn other_things() -> String {
    "the processes found other things than their parts have".into()
}

fn hoarded(sent: &Found, drained: &Found, sample: &Sample) -> Result<String, String> {
    let Found::Sent { messages, bytes, .. } = sent else { return Err(other_things()) };
    let Found::Drained { messages: taken, bytes: got, crc32, waiting, before, peak, after } = drained else {
        return Err(other_things());
    };
    agree(sample, [*messages, *bytes], [*taken, *got], *crc32)?;
    if waiting != messages {
        return Err(format!("{waiting} messages were there before the first was received, of {messages}"));
    }
    let [before, peak, after] = [before, peak, after].map(|bytes| units::size(*bytes));
    let all = format!("{messages} messages, {}", units::size(*bytes));
    Ok(format!("{all}, were sent before one was received; memory {before}, {peak}, {after}"))
}

fn heard_all(sent: [u64; 2], heard: &Found, sample: &Sample) -> Result<(), String> {
    let Found::Received { messages, bytes, crc32, dropped } = heard else { return Err(other_things()) };
    agree(sample, sent, [*messages, *bytes], *crc32)?;
    if *dropped > 0 { Err(format!("a receiver missed {dropped} messages")) } else { Ok(()) }
}

fn answered(asked: &Found, servers: &[Found]) -> Result<String, String> {
    let Found::Asked { questions, p50_ns, p99_ns, answered_by } = asked else { return Err(other_things()) };
    let by = |one: &Found| if let Found::Answered { questions } = one { *questions } else { 0 };
    let answered: u64 = servers.iter().map(by).sum();
    if answered != *questions {
        return Err(format!("{questions} questions were asked, and {answered} answered"));
    }
    let [p50, p99] = [p50_ns, p99_ns].map(|ns| units::time(*ns));
    let shares: Vec<String> = answered_by.iter().map(u64::to_string).collect();
    let shares = format!("by {} servers: {}", servers.len(), shares.join(" and "));
    Ok(format!("{questions} right answers, half of them within {p50}, 99% within {p99}; {shares}"))
}

/// Whether what was received is what was sent, and is the beginning of the file.
fn agree(sample: &Sample, sent: [u64; 2], received: [u64; 2], crc32: u32) -> Result<(), String> {
    if sent == received && sample.crc32_of(sent[1]) == Some(crc32) {
        return Ok(());
    }
    let ([messages, bytes], [taken, got]) = (sent, received);
    let due = sample.crc32_of(bytes).unwrap_or_default();
    let arrived = format!("{taken} messages of {got} bytes arrived with checksum {crc32:08x}");
    Err(format!("{arrived}, {messages} of {bytes} were sent with {due:08x}"))
}

fn rate(bytes: u64, time_ns: u64) -> String {
    match bytes as f64 / time_ns.max(1) as f64 {
        rate if rate < 0.1 => format!("{:.1}MB/s", rate * 1e3),
        rate => format!("{rate:.2}GB/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn sample(bytes: &[u8]) -> Sample {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Sample::of_file(file.path()).unwrap()
    }

    fn received(bytes: &[u8], dropped: u64) -> Found {
        Found::Received { messages: 1, bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes), dropped }
    }

    #[test]
    fn one_receiver_that_got_other_bytes_or_missed_some_is_a_failure() {
        let sample = sample(b"two coffees");
        let told = |second: Found| {
            let sent = Found::Sent { messages: 1, bytes: 11, took_ns: 1 };
            told(&[sent, received(b"two coffees", 0), second], &sample)
        };
        assert!(told(received(b"two coffees", 0)).unwrap().starts_with("each of 2 processes got the same 1 messages"));
        assert!(told(received(b"two toffees", 0)).unwrap_err().contains("checksum"));
        assert!(told(received(b"two", 0)).unwrap_err().contains("1 messages of 3 bytes arrived"));
        assert!(told(received(b"two coffees", 2)).unwrap_err().contains("missed 2"));
    }

    #[test]
    fn what_was_read_before_all_was_there_is_no_unbounded_queue() {
        let sample = sample(b"two coffees");
        let told = |waiting| {
            let (bytes, crc32) = (11, crc32fast::hash(b"two coffees"));
            let drained = Found::Drained { messages: 1, bytes, crc32, waiting, before: 0, peak: 4096, after: 0 };
            told(&[Found::Sent { messages: 1, bytes, took_ns: 1 }, drained], &sample)
        };
        assert!(told(1).unwrap().contains("memory 0B, 4KiB, 0B"), "{:?}", told(1));
        assert!(told(0).unwrap_err().contains("0 messages were there"));
    }

    #[test]
    fn a_question_without_an_answer_is_a_failure() {
        let sample = sample(b"");
        let asked = || Found::Asked { questions: 3, p50_ns: 1, p99_ns: 1, answered_by: vec![2, 1] };
        let answered = |questions| Found::Answered { questions };
        assert!(told(&[asked(), answered(2), answered(1)], &sample).unwrap().contains("by 2 servers: 2 and 1"));
        assert!(told(&[asked(), answered(1), answered(1)], &sample).unwrap_err().contains("2 answered"));
        assert!(told(&[answered(1)], &sample).is_err());
    }

    #[test]
    fn what_it_is_fits_a_line() {
        let sample = sample(b"");
        for shape in Shape::ALL {
            let lines = Story::new(shape, Err(Trouble::NotHere("why".into())), &sample).lines();
            assert!(lines.lines().all(|line| line.chars().count() < 110), "{lines}");
        }
    }
}
