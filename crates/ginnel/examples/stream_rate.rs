//! A stream of bytes between two processes in writes of 64 KiB, through ginnel and through a Unix socket, in turns; checksummed where they arrive.
//! Arguments: MiB a turn (default 2048), turns (default 5), bytes of a write (default 65536).

use ginnel::stream::{Listener, Stream};
use std::io::{BufRead, Error, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a write holds: numbers without a pattern, the same at both ends.
fn payload(size: usize) -> Vec<u8> {
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    });
    words.take(size / 8).flat_map(u64::to_le_bytes).collect()
}

/// A sum that depends on the place of each 8 bytes, whatever pieces they come in.
#[derive(Default)]
struct Checksum {
    lanes: [u64; 8],
    bytes: u64,
    rest: Vec<u8>,
}

impl Checksum {
    fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if !self.rest.is_empty() {
            let more = bytes.len().min(64 - self.rest.len());
            self.rest.extend(&bytes[..more]);
            bytes = &bytes[more..];
            if self.rest.len() < 64 {
                return;
            }
            let whole = std::mem::take(&mut self.rest);
            self.add_lines(&whole);
        }
        let whole = bytes.len() / 64 * 64;
        self.add_lines(&bytes[..whole]);
        self.rest.extend(&bytes[whole..]);
    }

    fn add_lines(&mut self, bytes: &[u8]) {
        let mut lanes = self.lanes;
        for line in bytes.chunks_exact(64) {
            for (lane, word) in lanes.iter_mut().zip(line.chunks_exact(8)) {
                *lane = lane.rotate_left(1).wrapping_add(u64::from_le_bytes(word.try_into().unwrap_or_default()));
            }
        }
        self.lanes = lanes;
    }

    fn result(&self) -> String {
        format!("{:x?} {}", self.lanes, self.bytes)
    }
}

fn send(mut to: impl Write, mib: usize, size: usize) -> Result<()> {
    let mut bytes = payload(size);
    for number in 0..(mib << 20) / size {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        to.write_all(&bytes)?;
    }
    Ok(())
}

fn expected(mib: usize, size: usize) -> String {
    let mut sum = Checksum::default();
    let mut bytes = payload(size);
    for number in 0..(mib << 20) / size {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        sum.add(&bytes);
    }
    sum.result()
}

/// By copies into a buffer of the caller.
fn read(mut from: impl Read, size: usize) -> Result<Checksum> {
    let (mut sum, mut buffer) = (Checksum::default(), vec![0; size]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(sum),
            len => sum.add(&buffer[..len]),
        }
    }
}

/// In place.
fn look(mut from: impl BufRead) -> Result<Checksum> {
    let mut sum = Checksum::default();
    loop {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            return Ok(sum);
        }
        let len = bytes.len().min(1 << 16); // the writer goes on meanwhile
        sum.add(&bytes[..len]);
        from.consume(len);
    }
}

fn turn(how: &str, mib: usize, size: usize) -> Result<(f64, String)> {
    let name = format!("rate-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--send", how, &mib.to_string(), &size.to_string()]).stdin(Stdio::null());
    let start = |mut child: Command, address: &str| child.arg(address).spawn();
    let (mut child, begin, sum) = if how == "socket" {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let child = start(child, &path.display().to_string())?;
        let stream = listener.accept()?.0;
        let begin = Instant::now();
        (child, begin, read(stream, size)?)
    } else {
        let address = format!("shm:{name}");
        let listener = Listener::bind(&address)?;
        let child = start(child, &address)?;
        let stream = listener.accept()?;
        let begin = Instant::now();
        (child, begin, if how == "ginnel, read in place" { look(stream)? } else { read(stream, size)? })
    };
    let seconds = begin.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&path);
    if !child.wait()?.success() {
        return Err(Error::other("the sender failed"));
    }
    Ok((mib as f64 / 1024.0 / seconds, sum.result()))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    if let [flag, how, .., address] = &arguments[..] {
        if flag == "--send" {
            let (mib, size) = (number(2, 1), number(3, 1));
            return match how.as_str() {
                "socket" => send(UnixStream::connect(address)?, mib, size),
                _ => send(Stream::connect(address)?, mib, size),
            };
        }
    }
    let (mib, turns, size) = (number(0, 2048), number(1, 5), number(2, 65536));
    let due = expected(mib, size);
    let contenders = ["socket", "ginnel, read", "ginnel, read in place"];
    let mut rates = vec![Vec::new(); contenders.len()];
    for _ in 0..turns {
        for (how, rates) in contenders.iter().zip(&mut rates) {
            let (rate, sum) = turn(how, mib, size)?;
            if sum != due {
                return Err(Error::other(format!("{how}: {sum} arrived instead of {due}")));
            }
            rates.push(rate);
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
    println!("{mib} MiB in writes of {size} bytes, {turns} turns, GiB/s; every byte checked where it arrived");
    println!("{:24} {:>7} {:>7} {:>7} {:>9}", "", "least", "median", "most", "x socket");
    let base = rates[0][turns / 2];
    for (how, rates) in contenders.iter().zip(&rates) {
        let (least, median, most) = (rates[0], rates[turns / 2], rates[turns - 1]);
        println!("{how:24} {least:7.2} {median:7.2} {most:7.2} {:9.2}", median / base);
    }
    Ok(())
}
