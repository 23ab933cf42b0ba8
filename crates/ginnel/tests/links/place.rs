//! Where the links of this test process live, what its messages hold, how long a test may wait, and how much it does.
#![allow(unsafe_code)] // Sets an environment variable, and registers the clean-up with atexit(3).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Longest that a test may take that has no reason to take longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

static HOME: OnceLock<PathBuf> = OnceLock::new();

/// The directory of the links that this process opens itself. Every such test asks for it before it opens anything.
pub(crate) fn home() -> &'static Path {
    HOME.get_or_init(|| {
        let path = new_directory().keep();
        // SAFETY: this program reads its environment only through std, which locks it.
        unsafe { std::env::set_var(ginnel::DIRECTORY_VARIABLE, &path) };
        // SAFETY: registers a function without arguments.
        unsafe { libc::atexit(remove_home) };
        path
    })
}

extern "C" fn remove_home() {
    if let Some(path) = HOME.get() {
        let _ = std::fs::remove_dir_all(path);
    }
}

/// A directory of its own for the processes of one test, removed when dropped.
pub(crate) fn new_directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ginnel-test-").tempdir_in("/dev/shm").expect("a directory on tmpfs")
}

/// An address in [`home`] that nobody else uses, with options such as `capacity=4&max=64KiB`.
pub(crate) fn address(name: &str, options: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    home();
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let query = if options.is_empty() { "" } else { "?" };
    format!("shm:{name}-{number}{query}{options}")
}

/// The file of an address in [`home`].
pub(crate) fn file_of(address: &str) -> PathBuf {
    home().join(name_of(address))
}

/// The name in an address.
pub(crate) fn name_of(address: &str) -> &str {
    let name = address.strip_prefix("shm:").expect("an address of a link");
    name.split('?').next().unwrap_or(name)
}

/// How much of everything: `GINNEL_TEST_SCALE`, 1 if it is not set.
pub(crate) fn scale() -> u64 {
    std::env::var("GINNEL_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// While it is there, time runs: when the limit is over, the whole program ends with a word. What should not hang would
/// otherwise hang for ever.
#[must_use = "a limit ends where it is dropped"]
pub(crate) struct Limit {
    _done: mpsc::Sender<()>,
}

/// Begins a limit.
pub(crate) fn limit(limit: Duration) -> Limit {
    let (done, waiting) = mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not eprintln: its output is captured, and lost with the program.
            let _ = writeln!(std::io::stderr(), "\n{test}: not done after {limit:?}, giving up");
            remove_home();
            std::process::abort();
        }
    });
    Limit { _done: done }
}

/// Runs a closure in this thread under a limit.
pub(crate) fn within<R>(time: Duration, run: impl FnOnce() -> R) -> R {
    let _limit = limit(time);
    run()
}

/// A word about a check that cannot be done here.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
}

/// A message of `len` bytes that tells its number, if it has 8 bytes or more, and every byte of which depends on it.
pub(crate) fn stamped(number: u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| fill(number, at)).collect();
    let head = len.min(8);
    bytes[..head].copy_from_slice(&number.to_le_bytes()[..head]);
    bytes
}

fn fill(number: u64, at: usize) -> u8 {
    (number.wrapping_mul(31).wrapping_add(at as u64).wrapping_add(at as u64 >> 8)) as u8
}

/// The number of a message of 8 bytes or more; panics if any byte of it is wrong.
pub(crate) fn number_in(message: &[u8]) -> u64 {
    let head = message.get(..8).expect("a message with a number");
    let number = u64::from_le_bytes(head.try_into().expect("eight bytes"));
    let wrong = message.iter().enumerate().skip(8).find(|(at, byte)| **byte != fill(number, *at));
    assert_eq!(wrong, None, "message {number} of {} bytes is torn", message.len());
    number
}

/// How often this thread has gone to sleep.
pub(crate) fn switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("proc(5)");
    let counts = status.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    counts.map(|count| count.trim().parse::<u64>().expect("a count")).sum()
}
