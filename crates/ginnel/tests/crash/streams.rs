//! Streams of bytes whose victim is killed while it listens, connects, accepts, writes, reads, closes, or sleeps over that.
//!
//! Asked after each kill: what was written before arrived, and of what was being written a beginning; then the survivor is told, within a second, when it
//! reads and when it writes; when everybody has left, `clean` leaves nothing; and the name works for the next ones.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use ginnel::stream::{Listener, Stream};

use super::fork::Asked;
use super::judge::{SOON, fresh, left_in_directory, text};
use super::stepper::Outcome;
use super::sweep::Scenario;

const NAME: &str = "shm:crash";
/// A ring of a page, and sleeping at once: fewer steps.
const SMALL: &str = "shm:crash?capacity=4096&wait=block";
/// Bytes that are written before.
const BEFORE: usize = 3000;
/// Bytes that are written in the operation: over the end of the ring.
const DURING: usize = 1000;
/// A victim that sleeps longer than this is killed asleep.
const DOZE: Duration = Duration::from_millis(20);

pub(super) fn all() -> Vec<Scenario> {
    vec![
        listen(),
        connect(),
        accept(),
        write(),
        write_to_sleeper(),
        read(),
        read_to_sleeper(),
        close(false),
        close(true),
        close_listener(),
        read_asleep(),
        write_asleep(),
    ]
}

fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at * 7 / 5).to_le_bytes()[0]).collect()
}

// ---- the scenarios

fn listen() -> Scenario {
    Scenario::new("stream listen", fresh, |()| Ok(()), |()| Listener::bind(NAME).map_err(text), |(), _| works_again())
}

/// A survivor listens.
fn connect() -> Scenario {
    let check = |listener: Listener, outcome: &Outcome| {
        if let Some(mut stream) = listener.accept_timeout(DOZE).map_err(text)? {
            told(&mut stream, &[])?;
        } else if matches!(outcome, Outcome::Finished { .. }) {
            return Err("connected, and there was nothing to accept".into());
        }
        drop(listener);
        works_again()
    };
    Scenario::new("stream connect", listening, |_: &Listener| Ok(()), |()| Stream::connect(SMALL).map_err(text), check)
}

/// A survivor connects when the victim waits for it, and has written.
fn accept() -> Scenario {
    let wake = |client: &std::cell::RefCell<Option<Stream>>| {
        let mut stream = Stream::connect(SMALL).map_err(text)?;
        stream.write_all(&pattern(0, BEFORE)).map_err(text)?;
        client.replace(Some(stream));
        Ok(())
    };
    let setup = || {
        fresh()?;
        Ok(std::cell::RefCell::new(None))
    };
    let prepare = |_: &std::cell::RefCell<Option<Stream>>| Listener::bind(&format!("{NAME}?wait=block")).map_err(text);
    let operation = |listener: Listener| {
        let stream = listener.accept().map_err(text)?;
        Ok((listener, stream))
    };
    let check = |client: std::cell::RefCell<Option<Stream>>, _: &Outcome| {
        if let Some(mut stream) = client.take() {
            told(&mut stream, &[])?;
        }
        works_again()
    };
    Scenario::woken("stream accept", setup, prepare, operation, Some(wake), check).patience(DOZE)
}

/// A survivor listens. The victim has written, and writes more.
fn write() -> Scenario {
    let operation = |mut stream: Stream| {
        stream.write_all(&pattern(BEFORE, DURING)).map_err(text)?;
        Ok(stream)
    };
    Scenario::new("stream write", listening, |_: &Listener| written(), operation, accept_and_judge)
}

fn accept_and_judge(listener: Listener, outcome: &Outcome) -> Result<(), String> {
    let mut stream = listener.accept_timeout(SOON).map_err(text)?.ok_or("nothing to accept")?;
    let all = if matches!(outcome, Outcome::Finished { .. }) { DURING } else { 0 };
    told(&mut stream, &[BEFORE + all, BEFORE + DURING])?;
    drop((stream, listener));
    works_again()
}

