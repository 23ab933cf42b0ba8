//! The file that is moved: pseudo-random bytes in a file without a name, or the user's own.
//!
//! A file without a name is gone with the last process that has it open, however that ends. The sending process finds it
//! through `/proc/PID/fd`.

use crate::exit::Failure;
use crate::interrupt;
use crc32fast::Hasher;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Length of a file that is made.
pub(super) const BYTES: u64 = 256 << 20;
/// No more than this of a file is moved.
const MOST: u64 = 1 << 30;
/// A move that has to end early ends after a whole block.
pub(super) const BLOCK: usize = 1 << 20;
/// How long reading it may take.
const LIMIT: Duration = Duration::from_secs(8);
/// How long one is made larger.
const MAKING: Duration = Duration::from_secs(2);

/// A file and its checksum.
pub(super) struct Sample {
    /// Where a child finds it.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
    /// The checksum up to the end of each whole block.
    marks: Vec<u32>,
    _file: File,
}

impl Sample {
    /// Makes one.
    pub(super) fn make() -> Result<Self, Failure> {
        let dir = std::env::temp_dir();
        let failed =
            |e| Failure::file("write a file to", format!("{}; name one: `ginnel tour FILE`", dir.display()), &e);
        let mut file = tempfile::tempfile_in(&dir).map_err(failed)?;
        let (mut block, mut hasher, mut random) = (vec![0; BLOCK], Hasher::new(), Random(1));
        let (end, mut marks) = (Instant::now() + MAKING, Vec::new());
        while (marks.len() * BLOCK) < BYTES as usize && (marks.is_empty() || Instant::now() < end) {
            interrupt::check()?;
            random.fill(&mut block);
            hasher.update(&block);
            marks.push(hasher.clone().finalize());
            file.write_all(&block).map_err(failed)?;
        }
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let bytes = (marks.len() * BLOCK) as u64;
        Ok(Self { path: path.into(), bytes, crc32: hasher.finalize(), marks, _file: file })
    }

    /// The checksum of what stands before this offset, if a move can end there.
    pub(super) fn crc32_of(&self, bytes: u64) -> Option<u32> {
        let block = BLOCK as u64;
        match bytes {
            _ if bytes == self.bytes => Some(self.crc32),
            0 => Some(0),
            _ if bytes % block == 0 => self.marks.get(usize::try_from(bytes / block - 1).ok()?).copied(),
            _ => None,
        }
    }

    /// Takes the user's, which is read once: for the checksum, and so that all mechanisms find it in memory.
    pub(super) fn of_file(path: &Path) -> Result<Self, Failure> {
        let failed = |e| Failure::file("read", path.display(), &e);
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Failure::failed(format!("cannot move {}: it is not a regular file", path.display())));
        }
        let (mut block, mut hasher, mut bytes, mut marks) = (Vec::new(), Hasher::new(), 0, Vec::new());
        let end = Instant::now() + LIMIT;
        while bytes < MOST {
            in_time(end, "reading the file")?;
            block.clear();
            let read = (&file).take(BLOCK as u64).read_to_end(&mut block).map_err(failed)?;
            hasher.update(&block);
            bytes += read as u64;
            if read < BLOCK {
                break;
            }
            marks.push(hasher.clone().finalize());
        }
        let path = std::path::absolute(path).map_err(failed)?;
        Ok(Self { path, bytes, crc32: hasher.finalize(), marks, _file: file })
    }
}

fn in_time(end: Instant, what: &str) -> Result<(), Failure> {
    interrupt::check()?;
    if Instant::now() < end {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{what} takes more than {}s here; name a smaller one: `ginnel tour FILE`",
        LIMIT.as_secs()
    )))
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn fill(&mut self, block: &mut [u8]) {
        for eight in block.chunks_exact_mut(8) {
            eight.copy_from_slice(&self.next().to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = Random(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn a_move_may_end_after_any_block() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..BLOCK * 2 + 5).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let sample = Sample::of_file(file.path()).unwrap();
        for len in [0, BLOCK, BLOCK * 2, BLOCK * 2 + 5] {
            assert_eq!(sample.crc32_of(len as u64), Some(crc32fast::hash(&bytes[..len])), "{len}");
        }
        assert_eq!((sample.crc32_of(1), sample.crc32_of(BLOCK as u64 * 3)), (None, None));
    }
}