/// A survivor sleeps, waiting for more. The victim writes: it is woken by that, or told of the death.
fn write_to_sleeper() -> Scenario {
    let reads = || {
        let (listener, mut all) = (Listener::bind(&format!("{NAME}?wait=block")).map_err(text)?, Vec::new());
        let mut stream = listener.accept().map_err(text)?;
        match stream.read_to_end(&mut all) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(all),
            other => Err(format!("{other:?} came of reading from one that died")),
        }
    };
    let operation = |mut stream: Stream| {
        stream.write_all(&pattern(BEFORE, DURING)).map_err(text)?;
        Ok(stream)
    };
    let check = |sleeper: Asked, outcome: &Outcome| {
        let all = sleeper.answer(SOON).map_err(|error| format!("the sleeping survivor: {error}"))?;
        let least = if matches!(outcome, Outcome::Finished { .. }) { BEFORE + DURING } else { BEFORE };
        if all != pattern(0, all.len()) || all.len() < least {
            return Err(format!("the sleeper read {} bytes, not as they were written", all.len()));
        }
        works_again()
    };
    let prepare = |_: &Asked| {
        let stream = written()?;
        std::thread::sleep(DOZE); // until it has read that, and sleeps
        Ok(stream)
    };
    Scenario::new("stream write, to a sleeper", move || asked(reads), prepare, operation, check)
}

/// A survivor has written what fits, and is told when it writes more. The victim reads.
fn read() -> Scenario {
    reading("stream read", BEFORE)
}

/// A survivor sleeps, waiting for room. The victim reads: it is woken by that, or told of the death.
fn read_to_sleeper() -> Scenario {
    reading("stream read, to a sleeper", 5000)
}

fn reading(name: &str, len: usize) -> Scenario {
    let writes = move || {
        let listener = Listener::bind(&format!("{NAME}?wait=block")).map_err(text)?;
        let mut stream = listener.accept().map_err(text)?;
        let bytes = pattern(0, len);
        loop {
            match stream.write_all(&bytes) {
                Ok(()) if len == BEFORE => std::thread::sleep(Duration::from_millis(2)),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Vec::new()),
                Err(error) => return Err(text(error)),
            }
        }
    };
    let prepare = |_: &Asked| {
        let mut stream = Stream::connect(SMALL).map_err(text)?;
        stream.read_exact(&mut [0; 1000]).map_err(text)?;
        std::thread::sleep(DOZE);
        Ok(stream)
    };
    let operation = |mut stream: Stream| {
        let mut bytes = [0; 1500];
        stream.read_exact(&mut bytes).map_err(text)?;
        if bytes[..] != pattern(1000, 1500) {
            return Err("the victim read something else than was written".into());
        }
        Ok(stream)
    };
    let check = |writer: Asked, _: &Outcome| {
        writer.answer(SOON).map_err(|error| format!("the survivor that writes: {error}"))?;
        works_again()
    };
    Scenario::new(name, move || asked(writes), prepare, operation, check)
}

/// The victim has written and closes; or closes the one way, before.
fn close(half: bool) -> Scenario {
    let operation = move |mut stream: Stream| {
        if half {
            stream.shutdown(Shutdown::Write).map_err(text)?;
            return Ok(Some(stream));
        }
        drop(stream);
        Ok(None)
    };
    let check = move |listener: Listener, outcome: &Outcome| {
        let mut stream = listener.accept_timeout(SOON).map_err(text)?.ok_or("nothing to accept")?;
        stream.set_read_timeout(Some(SOON)).map_err(text)?;
        let mut all = Vec::new();
        let read = stream.read_to_end(&mut all);
        let finished = matches!(outcome, Outcome::Finished { .. });
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !finished => {}
            Err(error) => return Err(format!("the end of a stream that was closed: {error}")),
        }
        if all != pattern(0, BEFORE) {
            return Err(format!("{} of {BEFORE} bytes arrived, or others", all.len()));
        }
        broken(&mut stream)?;
        drop((stream, listener));
        works_again()
    };
    let name = if half { "stream shutdown" } else { "stream close" };
    Scenario::new(name, listening, |_: &Listener| written(), operation, check)
}

/// The victim leaves a name under which a connection of its own waits.
fn close_listener() -> Scenario {
    let prepare = |(): &()| {
        let listener = Listener::bind(NAME).map_err(text)?;
        Ok((listener, written()?))
    };
    let operation = |(listener, stream)| {
        drop(listener);
        Ok(stream)
    };
    Scenario::new("stream close listener", fresh, prepare, operation, |(), _| works_again())
}

/// The victim waits for bytes, and is killed asleep at last.
fn read_asleep() -> Scenario {
    let operation = |mut stream: Stream| {
        stream.read_exact(&mut [0]).map_err(text)?;
        Ok(stream)
    };
    let check = |listener: Listener, _: &Outcome| {
        let mut stream = listener.accept_timeout(SOON).map_err(text)?.ok_or("nothing to accept")?;
        told(&mut stream, &[BEFORE])?;
        drop((stream, listener));
        works_again()
    };
    let scenario = Scenario::new("stream read, asleep", listening, |_: &Listener| written(), operation, check);
    scenario.sleeping().patience(DOZE)
}

/// The victim waits for room, and is killed asleep at last.
fn write_asleep() -> Scenario {
    let operation = |mut stream: Stream| {
        stream.write_all(&pattern(BEFORE, 5000)).map_err(text)?;
        Ok(stream)
    };
    let check = |listener: Listener, _: &Outcome| {
        let mut stream = listener.accept_timeout(SOON).map_err(text)?.ok_or("nothing to accept")?;
        told(&mut stream, &[BEFORE, 4096])?;
        drop((stream, listener));
        works_again()
    };
    let scenario = Scenario::new("stream write, asleep", listening, |_: &Listener| written(), operation, check);
    scenario.sleeping().patience(DOZE)
}

// ---- before

fn listening() -> Result<Listener, String> {
    fresh()?;
    Listener::bind(NAME).map_err(text)
}

/// A connection over which bytes were written.
fn written() -> Result<Stream, String> {
    let mut stream = Stream::connect(SMALL).map_err(text)?;
    stream.write_all(&pattern(0, BEFORE)).map_err(text)?;
    Ok(stream)
}

/// A survivor that listens, in a process of its own.
fn asked(deed: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Asked, String> {
    fresh()?;
    let asked = Asked::begin(deed)?;
    let limit = Instant::now() + SOON;
    while ginnel::Link::new(NAME).map_err(text)?.info().map_or(0, |info| info.participants.len()) == 0 {
        if Instant::now() > limit {
            return Err(format!("the survivor does not listen: {:?}", asked.answer(Duration::ZERO)));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(asked)
}

// ---- after

/// Reads to the end of one that was killed: as many bytes as one of these says (and those between), as they were written.
fn told(stream: &mut Stream, lengths: &[usize]) -> Result<(), String> {
    stream.set_read_timeout(Some(SOON)).map_err(text)?;
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => return Err(format!("{other:?} came of reading from one that was killed")),
    }
    let (least, most) = (lengths.first().copied().unwrap_or(0), lengths.last().copied().unwrap_or(0));
    if !(least..=most).contains(&all.len()) || all != pattern(0, all.len()) {
        return Err(format!("{} bytes arrived, {least} to {most} were due, as they were written", all.len()));
    }
    broken(stream)
}

/// Writing fails, soon.
fn broken(stream: &mut Stream) -> Result<(), String> {
    let limit = Instant::now() + SOON;
    loop {
        stream.set_write_timeout(Some(SOON)).map_err(text)?;
        match stream.write(b"x") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Ok(_) if Instant::now() < limit => std::thread::sleep(Duration::from_micros(200)),
            other => return Err(format!("{other:?} came of writing to one that has gone")),
        }
    }
}

/// Everybody has left: `clean` leaves nothing, and the next ones can use the name.
fn works_again() -> Result<(), String> {
    for cleaned in ginnel::clean(false).map_err(text)? {
        cleaned.map_err(text)?;
    }
    if !left_in_directory()?.is_empty() {
        return Err(format!("after clean, this is still there: {:?}", left_in_directory()?));
    }
    let begin = Instant::now();
    let listener = Listener::bind(NAME).map_err(|error| format!("a newcomer: {error}"))?;
    let mut client = Stream::connect(NAME).map_err(|error| format!("a newcomer: {error}"))?;
    let mut server = listener.accept().map_err(|error| format!("a newcomer: {error}"))?;
    client.write_all(b"next").and_then(|()| server.read_exact(&mut [0; 4])).map_err(text)?;
    drop((listener, client, server));
    if begin.elapsed() > SOON || !left_in_directory()?.is_empty() {
        return Err(format!("newcomers took {:?} and left {:?}", begin.elapsed(), left_in_directory()?));
    }
    Ok(())
}
